"""Measure how the noise of a picture is spread over spatial frequencies.

Noise of the pixels of a sensor is white, but demosaicking, resampling, JPEG and the filters inside
of a camera change that: what is left is coarse, and estimates from the finest details find a small
part of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from dipfast.ops.noise_level import all_in_windows, find_constant
from dipfast.settings.noise import BAND_EDGES

__all__ = [
    "BLOCK",
    "Spectrum",
    "autocorrelation",
    "band_of",
    "band_power",
    "block_coefficients",
    "coloured",
    "cosine_matrix",
    "find_spectrum",
    "flattest_level",
    "to_opponent",
]

Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"

BLOCK = 16
"""Rows and columns of a block whose cosine transform is taken."""

# Blocks are compared with each other; more of them than this do not change the estimate noticeably,
# and fewer than this give none.
_MOST_BLOCKS, _FEWEST_BLOCKS = 12_000, 64
# So many of them are transformed at a time, as fit into a cache.
_AT_A_TIME = 256
# Share of the blocks, from the flattest one on, that is taken to hold nothing but noise, for each
# band: structure is strongest at low frequencies.  JPEG takes noise away in the very flattest ones.
_FLAT_SHARES = (0.05, 0.05, 0.05, 0.05, 0.1, 0.2, 0.3)
_FLAT_SHARES_OF_JPEG = (0.1, 0.1, 0.2, 0.2, 0.3, 0.4, 0.4)
_FLAT_SHARE_OF_COLOUR = 0.5
_FLATTEST_SHARE = 0.05
# Noise of cameras grows towards low frequencies by less than this factor from band to band; what
# grows faster in the three lowest bands is structure.
_LARGEST_GROWTH, _GROWING_BANDS = 1.3, 3
# A block with more than this share of its pixels at the ends of the range is clipped.
_CLIPPED_SHARE = 0.1
# See _even_band: blocks differ by a factor between these, a band holds so many times as much as the
# highest one, and as the next, and coefficients that are less alike are those of a pattern.  Then:
# lower bands leak into one that holds this much less, and other noise is in one that is no more
# than so many times the highest.
_SMOOTH_EVEN, _ABOVE_HIGHEST, _ABOVE_NEXT, _LEAST_ALIKE = (0.85, 1.4), 6.0, 1.25, 0.85
_TOO_STEEP, _CLEARLY_ABOVE_HIGHEST = 3.3, 3.0
# See _smooth_from: the noise of differences of colour has this share of that of brightness.
_LEAST_COLOUR = 0.35
# No spectrum falls by more than this factor from band to band, as far as it is continued.
_STEEPEST = 1e3
# See _is_correlated.
_STEEP, _STEEP_BELOW, _EVEN, _SAME_COLOURS = 1.4, 1.2, 1.9, 4.0
# A channel with less than this share of the usual noise does not tell that noise is coarse.
_LEAST_COARSE = 0.5
_SPARSE = (1.0, 0.85)
# From the fourth band down to the second, noise of cameras grows by less than the first factor in
# most pictures.  Texture that fills a picture, as fur, bricks and tissue do, grows faster, and
# equally fast from band to band, as a power of the frequency; filtered noise falls off ever faster:
# from the fifth band to the third it grows by more than that to these powers, the second one where
# the level is above the last number.  Of what JPEG leaves, only such levels are told from noise.
_MOST_GROWTH, _LIKE_TEXTURE, _LIKE_STRONG, _STRONG = 2.1, 1.25, 1.5, 8 / 255

_OPPONENT = np.array(
    [
        [1 / math.sqrt(3)] * 3,
        [1 / math.sqrt(2), 0, -1 / math.sqrt(2)],
        [1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)],
    ]
)


@dataclass(frozen=True)
class Spectrum:
    """Hold the standard deviation of noise in bands of spatial frequency.

    Parameters
    ----------
    levels
        The standard deviation of a coefficient of the orthonormal cosine transform in each band;
        one row, or three, for the channels of :func:`to_opponent`.
    quantised
        Whether most coefficients of the blocks are 0 or nearly so, as JPEG leaves them.
    smooth
        Whether the highest bands hold next to nothing, as where noise was blurred or enlarged;
        False by default.
    """

    levels: tuple[tuple[float, ...], ...]
    quantised: bool
    smooth: bool = False

    @property
    def sigma(self) -> float:
        """The standard deviation of a pixel, the root mean square over the channels."""
        power = np.square(self.levels) @ np.array(_sizes())
        return math.sqrt(float(power.mean()) / BLOCK**2)


def to_opponent(planes: Floats) -> Floats:
    """Return brightness and two differences of colour of a picture of three channels.

    The transform is orthonormal, so white noise stays white: (R + G + B) / sqrt(3),
    (R - B) / sqrt(2), (R - 2 G + B) / sqrt(6).

    Parameters
    ----------
    planes
        The picture, (3, H, W); of any other number of channels it is returned as it is.

    Returns
    -------
    numpy.ndarray
        Of the same shape.
    """
    if len(planes) != len(_OPPONENT):
        return planes
    return np.asarray(np.einsum("ij,jhw->ihw", _OPPONENT, planes))


@cache
def cosine_matrix(size: int = BLOCK) -> Floats:
    """Return the matrix of the orthonormal cosine transform (DCT-II)."""
    k, x = np.mgrid[0:size, 0:size]
    matrix = np.cos(np.pi * (2 * x + 1) * k / (2 * size)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return np.asarray(matrix)


@cache
def band_of(size: int = BLOCK) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the band of each coefficient of a block, (size, size); 0 for the constant."""
    frequency = np.arange(size) / (2 * size)
    radius = np.hypot(frequency[:, None], frequency)
    return np.digitize(radius, BAND_EDGES[1:-1])


@cache
def _rings() -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the distance of each coefficient of a block from the constant, rounded."""
    index = np.arange(BLOCK)
    return np.asarray(np.hypot(index[:, None], index).round().astype(np.int64))


@cache
def _squares_of_frequency() -> tuple[float, ...]:
    """Return the mean square of the frequencies of each band."""
    frequency = np.arange(BLOCK) / (2 * BLOCK)
    squares = np.square(frequency[:, None]) + np.square(frequency)
    sums = np.bincount(band_of().ravel(), squares.ravel())
    return tuple((sums / _sizes()).tolist())


@cache
def _sizes() -> tuple[int, ...]:
    """Return the number of coefficients in each band."""
    return tuple(np.bincount(band_of().ravel(), minlength=len(BAND_EDGES) - 1).tolist())


def band_power(spectrum: tuple[tuple[float, ...], ...], count: int) -> Floats:
    """Return the power of each row of a spectrum on a grid of frequencies, (rows, count, count)."""
    frequency = np.fft.fftfreq(count)
    bands = np.digitize(np.hypot(frequency[:, None], frequency), BAND_EDGES[1:-1])
    return np.asarray(np.square(spectrum)[:, bands])


def autocorrelation(
    spectrum: tuple[tuple[float, ...], ...], rows: int = 0, columns: int = 1
) -> float:
    """Return the autocorrelation of noise with a spectrum, averaged over its channels.

    Parameters
    ----------
    spectrum
        Standard deviations in bands, with any factor.
    rows, columns
        The distance, in pixels.

    Returns
    -------
    float
        From -1 to 1; 0 for a spectrum of zeros.
    """
    power = band_power(spectrum, 8 * BLOCK).mean(axis=0)
    covariance = np.fft.ifft2(power).real
    return float(covariance[rows, columns] / covariance[0, 0]) if covariance[0, 0] > 0 else 0.0


def coloured(white: Floats, spectrum: tuple[tuple[float, ...], ...]) -> Floats:
    """Return white noise spread over the bands of a spectrum.

    Parameters
    ----------
    white
        Independent numbers of variance 1, (C, H, W).
    spectrum
        Standard deviations in bands, with any factor; rows as in
        :class:`~dipfast.settings.noise.NoiseParameters`.

    Returns
    -------
    numpy.ndarray
        Of the same shape, and of variance 1 on average over the channels; the picture continues
        periodically to this noise.
    """
    height, width = white.shape[1:]
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    bands = np.digitize(radius, BAND_EDGES[1:-1])
    levels = np.asarray(spectrum, np.float64)[:, bands]
    # The blocks that a spectrum is found in have other shares of their coefficients in a band.
    # Half of the columns stand for both signs of their frequency.
    signs = np.where(np.arange(width // 2 + 1) % (width / 2) == 0, 1.0, 2.0)
    variance = float((np.square(levels) * signs).sum()) / (len(levels) * height * width)
    if variance > 0:
        levels = levels / math.sqrt(variance)
    planes = np.fft.irfft2(levels * np.fft.rfft2(white), s=(height, width))
    if len(spectrum) == len(_OPPONENT) == len(white):
        planes = np.einsum("ij,ihw->jhw", _OPPONENT, planes)
    return np.asarray(planes)


def block_coefficients(
    planes: Floats, known: Any = None, ends: tuple[float, float] = (0.0, 1.0)
) -> Floats | None:
    """Return the cosine transforms of blocks of a picture, in brightness and colour.

    Parameters
    ----------
    planes
        The picture, (C, H, W), without outliers.
    known
        Which values were measured, of the same shape; None for all.
    ends
        The ends of the range of values.

    Returns
    -------
    numpy.ndarray or None
        Of shape (C, count, 16, 16), channels as in :func:`to_opponent`; without blocks that are
        constant, clipped or have gaps.  None for too few blocks.
    """
    if min(planes.shape[1:]) < BLOCK:
        return None
    size = (BLOCK, BLOCK)
    rows, columns = (n - BLOCK + 1 for n in planes.shape[1:])
    step = max(BLOCK // 4, math.ceil(math.sqrt(rows * columns / _MOST_BLOCKS)))

    def blocks(x: Any) -> Any:
        windows = np.lib.stride_tricks.sliding_window_view(x, size, axis=(-2, -1))
        return windows[..., ::step, ::step, :, :]

    cut = blocks(planes)
    whole = np.ones(cut.shape[1:3], bool)
    for channel, plane in enumerate(planes):
        at_end = blocks((plane <= ends[0]) | (plane >= ends[1]))
        whole &= at_end.mean(axis=(2, 3)) <= _CLIPPED_SHARE
        # Blocks that are partly padding are not the flattest of the picture.
        counted = ~find_constant(plane)
        if known is not None:
            counted &= known[channel]
        whole &= all_in_windows(counted, size)[::step, ::step]
    places = np.nonzero(whole)
    matrix = cosine_matrix()
    least = 1e-9 * max(abs(ends[0]), abs(ends[1]), 1e-300)
    found = np.empty((len(planes), len(places[0]), *size))
    for begin in range(0, found.shape[1], _AT_A_TIME):
        part = slice(begin, begin + _AT_A_TIME)
        chosen = cut[:, places[0][part], places[1][part]].astype(np.float64, copy=False)
        chosen = to_opponent(chosen.reshape(len(planes), -1, BLOCK)).reshape(chosen.shape)
        transformed = matrix @ chosen @ matrix.T
        transformed[np.abs(transformed) < least] = 0
        found[:, part] = transformed
    varied = np.count_nonzero(found[0], axis=(1, 2)) > 1
    if not varied.all():
        found = found[:, varied]
    return found if found.shape[1] >= _FEWEST_BLOCKS else None


def find_spectrum(coefficients: Floats | None, *, always: bool = False) -> Spectrum | None:
    """Return the spectrum of the noise of a picture; None where it may as well be white.

    Parameters
    ----------
    coefficients
        Those of :func:`block_coefficients`.
    always
        Whether to return the spectrum of noise that may as well be white, too.

    Returns
    -------
    Spectrum or None
        The spectrum in the unit of the picture.  None, whatever ``always`` says, for coefficients
        that are None, or no noise.

    Notes
    -----
    The energy of blocks of 16x16 pixels is taken in bands of spatial frequency, in brightness and
    differences of colour, and the noise is that of the flattest blocks, band by band, corrected for
    having been chosen.  Where they grow towards low frequencies as texture that fills a picture
    does, there is none unless it is wanted always.  Of other than three channels, one with as much
    noise as others may say that it is not white.  That is how estimates from sorted blocks work
    [1]_.

    References
    ----------
    .. [1] Ponomarenko, Lukin, Zriakhov, Kaarna, Astola, "An automatic approach to lossy compression
       of AVIRIS images", IGARSS 2007; Colom, Lebrun, Buades, Morel, "A non-parametric approach for
       the estimation of intensity-frequency dependent noise", ICIP 2014.
    """
    if coefficients is None:
        return None
    count = len(coefficients)
    if count > 1 and not coefficients[1:].any():
        coefficients = coefficients[:1]  # a grey picture that is stored in colour
    masks = [band_of() == band for band in range(len(_sizes()))]
    masks[0] = masks[0] & (np.arange(BLOCK**2).reshape(BLOCK, BLOCK) > 0)
    energies = _energies(coefficients, masks)
    # Of three channels, brightness tells it; any other number are judged one by one.
    parts = [slice(None)] if count == 3 else [slice(k, k + 1) for k in range(len(energies))]
    sparse = [_is_sparse(coefficients[part][0], energies[part][0], masks) for part in parts]
    smooth = [_smooth_from(coefficients[part], energies[part], masks) for part in parts]
    correlated = [
        band is not None or _is_correlated(energies[part]) for part, band in zip(parts, smooth)
    ]
    for k, part in enumerate(parts):
        if sparse[k] and smooth[k] is not None:
            # Coefficients of smooth noise differ within a band, as if few of them were large.
            here = coefficients[part][0], energies[part][0][:, 5], masks[5]
            sparse[k] = _alike(*here) < _SPARSE[1]
    quantised = 2 * sum(sparse) > len(sparse)
    if not (always or quantised or any(correlated)):
        return None
    levels = []
    for channel, energy in enumerate(energies):
        shares: tuple[float, ...] = _FLAT_SHARES_OF_JPEG if quantised else _FLAT_SHARES
        if channel > 0 and count == 3:
            shares = (_FLAT_SHARE_OF_COLOUR,) * len(shares)
        floor = [_floor(energy[:, k], share, k) for k, share in enumerate(shares)]
        even = smooth[channel if len(parts) > 1 else 0]
        for k in range((_GROWING_BANDS if even is None else even) - 1, -1, -1):
            growth = _LARGEST_GROWTH if even is None else _growth_of_smooth(floor, k)
            floor[k] = min(floor[k], growth * floor[k + 1])
        levels.append(tuple(floor))
    if len(parts) > 1 and not (always or quantised):
        # What looks coarse in a channel with little noise is texture.
        own = [Spectrum((row,), False).sigma for row in levels]
        usual = math.sqrt(float(np.mean(np.square(own))))
        if not any(c and level > _LEAST_COARSE * usual for c, level in zip(correlated, own)):
            return None
    if len(levels) < count == 3:
        levels += [(0.0,) * len(masks)] * 2
    is_smooth = any(band is not None for band in smooth)
    found = Spectrum(tuple(levels), quantised, is_smooth)
    power = _LIKE_STRONG if found.sigma > _STRONG else _LIKE_TEXTURE
    if quantised:
        power = math.inf if found.sigma > _STRONG else 0.0
    if not (always or is_smooth) and all(
        _grows_as_texture(energies[part][0], power) for part in parts
    ):
        return None
    return found if found.sigma > 0 else None


def flattest_level(coefficients: Floats | None) -> float | None:
    """Return the standard deviation of white noise in the flattest blocks, at high frequencies.

    Parameters
    ----------
    coefficients
        Those of :func:`block_coefficients`.

    Returns
    -------
    float or None
        The least of the levels of two bands, in brightness and colour.  Of any other number of
        channels than three it is the root mean square of the least level of each, because their
        noise may differ.  None for coefficients that are None.
    """
    if coefficients is None:
        return None
    count = len(coefficients)
    if count > 1 and not coefficients[1:].any():
        coefficients = coefficients[:1]
        if count == len(_OPPONENT):  # a grey picture that is stored in colour
            coefficients = coefficients / math.sqrt(count)
    bands = (5, 6)
    energies = _energies(coefficients, [band_of() == band for band in bands])
    floors = [
        min(_floor(energy[:, k], _FLATTEST_SHARE, band) for k, band in enumerate(bands))
        for energy in energies
    ]
    if count == len(_OPPONENT):
        return min(floors)
    return math.sqrt(float(np.mean(np.square(floors))))


def _energies(coefficients: Floats, masks: list[Any]) -> Floats:
    """Return the mean squares of some coefficients of each block, (C, count, masks)."""
    parts = np.array_split(coefficients, max(coefficients.shape[1] // _AT_A_TIME, 1), axis=1)
    means = [[np.square(part[..., mask]).mean(axis=-1) for mask in masks] for part in parts]
    return np.concatenate([np.stack(part, axis=-1) for part in means], axis=1)


def _floor(energy: Floats, share: float, band: int) -> float:
    """Return the standard deviation of noise whose energies have this quantile."""
    # The first coefficient of all, the mean of a block, is not among those of its band.
    count = _sizes()[band] - (band == 0)
    return math.sqrt(float(np.quantile(energy, share)) / _quantile_of_mean(share, count))


@cache
def _quantile_of_mean(share: float, count: int) -> float:
    """Return a quantile of the mean of so many squares of normal numbers.

    Wilson and Hilferty's approximation: the cube root of the mean is nearly normal.
    """
    from statistics import NormalDist

    spread = 2 / (9 * count)
    return float((1 - spread + NormalDist().inv_cdf(share) * math.sqrt(spread)) ** 3)


def _spread(energy: Floats, band: int) -> float:
    """Return how much more blocks differ than those of the same noise do, from 1 up."""
    low, high = (np.quantile(energy, share) for share in (0.05, 0.4))
    count = _sizes()[band]
    usual = _quantile_of_mean(0.4, count) / _quantile_of_mean(0.05, count)
    return math.sqrt(float(high) / max(float(low), 1e-300) / usual)


def _is_correlated(energies: Floats) -> bool:
    """Return whether the noise is likely not white.

    The energy of white noise is the same in the highest bands, and in brightness and colour.
    Structure raises it, but by an amount that differs from block to block.
    """
    brightness = energies[0]
    top = [_floor(brightness[:, k], 0.2, k) for k in range(brightness.shape[1])]
    even = all(_spread(brightness[:, k], k) < _EVEN for k in (4, 5))
    steep = top[5] > _STEEP * top[6] and top[4] > _STEEP_BELOW * top[5]
    if even and steep:
        return True
    if len(energies) == 3 and _spread(brightness[:, 6], 6) < 1.35:
        colour = math.sqrt(sum(_floor(e[:, 6], 0.4, 6) ** 2 for e in energies[1:]) / 2)
        return top[6] > _SAME_COLOURS * colour
    return False


def _grows_as_texture(energy: Floats, power: float) -> bool:
    """Return whether the flattest blocks have more at low frequencies than noise would have."""
    floor = [_floor(energy[:, k], share, k) for k, share in enumerate(_FLAT_SHARES)]
    if min(floor[3:5]) == 0:
        return False
    growth = floor[1] / floor[3]
    return growth > _MOST_GROWTH and math.log(floor[2] / floor[4]) < power * math.log(growth)


def _smooth_from(coefficients: Floats, energies: Floats, masks: list[Any]) -> int | None:
    """Return the band down to which smooth noise is seen; None where there is none.

    Noise that was blurred or enlarged holds next to nothing in the highest bands and falls off in
    those below, as what is smooth of a picture does.  But it is the same in all blocks, and of
    three channels it is in differences of colour, where there is little else.
    """
    if len(energies) == 1:
        return _even_band(coefficients[0], energies[0], masks)
    bands = [_even_band(*given, masks) for given in zip(coefficients[1:], energies[1:])]
    if None in bands:
        return None
    band = max(band for band in bands if band is not None)
    powers = [_floor(energy[:, k], 0.2, k) ** 2 for energy in energies for k in (band, band + 1)]
    colour, brightness = sum(powers[2:]) / len(bands), sum(powers[:2])
    return band if colour > _LEAST_COLOUR**2 * brightness else None


def _even_band(coefficients: Floats, energy: Floats, masks: list[Any]) -> int | None:
    """Return the lower of two bands where smooth noise of a channel is seen; None where none is.

    It is seen if the upper one holds clearly less, and blocks differ in neither of them by much
    more than by chance, nor by less, as in a pattern or a gradient.  Of several pairs it is the
    highest, which has least of the structure, but for those that lower bands leak into, as
    where the spectrum is steep, or other noise is in.
    """
    levels = [_floor(energy[:, k], 0.2, k) for k in range(energy.shape[1])]
    least, most = _SMOOTH_EVEN
    found = None
    for band in (3, 2, 1):
        steep = levels[band] > max(_ABOVE_HIGHEST * levels[-1], _ABOVE_NEXT * levels[band + 1])
        if steep and all(
            least < _spread(energy[:, k], k) < most
            and _alike(coefficients, energy[:, k], masks[k]) > _LEAST_ALIKE
            for k in (band, band + 1)
        ):
            found = band
            leaks = levels[band] > _TOO_STEEP * levels[band + 1]
            if not leaks and levels[band + 1] > _CLEARLY_ABOVE_HIGHEST * levels[-1]:
                break
    return found


def _growth_of_smooth(levels: Sequence[float], band: int) -> float:
    """Return by how much a band is above the next, if the two above that one are a Gaussian's.

    The logarithm of the spectrum of noise that a Gaussian blurred is linear in the square of the
    frequency.
    """
    lower, upper = np.diff(_squares_of_frequency())[band : band + 2]
    fall = min(levels[band + 1] / max(levels[band + 2], 1e-300), _STEEPEST)
    return max(float(fall ** (lower / upper)), _LARGEST_GROWTH)


def _alike(coefficients: Floats, energy: Floats, mask: Any) -> float:
    """Return how alike the coefficients of flat blocks are, in units of those of their frequency.

    It is about 1 for noise, and less for a pattern, which few of them hold.
    """
    values = coefficients[energy <= np.quantile(energy, 0.4)][:, mask]
    values = values[values.any(axis=1)]
    rings = _rings()[mask]
    for ring in np.unique(rings):
        here = rings == ring
        values[:, here] /= max(math.sqrt(np.square(values[:, here]).mean()), 1e-300)
    return _likeness(values)


def _likeness(values: Floats) -> float:
    """Return the squared mean of |x| over the mean of x^2 as a multiple of that of a normal x.

    It is less than 1 where few values are large; of rows of values it is the median.
    """
    ratios = np.square(np.abs(values).mean(axis=1)) / np.square(values).mean(axis=1)
    return float(np.median(ratios)) * math.pi / 2


def _is_sparse(coefficients: Floats, energy: Floats, masks: list[Any]) -> bool:
    """Return whether most coefficients in two of the high bands are nearly 0."""
    ratios = []
    for band in (4, 5):
        flat = energy[:, band] <= np.median(energy[:, band])
        values = coefficients[flat][:, masks[band]]
        some = values.any(axis=1)
        if np.count_nonzero(some) < _FEWEST_BLOCKS // 2:
            return bool(len(values) >= _FEWEST_BLOCKS // 2)
        ratios.append(_likeness(values[some]))
    return all(ratio < limit for ratio, limit in zip(ratios, _SPARSE))
