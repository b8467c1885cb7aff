"""Metrics as torch operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dipfast import _native
from dipfast.ops import reference
from dipfast.ops.library import triton_backend
from dipfast.ops.library.memory import add, array, dense, empty_like, mask_planes, match, scaled
from dipfast.ops.mean_squares import SMALLEST, mean_squares

__all__ = ["mse", "ssim", "weighted_mse"]

torch.library.define(
    "dipfast::mse", "(Tensor a, Tensor b, bool gradient) -> (Tensor value, Tensor gradient)"
)


def mse(a: Tensor, b: Tensor, gradient: bool, triton: bool = False) -> tuple[Tensor, Tensor]:
    """Mean of (a - b)^2, in float64; and, if asked for, its gradient in a, in the dtype of a.

    ``triton`` demands Triton.
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
    """sum m (a - b)^2 / sum m, in float64, and its gradient in a; for each entry of the first
    axis if asked.

    The mask is boolean, or weights, and broadcasts to the shape of a.  On the CPU, images may be
    uint8 or uint16, whose gradient is in float64.
    """
    return torch.ops.dipfast.weighted_mse(a, b, mask, per_image, gradient)


def _weighted_mse_cpu(
    a: Tensor, b: Tensor, mask: Tensor | None, per_image: bool, gradient: bool
) -> tuple[Tensor, Tensor]:
    a = dense(a)
    channels_last = not a.is_contiguous()
    dtype = _computed_in(a)
    slope = empty_like(a, dtype) if gradient else a.new_empty(0, dtype=dtype)
    spatial_dims = min(2, a.ndim - per_image)
    repeat = 1
    if mask is not None:
        mask, repeat = mask_planes(mask, a, spatial_dims)
    values = mean_squares(
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
    value = reference.weighted_mse(a, b, mask, per_image)
    if not gradient:
        return value, a.new_empty(0, dtype=_computed_in(a))
    return value, match(reference.weighted_mse_gradient(a, b, mask, per_image), a)


torch.library.impl("dipfast::weighted_mse", "CompositeExplicitAutograd", _weighted_mse_torch)


@torch.library.register_fake("dipfast::weighted_mse")
def _weighted_mse_fake(
    a: Tensor, b: Tensor, mask: Tensor | None, per_image: bool, gradient: bool
) -> tuple[Tensor, Tensor]:
    a = dense(a)
    dtype = _computed_in(a)
    value = a.new_empty(a.shape[:1] if per_image else (), dtype=torch.float64)
    return value, torch.empty_like(a, dtype=dtype) if gradient else a.new_empty(0, dtype=dtype)


def _weighted_mse_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    a, b, mask, ctx.per_image, ctx.gradient = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*map(_kept, (a, b, mask)), *output)


def _kept(x: Tensor | None) -> Tensor | None:
    # What was made in inference mode cannot be saved, though nobody asks for its gradient.
    return x.clone() if x is not None and x.is_inference() else x


def _weighted_mse_backward(
    ctx: Any, of_value: Tensor | None, of_gradient: Tensor | None
) -> tuple[Tensor | None, ...]:
    to_a, to_b = _pull(ctx, of_value, of_gradient)
    return to_a, to_b, _pull_to_mask(ctx, of_value, of_gradient), None, None


def _pull(
    ctx: Any, of_value: Tensor | None, of_gradient: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """What flows to a and b."""
    a, b, mask, value, slope = ctx.saved_tensors
    to_a = None
    # Only tensors of the CPU have a value that costs nothing to look at, and traced ones,
    # which are of a class of their own, have none.
    if of_value is None:
        pass
    elif type(of_value) is not Tensor or of_value.device.type != "cpu":
        to_a = reference.weighted_mse_gradient(a, b, mask, ctx.per_image, of_value)
    elif ctx.gradient and not ctx.per_image and not of_value.requires_grad and of_value == 1:
        to_a = slope
    else:
        to_a = _scaled_gradient(a, b, mask, ctx.per_image, value, of_value)
    if of_gradient is not None and ctx.gradient:
        total = reference.over_images(reference.total_weight(mask, a, ctx.per_image), a)
        marked = of_gradient if mask is None else mask * of_gradient
        to_a = add(to_a, (marked * (2 / total)).to(a.dtype))
    needs_a, needs_b = ctx.needs_input_grad[:2]
    to_b = -to_a if needs_b and to_a is not None else None
    return to_a if needs_a else None, to_b


def _scaled_gradient(
    a: Tensor, b: Tensor, mask: Tensor | None, per_image: bool, value: Tensor, of_value: Tensor
) -> Tensor:
    """The gradient times ``of_value``, in float32 if that does as well as float64.

    It does where it has the factor and the differences: these have room below the root of the
    largest mean with less than 2**60 elements.
    """
    limits = torch.finfo(torch.float32)
    factor = of_value * (2 / reference.total_weight(mask, a, per_image))
    size = factor.detach().abs()
    flags = mask is None or mask.dtype == torch.bool
    fits = (size >= limits.tiny) & (size <= limits.max) & (value.detach() < 2.0**190)
    if a.dtype != torch.float32 or not flags or not fits.all():
        return reference.weighted_mse_gradient(a, b, mask, per_image, of_value)
    distance = a - b if mask is None else torch.where(mask, a - b, 0)
    return distance.mul_(reference.over_images(factor.to(a.dtype), a))


def _pull_to_mask(ctx: Any, of_value: Tensor | None, of_gradient: Tensor | None) -> Tensor | None:
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
        turned = of_gradient * slope.double()
        turned = turned.sum(axes, keepdim=True) if axes else turned
        to_mask = add(to_mask, (2 * distance * of_gradient - turned) / total)
    return None if to_mask is None else to_mask.sum_to_size(mask.shape).to(mask.dtype)


torch.library.register_autograd(
    "dipfast::weighted_mse", _weighted_mse_backward, setup_context=_weighted_mse_setup
)


# --- structural similarity ---------------------------------------------------------------

torch.library.define(
    "dipfast::ssim",
    "(Tensor a, Tensor b, float data_range, bool per_image, bool map, bool to_a, bool to_b)"
    " -> (Tensor value, Tensor map, Tensor to_a, Tensor to_b)",
)


def ssim(
    a: Tensor, b: Tensor, data_range: float, per_image: bool, map: bool, to_a: bool, to_b: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean SSIM, the SSIM of every window, and the gradients in a and b; what is not asked for
    is empty.

    No gradient flows through the map.
    """
    return torch.ops.dipfast.ssim(a, b, data_range, per_image, map, to_a, to_b)


def _ssim_cpu(
    a: Tensor, b: Tensor, data_range: float, per_image: bool, map: bool, to_a: bool, to_b: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    a = _sweepable(a)
    channels_last = not a.is_contiguous()
    _, *buffers = _ssim_outputs(a, per_image, map, to_a, to_b, empty_like)
    names = {"map": map, "to_a": to_a, "to_b": to_b}
    values = _native.ssim(
        array(a, channels_last),
        array(match(b, a), channels_last),
        data_range,
        images=a.shape[0] if per_image else 1,
        channels_last=channels_last,
        **{
            name: array(buffer, channels_last)
            for (name, wanted), buffer in zip(names.items(), buffers)
            if wanted
        },
    )
    value = a.new_tensor(values if per_image else values[0], dtype=_computed_in(a))
    return value, buffers[0], buffers[1], buffers[2]


def _sweepable(a: Tensor) -> Tensor:
    # With many channels side by side little would be left of a strip but its borders.
    return dense(a) if a.ndim == 4 and a.shape[1] <= 4 else a.contiguous()


def _computed_in(a: Tensor) -> torch.dtype:
    return a.dtype if a.is_floating_point() else torch.float64


def _ssim_outputs(
    a: Tensor,
    per_image: bool,
    map: bool,
    to_a: bool,
    to_b: bool,
    empty: Any = lambda x, dtype: torch.empty_like(x, dtype=dtype),
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Room for the results, in the memory format of a; what is not asked for is empty."""
    dtype = _computed_in(a)
    value = a.new_empty(a.shape[:1] if per_image else (), dtype=dtype)
    *leading, rows, columns = a.shape
    lost = 2 * reference.SSIM_RADIUS
    if not map:
        windows = a.new_empty(0, dtype=dtype)
    elif a.is_contiguous():
        windows = a.new_empty((*leading, rows - lost, columns - lost), dtype=dtype)
    else:
        shape = (leading[0], rows - lost, columns - lost, leading[1])
        windows = a.new_empty(shape, dtype=dtype).movedim(-1, 1)
    slopes = [empty(a, dtype) if to else a.new_empty(0, dtype=dtype) for to in (to_a, to_b)]
    return value, windows, slopes[0], slopes[1]


torch.library.impl("dipfast::ssim", "CPU", _ssim_cpu)


def _ssim_torch(
    a: Tensor, b: Tensor, data_range: float, per_image: bool, map: bool, to_a: bool, to_b: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    a = _sweepable(a)
    _, windows, *slopes = _ssim_outputs(a, per_image, map, to_a, to_b)
    value = reference.ssim(a, b, data_range, per_image)
    if map:
        windows.copy_(reference.ssim_map(a, b, data_range))
    if to_a or to_b:
        gradients = reference.ssim_gradients(a, b, data_range, per_image)
        for slope, gradient, wanted in zip(slopes, gradients, (to_a, to_b)):
            if wanted:
                slope.copy_(gradient)
    return value, windows, slopes[0], slopes[1]


torch.library.impl("dipfast::ssim", "CompositeExplicitAutograd", _ssim_torch)


@torch.library.register_fake("dipfast::ssim")
def _ssim_fake(
    a: Tensor, b: Tensor, data_range: float, per_image: bool, map: bool, to_a: bool, to_b: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _ssim_outputs(_sweepable(a), per_image, map, to_a, to_b)


def _ssim_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    a, b, ctx.data_range, ctx.per_image, _, *given = inputs
    ctx.set_materialize_grads(False)
    ctx.given = given
    needed = ctx.needs_input_grad[:2]
    slopes = output[2:]
    if any(needs and not has for needs, has in zip(needed, given)):
        form = (ctx.data_range, ctx.per_image)
        slopes = ssim(a.detach(), b.detach(), *form, False, *needed)[2:]
    ctx.save_for_backward(_kept(a), _kept(b), *slopes)


def _ssim_backward(
    ctx: Any,
    of_value: Tensor | None,
    of_map: Tensor | None,
    of_to_a: Tensor | None,
    of_to_b: Tensor | None,
) -> tuple[Tensor | None, ...]:
    a, b, *slopes = ctx.saved_tensors
    directions = [of if given else None for of, given in zip((of_to_a, of_to_b), ctx.given)]
    to: list[Tensor | None] = [None, None]
    if of_value is not None:
        of_value = reference.over_images(of_value, a)
        for k, slope in enumerate(slopes):
            if ctx.needs_input_grad[k]:
                to[k] = slope * of_value if ctx.per_image else scaled(slope, of_value)
    if any(direction is not None for direction in directions):
        for k, second in enumerate(_ssim_second_derivative(ctx, a, b, directions)):
            to[k] = add(to[k], second)
    return *to, None, None, None, None, None


def _ssim_second_derivative(
    ctx: Any, a: Tensor, b: Tensor, directions: list[Tensor | None]
) -> tuple[Tensor | None, Tensor | None]:
    """The second derivative of SSIM at a and b, applied to a direction of both."""
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        a, b = (x if keep and x.requires_grad else x.detach().requires_grad_() for x in (a, b))
        slopes = reference.ssim_gradients(a, b, ctx.data_range, ctx.per_image)
        products = [(slope * of).sum() for slope, of in zip(slopes, directions) if of is not None]
        to_a, to_b = torch.autograd.grad(torch.stack(products).sum(), (a, b), create_graph=keep)
    needs_a, needs_b = ctx.needs_input_grad[:2]
    return to_a if needs_a else None, to_b if needs_b else None


torch.library.register_autograd("dipfast::ssim", _ssim_backward, setup_context=_ssim_setup)
