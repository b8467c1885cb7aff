"""Metadata that ImageJ writes into a TIFF: a description, and a block with texts and tables."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace

__all__ = ["BLOCK", "COUNTS", "ImageJ"]

COUNTS, BLOCK = 50838, 50839
"""Tags of the block: the numbers of bytes of its parts, and the block."""

# Parts of the block that have their place among the pixels.
_DRAWN = {b"roi ": "region of interest", b"over": "overlay"}
# Keys of the description: the origin of coordinates in pixels, and the size of a stack.
_PLACES = ("xorigin", "yorigin")
_STACKS = ("images", "channels", "slices", "frames")
# Keys of the display range, with that which each becomes where dark and bright are exchanged, and
# of the calibration: function, coefficients and unit.
_RANGE = {"min": "max", "max": "min"}
_CALIBRATION = ("cf", "c0", "c1", "c2", "c3", "c4", "vunit")
# The part of the block that has the display range of each channel.
_RANGES = b"rang"
# Keys about the axes of SCIFIO, which writes such descriptions too.
_AXES = ("lengths", "scales")


@dataclass(frozen=True)
class ImageJ:
    """Metadata of ImageJ.

    Attributes
    ----------
    lines
        Lines of the description.
    counts, block
        Values of the tags :data:`COUNTS` and :data:`BLOCK`.
    order
        The order of bytes, as module struct names it.
    lost
        What could not be kept, in words.
    names
        What another format would lack, in words.
    """

    lines: tuple[str, ...]
    counts: tuple[int, ...] = ()
    block: bytes = b""
    order: str = "<"
    lost: tuple[str, ...] = ()
    names = ("ImageJ metadata",)

    @property
    def unit(self) -> str:
        """Return the unit of length of the resolution, empty if there is none."""
        return self._values().get("unit", "")

    def _values(self) -> dict[str, str]:
        """Return the values in the description by their keys."""
        pairs = (line.partition("=") for line in self.lines)
        return {key.strip(): _unescaped(value.strip()) for key, _, value in pairs}

    def enlarged(self, factor: int) -> ImageJ:
        """Return the metadata of the image with ``factor`` times the rows and columns."""
        changed = []
        for line in self.lines:
            key, _, value = line.partition("=")
            if key.strip() in _AXES:
                continue
            if key.strip() in _PLACES:
                try:
                    line = f"{key}={float(value) * factor!r}"
                except ValueError:
                    continue
            changed.append(line)
        return replace(self._without_drawings(), lines=tuple(changed))

    def turned(self) -> ImageJ:
        """Return the metadata that stay right when the image has been turned."""
        lines = [line for line in self.lines if line.partition("=")[0].strip() not in _PLACES]
        return replace(self._without_drawings(), lines=tuple(lines))

    def of_values(self, factor: int, offset: int) -> ImageJ:
        """Return the metadata of the picture of values ``factor`` times the old plus an offset.

        The calibration, a function of the old values, is left out.
        """
        if (factor, offset) == (1, 0):
            return self
        lines, lost = [], list(self.lost)
        for line in self.lines:
            key, _, value = line.partition("=")
            key = key.strip()
            if key in _CALIBRATION:
                lost.append("calibration of ImageJ")
            elif key in _RANGE:
                try:
                    moved = factor * float(value) + offset
                except ValueError:
                    lost.append("display range")
                    continue
                lines.append(f"{_RANGE[key] if factor < 0 else key}={moved!r}")
            else:
                lines.append(line)
        return replace(self._with_ranges(factor, offset), lines=tuple(lines), lost=tuple(lost))

    def _with_ranges(self, factor: int, offset: int) -> ImageJ:
        """Return the metadata with display ranges in the block that are those of other values."""

        def moved(data: bytes) -> bytes:
            form = f"{self.order}{len(data) // 16 * 2}d"  # pairs of the least and the greatest
            numbers = [factor * each + offset for each in struct.unpack_from(form, data)]
            if factor < 0:
                numbers[0::2], numbers[1::2] = numbers[1::2], numbers[0::2]
            return struct.pack(form, *numbers)

        parts = _parts(self.counts, self.block, self.order)
        if _RANGES not in dict(parts):
            return self
        return self._with_parts(
            [
                (name, [moved(data) for data in values] if name == _RANGES else values)
                for name, values in parts
            ]
        )

    def _without_drawings(self) -> ImageJ:
        """Return the metadata without the parts that have their place among the pixels."""
        parts = _parts(self.counts, self.block, self.order)
        kept = [(name, values) for name, values in parts if name not in _DRAWN]
        if len(kept) == len(parts):
            return self
        lost = (*self.lost, *(_DRAWN[name] for name, _ in parts if name in _DRAWN))
        return replace(self._with_parts(kept), lost=lost)

    def _with_parts(self, kept: list[tuple[bytes, list[bytes]]]) -> ImageJ:
        """Return the metadata with other parts of the block."""
        head = self.block[:4]
        for name, values in kept:
            head += _turned(name, self.order) + struct.pack(self.order + "I", len(values))
        counts = [len(head), *(len(value) for _, values in kept for value in values)]
        block = head + b"".join(value for _, values in kept for value in values)
        if not kept:
            counts, block = [], b""
        return replace(self, counts=tuple(counts), block=block)

    def description(self, planes: int, in_stack: int = 1) -> bytes:
        """Return the description of an image that is written.

        Parameters
        ----------
        planes
            Number of planes that it is written in, one after the other.
        in_stack
            Number of images of a stack, of which each has these planes.  A stack is like the one
            that was read.

        Returns
        -------
        bytes
            The description.
        """
        lines = list(self.lines)
        if planes > 1 and in_stack == 1:
            lines = [line for line in lines if line.partition("=")[0].strip() not in _STACKS]
            lines[1:1] = [f"images={planes}", f"channels={planes}"]
        return b"".join(_escaped(line).encode("ascii") + b"\n" for line in lines)


def _parts(counts: tuple[int, ...], block: bytes, order: str) -> list[tuple[bytes, list[bytes]]]:
    """Return the names and values of the parts of a block, none if it is damaged."""
    if not counts or counts[0] > len(block):
        return []
    sizes, at = list(counts[:0:-1]), counts[0]
    parts = []
    for start in range(4, counts[0] - 7, 8):
        name = _turned(block[start : start + 4], order)
        (number,) = struct.unpack_from(order + "I", block, start + 4)
        values = []
        for _ in range(min(number, len(sizes))):
            size = sizes.pop()
            values.append(block[at : at + size])
            at += size
        parts.append((name, values))
    return parts


def _turned(name: bytes, order: str) -> bytes:
    """Return a name of four letters, which is stored in the order of bytes as a number is."""
    return name if order == ">" else name[::-1]


def _escaped(line: str) -> str:
    r"""Return a line as ImageJ writes it: in ASCII, other signs as \uXXXX."""
    return "".join(
        sign if ord(sign) < 128 else "".join(f"\\u{unit:04x}" for unit in _units(sign))
        for sign in line
    )


def _units(sign: str) -> tuple[int, ...]:
    """Return the numbers of a sign in UTF-16."""
    data = sign.encode("utf-16-be", "surrogatepass")
    return struct.unpack(f">{len(data) // 2}H", data)


def _unescaped(text: str) -> str:
    r"""Return a text in which \uXXXX are signs again."""
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)
