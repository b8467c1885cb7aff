"""What an iteration costs: the default network and the original's, forward to optimiser.

    python -m benches.step [--sizes 256 512] [--device auto]

The two run in turn; printed are the medians and the median of the ratios, pair by pair.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator

import torch

from dipfast.networks import HourglassConfig
from dipfast.presets import PRESETS
from dipfast.prior import DeepImagePrior, State
from dipfast.stages import Stage


def steps(config: HourglassConfig, size: int, device: torch.device) -> Iterator[State]:
    measurement = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    stages = [Stage("tv", 1000, 0.1)]
    return iter(DeepImagePrior(measurement.to(device), stages, network=config))


def seconds(iterator: Iterator[State], device: torch.device) -> float:
    start = time.perf_counter()
    float(next(iterator).terms.value)  # waits for the device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="seconds of an iteration")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    name = options.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} thread(s), float32\n")
    print("| picture, colour | default network (s) | original network (s) | ratio |")
    print("|---|---|---|---|")
    for size in options.sizes:
        ours = steps(PRESETS["balanced"].network, size, device)
        original = steps(HourglassConfig(), size, device)
        for _ in range(2):  # warm-up
            next(ours), next(original)
        pairs = [(seconds(ours, device), seconds(original, device)) for _ in range(options.repeats)]
        fast, slow = (statistics.median(column) for column in zip(*pairs))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"| {size}x{size} | {fast:.3f} | {slow:.3f} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    main()
