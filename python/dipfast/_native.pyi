"""Compiled kernels of dipfast; call them through ``dipfast.ops``.

Arrays are C-contiguous, all float32 or all float64.  With ``channels_last`` the channels
are the last axis, otherwise the last two axes are rows and columns.
"""

from typing import Final, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

_Floats: TypeAlias = NDArray[np.float32] | NDArray[np.float64]

__all__ = ["TvSolver", "__version__", "mse", "psnr", "total_variation", "tv_objective"]

__version__: Final[str]

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
def mse(a: _Floats, b: _Floats, *, gradient: _Floats | None = None) -> float: ...
def psnr(a: _Floats, b: _Floats, data_range: float) -> float: ...

@final
class TvSolver:
    def __new__(
        cls,
        f: _Floats,
        weight: float,
        *,
        kind: str = "isotropic",
        spatial_dims: int = 2,
        channels: int = 1,
        dual: _Floats | None = None,
    ) -> TvSolver: ...
    def advance(self, iterations: int) -> None: ...
    def gap(self) -> float: ...
    def image(self, out: _Floats) -> None: ...
    def dual(self, out: _Floats) -> None: ...
