"""Images as arrays and tensors: check them, and find the axis of their channels."""

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
    "as_double",
    "as_pixels",
    "check_channel_axis",
    "check_image",
    "find_channel_axis",
    "find_stack_axes",
    "has_equal_channels",
    "is_channels_last",
    "is_tensor",
    "name_of_dtype",
    "split_masked",
    "white_of",
]

# The number of channels of colour with opacity; a longer axis is more likely one of pixels.
_MOST_OBVIOUS_CHANNELS = 4


# --- kinds of images ----------------------------------------------------------------------


def as_pixels(name: str, image: Any) -> Any:
    """Return an image as a plain NumPy array or torch tensor, without copying it.

    Parameters
    ----------
    name
        The name of the argument, for messages.
    image
        A NumPy array, also of a subclass such as memory-mapped files and matrices, or a torch
        tensor.  Masked arrays are accepted if no pixel is masked.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        A view of the array without its subclass, or the tensor itself.

    Raises
    ------
    InputTypeError
        If it is anything else; the message says what to pass instead.  Objects with units,
        palettes or labels are refused because their numbers alone are ambiguous.
    InputError
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
    """Return an image as a plain array or tensor that is not part of a computation graph.

    Parameters
    ----------
    name
        The name of the argument, for messages.
    image
        A NumPy array or a torch tensor.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        The image of :func:`as_pixels`; tensors are detached.

    Raises
    ------
    InputTypeError, InputError
        As in :func:`as_pixels`.
    """
    image = as_pixels(name, image)
    return image.detach() if is_tensor(image) else image


def as_double(x: Tensor) -> Tensor:
    """Return a tensor in float64, on the CPU if its device, MPS, has no float64.

    Parameters
    ----------
    x
        Any real tensor.

    Returns
    -------
    Tensor
        The same values.
    """
    return (x.cpu() if x.device.type == "mps" else x).double()


def as_numpy(x: Any) -> np.ndarray[Any, Any]:
    """Return a tensor as an array.

    Parameters
    ----------
    x
        A tensor on any device, or an array.

    Returns
    -------
    numpy.ndarray
        The same values; float32 for bfloat16, which NumPy lacks.  An array is returned as it is.
    """
    if is_tensor(x):
        x = x.detach().cpu()
        x = (x.float() if "bfloat16" in str(x.dtype) else x).numpy()
    array: np.ndarray[Any, Any] = x
    return array


def split_masked(name: str, image: Any) -> tuple[Any, Any]:
    """Return an image as a plain array or tensor, and the mask of a masked array.

    Parameters
    ----------
    name
        The name of the argument, for messages.
    image
        A NumPy array, masked or not, or a torch tensor.

    Returns
    -------
    image : numpy.ndarray or torch.Tensor
        The image of :func:`as_pixels`, with the values under the mask.
    masked : numpy.ndarray or None
        A boolean array, True at masked pixels; None if no pixel is masked.

    Raises
    ------
    InputTypeError
        If the image is neither an array nor a tensor.
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
    """Return the end of a message that says how to convert an object; empty if not known."""
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
        return (
            ": read the file first, as dipfast.read_image(name).image does (the command line "
            "'dipfast' takes file names)"
        )
    if isinstance(image, list | tuple) or hasattr(image, "__array__"):
        return f": pass np.asarray({name})"
    return ""


def is_tensor(x: object) -> TypeIs[Tensor]:
    """Return whether an object is a torch tensor, without importing torch.

    Parameters
    ----------
    x
        Any object.

    Returns
    -------
    bool
        False if torch has not been imported, because there are no tensors then.
    """
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def _torch() -> Any:
    return sys.modules["torch"]


def has_equal_channels(x: Any) -> bool:
    """Return whether a picture is a grey one that is stored in several channels.

    The noise of such a picture is the same in all of them.

    Parameters
    ----------
    x
        An array or a tensor, its channels first.

    Returns
    -------
    bool
        True if there are several channels, all with the same values.

    Examples
    --------
    >>> has_equal_channels(np.ones((3, 4, 4))), has_equal_channels(np.ones((1, 4, 4)))
    (True, False)
    """
    return len(x) > 1 and all(bool((channel == x[0]).all()) for channel in x[1:])


def name_of_dtype(dtype: Any) -> str:
    """Return the name of a dtype, the same for both orders of bytes.

    Parameters
    ----------
    dtype
        A dtype of NumPy or torch.

    Returns
    -------
    str
        Its name.

    Examples
    --------
    >>> name_of_dtype(np.dtype(">u2"))
    'uint16'
    """
    name: str = getattr(dtype, "name", str(dtype))
    return name


def white_of(pixels: Any) -> float:
    """Return the value of white, or of full opacity.

    Parameters
    ----------
    pixels
        An array of real numbers.

    Returns
    -------
    float
        The largest integer of its type; of floats 1, or their largest value if that is more.
    """
    if pixels.dtype.kind in "iu":
        return float(np.iinfo(pixels.dtype).max)
    return max(1.0, float(np.nanmax(pixels)))


def check_image(
    name: str,
    image: Any,
    *,
    finite: bool = True,
    stack_axes: tuple[int, ...] = (),
    advice: str = "dipfast.inpaint fills missing pixels",
) -> None:
    """Refuse an image that is empty, not real, not finite, or of the wrong number of dimensions.

    Parameters
    ----------
    name
        The name of the argument, for messages.
    image
        An array of 2 or 3 dimensions, or a tensor of 2 to 4; or those of a stack of images.
    finite
        Whether NaN and infinity are refused; by default they are, because a fit cannot use them.
    stack_axes
        The axes of a stack, as :func:`find_stack_axes` found them; none by default.
    advice
        What can be done where a value is not finite, for the message.

    Raises
    ------
    InputTypeError
        If the image is neither an array nor a tensor, or does not hold integers or floats.
    InputError
        If it is empty, not finite, or has another number of dimensions.
    """
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
    if not stack_axes and not 2 <= len(shape) <= most:
        of_stack = "; stack_axis=0 says that its first axis is that of a stack of images"
        raise InputError(
            f"{name} must be {layouts}, got {len(shape)} dimensions, shape {shape}"
            + (of_stack if len(shape) > most else "")
        )
    good = _isfinite(image) if finite else None
    if good is not None and not good.all():
        bad = int((~good).sum())
        raise InputError(
            f"{name} must be finite, got NaN or infinity at {bad} of its values; {advice}"
        )


def _isfinite(image: Any) -> Any:
    if isinstance(image, np.ndarray):
        return np.isfinite(image)
    return image.isfinite()


# --- the axes of a stack, and of the channels ---------------------------------------------------


def find_stack_axes(name: str, image: Any, stack_axis: Any) -> tuple[int, ...]:
    """Return the axes along which images are stacked.

    Parameters
    ----------
    name
        The name of the argument, for messages.
    image
        An array or a tensor.
    stack_axis
        The axis that was given, or several in a tuple, which may count from the end; None for
        none: then the first axis of a tensor of four is that of a batch.

    Returns
    -------
    tuple of int
        The axes, not negative, in the order of the array; empty for a single image.

    Raises
    ------
    InputTypeError
        If an axis is not an integer.
    InputError
        If the image does not have an axis, if one is named twice, or if what is left is no image.

    Examples
    --------
    >>> find_stack_axes("image", np.zeros((5, 64, 48)), 0)
    (0,)
    >>> find_stack_axes("image", np.zeros((64, 48)), 0)
    Traceback (most recent call last):
    dipfast.errors.InputError: stack_axis=0 leaves 1 axis of image of shape (64, 48), expected 2 \
    for (H, W), or 3 with channels
    """
    shape = tuple(image.shape)
    if stack_axis is None:
        return (0,) if is_tensor(image) and len(shape) == 4 else ()
    given = tuple(stack_axis) if _is_several(stack_axis) else (stack_axis,)
    try:
        if any(isinstance(axis, bool) for axis in given):
            raise TypeError
        given = tuple(map(operator.index, given))
    except TypeError:
        raise InputTypeError(
            f"stack_axis must be an integer or a tuple of integers, got {stack_axis!r}"
        ) from None
    said = f"stack_axis={stack_axis}"
    if not given or not all(-len(shape) <= axis < len(shape) for axis in given):
        raise InputError(f"{said} does not fit {name} of shape {shape}")
    axes = tuple(sorted({axis % len(shape) for axis in given}))
    if len(axes) < len(given):
        raise InputError(f"{said} names an axis of {name} of shape {shape} twice")
    left = len(shape) - len(axes)
    if left not in (2, 3):
        raise InputError(
            f"{said} leaves {left} {'axis' if left == 1 else 'axes'} of {name} of shape {shape}, "
            "expected 2 for (H, W), or 3 with channels"
        )
    return axes


def _is_several(axis: Any) -> bool:
    return isinstance(axis, tuple | list)


def is_channels_last(name: str, x: Any, spatial_dims: int = 2) -> bool:
    """Return whether the last axis is that of the channels, judged by the shape alone.

    It is if it has up to four entries, and the axis in front of the pixels, where channels would be
    otherwise, has more.  The rule is the same for arrays and tensors, tasks and operations.

    Parameters
    ----------
    name
        The name of the argument, for messages.
    x
        An array or a tensor.
    spatial_dims
        The number of axes of pixels: 2 for images, the default, 3 for volumes.

    Returns
    -------
    bool
        True for channels last; False also if there is no axis of channels.

    Raises
    ------
    InputError
        If both axes have up to four entries.

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


def find_channel_axis(
    name: str, image: Any, channel_axis: int | None, stack_axes: tuple[int, ...] = ()
) -> int | None:
    """Return the axis of the channels, recognised by the shape if it is not given.

    Up to four channels are recognised at the end and in front of the pixels, and any number of them
    in front of the pixels of a tensor.

    Parameters
    ----------
    name
        The name of the argument, for messages.
    image
        An array or a tensor that :func:`check_image` accepts.
    channel_axis
        The axis that was given, which may count from the end; None to recognise it.
    stack_axes
        The axes of a stack, as :func:`find_stack_axes` found them; none by default, but for the
        first one of four.

    Returns
    -------
    int or None
        The axis, not negative; None if the image has no channels.

    Raises
    ------
    InputTypeError
        If the axis is not an integer.
    InputError
        If the image does not have the axis, if it is one of a batch or stack, or if it is needed.
    """
    shape = tuple(image.shape)
    left = [axis for axis in range(len(shape)) if axis not in stack_axes]
    if not stack_axes and len(shape) == 4:
        left = [1, 2, 3]
    if channel_axis is not None:
        axis = check_channel_axis(name, image, channel_axis) % len(shape)
        if axis not in left:
            what = "one of the stack" if stack_axes else "the batch axis"
            raise InputError(f"channel_axis={channel_axis} is {what} of {name} {shape}")
        if len(left) == 2:
            raise InputError(
                f"channel_axis={channel_axis} does not fit {name} of shape {shape}, whose stack "
                "leaves 2 axes for (H, W); leave it out"
            )
        return axis
    if len(left) == 2:
        return None
    first, last = (shape[axis] for axis in (left[0], left[-1]))
    if last <= _MOST_OBVIOUS_CHANNELS < first:
        return left[-1]
    if last <= _MOST_OBVIOUS_CHANNELS:
        raise InputError(
            f"channel_axis is needed for {name} of shape {shape}: are the channels its last axis "
            f"(channel_axis={left[-1] - len(shape)}) or in front of the pixels "
            f"(channel_axis={left[0] - len(shape)})?"
        )
    if is_tensor(image) or first <= _MOST_OBVIOUS_CHANNELS:
        return left[0]
    raise InputError(
        f"channel_axis is needed for {name} of shape {shape}: which of its axes are the channels?"
        + ("" if stack_axes else " A stack of images has a stack_axis instead.")
    )


def check_channel_axis(name: str, x: Any, channel_axis: Any, spatial_dims: int = 2) -> int:
    """Return a channel axis that was given, after checking it.

    Parameters
    ----------
    name
        The name of the argument, for messages.
    x
        An array or a tensor.
    channel_axis
        The axis that was given, an integer, which may count from the end.
    spatial_dims
        The number of axes of pixels: 2 for images, the default, 3 for volumes.

    Returns
    -------
    int
        The axis as a Python integer, negative if it counts from the end.

    Raises
    ------
    InputTypeError
        If the axis is not an integer.
    InputError
        If ``x`` does not have this axis, or has no axes but those of pixels.
    """
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
