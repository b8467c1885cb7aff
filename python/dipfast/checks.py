"""Checks of arguments: an exception that names the argument, what came and what was expected."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable
from typing import Any, TypeAlias

from dipfast.errors import InputError

__all__ = ["DataRange", "check_choice", "check_data_range", "did_you_mean", "shown"]

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80

DataRange: TypeAlias = "float | tuple[float, float] | None"


def shown(value: object) -> str:
    """Return a value as a message shows it: as Python writes it, and not at length."""
    return _repr.repr(value)


def did_you_mean(word: str, names: Iterable[str], *, least: float = 0.6) -> str:
    """Return the question whether the most alike of some names was meant; empty if none is.

    Less alike than ``least``, of 1, it is rather another word than mistyped.

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
    """Refuse a value that is none of some choices; of the same type, because 1 is no True."""
    choices = tuple(choices)
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        names = list(map(str, choices))
        hint = did_you_mean(value, names) if isinstance(value, str) else ""
        raise InputError(f"{name} must be one of {', '.join(names)}, got {shown(value)}{hint}")


def check_data_range(data_range: Any) -> tuple[float, float]:
    """Return a value range that was given as a pair (darkest, brightest)."""
    try:
        low, high = map(float, data_range)
    except TypeError:  # one number
        low, high = 0.0, _number(data_range)
    except ValueError:
        low, high = 0.0, math.nan
    if (
        not (math.isfinite(low) and math.isfinite(high) and math.isfinite(high - low))
        or low >= high
    ):
        raise InputError(
            "data_range must be a positive number or a pair (darkest, brightest), "
            f"got {data_range!r}"
        )
    return low, high


def _number(value: Any) -> float:
    try:
        return math.nan if isinstance(value, str | None) else float(value)
    except (TypeError, ValueError):
        return math.nan
