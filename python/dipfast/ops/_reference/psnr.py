"""Define the peak signal-to-noise ratio."""

from __future__ import annotations

import torch
from torch import Tensor

from dipfast.ops._reference.mse import mse

__all__ = ["decibels", "psnr"]


def psnr(a: Tensor, b: Tensor, data_range: float) -> Tensor:
    """Return 20 log10(data_range / sqrt(mse)), the PSNR of two images."""
    return decibels(mse(a, b), data_range)


def decibels(value: Tensor, data_range: float) -> Tensor:
    """Return the PSNR of a mean squared error."""
    return 20 * torch.log10(data_range / value.sqrt())
