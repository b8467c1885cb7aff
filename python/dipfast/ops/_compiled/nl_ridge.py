"""Make passes of non-local ridge regression by the compiled kernel, some tiles at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dipfast import _native

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["nl_ridge_pass"]

# Tiles between two calls of the callback, and two looks for Ctrl-C: a few tenths of a second.
_TILES = 32


def nl_ridge_pass(
    noisy: Floats,
    guide: Floats,
    covariance: Floats,
    *,
    guide_covariance: Floats | None = None,
    pilot: Floats | None = None,
    gain: Floats | None = None,
    callback: Callable[[float], object] | None = None,
    **parameters: Any,
) -> Floats:
    """Return a picture (C, Z, H, W) denoised by one pass of ``_native.NlRidgePass``.

    The callback is given the share of the pass that is done.
    """
    one = _native.NlRidgePass(noisy.shape, **parameters)
    sums = np.zeros(noisy.shape, np.float32)
    weights = np.zeros(noisy.shape[1:], np.float32)
    for first in range(0, max(one.tiles, 1), _TILES):
        one.add(
            noisy,
            guide,
            covariance,
            sums,
            weights,
            first=first,
            count=_TILES,
            guide_covariance=guide_covariance,
            pilot=pilot,
            gain=gain,
        )
        if callback is not None:
            callback(min((first + _TILES) / one.tiles, 1.0))
    sums /= weights
    return sums
