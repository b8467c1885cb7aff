"""The first of several rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dipfast.stopping.rule import Observable, StopRule, Verdict
from dipfast.values import Values, join, under

if TYPE_CHECKING:
    from dipfast.stages import Problem

__all__ = ["FirstOf", "Several"]


@dataclass(frozen=True)
class Several(StopRule):
    """What combinations of rules have in common."""

    rules: tuple[StopRule, ...]

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError("rules must not be empty")

    def prepare(self, problem: Problem) -> Problem:
        for rule in self.rules:
            problem = rule.prepare(problem)
        return problem

    def ask(self, k: int, state: Observable, memory: Values) -> Verdict:
        """What the k-th rule says, which has a part of the memory to itself."""
        own = under(memory, str(k))
        verdict = self.rules[k].update(state, own)
        memory |= join({str(k): own})
        return verdict


@dataclass(frozen=True)
class FirstOf(Several):
    """Stop when the first of several rules says so.

    Which iteration was the best is for the first in the list to say that has an opinion.

    Examples
    --------
    >>> from dipfast.stopping import HeldOut, TimeLimit
    >>> FirstOf((HeldOut(), TimeLimit(60)))
    FirstOf(rules=(HeldOut(fraction=0.01, patience=0.2, seed=0), TimeLimit(seconds=60)))
    """

    def update(self, state: Observable, memory: Values) -> Verdict:
        verdicts = [self.ask(k, state, memory) for k in range(len(self.rules))]
        best = next((verdict.best for verdict in verdicts if verdict.best is not None), None)
        # One that ends for good outranks one that pauses.
        ends = sorted((v for v in verdicts if v.reason is not None), key=lambda v: v.pause)
        return Verdict(best, *ends[0][1:]) if ends else Verdict(best)
