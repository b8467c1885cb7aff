"""Tags of a DICOM file that are kept beside its pixels."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from dipfast.images.files.image_file import Resolution

__all__ = ["Tags", "decimal", "spacing_of", "without_warnings"]

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
# What counts in pixels, by groups of tags: (name, group, first element, last element).
_PLACES = (
    ("shutters", 0x0018, 0x1600, 0x1624),
    ("collimators", 0x0018, 0x1700, 0x1721),
    ("regions", 0x0018, 0x6011, 0x6011),
)
_OVERLAYS = range(0x6000, 0x6020, 2)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silence the warnings of pydicom about values that are not quite as they should be.

    Yields
    ------
    None
        Nothing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True)
class Tags:
    """Hold the tags of a DICOM file.

    Attributes
    ----------
    dataset
        The tags, without the pixels.
    lost
        What could not be kept, in words.
    """

    dataset: Dataset
    lost: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return what of the tags another format would lack, in words."""
        with without_warnings():
            inverted = self.dataset.get("PhotometricInterpretation") == "MONOCHROME1"
        names = ("inversion of brightness",) if inverted else ()
        if "RescaleSlope" in self.dataset or "ModalityLUTSequence" in self.dataset:
            names = (*names, "rescaling of its numbers")
        return ("tags of patient, examination and device", *names)

    def enlarged(self, factor: int) -> Tags:
        """Return the tags of the image with ``factor`` times the rows and columns."""
        with without_warnings():
            return self._enlarged(factor)

    def _enlarged(self, factor: int) -> Tags:
        """Return what ``enlarged`` does."""
        dataset, lost = copy.deepcopy(self.dataset), list(self.lost)
        _move(dataset, factor)
        for name in _SPACINGS:
            spacing = _numbers(dataset, name, 2)
            if spacing is not None:
                setattr(dataset, name, [decimal(value / factor) for value in spacing])
            elif name in dataset:
                del dataset[name]
        known = list(dataset.keys())
        for name, group, first, last in _PLACES:
            tags = [tag for tag in known if tag.group == group and first <= tag.elem <= last]
            lost += [name] if tags else []
            for tag in tags:
                del dataset[tag]
        overlays = [tag for tag in known if tag.group in _OVERLAYS]
        lost += ["overlays"] if overlays else []
        for tag in overlays:
            del dataset[tag]
        return Tags(dataset, tuple(lost))


def _move(dataset: Dataset, factor: int) -> None:
    """Set the position of the first pixel, whose centre moves when it becomes smaller."""
    place = _numbers(dataset, "ImagePositionPatient", 3)
    axes = _numbers(dataset, "ImageOrientationPatient", 6)
    spacing = _numbers(dataset, "PixelSpacing", 2)
    if place is None or axes is None or spacing is None:
        return
    row, column = spacing  # distance of rows, and of columns
    shift = (1 / factor - 1) / 2
    dataset.ImagePositionPatient = [
        decimal(at + shift * (column * along + row * down))
        for at, along, down in zip(place, axes[:3], axes[3:])
    ]


def _numbers(dataset: Dataset, name: str, count: int) -> list[float] | None:
    """Return so many numbers of a tag, None if it has others."""
    value: Any = dataset.get(name)
    try:
        numbers = [float(each) for each in value]
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def decimal(value: float) -> DSfloat:
    """Return a number as DICOM has it, in 16 characters at most.

    Parameters
    ----------
    value
        The number.

    Returns
    -------
    DSfloat
        The number, rounded as far as it has to be.
    """
    return DSfloat(value, auto_format=True)


def spacing_of(dataset: Dataset) -> Resolution | None:
    """Return the resolution that a dataset declares, in the patient or on the detector.

    Parameters
    ----------
    dataset
        The tags.

    Returns
    -------
    Resolution or None
        The resolution, None if the dataset declares none.
    """
    for name in _SPACINGS:
        spacing = _numbers(dataset, name, 2)
        if spacing is not None and min(spacing) > 0:
            # The number in decimal digits is meant, not the next one in binary digits.
            row, column = (Fraction(repr(value)) for value in spacing)
            return Resolution.of(1 / column, 1 / row, "mm")
    return None
