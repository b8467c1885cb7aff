"""Run the loop to its end: ask the stop rule, tell the callback, keep the books."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from dipfast import ops
from dipfast.prior import DeepImagePrior, State
from dipfast.stopping import StopRule

__all__ = ["Callback", "Fit", "catch_interrupt", "join_histories"]

Callback: TypeAlias = Callable[[State], object]

# Seconds after the first Ctrl-C in which others are taken for the same.
_PATIENCE = 1.0


class Fit:
    """The fit of one image, and its history.

    Parameters
    ----------
    prior
        The loop.
    reference
        The clean image (1, C, H, W) in [0, 1], to report PSNR.

    Attributes
    ----------
    stop_reason
        Why it ended.
    finish
        What becomes of images of the network before they are compared with the reference.
    """

    def __init__(self, prior: DeepImagePrior, reference: Tensor | None = None) -> None:
        self.prior = prior
        self.finish: Callable[[Tensor], Tensor] = lambda image: image
        self.reference = reference
        self.stop_reason = "all iterations done"
        self._rows: list[tuple[int, str, dict[str, Tensor]]] = []

    def run(
        self, rule: StopRule | None, callback: Callback | None, interrupted: threading.Event
    ) -> bool:
        """Fit until the stages, the rule, the callback or an interrupt end it.

        Returns False if callback or interrupt did, which means the whole task and not this
        image alone.
        """
        for state in self.prior:
            reason = rule.update(state) if rule is not None else None
            # Only now, so that no stop rule can see the reference.
            state = replace(state, metrics=self._measure(state))
            terms = {"loss": state.terms.value, "data": state.terms.data, "tv": state.terms.tv}
            self._rows.append((state.iteration, state.stage.name, {**terms, **state.metrics}))
            try:
                if callback is not None:
                    callback(state)
            except StopIteration:
                self.stop_reason = "stopped by the callback"
                return False
            if interrupted.is_set():
                self.stop_reason = "interrupted"
                return False
            if reason is not None:
                self.stop_reason = reason
                break
        return True

    def history(self) -> dict[str, list[Any]]:
        """One list for each column, one entry for each iteration."""
        columns: dict[str, list[Any]] = {
            "iteration": [row[0] for row in self._rows],
            "stage": [row[1] for row in self._rows],
        }
        for name in self._rows[0][2]:
            columns[name] = torch.stack([row[2][name] for row in self._rows]).tolist()
        return columns

    def _measure(self, state: State) -> dict[str, Tensor]:
        if self.reference is None:
            return {}
        return {
            "psnr": ops.psnr(self.finish(state.image), self.reference, data_range=1.0),
            "psnr_average": ops.psnr(self.finish(state.average), self.reference, data_range=1.0),
        }


def join_histories(histories: list[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    """One after the other, with a column ``item`` that counts them."""
    items = [item for item, history in enumerate(histories) for _ in history["iteration"]]
    return {
        "item": items,
        **{name: [x for history in histories for x in history[name]] for name in histories[0]},
    }


@contextmanager
def catch_interrupt() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, instead of raising in the middle of a step.

    A second Ctrl-C, not just the same one held down, raises KeyboardInterrupt.  Where
    Ctrl-C is not Python's to handle (in another thread than the main one, or because the
    program has its own handler) the event is never set.
    """
    event = threading.Event()
    default = signal.default_int_handler
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not default
    ):
        yield event
        return

    patience_until = 0.0

    def handle(number: int, frame: Any) -> None:
        nonlocal patience_until
        if not event.is_set():
            patience_until = time.monotonic() + _PATIENCE
            event.set()
            print("\nending after this iteration; Ctrl-C again gives up", file=sys.stderr)
        elif time.monotonic() >= patience_until:
            default(number, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, default)
