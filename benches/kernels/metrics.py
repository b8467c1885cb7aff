"""Metrics: the value alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benches.kernels.comparison import Comparison, installed
from dipfast import ops


def comparisons(size: int) -> Iterator[Comparison]:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(3, size, size, generator=generator) for _ in range(2))
    x, y = a.numpy(), b.numpy()
    peers = {"torch eager": lambda: -10 * torch.log10((a - b).square().mean())}
    if skimage := installed("skimage.metrics"):
        peers["scikit-image"] = lambda: skimage.peak_signal_noise_ratio(x, y, data_range=1)
    yield Comparison(
        "PSNR",
        f"3x{size}x{size}",
        lambda: ops.psnr(a, b, data_range=1),
        peers,
        check,
        8 * a.numel(),
    )


def check(ours: Tensor, theirs: object) -> None:
    assert abs(float(ours) - float(theirs)) < 1e-3  # type: ignore[arg-type]
