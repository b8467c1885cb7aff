"""Compute on CUDA tensors with kernels in Triton, which is imported only when one is needed."""

from dipfast.ops._triton.backend import check_tensor, register

__all__ = ["check_tensor", "register"]
