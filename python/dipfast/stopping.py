"""When enough is enough, without ground truth.

A stop rule sees one state after the other and says when to stop, and why.  To write your
own, give a class an ``update`` method like :meth:`Discrepancy.update`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from dipfast import ops
from dipfast.operators import Operator

if TYPE_CHECKING:
    from dipfast.stages import Stage

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
    """Stop when the averaged image is as far from the measurement as the noise is.

    From there on it could only come closer by taking in noise (Morozov's discrepancy
    principle): mean (A u - y)^2 <= (factor sigma)^2.

    Parameters
    ----------
    measurement, operator
        y and A.
    sigma
        Standard deviation of the noise, for images in [0, 1].
    factor
        Below 1, because the average lags behind the image and an estimated sigma counts
        some texture as noise.
    every
        Iterations from one look to the next; a look waits for the device.

    Notes
    -----
    Stages with total variation are left alone: their distance is the work of the
    regulariser.
    """

    def __init__(
        self,
        measurement: Tensor,
        operator: Operator,
        sigma: float,
        *,
        factor: float = 0.95,
        every: int = 10,
    ) -> None:
        self.measurement = measurement
        self.operator = operator
        self.target = (factor * sigma) ** 2
        self.every = every

    def update(self, state: Observable) -> str | None:
        if state.stage.tv_weight > 0 or state.iteration % self.every:
            return None
        distance = float(ops.mse(self.operator(state.average), self.measurement))
        return "residual at the noise level" if distance <= self.target else None
