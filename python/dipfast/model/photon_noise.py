"""Tell the noise of photons: how the variance grows with the signal."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import torch

from dipfast.model.noise import NoiseModel
from dipfast.model.noise_blocks import EIGHT_BIT_LEVEL, MOST_FLAT, Blocks, Floats, joined
from dipfast.ops.noise_level import BRIGHTNESS_PIXELS, deviation
from dipfast.settings.noise import LEAST_VARIANCE

__all__ = [
    "LEAST_CUT",
    "VarianceLine",
    "affine_variance",
    "counts_photons",
    "few_photons",
    "is_white_cut_off",
    "shows_photons",
]

# Photon noise is assumed only where its estimated variance is this many times that of the rest.  In
# the nine pictures of the Deep Image Prior paper, which have no photon noise, texture alone makes
# the estimated ratio 2.4 at most.
_PHOTON_RATIO = 5.0
# Blocks of a group at least and on average, and groups at most.
_GROUP, _USUAL_GROUP, _MOST_GROUPS = 64, 400, 4096
# What a line may be off by, as a share of a variance, beside what is by chance; and from where on a
# variance above it is that of texture.
_OF_LINE, _OF_TEXTURE = 0.1, 0.3
# A line is wrong if half of all blocks have more than so many times its variance: of photons in 13
# photographs half have up to 1.4 times, of speckle up to 13.
_FAR_ABOVE = 2.0
# The variance of the square of a median deviation of normal values, times their number.
_OF_MEDIAN = 5.4
# A gain is told from so many standard errors on; an offset, without which the line would be that
# through 0, too.
_TOLD_GAIN, _TOLD_OFFSET = 2.0, 1.5
# Noise is cut off at black only if it is stronger there than this share of a count.
LEAST_CUT = 0.5
# A photon adds one to the variance, to this factor; up to so many photons the variance is that of
# the squares; blocks that differ by more than this times what photons do are none of photons.
_ABOUT_ONE, _FEW_COUNTS, _MOST_SPREAD = 1.25, 6.0, 30.0
# The sum of the fourth powers of the weights of a detail, those of a Daubechies wavelet of order 2
# along rows and columns: what a detail has of the fourth cumulant of a pixel.
_FOURTH_OF_DETAIL = 0.299
# Photons are few where the excess of the fourth moment is this share of the squared variance. What
# it is beside what photons of one size make lies within these bounds (1 for these, 3 for charges of
# an exponential law; edges and texture have 27 and more), and squares of neighbouring details are
# less than this many times what they would be by chance (points of light, as stars, have more).
_FEW_EXCESS, _OF_PHOTONS, _OF_CHARGES, _MOST_IN_CLUSTERS = 0.1, (0.4, 8.0), 3.0, 1.5
# White noise that is cut off at black explains variances if what they are off by is, on average,
# this many times what they may be by chance, and black pixels if those expected are between these
# shares of them.  Of white noise of 15 to 75 of 255 on 19 planes of photographs, made darker, these
# are up to 1.55, and 0.86 to 1.04, and where dark places border on black ones from 0.6 on; of few
# photons with noise of reading they are mostly more.  All details are so many times as strong as
# the usual ones of noise at most.
_OFF_BY_CHANCE, _LEAST_BLACK, _MOST_BLACK, _MOST_BESIDE = 1.6, 0.6, 1.06, 3.0
# Where fewer pixels are black, so little is cut off that variances tell themselves.
_FEW_BLACK = 0.05
# Brightness varies this many times as much (in variance) as by the events alone.
_MORE_THAN_EVENTS = 1.5


@dataclass(frozen=True)
class VarianceLine:
    """Hold what a line through variances tells: gain max(signal - offset, 0) + sigma^2.

    Parameters
    ----------
    gain, sigma, offset, excess
        As in :class:`~dipfast.model.noise.NoiseModel`.
    is_told
        Whether the variance grows clearly; True by default.
    """

    gain: float
    sigma: float
    offset: float = 0.0
    is_told: bool = True
    excess: float = 1.0

    def model(self, low: float | None, high: float | None) -> NoiseModel:
        """Return the noise, with the ends at which it is cut off."""
        return NoiseModel(self.sigma, self.gain, low, high, offset=self.offset, excess=self.excess)


def affine_variance(
    channels: Blocks, low: float | None, high: float | None, sigma: float | None
) -> VarianceLine:
    """Return the line of variance against signal."""
    signal, spread, counts = _spreads(channels)
    if not len(counts):
        return VarianceLine(0.0, sigma or 0.0)
    # Where values are clipped, the variance is below the line.
    whole = np.ones(signal.shape, dtype=bool)
    if low is not None:
        whole &= signal > low + 2 * spread
    if high is not None:
        whole &= signal < high - 2 * spread
    if np.count_nonzero(whole) >= 4:
        signal, spread, counts = signal[whole], spread[whole], counts[whole]
    line = _line(signal, spread**2, sigma, counts)
    return line if sigma is not None else _not_of_the_dark(line, signal, spread**2, counts)


def _not_of_the_dark(
    line: VarianceLine, signal: Floats, variance: Floats, counts: Any
) -> VarianceLine:
    """Return a line, or that of all places where one is told that is right in dark ones alone.

    Noise that grows faster than that of photons, such as speckle, looks like texture above the
    line of the darkest places, where variances are known best.
    """
    expected = line.gain * np.maximum(signal - line.offset, 0) + line.sigma**2
    above = variance > _FAR_ABOVE * expected
    if not line.is_told or counts[above].sum() <= counts.sum() / 2:
        return line
    gain, constant = map(float, np.polyfit(signal, variance, 1, w=np.sqrt(counts)))
    if gain <= 0:
        return line
    if constant >= 0:
        return VarianceLine(gain, math.sqrt(constant))
    return VarianceLine(gain, math.sqrt(float(variance.min())), -constant / gain)


def _spreads(channels: Blocks, *others: Floats) -> tuple[Any, ...]:
    """Return means, median deviations and numbers of groups of blocks of the same brightness.

    Means of others, which are of each block, follow.
    """
    means, details = joined(channels)
    # Blocks that are exactly flat, such as those of a border, have no noise.
    some = details != 0
    means, details = means[some], details[some]
    groups = _groups_of(means, np.argsort(means, kind="stable")) if len(means) else []
    return (
        np.array([means[group].mean() for group in groups]),
        np.array([deviation(details[group]) for group in groups]),
        np.array([len(group) for group in groups]),
        *(np.array([x[some][group].mean() for group in groups]) for x in others),
    )


def _groups_of(means: Floats, order: Any) -> list[Any]:
    """Return blocks, which are in the order of their brightness, in groups of a few hundred.

    Groups are of equal parts of the range, as far as there are enough blocks: the background of a
    picture, however large, tells no more of what brightness adds than what is bright does.
    """
    sorted_means = means[order]
    parts = min(max(len(order) // _USUAL_GROUP, 1), _MOST_GROUPS)
    # From the darkest to the brightest, but for a few.
    first, last = sorted_means[[min(_GROUP, len(order) - 1), max(-_GROUP, -len(order))]]
    ends = np.searchsorted(sorted_means, np.linspace(first, last, parts + 1)[1:-1])
    cuts, begin = [], 0
    for end in ends:
        if end - begin >= _GROUP and len(order) - end >= _GROUP:
            cuts.append(end)
            begin = end
    return np.split(order, cuts)


def shows_photons(channels: Blocks, line: VarianceLine) -> bool:
    """Return whether by far the larger part of the variance comes from the signal.

    It does not if many blocks are flat that are bright enough for their noise to be seen.
    """
    if line.gain * max(1 - line.offset, 0.0) / 2 <= _PHOTON_RATIO * line.sigma**2:
        return False
    means, details = joined(channels)
    seen = line.gain * (means - line.offset) + line.sigma**2 > EIGHT_BIT_LEVEL**2
    return bool(np.mean(seen & (details == 0)) <= MOST_FLAT)


def is_white_cut_off(
    channels: Blocks, low: float, black: Floats, white: Floats, with_outliers: Blocks
) -> bool:
    """Return whether noise is white, and grows with the signal as less of it is cut off at black.

    Variances are those of white noise but for what the share of pixels at an end takes, and dark
    places have as many black pixels as they would have of white noise, or more where they border on
    black ones.

    ``low`` is the value of black, ``black`` and ``white`` are the shares of the pixels around each
    block that are at an end, and ``with_outliers`` are blocks with outliers that may be photons.
    """
    _, details = joined(channels)
    if not details.any() or np.mean(black[details != 0]) < _FEW_BLACK:
        return False
    left = _variance_left(black, white)
    signal, spread, counts, left, black = _spreads(channels, left, black)
    variance, chance = spread**2 / left, _OF_MEDIAN / counts
    textured = _OF_TEXTURE**2 + 2 * chance
    least, level = math.inf, 0.0
    for square in np.geomspace(variance.min(), variance.max(), 60):
        off = variance / max(square, LEAST_VARIANCE) - 1
        # What is above may be texture.
        above = textured * np.log1p(off**2 / textured)
        error = np.average(np.where(off > 0, above, off**2) / (_OF_LINE**2 + chance))
        if error < least:
            least, level = float(error), math.sqrt(square)
    clean = torch.linspace(0, 1, 401, dtype=torch.float64)
    expected = NoiseModel(level, low=0.0).expectation(clean).numpy()
    darkness = np.interp(signal - low, expected, clean.numpy()) / level
    share = np.average([math.erfc(x / math.sqrt(2)) / 2 for x in darkness], weights=counts)
    ratio = share / np.average(black, weights=counts)
    # Where most values have no photon, median deviations are of what else there is.
    is_all = np.mean(joined(with_outliers)[1] ** 2) < _MOST_BESIDE * level**2
    return bool(is_all) and least < _OFF_BY_CHANCE and _LEAST_BLACK < ratio < _MOST_BLACK


def _variance_left(black: Floats, white: Floats) -> Floats:
    """Return the variance of a normal law of variance 1 with such shares cut off at its ends."""
    normal = NormalDist()
    shares = np.linspace(0.0, 1.0, 257)
    ends = np.array([normal.inv_cdf(min(max(share, 1e-6), 1 - 1e-6)) for share in shares])
    low, high = np.interp(black, shares, ends), -np.interp(white, shares, ends)
    beside = [np.exp(-0.5 * end**2) / math.sqrt(2 * math.pi) for end in (low, high)]
    mean = low * black + high * white + beside[0] - beside[1]
    inside = 1 - black - white + low * beside[0] - high * beside[1]
    return np.asarray(np.maximum(low**2 * black + high**2 * white + inside - mean**2, 1e-3))


def counts_photons(channels: Blocks, zero: float, step: float) -> bool:
    """Return whether values are counts of photons, each of which adds one to the variance.

    What the finest differences of a picture of counts have for their variance is the mean count
    around them, from the darkest places to the brightest.
    """
    means, details = joined(channels)
    counts, squares = (means - zero) / step, np.square(details / step)
    usual = squares <= _MOST_SPREAD * (counts + 1)  # no hot pixels and cosmic rays
    if not usual.any():
        return False
    counts, details, squares = counts[usual], details[usual] / step, squares[usual]
    groups = _groups_of(counts, np.argsort(counts, kind="stable"))
    signal = np.array([counts[group].mean() for group in groups])
    variance = np.array(
        [
            # The median is not moved by edges, and is wrong for a few counts.
            squares[group].mean() if mean < _FEW_COUNTS else deviation(details[group]) ** 2
            for group, mean in zip(groups, signal)
        ]
    )
    lit = (signal > 0) & (variance > 0)
    if np.count_nonzero(lit) < 4:
        return False
    sizes = np.array([len(group) for group in groups])
    line = _line(signal[lit], variance[lit], None, sizes[lit])
    is_one = 1 / _ABOUT_ONE < line.gain < _ABOUT_ONE and line.sigma < LEAST_CUT
    # What varies about a level far from 0, such as a dark frame, is told by nothing but its growth.
    return is_one and line.offset < LEAST_CUT and (line.is_told or signal[0] < _FEW_COUNTS)


def few_photons(
    channels: Blocks, gain: float, sigma: float | None, high: float | None
) -> VarianceLine | None:
    """Return the line of noise of so few photons that it is nothing like normal, or None.

    Around values that a photon or two have made, most have none, and a median deviation tells of
    these alone.  Mean squares tell the variance, of edges, too; but only photons make its line and
    the fourth moments agree: with events of size ``a`` the fourth cumulant is ``a`` squared times
    the variance, and ``a`` the gain; with charges of an exponential law, as in an EMCCD, three
    times as much, and the gain is twice the mean charge.

    ``gain`` is that of the median deviations, 0 for none, and ``high`` where values are cut off.
    """
    means, details = joined(channels)
    squares = details**2
    order = np.argsort(means, kind="stable")
    line = VarianceLine(gain, 0.0)
    for _ in range(2):
        if line.gain > 0:  # no hot pixels and cosmic rays
            signal_there = np.maximum(means - line.offset, 0) + line.gain
            order = order[(squares <= _MOST_SPREAD * line.gain * signal_there)[order]]
        if not len(order):
            return None
        groups = _groups_of(means, order)
        signal = np.array([means[group].mean() for group in groups])
        variance = np.array([squares[group].mean() for group in groups])
        fourth = np.array([(squares[group] ** 2).mean() for group in groups]) - 3 * variance**2
        counts = np.array([len(group) for group in groups])
        whole = variance > 0
        if high is not None:
            whole &= signal < high - 2 * np.sqrt(variance)
        if np.count_nonzero(whole) < 4:
            return None
        signal, variance, fourth, counts = (x[whole] for x in (signal, variance, fourth, counts))
        line = _line(signal, variance, sigma, counts)
        if not (line.gain > 0 and line.is_told):
            return None
    of_photons = (variance - line.sigma**2).clip(0) * counts
    excess = float((fourth * counts).sum())
    events = excess / (_FOURTH_OF_DETAIL * line.gain**2 * max(float(of_photons.sum()), 1e-300))
    few = excess > _FEW_EXCESS * float((variance**2 * counts).sum())
    least, most = _OF_PHOTONS
    if not (few and least < events < most):
        return None
    told = line.gain * np.maximum(means - line.offset, 0) + line.sigma**2
    # Hot pixels of one value in a flat picture make the same line, of the brightness they make.
    if means[order].var() < _MORE_THAN_EVENTS * told[order].mean() / BRIGHTNESS_PIXELS:
        return None
    kept = np.zeros(len(means), bool)
    kept[order] = True
    # Every other detail: those side by side have pixels in common.
    pairs = kept[:-2] & kept[2:]
    together = float((squares[:-2] * squares[2:])[pairs].mean())
    by_chance = float((told[:-2] * told[2:])[pairs].mean())
    if together >= _MOST_IN_CLUSTERS * by_chance:
        return None
    return replace(line, excess=_OF_CHARGES if events > math.sqrt(_OF_CHARGES) else 1.0)


def _line(signal: Floats, variance: Floats, sigma: float | None, counts: Any) -> VarianceLine:
    """Return the line through variances of groups of so many blocks."""
    if sigma is not None:
        slope, _ = _fitted(signal[:, None], variance - sigma**2, variance, counts)
        return VarianceLine(max(float(slope[0]), 0.0), sigma)
    columns = np.stack([signal, np.ones_like(signal)], axis=1)
    (gain, constant), errors = _fitted(columns, variance, variance, counts)
    is_told = gain > _TOLD_GAIN * errors[0]
    if gain <= 0:  # no photon noise
        return VarianceLine(0.0, math.sqrt(float(np.median(variance))), is_told=False)
    if constant >= 0:
        return VarianceLine(float(gain), math.sqrt(constant), is_told=is_told)
    # Nothing but photon noise, above the least value or above that of no signal.
    if -constant > _TOLD_OFFSET * errors[1] and is_told:
        # Darker than any group something of the noise is left.
        least = max(gain * signal.min() + constant, 0.0) / 2
        return VarianceLine(float(gain), math.sqrt(least), float((least - constant) / gain))
    slope, _ = _fitted(signal[:, None], variance, variance, counts)
    return VarianceLine(float(slope[0]), 0.0, is_told=is_told)


def _fitted(
    columns: Floats, target: Floats, variance: Floats, counts: Any
) -> tuple[Floats, Floats]:
    """Return coefficients, and their standard errors by chance.

    Texture makes the variance of some groups too large and of none too small: robust weights that
    fall where the variance is above the line.
    """
    beside = variance - target
    # The variance of a variance, as that of a median of squares is, as a share of its square.
    chance = _OF_MEDIAN / counts
    textured = _OF_TEXTURE**2 + 2 * chance
    weights = np.ones_like(variance)
    for _ in range(20):
        root = np.sqrt(weights)
        solution = np.linalg.lstsq(columns * root[:, None], target * root, rcond=None)[0]
        # Below a small share of what is usual nothing is known so well.
        least = max(1e-3 * float(np.median(variance)), LEAST_VARIANCE)
        fitted = np.maximum(columns @ solution + beside, least)
        above = ((variance - fitted) / fitted).clip(0) ** 2 / textured
        weights = 1 / (fitted**2 * (_OF_LINE**2 + chance) * (1 + above))
    pull = np.linalg.pinv((columns * weights[:, None]).T @ columns) @ (columns.T * weights)
    return np.asarray(solution), np.sqrt(pull**2 @ (chance * fitted**2))
