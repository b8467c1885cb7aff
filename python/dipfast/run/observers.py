"""Observers of a run: the base class, and the observers that dipfast uses itself.

An observer is called before the first iteration, after each one, and at the end of the run; never
within an iteration.  After any iteration it may ask to end the run.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import torch
from torch import Tensor

from dipfast.prior.loop import State
from dipfast.run.interrupt import Interrupt
from dipfast.state_dict import Values, tensor_of
from dipfast.stop_reason import Stop, StopReason

if TYPE_CHECKING:
    from dipfast.run.runner import Runner

__all__ = [
    "Callback",
    "CallbackObserver",
    "History",
    "InterruptObserver",
    "Observer",
    "Progress",
    "Run",
]


@dataclass(frozen=True)
class Progress:
    """Tell how far a run without iterations has come, or which plane of a stack comes next.

    Parameters
    ----------
    share
        The share that is done, from 0 to 1.
    image
        A picture that is there already, (1, C, H, W), in [0, 1], where a better one follows; None
        where nothing new is.
    plane
        Of a stack, the number of the plane, counted from 0, and how many there are; None for a
        single image.  One with a share of 0 comes before each plane.
    tiles
        How many tiles the picture is cut into, which are fitted one after the other; 0 where it is
        not cut.
    tile
        Rows and columns of a tile; 0 where the picture is not cut.
    """

    share: float
    image: Tensor | None = None
    plane: tuple[int, int] | None = None
    tiles: int = 0
    tile: int = 0


Callback: TypeAlias = Callable[[State], object] | Callable[[Progress], object]

# Columns of a history are arrays of 64-bit integers or floats, which take less memory than lists.
_DTYPES = {"q": torch.int64, "d": torch.float64}
_KINDS = {dtype: kind for kind, dtype in _DTYPES.items()}


class Run(Protocol):
    """A run as observers see it before and after its iterations: what checkpoints need of it."""

    stop: Stop | None

    def state_dict(self) -> Values:
        """Return the state of the run for a checkpoint.

        Returns
        -------
        dict
            Tensors, numbers and texts by name.
        """

    def load(self, values: Values) -> None:
        """Restore a state of :meth:`state_dict`.

        Parameters
        ----------
        values
            The state.
        """


class Observer:
    """Observe a run; the base class, of which any method may be overridden.

    Attributes
    ----------
    name
        The name of the part of a checkpoint that keeps :meth:`state_dict`; with the empty name,
        the default, the observer is not part of checkpoints.

    Examples
    --------
    >>> class Print(Observer):
    ...     def observe(self, run, state):
    ...         print(state.iteration, f"{state.numbers.value:.3f}")
    """

    name: ClassVar[str] = ""

    def begin(self, run: Run) -> None:
        """Observe a run before its first iteration.

        Parameters
        ----------
        run
            The run.
        """

    def observe(self, run: Runner, state: State) -> Stop | StopReason | None:
        """Observe an iteration that was not undone.

        Parameters
        ----------
        run
            The run.
        state
            The iteration, valid during this call.

        Returns
        -------
        Stop or StopReason or None
            The reason to end the run; None to continue.
        """

    def progress(self, share: float) -> Stop | StopReason | None:
        """Observe a run of a method that fits no network, which calls nothing else.

        Parameters
        ----------
        share
            The share that is done, from 0 to 1; reported a few times a second.

        Returns
        -------
        Stop or StopReason or None
            The reason to end the run, with the image of the last step that was finished, and
            without one before the first; None to continue.
        """

    def begin_fit(self, run: Run) -> None:
        """Observe a run of several fits before the first iteration of another one.

        Parameters
        ----------
        run
            The run.
        """

    def picture(self, share: float, image: Tensor) -> Stop | StopReason | None:
        """Observe a picture that is there already, before a run that makes a better one goes on.

        Parameters
        ----------
        share
            The share of the iterations that are done, from 0 to 1.
        image
            The picture, (1, C, H, W), in [0, 1], and stretched where the fit is.

        Returns
        -------
        Stop or StopReason or None
            The reason to end the run with that picture; None to continue.
        """

    def end(self, run: Run) -> None:
        """Observe a run that has ended.

        Parameters
        ----------
        run
            The run; ``run.stop`` is the reason.
        """

    def state_dict(self) -> Values:
        """Return the state of the observer for a checkpoint.

        Returns
        -------
        dict
            Tensors, numbers and texts by name; empty by default.
        """
        return {}

    def load(self, values: Values) -> None:
        """Restore a state of :meth:`state_dict`.

        Parameters
        ----------
        values
            The state.
        """


class History(Observer):
    """Keep the numbers of each iteration: a column for each number, an entry for each iteration."""

    name = "history"

    def __init__(self) -> None:
        self._columns: dict[str, array[Any]] = {}

    def observe(self, run: Runner, state: State) -> None:
        row = {
            "iteration": state.iteration,
            "stage": run.job.stages.index(state.stage),
            "loss": state.numbers.value,
            "data": state.numbers.data,
            "tv": state.numbers.tv,
            **{name: float(value) for name, value in state.metrics.items()},
        }
        for name, value in row.items():
            kind = "q" if isinstance(value, int) else "d"
            self._columns.setdefault(name, array(kind)).append(value)

    @property
    def last(self) -> dict[str, Any]:
        """Return the numbers of the last iteration; empty before the first."""
        return {name: column[-1] for name, column in self._columns.items()}

    def columns(self, stages: list[str]) -> dict[str, list[Any]]:
        """Return the history with the names of the stages.

        Parameters
        ----------
        stages
            The names of the stages, in order.

        Returns
        -------
        dict
            One list for each column, one entry for each iteration.
        """
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
    """Call a function with the state of each iteration, or with a :class:`Progress`.

    Parameters
    ----------
    callback
        The function, which may raise StopIteration to end the run; what it returns is ignored.
    plane
        The plane of a stack (:class:`Progress`); None, the default, for a single image.
    tiles, tile
        How many tiles there are, and the side of one (:class:`Progress`); 0, the default, for a
        picture that is not cut.
    """

    def __init__(
        self,
        callback: Callback,
        plane: tuple[int, int] | None = None,
        tiles: int = 0,
        tile: int = 0,
    ) -> None:
        self.callback = callback
        self.plane = plane
        self.tiles, self.tile = tiles, tile

    def observe(self, run: Runner, state: State) -> StopReason | None:
        return self._call(state)

    def progress(self, share: float) -> StopReason | None:
        return self._call(Progress(share, None, self.plane, self.tiles, self.tile))

    def picture(self, share: float, image: Tensor) -> StopReason | None:
        return self._call(Progress(share, image, self.plane, self.tiles, self.tile))

    def _call(self, state: Any) -> StopReason | None:
        try:
            self.callback(state)
        except StopIteration:
            return StopReason.CALLBACK
        return None


class InterruptObserver(Observer):
    """End a run when an interrupt asks for it.

    Parameters
    ----------
    interrupt
        The interrupt, which is read after each iteration.
    """

    def __init__(self, interrupt: Interrupt) -> None:
        self.interrupt = interrupt

    def observe(self, run: Runner, state: State) -> Stop | None:
        return self._asked()

    def progress(self, share: float) -> Stop | None:
        return self._asked()

    def picture(self, share: float, image: Tensor) -> Stop | None:
        return self._asked()

    def _asked(self) -> Stop | None:
        return self.interrupt.stop_asked if self.interrupt.requested else None
