"""Split a measurement into two whose noise is independent: the coupled bootstrap.

What is fitted to one of them is judged by the other, without a clean picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from dipfast.arrays import has_equal_channels
from dipfast.model.noise import NoiseModel
from dipfast.model.noise_spectrum import band_power, coloured, to_opponent

__all__ = ["RATIO", "Split", "added_noise", "dependence", "noisier"]

RATIO = 0.15
"""The ratio c of noise that is added for the fit: it is 1% noisier than the measurement, which
costs 0.05 dB, and what is measured on the other side has a deviation that falls with 1 / c."""


# The noise of a picture that was made for an experiment may be that of torch's generator and a
# small seed; the noise that is added must not be the same.
_OWN_STREAM = 0x5851F42D4C957F2D
# Rows and columns of the grid on which the power of a spectrum is summed.
_GRID = 64


@dataclass(frozen=True)
class Split:
    r"""Split a measurement y by noise w of the same law.

    .. math:: y_+ = y + c w, \qquad y_- = y - w / c

    Their covariance is Var(y) - Var(w) = 0, and Gaussian ones are independent, so that for any
    estimate f of the clean picture u from :math:`y_+`,

    .. math:: E \| f - y_- \|^2 = E \| f - u \|^2 + const.

    Parameters
    ----------
    measurement
        The measurement y, (1, C, H, W).
    added
        The noise w, of the same shape (:func:`added_noise`).
    ratio
        The ratio c, positive.

    References
    ----------
    .. [1] Oliveira, Lei, Tibshirani, "Unbiased risk estimation in the normal means problem via
       coupled bootstrap techniques", Electronic Journal of Statistics, 2024 (arXiv:2111.09447);
       Pang, Zheng, Quan, Ji, "Recorrupted-to-Recorrupted", CVPR 2021.

    Examples
    --------
    >>> split = Split(torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 0.3), ratio=0.5)
    >>> round(split.fitted.item(), 2), round(split.unseen.item(), 2)
    (1.15, 0.4)
    """

    measurement: Tensor
    added: Tensor
    ratio: float = RATIO

    @property
    def fitted(self) -> Tensor:
        """Return y+, for estimates to be made of."""
        return self.measurement + self.ratio * self.added

    @property
    def unseen(self) -> Tensor:
        """Return y-, for estimates to be judged by."""
        return self.measurement - self.added / self.ratio


def added_noise(pilot: Tensor, noise: NoiseModel, seed: int) -> Tensor:
    r"""Return noise of the law of a measurement's, drawn at random.

    Parameters
    ----------
    pilot
        An estimate of what was measured, (1, C, H, W), in units of a picture in [0, 1]: the
        variance of the noise is that of this brightness.  Clipped noise is as weak there as it was
        measured, so that the two halves of a :class:`Split` are uncorrelated.
    noise
        The noise of the measurement.
    seed
        Seed of the numbers, from 0 up.

    Returns
    -------
    Tensor
        Of the shape of the pilot, with the autocovariance of correlated noise.
    """
    generator = torch.Generator().manual_seed((seed ^ _OWN_STREAM) % 2**63)
    drawn = torch.randn(pilot.shape, generator=generator, dtype=torch.float32)
    is_alike = noise.spectrum is None or len(noise.spectrum) == 1
    if is_alike and has_equal_channels(pilot.transpose(0, 1)):
        drawn = drawn[:, :1].expand(pilot.shape)  # the noise of a grey picture stored in colour
    if noise.spectrum is not None:
        spread = [coloured(planes, noise.spectrum) for planes in drawn.double().numpy()]
        drawn = torch.stack([torch.from_numpy(planes) for planes in spread])
    deviation = noise.variance(pilot.clamp(0, 1)).sqrt()
    return deviation * drawn.to(pilot)


def dependence(added: Tensor, noise: NoiseModel) -> float:
    r"""Return how many times as large as that of independent elements the variance of a mean is.

    .. math:: \frac1N \sum_{ij} \rho_{ij}^2

    with the correlation :math:`\rho` of the noise of two elements.  It is that of the mean product
    of noise with something whose correlation is the same, as what an estimate makes of the noise
    has nearly.  Copies of a channel are one channel.

    Parameters
    ----------
    added
        Noise as :func:`added_noise` draws it, (N, C, H, W).
    noise
        The noise of the measurement.

    Returns
    -------
    float
        From 1 up.

    Examples
    --------
    >>> one, noise = torch.rand(1, 1, 8, 8), NoiseModel(0.1)
    >>> dependence(one, noise), dependence(one.expand(1, 3, 8, 8), noise)
    (1.0, 3.0)
    """
    if noise.spectrum is not None and len(noise.spectrum) > 1:
        return _dependence_of(noise.spectrum)  # of copies, the other rows are 0
    copies = added.shape[1] if has_equal_channels(added.transpose(0, 1)) else 1
    return copies * (1.0 if noise.spectrum is None else _dependence_of(noise.spectrum))


@cache
def _dependence_of(spectrum: tuple[tuple[float, ...], ...]) -> float:
    """Return the dependence of pixels, and of channels where each row is one of a mixture."""
    power = band_power(spectrum, _GRID)
    variances = power.mean(axis=(1, 2))
    if len(spectrum) > 1:
        mixture = to_opponent(np.eye(len(spectrum))[:, :, None])[..., 0]
        variances = variances @ np.square(mixture)
    of_independent = float(np.square(variances).sum())
    whole = float(np.square(power).mean(axis=(1, 2)).sum())
    return whole / of_independent if of_independent > 0 else 1.0


def noisier(noise: NoiseModel, ratio: float = RATIO) -> NoiseModel:
    """Return the noise of y+, whose variance is 1 + c^2 times that of the measurement.

    Parameters
    ----------
    noise
        The noise of the measurement.
    ratio
        The ratio c.

    Returns
    -------
    NoiseModel
        The same noise with more variance.

    Examples
    --------
    >>> round(noisier(NoiseModel(0.1), ratio=1.0).sigma, 4)
    0.1414
    """
    more = 1 + ratio**2
    return replace(noise, sigma=noise.sigma * math.sqrt(more), gain=noise.gain * more)
