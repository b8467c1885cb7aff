"""Restore a picture tile by tile, where the fit of the whole would take too much memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from dipfast import ops
from dipfast.images.tiles import Tile
from dipfast.model.parts import cut, magnification
from dipfast.prior.loop import State
from dipfast.run.fitting import Runner
from dipfast.run.job import Job
from dipfast.run.joined import first_outcome, run_joined
from dipfast.run.observers import Observer
from dipfast.run.outcome import Iterate, Outcome
from dipfast.run.residual import describe_residual
from dipfast.run.tile_jobs import job_of, tiles_of
from dipfast.state_dict import Values, tensor_of
from dipfast.stop_reason import Stop, StopReason

__all__ = ["TiledRunner"]

# The share of the work that the picture of the whole is taken to be.
_SHARE_OF_FIRST = 0.03

# Tiles with less details than this, in variances of the noise, are left to the picture of the
# whole: an even sky has next to none, and the least of 164 tiles of nine photographs were 0.007 and
# 0.011.  What a fit would find in them was not measured.
_FLAT = 0.01

# So many tiles whose fits ended far from the image are named.
_MOST_NAMED = 8


# What checkpoints keep of the reason why a tile ended is its place.
_REASONS = tuple(StopReason)


class _Row(NamedTuple):
    """What is kept of one tile: its number, the iterations so far, and what came out.

    ``is_left`` is 1 if the fit ended so far from the image that the picture keeps what was there.
    """

    tile: int
    iteration: int
    loss: float
    weight: float
    psnr: float
    reason: int = 0
    is_left: int = 0


class TiledRunner:
    """Run a job tile by tile.

    The picture begins as that of the method without a network, where a join has one, and else as
    the baseline.  Each tile is a job of its own; what it finds takes the place of the picture
    there, as much as the weight of the tile says, which falls smoothly towards its ends.

    Parameters
    ----------
    job
        The image and all that was decided for it, with tiles.
    observers
        Observers of the run: they see how much is done, the picture after each tile, and no
        iterations.

    Attributes
    ----------
    job
        The job.
    stop
        Why the run ended; None while it continues.
    """

    def __init__(self, job: Job, observers: Sequence[Observer] = ()) -> None:
        self.job = job
        self.stop: Stop | None = None
        self._observers = list(observers)
        self._tiles = tiles_of(job)
        self._factor = magnification(job.problem.operator)
        # Where a join has a picture of the whole, which a tile's fits are joined with.
        self._has_base = job.settings.method == "joined" and job.settings.task == "denoise"
        self._first = job.baseline if job.stretch is None else job.problem.measurement
        self._image = self._first
        self._begun = False
        self._rows: list[_Row] = []
        self._unfinished: tuple[int, Outcome] | None = None
        self._spikes = self._failures = 0

    def run(self) -> Outcome:
        """Run to the end.

        Returns
        -------
        Outcome
            Whenever an observer ended the run, with the picture so far.
        """
        for observer in self._observers:
            observer.begin(self)
        if not self._begun:
            if self._has_base:
                watch = _Watch(self._observers, 0.0, _SHARE_OF_FIRST)
                first = first_outcome(self.job, [watch])
                if first.best is None or not first.stop.reason.is_final:
                    return first
                self._first = first.best.average
            self._image = self._first.clone()
            self.stop = self._show(self._share(0))
        if self.stop is None:
            self.stop = self._loop()
        for observer in self._observers:
            observer.end(self)
        return self._outcome()

    @cached_property
    def _order(self) -> list[int]:
        """Return the numbers of the tiles that are fitted, those with most details first."""
        promises = {number: self._promise(tile) for number, tile in enumerate(self._tiles)}
        chosen = [number for number, promise in promises.items() if promise >= _FLAT]
        return sorted(chosen, key=lambda number: -promises[number])

    def _promise(self, tile: Tile) -> float:
        """Return the details of a tile of the first picture, in variances of the noise.

        Where there is no picture of the whole, it is 1, or 0 if the result keeps all of the tile.
        """
        if self._has_base:
            part = self._cut(self._first, tile)
            means = avg_pool2d(part, 5, stride=1, padding=2, count_include_pad=False)
            details = float((part - means).square().mean())
            return details / self.job.problem.noise.typical_variance
        kept = self.job.kept_mask
        size = self.job.problem.measurement.shape[-2:]
        return 1.0 if kept is None else 1.0 - float(cut(kept, tile, size).all())

    def _loop(self) -> Stop:
        """Do the tiles that are left, and return why they ended."""
        done = {row.tile for row in self._rows}
        for place, number in enumerate(self._order):
            if number in done:
                continue
            begin, end = (self._share(k) for k in (place, place + 1))
            outcome = self._run_tile(number, _Watch(self._observers, begin, end))
            if not outcome.stop.reason.is_final:
                self._unfinished = number, outcome
                return outcome.stop
            self._spikes += outcome.spikes
            self._failures += outcome.failures
            self._put(number, outcome)
            for observer in self._observers:
                observer.begin_fit(self)
            asked = self._show(end)
            if asked is not None and place + 1 < len(self._order):
                return asked
        return self._end()

    def _end(self) -> Stop:
        """Return why the tiles ended when all are done: what is worst, where they differ."""
        reasons = [_REASONS[row.reason] for row in self._rows]
        others = [reason for reason in reasons if reason is not StopReason.ALL_ITERATIONS]
        if not others:
            return Stop(StopReason.ALL_ITERATIONS)
        reason = StopReason.GAVE_UP if StopReason.GAVE_UP in others else others[0]
        return Stop(reason, str(reason))

    def _share(self, tiles: int) -> float:
        """Return the share of the work that is done after so many tiles."""
        return _SHARE_OF_FIRST + (1 - _SHARE_OF_FIRST) * tiles / max(len(self._order), 1)

    def _run_tile(self, number: int, watch: Observer) -> Outcome:
        """Return the outcome of one tile."""
        tile = self._tiles[number]
        part = job_of(self.job, tile)
        if self.job.settings.method != "joined":
            return Runner(part, [watch]).run()
        first = None
        if self._has_base:
            image = self._cut(self._first, tile).clone()
            iterate = Iterate(0, math.nan, image, image)
            first = Outcome(iterate, iterate, Stop(StopReason.ALL_ITERATIONS), {}, 0, 0, 0, None)
        return run_joined(part, [watch], first=first)

    def _put(self, number: int, outcome: Outcome) -> None:
        """Put what a tile found into the picture, and keep what is told of it."""
        tile = self._tiles[number]
        # A fit that gave up is far from the image, and so is one that was planned too short.
        is_left = outcome.excess is not None
        best = None if is_left else outcome.best
        if best is not None:
            weights = torch.from_numpy(self._tiles.weights(number))
            for axis in (0, 1):
                weights = weights.repeat_interleave(self._factor, axis)
            change = best.average.cpu() - self._cut(self._first, tile)
            self._cut(self._image, tile).add_(weights.to(change) * change)
        losses = outcome.history.get("loss", [])
        members = outcome.members
        self._rows.append(
            _Row(
                number,
                self._iteration + len(losses),
                losses[-1] if losses else math.nan,
                members[-1].weight if members else float(best is not None),
                self._psnr(),
                _REASONS.index(outcome.stop.reason),
                int(is_left),
            )
        )

    def _psnr(self) -> float:
        """Return the PSNR of the picture so far; NaN where the clean one is not known."""
        job = self.job
        if job.reference is None:
            return math.nan
        return float(ops.psnr(job.finish(self._image), job.reference, data_range=job.peak))

    def _cut(self, picture: Tensor, tile: Tile) -> Tensor:
        """Return a view of the tile of an image."""
        return cut(picture, tile.scaled(self._factor), picture.shape[-2:])

    def _show(self, share: float) -> Stop | None:
        """Show the observers the picture; they may end the run."""
        picture = self._image.clamp(0, 1)
        requests = [observer.picture(share, picture) for observer in self._observers]
        reason = next((request for request in requests if request), None)
        return None if reason is None else Stop.of(reason)

    @property
    def _iteration(self) -> int:
        """Return the number of the last iteration of all tiles together."""
        return self._rows[-1].iteration if self._rows else 0

    def _outcome(self) -> Outcome:
        assert self.stop is not None
        stop, finished = self.stop, len(self._rows)
        if self._unfinished is not None:  # what is not in a checkpoint, which begins the tile again
            number, outcome = self._unfinished
            self._spikes += outcome.spikes
            self._failures += outcome.failures
            # A join is worth what it is joined with; a fit alone begins as grey.
            if outcome.best is not None and outcome.excess is None:
                self._put(number, outcome)
        best = Iterate(self._iteration, math.nan, self._image, self._image)
        history = self._history() if self._rows else {}
        done = finished - len(self._left) + len(self._tiles) - len(self._order)
        return Outcome(
            best=best if self._rows or self._has_base else None,
            last=best if self._rows or self._has_base else None,
            stop=Stop(
                stop.reason, "; ".join(filter(None, (stop.detail, self._described(finished))))
            ),
            history=history,
            iterations=self.job.iterations * len(self._tiles),
            spikes=self._spikes,
            failures=self._failures,
            excess=None,
            residual=describe_residual(self.job.problem, self._image),
            tiles=(done, len(self._tiles)),
        )

    @property
    def _left(self) -> list[int]:
        """Return the numbers of the tiles whose fits ended far from the image."""
        return [row.tile for row in self._rows if row.is_left]

    def _history(self) -> dict[str, list[Any]]:
        """Return a row for each tile that was fitted, in the order of the work."""
        rows = self._rows
        history: dict[str, list[Any]] = {
            "iteration": [row.iteration for row in rows],
            "stage": [f"tile {row.tile}" for row in rows],
            "loss": [row.loss for row in rows],
            "data": [row.loss for row in rows],
            "tv": [0.0 for row in rows],
            "weight": [row.weight for row in rows],
        }
        if self.job.reference is not None:
            history |= {name: [row.psnr for row in rows] for name in ("psnr", "psnr_average")}
        return history

    def _described(self, finished: int) -> str:
        """Say how many tiles there were, and what they were joined with."""
        left = self._left
        done = finished - len(left)
        text = f"{done} of {len(self._order)} tiles of {self.job.tile} pixels"
        if left:
            numbers = ", ".join(map(str, left[:_MOST_NAMED])) + ", ..." * (len(left) > _MOST_NAMED)
            word = "tile" if len(left) == 1 else "tiles"
            text += f", and {word} {numbers} as before, whose fit ended far from the image"
        flat = len(self._tiles) - len(self._order)
        if flat:
            text += f", {flat} more are flat" if self._has_base else f", {flat} more are kept"
        if self._has_base and self._rows:
            weights = [row.weight for row in self._rows]
            text += (
                f", joined with nl_ridge of the whole: weights of the fits {min(weights):.2f} to "
                f"{max(weights):.2f}, {sum(weights) / len(weights):.2f} on average"
            )
        return text

    def state_dict(self) -> Values:
        """Return the state of the run for a checkpoint: the tiles that are done.

        Returns
        -------
        dict
            Tensors, numbers and texts by name.
        """
        is_finished = self.stop is not None and self.stop.reason.is_final
        return {
            "image": self._image,
            "first": self._first,
            "rows": torch.tensor(self._rows, dtype=torch.float64),
            "finished": int(is_finished),
            "spikes": self._spikes,
            "failures": self._failures,
        }

    def load(self, values: Values) -> None:
        """Restore a state of :meth:`state_dict`.

        Parameters
        ----------
        values
            The state.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the values are not the state of such a run.
        """
        self._image, self._first = (tensor_of(values, name) for name in ("image", "first"))
        for tile, iteration, loss, weight, psnr, *more in tensor_of(values, "rows").tolist():
            # Checkpoints of before do not have more.
            self._rows.append(_Row(int(tile), int(iteration), loss, weight, psnr, *map(int, more)))
        if int(values["finished"]):
            self.stop = self._end()
        self._spikes, self._failures = int(values["spikes"]), int(values["failures"])
        self._begun = True


class _Watch(Observer):
    """Tell the observers of a picture how much of it is done while a tile is worked on."""

    def __init__(self, observers: Sequence[Observer], begin: float, end: float) -> None:
        self._observers = observers
        self._begin, self._length = begin, end - begin

    def observe(self, run: Runner, state: State) -> Stop | StopReason | None:
        return self._ask(state.iteration / state.iterations)

    def progress(self, share: float) -> Stop | StopReason | None:
        return self._ask(0.0)  # of what comes before the iterations

    def _ask(self, share: float) -> Stop | StopReason | None:
        done = self._begin + self._length * share
        requests = [observer.progress(done) for observer in self._observers]
        return next((request for request in requests if request), None)
