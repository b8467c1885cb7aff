"""A run: a task on the array of a layer, in a thread, which the widget asks how far it is."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from dipfast.apps.napari.layers import Source
from dipfast.apps.studio.units import Unit, find_range, picture_of_fit
from dipfast.settings.names import DIRECT_METHODS, TaskName
from dipfast.settings.settings import SETTINGS, decide_method, make_settings
from dipfast.warn import warnings_told

if TYPE_CHECKING:
    from torch import Tensor

    from dipfast.prior.loop import State
    from dipfast.run.observers import Progress
    from dipfast.run.result import Result

__all__ = ["Done", "Run", "View"]

# Seconds from one picture to the next.
_BETWEEN_PICTURES = 1.0
# The share of the work after which the time that is left is told.
_TOLD_FROM = 0.02
# Pictures of iterations that are kept, and the memory for them in megabytes.
_SNAPSHOTS, _MOST_MEGABYTES = 40, 256.0
_STOPPED = "stopped by hand"


@dataclass(frozen=True)
class View:
    """Hold how far a run is at one moment.

    Attributes
    ----------
    step
        What it does, in words.
    share
        The share of that which is done, from 0 to 1; None where it is not known.
    seconds_left
        The seconds that it will take, at most; None where that is not known.
    """

    step: str
    share: float | None = None
    seconds_left: float | None = None


@dataclass(frozen=True, eq=False)
class Done:
    """Hold what a run has made.

    Attributes
    ----------
    image
        The restored image, with the axes of the layer.
    result
        What the task returned.
    frames
        Pictures of iterations, along one more axis in front of those of the layer; None for none.
    iterations
        The iteration of each of them; of a stack, a list for each plane.
    notes
        What the library warned of.
    """

    image: Any
    result: Result
    frames: Any = None
    iterations: tuple[Any, ...] = ()
    notes: tuple[str, ...] = ()


class Run:
    """Restore an array in a thread, and tell another one how far it is.

    Parameters
    ----------
    task
        The task.
    source
        What is restored.
    options
        Options of the task.
    find_mask
        Called in the thread that computes for the missing pixels; None, the default, where there
        are none but NaN.
    keeps_snapshots
        Whether pictures of some iterations are kept.

    Attributes
    ----------
    is_cancelled
        Called in the thread that computes, for whether the run is to end; never, by default.
    """

    def __init__(
        self,
        task: TaskName,
        source: Source,
        options: dict[str, Any],
        find_mask: Callable[[], Any] | None = None,
        *,
        keeps_snapshots: bool = False,
    ) -> None:
        from dipfast.run.interrupt import Interrupt

        self.task, self.source, self.options = task, source, options
        self.factor = int(options.get("factor", 1))
        self.is_cancelled: Callable[[], bool] = bool
        self._find_mask = find_mask
        self._keeps_snapshots = keeps_snapshots
        self._missing: Any = None
        self._interrupt = Interrupt()
        self._lock = threading.Lock()
        self._notes: list[str] = []
        # The step at hand.
        self._step = "Looking at the picture"
        self._share: float | None = None
        self._began = time.monotonic()
        # Of a stack, the plane at hand, counted from 0.
        self._plane = 0
        self._fits = False
        self._unit: Unit | None = None
        self._unit_of = self._looked_at = -1
        self._range: tuple[float, float] | None = None
        # Pictures: the latest one of what would be kept, or of a fit that is joined with nothing,
        # and the array that they are put into.
        self._is_joined = False
        self._shown: Any = None
        self._is_new = False
        self._shown_at = 0.0

    # --- for the widget ----------------------------------------------------------------------

    @property
    def is_stopping(self) -> bool:
        """Say whether it was asked to stop."""
        return self._interrupt.stop_asked is not None

    def look(self) -> View:
        """Return how far the run is."""
        with self._lock:
            if self.is_stopping:
                return View("Stopping after this step")
            left, passed = None, time.monotonic() - self._began
            if self._share is not None and _TOLD_FROM < self._share < 1:
                left = passed * (1 - self._share) / self._share
            return View(self._step, self._share, left)

    def new_picture(self) -> Any:
        """Return what would be kept now, or the fit at work, in the form of :attr:`Done.image`.

        Returns
        -------
        numpy.ndarray or None
            The picture, a copy; None if it has not changed.
        """
        with self._lock:
            if not self._is_new:
                return None
            self._is_new = False
            return self.source.finished(self._shown.copy())

    def stop(self) -> None:
        """End the run after the step at hand, and keep what there is."""
        self._interrupt.stop(_STOPPED)

    # --- in the thread that computes ---------------------------------------------------------

    def compute(self) -> Done:
        """Do the work.

        Returns
        -------
        Done
            What was made.

        Raises
        ------
        DipfastError, OSError, MemoryError
            If the image or an option cannot be.
        """
        _load_triton()
        import dipfast

        method = decide_method(make_settings(SETTINGS[self.task], self.options))
        self._fits = not (isinstance(method, str) and method in DIRECT_METHODS)
        own: dict[str, Any] = {}
        if self.task == "inpaint":
            self._missing = None if self._find_mask is None else self._find_mask()
            own["mask"] = self._missing
        if self._keeps_snapshots:
            own["snapshots"] = self._megabytes()
        with warnings_told(self._notes.append):
            result: Result = getattr(dipfast, self.task)(
                self.source.image,
                callback=self._observe,
                interrupt=self._interrupt,
                **own,
                **self.options,
                **self.source.axes,
            )
        notes = [*self._notes, *([result.unfinished] if result.unfinished else ())]
        frames, iterations = self._frames(result)
        return Done(
            self.source.finished(result.image),
            result,
            frames,
            iterations,
            tuple(dict.fromkeys(notes)),
        )

    def _megabytes(self) -> float:
        """Return the memory for the pictures of iterations, which all planes share."""
        values: float = self.source.image.size * self.factor**2
        return min(_SNAPSHOTS * 4 * values / 1e6, _MOST_MEGABYTES)

    def _frames(self, result: Result) -> tuple[Any, tuple[Any, ...]]:
        """Return the pictures of iterations along an axis, and their iterations."""
        planes: dict[int, list[Any]] = {}
        for snapshot in result.snapshots:
            planes.setdefault(snapshot.item, []).append(snapshot)
        # A plane with fewer pictures keeps its last one.
        count = max(map(len, planes.values()), default=0)
        if not count:
            return None, ()
        frames, iterations = [], []
        for place in range(count):
            whole = result.image.copy()
            kept = {item: made[min(place, len(made) - 1)] for item, made in planes.items()}
            for item, snapshot in kept.items():
                self._put(whole, item, snapshot.image)
            frames.append(self.source.finished(whole))
            numbers = [snapshot.iteration for snapshot in kept.values()]
            iterations.append(numbers[0] if self.source.count == 1 else numbers)
        return np.stack(frames), tuple(iterations)

    def _put(self, whole: Any, item: int, plane: Any) -> None:
        """Put one plane of a stack in its place, or a single image."""
        stacked = self.source.axes["stack_axis"] or ()
        index = np.unravel_index(item, whole.shape[: len(stacked)]) if stacked else ()
        whole[index] = plane.reshape(whole[index].shape)

    def _observe(self, state: State | Progress) -> None:
        """Take what the library tells of a run while it goes on."""
        from dipfast.run.observers import Progress

        if self.is_cancelled():
            self.stop()
        if isinstance(state, Progress):
            if state.plane is not None and state.plane[0] != self._plane:
                self._plane, self._is_joined = state.plane[0], False
            if state.image is None:
                fits_tiles = bool(state.tiles) and self._is_joined
                # What comes before the fits of a plane is short beside them.
                is_first = self._fits and self.source.count > 1 and not fits_tiles
                step = "Fitting tiles" if fits_tiles else "First picture"
                self._advance(step, 0.0 if is_first else state.share)
                return
            self._is_joined = True
            self._advance("Fitting tiles" if state.tiles else "Fitting networks", state.share)
            if self._looked_at != self._plane:
                self._unit_here().look_at(state.image)
            self._show(state.image)
            return
        self._advance(
            f"Iteration {state.iteration} of {state.iterations}, {state.stage.name}",
            state.iteration / state.iterations,
        )
        if self._looked_at != self._plane:
            self._unit_here().look_at(state.problem.measurement)
            self._looked_at = self._plane
        if not self._is_joined and time.monotonic() - self._shown_at >= _BETWEEN_PICTURES:
            self._show(picture_of_fit(state))

    def _advance(self, step: str, share: float) -> None:
        count = self.source.count
        with self._lock:
            if count > 1:
                step = f"Plane {self._plane + 1} of {count}, {step[0].lower()}{step[1:]}"
                share = max((self._plane + share) / count, self._share or 0.0)
            elif self._share is None or share < self._share:
                self._began = time.monotonic()
            self._step, self._share = step, share

    def _unit_here(self) -> Unit:
        """Return the unit of the plane at hand."""
        if self._unit is None or self._unit_of != self._plane:
            image, missing = self.source.image, self._missing
            if self._range is None:
                self._range = find_range(image, missing)
            stacked = self.source.axes["stack_axis"]
            if stacked:
                index = np.unravel_index(self._plane, image.shape[: len(stacked)])
                image, missing = image[index], None if missing is None else missing[index]
            self._unit = Unit(self.task, image, missing, self._range)
            self._unit_of = self._plane
        return self._unit

    def _show(self, image: Tensor) -> None:
        picture = self._unit_here().picture(image)
        with self._lock:
            if self._shown is None:
                # What a stack has no picture of yet is as it was.
                self._shown = self.source.enlarged(self.source.image, self.factor)
            self._put(self._shown, self._plane, picture)
            self._is_new = True
        self._shown_at = time.monotonic()


def _load_triton() -> None:
    """Load Triton, which PyTorch loads anyway, so that it keeps to its own LLVM.

    The OpenGL of Mesa, which has drawn the viewer already, may have loaded another LLVM, whose
    functions have the same names: Triton would call those, and the process would end.
    """
    deep = getattr(os, "RTLD_DEEPBIND", 0)  # of Linux alone
    if not deep or "triton" in sys.modules or find_spec("triton") is None:
        return
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | deep)
    try:
        import triton  # noqa: F401
    except ImportError:  # a broken one is PyTorch's affair
        pass
    finally:
        sys.setdlopenflags(flags)
