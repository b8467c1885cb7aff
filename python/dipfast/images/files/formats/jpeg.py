"""JPEG with samples of 8 bits."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import jpeg_factory

from dipfast.errors import UnreadableFileError
from dipfast.images.files.formats._exif_blocks import exif_with_resolution
from dipfast.images.files.formats._jpeg_data import check_scans
from dipfast.images.files.formats._pillow import beside, load, orientation
from dipfast.images.files.image_file import ImageFile, Resolution
from dipfast.images.files.pixels import split, upright
from dipfast.settings.jpeg import POOR_JPEG, JpegCoding, jpeg_quality
from dipfast.warn import without_warnings

__all__ = ["read", "write"]

# What one byte of a JPEG can be decoded to at most.  The true limit is 512: a block of 64 pixels
# takes a bit at least.
_PIXELS_PER_BYTE = 1024
# Numbers of the units of JFIF; 0 is none.
_UNITS = {"inch": 1, "cm": 2}
# Where unit and density are in a JPEG that Pillow writes, the largest density, and the most bytes
# of a segment.
_DENSITY = 13
_GREATEST = 2**16 - 1
_LONGEST = 65533


def read(stream: BinaryIO) -> ImageFile:
    """Read the one image of a JPEG.

    Parameters
    ----------
    stream
        The file, at its beginning.

    Returns
    -------
    ImageFile
        The image, with what the file holds beside the pixels.

    Raises
    ------
    UnreadableFileError
        If what the file declares is refused; the decoder may raise anything else.
    """
    jpeg = stream.read()
    check_scans(jpeg)
    with without_warnings():
        image = jpeg_factory(BytesIO(jpeg))
    with image as opened:
        if math.prod(opened.size) > _PIXELS_PER_BYTE * len(jpeg):
            raise UnreadableFileError(
                f"it declares {opened.width} x {opened.height} pixels, "
                f"more than {len(jpeg)} bytes of JPEG can be"
            )
        load(opened, itemsize=1)
        if opened.mode not in ("L", "RGB", "CMYK"):
            raise UnreadableFileError(
                f"pixels of the kind {opened.mode} are not supported; "
                "convert the picture to RGB or grey first"
            )
        turned = orientation(opened)
        unit = ("", *_UNITS)[opened.info.get("jfif_unit", 0) % 3]
        x, y = opened.info.get("jfif_density", (1, 1))
        resolution = Resolution.of(x, y, unit)
        metadata = beside(opened.info, resolution, turned)
        if opened.info.get("comment"):
            metadata["comment"] = opened.info["comment"]
        is_of_inks = opened.mode == "CMYK"
        if is_of_inks:
            metadata["inks"] = True
        pixels = upright(np.array(opened), turned)
        coding = JpegCoding.of(opened) if turned == 1 and not is_of_inks else None
        remarks = _of_artefacts(opened, turned) if coding is None and not is_of_inks else ()
    return replace(split(pixels, False, metadata), jpeg=coding, remarks=remarks)


def _of_artefacts(opened: Any, turned: int) -> tuple[str, ...]:
    """Return a remark about a poor JPEG whose artefacts will stay, and why."""
    quality = jpeg_quality(opened.quantization)
    if quality is None or quality > POOR_JPEG:
        return ()
    cause = "its components, or how they are sampled, are unusual"
    if turned != 1:
        cause = "EXIF turns it; of one that is turned without loss, as by jpegtran, they can"
    return (f"JPEG of quality {quality} whose artefacts cannot be taken out: {cause}",)


def write(stream: BinaryIO, pixels: np.ndarray[Any, Any], like: ImageFile) -> list[str]:
    """Write an image as a JPEG.

    Parameters
    ----------
    stream
        Where to write.
    pixels
        Array (H, W) or (H, W, samples); if ``like`` has opacity, it is the last sample.
    like
        The image, with what is to be written beside the pixels.

    Returns
    -------
    list of str
        What could not be kept, in words.
    """
    lost: list[str] = []
    options: dict[str, Any] = {
        key: like.metadata[key] for key in ("icc_profile", "comment") if key in like.metadata
    }
    size = (pixels.shape[0], pixels.shape[1])
    # A JPEG of inks has no JFIF, where the resolution is otherwise.
    is_of_inks = bool(like.metadata.get("inks"))
    exif = b""
    if is_of_inks:
        exif = exif_with_resolution(like, size, lost)
    elif "exif" in like.metadata:
        exif = like.metadata["exif"].sized(*size).data
    if exif:
        exif = b"Exif\0\0" + exif
        if len(exif) > _LONGEST:
            lost.append("EXIF, which is too long for JPEG")
        else:
            options["exif"] = exif
    buffer = BytesIO()
    if is_of_inks:
        image = Image.frombytes("CMYK", size[::-1], pixels.tobytes())
    else:
        image = Image.fromarray(pixels)
    image.save(buffer, "JPEG", quality=95, subsampling=0, **options)
    jpeg = buffer.getbuffer()
    resolution = like.metadata.get("resolution")
    if resolution is not None and not is_of_inks:
        density = _density(resolution)
        if density is None:
            lost.append("resolution")
        else:
            jpeg[_DENSITY : _DENSITY + 5] = density
    stream.write(jpeg)
    return lost


def _density(resolution: Resolution) -> bytes | None:
    """Return unit and density as JFIF has them, None if its whole numbers cannot say them."""
    # The unit of the resolution itself is tried first.
    for unit in sorted(_UNITS, key=lambda unit: unit != resolution.unit):
        converted = resolution.to(unit)
        if converted is None:
            continue
        density = converted.in_whole_numbers(_GREATEST)
        if density is not None:
            return struct.pack(">BHH", _UNITS.get(converted.unit, 0), *density)
    return None
