"""Restore what was measured by a method that fits no network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from dipfast.denoisers.jpeg import without_artefacts
from dipfast.denoisers.nl_ridge import nl_ridge
from dipfast.denoisers.plug_and_play import (
    STEPS,
    error_of_filled,
    filled,
    least_squares,
    plug_and_play,
)
from dipfast.denoisers.volumes import denoise_with_neighbours
from dipfast.model.bootstrap import noisier
from dipfast.model.operators import Identity, Mask, beyond_border
from dipfast.model.problem import Problem
from dipfast.settings.names import Quality

__all__ = ["Report", "denoise_directly", "guide_of", "restore_directly"]

Report: TypeAlias = Callable[[float, "Tensor | None"], object]
"""Called with the share that is done, and with the image after each step."""


def denoise_directly(
    problem: Problem,
    quality: Quality = "balanced",
    report: Report | None = None,
    rounds: int | None = None,
) -> Tensor:
    """Return a noisy picture denoised by non-local ridge regression, and one of a JPEG cleaned.

    A plane of a stack is denoised with its neighbours, if the problem has some.

    Parameters
    ----------
    problem
        The measurement, of the picture itself, and its noise.
    quality
        The speed of :func:`dipfast.denoisers.nl_ridge.nl_ridge`.
    report
        Called with the share that is done, from 0 to 1, a few times a second; of a JPEG also with
        the picture after each step.
    rounds
        How many passes to make of each size, of a picture alone that is no JPEG, as in
        :func:`dipfast.ops.nl_ridge`; None, the default, for all.

    Returns
    -------
    Tensor
        The picture, (1, C, H, W).
    """
    # The half of a split has coefficients that were not rounded.
    if problem.jpeg is not None and problem.split is None:
        y = problem.measurement
        return without_artefacts(y.cpu(), problem.jpeg, quality, report).to(y.device)
    progress = None if report is None else lambda share: report(share, None)
    if problem.neighbours is not None:
        return denoise_with_neighbours(problem, problem.neighbours, quality, progress)
    # What is wrong, and what judges a fit, which must not be in its guide.
    unseen = None if problem.known is None else ~problem.known
    return nl_ridge(
        problem.measurement,
        problem.noise if problem.split is None else noisier(problem.noise, problem.split.ratio),
        outliers=unseen,
        speed=quality,
        rounds=rounds,
        callback=progress,
    )


def restore_directly(
    problem: Problem, quality: Quality = "balanced", report: Report | None = None
) -> Tensor:
    """Return what a linear operator was applied to, by plug-and-play.

    Parameters
    ----------
    problem
        The measurement, its operator and its noise.
    quality
        The number of steps (:data:`dipfast.denoisers.plug_and_play.STEPS`).
    report
        Called with the share that is done, from 0 to 1, and with the image after each step.

    Returns
    -------
    Tensor
        The picture, (1, C, H, W).
    """
    y, operator, known = problem.measurement, problem.operator, problem.known
    inner: tuple[slice, slice] | None = None
    beyond = beyond_border(operator)
    if beyond is not None:
        operator, inner = beyond
    error: float | None = None
    if isinstance(operator, Mask) and known is not None:
        start, error = filled(y, known), error_of_filled(y, known)
    else:
        start = least_squares(y, operator, known)

    def measured(image: Tensor) -> Tensor:
        return image if inner is None else image[..., inner[0], inner[1]].contiguous()

    def report_measured(share: float, image: Tensor | None) -> None:
        if report is not None:
            report(share, None if image is None else measured(image))

    callback = None if report is None else report_measured
    restored = plug_and_play(
        y,
        operator,
        problem.noise,
        start,
        known=known,
        error=error,
        steps=STEPS[quality],
        callback=callback,
    )
    return measured(restored)


def guide_of(problem: Problem) -> Tensor:
    """Return a picture to guide a network with: of either method, by the operator.

    Parameters
    ----------
    problem
        The measurement and its model.

    Returns
    -------
    Tensor
        The picture, (1, C, H, W), in [0, 1].
    """
    if isinstance(problem.operator, Identity):
        return denoise_directly(problem).clamp(0, 1)
    return restore_directly(problem).clamp(0, 1)
