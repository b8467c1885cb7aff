"""Define the default stop rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dipfast.model.loop_view import LoopView
from dipfast.model.operators import Identity
from dipfast.state_dict import Values
from dipfast.stopping.bootstrap import Bootstrap
from dipfast.stopping.combine import FirstOf, LastOf
from dipfast.stopping.discrepancy import Discrepancy
from dipfast.stopping.held_out import HeldOut
from dipfast.stopping.rule import Decision, StopRule

if TYPE_CHECKING:
    from dipfast.model.problem import Problem

__all__ = ["Automatic"]


@dataclass(frozen=True)
class Automatic(StopRule):
    """Stop by the rule that measured best for the problem at hand.

    The fit ends where both held-out pixels and the discrepancy principle say so.  Each of the two
    tends to stop too early: held-out pixels where there is fine texture, which cannot be predicted
    from neighbouring pixels, the discrepancy principle where the estimate of the noise takes
    texture for noise.  The factor of the latter is 0.99, because the best image has fitted a little
    of the noise.

    A noisy picture is split in two by noise that is added, besides, and the half that the fit does
    not see tells which image is the best, and may end the fit earlier
    (:class:`dipfast.stopping.Bootstrap`): in small pictures with strong noise a hundredth of the
    pixels and the level of the noise tell too little.  The rules are compared in docs/stopping.md.

    The noise of neighbouring pixels may be correlated.  A network then predicts that of a held-out
    pixel from those around it, and the discrepancy principle decides alone, with a factor of 0.7,
    because the level of such noise is known to a factor of 1.5 and a fit that stops too early loses
    more than one that stops too late.

    Where no pixel is held out, as may be in a measurement of a few, the others decide alone.

    Without noise all iterations are run and no pixels are held out, because there is no noise to
    fit.

    Parameters
    ----------
    seed
        Seed of the noise that is added.
    """

    seed: int = 0

    rule: ClassVar[LastOf] = LastOf((HeldOut(patience=0.1), Discrepancy(factor=0.99)))
    # What is fitted has the noise that was added as well, by which the level is 1% higher.
    rule_beside_bootstrap: ClassVar[LastOf] = LastOf((HeldOut(patience=0.1), Discrepancy()))
    rule_for_correlated: ClassVar[StopRule] = Discrepancy(factor=0.7)

    def prepare(self, problem: Problem) -> Problem:
        return problem if problem.noise.is_free else self._rule(problem, True).prepare(problem)

    def update(self, state: LoopView, memory: Values) -> Decision:
        if state.problem.noise.is_free:
            return Decision(best=True)
        problem = state.problem
        return self._rule(problem, problem.held_out_problem is not None).update(state, memory)

    def _rule(self, problem: Problem, holds_out: bool) -> StopRule:
        if problem.noise.is_correlated:
            return self.rule_for_correlated
        is_split = isinstance(problem.operator, Identity) and problem.jpeg is None
        both = self.rule_beside_bootstrap if is_split else self.rule
        rule: StopRule = both if holds_out else both.rules[1]
        return FirstOf((Bootstrap(seed=self.seed), rule)) if is_split else rule
