"""What a stop rule is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from dipfast.stop_reason import Stop, StopReason

if TYPE_CHECKING:
    from dipfast.model.loop_view import LoopView
    from dipfast.model.problem import Problem
    from dipfast.state_dict import Values

__all__ = ["Decision", "StopRule"]


class Decision(NamedTuple):
    """What a rule says of an iteration.

    Attributes
    ----------
    best
        Whether it is the best so far: the last one of which it is true is returned.  None
        leaves that to another rule; if none has an opinion, the last iteration is returned.
    stop
        Why to stop: a text of your own, a :class:`~dipfast.stopping.StopReason`, or one with its
        numbers (:class:`~dipfast.stop_reason.Stop`); None to go on.
    """

    best: bool | None = None
    stop: Stop | StopReason | str | None = None


class StopRule(ABC):
    """Sees every iteration; says when to stop, and which was the best.

    To write your own, derive a frozen dataclass and give it an :meth:`update`.  A rule does
    not change: what it finds out goes into ``memory``, which is written into checkpoints.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Smooth(StopRule):
    ...     '''Stop when the image hardly changes any more.'''
    ...     change: float = 1e-4
    ...
    ...     def update(self, state, memory):
    ...         last, memory["last"] = memory.get("last"), state.average
    ...         if last is None or (state.average - last).abs().mean() > self.change:
    ...             return Decision(best=True)
    ...         return Decision(best=True, stop="it hardly changes any more")
    >>> import dipfast, numpy
    >>> noisy = numpy.zeros((16, 16), numpy.uint8)
    >>> result = dipfast.denoise(noisy, stop=Smooth(0.1), max_iterations=50)
    >>> print(result.stop_reason, '-', result.stop_detail)
    the stop rule said so - it hardly changes any more
    """

    def prepare(self, problem: Problem) -> Problem:
        """The problem to fit instead, before the first iteration."""
        return problem

    @abstractmethod
    def update(self, state: LoopView, memory: Values) -> Decision:
        """Look at one iteration; ``memory`` is empty at the first."""
