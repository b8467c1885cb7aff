"""Make the compiled resampling operators, and keep them for images of the same size."""

from __future__ import annotations

from functools import lru_cache

from dipfast import _native

__all__ = ["resampler"]

Size = tuple[int, int]


@lru_cache(maxsize=64)
def resampler(
    kernel: str, image: Size, result: Size, factor: int, phase: float, adjoint: bool
) -> _native.Resampler:
    """Return the operator from images of size ``image`` to ``result``, or its adjoint."""
    return _native.Resampler(kernel, image, result, factor=factor, phase=phase, adjoint=adjoint)
