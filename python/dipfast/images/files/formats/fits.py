"""FITS: images of telescopes, with their header."""

from __future__ import annotations

import math
from collections.abc import Iterator
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits

from dipfast.errors import UnreadableFileError
from dipfast.images.files import limits
from dipfast.images.files.formats._fits_headers import Headers
from dipfast.images.files.formats._fits_tiles import check_tiles
from dipfast.images.files.formats._fits_units import Unit, texts_of, units
from dipfast.images.files.formats._numbers import not_kept, read_numbers
from dipfast.images.files.image_file import ImageFile
from dipfast.warn import without_warnings

__all__ = ["has_channels", "read", "shape_of", "write"]

_Array = np.ndarray[Any, Any]

_TYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
# FITS has these types as others that are shifted: BZERO, by BITPIX.
_SHIFTED = {8: -128, 16: 2**15, 32: 2**31, 64: 2**63}
# What says which number means no data, in an image and in one that is compressed.
_BLANKS = ("BLANK", "ZBLANK")
_CHANNELS = (3, 4)
_MOST_AXES = 5
_LONGEST_NAME = 40
# What may be in a header; other bytes become question marks.
_PRINTABLE = bytes(code if 32 <= code < 127 else ord("?") for code in range(256))
# Of what belongs to how numbers are stored, and to the old numbers, nothing is kept.
_OF_NUMBERS = (
    *("BSCALE", "BZERO", "BLANK", "CHECKSUM", "DATASUM", "DATAMIN", "DATAMAX"),
    *("ZBLANK", "ZSCALE", "ZZERO", "ZHECKSUM", "ZDATASUM"),
)


def read(stream: BinaryIO) -> ImageFile:
    """Read the first image of a FITS file, which may be a cube: a stack of images.

    Three or four planes in front of the pixels are channels, and all axes in front of these, or of
    any other number, are those of a stack.

    Rows stay in the order that they have in the file, so that coordinates stay right: viewers
    of FITS show the first row at the bottom.  Pixels of the value BLANK become NaN.

    Parameters
    ----------
    stream
        The file, at its beginning.

    Returns
    -------
    ImageFile
        The image, with its header.

    Raises
    ------
    UnreadableFileError
        If what the file declares is refused; the decoder may raise anything else.
    """
    every = units(stream)
    with without_warnings():  # of astropy, about headers that are not quite as they should be
        first = unit = next(every, None)
        before = 0
        while unit is not None and (len(unit.shape) < 2 or 0 in unit.shape):
            unit, before = next(every, None), before + 1
        if first is None or unit is None:
            raise UnreadableFileError("it holds no image of two axes")
        # The unit of the header that is kept beside that of the image is no loss, if it is no more.
        others = before - (before > 0 and first.size == 0) + _number_of(every)
        shape, ones = shape_of(unit.shape)
        planes = math.prod(shape[:-2])
        limits.check_size(shape[-1], shape[-2], planes, _itemsize(unit))
        if unit.tile:
            numbers, header = _decompressed(stream, unit)
        else:
            numbers, header = _plain(stream, unit)
        pixels, missing = _scaled(numbers, header, unit.bits)
        pixels = pixels.reshape(shape)
        primary = None if unit is first else _header_of(first)
        for each in (header,) if primary is None else (header, primary):
            for key in _OF_NUMBERS:
                each.remove(key, ignore_missing=True, remove_all=True)
        lost = (f"{others} other HDU{'s' * (others > 1)}",) if others else ()
        unread = _which_is_read(unit, before, others) if others else ""
        kept = Headers(header, primary, ones, lost)
        kept = _sound(kept.without_tables() if others else kept)
    is_of_channels = has_channels(shape)
    axes = tuple(range(len(shape) - 2 - is_of_channels))
    remarks: tuple[str, ...] = ()
    if axes:
        what = "axis is" if len(axes) == 1 else f"{len(axes)} axes are"
        channels = f", axis {len(axes)} for its channels" if is_of_channels else ""
        remarks = (f"shape {shape}: the first {what} taken for a stack{channels}",)
    elif is_of_channels and shape[0] > 1:
        remarks = (f"shape {shape}: the first axis is taken for channels, not for a stack",)
    remarks = (missing, *remarks) if missing else remarks
    return ImageFile(
        pixels,
        len(axes) if is_of_channels else None,
        None,
        {"fits": kept},
        stack_axes=axes,
        stack_names="Q" * len(axes),
        remarks=(unread, *remarks) if unread else remarks,
        unread=unread,
    )


def _which_is_read(unit: Unit, number: int, others: int) -> str:
    """Return the remark that says which unit is read, by its number as astropy has it."""
    text = texts_of(unit.header.translate(_PRINTABLE)).get("EXTNAME", "")
    name = f" ({text[:_LONGEST_NAME]})" if text else ""
    rest = "1 other is" if others == 1 else f"{others} others are"
    return f"HDU {number}{name} is read, and {rest} left out"


def _itemsize(unit: Unit) -> int:
    """Return how many bytes a number of an image has at most when it has been read."""
    header = _header_of(unit)
    scale, zero = _number(header, "BSCALE", 1), _number(header, "BZERO", 0)
    stays = scale == 1 and zero in (0, _SHIFTED.get(unit.bits))
    if unit.bits < 0 or (stays and not any(key in header for key in _BLANKS)):
        return abs(unit.bits) // 8
    # Integers become floats, which have 8 bytes if those of 4 would not hold them.
    return 4 if unit.bits in (8, 16) else 8


def _number_of(rest: Iterator[Unit]) -> int:
    """Return how many units follow; damage of what is not read is none of this image."""
    count = 0
    try:
        for _ in rest:
            count += 1
    except UnreadableFileError:
        count += 1
    return count


def shape_of(declared: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """Return the shape of an image or a cube, and how many axes of length one are in front.

    Parameters
    ----------
    declared
        The shape that the header says, with two axes at least.

    Returns
    -------
    tuple
        The shape without these axes, and their number.

    Raises
    ------
    UnreadableFileError
        If there are too many axes.
    """
    ones = 0
    while ones < len(declared) - 2 and declared[ones] == 1:
        ones += 1
    shape = declared[ones:]
    if len(shape) > _MOST_AXES:
        raise UnreadableFileError(
            f"it has {len(shape)} axes (shape {shape[:6]}, ...), expected {_MOST_AXES} at most; "
            "write an image, or a cube, to a file of its own"
        )
    return shape, ones


def has_channels(shape: tuple[int, ...]) -> bool:
    """Return whether the axis in front of the pixels is taken for channels.

    Parameters
    ----------
    shape
        The shape of an image or a cube, of :func:`shape_of`.

    Returns
    -------
    bool
        True for three or four planes there.
    """
    return len(shape) > 2 and shape[-3] in _CHANNELS


def _header_of(unit: Unit) -> fits.Header:
    """Return the header of a unit as astropy has it."""
    return fits.Header.fromstring(unit.header.translate(_PRINTABLE).decode("ascii"))


def _sound(kept: Headers) -> Headers:
    """Return headers that can be written, which are empty if what was read cannot."""
    pixels = np.zeros((1, 1), np.uint8)
    try:
        for headers in (kept, kept.enlarged(2)):
            write(BytesIO(), pixels, ImageFile(pixels, metadata={"fits": headers}))
    except Exception:  # astropy raises exceptions of several types for damaged cards
        return Headers(fits.Header(), None, kept.ones, (*kept.lost, "header, which is damaged"))
    return kept


def _plain(stream: BinaryIO, unit: Unit) -> tuple[_Array, fits.Header]:
    """Return the numbers of an image, and its header."""
    dtype = np.dtype(_TYPES[unit.bits])
    count = math.prod(unit.shape)
    if count * dtype.itemsize != unit.size:
        raise UnreadableFileError("it holds several groups of images, expected one image")
    stream.seek(unit.place)
    return read_numbers(stream, dtype, count), _header_of(unit)


def _decompressed(stream: BinaryIO, unit: Unit) -> tuple[_Array, fits.Header]:
    """Return the numbers of an image that is compressed in tiles, and its header."""
    check_tiles(stream, unit)
    # Nothing but the one unit is given to the decoder, behind an empty one as FITS needs it.
    alone = BytesIO()
    fits.PrimaryHDU().writeto(alone)
    stream.seek(unit.start)
    alone.write(stream.read(unit.place + unit.size - unit.start))
    alone.write(bytes(-alone.tell() % 2880))
    alone.seek(0)
    with fits.open(alone, memmap=False, do_not_scale_image_data=True) as opened:
        image = opened[1]
        header = image.header.copy()
        data = image.data
        if data is None or data.shape != unit.shape:
            raise UnreadableFileError("its compressed pixels are damaged")
        return np.array(data, data.dtype.newbyteorder("=")).reshape(-1), header


def _scaled(numbers: _Array, header: fits.Header, bits: int) -> tuple[_Array, str]:
    """Return what numbers mean by BSCALE, BZERO and BLANK, and what became NaN, in words."""
    scale, zero = _number(header, "BSCALE", 1), _number(header, "BZERO", 0)
    blank = header.get("BLANK") if numbers.dtype.kind in "iu" else None
    missing = None
    if isinstance(blank, int) and not isinstance(blank, bool):
        limit = np.iinfo(numbers.dtype)
        if limit.min <= blank <= limit.max:
            missing = numbers == blank
            if not missing.any():
                missing = None
    if missing is None and scale == 1 and zero == 0:
        return numbers, ""
    if missing is None and scale == 1 and zero == _SHIFTED.get(bits):
        # The sum, modulo the number of values, is the first bit turned round.
        size = numbers.dtype.itemsize
        unsigned = numbers.view(f"u{size}")
        unsigned ^= unsigned.dtype.type(1 << (8 * size - 1))
        return (unsigned if numbers.dtype.kind == "i" else unsigned.view(f"i{size}")), ""
    if numbers.dtype.kind == "f":
        dtype = numbers.dtype
    else:
        dtype = np.dtype(np.float32 if numbers.dtype.itemsize <= 2 else np.float64)
    with np.errstate(all="ignore"):
        values: _Array = (numbers * np.float64(scale) + np.float64(zero)).astype(dtype)
    if missing is None:
        return values, ""
    values[missing] = np.nan
    count = np.count_nonzero(missing)
    what = "1 value" if count == 1 else f"{count} values"
    mean = "means" if count == 1 else "mean"
    return values, f"{what} of BLANK ({blank}) {mean} no data: NaN, so that all are {dtype}"


def _number(header: fits.Header, key: str, usual: float) -> float:
    """Return a number of a header that scales pixels."""
    value = header.get(key, usual)
    valid = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not valid or not abs(value) < 1e300 or (key == "BSCALE" and value == 0):
        raise UnreadableFileError(f"its header declares {key} = {str(value)[:30]!r}")
    return float(value)


def write(stream: BinaryIO, pixels: _Array, like: ImageFile) -> list[str]:
    """Write an image as FITS.

    Parameters
    ----------
    stream
        Where to write.
    pixels
        Array (H, W) or (H, W, samples), behind the axes of a stack.
    like
        The image; if it is of a FITS file, its header is written too.

    Returns
    -------
    list of str
        What could not be kept, in words.
    """
    stack = len(like.stack_axes)
    if pixels.ndim == stack + 3:
        pixels = np.ascontiguousarray(np.moveaxis(pixels, -1, stack))
    kept: Headers | None = like.metadata.get("fits")
    made: list[Any]
    with without_warnings():
        if kept is None:
            made = [fits.PrimaryHDU(pixels)]
        else:
            pixels = pixels.reshape((1,) * kept.ones + pixels.shape)
            if kept.primary is None:
                made = [fits.PrimaryHDU(pixels, kept.image)]
            else:
                made = [fits.PrimaryHDU(header=kept.primary), fits.ImageHDU(pixels, kept.image)]
        buffer = BytesIO()
        # Cards that are not as they should be are written as they were.
        fits.HDUList(made).writeto(buffer, output_verify="ignore")
        stream.write(buffer.getbuffer())
    return not_kept(like)
