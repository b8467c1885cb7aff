"""Limits that hold for image files of every format.

A file of a few bytes can declare any number of pixels, so what it declares is checked before
anything of it is decoded.  Limits that belong to one format are beside that format.
"""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

import psutil

from dipfast.errors import UnreadableFileError

__all__ = ["LARGEST_IMAGE", "check_file_size", "check_size", "readable_size", "unpack"]

LARGEST_IMAGE = 2**31
"""Bytes of decoded pixels that :func:`read_image` reads at most: 20000x20000 pixels of 8-bit
colour, 16-bit grey or float32 grey fit.  Small files can decode to any size."""

# Copies of the pixels that exist at the same time at most; so many are there with Pillow.
_COPIES = 5


def check_size(width: int, height: int, channels: int, itemsize: int) -> None:
    """Check that an image of this size stays within the limit and within memory.

    Parameters
    ----------
    width, height, channels
        The size that the file declares.
    itemsize
        Bytes of one number.

    Raises
    ------
    UnreadableFileError
        If the image is empty or too large.
    """
    declared = f"it declares {width} x {height} pixels"
    if width < 1 or height < 1:
        raise UnreadableFileError(f"{declared}, expected 1 x 1 at least")
    size = width * height * channels * itemsize
    declared += f" of {channels * itemsize} bytes, {readable_size(size)}"
    if size > LARGEST_IMAGE:
        raise UnreadableFileError(f"{declared}, expected {readable_size(LARGEST_IMAGE)} at most")
    held = psutil.virtual_memory().available // _COPIES
    if size > held:
        raise UnreadableFileError(
            f"{declared}, expected the {readable_size(held)} at most that memory holds"
        )


def check_file_size(size: int) -> None:
    """Check that a file of so many bytes is not larger than any image that may be read.

    Parameters
    ----------
    size
        Bytes of the file.

    Raises
    ------
    UnreadableFileError
        If the file is too large.
    """
    largest = 2 * LARGEST_IMAGE
    if size > largest:
        has, expected = readable_size(size), readable_size(largest)
        raise UnreadableFileError(f"it has {has}, expected {expected} at most")


def readable_size(size: int) -> str:
    """Return a number of bytes as text in GiB.

    Parameters
    ----------
    size
        Number of bytes.

    Returns
    -------
    str
        Three digits and the unit.

    Examples
    --------
    >>> readable_size(2**31)
    '2 GiB'
    """
    return f"{size / 2**30:.3g} GiB"


def unpack(stream: BinaryIO, form: str) -> tuple[Any, ...]:
    """Read numbers in a format of module struct from a stream.

    Parameters
    ----------
    stream
        Where to read from.
    form
        The format, with its order of bytes.

    Returns
    -------
    tuple
        The numbers.

    Raises
    ------
    UnreadableFileError
        If the stream ends before.
    """
    data = stream.read(struct.calcsize(form))
    if len(data) < struct.calcsize(form):
        raise UnreadableFileError("the end is missing")
    return struct.unpack(form, data)
