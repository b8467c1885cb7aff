"""Stretch the values of a picture of high dynamic range, so that its noise has nearly one size.

In fields of stars, gels and fluorescence nearly all of a picture lies within a few hundredths of
its range, and the noise there is a thousandth of it.  A network that is fitted to such values
learns the few bright pixels alone.  After a stretch the dark ones count as much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from dipfast.arrays import as_double
from dipfast.errors import InputError
from dipfast.model.noise import NoiseModel
from dipfast.ops.noise_level import deviation, find_isolated, find_outliers, wavelet_details
from dipfast.settings.noise import LEAST_VARIANCE

__all__ = ["Stretch", "needs_stretch", "photon_noise"]

# The range of a stretched picture in standard deviations of its noise: fewer would hide faint parts
# beside bright ones, and more would leave the noise too small for a network.
_UNITS = 64.0
# Of these the darker half of a picture has at most so many, so that some are left for the brighter.
_DARK_UNITS = 32.0
# The range goes beyond the least and greatest value by so many standard deviations.
_MARGIN = 3.0
# What Anscombe adds to a number of photons.
_ANSCOMBE = 0.375
# Decimal logarithms between which kappa is searched, and the halvings of that interval.
_EXPONENTS, _HALVINGS = (-9.0, 0.0), 40
# The table of expectations, and the nodes of its quadrature.
_KNOTS, _NODES = 4097, 64
# A picture is stretched if the noise at its median is below this share of the range, and the median
# in the lowest part of it.
_FAINT, _LOWEST_PART = 1 / 400, 0.1


@dataclass(frozen=True)
class Stretch:
    r"""Map values to [0, 1] monotonically, so that the noise has nearly the same size everywhere.

    .. math:: t(x) = \frac{T(x) - T(low)}{T(high) - T(low)}, \qquad
              T(x) = \int \frac{dx}{\sqrt{v(x) + (\kappa \max(x - x_0, 0))^2}}, \qquad
              v(x) = gain \max(x - offset, 0) + sigma^2 + \tfrac{3}{8} gain^2

    For :math:`\kappa = 0` this is the generalised Anscombe transform [1]_, which stabilises the
    variance of Poisson-Gaussian noise: it is Anscombe's for photons alone, and linear for white
    noise.  With :math:`\kappa > 0` it is logarithmic far above the sky :math:`x_0`, where then
    noise is smaller than elsewhere.  The integral has a closed form, and so has its inverse.

    Parameters
    ----------
    measured
        The noise of the picture.
    low, high
        The values that become 0 and 1, in the unit of the picture.
    sky
        The value :math:`x_0` above which values are compressed, in the unit of the picture.
    kappa
        The relative difference :math:`dx / x` that far above the sky counts as much as a standard
        deviation of the noise does elsewhere; 0, the default, compresses nothing.

    Notes
    -----
    :meth:`of` chooses all of these for a picture.

    References
    ----------
    .. [1] Starck, Murtagh, Bijaoui, "Image processing and data analysis: the multiscale
       approach", Cambridge University Press, 1998, section 1.5 (generalised Anscombe transform).
    .. [2] Makitalo, Foi, "Optimal inversion of the Anscombe transformation in low-count Poisson
       image denoising", IEEE TIP 20(1), 2011.
    .. [3] Makitalo, Foi, "Optimal inversion of the generalized Anscombe transformation for
       Poisson-Gaussian noise", IEEE TIP 22(1), 2013.

    Examples
    --------
    >>> sky = torch.full((64, 64), 100.0)
    >>> sky[32, 32] = 50_000.0  # a star
    >>> stretch = Stretch.of(sky, NoiseModel(5.0, 1.0))
    >>> round(1 / stretch.noise.sigma)  # standard deviations from black to white
    67
    >>> [round(x, 1) for x in stretch.inverse(stretch.forward(sky[32, 31:33])).tolist()]
    [100.0, 50000.0]
    """

    measured: NoiseModel
    low: float
    high: float
    sky: float
    kappa: float = 0.0

    def __post_init__(self) -> None:
        numbers = self.low, self.high, self.sky, self.kappa
        if not all(map(math.isfinite, numbers)) or not self.low < self.high or self.kappa < 0:
            raise InputError(
                "low must be below high and kappa not below 0, all finite, got "
                f"low={self.low}, high={self.high}, sky={self.sky}, kappa={self.kappa}"
            )
        if self.measured.gain > 0 and self.sky < self.measured.offset:
            raise InputError(
                "sky must not be below the offset where there is photon noise, got "
                f"sky={self.sky} and offset={self.measured.offset}"
            )
        if self.measured.is_free:
            raise InputError("measured must have noise; a picture without needs no stretch")

    @classmethod
    def of(cls, picture: Tensor, noise: NoiseModel) -> Stretch:
        r"""Return the stretch for a picture.

        The sky :math:`x_0` is the median.  :math:`\kappa` is 0 if the values of the picture span
        64 standard deviations of the noise or fewer, else the least for which they span 64.  The
        range ends three standard deviations below the least and above the greatest value.

        If the values below the median span more than 32 standard deviations alone, the sky is the
        value where they have spanned 32.

        Parameters
        ----------
        picture
            The values that were measured, of any shape, noisy.
        noise
            Their noise, in the unit of the picture; ends, where it is clipped, do not matter.

        Returns
        -------
        Stretch
            The same for all channels.

        Raises
        ------
        InputError
            If there is no value or no noise, or a value is not finite.
        """
        values = as_double(picture.detach()).flatten()
        if not values.numel() or not bool(values.isfinite().all()):
            raise InputError("picture must have values, and all of them finite")
        least, greatest, median = float(values.min()), float(values.max()), float(values.median())
        sky = max(median, noise.offset) if noise.gain > 0 else median
        margins = [_MARGIN * math.sqrt(_stable_variance(noise, x)) for x in (least, greatest)]
        found = cls(noise, least - margins[0], greatest + margins[1], sky)
        if found._span(least, sky) > _DARK_UNITS:
            sky = found._at(found._units_of(least) + _DARK_UNITS)
            found = replace(found, sky=max(sky, noise.offset) if noise.gain > 0 else sky)
        if found._span(least, greatest) <= _UNITS:
            return found
        few, many = _EXPONENTS
        for _ in range(_HALVINGS):
            middle = (few + many) / 2
            if replace(found, kappa=10**middle)._span(least, greatest) > _UNITS:
                few = middle
            else:
                many = middle
        return replace(found, kappa=10**many)

    @property
    def width(self) -> float:
        """The range in standard deviations of the noise."""
        return self._span(self.low, self.high)

    @property
    def noise(self) -> NoiseModel:
        """The noise of the stretched picture: of constant variance, and not clipped.

        Where the signal is so strong that it is compressed, the noise is smaller than that.
        """
        measured = self.measured
        return NoiseModel(
            1 / self.width, spectrum=measured.spectrum, channel_levels=measured.channel_levels
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return values stretched to [0, 1].

        Parameters
        ----------
        x
            Values of any shape, in the unit of the picture.  Beyond ``low`` and ``high`` they
            become 0 and 1.

        Returns
        -------
        Tensor
            t, of the same shape, dtype and device.
        """
        units = self._units(as_double(x).clamp(self.low, self.high))
        return ((units - self._begin) / self.width).clamp(0, 1).to(x)

    def inverse(self, t: Tensor) -> Tensor:
        """Return the values that :meth:`forward` has stretched.

        Parameters
        ----------
        t
            Stretched values of any shape, in [0, 1]; others are cut off.

        Returns
        -------
        Tensor
            x, of the same shape, dtype and device, in the unit of the picture.
        """
        return self._inverse(as_double(t)).to(t)

    def unbiased_inverse(self, t: Tensor) -> Tensor:
        r"""Return the clean values whose measurement has the expectation t after the stretch.

        .. math:: x: \; E[t(x + s(x) \xi)] = t, \qquad
                  s(x)^2 = gain \max(x - offset, 0) + sigma^2, \qquad \xi \sim N(0, 1)

        The stretch is concave, so the mean of stretched measurements is below the stretched mean;
        a network that is fitted to them learns that mean.  This is the exact unbiased inverse
        ([2]_, [3]_) for noise in its normal approximation, without clipping.  Expectations are
        those of Gauss-Hermite quadrature, tabulated and interpolated.

        Parameters
        ----------
        t
            Stretched values of any shape, such as the output of a network.

        Returns
        -------
        Tensor
            x, of the same shape, dtype and device, in the unit of the picture and between
            ``low`` and ``high``.
        """
        wide = as_double(t)
        expected = self._expected.to(wide.device)
        right = torch.searchsorted(expected, wide.detach().contiguous()).clamp(1, _KNOTS - 1)
        left = expected[right - 1]
        share = ((wide - left) / (expected[right] - left)).clamp(0, 1)
        return self._inverse((right - 1 + share) / (_KNOTS - 1)).to(t)

    # --- T and its inverse, in standard deviations of the noise ----------------------------------

    def _units(self, x: Tensor) -> Tensor:
        """Return T(x), which is 0 at the offset."""
        gain, kappa, offset = self.measured.gain, self.kappa, self.measured.offset
        black = self._deviation(offset)
        dark, above = x.clamp_max(self.sky) - offset, (x - self.sky).clamp_min(0)
        if gain > 0:
            signal = dark.clamp_min(0)
            root = (gain * signal + black**2).sqrt()
            units = dark.clamp_max(0) / black + 2 * signal / (root + black)
        else:
            units = dark / black
        start = self._deviation(self.sky)
        rise = gain * above + (kappa * above).square()
        # The difference of the roots at x and at the sky, without cancellation.
        grown = rise / ((rise + start**2).sqrt() + start)
        if kappa > 0:
            rate = 2 * kappa * start + gain
            return units + torch.log1p(2 * kappa * (grown + kappa * above) / rate) / kappa
        return units + (2 * grown / gain if gain > 0 else above / start)

    def _inverse_units(self, units: Tensor) -> Tensor:
        """Return the x of T(x)."""
        middle = self._units_of(self.sky)
        dark, above = units.clamp_max(middle), (units - middle).clamp_min(0)
        gain, kappa, offset = self.measured.gain, self.kappa, self.measured.offset
        x = offset + dark * self._deviation(offset)
        if gain > 0:
            x = x + dark.clamp_min(0).square() * (gain / 4)
        start = self._deviation(self.sky)
        if kappa > 0:
            growth, rate = torch.expm1(kappa * above), 2 * kappa * start + gain
            rise = growth * (4 * kappa * start + rate * growth)
            return x + rise / (4 * kappa**2 * (1 + growth))
        return x + above * start + above.square() * (gain / 4)

    def _inverse(self, t: Tensor) -> Tensor:
        units = self._begin + t.clamp(0, 1) * self.width
        return self._inverse_units(units).clamp(self.low, self.high)

    def _deviation(self, x: float) -> float:
        return math.sqrt(_stable_variance(self.measured, x))

    def _units_of(self, x: float) -> float:
        return float(self._units(torch.tensor(x, dtype=torch.float64)))

    def _at(self, units: float) -> float:
        return float(self._inverse_units(torch.tensor(units, dtype=torch.float64)))

    def _span(self, low: float, high: float) -> float:
        return float(self._units(torch.tensor([low, high], dtype=torch.float64)).diff())

    @cached_property
    def _begin(self) -> float:
        return self._units_of(self.low)

    @cached_property
    def _expected(self) -> Tensor:
        """The expectation of the stretched measurement at values that are evenly spaced in t."""
        x = self._inverse(torch.linspace(0, 1, _KNOTS, dtype=torch.float64))
        unclipped = replace(self.measured, low=None, high=None)
        noise = replace(unclipped, spectrum=None, channel_levels=None)
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        samples = x[:, None] + noise.variance(x)[:, None].sqrt() * torch.from_numpy(nodes)
        mean = self._units(samples) @ torch.from_numpy(weights / weights.sum())
        table = (mean - self._begin) / self.width
        # Errors of the quadrature must not turn the order.
        least = torch.arange(_KNOTS, dtype=torch.float64) * (1e-6 / _KNOTS)
        return (table - least).cummax(0).values + least


def needs_stretch(picture: Tensor, noise: NoiseModel) -> bool:
    """Return whether a picture has so high a dynamic range that it should be stretched.

    It has if the standard deviation of the noise at the median is below 1/400 of the range from
    the least to the greatest value, and the median in the lowest tenth of that range.  The noise
    is that of :class:`Stretch`, which is not 0 where no photon was measured.

    Parameters
    ----------
    picture
        The values that were measured, of any shape.
    noise
        Their noise, in the unit of the picture; without any noise the answer is False.

    Returns
    -------
    bool
        Whether :class:`Stretch` will help.
    """
    if noise.is_free or not picture.numel():
        return False
    values = picture.detach().flatten()
    values = values if values.is_floating_point() else as_double(values)
    least, median, most = (float(x) for x in (values.min(), values.median(), values.max()))
    # The median of a picture of few photons is often 0, where the plain variance would be 0 too.
    level = math.sqrt(_stable_variance(noise, median))
    span = most - least
    return level < _FAINT * span and median - least <= _LOWEST_PART * span


def _stable_variance(noise: NoiseModel, x: float) -> float:
    """Return the variance whose root is the local unit of T, always positive."""
    signal = max(x - noise.offset, 0.0)
    variance = noise.gain * (signal + _ANSCOMBE * noise.gain) + noise.sigma**2
    return max(variance, LEAST_VARIANCE)


# --- the noise of such pictures --------------------------------------------------------------

Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"

# Differences of this order along rows and columns: the highest spatial frequencies, of which a lens
# leaves next to nothing.
_ORDER = 8
_BINOMIALS = np.array([math.comb(_ORDER, k) for k in range(_ORDER + 1)], np.float64)
_BINOMIALS /= math.sqrt(math.comb(2 * _ORDER, _ORDER))
_DIFFERENCE = _BINOMIALS * (-1.0) ** np.arange(_ORDER + 1)
# Of so many differences that overlap, one is independent: the sum of their squared correlations.
_OVERLAP = (math.comb(4 * _ORDER, 2 * _ORDER) / math.comb(2 * _ORDER, _ORDER) ** 2) ** 2
# Fewer independent differences than this tell no line; of all, not many more than this are used.
_FEWEST, _MOST = 64, 1 << 20
# Squares of normal values are cut off here; mean and variance of what that leaves.
_CUT = 4.0
_CUT_MEAN = math.erf(math.sqrt(_CUT / 2)) * (1 - _CUT) + _CUT
_CUT_MEAN -= 2 * math.sqrt(_CUT) * math.exp(-_CUT / 2) / math.sqrt(2 * math.pi)
_CUT_VARIANCE = math.erf(math.sqrt(_CUT / 2)) * (3 - _CUT**2) + _CUT**2 - _CUT_MEAN**2
_CUT_VARIANCE -= (
    2 * (_CUT**1.5 + 3 * math.sqrt(_CUT)) * math.exp(-_CUT / 2) / math.sqrt(2 * math.pi)
)
# A line is fitted so many times, each time with the weights of the line before.
_FITS = 30
# A gain below so many standard errors cannot be told from none.
_TOLD = 1.5
# An offset is told with a gain from so many standard errors on.
_TOLD_OFFSET = 5.0
# So many pixels of the greatest value are no coincidence: they are saturated.
_SATURATED = 4


def photon_noise(picture: Tensor) -> NoiseModel:
    r"""Estimate the noise of a picture of high dynamic range, such as a field of stars.

    Of the differences d of order 8 along rows and columns, the variance is

    .. math:: E[d^2] = c + gain \, (m - x_0) + q \max(m - x_0, 0)^2

    where m is the mean of the values around, weighted with the squared weights of the difference,
    and :math:`x_0` the median of m, the sky.  The first two terms are noise.  The third one is
    what the lens has left of the structure of stars: it grows with the square of their brightness,
    and photon noise does not.  The coefficients, none of which is negative, are fitted by
    iteratively reweighted least squares; squares above four times their expectation are cut off.

    Parameters
    ----------
    picture
        The picture, (..., H, W), one or more channels whose noise is the same, and white; NaN
        where it is unknown.  Isolated outliers, saturated pixels and constant parts, such as the
        borders of registered pictures, are left out.

    Returns
    -------
    NoiseModel
        The noise in the unit of the picture, not clipped.  The gain is 0 if it is less than 1.5
        standard errors.  Where the fitted variance is negative at 0, the picture has an offset; if
        the gain is less than 5 standard errors then, sigma is 0, and the gain such that the
        variance is right at the sky.

    Raises
    ------
    InputError
        If the picture has not at least two axes, or is too small to tell its noise.

    Notes
    -----
    The idea of a line through variances of high-pass details against local means is that of [1]_.

    References
    ----------
    .. [1] Foi, Trimeche, Katkovnik, Egiazarian, "Practical Poissonian-Gaussian noise modeling
       and fitting for single-image raw-data", IEEE TIP 17(10), 2008.

    Examples
    --------
    >>> u = 200 + 5000 * torch.sin(torch.linspace(0, 20, 256)).clamp_min(0).square().repeat(256, 1)
    >>> noisy = NoiseModel(10.0, 1.0).sample(u, torch.Generator().manual_seed(0))
    >>> abs(photon_noise(noisy).gain - 1) < 0.1
    True
    """
    if picture.ndim < 2:
        raise InputError(f"picture must have shape (..., H, W), got {tuple(picture.shape)}")
    planes = picture.detach().cpu().double().numpy().reshape(-1, *picture.shape[-2:])
    parts = [_differences(plane) for plane in planes]
    details, means = (np.concatenate(part) for part in zip(*parts))
    if len(details) < _FEWEST * _OVERLAP:
        levels = [_plain_level(plane) for plane in planes]
        return NoiseModel(math.sqrt(float(np.mean(np.square(levels)))))
    sky = float(np.median(means))
    constant, gain, error = _line(details, means - sky)
    if gain * sky <= constant:
        return NoiseModel(math.sqrt(constant - gain * sky), gain)
    if gain < _TOLD_OFFSET * error:
        return NoiseModel(0.0, constant / sky)
    # Darker than the sky something of the noise is left.
    return NoiseModel(math.sqrt(constant / 2), gain, offset=sky - constant / 2 / gain)


def _differences(plane: Floats) -> tuple[Floats, Floats]:
    """Return the differences of a channel (H, W) and the means around, without unknown ones."""
    if min(plane.shape) <= _ORDER:
        return np.empty(0), np.empty(0)
    known = np.isfinite(plane) & ~_constant(plane)
    if known.any():
        brightest = plane == plane[known].max()
        if np.count_nonzero(brightest) >= _SATURATED:
            known &= ~brightest
        filled = np.where(known, plane, 0.0)
        known &= ~find_isolated(filled, find_outliers(filled, known), known)
    values = np.where(known, plane, np.nan)
    details, means = _filtered(values, _DIFFERENCE), _filtered(values, _DIFFERENCE**2)
    whole = np.isfinite(details)
    return details[whole], means[whole]


def _constant(plane: Floats) -> Any:
    """Return which pixels of a channel lie in a window, as large as a difference, of one value.

    Such windows are padding, which has no noise: the median of the squares would be too low, or 0.
    Their pixels are left out and not the windows alone, because what is beyond their edge is no
    structure of the picture either.
    """
    first = plane[:-1, :-1]
    others = plane[1:, :-1], plane[:-1, 1:], plane[1:, 1:]
    differ = np.logical_or.reduce([first != other for other in others])
    of_one_value = _filtered(differ.astype(np.float64), np.ones(_ORDER)) == 0
    around = np.pad(of_one_value.astype(np.float64), _ORDER)
    return _filtered(around, np.ones(_ORDER + 1)) > 0


def _filtered(plane: Floats, taps: Floats) -> Floats:
    """Return a plane correlated with the taps along both axes, where they are all inside."""
    for _ in range(2):
        count = len(plane) - len(taps) + 1
        plane = sum(
            (tap * plane[k : k + count] for k, tap in enumerate(taps)),
            start=np.zeros((count, plane.shape[1])),
        ).T
    return plane


def _plain_level(plane: Floats) -> float:
    known = np.isfinite(plane)
    details = wavelet_details(np.where(known, plane, 0.0), None if known.all() else known)
    return deviation(details)


def _line(details: Floats, above: Floats) -> tuple[float, float, float]:
    """Return the variance of the details at the sky, what a unit above it adds, and its error."""
    squares, counts = np.square(details), np.ones_like(details)
    if len(squares) > _MOST:  # all of the brightest, and some of the others
        order = np.argpartition(above, len(above) - _MOST // 2)
        step = math.ceil(2 * len(above) / _MOST)
        # In the order of the picture, so that what is left is spread evenly.
        rest = np.sort(order[: -_MOST // 2])[::step]
        chosen = np.concatenate([rest, order[-_MOST // 2 :]])
        squares, above, counts = squares[chosen], above[chosen], counts[chosen]
        counts[: len(rest)] = step
    columns = np.stack([np.ones_like(above), above, np.square(above.clip(0))])
    # The median of the square of a normal value is 0.455.
    constant = float(np.median(squares[above <= 0])) / 0.455
    if constant == 0:
        return 0.0, 0.0, 0.0
    solution = np.array([constant, 0.0, 0.0])
    for _ in range(_FITS):
        variance = (solution @ columns).clip(0.05 * constant)
        cut = np.minimum(squares, _CUT * variance) / _CUT_MEAN
        weights = counts / variance**2
        matrix = (columns * weights) @ columns.T
        solution, error = _not_negative(matrix, columns @ (weights * cut))
    if solution[1] > 0:
        error = math.sqrt(_CUT_VARIANCE / _CUT_MEAN**2 * _OVERLAP * error)
        if solution[1] >= _TOLD * error:
            return float(solution[0]), float(solution[1]), error
    return float(solution[0]), 0.0, 0.0


def _not_negative(matrix: Floats, right: Floats) -> tuple[Floats, float]:
    """Return the solution of normal equations with no negative coefficient.

    The second result is the variance of the second coefficient for errors of variance 1.
    """
    best, least, error = np.zeros(3), math.inf, 0.0
    for free in ([0], [0, 1], [0, 2], [0, 1, 2]):
        scale = np.sqrt(np.diag(matrix)[free])
        if not scale.all():
            continue
        inverse = np.linalg.pinv(matrix[np.ix_(free, free)] / np.outer(scale, scale))
        inverse /= np.outer(scale, scale)
        found = inverse @ right[free]
        value = -float(found @ right[free])
        if (found >= 0).all() and value < least:
            best, least = np.zeros(3), value
            best[free] = found
            error = float(inverse[1, 1]) if 1 in free else 0.0
    return best, error
