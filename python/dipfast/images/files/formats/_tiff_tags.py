"""Tags of TIFF that are kept as they are, and those of GeoTIFF, which say a place on the globe."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

__all__ = ["KEPT", "Tags"]

_TEXTS = (269, 285)  # names of document and page
_COLOURS = (318, 319)  # white point and primaries
_SCALE, _POINTS, _MATRIX, _KEYS = 33550, 33922, 34264, 34735
_GEOTIFF = (_SCALE, _POINTS, _MATRIX, _KEYS, 34736, 34737)
# Of GDAL: metadata, and the value that means "no data".
_METADATA, _NO_DATA = 42112, 42113
_GDAL = (_METADATA, _NO_DATA)
_STATISTICS = re.compile(rb'\s*<Item name="STATISTICS_[^"]*"[^>]*>[^<]*</Item>')
# Tags that depend on the size of the image in ways that are not understood here.
_OF_PIXELS = {
    33920: "transformation of Intergraph",
    50844: "rational polynomial of the sensor",
    34118: "metadata of the microscope (Zeiss)",
    34680: "metadata of the microscope (FEI)",
    34682: "metadata of the microscope (FEI)",
}

KEPT = (*_TEXTS, *_COLOURS, *_GEOTIFF, *_GDAL, *_OF_PIXELS)
"""Codes of the tags that are kept."""

_DOUBLE, _SHORT, _ASCII = 12, 3, 2
_LONGEST_NUMBER = 64
# A key of GeoTIFF that says what a position means, and its value for the middle of a pixel.
_RASTER_TYPE, _IS_POINT = 1025, 2


@dataclass(frozen=True)
class Tags:
    """Tags of TIFF that are kept.

    Attributes
    ----------
    values
        Types, and values as bytes, by code.
    order
        The order of bytes, as module struct names it.
    lost
        What could not be kept, in words.
    """

    values: Mapping[int, tuple[int, bytes]]
    order: str = "<"
    lost: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return what of the tags another format would lack, in words."""
        others = (name for code, name in _OF_PIXELS.items() if code in self.values)
        return ("georeference",) * self.is_georeferenced + tuple(others)

    @property
    def is_georeferenced(self) -> bool:
        """Say whether they place the picture on the globe."""
        return any(code in self.values for code in _GEOTIFF)

    @property
    def no_data(self) -> float | None:
        """Return the value of pixels that means no data, None if there is none."""
        _, text = self.values.get(_NO_DATA, (0, b""))
        try:
            # A text is not converted if it is longer than any number has to be.
            return float(text.rstrip(b"\0 ")) if len(text) <= _LONGEST_NUMBER else None
        except ValueError:
            return None

    def of_missing(self) -> Tags:
        """Return the tags of the picture that has NaN for the value that means no data."""
        return replace(self, values={**self.values, _NO_DATA: (_ASCII, b"nan\0")})

    def of_values(self, factor: int, offset: int) -> Tags:
        """Return the tags of the picture of values ``factor`` times the old plus an offset."""
        if _NO_DATA not in self.values or (factor, offset) == (1, 0):
            return self
        kind, text = self.values[_NO_DATA]
        try:
            value = factor * int(text.rstrip(b"\0 ")) + offset
        except ValueError:
            return self.of_colours()
        return Tags({**self.values, _NO_DATA: (kind, f"{value}\0".encode())}, self.order, self.lost)

    def of_colours(self) -> Tags:
        """Return the tags of the picture whose values are colours that the old ones stood for."""
        if _NO_DATA not in self.values:
            return self
        return self._without((_NO_DATA,), ("the value that means no data",))

    def of_other_pixels(self) -> Tags:
        """Return the tags without what GDAL says of the values of the pixels, which will change."""
        kind, data = self.values.get(_METADATA, (0, b""))
        rest = _STATISTICS.sub(b"", data)
        if rest == data:
            return self
        return Tags({**self.values, _METADATA: (kind, rest)}, self.order, self.lost)

    def turned(self) -> Tags:
        """Return the tags that stay right when the image has been turned."""
        return self._without((*_GEOTIFF, *_OF_PIXELS), self.names)

    def enlarged(self, factor: int) -> Tags:
        """Return the tags of the image with ``factor`` times the rows and columns."""
        values = dict(self.values)
        lost = [name for code, name in _OF_PIXELS.items() if values.pop(code, None)]
        # If positions are 0 at the corner of the picture, they are multiplied by the factor.  If
        # they are 0 in the middle of the first pixel, they are also shifted, because the middle
        # of the new first pixel is closer to the corner.
        shift = (factor - 1) / 2 if self._is_point() else 0.0
        try:
            if _SCALE in values:
                x, y, z = self._doubles(_SCALE)
                values[_SCALE] = self._packed((x / factor, y / factor, z))
            if _POINTS in values:
                points = list(self._doubles(_POINTS))
                for axis in (0, 1):
                    points[axis::6] = [factor * place + shift for place in points[axis::6]]
                values[_POINTS] = self._packed(points)
            if _MATRIX in values:
                matrix = list(self._doubles(_MATRIX))
                for row in (0, 4, 8, 12):
                    matrix[row] /= factor
                    matrix[row + 1] /= factor
                    matrix[row + 3] -= shift * (matrix[row] + matrix[row + 1])
                values[_MATRIX] = self._packed(matrix)
        except (ValueError, IndexError, struct.error):
            return self._without((*_GEOTIFF, *_OF_PIXELS), self.names)
        return Tags(values, self.order, (*self.lost, *lost))

    def _without(self, codes: tuple[int, ...], lost: tuple[str, ...]) -> Tags:
        """Return the tags without some of them, which are lost in these words."""
        values = {code: value for code, value in self.values.items() if code not in codes}
        return Tags(values, self.order, (*self.lost, *lost))

    def _is_point(self) -> bool:
        """Return whether positions are 0 in the middle of the first pixel."""
        kind, data = self.values.get(_KEYS, (_SHORT, b""))
        keys = struct.unpack(f"{self.order}{len(data) // 8 * 4}H", data[: len(data) // 8 * 8])
        found = zip(keys[4::4], keys[5::4], keys[7::4])
        return kind == _SHORT and any(key == (_RASTER_TYPE, 0, _IS_POINT) for key in found)

    def _doubles(self, code: int) -> tuple[float, ...]:
        """Return the numbers of a tag, or raise ValueError if it has another type."""
        kind, data = self.values[code]
        if kind != _DOUBLE:
            raise ValueError
        return struct.unpack(f"{self.order}{len(data) // 8}d", data)

    def _packed(self, numbers: tuple[float, ...] | list[float]) -> tuple[int, bytes]:
        """Return the type and the bytes of a tag of these numbers."""
        return _DOUBLE, struct.pack(f"{self.order}{len(numbers)}d", *numbers)
