"""Files that are opened with care, and written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dipfast.errors import InputError, WouldOverwriteError

__all__ = ["check_place", "open_regular", "report_path", "write_atomically"]


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file for reading, and refuse what might block or never end (a pipe, a device).

    A symbolic link to a regular file is followed.

    Parameters
    ----------
    path
        Path of the file.

    Returns
    -------
    BinaryIO
        The open file.

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


def check_place(path: Path, *beside: Path, overwrite: bool = False) -> None:
    """Find out, before any work is done, whether files of any kind can be written to a place.

    Parameters
    ----------
    path
        Path of the file.
    *beside
        Paths of other files in the same folder.
    overwrite
        Whether existing files may be replaced.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written into, or a folder has one of the names.
    WouldOverwriteError
        If a file exists that may not be replaced.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist")
    for target in (path, *beside):
        try:
            there = target.lstat()  # of a link itself; a name that is too long is an OSError
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(there.st_mode):
            raise IsADirectoryError(f"{target} is a folder, not a file name")
        if not overwrite:
            raise WouldOverwriteError(f"{target} exists already")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise PermissionError(
            f"cannot write into the folder {path.parent}: {error.strerror}"
        ) from error


@contextmanager
def write_atomically(path: str | Path, *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """Write to a stream whose content takes the place of a file at the end, if all went well.

    Parameters
    ----------
    path
        Path of the file.  A symbolic link is replaced, not followed.
    overwrite
        Whether an existing file may be replaced.  Without it, a file that has come there in the
        meantime stays.

    Yields
    ------
    BinaryIO
        The stream.

    Raises
    ------
    OSError
        If the file cannot be written.
    WouldOverwriteError
        If there is a file at the end, and it may not be replaced.
    """
    path = Path(path)
    # The name does not contain that of the result, which may be as long as names can be.
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
            _move_to_free_name(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _move_to_free_name(temporary: Path, path: Path) -> None:
    """Move a file to a name, unless the name is taken."""
    try:
        os.link(temporary, path)  # refuses a name that is taken, which os.replace does not
    except OSError:  # the name is taken, or the file system has no hard links
        if os.path.lexists(path):
            raise WouldOverwriteError(f"{path} exists already") from None
        os.replace(temporary, path)
    else:
        temporary.unlink()


def report_path(path: str | Path) -> Path:
    """Return where the settings of an image are written: beside it, as ``NAME.json``.

    Parameters
    ----------
    path
        Path of the image.

    Returns
    -------
    Path
        Path of the settings.
    """
    path = Path(path)
    return path.with_name(path.name + ".json")
