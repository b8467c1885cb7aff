"""What was measured, and how: y = A(u) + noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from dipfast.model.noise import NoiseModel
from dipfast.model.operators import Operator, known_mask

__all__ = ["Problem"]


@dataclass(frozen=True)
class Problem:
    """What was measured, and how: y = A(u) + noise.

    Parameters
    ----------
    measurement
        y, of shape (N, C, H, W).
    operator
        A.
    noise
        Its noise.  The data term is 1/2 || r ||^2 with r the difference of y and its
        expectation (:meth:`NoiseModel.residual`), which is A u for white noise.
    held_out
        Elements of y that are kept from the fit, to judge it by: boolean, of the shape of y
        or 1 along its axes; None for none.
    """

    measurement: Tensor
    operator: Operator
    noise: NoiseModel
    held_out: Tensor | None = None

    @cached_property
    def known(self) -> Tensor | None:
        """Which elements of y the fit is to meet; None for all."""
        known = known_mask(self.operator)
        if self.held_out is None:
            return known
        return ~self.held_out if known is None else known & ~self.held_out

    @cached_property
    def count(self) -> int:
        """How many these are."""
        if self.known is None:
            return self.measurement.numel()
        return int(self.known.expand(self.measurement.shape).sum())

    @cached_property
    def held_out_problem(self) -> Problem | None:
        """The problem of the elements that are held out; None if there are none."""
        if self.held_out is None:
            return None
        unseen = replace(self, held_out=~self.held_out)
        return unseen if unseen.count > 0 else None

    def residual(self, image: Tensor) -> Tensor:
        """r for an image u: :meth:`NoiseModel.residual`, 0 where there is none to meet."""
        residual = self.noise.residual(self.operator(image), self.measurement)
        return residual if self.known is None else residual.where(self.known, 0)

    def mean_square(self, image: Tensor) -> float:
        """Mean of r^2 over what the fit is to meet; waits for the device."""
        return float(self.residual(image).square().sum()) / self.count
