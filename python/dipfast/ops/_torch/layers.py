"""Register what lies between the convolutions of a network as torch operators."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from dipfast import _native
from dipfast.errors import InputError
from dipfast.ops import _reference as reference

__all__ = ["add_normal", "batch_norm_act", "interleave", "split_weights"]

_LAST = torch.channels_last
# Layers that the compiled kernels take; others, such as float64, go to the plain definition.
_DTYPES = (torch.float32, torch.bfloat16)

# What follows the tensors of the first two operators.
_FORM = ("slope", "epsilon", "crop", "pad", "reflect")

torch.library.define(
    "dipfast::batch_norm_act",
    "(Tensor x, Tensor weight, Tensor bias, Tensor? weight2, Tensor? bias2, float slope,"
    " float epsilon, int crop, int pad, bool reflect) -> (Tensor v, Tensor statistics)",
)
torch.library.define(
    "dipfast::batch_norm_act_backward",
    "(Tensor of_v, Tensor x, Tensor weight, Tensor bias, Tensor? weight2, Tensor? bias2,"
    " Tensor statistics, float slope, float epsilon, int crop, int pad, bool reflect)"
    " -> (Tensor of_x, Tensor of_weights)",
)
torch.library.define("dipfast::interleave", "(Tensor fine, Tensor coarse) -> Tensor")
torch.library.define("dipfast::interleave_backward", "(Tensor gradient) -> Tensor")
torch.library.define(
    "dipfast::split_weights",
    "(Tensor weight, int channels, ScalarType dtype) -> (Tensor of_fine, Tensor of_coarse)",
)
torch.library.define(
    "dipfast::split_weights_backward", "(Tensor of_fine, Tensor of_coarse, Tensor weight) -> Tensor"
)
torch.library.define(
    "dipfast::add_normal", "(Tensor z, Tensor level, int seed, int iteration) -> Tensor"
)

add_normal = torch.ops.dipfast.add_normal.default


def _pixels(x: Tensor) -> Any:
    """Return the memory of a layer as an array (N, H, W, C), bfloat16 as its bits."""
    x = x.detach().contiguous(memory_format=_LAST).permute(0, 2, 3, 1)
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()


def _vector(x: Tensor) -> Any:
    return x.detach().contiguous().numpy()


def _padded_shape(x: Tensor, *form: Any) -> tuple[int, int, int, int]:
    _, _, crop, pad, _ = form
    images, channels, height, width = x.shape
    return images, channels, height + 2 * (pad - crop), width + 2 * (pad - crop)


def _empty(like: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=_LAST)


def _given(*weights: Tensor | None) -> list[Tensor]:
    return [weight for weight in weights if weight is not None]


# --- normalisation, activation, padding --------------------------------------------------


def _forward_cpu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    weight2: Tensor | None,
    bias2: Tensor | None,
    *form: Any,
) -> tuple[Tensor, Tensor]:
    weights = _given(weight, bias, weight2, bias2)
    if x.dtype not in _DTYPES:
        return _forward_torch(x, weight, bias, weight2, bias2, *form)
    v = _empty(x, _padded_shape(x, *form))
    statistics = torch.empty(len(weights), x.shape[1], dtype=torch.float32, device=x.device)
    _native.batch_norm(
        _pixels(x),
        [_vector(w) for w in weights],
        _pixels(v),
        statistics.numpy(),
        **dict(zip(_FORM, form)),
    )
    return v, statistics


def _forward_torch(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    weight2: Tensor | None,
    bias2: Tensor | None,
    *form: Any,
) -> tuple[Tensor, Tensor]:
    v, statistics = reference.batch_norm_act(x, _given(weight, bias, weight2, bias2), *form)
    return v.contiguous(memory_format=_LAST), statistics


def _backward_cpu(
    of_v: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    weight2: Tensor | None,
    bias2: Tensor | None,
    statistics: Tensor,
    *form: Any,
) -> tuple[Tensor, Tensor]:
    weights = _given(weight, bias, weight2, bias2)
    if x.dtype not in _DTYPES:
        return _backward_torch(of_v, x, weight, bias, weight2, bias2, statistics, *form)
    of_x = torch.empty_like(x, memory_format=_LAST)
    of_weights = torch.empty_like(statistics)
    _native.batch_norm_backward(
        _pixels(of_v),
        _pixels(x),
        [_vector(w) for w in weights],
        statistics.numpy(),
        _pixels(of_x),
        of_weights.numpy(),
        **dict(zip(_FORM, form)),
    )
    return of_x, of_weights


def _backward_torch(
    of_v: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    weight2: Tensor | None,
    bias2: Tensor | None,
    statistics: Tensor,
    *form: Any,
) -> tuple[Tensor, Tensor]:
    weights = _given(weight, bias, weight2, bias2)
    with torch.enable_grad():
        inputs = [tensor.detach().requires_grad_() for tensor in (x, *weights)]
        v, _ = reference.batch_norm_act(inputs[0], inputs[1:], *form)
    of_x, *of_weights = torch.autograd.grad(v, inputs, of_v)
    return of_x.contiguous(memory_format=_LAST), torch.stack(of_weights)


torch.library.impl("dipfast::batch_norm_act", "CPU", _forward_cpu)
torch.library.impl("dipfast::batch_norm_act", "CompositeExplicitAutograd", _forward_torch)
torch.library.impl("dipfast::batch_norm_act_backward", "CPU", _backward_cpu)
torch.library.impl("dipfast::batch_norm_act_backward", "CompositeExplicitAutograd", _backward_torch)


@torch.library.register_fake("dipfast::batch_norm_act")
def _forward_fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    weight2: Tensor | None,
    bias2: Tensor | None,
    *form: Any,
) -> tuple[Tensor, Tensor]:
    v = _empty(x, _padded_shape(x, *form))
    return v, weight.new_empty(len(_given(weight, bias, weight2, bias2)), x.shape[1])


@torch.library.register_fake("dipfast::batch_norm_act_backward")
def _backward_fake(of_v: Tensor, x: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, memory_format=_LAST), torch.empty_like(others[4])


def _run(kernel: Callable[..., Any], operator: Any, *inputs: Any) -> Any:
    """Call a kernel past the dispatcher for plain tensors of the CPU, else the operator."""
    if type(inputs[0]) in (Tensor, Parameter) and inputs[0].is_cpu:
        return kernel(*inputs)
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*inputs)


def _pull(kernel: Callable[..., Any], operator: Any, *inputs: Any) -> Any:
    """Call the kernel of a backward pass as :func:`_run` does."""
    if type(inputs[0]) in (Tensor, Parameter) and inputs[0].is_cpu:
        try:
            return kernel(*inputs)
        except RuntimeError:
            pass  # many gradients side by side (vmap), of which the operator takes each by itself
    # Not below autograd, by which the plain definitions get their gradients.
    return operator(*inputs)


def _first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a backward pass that refuses to be differentiated itself.

    ``once_differentiable`` refuses only where the gradient that comes in is differentiable, and
    else lets the second derivative be 0, which is that of a constant.
    """

    @wraps(backward)
    def run(ctx: Any, *gradients: Any) -> Any:
        if torch.is_grad_enabled():  # by create_graph=True
            raise InputError(
                "create_graph=True asks for second derivatives, which fused layers do not have: "
                "set network.is_fused = False"
            )
        return backward(ctx, *gradients)

    return run


class _BatchNormAct(torch.autograd.Function):
    """Call the kernels without the dispatcher, which takes as long as they do on small layers."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        v, statistics = _run(_forward_cpu, torch.ops.dipfast.batch_norm_act, *inputs)
        ctx.save_for_backward(*inputs[:5], statistics)
        ctx.form = inputs[5:]
        ctx.mark_non_differentiable(statistics)
        return v, statistics

    @staticmethod
    @_first_order
    def backward(ctx: Any, of_v: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        operator = torch.ops.dipfast.batch_norm_act_backward
        of_x, of_weights = _pull(_backward_cpu, operator, of_v, *ctx.saved_tensors, *ctx.form)
        gradients = of_weights.unbind()
        return (of_x, *gradients, *(None,) * (4 - len(gradients)), *(None,) * 5)


def _unless_compiling(function: type[torch.autograd.Function], name: str) -> Callable[..., Any]:
    """Return a function that a compiler, which does not see into kernels, sees as an operator."""
    operator = getattr(torch.ops.dipfast, name).default

    def call(*inputs: Any) -> Any:
        return (operator if torch.compiler.is_compiling() else function.apply)(*inputs)

    return call


batch_norm_act = _unless_compiling(_BatchNormAct, "batch_norm_act")
torch.library.impl("dipfast::batch_norm_act", "Autograd", _BatchNormAct.apply)


# --- the results of a coarse layer ---------------------------------------------------------


def _interleave_cpu(fine: Tensor, coarse: Tensor) -> Tensor:
    if fine.dtype not in _DTYPES:
        return _interleave_torch(fine, coarse)
    out = torch.empty_like(fine, memory_format=_LAST)
    _native.interleave(_pixels(fine), _pixels(coarse), _pixels(out))
    return out


def _interleave_torch(fine: Tensor, coarse: Tensor) -> Tensor:
    return reference.interleave(fine, coarse).contiguous(memory_format=_LAST)


def _interleave_backward_cpu(gradient: Tensor) -> Tensor:
    if gradient.dtype not in _DTYPES:
        return _interleave_backward_torch(gradient)
    out = _interleave_backward_fake(gradient)
    _native.interleave_backward(_pixels(gradient), _pixels(out))
    return out


def _interleave_backward_torch(gradient: Tensor) -> Tensor:
    return reference.interleave_gradient(gradient).contiguous(memory_format=_LAST)


torch.library.impl("dipfast::interleave", "CPU", _interleave_cpu)
torch.library.impl("dipfast::interleave", "CompositeExplicitAutograd", _interleave_torch)
torch.library.impl("dipfast::interleave_backward", "CPU", _interleave_backward_cpu)
torch.library.impl(
    "dipfast::interleave_backward", "CompositeExplicitAutograd", _interleave_backward_torch
)


@torch.library.register_fake("dipfast::interleave")
def _interleave_fake(fine: Tensor, coarse: Tensor) -> Tensor:
    return torch.empty_like(fine, memory_format=_LAST)


@torch.library.register_fake("dipfast::interleave_backward")
def _interleave_backward_fake(gradient: Tensor) -> Tensor:
    images, channels, height, width = gradient.shape
    shape = (images, 4 * channels, height // 2 + 1, width // 2 + 1)
    return _empty(gradient, shape)


class _Interleave(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, fine: Tensor, coarse: Tensor) -> Tensor:
        out: Tensor = _run(_interleave_cpu, torch.ops.dipfast.interleave, fine, coarse)
        return out

    @staticmethod
    @_first_order
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        operator = torch.ops.dipfast.interleave_backward
        return gradient, _pull(_interleave_backward_cpu, operator, gradient)


interleave = _unless_compiling(_Interleave, "interleave")
torch.library.impl("dipfast::interleave", "Autograd", _Interleave.apply)


# --- the weights of both layers of a joined convolution --------------------------------------


def _split_cpu(weight: Tensor, channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    if weight.dtype != torch.float32 or dtype not in _DTYPES:
        return _split_torch(weight, channels, dtype)
    out = _split_fake(weight, channels, dtype)
    _native.split_weights(_pixels(weight), *map(_pixels, out))
    return out


def _split_torch(weight: Tensor, channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    fine, coarse = (
        part.to(dtype).contiguous(memory_format=_LAST)
        for part in reference.split_weights(weight, channels)
    )
    return fine, coarse


def _split_backward_cpu(of_fine: Tensor, of_coarse: Tensor, weight: Tensor) -> Tensor:
    if weight.dtype != torch.float32 or of_coarse.dtype not in _DTYPES:
        return _split_backward_torch(of_fine, of_coarse, weight)
    out = torch.empty_like(weight, memory_format=_LAST)
    _native.join_weights(_pixels(of_fine), _pixels(of_coarse), _pixels(out))
    return out


def _split_backward_torch(of_fine: Tensor, of_coarse: Tensor, weight: Tensor) -> Tensor:
    with torch.enable_grad():
        weight = weight.detach().requires_grad_()
        parts = reference.split_weights(weight, of_fine.shape[1])
    gradients = [of_fine.to(weight.dtype), of_coarse.to(weight.dtype)]
    (gradient,) = torch.autograd.grad(parts, weight, gradients)
    return gradient.contiguous(memory_format=_LAST)


torch.library.impl("dipfast::split_weights", "CPU", _split_cpu)
torch.library.impl("dipfast::split_weights", "CompositeExplicitAutograd", _split_torch)
torch.library.impl("dipfast::split_weights_backward", "CPU", _split_backward_cpu)
torch.library.impl(
    "dipfast::split_weights_backward", "CompositeExplicitAutograd", _split_backward_torch
)


@torch.library.register_fake("dipfast::split_weights")
def _split_fake(weight: Tensor, channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    results, both = weight.shape[:2]
    fine = torch.empty(results, channels, 3, 3, dtype=dtype, device=weight.device)
    shape = (4 * results, both - channels, 2, 2)
    coarse = torch.empty(shape, dtype=dtype, device=weight.device)
    return fine.contiguous(memory_format=_LAST), coarse.contiguous(memory_format=_LAST)


@torch.library.register_fake("dipfast::split_weights_backward")
def _split_backward_fake(of_fine: Tensor, of_coarse: Tensor, weight: Tensor) -> Tensor:
    return torch.empty_like(weight, memory_format=_LAST)


class _SplitWeights(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, channels: int, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(weight)
        parts = _run(_split_cpu, torch.ops.dipfast.split_weights, weight, channels, dtype)
        of_fine, of_coarse = parts
        return of_fine, of_coarse

    @staticmethod
    @_first_order
    def backward(ctx: Any, of_fine: Tensor, of_coarse: Tensor) -> tuple[Tensor, None, None]:
        operator = torch.ops.dipfast.split_weights_backward
        inputs = of_fine, of_coarse, *ctx.saved_tensors
        return _pull(_split_backward_cpu, operator, *inputs), None, None


split_weights = _unless_compiling(_SplitWeights, "split_weights")
torch.library.impl("dipfast::split_weights", "Autograd", _SplitWeights.apply)


# --- random numbers --------------------------------------------------------------------------


def _add_normal_cpu(z: Tensor, level: Tensor, seed: int, iteration: int) -> Tensor:
    out = torch.empty_like(z)
    if out.stride() != z.stride():  # with gaps, or with elements that share memory
        z = torch.empty_like(z).copy_(z)
    if z.dtype != torch.float32:
        return reference.add_normal(z, level, seed, iteration)
    flat = (z.numel(),)
    _native.add_normal(
        z.detach().as_strided(flat, (1,)).numpy(),
        float(level),
        seed % 2**64,
        iteration,
        out.as_strided(flat, (1,)).numpy(),
    )
    return out


def _add_normal_fake(z: Tensor, level: Tensor, seed: int, iteration: int) -> Tensor:
    return torch.empty_like(z)


torch.library.impl("dipfast::add_normal", "CPU", _add_normal_cpu)
torch.library.register_fake("dipfast::add_normal", _add_normal_fake)
