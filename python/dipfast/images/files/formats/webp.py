"""WebP with samples of 8 bits, written without loss."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from PIL import Image

from dipfast.errors import UnreadableFileError
from dipfast.images.files import limits
from dipfast.images.files.formats._exif_blocks import exif_with_resolution
from dipfast.images.files.formats._pillow import beside, grey_if_equal, orientation_of
from dipfast.images.files.image_file import ImageFile
from dipfast.images.files.pixels import split, upright

__all__ = ["read", "write"]

_Array = np.ndarray[Any, Any]

# Chunks: what the file is made of, its pixels, and what is kept beside them.
_EXTENDED, _LOSSY, _LOSSLESS = b"VP8X", b"VP8 ", b"VP8L"
_BESIDE = {b"ICCP": "icc_profile", b"EXIF": "exif"}
_ANIMATED = 0x02
# Where the length of what follows it is, and where the first chunk is.
_LENGTH, _HEAD = 4, 12


def read(stream: BinaryIO) -> ImageFile:
    """Read the one image of a WebP.

    WebP has no grey: a picture whose three channels are equal everywhere is grey, unless it has a
    colour profile.

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
    info: dict[str, bytes] = {}
    size: tuple[int, int] | None = None
    for name, start, length in _chunks(stream):
        stream.seek(start)
        if name in (_EXTENDED, _LOSSY, _LOSSLESS) and size is None:
            size = _size(name, stream.read(10))
        elif name in _BESIDE:
            info.setdefault(_BESIDE[name], stream.read(length))
    if size is None:
        raise UnreadableFileError("it holds no pixels, or the end is missing")
    limits.check_size(*size, 4, 1)
    stream.seek(0)
    pixels = imagecodecs.webp_decode(stream.read())
    if pixels.shape[1::-1] != size:
        raise UnreadableFileError("its pixels have another size than it declares")
    opacity = pixels.shape[-1] == 4
    if "icc_profile" not in info:
        pixels = grey_if_equal(pixels)
    turned = orientation_of(info.get("exif", b""))
    return split(upright(pixels, turned), opacity, beside(info, None, turned))


def _chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Walk through the names, places and lengths of the chunks of a WebP.

    What is behind the picture, such as a film, is not looked at.
    """
    stream.seek(_LENGTH)
    (length,) = limits.unpack(stream, "<I")
    end = _LENGTH + 4 + length
    if end > stream.seek(0, os.SEEK_END):
        raise UnreadableFileError("the end is missing")
    place = _HEAD
    while place + 8 <= end:
        stream.seek(place)
        name, length = limits.unpack(stream, "<4sI")
        if place + 8 + length > end:
            raise UnreadableFileError("the end is missing")
        yield name, place + 8, length
        place += 8 + length + length % 2


def _size(name: bytes, head: bytes) -> tuple[int, int]:
    """Return width and height that the first chunk of a WebP declares."""
    if len(head) < (5 if name == _LOSSLESS else 10):
        raise UnreadableFileError("the end is missing")
    if name == _EXTENDED:
        if head[0] & _ANIMATED:
            raise UnreadableFileError(
                "it holds an animation, expected one image; write one of its images to a file "
                "of its own"
            )
        return (
            int.from_bytes(head[4:7], "little") + 1,
            int.from_bytes(head[7:10], "little") + 1,
        )
    if name == _LOSSY:
        width, height = (int.from_bytes(head[at : at + 2], "little") for at in (6, 8))
        return width & 0x3FFF, height & 0x3FFF
    bits = int.from_bytes(head[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def write(stream: BinaryIO, pixels: _Array, like: ImageFile) -> list[str]:
    """Write an image as a WebP without loss.

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
    options: dict[str, Any] = {}
    profile = like.metadata.get("icc_profile", b"")
    if profile[16:20] == b"GRAY":
        lost.append("colour profile, which is one of grey")
    elif profile:
        options["icc_profile"] = profile
    exif = exif_with_resolution(like, (pixels.shape[0], pixels.shape[1]), lost)
    if exif:
        options["exif"] = exif
    buffer = BytesIO()
    # Without `exact`, colours that are fully clear would become black.
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, exact=True, **options)
    stream.write(buffer.getbuffer())
    return lost
