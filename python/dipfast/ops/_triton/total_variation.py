"""Compute total variation, with or without a data term, in Triton."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from dipfast.ops._memory import dense, match
from dipfast.ops._triton import numbers
from dipfast.ops._triton.numbers import OPTIONS, TILE, bits, double, nan_unless_finite

__all__ = ["total_variation", "tv_objective"]

# Differences below SMALL and above LARGE are multiplied by RAISED and LOWERED before they are
# squared, because the type has no room for their squares.
SMALL_32, RAISED_32 = tl.constexpr(2.0**-48), tl.constexpr(2.0**100)
LARGE_32, LOWERED_32 = tl.constexpr(2.0**60), tl.constexpr(2.0**-68)
SMALL_64, RAISED_64 = tl.constexpr(2.0**-384), tl.constexpr(2.0**772)
LARGE_64, LOWERED_64 = tl.constexpr(2.0**508), tl.constexpr(2.0**-516)


@triton.jit
def _sqrt(x):
    """Return the square root, rounded to nearest."""
    # tl.sqrt is approximate in float32, and tl.sqrt_rn does not take float64.
    return tl.sqrt_rn(x) if x.dtype == tl.float32 else tl.sqrt(x)


@triton.jit
def _divide(a, b):
    """Return the quotient, rounded to nearest."""
    return tl.div_rn(a, b) if a.dtype == tl.float32 else a / b


@triton.jit
def _difference(u, at, x, ahead, step):
    """Return u[at + step] - x, and 0 where there is no such pixel."""
    following = tl.load(u + at + step, mask=ahead, other=0.0)
    return tl.where(ahead, following - x, 0.0)


@triton.jit
def _norm(a, b, c, epsilon, KIND: tl.constexpr):  # noqa: N803
    """Return the norm of the differences at a pixel, and of epsilon too if it is isotropic.

    Numbers for whose squares the type has no room are brought nearer to 1 first.
    """
    bend = tl.zeros_like(a)
    if KIND == "isotropic":
        bend += epsilon.to(a.dtype)
    largest = tl.maximum(tl.maximum(tl.abs(a), tl.abs(b)), tl.maximum(tl.abs(c), bend))
    scale = tl.zeros_like(a) + 1.0
    if a.dtype == tl.float32:
        scale = tl.where(largest < SMALL_32, RAISED_32, scale)
        scale = tl.where(largest > LARGE_32, LOWERED_32, scale)
    else:
        scale = tl.where(largest < SMALL_64, RAISED_64, scale)
        scale = tl.where(largest > LARGE_64, LOWERED_64, scale)
    a, b, c, bend = a * scale, b * scale, c * scale, bend * scale
    return _divide(_sqrt(a * a + b * b + c * c + bend * bend), scale)


@triton.jit
def _penalty(norm, epsilon, KIND: tl.constexpr):  # noqa: N803
    """Return what a pixel adds to the isotropic kinds."""
    bend = epsilon.to(norm.dtype)
    if KIND == "isotropic":
        value = norm - bend
    else:
        twice = tl.where(bend == 0, 1.0, 2 * bend)
        below = norm * _divide(norm, tl.zeros_like(norm) + twice)
        value = tl.where(norm <= bend, below, norm - bend / 2)
    return value


@triton.jit
def _slope(d, norm, epsilon, KIND: tl.constexpr):  # noqa: N803
    """Return the derivative of the penalty by the difference d; 0 where it has a kink."""
    if KIND == "anisotropic":
        slope = (d > 0).to(d.dtype) - (d < 0).to(d.dtype)
    else:
        if KIND == "huber":
            bend = epsilon.to(norm.dtype)
            norm = tl.where(norm < bend, bend, norm)
        slope = tl.where(norm == 0, 0.0, _divide(d, tl.where(norm == 0, 1.0, norm)))
    return slope


@triton.jit
def _slope_before(
    u,
    at,
    x,
    exists,
    back,
    ahead1,
    step1,
    ahead2,
    step2,
    epsilon,
    KIND: tl.constexpr,  # noqa: N803
    DIMS: tl.constexpr,  # noqa: N803
):
    """Return the slope of the previous pixel along an axis in the direction of x.

    The norm of that pixel is computed once more from its differences along the other axes, so
    that no program waits for another.
    """
    before = tl.load(u + at - back, mask=exists, other=0.0)
    d = tl.where(exists, x - before, 0.0)
    norm = d
    if KIND != "anisotropic":
        other = _difference(u, at - back, before, ahead1 & exists, step1)
        third = tl.zeros_like(d)
        if DIMS == 3:
            third = _difference(u, at - back, before, ahead2 & exists, step2)
        norm = _norm(d, other, third, epsilon, KIND)
    return _slope(d, norm, epsilon, KIND)


# In memory an image is ``rows`` rows of ``row_length`` numbers.  The next pixel of a row is
# ``step`` numbers away: 1, or the number of channels if these lie side by side.


@triton.jit(
    do_not_specialize=[
        "rows",
        "height",
        "depth",
        "channels",
        "column_tiles",
        "tiles",
        "mask_n",
        "mask_c",
        "mask_d",
        "mask_h",
        "mask_w",
        "weight",
        "epsilon",
    ]
)
def _variation_kernel(
    u,
    y,
    mask,
    gradient,
    sums,
    rows,
    row_length,
    plane,
    height,
    depth,
    channels,
    column_tiles,
    tiles,
    mask_n,
    mask_c,
    mask_d,
    mask_h,
    mask_w,
    weight,
    epsilon,
    KIND: tl.constexpr,  # noqa: N803
    DIMS: tl.constexpr,  # noqa: N803
    DATA: tl.constexpr,  # noqa: N803
    MASK: tl.constexpr,  # noqa: N803
    GRADIENT: tl.constexpr,  # noqa: N803
    CHANNELS_LAST: tl.constexpr,  # noqa: N803
    WIDE: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
):
    epsilon = double(epsilon)
    weight = double(weight)
    step = 1
    if CHANNELS_LAST:
        step = channels
    program = tl.program_id(0)
    first = program
    if WIDE:
        first = program.to(tl.int64)
    data_sum = tl.full([], 0.0, tl.float64)
    tv_sum = tl.full([], 0.0, tl.float64)
    for tile in range(first, tiles, tl.num_programs(0)):
        row = (tile // column_tiles) * ROWS + tl.arange(0, ROWS)[:, None]
        column = (tile % column_tiles) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
        inside = (row < rows) & (column < row_length)
        at = row.to(tl.int64) * row_length + column
        x = tl.load(u + at, mask=inside, other=0.0)

        line = row % height
        below = inside & (line + 1 < height)
        right = inside & (column + step < row_length)
        down = _difference(u, at, x, below, row_length)
        across = _difference(u, at, x, right, step)
        through = tl.zeros_like(x)
        behind = inside
        if DIMS == 3:
            behind = inside & ((row // height) % depth + 1 < depth)
            through = _difference(u, at, x, behind, plane)

        norm = x
        if KIND == "anisotropic":
            value = tl.abs(down) + tl.abs(across) + tl.abs(through)
        else:
            norm = _norm(down, across, through, epsilon, KIND)
            value = _penalty(norm, epsilon, KIND)
        # A pixel without neighbours has no difference that would show that it is not finite.
        value = tl.where(tl.abs(x) < float("inf"), value, float("nan"))
        tv_sum += tl.sum(tl.sum(tl.where(inside, value, 0.0), axis=1), axis=0).to(tl.float64)

        if GRADIENT:
            above = inside & (line > 0)
            left = inside & (column >= step)
            slope = _slope_before(
                u, at, x, above, row_length, right, step, behind, plane, epsilon, KIND, DIMS
            ) - _slope(down, norm, epsilon, KIND)
            slope += _slope_before(
                u, at, x, left, step, below, row_length, behind, plane, epsilon, KIND, DIMS
            ) - _slope(across, norm, epsilon, KIND)
            if DIMS == 3:
                front = inside & ((row // height) % depth > 0)
                slope += _slope_before(
                    u, at, x, front, plane, below, row_length, right, step, epsilon, KIND, DIMS
                ) - _slope(through, norm, epsilon, KIND)

        if DATA:
            residual = x - tl.load(y + at, mask=inside, other=0.0)
            m = tl.full([1, 1], 1.0, x.dtype)
            if MASK:
                outer = row // height
                mask_at = line.to(tl.int64) * mask_h
                if DIMS == 3:
                    mask_at += (outer % depth).to(tl.int64) * mask_d
                    outer = outer // depth
                if CHANNELS_LAST:
                    mask_at += outer.to(tl.int64) * mask_n
                    mask_at = mask_at + (column // channels).to(tl.int64) * mask_w
                    mask_at += (column % channels).to(tl.int64) * mask_c
                else:
                    mask_at += (outer // channels).to(tl.int64) * mask_n
                    mask_at += (outer % channels).to(tl.int64) * mask_c
                    mask_at = mask_at + column.to(tl.int64) * mask_w
                m = tl.load(mask + mask_at, mask=inside, other=0).to(x.dtype)
            # Selected instead of multiplied by 0, because NaN and infinity times 0 are NaN.
            residual = tl.where(m != 0, m * residual, 0.0)
            wide = tl.where(inside, residual, 0.0).to(tl.float64)
            data_sum += tl.sum(tl.sum(0.5 * wide * wide, axis=1), axis=0)
            if GRADIENT:
                slope = m * residual + weight.to(x.dtype) * slope

        if GRADIENT:
            tl.store(gradient + at, slope, mask=inside)

    tl.store(sums + program, tv_sum)
    if DATA:
        tl.store(sums + tl.num_programs(0) + program, data_sum)


@triton.jit(do_not_specialize=["count", "weight"])
def _terms_kernel(
    sums,
    value,
    data,
    tv,
    count,
    weight,
    DATA: tl.constexpr,  # noqa: N803
    COUNT: tl.constexpr,  # noqa: N803
):
    """Write the terms, and data + weight tv; without a data term, value is tv."""
    at = tl.arange(0, COUNT)
    total = tl.sum(tl.load(sums + at, mask=at < count, other=0.0), axis=0)
    if DATA:
        tl.store(tv, nan_unless_finite(total.to(tv.dtype.element_ty)))
        energy = tl.sum(tl.load(sums + count + at, mask=at < count, other=0.0), axis=0)
        tl.store(data, nan_unless_finite(energy.to(data.dtype.element_ty)))
        total = energy + double(weight) * total
    tl.store(value, nan_unless_finite(total.to(value.dtype.element_ty)))


def total_variation(
    u: Tensor, kind: str, epsilon: float, spatial_dims: int, gradient: bool
) -> tuple[Tensor, Tensor]:
    """Compute the operator ``dipfast::total_variation``."""
    value, _, _, slope = _variation(u, None, None, 1.0, kind, epsilon, spatial_dims, gradient)
    return value, slope


def tv_objective(
    u: Tensor,
    y: Tensor,
    mask: Tensor | None,
    weight: float,
    kind: str,
    epsilon: float,
    spatial_dims: int,
    gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the operator ``dipfast::tv_objective``."""
    return _variation(u, y, mask, weight, kind, epsilon, spatial_dims, gradient)


def _variation(
    u: Tensor,
    y: Tensor | None,
    mask: Tensor | None,
    weight: float,
    kind: str,
    epsilon: float,
    spatial_dims: int,
    gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return value, data term, TV and gradient; without y the two terms are empty."""
    u = dense(u, spatial_dims)
    channels_last = not u.is_contiguous()
    *leading, channels = (1, *u.shape[:-spatial_dims])
    *depth, height, width = u.shape[-spatial_dims:]
    shape = (math.prod(leading), channels, *(depth or (1,)), height, width)
    row_length = width * channels if channels_last else width
    rows = u.numel() // max(row_length, 1)

    strides: tuple[int, ...] = (0,) * 5
    if mask is not None:
        # A view in the shape of the image.  It is a copy only if leading axes, some of which are
        # broadcast, become one axis.
        mask = mask.expand_as(u).reshape(shape)
        strides = mask.stride()
        mask = mask.view(torch.uint8) if mask.dtype == torch.bool else mask

    columns_of_tile = min(128, max(16, triton.next_power_of_2(row_length)))
    rows_of_tile = TILE // columns_of_tile
    column_tiles = triton.cdiv(row_length, columns_of_tile)
    tiles = column_tiles * triton.cdiv(rows, rows_of_tile)
    programs = min(tiles, numbers.PROGRAMS)

    data = y is not None
    slope = torch.empty_like(u) if gradient else u.new_empty(0)
    sums = u.new_empty((2 if data else 1) * programs, dtype=torch.float64)
    terms = [u.new_empty(() if data or k == 0 else 0) for k in range(3)]
    with torch.cuda.device_of(u):  # does nothing for a tensor on the CPU
        if tiles:
            _variation_kernel[(programs,)](
                u,
                u if y is None else match(y, u),
                u if mask is None else mask,
                slope,
                sums,
                rows,
                row_length,
                row_length * height,
                height,
                shape[2],
                channels,
                column_tiles,
                tiles,
                *strides,
                bits(weight),
                bits(epsilon),
                KIND=kind,
                DIMS=spatial_dims,
                DATA=data,
                MASK=mask is not None,
                GRADIENT=gradient,
                CHANNELS_LAST=channels_last,
                WIDE=max(rows, row_length) + TILE >= 2**31,
                ROWS=rows_of_tile,
                COLUMNS=columns_of_tile,
                **OPTIONS,
            )
        _terms_kernel[(1,)](
            sums, *terms, programs, bits(weight), DATA=data, COUNT=numbers.PROGRAMS, **OPTIONS
        )
    value, energy, tv = terms
    return value, energy, tv, slope
