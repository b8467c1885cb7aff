"""A colour profile of linear numbers with the primaries of sRGB."""

from __future__ import annotations

import struct

__all__ = ["LINEAR_GREY", "LINEAR_SRGB"]

# Primaries and white as the connection space of profiles has them, adapted to the light D50.
_WHITE = (0.9642, 1.0, 0.8249)
_PRIMARIES = {
    b"rXYZ": (0.43607, 0.22249, 0.01392),
    b"gXYZ": (0.38515, 0.71687, 0.09708),
    b"bXYZ": (0.14307, 0.06061, 0.71410),
}
_HEAD = 128


def _fixed(value: float) -> int:
    """Return a number as profiles have it, in parts of 65536."""
    return round(value * 65536)


def _xyz(values: tuple[float, ...]) -> bytes:
    """Return a colour as a value of a tag."""
    return struct.pack(">4s4x3i", b"XYZ ", *map(_fixed, values))


def _profile(name: str, space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return a profile of version 2.1 for a screen."""
    text = name.encode() + b"\0"
    # The name once more in other alphabets, which are empty.
    described = struct.pack(">4s4xI", b"desc", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)
    public = struct.pack(">4s4x", b"text") + b"No copyright, use freely\0"
    tags = {b"desc": described, b"cprt": public, b"wtpt": _xyz(_WHITE), **tags}
    start = _HEAD + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for code, value in tags.items():
        table += struct.pack(">4sII", code, start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(
        ">I4xI4s4s4s6H4s28x3i",
        *(start + len(body), 0x02100000, b"mntr", space, b"XYZ ", 2025, 1, 1, 0, 0, 0, b"acsp"),
        *map(_fixed, _WHITE),
    )
    return head.ljust(_HEAD, b"\0") + table + body


_LINE = struct.pack(">4s4xI", b"curv", 0)  # a curve of no points is the identity

LINEAR_SRGB = _profile(
    "Linear sRGB",
    b"RGB ",
    {
        **{code: _xyz(values) for code, values in _PRIMARIES.items()},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _LINE),
    },
)
"""Profile of three channels that are proportional to light, with the primaries of sRGB."""

LINEAR_GREY = _profile("Linear grey", b"GRAY", {b"kTRC": _LINE})
"""Profile of brightness that is proportional to light."""
