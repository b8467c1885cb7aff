"""Combine estimates of one picture by a risk that needs no clean picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from dipfast.model.bootstrap import Split, dependence
from dipfast.model.noise import NoiseModel
from dipfast.model.operators import Blur, gaussian_kernel
from dipfast.model.problem import Problem
from dipfast.settings.noise import LEAST_VARIANCE

__all__ = [
    "Combination",
    "Estimate",
    "combine",
    "expected_error",
    "judge",
    "judge_held_out",
    "without_bumps",
]

# The covariance of the errors of neighbouring pixels in units of their variance, at noise of sigma
# 5/255 and for each time that the noise is e times as strong, and its spread: on average 0.19,
# 0.27, 0.40, 0.50 and 0.57 at sigma 5, 10, 25, 50 and 75 for six photographs that are in no table.
# Texture that fills the picture has half as much.
_COVARIANCE, _COVARIANCE_GROWTH = 0.18, 0.14
# Where noise is clipped, the share of what is lost of the difference of two estimates there that is
# lost of the error.
_CLIPPED_SHARE = 0.42
# The pixels over which means are taken to find bumps, and how many standard deviations are none.
_BUMP, _BUMP_DEVIATIONS = 4, 2.0


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
        The standard deviation of :attr:`risk`, or of what it differs by from that of the first of
        several estimates, by chance.
    expected
        What a measurement is expected to be, or what it is more than was measured, at the elements
        that the risk is of; None, the default, for all elements of a measurement of the picture
        itself.
    """

    name: str
    image: Tensor
    risk: float
    spread: float = 0.0
    expected: Tensor | None = None


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
    variance: float = 1.0,
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
    variance
        How many times as large as was found the variance of the noise is taken to be, 1 by default.

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
    base = noise.expectation(mean if _is_balanced(splits, known) else reference)
    fit = products = spread = 0.0
    noisy = torch.zeros_like(y)
    for number, (image, split) in enumerate(zip(images, splits)):
        expected = noise.expectation(image)
        distance = expected - base
        fit += _square(expected - y, known) / count
        products += 2 * variance / ratio * _product(distance, split.added, known) / count
        noisy = noisy + distance * split.added
        next_added = splits[number + 1].added if number + 1 < count else None
        # Of a pair of opposite noise the two products have one error and not two.
        if next_added is None or not torch.equal(next_added, -split.added):
            spread += _square(noisy, known)
            noisy = torch.zeros_like(y)
    elements = _elements(y, known)
    level = float(_masked(noise.variance(reference.clamp(0, 1)), known).double().sum()) / elements
    if result is None:
        result = mean
        of_mean = noise.expectation(mean)
        fit -= sum(_square(noise.expectation(f) - of_mean, known) for f in images) / count
    else:
        fit = _square(noise.expectation(result) - y, known)
    return Estimate(
        name,
        result,
        fit + products - variance * level,
        2
        * variance
        / (ratio * count)
        * math.sqrt(spread * dependence(first.added, noise) / elements),
    )


def without_bumps(image: Tensor, reference: Tensor, added: Tensor) -> Tensor:
    r"""Return an estimate whose local mean is nowhere far from that of a reference.

    Networks leave a few soft bumps, some ten pixels wide and as strong as the noise of a pixel.
    The mean over as many pixels is known far better than that: what the local mean of the
    difference has beyond t is taken off,

    .. math:: f - S_t(G * (f - g)), \qquad S_t(x) = \operatorname{sign}(x) \max(|x| - t, 0),
              \qquad t = 2 \operatorname{rms}(G * w),

    with a Gaussian G of four pixels.  Of 1, 1.5, 2 and 3 standard deviations, and 3, 4 and 6
    pixels, all gave the same PSNR to 0.01 dB on three pictures (docs/joined.md).

    Parameters
    ----------
    image
        The estimate f, (1, C, H, W).
    reference
        An estimate g of the same measurement without bumps, such as that of ``nl_ridge``.
    added
        Noise w of the law of the measurement's (:func:`dipfast.model.bootstrap.added_noise`).

    Returns
    -------
    Tensor
        The estimate, changed where it had bumps.

    Examples
    --------
    >>> flat = torch.zeros(1, 1, 40, 40)
    >>> bump = flat.clone()
    >>> bump[..., 15:25, 15:25] = 1.0
    >>> noise = 0.1 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    >>> float((without_bumps(bump, flat, noise)).mean()) < 0.3 * float(bump.mean())
    True
    """
    mean = Blur(gaussian_kernel(_BUMP, 6 * _BUMP + 1), boundary="replicate")
    difference: Tensor = mean(image - reference)
    limit = _BUMP_DEVIATIONS * mean(added).square().mean(dim=(-2, -1), keepdim=True).sqrt()
    beyond: Tensor = difference - difference.clamp(-limit, limit)
    return image - beyond


def judge_held_out(
    name: str,
    images: Sequence[Tensor],
    problems: Sequence[Problem],
    *,
    result: Tensor | None = None,
    first: Estimate | None = None,
) -> Estimate:
    r"""Return the mean of estimates of the same kind, judged by elements held out from each.

    The risk is that of the measurement,

    .. math:: \frac{1}{n_h} \| h (E[A f] - y) \|^2 - \bar v,

    with h the elements that were held out and the mean variance of their noise, which holds for
    every linear operator A and without noise; of half of the pixels of a picture it is that of
    those that are missing.  Noise that grows with the signal has no weights: those of a brighter
    estimate would be less.

    Parameters
    ----------
    name
        The name of the kind.
    images
        Estimates f, of the shape that the operator takes, one for each problem.
    problems
        The problems that they were made of, each with some elements held out.
    result
        What the estimate is of all elements, for an estimator that is fast enough to be applied to
        them, too; None, the default, takes the mean of the estimates.
    first
        The estimate beside which this one has a weight, and whose image tells the variance of the
        noise; None, the default, for the first itself.

    Returns
    -------
    Estimate
        The mean of the estimates, or ``result``, with its risk.
    """
    noise, estimate = problems[0].noise, _mean_of(images) if result is None else result
    reference = (estimate if first is None else first.image).clamp(0, 1)
    level = 0.0 if noise.is_free else noise.typical_variance
    parts, variances = [], []
    places: list[Tensor] = []
    for image, problem in zip(images, problems):
        unseen = problem.held_out_problem
        assert unseen is not None
        assert unseen.known is not None
        error = unseen.error(image)
        known = unseen.known.expand(error.shape)
        parts.append(error[known])
        pixels = torch.arange(error[0, 0].numel(), device=error.device).reshape(error.shape[-2:])
        places.append(pixels.expand(error.shape)[known] + len(places) * pixels.numel())
        if not noise.is_white:
            variances.append(noise.variance(problem.operator(reference))[known])
    if variances:
        level = float(torch.cat(variances).double().mean())
    errors = torch.cat(parts).double()
    spread = 0.0
    if first is not None and first.expected is not None:
        spread = _spread_of_weight(errors, first.expected, torch.cat(places))
    return Estimate(
        name,
        estimate,
        _square(errors) - level,
        spread,
        errors,
    )


def combine(estimates: Sequence[Estimate], noise: NoiseModel, *, most: float = 1.0) -> Combination:
    r"""Return the weighted mean of estimates that has the least expected error.

    .. math:: \min_{w \ge 0, \sum w = 1} \; \sum_k w_k R_k - \frac12 \sum_{jk} w_j w_k D_{jk}

    with the risks R and the mean squared distances D, which is the risk of the mean.  Before that,
    the weight w that each of the others would have beside the first one alone is shrunk to
    :math:`w \max(0, 1 - v / w^2)`, with the variance v of that weight by the noise that was added
    (James and Stein, positive part), so that what is hardly measured changes nothing.

    Parameters
    ----------
    estimates
        The estimates, a handful at most; the first one with the risk that is known best.
    noise
        The noise of the measurement: distances are those of what is expected of it.
    most
        The weight that the last of several estimates has at most, from 0 to 1, the default.

    Returns
    -------
    Combination
        The mean, its weights and its risk.

    Examples
    --------
    >>> import torch
    >>> first = Estimate("first", torch.zeros(1, 1, 1, 1), risk=0.5)
    >>> second = Estimate("second", torch.ones(1, 1, 1, 1), risk=0.5)
    >>> [round(weight, 3) for weight in combine([first, second], NoiseModel(0.1)).weights]
    [0.5, 0.5]
    """
    count = len(estimates)
    expected = [noise.expectation(e.image) if e.expected is None else e.expected for e in estimates]
    distances = np.zeros((count, count))
    for j, k in combinations(range(count), 2):
        distances[j, k] = distances[k, j] = _square(expected[j] - expected[k])
    risks = [
        estimates[0].risk,
        *(
            _shrunk_risk(e, estimates[0], distance)
            for e, distance in zip(estimates[1:], distances[0, 1:])
        ),
    ]
    weights, risk = _least_with_at_most(np.array(risks), distances, most)
    image = sum(w * e.image for w, e in zip(weights, estimates) if w > 0)
    assert isinstance(image, Tensor)
    return Combination(image, weights, risk)


def expected_error(
    joined: Combination,
    members: Sequence[Sequence[Tensor]],
    splits: Sequence[Split],
    noise: NoiseModel,
    reference: Tensor,
    known: Tensor | None = None,
) -> float:
    r"""Return the mean square error that a join is expected to have, if noise is not correlated.

    A risk hangs on the level of the noise, of which 1% is more than 10% of the error of a good
    estimate.  The noise of neighbouring pixels is independent, and so the covariance of their
    residuals,

    .. math:: E[r_i r_j] = E[e_i e_j] - 2 \operatorname{cov}(n_i, e_j), \qquad
              \operatorname{cov}(n_i, e_j) = E[w_i (f_j - g_j)] / c,

    gives that of the errors e without it, by the noise w that was added for the estimates f.  That
    is 0.2 to 0.6 times their variance, by the level of the noise.  Texture that fills the picture
    makes both too small, the level being taken for higher and the errors being finer, so that the
    larger one is returned, less what it is larger by chance.  Of small or smooth pictures nothing
    may be left of it: an error that chance hides is told as large as what chance hides.

    Parameters
    ----------
    joined
        The join, with its risk.
    members
        For each member, what it made of each split.
    splits
        The splits.
    noise
        The noise of the measurement.
    reference
        An estimate g that was made of the measurement y itself; where the noise that was added
        sums up to 0 it is the join.
    known
        Which elements count, boolean, of a shape that broadcasts; None for all.

    Returns
    -------
    float
        The mean square error, positive, in units of a picture in [0, 1].
    """
    image, y = joined.image, splits[0].measurement
    level, risk = float(noise.variance(image.clamp(0, 1)).double().mean()), joined.risk
    expected = noise.expectation(image)
    base = expected if _is_balanced(splits, known) else noise.expectation(reference)
    counts = torch.ones_like(y) if known is None else known.expand(y.shape).to(y.dtype)
    elements = max(float(counts.sum()) / dependence(splits[0].added, noise), 1.0)
    by_chance = level / math.sqrt(elements)
    if min(y.shape[-2:]) > 1:
        residual = (y - expected) * counts
        covariance = _of_neighbours(residual, residual, counts)
        for k, split in enumerate(splits):
            part = sum(w * m[k] for w, m in zip(joined.weights, members) if w > 0)
            assert isinstance(part, Tensor)
            change = (noise.expectation(part) - base) * counts
            of_split = _of_neighbours(change, split.added * counts, counts)
            covariance += 2 / split.ratio * of_split / len(splits)
        grown = _COVARIANCE_GROWTH * math.log(51 * math.sqrt(level))
        error = covariance / min(max(_COVARIANCE + grown, 0.1), 0.8)
        risk = max(error, risk) - by_chance
    risk = max(risk, by_chance)
    if noise.clipped and len(members) > 1:
        first, second = _mean_of(members[0]), _mean_of(members[-1])
        whole = _square(second.clamp(0, 1) - first.clamp(0, 1), known)
        seen = _square(noise.expectation(second) - noise.expectation(first), known)
        if seen > 0:
            risk *= 1 + _CLIPPED_SHARE * max(whole / seen - 1, 0.0)
    return max(risk, LEAST_VARIANCE)


def _is_balanced(splits: Sequence[Split], known: Tensor | None) -> bool:
    """Return whether the noise that was added sums up to 0."""
    return _square(_mean_of([split.added for split in splits]), known) < 1e-12


def _of_neighbours(x: Tensor, y: Tensor, counts: Tensor) -> float:
    """Return the mean product of values one row or column apart; 0 in x and y does not count."""
    products = pairs = 0.0
    for axis in (-1, -2):
        size = x.shape[axis] - 1
        (x1, x2), (y1, y2), (c1, c2) = (
            (z.narrow(axis, 0, size).double(), z.narrow(axis, 1, size).double())
            for z in (x, y, counts)
        )
        products += float((x1 * y2 + x2 * y1).sum()) / 2
        pairs += float((c1 * c2).sum())
    return products / max(pairs, 1.0)


def _shrunk_risk(estimate: Estimate, first: Estimate, distance: float) -> float:
    """Return the risk with which an estimate has its shrunk weight beside the first one."""
    if distance == 0 or estimate.spread == 0:
        return estimate.risk
    weight = 0.5 + (first.risk - estimate.risk) / (2 * distance)
    if weight <= 0:
        return estimate.risk
    variance = (estimate.spread / (2 * distance)) ** 2
    shrunk = weight * max(0.0, 1 - variance / weight**2)
    return first.risk + distance - 2 * distance * shrunk


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


def _least_with_at_most(
    risks: np.ndarray[tuple[int], np.dtype[np.float64]],
    distances: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    most: float,
) -> tuple[tuple[float, ...], float]:
    """Return the weights of the least risk with a limit to the last one, and that risk."""
    weights, risk = _least(risks, distances)
    if weights[-1] <= most or len(weights) == 1:
        return weights, risk
    # The risk is convex: the last one has its limit, and the others share the rest, of which the
    # risk is again a quadratic function.
    rest = 1 - most
    linear = rest * (risks[:-1] - most * distances[:-1, -1])
    others, risk = _least(linear, rest**2 * distances[:-1, :-1])
    return (*(rest * weight for weight in others), most), risk + most * risks[-1]


def _spread_of_weight(errors: Tensor, first: Tensor, places: Tensor) -> float:
    """Return the spread of a risk that stands for that of a weight beside the first estimate.

    The weight w is the slope of a regression of the first one's errors on the differences d, and
    its variance sum(d^2 r^2) / sum(d^2)^2 with what is left, r, however it is spread over the
    pixels, of whose channels d r is summed up: they are alike, or even copies.  ``places`` are the
    numbers of the pixels.  The variance of the difference of two risks is larger, where a few
    pixels, as at edges, have most of the error of both.
    """
    change = errors - first
    square = float(change.square().sum())
    if square == 0:
        return 0.0
    weight = min(max(-float((change * first).sum()) / square, 0.0), 1.0)
    left = first + weight * change
    of_pixels = errors.new_zeros(int(places.max()) + 1).index_add(0, places, change * left)
    return 2 * math.sqrt(float(of_pixels.square().sum())) / len(errors)


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
