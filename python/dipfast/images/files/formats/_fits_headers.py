"""Headers of FITS that go along with an image, and how they follow its size."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import Any

from dipfast.warn import without_warnings

__all__ = ["Headers"]

# Cards that are about how the image is stored; every file has others.
_STORED = re.compile(r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|EXTEND|EXTNAME|END|")
# Tables of distortions, which are in other units, with all cards about them.
_TABLES = re.compile(
    r"CPDIS\d|CPERR\d|CQDIS\d|CQERR\d|D[PQ]\d(\..*)?|D2IM(DIS|ERR)?\d(\..*)?"
    r"|D2IMEXT|NPOLEXT|AXISCORR"
)
# What an enlarged image has not: parts of it in pixels, and the colours of single pixels.
_OF_PIXELS = ("DATASEC", "TRIMSEC", "BIASSEC", "BAYERPAT", "XBAYROFF", "YBAYROFF")
_PIXEL_AREAS = ("PIXAR_SR", "PIXAR_A2")
_PIXEL_SIZES = ("XPIXSZ", "YPIXSZ", "PIXSCALE", "SECPIX", "SECPIX1", "SECPIX2")
_SIP = re.compile(r"(A|B|AP|BP)_(\d)_(\d)")
# Descriptions of coordinates: the main one, and others that a letter tells apart.
_LETTERS = ("", *ascii_uppercase)


@dataclass(frozen=True)
class Headers:
    """Hold the headers of a FITS file that are kept.

    Attributes
    ----------
    image
        The header of the image, as astropy has it.
    primary
        The header of the first unit, None if that is the image itself.
    ones
        How many axes of length one there are beside those of the image.
    lost
        What could not be kept, in words.
    """

    image: Any
    primary: Any = None
    ones: int = 0
    lost: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return what of the headers another format would lack, in words."""
        cards = [*self.image, *(() if self.primary is None else self.primary)]
        if all(_STORED.fullmatch(card) for card in cards):
            return ()
        return ("header and coordinates",) if "CTYPE1" in self.image else ("header",)

    def without_tables(self) -> Headers:
        """Return the headers without what refers to tables of distortions in other units."""
        tables = [key for key in self.image if _TABLES.fullmatch(key)]
        if not tables:
            return self
        header = self.image.copy()
        for key in tables:
            header.remove(key, ignore_missing=True, remove_all=True)
        return replace(self, image=header, lost=(*self.lost, "tables of distortions"))

    def enlarged(self, factor: int) -> Headers:
        """Return the headers of the image with ``factor`` times the rows and columns."""
        with without_warnings():  # of astropy, about cards that are not standard
            kept = self.without_tables()
            image, lost = _enlarged(kept.image, factor)
            primary = kept.primary
            if primary is not None:
                # What it says of the instrument is true of the image, too.
                primary, more = _enlarged(primary, factor)
                lost += [key for key in more if key not in lost]
        return replace(kept, image=image, primary=primary, lost=(*kept.lost, *lost))


def _enlarged(header: Any, factor: int) -> tuple[Any, list[str]]:
    """Return a header of an enlarged image, and the cards that it has no longer."""
    header = header.copy()
    lost = [key for key in _OF_PIXELS if key in header]
    for key in lost:
        header.remove(key, remove_all=True)
    for letter in _LETTERS:
        _enlarge_coordinates(header, letter, factor)
    for axis in "12":
        _change(header, f"LTV{axis}", lambda value: _place(value, factor))
        for other in "12":
            _change(header, f"LTM{axis}_{other}", lambda value: value * factor)
    for power, keys in enumerate((_PIXEL_SIZES, _PIXEL_AREAS), 1):
        for key in keys:
            _change(header, key, lambda value, power=power: value / factor**power)
    for key in list(header):
        term = _SIP.fullmatch(key)
        if term is not None and f"{term[1]}_ORDER" in header:
            power = 1 - int(term[2]) - int(term[3])
            _change(header, key, lambda value, power=power: value * factor**power)
    return header, lost


def _place(value: float, factor: int) -> float:
    """Return a place, counted in pixels whose first has its middle at 1, in smaller pixels."""
    return (value - 0.5) * factor + 0.5


def _change(header: Any, key: str, change: Any) -> bool:
    """Change the number of a card, and return whether there is one.

    A card that has no number that can be changed is left out.
    """
    if key not in header:
        return False
    try:
        value = header[key]
    except Exception:  # astropy raises exceptions of several types for damaged cards
        value = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        changed = change(value)
        if math.isfinite(changed):
            header[key] = changed
            return True
    header.remove(key, remove_all=True)
    return False


def _enlarge_coordinates(header: Any, letter: str, factor: int) -> None:
    """Change a description of coordinates to that of smaller pixels."""
    said = ("CTYPE", "CRVAL", "CRPIX", "CDELT")
    keys = [f"{key}{axis}{letter}" for key in said for axis in "12"]
    turned = [f"CD{row}_{axis}{letter}" for row in range(1, 10) for axis in "12"]
    if not any(key in header for key in (*keys, *turned)):
        return
    scaled = [_change(header, key, lambda value: value / factor) for key in turned]
    for axis in "12":
        # Where nothing is said, the place is 0 and a pixel 1 unit.
        if not _change(header, f"CRPIX{axis}{letter}", lambda value: _place(value, factor)):
            header[f"CRPIX{axis}{letter}"] = _place(0.0, factor)
        step = f"CDELT{axis}{letter}"
        if not _change(header, step, lambda value: value / factor) and not any(scaled):
            header[step] = 1 / factor
    for other in range(3, 10):
        for axis in "12":
            # With the steps of the two axes divided, what mixes them with others has to follow.
            _change(header, f"PC{other}_{axis}{letter}", lambda value: value / factor)
            _change(header, f"PC{axis}_{other}{letter}", lambda value: value * factor)
