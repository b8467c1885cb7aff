"""The mean squared error and its gradient."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benches.kernels.comparison import Comparison, shape_of
from dipfast import ops

__all__ = ["comparisons"]


def comparisons(size: int, device: str = "cpu") -> Iterator[Comparison]:
    """Yield the comparisons for images of this many rows and columns."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(3, size, size, generator=generator).to(device) for _ in range(2))
    yield _mse_gradient(a, b, device)


def _mse_gradient(a: Tensor, b: Tensor, device: str) -> Comparison:
    def eager() -> tuple[Tensor, Tensor]:
        difference = a - b
        return difference.square().mean(), difference * (2 / difference.numel())

    gradients = {"torch eager": eager, "torch.compile": torch.compile(eager)}
    if device != "cpu":
        gradients["native, through the host"] = lambda: ops.mse(
            a, b, return_gradient=True, backend="native"
        )
    return Comparison(
        "MSE and gradient",
        shape_of(a),
        lambda: ops.mse(a, b, return_gradient=True),
        gradients,
        check_gradient,
        12 * a.numel(),
        device,
    )


def check_gradient(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> None:
    """Raise AssertionError unless values and gradients are the same."""
    # The value of ops.mse is in float64, that of its peers in float32.
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-9, check_dtype=False)
