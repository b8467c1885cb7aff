"""Runs: one at a time computes, the others wait, and pages look at all of them."""

from __future__ import annotations

import itertools
import math
import secrets
import shutil
import tempfile
import threading
import time
import traceback
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from dipfast.apps.notes import message_of
from dipfast.apps.page.charts import Curve, chart
from dipfast.apps.studio.orders import Order
from dipfast.apps.studio.pictures import Picture, copied, plain_name
from dipfast.apps.studio.previews import Preview, preview, shrunk
from dipfast.apps.studio.units import Unit, picture_of_fit
from dipfast.errors import DipfastError, InputError
from dipfast.images.files import formats
from dipfast.warn import warnings_told

if TYPE_CHECKING:
    from torch import Tensor

    from dipfast.images.files import ImageFile
    from dipfast.prior.loop import State
    from dipfast.run.observers import Progress
    from dipfast.run.result import Result

__all__ = ["LARGEST_UPLOAD", "Frame", "Registry", "Run", "View"]

LARGEST_UPLOAD = 512 * 10**6
"""Bytes of a file that is sent to the studio, at most."""

Status: TypeAlias = Literal["waiting", "running", "done", "failed", "cancelled"]

# Seconds from one live picture to the next, and from one drawing of the curve to the next.
_BETWEEN_PICTURES, _BETWEEN_CURVES = 1.0, 2.0
# A page asks a few times a second; after so many seconds nobody is looking.
_LOOKING = 5.0
# The rate of the iterations is that of the last so many seconds.
_RATE_SECONDS = 20.0
# Pictures of iterations that are kept for the end, and the memory for them in megabytes.
_SNAPSHOTS, _MOST_MEGABYTES = 40, 256.0
_STOPPED = "stopped by hand"


@dataclass(frozen=True)
class View:
    """Hold what a page shows of a run at one moment.

    Attributes
    ----------
    status
        What the run does.
    headline
        That in words.
    share
        The share of the step at hand that is done, from 0 to 1; None where it is not known.
    seconds_left
        The most seconds that the step at hand will take; None where that is not known.
    stage
        The name of the stage of the fit; empty where there is none.
    picture
        The number of the latest picture of what would be kept, which grows with each; 0 where there
        is none.  Of a fit that is joined with nothing it is the fit at work.
    fit
        The number of the latest picture of the fit alone, where it is another one; else 0.
    is_fit
        Whether ``picture`` is the fit at work, of which another picture may be kept.
    notes
        What the library warned of.
    error
        Why the run failed; empty if it did not.
    is_stopping
        Whether it was asked to stop.
    """

    status: Status
    headline: str
    share: float | None = None
    seconds_left: float | None = None
    stage: str = ""
    picture: int = 0
    fit: int = 0
    is_fit: bool = False
    notes: tuple[str, ...] = ()
    error: str = ""
    is_stopping: bool = False

    @property
    def is_over(self) -> bool:
        """Return whether nothing more will come."""
        return self.status in ("done", "failed", "cancelled")


@dataclass(frozen=True, eq=False)
class Frame:
    """Hold one of the pictures that can be chosen when a run is over.

    Attributes
    ----------
    name
        What it is, in words.
    image
        The picture, in the form of the result.
    iteration
        Its iteration; 0 for none.
    is_automatic
        Whether it is the one that the run itself has chosen.
    """

    name: str
    image: Any
    iteration: int = 0
    is_automatic: bool = False


class _ClosedError(Exception):
    """End a run at once, whose result nobody will see."""


@dataclass(eq=False)
class _Live:
    """Hold a picture of a run that goes on, its number, and how it was shown last."""

    image: Tensor | None = None
    number: int = 0
    made_at: float = -math.inf
    rendered: tuple[int, Preview] | None = None


class Run:
    """Restore one picture in a thread of the registry, and tell pages how far it is.

    Parameters
    ----------
    number
        The number that it has in addresses.
    picture
        The picture.
    order
        What is to be done with it.
    folder
        Where its files are, which is there already.
    """

    def __init__(self, number: int, picture: Picture, order: Order, folder: Path) -> None:
        from dipfast.run.interrupt import Interrupt

        self.number = number
        self.picture = picture
        self.order = order
        self._folder = folder
        self._interrupt = Interrupt()
        self._is_closed = False
        self._lock = threading.RLock()
        self._status: Status = "waiting"
        self._error = ""
        self._notes: list[str] = [*picture.notes, *order.notes]
        self._looked_at = -_LOOKING
        # Of the step at hand: when it began, its share, and iterations with their times.
        self._step = ""
        self._step_began = 0.0
        self._share: float | None = None
        self._times: deque[tuple[float, int]] = deque()
        self._iterations = 0
        self._stage = ""
        # Live pictures: of what would be kept, and of a fit that will be joined with that.  A fit
        # that is joined with nothing is shown in the place of the former.
        self._kept_live, self._fit_live = _Live(), _Live()
        self._is_joined = self._shows_fit = False
        # Of the curve.
        self._losses, self._at, self._stages = array("d"), array("q"), list[str]()
        self._curve = (-_BETWEEN_CURVES, 0, "")
        # Of live pictures, which are shown as bright as the input.
        self._unit: Unit | None = None
        self._knows_measurement = False
        # Of the end.
        self._result: Result | None = None
        self._frames: list[Frame] = []
        self._kept = 0
        self._previews: dict[int, Preview] = {}
        self._saving = threading.Lock()

    # --- for pages ---------------------------------------------------------------------------

    def look(self, *, watches: bool = True) -> View:
        """Return how far the run is.

        Parameters
        ----------
        watches
            Whether the picture is looked at, too: live pictures are made only for those who do.

        Returns
        -------
        View
            What there is to show.
        """
        with self._lock:
            if watches:
                self._looked_at = time.monotonic()
            return View(
                status=self._status,
                headline=self._headline(),
                share=self._share if self._status == "running" else None,
                seconds_left=self._seconds_left() if self._status == "running" else None,
                stage=self._stage if self._status == "running" else "",
                picture=self._kept_live.number,
                fit=self._fit_live.number if self._status == "running" else 0,
                is_fit=self._status == "running" and self._shows_fit,
                notes=tuple(dict.fromkeys(self._notes)),
                error=self._error,
                is_stopping=self._interrupt.stop_asked is not None,
            )

    def _headline(self) -> str:
        if self._status == "running":
            if self._interrupt.stop_asked is not None:
                return "Stopping after this step"
            return self._step or "Looking at the picture"
        ends: dict[Status, str] = {
            "waiting": "Waiting for another run",
            "done": "Done",
            "failed": "This did not work",
            "cancelled": "Cancelled before it began",
        }
        if self._status == "done" and self._interrupt.stop_asked is not None:
            return "Stopped, and kept"
        return ends[self._status]

    def _seconds_left(self) -> float | None:
        now = time.monotonic()
        if len(self._times) > 1:
            (first, at_first), (last, at_last) = self._times[0], self._times[-1]
            if at_last > at_first:
                each = (last - first) / (at_last - at_first)
                return max(each * (self._iterations - at_last) - (now - last), 0.0)
        if self._share is not None and 0.02 < self._share < 1 and not self._iterations:
            return (now - self._step_began) * (1 - self._share) / self._share
        return None

    def live(self, *, of_fit: bool = False) -> Preview | None:
        """Return the latest picture while the run goes on.

        Parameters
        ----------
        of_fit
            Whether that of the fit alone is asked for, and not what would be kept.

        Returns
        -------
        Preview or None
            The picture; None if there is none, and when the run is over.
        """
        live = self._fit_live if of_fit else self._kept_live
        with self._lock:
            number, image, rendered = live.number, live.image, live.rendered
        if image is None:
            return None
        if rendered is None or rendered[0] != number:
            assert self._unit is not None  # it was there before the picture
            made = self._unit.picture(image)
            axis = None if made.ndim == 2 else 2
            rendered = number, preview(made, axis, self.picture.shown)
            with self._lock:
                live.rendered = rendered
        return rendered[1]

    def curve(self) -> str:
        """Return the objective over the iterations as SVG; empty if there are too few.

        Returns
        -------
        str
            An element ``<svg>``.
        """
        with self._lock:
            now, count = time.monotonic(), len(self._at)
            drawn_at, drawn_count, drawn = self._curve
            is_over = self._status not in ("waiting", "running")
            if count == drawn_count or (now - drawn_at < _BETWEEN_CURVES and not is_over):
                return drawn
            iterations, losses, stages = list(self._at), list(self._losses), list(self._stages)
        drawn = ""
        if len(iterations) > 1:
            curve = Curve("objective", "one", losses)
            title = "Objective over the iterations"
            drawn = chart(title, "per element", iterations, [curve], (), stages, log_y=True)
        with self._lock:
            self._curve = now, count, drawn
        return drawn

    def stop(self) -> None:
        """End the run after the step at hand, and keep what there is; nothing if it is over."""
        with self._lock:
            if self._status not in ("waiting", "running"):
                return
            self._interrupt.stop(_STOPPED)
            if self._status == "waiting":
                self._status = "cancelled"

    def close(self) -> None:
        """End the run at once, and keep nothing."""
        self._is_closed = True
        self.stop()

    # --- at the end --------------------------------------------------------------------------

    @property
    def result(self) -> Result | None:
        """Return the result; None before there is one."""
        return self._result

    @property
    def frames(self) -> list[Frame]:
        """Return the pictures that can be chosen; none before the end."""
        return self._frames

    @property
    def automatic(self) -> int:
        """Return the place of the automatic choice among the pictures."""
        return next((k for k, frame in enumerate(self._frames) if frame.is_automatic), 0)

    @property
    def kept(self) -> int:
        """Return the place of the chosen picture among the pictures."""
        return self._kept

    def keep(self, place: int) -> None:
        """Choose a picture in the place of the automatic choice.

        Parameters
        ----------
        place
            Its place among the pictures.

        Raises
        ------
        InputError
            If there is none.
        """
        self._frame(place)
        with self._lock:
            self._kept = place

    def frame(self, place: int) -> Preview:
        """Return one of the pictures that can be chosen, as a page shows it.

        Parameters
        ----------
        place
            Its place among the pictures.

        Returns
        -------
        Preview
            The picture.

        Raises
        ------
        InputError
            If there is none.
        """
        frame = self._frame(place)
        made = self._previews.get(place)
        if made is None:
            assert self._result is not None
            made = preview(frame.image, self._result.channel_axis, self.picture.shown)
            self._previews[place] = made
        return made

    def _frame(self, place: int) -> Frame:
        if not 0 <= place < len(self._frames):
            raise InputError(f"there is no picture {place} of run {self.number}")
        return self._frames[place]

    def saved(self, place: int) -> Path:
        """Return a file with one of the pictures, in the format of the input.

        Parameters
        ----------
        place
            Its place among the pictures.

        Returns
        -------
        Path
            The file, which is written when it is asked for first.

        Raises
        ------
        DipfastError, OSError
            If it cannot be written.
        """

        def write(result: Result, source: ImageFile, path: Path) -> None:
            result.save(path, like=self.order.like(source), overwrite=True)

        return self._written(place, f"result-{place}{self.picture.suffix}", write)

    def page(self, place: int) -> Path:
        """Return the report of one of the pictures, an HTML file.

        Parameters
        ----------
        place
            Its place among the pictures.

        Returns
        -------
        Path
            The file, which is written when it is asked for first.

        Raises
        ------
        DipfastError, OSError
            If it cannot be written.
        """
        from dipfast.apps.page import save_page

        # A report is read without the page of the run.
        note, command = self.reservation(place), self.order.command(self.picture)

        def write(result: Result, source: ImageFile, path: Path) -> None:
            save_page(
                result,
                source.image,
                path,
                name=self.picture.name,
                command=f"# {note}\n{command}" if note else command,
                inks=bool(source.metadata.get("inks")),
                overwrite=True,
            )

        return self._written(place, f"report-{place}.html", write)

    def _written(
        self, place: int, name: str, write: Callable[[Result, ImageFile, Path], None]
    ) -> Path:
        """Return a file about one of the pictures, which is written if it is not there yet."""
        frame, path = self._frame(place), self._folder / name
        with self._saving, warnings_told(self._warn_of(path)):
            if not path.exists():
                source = self.picture.read()
                write(self._chosen(frame, source), source, path)
        return path

    def _warn_of(self, path: Path) -> Any:
        """Return what takes a warning about a file that the user calls otherwise."""
        name = self.order.result_name(self.picture)
        return lambda text: self._note(text.replace(str(path), name))

    def _chosen(self, frame: Frame, source: ImageFile) -> Result:
        """Return the result with one of the pictures in it."""
        assert self._result is not None
        if frame.is_automatic:
            return self._result
        image = frame.image
        if self.order.mask is not None:
            # Known pixels are what they were, to the last bit.
            mask, axis = self.order.mask, source.channel_axis
            mask = mask if axis is None else np.expand_dims(mask, axis)
            if source.image.dtype.kind == "f":  # NaN is missing, whatever the mask says
                mask = mask | np.isnan(source.image)
            image = np.where(mask, image, source.image).astype(source.image.dtype)
        return replace(
            self._result,
            image=image,
            best_iteration=frame.iteration,
            stop_detail=f"{frame.name}, chosen by hand; {self._result.stop_detail}",
            expected_psnr=None,
            unfinished=None,
            hints=(),
            members=(),
        )

    def reservation(self, place: int) -> str:
        """Return in what the command of the run makes another picture.

        Parameters
        ----------
        place
            The place of the picture among the pictures.

        Returns
        -------
        str
            Sentences; empty if it makes the same.
        """
        said = []
        if self._frames and not self._frame(place).is_automatic:
            said.append("It makes the automatic choice again, not the picture that you chose.")
        if self._interrupt.stop_asked is not None:
            said.append("It does not stop where you stopped.")
        return " ".join(said)

    def figures(self) -> list[tuple[str, str]]:
        """Return what is told of the result, as pairs of a name and a text.

        Returns
        -------
        list of tuple of str
            Names and texts; none before the end.
        """
        result = self._result
        if result is None:
            return []
        rows, end = [], result.stop_detail or str(result.stop_reason)
        if self._kept != self.automatic:
            end = f"{self._frames[self._kept].name}, chosen by hand"
            # What these say is of the picture that the run itself has chosen.
            last = result.stop_iteration
            result = replace(result, best_iteration=last, expected_psnr=None, unfinished=None)
        if result.expected_psnr is not None:
            rows.append(("Expected PSNR", f"{result.expected_psnr:.1f} dB"))
        # The same is not told twice.
        parts = [part for part in result.summary().split("; ") if "dB expected" not in part]
        return [
            *rows,
            ("Found", "\n".join(parts)),
            ("End", end),
        ]

    # --- in the thread that computes ---------------------------------------------------------

    def compute(self) -> None:
        """Do the work; whatever goes wrong is told on the page."""
        with self._lock:
            if self._status != "waiting":
                return
            self._status = "running"
        try:
            with warnings_told(self._note):
                source = self.picture.read()
                result = self.order.carry_out(
                    source,
                    callback=partial(self._observe, source),
                    interrupt=self._interrupt,
                    snapshots=self._megabytes(),
                )
                self._finish(result)
            # So that a file that cannot be written is known now, and not when it is wanted.
            self.saved(self.automatic)
        except (_ClosedError, DipfastError, OSError, MemoryError) as error:
            self._fail(error)
        except Exception as error:  # torch may raise anything, and the server goes on
            traceback.print_exc()
            self._fail(error)

    def _megabytes(self) -> float | None:
        """Return the memory for pictures of iterations; None where there are none."""
        if not self.order.fits:
            return None
        rows, columns = (self.order.factor * length for length in self.picture.size)
        each = 4 * rows * columns * self.picture.channels / 1e6
        return min(_SNAPSHOTS * each, _MOST_MEGABYTES)

    def _note(self, text: str) -> None:
        with self._lock:
            self._notes.append(text)

    def _fail(self, error: Exception) -> None:
        text = message_of(error).replace(str(self._folder), "").replace(str(self.picture.path), "")
        with self._lock:
            if self._result is not None:
                # The picture is there, but its file could not be written.
                self._notes.append(text)
                return
            self._status, self._error = "failed", text

    def _observe(self, source: ImageFile, state: State | Progress) -> None:
        """Take what the library tells of a run while it goes on."""
        from dipfast.run.observers import Progress

        if self._is_closed:
            raise _ClosedError
        now = time.monotonic()
        if isinstance(state, Progress):
            if state.image is not None:
                self._is_joined, self._shows_fit = True, False
                if not self._knows_measurement:
                    self._unit_of(source).look_at(state.image)
                self._show(self._kept_live, state.image, now)
                if not state.tiles:
                    self._advance("Beginning the fit", now, None)
                    return
            # Of tiles there is nothing but the share of all of them.
            step = "Fitting tiles" if state.tiles else "Preparing the fit"
            self._advance(step if self._is_joined else "Making a first picture", now, state.share)
            return
        self._advance(
            f"Iteration {state.iteration} of {state.iterations}",
            now,
            state.iteration / state.iterations,
        )
        with self._lock:
            if not self._iterations:
                self._times.clear()
            self._iterations, self._stage = state.iterations, state.stage.name
            self._times.append((now, state.iteration))
            while now - self._times[0][0] > _RATE_SECONDS and len(self._times) > 2:
                self._times.popleft()
            self._losses.append(state.numbers.value)
            self._at.append(state.iteration)
            self._stages.append(state.stage.name)
            live = self._fit_live if self._is_joined else self._kept_live
            is_due = now - live.made_at >= _BETWEEN_PICTURES
            is_watched = now - self._looked_at < _LOOKING
        if not self._knows_measurement:
            self._unit_of(source).look_at(state.problem.measurement)
            self._knows_measurement = True
        if is_due and is_watched:
            self._show(live, picture_of_fit(state), now)
            self._shows_fit = not self._is_joined

    def _unit_of(self, source: ImageFile) -> Unit:
        """Return the unit of the picture, once it is known that the task can be done."""
        if self._unit is None:
            axis, image = source.channel_axis, source.image
            planes = image if axis is None else np.moveaxis(image, axis, -1)
            self._unit = Unit(self.order.task, planes, self.order.mask)
        return self._unit

    def _advance(self, step: str, now: float, share: float | None) -> None:
        with self._lock:
            if self._share is None or share is None or share < self._share:
                self._step_began = now
            self._step, self._share = step, share

    def _show(self, live: _Live, image: Tensor, now: float) -> None:
        small = shrunk(image)
        with self._lock:
            live.image, live.made_at = small, now
            live.number += 1

    def _finish(self, result: Result) -> None:
        frames = _frames_of(result)
        # Only what is needed: a picture of many pixels would be there several times.
        slim = replace(
            result,
            raw_image=None,
            best_output=None,
            stop_image=None,
            stop_output=None,
            snapshots=[],
        )
        with self._lock:
            self._result, self._frames = slim, frames
            self._kept = self.automatic
            self._notes += [*([result.unfinished] if result.unfinished else ()), *result.hints]
            self._kept_live.image = self._fit_live.image = None
            self._status = "done"


def _frames_of(result: Result) -> list[Frame]:
    """Return the pictures of a result that can be chosen, in the order in which they were made."""
    frames = []
    if result.members and result.snapshots:
        frames.append(Frame("the first picture", result.members[0].image))
    frames += [
        Frame(f"iteration {snapshot.iteration}", snapshot.image, snapshot.iteration)
        for snapshot in result.snapshots
    ]
    if result.members or not frames:
        name = "the joined picture" if result.members else "the result"
        return [*frames, Frame(name, result.image, result.best_iteration, True)]
    best = Frame(
        f"the best, iteration {result.best_iteration}", result.image, result.best_iteration, True
    )
    place = sum(frame.iteration <= best.iteration for frame in frames)
    return [*frames[:place], best, *frames[place:]]


def _import_torch() -> None:
    import dipfast.tasks  # noqa: F401


class Registry:
    """Keep pictures and runs, each with files of its own, and compute one run at a time.

    Parameters
    ----------
    folder
        Where the files are; None, the default, makes a folder that is removed in the end, and that
        nobody else may read.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dipfast-studio-")) if folder is None else folder
        self.pictures: dict[int, Picture] = {}
        self.runs: dict[int, Run] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="studio", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                work()
            except Exception:  # of the import, say: the runs that follow tell it on their pages
                traceback.print_exc()

    def warm_up(self) -> None:
        """Import torch in the thread that computes, so that the first run need not wait for it."""
        self._queue.put(_import_torch)

    def new_path(self, name: str) -> Path:
        """Return the path of a file that is not there yet.

        Parameters
        ----------
        name
            What the file is called by the user.  Nothing of it is used but an ending that is known,
            which tells raw photographs from other pictures.

        Returns
        -------
        Path
            The path.
        """
        suffix = Path(plain_name(name)).suffix.lower()
        known = suffix if formats.by_suffix(Path(f"file{suffix}")) is not None else ""
        return self.folder / f"file-{secrets.token_hex(8)}{known}"

    def open_copy(self, path: Path) -> Picture:
        """Open a copy of a file of this computer.

        Parameters
        ----------
        path
            The file.

        Returns
        -------
        Picture
            The picture.

        Raises
        ------
        InputError
            If it cannot be read as a picture.
        OSError
            If it cannot be read at all.
        """
        from dipfast.images.files import open_regular

        if (row := formats.by_folder(path)) is not None:
            raise InputError(
                f"{path} is a folder of {row.name}, and the studio opens files; "
                "'dipfast denoise IN OUT' takes it, and writes a TIFF where OUT ends in .tif"
            )
        with open_regular(path):  # a pipe would never end
            pass
        copy = self.new_path(path.name)
        copied(path, copy)
        return self.open(copy, path.name)

    def open(self, path: Path, name: str) -> Picture:
        """Open a file of the studio as a picture; it is removed if it is none.

        Parameters
        ----------
        path
            The file.
        name
            What it is called by the user.

        Returns
        -------
        Picture
            The picture.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        try:
            picture = Picture.open(next(self._numbers), path, name)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self.pictures[picture.number] = picture
        return picture

    def start(self, picture: Picture, order: Order) -> Run:
        """Put a run at the end of the queue.

        Parameters
        ----------
        picture
            The picture.
        order
            What is to be done with it.

        Returns
        -------
        Run
            The run.
        """
        with self._lock:
            number = len(self.runs) + 1
            folder = self.folder / f"run-{number}"
            folder.mkdir(mode=0o700)
            run = self.runs[number] = Run(number, picture, order, folder)
        self._queue.put(run.compute)
        return run

    def close(self) -> None:
        """Stop all runs, and remove all files."""
        self._queue.put(None)
        for run in self.runs.values():
            run.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def join(self, seconds: float) -> None:
        """Wait for the run at hand, which has been stopped, to end.

        Parameters
        ----------
        seconds
            How long to wait at most.
        """
        self._thread.join(seconds)
        # It may have written something meanwhile.
        shutil.rmtree(self.folder, ignore_errors=True)
