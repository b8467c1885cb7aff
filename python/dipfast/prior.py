"""The loop: fit an untrained network to one measurement.

:class:`DeepImagePrior` is an iterator of states.  It knows nothing of files, plots or
tasks, and it decides nothing: stop rules, progress bars and interrupts look at its states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dipfast.networks import Hourglass, HourglassConfig
from dipfast.operators import Identity, Operator
from dipfast.stages import Stage, Terms, objective

__all__ = ["DeepImagePrior", "State"]


@dataclass(frozen=True)
class State:
    """One iteration, valid until the next begins.

    Attributes
    ----------
    iteration
        Counted from 1.
    stage
        The stage that it belongs to.
    terms
        Objective and terms of :attr:`image`, divided by the number of measured elements;
        scalar tensors, so that nobody waits for the device who does not read them.
    metrics
        What an onlooker measured; empty as it comes from the loop.
    """

    iteration: int
    stage: Stage
    terms: Terms
    prior: DeepImagePrior = field(repr=False)
    metrics: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def image(self) -> Tensor:
        """The network's output, a copy of shape (N, C, H, W) in [0, 1].

        It is what :attr:`terms` were computed from, before the weights moved on.
        """
        return self.prior.output.clone()

    @property
    def average(self) -> Tensor:
        """The exponential running average of the outputs, a copy."""
        return self.prior.average()


class DeepImagePrior:
    r"""Minimise over the weights of a network f the objective of each stage in turn,

    .. math:: \frac1n \left( \tfrac12 \| A f_\theta(z) - y \|^2
              + \lambda \, TV(f_\theta(z)) \right),

    with n the number of elements of y, so that a learning rate means the same at every
    size.

    Parameters
    ----------
    measurement
        y, of shape (N, C, H, W), float32 or float64, on the device to work on.
    stages
        What to minimise, and for how many iterations each.
    network
        The widths of an :class:`~dipfast.networks.Hourglass`, which is then made and
        initialised from the seed, or a network of your own from z to an image, which is
        taken as it is.
    operator
        A; the default is the identity (denoising).
    input_channels
        Channels of z.
    learning_rate
        Of Adam.
    input_scale
        z is uniform in [0, input_scale).
    input_noise
        Standard deviation of the normal noise that is added to z at each iteration, at
        the first and at the last; it falls geometrically between them.  The original
        keeps it at 1/30.
    average_decay
        Weight that the running average of the outputs keeps at each iteration.
    seed
        Of the weights, z and the noise.  The same seed gives the same bits on the CPU of the
        same machine with the same number of threads; weights and z are the same on every
        device.

    Raises
    ------
    TypeError
        If the measurement is neither float32 nor float64.
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> import torch
    >>> noisy = torch.rand(1, 1, 16, 16)
    >>> config = HourglassConfig(down=(8,), up=(8,), skip=(4,))
    >>> prior = DeepImagePrior(noisy, [Stage("dip", 3)], network=config)
    >>> [state.iteration for state in prior]
    [1, 2, 3]
    """

    def __init__(
        self,
        measurement: Tensor,
        stages: Sequence[Stage],
        *,
        network: HourglassConfig | nn.Module | None = None,
        operator: Operator | None = None,
        input_channels: int = 32,
        learning_rate: float = 0.01,
        input_scale: float = 0.1,
        input_noise: tuple[float, float] = (1 / 30, 1 / 30),
        average_decay: float = 0.99,
        seed: int = 0,
    ) -> None:
        if measurement.ndim != 4 or 0 in measurement.shape:
            raise ValueError(
                "measurement must be a non-empty tensor (N, C, H, W), "
                f"got shape {tuple(measurement.shape)}"
            )
        if not stages or min(stage.iterations for stage in stages) < 1:
            raise ValueError(f"stages must have at least one iteration each, got {stages!r}")
        if measurement.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"measurement must be float32 or float64, got {measurement.dtype}")
        first, last = input_noise
        if not (first >= 0 and last >= 0 and (last > 0 or first == 0)):
            raise ValueError(
                "input_noise must be two positive numbers, or 0 at the first iteration, "
                f"got {input_noise!r}"
            )
        if not 0 <= average_decay < 1:
            raise ValueError(f"average_decay must be in [0, 1), got {average_decay!r}")
        device = measurement.device
        self.measurement = measurement
        self.stages = tuple(stages)
        self.operator: Operator = operator or Identity()
        self.iterations = sum(stage.iterations for stage in stages)
        self.iteration = 0

        image = self.operator.adjoint(measurement)
        batch, channels, height, width = image.shape
        # Weights and z are drawn on the CPU and moved, to be the same on every device.
        generator = torch.Generator().manual_seed(seed)
        if not isinstance(network, nn.Module):
            with torch.device("meta"):  # no weights yet, and no random numbers spent on them
                hourglass = Hourglass(input_channels, channels, network)
            hourglass.to_empty(device="cpu").initialise(generator)
            network = hourglass
        z = input_scale * torch.rand(batch, input_channels, height, width, generator=generator)
        self.network = network.to(measurement)
        self.z = z.to(measurement)
        self.output = torch.zeros_like(image)

        parameters = list(self.network.parameters())
        self._optimizer = torch.optim.Adam(
            parameters,
            lr=learning_rate,
            fused=device.type in ("cpu", "cuda"),
            capturable=device.type == "cuda",  # its step count stays on the device
        )
        steps = max(self.iterations - 1, 1)
        decay = (last / first) ** (1 / steps) if first > 0 else 1.0
        self._noise_level = torch.tensor(first, device=device, dtype=measurement.dtype)
        self._noise_decay = decay
        self._generator = torch.Generator(device).manual_seed(seed)
        self._average_decay = average_decay
        self._average = torch.zeros_like(image)

    def __iter__(self) -> DeepImagePrior:
        return self

    def __next__(self) -> State:
        """One iteration of the stage whose turn it is."""
        end = 0
        for stage in self.stages:
            end += stage.iterations
            if self.iteration < end:
                terms = self._step(stage.tv_weight)
                self.iteration += 1
                return State(self.iteration, stage, terms, self)
        raise StopIteration

    def average(self) -> Tensor:
        """The exponential running average of the outputs, free of its zero start."""
        weight = 1 - self._average_decay**self.iteration
        return self._average / weight if weight > 0 else self._average.clone()

    def _step(self, tv_weight: float) -> Terms:
        """One iteration: tensors in, tensors out, nothing waits for the device."""
        noise = torch.randn(
            self.z.shape, generator=self._generator, device=self.z.device, dtype=self.z.dtype
        )
        output = self.network(torch.addcmul(self.z, noise, self._noise_level))
        terms = objective(output, self.measurement, self.operator, tv_weight)
        scale = 1 / self.measurement.numel()
        self._optimizer.zero_grad(set_to_none=True)
        (scale * terms.value).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

        self.output = output.detach()
        self._average.lerp_(self.output, 1 - self._average_decay)
        self._noise_level.mul_(self._noise_decay)
        return Terms(*(scale * term.detach() for term in terms))
