"""Arrays of NumPy: ``.npy``, and ``.npz`` with one array, which is written as ``.npy``."""

from __future__ import annotations

import math
import os
import zipfile
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO, cast

import numpy as np

from dipfast.errors import UnreadableFileError
from dipfast.images.files import limits
from dipfast.images.files.formats import by_name
from dipfast.images.files.formats._array_axes import MOST_AXES, axes_of
from dipfast.images.files.formats._numbers import not_kept, read_numbers
from dipfast.images.files.image_file import ImageFile
from dipfast.warn import without_warnings

__all__ = ["ArrayForm", "axes_of", "read", "write"]

_Array = np.ndarray[Any, Any]

# The most bytes of a header; that of an image has about 100.
_LONGEST_HEADER = 10_000
# The most bytes of the list of files in an archive, and how many of them a message names.
_LONGEST_LIST = 1 << 20
_NAMED = 5
# Deflate makes at most so many bytes of one.
_MOST_DEFLATED = 1032
_READERS = {
    (1, 0): (2, np.lib.format.read_array_header_1_0),
    (2, 0): (4, np.lib.format.read_array_header_2_0),
}


@dataclass(frozen=True)
class ArrayForm:
    """Hold the form that an array had in its file.

    Attributes
    ----------
    byte_order
        The order of bytes, as NumPy names it.
    fortran
        Whether the first index changes fastest.
    axis
        The axis of the channels, None if there is none; those of a stack are in front.
    """

    byte_order: str
    fortran: bool
    axis: int | None
    names = ()  # what another format would lack: nothing that changes the image


def read(stream: BinaryIO) -> ImageFile:
    """Read the one array of a file.

    Parameters
    ----------
    stream
        The file, at its beginning.

    Returns
    -------
    ImageFile
        The array as an image, with its form in the file.

    Raises
    ------
    UnreadableFileError
        If the file declares what is refused: objects, several arrays, another shape than that
        of an image, or a size that it does not have.
    """
    archive = stream.read(2) == b"PK"
    size = os.fstat(stream.fileno()).st_size
    stream.seek(0)
    if not archive:
        return _read_array(stream, size)
    with zipfile.ZipFile(cast(Any, _Archive(stream))) as opened:
        entry = _only_array(opened.infolist())
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnreadableFileError(
                "its compression is not one of NumPy; write it with numpy.savez_compressed"
            )
        packed = min(entry.compress_size, size)
        with opened.open(entry) as member:
            # What the archive says of the size is not trusted further than packed bytes reach.
            held = min(entry.file_size, packed * _MOST_DEFLATED)
            return _read_array(cast(BinaryIO, member), held)


class _Archive:
    """Be the stream of an archive, of which no more is read at a time than is sensible.

    Module zipfile reads a list of files of any length, and needs several times as much memory.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable

    def read(self, size: int = -1) -> bytes:
        """Return bytes, or refuse if they are too many for a list of files."""
        data = self._stream.read(_LONGEST_LIST + 1 if size < 0 else min(size, 2 * _LONGEST_LIST))
        if size < 0 and len(data) > _LONGEST_LIST:
            raise UnreadableFileError("its list of files is too long")
        return data


def _only_array(entries: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    """Return the one array of an archive, and name them if there are more."""
    names = [entry.filename for entry in entries]
    arrays = [entry for entry in entries if entry.filename.endswith(".npy")]
    if any(name.rpartition("/")[2] in (".zarray", ".zgroup", "zarr.json") for name in names):
        raise UnreadableFileError(
            "it is a Zarr store in an archive (ZIP), which is read from a folder only; unpack it"
        )
    if not arrays:
        raise UnreadableFileError("it is an archive (ZIP) without an array of NumPy")
    if len(entries) > 1:
        named = ", ".join(name.removesuffix(".npy")[:40] for name in names[:_NAMED])
        named += ", ..." if len(names) > _NAMED else ""
        raise UnreadableFileError(
            f"it holds {len(names)} arrays ({named}), expected one; "
            "write the one that is the image with numpy.save"
        )
    return arrays[0]


def _read_array(stream: BinaryIO, size: int) -> ImageFile:
    """Return the array of a stream of so many bytes."""
    shape, fortran, dtype, used = _header(stream)
    if dtype.hasobject:
        raise UnreadableFileError(
            "it holds Python objects, which are not read because they could run programs; "
            "write an array of numbers"
        )
    known = by_name("NumPy").dtypes
    # Booleans are masks, and no images: read_image refuses them.
    if dtype.name not in (*known, "bool") or dtype.shape:
        raise UnreadableFileError(
            f"arrays of type {dtype.name} are not supported; convert it with array.astype to one "
            f"of {', '.join(known)}"
        )
    if not 2 <= len(shape) <= MOST_AXES:
        raise UnreadableFileError(
            f"it has the shape {shape}, expected one image, (height, width), with one more axis "
            "for channels, and up to two in front for a stack"
        )
    # Which axes are the pixels does not matter for the size.
    limits.check_size(shape[-1], shape[-2], math.prod(shape[:-2]), dtype.itemsize)
    count = int(np.prod(shape, dtype=object))
    if count < 1 or used + count * dtype.itemsize != size:
        raise UnreadableFileError(
            f"it declares an array of shape {shape} and type {dtype.name}, "
            f"{count * dtype.itemsize} bytes, and there are {size - used}"
        )
    stack, axis, remarks = axes_of(shape)
    order = dtype.byteorder
    pixels = read_numbers(stream, dtype, count).reshape(shape, order="F" if fortran else "C")
    return ImageFile(
        pixels,
        axis,
        None,
        {"array": ArrayForm(order, fortran, axis)},
        stack_axes=tuple(range(stack)),
        stack_names="Q" * stack,
        remarks=remarks,
    )


def _header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, order and type of an array, and how many bytes that took."""
    version = np.lib.format.read_magic(stream)
    if version not in _READERS:
        raise UnreadableFileError(
            f"it has the version {version[0]}.{version[1]} of the format, which arrays of plain "
            "numbers do not need; write it again with numpy.save"
        )
    width, reader = _READERS[version]
    head = stream.read(width)
    length = int.from_bytes(head, "little")
    if length > _LONGEST_HEADER:
        raise UnreadableFileError(f"its header has {length} bytes, too many for an image")
    text = stream.read(length)
    with without_warnings():  # of headers that Python 2 wrote
        shape, fortran, dtype = reader(BytesIO(head + text))
    return tuple(map(int, shape)), bool(fortran), dtype, 8 + width + length


def write(stream: BinaryIO, pixels: _Array, like: ImageFile) -> list[str]:
    """Write an image as an array.

    Parameters
    ----------
    stream
        Where to write.
    pixels
        Array (H, W) or (H, W, samples), behind the axes of a stack.
    like
        The image; if it is of such a file, the array is written in the same form.

    Returns
    -------
    list of str
        What could not be kept, in words.
    """
    form = like.metadata.get("array")
    if form is not None:
        if form.axis is not None:
            in_plane = pixels.ndim - len(like.stack_axes)
            channels = pixels if in_plane == 3 else pixels[..., None]
            pixels = np.moveaxis(channels, -1, form.axis)
        dtype = pixels.dtype.newbyteorder(form.byte_order if form.byte_order in "<>" else "=")
        pixels = pixels.astype(dtype, order="F" if form.fortran else "C")
    np.lib.format.write_array(stream, pixels, allow_pickle=False)
    return not_kept(like)
