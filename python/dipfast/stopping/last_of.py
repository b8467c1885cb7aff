"""The last of several rules."""

from __future__ import annotations

from dataclasses import dataclass

from dipfast.stopping.rule import Observable, Verdict
from dipfast.stopping.several import Several
from dipfast.values import Values

__all__ = ["LastOf"]


@dataclass(frozen=True)
class LastOf(Several):
    """Stop when the last of several rules says so.

    An iteration is the best if one of them says so that has not had enough yet: the latest of
    their choices counts.  It is for rules that err on the early side.

    Examples
    --------
    >>> from dipfast.stopping import HeldOut, RunningVariance
    >>> len(LastOf((HeldOut(), RunningVariance())).rules)
    2
    """

    def update(self, state: Observable, memory: Values) -> Verdict:
        best, reason = False, None
        for k in range(len(self.rules)):
            if f"over.{k}" in memory:
                continue
            verdict = self.ask(k, state, memory)
            if verdict.reason is not None:
                reason = verdict.reason
                memory[f"over.{k}"] = 1
            if verdict.best is not None:
                memory["judged"] = 1
                best = best or verdict.best
        over = all(f"over.{k}" in memory for k in range(len(self.rules)))
        return Verdict(best if "judged" in memory else None, reason if over else None)
