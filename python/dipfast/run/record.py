"""The record of a run: its settings, what was found in the image, and its identity.

A record is written beside a result (``OUT.json``), and its settings can be read back.  The file is
not trusted: only settings that the task has, with valid values, are taken from it, and nothing in
it is executed.
"""

from __future__ import annotations

import inspect
import json
import platform
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from dipfast import _native
from dipfast.checks import check_choice
from dipfast.errors import InputError, InputTypeError, UnreadableFileError
from dipfast.images.files import open_regular
from dipfast.model.noise_estimate import NoiseEstimate
from dipfast.model.operators import LinearOperator, on_device
from dipfast.run.checkpoint import digest_of
from dipfast.run.direct import describe_method
from dipfast.run.job import Job
from dipfast.run.prepare import Task
from dipfast.run.tile_jobs import tiles_of
from dipfast.settings.names import TASKS, MadeInput
from dipfast.settings.noise import NoiseParameters
from dipfast.settings.option import Role, options_of
from dipfast.settings.presets import Preset, get_preset
from dipfast.settings.settings import (
    SETTINGS,
    DenoiseSettings,
    Settings,
    decide_method,
    make_settings,
)
from dipfast.stopping import StopRule

__all__ = ["describe", "found", "given", "identify", "read_found", "read_settings"]

# Bytes of the largest record that is read; a usual one has two thousand.
_LARGEST_FILE = 2**20
# Digits of the longest integer that is read.
_MOST_DIGITS = 400


# --- writing -----------------------------------------------------------------------------


def given(settings: Settings) -> dict[str, Any]:
    """Return the name of the task and its settings as they were given, ready for JSON.

    Parameters
    ----------
    settings
        The settings of the call, before any "auto" is decided.

    Returns
    -------
    dict
        The task under ``"task"``, and each setting that belongs in a record under its name.
    """
    return {"task": settings.task, **_settings_with_role(settings, ("result", "record"))}


def found(task: Task, settings: Settings, jobs: Sequence[Job]) -> dict[str, Any]:
    """Return what was found in the image, what was decided, and where it ran, ready for JSON.

    Parameters
    ----------
    task
        The task, with the image and its layout.
    settings
        The settings as they were given.
    jobs
        The jobs that were run, one for each image of the batch; at least one.

    Returns
    -------
    dict
        Shape, dtype and value range of the image; noise, preset, iterations and stages that were
        used; device, threads and versions.  A method without a network has ``"speed"`` or
        ``"steps"`` in the place of preset, iterations and stages.  ``"sigma"``, ``"noise"`` and
        ``"tv_weight"`` are lists with an entry for each job.
    """
    layout, first = task.layout, jobs[0]
    coding = settings.jpeg if isinstance(settings, DenoiseSettings) else None
    return {
        **task.found,
        **({} if coding is None else {"jpeg_quality": coding.quality}),
        "shape": list(layout.shape),
        "dtype": str(layout.dtype),
        "channel_axis": layout.channel_axis,
        **({"stack_axes": list(layout.stack_axes)} if layout.is_stack else {}),
        "data_range": list(layout.data_range),
        "range_source": layout.range_source,
        "sigma": [job.settings.sigma for job in jobs],
        "noise": [_plain(job.settings.noise) for job in jobs],
        "noise_source": _noise_source(settings, jobs),
        "noise_estimate": [_plain(job.estimate) for job in jobs],
        "stretched": [job.stretch is not None for job in jobs],
        "method": _plain(first.settings.method),
        **_found_of_method(settings, jobs),
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


def _noise_source(settings: Settings, jobs: Sequence[Job]) -> str:
    """Return in words where the noise is from; a sigma that was told may not be all of it."""
    if isinstance(settings.noise, NoiseParameters):
        return "given"
    if settings.sigma == "auto":
        return "estimated"
    if settings.sigma == 0 == type(settings).model_fields["sigma"].default:
        return "assumed"  # a record has defaults, too, so that typed ones cannot be told apart
    # Not that of the problem, which may be of stretched values.
    models = [n for job in jobs if isinstance(n := job.settings.noise, NoiseParameters)]
    asked = settings.noise in ("poisson_gaussian", "correlated")
    more = asked or any(model.gain > 0 or model.is_correlated for model in models)
    return "sigma given, the rest estimated" if more else "given"


def _found_of_method(settings: Settings, jobs: Sequence[Job]) -> dict[str, Any]:
    """Return what was decided for a fit, or for a method without one."""
    if jobs[0].is_direct or not any(job.iterations for job in jobs):
        return describe_method(jobs[0])
    # Those of one value, say, have no fit.
    fitted = [job for job in jobs if job.iterations]
    first, last = fitted[0], fitted[-1]
    method = first.settings.method
    name, preset = get_preset(settings.task, settings.quality, settings.preset, method)
    return {
        "tv_weight": [job.settings.tv_weight for job in jobs],
        "stages": [stage.name for stage in first.stages],
        "max_iterations": last.iterations * (len(tiles_of(last)) if last.tile else 1),
        **({"tile": first.tile} if first.tile else {}),
        "precision": first.settings.precision,
        "preset": name,
        "preset_settings": asdict(preset),
    }


def _settings_with_role(settings: Settings, roles: Sequence[Role]) -> dict[str, Any]:
    options = options_of(type(settings)).values()
    return {o.name: _plain(getattr(settings, o.name)) for o in options if o.role in roles}


def _plain(value: Any) -> Any:
    """Return the value of a setting, ready for JSON; objects without such a form by name."""
    if isinstance(value, StopRule):
        return repr(value)
    if is_dataclass(value) and isinstance(value, NoiseParameters | Preset):
        return asdict(value)
    if isinstance(value, NoiseEstimate):
        return {
            "interval": list(value.interval),
            "levels": value.levels,
            "seen": value.seen,
            "outlier_share": value.outlier_share,
            "stripes": list(value.stripes),
            "quantised": value.quantised,
            "remarks": list(value.remarks),
        }
    if isinstance(value, tuple):
        return [getattr(item, "name", item) for item in value]
    return value


# --- what makes two runs the same --------------------------------------------------------


def identify(task: Task, settings: Settings, jobs: Sequence[Job]) -> dict[str, Any]:
    """Return the identity of a run: a checkpoint is resumed only if its identity is the same.

    Parameters
    ----------
    task
        The task, with the image, its layout and the operators.
    settings
        The settings as they were given.
    jobs
        The jobs of the batch; at least one.

    Returns
    -------
    dict
        Versions, settings, device type, and digests of image, reference, mask, network input and
        operators, ready for JSON.
    """
    first, layout = jobs[0], task.layout
    # Method, preset, iterations, precision and stop rule are those that were decided: what a name
    # such as "denoise-fast" stands for may change.  All other settings are as they were given.
    names = ("method", "preset", "max_iterations", "precision")
    decided = {name: getattr(first.settings, name) for name in names}
    # Chosen for each by the memory that was free.
    decided["tile"] = [job.tile for job in jobs]
    decided["stop"] = first.rule
    references = [job.reference for job in jobs if job.reference is not None]
    # The noise of a stack is another one than that of a batch.
    stack = [layout.stack_axes] if layout.is_stack else []
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
        "operator": [_fingerprint(o, first.baseline, first.device) for o in task.operators],
        "layout": describe([layout.shape, str(layout.dtype), layout.data_range, *stack]),
        "kept_mask": describe(task.kept_mask),
        "reference": describe(torch.cat(references) if references else None),
        "network_input": describe(_input_of_all(jobs)),
        "jpeg": describe(settings.jpeg if isinstance(settings, DenoiseSettings) else None),
        "device": first.device.type,
        # Fits and variants are those of the quality.
        "fits": [describe([settings.quality, fit.iterations, fit.rule]) for fit in first.fits],
    }


def _input_of_all(jobs: Sequence[Job]) -> MadeInput | Tensor:
    """Return the input of the networks, that of all images where each has its own."""
    inputs = [job.network_input for job in jobs if isinstance(job.network_input, Tensor)]
    if not inputs or all(given is inputs[0] for given in inputs):
        return jobs[0].network_input
    return torch.cat(inputs)


def describe(value: Any) -> Any:
    """Return a description of a value, ready for JSON.

    Tensors are described by their digest, objects by class and public attributes, modules of torch
    by their parts, parameters and buffers as well, and partial functions by what they call with
    which arguments.  Two values that could lead to different fits have different descriptions,
    except functions, of which only the name is described.

    Parameters
    ----------
    value
        Any value that a setting may have.

    Returns
    -------
    object
        None, a bool, a number, a string, or lists and dictionaries of these.

    Examples
    --------
    >>> from dipfast.prior.stages import Stage
    >>> describe(Stage("dip", 100))
    {'class': 'Stage', 'name': 'dip', 'iterations': 100, 'tv_weight': 0.0, 'control': None}
    """
    return _describe(value, frozenset())


def _describe(value: Any, inside: frozenset[int]) -> Any:
    """Return a description of a value that is held by objects of these identities."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray | np.generic):
        value = torch.from_numpy(np.array(value)) if value.ndim else value.item()
        return _describe(value, inside)
    if isinstance(value, Tensor):
        return digest_of(value)
    if isinstance(value, list | tuple):
        return [_describe(item, inside) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _describe(item, inside) for key, item in value.items()}
    if inspect.ismethod(value):
        return {"method": value.__qualname__, "of": _describe(value.__self__, inside)}
    if callable(value) and hasattr(value, "__qualname__"):
        return value.__qualname__
    if id(value) in inside:  # what it holds leads back to it
        return type(value).__name__
    inside = inside | {id(value)}
    attributes = _public_attributes(value)
    if isinstance(value, partial):
        attributes |= {"func": value.func, "args": value.args, "keywords": value.keywords}
    if isinstance(value, nn.Module):
        for parts in (value.named_parameters, value.named_buffers):
            attributes |= dict(parts(recurse=False))
        attributes |= dict(value.named_children())
    if isinstance(value, NoiseParameters):  # records of before have none of these
        usual = {"offset": 0.0, "excess": 1.0, "channel_levels": None}
        attributes = {k: v for k, v in attributes.items() if k not in usual or v != usual[k]}
    return {"class": type(value).__name__, **_describe(attributes, inside)}


def _public_attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object, also those in slots, whose names have no underscore."""
    names = dict.fromkeys(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        names |= dict.fromkeys([slots] if isinstance(slots, str) else slots)
    return {k: getattr(value, k) for k in names if k[0] != "_" and hasattr(value, k)}


def _fingerprint(operator: LinearOperator, image: Tensor, device: torch.device) -> str:
    """Return a digest of what an operator makes of an image of uniform noise.

    Comparing what two operators do works for operators of any class.  They are applied on the CPU,
    whose last bits do not depend on the kind of the GPU; on the device of the fit if they have
    tensors there that cannot be moved.
    """
    generator = torch.Generator().manual_seed(0)
    probe = torch.rand(image.shape, generator=generator, dtype=torch.float32).to("cpu", image.dtype)
    with torch.no_grad():
        try:
            return digest_of(on_device(operator, probe.device)(probe))
        except Exception:
            # A function of the user's may raise anything if it is given tensors of another device.
            if device.type == "cpu":
                raise
            return digest_of(on_device(operator, device)(probe.to(device)))


# --- reading -----------------------------------------------------------------------------


def read_settings(path: str | Path) -> tuple[str, dict[str, Any]]:
    """Return the task and the settings of a record.

    Parameters
    ----------
    path
        The file that :meth:`dipfast.Result.save` wrote beside the image (``NAME.json``).  Settings
        that the file does not have are left out of the result, so a call uses their defaults.

    Returns
    -------
    str
        The name of the task function.
    dict
        Its keyword arguments as they were given.  What was "auto" is "auto" again: the same image
        gives the same result, and another image gets values of its own.  Images, masks, the
        operator of :func:`dipfast.restore` and the device are not in a record.  If the named preset
        has changed since, ``"preset"`` is a :class:`~dipfast.settings.presets.Preset` with the old
        values.

    Raises
    ------
    OSError
        If the file cannot be read.
    UnreadableFileError
        If the file is not a record, or holds something that cannot be repeated, such as stages of
        your own.  The message names the file, the setting, and the value that was expected.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "clean.png.json"
    >>> _ = path.write_text('{"settings": {"task": "denoise", "method": "dip", "seed": 7}}')
    >>> read_settings(path)
    ('denoise', {'method': 'dip', 'seed': 7})
    """
    record = _read(path)
    try:
        return _settings_of(record)
    except (ValueError, TypeError) as error:
        raise UnreadableFileError(f"{path}: {error}") from None


def read_found(path: str | Path) -> dict[str, Any]:
    """Return what a record says was found, as it is there, unchecked; nothing if it says nothing.

    Parameters
    ----------
    path
        The record, as in :func:`read_settings`.

    Returns
    -------
    dict
        What was found, by name.

    Raises
    ------
    OSError
        If the file cannot be read.
    UnreadableFileError
        If the file is not a record.
    """
    recorded = _read(path).get("found")
    return recorded if isinstance(recorded, dict) else {}


def _read(path: str | Path) -> dict[str, Any]:
    with open_regular(path) as stream:
        content = stream.read(_LARGEST_FILE + 1)
    try:
        return _parse(content)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise UnreadableFileError(
            f"cannot read settings from {path}, which is no record (NAME.json): {reason}"
        ) from None


def _parse(content: bytes) -> dict[str, Any]:
    if len(content) > _LARGEST_FILE:
        raise ValueError(f"it has more than {_LARGEST_FILE} bytes")
    # json recognises the encoding of bytes: editors and shells of Windows write UTF-8 with a byte
    # order mark, and UTF-16.
    record = json.loads(content, object_pairs_hook=_unique_keys, parse_int=_short_integer)
    if not isinstance(record, dict) or not isinstance(record.get("settings"), dict):
        raise ValueError("it has no settings")
    return record


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {reprlib.repr(key)} is there twice")
        result[key] = value
    return result


def _short_integer(text: str) -> int:
    # The time that int() takes grows with the square of the number of digits.
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"the number {reprlib.repr(text)} is too large")
    return int(text)


def _settings_of(record: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return task and settings of a parsed record, checked."""
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
    recorded = record.get("found", {})
    values = recorded.get("preset_settings") if isinstance(recorded, dict) else None
    if values is not None:
        if not isinstance(values, dict):
            raise InputTypeError("found.preset_settings must be an object")
        preset = _value("preset", values)
        # The preset of that name, or of that quality, may have changed since.
        if preset != get_preset(task, checked.quality, checked.preset, decide_method(checked))[1]:
            options["preset"] = preset
            # A preset says something of a fit, and a method that was decided would be another one.
            if checked.method == "auto" and recorded.get("method") == "joined":
                options["method"] = "joined"
    return task, options


def _required(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return valid values for the settings without a default, so that records may lack them."""
    return {o.name: o.choices[0] for o in known.values() if o.default is ...}


_KINDS: dict[str, TypeAdapter[Any]] = {
    "noise": TypeAdapter(NoiseParameters),
    "preset": TypeAdapter(Preset),
}


def _value(name: str, value: Any) -> Any:
    """Return a value read from JSON in the form that the setting expects."""
    if isinstance(value, dict) and name in _KINDS:
        kind = _KINDS[name]
        try:
            return kind.validate_json(json.dumps(value), strict=True, extra="forbid")
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, (name, *first["loc"])))
            cause = first.get("ctx", {}).get("error", first["msg"])
            raise InputError(f"{where}: {cause}") from None
    if isinstance(value, dict):
        raise InputTypeError(f"{name} must not be an object, got {reprlib.repr(value)}")
    return (
        tuple(value) if isinstance(value, list) and name in ("data_range", "image_shape") else value
    )
