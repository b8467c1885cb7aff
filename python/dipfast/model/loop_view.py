"""Define what stop rules and controls can read of the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from dipfast.model.problem import Problem

__all__ = ["LoopView"]


class LoopView(Protocol):
    """Show the loop between two iterations; there is no access to a clean image."""

    @property
    def iteration(self) -> int:
        """Return the number of the last iteration, 0 before the first."""
        ...

    @property
    def iterations(self) -> int:
        """Return the largest possible number of iterations, of all stages together."""
        ...

    @property
    def in_last_stage(self) -> bool:
        """Return whether no other stage follows that of the last iteration."""
        ...

    @property
    def regularised(self) -> bool:
        """Return whether total variation was part of the last objective."""
        ...

    @property
    def image(self) -> Tensor:
        """Return a copy of the network's last output, of shape (N, C, H, W), in [0, 1]."""
        ...

    @property
    def average(self) -> Tensor:
        """Return a copy of the running average of the outputs, of the same shape."""
        ...

    @property
    def problem(self) -> Problem:
        """Return the measurement and its model."""
        ...
