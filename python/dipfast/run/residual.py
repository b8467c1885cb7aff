"""The residual of an image: its size, and whether its neighbours are related."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dipfast.model.noise_estimate import LARGE_PICTURE
from dipfast.model.operators import Identity
from dipfast.model.problem import Problem

__all__ = ["describe_residual"]

# The residual of a large picture is that of strips of so many rows, of about so many pixels.
_SAMPLED_PIXELS, _STRIP = 1 << 20, 64


def describe_residual(problem: Problem, image: Tensor) -> tuple[float, float]:
    """Return root mean square and correlation of neighbours of an image's residual.

    Parameters
    ----------
    problem
        The measurement and its model.
    image
        The image, of a shape that the operator takes, in [0, 1].

    Returns
    -------
    tuple of float
        The first in units of the value range; the second from -1 to 1, of pixels one row or column
        apart.
    """
    square, measured, products, pairs = 0.0, 0, 0.0, 0.0
    for part, own in _parts(problem, image):
        residual = part.residual(own).cpu().double()  # some devices have no float64
        square, measured = square + float(residual.square().sum()), measured + part.count
        known = torch.ones_like(residual)
        if part.known is not None:
            known = part.known.cpu().double()
        known = known.expand_as(residual)
        for axis in (-1, -2):
            first, second = (
                x.narrow(axis, 1, x.shape[axis] - 1) * x.narrow(axis, 0, x.shape[axis] - 1)
                for x in (residual, known)
            )
            products, pairs = products + float(first.sum()), pairs + float(second.sum())
    mean_square = square / measured
    related = products / pairs / mean_square if pairs > 0 and mean_square > 0 else 0.0
    return math.sqrt(mean_square), related


def _parts(problem: Problem, image: Tensor) -> Iterator[tuple[Problem, Tensor]]:
    """Yield a problem with its image; of a large one, parts that are spread evenly."""
    height, width = image.shape[-2:]
    is_large = height * width > LARGE_PICTURE and height >= 2 * _STRIP
    if not is_large or not isinstance(problem.operator, Identity):
        yield problem, image
        return

    def cut(x: Any) -> Any:
        whole = x is None or x.shape[-2] == 1
        return x if whole else x[..., start : start + _STRIP, :]

    count = min(max(_SAMPLED_PIXELS // (_STRIP * width), 1), height // _STRIP)
    for number in range(count):
        start = number * (height - _STRIP) // max(count - 1, 1)
        names = ("measurement", "held_out", "outliers")
        yield replace(problem, **{k: cut(getattr(problem, k)) for k in names}), cut(image)
