"""Combine estimates of one picture by a risk that needs no clean picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from torch import Tensor

from dipfast.model.bootstrap import Split
from dipfast.model.noise import NoiseModel

__all__ = ["Combination", "Estimate", "combine", "judge"]

# What a group of guided fits differs from the estimate that guides it in risk, in units of the
# mean square of their difference, before it is measured: the weights of two fits were 0.23 to 0.65
# on six photographs that are in no table (sigma 25), 0.4 on average.
_USUAL_RISK, _USUAL_SPREAD = 0.2, 0.3


@dataclass(frozen=True)
class Estimate:
    """Hold an estimate of a picture, and how well it is expected to be.

    Parameters
    ----------
    name
        The name for the record.
    image
        The estimate f, (1, C, H, W), in units of a picture in [0, 1].
    risk
        The expected mean square error, but for a constant that is the same for all estimates of a
        picture.
    spread
        The standard deviation of :attr:`risk` by the noise that was added to measure it.
    """

    name: str
    image: Tensor
    risk: float
    spread: float = 0.0


@dataclass(frozen=True)
class Combination:
    """Hold the weighted mean of estimates.

    Parameters
    ----------
    image
        The weighted mean.
    weights
        The weights, from 0 up, with the sum 1, in the order of the estimates.
    risk
        Its expected mean square error.
    """

    image: Tensor
    weights: tuple[float, ...]
    risk: float


def judge(
    name: str,
    images: Sequence[Tensor],
    splits: Sequence[Split],
    reference: Tensor,
    noise: NoiseModel,
    *,
    result: Tensor | None = None,
    known: Tensor | None = None,
) -> Estimate:
    r"""Return the mean of estimates of the same kind, each made of its own half of a split.

    The risk of an estimate f of :math:`y_+ = y + c w` is, but for the mean of the squared noise,

    .. math:: \frac1N \left( \| E f - y \|^2 + \frac2c \langle E f - E g, w \rangle \right),

    with E the expectation of a measurement.  It is the coupled bootstrap [1]_ with the reference g,
    which does not depend on w, in the place of y: that takes away most of the variance.  The risk
    of the mean of several is the mean of theirs, less their mean squared distance from it.

    Parameters
    ----------
    name
        The name of the kind.
    images
        Estimates f, (1, C, H, W), one for each split.
    splits
        The splits of the same measurement that they were made of.  Where the noise that was added
        sums up to 0, as by pairs of opposite sign, that of what the estimates share drops out.
    reference
        An estimate g that was made of the measurement y itself.
    noise
        The noise of the measurement.
    result
        What the estimate is of the measurement itself, for an estimator that is fast enough to be
        applied to that, too; None, the default, takes the mean of the estimates.
    known
        Which elements count, boolean, of a shape that broadcasts; None for all.

    Returns
    -------
    Estimate
        The mean of the estimates, or ``result``, with its risk, from which the variance of the
        noise is subtracted.

    References
    ----------
    .. [1] Oliveira, Lei, Tibshirani, arXiv:2111.09447, eq. 6; Krogh, Vedelsby, "Neural network
       ensembles, cross validation and active learning", NeurIPS 1994, for the risk of a mean.
    """
    first = splits[0]
    y, ratio, count = first.measurement, first.ratio, len(images)
    mean = _mean_of(images)
    balanced = count > 1 and _square(_mean_of([split.added for split in splits]), known) < 1e-12
    base = noise.expectation(reference)
    if balanced:
        base = noise.expectation(mean)
    fit = products = spread = 0.0
    for image, split in zip(images, splits):
        expected = noise.expectation(image)
        distance = expected - base
        fit += _square(expected - y, known) / count
        products += 2 / ratio * _product(distance, split.added, known) / count
        spread += _square(distance * split.added, known)
    elements = _elements(y, known)
    level = float(_masked(noise.variance(reference.clamp(0, 1)), known).double().sum()) / elements
    if result is None:
        result = mean
        fit -= (
            sum(_square(noise.expectation(f) - noise.expectation(mean), known) for f in images)
            / count
        )
    else:
        fit = _square(noise.expectation(result) - y, known)
    return Estimate(
        name,
        result,
        fit + products - level,
        2 / (ratio * count) * math.sqrt(spread / elements),
    )


def combine(estimates: Sequence[Estimate], noise: NoiseModel) -> Combination:
    r"""Return the weighted mean of estimates that has the least expected error.

    .. math:: \min_{w \ge 0, \sum w = 1} \; \sum_k w_k R_k - \frac12 \sum_{jk} w_j w_k D_{jk}

    with the risks R and the mean squared distances D, which is the risk of the mean.  The first
    estimate is what the others are compared with: before that, what a risk differs from the first
    one by is drawn to what is usual, in the proportion of its variance.

    Parameters
    ----------
    estimates
        The estimates, a handful at most; the first one with the risk that is known best.
    noise
        The noise of the measurement: distances are those of expected measurements.

    Returns
    -------
    Combination
        The mean, its weights and its risk.

    Examples
    --------
    >>> import torch
    >>> first = Estimate("first", torch.zeros(1, 1, 1, 1), risk=0.5)
    >>> second = Estimate("second", torch.ones(1, 1, 1, 1), risk=0.5)
    >>> combine([first, second], NoiseModel(0.1)).weights
    (0.5, 0.5)
    """
    count = len(estimates)
    expected = [noise.expectation(e.image) for e in estimates]
    distances = np.zeros((count, count))
    for j, k in combinations(range(count), 2):
        distances[j, k] = distances[k, j] = _square(expected[j] - expected[k])
    risks = [
        estimates[0].risk,
        *(
            _drawn(e, estimates[0], distance).risk
            for e, distance in zip(estimates[1:], distances[0, 1:])
        ),
    ]
    weights, risk = _least(np.array(risks), distances)
    image = sum(w * e.image for w, e in zip(weights, estimates) if w > 0)
    assert isinstance(image, Tensor)
    return Combination(image, weights, risk)


def _drawn(estimate: Estimate, first: Estimate, distance: float) -> Estimate:
    """Return an estimate whose risk is drawn to what is usual."""
    if distance == 0 or estimate.spread == 0:
        return estimate
    variance, prior = estimate.spread**2, (_USUAL_SPREAD * distance) ** 2
    usual = first.risk + _USUAL_RISK * distance
    share = variance / (variance + prior)
    return replace(estimate, risk=(1 - share) * estimate.risk + share * usual)


def _least(
    risks: np.ndarray[tuple[int], np.dtype[np.float64]],
    distances: np.ndarray[tuple[int, int], np.dtype[np.float64]],
) -> tuple[tuple[float, ...], float]:
    """Return the weights of the least risk, and it: the best of all sets that have weights."""
    count = len(risks)
    best: tuple[tuple[float, ...], float] | None = None
    for size in range(1, count + 1):
        for chosen in map(list, combinations(range(count), size)):
            # Stationary where R - D w = const on the set, and the weights sum up to 1.
            system = np.zeros((size + 1, size + 1))
            system[:size, :size] = distances[np.ix_(chosen, chosen)]
            system[size, :size] = system[:size, size] = 1
            solution = np.linalg.lstsq(system, np.append(risks[chosen], 1), rcond=None)[0][:size]
            if solution.min() < 0 or abs(solution.sum() - 1) > 1e-6:
                continue
            weights = np.zeros(count)
            weights[chosen] = solution
            risk = float(weights @ risks - weights @ distances @ weights / 2)
            if best is None or risk < best[1] - 1e-15:
                best = tuple(map(float, weights)), risk
    assert best is not None  # a single estimate always has the weight 1
    return best


# --- sums over elements --------------------------------------------------------------------


def _masked(x: Tensor, known: Tensor | None) -> Tensor:
    return x if known is None else x.where(known, 0)


def _elements(x: Tensor, known: Tensor | None) -> int:
    return x.numel() if known is None else int(known.expand(x.shape).sum())


def _square(x: Tensor, known: Tensor | None = None) -> float:
    """Return the mean square over the elements that count."""
    return _product(x, x, known)


def _product(x: Tensor, y: Tensor, known: Tensor | None = None) -> float:
    """Return the mean product over the elements that count."""
    return float(_masked(x.double() * y.double(), known).sum()) / max(_elements(x, known), 1)


def _mean_of(images: Sequence[Tensor]) -> Tensor:
    total = images[0]
    for image in images[1:]:
        total = total + image
    return total / len(images) if len(images) > 1 else total
