"""What the public operations accept: arrays or tensors, checked and brought to one form."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np

from dipfast.arrays import as_pixels, check_channel_axis, is_channels_last, is_tensor, split_masked
from dipfast.checks import check_choice
from dipfast.errors import InputError, InputTypeError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    Floats: TypeAlias = NDArray[np.float32] | NDArray[np.float64]

__all__ = [
    "BACKENDS",
    "Axes",
    "Backend",
    "as_channels_first",
    "as_float_tensor",
    "as_floats",
    "as_kernel_array",
    "as_pair",
    "as_pixels",
    "check_backend",
    "check_broadcastable",
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


def check_backend(backend: str, x: Any = None) -> None:
    """``x``, the first argument, comes from operations that have a Triton kernel."""
    check_choice("backend", backend, BACKENDS)
    if backend != "triton":
        return
    if x is None:
        raise InputError(
            "backend='triton' has no kernel for this operation; expected auto, native or torch"
        )
    if not is_tensor(x):
        raise InputError(f"backend='triton' takes CUDA tensors, got {type(x).__name__}")
    from dipfast.ops.library import triton_backend

    triton_backend.check_tensor(x)


def as_floats(name: str, x: Any) -> Floats:
    """A contiguous array of float32 or float64; integers become float64."""
    x = as_pixels(name, x)
    if x.dtype.kind not in "biuf":
        raise InputTypeError(f"{name} must hold real numbers, got dtype {x.dtype}")
    wide = x.dtype.kind == "f" and x.dtype.itemsize <= 4
    dtype = np.float32 if wide else np.float64
    return cast("Floats", np.require(x, dtype, requirements=["C", "A"]))


def as_float_tensor(name: str, x: Tensor) -> Tensor:
    """A tensor of float32 or float64; half precision becomes float32, integers float64."""
    import torch

    x = as_pixels(name, x)
    if x.is_complex():
        raise InputTypeError(f"{name} must hold real numbers, got dtype {x.dtype}")
    if x.dtype in (torch.float32, torch.float64):
        return x
    return x.to(torch.float32 if x.is_floating_point() else torch.float64)


def as_pair(a: Any, b: Any, *, integers: bool = False) -> tuple[Any, Any, Any]:
    """Two images, both arrays or both tensors, of one shape and brought to one dtype; and what
    is masked in either, a boolean array, or None for nothing.

    With ``integers``, images that are both of 8 or 16 bits without a sign stay integers.
    Integers that float64 does not hold become NaN.
    """
    if is_tensor(a) != is_tensor(b):
        raise InputTypeError("a and b must be both arrays or both tensors")
    a, b = (np.asarray(x) if isinstance(x, np.generic) else x for x in (a, b))
    (a, masked), (b, more) = split_masked("a", a), split_masked("b", b)
    check_same_shape("b", b.shape, "a", a.shape)
    if 0 in a.shape:
        raise InputError(f"a must have at least one element, got shape {tuple(a.shape)}")
    if is_tensor(a):
        a, b = _tensor_pair(a, b, integers)
    else:
        if integers and {a.dtype, b.dtype} <= {np.dtype(np.uint8), np.dtype(np.uint16)}:
            dtype = np.result_type(a, b)
        else:
            a, b = as_floats("a", _without_rounding(a)), as_floats("b", _without_rounding(b))
            dtype = np.result_type(a, b)
        a, b = (np.require(x, dtype, requirements=["C", "A"]) for x in (a, b))
    if more is not None:
        masked = more if masked is None else masked | more
    return a, b, masked


def _tensor_pair(a: Tensor, b: Tensor, integers: bool) -> tuple[Tensor, Tensor]:
    import torch

    if a.device != b.device:
        raise InputError(f"b must be on the device of a, {a.device}, got {b.device}")
    if integers and {a.dtype, b.dtype} <= {torch.uint8, torch.uint16}:
        dtype = a.dtype if a.dtype == b.dtype else torch.uint16
    else:
        a = as_float_tensor("a", _without_rounding(a))
        b = as_float_tensor("b", _without_rounding(b))
        dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype), b.to(dtype)


def _without_rounding(x: Any) -> Any:
    """x itself, or integers of 64 bits in float64, NaN where that would round them."""
    if is_tensor(x):
        if str(x.dtype) not in ("torch.int64", "torch.uint64"):
            return x
        x = x.double()
        return x.where(x.abs() < 2**53, math.nan)
    if x.dtype.kind not in "iu" or x.dtype.itemsize < 8:
        return x
    x = x.astype(np.float64)
    return np.where(np.abs(x) < 2**53, x, math.nan)


def check_image(name: str, ndim: int, spatial_dims: int = 2) -> None:
    if ndim < spatial_dims:
        axes = "rows and columns" if spatial_dims == 2 else "slices, rows and columns"
        way_out = f": pass {name}[None]" if ndim == spatial_dims - 1 else ""
        raise InputError(f"{name} must have {axes}, got {ndim} dimension(s){way_out}")


class Axes(NamedTuple):
    """Where an image has its channels, both counted from the end: now, and in front of the pixels.

    The operations work on pixels in the last axes.  Whatever comes before is many images, so
    that axes may be moved there from anywhere and back again.
    """

    channels: int
    front: int

    @classmethod
    def of(cls, name: str, x: Any, channel_axis: int | None, spatial_dims: int = 2) -> Axes:
        """Return the axes of an array or tensor, recognising channels in the last axis.

        Raises
        ------
        TypeError, ValueError
            If the shape does not tell, or channel_axis does not fit it.
        """
        check_image(name, x.ndim, spatial_dims)
        front = -spatial_dims - 1
        if channel_axis is None:
            return cls(-1 if is_channels_last(name, x, spatial_dims) else front, front)
        axis = check_channel_axis(name, x, channel_axis, spatial_dims)
        return cls(axis % x.ndim - x.ndim, front)

    def to_front(self, x: Any) -> Any:
        """Return a view of x with its channels in front of the pixels; more axes may lead."""
        return _move_axis(x, self.channels, self.front)

    def back(self, x: Any) -> Any:
        """Return x with its channels where they were, contiguous if they had to be moved."""
        if self.channels == self.front:
            return x
        x = _move_axis(x, self.front, self.channels)
        return x.contiguous() if is_tensor(x) else np.ascontiguousarray(x)

    def mask_to_front(self, mask: Any, shape: tuple[int, ...]) -> Any:
        """Return a mask that broadcasts to an image of this shape, which has its channels in front.

        Beside channels that were elsewhere, a mask has all the axes of the image, or all or some
        of those of one channel.
        """
        if self.channels == self.front:
            return mask
        if mask.ndim == len(shape):
            return self.to_front(mask)
        of_channel = (*shape[: self.front], *shape[self.front + 1 :])
        check_broadcastable("mask", mask.shape, of_channel, "one channel of the image")
        if mask.ndim < -self.front:
            return mask
        return mask.unsqueeze(self.front) if is_tensor(mask) else np.expand_dims(mask, self.front)


def _move_axis(x: Any, source: int, target: int) -> Any:
    if source == target:
        return x
    return x.movedim(source, target) if is_tensor(x) else np.moveaxis(x, source, target)


def as_kernel_array(x: NDArray[Any], spatial_dims: int = 2) -> tuple[NDArray[Any], bool]:
    """Return an array (..., C, H, W) as the kernels take it, and whether with channels last.

    It is copied only if it lies in neither way.
    """
    if not x.flags.c_contiguous and x.ndim > spatial_dims:
        last = np.moveaxis(x, -spatial_dims - 1, -1)
        if last.flags.c_contiguous:
            return last, True
    return np.ascontiguousarray(x), False


def as_channels_first(x: Any, channels_last: bool, spatial_dims: int = 2) -> Any:
    """Return what a kernel wrote beside an array of :func:`as_kernel_array` as (..., C, H, W)."""
    return x if x is None or not channels_last else np.moveaxis(x, -1, -spatial_dims - 1)


def check_spatial_dims(spatial_dims: int) -> None:
    if spatial_dims not in (2, 3):
        raise InputError(f"spatial_dims must be 2 (images) or 3 (volumes), got {spatial_dims!r}")


def check_same_shape(
    name: str, shape: tuple[int, ...], other: str, expected: tuple[int, ...]
) -> None:
    if tuple(shape) != tuple(expected):
        raise InputError(
            f"{name} must have the shape of {other}, {tuple(expected)}, got {tuple(shape)}"
        )


def check_broadcastable(
    name: str, shape: tuple[int, ...], target: tuple[int, ...], of: str = "the image"
) -> None:
    # Plain loops, which every torch.compile can trace.
    pairs = zip(reversed(shape), reversed(target))
    fits = len(shape) <= len(target) and all(size in (1, whole) for size, whole in pairs)
    if not fits:
        raise InputError(
            f"{name} must broadcast to the shape of {of}, {tuple(target)}, got {tuple(shape)}"
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
    mask: Any,
    shape: tuple[int, ...],
    dtype: Any,
    spatial_dims: int,
    channels_last: bool = False,
) -> tuple[NDArray[Any], int]:
    """A mask as the kernels take it beside an image of this shape, weights in this dtype; and
    how many planes of the image in a row share a plane of it.

    With ``channels_last`` the kernel takes the image, and the mask, with its channels behind.
    """
    mask = as_pixels("mask", mask)
    if mask.dtype.kind not in "biuf":
        raise InputTypeError(f"mask must hold real numbers, got dtype {mask.dtype}")
    check_broadcastable("mask", mask.shape, shape)
    if mask.dtype.kind == "f":
        mask = mask.astype(dtype, copy=False)
    elif mask.dtype != np.uint8:
        mask = (mask if mask.dtype == np.bool_ else mask != 0).view(np.uint8)
    repeat = None if channels_last else shared_planes(mask.shape, shape, spatial_dims)
    if repeat is None:
        mask, repeat = np.broadcast_to(mask, shape), 1
    if channels_last:
        mask = np.moveaxis(mask, -spatial_dims - 1, -1)
    return np.require(mask, requirements=["C", "A"]), repeat


def mask_tensor(mask: Tensor, like: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as the operators take it beside an image: boolean, or weights in this dtype."""
    import torch

    mask = as_pixels("mask", mask)
    if mask.is_complex():
        raise InputTypeError(f"mask must hold real numbers, got dtype {mask.dtype}")
    if not mask.is_floating_point() and mask.dtype != torch.bool:
        mask = mask != 0
    check_broadcastable("mask", mask.shape, like.shape)
    return mask.to(like.device, mask.dtype if mask.dtype == torch.bool else dtype)


def check_weight(name: str, weight: Any) -> float:
    """Return a number, or an array or tensor of one, as a float; it must not be negative."""
    value = weight if isinstance(weight, float | int) else _number(name, weight)
    value = float(value)
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"{name} must be finite and not negative, got {weight!r}")
    return value


def _number(name: str, value: Any) -> float:
    if is_tensor(value):
        if value.requires_grad:
            raise InputTypeError(f"{name} carries no gradient: pass {name}.detach()")
        value = value.cpu().numpy() if value.numel() == 1 else value
    if np.ndim(value) or np.asarray(value).dtype.kind not in "biuf":
        raise InputTypeError(f"{name} must be a number, got {value!r}")
    return float(value)


def through_torch(function: Any, *arguments: Any, mask: Any = None, **options: Any) -> Any:
    """Call ``function`` with its torch back end on arrays; numbers and arrays come back."""
    import torch

    def convert(x: Any) -> Any:
        # A copy, because torch has neither read-only arrays nor negative strides.
        return x if isinstance(x, float) else torch.from_numpy(as_floats("x", x).copy())

    if mask is not None:
        mask = as_pixels("mask", mask)
        options["mask"] = torch.from_numpy(mask != 0) if mask.dtype.kind in "biu" else convert(mask)
    results = function(*map(convert, arguments), backend="torch", **options)

    def back(r: Tensor) -> Any:
        return r.numpy() if r.ndim else r.item()

    return tuple(map(back, results)) if isinstance(results, tuple) else back(results)
