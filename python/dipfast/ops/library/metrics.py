"""Metrics as torch operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dipfast import _native
from dipfast.ops import reference
from dipfast.ops.library import triton_backend
from dipfast.ops.library.memory import add, array, dense, empty_like, mask_planes, match, scaled

__all__ = ["mse", "weighted_mse"]

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
    (value,) = _native.mse(
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


# --- with weights, image by image --------------------------------------------------------

torch.library.define(
    "dipfast::weighted_mse",
    "(Tensor a, Tensor b, Tensor? mask, bool per_image, bool gradient)"
    " -> (Tensor value, Tensor gradient)",
)


def weighted_mse(
    a: Tensor, b: Tensor, mask: Tensor | None, per_image: bool, gradient: bool
) -> tuple[Tensor, Tensor]:
    """sum m (a - b)^2 / sum m, and its gradient in a; for each entry of the first axis if asked.

    The mask is boolean, or of the dtype that is computed in; it broadcasts to the shape of a.
    On the CPU, images may be uint8 or uint16, computed in float64.
    """
    return torch.ops.dipfast.weighted_mse(a, b, mask, per_image, gradient)


def _weighted_mse_cpu(
    a: Tensor, b: Tensor, mask: Tensor | None, per_image: bool, gradient: bool
) -> tuple[Tensor, Tensor]:
    a = dense(a)
    channels_last = not a.is_contiguous()
    dtype = a.dtype if a.is_floating_point() else torch.float64
    slope = empty_like(a, dtype) if gradient else a.new_empty(0, dtype=dtype)
    spatial_dims = min(2, a.ndim - per_image)
    repeat = 1
    if mask is not None:
        mask, repeat = mask_planes(mask, a, spatial_dims)
    value = _native.mse(
        array(a, channels_last),
        array(match(b, a), channels_last),
        mask=None if mask is None else array(mask, channels_last),
        mask_plane=a.shape[a.ndim - spatial_dims :].numel(),
        mask_repeat=repeat,
        images=a.shape[0] if per_image else 1,
        gradient=array(slope, channels_last) if gradient else None,
    )
    return a.new_tensor(value if per_image else value[0], dtype=dtype), slope


torch.library.impl("dipfast::weighted_mse", "CPU", _weighted_mse_cpu)


def _weighted_mse_torch(
    a: Tensor, b: Tensor, mask: Tensor | None, per_image: bool, gradient: bool
) -> tuple[Tensor, Tensor]:
    a = dense(a)
    value = reference.weighted_mse(a, b, mask, per_image)
    if not gradient:
        return value, a.new_empty(0)
    return value, match(reference.weighted_mse_gradient(a, b, mask, per_image), a)


torch.library.impl("dipfast::weighted_mse", "CompositeExplicitAutograd", _weighted_mse_torch)


@torch.library.register_fake("dipfast::weighted_mse")
def _weighted_mse_fake(
    a: Tensor, b: Tensor, mask: Tensor | None, per_image: bool, gradient: bool
) -> tuple[Tensor, Tensor]:
    a = dense(a)
    dtype = a.dtype if a.is_floating_point() else torch.float64
    value = a.new_empty(a.shape[:1] if per_image else (), dtype=dtype)
    return value, torch.empty_like(a, dtype=dtype) if gradient else a.new_empty(0, dtype=dtype)


def _weighted_mse_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    a, b, mask, per_image, gradient = inputs
    ctx.set_materialize_grads(False)
    ctx.per_image, ctx.gradient = per_image, gradient
    value, slope = output
    if not gradient:
        _, slope = weighted_mse(a.detach(), b.detach(), mask, per_image, True)
    ctx.save_for_backward(a, b, mask, value, slope)


def _weighted_mse_backward(
    ctx: Any, of_value: Tensor | None, of_gradient: Tensor | None
) -> tuple[Tensor | None, ...]:
    a, b, mask, value, slope = ctx.saved_tensors
    if not ctx.gradient:
        of_gradient = None  # that of the empty tensor
    to_a = to_b = to_mask = None
    needs_a, needs_b, needs_mask = ctx.needs_input_grad[:3]
    if of_value is not None:
        of_value = reference.over_images(of_value, a)
        to_a = slope * of_value if ctx.per_image else scaled(slope, of_value)
    if of_gradient is not None or needs_mask:
        total = reference.over_images(reference.total_weight(mask, a, ctx.per_image), a)
    if of_gradient is not None:
        marked = of_gradient if mask is None else mask * of_gradient
        to_a = add(to_a, marked * (2 / total))
    if needs_mask:
        if of_value is not None:
            mean = reference.over_images(value, a)
            to_mask = of_value * ((a - b).square() - mean) / total
        if of_gradient is not None:
            axes = tuple(range(1 if ctx.per_image else 0, a.ndim))
            turned = (of_gradient * slope).sum(axes, keepdim=True) if axes else of_gradient * slope
            to_mask = add(to_mask, (2 * (a - b) * of_gradient - turned) / total)
        if to_mask is not None:
            to_mask = to_mask.sum_to_size(mask.shape)
    if needs_b and to_a is not None:
        to_b = -to_a
    return to_a if needs_a else None, to_b, to_mask, None, None


torch.library.register_autograd(
    "dipfast::weighted_mse", _weighted_mse_backward, setup_context=_weighted_mse_setup
)
