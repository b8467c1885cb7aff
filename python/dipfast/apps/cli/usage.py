"""What can be typed, and what is wrong with what was typed.

Importing this module imports no settings: ``dipfast --help`` answers without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import (
    App,
    ArgumentCollection,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from dipfast._native import __version__
from dipfast.apps.cli.exits import EXIT_CODES
from dipfast.apps.cli.words import one_line
from dipfast.checks import did_you_mean
from dipfast.errors import InputError

if TYPE_CHECKING:
    from dipfast.apps.cli.options import Request, ToolRequest

__all__ = ["COMMANDS", "DASH", "Command", "UsageError", "make_app", "parse"]

DASH = "\0-"
"""What a lone ``-`` becomes, which stands for a stream and would be taken for an option."""


class UsageError(InputError):
    """Tell what is wrong with a command line, in one line."""


@dataclass(frozen=True)
class Command:
    """Name a command, say what it does, and what names of files it takes."""

    name: str
    help: str
    files: str = "IN OUT"


_CTRL_C = "Ctrl-C ends early and keeps the result so far."

COMMANDS: dict[str, Command] = {
    "denoise": Command("denoise", f"Remove noise from an image.\n\n{_CTRL_C}"),
    "inpaint": Command("inpaint", f"Fill in missing pixels.\n\n{_CTRL_C}"),
    "super_resolve": Command("superres", f"Enlarge an image.\n\n{_CTRL_C}"),
    "restore": Command("restore", f"Undo a blur.\n\n{_CTRL_C}"),
    "estimate_noise": Command(
        "info",
        "Tell size, values and noise of images.\n\n"
        "Nothing is restored. A file that cannot be read is told, and so are the others.",
        "FILE...",
    ),
    "tv_denoise": Command(
        "tv",
        "Remove noise by total variation alone.\n\n"
        "Fast and without a network: smooth regions stay, fine texture goes.",
    ),
    "compare": Command(
        "compare",
        "Tell how far images are from a clean one, or from each other.\n\n"
        "PSNR, SSIM and the differences; --picture draws them.",
        "FILE...",
    ),
    "studio": Command(
        "studio",
        "Restore pictures on a page in the browser, and watch.\n\n"
        "The page is for this computer alone. Ctrl-C ends it, and removes what it kept.",
        "[FILE]",
    ),
}
"""Commands, by the name of the function of the library that each is about, if there is one."""

_EPILOGUE = "Exit codes: {}.".format("; ".join(f"{k} {v}" for k, v in EXIT_CODES.items()))


def make_app() -> App:
    """Return the command line.  A command is imported when it is asked for."""
    app = App(
        name="dipfast",
        help="Restore one image with no training data.\n\n"
        "'dipfast COMMAND --help' tells more about a command.",
        help_epilogue=_EPILOGUE,
        # The texts are no markup.
        help_format="plaintext",
        version=f"dipfast {__version__}",
    )
    for command in COMMANDS.values():
        target = f"dipfast.apps.cli.commands:{command.name}"
        app.command(target, name=command.name, help=command.help, help_epilogue=_EPILOGUE)
    app.register_install_completion_command(
        help="Install the completion of bash, zsh or fish for 'dipfast'."
    )
    return app


def parse(arguments: Sequence[str], app: App | None = None) -> Request | ToolRequest | None:
    """Return what was typed; None if it was a question that is answered, such as ``--help``.

    Raises
    ------
    UsageError
        If there is something wrong with it.
    """
    app = app or make_app()
    try:
        command, bound, _ = app.parse_args(
            [DASH if word == "-" else word for word in arguments],
            print_error=False,
            exit_on_error=False,
            verbose=False,
        )
    except CycloptsError as error:
        raise _told(error, app) from None
    request: Request | ToolRequest | None = command(*bound.args, **bound.kwargs)
    if request is None:
        return None
    from dipfast.apps.cli.options import Request  # the command has imported it

    return replace(request, typed=tuple(arguments)) if isinstance(request, Request) else request


# --- what is wrong -----------------------------------------------------------------------


def _told(error: CycloptsError, app: App) -> UsageError:
    """Return an error of the library in one line, with the next step."""
    if isinstance(error.__cause__, UsageError):  # one of our own readers
        return error.__cause__
    asked = " ".join(["dipfast", *(error.command_chain or ())])
    reason = _reason(error, app, f"; '{asked} --help' tells more")
    return UsageError(reason.replace(DASH, "-"))


def _reason(error: CycloptsError, app: App, more: str) -> str:
    unused = error.unused_tokens or []
    if isinstance(error, UnknownOptionError):
        word = error.token.keyword or error.token.value
        return _no_option(word, _options(error.argument_collection), app, more)
    if isinstance(error, UnknownCommandError):
        return _no_command(unused[0], app, more)
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        if error.keyword is not None:
            return f"{error.keyword} needs a value{more}"
        mistyped = [word for word in unused if _is_option(word)]
        if mistyped and error.app is not None:
            options = _options(error.app.assemble_argument_collection())
            return _no_option(mistyped[0], options, app, more)
        return f"required: {error.argument.name}{more}"
    if isinstance(error, CoercionError) and error.token and error.target_type is bool:
        return f"{error.token.keyword} takes no value, got {error.token.value!r}{more}"
    if isinstance(error, UnusedCliTokensError):
        wanted = " and ".join(_positional(error.app))
        expected = f"{wanted} expected, and nothing besides" if wanted else "no names expected"
        return (
            f"{expected}, got also {', '.join(unused)}; names with blanks need quotes, and so do "
            f"patterns such as '*.png', which the shell makes many names of{more}"
        )
    return one_line(str(error)) + more


def _options(arguments: ArgumentCollection) -> list[str]:
    return [name for argument in arguments for name in argument.names if _is_option(name)]


def _positional(app: App | None) -> list[str]:
    arguments = app.assemble_argument_collection() if app is not None else ()
    return [argument.name for argument in arguments if not _is_option(argument.name)]


def _is_option(word: str) -> bool:
    return word.startswith("-")


def _no_command(name: str, app: App, more: str) -> str:
    if _is_option(name):
        return _no_option(name, list(app), app, more, takes_files=False)
    names = [command.name for command in COMMANDS.values()]
    # A file name in the place of a command is not mistyped.
    hint = "" if Path(name).suffix else did_you_mean(name, names)
    *most, last = names
    expected = f"; expected {', '.join(most)} or {last}{more}"
    return f"there is no command {name!r}{hint or expected}"


def _no_option(
    word: str, options: Sequence[str], app: App, more: str, *, takes_files: bool = True
) -> str:
    """Say that there is no such option, and which one may have been meant."""
    typed = word.partition("=")[0]
    names = (*options, *app.help_flags, *app.version_flags)
    hint = did_you_mean(typed, [name for name in names if name.startswith("--")])
    if takes_files and not typed.startswith("--"):
        more = f"; for a file of that name, type ./{word}{more}"
    return f"there is no option {typed}{hint or more}"
