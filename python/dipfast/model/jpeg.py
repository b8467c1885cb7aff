"""Describe which pictures a JPEG can be of: those whose coefficients round to its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dipfast.errors import InputError
from dipfast.settings.jpeg import JpegCoding

__all__ = ["JpegSet"]

_SIDE = 8
_WHITE = 255.0
# What a coder subtracts from its samples, which have 8 bits.
_GREY = 128.0
# Rows of brightness, and of the differences of blue and red from it (ITU-T T.871).
_TO_YCC = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)
# By how much the rounding of pixels to 8 bits moves a coefficient, rarely, and from how many times
# that on a step can be told by it.  Of a decoded picture hardly any that is not 0 is moved
# by more, unless its pixels were clipped; of others nearly all are.
_ROUNDING, _COARSE_STEPS, _MOST_MOVED = 1.5, 4.0, 0.5
# Fewer coefficients say nothing.
_FEW = 16
# Steps of the inversion of the decoder's interpolation, each of which halves what is left.
_INVERSIONS = 14


@dataclass(frozen=True, eq=False)
class JpegSet:
    r"""Hold the set of the pictures that a JPEG can be of.

    A picture u is in it if the coefficients of each of its components, c = DCT(S u) with S the
    transform to brightness and colour differences and their sampling, were rounded to those of the
    file,

    .. math:: | c_k - q_k n_k | \le q_k / 2,

    with the steps q and whole numbers n.  Of blocks that go beyond the border nothing is known:
    what they had there is in the file, and not in its picture.

    Parameters
    ----------
    levels
        For each component, its coefficients q n, (rows, columns, 8, 8) of the blocks.
    steps
        For each component, its steps q, (8, 8).
    sampling
        For each component, how many rows and columns of pixels a sample is the mean of.
    """

    levels: tuple[Tensor, ...]
    steps: tuple[Tensor, ...]
    sampling: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, measurement: Tensor, coding: JpegCoding) -> JpegSet:
        """Return the set of a picture that was decoded from a JPEG.

        The coefficients of the file are found in its pixels: they were rounded once more, to 8
        bits, by much less than a step.

        Parameters
        ----------
        measurement
            The picture, (1, C, H, W), in [0, 1].
        coding
            How it was coded.

        Returns
        -------
        JpegSet
            The set.

        Raises
        ------
        InputError
            If the picture has other components than the coding, or is not what was decoded: its
            coefficients are not multiples of the steps.
        """
        if measurement.shape[1] != len(coding.tables):
            raise InputError(
                f"jpeg has {len(coding.tables)} components, and image {measurement.shape[1]} "
                "channels"
            )
        steps = tuple(
            torch.tensor(table, dtype=torch.float64).reshape(_SIDE, _SIDE)
            for table in coding.tables
        )
        # Where pixels were clipped they tell less of the coefficients.
        inside = (measurement > 0).all(dim=1) & (measurement < 1).all(dim=1)
        levels = []
        for plane, step, factors in zip(_components(measurement), steps, coding.sampling):
            samples = _samples(plane, factors)
            for axis, factor in enumerate(factors):
                samples = _without_interpolation(samples, axis) if factor == 2 else samples
            coefficients = _transformed(samples)
            levels.append((coefficients / step).round() * step)
            is_whole = _of_blocks(inside[0], factors)
            # What undoes the interpolation enlarges the rounding.
            rounding = _ROUNDING * math.prod(factors)
            _check(coefficients[is_whole], levels[-1][is_whole], step, rounding)
        return cls(tuple(levels), steps, coding.sampling)

    @property
    def typical_error(self) -> float:
        r"""Return the standard deviation of what rounding took, at most, in units of [0, 1].

        A coefficient that is not 0 has the variance :math:`q^2 / 12`; those that are 0 follow the
        law of Laplace of their frequency, whose scale is told by how many are 0.
        """
        total = 0.0
        weights = _from_ycc(len(self.levels)).square().sum(dim=0)
        for level, step, weight in zip(self.levels, self.steps, weights):
            is_zero = level == 0
            kept = (~is_zero).double().mean(dim=(0, 1)).clamp(1e-4, 1 - 1e-4)
            rate = -2 * kept.log() / step
            half = step / 2
            beyond = (-rate * half).exp()
            of_zero = 2 / rate**2 - beyond * (half**2 + 2 * half / rate + 2 / rate**2)
            of_zero = (of_zero / (1 - beyond)).minimum(step**2 / 12)
            variance = torch.where(is_zero, of_zero, step**2 / 12)
            total += float(variance.mean() * weight) / len(self.levels)
        return math.sqrt(total) / _WHITE

    def project(self, image: Tensor, share: float = 1.0) -> Tensor:
        """Return the picture nearest to one whose coefficients are in a share of their intervals.

        Parameters
        ----------
        image
            The picture, (1, C, H, W), in [0, 1].
        share
            The share, around the middle; 1, the default, for all of them.

        Returns
        -------
        Tensor
            Of the same shape and dtype.
        """
        planes = []
        components = zip(_components(image), self.levels, self.steps, self.sampling)
        for plane, level, step, factors in components:
            rows, columns = plane.shape
            coefficients = _transformed(_samples(plane, factors))
            reach = share * step / 2
            moved = coefficients.clamp(level - reach, level + reach) - coefficients
            whole_rows, whole_columns = (n // (_SIDE * f) for n, f in zip(plane.shape, factors))
            moved[whole_rows:] = 0
            moved[:, whole_columns:] = 0
            moved = _inverted(moved)
            for axis, factor in enumerate(factors):
                moved = moved.repeat_interleave(factor, dim=axis)
            planes.append(plane + moved[:rows, :columns])
        stacked = torch.stack(planes)
        mixed = torch.einsum("ij,jhw->ihw", _from_ycc(len(planes)), stacked)
        return ((mixed + _GREY) / _WHITE)[None].to(image)


def _check(coefficients: Tensor, levels: Tensor, step: Tensor, rounding: float) -> None:
    """Refuse coefficients that are not multiples of the steps."""
    # Of a flat block the rounding of all pixels is the same, and adds up in few coefficients.  So
    # does that of lines that are all the same, as a smooth gradient along rows or columns has.
    along_rows, along_columns = levels[..., 1:, :] == 0, levels[..., :, 1:] == 0
    is_line = along_rows.flatten(-2).all(dim=-1) | along_columns.flatten(-2).all(dim=-1)
    of_lines = max(rounding, math.sqrt(_SIDE) * _ROUNDING)
    limit = torch.where(is_line, of_lines, rounding)[..., None, None]
    tells = (coefficients.abs() > 3 * limit) & (step >= _COARSE_STEPS * limit)
    tells[..., 0, 0] = False
    if int(tells.sum()) < _FEW:
        return
    moved = ((coefficients - levels).abs() > limit)[tells]
    if float(moved.double().mean()) > _MOST_MOVED:
        raise InputError(
            "image is not what the JPEG of this coding decodes to: it was turned, cut, scaled or "
            "changed since; give the pixels of the file as they are, or leave jpeg out"
        )


# --- components ----------------------------------------------------------------------------


def _from_ycc(count: int) -> Tensor:
    """Return the matrix from components to channels."""
    if count == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    matrix: Tensor = torch.linalg.inv(torch.tensor(_TO_YCC, dtype=torch.float64))
    return matrix


def _components(image: Tensor) -> Sequence[Tensor]:
    """Return the components of a picture, each of its size, with grey at 0."""
    centred = image[0].double() * _WHITE - _GREY
    if len(centred) == 1:
        return list(centred)
    matrix = torch.tensor(_TO_YCC, dtype=torch.float64)
    return list(torch.einsum("ij,jhw->ihw", matrix, centred))


def _samples(plane: Tensor, factors: tuple[int, int]) -> Tensor:
    """Return the samples of a component, whole blocks of them, continued at the border."""
    rows, columns = (
        -(-n // (_SIDE * factor)) * _SIDE * factor for n, factor in zip(plane.shape, factors)
    )
    padding = (0, columns - plane.shape[1], 0, rows - plane.shape[0])
    padded = functional.pad(plane[None, None], padding, mode="replicate")
    return functional.avg_pool2d(padded, factors)[0, 0] if max(factors) > 1 else padded[0, 0]


def _without_interpolation(samples: Tensor, axis: int) -> Tensor:
    """Return the samples of a decoder, given means of pairs of what it interpolated of them.

    Decoders put 3/4 of a sample and 1/4 of the next one on either side; the mean of the two is
    3/4 of a sample and 1/8 of each neighbour.
    """
    x = samples.movedim(axis, -1)
    found = x
    for _ in range(_INVERSIONS):
        wide = functional.pad(found[None], (1, 1), mode="replicate")[0]
        found = found + x - (0.75 * found + 0.125 * (wide[:, :-2] + wide[:, 2:]))
    return found.movedim(-1, axis)


def _of_blocks(inside: Tensor, factors: tuple[int, int]) -> Tensor:
    """Return which blocks of samples are of pixels that are True, and no others, and are whole."""
    sizes = [_SIDE * factor for factor in factors]
    rows, columns = (-(-n // size) for n, size in zip(inside.shape, sizes))
    missing = sizes[0] * rows - inside.shape[0], sizes[1] * columns - inside.shape[1]
    padded = functional.pad(inside.double(), (0, missing[1], 0, missing[0]))
    return functional.avg_pool2d(padded[None], sizes)[0] == 1


# --- blocks --------------------------------------------------------------------------------


def _basis() -> Tensor:
    """Return the matrix of the orthonormal discrete cosine transform of 8 samples."""
    k = torch.arange(_SIDE, dtype=torch.float64)
    matrix = (math.pi / _SIDE * k[:, None] * (k + 0.5)).cos() * math.sqrt(2 / _SIDE)
    matrix[0] /= math.sqrt(2)
    return matrix


def _transformed(samples: Tensor) -> Tensor:
    """Return the coefficients of all blocks, (rows, columns, 8, 8)."""
    rows, columns = (n // _SIDE for n in samples.shape)
    blocks = samples.reshape(rows, _SIDE, columns, _SIDE).transpose(1, 2)
    matrix = _basis()
    return matrix @ blocks @ matrix.T


def _inverted(coefficients: Tensor) -> Tensor:
    """Return the samples of all blocks."""
    matrix = _basis()
    blocks = matrix.T @ coefficients @ matrix
    rows, columns = (n * _SIDE for n in coefficients.shape[:2])
    return blocks.transpose(1, 2).reshape(rows, columns)
