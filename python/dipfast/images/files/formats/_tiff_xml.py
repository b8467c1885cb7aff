"""Elements of a text in XML from a file, and where in the text they are."""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from xml.parsers import expat

from dipfast.errors import UnreadableFileError

__all__ = ["Element", "find_elements"]

# Limits of a text: its bytes, and the elements of the names that are looked for.
_LARGEST_TEXT = 2**26
_MOST_ELEMENTS = 2**16
_TAG = re.compile(rb"<[^\"'>]*(?:\"[^\"]*\"[^\"'>]*|'[^']*'[^\"'>]*)*>")


class Element(NamedTuple):
    """An element of a text in XML, and where it is.

    Attributes
    ----------
    name, tag
        Its name without the prefix and with it.
    attributes
        Its attributes.
    parent
        Index of the element found that it is in, -1 if there is none.
    start, end
        Where the element begins and ends.
    inside
        Where its start tag ends.
    """

    name: str
    tag: str
    attributes: dict[str, str]
    parent: int
    start: int
    inside: int
    end: int


def find_elements(text: bytes, names: frozenset[str]) -> list[Element]:
    """Find the elements of some names in a text in XML.

    Parameters
    ----------
    text
        The text in UTF-8.
    names
        Names without the prefix.

    Returns
    -------
    list of Element
        The elements in the order of their start tags.

    Raises
    ------
    xml.parsers.expat.ExpatError
        If it is not well-formed.
    UnreadableFileError
        If it is too large, or declares entities.
    """
    found: list[Element] = []
    # The open elements: index in what was found, or -1 for elements of other names.
    within: list[int] = []
    # The open elements that were found, after -1 for none.
    parents = [-1]

    def begin(tag: str, attributes: dict[str, str]) -> None:
        """Record an element that begins."""
        name = tag.rpartition(":")[2]
        if name not in names:
            within.append(-1)
            return
        if len(found) == _MOST_ELEMENTS:
            raise UnreadableFileError(f"its XML holds more than {_MOST_ELEMENTS} elements")
        start = parser.CurrentByteIndex
        element = Element(name, tag, attributes, parents[-1], start, tag_end(start), start)
        within.append(len(found))
        parents.append(len(found))
        found.append(element)

    def end(_: str) -> None:
        """Complete the element that ends."""
        index = within.pop()
        if index >= 0:
            parents.pop()
            element = found[index]
            # An element that is written as one empty tag has no end tag.
            empty = text[element.inside - 2 : element.inside] == b"/>"
            last = element.inside if empty else tag_end(parser.CurrentByteIndex)
            found[index] = element._replace(end=last)

    def tag_end(start: int) -> int:
        """Return where the tag that begins at ``start`` ends."""
        match = _TAG.match(text, start)
        if match is None:
            raise UnreadableFileError("its XML has a tag without an end")
        return match.end()

    def refuse(*_: Any) -> None:
        """Refuse an entity."""
        raise UnreadableFileError("its OME-XML declares entities, which can expand to any size")

    if len(text) > _LARGEST_TEXT:
        raise UnreadableFileError(
            f"its XML has {len(text)} bytes, expected {_LARGEST_TEXT} at most"
        )
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    parser.EntityDeclHandler = refuse
    parser.Parse(text, True)
    return found
