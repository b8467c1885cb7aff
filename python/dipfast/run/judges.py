"""Judge what is joined: by noise that was added, or by elements that were held out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dipfast.arrays import has_equal_channels
from dipfast.denoisers.combine import (
    Combination,
    Estimate,
    combine,
    expected_error,
    judge,
    judge_held_out,
    without_bumps,
)
from dipfast.denoisers.direct import denoise_directly, restore_directly
from dipfast.model.operators import Mask
from dipfast.model.problem import Problem
from dipfast.settings.names import Quality

__all__ = ["ByHeldOut", "ByNoise", "Judge", "Part", "Variant", "gain", "has_wide_holes"]

# How far a missing pixel is from the next known one, in pixels, where what a network makes of it
# begins to count for more than its weight, and where it counts alone: there the method without a
# network has nothing but a smooth transition.
_NEAR, _FAR = 4, 12

# The level of correlated noise is known to a factor of 1.5 and mostly found too low, with which
# fits seem to take noise in.  So they have the weight that they would have if it were so much
# higher, but not more than the second number.  Both were chosen on four photographs as of simulated
# cameras.
_LEVEL_FACTOR, _MOST_CORRELATED = 1.5, 0.2


class Variant(NamedTuple):
    """Name a picture of a method without a network.

    Parameters
    ----------
    quality
        The quality in which the method is applied.
    without_last
        Whether nl_ridge leaves out its last pass.
    """

    quality: Quality
    without_last: bool = False

    def __str__(self) -> str:
        return " without its last pass" if self.without_last else f", {self.quality}"


@dataclass(frozen=True, eq=False)
class Part:
    """Hold what one fit found, and what else was made of the same elements.

    Parameters
    ----------
    image
        What the fit found, (1, C, H, W).
    problem
        What it was fitted to: a part of the measurement, which knows the rest.
    direct
        What the methods without a network made of it.
    """

    image: Tensor
    problem: Problem
    direct: tuple[Tensor, ...]


class Judge(ABC):
    """Make what is joined with fits, and weigh all of it.

    Parameters
    ----------
    problem
        The measurement and its model, on the CPU.
    variants
        How the method without a network is applied, the first of which makes the first picture.
    """

    direct: str
    """The name of the method without a network."""
    fit: str
    """The name of the method that fits a network."""
    most: float = 1.0
    """The weight of the fits beside it, at most."""
    takes_long: bool = False
    """Whether what is made of a part takes so long that one may want to end it."""

    def __init__(self, problem: Problem, variants: Sequence[Variant]) -> None:
        self.problem = problem
        self.variants = tuple(variants)

    @abstractmethod
    def make(self, problem: Problem, variant: Variant) -> Tensor:
        """Return what the method without a network makes of a problem."""

    @abstractmethod
    def estimates(self, parts: Sequence[Part], direct: Sequence[Tensor]) -> list[Estimate]:
        """Return the estimates with their risks, that of the fits last, of a part at least."""

    def of_part(self, problem: Problem) -> tuple[Tensor, ...]:
        """Return what the method without a network makes of what a fit is fitted to."""
        return tuple(self.make(problem, variant) for variant in self.variants)

    def part(self, image: Tensor, problem: Problem, direct: tuple[Tensor, ...]) -> Part:
        """Return what a fit found as it is joined: that of a grey picture in colour is grey.

        Parameters
        ----------
        image
            What it found, on the CPU.
        problem
            What it was fitted to.
        direct
            What the methods without a network made of that.

        Returns
        -------
        Part
            The image with the others.
        """
        if has_equal_channels(self.problem.measurement[0]):
            # As the result will be: a mean has less error than the channels it is of.
            image = image.mean(dim=1, keepdim=True).expand(image.shape).contiguous()
        return Part(image, problem, direct)

    def joined(
        self, parts: Sequence[Part], direct: Sequence[Tensor], *, is_ripe: bool = True
    ) -> tuple[list[Estimate], Combination]:
        """Return what there is, and the join of it: without a part the first picture alone.

        Parameters
        ----------
        parts
            What the fits found.
        direct
            What the method without a network makes of the whole measurement, at each speed.
        is_ripe
            Whether the fits have gone far enough for what cannot be judged to be left to them.

        Returns
        -------
        list of Estimate
            What was joined.
        Combination
            The join.
        """
        if parts:
            estimates = self.estimates(parts, direct)
        else:
            estimates = [Estimate(self.direct, direct[0], 0.0)]
        return estimates, combine(estimates, self.problem.noise, most=self.most)

    def without_fits(self, estimates: Sequence[Estimate]) -> Combination:
        """Return the join of what is not a fit."""
        others = [estimate for estimate in estimates if estimate.name != self.fit]
        return combine(others, self.problem.noise)

    def expected_error(
        self, joined: Combination, parts: Sequence[Part], direct: Sequence[Tensor]
    ) -> float | None:
        """Return the mean square error that a join is expected to have; None if it is not known."""
        return None

    def gain(self, image: Tensor, fitted: Problem, direct: Sequence[Tensor]) -> float | None:
        """Return by how many dB what a fit has so far lowers the risk; None to let it go on.

        Parameters
        ----------
        image
            What it has, on the CPU.
        fitted
            What it is fitted to.
        direct
            What the methods without a network made of that.

        Returns
        -------
        float or None
            The gain over the method without a network.
        """
        return None

    def remark(self, *, is_ripe: bool = True) -> str:
        """Return what the weights do not say of a join; empty for nothing.

        Parameters
        ----------
        is_ripe
            As :meth:`joined` was told.

        Returns
        -------
        str
            Words that go on with a sentence.
        """
        return ""

    def _names(self) -> list[str]:
        return [self.direct, *(f"{self.direct}{variant}" for variant in self.variants[1:])]


class ByNoise(Judge):
    """Judge what was made of noisier measurements by the noise that was added to them.

    Parameters
    ----------
    problem
        The measurement and its model, on the CPU.
    variants
        How the method without a network is applied, the first of which makes the first picture.
    """

    direct, fit = "nl_ridge", "guided"

    def __init__(self, problem: Problem, variants: Sequence[Variant]) -> None:
        super().__init__(problem, variants)
        self._variance = 1.0
        if problem.noise.is_correlated:
            self._variance, self.most = _LEVEL_FACTOR**2, _MOST_CORRELATED

    def make(self, problem: Problem, variant: Variant) -> Tensor:
        return denoise_directly(
            problem, variant.quality, rounds=-1 if variant.without_last else None
        )

    def part(self, image: Tensor, problem: Problem, direct: tuple[Tensor, ...]) -> Part:
        if problem.split is not None:
            image = without_bumps(image, direct[0], problem.split.added)
        return super().part(image, problem, direct)

    def estimates(self, parts: Sequence[Part], direct: Sequence[Tensor]) -> list[Estimate]:
        splits = [part.problem.split for part in parts]
        noise, known = self.problem.noise, self.problem.known
        judged = partial(
            judge,
            splits=[split for split in splits if split is not None],
            reference=direct[0],
            noise=noise,
            known=known,
            variance=self._variance,
        )
        estimates = [
            judged(name, [part.direct[k] for part in parts], result=direct[k])
            for k, name in enumerate(self._names())
        ]
        return [*estimates, judged(self.fit, [part.image for part in parts])]

    def expected_error(
        self, joined: Combination, parts: Sequence[Part], direct: Sequence[Tensor]
    ) -> float | None:
        # The level of correlated noise is known to a factor of 1.5, and its error with it.
        if not parts or self.problem.noise.is_correlated:
            return None
        members = [[part.direct[k] for part in parts] for k in range(len(self.variants))]
        members.append([part.image for part in parts])
        splits = [part.problem.split for part in parts if part.problem.split is not None]
        noise, known = self.problem.noise, self.problem.known
        return expected_error(joined, members, splits, noise, direct[0], known)


class ByHeldOut(Judge):
    """Judge what was made of a part of a measurement by the elements that were held out.

    Parameters
    ----------
    problem
        The measurement and its model, on the CPU.
    variants
        How the method without a network is applied, the first of which makes the first picture.
    """

    direct, fit, takes_long = "pnp", "two_stage", True

    def __init__(self, problem: Problem, variants: Sequence[Variant]) -> None:
        super().__init__(problem, variants)
        self._depth = _depth(problem)

    def make(self, problem: Problem, variant: Variant) -> Tensor:
        return restore_directly(problem, variant.quality)

    def estimates(self, parts: Sequence[Part], direct: Sequence[Tensor]) -> list[Estimate]:
        problems = [part.problem for part in parts]
        if any(problem.held_out_problem is None for problem in problems):
            # Too few elements for any to be held out, or correlated noise, of which they tell
            # nothing: there is nothing to judge by.
            return [
                Estimate(self.direct, direct[0], 0.0),
                Estimate(self.fit, parts[0].image, 1.0),
            ]
        first: Estimate | None = None
        estimates = []
        for k, name in enumerate(self._names()):
            made = [part.direct[k] for part in parts]
            estimates.append(judge_held_out(name, made, problems, result=direct[k], first=first))
            first = estimates[0]
        fits = [part.image for part in parts]
        return [*estimates, judge_held_out(self.fit, fits, problems, first=first)]

    def joined(
        self, parts: Sequence[Part], direct: Sequence[Tensor], *, is_ripe: bool = True
    ) -> tuple[list[Estimate], Combination]:
        estimates, joined = super().joined(parts, direct)
        if parts and is_ripe and self._depth is not None:
            joined = replace(joined, image=joined.image.lerp(estimates[-1].image, self._depth))
        return estimates, joined

    def remark(self, *, is_ripe: bool = True) -> str:
        if self._depth is None:
            return ""
        share = float((self._depth > 0).double().mean())
        middle = f"; the middle of wide holes, {share:.1%} of the image, is"
        if is_ripe:
            return f"{middle} of {self.fit}"
        return f"{middle} not of {self.fit}, which was ended too early for that"

    def gain(self, image: Tensor, fitted: Problem, direct: Sequence[Tensor]) -> float | None:
        if self._depth is not None or fitted.held_out_problem is None:
            return None
        estimates = self.estimates([self.part(image, fitted, tuple(direct))], direct)
        before, after = estimates[0].risk, combine(estimates, self.problem.noise).risk
        # Of much noise the level is subtracted, and what is left is no error: it tells nothing.
        return gain(before, after) if min(before, after) > 0 else None


def gain(before: float, after: float) -> float:
    """Return by how many dB a risk fell.

    Parameters
    ----------
    before, after
        The risks.

    Returns
    -------
    float
        The decibels; 0 where it did not fall.

    Examples
    --------
    >>> round(gain(2.0, 1.0), 2)
    3.01
    """
    return 10 * math.log10(before / after) if before > after > 0 else 0.0


def has_wide_holes(problem: Problem) -> bool:
    """Return whether pixels are so far from all known ones that the network alone fills them.

    Parameters
    ----------
    problem
        The measurement and its model, on the CPU.

    Returns
    -------
    bool
        True if a method without a network has nothing but a smooth transition there.
    """
    return _depth(problem) is not None


def _depth(problem: Problem) -> Tensor | None:
    """Return the share of the network alone in each pixel, (1, 1 or C, H, W); None for 0.

    It rises from 0 to 1 between :data:`_NEAR` and :data:`_FAR` pixels from the next known one.
    """
    known = problem.known
    if not isinstance(problem.operator, Mask) or known is None:
        return None
    reached = known.reshape((1,) * (4 - known.ndim) + known.shape).to(problem.measurement.dtype)
    share = torch.zeros_like(reached)
    for distance in range(1, _FAR):
        reached = functional.max_pool2d(reached, 3, stride=1, padding=1)
        if distance >= _NEAR:
            share += (1 - reached) / (_FAR - _NEAR)
        if bool((reached == 1).all()):
            break
    return share if bool(share.any()) else None
