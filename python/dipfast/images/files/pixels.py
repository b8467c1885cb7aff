"""Pixels as a file has them, and as they are to be seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from dipfast.images.files.image import ImageFile

__all__ = ["ORIENTATION", "split", "straight", "upright"]

_Array = np.ndarray[Any, Any]

ORIENTATION = 0x0112
"""The tag of EXIF and TIFF."""


def upright(pixels: _Array, orientation: int) -> _Array:
    """Turn rows and columns (the first two axes) as the orientation tag of EXIF and TIFF asks."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def split(pixels: _Array, opacity: bool, metadata: dict[str, Any], kind: str) -> ImageFile:
    """Make an image of (H, W) or (H, W, samples), the last of which may be opacity."""
    alpha = None
    if opacity:
        alpha, pixels = pixels[..., -1], pixels[..., :-1]
        if pixels.shape[-1] == 1:
            pixels = pixels[..., 0]
    return ImageFile(pixels, None if pixels.ndim == 2 else 2, alpha, metadata, kind)


def straight(pixels: _Array, alpha: _Array) -> _Array:
    """Divide opacity out of what it is multiplied into; where nothing is seen is 0."""
    if pixels.ndim > alpha.ndim:
        alpha = alpha[..., None]
    seen = alpha > 0
    if pixels.dtype.kind == "f":
        with np.errstate(over="ignore"):  # colours that are brighter than opacity allows
            return np.where(seen, pixels / np.where(seen, alpha, 1), 0).astype(pixels.dtype)
    full = np.iinfo(pixels.dtype).max
    values = pixels * (full / np.where(seen, alpha, 1).astype(np.float64))
    return np.where(seen, values.round().clip(0, full), 0).astype(pixels.dtype)
