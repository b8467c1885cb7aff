"""When enough is enough, without ground truth.

A stop rule sees one state after the other and says when to stop, and why.  To write your
own, give a class an ``update`` method like :meth:`Discrepancy.update`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from dipfast.stages import Problem, Stage

__all__ = ["Discrepancy", "Observable", "StopRule"]


class Observable(Protocol):
    """What a rule may look at: an iteration, its stage, and the images."""

    @property
    def iteration(self) -> int: ...
    @property
    def stage(self) -> Stage: ...
    @property
    def image(self) -> Tensor: ...
    @property
    def average(self) -> Tensor: ...


class StopRule(Protocol):
    """Looks at every state; returns the reason to stop, or None to go on."""

    def update(self, state: Observable) -> str | None: ...


class Discrepancy:
    r"""Stop when the averaged image is as far from the measurement as the noise is.

    From there on it could only come closer by taking in noise (Morozov's discrepancy
    principle):

    .. math:: \operatorname{mean} r^2 \le (factor \cdot \sigma)^2

    with r the residual A u - y, through the expectation of the noise and scaled to its variance
    where the noise is not white, and sigma^2 its variance at medium brightness.

    Parameters
    ----------
    problem
        Measurement, operator and noise.
    factor
        1, the principle itself, is the default; less gives more detail, and more noise.
    every
        Iterations from one look to the next; a look waits for the device.

    Notes
    -----
    Stages with total variation are left alone: their distance is the work of the
    regulariser.  So is a measurement without noise.
    """

    def __init__(self, problem: Problem, *, factor: float = 1.0, every: int = 10) -> None:
        self.problem = problem
        self.target = factor**2 * problem.noise.typical_variance
        self.every = every

    def update(self, state: Observable) -> str | None:
        if self.problem.noise.is_free or state.stage.tv_weight > 0 or state.iteration % self.every:
            return None
        distance = self.problem.mean_square(state.average)
        return "residual at the noise level" if distance <= self.target else None
