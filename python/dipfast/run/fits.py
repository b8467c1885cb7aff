"""Choose the fits that a join is made of."""

from __future__ import annotations

from dataclasses import replace

from dipfast.run.job import Job
from dipfast.run.judges import has_wide_holes
from dipfast.settings.names import Quality
from dipfast.settings.presets import fits_are_guided
from dipfast.stopping import Automatic, Bootstrap, HeldOut, StopRule

__all__ = ["FITS", "has_fits", "with_fits"]

FITS: dict[Quality, int] = {"fast": 2, "balanced": 2, "best": 4}
"""Guided fits that are joined: pairs, because the errors of what is measured of a pair cancel."""

# Elements that are held out from a fit that is joined, and the most and least share: with fewer a
# weight is known badly, and with more the fit is worse.
_HELD_OUT, _LEAST_HELD_OUT, _MOST_HELD_OUT = 1500, 0.01, 0.05

# From the seed of one fit to that of the next: users count theirs by one.
_SEED_STEP = 1_000_003


def has_fits(job: Job) -> bool:
    """Return whether fits are of use to a join, however many iterations there are.

    Parameters
    ----------
    job
        The image and all that was decided for it, with the method ``"joined"``.

    Returns
    -------
    bool
        False where the picture without a network stands alone.
    """
    problem = job.problem
    if fits_are_guided("joined", job.settings.task):
        # Fits of one plane at a time add nothing to what planes tell together
        # (benches.quality.noise.volumes): of eight planes the join had 0.03 dB less on average.
        return not problem.noise.is_free and problem.neighbours is None
    # The noise of a held-out element can be predicted from those around it, so that they would
    # choose what keeps the noise.  Wide holes are of the network without being judged.
    return not problem.noise.is_correlated or has_wide_holes(problem)


def with_fits(job: Job) -> Job:
    """Return a job with the fits that are joined: none where there is nothing to judge them by.

    Parameters
    ----------
    job
        The image and all that was decided for it, with the method ``"joined"``.

    Returns
    -------
    Job
        The job with fits, each a job of its own, and their stages.
    """
    total = job.settings.max_iterations
    assert total is not None
    if not has_fits(job):
        return job
    if not fits_are_guided("joined", job.settings.task):
        share = min(max(_HELD_OUT / max(job.problem.count, 1), _LEAST_HELD_OUT), _MOST_HELD_OUT)
        settings = job.settings.model_copy(update={"method": "two_stage"})
        rule: StopRule = HeldOut(share, seed=settings.seed)
        if job.problem.noise.is_correlated:
            rule = Automatic(seed=settings.seed)  # which then holds nothing out
        fit = replace(job, settings=settings, rule=rule)
        return replace(job, fits=(fit,)).shortened(total)
    fits = []
    for number in range(FITS[job.settings.quality]):
        seed, of_pair = (
            (job.settings.seed + k * _SEED_STEP) % 2**63 for k in (number, number - number % 2)
        )
        fits.append(
            replace(
                job,
                settings=job.settings.model_copy(update={"method": "guided", "seed": seed}),
                rule=Bootstrap(seed=of_pair, sign=-1 if number % 2 else 1),
            )
        )
    return replace(job, fits=tuple(fits)).shortened(total)
