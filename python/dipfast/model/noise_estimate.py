"""Estimate the noise of a picture from the picture alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from dipfast.checks import check_choice
from dipfast.errors import InputError
from dipfast.model.noise import NoiseModel
from dipfast.model.noise_spectrum import Spectrum, find_spectrum, flattest_level
from dipfast.ops.noise_level import (
    deviation,
    find_isolated,
    find_outliers,
    find_varied,
    wavelet_blocks,
)
from dipfast.settings.names import NOISE_KINDS, NoiseKind
from dipfast.settings.noise import LEAST_VARIANCE

__all__ = [
    "JPEG_REMARK",
    "LARGE_PICTURE",
    "NoiseEstimate",
    "estimate_noise",
    "estimate_noise_model",
    "fill_from_neighbours",
    "isolated_outliers",
]

LARGE_PICTURE = 1 << 21
"""Pixels of a channel above which the noise is estimated, and judged, from parts of a picture."""

JPEG_REMARK = "fine details look removed, as by JPEG: there may be more noise where there is detail"
"""Remark about a picture that is quantised."""

# Photon noise is assumed only where its estimated variance is this many times that of the rest.  In
# the nine pictures of the Deep Image Prior paper, which have no photon noise, texture alone makes
# the estimated ratio 2.4 at most.
_PHOTON_RATIO = 5.0


@dataclass(frozen=True, eq=False)
class NoiseEstimate:
    """Hold what a picture tells about its noise; numbers are in units of a picture in [0, 1].

    Parameters
    ----------
    model
        The noise.
    interval
        Ends of the interval in which the standard deviation lies in nine of ten random choices of
        parts of the picture (bootstrap).  It says nothing of what misleads the estimate
        everywhere, such as texture.
    levels
        The standard deviation according to each of several estimators, by name:
        ``"wavelets"``, the finest diagonal details; ``"patches"``, the smallest eigenvalues of
        patches; ``"flat blocks"``, the flattest blocks at all frequencies.
    outliers
        Which values are outliers that stand alone, boolean (C, H, W); None where there are none.
    stripes
        Standard deviations of offsets of whole rows and of whole columns, from 0 up.
    quantised
        Whether the picture looks as if JPEG had taken details away.
    remarks
        What a user should know, in words.
    seen
        The standard deviation that the picture tells, where another one was told and the two were
        compared; None, the default, elsewhere.
    """

    model: NoiseModel
    interval: tuple[float, float]
    levels: dict[str, float] = field(default_factory=dict)
    outliers: Tensor | None = None
    stripes: tuple[float, float] = (0.0, 0.0)
    quantised: bool = False
    remarks: tuple[str, ...] = ()
    seen: float | None = None

    @property
    def outlier_share(self) -> float:
        """The share of the values that are outliers."""
        return 0.0 if self.outliers is None else float(self.outliers.float().mean())


def estimate_noise_model(
    image: Tensor,
    kind: NoiseKind = "auto",
    *,
    sigma: float | None = None,
    known: Tensor | None = None,
    ends: tuple[float, float] = (0.0, 1.0),
) -> NoiseModel:
    """Return the model of :func:`estimate_noise` alone; the arguments are the same."""
    return estimate_noise(image, kind, sigma=sigma, known=known, ends=ends).model


# A channel with a larger share of black and white pixels than this does not tell of the noise,
# where another one has a share below the second number.
_CLIPPED_CHANNEL, _USABLE_CHANNEL = 0.3, 0.1


def estimate_noise(
    image: Tensor,
    kind: NoiseKind = "auto",
    *,
    sigma: float | None = None,
    known: Tensor | None = None,
    ends: tuple[float, float] = (0.0, 1.0),
    compares: bool = False,
) -> NoiseEstimate:
    r"""Estimate the noise of a picture from the picture alone.

    Parameters
    ----------
    image
        The picture, of shape (C, H, W), in units of a picture in [0, 1].
    kind
        ``"gaussian"``: white noise; ``"clipped"``: white noise, clipped at both ends of the
        range; ``"poisson_gaussian"``: variance affine in the signal, clipped at the ends where
        the histogram shows clipping; ``"correlated"``: coarse noise, whose strength depends on
        the spatial frequency, as demosaicking, resampling and JPEG leave it; ``"auto"``, the
        default: ``"correlated"`` where the flattest parts of the picture look like that;
        ``"poisson_gaussian"`` if, at medium brightness, by far the larger part of the variance
        comes from the signal; else white noise, clipped where the histogram shows it.
    sigma
        Standard deviation of the noise at black, if it is known; None estimates it.
    known
        Which values were measured: boolean, of a shape that broadcasts to that of the image;
        None for all.
    ends
        The ends of the range, at which values may have been clipped; (0, 1) for a picture in
        [0, 1].
    compares
        Whether to compare a sigma that is told with what the picture tells, for
        :attr:`NoiseEstimate.seen`; False by default.  It does not change the sigma.  Where it is
        far above what the picture tells, the noise is not taken for clipped, because the model
        would explain brightness by noise that is not there.  No sigma is compared for
        ``"poisson_gaussian"``, where it is only a part of the noise.

    Returns
    -------
    NoiseEstimate
        The noise, and how sure that is.

    Raises
    ------
    ValueError
        If the kind is unknown, or the image is not of shape (C, H, W); if the image is not
        constant and has at most three rows and columns, or no known pixels lie side by side, so
        that its noise cannot be estimated.

    Notes
    -----
    The histogram shows clipping at an end of the range if there are values at the end and none
    beyond, and clearly more of them than at the next levels.  At black it is none if the noise of
    what is black is less than half of a count: that of photons, of which none is lost there.

    For white noise, a first estimate of the level is that of the finest diagonal wavelet
    coefficients (:func:`dipfast.ops.estimate_noise`), without places that are so dark or bright
    that their noise is clipped.  It takes texture for noise.  The final estimate comes from
    principal component analysis of small patches: texture has variance in a few directions, noise
    in all of them, and the largest eigenvalues of the covariance are left out until mean and
    median of the others agree [2]_.  Where the noise is clipped, patches are divided by the share
    of its standard deviation that clipping leaves at their brightness.

    Coarse noise is that of the flattest blocks of 16x16 pixels
    (:func:`~dipfast.model.noise_spectrum.find_spectrum`).

    The noise of a picture of more than two million pixels is that of strips of 64 rows that are
    spread evenly; outliers are looked for everywhere.

    For ``"poisson_gaussian"`` the level is estimated for groups of places of similar brightness,
    and a line is fitted to their variances ([1]_, without their refinement by maximum
    likelihood).  Where it is 0 above the end of the range, that is the offset; ``"auto"`` takes no
    gain of less than two standard errors.  Where a picture has few levels, and each adds one to
    the variance, these are counts of photons, with nothing but their own noise.

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
    >>> model = estimate_noise(noisy).model
    >>> round(model.sigma, 2), model.low, model.high
    (0.1, 0.0, 1.0)
    """
    check_choice("noise", kind, NOISE_KINDS)
    if image.ndim != 3:
        raise InputError(
            f"image must have shape (C, H, W), got {tuple(image.shape)}; the noise of each image "
            "of a batch is estimated by itself"
        )
    if image.dtype == torch.float32:  # as the pixels at the ends were rounded
        ends = float(np.float32(ends[0])), float(np.float32(ends[1]))
    pixels = _pixels(image)
    measured = None if known is None else known.detach().expand(image.shape).cpu().numpy()
    if measured is not None:
        # Unknown values may be anything, also NaN; any constant keeps them out of the estimate.
        pixels = np.where(measured, pixels, ends[0])
    outliers, isolated = _defects(pixels, measured)
    whole = pixels
    if outliers.any():
        whole = fill_from_neighbours(pixels, outliers)
        measured = ~outliers & (True if measured is None else measured)
    known_whole = None if known is None else measured | outliers
    telling = _telling(pixels, measured, ends)
    told_whole = whole[telling]
    told = [None if x is None else x[telling] for x in (measured, known_whole)]
    cuts = _cuts(pixels, measured, kind, ends)
    given = pixels[telling], told_whole, told[0], told[1], kind, cuts
    seen = None
    if compares and sigma is not None and kind != "poisson_gaussian":
        model, levels, spectrum, seen = _compared(given, sigma, ends)
    else:
        model, levels, spectrum = _model(*given, sigma, ends)
    if model.spectrum is not None and 1 < len(model.spectrum) < len(pixels):
        # That of some channels is taken for that of all.
        row = np.sqrt(np.square(model.spectrum).mean(axis=0))
        model = replace(model, spectrum=(tuple(map(float, row)),))
    if spectrum is not None and spectrum.quantised:
        isolated = None  # what JPEG leaves of an edge stands alone, too
    if isolated is not None and spectrum is None:  # coarse noise does not stand alone
        isolated = _beyond_noise(isolated, pixels, whole, model)
    interval, stripes = (model.sigma, model.sigma), (0.0, 0.0)
    if known is None:  # gaps have edges of their own
        interval = interval if sigma is not None else _interval(told_whole, model)
        stripes = _stripes(told_whole), _stripes(told_whole.transpose(0, 2, 1))
    return NoiseEstimate(
        model,
        interval,
        levels,
        None if isolated is None else torch.from_numpy(isolated),
        stripes,
        spectrum is not None and spectrum.quantised,
        _remarks(model, levels, stripes, spectrum),
        seen,
    )


def _telling(pixels: Floats, measured: Any, ends: tuple[float, float]) -> Any:
    """Return which channels tell of the noise: those that vary, and are not black or white.

    One that is empty, or clipped in so many pixels that few blocks are without gaps, would hide the
    noise of the others.  Where all are like that, all tell.
    """
    if len(pixels) == 1:
        return np.ones(1, bool)
    shares = []
    for values in _values(pixels, measured):
        at_end = (values <= ends[0]) | (values >= ends[1])
        shares.append(float(at_end.mean()) if _vary(values) else 1.0)
    least = min(shares)
    limit = _CLIPPED_CHANNEL if least < _USABLE_CHANNEL else max(least, 0.99)
    return np.asarray([share <= limit for share in shares])


def _cuts(
    pixels: Floats, measured: Any, kind: NoiseKind, ends: tuple[float, float]
) -> tuple[float | None, float | None]:
    """Return the ends of the range at which the noise is clipped, None where it is not.

    A channel that is mostly clipped tells that, too, and one of a single value tells nothing.
    """
    low, high = ends
    clipped_low = clipped_high = kind == "clipped"
    if kind in ("auto", "poisson_gaussian", "correlated"):
        vary = [_vary(values) for values in _values(pixels, measured)]
        chosen = np.array(vary) if any(vary) else np.ones(len(pixels), bool)
        scaled = (np.concatenate(_strips(pixels[chosen]), axis=1) - low) / (high - low)
        known = None if measured is None else measured[chosen]
        counted = None if known is None else np.concatenate(_strips(known), axis=1)
        clipped_low, clipped_high = (_is_clipped(x, counted) for x in (scaled, 1 - scaled))
    return low if clipped_low else None, high if clipped_high else None


def _values(pixels: Floats, measured: Any) -> list[Any]:
    """Return the values of each channel that were measured."""
    return [x if measured is None else x[measured[k]] for k, x in enumerate(pixels)]


def _vary(values: Any) -> bool:
    """Return whether there are different values."""
    return bool(values.size and values.min() < values.max())


def isolated_outliers(image: Tensor, noise: NoiseModel | None = None) -> Tensor | None:
    """Return which values of a picture are outliers that stand alone, such as hot pixels.

    Parameters
    ----------
    image
        The picture, (C, H, W).
    noise
        The noise, which explains some of them; None, the default, where that is not asked.

    Returns
    -------
    Tensor or None
        Boolean, (C, H, W); None where there are none, or more than defects of a sensor would be.
    """
    pixels = _pixels(image)
    outliers, isolated = _defects(pixels, None)
    if isolated is not None and noise is not None and not noise.is_correlated:
        around = fill_from_neighbours(pixels, outliers)
        isolated = _beyond_noise(isolated, pixels, around, noise)
    return None if isolated is None else torch.from_numpy(isolated)


def fill_from_neighbours(pixels: Any, places: Any) -> Any:
    """Return a picture with some values replaced by the median of their neighbours.

    Parameters
    ----------
    pixels
        The picture, an array of floats, (C, H, W).
    places
        The values to replace, boolean, of the same shape; as neighbours they do not count.

    Returns
    -------
    numpy.ndarray
        A copy, of the same dtype; values without other neighbours are as they were.
    """
    result = pixels.copy()
    found = np.argwhere(places)
    for begin in range(0, len(found), _AT_A_TIME):
        channel, row, column = found[begin : begin + _AT_A_TIME].T
        around = []
        for i, j in ((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
            rows = _reflected(row + i, pixels.shape[1])
            beside = channel, rows, _reflected(column + j, pixels.shape[2])
            around.append(np.where(places[beside], np.nan, pixels[beside]))
        near = np.stack(around)
        alone = np.isnan(near).all(axis=0)
        near[:, alone] = pixels[channel, row, column][alone]
        result[channel, row, column] = np.nanmedian(near, axis=0)
    return result


def _reflected(index: Any, size: int) -> Any:
    """Return indices from -1 to size as those of a picture that is reflected at its border."""
    inside = np.abs(index)
    return np.maximum(np.where(inside >= size, 2 * size - 2 - inside, inside), 0)


def _pixels(image: Tensor) -> Any:
    """Return a picture as an array: in float64, or as it is if it is large, to save memory."""
    pixels = image.detach().cpu()
    is_large = image[0].numel() > LARGE_PICTURE and pixels.dtype == torch.float32
    return (pixels if is_large else pixels.double()).numpy()


def _strips(plane: Any) -> list[Any]:
    """Return strips of rows, spread evenly, of the last two axes of a large picture.

    Of any other it is the whole.
    """
    rows, columns = plane.shape[-2:]
    if rows * columns <= LARGE_PICTURE or rows < 2 * _STRIP:
        return [plane]
    count = min(max(_SAMPLED_PIXELS // (_STRIP * columns), 1), rows // _STRIP)
    starts = np.linspace(0, rows - _STRIP, count).round().astype(int)
    return [plane[..., start : start + _STRIP, :] for start in starts]


def _middle(plane: Any, most: int) -> Any:
    """Return the middle of a plane, of so many rows and columns at most."""
    rows, columns = (max(n - most, 0) // 2 for n in plane.shape)
    return plane[rows : rows + most, columns : columns + most]


def _defects(pixels: Floats, known: Any) -> tuple[Any, Any]:
    """Return which values are outliers, and which of them stand alone, or None for these."""
    outliers = np.zeros(pixels.shape, dtype=bool)
    isolated = np.zeros(pixels.shape, dtype=bool)
    for channel, plane in enumerate(pixels):
        of_plane = None if known is None else known[channel]
        outliers[channel] = find_outliers(plane, of_plane)
        isolated[channel] = find_isolated(plane, outliers[channel], of_plane)
    some = isolated.any() and isolated.mean() <= _MOST_OUTLIERS
    return outliers, isolated if some else None


def _beyond_noise(isolated: Any, pixels: Floats, around: Floats, model: NoiseModel) -> Any:
    """Return which outliers that stand alone the noise does not explain, or None for none.

    ``around`` has what is around them in their place.
    """
    signal = np.maximum(around[isolated] - model.offset, 0.0)
    away = np.abs(pixels[isolated] - around[isolated])
    deviation_there = np.sqrt(model.sigma**2 + model.gain * signal)
    isolated[isolated] = away > _LEAST_EXCESS * deviation_there + _LEAST_PHOTONS * model.gain
    return isolated if isolated.any() else None


def _model(
    pixels: Floats,
    whole: Floats,
    measured: Any,
    known: Any,
    kind: NoiseKind,
    cuts: tuple[float | None, float | None],
    sigma: float | None,
    ends: tuple[float, float],
) -> tuple[NoiseModel, dict[str, float], Spectrum | None]:
    """Return the noise, the standard deviations by estimator, and the spectrum if it is coarse.

    ``whole`` are the pixels with outliers replaced, ``known`` which of them were measured, and
    ``cuts`` where the noise is clipped.
    """
    low, high = ends
    among: Any = True if measured is None else measured
    least, most = pixels.min(initial=np.inf, where=among), pixels.max(initial=-np.inf, where=among)
    if least >= most:
        return NoiseModel(sigma or 0.0, 0.0, *cuts), {}, None
    spectrum = None
    if kind in ("auto", "correlated"):
        spectrum = find_spectrum(whole, known, ends, always=kind == "correlated")
    if spectrum is not None:
        channels = _blocks_of(pixels, measured)
        flat = _FLAT_SHARE_OF_JPEG if spectrum.quantised else _FLAT_SHARE
        fine = _fine_level(channels)
        coarse = spectrum.sigma > _MOST_COARSE * fine
        if kind == "auto" and (coarse or _flat_share(channels) > flat):
            spectrum = None  # a page of text, a drawing or a pattern
    if spectrum is not None:
        rows = tuple(tuple(level / spectrum.sigma for level in row) for row in spectrum.levels)
        level = spectrum.sigma if sigma is None else sigma
        levels = {
            "wavelets": fine,
            "flat blocks": spectrum.sigma,
        }
        return NoiseModel(level, 0.0, *cuts, spectrum=rows), levels, spectrum
    if sigma is not None and kind != "poisson_gaussian":
        return NoiseModel(sigma, 0.0, *cuts), {}, None
    channels = _blocks_of(pixels, measured)
    if not any(len(details) for _, details in channels):
        raise InputError(
            "too few known pixels of image lie side by side to tell its noise; sigma tells it"
        )
    gain, offset = 0.0, 0.0
    of_white: float | None = sigma
    step = _least_gap(pixels if measured is None else pixels[measured])
    are_few = step > 1.5 * _LEVEL * (most - least)
    may_grow = kind in ("auto", "poisson_gaussian")
    if (
        # With a margin around the values, zero is no place where there are no photons.
        (may_grow and not sigma and low < step / 2)
        and (are_few and most - low > 2.5 * step)  # not a drawing of two or three levels
        and _counts_photons(channels, low, step)
    ):
        return NoiseModel(0.0, step, None, cuts[1]), {}, None
    if may_grow:
        # Of a few counts the median deviation is wrong, as where noise is cut off.
        line = _affine_variance(channels, low if are_few else cuts[0], cuts[1], sigma)
        gain, of_white, offset = line.gain, line.sigma, line.offset
        if kind == "auto" and not (line.is_told and _shows_photons(channels, line)):
            gain, of_white, offset = 0.0, None, 0.0
    levels = {}
    if of_white is None:
        first = NoiseModel(_white_level(channels, *cuts), gain, *cuts)
        of_white = _patch_level(pixels, first, measured)
        details = _joined(channels)[1]
        levels = {"wavelets": first.sigma, "patches": of_white}
        if _flat_share(channels) > _FLAT_SHARE:
            of_white = min(of_white, deviation(details))
        if 0 < of_white < _WEAK * (high - low):
            flattest = flattest_level(whole, known, ends)
            if flattest is not None:
                levels["flat blocks"] = flattest
                of_white = min(of_white, flattest)
    # Where there is no light there is next to no noise of photons: none of it is cut off.
    cut = cuts[0] if kind == "clipped" or of_white >= _LEAST_CUT * max(gain, step) else None
    return NoiseModel(of_white, gain, cut, cuts[1], offset=offset), levels, None


def _compared(
    given: tuple[Floats, Floats, Any, Any, NoiseKind, tuple[float | None, float | None]],
    sigma: float,
    ends: tuple[float, float],
) -> tuple[NoiseModel, dict[str, float], Spectrum | None, float | None]:
    """Return what :func:`_model` does for a sigma, and what the picture tells instead of it."""
    try:
        found, levels, spectrum = _model(*given, None, ends)
    except InputError:  # too few pixels: nothing to compare with
        return *_model(*given, sigma, ends), None
    seen = 0.0 if found.is_free else math.sqrt(found.typical_variance)
    model = replace(found, sigma=sigma, gain=0.0, offset=0.0)
    if given[4] != "clipped" and sigma > _MOST_ABOVE_SEEN * seen:
        model = replace(model, low=None, high=None)
    # Levels of white noise are those of an estimate, which the model is not made of.
    return model, {} if spectrum is None else levels, spectrum, seen


def _blocks_of(pixels: Floats, known: Any) -> Blocks:
    """Return means and details of the blocks of each channel."""
    channels = []
    for channel, plane in enumerate(pixels):
        strips = _strips(plane)
        of_known = [None] * len(strips) if known is None else _strips(known[channel])
        blocks = [wavelet_blocks(*pair) for pair in zip(strips, of_known)]
        channels.append(blocks[0] if len(blocks) == 1 else _joined(blocks))
    return channels


def _flat_share(channels: Blocks) -> float:
    """Return the share of blocks that are exactly flat."""
    details = _joined(channels)[1]
    return float(np.mean(details == 0)) if details.size else 0.0


def _fine_level(channels: Blocks) -> float:
    """Return the standard deviation of white noise by the finest wavelet coefficients.

    It is the root mean square over the channels, without those that have no block, which tell
    nothing.
    """
    levels = [deviation(details) for _, details in channels if len(details)]
    return math.sqrt(float(np.mean(np.square(levels)))) if levels else 0.0


def _interval(pixels: Floats, model: NoiseModel) -> tuple[float, float]:
    """Return the ends of an interval of the standard deviation, by bootstrap over tiles."""
    tiles = [
        tile
        for plane in pixels
        for part in np.array_split(plane, _TILES, axis=0)
        for tile in np.array_split(part, _TILES, axis=1)
        if min(tile.shape) >= 2 * _SMALLEST_TILE
    ]
    if pixels[0].size > LARGE_PICTURE:
        tiles = [_middle(tile, _LARGEST_TILE) for tile in tiles]
    found = np.array([np.square(deviation(wavelet_blocks(tile)[1])) for tile in tiles])
    found = found[found > 0]
    if len(found) < _TILES or model.sigma == 0:
        return model.sigma, model.sigma
    generator = np.random.default_rng(0)
    chosen = generator.choice(found, (_RESAMPLES, len(found)))
    low, high = np.quantile(np.median(chosen, axis=1) / np.median(found), (0.05, 0.95))
    return model.sigma * math.sqrt(low), model.sigma * math.sqrt(high)


def _stripes(planes: Floats) -> float:
    """Return the standard deviation of offsets of whole rows; 0 where they do not stand out."""
    levels = []
    for plane in planes:
        if min(plane.shape) < _SMALLEST_TILE:
            return 0.0
        if plane.size > LARGE_PICTURE:
            plane = _middle(plane, _STRIPES_OF)
        plane = plane.astype(np.float64, copy=False)
        # What rows differ by from the mean of the rows above and below.
        differences = plane[1:-1] - (plane[:-2] + plane[2:]) / 2
        spread = np.median(np.abs(differences)) / 0.6745
        # Means of what is no edge, and not medians, which are whole numbers in counts.
        middle = differences.clip(-3 * spread, 3 * spread).mean(axis=1)
        by_chance = spread**2 / plane.shape[1]
        typical = (np.median(np.abs(middle - np.median(middle))) / 0.6745) ** 2
        levels.append(max(typical - _STRIPES_BY_CHANCE * by_chance, 0.0) / 1.5)
    return math.sqrt(float(np.mean(levels)))


def _remarks(
    model: NoiseModel,
    levels: dict[str, float],
    stripes: tuple[float, float],
    spectrum: Spectrum | None,
) -> tuple[str, ...]:
    """Return what a user should know."""
    remarks = []
    known = [level for level in levels.values() if level > 0]
    if spectrum is None and len(known) > 1 and max(known) > _DISAGREEMENT * min(known):
        remarks.append("the estimates disagree, so the noise cannot be told well; sigma tells it")
    if spectrum is not None and spectrum.quantised:
        remarks.append(JPEG_REMARK)
    for level, name in zip(stripes, ("rows", "columns")):
        if level > _TOLD_STRIPES * max(math.sqrt(model.typical_variance), _LEVEL):
            remarks.append(f"whole {name} are offset: stripes")
    return tuple(remarks)


# The noise of a large picture is that of strips of so many rows, which have about so many pixels.
_SAMPLED_PIXELS, _STRIP = 1 << 20, 64
# Then tiles of the bootstrap have so many rows and columns at most, and the part of the picture
# that stripes are looked for in.
_LARGEST_TILE, _STRIPES_OF = 256, 1024
# So many outliers are compared with their neighbours at a time, for the sake of memory.
_AT_A_TIME = 1 << 16
# A value that stands alone is an outlier from so many standard deviations of the noise on, which
# few values of noise reach, of photons neither.
_LEAST_EXCESS = 6.0
# Where it is dark, counts of photons have longer tails than a normal law of the same variance: the
# charges that an EMCCD makes of one photon are 14 times their mean in one of a million.
_LEAST_PHOTONS = 7.0
# More outliers than this share are no defects of a sensor.
_MOST_OUTLIERS = 0.05
# The bootstrap: rows and columns of tiles, the least rows and columns of one, and the resamples.
_TILES, _SMALLEST_TILE, _RESAMPLES = 6, 16, 500
# Rows differ by chance; stripes are assumed if they do so this many times as much (in variance).
_STRIPES_BY_CHANCE = 3.0
# Stripes are told if they are this share of the noise, and of a level of eight bits.
_TOLD_STRIPES = 0.2
# Texture is taken for noise where there is little of that: below this share of the range the level
# is at most that of the flattest blocks.
_WEAK = 8 / 255
# No camera takes more fine noise out: of more than 60 pictures of them, down to JPEG of quality 50,
# the whole noise was up to 8 times the finest.
_MOST_COARSE = 20.0
# A sigma of more than this many times what the picture tells is not that of noise that was clipped.
_MOST_ABOVE_SEEN = 1.5
# Estimates that differ by more than this factor contradict each other.
_DISAGREEMENT = 2.0


Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
# For each channel the means and the diagonal wavelet coefficients of its blocks.
Blocks: TypeAlias = "list[tuple[Floats, Floats]]"

# One level of eight bits.
_LEVEL = 1 / 255
# Blocks of a group at least and on average, and groups at most.
_GROUP, _USUAL_GROUP, _MOST_GROUPS = 64, 400, 4096
# What a line may be off by, as a share of a variance, beside what is by chance; and from where on a
# variance above it is that of texture.
_OF_LINE, _OF_TEXTURE = 0.1, 0.3
# The variance of the square of a median deviation of normal values, times their number.
_OF_MEDIAN = 5.4
# A gain is told from so many standard errors on; an offset, without which the line would be that
# through 0, too.
_TOLD_GAIN, _TOLD_OFFSET = 2.0, 1.5
# Noise is cut off at black only if it is stronger there than this share of a count.
_LEAST_CUT = 0.5
# A photon adds one to the variance, to this factor; up to so many photons the variance is that of
# the squares; blocks that differ by more than this times what photons do are none of photons.
_ABOUT_ONE, _FEW_COUNTS, _MOST_SPREAD = 1.25, 6.0, 30.0
# Values that are compared to find their levels.
_MOST_COMPARED = 1 << 16
# Fewer blocks than these give no estimate of a standard deviation.
_FEWEST_BLOCKS = 64
# Clipping is assumed only if more values than these are at the end of the range: a few are there
# in any picture, as its least and greatest values.
_FEWEST_CLIPPED = 4
# Noise leaves few blocks flat.  If more than this share of the blocks are exactly flat, as in pages
# of text and drawings, the details of the others are edges and not noise.
_FLAT_SHARE = 0.1
# JPEG leaves more of them flat: of 15 photographs, up to 0.43.
_FLAT_SHARE_OF_JPEG = 0.5


def _joined(channels: Blocks) -> tuple[Floats, Floats]:
    """Return means and details of the blocks of all channels in two arrays."""
    means, details = zip(*channels)
    return np.concatenate(means), np.concatenate(details)


@dataclass(frozen=True)
class _Line:
    """Hold what a line through variances tells: gain max(signal - offset, 0) + sigma^2.

    ``is_told`` is whether the variance grows clearly.
    """

    gain: float
    sigma: float
    offset: float = 0.0
    is_told: bool = True


def _shows_photons(channels: Blocks, line: _Line) -> bool:
    """Return whether by far the larger part of the variance comes from the signal.

    It does not if many blocks are flat that are bright enough for their noise to be seen.
    """
    if line.gain * max(1 - line.offset, 0.0) / 2 <= _PHOTON_RATIO * line.sigma**2:
        return False
    means, details = _joined(channels)
    seen = line.gain * (means - line.offset) + line.sigma**2 > _LEVEL**2
    return bool(np.mean(seen & (details == 0)) <= _FLAT_SHARE)


def _is_clipped(pixels: Floats, known: Any) -> bool:
    """Return whether the histogram shows clipping at 0."""
    values = pixels if known is None else pixels[known]
    if not values.size or values.min() < 0:
        return False
    # Counts of a few photons have fewer levels than eight bits.
    level = max(_LEVEL, _least_gap(values))
    at_end = int((values <= _LEVEL / 2).sum())
    # The mean of the next three levels.
    beside = int(((values > _LEVEL / 2) & (values <= 3.5 * level)).sum()) / 3
    return at_end > max(2 * beside, 1e-4 * values.size, _FEWEST_CLIPPED)


def _least_gap(values: Floats) -> float:
    """Return the least distance of two different values, of a part of them; 0 for none."""
    part = values.ravel()[:: max(values.size // _MOST_COMPARED, 1)]
    gaps = np.diff(np.unique(part))
    return float(gaps.min()) if gaps.size else 0.0


def _white_level(channels: Blocks, low: float | None, high: float | None) -> float:
    """Return the standard deviation of white noise, averaged over the channels."""
    if low is None and high is None:
        return _fine_level(channels)
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


def _patch_level(pixels: Floats, first: NoiseModel, known: Any) -> float:
    """Return the standard deviation of white noise from the eigenvalues of patches.

    The model ``first`` is the first estimate.  A patch has all channels of a group, because their
    texture is correlated.  Where their noise is correlated too, as in grey pictures that are
    stored in colour and in JPEG, such patches have almost no variance in some directions; then
    the estimate is that of patches of one channel.  It is the root mean square over the channels.
    """
    if first.sigma == 0:
        return 0.0
    count = len(pixels)
    alone = [_level_of_group(pixels, first, known, slice(k, k + 1)) for k in range(count)]
    single = _mean_level(alone)
    joint = None
    if count > 1:
        groups = [slice(k, k + _PATCH_CHANNELS) for k in range(0, count, _PATCH_CHANNELS)]
        levels = [_level_of_group(pixels, first, known, k, _shares(alone[k])) for k in groups]
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
    pixels: Floats, first: NoiseModel, known: Any, group: slice, shares: Any = 1.0
) -> float | None:
    """Return the standard deviation from patches of some channels; None for too few patches.

    The noise of the channels is in the ratio of ``shares``.
    """
    patches = _patches(pixels[group], None if known is None else known[group])
    scaled = _with_equal_noise(patches, first, shares)
    if len(scaled) < _FEWEST_PATCHES_PER_VALUE * max(scaled.shape[1], 1):
        return None
    eigenvalues = np.linalg.eigvalsh(scaled.T @ scaled / len(scaled)).clip(0)
    # Subtracting the mean of each channel has left one eigenvalue of 0 for each.
    return math.sqrt(_noise_eigenvalue(eigenvalues[patches.shape[1] :]))


def _patches(planes: Floats, known: Any) -> Floats:
    """Return the patches, of shape (count, channels, pixels).

    Those with unknown values are left out, and those in constant regions, which have no noise.
    Single patches are not judged, because weak noise that is rounded leaves some constant.
    """
    size = int(math.sqrt(_PATCH_VALUES / len(planes)))
    if min(planes.shape[1:]) < size:
        return np.empty((0, len(planes), size**2))

    def windows(x: Any) -> Any:
        return np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(-2, -1))

    cut = windows(planes)
    step = math.ceil(math.sqrt(cut.shape[1] * cut.shape[2] / _MOST_PATCHES))
    found = cut[:, ::step, ::step].transpose(1, 2, 0, 3, 4)
    counted: Any = np.ones(planes.shape[1:], dtype=bool)
    for channel, plane in enumerate(planes):
        of_plane = None if known is None else known[channel]
        counted &= find_varied(plane, of_plane)
        counted &= True if of_plane is None else of_plane
    whole = windows(counted)[::step, ::step].all(axis=(2, 3))
    chosen = found[whole]
    return np.asarray(chosen.reshape(len(chosen), len(planes), size**2), np.float64)


def _with_equal_noise(patches: Floats, model: NoiseModel, shares: Any) -> Floats:
    """Return patches with their means subtracted, scaled to the noise before clipping.

    That of each channel is divided by its share.
    """
    means = patches.mean(axis=2)
    left = np.ones_like(means)
    if model.clipped:
        clean = torch.linspace(-0.5, 1.5, 2001, dtype=torch.float64)
        expected, variance = model.expectation(clean).numpy(), model.variance(clean).numpy()
        left = np.interp(means, expected, variance / model.sigma**2)
    whole = (left > _LEAST_VARIANCE_SHARE).all(axis=1)
    scale = np.sqrt(left[whole]) * shares
    scaled = (patches[whole] - means[whole, :, None]) / scale[:, :, None]
    return np.asarray(scaled.reshape(len(scaled), patches.shape[1] * patches.shape[2]))


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


def _affine_variance(
    channels: Blocks, low: float | None, high: float | None, sigma: float | None
) -> _Line:
    """Return the line of variance against signal."""
    means, details = _joined(channels)
    # Blocks that are exactly flat, such as those of a border, have no noise.
    means, details = means[details != 0], details[details != 0]
    order = np.argsort(means, kind="stable")
    if not len(order):
        return _Line(0.0, sigma or 0.0)
    groups = _groups_of(means, order)
    signal = np.array([means[group].mean() for group in groups])
    spread = np.array([deviation(details[group]) for group in groups])
    # Where values are clipped, the variance is below the line.
    whole = np.ones(signal.shape, dtype=bool)
    if low is not None:
        whole &= signal > low + 2 * spread
    if high is not None:
        whole &= signal < high - 2 * spread
    counts = np.array([len(group) for group in groups])
    if np.count_nonzero(whole) >= 4:
        signal, spread, counts = signal[whole], spread[whole], counts[whole]
    return _line(signal, spread**2, sigma, counts)


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


def _counts_photons(channels: Blocks, zero: float, step: float) -> bool:
    """Return whether values are counts of photons, each of which adds one to the variance.

    What the finest differences of a picture of counts have for their variance is the mean count
    around them, from the darkest places to the brightest.
    """
    means, details = _joined(channels)
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
    is_one = 1 / _ABOUT_ONE < line.gain < _ABOUT_ONE and line.sigma < _LEAST_CUT
    # What varies about a level far from 0, such as a dark frame, is told by nothing but its growth.
    return is_one and line.offset < _LEAST_CUT and (line.is_told or signal[0] < _FEW_COUNTS)


def _line(signal: Floats, variance: Floats, sigma: float | None, counts: Any) -> _Line:
    """Return the line through variances of groups of so many blocks."""
    if sigma is not None:
        slope, _ = _fitted(signal[:, None], variance - sigma**2, variance, counts)
        return _Line(max(float(slope[0]), 0.0), sigma)
    columns = np.stack([signal, np.ones_like(signal)], axis=1)
    (gain, constant), errors = _fitted(columns, variance, variance, counts)
    is_told = gain > _TOLD_GAIN * errors[0]
    if gain <= 0:  # no photon noise
        return _Line(0.0, math.sqrt(float(np.median(variance))), is_told=False)
    if constant >= 0:
        return _Line(float(gain), math.sqrt(constant), is_told=is_told)
    # Nothing but photon noise, above the least value or above that of no signal.
    if -constant > _TOLD_OFFSET * errors[1] and is_told:
        # Darker than any group something of the noise is left.
        least = max(gain * signal.min() + constant, 0.0) / 2
        return _Line(float(gain), math.sqrt(least), float((least - constant) / gain))
    slope, _ = _fitted(signal[:, None], variance, variance, counts)
    return _Line(float(slope[0]), 0.0, is_told=is_told)


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
