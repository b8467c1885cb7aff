"""Estimate the noise of an image from the image alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dipfast.arrays import as_constant, check_image, find_channel_axis, is_tensor
from dipfast.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = [
    "BRIGHTNESS_PIXELS",
    "all_in_windows",
    "deviation",
    "estimate_noise",
    "find_constant",
    "find_isolated",
    "find_outliers",
    "find_varied",
    "in_squares",
    "wavelet_blocks",
    "wavelet_details",
]

Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
Bools: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"

# High-pass filter of the Daubechies wavelet with two vanishing moments: blind to straight
# ramps, so that it sees noise rather than shading.
_ROOT = math.sqrt(3.0)
_HIGH_PASS = np.array([1 - _ROOT, _ROOT - 3, 3 + _ROOT, -1 - _ROOT]) / (4 * math.sqrt(2.0))
# With fewer blocks than this, the median is not reliable.
_FEWEST_BLOCKS = 64

# Median of |x| for a normal x of standard deviation 1.
_MEDIAN_TO_DEVIATION = 0.6744897501960817

# Rows, and columns, of a region; regions that are constant are left out.
_REGION = 16
# Brightness is that of so many pixels to each side.
_REACH = 8
BRIGHTNESS_PIXELS = (2 * _REACH) ** 2
"""The pixels that the brightness around a block is a mean of."""
# Standard deviations from the median of its neighbours from which on a pixel is an outlier.
_OUTLIER = 6.0
# An outlier is isolated if no more than one of its neighbours differs from the others by this share
# of what it does itself, and they from those around them by the other share.
_ISOLATED, _FEW_NEIGHBOURS, _LEVEL_AROUND = 1 / 3, 1, 1 / 7
# Pixels that are compared with their neighbours at a time: as many as fit into a cache with about
# twenty copies, and fewer arrays of more of them where some neighbours are not known.
_BAND, _BAND_WITH_GAPS = 1 << 14, 1 << 20
# What is rounding is told by the size of so many pixels, and up to twice that, without the largest.
_MOST_SIZES, _USUAL_SIZES = 1 << 18, 0.99
# The usual distance of a pixel from its neighbours is that of so many pixels, and up to twice that.
_MOST_DISTANCES = 1 << 21
# Outliers that are compared with theirs at a time.
_AT_A_TIME = 1 << 16


def estimate_noise(image: NDArray[Any] | Tensor, *, channel_axis: int | None = None) -> float:
    r"""Return the standard deviation of white noise in an image.

    .. math:: \hat\sigma = \mathrm{median}(|d|) / 0.6745

    where d are the diagonal wavelet coefficients (Daubechies, 4 taps) of the finest scale,
    without those of regions of 16x16 pixels that are constant (saturated or masked), and of
    outliers, such as hot pixels: those further than six standard deviations from the median of
    their neighbours.  Fine texture is taken for noise, so the estimate is an upper bound on
    textured images.

    Parameters
    ----------
    image
        Array or tensor, ``(H, W)``, or with one more axis for the channels, over which
        the estimates are averaged (root mean square), but for those of one or two values.
    channel_axis
        The axis of the channels; None recognises up to four of them at the end or in front, and
        any number in front of the pixels of a tensor.

    Returns
    -------
    float
        In the unit of the image; 0 for images of one or two values.  Images of up to three rows
        or columns are judged by their other direction alone.

    Raises
    ------
    TypeError
        If the image does not hold real numbers.
    ValueError
        If it is not two-dimensional (apart from the channels), not finite, or smaller than 4
        pixels in both directions (and not the same everywhere).

    References
    ----------
    .. [1] Donoho, Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika
       81(3), 1994.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> noise = np.random.default_rng(0).normal(0, 0.1, (256, 256))
    >>> round(dipfast.ops.estimate_noise(0.5 + noise), 2)
    0.1
    """
    image = as_constant("image", image)
    check_image("image", image)
    axis = find_channel_axis("image", image, channel_axis)
    if is_tensor(image):
        image = image.cpu().double().resolve_neg().numpy()
    planes = image[np.newaxis] if axis is None else np.moveaxis(image, axis, 0)
    if planes.ndim != 3:
        raise InputError(f"image must be (H, W) or have one more axis, got shape {image.shape}")
    # Channels of one value, or of black and white, which noise is not, tell nothing.
    telling = [plane for plane in planes if ((plane > plane.min()) & (plane < plane.max())).any()]
    levels = [_level(plane.astype(np.float64)) for plane in telling]
    return float(np.sqrt(np.mean(np.square(levels)))) if levels else 0.0


def _level(plane: Floats) -> float:
    """Return the standard deviation of the noise of one channel."""
    outliers = find_outliers(plane)
    return deviation(wavelet_details(plane, ~outliers if outliers.any() else None))


def find_outliers(plane: Floats, known: Any = None) -> Bools:
    """Return which pixels of an image (H, W) are outliers, such as hot pixels.

    An outlier is further from the median of its eight neighbours (those that are known) than six
    times the standard deviation of that distance in regions that are not constant.
    """
    distance = _distances(plane if known is None else np.where(known, plane, np.nan))
    # Of a large picture every so many pixels tell the usual distance.
    usual = distance.ravel()[:: max(plane.size // _MOST_DISTANCES, 1)]
    usual = usual[usual > _rounding(plane, known)]
    if not usual.size:
        return np.zeros(plane.shape, dtype=bool)
    median = np.median(usual, overwrite_input=True)
    return np.asarray(distance > _OUTLIER / _MEDIAN_TO_DEVIATION * median)


def find_isolated(plane: Floats, outliers: Bools, known: Any = None) -> Bools:
    """Return which outliers of an image (H, W) stand alone, such as hot and dead pixels.

    At most one of the eight neighbours of such a pixel differs from their median by a third of what
    it does, as two do on a line; and their median differs from that of the sixteen pixels around
    them by less than a seventh of it, as that of a star's neighbours does not.
    """
    found = np.array(outliers, dtype=np.bool_)
    values = plane if known is None else np.where(known, plane, np.nan)
    padded = np.pad(values, 2, constant_values=np.nan)
    places = np.argwhere(found)
    for begin in range(0, len(places), _AT_A_TIME):
        rows, columns = places[begin : begin + _AT_A_TIME].T
        found[rows, columns] = _stand_alone(padded, rows, columns)
    return found


def _stand_alone(padded: Floats, rows: Any, columns: Any) -> Any:
    """Return which pixels of an image stand alone; it is padded by two pixels."""
    near, far = (
        np.stack([padded[rows + 2 + i, columns + 2 + j] for i, j in _ring(reach)])
        for reach in (1, 2)
    )
    middle = np.nanmedian(near, axis=0)
    excess = np.abs(padded[rows + 2, columns + 2] - middle)
    others = np.sort(np.nan_to_num(np.abs(near - middle), nan=0.0), axis=0)
    few = others[-1 - _FEW_NEIGHBOURS] < _ISOLATED * excess
    far[:, np.isnan(far).all(axis=0)] = 0.0
    level = np.abs(middle - np.nanmedian(far, axis=0)) < _LEVEL_AROUND * excess
    return few & level


def _ring(reach: int) -> list[tuple[int, int]]:
    """Return the offsets of the pixels at a distance, in rows or columns."""
    offsets = range(-reach, reach + 1)
    return [(i, j) for i in offsets for j in offsets if max(abs(i), abs(j)) == reach]


def _distances(plane: Floats) -> Floats:
    """Return the distance of each pixel from the median of its neighbours that are not NaN."""
    padded = np.pad(plane, 1, constant_values=np.nan)
    distance = np.empty_like(plane)
    whole = min(plane.shape) > 2 and not np.isnan(plane).any()
    if whole:  # but for the pixels at the border, all have eight neighbours
        distance[:1], distance[-1:] = map(_distance_from_neighbours, (padded[:3], padded[-3:]))
        sides = padded[:, :3], padded[:, -3:]
        distance[:, :1], distance[:, -1:] = map(_distance_from_neighbours, sides)
    inside, source = (distance[1:-1, 1:-1], plane) if whole else (distance, padded)
    rows = max((_BAND if whole else _BAND_WITH_GAPS) // plane.shape[1], 1)
    of_band = _distance_from_all if whole else _distance_from_neighbours
    for begin in range(0, len(inside), rows):
        inside[begin : begin + rows] = of_band(source[begin : begin + rows + 2])
    return distance


def _distance_from_all(plane: Floats) -> Floats:
    """Return the distance of the inner pixels from the median of their eight neighbours."""
    lower, upper = _middle_two(_neighbours(plane))
    return np.asarray(np.abs(plane[1:-1, 1:-1] - (lower + upper) / 2))


def _neighbours(padded: Floats) -> list[Floats]:
    """Return the eight neighbours of the inner pixels."""
    rows, columns = padded.shape[0] - 2, padded.shape[1] - 2
    shifts = [(row, column) for row in range(3) for column in range(3) if (row, column) != (1, 1)]
    return [padded[row : row + rows, column : column + columns] for row, column in shifts]


def _distance_from_neighbours(padded: Floats) -> Floats:
    """Return the distance of the inner pixels from the median of their eight neighbours.

    Neighbours that are NaN do not count; the distance is 0 where there is none, or it is NaN.
    """
    around = np.stack(_neighbours(padded))
    around.sort(axis=0)  # NaN comes last
    count = np.isfinite(around).sum(axis=0)
    middle = [np.maximum(k, 0)[np.newaxis] for k in ((count - 1) // 2, count // 2)]
    middle[1] = np.minimum(middle[1], len(around) - 1)
    lower, upper = (np.take_along_axis(around, k, axis=0)[0] for k in middle)
    distance = np.abs(padded[1:-1, 1:-1] - (lower + upper) / 2)
    return np.asarray(np.nan_to_num(distance, nan=0.0))


def _middle_two(parts: list[Floats]) -> tuple[Floats, Floats]:
    """Return the fourth and the fifth of eight values, for arrays of them."""
    x = list(parts)

    def sort(i: int, j: int) -> None:
        x[i], x[j] = np.minimum(x[i], x[j]), np.maximum(x[i], x[j])

    # Four are sorted, and the other four; then the least of the upper halves and the greatest of
    # the lower ones, in turns (Batcher's merging, without what does not reach the middle).
    for begin in (0, 4):
        for i, j in ((0, 1), (2, 3), (0, 2), (1, 3), (1, 2)):
            sort(begin + i, begin + j)
    lower = [np.minimum(x[k], x[7 - k]) for k in range(4)]
    upper = [np.maximum(x[k], x[7 - k]) for k in range(4)]
    return np.maximum.reduce(lower), np.minimum.reduce(upper)


def wavelet_blocks(plane: Floats, known: Any = None, averaged: Any = None) -> tuple[Floats, Floats]:
    """Return the brightness around, and the diagonal detail of, small blocks of an image (H, W).

    With white noise the detail varies by its standard deviation, and the brightness, a mean over
    16x16 pixels, hardly.  Blocks are the 4x4 pixels of the wavelet, or 4 pixels in a row or column
    of an image of less than four rows or columns; with ``known``, a boolean image, those of them
    that are known whole, or, if these are few, 2x2 pixels (Haar).  Blocks of constant regions are
    left out.  In place of the brightness it may be the mean of another image, ``averaged``.

    Raises
    ------
    ValueError
        If the image has less than 4 rows and columns.
    """
    averaged, _ = _upright(plane if averaged is None else averaged, known)
    plane, known = _upright(plane, known)
    details, counted, centres = _blocks(plane, known)
    return _brightness(averaged, known, *centres)[counted], details[counted]


def wavelet_details(plane: Floats, known: Any = None) -> Floats:
    """Return the details of :func:`wavelet_blocks` alone, which is quicker."""
    details, counted, _ = _blocks(*_upright(plane, known))
    return np.asarray(details[counted])


def _upright(plane: Floats, known: Any) -> tuple[Floats, Any]:
    """Return an image, and what is known of it, with rows that are long enough for a wavelet."""
    taps = len(_HIGH_PASS)
    if max(plane.shape) < taps:
        raise InputError(
            f"image of {plane.shape[0]} x {plane.shape[1]} pixels is too small to tell its noise, "
            f"{taps} in one direction are needed; sigma tells it"
        )
    plane = plane.astype(np.float64, copy=False)
    if plane.shape[1] < taps:
        return plane.T, None if known is None else known.T
    return plane, known


def _blocks(plane: Floats, known: Any) -> tuple[Floats, Bools, list[Any]]:
    """Return the details of all blocks, which of them count, and the rows and columns of these."""
    taps = len(_HIGH_PASS)
    tall = plane.shape[0] >= taps
    size, step = ((taps, taps), (2, 2)) if tall else ((1, taps), (1, 2))
    details = _filter(plane.T, _HIGH_PASS).T
    if tall:
        details = _filter(details, _HIGH_PASS)
    whole = None if known is None else all_in_windows(known, size)[:: step[0], :: step[1]]
    if tall and whole is not None and np.count_nonzero(whole) < _FEWEST_BLOCKS:
        size, step = (2, 2), (1, 1)
        whole = all_in_windows(known, size)
        corners = np.lib.stride_tricks.sliding_window_view(plane, (2, 2))
        details = (corners[..., 0, 0] - corners[..., 0, 1] - corners[..., 1, 0]) / 2
        details += corners[..., 1, 1] / 2
    rounding = _rounding(plane, known)
    # In flat regions the detail is 0 but for rounding.
    details[np.abs(details) <= rounding] = 0
    centres = [np.arange(n) * step[k] + size[k] // 2 for k, n in enumerate(details.shape)]
    rows, columns = (centre // _REGION for centre in centres)
    counted = _varied_regions(plane, known, rounding)[rows][:, columns]
    if whole is not None:
        counted &= whole
    return details, counted, centres


def find_constant(plane: Floats) -> Bools:
    """Return which pixels of an image (H, W) lie in any 16x16 pixels of a single value.

    That is padding, a mask or saturation, which has no noise, and its edge is none of the picture.
    """
    differs = np.zeros(plane.shape, bool)
    differs[:, 1:] |= plane[:, 1:] != plane[:, :-1]
    differs[1:] |= plane[1:] != plane[:-1]
    # Those to the left and above of the first column and row of a window count, which is strict by
    # a pixel and cheap.
    return in_squares(~differs, _REGION)


def in_squares(marks: Bools, size: int) -> Bools:
    """Return which pixels of a boolean image lie in a square of so many rows with nothing but True.

    There are none in an image of fewer rows or columns.
    """
    if min(marks.shape) < size:
        return np.zeros(marks.shape, bool)
    squares = all_in_windows(marks, (size, size))
    if not squares.any():
        return np.zeros(marks.shape, bool)
    padded = np.pad(~squares, size - 1, constant_values=True)
    return ~all_in_windows(padded, (size, size))


def all_in_windows(marks: Bools, size: tuple[int, int]) -> Bools:
    """Return which windows of so many rows and columns of a boolean image have nothing but True.

    There is one at each pixel that it fits below and to the right of.
    """
    for count in size:
        have = 1
        while have < count:
            more = min(have, count - have)
            marks = marks[:-more] & marks[more:]
            have += more
        marks = marks.T
    return marks


def find_varied(plane: Floats, known: Any = None) -> Bools:
    """Return which pixels of an image (H, W) lie in 16x16 pixels that are not constant.

    A constant region is saturated, masked or padding: it has no noise.  With ``known``, a boolean
    image, only the pixels that are known count.
    """
    varied = _varied_regions(plane, known, _rounding(plane, known))
    wide = varied.repeat(_REGION, axis=0).repeat(_REGION, axis=1)
    return np.asarray(wide[: plane.shape[0], : plane.shape[1]])


def _varied_regions(plane: Floats, known: Any, rounding: float) -> Bools:
    """Return which regions of 16x16 pixels of an image are not constant."""
    rows, columns = (-(-n // _REGION) for n in plane.shape)
    beyond = [(0, -n % _REGION) for n in plane.shape]
    extremes = []
    for fill, extreme in ((np.inf, np.min), (-np.inf, np.max)):
        of_known = plane if known is None else np.where(known, plane, fill)
        padded = np.pad(of_known, beyond, constant_values=fill)
        # One axis after the other is several times as fast as both.
        of_rows = extreme(padded.reshape(rows, _REGION, -1), axis=1)
        extremes.append(extreme(of_rows.reshape(rows, columns, _REGION), axis=2))
    return np.asarray(extremes[1] - extremes[0] > rounding)


def _rounding(plane: Floats, known: Any = None) -> float:
    """Return the size below which a difference of known pixels is taken for rounding."""
    values = plane.ravel() if known is None else plane[known]
    sizes = np.abs(values[:: max(values.size // _MOST_SIZES, 1)])
    if not sizes.size:
        return 0.0
    # The largest may be an outlier, beside which everything else would be rounding.
    usual = int(_USUAL_SIZES * (sizes.size - 1))
    return 1e-12 * float(np.partition(sizes, usual)[usual])


def _brightness(plane: Floats, known: Any, rows: Any, columns: Any) -> Floats:
    """Return the means of the known pixels around all pixels in some rows and columns."""
    (top, bottom), (left, right) = (
        (np.maximum(centre - _REACH, 0), np.minimum(centre + _REACH, n))
        for centre, n in zip((rows, columns), plane.shape)
    )

    def total(x: Any) -> Any:
        sums = np.zeros((plane.shape[0] + 1, plane.shape[1] + 1))
        np.cumsum(x, axis=0, out=sums[1:, 1:])
        np.cumsum(sums, axis=1, out=sums)
        above, below = sums[top], sums[bottom]
        return below[:, right] - above[:, right] - below[:, left] + above[:, left]

    if known is None:
        return np.asarray(total(plane) / np.outer(bottom - top, right - left))
    return np.asarray(total(plane * known) / np.maximum(total(known), 1))


def deviation(details: Floats) -> float:
    """Return the standard deviation of the noise in wavelet coefficients, from their median."""
    if not details.size:
        return 0.0
    return float(np.median(np.abs(details), overwrite_input=True)) / _MEDIAN_TO_DEVIATION


def _filter(x: Floats, taps: Floats) -> Floats:
    """Filter along the first axis and keep every second sample."""
    end = (len(x) - len(taps)) // 2 * 2 + 1
    result = taps[0] * x[:end:2]
    for k, tap in enumerate(taps[1:], 1):
        result += tap * x[k : k + end : 2]
    return np.asarray(result)
