"""Measure the time of an iteration with the default network and with the original's.

    python -m benches.loop.step [--sizes 256 512] [--device auto]

An iteration is a whole step, from the forward pass to the optimiser.  The two networks run in
turn; printed are the medians of the times, and the median of the ratios of each pair.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch

from benches.pairs import alternate
from dipfast.networks import HourglassConfig
from dipfast.prior.loop import DeepImagePrior
from dipfast.prior.stages import Stage
from dipfast.run.prepare import find_device
from dipfast.settings.presets import PRESETS


def fit(config: HourglassConfig, size: int, device: torch.device) -> DeepImagePrior:
    """Return a loop that fits a network to a random colour picture."""
    measurement = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    stages = [Stage("tv", 1000, 0.1)]
    return DeepImagePrior(measurement.to(device), stages, network=config)


def step(prior: DeepImagePrior) -> None:
    """Do one iteration, and wait for the device."""
    float(next(prior).terms.value)  # waits for the device
    if prior.problem.measurement.is_cuda:
        torch.cuda.synchronize(prior.problem.measurement.device)


def main() -> None:
    parser = argparse.ArgumentParser(description="seconds of an iteration")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = find_device(options.device)
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} thread(s), float32\n")
    print("| picture, colour | default network (s) | original network (s) | ratio |")
    print("|---|---|---|---|")
    for size in options.sizes:
        ours = fit(PRESETS["denoise-balanced"].network, size, device)
        original = fit(HourglassConfig(), size, device)
        for _ in range(2):  # warm-up
            next(ours), next(original)
        fast, slow, ratio = alternate(partial(step, ours), partial(step, original), options.repeats)
        print(f"| {size}x{size} | {fast:.3f} | {slow:.3f} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    main()
