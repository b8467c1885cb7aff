"""What makes two runs the same run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dipfast.model.operators import LinearOperator
from dipfast.run.checkpoint import digest_of

__all__ = ["describe", "fingerprint"]


def describe(value: Any) -> Any:
    """A value in terms of JSON: tensors by their digest, objects by class and attributes.

    Two values that a fit could tell apart differ here too, but for functions, which are known
    by name alone.

    Examples
    --------
    >>> from dipfast.prior.stages import Stage
    >>> describe(Stage("dip", 100))
    {'class': 'Stage', 'name': 'dip', 'iterations': 100, 'tv_weight': 0.0, 'control': None}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return digest_of(value)
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if callable(value) and hasattr(value, "__qualname__"):
        return value.__qualname__
    attributes = {k: v for k, v in getattr(value, "__dict__", {}).items() if k[0] != "_"}
    return {"class": type(value).__name__, **describe(attributes)}


def fingerprint(operator: LinearOperator, image: Tensor) -> str:
    """What an operator makes of noise in the place of an image: a digest that tells two
    operators apart, whatever they are made of."""
    generator = torch.Generator().manual_seed(0)
    probe = torch.rand(image.shape, generator=generator).to(image)
    with torch.no_grad():
        return digest_of(operator(probe))
