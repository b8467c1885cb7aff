"""What PNG and JPEG have in common, which Pillow decodes."""

from __future__ import annotations

from typing import Any

from PIL.Image import Image

from dipfast import declared
from dipfast.files.exif import Exif
from dipfast.files.image import Resolution

__all__ = ["beside", "load"]


def load(image: Image, itemsize: int) -> None:
    """Check what the image declares, and decode it."""
    channels = 4 if image.mode == "P" else len(image.getbands())
    declared.check_size(*image.size, channels, itemsize)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a JPEG whose other images are by-products
        raise ValueError(f"it holds {frames} images, expected one")
    image.load()  # the chunks of a PNG may come after the pixels


def beside(image: Image, resolution: Resolution | None, orientation: int) -> dict[str, Any]:
    """Return what is beside the pixels of an image that has been turned as it asks."""
    metadata: dict[str, Any] = {}
    if resolution is not None and orientation > 4:
        resolution = resolution.turned()
    if image.info.get("icc_profile"):
        metadata["icc_profile"] = image.info["icc_profile"]
    if image.info.get("exif"):
        try:
            exif = Exif.read(image.info["exif"], orientation)
            metadata["exif"] = exif
            resolution = resolution or exif.resolution
        except ValueError:
            metadata["lost"] = ("EXIF, which is damaged",)
    if resolution is not None:
        metadata["resolution"] = resolution
    return metadata
