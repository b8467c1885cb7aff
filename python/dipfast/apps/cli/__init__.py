"""The command line.  Heavy imports wait until a command needs them.

``arguments.py`` knows what can be typed, ``words.py`` puts messages into words of the command
line, ``streams.py`` keeps printing from being the end of the work, ``pictures.py`` reads masks and
the like, and ``work.py`` does what was asked for.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dipfast.apps.cli.arguments import make_parser, tidied, words_of
from dipfast.apps.cli.streams import say, steady_streams
from dipfast.apps.cli.words import Words, did_you_mean
from dipfast.apps.cli.work import COMMANDS, INTERRUPTED, WorkError
from dipfast.errors import InputError
from dipfast.run.interrupt import ending_in_time

__all__ = ["main"]

# Settings of an earlier result that an option makes meaningless.
_OUTRANKED = {
    "quality": ("preset", "max_iterations"),
    "preset": ("max_iterations",),
    "method": ("tv_weight",),
    "sigma": ("noise", "tv_weight"),
    "noise": ("sigma", "tv_weight"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit status.

    0: done, whatever became of what was printed; 1: something failed on the way, or after the
    picture was written; 2: wrong arguments or files, and nothing was done; 3: a picture was
    written, but the work was cut so short that it is likely worse than what came in; 130:
    interrupted (Ctrl-C); 143: terminated.
    """
    with ending_in_time(), steady_streams():
        try:
            return _main(sys.argv[1:] if arguments is None else arguments)
        except KeyboardInterrupt:
            say("interrupted")
            return INTERRUPTED


def _main(arguments: Sequence[str]) -> int:
    parser = make_parser(COMMANDS)
    if not arguments:
        parser.print_help()
        return 0
    arguments = tidied(parser, arguments)
    options = parser.parse_args(arguments)
    words = words_of(options)

    def warn(message: Warning | str, *_: Any, **__: Any) -> None:
        say(f"warning: {words.translate(str(message))}")

    try:
        with warnings.catch_warnings():
            # Not an error, whatever the environment asks for: it may come after hours of work.
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = warn
            if options.settings is not None:
                options = _with_settings(options, arguments)
            return int(options.run(options))
    except (OSError, ValueError, TypeError, ImportError) as error:
        say(f"error: {_message(error, words)}")
        return 2
    except (WorkError, RuntimeError, MemoryError) as error:  # of torch, out of memory among them
        reason = str(error).strip().partition("\n")[0] or "out of memory"
        say(f"error: {words.translate(reason)}")
        return 1


def _with_settings(options: argparse.Namespace, arguments: Sequence[str]) -> argparse.Namespace:
    """Return the arguments with the settings of an earlier result in place of defaults."""
    from dipfast.images.files import report_path
    from dipfast.run.record import read_settings

    path = options.settings
    try:
        settings = read_settings(path)
    except ValueError:
        if report_path(path).exists():
            raise InputError(
                f"--settings {path} is no report; did you mean {report_path(path)}?"
            ) from None
        raise
    task = settings.pop("task")
    if task != options.task:
        makers = {command.get_default("task"): name for name, command in options.commands.items()}
        raise InputError(
            f"--settings {path} is of 'dipfast {makers[task]}'; its settings are for that alone"
        )
    # What is said on the command line outranks them, and those that it makes meaningless.
    unsaid = object()
    parser = make_parser(COMMANDS)
    parser.parse_args(arguments).command.set_defaults(
        **dict.fromkeys((*settings, *_OUTRANKED), unsaid)
    )
    said = vars(parser.parse_args(arguments))
    for name, others in _OUTRANKED.items():
        if said[name] is not unsaid:
            for other in others:
                settings.pop(other, None)
    parser = make_parser(COMMANDS)
    parser.parse_args(arguments).command.set_defaults(**settings)
    return parser.parse_args(arguments)


def _message(error: Exception, words: Words) -> str:
    """Return what was wrong, in words of the command line, with the next step."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}{_next_step(error)}"
    text = words.translate(str(error))
    # Those of our own, about places to write to.
    if isinstance(error, FileExistsError) and text.endswith("exists already"):
        return f"{text}; --force replaces it"
    if isinstance(error, FileNotFoundError) and text.endswith("does not exist"):
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
