"""Fit an untrained network to one measurement.

:class:`DeepImagePrior` is an iterator of states.  It has no code for files, plots or tasks, and
it makes no decisions: stop rules, progress bars and interrupts read its states.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, get_args

import torch
from torch import Tensor, nn

from dipfast.checks import check_choice, shown
from dipfast.errors import InputError, InputTypeError
from dipfast.model.noise import NoiseModel
from dipfast.model.operators import (
    Blur,
    Compose,
    Downsample,
    Identity,
    Mask,
    Operator,
    taken_as_it_is,
)
from dipfast.model.problem import Problem
from dipfast.ops.layers import add_normal
from dipfast.prior.fused import has_fused_layers
from dipfast.prior.networks import Hourglass
from dipfast.prior.objective import Goal, Numbers, Terms, objective
from dipfast.prior.optimizers import Muon
from dipfast.prior.stages import Stage
from dipfast.prior.step_graph import StepGraph
from dipfast.settings.names import MadeInput, OptimizerName, Precision
from dipfast.settings.network import HourglassConfig
from dipfast.state_dict import Values, check_values, copy_to, flatten, subtree, tensor_of
from dipfast.torch_modes import is_of_inference, plain_modes, plain_operator, plain_tensor

__all__ = ["DeepImagePrior", "State"]


@dataclass(frozen=True)
class State:
    """Describe one iteration; valid until the next begins.

    Parameters
    ----------
    iteration
        Number of the iteration, from 1 up.
    stage
        The stage that the iteration belongs to.
    terms
        Objective and terms of :attr:`image`, divided by the number of measured elements; scalar
        tensors on the device: reading one waits for the device.
    prior
        The loop that the state comes from.
    metrics
        Quality measures of the images, by name, as scalar tensors; empty as it comes from the
        loop, and filled by an observer that has a reference image.
    read
        What was read of the device already, which copies of a state share.
    total
        The largest possible number of iterations of a run of several fits, which are numbered from
        one to the next; None for a single one.
    """

    iteration: int
    stage: Stage
    terms: Terms
    prior: DeepImagePrior = field(repr=False)
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    read: dict[str, Numbers] = field(default_factory=dict, repr=False, compare=False)
    total: int | None = None

    @property
    def numbers(self) -> Numbers:
        """Return the terms as numbers, which waits for the device once an iteration."""
        if not self.read:
            self.read["terms"] = Numbers(*torch.stack(self.terms).tolist())
        return self.read["terms"]

    @property
    def iterations(self) -> int:
        """Return the largest possible number of iterations, of all stages together."""
        return self.prior.iterations if self.total is None else self.total

    @property
    def problem(self) -> Problem:
        """Return the measurement and its model."""
        return self.prior.problem

    @property
    def regularised(self) -> bool:
        """Return whether total variation is part of the objective."""
        return self.prior.regularised

    @property
    def first_in_stage(self) -> bool:
        """Return whether the iteration is the first of its stage."""
        ends = accumulate(stage.iterations for stage in self.prior.stages)
        # By the loop, because the states of several fits are numbered from one to the next.
        return self.prior.iteration == 1 or self.prior.iteration - 1 in ends

    @property
    def in_last_stage(self) -> bool:
        """Return whether no other stage follows."""
        return self.prior.in_last_stage

    @property
    def image(self) -> Tensor:
        """Return a copy of the network's output, of shape (N, C, H, W), in [0, 1].

        :attr:`terms` were computed from it; the weights have been updated since.
        """
        return self.prior.image

    @property
    def average(self) -> Tensor:
        """Return a copy of the exponential running average of the outputs."""
        return self.prior.average


class DeepImagePrior:
    r"""Minimise the objective of each stage in turn over the weights of a network f.

    The objective is

    .. math:: \frac1n \left( \tfrac12 \| A f_\theta(z) - y \|^2
              + \lambda \, TV(f_\theta(z)) \right),

    with n the number of elements of y that were measured, so that the same learning rate suits
    images of every size.  Where the noise is not white, the expectation of the measurement takes
    the place of A f, and the difference is weighted by the variance of the noise
    (:class:`~dipfast.model.problem.Problem`).

    Parameters
    ----------
    measurement
        The measurement y, of shape (N, C, H, W), float32 or float64, on the device to work on; of
        an image in [0, 1], as the default network makes it.
    stages
        What to minimise, and for how many iterations each; one stage at least
        (:func:`dipfast.prior.methods.make_stages` returns those of published methods).
    network
        The configuration of a :class:`~dipfast.networks.Hourglass`, which is then made and
        initialised from the seed, or a network of your own that maps z to an image, which is
        used as it is.  Random numbers that such a network draws itself (dropout) come from
        torch's global generator.  None takes the default configuration.
    operator
        The forward model A; None takes the identity (denoising).  Images have the shape of its
        adjoint.
    noise
        The noise of the measurement; None takes it for white.
    outliers
        Elements of the measurement that are wrong and not fitted, boolean, of a shape that
        broadcasts to it; None, the default, for none.
    input
        The network's input z: ``"noise"``, uniform in [0, input_scale); ``"meshgrid"``, the two
        coordinates from 0 to 1, which favours smooth fills of large holes; or a tensor of your
        own of shape (N, channels, H, W), such as a second picture of the same scene.
    input_channels
        Number of channels of z for ``"noise"``, from 1 up; 32 as in the original.
    optimizer
        What updates the weights: ``"adam"``, the default, as in the original, or ``"muon"``
        (:class:`~dipfast.prior.optimizers.Muon`), which needs fewer iterations, and is not better
        on every picture (docs/speed.md).
    learning_rate
        Learning rate of the optimiser, positive; 0.01 as in the original, and about 0.2 for Muon,
        whose part that is Adam has a tenth of it.
    final_learning_rate
        Share of the learning rate at the last iteration, to which it falls linearly, from 0 to 1;
        1, the default, keeps it as it is.
    precision
        What the layers of the network are computed in: ``"float32"``, the default, which is the
        dtype of the measurement, or ``"bfloat16"``, with weights and everything else in float32.
    input_scale
        End of the range of z for ``"noise"``, positive; 0.1 as in the original.
    input_noise
        Standard deviation of the normal noise that is added to z at each iteration, at
        the first and at the last; it changes geometrically between them.  The default keeps it at
        1/30, as the original does.
    average_decay
        Weight that the running average of the outputs keeps at each iteration, in [0, 1); 0.99
        as in the original.
    seed
        Seed of the weights, of z and of the noise that is added to it.  The same seed gives the
        same bits on the CPU of the same machine with the same number of threads; weights and z
        are the same on every device.

    Raises
    ------
    TypeError
        If the measurement is neither float32 nor float64, or holds no data; if stages, operator or
        noise are none.
    ValueError
        If an argument is out of its range, or the network has no weights that can be fitted.
    RuntimeError
        If torch cannot differentiate: in a process that was forked from one that uses a GPU,
        or inside a transform of ``torch.func``.

    Notes
    -----
    Modes of torch that are on in the calling code (``no_grad``, ``inference_mode``, ``autocast``,
    a default device or dtype, ...) do not change the results (:mod:`dipfast.torch_modes`).  They
    are off within an iteration, also for an operator, a network or a control of your own, and as
    before between two iterations.

    Examples
    --------
    >>> import torch
    >>> noisy = torch.rand(1, 1, 16, 16)
    >>> config = HourglassConfig(down=(8,), up=(8,), skip=(4,))
    >>> prior = DeepImagePrior(noisy, [Stage("dip", 3)], network=config)
    >>> [state.iteration for state in prior]
    [1, 2, 3]
    """

    @plain_modes()
    def __init__(
        self,
        measurement: Tensor,
        stages: Sequence[Stage],
        *,
        network: HourglassConfig | nn.Module | None = None,
        operator: Operator | None = None,
        noise: NoiseModel | None = None,
        outliers: Tensor | None = None,
        input: MadeInput | Tensor = "noise",
        input_channels: int = 32,
        optimizer: OptimizerName = "adam",
        learning_rate: float = 0.01,
        final_learning_rate: float = 1.0,
        precision: Precision = "float32",
        input_scale: float = 0.1,
        input_noise: tuple[float, float] = (1 / 30, 1 / 30),
        average_decay: float = 0.99,
        seed: int = 0,
    ) -> None:
        if measurement.ndim != 4 or 0 in measurement.shape:
            raise InputError(
                "measurement must be a non-empty tensor (N, C, H, W), "
                f"got shape {tuple(measurement.shape)}"
            )
        stages = _check_stages(stages)
        if measurement.dtype not in (torch.float32, torch.float64):
            raise InputTypeError(f"measurement must be float32 or float64, got {measurement.dtype}")
        if measurement.is_meta:
            raise InputTypeError("measurement must hold data, got a tensor on the device 'meta'")
        first, last = input_noise
        if not (0 < min(input_noise) <= max(input_noise) < math.inf) and (first, last) != (0, 0):
            raise InputError(
                f"input_noise must be two positive numbers, or 0 for both, got {input_noise!r}"
            )
        if not isinstance(input, Tensor):
            check_choice("input", input, get_args(MadeInput))
        if not 0 < input_scale < math.inf:
            raise InputError(f"input_scale must be a positive number, got {input_scale!r}")
        if not 0 <= average_decay < 1:
            raise InputError(f"average_decay must be in [0, 1), got {average_decay!r}")
        check_choice("optimizer", optimizer, get_args(OptimizerName))
        check_choice("precision", precision, get_args(Precision))
        if precision == "bfloat16" and measurement.dtype == torch.float64:
            raise InputError("precision='bfloat16' needs a measurement in float32, got float64")
        if not 0 < learning_rate < math.inf:
            raise InputError(f"learning_rate must be a positive number, got {learning_rate!r}")
        if not 0 <= final_learning_rate <= 1:
            raise InputError(f"final_learning_rate must be in [0, 1], got {final_learning_rate!r}")
        if is_of_inference(network):
            raise InputError(
                "network must not be made within torch.inference_mode(): its weights cannot be "
                "fitted; make it outside, or under torch.no_grad()"
            )
        measurement = plain_tensor(measurement)
        device = measurement.device
        if operator is not None and not (callable(operator) and hasattr(operator, "adjoint")):
            raise InputTypeError(
                f"operator must be a module with an adjoint, got {shown(operator)}; "
                "dipfast.operators.Wrapped(function, shape) makes one of a function"
            )
        operator = Identity() if operator is None else taken_as_it_is(plain_operator(operator))
        if noise is not None and not hasattr(noise, "residual"):
            raise InputTypeError(
                f"noise must be a NoiseModel, got {shown(noise)}; NoiseModel(sigma) is white noise"
            )
        self._graph: StepGraph | None = None
        self.problem = Problem(measurement, operator, noise or NoiseModel(0.0), outliers=outliers)
        self.stages = stages
        self.iterations = sum(stage.iterations for stage in stages)
        self.iteration = 0

        image = plain_tensor(operator.adjoint(measurement))
        # Weights and z are drawn on the CPU and moved, to be the same on every device.
        generator = torch.Generator().manual_seed(seed)
        if not isinstance(input, Tensor):
            input_channels = 2 if input == "meshgrid" else input_channels
        else:
            input = _check_input(plain_tensor(input), image)
            input_channels = input.shape[1]
        if not isinstance(network, nn.Module):
            # On the device "meta" no weights are drawn, which would change the global generator.
            with torch.device("meta"):
                hourglass = Hourglass(input_channels, image.shape[1], network)
            # Always in single precision: other dtypes draw other numbers from the same seed.
            hourglass.float().to_empty(device="cpu").initialise(generator)
            network = hourglass
        self.network = network.to(measurement)
        if isinstance(network, Hourglass) and device.type == "cpu":
            # As its fused layers lie in memory.
            self.network.to(memory_format=torch.channels_last)
        if isinstance(input, Tensor):
            z = input
        elif input == "noise":
            shape = (image.shape[0], input_channels, *image.shape[2:])
            z = input_scale * torch.rand(shape, generator=generator, dtype=torch.float32)
        else:
            z = _meshgrid(image)
        # Channels last, as the fused layers of the network take it.
        self.z = z.to(measurement).contiguous(memory_format=torch.channels_last)
        self._seed = seed
        # The channels of z in whose place an image came; none of them as long as z is as it was.
        self._made = self.z[:, :0]
        self.output = torch.zeros_like(image)

        self._weights = list(self.network.parameters())
        if not any(weight.requires_grad for weight in self._weights):
            raise InputError("network must have weights that require gradients, got none")
        self.learning_rate = learning_rate
        self._final_learning_rate = final_learning_rate
        self._precision = precision
        self._rate: float | None = None  # of the last iteration
        self._optimizer = _make_optimizer(optimizer, self._weights)
        steps = max(self.iterations - 1, 1)
        decay = (last / first) ** (1 / steps) if first > 0 else 1.0
        self._noise_level = torch.tensor(first, device=device, dtype=measurement.dtype)
        self._noise_decay = decay
        self._generator = torch.Generator(device).manual_seed(seed)
        self._average_decay = average_decay
        self._average = torch.zeros_like(image)
        self._averaged = 0
        self._terms = torch.zeros(3, device=device, dtype=measurement.dtype)
        self._memory: Values = {}  # state of the control of the current stage
        # Only of what is known not to wait for the device.
        can_record = self._generator.device.type == "cuda" and type(network) is Hourglass
        can_record &= _never_waits(operator)
        self._graph = StepGraph(self._compute, self._generator) if can_record else None

    def __iter__(self) -> DeepImagePrior:
        return self

    def __next__(self) -> State:
        """Do one iteration of the current stage."""
        if self.iteration >= self.iterations:
            raise StopIteration
        begin, stage = self._stage_of(self.iteration + 1)
        if self.iteration == begin:
            self._memory = {}
        with plain_modes():
            goal = stage.goal(self, self._memory)
            if stage.control is not None:
                check_values(f"the control of stage {stage.name!r}", self._memory)
            if goal.network_input is not None:
                self._replace_input(goal.network_input, goal.input_keeps_scale)
            terms = self._step(goal)
        self.iteration += 1
        self._averaged += 1
        return State(self.iteration, stage, terms, self)

    def _stage_of(self, iteration: int) -> tuple[int, Stage]:
        """Return the stage of an iteration, after the number of iterations before that stage."""
        begin = 0
        for stage in self.stages:
            if iteration <= begin + stage.iterations:
                break
            begin += stage.iterations
        return begin, stage

    @property
    def regularised(self) -> bool:
        """Return whether total variation was part of the last objective."""
        return self.iteration > 0 and self._stage_of(self.iteration)[1].tv_weight > 0

    @property
    def in_last_stage(self) -> bool:
        """Return whether no other stage follows that of the last iteration."""
        return self.iteration > self.iterations - self.stages[-1].iterations

    @property
    def problem(self) -> Problem:
        """Return the measurement and its model; another may be set before the first iteration."""
        return self._problem

    @problem.setter
    @plain_modes()
    def problem(self, problem: Problem) -> None:
        if problem.count == 0:
            raise InputError(
                "measurement must have an element to fit: all are left out by the mask of the "
                "operator, outliers or what is held out"
            )
        self._problem = problem
        # Computed once and not in each iteration, because problem.count waits for the device.
        self._scale = 1 / problem.count
        self._forget_graph()

    @property
    def image(self) -> Tensor:
        """Return a copy of the network's last output, of shape (N, C, H, W), in [0, 1]."""
        return self.output.clone()

    @property
    def average(self) -> Tensor:
        """Return a copy of the running average of the outputs, of the shape of :attr:`image`.

        The average is exponential, and divided by the sum of its weights because it starts at 0.
        """
        weight = 1 - self._average_decay**self._averaged
        return self._average / weight if weight > 0 else self._average.clone()

    def _replace_input(self, image: Tensor, keeps_scale: bool) -> None:
        """Replace the first channels of z by an image, scaled to the range of z or as it is."""
        if image.shape[1] > self.z.shape[1]:
            raise InputError(
                f"the input of the network must have {image.shape[1]} channels or more, in whose "
                f"place an image comes, got {self.z.shape[1]}"
            )
        if not keeps_scale:
            image = image * self.z.abs().max()
        self._made = torch.cat([self._made, self.z[:, self._made.shape[1] : image.shape[1]]], dim=1)
        self._set_first_channels(image)
        self._forget_graph()

    def _set_first_channels(self, first: Tensor) -> None:
        z = torch.cat([first, self.z[:, first.shape[1] :]], dim=1)
        self.z = z.contiguous(memory_format=torch.channels_last)

    def _forget_graph(self) -> None:
        """Forget the recorded step, after tensors that it works on were replaced."""
        if self._graph is not None:
            self._graph.forget()

    def _set_learning_rate(self) -> None:
        """Set the learning rates of the next iteration."""
        share = self.iteration / max(self.iterations - 1, 1)
        rate = self.learning_rate * (1 - (1 - self._final_learning_rate) * share)
        if rate == self._rate:
            return
        self._rate = rate
        for group, part in zip(self._optimizer.param_groups, _PARTS):
            if self._graph is None:
                group["lr"] = rate * part
            elif isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * part)
            else:  # in the memory of the device, where a recorded step reads it
                group["lr"] = torch.tensor(rate * part, device=self.z.device, dtype=torch.float32)

    def learned(self) -> Values:
        """Return a copy of what was learned so far: weights, the optimiser's state, the average.

        :meth:`load` restores it, and leaves the number of the iteration as it is.

        Returns
        -------
        dict
            Tensors and numbers by name.
        """
        optimizer: Values = {
            f"{k}.{name}": value.clone()
            for k, moments in self._optimizer.state_dict()["state"].items()
            for name, value in moments.items()
        }
        network: Values = {k: value.clone() for k, value in self.network.state_dict().items()}
        return {
            "averaged": self._averaged,
            "average": self._average.clone(),
            "output": self.output.clone(),
            **flatten({"network": network, "optimizer": optimizer}),
        }

    def state_dict(self) -> Values:
        """Return a copy of all that the iterations have changed.

        A loop with the same arguments that loads it (:meth:`load`) continues to the same bits, on
        the CPU of the same machine with the same number of threads.

        Returns
        -------
        dict
            Tensors and numbers by name: those of :meth:`learned`, the number of the iteration,
            the states of the random generator and of the control, ...
        """
        values = self.learned() | {
            "iteration": self.iteration,
            "learning_rate": self.learning_rate,
            "input_noise": self._noise_level.clone(),
            "generator": self._generator.get_state(),
            **flatten({"memory": self._memory}),
        }
        if self._made.shape[1] > 0:
            values["z"] = self.z.clone()
        return values

    @plain_modes()
    def load(self, values: Values) -> None:
        """Restore the values of :meth:`learned` or of :meth:`state_dict`.

        Parameters
        ----------
        values
            Values of a loop with the same arguments.

        Raises
        ------
        ValueError
            If these are not the values of such a loop.  Some may have been set already, so that
            the loop must not be used any more.
        """
        try:
            self._load(values)
        except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"these are not the values of this loop: {error}") from error

    def _load(self, values: Values) -> None:
        self._forget_graph()
        self._rate = None
        self._averaged = int(values["averaged"])
        self._average = _copy_like(tensor_of(values, "average"), self._average)
        self.output = _copy_like(tensor_of(values, "output"), self.output)
        self.network.load_state_dict(subtree(values, "network"))
        moments: dict[int, dict[str, Any]] = {}
        saved = subtree(values, "optimizer")
        weights = [w for group in self._optimizer.param_groups for w in group["params"]]
        for name in saved:
            k, _, key = name.partition(".")
            value = tensor_of(saved, name)
            # A copy, because the optimiser works on the tensor itself; and in memory as the weight
            # is: the fused Adam takes them element by element (pytorch#106951).
            like = weights[int(k)] if value.shape == weights[int(k)].shape else value
            moments.setdefault(int(k), {})[key] = torch.empty_like(
                like, dtype=value.dtype, device=value.device, requires_grad=False
            ).copy_(value)
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if "iteration" not in values:
            return
        self.iteration = int(values["iteration"])
        self.learning_rate = float(values["learning_rate"])
        self._noise_level = _copy_like(tensor_of(values, "input_noise"), self._noise_level)
        self._generator.set_state(tensor_of(values, "generator").cpu())
        if "z" in values:
            z = _copy_like(tensor_of(values, "z"), self.z)
            # As it was: a checkpoint holds it channel by channel, and layers have other bits then.
            z = z.contiguous(memory_format=torch.channels_last)
            if self._made.shape[1] == 0:
                self._made = self.z
            self.z = z
        elif self._made.shape[1] > 0:
            self._set_first_channels(self._made)
            self._made = self._made[:, :0]
        self._memory = copy_to(self.z.device, subtree(values, "memory"))

    def _noisy_input(self) -> Tensor:
        """Return z with the normal noise of this iteration added to it."""
        if self.z.device.type == "cpu":
            return add_normal(self.z, self._noise_level, self._seed, self.iteration)
        noise = torch.randn(
            self.z.shape, generator=self._generator, device=self.z.device, dtype=self.z.dtype
        )
        return torch.addcmul(self.z, noise, self._noise_level)

    def _output_of(self, z: Tensor) -> Tensor:
        """Return the output of the network, computed in the precision of the loop."""
        output: Tensor
        if self._precision == "float32":
            output = self.network(z)
        elif (
            isinstance(self.network, Hourglass)
            and self.network.is_fused is not False
            and has_fused_layers(z.device, z.dtype)
        ):
            output = self.network(z.bfloat16())
        else:
            with torch.autocast(z.device.type, torch.bfloat16):
                output = self.network(z).to(z.dtype)
        return output

    def _step(self, goal: Goal) -> Terms:
        """Do one optimiser step without waiting for the device, and return the terms."""
        self._set_learning_rate()
        if self._graph is None or not self._graph.replay(goal):
            self._compute(goal)
        # A copy, because the next step changes them.
        return Terms(*self._terms.clone().unbind())

    def _compute(self, goal: Goal) -> None:
        """Compute one step; the tensors that hold what it changes stay the same."""
        output = self._output_of(self._noisy_input())
        if output.shape != self.output.shape:
            raise InputError(
                f"network must return an image of shape {tuple(self.output.shape)}, got "
                f"{tuple(output.shape)}"
            )
        terms = objective(output, self.problem, goal)
        self._optimizer.zero_grad(set_to_none=True)
        # Only the weights: an operator may hold other tensors that require gradients.
        fitted = [weight for weight in self._weights if weight.requires_grad]
        (self._scale * terms.value).backward(inputs=fitted)  # type: ignore[no-untyped-call]
        self._optimizer.step()

        self.output.copy_(output.detach())
        self._average.lerp_(self.output, 1 - self._average_decay)
        self._noise_level.mul_(self._noise_decay)
        values = [term.detach().to(self._terms.dtype) for term in terms]
        torch.mul(torch.stack(values), self._scale, out=self._terms)


# The parts of the learning rate for the groups of an optimiser: Adam has one, Muon a second one for
# what it leaves to Adam.
_PARTS = (1.0, 0.1)


def _never_waits(operator: object) -> bool:
    """Say whether an operator computes on the device alone, as those of users need not."""
    if type(operator) is Compose:
        return all(map(_never_waits, operator.operators))
    return type(operator) in (Identity, Mask, Downsample, Blur)


def _make_optimizer(name: OptimizerName, weights: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return an optimiser, whose learning rates are set at each step."""
    if name == "muon":
        return Muon(weights)
    device = weights[0].device
    return torch.optim.Adam(
        weights,
        fused=device.type in ("cpu", "cuda"),
        # A step count in the memory of the CPU would make each step wait for the device.
        capturable=device.type == "cuda",
    )


def _copy_like(value: Tensor, other: Tensor) -> Tensor:
    """Return a copy on the device and of the dtype of another tensor of the same shape."""
    if value.shape != other.shape:
        raise InputError(f"shape {tuple(value.shape)} instead of {tuple(other.shape)}")
    return value.to(other, copy=True)


def _check_stages(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """Return stages, of which there is one at least, each with a number of iterations."""
    checked = tuple(stages)
    for stage in checked:
        if not isinstance(stage, Stage):
            raise InputTypeError(f"stages must be a sequence of Stage, got {shown(stage)} in it")
        count = getattr(stage.iterations, "__index__", None)
        if count is None or isinstance(stage.iterations, bool):
            raise InputTypeError(
                f"iterations of stage {stage.name!r} must be an integer, "
                f"got {shown(stage.iterations)}"
            )
    if not checked or min(stage.iterations for stage in checked) < 1:
        raise InputError(f"stages must have at least one iteration each, got {checked!r}")
    return checked


def _check_input(z: Tensor, image: Tensor) -> Tensor:
    if z.ndim != 4 or z.shape[0] != image.shape[0] or z.shape[2:] != image.shape[2:]:
        raise InputError(
            f"input must have shape (N, channels, H, W) with those of the image, "
            f"{tuple(image.shape)}, got {tuple(z.shape)}"
        )
    return z


def _meshgrid(image: Tensor) -> Tensor:
    """Return the coordinates of the pixels, from 0 to 1, as channels: columns, then rows."""
    batch, _, height, width = image.shape
    rows, columns = (torch.linspace(0, 1, size, dtype=torch.float32) for size in (height, width))
    grid = torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)])
    return grid.expand(batch, 2, height, width).clone()
