"""Test the loop: an iterator of states that is reproducible and can be resumed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from dipfast import ops
from dipfast.errors import InputError
from dipfast.model.noise import NoiseModel
from dipfast.model.operators import Compose, Wrapped
from dipfast.model.problem import Problem
from dipfast.networks import Hourglass, HourglassConfig
from dipfast.operators import Blur, Identity, Mask
from dipfast.prior.loop import DeepImagePrior, _never_waits
from dipfast.prior.methods import make_stages
from dipfast.prior.objective import Goal, objective
from dipfast.prior.stages import Stage
from dipfast.settings.names import METHODS, Method

SMALL = HourglassConfig(down=(8, 16), up=(8, 16), skip=(4, 4))


@pytest.fixture
def noisy(noisy_pair: tuple[np.ndarray, np.ndarray]) -> Tensor:
    return torch.from_numpy(noisy_pair[0]).permute(2, 0, 1)[None].float() / 255


def make(noisy: Tensor, *stages: Stage, **options) -> DeepImagePrior:
    return DeepImagePrior(noisy, stages or (Stage("dip", 5),), network=SMALL, **options)


def test_a_state_for_each_iteration(noisy: Tensor) -> None:
    prior = make(noisy, Stage("tv", 2, 0.1), Stage("details", 3))
    states = list(prior)
    assert [state.iteration for state in states] == [1, 2, 3, 4, 5]
    assert [state.stage.name for state in states] == ["tv", "tv", "details", "details", "details"]
    assert prior.iteration == prior.iterations == 5


def test_is_an_iterator(noisy: Tensor) -> None:
    prior = make(noisy)
    assert next(prior).iteration == 1
    assert [state.iteration for state in prior] == [2, 3, 4, 5]
    with pytest.raises(StopIteration):
        next(prior)


def test_iteration_can_be_interrupted_and_continued(noisy: Tensor) -> None:
    whole = make(noisy)
    for _ in whole:
        pass
    parts = make(noisy)
    for state in parts:
        if state.iteration == 2:
            break
    assert [state.iteration for state in parts] == [3, 4, 5]
    assert torch.equal(parts.average, whole.average)


def test_same_seed_same_bits(noisy: Tensor) -> None:
    first, second, other = make(noisy, seed=3), make(noisy, seed=3), make(noisy, seed=4)
    for a, b, c in zip(first, second, other):
        assert torch.equal(a.image, b.image)
        assert a.terms.value == b.terms.value
        assert not torch.equal(a.image, c.image)


def test_weights_are_distributed_as_torch_does(noisy: Tensor) -> None:
    torch.manual_seed(7)
    expected = Hourglass(32, 3, HourglassConfig((64,), (64,), (16,)))
    drawn = Hourglass(32, 3, HourglassConfig((64,), (64,), (16,)))
    drawn.initialise(torch.Generator().manual_seed(7))
    for (name, a), b in zip(expected.named_parameters(), drawn.parameters()):
        assert a.shape == b.shape
        if a.ndim == 4:
            assert a.std().item() == pytest.approx(b.std().item(), rel=0.2), name
            assert a.abs().max().item() == pytest.approx(b.abs().max().item(), rel=0.1), name


def test_double_precision(noisy: Tensor) -> None:
    state = list(make(noisy.double()))[-1]
    assert state.image.dtype == state.average.dtype == torch.float64
    single = list(make(noisy))[-1]
    # The noise on the input differs with the dtype, but weights and input start the same.
    assert (state.average - single.average).abs().mean() < 0.1


def test_leaves_the_global_generator_alone(noisy: Tensor) -> None:
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    list(make(noisy))
    assert torch.equal(torch.rand(4), expected)


def test_terms_are_those_of_the_image(noisy: Tensor) -> None:
    for state in make(noisy, Stage("tv", 4, 0.2)):
        value, data, tv = objective(
            state.image, Problem(noisy, Identity(), NoiseModel(0.0)), Goal(0.2)
        )
        n = noisy.numel()
        torch.testing.assert_close(state.terms, (value / n, data / n, tv / n))
        torch.testing.assert_close(state.terms.value, state.terms.data + 0.2 * state.terms.tv)


def test_average_is_the_weighted_mean_of_all_images(noisy: Tensor) -> None:
    images = []
    for state in make(noisy, average_decay=0.5):
        images.append(state.image)
        weights = torch.tensor([0.5 ** (len(images) - k) for k in range(len(images))])
        expected = sum(w * image for w, image in zip(weights / weights.sum(), images))
        torch.testing.assert_close(state.average, expected)


def test_images_of_a_state_are_copies(noisy: Tensor) -> None:
    prior = make(noisy)
    state = next(iter(prior))
    state.image.zero_()
    state.average.zero_()
    assert state.image.any()
    assert state.average.any()


def test_total_variation_smooths_and_the_objective_falls(noisy: Tensor) -> None:
    plain, smooth = (list(make(noisy, Stage("any", 60, weight)))[-1] for weight in (0.0, 0.3))
    assert ops.total_variation(smooth.image) < 0.7 * ops.total_variation(plain.image)
    first = next(iter(make(noisy, Stage("any", 60, 0.3))))
    assert smooth.terms.value < 0.5 * first.terms.value


def test_stages_of_methods() -> None:
    assert make_stages("dip", 9, 0.1) == (Stage("dip", 9),)
    assert make_stages("dip_tv", 9, 0.1) == (Stage("dip_tv", 9, 0.1),)
    assert make_stages("two_stage", 10, 0.1) == (Stage("tv", 3, 0.1), Stage("details", 7))
    # A third of two iterations is none: the first stage is left out.
    assert make_stages("two_stage", 2, 0.1) == (Stage("details", 2),)
    with pytest.raises(ValueError, match=r"method must be one of two_stage, dip, .*got 'x'"):
        make_stages("x", 9, 0.1)
    assert METHODS[:3] == ("two_stage", "dip", "dip_tv")


def test_input_noise_falls_geometrically(noisy: Tensor) -> None:
    prior = make(noisy, input_noise=(0.1, 0.001))
    levels = [float(prior._noise_level)] + [float(prior._noise_level) for _ in prior]
    np.testing.assert_allclose(levels[:5], np.geomspace(0.1, 0.001, 5), rtol=1e-5)


def test_without_input_noise(noisy: Tensor) -> None:
    assert len(list(make(noisy, input_noise=(0.0, 0.0)))) == 5


@pytest.mark.parametrize("levels", [(0.0, 0.05), (0.05, 0.0), (-0.1, 0.1)])
def test_input_noise_that_no_geometric_row_has_is_refused(
    noisy: Tensor, levels: tuple[float, float]
) -> None:
    with pytest.raises(ValueError, match="input_noise must be two positive numbers, or 0 for both"):
        make(noisy, input_noise=levels)


@pytest.mark.parametrize("method", ["deep_red", "tv_target"])
def test_each_image_of_a_batch_is_denoised_by_itself(method: Method) -> None:
    batch = torch.stack([torch.full((1, 16, 16), value) for value in (0.1, 0.9)])
    prior = make(batch, *make_stages(method, 60, 0.0), noise=NoiseModel(0.02), learning_rate=0.01)
    for _ in prior:
        pass
    means = prior.image.mean(dim=(1, 2, 3))
    assert float(means[1] - means[0]) > 0.5


def test_network_of_your_own(noisy: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(4, 3, 1), nn.Sigmoid())
    prior = DeepImagePrior(noisy, [Stage("dip", 3)], network=network, input_channels=4)
    before = network[0].weight.detach().clone()
    list(prior)
    assert not torch.equal(network[0].weight, before)


class HalfSize(nn.Module):
    """Keep every second row and column: a forward model that is not one of the package."""

    def forward(self, image: Tensor) -> Tensor:
        return image[..., ::2, ::2]

    def adjoint(self, measurement: Tensor) -> Tensor:
        n, c, h, w = measurement.shape
        image = measurement.new_zeros(n, c, 2 * h, 2 * w)
        image[..., ::2, ::2] = measurement
        return image


def test_operator_of_your_own(noisy: Tensor) -> None:
    prior = make(noisy[..., ::2, ::2], Stage("tv", 30, 0.05), operator=HalfSize())
    states = list(prior)
    assert states[-1].image.shape == noisy.shape
    value, data, tv = states[-1].terms
    torch.testing.assert_close(value, data + 0.05 * tv)
    assert data < 0.04


class Faded(Identity):
    def forward(self, image: Tensor) -> Tensor:
        return image / 2


def test_operator_derived_from_one_that_is_known(noisy: Tensor) -> None:
    """The fit is to what its ``forward`` computes, and not to what the base class does."""
    state = list(make(noisy, operator=Faded()))[-1]
    expected = (state.image / 2 - noisy).square().sum() / 2 / noisy.numel()
    torch.testing.assert_close(state.terms.data, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operator": torch.abs}, r"operator must be a module with an adjoint.*Wrapped\("),
        ({"noise": 0.1}, r"noise must be a NoiseModel, got 0\.1; NoiseModel\(sigma\)"),
    ],
)
def test_what_is_no_operator_or_noise_is_refused(
    noisy: Tensor, options: dict, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        make(noisy, **options)


@pytest.mark.parametrize("noise", [None, NoiseModel(0.1, 0.01, low=0.0, high=1.0)])
def test_missing_elements_do_not_count(noisy: Tensor, noise: NoiseModel | None) -> None:
    known = torch.rand(noisy.shape[-2:], generator=torch.Generator().manual_seed(0)) > 0.5
    runs = [
        list(make(measured, operator=Mask(known), noise=noise))[-1]
        for measured in (noisy, torch.where(known, noisy, 1.0))
    ]
    assert torch.equal(runs[0].image, runs[1].image)
    # Terms are divided by the number of measured elements.
    expected = runs[0].prior.problem.residual(runs[0].image).square().sum() / 2
    torch.testing.assert_close(runs[0].terms.data, expected / (3 * known.sum()))


def test_input_of_coordinates(noisy: Tensor) -> None:
    z = make(noisy, input="meshgrid").z
    assert z.shape == (1, 2, *noisy.shape[-2:])
    assert (z[0, 0, 0, 0], z[0, 0, 0, -1], z[0, 0, -1, 0]) == (0, 1, 0)  # columns
    assert (z[0, 1, 0, 0], z[0, 1, -1, 0], z[0, 1, 0, -1]) == (0, 1, 0)  # rows


def test_input_of_your_own(noisy: Tensor) -> None:
    z = torch.rand(1, 5, *noisy.shape[-2:])
    prior = make(noisy, input=z, input_noise=(0.0, 0.0))
    before = z.clone()
    prior._replace_input(noisy, keeps_scale=False)  # must not write into the caller's tensor
    assert torch.equal(z, before)
    assert next(iter(prior)).image.shape == noisy.shape
    with pytest.raises(ValueError, match=r"input must have shape \(N, channels, H, W\)"):
        make(noisy, input=z[..., 1:])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"operator": Mask(torch.ones(32, 40) > 0)},
        {"operator": Blur(torch.ones(3, 3) / 9)},
        {"noise": NoiseModel(0.1, 0.01, low=0.0, high=1.0)},
    ],
    ids=str,
)
def test_step_does_not_wait_for_the_device(noisy: Tensor, options: dict) -> None:
    # Fake tensors have no values: reading one, or branching on it, raises.
    prior = make(noisy, Stage("tv", 2, 0.1), **options)
    with FakeTensorMode(allow_non_fake_inputs=True):
        terms = prior._step(Goal(0.1, guide=noisy, guide_weight=0.5))
    assert isinstance(terms.value, FakeTensor)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_noise": (0.1, -0.01)}, "input_noise must be two positive numbers"),
        ({"input_noise": (0.1, 0.0)}, "input_noise must be two positive numbers"),
        ({"input_noise": (math.inf, math.inf)}, "input_noise must be two positive numbers"),
        ({"input": "given"}, "input must be one of noise, meshgrid, got 'given'"),
        ({"input_scale": 0.0}, "input_scale must be a positive number, got 0"),
        ({"input_scale": math.nan}, "input_scale must be a positive number, got nan"),
        ({"average_decay": 1.0}, r"average_decay must be in \[0, 1\), got 1"),
        ({"learning_rate": -1.0}, "learning_rate must be a positive number, got -1"),
        ({"learning_rate": float("nan")}, "learning_rate must be a positive number, got nan"),
        ({"optimizer": "sgd"}, "optimizer must be one of adam, muon, got 'sgd'"),
        ({"precision": "float16"}, "precision must be one of float32, bfloat16"),
        ({"final_learning_rate": 1.5}, r"final_learning_rate must be in \[0, 1\], got 1.5"),
    ],
)
def test_options_are_checked(noisy: Tensor, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(noisy, **options)


def test_half_precision_is_refused(noisy: Tensor) -> None:
    with pytest.raises(TypeError, match=r"must be float32 or float64, got torch\.bf"):
        make(noisy.bfloat16())


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 3, 0, 4)])
def test_measurement_is_checked(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="measurement must be a non-empty tensor"):
        make(torch.zeros(shape))


def test_stages_are_checked(noisy: Tensor) -> None:
    with pytest.raises(ValueError, match="stages must have at least one iteration"):
        DeepImagePrior(noisy, [])
    with pytest.raises(ValueError, match="stages must have at least one iteration"):
        make(noisy, Stage("dip", 0))
    with pytest.raises(TypeError, match=r"iterations of stage 'dip' must be an integer, got 1\.5"):
        make(noisy, Stage("dip", 1.5))
    with pytest.raises(TypeError, match="stages must be a sequence of Stage, got 'd' in it"):
        DeepImagePrior(noisy, "dip")
    # A generator can be gone through only once.
    prior = DeepImagePrior(noisy, (Stage("dip", n) for n in (1, 2)), network=SMALL)
    assert prior.iterations == 3


@pytest.mark.parametrize(
    "method",
    ["two_stage", "two_stage_input", "two_stage_adaptive", "tv_target", "adaptive_tv", "deep_red"],
)
def test_loaded_state_continues_to_the_same_bits(noisy: Tensor, method: Method) -> None:
    stages = make_stages(method, 12, 0.1)
    whole = make(noisy, *stages)
    states = [None, *(state.state_dict() for state in (s.prior for s in whole))]
    for begin in (1, 4, 5, 11):  # 4 is the end of a first stage
        prior = make(noisy, *stages)
        prior.load(states[begin])
        assert prior.iteration == begin
        list(prior)
        assert torch.equal(prior.output, whole.output)
        assert torch.equal(prior.average, whole.average)


def test_a_loop_goes_back_to_before_its_input_was_replaced(noisy: Tensor) -> None:
    stages = make_stages("two_stage_input", 6, 0.1)
    prior, plain = make(noisy, *stages), make(noisy, *stages)
    next(prior)
    first = prior.state_dict()
    next(prior)
    next(prior)
    later = prior.state_dict()
    images = [state.image for state in prior]
    for state, begin in ((later, 3), (first, 1), (later, 3)):
        prior.load(state)
        assert torch.equal(prior.z, plain.z) == (begin == 1)
        again = [state.image for state in prior]
        assert all(map(torch.equal, images, again[-len(images) :]))


def test_images_of_another_shape_are_refused(noisy: Tensor) -> None:
    blur = torch.ones(3, 3) / 9
    network = nn.Conv2d(32, 1, 3, padding=1)  # one channel would be spread over three
    prior = DeepImagePrior(noisy, [Stage("dip", 2)], network=network, operator=Blur(blur))
    with pytest.raises(ValueError, match=r"network must return an image of shape \(1, 3, "):
        next(prior)


def test_bfloat16_of_an_hourglass_that_is_not_to_be_fused(noisy: Tensor) -> None:
    network = Hourglass(32, 3, SMALL)
    network.is_fused = False
    prior = DeepImagePrior(noisy, [Stage("dip", 2)], network=network, precision="bfloat16")
    assert [state.image.dtype for state in prior] == [torch.float32] * 2


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "muon", "learning_rate": 0.2, "final_learning_rate": 0.1},
        {"precision": "bfloat16"},
        {"final_learning_rate": 0.0},
    ],
    ids=str,
)
def test_options_of_the_step_are_resumed(noisy: Tensor, options: dict) -> None:
    whole = make(noisy, **options)
    states = [state.prior.state_dict() for state in whole]
    prior = make(noisy, **options)
    # As a file gives them back, whatever their layout in memory was.
    prior.load({k: v.contiguous() if isinstance(v, Tensor) else v for k, v in states[1].items()})
    list(prior)
    assert torch.equal(prior.output, whole.output)
    assert torch.equal(prior.average, whole.average)


def test_learning_rate_falls_linearly(noisy: Tensor) -> None:
    prior = make(noisy, learning_rate=0.02, final_learning_rate=0.5)
    rates = [state.prior._optimizer.param_groups[0]["lr"] for state in prior]
    assert rates == pytest.approx([0.02, 0.0175, 0.015, 0.0125, 0.01])
    prior = make(noisy, optimizer="muon", learning_rate=0.2, final_learning_rate=0.5)
    prior.learning_rate /= 2
    next(prior)
    assert [group["lr"] for group in prior._optimizer.param_groups] == pytest.approx([0.1, 0.01])


def test_bfloat16_is_close(noisy: Tensor) -> None:
    single, half = make(noisy), make(noisy, precision="bfloat16")
    first, other = next(single), next(half)
    assert other.image.dtype == other.average.dtype == torch.float32
    difference = (first.image - other.image).abs().max()
    assert 0 < difference < 0.02


def test_bfloat16_of_a_network_of_your_own(noisy: Tensor) -> None:
    network = nn.Conv2d(32, 3, 3, padding=1)
    prior = DeepImagePrior(noisy, [Stage("dip", 2)], network=network, precision="bfloat16")
    assert [state.image.dtype for state in prior] == [torch.float32] * 2
    assert network.weight.dtype == torch.float32


def test_bfloat16_of_double_precision_is_refused(noisy: Tensor) -> None:
    with pytest.raises(ValueError, match=r"precision='bfloat16' needs .* float32, got float64"):
        make(noisy.double(), precision="bfloat16")


def test_numbers_of_a_state_stay_those_of_its_terms(noisy: Tensor) -> None:
    states = list(make(noisy))
    assert len({state.numbers for state in states}) == 5
    copied = replace(states[0], metrics={"a": noisy})
    assert copied.numbers is states[0].numbers


def test_which_operators_are_known_not_to_wait() -> None:
    own, mask = Wrapped(lambda x: x), Mask(torch.ones(4, 4) > 0)
    assert all(map(_never_waits, (Identity(), mask, Compose(mask, Identity()))))
    assert not any(map(_never_waits, (own, Compose(mask, own), nn.Identity(), lambda x: x)))


def test_numbers_are_those_of_the_terms(noisy: Tensor) -> None:
    kept = [(state.terms, state.numbers) for state in make(noisy)]
    for terms, numbers in kept:
        assert tuple(numbers) == tuple(map(float, terms))
    assert len({numbers.value for _, numbers in kept}) == 5


def test_state_is_a_copy(noisy: Tensor) -> None:
    prior = make(noisy)
    next(prior)
    state = prior.state_dict()
    before = {k: v.clone() for k, v in state.items() if isinstance(v, Tensor)}
    list(prior)
    prior.load(state)
    list(prior)
    assert all(torch.equal(state[name], value) for name, value in before.items())


def test_learned_values_are_restored(noisy: Tensor) -> None:
    prior = make(noisy)
    next(prior)
    image, values = prior.average, prior.learned()
    next(prior)
    noise = float(prior._noise_level)
    prior.load(values)
    assert torch.equal(prior.average, image)
    assert prior.iteration == 2
    assert float(prior._noise_level) == noise


def test_state_of_another_loop_is_refused(noisy: Tensor) -> None:
    values = make(noisy).state_dict()
    with pytest.raises(ValueError, match=r"not the values of this loop.*shape"):
        make(noisy[..., 1:]).load(values)
    with pytest.raises(ValueError, match="not the values of this loop"):
        make(noisy, input_channels=8).load(values)
    del values["average"]
    with pytest.raises(ValueError, match=r"not the values of this loop.*average"):
        make(noisy).load(values)


def test_states_know_their_stage(noisy: Tensor) -> None:
    states = [
        (s.first_in_stage, s.in_last_stage, s.regularised, s.iterations)
        for s in make(noisy, Stage("tv", 2, 0.1), Stage("details", 2))
    ]
    assert states == [
        (True, False, True, 4),
        (False, False, True, 4),
        (True, True, False, 4),
        (False, True, False, 4),
    ]


def test_held_out_elements_do_not_count(noisy: Tensor) -> None:
    held_out = torch.rand(noisy.shape[-2:], generator=torch.Generator().manual_seed(0)) < 0.3
    outputs = []
    for measured in (noisy, torch.where(held_out, 1.0, noisy)):
        prior = make(measured)
        prior.problem = replace(prior.problem, held_out=held_out[None, None])
        assert prior.problem.count == 3 * int((~held_out).sum())
        list(prior)
        outputs.append(prior.output)
    assert torch.equal(*outputs)


@pytest.mark.parametrize(
    "left_out",
    [
        {"operator": Mask(torch.zeros(32, 40, dtype=torch.bool))},
        {"outliers": torch.ones(1, 1, 32, 40, dtype=torch.bool)},
    ],
    ids=["mask", "outliers"],
)
def test_nothing_to_fit_is_refused(noisy: Tensor, left_out: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="measurement must have an element to fit"):
        make(noisy, **left_out)
