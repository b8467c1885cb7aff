"""The plain definitions in torch: what the compiled kernels are held against, and what
runs on devices that have no kernel of their own.

Images are (..., H, W).  Sums run over all elements.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "mse",
    "mse_gradient",
    "psnr",
    "total_variation",
    "total_variation_gradient",
    "tv_objective",
    "tv_objective_gradient",
]


def total_variation(u: Tensor) -> Tensor:
    """sum |u[i+1, j] - u[i, j]| + |u[i, j+1] - u[i, j]|; NaN where u is not finite."""
    value = u.diff(dim=-2).abs().sum() + u.diff(dim=-1).abs().sum()
    return _nan_unless(torch.isfinite(u).all(), value)


def total_variation_gradient(u: Tensor) -> Tensor:
    """The gradient of :func:`total_variation`, with sign(0) = 0."""
    down = u.diff(dim=-2).sign()
    right = u.diff(dim=-1).sign()
    vertical = F.pad(down, (0, 0, 1, 0)) - F.pad(down, (0, 0, 0, 1))
    horizontal = F.pad(right, (1, 0)) - F.pad(right, (0, 1))
    return vertical + horizontal


def tv_objective(
    u: Tensor, y: Tensor, tv_weight: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """1/2 || m (u - y) ||^2 + tv_weight TV(u), and its two terms: (value, data, tv)."""
    residual = u - y if mask is None else mask * (u - y)
    data = 0.5 * residual.square().sum()
    data = _nan_unless(data.isfinite(), data)
    tv = total_variation(u)
    return data + tv_weight * tv, data, tv


def tv_objective_gradient(
    u: Tensor, y: Tensor, tv_weight: float, mask: Tensor | None = None
) -> Tensor:
    """The gradient of :func:`tv_objective` with respect to u: m^2 (u - y) + tv_weight TV'(u)."""
    residual = u - y if mask is None else mask * mask * (u - y)
    return residual + tv_weight * total_variation_gradient(u)


def mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean of (a - b)^2; NaN where it is not finite."""
    value = (a - b).square().mean()
    return _nan_unless(value.isfinite(), value)


def mse_gradient(a: Tensor, b: Tensor) -> Tensor:
    """The gradient of :func:`mse` with respect to a: 2 (a - b) / n."""
    return (a - b) * (2 / max(a.numel(), 1))


def psnr(a: Tensor, b: Tensor, data_range: float) -> Tensor:
    """10 log10(data_range^2 / mse)."""
    return 10 * torch.log10(data_range**2 / mse(a, b))


def _nan_unless(condition: Tensor, value: Tensor) -> Tensor:
    return torch.where(condition & value.isfinite(), value, torch.nan)
