"""Measure the memory that a fit takes, or denoising without one, and compare it with the estimate.

    python -m benches.loop.memory [--sizes 128 256 512]
    python -m benches.loop.memory --sizes 2048 --presets nl_ridge

Each runs in a process of its own.  Printed are the peak of its resident memory, less the peak
before the fit, and the estimate that was made before the fit.  For Linux and macOS.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys

import numpy as np
import torch

import dipfast
from dipfast.networks import Hourglass
from dipfast.prior.loop import DeepImagePrior
from dipfast.prior.methods import make_stages
from dipfast.run.memory import estimate_direct, estimate_fit
from dipfast.run.memory.blocks import kept_blocks
from dipfast.run.recovery import Recovery
from dipfast.settings.presets import PRESETS

# macOS reports the peak in bytes, Linux in units of 1024 bytes.
_UNIT = 1 if sys.platform == "darwin" else 1024


def peak() -> int:
    """Return the peak of the resident memory of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def measure(name: str, size: int, channels: int) -> tuple[int, int]:
    """Return the measured and the estimated bytes of three iterations, or of a picture."""
    torch.set_num_threads(1)
    if name == "nl_ridge":
        return measure_direct(size, channels)
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
    with kept_blocks(prior.z.device):
        for state in prior:
            recovery.check(state)
            _ = state.average
    return peak() - before, estimate


def measure_direct(size: int, channels: int) -> tuple[int, int]:
    """Return the measured and the estimated bytes of denoising without a network."""
    generator = np.random.default_rng(0)
    picture = generator.integers(96, 160, (size, size, channels), dtype=np.uint8)
    dipfast.denoise(picture[:64, :64], method="nl_ridge", channel_axis=-1)
    before = peak()
    dipfast.denoise(picture, method="nl_ridge", channel_axis=-1)
    return peak() - before, estimate_direct((1, channels, size, size))


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
