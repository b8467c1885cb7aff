"""Denoisers of other packages: non-local means and BM3D."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["bm3d", "nlm"]


def nlm(image: Tensor, sigma: float) -> Tensor:
    """Non-local means, each channel for itself, as in the original of DeepRED."""
    from skimage.restoration import denoise_nl_means

    def one(plane: Any) -> Any:
        return denoise_nl_means(
            plane, h=0.6 * sigma, sigma=sigma, patch_size=5, patch_distance=6, fast_mode=True
        )

    return _through_numpy(image, lambda planes: np.stack([one(plane) for plane in planes]))


def bm3d(image: Tensor, sigma: float) -> Tensor:
    """BM3D, or CBM3D for three channels."""
    import bm3d as package

    def restore(planes: Any) -> Any:
        if len(planes) == 3:
            return np.moveaxis(package.bm3d_rgb(np.moveaxis(planes, 0, -1), sigma), -1, 0)
        return np.stack([package.bm3d(plane, sigma) for plane in planes])

    return _through_numpy(image, restore)


def _through_numpy(image: Tensor, function: Callable[[Any], Any]) -> Tensor:
    planes = image[0].detach().cpu().double().numpy()
    return torch.from_numpy(np.ascontiguousarray(function(planes)))[None].to(image)
