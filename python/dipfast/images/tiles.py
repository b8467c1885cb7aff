"""Cut a picture into overlapping tiles, and blend what was made of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, overload

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Tile", "Tiles"]


@dataclass(frozen=True)
class Tile:
    """Describe a part of a picture.

    Parameters
    ----------
    row, column
        Its first row and column, counted from 0.
    height, width
        Its numbers of rows and columns.

    Examples
    --------
    >>> Tile(2, 4, height=3, width=5).scaled(2)
    Tile(row=4, column=8, height=6, width=10)
    """

    row: int
    column: int
    height: int
    width: int

    @property
    def index(self) -> tuple[slice, slice]:
        """Return the slices of rows and columns, the last two axes of an array being these."""
        return (
            slice(self.row, self.row + self.height),
            slice(self.column, self.column + self.width),
        )

    def scaled(self, factor: int) -> Tile:
        """Return the same part of a picture that is larger by a factor.

        Parameters
        ----------
        factor
            The factor, positive.

        Returns
        -------
        Tile
            The part, in pixels of the larger picture.
        """
        numbers = (self.row, self.column, self.height, self.width)
        return Tile(*(number * factor for number in numbers))


class Tiles(Sequence[Tile]):
    r"""Cut a picture into tiles of one size that overlap, row by row.

    Along each axis there are as few as can be, spread evenly.  The weight of tile k at pixel x is

    .. math:: \frac{b_k(x)}{\sum_j b_j(x)}, \qquad
              b_k(x) = \sin^2 \Big( \frac\pi2 \min \Big( 1, \frac{d_k(x)}{o} \Big) \Big)

    along each axis, with the distance d from the nearest end of the tile that is no end of the
    picture, and the overlap o; it is the product over both axes, and the weights of all tiles sum
    up to 1.

    Parameters
    ----------
    size
        Rows and columns of the picture, positive.
    side
        Rows and columns of a tile at most, positive; a shorter axis is not cut.
    overlap
        Rows and columns that neighbours have in common at least, from 0 to half of ``side``.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> tiles = Tiles((100, 30), side=64, overlap=16)
    >>> list(tiles)
    [Tile(row=0, column=0, height=64, width=30), Tile(row=36, column=0, height=64, width=30)]
    >>> total = np.zeros((100, 30))
    >>> for number, tile in enumerate(tiles):
    ...     total[tile.index] += tiles.weights(number)
    >>> bool(np.allclose(total, 1))
    True
    """

    def __init__(self, size: tuple[int, int], side: int, overlap: int) -> None:
        if min(size) < 1 or side < 1:
            raise ValueError(f"size and side must be positive, got {size} and {side}")
        if not 0 <= overlap <= side // 2:
            raise ValueError(f"overlap must be from 0 to {side // 2}, got {overlap}")
        self.size = size
        self.side = side
        self.overlap = overlap
        self._axes = tuple(_starts(length, side, overlap) for length in size)

    @property
    def counts(self) -> tuple[int, int]:
        """Return how many tiles there are below each other, and beside each other."""
        rows, columns = self._axes
        return len(rows), len(columns)

    def __len__(self) -> int:
        return math.prod(self.counts)

    @overload
    def __getitem__(self, number: int) -> Tile: ...
    @overload
    def __getitem__(self, number: slice) -> list[Tile]: ...
    def __getitem__(self, number: int | slice) -> Tile | list[Tile]:
        if isinstance(number, slice):
            return [self[k] for k in range(*number.indices(len(self)))]
        row, column = divmod(range(len(self))[number], self.counts[1])
        height, width = (min(self.side, length) for length in self.size)
        return Tile(self._axes[0][row], self._axes[1][column], height, width)

    def __iter__(self) -> Iterator[Tile]:
        return (self[number] for number in range(len(self)))

    def weights(self, number: int) -> NDArray[np.float32]:
        """Return the weights of the pixels of a tile.

        Parameters
        ----------
        number
            The number of the tile, counted from 0.

        Returns
        -------
        numpy.ndarray
            From 0 to 1, of shape (height, width), in float32.
        """
        row, column = divmod(number, self.counts[1])
        rows, columns = self._ramps
        return np.outer(rows[row], columns[column]).astype(np.float32)

    @cached_property
    def _ramps(self) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
        """Return the weights along both axes, for each tile along it."""
        rows, columns = (
            _weights(starts, length, self.side, self.overlap)
            for starts, length in zip(self._axes, self.size)
        )
        return rows, columns


def _starts(length: int, side: int, overlap: int) -> list[int]:
    """Return where tiles begin along an axis."""
    if length <= side:
        return [0]
    count = -(-(length - overlap) // (side - overlap))
    return [k * (length - side) // (count - 1) for k in range(count)]


def _weights(
    starts: Sequence[int], length: int, side: int, overlap: int
) -> list[NDArray[np.float64]]:
    """Return the weights of the tiles along an axis, which sum up to 1 at each pixel."""
    height = min(side, length)
    places = np.arange(height) + 0.5
    total, bumps = np.zeros(length), []
    for start in starts:
        before = places if start > 0 else np.full(height, np.inf)
        after = height - places if start + height < length else np.full(height, np.inf)
        share = np.minimum(np.minimum(before, after) / max(overlap, 1), 1)
        bumps.append(np.sin(share * np.pi / 2) ** 2)
        total[start : start + height] += bumps[-1]
    return [bump / total[start : start + height] for start, bump in zip(starts, bumps)]
