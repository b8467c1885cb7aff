"""From an image and its settings to jobs, one for each image of a batch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from dipfast.arrays import as_constant, check_image
from dipfast.errors import InputError, InputTypeError
from dipfast.images.layout import Layout, find_data_range
from dipfast.model.noise import NoiseModel
from dipfast.model.noise_estimate import estimate_noise_model
from dipfast.model.operators import LinearOperator, known_mask
from dipfast.model.problem import Problem
from dipfast.prior.loop import Input
from dipfast.prior.methods import make_stages
from dipfast.prior.stages import Stage
from dipfast.run.interrupt import Interrupt
from dipfast.run.job import Job
from dipfast.run.memory import check_memory
from dipfast.settings.noise import NoiseParameters
from dipfast.settings.presets import Preset, get_preset
from dipfast.settings.settings import Settings
from dipfast.stopping import RULES, StopRule

__all__ = ["Task", "find_device", "prepare"]

# tv_weight="auto" is this times sigma: of 1, 2 and 5, 2 ended highest on two pictures.
_TV_WEIGHT_PER_SIGMA = 2.0

# A quarter of the values of a black picture lie a quarter of the range below it where the noise
# has a standard deviation of 0.37 of the range, which is more than pictures have.
_NOISE_BEYOND = 0.25


@dataclass(frozen=True)
class Task:
    """Say what a task makes of an image.

    Attributes
    ----------
    image, layout
        The measurement as it came, and its layout.
    operators
        The forward model of each image of the batch, or one for all.
    baseline
        What there is without any work, in the form of the result, from the measurement.
    kept_mask
        Which pixels of the measurement are kept as they are, boolean, of the shape of the
        measurement or 1 along its axes; None for none.
    found
        What the task found, to be told beside its settings.
    """

    image: Any
    layout: Layout
    operators: Sequence[LinearOperator]
    baseline: Callable[[Tensor], Tensor] = lambda measurement: measurement
    kept_mask: Tensor | None = None
    found: dict[str, Any] = field(default_factory=dict)


def prepare(task: Task, settings: Settings) -> list[Job]:
    """Return a job for each image, with every "auto" decided.

    Raises
    ------
    InputError, InputTypeError
        If an option does not go with the image; the message names it.
    MemoryLimitError
        If the fit of one image does not fit into memory.
    """
    layout = task.layout
    settings = _decide_for_all(settings, layout)
    measurement = layout.to_tensor(task.image)
    _check_range(measurement, layout, settings)
    baseline = task.baseline(measurement)
    shape = layout.shape_of(tuple(baseline.shape))
    reference, peak = None, 1.0
    if settings.reference is not None:
        picture = _companion("reference", settings.reference, task.image, shape)
        reference = layout.to_tensor(picture)
        peak = _peak(picture, layout) / _width(layout)
    given = _network_input(settings, layout, shape, baseline)
    kept = task.kept_mask
    kept = None if kept is None else kept.expand(measurement.shape)
    jobs = []
    for item in range(len(measurement)):
        one = slice(item, item + 1)
        operator = task.operators[item if len(task.operators) > 1 else 0]
        noise = _noise_of(measurement[item], known_mask(operator), layout, settings)
        weight = _tv_weight(noise, known_mask(operator), settings)
        jobs.append(
            Job(
                problem=Problem(measurement[one], operator, noise),
                settings=settings.model_copy(
                    update={
                        "sigma": noise.sigma * _width(layout),
                        "noise": noise,
                        "tv_weight": weight,
                    }
                ),
                stages=_stages(settings, weight),
                rule=_rule(settings),
                layout=layout.of_one(),
                baseline=baseline[one],
                kept_mask=None if kept is None else kept[one],
                reference=None if reference is None else reference[one],
                peak=peak,
                network_input=given,
            )
        )
        if item == 0:
            check_memory(**jobs[0].sizes)
    return jobs


# --- what is decided for all images ------------------------------------------------------


def _decide_for_all(settings: Settings, layout: Layout) -> Settings:
    """Return settings with preset, iterations, device and range decided."""
    name, preset = get_preset(settings.task, settings.quality, settings.preset)
    if preset.input == "given" and settings.network_input is None:
        raise InputError(f"network_input is needed for preset={name!r}")
    named = isinstance(settings.method, str)
    if named:
        make_stages(settings.method, 3, 0.0)  # refuses what needs a package that is missing
    elif not all(isinstance(stage, Stage) for stage in settings.method):
        raise InputTypeError(
            f"method must be a name or a sequence of stages, got {settings.method!r}"
        )
    if not isinstance(settings.stop, str | StopRule):
        raise InputTypeError(
            f"stop must be a name or a StopRule, got {type(settings.stop).__name__}"
        )
    if not isinstance(settings.interrupt, Interrupt | None):
        raise InputTypeError(
            f"interrupt must be an Interrupt, got {type(settings.interrupt).__name__}"
        )
    if isinstance(settings.noise, NoiseParameters) and layout.range_source == "data":
        raise InputError(
            "data_range is needed where noise is a NoiseModel, whose numbers are in units of "
            "that range"
        )
    if settings.learning_rate is not None:
        preset = replace(preset, learning_rate=settings.learning_rate)
    iterations = settings.max_iterations or preset.iterations
    return settings.model_copy(
        update={
            "preset": preset,
            "max_iterations": iterations if named else None,
            "device": str(find_device(settings.device)),
            "data_range": layout.data_range,
            # They belong to the process of the caller.
            "callback": None,
            "interrupt": None,
        }
    )


def _check_range(measurement: Tensor, layout: Layout, settings: Settings) -> None:
    """Refuse noise that is wider than the range, and warn of values beyond the range."""
    _warn_of_values_beyond(measurement, layout)
    varied = bool((measurement != measurement.flatten()[0]).any())
    if settings.sigma != "auto" and settings.sigma > _width(layout) and varied:
        low, high = layout.data_range
        raise InputError(
            f"sigma={settings.sigma:g} is in the unit of the image, whose range from {low:.6g} to "
            f"{high:.6g} is narrower than such noise"
        )


def _network_input(
    settings: Settings, layout: Layout, shape: tuple[int, ...], baseline: Tensor
) -> Input | Tensor:
    preset = settings.preset
    assert isinstance(preset, Preset)
    if settings.network_input is None:
        return "meshgrid" if preset.input == "meshgrid" else "noise"
    picture = as_constant("network_input", settings.network_input)
    axis = layout.channel_axis if picture.ndim == len(shape) else None
    form = Layout.of(picture, channel_axis=axis, name="network_input")
    given = form.to_tensor(picture)
    if given.shape[2:] != baseline.shape[2:]:
        raise InputError(
            f"network_input must have the rows and columns of the result, "
            f"{tuple(baseline.shape[2:])}, got {tuple(given.shape[2:])}"
        )
    return given


def _rule(settings: Settings) -> StopRule:
    rule = settings.stop
    return rule if isinstance(rule, StopRule) else RULES[rule]


def _stages(settings: Settings, weight: float) -> tuple[Stage, ...]:
    if settings.max_iterations is None:
        return tuple(settings.method)
    return make_stages(settings.method, settings.max_iterations, weight)


# --- what is decided for one image -------------------------------------------------------


def _noise_of(y: Tensor, known: Tensor | None, layout: Layout, settings: Settings) -> NoiseModel:
    noise = settings.noise
    if isinstance(noise, NoiseModel):
        return noise
    if isinstance(noise, NoiseParameters):
        return NoiseModel(noise.sigma, noise.gain, noise.low, noise.high)
    sigma = None if settings.sigma == "auto" else float(settings.sigma) / _width(layout)
    if sigma == 0 and noise != "poisson_gaussian":
        return NoiseModel(0.0)
    return estimate_noise_model(
        y, noise, sigma=sigma, known=None if known is None else known[0], ends=layout.ends
    )


def _tv_weight(noise: NoiseModel, known: Tensor | None, settings: Settings) -> float:
    if settings.tv_weight != "auto":
        return float(settings.tv_weight)
    preset = settings.preset
    assert isinstance(preset, Preset)
    level = 0.0 if noise.is_free else math.sqrt(noise.typical_variance)
    # The data term has that share of the elements, total variation has them all.
    share = 1.0 if known is None else float(known.float().mean())
    return max(level * share * _TV_WEIGHT_PER_SIGMA, preset.tv_weight)


# --- arguments ---------------------------------------------------------------------------


def _width(layout: Layout) -> float:
    low, high = layout.data_range
    return high - low


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


def find_device(device: str | torch.device) -> torch.device:
    """Return the device of a name; ``"auto"`` is CUDA where there is one, else the CPU.

    Raises
    ------
    InputError
        If it cannot be used.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    # An unknown or missing device is a RuntimeError, CUDA in a torch built without it an
    # AssertionError, and a device without memory of its own a NotImplementedError.
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device={str(device)!r} cannot be used: {reason}") from error
    return place
