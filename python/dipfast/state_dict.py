"""States for checkpoints: dictionaries of tensors, numbers and texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from dipfast.errors import InputTypeError

__all__ = ["Values", "check_values", "copy_to", "flatten", "subtree", "tensor_of"]

Values: TypeAlias = dict[str, Tensor | float | int | str]


def check_values(owner: str, memory: Values) -> None:
    """Refuse a memory that no checkpoint can hold; numbers of NumPy become plain ones.

    Parameters
    ----------
    owner
        Whose memory it is, for messages.
    memory
        The memory, which is changed in place.

    Raises
    ------
    InputTypeError
        If a name is no text, or a value is neither a tensor nor a number nor a text.

    Examples
    --------
    >>> check_values("the stop rule", {"losses": [0.1]})
    Traceback (most recent call last):
    dipfast.errors.InputTypeError: memory['losses'] of the stop rule must be a tensor, a number or \
    a text, as checkpoints hold it, got list
    """
    for name, value in memory.items():
        if not isinstance(name, str):
            raise InputTypeError(f"names in the memory of {owner} must be texts, got {name!r}")
        if isinstance(value, np.generic):
            value = memory[name] = value.item()
        if not isinstance(value, Tensor | float | int | str):
            raise InputTypeError(
                f"memory[{name!r}] of {owner} must be a tensor, a number or a text, as "
                f"checkpoints hold it, got {type(value).__name__}"
            )


def flatten(parts: Mapping[str, Values]) -> Values:
    """Return the values of all parts in one dictionary.

    Parameters
    ----------
    parts
        The parts by name.

    Returns
    -------
    dict
        The values, named ``part.name``.
    """
    return {
        f"{part}.{name}": value for part, inner in parts.items() for name, value in inner.items()
    }


def subtree(values: Values, part: str) -> Values:
    """Return one part of a dictionary that :func:`flatten` made.

    Parameters
    ----------
    values
        The values of all parts.
    part
        The name of the part.

    Returns
    -------
    dict
        The values of the part; empty if there are none.

    Examples
    --------
    >>> subtree(flatten({"a": {"x.y": 1}, "b": {"x.y": 2}}), "b")
    {'x.y': 2}
    """
    prefix = f"{part}."
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}


def copy_to(device: torch.device, values: Values) -> Values:
    """Return the values with tensors copied to a device.

    Tensors of float64 are copied to the CPU if the device, MPS, has no float64.

    Parameters
    ----------
    device
        The device.
    values
        Tensors, numbers and texts by name.

    Returns
    -------
    dict
        The same values; tensors are copies even if they were on the device before.
    """

    def copied(value: Tensor) -> Tensor:
        has_dtype = device.type != "mps" or value.dtype != torch.float64
        return value.to(device if has_dtype else "cpu", copy=True)

    return {k: copied(v) if isinstance(v, Tensor) else v for k, v in values.items()}


def tensor_of(values: Values, name: str) -> Tensor:
    """Return a tensor of a dictionary.

    Parameters
    ----------
    values
        Tensors, numbers and texts by name.
    name
        The name of the tensor.

    Returns
    -------
    Tensor
        The tensor.

    Raises
    ------
    KeyError
        If there is no value of this name.
    InputTypeError
        If the value is not a tensor.
    """
    value = values[name]
    if not isinstance(value, Tensor):
        raise InputTypeError(f"{name} is no tensor but {value!r}")
    return value
