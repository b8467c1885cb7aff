"""Stop by the error of held-out pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from dipfast.model.loop_view import LoopView
from dipfast.model.operators import sees_beyond_border
from dipfast.stopping.patience import check_share, seek_minimum
from dipfast.stopping.rule import Decision, StopRule

if TYPE_CHECKING:
    from dipfast.model.problem import Problem
    from dipfast.state_dict import Values

__all__ = ["HeldOut"]

# So that a mask that was drawn at random with the same seed does not hold what is held out.
_OWN_STREAM = 0x2545F4914F6CDD1D


@dataclass(frozen=True)
class HeldOut(StopRule):
    r"""Stop at the least error of pixels that are held out from the fit.

    A small part h of the measurement is held out from the fit.  The mean squared distance of the
    running average u from it,

    .. math:: \frac{1}{n_h} \| h (A u - y) \|^2
              \approx \frac{1}{n_h} \| h (A u - A u^*) \|^2 + \sigma^2,

    is the mean square error of the image u against the clean image u*, but for a constant,
    whatever the level of the noise, as long as the noise of neighbouring pixels is independent.

    Parameters
    ----------
    fraction
        Share of the pixels to hold out, in (0, 1); all channels of a pixel are held out together.
    patience
        Share of all iterations without a new minimum after which to stop, in (0, 1].
    seed
        Seed of the random choice of the pixels.

    Notes
    -----
    Of a small measurement it may be that no pixel is held out: the rule then does not stop.

    Raises
    ------
    ValueError
        If fraction or patience is out of its range.
    """

    fraction: float = 0.01
    patience: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        check_share("fraction", self.fraction)
        check_share("patience", self.patience, one=True)

    def prepare(self, problem: Problem) -> Problem:
        shape = (1, 1, *problem.measurement.shape[2:])
        generator = torch.Generator().manual_seed((self.seed ^ _OWN_STREAM) % 2**63)
        places = torch.rand(shape, generator=generator, dtype=torch.float32) < self.fraction
        beyond = sees_beyond_border(problem.operator, (shape[2], shape[3]))
        if beyond is not None and not bool(beyond.all()):
            # A wrong guess of what is beyond the border would be taken for an error of the image.
            places &= ~beyond
        held_out = places.to(problem.measurement.device)
        if problem.held_out is not None:
            held_out = held_out | problem.held_out
        prepared = replace(problem, held_out=held_out)
        # Where little was measured it may be all of it.
        return prepared if prepared.count > 0 else problem

    def update(self, state: LoopView, memory: Values) -> Decision:
        unseen = state.problem.held_out_problem
        if unseen is None:
            return Decision(best=True)
        # Not of the residual, whose weights are less for a brighter image where noise grows.
        error = float(unseen.error(state.average).square().sum()) / unseen.count
        return seek_minimum(
            error, state, memory, patience=self.patience, name="the error of held-out pixels"
        )
