"""Test stop rules on sequences of images whose best iteration is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import dipfast
from dipfast.model.noise import NoiseModel
from dipfast.model.problem import Problem
from dipfast.networks import HourglassConfig
from dipfast.operators import Blur, Downsample, Identity, LinearOperator, Mask
from dipfast.stopping import (
    RULES,
    Automatic,
    Bootstrap,
    Decision,
    Discrepancy,
    FirstOf,
    HeldOut,
    LastOf,
    Never,
    RunningVariance,
    StopRule,
    WindowedVariance,
)

CLEAN = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(1))
WHITE = NoiseModel(0.1)

SMALL = dipfast.Preset(20, (1 / 30, 1 / 30), HourglassConfig((8, 16), (8, 16), (4, 4)))


def problem_of(noise: NoiseModel = WHITE, operator: LinearOperator | None = None) -> Problem:
    operator = operator or Identity()
    generator = torch.Generator().manual_seed(0)
    return Problem(noise.sample(operator(CLEAN), generator), operator, noise)


@dataclass
class Run:
    """Show images to a rule as those of a fit of 100 iterations, and record its decisions."""

    rule: StopRule
    problem: Problem = field(default_factory=problem_of)
    iterations: int = 100
    in_last_stage: bool = True
    regularised: bool = False

    def __post_init__(self) -> None:
        self.problem = self.rule.prepare(self.problem)
        self.memory: dict = {}
        self.iteration = 0
        self.best = 0

    def show(self, image: Tensor, average: Tensor | None = None) -> Decision:
        self.iteration += 1
        state = SimpleNamespace(
            iteration=self.iteration,
            iterations=self.iterations,
            in_last_stage=self.in_last_stage,
            regularised=self.regularised,
            image=image.clone(),
            average=(image if average is None else average).clone(),
            problem=self.problem,
        )
        decision = self.rule.update(state, self.memory)
        if decision.best is not False:
            self.best = self.iteration
        return decision

    def until_stop(self, images) -> str | None:
        return next((str(v.stop) for v in map(self.show, images) if v.stop is not None), None)


def images_at_distances(scales: list[float], seed: int = 0):
    """Yield the clean image with random deviations of these standard deviations."""
    generator = torch.Generator().manual_seed(seed)
    for scale in scales:
        yield CLEAN + scale * torch.randn(CLEAN.shape, generator=generator)


# Standard deviations that fall until iteration 50 of 100, and rise again.
FALLING_THEN_RISING = [0.01 + abs(k - 50) / 500 for k in range(1, 101)]


@pytest.mark.parametrize(
    ("rule", "lag"),
    [
        (WindowedVariance(window=10), 5),
        (RunningVariance(rate=0.2), 5),
        (WindowedVariance(window=10, patience=0.3), 5),
    ],
    ids=str,
)
def test_variances_find_where_outputs_change_least(rule: StopRule, lag: int) -> None:
    run = Run(rule)
    reason = run.until_stop(images_at_distances(FALLING_THEN_RISING))
    assert "variance has not fallen for" in reason
    assert 50 <= run.best <= 50 + 2 * lag
    assert run.iteration == run.best + round(100 * rule.patience)


@pytest.mark.parametrize("rule", [WindowedVariance(window=10), RunningVariance()], ids=str)
def test_first_iterations_and_earlier_stages_are_no_minimum(rule: StopRule) -> None:
    run = Run(rule, in_last_stage=False)
    for image in images_at_distances([0.0] * 20):  # the variance is 0
        assert run.show(image) == Decision(best=True)
    run.in_last_stage = True
    assert run.until_stop(images_at_distances(FALLING_THEN_RISING[20:])) is not None
    assert 50 <= run.best <= 65


def test_windowed_variance_is_that_of_its_window() -> None:
    run = Run(WindowedVariance(window=4, patience=1.0), iterations=30)
    images = list(images_at_distances([0.1 + 0.05 * math.sin(k) for k in range(30)]))
    least = math.inf
    for k, image in enumerate(images, start=1):
        run.show(image)
        if k >= 3 + 4:  # a tenth of the iterations, and a window
            window = torch.stack(images[k - 4 : k])
            least = min(least, window.var(dim=0, unbiased=False).mean().item())
            assert run.memory["least"] == pytest.approx(least, rel=1e-5)


@pytest.mark.parametrize(
    "operator",
    [None, Mask(torch.rand(24, 20, generator=torch.Generator().manual_seed(2)) < 0.5)],
    ids=str,
)
def test_held_out_pixels_find_the_image_nearest_to_the_clean_one(operator) -> None:
    problem = problem_of(operator=operator)
    run = Run(HeldOut(fraction=0.2), problem)
    share = run.problem.held_out.float().mean().item()
    assert share == pytest.approx(0.2, abs=0.05)
    # The distance from the clean image is least at iteration 50, while the images fit more and
    # more of the noise.
    noise = problem.measurement - CLEAN
    images = [
        CLEAN + (0.05 + abs(k - 50) / 300) * CLEAN.flip(-1) + k / 1e5 * noise for k in range(1, 101)
    ]
    reason = run.until_stop(images)
    assert reason == "the error of held-out pixels has not fallen for 20 iterations"
    assert abs(run.best - 50) <= 8


@pytest.mark.parametrize("noise", [NoiseModel(0.0, gain=0.2), NoiseModel(0.3, low=0.0, high=1.0)])
def test_held_out_pixels_prefer_no_image_that_is_too_bright(noise: NoiseModel) -> None:
    run = Run(HeldOut(fraction=0.5, patience=1.0), problem_of(noise))
    # Brighter and brighter, and as bright as the clean image at iteration 50.
    for k in range(1, 101):
        run.show(CLEAN * (0.5 + k / 100))
    assert abs(run.best - 50) <= 6


@pytest.mark.parametrize("rule", [HeldOut(fraction=0.2), Bootstrap()], ids=str)
def test_the_last_stage_has_its_time_to_fall(rule: StopRule) -> None:
    def away(step: int) -> Tensor:  # least at step 10
        return CLEAN + (0.05 + abs(step - 10) / 100) * CLEAN.flip(-1)

    run = Run(rule, in_last_stage=False)
    assert run.until_stop(map(away, range(1, 61))) is None
    assert run.best == 10
    run.in_last_stage = True
    reason = run.until_stop(map(away, range(61, 101)))
    assert reason is not None
    assert reason.endswith("has not fallen for 20 iterations")
    assert (run.best, run.iteration) == (10, 80)


def test_a_search_that_was_kept_without_the_end_of_earlier_stages_goes_on() -> None:
    run = Run(HeldOut(fraction=0.2))
    run.iteration, run.memory = 59, {"least": 0.0, "least_at": 41}
    assert run.show(CLEAN).stop is None
    assert run.show(CLEAN).stop is not None


def test_held_out_pixels_are_those_that_the_fit_does_not_see() -> None:
    rule, problem = HeldOut(fraction=0.1), problem_of()
    prepared = rule.prepare(problem)
    assert torch.equal(prepared.known, ~prepared.held_out)
    assert problem.held_out is None
    # The error does not depend on the pixels that are fitted.
    elsewhere = torch.where(prepared.held_out, CLEAN, 7.0)
    errors = []
    for image in (CLEAN, elsewhere):
        run = Run(rule, problem)
        run.show(image)
        errors.append(run.memory["least"])
    assert errors[0] == pytest.approx(errors[1])
    # No measured pixel is held out.
    missing = Mask(torch.zeros(24, 20, dtype=torch.bool) | (torch.arange(24) < 1)[:, None])
    nothing = Run(HeldOut(fraction=0.001), problem_of(operator=missing))
    assert nothing.show(CLEAN) == Decision(best=True)


def test_what_hangs_on_an_unknown_border_is_not_held_out() -> None:
    blur = Blur(torch.ones(5, 3) / 15)
    held_out = HeldOut(fraction=0.9).prepare(problem_of(operator=blur)).held_out
    assert held_out is not None
    assert held_out[..., 2:-2, 1:-1].float().mean() > 0.8
    assert not held_out[..., :2, :].any()
    assert not held_out[..., -1].any()
    all_of_it = Blur(torch.ones(99, 99) / 99**2)
    assert HeldOut().prepare(problem_of(operator=all_of_it)).held_out is not None


def test_pixels_of_a_smaller_measurement_are_held_out() -> None:
    run = Run(HeldOut(fraction=0.3), problem_of(operator=Downsample(2)))
    assert run.problem.held_out.shape == (1, 1, 12, 10)
    assert run.show(CLEAN).best


def test_pixels_are_held_out_of_a_mask_that_was_drawn_with_the_same_seed() -> None:
    numbers = torch.rand(24, 20, generator=torch.Generator().manual_seed(0))
    for known in (numbers > 0.5, numbers < 0.01):
        prepared = HeldOut().prepare(problem_of(operator=Mask(known)))
        assert prepared.count > 0
    problem = problem_of(operator=Mask(numbers > 0.5))
    assert HeldOut().prepare(problem).held_out_problem is not None


def test_something_is_always_left_to_fit() -> None:
    problem = problem_of()
    assert HeldOut(fraction=1 - 1e-9).prepare(problem) is problem


class TestDiscrepancy:
    def test_stops_at_the_noise_level(self) -> None:
        problem = problem_of()
        noise = problem.measurement - CLEAN
        level = noise.square().mean().sqrt().item()
        run = Run(Discrepancy(every=5), problem)
        shares = [1.5 - k / 50 for k in range(1, 101)]  # of the noise that is not fitted yet
        reason = run.until_stop([problem.measurement - share * noise for share in shares])
        assert reason == "residual at the noise level"
        assert run.iteration % 5 == 0
        share = shares[run.iteration - 1]
        assert share * level <= 0.1 < (share + 0.1) * level
        assert run.best == run.iteration

    def test_does_not_stop_with_total_variation(self) -> None:
        problem = problem_of()
        run = Run(Discrepancy(every=1), problem, regularised=True)
        assert run.show(problem.measurement) == Decision(best=True)
        run.regularised = False
        assert run.show(problem.measurement).stop == "residual at the noise level"

    def test_does_not_stop_without_noise(self) -> None:
        problem = problem_of(NoiseModel(0.0))
        run = Run(Discrepancy(every=1), problem)
        assert run.show(problem.measurement) == Decision(best=True)

    def test_clipped_noise_is_compared_with_its_expectation(self) -> None:
        # The measurement of a black picture is brighter on average, because clipping at 0 removes
        # negative noise.
        noise = NoiseModel(0.2, low=0.0, high=1.0)
        generator = torch.Generator().manual_seed(0)
        black = torch.zeros(1, 1, 64, 64)
        problem = Problem(noise.sample(black, generator), Identity(), noise)
        for factor, reason in ((1.05, "residual at the noise level"), (0.95, None)):
            run = Run(Discrepancy(factor=factor, every=1), problem)
            assert run.show(black).stop == reason

    def test_photons_in_the_dark_have_less_noise_than_weights_make_up_for(self) -> None:
        noise = NoiseModel(0.0, gain=0.02)
        dark = torch.full((1, 1, 64, 64), 0.005)
        problem = Problem(noise.sample(dark, torch.Generator().manual_seed(0)), Identity(), noise)
        assert problem.expected_square(dark) < 0.3 * noise.typical_variance
        for factor, reason in ((1.05, "residual at the noise level"), (0.95, None)):
            run = Run(Discrepancy(factor=factor, every=1), problem)
            assert run.show(dark).stop == reason


def test_never_stops() -> None:
    run = Run(Never())
    assert run.until_stop(images_at_distances(FALLING_THEN_RISING)) is None
    assert run.best == 100


class StopAt(StopRule):
    """Stop at an iteration; call all iterations up to another the best, or leave that open."""

    def __init__(self, iteration: int, best: int | None) -> None:
        self.iteration, self.best = iteration, best

    def update(self, state, memory):
        memory["looks"] = memory.get("looks", 0) + 1
        assert memory["looks"] == state.iteration
        best = None if self.best is None else state.iteration <= self.best
        reason = f"at {self.iteration}" if state.iteration >= self.iteration else None
        return Decision(best, reason)


def test_first_of_stops_first_and_the_first_decided_best_counts() -> None:
    run = Run(FirstOf((StopAt(9, None), StopAt(7, 3), StopAt(8, 5))))
    assert run.until_stop([CLEAN] * 20) == "at 7"
    assert (run.iteration, run.best) == (7, 3)


def test_last_of_stops_last_and_the_latest_best_counts() -> None:
    run = Run(LastOf((StopAt(4, 2), StopAt(9, 6), StopAt(7, 3))))
    assert run.until_stop([CLEAN] * 20) == "at 9"
    assert (run.iteration, run.best) == (9, 6)
    # A rule that has stopped is not called again.
    run = Run(LastOf((StopAt(4, 8), StopAt(9, 6))))
    assert run.until_stop([CLEAN] * 20) == "at 9"
    assert run.best == 6
    # A rule whose ``best`` is None leaves the best iteration to the others.
    for rules in ((StopAt(4, None), StopAt(9, 6)), (StopAt(9, None), StopAt(8, 6))):
        run = Run(LastOf(rules))
        run.until_stop([CLEAN] * 20)
        assert (run.iteration, run.best) == (9, 6)


def test_composite_rules_prepare_for_all_their_rules() -> None:
    rules = FirstOf((HeldOut(0.1, seed=1), HeldOut(0.1, seed=2)))
    held_out = rules.prepare(problem_of()).held_out
    for rule in rules.rules:
        assert (rule.prepare(problem_of()).held_out <= held_out).all()


def test_default_of_noisy_pictures_judges_by_the_unseen_half() -> None:
    problem = problem_of()
    run = Run(RULES["auto"], problem, iterations=150)
    assert run.problem.split is not None
    assert run.problem.held_out is not None
    # The clean image comes nearer until iteration 50 while noise is taken in.
    noise = run.problem.measurement - CLEAN
    images = [CLEAN + max(1 - k / 50, 0) * CLEAN.flip(-1) + k / 150 * noise for k in range(1, 151)]
    assert run.until_stop(images) is not None
    assert run.best == pytest.approx(48, abs=5)
    # The unseen half may end the fit alone: where the residual never comes down to the noise.
    run = Run(RULES["auto"], problem)
    worse = [CLEAN + k / 10 for k in range(2, 95)]
    assert "unseen half" in run.until_stop([CLEAN + 0.1] * 5 + worse)
    assert run.best == 5
    seeds = [Automatic(seed).prepare(problem).measurement for seed in (0, 1)]
    assert torch.equal(seeds[0], run.problem.measurement)
    assert not torch.equal(*seeds)


def test_default_of_other_tasks_stops_at_the_later_of_two_rules() -> None:
    problem = problem_of(operator=Mask(torch.ones(24, 20, dtype=torch.bool)))
    noise = problem.measurement - CLEAN
    # The images fit more and more of the noise; the error of the held-out pixels rises from
    # iteration 30 on.
    run = Run(RULES["auto"], problem)
    shares = [1.4 - k / 100 for k in range(1, 101)]
    images = []
    for k, share in enumerate(shares, start=1):
        image = problem.measurement - share * noise
        off = 0.1 + abs(k - 30) / 100
        images.append(torch.where(run.problem.held_out, CLEAN + off, image))
    reason = run.until_stop(images)
    # The residual is at the noise level from about iteration 40 on, later than the stop of the
    # held-out pixels.
    assert reason == "residual at the noise level"
    assert run.best == run.iteration == pytest.approx(40, abs=10)
    # If the held-out pixels are the later of the two, they decide which iteration is the best.
    run = Run(RULES["auto"], problem)
    held_out = run.problem.held_out
    images = [
        torch.where(held_out, CLEAN + 0.1 + abs(k - 70) / 100, problem.measurement - s * noise)
        for k, s in enumerate(shares, start=1)
    ]
    assert "held-out" in run.until_stop(images)
    assert (run.best, run.iteration) == (70, 90)


@pytest.mark.parametrize("operator", [Identity(), Mask(torch.ones(2, 2, dtype=torch.bool))])
def test_default_stops_where_there_are_too_few_pixels_to_hold_out(operator) -> None:
    clean = CLEAN[..., :2, :2]
    problem = Problem(WHITE.sample(clean, torch.Generator().manual_seed(3)), operator, WHITE)
    run = Run(RULES["auto"], problem)
    assert run.problem.held_out_problem is None
    noise = run.problem.measurement - clean
    images = [run.problem.measurement - (1.4 - k / 100) * noise for k in range(1, 101)]
    assert run.until_stop(images) is not None


def test_default_holds_nothing_out_without_noise() -> None:
    problem = problem_of(NoiseModel(0.0))
    run = Run(RULES["auto"], problem)
    assert run.problem is problem
    assert run.until_stop(images_at_distances(FALLING_THEN_RISING)) is None
    assert run.best == 100


@pytest.mark.parametrize("name", RULES)
def test_rules_by_name(name: str) -> None:
    run = Run(RULES[name])
    assert isinstance(run.show(CLEAN), Decision)
    # The state of a rule can be written into a checkpoint, and the rule itself does not change.
    assert all(isinstance(v, Tensor | int | float | str) for v in run.memory.values())
    assert replace(RULES[name]) == RULES[name]
    hash(RULES[name])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WindowedVariance(window=1), "window must be from 2 up, got 1"),
        (lambda: WindowedVariance(patience=0), "patience must be between 0 and 1, got 0"),
        (lambda: RunningVariance(rate=1.0), "rate must be between 0 and 1, got 1.0"),
        (lambda: HeldOut(fraction=1.0), "fraction must be between 0 and 1, got 1.0"),
        (lambda: Discrepancy(factor=0), "factor and every must be positive, got 0 and"),
        (lambda: FirstOf(()), "rules must not be empty"),
    ],
)
def test_arguments_are_checked(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_images_of_a_result_are_those_of_the_best_and_the_last_iteration(noisy_pair) -> None:
    noisy, clean = noisy_pair
    images = {}

    def record(state):
        images[state.iteration] = (state.image, state.average, float(state.terms.value))

    result = dipfast.denoise(
        noisy,
        stop=StopAt(12, 7),
        fill_outliers=True,
        refine=False,
        quality="fast",
        max_iterations=20,
        callback=record,
        reference=clean,
    )
    assert (result.best_iteration, result.stop_iteration, result.stop_detail) == (7, 12, "at 12")

    def bytes_of(image: Tensor):
        return (image[0].double() * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()

    for image, expected in (
        (result.image, images[7][1]),
        (result.best_output, images[7][0]),
        (result.stop_image, images[12][1]),
        (result.stop_output, images[12][0]),
    ):
        assert (image == bytes_of(expected)).all()
    assert result.best_loss == images[7][2] == result.history["loss"][6]
    assert result.psnr == pytest.approx(result.history["psnr_average"][6], abs=0.05)
    assert result.metrics["psnr_stop"] == result.history["psnr_average"][11]


@dataclass(frozen=True)
class BestAt(StopRule):
    """Call one iteration the best, in a kind of truth of its own."""

    number: int
    kind: Callable[[bool], Any]

    def update(self, state, memory):
        return Decision(best=self.kind(state.iteration == self.number))


@pytest.mark.parametrize("kind", [torch.tensor, np.bool_, bool])
@pytest.mark.parametrize("combined", [None, FirstOf, LastOf])
def test_truth_of_any_kind_tells_the_best_iteration(noisy_pair, kind, combined) -> None:
    rule = BestAt(3, kind)
    if combined is not None:
        never = StopAt(99, 0)
        rule = combined((rule, never) if combined is FirstOf else (never, rule))
    result = dipfast.denoise(
        noisy_pair[0], method="dip", preset=SMALL, max_iterations=6, stop=rule, sigma=25
    )
    assert (result.best_iteration, result.stop_iteration) == (3, 6)


@pytest.mark.parametrize("answer", [None, True, (True, "enough")])
@pytest.mark.parametrize("wrap", [lambda rule: rule, lambda rule: FirstOf((rule,))])
def test_a_rule_that_returns_no_decision_is_refused(answer: Any, wrap: Any) -> None:
    class Short(StopRule):
        def update(self, state: Any, memory: Any) -> Any:
            return answer

    with pytest.raises(TypeError, match=r"stop rule Short must return a dipfast\.stopping\.Dec"):
        wrap(Short()).decide(None, {})


@pytest.mark.parametrize("rules", [HeldOut(), "auto", ("held_out",)])
def test_what_is_no_tuple_of_rules_is_refused(rules: Any) -> None:
    with pytest.raises(TypeError, match="rules must be "):
        LastOf(rules)
