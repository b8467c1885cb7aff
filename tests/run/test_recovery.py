"""Iterations in which the loss jumps up, or is not finite, are undone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dipfast
from dipfast.images.layout import Layout
from dipfast.model.noise import NoiseModel
from dipfast.model.operators import Identity
from dipfast.model.problem import Problem
from dipfast.networks import Hourglass, HourglassConfig
from dipfast.prior.loop import DeepImagePrior
from dipfast.prior.stages import Stage
from dipfast.run.job import Job
from dipfast.run.observers import Observer
from dipfast.run.runner import Runner
from dipfast.settings.settings import DenoiseSettings, make_settings
from dipfast.stopping import Decision, Never, StopReason, StopRule

CONFIG = HourglassConfig(down=(8, 16), up=(8, 16), skip=(4, 4))


class FailingNetwork(nn.Module):
    """Make an hourglass whose weights are overwritten, or whose output is NaN, at given calls."""

    def __init__(self, spikes: tuple[int, ...] = (), broken: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.inner = Hourglass(32, 3, CONFIG)
        self.inner.initialise(torch.Generator().manual_seed(0))
        self.spikes, self.broken, self.calls = spikes, broken, 0

    def forward(self, z: Tensor) -> Tensor:
        self.calls += 1
        if self.calls in self.spikes:
            with torch.no_grad():
                for parameter in self.inner.parameters():
                    parameter.copy_(torch.full_like(parameter, 3.0))
        output = self.inner(z)
        return output * math.nan if self.calls in self.broken else output


@pytest.fixture
def noisy(noisy_pair: tuple[np.ndarray, np.ndarray]) -> Tensor:
    return torch.from_numpy(noisy_pair[0]).permute(2, 0, 1)[None].float() / 255


class SeesOnlyGoodIterations(StopRule):
    """Check that the stop rule is never shown a bad iteration."""

    def update(self, state, memory):
        assert state.average.isfinite().all()
        assert float(state.terms.data) < 0.2
        return Decision(best=True)


@dataclass(frozen=True, eq=False)
class JobWithNetwork(Job):
    """Hold a job whose loop fits a given network."""

    network: Any = None

    def make_prior(self) -> DeepImagePrior:
        return DeepImagePrior(
            self.problem.measurement, self.stages, network=self.network, average_decay=0.9
        )


def runner_of(noisy: Tensor, network: Any, iterations: int = 120, rule: Any = None) -> Runner:
    settings = make_settings(DenoiseSettings, {"max_iterations": iterations, "method": "dip"})
    job = JobWithNetwork(
        problem=Problem(noisy, Identity(), NoiseModel(0.0)),
        settings=settings.model_copy(update={"device": "cpu"}),
        stages=(Stage("dip", iterations),),
        rule=rule or SeesOnlyGoodIterations(),
        layout=Layout.of(noisy, data_range=1.0),
        baseline=noisy,
        network=network,
    )
    return Runner(job)


def test_a_normal_fit_is_not_changed(noisy: Tensor) -> None:
    plain = DeepImagePrior(noisy, [Stage("dip", 60)], network=CONFIG, average_decay=0.9)
    list(plain)
    outcome = runner_of(noisy, CONFIG, 60, Never()).run()
    assert torch.equal(outcome.last.output, plain.output)
    assert (outcome.spikes, outcome.failures) == (0, 0)


def test_a_spike_is_taken_back(noisy: Tensor) -> None:
    runner = runner_of(noisy, FailingNetwork(spikes=(80,)))
    outcome = runner.run()
    assert (outcome.spikes, outcome.failures) == (1, 0)
    history = outcome.history
    assert 80 not in history["iteration"]  # it is not part of the history
    assert len(history["iteration"]) == 119
    before, after = (history["data"][history["iteration"].index(k)] for k in (79, 81))
    assert after < 2 * before  # the weights are those of some iterations ago
    assert runner.prior.learning_rate == 0.01


def test_spike_after_spike_lowers_the_rate(noisy: Tensor) -> None:
    runner = runner_of(noisy, FailingNetwork(spikes=(80, 81)))
    assert runner.run().spikes == 2
    assert runner.prior.learning_rate == 0.005


@pytest.mark.parametrize("broken", [(1,), (60,), (60, 61, 90)])
def test_a_broken_loss_is_taken_back_and_the_rate_lowered(
    noisy: Tensor, broken: tuple[int, ...]
) -> None:
    runner = runner_of(noisy, FailingNetwork(broken=broken))
    outcome = runner.run()
    assert outcome.stop.reason is StopReason.ALL_ITERATIONS
    assert outcome.failures == len(broken)
    assert runner.prior.learning_rate == 0.01 / 2 ** len(broken)
    assert outcome.last.average.isfinite().all()
    assert outcome.history["data"][-1] < 0.02


def test_weights_of_a_bad_step_are_never_the_state_to_return_to(noisy: Tensor) -> None:
    # After iteration 50 a copy is made of weights that make iteration 51 fail.
    network = FailingNetwork()

    class Poison(Observer):
        def observe(self, run: Runner, state: Any) -> None:
            if state.iteration == 50:
                run.recovery._candidate = {
                    k: v * math.nan if isinstance(v, Tensor) and v.is_floating_point() else v
                    for k, v in run.recovery._candidate.items()
                }
                with torch.no_grad():
                    next(network.parameters()).fill_(math.nan)

    runner = runner_of(noisy, network)
    runner.observers.append(Poison())
    outcome = runner.run()
    assert outcome.failures == 1
    assert outcome.last.average.isfinite().all()


def test_gives_up_with_the_best_image_and_a_reason(noisy: Tensor) -> None:
    outcome = runner_of(noisy, FailingNetwork(broken=tuple(range(40, 200)))).run()
    assert outcome.stop.reason is StopReason.GAVE_UP
    assert outcome.best.iteration == 39
    assert outcome.best.average.isfinite().all()
    assert outcome.history["iteration"][-1] == 39
    # The last image that there is: that of the copy which the fit went back to.
    plain = runner_of(noisy, FailingNetwork(), 25).run()
    assert outcome.last.iteration == 25
    assert outcome.last.loss == outcome.history["loss"][24]
    assert torch.equal(outcome.last.average, plain.last.average)


def test_the_last_image_of_a_fit_that_fails_soon_is_the_best(noisy: Tensor) -> None:
    outcome = runner_of(noisy, FailingNetwork(broken=tuple(range(10, 200)))).run()
    assert outcome.last.iteration == outcome.best.iteration == 9
    assert torch.equal(outcome.last.average, outcome.best.average)


def test_the_last_image_is_not_that_of_an_iteration_that_was_undone(noisy: Tensor) -> None:
    outcome = runner_of(noisy, FailingNetwork(broken=(40,)), 40).run()
    assert outcome.history["iteration"][-1] == 39
    assert outcome.last.iteration == 25


def test_a_fit_without_a_good_iteration_returns_the_baseline(
    noisy_pair: tuple[np.ndarray, np.ndarray],
) -> None:
    class Broken(dipfast.operators.LinearOperator):
        def forward(self, image: Tensor) -> Tensor:
            return image * math.nan

    noisy, clean = noisy_pair
    result = dipfast.restore(noisy, Broken(), max_iterations=50, reference=clean, sigma=0)
    assert result.stop_reason is StopReason.GAVE_UP
    assert (result.best_iteration, result.stop_iteration) == (0, 0)
    assert result.failures == 6
    assert result.image.shape == noisy.shape


def test_counts_are_reported(noisy_pair: tuple[np.ndarray, np.ndarray]) -> None:
    result = dipfast.denoise(noisy_pair[0], max_iterations=3)
    assert (result.spikes, result.failures) == (0, 0)
    assert result.report()["spikes"] == 0
