"""The reasons for which a fit ends."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from dipfast.errors import InputTypeError

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
        """Say whether a run that ended for this reason is finished, and cannot be resumed."""
        return self in _FINAL


_FINAL = {
    StopReason.ALL_ITERATIONS,
    StopReason.NOISE_LEVEL,
    StopReason.MINIMUM,
    StopReason.RULE,
    StopReason.GAVE_UP,
}


class Stop(NamedTuple):
    """Hold the reason to end a fit, and its details.

    Parameters
    ----------
    reason
        The reason.
    detail
        The reason in words, with its numbers; empty, the default, if the words of ``reason``
        say it all.
    """

    reason: StopReason
    detail: str = ""

    def __str__(self) -> str:
        return self.detail or str(self.reason)

    @classmethod
    def of(cls, reason: Stop | StopReason | str) -> Stop:
        """Return a stop of a reason in any form.

        Parameters
        ----------
        reason
            A stop, a reason, or a text of a stop rule, which becomes the detail of ``RULE``.

        Returns
        -------
        Stop
            The stop.
        """
        if isinstance(reason, Stop):
            return reason
        if isinstance(reason, StopReason):
            return cls(reason)
        if not isinstance(reason, str):
            raise InputTypeError(
                "a reason to stop must be a StopReason, a Stop, a text or None, got "
                f"{type(reason).__name__}"
            )
        return cls(StopReason.RULE, reason)
