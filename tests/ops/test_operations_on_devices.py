"""Operations on tensors of other devices than the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.devices import pretended_device
from tests.ops.tensors import value_and_gradients
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from dipfast import ops

# Operations of several tensors, each with the names of its tensors.
SEVERAL: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {
    "mse": (("a", "b"), ops.mse),
    "mse, mask": (("a", "b", "mask"), lambda a, b, m: ops.mse(a, b, mask=m)),
    "mse, native": (("a", "b"), lambda a, b: ops.mse(a, b, backend="native")),
    "psnr": (("a", "b", "mask"), lambda a, b, m: ops.psnr(a, b, data_range=1.0, mask=m)),
    "ssim": (("a", "b"), lambda a, b: ops.ssim(a, b, data_range=1.0)),
    "tv_objective": (("u", "y"), lambda u, y: ops.tv_objective(u, y, 0.1)),
    "tv_objective, mask": (
        ("u", "y", "mask"),
        lambda u, y, m: ops.tv_objective(u, y, 0.1, mask=m),
    ),
    "tv_objective, torch": (
        ("u", "y", "mask"),
        lambda u, y, m: ops.tv_objective(u, y, 0.1, mask=m, backend="torch"),
    ),
}


@pytest.mark.parametrize("operation", SEVERAL)
def test_tensors_of_two_devices_are_refused_by_name(operation: str) -> None:
    names, function = SEVERAL[operation]
    # Of fake tensors no operation could read a value before the check.
    with FakeTensorMode():
        for place in range(1, len(names)):
            devices = ["cuda:1"] * len(names)
            devices[place] = "cpu"
            tensors = [torch.empty(16, 16, device=device) for device in devices]
            message = f"{names[place]} must be on the device of {names[0]}, cuda:1, got cpu"
            with pytest.raises(ValueError, match=message):
                function(*tensors)


def test_a_dual_variable_of_another_device_is_refused() -> None:
    with pretended_device() as device:
        image, dual = torch.rand(8, 8), torch.zeros(2, 8, 8).to(device.itself)
        with pytest.raises(ValueError, match="init must be on the device of image, cpu, got mps:0"):
            ops.tv_denoise(image, 0.1, init=dual)


def test_arrays_have_no_device() -> None:
    image = torch.rand(4, 4).numpy()
    assert ops.mse(image, image, mask=image > 0.5) == 0
    with pytest.raises(TypeError, match="both arrays or both tensors"):
        ops.mse(image, torch.from_numpy(image))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64, torch.float32])
@pytest.mark.parametrize(
    "operation",
    {
        "mse": lambda a, b: ops.mse(a, b, return_gradient=True),
        "mse, torch": lambda a, b: ops.mse(a, b, backend="torch", return_gradient=True),
        "mse, mask": lambda a, b: ops.mse(a, b, mask=b > 100, per_image=True),
        "psnr": lambda a, b: ops.psnr(a, b, data_range=255),
        "psnr, wide range": lambda a, b: ops.psnr(a, b, data_range=1e60),
        "ssim": lambda a, b: ops.ssim(a, b, data_range=255, return_map=True),
        "total_variation": lambda a, b: ops.total_variation(a, return_gradient=True),
        "tv_objective": lambda a, b: ops.tv_objective(a, b, 0.1, return_gradient=True),
        "tv_denoise": lambda a, b: ops.tv_denoise(a, 5.0),
        "nl_ridge": lambda a, b: ops.nl_ridge(a, 5.0, speed="fast"),
        "downsample": lambda a, b: ops.downsample(a, 2),
        "resize_adjoint": lambda a, b: ops.resize_adjoint(a, (20, 20)),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_device_without_float64(
    operation: tuple[str, Callable[..., Any]], dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, 256, (16, 16), generator=generator).to(dtype) for _ in range(2))
    _, function = operation
    expected = function(a, b)
    with pretended_device("mps:0") as device:
        found = function(a.to(device.itself), b.to(device.itself))
        for x, y in zip(*(r if isinstance(r, tuple) else (r,) for r in (found, expected))):
            assert x.device == device.itself
            assert x.dtype != torch.float64
            # float32 has seven digits.
            torch.testing.assert_close(x.cpu().double(), y.double(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_nothing_waits_for_the_device(backend: Any) -> None:
    def functions(u: Tensor, y: Tensor, m: Tensor) -> Tensor:
        options: Any = {"backend": backend, "channel_axis": 1}
        form: Any = {**options, "kind": "isotropic", "epsilon": 0.1}
        value = ops.total_variation(u, **options) + ops.total_variation(u, **form)
        value = value + ops.tv_objective(u, y, 0.3, mask=m, **form)
        value = value + ops.mse(u, y, backend=backend) + ops.mse(u, y, mask=m, backend=backend)
        return value + ops.psnr(u, y, data_range=1.0, backend=backend)

    with pretended_device("cuda:0") as device:
        tensors = [torch.rand(2, 3, 16, 17).to(device.itself) for _ in range(3)]
        value_and_gradients(functions, *tensors)
        assert device.reads == []
