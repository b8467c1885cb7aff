"""Reading images: the content says what format it is, and every error names the file."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from dipfast.errors import MissingExtraError, UnreadableFileError
from dipfast.images.files import formats, limits
from dipfast.images.files.image_file import ImageFile
from dipfast.images.files.safe import open_regular

__all__ = ["read_image", "read_single"]


def read_image(path: str | Path) -> ImageFile:
    """Read one image, or a stack of images of one size.

    Parameters
    ----------
    path
        A file of one of the formats in :data:`dipfast.images.files.formats.FORMATS`.  Its content
        says which; the ending of its name only tells raw photographs of cameras from TIFF.

    Returns
    -------
    ImageFile
        The image, with what the file holds beside the pixels.  Its ``stack_axes`` are those of a
        stack, such as depth or time, which TIFF (also of ImageJ and OME), NumPy and FITS hold.

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
    path = Path(path)
    with open_regular(path) as stream:
        try:
            return _read(stream)
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


def read_single(path: str | Path) -> ImageFile:
    """Read one image, and refuse a stack.

    Parameters
    ----------
    path
        As in :func:`read_image`.

    Returns
    -------
    ImageFile
        The image.

    Raises
    ------
    OSError, ValueError, MissingExtraError
        As :func:`read_image` does; also if it is a stack.
    """
    source = read_image(path)
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
        raise UnreadableFileError(f"it is not a {formats.all_names()} image")
    stream.seek(0)
    return replace(row.load().read(stream), format=row.name)
