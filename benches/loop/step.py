"""Measure the time of a step: fused layers against plain ones, and the original's loop.

    python -m benches.loop.step [--sizes 256 512] [--networks default original] [--repeats 7]

A step is all of an iteration, from the noise on the input to the optimiser, on the CPU.  Compared,
in turn, are the layers of torch one after the other, contiguous, as they were before
(``Hourglass.is_fused = False``, and normal numbers from torch's generator), the fused layers in
float32 and in bfloat16, each with Adam, and with Muon; and for the network of the Deep Image Prior
paper the authors' loop (benches/loop/original.py).  First the images of a fused and a plain network
with the same weights are compared.  Each step is done twice, and the second is timed.  Printed are
medians, and the ratio of the first column to each.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from statistics import median
from typing import Any

import torch

from benches.loop.original import original_loop
from dipfast.networks import Hourglass, HourglassConfig
from dipfast.prior.loop import DeepImagePrior
from dipfast.prior.stages import Stage
from dipfast.run.memory.blocks import kept_blocks
from dipfast.settings.presets import PRESETS

NETWORKS = {"default": PRESETS["denoise-balanced"].network, "original": HourglassConfig()}


class PlainNoise(DeepImagePrior):
    """Draw the noise on the input by torch's own generator, on one thread."""

    def _noisy_input(self) -> torch.Tensor:
        noise = torch.randn(self.z.shape, generator=self._generator)
        return torch.addcmul(self.z, noise, self._noise_level)


def check(config: HourglassConfig, size: int) -> None:
    """Refuse to time layers that compute something else."""
    network, z = Hourglass(32, 3, config), torch.rand(1, 32, size, size)
    with torch.no_grad():
        fused = network(z)
        network.is_fused = False
        difference = float((fused - network(z)).abs().max())
    if difference > 1e-4:
        raise SystemExit(f"fused and plain layers differ by {difference:.2g}")


def fit(kind: type[DeepImagePrior], config: HourglassConfig, size: int, **options: Any) -> Any:
    measurement = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    return kind(measurement, [Stage("tv", 1000, 0.1)], network=config, **options)


def steps(name: str, size: int) -> dict[str, Callable[[], Any]]:
    """Return the steps that are compared, by name, the first being what the others are held to."""
    config = NETWORKS[name]
    plain = fit(PlainNoise, config, size)
    plain.network.is_fused = False
    plain.network.to(memory_format=torch.contiguous_format)
    plain.z = plain.z.contiguous()
    muon = {"optimizer": "muon", "learning_rate": 0.2}
    loops = {
        "plain": plain,
        "fused": fit(DeepImagePrior, config, size),
        "bfloat16": fit(DeepImagePrior, config, size, precision="bfloat16"),
        "fused, Muon": fit(DeepImagePrior, config, size, **muon),
    }
    calls: dict[str, Callable[[], Any]] = {key: partial(next, loop) for key, loop in loops.items()}
    if name == "original":
        noisy = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
        calls = {"original loop": partial(next, original_loop(noisy)), **calls}
    return calls


def memory(name: str) -> AbstractContextManager[None]:
    """Return what a run does about memory, and nothing for what is from before it did so."""
    is_before = name in ("plain", "original loop")
    return nullcontext() if is_before else kept_blocks(torch.device("cpu"))


def main() -> None:
    parser = argparse.ArgumentParser(description="seconds of a step")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s); ms a step (ratio)\n")
    for name in options.networks:
        check(NETWORKS[name], 128)
        for size in options.sizes:
            calls = steps(name, size)
            times: dict[str, list[float]] = {key: [] for key in calls}
            for _ in range(options.repeats + 2):
                for key, call in calls.items():
                    with memory(key):
                        call()
                        begin = time.perf_counter()
                        call()
                        times[key].append(time.perf_counter() - begin)
            first, *_ = kept = [values[2:] for values in times.values()]
            cells = (
                f"{key} {1e3 * median(values):.0f} "
                f"({median(a / b for a, b in zip(first, values)):.2f}x)"
                for key, values in zip(times, kept)
            )
            print(f"{name}, {size}x{size}: {' | '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
