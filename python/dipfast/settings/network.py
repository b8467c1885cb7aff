"""The form of the untrained network: widths, and what its blocks are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from dipfast.checks import check_choice
from dipfast.errors import InputError

__all__ = ["MOST_CHANNELS", "Downsampling", "HourglassConfig", "Upsampling"]

# More would be padded to millions of pixels, or not fit into any memory.
MOST_CHANNELS = 4096
_MOST_SCALES, _LARGEST_KERNEL = 16, 99

Upsampling: TypeAlias = Literal["bilinear", "nearest"]
Downsampling: TypeAlias = Literal["stride", "average"]


@dataclass(frozen=True)
class HourglassConfig:
    """Widths of an :class:`Hourglass`, one entry for each scale, the finest first, and
    what its blocks are made of.

    Parameters
    ----------
    down
        Channels of the encoder at each scale.  The number of entries is the number of
        scales; every scale halves the image.
    up
        Channels of the decoder at each scale.
    skip
        Channels of the 1x1 skip connection at each scale; 0 leaves it out.  Wider
        skips let fine detail (and noise) through sooner.
    upsampling
        ``"bilinear"``, or ``"nearest"``, which the original uses to fill holes; or a tuple with
        one of them for each scale.
    downsampling
        How a scale is halved: ``"stride"``, a convolution of stride 2, or ``"average"``, a
        convolution and the mean of 2x2 pixels.
    down_kernel
        Size of the encoder's convolutions, odd; 5 sees further into a hole.
    pointwise
        Whether a 1x1 convolution ends each scale of the decoder.

    Raises
    ------
    ValueError
        If the three do not have the same length, a width is not positive (``skip``
        may be 0), or another argument cannot be.

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
        """Number of times that the image is halved."""
        return len(self.down)

    @property
    def upsamplings(self) -> tuple[Upsampling, ...]:
        """The kind of upsampling of each scale."""
        if isinstance(self.upsampling, tuple):
            return self.upsampling
        return (self.upsampling,) * self.scales

    @property
    def multiple(self) -> int:
        """Height and width are padded to a multiple of this."""
        return 1 << self.scales
