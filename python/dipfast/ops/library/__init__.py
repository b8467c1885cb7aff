"""The kernels as torch operators: ``torch.ops.dipfast.*``, with autograd.

Each operator returns its value together with the gradient that was computed in the same
pass, so that the backward pass is one multiplication.  CPU tensors go to the compiled
kernel, CUDA tensors to a Triton kernel where there is one (see
:mod:`dipfast.ops.library.triton_backend`), everything else to :mod:`dipfast.ops.reference`.
"""

from dipfast.ops.library.denoising import TvSolver
from dipfast.ops.library.metrics import mse, ssim, weighted_mse
from dipfast.ops.library.resampling import plain_resample, resample
from dipfast.ops.library.variation import total_variation, tv_objective

__all__ = [
    "TvSolver",
    "mse",
    "plain_resample",
    "resample",
    "ssim",
    "total_variation",
    "tv_objective",
    "weighted_mse",
]
