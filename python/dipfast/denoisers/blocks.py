"""Apply a local method to a large picture in blocks, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dipfast.images.tiles import Tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GRID", "MOST_ELEMENTS", "blocks_of", "in_blocks"]

MOST_ELEMENTS = 1 << 26
"""Elements, of all channels together, from which on a picture is worked on in blocks."""

GRID = 60
"""A multiple of every step of ``nl_ridge``: blocks begin where patches do in the whole picture."""

# The rows and columns of a block are at least so many times what is looked at beyond it.
_LEAST = 4

_Method: TypeAlias = (
    "Callable[[NDArray[Any], Tile, Callable[[float], object] | None], NDArray[Any]]"
)


def in_blocks(
    pixels: NDArray[Any],
    method: _Method,
    reach: int,
    callback: Callable[[float], object] | None = None,
    most: int = MOST_ELEMENTS,
) -> NDArray[Any]:
    """Return what a method makes of a picture, block by block where it is large.

    Parameters
    ----------
    pixels
        The picture, (C, H, W).
    method
        From a picture to one of the same shape; what it makes of a pixel depends on pixels nearby
        alone.  It is called with a part of the picture, where that lies, and a function that is
        told the share that is done, or None.
    reach
        How many rows and columns away the pixels are that matter.
    callback
        Called with the share that is done, from 0 to 1.
    most
        Elements of a block with what is looked at beyond it; a smaller picture is not cut.

    Returns
    -------
    numpy.ndarray
        The picture, of the same shape: that of the method for the whole, but for rounding.

    Examples
    --------
    >>> picture = np.arange(400.0).reshape(1, 4, 100)
    >>> doubled = in_blocks(picture, lambda part, place, report: 2 * part, reach=1, most=80)
    >>> bool((doubled == 2 * picture).all())
    True
    """
    if pixels.size <= most:
        return method(pixels, Tile(0, 0, *pixels.shape[-2:]), callback)
    result: NDArray[Any] | None = None
    done, count = 0, pixels[0].size
    for block, around in blocks_of(pixels.shape, reach, most):
        share = block.height * block.width / count

        def report(inner: float, begin: float = done / count, share: float = share) -> None:
            if callback is not None:
                callback(begin + share * inner)

        down, across = around.index
        part = method(np.ascontiguousarray(pixels[..., down, across]), around, report)
        if result is None:
            result = np.empty(pixels.shape, part.dtype)
        rows, columns = block.row - around.row, block.column - around.column
        down, across = Tile(rows, columns, block.height, block.width).index
        inner = part[..., down, across]
        down, across = block.index
        result[..., down, across] = inner
        done += block.height * block.width
    assert result is not None
    return result


def blocks_of(
    shape: tuple[int, ...], reach: int, most: int = MOST_ELEMENTS
) -> Iterator[tuple[Tile, Tile]]:
    """Yield the blocks of a picture, each with the larger one that is worked on for it.

    Parameters
    ----------
    shape
        Channels, rows and columns of the picture.
    reach
        How many rows and columns beyond a block matter.
    most
        Elements of the larger block, of all channels together, as far as the reach allows.

    Yields
    ------
    tuple of Tile
        Blocks that cover the picture, cut so that least is looked at twice.  The larger ones begin
        at multiples of :data:`GRID`.
    """
    _, height, width = shape
    down, beside = _counts(shape, reach, most)
    for top, bottom in _parts(height, down):
        for left, right in _parts(width, beside):
            begins = [max(start - reach, 0) // GRID * GRID for start in (top, left)]
            ends = [min(end + reach, n) for end, n in ((bottom, height), (right, width))]
            around = Tile(*begins, *(end - begin for begin, end in zip(begins, ends)))
            yield Tile(top, left, bottom - top, right - left), around


def _counts(shape: tuple[int, ...], reach: int, most: int) -> tuple[int, int]:
    """Return how many blocks there are below and beside each other, with the least work."""
    channels, height, width = shape
    beyond = 2 * reach + GRID
    least = max(_LEAST * reach, 1)
    found = math.ceil(height / least), math.ceil(width / least)  # the smallest that make sense
    work = math.inf
    for beside in range(1, found[1] + 1):
        across = math.ceil(width / beside) + (beyond if beside > 1 else 0)
        rows = most // (channels * across)
        down = 1 if rows >= height else math.ceil(height / max(rows - beyond, 1))
        looked_at = (height + beyond * (down - 1)) * (width + beyond * (beside - 1))
        if down <= found[0] and looked_at < work:
            work, chosen = looked_at, (down, beside)
    return found if math.isinf(work) else chosen


def _parts(length: int, count: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of so many parts of nearly the same length."""
    # At multiples of the grid, as far as parts are larger: less is looked at twice.
    unit = GRID if length >= 2 * GRID * count else 1
    edges = [round(k * length / count / unit) * unit for k in range(count)] + [length]
    yield from pairwise(edges)
