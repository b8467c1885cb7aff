"""Fit one network: go through the states of its loop, and show them to the observers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from dipfast import ops
from dipfast.prior.loop import State
from dipfast.run.job import Job
from dipfast.run.observers import History, Observer
from dipfast.run.outcome import Iterate, Outcome
from dipfast.run.recovery import Recovery
from dipfast.run.residual import describe_residual
from dipfast.state_dict import Values, check_values, copy_to, flatten, subtree, tensor_of
from dipfast.stop_reason import Stop, StopReason
from dipfast.stopping import Decision

__all__ = ["Runner", "stop_of_values", "values_of_stop"]

# Root mean square, in units of the value range, below which a difference from a measurement without
# noise is not visible.
_INVISIBLE_DIFFERENCE = 0.02


class Runner:
    """Run the loop of a job, and show it to observers.

    Parameters
    ----------
    job
        The image and all that was decided for it.
    observers
        Observers of the run, asked in this order.

    Attributes
    ----------
    prior
        The loop, a :class:`~dipfast.prior.loop.DeepImagePrior`.
    rule
        The stop rule of the job.
    recovery
        The check that undoes bad iterations.
    history
        The first of the observers, which keeps the numbers of all iterations.
    best
        The iterate that the stop rule judges best; None before the first.
    stop
        Why the run ended; None while it continues.
    """

    def __init__(self, job: Job, observers: Sequence[Observer] = ()) -> None:
        self.job = job
        self.history = History()
        self.observers = [self.history, *observers]
        self.best: Iterate | None = None
        self.stop: Stop | None = None
        self._last: Iterate | None = None
        self._reference = None if job.reference is None else job.reference.to(job.device)
        self._begin(job)

    def _begin(self, job: Job, before: int = 0) -> None:
        """Begin a fit; its iterations are numbered from those of earlier fits on."""
        self.prior = job.make_prior()
        self.rule = job.rule
        self.prior.problem = self.rule.prepare(self.prior.problem)
        self.recovery = Recovery(self.prior)
        self._rule_state: Values = {}
        self._before = before
        # Why the rule ended the fit: a checkpoint of its last iteration must not go on.
        self._ended: Stop | None = None

    def run(self) -> Outcome:
        """Run to the end.

        Returns
        -------
        Outcome
            The outcome; at once if the run had finished when its checkpoint was written.
        """
        for observer in self.observers:
            observer.begin(self)
        return self._go_on()

    def _go_on(self) -> Outcome:
        """Do what is left, once the observers have begun."""
        if self.stop is None:
            self.stop = self._loop()
            if self.stop.reason.is_final:
                self._last = self.last
                self.recovery.forget()
        for observer in self.observers:
            observer.end(self)
        return self._outcome()

    def _loop(self) -> Stop:
        """Go through the iterations, and return why they ended."""
        if self._ended is not None:
            return self._ended
        for state in self.prior:
            if not self.recovery.check(state):
                if self.recovery.gave_up:
                    return Stop(StopReason.GAVE_UP)
                continue
            decision = self.rule.decide(state, self._rule_state)
            check_values("the stop rule", self._rule_state)
            self._ended = self._end_of_fit(state, decision)
            # After the stop rule, which must not see the reference.
            state = replace(
                state,
                metrics=self._measure(state),
                iteration=self._before + state.iteration,
                total=self.job.iterations,
            )
            # A rule of a user's may answer with a tensor or a value of NumPy.
            best = None if decision.best is None else bool(decision.best)
            # A rule may judge no iteration best for a while: the first one serves until then.
            if best is not False or self.best is None:
                self.best = Iterate(
                    state.iteration, state.numbers.value, state.image, state.average
                )
            requests = [observer.observe(self, state) for observer in self.observers]
            reason = self._ended or next((stop for stop in requests if stop), None)
            if reason is not None:
                return Stop.of(reason)
        return Stop(StopReason.ALL_ITERATIONS)

    def _end_of_fit(self, state: State, decision: Decision) -> Stop | None:
        """Return why a fit ends at a state; None if it goes on."""
        return None if decision.stop is None else Stop.of(decision.stop)

    @property
    def is_finished(self) -> bool:
        """Say whether the run has ended, and would not continue if it were resumed."""
        return self.stop is not None and self.stop.reason.is_final

    @property
    def last(self) -> Iterate | None:
        """Return the last iterate that was not undone; None before the first."""
        numbers = self.history.last
        if self._last is not None or not numbers:
            return self._last
        iteration, loss = numbers["iteration"], numbers["loss"]
        if self.recovery.returned_to is not None:
            at, loss = self.recovery.returned_to
            if at == 0:  # no copy is of an iteration yet
                # Tensors of its own: a checkpoint cannot hold the same memory under two names.
                best = self.best
                return None if best is None else _copy_of(best)
            iteration = self._before + at
        return Iterate(iteration, loss, self.prior.image, self.prior.average)

    def excess(self) -> tuple[float, float] | None:
        r"""Return the distance of the best image from the measurement, and that of the noise.

        Returns
        -------
        tuple of float, or None
            Root mean square of the residual r and of the noise, in units of the value range.  None
            unless the residual is so large that the image is likely worse than the measurement:

            .. math:: \operatorname{mean} r^2 > 2 \sigma^2 + 0.02^2.

        Notes
        -----
        If the error e of the image is independent of the noise, the mean of r^2 is e^2 + sigma^2,
        which exceeds 2 sigma^2 where e is larger than the noise.  The constant is a difference
        that is not visible, for measurements without noise.
        """
        problem = self.prior.problem
        noise = 0.0 if problem.noise.is_free else problem.noise.typical_variance
        distance = math.inf if self.best is None else problem.mean_square(self.best.average)
        if distance <= 2 * noise + _INVISIBLE_DIFFERENCE**2:
            return None
        return math.sqrt(distance), math.sqrt(noise)

    def _outcome(self) -> Outcome:
        stop = self.stop
        assert stop is not None
        asked_for = self.job.settings.max_iterations
        planned_short = asked_for is not None and self.prior.iterations < asked_for
        gave_up = stop.reason is StopReason.GAVE_UP
        cut_short = not self.is_finished or planned_short or gave_up or self.best is None
        return Outcome(
            best=self.best,
            last=self.last,
            stop=stop,
            history=self.history.columns([stage.name for stage in self.job.stages]),
            iterations=self.prior.iterations,
            spikes=self.recovery.spikes,
            failures=self.recovery.failures,
            excess=self.excess() if cut_short else None,
            residual=None
            if self.best is None
            else describe_residual(self.prior.problem, self.best.average),
        )

    def state_dict(self) -> Values:
        """Return the state of the run for a checkpoint.

        Returns
        -------
        dict
            Tensors, numbers and texts by name.  That of a finished run has no network, and is much
            smaller.
        """
        parts: dict[str, Values] = {
            "best": {} if self.best is None else dict(vars(self.best)),
            "recovery": self.recovery.state_dict(),
            **{o.name: o.state_dict() for o in self.observers if o.name},
        }
        if self.is_finished:
            parts["last"] = {} if self.last is None else dict(vars(self.last))
        else:
            parts["rule"] = self._rule_state
            parts["prior"] = self.prior.state_dict()
        return {
            **values_of_stop("stop", self.stop),
            **values_of_stop("ended", self._ended),
            **flatten(parts),
        }

    def load(self, values: Values) -> None:
        """Restore a state of :meth:`state_dict`.

        Parameters
        ----------
        values
            The state.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the values are not the state of such a run.  This run is unusable then.
        """
        stop = stop_of_values("stop", values)
        self.stop = stop if stop is not None and stop.reason.is_final else None
        self.best, self._last = (self._iterate(subtree(values, part)) for part in ("best", "last"))
        self.recovery.load(subtree(values, "recovery"))
        for observer in self.observers:
            if observer.name:
                observer.load(subtree(values, observer.name))
        if self.stop is None:
            self._rule_state = copy_to(self.prior.z.device, subtree(values, "rule"))
            self.prior.load(subtree(values, "prior"))
            self._ended = stop_of_values("ended", values)

    def _iterate(self, values: Values) -> Iterate | None:
        if not values:
            return None
        device = self.prior.z.device
        return Iterate(
            int(values["iteration"]),
            float(values["loss"]),
            tensor_of(values, "output").to(device),
            tensor_of(values, "average").to(device),
        )

    def _measure(self, state: State) -> dict[str, Tensor]:
        if self._reference is None:
            return {}
        return {"psnr": self._psnr(state.image), "psnr_average": self._psnr(state.average)}

    def _psnr(self, image: Tensor) -> Tensor:
        assert self._reference is not None
        return ops.psnr(self.job.finish(image), self._reference, data_range=self.job.peak)


def _copy_of(iterate: Iterate) -> Iterate:
    return replace(iterate, output=iterate.output.clone(), average=iterate.average.clone())


def values_of_stop(name: str, stop: Stop | None) -> Values:
    """Return a reason to stop for a checkpoint.

    Parameters
    ----------
    name
        The beginning of the names of its values.
    stop
        The reason; None for none.

    Returns
    -------
    dict
        Texts by name.
    """
    reason, detail = ("", "") if stop is None else (stop.reason.name, stop.detail)
    return {f"{name}_reason": reason, f"{name}_detail": detail}


def stop_of_values(name: str, values: Values) -> Stop | None:
    """Return a reason to stop of a checkpoint.

    Parameters
    ----------
    name
        The beginning of the names of its values.
    values
        Values of :func:`values_of_stop`, among others.

    Returns
    -------
    Stop or None
        The reason; None for none.

    Raises
    ------
    KeyError
        If it is not among the values.
    """
    reason = str(values[f"{name}_reason"])
    return Stop(StopReason[reason], str(values[f"{name}_detail"])) if reason else None
