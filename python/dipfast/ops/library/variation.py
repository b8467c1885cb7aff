"""Total variation, alone and with a data term, as torch operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dipfast import _native
from dipfast.ops import reference
from dipfast.ops.library.memory import add, array, dense, empty_like, match, scaled

__all__ = ["total_variation", "tv_objective"]

torch.library.define(
    "dipfast::total_variation", "(Tensor u, bool gradient) -> (Tensor value, Tensor gradient)"
)


def total_variation(u: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    """TV(u) and, if asked for, its gradient (else an empty tensor)."""
    return torch.ops.dipfast.total_variation(u, gradient)


def _total_variation_cpu(u: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    u = dense(u)
    channels_last = not u.is_contiguous()
    slope = empty_like(u) if gradient else u.new_empty(0)
    value = _native.total_variation(
        array(u, channels_last),
        channels_last=channels_last,
        gradient=array(slope, channels_last) if gradient else None,
    )
    return u.new_tensor(value), slope


torch.library.impl("dipfast::total_variation", "CPU", _total_variation_cpu)


def _total_variation_torch(u: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    u = dense(u)
    slope = reference.total_variation_gradient(u) if gradient else u.new_empty(0)
    return reference.total_variation(u), match(slope, u) if gradient else slope


torch.library.impl("dipfast::total_variation", "CompositeExplicitAutograd", _total_variation_torch)


@torch.library.register_fake("dipfast::total_variation")
def _total_variation_fake(u: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    u = dense(u)
    return u.new_empty(()), torch.empty_like(u) if gradient else u.new_empty(0)


def _total_variation_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    u, gradient = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1] if gradient else total_variation(u.detach(), True)[1])


def _total_variation_backward(
    ctx: Any, of_value: Tensor | None, of_gradient: Tensor | None
) -> tuple[Tensor | None, None]:
    # The gradient is constant almost everywhere, so of_gradient adds nothing.
    (slope,) = ctx.saved_tensors
    return (None if of_value is None else scaled(slope, of_value)), None


torch.library.register_autograd(
    "dipfast::total_variation",
    _total_variation_backward,
    setup_context=_total_variation_setup,
)


# --- data term and total variation -------------------------------------------------------

torch.library.define(
    "dipfast::tv_objective",
    "(Tensor u, Tensor y, Tensor? mask, float weight, bool gradient)"
    " -> (Tensor value, Tensor data, Tensor tv, Tensor gradient)",
)


def tv_objective(
    u: Tensor, y: Tensor, mask: Tensor | None, weight: float, gradient: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """1/2 || m (u - y) ||^2 + weight TV(u), its two terms, and its gradient in u."""
    return torch.ops.dipfast.tv_objective(u, y, mask, weight, gradient)


def _tv_objective_cpu(
    u: Tensor, y: Tensor, mask: Tensor | None, weight: float, gradient: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    u = dense(u)
    channels_last = not u.is_contiguous()
    slope = empty_like(u) if gradient else u.new_empty(0)
    data, tv = _native.tv_objective(
        array(u, channels_last),
        array(match(y, u), channels_last),
        None if mask is None else array(match(mask, u), channels_last),
        weight,
        channels_last=channels_last,
        gradient=array(slope, channels_last) if gradient else None,
    )
    return u.new_tensor(data + weight * tv), u.new_tensor(data), u.new_tensor(tv), slope


torch.library.impl("dipfast::tv_objective", "CPU", _tv_objective_cpu)


def _tv_objective_torch(
    u: Tensor, y: Tensor, mask: Tensor | None, weight: float, gradient: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    u = dense(u)
    terms = reference.tv_objective(u, y, weight, mask)
    if not gradient:
        return *terms, u.new_empty(0)
    return *terms, match(reference.tv_objective_gradient(u, y, weight, mask), u)


torch.library.impl("dipfast::tv_objective", "CompositeExplicitAutograd", _tv_objective_torch)


@torch.library.register_fake("dipfast::tv_objective")
def _tv_objective_fake(
    u: Tensor, y: Tensor, mask: Tensor | None, weight: float, gradient: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    u = dense(u)
    slope = torch.empty_like(u) if gradient else u.new_empty(0)
    return u.new_empty(()), u.new_empty(()), u.new_empty(()), slope


def _masked_twice(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else mask * mask * x


def _tv_objective_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    u, y, mask, weight, gradient = inputs
    ctx.set_materialize_grads(False)
    ctx.gradient = gradient
    slope = output[3] if gradient else tv_objective(u.detach(), y, mask, weight, True)[3]
    ctx.save_for_backward(u, y, mask, slope)


def _tv_objective_backward(
    ctx: Any,
    of_value: Tensor | None,
    of_data: Tensor | None,
    of_tv: Tensor | None,
    of_gradient: Tensor | None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
    u, y, mask, slope = ctx.saved_tensors
    if not ctx.gradient:
        of_gradient = None  # that of the empty tensor
    to_u = to_y = to_mask = None
    if ctx.needs_input_grad[0]:
        if of_value is not None:
            to_u = scaled(slope, of_value)
        if of_data is not None:
            to_u = add(to_u, of_data * _masked_twice(u - y, mask))
        if of_tv is not None:
            to_u = add(to_u, of_tv * reference.total_variation_gradient(u))
        if of_gradient is not None:  # second derivative: that of the data term alone
            to_u = add(to_u, _masked_twice(of_gradient, mask))
    # value and data depend on y and the mask in the same way.
    of_residual = add(of_value, of_data)
    if ctx.needs_input_grad[1]:
        if of_residual is not None:
            to_y = -of_residual * _masked_twice(u - y, mask)
        if of_gradient is not None:
            to_y = add(to_y, -_masked_twice(of_gradient, mask))
    if mask is not None and ctx.needs_input_grad[2]:
        if of_residual is not None:
            to_mask = of_residual * mask * (u - y).square()
        if of_gradient is not None:
            to_mask = add(to_mask, 2 * mask * (u - y) * of_gradient)
    return to_u, to_y, to_mask, None, None


torch.library.register_autograd(
    "dipfast::tv_objective", _tv_objective_backward, setup_context=_tv_objective_setup
)
