"""Total variation and the objective built on it: value and gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from benches.kernels.comparison import Comparison
from dipfast import ops
from dipfast.ops.arguments import Backend

Function = Callable[..., Tensor]


def comparisons(size: int, device: str = "cpu") -> Iterator[Comparison]:
    generator = torch.Generator().manual_seed(0)
    u, y, m = (torch.rand(3, size, size, generator=generator).to(device) for _ in range(3))
    m = (m > 0.5).float()
    u.requires_grad_()
    # What the reading of u, y and m and the writing of the gradient come to.
    for name, ours, theirs, inputs, arrays in (
        ("total variation", ops.total_variation, eager_variation, (u,), 2),
        ("masked objective", masked_objective, eager_objective, (u, y, m), 4),
    ):
        compiled = torch.compile(theirs)
        peers = {
            "torch eager": partial(value_and_gradient, theirs, *inputs),
            "torch.compile": partial(value_and_gradient, compiled, *inputs),
        }
        if device != "cpu":
            host = partial(ours, backend="native")
            peers["native, through the host"] = partial(value_and_gradient, host, *inputs)
        yield Comparison(
            name,
            f"3x{size}x{size}",
            partial(value_and_gradient, ours, *inputs),
            peers,
            check,
            4 * arrays * u.numel(),
            device,
        )


# Not dipfast.ops.reference, which also looks for NaN: what one would write.


def eager_variation(u: Tensor) -> Tensor:
    return u.diff(dim=-2).abs().sum() + u.diff(dim=-1).abs().sum()


def eager_objective(u: Tensor, y: Tensor, m: Tensor) -> Tensor:
    return 0.5 * (m * (u - y)).square().sum() + 0.1 * eager_variation(u)


def masked_objective(u: Tensor, y: Tensor, m: Tensor, backend: Backend = "auto") -> Tensor:
    value: Tensor = ops.tv_objective(u, y, 0.1, mask=m, backend=backend)
    return value


def value_and_gradient(function: Function, u: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
    value = function(u, *others)
    return value, torch.autograd.grad(value, u)[0]


def check(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-4, atol=1e-6)
