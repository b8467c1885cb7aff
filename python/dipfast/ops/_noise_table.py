"""Tabulate the noise of a pixel against its clean value, without torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dipfast.settings.noise import BAND_EDGES, LEAST_VARIANCE, NoiseParameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["NoiseTable", "band_covariance"]

# Entries of a table, over the range and this share of it beyond each end.
_ENTRIES, _BEYOND = 4097, 1.0
# The values at which the table ends: all that are denoised are nearer (ops/nl_ridge.py).
_FAR = 2e7
# Standard deviations to each side of an end within which there are as many entries again.
_AROUND = 8.0
# Numbers that are looked up at a time: NumPy does it in float64.
_AT_A_TIME = 1 << 20
# Rows and columns of the grid on which a spectrum becomes a covariance.
_GRID = 128
# The standard deviation of the taper of a covariance is its radius over this.
_TAPER = 2.4


class NoiseTable:
    """Hold expectation and variance of a measurement for clean values in and around [0, 1].

    Parameters
    ----------
    noise
        The noise, in units of a picture in [0, 1].

    Notes
    -----
    The formulas are those of :class:`dipfast.NoiseModel`.
    """

    def __init__(self, noise: NoiseParameters) -> None:
        self.noise = noise
        # Finer around the ends, where everything changes within a few standard deviations.
        level = math.sqrt(noise.typical_variance)
        around = level * np.linspace(-_AROUND, _AROUND, _ENTRIES)
        ends = [end for end in (noise.low, noise.high) if end is not None]
        u = np.unique(
            np.concatenate(
                [
                    np.linspace(-_BEYOND, 1 + _BEYOND, _ENTRIES),
                    (-_FAR, noise.offset, _FAR),  # what is linear stays so
                    *(end + around for end in ends),
                    *(end + math.sqrt(_variance(noise, end)) / level * around for end in ends),
                ]
            )
        )
        plain = np.maximum(_variance(noise, u), LEAST_VARIANCE)
        s = np.sqrt(plain)
        first, second = np.zeros_like(u), plain.copy()
        for end, sign in ((noise.low, -1.0), (noise.high, 1.0)):
            if end is None:
                continue
            distance = end - u
            t = sign * distance / s
            beyond = np.array([math.erfc(x / math.sqrt(2)) / 2 for x in t])
            density = np.exp(-0.5 * t**2) * s / math.sqrt(2 * math.pi)
            first += distance * beyond - sign * density
            second += (distance**2 - plain) * beyond - sign * distance * density
        self._clean = u.astype(np.float32)
        # Far beyond an end it no longer grows, and could not be inverted.
        self._expected = np.maximum.accumulate(u + first).astype(np.float32)
        self._variance = np.maximum(second - first**2, LEAST_VARIANCE).astype(np.float32)

    def variance(self, clean: Floats) -> Floats:
        """Return the variance of the measurements of clean values."""
        return _looked_up(clean, self._clean, self._variance)

    def clean(self, expected: Floats) -> Floats:
        """Return the clean values that have these expected measurements.

        Values that no clean value within the ends has become the ends.
        """
        noise = self.noise
        if not noise.clipped:
            return expected
        found = _looked_up(expected, self._expected, self._clean)
        return np.clip(found, noise.low, noise.high, out=found)


def _variance(noise: NoiseParameters, clean: Any) -> Any:
    """Return the variance of the noise of clean values, before it is cut off."""
    return noise.gain * np.maximum(clean - noise.offset, 0) + noise.sigma**2


def _looked_up(x: Floats, at: Floats, values: Floats) -> Floats:
    """Return what a table has between its entries, some numbers at a time to save memory."""
    found = np.empty(x.shape, np.float32)
    numbers, results = np.ascontiguousarray(x).ravel(), found.ravel()
    for begin in range(0, x.size, _AT_A_TIME):
        part = slice(begin, begin + _AT_A_TIME)
        results[part] = np.interp(numbers[part], at, values)
    return found


def band_covariance(spectrum: Any, radius: int) -> NDArray[np.float64]:
    """Return the covariance of noise at distances of up to ``radius`` rows and columns.

    Parameters
    ----------
    spectrum
        Standard deviations in the bands between :data:`~dipfast.settings.noise.BAND_EDGES`, with
        any factor; one row for each channel.
    radius
        The largest distance.

    Returns
    -------
    numpy.ndarray
        Of shape (rows, 2 radius + 1, 2 radius + 1), with the variance of each channel in the
        middle, which is 1 on average over the channels.  It is tapered by a Gaussian, because a
        covariance that ends abruptly is none.
    """
    frequency = np.fft.fftfreq(_GRID)
    bands = np.digitize(np.hypot(frequency[:, None], frequency), BAND_EDGES[1:-1])
    power = np.square(np.asarray(spectrum, np.float64))[:, bands]
    # The blocks that a spectrum is found in have other shares of their coefficients in a band.
    variance = float(power.mean())
    covariance = np.fft.ifft2(power / variance if variance > 0 else power).real
    offsets = np.arange(-radius, radius + 1)
    taper = np.exp(-0.5 * np.square(offsets * (_TAPER / max(radius, 1))))
    near = covariance[:, offsets[:, None], offsets]
    return np.asarray(near * np.outer(taper, taper))
