"""The noise of a picture, from the picture alone."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from dipfast.checks import check_choice
from dipfast.errors import InputError
from dipfast.model.noise import NoiseModel
from dipfast.ops.noise_level import deviation, find_outliers, wavelet_blocks
from dipfast.settings.names import NOISE_KINDS, NoiseKind
from dipfast.settings.noise import LEAST_VARIANCE

__all__ = ["estimate_noise_model"]

# Variance of photons over that of the rest from which on they are believed in: where there were
# none, texture made this 2.4 at most on the nine pictures of the Deep Image Prior paper.
_PHOTONS = 5.0


def estimate_noise_model(
    image: Tensor,
    kind: NoiseKind = "auto",
    *,
    sigma: float | None = None,
    known: Tensor | None = None,
    ends: tuple[float, float] = (0.0, 1.0),
) -> NoiseModel:
    r"""The noise of a picture, from the picture alone.

    Parameters
    ----------
    image
        (C, H, W) in units of a picture in [0, 1].
    kind
        ``"gaussian"``: white noise; ``"clipped"``: white noise, cut off at both ends;
        ``"poisson_gaussian"``: variance affine in the signal, cut off where the histogram
        says so; ``"auto"``: white noise, cut off where it says so, or this if, at medium
        brightness, by far the larger part of the variance comes with the signal.
    sigma
        Its standard deviation (at black), if it is known.
    known
        Boolean, of the shape of the image: which values were measured.
    ends
        Where values may have been cut off.

    Returns
    -------
    NoiseModel

    Raises
    ------
    ValueError
        If the image is not (C, H, W); if it is too small to tell (up to three rows and columns),
        or no known pixels lie side by side, and it is not the same everywhere.

    Notes
    -----
    The histogram says that values are cut off at an end of the range if there are values
    there and none beyond, and they are more than the next levels hold.

    The level is that of the finest diagonal wavelet coefficients
    (:func:`dipfast.ops.estimate_noise`), of places that are dark or bright only as far as
    nothing is cut off there.  For white noise that is a first guess, which takes texture for
    noise.  The level is then the one of the eigenvalues of small patches: texture lives in a few
    directions, noise in all of them, and the largest are left out until mean and median of the
    others agree [2]_.  Where values are cut off, patches are scaled by what that leaves of the
    noise at their brightness.

    For ``"poisson_gaussian"`` the level is found for places of like brightness, and a line
    fitted through the variances ([1]_, without their refinement by maximum likelihood).

    References
    ----------
    .. [1] Foi, Trimeche, Katkovnik, Egiazarian, "Practical Poissonian-Gaussian noise modeling
       and fitting for single-image raw-data", IEEE TIP 17(10), 2008.
    .. [2] Chen, Zhu, Heng, "An efficient statistical method for image noise level estimation",
       ICCV 2015.

    Examples
    --------
    >>> clean = torch.linspace(0, 1, 256).repeat(1, 256, 1)
    >>> generator = torch.Generator().manual_seed(0)
    >>> noisy = NoiseModel(0.1, low=0.0, high=1.0).sample(clean, generator)
    >>> model = estimate_noise_model(noisy)
    >>> round(model.sigma, 2), model.low, model.high
    (0.1, 0.0, 1.0)
    """
    check_choice("noise", kind, NOISE_KINDS)
    if image.ndim != 3:
        raise InputError(
            f"image must have shape (C, H, W), got {tuple(image.shape)}; the noise of each image "
            "of a batch is estimated by itself"
        )
    pixels = image.detach().cpu().double().numpy()
    measured = None if known is None else known.detach().expand(image.shape).cpu().numpy()
    if measured is not None:
        pixels = np.where(measured, pixels, ends[0])  # what stands there has no influence
    outliers = np.stack(
        [
            find_outliers(plane, None if measured is None else measured[channel])
            for channel, plane in enumerate(pixels)
        ]
    )
    if outliers.any():
        measured = ~outliers & (True if measured is None else measured)
    low, high = ends
    beyond_low = beyond_high = kind == "clipped"
    if kind in ("auto", "poisson_gaussian"):
        scaled = (pixels - low) / (high - low)
        beyond_low, beyond_high = (_is_cut_off(x, measured) for x in (scaled, 1 - scaled))
    cuts = low if beyond_low else None, high if beyond_high else None
    if sigma is not None and kind != "poisson_gaussian":
        return NoiseModel(sigma, 0.0, *cuts)
    values = pixels if measured is None else pixels[measured]
    if not values.size or values.min() == values.max():
        return NoiseModel(sigma or 0.0, 0.0, *cuts)
    channels = [
        wavelet_blocks(plane, None if measured is None else measured[channel])
        for channel, plane in enumerate(pixels)
    ]
    if not any(len(details) for _, details in channels):
        raise InputError(
            "too few known pixels of image lie side by side to tell its noise; sigma tells it"
        )
    gain, level = 0.0, sigma
    if kind in ("auto", "poisson_gaussian"):
        gain, level = _affine_variance(channels, *cuts, sigma)
        if kind == "auto" and not _shows_photons(channels, gain, level):
            gain, level = 0.0, None
    if level is None:
        first = NoiseModel(_white_level(channels, *cuts), gain, *cuts)
        level = _patch_level(pixels, first, measured)
        details = _joined(channels)[1]
        if np.mean(details == 0) > _FLAT_SHARE:
            level = min(level, deviation(details))
    return NoiseModel(level, gain, *cuts)


Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
# Brightness and detail of the blocks of each channel.
Blocks: TypeAlias = "list[tuple[Floats, Floats]]"

_LEVEL = 1 / 255
_FEWEST_BLOCKS = 64
# As many values as may be at the end of a range by being the extremes.
_FEWEST_CUT = 4
# Noise leaves next to nothing flat.  Where more than this share is exactly so, as in pages of text
# and drawings, edges are not to be taken for noise.
_FLAT_SHARE = 0.1


def _joined(channels: Blocks) -> tuple[Floats, Floats]:
    means, details = zip(*channels)
    return np.concatenate(means), np.concatenate(details)


def _shows_photons(channels: Blocks, gain: float, level: float) -> bool:
    """Whether by far the larger part of the variance comes with the signal, and few places are
    flat where it should be seen."""
    if gain / 2 <= _PHOTONS * level**2:
        return False
    means, details = _joined(channels)
    seen = gain * means + level**2 > _LEVEL**2
    return bool(np.mean(seen & (details == 0)) <= _FLAT_SHARE)


def _is_cut_off(pixels: Floats, known: Any) -> bool:
    """Whether values pile up at 0."""
    values = pixels if known is None else pixels[known]
    if not values.size or values.min() < 0:
        return False
    at_end = int((values <= _LEVEL / 2).sum())
    # The mean of the next three levels: eight bits have one value in each.
    beside = int(((values > _LEVEL / 2) & (values <= 3.5 * _LEVEL)).sum()) / 3
    return at_end > max(2 * beside, 1e-4 * values.size, _FEWEST_CUT)


def _white_level(channels: Blocks, low: float | None, high: float | None) -> float:
    """The standard deviation, averaged over the channels."""
    levels = [deviation(details) for _, details in channels]
    if low is None and high is None:
        return math.sqrt(float(np.mean(np.square(levels))))
    # All channels together, because some may be dark or bright all over.
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
    # Fewer of them would be those that noise has carried there.
    if len(inside) >= max(_FEWEST_BLOCKS, 0.05 * len(details)):
        return deviation(inside)
    width = None if low is None or high is None else high - low
    return _unclipped_level(distances, details, width)


# Patches of about so many numbers, of no more channels than colours have.
_PATCH_NUMBERS, _PATCH_CHANNELS = 75, 3
# More patches than that change nothing; less than so many times their numbers tell nothing.
_MOST_PATCHES, _FEWEST_PATCHES = 100_000, 3
# Below this share of what single channels say, the channels have noise in common.
_COMMON = 0.4
# Where less of the noise's variance is left by clipping, nothing can be told.
_LEAST_LEFT = 0.15


def _patch_level(pixels: Floats, first: NoiseModel, known: Any) -> float:
    """The standard deviation of white noise by the eigenvalues of patches, from a first guess.

    All channels of a group in one patch: what is texture in one is so in the others.  Where the
    channels have their noise in common, as in grey pictures that are stored in colour and in JPEG,
    such patches hardly vary in some directions; it is then what patches of one channel say.
    """
    if first.sigma == 0:
        return 0.0
    joint = _level_of_groups(pixels, first, known, _PATCH_CHANNELS)
    if len(pixels) > 1:
        single = _level_of_groups(pixels, first, known, 1)
        if joint < _COMMON * single:
            return single
    return joint


def _level_of_groups(pixels: Floats, first: NoiseModel, known: Any, channels: int) -> float:
    variances = []
    for begin in range(0, len(pixels), channels):
        group = slice(begin, begin + channels)
        patches = _patches(pixels[group], None if known is None else known[group])
        scaled = _with_even_noise(patches, first)
        if len(scaled) >= _FEWEST_PATCHES * max(scaled.shape[1], 1):
            eigenvalues = np.linalg.eigvalsh(scaled.T @ scaled / len(scaled)).clip(0)
            # One direction of each channel was lost with its mean.
            variances.append(_flat_part(eigenvalues[patches.shape[1] :]))
    return math.sqrt(float(np.mean(variances))) if variances else first.sigma


def _patches(planes: Floats, known: Any) -> Floats:
    """Those that are known whole, of shape (count, channels, pixels)."""
    size = int(math.sqrt(_PATCH_NUMBERS / len(planes)))
    if min(planes.shape[1:]) < size:
        return np.empty((0, len(planes), size**2))
    windows = np.lib.stride_tricks.sliding_window_view(planes, (size, size), axis=(1, 2))
    step = math.ceil(math.sqrt(windows.shape[1] * windows.shape[2] / _MOST_PATCHES))
    found = windows[:, ::step, ::step].transpose(1, 2, 0, 3, 4)
    whole: Any = np.ones(found.shape[:2], dtype=bool)
    if known is not None:
        windows = np.lib.stride_tricks.sliding_window_view(known, (size, size), axis=(1, 2))
        whole = windows[:, ::step, ::step].all(axis=(0, 3, 4))
    chosen = found[whole]
    return np.asarray(chosen.reshape(len(chosen), len(planes), size**2))


def _with_even_noise(patches: Floats, model: NoiseModel) -> Floats:
    """Patches without their means, scaled to the noise that there was before clipping."""
    means = patches.mean(axis=2)
    left = np.ones_like(means)
    if model.clipped:
        clean = torch.linspace(-0.5, 1.5, 2001, dtype=torch.float64)
        expected, variance = model.expectation(clean).numpy(), model.variance(clean).numpy()
        left = np.interp(means, expected, variance / model.sigma**2)
    whole = (left > _LEAST_LEFT).all(axis=1)
    scaled = (patches[whole] - means[whole, :, None]) / np.sqrt(left[whole, :, None])
    return np.asarray(scaled.reshape(len(scaled), patches.shape[1] * patches.shape[2]))


def _flat_part(eigenvalues: np.ndarray[Any, Any]) -> float:
    """Mean of the smallest of ascending eigenvalues, as many as are spread around it evenly."""
    for count in range(len(eigenvalues), 1, -1):
        mean = float(eigenvalues[:count].mean())
        if mean <= np.median(eigenvalues[:count]):
            return mean
    return float(eigenvalues[0])


def _unclipped_level(distances: Floats, details: Floats, width: float | None) -> float:
    """The standard deviation of noise so strong that it is cut off everywhere.

    The distances are those from an end; the other end is ``width`` away, if it counts.  From mean
    and deviation after clipping, where there is least of it, back to those before.
    """
    if not len(distances):
        return 0.0
    farthest = distances >= np.quantile(distances, 0.8)
    mean, spread = float(distances[farthest].mean()), deviation(details[farthest])
    u, sigma = mean, spread
    for _ in range(50 if spread > 0 else 0):
        # The nearer end may be taken for the dark one.
        model = NoiseModel(sigma, low=0.0, high=width)
        clean = torch.tensor(u, dtype=torch.float64)
        u = min(max(u + mean - float(model.expectation(clean)), 0.0), width or 1.0)
        sigma *= min(spread / math.sqrt(float(model.variance(clean))), 1.5)
        if sigma > 10 * spread:  # next to nothing was left to tell by
            return spread
    return sigma


def _affine_variance(
    channels: Blocks, low: float | None, high: float | None, sigma: float | None
) -> tuple[float, float]:
    """gain and sigma of variance = gain signal + sigma^2."""
    means, details = _joined(channels)
    means, details = means[details != 0], details[details != 0]  # flat, such as a border
    order = np.argsort(means, kind="stable")
    if not len(order):
        return 0.0, sigma or 0.0
    groups = np.array_split(order, max(len(order) // 400, 1))[:4096]
    signal = np.array([means[group].mean() for group in groups])
    spread = np.array([deviation(details[group]) for group in groups])
    # Where values are cut off the variance is smaller than the line.
    whole = np.ones(signal.shape, dtype=bool)
    if low is not None:
        whole &= signal > low + 2 * spread
    if high is not None:
        whole &= signal < high - 2 * spread
    if np.count_nonzero(whole) >= 4:
        signal, spread = signal[whole], spread[whole]
    # Texture makes single groups too high, never too low: weights that do not trust them.
    variance = spread**2
    offset = 0.0 if sigma is None else sigma**2
    gain, constant = 0.0, float(np.median(variance))
    weights = np.ones_like(variance)
    for _ in range(20):
        columns = signal[:, None] if sigma is not None else np.stack([signal, 0 * signal + 1], 1)
        root = np.sqrt(weights)
        target = (variance - offset) * root
        solution = np.linalg.lstsq(columns * root[:, None], target, rcond=None)[0]
        gain = float(solution[0])
        constant = offset if sigma is not None else float(solution[1])
        if gain < 0:  # no photon noise
            gain, constant = 0.0, float(np.median(variance)) if sigma is None else offset
        elif constant < 0:  # nothing but photon noise
            constant = 0.0
            gain = float((weights * signal * variance).sum() / (weights * signal**2).sum())
        fitted = np.maximum(gain * signal + constant, LEAST_VARIANCE)
        weights = 1 / (fitted**2 * (1 + ((variance - fitted) / (0.3 * fitted)).clip(0) ** 2))
    return gain, math.sqrt(constant)
