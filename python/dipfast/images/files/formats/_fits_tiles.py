"""Checks of FITS images that are compressed in tiles, before they are decompressed."""

from __future__ import annotations

import math
import re
import struct
import zlib
from typing import BinaryIO

from dipfast.errors import UnreadableFileError
from dipfast.images.files.formats._fits_units import Unit, texts_of

__all__ = ["check_tiles"]

# Of the other compressions, astropy's decoders were not made for files of unknown origin.
_COMPRESSIONS = ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "NOCOMPRESS")
_MOST_TILES = 1 << 22
# Bytes of what is in columns of tables; P and Q are the lengths and places of lists.
_SIZES = {
    **{"L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "E": 4, "D": 8, "A": 1},
    **{"P": 8, "Q": 16},
}


def check_tiles(stream: BinaryIO, unit: Unit) -> None:
    """Check that no tile is, or decompresses to, more than the image declares.

    Parameters
    ----------
    stream
        The file.
    unit
        The unit of the image, compressed in tiles.

    Raises
    ------
    UnreadableFileError
        If one does, or the compression is not one that is read.
    """
    values = texts_of(unit.header)
    kind = values.get("ZCMPTYPE", "")
    if kind not in _COMPRESSIONS:
        raise UnreadableFileError(
            f"compression {kind[:20]} is not supported; decompress the file with funpack first"
        )
    if any(part > length for part, length in zip(unit.tile, unit.shape)):
        raise UnreadableFileError(f"it declares tiles of {unit.tile} pixels in {unit.shape}")
    tiles = math.prod(-(-length // part) for length, part in zip(unit.shape, unit.tile))
    width, rows = int(values["NAXIS1"]), int(values["NAXIS2"])
    if tiles != rows or tiles > _MOST_TILES:
        raise UnreadableFileError(f"it declares {rows} tiles, expected {tiles}")
    most = 8 * math.prod(unit.tile)
    heap = unit.place + int(values.get("THEAP") or width * rows)
    at = 0
    for column in range(1, int(values.get("TFIELDS", "0")) + 1):
        form = re.fullmatch(r"(\d*)([A-Z])(.*)", values.get(f"TFORM{column}", ""))
        if form is None:
            raise UnreadableFileError(f"its header does not say what column {column} is")
        kind_of, count = form[2], int(form[1] or 1)
        if kind_of not in _SIZES:
            raise UnreadableFileError(f"columns of the kind {kind_of} are not supported")
        if kind_of in "PQ" and count == 1:
            unit_size = _SIZES.get(form[3][:1], 0)
            _check_column(stream, unit, kind_of, at, width, rows, heap, unit_size, most)
        at += _SIZES[kind_of] * count
    if at != width:
        raise UnreadableFileError("its columns do not have the width that it declares")


def _check_column(
    stream: BinaryIO,
    unit: Unit,
    kind: str,
    at: int,
    width: int,
    rows: int,
    heap: int,
    item: int,
    most: int,
) -> None:
    """Check the packed tiles of one column."""
    form = ">2i" if kind == "P" else ">2q"
    end = unit.place + unit.size
    for row in range(rows):
        stream.seek(unit.place + row * width + at)
        length, offset = struct.unpack(form, stream.read(struct.calcsize(form)))
        if length == 0:
            continue
        size = length * item
        if length < 0 or offset < 0 or heap + offset + size > end:
            raise UnreadableFileError("a compressed tile is beyond the end")
        stream.seek(heap + offset)
        if size > 2 and stream.read(2) == b"\x1f\x8b":
            stream.seek(heap + offset)
            _check_gzip(stream.read(size), most)


def _check_gzip(data: bytes, most: int) -> None:
    """Check that bytes decompress to no more than a tile can have."""
    stream = zlib.decompressobj(wbits=31)
    if len(stream.decompress(data, most + 1)) > most or stream.unused_data:
        raise UnreadableFileError("a compressed tile is larger than it declares")
