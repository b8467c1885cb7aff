"""Reading images: the content says what format it is, and every error names the file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO

from dipfast.errors import InputError
from dipfast.images.files import limits
from dipfast.images.files.access import open_regular
from dipfast.images.files.image import ImageFile

__all__ = ["read_image"]


def read_image(path: str | Path) -> ImageFile:
    """Read one image.

    Raises
    ------
    OSError
        If the file cannot be read (FileNotFoundError, IsADirectoryError, ...).
    ValueError
        If it is not an image of a format that is known, is damaged, holds more than one, or
        would decode to more than :data:`limits.LARGEST_IMAGE` bytes or than memory holds.
    """
    path = Path(path)
    with open_regular(path) as stream:
        try:
            return _read(stream)
        except MemoryError as error:
            reason = "memory does not suffice for what it declares"
            raise InputError(f"cannot read {path}: {reason}") from error
        except Exception as error:
            # Those of the operating system have a number; but EINVAL is what it says to a
            # decoder that was sent to a place that no file has.
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise OSError(error.errno, error.strerror, str(path)) from error
            # A decoder may quote what it read, at any length and with any control characters.
            text = str(error)[:300] or type(error).__name__
            reason = "".join(sign if sign.isprintable() else " " for sign in text)
            raise InputError(f"cannot read {path}: {reason}") from error


def _read(stream: BinaryIO) -> ImageFile:
    size = os.fstat(stream.fileno()).st_size
    largest = 2 * limits.LARGEST_IMAGE
    if size > largest:
        has, expected = limits.readable_size(size), limits.readable_size(largest)
        raise InputError(f"it has {has}, expected {expected} at most")
    head = stream.read(8)
    stream.seek(0)
    # Formats are imported when they are needed, with what decodes them.
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        from dipfast.images.files import tiff

        limits.check_directories(stream, size)
        stream.seek(0)
        return tiff.read(stream)
    if head == b"\x89PNG\r\n\x1a\n":
        from dipfast.images.files import png

        return png.read(stream)
    if head.startswith(b"\xff\xd8\xff"):
        from dipfast.images.files import jpeg

        return jpeg.read(stream)
    raise InputError("it is not a PNG, JPEG or TIFF image")
