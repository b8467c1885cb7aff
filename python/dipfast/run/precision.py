"""Find out which precision this processor computes convolutions in fastest, and remember it."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from dipfast.settings.names import Precision, PrecisionName
from dipfast.torch_modes import plain_modes

__all__ = ["find_precision"]

# Processors with bfloat16 products (AVX-512 of AMD, AMX of Intel) are from 1.5 times faster with
# it; those that only convert to it are slower.  In between nothing is gained that is worth another
# precision.
_WORTH_IT = 1.3
_REPEATS = 5


def find_precision(precision: PrecisionName, device: torch.device) -> Precision:
    """Return the precision of the layers of a network, with "auto" decided.

    Parameters
    ----------
    precision
        As it was asked for.
    device
        The device of the fit.

    Returns
    -------
    str
        For "auto", ``"bfloat16"`` on a CPU whose convolutions are at least 1.3 times faster in it,
        and ``"float32"`` elsewhere.

    Notes
    -----
    The timing takes some hundredths of a second.  What it found is kept in the file
    ``dipfast/precision.json`` of the user's cache (``XDG_CACHE_HOME``, else ``~/.cache``), for each
    processor and version of torch, so that the same seed gives the same bits on the same machine.
    """
    if precision != "auto":
        return precision
    if device.type != "cpu":
        return "float32"
    return "bfloat16" if _is_bfloat16_faster() else "float32"


@cache
def _is_bfloat16_faster() -> bool:
    """Return what this machine remembers, or what a timing says."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dipfast"
    path /= "precision.json"
    key = f"{_processor()}, torch {torch.__version__}"
    known: dict[str, Any] = {}
    # A cache that cannot be read or written costs a timing, and no more.
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        known = found if isinstance(found, dict) else {}
    if isinstance(known.get(key), bool):
        return bool(known[key])
    known[key] = _gain() >= _WORTH_IT
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}")
        part.write_text(json.dumps(known, indent=1))
        part.replace(path)
    return bool(known[key])


def _processor() -> str:
    """Return the name of the processor."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@plain_modes()
def _gain() -> float:
    """Return how many times faster the convolutions of a typical layer are in bfloat16."""
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    weights = torch.ones(64, 64, 3, 3, dtype=torch.float32)
    layer = torch.ones(1, 64, 66, 66, dtype=torch.float32).contiguous(
        memory_format=torch.channels_last
    )
    for _ in range(_REPEATS + 1):
        for dtype, times in seconds.items():
            x, w = (tensor.to(dtype).requires_grad_() for tensor in (layer, weights))
            begin = time.perf_counter()
            F.conv2d(x, w).sum().backward()  # type: ignore[no-untyped-call]
            times.append(time.perf_counter() - begin)
    # The first call of each chooses and compiles its kernel.
    single, half = (statistics.median(times[1:]) for times in seconds.values())
    return single / half
