"""Compute total variation by the compiled kernels, right for numbers of any size.

The kernels compute in the type of the image, in which the squares of large numbers overflow and
those of small ones vanish.  The result tells whether that may have happened; then it is computed
once more, in double precision and with numbers around 1.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from dipfast import _native

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

__all__ = ["finite_or_nan", "total_variation", "tv_objective"]


def total_variation(
    u: Array, *, kind: str, epsilon: float, gradient: Array | None = None, **layout: Any
) -> float:
    """Call ``_native.total_variation``.

    The result is NaN if u is not finite, or float64 does not have the total variation.
    """
    value = _native.total_variation(u, kind=kind, epsilon=epsilon, gradient=gradient, **layout)
    if _is_sound(value, u, kind) or not (scale := _scale(u)):
        return value
    slope = None if gradient is None else np.empty(u.shape)
    value = _native.total_variation(
        _scaled(u, scale), kind=kind, epsilon=epsilon * scale, gradient=slope, **layout
    )
    if gradient is not None and slope is not None:
        gradient[...] = slope
    return finite_or_nan(value / scale)


def tv_objective(
    u: Array,
    y: Array,
    mask: Array | None,
    weight: float,
    *,
    kind: str,
    epsilon: float,
    gradient: Array | None = None,
    **layout: Any,
) -> tuple[float, float]:
    """Call ``_native.tv_objective``; its terms are NaN as in :func:`total_variation`."""
    data, tv = _native.tv_objective(
        u, y, mask, weight, kind=kind, epsilon=epsilon, gradient=gradient, **layout
    )
    if data > u.size * _least_square(u.dtype) and _is_sound(tv, u, kind):
        return data, tv
    if mask is not None:
        # What stands in holes has no influence, and must not have one on the unit either.
        y = np.where(mask != 0, y, y.dtype.type(0))
    if not (scale := _scale(u, y)):
        return data, tv
    if mask is not None and mask.dtype.kind == "f":
        mask = mask.astype(np.float64)
    slope = None if gradient is None else np.empty(u.shape)
    data, tv = _native.tv_objective(
        _scaled(u, scale),
        _scaled(y, scale),
        mask,
        weight * scale,
        kind=kind,
        epsilon=epsilon * scale,
        gradient=slope,
        **layout,
    )
    if gradient is not None and slope is not None:
        with np.errstate(over="ignore"):
            gradient[...] = slope / scale
    return finite_or_nan(data / scale / scale), finite_or_nan(tv / scale)


def _is_sound(tv: float, u: Array, kind: str) -> bool:
    """Return whether no square can have lost digits on the way to a sum over u."""
    if kind == "anisotropic":
        return math.isfinite(tv)
    return tv > u.size * math.sqrt(_least_square(u.dtype))


@cache
def _least_square(dtype: np.dtype[Any]) -> float:
    """Return the least number that has all its digits when it is added to a few of its size."""
    info = np.finfo(dtype)
    return float(info.tiny / info.eps)


def _scale(*images: Array) -> float:
    """Return a power of two that brings the largest number to about 1; 0 where there is none."""
    ends = [abs(float(end)) for x in images if x.size for end in (x.min(), x.max())]
    largest = max(ends, default=0.0)
    if not largest or not all(map(math.isfinite, ends)):
        return 0.0
    return math.ldexp(1.0, max(min(-math.frexp(largest)[1], 1000), -1000))


def _scaled(x: Array, scale: float) -> Array:
    """Return an image in float64, times a number."""
    return x.astype(np.float64) * scale


def finite_or_nan(value: float) -> float:
    """Return a finite number itself, and NaN for others."""
    return value if math.isfinite(value) else math.nan
