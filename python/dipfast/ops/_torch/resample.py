"""Register resampling and its adjoint as one torch operator, which is its own derivative."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from dipfast import _native
from dipfast.ops import _reference as reference
from dipfast.ops._compiled.resample import resampler
from dipfast.ops._memory import array, dense, empty, match

__all__ = ["plain_resample", "resample"]

torch.library.define(
    "dipfast::resample",
    "(Tensor x, SymInt[] size, str kernel, int factor, float phase, bool adjoint) -> Tensor",
)


def resample(
    x: Tensor, size: tuple[int, int], kernel: str, factor: int, phase: float, adjoint: bool
) -> Tensor:
    """Resample images x to another size.

    With ``adjoint``, apply the adjoint of the map from images of ``size`` to the size of x.
    ``factor`` and ``phase`` are for ``kernel="lanczos2"`` only.
    """
    return torch.ops.dipfast.resample(x, size, kernel, factor, phase, adjoint)


def _resampler(
    x: Tensor, size: tuple[int, int], kernel: str, factor: int, phase: float, adjoint: bool
) -> _native.Resampler:
    """Return the compiled operator, which also has the weights."""
    own, other = (x.shape[-2], x.shape[-1]), (size[0], size[1])
    image, result = (other, own) if adjoint else (own, other)
    return resampler(kernel, image, result, factor, phase, adjoint)


def _shape(x: Tensor, size: tuple[int, int]) -> tuple[int, ...]:
    """Return the shape of the memory of the result, in the memory format of x, which is dense."""
    return (*x.shape[:-2], *size) if x.is_contiguous() else (x.shape[0], *size, x.shape[1])


def _empty(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a tensor for the result, in the memory format of x, which is dense."""
    y = x.new_empty(_shape(x, size))
    return y if x.is_contiguous() else y.movedim(-1, 1)


def _resample_cpu(
    x: Tensor, size: tuple[int, int], kernel: str, factor: int, phase: float, adjoint: bool
) -> Tensor:
    x = dense(x)
    channels_last = not x.is_contiguous()
    y = empty(_shape(x, size), x.dtype)
    compiled = _resampler(x, size, kernel, factor, phase, adjoint)
    compiled.apply(array(x, channels_last), y.numpy(), channels_last=channels_last)
    return y.movedim(-1, 1) if channels_last else y


torch.library.impl("dipfast::resample", "CPU", _resample_cpu)


@lru_cache(maxsize=16)
def _matrices(
    compiled: _native.Resampler, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the weights along both axes as matrices."""
    # They are kept for later calls, which may need derivatives, so that they must not be made in
    # inference mode.
    with torch.inference_mode(False):
        rows, columns = (torch.from_numpy(m).to(device, dtype) for m in compiled.matrices())
        return rows, columns


def plain_resample(
    x: Tensor, size: tuple[int, int], kernel: str, factor: int, phase: float, adjoint: bool
) -> Tensor:
    """Resample images as :func:`resample` does, by matrix products of torch."""
    compiled = _resampler(x, size, kernel, factor, phase, adjoint)
    return reference.resample(x, *_matrices(compiled, x.device, x.dtype))


def _resample_torch(
    x: Tensor, size: tuple[int, int], kernel: str, factor: int, phase: float, adjoint: bool
) -> Tensor:
    x = dense(x)
    return match(plain_resample(x, size, kernel, factor, phase, adjoint), _empty(x, size))


torch.library.impl("dipfast::resample", "CompositeExplicitAutograd", _resample_torch)


@torch.library.register_fake("dipfast::resample")
def _resample_fake(
    x: Tensor, size: tuple[int, int], kernel: str, factor: int, phase: float, adjoint: bool
) -> Tensor:
    return _empty(dense(x), size)


def _resample_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, _, ctx.kernel, ctx.factor, ctx.phase, ctx.adjoint = inputs
    ctx.size = x.shape[-2:]


def _resample_backward(ctx: Any, of_result: Tensor) -> tuple[Tensor | None, ...]:
    to_x = resample(of_result, ctx.size, ctx.kernel, ctx.factor, ctx.phase, not ctx.adjoint)
    return to_x, None, None, None, None, None


torch.library.register_autograd(
    "dipfast::resample", _resample_backward, setup_context=_resample_setup
)
