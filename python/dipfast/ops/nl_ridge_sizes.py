"""Denoise pictures by non-local ridge regression in their own size and in smaller ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dipfast.ops._compiled.nl_ridge import nl_ridge_pass
from dipfast.ops._nl_ridge_passes import Pass, Speed, first_share, passes_of
from dipfast.ops._noise_table import NoiseTable, band_covariance
from dipfast.ops.scales import LOW_REACH, add_low_frequencies, halved
from dipfast.settings.noise import LEAST_VARIANCE, NoiseParameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["Report", "Ridge", "part_of_progress"]

Report: TypeAlias = Callable[[float], object] | None
"""What is told the share that is done, from 0 to 1; None for nothing."""

# The speeds at which pictures of half and of a quarter of the rows and columns are denoised, and
# the least rows and columns of such a picture.
_SMALLER: dict[Speed, tuple[Speed, ...]] = {
    "fast": ("fast", "fast"),
    "balanced": ("balanced", "fast"),
    "best": ("balanced", "fast"),
}
_LEAST_SIZE = 32
# Patches of a volume have so many slices, and so many channels at most: the filter of a patch takes
# time with the third power of its values.
_DEPTH, _MOST_CHANNELS = 3, 3
# Where the noise of channels differs by more than this, patches of one slice are better: in those
# of several the quiet channels leave the noise of the others.  The noisiest one gains 0.5 to 1.5 dB
# where it differs by 5, 4 by 8 and 6 by 13; the quiet ones lose up to 1 dB.  At 4 and less it is
# one or the other.
_UNLIKE_IN_DEPTH = 4.0
# Standard deviation, as a share of the range, below which the first pass takes the mean of the
# patches off: float32 has not enough digits otherwise.  Stronger noise is better left without.
_WEAK = 4 / 255
# The same for later passes that combine patches where noise is correlated: that is less than what
# the kernel adds to the diagonal, 1e-5 of the square of a bright patch, which would keep it.
_FAINT = math.sqrt(1e-5)
# Photons by which the variance of their noise is taken to be larger than a picture tells, over the
# square of the number of channels.  Where few are counted, groups of patches without any look as if
# there was no noise, and a single one stands out of them; it is nothing where many are.  Chosen out
# of 0, 0.06, 0.125, 0.25 and 0.5 for photographs of 0.3 to 10 photons, in grey and in colour.  The
# excess of the fourth moment multiplies it: for EMCCDs, out of 0.125 to 1, 0.375 was best.
_UNCERTAIN_COUNT = 0.125
# Distance in pixels up to which noise is taken to be correlated.
_RADIUS = 12
# Channels are scaled by at most so many times as much as the noisiest one: what is similar in one
# with hardly any noise is not in the others.  Chosen out of 5, 10, 20 and 1000 for photographs with
# noise of sigma 0.5 to 50 in their channels.
_MOST_UNLIKE = 20.0

_TO_OPPONENT = np.array(
    [
        [1 / math.sqrt(3)] * 3,
        [1 / math.sqrt(2), 0, -1 / math.sqrt(2)],
        [1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)],
    ],
    np.float32,
)


class Ridge:
    """Denoise pictures of one kind by non-local ridge regression, size by size.

    Sizes are numbered by how many times rows and columns are halved: 0 is the picture itself.

    Parameters
    ----------
    shape
        Shape of the volume, (C, Z, H, W); a picture has one slice, Z = 1.
    noise
        The noise, in units of a picture in [0, 1].
    speed
        ``"fast"``, ``"balanced"`` or ``"best"``.
    rounds
        How many passes to make of each size at most; -1 for all but the last; None, the default,
        for all.
    neighbours
        How many slices to either side help; 4 by default.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        noise: NoiseParameters,
        speed: Speed,
        rounds: int | None = None,
        neighbours: int = 4,
    ) -> None:
        self.noise, self.rounds, self.neighbours = noise, rounds, neighbours
        self.channels = channels = shape[0]
        unlike = noise.channel_levels is not None and (
            max(noise.channel_levels) > _UNLIKE_IN_DEPTH * min(noise.channel_levels)
        )
        thick = 0 < channels <= _MOST_CHANNELS and neighbours > 0 and not unlike
        self._depth = min(_DEPTH, shape[1]) if thick else 1
        self._scale_channels(noise)
        spectrum = noise.spectrum
        self._turned = spectrum is not None and len(spectrum) == len(_TO_OPPONENT) == channels
        self._covariance = _covariance(noise, channels)
        # Of counts, which are compared in so many channels and slices together.
        photons = _UNCERTAIN_COUNT * noise.excess
        gains = np.array([table.noise.gain for table in self._tables])
        of_photons = photons * (gains / max(channels * self._depth, 1)) ** 2
        self._uncertainty = of_photons.astype(np.float32)[:, None, None, None]
        self.speeds = self._speeds(shape, speed)

    def _scale_channels(self, noise: NoiseParameters) -> None:
        """Set the units of the channels, in which their noise is equally strong.

        Similar patches are then those that differ as little as their noise.  Without that the
        noisiest channel alone would choose them.
        """
        self._tables = [NoiseTable(noise)]
        self._units: Floats | None = None
        self._relative: Floats | None = None
        if noise.channel_levels is None:
            return
        numbers = range(len(noise.channel_levels))
        self._tables = [NoiseTable(noise.of_channels([channel])) for channel in numbers]
        levels = np.array(noise.channel_levels, np.float32)[:, None, None, None]
        self._units = np.maximum(levels, levels.max() / np.float32(_MOST_UNLIKE))
        if (self._units > levels).any():
            self._relative = np.square(levels / self._units)

    def _speeds(self, shape: tuple[int, ...], speed: Speed) -> tuple[Speed, ...]:
        """Return the speeds of the sizes in which the picture is denoised."""
        if self.noise.spectrum is not None or shape[1] > 1:
            return (speed,)
        least, smaller = min(shape[-2:]), _SMALLER[speed]
        count = sum(least >> (number + 1) >= _LEAST_SIZE for number in range(len(smaller)))
        return (speed, *smaller[:count])

    def work(self, size: int) -> float:
        """Return the pixels of all passes of a size, as a share of those of the picture."""
        return 0.25**size * len(self._passes(size))

    def denoise(
        self,
        noisy: Floats,
        gain: Any = None,
        callback: Report = None,
        denoise_size: Callable[[Floats, int, Floats | None, Any, Report], Floats] | None = None,
    ) -> Floats:
        """Return a picture, or a volume, denoised in all its sizes.

        Parameters
        ----------
        noisy
            The picture, in units of its range, of the shape that was told.
        gain
            How many times as large the variance of the noise is in each value, of that shape;
            None, the default, for one.
        callback
            Called with the share that is done, from 0 to 1.
        denoise_size
            What denoises one of the sizes; None, the default, for :meth:`denoise_size`, which has
            the same arguments.

        Returns
        -------
        numpy.ndarray
            The picture; the one that was given where there is nothing to take out.
        """
        if self.noise.is_free or not (noisy != noisy.flat[0]).any():
            if callback is not None:
                callback(1.0)
            return noisy
        pictures = [(noisy, gain)]
        for _ in self.speeds[1:]:
            noisy, gain = pictures[-1]
            pictures.append((halved(noisy), None if gain is None else halved(gain)))
        # The smallest first: each picture gets its low frequencies from the one before.
        whole = sum(self.work(size) for size in range(len(pictures)))
        x, done = None, 0.0
        while pictures:
            size = len(pictures) - 1
            noisy, gain = pictures.pop()
            report = part_of_progress(callback, done, self.work(size), whole)
            x = (denoise_size or self.denoise_size)(noisy, size, x, gain, report)
            done += self.work(size)
        assert x is not None
        return x

    def denoise_size(
        self,
        noisy: Floats,
        size: int,
        smaller: Floats | None = None,
        gain: Any = None,
        callback: Report = None,
    ) -> Floats:
        """Return a picture denoised in one of its sizes.

        What is made of a pixel depends on pixels of this size within :meth:`reach` rows and
        columns, and on low frequencies of the smaller picture nearby.

        Parameters
        ----------
        noisy
            The picture of that size, or a part of it.
        size
            How many times rows and columns were halved.
        smaller
            The picture of half the size as this function returned it; None, the default, for none.
        gain
            How many times as large the variance of the noise is in each value; None, the default,
            for one.
        callback
            Called with the share that is done, from 0 to 1.

        Returns
        -------
        numpy.ndarray
            The picture.  Of size 0 it is the clean one; others have the bias of clipped noise.
        """
        turned, units, measured = self._turned, self._units, noisy
        noisy = noisy if units is None else noisy / units
        x = noisy = _mixed(_TO_OPPONENT, noisy) if turned else noisy
        passes, share = self._passes(size), np.float32(0.25**size)
        is_constant, told = self.noise.gain == 0 and not self.noise.clipped, gain
        if is_constant and self._relative is not None:
            told = self._relative * (np.ones_like(noisy) if gain is None else gain)
        for index, one in enumerate(passes):
            source, level = noisy, self._covariance * share
            if one.kept < 1:
                source = x + np.float32(one.kept) * (source - x)
                level = level * np.float32(one.kept**2)
            # The noisy picture tells its own variance only where it is averaged.
            own = told if is_constant else self._gain(x if index else _around(x))
            guide = x[:1] if turned else x.mean(axis=0, keepdims=True)
            filtered = nl_ridge_pass(
                _windows(source, self._depth),
                np.ascontiguousarray(_windows(guide, self._depth).mean(axis=0)),
                np.concatenate([level] * self._depth),
                guide_covariance=None if index else self._of_guide(level),
                pilot=_windows(x, self._depth) if index else None,
                gain=None if own is None else _windows(own, self._depth),
                callback=part_of_progress(callback, index, 1, len(passes)),
                patch=one.patch,
                group=one.group,
                step=one.step,
                reach=one.reach,
                slices_reach=max(self.neighbours - self._depth // 2, 0),
                share=self._first_share(size),
                centred=self._is_centred(size, index) or _has_few_patches(x.shape, one),
                filters=one.filters,
            )
            x = _slices(filtered, self._depth)
        x = x if units is None else x * units
        if smaller is not None:
            add_low_frequencies(x, smaller, None if told is None else told > 0)
        x = self._clean(self._primary(x)) if size == 0 else x
        # The passes need a least variance, by which what has none would be changed a little.
        for channel, level in enumerate(self.noise.channel_levels or ()):
            if level == 0:
                x[channel] = measured[channel]
        return x

    def reach(self, size: int) -> int:
        """Return how many rows and columns away nothing of a size matters to a pixel any more."""
        # A pixel is in patches of groups whose first patch is that far away, and the others of the
        # group once more.
        reach = sum(2 * one.reach + 2 * one.patch for one in self._passes(size))
        return reach + (LOW_REACH if size + 1 < len(self.speeds) else 0)

    def _passes(self, size: int) -> tuple[Pass, ...]:
        correlated = self.noise.spectrum is not None
        speed, level = self.speeds[size], self._level(size)
        return passes_of(self.channels, level, correlated, speed, self._depth)[: self.rounds]

    def _first_share(self, size: int) -> float:
        correlated = self.noise.spectrum is not None
        return first_share(self.channels, self._level(size), correlated, self._depth)

    def _of_guide(self, level: Floats) -> Floats | None:
        """Return the covariance of the noise of the guide; None where noise is not correlated."""
        if self.noise.spectrum is None:
            return None
        # Channels and slices are independent: their mean has less noise.
        of_plane = level[0] if self._turned else level.mean(axis=0) / np.float32(len(level))
        return np.ascontiguousarray(of_plane / np.float32(self._depth), np.float32)

    def _is_centred(self, size: int, index: int) -> bool:
        """Return whether a pass takes the mean of patches off."""
        if index > 0:
            weak = self._passes(size)[index].filters == "patches"
            return weak and self._level(size) < _FAINT
        # Else the smallest picture of few photons would be too dark, and no other makes up for it.
        counts = self.noise.gain > 0 and size + 1 == len(self.speeds)
        return counts or self._level(size) < _WEAK

    def _level(self, size: int) -> float:
        """Return the standard deviation of the noise of a size as a share of the widest range."""
        # In their units, the range of the quietest channel is the widest: it shows the most.
        quietest = min(self.noise.channel_levels or (1.0,))
        return quietest * math.sqrt(_scale(self.noise)) / (1 << size)

    def _primary(self, x: Floats) -> Floats:
        """Return a picture in the channels that it was given in."""
        return _mixed(_TO_OPPONENT.T, x) if self._turned else x

    def _by_table(self) -> Iterator[tuple[NoiseTable, slice]]:
        """Yield the tables, each with the channels that it is for."""
        if len(self._tables) == 1:
            yield self._tables[0], slice(None)
            return
        for channel, table in enumerate(self._tables):
            yield table, slice(channel, channel + 1)

    def _clean(self, expected: Floats) -> Floats:
        """Return the clean picture that has this expectation of its measurement."""
        if not self.noise.clipped:
            return expected
        clean = np.empty_like(expected)
        for table, part in self._by_table():
            clean[part] = table.clean(expected[part])
        return clean

    def _gain(self, pilot: Floats) -> Floats:
        """Return how many times as large the variance of the noise is as a picture tells."""
        # Of the mean over the channels where these were mixed.
        clean = self._clean(self._primary(pilot if self._units is None else pilot * self._units))
        variance = np.empty_like(clean)
        for table, part in self._by_table():
            variance[part] = table.variance(clean[part])
        variance += self._uncertainty
        if self._units is not None:
            variance /= np.square(self._units)
        variance /= np.float32(_scale(self.noise))
        if self._turned:
            variance[...] = variance.mean(axis=0)
        return variance


def part_of_progress(callback: Report, begin: float, part: float, whole: float) -> Report:
    """Return the callback for a part of the work that begins after so much of the whole.

    Parameters
    ----------
    callback
        What is told the share of the whole that is done, from 0 to 1; None for nothing.
    begin, part, whole
        Where the part begins, how much it is, and how much the whole.

    Returns
    -------
    callable or None
        What is to be told the share of the part.
    """
    if callback is None:
        return None
    return lambda share: callback(min((begin + part * share) / whole, 1.0))


def _windows(x: Floats, depth: int) -> Floats:
    """Return a picture whose channels are those of some slices that follow each other."""
    if depth == 1:
        return x
    last = x.shape[1] - depth + 1
    return np.concatenate([x[:, first : first + last] for first in range(depth)])


def _slices(x: Floats, depth: int) -> Floats:
    """Return a picture of such windows: each slice as the mean of what it is in all of them."""
    if depth == 1:
        return x
    channels, last = len(x) // depth, x.shape[1]
    sums = np.zeros((channels, last + depth - 1, *x.shape[2:]), np.float32)
    counts = np.zeros((len(sums[0]), 1, 1), np.float32)
    for first in range(depth):
        sums[:, first : first + last] += x[first * channels : (first + 1) * channels]
        counts[first : first + last] += 1
    sums /= counts
    return sums


def _around(x: Floats) -> Floats:
    """Return the means over five rows and columns."""
    reach = 2
    mean = np.empty_like(x)
    for plane, out in zip(x.reshape(-1, *x.shape[-2:]), mean.reshape(-1, *x.shape[-2:])):
        for axis in (0, 1):
            padding = [(0, 0), (0, 0)]
            padding[axis] = (reach, reach)
            padded = np.pad(plane if axis == 0 else out, padding, mode="edge")
            count = plane.shape[axis]
            out[...] = 0
            for k in range(2 * reach + 1):
                out += padded[k : k + count] if axis == 0 else padded[:, k : k + count]
            out /= 2 * reach + 1
    return mean


def _has_few_patches(shape: tuple[int, ...], one: Pass) -> bool:
    """Return whether a picture has fewer patches than a group: they would be drawn towards 0."""
    rows, columns = (max(n - one.patch, 0) + 1 for n in shape[-2:])
    return rows * columns < one.group


def _scale(noise: NoiseParameters) -> float:
    """Return the variance that the covariance stands for."""
    return noise.typical_variance


def _covariance(noise: NoiseParameters, channels: int) -> Floats:
    """Return the covariance of each channel with itself, (C, rows, columns)."""
    if noise.spectrum is None:
        return np.full((channels, 1, 1), max(_scale(noise), LEAST_VARIANCE), np.float32)
    rows = noise.spectrum if len(noise.spectrum) > 1 else noise.spectrum * channels
    tables = band_covariance(rows, _RADIUS) * _scale(noise)
    return np.ascontiguousarray(tables, np.float32)


def _mixed(matrix: Any, x: Floats) -> Floats:
    """Return a picture whose channels are mixed by a matrix."""
    return np.ascontiguousarray(np.tensordot(matrix, x, axes=1), np.float32)
