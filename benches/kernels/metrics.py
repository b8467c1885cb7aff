"""Metrics: values alone, with a mask, of bytes, and with the gradient.

fast-ssim computes SSIM in a uniform window of 7x7 pixels, and torchmetrics averages over the
borders as well, so neither is a peer of SSIM here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benches.kernels.comparison import Comparison, installed
from dipfast import ops
from dipfast.ops import reference


def comparisons(size: int, device: str = "cpu") -> Iterator[Comparison]:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(3, size, size, generator=generator).to(device) for _ in range(2))
    yield _psnr(a, b, device)
    yield _mse_gradient(a, b, device)
    if device == "cpu":
        yield _masked_psnr(a, b)
        yield _psnr_of_bytes(a, b)
        yield _ssim(a, b)
        yield _ssim_gradient(a, b)


def _size(a: Tensor) -> str:
    return "x".join(str(size) for size in a.shape)


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
        _size(a),
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
        _size(a),
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
    return Comparison("PSNR, uint8", _size(a), lambda: ops.psnr(x, y), peers, check, 2 * a.numel())


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
        _size(a),
        lambda: ops.mse(a, b, return_gradient=True),
        gradients,
        check_gradient,
        12 * a.numel(),
        device,
    )


def _ssim(a: Tensor, b: Tensor) -> Comparison:
    x, y = a.numpy(), b.numpy()
    peers: dict[str, Callable[[], Any]] = {
        "torch eager, float64": lambda: reference.ssim(a, b, 1.0)
    }
    if skimage := installed("skimage.metrics"):
        peers["scikit-image"] = lambda: skimage.structural_similarity(
            x,
            y,
            data_range=1,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    for name, peer in _similarities().items():
        peers[name] = partial(peer, a[None], b[None])
    return Comparison(
        "SSIM", _size(a), lambda: ops.ssim(a, b, data_range=1), peers, check_similarity
    )


def _ssim_gradient(a: Tensor, b: Tensor) -> Comparison:
    def of(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], tuple[Tensor, Tensor]]:
        def run() -> tuple[Tensor, Tensor]:
            leaf = a[None].detach().requires_grad_()
            value = function(leaf, b[None])
            return value.detach(), torch.autograd.grad(value, leaf)[0]

        return run

    peers = {"torch eager, float64": of(lambda a, b: reference.ssim(a, b, 1.0))}
    peers |= {name: of(peer) for name, peer in _similarities().items()}
    return Comparison(
        "SSIM and gradient",
        _size(a),
        of(lambda a, b: ops.ssim(a, b, data_range=1)),
        peers,
        check_gradient,
    )


def _similarities() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Those in torch that compute the same, of images (1, C, H, W) in [0, 1]."""
    peers: dict[str, Callable[[Tensor, Tensor], Tensor]] = {}
    if msssim := installed("pytorch_msssim"):
        peers["pytorch-msssim"] = lambda a, b: msssim.ssim(a, b, data_range=1.0)
    if kornia := installed("kornia.metrics"):
        peers["kornia"] = lambda a, b: kornia.ssim(a, b, 11, padding="valid").mean()
    return peers


def check(ours: Tensor, theirs: object) -> None:
    assert abs(float(ours) - float(theirs)) < 1e-3  # type: ignore[arg-type]


def check_similarity(ours: Tensor, theirs: object) -> None:
    # Peers in float32 lose digits.
    assert abs(float(ours) - float(theirs)) < 1e-5  # type: ignore[arg-type]


def check_gradient(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-9)
