"""JPEG."""

from __future__ import annotations

import math
import struct
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import jpeg_factory

from dipfast.errors import InputError
from dipfast.images.files import limits
from dipfast.images.files.image import ImageFile, Resolution
from dipfast.images.files.pillow import beside, load, orientation, without_warnings
from dipfast.images.files.pixels import split, upright

__all__ = ["read", "write"]

# Units of JFIF, where 0 is none.
_UNITS = {"inch": 1, "cm": 2}
# Where unit and density are in what is written, and what fits there and into a segment.
_DENSITY = 13
_GREATEST = 2**16 - 1
_LONGEST = 65533


def read(stream: BinaryIO) -> ImageFile:
    jpeg = stream.read()
    limits.check_scans(jpeg)
    with without_warnings():
        image = jpeg_factory(BytesIO(jpeg))
    with image as opened:
        if math.prod(opened.size) > limits.JPEG_PIXELS_PER_BYTE * len(jpeg):
            raise InputError(
                f"it declares {opened.width} x {opened.height} pixels, "
                f"more than {len(jpeg)} bytes of JPEG can be"
            )
        load(opened, itemsize=1)
        if opened.mode not in ("L", "RGB"):
            raise InputError(
                f"pixels of the kind {opened.mode} are not supported; "
                "convert the picture to RGB or grey first"
            )
        turned = orientation(opened)
        unit = ("", *_UNITS)[opened.info.get("jfif_unit", 0) % 3]
        x, y = opened.info.get("jfif_density", (1, 1))
        resolution = Resolution.of(x, y, unit)
        metadata = beside(opened, resolution, turned)
        if opened.info.get("comment"):
            metadata["comment"] = opened.info["comment"]
        pixels = upright(np.array(opened), turned)
    return split(pixels, False, metadata, "JPEG")


def write(stream: BinaryIO, pixels: np.ndarray[Any, Any], like: ImageFile) -> list[str]:
    """Write an image, and return what could not be kept, in words."""
    lost = []
    options: dict[str, Any] = {
        key: like.metadata[key] for key in ("icc_profile", "comment") if key in like.metadata
    }
    if "exif" in like.metadata:
        exif = b"Exif\0\0" + like.metadata["exif"].sized(*pixels.shape[:2]).data
        if len(exif) > _LONGEST:
            lost.append("EXIF, which is too long for JPEG")
        else:
            options["exif"] = exif
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0, **options)
    jpeg = buffer.getbuffer()
    resolution = like.metadata.get("resolution")
    if resolution is not None:
        density = _density(resolution)
        if density is None:
            lost.append("resolution")
        else:
            jpeg[_DENSITY : _DENSITY + 5] = density
    stream.write(jpeg)
    return lost


def _density(resolution: Resolution) -> bytes | None:
    """Unit and density as JFIF has them, None if its whole numbers cannot say it."""
    # The unit it comes in first.
    for unit in sorted(_UNITS, key=lambda unit: unit != resolution.unit):
        converted = resolution.to(unit)
        if converted is None:
            continue
        density = converted.in_whole_numbers(_GREATEST)
        if density is not None:
            return struct.pack(">BHH", _UNITS.get(converted.unit, 0), *density)
    return None
