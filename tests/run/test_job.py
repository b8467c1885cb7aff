"""A job holds all that a run needs: it can be sent to another process, with the same result."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import warnings
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import dipfast
from dipfast.images.layout import Layout
from dipfast.model.operators import Blur, Downsample, Identity, Mask, gaussian_kernel
from dipfast.prior.loop import State
from dipfast.run import runner as runner_module
from dipfast.run.job import Job
from dipfast.run.observers import Observer
from dipfast.run.prepare import Task, prepare
from dipfast.run.runner import Runner, run
from dipfast.settings.settings import DenoiseSettings, make_settings
from dipfast.stop_reason import Stop, StopReason
from dipfast.stopping import Bootstrap, HeldOut, WindowedVariance

Pair = tuple[np.ndarray, np.ndarray]

OTHER_PROCESS = """
import pickle, sys, torch
from dipfast.run.runner import run
torch.set_num_threads(1)
with open(sys.argv[1], "rb") as stream:
    job = pickle.load(stream)
outcome = run(job)
with open(sys.argv[2], "wb") as stream:
    pickle.dump(outcome, stream)
"""


def make_jobs(image: Any, operator: Any = None, **options: Any) -> list[Job]:
    settings = make_settings(DenoiseSettings, {"max_iterations": 6, "device": "cpu", **options})
    layout = Layout.of(image, data_range=settings.data_range)
    return prepare(Task(image, layout, [operator or Identity()]), settings)


@pytest.mark.parametrize(
    "options",
    [{}, {"sigma": 25, "method": "dip_tv", "stop": "held_out"}, {"method": "deep_red", "seed": 3}],
    ids=["defaults", "held_out", "deep_red"],
)
def test_the_same_bits_in_another_process(
    noisy_pair: Pair, tmp_path: Path, options: dict[str, Any]
) -> None:
    (job,) = make_jobs(noisy_pair[0], **options)
    (tmp_path / "job").write_bytes(pickle.dumps(job))
    arguments = [str(tmp_path / "job"), str(tmp_path / "outcome")]
    subprocess.run([sys.executable, "-c", OTHER_PROCESS, *arguments], check=True)
    there = pickle.loads((tmp_path / "outcome").read_bytes())
    here = run(job)
    assert torch.equal(there.best.average, here.best.average)
    assert torch.equal(there.last.output, here.last.output)
    assert there.history == here.history
    assert there.stop == here.stop == Stop(StopReason.ALL_ITERATIONS)


@pytest.mark.parametrize(
    "operator",
    [Blur(gaussian_kernel(1.0)), Downsample(2), Mask(torch.rand(1, 32, 40) < 0.5)],
    ids=lambda operator: type(operator).__name__,
)
def test_operators_are_pickled(noisy_pair: Pair, operator: Any) -> None:
    (job,) = make_jobs(noisy_pair[0], operator)
    image = torch.rand(1, 3, 32, 40)
    again = pickle.loads(pickle.dumps(job))
    assert torch.equal(again.problem.operator(image), job.problem.operator(image))


def test_everything_is_decided(noisy_pair: Pair) -> None:
    (job,) = make_jobs(noisy_pair[0], callback=print)
    settings = job.settings
    assert isinstance(settings.noise, dipfast.NoiseModel)
    assert isinstance(settings.tv_weight, float)
    assert settings.sigma == pytest.approx(255 * settings.noise.sigma)
    assert (settings.max_iterations, settings.device) == (6, "cpu")
    assert settings.preset == dipfast.settings.presets.PRESETS["denoise-balanced"]
    assert settings.callback is None  # functions cannot be sent to another process


def test_is_the_result_of_the_task(noisy_pair: Pair) -> None:
    (job,) = make_jobs(noisy_pair[0])
    result = dipfast.denoise(noisy_pair[0], max_iterations=6, device="cpu")
    average = run(job).best.average
    assert (job.layout.to_image(average) == result.raw_image).all()
    assert (job.layout.to_image(job.refine(average)) == result.image).all()


class TestObservers:
    def test_see_the_beginning_iterations_and_the_end(self, noisy_pair: Pair) -> None:
        seen: list[Any] = []

        class See(Observer):
            def begin(self, run: Runner) -> None:
                seen.append(("begin", run.prior.iteration, run.stop))

            def observe(self, run: Runner, state: State) -> None:
                seen.append(state.iteration)

            def end(self, run: Runner) -> None:
                seen.append(("end", run.stop.reason))

        run(make_jobs(noisy_pair[0], max_iterations=3)[0], [See()])
        assert seen == [("begin", 0, None), 1, 2, 3, ("end", StopReason.ALL_ITERATIONS)]

    def test_end_a_run(self, noisy_pair: Pair) -> None:
        class EndAt(Observer):
            def __init__(self, iteration: int, stop: Any) -> None:
                self.iteration, self.stop = iteration, stop

            def observe(self, run: Runner, state: State) -> Any:
                return self.stop if state.iteration == self.iteration else None

        own = Stop(StopReason.STOPPED, "the window was closed")
        outcome = run(make_jobs(noisy_pair[0])[0], [EndAt(3, own), EndAt(2, StopReason.TERMINATED)])
        assert outcome.stop == Stop(StopReason.TERMINATED)
        outcome = run(make_jobs(noisy_pair[0])[0], [EndAt(2, own), EndAt(2, StopReason.TERMINATED)])
        assert outcome.stop == own
        assert str(outcome.stop) == "the window was closed"
        assert outcome.last.iteration == 2


def test_a_job_of_a_batch_carries_its_own_image_alone(noisy_pair: Pair) -> None:
    one = torch.from_numpy(noisy_pair[0]).permute(2, 0, 1)[None]
    many = make_jobs(one.repeat(16, 1, 1, 1), reference=one.repeat(16, 1, 1, 1))
    (single,) = make_jobs(one, reference=one)
    assert len(pickle.dumps(many[0])) < 1.2 * len(pickle.dumps(single))


@pytest.mark.parametrize("reason", [StopReason.ALL_ITERATIONS, StopReason.RULE, 5, b"x", None])
def test_an_interrupt_is_no_end_by_itself(reason: Any) -> None:
    with pytest.raises(ValueError, match="reason must be a text of your own, or the StopReason"):
        dipfast.Interrupt().stop(reason)


def test_a_batch_holds_one_network_at_a_time(
    noisy_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks: list[weakref.ref[nn.Module]] = []
    alive: list[int] = []

    class Watched(Runner):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            networks.append(weakref.ref(self.prior.network))

        def run(self) -> Any:
            gc.collect()
            alive.append(sum(network() is not None for network in networks))
            return super().run()

    monkeypatch.setattr(runner_module, "Runner", Watched)
    one = torch.from_numpy(noisy_pair[0]).permute(2, 0, 1)[None]
    dipfast.denoise(torch.cat([one, one, one]), max_iterations=2)
    assert len(networks) == 3
    assert alive == [1, 1, 1]


def test_rules_by_name_draw_from_the_seed() -> None:
    noisy = np.random.default_rng(0).normal(0.5, 0.1, (16, 16))
    given = {"data_range": 1.0, "sigma": 0.1, "method": "two_stage"}
    for name, rule in (("held_out", HeldOut(seed=7)), ("bootstrap", Bootstrap(seed=7))):
        assert make_jobs(noisy, stop=name, seed=7, **given)[0].rule == rule
    assert make_jobs(noisy, stop=HeldOut(seed=3), seed=7, **given)[0].rule == HeldOut(seed=3)


@pytest.mark.parametrize(
    ("rule", "iterations", "warns"),
    [("es_wmv", 140, True), ("es_wmv", 160, False), (WindowedVariance(window=9), 15, False)],
)
def test_a_window_that_never_fills_is_told(rule: Any, iterations: int, warns: bool) -> None:
    noisy = np.random.default_rng(0).normal(0.5, 0.1, (16, 16))
    given = {"data_range": 1.0, "sigma": 0.1, "method": "two_stage"}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        make_jobs(noisy, stop=rule, max_iterations=iterations, **given)
    text = "es_wmv needs 100 iterations in the last stage"
    assert any(str(w.message).startswith(text) for w in told) == warns
