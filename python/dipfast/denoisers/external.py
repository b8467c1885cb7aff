"""Call denoisers of other packages: non-local means and BM3D."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["bm3d", "nlm"]


def nlm(image: Tensor, sigma: float) -> Tensor:
    """Denoise by non-local means, each channel by itself, as in the original of DeepRED.

    Parameters
    ----------
    image
        The image, of shape (1, C, H, W), in [0, 1].
    sigma
        Standard deviation of its noise, in units of a picture in [0, 1].

    Returns
    -------
    Tensor
        The denoised image, of the same shape, dtype and device.
    """
    from skimage.restoration import denoise_nl_means

    def restore_plane(plane: Any) -> Any:
        return denoise_nl_means(
            plane, h=0.6 * sigma, sigma=sigma, patch_size=5, patch_distance=6, fast_mode=True
        )

    return _through_numpy(image, lambda planes: np.stack([restore_plane(p) for p in planes]))


def bm3d(image: Tensor, sigma: float) -> Tensor:
    """Denoise by BM3D, or by CBM3D for three channels.

    Parameters
    ----------
    image
        The image, of shape (1, C, H, W), in [0, 1].
    sigma
        Standard deviation of its noise, in units of a picture in [0, 1].

    Returns
    -------
    Tensor
        The denoised image, of the same shape, dtype and device.
    """
    import bm3d as package

    def restore(planes: Any) -> Any:
        if len(planes) == 3:
            return np.moveaxis(package.bm3d_rgb(np.moveaxis(planes, 0, -1), sigma), -1, 0)
        return np.stack([package.bm3d(plane, sigma) for plane in planes])

    return _through_numpy(image, restore)


def _through_numpy(image: Tensor, function: Callable[[Any], Any]) -> Tensor:
    """Apply a function of NumPy arrays (C, H, W) to a tensor (1, C, H, W)."""
    planes = image[0].detach().cpu().double().numpy()
    return torch.from_numpy(np.ascontiguousarray(function(planes)))[None].to(image)
