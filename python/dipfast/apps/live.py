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


class LiveView:
    """Show the image in a notebook while it is being restored, as ``callback=``.

    The view has the image so far, the share of the work that is done, the time left, the stage,
    and the curve of PSNR where there is a reference, else that of the loss.  Where a picture is
    there before the fits that are joined with it, that one is shown and its successors, not the
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
        if self._handle is None:
            self._begin = now
        if isinstance(state, Progress):
            if state.plane is not None and state.plane != self._plane:
                self._plane, self._is_of_run = state.plane, False
                self._curve.clear()
            if state.image is not None:
                # A fit that joins it begins far below it: its outputs are not shown.
                self._is_of_run = True
                self._draw(state.image)
            elif now < self._next and state.share < 1:
                return
            fits = self._curve or (state.tiles and self._is_of_run)
            self._update(state.share, "" if fits else "without a network")
            return
        last = state.iteration == state.iterations
        if now < self._next and not last:
            return
        self._note(state)
        if not self._is_of_run:
            self._draw(state.average)
        words = f"iteration {state.iteration} of {state.iterations}, stage {state.stage.name}"
        self._update(state.iteration / state.iterations, words)

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

    def _update(self, share: float, words: str) -> None:
        """Show everything, and decide when the next view is due."""
        begin = time.monotonic()
        passed, plane = begin - self._begin, ""
        if self._plane is not None:
            number, count = self._plane
            share, plane = (number + share) / count, f"plane {number + 1} of {count}"
        left = f", about {_duration(passed / share - passed)} left" if 0.02 < share < 1 else ""
        lines = [f"{share:.0%} in {_duration(passed)}{left}", plane, words]
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
