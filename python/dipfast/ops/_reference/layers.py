"""Define in plain torch what lies between the convolutions of a network.

Layers are (N, C, H, W) in any memory format.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["add_normal", "batch_norm_act", "interleave", "interleave_gradient", "split_weights"]

_WORD = 0xFFFFFFFF


def batch_norm_act(
    x: Tensor,
    weights: Sequence[Tensor],
    slope: float,
    epsilon: float,
    crop: int,
    pad: int,
    reflect: bool,
) -> tuple[Tensor, Tensor]:
    """Return the layer and the statistics of :func:`dipfast.ops.layers.batch_norm_act`."""
    computed = x if x.dtype == torch.float64 else x.float()
    if crop:
        computed = computed[..., crop:-crop, crop:-crop]
    a, statistics = _normalised(computed, weights[0], weights[1], epsilon)
    a = F.leaky_relu(a, slope)
    if len(weights) == 4:
        a, more = _normalised(a, weights[2], weights[3], epsilon)
        statistics = torch.cat([statistics, more])
    if pad:
        a = F.pad(a, (pad,) * 4, mode="reflect" if reflect else "replicate")
    return a.to(x.dtype), statistics.detach()


def _normalised(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    scale = (variance + epsilon).rsqrt()
    shaped = [v[:, None, None] for v in (mean, scale * weight, bias)]
    return (x - shaped[0]) * shaped[1] + shaped[2], torch.stack([mean, scale])


def interleave(fine: Tensor, coarse: Tensor) -> Tensor:
    """Return the layer of :func:`dipfast.ops.layers.conv_joined`."""
    out = torch.empty_like(fine)
    for (a, b), part in zip(_PHASES, coarse.chunk(4, dim=1)):
        height, width = part.shape[2] - 1, part.shape[3] - 1
        phase = (..., slice(a, None, 2), slice(b, None, 2))
        out[phase] = fine[phase] + part[..., a : a + height, b : b + width]
    return out


_PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))


def interleave_gradient(gradient: Tensor) -> Tensor:
    """Return the gradient of :func:`interleave` in the coarse layer."""
    height, width = gradient.shape[2] // 2, gradient.shape[3] // 2
    parts = []
    for a, b in _PHASES:
        phase = gradient[..., a::2, b::2]
        parts.append(F.pad(phase, (b, 1 - b, a, 1 - a)))
    return torch.cat(parts, dim=1).reshape(len(gradient), -1, height + 1, width + 1)


# Which rows (columns) r of 3x3 weights meet the row p of 2x2 pixels in the phase a: [a, p, r].
_MEET = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])


def split_weights(weight: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Return the weights of both layers of :func:`dipfast.ops.layers.conv_joined`.

    The first are (K, F, 3, 3), those of the first ``channels`` inputs; the second (4 K, C, 2, 2).
    """
    meet = _MEET.to(weight)
    sums = torch.einsum("apr,bqs,oirs->aboipq", meet, meet, weight[:, channels:])
    return weight[:, :channels].clone(), sums.flatten(0, 2)


def add_normal(z: Tensor, level: Tensor | float, seed: int, iteration: int) -> Tensor:
    """Return z + level n, with the normal numbers n of :func:`dipfast.ops.layers.add_normal`.

    The elements are numbered in the order of the memory of z, which is dense.
    """
    count = z.numel()
    lanes = torch.arange(32, dtype=torch.int64)
    blocks = 32 * torch.arange(-(-count // 128), dtype=torch.int64)[:, None] + lanes
    words = [
        blocks & _WORD,
        blocks >> 32,
        *(torch.full_like(blocks, w) for w in _halves(iteration)),
    ]
    key = _halves(seed)
    for _ in range(7):
        low_a, high_a = _product(words[0], 0xD2511F53)
        low_b, high_b = _product(words[2], 0xCD9E8D57)
        words = [high_b ^ words[1] ^ key[0], low_b, high_a ^ words[3] ^ key[1], low_a]
        key = ((key[0] + 0x9E3779B9) & _WORD, (key[1] + 0xBB67AE85) & _WORD)
    numbers = [*_box_muller(words[0], words[1]), *_box_muller(words[2], words[3])]
    flat = torch.stack(numbers, dim=1).reshape(-1)[:count].to(z)
    return torch.add(z, level * flat.as_strided(z.shape, z.stride()))


def _halves(number: int) -> tuple[int, int]:
    return number & _WORD, (number >> 32) & _WORD


def _product(word: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Return the low and the high 32 bits of the product of two words."""
    # Halves of the factor, because a product of words does not fit into a signed integer.
    low = word * (factor & 0xFFFF)
    high = word * (factor >> 16) + (low >> 16)
    return ((high & 0xFFFF) << 16) | (low & 0xFFFF), high >> 16


def _box_muller(u: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    # The middle of an interval is rounded in single precision, as the compiled kernel does.
    uniform = ((u >> 8).float() + 0.5) / 2**24
    radius = (-2 * torch.log(uniform.double())).sqrt()
    angle = w.double() * (math.tau / 2**32)
    return radius * angle.cos(), radius * angle.sin()
