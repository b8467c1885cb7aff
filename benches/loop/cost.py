"""Compare a step with what its arithmetic and its memory traffic take at least.

    python -m benches.loop.cost [--sizes 128 256 512 1024] [--networks default original]

The operations are those of the convolutions, forward and backward, as they are computed
(enlarged layers at their own size).  The bytes are those that each layer between two convolutions
is read and written with: four passes forward, five backward, of its output.  The floor is both at
the speeds of this machine: that of a product of large matrices, and that of a copy in memory.  The
last column is the time of a step over the floor.  CPU, float32.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benches.loop.step import NETWORKS
from dipfast.networks import Hourglass, HourglassConfig
from dipfast.prior.loop import DeepImagePrior
from dipfast.prior.stages import Stage
from dipfast.run.memory.blocks import kept_blocks

PASSES = 9


class _Layers(TorchDispatchMode):
    """Add up the bytes of the layers that normalisations return."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if "batch_norm_act" in str(func) and "backward" not in str(func):
            self.bytes += result[0].nbytes
        return result


def work(config: HourglassConfig, size: int) -> tuple[float, float]:
    """Return operations and bytes of a step."""
    with torch.device("meta"):
        network, z = Hourglass(32, 3, config), torch.empty(1, 32, size, size)
    network.is_fused = True
    with FlopCounterMode(display=False) as operations:
        network(z).sum().backward()
    layers = _Layers()
    with torch.no_grad(), layers:
        network(z)
    return operations.get_total_flops(), PASSES * layers.bytes


def seconds(function: Callable[[], Any], repeats: int = 7) -> float:
    times = []
    for _ in range(repeats + 2):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description="a step and its floor")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512, 1024])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    options = parser.parse_args()
    a = torch.rand(2048, 2048)
    speed = 2 * 2048**3 / seconds(lambda: a @ a)
    x = torch.rand(1 << 26)
    y = torch.empty_like(x)
    bandwidth = 2 * x.nbytes / seconds(lambda: y.copy_(x))
    rates = f"{speed / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.0f} GB/s"
    print(f"{torch.get_num_threads()} thread(s): {rates}\n")
    print("| network | size | GFLOP | MB | floor (ms) | step (ms) | step / floor | ns a pixel |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.networks:
        for size in options.sizes:
            flops, traffic = work(NETWORKS[name], size)
            noisy = torch.rand(1, 3, size, size)
            prior = DeepImagePrior(noisy, [Stage("tv", 99, 0.1)], network=NETWORKS[name])
            with kept_blocks(prior.z.device):
                step = seconds(partial(next, prior), 5 if size < 1024 else 2)
            floor = flops / speed + traffic / bandwidth
            cells = (
                f"{flops / 1e9:.1f} | {traffic / 1e6:.0f} | {1e3 * floor:.0f} | {1e3 * step:.0f}"
            )
            ratio = f"{step / floor:.2f} | {1e9 * step / size**2:.0f}"
            print(f"| {name} | {size} | {cells} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
