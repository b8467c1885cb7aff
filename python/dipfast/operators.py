"""Forward models: what the camera did to the clean image, y = A(u) + noise.

A forward model is a torch module with ``forward`` (image to measurement) and ``adjoint``
(back, with <A u, y> = <u, A' y>), both linear.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

__all__ = ["Identity", "Operator"]


class Operator(Protocol):
    """What the loop asks of a forward model."""

    def __call__(self, image: Tensor) -> Tensor:
        """A u, for u of shape (N, C, H, W)."""
        ...

    def adjoint(self, measurement: Tensor) -> Tensor:
        """A' y; has the shape of an image."""
        ...


class Identity(nn.Module):
    """A = 1: the measurement is the image itself and its noise.

    Examples
    --------
    >>> import torch
    >>> Identity()(torch.ones(1, 3, 4, 4)).shape
    torch.Size([1, 3, 4, 4])
    """

    def forward(self, image: Tensor) -> Tensor:
        return image

    def adjoint(self, measurement: Tensor) -> Tensor:
        return measurement
