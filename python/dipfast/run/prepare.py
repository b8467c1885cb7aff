"""What is to be done: the options, checked, and what each fit is made of."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from torch import Tensor

from dipfast import _native
from dipfast.arrays import as_constant, check_image
from dipfast.checks import check_choice
from dipfast.errors import InputError, InputTypeError
from dipfast.images.layout import Layout, find_data_range
from dipfast.model.noise import NoiseModel
from dipfast.model.noise_estimate import estimate_noise_model
from dipfast.model.operators import LinearOperator, known_mask
from dipfast.prior.loop import DeepImagePrior, Input
from dipfast.prior.methods import make_stages
from dipfast.prior.networks import Hourglass
from dipfast.prior.stages import Stage
from dipfast.run.checkpoint import CheckpointFile
from dipfast.run.identity import describe, fingerprint
from dipfast.run.interrupt import Interrupt
from dipfast.run.memory import check_memory
from dipfast.run.runner import Callback, Fit
from dipfast.run.snapshots import Snapshots
from dipfast.settings.names import NOISE_KINDS, Method, NoiseKind, Quality, RuleName
from dipfast.settings.presets import Preset, get_preset
from dipfast.state_dict import Values
from dipfast.stopping import RULES, FirstOf, StopRule, TimeLimit

__all__ = ["Options", "Plan", "Task", "find_device"]

# tv_weight="auto" is this times sigma: of 1, 2 and 5, 2 ended highest on two pictures.
_TV_WEIGHT_PER_SIGMA = 2.0

# A quarter of the values of a black picture lie a quarter of the range below it where the noise
# has a standard deviation of 0.37 of the range, which is more than pictures have.
_NOISE_BEYOND = 0.25

# A time limit is planned for by timing so many iterations, or as many as take this share of it
# (the first alone if it takes this share), and by using this share of what is left.
_TIMED, _TIMED_SHARE, _TIMED_SHARE_ALONE, _TIME_SHARE = 4, 0.05, 0.3, 0.9


class Options(TypedDict, total=False):
    """What every task may be told; :func:`dipfast.denoise` describes them."""

    sigma: float | Literal["auto"]
    noise: NoiseKind | NoiseModel
    tv_weight: float | Literal["auto"]
    method: Method | Sequence[Stage]
    stop: StopRule | RuleName
    time_limit: float | None
    quality: Quality
    preset: str | Preset | None
    max_iterations: int | None
    network_input: Any
    device: str | torch.device
    seed: int
    reference: Any
    callback: Callback | None
    interrupt: Interrupt | None
    snapshots: float | None
    checkpoint: str | Path | None
    checkpoint_every: int
    resume: bool


@dataclass(frozen=True)
class Task:
    """What one task makes of an image, for :func:`restore_images`.

    Attributes
    ----------
    name
        Of the function that people call.
    image, layout
        The measurement as it came, and its layout.
    operators
        The forward model of each image of the batch, or one for all.
    before
        What there was without any work, in the form of the result, from the measurement.
    keep
        Which pixels of the measurement are kept as they are, boolean, of the shape of the
        measurement or 1 along its axes; None for none.
    settings
        To be told beside those of the options.
    """

    name: str
    image: Any
    layout: Layout
    operators: Sequence[LinearOperator]
    before: Callable[[Tensor], Tensor]
    keep: Tensor | None = None
    settings: dict[str, Any] = field(default_factory=dict)


class Plan:
    """Options that were found to be in order, and the tensors to work on."""

    def __init__(
        self,
        task: Task,
        *,
        sigma: float | Literal["auto"] = "auto",
        noise: NoiseKind | NoiseModel = "auto",
        tv_weight: float | Literal["auto"] = "auto",
        method: Method | Sequence[Stage] = "two_stage",
        stop: StopRule | RuleName = "auto",
        time_limit: float | None = None,
        quality: Quality = "balanced",
        preset: str | Preset | None = None,
        max_iterations: int | None = None,
        network_input: Any = None,
        device: str | torch.device = "auto",
        seed: int = 0,
        reference: Any = None,
        callback: Callback | None = None,
        interrupt: Interrupt | None = None,
        snapshots: float | None = None,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 100,
        resume: bool = False,
    ) -> None:
        layout = task.layout
        self.task = task
        self.preset_name, self.preset = get_preset(task.name, quality, preset)
        if isinstance(method, str):
            make_stages(
                method, 3, 0.0
            )  # refuses what is unknown, or needs a package that is missing
        elif not method or not all(isinstance(stage, Stage) for stage in method):
            raise InputTypeError(f"method must be a name or a sequence of stages, got {method!r}")
        elif max_iterations is not None:
            raise InputError("max_iterations has no meaning where method is a sequence of stages")
        self.method = method
        self.iterations = _check_iterations(
            self.preset.iterations if max_iterations is None else max_iterations
        )
        _check_not_negative("sigma", sigma)
        _check_not_negative("tv_weight", tv_weight)
        if (method == "dip" or not isinstance(method, str)) and tv_weight not in ("auto", 0):
            raise InputError(f"tv_weight={tv_weight!r} has no meaning for method={method!r}")
        self.sigma, self.tv_weight = sigma, tv_weight
        if not isinstance(noise, NoiseModel):
            check_choice("noise", noise, NOISE_KINDS)
        elif sigma != "auto":
            raise InputError(f"sigma={sigma!r} has no meaning where noise is a model")
        elif layout.range_source == "data":
            raise InputError(
                "data_range is needed where noise is a NoiseModel, whose numbers are in units of "
                "that range"
            )
        self.noise = noise
        if isinstance(stop, str):
            check_choice("stop", stop, RULES)
        elif not isinstance(stop, StopRule):
            raise InputTypeError(f"stop must be a name or a StopRule, got {type(stop).__name__}")
        self.stop = stop
        self.judge = self.rule = RULES[stop] if isinstance(stop, str) else stop
        self.limit = None
        if time_limit is not None:
            _check_positive("time_limit", time_limit)
            self.limit = TimeLimit(float(time_limit))
            self.rule = FirstOf((self.judge, self.limit))
        self.time_limit = time_limit
        if not (_is_integer(seed) and 0 <= seed < 2**63):
            raise InputError(f"seed must be an integer from 0 to 2**63 - 1, got {seed!r}")
        self.seed = int(seed)
        if callback is not None and not callable(callback):
            raise InputTypeError(f"callback must be callable, got {type(callback).__name__}")
        self.callback = callback
        if not isinstance(interrupt, Interrupt | None):
            raise InputTypeError(f"interrupt must be an Interrupt, got {type(interrupt).__name__}")
        self.interrupt = interrupt or Interrupt()
        if snapshots is not None:
            _check_positive("snapshots", snapshots)
        self.snapshots = snapshots
        if not (_is_integer(checkpoint_every) and checkpoint_every >= 1):
            raise InputError(
                f"checkpoint_every must be a positive integer, got {checkpoint_every!r}"
            )
        self.every = int(checkpoint_every)
        if not isinstance(resume, bool):
            raise InputTypeError(f"resume must be True or False, got {resume!r}")
        if resume and checkpoint is None:
            raise InputError("resume=True needs a checkpoint to go on from")
        self.resume = resume
        self.file = None if checkpoint is None else CheckpointFile(checkpoint)
        self.place = find_device(device)

        self.unit = layout.data_range[1] - layout.data_range[0]
        self.measurement = layout.to_tensor(task.image, self.place)
        _warn_of_values_beyond(self.measurement, layout)
        varied = bool((self.measurement != self.measurement.flatten()[0]).any())
        if sigma != "auto" and float(sigma) > self.unit and varied:
            low, high = layout.data_range
            raise InputError(
                f"sigma={sigma:g} is in the unit of the image, whose range from {low:.6g} to "
                f"{high:.6g} is narrower than such noise"
            )
        self.operators = [operator.to(self.place) for operator in task.operators]
        self.before = task.before(self.measurement)
        shape = layout.shape_of(tuple(self.before.shape))
        self.clean, self.peak = None, 1.0
        if reference is not None:
            reference = _companion("reference", reference, task.image, shape)
            self.clean = layout.to_tensor(reference, self.place)
            self.peak = _peak(reference, layout) / self.unit
        self.input: Input | Tensor
        if self.preset.input == "given" or network_input is not None:
            if network_input is None:
                raise InputError(f"network_input is needed for preset={self.preset_name!r}")
            network_input = as_constant("network_input", network_input)
            axis = layout.channel_axis if network_input.ndim == len(shape) else None
            form = Layout.of(network_input, channel_axis=axis, name="network_input")
            self.input = form.to_tensor(network_input, self.place)
            if self.input.shape[2:] != self.before.shape[2:]:
                raise InputError(
                    f"network_input must have the rows and columns of the result, "
                    f"{tuple(self.before.shape[2:])}, got {tuple(self.input.shape[2:])}"
                )
        else:
            self.input = "meshgrid" if self.preset.input == "meshgrid" else "noise"
        check_memory(**self.sizes)

    @property
    def sizes(self) -> dict[str, Any]:
        """What the fit of one image is made of, for :mod:`dipfast.run.memory`."""
        shape = (1, *self.before.shape[1:])
        if isinstance(self.input, Tensor):
            channels = self.input.shape[1]
        else:
            channels = 2 if self.input == "meshgrid" else self.preset.input_channels
        with torch.device("meta"):  # its shapes are enough
            network = Hourglass(channels, shape[1], self.preset.network)
        return {
            "network": network,
            "z_shape": (1, channels, *shape[2:]),
            "image_shape": shape,
            "dtype": self.measurement.dtype,
            "device": self.place,
        }

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must have in common with this run to be gone on from."""
        layout = self.task.layout
        return {
            "version of dipfast": _native.__version__,
            "version of torch": str(torch.__version__),
            "task": self.task.name,
            **describe(self.task.settings),
            "image": describe(self.measurement),
            "operator": [fingerprint(operator, self.before[:1]) for operator in self.operators],
            "layout": describe([layout.shape, str(layout.dtype), layout.data_range]),
            "keep": describe(self.task.keep),
            "reference": describe(self.clean),
            "network_input": describe(self.input),
            "method": describe(self.method),
            "preset": describe(self.preset),
            "max_iterations": self.iterations,
            "sigma": describe(self.sigma),
            "noise": describe(self.noise),
            "tv_weight": describe(self.tv_weight),
            "stop": describe(self.judge),  # without a limit, which a resumed run may change
            "seed": self.seed,
            "device": self.place.type,
        }

    def affordable(self, item: int) -> int | None:
        """How many iterations of an image there are time for; None for all of them.

        With a checkpoint that is all of them, too: the run is to go on another time.

        Some iterations of a fit that is thrown away are timed, with all that is done at each.
        A part of the time is kept back, because a machine is not always as fast.  The images of
        a batch that are left share the time.
        """
        limit = self.limit
        if limit is None or self.file is not None or not isinstance(self.method, str):
            return None
        images = len(self.measurement) - item
        fit, _, _ = self.fit(item)
        begun = time.monotonic()
        ends = [begun]

        def watch(_: object) -> None:
            ends.append(time.monotonic())
            # The first one loads code and finds memory: it counts only if it has to.
            share = _TIMED_SHARE if len(ends) > 2 else _TIMED_SHARE_ALONE
            if len(ends) > _TIMED or ends[-1] - begun > share * limit.seconds / images:
                raise StopIteration

        fit.run(watch, self.interrupt)
        steps = [after - before for before, after in itertools.pairwise(ends)]
        possible = int(_TIME_SHARE * limit.remaining / images / min(steps, default=1.0))
        return max(possible, 1) if possible < self.iterations else None

    def saved(self) -> Values:
        """What the checkpoint to go on from holds; nothing if there is none."""
        if self.file is None:
            return {}
        if not self.resume:
            self.file.check_free()
            return {}
        found = self.file.read(self.identity)
        return {} if found is None else found.values

    def load(self, fit: Fit, values: Values) -> None:
        """Take a fit to where its checkpoint was written."""
        try:
            fit.load(values)
        except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            assert self.file is not None
            raise InputError(f"checkpoint {self.file.path} does not fit: {error}") from error

    def fit(self, item: int, iterations: int | None = None) -> tuple[Fit, NoiseModel, float]:
        """The fit of one image of the batch, its noise and TV weight.

        ``iterations`` is how many there are time for; None for as many as were asked for.
        """
        y = self.measurement[item : item + 1]
        operator = self.operators[item if len(self.operators) > 1 else 0]
        known = known_mask(operator)
        noise = self._noise_of(y[0], known)
        weight = self.tv_weight
        if weight == "auto":
            level = 0.0 if noise.is_free else math.sqrt(noise.typical_variance)
            # The data term has that share of the elements, total variation has them all.
            share = 1.0 if known is None else float(known.float().mean())
            weight = max(level * share * _TV_WEIGHT_PER_SIGMA, self.preset.tv_weight)
        stages: Sequence[Stage]
        if isinstance(self.method, str):
            stages = make_stages(self.method, iterations or self.iterations, float(weight))
        else:
            stages = tuple(self.method)
        prior = DeepImagePrior(
            y,
            stages,
            network=self.preset.network,
            operator=operator,
            noise=noise,
            input=self.input,
            input_channels=self.preset.input_channels,
            learning_rate=self.preset.learning_rate,
            input_noise=self.preset.input_noise,
            average_decay=self.preset.average_decay,
            seed=self.seed,
        )
        clean = None if self.clean is None else self.clean[item : item + 1]
        store = None if self.snapshots is None else Snapshots(self.snapshots)
        fit = Fit(prior, self.rule, clean, store, self.peak)
        if self.task.keep is not None:
            keep = self.task.keep.expand(self.measurement.shape)[item : item + 1].to(self.place)
            fit.finish = lambda image: torch.where(keep, y, image)
        return fit, noise, float(weight)

    @property
    def noise_source(self) -> str:
        """Whether the level of the noise was ``"given"`` or is ``"estimated"``."""
        told = self.sigma != "auto" or isinstance(self.noise, NoiseModel)
        return "given" if told else "estimated"

    def _noise_of(self, y: Tensor, known: Tensor | None) -> NoiseModel:
        if isinstance(self.noise, NoiseModel):
            return self.noise
        sigma = None if self.sigma == "auto" else float(self.sigma) / self.unit
        if sigma == 0 and self.noise != "poisson_gaussian":
            return NoiseModel(0.0)
        return estimate_noise_model(
            y,
            self.noise,
            sigma=sigma,
            known=None if known is None else known[0],
            ends=self.task.layout.ends,
        )


# --- arguments ---------------------------------------------------------------------------


def _companion(name: str, other: Any, image: Any, shape: tuple[int, ...]) -> Any:
    """Return a picture that must be of the kind of the image, and of this shape."""
    other = as_constant(name, other)
    check_image(name, other)
    if isinstance(other, Tensor) != isinstance(image, Tensor) or tuple(other.shape) != shape:
        raise InputError(
            f"{name} must have kind and shape of the result, {type(image).__name__} {shape}, "
            f"got {type(other).__name__} {tuple(other.shape)}"
        )
    kinds = [getattr(x.dtype, "name", str(x.dtype)) for x in (image, other)]
    if kinds[0] != kinds[1] and not all("float" in kind for kind in kinds):
        raise InputError(f"{name} must have the dtype of image, {image.dtype}, got {other.dtype}")
    return other


def _peak(reference: Any, layout: Layout) -> float:
    """Return the peak of PSNR, in the unit of the reference; :func:`dipfast.denoise` has it."""
    low, high = layout.data_range
    if layout.range_source != "data":
        return high - low
    if reference.min() == reference.max():
        return high - low
    low, high = find_data_range("reference", reference)
    if str(layout.dtype).endswith("uint16") and high > 16383:
        return 65535.0
    if "float" in str(layout.dtype) and 0 <= low <= high - 0.5 <= 0.5:
        return 1.0
    return high - low


def _warn_of_values_beyond(measurement: Tensor, layout: Layout) -> None:
    """Warn of a value range that was given and leaves out what the image holds."""
    lowest, highest = float(measurement.min()), float(measurement.max())
    if 0 <= lowest <= highest <= 1 or layout.range_source != "given":
        return
    # Noise of floating point leaves the range, but most values not by much.
    far = ((measurement < -_NOISE_BEYOND) | (measurement > 1 + _NOISE_BEYOND)).float().mean()
    if "int" in str(layout.dtype) or far > _NOISE_BEYOND:
        warnings.warn(
            f"values of image beyond data_range={layout.data_range} will be cut off",
            stacklevel=6,
        )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check_positive(name: str, value: Any) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float | np.number)
        or not (math.isfinite(value) and value > 0)
    ):
        raise InputError(f"{name} must be a positive number, got {value!r}")


def _check_iterations(value: Any) -> int:
    if not (_is_integer(value) and value >= 1):
        raise InputError(f"max_iterations must be a positive integer, got {value!r}")
    return int(value)


def _check_not_negative(name: str, value: Any) -> None:
    if isinstance(value, str):
        if value == "auto":
            return
    elif isinstance(value, int | float | np.number) and math.isfinite(value) and value >= 0:
        return
    raise InputError(f"{name} must be 'auto' or a number from 0 up, got {value!r}")


def find_device(device: str | torch.device) -> torch.device:
    """The device of a name; ``"auto"`` is CUDA where there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    # An unknown or missing device is a RuntimeError, CUDA in a torch built without it an
    # AssertionError, and a device without memory of its own a NotImplementedError.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device={str(device)!r} cannot be used: {reason}") from error
    return place
