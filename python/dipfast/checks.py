"""Checks of arguments: an exception that names the argument, what came and what was expected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np

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
        if isinstance(data_range, str):
            raise TypeError
        pair: Any = (0.0, data_range) if np.ndim(data_range) == 0 else data_range
        low, high = map(float, pair)
    except (TypeError, ValueError):
        low, high = 0.0, float("nan")
    if not (np.isfinite([low, high, high - low]).all() and low < high):
        raise InputError(
            "data_range must be a positive number or a pair (darkest, brightest), "
            f"got {data_range!r}"
        )
    return low, high
