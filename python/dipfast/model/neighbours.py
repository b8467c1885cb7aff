"""Planes of a stack that help each other: which they are, and how they are handed on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dipfast import ops
from dipfast.images.tiles import Tile
from dipfast.model.bootstrap import Split, added_noise, dependence, noisier
from dipfast.model.noise import NoiseModel
from dipfast.model.noise_estimate import fill_from_neighbours
from dipfast.model.stack_noise import spread
from dipfast.model.stretch import Stretch

__all__ = ["REACH", "Neighbours", "PlaneBlock", "blocks_of_run", "find_axis", "runs_along"]

REACH = 4
"""How many planes to either side help by default; more gain little."""

# Planes of a block that are denoised together, besides those on both sides that only help.
_BLOCK = 16
# Whether planes help is measured on so many parts of a stack, of so many planes, rows and
# columns.
_PARTS, _DEPTH, _SIDE = 3, 5, 64
# The ratio of the noise that is added for that.
_RATIO = 0.5
# By so many standard errors the error has to be less.
_CLEARLY = 2.0
# Rows and columns of the blocks by whose means planes are compared, and how much less alike than
# usual two planes are between which a scene changes.
_MEANS, _USUAL, _OF_USUAL = 8, 0.3, 0.5


@dataclass(frozen=True, eq=False)
class PlaneBlock:
    """Hold planes of a stack that follow each other, and have the same noise.

    Parameters
    ----------
    planes
        The planes as they were measured, (K, C, H, W), in units of a picture in [0, 1]; a view of
        the stack, of which a pickled block has a copy.
    first, last
        The planes from ``first`` to before ``last`` are denoised by the block; the others only
        help.
    reach
        How many planes to either side help.
    outliers
        Which values of each plane are wrong, (1, C, H, W); None where none are.
    stretch
        The stretch of their values; None, the default, for none.
    """

    planes: Tensor
    first: int
    last: int
    reach: int
    outliers: tuple[Tensor | None, ...]
    stretch: Stretch | None = None
    _kept: dict[tuple[Any, int], Tensor] = field(default_factory=dict, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "planes": self.planes.clone(), "_kept": {}}

    def pixels(self, places: range) -> Tensor:
        """Return some planes as they are denoised: stretched, and without outliers.

        Parameters
        ----------
        places
            The planes, counted from the first of the block.

        Returns
        -------
        Tensor
            A copy, (K, C, H, W).
        """
        planes = self.planes[places.start : places.stop]
        made = planes.clone() if self.stretch is None else self.stretch.forward(planes)
        for plane, place in zip(made, places):
            wrong = self.outliers[place]
            if wrong is not None and bool(wrong.any()):
                where = wrong.expand(1, *plane.shape)[0].numpy()
                plane.copy_(torch.from_numpy(fill_from_neighbours(plane.numpy(), where)))
        return made

    def keep(self, name: Any, results: Tensor) -> None:
        """Keep what was made of all planes until each is taken.

        Parameters
        ----------
        name
            What tells results of one kind from those of another.
        results
            What was made of the planes, (K, C, H, W).
        """
        for place in range(self.first, self.last):
            self._kept[name, place] = results[place : place + 1].clone()

    def take(self, name: Any, place: int) -> Tensor | None:
        """Return what was kept of a plane, once; None where nothing is.

        Parameters
        ----------
        name
            The kind of result.
        place
            The plane, counted from the first of the block.

        Returns
        -------
        Tensor or None
            Of shape (1, C, H, W).
        """
        return self._kept.pop((name, place), None)

    def cut(self, tile: Tile) -> PlaneBlock:
        """Return the block of a part of all planes.

        Parameters
        ----------
        tile
            The part.

        Returns
        -------
        PlaneBlock
            The block, with tensors of its own.
        """
        rows, columns = tile.index
        outliers = tuple(
            None if x is None else x.expand(1, *self.planes.shape[1:])[..., rows, columns].clone()
            for x in self.outliers
        )
        planes = self.planes[..., rows, columns].clone()
        return replace(self, planes=planes, outliers=outliers)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Hold the planes that help one plane of a stack.

    Parameters
    ----------
    block
        The planes, shared by all that the block denoises.
    place
        The plane itself, counted from the first of the block.
    """

    block: PlaneBlock
    place: int

    @property
    def around(self) -> range:
        """The places in the block of the plane and of those that help it."""
        first = max(self.place - self.block.reach, 0)
        return range(first, min(self.place + self.block.reach + 1, len(self.block.planes)))

    def cut(self, tile: Tile) -> Neighbours:
        """Return the neighbours of a part of the plane.

        Parameters
        ----------
        tile
            The part.

        Returns
        -------
        Neighbours
            The same part of all planes.
        """
        own = self.around
        block = self.block.cut(tile)
        place = self.place - own.start
        part = replace(
            block,
            planes=block.planes[own.start : own.stop].clone(),
            outliers=block.outliers[own.start : own.stop],
            first=place,
            last=place + 1,
        )
        return Neighbours(part, place)


# --- which planes help -------------------------------------------------------------------


def find_axis(
    planes: Tensor, shape: Sequence[int], items: Sequence[int], noise: NoiseModel
) -> int | None:
    """Return the axis of a stack along which planes help their neighbours.

    Noise is added to some parts of the stack, which are denoised plane by plane and as volumes,
    and what is not seen of the noise tells which has the smaller error
    (:class:`dipfast.model.bootstrap.Split`).

    Parameters
    ----------
    planes
        The planes, (N, C, H, W), in units of a picture in [0, 1].
    shape
        How many planes there are along each axis of the stack; the last one counts fastest.
    items
        The numbers of the planes that have this noise.
    noise
        The noise.

    Returns
    -------
    int or None
        The number of the axis with the least error; None where none is clearly less than that of
        planes by themselves.

    Examples
    --------
    >>> clean = torch.linspace(0, 9, 32).sin().add(1).div(2).repeat(5, 1, 32, 1)
    >>> noise = NoiseModel(0.1)
    >>> noisy = noise.sample(clean, torch.Generator().manual_seed(0))
    >>> find_axis(noisy, [5], range(5), noise)
    0
    """
    if noise.is_free:
        return None
    found: tuple[float, int] | None = None
    for axis in range(len(shape)):
        lines = [run for run in runs_along(shape, axis, items) if len(run) > 1]
        if not lines:
            continue
        gain = _gain(planes, lines, noise)
        if gain > 0 and (found is None or gain > found[0]):
            found = gain, axis
    return None if found is None else found[1]


def runs_along(
    shape: Sequence[int], axis: int, items: Sequence[int], planes: Tensor | None = None
) -> list[list[int]]:
    """Return the planes that follow each other along an axis of a stack.

    Parameters
    ----------
    shape
        How many planes there are along each axis of the stack.
    axis
        The number of the axis.
    items
        The numbers of the planes that count; the others end a run.
    planes
        The planes, (N, C, H, W): where a scene changes, a run ends, too.  None, the default, does
        not look.

    Returns
    -------
    list of list of int
        The runs, each with the numbers of its planes in their order.

    Examples
    --------
    >>> runs_along([2, 3], 1, [0, 1, 2, 3, 5])
    [[0, 1, 2], [3], [5]]
    """
    numbers = np.arange(int(np.prod(shape))).reshape(tuple(shape))
    lines = np.moveaxis(numbers, axis, -1).reshape(-1, shape[axis])
    counts, runs = set(items), []
    for line in lines.tolist():
        run: list[int] = []
        for item in line:
            if item in counts:
                run.append(item)
            elif run:
                runs.append(run)
                run = []
        if run:
            runs.append(run)
    return runs if planes is None else list(_scenes(runs, planes))


def blocks_of_run(length: int, reach: int) -> Iterator[tuple[range, range]]:
    """Yield how planes that follow each other are divided into blocks.

    Parameters
    ----------
    length
        How many planes there are.
    reach
        How many planes to either side help.

    Yields
    ------
    tuple of range
        The planes of a block, and those of them that it denoises.

    Examples
    --------
    >>> list(blocks_of_run(20, 2))
    [(range(0, 12), range(0, 10)), (range(8, 20), range(10, 20))]
    """
    count = -(-length // _BLOCK)
    for k in range(count):
        first, last = k * length // count, (k + 1) * length // count
        yield range(max(first - reach, 0), min(last + reach, length)), range(first, last)


def _scenes(runs: Sequence[list[int]], planes: Tensor) -> Iterator[list[int]]:
    """Yield the parts of runs in which the scene does not change."""
    alike = [[_likeness(planes[a], planes[b]) for a, b in pairwise(run)] for run in runs]
    all_of_them = [x for of_run in alike for x in of_run]
    usual = float(np.median(all_of_them)) if all_of_them else 0.0
    for run, of_run in zip(runs, alike):
        part = run[:1]
        for item, likeness in zip(run[1:], of_run):
            if usual > _USUAL and likeness < _OF_USUAL * usual:
                yield part
                part = []
            part.append(item)
        yield part


def _likeness(first: Tensor, second: Tensor) -> float:
    """Return the correlation of the means of two planes over blocks."""
    means = []
    for plane in (first, second):
        size = min(_MEANS, *plane.shape[-2:])
        mean = functional.avg_pool2d(plane.double(), size)
        means.append((mean - mean.mean()).flatten())
    square = float(means[0].square().sum() * means[1].square().sum())
    return float(means[0] @ means[1]) / square**0.5 if square > 0 else 0.0


def _gain(planes: Tensor, lines: Sequence[list[int]], noise: NoiseModel) -> float:
    """Return by how much volumes have less error than planes; 0 where it is not clear."""
    last = (max(len(line) - _DEPTH, 0) + 1 for line in lines)
    windows = [line[k : k + _DEPTH] for line, n in zip(lines, last) for k in range(n)]
    chosen = spread(range(len(windows)), _PARTS)
    changes, dependences = [], []
    # Of fewer parts each is looked at again, with other noise.
    for seed, window in enumerate(islice(cycle(chosen), _PARTS)):
        part = _structured(planes[windows[window]])
        split = Split(part, added_noise(part, noise, seed), _RATIO)
        dependences.append(dependence(split.added, noise))
        pixels, model = split.fitted.numpy(), noisier(noise, _RATIO)
        told: dict[str, Any] = {"noise": model, "speed": "fast"}
        alone = ops.nl_ridge(pixels, channel_axis=1, **told)
        volume = np.ascontiguousarray(pixels.swapaxes(0, 1))
        together = ops.nl_ridge(volume, channel_axis=0, spatial_dims=3, neighbours=REACH, **told)
        errors = [
            (noise.expectation(torch.from_numpy(np.ascontiguousarray(x))) - split.unseen).square()
            for x in (alone, together.swapaxes(0, 1))
        ]
        changes.append((errors[0] - errors[1]).flatten().double())
    change = torch.cat(changes)
    # Elements whose noise is related, or the same, tell less than as many others.
    independent = len(change) / max(dependences)
    error = float(change.std()) / independent**0.5 if len(change) > 1 else 0.0
    gain = float(change.mean())
    return gain if gain > _CLEARLY * error else 0.0


def _structured(planes: Tensor) -> Tensor:
    """Return the same part of all planes, the one with most structure, as a copy."""
    rows, columns = (min(n, _SIDE) for n in planes.shape[-2:])
    size = min(_MEANS, rows, columns)
    means = functional.avg_pool2d(planes.mean(dim=1, keepdim=True), size)
    across = [max(n // size, 1) for n in (rows, columns)]
    squares = [functional.avg_pool2d(x, tuple(across), stride=across) for x in (means, means**2)]
    spreads = (squares[1] - squares[0] ** 2).mean(dim=0)[0]
    place = int(spreads.argmax())
    row, column = place // spreads.shape[1] * across[0], place % spreads.shape[1] * across[1]
    top, left = row * size, column * size
    return planes[..., top : top + rows, left : left + columns].clone()
