"""Compute mean squared errors by the compiled kernel, right wherever float64 holds them."""

from __future__ import annotations

from typing import Any

import numpy as np

from dipfast import _native
from dipfast.ops._arguments import SMALLEST

__all__ = ["mse"]

# The kernel squares float32 numbers in float32.  Squares below 2**-126, and products of weights and
# squares below that, lose digits; they are less than 2**-26 of a mean that is not below this.
_SMALLEST_OF_SINGLE = 2.0**-100


def mse(a: Any, b: Any, *, mask: Any = None, gradient: Any = None, **form: Any) -> list[float]:
    """Call ``_native.mse``, and once more in float64 where float32 is too narrow.

    Weights, a floating-point mask, may have any dtype.  A mean is NaN where it is not finite, and
    where it is below the normal numbers of float64 and not 0.
    """
    single = a.dtype == np.float32
    weights = mask is not None and mask.dtype.kind == "f"
    if single and not (weights and mask.dtype != a.dtype):
        values = _native.mse(a, b, mask=mask, gradient=gradient, **form)
        least = min(values)
        if weights and least >= _SMALLEST_OF_SINGLE:
            least *= mask[mask != 0].min(initial=1.0)
        # Where squares were too large for float32 the mean is NaN.
        large = least >= _SMALLEST_OF_SINGLE and not np.isnan(values).any()
        if large or _are_equal(values, a, b):
            return values
    with np.errstate(all="ignore"):
        if single:
            a, b = a.astype(np.float64), b.astype(np.float64)
        if weights:
            mask = mask.astype(np.float64, copy=False)
        slope = np.empty(gradient.shape) if single and gradient is not None else gradient
        values = _native.mse(a, b, mask=mask, gradient=slope, **form)
        if slope is not gradient:
            gradient[...] = slope
        if all(abs(value) >= SMALLEST for value in values) or _are_equal(values, a, b):
            return values
        # The mean may be 0 because squares vanished.  In this unit they do not, so that here only
        # equal images have a mean of 0.  Weights only say what counts: large squares are infinite,
        # and times a weight of 0 they would be NaN.
        enlarged = (a.astype(np.float64) - b) * 2.0**700
        counts = (mask != 0).view(np.uint8) if weights else mask
        squares = _native.mse(enlarged, np.zeros_like(enlarged), mask=counts, **form)
    lost = (abs(value) < SMALLEST and square != 0 for value, square in zip(values, squares))
    return [np.nan if gone else value for gone, value in zip(lost, values)]


def _are_equal(values: list[float], a: Any, b: Any) -> bool:
    """Return whether all means are 0 because the images are equal, masked or not."""
    return not any(values) and np.array_equal(a, b)
