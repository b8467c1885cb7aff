"""OME-XML, kept as it is except for what it says about the pixels and their place in the file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from xml.parsers.expat import ExpatError
from xml.sax.saxutils import quoteattr

from dipfast.errors import UnreadableFileError
from dipfast.images.files.formats._tiff_xml import Element, find_elements
from dipfast.images.files.image_file import Resolution

__all__ = ["Ome"]

# An edit of the text: start and end of the part that is replaced, and its replacement.
_Edit = tuple[int, int, bytes]

# Elements that say where the pixels are.
_DATA = ("TiffData", "BinData", "MetadataOnly")
_NAMES = frozenset(("OME", "Image", "Pixels", "Channel", "ROI", "ROIRef", *_DATA))
# Bytes of the name of a file, and of its UUID behind it; elements within each other must not be
# searched to their ends.
_LONGEST_NAME = 8192
# What OME calls the types of NumPy.
_TYPES = {
    **{name: name for name in ("int8", "int16", "int32", "uint8", "uint16", "uint32")},
    "float32": "float",
    "float64": "double",
}


@dataclass(frozen=True)
class Ome:
    """Metadata of OME about one image.

    Attributes
    ----------
    xml
        The text in UTF-8, without a declaration.
    elements
        Those of its elements that may change.
    index
        Which of them is about the pixels of this file, -1 if none is.
    factor
        By how much the image has been enlarged since the text was read.
    lost
        What could not be kept, in words.
    names
        What another format would lack, in words.
    """

    xml: bytes
    elements: tuple[Element, ...]
    index: int = -1
    factor: int = 1
    lost: tuple[str, ...] = ()
    names = ("OME metadata",)

    @classmethod
    def read(cls, text: str, height: int, width: int) -> Ome | None:
        """Return the metadata in a text.

        Parameters
        ----------
        text
            OME-XML.
        height, width
            Size of the page that has the text.

        Returns
        -------
        Ome or None
            The metadata, None if the text is not well-formed.

        Raises
        ------
        UnreadableFileError
            If the text is too large, or declares entities.
        """
        # A declaration may name an encoding, but the text is decoded already.
        if text.lstrip().startswith("<?xml"):
            text = text.partition("?>")[2]
        xml = text.strip().strip("\0").encode("utf-8", "surrogatepass")
        try:
            elements = tuple(find_elements(xml, _NAMES))
        except ExpatError:
            return None
        return cls(xml, elements, _index_of_pixels(xml, elements, height, width))

    def axes(self, pages: int, samples: int) -> list[tuple[str, int]]:
        """Return the axes of so many pages: their letters C, Z and T, and their lengths.

        Parameters
        ----------
        pages
            Number of pages of the file.
        samples
            Samples of a pixel in each page.

        Returns
        -------
        list of tuple
            The axes, the one that changes slowest first.

        Raises
        ------
        UnreadableFileError
            If the text is not about these pages, or has them in another order than the file.
        """
        found = [k for k, element in enumerate(self.elements) if element.name == "Pixels"]
        attributes = self.elements[found[0]].attributes if found else {}
        sizes = {axis: _size(attributes, f"Size{axis}") for axis in "CZT"}
        sizes["C"] //= samples
        # Files without an order exist, of which only one axis is longer than 1.
        order = attributes.get("DimensionOrder", "XYCZT")
        if len(found) != 1 or sorted(order[2:]) != ["C", "T", "Z"] or order[:2] != "XY":
            sizes = {}
        if math.prod(sizes.values()) != pages or not sizes:
            declared = " x ".join(f"{axis} {size}" for axis, size in sizes.items())
            raise UnreadableFileError(
                f"it holds a stack of {pages} pages, and its OME metadata declare "
                + (declared or f"{len(found)} images")
                + "; it may be one of several files of a set, which are not read together"
            )
        if not self._is_in_order(found[0], order[2:], sizes):
            raise UnreadableFileError(
                "it holds a stack whose pages are in another order than its OME metadata say first "
                "(TiffData), or in other files; write it again with one of the libraries of OME"
            )
        return [(axis, sizes[axis]) for axis in reversed(order[2:])]

    def _is_in_order(self, index: int, order: str, sizes: Mapping[str, int]) -> bool:
        """Return whether every page is where the order of the axes has it."""
        steps, step = {}, 1
        for axis in order:
            steps[axis] = step
            step *= sizes[axis]
        for element in self.elements:
            if element.name != "TiffData" or element.parent != index:
                continue
            said = element.attributes
            firsts = {axis: _size(said, f"First{axis}", 0) for axis in order}
            place = sum(firsts[axis] * steps[axis] for axis in order)
            if _size(said, "IFD", place) != place or any(firsts[a] >= sizes[a] for a in order):
                return False
        return True

    def is_about(self, channels: int, planes: int = 1) -> bool:
        """Return whether the metadata are about a stack of so many planes with so many channels."""
        attributes = self.elements[self.index].attributes if self.index >= 0 else {}
        sizes = [_size(attributes, f"Size{axis}") for axis in "CZT"]
        return sizes[0] == channels and sizes[1] * sizes[2] == planes

    @property
    def resolution(self) -> Resolution | None:
        """Return the size of a pixel, as pixels per unit."""
        attributes = self.elements[self.index].attributes if self.index >= 0 else {}
        sizes = [_number(attributes, f"PhysicalSize{axis}") for axis in "XY"]
        units = {attributes.get(f"PhysicalSize{axis}Unit", "µm") for axis in "XY"}
        if 0 in sizes or len(units) > 1:
            return None
        return Resolution.of(self.factor / sizes[0], self.factor / sizes[1], units.pop())

    def enlarged(self, factor: int) -> Ome:
        """Return the metadata of the image with ``factor`` times the rows and columns."""
        drawn = any(element.name == "ROI" for element in self.elements)
        lost = (*self.lost, "regions of interest") if drawn and self.factor == 1 else self.lost
        return replace(self, factor=self.factor * factor, lost=lost)

    def description(
        self, height: int, width: int, planes: int, samples: int, dtype: str
    ) -> bytes | None:
        """Return the text about an image that is written.

        Parameters
        ----------
        height, width
            Size of the image.
        planes
            Number of planes that it is written in.
        samples
            Samples of a pixel in each plane.
        dtype
            NumPy type of the image.

        Returns
        -------
        bytes or None
            The text, None if OME has no such type.
        """
        if dtype not in _TYPES:
            return None
        index = self.index
        pixels = self.elements[index]
        changes = {
            "DimensionOrder": self._order(),
            "Type": _TYPES[dtype],
            "BigEndian": None,
            **{"SizeX": str(width), "SizeY": str(height), "SizeC": str(planes * samples)},
        }
        if pixels.attributes.get("Type") != _TYPES[dtype]:
            changes["SignificantBits"] = None
        for name in ("PhysicalSizeX", "PhysicalSizeY"):
            size = _number(pixels.attributes, name)
            if size and self.factor > 1:
                changes[name] = repr(size / self.factor)
        edits = [(0, 0, b'<?xml version="1.0" encoding="UTF-8"?>')]
        for number, element in enumerate(self.elements):
            if element.name == "OME":
                # The identifier of the old file would be wrong in the new one.
                edits.append(self._start(element, {"UUID": None}))
            elif number == index:
                edits.append(self._start(element, changes, self._planes(planes, samples, edits)))
            elif self._is_left_out(element, index):
                edits.append((element.start, element.end, b""))
        return self._edited(edits)

    def _order(self) -> str:
        """Return the order of the axes, which does not matter but for stacks."""
        attributes = self.elements[self.index].attributes
        is_stack = any(_size(attributes, f"Size{axis}") > 1 for axis in "ZT")
        return attributes.get("DimensionOrder", "XYCZT") if is_stack else "XYCZT"

    def _planes(self, planes: int, samples: int, edits: list[_Edit]) -> str:
        """Return the text after the start tag that says what is in which plane.

        Changes of elements that are there already are added to ``edits`` instead.
        """
        index = self.index
        prefix, colon, _ = self.elements[index].tag.rpartition(":")
        data = f"<{prefix}{colon}TiffData/>"
        channels = [
            element
            for element in self.elements
            if element.name == "Channel" and element.parent == index
        ]
        if len(channels) == planes:
            edits += [self._start(each, {"SamplesPerPixel": str(samples)}) for each in channels]
            edits.append((channels[-1].end, channels[-1].end, data.encode()))
            return ""
        edits += [(channel.start, channel.end, b"") for channel in channels]
        channel = f'<{prefix}{colon}Channel ID="Channel:0:%d" SamplesPerPixel="{samples}"/>'
        return "".join(channel % number for number in range(planes)) + data

    def _is_left_out(self, element: Element, index: int) -> bool:
        """Return whether an element is about another image, or where pixels were in the file."""
        if element.name == "Image":
            return not element.start < self.elements[index].start < element.end
        if element.name in ("ROI", "ROIRef"):
            return self.factor > 1
        return element.name in _DATA and element.parent == index

    def _start(
        self, element: Element, changes: Mapping[str, str | None], inside: str = ""
    ) -> _Edit:
        """Return a start tag with attributes set or taken out, and with a text after it."""
        attributes = {**element.attributes, **changes}
        tag = f"<{element.tag}" + "".join(
            f" {name}={quoteattr(value)}" for name, value in attributes.items() if value is not None
        )
        if self.xml[element.inside - 2 : element.inside] != b"/>":
            tag += f">{inside}"
        else:
            tag += f">{inside}</{element.tag}>" if inside else "/>"
        return element.start, element.inside, tag.encode()

    def _edited(self, edits: list[_Edit]) -> bytes:
        """Return the text after some edits."""
        pieces, at = [], 0
        for start, end, text in sorted(edits, key=lambda edit: edit[:2]):
            if start < at:  # the edit is within a part that is replaced
                continue
            pieces += [self.xml[at:start], text]
            at = end
        return b"".join((*pieces, self.xml[at:]))


def _index_of_pixels(xml: bytes, elements: tuple[Element, ...], height: int, width: int) -> int:
    """Return which element is about the pixels of a file, -1 if none is.

    Each file of a set has the text about all of them, and says in it which one it is (UUID).
    """
    uuid = next((each.attributes.get("UUID", "") for each in elements if each.name == "OME"), "")
    named: dict[int, set[str]] = {}
    for element in elements:
        if element.name == "TiffData":
            # In it is the UUID of the file that the pixels are in, if it is another one.
            inside = xml[element.inside : min(element.end, element.inside + _LONGEST_NAME)]
            name = inside.partition(b"</")[0].rpartition(b">")[2].decode("utf-8", "replace")
            named.setdefault(element.parent, set()).add(name.strip() or uuid)
    found = [
        index
        for index, element in enumerate(elements)
        if element.name == "Pixels"
        and _size(element.attributes, "SizeX") in (0, width)
        and _size(element.attributes, "SizeY") in (0, height)
    ]
    here = [index for index in found if uuid and uuid in named.get(index, ())]
    first = next((k for k, element in enumerate(elements) if element.name == "Pixels"), -1)
    if first in found and (first in here or not uuid or first not in named):
        return first
    return here[0] if here else -1


def _size(attributes: Mapping[str, str], name: str, usual: int = 0) -> int:
    """Return an attribute that is a whole number from 0 up, another one if it is none."""
    text = attributes.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else usual


def _number(attributes: Mapping[str, str], name: str) -> float:
    """Return an attribute that is a positive number, 0 if there is none."""
    try:
        number = float(attributes.get(name, ""))
    except ValueError:
        return 0.0
    return number if 0 < number < float("inf") else 0.0
