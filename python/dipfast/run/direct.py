"""Run a job whose method fits no network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from dipfast.denoisers.direct import Report, denoise_directly, restore_directly
from dipfast.denoisers.jpeg import STEPS as STEPS_OF_JPEG
from dipfast.denoisers.plug_and_play import STEPS
from dipfast.model.problem import Problem
from dipfast.run.job import Job
from dipfast.run.observers import Observer
from dipfast.run.outcome import Iterate, Outcome
from dipfast.run.residual import describe_residual
from dipfast.settings.names import DIRECT_METHOD_OF, DirectMethod, Quality
from dipfast.stop_reason import Stop, StopReason

__all__ = ["describe_method", "not_begun", "run_direct"]

_COLUMNS = ("iteration", "stage", "loss", "data", "tv")
_COLUMNS_OF_REFERENCE = ("psnr", "psnr_average")


class _EndedError(Exception):
    """Leave the method, because an observer asked for it."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop


def run_direct(job: Job, observers: Sequence[Observer] = ()) -> Outcome:
    """Restore one image by a method that fits no network.

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
        If an observer ended the run, with the image of the last step that was finished as its
        iterate; without one if none was, as by a method that has a single one.
    """
    name: DirectMethod = job.settings.method
    iterate, steps = None, _steps(job)
    stop = Stop(StopReason.ALL_ITERATIONS, f"{name} done")

    def report(share: float) -> None:
        requests = [observer.progress(share) for observer in observers]
        reason = next((request for request in requests if request), None)
        if reason is not None:
            raise _EndedError(Stop.of(reason))

    def report_part(share: float, image: Tensor | None = None) -> None:
        nonlocal iterate
        if image is not None:
            iterate = Iterate(round(share * steps), math.nan, image, image)
        if share < 1:  # at the end the image is there, and an observer cannot take it away
            report(share)

    try:
        report(0.0)
        image = _METHODS[name](job.problem, job.settings.quality, report_part)
        iterate = Iterate(steps, math.nan, image, image)
        report(1.0)
    except _EndedError as ended:
        stop = ended.stop
        if iterate is not None and iterate.iteration < steps:
            stop = stop._replace(detail=f"{stop}, after {iterate.iteration} of {steps} steps")
    outcome = replace(not_begun(job, stop), iterations=steps)
    if iterate is None:
        return outcome
    residual = describe_residual(job.problem, iterate.average)
    return replace(outcome, best=iterate, last=iterate, residual=residual)


def not_begun(job: Job, stop: Stop) -> Outcome:
    """Return the outcome of a job that was ended before anything was done.

    Parameters
    ----------
    job
        The image and all that was decided for it.
    stop
        Why it was ended.

    Returns
    -------
    Outcome
        Without an iterate, and with an empty history.
    """
    columns = (*_COLUMNS, *(() if job.reference is None else _COLUMNS_OF_REFERENCE))
    return Outcome(
        best=None,
        last=None,
        stop=stop,
        history={name: [] for name in columns},
        iterations=job.iterations,
        spikes=0,
        failures=0,
        excess=None,
    )


def describe_method(job: Job) -> dict[str, Any]:
    """Return what was decided for the method of a job, for its record.

    Parameters
    ----------
    job
        The image and all that was decided for it; its method is a
        :data:`~dipfast.settings.names.DirectMethod`, or a join without a fit, of which only the
        picture of such a method is left.

    Returns
    -------
    dict
        The steps of a method that has some, under ``"steps"``; else its speed, under ``"speed"``.
    """
    if _is_pnp(job) or job.problem.jpeg is not None:
        return {"steps": _steps(job)}
    return {"speed": job.settings.quality}


def _steps(job: Job) -> int:
    """Return after how many steps a job is done."""
    if job.problem.jpeg is not None:
        return STEPS_OF_JPEG[job.settings.quality]
    return STEPS[job.settings.quality] if _is_pnp(job) else 1


def _is_pnp(job: Job) -> bool:
    """Return whether the method of a job that makes a picture without a network is pnp."""
    return (job.settings.method if job.is_direct else DIRECT_METHOD_OF[job.settings.task]) == "pnp"


_METHODS: dict[DirectMethod, Callable[[Problem, Quality, Report], Tensor]] = {
    "nl_ridge": denoise_directly,
    "pnp": restore_directly,
}
