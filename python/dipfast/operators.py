"""Forward models (public names of :mod:`dipfast.model.operators`)."""

from dipfast.model.operators import (
    Blur,
    Compose,
    Downsample,
    Identity,
    LinearOperator,
    Mask,
    Operator,
    Wrapped,
    as_operator,
    gaussian_kernel,
)

__all__ = [
    "Blur",
    "Compose",
    "Downsample",
    "Identity",
    "LinearOperator",
    "Mask",
    "Operator",
    "Wrapped",
    "as_operator",
    "gaussian_kernel",
]
