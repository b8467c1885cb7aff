"""Tell how strong the noise of each channel is, where it is not the same in all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dipfast.model.noise import NoiseModel
from dipfast.model.noise_blocks import Blocks, Floats
from dipfast.ops.noise_level import deviation
from dipfast.settings.noise import LEAST_VARIANCE

__all__ = ["UNLIKE", "detail_levels", "model_of_channels", "scaled"]

UNLIKE = 1.15
"""Channels whose noise differs by this factor have levels of their own."""

# Blocks of a channel at least: the level of so few is off by a fifteenth by chance.
_FEWEST_BLOCKS = 300


def detail_levels(channels: Blocks, model: NoiseModel | None = None) -> Floats:
    """Return standard deviations of the noise of channels by their finest details.

    Parameters
    ----------
    channels
        Means and details of the blocks of each channel.
    model
        Noise that grows with the signal, as all channels together tell it; None, the default, for
        noise that does not.

    Returns
    -------
    numpy.ndarray
        As multiples of their root mean square, at least a thousandth; all 1 where too few blocks
        tell them, or none has details.
    """
    levels = np.ones(len(channels))
    if len(channels) < 2 or min(len(details) for _, details in channels) < _FEWEST_BLOCKS:
        return levels
    for channel, (means, details) in enumerate(channels):
        expected = 1.0 if model is None else np.sqrt(_variance(model, means))
        levels[channel] = deviation(details / expected)
    root = math.sqrt(float(np.mean(levels**2)))
    return np.maximum(levels / root, 1e-3) if root > 0 else np.ones(len(channels))


def model_of_channels(
    models: Sequence[NoiseModel], brightness: Sequence[float]
) -> NoiseModel | None:
    r"""Return the noise of a picture whose channels were looked at one by one.

    Parameters
    ----------
    models
        The noise of each channel, without a spectrum.
    brightness
        The usual brightness of each.

    Returns
    -------
    NoiseModel or None
        Their noise with levels of the channels, so that each has the variance that it was found to
        have at its brightness; None where the levels do not differ by :data:`UNLIKE`.

    Examples
    --------
    >>> found = model_of_channels([NoiseModel(0.1), NoiseModel(0.7)], [0.5, 0.5])
    >>> round(found.sigma, 3), [round(level, 3) for level in found.channel_levels]
    (0.5, [0.2, 1.4])
    >>> model_of_channels([NoiseModel(0.1), NoiseModel(0.11)], [0.5, 0.5])
    """
    variances = np.array([_variance(*pair) for pair in zip(models, brightness)], np.float64)
    # That of a channel of one value is 0, and says nothing of how the others grow.
    noisy = [(m, v) for m, v in zip(models, variances) if not m.is_free]
    if not noisy:
        return None
    gain = float(np.mean([m.gain / v for m, v in noisy]))
    square = float(np.mean([m.sigma**2 / v for m, v in noisy]))
    growing = [m for m, _ in noisy if m.gain > 0]
    offset = float(np.median([m.offset for m in growing])) if growing else 0.0
    common = NoiseModel(math.sqrt(square), gain, offset=offset)
    squares = [
        0.0 if m.is_free else v / _variance(common, b)
        for m, v, b in zip(models, variances, brightness)
    ]
    if max(squares) < UNLIKE**2 * min(squares):
        return None
    scale = float(np.mean(squares))
    return replace(
        common,
        sigma=common.sigma * math.sqrt(scale),
        gain=gain * scale,
        low=_only([m.low for m, _ in noisy]),
        high=_only([m.high for m, _ in noisy]),
        # One sensor took them all; a single channel may seem to be of an EMCCD by chance.
        excess=min((m.excess for m in growing), default=1.0),
        channel_levels=tuple(math.sqrt(square) for square in squares),
    )


def scaled(pixels: Floats, model: NoiseModel) -> Floats:
    """Return a picture in whose units the noise of all channels is equally strong.

    Parameters
    ----------
    pixels
        The picture, (C, H, W).
    model
        Its noise.

    Returns
    -------
    numpy.ndarray
        Of the same shape; channels without noise stay as they are.
    """
    if model.channel_levels is None:
        return pixels
    levels = np.array(model.channel_levels)
    return pixels / np.where(levels > 0, levels, 1.0)[:, None, None]


def _variance(model: NoiseModel, clean: Any) -> Any:
    """Return the variance of the noise of clean values, before it is cut off."""
    signal = np.maximum(np.asarray(clean) - model.offset, 0.0)
    return np.maximum(model.gain * signal + model.sigma**2, LEAST_VARIANCE)


def _only(ends: Sequence[float | None]) -> float | None:
    """Return the end where values are cut off in any channel; None where in none."""
    return next((end for end in ends if end is not None), None)
