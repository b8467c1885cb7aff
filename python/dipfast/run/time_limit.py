"""A time limit: end runs when it has passed, and plan fewer iterations so that all stages fit."""

from __future__ import annotations

import itertools
import time

from torch import Tensor

from dipfast.prior.controls import DeepRED, DenoisedImage, Guide
from dipfast.prior.loop import State
from dipfast.run.interrupt import Interrupt
from dipfast.run.job import Job
from dipfast.run.observers import InterruptObserver, Observer, Run
from dipfast.run.runner import Runner, run
from dipfast.settings.names import Quality
from dipfast.stop_reason import Stop, StopReason

__all__ = ["TimeLimit", "affordable"]

# Iterations that are timed at most.
_MOST_TIMED = 4
# Timing ends early if it has taken this share of the limit; if only the first iteration has been
# timed, which is slower than the others, this larger share.
_TIMING_SHARE = 0.05
_TIMING_SHARE_OF_FIRST = 0.3
# The share of the remaining time that iterations are planned for: a machine may become slower.
_PLANNED_SHARE = 0.9
# Pictures without a network for each fit that is joined, in units of the one that guides it.
_GUIDES: dict[Quality, int] = {"fast": 2, "balanced": 3, "best": 6}


class TimeLimit(Observer):
    """End the runs of all images of a batch together after some seconds.

    Parameters
    ----------
    seconds
        The time, counted from the creation of this object.  A resumed run begins with a new limit.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def remaining(self) -> float:
        """Return the seconds that are left, at least 0."""
        return max(self._end - time.monotonic(), 0.0)

    def observe(self, run: Runner, state: State) -> Stop | None:
        return self._passed()

    def progress(self, share: float) -> Stop | None:
        return self._passed()

    def picture(self, share: float, image: Tensor) -> Stop | None:
        return self._passed()

    def _passed(self) -> Stop | None:
        if self.remaining > 0:
            return None
        return Stop(StopReason.TIME_LIMIT, f"{self.seconds:g} seconds have passed")


class _Stopwatch(Observer):
    """Time the first iterations, and end the run after them.

    With the finest of clocks: under Windows another one may be the same before and after a step.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ends: list[float] = []

    def begin(self, run: Run) -> None:
        self.ends.append(time.perf_counter())

    def observe(self, run: Runner, state: State) -> StopReason | None:
        self.ends.append(time.perf_counter())
        # The first iteration also loads code and allocates memory: a second one is timed unless the
        # first took very long.
        share = _TIMING_SHARE if len(self.ends) > 2 else _TIMING_SHARE_OF_FIRST
        passed = self.ends[-1] - self.ends[0]
        over = len(self.ends) > _MOST_TIMED or passed > share * self.seconds
        return StopReason.TIME_LIMIT if over else None


def affordable(job: Job, limit: TimeLimit, images: int, interrupt: Interrupt) -> Job:
    """Return a job with as many iterations as there is time for.

    The first iterations of a run are timed, and that run is discarded: of several fits, the first
    one, whose first iteration also makes what guides it.

    Parameters
    ----------
    job
        A job whose method has a name, so that its stages can be shortened.
    limit
        The time limit of the batch.
    images
        The number of images that share the remaining time, positive.
    interrupt
        The interrupt of the batch, which ends the timing as well.

    Returns
    -------
    Job
        The same job if there is time for all of its iterations; else one with fewer, at least 1.
    """
    stopwatch = _Stopwatch(limit.seconds / images)
    timed = job.fits[0] if job.fits else job
    run(timed, [stopwatch, InterruptObserver(interrupt)])
    steps = [after - before for before, after in itertools.pairwise(stopwatch.ends)]
    step = max(min(steps, default=1.0), 1e-9)
    # A fit that is joined makes its guide, and what the methods without a network make of its half.
    guides = _GUIDES[job.settings.quality] * len(job.fits) or int(_begins_with_a_picture(job))
    once = guides * max(steps[0] - step, 0.0) if steps else 0.0
    control = job.stages[-1].control
    if isinstance(control, DeepRED) and limit.remaining > 0:
        # Not before the run above, because the first call of a denoiser also loads code.
        seconds = _seconds_of_denoiser(job, control)
        once += seconds
        step += seconds / control.every
    possible = max(_PLANNED_SHARE * limit.remaining / images - once, 0.0) / step
    return job.shortened(max(int(possible), 1)) if possible < job.iterations else job


def _begins_with_a_picture(job: Job) -> bool:
    """Return whether the first iteration of a fit makes a picture that all of them use."""
    return isinstance(job.stages[0].control, DenoisedImage | Guide)


def _seconds_of_denoiser(job: Job, control: DeepRED) -> float:
    """Return what a call of a denoiser inside the loop takes.

    It has its turn after some iterations, more of them than are timed.
    """
    image = job.baseline.to(job.device)
    begun = time.perf_counter()
    float(control.denoiser(image, control.sigma).sum())  # waits for the device
    return time.perf_counter() - begun
