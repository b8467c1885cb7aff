"""Share what all Triton kernels use: sizes, options and numbers in double precision.

Every program takes every n-th tile of the image and writes one sum per term; a second kernel of
one program adds these up.  Nothing is added atomically and the tiles depend on the shape alone,
so that results repeat bit by bit; nothing waits for the device, so that CUDA graphs can hold it.
"""

from __future__ import annotations

import struct

import triton
import triton.language as tl

__all__ = ["INTERPRETED", "OPTIONS", "PROGRAMS", "TILE", "bits", "double", "nan_unless_finite"]

# Programs of a kernel: enough to fill the largest devices once, and few enough that one program
# adds up their sums.
PROGRAMS = 2048
# Elements of a tile.
TILE = 1024

# Products are rounded before they are added, as on the CPU.
OPTIONS = {"enable_fp_fusion": False}


def bits(x: float) -> int:
    """Return the bits of a float64, as :func:`double` takes them."""
    return int(struct.unpack("<q", struct.pack("<d", x))[0])


@triton.jit
def double(bits):
    """Return the float64 of these bits: Triton passes floats in single precision."""
    return bits.to(tl.int64).to(tl.float64, bitcast=True)


@triton.jit
def nan_unless_finite(value):
    """Return a finite value itself, and NaN for others."""
    return tl.where(tl.abs(value) < float("inf"), value, float("nan"))


# Whether TRITON_INTERPRET=1 is set: then the decorator makes functions that NumPy carries out, on
# any tensor.
INTERPRETED = not isinstance(double, triton.JITFunction)
