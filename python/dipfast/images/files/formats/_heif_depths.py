"""Depths of AVIF and HEIC: 8, 10 and 12 bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from dipfast.images.files.image_file import ImageFile

__all__ = ["cut"]

_Array = np.ndarray[Any, Any]


def cut(pixels: _Array, like: ImageFile) -> tuple[int, _Array]:
    """Return the depth to write, and pixels without what they have beyond it.

    Parameters
    ----------
    pixels
        Numbers in uint8 or uint16.
    like
        The image that they are of.

    Returns
    -------
    tuple
        Bits, and numbers below 2 to their power.
    """
    if pixels.dtype == np.uint8:
        return 8, pixels
    bits: int = like.metadata["bits"]
    return bits, np.minimum(pixels, np.uint16((1 << bits) - 1))
