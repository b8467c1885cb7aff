"""What stop rules and controls may see of the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from dipfast.model.problem import Problem

__all__ = ["LoopView"]


class LoopView(Protocol):
    """The loop between two iterations; the clean image is not among what can be seen.

    Attributes
    ----------
    iteration
        Number of the last iteration, 0 before the first.
    iterations
        How many there are at most, of all stages together.
    in_last_stage
        Whether no other stage follows that of the last iteration.
    regularised
        Whether total variation was part of the last objective.
    image
        The network's last output, of shape (N, C, H, W), in [0, 1].
    average
        The exponential running average of the outputs, of the same shape.
    problem
        What is fitted.
    """

    @property
    def iteration(self) -> int: ...
    @property
    def iterations(self) -> int: ...
    @property
    def in_last_stage(self) -> bool: ...
    @property
    def regularised(self) -> bool: ...
    @property
    def image(self) -> Tensor: ...
    @property
    def average(self) -> Tensor: ...
    @property
    def problem(self) -> Problem: ...
