"""Checks of arguments: an exception that names the argument, what came and what was expected."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeAlias

from dipfast.errors import InputError

__all__ = ["DataRange", "check_choice", "check_data_range"]

DataRange: TypeAlias = "float | tuple[float, float] | None"


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    choices = tuple(choices)
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")


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
