"""Reading images: the content says what format it is, and every error names the file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dipfast.errors import MissingExtraError, UnreadableFileError
from dipfast.images.files import formats, limits
from dipfast.images.files.formats import Format
from dipfast.images.files.image_file import ImageFile
from dipfast.images.files.safe import open_regular

__all__ = ["read_image", "read_mask", "read_single"]

# A file beside those of a series of DICOM, which lists them.
_INDEX = "DICOMDIR"
# How files begin that are packed, and with what.
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def read_image(path: str | Path) -> ImageFile:
    """Read one image, or a stack of images of one size.

    Parameters
    ----------
    path
        A file of one of the formats in :data:`dipfast.images.files.formats.FORMATS`, or a folder
        of one whose images are folders (Zarr), or that has a series of files and no other pictures
        in it (DICOM).  The content says which; the ending of its name
        only tells raw photographs of cameras from TIFF.

    Returns
    -------
    ImageFile
        The image, with what the file holds beside the pixels.  Its ``stack_axes`` are those of a
        stack, such as depth or time, which TIFF (also of ImageJ and OME), NumPy, FITS, Zarr and
        DICOM hold.

    Raises
    ------
    OSError
        If the file cannot be read (FileNotFoundError, IsADirectoryError, ...).
    ValueError
        If it is not an image of a format that is known, is damaged, holds images of several sizes
        or kinds, or would decode to more than :data:`limits.LARGEST_IMAGE` bytes or than memory
        holds (:class:`~dipfast.errors.UnreadableFileError`), or is no regular file.
    MissingExtraError
        If the format needs an extra of dipfast that is not installed.
    """
    source = _read_path(Path(path))
    if source.image.dtype == bool:
        raise UnreadableFileError(
            f"cannot read {path}: arrays of type bool are read as masks only; convert an image "
            "with array.astype('uint8')"
        )
    return source


def read_mask(path: str | Path) -> ImageFile:
    """Read the picture of a mask, which may be an array of booleans.

    Parameters
    ----------
    path
        As in :func:`read_image`.

    Returns
    -------
    ImageFile
        The picture; of booleans it has 255 where they are True and 0 elsewhere, in uint8.

    Raises
    ------
    OSError, ValueError, MissingExtraError
        As :func:`read_image` does.
    """
    source = _read_path(Path(path))
    if source.image.dtype != bool:
        return source
    # In a file a boolean can be any byte.
    chosen = source.image.view(np.uint8) != 0
    return replace(source, image=np.where(chosen, np.uint8(255), np.uint8(0)))


def _read_path(path: Path) -> ImageFile:
    """Return the image of a file or folder, which may be one of booleans."""
    if path.is_dir():
        return _read_folder(path)
    with open_regular(path) as stream, _naming(path):
        return _read(stream)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever reading raises into an error that names the file."""
    try:
        yield
    except MissingExtraError:
        raise
    except MemoryError as error:
        reason = "memory does not suffice for what it declares"
        raise UnreadableFileError(f"cannot read {path}: {reason}") from error
    except Exception as error:
        # Errors of the operating system have a number.  EINVAL is an exception: it is the
        # answer to a decoder that a damaged file sends to an impossible offset.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise OSError(error.errno, error.strerror, str(path)) from error
        # A decoder may quote what it read, at any length and with any control characters.
        text = str(error)[:300] or type(error).__name__
        reason = "".join(sign if sign.isprintable() else " " for sign in text)
        raise UnreadableFileError(f"cannot read {path}: {reason}") from error


def _read_folder(path: Path) -> ImageFile:
    """Return the image that a folder is, or the stack that its files are."""
    row = formats.by_folder(path)
    if row is not None:
        with _naming(path):
            return replace(row.load_for_folders().read(path), format=row.name)
    named = formats.by_suffix(path)
    if named is not None and named.entries:
        missing = " or ".join(named.entries)
        raise UnreadableFileError(f"cannot read {path}: it has no {missing}, as {named.name} has")
    with _naming(path):
        row, paths = _series_in(path)
        if row is not None:
            return replace(row.load_for_series().read_series(paths), format=row.name)
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def _series_in(folder: Path) -> tuple[Format | None, list[Path]]:
    """Return the format whose files, and no other pictures, are in a folder, and these files.

    Files that are no pictures do not matter.  If the first picture is of a format that has no
    series, there is none.
    """
    found: list[Path] = []
    row = None
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.upper() == _INDEX or not path.is_file():
            continue
        with open_regular(path) as stream:
            other = formats.by_content(stream.read(formats.longest_signature()), path)
        if other is None:
            continue
        row = row or other
        if not row.series:
            return None, []
        if other != row:
            raise UnreadableFileError(
                f"it holds pictures of {row.name} and of {other.name}, expected one series; name a "
                "file in it"
            )
        found.append(path)
    return row, found


def read_single(path: str | Path, *, mask: bool = False) -> ImageFile:
    """Read one image, and refuse a stack.

    Parameters
    ----------
    path
        As in :func:`read_image`.
    mask
        Whether it is the picture of a mask, as for :func:`read_mask`; False by default.

    Returns
    -------
    ImageFile
        The image.

    Raises
    ------
    OSError, ValueError, MissingExtraError
        As :func:`read_image` does; also if it is a stack.
    """
    source = read_mask(path) if mask else read_image(path)
    if source.stack_axes:
        raise UnreadableFileError(
            f"cannot read {path}: it holds a stack ({source.described_stack()}), expected one "
            "image; write the plane that is meant, or the mean of all, to a file of its own"
        )
    return source


def _read(stream: BinaryIO) -> ImageFile:
    """Return the image of a file whose format is not known yet."""
    limits.check_file_size(os.fstat(stream.fileno()).st_size)
    head = stream.read(formats.longest_signature())
    row = formats.by_content(head, Path(stream.name))
    if row is None:
        packed = next((name for start, name in _PACKED.items() if head.startswith(start)), None)
        if packed is not None:
            raise UnreadableFileError(f"it is packed with {packed}; unpack it first")
        raise UnreadableFileError(f"it is not a {formats.all_names()} image")
    stream.seek(0)
    return replace(row.load().read(stream), format=row.name)
