"""Checks of JPEG data before they are decoded, in a JPEG file or within a TIFF."""

from __future__ import annotations

import re
import struct

from dipfast.errors import UnreadableFileError

__all__ = ["check_scans", "frame_shape"]

# A progressive JPEG of a few bytes can ask for any number of passes over all pixels; encoders
# make ten.
_MOST_SCANS = 100
# The marker of the header of a frame in JPEG-LS, where JPEG has one of sixteen others.
_JPEG_LS = 0xF7
# Markers that say how many bytes follow, and the end of the picture.  In the data of a scan
# decoders pass over the others: padding, bytes of data, restarts and what damage makes of them.
_SEGMENT_OR_END = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
_END, _SCAN = 0xD9, 0xDA


def check_scans(jpeg: bytes) -> None:
    """Check that a JPEG asks for no more passes over its pixels than encoders make.

    Parameters
    ----------
    jpeg
        The data.

    Raises
    ------
    UnreadableFileError
        If it asks for more.
    """
    scans = _count_scans(jpeg)
    if scans > _MOST_SCANS:
        raise UnreadableFileError(f"it is a JPEG of {scans} scans, expected {_MOST_SCANS} at most")


def _count_scans(jpeg: bytes) -> int:
    """Count the scans as a decoder meets them.

    What segments hold, such as the JPEG of a preview, does not count, nor does what is behind the
    picture, such as a film.
    """
    scans = 0
    found = _SEGMENT_OR_END.search(jpeg)
    while found is not None and jpeg[found.end() - 1] != _END:
        scans += jpeg[found.end() - 1] == _SCAN
        length = int.from_bytes(jpeg[found.end() : found.end() + 2], "big")
        # A length counts its own two bytes, which are passed over whatever it says.
        found = _SEGMENT_OR_END.search(jpeg, found.end() + max(length, 2))
    return scans


def frame_shape(jpeg: bytes) -> tuple[int, ...]:
    """Return the shape that the header of the frame of a JPEG declares.

    Parameters
    ----------
    jpeg
        The data.

    Returns
    -------
    tuple of int
        Height, width and components; (0,) if there is no such header.
    """
    at = 2
    while at + 10 <= len(jpeg):
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if marker == 0xFF:  # padding
            at += 1
        elif marker == _JPEG_LS or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return struct.unpack(">HHB", jpeg[at + 5 : at + 10])
        else:
            at += 2 + length
    return (0,)
