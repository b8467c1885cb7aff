"""A live view of a restoration in a notebook."""

from __future__ import annotations

import base64
import math
import time
from html import escape
from typing import TYPE_CHECKING, Any

from dipfast.errors import InputError, MissingExtraError
from dipfast.images import display

if TYPE_CHECKING:
    from torch import Tensor

    from dipfast.prior.loop import State
    from dipfast.run.observers import Progress

__all__ = ["LiveView"]

# Width and height of the curve, in pixels, and the most points of it.
_WIDTH, _HEIGHT, _MOST_POINTS = 240, 60, 400
# The view takes no more of the time than one part in so many.
_SHARE = 20
# The share of a step after which the time that is left is told.
_TOLD_FROM = 0.02


class LiveView:
    """Show the image in a notebook while it is being restored, as ``callback=``.

    The view has the image so far, the share of the step that is done and the time left of it, the
    stage, and the curve of PSNR where there is a reference, else that of the loss.  Where a picture
    is there before the fits that are joined with it, that one is shown and its successors, not the
    fits.  To end early and keep the image, interrupt the kernel.  A view is for one run.

    Parameters
    ----------
    every
        Seconds between two views at least; they are further apart where drawing would take more
        than a twentieth of the time.
    size
        Rows and columns of the image that is shown, at most.

    Raises
    ------
    InputError
        If a number is not positive.
    MissingExtraError
        If IPython, which every notebook has, is not installed.

    Examples
    --------
    In a notebook:

    >>> import numpy, dipfast
    >>> noisy = numpy.random.default_rng(0).normal(120, 20, (32, 32)).astype("uint8")
    >>> view = dipfast.LiveView(every=0.5)  # doctest: +SKIP
    >>> result = dipfast.denoise(noisy, callback=view)  # doctest: +SKIP
    """

    def __init__(self, every: float = 1.0, size: int = 480) -> None:
        for name, value in (("every", every), ("size", size)):
            if not (isinstance(value, int | float) and 0 < value < math.inf):
                raise InputError(f"{name} must be a positive number, got {value!r}")
        try:
            from IPython.display import HTML
            from IPython.display import display as show
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                "LiveView needs IPython, which every notebook has: pip install ipython"
            ) from error
        self.every, self.size = every, size
        self._html: Any = HTML
        self._show: Any = show
        self._handle: Any = None
        self._begin = 0.0
        self._next = 0.0
        # Of the step at hand: the share that is done, and when and where it began.
        self._share = self._step_from = 0.0
        self._step_begin = 0.0
        self._fits = False
        self._picture = ""
        self._is_of_run = False
        self._plane: tuple[int, int] | None = None
        self._curve: list[tuple[int, float]] = []
        self._curve_name = ""

    def __call__(self, state: State | Progress) -> None:
        """Look at a state of the run, and show it if it is time.

        Parameters
        ----------
        state
            What the tasks give a callback.
        """
        from dipfast.run.observers import Progress

        now = time.monotonic()
        if isinstance(state, Progress) and state.plane is not None and state.plane != self._plane:
            self._plane, self._is_of_run = state.plane, False
            self._curve.clear()
        self._advance(self._share_of(state), now)
        if isinstance(state, Progress):
            if state.image is not None:
                # A fit that joins it begins far below it: its outputs are not shown.
                self._is_of_run = True
                self._draw(state.image)
            elif now < self._next and state.share < 1:
                return
            fits = self._curve or (state.tiles and self._is_of_run)
            self._update("" if fits else "without a network")
            return
        last = state.iteration == state.iterations
        if now < self._next and not last:
            return
        self._note(state)
        if not self._is_of_run:
            self._draw(state.average)
        words = f"iteration {state.iteration} of {state.iterations}, stage {state.stage.name}"
        self._update(words)

    def _share_of(self, state: State | Progress) -> float:
        """Return the share of the step at hand that is done; of a stack, of all planes."""
        from dipfast.run.observers import Progress

        if isinstance(state, Progress):
            self._fits = self._fits or state.image is not None
            fits_tiles = bool(state.tiles) and self._is_of_run
            is_first = self._fits and state.image is None and not fits_tiles
            # Of a stack, what comes before the fits of a plane is short beside them.
            share = 0.0 if is_first and self._plane is not None else state.share
        else:
            self._fits = True
            share = state.iteration / state.iterations
        if self._plane is None:
            return share
        number, count = self._plane
        return (number + share) / count

    def _advance(self, share: float, now: float) -> None:
        """Note a share; where it falls another step begins, which has a pace of its own."""
        if self._handle is None:
            self._begin = now
        if self._handle is None or share < self._share:
            self._step_begin, self._step_from = now, share
        self._share = share

    def _note(self, state: State) -> None:
        """Add a point to the curve."""
        psnr = state.metrics.get("psnr_average")
        value = math.log10(max(state.numbers.value, 1e-12)) if psnr is None else float(psnr)
        self._curve_name = "loss, logarithmic" if psnr is None else f"PSNR {value:.2f} dB"
        if self._curve and self._curve[-1][0] >= state.iteration:  # another fit
            self._curve.clear()
        self._curve.append((state.iteration, value))
        if len(self._curve) > _MOST_POINTS:
            del self._curve[1:-1:2]

    def _draw(self, image: Tensor) -> None:
        """Keep a picture of the image, (N, C, H, W) in [0, 1], of which the first is shown."""
        planes = display.to_planes(image[:1], None)
        pixels = display.reduce(display.to_8_bits(planes, (0.0, 1.0)), self.size)
        self._picture = base64.b64encode(display.encode_png(pixels)).decode("ascii")

    def _update(self, words: str) -> None:
        """Show everything, and decide when the next view is due."""
        begin = time.monotonic()
        share, done = self._share, self._share - self._step_from
        left = plane = ""
        if done > _TOLD_FROM and share < 1:
            seconds = (begin - self._step_begin) * (1 - share) / done
            left = f", about {_duration(seconds)} left"
        if self._plane is not None:
            plane = f"plane {self._plane[0] + 1} of {self._plane[1]}"
        lines = [f"{share:.0%} in {_duration(begin - self._begin)}{left}", plane, words]
        image = (
            f"<img alt='image so far' src='data:image/png;base64,{self._picture}'>"
            if self._picture
            else ""
        )
        text = "<br>".join(escape(line) for line in lines if line)
        shown = self._html(
            "<div style='display: flex; flex-wrap: wrap; gap: 1em; align-items: flex-start'>"
            f"{image}<div><progress max='1' value='{share:.3f}'></progress><br>{text}"
            f"{self._drawn_curve()}</div></div>"
        )
        if self._handle is None:
            self._handle = self._show(shown, display_id=True)
        else:
            self._handle.update(shown)
        now = time.monotonic()
        self._next = now + max(self.every, _SHARE * (now - begin))

    def _drawn_curve(self) -> str:
        """Return the curve as SVG; empty before its second point."""
        if len(self._curve) < 2:
            return ""
        first, last = self._curve[0][0], self._curve[-1][0]
        values = [value for _, value in self._curve]
        low, width = min(values), max(max(values) - min(values), 1e-9)
        points = " ".join(
            f"{_WIDTH * (iteration - first) / max(last - first, 1):.1f},"
            f"{_HEIGHT - (_HEIGHT - 4) * (value - low) / width - 2:.1f}"
            for iteration, value in self._curve
        )
        return (
            f"<br><svg width='{_WIDTH}' height='{_HEIGHT}' role='img' "
            f"aria-label='{escape(self._curve_name)}'>"
            f"<polyline points='{points}' fill='none' stroke='currentColor' stroke-width='1.5'/>"
            f"</svg><br>{escape(self._curve_name)}"
        )


def _duration(seconds: float) -> str:
    """Return a time in words, in seconds, or in minutes and seconds."""
    whole = round(seconds)
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60} s"
