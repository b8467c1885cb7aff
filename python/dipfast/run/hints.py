"""Hints: what a user may do for a better image, after a run."""

from __future__ import annotations

import math
from collections.abc import Iterator

from dipfast.model.noise_estimate import JPEG_REMARK
from dipfast.run.job import Job
from dipfast.run.outcome import Outcome
from dipfast.stop_reason import StopReason
from dipfast.stopping import Never

__all__ = ["COARSE", "NEARLY_WHITE", "hints"]

# The residual is far, or very far, from the noise if it is this many times as large.
_FAR, _VERY_FAR = 1.2, 3.0
COARSE, NEARLY_WHITE = 0.25, 0.1
"""Correlations of neighbours above and below which a residual is surely not, and may be, white."""


def hints(job: Job, outcome: Outcome) -> Iterator[str]:
    """Yield hints that follow from the noise of an image and the residual of its fit.

    Parameters
    ----------
    job
        The image and all that was decided for it.
    outcome
        Its outcome.

    Yields
    ------
    str
        A hint, with numbers in the unit of the image.
    """
    if job.estimate is not None:
        yield from (remark for remark in job.estimate.remarks if remark != JPEG_REMARK)
    noise = job.problem.noise
    if (
        job.stretch is not None
        or noise.is_free
        or job.problem.jpeg is not None
        or outcome.residual is None
        or isinstance(job.rule, Never)
    ):
        return
    size, related = outcome.residual
    level = math.sqrt(noise.typical_variance)
    numbers = f"{size * job.range_width:.3g}, and the noise {level * job.range_width:.3g}"
    coarse = related > COARSE and not noise.is_correlated
    # Without a fit nothing that is larger than the noise is left.
    if not job.is_direct and size > _FAR * level and abs(related) < NEARLY_WHITE:
        yield f"what the fit leaves is {numbers}, and looks like noise: a larger sigma may suit"
    elif (
        not job.is_direct
        and size > _VERY_FAR * level
        and outcome.stop.reason is StopReason.ALL_ITERATIONS
    ):
        yield (
            f"all iterations were run, and what the fit leaves is {numbers}: more of them "
            "(max_iterations) may bring details back"
        )
    elif coarse and size < _FAR * level:
        yield (
            f"what was taken away is coarse (neighbours correlate by {related:.2f}), as white "
            "noise is not: noise='correlated' may suit"
        )
