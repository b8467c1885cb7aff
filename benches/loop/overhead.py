"""Measure the share of the objective in a training step, and whether its kernel slows down torch.

    python -m benches.loop.overhead [--size 256] [--steps 30]

A step of the network of the ``balanced`` preset (32 input channels): forward, the objective
and its gradient with respect to the image, backward, optimiser.  The objective is computed by
the compiled kernel and by plain torch in turn, step by step, and once more outside of any
training, call after call.  If the threads of the kernel competed with those of torch for the
processor, the rest of the step would take longer with the kernel than with plain torch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import NamedTuple

import torch
from torch import Tensor

from dipfast import ops
from dipfast.networks import Hourglass
from dipfast.ops._arguments import Backend
from dipfast.settings.presets import PRESETS

WEIGHT = 0.1


class Step(NamedTuple):
    """Hold the seconds of the objective with its gradient, and of the rest of a step."""

    objective: float
    rest: float


class Training:
    """Hold the network of a fit, its input and a random measurement."""

    def __init__(self, size: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.network = Hourglass(32, 3, PRESETS["denoise-balanced"].network)
        self.z = 0.1 * torch.rand(1, 32, size, size, generator=generator)
        self.y = torch.rand(1, 3, size, size, generator=generator)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.01, fused=True)

    def step(self, backend: Backend) -> Step:
        """Do one training step, and return its times."""
        start = time.perf_counter()
        output = self.network(self.z)
        before = time.perf_counter()
        gradient = gradient_of_objective(output, self.y, backend)
        after = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        output.backward(gradient)
        self.optimizer.step()
        end = time.perf_counter()
        return Step(after - before, end - after + before - start)


def gradient_of_objective(output: Tensor, y: Tensor, backend: Backend) -> Tensor:
    """Return the gradient of the objective with respect to the output of the network."""
    value = ops.tv_objective(output, y, WEIGHT, backend=backend)
    return torch.autograd.grad(value / y.numel(), output, retain_graph=True)[0]


def outside(y: Tensor, backend: Backend, repeats: int) -> float:
    """Return the median of the seconds of objective and gradient outside of any training."""
    image = torch.rand_like(y).requires_grad_()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        gradient_of_objective(image, y, backend)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description="the objective inside a training step")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads(), 1])
    options = parser.parse_args()
    print(f"torch {torch.__version__}, CPU, float32, {options.size}x{options.size} colour\n")
    print("| objective | threads | outside (ms) | inside (ms) | share of the step | rest (ms) |")
    print("|---|---|---|---|---|---|")
    for threads in options.threads:
        torch.set_num_threads(threads)
        training = Training(options.size)
        backends: tuple[Backend, ...] = ("native", "torch")
        for backend in backends:  # warm-up
            training.step(backend)
        image = torch.rand_like(training.y).requires_grad_()
        # Both backends must compute the same gradient.
        native, plain = (gradient_of_objective(image, training.y, b) for b in backends)
        torch.testing.assert_close(native, plain)
        steps = [[training.step(backend) for backend in backends] for _ in range(options.steps)]
        for backend, column in zip(backends, zip(*steps)):
            inside = statistics.median(step.objective for step in column)
            rest = statistics.median(step.rest for step in column)
            share = statistics.median(s.objective / (s.objective + s.rest) for s in column)
            alone = outside(training.y, backend, 10 * options.steps)
            cells = (backend, threads, f"{1e3 * alone:.3f}", f"{1e3 * inside:.3f}")
            print(f"| {' | '.join(map(str, cells))} | {share:.2%} | {1e3 * rest:.1f} |", flush=True)


if __name__ == "__main__":
    main()
