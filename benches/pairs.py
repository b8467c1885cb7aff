"""Two sides timed in turn, so that a drift of the machine meets both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Times", "alternate"]


class Times(NamedTuple):
    """Medians in seconds, and the median of theirs / ours, pair by pair."""

    ours: float
    theirs: float
    ratio: float


def alternate(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> Times:
    """Run both ``repeats`` times, ours first.

    At every turn some calls go before the one that is timed, so that each side finds the
    caches and the allocator as it leaves them itself, as in a loop.
    """
    pairs = [(_seconds(ours), _seconds(theirs)) for _ in range(repeats)]
    fast, slow = (statistics.median(column) for column in zip(*pairs))
    return Times(fast, slow, statistics.median(b / a for a, b in pairs))


def _seconds(function: Callable[[], object]) -> float:
    for _ in range(3):
        function()
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
