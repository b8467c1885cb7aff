"""Helpers of formats that Pillow decodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL.Image import Exif as PillowExif
from PIL.Image import Image

from dipfast.errors import UnreadableFileError
from dipfast.images.files import limits
from dipfast.images.files.formats._exif import Exif
from dipfast.images.files.image_file import Resolution
from dipfast.images.files.pixels import ORIENTATION
from dipfast.warn import without_warnings

__all__ = ["beside", "grey_if_equal", "load", "orientation", "orientation_of"]


def load(image: Image, itemsize: int) -> None:
    """Check what an image declares, and decode it.

    Parameters
    ----------
    image
        An image that was opened, but not decoded.
    itemsize
        Bytes of one number.

    Raises
    ------
    UnreadableFileError
        If it is too large, or not one image.
    """
    channels = 4 if image.mode == "P" else len(image.getbands())
    limits.check_size(*image.size, channels, itemsize)
    frames = getattr(image, "n_frames", 1)
    # MPO is a JPEG with more images, which are previews or depth maps of the first.
    if frames > 1 and image.format != "MPO":
        raise UnreadableFileError(f"it holds {frames} images, expected one")
    # Decoding also completes the metadata: the chunks of a PNG may come after the pixels.
    image.load()


def orientation(image: Image) -> int:
    """Return how an image is to be turned, as EXIF says it.

    Parameters
    ----------
    image
        An image.

    Returns
    -------
    int
        The orientation as :func:`upright` takes it; 1, which turns nothing, if EXIF is damaged.
    """
    return _turn(image.getexif)


def orientation_of(exif: bytes) -> int:
    """Return how an image is to be turned, as its EXIF says it.

    Parameters
    ----------
    exif
        The bytes; they may be damaged or empty.

    Returns
    -------
    int
        As :func:`orientation` returns it.
    """

    def load() -> PillowExif:
        found = PillowExif()
        found.load(exif)
        return found

    return _turn(load)


def _turn(load: Callable[[], PillowExif]) -> int:
    """Return the orientation of EXIF that a function loads, 1 if it is missing or damaged."""
    with without_warnings():  # dipfast has one of its own when EXIF cannot be kept
        try:
            value: Any = load().get(ORIENTATION)
        except Exception:  # with damaged EXIF Pillow raises exceptions of many types
            return 1
    return int(value) if value in range(1, 9) else 1


def beside(info: Mapping[Any, Any], resolution: Resolution | None, turned: int) -> dict[str, Any]:
    """Return what is beside the pixels of an image.

    Parameters
    ----------
    info
        What Pillow, or a library like it, found: ``icc_profile`` and ``exif``.
    resolution
        The resolution that the format itself declares, before that of EXIF.
    turned
        Its orientation, by which the pixels have been turned.

    Returns
    -------
    dict
        Metadata of :class:`ImageFile`.
    """
    metadata: dict[str, Any] = {}
    if resolution is not None and turned > 4:
        resolution = resolution.turned()
    if info.get("icc_profile"):
        metadata["icc_profile"] = info["icc_profile"]
    if (info.get("exif") or b"").removeprefix(b"Exif\0\0"):
        try:
            exif = Exif.read(info["exif"], turned)
            metadata["exif"] = exif
            resolution = resolution or exif.resolution
        except ValueError:
            metadata["lost"] = ("EXIF, which is damaged",)
    if resolution is not None:
        metadata["resolution"] = resolution
    return metadata


def grey_if_equal(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return pixels with one channel if their three are equal.

    It is for formats that have no grey, or none with opacity.

    Parameters
    ----------
    pixels
        Array (H, W, 3), or (H, W, 4) with opacity.

    Returns
    -------
    ndarray
        (H, W), or (H, W, 2) with opacity; the pixels themselves if the channels differ.
    """
    first, others = pixels[..., :1], pixels[..., 1:3]
    if not np.array_equal(np.broadcast_to(first, others.shape), others):
        return pixels
    return pixels[..., 0] if pixels.shape[-1] == 3 else pixels[..., [0, 3]]
