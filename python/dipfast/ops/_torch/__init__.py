"""Register the kernels as torch operators, ``torch.ops.dipfast.*``, with autograd.

Each operator returns its value together with the gradient that was computed in the same
pass, so that the backward pass is one multiplication.  CPU tensors go to the compiled
kernel, CUDA tensors to a Triton kernel where there is one (see
:mod:`dipfast.ops._triton.backend`), all others to :mod:`dipfast.ops._reference`.
"""

from dipfast.ops._torch.layers import add_normal, batch_norm_act, interleave, split_weights
from dipfast.ops._torch.mse import mse, weighted_mse
from dipfast.ops._torch.resample import plain_resample, resample
from dipfast.ops._torch.ssim import ssim
from dipfast.ops._torch.total_variation import total_variation, tv_objective

__all__ = [
    "add_normal",
    "batch_norm_act",
    "interleave",
    "mse",
    "plain_resample",
    "resample",
    "split_weights",
    "ssim",
    "total_variation",
    "tv_objective",
    "weighted_mse",
]
