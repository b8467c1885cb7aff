"""The command line.  Heavy imports wait until a command needs them.

``usage.py`` knows the commands and says what is wrong with what was typed; ``commands.py`` makes
the options out of those of the tasks and of ``options.py``, which are the command line's own;
``values.py`` reads values; ``earlier.py`` reads settings of an earlier result; ``words.py`` puts
messages into words of the command line; ``streams.py`` keeps a failure of printing from ending the
work; ``pictures.py`` reads masks and the like; ``work.py`` does what was asked for; and
``exits.py`` has the exit codes.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dipfast.apps.cli.exits import DONE, INTERRUPTED, WRONG, code_of_error
from dipfast.apps.cli.streams import say, steady_streams
from dipfast.apps.cli.usage import UsageError, parse
from dipfast.apps.cli.words import Words
from dipfast.checks import did_you_mean
from dipfast.errors import DipfastError
from dipfast.run.interrupt import ending_in_time

if TYPE_CHECKING:
    from dipfast.apps.cli.options import Request

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit code (:data:`dipfast.apps.cli.exits.EXIT_CODES`).

    Parameters
    ----------
    arguments
        What was typed after the name of the program; that of this process if None.
    """
    with ending_in_time(), steady_streams():
        try:
            request = _parsed(sys.argv[1:] if arguments is None else arguments)
            return request if isinstance(request, int) else _run(request)
        except KeyboardInterrupt:
            say("interrupted")
            return INTERRUPTED


def _parsed(arguments: Sequence[str]) -> Request | int:
    """Return what is asked for, or the exit code where there is nothing left to do."""
    try:
        request = parse(arguments)
    # OSError: a script for completion that cannot be written.
    except (UsageError, OSError) as error:
        say(f"error: {error}")
        return WRONG
    return DONE if request is None else request


def _run(request: Request) -> int:
    """Do what was asked for, and return the exit code."""
    from dipfast.apps.cli.commands import words_of
    from dipfast.apps.cli.work import run

    words = words_of(request)

    def warn(message: Warning | str, *_: Any, **__: Any) -> None:
        say(f"warning: {words.translate(str(message))}")

    try:
        with warnings.catch_warnings():
            # Not an error, whatever the environment asks for: it may come after hours of work.
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = warn
            return run(request)
    except Exception as error:
        code = code_of_error(error)
        if code is None:
            raise
        say(f"error: {_message(error, words)}")
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
