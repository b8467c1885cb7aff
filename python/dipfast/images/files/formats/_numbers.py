"""Helpers of formats that hold plain numbers, one after the other."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np

from dipfast.errors import UnreadableFileError
from dipfast.images.files.image_file import ImageFile

__all__ = ["not_kept", "read_numbers"]

_PART = 1 << 24  # bytes that are read at a time


def read_numbers(stream: BinaryIO, dtype: np.dtype[Any], count: int) -> np.ndarray[Any, Any]:
    """Read numbers in any order of bytes.

    Parameters
    ----------
    stream
        Where to read from.
    dtype
        The type that the numbers have in the file.
    count
        How many there are; that they fit into memory has been checked.

    Returns
    -------
    ndarray
        The numbers (count,), in the native order of bytes.

    Raises
    ------
    UnreadableFileError
        If the stream ends before.
    """
    numbers = np.empty(count, dtype)
    bytes_ = numbers.view(np.uint8)
    for start in range(0, bytes_.size, _PART):
        data = stream.read(min(_PART, bytes_.size - start))
        if len(data) < min(_PART, bytes_.size - start):
            raise UnreadableFileError("the end is missing")
        bytes_[start : start + len(data)] = np.frombuffer(data, np.uint8)
    if not dtype.isnative:
        numbers = numbers.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return numbers


def not_kept(like: ImageFile) -> list[str]:
    """Return what is lost of an image in a format that holds nothing that photographs have.

    Parameters
    ----------
    like
        The image.

    Returns
    -------
    list of str
        The names.
    """
    names = {"resolution": "resolution", "exif": "EXIF", "icc_profile": "colour profile"}
    return [name for key, name in names.items() if key in like.metadata]
