"""Chunks of a PNG, and the check that they hold all pixels."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from dipfast.errors import UnreadableFileError
from dipfast.images.files.limits import unpack

__all__ = ["check_pixels", "chunks"]

# First row and column, and steps between rows and columns, of the passes of an interlaced PNG.
_ADAM7 = (
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
    *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
)
# Bytes to decompress at a time; they become a thousand times as many at most.
_PIECE = 4096


def check_pixels(stream: BinaryIO) -> None:
    """Check that all pixels of a PNG are there, because Pillow makes missing ones black.

    Parameters
    ----------
    stream
        The file, at any position.

    Raises
    ------
    UnreadableFileError
        If some are missing.
    """
    stream.seek(16)
    width, height, depth, kind, _, _, interlaced = unpack(stream, ">IIBBBBB")
    bits = depth * {2: 3, 4: 2, 6: 4}.get(kind, 1)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(height - y) // dy), -(-(width - x) // dx)) for y, x, dy, dx in passes]
    missing = sum(rows * (1 + -(-columns * bits // 8)) for rows, columns in sizes if columns > 0)
    inflate = zlib.decompressobj()
    for name, length in chunks(stream):
        if name != b"IDAT":
            continue
        while missing > 0 and length > 0:
            piece = stream.read(min(_PIECE, length))
            if not piece:
                raise UnreadableFileError("the end is missing")
            length -= len(piece)
            missing -= len(inflate.decompress(piece))
        if missing <= 0:
            return
        if inflate.eof:
            break
    raise UnreadableFileError("some of its pixels are missing")


def chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Walk through the chunks of a PNG.

    Parameters
    ----------
    stream
        The file.  Whenever a chunk is yielded, it is at the content of the chunk.

    Yields
    ------
    tuple
        Name and length of a chunk.

    Raises
    ------
    UnreadableFileError
        If the end is missing.
    """
    at = 8
    name = b""
    while name != b"IEND":
        stream.seek(at)
        length, name = unpack(stream, ">I4s")
        at += 12 + length
        yield name, length
