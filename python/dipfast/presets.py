"""Settings under a name: how much work to put into an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from dipfast.networks import HourglassConfig

__all__ = ["PRESETS", "Preset", "Quality"]

Quality: TypeAlias = Literal["fast", "balanced", "best"]


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
    """

    iterations: int
    input_noise: tuple[float, float]
    network: HourglassConfig
    learning_rate: float = 0.01
    average_decay: float = 0.99


# Narrow where the image is large: an iteration costs a small part of the original's, which
# has 128 channels at every scale (benches/step.py).
_NARROW = (16, 32, 64, 128, 128)


def _network(skip: int) -> HourglassConfig:
    return HourglassConfig(down=_NARROW, up=_NARROW, skip=(skip,) * 5)


# The original keeps the input noise at 1/30 and has skips of 4 channels.  Less noise and wider
# skips let details through sooner, and the image's noise as well: right for a short fit.
PRESETS: dict[Quality, Preset] = {
    # So short a fit is still rising at its end, and a long average would lag behind.
    "fast": Preset(500, (1 / 30, 1 / 200), _network(skip=16), average_decay=0.95),
    "balanced": Preset(800, (1 / 30, 1 / 200), _network(skip=16)),
    "best": Preset(2000, (1 / 30, 1 / 100), _network(skip=4)),
}
