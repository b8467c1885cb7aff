"""Helpers of formats that Pillow decodes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL.Image import Image

from dipfast.errors import UnreadableFileError
from dipfast.images.files import limits
from dipfast.images.files.formats._exif import Exif
from dipfast.images.files.image_file import Resolution
from dipfast.images.files.pixels import ORIENTATION

__all__ = ["beside", "load", "orientation", "without_warnings"]


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
    with without_warnings():
        try:
            value: Any = image.getexif().get(ORIENTATION)
        except Exception:  # with damaged EXIF Pillow raises exceptions of many types
            return 1
    return int(value) if value in range(1, 9) else 1


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silence the warnings of Pillow about damaged EXIF.

    dipfast has a warning of its own when EXIF cannot be kept.

    Yields
    ------
    None
        Nothing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def beside(image: Image, resolution: Resolution | None, turned: int) -> dict[str, Any]:
    """Return what is beside the pixels of an image.

    Parameters
    ----------
    image
        An image that was decoded.
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
    if image.info.get("icc_profile"):
        metadata["icc_profile"] = image.info["icc_profile"]
    if image.info.get("exif", b"").removeprefix(b"Exif\0\0"):
        try:
            exif = Exif.read(image.info["exif"], turned)
            metadata["exif"] = exif
            resolution = resolution or exif.resolution
        except ValueError:
            metadata["lost"] = ("EXIF, which is damaged",)
    if resolution is not None:
        metadata["resolution"] = resolution
    return metadata
