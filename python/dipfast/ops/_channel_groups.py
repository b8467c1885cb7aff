"""Tell which channels of a picture show the same things, and are better denoised together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dipfast.ops.scales import halved
from dipfast.settings.noise import NoiseParameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["groups_of_channels"]

# Channels are unrelated if their details correlate by less than this, and neither are there details
# of one where there are details of the other: squares correlate by less than the second number.
# The colours of eight photographs, stained tissue and stars correlate by 0.55 and more, different
# pictures and dyes of different things by less than 0.1, and the squares by less than 0.1 as well.
_RELATED, _RELATED_SQUARES = 0.25, 0.15
# Covariances of unrelated channels are less than so many standard errors.
_BY_CHANCE = 2.0
_COLOURS = 3
# Pictures of so many sizes tell it: of half of the rows and columns, and of a quarter.
_SIZES = 2
# Rows and columns of a smaller picture, at least; fewer do not tell it.
_LEAST_SIZE = 16


def groups_of_channels(
    noisy: Floats, noise: NoiseParameters, gain: Floats | None = None
) -> list[list[int]]:
    r"""Return which channels of a picture are denoised together.

    Channels i and j are related if

    .. math:: c_{ij} \ge 0.25 \sqrt{(c_{ii} - v_i) (c_{jj} - v_j)}, \quad
              c_{ij} \ge 2 \sqrt{c_{ii} c_{jj} / n}

    with the covariances c of n details of smaller pictures along rows and columns, whose noise has
    the variance v; or if their squares correlate by 0.15.  Three channels, which most often are
    the colours of a photograph, are related unless :math:`c_{ij}` is clearly less.  If it is in
    two of them, one that shows nothing but noise does not join these.  A group has all channels
    that are related to another one of it; a channel of one value, such as one that is empty, is
    related to none.

    Parameters
    ----------
    noisy
        The picture or volume, (C, Z, H, W), in units of its range.
    noise
        Its noise.
    gain
        How many times as large the variance of the noise is in each value; None, the default, for
        one.

    Returns
    -------
    list of list of int
        Numbers of channels, each in one group.  Where noise is correlated, or a picture too small
        to tell it, there is one group of all that vary.
    """
    count = len(noisy)
    if count < 2 or (noise.spectrum is not None and len(noise.spectrum) > 1):
        return [list(range(count))]
    # What is the same everywhere would be related to all, and be given a little of them.
    groups = [[k] for k, plane in enumerate(noisy) if not (plane != plane.flat[0]).any()]
    varied = [k for k in range(count) if [k] not in groups]
    too_small = min(noisy.shape[-2:]) < _LEAST_SIZE << _SIZES
    if len(varied) < 2 or noise.is_correlated or too_small:
        return sorted([*groups, varied] if varied else groups)
    related = np.zeros((count, count), bool)
    related[np.ix_(varied, varied)] = _are_related(
        noisy[varied], _variances(noisy, noise, gain)[varied]
    )
    for channel in varied:
        joined = [group for group in groups if any(related[channel, other] for other in group)]
        groups = [group for group in groups if group not in joined]
        groups.append(sorted([channel, *(other for group in joined for other in group)]))
    return sorted(groups)


def _variances(noisy: Floats, noise: NoiseParameters, gain: Floats | None) -> Any:
    """Return the mean variance of the noise of each channel."""
    variances = []
    for channel, plane in enumerate(noisy):
        own = noise.of_channels([channel])
        signal = max(float(plane.mean(dtype=np.float64)) - own.offset, 0.0)
        factor = 1.0 if gain is None else float(gain[channel].mean(dtype=np.float64))
        variances.append(factor * (own.gain * signal + own.sigma**2))
    return np.array(variances)


def _are_related(noisy: Floats, variances: Any) -> Any:
    """Return which channels are related, boolean (C, C)."""
    channels = len(noisy)
    covariance, of_noise, squares = np.zeros((channels, channels)), np.zeros(channels), False
    for size in range(1, _SIZES + 1):
        noisy = halved(noisy)
        details = _details(noisy)
        flat = details.reshape(channels, -1)
        number = flat.shape[1]
        covariance += flat @ flat.T / number
        of_noise += variances / 4**size
        energies = np.square(details).sum(axis=1).reshape(channels, -1)
        least = max(_RELATED_SQUARES, _BY_CHANCE / math.sqrt(energies.shape[1]))
        squares |= _correlation(energies) >= least
    power = np.diag(covariance)
    by_chance = _BY_CHANCE * np.sqrt(np.outer(power, power) / number)
    signal = np.sqrt(np.maximum(power - of_noise, 0))
    least_related = _RELATED * np.outer(signal, signal)
    related = squares | (covariance >= np.maximum(least_related, by_chance))
    if channels != _COLOURS:
        return related
    may_be = squares | (covariance + by_chance >= least_related)
    if may_be.all():
        return may_be
    # A channel of noise alone may be related to any, and would join those that are not.  The
    # variance of a sum of squares is twice that of a sum of products.
    shows = power - of_noise > math.sqrt(2) * np.diag(by_chance)
    return related | (may_be & np.outer(shows, shows))


def _details(x: Floats) -> Any:
    """Return differences along rows and along columns of blocks of two by two pixels.

    The noise of a detail has the variance of that of a pixel.
    """
    rows, columns = (size // 2 * 2 for size in x.shape[-2:])
    first, second = (x[..., i:rows:2, j:columns:2].astype(np.float64) for i, j in ((0, 0), (1, 1)))
    third, fourth = (x[..., i:rows:2, j:columns:2].astype(np.float64) for i, j in ((0, 1), (1, 0)))
    return np.stack([first + third - fourth - second, first + fourth - third - second], axis=1) / 2


def _correlation(x: Any) -> Any:
    """Return correlations of rows; 0 with rows of one value."""
    centred = x - x.mean(axis=1, keepdims=True)
    norms = np.sqrt(np.square(centred).sum(axis=1))
    norms = np.where(norms > 0, norms, math.inf)
    return (centred @ centred.T) / np.outer(norms, norms)
