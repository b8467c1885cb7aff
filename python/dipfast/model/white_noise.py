"""Tell the level of white noise, from details of blocks and from eigenvalues of patches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from dipfast.model.noise import NoiseModel
from dipfast.model.noise_blocks import Blocks, Floats, fine_level
from dipfast.ops.noise_level import all_in_windows, deviation, find_varied

__all__ = ["patch_level", "white_level"]

# Fewer blocks than these give no estimate of a standard deviation.
_FEWEST_BLOCKS = 64
# Patches have about this many values (5x5 pixels of three channels), and up to three channels.
_PATCH_VALUES, _PATCH_CHANNELS = 75, 3
# A covariance is estimated from up to this many patches, because more do not change it noticeably,
# and from at least three times as many patches as a patch has values.
_MOST_PATCHES, _FEWEST_PATCHES_PER_VALUE = 100_000, 3
# If the estimate of joint patches is below this share of that of single channels, the noise of the
# channels is taken to be correlated.
_UNCORRELATED_SHARE = 0.4
# Channels whose noise differs by less than this factor are taken to have the same.  With noise of 5
# to 50 of 255, the estimates for channels of photographs differ by up to 1.14.
_UNEQUAL = 1.2
# Patches where clipping leaves a smaller share of the noise's variance than this are left out.
_LEAST_VARIANCE_SHARE = 0.15


def white_level(channels: Blocks, low: float | None, high: float | None) -> float:
    """Return the standard deviation of white noise, averaged over the channels."""
    if low is None and high is None:
        return fine_level(channels)
    levels = [deviation(details) for _, details in channels]
    # All channels in one estimate, because a single one may be clipped everywhere.
    distances = np.concatenate(
        [
            np.minimum(
                np.inf if low is None else means - low, np.inf if high is None else high - means
            )
            for means, _ in channels
        ]
    )
    details = np.concatenate([details for _, details in channels])
    inside = details[distances > 2.5 * max(levels)]
    # If only a few blocks are far from the ends, noise has carried most of them there, and their
    # standard deviation is biased.
    if len(inside) >= max(_FEWEST_BLOCKS, 0.05 * len(details)):
        return deviation(inside)
    width = None if low is None or high is None else high - low
    return _unclipped_level(distances, details, width)


def patch_level(pixels: Floats, first: NoiseModel, known: Any) -> float:
    """Return the standard deviation of white noise from the eigenvalues of patches.

    The model ``first`` is the first estimate.  A patch has all channels of a group, because their
    texture is correlated.  Where their noise is correlated too, as in grey pictures that are
    stored in colour and in JPEG, such patches have almost no variance in some directions; then
    the estimate is that of patches of one channel.  It is the root mean square over the channels.
    """
    if first.sigma == 0:
        return 0.0
    count = len(pixels)
    # Pixels of constant regions have no noise.
    counted = np.stack(
        [find_varied(x, None if known is None else known[k]) for k, x in enumerate(pixels)]
    )
    if known is not None:
        counted &= known
    alone = [_level_of_group(pixels, first, counted, slice(k, k + 1)) for k in range(count)]
    single = _mean_level(alone)
    joint = None
    if count > 1:
        groups = [slice(k, k + _PATCH_CHANNELS) for k in range(0, count, _PATCH_CHANNELS)]
        levels = [_level_of_group(pixels, first, counted, k, _shares(alone[k])) for k in groups]
        joint = _mean_level([x for k, x in zip(groups, levels) for _ in alone[k]])
    # Where one channel has gaps everywhere, no patch is whole in all of them.
    if joint is None or (single is not None and joint < _UNCORRELATED_SHARE * single):
        joint = single
    return first.sigma if joint is None else joint


def _mean_level(levels: list[float | None]) -> float | None:
    """Return the root mean square of the levels that were found, None without any."""
    squares = [level**2 for level in levels if level is not None]
    return math.sqrt(float(np.mean(squares))) if squares else None


def _shares(levels: list[float | None]) -> Any:
    """Return the noise of channels beside their root mean square, 1 where it may be the same.

    Otherwise the smallest eigenvalues of joint patches would be those of the quietest channel.
    """
    found = np.array([level or 0.0 for level in levels])
    if not found.all() or found.max() < _UNEQUAL * found.min():
        return np.ones(len(levels))
    return found / math.sqrt(float(np.mean(np.square(found))))


def _level_of_group(
    pixels: Floats, first: NoiseModel, counted: Any, group: slice, shares: Any = 1.0
) -> float | None:
    """Return the standard deviation from patches of some channels; None for too few patches.

    The noise of the channels is in the ratio of ``shares``.
    """
    patches = _patches(pixels[group], counted[group])
    scaled = _with_equal_noise(patches, first, shares)
    if len(scaled) < _FEWEST_PATCHES_PER_VALUE * max(scaled.shape[1], 1):
        return None
    eigenvalues = np.linalg.eigvalsh(scaled.T @ scaled / len(scaled)).clip(0)
    # Subtracting the mean of each channel has left one eigenvalue of 0 for each.
    return math.sqrt(_noise_eigenvalue(eigenvalues[patches.shape[1] :]))


def _patches(planes: Floats, counted: Any) -> Floats:
    """Return the patches, of shape (count, channels, pixels).

    Those with values that do not count are left out.  Single patches are not judged, because weak
    noise that is rounded leaves some constant.
    """
    size = int(math.sqrt(_PATCH_VALUES / len(planes)))
    if min(planes.shape[1:]) < size:
        return np.empty((0, len(planes), size**2))
    cut = np.lib.stride_tricks.sliding_window_view(planes, (size, size), axis=(-2, -1))
    step = math.ceil(math.sqrt(cut.shape[1] * cut.shape[2] / _MOST_PATCHES))
    found = cut[:, ::step, ::step].transpose(1, 2, 0, 3, 4)
    whole = all_in_windows(counted.all(axis=0), (size, size))[::step, ::step]
    chosen = found[whole]
    return np.asarray(chosen.reshape(len(chosen), len(planes), size**2), np.float64)


def _with_equal_noise(patches: Floats, model: NoiseModel, shares: Any) -> Floats:
    """Return patches with their means subtracted, scaled to the noise before clipping.

    That of each channel is divided by its share.  It may be done in place.
    """
    means = patches.mean(axis=2)
    scale = np.broadcast_to(shares, means.shape)
    if model.clipped:
        clean = torch.linspace(-0.5, 1.5, 2001, dtype=torch.float64)
        expected, variance = model.expectation(clean).numpy(), model.variance(clean).numpy()
        left = np.interp(means, expected, variance / model.sigma**2)
        whole = (left > _LEAST_VARIANCE_SHARE).all(axis=1)
        if not whole.all():
            patches, means, left = patches[whole], means[whole], left[whole]
        scale = np.sqrt(left) * shares
    patches -= means[:, :, None]
    patches /= scale[:, :, None]
    return patches.reshape(len(patches), patches.shape[1] * patches.shape[2])


def _noise_eigenvalue(eigenvalues: np.ndarray[Any, Any]) -> float:
    """Return the mean of the smallest of ascending eigenvalues, which are those of noise alone.

    It is that of the most eigenvalues whose mean is not above their median: the large
    eigenvalues of texture raise the mean above it.
    """
    for count in range(len(eigenvalues), 1, -1):
        mean = float(eigenvalues[:count].mean())
        if mean <= np.median(eigenvalues[:count]):
            return mean
    return float(eigenvalues[0])


def _unclipped_level(distances: Floats, details: Floats, width: float | None) -> float:
    """Return the standard deviation of noise so strong that it is clipped everywhere.

    The distances are those of the blocks from the nearer end of the range; the other end is
    ``width`` away, or None.  A fixed-point iteration finds the mean and the standard deviation
    before clipping that give those measured after it, in the blocks with the largest distances.
    """
    if not len(distances):
        return 0.0
    farthest = distances >= np.quantile(distances, 0.8)
    mean, spread = float(distances[farthest].mean()), deviation(details[farthest])
    u, sigma = mean, spread
    for _ in range(50 if spread > 0 else 0):
        # The formulas are symmetric, so the nearer end is taken for the dark one.
        model = NoiseModel(sigma, low=0.0, high=width)
        clean = torch.tensor(u, dtype=torch.float64)
        u = min(max(u + mean - float(model.expectation(clean)), 0.0), width or 1.0)
        sigma *= min(spread / math.sqrt(float(model.variance(clean))), 1.5)
        if sigma > 10 * spread:  # clipping has left too little of the noise for an estimate
            return spread
    return sigma
