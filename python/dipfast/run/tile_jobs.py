"""Make a job of each tile of a picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from dipfast.errors import InputError
from dipfast.images.tiles import Tile, Tiles
from dipfast.model.operators import known_mask
from dipfast.model.parts import can_be_cut, cut, magnification, part_of, reach_of
from dipfast.run.fits import with_fits
from dipfast.run.job import Job
from dipfast.run.memory import TILES, fits_into_memory

__all__ = ["SHARE_OF_MEMORY", "choose_tile", "job_of", "sizes_of_tile", "tiles_of"]

# Neighbours have this share of a tile in common, and so many rows and columns at most.
_OVERLAP, _MOST_OVERLAP = 8, 64

# A hole of this share of a tile has too few pixels around it there.
_WIDE_HOLE = 4

# The range of what networks are given, as in the loop, and the rows and columns that one seed of it
# is for.
_SCALE, _BLOCK = 0.1, 64


SHARE_OF_MEMORY = 0.7
"""A tile may take this share of the memory, which varies with other processes."""


def choose_tile(job: Job, asked: int | Literal["auto"]) -> int:
    """Return the side of the tiles that a job is cut into.

    Parameters
    ----------
    job
        The job of the whole picture.
    asked
        What the user asked for: a side, 0 for the whole, or ``"auto"``: the whole where its fit
        fits into memory, and else the first of :data:`dipfast.run.memory.TILES` that does.

    Returns
    -------
    int
        Rows and columns of a tile, in pixels of the measurement; 0 for the whole.

    Raises
    ------
    InputError
        If the side was asked for, and the picture cannot be cut, or has a hole that is too wide,
        or the operator reaches too far.
    """
    longest, can = max(job.problem.measurement.shape[-2:]), can_be_cut(job.problem)
    if asked == "auto":
        if not can or fits_into_memory(**job.sizes):
            return 0
        for side in TILES:
            fits = fits_into_memory(**sizes_of_tile(job, side), share=SHARE_OF_MEMORY)
            suits = side >= _least_side(job) and _hole_for(job, side) is None
            if side < longest and fits and suits:
                return side
        return 0
    if not 0 < asked < longest:
        return 0
    if not can:
        raise InputError(
            f"tile={asked} needs to know what a part of the image is measured of, which is known "
            "of Identity, Mask, Downsample and Blur, but for a circular one, and not of the pixels "
            "of a JPEG; tile=0 takes the whole"
        )
    if asked < _least_side(job):
        raise InputError(
            f"tile={asked} is too small for an operator that reaches over "
            f"{max(reach_of(job.problem.operator))} pixels: tiles of {_least_side(job)} or more "
            "have pixels enough in common; tile=0 takes the whole"
        )
    hole = _hole_for(job, asked)
    if hole is not None:
        raise InputError(
            f"tile={asked} is too small for the hole at row {hole.row}, column {hole.column}, "
            f"which has {hole.height} rows and {hole.width} columns at least: a tile has to be "
            "four times as wide as a hole; tile=0 takes the whole"
        )
    return asked


def sizes_of_tile(job: Job, side: int) -> dict[str, Any]:
    """Return :attr:`Job.sizes` of a tile.

    Parameters
    ----------
    job
        The job of the whole picture.
    side
        Rows and columns of a tile, in pixels of the measurement.

    Returns
    -------
    dict
        Sizes, dtype and device of the fit of a tile.
    """
    most = side * magnification(job.problem.operator)
    sizes = job.sizes
    for name in ("z_shape", "image_shape"):
        shape = sizes[name]
        sizes[name] = (*shape[:2], *(min(length, most) for length in shape[2:]))
    return sizes


def tiles_of(job: Job) -> Tiles:
    """Return the tiles of a job that has some, in pixels of the measurement.

    Parameters
    ----------
    job
        The image and all that was decided for it.

    Returns
    -------
    Tiles
        The tiles, which overlap by an eighth of their side, by 64 pixels at most; or by more, so
        that each measured value is fitted in one of them, as those at its ends are not.
    """
    height, width = job.problem.measurement.shape[-2:]
    reach = max(reach_of(job.problem.operator))
    overlap = max(min(job.tile // _OVERLAP, _MOST_OVERLAP), 2 * reach)
    return Tiles((height, width), job.tile, overlap)


def job_of(job: Job, tile: Tile) -> Job:
    """Return the job of a tile, which is all that has to be known of the picture for it.

    All tiles have the same settings, noise, stop rule and seed; the random input of the network is
    cut from one field, so that neighbours have the same where they overlap.

    Parameters
    ----------
    job
        The job of the whole picture.
    tile
        The tile, in pixels of the measurement.

    Returns
    -------
    Job
        The job, with tensors of its own.
    """
    size, whole = job.problem.measurement.shape[-2:], job.baseline.shape[-2:]
    factor = magnification(job.problem.operator)
    large = tile.scaled(factor)
    given = job.network_input
    part = replace(
        job,
        problem=part_of(job.problem, tile),
        baseline=cut(job.baseline, large, whole).clone(),
        kept_mask=None if job.kept_mask is None else cut(job.kept_mask, tile, size).clone(),
        reference=None,
        network_input=cut(given, large, whole).clone() if isinstance(given, Tensor) else given,
        fits=(),
        tile=0,
    )
    if job.settings.method != "joined":
        return _with_field(part, large)
    joined = with_fits(part)
    fits = tuple(_with_field(fit, large) for fit in joined.fits)
    return replace(joined, fits=fits)


def _with_field(job: Job, tile: Tile) -> Job:
    """Return a job whose random input is the tile of a field that is as large as need be."""
    if job.network_input != "noise":
        return job
    field = _field(job.settings.seed, job.preset.input_channels, tile)
    return replace(job, network_input=field)


def _field(seed: int, channels: int, tile: Tile) -> Tensor:
    """Return a tile of a random field, (1, C, h, w): uniform, and drawn block by block."""
    top, left = tile.row // _BLOCK, tile.column // _BLOCK
    rows = range(top, (tile.row + tile.height - 1) // _BLOCK + 1)
    columns = range(left, (tile.column + tile.width - 1) // _BLOCK + 1)
    lines = [torch.cat([_block(seed, channels, y, x) for x in columns], dim=-1) for y in rows]
    within = Tile(tile.row - top * _BLOCK, tile.column - left * _BLOCK, tile.height, tile.width)
    field = cut(torch.cat(lines, dim=-2), within, (len(rows) * _BLOCK, len(columns) * _BLOCK))
    return _SCALE * field[None]


def _block(seed: int, channels: int, row: int, column: int) -> Tensor:
    """Return one block of a random field, (C, rows, columns)."""
    # Two odd multipliers of 64 bits keep the seeds of blocks apart.
    mixed = seed ^ (row * 0x9E3779B97F4A7C15 + column * 0xC2B2AE3D27D4EB4F + 1)
    generator = torch.Generator().manual_seed(mixed % 2**63)
    return torch.rand((channels, _BLOCK, _BLOCK), generator=generator, dtype=torch.float32)


def _least_side(job: Job) -> int:
    """Return the least side of tiles, half of which may overlap."""
    return 4 * max(reach_of(job.problem.operator))


def _hole_for(job: Job, side: int) -> Tile | None:
    """Return what surely is of a hole that is too wide for tiles of a side; None for none."""
    known = known_mask(job.problem.operator)
    if known is None:
        return None
    size = job.problem.measurement.shape[-2:]
    # Of a picture that is narrower than such a hole, one that goes from end to end.
    rows, columns = (min(side // _WIDE_HOLE, length) for length in size)
    known = known.expand(*known.shape[:-2], *size)
    planes = known.reshape(1, -1, *known.shape[-2:]).any(dim=1, keepdim=True)
    for window in ((rows, 1), (1, columns)):
        planes = torch.nn.functional.max_pool2d(planes.float(), window, stride=1)
    found = planes[0, 0] == 0
    if not bool(found.any()):
        return None
    row, column = found.nonzero()[0].tolist()
    return Tile(row, column, rows, columns)
