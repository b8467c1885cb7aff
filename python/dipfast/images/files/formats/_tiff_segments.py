"""Checks of the strips and tiles of a TIFF before they are decoded."""

from __future__ import annotations

import math
import re
import struct
from typing import Any, BinaryIO

from dipfast.errors import UnreadableFileError
from dipfast.images.files import limits
from dipfast.images.files.formats._jpeg_data import check_scans, frame_shape

__all__ = ["JPEG_COMPRESSIONS", "check_pixels"]

JPEG_COMPRESSIONS = (6, 7, 33007, 34892)
"""Numbers of the compressions of TIFF that are JPEG."""

# Compressions that decode to no more than they are asked for.
_BOUNDED = (1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 34926, 50000)
# Compressions with a header of their own, as JPEG, that may declare another size than the TIFF.
_JPEG2000 = (33003, 33004, 33005, 34712)


def check_pixels(series: Any, sizes: dict[str, int], stream: BinaryIO) -> None:
    """Check that the pixels of a TIFF are of a size to be decoded, and that all of them are there.

    Parameters
    ----------
    series
        The image, as tifffile has it.
    sizes
        Lengths of its axes, by their letters.
    stream
        The file, at any position.

    Raises
    ------
    UnreadableFileError
        If they are too large, or not there.
    """
    page = series.keyframe
    if page.dtype is None:
        raise UnreadableFileError(f"pixels of {page.bitspersample} bits are not supported")
    if page.jpegheader is not None:
        raise UnreadableFileError("slides of this kind are not supported")
    channels = math.prod(size for axis, size in sizes.items() if axis not in "YX")
    itemsize = max(series.dtype.itemsize, page.dtype.itemsize)
    limits.check_size(sizes["X"], sizes["Y"], channels, itemsize)
    if series.dataoffset is not None:
        return  # all pixels are in one piece, and tifffile checks that it is there
    if len(series) * math.prod(page.shape) != math.prod(sizes.values()):
        raise UnreadableFileError(f"{len(series)} pages {page.shape} do not make an image {sizes}")
    for part in series:
        if part is None:
            raise UnreadableFileError("some of its pages are missing")
        if not page.is_contiguous:
            _check_segments(part, stream, itemsize)


def _check_segments(page: Any, stream: BinaryIO, itemsize: int) -> None:
    """Check that all strips or tiles are there, and none is larger than the page declares."""
    expected, there = math.prod(page.chunked), min(len(page.dataoffsets), len(page.databytecounts))
    if there < expected:
        raise UnreadableFileError(f"it declares {expected} strips or tiles, but has {there}")
    pixels = math.prod(page.chunks)
    if pixels * itemsize > limits.LARGEST_IMAGE:
        raise UnreadableFileError(f"it declares strips or tiles {page.chunks}, too large")
    counts = page.databytecounts[:expected]
    if min(counts) < 0 or sum(counts) > limits.LARGEST_IMAGE:
        raise UnreadableFileError(f"its strips or tiles have {sum(counts)} bytes together")
    if page.compression in _BOUNDED:
        return
    if page.compression not in (*JPEG_COMPRESSIONS, *_JPEG2000):
        name = getattr(page.compression, "name", page.compression)
        raise UnreadableFileError(f"the compression {name} is not supported")
    for offset, count in zip(page.dataoffsets, counts):
        stream.seek(offset)
        data = stream.read(count)
        if page.compression in JPEG_COMPRESSIONS:
            check_scans(data)
            inside = frame_shape(data)
        else:
            inside = _jpeg2000_shape(data)
        if math.prod(inside) > 2 * pixels:  # the last strip or tile may be padded
            raise UnreadableFileError(
                f"it declares strips or tiles {page.chunks}, but one is {inside} inside"
            )


def _jpeg2000_shape(data: bytes) -> tuple[int, ...]:
    """Return width, height and components of the largest code stream of a JPEG 2000."""
    shapes = [
        struct.unpack(">IIH", b"".join(found.groups()))
        for found in re.finditer(rb"\xff\x4f\xff\x51.{4}(.{8}).{24}(..)", data, re.DOTALL)
    ]
    return max(shapes, key=math.prod, default=(0,))
