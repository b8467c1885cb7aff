"""Provide memory for large results, which is used again.

Writing to memory that the system has just handed out costs several times as much as the
writing itself, because every page of it is zeroed first.  A loop that asks for a gradient of
the same size again and again is therefore given the memory of a former gradient, if nothing
refers to that any more.  At most three results are kept for this.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["empty"]

# Bytes from which on the allocators of NumPy and torch ask the system for memory.
_LARGE = 1 << 18
# Bytes of a cache line and of the widest registers.
_ALIGNMENT = 64

# Bytes above which memory is not kept: a gradient of 3x4096x4096 in float32 has fewer.
_LARGEST = 1 << 28

# Memory that can be used again, the oldest first, which is dropped when a fourth is added.  Any
# thread takes and returns memory, and the garbage collector may return some in the middle of
# either: the operations of a deque are safe in that case without a lock.
_idle: deque[np.ndarray[Any, np.dtype[np.uint8]]] = deque(maxlen=3)


class _Loan:
    """Lend memory until no array refers to it any more, and then keep it to be used again."""

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
    """Return a contiguous array whose elements are not initialised."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < _LARGE:
        return np.empty(shape, dtype)
    return np.asarray(_Loan(_memory(size + _ALIGNMENT), tuple(shape), dtype))


def _memory(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return this many bytes, of kept memory if there is some of this size."""
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
