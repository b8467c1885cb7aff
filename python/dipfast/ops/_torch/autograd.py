"""Combine gradients in the backward passes of the operators."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Slope", "add", "holds", "is_one", "kept"]


def add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Return the sum of two gradients, each of which may be None for 0."""
    if a is None or b is None:
        return b if a is None else a
    return a + b


def kept(x: Tensor | None) -> Tensor | None:
    """Return a tensor that may be saved for the backward pass."""
    # Tensors that were made in inference mode cannot be saved, even if no gradient flows to them.
    return x.clone() if x is not None and x.is_inference() else x


class Slope:
    """Hand out a gradient that was computed with the value, times the gradient of the value.

    Where that is 1, the first backward pass is given the saved memory itself instead of a copy.
    It belongs to others then, who may write to it: a tensor without a history takes it as its
    ``.grad``.  A second pass through a graph that is kept computes the gradient again.  With
    ``copies`` every pass gets a copy.
    """

    def __init__(self) -> None:
        self.copies = self._is_given_away = False

    def times(self, by: Tensor, saved: Tensor, again: Callable[[], Tensor]) -> Tensor:
        """Return the gradient times ``by``."""
        gradient = self.read(saved, again)
        if self.copies or not is_one(by):
            return gradient * by
        # The graph of the saved gradient is needed only if a graph of this gradient is recorded;
        # otherwise what is written to it must not be noted as a change of what is saved.
        if torch.is_grad_enabled():
            # It is in other hands too from now on, and a later pass must not share it with them.
            self.copies = True
            return gradient
        self._is_given_away = True
        return gradient.data

    def read(self, saved: Tensor, again: Callable[[], Tensor]) -> Tensor:
        """Return the gradient, to be read only."""
        return again() if self._is_given_away else saved


def is_one(by: Tensor) -> bool:
    """Return whether the gradient of a value is known to be 1, and constant."""
    # To look at the value of a tensor of another device would wait for it, and traced tensors,
    # whose class is another, have no value.
    plain = type(by) is Tensor and by.device.type == "cpu"
    return plain and by.ndim == 0 and not by.requires_grad and holds(by == 1)


def holds(condition: Tensor) -> bool:
    """Return whether a condition is known to hold."""
    try:
        return bool(condition)
    except RuntimeError:
        # That of many gradients side by side (vmap), some of which may fulfil it and others not.
        return False
