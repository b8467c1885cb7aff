"""The check sum of Zarr, CRC-32C, of many bytes at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["crc32c"]

_Array = np.ndarray[Any, Any]

_POLYNOMIAL = 0x82F63B78
_LONGEST_LOOP = 512  # bytes that are not worth to be split


def _table() -> _Array:
    """Return the remainder of each byte."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(_POLYNOMIAL), table >> 1)
    return np.asarray(table, np.uint32)


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """Return the check sum CRC-32C of bytes.

    Parameters
    ----------
    data
        The bytes.

    Returns
    -------
    int
        The check sum, of 32 bits.

    Examples
    --------
    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    # Pieces of equal length are gone through side by side, and what is left before them alone.
    count = 1 if len(data) < _LONGEST_LOOP else int(len(data) ** 0.5)
    length = len(data) // count
    first = len(data) - length * count
    state = int(_through(np.array([0xFFFFFFFF], np.uint32), _pieces(data[:first], 1))[0])
    sums = _through(np.zeros(count, np.uint32), _pieces(data[first:], count))
    # What each bit of a state becomes while zeros as long as a piece go by.
    zeros = np.zeros((length, 1), np.uint8)
    moved = _through(np.uint32(1) << np.arange(32, dtype=np.uint32), zeros)
    for each in sums.tolist():
        bits = [int(value) for k, value in enumerate(moved) if state >> k & 1]
        state = each
        for value in bits:
            state ^= value
    return state ^ 0xFFFFFFFF


def _pieces(data: bytes, count: int) -> _Array:
    """Return bytes in so many columns, each a piece of them."""
    return np.asarray(np.frombuffer(data, np.uint8).reshape(count, -1).T)


def _through(states: _Array, rows: _Array) -> _Array:
    """Return what states become after rows of bytes, one for each state or the same for all."""
    for row in rows:
        states = _TABLE[(states ^ row) & 0xFF] ^ states >> 8
    return states
