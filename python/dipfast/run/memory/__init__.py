"""The memory of a fit: estimate it, compare it with what is available, and say what would fit.

A fit that is too large for the machine seldom ends with an exception: the system swaps, or kills
the process without a message.  Therefore the memory is estimated before a fit begins.
"""

from __future__ import annotations

from dipfast.run.memory.advice import (
    TILES,
    check_direct_memory,
    check_memory,
    explain,
    fits_into_memory,
)
from dipfast.run.memory.available import at_most, available
from dipfast.run.memory.estimate import estimate_direct, estimate_fit, sizes_of

__all__ = [
    "TILES",
    "at_most",
    "available",
    "check_direct_memory",
    "check_memory",
    "estimate_direct",
    "estimate_fit",
    "explain",
    "fits_into_memory",
    "sizes_of",
]
