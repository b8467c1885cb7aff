"""Values out of texts: a reader for each kind of type that an option has."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from dipfast.checks import did_you_mean
from dipfast.errors import InputError
from dipfast.settings.option import Option
from dipfast.settings.presets import PRESETS

__all__ = ["Reader", "reading_of"]

_HEX = re.compile(r"#[0-9a-fA-F]{6}")

Reader: TypeAlias = Callable[[str], Any]
"""Returns the value that a text stands for, or raises InputError with what was expected."""


def reading_of(option: Option, annotation: Any) -> tuple[Any, Reader]:
    """Return the type that help and completion show for an option, and the reader of its texts.

    Both follow from the annotation of its field.  Only options in ``_READINGS`` need more than
    their type says.
    """
    kinds = tuple(dict.fromkeys(_parts(annotation)))
    words = tuple(kind for kind in kinds if not isinstance(kind, type))
    if option.name in _READINGS:
        return _READINGS[option.name]
    if bool in kinds:
        return bool, str
    if option.choices:
        return Literal[option.choices], _choice(option.choices)
    if float in kinds or int in kinds:
        kind = float if float in kinds else int
        return (Union[kind, Literal[words]] if words else kind), _number(kind, words)  # noqa: UP007
    return (Path if Path in kinds else str), str


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield the types of an annotation, and the values of its literal types."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Annotated, tuple):
        yield from _parts(arguments[0])
    elif origin in (Union, UnionType):
        for argument in arguments:
            yield from _parts(argument)
    elif origin is Literal:
        yield from arguments
    else:
        yield annotation


# --- readers -----------------------------------------------------------------------------


def _choice(choices: tuple[Any, ...]) -> Reader:
    values = {str(choice): choice for choice in choices}

    def read(text: str) -> Any:
        if text in values:
            return values[text]
        hint = did_you_mean(text, values)
        raise InputError(
            f"there is no {text!r}{hint}"
            if hint
            else f"one of {', '.join(values)} expected, got {text!r}"
        )

    return read


def _number(kind: type[float], words: tuple[str, ...] = ()) -> Reader:
    name = "a whole number" if kind is int else "a number"
    expected = " or ".join([*map(repr, words), name])

    def read(text: str) -> Any:
        if text in words:
            return text
        try:
            return kind(text)
        except ValueError:
            hint = (kind is float and _with_a_point(text)) or did_you_mean(text, words)
            raise InputError(f"{expected} expected, got {text!r}{hint}") from None

    return read


def _with_a_point(text: str) -> str:
    """Return the question whether a decimal comma was meant; empty if that is no number either."""
    try:
        float(text.replace(",", ".", 1))
    except ValueError:
        return ""
    return f"; did you mean {text.replace(',', '.')}?"


def _number_or_pair(text: str) -> float | tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, 2):
        raise InputError(f"a number, or two with a comma and no blank, expected, got {text!r}")
    return values[0] if len(values) == 1 else values


def _mask(text: str) -> str | float | tuple[str, Any]:
    """Return a file name, 'alpha', or the value or colour that marks missing pixels."""
    kind, colon, number = text.partition(":")
    if text == "alpha":
        return text
    if kind == "color" and colon:
        return kind, _colour(number, text)
    if kind != "value" or not colon:
        _check_bare(text)
        return _file(text, "alpha", "value", "color")
    try:
        return float(number)
    except ValueError:
        raise InputError(f"value:V needs a number, such as value:0, got {text!r}") from None


def _colour(colour: str, text: str) -> str | tuple[float, ...]:
    """Return the three numbers of a colour, or its text #rrggbb."""
    if _HEX.fullmatch(colour):
        return colour.lower()
    try:
        values = tuple(float(part) for part in colour.split(","))
    except ValueError:
        values = ()
    if len(values) != 3:
        raise InputError(
            "color:R,G,B needs three numbers without blanks, such as color:255,0,0, or "
            f"color:#ff0000, got {text!r}"
        )
    return values


def _check_bare(text: str) -> None:
    """Refuse a value or colour without the word in front of it, unless there is such a file."""
    if Path(text).exists():
        return
    word = "color" if _HEX.fullmatch(text) or text.count(",") == 2 else "value"
    try:
        _colour(text, text) if word == "color" else float(text)
    except (InputError, ValueError):
        return
    raise InputError(f"there is no file {text!r}; did you mean {word}:{text}?")


def _blur(text: str) -> str | tuple[str, float]:
    """Return a file name, or kind and number of a kernel."""
    kind, colon, number = text.partition(":")
    if kind not in ("gaussian", "box"):
        name = _file(text, "gaussian", "box")
        # One letter is a drive.
        if colon and len(kind) > 1 and not Path(text).exists() and not Path(text).suffix:
            raise InputError(
                f"there is no blur {kind!r} and no file {text!r}; expected gaussian:SIGMA, "
                "box:SIZE, or the file of a kernel"
            )
        return name
    try:
        value = float(number) if kind == "gaussian" else int(number)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        expected = (
            "gaussian:SIGMA needs a number above 0, in pixels, such as gaussian:1.6"
            if kind == "gaussian"
            else "box:SIZE needs a whole number of pixels from 1 up, such as box:3"
        )
        raise InputError(f"{expected}, got {text!r}")
    return kind, value


def _file(text: str, *words: str) -> str:
    """Return the name of a file, or ask whether another word was meant that may stand there."""
    kind, colon, number = text.partition(":")
    meant = [f"{word}{colon}{number}" for word in words if did_you_mean(kind, [word])]
    if meant and not Path(text).exists() and (colon or not Path(text).suffix):
        raise InputError(f"there is no file {text!r}; did you mean {' or '.join(meant)}?")
    return text


# A picture to give the network cannot be typed, so neither can presets that need one.
_PRESETS = tuple(name for name, preset in PRESETS.items() if preset.input != "given")

_READINGS: dict[str, tuple[Any, Reader]] = {
    "data_range": (Any, _number_or_pair),
    "preset": (Literal[_PRESETS], _choice(_PRESETS)),
    # A file name that shells complete, or something else.
    "mask": (Union[Path, Any], _mask),  # noqa: UP007
    "blur": (Union[Path, Any], _blur),  # noqa: UP007
}
