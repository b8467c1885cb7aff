"""Combine several stop rules into one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dipfast.checks import shown
from dipfast.errors import InputError, InputTypeError
from dipfast.model.loop_view import LoopView
from dipfast.state_dict import Values, flatten, subtree
from dipfast.stopping.rule import Decision, StopRule

if TYPE_CHECKING:
    from dipfast.model.problem import Problem

__all__ = ["CompositeRule", "FirstOf", "LastOf"]


@dataclass(frozen=True)
class CompositeRule(StopRule):
    """Hold several rules, each with its own part of the memory.

    Parameters
    ----------
    rules
        The rules, at least one.

    Raises
    ------
    TypeError
        If they are no tuple of rules.
    ValueError
        If there are no rules.
    """

    rules: tuple[StopRule, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.rules, tuple | list):
            raise InputTypeError(f"rules must be a tuple of stop rules, got {shown(self.rules)}")
        if not self.rules:
            raise InputError("rules must not be empty")
        for rule in self.rules:
            if not isinstance(rule, StopRule):
                raise InputTypeError(
                    f"rules must be stop rules, got {shown(rule)} among them; those with a name "
                    "are classes of dipfast.stopping, such as HeldOut()"
                )

    def prepare(self, problem: Problem) -> Problem:
        for rule in self.rules:
            problem = rule.prepare(problem)
        return problem

    def ask(self, k: int, state: LoopView, memory: Values) -> Decision:
        """Return the decision of one of the rules.

        Parameters
        ----------
        k
            Index of the rule.
        state
            The loop after the iteration.
        memory
            The memory of the composite rule; the part of the k-th rule is changed in place.

        Returns
        -------
        Decision
            What the rule decides.
        """
        own = subtree(memory, str(k))
        decision = self.rules[k].decide(state, own)
        memory |= flatten({str(k): own})
        return decision


@dataclass(frozen=True)
class FirstOf(CompositeRule):
    """Stop when the first of several rules stops.

    Which iteration is the best is decided by the first rule of the list whose ``best`` is not
    None.

    Parameters
    ----------
    rules
        The rules, at least one.

    Examples
    --------
    >>> from dipfast.stopping import Discrepancy, HeldOut
    >>> FirstOf((HeldOut(), Discrepancy())).rules[0]
    HeldOut(fraction=0.01, patience=0.2, seed=0)
    """

    def update(self, state: LoopView, memory: Values) -> Decision:
        decisions = [self.ask(k, state, memory) for k in range(len(self.rules))]
        best = next((decision.best for decision in decisions if decision.best is not None), None)
        stop = next((decision.stop for decision in decisions if decision.stop is not None), None)
        return Decision(best, stop)


@dataclass(frozen=True)
class LastOf(CompositeRule):
    """Stop when the last of several rules stops.

    An iteration is the best if one of the rules that have not stopped yet says so; the latest such
    iteration is returned.  This suits rules that tend to stop too early.

    Parameters
    ----------
    rules
        The rules, at least one.

    Examples
    --------
    >>> from dipfast.stopping import HeldOut, RunningVariance
    >>> len(LastOf((HeldOut(), RunningVariance())).rules)
    2
    """

    def update(self, state: LoopView, memory: Values) -> Decision:
        best, stop = False, None
        for k in range(len(self.rules)):
            if f"over.{k}" in memory:
                continue
            decision = self.ask(k, state, memory)
            if decision.stop is not None:
                stop = decision.stop
                memory[f"over.{k}"] = 1
            if decision.best is not None:
                memory["judged"] = 1
                best = best or bool(decision.best)
        over = all(f"over.{k}" in memory for k in range(len(self.rules)))
        return Decision(best if "judged" in memory else None, stop if over else None)
