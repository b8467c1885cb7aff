"""Measure the memory that a fit takes, and compare it with the estimate.

    python -m benches.loop.memory [--sizes 128 256 512]

Each fit runs in a process of its own.  Printed are the peak of its resident memory, less the peak
before the fit, and the estimate that was made before the fit.  For Linux and macOS.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys

import torch

from dipfast.networks import Hourglass
from dipfast.prior.loop import DeepImagePrior
from dipfast.prior.methods import make_stages
from dipfast.run.memory import estimate_fit
from dipfast.run.recovery import Recovery
from dipfast.settings.presets import PRESETS

# macOS reports the peak in bytes, Linux in units of 1024 bytes.
_UNIT = 1 if sys.platform == "darwin" else 1024


def peak() -> int:
    """Return the peak of the resident memory of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def measure(name: str, size: int, channels: int) -> tuple[int, int]:
    """Return the measured and the estimated bytes of three iterations."""
    torch.set_num_threads(1)
    preset = PRESETS[name]
    z_shape, shape = (1, preset.input_channels, size, size), (1, channels, size, size)
    network = Hourglass(preset.input_channels, channels, preset.network)
    estimate = estimate_fit(network, z_shape, shape, torch.float32)
    assert estimate is not None
    before = peak()
    prior = DeepImagePrior(
        torch.rand(shape),
        make_stages("two_stage", 3, 0.1),
        network=preset.network,
        input_channels=preset.input_channels,
    )
    recovery = Recovery(prior)
    for state in prior:
        recovery.check(state)
        _ = state.average
    return peak() - before, estimate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument(
        "--presets", nargs="+", default=["denoise-balanced", "denoise-best", "original-denoising"]
    )
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    print("| preset | size | channels | measured (MB) | estimated (MB) | ratio |")
    print("|---|---|---|---|---|---|")
    for name in options.presets:
        for size in options.sizes:
            for channels in (1, 3):
                with context.Pool(1) as pool:
                    measured, estimate = pool.apply(measure, (name, size, channels))
                cells = f"{measured / 1e6:.0f} | {estimate / 1e6:.0f}"
                ratio = estimate / measured
                print(f"| {name} | {size} | {channels} | {cells} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
