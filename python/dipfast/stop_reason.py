"""Why a fit ended."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["Stop", "StopReason"]


class StopReason(str, Enum):
    """Name why a fit ended; the value is the reason in words.

    Examples
    --------
    >>> print(StopReason.ALL_ITERATIONS)
    all iterations done
    >>> StopReason.INTERRUPTED.is_final
    False
    """

    ALL_ITERATIONS = "all iterations done"
    NOISE_LEVEL = "residual at the noise level"
    MINIMUM = "what the stop rule measures has not fallen for long"
    RULE = "the stop rule said so"
    GAVE_UP = "gave up: the loss keeps becoming infinite or undefined"
    TIME_LIMIT = "the time limit has passed"
    CALLBACK = "stopped by the callback"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    TERMINATED = "terminated"

    def __str__(self) -> str:
        return str(self.value)

    @property
    def is_final(self) -> bool:
        """Whether a run that is resumed from its checkpoint has nothing more to do."""
        return self in _FINAL


_FINAL = {
    StopReason.ALL_ITERATIONS,
    StopReason.NOISE_LEVEL,
    StopReason.MINIMUM,
    StopReason.RULE,
    StopReason.GAVE_UP,
}


class Stop(NamedTuple):
    """Say why to end a fit.

    Attributes
    ----------
    reason
        Which of the reasons it is.
    detail
        The reason in words, with its numbers; empty for those of ``reason``.
    """

    reason: StopReason
    detail: str = ""

    def __str__(self) -> str:
        return self.detail or str(self.reason)

    @classmethod
    def of(cls, reason: Stop | StopReason | str) -> Stop:
        """Return a stop for a reason; other words are those of a rule."""
        if isinstance(reason, Stop):
            return reason
        if isinstance(reason, StopReason):
            return cls(reason)
        return cls(StopReason.RULE, reason)
