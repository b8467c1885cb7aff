"""Test noise models against Monte Carlo simulation, their gradients, and their estimation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dipfast import ops
from dipfast.model import noise_estimate
from dipfast.model.noise import NoiseModel
from dipfast.model.noise_estimate import (
    estimate_noise,
    estimate_noise_model,
    fill_from_neighbours,
    isolated_outliers,
)
from dipfast.model.photon_noise import is_white_cut_off
from dipfast.model.problem import Problem
from dipfast.operators import Identity, Mask
from dipfast.ops.noise_level import find_outliers
from dipfast.prior.objective import Goal, objective

MODELS = [
    NoiseModel(0.1),
    NoiseModel(0.1, low=0.0, high=1.0),
    NoiseModel(0.2, low=0.0),
    NoiseModel(0.3, high=1.0),
    NoiseModel(0.02, 0.05),
    NoiseModel(0.05, 0.02, low=0.0, high=1.0),
    NoiseModel(0.0, 0.04, low=0.0, high=1.0),
]


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_moments_agree_with_monte_carlo(model: NoiseModel) -> None:
    clean = torch.linspace(0, 1, 11, dtype=torch.float64)
    count = 200_000
    generator = torch.Generator().manual_seed(0)
    samples = model.sample(clean.expand(count, -1), generator)
    # Five standard errors of a mean and of a variance.
    error = 5 * (model.variance(clean) / count).sqrt()
    assert ((samples.mean(0) - model.expectation(clean)).abs() <= error + 1e-9).all()
    spread = samples.var(0)
    fourth = (samples - samples.mean(0)).pow(4).mean(0)
    error = 5 * ((fourth - spread.square()).clamp_min(0) / count).sqrt()
    assert ((spread - model.variance(clean)).abs() <= error + 1e-9).all()


@pytest.mark.parametrize("model", MODELS[:6], ids=str)
def test_gradients(model: NoiseModel) -> None:
    clean = torch.linspace(0.01, 0.99, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model.expectation, clean)
    assert torch.autograd.gradcheck(model.variance, clean)
    assert torch.autograd.gradgradcheck(model.expectation, clean)


@given(
    sigma=st.floats(0.001, 1.0),
    gain=st.floats(0.0, 0.5),
    u=st.floats(0.0, 1.0),
)
def test_clipping_keeps_the_range_and_reduces_the_variance(
    sigma: float, gain: float, u: float
) -> None:
    clean = torch.tensor([u, 1 - u], dtype=torch.float64)
    model = NoiseModel(sigma, gain, low=0.0, high=1.0)
    expected = model.expectation(clean)
    assert ((expected >= 0) & (expected <= 1)).all()
    assert (model.variance(clean) <= NoiseModel(sigma, gain).variance(clean) * (1 + 1e-9)).all()
    if gain == 0:  # the noise is symmetric in dark and bright
        mirrored = 1 - model.expectation(1 - clean)
        torch.testing.assert_close(expected, mirrored)
    far = NoiseModel(sigma, gain, low=-100.0, high=100.0)
    torch.testing.assert_close(far.expectation(clean), clean)


def test_residual_of_white_noise_is_the_plain_difference() -> None:
    u, y = torch.rand(2, 1, 3, 8, 8)
    torch.testing.assert_close(NoiseModel(0.1).residual(u, y), u - y)
    torch.testing.assert_close(NoiseModel(0.0).residual(u, y), u - y)


def test_residual_has_the_variance_of_medium_brightness_everywhere() -> None:
    model = NoiseModel(0.05, 0.02, low=0.0, high=1.0)
    clean = torch.linspace(0.05, 1, 5, dtype=torch.float64).expand(100_000, -1)
    residual = model.residual(clean, model.sample(clean, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(residual.mean(0), torch.zeros(5).double(), atol=2e-3, rtol=0)
    expected = torch.full((5,), model.typical_variance).double()
    torch.testing.assert_close(residual.var(0), expected, rtol=0.03, atol=0)
    assert model.typical_variance == pytest.approx(0.05**2 + 0.01)


def test_weights_are_limited() -> None:
    # Without constant noise, black pixels have variance 0; their weight is limited to 25.
    model = NoiseModel(0.0, 0.04)
    residual = model.residual(torch.zeros(1), torch.full((1,), 0.1))
    assert residual.item() == pytest.approx(-0.1 * 5)


def test_fit_through_the_expectation_has_its_minimum_at_the_clean_picture() -> None:
    model = NoiseModel(0.3, low=0.0, high=1.0)
    clean = torch.tensor([0.05, 0.5, 0.9], dtype=torch.float64).repeat(1, 1, 1, 1)
    problem = Problem(model.expectation(clean), Identity(), model)
    u = torch.full_like(clean, 0.5).requires_grad_()
    optimizer = torch.optim.LBFGS([u], max_iter=100, tolerance_grad=1e-12)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = objective(u, problem, Goal()).value
        value.backward()
        return value

    optimizer.step(closure)
    torch.testing.assert_close(u.detach(), clean, atol=1e-3, rtol=0)


def test_missing_elements_do_not_count() -> None:
    known = torch.rand(6, 7) > 0.5
    y = torch.rand(1, 2, 6, 7)
    for noise in (NoiseModel(0.1), NoiseModel(0.1, low=0.0, high=1.0)):
        problem = Problem(y, Mask(known), noise)
        assert problem.count == 2 * int(known.sum())
        changed = Problem(torch.where(known, y, 9.0), Mask(known), noise)
        u = torch.rand(1, 2, 6, 7).requires_grad_()
        values = [objective(u, p, Goal()).value for p in (problem, changed)]
        torch.testing.assert_close(*values)
        assert not problem.residual(u)[..., ~known].any()
        (slope,) = torch.autograd.grad(values[0], u)
        assert not slope[..., ~known].any()


@pytest.mark.parametrize("kernel_noise", [NoiseModel(0.0), NoiseModel(0.1)])
def test_fused_kernel_and_plain_terms_agree(kernel_noise: NoiseModel) -> None:
    u, y = torch.rand(2, 1, 3, 9, 7, dtype=torch.float64)
    for operator in (Identity(), Mask(torch.rand(9, 7) > 0.3)):
        fused = objective(u, Problem(y, operator, kernel_noise), Goal(0.3))
        # A data weight that is not exactly 1 selects the path without the fused kernel.
        plain = objective(u, Problem(y, operator, kernel_noise), Goal(0.3, 1 + 1e-15))
        torch.testing.assert_close(fused, plain)


def test_interval_of_a_grey_picture_in_colour_is_that_of_one_channel() -> None:
    clean = torch.linspace(0.2, 0.8, 192).repeat(1, 192, 1)
    grey = NoiseModel(0.05).sample(clean, torch.Generator().manual_seed(0))
    alone, stored = (estimate_noise(x, "gaussian") for x in (grey, grey.expand(3, -1, -1)))
    assert alone.interval[0] < alone.model.sigma < alone.interval[1]
    assert [end / stored.model.sigma for end in stored.interval] == pytest.approx(
        [end / alone.model.sigma for end in alone.interval]
    )


class TestLargePictures:
    """The noise of a large picture is that of parts of it."""

    @pytest.mark.parametrize("kind", ["auto", "gaussian", "poisson_gaussian", "correlated"])
    def test_is_about_that_of_the_whole(self, kind, monkeypatch: pytest.MonkeyPatch) -> None:
        clean = torch.from_numpy(skimage.data.astronaut() / 255.0).permute(2, 0, 1).float()
        noisy = NoiseModel(0.08, low=0.0, high=1.0).sample(clean, torch.Generator().manual_seed(0))
        noisy[:, 99:102, 99:102] = noisy[:, 99:102, 99:102].clamp_max(0.3)
        noisy[:, 100, 100] = 1.0
        whole = estimate_noise(noisy, kind)
        monkeypatch.setattr(noise_estimate, "LARGE_PICTURE", 1000)
        monkeypatch.setattr(noise_estimate, "_SAMPLED_PIXELS", 512 * 256)
        monkeypatch.setattr(noise_estimate, "_LARGEST_TILE", 48)
        monkeypatch.setattr(noise_estimate, "_STRIPES_OF", 200)
        parts = estimate_noise(noisy, kind)
        assert parts.model.typical_variance == pytest.approx(
            whole.model.typical_variance, rel=0.1, abs=1e-5
        )
        assert (parts.model.low, parts.model.high) == (whole.model.low, whole.model.high)
        assert parts.stripes == whole.stripes == (0.0, 0.0)
        assert parts.interval[0] <= parts.model.sigma <= parts.interval[1]
        assert parts.levels.keys() == whole.levels.keys()
        assert parts.outliers is not None
        assert torch.equal(parts.outliers, whole.outliers)
        known = torch.rand(1, 512, 512, generator=torch.Generator().manual_seed(1)) < 0.9
        level = estimate_noise(noisy, "gaussian", known=known).model.sigma
        assert level == pytest.approx(0.08, rel=0.15)

    def test_of_one_value(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(noise_estimate, "LARGE_PICTURE", 1000)
        assert estimate_noise(torch.full((1, 200, 60), 0.5)).model.is_free


class TestNeighbours:
    @staticmethod
    def around(pixels: np.ndarray, row: int, column: int) -> np.ndarray:
        near = pixels[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].copy()
        near[min(row, 1), min(column, 1)] = np.nan
        return near[np.isfinite(near)]

    @pytest.mark.parametrize("shape", [(3, 3), (9, 14), (40, 7)])
    @pytest.mark.parametrize("gaps", [False, True])
    def test_outliers_are_far_from_their_median(self, shape: tuple[int, int], gaps: bool) -> None:
        generator = np.random.default_rng(sum(shape))
        plane = generator.normal(size=shape)
        plane[1, 1] = 100.0
        known = generator.random(shape) < 0.8 if gaps else np.ones(shape, dtype=bool)
        known[1, 1] = True
        holes = np.where(known, plane, np.nan)
        distance = np.zeros(shape)
        for row, column in np.argwhere(known):
            near = self.around(holes, row, column)
            if near.size:
                distance[row, column] = abs(plane[row, column] - np.median(near))
        limit = 6 * np.median(distance[distance > 1e-10]) / 0.6744897501960817
        expected = distance > limit
        assert np.array_equal(find_outliers(plane, known if gaps else None), expected)
        assert expected[1, 1] or shape == (3, 3)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_take_the_place_of_values(self, dtype: str) -> None:
        pixels = np.arange(24, dtype=dtype).reshape(1, 4, 6)
        places = np.zeros(pixels.shape, dtype=bool)
        places[0, 0, 0] = places[0, 2, 2] = places[0, 2, 3] = True
        filled = fill_from_neighbours(pixels, places)
        assert filled.dtype == dtype
        assert (filled[~places] == pixels[~places]).all()
        # Reflected at the corner: 1 and 6 twice, and 7 four times.
        assert filled[0, 0, 0] == np.median([1, 1, 6, 6, 7, 7, 7, 7])
        assert filled[0, 2, 2] == np.median([7, 8, 9, 13, 19, 20, 21])
        everywhere = np.ones(pixels.shape, dtype=bool)
        assert (fill_from_neighbours(pixels, everywhere) == pixels).all()


class TestEstimates:
    @staticmethod
    def picture(size: int = 256) -> Tensor:
        """Return three channels of shading and edges, with black and white places."""
        rows, columns = torch.meshgrid(*[torch.linspace(0, 1, size)] * 2, indexing="ij")
        edges = ((rows * 8).floor() + (columns * 8).floor()) % 2
        return torch.stack([rows, columns, 0.2 + 0.6 * edges]).double()

    @pytest.mark.parametrize("sigma", [10, 25, 50, 75])
    def test_clipped(self, sigma: int) -> None:
        clean = self.picture()
        noisy = NoiseModel(sigma / 255, low=0.0, high=1.0).sample(
            clean, torch.Generator().manual_seed(0)
        )
        noisy = (noisy * 255).round() / 255
        model = estimate_noise_model(noisy)
        assert (model.low, model.high, model.gain) == (0.0, 1.0, 0.0)
        assert model.sigma * 255 == pytest.approx(sigma, rel=0.08)

    @pytest.mark.parametrize(("sigma", "photons"), [(25, None), (75, None), (1, 300)])
    def test_what_is_cut_off_at_black_is_no_growth(self, sigma: int, photons: int | None) -> None:
        """A dark picture with bright spots, of white noise and of photons, tells which it is."""
        rows, columns = np.mgrid[:256, :256]
        spots = sum(
            np.exp(-((((rows - i) ** 2 + (columns - j) ** 2) / 400) ** 2))
            for i, j in ((60, 60), (100, 190), (180, 90), (200, 210))
        )
        clean = torch.from_numpy(0.02 + 0.7 * np.asarray(spots))[None]
        noise = NoiseModel(sigma / 255, 1 / photons if photons else 0.0, low=0.0, high=1.0)
        noisy = (255 * noise.sample(clean, torch.Generator().manual_seed(sigma))).round() / 255
        model = estimate_noise_model(noisy)
        if photons is None:
            assert (model.gain, model.low) == (0.0, 0.0)
            assert model.sigma == pytest.approx(noise.sigma, rel=0.1)
        else:
            assert model.gain == pytest.approx(noise.gain, rel=0.5)

    def test_tiles_of_one_value_have_no_noise(self) -> None:
        tiles = torch.tensor([[0.2, 0.7], [0.5, 0.2]]).repeat_interleave(32, 0)
        assert estimate_noise_model(tiles.repeat_interleave(32, 1)[None]).is_free

    def test_not_clipped(self) -> None:
        clean = 0.3 + 0.4 * self.picture()
        noisy = NoiseModel(0.03).sample(clean, torch.Generator().manual_seed(0))
        model = estimate_noise_model(noisy)
        assert model.sigma == pytest.approx(0.03, rel=0.05)
        assert model.is_white
        # A picture with values beyond the range cannot have been clipped.
        beyond = NoiseModel(0.2).sample(self.picture(), torch.Generator().manual_seed(0))
        assert not estimate_noise_model(beyond).clipped

    def test_one_end_only(self) -> None:
        dark = 0.5 * self.picture()
        noisy = NoiseModel(0.1, low=0.0).sample(dark, torch.Generator().manual_seed(0))
        model = estimate_noise_model(noisy)
        assert (model.low, model.high) == (0.0, None)

    @pytest.mark.parametrize(("gain", "sigma"), [(0.02, 0.02), (0.005, 0.05), (0.05, 0.0)])
    @pytest.mark.parametrize("clipped", [True, False])
    def test_poisson_gaussian(self, gain: float, sigma: float, clipped: bool) -> None:
        true = NoiseModel(sigma, gain, *((0.0, 1.0) if clipped else (None, None)))
        noisy = true.sample(self.picture(512), torch.Generator().manual_seed(0))
        model = estimate_noise_model(noisy, "poisson_gaussian")
        u = torch.linspace(0.1, 0.9, 9)
        found, wanted = (NoiseModel(m.sigma, m.gain).variance(u).sqrt() for m in (model, true))
        torch.testing.assert_close(found, wanted, rtol=0.1, atol=0.002)

    @pytest.mark.parametrize("photons", [0.3, 1, 3, 10, 40])
    @pytest.mark.parametrize("kind", ["auto", "poisson_gaussian"])
    def test_photons_that_are_counted(self, photons: float, kind: str) -> None:
        bright = photons * self.picture().numpy() ** 2
        counts = np.random.default_rng(0).poisson(bright)
        assert (counts == 0).mean() > 0.1
        model = estimate_noise_model(torch.from_numpy(counts / counts.max()), kind)
        assert model.low is None  # none are lost in the dark
        assert model.gain * counts.max() == pytest.approx(1)
        assert model.sigma == 0

    def test_photons_are_counted_beside_hot_pixels_and_gaps(self) -> None:
        counts = np.random.default_rng(0).poisson(3 * self.picture().numpy() ** 2)
        counts[:, 5::40, 7::40] = 60_000
        known = torch.ones(counts.shape, dtype=torch.bool)
        known[:, 100:120] = False
        counts[:, 100:120] = 30
        model = estimate_noise(torch.from_numpy(counts / 60_000), known=known).model
        assert model.gain * 60_000 == pytest.approx(1)

    def test_photons_in_a_range_with_a_margin(self) -> None:
        # Zero is below the darkest place there: the line through the variances is what is known.
        counts = np.random.default_rng(0).poisson(20 * (0.1 + 0.9 * self.picture().numpy()))
        ends = 1 / 6, 5 / 6
        scaled = ends[0] + (ends[1] - ends[0]) * counts / counts.max()
        model = estimate_noise(torch.from_numpy(scaled), ends=ends).model
        step = (ends[1] - ends[0]) / counts.max()
        for photons in (5.0, 10.0, 20.0):
            found = float(model.variance(torch.tensor(ends[0] + photons * step)))
            assert found == pytest.approx(photons * step**2, rel=0.5)

    @pytest.mark.parametrize("ends", [(0.0, 4095.0), None])
    def test_photons_above_an_offset(self, ends: tuple[float, float] | None) -> None:
        true = NoiseModel(3.5, 2.2, offset=100.0)
        clean = 100 + 200 * self.picture()[:2].square()
        counts = true.sample(clean, torch.Generator().manual_seed(0)).round()
        low, high = ends or (float(counts.min()), float(counts.max()))
        model = estimate_noise_model((counts - low) / (high - low))
        for bright in (120.0, 200.0, 280.0):
            found = float(model.variance(torch.tensor((bright - low) / (high - low)))) ** 0.5
            told = float(true.variance(torch.tensor(bright))) ** 0.5
            assert found * (high - low) == pytest.approx(told, rel=0.1)

    def test_few_bright_places_tell_the_photons(self) -> None:
        rows, columns = np.mgrid[:256, :256]
        clean = sum(
            200 * np.exp(-((rows - i) ** 2 + (columns - j) ** 2) / 300)
            for i, j in ((60, 60), (100, 190), (180, 90), (200, 210))
        )
        true = NoiseModel(3.5, 2.2, offset=100.0)
        counts = true.sample(torch.from_numpy(clean[None] + 100), torch.Generator().manual_seed(0))
        low, width = float(counts.min()), float(counts.max() - counts.min())
        model = estimate_noise_model((counts - low) / width)
        for bright in (100.0, 150.0, 250.0):
            found = float(model.variance(torch.tensor((bright - low) / width))) ** 0.5 * width
            assert found == pytest.approx(
                float(true.variance(torch.tensor(bright))) ** 0.5, rel=0.2
            )

    @pytest.mark.parametrize("seed", range(4))
    def test_a_dark_frame_has_no_photons(self, seed: int) -> None:
        frame = np.random.default_rng(seed).normal(100, 4.5, (1, 256, 256)).round()
        frame = torch.from_numpy(frame - frame.min())
        model = estimate_noise_model(frame / frame.max())
        assert model.gain == 0
        assert model.sigma * float(frame.max()) == pytest.approx(4.5, rel=0.05)

    def test_charges_that_one_photon_frees_do_not_stand_alone(self) -> None:
        # An EMCCD: where it is dark, one photon is seen as a value of an exponential law.
        random = np.random.default_rng(0)
        photons = random.poisson(np.broadcast_to(np.linspace(0, 0.04, 128), (1, 128, 128)))
        charges = random.gamma(np.maximum(photons, 1), 1.0) * (photons > 0)
        model = NoiseModel(0.05, 2.0)
        noisy = torch.from_numpy(charges + random.normal(0, 0.05, charges.shape))
        assert isolated_outliers(noisy, model) is None
        noisy[0, 20, 20] = 60.0
        found = isolated_outliers(noisy, model)
        assert found is not None
        assert found.nonzero().tolist() == [[0, 20, 20]]

    @pytest.mark.parametrize("photons", [0.5, 2.0, 8.0])
    @pytest.mark.parametrize("excess", [1.0, 3.0])
    def test_noise_of_few_photons_that_is_nothing_like_normal(
        self, photons: float, excess: float
    ) -> None:
        random = np.random.default_rng(0)
        clean = photons * self.picture()[:1].numpy()
        events = random.poisson(clean)
        charges = random.gamma(np.maximum(events, 1), 1.0) * (events > 0) if excess > 1 else events
        noisy = torch.from_numpy(charges + random.normal(0, 0.2, clean.shape))
        low, width = float(noisy.min()), float(noisy.max() - noisy.min())
        estimate = estimate_noise((noisy - low) / width)
        assert estimate.outlier_share < 1e-4  # photons, which are none
        assert estimate.model.excess == excess
        size = 2.0 if excess > 1 else 1.0
        assert estimate.model.gain * width == pytest.approx(size, rel=0.2)
        for count in (0.2, 0.5, 0.8):
            found = float(estimate.model.variance(torch.tensor((count * photons - low) / width)))
            told = size * count * photons + 0.04
            assert found * width**2 == pytest.approx(told, rel=0.3)

    def test_hot_pixels_among_few_photons(self) -> None:
        random = np.random.default_rng(0)
        events = random.poisson(2 * self.picture()[:1].numpy())
        charges = random.gamma(np.maximum(events, 1), 1.0) * (events > 0)
        noisy = charges + random.normal(0, 0.2, charges.shape)
        noisy[0, 9::40, 7::40] = 100
        noisy = torch.from_numpy(noisy - noisy.min())
        estimate = estimate_noise(noisy / noisy.max())
        assert estimate.model.gain * float(noisy.max()) == pytest.approx(2.0, rel=0.2)
        assert estimate.outliers is not None
        assert bool(estimate.outliers[0, 9::40, 7::40].all())
        assert int(estimate.outliers.sum()) <= estimate.outliers[0, 9::40, 7::40].numel() + 3

    def test_points_of_light_are_no_few_photons(self) -> None:
        random = np.random.default_rng(0)
        rows, columns = np.mgrid[:128, :128]
        stars = np.zeros((128, 128))
        for i, j, flux in zip(*random.uniform(0, 128, (2, 150)), random.exponential(1, 150)):
            stars += flux * np.exp(-((rows - i) ** 2 + (columns - j) ** 2) / 2)
        noisy = torch.from_numpy(stars + random.normal(0, 0.02, stars.shape))[None]
        width = float(noisy.max() - noisy.min())
        model = estimate_noise_model((noisy - noisy.min()) / width)
        assert model.sigma * width == pytest.approx(0.02, rel=0.15)
        assert model.excess == 1
        assert model.gain * width < 0.01

    def test_speckle_is_not_that_of_dark_places_alone(self) -> None:
        random = np.random.default_rng(0)
        clean = skimage.data.astronaut()[96:416, 96:416, 1] * 1.0
        noisy = (clean * random.normal(1, 0.1, clean.shape)).round().clip(0, 255)
        model = estimate_noise_model(torch.from_numpy(noisy)[None] / 255)
        for bright in (100, 150, 200):
            level = float(model.variance(torch.tensor(bright / 255, dtype=torch.float64))) ** 0.5
            assert level * 255 == pytest.approx(0.1 * bright, rel=0.35)

    def test_dots_are_no_few_photons(self) -> None:
        # Most of it is background, and what is bright is wider than a pixel: fluorescence, letters.
        random = np.random.default_rng(0)
        dots = random.uniform(90, 240, (128, 128)) * (random.random((128, 128)) < 0.008)
        clean = 10 + dots + (np.roll(dots, 1, 0) + np.roll(dots, 1, 1)) / 2
        noisy = torch.from_numpy(clean + random.normal(0, 5, clean.shape))[None] / 255
        model = estimate_noise_model(noisy.clip(0, 1))
        assert model.gain == 0
        assert model.sigma * 255 == pytest.approx(5, rel=0.1)

    @pytest.mark.parametrize("padding", [(16, 16, 16, 16), (40, 40, 0, 0), (0, 3, 64, 0)])
    @pytest.mark.parametrize("value", [0.0, 0.5])
    def test_padding_tells_nothing(self, padding: tuple[int, ...], value: float) -> None:
        generator = torch.Generator().manual_seed(0)
        noisy = NoiseModel(0.015).sample(self.picture() - 0.1, generator)
        around = torch.nn.functional.pad(noisy, padding, value=value)
        found, alone = estimate_noise_model(around), estimate_noise_model(noisy)
        assert found.sigma == pytest.approx(alone.sigma, rel=0.01)
        assert (found.gain, found.clipped) == (0, False)

    def test_a_mask_of_one_value_tells_nothing(self) -> None:
        noisy = NoiseModel(0.015).sample(self.picture()[:1] + 0.2, torch.Generator().manual_seed(0))
        rows, columns = np.mgrid[:256, :256]
        inside = torch.from_numpy((rows - 128) ** 2 + (columns - 128) ** 2 < 110**2)
        masked = torch.where(inside, noisy, 0.5)
        found = estimate_noise_model(masked).sigma
        assert found == pytest.approx(estimate_noise_model(noisy).sigma, rel=0.1)

    def test_saturated_places_do_not_hide_the_photons(self) -> None:
        random = np.random.default_rng(0)
        clean = 2000 * self.picture()[1].numpy()
        counts = (100 + 2 * random.poisson(clean) + random.normal(0, 6, clean.shape)).round()
        counts = torch.from_numpy(counts.clip(max=np.quantile(counts, 0.8)))[None]
        width = float(counts.max() - counts.min())
        model = estimate_noise_model((counts - counts.min()) / width)
        # Texture of this picture adds as much where nothing is saturated.
        assert 1.5 < model.gain * width < 3.5

    @pytest.mark.parametrize("darkness", [1, 4, 12])
    @pytest.mark.parametrize("level", [50, 75])
    def test_strong_white_noise_is_not_of_photons(self, level: int, darkness: int) -> None:
        # Of bright noise as much is missing at white as of dark noise at black.
        clean = self.picture() / darkness
        noise = level / 255 * np.random.default_rng(0).standard_normal(clean.shape)
        noisy = (clean + torch.from_numpy(noise)).clamp(0, 1)
        for image in (noisy, noisy[:1], noisy[2:]):
            model = estimate_noise_model(image)
            assert model.gain == 0, image.shape
            assert 255 * model.sigma == pytest.approx(level, rel=0.12)

    def test_nothing_is_cut_off_where_nothing_varies(self) -> None:
        empty, share = np.zeros(9), np.full(9, 0.5)
        flat = [(empty, empty)]
        assert not is_white_cut_off(flat, 0.0, share, empty, flat)

    @pytest.mark.parametrize("low", [0.0, 0.25])
    def test_white_noise_is_cut_off_at_any_black(self, low: float) -> None:
        clean = self.picture()[:1] / 6
        noise = 0.2 * np.random.default_rng(0).standard_normal(clean.shape)
        noisy = low + (clean + torch.from_numpy(noise)).clamp(0, 1)
        model = estimate_noise_model(noisy, ends=(low, low + 1))
        assert (model.gain, model.low) == (0, low)
        assert model.sigma == pytest.approx(0.2, rel=0.1)

    def test_bright_places_are_not_left_out_for_their_noise(self) -> None:
        clean = torch.from_numpy(skimage.data.astronaut()[128:384, 128:384] / 255.0)
        generator = torch.Generator().manual_seed(0)
        clean = clean.permute(2, 0, 1).float()
        noisy = NoiseModel(75 / 255, low=0.0, high=1.0).sample(clean, generator)
        model = estimate_noise_model(noisy)
        assert model.gain == 0
        assert 255 * model.sigma == pytest.approx(75, rel=0.05)

    @pytest.mark.parametrize("size", [96, 128, 192])
    def test_a_round_field_of_view(self, size: int) -> None:
        rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
        radius = np.hypot(rows, columns) / (size / 2)
        noise = np.random.default_rng(0).normal(0, 25, radius.shape)
        pixels = (100 + 50 * np.cos(6 * radius) + noise).round().clip(0, 255)
        pixels[radius > 0.98] = 0
        model = estimate_noise_model(torch.from_numpy(pixels[None] / 255))
        assert 255 * model.sigma == pytest.approx(25, rel=0.1)

    def test_channels_of_few_pixels_differ_by_chance(self) -> None:
        for seed in range(5):
            generator = torch.Generator().manual_seed(seed)
            model = estimate_noise_model(0.5 + 0.1 * torch.randn(8, 16, 16, generator=generator))
            assert model.channel_levels is None

    def test_one_pixel_squares_beside_an_outlier(self) -> None:
        drawn = 100.0 * (np.indices((64, 64)).sum(axis=0) % 2)
        drawn[5, 5] = 101
        model = estimate_noise_model(torch.from_numpy(drawn[None] / 101))
        assert model.gain == 0

    @pytest.mark.parametrize("levels", [(10, 110, 210), (128,)])
    def test_levels_away_from_the_ends_are_not_clipped(self, levels: tuple[int, ...]) -> None:
        drawn = np.random.default_rng(0).choice(levels, (1, 64, 64)) / 255
        assert not estimate_noise_model(torch.from_numpy(drawn)).clipped

    @pytest.mark.parametrize("levels", [4, 6, 16, 64])
    @pytest.mark.parametrize("sigma", [0.0, 0.5, 1.5])
    @pytest.mark.parametrize("name", ["camera", "page", "coins"])
    def test_few_levels_are_no_photons(self, name: str, levels: int, sigma: float) -> None:
        pixels = getattr(skimage.data, name)()[:160, :240] / 255.0
        noise = np.random.default_rng(0).normal(0, sigma, pixels.shape)
        drawn = (pixels * (levels - 1) + noise).round()
        drawn = torch.from_numpy((drawn - drawn.min())[None])
        model = estimate_noise_model(drawn / drawn.max())
        assert model.gain * float(drawn.max()) != pytest.approx(1, rel=1e-3)

    def test_noise_of_the_sensor_that_was_cut_off_is_told_beside_photons(self) -> None:
        true = NoiseModel(0.05, 0.02, low=0.0)
        noisy = true.sample(0.5 * self.picture(), torch.Generator().manual_seed(0))
        noisy = (noisy * 100).round() / 100
        assert estimate_noise_model(noisy, "poisson_gaussian").low == 0.0

    def test_few_levels_are_no_clipping(self) -> None:
        # The least of 25 levels is rare, and none of eight bits lies next to it.
        levels = np.random.default_rng(0).binomial(24, 0.25, (3, 256, 256))
        assert (levels == 0).mean() > 5e-4
        assert not estimate_noise_model(torch.from_numpy(levels / 24)).clipped

    def test_ends_of_single_precision_are_those_of_its_pixels(self) -> None:
        ends = 0.0, 0.8  # which single precision rounds up
        noise = NoiseModel(0.1, 0.0, *ends)
        noisy = noise.sample(0.8 * self.picture(), torch.Generator().manual_seed(0))
        for pixels in (noisy, noisy.float()):
            model = estimate_noise(pixels, ends=ends).model
            assert (model.low, model.high) == (0.0, pytest.approx(0.8))
            assert model.sigma == pytest.approx(0.1, rel=0.1)

    @pytest.mark.parametrize(("gain", "sigma"), [(0.04, 0.02), (0.01, 0.01), (0.0, 0.1)])
    def test_photon_noise_is_recognised(self, gain: float, sigma: float) -> None:
        true = NoiseModel(sigma, gain, low=0.0, high=1.0)
        model = estimate_noise_model(true.sample(self.picture(), torch.Generator().manual_seed(0)))
        assert (model.gain > 0) == (gain > 0)
        assert model.typical_variance == pytest.approx(true.typical_variance, rel=0.2)

    def test_white_noise_has_no_gain(self) -> None:
        noisy = NoiseModel(0.1).sample(self.picture(512), torch.Generator().manual_seed(0))
        model = estimate_noise_model(noisy, "poisson_gaussian")
        variance = NoiseModel(model.sigma, model.gain).variance(torch.tensor([0.1, 0.9])).sqrt()
        torch.testing.assert_close(variance, torch.full((2,), 0.1), rtol=0.05, atol=0)

    def test_given_sigma_is_kept(self) -> None:
        noisy = NoiseModel(0.1, 0.05).sample(self.picture(), torch.Generator().manual_seed(0))
        for kind in ("auto", "gaussian", "clipped", "poisson_gaussian"):
            assert estimate_noise_model(noisy, kind, sigma=0.1).sigma == pytest.approx(0.1)
        model = estimate_noise_model(noisy, "poisson_gaussian", sigma=0.1)
        assert model.gain == pytest.approx(0.05, rel=0.2)

    def test_given_sigma_is_compared_with_what_the_picture_tells(self) -> None:
        clean = torch.linspace(0, 1, 128, dtype=torch.float64).repeat(1, 128, 1)
        noise = NoiseModel(0.1, low=0.0, high=1.0)
        noisy = noise.sample(clean, torch.Generator().manual_seed(0))
        for kind in ("auto", "clipped"):
            right = estimate_noise(noisy, kind, sigma=0.1, compares=True)
            assert right.seen == pytest.approx(0.1, rel=0.1)
            assert right.model == noise
        far = estimate_noise(noisy, sigma=0.3, compares=True)
        assert far.seen == right.seen
        assert far.model == NoiseModel(0.3)
        assert estimate_noise(noisy, "clipped", sigma=0.3, compares=True).model.clipped
        assert estimate_noise(noisy, sigma=0.3).model.clipped
        assert estimate_noise(noisy, sigma=0.3).seen is None
        assert estimate_noise(noisy, "poisson_gaussian", sigma=0.1, compares=True).seen is None

    def test_nothing_to_compare_a_sigma_with(self) -> None:
        tiny = torch.rand((1, 2, 3), generator=torch.Generator().manual_seed(0))
        found = estimate_noise(tiny, sigma=0.1, compares=True)
        assert (found.model, found.seen) == (NoiseModel(0.1), None)

    @pytest.mark.parametrize("level", [25, 50])
    @pytest.mark.parametrize(
        ("name", "rel"), [("brick", 0.02), ("gravel", 0.05), ("astronaut", 0.02), ("cat", 0.02)]
    )
    def test_texture_is_not_taken_for_noise(self, name: str, rel: float, level: int) -> None:
        pixels = getattr(skimage.data, name)()[:256, :256]
        planes = pixels.reshape(256, 256, -1).transpose(2, 0, 1) / 255
        noise = NoiseModel(level / 255, low=0.0, high=1.0)
        noisy = noise.sample(torch.from_numpy(planes), torch.Generator().manual_seed(0))
        rounded = (noisy * 255).round() / 255
        assert estimate_noise_model(rounded).sigma == pytest.approx(level / 255, rel=rel)

    @pytest.mark.parametrize(
        "sigmas", [(0.05, 0.05, 0.1), (0.1, 0.05, 0.05), (0.05, 0.05, 0.05, 0.1)]
    )
    @pytest.mark.parametrize("clipped", [False, True])
    def test_the_noise_of_channels_that_differ_is_their_mean(
        self, sigmas: tuple[float, ...], clipped: bool
    ) -> None:
        generator = np.random.default_rng(0)
        white = generator.normal(0, 1, (len(sigmas), 256, 256))
        noisy = np.linspace(0.2, 0.8, 256)[:, None] + white * np.reshape(sigmas, (-1, 1, 1))
        noisy = noisy.clip(0, 1) if clipped else noisy
        model = estimate_noise_model(torch.from_numpy(noisy))
        assert model.sigma == pytest.approx(np.sqrt(np.mean(np.square(sigmas))), rel=0.03)

    def test_a_channel_without_whole_blocks_tells_nothing(self) -> None:
        generator = np.random.default_rng(0)
        ramp = np.linspace(0.2, 0.8, 256)[:, None]
        texture = 0.1 * np.sin(np.arange(256) * 1.9) * np.sin(np.arange(256) * 1.9)[:, None]
        noisy = torch.from_numpy(ramp + texture + generator.normal(0, 0.1, (3, 256, 256)))
        known = torch.ones(3, 256, 256, dtype=torch.bool)
        known[0] = False
        known[0, ::3, ::3] = True
        found = estimate_noise(noisy, "gaussian", known=known)
        of_two = estimate_noise(noisy[1:], "gaussian")
        assert found.levels["wavelets"] == pytest.approx(of_two.levels["wavelets"])
        # Patches of single channels, which texture does not mislead.
        assert found.model.sigma == pytest.approx(0.1, rel=0.02)

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("width", [40, 128])
    def test_a_constant_border_is_no_part_of_the_noise(self, channels: int, width: int) -> None:
        generator = np.random.default_rng(0)
        ramp = np.linspace(0.2, 0.5, 256)[:, None]
        noisy = ramp + generator.normal(0, 0.1, (channels, 256, 256))
        noisy[:, :, -width:] = 0.5
        model = estimate_noise_model(torch.from_numpy(noisy))
        assert model.sigma == pytest.approx(0.1, rel=0.02)

    def test_many_channels(self) -> None:
        clean = self.picture()[:1].expand(8, -1, -1) * torch.linspace(0.5, 1, 8)[:, None, None]
        noisy = NoiseModel(0.05).sample(clean, torch.Generator().manual_seed(0))
        assert estimate_noise_model(noisy).sigma == pytest.approx(0.05, rel=0.03)

    @pytest.mark.parametrize("share", [0.99, 0.9, 0.5, 0.3])
    def test_estimate_from_the_known_pixels(self, share: float) -> None:
        generator = torch.Generator().manual_seed(0)
        clean = 0.25 + 0.5 * self.picture()
        noisy = NoiseModel(0.05).sample(clean, generator)
        known = torch.rand(256, 256, generator=generator) < share
        noisy = torch.where(known, noisy, 0)
        model = estimate_noise_model(noisy, known=known[None])
        assert not model.clipped
        assert model.sigma == pytest.approx(0.05, rel=0.1)

    @pytest.mark.parametrize("shape", [(1, 1, 4), (3, 2, 5), (1, 8, 3), (2, 4, 4)])
    @pytest.mark.parametrize("kind", ["auto", "poisson_gaussian"])
    def test_pictures_of_any_size(self, shape: tuple[int, ...], kind: str) -> None:
        image = torch.rand(shape)
        for known in (None, torch.zeros(shape, dtype=torch.bool)):
            model = estimate_noise_model(image, kind, known=known)
            assert math.isfinite(model.sigma)
            assert math.isfinite(model.gain)
            assert model.is_free == (known is not None)

    @pytest.mark.parametrize("shape", [(1, 1, 2), (3, 2, 3), (1, 3, 3)])
    def test_too_small_picture_is_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"too small to tell its noise, 4 in one .*; sigma"):
            estimate_noise_model(torch.rand(shape))
        assert estimate_noise_model(torch.rand(shape), sigma=0.1).sigma == 0.1

    def test_too_few_known_pixels_are_refused(self) -> None:
        known = torch.zeros(1, 32, 32, dtype=torch.bool)
        known[:, ::4, ::4] = True
        with pytest.raises(ValueError, match=r"too few known pixels .* side by side .*; sigma"):
            estimate_noise_model(torch.rand(1, 32, 32), known=known)

    @pytest.mark.parametrize("gains", [(1.0, 1.0, 1.0), (1.0, 0.9, 0.7)])
    def test_correlated_noise_of_the_channels(self, gains: tuple[float, ...]) -> None:
        grey = NoiseModel(0.05).sample(
            self.picture()[:1] / 2 + 0.2, torch.Generator().manual_seed(0)
        )
        alone = estimate_noise_model(grey).sigma
        colour = torch.cat([gain * grey for gain in gains])
        expected = alone * math.sqrt(sum(gain**2 for gain in gains) / 3)
        assert estimate_noise_model(colour).sigma == pytest.approx(expected, rel=0.1)

    def test_batch_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"must have shape \(C, H, W\), got \(2, 1, 8, 8\)"):
            estimate_noise_model(torch.rand(2, 1, 8, 8))

    @pytest.mark.parametrize("share", [0.001, 0.01, 0.03])
    def test_hot_pixels_are_not_taken_for_noise(self, share: float) -> None:
        generator = torch.Generator().manual_seed(0)
        noisy = 0.4 + 0.04 * torch.randn(1, 128, 128, generator=generator)
        noisy[torch.rand(noisy.shape, generator=generator) < share] = 1.0
        model = estimate_noise_model(noisy)
        assert not model.clipped
        assert math.sqrt(model.typical_variance) == pytest.approx(0.04, rel=0.05)

    @settings(max_examples=30)
    @given(value=st.floats(0, 1), size=st.integers(1, 20))
    def test_no_noise_in_a_flat_picture(self, value: float, size: int) -> None:
        flat = torch.full((1, size, size), value, dtype=torch.float64)
        assert estimate_noise_model(flat).sigma == 0
        assert estimate_noise_model(flat, "poisson_gaussian").is_free


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NoiseModel(-0.1), "sigma must be a number from 0 up, got -0.1"),
        (lambda: NoiseModel(math.nan), "sigma must be a number from 0 up, got nan"),
        (lambda: NoiseModel(0.1, math.inf), "gain must be a number from 0 up, got inf"),
        (lambda: NoiseModel(0.1, low=1.0, high=0.0), "low must be below high"),
        (lambda: estimate_noise_model(torch.ones(1, 8, 8), "poisson"), "noise must be one of auto"),
    ],
)
def test_invalid_arguments_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(("photons", "most"), [(10, 10), (30, 2)])
def test_photons_are_no_outliers(photons: float, most: int) -> None:
    rows, columns = np.mgrid[:256, :384]
    cell = np.exp(-((columns - 190) ** 2 + (rows - 120) ** 2) / 4000)
    clean = photons * (0.1 + cell + 0.5 * (np.sin(columns / 9) > 0.9))
    generator = np.random.default_rng(0)
    counts = generator.poisson(clean) + generator.normal(0, 0.3, clean.shape)
    noisy = torch.from_numpy(counts[None] / 60)
    alone = isolated_outliers(noisy)
    assert alone is not None
    assert alone.sum() > most
    found = estimate_noise(noisy)
    assert found.outliers is None or found.outliers.sum() <= most
    noisy[0, 5::32, 5::32] = 2.0
    with_defects = estimate_noise(noisy)
    assert with_defects.outliers is not None
    assert with_defects.outliers[0, 5::32, 5::32].float().mean() > 0.9


@pytest.mark.parametrize("empty", [(2,), (0, 2)])
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_channels_of_one_value_do_not_hide_the_noise_of_others(
    empty: tuple[int, ...], value: float
) -> None:
    clean = torch.linspace(0.3, 0.7, 128).repeat(3, 128, 1)
    noisy = NoiseModel(0.08).sample(clean, torch.Generator().manual_seed(0))
    for kind in ("auto", "gaussian", "correlated"):
        whole = estimate_noise(noisy, kind).model
        part = noisy.clone()
        part[list(empty)] = value
        found = estimate_noise(part, kind).model
        assert found.typical_variance == pytest.approx(whole.typical_variance, rel=0.15)
        assert (found.spectrum is None) == (whole.spectrum is None)
        assert found.low is None
    alone = ops.estimate_noise(part, channel_axis=0)
    assert alone == pytest.approx(0.08, rel=0.1)


def test_clipping_of_one_channel_is_told() -> None:
    clean = torch.linspace(0.3, 0.7, 128).repeat(3, 128, 1)
    clean[2] = 0.02
    noisy = NoiseModel(0.08, low=0.0, high=1.0).sample(clean, torch.Generator().manual_seed(0))
    noisy = (noisy * 255).round() / 255
    for sigma in (None, 0.08):
        found = estimate_noise(noisy, sigma=sigma, compares=sigma is not None).model
        assert (found.low, found.high) == (0.0, None)
        assert found.sigma == pytest.approx(0.08, rel=0.1)


def test_a_channel_that_is_mostly_black_does_not_hide_coarse_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = NoiseModel(0.05, spectrum=((2.0, 1.8, 1.5, 1.0, 0.7, 0.4, 0.2),))
    noisy = coarse.sample(torch.full((3, 128, 128), 0.5), generator)
    noisy[2] = (0.03 * (noisy[2] - 0.5)).clamp_min(0)
    found = estimate_noise(noisy, "correlated").model
    assert found.is_correlated
    assert found.sigma == pytest.approx(0.05, rel=0.2)
