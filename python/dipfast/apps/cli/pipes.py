"""Standard input in the place of IN, and standard output in the place of OUT, both typed as ``-``.

What comes in is kept in a file of a folder that only this process uses, because readers of image
files check sizes and go back and forth; what goes out is written there first, so that nothing of a
result goes out before all of it is there.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dipfast.apps.cli.commands import words_of
from dipfast.apps.cli.exits import FAILED
from dipfast.apps.cli.failures import told
from dipfast.apps.cli.options import Request
from dipfast.apps.cli.streams import say
from dipfast.errors import InputError

if TYPE_CHECKING:
    from dipfast.images.files import ImageFile

__all__ = ["is_asked", "run"]

_PIPE = "-"
# Formats of results of their own kind that are read, but in which values change.
_LOSSY = ("JPEG",)
_CHUNK = 1 << 20


def is_asked(request: Request) -> bool:
    """Return whether standard input or standard output is asked for.

    Parameters
    ----------
    request
        What was typed.
    """
    return _PIPE in (str(request.own.image), str(request.own.output))


def run(request: Request) -> int:
    """Do what was asked for with standard input, output or both, and return the exit code.

    Parameters
    ----------
    request
        What was typed.
    """
    with (
        tempfile.TemporaryDirectory(prefix="dipfast-") as folder,
        # What is said during the work names the file, too.
        redirect_stderr(_WithoutFolder(sys.stderr, folder)),
    ):
        return told(lambda: _run(request, Path(folder)), words_of(request))


class _WithoutFolder:
    """Write to a stream, and leave out the name of a folder."""

    def __init__(self, stream: Any, folder: str) -> None:
        self._stream, self._folder = stream, f"{folder}{os.sep}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text without the folder."""
        self._stream.write(text.replace(self._folder, ""))
        return len(text)


def _run(request: Request, folder: Path) -> int:
    """Do what was asked for with files in the place of the streams."""
    from dipfast.apps.cli import folders

    own = request.own
    changes: dict[str, Any] = {}
    if str(own.image) == _PIPE:
        changes["image"] = folder / "standard input"
        _keep(_stream("stdin", reads=True), changes["image"])
    out = None
    if str(own.output) == _PIPE:
        if own.json_:
            raise InputError("--json prints on standard output, where OUT - is to go; name a file")
        out = _stream("stdout", reads=False)
        source = changes.get("image", Path(own.image))
        if source.is_dir():
            raise InputError(f"{source} is a folder, whose results need a folder for OUT")
        changes["output"] = folder / f"standard output{_ending(source)}"
    request = Request(request.task, own.model_copy(update=changes), request.options, request.typed)
    if out is None:
        return told(lambda: folders.run(request), words_of(request))
    # What is told of the result goes to standard error.
    with redirect_stdout(StringIO()) as printed:
        code = told(lambda: folders.run(request), words_of(request))
    for line in printed.getvalue().splitlines():
        say(line.replace(f"{changes['output']}:", "standard output:", 1))
    # Under another name, where the first could not be written.
    written = [p for p in folder.glob(f"standard output*{changes['output'].suffix}") if p.is_file()]
    if not written:
        return code
    return code if _send(written[0], out) else FAILED


def _stream(name: str, *, reads: bool) -> BinaryIO:
    """Return a standard stream of bytes, and refuse a terminal."""
    stream = getattr(sys, name)
    which = "IN" if reads else "OUT"
    if stream is None or stream.closed or getattr(stream, "leads_nowhere", False):
        raise InputError(f"{which} is -, and there is no standard {name[3:]}put")
    if stream.isatty():
        raise InputError(
            f"{which} is -, and standard {name[3:]}put is a terminal; name a file, or use a pipe"
        )
    buffer: BinaryIO = stream.buffer
    return buffer


def _keep(stream: BinaryIO, path: Path) -> None:
    """Write what comes in to a file, up to the size of the largest file that is read."""
    from dipfast.images.files import limits

    size = 0
    with path.open("wb") as file:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            limits.check_file_size(size)
            file.write(chunk)
    if not size:
        raise InputError("standard input is empty, where IN - expects an image")


def _ending(path: Path) -> str:
    """Return the ending of the name of a result: that of the format of the image, or of PNG.

    PNG, or where it cannot hold the values TIFF, is for formats that would change them.
    """
    from dipfast.images import files
    from dipfast.images.files import formats

    source: ImageFile = files.read_image(path)
    rows = [formats.by_name(name) for name in (source.format, "PNG", "TIFF")]
    holding = [row for row in rows if row.name not in _LOSSY and not row.lacks(source)]
    return (holding or rows)[0].suffixes[0]


def _send(path: Path, stream: BinaryIO) -> bool:
    """Write a file to standard output, and return whether it could be."""
    try:
        with path.open("rb") as file:
            shutil.copyfileobj(file, stream)
        stream.flush()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        say(f"error: standard output: {reason}; the result is lost")
        return False
    return True
