"""Run a job whose method has no iterations."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dipfast.denoisers.nl_ridge import nl_ridge
from dipfast.run.job import Job
from dipfast.run.observers import Observer
from dipfast.run.outcome import Iterate, Outcome
from dipfast.run.residual import describe_residual
from dipfast.stop_reason import Stop, StopReason

__all__ = ["run_direct"]

_COLUMNS = ("iteration", "stage", "loss", "data", "tv")
_COLUMNS_OF_REFERENCE = ("psnr", "psnr_average")


class _EndedError(Exception):
    """Leave the method, because an observer asked for it."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop


def run_direct(job: Job, observers: Sequence[Observer] = ()) -> Outcome:
    """Denoise one image by a method without iterations.

    Parameters
    ----------
    job
        The image and all that was decided for it; its method is a
        :data:`~dipfast.settings.names.DirectMethod`.
    observers
        Observers of the run, of which :meth:`~dipfast.run.observers.Observer.progress` is called.

    Returns
    -------
    Outcome
        Without any iterate if an observer ended the run.
    """
    problem, iterate = job.problem, None
    stop = Stop(StopReason.ALL_ITERATIONS, f"{job.settings.method} done")

    def report(share: float) -> None:
        requests = [observer.progress(share) for observer in observers]
        reason = next((request for request in requests if request), None)
        if reason is not None:
            raise _EndedError(Stop.of(reason))

    def report_part(share: float) -> None:
        if share < 1:  # at the end the image is there, and an observer cannot take it away
            report(share)

    try:
        report(0.0)
        image = nl_ridge(
            problem.measurement,
            problem.noise,
            outliers=problem.outliers,
            speed=job.settings.quality,
            callback=report_part,
        )
        iterate = Iterate(1, math.nan, image, image)
        report(1.0)
    except _EndedError as ended:
        stop = ended.stop
    columns = (*_COLUMNS, *(() if job.reference is None else _COLUMNS_OF_REFERENCE))
    return Outcome(
        best=iterate,
        last=iterate,
        stop=stop,
        history={name: [] for name in columns},
        iterations=1,
        spikes=0,
        failures=0,
        excess=None,
        residual=None if iterate is None else describe_residual(problem, iterate.average),
    )
