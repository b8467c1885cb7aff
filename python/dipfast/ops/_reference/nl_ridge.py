"""Define a pass of non-local ridge regression, reference patch by reference patch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor

__all__ = ["nl_ridge_pass"]

# A distance is not taken to be smaller: the smallest normal number of float32.
_LEAST = torch.finfo(torch.float32).tiny
# What is added to a diagonal that correlated noise is added to, as a share of its largest element.
_ADDED = 1e-5


def nl_ridge_pass(
    noisy: Tensor,
    guide: Tensor,
    covariance: Tensor,
    *,
    guide_covariance: Tensor | None = None,
    pilot: Tensor | None = None,
    gain: Tensor | None = None,
    patch: int,
    group: int,
    reach: int,
    slices_reach: int = 0,
    step: int,
    share: float = 0.05,
    centred: bool = False,
    filters: str = "patches",
) -> Tensor:
    """Return a picture (C, Z, H, W) denoised by one pass, in float64.

    The patches of a group are the rows of Y, of the pilot those of X; D is the covariance of their
    noise, summed over the values of a patch.  The first pass, without a pilot, is T Y with
    T = I - (1 + a) D (Y Y' + a D)^-1, where a is ``share``.  Later ones are T Y with
    T = I - D (X X' + D)^-1 (``"patches"``), y - (y - m) (C + N)^-1 N for each patch y
    (``"values"``), with mean m and covariance C of the pilot's patches and the covariance N of the
    noise of the values, or the mean of both (``"both"``).  A pixel is the average over the patches
    it is in, of weight 1 / clip(sum_j T_ij^2, 1 / k, 1), or 1 for ``"values"``.

    With ``centred``, the mean of each channel of the reference patch, of the pilot where there is
    one, is taken from all patches first, and added afterwards.

    ``guide`` is the plane (Z, H, W) in which similar patches are looked for; ``covariance``, of
    shape (C, 2 r + 1, 2 r + 1), that of the noise of each channel at distances of up to r pixels,
    and ``gain`` the variance of each value relative to it.  ``guide_covariance``, of shape
    (2 s + 1, 2 s + 1), is that of the noise of the guide: what overlapping patches share of it
    makes them look more alike than they are, and is added to their distances.
    """
    noisy, guide, table = noisy.double(), guide.double(), covariance.double()
    size = min(patch, noisy.shape[-2]), min(patch, noisy.shape[-1])
    of_noisy, of_guide = _patches(noisy, size), _patches(guide[None], size)
    of_pilot = None if pilot is None else _patches(pilot.double(), size)
    of_gain = _patches(torch.ones_like(noisy) if gain is None else gain.double(), size)
    excess = None
    if guide_covariance is not None:
        excess = 2 * size[0] * size[1] * guide_covariance.double()[None]
    sums, weights = torch.zeros_like(noisy), torch.zeros_like(guide)
    last = (of_guide.shape[1] - 1, of_guide.shape[2] - 1)
    places_of_references = range(len(guide)), _every(step, last[0]), _every(step, last[1])
    added = _ADDED if table.shape[-1] > 1 else 0.0
    for reference in product(*places_of_references):
        places = _most_like(of_guide, reference, (slices_reach, reach, reach), group, excess)
        at = tuple(places.T)
        source = of_noisy if of_pilot is None else of_pilot
        level = _levels(source[reference], len(noisy)) * centred
        y, x, g = of_noisy[at] - level, source[at] - level, of_gain[at]
        if of_pilot is None:
            denoised, weight = _combine_patches(
                y, x, _between(places, g, table), added, share, 1 + share
            )
        else:
            denoised, weight = _combine_patches(y, x, _between(places, g, table), added, 1, 1)
            if filters != "patches":
                filtered = _filter_values(y, x, _within(size, g, table), added)
                denoised = filtered if filters == "values" else (denoised + filtered) / 2
            if filters == "values":
                weight = torch.ones_like(weight)
        for (z, row, column), values, w in zip(places.tolist(), denoised + level, weight):
            pixels = ..., z, slice(row, row + size[0]), slice(column, column + size[1])
            sums[pixels] += w * values.view(-1, *size)
            weights[pixels] += w
    return sums / weights


def _every(step: int, last: int) -> Iterator[int]:
    """Yield every ``step``-th number from 0 on, and the last."""
    yield from range(0, last, step)
    yield last


def _patches(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the patches of a picture (C, Z, H, W): slices, rows, columns and their values."""
    return x.unfold(-2, size[0], 1).unfold(-2, size[1], 1).permute(1, 2, 3, 0, 4, 5).flatten(3)


def _levels(values: Tensor, channels: int) -> Tensor:
    """Return the mean of its channel for each value of a patch."""
    of_channels = values.view(channels, -1)
    return of_channels.mean(1, keepdim=True).expand_as(of_channels).flatten()


def _most_like(
    patches: Tensor, reference: Any, reach: Any, count: int, excess: Tensor | None
) -> Tensor:
    """Return the places (k, 3) of the patches with the smallest squared distances, itself first.

    Of equal ones, the first in the window are taken.
    """
    first = [max(at - r, 0) for at, r in zip(reference, reach)]
    window = tuple(slice(a, at + r + 1) for a, at, r in zip(first, reference, reach))
    distances = (patches[window] - patches[reference]).square().sum(-1)
    places = torch.cartesian_prod(*map(torch.arange, distances.shape)) + torch.tensor(first)
    distances = distances.flatten()
    offsets = places - torch.tensor(reference)
    if excess is not None:
        distances = distances + _at(excess, offsets)[0]
    distances = distances.clamp(min=_LEAST).where((offsets != 0).any(-1), 0)
    return places[distances.argsort(stable=True)[:count]]


def _at(table: Tensor, offsets: Tensor) -> Tensor:
    """Return covariances (C, ...) at distances (..., 3) in slices, rows and columns."""
    radius = table.shape[-1] // 2
    inside = (offsets[..., 0] == 0) & (offsets[..., 1:].abs() <= radius).all(-1)
    rows, columns = (offsets[..., 1:].clamp(-radius, radius) + radius).unbind(-1)
    return table[:, rows, columns] * inside


def _between(places: Tensor, gain: Tensor, table: Tensor) -> Tensor:
    """Return D, the covariance of the noise between patches, summed over their values."""
    covariance = _at(table, places[:, None] - places).sum(0)
    variance = _at(table, torch.zeros(3, dtype=torch.long))
    of_patch = (gain.view(len(gain), len(table), -1).sum(-1) * variance).sum(-1)
    return (of_patch[:, None] * of_patch).sqrt() * covariance / variance.sum()


def _within(size: tuple[int, int], gain: Tensor, table: Tensor) -> Tensor:
    """Return N, the covariance of the noise between values; channels are independent."""
    places = torch.cartesian_prod(torch.zeros(1, dtype=torch.long), *map(torch.arange, size))
    noise: Tensor = torch.block_diag(*_at(table, places[:, None] - places))  # type: ignore[no-untyped-call]
    level = gain.mean(0).sqrt()
    return level[:, None] * noise * level


def _combine_patches(
    y: Tensor, x: Tensor, noise: Tensor, added: float, share: float, factor: float
) -> tuple[Tensor, Tensor]:
    """Return T Y with T = I - factor D (X X' + share D)^-1, and the weights of the patches."""
    t = torch.eye(len(y), dtype=y.dtype)
    gram = x @ x.T
    t = t - factor * torch.linalg.solve(
        gram + share * noise + _added(gram, added), noise, left=False
    )
    return t @ y, 1 / t.square().sum(1).clamp(1 / len(y), 1)


def _filter_values(y: Tensor, x: Tensor, noise: Tensor, added: float) -> Tensor:
    """Return y - (y - m) (C + N)^-1 N for each patch."""
    mean = x.mean(0)
    covariance = (x - mean).T @ (x - mean) / len(x)
    both = covariance + noise + _added(covariance, added)
    filtered: Tensor = y - torch.linalg.solve(both, y - mean, left=False) @ noise
    return filtered


def _added(matrix: Tensor, share: float) -> Tensor:
    """Return the diagonal matrix that keeps the sum with correlated noise from being singular."""
    return share * matrix.diag().max() * torch.eye(len(matrix), dtype=matrix.dtype)
