"""Define the interface of stop rules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from dipfast.checks import shown
from dipfast.errors import InputTypeError
from dipfast.stop_reason import Stop, StopReason

if TYPE_CHECKING:
    from dipfast.model.loop_view import LoopView
    from dipfast.model.problem import Problem
    from dipfast.state_dict import Values

__all__ = ["Decision", "StopRule"]


class Decision(NamedTuple):
    """Hold what a rule decides about an iteration.

    Parameters
    ----------
    best
        Whether the iteration is the best so far; the last iteration with True is returned.  None
        leaves the decision to another rule; if all rules leave it, the last iteration is
        returned.
    stop
        Why to stop: a text of your own, a :class:`~dipfast.stopping.StopReason`, or a reason with
        its numbers (:class:`~dipfast.stop_reason.Stop`); None to continue.
    """

    best: bool | None = None
    stop: Stop | StopReason | str | None = None


class StopRule(ABC):
    """Decide, from one iteration after the other, when to stop and which iteration is the best.

    To write your own, derive a frozen dataclass and give it an :meth:`update`.  A rule does
    not change: its state is in ``memory``, which is written into checkpoints.

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
        """Return the problem to fit, before the first iteration.

        Parameters
        ----------
        problem
            The measurement and its model.

        Returns
        -------
        Problem
            The same problem, unless the rule holds out elements of the measurement.
        """
        return problem

    @abstractmethod
    def update(self, state: LoopView, memory: Values) -> Decision:
        """Return the decision about one iteration; called once for each, in order.

        Parameters
        ----------
        state
            The loop after the iteration.
        memory
            State of the rule, empty at the first iteration: tensors, numbers and texts by name.
            The method changes it in place, and checkpoints hold it; other values are refused.

        Returns
        -------
        Decision
            Whether the iteration is the best so far, and why to stop.
        """

    def decide(self, state: LoopView, memory: Values) -> Decision:
        """Return what :meth:`update` decides, which may be a rule of a user's, after checking it.

        Parameters
        ----------
        state
            The loop after the iteration.
        memory
            State of the rule, changed in place.

        Returns
        -------
        Decision
            Whether the iteration is the best so far, and why to stop.

        Raises
        ------
        TypeError
            If it is none.
        """
        decision: object = self.update(state, memory)
        if not isinstance(decision, Decision):
            raise InputTypeError(
                f"update of the stop rule {type(self).__name__} must return a "
                f"dipfast.stopping.Decision, got {shown(decision)}"
            )
        return decision
