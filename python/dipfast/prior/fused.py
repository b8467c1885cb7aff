"""Run an hourglass network in few passes over memory.

What lies between two convolutions (batch normalisation, LeakyReLU, padding) is one pass of a
compiled kernel, forward and backward, and layers lie channels last, which convolutions are fastest
with.  The result is that of the plain layers up to rounding, by two identities:

* The batch normalisation of concatenated layers normalises each channel on its own, so it is part
  of the pass that ends each of the layers; and to repeat pixels changes neither mean nor variance,
  so the layer below is normalised before it is enlarged.
* The convolution of concatenated layers is the sum of their convolutions, and that of a layer whose
  pixels are repeated works on the pixels themselves
  (:func:`~dipfast.ops.layers.conv_joined`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dipfast.ops.layers import Normalisation, batch_norm_act, conv_joined

if TYPE_CHECKING:
    from dipfast.prior.networks import Hourglass

__all__ = ["fused_layers", "has_fused_layers"]


def has_fused_layers(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether there is a compiled kernel for layers of a device and dtype."""
    return device.type == "cpu" and dtype in (torch.float32, torch.bfloat16)


def fused_layers(network: Hourglass, x: Tensor) -> Tensor:
    """Return the output of a network before the sigmoid.

    Parameters
    ----------
    network
        The network, with weights in float32.
    x
        The input (N, C, H, W), H and W multiples of that of the configuration; in bfloat16 all
        layers are.

    Returns
    -------
    Tensor
        Of shape (N, K, H, W) and the dtype of x.
    """
    config = network.config
    margin = config.down_kernel // 2
    last = config.scales - 1
    x = F.pad(x, (margin,) * 4, mode="reflect").contiguous(memory_format=torch.channels_last)
    sides: list[Tensor | None] = []
    for scale in range(config.scales):
        first, second = _modules(network.encoder[scale])
        side = None
        if config.skip[scale]:
            block = _modules(network.skips[scale])
            side = _end(
                _conv(x, block), block, _joint(network, scale, of_side=True), crop=margin, pad=1
            )
        sides.append(side)
        x = _end(_conv(x, first), first, pad=margin)
        x = _conv(x, second)
        x = _end(x, second, pad=margin) if scale < last else _end_below(network, x, second, scale)
    for scale in range(last, -1, -1):
        blocks = [_modules(block) for block in _modules(network.decoder[scale])[1:]]
        x = _conv_joined(network, x, sides[scale], blocks[0][0].weight, scale)
        for before, block in pairwise(blocks):
            x = _conv(_end(x, before), block)
        x = _end_below(network, x, blocks[-1], scale - 1) if scale else _end(x, blocks[-1])
    return _convolved(x, network.head)


def _modules(sequence: nn.Module) -> list[Any]:
    return list(sequence.children())


def _convolved(x: Tensor, conv: nn.Conv2d, stride: int = 1) -> Tensor:
    bias = None if conv.bias is None else conv.bias.to(x.dtype)
    return F.conv2d(x, conv.weight.to(x.dtype), bias, stride)


def _conv(x: Tensor, block: list[Any]) -> Tensor:
    """Return the convolution of a block of a padded layer, and the mean of 2x2 if it has one."""
    conv, *others = block
    stride = conv.stride[0]
    if stride > 1 and conv.kernel_size == (1, 1):
        # What it steps over takes no part.  Where torch steps itself, the gradient of the weights
        # writes beyond its memory, channels last (oneDNN on AVX2, in torch 2.6 to 2.15 at least).
        x, stride = x[..., ::stride, ::stride], 1
    x = _convolved(x, conv, stride)
    return others[0](x) if isinstance(others[0], nn.AvgPool2d) else x


def _end(x: Tensor, block: list[Any], joint: Normalisation | None = None, **form: Any) -> Tensor:
    """Return what normalisation and activation of a block make of its convolution."""
    norm, act = block[-2:]
    own = norm.weight, norm.bias
    return batch_norm_act(x, own, joint, slope=act.negative_slope, epsilon=norm.eps, **form)


def _end_below(network: Hourglass, x: Tensor, block: list[Any], scale: int) -> Tensor:
    """Return the layer that a scale of the decoder takes from the one below, not yet enlarged."""
    if network.config.upsamplings[scale] != "nearest":
        return _end(x, block)
    # To mirror the enlarged layer at its border repeats the last pixels of this one.
    return _end(x, block, _joint(network, scale), pad=1, reflect=False)


def _joint(network: Hourglass, scale: int, *, of_side: bool = False) -> Normalisation:
    """Return the part of the normalisation of concatenated layers that is that of one of them."""
    norm = _modules(network.decoder[scale])[0]
    channels = network.config.skip[scale]
    part = slice(channels) if of_side else slice(channels, None)
    return norm.weight[part], norm.bias[part]


def _conv_joined(
    network: Hourglass, below: Tensor, side: Tensor | None, weight: Tensor, scale: int
) -> Tensor:
    """Return the convolution of the skip connection and the enlarged layer below."""
    mode = network.config.upsamplings[scale]
    if mode == "nearest":
        return conv_joined(side, below, weight)
    norm = _modules(network.decoder[scale])[0]
    below = F.interpolate(below, scale_factor=2, mode=mode)
    joint = _joint(network, scale)
    below = batch_norm_act(below, joint, slope=1.0, epsilon=norm.eps, pad=1)
    if side is not None:
        below = torch.cat([side, below], dim=1)
    return F.conv2d(below, weight.to(below.dtype))
