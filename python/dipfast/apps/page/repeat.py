"""How a result is made again: the call in Python."""

from __future__ import annotations

from typing import Any

from dipfast.settings.option import options_of
from dipfast.settings.settings import SETTINGS

__all__ = ["python_call"]

# What a task is given beside the image, under the names of the documents.
_ARGUMENTS = {"inpaint": ", mask", "restore": ", operator"}
# Settings that a record has as lists, and a call as tuples.
_TUPLES = ("data_range", "image_shape")


def python_call(settings: dict[str, Any], *, is_jpeg: bool = False) -> str:
    """Return the call that has these settings; those with their default are left out.

    Parameters
    ----------
    settings
        The settings of a result.
    is_jpeg
        Whether the artefacts of a JPEG were taken out; not by default.

    Returns
    -------
    str
        The call; ``...`` stands for what has no form in a record, such as stages and presets of
        one's own.  Empty if the task is none of dipfast's.
    """
    task = settings.get("task")
    if task not in SETTINGS:
        return ""
    options = options_of(SETTINGS[task])
    words = [f"image{_ARGUMENTS.get(str(task), '')}"]
    if is_jpeg:
        words.append("jpeg=dipfast.JpegCoding.read(...)")  # the file has it, and not the record
    for name, value in settings.items():
        if name in options and value != options[name].default:
            words.append(f"{name}={_in_python(name, value, options[name].choices)}")
    return f"dipfast.{task}({', '.join(words)})"


def _in_python(name: str, value: Any, choices: tuple[Any, ...]) -> str:
    if name == "noise" and isinstance(value, dict):
        given = ", ".join(f"{k}={v!r}" for k, v in value.items() if v is not None)
        return f"dipfast.NoiseModel({given})"
    if name in _TUPLES and isinstance(value, list):
        return repr(tuple(value))
    if name == "stop" and value not in choices:
        return f"dipfast.stopping.{value}"  # the record has it as Python would write it
    return "..." if isinstance(value, dict | list) else repr(value)
