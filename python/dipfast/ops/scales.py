"""Halve pictures, and take their low frequencies from a smaller picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["LOW_REACH", "add_low_frequencies", "halved"]

# Standard deviation of the Gaussian that tells low frequencies, in pixels of the smaller picture,
# and how far it goes.
_WIDTH, _REACH = 1.5, 5

LOW_REACH = 2 * (_REACH + 1)
"""How many rows and columns away pixels matter to the low frequencies that a picture is given."""


def halved(x: Floats) -> Floats:
    """Return the means of two by two pixels; the last row or column of an odd number is left out.

    Parameters
    ----------
    x
        The picture, ``(..., H, W)``.

    Returns
    -------
    numpy.ndarray
        The picture, ``(..., H // 2, W // 2)``.

    Examples
    --------
    >>> halved(np.arange(8, dtype=np.float32).reshape(2, 4))
    array([[2.5, 4.5]], dtype=float32)
    """
    rows, columns = (size // 2 * 2 for size in x.shape[-2:])
    half = x[..., :rows:2, :columns:2] + x[..., 1:rows:2, :columns:2]
    half += x[..., :rows:2, 1:columns:2]
    half += x[..., 1:rows:2, 1:columns:2]
    half *= np.float32(0.25)
    return half


def add_low_frequencies(x: Floats, smaller: Floats, noisy: Any = None) -> None:
    """Give a picture the low frequencies of a smaller one, in place.

    The difference of the smaller picture and :func:`halved` of x is blurred by a Gaussian of one
    and a half of its pixels, whose weights are scaled to a sum of one at the borders, and
    interpolated linearly.

    Parameters
    ----------
    x
        The picture, ``(..., H, W)``, changed in place.
    smaller
        The smaller picture, ``(..., H // 2, W // 2)``, not empty.
    noisy
        Which pixels may change, boolean, of the shape of x; None, the default, for all.
    """
    difference = smaller - halved(x)
    difference = _blurred(_blurred(difference, -1), -2)
    rows, columns = x.shape[-2:]
    for plane in np.ndindex(x.shape[:-2]):  # one after the other, to save memory
        added = _doubled(_doubled(difference[plane], -1, columns), -2, rows)
        if noisy is not None:
            added *= noisy[plane]
        x[plane] += added


def _blurred(x: Floats, axis: int) -> Floats:
    """Return weighted means of the places around each along an axis."""
    count = x.shape[axis]
    result = np.zeros_like(x)
    sums = np.zeros(count, np.float32)
    for tap in range(-_REACH, _REACH + 1):
        weight = np.float32(math.exp(-0.5 * (tap / _WIDTH) ** 2))
        first, last = max(-tap, 0), min(count - tap, count)
        if first < last:
            result[_along(axis, first, last)] += weight * x[_along(axis, first + tap, last + tap)]
            sums[first:last] += weight
    result /= sums if axis == -1 else sums[:, None]
    return result


def _doubled(x: Floats, axis: int, size: int) -> Floats:
    """Return an axis with twice the places, interpolated; the ends are those of x."""
    last = x.shape[axis] - 1
    shape = list(x.shape)
    shape[axis] = size
    result = np.empty(shape, np.float32)
    near, far = np.float32(0.75), np.float32(0.25)
    for parity, other in ((0, -1), (1, 1)):
        places = np.arange((size - parity + 1) // 2)
        mean = near * x.take(np.minimum(places, last), axis)
        mean += far * x.take(np.clip(places + other, 0, last), axis)
        result[_along(axis, parity, size, 2)] = mean
    return result


def _along(axis: int, *ends: int) -> Any:
    """Return an index of a part of one of the last two axes."""
    return (..., slice(*ends)) if axis == -1 else (..., slice(*ends), slice(None))
