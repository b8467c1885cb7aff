"""PSNR: alone, with a mask, and of bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benches.kernels.comparison import Comparison, installed, shape_of
from dipfast import ops

__all__ = ["comparisons"]


def comparisons(size: int, device: str = "cpu") -> Iterator[Comparison]:
    """Yield the comparisons for images of this many rows and columns."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(3, size, size, generator=generator).to(device) for _ in range(2))
    yield _psnr(a, b, device)
    if device == "cpu":
        yield _masked_psnr(a, b)
        yield _psnr_of_bytes(a, b)


def _psnr(a: Tensor, b: Tensor, device: str) -> Comparison:
    peers: dict[str, Callable[[], Any]] = {
        "torch eager": lambda: -10 * torch.log10((a - b).square().mean())
    }
    if device != "cpu":
        peers["native, through the host"] = lambda: ops.psnr(a, b, data_range=1, backend="native")
    else:
        x, y = a.numpy(), b.numpy()
        if skimage := installed("skimage.metrics"):
            peers["scikit-image"] = lambda: skimage.peak_signal_noise_ratio(x, y, data_range=1)
        if torchmetrics := installed("torchmetrics.functional.image"):
            peers["torchmetrics"] = lambda: torchmetrics.peak_signal_noise_ratio(
                a, b, data_range=1.0
            )
        if kornia := installed("kornia.metrics"):
            peers["kornia"] = lambda: kornia.psnr(a, b, 1.0)
    return Comparison(
        "PSNR",
        shape_of(a),
        lambda: ops.psnr(a, b, data_range=1),
        peers,
        check,
        8 * a.numel(),
        device,
    )


def _masked_psnr(a: Tensor, b: Tensor) -> Comparison:
    mask = torch.rand(a.shape[-2:], generator=torch.Generator().manual_seed(1)) < 0.5

    def weighted() -> Tensor:
        total = mask.expand_as(a).sum()
        return -10 * torch.log10((mask * (a - b).square()).sum() / total)

    return Comparison(
        "PSNR, mask",
        shape_of(a),
        lambda: ops.psnr(a, b, mask=mask, data_range=1),
        {
            "torch eager": weighted,
            "torch eager, selected": lambda: (
                -10 * torch.log10((a[:, mask] - b[:, mask]).square().mean())
            ),
        },
        check,
        8 * a.numel() + mask.numel(),
    )


def _psnr_of_bytes(a: Tensor, b: Tensor) -> Comparison:
    # Interleaved, as files are read.
    x, y = ((255 * t).to(torch.uint8).movedim(0, -1).contiguous().numpy() for t in (a, b))
    peers: dict[str, Callable[[], Any]] = {}
    if skimage := installed("skimage.metrics"):
        peers["scikit-image"] = lambda: skimage.peak_signal_noise_ratio(x, y)
    if fast_ssim := installed("fast_ssim"):
        peers["fast-ssim"] = lambda: fast_ssim.psnr(x, y)
    return Comparison(
        "PSNR, uint8", shape_of(a), lambda: ops.psnr(x, y), peers, check, 2 * a.numel()
    )


def check(ours: Tensor, theirs: object) -> None:
    """Raise AssertionError unless both results are the same."""
    assert abs(float(ours) - float(theirs)) < 1e-3  # type: ignore[arg-type]
