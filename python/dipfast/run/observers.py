"""What looks at a run: one small protocol, and the observers that come with dipfast.

Nothing of an observer is inside an iteration.  It sees the run before the first iteration, after
each, and at the end, and may say after any of them that the run is to end.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import torch

from dipfast.prior.loop import State
from dipfast.run.interrupt import Interrupt
from dipfast.state_dict import Values, tensor_of
from dipfast.stop_reason import Stop, StopReason

if TYPE_CHECKING:
    from dipfast.run.runner import Runner

__all__ = ["Callback", "CallbackObserver", "History", "InterruptObserver", "Observer"]

Callback: TypeAlias = Callable[[State], object]

# Columns of a history are arrays of integers or of floating point: lists are larger.
_DTYPES = {"q": torch.int64, "d": torch.float64}
_KINDS = {dtype: kind for kind, dtype in _DTYPES.items()}


class Observer:
    """Look at a run.  Derive from it and override what is needed.

    Attributes
    ----------
    name
        The part of a checkpoint that :meth:`state_dict` is kept under; empty keeps nothing.

    Examples
    --------
    >>> class Print(Observer):
    ...     def observe(self, run, state):
    ...         print(state.iteration, f"{float(state.terms.value):.3f}")
    """

    name: ClassVar[str] = ""

    def begin(self, run: Runner) -> None:
        """Look at a run before its first iteration."""

    def observe(self, run: Runner, state: State) -> Stop | StopReason | None:
        """Look at an iteration that counts, and say why to end the run, or None to go on."""

    def end(self, run: Runner) -> None:
        """Look at a run that has ended."""

    def state_dict(self) -> Values:
        """Return what a run that is resumed has to know."""
        return {}

    def load(self, values: Values) -> None:
        """Go on from :meth:`state_dict`."""


class History(Observer):
    """Keep the numbers of each iteration: one column each, an entry for each iteration."""

    name = "history"

    def __init__(self) -> None:
        self._columns: dict[str, array[Any]] = {}

    def observe(self, run: Runner, state: State) -> None:
        terms = state.terms
        row = {
            "iteration": state.iteration,
            "stage": run.prior.stages.index(state.stage),
            "loss": float(terms.value),
            "data": float(terms.data),
            "tv": float(terms.tv),
            **{name: float(value) for name, value in state.metrics.items()},
        }
        for name, value in row.items():
            kind = "q" if isinstance(value, int) else "d"
            self._columns.setdefault(name, array(kind)).append(value)

    @property
    def last(self) -> dict[str, Any]:
        """The numbers of the last iteration; empty before the first."""
        return {name: column[-1] for name, column in self._columns.items()}

    def columns(self, stages: list[str]) -> dict[str, list[Any]]:
        """Return one list for each column; stages are named."""
        return {
            name: [stages[k] for k in column] if name == "stage" else list(column)
            for name, column in self._columns.items()
        }

    def state_dict(self) -> Values:
        return {
            name: torch.tensor(list(column), dtype=_DTYPES[column.typecode])
            for name, column in self._columns.items()
        }

    def load(self, values: Values) -> None:
        self._columns = {
            name: array(_KINDS[tensor.dtype], tensor.tolist())
            for name in values
            if (tensor := tensor_of(values, name)).dtype in _KINDS
        }


class CallbackObserver(Observer):
    """Call a function with each state; it may raise StopIteration to end the run."""

    def __init__(self, callback: Callback) -> None:
        self.callback = callback

    def observe(self, run: Runner, state: State) -> StopReason | None:
        try:
            self.callback(state)
        except StopIteration:
            return StopReason.CALLBACK
        return None


class InterruptObserver(Observer):
    """End a run when an :class:`~dipfast.run.interrupt.Interrupt` asks for it."""

    def __init__(self, interrupt: Interrupt) -> None:
        self.interrupt = interrupt

    def observe(self, run: Runner, state: State) -> Stop | None:
        return self.interrupt.stop_asked if self.interrupt.requested else None
