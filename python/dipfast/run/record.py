"""The record of a run: what was given, what was found, and what makes two runs the same.

A record is written beside a result (``OUT.json``), and its settings can be read back.  The file may
have been changed by anybody: only settings that a task has, with values that they may have, are
taken from it, and nothing is executed.
"""

from __future__ import annotations

import json
import platform
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from dipfast import _native
from dipfast.checks import check_choice
from dipfast.errors import InputError, InputTypeError, UnreadableFileError
from dipfast.images.files import open_regular
from dipfast.model.operators import LinearOperator
from dipfast.run.checkpoint import digest_of
from dipfast.run.job import Job
from dipfast.run.prepare import Task
from dipfast.settings.names import TASKS
from dipfast.settings.noise import NoiseParameters
from dipfast.settings.option import Role, options_of
from dipfast.settings.presets import Preset, get_preset
from dipfast.settings.settings import SETTINGS, Settings, make_settings
from dipfast.stopping import StopRule

__all__ = ["describe", "found", "given", "identify", "read_settings"]

_LARGEST_FILE = 2**20  # bytes; a record has two thousand
_MOST_DIGITS = 400


# --- writing -----------------------------------------------------------------------------


def given(settings: Settings) -> dict[str, Any]:
    """Return the settings as they were given, in terms of JSON, and the name of the task."""
    return {"task": settings.task, **_told(settings, ("result", "record"))}


def found(task: Task, settings: Settings, jobs: Sequence[Job]) -> dict[str, Any]:
    """Return what was found in the image and decided, and where it ran, in terms of JSON.

    Lists have an entry for each image of a batch.
    """
    layout, first = task.layout, jobs[0]
    name, preset = get_preset(settings.task, settings.quality, settings.preset)
    told = settings.sigma != "auto" or isinstance(settings.noise, NoiseParameters)
    return {
        **task.found,
        "shape": list(layout.shape),
        "dtype": str(layout.dtype),
        "channel_axis": layout.channel_axis,
        "data_range": list(layout.data_range),
        "range_source": layout.range_source,
        "sigma": [job.settings.sigma for job in jobs],
        "noise": [_plain(job.settings.noise) for job in jobs],
        "noise_source": "given" if told else "estimated",
        "tv_weight": [job.settings.tv_weight for job in jobs],
        "stages": [stage.name for stage in first.stages],
        "max_iterations": jobs[-1].iterations,
        "preset": name,
        "preset_settings": asdict(preset),
        "device": first.settings.device,
        "threads": torch.get_num_threads(),
        "versions": {
            "dipfast": _native.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "pydantic": version("pydantic"),
            "python": platform.python_version(),
        },
    }


def _told(settings: Settings, roles: Sequence[Role]) -> dict[str, Any]:
    options = options_of(type(settings)).values()
    return {o.name: _plain(getattr(settings, o.name)) for o in options if o.role in roles}


def _plain(value: Any) -> Any:
    """Return a setting in terms of JSON; what has no such terms by what it is called."""
    if isinstance(value, StopRule):
        return repr(value)
    if is_dataclass(value) and isinstance(value, NoiseParameters | Preset):
        return asdict(value)
    if isinstance(value, tuple):
        return [getattr(item, "name", item) for item in value]
    return value


# --- what makes two runs the same --------------------------------------------------------


def identify(task: Task, settings: Settings, jobs: Sequence[Job]) -> dict[str, Any]:
    """Return what a checkpoint must have in common with a run to be gone on from."""
    first, layout = jobs[0], task.layout
    # Preset, iterations and rule are those that were decided, all else as it was given.
    decided = {name: getattr(first.settings, name) for name in ("preset", "max_iterations")}
    decided["stop"] = first.rule
    references = [job.reference for job in jobs if job.reference is not None]
    options = {
        option.name: getattr(settings, option.name)
        for option in options_of(type(settings)).values()
        if option.role == "result"
    }
    return {
        "version of dipfast": _native.__version__,
        "version of torch": str(torch.__version__),
        "task": settings.task,
        **describe(options | decided),
        "image": describe(torch.cat([job.problem.measurement for job in jobs])),
        "operator": [_fingerprint(o, first.baseline) for o in task.operators],
        "layout": describe([layout.shape, str(layout.dtype), layout.data_range]),
        "kept_mask": describe(task.kept_mask),
        "reference": describe(torch.cat(references) if references else None),
        "network_input": describe(first.network_input),
        "device": first.device.type,
    }


def describe(value: Any) -> Any:
    """Return a value in terms of JSON: tensors by their digest, objects by class and attributes.

    Two values that a fit could tell apart differ here too, but for functions, which are known
    by name alone.

    Examples
    --------
    >>> from dipfast.prior.stages import Stage
    >>> describe(Stage("dip", 100))
    {'class': 'Stage', 'name': 'dip', 'iterations': 100, 'tv_weight': 0.0, 'control': None}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return digest_of(value)
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if callable(value) and hasattr(value, "__qualname__"):
        return value.__qualname__
    attributes = {k: v for k, v in getattr(value, "__dict__", {}).items() if k[0] != "_"}
    return {"class": type(value).__name__, **describe(attributes)}


def _fingerprint(operator: LinearOperator, image: Tensor) -> str:
    """Return a digest of what an operator makes of noise in the place of an image.

    It tells two operators apart, whatever they are made of.
    """
    generator = torch.Generator().manual_seed(0)
    probe = torch.rand(image.shape, generator=generator).to(image)
    with torch.no_grad():
        return digest_of(operator(probe))


# --- reading -----------------------------------------------------------------------------


def read_settings(path: str | Path) -> tuple[str, dict[str, Any]]:
    """Return the task of a record, and its settings.

    Parameters
    ----------
    path
        What :meth:`dipfast.Result.save` wrote beside the image (``NAME.json``).  Settings that are
        not there are left out, and have their defaults in the run.

    Returns
    -------
    str
        The name of the function.
    dict
        Its keyword arguments, as they were given: what was "auto" is that again, so that the same
        picture gives the same result, and another picture what suits it.  Pictures, masks and the
        operator of :func:`dipfast.restore` are not in a record, and the device is no matter of
        settings.  A preset that does not mean any more what it did is a
        :class:`~dipfast.settings.presets.Preset` with what it was.

    Raises
    ------
    OSError
        If the file cannot be read.
    UnreadableFileError
        If it is no record, or something in it cannot be repeated, such as stages of your own.  The
        message names the file, the setting, and what was expected there.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "clean.png.json"
    >>> _ = path.write_text('{"settings": {"task": "denoise", "method": "dip", "seed": 7}}')
    >>> read_settings(path)
    ('denoise', {'method': 'dip', 'seed': 7})
    """
    path = Path(path)
    with open_regular(path) as stream:
        content = stream.read(_LARGEST_FILE + 1)
    try:
        record = _parse(content)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise UnreadableFileError(
            f"cannot read settings from {path}, which is no record (NAME.json): {reason}"
        ) from None
    try:
        return _settings_of(record)
    except (ValueError, TypeError) as error:
        raise UnreadableFileError(f"{path}: {error}") from None


def _parse(content: bytes) -> dict[str, Any]:
    if len(content) > _LARGEST_FILE:
        raise ValueError(f"it has more than {_LARGEST_FILE} bytes")
    # Bytes, because json recognises their encoding: editors and shells of Windows write UTF-8
    # with a mark in front, and UTF-16.
    record = json.loads(content, object_pairs_hook=_unique, parse_int=_short)
    if not isinstance(record, dict) or not isinstance(record.get("settings"), dict):
        raise ValueError("it has no settings")
    return record


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {reprlib.repr(key)} is there twice")
        result[key] = value
    return result


def _short(text: str) -> int:
    # The time that int takes grows with the square of the digits.
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"the number {reprlib.repr(text)} is too large")
    return int(text)


def _settings_of(record: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return task and settings of a record that was parsed."""
    options = dict(record["settings"])
    task = options.pop("task", None)
    check_choice("task", task, TASKS)
    known = options_of(SETTINGS[task])
    for name, value in options.items():
        if name not in known or known[name].role not in ("result", "record"):
            names = [o.name for o in known.values() if o.role in ("result", "record")]
            raise InputError(
                f"there is no setting {reprlib.repr(name)}, expected one of {', '.join(names)}"
            )
        options[name] = _value(name, value)
    for name in ("method", "stop"):
        value = options.get(name, known[name].default)
        if not (isinstance(value, str) and value in known[name].choices):
            raise InputError(
                f"{name} must be one of {', '.join(known[name].choices)}, got "
                f"{reprlib.repr(value)}; what was made by hand is not in a record"
            )
    checked = make_settings(SETTINGS[task], {**_required(known), **options})
    options = {name: getattr(checked, name) for name in options}
    before = record.get("found", {})
    preset = before.get("preset_settings") if isinstance(before, dict) else None
    if preset is not None:
        was = _value("preset", preset)
        if was != get_preset(task, checked.quality, checked.preset)[1]:
            options["preset"] = was
    return task, options


def _required(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of settings that have no default, for records that lack them."""
    return {o.name: o.choices[0] for o in known.values() if o.default is ...}


_KINDS: dict[str, TypeAdapter[Any]] = {
    "noise": TypeAdapter(NoiseParameters),
    "preset": TypeAdapter(Preset),
}


def _value(name: str, value: Any) -> Any:
    """Return a value of JSON in the form that a setting has."""
    if isinstance(value, dict) and name in _KINDS:
        kind = _KINDS[name]
        try:
            return kind.validate_json(json.dumps(value), strict=True, extra="forbid")
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, (name, *first["loc"])))
            raise InputError(f"{where}: {first['msg']}") from None
    if isinstance(value, dict):
        raise InputTypeError(f"{name} must not be an object, got {reprlib.repr(value)}")
    return (
        tuple(value) if isinstance(value, list) and name in ("data_range", "image_shape") else value
    )
