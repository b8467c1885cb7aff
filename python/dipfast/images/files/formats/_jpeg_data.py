"""Checks of JPEG data before they are decoded, in a JPEG file or within a TIFF."""

from __future__ import annotations

import struct

from dipfast.errors import UnreadableFileError

__all__ = ["check_scans", "frame_shape"]

# A progressive JPEG of a few bytes can ask for any number of passes over all pixels; encoders
# make ten.
_MOST_SCANS = 100
# The marker of the header of a frame in JPEG-LS, where JPEG has one of sixteen others.
_JPEG_LS = 0xF7


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
    scans = jpeg.count(b"\xff\xda")
    if scans > _MOST_SCANS:
        raise UnreadableFileError(f"it is a JPEG of {scans} scans, expected {_MOST_SCANS} at most")


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
