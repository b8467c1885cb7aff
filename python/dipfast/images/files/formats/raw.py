"""Raw photographs of cameras, developed to numbers that are proportional to light."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import rawpy

from dipfast.errors import UnreadableFileError, UnwritableFileError
from dipfast.images.files import limits
from dipfast.images.files.formats._exif import (
    DIRECTORIES,
    MAKER_NOTE,
    TEXTS,
    Exif,
    directory,
    pack,
)
from dipfast.images.files.formats._linear_profile import LINEAR_GREY, LINEAR_SRGB
from dipfast.images.files.image_file import ImageFile
from dipfast.images.files.pixels import ORIENTATION

__all__ = ["read", "write"]

# Blocks of data that only mean something at their place in the file, and may be longer than the
# picture: notes of the maker, and a copy of them.
_OF_THE_PLACE = (MAKER_NOTE, 0xC634)
_EXIF = 0x8769
# The colours that a pixel has while it is developed, of 16 bits each.
_COLOURS, _ITEMSIZE = 4, 2


def read(stream: BinaryIO) -> ImageFile:
    """Develop a raw photograph.

    The numbers are proportional to light, 65535 is where the brightest pixel of the sensor ends,
    and 0 is black: so noise is what photons and the sensor make of it, spread over neighbours by
    the interpolation of colours.  Colours have the primaries of sRGB and the white balance of the
    camera, and the picture is upright.  A colour profile says all that, and viewers that heed it
    show the picture as it should look.

    Parameters
    ----------
    stream
        The file, at its beginning.

    Returns
    -------
    ImageFile
        The image of three channels, or of one if the sensor sees no colours, in uint16.

    Raises
    ------
    UnreadableFileError
        If what the file declares is refused; the decoder may raise anything else.
    """
    content = stream.read()
    try:
        pixels = _developed(content)
    except rawpy.LibRawFileUnsupportedError as error:
        raise UnreadableFileError(
            "LibRaw does not know it as a raw photograph; if it is a TIFF, give its name the "
            "ending .tif"
        ) from error
    except rawpy.LibRawError as error:
        reason = error.args[0] if error.args else type(error).__name__
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        raise UnreadableFileError(f"LibRaw cannot develop it: {reason}") from error
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    grey = pixels.ndim == 2
    metadata: dict[str, Any] = {"icc_profile": LINEAR_GREY if grey else LINEAR_SRGB}
    try:
        exif = _exif(content)
    except (ValueError, OverflowError, struct.error):
        exif = None
    if exif is None:
        metadata["lost"] = ("EXIF",)
    else:
        metadata["exif"] = exif
    return ImageFile(np.ascontiguousarray(pixels), None if grey else 2, None, metadata)


def _developed(content: bytes) -> np.ndarray[Any, Any]:
    """Return the pixels (H, W, channels) of a raw photograph, whose size is checked before."""
    with rawpy.imread(BytesIO(content)) as raw:
        sizes = raw.sizes
        width, height = max(sizes.raw_width, sizes.iwidth), max(sizes.raw_height, sizes.iheight)
        limits.check_size(width, height, _COLOURS, _ITEMSIZE)
        pixels: np.ndarray[Any, Any] = raw.postprocess(
            output_bps=16,
            output_color=rawpy.ColorSpace.sRGB,
            gamma=(1, 1),
            no_auto_bright=True,
            # The scale is that of the sensor, not that of the brightest pixel.
            adjust_maximum_thr=0.0,
            use_camera_wb=True,
        )
    return pixels


def _exif(content: bytes) -> Exif | None:
    """Return EXIF of a raw photograph that is made as TIFF is, None if it is another one."""
    if content[:2] not in (b"II", b"MM"):
        return None
    order = "<" if content.startswith(b"II") else ">"
    (first,) = struct.unpack_from(f"{order}I", content, 4)
    stream = BytesIO(content)
    found = directory(stream, order, False, first, ())
    kept: dict[int, tuple[int, Any]] = {code: found[code] for code in TEXTS if code in found}
    for code in DIRECTORIES:
        if code in found:
            place = int.from_bytes(found[code][1], "little" if order == "<" else "big")
            inner = dict(directory(stream, order, False, place, ()))
            for unfit in _OF_THE_PLACE:
                inner.pop(unfit, None)
            kept[code] = 4, inner
    if not kept:
        return None
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
    # LibRaw has turned the pixels as this tag asks.
    _, turn = found.get(ORIENTATION, (0, b""))
    orientation = int.from_bytes(turn, "little" if order == "<" else "big")
    return Exif.read(head + pack(order, kept, 8), orientation if orientation in range(1, 9) else 1)


def write(stream: BinaryIO, pixels: np.ndarray[Any, Any], like: ImageFile) -> list[str]:
    """Refuse to write, as a result is no raw photograph.

    Parameters
    ----------
    stream, pixels, like
        As for other formats.

    Raises
    ------
    UnwritableFileError
        Always.
    """
    raise UnwritableFileError("raw photographs are only read; write TIFF or PNG")
