"""Settings under a name: how much work to put into an image, and what the originals did."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from dipfast.checks import check_choice, shown
from dipfast.errors import InputError, InputTypeError
from dipfast.settings.names import QUALITIES, Quality
from dipfast.settings.network import MOST_CHANNELS, HourglassConfig

__all__ = ["PRESETS", "Preset", "get_preset"]


Input: TypeAlias = Literal["noise", "meshgrid", "given"]
_MOST_ITERATIONS = 10**9


@dataclass(frozen=True)
class Preset:
    """What a fit is made of, apart from the image.

    Parameters
    ----------
    iterations
        Of all stages together.
    input_noise
        Standard deviation of the noise on the network's input, first and last.
    network
        Widths of the hourglass.
    learning_rate
        Of Adam.
    average_decay
        Of the running average that is returned; 0.99 as in the original.
    input
        What the network is given: ``"noise"``, ``"meshgrid"``, or ``"given"``, a picture
        that comes with the task (``network_input``).
    input_channels
        Of a noise input.
    tv_weight
        The least that ``tv_weight="auto"`` is.
    """

    iterations: int
    input_noise: tuple[float, float]
    network: HourglassConfig
    learning_rate: float = 0.01
    average_decay: float = 0.99
    input: Input = "noise"
    input_channels: int = 32
    tv_weight: float = 0.0

    def __post_init__(self) -> None:
        checks = {
            "iterations": (1 <= self.iterations <= _MOST_ITERATIONS, "from 1 to 10**9"),
            "input_noise": (min(self.input_noise) >= 0, "two numbers from 0 up"),
            "learning_rate": (0 < self.learning_rate < math.inf, "a positive number"),
            "average_decay": (0 <= self.average_decay < 1, "from 0 to below 1"),
            "input_channels": (1 <= self.input_channels <= MOST_CHANNELS, "from 1 to 4096"),
            "tv_weight": (0 <= self.tv_weight < math.inf, "a number from 0 up"),
        }
        for name, (fits, expected) in checks.items():
            if not fits:
                raise InputError(
                    f"{name} of a preset must be {expected}, got {shown(getattr(self, name))}"
                )
        check_choice("input of a preset", self.input, get_args(Input))


# Narrow where the image is large: an iteration costs a small part of the original's, which
# has 128 channels at every scale (benches/loop/step.py).
_NARROW = (16, 32, 64, 128, 128)


def _constant(noise: float) -> tuple[float, float]:
    return noise, noise


def _network(skip: int) -> HourglassConfig:
    return HourglassConfig(down=_NARROW, up=_NARROW, skip=(skip,) * 5, upsampling="nearest")


# Upsampling by nearest neighbours: with this narrow network it is as good as bilinear for
# enlarging, a little better for denoising, and far better for inpainting (benches/quality/paper,
# tables "settings-...").
#
# Input noise that falls lets details through sooner, in a short fit of noisy pictures.  Where
# most of the image was not measured, noise that stays keeps the network from making it up.
_DENOISE = {
    # So short a fit is still rising at its end, and a long average would lag behind.
    "fast": Preset(500, (1 / 30, 1 / 200), _network(skip=16), average_decay=0.95),
    "balanced": Preset(800, (1 / 30, 1 / 200), _network(skip=16)),
    "best": Preset(2000, (1 / 30, 1 / 100), _network(skip=4)),
}
_FILL = {
    "fast": Preset(500, _constant(1 / 30), _network(skip=16), average_decay=0.95),
    "balanced": Preset(800, _constant(1 / 30), _network(skip=16)),
    "best": Preset(2000, _constant(1 / 30), _network(skip=16)),
}
# What was blurred comes back slowly.
_RESTORE = {
    "fast": Preset(800, (1 / 30, 1 / 200), _network(skip=16)),
    "balanced": Preset(2000, (1 / 30, 1 / 200), _network(skip=16)),
    "best": Preset(4000, (1 / 30, 1 / 200), _network(skip=16)),
}
# A little total variation to begin with: for enlarging it is right without noise too (table "sr4").
_ENLARGE = {quality: replace(preset, tv_weight=0.01) for quality, preset in _FILL.items()}


# The original's denoising network, which most of its examples share.
_FULL = HourglassConfig()
_HOLE = HourglassConfig(
    down=(16, 32, 64, 128, 128, 128),
    up=(16, 32, 64, 128, 128, 128),
    skip=(0,) * 6,
    upsampling="nearest",
    down_kernel=5,
    pointwise=False,
)
_JPEG = (8, 16, 32, 64, 128)

# Settings of the notebooks of Ulyanov et al., one for each of their examples.  All of them are
# plain DIP (method="dip", stop="none").
_ORIGINALS = {
    "original-denoising": Preset(3000, _constant(1 / 30), _FULL),
    "original-jpeg": Preset(
        2400,
        _constant(1 / 30),
        HourglassConfig(down=_JPEG, up=_JPEG, skip=(0, 0, 0, 4, 4)),
        input_channels=3,
    ),
    "original-sr-x4": Preset(2000, _constant(0.03), _FULL),
    "original-sr-x8": Preset(4000, _constant(0.05), _FULL),
    "original-sr-prior-effect": Preset(2000, _constant(1 / 30), _FULL),
    "original-inpainting-text": Preset(
        6001, _constant(0.03), replace(_FULL, skip=(128,) * 5, upsampling="nearest")
    ),
    "original-inpainting-object": Preset(
        5001,
        _constant(0.03),
        replace(_FULL, skip=(0,) * 5, upsampling="nearest"),
        input="meshgrid",
    ),
    "original-inpainting-hole": Preset(3001, _constant(0.0), _HOLE, input_channels=1),
    "original-restoration": Preset(11000, _constant(0.03), _FULL, learning_rate=0.001),
    "original-restoration-sparse": Preset(
        1000,
        _constant(0.0),
        HourglassConfig(down=_NARROW, up=_NARROW, skip=(0,) * 5, downsampling="average"),
    ),
    "original-flash": Preset(
        601,
        _constant(0.0),
        replace(_FULL, upsampling=("nearest",) * 2 + ("bilinear",) * 3),
        learning_rate=0.1,
        input="given",
    ),
}

PRESETS: dict[str, Preset] = {
    **{f"denoise-{quality}": preset for quality, preset in _DENOISE.items()},
    **{f"inpaint-{quality}": preset for quality, preset in _FILL.items()},
    **{f"super_resolve-{quality}": preset for quality, preset in _ENLARGE.items()},
    **{f"restore-{quality}": preset for quality, preset in _RESTORE.items()},
    **_ORIGINALS,
}
"""All presets by name: those of each task and quality, ``"TASK-QUALITY"``, and those of the
original's examples, ``"original-..."``."""


def get_preset(task: str, quality: Quality, preset: str | Preset | None) -> tuple[str, Preset]:
    """Name and settings of a task's preset, or of one that was asked for.

    Raises
    ------
    TypeError, ValueError
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
        preset = f"{task}-{quality}"
    elif not isinstance(preset, str):
        raise InputTypeError(f"preset must be a name or a Preset, got {type(preset).__name__}")
    check_choice("preset", preset, PRESETS)
    return preset, PRESETS[preset]
