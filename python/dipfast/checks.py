"""Checks of arguments: exceptions name the argument, its value, and what was expected."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Mapping, Set
from typing import Any, TypeAlias

from dipfast.errors import InputError

__all__ = ["DataRange", "as_number", "check_choice", "check_data_range", "did_you_mean", "shown"]

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80

DataRange: TypeAlias = "float | tuple[float, float] | None"


def shown(value: object) -> str:
    """Return the text of a value for a message.

    Parameters
    ----------
    value
        Any object.

    Returns
    -------
    str
        Its ``repr``, shortened if it is long.
    """
    return _repr.repr(value)


def did_you_mean(word: str, names: Iterable[str], *, least: float = 0.6) -> str:
    """Return the question whether the most similar of some names was meant.

    Parameters
    ----------
    word
        The word that was given.
    names
        The names that are valid.
    least
        The least similarity of a name that is suggested, from 0 to 1 (equal).  The default, 0.6,
        tells mistyped names from other words.

    Returns
    -------
    str
        The question, as the end of a message; empty if no name is similar enough.

    Examples
    --------
    >>> did_you_mean("two-stage", ["dip", "two_stage", "two_stage_image"])
    '; did you mean two_stage?'
    >>> did_you_mean("lanczos", ["lanczos2", "lanczos3", "box"])
    '; did you mean lanczos2 or lanczos3?'
    """
    from difflib import SequenceMatcher

    ratios = {name: SequenceMatcher(None, _plain(word), _plain(name)).ratio() for name in names}
    best = max(ratios.values(), default=0.0)
    if best < least:
        return ""
    return f"; did you mean {' or '.join(name for name, r in ratios.items() if r == best)}?"


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Refuse a value that is not one of some choices.

    Parameters
    ----------
    name
        The name of the argument, for messages.
    value
        The value that was given.
    choices
        The valid values.  The type has to be the same too: 1 is not accepted for True.

    Raises
    ------
    InputError
        If the value is not one of them.
    """
    choices = tuple(choices)
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        names = list(map(str, choices))
        hint = did_you_mean(value, names) if isinstance(value, str) else ""
        raise InputError(f"{name} must be one of {', '.join(names)}, got {shown(value)}{hint}")


def as_number(name: str, value: Any, least: float = -math.inf) -> float:
    """Return a finite number, of whatever library, as a float.

    Parameters
    ----------
    name
        The argument, for the message.
    value
        The number.
    least
        The least that it may be.

    Returns
    -------
    float
        The same number.

    Raises
    ------
    InputError
        If it is none, not finite, or less.
    """
    number = math.nan if isinstance(value, bool) else _number(value)
    if not (math.isfinite(number) and number >= least):
        expected = "a finite number" if least == -math.inf else f"a number from {least:g} up"
        raise InputError(f"{name} must be {expected}, got {shown(value)}")
    return number


def check_data_range(data_range: Any) -> tuple[float, float]:
    """Return a value range as a pair, after checking it.

    Parameters
    ----------
    data_range
        A positive number R for the range from 0 to R, or a pair (darkest, brightest).

    Returns
    -------
    tuple of float
        The pair (darkest, brightest), in the unit of the image.

    Raises
    ------
    InputError
        If it is neither, or not finite, or the range is empty.
    """
    low, high = _pair(data_range)
    if not (low < high and math.isfinite(high - low)):
        raise InputError(
            "data_range must be a positive number or a pair (darkest, brightest), "
            f"got {shown(data_range)}"
        )
    return low, high


def _pair(data_range: Any) -> tuple[float, float]:
    """Return two numbers, NaN where there are none; one number is the second."""
    # In a set or mapping there is no first one.
    if isinstance(data_range, str | bytes | Set | Mapping):
        return math.nan, math.nan
    try:
        low, high = data_range
    except TypeError:  # one number
        return 0.0, _number(data_range)
    except ValueError:
        return math.nan, math.nan
    return _number(low), _number(high)


def _number(value: Any) -> float:
    try:
        return math.nan if isinstance(value, str) else float(value)
    except (OverflowError, TypeError, ValueError):
        return math.nan
