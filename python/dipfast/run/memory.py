"""How much memory a fit takes, and whether it is there.

A fit that is too large for the machine seldom ends with an error: the system swaps, or kills
the process without a word.  So its memory is estimated before it begins.
"""

from __future__ import annotations

import copy
import math
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dipfast.errors import MemoryLimitError
from dipfast.prior.networks import Hourglass
from dipfast.settings.network import HourglassConfig

__all__ = ["available", "check_memory", "estimate_fit", "explain"]

_CPU = torch.device("cpu")

# Of the weights: themselves, the two moments of Adam, and a copy of the three to go back to.
_WEIGHTS = 6
# Measurement, output, averages, what is compared with them and what that needs on the way.
_IMAGES = 10
# What torch keeps of its compiled kernels, and its code that was not used before.
_KERNELS = 20_000_000
# Blocks below 32 MiB come from a heap with gaps, larger ones from the system and go back to it
# (the most that M_MMAP_THRESHOLD of glibc grows to).  Of 1, 1.5, 1.6 and 1.8, only the last was
# less than 5% too low for all sizes of the default network.
_HEAP_BLOCK = 32 << 20
_GAPS = 1.8
# Beyond this torch cannot count the bytes, and memory is taken to grow with the pixels.
_MOST_ELEMENTS = 1 << 40

# Estimates that are kept.
_MOST_ESTIMATES = 256

# What is suggested may take this share of what is there, which changes all the time.
_SHARE = 0.9
_FEWEST_CHANNELS = 8
_SMALLEST_PIECE = 64


def estimate_fit(
    network: nn.Module,
    z_shape: tuple[int, ...],
    image_shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device = _CPU,
) -> int | None:
    r"""Peak memory of a fit, beyond what the process takes without it,

    .. math:: M = \max_t \sum_{s \text{ alive at } t} |s| + 6 W + 10 I + 20\,\mathrm{MB},

    with s the blocks of memory of one iteration from z to the gradients of the weights, W the
    size of the weights (they, two moments of Adam, and a copy of the three) and I that of an
    image.  The iteration is that of the network itself, on tensors without data: nothing is
    computed, and the network is left as it is.

    Parameters
    ----------
    network
        From z to an image.
    z_shape, image_shape
        (N, C, H, W) of both.
    dtype
        Of all tensors.
    device
        To fit on.  On the CPU blocks below 32 MiB count 1.8 times, for the gaps between them.

    Returns
    -------
    int or None
        Bytes; None for a network that cannot run without data.

    Notes
    -----
    For seven networks of :data:`~dipfast.settings.presets.PRESETS`, from 64x64 to 1024x1024 pixels, it was
    between 3% less and 34% more than the peak measured on the CPU under Linux.  It has not been
    measured on a GPU.  ``python -m benches.loop.memory`` measures again.

    Examples
    --------
    >>> network = Hourglass(in_channels=32, out_channels=3)
    >>> need = estimate_fit(network, (1, 32, 512, 512), (1, 3, 512, 512), torch.float32)
    >>> f"{need / 1e9:.1f} GB"
    '2.7 GB'
    """
    if type(network) is not Hourglass:
        return _estimate(network, z_shape, image_shape, dtype, device)
    # These are known by their form, and many fits have the same one.
    weights = tuple(tuple(parameter.shape) for parameter in network.parameters())
    form = network.config, weights, z_shape, image_shape, dtype, device
    if form not in _estimates:
        if len(_estimates) >= _MOST_ESTIMATES:
            _estimates.clear()
        _estimates[form] = _estimate(network, z_shape, image_shape, dtype, device)
    return _estimates[form]


_estimates: dict[Any, int | None] = {}


def available(device: torch.device, root: Path = Path("/")) -> int | None:
    """Memory that a process may still take on a device.

    Parameters
    ----------
    device
        CPU: the least of what the system has and of what the control groups (versions 1 and 2)
        of the process leave.  CUDA: what is free, and what torch holds without using it.
    root
        Where ``proc`` and ``sys`` are.

    Returns
    -------
    int or None
        Bytes; None if it is not known how to ask the device.

    Examples
    --------
    >>> available(torch.device("cpu")) > 0
    True
    """
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + held
    if device.type != "cpu":
        return None
    return min([int(psutil.virtual_memory().available), *_cgroups(root)])


def check_memory(
    network: nn.Module,
    z_shape: tuple[int, ...],
    image_shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """Refuse a fit that takes more memory than there is (:func:`estimate_fit`,
    :func:`available`).

    Where one of the two is not known, nothing is refused.

    Raises
    ------
    MemoryError
        If it does; the message says what would fit.

    Examples
    --------
    >>> shapes = (1, 32, 10**6, 10**6), (1, 3, 10**6, 10**6)
    >>> check_memory(Hourglass(), *shapes, torch.float32, torch.device("cpu"))
    ... # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dipfast.errors.MemoryLimitError: restoring 3x1000000x1000000 pixels with this network takes ...
    """
    need, room = estimate_fit(network, z_shape, image_shape, dtype, device), available(device)
    if need is not None and room is not None and need > room:
        raise MemoryLimitError(_message(network, z_shape, image_shape, dtype, device, need, room))


def explain(
    network: nn.Module,
    z_shape: tuple[int, ...],
    image_shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> str:
    """What a fit takes, what is there, and what would fit, for a fit that ran out of memory.

    Everything that is said to fit does so by :func:`estimate_fit`.

    Examples
    --------
    >>> shapes = (1, 32, 64, 64), (1, 3, 64, 64)
    >>> print(explain(Hourglass(), *shapes, torch.float64, torch.device("cpu")))
    ... # doctest: +ELLIPSIS
    restoring 3x64x64 pixels with this network takes about ... MB of memory, which ran out...
    """
    need, room = estimate_fit(network, z_shape, image_shape, dtype, device), available(device)
    return _message(network, z_shape, image_shape, dtype, device, need, room)


# --- what a fit takes --------------------------------------------------------------------


def _estimate(
    network: nn.Module,
    z_shape: tuple[int, ...],
    image_shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> int | None:
    shape, parts = list(z_shape), 1
    while math.prod(shape) > _MOST_ELEMENTS and max(shape[2:]) > 1:
        side = shape.index(max(shape[2:]), 2)
        shape[side], parts = -(-shape[side] // 2), 2 * parts
    try:
        twin = _without_data(network, dtype)
        iteration = _one_iteration(twin, tuple(shape), dtype, device)
    except Exception:
        # A network of someone else's may fail without data in any way; with data it may not.
        return None
    weights = sum(parameter.nbytes for parameter in twin.parameters())
    image = math.prod(image_shape) * dtype.itemsize
    images = _IMAGES * _taken(image, device)
    return math.ceil(parts * iteration + _WEIGHTS * weights + images + _KERNELS)


def _without_data(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy whose weights have shapes alone."""
    twins: dict[int, Any] = {}
    for parameter in network.parameters():
        twin = torch.empty_like(parameter, device="meta")
        twins[id(parameter)] = nn.Parameter(twin, parameter.requires_grad)
    for buffer in network.buffers():
        twins[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(network, twins).to(dtype)


def _one_iteration(
    network: nn.Module, z_shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> float:
    """Bytes at the peak, from z to the gradients, which are alive at the end."""
    memory = _Peak(device)
    with memory:
        z = torch.empty(z_shape, dtype=dtype, device="meta")
        noise = torch.empty_like(z)
        # Held to the end, as the loop holds them.
        output = network(z + noise)
        output.square().sum().backward()
    return memory.peak


class _Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that are alive after each operation, and keeps the highest sum."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.peak = 0.0
        self._alive = 0.0
        self._storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        work = 0
        if func is torch.ops.aten.convolution.default:
            work = _workspace(args[0], args[1], result, self.device)
        elif func is torch.ops.aten.convolution_backward.default:
            work = _workspace(args[1], args[2], args[0], self.device)
        self.peak = max(self.peak, self._alive + _taken(work, self.device))
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._storages:
            size = _taken(storage.nbytes(), self.device)
            self._alive += size
            self._storages[key] = weakref.ref(storage, partial(self._remove, key, size))

    def _remove(self, key: int, size: float, _: object) -> None:
        del self._storages[key]
        self._alive -= size


def _workspace(x: Tensor, weight: Tensor, y: Tensor, device: torch.device) -> int:
    """Bytes that a convolution from x to y takes while it runs."""
    # oneDNN has no float64: torch then writes out what each pixel is made from, as a matrix.
    if device.type != "cpu" or x.dtype != torch.float64:
        return x.nbytes + y.nbytes  # both in the order that the kernels like best
    if weight[0, 0].numel() == 1:
        return 0
    return weight[0].numel() * min(x[:, 0].numel(), y[:, 0].numel()) * x.element_size()


def _taken(size: int, device: torch.device) -> float:
    """Memory that a block of a size takes."""
    return size * _GAPS if device.type == "cpu" and size < _HEAP_BLOCK else float(size)


# --- what is there -----------------------------------------------------------------------


def _cgroups(root: Path) -> list[int]:
    """Bytes that each control group of the process leaves, its own and those around it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []  # not Linux
    left = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount, names = "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mount = "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # In a container the path may be that of its host: what is not there is passed over.
        group = root / mount
        for part in ("", *path.split("/")):
            group = group / part
            left.append(_cgroup(group, *names))
    return [bytes_left for bytes_left in left if bytes_left is not None]


def _cgroup(group: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    """Bytes that one group leaves; None if it has no limit."""
    try:
        most = (group / limit).read_text().strip()
        used = int((group / usage).read_text())
        rows = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return None
    if most == "max":
        return None
    # Files that were read once are kept while there is room, and given up when there is not.
    kept = dict(row.split() for row in rows).get(reclaimable, 0)
    return max(int(most) - used + int(kept), 0)


# --- what would fit ----------------------------------------------------------------------


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
        # Others took what was there, or more was needed than estimated.
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
        # Not worth an estimate before that many.
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
