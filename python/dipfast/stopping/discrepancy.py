"""The discrepancy principle."""

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
    r"""Stop when the averaged image is as far from the measurement as the noise is.

    From there on it could only come closer by taking in noise (Morozov's discrepancy
    principle):

    .. math:: \operatorname{mean} r^2 \le (factor \cdot \sigma)^2

    with r the residual A u - y, through the expectation of the noise and scaled to its variance
    where the noise is not white, and sigma^2 its variance at medium brightness.

    Parameters
    ----------
    factor
        1, the principle itself, is the default; less gives more detail, and more noise.
    every
        Iterations from one look to the next; a look waits for the device.

    Notes
    -----
    Stages with total variation are left alone: their distance is the work of the
    regulariser.  So is a measurement without noise.
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
        distance = state.problem.mean_square(state.average)
        reached = distance <= self.factor**2 * noise.typical_variance
        return Decision(best=True, stop=StopReason.NOISE_LEVEL if reached else None)
