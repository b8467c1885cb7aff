"""The memory that a fit takes, and whether it is there.

A fit that is too large for the machine seldom ends with an error: the system swaps, or kills
the process without a word.  So its memory is estimated before it begins.
"""

from __future__ import annotations

from dipfast.run.memory.advice import check_memory, explain
from dipfast.run.memory.available import available
from dipfast.run.memory.estimate import estimate_fit

__all__ = ["available", "check_memory", "estimate_fit", "explain"]
