"""Hand tensors to kernels as memory, and make tensors for their results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dipfast.ops import _buffers
from dipfast.ops._arguments import shared_planes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "array",
    "computed_in",
    "dense",
    "empty",
    "empty_like",
    "is_channels_last",
    "mask_planes",
    "match",
]


def dense(x: Tensor, spatial_dims: int = 2) -> Tensor:
    """Return x itself where a kernel takes it as it lies in memory, else a contiguous copy."""
    return x if x.is_contiguous() or is_channels_last(x, spatial_dims) else x.contiguous()


def is_channels_last(x: Tensor, spatial_dims: int = 2) -> bool:
    """Return whether x is (N, C, ...) and the channels of a pixel lie side by side."""
    if x.ndim != spatial_dims + 2:
        return False
    return x.movedim(1, -1).is_contiguous()


def array(x: Tensor, channels_last: bool) -> NDArray[Any]:
    """Return the memory of x as a C-contiguous array, with its channels last if they are so."""
    return (x.movedim(1, -1) if channels_last else x).detach().numpy()


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return a contiguous tensor of float32 or float64, not initialised."""
    kind = np.float32 if dtype == torch.float32 else np.float64
    return torch.from_numpy(_buffers.empty(shape, kind))


def empty_like(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return a tensor in the memory format of x, which is dense, and in its dtype by default."""
    return empty((x.numel(),), dtype or x.dtype).as_strided(x.shape, x.stride())


def match(x: Tensor, like: Tensor) -> Tensor:
    """Return x in the memory format of another tensor of the same shape."""
    if x.stride() == like.stride():
        return x
    return torch.empty_like(like, dtype=x.dtype).copy_(x)


def mask_planes(mask: Tensor, like: Tensor, spatial_dims: int) -> tuple[Tensor, int]:
    """Return a mask as a kernel takes it beside ``like``, boolean ones as bytes.

    The second value is the number of consecutive planes that share a plane of it.
    """
    repeat = None
    if like.is_contiguous():
        repeat = shared_planes(mask.shape, like.shape, spatial_dims)
    if repeat is None:
        mask, repeat = match(mask.expand_as(like), like), 1
    else:
        mask = mask.contiguous()
    return mask.view(torch.uint8) if mask.dtype == torch.bool else mask, repeat


def computed_in(x: Tensor) -> torch.dtype:
    """Return the dtype of the results for x: its own, and float64 for integers."""
    return x.dtype if x.is_floating_point() else torch.float64
