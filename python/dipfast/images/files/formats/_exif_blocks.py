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
    if exif is not None:
        if resolution is not None and exif.resolution != resolution:
            lost.append("resolution")
        return exif.sized(*size).data
    if resolution is None:
        return b""
    if resolution.unit not in _UNITS:
        converted = resolution.to("cm")
        if converted is None:
            lost.append("resolution")
            return b""
        resolution = converted
    x, y = (_rational(value) for value in (resolution.x, resolution.y))
    if x is None or y is None:
        lost.append("resolution")
        return b""
    unit = struct.pack("<H", _UNITS[resolution.unit])
    values = {_X: (_RATIONAL, x), _Y: (_RATIONAL, y), _UNIT: (_SHORT, unit)}
    return b"II*\0\x08\0\0\0" + pack("<", values, 8)


def _rational(value: Fraction) -> bytes | None:
    """Return a number as a fraction of EXIF, None if it is too large or too small."""
    if value > _GREATEST:
        return None
    close = value.limit_denominator(int(_GREATEST / max(value, Fraction(1))))
    return struct.pack("<II", close.numerator, close.denominator) if close else None
