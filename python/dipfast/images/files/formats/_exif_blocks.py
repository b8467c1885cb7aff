"""EXIF of formats that have the size of a pixel nowhere else."""

from __future__ import annotations

import struct
from fractions import Fraction

from dipfast.images.files.formats._exif import Exif, pack
from dipfast.images.files.image_file import ImageFile, Resolution

__all__ = ["exif_with_resolution"]

_X, _Y, _UNIT = 282, 283, 296
_UNITS = {"": 1, "inch": 2, "cm": 3}
_SHORT, _RATIONAL = 3, 5
_GREATEST = 2**32 - 1
# What formats of whole numbers may round a resolution by.
_ROUNDED = Fraction(1, 100)


def exif_with_resolution(like: ImageFile, size: tuple[int, int], lost: list[str]) -> bytes:
    """Return the EXIF to write with an image, which says its resolution too.

    Parameters
    ----------
    like
        The image, whose metadata is to be kept.
    size
        Height and width that are written.
    lost
        What could not be kept, in words, to which the resolution is added if EXIF of the image
        says another one, or if EXIF has no such unit.

    Returns
    -------
    bytes
        EXIF that begins with the order of bytes; empty if there is nothing to say.
    """
    exif: Exif | None = like.metadata.get("exif")
    resolution: Resolution | None = like.metadata.get("resolution")
    said = None if exif is None else exif.resolution
    tags: dict[int, tuple[int, bytes]] = {}
    if resolution is not None and said is None:
        tags = _tags_of(resolution, "<" if exif is None else exif.order)
    if resolution is not None and not tags and not _agree(said, resolution):
        lost.append("resolution")
    if exif is not None:
        exif = exif.sized(*size)
        return (exif.with_tags(tags) if tags else exif).data
    return b"II*\0\x08\0\0\0" + pack("<", tags, 8) if tags else b""


def _tags_of(resolution: Resolution, order: str) -> dict[int, tuple[int, bytes]]:
    """Return the tags that say a resolution, none if EXIF cannot say it."""
    if resolution.unit not in _UNITS:
        converted = resolution.to("cm")
        if converted is None:
            return {}
        resolution = converted
    x, y = (_rational(value, order) for value in (resolution.x, resolution.y))
    if x is None or y is None:
        return {}
    unit = struct.pack(order + "H", _UNITS[resolution.unit])
    return {_X: (_RATIONAL, x), _Y: (_RATIONAL, y), _UNIT: (_SHORT, unit)}


def _agree(said: Resolution | None, resolution: Resolution) -> bool:
    """Return whether a resolution is the same but for rounding, which formats do by their units."""
    one, other = (None if each is None else each.to("m") for each in (said, resolution))
    if one is None or other is None or one.unit != other.unit:
        return said == resolution
    pairs = ((one.x, other.x), (one.y, other.y))
    return all(abs(a - b) <= _ROUNDED * b for a, b in pairs)


def _rational(value: Fraction, order: str) -> bytes | None:
    """Return a number as a fraction of EXIF, None if it is too large or too small."""
    if value > _GREATEST:
        return None
    close = value.limit_denominator(int(_GREATEST / max(value, Fraction(1))))
    return struct.pack(order + "II", close.numerator, close.denominator) if close else None
