"""Declare the compiled kernels of dipfast, which ``dipfast.ops`` calls.

They fill the arrays that are given for results, and raise ``dipfast.errors.InputError`` and
``InputTypeError`` for arguments that do not fit together.  Arrays are C-contiguous, all float32
or all float64; ``mse`` and ``ssim`` also take images that are all uint8 or all uint16, and then
compute in float64, and ``NlRidgePass`` takes float32 alone.  With ``channels_last`` the channels
are the last axis, otherwise the last two axes are rows and columns.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

_Floats: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
_Pixels: TypeAlias = _Floats | NDArray[np.uint8] | NDArray[np.uint16]

__all__ = [
    "NlRidgePass",
    "Resampler",
    "TvDenoiser",
    "__version__",
    "add_normal",
    "batch_norm",
    "batch_norm_backward",
    "end_in_time",
    "interleave",
    "interleave_backward",
    "join_weights",
    "keep_blocks",
    "mse",
    "split_weights",
    "ssim",
    "threads_are_lost",
    "total_variation",
    "tv_objective",
]

__version__: Final[str]

def end_in_time(pipe: int, next: int, seconds: float, last_words: bytes) -> None: ...
def threads_are_lost() -> bool: ...
def keep_blocks(keep: bool) -> bool: ...
def total_variation(
    u: _Floats,
    *,
    kind: str = "anisotropic",
    epsilon: float = 0.0,
    spatial_dims: int = 2,
    channels_last: bool = False,
    gradient: _Floats | None = None,
) -> float: ...
def tv_objective(
    u: _Floats,
    y: _Floats,
    mask: _Floats | NDArray[np.uint8] | None,
    weight: float,
    *,
    mask_repeat: int = 1,
    kind: str = "anisotropic",
    epsilon: float = 0.0,
    spatial_dims: int = 2,
    channels_last: bool = False,
    gradient: _Floats | None = None,
) -> tuple[float, float]: ...
def mse(
    a: _Pixels,
    b: _Pixels,
    *,
    mask: _Floats | NDArray[np.uint8] | None = None,
    mask_plane: int = 1,
    mask_repeat: int = 1,
    images: int = 1,
    gradient: _Floats | None = None,
) -> list[float]: ...
def ssim(
    a: _Pixels,
    b: _Pixels,
    data_range: float,
    *,
    images: int = 1,
    channels_last: bool = False,
    map: _Floats | None = None,
    to_a: _Floats | None = None,
    to_b: _Floats | None = None,
) -> list[float]: ...

@final
class NlRidgePass:
    def __new__(
        cls,
        shape: Sequence[int],
        *,
        patch: int,
        group: int,
        reach: int,
        slices_reach: int = 0,
        step: int,
        share: float = 0.05,
        centred: bool = False,
        filters: str = "patches",
    ) -> NlRidgePass: ...
    @property
    def tiles(self) -> int: ...
    def add(
        self,
        noisy: NDArray[np.float32],
        guide: NDArray[np.float32],
        covariance: NDArray[np.float32],
        sums: NDArray[np.float32],
        weights: NDArray[np.float32],
        *,
        first: int,
        count: int,
        guide_covariance: NDArray[np.float32] | None = None,
        pilot: NDArray[np.float32] | None = None,
        gain: NDArray[np.float32] | None = None,
    ) -> None: ...

@final
class Resampler:
    def __new__(
        cls,
        kernel: str,
        size: tuple[int, int],
        result: tuple[int, int],
        *,
        factor: int = 1,
        phase: float = 0.5,
        adjoint: bool = False,
    ) -> Resampler: ...
    def apply(self, x: _Floats, y: _Floats, *, channels_last: bool = False) -> None: ...
    def matrices(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...

@final
class TvDenoiser:
    def __new__(
        cls,
        f: _Floats,
        weight: float,
        *,
        kind: str = "isotropic",
        spatial_dims: int = 2,
        channels: int = 1,
        dual: _Floats | None = None,
    ) -> TvDenoiser: ...
    def advance(self, iterations: int) -> None: ...
    def gap(self) -> float: ...
    def image(self, out: _Floats) -> None: ...
    def dual(self, out: _Floats) -> None: ...

# Layers of a network (N, H, W, C): float32, or the bits of bfloat16.
_Layer: TypeAlias = NDArray[np.float32] | NDArray[np.uint16]

def batch_norm(
    x: _Layer,
    weights: Sequence[NDArray[np.float32]],
    v: _Layer,
    statistics: NDArray[np.float32],
    *,
    slope: float,
    epsilon: float,
    crop: int,
    pad: int,
    reflect: bool,
) -> None: ...
def batch_norm_backward(
    of_v: _Layer,
    x: _Layer,
    weights: Sequence[NDArray[np.float32]],
    statistics: NDArray[np.float32],
    of_x: _Layer,
    of_weights: NDArray[np.float32],
    *,
    slope: float,
    epsilon: float,
    crop: int,
    pad: int,
    reflect: bool,
) -> None: ...
def interleave(fine: _Layer, coarse: _Layer, out: _Layer) -> None: ...
def interleave_backward(gradient: _Layer, of_coarse: _Layer) -> None: ...
def split_weights(weights: NDArray[np.float32], of_fine: _Layer, of_coarse: _Layer) -> None: ...
def join_weights(of_fine: _Layer, of_coarse: _Layer, gradient: NDArray[np.float32]) -> None: ...
def add_normal(
    z: NDArray[np.float32], level: float, seed: int, iteration: int, out: NDArray[np.float32]
) -> None: ...
