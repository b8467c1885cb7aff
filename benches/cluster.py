"""What a cluster costs and gains: jobs that only sleep, and small pictures on one and two workers.

Run ``python -m benches.cluster jobs`` or ``python -m benches.cluster files``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import dipfast
from dipfast.cluster import connect, restore_files
from dipfast.cluster.engine import Order, run_orders


def sleep(seconds: float) -> int:
    time.sleep(seconds)
    return 0


def jobs(count: int, seconds: float, workers: int, threads: int) -> None:
    """Time jobs that only sleep, against the sleep of all of them divided by the slots."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(workers, threads_per_worker=threads, dashboard_address=":0") as cluster,
        Client(cluster) as made,
        connect(made, threads=1) as client,
    ):
        orders: Iterator[Order[int]] = (Order(number, (seconds,)) for number in range(count))
        begun = time.perf_counter()
        done = sum(value == 0 for _, value in run_orders(client, sleep, orders))
        taken = time.perf_counter() - begun
    slots = workers * threads
    print(
        f"{done} jobs of {seconds} s on {workers} processes with {threads} threads: {taken:.1f} s"
    )
    print(f"asleep {count * seconds / slots:.1f} s, {taken / count * 1e3:.1f} ms for each job")


def files(count: int, size: int, options: dict[str, Any]) -> None:
    """Time small pictures in this process, and on one and two workers."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{number:03}.png") for number in range(count)]
        for path in paths:
            noisy = rng.normal(128, 25, (size, size)).clip(0, 255).astype(np.uint8)
            dipfast.write_image(path, noisy)
        for workers in (1, 2):
            with connect("processes", workers=workers, threads=1) as client:
                # What is imported at the first use is not counted.
                first = Path(folder, f"first{workers}")
                restore_files("denoise", paths[: 2 * workers], first, scheduler=client, **options)
                begun = time.perf_counter()
                out = Path(folder, f"out{workers}")
                outcomes = restore_files("denoise", paths, out, scheduler=client, **options)
                taken = time.perf_counter() - begun
            done = sum(outcome.status == "done" for outcome in outcomes)
            alone = sum(outcome.seconds for outcome in outcomes)
            print(
                f"{workers} workers: {done} pictures of {size}x{size} in {taken:.2f} s; "
                f"on workers {alone:.2f} s"
            )


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("jobs", "files"))
    parser.add_argument("--count", type=int)
    parser.add_argument("--seconds", type=float, default=0.05)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--quality", default="fast")
    typed = parser.parse_args()
    if typed.what == "jobs":
        jobs(typed.count or 10_000, typed.seconds, typed.workers, typed.threads)
    else:
        files(typed.count or 40, typed.size, {"quality": typed.quality})


if __name__ == "__main__":
    main()
