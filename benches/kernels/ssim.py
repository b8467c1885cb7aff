"""SSIM: the value, and the value with its gradient.

fast-ssim computes SSIM in a uniform window of 7x7 pixels, and torchmetrics averages over the
borders as well, so neither is a peer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benches.kernels.comparison import Comparison, installed, shape_of
from benches.kernels.mse import check_gradient
from dipfast import ops
from dipfast.ops import _reference as reference

__all__ = ["comparisons"]


def comparisons(size: int) -> Iterator[Comparison]:
    """Yield the comparisons for images of this many rows and columns."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(3, size, size, generator=generator) for _ in range(2))
    yield _ssim(a, b)
    yield _ssim_gradient(a, b)


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
        "SSIM", shape_of(a), lambda: ops.ssim(a, b, data_range=1), peers, check_similarity
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
        shape_of(a),
        of(lambda a, b: ops.ssim(a, b, data_range=1)),
        peers,
        check_gradient,
    )


def _similarities() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Return the peers in torch that compute the same, of images (1, C, H, W) in [0, 1]."""
    peers: dict[str, Callable[[Tensor, Tensor], Tensor]] = {}
    if msssim := installed("pytorch_msssim"):
        peers["pytorch-msssim"] = lambda a, b: msssim.ssim(a, b, data_range=1.0)
    if kornia := installed("kornia.metrics"):
        peers["kornia"] = lambda a, b: kornia.ssim(a, b, 11, padding="valid").mean()
    return peers


def check_similarity(ours: Tensor, theirs: object) -> None:
    """Raise AssertionError unless both results are the same."""
    # Peers in float32 lose digits.
    assert abs(float(ours) - float(theirs)) < 1e-5  # type: ignore[arg-type]
