"""Find the minimum of a curve while its values arrive."""

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

# Least number of iterations without a new minimum: in a short fit, a share of them is a few
# iterations, in which a curve may rise by chance.
_LEAST_PATIENCE = 20


def seek_minimum(
    value: float, state: LoopView, memory: Values, *, patience: float, name: str
) -> Decision:
    """Return that an iteration is the best if its value is the least so far, and when to stop.

    Parameters
    ----------
    value
        The value at the last iteration.
    state
        The loop after that iteration.
    memory
        State of the search, empty before the first value: ``"least"`` and ``"least_at"``, the
        least value and its iteration, and ``"from"``, the last iteration before the last stage,
        if there was one; changed in place.
    patience
        Share of all iterations without a new minimum after which to stop; at least 20 iterations,
        because a few may have no new minimum by chance.  Those before the last stage do not count:
        each stage has another objective, and the last one gets its time to fall.
    name
        What the value is, for the reason to stop.

    Returns
    -------
    Decision
        Whether the value is the least so far, and why to stop, which is in the last stage only.
    """
    if not state.in_last_stage:
        memory["from"] = state.iteration
    if value < float(memory.get("least", math.inf)):
        memory.update(least=value, least_at=state.iteration)
        return Decision(best=True)
    least_at = int(memory.setdefault("least_at", state.iteration))
    passed = state.iteration - max(least_at, int(memory.get("from", 0)))
    if passed < max(patience * state.iterations, _LEAST_PATIENCE):
        return Decision(best=False)
    words = f"{name} has not fallen for {passed} iterations"
    return Decision(best=False, stop=Stop(StopReason.MINIMUM, words))


def check_share(name: str, value: float, *, one: bool = False) -> None:
    """Raise an error if a value is not between 0 and 1.

    Parameters
    ----------
    name
        Name of the value, for the message.
    value
        The value to check.
    one
        Whether 1 itself is allowed.

    Raises
    ------
    ValueError
        If the value is not in (0, 1), or (0, 1] if 1 is allowed.
    """
    if not (0 < value < 1 or (one and value == 1)):
        raise InputError(f"{name} must be between 0 and 1, got {value!r}")
