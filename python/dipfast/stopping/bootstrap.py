"""Stop by the half of the measurement that the fit does not see."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dipfast.denoisers.nl_ridge import nl_ridge
from dipfast.errors import InputError
from dipfast.model.bootstrap import Split, added_noise
from dipfast.model.loop_view import LoopView
from dipfast.model.operators import Identity
from dipfast.stopping.patience import check_share, seek_minimum
from dipfast.stopping.rule import Decision, StopRule

if TYPE_CHECKING:
    from dipfast.model.problem import Problem
    from dipfast.state_dict import Values

__all__ = ["Bootstrap"]

# Iterations from one look to the next: the running average changes slowly.
_EVERY = 5


@dataclass(frozen=True)
class Bootstrap(StopRule):
    r"""Stop at the least distance from a half of the measurement that the fit does not see.

    The network is fitted to :math:`y_+ = y + c w`, and the running average u is judged by
    :math:`y_- = y - w / c`, with w drawn at random from the law of the noise and c = 0.15.  The
    noise of the two is independent (:class:`dipfast.model.bootstrap.Split`), so that

    .. math:: \frac1n \| E[A u] - y_- \|^2

    is the mean square error, but for a constant.  It holds for every noise that has a model, and
    also where the noise of neighbouring pixels is related; it depends on the level of the noise
    being right, by which the measurement is split.

    Parameters
    ----------
    patience
        Share of all iterations without a new minimum after which to stop, in (0, 1].
    seed
        Seed of the noise that is added.
    sign
        1, the default, or -1, which adds the opposite noise: the errors of what a pair of fits with
        opposite signs measure cancel for the most part.

    Raises
    ------
    ValueError
        If the patience is out of its range, or the sign is neither.
    """

    patience: float = 0.2
    seed: int = 0
    sign: int = 1

    def __post_init__(self) -> None:
        check_share("patience", self.patience, one=True)
        if self.sign not in (1, -1):
            raise InputError(f"sign must be 1 or -1, got {self.sign!r}")

    def prepare(self, problem: Problem) -> Problem:
        if problem.noise.is_free:
            return problem
        y, noise = problem.measurement, problem.noise
        pilot = y
        if not noise.is_white and isinstance(problem.operator, Identity):
            pilot = nl_ridge(y, noise, outliers=problem.outliers, speed="fast")
        split = Split(y, self.sign * added_noise(pilot, noise, self.seed))
        return replace(problem, measurement=split.fitted, split=split)

    def update(self, state: LoopView, memory: Values) -> Decision:
        if state.problem.split is None:
            return Decision(best=True)
        if state.iteration % _EVERY and state.iteration != state.iterations:
            return Decision(best=not memory)  # before the first look, the latest is the best
        error = state.problem.unseen_error(state.average)
        return seek_minimum(
            error, state, memory, patience=self.patience, name="the error by the unseen half"
        )
