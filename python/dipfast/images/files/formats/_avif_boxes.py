"""Boxes of an AVIF that was just encoded, to which a colour profile and EXIF are added.

The encoder that holds colours without loss writes neither.  An AVIF is a tree of boxes; ``meta``
says which items there are (``iinf``), where they are in the file (``iloc``), how they belong
together (``iref``), and which properties (``ipco``) they have (``ipma``).
"""

from __future__ import annotations

import struct

__all__ = ["with_beside"]

_META = b"meta"
_FULL = 4  # bytes of version and flags, at the beginning of some boxes
_ILOC_VERSION, _ILOC_SIZES = 0, 0x4400  # offsets and lengths of 4 bytes, no base
_IMAGE = 1  # number of the item that is the image


def with_beside(avif: bytes, profile: bytes, exif: bytes) -> bytes:
    """Return an AVIF with a colour profile and EXIF.

    Parameters
    ----------
    avif
        One still image, as libavif writes it.
    profile
        The colour profile; empty for none.
    exif
        EXIF, beginning with the order of bytes; empty for none.

    Returns
    -------
    bytes
        The file.

    Raises
    ------
    ValueError
        If the file is not written as expected.
    """
    top = _children(avif)
    names = [name for name, _ in top]
    if names != [b"ftyp", _META, b"mdat"]:
        raise ValueError(f"expected the boxes ftyp, meta and mdat, got {names}")
    old = top[1][1]
    head, boxes = old[:_FULL], _children(old[_FULL:])
    places = _items(dict(boxes)[b"iloc"])
    item = max(places) + 1
    if profile:
        boxes = [
            (name, _add_profile(data, profile) if name == b"iprp" else data) for name, data in boxes
        ]
    # Four bytes before EXIF say where it begins behind them.
    added = struct.pack(">I", 0) + exif if exif else b""
    if exif:
        places[item] = (0, len(added))
        reference = _box(b"cdsc", struct.pack(">HHH", item, 1, _IMAGE))
        boxes = [
            (name, _add_entry(data, item) if name == b"iinf" else data) for name, data in boxes
        ]
        if b"iref" in dict(boxes):
            boxes = [(name, data + reference if name == b"iref" else data) for name, data in boxes]
        else:
            boxes.append((b"iref", bytes(_FULL) + reference))

    def meta() -> bytes:
        return head + b"".join(
            _box(name, _place(places) if name == b"iloc" else data) for name, data in boxes
        )

    shift = len(meta()) - len(old)
    end = len(avif) + shift + 8  # where the added EXIF will be
    places = {
        number: (end if number == item else at + shift, size)
        for number, (at, size) in places.items()
    }
    tail = _box(b"mdat", added) if exif else b""
    return _box(*top[0]) + _box(_META, meta()) + _box(*top[2]) + tail


def _children(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return names and contents of the boxes that data are made of."""
    found, at = [], 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if not 8 <= size <= len(data) - at:
            raise ValueError(f"a box {name!r} has {size} bytes")
        found.append((name, data[at + 8 : at + size]))
        at += size
    return found


def _box(name: bytes, data: bytes) -> bytes:
    """Return a box."""
    return struct.pack(">I4s", 8 + len(data), name) + data


def _items(iloc: bytes) -> dict[int, tuple[int, int]]:
    """Return offset and length of each item."""
    version, sizes, count = struct.unpack_from(">B3xHH", iloc)
    if (version, sizes) != (_ILOC_VERSION, _ILOC_SIZES) or len(iloc) != 8 + 14 * count:
        raise ValueError("the places of its items have an unexpected form")
    rows = [struct.unpack_from(">HHHII", iloc, 8 + 14 * number) for number in range(count)]
    return {number: (at, size) for number, _, _, at, size in rows}


def _place(places: dict[int, tuple[int, int]]) -> bytes:
    """Return the box of offsets and lengths."""
    rows = [struct.pack(">HHHII", number, 0, 1, *place) for number, place in places.items()]
    return struct.pack(">B3xHH", _ILOC_VERSION, _ILOC_SIZES, len(rows)) + b"".join(rows)


def _add_entry(iinf: bytes, item: int) -> bytes:
    """Return the list of items with EXIF as one more."""
    (count,) = struct.unpack_from(">H", iinf, _FULL)
    entry = _box(b"infe", struct.pack(">B3xHH4sB", 2, item, 0, b"Exif", 0))
    return iinf[:_FULL] + struct.pack(">H", count + 1) + iinf[_FULL + 2 :] + entry


def _add_profile(iprp: bytes, profile: bytes) -> bytes:
    """Return the properties with a colour profile as one more, which the image has."""
    boxes = dict(_children(iprp))
    properties, owners = boxes[b"ipco"], boxes[b"ipma"]
    number = len(_children(properties)) + 1
    properties += _box(b"colr", b"prof" + profile)
    version, flags, _, first, count = struct.unpack_from(">BxxBIHB", owners)
    if (version, flags, first) != (0, 0, _IMAGE) or number > 127:
        raise ValueError("the properties of its items have an unexpected form")
    at = 11 + count
    owners = owners[:10] + bytes([count + 1]) + owners[11:at] + bytes([number]) + owners[at:]
    return _box(b"ipco", properties) + _box(b"ipma", owners)
