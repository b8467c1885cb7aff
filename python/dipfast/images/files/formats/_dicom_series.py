"""Series of DICOM: slices of one volume, each in a file of its own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from dipfast.errors import UnreadableFileError
from dipfast.images.files.formats._dicom_pixels import Form
from dipfast.images.files.formats._dicom_tags import (
    RESCALING,
    Tags,
    numbers_of,
)
from dipfast.warn import without_warnings

__all__ = ["Series", "check_alike", "in_order"]

# How far directions of rows and columns may differ, which are given in a few digits.
_PARALLEL = 1e-3
# How far two slices are apart at least, in millimetres.
_APART = 1e-4
# What is true of a single slice only.
_OF_A_SLICE = (
    *("ImagePositionPatient", "SliceLocation", "InstanceNumber", "AcquisitionNumber"),
    *("AcquisitionTime", "ContentTime", "TriggerTime", "TablePosition"),
)


@dataclass(frozen=True)
class Series:
    """Hold the tags of the files of a series, in the order of its slices.

    Attributes
    ----------
    files
        The name of each file.
    slices
        The tags of each.
    """

    files: tuple[str, ...]
    slices: tuple[Tags, ...]
    of_series = True

    @property
    def names(self) -> tuple[str, ...]:
        """Return what of the tags another format would lack, in words."""
        return self.slices[0].names

    @property
    def lost(self) -> tuple[str, ...]:
        """Return what could not be kept, in words."""
        return tuple(dict.fromkeys(name for tags in self.slices for name in tags.lost))

    def enlarged(self, factor: int) -> Series:
        """Return the tags of slices with ``factor`` times the rows and columns."""
        return Series(self.files, tuple(tags.enlarged(factor) for tags in self.slices))

    def as_one(self) -> Tags:
        """Return the tags of one file with all slices: those that all of them have."""
        with without_warnings():
            dataset = copy.deepcopy(self.slices[0].dataset)
            for name in _OF_A_SLICE:
                dataset.pop(name, None)
            for tags in self.slices[1:]:
                for tag in list(dataset.keys()):
                    if tag not in tags.dataset or tags.dataset[tag] != dataset[tag]:
                        # What differs is not true of all; the instance is told apart anew anyway.
                        del dataset[tag]
        return Tags(dataset, ("tags of single slices",))


def check_alike(name: str, dataset: Dataset, form: Form, first: Dataset, other: Form) -> None:
    """Check that a file is a slice of the same series as another one.

    Parameters
    ----------
    name
        Its name.
    dataset, form
        Its tags, and the form of its pixels.
    first, other
        Those of the first file.

    Raises
    ------
    UnreadableFileError
        If it is not, or if the numbers of both do not mean the same.
    """
    series = [each.get("SeriesInstanceUID") for each in (dataset, first)]
    if series[0] != series[1] or not series[0]:
        raise UnreadableFileError(
            f"it holds files of several series ({name[:60]} is of another one than the first), "
            "expected one; put each series into a folder of its own"
        )
    if form.frames != 1:
        raise UnreadableFileError(f"{name[:60]} holds {form.frames} frames; name the file itself")
    if form != other:
        raise UnreadableFileError(
            f"{name[:60]} has another size or type of pixels than the first file, expected slices "
            "of one volume; put those of each size into a folder of their own"
        )
    if any(dataset.get(tag) != first.get(tag) for tag in RESCALING):
        raise UnreadableFileError(
            f"the numbers of {name[:60]} are rescaled otherwise than those of the first file "
            "(RescaleSlope), so that they are no measure of each other; restore the files one by "
            "one, as a folder"
        )


def in_order(datasets: Sequence[Dataset]) -> list[int]:
    """Return the order of slices along the normal of their plane.

    Parameters
    ----------
    datasets
        The tags of each file.

    Returns
    -------
    list of int
        Their numbers, from the lowest place to the highest one; by the number of the instance
        where no file says where its slice is.

    Raises
    ------
    UnreadableFileError
        If they are not slices of one volume: not parallel, several in one place, or without order.
    """
    places = [numbers_of(each, "ImagePositionPatient", 3) for each in datasets]
    turns = [numbers_of(each, "ImageOrientationPatient", 6) for each in datasets]
    known = [place is not None and turn is not None for place, turn in zip(places, turns)]
    if all(known):
        axes = np.array(turns, float)
        if np.abs(axes - axes[0]).max() > _PARALLEL:
            raise UnreadableFileError(
                "its slices are not parallel, so that they are no volume; name a file of it"
            )
        along: Any = np.array(places, float) @ np.cross(axes[0, :3], axes[0, 3:])
        least = _APART
    else:
        along = np.array([_number(each) for each in datasets], float)
        least = 0.5
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    if not (steps > least).all():
        raise UnreadableFileError(
            "several of its files are at one place, as those of several times or echoes, or do not "
            "say where they are; put each volume into a folder of its own"
        )
    return [int(number) for number in order]


def _number(dataset: Dataset) -> float:
    """Return the number of an instance, NaN if it has none."""
    try:
        return float(dataset.get("InstanceNumber"))
    except (TypeError, ValueError):
        return float("nan")
