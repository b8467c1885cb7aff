"""Run the method "joined": a picture without a network first, then fits, weighted by their risk."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from dipfast.denoisers.combine import Combination, Estimate, combine, expected_error, judge
from dipfast.denoisers.direct import denoise_directly
from dipfast.model.bootstrap import Split
from dipfast.run.direct import run_direct
from dipfast.run.fitting import Runner
from dipfast.run.job import Job
from dipfast.run.observers import Observer
from dipfast.run.outcome import Iterate, Member, Outcome
from dipfast.run.residual import describe_residual
from dipfast.settings.names import DIRECT_METHOD_OF, Quality
from dipfast.state_dict import Values, flatten, subtree, tensor_of
from dipfast.stop_reason import Stop, StopReason

__all__ = ["JoinedRunner", "run_joined"]

# The speeds of the method without a network whose pictures are members, the first of which is there
# first: where there is time for more fits the two speeds differ in what they find.
_SPEEDS: dict[Quality, tuple[Quality, ...]] = {
    "fast": ("fast",),
    "balanced": ("balanced",),
    "best": ("best", "balanced"),
}

_GUIDED = "guided"

# Another pair of fits is not worth its time after one that lowered the risk by less, in dB.
_LEAST_GAIN = 0.02


def run_joined(
    job: Job, observers: Sequence[Observer] = (), plan: Callable[[Job], Job] | None = None
) -> Outcome:
    """Denoise one image without a network, and then by fits, and join what they find.

    Parameters
    ----------
    job
        The image and all that was decided for it, with the fits; without noise it has none.
    observers
        Observers of the run, of which :meth:`~dipfast.run.observers.Observer.progress` is called
        at first, and then what is called in every fit.
    plan
        What makes the job that there is time for, once the first picture is there; None, the
        default, leaves it as it is.

    Returns
    -------
    Outcome
        Whenever an observer ended the run, with the join of all that there was.
    """
    return JoinedRunner(job, observers, plan).run() if job.fits else _first(job, observers)


def _first(job: Job, observers: Sequence[Observer]) -> Outcome:
    """Return the picture of the method without a network, as that of no iteration."""
    method = DIRECT_METHOD_OF[job.settings.task]
    settings = job.settings.model_copy(update={"method": method})
    outcome = run_direct(replace(job, settings=settings, fits=(), stages=()), observers)
    best = None if outcome.best is None else replace(outcome.best, iteration=0)
    return replace(outcome, best=best, last=best, iterations=0)


@dataclass(frozen=True, eq=False)
class _Part:
    """Hold what one fit found, and what it was made of."""

    image: Tensor
    split: Split
    direct: tuple[Tensor, ...]


class JoinedRunner(Runner):
    """Make a picture without a network, run the fits of a job one after the other, and join them.

    Parameters
    ----------
    job
        The image and all that was decided for it, with one fit at least.
    observers
        Observers of the run, asked in this order.
    plan
        What makes the job that there is time for, once the first picture is there; None for none.
    """

    def __init__(
        self,
        job: Job,
        observers: Sequence[Observer] = (),
        plan: Callable[[Job], Job] | None = None,
    ) -> None:
        self._done: list[_Part] = []
        # On the CPU: it is little work, and some devices have no float64.
        self._problem = job.problem
        self._speeds = _SPEEDS[job.settings.quality]
        self._direct: tuple[Tensor, ...] = ()
        self._plan = plan
        super().__init__(job, observers)

    def _begin(self, job: Job, before: int = 0) -> None:
        # The base class begins with the job itself.
        fit = self.job.fits[len(self._done)]
        self._spikes, self._failures = (
            (0, 0) if before == 0 else (self._spikes_so_far, self._failures_so_far)
        )
        super()._begin(fit, before)
        self.best = None

    def run(self) -> Outcome:
        """Run to the end.

        Returns
        -------
        Outcome
            The outcome; at once if the run had finished when its checkpoint was written.
        """
        for observer in self.observers:
            observer.begin(self)
        # A checkpoint has the first pictures, and they are not made again.
        if self.stop is None and not self._direct:
            first = _first(self.job, self.observers)
            if first.best is None or not first.stop.reason.is_final:
                return first
            others = (denoise_directly(self._problem, speed) for speed in self._speeds[1:])
            self._direct = (first.best.average.cpu(), *others)
            self.stop = self._show(self._direct[0])
            if self.stop is None and self._plan is not None:
                self.job = self._plan(self.job)
                if not self.job.fits:
                    return first
                self._begin(self.job)
        return self._go_on()

    def _loop(self) -> Stop:
        """Do the fits that are left, and return why they ended."""
        while len(self._done) < len(self.job.fits):
            stop = super()._loop()
            if not stop.reason.is_final:
                return stop
            if self.best is not None:
                self._done.append(self._part(self.best.average))
            gave_up, self.best = self.best is None, None
            estimates, joined = self._joined(self._done)
            detail = _described(estimates, joined)
            if stop.reason is StopReason.GAVE_UP:
                detail = f"{stop}; {detail}"
            final = Stop(stop.reason, detail)
            is_pair = len(self._done) % 2 == 0
            if gave_up or len(self._done) == len(self.job.fits):
                return self._show(joined.image) or final
            if is_pair and self._gain_of_last_pair(estimates, joined) < _LEAST_GAIN:
                text = f"{detail}; another pair of fits would gain little"
                return self._show(joined.image) or Stop(StopReason.MINIMUM, text)
            self._begin(self.job, self._before + self.prior.iteration)
            for observer in self.observers:
                observer.begin_fit(self)
            asked = self._show(joined.image)
            if asked is not None:
                return asked
        # Of a checkpoint: all fits were done when an observer ended the run.
        return Stop(StopReason.ALL_ITERATIONS, _described(*self._joined(self._done)))

    def _gain_of_last_pair(self, estimates: list[Estimate], joined: Combination) -> float:
        """Return by how many dB the last pair of fits lowered the risk."""
        before = self._done[:-2]
        if before:
            return _gain(self._joined(before)[1].risk, joined.risk)
        without = [estimate for estimate in estimates if estimate.name != _GUIDED]
        return _gain(combine(without, self._problem.noise).risk, joined.risk)

    def _part(self, image: Tensor) -> _Part:
        """Return what the current fit found."""
        fitted = self.prior.problem.split
        assert fitted is not None
        split = Split(self._problem.measurement, fitted.added.cpu(), fitted.ratio)
        return self._part_of(image, split)

    def _part_of(self, image: Tensor, split: Split) -> _Part:
        half = replace(self._problem, measurement=split.fitted, split=split)
        direct = tuple(denoise_directly(half, speed) for speed in self._speeds)
        return _Part(image.cpu(), split, direct)

    def _parts(self) -> list[_Part]:
        """Return what all fits found so far, with the one at hand."""
        parts = list(self._done)
        if self.best is not None:
            parts.append(self._part(self.best.average))
        return parts

    def _show(self, image: Tensor) -> Stop | None:
        """Show the observers a picture that is better than the last one; they may end the run."""
        share = (self._before + self.prior.iteration) / self.job.iterations
        picture = image.clamp(0, 1)
        requests = [o.picture(min(share, 1.0), picture) for o in self.observers]
        reason = next((request for request in requests if request), None)
        return None if reason is None else Stop.of(reason)

    def _joined(self, parts: Sequence[_Part]) -> tuple[list[Estimate], Combination]:
        """Return what there is, and the join of it."""
        noise, known = self._problem.noise, self._problem.known
        if not parts:
            first = [Estimate("nl_ridge", self._direct[0], 0.0)]
            return first, combine(first, noise)
        splits = [part.split for part in parts]
        reference = self._direct[0]
        judged = partial(judge, splits=splits, reference=reference, noise=noise, known=known)
        names = ("nl_ridge", *(f"nl_ridge, {speed}" for speed in self._speeds[1:]))
        estimates = [
            judged(name, [part.direct[k] for part in parts], result=self._direct[k])
            for k, name in enumerate(names)
        ]
        estimates.append(judged(_GUIDED, [part.image for part in parts]))
        return estimates, combine(estimates, noise)

    @property
    def last(self) -> Iterate | None:
        """Return the join of all that there is; the iteration is the last one of all fits."""
        if self._last is not None:
            return self._last
        return self._iterate_of(self._joined(self._parts())[1].image)

    def _iterate_of(self, image: Tensor) -> Iterate:
        """Return a join as that of the last iteration of all fits."""
        iteration = int(self.history.last.get("iteration", 0))
        return Iterate(iteration, math.nan, image, image.clone())

    def _outcome(self) -> Outcome:
        parts = self._parts()
        estimates, joined = self._joined(parts)
        risk = None
        # The level of correlated noise is known to a factor of 1.5, and its error with it.
        if parts and not self._problem.noise.is_correlated:
            count = len(self._speeds)
            members = [[part.direct[k] for part in parts] for k in range(count)]
            members.append([part.image for part in parts])
            splits = [part.split for part in parts]
            problem = self._problem
            risk = expected_error(joined, members, splits, problem.noise, problem.known)
        stop = self.stop
        assert stop is not None
        if not stop.reason.is_final:
            stop = Stop(stop.reason, f"{stop}; {_described(estimates, joined)}")
        best = self._iterate_of(joined.image)
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
        direct: Values = {str(k): image for k, image in enumerate(self._direct)}
        return super().state_dict() | {
            "done": len(self._done),
            "before": self._before,
            "spikes": self._spikes,
            "failures": self._failures,
            **flatten({"image": done, "direct": direct}),
        }

    def load(self, values: Values) -> None:
        images, count = subtree(values, "image"), int(values["done"])
        direct = subtree(values, "direct")
        self._direct = tuple(tensor_of(direct, str(k)) for k in range(len(direct)))
        for k in range(count):
            problem = self.job.fits[k].rule.prepare(self._problem)
            assert problem.split is not None
            self._done.append(self._part_of(tensor_of(images, str(k)), problem.split))
        if 0 < count < len(self.job.fits):
            self._begin(self.job)
        super().load(values)
        self._before = int(values["before"])
        self._spikes, self._failures = int(values["spikes"]), int(values["failures"])


def _gain(before: float, after: float) -> float:
    """Return by how many dB a risk fell."""
    return 10 * math.log10(before / after) if before > after > 0 else 0.0


def _described(estimates: Sequence[Estimate], joined: Combination) -> str:
    """Say what was joined, with its weights."""
    parts = (f"{e.name} {weight:.2f}" for e, weight in zip(estimates, joined.weights))
    return f"joined: {', '.join(parts)}"
