"""Pictures that were opened: what the page tells and shows of them, and the masks made for them."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dipfast.apps.notes import message_of
from dipfast.apps.studio.previews import Preview, preview
from dipfast.errors import DipfastError, InputError
from dipfast.images import files
from dipfast.images.display import range_of, to_planes
from dipfast.images.files import ImageFile, formats
from dipfast.warn import warnings_told

__all__ = ["Picture", "plain_name", "read_single"]

_LONGEST_NAME = 120
# Where a picture has no value at all.
_NO_RANGE = (0.0, 1.0)


def plain_name(name: str) -> str:
    """Return the name of a file as it may be shown, whatever it was sent as.

    Parameters
    ----------
    name
        The name, which may have folders before it.

    Returns
    -------
    str
        The last part, without control characters; it is never used as a path on this computer.

    Examples
    --------
    >>> plain_name("C:\\\\scans\\\\../a\\x00b.png")
    'ab.png'
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    shown = "".join(sign for sign in last if sign.isprintable()).strip()
    if len(shown) > _LONGEST_NAME:
        shown = shown[: _LONGEST_NAME - 20] + shown[-20:]
    return shown if shown.strip(".") else "picture"


@dataclass(eq=False)
class Picture:
    """Hold a picture that was opened.

    Its pixels are read from the file again whenever they are needed, so that many pictures take no
    memory.

    Attributes
    ----------
    number
        The number it has in addresses.
    name
        The name of the file, to be shown.
    path
        Where the file is: the studio's own copy, under a name of its own.
    format
        The name of its format.
    size
        Height and width.
    channels
        The number of its channels.
    dtype
        The dtype of its values.
    shown
        The values that are shown as black and white.
    preview
        What is shown of it.
    jpeg_quality
        The quality of a JPEG whose artefacts can be taken out; None for anything else.
    is_transparent
        Whether some of its pixels are not opaque.
    notes
        What the library warned of, and what is told of how the file is read.
    masks
        Masks that were made for it, eight pixels in a byte, by their number (:meth:`mask`).
    mask_notes
        What the library warned of them, by the same numbers.
    """

    number: int
    name: str
    path: Path
    format: str
    size: tuple[int, int]
    channels: int
    dtype: str
    shown: tuple[float, float]
    preview: Preview
    jpeg_quality: int | None = None
    is_transparent: bool = False
    notes: tuple[str, ...] = ()
    masks: dict[int, np.ndarray[Any, Any]] = field(default_factory=dict)
    mask_notes: dict[int, tuple[str, ...]] = field(default_factory=dict)
    _mask_numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @classmethod
    def open(cls, number: int, path: Path, name: str) -> Picture:
        """Open a file.

        Parameters
        ----------
        number
            The number that the picture gets.
        path
            The file.
        name
            What it is called by the user.

        Returns
        -------
        Picture
            The picture.

        Raises
        ------
        InputError
            If it cannot be read; the message has the user's name of the file.
        """
        name = plain_name(name)
        notes: list[str] = []
        with warnings_told(notes.append):
            source = read_single(path, name)
            planes = to_planes(source.image, source.channel_axis)
            if planes.size == 0:
                raise InputError(f"{name} has no pixels")
            finite = planes[np.isfinite(planes)]
            shown = range_of(finite, {}) if finite.size else _NO_RANGE
            if source.metadata.get("inks"):  # none of them is white
                shown = shown[::-1]
            small = preview(source.image, source.channel_axis, shown)
        return cls(
            number=number,
            name=name,
            path=path,
            format=source.format,
            size=source.size,
            channels=planes.shape[2],
            dtype=str(source.image.dtype),
            shown=shown,
            preview=small,
            jpeg_quality=None if source.jpeg is None else source.jpeg.quality,
            is_transparent=source.alpha is not None and bool(_is_clear(source.alpha).any()),
            notes=(*notes, *source.remarks),
        )

    def read(self) -> ImageFile:
        """Return the picture with its pixels."""
        return read_single(self.path, self.name)

    @property
    def stem(self) -> str:
        """Return the name without its ending."""
        return Path(self.name).stem or "picture"

    @property
    def suffix(self) -> str:
        """Return the ending of results: that of the file, where its format is written."""
        row = formats.by_name(self.format)
        own = Path(self.name).suffix.lower()
        if row.read_only:  # as raw photographs, whose developed pixels a TIFF holds
            return ".tif"
        return own if own in row.suffixes else row.suffixes[0]

    def describe(self) -> str:
        """Return format, size and type in words."""
        height, width = self.size
        colours = {1: "grey", 3: "colour"}.get(self.channels, f"{self.channels} channels")
        parts = [self.format, f"{width} x {height} pixels", colours, _depth(self.dtype)]
        if self.jpeg_quality is not None:
            parts.append(f"quality about {self.jpeg_quality}")
        if self.is_transparent:
            parts.append("with transparent pixels")
        return ", ".join(parts)

    def describe_results(self) -> str:
        """Return in words what files with results of it hold."""
        if formats.by_name(self.format).read_only:
            return f"a TIFF of {_depth(self.dtype)} with the developed pixels of {self.name}"
        return f"in the format and depth of {self.name}"

    def add_mask(self, mask: np.ndarray[Any, Any], notes: tuple[str, ...] = ()) -> int:
        """Keep a mask, and return its number, also where several threads do that at a time.

        Parameters
        ----------
        mask
            Boolean (H, W), True where pixels are missing.
        notes
            What the library warned of it; nothing by default.

        Returns
        -------
        int
            The number.

        Raises
        ------
        InputError
            If it has another size, or marks nothing or all.
        """
        if mask.shape != self.size:
            (rows, columns), (height, width) = self.size, mask.shape
            raise InputError(
                f"the mask has {width} x {height} pixels, expected {columns} x {rows}, "
                f"as {self.name} has"
            )
        if not mask.any():
            raise InputError("the mask marks no pixel as missing")
        if mask.all():
            raise InputError("the mask marks all pixels as missing")
        packed = np.packbits(mask)
        number = next(self._mask_numbers)
        self.masks[number], self.mask_notes[number] = packed, notes
        return number

    def mask(self, number: int) -> np.ndarray[Any, Any]:
        """Return a mask, boolean (H, W), by its number; KeyError if there is none."""
        packed = self.masks[number]
        rows, columns = self.size
        bits: np.ndarray[Any, Any] = np.unpackbits(packed, count=rows * columns)
        return bits.reshape(rows, columns).astype(bool)

    def transparent(self) -> np.ndarray[Any, Any]:
        """Return which pixels are not opaque, boolean (H, W)."""
        alpha = self.read().alpha
        if alpha is None:
            return np.zeros(self.size, bool)
        return _is_clear(alpha)


def read_single(path: Path, name: str, *, mask: bool = False) -> ImageFile:
    """Read a file of the user's.

    Parameters
    ----------
    path
        The file.
    name
        What it is called by the user.
    mask
        Whether it is the picture of a mask; False by default.

    Returns
    -------
    ImageFile
        The picture.

    Raises
    ------
    InputError
        If it cannot be read; the message has the user's name of the file.
    """
    try:
        return files.read_single(path, mask=mask)
    except DipfastError as error:
        # What the user called it, and not where the studio keeps it.
        raise InputError(str(error).replace(str(path), name)) from error
    except OSError as error:
        raise InputError(f"cannot read {name}: {message_of(error)}") from error


def _is_clear(alpha: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "iu" else max(1.0, alpha.max())
    clear: np.ndarray[Any, Any] = alpha < opaque
    return clear


def _depth(dtype: str) -> str:
    words: Mapping[str, str] = {"uint8": "8 bits", "uint16": "16 bits", "bool": "1 bit"}
    return words.get(dtype, dtype)


def copied(source: Path, target: Path) -> None:
    """Copy a file of the user, who may change it while it is worked on."""
    shutil.copyfile(source, target)
    target.chmod(0o600)
