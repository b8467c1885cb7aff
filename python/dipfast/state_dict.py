"""Named tensors and numbers: what a checkpoint is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from dipfast.errors import InputTypeError

__all__ = ["Values", "copy_to", "flatten", "subtree", "tensor_of"]

Values: TypeAlias = dict[str, Tensor | float | int | str]


def flatten(parts: Mapping[str, Values]) -> Values:
    """All parts in one, names with that of their part before a dot."""
    return {
        f"{part}.{name}": value for part, inner in parts.items() for name, value in inner.items()
    }


def subtree(values: Values, part: str) -> Values:
    """The part of that name, back from :func:`flatten`.

    Examples
    --------
    >>> subtree(flatten({"a": {"x.y": 1}, "b": {"x.y": 2}}), "b")
    {'x.y': 2}
    """
    begin = f"{part}."
    return {k.removeprefix(begin): v for k, v in values.items() if k.startswith(begin)}


def copy_to(device: torch.device, values: Values) -> Values:
    """The same, tensors copied to a device."""
    return {k: v.to(device, copy=True) if isinstance(v, Tensor) else v for k, v in values.items()}


def tensor_of(values: Values, name: str) -> Tensor:
    """A value that must be there and a tensor."""
    value = values[name]
    if not isinstance(value, Tensor):
        raise InputTypeError(f"{name} is no tensor but {value!r}")
    return value
