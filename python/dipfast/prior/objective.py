"""Compute the objective of one iteration, and its terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from dipfast import ops
from dipfast.model.operators import Identity, Mask
from dipfast.model.problem import Problem

__all__ = ["Goal", "Numbers", "Terms", "objective"]


@dataclass(frozen=True)
class Goal:
    """Describe what one iteration minimises over images u.

    The objective is

        data_weight D(u) + tv_weight TV(u) + guide_weight / 2 || u - guide ||^2

    with D the data term of :class:`~dipfast.model.problem.Problem`.

    Parameters
    ----------
    tv_weight, data_weight
        Weights of total variation and of the data term, from 0 up; the defaults are those of
        plain DIP.
    guide
        An image of the shape of u that the output is drawn to, such as the one that an earlier
        stage ended with; None for none.
    guide_weight
        Weight of the squared distance from the guide, from 0 up; 0 without a guide.
    network_input
        An image that takes the place of the first channels of the network's input from this
        iteration on; None leaves the input as it is.
    input_keeps_scale
        Whether that image goes in as it is; by default it is scaled to the range of the input.
    """

    tv_weight: float = 0.0
    data_weight: float = 1.0
    guide: Tensor | None = None
    guide_weight: float = 0.0
    network_input: Tensor | None = None
    input_keeps_scale: bool = False


class Terms(NamedTuple):
    """Hold the value of an objective and of its terms, as scalar tensors.

    Parameters
    ----------
    value
        The objective: data_weight data + tv_weight tv, plus the term of the guide if the goal has
        one.
    data
        The data term, without its weight.
    tv
        The total variation, without its weight.
    """

    value: Tensor
    data: Tensor
    tv: Tensor


class Numbers(NamedTuple):
    """Hold the same as numbers.

    Parameters
    ----------
    value, data, tv
        Those of :class:`Terms`.
    """

    value: float
    data: float
    tv: float


def objective(image: Tensor, problem: Problem, goal: Goal) -> Terms:
    """Return the objective of a goal, as sums over all elements.

    Where A is the identity or a mask and the noise is white, data term and total variation come
    from one pass of the fused kernel.

    Parameters
    ----------
    image
        The image u, of shape (N, C, H, W), in [0, 1].
    problem
        The measurement and its model.
    goal
        The weights, and the guide.

    Returns
    -------
    Terms
        The objective, which is differentiable with respect to the image, and its terms, which are
        for reporting.
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
        # With weight 0, total variation is only reported and needs no gradient.
        tv = ops.total_variation(image if goal.tv_weight > 0 else image.detach(), channel_axis=1)
        value = goal.data_weight * data + goal.tv_weight * tv
        data, tv = data.detach(), tv.detach()
    if goal.guide is not None:
        value = value + 0.5 * goal.guide_weight * (image - goal.guide).square().sum()
    return Terms(value, data, tv)
