"""Denoise by total variation in plain torch, for devices that have no kernel of their own."""

from __future__ import annotations

import math
from functools import reduce
from operator import add

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["TvDenoiser"]

# As in rust/core/src/kernels/tv_denoise.rs.
_STEP_PRODUCT = 1.3
_CONVEXITY = {"isotropic": 0.5, "anisotropic": 0.25}


class TvDenoiser:
    """Iterate the accelerated primal-dual method of Chambolle and Pock (2011, algorithm 2).

    A tensor (N, channels, H, W) or (N, channels, D, H, W) holds N problems, each with its weight,
    whose channels share their norm.  All operations are element by element, and sums are made in
    halves, so that the bits of a problem do not depend on the other problems.  Only the
    constructor and :meth:`gaps` wait for the device.
    """

    def __init__(
        self, f: Tensor, weights: list[float], kind: str, init: Tensor | None = None
    ) -> None:
        self._kind, self._axes, self._channels = kind, tuple(range(2 - f.ndim, 0)), f.shape[1]
        self._wide = f.dtype if f.device.type == "mps" else torch.float64  # MPS has no float64
        count = math.prod(f.shape[2:])
        self._mean = self._numbers(_sum(f.to(self._wide), 2) / count)
        centred = f.to(self._wide) - self._mean
        # A power of two, so that squares neither overflow nor vanish.
        exponents = torch.frexp(centred.abs().flatten(1).amax(1).cpu().double()).exponent
        ones = torch.ones_like(exponents, dtype=torch.float64)
        scales = torch.ldexp(ones, -exponents.clamp(-1000, 1000))
        weight = scales.new_tensor(weights) * scales
        self._scale = self._numbers(scales.to(f.device, self._wide))
        self._weight = self._numbers(weight.to(f.device, f.dtype))
        self._f = (centred * self._scale).to(f.dtype)
        self._tau = 1.0
        self._u = self._v = self._f
        self._p = [torch.zeros_like(f) for _ in self._axes]
        to_mean = 0.5 * self._sums(self._f.square())
        to_image = self._sums(self._weight * self._norm(self._differences(self._f)))
        self._start = torch.minimum(to_mean, to_image)
        if init is not None:
            inside = self._differences(torch.arange(f[0].numel(), device=f.device).view(f[0].shape))
            scaled = [(x.to(self._wide) * self._scale).to(f.dtype) for x in init]
            # A flat image is its own solution, where the dual variable is 0.
            flat = self._numbers(self._start == 0)
            pairs = zip(inside, scaled)
            self._p = self._project([torch.where((d == 0) | flat, 0, p) for d, p in pairs])
            self._u = self._v = self._f - self._adjoint()

    def advance(self, iterations: int) -> None:
        """Make this many iterations of every problem."""
        for _ in range(iterations):
            tau = self._tau
            sigma = _STEP_PRODUCT / (4 * len(self._axes) * tau)
            theta = 1 / math.sqrt(1 + 2 * _CONVEXITY[self._kind] * tau)
            ascent = zip(self._p, self._differences(self._v))
            self._p = self._project([p + sigma * d for p, d in ascent])
            u = (self._u + tau * (self._f - self._adjoint())) / (1 + tau)
            self._v = u + theta * (u - self._u)
            self._u = u
            self._tau = tau * theta

    def gaps(self) -> list[float]:
        """Return the gap of each problem, relative to the better of f and its mean."""
        differences = self._differences(self._u)
        products = reduce(add, (d * p for d, p in zip(differences, self._p)))
        squares = 0.5 * (self._u - self._f + self._adjoint()).square()
        gap = self._sums(self._weight * self._norm(differences)) + self._sums(squares - products)
        flat = self._start == 0
        gaps: list[float] = torch.where(flat, 0, gap / torch.where(flat, 1, self._start)).tolist()
        return gaps

    def keep(self, places: list[int]) -> None:
        """Drop all problems but those at these places."""
        kept = torch.tensor(places, dtype=torch.long, device=self._f.device)
        self._mean, self._scale, self._weight = (
            x[kept] for x in (self._mean, self._scale, self._weight)
        )
        self._f, self._u, self._v = (x[kept] for x in (self._f, self._u, self._v))
        self._p = [p[kept] for p in self._p]
        self._start = self._start[kept]

    def write(self, place: int, u: Tensor, dual: Tensor | None) -> None:
        """Copy out the image and the dual variable of a problem."""
        scale = self._scale[place]
        u.copy_(self._u[place].to(self._wide) / scale + self._mean[place])
        if dual is not None:
            dual.copy_(torch.stack([p[place] for p in self._p]).to(self._wide) / scale)

    def _numbers(self, x: Tensor) -> Tensor:
        """Return numbers for each problem, or each channel, as they broadcast to the images."""
        return x.reshape(*x.shape, *(1,) * (len(self._axes) + 2 - x.ndim))

    def _differences(self, u: Tensor) -> list[Tensor]:
        """Return u[next] - u along each axis, 0 at the far border."""
        return [F.pad(u.diff(dim=axis), (0, 0) * (-axis - 1) + (0, 1)) for axis in self._axes]

    def _adjoint(self) -> Tensor:
        """Return the sum over the axes of p[previous] - p, where p is 0 at the far border."""
        total = torch.zeros_like(self._f)
        for axis, p in zip(self._axes, self._p):
            before = (0, 0) * (-axis - 1) + (1, 0)
            total = total + F.pad(p.narrow(axis, 0, p.shape[axis] - 1), before) - p
        return total

    def _norm(self, p: list[Tensor]) -> Tensor:
        """Return the norm at each pixel, one for all channels if they share it."""
        if self._kind == "anisotropic":
            return reduce(add, (x.abs() for x in p))
        squares = reduce(add, (x.square() for x in p))
        if self._channels > 1:
            squares = reduce(add, squares.unbind(1))[:, None]
        return squares.sqrt()

    def _project(self, p: list[Tensor]) -> list[Tensor]:
        """Return the nearest dual variable whose norm is not above the weight."""
        if self._kind == "anisotropic":
            return [x.clamp(-self._weight, self._weight) for x in p]
        scale = self._weight / torch.maximum(self._norm(p), self._weight)
        return [x * scale for x in p]

    def _sums(self, x: Tensor) -> Tensor:
        """Return the sum of each problem, in float64 where the device has it."""
        return _sum(x.to(self._wide), 1)


def _sum(x: Tensor, first: int) -> Tensor:
    """Return the sum over all axes from this one on, by adding one half to the other repeatedly.

    torch's own sums differ in their last bits with the number of sums beside them.
    """
    x = x.flatten(first)
    while (count := x.shape[-1]) > 1:
        half = count // 2
        x = torch.cat([x[..., :half] + x[..., half : 2 * half], x[..., 2 * half :]], -1)
    return x[..., 0]
