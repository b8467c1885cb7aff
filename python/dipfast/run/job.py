"""A job: all that is needed to restore one image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dipfast.arrays import has_equal_channels
from dipfast.images.layout import Layout
from dipfast.model.noise_estimate import NoiseEstimate
from dipfast.model.operators import on_device
from dipfast.model.problem import Problem
from dipfast.model.stretch import Stretch
from dipfast.model.wiener import join_measurement
from dipfast.prior.loop import DeepImagePrior
from dipfast.prior.methods import make_stages
from dipfast.prior.stages import Stage
from dipfast.run.memory import sizes_of
from dipfast.settings.names import DIRECT_METHODS, MadeInput
from dipfast.settings.presets import Preset
from dipfast.settings.settings import Settings
from dipfast.stopping import StopRule

__all__ = ["SHORTEST_FIT", "Job"]

SHORTEST_FIT = 50
"""Iterations of the shortest fit that is joined: a shorter one adds nothing to what guides it."""


@dataclass(frozen=True, eq=False)
class Job:
    """Hold everything that is needed to restore one image; a job can be pickled.

    Tensors are on the CPU; :func:`dipfast.run.runner.run` moves them to the device of the settings.

    Parameters
    ----------
    problem
        Measurement (1, C, H, W) in [0, 1], operator and noise.
    settings
        The settings with every "auto" decided: the method has a name or is stages, the noise is a
        model, the weight of total variation is a number, the preset is a
        :class:`~dipfast.settings.presets.Preset`, and the device is the name of one.
    stages
        The stages of the fit, in order; none for a method that fits no network.
    rule
        The stop rule, which ends the fit and judges which iteration is best.
    layout
        The layout of the image, which gives the result the same form.
    baseline
        An image of the size of the result that takes no fit, (1, C, H, W) in [0, 1].
    kept_mask
        A boolean tensor of the shape of the measurement that is True at the pixels that the result
        keeps; None if it keeps none.
    refined
        Whether the image of the network is joined with the measurement
        (:func:`dipfast.model.wiener.join_measurement`); not by default.
    reference
        The clean image, of the shape of the baseline; None if it is not known.
    peak
        The peak of PSNR in units of the value range; 1, the default, is the width of the range.
    network_input
        The input of the network: the name of one that is generated, ``"noise"`` by default, or a
        tensor (1, C, H, W).
    estimate
        What the image tells of its noise; None if it was not looked at.
    stretch
        The stretch of the values that the network is fitted to; None, the default, for none.  The
        measurement of the problem is stretched then, and the baseline is not.
    fits
        The fits that are joined with what a method without a network finds, each a job of its own;
        none, the default, for a single fit.  The stages are those of all of them then.
    tile
        Rows and columns of the tiles that the fits are of, in pixels of the measurement; 0, the
        default, for fits of the whole picture.
    """

    problem: Problem
    settings: Settings
    stages: tuple[Stage, ...]
    rule: StopRule
    layout: Layout
    baseline: Tensor
    kept_mask: Tensor | None = None
    refined: bool = False
    reference: Tensor | None = None
    peak: float = 1.0
    network_input: MadeInput | Tensor = "noise"
    estimate: NoiseEstimate | None = None
    stretch: Stretch | None = None
    fits: tuple[Job, ...] = ()
    tile: int = 0

    @property
    def preset(self) -> Preset:
        """Return the preset."""
        preset = self.settings.preset
        assert isinstance(preset, Preset)
        return preset

    @property
    def is_direct(self) -> bool:
        """Say whether the method fits no network, and has no iterations."""
        method = self.settings.method
        return isinstance(method, str) and method in DIRECT_METHODS

    @property
    def iterations(self) -> int:
        """Return the number of iterations of all stages together."""
        return sum(stage.iterations for stage in self.stages)

    @property
    def device(self) -> torch.device:
        """Return the device to fit on."""
        return torch.device(self.settings.device)

    @property
    def range_width(self) -> float:
        """Return the width of the value range, in the unit of the image."""
        low, high = self.layout.data_range
        return high - low

    def shortened(self, iterations: int) -> Job:
        """Return a job with another number of iterations; the method must have a name.

        Parameters
        ----------
        iterations
            The number of iterations of all stages together, positive.

        Returns
        -------
        Job
            The job with stages of that length in the proportions of the method.
        """
        if self.fits:
            return self._with_shortened_fits(iterations)
        weight = float(self.settings.tv_weight)
        return replace(self, stages=make_stages(self.settings.method, iterations, weight))

    def _with_shortened_fits(self, iterations: int) -> Job:
        """Return a job with fewer fits where they would be too short, or none, and shorter ones."""
        # Pairs, or a single one: what is measured of a pair is known better.
        count = min(len(self.fits), iterations // SHORTEST_FIT)
        count = count if count < 2 else count // 2 * 2
        shares = [iterations // count + (k < iterations % count) for k in range(count)]
        fits = [fit.shortened(share) for fit, share in zip(self.fits, shares)]
        if len(self.fits) > 1:
            fits = [_numbered(fit, number) for number, fit in enumerate(fits, 1)]
        return replace(self, fits=tuple(fits), stages=tuple(s for f in fits for s in f.stages))

    def finish(self, image: Tensor) -> Tensor:
        """Return an image of the network with the known pixels put in, if the job keeps them.

        Parameters
        ----------
        image
            Of shape (1, C, H, W), in [0, 1].

        Returns
        -------
        Tensor
            Of the same shape, not stretched; that of a grey picture stored in colour is grey.
        """
        image = self.unstretched(image)
        if self.kept_mask is None:
            return image
        known = self.problem.measurement if self.stretch is None else self.baseline
        return torch.where(self.kept_mask.to(image.device), known.to(image.device), image)

    def unstretched(self, image: Tensor) -> Tensor:
        """Return an image of the network in the values of the image that was given.

        Parameters
        ----------
        image
            Of shape (1, C, H, W), in [0, 1].

        Returns
        -------
        Tensor
            Of the same shape; that of a grey picture stored in colour is grey.
        """
        if has_equal_channels(self.problem.measurement[0]):
            # A grey picture that is stored in colour stays grey.
            image = image.mean(dim=1, keepdim=True).expand(image.shape).contiguous()
        return image if self.stretch is None else self.stretch.unbiased_inverse(image)

    def refine(self, image: Tensor) -> Tensor:
        """Return an image of the network joined with the measurement, if the job refines images.

        Parameters
        ----------
        image
            Of shape (1, C, H, W), in [0, 1], not stretched.

        Returns
        -------
        Tensor
            Of the same shape; the image itself if the job does not refine.
        """
        if not self.refined:
            return image
        problem, device = self.problem, image.device
        known = None if problem.known is None else problem.known.to(device)
        if self.stretch is None:
            return join_measurement(image, problem.measurement.to(device), problem.noise, known)
        measured, noise = self.baseline.to(device), self.stretch.measured
        return join_measurement(image, measured, noise, known, keeps_flux=True)

    def make_prior(self) -> DeepImagePrior:
        """Return a new loop on the device of the job.

        Returns
        -------
        DeepImagePrior
            The loop before its first iteration.
        """
        preset, device = self.preset, self.device
        given, precision = self.network_input, self.settings.precision
        assert precision != "auto"
        prior = DeepImagePrior(
            self.problem.measurement.to(device),
            self.stages,
            network=preset.network,
            operator=on_device(self.problem.operator, device),
            noise=self.problem.noise,
            outliers=None if self.problem.outliers is None else self.problem.outliers.to(device),
            input=given.to(device) if isinstance(given, Tensor) else given,
            input_channels=preset.input_channels,
            optimizer=preset.optimizer,
            learning_rate=preset.learning_rate,
            final_learning_rate=preset.final_learning_rate,
            input_noise=preset.input_noise,
            precision=precision,
            average_decay=preset.average_decay,
            seed=self.settings.seed,
        )
        # What a guide and a stop rule ask for beside the measurement and its noise.
        prior.problem = replace(
            prior.problem, neighbours=self.problem.neighbours, jpeg=self.problem.jpeg
        )
        return prior

    @property
    def sizes(self) -> dict[str, Any]:
        """Return the arguments of :func:`dipfast.run.memory.check_memory`: sizes, dtype, device."""
        given = self.network_input
        channels = given.shape[1] if isinstance(given, Tensor) else None
        shape, dtype = tuple(self.baseline.shape), self.problem.measurement.dtype
        return sizes_of(self.preset, shape, channels, dtype, self.device)


def _numbered(fit: Job, number: int) -> Job:
    """Return a fit whose stages have its number."""
    stages = (replace(stage, name=f"{stage.name} {number}") for stage in fit.stages)
    return replace(fit, stages=tuple(stages))
