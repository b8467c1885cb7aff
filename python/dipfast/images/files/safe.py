"""Files that are opened with care, and written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dipfast.errors import InputError, UnreadableFileError, WouldOverwriteError

__all__ = [
    "check_place",
    "list_folder",
    "open_regular",
    "report_path",
    "write_atomically",
    "write_folder",
]

# How NumPy says that the system took a part of the numbers only, without the reason of the system.
_PART_WRITTEN = re.compile(r"\d+ requested and \d+ written")
# The most files of a folder that is one image, and how deep they may lie.
_MOST_FILES = 1 << 20
_DEEPEST = 24


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


def list_folder(folder: Path) -> dict[str, int]:
    """Return all files of a folder that is one image, and refuse what leads out of it.

    Parameters
    ----------
    folder
        Path of the folder, which may be a symbolic link itself.

    Returns
    -------
    dict
        Bytes of each file, by its name with the folders that it is in, with slashes between them.

    Raises
    ------
    OSError
        If a folder cannot be read.
    UnreadableFileError
        If there are symbolic links, pipes or devices in it, or too many files, or too deep.
    """
    found: dict[str, int] = {}
    folders = [("", 0)]
    count = 0
    while folders:
        place, depth = folders.pop()
        with os.scandir(folder / place) as entries:
            for entry in entries:
                name, count = place + entry.name, count + 1
                if count > _MOST_FILES:
                    raise UnreadableFileError(f"it has more than {_MOST_FILES} files")
                if entry.is_dir(follow_symlinks=False):
                    folders.append((f"{name}/", depth + 1))
                elif entry.is_file(follow_symlinks=False):
                    found[name] = entry.stat(follow_symlinks=False).st_size
                else:
                    raise UnreadableFileError(
                        f"there is a link, a pipe or a device in it ({name[:60]}), which is not "
                        "followed; copy what it leads to"
                    )
        if depth > _DEEPEST:
            raise UnreadableFileError("its folders are nested too deeply")
    return found


def check_place(
    path: Path,
    *beside: Path,
    overwrite: bool = False,
    replaceable: Callable[[Path], bool] | None = None,
) -> None:
    """Find out, before any work is done, whether files of any kind can be written to a place.

    Parameters
    ----------
    path
        Path of the file.
    *beside
        Paths of other files in the same folder.
    overwrite
        Whether existing files may be replaced.
    replaceable
        Says of a folder that has the name of the file whether it may be replaced, too; by default
        none may.

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
        is_ours = target == path and replaceable is not None and replaceable(path)
        if stat.S_ISDIR(there.st_mode) and not is_ours:
            raise IsADirectoryError(f"{target} is a folder, not a file name")
        if not overwrite:
            raise WouldOverwriteError(f"{target} exists already")
    try:
        _make_a_file(path.parent)
    except OSError as error:
        raise PermissionError(
            f"cannot write into the folder {path.parent}: {error.strerror}"
        ) from error


def _make_a_file(folder: Path) -> None:
    """Make a file and take it away again.

    Not by ``tempfile``: under Windows that takes a folder that may not be written into for one in
    which names are taken, and tries two thousand million of them.
    """
    path = folder / f".dipfast-{secrets.token_hex(8)}"
    path.open("xb").close()
    path.unlink()


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
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and _PART_WRITTEN.fullmatch(str(error)):
            reason = "only a part of it could be written; the disk may be full"
            raise OSError(errno.EIO, reason, str(path)) from error
        raise


@contextmanager
def write_folder(
    path: str | Path, *, overwrite: bool = False, replaceable: Callable[[Path], bool]
) -> Iterator[Path]:
    """Write to a folder that takes the place of another one at the end, if all went well.

    Parameters
    ----------
    path
        Path of the folder.  A symbolic link is replaced, not followed.
    overwrite
        Whether an existing file or folder may be replaced.
    replaceable
        Says of an existing folder whether it is one of those that may be replaced.

    Yields
    ------
    Path
        An empty folder beside it.

    Raises
    ------
    OSError
        If it cannot be written.
    WouldOverwriteError
        If there is something of this name at the end, and it may not be replaced.
    """
    path = Path(path)
    temporary, before = (path.with_name(f".dipfast-{secrets.token_hex(8)}") for _ in range(2))
    try:
        temporary.mkdir()
        yield temporary
        for name in list_folder(temporary):
            with open(temporary / name, "rb+") as stream:
                os.fsync(stream.fileno())
        if os.path.lexists(path):
            is_folder = path.is_dir() and not path.is_symlink()
            if is_folder and not replaceable(path):
                raise IsADirectoryError(f"{path} is a folder, not a file name")
            if not overwrite:
                raise WouldOverwriteError(f"{path} exists already")
            # No call replaces a folder that is not empty, so the old one goes aside first.
            os.rename(path, before)
        try:
            os.rename(temporary, path)
        except BaseException:
            if os.path.lexists(before):
                os.rename(before, path)
            raise
    except BaseException:
        _remove(temporary)
        raise
    _remove(before)


def _remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
