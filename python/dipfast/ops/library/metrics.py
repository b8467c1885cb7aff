"""Metrics as torch operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dipfast import _native
from dipfast.ops import reference
from dipfast.ops.library import triton_backend
from dipfast.ops.library.memory import add, array, dense, empty_like, match, scaled

__all__ = ["mse"]

torch.library.define(
    "dipfast::mse", "(Tensor a, Tensor b, bool gradient) -> (Tensor value, Tensor gradient)"
)


def mse(a: Tensor, b: Tensor, gradient: bool, triton: bool = False) -> tuple[Tensor, Tensor]:
    """Mean of (a - b)^2 and, if asked for, its gradient in a; ``triton`` demands Triton."""
    op = torch.ops.dipfast.mse_triton if triton else torch.ops.dipfast.mse
    return op(a, b, gradient)


def _mse_cpu(a: Tensor, b: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    a = dense(a)
    channels_last = not a.is_contiguous()
    slope = empty_like(a) if gradient else a.new_empty(0)
    value = _native.mse(
        array(a, channels_last),
        array(match(b, a), channels_last),
        gradient=array(slope, channels_last) if gradient else None,
    )
    return a.new_tensor(value), slope


torch.library.impl("dipfast::mse", "CPU", _mse_cpu)


def _mse_torch(a: Tensor, b: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    a = dense(a)
    slope = match(reference.mse_gradient(a, b), a) if gradient else a.new_empty(0)
    return reference.mse(a, b), slope


torch.library.impl("dipfast::mse", "CompositeExplicitAutograd", _mse_torch)


@torch.library.register_fake("dipfast::mse")
def _mse_fake(a: Tensor, b: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    a = dense(a)
    return a.new_empty(()), torch.empty_like(a) if gradient else a.new_empty(0)


def _mse_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    a, b, gradient = inputs
    ctx.set_materialize_grads(False)
    ctx.gradient = gradient
    ctx.save_for_backward(output[1] if gradient else mse(a.detach(), b, True)[1])


def _mse_backward(
    ctx: Any, of_value: Tensor | None, of_gradient: Tensor | None
) -> tuple[Tensor | None, Tensor | None, None]:
    (slope,) = ctx.saved_tensors
    to_a = None if of_value is None else scaled(slope, of_value)
    if of_gradient is not None and ctx.gradient:
        to_a = add(to_a, of_gradient * (2 / slope.numel()))
    to_b = None if to_a is None or not ctx.needs_input_grad[1] else -to_a
    return to_a, to_b, None


torch.library.register_autograd("dipfast::mse", _mse_backward, setup_context=_mse_setup)

triton_backend.register(
    "mse", plain=_mse_torch, fake=_mse_fake, backward=_mse_backward, setup_context=_mse_setup
)
