"""Measure what observing a run costs: stop rule, best image, recovery, history, checkpoints.

    python -m benches.loop.observers [--size 256] [--iterations 40]

An iteration of the loop alone and one with all observers are timed in turn, with the same seed;
both loops must end with the same bits.  The time to write a checkpoint is measured besides.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from dipfast.images.layout import Layout
from dipfast.model.noise import NoiseModel
from dipfast.model.operators import Identity
from dipfast.prior.loop import State
from dipfast.run.checkpoint import Checkpoint, CheckpointFile
from dipfast.run.job import Job
from dipfast.run.observers import CallbackObserver
from dipfast.run.prepare import Task, prepare
from dipfast.run.runner import Runner
from dipfast.settings.settings import DenoiseSettings, make_settings
from dipfast.stopping import RULES


def make(rule: str, size: int, iterations: int) -> Job:
    """Return the job of a grey picture with noise."""
    generator = torch.Generator().manual_seed(0)
    noise = NoiseModel(0.1)
    picture = noise.sample(torch.full((3, size, size), 0.5), generator)
    options = {"noise": noise, "stop": rule, "max_iterations": iterations, "device": "cpu"}
    settings = make_settings(DenoiseSettings, options)
    task = Task(picture, Layout.of(picture, data_range=1.0), [Identity()])
    return prepare(task, settings)[0]


def pairs(rule: str, size: int, iterations: int) -> list[tuple[float, float]]:
    """Return the seconds of each iteration alone and with observers, until the rule stops."""
    job = make(rule, size, iterations)
    alone = job.make_prior()
    times = []
    begin = time.perf_counter()

    def callback(state: State) -> None:
        nonlocal begin
        watched = time.perf_counter() - begin
        start = time.perf_counter()
        next(alone)
        times.append((time.perf_counter() - start, watched))
        begin = time.perf_counter()

    runner = Runner(job, [CallbackObserver(callback)])
    alone.problem = runner.prior.problem
    runner.run()
    assert torch.equal(alone.output, runner.prior.output)
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
    for name in RULES:
        times = pairs(name, options.size, options.iterations)
        alone, watched = (1e3 * statistics.median(column) for column in zip(*times))
        ratio = statistics.median(b / a for a, b in times)
        print(f"| {name} | {alone:.1f} | {watched:.1f} | {ratio:.3f} |", flush=True)
    runner = Runner(make("auto", options.size, 1))
    values = runner.state_dict()
    with tempfile.TemporaryDirectory() as folder:
        file = CheckpointFile(Path(folder) / "checkpoint")
        times_of_writing = []
        for _ in range(9):
            start = time.perf_counter()
            file.write(Checkpoint(values, {}))
            times_of_writing.append(time.perf_counter() - start)
        size = file.path.stat().st_size / 1e6
    print(f"\ncheckpoint: {size:.1f} MB, {1e3 * statistics.median(times_of_writing):.0f} ms")


if __name__ == "__main__":
    main()
