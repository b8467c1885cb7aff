"""Non-local ridge regression: a pass against its definition, and the whole against BM3D.

The definition loops over reference patches in torch and takes seconds for a small picture, so that
is what both sides get.  BM3D (the package ``bm3d``, whose licence is for non-commercial use) is
another method, and does not compute the same: beside the times are the PSNRs of both, for a
photograph with white noise of sigma 25.  It chooses the number of its threads itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from benches.kernels.comparison import Comparison, installed
from dipfast import ops
from dipfast.ops import _reference as reference
from dipfast.ops._compiled.nl_ridge import nl_ridge_pass

__all__ = ["comparisons"]

SIGMA = 25 / 255
# Rows and columns of the picture that the definition gets, and the most that BM3D gets: it takes
# half a minute for 512x512, and the row of the table some minutes.
SMALL, MOST = 64, 512

Speed = Literal["fast", "balanced"]
SPEEDS: tuple[Speed, ...] = ("fast", "balanced")


def comparisons(size: int) -> Iterator[Comparison]:
    """Yield the comparisons for images of this many rows and columns."""
    if size <= 256:
        yield _pass(min(size, SMALL), "first")
        yield _pass(min(size, SMALL), "second")
    bm3d = installed("bm3d")
    if bm3d is not None and size <= MOST:
        for speed in SPEEDS if size <= 256 else SPEEDS[-1:]:
            yield _against_bm3d(size, speed, bm3d.bm3d_rgb)


def _pass(size: int, which: Literal["first", "second"]) -> Comparison:
    clean, noisy = (np.moveaxis(x, -1, 0)[:, None].copy() for x in pictures(size))
    # In 256ths distances are exact, and both find the same patches.
    guide = (256 * noisy.mean(axis=0)).round() / 256
    arrays = {
        "noisy": noisy,
        "guide": guide,
        "covariance": np.full((3, 1, 1), SIGMA**2, np.float32),
    }
    options: dict[str, Any] = {"patch": 5, "group": 24, "step": 5, "reach": 18, "share": 1.0}
    if which == "second":
        arrays["pilot"] = clean
        options |= {"group": 60, "filters": "values"}
    tensors: dict[str, Any] = {name: torch.from_numpy(x) for name, x in arrays.items()}
    return Comparison(
        f"non-local ridge regression, {which} pass",
        f"3x{size}x{size}",
        partial(nl_ridge_pass, **arrays, **options),
        {"torch eager, float64": partial(reference.nl_ridge_pass, **tensors, **options)},
        check_same,
    )


def _against_bm3d(size: int, speed: Speed, bm3d: Callable[[Any, float], Any]) -> Comparison:
    clean, noisy = pictures(size)
    ours = partial(ops.nl_ridge, noisy, SIGMA, speed=speed)
    theirs = partial(bm3d, noisy, SIGMA)
    quality = [ops.psnr(x.astype(np.float32), clean, data_range=1) for x in (ours(), theirs())]

    def check(*restored: Any) -> None:
        for x, expected in zip(restored, quality):
            assert ops.psnr(x.astype(np.float32), clean, data_range=1) == expected
        assert quality[0] > quality[1] - 0.5, quality

    return Comparison(
        f"denoising, nl_ridge {speed} ({quality[0]:.2f} dB)",
        f"{size}x{size}x3",
        ours,
        {f"bm3d ({quality[1]:.2f} dB)": theirs},
        check,
    )


def pictures(size: int) -> tuple[Any, Any]:
    """Return a photograph (H, W, 3), a piece of it or repeated, and the same with noise."""
    data = installed("skimage.data")
    assert data is not None, "scikit-image is needed for its picture"
    clean = np.tile(data.astronaut() / 255, (-(-size // 512),) * 2 + (1,))[:size, :size]
    noise = np.random.default_rng(0).normal(0, SIGMA, clean.shape)
    return clean.astype(np.float32), (clean + noise).astype(np.float32)


def check_same(ours: Any, theirs: Any) -> None:
    """Raise AssertionError unless both results are the same, but for rounding in float32."""
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-4)
