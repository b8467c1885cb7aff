"""What watching a fit costs: the stop rule, the best image, recovery, history, checkpoints.

    python -m benches.loop.observers [--size 256] [--iterations 40]

An iteration of the loop alone, and one with everything that looks at it, in turn, with the same
seed; both must come to the same bits.  And how long a checkpoint takes to be written.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from dipfast.model.noise import NoiseModel
from dipfast.prior.loop import DeepImagePrior, State
from dipfast.prior.methods import make_stages
from dipfast.run.checkpoint import Checkpoint, CheckpointFile
from dipfast.run.interrupt import Interrupt
from dipfast.run.runner import Fit
from dipfast.settings.presets import PRESETS
from dipfast.stopping import RULES, StopRule


def make(size: int, iterations: int) -> DeepImagePrior:
    preset = PRESETS["denoise-balanced"]
    generator = torch.Generator().manual_seed(0)
    noise = NoiseModel(0.1)
    measurement = noise.sample(torch.full((1, 3, size, size), 0.5), generator)
    return DeepImagePrior(
        measurement,
        make_stages("two_stage", iterations, 0.2),
        network=preset.network,
        noise=noise,
        input_noise=preset.input_noise,
    )


def pairs(rule: StopRule, size: int, iterations: int) -> list[tuple[float, float]]:
    """Seconds of an iteration alone and watched, until the rule stops."""
    alone, fit = make(size, iterations), Fit(make(size, iterations), rule)
    alone.problem = fit.prior.problem
    times = []
    begin = time.perf_counter()

    def callback(state: State) -> None:
        nonlocal begin
        watched = time.perf_counter() - begin
        start = time.perf_counter()
        next(alone)
        times.append((time.perf_counter() - start, watched))
        begin = time.perf_counter()

    fit.run(callback)
    assert torch.equal(alone.output, fit.prior.output)
    return times[5:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, CPU, {options.size}x{options.size} colour\n")
    print("| rule | iteration alone (ms) | watched (ms) | ratio |")
    print("|---|---|---|---|")
    for name, rule in RULES.items():
        times = pairs(rule, options.size, options.iterations)
        alone, watched = (1e3 * statistics.median(column) for column in zip(*times))
        ratio = statistics.median(b / a for a, b in times)
        print(f"| {name} | {alone:.1f} | {watched:.1f} | {ratio:.3f} |", flush=True)
    fit = Fit(make(options.size, options.iterations), RULES["auto"])
    interrupt = Interrupt()
    interrupt.stop()
    fit.run(interrupt=interrupt)  # one iteration
    with tempfile.TemporaryDirectory() as folder:
        file = CheckpointFile(Path(folder) / "checkpoint")
        times_of_writing = []
        for _ in range(9):
            start = time.perf_counter()
            file.write(Checkpoint(fit.state_dict(), {}))
            times_of_writing.append(time.perf_counter() - start)
        size = file.path.stat().st_size / 1e6
    print(f"\ncheckpoint: {size:.1f} MB, {1e3 * statistics.median(times_of_writing):.0f} ms")


if __name__ == "__main__":
    main()
