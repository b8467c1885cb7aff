"""Numbers of the plain definitions that are not finite."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["nan_unless"]


def nan_unless(condition: Tensor, value: Tensor) -> Tensor:
    """Return a value where it is finite and a condition holds, NaN elsewhere."""
    return torch.where(condition & value.isfinite(), value, torch.nan)
