"""The command line.  Heavy imports wait until a command needs them.

``usage.py`` knows the commands and says what is wrong with what was typed; ``commands.py`` makes
the options out of those of the tasks and of ``options.py``, which are the command line's own;
``values.py`` reads values; ``earlier.py`` reads settings of an earlier result; ``words.py`` puts
messages into words of the command line; ``streams.py`` keeps a failure of printing from ending the
work; ``pictures.py`` reads masks and the like; ``work.py`` does what was asked for, ``folders.py``
does it with every picture of a folder, and ``info.py``,
``tv.py`` and ``compare.py`` do the commands of their names; ``pipes.py`` is for standard input and
output; ``failures.py`` tells errors and warnings; and ``exits.py`` has the exit codes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from dipfast.apps.cli.exits import DONE, INTERRUPTED, WRONG
from dipfast.apps.cli.failures import told
from dipfast.apps.cli.streams import say, steady_streams
from dipfast.apps.cli.usage import UsageError, parse
from dipfast.run.interrupt import ending_in_time

if TYPE_CHECKING:
    from dipfast.apps.cli.options import Request, ToolRequest

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


def _parsed(arguments: Sequence[str]) -> Request | ToolRequest | int:
    """Return what is asked for, or the exit code where there is nothing left to do."""
    try:
        request = parse(arguments)
    # OSError: a script for completion that cannot be written.
    except (UsageError, OSError) as error:
        say(f"error: {error}")
        return WRONG
    return DONE if request is None else request


def _run(request: Request | ToolRequest) -> int:
    """Do what was asked for, and return the exit code."""
    from dipfast.apps.cli.commands import words_of
    from dipfast.apps.cli.options import ToolRequest

    if isinstance(request, ToolRequest):
        tool = import_module(f"{__name__}.{request.command}")
        return told(lambda: int(tool.run(request)), tool.words_of())
    from dipfast.apps.cli import folders, pipes

    if pipes.is_asked(request):
        return pipes.run(request)
    return told(lambda: folders.run(request), words_of(request))
