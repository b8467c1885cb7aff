"""Layout, dtype and value range: any image to a float tensor in [0, 1], and back.

The network works on float32 tensors (N, C, H, W) in [0, 1].  :class:`Layout` remembers what
an image was before, and gives results the same form.
"""

from __future__ import annotations

import operator
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import TypeIs

__all__ = [
    "DataRange",
    "Layout",
    "check_data_range",
    "check_image",
    "find_channel_axis",
    "is_tensor",
]

DataRange: TypeAlias = "float | tuple[float, float] | None"

# More channels than this at the end of an array are more likely columns.
_MOST_OBVIOUS_CHANNELS = 4


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

    Examples
    --------
    >>> import numpy as np
    >>> image = np.full((4, 5, 3), 51, dtype=np.uint8)
    >>> layout = Layout.of(image)
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
    device: Any = None

    @classmethod
    def of(
        cls,
        image: Any,
        *,
        channel_axis: int | None = None,
        data_range: DataRange = None,
        tolerance: float = 0.0,
        name: str = "image",
    ) -> Layout:
        """Recognise the layout of an image.

        Parameters
        ----------
        image
            Array (H, W) or with one more axis for the channels, or tensor (H, W),
            (C, H, W) or (N, C, H, W).
        channel_axis
            The axis of the channels; None recognises up to four channels at the end of an
            array and those of tensors.
        data_range
            R for values from 0 to R, or the pair (darkest, brightest).  None: 0 to 255
            for uint8, 0 to 65535 for uint16 with values over 16383, 0 to 1 for
            floating point.
        tolerance
            How far floating-point values may lie outside of [0, 1] and still be taken for
            an image in [0, 1] and its noise.
        name
            The argument, for messages.

        Raises
        ------
        TypeError
            If the image does not hold real numbers.
        ValueError
            If shape or value range is not one of these, or a value is not finite.
        """
        check_image(name, image)
        axis = find_channel_axis(name, image, channel_axis)
        return cls(
            is_tensor=not isinstance(image, np.ndarray),
            shape=tuple(image.shape),
            dtype=image.dtype,
            channel_axis=axis,
            data_range=check_data_range(name, image, data_range, tolerance),
            device=None if isinstance(image, np.ndarray) else image.device,
        )

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
        import torch

        low, high = self.data_range
        x = _double(x.detach()) * (high - low) + low
        if not self._is_float():
            limits = torch.iinfo(self.dtype) if self.is_tensor else np.iinfo(self.dtype)
            x = x.round().clamp(limits.min, limits.max)
        if len(self.shape) < 4:
            x = x.squeeze(0)
        x = x.squeeze(-3) if self.channel_axis is None else x.movedim(-3, self.channel_axis)
        if self.is_tensor:
            return x.to(self.dtype).to(self.device).contiguous()
        return np.ascontiguousarray(x.cpu().numpy().astype(self.dtype))

    def merge(self, chosen: Tensor, first: Any, second: Any) -> Any:
        """``first`` where ``chosen``, boolean (N, C, H, W) or 1 along axes, else ``second``.

        Both are images of this layout, and their values stay as they are to the last bit.
        """
        import torch

        batch = self.shape[0] if len(self.shape) == 4 else 1
        channels = 1 if self.channel_axis is None else self.shape[self.channel_axis]
        chosen = chosen.expand(batch, channels, *chosen.shape[-2:])
        if len(self.shape) < 4:
            chosen = chosen[0]
        axis = self.channel_axis
        chosen = chosen.squeeze(-3) if axis is None else chosen.movedim(-3, axis)
        if self.is_tensor:
            return torch.where(chosen.to(first.device), first, second)
        return np.where(chosen.numpy(), first, second)

    def _is_float(self) -> bool:
        if self.is_tensor:
            return bool(self.dtype.is_floating_point)
        return bool(self.dtype.kind == "f")


def is_tensor(x: object) -> TypeIs[Tensor]:
    """Whether x is a torch tensor, without importing torch to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def _double(x: Tensor) -> Tensor:
    return (x.cpu() if x.device.type == "mps" else x).double()  # MPS has no float64


def check_image(name: str, image: Any, *, finite: bool = True) -> None:
    """Refuse what is not a non-empty, real image of 2 to 4 dimensions, and finite if need be."""
    if isinstance(image, np.ndarray):
        real = image.dtype.kind in "iuf"
        most, layouts = 3, "an array (H, W) or (H, W, C)"
    elif is_tensor(image):
        real = not image.is_complex() and str(image.dtype) != "torch.bool"
        most, layouts = 4, "a tensor (H, W), (C, H, W) or (N, C, H, W)"
    else:
        raise TypeError(
            f"{name} must be a NumPy array or a torch tensor, got {type(image).__name__}"
        )
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
        raise ValueError(f"{name} must be finite, got NaN or infinity at {bad} of its values")


def _isfinite(image: Any) -> Any:
    if isinstance(image, np.ndarray):
        return np.isfinite(image)
    return image.isfinite()


def find_channel_axis(name: str, image: Any, channel_axis: int | None) -> int | None:
    """The channel axis as a non-negative number, recognised where it is not given."""
    shape = tuple(image.shape)
    if channel_axis is None:
        if len(shape) == 2:
            return None
        if not isinstance(image, np.ndarray):
            return len(shape) - 3
        if shape[-1] <= _MOST_OBVIOUS_CHANNELS:
            return len(shape) - 1
        raise ValueError(
            f"channel_axis is needed for {name} of shape {shape}: "
            "which of its axes are the channels?"
        )
    try:
        channel_axis = operator.index(channel_axis)
    except TypeError:
        raise TypeError(f"channel_axis must be an integer, got {channel_axis!r}") from None
    if len(shape) == 2 or not -len(shape) <= channel_axis < len(shape):
        raise ValueError(
            f"channel_axis={channel_axis} does not fit {name} of shape {shape}"
            + ("; leave it out for (H, W)" if len(shape) == 2 else "")
        )
    axis = channel_axis % len(shape)
    if len(shape) == 4 and axis == 0:
        raise ValueError(f"channel_axis={channel_axis} is the batch axis of {name} {shape}")
    return axis


def check_data_range(
    name: str, image: Any, data_range: DataRange, tolerance: float = 0.0
) -> tuple[float, float]:
    """The values that mean 0 and 1, recognised where that is not ambiguous."""
    values: Any
    if isinstance(image, np.ndarray):
        dtype, values = image.dtype.name, image
    else:  # in float64, because torch has no minimum of unsigned integers of 16 bits
        dtype, values = str(image.dtype).removeprefix("torch."), _double(image.detach())
    lowest, highest = float(values.min()), float(values.max())
    if data_range is not None:
        try:
            if isinstance(data_range, str):
                raise TypeError
            pair: Any = (0.0, data_range) if np.ndim(data_range) == 0 else data_range
            low, high = map(float, pair)
        except (TypeError, ValueError):
            low, high = 0.0, float("nan")
        if not (np.isfinite([low, high]).all() and low < high):
            raise ValueError(
                "data_range must be a positive number or a pair (darkest, brightest), "
                f"got {data_range!r}"
            )
        return low, high
    if dtype == "uint8":
        return 0.0, 255.0
    if dtype == "uint16" and highest > 16383:
        return 0.0, 65535.0
    if "float" in dtype and lowest >= -tolerance and highest <= 1 + tolerance:
        return 0.0, 1.0
    if dtype == "uint16":
        hint = "10, 12, 14 or 16 bits are data_range=1023, 4095, 16383 or 65535"
    else:
        hint = "say which values are black and white, such as data_range=(0, 4095)"
    raise ValueError(
        f"data_range is needed for {name}, {dtype} with values from {lowest:g} to {highest:g}: "
        + hint
    )
