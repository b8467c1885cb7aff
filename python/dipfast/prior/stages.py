"""Define the objective of each iteration.

The two-stage method is a sequence of two stages; plain deep image prior (DIP) is a sequence of
one.  Where the objective changes within a stage, the stage's :class:`Control` changes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dipfast.model.loop_view import LoopView
from dipfast.prior.objective import Goal
from dipfast.state_dict import Values

__all__ = ["Control", "Stage"]


class Control(Protocol):
    """Change the goal from iteration to iteration within a stage."""

    def goal(self, view: LoopView, stage: Stage, memory: Values) -> Goal:
        """Return the goal of the next iteration.

        Parameters
        ----------
        view
            The loop between two iterations.
        stage
            The stage that the control belongs to.
        memory
            State of the control, empty at the beginning of the stage.  The method changes it in
            place, and checkpoints hold it: tensors, numbers and texts by name, as others are
            refused.  The control itself does not change.

        Returns
        -------
        Goal
            What the next iteration minimises.
        """
        ...


@dataclass(frozen=True)
class Stage:
    """Describe a number of iterations with one objective.

    Parameters
    ----------
    name
        Name of the stage in the progress bar and the history.
    iterations
        Number of iterations, at least one.
    tv_weight
        Weight lambda of 1/2 || A u - y ||^2 + lambda TV(u), for u in [0, 1], from 0 up; the
        default of 0 is plain DIP.
    control
        Changes the goal from iteration to iteration (:mod:`dipfast.prior.controls`); None keeps
        the data term and total variation with the weight ``tv_weight`` throughout.
    """

    name: str
    iterations: int
    tv_weight: float = 0.0
    control: Control | None = None

    def goal(self, view: LoopView, memory: Values) -> Goal:
        """Return what the next iteration minimises.

        Parameters
        ----------
        view
            The loop between two iterations.
        memory
            State of the control, empty at the beginning of the stage; changed in place.

        Returns
        -------
        Goal
            The goal of the control, or, without one, data term and total variation.
        """
        if self.control is None:
            return Goal(self.tv_weight)
        return self.control.goal(view, self, memory)
