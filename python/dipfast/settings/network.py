"""Configure the untrained network: the widths of its layers, and the kinds of its blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from dipfast.checks import check_choice
from dipfast.errors import InputError

__all__ = ["MOST_CHANNELS", "Downsampling", "HourglassConfig", "Upsampling"]

MOST_CHANNELS = 4096
"""Channels of a layer at most: more would not fit into the memory of any machine."""

# An image is padded to a multiple of 2**scales, and to half a kernel at the coarsest scale: larger
# values than these would pad any image to millions of pixels.
_MOST_SCALES, _LARGEST_KERNEL = 16, 99

Upsampling: TypeAlias = Literal["bilinear", "nearest"]
Downsampling: TypeAlias = Literal["stride", "average"]


@dataclass(frozen=True)
class HourglassConfig:
    """Describe the layers of an :class:`~dipfast.networks.Hourglass`.

    Widths have one entry for each scale, the finest first.  The defaults are those of the
    denoising network of the Deep Image Prior paper.

    Parameters
    ----------
    down
        Channels of the encoder at each scale, from 1 to 4096.  The number of entries is the
        number of scales, up to 16; each scale halves the image.
    up
        Channels of the decoder at each scale, from 1 to 4096.
    skip
        Channels of the 1x1 skip connection at each scale, from 0 to 4096; 0 leaves it out.  With
        wider skip connections fine detail (and noise) is fitted in fewer iterations.
    upsampling
        ``"bilinear"``, or ``"nearest"``, which the original uses to fill holes; or a tuple with
        one of them for each scale, the finest first.
    downsampling
        How each scale halves the image: ``"stride"``, by a convolution of stride 2, or
        ``"average"``, by a convolution and the mean of 2x2 pixels.
    down_kernel
        Size of the encoder's convolutions in pixels, odd, up to 99; 5 reaches further into a hole
        than the default of 3.
    pointwise
        Whether a 1x1 convolution ends each scale of the decoder.

    Raises
    ------
    ValueError
        If ``down``, ``up`` and ``skip`` do not have the same length, or an argument is out of its
        range.

    Examples
    --------
    >>> HourglassConfig().scales
    5
    >>> HourglassConfig(down=(16, 32), up=(16, 32), skip=(4, 0)).multiple
    4
    """

    down: tuple[int, ...] = (128,) * 5
    up: tuple[int, ...] = (128,) * 5
    skip: tuple[int, ...] = (4,) * 5
    upsampling: Upsampling | tuple[Upsampling, ...] = "bilinear"
    downsampling: Downsampling = "stride"
    down_kernel: int = 3
    pointwise: bool = True

    def __post_init__(self) -> None:
        for name in ("down", "up", "skip", "upsampling"):
            if isinstance(getattr(self, name), list):  # as of a file
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if not len(self.down) == len(self.up) == len(self.skip) >= 1:
            raise InputError(
                "down, up and skip must have one entry for each scale, "
                f"got {len(self.down)}, {len(self.up)} and {len(self.skip)} entries"
            )
        if self.scales > _MOST_SCALES:
            raise InputError(f"there may be up to {_MOST_SCALES} scales, got {self.scales}")
        if max(self.down + self.up + self.skip) > MOST_CHANNELS:
            raise InputError(f"widths may be up to {MOST_CHANNELS}, got {self}")
        if self.down_kernel > _LARGEST_KERNEL:
            raise InputError(f"down_kernel may be up to {_LARGEST_KERNEL}, got {self.down_kernel}")
        if min(self.down) < 1 or min(self.up) < 1 or min(self.skip) < 0:
            raise InputError(f"widths must be positive (skip may be 0), got {self}")
        for upsampling in self.upsamplings:
            check_choice("upsampling", upsampling, ("bilinear", "nearest"))
        if len(self.upsamplings) != self.scales:
            raise InputError(
                f"upsampling must be one for each of {self.scales} scales, got {self.upsampling}"
            )
        check_choice("downsampling", self.downsampling, ("stride", "average"))
        if self.down_kernel < 1 or self.down_kernel % 2 == 0:
            raise InputError(f"down_kernel must be odd and positive, got {self.down_kernel}")

    @property
    def scales(self) -> int:
        """Return the number of scales, each of which halves the image."""
        return len(self.down)

    @property
    def upsamplings(self) -> tuple[Upsampling, ...]:
        """Return the kind of upsampling of each scale, the finest first."""
        if isinstance(self.upsampling, tuple):
            return self.upsampling
        return (self.upsampling,) * self.scales

    @property
    def multiple(self) -> int:
        """Return the number that height and width are padded to a multiple of."""
        return 1 << self.scales
