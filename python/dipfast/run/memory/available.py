"""The memory that a process may still take."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

__all__ = ["available"]


def available(device: torch.device, root: Path = Path("/")) -> int | None:
    """Memory that a process may still take on a device.

    Parameters
    ----------
    device
        CPU: the least of what the system has and of what the control groups (versions 1 and 2)
        of the process leave.  CUDA: what is free, and what torch holds without using it.
    root
        Where ``proc`` and ``sys`` are.

    Returns
    -------
    int or None
        Bytes; None if it is not known how to ask the device.

    Examples
    --------
    >>> available(torch.device("cpu")) > 0
    True
    """
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + held
    if device.type != "cpu":
        return None
    return min([int(psutil.virtual_memory().available), *_cgroups(root)])


def _cgroups(root: Path) -> list[int]:
    """Bytes that each control group of the process leaves, its own and those around it."""
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
        # In a container the path may be that of its host: what is not there is passed over.
        group = root / mount
        for part in ("", *path.split("/")):
            group = group / part
            left.append(_cgroup(group, *names))
    return [bytes_left for bytes_left in left if bytes_left is not None]


def _cgroup(group: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    """Bytes that one group leaves; None if it has no limit."""
    try:
        most = (group / limit).read_text().strip()
        used = int((group / usage).read_text())
        rows = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return None
    if most == "max":
        return None
    # Files that were read once are kept while there is room, and given up when there is not.
    kept = dict(row.split() for row in rows).get(reclaimable, 0)
    return max(int(most) - used + int(kept), 0)
