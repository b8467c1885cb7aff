"""Errors and warnings of the work, told in one line each in words of the command line."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from dipfast.apps.cli.exits import code_of_error
from dipfast.apps.cli.streams import say
from dipfast.apps.cli.words import Words
from dipfast.checks import did_you_mean
from dipfast.errors import DipfastError
from dipfast.warn import warnings_told

__all__ = ["told"]


def told(work: Callable[[], int], words: Words, tell: Callable[[str], None] = say) -> int:
    """Return the exit code of some work, whose errors and warnings are told.

    Parameters
    ----------
    work
        Returns an exit code, or raises an exception.
    words
        The words of the command line for the messages.
    tell
        Tells one line.

    Raises
    ------
    Exception
        One that is a mistake in the program.
    """

    heard: set[str] = set()

    def warn(text: str) -> None:
        if text not in heard:  # planes of a stack say the same, say
            heard.add(text)
            tell(f"warning: {words.translate(text)}")

    try:
        # Of this thread alone: a worker restores several pictures at once.
        with warnings_told(warn):
            return work()
    except Exception as error:
        code = code_of_error(error)
        if code is None:
            raise
        tell(f"error: {_message(error, words)}")
        return code


def _message(error: Exception, words: Words) -> str:
    """Return what was wrong, in words of the command line, with the next step."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}{_next_step(error)}"
    text = str(error).strip()
    if not isinstance(error, DipfastError):
        # Those of torch have many lines, and that of lack of memory may have none.
        text = text.partition("\n")[0] or "out of memory"
    text = words.translate(text)
    # Those of our own have no number; they are about places to write to.
    if isinstance(error, FileNotFoundError):
        return f"{text}; make it first"
    if isinstance(error, IsADirectoryError):
        return f"{text}; choose another name"
    return text


def _next_step(error: OSError) -> str:
    """Say what to do about a file that cannot be read."""
    path = Path(os.fsdecode(error.filename))
    if error.errno == errno.EISDIR:
        return "; name a picture in it"
    if error.errno != errno.ENOENT:
        return ""
    if not path.parent.is_dir():
        return f"; there is no folder {path.parent}"
    try:
        others = os.listdir(path.parent)
    except OSError:
        others = []
    # Many names end alike.
    alike = did_you_mean(path.name, others, least=0.75)
    if alike or path.is_absolute():
        return alike
    return f"; relative names begin in {Path.cwd()}"
