"""A time limit."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dipfast.errors import InputError
from dipfast.model.loop_view import LoopView
from dipfast.stopping.rule import Decision, StopRule

if TYPE_CHECKING:
    from dipfast.state_dict import Values

__all__ = ["TimeLimit"]


@dataclass(frozen=True)
class TimeLimit(StopRule):
    """Stop after some seconds; which iteration was the best is for other rules to say.

    Parameters
    ----------
    seconds
        From the making of the rule on, for all images of a batch together.  A run that is
        resumed begins with a new limit.
    """

    seconds: float
    _end: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise InputError(f"seconds must be positive, got {self.seconds!r}")
        object.__setattr__(self, "_end", time.monotonic() + self.seconds)

    @property
    def remaining(self) -> float:
        """Seconds that are left, 0 at least."""
        return max(self._end - time.monotonic(), 0.0)

    def update(self, state: LoopView, memory: Values) -> Decision:
        if self.remaining > 0:
            return Decision()
        return Decision(reason=f"{self.seconds:g} seconds have passed", pause=True)
