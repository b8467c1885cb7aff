"""The first of several rules."""

from __future__ import annotations

from dataclasses import dataclass

from dipfast.stopping.rule import Observable, Verdict
from dipfast.stopping.several import Several
from dipfast.values import Values

__all__ = ["FirstOf"]


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
