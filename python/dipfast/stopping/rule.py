"""What a stop rule is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

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
    reason
        Why to stop, or None to go on.
    pause
        Whether a run that is resumed from its checkpoint goes on all the same.
    """

    best: bool | None = None
    reason: str | None = None
    pause: bool = False


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
    ...         return Decision(best=True, reason="it hardly changes any more")
    >>> import dipfast, numpy
    >>> noisy = numpy.zeros((16, 16), numpy.uint8)
    >>> result = dipfast.denoise(noisy, stop=Smooth(0.1), max_iterations=50)
    >>> result.stop_reason
    'it hardly changes any more'
    """

    def prepare(self, problem: Problem) -> Problem:
        """The problem to fit instead, before the first iteration."""
        return problem

    @abstractmethod
    def update(self, state: LoopView, memory: Values) -> Decision:
        """Look at one iteration; ``memory`` is empty at the first."""
