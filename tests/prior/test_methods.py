"""Test the methods as sequences of stages, and the controls that change a stage's goal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dipfast import ops
from dipfast.denoisers import registry
from dipfast.denoisers.registry import DENOISERS
from dipfast.model.noise import NoiseModel
from dipfast.networks import HourglassConfig
from dipfast.operators import Downsample
from dipfast.prior.controls import DeepRED, DenoisedImage, NoiseLedWeight, StageImage
from dipfast.prior.loop import DeepImagePrior
from dipfast.prior.methods import make_stages
from dipfast.prior.objective import Goal
from dipfast.prior.stages import Control, Stage
from dipfast.settings.names import METHODS

SMALL = HourglassConfig(down=(8, 16), up=(8, 16), skip=(4, 4))
SIGMA = 25 / 255


@pytest.fixture
def noisy(noisy_pair: tuple[np.ndarray, np.ndarray]) -> Tensor:
    return torch.from_numpy(noisy_pair[0]).permute(2, 0, 1)[None].float() / 255


def run_loop(noisy: Tensor, *stages: Stage, **options) -> DeepImagePrior:
    options = {"network": SMALL, "noise": NoiseModel(SIGMA), **options}
    prior = DeepImagePrior(noisy, stages, **options)
    for _ in prior:
        pass
    return prior


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


@pytest.mark.parametrize("method", [m for m in METHODS if m != "deep_red_bm3d"])
def test_every_method_reduces_the_noise(
    noisy: Tensor, noisy_pair: tuple[np.ndarray, np.ndarray], method: str
) -> None:
    clean = torch.from_numpy(noisy_pair[1]).permute(2, 0, 1)[None].float() / 255
    stages = make_stages(method, 240, 0.1)
    assert sum(stage.iterations for stage in stages) == 240
    prior = run_loop(noisy, *stages, average_decay=0.9)
    assert rms(prior.average - clean) < 0.6 * rms(noisy - clean)


def test_stage_image_is_the_last_average_of_the_stage_before(noisy: Tensor) -> None:
    goals: list[Goal] = []

    class Spy(StageImage):
        def goal(self, view, stage, memory):
            goals.append(super().goal(view, stage, memory))
            return goals[-1]

    before = run_loop(noisy, Stage("tv", 6, 0.1))
    run_loop(noisy, Stage("tv", 6, 0.1), Stage("details", 3, 0.05, Spy(0.25)))
    assert len(goals) == 3
    assert goals[0].guide is goals[1].guide is goals[2].guide
    assert torch.equal(goals[0].guide, before.average)
    assert (goals[0].data_weight, goals[0].guide_weight, goals[0].tv_weight) == (0.75, 0.25, 0.05)


def test_fit_to_the_stage_image_stays_close_to_it(noisy: Tensor) -> None:
    first = run_loop(noisy, Stage("tv", 30, 0.3))
    image = first.average
    to_image, to_measurement = (
        run_loop(noisy, Stage("tv", 30, 0.3), Stage("details", 60, control=control)).average
        for control in (StageImage(1.0), None)
    )
    assert rms(to_image - image) < 0.5 * rms(to_measurement - image)
    blend = run_loop(noisy, Stage("tv", 30, 0.3), Stage("details", 60, control=StageImage(0.5)))
    assert rms(to_image - image) < rms(blend.average - image) < rms(to_measurement - image)


def test_stage_image_as_input(noisy: Tensor) -> None:
    before = run_loop(noisy, Stage("tv", 6, 0.1))
    z = before.z.clone()
    prior = run_loop(
        noisy, Stage("tv", 6, 0.1), Stage("d", 1, control=StageImage(0, as_input=True))
    )
    scale = z.abs().max()
    torch.testing.assert_close(prior.z[:, :3], before.average * scale)
    assert torch.equal(prior.z[:, 3:], z[:, 3:])


def test_denoised_image_is_the_target_of_its_stage(noisy: Tensor) -> None:
    prior = run_loop(noisy, Stage("tv_target", 300, control=DenoisedImage()), average_decay=0.9)
    target = ops.tv_denoise(noisy[0], sigma=SIGMA, channel_axis=0, joint_channels=True)
    # A fit to the image itself comes as near as 0.32.
    assert rms(prior.average - target) < 0.25 * rms(noisy - target)
    small = ops.downsample(noisy, 2)
    with pytest.raises(ValueError, match="is for denoising"):
        run_loop(small, Stage("t", 1, control=DenoisedImage()), operator=Downsample(2))


@pytest.mark.parametrize("control", [DenoisedImage(), DeepRED(lambda image, sigma: image)])
def test_what_is_not_fitted_is_in_no_denoised_image(noisy: Tensor, control: Control) -> None:
    outliers = torch.zeros_like(noisy, dtype=torch.bool)
    outliers[0, 1, 5, 7] = outliers[0, :, 20, 20] = True
    memories = []
    for value in (0.5, 40.0, float("nan")):
        spoilt = noisy.masked_fill(outliers, value)
        prior = DeepImagePrior(
            spoilt,
            [Stage("first", 1, control=control)],
            network=SMALL,
            noise=NoiseModel(SIGMA),
            outliers=outliers,
        )
        next(prior)
        memories.append({k: v for k, v in prior._memory.items() if isinstance(v, Tensor)})
    for memory in memories[1:]:
        assert all(torch.equal(memory[name], image) for name, image in memories[0].items())


def test_without_a_stage_before_there_is_no_image_of_it(noisy: Tensor) -> None:
    with pytest.raises(ValueError, match="StageImage of stage 'details' takes the image of the"):
        run_loop(noisy, Stage("details", 2, control=StageImage()))
    for method in ("two_stage_image", "two_stage_blend", "two_stage_input"):
        (stage,) = make_stages(method, 2, 0.1)
        assert stage.control is None


def test_a_picture_needs_as_many_channels_of_the_input(noisy: Tensor) -> None:
    stages = Stage("tv", 1), Stage("details", 1, control=StageImage(0, as_input=True))
    with pytest.raises(ValueError, match="input of the network must have 3 channels or more"):
        run_loop(noisy, *stages, input_channels=2)


def test_weight_follows_the_residual_until_it_is_at_the_noise_level(noisy: Tensor) -> None:
    weights: list[float] = []

    class Spy(NoiseLedWeight):
        def goal(self, view, stage, memory):
            goal = super().goal(view, stage, memory)
            weights.append(goal.tv_weight)
            return goal

    prior = run_loop(noisy, Stage("adaptive", 600, 0.3, Spy(every=5)))
    assert weights[0] == 0.3
    assert weights[0] > weights[20]  # the residual is large at first
    assert all(0.003 - 1e-9 <= weight <= 0.6 + 1e-9 for weight in weights)
    # The weight stops changing where the residual has the standard deviation of the noise.
    assert rms(prior.problem.residual(prior.output)) == pytest.approx(SIGMA, rel=0.1)


def test_deep_red_follows_its_formulas(noisy: Tensor) -> None:
    calls: list[float] = []

    def halve(image: Tensor, sigma: float) -> Tensor:
        calls.append(sigma)
        return image / 2

    control = DeepRED(halve, sigma=0.1, beta=0.3, mu=0.6, every=2)
    prior = DeepImagePrior(noisy, [Stage("red", 5, control=control)], network=SMALL)
    x = noisy.clone()
    v = torch.zeros_like(x)
    denoised = x / 2
    for state in prior:
        torch.testing.assert_close(prior._memory["x"], x)
        torch.testing.assert_close(prior._memory["v"], v)
        if state.iteration == 5:
            break
        if state.iteration % 2 == 0:
            denoised = x / 2
        x = ((0.3 * denoised + 0.6 * (state.image + v)) / 0.9).clamp(0, 1)
        v = v + state.image - x
    assert calls == [0.1] * 3


@pytest.mark.parametrize("name", ["tv", "nlm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_denoisers(noisy: Tensor, name: str, channels: int) -> None:
    image = noisy[:, :channels]
    smoother = DENOISERS[name](image, SIGMA)
    assert smoother.shape == image.shape
    assert smoother.dtype == image.dtype
    assert ops.total_variation(smoother) < 0.7 * ops.total_variation(image)


def test_missing_packages_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    for name, package in (("nlm", "skimage"), ("bm3d", "bm3d")):
        with pytest.raises(ImportError, match=rf"needs {package}: pip install 'dipfast\[{name}\]'"):
            make_stages(f"deep_red_{name}", 9, 0.1)
    assert make_stages("deep_red", 9, 0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StageImage(1.5), "weight must be from 0 to 1, got 1.5"),
        (lambda: NoiseLedWeight(every=0), "every must be an integer from 1 up, got 0"),
        (lambda: DeepRED(mu=0.0), "beta must be from 0 up, mu and every positive"),
        (lambda: make_stages("n2n", 9, 0.1), "method must be one of two_stage"),
    ],
)
def test_invalid_arguments_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
