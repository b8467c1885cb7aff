"""Define resampling, given the weights along both axes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["resample"]


def resample(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return R X C' for images X and matrices R and C, the weights along either axis.

    It is NaN where anything that is not finite has a weight other than 0, and there alone.
    """
    # The second product costs as much as the first.  To look whether it is needed would wait for
    # the device, and could not be recorded or traced.
    finite = x.isfinite()
    y = _product(rows, x.where(finite, 0), columns)
    lost = _product((rows != 0).to(x.dtype), (~finite).to(x.dtype), (columns != 0).to(x.dtype))
    return y.where(lost == 0, torch.nan)


def _product(rows: Tensor, x: Tensor, columns: Tensor) -> Tensor:
    """Return the product of matrices as precisely as the dtype allows."""
    if not torch.amp.is_autocast_available(x.device.type):
        return rows @ x @ columns.mT
    with torch.autocast(x.device.type, enabled=False):  # mixed precision would round the result
        return rows @ x @ columns.mT
