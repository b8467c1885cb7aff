"""Define total variation, and the objective made of it, for images (..., H, W)."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from dipfast.ops._reference._finite import nan_unless

__all__ = [
    "masked",
    "total_variation",
    "total_variation_gradient",
    "tv_objective",
    "tv_objective_gradient",
]


def total_variation(
    u: Tensor, kind: str = "anisotropic", epsilon: float = 0.0, spatial_dims: int = 2
) -> Tensor:
    """Return the sum of a penalty of the differences to the next pixel along the last axes.

    d_k = u[next along axis k] - u, 0 at the far border.  ``"anisotropic"``: sum |d_k|;
    ``"isotropic"``: sqrt(|d|^2 + epsilon^2) - epsilon; ``"huber"``: |d|^2 / (2 epsilon) where
    |d| <= epsilon, |d| - epsilon / 2 elsewhere.  NaN where u is not finite.
    """
    differences = _differences(u, spatial_dims)
    if kind == "anisotropic":
        value = sum((d.abs().sum() for d in differences), start=u.new_zeros(()))
    else:
        norm = _norm([_wide(d) for d in differences], epsilon if kind == "isotropic" else 0.0)
        if kind == "isotropic":
            value = (norm - epsilon).sum()
        else:
            below = norm * (norm / (2 * epsilon)) if epsilon else norm
            value = torch.where(norm <= epsilon, below, norm - epsilon / 2).sum()
        value = value.to(u.dtype)
    return nan_unless(torch.isfinite(u).all() & value.isfinite(), value)


def total_variation_gradient(
    u: Tensor, kind: str = "anisotropic", epsilon: float = 0.0, spatial_dims: int = 2
) -> Tensor:
    """Return the gradient of :func:`total_variation`, at a kink the shortest subgradient.

    p_k, the derivative of the penalty by d_k, is sign(d_k), d_k / sqrt(|d|^2 + epsilon^2) or
    d_k / max(|d|, epsilon), with 0 / 0 = 0.  The gradient is sum_k (p_k[previous] - p_k).
    """
    differences = _differences(u, spatial_dims)
    if kind == "anisotropic":
        slopes = [d.sign() for d in differences]
    else:
        norm = _norm(differences, epsilon) if kind == "isotropic" else _norm(differences)
        norm = norm if kind == "isotropic" else norm.clamp(min=epsilon)
        slopes = [
            torch.where(norm == 0, 0, d / torch.where(norm == 0, 1, norm)) for d in differences
        ]
    gradient = torch.zeros_like(u)
    for axis, p in zip(range(-spatial_dims, 0), slopes):
        previous = F.pad(p.narrow(axis, 0, max(p.shape[axis] - 1, 0)), _before(axis))
        gradient = gradient + (previous - p)
    return gradient


def _wide(x: Tensor) -> Tensor:
    """Return x in float64 where the device has it: float32 lacks the squares of its numbers."""
    return x if x.device.type == "mps" else x.double()


def _differences(u: Tensor, spatial_dims: int) -> list[Tensor]:
    """Return u[next] - u along each of the last axes, 0 at the far border."""
    return [F.pad(u.diff(dim=axis), _behind(axis)) for axis in range(-spatial_dims, 0)]


def _before(axis: int) -> tuple[int, ...]:
    """Return the padding of one element in front of an axis, which is counted from the end."""
    return (0, 0) * (-axis - 1) + (1, 0)


def _behind(axis: int) -> tuple[int, ...]:
    """Return the padding of one element behind an axis, which is counted from the end."""
    return (0, 0) * (-axis - 1) + (0, 1)


def _norm(differences: list[Tensor], epsilon: float = 0.0) -> Tensor:
    """Return sqrt(|d|^2 + epsilon^2), whose derivative is taken to be 0 where it is 0."""
    norm = reduce(_hypot, differences)
    return _hypot(norm, torch.full_like(norm, epsilon)) if epsilon else norm


def _hypot(a: Tensor, b: Tensor) -> Tensor:
    """Return sqrt(a^2 + b^2), whose derivative is taken to be 0 where it is 0."""
    # torch.hypot has no squares in between, for which very large or small numbers have no room.
    flat = (a == 0) & (b == 0)
    return torch.where(flat, 0, torch.hypot(torch.where(flat, 1, a), b))


def tv_objective(
    u: Tensor,
    y: Tensor,
    tv_weight: float,
    mask: Tensor | None = None,
    kind: str = "anisotropic",
    epsilon: float = 0.0,
    spatial_dims: int = 2,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return 1/2 || m (u - y) ||^2 + tv_weight TV(u) and its two terms: (value, data, tv)."""
    residual = u - y if mask is None else masked(mask, u - y)
    data = (0.5 * _wide(residual).square().sum()).to(residual.dtype)
    data = nan_unless(data.isfinite(), data)
    tv = total_variation(u, kind, epsilon, spatial_dims)
    value = data + tv_weight * tv
    return nan_unless(value.isfinite(), value), data, tv


def tv_objective_gradient(
    u: Tensor,
    y: Tensor,
    tv_weight: float,
    mask: Tensor | None = None,
    kind: str = "anisotropic",
    epsilon: float = 0.0,
    spatial_dims: int = 2,
) -> Tensor:
    """Return the gradient of :func:`tv_objective` in u: m^2 (u - y) + tv_weight TV'(u)."""
    residual = u - y if mask is None else mask * masked(mask, u - y)
    return residual + tv_weight * total_variation_gradient(u, kind, epsilon, spatial_dims)


def masked(mask: Tensor, x: Tensor) -> Tensor:
    """Return mask * x, but 0 where the mask is 0, so that NaN and infinity there do not count."""
    # Chosen before the product, whose derivative by the mask is x.
    return mask * x.where(mask != 0, 0)
