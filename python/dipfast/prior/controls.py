"""What changes the objective while a stage goes on.

A control sees the loop between two iterations and says what the next one minimises: total
variation by the noise that is left (:class:`NoiseLedWeight`), the image that an earlier
stage ended with (:class:`StageImage`), a denoised picture (:class:`DenoisedImage`), or
a denoiser inside the loop (:class:`DeepRED`).
"""

from __future__ import annotations

import math

import torch

from dipfast.denoisers.registry import DENOISERS, Denoiser
from dipfast.errors import InputError
from dipfast.model.loop_view import LoopView
from dipfast.model.operators import Identity
from dipfast.prior.objective import Goal
from dipfast.prior.stages import Stage
from dipfast.state_dict import Values, tensor_of

__all__ = [
    "DeepRED",
    "DenoisedImage",
    "NoiseLedWeight",
    "StageImage",
]


class StageImage:
    """Draw the output to the image that the stage before ended with (its running average).

    Parameters
    ----------
    weight
        1: fitted to that image instead of the measurement; between 0 and 1: a blend of
        both; 0: the measurement alone.
    as_input
        Whether that image also takes the place of the first channels of the network's input.

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
        new_input = None
        if not memory:
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
        From (1, C, H, W) in [0, 1] and the standard deviation of the noise to the same shape;
        the default is total-variation denoising (:func:`dipfast.ops.tv_denoise`).

    Raises
    ------
    ValueError
        When the stage begins, if the measurement is not a noisy image itself.
    """

    def __init__(self, denoiser: Denoiser | None = None) -> None:
        self.denoiser = denoiser or DENOISERS["tv"]

    def goal(self, view: LoopView, stage: Stage, memory: Values) -> Goal:
        if not memory:
            problem = view.problem
            if not isinstance(problem.operator, Identity):
                raise InputError("method 'tv_target' is for denoising: it denoises the measurement")
            deviation = math.sqrt(problem.noise.typical_variance)
            memory["image"] = self.denoiser(problem.measurement, deviation)
        return Goal(stage.tv_weight, 0.0, tensor_of(memory, "image"), 1.0)


class NoiseLedWeight:
    r"""Total variation by the noise that is left, updated as the fit goes on.

    .. math:: \lambda \leftarrow \lambda \left( \frac{\sigma^2}{\text{mean } r^2} \right)^p

    every few iterations, within bounds: as long as the residual r of the output is larger
    than the noise, the weight falls; where it is smaller, the fit takes in noise, and the
    weight grows.  p = 1/2 is Chambolle's update for total-variation denoising [1]_.

    Parameters
    ----------
    every
        Iterations from one look to the next; a look waits for the device.
    power
        p.
    least, most
        Bounds of the weight, over that of the stage.

    References
    ----------
    .. [1] Chambolle, "An algorithm for total variation minimization and applications", JMIV
       20, 2004, section 4.
    """

    def __init__(
        self, *, every: int = 10, power: float = 0.5, least: float = 0.01, most: float = 2.0
    ) -> None:
        self.every, self.power, self.least, self.most = every, power, least, most

    def goal(self, view: LoopView, stage: Stage, memory: Values) -> Goal:
        if not memory:
            memory["factor"] = 1.0
        elif view.iteration % self.every == 0:
            problem = view.problem
            left = max(problem.mean_square(view.image), 1e-12)
            ratio = problem.noise.typical_variance / left
            factor = float(memory["factor"]) * ratio**self.power
            memory["factor"] = min(max(factor, self.least), self.most)
        return Goal(stage.tv_weight * float(memory["factor"]))


class DeepRED:
    r"""A denoiser inside the loop: DIP with regularisation by denoising [1]_.

    .. math:: \min_{\theta, x} \tfrac12 \| A f_\theta(z) - y \|^2
              + \tfrac{\beta}{2} x^T (x - D(x)) \quad \text{subject to } x = f_\theta(z)

    by ADMM with the multiplier v: each iteration takes one step on
    1/2 ||A f - y||^2 + mu/2 ||f - (x - v)||^2, then
    x = (beta D(x) + mu (f + v)) / (beta + mu) and v = v + f - x.

    Parameters
    ----------
    denoiser
        D: from (1, C, H, W) in [0, 1] and a standard deviation to the same shape.
    sigma
        Standard deviation for the denoiser, in [0, 1]; 3/255 as in the original.
    beta, mu
        Weights; 0.5 as in the original for denoising.
    every
        D(x) is made anew every so many iterations; 10 as in the original, where it hides
        the cost of a slow denoiser.

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
        if not memory:
            problem = view.problem
            x = problem.operator.adjoint(problem.measurement).clamp(0, 1)
            v = torch.zeros_like(x)
            memory.update(count=0, denoised=self.denoiser(x, self.sigma))
        else:
            output, x, v = view.image, tensor_of(memory, "x"), tensor_of(memory, "v")
            memory["count"] = int(memory["count"]) + 1
            if memory["count"] % self.every == 0:
                memory["denoised"] = self.denoiser(x, self.sigma)
            mean = self.beta * tensor_of(memory, "denoised") + self.mu * (output + v)
            x = (mean / (self.beta + self.mu)).clamp(0, 1)
            v = v + output - x
        memory.update(x=x, v=v)
        return Goal(stage.tv_weight, guide=x - v, guide_weight=self.mu)
