"""Run the method "joined": a picture without a network first, then fits, weighted by their risk."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from dipfast.denoisers.combine import Combination, Estimate
from dipfast.model.problem import Problem
from dipfast.prior.loop import State
from dipfast.run.direct import run_direct
from dipfast.run.fitting import Runner, stop_of_values, values_of_stop
from dipfast.run.job import Job
from dipfast.run.judges import ByHeldOut, ByNoise, Judge, Part, Variant, gain
from dipfast.run.observers import Observer
from dipfast.run.outcome import Iterate, Member, Outcome
from dipfast.run.residual import describe_residual
from dipfast.settings.names import DIRECT_METHOD_OF, Quality
from dipfast.state_dict import Values, flatten, subtree, tensor_of
from dipfast.stop_reason import Stop, StopReason
from dipfast.stopping import Decision

__all__ = ["JoinedRunner", "run_joined"]

# The pictures of nl_ridge that are members, the first of which is there first.  The last pass finds
# edges and takes texture for noise: without it, there is another member.
_VARIANTS: dict[Quality, tuple[Variant, ...]] = {
    "fast": (Variant("fast"),),
    "balanced": (Variant("balanced"), Variant("balanced", without_last=True)),
    "best": (Variant("best"), Variant("best", without_last=True), Variant("balanced")),
}

# Another pair of fits is not worth its time after one that lowered the risk by less, in dB.
_LEAST_GAIN = 0.02

# A fit that adds nothing to the picture without a network is ended: after so much of its iterations
# that it could, it is looked at some times.
_FIRST_LOOK, _LOOKS = 0.6, 10
# From this share of its iterations on a fit that is ended is left what cannot be judged, the middle
# of wide holes.  There its error, of three photographs of 96x96 with a hole of 48x48 and 800
# iterations, is near that of the end from 200 on (25.5 and 23.4, 26.0 and 35.5, 69.0 and 69.3 of
# 255); before, it is up to 80, of fog, where that of pnp is 16.
_RIPE = 0.25
_ADDS_NOTHING = "the fit adds nothing to the picture without a network"


def run_joined(
    job: Job,
    observers: Sequence[Observer] = (),
    plan: Callable[[Job], Job] | None = None,
    first: Outcome | None = None,
) -> Outcome:
    """Restore one image without a network, and then by fits, and join what they find.

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
    first
        The outcome with the first picture, where it is there already; None, the default, makes
        it.

    Returns
    -------
    Outcome
        Whenever an observer ended the run, with the join of all that there was.
    """
    if not job.fits:
        return first_outcome(job, observers)
    return JoinedRunner(job, observers, plan, first).run()


def _without_network(job: Job, observers: Sequence[Observer]) -> Outcome:
    """Return what the method without a network makes of a job."""
    method = DIRECT_METHOD_OF[job.settings.task]
    settings = job.settings.model_copy(update={"method": method})
    return run_direct(replace(job, settings=settings, fits=(), stages=()), observers)


class _Asked(Observer):
    """Tell the observers how much is done, and keep why they end the run."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = observers
        self.stop: Stop | None = None

    def progress(self, share: float) -> Stop | None:
        requests = [observer.progress(share) for observer in self.observers]
        reason = next((request for request in requests if request), None)
        self.stop = None if reason is None else Stop.of(reason)
        return self.stop


def first_outcome(job: Job, observers: Sequence[Observer]) -> Outcome:
    """Return the picture of the method without a network, as that of no iteration.

    Parameters
    ----------
    job
        The image and all that was decided for it; its fits do not matter.
    observers
        Observers of the run, of which :meth:`~dipfast.run.observers.Observer.progress` is called.

    Returns
    -------
    Outcome
        Without a picture if an observer ended the run before there was one.
    """
    outcome = _without_network(job, observers)
    best = None if outcome.best is None else replace(outcome.best, iteration=0)
    return replace(outcome, best=best, last=best, iterations=0)


def _judge_of(job: Job, is_tile: bool) -> Judge:
    """Return what judges the fits of a job; on the CPU: some devices have no float64."""
    quality: Quality = job.settings.quality
    if job.settings.task == "denoise":
        problem, variants = job.problem, _VARIANTS[quality]
        if is_tile:
            # What is made of a tile alone has borders, where neighbours would differ.
            variants = variants[:1]
        elif problem.noise.is_correlated or problem.jpeg is not None:
            # All passes are of the same kind.
            variants = tuple(variant for variant in variants if not variant.without_last)
        return ByNoise(problem, variants)
    return ByHeldOut(job.problem, (Variant(quality),))


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
    first
        The outcome with the first picture, where it is there already, for a tile that was cut from
        that of a larger one; None makes it.
    """

    def __init__(
        self,
        job: Job,
        observers: Sequence[Observer] = (),
        plan: Callable[[Job], Job] | None = None,
        first: Outcome | None = None,
    ) -> None:
        self._done: list[Part] = []
        self._judge = _judge_of(job, is_tile=first is not None)
        self._of_fit: tuple[int, tuple[Problem, tuple[Tensor, ...]]] | None = None
        self._direct: tuple[Tensor, ...] = ()
        self._plan = plan
        self._first = first
        # Why all of the fits are over, before an observer ends the run at their last picture: that
        # is not finished, and goes on to the same end.
        self._final: Stop | None = None
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
            first = self._first or first_outcome(self.job, self.observers)
            if first.best is None or not first.stop.reason.is_final:
                return first
            self._direct = (first.best.average.cpu(),)
            self.stop = self._show(self._direct[0])
            if self.stop is None and self._judge.takes_long:
                # Now, while observers can end it, and before the time that is left is planned.
                problem = self._problem_of(0)
                asked = _Asked(self.observers)
                part = _without_network(replace(self.job, problem=problem), [asked])
                if part.best is None or not part.stop.reason.is_final:
                    # The steps of its outcome are those of the part, and the first picture is
                    # whole.
                    self.stop = asked.stop
                else:
                    self._of_fit = 0, (problem, (part.best.average.cpu(),))
            if self.stop is None and self._plan is not None:
                self.job = self._plan(self.job)
                if not self.job.fits:
                    # An interrupt also ends what is timed to plan them.
                    asked_for = _Asked(self.observers).progress(1.0)
                    detail = f"{first.stop}; the time limit leaves no fit"
                    return replace(first, stop=asked_for or first.stop._replace(detail=detail))
                self._begin(self.job)
        if self.stop is None or self._done:
            judge = self._judge
            missing = judge.variants[len(self._direct) :]
            self._direct += tuple(judge.make(judge.problem, variant) for variant in missing)
        return self._go_on()

    def _loop(self) -> Stop:
        """Do the fits that are left, and return why they ended."""
        if self._final is not None:
            return self._final
        while len(self._done) < len(self.job.fits):
            stop = super()._loop()
            if not stop.reason.is_final:
                return stop
            if self.best is not None:
                self._done.append(self._part(self.best.average))
            gave_up, self.best = self.best is None, None
            estimates, joined = self._joined(self._done)
            detail = self._described(estimates, joined)
            if stop.reason is StopReason.GAVE_UP or stop.detail == _ADDS_NOTHING:
                detail = f"{stop}; {detail}"
            final = Stop(stop.reason, detail)
            is_pair = len(self._done) % 2 == 0
            if gave_up or len(self._done) == len(self.job.fits):
                return self._end_with(final, joined.image)
            if is_pair and self._gain_of_last_pair(estimates, joined) < _LEAST_GAIN:
                text = f"{detail}; another pair of fits would gain little"
                return self._end_with(Stop(StopReason.MINIMUM, text), joined.image)
            self._begin(self.job, self._before + self.prior.iteration)
            for observer in self.observers:
                observer.begin_fit(self)
            asked = self._show(joined.image)
            if asked is not None:
                return asked
        # Of a checkpoint of before, which does not say why.
        return Stop(StopReason.ALL_ITERATIONS, self._described(*self._joined(self._done)))

    def _end_with(self, final: Stop, image: Tensor) -> Stop:
        """Show the last picture, and return why the run ends with it."""
        self._final = final
        return self._show(image) or final

    def _gain_of_last_pair(self, estimates: list[Estimate], joined: Combination) -> float:
        """Return by how many dB the last pair of fits lowered the risk."""
        before = self._done[:-2]
        if before:
            return gain(self._joined(before)[1].risk, joined.risk)
        return gain(self._judge.without_fits(estimates).risk, joined.risk)

    def _part(self, image: Tensor) -> Part:
        """Return what the current fit found."""
        return self._judge.part(image.cpu(), *self._fitted())

    def _fitted(self) -> tuple[Problem, tuple[Tensor, ...]]:
        """Return what the current fit is fitted to, and what else is made of that."""
        number = len(self._done)
        if self._of_fit is None or self._of_fit[0] != number:
            self._of_fit = number, self._fitted_of(number)
        return self._of_fit[1]

    def _fitted_of(self, number: int) -> tuple[Problem, tuple[Tensor, ...]]:
        """Return what a fit is fitted to, on the CPU, and what else is made of that."""
        problem = self._problem_of(number)
        return problem, self._judge.of_part(problem)

    def _problem_of(self, number: int) -> Problem:
        """Return what a fit is fitted to, on the CPU."""
        return self.job.fits[number].rule.prepare(self._judge.problem)

    def _end_of_fit(self, state: State, decision: Decision) -> Stop | None:
        end = super()._end_of_fit(state, decision)
        if end is not None or not self._looks_at(state):
            return end
        gained = self._judge.gain(state.average.cpu(), *self._fitted())
        if gained is None or gained >= _LEAST_GAIN:
            return None
        return Stop(StopReason.MINIMUM, _ADDS_NOTHING)

    def _looks_at(self, state: State) -> bool:
        """Return whether to ask after a state what the fit adds."""
        share = state.iteration / state.iterations
        every = max(state.iterations // _LOOKS, 1)
        return _FIRST_LOOK <= share < 1 and state.iteration % every == 0

    def _parts(self) -> list[Part]:
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

    def _joined(self, parts: Sequence[Part]) -> tuple[list[Estimate], Combination]:
        """Return what there is, and the join of it."""
        return self._judge.joined(parts, self._direct, is_ripe=self._is_ripe)

    @property
    def _is_ripe(self) -> bool:
        """Whether a fit has ended by itself, or the one at hand has gone far enough."""
        if self._done and not self.recovery.gave_up:
            return True
        reached = int(self.history.last.get("iteration", 0)) - self._before
        return reached >= _RIPE * self.prior.iterations

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
        stop = self.stop
        assert stop is not None
        if not stop.reason.is_final:
            stop = Stop(stop.reason, f"{stop}; {self._described(estimates, joined)}")
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
            residual=describe_residual(self._judge.problem, joined.image),
            members=tuple(
                Member(e.name, e.image, weight, e.risk)
                for e, weight in zip(estimates, joined.weights)
            ),
            risk=self._judge.expected_error(joined, parts, self._direct),
        )

    def _described(self, estimates: Sequence[Estimate], joined: Combination) -> str:
        """Say what was joined, with its weights."""
        parts = (f"{e.name} {weight:.2f}" for e, weight in zip(estimates, joined.weights))
        remark = self._judge.remark(is_ripe=self._is_ripe) if len(estimates) > 1 else ""
        return f"joined: {', '.join(parts)}{remark}"

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
            **values_of_stop("final", self._final),
            **flatten({"image": done, "direct": direct}),
        }

    def load(self, values: Values) -> None:
        images, count = subtree(values, "image"), int(values["done"])
        direct = subtree(values, "direct")
        self._direct = tuple(tensor_of(direct, str(k)) for k in range(len(direct)))
        for k in range(count):
            self._done.append(Part(tensor_of(images, str(k)), *self._fitted_of(k)))
        if 0 < count < len(self.job.fits):
            self._begin(self.job)
        super().load(values)
        # Checkpoints of before do not have it.
        self._final = stop_of_values("final", values) if "final_reason" in values else None
        self._before = int(values["before"])
        self._spikes, self._failures = int(values["spikes"]), int(values["failures"])
