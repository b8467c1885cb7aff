"""The join of estimates: that risks are right on average, and what follows from them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from dipfast import ops
from dipfast.denoisers.combine import (
    Estimate,
    combine,
    expected_error,
    judge,
    judge_held_out,
    without_bumps,
)
from dipfast.denoisers.nl_ridge import nl_ridge
from dipfast.model.bootstrap import Split, added_noise, noisier
from dipfast.model.noise import NoiseModel
from dipfast.model.operators import Identity, Mask
from dipfast.model.problem import Problem
from dipfast.stopping import HeldOut

NOISES = {
    "white": NoiseModel(0.1),
    "clipped": NoiseModel(0.1, low=0.0, high=1.0),
    "photons": NoiseModel(0.03, gain=0.01),
}
CLEAN = (
    0.5 + 0.45 * torch.linspace(0, 9, 48).sin()[:, None] * torch.linspace(0, 5, 48).cos()
).clamp(0.02, 0.98)[None, None]


def blurred(y: Tensor) -> Tensor:
    return functional.avg_pool2d(functional.pad(y, (1, 1, 1, 1), mode="reflect"), 3, 1)


def shrunk(y: Tensor) -> Tensor:
    return 0.4 * y + 0.6 * functional.avg_pool2d(
        functional.pad(y, (3, 3, 3, 3), mode="reflect"), 7, 1
    )


def splits_of(y: Tensor, noise: NoiseModel, pilot: Tensor, seed: int) -> list[Split]:
    """Return a pair of splits with opposite noise."""
    w = added_noise(pilot, noise, seed)
    return [Split(y, w), Split(y, -w)]


def mean_square(x: Tensor) -> float:
    return float(x.double().square().mean())


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
class TestRisk:
    def draws(self, noise: NoiseModel, count: int = 150):
        generator = torch.Generator().manual_seed(0)
        for seed in range(count):
            y = noise.sample(CLEAN, generator)
            yield y, splits_of(y, noise, blurred(y) if noise.is_white else CLEAN, seed)

    def test_is_the_error_on_average(self, noise: NoiseModel) -> None:
        differences = {"result": [], "mean": [], "single": []}
        expected = noise.expectation(CLEAN)
        for y, splits in self.draws(noise):
            images = [shrunk(split.fitted) for split in splits]
            for name, estimate, image in (
                ("result", judge("", images, splits, y, noise, result=shrunk(y)), shrunk(y)),
                ("mean", judge("", images, splits, blurred(y), noise), sum(images) / 2),
                ("single", judge("", images[:1], splits[:1], blurred(y), noise), images[0]),
            ):
                error = mean_square(noise.expectation(image) - expected)
                differences[name].append(estimate.risk - error)
        level = float(noise.variance(CLEAN).mean())
        for values in differences.values():
            error = np.std(values) / math.sqrt(len(values))
            # Where noise is not Gaussian the halves are uncorrelated and not independent.
            slack = 0.03 * level if noise.clipped or noise.gain else 0
            assert abs(np.mean(values)) < 4 * error + slack

    def test_spread_is_that_of_the_risk(self, noise: NoiseModel) -> None:
        y = noise.sample(CLEAN, torch.Generator().manual_seed(1))
        reference = blurred(y)
        singles, pairs, said, said_of_pairs = [], [], [], []
        for seed in range(200):
            splits = splits_of(y, noise, CLEAN, seed)
            images = [shrunk(split.fitted) for split in splits]
            one = judge("", images[:1], splits[:1], reference, noise)
            singles.append(one.risk)
            said.append(one.spread)
            pair = judge("", images, splits, reference, noise)
            pairs.append(pair.risk)
            said_of_pairs.append(pair.spread)
        # What is common to a pair drops out, and what was added stays.
        assert np.std(pairs) < 0.5 * np.std(singles)
        assert np.std(singles) == pytest.approx(np.mean(said), rel=0.3)

    def test_spread_of_a_pair_is_that_of_its_risk(self, noise: NoiseModel) -> None:
        y = noise.sample(CLEAN, torch.Generator().manual_seed(1))
        found, said = [], []
        for seed in range(300):
            splits = splits_of(y, noise, CLEAN, seed)
            images = [y + 0.05 * torch.randn_like(y) for _ in splits]
            # Of what the images differ by, and not of what they fit.
            estimate = judge("", images, splits, blurred(y), noise)
            mean = sum(noise.expectation(x) for x in images) / 2
            of_fit = sum(mean_square(noise.expectation(x) - y) for x in images) / 2
            of_mean = noise.expectation(sum(images) / 2)
            of_fit -= sum(mean_square(noise.expectation(x) - of_mean) for x in images) / 2
            assert mean.shape == y.shape
            found.append(estimate.risk - of_fit)
            said.append(estimate.spread)
        assert np.std(found) == pytest.approx(np.mean(said), rel=0.15)


# About that of white noise blurred by a Gaussian of 0.7 pixels.
COARSE = ((1.7, 1.6, 1.4, 1.1, 0.8, 0.4, 0.2),)


class TestDependence:
    """What is copied, or related, counts for less than as many independent elements."""

    @pytest.mark.parametrize("noise", [NoiseModel(0.1), NoiseModel(0.1, spectrum=COARSE)])
    def test_a_grey_picture_in_colour_is_judged_as_itself(self, noise: NoiseModel) -> None:
        y = NoiseModel(0.1).sample(CLEAN, torch.Generator().manual_seed(1))
        said, expected, weights = [], [], []
        for channels in (1, 3):
            stored = y.expand(-1, channels, -1, -1).contiguous()
            splits = splits_of(stored, noise, stored, 0)
            made = [[f(split.fitted) for split in splits] for f in (shrunk, blurred)]
            estimates = [judge("", images, splits, stored, noise) for images in made]
            said.append([estimate.spread for estimate in estimates])
            joined = combine(estimates, noise)
            weights.append(joined.weights)
            expected.append(expected_error(joined, made, splits, noise, stored))
        assert said[0] == pytest.approx(said[1])
        assert weights[0] == pytest.approx(weights[1])
        assert expected[0] == pytest.approx(expected[1])

    @pytest.mark.parametrize("spectrum", [COARSE, (*COARSE, (0.0,) * 7, (0.0,) * 7)])
    def test_spread_of_correlated_noise_is_that_of_the_risk(
        self, spectrum: tuple[tuple[float, ...], ...]
    ) -> None:
        noise = NoiseModel(0.1, spectrum=spectrum)
        y = NoiseModel(0.1).sample(CLEAN, torch.Generator().manual_seed(1))
        y = y.expand(-1, len(spectrum), -1, -1).contiguous()
        reference, risks, said = blurred(y), [], []
        for seed in range(150):
            splits = splits_of(y, noise, y, seed)
            images = [blurred(split.fitted) for split in splits]
            estimate = judge("", images, splits, reference, noise, result=reference)
            risks.append(estimate.risk)
            said.append(estimate.spread)
        assert np.std(risks) == pytest.approx(np.mean(said), rel=0.2)

    def test_noise_that_may_be_stronger_than_it_was_found(self) -> None:
        strong, found = NoiseModel(0.1), NoiseModel(0.05)
        y = strong.sample(CLEAN, torch.Generator().manual_seed(1))
        differences = []
        for seed in range(40):
            splits = splits_of(y, found, CLEAN, seed)
            images = [blurred(split.fitted) for split in splits]
            estimate = judge("", images, splits, blurred(y), found, result=blurred(y), variance=4.0)
            assert estimate.spread > 0
            differences.append(estimate.risk - mean_square(blurred(y) - CLEAN))
        # What is left is how far the noise of one picture is from its mean.
        assert np.mean(differences) == pytest.approx(0, abs=0.05 * strong.sigma**2)

    def test_held_out_channels_of_a_pixel_are_one(self) -> None:
        generator = torch.Generator().manual_seed(0)
        y, one, other = (
            CLEAN + 0.1 * torch.randn(CLEAN.shape, generator=generator) for _ in range(3)
        )
        said = []
        for channels in (1, 3):
            stored, *images = (x.expand(-1, channels, -1, -1) for x in (y, one, other))
            outliers = torch.zeros(stored.shape, dtype=torch.bool)
            outliers[:, -1, :2] = channels > 1  # of one channel, which leaves pixels with two
            problem = Problem(stored, Identity(), NoiseModel(0.1), outliers=outliers)
            problems = [HeldOut(0.3, seed=seed).prepare(problem) for seed in (0, 1)]
            first = judge_held_out("", images[:1] * 2, problems)
            said.append(judge_held_out("", images[1:] * 2, problems, first=first).spread)
        assert said[0] == pytest.approx(said[1], rel=0.05)


def risk_of_mean(weights: np.ndarray, images: torch.Tensor, risks: np.ndarray) -> float:
    mean = sum(w * image for w, image in zip(weights, images))
    return float(sum(w * (r - mean_square(x - mean)) for w, r, x in zip(weights, risks, images)))


class TestWeights:
    @given(st.integers(1, 4), st.integers(0, 10**6))
    def test_are_the_best_of_all(self, count: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        images = torch.from_numpy(random.normal(size=(count, 1, 1, 2, 3)))
        risks = random.uniform(0, 2, count)
        noise = NoiseModel(0.1)
        found = combine([Estimate("", *pair) for pair in zip(images, risks)], noise)
        assert sum(found.weights) == pytest.approx(1)
        assert min(found.weights) >= 0

        assert found.risk == pytest.approx(
            risk_of_mean(np.array(found.weights), images, risks), abs=1e-9
        )
        for weights in itertools.chain(random.dirichlet(np.ones(count), 100), np.eye(count)):
            assert found.risk <= risk_of_mean(weights, images, risks) + 1e-9
        torch.testing.assert_close(
            found.image, sum(w * image for w, image in zip(found.weights, images))
        )

    @given(st.integers(2, 4), st.floats(0, 1), st.integers(0, 10**6))
    def test_with_a_limit_to_the_last_are_the_best_that_keep_it(
        self, count: int, most: float, seed: int
    ) -> None:
        random = np.random.default_rng(seed)
        images = torch.from_numpy(random.normal(size=(count, 1, 1, 2, 3)))
        risks = random.uniform(0, 2, count)
        estimates = [Estimate("", *pair) for pair in zip(images, risks)]
        noise = NoiseModel(0.1)
        free, found = combine(estimates, noise), combine(estimates, noise, most=most)
        assert sum(found.weights) == pytest.approx(1)
        assert found.weights[-1] == pytest.approx(min(free.weights[-1], most))
        assert found.risk == pytest.approx(
            risk_of_mean(np.array(found.weights), images, risks), abs=1e-9
        )
        for last, others in zip(
            random.uniform(0, most, 50), random.dirichlet(np.ones(count - 1), 50)
        ):
            weights = np.array([*((1 - last) * others), last])
            assert found.risk <= risk_of_mean(weights, images, risks) + 1e-9

    def test_are_those_of_the_clean_picture_on_average(self) -> None:
        noise, found, true = NoiseModel(0.1), [], []
        generator = torch.Generator().manual_seed(3)
        for seed in range(60):
            y = noise.sample(CLEAN, generator)
            splits = splits_of(y, noise, CLEAN, seed)
            guides, fits = ([f(s.fitted) for s in splits] for f in (blurred, shrunk))
            first = judge("first", guides, splits, blurred(y), noise, result=blurred(y))
            second = judge("second", fits, splits, blurred(y), noise)
            found.append(combine([first, second], noise).weights[1])
            d = second.image - first.image
            true.append(float((d * (CLEAN - first.image)).sum() / d.square().sum()))
        error = np.std(np.subtract(found, true)) / math.sqrt(len(true))
        assert abs(np.mean(found) - np.mean(true)) < 4 * error + 0.02

    def test_a_useless_member_gets_none(self) -> None:
        noise = NoiseModel(0.1)
        y = noise.sample(CLEAN, torch.Generator().manual_seed(0))
        splits = splits_of(y, noise, CLEAN, 0)
        good = judge("", [blurred(s.fitted) for s in splits], splits, blurred(y), noise)
        random = torch.rand(y.shape, generator=torch.Generator().manual_seed(1))
        for useless in (torch.zeros_like(y), random, 1 - CLEAN):
            bad = judge("", [useless, useless], splits, blurred(y), noise)
            assert combine([good, bad], noise).weights[1] < 0.01

    def test_equal_members_share(self) -> None:
        image = torch.rand(1, 1, 4, 4)
        found = combine([Estimate("", image, 0.1), Estimate("", image, 0.1)], NoiseModel(0.1))
        torch.testing.assert_close(found.image, image)

    def test_what_is_hardly_measured_changes_nothing(self) -> None:
        first = Estimate("", torch.zeros(1, 1, 4, 4), 0.5)
        images = torch.ones(1, 1, 4, 4)
        for risk in (0.1, 0.9):
            sure = combine([first, Estimate("", images, risk, 0.001)], NoiseModel(0.1))
            vague = combine([first, Estimate("", images, risk, 2.0)], NoiseModel(0.1))
            assert sure.weights[1] == pytest.approx(0.5 + (0.5 - risk) / 2, abs=0.01)
            assert vague.weights[1] == 0

    def test_elements_that_are_not_known_do_not_count(self) -> None:
        noise = NoiseModel(0.1)
        y = noise.sample(CLEAN, torch.Generator().manual_seed(0))
        splits = splits_of(y, noise, CLEAN, 0)
        images = [blurred(s.fitted) for s in splits]
        known = torch.rand(y.shape) < 0.8
        wrong = [torch.where(known, image, torch.full_like(image, 9.0)) for image in images]
        expected, found = (
            judge("", x, splits, blurred(y), noise, known=known).risk for x in (images, wrong)
        )
        assert found == pytest.approx(expected)


class TestHeldOut:
    def problem(self, seed: int, sigma: float, fraction: float = 0.1) -> Problem:
        # Not the seed of the rule, which would hold out the pixels of the least numbers.
        generator = torch.Generator().manual_seed(1000 + seed)
        known = torch.rand((1, 48, 48), generator=generator) < 0.7
        noise = NoiseModel(sigma)
        y = CLEAN + sigma * torch.randn(CLEAN.shape, generator=generator)
        return HeldOut(fraction, seed=seed).prepare(Problem(y, Mask(known), noise))

    @pytest.mark.parametrize("sigma", [0.0, 0.1])
    def test_risks_and_weights_are_the_true_ones_on_average(self, sigma: float) -> None:
        generator = torch.Generator().manual_seed(10_000)
        one, other = (CLEAN + 0.1 * torch.randn(CLEAN.shape, generator=generator) for _ in range(2))
        weights, risks, spread = [], [], []
        for seed in range(60):
            problem = self.problem(seed, sigma)
            first = judge_held_out("first", [one], [problem])
            second = judge_held_out("second", [other], [problem], first=first)
            weights.append(combine([first, second], problem.noise).weights[1])
            risks.append(second.risk)
            distance = mean_square(second.expected - first.expected)
            spread.append(second.spread / (2 * distance))
        assert np.mean(risks) == pytest.approx(mean_square(other - CLEAN), rel=0.05)
        d = other - one
        true = float((d * (CLEAN - one)).sum() / d.square().sum())
        assert np.mean(weights) == pytest.approx(true, abs=0.05)
        assert np.std(weights) == pytest.approx(np.mean(spread), rel=0.4)

    @pytest.mark.parametrize(
        "noise",
        [
            NoiseModel(0.0, gain=0.05),
            NoiseModel(0.02, gain=0.05, low=0.0),
            NoiseModel(0.2, low=0.0, high=1.0),
        ],
    )
    def test_a_brighter_member_is_not_preferred(self, noise: NoiseModel) -> None:
        clean = torch.full((1, 1, 96, 96), 0.2)
        y = noise.sample(clean, torch.Generator().manual_seed(0))
        problem = HeldOut(0.4).prepare(Problem(y, Identity(), noise))
        first = judge_held_out("first", [clean], [problem])
        for factor in (0.8, 1.2):
            other = judge_held_out("other", [factor * clean], [problem], first=first)
            assert combine([first, other], noise).weights[1] < 0.15
            away = mean_square(noise.expectation(factor * clean) - noise.expectation(clean))
            assert other.risk == pytest.approx(away, abs=2e-3)
        assert first.risk == pytest.approx(0, abs=1e-3)

    def test_only_held_out_elements_count(self) -> None:
        problem = self.problem(0, 0.0)
        held_out = problem.held_out_problem
        assert held_out is not None
        wrong = torch.where(held_out.known, CLEAN, torch.full_like(CLEAN, 9.0))
        assert judge_held_out("", [wrong], [problem]).risk == pytest.approx(0, abs=1e-9)

    def test_a_useless_member_gets_none(self) -> None:
        problems = [self.problem(seed, 0.0) for seed in (0, 1)]
        first = judge_held_out("", [CLEAN + 0.02, CLEAN - 0.01], problems, result=CLEAN)
        for useless in (torch.zeros_like(CLEAN), 1 - CLEAN):
            bad = judge_held_out("", [useless, useless], problems, first=first)
            joined = combine([first, bad], NoiseModel(0.0))
            assert joined.weights[1] < 0.02

    def test_of_an_operator_it_is_the_error_of_the_measurement(self) -> None:
        problem = HeldOut(0.2).prepare(Problem(CLEAN, Identity(), NoiseModel(0.0)))
        assert judge_held_out("", [CLEAN + 0.1], [problem]).risk == pytest.approx(0.01, rel=1e-3)


class TestExpectedError:
    def test_hangs_less_on_the_level_of_the_noise(self) -> None:
        noise, clean = NoiseModel(0.1), CLEAN.repeat(1, 3, 4, 4)
        y = noise.sample(clean, torch.Generator().manual_seed(0))
        splits = splits_of(y, noise, clean, 0)
        fits = [0.8 * clean + 0.2 * blurred(split.fitted) for split in splits]
        errors = []
        for level in (0.099, 0.1, 0.101):
            told = NoiseModel(level)
            found = combine([judge("", fits, splits, blurred(y), told)], told)
            errors.append((found.risk, expected_error(found, [fits], splits, told, blurred(y))))
        (low, own_low), _, (high, own_high) = errors
        assert abs(own_high - own_low) < 0.7 * abs(high - low)

    def test_is_the_error_of_photographs(self) -> None:
        """Of astronaut, whose errors have the usual covariance, within 1 dB."""
        pixels = skimage.data.astronaut()[20:132, 140:252]
        clean = torch.from_numpy(pixels / 255).permute(2, 0, 1)[None].float()
        for sigma in (10, 25, 50):
            noise = NoiseModel(sigma / 255)
            y = noise.sample(clean, torch.Generator().manual_seed(0))
            first = nl_ridge(y, noise)
            splits = splits_of(y, noise, first, 0)
            guides = [nl_ridge(split.fitted, noisier(noise)) for split in splits]
            joined = combine([judge("", guides, splits, first, noise, result=first)], noise)
            expected = expected_error(joined, [guides], splits, noise, first)
            assert abs(10 * math.log10(expected / mean_square(first - clean))) < 1

    @pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 3, 1, 7), (1, 2, 9, 2)])
    def test_of_small_pictures_is_positive(self, shape: tuple[int, ...]) -> None:
        noise = NoiseModel(0.1, low=0.0, high=1.0)
        y = noise.sample(torch.full(shape, 0.5), torch.Generator().manual_seed(0))
        splits = splits_of(y, noise, y, 0)
        images = [split.fitted for split in splits]
        estimates = [judge("", images, splits, y, noise)] * 2
        assert expected_error(combine(estimates, noise), [images] * 2, splits, noise, y) > 0

    def test_an_error_that_chance_hides_is_told_as_large_as_that(self) -> None:
        # Of a perfect estimate what is measured is noise, of either sign.
        noise, clean = NoiseModel(0.1), CLEAN[..., :32, :32]
        by_chance = 0.1**2 / math.sqrt(clean.numel())
        for seed in range(6):
            y = noise.sample(clean, torch.Generator().manual_seed(seed))
            splits = splits_of(y, noise, clean, seed)
            found = combine([judge("", [clean] * 2, splits, clean, noise)], noise)
            expected = expected_error(found, [[clean] * 2], splits, noise, clean)
            assert by_chance <= expected * 1.0001 < 5 * by_chance

    def test_a_single_fit_has_the_noise_that_it_took_in(self) -> None:
        noise, clean = NoiseModel(0.1), CLEAN.repeat(1, 3, 4, 4)
        y = noise.sample(clean, torch.Generator().manual_seed(0))
        splits = splits_of(y, noise, clean, 0)
        fits = [0.8 * clean + 0.2 * blurred(split.fitted) for split in splits]
        errors = []
        for count in (1, 2):
            made, of = fits[:count], splits[:count]
            # A level that is a little too low makes the risk too small.
            told = NoiseModel(0.097)
            found = combine([judge("", made, of, clean, told)], told)
            errors.append(expected_error(found, [made], of, told, clean))
        assert errors[0] == pytest.approx(errors[1], rel=0.1)


@pytest.mark.parametrize("name", ["camera", "astronaut", "coins", "chelsea"])
@pytest.mark.parametrize("sigma", [10, 40])
def test_no_photograph_is_worse_than_its_best_member(name: str, sigma: int) -> None:
    """The join of non-local ridge regression and TV denoising, in dB."""
    pixels = np.atleast_3d(getattr(skimage.data, name)())[40:168, 100:228]
    clean = torch.from_numpy(pixels / 255).permute(2, 0, 1)[None].float()
    noise = NoiseModel(sigma / 255, low=0.0, high=1.0)
    y = noise.sample(clean, torch.Generator().manual_seed(0))

    def smooth(x: Tensor) -> Tensor:
        return ops.tv_denoise(x[0], sigma=noise.sigma, channel_axis=0, joint_channels=True)[None]

    first = nl_ridge(y, noise)
    splits = splits_of(y, noise, first, 0)
    guides = [nl_ridge(split.fitted, noisier(noise)) for split in splits]
    members = [
        judge("nl_ridge", guides, splits, first, noise, result=first),
        judge("tv", [smooth(split.fitted) for split in splits], splits, first, noise),
    ]
    joined = combine(members, noise)
    errors = [mean_square(member.image - clean) for member in members]
    assert 10 * math.log10(mean_square(joined.image - clean) / min(errors)) < 0.05


class TestBumps:
    """A network's soft bumps are taken off, and nothing else."""

    def test_a_bump_goes_and_details_stay(self) -> None:
        generator = torch.Generator().manual_seed(0)
        clean = torch.rand(1, 3, 96, 96, generator=generator)
        added = 0.1 * torch.randn(clean.shape, generator=generator)
        rows, columns = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
        bump = 0.1 * torch.exp(-((rows - 40) ** 2 + (columns - 60) ** 2) / (2 * 8.0**2))
        reference = clean + 0.02 * torch.randn(clean.shape, generator=generator)
        fit = clean + 0.02 * torch.randn(clean.shape, generator=generator)
        left = without_bumps(fit + bump, reference, added) - fit
        assert float(left.square().mean()) < 0.25 * float(bump.square().mean())
        same = without_bumps(fit, reference, added)
        assert float((same - fit).abs().mean()) < 1e-4

    @pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 2, 1, 7), (1, 3, 5, 40)])
    def test_any_size(self, shape: tuple[int, ...]) -> None:
        image = torch.rand(shape)
        result = without_bumps(image, torch.zeros(shape), torch.zeros(shape))
        assert result.shape == shape
        assert bool(result.isfinite().all())
