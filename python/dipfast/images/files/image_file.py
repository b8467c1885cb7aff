"""An image as it was in a file, with what the file holds beside the pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from dipfast.arrays import white_of
from dipfast.errors import InputError
from dipfast.settings.jpeg import JpegCoding

__all__ = ["METRES", "ImageFile", "Resolution"]

_Array = np.ndarray[Any, Any]

METRES = {
    "m": Fraction(1),
    "dm": Fraction(1, 10),
    "cm": Fraction(1, 100),
    "mm": Fraction(1, 1000),
    "µm": Fraction(1, 10**6),
    "nm": Fraction(1, 10**9),
    "Å": Fraction(1, 10**10),
    "pm": Fraction(1, 10**12),
    "km": Fraction(1000),
    "inch": Fraction(254, 10**4),
}
"""Units of length that a resolution can be converted between."""

# Other spellings of units.
_SPELLINGS = {
    "μm": "µm",  # the Greek letter, where the other is the sign of the unit
    **dict.fromkeys(("um", "micron", "microns", "micrometer", "micrometre"), "µm"),
    **dict.fromkeys(("in", "inches"), "inch"),
    **dict.fromkeys(("millimeter", "millimetre"), "mm"),
    **dict.fromkeys(("centimeter", "centimetre"), "cm"),
    **dict.fromkeys(("meter", "metre"), "m"),
    **dict.fromkeys(("nanometer", "nanometre"), "nm"),
    **dict.fromkeys(("angstrom", "Angstrom"), "Å"),
    **dict.fromkeys(("pixel", "pixels"), ""),
}


@dataclass(frozen=True)
class Resolution:
    """Hold the number of pixels per unit of length.

    Attributes
    ----------
    x, y
        Pixels per unit, along the rows and along the columns.
    unit
        One of :data:`METRES`, another one that is only known by its name, or empty: then x and y
        say what the shape of a pixel is.
    """

    x: Fraction
    y: Fraction
    unit: str = ""

    @classmethod
    def of(cls, x: Any, y: Any, unit: str = "") -> Resolution | None:
        """Return the resolution that a file declares.

        Parameters
        ----------
        x, y
            Pixels per unit: numbers, or pairs of a numerator and a denominator.
        unit
            The unit, in any of its spellings.

        Returns
        -------
        Resolution or None
            The resolution, None if the values mean none.
        """
        unit = _SPELLINGS.get(unit.strip(), unit.strip())
        values = []
        for value in (x, y):
            # A text is not converted, because it can hold a number of any length.
            if isinstance(value, str):
                return None
            try:
                number = Fraction(*value) if isinstance(value, tuple) else Fraction(value)
            except (TypeError, ValueError, ArithmeticError):
                return None
            if not Fraction(1, 10**20) < number < 10**20:
                return None
            values.append(number)
        return None if values == [1, 1] and not unit else cls(values[0], values[1], unit)

    def enlarged(self, factor: int) -> Resolution:
        """Return the resolution of an image with ``factor`` times as many rows and columns."""
        return replace(self, x=self.x * factor, y=self.y * factor)

    def turned(self) -> Resolution:
        """Return the resolution of an image whose rows and columns are exchanged."""
        return replace(self, x=self.y, y=self.x)

    def to(self, unit: str) -> Resolution | None:
        """Return the resolution in another unit of length.

        Parameters
        ----------
        unit
            One of :data:`METRES`.

        Returns
        -------
        Resolution or None
            The same resolution.  Without a unit it stays so, in whole numbers.  None if its own
            unit is only known by name.
        """
        if not self.unit:
            scale = Fraction(math.lcm(self.x.denominator, self.y.denominator))
            return Resolution(self.x * scale, self.y * scale)
        if self.unit not in METRES:
            return None
        scale = METRES[unit] / METRES[self.unit]
        return Resolution(self.x * scale, self.y * scale, unit)

    def in_whole_numbers(self, largest: int) -> tuple[int, int] | None:
        """Return the resolution in whole numbers.

        Parameters
        ----------
        largest
            The largest number that is allowed.

        Returns
        -------
        tuple of int or None
            Pixels per unit along rows and columns, None if a number is too large or more than a
            per cent off.
        """
        x, y = max(round(self.x), 1), max(round(self.y), 1)
        close = abs(x - self.x) <= self.x / 100 and abs(y - self.y) <= self.y / 100
        return (x, y) if close and max(x, y) <= largest else None


@dataclass(frozen=True)
class ImageFile:
    """An image, or a stack of images of one size, as it was in a file.

    Attributes
    ----------
    image
        Array (H, W), or with one more axis for the channels, and with those of a stack; no alpha.
    channel_axis
        The axis of the channels; None if there is none.
    alpha
        Opacity (H, W), with the axes of a stack in front, not multiplied into the image, or None;
        it is passed through to the result.
    metadata
        What else to keep, for :func:`write_image`: the resolution, a colour profile, EXIF, what
        ImageJ, OME or GeoTIFF say.
    format
        Name of the format in :data:`dipfast.images.files.formats.FORMATS`, as ``"PNG"``; empty
        if the image is not from a file.
    jpeg
        How a JPEG was coded; None for other formats, and where that is not understood.
    stack_axes
        The axes along which images are stacked, in their order; empty for a single image.
    stack_names
        A letter for each of these, as files have them: T for time, Z for depth, and others where
        the file does not tell.
    remarks
        What had to be assumed in reading, in words.
    unread
        That one of the remarks which says what of the file is not in the image, and of which
        :func:`write_image` warns; empty if nothing was left out.
    """

    image: _Array
    channel_axis: int | None = None
    alpha: _Array | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    format: str = ""
    jpeg: JpegCoding | None = None
    stack_axes: tuple[int, ...] = ()
    stack_names: str = ""
    remarks: tuple[str, ...] = ()
    unread: str = ""

    @property
    def assumptions(self) -> tuple[str, ...]:
        """Return the remarks without what :func:`write_image` warns of, too."""
        return tuple(remark for remark in self.remarks if remark != self.unread)

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width."""
        rows, columns = (self.image.shape[axis] for axis in self._pixel_axes)
        return rows, columns

    @property
    def transparent(self) -> Any:
        """Return which pixels are not opaque, a boolean array; None without opacity."""
        return None if self.alpha is None else self.alpha < white_of(self.alpha)

    @property
    def stack_shape(self) -> tuple[int, ...]:
        """Return how many images there are along each axis of a stack; empty for a single one."""
        return tuple(self.image.shape[axis] for axis in self.stack_axes)

    @property
    def stack_axis(self) -> tuple[int, ...] | None:
        """Return what the functions of dipfast are to be told: the axes, None for a single one."""
        return self.stack_axes or None

    def described_stack(self) -> str:
        """Return how many images there are along which axes, in words; empty for a single one."""
        if not self.stack_axes:
            return ""
        known = f" ({self.stack_names})" if set(self.stack_names) <= set("TZ") else ""
        return f"{' x '.join(map(str, self.stack_shape))} planes{known if self.stack_names else ''}"

    def in_order_of(self, other: ImageFile) -> _Array:
        """Return the image with its axes in the order that those of another one have.

        Parameters
        ----------
        other
            A file with as many axes of a stack, and with channels if this one has some.

        Returns
        -------
        numpy.ndarray
            A view.
        """
        canonical = self.image.transpose(self._canonical_axes)
        return np.asarray(canonical.transpose(np.argsort(other._canonical_axes)))

    def stacked_as(self, other: ImageFile) -> ImageFile:
        """Return the file with the axes of its stack in the order that those of another one have.

        Parameters
        ----------
        other
            A file with a stack, too.

        Returns
        -------
        ImageFile
            The file; itself, if its axes do not have the same names, each once, as the other's.
        """
        names = self.stack_names
        if len(set(names)) < len(names) or sorted(names) != sorted(other.stack_names):
            return self
        order = [names.index(name) for name in other.stack_names]
        axes = tuple(self.stack_axes[k] for k in order)
        return replace(self, stack_axes=axes, stack_names=other.stack_names)

    def arranged(self) -> _Array:
        """Return the image with the axes of a stack in front, and one of channels at the end."""
        image = self.image.transpose(self._canonical_axes)
        return np.asarray(image if self.channel_axis is not None else image[..., None])

    def as_before(self, arranged: _Array) -> _Array:
        """Return an array in the form of :meth:`arranged` with its axes as the image has them."""
        image = arranged if self.channel_axis is not None else arranged[..., 0]
        return np.asarray(image.transpose(np.argsort(self._canonical_axes)))

    @property
    def _canonical_axes(self) -> list[int]:
        """The axes of a stack, of rows and columns, and of channels."""
        channels = [] if self.channel_axis is None else [self.channel_axis % self.image.ndim]
        return [*self.stack_axes, *self._pixel_axes, *channels]

    @property
    def _pixel_axes(self) -> list[int]:
        """The axes of rows and columns."""
        count = self.image.ndim
        others = [*self.stack_axes, *([] if self.channel_axis is None else [self.channel_axis])]
        return [axis for axis in range(count) if axis not in [other % count for other in others]]

    def enlarged(
        self,
        factor: int,
        resize: Callable[[_Array, tuple[int, int]], Any] | None = None,
    ) -> ImageFile:
        """Return the file that a result with ``factor`` times the rows and columns is like.

        The field of view is the same: there are ``factor`` times as many pixels per unit of
        length, and everything else that counts in pixels follows; what cannot is left out, which
        :func:`write_image` warns of.

        Parameters
        ----------
        factor
            A positive whole number.
        resize
            Function of an array (H, W) of float64 and a size (height, width) that returns the
            array in that size.  It is needed if there is opacity, and for nothing else.

        Returns
        -------
        ImageFile
            The file; its ``image`` has the new shape and the type, but its pixels are all 0.

        Raises
        ------
        ValueError
            If the factor is no positive whole number, or ``resize`` is missing.
        """
        if factor < 1 or factor != int(factor):
            raise InputError(f"factor must be a positive whole number, got {factor}")
        if factor == 1:
            return self
        factor = int(factor)
        height, width = (factor * length for length in self.size)
        pixel_axes = self._pixel_axes
        lengths = enumerate(self.image.shape)
        shape = [factor * n if axis in pixel_axes else n for axis, n in lengths]
        alpha = self.alpha
        if alpha is not None:
            if resize is None:
                raise InputError(
                    "resize must be given, because the file has opacity: a function of an array "
                    "and a size, such as dipfast.ops.resize"
                )
            planes = alpha.reshape(-1, *alpha.shape[-2:]).astype(np.float64)
            large = np.stack([np.asarray(resize(plane, (height, width))) for plane in planes])
            alpha = _like(alpha, large.reshape(*alpha.shape[:-2], height, width))
        metadata: dict[str, Any] = {}
        for key, value in self.metadata.items():
            enlarge = getattr(value, "enlarged", None)
            metadata[key] = value if enlarge is None else enlarge(factor)
        # A view in which all elements are the same one takes no memory.
        image = np.broadcast_to(np.zeros((), self.image.dtype), shape)
        return replace(self, image=image, alpha=alpha, metadata=metadata)


def _like(alpha: _Array, values: _Array) -> _Array:
    """Return values in the type and within the range of opacity."""
    if alpha.dtype.kind in "iu":
        values = values.round()
    return values.clip(alpha.min(), alpha.max()).astype(alpha.dtype)
