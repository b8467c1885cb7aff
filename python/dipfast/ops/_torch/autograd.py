"""Combine gradients in the backward passes of the operators."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["add", "kept", "scaled"]


def add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Return the sum of two gradients, each of which may be None for 0."""
    if a is None or b is None:
        return b if a is None else a
    return a + b


def kept(x: Tensor | None) -> Tensor | None:
    """Return a tensor that may be saved for the backward pass."""
    # Tensors that were made in inference mode cannot be saved, even if no gradient flows to them.
    return x.clone() if x is not None and x.is_inference() else x


def scaled(gradient: Tensor, by: Tensor) -> Tensor:
    """Return gradient * by, without a copy where ``by`` is 1."""
    # To look at the value of a tensor of another device would wait for it, and traced tensors,
    # whose class is another, have no value.
    if type(by) is Tensor and by.device.type == "cpu" and not by.requires_grad and by == 1:
        # The graph of the saved gradient is needed only if a graph of this gradient is recorded.
        return gradient if torch.is_grad_enabled() else gradient.detach()
    return gradient * by
