"""What all tasks have in common: fit one image after the other, and put the result together."""

from __future__ import annotations

import math
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dipfast import _native, ops
from dipfast.errors import MemoryLimitError
from dipfast.model.noise import NoiseModel
from dipfast.run.checkpoint import Checkpoint
from dipfast.run.memory import explain
from dipfast.run.prepare import Options, Plan, Task
from dipfast.run.result import Result
from dipfast.run.runner import Fit, Iterate, join_histories
from dipfast.run.snapshots import Snapshot
from dipfast.state_dict import flatten, subtree

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["restore_images"]


def restore_images(task: Task, **options: Unpack[Options]) -> Result:
    """Check the options, fit one image after the other, and put the result together."""
    begun = time.monotonic()
    plan = Plan(task, **options)
    fits: list[Fit] = []
    chosen: list[tuple[NoiseModel, float]] = []
    saved = plan.saved()

    def save(iteration: int | None = None) -> None:
        if plan.file is not None and (iteration is None or iteration % plan.every == 0):
            states = flatten({str(item): fit.state_dict() for item, fit in enumerate(fits)})
            try:
                plan.file.write(Checkpoint(states, plan.identity))
            except OSError as error:  # such as a full disk; the work must not be lost for it
                warnings.warn(f"checkpoint {plan.file.path} not written: {error}", stacklevel=2)

    with plan.interrupt.on_signals():
        for item in range(len(plan.measurement)):
            go_on: bool | None = None
            try:
                fit, noise, weight = plan.fit(item, plan.affordable(item))
                fits.append(fit)
                chosen.append((noise, weight))
                if state := subtree(saved, str(item)):
                    plan.load(fit, state)
                if fit.finished:
                    continue
                go_on = fit.run(plan.callback, plan.interrupt, save)
            except RuntimeError as error:
                if not _ran_out(error):
                    raise
            if go_on is None:
                # Not before here, where nothing holds what the step had taken any more.
                raise MemoryLimitError(explain(**plan.sizes))
            save()
            if not go_on:
                break
        # Here, so that nothing that ends the fit early makes its result be lost.
        return _result(plan, fits, chosen, time.monotonic() - begun)


def _ran_out(error: RuntimeError) -> bool:
    """Whether torch found no memory; on the CPU it has no error of its own for that."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _unfinished(plan: Plan, fits: list[Fit]) -> str | None:
    """Why the result is likely worse than what came in; None if it is not, or no fit was ended
    before it was done."""
    if len(fits) < len(plan.measurement):
        return f"{len(fits)} of {len(plan.measurement)} images were worked on"
    for fit in fits:
        planned_short = isinstance(plan.method, str) and fit.prior.iterations < plan.iterations
        cut_short = not fit.finished or planned_short or fit.recovery.gave_up or fit.best is None
        excess = fit.excess() if cut_short else None
        if excess is not None:
            done = 0 if fit.last is None else fit.last.iteration
            distance, noise = (plan.unit * value for value in excess)
            return (
                f"after {done} of {plan.iterations} iterations the result is {distance:.3g} away "
                f"from the image, whose noise is {noise:.3g}: likely worse than the image itself"
            )
    return None


def _result(
    plan: Plan, fits: list[Fit], chosen: list[tuple[NoiseModel, float]], seconds: float
) -> Result:
    task, layout, unit = plan.task, plan.task.layout, plan.unit

    def images(of: Callable[[Fit], Iterate | None], kind: str) -> tuple[Any, Any]:
        """Of all fits, with known pixels put in and without."""
        made = [
            plan.before[item : item + 1] if of(fit) is None else getattr(of(fit), kind)
            for item, fit in enumerate(fits)
        ]
        # What an interrupted batch did not come to stays as it was.
        raw = layout.to_image(torch.cat([*made, plan.before[len(fits) :]]))
        return raw if task.keep is None else layout.merge(task.keep, task.image, raw), raw

    image_out, raw_image = images(lambda fit: fit.best, "average")
    best, last = fits[-1].best, fits[-1].last
    histories = [fit.history() for fit in fits]
    history = histories[0] if len(plan.measurement) == 1 else join_histories(histories)
    metrics: dict[str, float] = {}
    if plan.clean is not None:
        # Of what is returned, rounded as it is.
        metrics["psnr_input"] = _psnr(plan, plan.before)
        metrics["psnr"] = _psnr(plan, layout.to_tensor(image_out, plan.place))
        if len(plan.measurement) == 1 and history:
            averages = history["psnr_average"]
            metrics["psnr_stop"] = averages[-1]
            metrics["psnr_oracle"] = max(averages)
            metrics["oracle_iteration"] = history["iteration"][averages.index(max(averages))]
    method = plan.method
    unfinished = _unfinished(plan, fits)
    if unfinished is not None and plan.time_limit is not None:
        more = "time_limit was too short" if plan.file is None else "resume goes on"
        warnings.warn(f"{unfinished}; {more}", stacklevel=5)
    return Result(
        image=image_out,
        history=history,
        stop_reason="; ".join(dict.fromkeys(fit.stop_reason for fit in fits)),
        best_iteration=0 if best is None else best.iteration,
        best_loss=math.nan if best is None else best.loss,
        best_output=images(lambda fit: fit.best, "output")[0],
        stop_iteration=0 if last is None else last.iteration,
        stop_image=images(lambda fit: fit.last, "average")[0],
        stop_output=images(lambda fit: fit.last, "output")[0],
        snapshots=[
            Snapshot(iteration, layout.to_image(fit.finish(image)), item)
            for item, fit in enumerate(fits)
            if fit.snapshots is not None
            for iteration, image in fit.snapshots.items()
        ],
        spikes=sum(fit.recovery.spikes for fit in fits),
        failures=sum(fit.recovery.failures for fit in fits),
        unfinished=unfinished,
        seconds=seconds,
        settings={
            "task": task.name,
            **task.settings,
            "method": method if isinstance(method, str) else [stage.name for stage in method],
            "preset": plan.preset_name,
            "sigma": [noise.sigma * unit for noise, _ in chosen],
            "noise": [asdict(noise) for noise, _ in chosen],
            "noise_source": plan.noise_source,
            "tv_weight": [weight for _, weight in chosen],
            "stop": plan.stop if isinstance(plan.stop, str) else repr(plan.stop),
            "time_limit": plan.time_limit,
            "max_iterations": fits[-1].prior.iterations,
            "seed": plan.seed,
            "device": str(plan.place),
            "threads": torch.get_num_threads(),
            "shape": list(layout.shape),
            "dtype": str(layout.dtype),
            "channel_axis": layout.channel_axis,
            "data_range": list(layout.data_range),
            "range_source": layout.range_source,
            "preset_settings": asdict(plan.preset),
            "versions": {
                "dipfast": _native.__version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        },
        metrics=metrics,
        channel_axis=layout.channel_axis,
        raw_image=raw_image,
    )


def _psnr(plan: Plan, image: Tensor) -> float:
    assert plan.clean is not None
    a, b = image.double().cpu(), plan.clean.double().cpu()
    return float(ops.psnr(a, b, data_range=plan.peak))
