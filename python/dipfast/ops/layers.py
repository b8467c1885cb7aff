"""Compute what lies between the convolutions of a network, in few passes over memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dipfast.errors import InputError
from dipfast.ops import _torch

__all__ = ["Normalisation", "add_normal", "batch_norm_act", "conv_joined"]

Normalisation = tuple[Tensor, Tensor]
"""Weight and bias of a batch normalisation, one number for each channel."""


def batch_norm_act(
    x: Tensor,
    first: Normalisation,
    second: Normalisation | None = None,
    *,
    slope: float = 0.2,
    epsilon: float = 1e-5,
    crop: int = 0,
    pad: int = 0,
    reflect: bool = True,
) -> Tensor:
    r"""Normalise, activate, normalise again and pad a layer.

    .. math:: v = P(w_2 \, n(a) + b_2), \qquad a = l(w_1 \, n(x) + b_1), \qquad
              n(x) = \frac{x - \bar x}{\sqrt{\operatorname{var} x + \varepsilon}},

    with l LeakyReLU, P the padding, and mean and variance of each channel over images, rows and
    columns.  This is what ``batch_norm``, ``leaky_relu``, ``batch_norm`` and ``pad`` of
    ``torch.nn.functional`` give one after the other.

    Parameters
    ----------
    x
        The layer (N, C, H, W), float32, float64, or bfloat16, which is computed with in float32.
    first, second
        Weight and bias of the normalisations, float32, and float64 for x in float64.  Without
        ``second``, the default, v = P(a).
    slope
        Factor of negative values, 0.2 by default as in the original network; 1 activates nothing.
    epsilon
        What is added to variances, positive; the default is torch's.
    crop
        Rows and columns at each side of x that do not count, from 0 up, which is the default.
    pad
        Rows and columns that are added at each side, from 0 up, which is the default.
    reflect
        Whether x is mirrored at its border; otherwise its last rows and columns are repeated.

    Returns
    -------
    Tensor
        v, (N, C, H', W') with H' = H - 2 crop + 2 pad, of the dtype of x, channels last.

    Raises
    ------
    ValueError
        If x is not of four dimensions, has no element, or the weights are not one for each channel;
        if ``crop`` or ``pad`` is negative, ``crop`` leaves nothing of x, or a reflection would
        reach further than the other side of it.

    Examples
    --------
    >>> ones, zeros = torch.ones(2), torch.zeros(2)
    >>> batch_norm_act(torch.rand(1, 2, 8, 6), (ones, zeros), pad=1).shape
    torch.Size([1, 2, 10, 8])
    """
    if x.ndim != 4:
        raise InputError(f"x must be (N, C, H, W), got shape {tuple(x.shape)}")
    if 0 in x.shape:
        raise InputError(f"x must have at least one element, got shape {tuple(x.shape)}")
    weight2, bias2 = (None, None) if second is None else second
    for weights in (*first, weight2, bias2):
        if weights is not None and weights.shape != x.shape[1:2]:
            raise InputError(
                f"weights must be one for each of {x.shape[1]} channels, "
                f"got shape {tuple(weights.shape)}"
            )
    rows, columns = (size - 2 * crop for size in x.shape[2:])
    if crop < 0 or pad < 0:
        raise InputError(f"crop and pad must be from 0 up, got {crop} and {pad}")
    if min(rows, columns) < 1:
        raise InputError(f"crop must leave something of x, got {crop} for {tuple(x.shape)}")
    if reflect and pad >= min(rows, columns):
        raise InputError(
            f"pad must be less than the {rows} rows and {columns} columns that are mirrored, "
            f"got {pad}"
        )
    v: Tensor
    v, _ = _torch.batch_norm_act(x, *first, weight2, bias2, slope, epsilon, crop, pad, reflect)
    return v


def conv_joined(side: Tensor | None, below: Tensor, weight: Tensor) -> Tensor:
    r"""Convolve a layer, concatenated with another that is enlarged by nearest neighbours.

    The convolution of concatenated layers is the sum of their convolutions.  Of the nine pixels
    that it sees of the enlarged one only four differ, and which of them are equal depends on the
    phase, row and column of the result modulo 2.  So the sums of the weights of equal pixels make
    four convolutions of 2x2 weights of the small layer: 4/9 of the multiplications.

    Parameters
    ----------
    side
        The first layer (N, F, 2 H + 2, 2 W + 2), padded by reflection; None for one without
        channels, F = 0.
    below
        The second (N, C, H + 2, W + 2), padded by its last rows and columns: that is what
        reflection does to it enlarged.
    weight
        The weights (K, F + C, 3, 3), float32, or float64 for layers in float64.

    Returns
    -------
    Tensor
        (N, K, 2 H, 2 W), channels last.

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> side, below = torch.rand(1, 2, 18, 14), torch.rand(1, 4, 10, 8)
    >>> conv_joined(side, below, torch.rand(3, 6, 3, 3)).shape
    torch.Size([1, 3, 16, 12])
    """
    channels = 0 if side is None else side.shape[1]
    images, of_below, height, width = below.shape
    if weight.shape[1:] != (channels + of_below, 3, 3):
        raise InputError(
            f"weight must be (K, {channels} + {of_below}, 3, 3), got shape {tuple(weight.shape)}"
        )
    expected = (images, channels, 2 * height - 2, 2 * width - 2)
    if side is not None and side.shape != expected:
        raise InputError(f"side must be {expected} for this below, got {tuple(side.shape)}")
    of_side, of_coarse = _torch.split_weights(weight, channels, below.dtype)
    if side is not None:
        fine = F.conv2d(side, of_side)
    else:
        shape = (images, len(weight), 2 * (height - 2), 2 * (width - 2))
        fine = below.new_zeros(shape).contiguous(memory_format=torch.channels_last)
    joined: Tensor = _torch.interleave(fine, F.conv2d(below, of_coarse))
    return joined


def add_normal(z: Tensor, level: Tensor, seed: int, iteration: int) -> Tensor:
    """Add normal random numbers of a counter-based generator.

    The numbers depend on seed, iteration and the place in memory alone, so that they have the same
    bits for any number of threads, whatever was drawn before.

    Parameters
    ----------
    z
        A tensor of any shape, float32 or float64.
    level
        Standard deviation of the numbers, a scalar tensor.
    seed, iteration
        Key and counter of the generator, from 0 up to 2**64 - 1 and 2**63 - 1.

    Returns
    -------
    Tensor
        z + level n, in the memory format of z if z is dense.

    Notes
    -----
    The generator is Philox 4x32 with seven rounds [1]_, the transform that of Box and Muller.

    References
    ----------
    .. [1] Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Examples
    --------
    >>> z = torch.zeros(100_000)
    >>> n = add_normal(z, torch.tensor(1.0), seed=0, iteration=1)
    >>> abs(n.mean()) < 0.02 and abs(n.std() - 1) < 0.02
    tensor(True)
    """
    # Operators of torch take signed integers.
    signed = (seed + 2**63) % 2**64 - 2**63
    noisy: Tensor = _torch.add_normal(z, level, signed, iteration)
    return noisy
