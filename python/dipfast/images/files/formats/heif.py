"""HEIC of 8, 10 and 12 bits, written without loss."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import pillow_heif

from dipfast.errors import UnreadableFileError
from dipfast.images.files import limits
from dipfast.images.files.formats._exif_blocks import exif_with_resolution
from dipfast.images.files.formats._heif_colours import lost_colours
from dipfast.images.files.formats._heif_depths import cut
from dipfast.images.files.formats._pillow import beside, grey_if_equal, orientation_of
from dipfast.images.files.image_file import ImageFile
from dipfast.images.files.pixels import split, straight, stretched

__all__ = ["read", "write"]

_Array = np.ndarray[Any, Any]

# Samples of a pixel, by what pillow-heif calls its kind before a semicolon and the bits.
_SAMPLES = {"L": 1, "LA": 2, "La": 2, "RGB": 3, "RGBA": 4, "RGBa": 4, "I": 1}
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_DEEP_MODES = {1: "I;{}", 3: "RGB;{}"}
_DEPTHS = (8, 10, 12)
# Numbers of sRGB in H.273, and of the matrix that changes nothing.
_SRGB = {"color_primaries": 1, "transfer_characteristics": 13, "matrix_coefficients": 0}


def read(stream: BinaryIO) -> ImageFile:
    """Read the one image of a HEIC.

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
    if b"avif" in content[8 : int.from_bytes(content[:4], "big")][:64]:
        raise UnreadableFileError(
            "it is an AVIF that says so in second place only; write it again as AVIF or PNG"
        )
    opened = pillow_heif.open_heif(BytesIO(content), convert_hdr_to_8bit=False, hdr_to_16bit=False)
    if len(opened) != 1:
        raise UnreadableFileError(
            f"it holds {len(opened)} images, expected one; write one of them to a file of its own"
        )
    width, height = opened.size
    limits.check_size(width, height, 4, 2)
    info, kind = opened.info, opened.mode.partition(";")[0]
    bits = info["bit_depth"]
    if kind not in _SAMPLES or bits not in _DEPTHS:
        raise UnreadableFileError(
            f"pixels of the kind {opened.mode}, {bits} bits, are not supported"
        )
    # The decoder has turned the pixels already as HEIC asks; what EXIF asks is the same.
    exif = info.get("exif") or b""
    metadata = beside({**info, "exif": exif}, None, orientation_of(exif))
    profile = info.get("nclx_profile")
    if "icc_profile" not in metadata and profile:
        lost = lost_colours(profile["color_primaries"], profile["transfer_characteristics"])
        if lost:
            metadata["lost"] = (*metadata.get("lost", ()), *lost)
    pixels = np.array(opened)
    if pixels.shape[:2] != opened.size[::-1]:
        raise UnreadableFileError("its pixels have another size than it declares")
    opacity = kind[-1] in "Aa"
    if bits > 8 and opacity:
        pixels = stretched(pixels, bits)
    elif bits > 8:
        metadata["bits"] = bits
    if opacity and "icc_profile" not in metadata:
        # HEIC has no grey with opacity.
        pixels = grey_if_equal(pixels)
    image = split(pixels, opacity, metadata)
    if kind[-1] == "a":
        assert image.alpha is not None
        image = replace(image, image=straight(image.image, image.alpha))
    return image


def write(stream: BinaryIO, pixels: _Array, like: ImageFile) -> list[str]:
    """Write an image as a HEIC without loss.

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
    height, width = pixels.shape[:2]
    samples = 1 if pixels.ndim == 2 else pixels.shape[2]
    profile = like.metadata.get("icc_profile", b"")
    if samples == 2 and profile[16:20] == b"GRAY":
        lost.append("colour profile, which is one of grey")
        profile = b""
    bits, pixels = cut(pixels, like)
    mode = _MODES[samples] if bits == 8 else _DEEP_MODES[samples].format(bits)
    image = pillow_heif.from_bytes(mode, (width, height), pixels.tobytes())
    options: dict[str, Any] = dict(_SRGB)
    if profile:
        image.info.update(icc_profile=profile, icc_profile_type="prof")
        options = {"matrix_coefficients": options["matrix_coefficients"]}
    exif = exif_with_resolution(like, (height, width), lost)
    buffer = BytesIO()
    image.save(buffer, quality=-1, chroma=444, bit_depth=bits, exif=exif or None, **options)
    stream.write(buffer.getbuffer())
    return lost
