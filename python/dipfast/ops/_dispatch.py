"""Choose the back end of a public operation: check for Triton, and run torch on arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dipfast.arrays import as_pixels, is_tensor
from dipfast.checks import check_choice
from dipfast.errors import InputError
from dipfast.ops._arguments import BACKENDS, as_floats

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["check_backend", "through_torch"]


def check_backend(backend: str, x: Any) -> None:
    """Refuse what is not a back end for x, in an operation that has a Triton kernel.

    Raises
    ------
    ValueError
        If there is no such back end, or x is not a tensor that Triton takes.
    """
    check_choice("backend", backend, BACKENDS)
    if backend != "triton":
        return
    if not is_tensor(x):
        raise InputError(f"backend='triton' takes CUDA tensors, got {type(x).__name__}")
    from dipfast.ops._triton import check_tensor

    check_tensor(x)


def through_torch(function: Any, *arguments: Any, mask: Any = None, **options: Any) -> Any:
    """Call ``function`` with its torch back end on arrays; return numbers and arrays."""
    import torch

    def convert(x: Any) -> Any:
        # Copied, because torch has neither read-only tensors nor negative strides.
        return x if isinstance(x, float) else torch.from_numpy(as_floats("x", x).copy())

    if mask is not None:
        mask = as_pixels("mask", mask)
        options["mask"] = torch.from_numpy(mask != 0) if mask.dtype.kind in "biu" else convert(mask)
    results = function(*map(convert, arguments), backend="torch", **options)

    def back(r: Tensor) -> Any:
        return r.numpy() if r.ndim else r.item()

    return tuple(map(back, results)) if isinstance(results, tuple) else back(results)
