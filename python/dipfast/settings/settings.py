"""Every option of every task, written once.

Signatures, the command line with its help, the record beside a result, the identity of a checkpoint
and the table in the documents are derived from these classes.  A test holds the types that
:mod:`dipfast.settings.types` gives to static checkers equal to them.
"""

from __future__ import annotations

import operator
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from dipfast.checks import check_choice, check_data_range, did_you_mean, shown
from dipfast.errors import InputError, InputTypeError
from dipfast.settings.jpeg import POOR_JPEG, JpegCoding
from dipfast.settings.names import (
    DIRECT_METHOD_OF,
    DIRECT_METHODS,
    FACTORS,
    FAST_WITHOUT_NETWORK,
    JOINED_BY_DEFAULT,
    METHOD_NAMES,
    METHODS,
    NOISE_KINDS,
    RULE_NAMES,
    DownsampleKernel,
    Factor,
    Marks,
    NoiseKind,
    PrecisionName,
    Quality,
    TaskName,
)
from dipfast.settings.noise import NoiseParameters
from dipfast.settings.option import option, options_of
from dipfast.settings.presets import PRESETS, Preset, fits_are_guided, get_preset

__all__ = [
    "OF_FITS",
    "POOR_JPEG",
    "SETTINGS",
    "DenoiseSettings",
    "InpaintSettings",
    "RestoreSettings",
    "Settings",
    "SuperResolveSettings",
    "decide_method",
    "make_settings",
    "takes_artefacts_out",
]

_Settings = TypeVar("_Settings", bound="Settings")


def _method(value: Any) -> Any:
    if isinstance(value, str):
        check_choice("method", value, METHOD_NAMES)
        return value
    if not isinstance(value, tuple | list) or not value:
        raise InputTypeError(f"method must be a name or a sequence of stages, got {shown(value)}")
    return tuple(value)


def _stop(value: Any) -> Any:
    if isinstance(value, str):
        check_choice("stop", value, RULE_NAMES)
    return value


def _preset(value: Any) -> Any:
    if isinstance(value, str):
        check_choice("preset", value, PRESETS)
    elif not isinstance(value, Preset):
        raise InputTypeError(f"preset must be a name or a Preset, got {type(value).__name__}")
    return value


def _range(value: Any) -> Any:
    return check_data_range(value)


def _axes(value: Any) -> Any:
    if isinstance(value, list):  # of a record
        value = tuple(value)
    axes = value if isinstance(value, tuple) else (value,)
    if not axes or any(isinstance(axis, bool) or not isinstance(axis, int) for axis in axes):
        raise InputTypeError(
            f"stack_axis must be an integer or a tuple of integers, got {shown(value)}"
        )
    return value


def _shape(value: Any) -> Any:
    try:
        shape = tuple(map(operator.index, value))
    except TypeError:
        shape = ()
    if not (2 <= len(shape) <= 3 and min(shape) > 0):
        raise InputError(
            "image_shape must be (H, W) or (channels, H, W), positive, got " + shown(value)
        )
    return shape


def _file_name(value: Any) -> Any:
    path = Path(os.fspath(value)) if isinstance(value, str | os.PathLike) else None
    if path is None or not path.name or "\0" in str(path):
        raise InputError(f"checkpoint must be a file name, got {shown(value)}")
    return path


def _tile(value: Any) -> Any:
    if isinstance(value, int) and 0 < value < _SMALLEST_TILE:
        raise InputError(f"tile must be 'auto', 0 or an integer from 64 up, got {value}")
    return value


def _factor(value: Any) -> Any:
    check_choice("factor", value, FACTORS)
    return value


def _callable(value: Any) -> Any:
    if not callable(value):
        raise InputTypeError(f"callback must be callable, got {type(value).__name__}")
    return value


_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=1, le=10**9)]
_SMALLEST_TILE = 64
_Side = Annotated[int, Field(ge=0, le=10**6)]
_AUTO_OR_NUMBER = "'auto' or a number from 0 up"


class Settings(BaseModel):
    """Hold what every task may be told; frozen, and checked when it is made."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", arbitrary_types_allowed=True, defer_build=True
    )

    task: ClassVar[TaskName]

    sigma: _NotNegative | Literal["auto"] = option(
        "auto",
        "Standard deviation of the noise; 'auto' estimates it.",
        expected=_AUTO_OR_NUMBER,
        unit="of the image",
    )
    noise: NoiseKind | NoiseParameters = option(
        "auto",
        "Kind of noise: gaussian; clipped, cut off at the ends of the range, as in every 8-bit "
        "picture; poisson_gaussian, whose variance grows with the signal, as in microscopes, "
        "telescopes and raw files; correlated, coarse, as demosaicking, JPEG and resampling leave "
        "it; or auto, what the picture looks like. The network is fitted so that what is expected "
        "of the clean picture meets the image.",
        in_python="A dipfast.NoiseModel says more.",
        choices=NOISE_KINDS,
        type="auto, gaussian, clipped, poisson_gaussian, correlated, or a NoiseModel",
    )
    tv_weight: _NotNegative | Literal["auto"] = option(
        "auto",
        "Weight of total variation, for an image in [0, 1]; larger is smoother. 'auto' is twice "
        "sigma in the same unit, or what the preset says at least.",
        expected=_AUTO_OR_NUMBER,
    )
    method: Annotated[Any, AfterValidator(_method)] = option(
        "auto",
        "two_stage, dip or dip_tv: total variation in the first third, never, or always; or a "
        f"variant: {', '.join(METHODS[3:])}. Or without a network, in seconds: nl_ridge to "
        "denoise; pnp for everything else, with linear operators. joined is nl_ridge and some "
        "guided fits, or pnp and a fit in two stages, which are weighted by what they are expected "
        "to err. 'auto', unless something is said of a fit (tv_weight, stop, preset, "
        "max_iterations, learning_rate, network_input), is nl_ridge or pnp to denoise, inpaint and "
        "enlarge with quality fast, and joined with more; else, and where an operator is not "
        "linear, two_stage.",
        in_python="Also a sequence of stages of your own, with all their iterations.",
        choices=METHOD_NAMES,
        type="the name of a method, or a sequence of dipfast.Stage",
    )
    stop: Annotated[Any, AfterValidator(_stop)] = option(
        "auto",
        "When to end, and which iteration is the best: auto, the rule that measured best; none, "
        f"which runs all iterations; or {', '.join(RULE_NAMES[2:])}.",
        in_python="Also a rule of your own.",
        choices=RULE_NAMES,
        type="the name of a rule, or a dipfast.stopping.StopRule",
    )
    time_limit: _Positive | None = option(
        None,
        "End after so many seconds in any case, with the best so far; without it there is no "
        "limit. Without a checkpoint some iterations are timed first, and no more are planned than "
        "there is time for. pnp has an image after each of its steps; nl_ridge has nothing before "
        "its end: then the result is the image.",
        expected="a positive number",
        role="record",
        unit="seconds",
    )
    quality: Quality = option(
        "balanced",
        "How much work: to denoise, balanced is nl_ridge joined with two guided fits of 135 "
        "iterations, and best with four of 320; for everything else pnp of 48 or 96 steps joined "
        "with a single fit. That has 500, 800 or 2000 iterations with fast, balanced or best, to "
        "undo a blur 800, 2000 or 4000. To denoise, fast is nl_ridge, and to inpaint and enlarge "
        "24 steps of pnp, unless method or something else says that a network is to be fitted.",
        role="record",  # what it means is in the preset that is decided on
    )
    preset: Annotated[Any, AfterValidator(_preset)] | None = option(
        None,
        "Instead of the quality: the name of a preset. Those that begin with original are the "
        "settings of the original's examples.",
        in_python="Also a Preset of your own.",
        choices=tuple(PRESETS),
        type="the name of a preset, or a dipfast.Preset",
    )
    max_iterations: _Count | None = option(
        None,
        "Iterations of all stages together, instead of the number that goes with the quality. The "
        "fall of the input noise is spread over them, so that 100 iterations are not the first 100 "
        "of 200.",
        expected="a positive integer",
        type="positive int",
    )
    learning_rate: _Positive | None = option(
        None,
        "Learning rate of the optimiser, instead of that of the preset.",
        expected="a positive number",
        role="record",  # it becomes a part of the preset that is decided on
    )
    network_input: Any = option(
        None,
        "A picture of the same scene and size that the network is given instead of noise (flash "
        "and no flash); preset original-flash needs one. For a batch or stack it is one for all, "
        "or one for each in the form of the result.",
        role="image",
        expected="an image of the size of the result",
    )
    device: Any = option(
        "auto",
        "cpu, cuda, cuda:1, ...; auto is the GPU that a CUDA tensor is on, else the GPU (CUDA) "
        "where there is one, else the CPU; never MPS. nl_ridge and pnp are always on the CPU.",
        role="local",
        expected="the name of a device",
        type="the name of a device, or a torch.device",
    )
    precision: PrecisionName = option(
        "auto",
        "What the layers of the network are computed in: float32, or bfloat16, which some "
        "processors are several times faster with; weights, averages and everything else are "
        "float32 in any case. 'auto' is bfloat16 on a CPU that is faster with it, by a short "
        "timing that is remembered, else float32. A checkpoint goes on in its own precision: name "
        "it where another machine goes on.",
    )
    tile: Annotated[_Side | Literal["auto"], AfterValidator(_tile)] = option(
        "auto",
        "Rows and columns of tiles, in pixels of the image, from 64 up, that are fitted one after "
        "the other and blended; 0 never cuts the image. 'auto' cuts it where the fit of the whole "
        "would take more memory than there is. A method without a network needs no tiles, and "
        "refuses a number.",
        expected="'auto', 0 or an integer from 64 up",
        type="auto, 0, or an int from 64 up",
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = option(
        0,
        "The same seed gives the same bits on the CPU of the same machine with the same number of "
        "threads.",
        expected="an integer from 0 to 2**63 - 1",
        type="int from 0 to 2**63 - 1",
    )
    channel_axis: int | None = option(
        None,
        "The axis of the channels; None recognises up to four channels at the end or in front of "
        "the pixels, and any number in front of the pixels of a tensor.",
        role="record",
        expected="an integer",
        type="int",
    )
    stack_axis: Annotated[Any, AfterValidator(_axes)] | None = option(
        None,
        "The axis of a stack, such as depth or time, or a tuple of several: its images are "
        "restored one after the other. Value range and noise are found once for all of them; an "
        "image whose noise is clearly another one has its own. None is a single image, or the "
        "batch of a tensor (N, C, H, W), whose images have each a noise of their own.",
        role="record",
        expected="an integer or a tuple of integers",
        type="int, or a tuple of int",
    )
    data_range: Annotated[Any, AfterValidator(_range)] | None = option(
        None,
        "R for values from 0 to R, or the pair DARKEST, BRIGHTEST. Without it, 0 to 255 for 8 bits "
        "and for anything else from the least to the largest value, so that the unit of an image "
        "does not matter.",
        expected="a positive number or a pair (darkest, brightest)",
        unit="of the image",
    )
    reference: Any = option(
        None,
        "The clean image, if there is one: adds PSNR to history and metrics. It is never used to "
        "decide anything. The peak of PSNR is the width of the range if that is given or that of 8 "
        "bits; else 65535 for a reference of 16 bits with values over 16383, 1 for one in [0, 1] "
        "that fills half of it, and otherwise the width of the reference.",
        role="image",
        expected="an image of the form of the result",
    )
    callback: Annotated[Any, AfterValidator(_callable)] | None = option(
        None,
        "Called with each dipfast.prior.loop.State; it may raise StopIteration to end the fit. "
        "What it returns is ignored. Images of a state are in [0, 1], and stretched where the fit "
        "is. What has no iterations, nl_ridge, pnp and the beginning of joined, sends a "
        "dipfast.run.observers.Progress a few times a second; joined also with the picture that "
        "there is so far. Of a stack one comes before each plane, and says which it is; of a "
        "picture that is cut, one says how many tiles there are.",
        role="observer",
        expected="callable",
    )
    interrupt: Any = option(
        None,
        "A dipfast.Interrupt, whose stop(), called in another thread, ends the fit.",
        role="observer",
        expected="an Interrupt",
    )
    executor: Any = option(
        None,
        "A concurrent.futures.Executor, or what has its submit, such as that of a client of Dask: "
        "the images of a batch or stack are restored there, several at once. Its processes have "
        "their own number of threads. Ctrl-C raises KeyboardInterrupt then.",
        role="observer",
        expected="an Executor",
    )
    snapshots: _Positive | None = option(
        None,
        "Keep images of the running average at some iterations, in so much memory, which all "
        "images of a batch or stack share.",
        role="local",
        expected="a positive number",
        unit="megabytes",
    )
    checkpoint: Annotated[str | Path, BeforeValidator(_file_name)] | None = option(
        None,
        "Keep the state of the fit in this file, so that nothing is lost when the program is "
        "killed. It stays when the fit is over.",
        role="local",
        expected="a file name",
    )
    checkpoint_every: _Count = option(
        100,
        "Iterations from one writing of the checkpoint to the next.",
        role="local",
        expected="a positive integer",
        type="positive int",
    )
    resume: bool = option(
        False,
        "Go on from the checkpoint, if there is one, to the same bits as without the interruption "
        "(on the CPU of the same machine with the same number of threads). It must be that of the "
        "same image, options and versions.",
        role="local",
    )

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, values: Any) -> Any:
        """Make plain numbers of those of NumPy and torch."""
        if not isinstance(values, dict):
            return values
        return {k: v.item() if getattr(v, "ndim", None) == 0 else v for k, v in values.items()}

    @model_validator(mode="before")
    @classmethod
    def _model_has_sigma(cls, options: Any) -> Any:
        """Let a noise model stand for sigma where sigma is left out."""
        of_model = isinstance(options, dict) and isinstance(options.get("noise"), NoiseParameters)
        return {"sigma": "auto", **options} if of_model else options

    @model_validator(mode="after")
    def _together(self) -> Settings:
        """Refuse options that make others meaningless."""
        named = isinstance(self.method, str)
        self._check_direct()
        self._check_guided()
        if not named and self.max_iterations is not None:
            raise InputError("max_iterations has no meaning where method is a sequence of stages")
        without_tv = not named or self.method in _WITHOUT_TV
        if without_tv and self.tv_weight not in ("auto", 0):
            raise InputError(
                f"tv_weight={self.tv_weight:g} has no meaning for "
                + (f"method={self.method!r}" if named else "stages of your own")
            )
        if isinstance(self.noise, NoiseParameters) and self.sigma != "auto":
            raise InputError(f"sigma={self.sigma:g} has no meaning where noise is a model")
        if self.sigma == 0 and self.noise in ("gaussian", "clipped", "correlated"):
            raise InputError(
                f"noise={self.noise!r} has no meaning for sigma=0, which is no noise; sigma='auto' "
                "estimates it"
            )
        if self.resume and self.checkpoint is None:
            raise InputError("resume=True needs a checkpoint to go on from")
        return self

    def _check_direct(self) -> None:
        """Refuse a method without a network where it cannot be, and what it makes meaningless."""
        method = decide_method(self)
        if not (isinstance(method, str) and method in DIRECT_METHODS):
            return
        own = DIRECT_METHOD_OF[self.task]
        if method != own:
            tasks = [f"dipfast.{task}" for task, name in DIRECT_METHOD_OF.items() if name == method]
            raise InputError(
                f"method={method!r} is for {' or '.join(tasks)}; the method of dipfast.{self.task} "
                f"without a network is method={own!r}"
            )
        said = _said_of_fits(self, (*OF_FITS, *_KEPT_OF_FITS))
        if said:
            cause = f"method={method!r}"
            way_out = ""
            if self.method == "auto":
                cause = f"quality={self.quality!r} of dipfast.{self.task}"
                if isinstance(self, DenoiseSettings) and self.jpeg is not None:
                    cause = "jpeg"
                way_out = "; method='two_stage' does"
            raise InputError(
                f"{said[0]} has no meaning for {cause}, which fits no network{way_out}"
            )

    def _check_guided(self) -> None:
        """Refuse what a fit cannot be told whose network is given a picture, or a join of some."""
        if not (isinstance(self.method, str) and self.method in _REFUSED_WITH_PICTURE):
            return
        said = _said_of_fits(self, _REFUSED_WITH_PICTURE[self.method])
        if said:
            raise InputError(f"{said[0]} has no meaning for method={self.method!r}")
        has_picture = self.method != "joined" or fits_are_guided(self.method, self.task)
        _, preset = get_preset(self.task, self.quality, self.preset, self.method)
        if has_picture and preset.input == "meshgrid":
            raise InputError(
                f"method={self.method!r} puts a picture in the place of a part of the network's "
                "input, and that of preset is the coordinates of the pixels; take another preset"
            )


class DenoiseSettings(Settings):
    """Hold the options of :func:`dipfast.denoise`."""

    task = "denoise"

    refine: bool = option(
        True,
        "Join the image of the network with the image that was given, filtered by Wiener's filter "
        "with the network's image as its pilot: what the network left out and is more than noise "
        "comes back. Otherwise, and with sigma=0, the result is the image of the method alone. "
        "The images of nl_ridge, guided and joined (the default) are joined with it only where "
        "values are stretched, so that every small part keeps its sum.",
    )
    stretch: bool = option(
        True,
        "Work on stretched values where the picture has a high dynamic range, as fields "
        "of stars and gels do, so that dark parts count as much as bright ones; the result is in "
        "the unit of the image again. Otherwise values are never stretched.",
    )
    fill_outliers: bool = option(
        False,
        "Put what the network or nl_ridge makes of them in the place of outliers that stand alone, "
        "such as hot and dead pixels. They are never fitted; otherwise they stay as they are.",
    )
    neighbours: Annotated[int, Field(ge=0, le=64)] | Literal["auto"] = option(
        "auto",
        "How many planes of a stack to either side help, in depth or in time: similar parts are "
        "looked for in them, too. 'auto' is 4 where planes next to each other are so much alike "
        "that they help, which is measured, and 0 otherwise; a number means those of the last "
        "axis of the stack. They end where a scene changes. nl_ridge and guided make use of them, "
        "and joined is nl_ridge alone where they help.",
        expected="'auto' or an integer from 0 to 64",
        type="'auto' or int from 0 to 64",
    )
    jpeg: JpegCoding | None = option(
        None,
        "How the JPEG was coded that the image is from (dipfast.JpegCoding.read): its blocks are "
        "taken out by what the coefficients can have been, and noise as strong as the artefacts is "
        "what fits are told of.",
        role="image",
        expected="a JpegCoding",
        type="a dipfast.JpegCoding",
    )

    @model_validator(mode="after")
    def _jpeg_is_all(self) -> DenoiseSettings:
        """Refuse what a JPEG makes meaningless."""
        if self.jpeg is None:
            return self
        if self.sigma != "auto" or self.noise != "auto":
            name = "sigma" if self.sigma != "auto" else "noise"
            raise InputError(f"{name} has no meaning where jpeg tells what rounding took")
        if self.fill_outliers:
            raise InputError(
                "fill_outliers has no meaning where jpeg is given: outliers are not looked for in "
                "the pixels of a JPEG; without jpeg they are filled"
            )
        if isinstance(self.method, str) and self.method == "joined":
            raise InputError(
                "method='joined' judges by random noise, which the artefacts of a jpeg are not; "
                "method='auto' takes them out"
            )
        return self


_NO_NOISE = (
    "Standard deviation of the noise; the default is none, 'auto' estimates it, and takes fine "
    "texture for noise."
)


class InpaintSettings(Settings):
    """Hold the options of :func:`dipfast.inpaint`."""

    task = "inpaint"

    sigma: _NotNegative | Literal["auto"] = option(
        0.0, _NO_NOISE, expected=_AUTO_OR_NUMBER, unit="of the image"
    )
    mask_marks: Marks = option(
        "missing",
        "What non-zero values of the mask mark: the missing pixels, as in scikit-image and OpenCV, "
        "or the known ones, as in the original.",
    )
    keep_known: bool = option(
        True,
        "Put the known pixels into the result as they are, to the last bit. Otherwise they are "
        "those of the network, or of pnp, as well, which takes noise out of them.",
    )


class SuperResolveSettings(Settings):
    """Hold the options of :func:`dipfast.super_resolve`."""

    task = "super_resolve"

    sigma: _NotNegative | Literal["auto"] = option(
        0.0, _NO_NOISE, expected=_AUTO_OR_NUMBER, unit="of the image"
    )
    factor: Annotated[Factor, BeforeValidator(_factor)] = option(
        ..., "How many times the rows and columns of the image."
    )
    kernel: DownsampleKernel = option(
        "lanczos2",
        "What a small pixel saw of the large ones: lanczos2, as in the original, lanczos3, "
        "bicubic, bilinear, or box, the mean, as the pixels of a sensor do.",
    )


class RestoreSettings(Settings):
    """Hold the options of :func:`dipfast.restore`."""

    task = "restore"

    image_shape: Annotated[Any, AfterValidator(_shape)] | None = option(
        None,
        "(H, W) of the result, or (channels, H, W), where a module or function does not keep the "
        "shape; None takes it from the operator, else from the measurement.",
        expected="(H, W) or (channels, H, W), positive",
        role="record",
    )


SETTINGS: dict[TaskName, type[Settings]] = {
    "denoise": DenoiseSettings,
    "inpaint": InpaintSettings,
    "super_resolve": SuperResolveSettings,
    "restore": RestoreSettings,
}
"""The class of the settings of each task."""


# Their stages have no total variation.
_WITHOUT_TV = ("dip", "tv_target", *(name for name in METHODS if name.startswith("deep_red")))

# By the methods that put a picture into the network's input, or join fits that do.
_REFUSED_WITH_PICTURE = {
    "guided": ("network_input", "tv_weight"),
    "joined": ("network_input", "tv_weight", "stop"),
    "two_stage_input": ("network_input",),
}

OF_FITS = ("tv_weight", "stop", "preset", "max_iterations", "learning_rate", "network_input")
"""Options that say something of a fit, and make one of tasks with ``quality="fast"``."""

# Options that ask for something else than the artefacts of a JPEG.
_NOT_OF_JPEG = (
    *("sigma", "noise", "fill_outliers", "method", "data_range", *OF_FITS),
    *("snapshots", "checkpoint", "resume", "tile"),
)

# What a fit would leave behind: not in a record, and so nothing that may choose the method.
_KEPT_OF_FITS = ("snapshots", "checkpoint", "tile")


def takes_artefacts_out(coding: JpegCoding | None, settings: DenoiseSettings) -> bool:
    """Return whether the artefacts of a file are taken out where nothing is said of them.

    Parameters
    ----------
    coding
        How the file was coded; None for one that is no JPEG.
    settings
        The settings, without ``jpeg``.

    Returns
    -------
    bool
        True for a JPEG of quality 60 and less, where nothing is said of noise, of outliers, of the
        range or of a fit.
    """
    if coding is None or (coding.quality or 100) > POOR_JPEG:
        return False
    # A record has all options, most of them at their defaults.
    known = options_of(type(settings))
    return all(getattr(settings, name) == known[name].default for name in _NOT_OF_JPEG)


def _said_of_fits(settings: Settings, names: tuple[str, ...]) -> list[str]:
    """Return which of some options are not left at their defaults, None or "auto"."""
    values = {name: getattr(settings, name) for name in names}
    return [
        name
        for name, value in values.items()
        if not (value is None or (isinstance(value, str) and value == "auto"))
    ]


def decide_method(settings: Settings) -> Any:
    """Return the method of settings, with "auto" decided.

    Parameters
    ----------
    settings
        The settings as they were given.

    Returns
    -------
    object
        For "auto", where nothing is said of a fit, the method without a network of the tasks that
        have one for ``quality="fast"`` and for a JPEG, and ``"joined"`` with more; else
        ``"two_stage"``; another method as it is.

    Examples
    --------
    >>> decide_method(make_settings(DenoiseSettings, {"quality": "fast"}))
    'nl_ridge'
    >>> decide_method(make_settings(InpaintSettings, {"quality": "fast"}))
    'pnp'
    >>> decide_method(make_settings(DenoiseSettings, {"quality": "fast", "max_iterations": 9}))
    'two_stage'
    """
    if not (isinstance(settings.method, str) and settings.method == "auto"):
        return settings.method
    if _said_of_fits(settings, OF_FITS):
        return "two_stage"
    if isinstance(settings, DenoiseSettings) and settings.jpeg is not None:
        return DIRECT_METHOD_OF[settings.task]
    if settings.quality == "fast":
        fast = settings.task in FAST_WITHOUT_NETWORK
        return DIRECT_METHOD_OF[settings.task] if fast else "two_stage"
    return "joined" if settings.task in JOINED_BY_DEFAULT else "two_stage"


def make_settings(kind: type[_Settings], options: dict[str, Any]) -> _Settings:
    """Return checked settings.

    Parameters
    ----------
    kind
        The class of the settings of a task.
    options
        Options by name.

    Returns
    -------
    Settings
        An instance of that class, frozen.

    Raises
    ------
    InputError, InputTypeError
        If an option does not exist, or has a value that cannot be; the message names it, what came
        and what was expected.

    Examples
    --------
    >>> make_settings(DenoiseSettings, {"seed": 3}).seed
    3
    >>> make_settings(DenoiseSettings, {"seed": -1})
    Traceback (most recent call last):
    dipfast.errors.InputError: seed must be an integer from 0 to 2**63 - 1, got -1
    """
    known = kind.model_fields
    for name in options:
        if name not in known:
            raise InputTypeError(
                f"{kind.task}() got an unexpected keyword argument {name!r}"
                + (did_you_mean(name, known) or f"; expected one of {', '.join(known)}")
            )
    try:
        return kind(**options)
    except ValidationError as error:
        raise _translate(kind, error) from None


def _translate(kind: type[Settings], error: ValidationError) -> Exception:
    """Return the exception that says what is wrong with the first option that is wrong."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError | InputTypeError):
        return cause
    name = str(first["loc"][0])
    value = _value(error, name)
    said = options_of(kind)[name]
    kind_is_wrong = said.is_flag or not isinstance(value, str | int | float)
    wrong = InputTypeError if kind_is_wrong else InputError
    return wrong(f"{name} must be {said.expected}, got {shown(value)}")


def _value(error: ValidationError, name: str) -> Any:
    return next(e["input"] for e in error.errors() if e["loc"][0] == name)
