"""Register total variation, alone and with a data term, as torch operators.

Everywhere, ``kind``, ``epsilon`` and ``spatial_dims`` say which total variation is meant; see
:func:`dipfast.ops.total_variation`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dipfast.ops import _reference as reference
from dipfast.ops._compiled import total_variation as compiled
from dipfast.ops._memory import array, dense, empty_like, mask_planes, match
from dipfast.ops._torch.autograd import Slope, add, kept
from dipfast.ops._triton import register

__all__ = ["total_variation", "tv_objective"]

torch.library.define(
    "dipfast::total_variation",
    "(Tensor u, str kind, float epsilon, int spatial_dims, bool gradient)"
    " -> (Tensor value, Tensor gradient)",
)


def total_variation(
    u: Tensor,
    kind: str,
    epsilon: float,
    spatial_dims: int,
    gradient: bool,
    triton: bool = False,
) -> tuple[Tensor, Tensor]:
    """TV(u) and, if asked for, its gradient (else an empty tensor); ``triton`` demands Triton."""
    op = torch.ops.dipfast.total_variation_triton if triton else torch.ops.dipfast.total_variation
    return op(u, kind, epsilon, spatial_dims, gradient)


def _total_variation_cpu(
    u: Tensor, kind: str, epsilon: float, spatial_dims: int, gradient: bool
) -> tuple[Tensor, Tensor]:
    u = dense(u, spatial_dims)
    channels_last = not u.is_contiguous()
    slope = empty_like(u) if gradient else u.new_empty(0)
    value = compiled.total_variation(
        array(u, channels_last),
        kind=kind,
        epsilon=epsilon,
        spatial_dims=spatial_dims,
        channels_last=channels_last,
        gradient=array(slope, channels_last) if gradient else None,
    )
    return _number(value, u), slope


def _number(value: float, like: Tensor) -> Tensor:
    """Return a scalar; NaN where the dtype has no such number."""
    return like.new_tensor(value if abs(value) <= torch.finfo(like.dtype).max else torch.nan)


torch.library.impl("dipfast::total_variation", "CPU", _total_variation_cpu)


def _total_variation_torch(
    u: Tensor, kind: str, epsilon: float, spatial_dims: int, gradient: bool
) -> tuple[Tensor, Tensor]:
    u = dense(u, spatial_dims)
    form = (kind, epsilon, spatial_dims)
    slope = reference.total_variation_gradient(u, *form) if gradient else u.new_empty(0)
    return reference.total_variation(u, *form), match(slope, u) if gradient else slope


torch.library.impl("dipfast::total_variation", "CompositeExplicitAutograd", _total_variation_torch)


@torch.library.register_fake("dipfast::total_variation")
def _total_variation_fake(
    u: Tensor, kind: str, epsilon: float, spatial_dims: int, gradient: bool
) -> tuple[Tensor, Tensor]:
    u = dense(u, spatial_dims)
    return u.new_empty(()), torch.empty_like(u) if gradient else u.new_empty(0)


def _total_variation_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    u, *ctx.form, gradient = inputs
    ctx.set_materialize_grads(False)
    op = torch.ops.dipfast.total_variation
    slope = output[1] if gradient else op(u.detach(), *ctx.form, True)[1]
    ctx.slope = Slope()
    ctx.save_for_backward(u, slope)


def _total_variation_backward(
    ctx: Any, of_value: Tensor | None, of_gradient: Tensor | None
) -> tuple[Tensor | None, None, None, None, None]:
    u, slope = ctx.saved_tensors
    to_u = None
    if of_value is not None:
        op = torch.ops.dipfast.total_variation
        to_u = ctx.slope.times(of_value, slope, lambda: op(u, *ctx.form, True)[1])
    return add(to_u, _second_derivative(u, of_gradient, *ctx.form)), None, None, None, None


def _second_derivative(
    u: Tensor, of_gradient: Tensor | None, kind: str, epsilon: float, spatial_dims: int
) -> Tensor | None:
    """Return the second derivative of TV at u, applied to a direction."""
    if of_gradient is None or not of_gradient.numel() or kind == "anisotropic":
        return None  # the anisotropic gradient is constant almost everywhere
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        point = u if keep and u.requires_grad else u.detach().requires_grad_()
        slope = reference.total_variation_gradient(point, kind, epsilon, spatial_dims)
        return torch.autograd.grad(slope, point, of_gradient, create_graph=keep)[0]


torch.library.register_autograd(
    "dipfast::total_variation",
    _total_variation_backward,
    setup_context=_total_variation_setup,
)
register(
    "total_variation",
    plain=_total_variation_torch,
    fake=_total_variation_fake,
    backward=_total_variation_backward,
    setup_context=_total_variation_setup,
)


# --- data term and total variation -------------------------------------------------------

torch.library.define(
    "dipfast::tv_objective",
    "(Tensor u, Tensor y, Tensor? mask, float weight, str kind, float epsilon,"
    " int spatial_dims, bool gradient)"
    " -> (Tensor value, Tensor data, Tensor tv, Tensor gradient)",
)


def tv_objective(
    u: Tensor,
    y: Tensor,
    mask: Tensor | None,
    weight: float,
    kind: str,
    epsilon: float,
    spatial_dims: int,
    gradient: bool,
    triton: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return 1/2 || m (u - y) ||^2 + weight TV(u), its two terms, and its gradient in u.

    The mask is boolean, or of the dtype of u; it broadcasts to the shape of u.
    """
    op = torch.ops.dipfast.tv_objective_triton if triton else torch.ops.dipfast.tv_objective
    return op(u, y, mask, weight, kind, epsilon, spatial_dims, gradient)


def _tv_objective_cpu(
    u: Tensor,
    y: Tensor,
    mask: Tensor | None,
    weight: float,
    kind: str,
    epsilon: float,
    spatial_dims: int,
    gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    u = dense(u, spatial_dims)
    channels_last = not u.is_contiguous()
    slope = empty_like(u) if gradient else u.new_empty(0)
    repeat = 1
    if mask is not None:
        mask, repeat = mask_planes(mask, u, spatial_dims)
    data, tv = compiled.tv_objective(
        array(u, channels_last),
        array(match(y, u), channels_last),
        None if mask is None else array(mask, channels_last),
        weight,
        mask_repeat=repeat,
        kind=kind,
        epsilon=epsilon,
        spatial_dims=spatial_dims,
        channels_last=channels_last,
        gradient=array(slope, channels_last) if gradient else None,
    )
    return _number(data + weight * tv, u), _number(data, u), _number(tv, u), slope


torch.library.impl("dipfast::tv_objective", "CPU", _tv_objective_cpu)


def _tv_objective_torch(
    u: Tensor,
    y: Tensor,
    mask: Tensor | None,
    weight: float,
    kind: str,
    epsilon: float,
    spatial_dims: int,
    gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    u = dense(u, spatial_dims)
    arguments = (u, y, weight, mask, kind, epsilon, spatial_dims)
    terms = reference.tv_objective(*arguments)
    if not gradient:
        return *terms, u.new_empty(0)
    return *terms, match(reference.tv_objective_gradient(*arguments), u)


torch.library.impl("dipfast::tv_objective", "CompositeExplicitAutograd", _tv_objective_torch)


@torch.library.register_fake("dipfast::tv_objective")
def _tv_objective_fake(
    u: Tensor,
    y: Tensor,
    mask: Tensor | None,
    weight: float,
    kind: str,
    epsilon: float,
    spatial_dims: int,
    gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    u = dense(u, spatial_dims)
    slope = torch.empty_like(u) if gradient else u.new_empty(0)
    return u.new_empty(()), u.new_empty(()), u.new_empty(()), slope


def _masked_twice(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return mask^2 * x, or x without a mask."""
    return x if mask is None else mask * reference.masked(mask, x)


def _tv_objective_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    u, y, mask, weight, *form, gradient = inputs
    ctx.set_materialize_grads(False)
    ctx.weight, ctx.form, ctx.gradient = weight, form, gradient
    op = torch.ops.dipfast.tv_objective
    slope = output[3] if gradient else op(u.detach(), y, mask, weight, *form, True)[3]
    ctx.slope = Slope()
    ctx.save_for_backward(*map(kept, (u, y, mask)), slope)


def _tv_objective_backward(
    ctx: Any,
    of_value: Tensor | None,
    of_data: Tensor | None,
    of_tv: Tensor | None,
    of_gradient: Tensor | None,
) -> tuple[Tensor | None, ...]:
    u, y, mask, slope = ctx.saved_tensors
    if not ctx.gradient:
        of_gradient = None  # it belongs to an empty tensor
    to_u = to_y = to_mask = None
    if ctx.needs_input_grad[0]:
        if of_value is not None:
            op, form = torch.ops.dipfast.tv_objective, (ctx.weight, *ctx.form)
            to_u = ctx.slope.times(of_value, slope, lambda: op(u, y, mask, *form, True)[3])
        if of_data is not None:
            to_u = add(to_u, of_data * _masked_twice(u - y, mask))
        if of_tv is not None:
            to_u = add(to_u, of_tv * reference.total_variation_gradient(u, *ctx.form))
        if of_gradient is not None:
            to_u = add(to_u, _masked_twice(of_gradient, mask))
            of_tv_gradient = _second_derivative(u, of_gradient, *ctx.form)
            if of_tv_gradient is not None:
                to_u = add(to_u, ctx.weight * of_tv_gradient)
    # value and data depend on y and the mask in the same way.
    of_residual = add(of_value, of_data)
    if ctx.needs_input_grad[1]:
        if of_residual is not None:
            to_y = -of_residual * _masked_twice(u - y, mask)
        if of_gradient is not None:
            to_y = add(to_y, -_masked_twice(of_gradient, mask))
    if mask is not None and ctx.needs_input_grad[2]:
        if of_residual is not None:
            to_mask = of_residual * mask * (u - y).where(mask != 0, 0).square()
        if of_gradient is not None:
            to_mask = add(to_mask, 2 * reference.masked(mask, u - y) * of_gradient)
        if to_mask is not None:
            to_mask = to_mask.sum_to_size(mask.shape)
    return to_u, to_y, to_mask, None, None, None, None, None


torch.library.register_autograd(
    "dipfast::tv_objective", _tv_objective_backward, setup_context=_tv_objective_setup
)
register(
    "tv_objective",
    plain=_tv_objective_torch,
    fake=_tv_objective_fake,
    backward=_tv_objective_backward,
    setup_context=_tv_objective_setup,
)
