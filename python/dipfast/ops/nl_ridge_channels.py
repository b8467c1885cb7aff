"""Choose which channels of a picture non-local ridge regression denoises together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dipfast.arrays import has_equal_channels
from dipfast.ops._channel_groups import groups_of_channels
from dipfast.ops.nl_ridge_sizes import Report, part_of_progress
from dipfast.settings.noise import NoiseParameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["denoise_channels"]

_Method: TypeAlias = "Callable[[Floats, NoiseParameters, Any, Report], Floats]"


def denoise_channels(
    noisy: Floats,
    noise: NoiseParameters,
    method: _Method,
    gain: Any = None,
    callback: Report = None,
) -> Floats:
    """Denoise the channels of a picture together where they are related, and others alone.

    Of a grey picture that is stored in colour one channel is denoised for all: their noise is not
    independent, but the same.

    Parameters
    ----------
    noisy
        The picture or volume, (C, Z, H, W), in units of its range.
    noise
        Its noise.  A spectrum of several rows says that colour has none, and levels of the channels
        that their noise is not the same.
    method
        What denoises some channels: given these, their noise, their part of ``gain``, and what is
        told the share that is done.
    gain
        How many times as large the variance of the noise is in each value; None, the default, for
        one.
    callback
        Called with the share that is done, from 0 to 1.

    Returns
    -------
    numpy.ndarray
        The picture, of the same shape; the one that was given where it has no noise.
    """
    if noise.is_free:
        if callback is not None:
            callback(1.0)
        return noisy
    of_one = noise.spectrum is None or len(noise.spectrum) == 1
    of_one = of_one and noise.channel_levels is None and has_equal_channels(noisy)
    if of_one and (gain is None or has_equal_channels(gain)):
        one = method(noisy[:1], noise, None if gain is None else gain[:1], callback)
        return one if len(noisy) == 1 else np.repeat(one, len(noisy), axis=0)
    groups = groups_of_channels(noisy, noise, gain)
    if len(groups) == 1:
        return method(noisy, noise, gain, callback)
    result = np.empty(noisy.shape, np.float32)
    done = 0
    for group in groups:
        report = part_of_progress(callback, done, len(group), len(noisy))
        own = None if gain is None else gain[group]
        result[group] = method(noisy[group], noise.of_channels(group), own, report)
        done += len(group)
    return result
