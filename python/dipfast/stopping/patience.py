"""The minimum of a curve, while it is being drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dipfast.errors import InputError
from dipfast.model.loop_view import LoopView
from dipfast.stop_reason import Stop, StopReason
from dipfast.stopping.rule import Decision

if TYPE_CHECKING:
    from dipfast.state_dict import Values

__all__ = ["check_share", "seek_minimum"]

_LEAST_PATIENCE = 20


def seek_minimum(
    value: float, state: LoopView, memory: Values, *, patience: float, name: str
) -> Decision:
    """Best where the value is the least so far; stop when it has not fallen for long.

    ``patience`` is a share of all iterations, but at least 20 of them: a fit of a few is
    noise.
    """
    if value < float(memory.get("least", math.inf)):
        memory.update(least=value, least_at=state.iteration)
        return Decision(best=True)
    passed = state.iteration - int(memory.setdefault("least_at", state.iteration))
    if passed < max(patience * state.iterations, _LEAST_PATIENCE):
        return Decision(best=False)
    words = f"{name} has not fallen for {passed} iterations"
    return Decision(best=False, stop=Stop(StopReason.MINIMUM, words))


def check_share(name: str, value: float, *, one: bool = False) -> None:
    """Refuse what is not between 0 and 1 (or 1, if that is allowed)."""
    if not (0 < value < 1 or (one and value == 1)):
        raise InputError(f"{name} must be between 0 and 1, got {value!r}")
