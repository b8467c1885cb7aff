"""Cut a problem into parts: what was measured of a tile, and how."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dipfast.images.tiles import Tile
from dipfast.model.operators import Blur, Downsample, Identity, Mask, Operator
from dipfast.model.problem import Problem

__all__ = ["can_be_cut", "cut", "magnification", "part_of", "reach_of"]

# Rows and columns of large pixels that a filter of Downsample reaches from the middle of a small
# one, in small pixels: that of lanczos3.
_REACH_OF_FILTERS = 3


def can_be_cut(problem: Problem) -> bool:
    """Return whether it is known what was measured of a part of a picture.

    Parameters
    ----------
    problem
        The measurement and its model.

    Returns
    -------
    bool
        True for :class:`~dipfast.operators.Identity`, :class:`~dipfast.operators.Mask`,
        :class:`~dipfast.operators.Downsample` and :class:`~dipfast.operators.Blur` that is not
        circular.  False for the pixels of a JPEG, whose blocks would be cut.
    """
    operator = problem.operator
    if problem.jpeg is not None or problem.split is not None:
        return False
    if isinstance(operator, Blur):
        return operator.boundary != "circular"
    return isinstance(operator, Identity | Mask | Downsample)


def magnification(operator: Operator) -> int:
    """Return how many rows and columns of the image there are for one of the measurement.

    Parameters
    ----------
    operator
        A forward model that can be cut.

    Returns
    -------
    int
        The factor of :class:`~dipfast.operators.Downsample`; 1 for the others.
    """
    return operator.factor if isinstance(operator, Downsample) else 1


def reach_of(operator: Operator) -> tuple[int, int]:
    """Return how many rows and columns of a tile, at its ends, are measured of pixels beyond it.

    Parameters
    ----------
    operator
        A forward model that can be cut.

    Returns
    -------
    tuple of int
        Rows and columns, in pixels of the measurement.
    """
    if isinstance(operator, Blur):
        return operator.shape[0] // 2, operator.shape[1] // 2
    if isinstance(operator, Downsample) and operator.factor > 1:
        return _REACH_OF_FILTERS, _REACH_OF_FILTERS
    return 0, 0


def part_of(problem: Problem, tile: Tile) -> Problem:
    """Return what was measured of a tile of the measurement.

    Elements that were measured with the help of pixels beyond the tile are outliers in it.

    Parameters
    ----------
    problem
        The measurement and its model, which can be cut.
    tile
        The tile, in pixels of the measurement.

    Returns
    -------
    Problem
        The part, with tensors of its own.
    """
    operator, size = problem.operator, problem.measurement.shape[-2:]
    if isinstance(operator, Mask):
        operator = Mask(_own(cut(operator.known, tile, size)))
    outliers = problem.outliers
    outliers = None if outliers is None else _own(cut(outliers, tile, size))
    edges = _edges(operator, tile, tuple(size))
    if edges is not None:
        outliers = edges if outliers is None else edges | outliers
    held_out = problem.held_out
    return replace(
        problem,
        measurement=_own(cut(problem.measurement, tile, size)),
        operator=operator,
        outliers=outliers,
        held_out=None if held_out is None else _own(cut(held_out, tile, size)),
        neighbours=None if problem.neighbours is None else problem.neighbours.cut(tile),
    )


def cut(picture: Tensor, tile: Tile, size: Any) -> Tensor:
    """Return a part of a picture, or of a mask that broadcasts to one.

    Parameters
    ----------
    picture
        Of at least two dimensions, the last two of which have the size of the picture or are 1.
    tile
        The part.
    size
        Rows and columns of the picture.

    Returns
    -------
    Tensor
        A view; an axis of a single row or column stays as it is.
    """
    rows, columns = tile.index
    if picture.shape[-2] == size[0]:
        picture = picture[..., rows, :]
    return picture[..., columns] if picture.shape[-1] == size[1] else picture


def _own(part: Tensor) -> Tensor:
    """Return a copy: a view that is pickled carries the whole picture."""
    return part.clone(memory_format=torch.contiguous_format)


def _edges(operator: Operator, tile: Tile, size: tuple[int, ...]) -> Tensor | None:
    """Return which elements are of pixels beyond the tile, (1, 1, h, w); None for none."""
    reach = reach_of(operator)
    edges = torch.zeros(1, 1, tile.height, tile.width, dtype=torch.bool)
    starts, ends = (tile.row, tile.column), (tile.row + tile.height, tile.column + tile.width)
    for axis, far, start, end, length in zip((-2, -1), reach, starts, ends, size):
        if start > 0:
            edges.narrow(axis, 0, min(far, edges.shape[axis])).fill_(True)
        if end < length:
            count = min(far, edges.shape[axis])
            edges.narrow(axis, edges.shape[axis] - count, count).fill_(True)
    return edges if bool(edges.any()) else None
