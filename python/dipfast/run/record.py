"""Settings of an earlier result, read back from its report: the same run once more.

The file may have been changed by anybody.  Every key is in a table with what may stand there;
anything else is refused, nothing is executed, and nothing imported by its name.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeAlias, get_args

from dipfast.errors import InputError
from dipfast.images.files import open_regular
from dipfast.model.noise import NoiseModel
from dipfast.ops.resampling import DOWNSAMPLE_KERNELS
from dipfast.settings.names import MARKS, METHODS, TASKS
from dipfast.settings.network import Downsampling, HourglassConfig, Upsampling
from dipfast.settings.presets import PRESETS, Preset
from dipfast.stopping import RULES

__all__ = ["read_settings"]

_LARGEST_FILE = 2**20  # bytes; a report has two thousand
_LARGEST_NUMBER = 3e38  # of float32
_MOST_DIGITS = 400

Check: TypeAlias = Callable[[Any], Any]
"""Gives back a value in the form that an option has, or raises :class:`_UnfitError`."""


def read_settings(path: str | Path) -> dict[str, Any]:
    """The options that make the run of a report again.

    Parameters
    ----------
    path
        What :meth:`dipfast.Result.save` wrote beside the image (``NAME.json``).  Keys that are
        not there are left out, and have their defaults in the run.

    Returns
    -------
    dict
        The name of the function under ``"task"``, and its keyword arguments.  Images, masks,
        ``network_input`` and the operator of :func:`dipfast.restore` are not in a report, and
        the device is no matter of settings.

        What was estimated comes as it was found: ``noise`` is a
        :class:`~dipfast.model.noise.NoiseModel` (``sigma`` is ``"auto"`` beside it), ``tv_weight`` a
        number, ``data_range`` a pair.  ``preset`` is a name as long as that still means what is
        in the report, else a :class:`~dipfast.settings.presets.Preset`.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no report, or something in it cannot be repeated: stages and stop rules of your
        own, a batch of images with different noise.  The message names the file, the key, and
        what was expected there.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "clean.png.json"
    >>> _ = path.write_text('{"settings": {"task": "denoise", "method": "dip", "seed": 7}}')
    >>> read_settings(path)
    {'task': 'denoise', 'method': 'dip', 'seed': 7}
    """
    path = Path(path)
    with open_regular(path) as stream:
        content = stream.read(_LARGEST_FILE + 1)
    try:
        if len(content) > _LARGEST_FILE:
            raise InputError(f"it has more than {_LARGEST_FILE} bytes")
        # Bytes, because json recognises their encoding: editors and shells of Windows write UTF-8
        # with a mark in front, and UTF-16.
        report = json.loads(content, object_pairs_hook=_unique, parse_int=_short)
    except RecursionError:
        raise InputError(
            f"cannot read settings from {path}, which is no report: it is nested too deeply"
        ) from None
    except ValueError as error:
        raise InputError(
            f"cannot read settings from {path}, which is no report (NAME.json): {error}"
        ) from error
    try:
        settings = _REPORT(report)["settings"]
    except _UnfitError as unfit:
        where = unfit.where.removeprefix(".") or "the report"
        raise InputError(f"{path}: {where} {unfit.problem}") from None
    return dict(settings)


# --- JSON --------------------------------------------------------------------------------


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise InputError(f"the key {reprlib.repr(key)} is there twice")
        result[key] = value
    return result


def _short(text: str) -> int:
    # The time that int takes grows with the square of the digits.
    if len(text) > _MOST_DIGITS:
        raise InputError(f"the number {reprlib.repr(text)} is too large")
    return int(text)


# --- what may stand where ----------------------------------------------------------------


class _UnfitError(Exception):
    """Something that may not stand where it stands."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.where = ""


def _expect(fits: bool, expected: str, value: Any) -> None:
    if not fits:
        raise _UnfitError(f"must be {expected}, got {reprlib.repr(value)}")


def _at(where: str, check: Check, value: Any) -> Any:
    try:
        return check(value)
    except _UnfitError as unfit:
        unfit.where = where + unfit.where
        raise


def _text(value: Any) -> str:
    _expect(type(value) is str, "a text", value)
    return str(value)


def _truth(value: Any) -> bool:
    _expect(type(value) is bool, "true or false", value)
    return bool(value)


def _integer(least: int, most: int) -> Check:
    def check(value: Any) -> int:
        # True is an int for Python.
        fits = type(value) is int and least <= value <= most
        _expect(fits, f"an integer from {least} to {most}", value)
        return int(value)

    return check


def _number(least: float = -_LARGEST_NUMBER, most: float = _LARGEST_NUMBER) -> Check:
    def check(value: Any) -> float:
        # Infinity and NaN, which Python takes for JSON, are between no two numbers.
        fits = type(value) in (int, float) and least <= value <= most
        _expect(fits, f"a number from {least:g} to {most:g}", value)
        return float(value)

    return check


def _choice(names: Sequence[Any], hint: str = "") -> Check:
    def check(value: Any) -> Any:
        fits = any(type(value) is type(name) and value == name for name in names)
        _expect(fits, f"one of {', '.join(map(repr, names))}{hint}", value)
        return value

    return check


def _or_null(inner: Check) -> Check:
    return lambda value: None if value is None else inner(value)


def _list(inner: Check, least: int, most: int) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        fits = type(value) is list and least <= len(value) <= most
        _expect(fits, f"a list of {least} to {most} entries", value)
        return tuple(_at(f"[{k}]", inner, item) for k, item in enumerate(value))

    return check


def _same(inner: Check) -> Check:
    """A list with one entry for each image of a batch, of which a call takes one for all."""
    entries = _list(inner, 1, 10**6)

    def check(value: Any) -> Any:
        first, *others = entries(value)
        if any(other != first for other in others):
            raise _UnfitError(
                "differs from image to image of a batch, which one call cannot repeat"
            )
        return first

    return check


def _mapping(inner: Check) -> Check:
    def check(value: Any) -> dict[str, Any]:
        _expect(type(value) is dict, "an object", value)
        return {key: _at(f"[{reprlib.repr(key)}]", inner, item) for key, item in value.items()}

    return check


def _object(table: Mapping[str, Check], required: Sequence[str] = ()) -> Check:
    """An object with the keys of a table and no others."""

    def check(value: Any) -> dict[str, Any]:
        _expect(type(value) is dict, "an object", value)
        for key in value:
            if key not in table:
                raise _UnfitError(
                    f"has the key {reprlib.repr(key)}, expected one of {', '.join(table)}"
                )
        for key in required:
            if key not in value:
                raise _UnfitError(f"has no {key!r}")
        return {key: _at(f".{key}", table[key], item) for key, item in value.items()}

    return check


def _record(kind: Any, table: Mapping[str, Check]) -> Check:
    """An object with the fields of a dataclass."""
    required = [
        field.name
        for field in fields(kind)
        if field.default is MISSING and field.default_factory is MISSING
    ]
    entries = _object(table, required)

    def check(value: Any) -> Any:
        values = entries(value)
        try:
            return kind(**values)
        except ValueError as error:  # fields that do not go together
            raise _UnfitError(f"does not hold together: {error}") from error

    return check


def _either(first: Check, second: Check) -> Check:
    return lambda value: second(value) if type(value) is list else first(value)


# --- the tables --------------------------------------------------------------------------

_POSITIVE = _number(1e-30)
_SHARE = _number(0, 1)
_NOT_NEGATIVE = _number(0)
_COUNT, _HOW_MANY = _integer(1, 10**9), _integer(0, 10**9)
_UPSAMPLING = _choice(get_args(Upsampling))
# More would be padded to millions of pixels, or not fit into any memory.
_MOST_SCALES, _MOST_CHANNELS, _LARGEST_KERNEL = 16, 4096, 99


def _widths(least: int) -> Check:
    return _list(_integer(least, _MOST_CHANNELS), 1, _MOST_SCALES)


def _range(value: Any) -> tuple[float, float]:
    low, high = _list(_number(), 2, 2)(value)
    _expect(low < high, "[darkest, brightest]", value)
    return low, high


_NOISE = _record(
    NoiseModel,
    {
        "sigma": _NOT_NEGATIVE,
        "gain": _NOT_NEGATIVE,
        "low": _or_null(_number()),
        "high": _or_null(_number()),
    },
)
_NETWORK = _record(
    HourglassConfig,
    {
        "down": _widths(1),
        "up": _widths(1),
        "skip": _widths(0),
        "upsampling": _either(_UPSAMPLING, _list(_UPSAMPLING, 1, _MOST_SCALES)),
        "downsampling": _choice(get_args(Downsampling)),
        "down_kernel": _integer(1, _LARGEST_KERNEL),
        "pointwise": _truth,
    },
)
_PRESET = _record(
    Preset,
    {
        "iterations": _COUNT,
        "input_noise": _list(_NOT_NEGATIVE, 2, 2),
        "network": _NETWORK,
        "learning_rate": _POSITIVE,
        "average_decay": _SHARE,
        "input": _choice(("noise", "meshgrid", "given")),
        "input_channels": _integer(1, _MOST_CHANNELS),
        "tv_weight": _NOT_NEGATIVE,
    },
)

_OPTIONS: dict[str, Check] = {
    "method": _choice(METHODS, " (stages of your own are not in a report)"),
    "preset": _text,  # with preset_settings
    "sigma": _same(_NOT_NEGATIVE),
    "noise": _same(_NOISE),
    "tv_weight": _same(_NOT_NEGATIVE),
    "stop": _choice(tuple(RULES), " (a rule of your own is not in a report)"),
    "time_limit": _or_null(_POSITIVE),
    "max_iterations": _COUNT,
    "seed": _integer(0, 2**63 - 1),
    "data_range": _range,
}
_OPTIONS_OF_TASK: dict[str, dict[str, Check]] = {
    "inpaint": {"mask_marks": _choice(MARKS), "keep_known": _truth},
    "super_resolve": {
        "factor": _choice((2, 3, 4, 8)),
        "kernel": _choice(DOWNSAMPLE_KERNELS),
    },
}
# What a report tells that is no option: how the image was, and where it ran.
_TOLD: dict[str, Check] = {
    "device": _text,
    "threads": _COUNT,
    "shape": _list(_COUNT, 2, 4),
    "dtype": _text,
    "channel_axis": _or_null(_integer(0, 3)),
    "range_source": _choice(("given", "dtype", "data")),
    "noise_source": _choice(("given", "estimated")),
    "preset_settings": _PRESET,
    "versions": _mapping(_text),
}
_TOLD_OF_TASK: dict[str, dict[str, Check]] = {
    "inpaint": {"missing": _SHARE},
    "restore": {"operator": _text},
}


def _settings(value: Any) -> dict[str, Any]:
    """The options of a call, from the settings of a report."""
    _expect(type(value) is dict, "an object", value)
    if "task" not in value:
        raise _UnfitError("has no 'task'")
    task = _at(".task", _choice(TASKS), value["task"])
    options = {"task": _text, **_OPTIONS, **_OPTIONS_OF_TASK.get(task, {})}
    found = _object({**options, **_TOLD, **_TOLD_OF_TASK.get(task, {})})(value)
    _check_together(found)
    result = {key: item for key, item in found.items() if key in options}
    if "preset" in found or "preset_settings" in found:
        result["preset"] = _preset(found.get("preset"), found.get("preset_settings"))
    if "noise" in found:
        result["sigma"] = "auto"  # the model has it
    if found.get("method") == "dip":
        result.pop("tv_weight", None)  # told, but not used
    return result


def _check_together(found: dict[str, Any]) -> None:
    """sigma is told in the unit of the image, and once more in the noise, which is what counts."""
    if not {"noise", "sigma", "data_range"} <= found.keys():
        return
    low, high = found["data_range"]
    sigma = found["noise"].sigma * (high - low)
    if not math.isclose(sigma, found["sigma"], rel_tol=1e-6):
        raise _UnfitError(f"has sigma {found['sigma']}, but that of its noise is {sigma}")


def _preset(name: str | None, settings: Preset | None) -> str | Preset:
    if settings is None:
        return str(_at(".preset", _choice(list(PRESETS)), name))
    if name is not None and PRESETS.get(name) == settings:
        return name
    return settings


_REPORT = _object(
    {
        "stop_reason": _text,
        "best_iteration": _HOW_MANY,
        "stop_iteration": _HOW_MANY,
        "spikes": _HOW_MANY,
        "failures": _HOW_MANY,
        "unfinished": _or_null(_text),
        "seconds": _or_null(_NOT_NEGATIVE),
        "metrics": _mapping(_or_null(_number())),
        "settings": _settings,
    },
    required=["settings"],
)
