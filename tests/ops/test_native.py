"""Test that errors of the compiled kernels are named exceptions of dipfast."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dipfast import _native
from dipfast.errors import InputError, InputTypeError

X = np.zeros((4, 6))

WRONG_VALUES: list[tuple[str, Callable[[], object]]] = [
    ("gradient has 5 elements, expected 24", lambda: _native.mse(X, X, gradient=np.zeros(5))),
    ("24 elements of a do not divide into 7", lambda: _native.mse(X, X, images=7)),
    ("at least 11 rows and columns, got 4 x 6", lambda: _native.ssim(X, X, 1.0)),
    ("kind must be", lambda: _native.total_variation(X, kind="huge")),
    ("u must be C-contiguous", lambda: _native.total_variation(X.T)),
    ("2 spatial dimensions", lambda: _native.total_variation(np.zeros(3))),
    ("phase must be 0 or 0.5", lambda: _native.Resampler("lanczos2", (8, 8), (2, 2), phase=0.3)),
    ("results must be positive", lambda: _native.Resampler("box", (4, 6), (0, 3))),
    ("kernel must be", lambda: _native.Resampler("lanczos9", (4, 6), (2, 3))),
    ("4 planes do not divide", lambda: _native.TvDenoiser(np.zeros((4, 3, 3)), 0.1, channels=3)),
]

WRONG_TYPES: list[tuple[str, Callable[[], object]]] = [
    ("y must be an array of float32 or float64", lambda: _native.tv_objective(X, [0.0], None, 1.0)),
    ("b must be an array", lambda: _native.mse(X, X.astype(np.float32))),
    ("dtype of f", lambda: _native.TvDenoiser(X, 0.1).image(X.astype(np.float32))),
]


@pytest.mark.parametrize(("message", "call"), WRONG_VALUES)
def test_values_that_do_not_fit(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize(("message", "call"), WRONG_TYPES)
def test_types_that_do_not_fit(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(InputTypeError, match=message):
        call()
