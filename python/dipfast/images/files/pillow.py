"""What PNG and JPEG have in common, which Pillow decodes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL.Image import Image

from dipfast.errors import InputError
from dipfast.images.files import limits
from dipfast.images.files.exif import Exif
from dipfast.images.files.image import Resolution
from dipfast.images.files.pixels import ORIENTATION

__all__ = ["beside", "load", "orientation", "without_warnings"]


def load(image: Image, itemsize: int) -> None:
    """Check what the image declares, and decode it."""
    channels = 4 if image.mode == "P" else len(image.getbands())
    limits.check_size(*image.size, channels, itemsize)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a JPEG whose other images are by-products
        raise InputError(f"it holds {frames} images, expected one")
    image.load()  # the chunks of a PNG may come after the pixels


def orientation(image: Image) -> int:
    """Return how the image is to be turned, 1 (not at all) if EXIF is damaged."""
    with without_warnings():
        try:
            value: Any = image.getexif().get(ORIENTATION)
        except Exception:  # Pillow raises what comes
            return 1
    return int(value) if value in range(1, 9) else 1


@contextmanager
def without_warnings() -> Iterator[None]:
    """Leave out what Pillow says about damaged EXIF, which is said when it cannot be kept."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def beside(image: Image, resolution: Resolution | None, turned: int) -> dict[str, Any]:
    """Return what is beside the pixels of an image that has been turned by its orientation."""
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
