"""Check and measure what only a GPU can show, and print it as JSON.

    python -m benches.gpu [--device cuda] [--no-tests] [--json FILE]

It needs torch, dipfast and NumPy, and pytest for the tests that need CUDA.  Without a GPU it says
so and ends.  Figures are medians of repeats, in turn.  If tests fail, the exit status is 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benches.loop.original import original_loop
from benches.loop.step import NETWORKS
from dipfast.networks import HourglassConfig
from dipfast.prior.loop import DeepImagePrior
from dipfast.prior.methods import make_stages
from dipfast.run.memory.estimate import estimate_fit

SIZES = (256, 512)


def picture(size: int, device: torch.device) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 3, size, size, generator=generator).to(device)


def make(size: int, network: str, device: torch.device, **options: Any) -> DeepImagePrior:
    stages = make_stages("two_stage", 3000, 0.2)
    config = NETWORKS[network]
    return DeepImagePrior(picture(size, device), stages, network=config, **options)


def without_graph(prior: DeepImagePrior) -> DeepImagePrior:
    """Return a loop that records no steps."""
    if prior._graph is not None:
        prior._graph._can_record = False
    return prior


def replay_and_eager(device: torch.device) -> dict[str, float]:
    """Return how far recorded steps are from steps that are not, and these from each other.

    The gradients of padding and upsampling are added up in another order each time, so that two
    fits of one seed drift apart.  Recorded steps must not do so any faster.
    """
    small = HourglassConfig((8, 16), (8, 16), (4, 4))
    ends = []
    for record in (True, False, False, True):
        stages = make_stages("two_stage", 30, 0.2)
        prior = DeepImagePrior(picture(64, device), stages, network=small)
        for _ in prior if record else without_graph(prior):
            pass
        ends.append(prior.average)
    replayed, eager, again, replayed_again = ends
    return {
        "replayed, eager": float((replayed - eager).abs().max()),
        "eager, eager": float((eager - again).abs().max()),
        "replayed, replayed": float((replayed - replayed_again).abs().max()),
    }


def waits(prior: DeepImagePrior, iterations: int) -> int:
    """Return how often the host waits for the device within steps of a loop."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for _ in range(iterations):
                next(prior)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in caught)


def seconds(steps: dict[str, Callable[[], Any]], repeats: int, each: int) -> dict[str, float]:
    """Return the median time of one call, the functions in turn."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            torch.cuda.synchronize()
            begin = time.perf_counter()
            for _ in range(each):
                step()
            torch.cuda.synchronize()
            times[name].append((time.perf_counter() - begin) / each)
    return {name: median(values[1:]) for name, values in times.items()}


def kernels(step: Callable[[], Any]) -> int:
    """Return the number of kernels that a call launches."""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        step()
        torch.cuda.synchronize()
    return sum(event.count for event in profiler.key_averages())


def step_figures(size: int, network: str, device: torch.device) -> dict[str, Any]:
    """Return times, kernels and memory of a step."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    graph = make(size, network, device)
    for _ in range(5):
        next(graph)
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    estimate = estimate_fit(
        network=graph.network,
        z_shape=tuple(graph.z.shape),
        image_shape=tuple(graph.output.shape),
        dtype=torch.float32,
        device=device,
    )
    eager = without_graph(make(size, network, device))
    half = make(size, network, device, precision="bfloat16")
    loops: dict[str, Callable[[], Any]] = {
        "graph, bfloat16": lambda: next(half),
        "graph": lambda: next(graph),
        "graph and its numbers": lambda: next(graph).numbers,
        "eager": lambda: next(eager),
    }
    if network == "original":
        loop = original_loop(picture(size, device))
        loops["original loop"] = lambda: next(loop)
    times = seconds(loops, repeats=5, each=10)
    figures: dict[str, Any] = {f"ms, {name}": 1e3 * value for name, value in times.items()}
    figures["kernels, eager"] = kernels(loops["eager"])
    figures["waits in 20 steps"] = waits(graph, 20)
    assert estimate is not None
    figures["peak MB"], figures["estimated MB"] = peak / 1e6, estimate / 1e6
    return figures


def run_tests() -> tuple[str, bool]:
    """Run the tests that need CUDA; return the last lines of what they say, and if all went well.

    Without pytest there is nothing that can fail.
    """
    if importlib.util.find_spec("pytest") is None:
        return "pytest is missing", True
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", "-k"]
    done = subprocess.run([*command, "cuda or Cuda"], capture_output=True, text=True, check=False)
    return "\n".join(done.stdout.strip().splitlines()[-12:]), done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--no-tests", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("there is no GPU that torch can use: nothing was measured")
        return
    device = torch.device(options.device)
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "largest difference after 30 iterations": replay_and_eager(device),
        "steps": {
            f"{network}, {size}": step_figures(size, network, device)
            for network in NETWORKS
            for size in SIZES
        },
    }
    passed = True
    if not options.no_tests:
        found["tests"], passed = run_tests()
    text = json.dumps(found, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    if not passed:
        sys.exit(1)


if __name__ == "__main__":
    main()
