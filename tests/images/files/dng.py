"""A small raw photograph for tests: a DNG of a sensor with red, green and blue pixels."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import tifffile

from dipfast.images.files.formats._exif import Values, pack
from dipfast.images.files.formats._tiff_directories import tag_places

__all__ = ["BLACK", "WHITE", "dng"]

BLACK, WHITE = 64, 4095
# From the colours of XYZ to those of the sensor, in parts of 1000.
_MATRIX = (3134, -1617, -491, -979, 1916, 33, 72, -229, 1405)


def dng(
    sensor: np.ndarray[Any, Any],
    orientation: int = 1,
    pattern: bytes = bytes([0, 1, 1, 2]),
    photo: Values | None = None,
) -> bytes:
    """Return a DNG.

    Parameters
    ----------
    sensor
        Numbers of the pixels (H, W), from ``BLACK`` to ``WHITE``.
    orientation
        How the picture is to be turned.
    pattern
        Colours of two pixels in two rows: 0 red, 1 green, 2 blue; empty for a sensor without.
    photo
        What EXIF says of the photograph, types and values by code; None if it says nothing.
    """
    tags: list[tuple[Any, ...]] = [
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),  # version
        (50708, "s", 0, "Maker Model", True),
        (271, "s", 0, "Maker", True),
        (272, "s", 0, "Model", True),
        (274, "H", 1, orientation, True),
        (50714, "H", 1, BLACK, True),
        (50717, "H", 1, WHITE, True),
    ]
    if pattern:
        tags += [
            (33421, "H", 2, (2, 2), True),
            (33422, "B", 4, pattern, True),
            (50721, "2i", 9, [part for value in _MATRIX for part in (value, 1000)], True),
            (50728, "2I", 3, (1, 2, 1, 1, 2, 3), True),  # red is seen with 1/2, blue with 2/3
            (50778, "H", 1, 21, True),  # the light of the matrix: D65
        ]
    if photo is not None:
        tags.append(("ExifTag", "I", 1, 0, True))
    stream = io.BytesIO()
    tifffile.imwrite(
        stream, sensor, photometric="minisblack", extratags=tags, metadata=None, subfiletype=0
    )
    if photo is not None:
        place = tag_places(stream)[0x8769]
        end = stream.seek(0, io.SEEK_END)
        stream.write(pack("<", photo, end))
        stream.seek(place)
        stream.write(struct.pack("<I", end))
    stream.seek(0)
    with tifffile.TiffFile(stream) as file:
        # What the numbers are: colours in a pattern, or brightness of the sensor.
        file.pages.first.tags[262].overwrite(32803 if pattern else 34892)
    return stream.getvalue()
