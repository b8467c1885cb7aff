"""Decide where Triton kernels run, and register them for the operators.

Triton comes with torch for CUDA on Linux, and not with others; it is imported when the first
CUDA tensor arrives.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dipfast.errors import InputError

__all__ = ["check_tensor", "register"]


def register(
    name: str,
    *,
    plain: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any],
    setup_context: Callable[..., None],
) -> None:
    """Register the Triton kernel of the operator ``dipfast::name``, which must be defined.

    On CUDA tensors the operator takes the kernel of this name, or ``plain`` where there can be
    none.  The operator ``dipfast::name_triton`` takes nothing but the kernel, on any device, so
    that ``backend="triton"`` works in Triton's interpreter as well.
    """
    operator = f"dipfast::{name}"

    def on_cuda(x: Tensor, *others: Any) -> Any:
        return (kernel if _is_usable(x) else plain)(x, *others)

    def kernel(*arguments: Any) -> Any:
        from dipfast.ops._triton import kernels

        return getattr(kernels, name)(*arguments)

    def set_up(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        setup_context(ctx, inputs, output)
        # In the interpreter ``dipfast::name``, which computes a gradient again, is another kernel.
        ctx.slope.copies = True

    torch.library.impl(operator, "CUDA", on_cuda)
    schema = str(getattr(torch.ops.dipfast, name).default._schema)
    torch.library.define(f"{operator}_triton", schema.removeprefix(operator))
    torch.library.impl(f"{operator}_triton", "CompositeExplicitAutograd", kernel)
    torch.library.register_fake(f"{operator}_triton", fake)
    torch.library.register_autograd(f"{operator}_triton", backward, setup_context=set_up)


def check_tensor(x: Tensor) -> None:
    """Raise ValueError unless ``backend="triton"`` takes a tensor of this kind."""
    if not _is_installed():
        raise InputError(
            "backend='triton' needs Triton, which is not installed; 'auto' does without it"
        )
    if x.device.type != "cuda" and not _is_interpreted():
        raise InputError(
            f"backend='triton' takes CUDA tensors, got a tensor on {x.device}; others are for "
            "Triton's interpreter (environment variable TRITON_INTERPRET=1)"
        )


@torch.compiler.assume_constant_result
def _is_installed() -> bool:
    return importlib.util.find_spec("triton") is not None


@torch.compiler.assume_constant_result
def _is_interpreted() -> bool:
    from dipfast.ops._triton import kernels

    return kernels.INTERPRETED


def _is_usable(x: Tensor) -> bool:
    """Return whether the Triton kernels take a CUDA tensor."""
    # The public operations pass no other dtypes, but callers of torch.ops.dipfast may.
    return x.dtype in (torch.float32, torch.float64) and _works_on(x.device)


@functools.cache
def _works_on(device: torch.device) -> bool:
    """Return whether the smallest kernel runs on a device; warn once where it does not.

    Triton being installed is not enough: old devices are not supported, and it needs a C
    compiler at run time.
    """
    if not _is_installed():
        return False
    try:
        from dipfast.ops._triton import kernels

        one = torch.ones(1, device=device)
        kernels.mse(one, one, False)
    except Exception as error:  # whatever the compilers and the driver raise
        warnings.warn(
            f"Triton does not work on {device}, so plain torch computes there: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True
