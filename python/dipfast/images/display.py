"""Pixels as a screen shows them: 8 bits, grey or three colours, small enough, as PNG."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np

from dipfast.arrays import as_numpy
from dipfast.images.layout import find_data_range

__all__ = ["channels_shown", "encode_png", "range_of", "reduce", "to_8_bits", "to_planes"]

_Array = np.ndarray[Any, Any]

# Values that are converted at a time, to save memory.
_BAND = 1 << 20


def to_planes(
    image: Any, channel_axis: int | None = None, stack_axes: tuple[int, ...] = ()
) -> _Array:
    """Return an image as an array of three axes; of a batch or stack, the first image.

    Parameters
    ----------
    image
        An array or tensor (H, W), with one more axis for the channels, or a batch of these.
    channel_axis
        The axis of the channels; None if there is none.
    stack_axes
        The axes of a stack; by default the first one of four.

    Returns
    -------
    numpy.ndarray
        Of shape (H, W, C), in the dtype of the image; float32 for bfloat16, which NumPy lacks.
    """
    image = as_numpy(image)
    if image.ndim == 4 and not stack_axes:
        stack_axes, channel_axis = (0,), 1 if channel_axis is None else channel_axis
    if stack_axes:
        left = [axis for axis in range(image.ndim) if axis not in stack_axes]
        if channel_axis is not None:
            channel_axis = left.index(channel_axis % image.ndim)
        image = image[tuple(0 if k in stack_axes else slice(None) for k in range(image.ndim))]
    planes: _Array = image[..., None]
    if channel_axis is not None:
        planes = np.moveaxis(image, channel_axis, -1)
    return planes


def range_of(planes: _Array, found: dict[str, Any]) -> tuple[float, float]:
    """Return the values that are shown as black and as white.

    Parameters
    ----------
    planes
        An image (H, W, C).
    found
        What a result says that was found in its image, with ``"data_range"`` if that is known.

    Returns
    -------
    tuple of float
        The range that was found; else 0 and 255 for uint8, and the least and the largest finite
        value for anything else.
    """
    if found.get("data_range") is not None:
        low, high = found["data_range"]
        return float(low), float(high)
    if planes.dtype == np.uint8:
        return 0.0, 255.0
    finite = planes[np.isfinite(planes)]
    return find_data_range("image", finite) if finite.size else (0.0, 1.0)


def to_8_bits(planes: _Array, data_range: tuple[float, float]) -> _Array:
    """Return an image as a screen shows it.

    Parameters
    ----------
    planes
        An image (H, W, C).
    data_range
        The values of black and of white.

    Returns
    -------
    numpy.ndarray
        uint8: (H, W, 3) for three channels; else (H, W), the only channel or the mean of all.
        Values beyond the range are black or white, and NaN is black.
    """
    low, high = data_range
    height, width, channels = planes.shape
    is_colour = channels == 3
    shown = np.empty((height, width, 3 if is_colour else 1), np.uint8)
    step = max(_BAND // max(width * channels, 1), 1)
    # Infinite values may be subtracted from each other, and large ones are beyond the range.
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, height, step):
            values = planes[start : start + step].astype(np.float64)
            values = values if is_colour else values.mean(axis=-1, keepdims=True)
            share = np.nan_to_num((values - low) / (high - low), nan=0.0)
            shown[start : start + step] = (255 * share.clip(0, 1)).round()
    return shown if is_colour else shown[..., 0]


def channels_shown(channels: int) -> str:
    """Return which channels of an image are shown, in words; empty where it is all of them.

    Parameters
    ----------
    channels
        The number of its channels.

    Returns
    -------
    str
        The words.
    """
    return "" if channels in (1, 3) else f"the mean of {channels} channels"


def reduce(pixels: _Array, most: int) -> _Array:
    """Return an image with no more than so many rows and columns, by means of its pixels.

    Parameters
    ----------
    pixels
        uint8, (H, W) or (H, W, 3).
    most
        The largest number of rows, and of columns.

    Returns
    -------
    numpy.ndarray
        The smaller image; the same one if it is small enough.
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    share = most / max(height, width)
    if share >= 1:
        return pixels
    size = max(round(width * share), 1), max(round(height * share), 1)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def encode_png(pixels: _Array) -> bytes:
    """Return an image as the bytes of a PNG file.

    Parameters
    ----------
    pixels
        uint8, (H, W) or (H, W, 3).

    Returns
    -------
    bytes
        The content of the file.
    """
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, format="PNG")
    return stream.getvalue()
