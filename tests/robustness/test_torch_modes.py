"""Modes of torch and NumPy do not change a result, and are the same after a call as before."""

from __future__ import annotations

import contextlib
import random
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.devices import pretended_device
from torch import Tensor, nn
from torch.nn import functional as F

import dipfast
from dipfast.model.noise import NoiseModel
from dipfast.networks import HourglassConfig
from dipfast.operators import Blur, Mask, gaussian_kernel
from dipfast.prior.loop import DeepImagePrior
from dipfast.prior.methods import make_stages
from dipfast.prior.stages import Stage
from dipfast.settings.presets import Preset
from dipfast.stopping import Decision, StopRule
from dipfast.torch_modes import plain_modes

TINY = Preset(4, (1 / 30, 0.005), HourglassConfig((8,), (8,), (4,)))
KERNEL = torch.tensor([[0.0, 0.1, 0.0], [0.1, 0.6, 0.1], [0.0, 0.1, 0.0]])

_rng = np.random.default_rng(0)
COLOUR = _rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
GREY = _rng.random((16, 16)).astype(np.float32)
HOLE = np.zeros((16, 16), dtype=bool)
HOLE[5:9, 4:12] = True
Y = torch.from_numpy(COLOUR).permute(2, 0, 1)[None] / 255


def bits(*arrays: Any) -> bytes:
    return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


def bits_of(result: dipfast.Result) -> bytes:
    return bits(result.image, result.raw_image, result.stop_output, result.history["loss"])


def loop(y: Tensor = Y, *stages: Stage, **options: Any) -> bytes:
    options = {"network": TINY.network, **options}
    prior = DeepImagePrior(y, stages or [Stage("tv", 2, 0.1), Stage("dip", 2)], **options)
    return bits(*(x for state in prior for x in (state.image, state.average, state.terms.value)))


def average(u: Tensor) -> Tensor:
    return F.avg_pool2d(u, 2)


CALLS: dict[str, Callable[[], bytes]] = {
    "denoise": lambda: bits_of(dipfast.denoise(COLOUR, preset=TINY)),
    "denoise a tensor": lambda: bits_of(dipfast.denoise(torch.from_numpy(GREY), preset=TINY)),
    "denoise photons": lambda: bits_of(
        dipfast.denoise(COLOUR, preset=TINY, noise="poisson_gaussian", method="deep_red")
    ),
    "inpaint": lambda: bits_of(dipfast.inpaint(COLOUR, HOLE, preset=TINY)),
    "super_resolve": lambda: bits_of(dipfast.super_resolve(GREY, 3, preset=TINY)),
    "restore": lambda: bits_of(
        dipfast.restore(COLOUR, Blur(gaussian_kernel(0.6)), preset=TINY, reference=COLOUR)
    ),
    "restore, operator of your own": lambda: bits_of(
        dipfast.restore(GREY, average, image_shape=(32, 32), preset=TINY)
    ),
    "loop": loop,
    "loop in double precision": lambda: loop(Y.double()),
    "loop from coordinates": lambda: loop(input="meshgrid"),
    "loop with a denoiser": lambda: loop(Y, *make_stages("deep_red", 4, 0.1)),
    "loop with much": lambda: loop(
        operator=Blur(KERNEL), noise=NoiseModel(0.1, 0.01, low=0.0, high=1.0)
    ),
}


@contextlib.contextmanager
def setting(change: Callable[[Any], object], on: Any, off: Any) -> Iterator[None]:
    change(on)
    try:
        yield
    finally:
        change(off)


@contextlib.contextmanager
def anomalies() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is slow
        mode = torch.autograd.set_detect_anomaly(True)
    with mode:
        yield


def seed_everything(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


MODES: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "grad disabled": lambda: torch.set_grad_enabled(False),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to half": lambda: torch.autocast("cpu", torch.float16),
    "autocast for CUDA": lambda: setting(
        lambda on: torch.set_autocast_enabled("cuda", on), True, False
    ),
    "default float64": lambda: setting(torch.set_default_dtype, torch.float64, torch.float32),
    "default bfloat16": lambda: setting(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "default device": lambda: setting(torch.set_default_device, "meta", None),
    "device": lambda: torch.device("meta"),
    "deterministic": lambda: setting(torch.use_deterministic_algorithms, True, False),
    "anomalies": anomalies,
    "seeded": lambda: setting(seed_everything, 1, 2),
    "flush to zero": lambda: setting(torch.set_flush_denormal, True, False),
    "matmul precision": lambda: setting(torch.set_float32_matmul_precision, "medium", "highest"),
    "tensors kept elsewhere": torch.autograd.graph.save_on_cpu,
    "forward derivatives": torch.autograd.forward_ad.dual_level,
    "errors of NumPy": lambda: np.errstate(all="raise"),
}


def state_of_modes() -> tuple[Any, ...]:
    """Return everything about modes that a caller could notice."""
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_enabled("cuda"),
        torch.get_autocast_dtype("cpu"),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_anomaly_enabled(),
        torch.get_float32_matmul_precision(),
        torch.get_num_threads(),
        np.geterr(),
        torch.get_rng_state().numpy().tobytes(),
        random.getstate(),
        str(np.random.get_state()),  # noqa: NPY002
    )


@pytest.fixture(scope="module")
def plain() -> dict[str, bytes]:
    with pytest.MonkeyPatch.context() as patch:
        # As in the tests (``single_precision``), whose fixtures come later than this one.
        patch.setattr("dipfast.run.precision._is_bfloat16_faster", lambda: False)
        return {name: call() for name, call in CALLS.items()}


@pytest.mark.parametrize("mode", MODES)
def test_same_bits_and_modes_as_before(mode: str, plain: dict[str, bytes]) -> None:
    with MODES[mode]():
        before = state_of_modes()
        found = {name: call() for name, call in CALLS.items()}
        assert state_of_modes() == before
    if mode != "matmul precision":  # with it, newer processors multiply in half precision
        assert [name for name in CALLS if found[name] != plain[name]] == []


def test_all_at_once(plain: dict[str, bytes]) -> None:
    names = ("autocast", "default float64", "device", "deterministic", "inference_mode")
    with contextlib.ExitStack() as modes:
        for name in names:
            modes.enter_context(MODES[name]())
        assert CALLS["denoise"]() == plain["denoise"]
        assert CALLS["loop"]() == plain["loop"]


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode", "autocast", "device"])
def test_the_caller_has_its_own_modes_between_iterations(mode: str) -> None:
    with MODES[mode]():
        before = state_of_modes()
        for _ in DeepImagePrior(Y, [Stage("dip", 3)], network=TINY.network):
            assert state_of_modes() == before


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode", "autocast", "device"])
def test_modes_are_as_before_after_an_error(mode: str) -> None:
    class Wrong(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            raise ArithmeticError

        def adjoint(self, measurement: Tensor) -> Tensor:
            return measurement

    def callback(state: Any) -> None:
        raise ArithmeticError

    with MODES[mode]():
        before = state_of_modes()
        with pytest.raises(ArithmeticError):
            dipfast.denoise(GREY, preset=TINY, callback=callback)
        assert state_of_modes() == before
        with pytest.raises(ArithmeticError):
            next(DeepImagePrior(Y, [Stage("dip", 3)], operator=Wrong(), network=TINY.network))
        assert state_of_modes() == before
        with pytest.raises(TypeError, match="float32 or float64"):
            DeepImagePrior(Y.half(), [Stage("dip", 3)])
        assert state_of_modes() == before


def test_what_is_called_from_inside_sees_plain_modes() -> None:
    seen = set()

    def look() -> None:
        seen.add(state_of_modes()[:7])

    class Own(StopRule):
        def update(self, state: Any, memory: Any) -> Decision:
            look()
            return Decision()

    def operator(u: Tensor) -> Tensor:
        look()
        return 1 * u

    options: Any = {"preset": TINY, "stop": Own(), "callback": lambda state: look()}
    look()
    with MODES["inference_mode"](), MODES["autocast"](), MODES["device"]():
        dipfast.restore(GREY, operator, **options)
    assert len(seen) == 1


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode", "default float64", "device"])
def test_state_of_a_loop_taken_and_put_back(mode: str) -> None:
    stages = [Stage("dip", 6)]
    whole = DeepImagePrior(Y, stages, network=TINY.network)
    list(whole)
    first = DeepImagePrior(Y, stages, network=TINY.network)
    for _ in range(3):
        next(first)
    with MODES[mode]():
        second = DeepImagePrior(Y, stages, network=TINY.network)
        second.load(first.state_dict())
        list(second)
    assert torch.equal(second.average, whole.average)


def test_problem_set_in_inference_mode() -> None:
    known = torch.from_numpy(GREY) > 0.1
    outputs = []
    for mode in (contextlib.nullcontext, torch.inference_mode):
        prior = DeepImagePrior(Y, [Stage("dip", 3)], network=TINY.network, operator=Mask(known))
        with mode():
            prior.problem = replace(prior.problem, held_out=~known[None, None])
        list(prior)
        outputs.append(prior.output)
    assert torch.equal(*outputs)


# --- tensors made in other ways -----------------------------------------------------------------


def made_in_inference_mode(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return x.clone()


ORIGINS: dict[str, Callable[[Tensor], Tensor]] = {
    "of inference": made_in_inference_mode,
    "requires gradients": lambda x: x.clone().requires_grad_(),
    "computed": lambda x: x.clone().requires_grad_() * 1.0,
    "parameter": lambda x: nn.Parameter(x.clone()),
}


class Convolution(nn.Module):
    """Stand for an operator of a user."""

    def __init__(self, kernel: Tensor) -> None:
        super().__init__()
        self.register_buffer("kernel", kernel)

    def forward(self, image: Tensor) -> Tensor:
        channels = image.shape[1]
        return F.conv2d(image, self.kernel.expand(channels, 1, 3, 3), padding=1, groups=channels)

    def adjoint(self, measurement: Tensor) -> Tensor:
        return self(measurement)


TAKERS: dict[str, Callable[[Callable[[Tensor], Tensor]], bytes]] = {
    "image": lambda f: bits_of(dipfast.denoise(f(torch.from_numpy(GREY)), preset=TINY)),
    "reference and input": lambda f: bits_of(
        dipfast.denoise(
            torch.from_numpy(GREY),
            preset=TINY,
            reference=f(torch.from_numpy(GREY)),
            network_input=f(torch.from_numpy(GREY)),
        )
    ),
    "mask": lambda f: bits_of(
        dipfast.inpaint(torch.from_numpy(GREY), f(torch.from_numpy(HOLE).float()), preset=TINY)
    ),
    "kernel": lambda f: bits_of(dipfast.restore(GREY, Blur(f(KERNEL)), preset=TINY)),
    "measurement": lambda f: loop(f(Y)),
    "z": lambda f: loop(input=f(0.1 * Y)),
    "operator": lambda f: loop(operator=Convolution(f(KERNEL))),
    "mask of the loop": lambda f: loop(operator=Mask(f(torch.from_numpy(GREY)) > 0.1)),
}


@pytest.mark.parametrize("taker", TAKERS)
def test_tensors_of_every_origin(taker: str) -> None:
    plain = TAKERS[taker](torch.clone)
    for origin in ORIGINS.values():
        given: list[Tensor] = []

        def make(x: Tensor, origin: Any = origin, given: list[Tensor] = given) -> Tensor:
            given.append(origin(x))
            return given[-1]

        assert TAKERS[taker](make) == plain
        assert all(x.grad is None for x in given if x.is_leaf)


def test_network_that_cannot_be_fitted_is_refused() -> None:
    with torch.inference_mode():
        network = nn.Conv2d(3, 3, 1)
    with pytest.raises(ValueError, match=r"network must not be made within torch\.inference_mode"):
        loop(network=network, input=Y)
    network = nn.Conv2d(3, 3, 1).requires_grad_(False)
    with pytest.raises(ValueError, match="network must have weights that require gradients"):
        loop(network=network, input=Y)


def test_weights_that_are_frozen_stay() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    network[0].requires_grad_(False)
    before = [weight.detach().clone() for weight in network.parameters()]
    loop(network=network, input=Y)
    same = [torch.equal(a, b) for a, b in zip(before, network.parameters())]
    assert same == [True, True, False, False]


# --- where there is no plain mode --------------------------------------------------------


@pytest.mark.parametrize("transform", [torch.func.vmap, torch.func.grad])
def test_transforms_are_refused_by_name(transform: Callable[..., Any]) -> None:
    def denoised(y: Tensor) -> Tensor:
        return dipfast.denoise(y, preset=TINY).image.sum()

    def looped(y: Tensor) -> Tensor:
        return next(DeepImagePrior(Y, [Stage("dip", 3)], network=TINY.network)).image.sum()

    for function in (denoised, looped):
        with pytest.raises(RuntimeError, match=r"inside a transform of torch\.func"):
            transform(function)(torch.from_numpy(GREY)[:, None])


def test_tensors_without_data_are_refused() -> None:
    with pytest.raises(TypeError, match=r"measurement must hold data, got .* 'meta'"):
        loop(torch.empty(1, 3, 8, 8, device="meta"))


# --- deterministic algorithms on machines with a GPU -------------------------------------


@pytest.fixture(params=[False, True], ids=["raises", "warns"])
def deterministic(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Turn the mode on, and return whether it only warns."""
    torch.use_deterministic_algorithms(True, warn_only=request.param)
    yield request.param
    torch.use_deterministic_algorithms(False)


def is_deterministic() -> bool:
    return torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("name", ["cuda:0", "mps:0"])
def test_a_fit_on_a_gpu_where_algorithms_have_to_be_deterministic(
    name: str, deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not torch itself is told so, which would ask the driver.
    monkeypatch.setattr("dipfast.torch_modes._has_gpu", lambda: True)
    seen = []
    with pretended_device(name) as device:
        options: Any = {"preset": TINY, "device": name, "reference": COLOUR}
        found = dipfast.denoise(
            COLOUR, callback=lambda _: seen.append(is_deterministic()), **options
        )
        prior = DeepImagePrior(Y.to(device.itself), [Stage("tv", 3, 0.1)], network=TINY.network)
        assert [is_deterministic() for _ in prior] == [True] * 3  # between iterations
        torch.use_deterministic_algorithms(False)
        assert bits_of(dipfast.denoise(COLOUR, **options)) == bits_of(found)
        torch.use_deterministic_algorithms(True, warn_only=deterministic)
    assert seen == [False] * TINY.iterations


def test_deterministic_algorithms_are_as_before(
    deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state() -> tuple[bool, bool]:
        return is_deterministic(), torch.is_deterministic_algorithms_warn_only_enabled()

    with plain_modes():  # without a GPU
        assert state() == (True, deterministic)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with plain_modes():
        assert not is_deterministic()
        with plain_modes():
            assert not is_deterministic()
        assert not is_deterministic()
    assert state() == (True, deterministic)
    with pytest.raises(ArithmeticError), plain_modes():
        raise ArithmeticError
    assert state() == (True, deterministic)


def test_deterministic_algorithms_are_off_until_the_last_thread_is_done(
    deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    both = threading.Barrier(2, timeout=60)
    is_over = threading.Event()
    seen = []

    def first() -> None:
        with plain_modes():
            both.wait()
        is_over.set()

    def second() -> None:
        with plain_modes():
            both.wait()
            is_over.wait(60)
            seen.append(is_deterministic())

    threads = [threading.Thread(target=target) for target in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [False]
    assert is_deterministic()
    assert torch.is_deterministic_algorithms_warn_only_enabled() == deterministic


def test_exceptions_pass_through() -> None:
    with pytest.raises(StopIteration), plain_modes():
        raise StopIteration
