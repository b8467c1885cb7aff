"""Test what runs make of the noise that is found: outliers, stretches, joins, stops and hints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch

import dipfast
from dipfast.model.noise import NoiseModel
from dipfast.model.operators import Identity
from dipfast.model.problem import Problem
from dipfast.run.hints import hints
from dipfast.run.record import read_settings
from dipfast.stop_reason import Stop, StopReason
from dipfast.stopping import RULES

Network = Callable[..., None]


def photograph(sigma: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a part of a photograph with noise, and without, 8 bits."""
    clean = skimage.data.astronaut()[20:84, 180:260]
    noise = np.random.default_rng(seed).normal(0, sigma, clean.shape)
    return (clean + noise).round().clip(0, 255).astype(np.uint8), clean


def squared(a: Any, b: Any) -> float:
    return float(np.mean(np.square(np.asarray(a, float) - b)))


class TestRefine:
    def test_is_nearer_than_network_and_input(self, use_small_network: Network) -> None:
        use_small_network(40)
        noisy, clean = photograph(10)
        result = dipfast.denoise(noisy)
        errors = [squared(x, clean) for x in (noisy, result.raw_image, result.image)]
        assert errors[2] < 0.7 * min(errors[:2])

    def test_can_be_left_out(self, use_small_network: Network) -> None:
        use_small_network(5)
        noisy, _ = photograph(10)
        joined, alone = (dipfast.denoise(noisy, refine=refine) for refine in (True, False))
        assert (alone.image == alone.raw_image).all()
        assert (alone.raw_image == joined.raw_image).all()
        assert (joined.image != joined.raw_image).any()

    def test_without_noise_the_image_comes_back(self, use_small_network: Network) -> None:
        use_small_network(3)
        clean = np.full((64, 80), 40, dtype=np.uint8)
        clean[10:40, 20:50] = 200
        clean[25:55, 40:70] = 120
        result = dipfast.denoise(clean)
        assert result.found["sigma"] == [0.0]
        assert (result.image == clean).all()
        # Who says that there is no noise asks for the network's image.
        told = dipfast.denoise(clean, sigma=0)
        assert (told.image == told.raw_image).all()

    def test_a_grey_picture_in_three_channels(self, use_small_network: Network) -> None:
        use_small_network(5)
        noisy = photograph(20)[0][..., :1].repeat(3, axis=2)
        clean = photograph(0)[1][..., :1]
        result = dipfast.denoise(noisy, sigma=20)
        assert (result.image == result.image[..., :1]).all()
        assert squared(result.image, clean) < 0.5 * squared(noisy, clean)

    @pytest.mark.parametrize("kind", ["fast", "planes", "guided"])
    def test_a_grey_picture_in_three_channels_is_what_it_is_in_one(
        self, use_small_network: Network, kind: str
    ) -> None:
        use_small_network(5)
        noisy = photograph(20)[0][..., 0]
        options: dict[str, Any] = {"quality": "fast"}
        if kind == "planes":
            noisy = np.stack([noisy, noisy[::-1]])
            options |= {"stack_axis": 0, "neighbours": 1}
        if kind == "guided":  # another network, but grey
            options = {"method": "guided", "max_iterations": 5}
        grey = dipfast.denoise(noisy, **options)
        colour = dipfast.denoise(noisy[..., None].repeat(3, axis=-1), channel_axis=-1, **options)
        assert (colour.image == colour.image[..., :1]).all()
        if kind != "guided":
            np.testing.assert_array_equal(colour.image[..., 0], grey.image)

    def test_a_spectrum_of_other_channels_is_refused(self) -> None:
        model = NoiseModel(0.1, spectrum=((1.0,) * 7,) * 3)
        with pytest.raises(ValueError, match="noise has a spectrum of 3 channels, and image has 1"):
            dipfast.denoise(photograph(5)[0][..., 0], noise=model)

    def test_of_a_batch_and_of_tensors(self, use_small_network: Network) -> None:
        use_small_network(3)
        noisy, _ = photograph(10)
        batch = torch.from_numpy(np.stack([noisy, noisy[::-1].copy()])).permute(0, 3, 1, 2)
        result = dipfast.denoise(batch)
        assert result.image.shape == batch.shape
        first = dipfast.denoise(batch[0])
        assert torch.equal(result.image[0], first.image)

    def test_a_resumed_run_has_the_same_bits(
        self, use_small_network: Network, tmp_path: Path
    ) -> None:
        use_small_network(6)
        noisy, _ = photograph(10)
        whole = dipfast.denoise(noisy)

        def stop(state: Any) -> None:
            if state.iteration == 3:
                raise StopIteration

        kept = {"checkpoint": tmp_path / "state", "checkpoint_every": 1}
        dipfast.denoise(noisy, callback=stop, **kept)
        assert (dipfast.denoise(noisy, resume=True, **kept).image == whole.image).all()


class TestOutliers:
    @pytest.mark.parametrize("fill", [False, True])
    def test_stay_or_are_filled(self, use_small_network: Network, fill: bool) -> None:
        use_small_network(30)
        noisy, clean = photograph(5)
        places = (np.array([9, 30, 50]), np.array([12, 40, 70]))
        noisy[places] = [[255, 255, 255], [0, 255, 0], [255, 0, 0]]
        result = dipfast.denoise(noisy, fill_outliers=fill)
        share = result.found["noise_estimate"][0]["outlier_share"]
        assert 0 < share < 0.02
        kept = np.abs(result.image[places].astype(int) - noisy[places]) == 0
        if fill:
            hot = np.abs(noisy[places].astype(int) - clean[places]) > 150
            assert (np.abs(result.image[places].astype(int) - clean[places])[hot] < 90).all()
        else:
            assert kept.mean() > 0.5
        assert "outliers" in result.summary()

    @pytest.mark.parametrize(("every", "told"), [(401, True), (4001, False)])
    def test_of_many_that_stay_a_hint_tells(self, every: int, told: bool) -> None:
        noisy, _ = photograph(5)
        hot = noisy.copy()
        hot.reshape(-1)[7::every] = 255
        for picture, fill in ((hot, False), (hot, True), (noisy, False)):
            hints = dipfast.denoise(picture, quality="fast", fill_outliers=fill).hints
            found = any("fill_outliers=True takes them out" in hint for hint in hints)
            assert found == (told and picture is hot and not fill)

    def test_noise_of_photons_that_was_told_is_none(self) -> None:
        rows, columns = np.mgrid[:256, :384]
        cell = np.exp(-((columns - 190) ** 2 + (rows - 120) ** 2) / 4000)
        clean = 10 * (0.1 + cell + 0.5 * (np.sin(columns / 9) > 0.9))
        generator = np.random.default_rng(0)
        counts = generator.poisson(clean) + generator.normal(0, 0.3, clean.shape)
        counts[5, 100] = 60.0  # a hot pixel
        told = NoiseModel(0.3 / 60, gain=1 / 60)
        result = dipfast.denoise(
            counts, noise=told, data_range=60.0, method="nl_ridge", quality="fast"
        )
        kept = result.image == counts
        assert kept[5, 100]
        assert kept.sum() <= 11

    @pytest.mark.parametrize("told", [{"noise": NoiseModel(5 / 255)}, {"sigma": 0}])
    def test_are_found_where_the_noise_is_told(
        self, use_small_network: Network, told: dict[str, Any]
    ) -> None:
        use_small_network(30)
        picture = np.random.default_rng(0).normal(100, 3, (48, 48)).round().astype(np.uint8)
        picture[10, 10] = picture[30, 20] = 250
        filled = dipfast.denoise(picture, fill_outliers=True, **told).image
        assert max(filled[10, 10], filled[30, 20]) < 150
        kept = dipfast.denoise(picture, **told).image
        assert kept[10, 10] == kept[30, 20] == 250

    def test_are_not_fitted(self) -> None:
        y = torch.rand(1, 2, 5, 6)
        outliers = torch.zeros(1, 2, 5, 6, dtype=torch.bool)
        outliers[0, 1, 2, 3] = True
        problem = Problem(y, Identity(), NoiseModel(0.1), outliers=outliers)
        assert problem.count == y.numel() - 1
        assert problem.residual(torch.zeros_like(y))[0, 1, 2, 3] == 0
        held_out = torch.rand(1, 1, 5, 6) < 0.5
        held_out[0, 0, 2, 3] = True
        unseen = Problem(
            y, Identity(), NoiseModel(0.1), held_out, outliers=outliers
        ).held_out_problem
        assert unseen is not None
        assert unseen.count == 2 * int(held_out.sum()) - 1


class TestStretch:
    @staticmethod
    def sky() -> tuple[np.ndarray, np.ndarray]:
        """Return a field with a bright star and some faint ones, with noise and without."""
        rows, columns = np.mgrid[0:96, 0:96]
        clean = np.full((96, 96), 100.0)
        for row, column, flux in ((30, 40, 4e5), (60, 70, 2e3), (70, 20, 1e3), (20, 75, 4e3)):
            clean += flux / 7 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 2.25)
        noise = np.random.default_rng(0).normal(size=clean.shape)
        return (clean + noise * np.sqrt(clean + 25)).astype(np.float32), clean

    def test_of_high_dynamic_range(self, use_small_network: Network) -> None:
        use_small_network(30)
        noisy, clean = self.sky()
        result = dipfast.denoise(noisy)
        assert result.found["stretched"] == [True]
        assert "stretched" in result.summary()
        assert squared(result.image, clean) < squared(noisy, clean)
        dark = clean < 101
        level = np.median(result.image[dark]) - np.median(clean[dark])
        assert abs(level) < 1.0  # the noise there is 11
        disc = np.hypot(*(np.mgrid[0:96, 0:96] - np.array([60, 70])[:, None, None])) <= 4
        flux = [float((x - 100)[disc].sum()) for x in (np.asarray(result.image, float), noisy)]
        assert flux[0] == pytest.approx(flux[1], rel=0.1)

    def test_can_be_left_out(self, use_small_network: Network) -> None:
        use_small_network(3)
        with pytest.warns(UserWarning, match="the few others set the range"):
            result = dipfast.denoise(self.sky()[0], stretch=False)
        assert result.found["stretched"] == [False]

    def test_ordinary_pictures_are_not_stretched(self, use_small_network: Network) -> None:
        use_small_network(3)
        assert dipfast.denoise(photograph(10)[0]).found["stretched"] == [False]

    def test_history_is_in_the_values_of_the_image(self, use_small_network: Network) -> None:
        use_small_network(3)
        noisy, clean = self.sky()
        result = dipfast.denoise(noisy, reference=clean.astype(np.float32), refine=False)
        assert result.psnr == pytest.approx(result.history["psnr_average"][-1], abs=0.05)


class TestCorrelated:
    @staticmethod
    def picture() -> np.ndarray:
        noise = np.random.default_rng(0).normal(0, 30, (96, 96))
        coarse = (
            noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, (1, 1), (0, 1))
        ) / 2
        return (128 + coarse).round().clip(0, 255).astype(np.uint8)

    def test_is_found_recorded_and_read_again(
        self, use_small_network: Network, tmp_path: Path
    ) -> None:
        use_small_network(3)
        result = dipfast.denoise(self.picture())
        (noise,) = result.found["noise"]
        assert noise["spectrum"] is not None
        assert noise["sigma"] * 255 == pytest.approx(30, rel=0.15)
        assert "correlated" in result.summary()
        low, high = result.found["data_range"]
        model = NoiseModel(**noise)
        again = dipfast.denoise(self.picture(), noise=model, data_range=(low, high))
        again.save(tmp_path / "out.png")
        assert read_settings(tmp_path / "out.png.json")[1]["noise"].spectrum == model.spectrum

    def test_the_default_rule_leaves_all_to_the_fit(self) -> None:
        y = torch.rand(1, 1, 8, 8)
        white = Problem(y, Identity(), NoiseModel(0.1))
        coarse = Problem(y, Identity(), NoiseModel(0.1, spectrum=((1.0,) * 7,)))
        assert RULES["auto"].prepare(white).split is not None
        assert RULES["auto"].prepare(coarse) is coarse


class TestHints:
    @staticmethod
    def of(size: float, related: float, reason: Any = StopReason.ALL_ITERATIONS) -> list[str]:
        job = SimpleNamespace(
            is_direct=False,
            estimate=None,
            stretch=None,
            rule=RULES["auto"],
            problem=SimpleNamespace(noise=NoiseModel(0.1), jpeg=None, outliers=None),
            settings=SimpleNamespace(method="two_stage", task="denoise"),
            range_width=255.0,
        )
        outcome = SimpleNamespace(residual=(size, related), stop=Stop(reason))
        return list(hints(job, outcome))  # type: ignore[arg-type]

    def test_nothing_to_say(self) -> None:
        assert self.of(0.1, 0.05, StopReason.NOISE_LEVEL) == []

    @pytest.mark.parametrize(
        ("size", "related", "words"),
        [
            (0.2, 0.02, "a larger sigma may suit"),
            (0.4, 0.5, "all iterations were run, and what the fit leaves is 102, and the noise 25"),
            (0.1, 0.5, "noise='correlated' may suit"),
        ],
    )
    def test_what_may_help(self, size: float, related: float, words: str) -> None:
        (hint,) = self.of(size, related)
        assert words in hint

    def test_in_a_result(self, use_small_network: Network) -> None:
        use_small_network(60)
        noisy = np.random.default_rng(0).normal(128, 40, (48, 48)).clip(0, 255).astype(np.uint8)
        result = dipfast.denoise(noisy, sigma=4)
        assert any("a larger sigma may suit" in hint for hint in result.hints)
        assert result.report()["hints"] == list(result.hints)


class TestCounts:
    """What is told of counts of few photons, whose fractions rounding takes away."""

    def counts(self, photons: float) -> tuple[np.ndarray, np.ndarray]:
        true = photons * (skimage.data.camera()[100:196, 100:228] / 255.0)
        return np.random.default_rng(0).poisson(true).astype(np.uint16), true

    def test_floats_are_told_of_and_are_better(self) -> None:
        counts, true = self.counts(10)
        whole = dipfast.denoise(counts, quality="fast")
        assert any("give the image as floats" in hint for hint in whole.hints)
        eight = dipfast.denoise(counts.astype(np.uint8), quality="fast")
        assert any(f"(up to {counts.max()})" in hint for hint in eight.hints)
        big = dipfast.denoise(counts.astype(">f4"), quality="fast")
        assert not any("give the image as floats" in hint for hint in big.hints)
        fractions = dipfast.denoise(counts.astype(np.float32), quality="fast")
        assert not any("give the image as floats" in hint for hint in fractions.hints)
        assert squared(fractions.image, true) < 0.9 * squared(whole.image, true)

    @pytest.mark.parametrize("step", [2, 10])
    def test_photons_of_several_counts_need_none(self, step: int) -> None:
        counts, _ = self.counts(3)
        hints = dipfast.denoise(step * counts, quality="fast").hints
        assert counts.max() * step <= 100
        assert not any("give the image as floats" in hint for hint in hints)

    def test_many_photons_need_none(self) -> None:
        counts, _ = self.counts(1000)
        hints = dipfast.denoise(counts, quality="fast").hints
        assert not any("give the image as floats" in hint for hint in hints)


class TestToldSigma:
    """What is told of a sigma that the picture contradicts."""

    @pytest.mark.parametrize(
        ("told", "effect"), [(100, "smooth details away"), (8, "leave noise in the result")]
    )
    def test_is_told_if_it_is_far_off(self, told: float, effect: str) -> None:
        noisy, _ = photograph(25)
        (hint, *_) = dipfast.denoise(noisy, sigma=told, quality="fast").hints
        assert hint.startswith(f"sigma={told} was told, and the picture looks like 2")
        assert effect in hint

    @pytest.mark.parametrize("options", [{"sigma": 25}, {"sigma": 40}, {}, {"sigma": 0}])
    def test_is_not_told_if_it_is_near(self, options: dict[str, Any]) -> None:
        noisy, _ = photograph(25)
        hints = dipfast.denoise(noisy, quality="fast", **options).hints
        assert not any("was told" in hint for hint in hints)

    @pytest.mark.parametrize(
        "options", [{}, {"stack_axis": 0, "neighbours": 0}], ids=["one", "stack"]
    )
    def test_is_told_of_a_dark_picture_in_another_unit(self, options: dict[str, Any]) -> None:
        # So small a sigma makes it one of high dynamic range.
        rng = np.random.default_rng(0)
        sky = rng.normal(0, 9, (3, 48, 48) if options else (48, 48))
        sky[..., 20:23, 30:33] += 600
        result = dipfast.denoise(sky, sigma=0.03, quality="fast", **options)
        assert all(result.found["stretched"])
        (hint,) = result.hints
        assert hint.startswith("sigma=0.03 was told, and the picture looks like ")
        assert 7 < float(hint.split("looks like ")[1].split(":")[0]) < 11
        near = dipfast.denoise(sky + 30 * (sky > 300), sigma=6, quality="fast", **options)
        assert not any("was told" in hint for hint in near.hints)

    def test_does_not_move_the_brightness(self) -> None:
        clean = np.tile(np.linspace(150, 255, 80), (64, 1))
        noise = np.random.default_rng(0).normal(0, 20, clean.shape)
        noisy = (clean + noise).round().clip(0, 255).astype(np.uint8)
        near, far = (dipfast.denoise(noisy, sigma=s, quality="fast") for s in (20, 60))
        said = dipfast.denoise(noisy, sigma=60, noise="clipped", quality="fast")
        assert near.found["noise"][0]["high"] == said.found["noise"][0]["high"] == 1.0
        assert far.found["noise"][0]["high"] is None
        moved = [abs(float(x.image.mean()) - noisy.mean()) for x in (far, said)]
        assert moved[0] < 3 < moved[1]


@pytest.mark.parametrize(
    ("options", "source"),
    [
        ({"sigma": 10, "noise": "gaussian"}, "given"),
        ({"noise": dipfast.NoiseModel(0.04, 0.01)}, "given"),
        ({"noise": "poisson_gaussian"}, "estimated"),
        ({"sigma": 2, "noise": "poisson_gaussian"}, "sigma given, the rest estimated"),
        ({"sigma": 10, "noise": "correlated"}, "sigma given, the rest estimated"),
    ],
    ids=str,
)
def test_where_the_noise_is_from(options: dict[str, Any], source: str) -> None:
    noisy, _ = photograph(10)
    result = dipfast.denoise(noisy[:48, :48], quality="fast", data_range=255, **options)
    assert result.found["noise_source"] == source
    assert f"({source})" in result.summary()


def test_no_noise_is_assumed_where_it_was_not_given() -> None:
    image = photograph(0)[0][:24, :24, 0]
    missing = np.zeros(image.shape, dtype=bool)
    missing[10, 5:15] = True
    assert "no noise (assumed)" in dipfast.inpaint(image, missing, quality="fast").summary()
    assert "no noise (given)" in dipfast.denoise(image, quality="fast", sigma=0).summary()
