"""Fits and operations work in processes that were forked from one with several threads."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import forked
import numpy as np
import pytest
import torch

import dipfast
from dipfast import forks, ops
from dipfast.networks import HourglassConfig
from dipfast.prior.loop import DeepImagePrior
from dipfast.prior.stages import Stage
from dipfast.settings.presets import Preset

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")

# Large enough that torch shares its work between threads.
SIZE = 96
TINY = Preset(3, (1 / 30, 0.005), HourglassConfig((16,), (16,), (4,)))


def noisy() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (SIZE, SIZE), dtype=np.uint8)


def fit(_: object = None) -> tuple[bytes, int]:
    result = dipfast.denoise(noisy(), preset=TINY, stop="none", sigma=25)
    return result.raw_image.tobytes(), result.found["threads"]


def loop(_: object = None) -> bytes:
    y = torch.from_numpy(noisy())[None, None] / 255
    return [
        state.image.numpy().tobytes()
        for state in DeepImagePrior(y, [Stage("dip", 2)], network=TINY.network)
    ][-1]


def operations(_: object = None) -> list[float]:
    array = np.random.default_rng(0).random((300, 300), dtype=np.float32)
    a = torch.from_numpy(array)
    b = (a * 0.5).requires_grad_()
    ops.tv_objective(b, a, 0.1).backward()
    slope, b = b.grad, b.detach()
    return [
        float(ops.tv_denoise(array, 0.1, max_num_iter=5).sum()),
        float(ops.mse(a, b)),
        float(ops.mse(a, b, backend="torch")),
        float(ops.ssim(a, b, data_range=1.0)),
        float(ops.resize(array, (150, 150)).sum()),
        float(slope.sum()),
    ]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Let the parent process use its threads before the test."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.ones(SIZE, SIZE, SIZE).square_()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("function", [fit, loop, operations])
def test_same_bits_in_a_forked_process(function: Any) -> None:
    wanted = function()
    assert forked.run(function).value == wanted
    assert function() == wanted


def test_threads_are_kept() -> None:
    assert forked.run(fit).value[1] == 2


def test_grandchild() -> None:
    assert forked.run(lambda: forked.run(fit).value).value == fit()


def test_forked_in_the_middle_of_a_fit() -> None:
    inside, ended = [], []

    def callback(state: Any) -> None:
        if state.iteration == 2:
            ended.append(forked.run(fit))
            inside.append(os.getpid())

    options: Any = {"preset": TINY, "stop": "none", "sigma": 25}
    result = dipfast.denoise(noisy(), callback=callback, **options)
    assert result.raw_image.tobytes() == fit()[0] == ended[0].value[0]
    assert inside == [os.getpid()]


def test_both_go_on_with_the_fit() -> None:
    y = torch.from_numpy(noisy())[None, None] / 255
    prior = DeepImagePrior(y, [Stage("dip", 3)], network=TINY.network)
    next(prior)

    def go_on() -> bytes:
        return [state.image.numpy().tobytes() for state in prior][-1]

    there = forked.run(go_on).value
    assert there == go_on()


def test_forked_from_another_thread_while_a_fit_goes_on() -> None:
    wanted, found = fit(), []
    thread = threading.Thread(target=lambda: found.append(forked.run(fit).value))
    thread.start()
    while thread.is_alive():
        assert fit() == wanted
    assert found == [wanted]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_pools_of_processes() -> None:
    wanted = fit()
    context = multiprocessing.get_context("fork")
    others = set(multiprocessing.active_children())  # of other tests
    with context.Pool(1) as pool:
        assert pool.map_async(fit, range(2)).get(forked.LIMIT) == [wanted, wanted]
        workers = set(multiprocessing.active_children()) - others
    assert workers
    for worker in workers:  # leaving the pool ends them by SIGTERM
        worker.join(2)
        assert not worker.is_alive()
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        assert executor.submit(fit).result(forked.LIMIT) == wanted


USED_BEFORE = """
import os, sys, warnings
import torch
torch.set_num_threads(2)
{before}
if os.fork() == 0:
    import dipfast
    from dipfast import _native
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prior = dipfast.DeepImagePrior(
            torch.rand(1, 1, 96, 96), [dipfast.Stage("dip", 2)],
            network=dipfast.networks.HourglassConfig((16,), (16,), (4,)),
        )
        next(prior)
        dipfast.ops.mse(prior.output, torch.zeros(1, 1, 96, 96))
    print(_native.threads_are_lost(), torch.get_num_threads(), len(caught), flush=True)
    for warning in caught:
        print(warning.message, flush=True)
    os._exit(0)
os.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="OpenMP of GCC")
@pytest.mark.parametrize("used", [True, False])
def test_parent_that_has_not_imported_dipfast(used: bool) -> None:
    code = USED_BEFORE.format(before="torch.ones(100, 100, 100).square_()" if used else "")
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=forked.LIMIT,
        check=True,
    )
    first, *warned = done.stdout.splitlines()
    if used:
        assert first == "True 1 1"
        assert "multiprocessing.get_context('spawn')" in warned[0]
    else:
        assert first == "False 2 0"


def test_lost_threads_are_warned_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "_checked", 0)
    monkeypatch.setattr(forks, "threads_are_lost", lambda: True)
    with pytest.warns(UserWarning, match=r"one thread: start it with .*get_context\('spawn'\)"):
        forks.check_process()
    forks.check_process()


def test_process_without_derivatives_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("Unable to handle autograd's threading in combination with fork-based")

    monkeypatch.setattr(forks, "_checked", 0)
    monkeypatch.setattr(torch.autograd, "grad", refuse)
    with pytest.raises(RuntimeError, match=r"forked from .*get_context\('spawn'\)"):
        fit()
    with pytest.raises(RuntimeError, match=r"forked from .*get_context\('spawn'\)"):
        loop()
