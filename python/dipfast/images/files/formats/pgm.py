"""PGM of Netpbm: grey, 8 and 16 bits."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np

from dipfast.images.files.formats._netpbm import read_pixels, write_pixels
from dipfast.images.files.formats._numbers import not_kept
from dipfast.images.files.image_file import ImageFile
from dipfast.images.files.pixels import stretched

__all__ = ["read", "write"]


def read(stream: BinaryIO) -> ImageFile:
    """Read the one image of a PGM.

    Parameters
    ----------
    stream
        The file, at its beginning.

    Returns
    -------
    ImageFile
        The image; there is nothing beside the pixels.

    Raises
    ------
    UnreadableFileError
        If what the file declares is refused; the decoder may raise anything else.
    """
    return ImageFile(read_pixels(stream, (255, 65535)))


def write(stream: BinaryIO, pixels: np.ndarray[Any, Any], like: ImageFile) -> list[str]:
    """Write an image as a PGM.

    Parameters
    ----------
    stream
        Where to write.
    pixels
        Array (H, W).
    like
        The image, with what is to be written beside the pixels.

    Returns
    -------
    list of str
        What could not be kept, in words: all of it.
    """
    bits = like.metadata.get("bits", 16)
    if pixels.dtype == np.uint16 and bits < 16:
        pixels = stretched(pixels, bits)
    write_pixels(stream, pixels)
    return not_kept(like)
