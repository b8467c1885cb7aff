"""What a page shows of an image and its result: before and after, zooms, and their difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dipfast.arrays import as_constant, split_masked
from dipfast.errors import InputError
from dipfast.images.display import channels_shown, range_of, to_8_bits, to_planes
from dipfast.run.result import Result

__all__ = ["Difference", "Views", "Zoom", "make_views"]

_Array = np.ndarray[Any, Any]

# A zoom is of so many rows and columns, and there are no more of them than these.
_ZOOM, _MOST_ZOOMS = 64, 3
# So small a share of the sum of all pixels may have come from rounding.
_ROUNDED = 1e-9
# A difference of so many standard deviations is shown as black or white.
_SPREAD = 3.0


@dataclass(frozen=True, eq=False)
class Zoom:
    """Hold one place of an image, before and after.

    Attributes
    ----------
    top, left
        Its first row and column, counted from 0.
    before, after
        Its pixels, uint8.
    """

    top: int
    left: int
    before: _Array
    after: _Array


@dataclass(frozen=True, eq=False)
class Difference:
    """Hold what the result took away.

    Attributes
    ----------
    pixels
        Input minus result, uint8, with grey for 0.
    size
        Its root mean square, in the unit of the image.
    related
        The correlation of neighbours, from -1 to 1.
    count
        The number of values that it is made of.
    """

    pixels: _Array
    size: float
    related: float
    count: int


@dataclass(frozen=True, eq=False)
class Views:
    """Hold everything of an image and its result that a page shows.

    Attributes
    ----------
    before, after
        Both images, uint8.
    notes
        How they are shown, sentences.
    zooms
        Where they differ most; none if their sizes differ, or nothing else does.
    difference
        Input minus result; None if their sizes differ.
    is_enlarged
        Whether the input was enlarged to the size of the result.
    data_range
        The values that are black and white.
    """

    before: _Array
    after: _Array
    notes: list[str]
    zooms: list[Zoom]
    difference: Difference | None
    is_enlarged: bool
    data_range: tuple[float, float]

    @property
    def is_aligned(self) -> bool:
        """Return whether both images have the same size."""
        return bool(self.before.shape[:2] == self.after.shape[:2])


def make_views(result: Result, image: Any, *, inks: bool = False) -> Views:
    """Return what a page shows of an image and its result.

    Parameters
    ----------
    result
        The result of a restoration of one image.
    image
        The image that was restored.
    inks
        Whether the channels are the inks of print, whose least value is white; not by default.

    Returns
    -------
    Views
        The pixels.

    Raises
    ------
    InputTypeError
        If ``image`` is neither an array nor a tensor.
    InputError
        If the result is that of a batch of several images, or ``image`` is another one.
    """
    if result.image_count > 1:
        raise InputError(
            f"result must be that of one image, got a batch of {result.image_count}; a page shows "
            "one image and its result"
        )
    first, unknown = _input_of(result, image)
    after = to_planes(result.image, result.channel_axis)
    data_range = range_of(first, result.found)
    if inks:
        data_range = data_range[::-1]
    notes = []
    if unknown.any():
        notes.append("Pixels that are missing are black.")
    if channels_shown(after.shape[2]):
        notes.append(f"Shown is {channels_shown(after.shape[2])}.")
    if after.dtype != np.uint8 or data_range != (0.0, 255.0):
        low, high = data_range
        notes.append(f"{low:.6g} is shown as black and {high:.6g} as white.")
    if first.shape == after.shape:
        return _of_same_size(first, unknown, after, data_range, notes)
    before = _enlarged(first, after.shape[:2])
    is_enlarged = before is not None
    if before is None:
        before = first
        notes.append("Input and result have different sizes.")
    else:
        notes.append("The input is enlarged by bicubic interpolation.")
    pixels = to_8_bits(before, data_range), to_8_bits(after, data_range)
    energy = _energy(_unit(before, data_range), _unit(after, data_range)) if is_enlarged else None
    zooms = [] if energy is None else _zooms(energy, *pixels)
    return Views(*pixels, notes, zooms, None, is_enlarged, data_range)


def _of_same_size(
    before: _Array,
    unknown: _Array,
    after: _Array,
    data_range: tuple[float, float],
    notes: list[str],
) -> Views:
    first, second = _unit(before, data_range), _unit(after, data_range)
    if unknown.any():  # copies of large pictures are made only where they are needed
        first = np.where(unknown, 0, first).astype(first.dtype)
        before = np.where(unknown, data_range[0], before)
    pixels = to_8_bits(before, data_range), to_8_bits(after, data_range)
    zooms = _zooms(_energy(first, second), *pixels)
    difference = _difference(first, second, unknown, data_range)
    return Views(*pixels, notes, zooms, difference, False, data_range)


def _input_of(result: Result, image: Any) -> tuple[_Array, _Array]:
    """Return the input (H, W, C), and which of its values are unknown."""
    pixels, masked = split_masked("image", image)
    pixels = as_constant("image", pixels)
    shape, restored = tuple(pixels.shape), tuple(result.image.shape)
    expected = tuple(result.found.get("shape", shape))
    if shape != expected:
        raise InputError(
            f"image must be the one that was restored, of shape {expected}, got {shape}"
        )
    planes = to_planes(pixels, result.channel_axis) if len(shape) == len(restored) else None
    channels = to_planes(result.image, result.channel_axis).shape[2]
    if planes is None or planes.shape[2] != channels:
        raise InputError(
            f"image must be the one that was restored, with a result of shape {restored}, "
            f"got shape {shape}"
        )
    unknown = np.zeros(planes.shape, bool)
    if masked is not None:
        unknown = to_planes(masked, result.channel_axis)
    if planes.dtype.kind == "f":
        unknown = unknown | ~np.isfinite(planes)
    return planes, unknown


def _enlarged(planes: _Array, size: tuple[int, int]) -> _Array | None:
    """Return an image in a size that is a multiple of its own; None if it is none."""
    from dipfast import ops

    height, width = planes.shape[:2]
    factor = size[0] // height
    if factor < 1 or size != (factor * height, factor * width) or not np.isfinite(planes).all():
        return None
    stacked = np.moveaxis(planes, -1, 0).astype(np.float64)
    larger: _Array = ops.resize(stacked, size, kernel="bicubic", channel_axis=0)
    return np.moveaxis(larger, 0, -1)


def _unit(planes: _Array, data_range: tuple[float, float]) -> _Array:
    """Return values with 0 and 1 for the ends of the range, as float32."""
    low, high = data_range
    # In two steps that need no more memory than the result has, but for integers of 32 bits.
    wide = planes.astype(np.float64 if planes.dtype.itemsize > 2 else np.float32)
    wide -= low
    wide /= high - low
    return wide.astype(np.float32, copy=False)


def _energy(before: _Array, after: _Array) -> _Array:
    """Return the mean square of the difference at each pixel."""
    energy: _Array = np.square(before - after).mean(axis=-1)
    return energy


def _zooms(energy: _Array, before: _Array, after: _Array) -> list[Zoom]:
    """Return where two images differ most, without overlaps, the largest difference first."""
    height, width = (min(_ZOOM, length) for length in energy.shape)
    sums = np.pad(energy.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    tops = _starts(energy.shape[0], height)
    lefts = _starts(energy.shape[1], width)
    rows, columns = np.ix_(tops, lefts)
    of_places = (
        sums[rows + height, columns + width]
        - sums[rows, columns + width]
        - sums[rows + height, columns]
        + sums[rows, columns]
    )
    zooms: list[Zoom] = []
    for place in np.argsort(-of_places, axis=None, kind="stable"):
        row, column = np.unravel_index(place, of_places.shape)
        # What is left of a sum of equal pixels is rounded.
        if len(zooms) == _MOST_ZOOMS or of_places[row, column] <= _ROUNDED * sums[-1, -1]:
            break
        top, left = int(tops[row]), int(lefts[column])
        if any(abs(z.top - top) < height and abs(z.left - left) < width for z in zooms):
            continue
        part = slice(top, top + height), slice(left, left + width)
        zooms.append(Zoom(top, left, before[part], after[part]))
    return zooms


def _starts(length: int, size: int) -> _Array:
    """Return where parts of a size may begin, a quarter of it apart, and the last one."""
    return np.unique([*range(0, length - size + 1, max(size // 4, 1)), length - size])


def _difference(
    before: _Array, after: _Array, unknown: _Array, data_range: tuple[float, float]
) -> Difference | None:
    """Return input minus result; None if nothing of the input is known."""
    import torch

    from dipfast.model.noise import NoiseModel
    from dipfast.model.operators import Identity
    from dipfast.model.problem import Problem
    from dipfast.run.residual import describe_residual

    count = int(unknown.size - np.count_nonzero(unknown))
    if count == 0:
        return None

    def tensor(planes: _Array) -> torch.Tensor:
        return torch.from_numpy(np.moveaxis(planes, -1, 0)[None].copy())

    left_out = tensor(unknown) if unknown.any() else None
    # The noise model of any white noise: the residual is the difference itself.
    problem = Problem(tensor(before), Identity(), NoiseModel(0.1), outliers=left_out)
    size, related = describe_residual(problem, tensor(after))
    spread = max(_SPREAD * size, 1e-12)
    taken = before - after
    taken[unknown] = 0
    pixels = to_8_bits(taken, (-spread, spread))
    return Difference(pixels, size * abs(data_range[1] - data_range[0]), related, count)
