"""The engine: one job to one outcome."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dipfast import ops
from dipfast.errors import MemoryLimitError
from dipfast.prior.loop import State
from dipfast.run.job import Job
from dipfast.run.memory import explain
from dipfast.run.observers import History, Observer
from dipfast.run.recovery import Recovery
from dipfast.state_dict import Values, copy_to, flatten, subtree, tensor_of
from dipfast.stop_reason import Stop, StopReason
from dipfast.torch_modes import plain_modes

__all__ = ["Iterate", "Outcome", "Runner", "run"]

# As near to a measurement without noise as nobody would call worse.
_CLOSE = 0.02


@dataclass(frozen=True, eq=False)
class Iterate:
    """Hold the images of one iteration.

    Attributes
    ----------
    iteration
        Its number.
    loss
        The objective of ``output``, per element.
    output
        What the network made, of shape (1, C, H, W), in [0, 1].
    average
        The running average by then.
    """

    iteration: int
    loss: float
    output: Tensor
    average: Tensor


@dataclass(frozen=True, eq=False)
class Outcome:
    """Hold what came out of a job; the network is not among it.

    Attributes
    ----------
    best, last
        The iterate that the rule judged best, and the last one; None if there was none.
    stop
        Why it ended.
    history
        One list for each column, one entry for each iteration that was not taken back.
    iterations
        How many there might have been.
    spikes, failures
        How often the loss leapt up, and how often it was not finite.
    excess
        None, or how far the best image is from the measurement and how far the noise makes it, if
        the fit was cut short and the image is likely worse than the measurement
        (:meth:`Runner.excess`).
    """

    best: Iterate | None
    last: Iterate | None
    stop: Stop
    history: dict[str, list[Any]]
    iterations: int
    spikes: int
    failures: int
    excess: tuple[float, float] | None


def run(job: Job, observers: Sequence[Observer] = ()) -> Outcome:
    """Restore one image.

    Parameters
    ----------
    job
        The image, and what is to be done (:func:`dipfast.run.prepare.prepare`).
    observers
        What looks at the run; the first of them that says why to end it is obeyed, but a stop rule
        of the job that says so at the same iteration comes first.

    Returns
    -------
    Outcome
        The same bits for the same job on the CPU of the same machine with the same number of
        threads, in whatever process.

    Raises
    ------
    MemoryLimitError
        If there was not enough memory; the message says what would fit.
    """
    outcome = None
    with plain_modes():
        try:
            outcome = Runner(job, observers).run()
        except RuntimeError as error:
            if not _ran_out(error):
                raise
        if outcome is None:
            # Not before here, where nothing holds what the step had taken any more.
            raise MemoryLimitError(explain(**job.sizes))
    return outcome


def _ran_out(error: RuntimeError) -> bool:
    """Whether torch found no memory; on the CPU it has no error of its own for that."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


class Runner:
    """A run: the loop of a job, and what observers may see of it.

    Attributes
    ----------
    job
        What is worked on.
    prior
        The loop.
    best
        The iterate that the rule judges best; None before the first.
    stop
        Why it ended; None while it goes on.
    """

    def __init__(self, job: Job, observers: Sequence[Observer] = ()) -> None:
        self.job = job
        self.prior = job.make_prior()
        self.rule = job.rule
        self.prior.problem = self.rule.prepare(self.prior.problem)
        self.recovery = Recovery(self.prior)
        self.history = History()
        self.observers = [self.history, *observers]
        self.best: Iterate | None = None
        self.stop: Stop | None = None
        self._last: Iterate | None = None
        self._memory: Values = {}  # of the rule
        self._reference = None if job.reference is None else job.reference.to(job.device)

    def run(self) -> Outcome:
        """Run to the end, and return what came out."""
        for observer in self.observers:
            observer.begin(self)
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
        for state in self.prior:
            if not self.recovery.check(state):
                if self.recovery.gave_up:
                    return Stop(StopReason.GAVE_UP)
                continue
            decision = self.rule.update(state, self._memory)
            # Only now, so that no stop rule can see the reference.
            state = replace(state, metrics=self._measure(state))
            # A rule may have nothing good to say of the first iterations.
            if decision.best is not False or self.best is None:
                self.best = Iterate(
                    state.iteration, float(state.terms.value), state.image, state.average
                )
            asked = [observer.observe(self, state) for observer in self.observers]
            reason = decision.stop or next((stop for stop in asked if stop), None)
            if reason is not None:
                return Stop.of(reason)
        return Stop(StopReason.ALL_ITERATIONS)

    @property
    def is_finished(self) -> bool:
        """Whether it is over for good, and would not go on when it is resumed."""
        return self.stop is not None and self.stop.reason.is_final

    @property
    def last(self) -> Iterate | None:
        """The last iterate; None before the first."""
        numbers = self.history.last
        if self._last is not None or not numbers:
            return self._last
        images = self.prior.image, self.prior.average
        return Iterate(numbers["iteration"], numbers["loss"], *images)

    def finish(self, image: Tensor) -> Tensor:
        """Return an image of the network with the known pixels put in, if they are kept."""
        kept = self.job.kept_mask
        if kept is None:
            return image
        return torch.where(kept.to(image.device), self.prior.problem.measurement, image)

    def excess(self) -> tuple[float, float] | None:
        r"""Return how far the best image is from the measurement, and how far the noise makes it.

        Both are root mean squares, scaled to the noise.  None unless the first is so large that
        the image is likely a worse one than the measurement itself:

        .. math:: \operatorname{mean} r^2 > 2 \sigma^2 + 0.02^2.

        With an error e that the noise does not depend on, mean r^2 is e^2 + sigma^2, which is
        beyond 2 sigma^2 where e is larger than the noise.
        """
        problem = self.prior.problem
        noise = 0.0 if problem.noise.is_free else problem.noise.typical_variance
        distance = math.inf if self.best is None else problem.mean_square(self.best.average)
        if distance <= 2 * noise + _CLOSE**2:
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
            history=self.history.columns([stage.name for stage in self.prior.stages]),
            iterations=self.prior.iterations,
            spikes=self.recovery.spikes,
            failures=self.recovery.failures,
            excess=self.excess() if cut_short else None,
        )

    def state_dict(self) -> Values:
        """Return all that a run that is resumed has to know.

        Of a run that is finished that is much less.
        """
        parts: dict[str, Values] = {
            "best": {} if self.best is None else dict(vars(self.best)),
            "recovery": self.recovery.state_dict(),
            **{o.name: o.state_dict() for o in self.observers if o.name},
        }
        if self.is_finished:
            parts["last"] = {} if self.last is None else dict(vars(self.last))
        else:
            parts["rule"] = self._memory
            parts["prior"] = self.prior.state_dict()
        reason, detail = (
            ("", "") if self.stop is None else (self.stop.reason.name, self.stop.detail)
        )
        return {"stop_reason": reason, "stop_detail": detail, **flatten(parts)}

    def load(self, values: Values) -> None:
        """Go on from :meth:`state_dict`.

        Raises
        ------
        KeyError, TypeError, ValueError
            If they are not those of such a run, which must not be used any more then.
        """
        reason = str(values["stop_reason"])
        if reason and StopReason[reason].is_final:
            self.stop = Stop(StopReason[reason], str(values["stop_detail"]))
        self.best, self._last = (self._iterate(subtree(values, part)) for part in ("best", "last"))
        self.recovery.load(subtree(values, "recovery"))
        for observer in self.observers:
            if observer.name:
                observer.load(subtree(values, observer.name))
        if self.stop is None:
            self._memory = copy_to(self.prior.z.device, subtree(values, "rule"))
            self.prior.load(subtree(values, "prior"))

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
        return ops.psnr(self.finish(image), self._reference, data_range=self.job.peak)
