"""What the objective is at each iteration.

The two-stage method is a sequence of two stages; plain DIP is a sequence of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

from torch import Tensor

from dipfast import ops
from dipfast.operators import Identity, Operator
from dipfast.ops.arguments import check_choice

__all__ = ["METHODS", "Method", "Stage", "Terms", "objective", "stages_of"]

Method: TypeAlias = Literal["two_stage", "dip", "dip_tv"]
METHODS: tuple[Method, ...] = get_args(Method)


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
    """

    name: str
    iterations: int
    tv_weight: float = 0.0


def stages_of(method: Method, iterations: int, tv_weight: float) -> tuple[Stage, ...]:
    """The stages of a published method.

    Parameters
    ----------
    method
        ``"two_stage"``: total variation for the first third, then without it ("It Takes
        Two to Better Denoise"); ``"dip"``: no total variation (Ulyanov et al. 2018);
        ``"dip_tv"``: total variation throughout (Liu et al. 2019).
    iterations
        Of all stages together.
    tv_weight
        lambda where total variation is used.

    Raises
    ------
    ValueError
        If the method is unknown.

    Examples
    --------
    >>> [(s.name, s.iterations) for s in stages_of("two_stage", 900, 0.1)]
    [('tv', 300), ('details', 600)]
    """
    check_choice("method", method, METHODS)
    stages: tuple[Stage, ...]
    if method == "dip":
        stages = (Stage("dip", iterations),)
    elif method == "dip_tv":
        stages = (Stage("dip_tv", iterations, tv_weight),)
    else:
        first = iterations // 3
        stages = (Stage("tv", first, tv_weight), Stage("details", iterations - first))
    return tuple(stage for stage in stages if stage.iterations > 0)


class Terms(NamedTuple):
    """An objective and its terms, as scalar tensors: value = data + tv_weight tv."""

    value: Tensor
    data: Tensor
    tv: Tensor


def objective(image: Tensor, measurement: Tensor, operator: Operator, tv_weight: float) -> Terms:
    """1/2 || A u - y ||^2 + tv_weight TV(u), sums over all elements.

    Where A is the identity both terms come from one pass of the fused kernel.
    """
    if isinstance(operator, Identity):
        return Terms(*ops.tv_objective(image, measurement, tv_weight, return_terms=True))
    data = 0.5 * (operator(image) - measurement).square().sum()
    tv = ops.total_variation(image)
    return Terms(data + tv_weight * tv, data.detach(), tv.detach())
