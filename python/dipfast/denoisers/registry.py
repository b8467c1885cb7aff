"""Name the denoisers, and the packages that they need."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TypeAlias

from torch import Tensor

from dipfast import ops
from dipfast.denoisers import external
from dipfast.denoisers.nl_ridge import nl_ridge_of_sigma
from dipfast.errors import MissingExtraError

__all__ = ["DENOISERS", "Denoiser", "get_denoiser"]

Denoiser: TypeAlias = Callable[[Tensor, float], Tensor]


def tv(image: Tensor, sigma: float) -> Tensor:
    """Denoise by total variation, with edges that all channels share.

    Parameters
    ----------
    image
        The image, of shape (1, C, H, W), in [0, 1].
    sigma
        Standard deviation of its noise, in units of a picture in [0, 1].

    Returns
    -------
    Tensor
        The denoised image, of the same shape.
    """
    result: Tensor = ops.tv_denoise(image[0], sigma=sigma, channel_axis=0, joint_channels=True)
    return result[None]


DENOISERS: dict[str, Denoiser] = {
    "tv": tv,
    "nlm": external.nlm,
    "bm3d": external.bm3d,
    "nl_ridge": nl_ridge_of_sigma,
}
"""Denoisers by name: functions of an image (1, C, H, W) and the standard deviation of its noise."""

# The package that a denoiser needs besides the dependencies of dipfast.
_PACKAGES = {"nlm": "skimage", "bm3d": "bm3d"}


def get_denoiser(name: str) -> Denoiser:
    """Return a denoiser of :data:`DENOISERS`, if its package is installed.

    Parameters
    ----------
    name
        ``"tv"``, total variation; ``"nlm"``, non-local means; ``"bm3d"``, BM3D; or
        ``"nl_ridge"``, non-local ridge regression.

    Returns
    -------
    Denoiser
        A function of an image (1, C, H, W) in [0, 1] and the standard deviation of its noise.

    Raises
    ------
    ImportError
        If its package is missing; the message has the command that installs it.
    """
    package = _PACKAGES.get(name)
    if package is not None and find_spec(package) is None:
        raise MissingExtraError(f"{name} needs {package}: pip install 'dipfast[{name}]'")
    return DENOISERS[name]
