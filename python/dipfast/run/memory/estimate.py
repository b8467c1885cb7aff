"""An estimate of the memory that a fit takes."""

from __future__ import annotations

import copy
import math
import weakref
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dipfast.prior.networks import Hourglass

__all__ = ["estimate_fit"]

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
    For seven networks of :data:`~dipfast.settings.presets.PRESETS`, from 64x64 to 1024x1024
    pixels, it was between 3% less and 34% more than the peak measured on the CPU under Linux.  It
    has not been measured on a GPU.  ``python -m benches.loop.memory`` measures again.

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
