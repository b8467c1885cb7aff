"""PNG with samples of 8 and 16 bits."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from PIL.PngImagePlugin import PngImageFile

from dipfast.errors import UnreadableFileError
from dipfast.images.files.formats._pillow import beside, load, orientation
from dipfast.images.files.formats._png_chunks import check_pixels, chunks
from dipfast.images.files.image_file import ImageFile, Resolution
from dipfast.images.files.pixels import split, stretched, upright

__all__ = ["Chunks", "read", "write"]

_Array = np.ndarray[Any, Any]

# Names of chunks: meaning of the numbers as colours, size of what the picture shows, texts.
_COLOURS = (b"cHRM", b"gAMA", b"sRGB", b"cICP", b"mDCV", b"cLLI")
_SCALE = b"sCAL"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# Beginnings of texts that are not kept, because they say something about the old pixels.
_OF_PIXELS = (b"XML:com.adobe.xmp", b"Raw profile type", b"Thumb::")
# The text in which ImageMagick and others wrote EXIF before there was a chunk for it.
_OLD_EXIF = "Raw profile type exif"
# Values of chunk gAMA that mean the gamma of sRGB, which is assumed where nothing is said.
_USUAL_GAMMA = range(43_000, 48_000)
_GREATEST = 2**31 - 1
_END_OF_HEADER = 8 + 25  # signature and IHDR


@dataclass(frozen=True)
class Chunks:
    """Chunks of a PNG that are kept as they are.

    Attributes
    ----------
    values
        Names and contents.
    lost
        What could not be kept, in words.
    """

    values: tuple[tuple[bytes, bytes], ...]
    lost: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return what of the chunks another format would lack, in words."""
        values = dict(self.values)
        gamma = int.from_bytes(values.get(b"gAMA", b""), "big")
        unusual = b"cICP" in values or (gamma and gamma not in _USUAL_GAMMA)
        names = ("colour space",) if unusual and b"sRGB" not in values else ()
        return (*names, "physical scale") if _SCALE in values else names

    def enlarged(self, factor: int) -> Chunks:
        """Return the chunks of the image with ``factor`` times the rows and columns."""
        values, lost = [], list(self.lost)
        for name, data in self.values:
            if name == _SCALE:
                try:
                    # The content is a byte for the unit, and width and height of a pixel as text.
                    sizes = [float(size) / factor for size in data[1:].split(b"\0")]
                    data = data[:1] + b"\0".join(repr(size).encode() for size in sizes)
                except ValueError:
                    lost.append("physical scale")
                    continue
            values.append((name, data))
        return Chunks(tuple(values), tuple(lost))


def read(stream: BinaryIO) -> ImageFile:
    """Read the one image of a PNG.

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
    head = stream.read(_END_OF_HEADER)
    stream.seek(0)
    # Image.open of Pillow is avoided, because it has a limit of the size for the whole process.
    with PngImageFile(stream) as opened:
        if opened.size != struct.unpack(">II", head[16:24]):
            raise UnreadableFileError("it does not begin with its size")
        depth = head[24]
        load(opened, itemsize=2 if depth == 16 else 1)
        turned = orientation(opened)
        if depth == 16:
            # Pillow would cut pixels to 8 bits, so it is used for the metadata only.
            stream.seek(0)
            pixels = imagecodecs.png_decode(stream.read())
        else:
            pixels = _decoded(opened, depth)
            check_pixels(stream)
        resolution, chunks = _kept(stream)
        metadata = beside(_with_exif(opened.info), resolution, turned)
    if chunks.values:
        metadata["png"] = chunks
    opacity = pixels.ndim == 3 and pixels.shape[-1] in (2, 4)
    return split(upright(pixels, turned), opacity, metadata)


def _decoded(opened: PngImageFile, depth: int) -> _Array:
    """Return the pixels of a PNG of up to 8 bits as brightness or RGB, with opacity."""
    image: Any = opened
    if image.mode == "1":
        image = image.convert("L")
    if image.mode in ("P", "L", "RGB") and "transparency" in image.info:
        if image.mode == "L":
            # Pillow stretches pixels of fewer bits to 8, but not always the transparent value.
            stretched = image.info["transparency"] * (255 // (2**depth - 1))
            image.info["transparency"] = min(stretched, 255)
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    elif image.mode == "P":
        image = image.convert("RGB")
    elif image.mode not in ("L", "LA", "RGB", "RGBA"):
        raise UnreadableFileError(f"pixels of the kind {image.mode} are not supported")
    return np.array(image)


def _with_exif(info: dict[Any, Any]) -> dict[Any, Any]:
    """Return what Pillow found, with EXIF that is in a text where it is in no chunk.

    Pillow itself takes the orientation from there.
    """
    if "exif" in info or not info.get(_OLD_EXIF):
        return info
    # The first lines are empty, the name and the length.
    text = str(info[_OLD_EXIF])
    try:
        exif = bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        exif = b""
    # What is no EXIF is named as damaged.
    return {**info, "exif": exif or text.encode()}


def _kept(stream: BinaryIO) -> tuple[Resolution | None, Chunks]:
    """Return what of the chunks of a PNG is to be kept and Pillow does not keep."""
    resolution, kept = None, []
    for name, length in chunks(stream):
        if name == b"pHYs" and length == 9:
            x, y, unit = struct.unpack(">IIB", stream.read(9))
            resolution = Resolution.of(x, y, "m" if unit == 1 else "")
        elif name in (*_COLOURS, _SCALE) or name in _TEXTS:
            data = stream.read(length)
            if name not in _TEXTS or not data.startswith(_OF_PIXELS):
                kept.append((name, data))
    return resolution, Chunks(tuple(kept))


def write(stream: BinaryIO, pixels: _Array, like: ImageFile) -> list[str]:
    """Write an image as a PNG.

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
    bits = like.metadata.get("bits", 16)
    if pixels.dtype == np.uint16 and bits < 16:
        pixels = stretched(pixels, bits)
    png = imagecodecs.png_encode(pixels)
    stream.write(png[:_END_OF_HEADER])
    for name, data in _chunks(like, pixels.shape, lost):
        check = zlib.crc32(name + data)
        stream.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", check))
    stream.write(memoryview(png)[_END_OF_HEADER:])
    return lost


def _chunks(
    like: ImageFile, shape: tuple[int, ...], lost: list[str]
) -> Iterator[tuple[bytes, bytes]]:
    """Walk through names and contents of the chunks to write before the pixels."""
    metadata = like.metadata
    if "icc_profile" in metadata:
        yield b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata["icc_profile"])
    if "png" in metadata:
        yield from metadata["png"].values
    resolution = metadata.get("resolution")
    if resolution is not None:
        metric = resolution.to("m")
        sizes = None if metric is None else metric.in_whole_numbers(_GREATEST)
        if metric is None or sizes is None:
            lost.append("resolution")
        else:
            yield b"pHYs", struct.pack(">IIB", *sizes, metric.unit == "m")
    if "exif" in metadata:
        yield b"eXIf", metadata["exif"].sized(*shape[:2]).data
