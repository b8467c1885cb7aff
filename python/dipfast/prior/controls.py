"""Define controls, which change the objective from iteration to iteration within a stage.

A control is given the loop between two iterations and returns what the next one minimises: total
variation with a weight that follows the residual (:class:`NoiseLedWeight`), the distance from the
image that an earlier stage ended with (:class:`StageImage`), the distance from a denoised image
(:class:`DenoisedImage`), regularisation by denoising (:class:`DeepRED`), or a network that is given
a restored picture (:class:`Guide`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dipfast.denoisers.direct import guide_of
from dipfast.denoisers.registry import DENOISERS, Denoiser
from dipfast.errors import InputError
from dipfast.model.loop_view import LoopView
from dipfast.model.noise_estimate import fill_from_neighbours
from dipfast.model.operators import Identity
from dipfast.model.problem import Problem
from dipfast.prior.objective import Goal
from dipfast.prior.stages import Stage
from dipfast.state_dict import Values, tensor_of

__all__ = [
    "DeepRED",
    "DenoisedImage",
    "Guide",
    "NoiseLedWeight",
    "StageImage",
]


class StageImage:
    """Draw the output to the running average that the stage before ended with.

    Parameters
    ----------
    weight
        Weight of that image, in [0, 1]; the measurement has one minus this weight.  The default
        of 1 fits to that image instead of the measurement, 0 to the measurement alone.
    as_input
        Whether that image also takes the place of the first channels of the network's input.

    Raises
    ------
    ValueError
        If the weight is not in [0, 1].

    Examples
    --------
    >>> Stage("details", 200, control=StageImage(0.5)).control.weight
    0.5
    """

    def __init__(self, weight: float = 1.0, *, as_input: bool = False) -> None:
        if not 0 <= weight <= 1:
            raise InputError(f"weight must be from 0 to 1, got {weight!r}")
        self.weight = weight
        self.as_input = as_input

    def goal(self, view: LoopView, stage: Stage, memory: Values) -> Goal:
        """Return the goal of the next iteration, with the stage's first image as its guide.

        Parameters
        ----------
        view
            The loop between two iterations.
        stage
            The stage that the control belongs to.
        memory
            Empty at the beginning of the stage; then ``"image"``, the running average at that
            time.

        Returns
        -------
        Goal
            The data term, total variation, and the distance from that image.

        Raises
        ------
        ValueError
            If there is no stage before this one.
        """
        new_input = None
        if not memory:
            if view.iteration == 0:
                raise InputError(
                    f"StageImage of stage {stage.name!r} takes the image of the stage before, and "
                    "there is none"
                )
            memory["image"] = view.average
            new_input = tensor_of(memory, "image") if self.as_input else None
        if self.weight == 0:
            return Goal(stage.tv_weight, network_input=new_input)
        image = tensor_of(memory, "image")
        return Goal(stage.tv_weight, 1 - self.weight, image, self.weight, new_input)


class DenoisedImage:
    """Fit the network to a denoised version of the measurement.

    Parameters
    ----------
    denoiser
        Maps an image of shape (1, C, H, W) in [0, 1] and the standard deviation of its noise to
        an image of the same shape; None takes total-variation denoising
        (:func:`dipfast.ops.tv_denoise`).
    """

    def __init__(self, denoiser: Denoiser | None = None) -> None:
        self.denoiser = denoiser or DENOISERS["tv"]

    def goal(self, view: LoopView, stage: Stage, memory: Values) -> Goal:
        """Return the goal of the next iteration, with the denoised measurement as its guide.

        Parameters
        ----------
        view
            The loop between two iterations.
        stage
            The stage that the control belongs to.
        memory
            Empty at the beginning of the stage; then ``"image"``, the denoised measurement.

        Returns
        -------
        Goal
            Total variation, and the distance from the denoised measurement; no data term.

        Raises
        ------
        ValueError
            If the forward model is not the identity, so that the measurement is no noisy image.
        """
        if not memory:
            problem = view.problem
            if not isinstance(problem.operator, Identity):
                raise InputError("method 'tv_target' is for denoising: it denoises the measurement")
            deviation = math.sqrt(problem.noise.typical_variance)
            memory["image"] = _of_each(self.denoiser, _without_unseen(problem), deviation)
        return Goal(stage.tv_weight, 0.0, tensor_of(memory, "image"), 1.0)


@dataclass(frozen=True)
class Guide:
    """Give the network a restored picture as a part of its input.

    At the first iteration of the stage the picture takes the place of the first channels of the
    input, at its own scale: denoised by non-local ridge regression, or restored by plug-and-play
    where the operator is not the identity (:func:`dipfast.denoisers.direct.guide_of`).  With much
    noise added to the input at each iteration the network cannot return the picture as it is,
    and finds what fits the measurement near it in a quarter of the iterations.
    """

    def goal(self, view: LoopView, stage: Stage, memory: Values) -> Goal:
        """Return the goal of the next iteration, with the new input at the first one.

        Parameters
        ----------
        view
            The loop between two iterations.
        stage
            The stage that the control belongs to.
        memory
            Empty at the beginning of the stage.

        Returns
        -------
        Goal
            The data term, and total variation if the stage has it.
        """
        if memory:
            return Goal(stage.tv_weight)
        memory["guided"] = 1
        picture = guide_of(view.problem)
        return Goal(stage.tv_weight, network_input=picture, input_keeps_scale=True)


class NoiseLedWeight:
    r"""Adapt the weight of total variation until the residual has the variance of the noise.

    Every few iterations the weight becomes

    .. math:: \lambda \leftarrow \lambda \left( \frac{\sigma^2}{\text{mean } r^2} \right)^p

    within bounds: while the residual r of the output is larger than the noise, the weight falls;
    where it is smaller, the fit also fits the noise, and the weight grows.  p = 1/2 is Chambolle's
    update for total-variation denoising [1]_.

    Parameters
    ----------
    every
        Number of iterations between two updates, from 1 up; 10, because an update waits for the
        device.
    power
        Exponent p, positive; 1/2 as in Chambolle's update.
    least, most
        Bounds of the weight, as multiples of that of the stage.

    References
    ----------
    .. [1] Chambolle, "An algorithm for total variation minimization and applications", JMIV
       20, 2004, section 4.
    """

    def __init__(
        self, *, every: int = 10, power: float = 0.5, least: float = 0.01, most: float = 2.0
    ) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise InputError(f"every must be an integer from 1 up, got {every!r}")
        self.every, self.power, self.least, self.most = every, power, least, most

    def goal(self, view: LoopView, stage: Stage, memory: Values) -> Goal:
        """Return the goal of the next iteration, with the weight of total variation adapted.

        Parameters
        ----------
        view
            The loop between two iterations.
        stage
            The stage that the control belongs to.
        memory
            Empty at the beginning of the stage; then ``"factor"``, the weight as a multiple of
            that of the stage.

        Returns
        -------
        Goal
            The data term, and total variation with the present weight.
        """
        if not memory:
            memory["factor"] = 1.0
        elif view.iteration % self.every == 0:
            problem = view.problem
            image = view.image
            residual = max(problem.mean_square(image), 1e-12)
            ratio = problem.expected_square(image) / residual
            factor = float(memory["factor"]) * ratio**self.power
            memory["factor"] = min(max(factor, self.least), self.most)
        return Goal(stage.tv_weight * float(memory["factor"]))


class DeepRED:
    r"""Combine DIP with regularisation by denoising (DeepRED) [1]_.

    The problem

    .. math:: \min_{\theta, x} \tfrac12 \| A f_\theta(z) - y \|^2
              + \tfrac{\beta}{2} x^T (x - D(x)) \quad \text{subject to } x = f_\theta(z)

    is solved by the alternating direction method of multipliers (ADMM) with the scaled multiplier
    v: each iteration takes one step on 1/2 ||A f - y||^2 + mu/2 ||f - (x - v)||^2, then sets
    x = (beta D(x) + mu (f + v)) / (beta + mu) and v = v + f - x.

    Parameters
    ----------
    denoiser
        The denoiser D: maps an image of shape (1, C, H, W) in [0, 1] and a standard deviation to
        an image of the same shape; None takes total-variation denoising.
    sigma
        Standard deviation for the denoiser, in units of a picture in [0, 1]; 3/255 as in the
        original.
    beta
        Weight of the regularisation, from 0 up; 0.5 as in the original for denoising.
    mu
        Weight of the constraint, positive; 0.5 as in the original for denoising.
    every
        Number of iterations between two evaluations of D(x), from 1 up; 10 as in the original,
        because a denoiser may be slow.

    Raises
    ------
    ValueError
        If beta is negative, or mu or every is not positive.

    References
    ----------
    .. [1] Mataev, Milanfar, Elad, "DeepRED: Deep Image Prior Powered by RED", ICCV
       Workshops 2019, arXiv:1903.10176.
    """

    def __init__(
        self,
        denoiser: Denoiser | None = None,
        *,
        sigma: float = 3 / 255,
        beta: float = 0.5,
        mu: float = 0.5,
        every: int = 10,
    ) -> None:
        if not (beta >= 0 and mu > 0 and every >= 1):
            raise InputError(
                f"beta must be from 0 up, mu and every positive, got {beta}, {mu} and {every}"
            )
        self.denoiser = denoiser or DENOISERS["tv"]
        self.sigma, self.beta, self.mu, self.every = sigma, beta, mu, every

    def goal(self, view: LoopView, stage: Stage, memory: Values) -> Goal:
        """Update x and v, and return the goal of the next iteration.

        Parameters
        ----------
        view
            The loop between two iterations.
        stage
            The stage that the control belongs to.
        memory
            Empty at the beginning of the stage; then ``"x"``, ``"v"``, ``"denoised"``, the last
            D(x), and ``"count"``, the number of updates.

        Returns
        -------
        Goal
            The data term, total variation, and the distance from x - v.
        """
        if not memory:
            problem = view.problem
            x = problem.operator.adjoint(_without_unseen(problem)).clamp(0, 1)
            v = torch.zeros_like(x)
            memory.update(count=0, denoised=_of_each(self.denoiser, x, self.sigma))
        else:
            output, x, v = view.image, tensor_of(memory, "x"), tensor_of(memory, "v")
            memory["count"] = int(memory["count"]) + 1
            if memory["count"] % self.every == 0:
                memory["denoised"] = _of_each(self.denoiser, x, self.sigma)
            mean = self.beta * tensor_of(memory, "denoised") + self.mu * (output + v)
            x = (mean / (self.beta + self.mu)).clamp(0, 1)
            v = v + output - x
        memory.update(x=x, v=v)
        return Goal(stage.tv_weight, guide=x - v, guide_weight=self.mu)


def _without_unseen(problem: Problem) -> Tensor:
    """Return the measurement, of a picture itself without what the fit must not see.

    Outliers, and values that are held out to judge the fit, are replaced by the median of their
    neighbours.
    """
    y = problem.measurement
    if problem.known is None or not isinstance(problem.operator, Identity):
        return y
    unseen = (~problem.known).expand(y.shape).cpu().numpy()
    pairs = zip(y.cpu().numpy(), unseen)
    filled = [fill_from_neighbours(pixels, places) for pixels, places in pairs]
    return torch.from_numpy(np.stack(filled)).to(y)


def _of_each(denoiser: Denoiser, images: Tensor, sigma: float) -> Tensor:
    """Return the images of a batch denoised, each by itself."""
    return torch.cat([denoiser(image[None], sigma) for image in images])
