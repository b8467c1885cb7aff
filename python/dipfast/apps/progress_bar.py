"""A progress bar of a restoration, for terminals and notebooks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dipfast.errors import InputTypeError

if TYPE_CHECKING:
    from dipfast.prior.loop import State
    from dipfast.run.observers import Progress

__all__ = ["ProgressBar"]

# Seconds between two looks at the numbers of an iteration: reading one waits for the device.
_EVERY = 0.2
_SHARES = "{l_bar}{bar}| [{elapsed}<{remaining}]"


class ProgressBar:
    """Show how far a restoration has come, and the time left, as ``callback=``.

    The bar is one of tqdm: in a notebook a widget, elsewhere a line of text.  A fit has a bar of
    iterations with its stage, its loss and, with a reference, its PSNR; what needs no iterations
    has one of shares; a stack has one for all of its planes.  A bar is for one run.

    Parameters
    ----------
    description
        What is written in front of the bar.
    make
        What makes the bar, called as ``tqdm.tqdm``; None, the default, is ``tqdm.auto.tqdm``, which
        takes a widget where a notebook can show one.
    whole_planes
        Of a stack, whether the bar only moves when a plane is done, but for fits; False, the
        default, moves it within planes as well.  With fits, what comes before them is short,
        so that the bar is more even with True.

    Raises
    ------
    InputTypeError
        If ``make`` cannot be called.

    Examples
    --------
    >>> import numpy, dipfast
    >>> noisy = numpy.random.default_rng(0).normal(120, 20, (32, 32)).astype("uint8")
    >>> with dipfast.ProgressBar("my picture") as bar:  # doctest: +SKIP
    ...     result = dipfast.denoise(noisy, callback=bar)
    """

    def __init__(
        self,
        description: str = "restoring",
        make: Callable[..., Any] | None = None,
        *,
        whole_planes: bool = False,
    ) -> None:
        if make is not None and not callable(make):
            raise InputTypeError(f"make must be callable, got {type(make).__name__}")
        self._description = description
        self._make = make
        self._whole_planes = whole_planes
        self._plane = 0
        self._tiles = 0
        self._bar: Any = None
        self._shares = self._of_stack = False
        self._next_look = 0.0

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the bar, which stays as it is."""
        if self._bar is not None:
            self._bar.close()

    def __call__(self, state: State | Progress) -> None:
        """Show a state of the run.

        Parameters
        ----------
        state
            What the tasks give a callback.
        """
        from dipfast.run.observers import Progress

        if isinstance(state, Progress) and state.tiles and not self._tiles:
            self._tiles = state.tiles
            self._description += f", {state.tiles} tiles"
        if self._bar is not None and self._of_stack:
            self._show_plane(state)
        elif isinstance(state, Progress) and state.plane is not None:
            self._begin_stack(state.plane[1])
        elif isinstance(state, Progress):
            if state.image is None:
                self._show_share(state.share)
        else:
            self._show_iteration(state)

    def _new_bar(self, **options: Any) -> Any:
        if self._make is None:
            from tqdm.auto import tqdm

            self._make = tqdm
        return self._make(**options)

    def _begin_stack(self, planes: int) -> None:
        self._bar = self._new_bar(total=100 * planes, desc=self._description, bar_format=_SHARES)
        self._of_stack = True

    def _show_plane(self, state: State | Progress) -> None:
        """Show how much of all planes is done."""
        from dipfast.run.observers import Progress

        share = 0.0
        if isinstance(state, Progress):
            assert state.plane is not None
            self._plane, planes = state.plane
            named = f"{self._description}, plane {self._plane + 1} of {planes}"
            self._bar.set_description(named, refresh=False)
            moves = not self._whole_planes or state.image is not None
            share = state.share if moves else 0.0
        else:
            share = state.iteration / state.iterations
        done = 100 * (self._plane + share)
        if done > self._bar.n:
            self._bar.update(done - self._bar.n)

    def _show_share(self, share: float) -> None:
        if self._bar is None:
            self._shares = True
            self._bar = self._new_bar(total=100, desc=self._description, bar_format=_SHARES)
        self._bar.update(100 * share - self._bar.n)

    def _show_iteration(self, state: State) -> None:
        if self._shares:
            # What needs no iterations is done.
            self._bar.close()
            self._bar, self._shares = None, False
        if self._bar is None:
            self._bar = self._new_bar(total=state.iterations, unit="it")
        now = time.monotonic()
        if now >= self._next_look or state.iteration == state.iterations:
            self._next_look = now + _EVERY
            shown = {"loss": f"{state.numbers.value:.2e}"}
            if "psnr_average" in state.metrics:
                shown["PSNR"] = f"{float(state.metrics['psnr_average']):.2f}"
            self._bar.set_description(f"stage '{state.stage.name}'", refresh=False)
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update(state.iteration - self._bar.n)
