"""Check that a fit fits into memory, and say what would fit if it does not."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import nn

from dipfast.errors import MemoryLimitError
from dipfast.prior.networks import Hourglass
from dipfast.run.memory.available import available
from dipfast.run.memory.estimate import estimate_direct, estimate_fit
from dipfast.settings.names import TaskName
from dipfast.settings.network import HourglassConfig

__all__ = ["TILES", "check_direct_memory", "check_memory", "explain", "fits_into_memory"]

_CPU = torch.device("cpu")

# A suggestion may take this share of the available memory, which varies with other processes.
_SHARE = 0.9
TILES = (512, 384, 256, 128)
"""Rows and columns of tiles that are tried, the first that fits; larger ones are not faster."""

# Networks of fewer channels, and pieces of fewer pixels along a side, are not suggested.
_FEWEST_CHANNELS = 8
_SMALLEST_PIECE = 64


def check_memory(
    network: nn.Module,
    z_shape: tuple[int, ...],
    image_shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """Refuse a fit that takes more memory than is available.

    The two are found by :func:`estimate_fit` and :func:`available`.  If one of them is not known,
    the fit is not refused.

    Parameters
    ----------
    network
        The network.
    z_shape
        The shape (N, C, H, W) of the input of the network.
    image_shape
        The shape (N, C, H, W) of its output.
    dtype
        The dtype of all tensors, float32 or float64.
    device
        The device to fit on.

    Raises
    ------
    MemoryLimitError
        If the fit takes more; the message says what would fit.

    Examples
    --------
    >>> shapes = (1, 32, 10**6, 10**6), (1, 3, 10**6, 10**6)
    >>> check_memory(Hourglass(), *shapes, torch.float32, torch.device("cpu"))
    ... # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dipfast.errors.MemoryLimitError: restoring 3x1000000x1000000 pixels with this network takes ...
    """
    if not fits_into_memory(network, z_shape, image_shape, dtype, device):
        raise MemoryLimitError(explain(network, z_shape, image_shape, dtype, device))


def fits_into_memory(
    network: nn.Module,
    z_shape: tuple[int, ...],
    image_shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    share: float = 1.0,
) -> bool:
    """Return whether a fit takes no more memory than is available, as far as that is known.

    Parameters
    ----------
    network
        The network.
    z_shape
        The shape (N, C, H, W) of the input of the network.
    image_shape
        The shape (N, C, H, W) of its output.
    dtype
        The dtype of all tensors, float32 or float64.
    device
        The device to fit on.
    share
        The share of the memory that it may take.

    Returns
    -------
    bool
        True if need or memory are not known.
    """
    need, room = estimate_fit(network, z_shape, image_shape, dtype, device), available(device)
    return need is None or room is None or need <= share * room


def check_direct_memory(image_shape: tuple[int, ...], task: TaskName = "denoise") -> None:
    """Refuse a picture for which a method without a network takes more memory than there is.

    Parameters
    ----------
    image_shape
        The shape (N, C, H, W) of the result, of N planes that are denoised together.
    task
        What is done.

    Raises
    ------
    MemoryLimitError
        If it takes more; the message says how much.

    Examples
    --------
    >>> check_direct_memory((1, 3, 512, 512))
    >>> check_direct_memory((1, 3, 10**7, 10**7))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dipfast.errors.MemoryLimitError: denoising 3x10000000x10000000 pixels takes about 14.4 PB ...
    """
    need, room = estimate_direct(image_shape, task), available(_CPU)
    if room is not None and need > room:
        doing, done = ("denoising", "denoised") if task == "denoise" else ("restoring", "restored")
        size = "x".join(str(n) for n in image_shape[1 if image_shape[0] == 1 else 0 :])
        alone = "neighbours=0 takes planes one by one, and " if image_shape[0] > 1 else ""
        raise MemoryLimitError(
            f"{doing} {size} pixels takes about {_readable(need)} of memory, and "
            f"{_readable(room)} are there: {alone}the picture can be cut into pieces, "
            f"{done} one after the other"
        )


def explain(
    network: nn.Module,
    z_shape: tuple[int, ...],
    image_shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> str:
    """Return a message for a fit that ran out of memory.

    Parameters
    ----------
    network
        The network.
    z_shape
        The shape (N, C, H, W) of the input of the network.
    image_shape
        The shape (N, C, H, W) of its output.
    dtype
        The dtype of all tensors, float32 or float64.
    device
        The device to fit on.

    Returns
    -------
    str
        How much memory the fit takes, how much is available, and what would fit according to
        :func:`estimate_fit`.

    Examples
    --------
    >>> shapes = (1, 32, 64, 64), (1, 3, 64, 64)
    >>> print(explain(Hourglass(), *shapes, torch.float64, torch.device("cpu")))
    ... # doctest: +ELLIPSIS
    restoring 3x64x64 pixels with this network takes about ... MB of memory, which ran out...
    """
    need, room = estimate_fit(network, z_shape, image_shape, dtype, device), available(device)
    return _message(network, z_shape, image_shape, dtype, device, need, room)


def _message(
    network: nn.Module,
    z_shape: tuple[int, ...],
    image_shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    need: int | None,
    room: int | None,
) -> str:
    size = "x".join(str(n) for n in image_shape[1 if image_shape[0] == 1 else 0 :])
    memory = "GPU memory" if device.type == "cuda" else "memory"
    if need is None:
        return (
            f"restoring {size} pixels with this network ran out of {memory}. It grows with the "
            "number of pixels: the picture can be cut into pieces, restored one after the other."
        )
    takes = f"restoring {size} pixels with this network takes about {_readable(need)} of {memory}"
    if room is None or need <= room:
        # Other processes took memory, or the fit needed more than the estimate.
        limit = need / 2 if room is None else min(need / 2, _SHARE * room)
        begin = f"{takes}, which ran out. What takes half of it at most: "
    else:
        limit = _SHARE * room
        begin = f"{takes}, and {_readable(room)} are there. What would fit: "
    options = _what_fits(network, z_shape, image_shape, dtype, device, need, limit)
    return begin + ("; or ".join(options) or "nothing that was tried") + "."


def _what_fits(
    network: nn.Module,
    z_shape: tuple[int, ...],
    image_shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    need: int,
    limit: float,
) -> list[str]:
    def fits(
        network: nn.Module = network,
        sides: tuple[int, ...] = z_shape[2:],
        dtype: torch.dtype = dtype,
    ) -> bool:
        shapes = z_shape[:2] + sides, image_shape[:2] + sides
        size = estimate_fit(network, *shapes, dtype, device)
        return size is not None and size <= limit

    options = []
    sides, pieces = list(z_shape[2:]), 1
    while max(sides) > _SMALLEST_PIECE and limit > 0:
        side = sides.index(max(sides))
        sides[side], pieces = -(-sides[side] // 2), 2 * pieces
        # With fewer pieces than this they cannot fit, and an estimate takes time.
        if pieces > need / limit / 2 and fits(sides=tuple(sides)):
            area = "x".join(str(side) for side in sides)
            options.append(f"{pieces} pieces of up to {area} pixels, one after the other")
            break
    if dtype == torch.float64 and fits(dtype=torch.float32):
        options.append("the measurement as float32 instead of float64")
    if type(network) is Hourglass:
        config, narrower = network.config, _narrower(network.config)
        while narrower != config:
            config, narrower = narrower, _narrower(narrower)
            with torch.device("meta"):
                candidate = Hourglass(network.in_channels, image_shape[1], config)
            if fits(candidate):
                options.append(f"a narrower network in a preset of your own, {config}")
                break
    if device.type == "cuda":
        size, room = estimate_fit(network, z_shape, image_shape, dtype), available(_CPU)
        if size is not None and room is not None and size <= _SHARE * room:
            options.append('device="cpu", which is slower')
    return options


def _narrower(config: HourglassConfig) -> HourglassConfig:
    def halved(widths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(max(width // 2, min(width, _FEWEST_CHANNELS)) for width in widths)

    return replace(config, down=halved(config.down), up=halved(config.up), skip=halved(config.skip))


def _readable(size: float) -> str:
    power = min(max(int(math.log10(max(size, 1))) // 3, 2), 5)
    return f"{size / 10 ** (3 * power):.1f} {('MB', 'GB', 'TB', 'PB')[power - 2]}"
