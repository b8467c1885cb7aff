"""The memory that is available to this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import psutil
import torch

__all__ = ["at_most", "available"]

# What work in this context may take on the CPU; None for what there is.
_limit: ContextVar[int | None] = ContextVar("_limit", default=None)


@contextmanager
def at_most(limit: int | None) -> Iterator[None]:
    """Let no more memory of the CPU count as available, inside a ``with`` block of this thread.

    Parameters
    ----------
    limit
        Bytes; None for all that there is.

    Yields
    ------
    None
        Nothing.

    Examples
    --------
    >>> with at_most(5000):
    ...     available(torch.device("cpu"))
    5000
    """
    token = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(token)


def available(device: torch.device, root: Path = Path("/")) -> int | None:
    """Return the memory that this process may still allocate on a device.

    Parameters
    ----------
    device
        For the CPU it is the least of the available memory of the system, of what the limits of the
        process's control groups (versions 1 and 2) leave, and of :func:`at_most`; for CUDA,
        the free memory and what torch has reserved without using it.
    root
        The folder of ``proc`` and ``sys``; another one than ``/`` serves tests.

    Returns
    -------
    int or None
        Bytes; None for other devices, whose memory is not known.

    Examples
    --------
    >>> available(torch.device("cpu")) > 0
    True
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    if device.type != "cpu":
        return None
    limit = _limit.get()
    limits = [] if limit is None else [limit]
    return min([int(psutil.virtual_memory().available), *_cgroups(root), *limits])


def _cgroups(root: Path) -> list[int]:
    """Return the bytes that the control group of the process, and each of its parents, leave."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []  # not Linux
    left = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount, names = "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mount = "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # In a container the path may be that of the host: groups that do not exist are skipped.
        group = root / mount
        for part in ("", *path.split("/")):
            group = group / part
            left.append(_cgroup(group, *names))
    return [bytes_left for bytes_left in left if bytes_left is not None]


def _cgroup(group: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    """Return the bytes that one control group leaves; None if it has no limit."""
    try:
        most = (group / limit).read_text().strip()
        used = int((group / usage).read_text())
        rows = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return None
    if most == "max":
        return None
    # The system caches files while memory is free, and drops them when it is needed.
    cached = dict(row.split() for row in rows).get(reclaimable, 0)
    return max(int(most) - used + int(cached), 0)
