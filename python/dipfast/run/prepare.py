"""Prepare a restoration: make jobs of an image and its settings, one for each image of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dipfast.arrays import as_constant, as_numpy, check_image, name_of_dtype
from dipfast.denoisers.jpeg import without_artefacts
from dipfast.denoisers.plug_and_play import check_operator
from dipfast.errors import InputError, InputTypeError
from dipfast.images.layout import Layout, find_data_range, usual_width
from dipfast.model.jpeg import JpegSet
from dipfast.model.noise import NoiseModel
from dipfast.model.noise_estimate import NoiseEstimate, estimate_noise, isolated_outliers
from dipfast.model.operators import Identity, LinearOperator, known_mask, on_device
from dipfast.model.problem import Problem
from dipfast.model.stack_noise import StackNoise, estimate_stack_noise, spread
from dipfast.model.stretch import Stretch, needs_stretch, photon_noise
from dipfast.prior.controls import Guide, StageImage
from dipfast.prior.methods import make_stages
from dipfast.prior.stages import Stage
from dipfast.run.fits import FITS, with_fits
from dipfast.run.interrupt import Interrupt
from dipfast.run.job import Job
from dipfast.run.memory import check_direct_memory, check_memory
from dipfast.run.precision import find_precision
from dipfast.run.tile_jobs import choose_tile, sizes_of_tile
from dipfast.run.volumes import Together, may_have_neighbours, planes_together, values_of
from dipfast.settings.names import DIRECT_METHODS, MadeInput, Method, Precision
from dipfast.settings.noise import NoiseParameters
from dipfast.settings.presets import Preset, fits_are_guided, get_preset
from dipfast.settings.settings import DenoiseSettings, Settings, decide_method
from dipfast.stopping import (
    RULES,
    Automatic,
    Bootstrap,
    HeldOut,
    StopRule,
    WindowedVariance,
)
from dipfast.warn import warn_caller

__all__ = ["Task", "find_device", "fit_device", "prepare"]

_CPU = torch.device("cpu")

# The noise on the input of a guided fit is as strong as that of the picture: of presets it is for
# noise of this level, in units of the range, and at most so many times as much.
_USUAL_LEVEL, _MOST_INPUT_NOISE = 0.1, 2.0

_RANDOM_CHANNELS = 16

# Of a meshgrid, rows and columns.
_MESHGRID_CHANNELS = 2

# tv_weight="auto" is sigma times this factor: of 1, 2 and 5, 2 gave the highest PSNR on two images.
_TV_WEIGHT_PER_SIGMA = 2.0

# Noise alone rarely takes this share of the values beyond the range by this share of its width: for
# a black image its standard deviation would have to be 0.37 of the range.
_NOISE_BEYOND = 0.25
# Where that is farther than so many deviations of the noise, fewer than this share are.
_FEW_BEYOND, _MOST_DEVIATIONS = 1e-4, 6.0
# Measurements of general operators are in another unit if this share of them is.
_MANY_BEYOND = 0.25

# Noise that is cut off leaves no value beyond, but for rounding, and for defects.
_CUT_EXACTLY, _MOST_BEYOND_A_CUT = 1e-3, 1e-2


@dataclass(frozen=True)
class Task:
    """Hold what a task knows of its image.

    Parameters
    ----------
    image
        The measurement as it was given, an array or a tensor.
    layout
        The layout of the measurement.
    operators
        The forward model of each image of the batch, or a single one for all.
    baseline
        A function from the measurement, (N, C, H, W) in [0, 1], to an image of the size of the
        result that takes no fit, such as a bicubic enlargement; by default the measurement.
    kept_mask
        A boolean tensor that is True at the pixels of the measurement that the result keeps, of
        the shape (N, C, H, W) of the measurement or with 1 along its axes; None if it keeps none.
    found
        What the task found in the image, for the record of the run; of a stack, :func:`prepare`
        adds what its noise is from.
    suits_direct
        Whether the method of the task without a network is for its operators, True by default;
        otherwise none is chosen that needs it.
    reach
        From where to where the measurements of images in [0, 1] go, in their unit: (0, 1) by
        default, more for operators that make values brighter.
    """

    image: Any
    layout: Layout
    operators: Sequence[LinearOperator]
    baseline: Callable[[Tensor], Tensor] = lambda measurement: measurement
    kept_mask: Tensor | None = None
    found: dict[str, Any] = field(default_factory=dict)
    suits_direct: bool = True
    reach: tuple[float, float] = (0.0, 1.0)


def prepare(task: Task, settings: Settings) -> list[Job]:
    """Return a job for each image, with every "auto" decided.

    Parameters
    ----------
    task
        The task, with a single image or a batch.
    settings
        The settings as they were given.

    Returns
    -------
    list of Job
        One job for each image of the batch, in order.

    Raises
    ------
    InputError, InputTypeError
        If an option does not fit the image; the message names it.
    MemoryLimitError
        If the work on one image does not fit into memory.
    """
    layout = task.layout
    settings = _decide_for_all(settings, task)
    may_help = may_have_neighbours(settings, layout)
    # On the CPU, wherever the images are: a job is moved to the device when it is run.
    measurement = layout.to_tensor(task.image, _CPU)
    precision: Precision = "float32"
    if not _is_direct(settings):
        device = torch.device(settings.device)
        precision = find_precision(settings.precision, device, measurement.dtype)
    settings = settings.model_copy(update={"precision": precision})
    task = replace(task, operators=[on_device(operator, _CPU) for operator in task.operators])
    _check_range(measurement, task, settings)
    _check_clipping(measurement, task, settings)
    told = _warn_of_values_outside(measurement, task, settings)
    baseline = task.baseline(measurement)
    _check_operators(task, settings, baseline)
    shape = layout.shape_of(tuple(baseline.shape))
    reference, peak = None, 1.0
    if settings.reference is not None:
        given = settings.reference
        picture = _image_like("reference", given, task.image, shape, layout.stack_axes)
        reference = layout.to_tensor(picture, _CPU)
        peak = _peak(picture, layout) / _width(layout)
    network_input = _network_input(settings, layout, shape, baseline)
    _check_channels(network_input, baseline.shape[1], settings)
    kept_mask = None if task.kept_mask is None else task.kept_mask.expand(measurement.shape)
    stack = _noise_of_stack(measurement, task, settings)
    photons = None if stack is None else _photon_noise_of_stack(measurement, stack, settings)
    found = [
        _found_of(measurement, item, task, layout, stack, settings)
        for item in range(len(measurement))
    ]
    together = Together()
    if may_help:
        together = _together(measurement, layout, stack, found, photons, settings)
        most = max((len(n.block.planes) for n in together.neighbours.values()), default=1)
        if most > 1:
            check_direct_memory((most, *measurement.shape[1:]), settings.task)
    if isinstance(settings, DenoiseSettings):
        settings = settings.model_copy(update={"neighbours": together.reach})
    jobs = []
    for item, (noise, estimate, jpeg, outliers) in enumerate(found):
        operator = _operator_of(task, item)
        y = _image_of(measurement, item)
        neighbours = together.neighbours.get(item)
        measured = Problem(y, operator, noise, outliers=outliers, jpeg=jpeg, neighbours=neighbours)
        shares = stack is not None and item not in stack.own
        stretch, problem = _stretched(measured, settings, photons if shares else None)
        refined = _refines(noise, estimate, settings, stretch is not None)
        if stretch is not None:
            noise = stretch.measured
            # Of a stretched image the noise is estimated otherwise.
            of_all = shares and photons is not None
            estimate = _compared(estimate, *((measurement, photons) if of_all else (y, None)))
        weight = _tv_weight(problem.noise, known_mask(operator), settings)
        preset = _preset_for(problem.noise, baseline.shape[1], settings)
        job = Job(
            problem=problem,
            estimate=estimate,
            stretch=stretch,
            settings=settings.model_copy(
                update={
                    "sigma": noise.sigma * _width(layout),
                    "noise": noise,
                    "tv_weight": weight,
                    "preset": preset,
                    # The job has them as tensors.
                    "reference": None,
                    "network_input": None,
                }
            ),
            stages=_stages(settings, weight),
            rule=_rule(settings),
            layout=layout.of_one(),
            baseline=y if baseline is measurement else _image_of(baseline, item),
            kept_mask=_kept(kept_mask, item, outliers, settings),
            refined=refined,
            reference=None if reference is None else _image_of(reference, item),
            peak=peak,
            network_input=_input_of(network_input, item),
        )
        if item == 0:
            _warn_of_window(job.rule, job.stages)
        job = with_fits(job) if settings.method == "joined" else job
        if job.iterations:
            job = replace(job, tile=choose_tile(job, settings.tile))
        jobs.append(job)
        # Of tiles, only those that are denoised begin with a picture of the whole.
        whole = not job.iterations or (job.tile > 0 and settings.task == "denoise")
        if item == 0 and whole:
            check_direct_memory(tuple(job.baseline.shape), settings.task)
        if job.iterations and not any(before.iterations for before in jobs[:-1]):
            check_memory(**(sizes_of_tile(job, job.tile) if job.tile else job.sizes))
    if not told and task.kept_mask is None:
        _warn_of_values_cut_off(jobs, task, settings)
    if stack is not None:
        task.found.update(_found_of_stack(stack, layout))
    if may_help:
        task.found["neighbours"] = together.found
    if isinstance(settings, DenoiseSettings) and any(job.stretch is None for job in jobs):
        layout.warn_of_contrast(task.image)
    return jobs


def _image_of(batch: Tensor, item: int) -> Tensor:
    """Return one image of a batch, as a copy: a pickled view would carry the whole batch."""
    return batch if len(batch) == 1 else batch[item : item + 1].clone()


# --- what is decided for all images ------------------------------------------------------


def _decide_for_all(settings: Settings, task: Task) -> Settings:
    """Return settings with method, preset, iterations, device and range decided."""
    layout = task.layout
    method = decide_method(settings)
    if method == "joined" and settings.method == "auto" and not task.suits_direct:
        method = "two_stage"
    name, preset = get_preset(settings.task, settings.quality, settings.preset, method)
    if preset.input == "given" and settings.network_input is None:
        raise InputError(f"network_input is needed for preset={name!r}")
    is_direct, has_named_method = method in DIRECT_METHODS, isinstance(method, str)
    if has_named_method and not is_direct and method != "joined":
        make_stages(method, 3, 0.0)  # raises if a package that the method needs is missing
    elif not has_named_method and not all(isinstance(stage, Stage) for stage in method):
        raise InputTypeError(f"method must be a name or a sequence of stages, got {method!r}")
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
    if isinstance(settings, DenoiseSettings) and settings.jpeg is not None:
        _check_jpeg(layout)
    if settings.learning_rate is not None:
        preset = replace(preset, learning_rate=settings.learning_rate)
    joins_guided = method == "joined" and fits_are_guided(method, settings.task)
    count = FITS[settings.quality] if joins_guided else 1
    iterations = settings.max_iterations or count * preset.iterations
    return settings.model_copy(
        update={
            "method": method,
            "preset": preset,
            "max_iterations": iterations if has_named_method and not is_direct else None,
            "device": str(fit_device(settings, task.image)),
            "data_range": layout.data_range,
            # Functions and interrupts cannot be sent to another process, as a job can.
            "callback": None,
            "interrupt": None,
            "executor": None,
        }
    )


def _check_jpeg(layout: Layout) -> None:
    """Refuse pixels that no JPEG decodes to."""
    if "uint8" not in str(layout.dtype) or layout.data_range != (0, 255):
        low, high = layout.data_range
        raise InputError(
            "jpeg is for the pixels of a JPEG, uint8 from 0 to 255, and image is "
            f"{layout.dtype} from {low:g} to {high:g}"
        )


def _is_direct(settings: Settings) -> bool:
    """Return whether the method of decided settings fits no network."""
    return isinstance(settings.method, str) and settings.method in DIRECT_METHODS


def _check_range(measurement: Tensor, task: Task, settings: Settings) -> None:
    """Refuse noise that is stronger than the range of what is measured is wide."""
    layout, most = task.layout, task.reach[1] - task.reach[0]
    varied = bool((measurement != measurement.flatten()[0]).any())
    if settings.sigma != "auto" and settings.sigma > most * _width(layout) and varied:
        low, high = layout.data_range
        raise InputError(
            f"sigma={settings.sigma:g} is in the unit of the image, whose range from {low:.6g} to "
            f"{high:.6g} is narrower than such noise"
        )
    model = settings.noise
    if isinstance(model, NoiseParameters) and model.typical_variance > most**2 and varied:
        raise InputError(
            f"noise has a standard deviation of {math.sqrt(model.typical_variance):.3g} value "
            "ranges; a NoiseModel is in the unit of the range, of which 1 is all"
        )


def _check_clipping(measurement: Tensor, task: Task, settings: Settings) -> None:
    """Refuse noise that was told to be cut off where measurements go on.

    The ends of the range are those of the image, and a measurement may have another one.
    """
    noise = settings.noise
    if settings.task != "restore" or (isinstance(noise, str) and noise != "clipped"):
        return
    ends = task.layout.ends if isinstance(noise, str) else (noise.low, noise.high)
    low, high = (-math.inf if ends[0] is None else ends[0]), ends[1]
    high = math.inf if high is None else high
    beyond = (measurement < low - _CUT_EXACTLY) | (measurement > high + _CUT_EXACTLY)
    known = known_mask(_operator_of(task, 0))
    share = float((beyond if known is None else beyond & known).float().mean())
    if share > _MOST_BEYOND_A_CUT:
        told = "noise='clipped'" if isinstance(noise, str) else "noise"
        raise InputError(
            f"{told} is cut off at {_ends_in_words(task.layout, low, high)}, and {share:.0%} of "
            "the values of measurement are beyond: those ends are of the range of the image, and "
            "the operator takes measurements out of it; noise=dipfast.NoiseModel(sigma, low=..., "
            "high=...) tells where they were cut off, in units of the range"
        )


def _ends_in_words(layout: Layout, low: float, high: float) -> str:
    """Name the ends at which noise is cut off, in the unit of the image."""
    ends = (layout.data_range[0] + end * _width(layout) for end in (low, high))
    return " and ".join(f"{end:.6g}" for end in ends if math.isfinite(end))


def _check_operators(task: Task, settings: Settings, baseline: Tensor) -> None:
    """Refuse operators that a method without a network is not for."""
    if settings.method == "nl_ridge" and not all(isinstance(o, Identity) for o in task.operators):
        raise InputError(f"method={settings.method!r} is for images whose pixels were all measured")
    if settings.method == "pnp" or (settings.method == "joined" and settings.task != "denoise"):
        for operator in task.operators:
            check_operator(operator, baseline[:1])


def _network_input(
    settings: Settings, layout: Layout, shape: tuple[int, ...], baseline: Tensor
) -> MadeInput | Tensor:
    preset = settings.preset
    assert isinstance(preset, Preset)
    if settings.network_input is None:
        return "meshgrid" if preset.input == "meshgrid" else "noise"
    picture = as_constant("network_input", settings.network_input)
    size = tuple(picture.shape)
    # One for each image, in their form: then it has all of their axes, but for the channels.
    of_each = len(size) == len(shape) and all(
        size[axis] == shape[axis] for axis in range(len(shape)) if axis != layout.channel_axis
    )
    axis = layout.channel_axis if len(size) == len(shape) else None
    if layout.is_stack and len(size) == len(shape) - len(layout.stack_axes):
        left = [k for k in range(len(shape)) if k not in layout.stack_axes]
        axis = None if layout.channel_axis is None else left.index(layout.channel_axis)
    if not of_each and len(size) > 3 and not (isinstance(picture, Tensor) and size[0] == 1):
        raise InputError(
            "network_input must be one picture of the size of the result, or one for each image of "
            f"a batch or stack, in the form of the result, {shape}, got shape {size}"
        )
    own_layout = Layout.of(
        picture,
        channel_axis=axis,
        stack_axis=(layout.stack_axes or None) if of_each else None,
        name="network_input",
    )
    given = own_layout.to_tensor(picture, _CPU)
    if given.shape[2:] != baseline.shape[2:]:
        raise InputError(
            f"network_input must have the rows and columns of the result, "
            f"{tuple(baseline.shape[2:])}, got {tuple(given.shape[2:])}"
        )
    return given


def _input_of(network_input: MadeInput | Tensor, item: int) -> MadeInput | Tensor:
    """Return the input of the network of one image."""
    return network_input if isinstance(network_input, str) else _image_of(network_input, item)


def _takes_picture(method: Any) -> bool:
    """Return whether a stage of a method puts an image into the input of the network."""
    if isinstance(method, str):
        return method in ("guided", "two_stage_input")
    controls = [stage.control for stage in method]
    return any(
        isinstance(control, Guide) or (isinstance(control, StageImage) and control.as_input)
        for control in controls
    )


def _check_channels(network_input: MadeInput | Tensor, channels: int, settings: Settings) -> None:
    """Refuse an input with too few channels for the image that comes in their place.

    Where it is random, :func:`_preset_for` sees to that there are enough.
    """
    if not _takes_picture(settings.method):
        return
    if isinstance(network_input, Tensor):
        count = network_input.shape[1]
    elif network_input == "meshgrid":
        count = _MESHGRID_CHANNELS
    else:
        return
    if count < channels:
        raise InputError(
            f"the input of the network must have {channels} channels or more, in whose place an "
            f"image comes in a stage, got {count}"
        )


def _rule(settings: Settings) -> StopRule:
    rule = settings.stop
    if rule == "auto" and settings.method == "guided":
        # The network has seen all pixels in its guide, and held-out ones tell nothing.
        return Bootstrap(seed=settings.seed)
    if rule == "auto":
        return Automatic(seed=settings.seed)
    if isinstance(rule, StopRule):
        return rule
    named = RULES[rule]
    return replace(named, seed=settings.seed) if isinstance(named, Bootstrap | HeldOut) else named


def _warn_of_window(rule: StopRule, stages: Sequence[Stage]) -> None:
    """Warn of a window that is longer than what the rule looks at, so that it decides nothing."""
    if not isinstance(rule, WindowedVariance) or not stages:
        return
    looked_at = rule.looked_at([stage.iterations for stage in stages])
    if looked_at < rule.window:
        warn_caller(
            f"es_wmv needs {rule.window} iterations in the last stage, after the first tenth of "
            f"all, and there are {looked_at}: it stops nothing, and the last image is returned; "
            "more iterations or stop='es_emv' suit"
        )


def _stages(settings: Settings, weight: float) -> tuple[Stage, ...]:
    method: Any = settings.method
    if _is_direct(settings) or method == "joined":
        return ()
    if not isinstance(method, str):
        return tuple(method)
    name: Method = method  # type: ignore[assignment]
    assert settings.max_iterations is not None
    return make_stages(name, settings.max_iterations, weight)


# --- what is decided for one image -------------------------------------------------------


class _Found(NamedTuple):
    """What is found of one image before its job is made."""

    noise: NoiseModel
    estimate: NoiseEstimate | None
    jpeg: JpegSet | None
    outliers: Tensor | None


def _operator_of(task: Task, item: int) -> LinearOperator:
    return task.operators[item if len(task.operators) > 1 else 0]


def _found_of(
    measurement: Tensor,
    item: int,
    task: Task,
    layout: Layout,
    stack: StackNoise | None,
    settings: Settings,
) -> _Found:
    """Return noise, and outliers, of one image."""
    jpeg = _jpeg_of(measurement, item, settings)
    estimate: NoiseEstimate | None = None
    if stack is not None:
        estimate = stack.of(item, measurement[item])
        noise = estimate.model
    elif jpeg is None:
        known = known_mask(_operator_of(task, item))
        noise, estimate = _noise_of(measurement[item], known, layout, settings)
    else:
        noise = _noise_of_jpeg(measurement[item], jpeg, settings)
    return _Found(noise, estimate, jpeg, _outliers(measurement[item], noise, estimate, settings))


def _together(
    measurement: Tensor,
    layout: Layout,
    stack: StackNoise | None,
    found: Sequence[_Found],
    photons: NoiseModel | None,
    settings: Settings,
) -> Together:
    """Return which planes of a stack help each other: of those that have the same noise."""
    assert isinstance(settings, DenoiseSettings)
    own = () if stack is None else stack.own
    items = [item for item in range(len(found)) if item not in own]
    noise = found[items[0]].noise if items else NoiseModel(0.0)

    def stretched(planes: Tensor) -> Stretch | None:
        needs = (needs_stretch(plane[None], noise) for plane in planes)
        if not settings.stretch or noise.is_correlated or not any(needs):
            return None
        measured = photons if _asks_photon_noise(settings) else noise
        if measured is None or measured.is_free:
            return None
        return Stretch.of(values_of(planes), measured)

    outliers = [one.outliers for one in found]
    return planes_together(measurement, layout, settings, noise, items, outliers, stretched)


def _noise_of(
    y: Tensor, known: Tensor | None, layout: Layout, settings: Settings
) -> tuple[NoiseModel, NoiseEstimate | None]:
    """Return the noise, and what the image tells of it if it was looked at."""
    noise = settings.noise
    if isinstance(noise, NoiseParameters):
        rows = 1 if noise.spectrum is None else len(noise.spectrum)
        if rows not in (1, len(y)):
            raise InputError(
                f"noise has a spectrum of {rows} channels, and image has {len(y)}; a spectrum of "
                "one row suits every image"
            )
        unlike = noise.channel_levels
        if unlike is not None and len(unlike) != len(y):
            raise InputError(
                f"noise has channel_levels of {len(unlike)} channels, and image has {len(y)}"
            )
        return NoiseModel(*astuple(noise)), None
    sigma = None if settings.sigma == "auto" else float(settings.sigma) / _width(layout)
    if sigma == 0 and noise != "poisson_gaussian":
        return NoiseModel(0.0), None
    estimate = estimate_noise(
        y,
        noise,
        sigma=sigma,
        known=None if known is None else _of_first(known),
        ends=layout.ends,
        # Where masks and operators have no part in what the picture tells.
        compares=settings.task == "denoise",
    )
    return estimate.model, estimate


def _of_first(known: Tensor) -> Tensor:
    """Return a mask, (H, W), (C, H, W) or (N, C, H, W), as that of the first image, (C, H, W)."""
    return known.reshape((1,) * (4 - known.ndim) + known.shape)[0]


def _noise_of_stack(measurement: Tensor, task: Task, settings: Settings) -> StackNoise | None:
    """Return the noise that the planes of a stack have in common; None where none is estimated."""
    layout = task.layout
    jpeg = isinstance(settings, DenoiseSettings) and settings.jpeg is not None
    if not layout.is_stack or isinstance(settings.noise, NoiseParameters) or jpeg:
        return None
    sigma = None if settings.sigma == "auto" else float(settings.sigma) / _width(layout)
    if sigma == 0 and settings.noise != "poisson_gaussian":
        return None
    masks = [known_mask(operator) for operator in task.operators]
    masks = [None if mask is None else _of_first(mask) for mask in masks]
    if len(masks) == 1:
        masks *= len(measurement)
    return estimate_stack_noise(
        measurement,
        settings.noise,
        sigma=sigma,
        known=masks,
        ends=layout.ends,
        compares=settings.task == "denoise",
    )


def _photon_noise_of_stack(
    measurement: Tensor, stack: StackNoise, settings: Settings
) -> NoiseModel | None:
    """Return the noise of planes of high dynamic range, found in some of them together."""
    if not _asks_photon_noise(settings) and stack.shared.seen is None:
        return None
    noise = stack.shared.model
    planes = [
        item
        for item in range(len(measurement))
        if item not in stack.own and needs_stretch(measurement[item : item + 1], noise)
    ]
    return photon_noise(measurement[spread(planes)].flatten(0, 1)) if planes else None


def _found_of_stack(stack: StackNoise, layout: Layout) -> dict[str, Any]:
    """Return what the noise of a stack is from, for the record, and warn if it is not one."""
    # Planes of a single value have no noise, and are as good as any.
    differ = [item for item, own in stack.own.items() if not own.model.is_free]
    if 2 * len(differ) > layout.count:
        warn_caller(
            f"the noise of most of the {layout.count} images of the stack is clearly another one "
            "than that of the others: each has an estimate of its own; sigma or noise tells it "
            "where it is known"
        )
    return {"noise_of_stack": {"estimated_from": list(stack.planes), "own": differ}}


def _jpeg_of(measurement: Tensor, item: int, settings: Settings) -> JpegSet | None:
    """Return the pictures that the JPEG of an image can be of; None if it is none."""
    if not isinstance(settings, DenoiseSettings) or settings.jpeg is None:
        return None
    return JpegSet.of(measurement[item : item + 1], settings.jpeg)


def _noise_of_jpeg(y: Tensor, jpeg: JpegSet, settings: Settings) -> NoiseModel:
    """Return how strong the artefacts are, at most, or for a fit what is to be taken out of them.

    Of four photographs, quality 10 to 90, the fast method without a network takes out 0.4 to 0.5
    times the artefacts; the rest cannot be told from the picture, and a fit is to stop before it.
    """
    if _is_direct(settings):
        return NoiseModel(jpeg.typical_error)
    change = y[None] - without_artefacts(y[None], jpeg, "fast")
    return NoiseModel(float(change.square().mean().sqrt()))


def _asks_photon_noise(settings: Settings) -> bool:
    """Return whether the noise of a picture that is to be stretched is estimated otherwise."""
    return settings.noise in ("auto", "poisson_gaussian") and settings.sigma == "auto"


def _stretched(
    problem: Problem, settings: Settings, photons: NoiseModel | None = None
) -> tuple[Stretch | None, Problem]:
    """Return the stretch that a problem needs, and the problem with stretched values.

    ``photons`` is the photon noise that is known of a stack; None estimates it.
    """
    y, noise = problem.measurement, problem.noise
    if problem.neighbours is not None:  # whose planes have the same stretch
        stretch = problem.neighbours.block.stretch
        if stretch is None:
            return None, problem
        stretched = replace(problem, measurement=stretch.forward(y), noise=stretch.noise)
        return stretch, stretched
    asked = isinstance(settings, DenoiseSettings) and settings.stretch and problem.jpeg is None
    if not asked or noise.is_correlated or not needs_stretch(y, noise):
        return None, problem
    if _asks_photon_noise(settings):
        noise = photon_noise(y[0]) if photons is None else photons
        if noise.is_free:
            return None, problem
    stretch = Stretch.of(y, noise)
    stretched = replace(problem, measurement=stretch.forward(y), noise=stretch.noise)
    return stretch, stretched


def _compared(
    estimate: NoiseEstimate | None, y: Tensor, photons: NoiseModel | None
) -> NoiseEstimate | None:
    """Return an estimate for a stretched image whose sigma was told; None where it was not.

    A sigma in another unit, of [0, 1] say, makes every dark picture one of high dynamic range.  It
    is compared with the noise of its dark part, because that of stars grows with their light.
    """
    if estimate is None or estimate.seen is None:
        return None
    noise = photon_noise(y[0]) if photons is None else photons
    level = float(noise.variance(y.median().clamp_min(noise.offset)).sqrt())
    return replace(estimate, seen=level)


def _outliers(
    y: Tensor, noise: NoiseModel, estimate: NoiseEstimate | None, settings: Settings
) -> Tensor | None:
    """Return the outliers of an image that is to be denoised, (1, C, H, W); None for none."""
    if not isinstance(settings, DenoiseSettings) or settings.jpeg is not None:
        return None
    outliers = isolated_outliers(y, noise) if estimate is None else estimate.outliers
    return None if outliers is None else outliers[None]


def _refines(
    noise: NoiseModel, estimate: NoiseEstimate | None, settings: Settings, is_stretched: bool
) -> bool:
    """Return whether the measurement is joined in.

    It is not if it was said to have no noise.  A method without a network, and a fit that is guided
    by one, leave no detail out, but smooth what stands out little above the noise, as faint stars
    do, whose sum has to stay.
    """
    if not isinstance(settings, DenoiseSettings) or (noise.is_free and estimate is None):
        return False
    leaves_out = not _is_direct(settings) and settings.method not in ("guided", "joined")
    return settings.refine and (is_stretched or leaves_out)


def _kept(
    kept_mask: Tensor | None, item: int, outliers: Tensor | None, settings: Settings
) -> Tensor | None:
    """Return the pixels of an image that the result keeps; None for none."""
    if kept_mask is not None:
        return _image_of(kept_mask, item)
    fills = isinstance(settings, DenoiseSettings) and settings.fill_outliers
    return None if fills else outliers


def _preset_for(noise: NoiseModel, channels: int, settings: Settings) -> Preset:
    """Return the preset, with the input of a guided fit by the picture and its noise."""
    preset = settings.preset
    assert isinstance(preset, Preset)
    is_guided = fits_are_guided(settings.method, settings.task)
    if is_guided or _takes_picture(settings.method):
        # Besides the channels of the picture the input has random ones.
        most = max(preset.input_channels, channels + _RANDOM_CHANNELS)
        preset = replace(preset, input_channels=most)
    if not is_guided or noise.is_free:
        return preset
    share = min(math.sqrt(noise.typical_variance) / _USUAL_LEVEL, _MOST_INPUT_NOISE)
    first, last = preset.input_noise
    return replace(preset, input_noise=(share * first, share * last))


def _tv_weight(noise: NoiseModel, known: Tensor | None, settings: Settings) -> float:
    if settings.tv_weight != "auto":
        return float(settings.tv_weight)
    preset = settings.preset
    assert isinstance(preset, Preset)
    level = 0.0 if noise.is_free else math.sqrt(noise.typical_variance)
    # The data term has only the known elements, the total variation all of them.
    share = 1.0 if known is None else float(known.float().mean())
    return max(level * share * _TV_WEIGHT_PER_SIGMA, preset.tv_weight)


# --- arguments ---------------------------------------------------------------------------


def _width(layout: Layout) -> float:
    low, high = layout.data_range
    return high - low


def _image_like(
    name: str, other: Any, image: Any, shape: tuple[int, ...], stack_axes: tuple[int, ...]
) -> Any:
    """Return an image after checking that it has this shape, and kind and dtype of another one."""
    other = as_constant(name, other)
    check_image(name, other, stack_axes=stack_axes)
    if isinstance(other, Tensor) != isinstance(image, Tensor) or tuple(other.shape) != shape:
        raise InputError(
            f"{name} must have kind and shape of the result, {type(image).__name__} {shape}, "
            f"got {type(other).__name__} {tuple(other.shape)}"
        )
    kinds = [name_of_dtype(x.dtype) for x in (image, other)]
    if kinds[0] != kinds[1] and not all("float" in kind for kind in kinds):
        raise InputError(
            f"{name} must have the dtype of image, {image.dtype}, got {other.dtype}: bring its "
            "values to the unit and type of the image first, so that both mean the same by a number"
        )
    return other


def _peak(reference: Any, layout: Layout) -> float:
    """Return the peak of PSNR in the unit of the reference.

    It is the width of the value range, unless that was found in the data: then it is the width of
    the range of the reference, or 65535 for uint16 and 1 for floats that seem to use it all.
    """
    low, high = layout.data_range
    if layout.range_source != "data":
        return high - low
    # As an array: torch has no least and greatest of some unsigned integers.
    reference = as_numpy(reference)
    if reference.min() == reference.max():
        return high - low
    low, high = find_data_range("reference", reference)
    return usual_width(low, high, layout.dtype) or high - low


def _warn_of_values_outside(measurement: Tensor, task: Task, settings: Settings) -> bool:
    """Warn if the image has values outside of the range that was given, whatever its noise is.

    Returns whether it does; few values in floating point are left to what is known of the noise.
    """
    layout, (low, high) = task.layout, task.reach
    lowest, highest = float(measurement.min()), float(measurement.max())
    if low <= lowest <= highest <= high or layout.range_source != "given":
        return False
    if settings.method == "nl_ridge":  # which keeps them
        return False
    # Noise in floating point exceeds the range, but few values do so by much.
    margin = _NOISE_BEYOND * (high - low)
    far = ((measurement < low - margin) | (measurement > high + margin)).float().mean()
    if "int" not in name_of_dtype(layout.dtype) and far <= _NOISE_BEYOND:
        return False
    warn_caller(f"values of image beyond data_range={layout.data_range} will be cut off")
    return True


def _warn_of_values_cut_off(jobs: Sequence[Job], task: Task, settings: Settings) -> None:
    """Warn if more values are farther outside of the range that was given than noise takes them."""
    # These join or return a picture that has such values, and where the values are stretched, these
    # have a range of their own.
    keeps = settings.method == "nl_ridge" or (
        settings.method == "joined" and settings.task == "denoise"
    )
    cut = [] if keeps else [job for job in jobs if job.stretch is None]
    layout = task.layout
    if not cut or layout.range_source != "given":
        return
    share = max(_share_beyond(job.problem, task.reach) for job in cut)
    # What a general operator makes of images in the range may be beyond it.
    if share > (_MANY_BEYOND if settings.task == "restore" else _FEW_BEYOND):
        warn_caller(
            f"values of image beyond data_range={layout.data_range} will be cut off: "
            f"{100 * share:.2g}% of all are farther outside than noise explains"
        )


def _share_beyond(problem: Problem, reach: tuple[float, float]) -> float:
    """Return the share of the values that neither noise nor outliers take so far out of reach."""
    y, noise, (low, high) = problem.measurement, problem.noise, reach
    # At white, where it is strongest.
    deviation = max(noise.channel_levels or (1,)) * math.sqrt(noise.sigma**2 + noise.gain)
    margin = max(_NOISE_BEYOND * (high - low), _MOST_DEVIATIONS * deviation)
    beyond = (y < low - margin) | (y > high + margin)
    if problem.outliers is not None:  # which do not count
        beyond &= ~problem.outliers
    return float(beyond.double().mean())


def fit_device(settings: Settings, image: Any) -> torch.device:
    """Return the device that an image is restored on.

    Parameters
    ----------
    settings
        The settings, as they were given or decided.
    image
        The measurement, an array or a tensor.

    Returns
    -------
    torch.device
        The CPU for methods that fit no network; else that of :func:`find_device`.

    Raises
    ------
    InputError
        If the device is unknown, or cannot be used.
    """
    device = find_device(settings.device, image)
    return _CPU if decide_method(settings) in DIRECT_METHODS else device


def find_device(device: str | torch.device, image: Any = None) -> torch.device:
    """Return the device of a name.

    Parameters
    ----------
    device
        A name such as ``"cpu"`` or ``"cuda:0"``, or a device.  ``"auto"`` is the GPU that a CUDA
        tensor is on, for other images the current GPU of CUDA if there is one, else the CPU.  It is
        never MPS, where fits have not been compared with those on the CPU; ``"mps"`` names it.
    image
        The image that is restored, of which only the device of a tensor matters; None for none.

    Returns
    -------
    torch.device
        A device that tensors can be made on.

    Raises
    ------
    InputError
        If the device is unknown, or cannot be used.
    """
    if device == "auto":
        if isinstance(image, Tensor) and image.device.type == "cuda":
            return image.device
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    # An unknown or missing device is a RuntimeError, CUDA in a torch built without it an
    # AssertionError, and a device without memory of its own a NotImplementedError.
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        # That of a back end that this torch was built without is a page about its insides.
        missing = isinstance(error, NotImplementedError)
        reason = "torch has none here" if missing else str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"device={str(device)!r} cannot be used: {reason}; device='cpu' always can"
        ) from error
    return found
