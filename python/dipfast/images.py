"""Layout, dtype and value range: any image to a float tensor in [0, 1], and back.

The network works on float32 tensors (N, C, H, W) in [0, 1].  :class:`Layout` remembers what
an image was before, and gives results the same form.
"""

from __future__ import annotations

import operator
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import TypeIs

__all__ = [
    "DataRange",
    "Layout",
    "as_constant",
    "as_pixels",
    "check_channel_axis",
    "check_data_range",
    "check_image",
    "find_channel_axis",
    "find_data_range",
    "is_channels_last",
    "is_tensor",
    "split_masked",
]

DataRange: TypeAlias = "float | tuple[float, float] | None"

# As many channels as colours with opacity have; an axis of more is rather one of pixels.
_MOST_OBVIOUS_CHANNELS = 4
# Integers beyond this are not all in float64.
_LARGEST_INTEGER = 2**53
# A smaller share of the value range than this is too little for a network in float32 to see.
_LEAST_CONTRAST = 1 / 200


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
    >>> as_pixels("image", np.ma.masked_equal([[1, 2]], 2))
    Traceback (most recent call last):
      ...
    ValueError: image has 1 masked pixel, which only inpaint fills: dipfast.inpaint(image)
    """
    pixels, masked = split_masked(name, image)
    if masked is not None:
        count = int(np.count_nonzero(masked))
        raise ValueError(
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
            raise TypeError(
                f"{name} must be a dense tensor, got one that is "
                + ("quantized: dequantize() it" if image.is_quantized else "sparse: to_dense() it")
            )
        if image.device.type == "meta":
            raise TypeError(f"{name} must hold data, got a tensor on the device 'meta'")
        return image, None
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"{name} must be a NumPy array or a torch tensor, got {type(image).__name__}"
            + _next_step(name, image)
        )
    if isinstance(image, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(image)
        return image.data.view(np.ndarray), masked if masked.any() else None
    for attribute, value in (("unit", "value"), ("units", "magnitude")):
        if type(image) is not np.ndarray and getattr(image, attribute, None) is not None:
            raise TypeError(
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
        raise TypeError(f"{name} must hold real numbers (integers or floats), got {image.dtype}")
    shape = tuple(image.shape)
    if 0 in shape:
        raise ValueError(f"{name} must not be empty, got shape {shape}")
    if not 2 <= len(shape) <= most:
        raise ValueError(f"{name} must be {layouts}, got {len(shape)} dimensions, shape {shape}")
    good = _isfinite(image) if finite else None
    if good is not None and not good.all():
        bad = int((~good).sum())
        raise ValueError(
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
    raise ValueError(
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
        raise ValueError(
            f"channel_axis is needed for {name} of shape {shape}: "
            "which of its axes are the channels?"
        )
    axis = check_channel_axis(name, image, channel_axis) % len(shape)
    if len(shape) == 4 and axis == 0:
        raise ValueError(f"channel_axis={channel_axis} is the batch axis of {name} {shape}")
    return axis


def check_channel_axis(name: str, x: Any, channel_axis: Any, spatial_dims: int = 2) -> int:
    """Return a channel axis that was given as an integer, which may count from the end."""
    shape = tuple(x.shape)
    try:
        axis = operator.index(channel_axis)
    except TypeError:
        raise TypeError(f"channel_axis must be an integer, got {channel_axis!r}") from None
    if len(shape) == spatial_dims or not -len(shape) <= axis < len(shape):
        pixels = "(H, W)" if spatial_dims == 2 else "(D, H, W)"
        raise ValueError(
            f"channel_axis={channel_axis} does not fit {name} of shape {shape}"
            + (f"; leave it out for {pixels}" if len(shape) == spatial_dims else "")
        )
    return axis


# --- the value range -----------------------------------------------------------------------


def check_data_range(data_range: Any) -> tuple[float, float]:
    """Return a value range that was given as a pair (darkest, brightest)."""
    try:
        if isinstance(data_range, str):
            raise TypeError
        pair: Any = (0.0, data_range) if np.ndim(data_range) == 0 else data_range
        low, high = map(float, pair)
    except (TypeError, ValueError):
        low, high = 0.0, float("nan")
    if not (np.isfinite([low, high, high - low]).all() and low < high):
        raise ValueError(
            "data_range must be a positive number or a pair (darkest, brightest), "
            f"got {data_range!r}"
        )
    return low, high


def find_data_range(name: str, image: Any) -> tuple[float, float]:
    """Return the least and the largest value, which become 0 and 1.

    Scaled and shifted values have a scaled and shifted range, so that the unit of an image does
    not matter.  The range of an image of one value is as wide as the rounding of that value.

    Parameters
    ----------
    name
        The argument, for messages.
    image
        Array or tensor, finite.

    Raises
    ------
    ValueError
        If float64 does not hold the numbers, or their difference.
    """
    # float64, because torch has no minimum of unsigned integers of 16 bits.
    values = image if isinstance(image, np.ndarray) else _double(image.detach())
    low, high = float(values.min()), float(values.max())
    if "int" in str(image.dtype) and max(-low, high) > _LARGEST_INTEGER:
        raise ValueError(
            f"{name} must hold integers up to 2**53, got values from {low:g} to {high:g}: "
            "subtract an offset first"
        )
    if not np.isfinite(high - low):
        raise ValueError(
            f"{name} has values from {low:g} to {high:g}, too far apart for float64: "
            "divide it by a number first"
        )
    if low == high:
        half = max(abs(low) * 2.0**-23, float(np.finfo(np.float32).tiny))
        half = 0.25 if "int" in str(image.dtype) else half
        low, high = low - half, high + half
    return low, high


@dataclass(frozen=True)
class Layout:
    """The form of an image: kind, shape, dtype, channel axis and value range.

    Attributes
    ----------
    is_tensor
        A torch tensor, else a NumPy array.
    shape, dtype, device
        As they were; the device of an array is None.
    channel_axis
        Non-negative; None without channels.
    data_range
        The values that become 0 and 1.
    ends
        Where measured values end, in units of an image in [0, 1]: there they may have been cut
        off.
    range_source
        Where the range is from: ``"given"``, ``"dtype"`` or ``"data"``.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.full((4, 5, 3), 51, dtype=np.uint8)
    >>> layout = Layout.of(image, channel_axis=-1)
    >>> layout.to_tensor(image).shape
    torch.Size([1, 3, 4, 5])
    >>> bool((layout.to_image(layout.to_tensor(image)) == image).all())
    True
    """

    is_tensor: bool
    shape: tuple[int, ...]
    dtype: Any
    channel_axis: int | None
    data_range: tuple[float, float]
    ends: tuple[float, float] = (0.0, 1.0)
    range_source: str = "given"
    device: Any = None

    @classmethod
    def of(
        cls,
        image: Any,
        *,
        channel_axis: int | None = None,
        data_range: DataRange = None,
        known: Any = None,
        margin: float = 0.0,
        name: str = "image",
    ) -> Layout:
        """Recognise the layout of an image.

        Parameters
        ----------
        image
            Array (H, W) or with one more axis for the channels, or tensor (H, W),
            (C, H, W) or (N, C, H, W).
        channel_axis
            The axis of the channels; None recognises up to four channels at the end or in front
            of the pixels, and any number in front of the pixels of a tensor.
        data_range, known, margin
            As for :meth:`with_range`.
        name
            The argument, for messages.

        Raises
        ------
        TypeError
            If the image does not hold real numbers.
        ValueError
            If shape or value range is not one of these, or a known value is not finite.
        """
        layout = cls.form_of(image, channel_axis=channel_axis, name=name)
        return layout.with_range(image, data_range, known=known, margin=margin, name=name)

    @classmethod
    def form_of(cls, image: Any, *, channel_axis: int | None = None, name: str = "image") -> Layout:
        """Recognise everything but the value range, which is (0, 1) here."""
        check_image(name, image, finite=False)
        return cls(
            is_tensor=not isinstance(image, np.ndarray),
            shape=tuple(image.shape),
            dtype=image.dtype,
            channel_axis=find_channel_axis(name, image, channel_axis),
            data_range=(0.0, 1.0),
            device=None if isinstance(image, np.ndarray) else image.device,
        )

    def with_range(
        self,
        image: Any,
        data_range: DataRange = None,
        *,
        known: Any = None,
        margin: float = 0.0,
        from_zero: bool = False,
        name: str = "image",
    ) -> Layout:
        """Return this layout with the value range of the image.

        Parameters
        ----------
        image
            The image whose layout this is.
        data_range
            R for values from 0 to R, or the pair (darkest, brightest).  None: 0 to 255 for
            uint8, else from the least to the largest value.
        known
            Boolean array (N, C, H, W), or 1 along its axes: only what is known counts; None for
            everything.
        margin
            By how much the result may exceed a range that was found, in widths of that range, at
            either end.
        from_zero
            Let a range that is found begin at 0.
        name
            The argument, for messages.

        Raises
        ------
        ValueError
            If a known value is not finite, or there is no such range.

        Warns
        -----
        UserWarning
            If nearly all values lie within half a per cent of the range.
        """
        counted = image if known is None else image[self.of_planes(known)].reshape(1, -1)
        check_image(name, counted)
        ends = 0.0, 1.0
        if data_range is not None:
            source, found = "given", check_data_range(data_range)
        elif str(image.dtype).endswith("uint8"):
            source, found = "dtype", (0.0, 255.0)
        else:
            source, (low, high) = "data", find_data_range(name, counted)
            extra = margin * (high - low)
            found = 0.0 if from_zero and low >= 0 else low - extra, high + extra
            width = found[1] - found[0]
            ends = (low - found[0]) / width, (high - found[0]) / width
        _warn_of_contrast(name, counted, found, source)
        if known is None and source != "dtype":
            for part, plane in self._planes(image):
                _warn_of_contrast(f"{part} of {name}", plane, found, source)
        return replace(self, data_range=found, ends=ends, range_source=source)

    def _planes(self, image: Any) -> Iterator[tuple[str, Any]]:
        """The images of a batch and the channels, one by one, with their names."""
        axes = {"image": 0 if len(self.shape) == 4 else None, "channel": self.channel_axis}
        for part, axis in axes.items():
            if axis is not None and self.shape[axis] > 1:
                for number in range(self.shape[axis]):
                    index = (slice(None),) * axis + (number,)
                    yield f"{part} {number}", image[index]

    def filled(self, image: Any, missing: Any) -> Any:
        """Return a copy of an image that is black where pixels are missing.

        Black is the lower end of the range, or what the dtype has that is nearest to it.
        """
        black = float(np.clip(self.data_range[0], *_limits(self.dtype)))
        black = black if self._is_float() else round(black)
        where = self.of_planes(missing)
        if self.is_tensor:
            return _torch().where(where, image.new_full((), black), image)
        return np.where(where, image.dtype.type(black), image).astype(image.dtype, copy=False)

    def to_tensor(self, image: Any, device: Any = None) -> Tensor:
        """(N, C, H, W), float32, with data_range mapped to [0, 1]; values may lie outside."""
        import torch

        if not self.is_tensor:
            # Through float64, because torch does not have all the integers of NumPy; a copy,
            # because it has neither read-only arrays nor negative strides.
            image = torch.from_numpy(np.array(image, dtype=np.float64, order="C"))
        # float64, because float32 has not all the integers of 32 bits.
        x: Tensor = _double(image.detach())
        axis = self.channel_axis
        x = x.unsqueeze(-3) if axis is None else x.movedim(axis, -3)
        x = x if x.ndim == 4 else x.unsqueeze(0)
        low, high = self.data_range
        x = (x - low) / (high - low)
        return x.to(torch.float32).to(device).contiguous()

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that a tensor (N, C, H, W) has as an image."""
        batch, channels, height, width = shape
        planes = [height, width]
        if self.channel_axis is not None:
            lead = 1 if len(self.shape) == 4 else 0
            planes.insert(self.channel_axis - lead, channels)
        return (batch, *planes) if len(self.shape) == 4 else tuple(planes)

    def to_image(self, x: Tensor) -> Any:
        """The way back: layout, dtype, range and device of the original, integers rounded.

        Any height and width is taken, so that it serves results of another size too.
        """
        low, high = self.data_range
        x = _double(x.detach()) * (high - low) + low
        if not self._is_float():
            x = x.round().clamp(*_limits(self.dtype))
        if len(self.shape) < 4:
            x = x.squeeze(0)
        x = x.squeeze(-3) if self.channel_axis is None else x.movedim(-3, self.channel_axis)
        if self.is_tensor:
            return x.to(self.dtype).to(self.device).contiguous()
        return np.ascontiguousarray(x.cpu().numpy().astype(self.dtype))

    def of_planes(self, planes: Any) -> Any:
        """Return a boolean array (N, C, H, W), or 1 along its axes, in the form of the image."""
        batch = self.shape[0] if len(self.shape) == 4 else 1
        channels = 1 if self.channel_axis is None else self.shape[self.channel_axis]
        x = np.broadcast_to(planes, (batch, channels, *np.shape(planes)[-2:]))
        x = x if len(self.shape) == 4 else x[0]
        axis = self.channel_axis
        x = x.squeeze(-3) if axis is None else np.moveaxis(x, -3, axis)
        if not self.is_tensor:
            return x
        return _torch().from_numpy(np.array(x, order="C")).to(self.device)

    def merge(self, chosen: Tensor, first: Any, second: Any) -> Any:
        """``first`` where ``chosen``, boolean (N, C, H, W) or 1 along axes, else ``second``.

        Both are images of this layout, and their values stay as they are to the last bit.
        """
        where = self.of_planes(chosen.cpu().numpy())
        if self.is_tensor:
            return _torch().where(where.to(first.device), first, second)
        return np.where(where, first, second).astype(first.dtype, copy=False)  # its byte order

    def _is_float(self) -> bool:
        if self.is_tensor:
            return bool(self.dtype.is_floating_point)
        return bool(self.dtype.kind == "f")


def _limits(dtype: Any) -> tuple[float, float]:
    """Return the least and the largest number of a dtype."""
    if isinstance(dtype, np.dtype):
        limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    else:
        torch = _torch()
        limits = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    return limits.min, limits.max


def _double(x: Tensor) -> Tensor:
    return (x.cpu() if x.device.type == "mps" else x).double()  # MPS has no float64


def _warn_of_contrast(name: str, image: Any, data_range: tuple[float, float], source: str) -> None:
    """Warn where all but a few values are so close together that the network cannot see it."""
    values = image if isinstance(image, np.ndarray) else _double(image.detach()).cpu().numpy()
    # Of a large image every so many pixels tell the same.
    values = values.reshape(-1)[:: max(values.size // 2**20, 1)].astype(np.float64)
    low, high = np.quantile(values, (0.005, 0.995))
    share = (high - low) / (data_range[1] - data_range[0])
    if 0 < share < _LEAST_CONTRAST:
        found = "the few others set the range" if source == "data" else f"the range is {source}"
        warnings.warn(
            f"99% of the values of {name} lie between {low:g} and {high:g}, {share:.1e} of the "
            f"range from {data_range[0]:g} to {data_range[1]:g}: {found}, and what is between "
            "them will be lost; data_range=(darkest, brightest) sets another one",
            stacklevel=6,
        )
