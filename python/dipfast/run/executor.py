"""Run the jobs of a batch on an executor: in other processes, or on other computers."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from operator import itemgetter

from dipfast.errors import InputError, InputTypeError, ProcessError
from dipfast.run.job import Job
from dipfast.run.outcome import Outcome
from dipfast.run.runner import run
from dipfast.settings.settings import Settings

__all__ = ["check_executor", "run_on_executor"]

# Options that look at the run, or end it, from the process that calls.
_OF_CALLER = ("callback", "interrupt", "snapshots", "checkpoint", "time_limit")


def check_executor(settings: Settings) -> None:
    """Refuse an executor that is none, and options that do not reach the jobs of one.

    Parameters
    ----------
    settings
        The settings as they were given.

    Raises
    ------
    InputTypeError, InputError
        If there is something to refuse; the message names it.
    """
    if not callable(getattr(settings.executor, "submit", None)):
        raise InputTypeError(
            "executor must have the method submit, as a concurrent.futures.Executor has, got "
            f"{type(settings.executor).__name__}"
        )
    for name in _OF_CALLER:
        if getattr(settings, name) is not None:
            raise InputError(
                f"{name} works in the process that calls, and executor runs the jobs in others; "
                "leave one of the two out"
            )


def run_on_executor(jobs: Sequence[Job], settings: Settings) -> list[Outcome]:
    """Run jobs on the executor of the settings, and wait for all of them.

    Ctrl-C, or the failure of one, cancels those that have not begun.

    Parameters
    ----------
    jobs
        The jobs.
    settings
        The settings as they were given.

    Returns
    -------
    list of Outcome
        Their outcomes, in the order of the jobs.

    Raises
    ------
    ProcessError
        If a process of the executor ended.
    """
    assert settings.executor is not None
    parts = _parts(jobs)
    futures = []
    try:
        # One that has lost a process already refuses further jobs.
        for part in parts:
            futures.append(settings.executor.submit(_run_all, [jobs[k] for k in part]))
        outcomes = [outcome for future in futures for outcome in future.result()]
        order = [k for part in parts for k in part]
        return [outcome for _, outcome in sorted(zip(order, outcomes), key=itemgetter(0))]
    except BrokenExecutor as error:
        raise ProcessError(
            f"a process of executor ended before its job was done, perhaps for lack of memory: "
            f"{error}"
        ) from error
    finally:
        for future in futures:
            future.cancel()  # does nothing to those that are done


def _parts(jobs: Sequence[Job]) -> list[list[int]]:
    """Return the numbers of jobs that are run in one process: planes that help each other."""
    parts: dict[object, list[int]] = {}
    for number, job in enumerate(jobs):
        neighbours = job.problem.neighbours
        parts.setdefault(number if neighbours is None else neighbours.block, []).append(number)
    return list(parts.values())


def _run_all(jobs: Sequence[Job]) -> list[Outcome]:
    return [run(job) for job in jobs]
