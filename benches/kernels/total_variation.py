"""Total variation, and the objective made of it: value and gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benches.kernels.comparison import Comparison, installed
from dipfast import ops

Function = Callable[..., Tensor]
Run = Callable[[], tuple[Tensor, Tensor]]

WEIGHT = 0.1


def comparisons(size: int, device: str = "cpu") -> Iterator[Comparison]:
    """Yield the comparisons for images of this many rows and columns."""
    generator = torch.Generator().manual_seed(0)
    u, y, m = (torch.rand(3, size, size, generator=generator).to(device) for _ in range(3))
    m = m > 0.5
    leaf = u.clone().requires_grad_()

    def compare(
        name: str,
        ours: Callable[..., Any],
        eager: Function,
        others: tuple[Tensor, ...] = (),
        more: Mapping[str, Run] | None = None,
        compiled: bool = True,
    ) -> Comparison:
        peers: dict[str, Run] = {"torch eager": partial(by_autograd, eager, leaf, *others)}
        if compiled:
            peers["torch.compile"] = partial(by_autograd, torch.compile(eager), leaf, *others)
        if device != "cpu":
            peers["native, through the host"] = partial(ours, u, *others, backend="native")
        # What is read, and the gradient that is written.
        traffic = sum(x.numel() * x.element_size() for x in (u, *others)) + 4 * u.numel()
        run = partial(ours, u, *others)
        return Comparison(
            name, f"3x{size}x{size}", run, {**peers, **(more or {})}, check, traffic, device
        )

    one_call = partial(ops.total_variation, return_gradient=True)
    yield compare("total variation", one_call, anisotropic, more=libraries(leaf))
    if device == "cpu":
        array = u.numpy()
        yield compare("total variation of an array", lambda _: one_call(array), anisotropic)
    yield compare("isotropic", partial(one_call, kind="isotropic", epsilon=0.01), isotropic)
    one_call = partial(ops.tv_objective, tv_weight=WEIGHT, return_gradient=True)
    after = {"its two kernels in turn": partial(two_kernels, u, y)}
    yield compare("tv_objective", one_call, objective, (y,), after)
    yield compare("tv_objective, masked", masked, objective, (y, m))

    # The same through autograd, as in a training step.
    def trained(u: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        return by_autograd(lambda u: ops.total_variation(u, **options), u.requires_grad_())

    yield compare("total variation, autograd", trained, anisotropic)


def masked(u: Tensor, y: Tensor, m: Tensor, **options: Any) -> Any:
    """Compute the objective with a mask, and its gradient."""
    return ops.tv_objective(u, y, WEIGHT, mask=m, return_gradient=True, **options)


def two_kernels(u: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of data term and total variation, each computed by its own kernel."""
    mse, pull = ops.mse(u, y, return_gradient=True)
    tv, slope = ops.total_variation(u, return_gradient=True)
    half = 0.5 * u.numel()
    return half * mse + WEIGHT * tv, pull.mul_(half).add_(slope, alpha=WEIGHT)


def libraries(u: Tensor) -> dict[str, Run]:
    """Return the libraries whose anisotropic total variation is the same."""
    peers: dict[str, Run] = {}
    if kornia := installed("kornia.losses"):
        peers["kornia"] = partial(by_autograd, lambda u: kornia.total_variation(u).sum(), u)
    if torchmetrics := installed("torchmetrics.functional.image"):
        function = torchmetrics.total_variation
        peers["torchmetrics"] = partial(by_autograd, lambda u: function(u[None]), u)
    return peers


# Not those of dipfast.ops._reference, which also looks for NaN: these are what one would write.


def anisotropic(u: Tensor) -> Tensor:
    """Return the anisotropic total variation."""
    return u.diff(dim=-2).abs().sum() + u.diff(dim=-1).abs().sum()


def isotropic(u: Tensor, epsilon: float = 0.01) -> Tensor:
    """Return the isotropic total variation."""
    dx = torch.nn.functional.pad(u.diff(dim=-1), (0, 1))
    dy = torch.nn.functional.pad(u.diff(dim=-2), (0, 0, 0, 1))
    return ((dx.square() + dy.square() + epsilon**2).sqrt() - epsilon).sum()


def objective(u: Tensor, y: Tensor, m: Tensor | None = None) -> Tensor:
    """Return the objective of total-variation denoising."""
    residual = u - y if m is None else m * (u - y)
    return 0.5 * residual.square().sum() + WEIGHT * anisotropic(u)


def by_autograd(function: Function, u: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
    """Return the value and the gradient by autograd."""
    value = function(u, *others)
    return value.detach(), torch.autograd.grad(value, u)[0]


def check(ours: tuple[Any, Any], theirs: tuple[Tensor, Tensor]) -> None:
    """Raise AssertionError unless values and gradients are the same."""
    value, gradient = (torch.as_tensor(x).detach() for x in ours)
    torch.testing.assert_close(value.to(theirs[0]), theirs[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(gradient, theirs[1], rtol=1e-4, atol=1e-6)
