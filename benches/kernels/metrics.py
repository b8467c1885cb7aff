"""Metrics: the value alone, and the mean squared error with its gradient."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benches.kernels.comparison import Comparison, installed
from dipfast import ops


def comparisons(size: int, device: str = "cpu") -> Iterator[Comparison]:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(3, size, size, generator=generator).to(device) for _ in range(2))
    peers = {"torch eager": lambda: -10 * torch.log10((a - b).square().mean())}
    if device != "cpu":
        peers["native, through the host"] = lambda: ops.psnr(a, b, data_range=1, backend="native")
    elif skimage := installed("skimage.metrics"):
        x, y = a.numpy(), b.numpy()
        peers["scikit-image"] = lambda: skimage.peak_signal_noise_ratio(x, y, data_range=1)
    yield Comparison(
        "PSNR",
        f"3x{size}x{size}",
        lambda: ops.psnr(a, b, data_range=1),
        peers,
        check,
        8 * a.numel(),
        device,
    )

    def eager() -> tuple[Tensor, Tensor]:
        difference = a - b
        return difference.square().mean(), difference * (2 / difference.numel())

    gradients = {"torch eager": eager, "torch.compile": torch.compile(eager)}
    if device != "cpu":
        gradients["native, through the host"] = lambda: ops.mse(
            a, b, return_gradient=True, backend="native"
        )
    yield Comparison(
        "MSE and gradient",
        f"3x{size}x{size}",
        lambda: ops.mse(a, b, return_gradient=True),
        gradients,
        check_gradient,
        12 * a.numel(),
        device,
    )


def check(ours: Tensor, theirs: object) -> None:
    assert abs(float(ours) - float(theirs)) < 1e-3  # type: ignore[arg-type]


def check_gradient(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-9)
