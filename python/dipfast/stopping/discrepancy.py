"""Stop by the discrepancy principle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dipfast.errors import InputError
from dipfast.model.loop_view import LoopView
from dipfast.stop_reason import StopReason
from dipfast.stopping.rule import Decision, StopRule

if TYPE_CHECKING:
    from dipfast.state_dict import Values

__all__ = ["Discrepancy"]


@dataclass(frozen=True)
class Discrepancy(StopRule):
    r"""Stop when the residual of the running average is at the noise level.

    From there on the residual could only become smaller by fitting the noise (Morozov's
    discrepancy principle):

    .. math:: \operatorname{mean} r^2 \le (factor \cdot \sigma)^2

    with r the residual A u - y of the running average u, and sigma^2 the variance of the noise.
    Where the noise is not white, r is the residual from the expectation of the measurement, scaled
    to the variance at medium brightness, and sigma^2 what is expected of its square.

    Parameters
    ----------
    factor
        Factor of the noise level, positive.  1, the default, is the principle itself; less gives
        more detail, and more noise.
    every
        Number of iterations between two checks, from 1 up; 10, because a check waits for the
        device.

    Raises
    ------
    ValueError
        If factor or every is not positive.

    Notes
    -----
    The rule does not stop in stages with total variation, where the regulariser determines the
    residual, nor where the measurement has no noise.
    """

    factor: float = 1.0
    every: int = 10

    def __post_init__(self) -> None:
        if not (self.factor > 0 and self.every >= 1):
            raise InputError(
                f"factor and every must be positive, got {self.factor!r} and {self.every!r}"
            )

    def update(self, state: LoopView, memory: Values) -> Decision:
        noise = state.problem.noise
        if noise.is_free or state.regularised or state.iteration % self.every:
            return Decision(best=True)
        problem, image = state.problem, state.average
        expected = problem.expected_square(image)
        reached = problem.mean_square(image) <= self.factor**2 * expected
        return Decision(best=True, stop=StopReason.NOISE_LEVEL if reached else None)
