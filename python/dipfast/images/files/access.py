"""Files that are opened with care, and written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dipfast.errors import InputError, WouldOverwriteError

__all__ = ["open_regular", "report_path", "write_atomically"]


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file for reading, and refuse what might block or never end (a pipe, a device).

    A symbolic link to a regular file is followed.

    Raises
    ------
    OSError
        If it cannot be opened (FileNotFoundError, IsADirectoryError, ...).
    ValueError
        If it is no regular file.
    """
    path = Path(path)
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InputError(f"cannot read {path}: it is not a regular file")
    return path.open("rb")


@contextmanager
def write_atomically(path: str | Path, *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """A stream whose content takes the place of ``path`` at the end, if all went well.

    A symbolic link is replaced, not followed.  Without ``overwrite``, a file that has come
    there in the meantime stays, and FileExistsError is raised.
    """
    path = Path(path)
    # A short name of its own, because that of the result may be as long as names can be.
    temporary = path.with_name(f".dipfast-{secrets.token_hex(8)}")
    mode = stat.S_IMODE(path.stat().st_mode) if path.is_file() else None
    try:
        with open(temporary, "x+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if overwrite:
            if mode is not None:
                os.chmod(temporary, mode)
            os.replace(temporary, path)
        else:
            _put_where_nothing_is(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _put_where_nothing_is(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)  # refuses a name that is taken, which os.replace does not
    except OSError:  # taken, or a file system without hard links
        if os.path.lexists(path):
            raise WouldOverwriteError(f"{path} exists already") from None
        os.replace(temporary, path)
    else:
        temporary.unlink()


def report_path(path: str | Path) -> Path:
    """Where the settings of the image at ``path`` are written: beside it, ``NAME.json``."""
    path = Path(path)
    return path.with_name(path.name + ".json")
