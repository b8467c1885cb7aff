"""EXIF, kept byte for byte except for what it says about the pixels.

Cameras write data beside the standard tags whose offsets are only right as long as the data stay
at their place.  So numbers are changed in place, and tags are taken out of their directory
without moving a value.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from typing import Any, BinaryIO, NamedTuple

from dipfast.errors import UnreadableFileError
from dipfast.images.files.formats._tiff_directories import TYPE_SIZES, read_directory
from dipfast.images.files.image_file import Resolution

__all__ = [
    "DIRECTORIES",
    "MAKER_NOTE",
    "NOTES",
    "TEXTS",
    "Exif",
    "Values",
    "directory",
    "pack",
    "resolution_of",
]

Values = Mapping[int, tuple[int, Any]]
"""A directory: by its code, each tag has a type, and its values as bytes or as a directory."""

TEXTS = (270, 271, 272, 305, 306, 315, 316, 33432)
"""Tags of the first directory, which TIFF has too: description, maker, date, copyright, ..."""

DIRECTORIES = {0x8769: "EXIF of the camera", 0x8825: "position on the globe"}
"""Tags that lead from the first directory to another one."""

MAKER_NOTE = 0x927C
"""Notes of the maker, which only mean something at their place in the file."""

NOTES = "notes of the maker"
"""What they are called where they are lost."""

_ORIENTATION = 0x0112
# Orientation, width and height: they are not kept, because the pixels may differ.
_OF_THE_FILE = (_ORIENTATION, 256, 257)
_X, _Y, _UNIT = 282, 283, 296
_PHOTO, _RELATED = 0x8769, 0xA005
_FOCAL_PLANE = (0xA20E, 0xA20F)
# Tags of places in the picture.
_PLACES = (0x9214, 0xA214)
# Tags of width and height, by directory.
_SIZES = {_PHOTO: (0xA002, 0xA003), _RELATED: (0x1001, 0x1002)}
# Tags of places and sizes in the directory of a thumbnail: of a JPEG, and of strips of pixels.
_PIXELS_OF_THUMBNAIL = ((513, 514), (273, 279))
_UNITS = {1: "", 2: "inch", 3: "cm", 4: "mm", 5: "µm"}
_RATIONAL = 5
# Sizes of the types that TIFF has without BigTIFF.
_CLASSIC = {kind: size for kind, size in TYPE_SIZES.items() if kind <= 12}


class _Entry(NamedTuple):
    """A tag in EXIF: ``head`` is where the tag is, ``at`` where its value of ``size`` bytes is."""

    code: int
    kind: int
    head: int
    at: int
    size: int


class _Editor:
    """EXIF that is being changed.

    A directory is named by the tag that leads to it, the first by 0.
    """

    def __init__(self, data: bytes) -> None:
        if data[:4] not in (b"II*\0", b"MM\0*"):
            raise UnreadableFileError("it does not begin as EXIF does")
        self.data = bytearray(data)
        self.order = "<" if data.startswith(b"II") else ">"
        self.offsets = {0: self._number(4)}
        for parent, code in ((0, _PHOTO), (0, 0x8825), (_PHOTO, _RELATED)):
            entry = self.find(parent, code)
            if entry is not None and entry.size == 4:
                self.offsets[code] = self._number(entry.at)

    def _number(self, at: int) -> int:
        """Return the whole number at an offset."""
        (number,) = struct.unpack_from(self.order + "I", self.data, at)
        return int(number)

    def entries(self, directory: int) -> list[_Entry]:
        """Return the tags of a directory, none if the directory is missing."""
        if directory not in self.offsets:
            return []
        stream, start = BytesIO(self.data), self.offsets[directory]
        entries, total = [], 0
        for index, (code, kind, count, value) in enumerate(
            read_directory(stream, self.order, False, start)
        ):
            size = count * TYPE_SIZES.get(kind, 0)
            head = start + 2 + 12 * index
            at = struct.unpack(self.order + "I", value)[0] if size > 4 else head + 8
            total += size
            if at + size > len(self.data) or total > 2 * len(self.data):
                raise UnreadableFileError(f"EXIF tag {code} has {size} bytes that are not there")
            entries.append(_Entry(code, kind, head, at, size))
        return entries

    def find(self, directory: int, code: int) -> _Entry | None:
        """Return a tag of a directory, None if it is missing."""
        return next((entry for entry in self.entries(directory) if entry.code == code), None)

    def remove(self, directory: int, codes: Iterable[int]) -> None:
        """Take tags out of a directory."""
        for code in codes:
            entry = self.find(directory, code)
            if entry is None:
                continue
            start = self.offsets[directory]
            count = len(self.entries(directory))
            # The tags that follow move up, with the offset of the next directory after them.
            rest = self.data[entry.head + 12 : start + 2 + 12 * count + 4]
            self.data[entry.head : entry.head + len(rest)] = rest
            self.data[start : start + 2] = struct.pack(self.order + "H", count - 1)

    def end(self) -> None:
        """Take out the directory that follows the first one, which is that of the thumbnail.

        The thumbnail shows what may have been removed, so zeros take the place of its pixels.
        """
        at = self.offsets[0] + 2 + 12 * len(self.entries(0))
        start = self._number(at)
        self.data[at : at + 4] = bytes(4)
        if start:
            kept = [(place, bytes(self.data[place])) for place in self._places()]
            for place in self._places_of_thumbnail(start):
                self.data[place] = bytes(len(self.data[place]))
            # Of a file that is odd: what the tags that stay need.
            for place, content in kept:
                self.data[place] = content

    def _places(self) -> Iterator[slice]:
        """Yield where the head, the directories and their values are."""
        yield slice(0, 8)
        for directory in list(self.offsets):
            try:
                entries = self.entries(directory)
            except UnreadableFileError:  # which is told when its values are asked for
                continue
            start = self.offsets[directory]
            yield slice(start, start + 2 + 12 * len(entries) + 4)
            yield from (slice(entry.at, entry.at + entry.size) for entry in entries)

    def _places_of_thumbnail(self, start: int) -> Iterator[slice]:
        """Yield where the pixels of a thumbnail are, whose directory is at an offset."""
        found: dict[int, tuple[int, ...]] = {}
        try:
            for code, kind, count, value in read_directory(
                BytesIO(self.data), self.order, False, start
            ):
                if any(code in codes for codes in _PIXELS_OF_THUMBNAIL):
                    found[code] = self._numbers(kind, count, value)
        except UnreadableFileError:  # its end is missing
            pass
        left = len(self.data)  # of places that are no others, there are not more bytes
        for offsets, sizes in _PIXELS_OF_THUMBNAIL:
            for at, size in zip(found.get(offsets, ()), found.get(sizes, ())):
                left -= size
                yield slice(at, at + size)
                if left < 0:
                    return

    def _numbers(self, kind: int, count: int, value: bytes) -> tuple[int, ...]:
        """Return the whole numbers of a tag, none if it has something else or lies outside."""
        letter = {3: "H", 4: "I"}.get(kind, "")
        size = count * TYPE_SIZES.get(kind, 0)
        if size > 4:
            (at,) = struct.unpack(self.order + "I", value)
            value = bytes(self.data[at : at + size])
        is_there = letter and len(value) >= size
        return struct.unpack_from(f"{self.order}{count}{letter}", value) if is_there else ()

    def rational(self, directory: int, code: int) -> Fraction | None:
        """Return the value of a tag that is a fraction, None if it is missing or something else."""
        entry = self.find(directory, code)
        if entry is None or (entry.kind, entry.size) != (_RATIONAL, 8):
            return None
        above, below = struct.unpack_from(self.order + "II", self.data, entry.at)
        return Fraction(above, below) if below else None

    def multiply(self, directory: int, codes: Iterable[int], factor: int) -> None:
        """Multiply fractions, and take out tags for which that cannot be done."""
        for code in codes:
            entry, value = self.find(directory, code), self.rational(directory, code)
            if entry is None:
                continue
            if value is None or (value * factor).numerator >= 2**32:
                self.remove(directory, (code,))
                continue
            above, below = (value * factor).as_integer_ratio()
            struct.pack_into(self.order + "II", self.data, entry.at, above, below)

    def swap(self, directory: int, codes: tuple[int, int]) -> None:
        """Exchange the values of two tags, and take both out if their types differ."""
        first, second = (self.find(directory, code) for code in codes)
        if first is None or second is None:
            self.remove(directory, codes)
            return
        if (first.kind, first.size) != (second.kind, second.size):
            self.remove(directory, codes)
            return
        a, b = (slice(entry.at, entry.at + entry.size) for entry in (first, second))
        self.data[a], self.data[b] = self.data[b], self.data[a]

    def put(self, directory: int, code: int, number: int) -> None:
        """Set a tag to a whole number, if the directory has the tag."""
        entry = self.find(directory, code)
        if entry is None:
            return
        struct.pack_into(self.order + "HII", self.data, entry.head + 2, 4, 1, number)

    def put_in_first(self, values: Mapping[int, tuple[int, bytes]]) -> None:
        """Put tags into the first directory in place of those that it has.

        The directory moves to the end, where there is room for it; all values stay at their place.
        """
        self.remove(0, values)
        start, count = self.offsets[0] + 2, len(self.entries(0))
        heads = [bytes(self.data[start + 12 * k : start + 12 * k + 12]) for k in range(count)]
        self.data += bytes(len(self.data) % 2)
        for code, (kind, value) in values.items():
            if len(value) > 4:
                at = struct.pack(self.order + "I", len(self.data))
                self.data += value
            else:
                at = value.ljust(4, b"\0")
            number = len(value) // TYPE_SIZES[kind]
            heads.append(struct.pack(self.order + "HHI", code, kind, number) + at)
        heads.sort(key=lambda head: struct.unpack(self.order + "H", head[:2]))
        self.offsets[0] = len(self.data)
        struct.pack_into(self.order + "I", self.data, 4, self.offsets[0])
        self.data += struct.pack(self.order + "H", len(heads)) + b"".join(heads) + bytes(4)

    def values(self, directory: int) -> dict[int, tuple[int, Any]]:
        """Return the types and values of the tags of a directory, by code."""
        return {
            entry.code: (entry.kind, bytes(self.data[entry.at : entry.at + entry.size]))
            for entry in self.entries(directory)
            if entry.size
        }


@dataclass(frozen=True)
class Exif:
    """EXIF of an upright picture without a thumbnail.

    Attributes
    ----------
    data
        The bytes, beginning with the order of bytes.
    lost
        What could not be kept, in words.
    """

    data: bytes
    lost: tuple[str, ...] = ()

    @classmethod
    def read(cls, data: bytes, orientation: int = 1) -> Exif:
        """Return what is to be kept of EXIF, when the picture has been turned as it asks.

        Parameters
        ----------
        data
            The bytes as a file has them.
        orientation
            How the picture has been turned, as :func:`upright` takes it.

        Returns
        -------
        Exif
            The rest.

        Raises
        ------
        UnreadableFileError
            If it is damaged.
        """
        try:
            editor = _Editor(re.sub(rb"^(Exif\0\0)+", b"", data))
            editor.remove(0, _OF_THE_FILE)
            editor.end()
            if orientation > 1:
                editor.remove(_PHOTO, _PLACES)
            if orientation > 4:
                editor.swap(0, (_X, _Y))
                editor.swap(_PHOTO, _FOCAL_PLANE)
            made = cls(bytes(editor.data))
            # What is done with it once the work is done must not fail then.
            made.enlarged(2).sized(1, 1).with_tags({})
        except struct.error as error:
            raise UnreadableFileError(f"its EXIF is damaged: {error}") from error
        return made

    @property
    def order(self) -> str:
        """Return the order of bytes, as module struct names it."""
        return "<" if self.data.startswith(b"II") else ">"

    @property
    def resolution(self) -> Resolution | None:
        """Return the resolution that EXIF declares, None if it declares none."""
        editor = _Editor(self.data)
        unit = editor.find(0, _UNIT)
        number = 2
        if unit is not None and unit.size == 2:
            (number,) = struct.unpack_from(self.order + "H", editor.data, unit.at)
        return resolution_of(editor.rational(0, _X), editor.rational(0, _Y), number)

    def with_tags(self, values: Mapping[int, tuple[int, bytes]]) -> Exif:
        """Return the EXIF with tags put into its first directory: types and values, by code."""
        editor = _Editor(self.data)
        editor.put_in_first(values)
        return Exif(bytes(editor.data), self.lost)

    def enlarged(self, factor: int) -> Exif:
        """Return the EXIF of the picture with ``factor`` times the rows and columns."""
        editor = _Editor(self.data)
        editor.multiply(0, (_X, _Y), factor)
        editor.multiply(_PHOTO, _FOCAL_PLANE, factor)
        editor.remove(_PHOTO, _PLACES)
        return Exif(bytes(editor.data), self.lost)

    def sized(self, height: int, width: int) -> Exif:
        """Return the EXIF with a size of the picture, where it declares one."""
        editor = _Editor(self.data)
        for directory, codes in _SIZES.items():
            for code, length in zip(codes, (width, height)):
                editor.put(directory, code, length)
        return Exif(bytes(editor.data), self.lost)

    def values(self, lost: list[str] | None = None) -> dict[int, tuple[int, Any]]:
        """Return the texts of the first directory, and the directories that it leads to.

        Parameters
        ----------
        lost
            A list to which the names of directories that are damaged are added, and the notes of
            the maker.

        Returns
        -------
        dict
            Types and values, by code, without what is damaged.  As the values will have other
            places, they are without the notes of the maker, whose offsets would mean nothing.
        """
        editor = _Editor(self.data)
        kept = {code: value for code, value in editor.values(0).items() if code in TEXTS}
        for code, name in DIRECTORIES.items():
            try:
                inner = editor.values(code)
                if code == _PHOTO and _RELATED in editor.offsets:
                    inner[_RELATED] = (4, editor.values(_RELATED))
                if inner.pop(MAKER_NOTE, None) is not None and lost is not None:
                    lost.append(NOTES)
            except UnreadableFileError:
                if lost is not None:
                    lost.append(f"{name}, which is damaged")
                continue
            if inner:
                kept[code] = (4, inner)
        return kept


def resolution_of(x: Any, y: Any, unit: Any) -> Resolution | None:
    """Return the resolution that the tags of EXIF and TIFF declare.

    Parameters
    ----------
    x, y, unit
        Values of the three tags.

    Returns
    -------
    Resolution or None
        The resolution, None if the tags declare none.
    """
    return Resolution.of(x, y, _UNITS.get(unit, ""))


def directory(
    stream: BinaryIO, order: str, big: bool, offset: int, leads_to: tuple[int, ...] = (_RELATED,)
) -> Values:
    """Return the tags of a directory of a TIFF, and of the directories that it leads to.

    Parameters
    ----------
    stream, order, big, offset
        As :func:`read_directory` takes them.
    leads_to
        Tags that lead to other directories.

    Returns
    -------
    dict
        Types and values, by code.

    Raises
    ------
    UnreadableFileError
        If it is damaged.
    """
    stream.seek(0, os.SEEK_END)
    length, total = stream.tell(), 0
    values: dict[int, tuple[int, Any]] = {}
    for code, kind, count, value in read_directory(stream, order, big, offset):
        size = count * _CLASSIC.get(kind, 0)
        total += size
        if total > length:
            raise UnreadableFileError("its EXIF is longer than the file")
        if size > len(value):
            stream.seek(struct.unpack(order + ("Q" if big else "I"), value)[0])
            value = stream.read(size)
        if len(value) < size:
            raise UnreadableFileError("the end of its EXIF is missing")
        if code in leads_to:
            inside = int.from_bytes(value, "little" if order == "<" else "big")
            values[code] = 4, directory(stream, order, big, inside, ())
        elif size and code != _RELATED:
            values[code] = kind, value[:size]
    return values


def pack(order: str, values: Values, offset: int) -> bytes:
    """Return the bytes of a directory, followed by its long values and by inner directories.

    Parameters
    ----------
    order
        The order of bytes, as module struct names it.
    values
        The tags.
    offset
        Where in the file the bytes will be.

    Returns
    -------
    bytes
        The directory.
    """
    body = b""
    head = struct.pack(order + "H", len(values))
    start = offset + 2 + 12 * len(values) + 4
    for code, (kind, value) in sorted(values.items()):
        size, count = len(value), len(value) // TYPE_SIZES[kind]
        if isinstance(value, Mapping):
            value, size, count = pack(order, value, start + len(body)), 5, 1
        if size > 4:
            at = struct.pack(order + "I", start + len(body))
            body += value + b"\0" * (len(value) % 2)
            value = at
        head += struct.pack(order + "HHI", code, kind, count) + value.ljust(4, b"\0")
    return head + bytes(4) + body
