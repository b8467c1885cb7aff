"""Model the noise of a measurement: its expectation and its variance, given the clean picture.

A sensor whose range ends at black and white clips the noise there.  The measurement of a dark
pixel is then too bright on average, and that of a bright one too dark; a network that is
fitted to the measurement learns that bias.  A network whose expected measurement is fitted
learns the clean picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dipfast.errors import InputError
from dipfast.settings.noise import LEAST_VARIANCE, NoiseParameters

__all__ = ["NoiseModel"]


# Bound of the weight of a squared difference.  Where the modelled variance is nearly 0, a small
# error of the model would otherwise give a few elements nearly all of the weight.
_LARGEST_WEIGHT = 25.0


@dataclass(frozen=True)
class NoiseModel(NoiseParameters):
    r"""Model Gaussian noise whose variance is affine in the signal, clipped to a range.

    A clean value u is measured as

    .. math:: y = \min(\max(u + s(u) \xi, low), high), \qquad
              s(u)^2 = gain \max(u - offset, 0) + sigma^2, \qquad \xi \sim N(0, 1).

    With gain = 0 this is white noise; with gain > 0 it is the Poisson-Gaussian noise of
    cameras, microscopes and telescopes in its normal approximation [1]_.  All numbers are in
    units of a picture in [0, 1].

    Parameters
    ----------
    sigma
        Standard deviation where there is no signal, from 0 up.
    gain
        What one unit of signal adds to the variance, from 0 up: the inverse of the number of
        photons that make a white pixel.  The default of 0 is noise without photon noise.
    low, high
        The values below and above which the measurement is clipped; None, the default, where it
        is not.
    spectrum
        How the noise is spread over bands of spatial frequency
        (:class:`~dipfast.settings.noise.NoiseParameters`); None, the default, for noise that is
        independent from pixel to pixel.  Expectation, variance and samples are those of single
        pixels, whatever the spectrum.
    offset
        The value of a pixel without signal, which is some 100 counts in cameras for science; 0 by
        default.
    excess
        The fourth cumulant of the noise of photons over gain^2 times its variance: 1, the default,
        where each photon adds the same, 3 for the charges of an EMCCD or a photomultiplier, where
        ``gain`` is twice what a photon adds on average.  Of what this class computes, nothing
        depends on it; :func:`dipfast.ops.nl_ridge` trusts counts of a few photons less.
    channel_levels
        Standard deviations of the noise of the channels, with any factor: :math:`s(u)` of channel
        c is multiplied by the number c of these, which are scaled to a mean square of 1.  None,
        the default, is the same noise in all channels.  Pictures have to have as many, in the
        third axis from the end.

    Raises
    ------
    ValueError
        If sigma or gain is negative, excess is less than 1, a number is not finite, low is not
        below high, or channel_levels are none, all 0, or given with a spectrum of several rows.

    References
    ----------
    .. [1] Foi, Trimeche, Katkovnik, Egiazarian, "Practical Poissonian-Gaussian noise modeling
       and fitting for single-image raw-data", IEEE TIP 17(10), 2008.
    .. [2] Foi, "Clipped noisy images: heteroskedastic modeling and practical denoising",
       Signal Processing 89(12), 2009.

    Examples
    --------
    >>> model = NoiseModel(0.1, low=0.0, high=1.0)
    >>> black = torch.zeros(1)
    >>> round(model.expectation(black).item(), 4)  # 0.1 / sqrt(2 pi)
    0.0399
    """

    def expectation(self, clean: Tensor) -> Tensor:
        r"""Return the expectation of the measurement of a clean picture.

        .. math:: E[y] = u + (low - u) \Phi(a) + (high - u) \Phi(-b) + s (\phi(a) - \phi(b)),
           \quad a = (low - u) / s, \; b = (high - u) / s

        with the normal density :math:`\phi` and its integral :math:`\Phi` (reference 2 of
        the class, eq. 9).

        Parameters
        ----------
        clean
            The clean picture u, of any shape, in units of a picture in [0, 1].

        Returns
        -------
        Tensor
            E[y], of the same shape, differentiable with respect to u.
        """
        if not self.clipped:
            return clean
        return clean + self._moments(clean)[0]

    def variance(self, clean: Tensor) -> Tensor:
        """Return the variance of the measurement of a clean picture.

        Parameters
        ----------
        clean
            The clean picture u, of any shape, in units of a picture in [0, 1].

        Returns
        -------
        Tensor
            The variance, positive, of the same shape, differentiable with respect to u.
        """
        if not self.clipped:
            return self._unclipped_variance(clean)
        first, second = self._moments(clean)
        return (second - first.square()).clamp_min(LEAST_VARIANCE)

    def sample(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return one measurement of a clean picture, drawn at random.

        Parameters
        ----------
        clean
            The clean picture u, of any shape, in units of a picture in [0, 1].
        generator
            The generator to draw from, on the device of the picture; None takes torch's global
            generator.

        Returns
        -------
        Tensor
            The measurement y, of the same shape.
        """
        noise = torch.randn(
            clean.shape, generator=generator, device=clean.device, dtype=clean.dtype
        )
        noisy = clean + self._unclipped_variance(clean).sqrt() * noise
        return noisy.clamp(self.low, self.high) if self.clipped else noisy

    def residual(self, clean: Tensor, measurement: Tensor) -> Tensor:
        r"""Return the difference :math:`E[y] - y`, scaled to a constant variance.

        .. math:: r = (E[y] - y) \sqrt{\bar v / v(u)}

        where v is the variance, taken as a constant by differentiation (iteratively
        reweighted least squares), and :math:`\bar v` its value without clipping half
        way from no signal to 1, so that r is the plain difference for white noise.  The ratio
        :math:`\bar v / v(u)` is at most 25, so that no element dominates the others.

        Parameters
        ----------
        clean
            The clean picture u, of the shape of the measurement.
        measurement
            The measurement y.

        Returns
        -------
        Tensor
            The residual r, of the same shape, differentiable with respect to u.
        """
        if self.is_white or self.is_free:
            return self.expectation(clean) - measurement
        typical = self.typical_variance
        if self.clipped:
            first, second = self._moments(clean)
            difference, variance = clean + first - measurement, second - first.square()
        else:
            difference, variance = clean - measurement, self._unclipped_variance(clean)
        weight = typical / variance.detach().clamp_min(typical / _LARGEST_WEIGHT)
        return difference * weight.sqrt()

    def residual_variance(self, clean: Tensor) -> Tensor:
        r"""Return the variance of :meth:`residual` for the clean picture itself.

        It is :math:`\bar v`, and less where so little noise is left that the ratio of the two
        variances is bounded: in the dark of photon noise, and beyond where noise is clipped.

        Parameters
        ----------
        clean
            The clean picture u, of any shape, in units of a picture in [0, 1].

        Returns
        -------
        Tensor
            The variance, positive, of the same shape.
        """
        return (_LARGEST_WEIGHT * self.variance(clean)).clamp_max(self.typical_variance)

    def _unclipped_variance(self, clean: Tensor) -> Tensor:
        if self.gain == 0:
            variance = torch.full_like(clean, max(self.sigma**2, LEAST_VARIANCE))
        else:
            signal = (clean - self.offset).clamp_min(0)
            variance = (self.gain * signal + self.sigma**2).clamp_min(LEAST_VARIANCE)
        if self.channel_levels is None:
            return variance
        levels = clean.new_tensor(self.channel_levels)
        if clean.ndim < 3 or clean.shape[-3] != len(levels):
            raise InputError(
                f"noise has channel_levels of {len(levels)} channels, and clean has shape "
                f"{tuple(clean.shape)}: (..., C, H, W) is expected"
            )
        return (variance * levels.square()[:, None, None]).clamp_min(LEAST_VARIANCE)

    def _moments(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Return E[y - u] and E[(y - u)^2]."""
        s = self._unclipped_variance(clean).sqrt()
        mean, square = torch.zeros_like(clean), s.square()
        # Both ends have the same formula: clipping moves noise beyond the end to the end itself.
        for end, sign in ((self.low, -1.0), (self.high, 1.0)):
            if end is None:
                continue
            distance = end - clean
            t = sign * distance / s
            beyond = torch.special.ndtr(-t)
            density = torch.exp(-0.5 * t.square()) * (s / math.sqrt(2 * math.pi))
            mean = mean + distance * beyond - sign * density
            square = square + (distance.square() - s.square()) * beyond - sign * distance * density
        return mean, square
