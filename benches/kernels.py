"""The compiled kernels against torch eager: value and gradient, float32.

    python -m benches.kernels [--threads N] [--repeats 21]

Both sides are checked to compute the same before they are timed.  They run in turn, ours
first; printed are the medians and the median of the ratios, pair by pair.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benches.pairs import alternate
from dipfast import ops

SIZES = ((3, 512, 512), (3, 4096, 4096))

Function = Callable[[Tensor, Tensor, Tensor], Tensor]

KERNELS: dict[str, tuple[Function, Function]] = {
    "total variation": (
        lambda u, y, m: ops.total_variation(u),
        # Not reference.total_variation, which also looks for NaN: what one would write.
        lambda u, y, m: u.diff(dim=-2).abs().sum() + u.diff(dim=-1).abs().sum(),
    ),
    "masked objective": (
        lambda u, y, m: ops.tv_objective(u, y, 0.1, mask=m),
        lambda u, y, m: (
            0.5 * (m * (u - y)).square().sum()
            + 0.1 * (u.diff(dim=-2).abs().sum() + u.diff(dim=-1).abs().sum())
        ),
    ),
    "mean squared error": (
        lambda u, y, m: ops.mse(u, y),
        lambda u, y, m: torch.nn.functional.mse_loss(u, y),
    ),
    "PSNR": (
        lambda u, y, m: ops.psnr(u, y, data_range=1.0),
        lambda u, y, m: -10 * torch.log10((u - y).square().mean()),
    ),
}


def value_and_gradient(function: Function, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    u, y, m = inputs
    value = function(u, y, m)
    return value, torch.autograd.grad(value, u)[0]


def check_equal(ours: Function, theirs: Function, inputs: tuple[Tensor, ...]) -> None:
    value, gradient = value_and_gradient(ours, inputs)
    expected, slope = value_and_gradient(theirs, inputs)
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(gradient, slope, rtol=1e-4, atol=1e-6)


def copy_bandwidth(size: tuple[int, ...]) -> float:
    """GB/s of reading one array and writing another of this size."""
    a, b = torch.rand(size), torch.rand(size)
    times = []
    for _ in range(15):
        start = time.perf_counter()
        b.copy_(a)
        times.append(time.perf_counter() - start)
    return 8e-9 * a.numel() / statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description="kernels against torch eager")
    parser.add_argument("--threads", type=int, help="of torch; default: torch's own choice")
    parser.add_argument("--repeats", type=int, default=21)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), CPU, float32\n")
    print("| kernel, value and gradient | size | ours (ms) | torch eager (ms) | ratio |")
    print("|---|---|---|---|---|")
    for size in SIZES:
        generator = torch.Generator().manual_seed(0)
        u = torch.rand(size, generator=generator).requires_grad_()
        y = torch.rand(size, generator=generator)
        m = (torch.rand(size, generator=generator) > 0.5).float()
        for name, (ours, theirs) in KERNELS.items():
            check_equal(ours, theirs, (u, y, m))
            times = alternate(
                partial(value_and_gradient, ours, (u, y, m)),
                partial(value_and_gradient, theirs, (u, y, m)),
                options.repeats,
            )
            fast, slow = 1e3 * times.ours, 1e3 * times.theirs
            shape = "x".join(map(str, size))
            print(f"| {name} | {shape} | {fast:.2f} | {slow:.2f} | {times.ratio:.1f} |", flush=True)
    for size in SIZES:
        print(f"\ncopy, {'x'.join(map(str, size))}: {copy_bandwidth(size):.1f} GB/s")


if __name__ == "__main__":
    main()
