"""Register structural similarity as a torch operator."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from dipfast import _native
from dipfast.ops import _reference as reference
from dipfast.ops._memory import array, computed_in, dense, empty_like, match
from dipfast.ops._torch.autograd import Slope, add, kept

__all__ = ["ssim"]

torch.library.define(
    "dipfast::ssim",
    "(Tensor a, Tensor b, float data_range, bool per_image, bool map, bool to_a, bool to_b)"
    " -> (Tensor value, Tensor map, Tensor to_a, Tensor to_b)",
)


def ssim(
    a: Tensor, b: Tensor, data_range: float, per_image: bool, map: bool, to_a: bool, to_b: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the mean SSIM, the SSIM of every window, and the gradients in a and b.

    What is not asked for is empty.  No gradient flows through the map.
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
    value = a.new_tensor(values if per_image else values[0], dtype=computed_in(a))
    return value, buffers[0], buffers[1], buffers[2]


def _sweepable(a: Tensor) -> Tensor:
    """Return a, copied if the kernel would be slow on it as it lies in memory."""
    # The kernel works on strips, whose borders are 10 pixels wide: with more than four channels
    # side by side the borders would be larger than the strips.
    return dense(a) if a.ndim == 4 and a.shape[1] <= 4 else a.contiguous()


def _ssim_outputs(
    a: Tensor,
    per_image: bool,
    map: bool,
    to_a: bool,
    to_b: bool,
    empty: Any = lambda x, dtype: torch.empty_like(x, dtype=dtype),
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return tensors for the results, in the memory format of a; empty if not asked for."""
    dtype = computed_in(a)
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
    ctx.slopes = Slope(), Slope()
    ctx.save_for_backward(kept(a), kept(b), *slopes)


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
    form = ctx.data_range, ctx.per_image, False
    for k, slope in enumerate(slopes):
        if of_value is not None and ctx.needs_input_grad[k]:
            again = partial(_one_gradient, a, b, form, k)
            to[k] = ctx.slopes[k].times(reference.over_images(of_value, a), slope, again)
    if any(direction is not None for direction in directions):
        for k, second in enumerate(_ssim_second_derivative(ctx, a, b, directions)):
            to[k] = add(to[k], second)
    return *to, None, None, None, None, None


def _one_gradient(a: Tensor, b: Tensor, form: tuple[float, bool, bool], which: int) -> Tensor:
    """Return the gradient of SSIM in a (0) or b (1)."""
    return ssim(a, b, *form, which == 0, which == 1)[2 + which]


def _ssim_second_derivative(
    ctx: Any, a: Tensor, b: Tensor, directions: list[Tensor | None]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the second derivative of SSIM at a and b, applied to a direction of both."""
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        a, b = (x if keep and x.requires_grad else x.detach().requires_grad_() for x in (a, b))
        slopes = reference.ssim_gradients(a, b, ctx.data_range, ctx.per_image)
        products = [(slope * of).sum() for slope, of in zip(slopes, directions) if of is not None]
        to_a, to_b = torch.autograd.grad(torch.stack(products).sum(), (a, b), create_graph=keep)
    needs_a, needs_b = ctx.needs_input_grad[:2]
    return to_a if needs_a else None, to_b if needs_b else None


torch.library.register_autograd("dipfast::ssim", _ssim_backward, setup_context=_ssim_setup)
