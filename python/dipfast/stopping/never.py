"""Define the stop rule that does not stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dipfast.model.loop_view import LoopView
from dipfast.stopping.rule import Decision, StopRule

if TYPE_CHECKING:
    from dipfast.state_dict import Values

__all__ = ["Never"]


@dataclass(frozen=True)
class Never(StopRule):
    """Stop nowhere: run all iterations, and return the last."""

    def update(self, state: LoopView, memory: Values) -> Decision:
        return Decision(best=True)
