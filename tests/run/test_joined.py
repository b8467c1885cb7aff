"""Estimates that are joined: what a result carries, how it ends early, and that it goes on."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch

import dipfast
from dipfast.errors import CheckpointMismatchError, InputError
from dipfast.model.noise import NoiseModel
from dipfast.model.operators import Identity
from dipfast.model.problem import Problem
from dipfast.networks import HourglassConfig
from dipfast.prior.controls import Guide, StageImage
from dipfast.prior.loop import State
from dipfast.prior.stages import Stage
from dipfast.run.checkpoint import Checkpoint, CheckpointFile, read_checkpoint
from dipfast.run.judges import ByHeldOut, ByNoise, Judge, Variant
from dipfast.run.observers import Progress
from dipfast.run.record import read_settings
from dipfast.settings.presets import PRESETS
from dipfast.stop_reason import StopReason
from dipfast.stopping import Decision

SMALL = dipfast.Preset(
    30,
    (0.1, 0.05),
    HourglassConfig((8, 16), (8, 16), (4, 4)),
    optimizer="muon",
    learning_rate=0.2,
    average_decay=0.9,
)


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    for quality in ("balanced", "best"):
        monkeypatch.setitem(PRESETS, f"guided-{quality}", SMALL)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Return a part of a photograph with noise of sigma 25, and without."""
    clean = skimage.data.astronaut()[20:84, 180:244]
    noise = np.random.default_rng(0).normal(0, 25, clean.shape)
    return (clean + noise).round().clip(0, 255).astype(np.uint8), clean


class _Picture(Progress):
    """A progress that comes with a picture."""


class StopAt:
    """Raise StopIteration at the call of a number, counted from 1, of states or of pictures."""

    def __init__(self, number: int, kind: type = State) -> None:
        self.number, self.kind, self.seen = number, kind, 0

    def __call__(self, state: Any) -> None:
        if self.kind is _Picture:
            counts = isinstance(state, Progress) and state.image is not None
        else:
            counts = isinstance(state, self.kind)
        self.seen += counts
        if counts and self.seen == self.number:
            raise StopIteration


class TestResult:
    def test_carries_members_weights_and_what_is_expected(self, pair: Any) -> None:
        noisy, clean = pair
        result = dipfast.denoise(noisy, reference=clean, seed=1)
        names = [member.name for member in result.members]
        assert names == ["nl_ridge", "nl_ridge without its last pass", "guided"]
        weights = [member.weight for member in result.members]
        assert sum(weights) == pytest.approx(1)
        assert min(weights) >= 0
        mean = sum(m.weight * m.image.astype(float) for m in result.members)
        assert np.abs(mean - result.image).max() <= 1.5
        expected = dipfast.denoise(noisy, quality="fast", method="nl_ridge")
        assert result.expected_psnr == pytest.approx(result.psnr, abs=1.5)
        alone = dipfast.denoise(noisy, method="nl_ridge", quality="balanced")
        np.testing.assert_array_equal(result.members[0].image, alone.image)
        assert expected.members == ()
        assert expected.expected_psnr is None
        report = result.report()
        assert report["members"] == {m.name: m.weight for m in result.members}
        assert report["expected_psnr"] == result.expected_psnr
        assert result.found["method"] == "joined"
        assert result.found["preset"] == "guided-balanced"
        assert "joined: nl_ridge" in result.stop_detail
        assert "dB expected" in result.summary()

    def test_history_goes_through_all_fits(self, pair: Any) -> None:
        result = dipfast.denoise(pair[0])
        iterations = result.history["iteration"]
        assert iterations == list(range(1, len(iterations) + 1))
        assert list(dict.fromkeys(result.history["stage"])) == ["guided 1", "guided 2"]
        assert result.found["max_iterations"] == 60
        assert result.stop_iteration == len(iterations)

    def test_is_the_same_for_the_same_seed(self, pair: Any) -> None:
        first, again, other = (dipfast.denoise(pair[0], seed=seed) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first.image, again.image)
        assert first.history == again.history
        assert first.history["loss"] != other.history["loss"]

    def test_is_no_worse_than_the_picture_without_a_network(self, pair: Any) -> None:
        noisy, clean = pair
        alone = dipfast.denoise(noisy, reference=clean, method="nl_ridge", quality="balanced")
        joined = dipfast.denoise(noisy, reference=clean)
        assert joined.psnr > alone.psnr - 0.05

    @pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5, 4, 3), (17, 16)])
    def test_takes_small_pictures(self, shape: tuple[int, ...]) -> None:
        noisy = np.random.default_rng(0).normal(128, 20, shape).clip(0, 255).astype(np.uint8)
        result = dipfast.denoise(noisy, sigma=20.0)
        assert result.image.shape == shape
        assert result.image.dtype == np.uint8

    def test_a_picture_without_noise_comes_back(self) -> None:
        clean = skimage.data.astronaut()[20:60, 180:220]
        result = dipfast.denoise(clean, sigma=0)
        np.testing.assert_array_equal(result.image, clean)
        assert result.history["iteration"] == []
        assert result.members == ()

    def test_batches(self, pair: Any) -> None:
        noisy, clean = pair
        batch, truth = (
            torch.from_numpy(np.stack([x, x[::-1]])).permute(0, 3, 1, 2) for x in (noisy, clean)
        )
        result = dipfast.denoise(batch, reference=truth)
        assert result.image.shape == batch.shape
        assert result.members == ()
        assert math.isfinite(result.expected_psnr)
        assert set(result.history["item"]) == {0, 1}

    def test_what_is_expected_counts_the_outliers_that_are_kept(self) -> None:
        clean = skimage.data.camera()[100:164, 150:214]
        noise = np.random.default_rng(0).normal(0, 10, clean.shape)
        noisy = (clean + noise).round().clip(0, 255).astype(np.uint8)
        noisy[8::20, 8::20] = np.where(clean[8::20, 8::20] < 128, 255, 0)
        options = {"reference": clean, "method": "joined", "preset": SMALL}
        kept, filled = (dipfast.denoise(noisy, fill_outliers=f, **options) for f in (False, True))
        assert kept.psnr < filled.psnr - 4
        assert kept.expected_psnr == pytest.approx(kept.psnr, abs=1.0)
        assert kept.expected_psnr < filled.expected_psnr - 4

    def test_what_is_expected_counts_rounding(self) -> None:
        y, x = np.mgrid[:32, :32]
        clean = 60 + 40 * np.sin(x / 9) * np.cos(y / 12)
        noisy = clean + np.random.default_rng(0).normal(0, 1, clean.shape)
        options: dict[str, Any] = {"data_range": 255, "preset": SMALL, "max_iterations": 50}
        errors = []
        for dtype in (np.float32, np.uint8):
            result = dipfast.denoise(
                noisy.round().astype(dtype), sigma=1.0, method="joined", **options
            )
            expected = 255**2 / 10 ** (result.expected_psnr / 10)
            errors.append((expected, float(np.square(result.image - clean).mean())))
        (of_floats, true_of_floats), (of_integers, true_of_integers) = errors
        assert true_of_integers - true_of_floats == pytest.approx(1 / 12, rel=0.2)
        assert of_integers - of_floats == pytest.approx(1 / 12, rel=0.01)

    def test_correlated_and_photon_noise(self, pair: Any) -> None:
        coarse = dipfast.NoiseModel(0.1, spectrum=((1.5, 1.4, 1.3, 1.1, 0.9, 0.7, 0.5),))
        for noise in (coarse, dipfast.NoiseModel(0.05, gain=0.02)):
            result = dipfast.denoise(pair[0], noise=noise)
            assert len(result.members) == (2 if noise is coarse else 3)
            assert (result.expected_psnr is None) == (noise is coarse)

    def test_fits_count_for_a_fifth_at_most_where_noise_is_correlated(self, pair: Any) -> None:
        row = (2.5, 2.2, 1.9, 1.4, 0.8, 0.4, 0.2)
        result = dipfast.denoise(pair[0], noise=dipfast.NoiseModel(0.02, spectrum=(row,)))
        weights = [member.weight for member in result.members]
        assert sum(weights) == pytest.approx(1)
        assert weights[-1] <= 0.2 + 1e-12
        # Of a fit that has hardly begun nothing is taken.
        begun = dipfast.denoise(
            pair[0], noise=dipfast.NoiseModel(0.02, spectrum=(row,)), callback=StopAt(3)
        )
        assert begun.members[-1].weight < 0.1

    def test_outliers_are_kept_and_do_not_count(self, pair: Any) -> None:
        noisy = pair[0].copy()
        noisy[10, 10] = noisy[40, 33] = 255
        noisy[20, 50] = 0
        result = dipfast.denoise(noisy)
        assert len(result.members) == 3
        assert result.image.shape == noisy.shape

    def test_best_does_two_pairs_at_most(self, pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dipfast.run.joined._LEAST_GAIN", -1.0)
        result = dipfast.denoise(pair[0], quality="best")
        fits = list(dict.fromkeys(result.history["stage"]))
        assert fits == [f"guided {k}" for k in (1, 2, 3, 4)]
        others = ["nl_ridge without its last pass", "nl_ridge, balanced"]
        assert [m.name for m in result.members] == ["nl_ridge", *others, "guided"]
        monkeypatch.setattr("dipfast.run.joined._LEAST_GAIN", 9.0)
        short = dipfast.denoise(pair[0], quality="best")
        assert list(dict.fromkeys(short.history["stage"])) == ["guided 1", "guided 2"]
        assert "would gain little" in short.stop_detail
        assert short.stop_reason is StopReason.MINIMUM


class TestEarlyEnd:
    def test_before_the_first_picture(self, pair: Any) -> None:
        result = dipfast.denoise(pair[0], callback=StopAt(1, Progress))
        assert result.stop_reason is StopReason.CALLBACK
        np.testing.assert_array_equal(result.image, pair[0])
        assert "the result is the image itself" in result.unfinished

    @pytest.mark.parametrize("number", [1, 12, 31, 45])
    def test_within_a_fit_joins_what_there_is(self, pair: Any, number: int) -> None:
        noisy, clean = pair
        alone = dipfast.denoise(noisy, reference=clean, method="nl_ridge", quality="balanced")
        result = dipfast.denoise(noisy, reference=clean, callback=StopAt(number))
        assert result.stop_reason is StopReason.CALLBACK
        assert result.stop_iteration == number
        assert result.psnr > alone.psnr - 0.1
        assert result.unfinished is None
        assert "joined: nl_ridge" in result.stop_detail

    def test_callbacks_see_pictures_that_are_there_already(self, pair: Any) -> None:
        pictures = []

        def see(state: Any) -> None:
            if isinstance(state, Progress) and state.image is not None:
                pictures.append((state.share, state.image.clone()))

        result = dipfast.denoise(pair[0], callback=see)
        assert pictures[0][0] == 0
        assert len(pictures) == 3
        last = (pictures[-1][1][0].permute(1, 2, 0) * 255).clamp(0, 255).round()
        assert np.abs(last.numpy() - result.image).max() <= 1

    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_at_a_picture(self, pair: Any, number: int) -> None:
        stop = StopAt(number, _Picture)
        result = dipfast.denoise(pair[0], callback=stop)
        assert stop.seen == number
        assert result.stop_reason is StopReason.CALLBACK
        done = list(dict.fromkeys(result.history.get("stage", [])))
        assert done == ["guided 1", "guided 2"][: number - 1]
        alone = dipfast.denoise(pair[0], method="nl_ridge", quality="balanced")
        if number == 1:
            np.testing.assert_array_equal(result.image, alone.image)
            assert result.best_iteration == result.stop_iteration == 0

    def test_at_the_last_picture_ends_a_batch(self, pair: Any) -> None:
        batch = torch.from_numpy(np.stack([pair[0]] * 2)).permute(0, 3, 1, 2)
        result = dipfast.denoise(batch, callback=StopAt(3, _Picture))
        assert result.unfinished == "1 of 2 images were worked on"

    def test_time_limit_plans_shorter_fits(
        self, pair: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A clock by which each step takes a tenth of a second: others may keep the computer busy.
        ticks = itertools.count()
        clock = SimpleNamespace(monotonic=lambda: 0.0, perf_counter=lambda: next(ticks) / 10)
        monkeypatch.setattr("dipfast.run.time_limit.time", clock)
        result = dipfast.denoise(pair[0], time_limit=3.0)
        assert result.image.shape == pair[0].shape
        assert 10 <= result.found["max_iterations"] <= 30  # and not 60
        assert len(result.history["iteration"]) <= 30

    def test_a_short_time_limit_returns_the_first_picture(
        self, pair: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is timed to plan the fits must not cost the picture that is there."""
        alone = dipfast.denoise(pair[0], method="nl_ridge", quality="balanced")
        monkeypatch.setattr("dipfast.run.time_limit.TimeLimit.remaining", _Remaining())
        result = dipfast.denoise(pair[0], time_limit=5.0)
        np.testing.assert_array_equal(result.image, alone.image)
        assert result.unfinished is None
        assert result.history["iteration"] == []
        assert "joined, balanced" in result.summary()
        assert result.stop_detail == "nl_ridge done; the time limit leaves no fit"

    def test_an_interrupt_while_fits_are_planned_is_told(
        self, pair: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        interrupt = dipfast.Interrupt()

        def timed(job: Any, *_: object) -> Any:
            interrupt.stop("enough")
            return replace(job, fits=(), stages=())

        monkeypatch.setattr("dipfast.run.batch.affordable", timed)
        result = dipfast.denoise(pair[0], time_limit=60.0, interrupt=interrupt)
        assert (result.stop_reason, result.stop_detail) == (StopReason.STOPPED, "enough")
        alone = dipfast.denoise(pair[0], method="nl_ridge", quality="balanced")
        np.testing.assert_array_equal(result.image, alone.image)


class _Remaining:
    """Stand for a time limit that has little time left at any look."""

    def __get__(self, *_: object) -> float:
        return 1e-4


class TestCheckpoints:
    def test_of_a_finished_run_is_returned_whatever_the_time_limit(
        self, pair: Any, tmp_path: Path
    ) -> None:
        whole = dipfast.denoise(pair[0], checkpoint=tmp_path / "fit")
        again = dipfast.denoise(pair[0], checkpoint=tmp_path / "fit", resume=True, time_limit=1e-9)
        np.testing.assert_array_equal(again.image, whole.image)
        assert again.unfinished is None

    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_go_on_after_an_end_at_a_picture(self, pair: Any, tmp_path: Path, number: int) -> None:
        whole = dipfast.denoise(pair[0])
        options = {"checkpoint": tmp_path / "fit"}
        dipfast.denoise(pair[0], callback=StopAt(number, _Picture), **options)
        rest = dipfast.denoise(pair[0], resume=True, **options)
        np.testing.assert_array_equal(rest.image, whole.image)
        assert rest.history == whole.history

    @pytest.mark.parametrize("old", [False, True], ids=["new", "of before"])
    def test_go_on_to_the_same_end_after_an_end_at_the_last_picture(
        self, pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool
    ) -> None:
        monkeypatch.setattr("dipfast.run.joined._LEAST_GAIN", 100.0)
        monkeypatch.setattr("dipfast.run.joined._FIRST_LOOK", 1.0)
        options = {"quality": "best", "method": "joined", "preset": SMALL, "max_iterations": 20}
        noisy = pair[0][:32, :32, 0]
        whole = dipfast.denoise(noisy, **options)
        assert whole.stop_reason is StopReason.MINIMUM
        assert whole.stop_iteration == 10
        path = tmp_path / "fit"
        dipfast.denoise(noisy, checkpoint=path, callback=StopAt(3, _Picture), **options)
        if old:
            file, identity = CheckpointFile(path), read_checkpoint(path).identity
            values = dict(file.read(identity).values)
            for name in ("0.final_reason", "0.final_detail"):
                del values[name]
            file.write(Checkpoint(values, identity))
        rest = dipfast.denoise(noisy, checkpoint=path, resume=True, **options)
        np.testing.assert_array_equal(rest.image, whole.image)
        assert rest.history == whole.history
        if not old:  # which does not say why it ended
            assert rest.stop_reason is whole.stop_reason
            assert rest.stop_detail == whole.stop_detail

    def test_of_the_iteration_where_a_rule_ended_a_fit(
        self, pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed between the last iteration of a fit and what follows it."""
        monkeypatch.setattr("dipfast.stopping.bootstrap.seek_minimum", _at_the_fifteenth)
        whole = dipfast.denoise(pair[0])
        assert whole.stop_iteration == 30

        def kill(*_: object) -> None:
            raise RuntimeError("killed")

        options = {"checkpoint": tmp_path / "fit", "checkpoint_every": 1}
        with monkeypatch.context() as patched:
            patched.setattr("dipfast.run.joined.JoinedRunner._part", kill)
            with pytest.raises(RuntimeError, match="killed"):
                dipfast.denoise(pair[0], **options)
        rest = dipfast.denoise(pair[0], resume=True, **options)
        np.testing.assert_array_equal(rest.image, whole.image)
        assert rest.history == whole.history

    def test_of_a_picture_without_noise_are_none(self, pair: Any, tmp_path: Path) -> None:
        path = tmp_path / "fit"
        message = "checkpoint keeps nothing: no network is fitted for a picture without noise; met"
        with pytest.warns(UserWarning, match=message):
            dipfast.denoise(pair[0], sigma=0, checkpoint=path, resume=True)
        assert not path.exists()

    def test_of_planes_that_help_each_other_are_none(self, pair: Any, tmp_path: Path) -> None:
        stack, path = np.stack([pair[0][..., 0]] * 3), tmp_path / "fit"
        limited = {"stack_axis": 0, "neighbours": 1, "time_limit": 1e-9}
        with pytest.warns(UserWarning, match="planes") as caught:
            dipfast.denoise(stack, checkpoint=path, **limited)
        keeps, ended = (str(warning.message) for warning in caught)
        assert "checkpoint keeps nothing: no network is fitted for planes that help" in keeps
        assert ended.startswith("0 of 3 planes were worked on")
        assert ended.endswith("; time_limit was too short")

    def test_none_is_told_of_before_the_first_fit(self, pair: Any, tmp_path: Path) -> None:
        with pytest.warns(UserWarning, match="time_limit was too short"):
            dipfast.denoise(pair[0], checkpoint=tmp_path / "fit", time_limit=1e-9)
        assert not (tmp_path / "fit").exists()

    def test_of_another_quality_is_refused(self, pair: Any, tmp_path: Path) -> None:
        options = {
            "method": "joined",
            "preset": SMALL,
            "max_iterations": 20,
            "checkpoint": tmp_path / "fit",
        }
        dipfast.denoise(pair[0], **options)
        with pytest.raises(CheckpointMismatchError, match="fits"):
            dipfast.denoise(pair[0], quality="best", resume=True, **options)

    @pytest.mark.parametrize("number", [7, 30, 41])
    def test_go_on_to_the_same_bits(self, pair: Any, tmp_path: Path, number: int) -> None:
        whole = dipfast.denoise(pair[0], seed=2)
        options = {"seed": 2, "checkpoint": tmp_path / "fit", "checkpoint_every": 5}
        part = dipfast.denoise(pair[0], callback=StopAt(number), **options)
        assert part.stop_iteration == number
        rest = dipfast.denoise(pair[0], resume=True, **options)
        np.testing.assert_array_equal(rest.image, whole.image)
        assert rest.history == whole.history
        again = dipfast.denoise(pair[0], resume=True, **options)
        np.testing.assert_array_equal(again.image, whole.image)
        assert again.stop_detail == whole.stop_detail
        assert [m.weight for m in again.members] == [m.weight for m in whole.members]


class TestOptions:
    @pytest.mark.parametrize(
        "options",
        [
            {"stop": "held_out"},
            {"tv_weight": 0.1},
            {"network_input": np.zeros((64, 64, 3), np.uint8)},
        ],
        ids=str,
    )
    def test_that_mean_nothing_are_refused(self, pair: Any, options: dict[str, Any]) -> None:
        (name,) = options
        with pytest.raises(InputError, match=f"{name} has no meaning for method='joined'"):
            dipfast.denoise(pair[0], method="joined", **options)

    def test_iterations_are_those_of_all_fits(self, pair: Any) -> None:
        result = dipfast.denoise(pair[0], method="joined", max_iterations=14)
        assert result.found["max_iterations"] == 14
        assert result.stop_iteration == 14

    @pytest.mark.parametrize("iterations", [1, 2, 3])
    def test_a_few_iterations(self, pair: Any, iterations: int) -> None:
        result = dipfast.denoise(pair[0], method="joined", max_iterations=iterations)
        assert result.image.shape == pair[0].shape


class TestOtherTasks:
    """What was measured of a picture through an operator is judged by held-out measurements."""

    @pytest.fixture
    def clean(self, pair: Any) -> np.ndarray:
        return pair[1]

    @pytest.fixture
    def always(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let no fit be ended because it adds nothing."""
        monkeypatch.setattr("dipfast.run.joined._FIRST_LOOK", 1.0)

    def test_pixels_that_are_missing_here_and_there(self, clean: np.ndarray, always: None) -> None:
        missing = np.random.default_rng(1).random(clean.shape[:2]) < 0.5
        alone = dipfast.inpaint(clean, missing, reference=clean, method="pnp", quality="balanced")
        joined = dipfast.inpaint(clean, missing, reference=clean)
        assert joined.found["method"] == "joined"
        assert joined.found["preset"] == "inpaint-balanced"
        assert [member.name for member in joined.members] == ["pnp", "two_stage"]
        np.testing.assert_array_equal(joined.members[0].image, alone.image)
        assert joined.psnr > alone.psnr - 0.05
        assert joined.expected_psnr is None
        np.testing.assert_array_equal(joined.image[~missing], clean[~missing])
        assert set(joined.history["stage"]) == {"tv", "details"}

    def test_a_fit_that_adds_nothing_ends_early(self, clean: np.ndarray) -> None:
        missing = np.random.default_rng(2).random(clean.shape[:2]) < 0.5
        result = dipfast.inpaint(clean, missing)
        assert result.stop_reason is StopReason.MINIMUM
        assert result.stop_iteration < 20
        assert "the fit adds nothing" in result.stop_detail
        assert result.members[1].weight < 0.1
        assert self.hints_at_speed(result) == [
            "the fit has added nothing to pnp: quality='fast' gives nearly the same in a fraction "
            "of the time"
        ]

    @staticmethod
    def hints_at_speed(result: dipfast.Result) -> list[str]:
        return [hint for hint in result.hints if "fraction of the time" in hint]

    def test_large_holes_are_those_of_the_network(self, clean: np.ndarray) -> None:
        missing = np.zeros(clean.shape[:2], bool)
        missing[10:54, 12:52] = True
        missing[2, 2] = True
        result = dipfast.inpaint(clean, missing)
        assert result.stop_iteration == 20
        first, network = (member.image.astype(int) for member in result.members)
        np.testing.assert_array_equal(result.image[32, 32], network[32, 32])
        weight = result.members[1].weight
        corner = (1 - weight) * first[2, 2] + weight * network[2, 2]
        assert np.abs(corner - result.image[2, 2]).max() <= 1.5
        assert self.hints_at_speed(result) == []

    @pytest.mark.parametrize(("number", "ripe"), [(4, False), (5, True)])
    def test_large_holes_are_the_networks_only_once_it_shows_something(
        self, clean: np.ndarray, tmp_path: Path, number: int, ripe: bool
    ) -> None:
        clean = clean[:36, :36]
        missing = np.zeros(clean.shape[:2], bool)
        missing[4:33, 4:33] = True
        path = tmp_path / "fit.ckpt"
        result = dipfast.inpaint(clean, missing, callback=StopAt(number), checkpoint=path)
        assert result.stop_iteration == number
        first, network = (member.image.astype(int) for member in result.members)
        weight = 1.0 if ripe else result.members[1].weight
        expected = (1 - weight) * first[18, 18] + weight * network[18, 18]
        assert np.abs(expected - result.image[18, 18]).max() <= 1.5
        assert np.abs(first[18, 18] - network[18, 18]).max() > 5
        said = "is of two_stage" if ripe else "is not of two_stage, which was ended too early"
        assert said in result.stop_detail
        if not ripe:  # it goes on to what it had been without an end
            again = dipfast.inpaint(clean, missing, checkpoint=path, resume=True)
            whole = dipfast.inpaint(clean, missing)
            np.testing.assert_array_equal(again.image, whole.image)
            assert "is of two_stage" in again.stop_detail

    def test_enlarged_pictures(self, clean: np.ndarray, always: None) -> None:
        small = clean[::2, ::2]
        alone = dipfast.super_resolve(small, 2, reference=clean, method="pnp", quality="balanced")
        joined = dipfast.super_resolve(small, 2, reference=clean)
        assert [member.name for member in joined.members] == ["pnp", "two_stage"]
        assert joined.psnr > alone.psnr - 0.05

    def test_blurred_pictures(self, clean: np.ndarray) -> None:
        blur = dipfast.operators.Blur(dipfast.operators.gaussian_kernel(1.0))
        joined = dipfast.restore(clean, blur, sigma=2.0, noise="gaussian")
        assert [member.name for member in joined.members] == ["pnp", "two_stage"]
        (hint,) = self.hints_at_speed(joined)
        assert "method='pnp' gives nearly the same" in hint

    def test_what_is_not_linear_is_fitted_alone(self, clean: np.ndarray) -> None:
        def square(u: torch.Tensor) -> torch.Tensor:
            return u.square()

        y = torch.from_numpy(clean[:32, :32].transpose(2, 0, 1).copy())
        result = dipfast.restore(y, square, data_range=(0, 255))
        assert result.found["method"] == "two_stage"
        with pytest.raises(InputError, match="operator is not linear"):
            dipfast.restore(y, square, data_range=(0, 255), method="joined")

    def test_an_operator_with_a_mask_of_a_plane(self, clean: np.ndarray) -> None:
        known = np.ones(clean.shape[:2], bool)
        known[10:50, 10:50] = False
        mask = dipfast.operators.Mask(torch.from_numpy(known))
        y = (clean[..., 0] * known).astype(np.uint8)
        result = dipfast.restore(y, mask, sigma=0)
        assert [member.name for member in result.members] == ["pnp", "two_stage"]
        assert "the middle of wide holes" in result.stop_detail

    def test_held_out_elements_judge_nothing_where_noise_is_correlated(
        self, clean: np.ndarray, tmp_path: Path
    ) -> None:
        noise = dipfast.NoiseModel(0.05, spectrum=((1.5, 1.4, 1.3, 1.1, 0.9, 0.7, 0.5),))
        small, path = clean[:8, :12], tmp_path / "fit"
        alone = dipfast.super_resolve(small, 2, noise=noise, method="pnp", quality="balanced")
        with pytest.warns(UserWarning, match="no network is fitted for correlated noise; method="):
            joined = dipfast.super_resolve(small, 2, noise=noise, checkpoint=path)
        np.testing.assert_array_equal(joined.image, alone.image)
        assert joined.found["method"] == "joined"
        assert joined.members == ()
        assert any("method='two_stage' fits a network" in hint for hint in joined.hints)

    def test_wide_holes_are_those_of_the_network_beside_correlated_noise(
        self, clean: np.ndarray
    ) -> None:
        noise = dipfast.NoiseModel(0.05, spectrum=((1.5, 1.4, 1.3, 1.1, 0.9, 0.7, 0.5),))
        missing = np.zeros((32, 32), bool)
        missing[2:31, 2:31] = True
        options = {"preset": SMALL, "method": "joined", "keep_known": False, "max_iterations": 6}
        result = dipfast.inpaint(clean[:32, :32], missing, noise=noise, **options)
        assert [member.weight for member in result.members] == [1.0, 0.0]
        first, network = (member.image for member in result.members)
        np.testing.assert_array_equal(result.image[16, 16], network[16, 16])
        np.testing.assert_array_equal(result.image[1, 1], first[1, 1])
        assert not any("fits a network" in hint for hint in result.hints)

    @pytest.mark.parametrize("task", ["inpaint", "super_resolve"])
    def test_ended_before_the_first_step(self, clean: np.ndarray, task: str) -> None:
        argument = np.eye(64, dtype=bool) if task == "inpaint" else 2
        with pytest.warns(UserWarning, match="before its first step"):
            result = getattr(dipfast, task)(clean, argument, time_limit=1e-6)
        assert "the result is what it began with" in result.unfinished

    def test_words_of_an_interrupt_are_kept_before_the_first_fit(self, clean: np.ndarray) -> None:
        interrupt, pictures = dipfast.Interrupt(), []

        def stop(state: Any) -> None:
            if pictures and isinstance(state, Progress):  # of what the fit sees
                interrupt.stop("enough")
            elif isinstance(state, Progress) and state.image is not None:
                pictures.append(state)

        missing = np.eye(64, dtype=bool)
        result = dipfast.inpaint(clean, missing, callback=stop, interrupt=interrupt)
        assert result.stop_reason is StopReason.STOPPED
        assert result.stop_detail.startswith("enough; joined: pnp")

    def test_without_a_fit_the_steps_are_those_of_the_picture(self, clean: np.ndarray) -> None:
        missing = np.eye(64, dtype=bool)
        result = dipfast.inpaint(clean, missing, method="joined", max_iterations=1)
        assert result.found["steps"] == 48
        assert "speed" not in result.found
        assert "joined, 48 steps" in result.summary()

    @pytest.mark.parametrize("number", [10, 550])
    def test_ended_without_a_fit_there_is_the_first_picture(
        self, clean: np.ndarray, number: int, tmp_path: Path
    ) -> None:
        # pnp reports some parts of 48 steps of the whole picture, and of 48 of what the fit sees.
        stop = StopAt(number, Progress)
        missing = np.random.default_rng(1).random(clean.shape[:2]) < 0.5
        path = tmp_path / "fit.ckpt"
        result = dipfast.inpaint(clean, missing, callback=stop, reference=clean, checkpoint=path)
        assert result.stop_reason is StopReason.CALLBACK
        assert all(member.name == "pnp" for member in result.members)
        if number > 100:  # of what the fit sees: the picture is that of all steps
            assert "steps" not in result.stop_detail
            again = dipfast.inpaint(clean, missing, reference=clean, checkpoint=path, resume=True)
            whole = dipfast.inpaint(clean, missing, reference=clean)
            np.testing.assert_array_equal(again.image, whole.image)
        assert result.psnr > result.metrics["psnr_input"] + 5

    @pytest.mark.parametrize("shape", [(1, 2), (3, 5), (9, 8, 3)])
    def test_small_pictures(self, shape: tuple[int, ...]) -> None:
        picture = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
        missing = np.zeros(shape[:2], bool)
        missing[0, 0] = True
        result = dipfast.inpaint(picture, missing)
        assert result.image.shape == shape
        np.testing.assert_array_equal(result.image[~missing], picture[~missing])

    def test_batches_have_a_join_each(self, clean: np.ndarray) -> None:
        batch = torch.from_numpy(np.stack([clean, clean[::-1]])[:, ::2, ::2].copy())
        result = dipfast.super_resolve(batch.permute(0, 3, 1, 2), 2)
        assert result.image.shape == (2, 3, 64, 64)
        assert set(result.history["item"]) == {0, 1}

    @pytest.mark.parametrize("number", [3, 15])
    def test_go_on_to_the_same_bits(
        self, clean: np.ndarray, tmp_path: Path, number: int, always: None
    ) -> None:
        small = clean[::2, ::2]
        path = tmp_path / "fit.ckpt"
        whole = dipfast.super_resolve(small, 2)
        part = dipfast.super_resolve(small, 2, checkpoint=path, callback=StopAt(number))
        assert part.stop_iteration == number
        again = dipfast.super_resolve(small, 2, checkpoint=path, resume=True)
        np.testing.assert_array_equal(again.image, whole.image)
        assert again.stop_detail == whole.stop_detail


class TestGuided:
    def test_denoises_alone(self, pair: Any) -> None:
        noisy, clean = pair
        result = dipfast.denoise(noisy, method="guided", reference=clean)
        assert result.found["stages"] == ["guided"]
        assert result.members == ()
        assert result.psnr > result.metrics["psnr_input"] + 3

    def test_restores_what_was_blurred_or_is_missing(self, pair: Any) -> None:
        noisy, clean = pair
        mask = np.zeros(clean.shape[:2], np.uint8)
        mask[::3, ::2] = 255
        filled = dipfast.inpaint(clean, mask, method="guided", reference=clean)
        assert filled.psnr > 20
        small = noisy[::2, ::2]
        large = dipfast.super_resolve(small, 2, method="guided", sigma="auto")
        assert large.image.shape == clean.shape

    def test_judged_by_another_rule(self, pair: Any) -> None:
        result = dipfast.denoise(pair[0], method="guided", stop="none")
        assert result.stop_iteration == 30

    def test_two_stages_judged_by_the_unseen_half(self, pair: Any) -> None:
        result = dipfast.denoise(
            pair[0], method="two_stage", stop="bootstrap", preset=SMALL, max_iterations=30
        )
        assert result.image.shape == pair[0].shape


def _at_the_fifteenth(error: float, state: Any, memory: Any, **_: object) -> Decision:
    """Stop at the fifteenth iteration, whatever the error; later it would be worse or better."""
    return Decision(best=True, stop="at the fifteenth" if state.iteration == 15 else None)


def test_a_record_of_another_preset_stays_joined(pair: Any, tmp_path: Path) -> None:
    result = dipfast.denoise(pair[0])
    result.save(tmp_path / "out.png")
    path = tmp_path / "out.png.json"
    record = json.loads(path.read_text())
    record["found"]["preset_settings"]["iterations"] = 25
    path.write_text(json.dumps(record))
    _, options = read_settings(path)
    assert options["method"] == "joined"
    assert options["preset"].iterations == 25
    again = dipfast.denoise(pair[0], **options)
    assert again.found["max_iterations"] == 50


def test_pictures_of_many_channels_are_guided_in_all(pair: Any) -> None:
    # More channels than the 32 of the input of the network.
    noisy = torch.from_numpy(np.tile(pair[0][:16, :16], (1, 1, 12))).permute(2, 0, 1)
    result = dipfast.denoise(noisy, sigma=25.0)
    assert result.image.shape == (36, 16, 16)


@pytest.mark.parametrize(
    ("method", "preset"),
    [("guided", None), ("guided", "original-inpainting-hole"), ("two_stage_input", None)],
)
def test_pictures_without_noise_are_put_into_the_input_in_all_channels(
    pair: Any, method: str, preset: str | None
) -> None:
    picture = np.tile(pair[1][:16, :16], (1, 1, 7))
    inputs = []

    def look(state: Any) -> None:
        if isinstance(state, State):
            inputs.append(state.prior.z)

    dipfast.denoise(
        picture,
        channel_axis=-1,
        sigma=0,
        method=method,
        preset=preset,
        max_iterations=6,
        callback=look,
    )
    first, last = inputs[0], inputs[-1]
    assert first.shape[1] == last.shape[1] == 37  # 16 of them random
    if method == "guided":
        given = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
        torch.testing.assert_close(first[0, :21], given, atol=1e-3, rtol=0)
    else:
        changed = (first - last).abs().amax(dim=(0, 2, 3)) > 0
        assert changed.tolist() == [True] * 21 + [False] * 16


@pytest.mark.parametrize("method", ["guided", "two_stage_input"])
def test_coordinates_leave_no_place_for_a_picture(pair: Any, method: str) -> None:
    with pytest.raises(InputError, match="that of preset is the coordinates of the pixels"):
        dipfast.denoise(pair[0], method=method, preset="original-inpainting-object")
    with pytest.raises(InputError, match="network_input has no meaning for method="):
        dipfast.denoise(pair[0], method=method, network_input=pair[0])


OWN_STAGES = {
    "guide": (Stage("guided", 2, control=Guide()),),
    "image": (Stage("first", 2), Stage("second", 2, control=StageImage(0.0, as_input=True))),
}


@pytest.mark.parametrize("name", OWN_STAGES)
def test_stages_of_ones_own_have_place_for_a_picture(pair: Any, name: str) -> None:
    picture = np.tile(pair[1][:16, :16], (1, 1, 11))
    seen: list[int] = []
    options = {"method": OWN_STAGES[name], "preset": SMALL, "channel_axis": -1, "sigma": 0}
    dipfast.denoise(picture, callback=lambda state: seen.append(state.prior.z.shape[1]), **options)
    assert set(seen) == {33 + 16}


@pytest.mark.parametrize("name", OWN_STAGES)
def test_stages_of_ones_own_without_place_are_refused_before_the_work(pair: Any, name: str) -> None:
    def fail(state: object) -> None:
        raise AssertionError("work was started")

    options = {"method": OWN_STAGES[name], "callback": fail}
    for given, count in (
        ({"preset": "original-inpainting-object"}, 2),
        ({"network_input": pair[0][..., :1]}, 1),
    ):
        message = f"input of the network must have 3 channels or more.* in a stage, got {count}"
        with pytest.raises(InputError, match=message):
            dipfast.denoise(pair[0], **given, **options)


@pytest.mark.parametrize(("most", "told"), [(4, True), (5, False), (10, False)])
def test_too_few_iterations_for_a_fit_are_told(pair: Any, most: int, told: bool) -> None:
    result = dipfast.denoise(pair[0][:32, :32], method="joined", max_iterations=most)
    words = "4 iterations are too few for a fit, and none was made: 5 are the fewest for one, 10"
    assert any(words in hint for hint in result.hints) == told
    assert bool(result.members) != told


@pytest.mark.parametrize("kind", [ByNoise, ByHeldOut])
def test_a_grey_picture_in_colour_is_judged_as_the_grey_one_it_will_be(kind: type[Judge]) -> None:
    generator = torch.Generator().manual_seed(0)
    grey = torch.rand(1, 1, 8, 8, generator=generator).expand(1, 3, 8, 8).contiguous()
    image = torch.rand(1, 3, 8, 8, generator=generator)
    problem = Problem(grey, Identity(), NoiseModel(0.1))
    kept = kind(problem, (Variant("fast"),)).part(image, problem, ()).image
    torch.testing.assert_close(kept, image.mean(dim=1, keepdim=True).expand(1, 3, 8, 8))
    coloured = replace(problem, measurement=image)
    assert torch.equal(kind(coloured, (Variant("fast"),)).part(image, coloured, ()).image, image)


def test_states_are_numbered_over_all_fits(pair: Any) -> None:
    seen = []
    dipfast.denoise(pair[0], callback=lambda state: seen.append(state))
    states = [(s.iteration, s.iterations) for s in seen if isinstance(s, State)]
    assert [number for number, _ in states] == list(range(1, len(states) + 1))
    assert {total for _, total in states} == {60}
    assert torch.is_tensor(next(s for s in seen if isinstance(s, State)).average)
