"""Memory for large results, used again.

Writing to memory that the system has just handed out costs several times as much as the
writing itself, because every page of it is zeroed first.  A loop that asks for a gradient of
the same size again and again is therefore given the memory that the last one came back with:
at most three results are kept for that.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["empty"]

# Below this, the allocators of NumPy and torch do not go to the system.
_LARGE = 1 << 18
# Cache lines and the widest registers.
_ALIGNMENT = 64

# Larger than this, memory is not kept: a gradient of 3x4096x4096 in float32 fits.
_LARGEST = 1 << 28

# What came back, the oldest first, which falls out when one too many is added.  Results are
# taken and given back by any thread, also by the garbage collector in the middle of either: a
# deque needs no lock for that.
_idle: deque[np.ndarray[Any, np.dtype[np.uint8]]] = deque(maxlen=3)


class _Loan:
    """Memory that goes back to the idle ones when no array refers to it any more."""

    def __init__(
        self, memory: np.ndarray[Any, np.dtype[np.uint8]], shape: tuple[int, ...], dtype: Any
    ) -> None:
        self._memory = memory
        address = memory.ctypes.data
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": np.dtype(dtype).str,
            "data": (address + -address % _ALIGNMENT, False),
        }

    def __del__(self) -> None:
        if self._memory.nbytes <= _LARGEST:
            _idle.append(self._memory)


def empty(shape: Sequence[int], dtype: Any) -> np.ndarray[Any, Any]:
    """A contiguous array, not initialised."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < _LARGE:
        return np.empty(shape, dtype)
    return np.asarray(_Loan(_memory(size + _ALIGNMENT), tuple(shape), dtype))


def _memory(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    for _ in range(len(_idle)):
        try:
            memory = _idle.popleft()
        except IndexError:
            break
        if memory.nbytes == size:
            return memory
        _idle.append(memory)
    # NumPy asks for huge pages, which are fewer to zero; torch does not.
    return np.empty(size, np.uint8)
