"""Tags of a DICOM file that are kept beside its pixels."""

from __future__ import annotations

import copy
import math
from collections.abc import Container
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.valuerep import DSfloat

from dipfast.errors import UnreadableFileError
from dipfast.images.files.image_file import Resolution
from dipfast.warn import without_warnings

__all__ = [
    "RESCALING",
    "Tags",
    "check_frames",
    "decimal",
    "numbers_of",
    "spacing_of",
    "stack_name",
    "without_frames",
    "without_overlays",
]

RESCALING = ("RescaleSlope", "RescaleIntercept")
"""Tags of what the numbers of pixels mean."""

_SPACINGS = (
    *("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"),
    "ImagePlanePixelSpacing",
)
# Directions of rows and columns of an image of radiotherapy that does not say them: across, and
# against the axis that goes up.
_UPRIGHT = [1.0, 0.0, 0.0, 0.0, -1.0, 0.0]
# What counts in pixels, by groups of tags: (name, group, first element, last element).
_PLACES = (
    ("shutters", 0x0018, 0x1600, 0x1624),
    ("collimators", 0x0018, 0x1700, 0x1721),
    ("regions", 0x0018, 0x6011, 0x6011),
)
# What is said of all frames of a file together, and of each.
_SHARED, _EACH = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_MEASURES, _PLACE, _TURN = (
    "PixelMeasuresSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
)
_TRANSFORMED = "PixelValueTransformationSequence"
# What there is one of for each frame, besides.
_OF_FRAMES = (
    *("FrameTimeVector", "PageNumberVector", "FrameLabelVector", "FrameIncrementPointer"),
    *("FrameTime", "SliceVector", "TimeSlotVector", "GridFrameOffsetVector"),
    *("DimensionIndexSequence", "DimensionOrganizationSequence", "DimensionOrganizationType"),
)
# Groups of overlays, the tag of the bit of a pixel that one is in, and the tag of one with its own
# data.
_OVERLAYS = range(0x6000, 0x6020, 2)
_OVERLAY_BIT, _OVERLAY_DATA = 0x0102, 0x3000


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
            of_frames = [*_items(self.dataset, _SHARED), *_items(self.dataset, _EACH)]
            rescaled = any(_TRANSFORMED in said for said in of_frames)
        names = ("inversion of brightness",) if inverted else ()
        if rescaled or "RescaleSlope" in self.dataset or "ModalityLUTSequence" in self.dataset:
            names = (*names, "rescaling of its numbers")
        return ("tags of patient, examination and device", *names)

    def enlarged(self, factor: int) -> Tags:
        """Return the tags of the image with ``factor`` times the rows and columns."""
        with without_warnings():
            return self._enlarged(factor)

    def _enlarged(self, factor: int) -> Tags:
        """Return what ``enlarged`` does."""
        dataset, lost = copy.deepcopy(self.dataset), list(self.lost)
        _move(dataset, dataset, dataset, factor)
        _move_on_receptor(dataset, factor)
        shared = _items(dataset, _SHARED)[:1]
        of_frames = [*shared, *_items(dataset, _EACH)]
        for said in of_frames:
            # What is not said of one frame is said of all.
            turned, measured = (_first([said, *shared], name) for name in (_TURN, _MEASURES))
            for position in _items(said, _PLACE):
                _move(position, turned, measured, factor)
        for said in of_frames:
            for measured in _items(said, _MEASURES):
                _shrink(measured, factor)
        _shrink(dataset, factor)
        known = list(dataset.keys())
        for name, group, first, last in _PLACES:
            tags = [tag for tag in known if tag.group == group and first <= tag.elem <= last]
            lost += [name] if tags else []
            for tag in tags:
                del dataset[tag]
        lost += ["overlays"] if _take_out(dataset, _OVERLAYS) else []
        return Tags(dataset, tuple(lost))


def _items(dataset: Dataset, name: str) -> list[Dataset]:
    """Return the items of a sequence, none if there is no such sequence."""
    value = dataset.get(name)
    if not isinstance(value, Sequence | list):
        return []
    return [item for item in value if isinstance(item, Dataset)]


def _first(groups: list[Dataset], name: str) -> Dataset:
    """Return the item of a sequence in the first group that has one; an empty one if none has."""
    return next((item for group in groups for item in _items(group, name)), Dataset())


def _take_out(dataset: Dataset, groups: Container[int]) -> bool:
    """Take out all tags of some groups, and return whether there were any."""
    tags = [tag for tag in list(dataset.keys()) if tag.group in groups]
    for tag in tags:
        del dataset[tag]
    return bool(tags)


def _shrink(dataset: Dataset, factor: int) -> None:
    """Make the distances of pixels smaller."""
    for name in _SPACINGS:
        spacing = numbers_of(dataset, name, 2)
        if spacing is not None:
            setattr(dataset, name, [decimal(value / factor) for value in spacing])
        elif name in dataset:
            del dataset[name]


def _move(dataset: Dataset, turned: Dataset, measured: Dataset, factor: int) -> None:
    """Set the position of the first pixel, whose centre moves when it becomes smaller.

    The directions of rows and columns and the distances of pixels may be in datasets of their own.
    """
    place = numbers_of(dataset, "ImagePositionPatient", 3)
    axes = numbers_of(turned, "ImageOrientationPatient", 6)
    spacing = numbers_of(measured, "PixelSpacing", 2)
    if place is None or axes is None or spacing is None:
        return
    dataset.ImagePositionPatient = _moved(place, axes, spacing, factor)


def _move_on_receptor(dataset: Dataset, factor: int) -> None:
    """Set the position of the first pixel of an image of radiotherapy, on its receptor."""
    place = numbers_of(dataset, "RTImagePosition", 2)
    spacing = numbers_of(dataset, "ImagePlanePixelSpacing", 2)
    if place is None or spacing is None:
        return
    x, y, _ = _moved(
        [*place, 0.0], numbers_of(dataset, "RTImageOrientation", 6) or _UPRIGHT, spacing, factor
    )
    dataset.RTImagePosition = [x, y]


def _moved(
    place: list[float], axes: list[float], spacing: list[float], factor: int
) -> list[DSfloat]:
    """Return the middle of the first pixel, as pixels around the same corner become smaller."""
    row, column = spacing  # distance of rows, and of columns
    shift = (1 / factor - 1) / 2
    return [
        decimal(at + shift * (column * along + row * down))
        for at, along, down in zip(place, axes[:3], axes[3:])
    ]


def numbers_of(dataset: Dataset, name: str, count: int) -> list[float] | None:
    """Return so many numbers of a tag, None if it has others.

    Parameters
    ----------
    dataset
        The tags.
    name
        The name of the tag.
    count
        How many numbers there are to be.
    """
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
    shared = _items(dataset, _SHARED)[:1]
    for place in (dataset, _first([*shared, *_items(dataset, _EACH)[:1]], _MEASURES)):
        for name in _SPACINGS:
            spacing = numbers_of(place, name, 2)
            if spacing is not None and min(spacing) > 0:
                # The number in decimal digits is meant, not the next one in binary digits.
                row, column = (Fraction(repr(value)) for value in spacing)
                return Resolution.of(1 / column, 1 / row, "mm")
    return None


def check_frames(dataset: Dataset, frames: int) -> None:
    """Check that the numbers of all frames of a file mean the same.

    Parameters
    ----------
    dataset
        The tags.
    frames
        How many frames there are.

    Raises
    ------
    UnreadableFileError
        If they do not.
    """
    shared, each = _items(dataset, _SHARED)[:1], _items(dataset, _EACH)[:frames]
    if len(each) < frames:
        each.append(Dataset())  # the others, of which nothing is said but what is said of all
    said = [_first([frame, *shared], _TRANSFORMED) for frame in each]
    if any(other.get(tag) != said[0].get(tag) for other in said[1:] for tag in RESCALING):
        raise UnreadableFileError(
            "the numbers of its frames are rescaled in different ways (RescaleSlope), so that they "
            "are no measure of each other; write each frame to a file of its own, and restore "
            "the files one by one, as a folder"
        )


def stack_name(dataset: Dataset) -> str:
    """Return the letter of the axis that the frames of a file are along.

    Parameters
    ----------
    dataset
        The tags.

    Returns
    -------
    str
        T for time, Z for depth, or Q where the tags do not say it.
    """
    if "FrameTime" in dataset or "FrameTimeVector" in dataset:
        return "T"
    places = [
        str(_first([group], _PLACE).get("ImagePositionPatient")) for group in _items(dataset, _EACH)
    ]
    if "GridFrameOffsetVector" in dataset or len(set(places)) > 1:
        return "Z"
    return "Q"


def without_frames(dataset: Dataset) -> bool:
    """Take out what tags say of each of several frames.

    Parameters
    ----------
    dataset
        The tags.

    Returns
    -------
    bool
        Whether there was something.
    """
    names = [name for name in (_EACH, *_OF_FRAMES) if name in dataset]
    for name in names:
        del dataset[name]
    return bool(names)


def without_overlays(dataset: Dataset) -> bool:
    """Take out what tags say of overlays that are in bits of the pixels.

    Parameters
    ----------
    dataset
        The tags.

    Returns
    -------
    bool
        Whether there was such an overlay.
    """
    return _take_out(dataset, [group for group in _OVERLAYS if _is_in_pixels(dataset, group)])


def _is_in_pixels(dataset: Dataset, group: int) -> bool:
    """Return whether a group is that of an overlay in bits of the pixels."""
    if (group, _OVERLAY_BIT) not in dataset or (group, _OVERLAY_DATA) in dataset:
        return False
    try:
        return int(dataset[group, _OVERLAY_BIT].value) > 0
    except Exception:  # pydicom raises exceptions of several types for damaged tags
        return False
