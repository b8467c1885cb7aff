"""Hints: what a user may do for a better image, after a run."""

from __future__ import annotations

import math
from collections.abc import Iterator

from dipfast.arrays import name_of_dtype
from dipfast.model.noise import NoiseModel
from dipfast.model.noise_estimate import JPEG_REMARK
from dipfast.run import job as jobs
from dipfast.run.fits import has_fits
from dipfast.run.job import Job
from dipfast.run.outcome import Outcome
from dipfast.settings.names import DIRECT_METHOD_OF, FAST_WITHOUT_NETWORK
from dipfast.settings.settings import DenoiseSettings
from dipfast.stop_reason import StopReason
from dipfast.stopping import Never

__all__ = ["COARSE", "NEARLY_WHITE", "hints"]

# The residual is far, or very far, from the noise if it is this many times as large.
_FAR, _VERY_FAR = 1.2, 3.0
COARSE, NEARLY_WHITE = 0.25, 0.1
"""Correlations of neighbours above and below which a residual is surely not, and may be, white."""
# Pictures that differ by less than half a level of eight bits are the same.
_LEAST_CHANGE = 0.5 / 255
# A picture is cut off at an end of the range if it comes as near to it as this, in units of it: the
# networks end in a sigmoid, which does not reach it.
_AT_THE_END = 1e-3
# What is said of a join is said of a picture in it that has this weight or more.
_LARGE_WEIGHT = 0.5
# A share of outliers that is seen in the result.
_MANY_OUTLIERS = 1e-3
# A sigma that was told differs from what the picture tells if it does by more than this factor.
_OTHER_SIGMA = 2.0

# Counts are those of photons if each adds about one to the variance, between these factors: where a
# photon is several counts, rounding costs next to nothing.  Up to so many, a good estimate errs by
# about one, and what rounding adds is seen.
_ABOUT_ONE, _MOST_COUNTED = (0.5, 1.5), 100.0


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
        yield from _of_sigma(job)
        yield from (remark for remark in job.estimate.remarks if remark != JPEG_REMARK)
    yield from _of_outliers(job)
    yield from _of_joined_fits(job, outcome)
    yield from _of_range(job, outcome)
    noise = job.problem.noise
    yield from _of_counts(noise, job)
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


def _of_sigma(job: Job) -> Iterator[str]:
    """Yield a hint if a sigma was told that is far from what the picture tells."""
    assert job.estimate is not None
    noise = job.problem.noise if job.stretch is None else job.stretch.measured
    seen, told = job.estimate.seen, noise.sigma
    if not seen or not told or max(seen / told, told / seen) <= _OTHER_SIGMA:
        return
    effect = "smooth details away" if told > seen else "leave noise in the result"
    yield (
        f"sigma={told * job.range_width:.3g} was told, and the picture looks like "
        f"{seen * job.range_width:.3g}: this may {effect}; sigma='auto' takes what the picture "
        "tells"
    )


def _of_outliers(job: Job) -> Iterator[str]:
    """Yield a hint if many outliers stay in the result as they are."""
    settings, outliers = job.settings, job.problem.outliers
    if not isinstance(settings, DenoiseSettings) or settings.fill_outliers or outliers is None:
        return
    if float(outliers.double().mean()) >= _MANY_OUTLIERS:
        yield (
            "outliers that stand alone, such as hot and dead pixels, stay as they are: "
            "fill_outliers=True takes them out"
        )


def _of_counts(noise: NoiseModel, job: Job) -> Iterator[str]:
    """Yield a hint if the rounding of the result costs more than the noise that is left."""
    if noise.gain == 0 or "float" in name_of_dtype(job.layout.dtype):
        return
    most = (float(job.problem.measurement.max()) - job.layout.ends[0]) * job.range_width
    least, largest = _ABOUT_ONE
    if least < noise.gain * job.range_width < largest and most <= _MOST_COUNTED:
        yield (
            f"these are counts of few photons (up to {most:.3g}), and the result is "
            "rounded to whole counts, which costs as much as the noise that is left: give the "
            "image as floats (float32), and the result has fractions"
        )


def _of_joined_fits(job: Job, outcome: Outcome) -> Iterator[str]:
    """Yield a hint if there were to be fits, and none is made, or if they added nothing."""
    settings = job.settings
    if settings.method != "joined":
        return
    denoises = settings.task == "denoise"
    most, least = settings.max_iterations, jobs.SHORTEST_FIT
    suits = has_fits(job)
    if not denoises and not suits:
        yield (
            "the noise of neighbouring pixels is correlated, so that held-out ones cannot judge a "
            "fit, and none was made: the result is that of pnp; method='two_stage' fits a network"
        )
    # A picture without noise, and planes that help each other, have no fits anyway.
    if suits and most is not None and most < least:
        pair = f", {2 * least} for a pair" if denoises else ""
        yield (
            f"{most} iterations are too few for a fit, and none was made: {least} are the fewest "
            f"for one{pair}"
        )
    if denoises or not outcome.stop.reason.is_final:
        return
    direct = DIRECT_METHOD_OF[settings.task]
    # The middle of wide holes is of the fit whatever its weight is, so the pictures are compared.
    first = next((member.image for member in outcome.members if member.name == direct), None)
    if first is None or outcome.best is None:
        return
    if float((outcome.best.average - first).abs().max()) < _LEAST_CHANGE:
        fast = settings.task in FAST_WITHOUT_NETWORK
        name = "quality='fast'" if fast else f"method={direct!r}"
        yield (
            f"the fit has added nothing to {direct}: {name} gives nearly the same in a fraction of "
            "the time"
        )


def _of_range(job: Job, outcome: Outcome) -> Iterator[str]:
    """Yield a hint if the result is cut off at an end of a range that was found in a measurement.

    What a measurement has blurred, such as a star, may be brighter than any margin allows for.
    """
    if job.settings.task == "denoise" or job.layout.range_source != "data" or outcome.best is None:
        return
    pictures = [outcome.best.average]
    pictures += [member.image for member in outcome.members if member.weight >= _LARGE_WEIGHT]
    low, high = job.layout.data_range
    least, most = float(job.baseline.min()), float(job.baseline.max())
    # A range that begins at 0 was not extended: nothing is darker than black.
    dark = low != 0 and least > _AT_THE_END
    is_dark = dark and min(float(x.min()) for x in pictures) <= _AT_THE_END
    bright = most < 1 - _AT_THE_END
    is_bright = bright and max(float(x.max()) for x in pictures) >= 1 - _AT_THE_END
    if is_dark or is_bright:
        ends = " and ".join(
            f"{end:.4g}" for end, is_cut in ((low, is_dark), (high, is_bright)) if is_cut
        )
        yield (
            f"the result is cut off at {ends}, where the range ends that was found in the data: "
            "data_range=(darkest, brightest) sets a wider one"
        )
