"""Signatures, docstrings and tables of options, derived from the settings."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

from dipfast.settings.option import Option, options_of
from dipfast.settings.settings import SETTINGS, DenoiseSettings, Settings

__all__ = ["options_table", "takes"]

_Task = TypeVar("_Task", bound=Callable[..., Any])
_WIDTH = 95


def takes(settings: type[Settings]) -> Callable[[_Task], _Task]:
    """Give a task the signature and the docstring of its options.

    Where the docstring says ``{options}``, the options stand in the form of numpydoc.  Those that
    are arguments by position are described by hand.

    Parameters
    ----------
    settings
        The class of the settings of the task.

    Returns
    -------
    Callable
        A decorator.
    """

    def describe(task: _Task) -> _Task:
        options = options_of(settings)
        signature = inspect.signature(task)
        named = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        options = {k: v for k, v in options.items() if k not in signature.parameters}
        keywords = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default)
            for name, option in options.items()
        ]
        described: Any = task
        described.__signature__ = signature.replace(parameters=[*named, *keywords])
        text = "\n".join(_parameter(option) for option in options.values())
        described.__doc__ = (task.__doc__ or "").replace("{options}", text.lstrip())
        return task

    return describe


def _parameter(option: Option) -> str:
    """Return an option as a parameter of numpydoc, indented as in a function."""
    unit = f", {_unit(option)}" if option.unit else ""
    head = f"{option.name} : {option.type}{unit}, default {option.default!r}"
    lines = textwrap.wrap(_help(option), _WIDTH - 8)
    return textwrap.indent("\n".join([head, *(f"    {line}" for line in lines)]), "    ")


def _help(option: Option) -> str:
    """Return the help of an option, with what is possible in Python alone."""
    return f"{option.help} {option.in_python}".strip()


def _unit(option: Option) -> str:
    return f"in the unit {option.unit}" if option.unit.startswith("of") else f"in {option.unit}"


def options_table() -> str:
    """Return a table of all options in Markdown."""
    common = options_of(DenoiseSettings)
    rows = ["| option | default | values | what it is |", "| --- | --- | --- | --- |"]
    for task, settings in SETTINGS.items():
        for option in options_of(settings).values():
            if option != common.get(option.name) or task == "denoise":
                rows.append(_row(option, "" if task == "denoise" else f" ({task})"))
    return "\n".join(rows) + "\n"


def _row(option: Option, task: str) -> str:
    unit = f", {_unit(option)}" if option.unit else ""
    default = "" if option.default is ... else f"`{option.default!r}`"
    return f"| `{option.name}`{task} | {default} | {option.type}{unit} | {_help(option)} |"


if __name__ == "__main__":
    print(options_table(), end="")
