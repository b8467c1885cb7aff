"""What the objective is at each iteration.

The two-stage method is a sequence of two stages; plain DIP is a sequence of one.  What
changes while a stage goes on is the work of its :class:`Control`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol

from torch import Tensor

from dipfast import ops
from dipfast.noise import NoiseModel
from dipfast.operators import Identity, Mask, Operator, known_of
from dipfast.values import Values

__all__ = ["Control", "Fitting", "Goal", "Problem", "Stage", "Terms", "objective"]


@dataclass(frozen=True)
class Goal:
    """What one iteration minimises over images u:

        data_weight D(u) + tv_weight TV(u) + guide_weight / 2 || u - guide ||^2

    with D the data term of :class:`Problem`.

    Parameters
    ----------
    tv_weight, data_weight
        Of total variation and of the data term.
    guide
        An image that the output is drawn to, such as the one that an earlier stage ended
        with; None for none.
    guide_weight
        How strongly.
    """

    tv_weight: float = 0.0
    data_weight: float = 1.0
    guide: Tensor | None = None
    guide_weight: float = 0.0


class Fitting(Protocol):
    """What a control may see of the loop, and the one thing that it may do to it."""

    @property
    def iteration(self) -> int: ...
    @property
    def problem(self) -> Problem: ...
    @property
    def output(self) -> Tensor: ...
    def average(self) -> Tensor: ...
    def feed(self, image: Tensor) -> None: ...


class Control(Protocol):
    """What changes the goal while a stage goes on."""

    def goal(self, fitting: Fitting, stage: Stage, memory: Values) -> Goal:
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
        What changes the goal as the stage goes on (:mod:`dipfast.controls`); None leaves it
        at the data term and total variation.
    """

    name: str
    iterations: int
    tv_weight: float = 0.0
    control: Control | None = None

    def goal(self, fitting: Fitting, memory: Values) -> Goal:
        """What the next iteration minimises."""
        if self.control is None:
            return Goal(self.tv_weight)
        return self.control.goal(fitting, self, memory)


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
        known = known_of(self.operator)
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
    def unseen(self) -> Problem | None:
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


class Terms(NamedTuple):
    """An objective and its terms, as scalar tensors: value = data + tv_weight tv, but for a
    goal with a guide."""

    value: Tensor
    data: Tensor
    tv: Tensor


def objective(image: Tensor, problem: Problem, goal: Goal) -> Terms:
    """The goal's objective, sums over all elements.

    Where A is the identity or a mask and the noise is white, data term and total variation come
    from one pass of the fused kernel.
    """
    fused = isinstance(problem.operator, Identity | Mask) and problem.noise.is_white
    if fused and goal.data_weight == 1:
        value, data, tv = ops.tv_objective(
            image,
            problem.measurement,
            goal.tv_weight,
            mask=problem.known,
            channel_axis=1,
            return_terms=True,
        )
    else:
        data = 0.5 * problem.residual(image).square().sum()
        # Without weight it is for reporting, and needs no gradient.
        tv = ops.total_variation(image if goal.tv_weight > 0 else image.detach(), channel_axis=1)
        value = goal.data_weight * data + goal.tv_weight * tv
        data, tv = data.detach(), tv.detach()
    if goal.guide is not None:
        value = value + 0.5 * goal.guide_weight * (image - goal.guide).square().sum()
    return Terms(value, data, tv)
