"""Pictures as the page shows them: small, in 8 bits, as PNG or JPEG."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from dipfast.images.display import encode_png, reduce, to_8_bits, to_planes
from dipfast.settings.names import TaskName

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LARGEST", "Preview", "live_range", "preview", "shown_size", "shrunk"]

LARGEST = 1024
"""Rows and columns of a preview, at most."""

# More values than these are sent as JPEG, of a quality that changes nothing that is seen.
_MOST_OF_PNG = 1 << 18
_JPEG_QUALITY = 92

# The share of its width by which these tasks extend a range that they find in the data at either
# end, because a sharp image has brighter and darker values than its measurement.
_MARGINS: dict[TaskName, float] = {"super_resolve": 0.25, "restore": 0.25}


@dataclass(frozen=True)
class Preview:
    """Hold a picture for the page.

    Attributes
    ----------
    data
        The content of a file.
    kind
        Its type, ``"image/png"`` or ``"image/jpeg"``.
    width, height
        Its columns and rows.
    """

    data: bytes
    kind: str
    width: int
    height: int


def preview(image: Any, channel_axis: int | None, data_range: tuple[float, float]) -> Preview:
    """Return a picture as the page shows it.

    Parameters
    ----------
    image
        An array or tensor, as :func:`dipfast.images.display.to_planes` takes it.
    channel_axis
        The axis of its channels; None if there is none.
    data_range
        The values that are black and white.

    Returns
    -------
    Preview
        The picture.
    """
    pixels = reduce(to_8_bits(to_planes(image, channel_axis), data_range), LARGEST)
    height, width = pixels.shape[:2]
    if pixels.size <= _MOST_OF_PNG:
        return Preview(encode_png(pixels), "image/png", width, height)
    from PIL import Image

    stream = BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.save(stream, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return Preview(stream.getvalue(), "image/jpeg", width, height)


def shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns of a preview.

    Parameters
    ----------
    size
        The rows and columns of the picture.

    Returns
    -------
    tuple of int
        Those of the preview, which are the same where the picture is small enough.

    Examples
    --------
    >>> shown_size((768, 1024)), shown_size((3000, 4000))
    ((768, 1024), (768, 1024))
    """
    share = min(LARGEST / max(size), 1.0)
    rows, columns = (max(round(length * share), 1) for length in size)
    return rows, columns


def shrunk(image: Tensor) -> Tensor:
    """Return a picture (1, C, H, W) with no more values than a preview needs, on the CPU.

    Parameters
    ----------
    image
        The picture.

    Returns
    -------
    Tensor
        The picture, or means of its pixels, with up to twice the rows and columns of a preview.
    """
    from torch.nn.functional import avg_pool2d

    factor = max(image.shape[-2:]) // LARGEST
    small = image.detach()
    if factor > 1:
        height, width = small.shape[-2:]
        small = avg_pool2d(small, (min(factor, height), min(factor, width)))
    return small.float().cpu()


def live_range(task: TaskName, dtype: Any) -> tuple[float, float]:
    """Return which values of a picture of a run, in [0, 1], are as black and white as in the input.

    Parameters
    ----------
    task
        The task.
    dtype
        The dtype of the input.

    Returns
    -------
    tuple of float
        The values; 0 and 1 where the task works in the range of the input.
    """
    margin = 0.0 if str(dtype) == "uint8" else _MARGINS.get(task, 0.0)
    return margin / (1 + 2 * margin), (1 + margin) / (1 + 2 * margin)
