"""Run the method "joined": a picture without a network first, then fits, weighted by their risk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from dipfast.denoisers.combine import Combination, Estimate, combine, expected_error, judge
from dipfast.denoisers.direct import denoise_directly
from dipfast.model.bootstrap import Split
from dipfast.model.operators import on_device
from dipfast.model.problem import Problem
from dipfast.run.direct import run_direct
from dipfast.run.fitting import Runner
from dipfast.run.job import Job
from dipfast.run.observers import Observer
from dipfast.run.outcome import Iterate, Member, Outcome
from dipfast.run.residual import describe_residual
from dipfast.settings.names import DIRECT_METHOD_OF
from dipfast.state_dict import Values, flatten, subtree, tensor_of
from dipfast.stop_reason import Stop, StopReason

__all__ = ["JoinedRunner", "run_joined"]

# Another pair of fits is not worth its time after one that lowered the risk by less, in dB.
_LEAST_GAIN = 0.02


def run_joined(job: Job, observers: Sequence[Observer] = ()) -> Outcome:
    """Denoise one image without a network, and then by fits, and join what they find.

    Parameters
    ----------
    job
        The image and all that was decided for it, with the fits; without noise it has none.
    observers
        Observers of the run, of which :meth:`~dipfast.run.observers.Observer.progress` is called
        at first, and then what is called in every fit.

    Returns
    -------
    Outcome
        Whenever an observer ended the run, with the join of all that there was.
    """
    method = DIRECT_METHOD_OF[job.settings.task]
    settings = job.settings.model_copy(update={"method": method})
    first = run_direct(replace(job, settings=settings, fits=(), stages=()), observers)
    if first.best is None or not first.stop.reason.is_final or not job.fits:
        return first
    for observer in observers:
        observer.picture(0.0, first.best.average)
    return JoinedRunner(job, first.best.average, observers).run()


@dataclass(frozen=True, eq=False)
class _Part:
    """Hold what one fit found, and what it was made of."""

    image: Tensor
    split: Split
    guide: Tensor


class JoinedRunner(Runner):
    """Run the fits of a job one after the other, and join them with a picture that is there.

    Parameters
    ----------
    job
        The image and all that was decided for it, with one fit at least.
    first
        The picture that a method without a network made of the measurement, (1, C, H, W).
    observers
        Observers of the run, asked in this order.
    """

    def __init__(self, job: Job, first: Tensor, observers: Sequence[Observer] = ()) -> None:
        self._done: list[_Part] = []
        self._problem = _on_device(job)
        self._first = first.to(job.device)
        super().__init__(job, observers)

    def _begin(self, job: Job, before: int = 0) -> None:
        # The base class begins with the job itself.
        fit = self.job.fits[len(self._done)]
        self._spikes, self._failures = (
            (0, 0) if before == 0 else (self._spikes_so_far, self._failures_so_far)
        )
        super()._begin(fit, before)
        self.best = None

    def _loop(self) -> Stop:
        """Do the fits that are left, and return why they ended."""
        while True:
            stop = super()._loop()
            if not stop.reason.is_final:
                return stop
            pairs = len(self._done) // 2 * 2
            before = self._joined(self._done[:pairs])[1].risk
            if self.best is not None:
                self._done.append(self._part(self.best.average))
            gave_up, self.best = self.best is None, None
            estimates, joined = self._joined(self._done)
            self._show(joined.image)
            if len(self._done) == len(self.job.fits) or gave_up:
                return Stop(stop.reason, _described(estimates, joined))
            is_pair = len(self._done) % 2 == 0
            if is_pair and _gain(before, joined.risk) < _LEAST_GAIN:
                text = f"{_described(estimates, joined)}; another pair of fits would gain little"
                return Stop(StopReason.MINIMUM, text)
            self._begin(self.job, self._before + self.prior.iteration)

    def _part(self, image: Tensor) -> _Part:
        """Return what the current fit found."""
        problem = self.prior.problem
        assert problem.split is not None
        return _Part(image, problem.split, denoise_directly(problem))

    def _parts(self) -> list[_Part]:
        """Return what all fits found so far, with the one at hand."""
        parts = list(self._done)
        if self.best is not None:
            parts.append(self._part(self.best.average))
        return parts

    def _show(self, image: Tensor) -> None:
        """Show the observers a picture that is better than the last one."""
        share = (self._before + self.prior.iteration) / self.job.iterations
        for observer in self.observers:
            observer.picture(min(share, 1.0), image)

    def _joined(self, parts: Sequence[_Part]) -> tuple[list[Estimate], Combination]:
        """Return what there is, and the join of it."""
        noise, known = self._problem.noise, self._problem.known
        if not parts:
            estimates = [Estimate("nl_ridge", self._first, 0.0)]
            return estimates, combine(estimates, noise)
        splits = [part.split for part in parts]
        judged = partial(judge, splits=splits, reference=self._first, noise=noise, known=known)
        estimates = [
            judged("nl_ridge", [part.guide for part in parts], result=self._first),
            judged("guided", [part.image for part in parts]),
        ]
        return estimates, combine(estimates, noise)

    @property
    def last(self) -> Iterate | None:
        """Return the join of all that there is; the iteration is the last one of all fits."""
        numbers = self.history.last
        image = self._joined(self._parts())[1].image
        loss = float(numbers["loss"]) if numbers else math.nan
        return Iterate(int(numbers.get("iteration", 0)), loss, image, image.clone())

    def _outcome(self) -> Outcome:
        parts = self._parts()
        estimates, joined = self._joined(parts)
        risk = None
        if parts:
            members = [part.guide for part in parts], [part.image for part in parts]
            splits = [part.split for part in parts]
            problem = self._problem
            risk = expected_error(joined, members, splits, problem.noise, problem.known)
        stop = self.stop
        assert stop is not None
        if not stop.reason.is_final:
            stop = Stop(stop.reason, f"{stop}; {_described(estimates, joined)}")
        numbers = self.history.last
        best = Iterate(
            int(numbers.get("iteration", 0)),
            float(numbers.get("loss", math.nan)),
            joined.image,
            joined.image.clone(),
        )
        return Outcome(
            best=best,
            last=best,
            stop=stop,
            history=self.history.columns([stage.name for stage in self.job.stages]),
            iterations=self.job.iterations,
            spikes=self._spikes_so_far,
            failures=self._failures_so_far,
            excess=None,  # the picture without a network is never far from the measurement
            residual=describe_residual(self._problem, joined.image),
            members=tuple(
                Member(e.name, e.image, weight, e.risk)
                for e, weight in zip(estimates, joined.weights)
            ),
            risk=risk,
        )

    @property
    def _spikes_so_far(self) -> int:
        return self._spikes + self.recovery.spikes

    @property
    def _failures_so_far(self) -> int:
        return self._failures + self.recovery.failures

    def state_dict(self) -> Values:
        done: Values = {str(k): part.image for k, part in enumerate(self._done)}
        return super().state_dict() | {
            "done": len(self._done),
            "before": self._before,
            "spikes": self._spikes,
            "failures": self._failures,
            **flatten({"image": done}),
        }

    def load(self, values: Values) -> None:
        images, count = subtree(values, "image"), int(values["done"])
        for k in range(count):
            problem = self.job.fits[k].rule.prepare(self._problem)
            assert problem.split is not None
            image = tensor_of(images, str(k)).to(self._first)
            self._done.append(_Part(image, problem.split, denoise_directly(problem)))
        if 0 < count < len(self.job.fits):
            self._begin(self.job)
        super().load(values)
        self._before = int(values["before"])
        self._spikes, self._failures = int(values["spikes"]), int(values["failures"])


def _on_device(job: Job) -> Problem:
    """Return the problem of a job on its device."""
    problem, device = job.problem, job.device
    outliers = None if problem.outliers is None else problem.outliers.to(device)
    return replace(
        problem,
        measurement=problem.measurement.to(device),
        operator=on_device(problem.operator, device),
        outliers=outliers,
    )


def _gain(before: float, after: float) -> float:
    """Return by how many dB a risk fell."""
    return 10 * math.log10(before / after) if before > after > 0 else 0.0


def _described(estimates: Sequence[Estimate], joined: Combination) -> str:
    """Say what was joined, with its weights."""
    parts = (f"{e.name} {weight:.2f}" for e, weight in zip(estimates, joined.weights))
    return f"joined: {', '.join(parts)}"
