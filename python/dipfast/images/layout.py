"""Layout, dtype and value range: any image to a float tensor in [0, 1], and back.

The network works on float32 tensors (N, C, H, W) in [0, 1].  :class:`Layout` remembers what
an image was before, and gives results the same form.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dipfast.arrays import check_image, find_channel_axis
from dipfast.checks import DataRange, check_data_range
from dipfast.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Layout", "find_data_range"]


# Integers beyond this are not all in float64.
_LARGEST_INTEGER = 2**53
# A smaller share of the value range than this is too little for a network in float32 to see.
_LEAST_CONTRAST = 1 / 200


def _torch() -> Any:
    return sys.modules["torch"]


# --- the value range -----------------------------------------------------------------------


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

    def of_one(self) -> Layout:
        """Return the layout of one image of a batch, which is still a batch."""
        return replace(self, shape=(1, *self.shape[1:])) if len(self.shape) == 4 else self

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
