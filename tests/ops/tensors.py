"""Make tensors of every kind for the tests of the operations, and compare results."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

__all__ = ["FORMS", "MEMORY", "close", "front", "images", "in_memory", "value_and_gradients"]

# Every total variation: kind, epsilon, spatial_dims.
FORMS = [
    (kind, epsilon, spatial_dims)
    for kind, epsilon in [
        ("anisotropic", 0.0),
        ("isotropic", 0.0),
        ("isotropic", 0.25),
        ("huber", 0.0),
        ("huber", 0.5),
    ]
    for spatial_dims in (2, 3)
]

MEMORY = ("contiguous", "channels_last", "strided", "transposed", "expanded")


@st.composite
def images(draw: st.DrawFn, count: int = 1, depth: bool = False) -> list[Tensor]:
    """Draw tensors of one shape (N, C, H, W) and dtype, each in some memory format.

    With ``depth`` they may be volumes (N, C, D, H, W) too.
    """
    shape = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 8)),
        *([draw(st.integers(1, 4))] if depth and draw(st.booleans()) else []),
        draw(st.integers(1, 19)),
        draw(st.integers(1, 70)),
    )
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    tensors = []
    for _ in range(count):
        # In quarters equal neighbours occur, and differences are exact in float32.
        x = torch.randint(-4, 5, shape, generator=generator).to(dtype) / 4
        tensors.append(in_memory(x, draw(st.sampled_from(MEMORY))))
    return tensors


def front(x: Tensor, spatial_dims: int = 2) -> int | None:
    """Return the channel axis that says that the pixels of x, however few, are its last axes."""
    return -spatial_dims - 1 if x.ndim > spatial_dims else None


def in_memory(x: Tensor, how: str) -> Tensor:
    if how == "channels_last":
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    if how == "strided":
        wide = torch.zeros(*x.shape[:-1], 2 * x.shape[-1], dtype=x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if how == "transposed":
        return x.transpose(-1, -2).contiguous().transpose(-1, -2)
    if how == "expanded":
        return x[:1].expand_as(x)
    return x.contiguous()


def close(a: Tensor, b: Tensor) -> None:
    tolerance = 1e-6 if a.dtype == torch.float32 else 1e-12
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def value_and_gradients(function, *tensors: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    leaves = [t.detach().requires_grad_() for t in tensors]
    value = function(*leaves)
    return value.detach(), torch.autograd.grad(value, leaves)
