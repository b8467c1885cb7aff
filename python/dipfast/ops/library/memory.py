"""Tensors as the memory that the kernels take, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dipfast.ops import buffers
from dipfast.ops.arguments import shared_planes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "add",
    "array",
    "dense",
    "empty",
    "empty_like",
    "is_channels_last",
    "mask_planes",
    "match",
    "scaled",
]


def dense(x: Tensor, spatial_dims: int = 2) -> Tensor:
    """x itself where a kernel can take it as it lies in memory, else a contiguous copy."""
    return x if x.is_contiguous() or is_channels_last(x, spatial_dims) else x.contiguous()


def is_channels_last(x: Tensor, spatial_dims: int = 2) -> bool:
    """Whether x is (N, C, ...) and the channels of a pixel lie side by side."""
    if x.ndim != spatial_dims + 2:
        return False
    return x.movedim(1, -1).is_contiguous()


def array(x: Tensor, channels_last: bool) -> NDArray[Any]:
    """The memory of x as a C-contiguous array, channels last if they are."""
    return (x.movedim(1, -1) if channels_last else x).detach().numpy()


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A contiguous buffer of float32 or float64."""
    kind = np.float32 if dtype == torch.float32 else np.float64
    return torch.from_numpy(buffers.empty(shape, kind))


def empty_like(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A buffer in the memory format of x, which is dense, and its dtype if no other is named."""
    return empty((x.numel(),), dtype or x.dtype).as_strided(x.shape, x.stride())


def scaled(gradient: Tensor, by: Tensor) -> Tensor:
    """gradient * by, without a copy where ``by`` is 1: the value was differentiated itself."""
    # Only tensors of the CPU have a value that costs nothing to look at, and traced ones,
    # which are of a class of their own, have none.
    if type(by) is Tensor and by.device.type == "cpu" and not by.requires_grad and by == 1:
        # Its own graph is of interest only where that of the gradient is made.
        return gradient if torch.is_grad_enabled() else gradient.detach()
    return gradient * by


def match(x: Tensor, like: Tensor) -> Tensor:
    """x in the memory format of another tensor of the same shape."""
    if x.stride() == like.stride():
        return x
    return torch.empty_like(like, dtype=x.dtype).copy_(x)


def mask_planes(mask: Tensor, like: Tensor, spatial_dims: int) -> tuple[Tensor, int]:
    """A mask as a kernel takes it beside ``like``, boolean ones as bytes; and how many planes
    in a row share a plane of it."""
    repeat = None
    if like.is_contiguous():
        repeat = shared_planes(mask.shape, like.shape, spatial_dims)
    if repeat is None:
        mask, repeat = match(mask.expand_as(like), like), 1
    else:
        mask = mask.contiguous()
    return mask.view(torch.uint8) if mask.dtype == torch.bool else mask, repeat


def add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b
