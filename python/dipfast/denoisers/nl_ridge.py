"""Denoise by non-local ridge regression, with the noise of a measurement."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dipfast import ops
from dipfast.denoisers.blocks import MOST_ELEMENTS, in_blocks
from dipfast.errors import InputError
from dipfast.images.tiles import Tile
from dipfast.model.noise_estimate import fill_from_neighbours
from dipfast.ops.nl_ridge_channels import denoise_channels
from dipfast.ops.nl_ridge_sizes import Report, Ridge
from dipfast.settings.names import Quality
from dipfast.settings.noise import NoiseParameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["GRID", "REACH", "nl_ridge", "nl_ridge_in_blocks", "nl_ridge_of_sigma"]

REACH = 240
"""How many rows and columns away pixels matter by 1e-6 of the range, all sizes together."""

GRID = 240
"""A multiple of every step, four times over: parts that begin there have the same patches as the
whole picture, in all sizes."""


def nl_ridge(
    measurement: Tensor,
    noise: NoiseParameters,
    *,
    outliers: Tensor | None = None,
    speed: Quality = "balanced",
    rounds: int | None = None,
    callback: Callable[[float], object] | None = None,
) -> Tensor:
    """Denoise a measurement by non-local ridge regression (:func:`dipfast.ops.nl_ridge`).

    Parameters
    ----------
    measurement
        The measurement, of shape (1, C, H, W), in units of a picture in [0, 1].
    noise
        Its noise, in the same units.
    outliers
        Which values are wrong, such as hot pixels, boolean, of a shape that broadcasts; they are
        replaced by the median of their neighbours first.  None, the default, for none.
    speed
        ``"fast"``, ``"balanced"``, the default, or ``"best"``.
    rounds
        How many passes to make of each size, as in :func:`dipfast.ops.nl_ridge`; None, the
        default, for all.
    callback
        Called with the share that is done, from 0 to 1, a few times a second; exceptions that it
        raises pass through.

    Returns
    -------
    Tensor
        The denoised image, of the same shape, dtype and device.

    Raises
    ------
    InputError
        If there are several images.
    """
    if len(measurement) != 1:
        raise InputError(
            f"one image is denoised at a time, got {len(measurement)}: a guided fit is of one, and "
            "so is one that is judged by a split where noise is not white"
        )
    pixels = measurement[0].detach().cpu().numpy()
    if outliers is not None and bool(outliers.any()):
        places = outliers.expand(measurement.shape)[0].cpu().numpy()
        pixels = fill_from_neighbours(pixels, places)

    def of_group(part: Floats, own: NoiseParameters, _: None, report: Report) -> Floats:
        return nl_ridge_in_blocks(part[:, 0], own, speed, report, rounds=rounds)[:, None]

    if pixels.size > MOST_ELEMENTS:
        result = denoise_channels(pixels[:, None], noise, of_group, callback=callback)[:, 0]
    else:
        result = ops.nl_ridge(
            pixels, noise=noise, speed=speed, rounds=rounds, channel_axis=0, callback=callback
        )
    return torch.from_numpy(result)[None].to(measurement)


def nl_ridge_in_blocks(
    pixels: Floats,
    noise: NoiseParameters,
    speed: Quality,
    callback: Callable[[float], object] | None = None,
    most: int = MOST_ELEMENTS,
    rounds: int | None = None,
) -> Floats:
    """Denoise a large picture in blocks, in bounded memory.

    Pictures of half and of a quarter of the size are denoised as a whole, or in blocks of their
    own, so that blocks need to look no further than their own passes do.

    Parameters
    ----------
    pixels
        The picture, (C, H, W), in units of a picture in [0, 1].
    noise
        Its noise, in the same units.
    speed
        ``"fast"``, ``"balanced"`` or ``"best"``.
    callback
        Called with the share that is done, from 0 to 1.
    most
        Elements of a block with what is looked at beyond it.
    rounds
        How many passes to make of each size, as in :func:`dipfast.ops.nl_ridge`; None, the
        default, for all.

    Returns
    -------
    numpy.ndarray
        The picture, of the same shape, float32: that of :func:`dipfast.ops.nl_ridge` but for
        rounding, by which patches that are nearly as similar may change places: that is 1e-6 of the
        range at ``"fast"``, and up to 1e-3 in a few of 10,000 pixels otherwise.
    """
    ridge = Ridge((len(pixels), 1, *pixels.shape[-2:]), noise, speed, rounds)

    def denoise_size(
        noisy: Floats, size: int, smaller: Floats | None, gain: None, report: Report
    ) -> Floats:
        of_block = partial(_denoised_block, ridge, size, smaller)
        return in_blocks(noisy[:, 0], of_block, ridge.reach(size), report, most)[:, None]

    return ridge.denoise(pixels[:, None], None, callback, denoise_size)[:, 0]


def _denoised_block(
    ridge: Ridge,
    size: int,
    smaller: Floats | None,
    part: Floats,
    place: Tile,
    report: Report,
) -> Floats:
    """Return a block of one size denoised, with the low frequencies of the smaller picture."""
    low = None
    if smaller is not None:
        top, left = place.row // 2, place.column // 2  # blocks begin at even rows and columns
        low = smaller[:, :, top : top + place.height // 2, left : left + place.width // 2]
    noisy = np.ascontiguousarray(part[:, None], np.float32)
    return ridge.denoise_size(noisy, size, low, callback=report)[:, 0]


def nl_ridge_of_sigma(image: Tensor, sigma: float) -> Tensor:
    """Denoise by fast non-local ridge regression, for methods that denoise inside the loop.

    Parameters
    ----------
    image
        The image, of shape (1, C, H, W), in [0, 1].
    sigma
        Standard deviation of its noise, in units of a picture in [0, 1].

    Returns
    -------
    Tensor
        The denoised image, of the same shape, dtype and device.
    """
    return nl_ridge(image, NoiseParameters(sigma), speed="fast")
