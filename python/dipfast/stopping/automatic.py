"""The default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dipfast.model.loop_view import LoopView
from dipfast.state_dict import Values
from dipfast.stopping.combine import LastOf
from dipfast.stopping.discrepancy import Discrepancy
from dipfast.stopping.held_out import HeldOut
from dipfast.stopping.rule import Decision, StopRule

if TYPE_CHECKING:
    from dipfast.model.problem import Problem

__all__ = ["Automatic"]


@dataclass(frozen=True)
class Automatic(StopRule):
    """The later of held-out pixels and the discrepancy principle, which measured best.

    Both err on the early side: held-out pixels where there is texture, which nobody can guess
    from its neighbours, the discrepancy principle where texture was taken for noise.  The
    factor of the latter is 0.99, because the best image has taken in a little of the noise.
    See docs/stopping.md.

    Without noise all iterations are run, and no pixels held out: there is nothing to overfit to.
    """

    rule: ClassVar[StopRule] = LastOf((HeldOut(patience=0.1), Discrepancy(factor=0.99)))

    def prepare(self, problem: Problem) -> Problem:
        return problem if problem.noise.is_free else self.rule.prepare(problem)

    def update(self, state: LoopView, memory: Values) -> Decision:
        if state.problem.noise.is_free:
            return Decision(best=True)
        return self.rule.update(state, memory)
