"""AVIF of 8, 10 and 12 bits, written without loss."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from PIL import features

from dipfast.errors import MissingExtraError, UnreadableFileError
from dipfast.images.files import limits
from dipfast.images.files.formats._avif_boxes import with_beside
from dipfast.images.files.formats._exif_blocks import exif_with_resolution
from dipfast.images.files.formats._heif_colours import lost_colours
from dipfast.images.files.formats._heif_depths import cut
from dipfast.images.files.formats._pillow import beside, orientation
from dipfast.images.files.image_file import ImageFile
from dipfast.images.files.pixels import split, stretched, upright
from dipfast.warn import without_warnings

__all__ = ["read", "write"]

_Array = np.ndarray[Any, Any]

_LOSSLESS = 100
# Numbers of sRGB in H.273.
_SRGB_PRIMARIES, _SRGB_TRANSFER = 1, 13

_NEEDED = (
    "AVIF files need Pillow 11.3 or newer and imagecodecs, built with AVIF: "
    "pip install --upgrade pillow imagecodecs"
)

try:
    from PIL.AvifImagePlugin import AvifImageFile
except ImportError as error:
    raise MissingExtraError(_NEEDED) from error
if not (imagecodecs.AVIF.available and features.check("avif")):
    raise MissingExtraError(_NEEDED)

# Before that imagecodecs does not say which colours they are, which readers take for sRGB then; it
# is the newest for Python 3.10.
_NAMES_COLOURS = tuple(map(int, imagecodecs.__version__.split(".")[:2])) >= (2025, 11)


def read(stream: BinaryIO) -> ImageFile:
    """Read the one image of an AVIF.

    Parameters
    ----------
    stream
        The file, at its beginning.

    Returns
    -------
    ImageFile
        The image, with what the file holds beside the pixels.  Samples of 10 and 12 bits are
        numbers as they are in the file, in uint16; with opacity they fill 16 bits.

    Raises
    ------
    UnreadableFileError
        If what the file declares is refused; the decoder may raise anything else.
    """
    content = stream.read()
    stream.seek(0)
    # Pillow reads what is beside the pixels, and would cut these to 8 bits.
    with without_warnings(), AvifImageFile(stream) as opened:
        width, height = opened.size
        limits.check_size(width, height, 4, 2)
        if opened.n_frames > 1:
            raise UnreadableFileError(
                f"it holds {opened.n_frames} images, expected one; write one of them to a file "
                "of its own"
            )
        opacity = opened.mode == "RGBA"
        turned = orientation(opened)
        metadata = beside(opened.info, None, turned)
    if "icc_profile" not in metadata and (lost := _lost_colours(content)):
        metadata["lost"] = (*metadata.get("lost", ()), *lost)
    bits, pixels = _decoded(content)
    samples = 1 if pixels.ndim == 2 else pixels.shape[-1]
    if pixels.shape[:2] != (height, width) or opacity != (samples in (2, 4)):
        raise UnreadableFileError("its pixels differ from what it declares")
    if bits > 8 and opacity:
        pixels = stretched(pixels, bits)
    elif bits > 8:
        metadata["bits"] = bits
    return split(upright(pixels, turned), opacity, metadata)


def _decoded(content: bytes) -> tuple[int, _Array]:
    """Return bits per sample, and the pixels."""
    pixels = imagecodecs.avif_decode(content, index=0)
    if pixels.dtype == np.uint8:
        return 8, pixels
    # The first property of the codec says the depth: 8 bits, or more, which are 10 or 12.
    at = content.find(b"av1C")
    twelve = at > 0 and bool(content[at + 6 : at + 7] and content[at + 6] & 0x20)
    return 12 if twelve or pixels.max() > 1023 else 10, pixels


def _lost_colours(content: bytes) -> tuple[str, ...]:
    """Return what is lost of colours that are given by numbers, in words."""
    at = content.find(b"colrnclx")
    if at < 0 or len(content) < at + 12:
        return ()
    return lost_colours(*struct.unpack_from(">HH", content, at + 8))


def write(stream: BinaryIO, pixels: _Array, like: ImageFile) -> list[str]:
    """Write an image as an AVIF without loss.

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
    profile = like.metadata.get("icc_profile", b"")
    exif = exif_with_resolution(like, (pixels.shape[0], pixels.shape[1]), lost)
    # Colours go through no matrix, which would round them.
    colours: dict[str, Any] = {}
    if _NAMES_COLOURS and not profile:
        colours = {"primaries": _SRGB_PRIMARIES, "transfer": _SRGB_TRANSFER}
    bits, pixels = cut(pixels, like)
    avif = bytes(imagecodecs.avif_encode(pixels, level=_LOSSLESS, bitspersample=bits, **colours))
    if profile or exif:
        avif = with_beside(avif, profile, exif)
    stream.write(avif)
    return lost
