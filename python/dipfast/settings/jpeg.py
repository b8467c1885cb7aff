"""How a JPEG file was coded."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dipfast.errors import InputError, UnreadableFileError

__all__ = ["POOR_JPEG", "JpegCoding", "jpeg_quality"]

POOR_JPEG = 60
"""At this quality and below the artefacts of a JPEG are more than most noise that it still has."""

_SIDE = 8

# Steps of quantisation of brightness at quality 50 (ITU-T T.81, table K.1), in ascending order.
_STEPS = sorted(
    (
        *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
        *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
        *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
    )
)


@dataclass(frozen=True)
class JpegCoding:
    """Hold how the coefficients of a JPEG were rounded: what was lost of the picture.

    Give it to :func:`dipfast.denoise` as ``jpeg`` with the pixels of the same file.

    Parameters
    ----------
    tables
        For each component, brightness alone or Y, Cb and Cr, the 64 steps that the coefficients of
        the discrete cosine transform of 8x8 samples were rounded to multiples of, row by row.
    sampling
        For each component, how many rows and columns of pixels a sample is the mean of: 1 or 2.

    Raises
    ------
    InputError
        If there are not one or three components, a table does not have 64 positive steps, or
        brightness has less samples than pixels, or colour less than every second row or column.

    Examples
    --------
    >>> coding = JpegCoding(((16,) * 64,), ((1, 1),))
    >>> coding.mean_step
    16.0
    """

    tables: tuple[tuple[int, ...], ...]
    sampling: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if len(self.tables) not in (1, 3) or len(self.sampling) != len(self.tables):
            raise InputError(
                "tables and sampling must have an entry for each of 1 or 3 components, got "
                f"{len(self.tables)} and {len(self.sampling)}"
            )
        for table in self.tables:
            if len(table) != _SIDE**2 or min(table) < 1:
                raise InputError(f"tables must have 64 positive steps each, got {table!r}")
        if self.sampling[0] != (1, 1) or not {n for pair in self.sampling for n in pair} <= {1, 2}:
            raise InputError(
                "sampling must be (1, 1) for brightness, and 1 or 2 rows and columns for colour, "
                f"got {self.sampling!r}"
            )

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> JpegCoding:
        """Return the coding of a file.

        Parameters
        ----------
        path
            A JPEG file.

        Returns
        -------
        JpegCoding
            How it was coded.

        Raises
        ------
        OSError
            If it cannot be read.
        UnreadableFileError
            If it is not a JPEG, of one or three components that are sampled as most are, and
            upright: blocks of a picture that is to be turned are not where they were.
        """
        from PIL import Image

        try:
            with Image.open(path, formats=("JPEG",)) as opened:
                coding = cls.of(opened)
        except (SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UnreadableFileError(f"cannot read {os.fspath(path)}: {error}") from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise UnreadableFileError(f"cannot read {os.fspath(path)}: not a JPEG") from error
        if coding is None:
            raise UnreadableFileError(
                f"cannot tell how {os.fspath(path)} was coded: it is turned by its EXIF, or its "
                "components are sampled in an unusual way"
            )
        return coding

    @classmethod
    def of(cls, opened: Any) -> JpegCoding | None:
        """Return the coding of a file that Pillow has opened.

        Parameters
        ----------
        opened
            A ``PIL.JpegImagePlugin.JpegImageFile``.

        Returns
        -------
        JpegCoding or None
            None if it is none of those that are understood.
        """
        orientation = 0x0112
        tables, layers = opened.quantization, opened.layer
        if opened.mode not in ("L", "RGB") or opened.getexif().get(orientation, 1) != 1:
            return None
        # Components of three that are red, green and blue themselves are hardly ever met.
        if len(layers) == 3 and opened.info.get("adobe_transform") == 0:
            return None
        rows, columns = (max(layer[k] for layer in layers) for k in (2, 1))
        if len(layers) == 1:  # what a single component says of its sampling means nothing
            rows, columns = layers[0][2], layers[0][1]
        try:
            return cls(
                tuple(tuple(int(step) for step in tables[layer[3]]) for layer in layers),
                tuple((rows // layer[2], columns // layer[1]) for layer in layers),
            )
        except (InputError, KeyError, ZeroDivisionError):
            return None

    @property
    def mean_step(self) -> float:
        """Return the mean of the nine steps of brightness of the lowest frequencies.

        It is what noise of the same strength hangs on (Foi, Katkovnik, Egiazarian, "Pointwise
        shape-adaptive DCT for high-quality denoising and deblocking", IEEE TIP 2007).
        """
        table = self.tables[0]
        return sum(table[_SIDE * row + column] for row in range(3) for column in range(3)) / 9

    @property
    def quality(self) -> int | None:
        """Return the quality from 1 to 100 that an encoder was most likely told."""
        return jpeg_quality({0: self.tables[0]})


def jpeg_quality(tables: Mapping[int, Sequence[int]]) -> int | None:
    """Return the quality from 1 to 100 that an encoder was most likely told.

    Encoders after the Independent JPEG Group scale one table with the quality; that of other
    encoders is the nearest such table.

    Parameters
    ----------
    tables
        The steps of quantisation by the number of the table; the first is that of brightness.

    Returns
    -------
    int or None
        The quality; None if there is no table of brightness.

    Examples
    --------
    >>> jpeg_quality({})
    """
    steps = sorted(tables.get(0, ()))
    if len(steps) != len(_STEPS):
        return None

    def distance(quality: int) -> float:
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality
        scaled = (min(max((step * scale + 50) // 100, 1), 255) for step in _STEPS)
        return sum(abs(math.log(a / max(b, 1))) for a, b in zip(scaled, steps))

    # The higher of two that fit equally well, because 100 is what others round to.
    return min(range(100, 0, -1), key=distance)
