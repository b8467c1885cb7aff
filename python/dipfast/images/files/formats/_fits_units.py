"""The parts of a FITS file, found by what their headers declare, before anything is decoded."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from dipfast.errors import UnreadableFileError

__all__ = ["Unit", "texts_of", "units"]

_BLOCK, _CARD = 2880, 80
# The most blocks of a header, which are 18000 cards, and the most units of a file.
_MOST_BLOCKS, _MOST_UNITS = 500, 1000
_MOST_AXES = 999
_END = b"END".ljust(_CARD)
_ITEM_SIZES = {8: 1, 16: 2, 32: 4, 64: 8, -32: 4, -64: 8}


@dataclass(frozen=True)
class Unit:
    """Hold a header-data unit of a FITS file.

    Attributes
    ----------
    header
        The cards of the header, 80 bytes each, without END.
    start
        Where the header begins in the file.
    place, size
        Where the data begin, and how many bytes they have, without what fills the last block.
    shape
        Lengths of the axes of an image, rows before columns; empty if it is no image.
    bits
        BITPIX of the image.
    tile
        Lengths of the axes of a tile in the order of ``shape``, if the image is compressed; else
        empty.
    """

    header: bytes
    start: int
    place: int
    size: int
    shape: tuple[int, ...]
    bits: int
    tile: tuple[int, ...]


def units(stream: BinaryIO) -> Iterator[Unit]:
    """Walk through the units of a file.

    Parameters
    ----------
    stream
        The file.

    Yields
    ------
    Unit
        The units, in their order.

    Raises
    ------
    UnreadableFileError
        If a header has no end, declares nonsense, or more data than there are.
    """
    end, at = os.fstat(stream.fileno()).st_size, 0
    for number in range(_MOST_UNITS):
        stream.seek(at)
        if number and stream.read(8) != b"XTENSION":
            return  # the end, or bytes that may follow the last unit
        stream.seek(at)
        header = _header(stream)
        unit = _unit(header, at, stream.tell())
        if unit.place + unit.size > end:
            raise UnreadableFileError(
                f"the end is missing: it declares {unit.size} bytes of data, "
                f"and there are {end - unit.place}"
            )
        yield unit
        at = unit.place + -(-unit.size // _BLOCK) * _BLOCK


def _header(stream: BinaryIO) -> bytes:
    """Return the cards of the header that begins here."""
    blocks: list[bytes] = []
    while len(blocks) < _MOST_BLOCKS:
        block = stream.read(_BLOCK)
        if len(block) < _BLOCK:
            raise UnreadableFileError("the end of a header is missing")
        for at in range(0, _BLOCK, _CARD):
            if block[at : at + _CARD] == _END:
                return b"".join(blocks) + block[:at]
        blocks.append(block)
    raise UnreadableFileError(f"a header has more than {_MOST_BLOCKS * _BLOCK // _CARD} cards")


def texts_of(header: bytes) -> dict[str, str]:
    """Return the values of a header by their keys, as text without quotes.

    Parameters
    ----------
    header
        The cards.

    Returns
    -------
    dict
        The values; of a key that is there twice, the first.
    """
    texts: dict[str, str] = {}
    for at in range(0, len(header), _CARD):
        card = header[at : at + _CARD].decode("latin-1")
        if card[8:10] == "= ":
            text = card[10:].split("/")[0].strip()
            texts.setdefault(card[:8].rstrip(), text.strip("'").rstrip())
    return texts


def _unit(header: bytes, start: int, place: int) -> Unit:
    """Return the unit of a header."""
    texts = texts_of(header)
    shape, bits = _axes(texts, "NAXIS"), _bits(texts, "BITPIX")
    is_group = texts.get("GROUPS") == "T" and shape[-1:] == (0,)
    elements = math.prod(shape[:-1] if is_group else shape) if shape else 0
    parts, beside = _number(texts, "GCOUNT", usual=1), _number(texts, "PCOUNT", usual=0)
    size = _ITEM_SIZES[bits] * parts * (beside + elements)
    kind = texts.get("XTENSION", "IMAGE")
    tile: tuple[int, ...] = ()
    if kind == "BINTABLE" and texts.get("ZIMAGE") == "T":
        shape, bits = _axes(texts, "ZNAXIS"), _bits(texts, "ZBITPIX")
        # Where nothing is said, each row is a tile.
        tile = tuple(
            _number(texts, f"ZTILE{axis}", least=1, usual=1 if axis > 1 else shape[-1])
            for axis in range(len(shape), 0, -1)
        )
    elif kind not in ("IMAGE", "IUEIMAGE") or is_group:
        shape = ()
    return Unit(header, start, place, size, shape, bits, tile)


def _number(texts: dict[str, str], key: str, *, least: int = 0, usual: int | None = None) -> int:
    """Return a whole number of a header."""
    text = texts.get(key, "" if usual is None else str(usual))
    # The length is limited, because a text of any length takes long to become a number.
    if len(text) > 20 or not text.lstrip("+-").isdecimal() or int(text) < least:
        raise UnreadableFileError(f"its header declares {key} = {text[:30]!r}")
    return int(text)


def _axes(texts: dict[str, str], key: str) -> tuple[int, ...]:
    """Return the lengths of the axes, the last one that FITS has first."""
    number = _number(texts, key)
    if number > _MOST_AXES:
        raise UnreadableFileError(f"its header declares {number} axes")
    return tuple(_number(texts, f"{key}{axis}") for axis in range(number, 0, -1))


def _bits(texts: dict[str, str], key: str) -> int:
    """Return what a header says of the type of numbers."""
    bits = _number(texts, key, least=-64)
    if bits not in _ITEM_SIZES:
        raise UnreadableFileError(f"its header declares {key} = {bits}")
    return bits
