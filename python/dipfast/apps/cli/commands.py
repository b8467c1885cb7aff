"""Commands of the tasks, made of their settings, and those that are no tasks.

An option that is added to a class of settings, or to one of the command line's own, is in the
command, its help and the completion of shells.  Importing this module imports the settings, and
neither torch nor NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from inspect import Parameter as Argument
from inspect import Signature
from typing import Annotated, Any, Optional

from cyclopts import Group, Parameter, Token
from pydantic import BaseModel

from dipfast.apps.cli.options import (
    FILES,
    NOT_TYPED,
    OWN_OPTIONS,
    POSITIONAL,
    CompareRequest,
    InfoRequest,
    OwnOptions,
    Request,
    StudioRequest,
    ToolRequest,
    TvRequest,
)
from dipfast.apps.cli.usage import COMMANDS, DASH, Command, UsageError
from dipfast.apps.cli.values import Reader, reading_of
from dipfast.apps.cli.words import Words
from dipfast.errors import InputError
from dipfast.settings.names import TASKS, TaskName
from dipfast.settings.option import Option, options_of
from dipfast.settings.settings import SETTINGS, Settings

__all__ = [
    "DEFAULTS",
    "FUNCTIONS",
    "compare",
    "denoise",
    "info",
    "inpaint",
    "make_command",
    "option_name",
    "restore",
    "studio",
    "superres",
    "tv",
    "words_of",
]

DEFAULTS: dict[str, Any] = {"factor": 4}
"""Values of options that the functions of the library must be told, and the command line not."""

FUNCTIONS = {name: f"dipfast {command.name} {command.files}" for name, command in COMMANDS.items()}
"""How the command line calls functions of the library."""

_TYPED_ROLES = {"result", "record", "local"}

_FILE_NAMES = {**POSITIONAL, **FILES}

# In the order of the help.
_FILES = Group("Files", sort_key=1)
_TASK = Group("This task", sort_key=2)
_RESTORATION = Group("Restoration", sort_key=3)
_RUN = Group("Device and checkpoints", sort_key=4)
_OUTPUT = Group("Input and output", sort_key=5)


def make_command(task: TaskName, settings: type[Settings] | None = None) -> Callable[..., Request]:
    """Return the command of a task: a function whose signature has all its options.

    Parameters
    ----------
    task
        The name of the function of the library.
    settings
        The class of the options; that of the task if None.

    Returns
    -------
    callable
        Given what was typed, and nothing for the rest, it returns the request.
    """
    settings, own = settings or SETTINGS[task], OWN_OPTIONS[task]

    def command(*positional: str, **typed: Any) -> Request:
        typed |= zip(POSITIONAL, positional)
        of_own = {name: typed.pop(name) for name in own.model_fields if name in typed}
        return Request(task, own(**of_own), typed)

    arguments = [*_arguments(own, OwnOptions), *_arguments(settings, Settings)]
    _describe(command, COMMANDS[task], arguments)
    return command


def _make_tool(function: str, kind: type[ToolRequest]) -> Callable[..., ToolRequest]:
    """Return a command that is no task; given what was typed, it returns the request."""

    def command(*names: str, **typed: Any) -> ToolRequest:
        names = tuple("-" if str(name) == DASH else name for name in names)
        if "-" in names:
            raise UsageError(
                f"dipfast {kind.command} does not read standard input; name a file, or type ./- "
                "for one of that name"
            )
        takes_any = "files" in kind.model_fields
        return kind(**typed, **({"files": names} if takes_any else dict(zip(POSITIONAL, names))))

    _describe(command, COMMANDS[function], _arguments(kind, OwnOptions))
    return command


def _describe(function: Any, command: Command, arguments: Iterable[Argument]) -> None:
    """Give a function the name, the help and the arguments of a command."""
    function.__signature__ = Signature(sorted(arguments, key=lambda argument: argument.kind))
    function.__name__ = command.name
    function.__doc__ = command.help


def _arguments(kind: type[BaseModel], common: type[BaseModel]) -> Iterator[Argument]:
    """Yield the arguments for a class of options; those in ``common`` are of all tasks."""
    for name, option in options_of(kind).items():
        if common is Settings and not _is_typed(option):
            continue
        hint, reader = reading_of(option, kind.model_fields[name].annotation)
        default = DEFAULTS.get(name, option.default)
        place = _place(name)
        positional = place is not Argument.KEYWORD_ONLY
        group = _group(option, common)
        yield Argument(
            name,
            place,
            # Of any number of names, none is what there is without one.
            default=Argument.empty if default in (..., ()) else default,
            annotation=Annotated[
                Optional[hint] if default is None else hint,  # noqa: UP045
                Parameter(
                    name=_FILE_NAMES.get(name) or option_name(name),
                    help=_help(option),
                    group=group,
                    converter=None if option.is_flag or name in FILES else _converter(reader),
                    # --no-... takes back what the record of an earlier result may say.
                    negative=None if option.is_flag and group in (_TASK, _RESTORATION) else (),
                    show_choices=not all(str(choice) in option.help for choice in option.choices),
                    show_default=default is not None and not option.is_flag,
                    allow_leading_hyphen=not positional,
                    # The last one counts, so that an alias can be given other values.
                    allow_repeating=True,
                    # Of names without end, one at least.
                    required=True if default is ... else None,
                ),
            ],
        )


def _place(name: str) -> Any:
    """Return where an argument may stand: an option under its name, and names of files without."""
    if name in FILES:
        return Argument.VAR_POSITIONAL
    return Argument.POSITIONAL_ONLY if name in POSITIONAL else Argument.KEYWORD_ONLY


def _is_typed(option: Option) -> bool:
    """Return whether an option of a task is one of the command line."""
    return option.role in _TYPED_ROLES and option.name not in NOT_TYPED


def option_name(name: str) -> str:
    """Return the name on the command line of an option of Python."""
    return "--" + name.rstrip("_").replace("_", "-")


def _group(option: Option, common: type[BaseModel]) -> Group:
    if option.name in _FILE_NAMES:
        return _FILES
    if option.name not in common.model_fields:
        return _TASK
    if common is OwnOptions:
        return _OUTPUT
    return _RUN if option.role == "local" else _RESTORATION


def _help(option: Option) -> str:
    return f"{option.help} [unit: {option.unit}]" if option.unit else option.help


def _converter(reader: Reader) -> Callable[[Any, tuple[Token, ...]], Any]:
    """Return what cyclopts asks for: a function of types and tokens."""

    def convert(_: Any, tokens: tuple[Token, ...]) -> Any:
        token = tokens[0]
        text = "-" if token.value == DASH else token.value
        # An option took the next one for its value.
        if token.keyword is not None and text.startswith("--"):
            raise UsageError(f"{token.keyword} needs a value in front of {text}")
        try:
            return reader(text)
        except InputError as error:
            raise UsageError(f"{token.keyword}: {error}") from None

    return convert


def words_of(request: Request) -> Words:
    """Return the words of the command line for messages of the library about a request."""
    names, flags, typed = {}, {}, []
    for kind in (SETTINGS[request.task], type(request.own)):
        for option in options_of(kind).values():
            if kind is not type(request.own) and not _is_typed(option):
                continue
            name = names[option.name] = option_name(option.name)
            if option.is_flag:
                negative = f"--no-{name[2:]}" if option.role == "result" else f"no {name}"
                flags[option.name] = {True: name, False: negative}
    for source in (request.own.model_dump(), request.options):
        typed += [value for value in source.values() if isinstance(value, str)]
    for name in POSITIONAL:
        names[name] = str(getattr(request.own, name))
    # Words that are no file names are taken for those of the library.
    return Words(names, flags, FUNCTIONS, [text for text in typed if not text.isidentifier()])


denoise, inpaint, superres, restore = map(make_command, TASKS)
info = _make_tool("estimate_noise", InfoRequest)
tv = _make_tool("tv_denoise", TvRequest)
compare = _make_tool("compare", CompareRequest)
studio = _make_tool("studio", StudioRequest)
