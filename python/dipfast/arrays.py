"""What is an image: kinds of arrays and tensors, and which of their axes are the channels."""

from __future__ import annotations

import operator
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from dipfast.errors import InputError, InputTypeError

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import TypeIs

__all__ = [
    "as_constant",
    "as_pixels",
    "check_channel_axis",
    "check_image",
    "find_channel_axis",
    "is_channels_last",
    "is_tensor",
    "split_masked",
]

# As many channels as colours with opacity have; an axis of more is rather one of pixels.
_MOST_OBVIOUS_CHANNELS = 4


# --- what is an image ----------------------------------------------------------------------


def as_pixels(name: str, image: Any) -> Any:
    """Return an image as a plain NumPy array or torch tensor, without copying it.

    Parameters
    ----------
    name
        The argument, for messages.
    image
        A NumPy array (of a subclass too, such as memory-mapped files and matrices), or a torch
        tensor.  A masked array of which nothing is masked is an array.

    Raises
    ------
    TypeError
        If it is anything else.  The message says what to pass instead: objects with axes,
        units, palettes or labels mean more than their numbers, and are not guessed at.
    ValueError
        If pixels are masked.

    Examples
    --------
    >>> as_pixels("image", np.ma.masked_equal([[1, 2]], 2))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
      ...
    dipfast.errors.InputError: image has 1 masked pixel, which only inpaint fills: ...
    """
    pixels, masked = split_masked(name, image)
    if masked is not None:
        count = int(np.count_nonzero(masked))
        raise InputError(
            f"{name} has {count} masked pixel{'s' * (count > 1)}, which only inpaint fills: "
            "dipfast.inpaint(image)"
        )
    return pixels


def as_constant(name: str, image: Any) -> Any:
    """Return an image as :func:`as_pixels` does, without gradients."""
    image = as_pixels(name, image)
    return image.detach() if is_tensor(image) else image


def split_masked(name: str, image: Any) -> tuple[Any, Any]:
    """Return an image as :func:`as_pixels` does, and a boolean array of what is masked in it.

    The second is None if nothing is.

    Raises
    ------
    TypeError
        If it is neither an array nor a tensor.
    """
    if is_tensor(image):
        if image.layout != _torch().strided or image.is_quantized:
            raise InputTypeError(
                f"{name} must be a dense tensor, got one that is "
                + ("quantized: dequantize() it" if image.is_quantized else "sparse: to_dense() it")
            )
        if image.device.type == "meta":
            raise InputTypeError(f"{name} must hold data, got a tensor on the device 'meta'")
        return image, None
    if not isinstance(image, np.ndarray):
        raise InputTypeError(
            f"{name} must be a NumPy array or a torch tensor, got {type(image).__name__}"
            + _next_step(name, image)
        )
    if isinstance(image, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(image)
        return image.data.view(np.ndarray), masked if masked.any() else None
    for attribute, value in (("unit", "value"), ("units", "magnitude")):
        if type(image) is not np.ndarray and getattr(image, attribute, None) is not None:
            raise InputTypeError(
                f"{name} must be a plain array, got {type(image).__name__} in "
                f"{getattr(image, attribute)}: pass {name}.{value}, and all numbers in that unit"
            )
    return image.view(np.ndarray), None


def _next_step(name: str, image: Any) -> str:
    """Say how an object becomes an array, if that is known."""
    home = type(image).__module__.partition(".")[0]
    if home == "PIL":
        return f": pass np.asarray({name}.convert('RGB')), or 'L' for grey"
    if home in ("pandas", "polars"):
        return f": pass {name}.to_numpy()"
    if home == "xarray":
        return f": pass {name}.values, and channel_axis if it has channels"
    if hasattr(image, "magnitude"):
        return f": pass {name}.magnitude, and all numbers in that unit"
    if isinstance(image, str | bytes) or hasattr(image, "__fspath__"):
        return ": read the file first (the command line 'dipfast' takes file names)"
    if isinstance(image, list | tuple) or hasattr(image, "__array__"):
        return f": pass np.asarray({name})"
    return ""


def is_tensor(x: object) -> TypeIs[Tensor]:
    """Whether x is a torch tensor, without importing torch to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def _torch() -> Any:
    return sys.modules["torch"]


def check_image(name: str, image: Any, *, finite: bool = True) -> None:
    """Refuse what is not a non-empty, real image of 2 to 4 dimensions, and finite if need be."""
    if isinstance(image, np.ndarray):
        real = image.dtype.kind in "iuf"
        most, layouts = 3, "an array (H, W) or (H, W, C)"
    elif is_tensor(image):
        real = not image.is_complex() and image.dtype != _torch().bool
        most, layouts = 4, "a tensor (H, W), (C, H, W) or (N, C, H, W)"
    else:
        as_pixels(name, image)
        raise AssertionError
    if not real:
        raise InputTypeError(
            f"{name} must hold real numbers (integers or floats), got {image.dtype}"
        )
    shape = tuple(image.shape)
    if 0 in shape:
        raise InputError(f"{name} must not be empty, got shape {shape}")
    if not 2 <= len(shape) <= most:
        raise InputError(f"{name} must be {layouts}, got {len(shape)} dimensions, shape {shape}")
    good = _isfinite(image) if finite else None
    if good is not None and not good.all():
        bad = int((~good).sum())
        raise InputError(
            f"{name} must be finite, got NaN or infinity at {bad} of its values; "
            "dipfast.inpaint fills missing pixels"
        )


def _isfinite(image: Any) -> Any:
    if isinstance(image, np.ndarray):
        return np.isfinite(image)
    return image.isfinite()


# --- which axis is which -------------------------------------------------------------------


def is_channels_last(name: str, x: Any, spatial_dims: int = 2) -> bool:
    """Return whether the last axis is that of the channels, judged by the shape alone.

    It is if it has up to four entries and the axis in front of rows and columns, where channels
    would be otherwise, has more.  The same for arrays and tensors, tasks and operations.

    Raises
    ------
    ValueError
        If both have up to four entries.

    Examples
    --------
    >>> is_channels_last("x", np.zeros((64, 48, 3))), is_channels_last("x", np.zeros((3, 64, 48)))
    (True, False)
    """
    shape = tuple(x.shape)
    if len(shape) <= spatial_dims or shape[-1] > _MOST_OBVIOUS_CHANNELS:
        return False
    if shape[-spatial_dims - 1] > _MOST_OBVIOUS_CHANNELS:
        return True
    raise InputError(
        f"channel_axis is needed for {name} of shape {shape}: are the channels its last axis "
        f"(channel_axis=-1) or in front of the pixels (channel_axis={-spatial_dims - 1})?"
    )


def find_channel_axis(name: str, image: Any, channel_axis: int | None) -> int | None:
    """Return the channel axis as a non-negative number, recognised where it is not given.

    Up to four channels are recognised at the end and in front of the pixels, any number of them
    in front of the pixels of a tensor.
    """
    shape = tuple(image.shape)
    if channel_axis is None:
        if len(shape) == 2:
            return None
        if is_channels_last(name, image):
            return len(shape) - 1
        if is_tensor(image) or shape[-3] <= _MOST_OBVIOUS_CHANNELS:
            return len(shape) - 3
        raise InputError(
            f"channel_axis is needed for {name} of shape {shape}: "
            "which of its axes are the channels?"
        )
    axis = check_channel_axis(name, image, channel_axis) % len(shape)
    if len(shape) == 4 and axis == 0:
        raise InputError(f"channel_axis={channel_axis} is the batch axis of {name} {shape}")
    return axis


def check_channel_axis(name: str, x: Any, channel_axis: Any, spatial_dims: int = 2) -> int:
    """Return a channel axis that was given as an integer, which may count from the end."""
    shape = tuple(x.shape)
    try:
        axis = operator.index(channel_axis)
    except TypeError:
        raise InputTypeError(f"channel_axis must be an integer, got {channel_axis!r}") from None
    if len(shape) == spatial_dims or not -len(shape) <= axis < len(shape):
        pixels = "(H, W)" if spatial_dims == 2 else "(D, H, W)"
        raise InputError(
            f"channel_axis={channel_axis} does not fit {name} of shape {shape}"
            + (f"; leave it out for {pixels}" if len(shape) == spatial_dims else "")
        )
    return axis
