"""Helpers of formats that turn pixels as a file has them into an image, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from dipfast.images.files.image_file import ImageFile

__all__ = ["ORIENTATION", "split", "straight", "stretched", "upright"]

_Array = np.ndarray[Any, Any]

ORIENTATION = 0x0112
"""The tag of EXIF and TIFF that says how an image is to be turned."""


def upright(pixels: _Array, orientation: int) -> _Array:
    """Return pixels turned as the orientation tag of EXIF and TIFF asks.

    Parameters
    ----------
    pixels
        Array whose first two axes are rows and columns.
    orientation
        Value of the tag, from 1 to 8; 1 turns nothing.

    Returns
    -------
    ndarray
        A view of the pixels.
    """
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def split(pixels: _Array, opacity: bool, metadata: dict[str, Any], stack: int = 0) -> ImageFile:
    """Return an image whose opacity is apart from its channels.

    Parameters
    ----------
    pixels
        Array (H, W) or (H, W, samples), with the axes of a stack in front.
    opacity
        Whether the last sample is opacity.
    metadata
        What is beside the pixels.
    stack
        How many axes of a stack there are; none by default.

    Returns
    -------
    ImageFile
        The image; one channel that is left beside opacity has no axis.
    """
    alpha = None
    if opacity:
        alpha, pixels = pixels[..., -1], pixels[..., :-1]
        if pixels.shape[-1] == 1:
            pixels = pixels[..., 0]
    axis = None if pixels.ndim == stack + 2 else stack + 2
    return ImageFile(pixels, axis, alpha, metadata, stack_axes=tuple(range(stack)))


def straight(pixels: _Array, alpha: _Array) -> _Array:
    """Return pixels from which the opacity that they were multiplied by is divided out.

    Parameters
    ----------
    pixels
        Array (H, W) or (H, W, channels).
    alpha
        Opacity (H, W) in the same type.

    Returns
    -------
    ndarray
        The pixels in the same type, 0 where opacity is 0.
    """
    if pixels.ndim > alpha.ndim:
        alpha = alpha[..., None]
    seen = alpha > 0
    if pixels.dtype.kind == "f":
        with np.errstate(over="ignore"):  # colours that are brighter than opacity allows
            return np.where(seen, pixels / np.where(seen, alpha, 1), 0).astype(pixels.dtype)
    full = np.iinfo(pixels.dtype).max
    values = pixels * (full / np.where(seen, alpha, 1).astype(np.float64))
    return np.where(seen, values.round().clip(0, full), 0).astype(pixels.dtype)


def stretched(pixels: _Array, bits: int) -> _Array:
    """Return numbers that fill 16 bits, so that the brightest stays the brightest.

    Parameters
    ----------
    pixels
        Numbers of so many bits, in uint16; a few of a restored image may be greater than these.
    bits
        From 8 to 16.

    Returns
    -------
    ndarray
        The numbers.
    """
    pixels = np.minimum(pixels, np.uint16((1 << bits) - 1))
    result: _Array = pixels << (16 - bits) | pixels >> (2 * bits - 16)
    return result
