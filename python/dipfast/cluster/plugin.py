"""What runs on a worker of Dask before its jobs: its share of the cores."""

from __future__ import annotations

import os
import uuid
from typing import Any

import torch
from distributed import WorkerPlugin

__all__ = ["WorkerShare"]


class WorkerShare(WorkerPlugin):  # type: ignore[misc]
    """Give each job on a worker its share of the cores.

    Parameters
    ----------
    threads
        The threads of torch of each job; None for the cores that the worker may use, divided by the
        jobs that it runs at once.
    """

    def __init__(self, threads: int | None) -> None:
        self._threads = threads
        # Several programs may prepare the workers of one cluster, and each takes back its own.
        self.name = f"dipfast-share-{uuid.uuid4()}"

    def setup(self, worker: Any) -> None:
        """Prepare a worker, called by Dask once it is there."""
        torch.set_num_threads(self._threads or max(_cores() // worker.state.nthreads, 1))


def _cores() -> int:
    """Return how many cores the process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
