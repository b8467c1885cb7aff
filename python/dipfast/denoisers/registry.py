"""Denoisers under a name, and the packages that they need."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TypeAlias

from torch import Tensor

from dipfast import ops
from dipfast.denoisers import external
from dipfast.errors import MissingExtraError

__all__ = ["DENOISERS", "Denoiser", "get_denoiser"]

Denoiser: TypeAlias = Callable[[Tensor, float], Tensor]


def tv(image: Tensor, sigma: float) -> Tensor:
    """The native total-variation denoiser, edges of the colours together."""
    result: Tensor = ops.tv_denoise(image[0], sigma=sigma, channel_axis=0, joint_channels=True)
    return result[None]


# Denoisers under a name, and the packages that they need.
DENOISERS: dict[str, Denoiser] = {"tv": tv, "nlm": external.nlm, "bm3d": external.bm3d}
_PACKAGES = {"nlm": "skimage", "bm3d": "bm3d"}


def get_denoiser(name: str) -> Denoiser:
    """One of :data:`DENOISERS`.

    Raises
    ------
    ImportError
        If its package is missing, with what to do about it.
    """
    package = _PACKAGES.get(name)
    if package is not None and find_spec(package) is None:
        raise MissingExtraError(f"{name} needs {package}: pip install 'dipfast[{name}]'")
    return DENOISERS[name]
