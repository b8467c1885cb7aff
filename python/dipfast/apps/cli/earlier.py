"""Settings of an earlier result, in place of the defaults."""

from __future__ import annotations

from typing import Any

from dipfast.apps.cli.options import NOT_TYPED, Request
from dipfast.apps.cli.usage import COMMANDS
from dipfast.errors import InputError
from dipfast.settings.names import DIRECT_METHODS
from dipfast.settings.settings import OF_FITS

__all__ = ["INVALIDATES", "options_with_record"]

INVALIDATES: dict[str, tuple[str, ...]] = {
    "quality": ("preset", "max_iterations"),
    "preset": ("max_iterations",),
    "method": ("tv_weight",),
    "sigma": ("noise",),
    "noise": ("sigma",),
}
"""Recorded options that lose their meaning where another option is typed.

A recorded kind of noise is not lost where sigma is typed; a model of noise has a sigma of its own.
Besides, a method without a network loses it where an option of a fit is typed, and the other way
round.
"""


def options_with_record(request: Request) -> dict[str, Any]:
    """Return the options of a request, those that were not typed from the record that it names.

    Raises
    ------
    InputError
        If the record cannot be used; the message says why.
    """
    path = request.own.settings
    if path is None:
        return request.options
    from dipfast.images.files import report_path
    from dipfast.run.record import read_settings

    try:
        task, recorded = read_settings(path)
    except InputError:
        if report_path(path).exists():
            raise InputError(
                f"--settings {path} is no report; did you mean {report_path(path)}?"
            ) from None
        raise
    if task != request.task:
        raise InputError(
            f"--settings {path} is of 'dipfast {COMMANDS[task].name}'; "
            "its settings are for that alone"
        )
    recorded = {name: value for name, value in recorded.items() if name not in NOT_TYPED}
    for typed in request.options:
        if typed in OF_FITS and recorded.get("method") in DIRECT_METHODS:
            del recorded["method"]
        if typed == "method" and request.options[typed] in DIRECT_METHODS:
            recorded = {name: value for name, value in recorded.items() if name not in OF_FITS}
        for name in INVALIDATES.get(typed, ()):
            if not (typed == "sigma" and isinstance(recorded.get(name), str)):
                recorded.pop(name, None)
    return {**recorded, **request.options}
