"""The numbers that describe noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from dipfast.checks import as_number
from dipfast.errors import InputError, InputTypeError

__all__ = ["BAND_EDGES", "LEAST_VARIANCE", "NoiseParameters", "levels_in_words"]

LEAST_VARIANCE = (0.1 / 65535) ** 2
"""Nothing is divided by less than this variance: a tenth of a level of 16 bits, squared."""

# So many levels of channels are named.
_MOST_NAMED = 5
_Parameters = TypeVar("_Parameters", bound="NoiseParameters")

BAND_EDGES = (0.0, 0.08, 0.125, 0.1875, 0.25, 0.36, 0.5, 0.71)
"""Ends of the bands of spatial frequency in which a spectrum is given, in cycles a pixel."""


@dataclass(frozen=True)
class NoiseParameters:
    r"""Describe noise whose variance is affine in the signal, cut off at the ends of a range.

    :class:`dipfast.NoiseModel` has the same parameters, and computes with them.

    Parameters
    ----------
    sigma
        Standard deviation where there is no signal, in units of a picture in [0, 1].
    gain
        What one unit of signal adds to the variance: the inverse of the number of photons
        that make a white pixel.
    low, high
        Where values are cut off; None where they are not.
    spectrum
        How the noise is spread over the bands of spatial frequency between :data:`BAND_EDGES`:
        standard deviations of a coefficient in each band, as multiples of the standard deviation
        of a pixel.  One row for all channels alike; or, for pictures of three channels, one each
        for (R + G + B) / sqrt(3), (R - B) / sqrt(2) and (R - 2 G + B) / sqrt(6).  None, the
        default, is noise that is independent from pixel to pixel and channel to channel.
    offset
        Value of a pixel without signal; 0 by default.  Cameras for science add some 100 counts.
    excess
        The fourth cumulant of the noise of photons over gain^2 times its variance: 1, the default,
        where each photon adds the same, and 3 where it frees a charge of an exponential law, as in
        an EMCCD or a photomultiplier.  It tells how far the noise of a few photons is from normal.
    channel_levels
        Standard deviations of the noise of the channels, with any factor, for noise that is
        stronger in some of them: they are scaled to a mean square of 1, and the other parameters
        are of the mean variance.  None, the default, is the same noise in all channels.

    Raises
    ------
    InputError
        If sigma or gain is negative, excess is less than 1, a number is not finite, low is not
        below high, the spectrum has no row, or rows of another length than there are bands, or
        channel_levels are none, all 0, or given together with a spectrum of several rows.

    Examples
    --------
    >>> NoiseParameters(0.1, low=0.0).clipped
    True
    >>> round(NoiseParameters(0.1, channel_levels=(7, 1)).of_channels([0]).sigma, 3)
    0.14
    """

    sigma: float
    gain: float = 0.0
    low: float | None = None
    high: float | None = None
    spectrum: tuple[tuple[float, ...], ...] | None = None
    offset: float = 0.0
    excess: float = 1.0
    channel_levels: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("sigma", "gain"):
            object.__setattr__(self, name, as_number(name, getattr(self, name), least=0))
        object.__setattr__(self, "offset", as_number("offset", self.offset))
        object.__setattr__(self, "excess", as_number("excess", self.excess, least=1))
        for name in ("low", "high"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_number(name, getattr(self, name)))
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise InputError(f"low must be below high, got low={self.low} and high={self.high}")
        if self.spectrum is not None:
            rows = tuple(
                tuple(as_number("spectrum", value, least=0) for value in row)
                for row in self.spectrum
            )
            bands = len(BAND_EDGES) - 1
            if not rows or {len(row) for row in rows} != {bands}:
                raise InputError(
                    f"spectrum must have rows of {bands} numbers, got {self.spectrum!r}"
                )
            object.__setattr__(self, "spectrum", rows)
        if self.channel_levels is not None:
            object.__setattr__(self, "channel_levels", self._scaled_levels())

    def _scaled_levels(self) -> tuple[float, ...]:
        """Return the levels of the channels with a mean square of 1."""
        assert self.channel_levels is not None
        try:
            given = list(self.channel_levels)
        except TypeError:
            raise InputTypeError(
                f"channel_levels must be a number for each channel, got {self.channel_levels!r}"
            ) from None
        levels = [as_number("channel_levels", level, least=0) for level in given]
        if not any(levels):
            raise InputError(
                f"channel_levels must have a positive number, got {self.channel_levels!r}; noise "
                "of sigma=0 is none"
            )
        if self.spectrum is not None and len(self.spectrum) > 1:
            raise InputError(
                "channel_levels and a spectrum of several rows, which says it, too, cannot both "
                "be given"
            )
        mean = _mean_square(levels)
        # What is read from a record stays as it is.
        if math.isclose(mean, 1.0, rel_tol=1e-9):
            return tuple(levels)
        most = max(levels)  # whose square may be beyond the largest number
        levels = [level / most for level in levels]
        root = math.sqrt(_mean_square(levels))
        return tuple(level / root for level in levels)

    def of_channels(self: _Parameters, channels: Sequence[int]) -> _Parameters:
        """Return the noise of some of the channels, as a picture of these has it.

        Parameters
        ----------
        channels
            Their numbers, from 0 up; at least one.

        Returns
        -------
        NoiseParameters
            The noise, of the class of this one, with channel_levels for more than one channel
            alone.
        """
        if self.channel_levels is None:
            return self
        levels = [self.channel_levels[channel] for channel in channels]
        factor = math.sqrt(_mean_square(levels))
        unlike = tuple(levels) if factor > 0 and max(levels) > min(levels) else None
        return replace(
            self, sigma=factor * self.sigma, gain=factor**2 * self.gain, channel_levels=unlike
        )

    @property
    def clipped(self) -> bool:
        """Whether values are cut off anywhere."""
        return self.low is not None or self.high is not None

    @property
    def is_white(self) -> bool:
        """Whether all values have the same noise: of constant variance, and no bias."""
        return self.gain == 0 and not self.clipped and self.channel_levels is None

    @property
    def is_correlated(self) -> bool:
        """Whether the noise of neighbouring pixels, or of the channels, is related."""
        return self.spectrum is not None

    @property
    def is_free(self) -> bool:
        """Whether there is no noise at all."""
        return self.sigma == 0 and self.gain == 0

    @property
    def typical_sigma(self) -> float:
        """The standard deviation half way from no signal to 1, without clipping."""
        return math.sqrt(self.gain * max(1 - self.offset, 0.0) / 2 + self.sigma**2)

    @property
    def typical_variance(self) -> float:
        """The variance there, which is not 0."""
        return max(self.typical_sigma**2, LEAST_VARIANCE)


def _mean_square(numbers: Sequence[float]) -> float:
    return sum(number * number for number in numbers) / len(numbers)


def levels_in_words(levels: Sequence[float]) -> str:
    """Return the levels of channels for people, of many the first ones and how many there are.

    Parameters
    ----------
    levels
        The levels.

    Returns
    -------
    str
        The numbers, with commas between them.

    Examples
    --------
    >>> levels_in_words((0.5, 1.32))
    '0.5, 1.3'
    """
    named = ", ".join(f"{level:.2g}" for level in levels[:_MOST_NAMED])
    return named if len(levels) <= _MOST_NAMED else f"{named}, ... ({len(levels)})"
