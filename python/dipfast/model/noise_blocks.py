"""Hold the blocks of a picture that its noise is told from: their brightness and their details."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from dipfast.ops.noise_level import deviation

__all__ = [
    "EIGHT_BIT_LEVEL",
    "MOST_FLAT",
    "Blocks",
    "Floats",
    "fine_level",
    "flat_share",
    "joined",
]

Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
# For each channel the means and the diagonal wavelet coefficients of its blocks.
Blocks: TypeAlias = "list[tuple[Floats, Floats]]"

# One level of eight bits.
EIGHT_BIT_LEVEL = 1 / 255
# Noise leaves few blocks flat.  If more than this share of the blocks are exactly flat, as in pages
# of text and drawings, the details of the others are edges and not noise.
MOST_FLAT = 0.1


def joined(channels: Blocks) -> tuple[Floats, Floats]:
    """Return means and details of the blocks of all channels in two arrays."""
    means, details = zip(*channels)
    return np.concatenate(means), np.concatenate(details)


def flat_share(channels: Blocks) -> float:
    """Return the share of blocks that are exactly flat."""
    details = joined(channels)[1]
    return float(np.mean(details == 0)) if details.size else 0.0


def fine_level(channels: Blocks) -> float:
    """Return the standard deviation of white noise by the finest wavelet coefficients.

    It is the root mean square over the channels, without those that have no block, which tell
    nothing.
    """
    levels = [deviation(details) for _, details in channels if len(details)]
    return math.sqrt(float(np.mean(np.square(levels)))) if levels else 0.0
