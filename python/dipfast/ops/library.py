"""The kernels as torch operators: ``torch.ops.dipfast.*``, with autograd.

Each operator returns its value together with the gradient that was computed in the same
pass, so that the backward pass is one multiplication.  CPU tensors go to the compiled
kernel, everything else to :mod:`dipfast.ops.reference`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dipfast import _native
from dipfast.ops import reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["mse", "total_variation", "tv_objective"]


# --- memory ------------------------------------------------------------------------------


def _dense(x: Tensor) -> Tensor:
    """x itself where a kernel can take it as it lies in memory, else a contiguous copy."""
    return x if x.is_contiguous() or _is_channels_last(x) else x.contiguous()


def _is_channels_last(x: Tensor) -> bool:
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


def _array(x: Tensor, channels_last: bool) -> NDArray[Any]:
    """The memory of x as a C-contiguous array, channels last if they are."""
    return (x.permute(0, 2, 3, 1) if channels_last else x).detach().numpy()


def _empty_like(x: Tensor) -> Tensor:
    """A buffer in the memory format of x, which is dense.

    NumPy makes it, because for large arrays NumPy asks the system for huge pages and torch
    does not: writing to fresh memory is what large gradients cost most.
    """
    dtype = np.float32 if x.dtype == torch.float32 else np.float64
    return torch.from_numpy(np.empty(x.numel(), dtype)).as_strided(x.shape, x.stride())


def _scaled(gradient: Tensor, by: Tensor) -> Tensor:
    """gradient * by, without a copy where ``by`` is 1: the value was differentiated itself."""
    # Only tensors of the CPU have a value that costs nothing to look at, and traced ones,
    # which are of a class of their own, have none.
    if type(by) is Tensor and by.device.type == "cpu" and not by.requires_grad and by == 1:
        return gradient
    return gradient * by


def _match(x: Tensor, like: Tensor) -> Tensor:
    """x in the memory format of another tensor of the same shape."""
    if x.stride() == like.stride():
        return x
    return torch.empty_like(like).copy_(x)


# --- total variation ---------------------------------------------------------------------

torch.library.define(
    "dipfast::total_variation", "(Tensor u, bool gradient) -> (Tensor value, Tensor gradient)"
)


def total_variation(u: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    """TV(u) and, if asked for, its gradient (else an empty tensor)."""
    return torch.ops.dipfast.total_variation(u, gradient)


def _total_variation_cpu(u: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    u = _dense(u)
    channels_last = not u.is_contiguous()
    slope = _empty_like(u) if gradient else u.new_empty(0)
    value = _native.total_variation(
        _array(u, channels_last),
        channels_last=channels_last,
        gradient=_array(slope, channels_last) if gradient else None,
    )
    return u.new_tensor(value), slope


torch.library.impl("dipfast::total_variation", "CPU", _total_variation_cpu)


def _total_variation_torch(u: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    u = _dense(u)
    slope = reference.total_variation_gradient(u) if gradient else u.new_empty(0)
    return reference.total_variation(u), _match(slope, u) if gradient else slope


torch.library.impl("dipfast::total_variation", "CompositeExplicitAutograd", _total_variation_torch)


@torch.library.register_fake("dipfast::total_variation")
def _total_variation_fake(u: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    u = _dense(u)
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
    return (None if of_value is None else _scaled(slope, of_value)), None


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
    u = _dense(u)
    channels_last = not u.is_contiguous()
    slope = _empty_like(u) if gradient else u.new_empty(0)
    data, tv = _native.tv_objective(
        _array(u, channels_last),
        _array(_match(y, u), channels_last),
        None if mask is None else _array(_match(mask, u), channels_last),
        weight,
        channels_last=channels_last,
        gradient=_array(slope, channels_last) if gradient else None,
    )
    return u.new_tensor(data + weight * tv), u.new_tensor(data), u.new_tensor(tv), slope


torch.library.impl("dipfast::tv_objective", "CPU", _tv_objective_cpu)


def _tv_objective_torch(
    u: Tensor, y: Tensor, mask: Tensor | None, weight: float, gradient: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    u = _dense(u)
    terms = reference.tv_objective(u, y, weight, mask)
    if not gradient:
        return *terms, u.new_empty(0)
    return *terms, _match(reference.tv_objective_gradient(u, y, weight, mask), u)


torch.library.impl("dipfast::tv_objective", "CompositeExplicitAutograd", _tv_objective_torch)


@torch.library.register_fake("dipfast::tv_objective")
def _tv_objective_fake(
    u: Tensor, y: Tensor, mask: Tensor | None, weight: float, gradient: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    u = _dense(u)
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
            to_u = _scaled(slope, of_value)
        if of_data is not None:
            to_u = _sum(to_u, of_data * _masked_twice(u - y, mask))
        if of_tv is not None:
            to_u = _sum(to_u, of_tv * reference.total_variation_gradient(u))
        if of_gradient is not None:  # second derivative: that of the data term alone
            to_u = _sum(to_u, _masked_twice(of_gradient, mask))
    # value and data depend on y and the mask in the same way.
    of_residual = _sum(of_value, of_data)
    if ctx.needs_input_grad[1]:
        if of_residual is not None:
            to_y = -of_residual * _masked_twice(u - y, mask)
        if of_gradient is not None:
            to_y = _sum(to_y, -_masked_twice(of_gradient, mask))
    if mask is not None and ctx.needs_input_grad[2]:
        if of_residual is not None:
            to_mask = of_residual * mask * (u - y).square()
        if of_gradient is not None:
            to_mask = _sum(to_mask, 2 * mask * (u - y) * of_gradient)
    return to_u, to_y, to_mask, None, None


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


torch.library.register_autograd(
    "dipfast::tv_objective", _tv_objective_backward, setup_context=_tv_objective_setup
)


# --- mean squared error ------------------------------------------------------------------

torch.library.define(
    "dipfast::mse", "(Tensor a, Tensor b, bool gradient) -> (Tensor value, Tensor gradient)"
)


def mse(a: Tensor, b: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    """Mean of (a - b)^2 and, if asked for, its gradient in a."""
    return torch.ops.dipfast.mse(a, b, gradient)


def _mse_cpu(a: Tensor, b: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    a = _dense(a)
    channels_last = not a.is_contiguous()
    slope = _empty_like(a) if gradient else a.new_empty(0)
    value = _native.mse(
        _array(a, channels_last),
        _array(_match(b, a), channels_last),
        gradient=_array(slope, channels_last) if gradient else None,
    )
    return a.new_tensor(value), slope


torch.library.impl("dipfast::mse", "CPU", _mse_cpu)


def _mse_torch(a: Tensor, b: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    a = _dense(a)
    slope = _match(reference.mse_gradient(a, b), a) if gradient else a.new_empty(0)
    return reference.mse(a, b), slope


torch.library.impl("dipfast::mse", "CompositeExplicitAutograd", _mse_torch)


@torch.library.register_fake("dipfast::mse")
def _mse_fake(a: Tensor, b: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    a = _dense(a)
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
    to_a = None if of_value is None else _scaled(slope, of_value)
    if of_gradient is not None and ctx.gradient:
        to_a = _sum(to_a, of_gradient * (2 / slope.numel()))
    to_b = None if to_a is None or not ctx.needs_input_grad[1] else -to_a
    return to_a, to_b, None


torch.library.register_autograd("dipfast::mse", _mse_backward, setup_context=_mse_setup)
