"""The plain definitions in torch: what the compiled kernels are held against, and what
runs on devices that have no kernel of their own.

Images are (..., H, W).  Sums run over all elements.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from dipfast.ops.mean_squares import SMALLEST

__all__ = [
    "decibels",
    "difference",
    "mse",
    "mse_gradient",
    "over_images",
    "psnr",
    "resample",
    "ssim",
    "ssim_gradients",
    "ssim_map",
    "total_variation",
    "total_variation_gradient",
    "total_weight",
    "tv_objective",
    "tv_objective_gradient",
    "weighted_mse",
    "weighted_mse_gradient",
]


# --- total variation ---------------------------------------------------------------------


def total_variation(
    u: Tensor, kind: str = "anisotropic", epsilon: float = 0.0, spatial_dims: int = 2
) -> Tensor:
    """Sum of a penalty of the differences to the next pixel along the last axes.

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
    return _nan_unless(torch.isfinite(u).all() & value.isfinite(), value)


def total_variation_gradient(
    u: Tensor, kind: str = "anisotropic", epsilon: float = 0.0, spatial_dims: int = 2
) -> Tensor:
    """The gradient of :func:`total_variation`; where that has a kink, the shortest subgradient.

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
    """In double precision where the device has it: float32 lacks the squares of its numbers."""
    return x if x.device.type == "mps" else x.double()


def _differences(u: Tensor, spatial_dims: int) -> list[Tensor]:
    """u[next] - u along each of the last axes, 0 at the far border."""
    return [F.pad(u.diff(dim=axis), _behind(axis)) for axis in range(-spatial_dims, 0)]


def _before(axis: int) -> tuple[int, ...]:
    """Padding of one element in front of an axis, counted from the last one."""
    return (0, 0) * (-axis - 1) + (1, 0)


def _behind(axis: int) -> tuple[int, ...]:
    return (0, 0) * (-axis - 1) + (0, 1)


def _norm(differences: list[Tensor], epsilon: float = 0.0) -> Tensor:
    """sqrt(|d|^2 + epsilon^2), with the derivative 0 where it is 0."""
    norm = reduce(_hypot, differences)
    return _hypot(norm, torch.full_like(norm, epsilon)) if epsilon else norm


def _hypot(a: Tensor, b: Tensor) -> Tensor:
    # Not a root of squares, for which the dtype has no room if numbers are very large or small.
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
    """1/2 || m (u - y) ||^2 + tv_weight TV(u), and its two terms: (value, data, tv)."""
    residual = u - y if mask is None else masked(mask, u - y)
    data = (0.5 * _wide(residual).square().sum()).to(residual.dtype)
    data = _nan_unless(data.isfinite(), data)
    tv = total_variation(u, kind, epsilon, spatial_dims)
    return data + tv_weight * tv, data, tv


def tv_objective_gradient(
    u: Tensor,
    y: Tensor,
    tv_weight: float,
    mask: Tensor | None = None,
    kind: str = "anisotropic",
    epsilon: float = 0.0,
    spatial_dims: int = 2,
) -> Tensor:
    """The gradient of :func:`tv_objective` with respect to u: m^2 (u - y) + tv_weight TV'(u)."""
    residual = u - y if mask is None else mask * masked(mask, u - y)
    return residual + tv_weight * total_variation_gradient(u, kind, epsilon, spatial_dims)


def masked(mask: Tensor, x: Tensor) -> Tensor:
    """mask * x, but 0 where the mask is, so that NaN and infinity there have no influence."""
    return (mask * x).where(mask != 0, 0)


# --- resampling --------------------------------------------------------------------------


def resample(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """R X C' for matrices R and C, the weights along either axis."""
    if not torch.amp.is_autocast_available(x.device.type):
        return rows @ x @ columns.mT
    with torch.autocast(x.device.type, enabled=False):  # mixed precision would round the result
        return rows @ x @ columns.mT


# --- metrics -----------------------------------------------------------------------------


def mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean of (a - b)^2, as :func:`weighted_mse`."""
    return weighted_mse(a, b)


def mse_gradient(a: Tensor, b: Tensor) -> Tensor:
    """The gradient of :func:`mse` with respect to a: 2 (a - b) / n."""
    return weighted_mse_gradient(a, b)


def weighted_mse(
    a: Tensor, b: Tensor, mask: Tensor | None = None, per_image: bool = False
) -> Tensor:
    """sum m (a - b)^2 / sum m over all elements, or those of each entry of the first axis.

    In float64, because float32 does not have the squares of all its numbers.  What a boolean mask
    leaves out is not looked at.  NaN where the mean is not finite, and where it is below the
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
    return _nan_unless(~lost, value)


def weighted_mse_gradient(
    a: Tensor,
    b: Tensor,
    mask: Tensor | None = None,
    per_image: bool = False,
    of_value: Tensor | None = None,
) -> Tensor:
    """The gradient of :func:`weighted_mse` with respect to a: 2 m (a - b) / sum m.

    Times ``of_value``, if given: a factor for each value.
    """
    factor = 2 / total_weight(mask, a, per_image)
    if of_value is not None:
        factor = factor * of_value
    gradient = difference(a, b, mask) * over_images(factor, a)
    if mask is not None and mask.is_floating_point():
        gradient = mask.double() * gradient
    return gradient.to(a.dtype if a.is_floating_point() else torch.float64)


def total_weight(mask: Tensor | None, like: Tensor, per_image: bool = False) -> Tensor:
    """The sum of a mask that broadcasts to an image, or for each entry of its first axis."""
    shape = like.shape[:1] if per_image else ()
    if mask is None:
        count = like.shape[1:].numel() if per_image else like.numel()
        return torch.full(shape, count, dtype=torch.float64, device=like.device)
    axes = tuple(range(1 if per_image else 0, like.ndim))
    weights = mask.expand_as(like)
    return weights.sum(axes, dtype=torch.float64) if axes else weights.double()


def over_images(values: Tensor, like: Tensor) -> Tensor:
    """A scalar, or one value for each entry of the first axis, as it broadcasts."""
    return values.reshape(-1, *(1,) * (like.ndim - 1)) if values.ndim else values


def difference(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """a - b in float64, 0 where a boolean mask leaves it out."""
    distance = a.double() - b.double()
    if mask is None or mask.is_floating_point():
        return distance
    return torch.where(mask, distance, 0)


def psnr(a: Tensor, b: Tensor, data_range: float) -> Tensor:
    """20 log10(data_range / sqrt(mse))."""
    return decibels(mse(a, b), data_range)


def decibels(value: Tensor, data_range: float) -> Tensor:
    """PSNR, given the mean squared error."""
    return 20 * torch.log10(data_range / value.sqrt())


# --- structural similarity ---------------------------------------------------------------

SSIM_RADIUS = 5
_SIGMA, _K1, _K2 = 1.5, 0.01, 0.03


def ssim_map(a: Tensor, b: Tensor, data_range: float) -> Tensor:
    """Wang's SSIM of every window of 11x11 pixels within the images (..., H, W)."""
    return _Windows(a, b, data_range).similarity.to(a.dtype)


def ssim(a: Tensor, b: Tensor, data_range: float, per_image: bool = False) -> Tensor:
    """The mean of :func:`ssim_map`, or that of each entry of the first axis."""
    values = _Windows(a, b, data_range).similarity
    value = values.flatten(1).mean(1) if per_image else values.mean()
    return _nan_unless(value.isfinite(), value).to(a.dtype)


def ssim_gradients(
    a: Tensor, b: Tensor, data_range: float, per_image: bool = False
) -> tuple[Tensor, Tensor]:
    """The gradients of :func:`ssim` with respect to a and b."""
    w = _Windows(a, b, data_range)
    count = w.similarity[0].numel() if per_image else w.similarity.numel()
    by_square = -w.light * w.contrast / w.bottom2
    by_product = 2 * w.light / w.bottom2
    gradients = []
    for k, other in ((0, 1), (1, 0)):
        by_mean = 2 * w.contrast * (w.level[other] - w.light * w.level[k]) / w.bottom1
        by_mean = by_mean - 2 * w.mean[k] * by_square - w.mean[other] * by_product
        parts = (_blur_adjoint(p) for p in (by_mean, by_square, by_product))
        of_mean, of_square, of_product = parts
        slope = of_mean + 2 * w.image[k] * of_square + w.image[other] * of_product
        gradients.append((slope / count).to(a.dtype))
    return gradients[0], gradients[1]


class _Windows:
    """The statistics of a and b in all windows, and SSIM made of them, in float64.

    Images and means are distances to the mean of the plane, because a variance is a small
    difference of large numbers where the image is bright and flat; ``level`` is the mean itself.
    """

    def __init__(self, a: Tensor, b: Tensor, data_range: float) -> None:
        offset = a.detach().double().mean((-2, -1), keepdim=True)
        self.image = a, b = a.double() - offset, b.double() - offset
        self.mean = mean_a, mean_b = _blur(a), _blur(b)
        self.level = level_a, level_b = mean_a + offset, mean_b + offset
        variances = _blur(a.square()) - mean_a.square() + (_blur(b.square()) - mean_b.square())
        covariance = _blur(a * b) - mean_a * mean_b
        c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
        self.bottom1 = level_a.square() + level_b.square() + c1
        self.bottom2 = variances + c2
        self.light = (2 * level_a * level_b + c1) / self.bottom1
        self.contrast = (2 * covariance + c2) / self.bottom2
        self.similarity = self.light * self.contrast


def _blur(x: Tensor) -> Tensor:
    """The Gaussian of 11x11 pixels, where it lies within the image."""
    distance = torch.arange(-SSIM_RADIUS, SSIM_RADIUS + 1, dtype=x.dtype, device=x.device)
    taps = torch.exp(-0.5 * (distance / _SIGMA).square())
    taps = taps / taps.sum()
    y = x.reshape(-1, 1, *x.shape[-2:])
    y = F.conv2d(F.conv2d(y, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1))
    return y.reshape(*x.shape[:-2], *y.shape[-2:])


def _blur_adjoint(x: Tensor) -> Tensor:
    return _blur(F.pad(x, (2 * SSIM_RADIUS,) * 4))


def _nan_unless(condition: Tensor, value: Tensor) -> Tensor:
    return torch.where(condition & value.isfinite(), value, torch.nan)
