"""One image, ready to work on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dipfast.images.layout import Layout
from dipfast.model.problem import Problem
from dipfast.prior.loop import DeepImagePrior, Input
from dipfast.prior.methods import make_stages
from dipfast.prior.networks import Hourglass
from dipfast.prior.stages import Stage
from dipfast.settings.presets import Preset
from dipfast.settings.settings import Settings
from dipfast.stopping import StopRule

__all__ = ["Job"]


@dataclass(frozen=True, eq=False)
class Job:
    """Hold everything that restoring one image takes; it can be pickled.

    Tensors are on the CPU; :func:`dipfast.run.runner.run` moves them to the device of the settings.

    Attributes
    ----------
    problem
        Measurement (1, C, H, W) in [0, 1], operator and noise.
    settings
        With every "auto" decided: the noise is a model, the weight of total variation and the
        number of iterations are numbers, the preset is a :class:`~dipfast.settings.presets.Preset`,
        the device is the name of one.
    stages
        What is minimised, one after the other.
    rule
        What ends the fit, and which iteration it judges best.
    layout
        The form of the image, and the way back to it.
    baseline
        What there was without any work, in the form of the result.
    kept_mask
        Which pixels of the measurement are kept as they are, boolean; None for none.
    reference
        The clean image; None if it is not known.
    peak
        Of PSNR, in the unit of the measurement.
    network_input
        What the network is given: the name of something to be made, or a tensor.
    """

    problem: Problem
    settings: Settings
    stages: tuple[Stage, ...]
    rule: StopRule
    layout: Layout
    baseline: Tensor
    kept_mask: Tensor | None = None
    reference: Tensor | None = None
    peak: float = 1.0
    network_input: Input | Tensor = "noise"

    @property
    def preset(self) -> Preset:
        """The preset that was decided on."""
        preset = self.settings.preset
        assert isinstance(preset, Preset)
        return preset

    @property
    def iterations(self) -> int:
        """How many iterations there are at most, of all stages together."""
        return sum(stage.iterations for stage in self.stages)

    @property
    def device(self) -> torch.device:
        """The device to work on."""
        return torch.device(self.settings.device)

    @property
    def range_width(self) -> float:
        """The width of the value range, in the unit of the image."""
        low, high = self.layout.data_range
        return high - low

    def shortened(self, iterations: int) -> Job:
        """Return the job with another number of iterations; the method must have a name."""
        weight = float(self.settings.tv_weight)
        return replace(self, stages=make_stages(self.settings.method, iterations, weight))

    def make_prior(self) -> DeepImagePrior:
        """Return the loop, on the device to work on."""
        preset, device = self.preset, self.device
        given = self.network_input
        return DeepImagePrior(
            self.problem.measurement.to(device),
            self.stages,
            network=preset.network,
            operator=_moved(self.problem.operator, device),
            noise=self.problem.noise,
            input=given.to(device) if isinstance(given, Tensor) else given,
            input_channels=preset.input_channels,
            learning_rate=preset.learning_rate,
            input_noise=preset.input_noise,
            average_decay=preset.average_decay,
            seed=self.settings.seed,
        )

    @property
    def sizes(self) -> dict[str, Any]:
        """The parts of the fit that take memory, as :mod:`dipfast.run.memory` wants them."""
        shape = tuple(self.baseline.shape)
        if isinstance(self.network_input, Tensor):
            channels = self.network_input.shape[1]
        else:
            meshgrid = self.network_input == "meshgrid"
            channels = 2 if meshgrid else self.preset.input_channels
        with torch.device("meta"):  # its shapes are enough
            network = Hourglass(channels, shape[1], self.preset.network)
        return {
            "network": network,
            "z_shape": (1, channels, *shape[2:]),
            "image_shape": shape,
            "dtype": self.problem.measurement.dtype,
            "device": self.device,
        }


def _moved(operator: Any, device: torch.device) -> Any:
    """Return an operator on a device; the CPU is where it is already."""
    return operator if device.type == "cpu" else operator.to(device)
