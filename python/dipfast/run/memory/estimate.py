"""An estimate of the memory that a fit takes, or a method without one."""

from __future__ import annotations

import copy
import math
import weakref
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dipfast.denoisers.volumes import MOST_OF_VOLUME
from dipfast.model.noise_estimate import LARGE_PICTURE
from dipfast.prior.fused import has_fused_layers
from dipfast.prior.networks import Hourglass
from dipfast.settings.names import TaskName
from dipfast.settings.presets import Preset

__all__ = ["estimate_direct", "estimate_fit", "sizes_of"]

_CPU = torch.device("cpu")

# Tensors of the size of the weights: the weights, the two moments of Adam, and a copy of these
# three that a spike is undone with.
_WEIGHTS = 6
# Tensors of the size of an image: measurement, output, averages, and what the objective and the
# metrics need.
_IMAGES = 10
# Copies of a picture in float32 that denoising without a network takes at its peak, and those if it
# is not large, because its noise is estimated in float64 then (benches/loop/memory.py).
_COPIES, _COPIES_OF_SMALL = 12, 28
# Copies of planes that are denoised together: of all of them, and of what is denoised as a whole.
# 16 were measured with 24 planes of 1024x1024.
_COPIES_OF_PLANES, _COPIES_OF_VOLUME = 4, 12
# Copies that plug and play takes at its peak, with a blur; without one 28, with a mask 17.
_COPIES_OF_STEPS = 40
# Bytes of compiled kernels that torch caches, and of code that is loaded at its first use.
_KERNELS = 20_000_000
# Blocks come from a heap with gaps (:mod:`dipfast.run.memory.blocks`), smaller ones between large
# blocks.  Of the factors 1, 1.5, 1.6 and 1.8 for blocks below 32 MiB only the last was less than 5%
# too low for all sizes of the default network; larger ones took up to 1.5 times their size.
_LARGE_BLOCK = 32 << 20
_GAPS, _GAPS_OF_LARGE = 1.8, 1.5
# For more elements than this the bytes of a tensor overflow in torch: memory is then taken to be
# proportional to the number of pixels.
_MOST_ELEMENTS = 1 << 40
# Estimates that are cached at most.
_MOST_ESTIMATES = 256


def estimate_direct(image_shape: tuple[int, ...], task: TaskName = "denoise") -> int:
    """Return an estimate of the peak memory of restoring a picture without a network.

    Parameters
    ----------
    image_shape
        The shape (N, C, H, W) of the result; planes of a stack that help each other are denoised
        together, as N of them.
    task
        What is done; other tasks than denoising take more, for conjugate gradients and for the
        operator.

    Returns
    -------
    int
        Bytes.
    """
    is_large = math.prod(image_shape[-2:]) > LARGE_PICTURE
    copies = _COPIES if is_large else _COPIES_OF_SMALL
    if task != "denoise":
        copies = max(copies, _COPIES_OF_STEPS)
    need = 4 * copies * math.prod(image_shape[1:])
    if image_shape[0] > 1:
        elements = math.prod(image_shape)
        whole = min(elements, MOST_OF_VOLUME)
        need = max(need, 4 * (_COPIES_OF_PLANES * elements + _COPIES_OF_VOLUME * whole))
    return need + 2 * _KERNELS


def estimate_fit(
    network: nn.Module,
    z_shape: tuple[int, ...],
    image_shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device = _CPU,
) -> int | None:
    r"""Return an estimate of the peak memory of a fit, beyond what the process takes without it.

    .. math:: M = \max_t \sum_{s \text{ alive at } t} |s| + 6 W + 10 I + 20\,\mathrm{MB},

    Here s are the blocks of memory of one iteration, from z to the gradients of the weights, W is
    the size of the weights (there are the weights, two moments of Adam, and a copy of these three)
    and I that of an image.  The network runs one iteration on tensors without data: nothing is
    computed, and the network is not changed.

    Parameters
    ----------
    network
        A network from z to an image.
    z_shape
        The shape (N, C, H, W) of z.
    image_shape
        The shape (N, C, H, W) of the image.
    dtype
        The dtype of all tensors, float32 or float64.
    device
        The device to fit on, by default the CPU, where blocks count 1.8 times (1.5 times from
        32 MiB on) for the gaps between them.

    Returns
    -------
    int or None
        Bytes; None for a network that cannot run on tensors without data.

    Notes
    -----
    For two networks of :data:`~dipfast.settings.presets.PRESETS`, from 256x256 to 1024x1024
    pixels, the estimate was between 1% below and 45% above the peak measured on the CPU under
    Linux; on an H100 the peak was 8 to 18% below it.  ``python -m benches.loop.memory`` and
    ``python -m benches.gpu`` repeat the measurements.

    Examples
    --------
    >>> network = Hourglass(in_channels=32, out_channels=3)
    >>> need = estimate_fit(network, (1, 32, 512, 512), (1, 3, 512, 512), torch.float32)
    >>> f"{need / 1e9:.1f} GB"
    '2.4 GB'
    """
    if type(network) is not Hourglass:
        return _estimate(network, z_shape, image_shape, dtype, device)
    # Networks of this class differ by their configuration alone, which many fits share.
    weights = tuple(tuple(parameter.shape) for parameter in network.parameters())
    form = network.config, network.is_fused, weights, z_shape, image_shape, dtype, device
    # Asked once, because another thread may empty the cache at any moment.
    with suppress(KeyError):
        return _estimates[form]
    estimate = _estimate(network, z_shape, image_shape, dtype, device)
    if len(_estimates) >= _MOST_ESTIMATES:
        _estimates.clear()
    _estimates[form] = estimate
    return estimate


_estimates: dict[Any, int | None] = {}


def sizes_of(
    preset: Preset,
    image_shape: tuple[int, ...],
    input_channels: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device = _CPU,
) -> dict[str, Any]:
    """Return the arguments of :func:`estimate_fit` for a fit with the settings of a preset.

    Parameters
    ----------
    preset
        The settings.
    image_shape
        The shape (N, C, H, W) of the image.
    input_channels
        The channels of the picture that the network is given; None, the default, for an input that
        is made as the preset says.
    dtype
        The dtype of all tensors, float32 by default.
    device
        The device to fit on, by default the CPU.

    Returns
    -------
    dict
        The network, of which only the shapes are there, both shapes, dtype and device.
    """
    made = 2 if preset.input == "meshgrid" else preset.input_channels
    channels = made if input_channels is None else input_channels
    with torch.device("meta"):  # only the shapes of the weights are needed
        network = Hourglass(channels, image_shape[1], preset.network)
    return {
        "network": network,
        "z_shape": (1, channels, *image_shape[2:]),
        "image_shape": image_shape,
        "dtype": dtype,
        "device": device,
    }


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
        meta_network = _without_data(network, dtype)
        if isinstance(meta_network, Hourglass) and meta_network.is_fused is None:
            # As for tensors of the device, which those without data do not say.
            meta_network.is_fused = has_fused_layers(device, dtype)
        iteration = _one_iteration(meta_network, tuple(shape), dtype, device)
    except Exception:
        # A user's network may raise anything on tensors without data, and still work with data.
        return None
    weights = sum(parameter.nbytes for parameter in meta_network.parameters())
    image = math.prod(image_shape) * dtype.itemsize
    images = _IMAGES * _block_size(image, device)
    return math.ceil(parts * iteration + _WEIGHTS * weights + images + _KERNELS)


def _without_data(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy of a network whose weights and buffers have no data."""
    copies: dict[int, Any] = {}
    for parameter in network.parameters():
        empty = torch.empty_like(parameter, device="meta")
        copies[id(parameter)] = nn.Parameter(empty, parameter.requires_grad)
    for buffer in network.buffers():
        copies[id(buffer)] = torch.empty_like(buffer, device="meta")
    # deepcopy takes these in the place of the objects with data.
    return copy.deepcopy(network, copies).to(dtype)


def _one_iteration(
    network: nn.Module, z_shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> float:
    """Return the bytes at the peak of one iteration, from z to the gradients of the weights."""
    memory = _Peak(device)
    with memory:
        z = torch.empty(z_shape, dtype=dtype, device="meta")
        noise = torch.empty_like(z)
        # z, noise and output stay alive to the end of the iteration, as in the loop.
        output = network(z + noise)
        output.square().sum().backward()
    return memory.peak


class _Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Add up the storages that are alive after each operation, and keep the highest sum."""

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
        workspace = 0
        if func is torch.ops.aten.convolution.default:
            workspace = _workspace(args[0], args[1], result, self.device)
        elif func is torch.ops.aten.convolution_backward.default:
            workspace = _workspace(args[1], args[2], args[0], self.device)
        self.peak = max(self.peak, self._alive + _block_size(workspace, self.device))
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._storages:
            size = _block_size(storage.nbytes(), self.device)
            self._alive += size
            self._storages[key] = weakref.ref(storage, partial(self._remove, key, size))

    def _remove(self, key: int, size: float, _: object) -> None:
        del self._storages[key]
        self._alive -= size


def _workspace(x: Tensor, weight: Tensor, y: Tensor, device: torch.device) -> int:
    """Return the bytes that a convolution from x to y takes while it runs."""
    # oneDNN has no float64: torch then builds a matrix of the neighbourhoods of all pixels.
    if device.type != "cpu" or x.dtype != torch.float64:
        # Copies in the memory format of the kernels, which that of the fused layers is.
        is_that = device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last)
        return 0 if is_that else x.nbytes + y.nbytes
    if weight[0, 0].numel() == 1:
        return 0
    return weight[0].numel() * min(x[:, 0].numel(), y[:, 0].numel()) * x.element_size()


def _block_size(size: int, device: torch.device) -> float:
    """Return the memory that a block takes, including the gaps around it in the heap."""
    if device.type != "cpu":
        return float(size)
    return size * (_GAPS if size < _LARGE_BLOCK else _GAPS_OF_LARGE)
