"""Compute the mean squared error in Triton."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from dipfast.ops._memory import dense, match
from dipfast.ops._triton import numbers
from dipfast.ops._triton.numbers import OPTIONS, TILE, bits, double, nan_unless_finite

__all__ = ["mse"]


@triton.jit(do_not_specialize=["tiles", "scale"])
def _mse_kernel(
    a,
    b,
    gradient,
    sums,
    count,
    tiles,
    scale,
    GRADIENT: tl.constexpr,  # noqa: N803
    TILE: tl.constexpr,  # noqa: N803
):
    program = tl.program_id(0)
    total = tl.full([], 0.0, tl.float64)
    for tile in range(program.to(tl.int64), tiles, tl.num_programs(0)):
        at = tile * TILE + tl.arange(0, TILE)
        inside = at < count
        # float32 does not have the squares of all its numbers.
        difference = tl.load(a + at, mask=inside, other=0.0).to(tl.float64)
        difference -= tl.load(b + at, mask=inside, other=0.0).to(tl.float64)
        total += tl.sum(difference * difference, axis=0)
        if GRADIENT:
            slope = (double(scale) * difference).to(gradient.dtype.element_ty)
            tl.store(gradient + at, slope, mask=inside)
    tl.store(sums + program, total)


@triton.jit(do_not_specialize=["count", "scale"])
def _mean_kernel(
    sums,
    value,
    count,
    scale,
    COUNT: tl.constexpr,  # noqa: N803
):
    at = tl.arange(0, COUNT)
    total = tl.sum(tl.load(sums + at, mask=at < count, other=0.0), axis=0)
    tl.store(value, nan_unless_finite((double(scale) * total).to(value.dtype.element_ty)))


def mse(a: Tensor, b: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    """Compute the operator ``dipfast::mse``."""
    a = dense(a)
    count = a.numel()
    tiles = triton.cdiv(count, TILE)
    programs = min(tiles, numbers.PROGRAMS)
    of_one = 1 / count if count else math.nan
    slope = torch.empty_like(a) if gradient else a.new_empty(0)
    sums = a.new_empty(programs, dtype=torch.float64)
    value = a.new_empty((), dtype=torch.float64)
    with torch.cuda.device_of(a):
        if tiles:
            _mse_kernel[(programs,)](
                a,
                match(b, a),
                slope,
                sums,
                count,
                tiles,
                bits(2 * of_one),
                GRADIENT=gradient,
                TILE=TILE,
                **OPTIONS,
            )
        _mean_kernel[(1,)](sums, value, programs, bits(of_one), COUNT=numbers.PROGRAMS, **OPTIONS)
    return value, slope
