"""Test which arguments the operations refuse."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dipfast import ops


class TestArguments:
    def test_wrong_arguments_are_named(self) -> None:
        x, big = np.zeros((4, 4)), np.zeros((12, 12))
        cases = [
            (lambda: ops.total_variation(np.zeros(4)), ValueError, "x must have rows and columns"),
            (lambda: ops.total_variation(x + 1j), TypeError, "x must hold real.*complex128"),
            (lambda: ops.total_variation(x, kind="l3"), ValueError, "kind must be.*'l3'"),
            (lambda: ops.total_variation(x, epsilon=0.1), ValueError, "epsilon is for.*0.1"),
            (
                lambda: ops.total_variation(x, kind="huber", epsilon=-1),
                ValueError,
                "epsilon must be finite and not neg",
            ),
            (lambda: ops.total_variation(x, spatial_dims=4), ValueError, "spatial_dims must be.*4"),
            (
                lambda: ops.total_variation(x, spatial_dims=3),
                ValueError,
                r"slices, rows and columns, got 2 dimension\(s\): pass x\[None\]$",
            ),
            (lambda: ops.total_variation(x, backend="gpu"), ValueError, "backend must be.*'gpu'"),
            (lambda: ops.tv_objective(x, x[1:], 1), ValueError, r"y must have the shape of u"),
            (
                lambda: ops.tv_objective(x, x, -1),
                ValueError,
                "tv_weight must be finite and not neg",
            ),
            (lambda: ops.tv_objective(x, x, math.nan), ValueError, "tv_weight.*nan"),
            (lambda: ops.tv_objective(x, x, 1, mask=np.ones(3)), ValueError, "mask must broadcast"),
            (lambda: ops.tv_objective(x, torch.zeros(4, 4), 1), TypeError, "all arrays or all"),
            (lambda: ops.mse(x, x[1:]), ValueError, "b must have the shape of a"),
            (lambda: ops.mse(np.zeros(0), np.zeros(0)), ValueError, "at least one element"),
            (lambda: ops.mse(x, torch.zeros(4, 4)), TypeError, "both arrays or both tensors"),
            (lambda: ops.psnr(x, x), ValueError, "data_range is needed"),
            (lambda: ops.mse(x, x, mask=np.ones(3)), ValueError, "mask must broadcast.*4, 4.*3,"),
            (lambda: ops.mse(x, x, mask=x + 1j), TypeError, "mask must hold real.*complex128"),
            (lambda: ops.mse(x, x, mask=torch.ones(4)), TypeError, "a, b and mask must be all"),
            (lambda: ops.mse(x[0, 0], x[0, 0], per_image=True), ValueError, "a must have an axis"),
            (lambda: ops.psnr(x, x + 1j, data_range=1), TypeError, "b must hold real.*complex128"),
            (lambda: ops.ssim(x, x, data_range=1), ValueError, "at least 11 rows.*got 4 x 4"),
            (lambda: ops.ssim(x[0], x[0], data_range=1), ValueError, "a must have rows and col"),
            (lambda: ops.ssim(big, big), ValueError, "data_range is needed.*float64"),
            (lambda: ops.ssim(big, big, data_range=math.nan), ValueError, "must be positive.*nan"),
            (lambda: ops.ssim(big, big[1:], data_range=1), ValueError, "b must have the shape of"),
            (
                lambda: ops.ssim(big, torch.ones(12, 12), data_range=1),
                TypeError,
                "both arrays or both",
            ),
            (
                lambda: ops.ssim(big, big, data_range=1, channel_axis=2),
                ValueError,
                "channel_axis=2 does not fit a of shape.*leave it out",
            ),
            (
                lambda: ops.ssim(big, big, data_range=1, per_image=True),
                ValueError,
                "a must have an axis of images",
            ),
            (
                lambda: ops.ssim(big, big, data_range=1, backend="triton"),
                ValueError,
                "triton.*no kernel",
            ),
            (lambda: ops.psnr(x, x, data_range=0), ValueError, "data_range must be positive"),
            (lambda: ops.downsample(np.zeros(4), 2), ValueError, "x must have rows and columns"),
            (lambda: ops.downsample(x + 1j, 2), TypeError, "x must hold real.*complex128"),
            (lambda: ops.downsample(x, 0), ValueError, "factor must be from 1.*got 0"),
            (lambda: ops.downsample(x, 5), ValueError, "factor must be from 1.*4 rows.*got 5"),
            (lambda: ops.downsample(x, 2.0), TypeError, "factor must be an integer, got 2.0"),
            (lambda: ops.downsample(x, 2, phase=False), ValueError, "phase must be one of.*False"),
            (lambda: ops.downsample(x, 2, phase=0.25), ValueError, "phase must be one of.*0.25"),
            (lambda: ops.downsample(x, 2, kernel="gauss"), ValueError, "kernel must be.*'gauss'"),
            (
                lambda: ops.downsample(x, 3, kernel="box"),
                ValueError,
                "multiples of factor=3.*4 x 4",
            ),
            (lambda: ops.downsample(x, 2, kernel="box", phase=0), ValueError, "phase must be 0.5"),
            (lambda: ops.downsample(x[:3], 3), ValueError, "more than 3 rows.*got 3 x 4"),
            (lambda: ops.downsample(x[:0], 1), ValueError, r"x must have at least one.*\(0, 4\)"),
            (lambda: ops.downsample(x, 2, backend="triton"), ValueError, "no kernel"),
            (
                lambda: ops.downsample_adjoint(x, 2, (4, 8)),
                ValueError,
                r"y must have shape \(\.\.\., 2, 4\).*got \(4, 4\)",
            ),
            (lambda: ops.resize(x, 4), TypeError, "size must be two integers.*got 4"),
            (lambda: ops.resize(x, (4, 4, 4)), TypeError, "size must be two integers"),
            (lambda: ops.resize(x, (4, 0)), ValueError, r"size must be positive, got \(4, 0\)"),
            (lambda: ops.resize(x, (4, 4), kernel="lanczos2"), ValueError, "kernel must be one"),
            (lambda: ops.resize_adjoint(x, (-1, 4)), ValueError, "size must be positive"),
            (lambda: ops.resize_adjoint(x[:, :0], (4, 4)), ValueError, "y must have at least one"),
            (lambda: ops.estimate_noise(np.zeros((2, 4, 4))), ValueError, "channel_axis"),
            (lambda: ops.estimate_noise(x * math.nan), ValueError, "image must be finite"),
        ]
        for call, error, message in cases:
            with pytest.raises(error, match=message):
                call()

    def test_arrays_do_not_import_torch(self) -> None:
        code = (
            "import sys, numpy as np, dipfast; x = np.ones((5, 4));"
            "dipfast.ops.total_variation(x); dipfast.ops.tv_objective(x, x, 1, mask=x > 0);"
            "dipfast.ops.psnr(x, x, data_range=1, mask=x > 0);"
            "y = np.ones((11, 12)); dipfast.ops.ssim(y, y, data_range=1);"
            "dipfast.ops.estimate_noise(x);"
            "dipfast.ops.downsample_adjoint(dipfast.ops.downsample(x, 2), 2, (5, 4));"
            "sys.exit('torch' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Metres(np.ndarray):
    """Have a unit, as arrays of astropy do."""

    unit = "m"
    value = np.ones((8, 9))


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "tv_denoise": lambda x: ops.tv_denoise(x, 0.3),
    "tv_denoise, init": lambda x: ops.tv_denoise(np.ones((8, 9)), 0.3, init=x),
    "total_variation": ops.total_variation,
    "total_variation by torch": partial(ops.total_variation, backend="torch"),
    "tv_objective": lambda x: ops.tv_objective(x, x, 0.3),
    "tv_objective by torch": lambda x: ops.tv_objective(x, x, 0.3, backend="torch"),
    "tv_objective, mask": lambda x: ops.tv_objective(np.ones((8, 9)), np.ones((8, 9)), 1, mask=x),
    "downsample": lambda x: ops.downsample(x, 2),
    "downsample_adjoint": lambda x: ops.downsample_adjoint(x, 2, (16, 18)),
    "resize": lambda x: ops.resize(x, (5, 6)),
    "resize by torch": lambda x: ops.resize(x, (5, 6), backend="torch"),
    "resize_adjoint": lambda x: ops.resize_adjoint(x, (5, 6)),
}


# Operations whose first argument alone is tested here, and which take tensors as well.
PLAIN = [name for name in OPERATIONS if "," not in name and "torch" not in name]


class TestKinds:
    """Objects that mean more than their numbers are refused with the next step."""

    @pytest.mark.parametrize("name", OPERATIONS)
    @pytest.mark.parametrize(
        ("x", "error", "message"),
        [
            ([[1.0] * 9] * 8, TypeError, r"got list: pass np\.asarray\("),
            (np.ma.masked_less(np.eye(8, 9), 1), ValueError, "has 64 masked pixels, .* inpaint"),
            (np.ones((8, 9)).view(Metres), TypeError, r"got Metres in m: pass \w+\.value"),
            (Image.new("L", (9, 8)), TypeError, r"got Image: pass np\.asarray\(\w+\.convert"),
            (b"a picture", TypeError, "read the file first"),
            (np.full((8, 9), "a"), TypeError, "must hold real numbers, got dtype <U1"),
            (np.ones((8, 9), object), TypeError, "must hold real numbers, got dtype object"),
        ],
    )
    def test_refused(self, name: str, x: Any, error: type, message: str) -> None:
        with pytest.raises(error, match=message):
            OPERATIONS[name](x)

    @pytest.mark.parametrize("name", PLAIN)
    def test_sparse_tensors_are_refused(self, name: str) -> None:
        with pytest.raises(TypeError, match=r"got one that is sparse: to_dense\(\) it"):
            OPERATIONS[name](torch.eye(8, 9).to_sparse())

    @pytest.mark.parametrize("name", OPERATIONS)
    def test_arrays_of_subclasses_are_arrays(self, name: str) -> None:
        x = np.random.default_rng(0).random((8, 9) if "init" not in name else (2, 8, 9))
        expected = OPERATIONS[name](x)
        kinds = [np.ma.masked_array(x, False), np.ma.masked_array(x), x.view(np.memmap)]
        for kind in [*kinds, x.view(np.matrix)] if x.ndim == 2 else kinds:
            result = OPERATIONS[name](kind)
            assert type(result) is type(expected)
            np.testing.assert_array_equal(result, expected)

    @pytest.mark.parametrize("name", PLAIN)
    def test_signals_have_a_way_out(self, name: str) -> None:
        for x in (np.ones(9), torch.ones(9)):
            with pytest.raises(ValueError, match=r"(\w+) must have rows.*: pass \1\[None\]$"):
                OPERATIONS[name](x)


class TestNumbers:
    """Weights are numbers of any kind, and nothing else."""

    @pytest.mark.parametrize(
        "number",
        [
            np.float32(0.25),
            np.array(0.25),
            torch.tensor(0.25),
            torch.tensor(0.25, dtype=torch.bfloat16),
            np.float64(0.25),
        ],
    )
    def test_of_every_kind(self, number: Any) -> None:
        u = np.random.default_rng(0).random((8, 9))
        expected = ops.tv_objective(u, 0 * u, 0.25)
        assert ops.tv_objective(u, 0 * u, number) == expected
        tensors = torch.from_numpy(u), torch.from_numpy(0 * u)
        assert ops.tv_objective(*tensors, number).item() == pytest.approx(expected)
        rounded = ops.total_variation(u, kind="huber", epsilon=0.25)
        assert ops.total_variation(u, kind="huber", epsilon=number) == rounded

    @pytest.mark.parametrize("bad", ["1", None, [1.0], np.ones(1), torch.ones(2), 1j])
    def test_others_are_refused(self, bad: Any) -> None:
        u = np.ones((8, 9))
        with pytest.raises(TypeError, match="tv_weight must be a number, got"):
            ops.tv_objective(u, u, bad)

    def test_gradients_that_would_not_flow_are_refused(self) -> None:
        u, weight = torch.ones(8, 9), torch.tensor(1.0, requires_grad=True)
        with pytest.raises(TypeError, match=r"carries no gradient: pass tv_weight\.detach\(\)"):
            ops.tv_objective(u, u, weight)
