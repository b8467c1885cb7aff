"""Register mean squared errors as torch operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dipfast.ops import _reference as reference
from dipfast.ops._arguments import SMALLEST
from dipfast.ops._compiled import mse as compiled
from dipfast.ops._memory import array, computed_in, dense, empty_like, mask_planes, match
from dipfast.ops._torch.autograd import Slope, add, holds, is_one, kept
from dipfast.ops._triton import register

__all__ = ["mse", "weighted_mse"]

torch.library.define(
    "dipfast::mse", "(Tensor a, Tensor b, bool gradient) -> (Tensor value, Tensor gradient)"
)


def mse(a: Tensor, b: Tensor, gradient: bool, triton: bool = False) -> tuple[Tensor, Tensor]:
    """Return the mean of (a - b)^2, in float64, and its gradient in a if asked for.

    The gradient has the dtype of a.  ``triton`` requires the Triton kernel.
    """
    if not triton and not a.is_cuda:
        return torch.ops.dipfast.mse(a, b, gradient)
    op = torch.ops.dipfast.mse_triton if triton else torch.ops.dipfast.mse
    value, slope = op(a, b, gradient)
    if a.dtype == torch.float64:
        value = value.where((value >= SMALLEST) | (a == b).all(), torch.nan)
    return value, slope


def _mse_cpu(a: Tensor, b: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    return _weighted_mse_cpu(a, b, None, False, gradient)


torch.library.impl("dipfast::mse", "CPU", _mse_cpu)


def _mse_torch(a: Tensor, b: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    return _weighted_mse_torch(a, b, None, False, gradient)


torch.library.impl("dipfast::mse", "CompositeExplicitAutograd", _mse_torch)


@torch.library.register_fake("dipfast::mse")
def _mse_fake(a: Tensor, b: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    return _weighted_mse_fake(a, b, None, False, gradient)


def _mse_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    a, b, gradient = inputs
    _weighted_mse_setup(ctx, (a, b, None, False, gradient), output)


def _mse_backward(
    ctx: Any, of_value: Tensor | None, of_gradient: Tensor | None
) -> tuple[Tensor | None, Tensor | None, None]:
    to_a, to_b = _pull(ctx, of_value, of_gradient)
    return to_a, to_b, None


torch.library.register_autograd("dipfast::mse", _mse_backward, setup_context=_mse_setup)

register("mse", plain=_mse_torch, fake=_mse_fake, backward=_mse_backward, setup_context=_mse_setup)


# --- with weights, image by image --------------------------------------------------------

torch.library.define(
    "dipfast::weighted_mse",
    "(Tensor a, Tensor b, Tensor? mask, bool per_image, bool gradient)"
    " -> (Tensor value, Tensor gradient)",
)


def weighted_mse(
    a: Tensor, b: Tensor, mask: Tensor | None, per_image: bool, gradient: bool
) -> tuple[Tensor, Tensor]:
    """Return sum m (a - b)^2 / sum m, in float64, and its gradient in a if asked for.

    With ``per_image`` there is one value for each entry of the first axis.  The mask is boolean,
    or weights, and broadcasts to the shape of a.  On the CPU, images may be uint8 or uint16, whose
    gradient is in float64.
    """
    return torch.ops.dipfast.weighted_mse(a, b, mask, per_image, gradient)


def _weighted_mse_cpu(
    a: Tensor, b: Tensor, mask: Tensor | None, per_image: bool, gradient: bool
) -> tuple[Tensor, Tensor]:
    a = dense(a)
    channels_last = not a.is_contiguous()
    dtype = computed_in(a)
    slope = empty_like(a, dtype) if gradient else a.new_empty(0, dtype=dtype)
    spatial_dims = min(2, a.ndim - per_image)
    repeat = 1
    if mask is not None:
        mask, repeat = mask_planes(mask, a, spatial_dims)
    values = compiled.mse(
        array(a, channels_last),
        array(match(b, a), channels_last),
        mask=None if mask is None else array(mask, channels_last),
        mask_plane=a.shape[a.ndim - spatial_dims :].numel(),
        mask_repeat=repeat,
        images=a.shape[0] if per_image else 1,
        gradient=array(slope, channels_last) if gradient else None,
    )
    return a.new_tensor(values if per_image else values[0], dtype=torch.float64), slope


torch.library.impl("dipfast::weighted_mse", "CPU", _weighted_mse_cpu)


def _weighted_mse_torch(
    a: Tensor, b: Tensor, mask: Tensor | None, per_image: bool, gradient: bool
) -> tuple[Tensor, Tensor]:
    a = dense(a)
    value = reference.mse(a, b, mask, per_image)
    if not gradient:
        return value, a.new_empty(0, dtype=computed_in(a))
    return value, match(reference.mse_gradient(a, b, mask, per_image), a)


torch.library.impl("dipfast::weighted_mse", "CompositeExplicitAutograd", _weighted_mse_torch)


@torch.library.register_fake("dipfast::weighted_mse")
def _weighted_mse_fake(
    a: Tensor, b: Tensor, mask: Tensor | None, per_image: bool, gradient: bool
) -> tuple[Tensor, Tensor]:
    a = dense(a)
    dtype = computed_in(a)
    value = a.new_empty(a.shape[:1] if per_image else (), dtype=torch.float64)
    return value, torch.empty_like(a, dtype=dtype) if gradient else a.new_empty(0, dtype=dtype)


def _weighted_mse_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    a, b, mask, ctx.per_image, ctx.gradient = inputs
    ctx.set_materialize_grads(False)
    ctx.slope = Slope()
    ctx.save_for_backward(*map(kept, (a, b, mask)), *output)


def _weighted_mse_backward(
    ctx: Any, of_value: Tensor | None, of_gradient: Tensor | None
) -> tuple[Tensor | None, ...]:
    to_a, to_b = _pull(ctx, of_value, of_gradient)
    return to_a, to_b, _pull_to_mask(ctx, of_value, of_gradient), None, None


def _pull(
    ctx: Any, of_value: Tensor | None, of_gradient: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients that flow to a and b."""
    a, b, mask, value, slope = ctx.saved_tensors
    to_a = None
    if of_value is None:
        pass
    elif ctx.gradient and not ctx.per_image and is_one(of_value):
        to_a = ctx.slope.times(of_value, slope, lambda: _again(a, b, mask, ctx.per_image))
    elif type(of_value) is not Tensor or of_value.device.type != "cpu":
        to_a = reference.mse_gradient(a, b, mask, ctx.per_image, of_value)
    else:
        to_a = _scaled_gradient(a, b, mask, ctx.per_image, value, of_value)
    if of_gradient is not None and ctx.gradient:
        total = reference.over_images(reference.total_weight(mask, a, ctx.per_image), a)
        marked = of_gradient if mask is None else mask * of_gradient
        to_a = add(to_a, (marked * (2 / total)).to(a.dtype))
    needs_a, needs_b = ctx.needs_input_grad[:2]
    to_b = -to_a if needs_b and to_a is not None else None
    return to_a if needs_a else None, to_b


def _again(a: Tensor, b: Tensor, mask: Tensor | None, per_image: bool) -> Tensor:
    """Return the gradient in a, computed by the operator as in the forward pass."""
    gradient: Tensor = torch.ops.dipfast.weighted_mse(a, b, mask, per_image, True)[1]
    return gradient


def _scaled_gradient(
    a: Tensor, b: Tensor, mask: Tensor | None, per_image: bool, value: Tensor, of_value: Tensor
) -> Tensor:
    """Return the gradient times ``of_value``, in float32 if that is as good as float64.

    It is where float32 has the factor and the differences.  No difference is larger than the
    root of the mean times the number of elements, which is taken to be below 2**60.
    """
    limits = torch.finfo(torch.float32)
    factor = of_value * (2 / reference.total_weight(mask, a, per_image))
    size = factor.abs()  # detach() is not for many factors side by side (vmap)
    flags = mask is None or mask.dtype == torch.bool
    fits = (size >= limits.tiny) & (size <= limits.max) & (value.detach() < 2.0**190)
    if a.dtype != torch.float32 or not flags or not holds(fits.all()):
        return reference.mse_gradient(a, b, mask, per_image, of_value)
    distance = a - b if mask is None else torch.where(mask, a - b, 0)
    return distance.mul_(reference.over_images(factor.to(a.dtype), a))


def _pull_to_mask(ctx: Any, of_value: Tensor | None, of_gradient: Tensor | None) -> Tensor | None:
    """Return the gradient that flows to the mask."""
    a, b, mask, value, slope = ctx.saved_tensors
    if not ctx.needs_input_grad[2]:
        return None
    to_mask = None
    total = reference.over_images(reference.total_weight(mask, a, ctx.per_image), a)
    distance = reference.difference(a, b)
    if of_value is not None:
        of_value, mean = (reference.over_images(x, a) for x in (of_value, value))
        to_mask = of_value * (distance.square() - mean) / total
    if of_gradient is not None and ctx.gradient:
        axes = tuple(range(1 if ctx.per_image else 0, a.ndim))
        slope = ctx.slope.read(slope, lambda: _again(a, b, mask, ctx.per_image))
        turned = of_gradient * slope.double()
        turned = turned.sum(axes, keepdim=True) if axes else turned
        to_mask = add(to_mask, (2 * distance * of_gradient - turned) / total)
    return None if to_mask is None else to_mask.sum_to_size(mask.shape).to(mask.dtype)


torch.library.register_autograd(
    "dipfast::weighted_mse", _weighted_mse_backward, setup_context=_weighted_mse_setup
)
