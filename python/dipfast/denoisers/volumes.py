"""Denoise a plane of a stack together with its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dipfast.denoisers.blocks import MOST_ELEMENTS, in_blocks
from dipfast.images.tiles import Tile
from dipfast.model.bootstrap import noisier
from dipfast.model.neighbours import Neighbours
from dipfast.model.noise import NoiseModel
from dipfast.model.noise_estimate import fill_from_neighbours
from dipfast.model.problem import Problem
from dipfast.ops.nl_ridge_channels import denoise_channels
from dipfast.ops.nl_ridge_sizes import Report, Ridge
from dipfast.settings.names import Quality
from dipfast.settings.noise import NoiseParameters

__all__ = ["MOST_OF_VOLUME", "denoise_with_neighbours"]

MOST_OF_VOLUME = MOST_ELEMENTS // 2
"""Elements of a volume that is denoised as a whole: larger ones are cut into blocks."""


def denoise_with_neighbours(
    problem: Problem,
    neighbours: Neighbours,
    speed: Quality = "balanced",
    callback: Callable[[float], object] | None = None,
) -> Tensor:
    """Denoise a plane by non-local ridge regression of the planes around it as a volume.

    Planes of a block are denoised together, and what is made of the others is kept in the block
    until it is asked for.  Of a plane to which noise was added only that plane is denoised, with
    its neighbours as they were measured: their noise is independent of what is not seen of it.

    Parameters
    ----------
    problem
        The plane and its noise.
    neighbours
        The planes around it.
    speed
        ``"fast"``, ``"balanced"``, the default, or ``"best"``.
    callback
        Called with the share that is done, from 0 to 1, a few times a second; exceptions that it
        raises pass through.

    Returns
    -------
    Tensor
        The denoised plane, (1, C, H, W).
    """
    block, place, y = neighbours.block, neighbours.place, problem.measurement
    noise: NoiseModel = problem.noise
    if problem.split is None and problem.held_out is None:
        found = block.take(speed, place)
        if found is None:
            planes = block.pixels(range(len(block.planes)))
            block.keep(speed, _denoised(planes, noise, speed, block.reach, callback))
            found = block.take(speed, place)
            assert found is not None
        elif callback is not None:
            callback(1.0)
        return found.to(y)
    around = neighbours.around
    planes = block.pixels(around)
    own = place - around.start
    planes[own] = y[0]
    if problem.known is not None:  # what is wrong, and what judges a fit
        unseen = ~problem.known.expand(y.shape)[0].cpu().numpy()
        planes[own] = torch.from_numpy(fill_from_neighbours(planes[own].numpy(), unseen))
    model = noise if problem.split is None else noisier(noise, problem.split.ratio)
    return _denoised(planes, model, speed, block.reach, callback)[own : own + 1].to(y)


def _denoised(
    planes: Tensor,
    noise: NoiseParameters,
    speed: Quality,
    reach: int,
    callback: Callable[[float], object] | None,
) -> Tensor:
    """Return planes (K, C, H, W) denoised as a volume."""
    count = len(planes)

    def of_group(volume: Any, own: NoiseParameters, _: None, report: Report) -> Any:
        ridge = Ridge(volume.shape, own, speed, neighbours=reach)

        def denoised(part: Any, _: Tile, report: Report) -> Any:
            block = part.reshape(-1, count, *part.shape[1:])
            return ridge.denoise(block, callback=report).reshape(part.shape)

        pixels = volume.reshape(-1, *volume.shape[2:])
        return in_blocks(pixels, denoised, ridge.reach(0), report, MOST_OF_VOLUME).reshape(
            volume.shape
        )

    volume = np.ascontiguousarray(planes.transpose(0, 1).numpy(), np.float32)
    result = denoise_channels(volume, noise, of_group, callback=callback)
    return torch.from_numpy(result).transpose(0, 1).to(planes.dtype).contiguous()
