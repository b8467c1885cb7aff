"""Define every operation in plain torch.

The compiled kernels are held against these definitions, and devices that have no kernel of their
own run them.  Images are (..., H, W).  Sums run over all elements.
"""

from dipfast.ops._reference.layers import (
    add_normal,
    batch_norm_act,
    interleave,
    interleave_gradient,
    split_weights,
)
from dipfast.ops._reference.mse import (
    difference,
    mse,
    mse_gradient,
    over_images,
    total_weight,
)
from dipfast.ops._reference.nl_ridge import (
    nl_ridge_pass,
)
from dipfast.ops._reference.psnr import (
    decibels,
    psnr,
)
from dipfast.ops._reference.resample import (
    resample,
)
from dipfast.ops._reference.ssim import (
    SSIM_RADIUS,
    ssim,
    ssim_gradients,
    ssim_map,
)
from dipfast.ops._reference.total_variation import (
    masked,
    total_variation,
    total_variation_gradient,
    tv_objective,
    tv_objective_gradient,
)
from dipfast.ops._reference.tv_denoise import (
    TvDenoiser,
)

__all__ = [
    "SSIM_RADIUS",
    "TvDenoiser",
    "add_normal",
    "batch_norm_act",
    "decibels",
    "difference",
    "interleave",
    "interleave_gradient",
    "masked",
    "mse",
    "mse_gradient",
    "nl_ridge_pass",
    "over_images",
    "psnr",
    "resample",
    "split_weights",
    "ssim",
    "ssim_gradients",
    "ssim_map",
    "total_variation",
    "total_variation_gradient",
    "total_weight",
    "tv_objective",
    "tv_objective_gradient",
]
