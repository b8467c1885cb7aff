"""Down-sampling and resizing to a quarter of the rows and columns, forward and adjoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benches.kernels.comparison import Comparison, installed
from dipfast import ops

FACTOR = 4


def comparisons(size: int) -> Iterator[Comparison]:
    """Yield the comparisons for images of this many rows and columns."""
    generator = torch.Generator().manual_seed(0)
    small = size // FACTOR
    x = torch.rand(1, 3, size, size, generator=generator)
    of_result = torch.rand(1, 3, small, small, generator=generator)
    name = f"3x{size}x{size} by {FACTOR}"
    traffic = 4 * (x.numel() + of_result.numel())
    there_and_back = {}
    for weights in (False, True):
        layer = convolution(weights)
        wanted = " and weight gradient" if weights else ""
        there_and_back[f"dense convolution{wanted}"] = with_gradient(layer, x, of_result)
    yield Comparison(
        "Lanczos-2, forward and adjoint",
        name,
        with_gradient(lambda x: ops.downsample(x, FACTOR), x, of_result),
        there_and_back,
        close,
        2 * traffic,
    )
    image = installed("PIL.Image")
    for kernel, mode in (("lanczos3", "lanczos"), ("bicubic", "bicubic"), ("bilinear", "bilinear")):

        def ours(x: Tensor, kernel: Any = kernel) -> Any:
            return ops.resize(x, (small, small), kernel=kernel)

        def torchs(x: Tensor, mode: str = mode) -> Tensor:
            return F.interpolate(x, (small, small), mode=mode, antialias=True)

        peers: dict[str, Callable[[], object]] = {}
        known = has(torchs)
        if known:
            peers["F.interpolate, antialias"] = lambda f=torchs: f(x)  # type: ignore[misc]
        if image:
            method = image.Resampling[mode.upper()]
            planes = [image.fromarray(plane) for plane in x[0].numpy()]
            peers["Pillow"] = lambda method=method, planes=planes: np.stack(  # type: ignore[misc]
                [plane.resize((small, small), method) for plane in planes]
            )[None]
        yield Comparison(
            f"resize, {kernel}",
            name,
            lambda f=ours: f(x),  # type: ignore[misc]
            peers,
            close,
            traffic,
        )
        if known:
            theirs = backward(torchs, x, of_result)
            yield Comparison(
                f"adjoint of resize, {kernel}",
                name,
                lambda kernel=kernel: ops.resize_adjoint(  # type: ignore[misc]
                    of_result, (size, size), kernel=kernel
                ),
                {
                    "backward of F.interpolate": theirs,
                    "the same, without autograd": adjoint(mode, of_result, size),
                },
                close,
                traffic,
            )
            yield Comparison(
                f"backward of resize, {kernel}",
                name,
                backward(ours, x, of_result),
                {"backward of F.interpolate": theirs},
                close,
                traffic,
            )


def convolution(weight_gradient: bool) -> nn.Module:
    """Return the layer of Deep Image Prior: a dense kernel, 0 between different channels."""
    width = 4 * FACTOR
    t = (np.arange(width) + 0.5 - width / 2) / FACTOR
    weights = np.sinc(t) * np.sinc(t / 2)
    weights /= weights.sum()
    layer = nn.Conv2d(3, 3, width, stride=FACTOR)
    with torch.no_grad():
        layer.weight.zero_()
        assert layer.bias is not None
        layer.bias.zero_()
        for plane in range(3):
            layer.weight[plane, plane] = torch.from_numpy(np.outer(weights, weights))
    layer.requires_grad_(weight_gradient)
    return nn.Sequential(nn.ReplicationPad2d((width - FACTOR) // 2), layer)


def with_gradient(
    function: Callable[[Tensor], Tensor], x: Tensor, of_result: Tensor
) -> Callable[[], tuple[Tensor, Tensor]]:
    """Return a function for the result and the gradient in x, and in weights that require it."""
    x = x.clone().requires_grad_()
    weights = list(function.parameters()) if isinstance(function, nn.Module) else []
    leaves = [x, *(w for w in weights if w.requires_grad)]

    def run() -> tuple[Tensor, Tensor]:
        y = function(x)
        return y.detach(), torch.autograd.grad(y, leaves, of_result)[0]

    return run


def backward(
    function: Callable[[Tensor], Tensor], x: Tensor, of_result: Tensor
) -> Callable[[], Tensor]:
    """Return a function for the gradient in x alone."""
    x = x.clone().requires_grad_()
    y = function(x)
    return lambda: torch.autograd.grad(y, x, of_result, retain_graph=True)[0]


def adjoint(mode: str, of_result: Tensor, size: int) -> Callable[[], Tensor]:
    """Return a function for the operator that autograd calls."""
    operator = getattr(torch.ops.aten, f"_upsample_{mode}2d_aa_backward")
    shapes = list(of_result.shape[-2:]), [*of_result.shape[:-2], size, size]
    return lambda: operator(of_result, *shapes, False)


def has(function: Callable[[Tensor], Tensor]) -> bool:
    """Return whether this torch has the mode."""
    try:
        function(torch.zeros(1, 1, 4, 4))
    except (NotImplementedError, ValueError, RuntimeError):
        return False
    return True


def close(ours: object, theirs: object) -> None:
    """Raise AssertionError unless both results are the same."""

    def tensors(result: object) -> list[Tensor]:
        results = result if isinstance(result, tuple) else (result,)
        return [torch.as_tensor(r) for r in results]

    torch.testing.assert_close(tensors(ours), tensors(theirs), rtol=1e-5, atol=1e-5)
