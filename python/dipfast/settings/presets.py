"""Name the settings of a fit: by task and quality, and those of the original's examples."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, replace
from typing import Any, get_args

from dipfast.checks import as_number, check_choice, shown
from dipfast.errors import InputError, InputTypeError
from dipfast.settings.names import QUALITIES, InputKind, OptimizerName, Quality
from dipfast.settings.network import MOST_CHANNELS, HourglassConfig

__all__ = ["PRESETS", "Preset", "fits_are_guided", "get_preset"]

# No fit reaches so many iterations; a larger number is a mistake.
_MOST_ITERATIONS = 10**9


def _whole(name: str, value: Any) -> int:
    """Return a whole number, of whatever library, as an int."""
    try:
        return operator.index(value)
    except TypeError:
        raise InputTypeError(f"{name} of a preset must be an integer, got {shown(value)}") from None


@dataclass(frozen=True)
class Preset:
    """Hold the settings of a fit that do not depend on the image.

    Parameters
    ----------
    iterations
        Number of iterations of all stages together, from 1 to 10**9.
    input_noise
        Standard deviation of the noise that is added to the network's input, at the first and at
        the last iteration, from 0 up.
    network
        Configuration of the network.
    optimizer
        What updates the weights: ``"adam"``, the default, as in the original, or ``"muon"``
        (:class:`~dipfast.prior.optimizers.Muon`).
    learning_rate
        Learning rate of the optimiser, positive; 0.01 as in the original.
    final_learning_rate
        Share of the learning rate at the last iteration, to which it falls linearly, from 0 to 1;
        1, the default, keeps it as it is.
    average_decay
        Weight that the running average keeps at each iteration, in [0, 1); 0.99 as in the
        original.
    input
        The network's input: ``"noise"``, uniform random numbers; ``"meshgrid"``, the coordinates
        of the pixels; or ``"given"``, a picture that is an argument of the task
        (``network_input``).
    input_channels
        Number of channels of an input of noise, from 1 to 4096; 32 as in the original.
    tv_weight
        Lower bound of the weight of total variation for ``tv_weight="auto"``, from 0 up, in units
        of a picture in [0, 1].

    Raises
    ------
    ValueError
        If a setting is out of its range.
    """

    iterations: int
    input_noise: tuple[float, float]
    network: HourglassConfig
    optimizer: OptimizerName = "adam"
    learning_rate: float = 0.01
    final_learning_rate: float = 1.0
    average_decay: float = 0.99
    input: InputKind = "noise"
    input_channels: int = 32
    tv_weight: float = 0.0

    def __post_init__(self) -> None:
        for name in ("learning_rate", "final_learning_rate", "average_decay", "tv_weight"):
            object.__setattr__(self, name, as_number(f"{name} of a preset", getattr(self, name)))
        for name in ("iterations", "input_channels"):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        noise = tuple(as_number("input_noise of a preset", value) for value in self.input_noise)
        object.__setattr__(self, "input_noise", noise)
        checks = {
            "iterations": (1 <= self.iterations <= _MOST_ITERATIONS, "from 1 to 10**9"),
            "input_noise": (
                len(noise) == 2 and (min(noise) > 0 or noise == (0, 0)),
                "two positive numbers, or 0 for both",
            ),
            "learning_rate": (0 < self.learning_rate < math.inf, "a positive number"),
            "final_learning_rate": (0 <= self.final_learning_rate <= 1, "from 0 to 1"),
            "average_decay": (0 <= self.average_decay < 1, "from 0 to below 1"),
            "input_channels": (1 <= self.input_channels <= MOST_CHANNELS, "from 1 to 4096"),
            "tv_weight": (0 <= self.tv_weight < math.inf, "a number from 0 up"),
        }
        for name, (fits, expected) in checks.items():
            if not fits:
                raise InputError(
                    f"{name} of a preset must be {expected}, got {shown(getattr(self, name))}"
                )
        check_choice("optimizer of a preset", self.optimizer, get_args(OptimizerName))
        check_choice("input of a preset", self.input, get_args(InputKind))


# Widths of the encoder and the decoder.  With few channels at the fine scales an iteration costs a
# small part of the original's, which has 128 channels at every scale (benches/loop/step.py).
_NARROW_WIDTHS = (16, 32, 64, 128, 128)


def _constant(noise: float) -> tuple[float, float]:
    return noise, noise


def _network(skip: int) -> HourglassConfig:
    return HourglassConfig(
        down=_NARROW_WIDTHS, up=_NARROW_WIDTHS, skip=(skip,) * 5, upsampling="nearest"
    )


# Upsampling is by nearest neighbours: with this narrow network it is as good as bilinear for
# super-resolution, a little better for denoising, and far better for inpainting
# (benches/quality/paper, tables "settings-...").
#
# For denoising the input noise falls, so that a short fit reaches fine detail sooner.  For
# inpainting and super-resolution it is constant, because it keeps the network from inventing detail
# where most of the image was not measured.
_DENOISE = {
    # The quality of so short a fit still rises at its end, where a longer average would lag behind.
    "fast": Preset(500, (1 / 30, 1 / 200), _network(skip=16), average_decay=0.95),
    "balanced": Preset(800, (1 / 30, 1 / 200), _network(skip=16)),
    "best": Preset(2000, (1 / 30, 1 / 100), _network(skip=4)),
}
_INPAINT = {
    "fast": Preset(500, _constant(1 / 30), _network(skip=16), average_decay=0.95),
    "balanced": Preset(800, _constant(1 / 30), _network(skip=16)),
    "best": Preset(2000, _constant(1 / 30), _network(skip=16)),
}
# More iterations than for denoising, because blurred detail is recovered slowly.
_RESTORE = {
    "fast": Preset(800, (1 / 30, 1 / 200), _network(skip=16)),
    "balanced": Preset(2000, (1 / 30, 1 / 200), _network(skip=16)),
    "best": Preset(4000, (1 / 30, 1 / 200), _network(skip=16)),
}
# In its first stage super-resolution has a little total variation even without noise, because it
# improves the result (benches/quality/paper, table "sr4").
_SUPER_RESOLVE = {quality: replace(preset, tv_weight=0.01) for quality, preset in _INPAINT.items()}


# With much input noise, which falls by half, the network does not return its guide.  Orthogonalised
# updates need a third of the iterations of Adam, and the average a third of its length.
_GUIDED = {
    quality: Preset(
        iterations,
        (0.1, 0.05),
        _network(skip=16),
        optimizer="muon",
        learning_rate=0.2,
        final_learning_rate=0.1,
        average_decay=0.97,
    )
    for quality, iterations in {"fast": 120, "balanced": 135, "best": 320}.items()
}


# The original's denoising network, which most of its examples share.
_ORIGINAL_NETWORK = HourglassConfig()
_HOLE_NETWORK = HourglassConfig(
    down=(16, 32, 64, 128, 128, 128),
    up=(16, 32, 64, 128, 128, 128),
    skip=(0,) * 6,
    upsampling="nearest",
    down_kernel=5,
    pointwise=False,
)
_JPEG_WIDTHS = (8, 16, 32, 64, 128)

# Settings of the notebooks of Ulyanov et al., one for each of their examples.  The notebooks are
# plain DIP: method="dip" and stop="none" besides these settings.
_ORIGINALS = {
    "original-denoising": Preset(3000, _constant(1 / 30), _ORIGINAL_NETWORK),
    "original-jpeg": Preset(
        2400,
        _constant(1 / 30),
        HourglassConfig(down=_JPEG_WIDTHS, up=_JPEG_WIDTHS, skip=(0, 0, 0, 4, 4)),
        input_channels=3,
    ),
    "original-sr-x4": Preset(2000, _constant(0.03), _ORIGINAL_NETWORK),
    "original-sr-x8": Preset(4000, _constant(0.05), _ORIGINAL_NETWORK),
    "original-sr-prior-effect": Preset(2000, _constant(1 / 30), _ORIGINAL_NETWORK),
    "original-inpainting-text": Preset(
        6001, _constant(0.03), replace(_ORIGINAL_NETWORK, skip=(128,) * 5, upsampling="nearest")
    ),
    "original-inpainting-object": Preset(
        5001,
        _constant(0.03),
        replace(_ORIGINAL_NETWORK, skip=(0,) * 5, upsampling="nearest"),
        input="meshgrid",
    ),
    "original-inpainting-hole": Preset(3001, _constant(0.0), _HOLE_NETWORK, input_channels=1),
    "original-restoration": Preset(11000, _constant(0.03), _ORIGINAL_NETWORK, learning_rate=0.001),
    "original-restoration-sparse": Preset(
        1000,
        _constant(0.0),
        HourglassConfig(
            down=_NARROW_WIDTHS, up=_NARROW_WIDTHS, skip=(0,) * 5, downsampling="average"
        ),
    ),
    "original-flash": Preset(
        601,
        _constant(0.0),
        replace(_ORIGINAL_NETWORK, upsampling=("nearest",) * 2 + ("bilinear",) * 3),
        learning_rate=0.1,
        input="given",
    ),
}

PRESETS: dict[str, Preset] = {
    **{f"denoise-{quality}": preset for quality, preset in _DENOISE.items()},
    **{f"inpaint-{quality}": preset for quality, preset in _INPAINT.items()},
    **{f"super_resolve-{quality}": preset for quality, preset in _SUPER_RESOLVE.items()},
    **{f"restore-{quality}": preset for quality, preset in _RESTORE.items()},
    **{f"guided-{quality}": preset for quality, preset in _GUIDED.items()},
    **_ORIGINALS,
}
"""Presets by name: ``"TASK-QUALITY"`` for each task and quality, ``"guided-QUALITY"`` for the
method "guided" of all tasks and "joined" to denoise, and ``"original-..."`` for the examples of the
Deep Image Prior paper."""


def fits_are_guided(method: object, task: str) -> bool:
    """Return whether what a method fits are guided fits: by its name, or as those of a join.

    Parameters
    ----------
    method
        The method that was decided on.
    task
        Name of the task; only to denoise guided fits are joined.

    Returns
    -------
    bool
        Whether they are.

    Examples
    --------
    >>> fits_are_guided("joined", "denoise"), fits_are_guided("joined", "inpaint")
    (True, False)
    """
    return method == "guided" or (method == "joined" and task == "denoise")


def get_preset(
    task: str, quality: Quality, preset: str | Preset | None, method: object = None
) -> tuple[str, Preset]:
    """Return name and settings of the preset of a task, or of one that is asked for.

    Parameters
    ----------
    task
        Name of the task, such as ``"denoise"``.
    quality
        ``"fast"``, ``"balanced"`` or ``"best"``.
    preset
        A name of :data:`PRESETS`, or settings of your own; None takes the preset of task and
        quality.
    method
        The method that was decided on, of which ``"guided"``, and ``"joined"`` to denoise, have
        presets of their own.

    Returns
    -------
    name : str
        Name of the preset, ``"your own"`` for settings of your own.
    preset : Preset
        Its settings.

    Raises
    ------
    TypeError
        If the preset is neither a name nor a :class:`Preset`.
    ValueError
        If there is no such quality or preset.

    Examples
    --------
    >>> get_preset("denoise", "balanced", None)[1].iterations
    800
    >>> get_preset("inpaint", "balanced", "original-inpainting-object")[1].input
    'meshgrid'
    """
    check_choice("quality", quality, QUALITIES)
    if isinstance(preset, Preset):
        return "your own", preset
    if preset is None:
        preset = f"{'guided' if fits_are_guided(method, task) else task}-{quality}"
    elif not isinstance(preset, str):
        raise InputTypeError(f"preset must be a name or a Preset, got {type(preset).__name__}")
    check_choice("preset", preset, PRESETS)
    return preset, PRESETS[preset]
