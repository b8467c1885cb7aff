"""Settings of an earlier result, in place of the defaults."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

from dipfast.apps.cli.options import NOT_TYPED, Request, RestoreOwn
from dipfast.apps.cli.usage import COMMANDS
from dipfast.checks import check_choice
from dipfast.errors import InputError, UnreadableFileError
from dipfast.settings.names import DIRECT_METHODS, Boundary
from dipfast.settings.settings import OF_FITS, SETTINGS, decide_method

__all__ = ["INVALIDATES", "options_with_record", "with_boundary"]

_OF_PHOTONS = "poisson_gaussian"

INVALIDATES: dict[str, tuple[str, ...]] = {
    "quality": ("preset", "max_iterations"),
    "preset": ("max_iterations",),
    "method": ("tv_weight",),
    "sigma": ("noise",),
    "noise": ("sigma",),
}
"""Recorded options that lose their meaning where another option is typed.

A recorded kind of noise is not lost where sigma is typed, unless that is 0; a model of noise has a
sigma of its own.  Besides, a method without a network loses it where an option of a fit is typed,
and the other way round; and so do tiles where no network is fitted, and a stop rule of a join.
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
        if typed == "method" and request.options[typed] == "joined":
            recorded.pop("stop", None)
        for name in INVALIDATES.get(typed, ()):
            is_kind = typed == "sigma" and isinstance(recorded.get(name), str)
            # Where there is no noise, photons are the only kind.
            if not is_kind or (request.options[typed] == 0 and recorded[name] != _OF_PHOTONS):
                recorded.pop(name, None)
    options = {**recorded, **request.options}
    if "tile" in recorded and "tile" not in request.options:
        method = decide_method(SETTINGS[task].model_construct(**options))
        if isinstance(method, str) and method in DIRECT_METHODS:
            del options["tile"]
    return options


def with_boundary(request: Request) -> Request:
    """Return a request with the ``--boundary`` of the record that it names, where none was typed.

    Raises
    ------
    UnreadableFileError
        If the record has one that there is not.
    """
    own = request.own
    if not isinstance(own, RestoreOwn) or own.settings is None:
        return request
    if "boundary" in own.model_fields_set:
        return request
    from dipfast.run.record import read_found

    options_with_record(request)  # says what is wrong with the file
    boundary = read_found(own.settings).get("boundary", own.boundary)
    try:
        check_choice("found.boundary", boundary, get_args(Boundary))
    except (TypeError, ValueError) as error:
        raise UnreadableFileError(f"{own.settings}: {error}") from None
    return replace(request, own=own.model_copy(update={"boundary": boundary}))
