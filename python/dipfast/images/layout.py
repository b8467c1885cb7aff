"""Layout, dtype and value range: convert any image to a tensor in [0, 1], and back.

The network works on float32 tensors (N, C, H, W) in [0, 1].  :class:`Layout` keeps the form that an
image had before, and gives results the same form.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dipfast.arrays import (
    as_double,
    as_numpy,
    check_image,
    find_channel_axis,
    find_stack_axes,
    name_of_dtype,
)
from dipfast.checks import DataRange, check_data_range
from dipfast.errors import InputError
from dipfast.warn import warn_caller

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Layout", "check_unit", "find_data_range", "usual_width"]


# Above this, float64 does not hold every integer.
_LARGEST_INTEGER = 2**53
# From this value on, integers of 16 bits are taken to use all of them, and not 14 or fewer.
_OF_16_BITS = 2**14
# Values that are converted at a time.
_BAND = 1 << 20
# Differences below this share of the value range are lost in the fit.
_LEAST_CONTRAST = 1 / 200
# Integers are taken to be in another unit than a range if this share of them (hot pixels are fewer)
# is farther from it than so many times its width.
_SHARE_FAR, _FAR = 0.01, 10
# Opacity has the same value, such as that of what is fully opaque, in this share of the pixels.
_SHARE_OPAQUE = 1 / 3
# About so many pixels are looked at for that.
_COUNTED = 1 << 20


def _torch() -> Any:
    return sys.modules["torch"]


# --- the value range -----------------------------------------------------------------------


def find_data_range(name: str, image: Any) -> tuple[float, float]:
    """Return the least and the largest value of an image.

    The range of scaled and shifted values is scaled and shifted too, so the result of a fit does
    not depend on the unit of the image.

    Parameters
    ----------
    name
        The name of the argument, for messages.
    image
        An array or a tensor of finite values.

    Returns
    -------
    tuple of float
        The pair (darkest, brightest).  For an image of a single value the range is not empty: it
        has half a level of integers around the value, or the rounding error of float32.

    Raises
    ------
    InputError
        If float64 does not hold the values, or their difference.
    """
    # float64, because torch has no minimum of unsigned integers of 16 bits.
    values = image if isinstance(image, np.ndarray) else as_double(image.detach())
    low, high = float(values.min()), float(values.max())
    is_integer = "int" in name_of_dtype(image.dtype)
    if is_integer and max(-low, high) > _LARGEST_INTEGER:
        raise InputError(
            f"{name} must hold integers up to 2**53, got values from {low:g} to {high:g}: "
            "subtract an offset first"
        )
    if not np.isfinite(high - low):
        raise InputError(
            f"{name} has values from {low:g} to {high:g}, too far apart for float64: "
            "divide it by a number first"
        )
    if low == high:
        half = max(abs(low) * 2.0**-23, float(np.finfo(np.float32).tiny))
        half = 0.25 if is_integer else half
        low, high = low - half, high + half
    return low, high


def usual_width(low: float, high: float, dtype: Any) -> float | None:
    """Return the width of the range that values use by custom, for the peak of PSNR.

    Parameters
    ----------
    low, high
        The least and the largest value.
    dtype
        The dtype.

    Returns
    -------
    float or None
        65535 for uint16 with values of more than 14 bits, 1 for floats from 0 to 1 that seem to
        use it all; None for others.
    """
    named = name_of_dtype(dtype)
    if named.endswith("uint16") and high >= _OF_16_BITS:
        return 65535.0
    if "float" in named and 0 <= low <= high - 0.5 <= 0.5:
        return 1.0
    return None


@dataclass(frozen=True)
class Layout:
    """Hold the form of an image: kind, shape, dtype, channel axis and value range.

    Parameters
    ----------
    is_tensor
        True for a torch tensor, False for a NumPy array.
    shape
        The shape of the image.
    dtype
        The dtype of the image.
    channel_axis
        The axis of the channels, not negative; None if there is none.
    data_range
        The values that become 0 and 1, in the unit of the image.
    ends
        The least and the largest possible value of the measurement, after ``data_range`` was
        mapped to [0, 1]: noise may have been clipped there.
    range_source
        The source of the range: ``"given"``, ``"dtype"`` or ``"data"``.
    device
        The device of a tensor; None for an array.
    stack_axes
        The axes along which images are stacked, in their order; empty for a single image.
    is_stack
        Whether it was said that the images are planes of one stack, which belong together.

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
    stack_axes: tuple[int, ...] = ()
    is_stack: bool = False

    @classmethod
    def of(
        cls,
        image: Any,
        *,
        channel_axis: int | None = None,
        stack_axis: int | tuple[int, ...] | None = None,
        data_range: DataRange = None,
        known: Any = None,
        margin: float = 0.0,
        name: str = "image",
        warns: bool = True,
    ) -> Layout:
        """Recognise the layout of an image.

        Parameters
        ----------
        image
            An array (H, W) or with one more axis for the channels, or a tensor (H, W), (C, H, W)
            or (N, C, H, W); or a stack of these.
        channel_axis
            The axis of the channels; None recognises up to four channels at the end or in front
            of the pixels, and any number in front of the pixels of a tensor.
        stack_axis
            The axis of a stack, or several; None for none but the batch of a tensor.
        data_range
            The value range, see :meth:`with_range`.
        known
            The known pixels, see :meth:`with_range`.
        margin
            The margin of a range that is found, see :meth:`with_range`.
        name
            The name of the argument, for messages.
        warns
            Whether to warn of values close together, see :meth:`with_range`.

        Returns
        -------
        Layout
            The layout, with the value range.

        Raises
        ------
        InputTypeError
            If the image does not hold real numbers.
        InputError
            If shape or value range is invalid, or a known value is not finite.
        """
        layout = cls.form_of(image, channel_axis=channel_axis, stack_axis=stack_axis, name=name)
        return layout.with_range(
            image, data_range, known=known, margin=margin, name=name, warns=warns
        )

    @classmethod
    def form_of(
        cls,
        image: Any,
        *,
        channel_axis: int | None = None,
        stack_axis: int | tuple[int, ...] | None = None,
        name: str = "image",
    ) -> Layout:
        """Recognise the layout of an image except its value range, which is set to (0, 1).

        Parameters
        ----------
        image
            As in :meth:`of`.
        channel_axis, stack_axis
            As in :meth:`of`.
        name
            The name of the argument, for messages.

        Returns
        -------
        Layout
            The layout.

        Raises
        ------
        InputTypeError
            If the image does not hold real numbers.
        InputError
            If its shape is invalid, or does not have the axis of the channels or of the stack.

        Warns
        -----
        UserWarning
            If the last of 2 or 4 channels, which were not told, looks like opacity.
        """
        stack_axes = find_stack_axes(name, image, stack_axis)
        check_image(name, image, finite=False, stack_axes=stack_axes)
        told_axes = () if stack_axis is None else stack_axes
        axis = find_channel_axis(name, image, channel_axis, told_axes)
        if channel_axis is None and axis is not None:
            _warn_of_opacity(name, image, axis)
        return cls(
            is_tensor=not isinstance(image, np.ndarray),
            shape=tuple(image.shape),
            dtype=image.dtype,
            channel_axis=axis,
            data_range=(0.0, 1.0),
            device=None if isinstance(image, np.ndarray) else image.device,
            stack_axes=stack_axes,
            is_stack=stack_axis is not None,
        )

    def of_one(self) -> Layout:
        """Return the layout of a single image of a batch or stack.

        Returns
        -------
        Layout
            The layout with a batch of 1; the same layout if it has no axis for the batch.
        """
        shape = (1 if axis in self.stack_axes else n for axis, n in enumerate(self.shape))
        return replace(self, shape=tuple(shape))

    @property
    def count(self) -> int:
        """The number of images."""
        return math.prod(self.shape[axis] for axis in self.stack_axes)

    @property
    def _pixel_axes(self) -> list[int]:
        """The axes of rows and columns."""
        others = (*self.stack_axes, self.channel_axis)
        return [axis for axis in range(len(self.shape)) if axis not in others]

    def with_range(
        self,
        image: Any,
        data_range: DataRange = None,
        *,
        known: Any = None,
        margin: float = 0.0,
        from_zero: bool = False,
        reach: tuple[float, float] = (0.0, 1.0),
        name: str = "image",
        warns: bool = True,
    ) -> Layout:
        """Return this layout with the value range of the image.

        Parameters
        ----------
        image
            The image whose layout this is.
        data_range
            R for values from 0 to R, or a pair (darkest, brightest).  None, the default, means 0
            to 255 for uint8, and from the least to the largest value for other dtypes.
        known
            A boolean array (N, C, H, W), or with 1 along its axes: only pixels where it is True
            count.  None means all pixels.
        margin
            The share of its width by which a range that is found is extended at either end,
            because the result may exceed the measurement; 0 by default.
        from_zero
            Whether a range that is found begins at 0, if no value is negative; not by default.
        reach
            From where to where the values of a measurement go, in units of the range: (0, 1) by
            default, more for operators that make values brighter.
        name
            The name of the argument, for messages.
        warns
            Whether to warn, as by default; :meth:`warn_of_contrast` does it later.

        Returns
        -------
        Layout
            The layout with ``data_range``, ``ends`` and ``range_source``.

        Raises
        ------
        InputError
            If a known value is not finite, the range is invalid, or the image holds integers that
            are far outside of it.

        Warns
        -----
        UserWarning
            If 99% of the values lie within half a per cent of the range.
        """
        counted = image if known is None else image[self.of_planes(known)].reshape(1, -1)
        if known is None:
            check_image(name, counted, stack_axes=self.stack_axes)
        else:
            advice = "mark them as missing in the mask, or as NaN in the image of dipfast.inpaint"
            check_image(name, counted, advice=advice)
        ends = 0.0, 1.0
        if data_range is not None:
            source, found = "given", check_data_range(data_range)
            low, width = found[0], found[1] - found[0]
            check_unit(name, counted, (low + reach[0] * width, low + reach[1] * width))
        elif str(image.dtype).endswith("uint8"):
            source, found = "dtype", (0.0, 255.0)
        else:
            source, (low, high) = "data", find_data_range(name, counted)
            extra = margin * (high - low)
            found = 0.0 if from_zero and low >= 0 else low - extra, high + extra
            width = found[1] - found[0]
            ends = (low - found[0]) / width, (high - found[0]) / width
        layout = replace(self, data_range=found, ends=ends, range_source=source)
        if warns and known is None:
            layout.warn_of_contrast(image, name)
        elif warns:
            _warn_of_contrast(name, counted, found, source)
        return layout

    def warn_of_contrast(self, image: Any, name: str = "image") -> None:
        """Warn if 99% of the values of an image, or of a part, lie within half a per cent.

        Parameters
        ----------
        image
            An image of this layout, with its range.
        name
            The name of the argument, for messages.

        Warns
        -----
        UserWarning
            If they do: their differences would be lost.
        """
        _warn_of_contrast(name, image, self.data_range, self.range_source)
        if self.range_source != "dtype":
            for part, plane in self._planes(image):
                _warn_of_contrast(f"{part} of {name}", plane, self.data_range, self.range_source)

    def _planes(self, image: Any) -> Iterator[tuple[str, Any]]:
        """Yield the images of a batch, then the channels, each with its name.

        In a stack, dark planes beside bright ones are nothing to warn of.
        """
        batch = self.stack_axes[0] if self.stack_axes and not self.is_stack else None
        axes = {"image": batch, "channel": self.channel_axis}
        for part, axis in axes.items():
            if axis is not None and self.shape[axis] > 1:
                for number in range(self.shape[axis]):
                    index = (slice(None),) * axis + (number,)
                    yield f"{part} {number}", image[index]

    def filled(self, image: Any, missing: Any) -> Any:
        """Return a copy of an image that is black where pixels are missing.

        Parameters
        ----------
        image
            An image of this layout.
        missing
            A boolean array (N, C, H, W), or with 1 along its axes, True at missing pixels.

        Returns
        -------
        numpy.ndarray or torch.Tensor
            The copy.  Black is the lower end of the range, or the nearest value of the dtype.
        """
        black = float(np.clip(self.data_range[0], *_limits(self.dtype)))
        black = black if self._is_float() else round(black)
        where = self.of_planes(missing)
        if self.is_tensor:
            return _torch().where(where, image.new_full((), black), image)
        return np.where(where, image.dtype.type(black), image).astype(image.dtype, copy=False)

    def to_tensor(self, image: Any, device: Any = None) -> Tensor:
        """Return an image as a tensor of the form that the network works on.

        Parameters
        ----------
        image
            An image of this layout.
        device
            The device of the tensor; by default that of the image.

        Returns
        -------
        Tensor
            Of shape (N, C, H, W), float32, contiguous, with ``data_range`` mapped to [0, 1];
            values outside of the range are outside of [0, 1].
        """
        import torch

        planes = self._as_planes(image.detach() if self.is_tensor else image)
        if device is None:
            device = image.device if self.is_tensor else "cpu"
        shape = (len(planes), *planes[0].shape)
        result = torch.empty(shape, dtype=torch.float32, device=device)
        low, high = self.data_range
        for item, plane in enumerate(planes):
            for rows in _bands(plane):
                x = plane[..., rows, :]
                if not self.is_tensor:
                    # Through float64, because torch lacks some integer dtypes of NumPy; as a copy,
                    # because torch has neither read-only arrays nor negative strides.
                    x = torch.from_numpy(np.array(x, dtype=np.float64, order="C"))
                # float32 does not hold every integer of 32 bits, so the range is mapped in float64.
                values = ((as_double(x) - low) / (high - low)).to(torch.float32)
                result[item, ..., rows, :] = values
        return result

    def _as_planes(self, image: Any) -> list[Any]:
        """Return the images of an array or a tensor, each as a view (C, H, W)."""
        channels = () if self.channel_axis is None else (self.channel_axis,)
        order = (*self.stack_axes, *channels, *self._pixel_axes)
        moved = image.permute(order) if self.is_tensor else image.transpose(order)
        if self.channel_axis is None:
            moved = moved[..., None, :, :]
        return [moved[index] for index in np.ndindex(tuple(moved.shape[: len(self.stack_axes)]))]

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape that a tensor has as an image of this layout.

        Parameters
        ----------
        shape
            The shape (N, C, H, W) of the tensor, which may have another height and width.

        Returns
        -------
        tuple of int
            The shape of the image.
        """
        batch, channels, *size = shape
        lengths = dict(zip(self._pixel_axes, size))
        if self.channel_axis is not None:
            lengths[self.channel_axis] = channels
        if len(self.stack_axes) == 1:
            lengths[self.stack_axes[0]] = batch
        return tuple(lengths.get(axis, n) for axis, n in enumerate(self.shape))

    def to_image(self, x: Tensor) -> Any:
        """Return a tensor of the network as an image of this layout.

        Parameters
        ----------
        x
            Of shape (N, C, H, W), with [0, 1] for ``data_range``, and of any height and width.

        Returns
        -------
        numpy.ndarray or torch.Tensor
            An image with layout, dtype, range and device of the original.  Values are limited to
            those of the dtype, and integers are rounded.
        """
        low, high = self.data_range
        shape = self.shape_of(tuple(x.shape))
        result: Any
        if self.is_tensor:
            result = _torch().empty(shape, dtype=self.dtype, device=self.device)
        else:
            result = np.empty(shape, self.dtype)
        for item, plane in enumerate(self._as_planes(result)):
            for rows in _bands(plane):
                values = as_double(x[item, ..., rows, :].detach()) * (high - low) + low
                if not self._is_float():
                    values = values.round()
                # Floats of 16 bits end at 65504, and what is beyond would be infinite.
                values = values.clamp(*_limits(self.dtype))
                if self.is_tensor:
                    plane[..., rows, :] = values.to(self.dtype)
                else:
                    plane[..., rows, :] = values.cpu().numpy().astype(self.dtype)
        return result

    @property
    def rounding_variance(self) -> float:
        """The mean square of what :meth:`to_image` changes by rounding, with the range as unit.

        It is that of an error between two integers where any is as likely; 0 for floats.
        """
        low, high = self.data_range
        return 0.0 if self._is_float() else 1 / (12 * (high - low) ** 2)

    def of_planes(self, planes: Any) -> Any:
        """Return a boolean array in the form of the image.

        Parameters
        ----------
        planes
            A boolean array (N, C, H, W), or with 1 along its axes.

        Returns
        -------
        numpy.ndarray or torch.Tensor
            Boolean, of the shape of the image, and on its device.
        """
        channels = 1 if self.channel_axis is None else self.shape[self.channel_axis]
        size = tuple(self.shape[axis] for axis in self._pixel_axes)
        x = np.broadcast_to(planes, (self.count, channels, *size))
        order = [*self.stack_axes, *self._pixel_axes]
        if self.channel_axis is None:
            x = x.squeeze(1)
        else:
            order.insert(len(self.stack_axes), self.channel_axis)
        lengths = (self.shape[axis] for axis in self.stack_axes)
        x = x.reshape(*lengths, *x.shape[1:]).transpose(np.argsort(order))
        if not self.is_tensor:
            return x
        return _torch().from_numpy(np.array(x, order="C")).to(self.device)

    def merge(self, chosen: Tensor, first: Any, second: Any) -> Any:
        """Return one image where a mask is True, and another one elsewhere.

        Parameters
        ----------
        chosen
            A boolean tensor (N, C, H, W), or with 1 along its axes.
        first
            The image where ``chosen`` is True, of this layout.
        second
            The image elsewhere, of this layout.

        Returns
        -------
        numpy.ndarray or torch.Tensor
            An image of this layout; the values are copied exactly.
        """
        where = self.of_planes(chosen.cpu().numpy())
        if self.is_tensor:
            return _torch().where(where.to(first.device), first, second)
        # np.where returns the native byte order, which may be another one than that of the image.
        return np.where(where, first, second).astype(first.dtype, copy=False)

    def _is_float(self) -> bool:
        if self.is_tensor:
            return bool(self.dtype.is_floating_point)
        return bool(self.dtype.kind == "f")


def _bands(planes: Any) -> Iterator[slice]:
    """Yield the rows of planes (..., H, W) in bands of about a million values, to save memory."""
    step = max(_BAND * planes.shape[-2] // math.prod(planes.shape), 1)
    for begin in range(0, planes.shape[-2], step):
        yield slice(begin, begin + step)


def _limits(dtype: Any) -> tuple[float, float]:
    """Return the least and the largest number of a dtype."""
    if isinstance(dtype, np.dtype):
        limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    else:
        torch = _torch()
        limits = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    return limits.min, limits.max


def check_unit(name: str, image: Any, data_range: tuple[float, float]) -> None:
    """Refuse a range that was given in another unit than the integers of an image have.

    Parameters
    ----------
    name
        The name of the argument, for messages.
    image
        An array or a tensor, which may have floats: these are not looked at.
    data_range
        The pair (darkest, brightest).

    Raises
    ------
    InputError
        If more than a hundredth of the integers are far outside of it.
    """
    values, (low, high) = as_numpy(image), data_range
    if values.dtype.kind not in "iu":
        return
    far = _FAR * (high - low)
    share = float(((values > high + far) | (values < low - far)).mean())
    if share > _SHARE_FAR:
        shown = f"{high:g}" if low == 0 else f"({low:g}, {high:g})"
        raise InputError(
            f"data_range={shown} is in another unit than {name}, which holds integers from "
            f"{values.min():g} to {values.max():g}, {share:.0%} of them more than {_FAR} times the "
            f"width of the range outside of it; leave it out, or scale {name}"
        )


def _warn_of_opacity(name: str, image: Any, axis: int) -> None:
    """Warn if the last of 2 or 4 channels, at the end of an image, looks like opacity."""
    shape = tuple(image.shape)
    pixels = as_numpy(image)
    counted = pixels.dtype.name in ("uint8", "uint16")
    if axis != len(shape) - 1 or shape[-1] not in (2, 4) or not counted:
        return
    pixels = pixels.reshape(-1, shape[-1])
    pixels = pixels[:: 1 + len(pixels) // _COUNTED]
    *others, last = (_most_common_share(channel) for channel in pixels.T)
    if (last >= _SHARE_OPAQUE > max(others)) or last == 1 > max(others):
        colours = shape[-1] - 1
        wanted = f"{name}[..., :{colours}]" if colours > 1 else f"{name}[..., 0]"
        warn_caller(
            f"{name} of shape {shape} has {shape[-1]} channels, and the last looks like opacity, "
            f"which is restored as a channel and counts for the noise: pass {wanted} and keep "
            "opacity as it is, or channel_axis=-1 if it is a channel"
        )


def _most_common_share(values: Any) -> float:
    """Return the share of unsigned integers that have their most common value."""
    return float(np.bincount(values).max() / values.size)


def _warn_of_contrast(name: str, image: Any, data_range: tuple[float, float], source: str) -> None:
    """Warn if nearly all values are so close together that their differences would be lost."""
    values = image if isinstance(image, np.ndarray) else as_double(image.detach()).cpu().numpy()
    # About a million pixels are enough for the quantiles of a large image.
    values = values.reshape(-1)[:: max(values.size // 2**20, 1)].astype(np.float64)
    low, high = np.quantile(values, (0.005, 0.995))
    share = (high - low) / (data_range[1] - data_range[0])
    if 0 < share < _LEAST_CONTRAST:
        found = "the few others set the range" if source == "data" else f"the range is {source}"
        warn_caller(
            f"99% of the values of {name} lie between {low:g} and {high:g}, {share:.1e} of the "
            f"range from {data_range[0]:g} to {data_range[1]:g}: {found}, and what is between "
            "them will be lost; data_range=(darkest, brightest) sets another one"
        )
