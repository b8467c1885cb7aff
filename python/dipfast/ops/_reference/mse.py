"""Define the mean squared error."""

from __future__ import annotations

import torch
from torch import Tensor

from dipfast.ops._arguments import SMALLEST
from dipfast.ops._reference._finite import nan_unless

__all__ = ["difference", "mse", "mse_gradient", "over_images", "total_weight"]


def mse(a: Tensor, b: Tensor, mask: Tensor | None = None, per_image: bool = False) -> Tensor:
    """Return sum m (a - b)^2 / sum m over all elements, or those of each entry of the first axis.

    In float64, because float32 does not have the squares of all its numbers.  What a boolean mask
    leaves out has no influence.  NaN where the mean is not finite, and where it is below the
    normal numbers of float64 and not 0.
    """
    distance = difference(a, b, mask)
    terms, counts = distance.square(), distance != 0
    if mask is not None and mask.is_floating_point():
        terms, counts = mask.double() * terms, counts & (mask != 0)
    axes = tuple(range(1 if per_image else 0, a.ndim))
    total, differs = (terms.sum(axes), counts.any(axes)) if axes else (terms, counts)
    value = total / total_weight(mask, a, per_image)
    lost = differs & (value.abs() < SMALLEST)
    return nan_unless(~lost, value)


def mse_gradient(
    a: Tensor,
    b: Tensor,
    mask: Tensor | None = None,
    per_image: bool = False,
    of_value: Tensor | None = None,
) -> Tensor:
    """Return the gradient of :func:`mse` with respect to a, 2 m (a - b) / sum m.

    It is multiplied by ``of_value``, a factor for each value, if that is given.
    """
    factor = 2 / total_weight(mask, a, per_image)
    if of_value is not None:
        factor = factor * of_value
    gradient = difference(a, b, mask) * over_images(factor, a)
    if mask is not None and mask.is_floating_point():
        gradient = mask.double() * gradient
    return gradient.to(a.dtype if a.is_floating_point() else torch.float64)


def total_weight(mask: Tensor | None, like: Tensor, per_image: bool = False) -> Tensor:
    """Return the sum of a mask that broadcasts to an image, or of each entry of the first axis."""
    shape = like.shape[:1] if per_image else ()
    if mask is None:
        count = like.shape[1:].numel() if per_image else like.numel()
        return torch.full(shape, count, dtype=torch.float64, device=like.device)
    axes = tuple(range(1 if per_image else 0, like.ndim))
    weights = mask.expand_as(like)
    return weights.sum(axes, dtype=torch.float64) if axes else weights.double()


def over_images(values: Tensor, like: Tensor) -> Tensor:
    """Return a scalar, or one value for each entry of the first axis, as it broadcasts."""
    return values.reshape(-1, *(1,) * (like.ndim - 1)) if values.ndim else values


def difference(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return a - b in float64, 0 where a boolean mask leaves it out."""
    distance = a.double() - b.double()
    if mask is None or mask.is_floating_point():
        return distance
    return torch.where(mask, distance, 0)
