"""Directories and tags as TIFF has them, and EXIF too."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

from dipfast.errors import UnreadableFileError
from dipfast.images.files.limits import unpack

__all__ = ["TYPE_SIZES", "check_directories", "read_directory", "tag_places"]

# Limits of the directories of a file, and of the numbers that one tag holds, unless it holds
# text or bytes.
_MOST_DIRECTORIES = 4096
_MOST_NUMBERS = 2**20

TYPE_SIZES = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
}
"""Bytes of a value, by the type of the tag."""

# Tags of directories within a directory, and of a stack of MetaMorph.
_SUB_IFDS, _UIC2 = 330, 33629


def check_directories(stream: BinaryIO) -> None:
    """Check that the directories of a TIFF come to an end, and that their tags are believable.

    tifffile follows directories wherever they lead, and reads as much as their tags declare.

    Parameters
    ----------
    stream
        The file, at any position.

    Raises
    ------
    UnreadableFileError
        If the directories go round in a circle, or declare more than can be.
    """
    size = stream.seek(0, os.SEEK_END)
    order, big, first = _header(stream)
    pointer = "Q" if big else "I"
    # Offsets, with whether the offset of another directory follows the tags.  After those of a
    # SubIFD is such an offset too, but it has no meaning.
    pending = [(first, True)]
    seen: set[int] = set()
    declared = 0
    while pending:
        offset, in_chain = pending.pop()
        if offset >= size and in_chain and seen:
            raise UnreadableFileError("the end is missing, and with it some of its pages")
        if offset == 0 or offset >= size:
            continue  # tifffile also takes such an offset for the end
        if offset in seen:
            raise UnreadableFileError("its directories go round in a circle")
        if len(seen) == _MOST_DIRECTORIES:
            raise UnreadableFileError(f"it holds more than {_MOST_DIRECTORIES} directories")
        seen.add(offset)
        tags = read_directory(stream, order, big, offset)
        if in_chain:
            pending.append((unpack(stream, f"{order}{pointer}")[0], True))
        for code, kind, number, value in tags:
            declared += 8 + number * TYPE_SIZES.get(kind, 0)
            if number > _MOST_NUMBERS and kind not in (1, 2, 7):  # bytes, text, undefined
                raise UnreadableFileError(
                    f"tag {code} declares {number} numbers, expected {_MOST_NUMBERS} at most"
                )
            if code == _UIC2 and number > 1:
                raise UnreadableFileError(
                    f"it holds a stack of {number} images, expected one image"
                )
            if code == _SUB_IFDS:
                for sub in _offsets(stream, order, kind, number, value):
                    pending.append((sub, False))
        # A byte of a file belongs to one tag; only a few tags may share theirs.
        if declared > 2 * size + 2**16:
            raise UnreadableFileError(f"its tags declare {declared} bytes, but the file has {size}")


def _header(stream: BinaryIO) -> tuple[str, bool, int]:
    """Return the order of bytes of a TIFF, whether it is a BigTIFF, and its first directory."""
    stream.seek(0)
    head = stream.read(16)
    order = "<" if head.startswith(b"II") else ">"
    big = b"+" in head[2:4]
    (first,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    return order, big, first


def tag_places(stream: BinaryIO) -> dict[int, int]:
    """Return where the tags of the first page of a TIFF have their values, or offsets of these.

    Parameters
    ----------
    stream
        The file, at any position.

    Returns
    -------
    dict
        Positions in the file, by the codes of the tags.

    Raises
    ------
    UnreadableFileError
        If the directory is damaged.
    """
    order, big, first = _header(stream)
    start, step, within = (8, 20, 12) if big else (2, 12, 8)
    tags = read_directory(stream, order, big, first)
    return {code: first + start + step * index + within for index, (code, *_) in enumerate(tags)}


def read_directory(
    stream: BinaryIO, order: str, big: bool, offset: int
) -> list[tuple[int, int, int, bytes]]:
    """Read the tags of a directory of a TIFF or of EXIF.

    Parameters
    ----------
    stream
        The file.  It is left at the offset of the next directory.
    order
        The order of bytes, as module struct names it.
    big
        Whether it is a BigTIFF.
    offset
        Where the directory is.

    Returns
    -------
    list of tuple
        For each tag its code, its type, the number of its values, and the values, or the offset
        of these if they are too long.

    Raises
    ------
    UnreadableFileError
        If the end is missing, or there are too many tags.
    """
    counter, entry = ("Q", "HHQ8s") if big else ("H", "HHI4s")
    stream.seek(offset)
    (count,) = unpack(stream, f"{order}{counter}")
    if count > _MOST_DIRECTORIES:
        raise UnreadableFileError(
            f"a directory of {count} tags, expected {_MOST_DIRECTORIES} at most"
        )
    return [unpack(stream, f"{order}{entry}") for _ in range(count)]


def _offsets(stream: BinaryIO, order: str, kind: int, number: int, value: bytes) -> tuple[int, ...]:
    """Return the value of a tag that is a list of offsets of directories."""
    form = {4: "I", 13: "I", 16: "Q", 18: "Q"}.get(kind)
    if form is None:
        raise UnreadableFileError(f"tag {_SUB_IFDS} is of type {kind}, expected offsets")
    form = f"{order}{number}{form}"
    if struct.calcsize(form) <= len(value):
        return struct.unpack(form, value[: struct.calcsize(form)])
    stream.seek(struct.unpack(f"{order}{'I' if len(value) == 4 else 'Q'}", value)[0])
    return unpack(stream, form)
