"""Run the loop to its end: ask the stop rule, keep the best, tell the callback, keep the books."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from dipfast import ops
from dipfast.prior.loop import DeepImagePrior, State
from dipfast.run.interrupt import Interrupt
from dipfast.run.recovery import Recovery
from dipfast.run.snapshots import Snapshots
from dipfast.state_dict import Values, copy_to, flatten, subtree, tensor_of
from dipfast.stopping import StopRule

__all__ = ["Callback", "Fit", "Iterate", "join_histories"]

Callback: TypeAlias = Callable[[State], object]

# Columns of a history are arrays of integers or of floating point: lists are larger.
_DTYPES = {"q": torch.int64, "d": torch.float64}
_KINDS = {dtype: kind for kind, dtype in _DTYPES.items()}

# As near to a measurement without noise as nobody would call worse.
_CLOSE = 0.02


@dataclass(frozen=True)
class Iterate:
    """One iteration, to keep.

    Attributes
    ----------
    iteration
        Its number.
    loss
        The objective of ``output``, per element.
    output
        What the network made, of shape (1, C, H, W).
    average
        The running average by then.
    """

    iteration: int
    loss: float
    output: Tensor
    average: Tensor


class Fit:
    """The fit of one image, and its history.

    Parameters
    ----------
    prior
        The loop.
    rule
        What ends it, and which iteration it judges best.
    reference
        The clean image (1, C, H, W) in the unit of the measurement, to report PSNR.
    peak
        Of PSNR, in the same unit.
    snapshots
        Where images on the way are kept; None for nowhere.

    Attributes
    ----------
    best, last
        The iterate that the rule judges best, and the last one; None before the first.
    stop_reason
        Why it ended.
    finished
        Whether it is over for good, or goes on when it is resumed.
    finish
        What becomes of images of the network before they are compared with the reference.
    """

    def __init__(
        self,
        prior: DeepImagePrior,
        rule: StopRule,
        reference: Tensor | None = None,
        snapshots: Snapshots | None = None,
        peak: float = 1.0,
    ) -> None:
        prior.problem = rule.prepare(prior.problem)
        self.prior = prior
        self.rule = rule
        self.reference, self.peak = reference, peak
        self.snapshots = snapshots
        self.recovery = Recovery(prior)
        self.finish: Callable[[Tensor], Tensor] = lambda image: image
        self.best: Iterate | None = None
        self._last: Iterate | None = None
        self.stop_reason = "all iterations done"
        self.finished = False
        self._memory: Values = {}
        self._columns: dict[str, array[Any]] = {}

    def run(
        self,
        callback: Callback | None = None,
        interrupt: Interrupt | None = None,
        saver: Callable[[int], object] | None = None,
    ) -> bool:
        """Fit until the stages, the rule, the callback or an interrupt end it.

        ``saver`` is told every iteration that is over.  Returns False if the whole task is to
        end and not this image alone.
        """
        for state in self.prior:
            if not self.recovery.admit(state):
                if self.recovery.gave_up:
                    self.stop_reason = "gave up: the loss keeps becoming infinite or undefined"
                    break
                continue
            verdict = self.rule.update(state, self._memory)
            # Only now, so that no stop rule can see the reference.
            state = replace(state, metrics=self._measure(state))
            # A rule may have nothing good to say of the first iterations.
            self._keep(state, best=verdict.best is not False or self.best is None)
            try:
                if callback is not None:
                    callback(state)
            except StopIteration:
                self.stop_reason = "stopped by the callback"
                return False
            if verdict.reason is not None:
                self.stop_reason = verdict.reason
                if not verdict.pause:
                    self._finish()
                return self.finished
            if interrupt is not None and interrupt.requested:
                self.stop_reason = interrupt.reason
                return False
            if saver is not None:
                saver(state.iteration)
        self._finish()
        return True

    def _finish(self) -> None:
        """It is over for good: what it would go on from is not needed any more."""
        self._last, self.finished = self.last, True
        self.recovery.forget()

    @property
    def last(self) -> Iterate | None:
        """The last iterate; None before the first."""
        if self._last is not None or not self._columns:
            return self._last
        return Iterate(
            self._columns["iteration"][-1],
            self._columns["loss"][-1],
            self.prior.output.clone(),
            self.prior.average,
        )

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

    def history(self) -> dict[str, list[Any]]:
        """One list for each column, one entry for each iteration that was not taken back."""
        stages = [stage.name for stage in self.prior.stages]
        return {
            name: [stages[k] for k in column] if name == "stage" else list(column)
            for name, column in self._columns.items()
        }

    def state_dict(self) -> Values:
        """All that a run that is resumed has to know.

        Of a fit that is finished that is much less.
        """
        parts: dict[str, Values] = {
            "history": {
                name: torch.tensor(list(column), dtype=_DTYPES[column.typecode])
                for name, column in self._columns.items()
            },
            "snapshots": {} if self.snapshots is None else self.snapshots.state_dict(),
            "best": {} if self.best is None else dict(vars(self.best)),
            "recovery": self.recovery.state_dict(),
        }
        if self.finished:
            parts["last"] = {} if self.last is None else dict(vars(self.last))
        else:
            parts["rule"] = self._memory
            parts["prior"] = self.prior.state_dict()
        return {"finished": int(self.finished), "stop_reason": self.stop_reason, **flatten(parts)}

    def load(self, values: Values) -> None:
        """Go on from :meth:`state_dict`.

        Raises
        ------
        KeyError, TypeError, ValueError
            If they are not those of such a fit, which must not be used any more then.
        """
        self.finished = bool(values["finished"])
        if self.finished:
            self.stop_reason = str(values["stop_reason"])
        columns = subtree(values, "history")
        self._columns = {
            name: array(_KINDS[tensor.dtype], tensor.tolist())
            for name in columns
            if (tensor := tensor_of(columns, name)).dtype in _KINDS
        }
        self.best, self._last = (self._iterate(subtree(values, part)) for part in ("best", "last"))
        self.recovery.load(subtree(values, "recovery"))
        if self.snapshots is not None:
            self.snapshots.load(subtree(values, "snapshots"))
        if not self.finished:
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

    def _keep(self, state: State, best: bool) -> None:
        """Write an iteration down, and keep its images if they are to be kept."""
        terms = state.terms
        row = {
            "iteration": state.iteration,
            "stage": self.prior.stages.index(state.stage),
            "loss": float(terms.value),
            "data": float(terms.data),
            "tv": float(terms.tv),
            **{name: float(value) for name, value in state.metrics.items()},
        }
        for name, value in row.items():
            kind = "q" if isinstance(value, int) else "d"
            self._columns.setdefault(name, array(kind)).append(value)
        if best:
            self.best = Iterate(state.iteration, row["loss"], state.image, state.average)
        if self.snapshots is not None and self.snapshots.wants(state.iteration):
            self.snapshots.add(state.iteration, state.average)

    def _measure(self, state: State) -> dict[str, Tensor]:
        if self.reference is None:
            return {}
        return {
            "psnr": self._psnr(state.image),
            "psnr_average": self._psnr(state.average),
        }

    def _psnr(self, image: Tensor) -> Tensor:
        value: Tensor = ops.psnr(self.finish(image), self.reference, data_range=self.peak)
        return value


def join_histories(histories: list[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    """One after the other, with a column ``item`` that counts them."""
    begun = [(item, history) for item, history in enumerate(histories) if history]
    columns = {name: [x for _, h in begun for x in h[name]] for _, h in begun[:1] for name in h}
    return {"item": [item for item, h in begun for _ in h["iteration"]], **columns}
