"""PPM of Netpbm: RGB with samples of 8 bits."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np

from dipfast.images.files.formats._netpbm import read_pixels, write_pixels
from dipfast.images.files.formats._numbers import not_kept
from dipfast.images.files.formats._pillow import grey_if_equal
from dipfast.images.files.image_file import ImageFile
from dipfast.images.files.pixels import split

__all__ = ["read", "write"]


def read(stream: BinaryIO) -> ImageFile:
    """Read the one image of a PPM.

    PPM has no grey: a picture whose three channels are equal everywhere is grey.

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
    return split(grey_if_equal(read_pixels(stream, (255,))), False, {})


def write(stream: BinaryIO, pixels: np.ndarray[Any, Any], like: ImageFile) -> list[str]:
    """Write an image as a PPM.

    Parameters
    ----------
    stream
        Where to write.
    pixels
        Array (H, W) or (H, W, 3).
    like
        The image, with what is to be written beside the pixels.

    Returns
    -------
    list of str
        What could not be kept, in words: all of it.
    """
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    write_pixels(stream, pixels)
    return not_kept(like)
