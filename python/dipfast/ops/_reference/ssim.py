"""Define structural similarity."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dipfast.ops._reference._finite import nan_unless

__all__ = ["SSIM_RADIUS", "ssim", "ssim_gradients", "ssim_map"]

# Pixels from the middle of a window to its border.
SSIM_RADIUS = 5
# Standard deviation of the Gaussian in pixels, and the constants of the definition.
_SIGMA, _K1, _K2 = 1.5, 0.01, 0.03
# About how many rows, and columns, have pixels that tell a typical value.
_SAMPLES = 5


def ssim_map(a: Tensor, b: Tensor, data_range: float) -> Tensor:
    """Return Wang's SSIM of every window of 11x11 pixels within the images (..., H, W)."""
    return _Windows(a, b, data_range).similarity.to(a.dtype)


def ssim(a: Tensor, b: Tensor, data_range: float, per_image: bool = False) -> Tensor:
    """Return the mean of :func:`ssim_map`, or that of each entry of the first axis."""
    values = _Windows(a, b, data_range).similarity
    value = values.flatten(1).mean(1) if per_image else values.mean()
    return nan_unless(value.isfinite(), value).to(a.dtype)


def ssim_gradients(
    a: Tensor, b: Tensor, data_range: float, per_image: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the gradients of :func:`ssim` with respect to a and b."""
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
    """Compute the statistics of a and b in all windows, and SSIM made of them, in float64.

    Images and means are distances to a typical value of the plane, because a variance is a small
    difference of large numbers where the image is bright and flat; ``level`` is the mean itself.
    """

    def __init__(self, a: Tensor, b: Tensor, data_range: float) -> None:
        offset = _typical(a.detach().double(), b.detach().double())
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


def _typical(a: Tensor, b: Tensor) -> Tensor:
    """Return the median of some finite pixels of both images, for each plane; 0 if none is finite.

    One that is not finite, or far from all others, has no influence on windows away from it.
    """
    steps = [max(size // _SAMPLES, 1) for size in a.shape[-2:]]
    rows, columns = (slice(step // 2, None, step) for step in steps)
    values = torch.cat([x[..., rows, columns].flatten(-2) for x in (a, b)], -1)
    values = values.where(values.isfinite(), torch.nan).sort(-1).values  # NaN comes last
    middle = values.isfinite().sum(-1, keepdim=True) // 2
    middle = middle.clamp(max=values.shape[-1] - 1)
    return values.gather(-1, middle).nan_to_num(nan=0.0)[..., None]


def _blur(x: Tensor) -> Tensor:
    """Filter images by the Gaussian of 11x11 pixels, where it lies within the image."""
    distance = torch.arange(-SSIM_RADIUS, SSIM_RADIUS + 1, dtype=x.dtype, device=x.device)
    taps = torch.exp(-0.5 * (distance / _SIGMA).square())
    taps = taps / taps.sum()
    y = x.reshape(-1, 1, *x.shape[-2:])
    y = F.conv2d(F.conv2d(y, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1))
    return y.reshape(*x.shape[:-2], *y.shape[-2:])


def _blur_adjoint(x: Tensor) -> Tensor:
    """Apply the adjoint of the filter."""
    return _blur(F.pad(x, (2 * SSIM_RADIUS,) * 4))
