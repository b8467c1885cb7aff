"""A time limit: end when it has passed, and plan so that both stages fit."""

from __future__ import annotations

import itertools
import time

from dipfast.prior.loop import State
from dipfast.run.interrupt import Interrupt
from dipfast.run.job import Job
from dipfast.run.observers import InterruptObserver, Observer
from dipfast.run.runner import Runner, run
from dipfast.stop_reason import Stop, StopReason

__all__ = ["TimeLimit", "affordable"]

# So many iterations are timed, or as many as take this share of the limit (the first alone if it
# takes that share), and this share of what is left is used.
_TIMED, _TIMED_SHARE, _TIMED_SHARE_ALONE, _TIME_SHARE = 4, 0.05, 0.3, 0.9


class TimeLimit(Observer):
    """End the runs of all images of a batch together after some seconds.

    Parameters
    ----------
    seconds
        From the making of the limit on.  A run that is resumed begins with a new limit.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def remaining(self) -> float:
        """Seconds that are left, 0 at least."""
        return max(self._end - time.monotonic(), 0.0)

    def observe(self, run: Runner, state: State) -> Stop | None:
        if self.remaining > 0:
            return None
        return Stop(StopReason.TIME_LIMIT, f"{self.seconds:g} seconds have passed")


class _Stopwatch(Observer):
    """Time some iterations, and end then."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ends: list[float] = []

    def begin(self, run: Runner) -> None:
        self.ends.append(time.monotonic())

    def observe(self, run: Runner, state: State) -> StopReason | None:
        self.ends.append(time.monotonic())
        # The first one loads code and finds memory: it counts only if it has to.
        share = _TIMED_SHARE if len(self.ends) > 2 else _TIMED_SHARE_ALONE
        passed = self.ends[-1] - self.ends[0]
        over = len(self.ends) > _TIMED or passed > share * self.seconds
        return StopReason.TIME_LIMIT if over else None


def affordable(job: Job, limit: TimeLimit, images: int, interrupt: Interrupt) -> Job:
    """Return a job with as many iterations as there is time for.

    Some iterations of a run that is thrown away are timed, with all that is done at each.  A part
    of the time is kept back, because a machine is not always as fast.

    Parameters
    ----------
    job
        Its method must have a name.
    limit
        The limit.
    images
        How many images share what is left of the time.
    interrupt
        Ends the timing as well.
    """
    stopwatch = _Stopwatch(limit.seconds / images)
    run(job, [stopwatch, InterruptObserver(interrupt)])
    steps = [after - before for before, after in itertools.pairwise(stopwatch.ends)]
    possible = int(_TIME_SHARE * limit.remaining / images / min(steps, default=1.0))
    return job.shortened(max(possible, 1)) if possible < job.iterations else job
