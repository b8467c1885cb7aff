"""Restore an image by a denoiser and a forward model in turn, without a network."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dipfast import ops
from dipfast.model.operators import Operator
from dipfast.settings.names import Quality
from dipfast.settings.noise import NoiseParameters

__all__ = ["filled", "plug_and_play"]

# Standard deviations that the denoiser is told, at the first step and at the last, in units of a
# picture in [0, 1]; the last is at least that of the noise.
_FIRST_LEVEL, _LAST_LEVEL = 0.2, 0.01
# Steps of the method of conjugate gradients, of which each starts where the last one ended; of a
# mask two are exact.
_INNER_STEPS = 10
# The variance of the noise is taken to be at least this share of the squared level of the denoiser.
_LEAST_RATIO = 1e-4
# Pixels over which known values are averaged to fill the others at first, doubled until all are.
_FIRST_FILL = 1.0


def plug_and_play(
    measurement: Tensor,
    operator: Operator,
    noise: NoiseParameters,
    start: Tensor,
    *,
    known: Tensor | None = None,
    steps: int = 24,
    speed: Quality = "fast",
    callback: Callable[[float], object] | None = None,
) -> Tensor:
    r"""Restore one image by half-quadratic splitting with non-local ridge regression [1]_.

    .. math:: u_{k+1} = \arg\min_u \frac{\|A u - y\|^2}{\sigma^2} + \frac{\|u - v_k\|^2}{s_k^2},
       \qquad v_k = \operatorname{denoise}(u_k, s_k)

    with levels s that fall from 0.2 to 0.01 in equal ratios.

    Parameters
    ----------
    measurement
        The measurement y, (1, C, H, W), in [0, 1].
    operator
        The forward model A.
    noise
        The noise of the measurement; its typical variance is used, and the last level is not below
        it.
    start
        The image to start from, (1, C, H, W), in [0, 1].
    known
        Which elements of y were measured, boolean; None for all.
    steps
        How many times to do both, from 1 up: 24 by default, as a tenth of a decibel is gained by
        twice as many.
    speed
        That of :func:`dipfast.ops.nl_ridge`.
    callback
        Called with the share that is done, from 0 to 1; exceptions that it raises pass through.

    Returns
    -------
    Tensor
        The restored image, in [0, 1], of the shape of ``start``.

    References
    ----------
    .. [1] Zhang et al., "Plug-and-play image restoration with deep
       denoiser prior", IEEE TPAMI 44(10), 2022, with another denoiser.
    """
    sigma = 0.0 if noise.is_free else math.sqrt(noise.typical_variance)
    last = max(_LAST_LEVEL, sigma)
    levels = [_FIRST_LEVEL * (last / _FIRST_LEVEL) ** (k / max(steps - 1, 1)) for k in range(steps)]

    def weighted(residual: Tensor) -> Tensor:
        return residual if known is None else residual.where(known, 0)

    constant = operator.adjoint(weighted(measurement))
    u = start
    for k, level in enumerate(levels):
        v = ops.nl_ridge(u[0], level, channel_axis=0, speed=speed)[None].to(u.dtype)
        ratio = max(sigma**2 / level**2, _LEAST_RATIO)

        def normal(x: Tensor, ratio: float = ratio) -> Tensor:
            return operator.adjoint(weighted(operator(x))) + ratio * x

        u = _solve(normal, constant + ratio * v, v).clamp(0, 1)
        if callback is not None:
            callback((k + 1) / steps)
    # With noise the denoiser has the last word: the data are as noisy as they were.
    return v.clamp(0, 1) if sigma > _LAST_LEVEL else u


def _solve(normal: Callable[[Tensor], Tensor], target: Tensor, start: Tensor) -> Tensor:
    """Return the solution of a positive system, by conjugate gradients."""
    x = start
    residual = target - normal(x)
    direction = residual
    square = residual.square().sum()
    least = 1e-10 * float(target.square().sum())
    for _ in range(_INNER_STEPS):
        if float(square) <= least:
            break
        image = normal(direction)
        step = square / (direction * image).sum()
        x = x + step * direction
        residual = residual - step * image
        old, square = square, residual.square().sum()
        direction = residual + (square / old) * direction
    return x


def filled(measurement: Tensor, known: Tensor) -> Tensor:
    """Return an image whose unknown pixels are weighted means of the known ones around them.

    Parameters
    ----------
    measurement
        The image, (1, C, H, W).
    known
        Which values are known, boolean, of a shape that broadcasts.

    Returns
    -------
    Tensor
        Of the same shape.  Each unknown value is a mean with Gaussian weights of the least width,
        doubled from one pixel up, that reaches known ones.
    """
    weight = known.expand_as(measurement).to(measurement.dtype)
    out = measurement * weight
    missing = weight == 0
    scale = _FIRST_FILL
    while bool(missing.any()):
        total, value = (_blurred(x, scale) for x in (weight, measurement * weight))
        reached = missing & (total > 1e-3)
        if scale > 2 * max(measurement.shape[-2:]):
            reached = missing
            total = total.clamp_min(1e-9)
        out = torch.where(reached, value / total.clamp_min(1e-9), out)
        missing = missing & ~reached
        scale *= 2
    return out


def _blurred(x: Tensor, scale: float) -> Tensor:
    """Return an image convolved with a Gaussian, with zeros around it."""
    for axis in (-2, -1):
        reach = min(math.ceil(3 * scale), x.shape[axis] - 1)
        offsets = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
        taps = torch.exp(-0.5 * (offsets / scale).square())
        taps = taps / taps.sum()
        shape = (1, 1, -1, 1) if axis == -2 else (1, 1, 1, -1)
        padding = (reach, 0) if axis == -2 else (0, reach)
        channels = x.shape[1]
        kernel = taps.reshape(shape).expand(channels, 1, *taps.reshape(shape).shape[2:])
        x = torch.nn.functional.conv2d(x, kernel, padding=padding, groups=channels)
    return x
