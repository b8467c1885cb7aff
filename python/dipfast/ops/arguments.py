"""What the public operations accept: arrays or tensors, checked and brought to one form."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import numpy as np

from dipfast.images import is_tensor

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    Floats: TypeAlias = NDArray[np.float32] | NDArray[np.float64]

__all__ = [
    "BACKENDS",
    "Backend",
    "as_float_tensor",
    "as_floats",
    "as_pair",
    "check_backend",
    "check_broadcastable",
    "check_choice",
    "check_image",
    "check_same_shape",
    "check_spatial_dims",
    "check_weight",
    "is_tensor",
    "mask_array",
    "mask_tensor",
    "shared_planes",
    "through_torch",
]

Backend: TypeAlias = Literal["auto", "native", "torch", "triton"]
BACKENDS = ("auto", "native", "torch", "triton")


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")


def check_backend(backend: str, x: Any = None) -> None:
    """``x``, the first argument, comes from operations that have a Triton kernel."""
    check_choice("backend", backend, BACKENDS)
    if backend != "triton":
        return
    if x is None:
        raise ValueError(
            "backend='triton' has no kernel for this operation; expected auto, native or torch"
        )
    if not is_tensor(x):
        raise ValueError(f"backend='triton' takes CUDA tensors, got {type(x).__name__}")
    from dipfast.ops.library import triton_backend

    triton_backend.check_tensor(x)


def as_floats(name: str, x: Any) -> Floats:
    """A contiguous array of float32 or float64; integers become float64."""
    x = np.asarray(x)
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, got dtype {x.dtype}")
    wide = x.dtype.kind == "f" and x.dtype.itemsize <= 4
    dtype = np.float32 if wide else np.float64
    return cast("Floats", np.require(x, dtype, requirements=["C", "A"]))


def as_float_tensor(name: str, x: Tensor) -> Tensor:
    """A tensor of float32 or float64; half precision becomes float32, integers float64."""
    import torch

    if x.is_complex():
        raise TypeError(f"{name} must hold real numbers, got dtype {x.dtype}")
    if x.dtype in (torch.float32, torch.float64):
        return x
    return x.to(torch.float32 if x.is_floating_point() else torch.float64)


def as_pair(a: Any, b: Any, *, integers: bool = False) -> tuple[Any, Any]:
    """Two images, both arrays or both tensors, of one shape and brought to one dtype.

    With ``integers``, images that are both of 8 or 16 bits without a sign stay integers.
    """
    if is_tensor(a) != is_tensor(b):
        raise TypeError("a and b must be both arrays or both tensors")
    if is_tensor(a):
        a, b = _tensor_pair(a, b, integers)
    else:
        a, b = np.asarray(a), np.asarray(b)
        if integers and {a.dtype, b.dtype} <= {np.dtype(np.uint8), np.dtype(np.uint16)}:
            dtype = np.result_type(a, b)
        else:
            a, b = as_floats("a", a), as_floats("b", b)
            dtype = np.result_type(a, b)
        a, b = (np.require(x, dtype, requirements=["C", "A"]) for x in (a, b))
    check_same_shape("b", b.shape, "a", a.shape)
    if 0 in a.shape:
        raise ValueError(f"a must have at least one element, got shape {tuple(a.shape)}")
    return a, b


def _tensor_pair(a: Tensor, b: Tensor, integers: bool) -> tuple[Tensor, Tensor]:
    import torch

    if integers and {a.dtype, b.dtype} <= {torch.uint8, torch.uint16}:
        dtype = a.dtype if a.dtype == b.dtype else torch.uint16
    else:
        a, b = as_float_tensor("a", a), as_float_tensor("b", b)
        dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype), b.to(dtype)


def check_image(name: str, ndim: int, spatial_dims: int = 2) -> None:
    if ndim < spatial_dims:
        axes = "rows and columns" if spatial_dims == 2 else "slices, rows and columns"
        raise ValueError(f"{name} must have {axes}, got {ndim} dimension(s)")


def check_spatial_dims(spatial_dims: int) -> None:
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 (images) or 3 (volumes), got {spatial_dims!r}")


def check_same_shape(
    name: str, shape: tuple[int, ...], other: str, expected: tuple[int, ...]
) -> None:
    if tuple(shape) != tuple(expected):
        raise ValueError(
            f"{name} must have the shape of {other}, {tuple(expected)}, got {tuple(shape)}"
        )


def check_broadcastable(name: str, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    # Plain loops, which every torch.compile can trace.
    pairs = zip(reversed(shape), reversed(target))
    fits = len(shape) <= len(target) and all(size in (1, whole) for size, whole in pairs)
    if not fits:
        raise ValueError(
            f"{name} must broadcast to the shape of the image, {tuple(target)}, got {tuple(shape)}"
        )


def shared_planes(shape: tuple[int, ...], target: tuple[int, ...], spatial_dims: int) -> int | None:
    """How many planes of an image in a row share a plane of its mask, which has this shape.

    None where the planes of a mask that broadcasts are not simply repeated in turn.
    """
    shape = (1,) * (len(target) - len(shape)) + tuple(shape)
    if not spatial_dims or shape[-spatial_dims:] != tuple(target[-spatial_dims:]):
        return None
    leading = list(zip(shape[:-spatial_dims], target[:-spatial_dims]))
    repeat = 1
    while leading and leading[-1][0] == 1:
        repeat *= leading.pop()[1]
    while leading and leading[-1][0] == leading[-1][1]:
        leading.pop()
    return repeat if all(size == 1 for size, _ in leading) else None


def mask_array(
    mask: Any, shape: tuple[int, ...], dtype: Any, spatial_dims: int
) -> tuple[NDArray[Any], int]:
    """A mask as the kernels take it beside an image of this shape, weights in this dtype; and
    how many planes of the image in a row share a plane of it."""
    mask = np.asarray(mask)
    if mask.dtype.kind not in "biuf":
        raise TypeError(f"mask must hold real numbers, got dtype {mask.dtype}")
    check_broadcastable("mask", mask.shape, shape)
    if mask.dtype.kind == "f":
        mask = mask.astype(dtype, copy=False)
    elif mask.dtype != np.uint8:
        mask = (mask if mask.dtype == np.bool_ else mask != 0).view(np.uint8)
    repeat = shared_planes(mask.shape, shape, spatial_dims)
    if repeat is None:
        mask, repeat = np.broadcast_to(mask, shape), 1
    return np.require(mask, requirements=["C", "A"]), repeat


def mask_tensor(mask: Tensor, like: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as the operators take it beside an image: boolean, or weights in this dtype."""
    import torch

    if mask.is_complex():
        raise TypeError(f"mask must hold real numbers, got dtype {mask.dtype}")
    if not mask.is_floating_point() and mask.dtype != torch.bool:
        mask = mask != 0
    check_broadcastable("mask", mask.shape, like.shape)
    return mask.to(like.device, mask.dtype if mask.dtype == torch.bool else dtype)


def check_weight(name: str, weight: float) -> float:
    value = float(weight)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be finite and not negative, got {weight!r}")
    return value


def through_torch(function: Any, *arguments: Any, mask: Any = None, **options: Any) -> Any:
    """Call ``function`` with its torch back end on arrays; numbers and arrays come back."""
    import torch

    def convert(x: Any) -> Any:
        # A copy, because torch has neither read-only arrays nor negative strides.
        return x if isinstance(x, float) else torch.from_numpy(as_floats("x", x).copy())

    if mask is not None:
        mask = np.asarray(mask)
        options["mask"] = torch.from_numpy(mask != 0) if mask.dtype.kind in "biu" else convert(mask)
    results = function(*map(convert, arguments), backend="torch", **options)

    def back(r: Tensor) -> Any:
        return r.numpy() if r.ndim else r.item()

    return tuple(map(back, results)) if isinstance(results, tuple) else back(results)
