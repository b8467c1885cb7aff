"""No rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dipfast.stopping.rule import Observable, StopRule, Verdict

if TYPE_CHECKING:
    from dipfast.values import Values

__all__ = ["Never"]


@dataclass(frozen=True)
class Never(StopRule):
    """Run all iterations, and return the last."""

    def update(self, state: Observable, memory: Values) -> Verdict:
        return Verdict(best=True)
