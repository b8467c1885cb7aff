"""The outcome of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dipfast.stop_reason import Stop

__all__ = ["Iterate", "Member", "Outcome"]


@dataclass(frozen=True, eq=False)
class Iterate:
    """Hold the images of one iteration, or those of a method that fits no network.

    Parameters
    ----------
    iteration
        The number of the iteration, counted from 1; that of the step of a method that fits no
        network, which is 1 if it has a single one.
    loss
        The objective of ``output``, divided by the number of measured elements; NaN without one.
    output
        The output of the network, of shape (1, C, H, W), in [0, 1].
    average
        The running average of the outputs up to this iteration, of the same shape; the output
        itself without iterations.
    """

    iteration: int
    loss: float
    output: Tensor
    average: Tensor


@dataclass(frozen=True, eq=False)
class Member:
    """Hold one of the pictures that were joined.

    Parameters
    ----------
    name
        What made it.
    image
        The picture, (1, C, H, W), in units of a picture in [0, 1].
    weight
        Its weight, from 0 to 1.
    risk
        Its expected mean square error.
    """

    name: str
    image: Tensor
    weight: float
    risk: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """Hold the outcome of a job; the network is not part of it.

    Parameters
    ----------
    best
        The iterate that the stop rule judged best; None if there was none.
    last
        The last iterate; None if there was none.
    stop
        Why the run ended.
    history
        One list for each column, one entry for each iteration that was not undone.
    iterations
        The number of iterations that were planned.
    spikes
        The number of iterations that were undone because the loss jumped up.
    failures
        The number of iterations that were undone because the loss was not finite.
    excess
        The two numbers of :meth:`dipfast.run.runner.Runner.excess` if the fit was ended early and
        the best image is likely worse than the measurement; else None.
    residual
        Root mean square of the residual of the best image, in units of the value range, and its
        correlation with itself one pixel further; None if there is no best image.
    members
        What was joined; none, the default, for one fit alone.
    risk
        The expected mean square error of the best image; None where it was not estimated.
    tiles
        How many tiles were done, and how many there are; None, the default, for a picture that was
        not cut.
    """

    best: Iterate | None
    last: Iterate | None
    stop: Stop
    history: dict[str, list[Any]]
    iterations: int
    spikes: int
    failures: int
    excess: tuple[float, float] | None
    residual: tuple[float, float] | None = None
    members: tuple[Member, ...] = ()
    risk: float | None = None
    tiles: tuple[int, int] | None = None
