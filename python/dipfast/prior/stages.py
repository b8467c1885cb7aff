"""What the objective is at each iteration.

The two-stage method is a sequence of two stages; plain DIP is a sequence of one.  What
changes while a stage goes on is the work of its :class:`Control`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dipfast.model.loop_view import LoopView
from dipfast.prior.objective import Goal
from dipfast.state_dict import Values

__all__ = ["Control", "Stage"]


class Control(Protocol):
    """What changes the goal while a stage goes on."""

    def goal(self, view: LoopView, stage: Stage, memory: Values) -> Goal:
        """The goal of the next iteration.

        ``memory`` is empty at the beginning of the stage.  What the control finds out goes there,
        and from there into checkpoints; the control itself does not change.
        """
        ...


@dataclass(frozen=True)
class Stage:
    """A number of iterations with one objective.

    Parameters
    ----------
    name
        Shown in the progress bar and the history.
    iterations
        How many, at least one.
    tv_weight
        lambda of 1/2 || A u - y ||^2 + lambda TV(u), for u in [0, 1].
    control
        What changes the goal as the stage goes on (:mod:`dipfast.prior.controls`); None leaves it
        at the data term and total variation.
    """

    name: str
    iterations: int
    tv_weight: float = 0.0
    control: Control | None = None

    def goal(self, view: LoopView, memory: Values) -> Goal:
        """What the next iteration minimises."""
        if self.control is None:
            return Goal(self.tv_weight)
        return self.control.goal(view, self, memory)
