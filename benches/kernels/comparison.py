"""Compare a kernel with its peers: first that results are the same, then the time."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from benches.pairs import alternate

__all__ = ["HEADER", "Comparison", "copy_bandwidth", "installed", "rows", "shape_of"]


@dataclass(frozen=True)
class Comparison:
    """Say what is computed, by which functions, and how their results are compared.

    Attributes
    ----------
    kernel, size
        For the table.
    ours, peers
        Calls without arguments that return their result.
    check
        Raises AssertionError unless the results (ours, theirs) are the same.
    traffic
        Bytes that memory must carry at least: what is read and what is written, once.
        0 where the kernel is not bound by memory.
    device
        Where it runs; the time is taken when the device has finished.
    """

    kernel: str
    size: str
    ours: Callable[[], Any]
    peers: Mapping[str, Callable[[], Any]]
    check: Callable[[Any, Any], None]
    traffic: int = 0
    device: str = "cpu"

    def finished(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Return a function that also waits until the device has the result."""
        if self.device == "cpu":
            return function

        def run() -> Any:
            result = function()
            torch.cuda.synchronize(self.device)
            return result

        return run


def installed(module: str) -> ModuleType | None:
    """Return a module, or None where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def shape_of(x: Tensor) -> str:
    """Return the shape of a tensor for the table."""
    return "x".join(str(size) for size in x.shape)


def copy_bandwidth(count: int, device: str = "cpu") -> float:
    """Return the GB/s of reading a float32 array of ``count`` elements and writing another."""
    a, b = torch.rand(count, device=device), torch.rand(count, device=device)
    times = []
    for _ in range(25):
        if device != "cpu":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        b.copy_(a)
        if device != "cpu":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return 8e-9 * count / statistics.median(times)


def rows(comparison: Comparison, seconds: float) -> Iterator[str]:
    """Yield a row of the table for each peer; each takes about ``seconds``."""
    ours = comparison.finished(comparison.ours)
    result = ours()
    for name, peer in comparison.peers.items():
        theirs = comparison.finished(peer)
        comparison.check(result, theirs())
        start = time.perf_counter()
        ours()
        theirs()
        repeats = round(seconds / 4 / (time.perf_counter() - start))
        times = alternate(ours, theirs, min(max(repeats, 3), 201))
        rate = share = ""
        if comparison.traffic:
            bandwidth = 1e-9 * comparison.traffic / times.ours
            rate = f"{bandwidth:.1f}"
            share = f"{bandwidth / copy_bandwidth(comparison.traffic // 8, comparison.device):.0%}"
        cells = (
            comparison.kernel,
            comparison.size,
            str(torch.get_num_threads()),
            f"{1e3 * times.ours:.3g}",
            rate,
            share,
            name,
            f"{1e3 * times.theirs:.3g}",
            f"{times.ratio:.1f}",
        )
        yield f"| {' | '.join(cells)} |"


HEADER = """\
| kernel | size | threads | ours (ms) | GB/s | of a copy | peer | peer (ms) | ratio |
|---|---|---|---|---|---|---|---|---|"""
