"""Estimate the noise of a picture from the picture alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dipfast.arrays import has_equal_channels
from dipfast.checks import check_choice
from dipfast.errors import InputError
from dipfast.model.channel_noise import UNLIKE, detail_levels, model_of_channels, scaled
from dipfast.model.noise import NoiseModel
from dipfast.model.noise_blocks import (
    EIGHT_BIT_LEVEL,
    MOST_FLAT,
    Blocks,
    Floats,
    fine_level,
    flat_share,
    joined,
)
from dipfast.model.noise_spectrum import (
    Spectrum,
    block_coefficients,
    find_spectrum,
    flattest_level,
)
from dipfast.model.photon_noise import (
    LEAST_CUT,
    VarianceLine,
    affine_variance,
    counts_photons,
    few_photons,
    is_white_cut_off,
    shows_photons,
)
from dipfast.model.white_noise import patch_level, white_level
from dipfast.ops.noise_level import (
    deviation,
    find_constant,
    find_isolated,
    find_outliers,
    in_squares,
    wavelet_blocks,
    wavelet_details,
)
from dipfast.settings.names import NOISE_KINDS, NoiseKind

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

# A channel with a larger share of black and white pixels than this does not tell of the noise,
# where another one has a share below the second number.
_CLIPPED_CHANNEL, _USABLE_CHANNEL = 0.3, 0.1
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
# From this factor on the flattest differences of channels have the noise of the quietest, and one
# level does not suit all; texture differs by up to the second one in the colours of a photograph.
_CLEARLY_UNLIKE, _CLEARLY_UNLIKE_COLOURS = 1.5, 3.0
# The flattest blocks of noise have at least this share of the level by patches.
_LEAST_OF_NOISE = 0.85
# Noise that is rounded leaves fewer blocks flat than this share.
_FLAT_BY_CHANCE = 0.02
# Saturated places are squares of so many rows and columns.
_SQUARE = 3
# Blocks that a line is fitted to, at least.
_FEWEST_LIT = 256
# The gain of few photons is up to so many times what median deviations tell.
_MOST_BELOW = 3.0
# Differences along diagonals have so many times the squares of those along rows and columns at most
# where few photons make them: with up to 5 in a pixel up to 1.07 in 12 pictures, and 1.25 in a
# field of galaxies.  Letters, spots and dots that would pass for photons have 1.1 to 1.25.
_MOST_RELATED = 1.09
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
# Values that are compared to find their levels.
_MOST_COMPARED = 1 << 16
# Clipping is assumed only if more values than these are at the end of the range: a few are there
# in any picture, as its least and greatest values.
_FEWEST_CLIPPED = 4
# JPEG leaves more of them flat: of 15 photographs, up to 0.43.
_FLAT_SHARE_OF_JPEG = 0.5


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

    Where the finest details of channels differ by 1.15 in standard deviation, divided by that of
    the model where it grows, each channel is looked at alone, and the noise has levels of channels
    if what is found differs as much.  Details of weak noise may be texture: they are if, with the
    channels in units of their details, the flattest blocks have less than 0.85 of the level by
    patches.

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
    inner = _without_padding(pixels)
    framed = pixels[inner]
    measured_there = None if measured is None else measured[inner]
    telling = _telling(framed, measured_there, ends)
    told_whole = whole[inner][telling]
    told = [None if x is None else x[inner][telling] for x in (measured, known_whole)]
    cuts = _cuts(framed, measured_there, kind, ends)
    given = framed[telling], told_whole, told[0], told[1], kind, cuts
    seen = None
    if compares and sigma is not None and kind != "poisson_gaussian":
        found, seen = _compared(given, sigma, ends)
    else:
        found = _model(*given, sigma, ends)
        if sigma is None and found.unlike >= UNLIKE:
            found = _of_each_channel(found, given, ends)
    in_equal_units = scaled(told_whole, found.model)
    found = _of_all_channels(found, telling, len(pixels))
    model, levels, spectrum = found.model, found.levels, found.spectrum
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
        interval = interval if sigma is not None else _interval(in_equal_units, model)
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


def _without_padding(pixels: Floats) -> tuple[slice, slice, slice]:
    """Return where a picture is without the rows and columns of one value around it.

    They tell nothing of the noise, and blocks that are partly theirs look flatter or darker than
    the picture is.
    """
    everything, inner = slice(None), [slice(None), slice(None)]
    for axis, size in ((0, pixels.shape[1]), (1, pixels.shape[2])):
        begin, end = 0, size
        for corner in (0, -1):
            same = (pixels == pixels[:, corner, corner, None, None]).all(axis=(0, 2 - axis))
            count = int(np.argmin(same if corner == 0 else same[::-1]))
            if corner == 0:
                begin = count
            else:
                end -= count
        if end - begin >= _SMALLEST_TILE:  # and is not of one value
            inner[axis] = slice(begin, end)
    return everything, inner[0], inner[1]


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
    levels = np.ones(len(pixels)) if model.channel_levels is None else model.channel_levels
    level = np.asarray(levels)[np.nonzero(isolated)[0]]
    deviation_there = level * np.sqrt(model.sigma**2 + model.gain * signal)
    of_photons = _LEAST_PHOTONS * level**2 * model.gain
    isolated[isolated] = away > _LEAST_EXCESS * deviation_there + of_photons
    return isolated if isolated.any() else None


class _Found(NamedTuple):
    """Hold the noise, the standard deviations by estimator, and the spectrum if it is coarse.

    ``unlike`` is how many times as strong the finest details of a channel are as those of another
    one, which may be its noise.
    """

    model: NoiseModel
    levels: dict[str, float]
    spectrum: Spectrum | None = None
    unlike: float = 1.0


def _model(
    pixels: Floats,
    whole: Floats,
    measured: Any,
    known: Any,
    kind: NoiseKind,
    cuts: tuple[float | None, float | None],
    sigma: float | None,
    ends: tuple[float, float],
    may_be_coarse: bool = True,
) -> _Found:
    """Return what the pixels of a picture tell.

    ``whole`` are the pixels with outliers replaced, ``known`` which of them were measured, and
    ``cuts`` where the noise is clipped.
    """
    low, high = ends
    among: Any = True if measured is None else measured
    least, most = pixels.min(initial=np.inf, where=among), pixels.max(initial=-np.inf, where=among)
    if least >= most:
        return _Found(NoiseModel(sigma or 0.0, 0.0, *cuts), {})
    coefficients = spectrum = None
    if may_be_coarse and kind in ("auto", "correlated"):
        coefficients = block_coefficients(whole, known, ends)
        spectrum = find_spectrum(coefficients, always=kind == "correlated")
    if spectrum is not None:
        channels = _blocks_of(pixels, measured)
        flat = _FLAT_SHARE_OF_JPEG if spectrum.quantised else MOST_FLAT
        fine = fine_level(channels)
        # Of noise that was blurred nothing fine is left at all.
        coarse = not spectrum.smooth and spectrum.sigma > _MOST_COARSE * fine
        if kind == "auto" and (coarse or flat_share(channels) > flat):
            spectrum = None  # a page of text, a drawing or a pattern
    if spectrum is not None:
        rows = tuple(tuple(level / spectrum.sigma for level in row) for row in spectrum.levels)
        level = spectrum.sigma if sigma is None else sigma
        levels = {
            "wavelets": fine,
            "flat blocks": spectrum.sigma,
        }
        return _Found(NoiseModel(level, 0.0, *cuts, spectrum=rows), levels, spectrum)
    if sigma is not None and kind != "poisson_gaussian":
        return _Found(NoiseModel(sigma, 0.0, *cuts), {})
    channels = _blocks_of(pixels, measured)
    if not any(len(details) for _, details in channels):
        if measured is None or measured.all():  # tiles of one value each, and no noise in them
            return _Found(NoiseModel(0.0, 0.0, *cuts), {})
        raise InputError(
            "too few known pixels of image lie side by side to tell its noise; sigma tells it"
        )
    gain, offset = 0.0, 0.0
    of_white: float | None = sigma
    step = _least_gap(pixels if measured is None else pixels[measured])
    are_few = step > 1.5 * EIGHT_BIT_LEVEL * (most - least)
    may_grow = kind in ("auto", "poisson_gaussian")
    if (
        # With a margin around the values, zero is no place where there are no photons.
        (may_grow and not sigma and low < step / 2)
        and (are_few and most - low > 2.5 * step)  # not a drawing of two or three levels
        and counts_photons(channels, low, step)
    ):
        return _Found(NoiseModel(0.0, step, None, cuts[1]), {})
    if may_grow:
        # Of a few counts the median deviation is wrong, as where noise is cut off.
        lit = _blocks_in_light(pixels, measured, cuts[1], channels)
        line = affine_variance(lit, low if are_few else cuts[0], cuts[1], sigma)
        events = _blocks_with_photons(pixels, whole, known, line, channels)
        few = few_photons(events, line.gain, sigma, cuts[1])
        if few is not None and _is_related(pixels, known):
            few = None
        is_of_photons = few is not None or (line.is_told and shows_photons(channels, line))
        if kind == "auto" and is_of_photons:
            is_of_photons = not _is_white_cut_off(pixels, measured, channels, events, *cuts)
        if few is not None and (is_of_photons or kind != "auto"):
            return _Found(few.model(None, cuts[1]), {})
        gain, of_white, offset = line.gain, line.sigma, line.offset
        if kind == "auto" and not is_of_photons:
            gain, of_white, offset = 0.0, None, 0.0
    grown = None if gain == 0 else NoiseModel(of_white or 0.0, gain, offset=offset)
    units = detail_levels(channels, grown)
    levels, unlike = {}, max(units) / min(units)
    if of_white is None:
        first = NoiseModel(white_level(channels, *cuts), gain, *cuts)
        of_white = patch_level(pixels, first, measured)
        details = joined(channels)[1]
        levels = {"wavelets": first.sigma, "patches": of_white}
        if flat_share(channels) > MOST_FLAT and not _is_flat_around(pixels, measured, channels):
            of_white = min(of_white, deviation(details))
        if 0 < of_white < _WEAK * (high - low) and not _is_clearly_unlike(unlike, len(pixels)):
            if unlike >= UNLIKE and _is_texture(pixels, whole, measured, known, units, ends):
                unlike = 1.0
            if coefficients is None:
                coefficients = block_coefficients(whole, known, ends)
            flattest = flattest_level(coefficients)
            if flattest is not None:
                levels["flat blocks"] = flattest
                of_white = min(of_white, flattest)
    # Where there is no light there is next to no noise of photons: none of it is cut off.
    cut = cuts[0] if kind == "clipped" or of_white >= LEAST_CUT * max(gain, step) else None
    return _Found(NoiseModel(of_white, gain, cut, cuts[1], offset=offset), levels, unlike=unlike)


def _is_flat_around(pixels: Floats, measured: Any, channels: Blocks) -> bool:
    """Return whether what is flat is padding, such as that around the round field of a scanner.

    From the borders on it has one value along each row or column.
    """
    padding = np.zeros(pixels.shape, bool)
    for axis in (1, 2):
        for side in (slice(None), slice(None, None, -1)):
            index = (slice(None),) * axis + (side,)
            from_border = pixels[index]
            first = from_border.take([0], axis=axis)
            # A row that varies has a value or two at its border like any other.
            padding[index] |= np.logical_and.accumulate(from_border == first, axis=axis)
    inner = _blocks_again(pixels, _without(measured, padding), padding, channels)
    enough = all(len(details) >= _FEWEST_LIT for _, details in inner)
    return enough and flat_share(inner) < _FLAT_BY_CHANCE


def _is_white_cut_off(
    pixels: Floats,
    measured: Any,
    channels: Blocks,
    events: Blocks,
    low: float | None,
    high: float | None,
) -> bool:
    """Return whether the variance grows because white noise is cut off where it is dark."""
    if low is None:
        return False
    at_low, at_high = pixels <= low, pixels >= (math.inf if high is None else high)
    black, white = (joined(_blocks_of(pixels, measured, x))[0] for x in (at_low, at_high))
    return is_white_cut_off(channels, low, black, white, events)


def _blocks_in_light(pixels: Floats, measured: Any, high: float | None, channels: Blocks) -> Blocks:
    """Return blocks without pixels that are saturated, or in places of one value.

    The brightness of the blocks around is not that of these.
    """
    dull = np.stack([find_constant(plane) for plane in pixels])
    if high is not None:
        # Not single pixels: those in bright places whose noise is above the mean would be missing.
        dull |= np.stack([in_squares(plane >= high, _SQUARE) for plane in pixels])
    blocks = _blocks_again(pixels, _without(measured, dull), dull, channels)
    enough = sum(len(details) for _, details in blocks) >= _FEWEST_LIT
    return blocks if enough else channels


def _blocks_with_photons(
    pixels: Floats, whole: Floats, known: Any, line: VarianceLine, channels: Blocks
) -> Blocks:
    """Return blocks with the outliers that may be photons, which stand alone where it is dark.

    ``line`` and ``channels`` are those without any outlier; median deviations make the gain of few
    photons too small.
    """
    outliers = pixels != whole
    defects = None
    if line.gain > 0 and outliers.any():
        model = NoiseModel(line.sigma, _MOST_BELOW * line.gain, offset=line.offset)
        defects = _beyond_noise(outliers.copy(), pixels, whole, model)
    counted = known if defects is None else _without(known, defects)
    return _blocks_again(pixels, counted, outliers, channels)


def _is_related(pixels: Floats, known: Any) -> bool:
    """Return whether neighbours vary together, as parts of dots and letters do, and not photons.

    Then they differ less along rows and columns than along diagonals, which are longer.
    """
    beside, across = ((0, 1), (1, 0)), ((1, 1), (1, -1))
    near, far = (
        np.mean([_difference(pixels, known, *x) for x in pair]) for pair in (beside, across)
    )
    return bool(far > _MOST_RELATED * near)


def _difference(pixels: Floats, known: Any, rows: int, columns: int) -> float:
    """Return the mean square of differences of known pixels so far apart."""
    total, count = 0.0, 0
    one = slice(rows, None), slice(max(columns, 0), min(columns, 0) or None)
    other = slice(None, -rows or None), slice(max(-columns, 0), min(-columns, 0) or None)
    for channel, plane in enumerate(pixels):
        whole = np.ones(plane.shape, bool) if known is None else known[channel]
        for part, counted in zip(_strips(plane), _strips(whole)):
            both = counted[one] & counted[other]
            total += float((np.square(part[one] - part[other]) * both).sum())
            count += np.count_nonzero(both)
    return total / max(count, 1)


def _without(known: Any, places: Any) -> Any:
    """Return which values are known that are at none of some places."""
    return ~places if known is None else known & ~places


def _blocks_again(pixels: Floats, known: Any, changed: Any, channels: Blocks) -> Blocks:
    """Return blocks where other values are known, made again of channels in which that changed."""
    return [
        _blocks_of(pixels[k : k + 1], None if known is None else known[k : k + 1])[0]
        if changed[k].any()
        else blocks
        for k, blocks in enumerate(channels)
    ]


def _compared(
    given: tuple[Floats, Floats, Any, Any, NoiseKind, tuple[float | None, float | None]],
    sigma: float,
    ends: tuple[float, float],
) -> tuple[_Found, float | None]:
    """Return what :func:`_model` does for a sigma, and what the picture tells instead of it."""
    try:
        found = _model(*given, None, ends)
    except InputError:  # too few pixels: nothing to compare with
        return _model(*given, sigma, ends), None
    seen = 0.0 if found.model.is_free else math.sqrt(found.model.typical_variance)
    model = replace(found.model, sigma=sigma, gain=0.0, offset=0.0)
    if given[4] != "clipped" and sigma > _MOST_ABOVE_SEEN * seen:
        model = replace(model, low=None, high=None)
    # Levels of white noise are those of an estimate, which the model is not made of.
    levels = {} if found.spectrum is None else found.levels
    return _Found(model, levels, found.spectrum), seen


def _blocks_of(pixels: Floats, known: Any, averaged: Any = None) -> Blocks:
    """Return means, of the picture or of another one, and details of the blocks of each channel."""
    channels = []
    for channel, plane in enumerate(pixels):
        strips = _strips(plane)
        of_known, of_averaged = (
            [None] * len(strips) if x is None else _strips(x[channel]) for x in (known, averaged)
        )
        blocks = [wavelet_blocks(*parts) for parts in zip(strips, of_known, of_averaged)]
        channels.append(blocks[0] if len(blocks) == 1 else joined(blocks))
    return channels


def _is_clearly_unlike(unlike: float, channels: int) -> bool:
    """Return whether one level of the noise does not suit all channels."""
    return unlike >= (_CLEARLY_UNLIKE_COLOURS if channels == 3 else _CLEARLY_UNLIKE)


def _is_texture(
    pixels: Floats,
    whole: Floats,
    measured: Any,
    known: Any,
    units: Floats,
    ends: tuple[float, float],
) -> bool:
    """Return whether the finest details of channels are texture, which is in fewer places."""
    pixels, whole = (x / units[:, None, None] for x in (pixels, whole))
    flattest = flattest_level(block_coefficients(whole, known, ends))
    return flattest is not None and flattest < _LEAST_OF_NOISE * patch_level(
        pixels, NoiseModel(1.0), measured
    )


def _of_each_channel(
    found: _Found,
    given: tuple[Floats, Floats, Any, Any, NoiseKind, tuple[float | None, float | None]],
    ends: tuple[float, float],
) -> _Found:
    """Return what each channel tells by itself, or what was found where that is not different."""
    pixels, whole, measured, known, kind, cuts = given
    each = []
    for k in range(len(pixels)):
        one = slice(k, k + 1)
        measured_there, known_there = (None if x is None else x[one] for x in (measured, known))
        try:
            # Together they are not coarse; the texture of a channel with little noise may be.
            own = pixels[one], whole[one], measured_there, known_there
            each.append(_model(*own, kind, cuts, None, ends, may_be_coarse=False))
        except InputError:  # too few pixels
            return found
    brightness = [
        float(np.median(plane if known is None else plane[there]))
        for plane, there in zip(whole, whole if known is None else known)
    ]
    model = model_of_channels([one.model for one in each], brightness)
    if model is None:
        return found
    names = set.intersection(*(set(one.levels) for one in each))
    levels = {
        name: math.sqrt(float(np.mean([one.levels[name] ** 2 for one in each])))
        for name in found.levels
        if name in names
    }
    return _Found(model, levels)


def _of_all_channels(found: _Found, telling: Any, count: int) -> _Found:
    """Return what was found with the channels that tell nothing, which are taken as usual."""
    levels = found.model.channel_levels
    if levels is None or len(levels) == count:
        return found
    of_all = np.ones(count)
    of_all[telling] = levels
    model = replace(found.model, channel_levels=tuple(of_all))
    return found._replace(model=model)


def _interval(pixels: Floats, model: NoiseModel) -> tuple[float, float]:
    """Return the ends of an interval of the standard deviation, by bootstrap over tiles."""
    if has_equal_channels(pixels):
        pixels = pixels[:1]  # copies tell nothing more
    tiles = [
        tile
        for plane in pixels
        for part in np.array_split(plane, _TILES, axis=0)
        for tile in np.array_split(part, _TILES, axis=1)
        if min(tile.shape) >= 2 * _SMALLEST_TILE
    ]
    if pixels[0].size > LARGE_PICTURE:
        tiles = [_middle(tile, _LARGEST_TILE) for tile in tiles]
    found = np.array([np.square(deviation(wavelet_details(tile))) for tile in tiles])
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
        if level > _TOLD_STRIPES * max(math.sqrt(model.typical_variance), EIGHT_BIT_LEVEL):
            remarks.append(f"whole {name} are offset: stripes")
    return tuple(remarks)


def _is_clipped(pixels: Floats, known: Any) -> bool:
    """Return whether the histogram shows clipping at 0."""
    values = pixels if known is None else pixels[known]
    if not values.size or values.min() < 0:
        return False
    # Counts of a few photons have fewer levels than eight bits.
    level = max(EIGHT_BIT_LEVEL, _least_gap(values))
    at_end = np.count_nonzero(values <= EIGHT_BIT_LEVEL / 2)
    # The mean of the next three levels.
    beside = (np.count_nonzero(values <= 3.5 * level) - at_end) / 3
    return bool(at_end > max(2 * beside, 1e-4 * values.size, _FEWEST_CLIPPED))


def _least_gap(values: Floats) -> float:
    """Return the least distance of two different values, of a part of them; 0 for none."""
    part = values.ravel()[:: max(values.size // _MOST_COMPARED, 1)]
    gaps = np.diff(np.unique(part))
    return float(gaps.min()) if gaps.size else 0.0
