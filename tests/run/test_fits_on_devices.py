"""Fits on a device: nothing mixes its tensors with those of the CPU, or needs float64 of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.devices import pretended_device
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import dipfast
from dipfast.errors import MemoryLimitError
from dipfast.images.layout import Layout
from dipfast.networks import HourglassConfig
from dipfast.operators import Blur, Identity, Mask, gaussian_kernel
from dipfast.run import runner
from dipfast.run.prepare import Task, find_device, fit_device, prepare
from dipfast.run.record import identify
from dipfast.run.runner import run
from dipfast.settings.presets import Preset
from dipfast.settings.settings import DenoiseSettings, make_settings
from dipfast.stopping import WindowedVariance
from dipfast.tasks import _is_of_devices

DEVICES = ["cuda:0", "mps:0"]
TINY = Preset(4, (1 / 30, 0.005), HourglassConfig((8,), (8,), (4,)))

_rng = np.random.default_rng(0)
COLOUR = _rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
GREY = _rng.random((16, 16)).astype(np.float32)
HOLE = np.zeros((16, 16), dtype=bool)
HOLE[5:9, 4:12] = True
KERNEL = gaussian_kernel(0.6).numpy()

# What is done with pictures that `given` makes of arrays.
Given = Callable[[np.ndarray], Any]
CALLS: dict[str, Callable[[Given, Any], dipfast.Result]] = {
    "denoise": lambda given, options: dipfast.denoise(
        given(COLOUR), reference=given(COLOUR), channel_axis=-1, **options
    ),
    "denoise floats": lambda given, options: dipfast.denoise(
        given(GREY), reference=given(GREY), network_input=given(GREY), **options
    ),
    "denoise photons": lambda given, options: dipfast.denoise(
        given(COLOUR), channel_axis=-1, noise="poisson_gaussian", method="deep_red", **options
    ),
    "held out": lambda given, options: dipfast.denoise(
        given(GREY), sigma=0.1, stop="held_out", **options
    ),
    "es_wmv": lambda given, options: dipfast.denoise(
        given(GREY), stop=WindowedVariance(window=2), **options
    ),
    "es_emv": lambda given, options: dipfast.denoise(given(GREY), stop="es_emv", **options),
    "inpaint": lambda given, options: dipfast.inpaint(
        given(COLOUR), given(HOLE), reference=given(COLOUR), channel_axis=-1, **options
    ),
    "super_resolve": lambda given, options: dipfast.super_resolve(
        given(COLOUR), 2, channel_axis=-1, **options
    ),
    "restore": lambda given, options: dipfast.restore(
        given(COLOUR), Blur(torch.as_tensor(given(KERNEL))), channel_axis=-1, **options
    ),
    "restore, mask": lambda given, options: dipfast.restore(
        given(COLOUR), Mask(torch.as_tensor(given(~HOLE))), channel_axis=-1, **options
    ),
    "restore, double precision": lambda given, options: dipfast.restore(
        given(COLOUR), Blur(torch.from_numpy(KERNEL).double()), channel_axis=-1, **options
    ),
}
# What is there to be done on the CPU with pictures of a device.
DIRECT: dict[str, Callable[[Given, Any], dipfast.Result]] = {
    "denoise": lambda given, options: dipfast.denoise(
        given(COLOUR), quality="fast", channel_axis=-1, **options
    ),
    "inpaint": lambda given, options: dipfast.inpaint(
        given(COLOUR), given(HOLE), quality="fast", channel_axis=-1, **options
    ),
    "super_resolve": lambda given, options: dipfast.super_resolve(
        given(COLOUR), 2, quality="fast", channel_axis=-1, **options
    ),
    "restore": lambda given, options: dipfast.restore(
        given(COLOUR),
        Blur(torch.as_tensor(given(KERNEL))),
        method="pnp",
        channel_axis=-1,
        **options,
    ),
}


def on(device: torch.device) -> Given:
    return lambda x: torch.from_numpy(x).to(device)


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("call", CALLS)
def test_fits_of_arrays(call: str, name: str) -> None:
    with pretended_device(name):
        result = CALLS[call](lambda x: x, {"preset": TINY, "device": name, "snapshots": 1})
    assert result.found["device"] == name
    assert isinstance(result.image, np.ndarray)
    assert len(result.history["loss"]) == TINY.iterations
    assert all(map(math.isfinite, result.history["loss"]))
    assert not any(map(math.isnan, result.metrics.values()))
    assert result.snapshots[-1].image.shape == result.image.shape


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("call", CALLS)
def test_fits_of_tensors_of_the_device(call: str, name: str) -> None:
    with pretended_device(name) as device:
        options = {"preset": TINY, "device": name, "snapshots": 1}
        result = CALLS[call](on(device.itself), options)
        expected = CALLS[call](lambda x: x, options)
        assert result.image.device == result.snapshots[-1].image.device == device.itself
        assert np.array_equal(result.image.cpu().numpy(), expected.image)
        snapshots = [x.image.cpu().numpy() for x in result.snapshots]
        assert np.array_equal(snapshots, [x.image for x in expected.snapshots])
    assert result.metrics == expected.metrics


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("call", DIRECT)
def test_methods_without_a_network_take_tensors_of_the_device(call: str, name: str) -> None:
    with pretended_device(name) as device:
        image = DIRECT[call](on(device.itself), {}).image
        assert image.device == device.itself
        assert np.array_equal(image.cpu().numpy(), DIRECT[call](lambda x: x, {}).image)


def test_inpainting_keeps_the_known_pixels_of_snapshots() -> None:
    with pretended_device() as device:
        options: Any = {"preset": TINY, "device": device.itself, "snapshots": 1}
        result = dipfast.inpaint(on(device.itself)(COLOUR), HOLE, channel_axis=-1, **options)
        for snapshot in result.snapshots:
            assert np.array_equal(snapshot.image.cpu().numpy()[~HOLE], COLOUR[~HOLE])


def test_the_sum_of_windowed_variance_is_resumed_in_double_precision(tmp_path: Path) -> None:
    seen: list[Any] = []

    def interrupt(state: Any) -> None:
        if state.iteration == 3:
            raise StopIteration

    class Seen(WindowedVariance):
        def update(self, state: Any, memory: Any) -> Any:
            decision = super().update(state, memory)
            seen.append((memory["images"].device.type, memory["sum"].dtype))
            return decision

    options: Any = {"method": "dip", "stop": Seen(window=3), "max_iterations": 8, "sigma": 0.1}
    options |= {"preset": TINY, "device": "mps:0"}
    path = tmp_path / "checkpoint"
    with pretended_device():
        whole = dipfast.denoise(GREY, **options)
        dipfast.denoise(GREY, checkpoint=path, callback=interrupt, **options)
        resumed = dipfast.denoise(GREY, checkpoint=path, resume=True, **options)
    assert set(seen) == {("mps", torch.float64)}
    assert np.array_equal(resumed.image, whole.image)


# --- operators ---------------------------------------------------------------------------


class Weighted(nn.Module):
    """Multiply images by weights, and note on which device."""

    def __init__(self, weights: Tensor, *, moves: bool) -> None:
        super().__init__()
        if moves:
            self.register_buffer("weights", weights)
        else:
            self.weights = weights

    def forward(self, image: Tensor) -> Tensor:
        _seen.add(image.device.type)
        return self.weights * image


_seen: set[str] = set()


@pytest.mark.parametrize("name", DEVICES)
def test_an_operator_is_probed_where_the_fit_is(name: str) -> None:
    with pretended_device(name) as device:
        here, there = torch.rand(16, 16), torch.rand(16, 16).to(device.itself)
        options: Any = {"preset": TINY, "data_range": 2.0}
        # Weights of modules are moved, and other tensors have to be on the device.
        for operator in (
            Weighted(here, moves=True),
            Weighted(there, moves=True),
            lambda u: _seen.add(u.device.type) or there * u,
        ):
            for image in (GREY, on(device.itself)(GREY)):
                _seen.clear()
                dipfast.restore(image, operator, device=name, **options)
                assert {device.itself.type} == _seen
        for operator in (Weighted(here, moves=False), lambda u: here * u):
            with pytest.raises(ValueError, match=rf"operator must have its tensors on {name}.*not"):
                dipfast.restore(GREY, operator, device=name, **options)
        _seen.clear()
        dipfast.restore(GREY, Weighted(there, moves=True), device="cpu", **options)
        assert {"cpu"} == _seen
        with pytest.raises(ValueError, match="operator must have its tensors on cpu, the device"):
            dipfast.restore(GREY, lambda u: there * u, device="cpu", **options)
        with pytest.raises(ValueError, match=f"on the device of the images, {name}, got cpu"):
            dipfast.restore(GREY, lambda u: u.cpu(), device=name, **options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Expected all tensors to be on the same device, but found at least two devices", True),
        (
            "Input type (torch.cuda.FloatTensor) and weight type (torch.FloatTensor) "
            "should be the same",
            True,
        ),
        (
            "Input type (torch.FloatTensor) and weight type (torch.cuda.FloatTensor) "
            "should be the same",
            True,
        ),
        ("Input type (MPSFloatType) and weight type (torch.FloatTensor) should be the same", True),
        ("Input type (float) and bias type (double) should be the same", False),
        (
            "Input type (torch.cuda.FloatTensor) and weight type (torch.cuda.DoubleTensor) "
            "should be the same",
            False,
        ),
        ("expected input to have 3 channels", False),
    ],
)
def test_what_torch_says_of_devices(text: str, expected: bool) -> None:
    assert _is_of_devices(RuntimeError(text)) is expected


def make_jobs(image: Any, operator: Any, **options: Any) -> tuple[Task, Any, list[Any]]:
    settings = make_settings(DenoiseSettings, {"preset": TINY, **options})
    task = Task(image, Layout.of(image, data_range=1.0), [operator])
    return task, settings, prepare(task, settings)


def test_a_job_stays_on_the_cpu() -> None:
    with pretended_device() as device:
        operator = Blur(torch.from_numpy(KERNEL).to(device.itself))
        given = on(device.itself)(GREY)
        _, _, (job,) = make_jobs(given, operator, device="mps:0", reference=given)
        for _ in range(2):  # before and after a run
            tensors = [job.problem.measurement, job.baseline, job.reference]
            tensors += job.problem.operator.buffers()
            assert {x.device.type for x in tensors} == {"cpu"}
            run(job)


@pytest.mark.parametrize("name", DEVICES)
def test_the_identity_of_a_run_is_computed_on_the_cpu(name: str) -> None:
    _seen.clear()
    weights = torch.rand(16, 16)
    given, operator = torch.from_numpy(GREY), Weighted(weights, moves=True)
    expected = identify(*make_jobs(given, operator, device="cpu"))
    with pretended_device(name) as device:
        operator = Weighted(weights.to(device.itself), moves=True)
        found = identify(*make_jobs(on(device.itself)(GREY), operator, device=name))
        assert {"cpu"} == _seen
        # What cannot be moved is computed where it is.
        fixed = Weighted(weights.to(device.itself), moves=False)
        there = identify(*make_jobs(on(device.itself)(GREY), fixed, device=name))
    assert found.pop("device") == there.pop("device") == device.itself.type
    assert expected.pop("device") == "cpu"
    assert found == there == expected


# --- which device ------------------------------------------------------------------------


@pytest.mark.parametrize("has_gpu", [True, False])
def test_a_tensor_is_fitted_on_its_own_gpu(has_gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    other = torch.device("cuda" if has_gpu else "cpu")
    settings = make_settings(DenoiseSettings, {})
    direct = make_settings(DenoiseSettings, {"quality": "fast"})
    with FakeTensorMode():
        image = torch.empty(8, 8, device="cuda:1")
        assert find_device("auto", image) == torch.device("cuda:1")
        assert find_device("cpu", image) == torch.device("cpu")
        assert fit_device(settings, image) == torch.device("cuda:1")
        assert fit_device(direct, image) == torch.device("cpu")
    for image in (GREY, torch.from_numpy(GREY), None):
        assert find_device("auto", image) == other
    with pretended_device("mps:0") as device:
        assert find_device("auto", on(device.itself)(GREY)) == other


def test_auto_takes_the_device_of_the_image() -> None:
    with pretended_device("cuda:0") as device:
        result = dipfast.denoise(on(device.itself)(GREY), preset=TINY)
        assert result.found["device"] == "cuda:0"
        assert result.image.device == device.itself


# --- memory ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        "[enforce fail at alloc_cpu.cpp:75] DefaultCPUAllocator: can't allocate memory: you tried",
        "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory: you tried to",
        "MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB)",
        "CUDA error: out of memory",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_every_device_that_runs_out_of_memory(
    message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(runner.Runner):
        def run(self) -> Any:
            raise RuntimeError(message)

    monkeypatch.setattr(runner, "Runner", Full)
    _, _, (job,) = make_jobs(GREY, Identity(), device="cpu")
    with pytest.raises(MemoryLimitError, match="memory"):
        run(job)


def test_other_errors_are_not_those_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(runner.Runner):
        def run(self) -> Any:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")

    monkeypatch.setattr(runner, "Runner", Broken)
    _, _, (job,) = make_jobs(GREY, Identity(), device="cpu")
    with pytest.raises(RuntimeError, match="EXECUTION_FAILED"):
        run(job)
