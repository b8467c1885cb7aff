"""Compute with functional kernels: each has one meaning and several back ends.

For NumPy arrays they return arrays and floats, and do not import torch; for tensors they return
tensors, and gradients flow.

``channel_axis``
    Operations on pixels work on the last two axes (the last three of volumes, with
    ``spatial_dims=3``); all axes in front of them are many images.  ``None``, the default, also
    recognises up to four channels in the last axis, as in (H, W, 3), and asks where the shape
    does not tell, as in (3, 64, 4).  A number names the axis of the channels, wherever it is:
    ``-1`` behind the pixels, ``-3`` (``-4`` of volumes) in front of them.
``backend``
    ``"auto"``: the compiled kernel for arrays and CPU tensors; for CUDA tensors the Triton
    kernel where there is one and Triton works, else torch, as for other devices.
    ``"native"``: the compiled kernel; tensors of other devices travel through the host.
    ``"torch"``: the plain definition in :mod:`dipfast.ops._reference`.
    ``"triton"``: the Triton kernel, for CUDA tensors only (in Triton's interpreter, with the
    environment variable TRITON_INTERPRET=1, for any); ValueError where there is none.
"""

from dipfast.ops.mse import mse
from dipfast.ops.nl_ridge import nl_ridge
from dipfast.ops.noise_level import estimate_noise
from dipfast.ops.psnr import psnr
from dipfast.ops.resample import downsample, downsample_adjoint, resize, resize_adjoint
from dipfast.ops.ssim import ssim
from dipfast.ops.total_variation import total_variation, tv_objective
from dipfast.ops.tv_denoise import tv_denoise

__all__ = [
    "downsample",
    "downsample_adjoint",
    "estimate_noise",
    "mse",
    "nl_ridge",
    "psnr",
    "resize",
    "resize_adjoint",
    "ssim",
    "total_variation",
    "tv_denoise",
    "tv_objective",
]
