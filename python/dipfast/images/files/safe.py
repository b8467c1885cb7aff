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
