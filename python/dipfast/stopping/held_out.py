"""Held-out pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from dipfast.model.loop_view import LoopView
from dipfast.stopping.patience import check_share, seek_minimum
from dipfast.stopping.rule import Decision, StopRule

if TYPE_CHECKING:
    from dipfast.model.problem import Problem
    from dipfast.state_dict import Values

__all__ = ["HeldOut"]


@dataclass(frozen=True)
class HeldOut(StopRule):
    r"""Stop where pixels that the fit has not seen are met best.

    A small part h of the measurement is kept from the fit.  The distance of the averaged
    image u from it,

    .. math:: \frac{1}{n_h} \| h (A u - y) \|^2
              \approx \frac{1}{n_h} \| h (A u - A u^*) \|^2 + \sigma^2,

    is the error of the image u against the clean one u*, but for a constant, whatever the level
    of the noise, as long as that of one pixel says nothing of its neighbours'.

    Parameters
    ----------
    fraction
        Of the measured pixels to hold out; all channels of a pixel together.
    patience
        Share of all iterations without a new minimum after which it ends.
    seed
        Of their choice.
    """

    fraction: float = 0.01
    patience: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        check_share("fraction", self.fraction)
        check_share("patience", self.patience, one=True)

    def prepare(self, problem: Problem) -> Problem:
        shape = (1, 1, *problem.measurement.shape[2:])
        generator = torch.Generator().manual_seed(self.seed)
        places = torch.rand(shape, generator=generator, dtype=torch.float32) < self.fraction
        held_out = places.to(problem.measurement.device)
        if problem.held_out is not None:
            held_out = held_out | problem.held_out
        return replace(problem, held_out=held_out)

    def update(self, state: LoopView, memory: Values) -> Decision:
        unseen = state.problem.held_out_problem
        if unseen is None:
            return Decision(best=True)
        error = unseen.mean_square(state.average)
        decision = seek_minimum(
            error, state, memory, patience=self.patience, name="the error of held-out pixels"
        )
        return decision if state.in_last_stage else decision._replace(stop=None)
