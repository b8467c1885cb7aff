"""Define resampling, given the weights along both axes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["resample"]


def resample(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return R X C' for images X and matrices R and C, the weights along either axis."""
    if not torch.amp.is_autocast_available(x.device.type):
        return rows @ x @ columns.mT
    with torch.autocast(x.device.type, enabled=False):  # mixed precision would round the result
        return rows @ x @ columns.mT
