"""Total-variation denoising in plain torch, for devices that have no kernel of their own."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["TvSolver"]

# As in rust/core/src/rof.rs.
_STEP_PRODUCT = 1.3
_CONVEXITY = {"isotropic": 0.5, "anisotropic": 0.25}


class TvSolver:
    """The accelerated primal-dual method of Chambolle and Pock (2011, algorithm 2).

    For tensors (..., channels, H, W) or (..., channels, D, H, W); so many consecutive
    channels share their norm.  Nothing waits for the device but :meth:`gap`.
    """

    def __init__(
        self,
        f: Tensor,
        weight: float,
        kind: str,
        spatial_dims: int,
        channels: int = 1,
        init: Tensor | None = None,
    ) -> None:
        self._kind, self._axes, self._channels = kind, tuple(range(-spatial_dims, 0)), channels
        self._mean = f.mean(self._axes, keepdim=True)
        f = f - self._mean
        # A power of two, so that squares neither overflow nor vanish.
        largest = f.abs().max().item() if f.numel() else 0.0
        self._scale = 2.0 ** -math.frexp(largest)[1] if largest else 1.0
        self._f = f * self._scale
        self._weight = weight * self._scale
        self._tau = 1.0
        self._u = self._v = self._f
        self._p = [torch.zeros_like(f) for _ in self._axes]
        to_mean = 0.5 * self._sums(self._f.square())
        to_image = self._weight * self._sums(self._norm(self._differences(self._f)))
        self._start = torch.minimum(to_mean, to_image).sum().item()
        if init is not None:
            borders = self._differences(torch.arange(f.numel(), device=f.device).view(f.shape))
            p = [torch.where(d == 0, 0, x * self._scale) for d, x in zip(borders, init)]
            self._p = self._project(p)
            self._u = self._v = self._f - self._adjoint()

    def advance(self, iterations: int) -> None:
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

    def gap(self) -> float:
        """Relative to the objective at the better of f and its mean."""
        if not self._start:
            return 0.0
        differences = self._differences(self._u)
        products = sum(
            (d * p for d, p in zip(differences, self._p)), start=torch.zeros_like(self._u)
        )
        squares = 0.5 * (self._u - self._f + self._adjoint()).square()
        norms = self._weight * self._norm(differences)
        gap = self._sums(norms) + self._sums(squares - products)
        return gap.sum().item() / self._start

    def image(self) -> Tensor:
        return self._u / self._scale + self._mean

    def dual(self) -> Tensor:
        return torch.stack(self._p) / self._scale

    def _differences(self, u: Tensor) -> list[Tensor]:
        """u[next] - u along each axis, 0 at the far border."""
        return [F.pad(u.diff(dim=axis), (0, 0) * (-axis - 1) + (0, 1)) for axis in self._axes]

    def _adjoint(self) -> Tensor:
        """p[previous] - p along each axis, summed; p is 0 at the far border."""
        total = torch.zeros_like(self._f)
        for axis, p in zip(self._axes, self._p):
            before = (0, 0) * (-axis - 1) + (1, 0)
            total = total + F.pad(p.narrow(axis, 0, p.shape[axis] - 1), before) - p
        return total

    def _norm(self, p: list[Tensor]) -> Tensor:
        """The norm at each pixel; one for all channels if they share it."""
        if self._kind == "anisotropic":
            return torch.stack(p).abs().sum(0)
        squares = torch.stack(p).square().sum(0)
        if self._channels > 1:
            squares = squares.sum(-len(self._axes) - 1, keepdim=True)
        return squares.sqrt()

    def _project(self, p: list[Tensor]) -> list[Tensor]:
        if self._kind == "anisotropic":
            return [x.clamp(-self._weight, self._weight) for x in p]
        scale = self._weight / self._norm(p).clamp(min=self._weight)
        return [x * scale for x in p]

    def _sums(self, x: Tensor) -> Tensor:
        """Over what is denoised together, in double precision where the device has it."""
        axes = self._axes if self._channels == 1 else (-len(self._axes) - 1, *self._axes)
        return x.sum(axes, dtype=x.dtype if x.device.type == "mps" else torch.float64)
