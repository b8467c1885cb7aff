"""Collect the Triton kernels under the names of their operators.  Importing this imports Triton."""

from dipfast.ops._triton.mse import mse
from dipfast.ops._triton.numbers import INTERPRETED
from dipfast.ops._triton.total_variation import total_variation, tv_objective

__all__ = ["INTERPRETED", "mse", "total_variation", "tv_objective"]
