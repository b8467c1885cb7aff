"""Denoise by non-local ridge regression, with the noise of a measurement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dipfast import ops
from dipfast.denoisers.blocks import in_blocks
from dipfast.model.noise_estimate import fill_from_neighbours
from dipfast.settings.names import Quality
from dipfast.settings.noise import NoiseParameters

__all__ = ["REACH", "nl_ridge", "nl_ridge_of_sigma"]

REACH = 240
"""How many rows and columns away pixels matter by 1e-6 of the range, all passes together."""


def nl_ridge(
    measurement: Tensor,
    noise: NoiseParameters,
    *,
    outliers: Tensor | None = None,
    speed: Quality = "balanced",
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
    callback
        Called with the share that is done, from 0 to 1, a few times a second; exceptions that it
        raises pass through.

    Returns
    -------
    Tensor
        The denoised image, of the same shape, dtype and device.
    """
    pixels = measurement[0].detach().cpu().numpy()
    if outliers is not None and bool(outliers.any()):
        places = outliers.expand(measurement.shape)[0].cpu().numpy()
        pixels = fill_from_neighbours(pixels, places)

    def denoised(part: Any, report: Callable[[float], object] | None) -> Any:
        return ops.nl_ridge(part, noise=noise, speed=speed, channel_axis=0, callback=report)

    result = in_blocks(pixels, denoised, REACH, callback)
    return torch.from_numpy(result)[None].to(measurement)


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
