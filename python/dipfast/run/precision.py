"""Find out which precision this processor computes convolutions in fastest, and remember it."""

from __future__ import annotations

import json
import os
import platform
import statistics
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from dipfast.errors import InputError
from dipfast.images.files.safe import write_atomically
from dipfast.settings.names import Precision, PrecisionName
from dipfast.torch_modes import plain_modes

__all__ = ["find_precision"]

# Processors with bfloat16 products (AVX-512 of AMD, AMX of Intel) are from 1.5 times faster with
# it; those that only convert to it are slower.  In between nothing is gained that is worth another
# precision.
_WORTH_IT = 1.3
_REPEATS = 5


def find_precision(
    precision: PrecisionName, device: torch.device, dtype: torch.dtype = torch.float32
) -> Precision:
    """Return the precision of the layers of a network, with "auto" decided.

    Parameters
    ----------
    precision
        As it was asked for.
    device
        The device of the fit.
    dtype
        The dtype of the measurement, float32 or float64.

    Returns
    -------
    str
        For "auto", ``"bfloat16"`` on a CPU whose convolutions are at least 1.3 times faster in it,
        and ``"float32"`` elsewhere and for float64.

    Raises
    ------
    ValueError
        If bfloat16 is asked for a measurement in float64.

    Notes
    -----
    The timing takes some hundredths of a second.  What it found is kept in the file
    ``dipfast/precision.json`` of the user's cache (``XDG_CACHE_HOME``, else ``~/.cache``), for each
    processor, number of threads and version of torch, so that the same seed gives the same bits on
    the same machine.
    """
    if precision == "bfloat16" and dtype != torch.float32:
        raise InputError(
            "precision='bfloat16' is for images in float32 or of integers; this one is float64"
        )
    if precision != "auto":
        return precision
    if device.type != "cpu" or dtype != torch.float32:
        return "float32"
    return "bfloat16" if _is_bfloat16_faster() else "float32"


# One timing at a time: two would slow each other down.
_lock = threading.Lock()


def _is_bfloat16_faster() -> bool:
    with _lock:
        return _remembered(torch.get_num_threads())


@cache
def _remembered(threads: int) -> bool:
    """Return what this machine remembers of a number of threads, or what a timing says."""
    key = f"{_processor()}, {threads} threads, torch {torch.__version__}"
    answer = _read().get(key)
    if isinstance(answer, bool):
        return answer
    answer = _gain() >= _WORTH_IT
    # A cache that cannot be written costs a timing in each process, and no more.
    with suppress(OSError, RuntimeError):
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as stream:
            stream.write(json.dumps(_read() | {key: answer}, indent=1).encode())
    return answer


def _path() -> Path:
    """Return the file of the cache; a RuntimeError says that the user has no folder."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "dipfast" / "precision.json"


def _read() -> dict[str, Any]:
    with suppress(OSError, RuntimeError, ValueError):
        found = json.loads(_path().read_text())
        if isinstance(found, dict):
            return found
    return {}


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
