"""Simulated noise has the level, the correlation and the mean that it should have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from benches.quality.noise import simulate
from benches.quality.noise.simulate import Simulated

GREY = np.full((128, 128), 128, np.uint8)
# JPEG rounds a single colour, but not a grey.
GREYS = np.full((128, 128, 3), 128, np.uint8)
COLOUR = np.full((128, 128, 3), (140, 120, 100), np.uint8)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


NOISE: dict[str, Callable[[np.random.Generator], Simulated]] = {
    "bilinear": lambda g: simulate.camera(COLOUR, g, level=1, quality=None),
    "malvar": lambda g: simulate.camera(COLOUR, g, level=1, demosaic="malvar", quality=None),
    "jpeg": lambda g: simulate.camera(GREYS, g, level=1, quality=95),
    "mosaic": lambda g: simulate.mosaic(COLOUR, g, level=2),
    "white": lambda g: simulate.white(GREY, g, 10),
    "white colour": lambda g: simulate.white(COLOUR, g, 10),
    "poisson": lambda g: simulate.poisson_gaussian(GREY, g, 200),
    "emccd": lambda g: simulate.emccd(GREY, g, 20),
    "scmos": lambda g: simulate.scmos(GREY, g, 200),
    "scanner": lambda g: simulate.scanner(COLOUR, g, 5, 1),
    "speckle": lambda g: simulate.speckle(GREY, g, 4),
    "stars": lambda g: simulate.stars((96, 96), g)[0],
    "fluorescence": lambda g: simulate.fluorescence((96, 96), g, 30),
}


@pytest.mark.parametrize("name", NOISE)
def test_noise_is_unbiased_and_that_of_its_generator(name: str) -> None:
    made, again, other = (NOISE[name](rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(made.noisy, again.noisy)
    np.testing.assert_array_equal(made.clean, again.clean)
    assert made.name == again.name
    assert (made.noisy != other.noisy).any()
    assert made.noisy.dtype == made.clean.dtype
    assert made.noisy.dtype in (np.uint8, np.uint16, np.float32)
    assert made.noisy.shape == made.clean.shape
    assert made.clean.max() <= made.width
    # Hot pixels have a mean, and stripes are few.
    share = {"scmos": 0.1, "scanner": 0.1}.get(name, 0.05)
    assert abs(made.noise.mean()) < share * made.sigma


def test_white_noise() -> None:
    made = simulate.white(GREY, rng(), 10)
    assert made.sigma == pytest.approx(10, rel=0.02)
    assert made.autocorrelation(0, 0) == pytest.approx(1)
    for place in ((0, 1), (1, 0), (1, -1), (-2, 3)):
        assert abs(made.autocorrelation(*place)) < 0.03


def test_autocorrelation_looks_in_the_right_direction() -> None:
    fine = rng().normal(0, 10, (200, 200))
    noise = fine[1:, 1:] + fine[:-1, :-1]  # the same value again one row and one column on
    made = Simulated("", noise.astype(np.float32), np.zeros_like(noise, np.float32), 255)
    assert made.autocorrelation(1, 1) == pytest.approx(0.5, abs=0.02)
    assert made.autocorrelation(-1, -1) == pytest.approx(0.5, abs=0.02)
    assert made.autocorrelation(1, -1) == pytest.approx(0, abs=0.02)
    without = Simulated("", made.clean, made.clean, 255)
    assert without.autocorrelation(0, 1) == 0
    with pytest.raises(ValueError, match="too far"):
        made.autocorrelation(0, 200)


@pytest.mark.parametrize("level", simulate.CAMERA_LEVELS)
def test_levels_of_the_camera(level: int) -> None:
    made = [
        simulate.camera(GREYS, rng(), level=level, demosaic=kind, quality=None).sigma
        for kind in ("bilinear", "malvar")
    ]
    wanted = {1: 3, 2: 6, 3: 12, 4: 20}[level]
    assert np.sqrt(made[0] * made[1]) == pytest.approx(wanted, rel=0.05)
    assert made[0] < wanted < made[1]


def test_demosaicking_correlates_noise_that_was_white() -> None:
    raw = simulate.mosaic(COLOUR, rng(), level=2)
    assert (raw.noisy.dtype, raw.width) == (np.uint16, 4095)
    for place in ((0, 1), (1, 0), (1, 1)):
        assert abs(raw.autocorrelation(*place)) < 0.04
        for kind in ("bilinear", "malvar"):
            for quality in (None, 95, 75):
                made = simulate.camera(COLOUR, rng(), level=2, demosaic=kind, quality=quality)
                assert made.autocorrelation(*place) > (0.05 if place == (1, 1) else 0.2)


@pytest.mark.parametrize("kind", ["bilinear", "malvar"])
def test_demosaicking_keeps_constants_and_ramps(kind: str) -> None:
    y, x = np.indices((13, 16)) / 100
    planes = [0.2 + 0.5 * y + 0.3 * x, 0.6 - y + 0.2 * x, 0.3 + 0.1 * y - 0.4 * x]
    picture = np.stack(planes, axis=-1)
    inside = (slice(2, -2), slice(2, -2))
    for true in (picture, np.broadcast_to([0.2, 0.5, 0.7], picture.shape)):
        colours = simulate._colours(13, 16)
        raw = np.take_along_axis(true, colours[..., None], axis=2)[..., 0]
        result = simulate._DEMOSAIC[kind](raw)
        np.testing.assert_allclose(result[inside], true[inside], atol=1e-12)
        # What was measured stays.
        np.testing.assert_array_equal(
            np.take_along_axis(result, colours[..., None], axis=2)[..., 0], raw
        )
    np.testing.assert_allclose(result, true, atol=1e-12)  # a constant, up to the edges


def test_malvar_is_sharper_than_bilinear() -> None:
    y, x = np.indices((64, 64))
    wave = 128 + 60 * np.cos(0.7 * x + 0.5 * y)
    colour = np.stack([wave.round().astype(np.uint8)] * 3, axis=-1)
    made = [
        simulate.camera(colour, rng(), level=1, demosaic=kind, quality=None)
        for kind in ("malvar", "bilinear")
    ]
    malvar, bilinear = (np.std(picture.clean - colour.astype(float)) for picture in made)
    assert malvar < 0.7 * bilinear


def test_camera_without_noise_keeps_a_constant_colour() -> None:
    made = simulate.camera(COLOUR, rng(), level=1, quality=90)
    assert np.abs(made.clean.astype(int) - COLOUR).max() <= 2  # JPEG rounds
    assert made.name == "camera level=1 bilinear jpeg=90"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": 5}, "level must be one of"),
        ({"level": 1, "demosaic": "none"}, "demosaic must be one of"),
    ],
)
def test_camera_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate.camera(COLOUR, rng(), **arguments)
    with pytest.raises(ValueError, match="shape"):
        simulate.camera(GREY, rng(), level=1)


def test_poisson_gaussian() -> None:
    made = simulate.poisson_gaussian(GREY, rng(), 1000, 5, 50)
    photons = 1000 * 128 / 255
    assert made.clean.flat[0] == round(photons + 50)
    assert made.noise.var() == pytest.approx(photons + 25, rel=0.04)


def test_emccd_doubles_the_variance() -> None:
    made = simulate.emccd(GREY, rng(), 50, 300, 0, 500, electrons=10)
    signal = made.noisy.astype(float) - 500
    photons, gain = 50 * 128 / 255, 300 / 10
    assert signal.mean() == pytest.approx(photons * gain, rel=0.01)
    assert signal.var() / (signal.mean() * gain) == pytest.approx(2, rel=0.05)


def test_scmos_pixels_differ() -> None:
    dark = simulate.scmos(np.zeros((256, 256), np.float32), rng(), 100)
    hot = dark.noise > 300
    assert hot.mean() == pytest.approx(1 / 2000, rel=0.5)
    # Read noise and offsets: with a longer tail than that of a normal distribution.
    rest = dark.noise[~hot]
    assert np.mean(rest**4) / np.mean(rest**2) ** 2 > 3.5
    bright = simulate.scmos(GREY, rng(), 5e4 / 3)
    assert bright.noise.std() / (bright.clean.mean() - 100) == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("along", ["rows", "columns"])
def test_scanner(along: Any) -> None:
    made = simulate.scanner(GREY, rng(), 6, 0)
    assert made.sigma == pytest.approx(6, rel=0.03)
    assert made.autocorrelation(0, 1) == pytest.approx(0.5, abs=0.03)
    assert abs(made.autocorrelation(1, 0)) < 0.03
    striped = simulate.scanner(GREY, rng(), 0, 8, along=along)
    far, across = ((0, 9), (9, 0)) if along == "rows" else ((9, 0), (0, 9))
    assert striped.autocorrelation(*far) > 0.8
    assert abs(striped.autocorrelation(*across)) < 0.4
    assert striped.sigma == pytest.approx(8, rel=0.25)


def test_speckle() -> None:
    made = simulate.speckle(GREY, rng(), 4)
    assert (made.noisy / made.clean).std() == pytest.approx(0.5, rel=0.03)


def test_outliers() -> None:
    for picture in (GREY, COLOUR):
        result, chosen = simulate.outliers(picture, rng(), 0.1, dark=0.25)
        assert chosen.shape == picture.shape[:2]
        assert chosen.mean() == pytest.approx(0.1, rel=0.1)
        np.testing.assert_array_equal(result[~chosen], picture[~chosen])
        assert set(np.unique(result[chosen])) == {0, 255}
        assert np.mean(result[chosen] == 0) == pytest.approx(0.25, rel=0.2)


def test_changes_of_both_pictures() -> None:
    made = simulate.white(COLOUR, rng(), 10)
    larger = made.change(simulate.upscaled, "upscaled")
    assert larger.name == "white 10 upscaled"
    assert larger.noisy.shape == (256, 256, 3)
    assert larger.autocorrelation(0, 1) > 0.6
    framed = made.change(lambda picture: simulate.bordered(picture, 5), "bordered")
    assert not framed.noisy[:5].any()
    assert not framed.noisy[:, -5:].any()
    np.testing.assert_array_equal(framed.noisy[5:-5, 5:-5], made.noisy[5:-5, 5:-5])


def test_saturated_pixels_have_no_noise() -> None:
    ramp = np.tile(np.arange(200, dtype=np.uint8), (100, 1))
    bright = simulate.saturated(ramp, 0.2)
    assert np.mean(bright > 255) == pytest.approx(0.2, abs=0.01)
    made = simulate.white(bright, rng(), 5)
    assert (made.clean[:, 160:] == 255).all()
    assert (made.noisy[:, -10:] == 255).all()
    assert made.noise[:, 20:150].std() == pytest.approx(5, rel=0.05)


def test_page() -> None:
    black, grey = simulate.page((100, 140), rng())
    assert black.shape == grey.shape == (100, 140)
    assert set(np.unique(black)) == {0, 255}
    assert len(np.unique(grey)) > 8
    assert 0.05 < np.mean(black == 0) < 0.4
    np.testing.assert_array_equal(black == 0, grey < 128)
    np.testing.assert_array_equal(grey, simulate.page((100, 140), rng())[1])


@pytest.mark.parametrize("profile", ["gaussian", "moffat"])
def test_stars(profile: Any) -> None:
    made, catalogue = simulate.stars((128, 160), rng(), profile=profile)
    assert len(catalogue) == round(0.002 * 128 * 160)
    fluxes = catalogue[:, 2]
    assert (np.diff(fluxes) <= 0).all()
    assert 100 < fluxes[-1] < 300
    assert 3e4 < fluxes[0] <= 1e5
    # Light of stars over the sky; some of it falls beyond the edges.
    total = (made.clean.astype(float) - 100).sum()
    assert 0.7 < total / fluxes.sum() <= 1
    row, column, _ = catalogue[0].round().astype(int)
    near = made.clean[row - 1 : row + 2, column - 1 : column + 2]
    assert near.max() == near[1, 1] == made.clean.max()
    sky = made.clean < 101
    assert made.noise[sky].std() == pytest.approx(np.sqrt(100 + 25), rel=0.05)


def test_star_has_its_width() -> None:
    for profile in ("gaussian", "moffat"):
        star = simulate._star(profile, 8.0, 0.0, 0.0)  # wide, so that pixels are small
        middle = star.shape[0] // 2
        assert star.sum() == pytest.approx(1)
        assert star[middle, middle + 4] / star[middle, middle] == pytest.approx(0.5, abs=0.01)


def test_fluorescence() -> None:
    made = simulate.fluorescence((96, 128), rng(), 40)
    assert made.clean.max() == pytest.approx(40, rel=1e-6)
    assert 0.02 * 40 <= made.clean.min() < 0.06 * 40
    np.testing.assert_array_equal(made.noisy, made.noisy.round())
    assert np.mean(made.noise**2 / made.clean) == pytest.approx(1, rel=0.05)
