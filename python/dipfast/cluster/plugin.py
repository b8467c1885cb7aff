"""What runs on a worker of Dask before its jobs: its share of the cores."""

from __future__ import annotations

import os
import signal
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from distributed import WorkerPlugin

__all__ = ["WorkerShare", "cores_of", "jobs_on_cores"]

Jobs = dict[tuple[str, int], int]
"""How many jobs may run at once on a core of a computer."""


class WorkerShare(WorkerPlugin):  # type: ignore[misc]
    """Give each job on a worker its share of the cores.

    Parameters
    ----------
    threads
        The threads of torch of each job; None for the cores that the worker may use, each divided
        by the jobs that may run on it at once.
    jobs
        How many jobs these are, of all workers, as :func:`jobs_on_cores` counts them; None, the
        default, for those of the worker alone.
    leaves_ctrl_c
        Whether a worker leaves Ctrl-C to the program that started it; False by default.  A terminal
        sends it to all of its processes, and a worker would end in the middle, with a traceback.
    """

    def __init__(
        self, threads: int | None, jobs: Jobs | None = None, *, leaves_ctrl_c: bool = False
    ) -> None:
        self._threads = threads
        self._jobs = jobs or {}
        self._leaves_ctrl_c = leaves_ctrl_c
        self._before: int | None = None
        # Several programs may prepare the workers of one cluster, and each takes back its own.
        self.name = f"dipfast-share-{uuid.uuid4()}"

    def setup(self, worker: Any) -> None:
        """Prepare a worker, called by Dask once it is there."""
        self._before = torch.get_num_threads()
        torch.set_num_threads(self._threads or self._share(worker.state.nthreads))
        if self._leaves_ctrl_c and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def teardown(self, worker: Any) -> None:
        """Leave a worker as it was, called by Dask when the program ends."""
        if self._before is not None:
            torch.set_num_threads(self._before)

    def _share(self, running: int) -> int:
        """Return the threads for each of the jobs that a worker runs at once."""
        host, cores = cores_of()
        # A worker that came later is not counted, and has its own jobs at least.
        shares = (1 / max(self._jobs.get((host, core), 0), running) for core in cores)
        return max(int(sum(shares) + 1e-9), 1)


def cores_of() -> tuple[str, list[int]]:
    """Return the name of the computer, and the cores of it that the process may use.

    Returns
    -------
    tuple
        The name and the numbers of the cores.
    """
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return socket.gethostname(), sorted(os.sched_getaffinity(0))
    return socket.gethostname(), list(range(os.cpu_count() or 1))


def jobs_on_cores(cores: Mapping[str, tuple[str, list[int]]], running: Mapping[str, int]) -> Jobs:
    """Return how many jobs may run at once on each core.

    Parameters
    ----------
    cores
        What :func:`cores_of` returns on each worker, by address.
    running
        How many jobs each worker runs at once, by address.

    Returns
    -------
    dict
        The numbers of jobs, by the name of the computer and the number of the core.

    Examples
    --------
    >>> jobs_on_cores({"a": ("one", [0, 1]), "b": ("one", [1])}, {"a": 2, "b": 1})
    {('one', 0): 2, ('one', 1): 3}
    """
    jobs: Counter[tuple[str, int]] = Counter()
    for address, (host, numbers) in cores.items():
        for core in numbers:
            jobs[host, core] += running.get(address, 0)
    return dict(jobs)
