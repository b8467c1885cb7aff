"""What is said of an option beside its type: help, unit, and what it is good for."""

from __future__ import annotations

from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

__all__ = ["Option", "Role", "option", "options_of"]

Role: TypeAlias = Literal["result", "record", "local", "image", "observer"]
"""What an option is good for.

``"result"``
    It changes the result.  It is written into the record, and two runs that differ in it are two:
    the one does not go on from a checkpoint of the other.
``"record"``
    It is written into the record, and a run that goes on from a checkpoint may change it.
``"local"``
    It says where to work, and where and when something is kept.  It is not in the record.
``"image"``
    A picture that comes with the image.
``"observer"``
    Something of the caller's that looks at the run.
"""


@dataclass(frozen=True)
class Option:
    """Tell everything that is known about one option.

    Attributes
    ----------
    name
        As it is written in Python.
    default
        The value of an option that is not given; ``...`` for one that must be.
    help
        Sentences for people, in plain text.
    expected
        What a value has to be, for messages: "NAME must be ...".
    role
        What it is good for.
    unit
        Of a number; empty for none.
    choices
        All values that have a name; empty if others are possible.
    type
        What may stand there, for documents.
    in_python
        What is possible in Python alone, a sentence; empty for nothing.
    """

    name: str
    default: Any
    help: str
    expected: str
    role: Role
    unit: str
    choices: tuple[Any, ...]
    type: str
    in_python: str

    @property
    def is_flag(self) -> bool:
        """Whether it is True or False."""
        return isinstance(self.default, bool)


def option(
    default: Any,
    help: str,
    *,
    expected: str = "",
    role: Role = "result",
    unit: str = "",
    choices: tuple[Any, ...] = (),
    type: str = "",
    in_python: str = "",
) -> Any:
    """Describe a field of :class:`dipfast.settings.settings.Settings`.

    Parameters
    ----------
    default
        The value of an option that is not given; ``...`` if it must be.
    help
        Sentences for people, in plain text.
    expected
        What a value has to be, for messages; without it the choices are listed.
    role
        What the option is good for (:data:`Role`).
    unit
        Of a number.
    choices
        All values that have a name, where the type of the field does not list them.
    type
        What may stand there, for documents; without it, what ``expected`` says.
    in_python
        What is possible in Python alone, a sentence.

    Returns
    -------
    FieldInfo
        The field, for a class of pydantic.
    """
    said: dict[str, Any] = {
        "expected": expected,
        "role": role,
        "unit": unit,
        "choices": choices,
        "type": type,
        "in_python": in_python,
    }
    return Field(default, description=help, json_schema_extra=said)


def options_of(settings: type[BaseModel]) -> dict[str, Option]:
    """Return all options of a class of settings, by name, in their order."""
    return {name: _option(name, field) for name, field in settings.model_fields.items()}


def _option(name: str, field: FieldInfo) -> Option:
    said: Any = field.json_schema_extra
    expected = said["expected"]
    choices = said["choices"]
    if not choices and not expected:
        choices = _choices(field.annotation)
    if not expected and field.annotation is bool:
        expected = "True or False"
    if not expected:
        expected = f"one of {', '.join(map(str, choices))}"
    default = ... if field.is_required() else field.default
    return Option(
        name=name,
        default=default,
        help=field.description or "",
        expected=expected,
        role=said["role"],
        unit=said["unit"],
        choices=choices,
        type=said["type"] or expected,
        in_python=said["in_python"],
    )


def _choices(annotation: Any) -> tuple[Any, ...]:
    """Return the values of all literal types in an annotation."""
    origin = get_origin(annotation)
    if origin is Literal:
        return get_args(annotation)
    if origin in (Union, UnionType):
        return tuple(choice for part in get_args(annotation) for choice in _choices(part))
    return ()
