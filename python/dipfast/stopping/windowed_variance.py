"""Stop by the variance of the outputs in a moving window (ES-WMV)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dipfast.arrays import as_double
from dipfast.errors import InputError
from dipfast.model.loop_view import LoopView
from dipfast.state_dict import Values, tensor_of
from dipfast.stopping.patience import check_share, seek_minimum
from dipfast.stopping.rule import Decision, StopRule

__all__ = ["WindowedVariance"]


@dataclass(frozen=True)
class WindowedVariance(StopRule):
    r"""Stop at the minimum of the outputs' variance in a moving window (ES-WMV).

    .. math:: V_t = \frac1W \sum_{s = t - W + 1}^{t} \frac1n \| u_s - \bar u \|^2

    with u_s the output, n the number of its elements and :math:`\bar u` the mean of the window.
    The variance falls while the outputs approach the clean image, and rises again when they fit
    the noise [1]_.

    Parameters
    ----------
    window
        Length W of the window in iterations, from 2 up; 100 as in the original.  As many images
        are kept in memory.
    patience
        Share of all iterations without a new minimum after which to stop, in (0, 1]; a fifth, as
        the original's 1000 of 5000.

    Raises
    ------
    ValueError
        If window or patience is out of its range.

    Notes
    -----
    The variance is also small in the first iterations, and where total variation keeps the
    outputs from changing.  Therefore windows lie in the last stage, and begin after the first
    tenth of all iterations.  With fewer iterations there than the window is long, nothing is
    judged: no fit is stopped, and the last image counts as the best.

    References
    ----------
    .. [1] Wang et al., "Early Stopping for Deep Image Prior", TMLR 2023, arXiv:2112.06074.
    """

    window: int = 100
    patience: float = 0.2

    def __post_init__(self) -> None:
        if self.window < 2:
            raise InputError(f"window must be from 2 up, got {self.window!r}")
        check_share("patience", self.patience, one=True)

    def looked_at(self, stages: Sequence[int]) -> int:
        """Return the number of iterations that windows can lie in.

        Parameters
        ----------
        stages
            The number of iterations of each stage, in order.

        Returns
        -------
        int
            Those of the last stage that are not of the first tenth of all iterations.

        Examples
        --------
        >>> WindowedVariance().looked_at([100, 200]), WindowedVariance().looked_at([100])
        (200, 90)
        """
        return min(stages[-1], sum(stages) - sum(stages) // 10)

    def update(self, state: LoopView, memory: Values) -> Decision:
        if not state.in_last_stage or state.iteration <= state.iterations / 10:
            return Decision(best=True)
        image = state.image
        if "images" not in memory:
            memory.update(
                images=image.new_zeros(self.window, *image.shape),
                # In double precision, because an image that leaves the window is subtracted, and
                # rounding errors would add up.
                sum=as_double(torch.zeros_like(image)),
                squares=0.0,
                count=0,
            )
        images, total = tensor_of(memory, "images"), tensor_of(memory, "sum")
        count = int(memory["count"])
        oldest = images[count % self.window]
        # Before the window is full the oldest image is all zeros, so that nothing is subtracted.
        total += as_double(image) - as_double(oldest)
        squares = float(memory["squares"]) + _square(image) - _square(oldest)
        oldest.copy_(image)
        memory.update(squares=squares, count=count + 1)
        if count + 1 < self.window:
            return Decision(best=True)
        variance = (squares / self.window - _square(total / self.window)) / image.numel()
        return seek_minimum(
            variance, state, memory, patience=self.patience, name="the windowed variance"
        )


def _square(image: Tensor) -> float:
    """Return the sum of squares of an image."""
    return float(as_double(image).square().sum())
