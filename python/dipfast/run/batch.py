"""Batches: run one job after the other, and make one result of their outcomes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dipfast import ops
from dipfast.images import display
from dipfast.images.layout import Layout
from dipfast.run.checkpoint import BatchCheckpoint
from dipfast.run.direct import not_begun
from dipfast.run.executor import check_executor, run_on_executor
from dipfast.run.hints import hints
from dipfast.run.interrupt import Interrupt
from dipfast.run.job import Job
from dipfast.run.observers import CallbackObserver, InterruptObserver, Observer
from dipfast.run.outcome import Iterate, Outcome
from dipfast.run.prepare import Task, prepare
from dipfast.run.record import found, given, identify
from dipfast.run.result import LARGEST_IN_TABLE, Member, Result
from dipfast.run.runner import run
from dipfast.run.snapshots import Snapshot, Snapshots
from dipfast.run.tile_jobs import tiles_of
from dipfast.run.time_limit import TimeLimit, affordable
from dipfast.settings.settings import Settings
from dipfast.stop_reason import Stop, StopReason
from dipfast.warn import warn_caller

__all__ = ["restore_images"]


def restore_images(task: Task, settings: Settings) -> Result:
    """Restore the images of a batch one after the other, and return them as one result.

    Only one network at a time is in memory.

    Parameters
    ----------
    task
        The task, with a single image or a batch.
    settings
        The settings as they were given.

    Returns
    -------
    Result
        Images in the form of the input.  Images of a batch that no run was started for, because an
        earlier one was ended, are the baseline, and so is one whose fit was ended so early that it
        is likely worse.

    Raises
    ------
    InputError, InputTypeError
        If an option does not fit the image.
    CheckpointMismatchError, DamagedCheckpointError
        If the checkpoint belongs to another run, or is damaged.
    WouldOverwriteError
        If there is a checkpoint already, and ``resume`` is False.
    MemoryLimitError
        If the fit of one image does not fit into memory.

    Warns
    -----
    UserWarning
        If the time limit ended a run so early that the image is likely worse than the input; if a
        checkpoint was asked for, and no image has a fit that it could keep.
    """
    start = time.monotonic()
    if settings.executor is not None:
        check_executor(settings)
    interrupt = settings.interrupt or Interrupt()
    limit = None if settings.time_limit is None else TimeLimit(settings.time_limit)
    jobs = prepare(task, settings)
    if settings.executor is not None:
        there = run_on_executor(jobs, settings)
        return _result(task, settings, jobs, there, [None] * len(jobs), start)
    _warn_of_no_checkpoint(settings, jobs)
    checkpoint = _checkpoint(task, settings, jobs)
    outcomes: list[Outcome] = []
    snapshots: list[Snapshots | None] = []
    # Those that are not fitted have no snapshots.
    fitted = max(sum(job.iterations > 0 for job in jobs), 1)
    with interrupt.on_signals():
        for item, job in enumerate(jobs):
            named = isinstance(settings.method, str) and job.iterations > 0

            def plan(planned: Job, item: int = item) -> Job:
                assert limit is not None
                jobs[item] = affordable(planned, limit, len(jobs) - item, interrupt)
                return jobs[item]

            plans = limit is not None and checkpoint is None and named
            plans = plans and not job.tile
            if plans and not job.fits:
                job = plan(job)
            store = None if settings.snapshots is None else Snapshots(settings.snapshots / fitted)
            snapshots.append(store)
            observers: list[Observer | None] = [
                store,
                _callback(settings, task.layout, item, job),
                limit,
                InterruptObserver(interrupt),
                None if checkpoint is None else checkpoint.of(item),
            ]
            chosen = [o for o in observers if o is not None]
            asked = None
            if task.layout.is_stack and observers[1] is not None:
                asked = observers[1].progress(0.0)  # says which plane it is
            if asked is not None:
                outcomes.append(not_begun(job, Stop.of(asked)))
                break
            outcomes.append(run(job, chosen, plan if plans and job.fits else None))
            if not outcomes[-1].stop.reason.is_final:
                break
        # Inside the block: a signal must not lose the result of a run that has ended.
        return _result(task, settings, jobs, outcomes, snapshots, start, checkpoint)


def _callback(settings: Settings, layout: Layout, item: int, job: Job) -> CallbackObserver | None:
    """Return the observer that calls the function of the caller for one image."""
    if settings.callback is None:
        return None
    planes = layout.count if layout.is_stack else None
    plane = None if planes is None else (item, planes)
    tiles = len(tiles_of(job)) if job.tile else 0
    return CallbackObserver(settings.callback, plane, tiles, job.tile)


def _warn_of_no_checkpoint(settings: Settings, jobs: Sequence[Job]) -> None:
    """Warn where a checkpoint is to be written, and a join turns out to have no fit to write.

    Methods that never have any refuse it, but what an image is like is known no earlier.  That
    there are no snapshots is seen in the result.
    """
    if settings.checkpoint is None or any(job.iterations for job in jobs):
        return
    causes = {
        "planes that help each other": any(job.problem.neighbours is not None for job in jobs),
        "a picture without noise": any(job.problem.noise.is_free for job in jobs),
        "correlated noise": settings.task != "denoise"
        and any(job.problem.noise.is_correlated for job in jobs),
    }
    cause = " and ".join(text for text, holds in causes.items() if holds) or "so few iterations"
    warn_caller(
        f"checkpoint keeps nothing: no network is fitted for {cause}; method='two_stage' fits one"
    )


def _checkpoint(task: Task, settings: Settings, jobs: Sequence[Job]) -> BatchCheckpoint | None:
    if settings.checkpoint is None:
        return None
    return BatchCheckpoint(
        settings.checkpoint,
        settings.checkpoint_every,
        settings.resume,
        identify(task, settings, jobs),
    )


# --- the result --------------------------------------------------------------------------


def _result(
    task: Task,
    settings: Settings,
    jobs: Sequence[Job],
    outcomes: Sequence[Outcome],
    snapshots: Sequence[Snapshots | None],
    start: float,
    checkpoint: BatchCheckpoint | None = None,
) -> Result:
    layout = task.layout
    outcomes = _without_half_done(jobs, outcomes)

    kept = _kept_mask(jobs)
    # By the tensors that they are made of: without iterations, all of the images are one.
    made: dict[tuple[int, ...], tuple[Any, Any]] = {}

    def images(
        choose: Callable[[Outcome], Iterate | None], field: str, *, refined: bool = False
    ) -> tuple[Any, Any]:
        """Return the images of all jobs, finished, and those of the networks alone."""
        key = tuple(map(id, (getattr(choose(o), field, None) for o in outcomes)))
        if not refined and key in made:
            return made[key]
        alone, finished = [], []
        for item, job in enumerate(jobs):
            iterate = choose(outcomes[item]) if item < len(outcomes) else None
            # An interrupted batch has no outcome for its last images: they are the baseline.
            picture = joined = job.baseline
            if iterate is not None:
                picture = job.unstretched(getattr(iterate, field))
                joined = job.refine(picture) if refined else picture
            alone.append(picture.cpu())
            finished.append(joined.cpu())
        raw = whole = layout.to_image(_joined(alone))
        if refined and any(job.refined for job in jobs):
            whole = layout.to_image(_joined(finished))
        pair = whole if kept is None else layout.merge(kept, task.image, whole), raw
        if not (refined and any(job.refined for job in jobs)):
            made[key] = pair
        return pair

    image, raw_image = images(lambda outcome: outcome.best, "average", refined=True)
    last = outcomes[-1]
    unfinished = _unfinished(jobs, outcomes)
    if unfinished is not None and _is_of_time_limit(jobs, outcomes):
        goes_on = checkpoint is not None and checkpoint.is_written
        advice = "resume goes on" if goes_on else "time_limit was too short"
        warn_caller(f"{unfinished}; {advice}")
    return Result(
        image=image,
        history=_history(jobs, outcomes),
        stop_reason=last.stop.reason,
        stop_detail="; ".join(dict.fromkeys(str(outcome.stop) for outcome in outcomes)),
        best_iteration=0 if last.best is None else last.best.iteration,
        best_loss=math.nan if last.best is None else last.best.loss,
        best_output=images(lambda outcome: outcome.best, "output")[0],
        stop_iteration=0 if last.last is None else last.last.iteration,
        stop_image=images(lambda outcome: outcome.last, "average")[0],
        stop_output=images(lambda outcome: outcome.last, "output")[0],
        snapshots=[
            Snapshot(iteration, job.layout.to_image(job.finish(picture)), item)
            for item, (job, store) in enumerate(zip(jobs, snapshots))
            if store is not None
            for iteration, picture in store.items()
        ],
        spikes=sum(outcome.spikes for outcome in outcomes),
        failures=sum(outcome.failures for outcome in outcomes),
        unfinished=unfinished,
        hints=tuple(dict.fromkeys(hint for pair in zip(jobs, outcomes) for hint in hints(*pair))),
        settings=given(settings),
        found=found(task, settings, jobs[: len(outcomes)]),
        metrics=_metrics(task, jobs, outcomes, image),
        channel_axis=layout.channel_axis,
        stack_axes=layout.stack_axes,
        shown_before=_shown(task),
        raw_image=raw_image,
        members=_members(jobs, outcomes),
        expected_psnr=_expected_psnr(jobs, outcomes),
        # The last one: all that is done for the others takes its time.
        seconds=time.monotonic() - start,
    )


def _without_half_done(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
    """Return the outcomes of a batch without an image that is likely worse than its input.

    The fit of one was ended from outside, long before its end: the image stays as it was.
    """
    if len(jobs) == 1:
        return outcomes
    return [
        outcome
        if outcome.excess is None or outcome.stop.reason.is_final
        else replace(outcome, best=None, excess=None, residual=None)
        for outcome in outcomes
    ]


def _shown(task: Task) -> Any:
    """Return the input as a notebook shows it, the first one of several."""
    layout = task.layout
    planes = display.to_planes(task.image, layout.channel_axis, layout.stack_axes)
    # Of a large image some pixels are enough, so that the others need not be converted.
    step = max(max(planes.shape[:2]) // (2 * LARGEST_IN_TABLE), 1)
    planes = planes[::step, ::step]
    return display.reduce(display.to_8_bits(planes, layout.data_range), LARGEST_IN_TABLE)


def _members(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> tuple[Member, ...]:
    """Return what a single image was joined of, in its form."""
    if len(jobs) > 1:
        return ()
    job = jobs[0]
    return tuple(
        Member(member.name, job.layout.to_image(job.finish(member.image)), member.weight)
        for member in outcomes[0].members
    )


def _expected_psnr(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> float | None:
    """Return the PSNR that is expected of all images together; None where one is not known."""
    risks = [_risk(job, outcome) for job, outcome in zip(jobs, outcomes)]
    known = [risk for risk in risks if risk is not None]
    if len(known) < len(jobs):
        return None
    return 10 * math.log10(jobs[0].peak ** 2 * len(known) / sum(known))


def _risk(job: Job, outcome: Outcome) -> float | None:
    """Return the mean square error that is expected of what is returned; None if it is not known.

    The risk of an outcome is that of the values that are no outliers; an outlier that the result
    keeps errs by as much as it differs from what was found in its place.  What is not kept is
    rounded in integers, which is most of the error in counts of few photons.
    """
    risk, best = outcome.risk, outcome.best
    # The risk of a stretched image is one of stretched values.
    if risk is None or risk <= 0 or best is None or job.stretch is not None:
        return None
    risk += job.layout.rounding_variance
    if job.kept_mask is None:
        return risk
    kept = job.kept_mask.double()
    squares = (job.baseline - best.average.cpu()).double().square()
    return float((kept * squares + (1 - kept) * risk).mean())


def _joined(images: list[Tensor]) -> Tensor:
    """Return images (1, C, H, W) as one tensor."""
    return images[0] if len(images) == 1 else torch.cat(images)


def _kept_mask(jobs: Sequence[Job]) -> Tensor | None:
    """Return which pixels of the images the result keeps, (N, C, H, W); None for none."""
    if all(job.kept_mask is None for job in jobs):
        return None
    shape = jobs[0].problem.measurement.shape
    masks = [
        torch.zeros(shape, dtype=torch.bool) if job.kept_mask is None else job.kept_mask
        for job in jobs
    ]
    return _joined([mask.expand(shape) for mask in masks])


def _unfinished(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> str | None:
    """Return why the result is likely worse than the input; None without such a reason.

    It is also None if no run was ended early.
    """
    worked_on = sum(outcome.best is not None for outcome in outcomes)
    if len(jobs) > 1 and worked_on < len(jobs):
        if jobs[0].layout.is_stack:
            others = ", and the others are as they were"
            return f"{worked_on} of {len(jobs)} planes were worked on{others}"
        return f"{worked_on} of {len(jobs)} images were worked on"
    for job, outcome in zip(jobs, outcomes):
        method, task = job.settings.method, job.settings.task
        done, count = outcome.tiles or (0, 0)
        # Of a denoised join, the picture of the whole is where no tile was finished.
        if done < count and not (method == "joined" and task == "denoise"):
            return f"{done} of {count} tiles were finished; the rest is as it was or half done"
        if outcome.best is None and not outcome.stop.reason.is_final:
            name = method if isinstance(method, str) else "the fit"
            if task == "denoise":
                return f"{name} was ended before its end: the result is the image itself"
            return f"{name} was ended before its first step: the result is what it began with"
        if outcome.excess is not None:
            done = 0 if outcome.last is None else outcome.last.iteration
            distance, noise = (job.range_width * value for value in outcome.excess)
            most = job.settings.max_iterations or job.iterations
            if job.stretch is not None:  # what was compared has another unit
                return (
                    f"after {done} of {most} iterations the fit is far from the image: the result "
                    "is likely worse than the image itself"
                )
            return (
                f"after {done} of {most} iterations the result is {distance:.3g} away "
                f"from the image, whose noise is {noise:.3g}: likely worse than the image itself"
            )
    return None


def _is_of_time_limit(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> bool:
    """Return whether the time limit is why a result is likely worse than the input.

    It ended a run, or left time for fewer iterations than were asked for; and nothing else, such as
    Ctrl-C, ended the batch after that.
    """
    reason = outcomes[-1].stop.reason
    if not reason.is_final:
        return reason is StopReason.TIME_LIMIT
    return any(
        outcome.excess is not None
        and outcome.stop.reason is not StopReason.GAVE_UP
        and outcome.iterations < (job.settings.max_iterations or 0)
        for job, outcome in zip(jobs, outcomes)
    )


def _history(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> dict[str, list[Any]]:
    """Return the history of one image, or those of a batch with a column for the image."""
    if len(jobs) == 1:
        return outcomes[0].history
    # Those that were fitted in tiles have a column more.
    parts = [(item, o.history) for item, o in enumerate(outcomes) if o.history.get("iteration")]
    if not parts:
        return {"item": [], **outcomes[0].history}
    names = dict.fromkeys(name for _, history in parts for name in history)
    rows = [(item, history, len(history["iteration"])) for item, history in parts]
    columns = {
        name: [x for _, history, count in rows for x in history.get(name, [math.nan] * count)]
        for name in names
    }
    return {"item": [item for item, _, count in rows for _ in range(count)], **columns}


def _metrics(
    task: Task, jobs: Sequence[Job], outcomes: Sequence[Outcome], image: Any
) -> dict[str, float]:
    references = [job.reference for job in jobs if job.reference is not None]
    if not references:
        return {}
    clean, peak = torch.cat(references), jobs[0].peak

    def psnr(x: Tensor) -> float:
        return float(ops.psnr(x.double(), clean.double(), data_range=peak))

    metrics = {
        "psnr_input": psnr(torch.cat([job.baseline for job in jobs])),
        # Of the returned image, in its dtype: integers are rounded.
        "psnr": psnr(task.layout.to_tensor(image, "cpu")),
    }
    history = outcomes[0].history
    if len(jobs) == 1 and history.get("iteration"):
        averages = history["psnr_average"]
        metrics["psnr_stop"] = averages[-1]
        metrics["psnr_oracle"] = max(averages)
        metrics["oracle_iteration"] = history["iteration"][averages.index(max(averages))]
    return metrics
