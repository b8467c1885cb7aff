"""BMP with samples of 8 bits, grey or RGB."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile

from dipfast.errors import UnreadableFileError
from dipfast.images.files import limits
from dipfast.images.files.formats._numbers import not_kept
from dipfast.images.files.formats._pillow import load
from dipfast.images.files.image_file import ImageFile, Resolution
from dipfast.images.files.pixels import split

__all__ = ["read", "write"]

# Where the length of the second header is, and the pixels per metre, which headers of OS/2 lack.
_LENGTH, _DENSITY = 14, 38
_LEAST_LENGTH = 40
_GREATEST = 2**31 - 1


def read(stream: BinaryIO) -> ImageFile:
    """Read the one image of a BMP.

    Parameters
    ----------
    stream
        The file, at its beginning.

    Returns
    -------
    ImageFile
        The image, with its resolution.

    Raises
    ------
    UnreadableFileError
        If what the file declares is refused; the decoder may raise anything else.
    """
    resolution = _resolution(stream)
    # Image.open of Pillow is avoided, because it has a limit of the size for the whole process.
    with BmpImageFile(stream) as opened:
        load(opened, itemsize=1)
        image: Any = opened
        if image.mode in ("1", "P"):
            image = image.convert("L" if image.mode == "1" else "RGB")
        if image.mode not in ("L", "RGB", "RGBA"):
            raise UnreadableFileError(
                f"pixels of the kind {image.mode} are not supported; "
                "convert the picture to RGB or grey first"
            )
        pixels = np.array(image)
    metadata = {} if resolution is None else {"resolution": resolution}
    return split(pixels, image.mode == "RGBA", metadata)


def _resolution(stream: BinaryIO) -> Resolution | None:
    """Return the resolution that the header declares, and go back to the beginning."""
    stream.seek(_LENGTH)
    (length,) = limits.unpack(stream, "<I")
    density = (0, 0)
    if length >= _LEAST_LENGTH:
        stream.seek(_DENSITY)
        density = limits.unpack(stream, "<ii")
    stream.seek(0)
    return Resolution.of(*density, "m")


def write(stream: BinaryIO, pixels: np.ndarray[Any, Any], like: ImageFile) -> list[str]:
    """Write an image as a BMP.

    Parameters
    ----------
    stream
        Where to write.
    pixels
        Array (H, W) or (H, W, 3).
    like
        The image, with what is to be written beside the pixels.

    Returns
    -------
    list of str
        What could not be kept, in words.
    """
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    bmp = buffer.getbuffer()
    lost = not_kept(like)
    resolution = like.metadata.get("resolution")
    metric = None if resolution is None else resolution.to("m")
    density = None if metric is None else metric.in_whole_numbers(_GREATEST)
    if metric is not None and metric.unit == "m" and density is not None:
        struct.pack_into("<ii", bmp, _DENSITY, *density)
        lost.remove("resolution")
    else:
        # Pillow would declare 96 pixels per inch.
        struct.pack_into("<ii", bmp, _DENSITY, 0, 0)
    stream.write(bmp)
    return lost
