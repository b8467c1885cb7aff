"""Check the arguments of public operations, arrays or tensors, and bring them to one form."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np

from dipfast.arrays import (
    as_double,
    as_numpy,
    as_pixels,
    check_channel_axis,
    is_channels_last,
    is_tensor,
    split_masked,
)
from dipfast.checks import check_choice, check_data_range
from dipfast.errors import InputError, InputTypeError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor


__all__ = [
    "BACKENDS",
    "SMALLEST",
    "Axes",
    "Backend",
    "Floats",
    "as_channels_first",
    "as_float_tensor",
    "as_floats",
    "as_kernel_array",
    "as_pair",
    "as_pixels",
    "check_backend",
    "check_broadcastable",
    "check_image",
    "check_same_device",
    "check_same_shape",
    "check_spatial_dims",
    "check_weight",
    "free",
    "in_units",
    "is_tensor",
    "mask_array",
    "mask_tensor",
    "range_width",
    "shared_planes",
    "to_home",
]

Backend: TypeAlias = Literal["auto", "native", "torch", "triton"]
BACKENDS = ("auto", "native", "torch", "triton")
Floats: TypeAlias = "NDArray[np.float32] | NDArray[np.float64]"

# Mean squared errors below this have lost digits, or are 0 though the images differ.
SMALLEST = float(np.finfo(np.float64).tiny)

# A number whose exponent is not larger than this has its fourth power, of which SSIM is made, in
# float64; that is so for all numbers of float32.
_MOST_EXPONENT = 160


def check_backend(backend: str) -> None:
    """Refuse what is not a back end, and Triton, which most operations have no kernel for."""
    check_choice("backend", backend, BACKENDS)
    if backend == "triton":
        raise InputError(
            "backend='triton' has no kernel for this operation; expected auto, native or torch"
        )


def as_floats(name: str, x: Any) -> Floats:
    """Return a contiguous array of float32 or float64; integers become float64."""
    x = as_pixels(name, x)
    if x.dtype.kind not in "biuf":
        raise InputTypeError(f"{name} must hold real numbers, got dtype {x.dtype}")
    wide = x.dtype.kind == "f" and x.dtype.itemsize <= 4
    dtype = np.float32 if wide else np.float64
    return cast("Floats", np.require(x, dtype, requirements=["C", "A"]))


def as_float_tensor(name: str, x: Tensor) -> Tensor:
    """Return a tensor of float32 or float64; half precision becomes float32, integers float64.

    On the device MPS, which has no float64, integers become float32 too.
    """
    import torch

    x = as_pixels(name, x)
    if x.is_complex():
        raise InputTypeError(f"{name} must hold real numbers, got dtype {x.dtype}")
    if x.dtype in (torch.float32, torch.float64):
        return x
    is_narrow = x.is_floating_point() or x.device.type == "mps"
    return x.to(torch.float32 if is_narrow else torch.float64)


def as_pair(a: Any, b: Any, *, integers: bool = False) -> tuple[Any, Any, Any]:
    """Return two images, both arrays or both tensors, of one shape and brought to one dtype.

    The third value is a boolean array of what is masked in either, or None for nothing.

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
    """Return two tensors of one device, brought to one dtype; on the CPU if it has no float64."""
    import torch

    check_same_device(a=a, b=b)
    if a.device.type == "mps":
        a, b = a.cpu(), b.cpu()
    if integers and {a.dtype, b.dtype} <= {torch.uint8, torch.uint16}:
        dtype = a.dtype if a.dtype == b.dtype else torch.uint16
    else:
        a = as_float_tensor("a", _without_rounding(a))
        b = as_float_tensor("b", _without_rounding(b))
        dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype), b.to(dtype)


def _without_rounding(x: Any) -> Any:
    """Return x itself, or integers of 64 bits in float64, NaN where that would round them."""
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
    """Refuse an image with fewer axes than its pixels need."""
    if ndim < spatial_dims:
        axes = "rows and columns" if spatial_dims == 2 else "slices, rows and columns"
        way_out = f": pass {name}[None]" if ndim == spatial_dims - 1 else ""
        raise InputError(f"{name} must have {axes}, got {ndim} dimension(s){way_out}")


class Axes(NamedTuple):
    """Say which axis of an image holds its channels, and which it is in front of the pixels.

    Both are counted from the end.  The operations work on pixels in the last axes.  All axes in
    front of them are many images, so that an axis may be moved there from anywhere and back.
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
    """Return a view of an array or tensor in which an axis is moved."""
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
    """Refuse a number of axes of pixels other than 2 and 3."""
    if spatial_dims not in (2, 3):
        raise InputError(f"spatial_dims must be 2 (images) or 3 (volumes), got {spatial_dims!r}")


def check_same_shape(
    name: str, shape: tuple[int, ...], other: str, expected: tuple[int, ...]
) -> None:
    """Refuse a shape other than that of another argument."""
    if tuple(shape) != tuple(expected):
        raise InputError(
            f"{name} must have the shape of {other}, {tuple(expected)}, got {tuple(shape)}"
        )


def check_same_device(**arguments: Any) -> None:
    """Refuse tensors that are not all on the device of the first; arrays and None do not count."""
    first, device = "", None
    for name, x in arguments.items():
        if not is_tensor(x):
            continue
        if device is None:
            first, device = name, x.device
        elif x.device != device:
            raise InputError(f"{name} must be on the device of {first}, {device}, got {x.device}")


def check_broadcastable(
    name: str, shape: tuple[int, ...], target: tuple[int, ...], of: str = "the image"
) -> None:
    """Refuse a shape that does not broadcast to another."""
    # torch.broadcast_shapes is not used because not every torch.compile can trace it.
    pairs = zip(reversed(shape), reversed(target))
    fits = len(shape) <= len(target) and all(size in (1, whole) for size, whole in pairs)
    if not fits:
        raise InputError(
            f"{name} must broadcast to the shape of {of}, {tuple(target)}, got {tuple(shape)}"
        )


def shared_planes(shape: tuple[int, ...], target: tuple[int, ...], spatial_dims: int) -> int | None:
    """Return how many consecutive planes of an image share a plane of a mask of this shape.

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
    """Return a mask as the kernels take it beside an image of this shape, weights in this dtype.

    The second value is the number of consecutive planes of the image that share a plane of it.

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
    """Return a mask as the operators take it beside an image: boolean, or weights in this dtype."""
    import torch

    mask = as_pixels("mask", mask)
    if mask.is_complex():
        raise InputTypeError(f"mask must hold real numbers, got dtype {mask.dtype}")
    if not mask.is_floating_point() and mask.dtype != torch.bool:
        mask = mask != 0
    check_broadcastable("mask", mask.shape, like.shape)
    return mask if mask.dtype == torch.bool else mask.to(dtype)


def to_home(x: Tensor, device: torch.device) -> Tensor:
    """Return a result on a device, in float32 if it is in float64 and the device has none."""
    import torch

    is_narrow = device.type == "mps" and x.dtype == torch.float64
    return x.to(device, torch.float32 if is_narrow else x.dtype)


def free(gradient: Tensor, value: Tensor) -> Tensor:
    """Return the gradient of a value without a graph, and in memory that no graph refers to."""
    gradient = gradient.detach()
    # The backward pass of the value needs it as it is.
    return gradient.clone() if value.requires_grad else gradient


def check_weight(name: str, weight: Any) -> float:
    """Return a number, or an array or tensor of one, as a float; it must not be negative."""
    value = weight if isinstance(weight, float | int) else _number(name, weight)
    value = float(value)
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"{name} must be finite and not negative, got {weight!r}")
    return value


def _number(name: str, value: Any) -> float:
    """Return an array or tensor of one number as a float."""
    if is_tensor(value):
        if value.requires_grad:
            raise InputTypeError(f"{name} carries no gradient: pass {name}.detach()")
        value = as_numpy(value) if value.numel() == 1 else value
    if np.ndim(value) or np.asarray(value).dtype.kind not in "biuf":
        raise InputTypeError(f"{name} must be a number, got {value!r}")
    return float(value)


def range_width(data_range: Any, a: Any, b: Any) -> float:
    """Return the width of the range of values; 255 where none is given and both are uint8."""
    if data_range is None:
        kinds = [str(getattr(x, "dtype", type(x).__name__)) for x in (a, b)]
        if not all(kind in ("uint8", "torch.uint8") for kind in kinds):
            raise InputError(
                "data_range is needed for images that are not both uint8, "
                f"got {kinds[0]} and {kinds[1]}"
            )
        return 255.0
    if getattr(data_range, "requires_grad", False):
        raise InputTypeError("data_range carries no gradient: pass data_range.detach()")
    width = math.nan
    if "bool" in str(getattr(data_range, "dtype", type(data_range))):
        pass
    elif isinstance(data_range, float | int) and abs(data_range) < 1e308:
        width = float(data_range)  # a case of its own, because every torch.compile can trace it
    else:
        with contextlib.suppress(ValueError, OverflowError):
            low, high = check_data_range(data_range)
            width = high - low
    if not (math.isfinite(width) and width > 0):
        raise InputError(
            f"data_range must be positive, or a pair (darkest, brightest), got {data_range!r}"
        )
    return width


def in_units(data_range: float, a: Any, b: Any) -> tuple[float, Any, Any]:
    """Return the width of the range and two images, in a unit in which float64 has their squares.

    The unit is a power of two, so that no digits are lost.
    """
    exponent = math.frexp(data_range)[1]
    if abs(exponent) <= _MOST_EXPONENT:
        return data_range, a, b
    unit = math.ldexp(1.0, -max(-1000, min(exponent, 1000)))
    with np.errstate(all="ignore"):
        return data_range * unit, _double(a) * unit, _double(b) * unit


def _double(x: Any) -> Any:
    """Return an array or tensor in float64."""
    return as_double(x) if is_tensor(x) else x.astype(np.float64)
