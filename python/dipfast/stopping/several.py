"""What combinations of rules have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dipfast.stopping.rule import Observable, StopRule, Verdict
from dipfast.values import Values, join, under

if TYPE_CHECKING:
    from dipfast.stages import Problem

__all__ = ["Several"]


@dataclass(frozen=True)
class Several(StopRule):
    """Several rules, each with a part of the memory to itself."""

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
