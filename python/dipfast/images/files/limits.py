"""What an image file declares, looked at before anything of it is decoded.

A file of a few bytes can declare any number of pixels, in any number of passes, pages and tags.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple
from xml.parsers import expat

import psutil

from dipfast.errors import InputError

__all__ = [
    "JPEG_PIXELS_PER_BYTE",
    "LARGEST_IMAGE",
    "TIFF_SIZES",
    "Element",
    "are_channels",
    "check_directories",
    "check_png",
    "check_scans",
    "check_size",
    "check_tiff",
    "png_chunks",
    "read_directory",
    "readable_size",
    "tag_places",
    "xml_elements",
]

LARGEST_IMAGE = 2**31
"""Bytes of decoded pixels that :func:`read_image` reads at most: 20000x20000 pixels of 8-bit
colour, 16-bit grey or float32 grey fit.  Small files can decode to any size."""

# With Pillow that many copies are there at the same time at most.
_COPIES = 5
# A progressive JPEG of a few bytes can ask for any number of passes over all pixels; encoders
# make ten.
_MOST_SCANS = 100
# What one byte of a JPEG can be decoded to: 512, as a block of 64 takes a bit at least.
JPEG_PIXELS_PER_BYTE = 1024
# Of a TIFF: pages, and the numbers that one tag holds (text and bytes apart).
_MOST_DIRECTORIES = 4096
_MOST_NUMBERS = 2**20
TIFF_SIZES = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
}
"""Bytes of the types of the tags of TIFF."""

# Two of the tags: other directories, and planes of MetaMorph.
_SUB_IFDS, _UIC2 = 330, 33629
_ADAM7 = (
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
    *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
)
# Bytes to decompress at a time; they become a thousand times as many at most.
_PIECE = 4096
# TIFF compressions that decode to no more than they are asked for, and those with a header of
# their own, that may say something else than the file.
_BOUNDED = (1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 34926, 50000)
# Of a text in XML: bytes, the elements that are looked at, and a tag.
_LARGEST_XML = 2**26
_MOST_ELEMENTS = 2**16
_XML_TAG = re.compile(rb"<[^\"'>]*(?:\"[^\"]*\"[^\"'>]*|'[^']*'[^\"'>]*)*>")
_JPEG, _JPEG2000 = (6, 7, 33007, 34892), (33003, 33004, 33005, 34712)


def check_size(width: int, height: int, channels: int, itemsize: int) -> None:
    """Whether so many pixels can be decoded, within the limit and within memory."""
    declared = f"it declares {width} x {height} pixels"
    if width < 1 or height < 1:
        raise InputError(f"{declared}, expected 1 x 1 at least")
    size = width * height * channels * itemsize
    declared += f" of {channels * itemsize} bytes, {readable_size(size)}"
    if size > LARGEST_IMAGE:
        raise InputError(f"{declared}, expected {readable_size(LARGEST_IMAGE)} at most")
    held = psutil.virtual_memory().available // _COPIES
    if size > held:
        raise InputError(
            f"{declared}, expected the {readable_size(held)} at most that memory holds"
        )


def readable_size(size: int) -> str:
    """Bytes in GiB."""
    return f"{size / 2**30:.3g} GiB"


def check_png(stream: BinaryIO) -> None:
    """Whether all pixels of a PNG are there: Pillow takes those that are missing for black."""
    stream.seek(16)
    width, height, depth, kind, _, _, interlaced = _unpack(stream, ">IIBBBBB")
    bits = depth * {2: 3, 4: 2, 6: 4}.get(kind, 1)
    # First row and column, and steps, of each pass.
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(height - y) // dy), -(-(width - x) // dx)) for y, x, dy, dx in passes]
    missing = sum(rows * (1 + -(-columns * bits // 8)) for rows, columns in sizes if columns > 0)
    inflate = zlib.decompressobj()
    for name, length in png_chunks(stream):
        if name != b"IDAT":
            continue
        while missing > 0 and length > 0:
            piece = stream.read(min(_PIECE, length))
            if not piece:
                raise InputError("the end is missing")
            length -= len(piece)
            missing -= len(inflate.decompress(piece))
        if missing <= 0:
            return
        if inflate.eof:
            break
    raise InputError("some of its pixels are missing")


def png_chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Walk through the chunks of a PNG: their names and lengths, the stream at their content."""
    at = 8
    name = b""
    while name != b"IEND":
        stream.seek(at)
        length, name = _unpack(stream, ">I4s")
        at += 12 + length
        yield name, length


def check_scans(jpeg: bytes) -> None:
    """Whether a JPEG asks for a number of passes that encoders make."""
    scans = jpeg.count(b"\xff\xda")
    if scans > _MOST_SCANS:
        raise InputError(f"it is a JPEG of {scans} scans, expected {_MOST_SCANS} at most")


def check_directories(stream: BinaryIO, size: int) -> None:
    """Walk through all directories of a TIFF: whether that ends, and their tags are believable.

    tifffile follows them wherever they lead, and reads what they say that there is.
    """
    order, big, first = _header(stream)
    pointer = "Q" if big else "I"
    # Offsets, and whether another directory may follow: that of a SubIFD has no meaning.
    pending = [(first, True)]
    seen: set[int] = set()
    declared = 0
    while pending:
        offset, in_chain = pending.pop()
        if offset == 0 or offset >= size:
            continue  # the end, for tifffile too
        if offset in seen:
            raise InputError("its directories go round in a circle")
        if len(seen) == _MOST_DIRECTORIES:
            raise InputError(f"it holds more than {_MOST_DIRECTORIES} directories")
        seen.add(offset)
        tags = read_directory(stream, order, big, offset)
        if in_chain:
            pending.append((_unpack(stream, f"{order}{pointer}")[0], True))
        for code, kind, number, value in tags:
            declared += 8 + number * TIFF_SIZES.get(kind, 0)
            if number > _MOST_NUMBERS and kind not in (1, 2, 7):  # bytes, text, undefined
                raise InputError(
                    f"tag {code} declares {number} numbers, expected {_MOST_NUMBERS} at most"
                )
            if code == _UIC2 and number > 1:
                raise InputError(f"it holds a stack of {number} images, expected one image")
            if code == _SUB_IFDS:
                for sub in _numbers(stream, order, kind, number, value):
                    pending.append((sub, False))
        # Each byte of a file has one meaning, but for a few that tags may share.
        if declared > 2 * size + 2**16:
            raise InputError(f"its tags declare {declared} bytes, but the file has {size}")


def _header(stream: BinaryIO) -> tuple[str, bool, int]:
    """The order of bytes of a TIFF, whether it is a BigTIFF, and where its first directory is."""
    stream.seek(0)
    head = stream.read(16)
    order = "<" if head.startswith(b"II") else ">"
    big = b"+" in head[2:4]
    (first,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    return order, big, first


def tag_places(stream: BinaryIO) -> dict[int, int]:
    """Return where the values are, or where they are said to be, of the tags of the first page."""
    order, big, first = _header(stream)
    start, step, within = (8, 20, 12) if big else (2, 12, 8)
    tags = read_directory(stream, order, big, first)
    return {code: first + start + step * index + within for index, (code, *_) in enumerate(tags)}


def read_directory(
    stream: BinaryIO, order: str, big: bool, offset: int
) -> list[tuple[int, int, int, bytes]]:
    """Read the tags of the directory of a TIFF or EXIF at ``offset``.

    A tag is its code, its type, the number of its values, and these or the place where they are.
    The stream is left where the offset of the next directory follows.
    """
    counter, entry = ("Q", "HHQ8s") if big else ("H", "HHI4s")
    stream.seek(offset)
    (count,) = _unpack(stream, f"{order}{counter}")
    if count > _MOST_DIRECTORIES:
        raise InputError(f"a directory of {count} tags, expected {_MOST_DIRECTORIES} at most")
    return [_unpack(stream, f"{order}{entry}") for _ in range(count)]


def _unpack(stream: BinaryIO, form: str) -> tuple[Any, ...]:
    data = stream.read(struct.calcsize(form))
    if len(data) < struct.calcsize(form):
        raise InputError("the end is missing")
    return struct.unpack(form, data)


def _numbers(stream: BinaryIO, order: str, kind: int, number: int, value: bytes) -> tuple[int, ...]:
    """The value of a tag that is a list of offsets."""
    form = {4: "I", 13: "I", 16: "Q", 18: "Q"}.get(kind)
    if form is None:
        raise InputError(f"tag {_SUB_IFDS} is of type {kind}, expected offsets")
    form = f"{order}{number}{form}"
    if struct.calcsize(form) <= len(value):
        return struct.unpack(form, value[: struct.calcsize(form)])
    stream.seek(struct.unpack(f"{order}{'I' if len(value) == 4 else 'Q'}", value)[0])
    return _unpack(stream, form)


def _check_segments(page: Any, stream: BinaryIO, itemsize: int) -> None:
    """Whether all strips or tiles are there, and none is larger than the page says."""
    expected, there = math.prod(page.chunked), min(len(page.dataoffsets), len(page.databytecounts))
    if there < expected:
        raise InputError(f"it declares {expected} strips or tiles, but has {there}")
    pixels = math.prod(page.chunks)
    if pixels * itemsize > LARGEST_IMAGE:
        raise InputError(f"it declares strips or tiles {page.chunks}, too large")
    counts = page.databytecounts[:expected]
    if min(counts) < 0 or sum(counts) > LARGEST_IMAGE:
        raise InputError(f"its strips or tiles have {sum(counts)} bytes together")
    if page.compression in _BOUNDED:
        return
    if page.compression not in (*_JPEG, *_JPEG2000):
        name = getattr(page.compression, "name", page.compression)
        raise InputError(f"the compression {name} is not supported")
    for offset, count in zip(page.dataoffsets, counts):
        stream.seek(offset)
        data = stream.read(count)
        if page.compression in _JPEG:
            check_scans(data)
            inside = _jpeg_shape(data)
        else:
            inside = _jpeg2000_shape(data)
        if math.prod(inside) > 2 * pixels:  # the last may be padded
            raise InputError(
                f"it declares strips or tiles {page.chunks}, but one is {inside} inside"
            )


def _jpeg_shape(data: bytes) -> tuple[int, ...]:
    """Height, width and components from the header of the frame, (0,) without one."""
    at = 2
    while at + 10 <= len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:  # padding
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return struct.unpack(">HHB", data[at + 5 : at + 10])
        else:
            at += 2 + length
    return (0,)


def _jpeg2000_shape(data: bytes) -> tuple[int, ...]:
    """Width, height and components of the largest code stream."""
    shapes = [
        struct.unpack(">IIH", b"".join(found.groups()))
        for found in re.finditer(rb"\xff\x4f\xff\x51.{4}(.{8}).{24}(..)", data, re.DOTALL)
    ]
    return max(shapes, key=math.prod, default=(0,))


def check_tiff(series: Any, sizes: dict[str, int], stream: BinaryIO) -> None:
    """Whether what a TIFF declares is of a size to be decoded, and all of it there."""
    page = series.keyframe
    if page.dtype is None:
        raise InputError(f"pixels of {page.bitspersample} bits are not supported")
    if page.jpegheader is not None:
        raise InputError("slides of this kind are not supported")
    channels = math.prod(size for axis, size in sizes.items() if axis not in "YX")
    itemsize = max(series.dtype.itemsize, page.dtype.itemsize)
    check_size(sizes["X"], sizes["Y"], channels, itemsize)
    if series.dataoffset is not None:
        return  # in one piece
    if len(series) * math.prod(page.shape) != math.prod(sizes.values()):
        raise InputError(f"{len(series)} pages {page.shape} do not make an image {sizes}")
    for part in series:
        if part is None:
            raise InputError("some of its pages are missing")
        if not page.is_contiguous:
            _check_segments(part, stream, itemsize)


class Element(NamedTuple):
    """An element of a text in XML, and where it is.

    ``start`` and ``end`` enclose it, ``inside`` is where its start tag ends; ``parent`` is the
    index of the one that it is in, -1 if none of those asked for.
    """

    name: str
    tag: str
    attributes: dict[str, str]
    parent: int
    start: int
    inside: int
    end: int


def xml_elements(text: bytes, names: frozenset[str]) -> list[Element]:
    """Find the elements with one of these names, without the prefix, in a text in UTF-8.

    Raises
    ------
    xml.parsers.expat.ExpatError
        If it is not well-formed.
    ValueError
        If it is too large, or declares entities.
    """
    found: list[Element] = []
    # For all that are open the index, or -1; and those with an index once more.
    within: list[int] = []
    parents = [-1]

    def begin(tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        if name not in names:
            within.append(-1)
            return
        if len(found) == _MOST_ELEMENTS:
            raise InputError(f"its XML holds more than {_MOST_ELEMENTS} elements")
        start = parser.CurrentByteIndex
        element = Element(name, tag, attributes, parents[-1], start, tag_end(start), start)
        within.append(len(found))
        parents.append(len(found))
        found.append(element)

    def end(_: str) -> None:
        index = within.pop()
        if index >= 0:
            parents.pop()
            element = found[index]
            # A tag that is empty has no other.
            empty = text[element.inside - 2 : element.inside] == b"/>"
            last = element.inside if empty else tag_end(parser.CurrentByteIndex)
            found[index] = element._replace(end=last)

    def tag_end(start: int) -> int:
        match = _XML_TAG.match(text, start)
        if match is None:
            raise InputError("its XML has a tag without an end")
        return match.end()

    def refuse(*_: Any) -> None:
        raise InputError("its OME-XML declares entities, which can expand to any size")

    if len(text) > _LARGEST_XML:
        raise InputError(f"its XML has {len(text)} bytes, expected {_LARGEST_XML} at most")
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    parser.EntityDeclHandler = refuse
    parser.Parse(text, True)
    return found


def are_channels(elements: Sequence[Element], pages: int) -> bool:
    """Whether OME-XML says that these pages are channels, and not planes or points in time."""
    found = [element.attributes for element in elements if element.name == "Pixels"]
    sizes = [tuple(pixels.get(f"Size{axis}") for axis in "CZT") for pixels in found]
    return sizes == [(str(pages), "1", "1")]
