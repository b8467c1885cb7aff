"""The objective of one iteration, and its terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from dipfast import ops
from dipfast.model.operators import Identity, Mask
from dipfast.model.problem import Problem

__all__ = ["Goal", "Terms", "objective"]


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
    network_input
        An image that takes the place of the first channels of the network's input from this
        iteration on; None leaves the input as it is.
    """

    tv_weight: float = 0.0
    data_weight: float = 1.0
    guide: Tensor | None = None
    guide_weight: float = 0.0
    network_input: Tensor | None = None


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
