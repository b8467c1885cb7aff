"""The numbers that describe noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dipfast.checks import as_number
from dipfast.errors import InputError

__all__ = ["BAND_EDGES", "LEAST_VARIANCE", "NoiseParameters"]

LEAST_VARIANCE = (0.1 / 65535) ** 2
"""Nothing is divided by less than this variance: a tenth of a level of 16 bits, squared."""

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

    Raises
    ------
    InputError
        If sigma or gain is negative, excess is less than 1, a number is not finite, low is not
        below high, or the spectrum has no row, or rows of another length than there are bands.

    Examples
    --------
    >>> NoiseParameters(0.1, low=0.0).clipped
    True
    """

    sigma: float
    gain: float = 0.0
    low: float | None = None
    high: float | None = None
    spectrum: tuple[tuple[float, ...], ...] | None = None
    offset: float = 0.0
    excess: float = 1.0

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

    @property
    def clipped(self) -> bool:
        """Whether values are cut off anywhere."""
        return self.low is not None or self.high is not None

    @property
    def is_white(self) -> bool:
        """Whether the noise is the same everywhere: of constant variance, and no bias."""
        return self.gain == 0 and not self.clipped

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
