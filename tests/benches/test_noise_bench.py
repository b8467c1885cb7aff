"""The benchmarks of noise measure what they say, on pictures whose truth is known."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benches.quality.noise import denoise, level, simulate
from benches.quality.noise.simulate import Simulated

import dipfast
from dipfast.images.files import write_image
from dipfast.stop_reason import StopReason


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def command(monkeypatch: pytest.MonkeyPatch, module: Any, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", *map(str, arguments)])
    module.main()


# --- estimates -----------------------------------------------------------------------------


def test_an_estimate_is_in_the_unit_of_the_picture() -> None:
    grey = np.full((96, 96), 128, np.uint8)
    white = level.find(simulate.white(grey, rng(), 10).noisy)
    assert (white.kind, white.near, white.width) == ("white", 0, 255)
    assert white.level == pytest.approx(10, rel=0.1)
    assert white.first_level() == pytest.approx(10, rel=0.1)
    assert white.deviation_at(128) == pytest.approx(white.level, rel=1e-6)
    ramp = np.tile(np.linspace(0, 1, 128, dtype=np.float32), (128, 1))
    made = simulate.poisson_gaussian(ramp, rng(), 3000, 1)
    photons = level.find(made.noisy)
    assert photons.kind == "photons"
    assert photons.level == pytest.approx(made.sigma, rel=0.15)
    assert photons.deviation_at(1600) == pytest.approx(math.sqrt(1500), rel=0.15)


def test_noise_against_other_shots_is_that_of_one() -> None:
    clean = np.full((64, 64), 128, np.uint8)
    shots = [simulate.white(clean, rng(seed), 10) for seed in range(9)]
    true = level.noise_of_first(shots)
    assert true.sigma == pytest.approx(10, rel=0.03)
    assert abs(level.near_of(true)) < 0.05
    blurred = Simulated("", shots[0].noise[1:] + shots[0].noise[:-1], np.zeros((63, 64)), 255)
    assert level.near_of(blurred) == pytest.approx(0.25, abs=0.05)


def test_typical_level_is_that_of_most_blocks_without_planes() -> None:
    noise = rng().normal(0, 3, (64, 64, 3))
    assert level.typical_level(noise) == pytest.approx(3, rel=0.03)
    y, x = np.indices((64, 64))[..., None]
    noise[:16] *= 10
    assert level.typical_level(noise + 0.5 * y - 0.3 * x) == pytest.approx(3, rel=0.15)
    assert level.typical_level((2 * y + x) * np.ones(3)) == pytest.approx(0, abs=1e-5)


def test_deviation_near_a_value_is_without_hot_pixels() -> None:
    clean = np.repeat(np.float32([[10], [40], [90]]), 2000, axis=0).reshape(60, 100)
    noise = rng().normal(0, 1, clean.shape) * np.sqrt(clean)
    noise[::7, ::11] += 1000
    made = Simulated("", (clean + noise).astype(np.float32), clean, 100)
    for value in (10, 40, 90):
        found = level.deviation_near(made, value)
        assert found == pytest.approx(math.sqrt(value), rel=0.1)


def test_odd_pictures() -> None:
    clean = np.full((64, 64, 3), 120, np.uint8)
    made = {picture.name: picture for picture in level.odd_pictures(clean, 10, rng())}
    hot = made["1.0% hot pixels"]
    assert np.mean((hot.noisy == 255).all(axis=2)) == pytest.approx(hot.share)
    assert made["upscaled"].noisy.shape == (128, 128, 3)
    assert 5 < made["upscaled"].sigma < 10
    rows = made["stripes of rows"].noisy.astype(float).mean(axis=(1, 2))
    assert rows.std() == pytest.approx(made["stripes of rows"].stripes, rel=0.1)
    assert not made["black border"].noisy[:20].any()


def test_pages() -> None:
    page = simulate.page((64, 64), rng())[0]
    made = {what: (pixels, true) for what, pixels, true in level.noisy_pages(page, 5, rng())}
    assert made["clean"][1] == (0, 0)
    assert set(np.unique(made["clean, 40 to 215"][0])) == {40, 215}
    # Half of the noise on white and on black is beyond the range.
    assert made["noise"][1][1] == pytest.approx(5 / math.sqrt(2), rel=0.05)
    assert made["noise, 40 to 215"][1][1] == pytest.approx(5, rel=0.05)


def test_cells_of_tables() -> None:
    text = level.markdown(["", "a", "b"], [["x", 0.12345, math.nan], ["y", 3, "1/2"]])
    assert text.splitlines() == [
        "|  | a | b |",
        "|---|---|---|",
        "| x | 0.123 | - |",
        "| y | 3 | 1/2 |",
    ]
    assert level.within([0.5, 0.7, 1.4, 1.6], 1.5) == "2/4"
    assert level.root_mean_square([3, -4]) == pytest.approx(math.sqrt(12.5))
    assert math.isnan(level.root_mean_square([]))
    assert list(level.in_processes(abs, [-1, 2], 1)) == [1, 2]
    assert level.middle(np.arange(35).reshape(5, 7), 3).tolist() == [
        [9, 10, 11],
        [16, 17, 18],
        [23, 24, 25],
    ]
    assert level.middle(np.zeros((5, 7)), 100).shape == (5, 7)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Make a folder like that of the pictures, with one picture of each kind."""
    from skimage.data import astronaut

    clean = astronaut()[:48, 200:248]
    noisy = simulate.white(clean, rng(), 25).noisy
    for path, pixels in {
        "denoise25/F16_GT.png": clean,
        "polyu256/Camera_mean.JPG": clean,
        "polyu256/Camera_real.JPG": noisy,
        "rni15/Dog.png": noisy,
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        write_image(tmp_path / path, pixels)
    return tmp_path


def test_tables_of_levels(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(level, "PHOTOGRAPHS", ())
    sets = "cameras", "polyu", "real"
    command(monkeypatch, level, *sets, "--data", data, "--size", 48, "--levels", 3)
    text = capsys.readouterr().out
    for line in ("### polyu", "| 3 malvar |", "| JPEG 75 |", "| Camera | ", "| Dog.png | "):
        assert line in text


# --- results -------------------------------------------------------------------------------


def test_psnr() -> None:
    clean = np.zeros((4, 4), np.uint8)
    assert denoise.psnr(clean, clean, 255) == math.inf
    assert denoise.psnr(clean + np.uint8(10), clean, 100) == pytest.approx(20)


def test_sky_and_light_of_stars() -> None:
    made, stars = simulate.stars((96, 96), rng(), 0.002, sky=denoise.SKY)
    for image, factor in ((made.clean, 1.0), (denoise.SKY + 1.1 * (made.clean - denoise.SKY), 1.1)):
        offset, _ = denoise.sky_offset(image, made.clean)
        assert abs(offset) < 0.1
        found = denoise.flux_ratios(image, made.clean, stars)
        assert sum(count for _, _, count in found.values()) > 5
        for mean, _, count in found.values():
            assert count == 0 or mean == pytest.approx(factor, rel=1e-5)
    offset, error = denoise.sky_offset(made.noisy + 3, made.clean)
    assert 0 < error < 0.5
    assert offset == pytest.approx(3, abs=5 * error)


def test_the_peak_of_stars_is_the_brightest_true_value() -> None:
    for case in denoise.stars(Path(), 64):
        assert case.peak == case.clean.max() > denoise.SKY


def test_isolated_stars() -> None:
    # A faint one near a bright one is not isolated; the bright one is.
    stars = np.array([[20, 20, 1000], [24, 24, 50], [20, 40, 50], [2, 60, 50], [60, 60, 50.0]])
    assert denoise.isolated(stars, (70, 70)).tolist() == [True, False, True, False, True]
    flux = np.array([100.0, 1e6])
    assert 0.9 < denoise.signal_to_noise(flux)[1] / 1e3 < 1
    assert 1 < denoise.signal_to_noise(flux)[0] < 5


def blurred(image: Any, **options: Any) -> Any:
    """Stand in for dipfast.denoise: a result with each pixel the mean of two, at once."""
    result = ((image.astype(float) + np.roll(image, 1, axis=0)) / 2).astype(image.dtype)
    noise = {"sigma": options.get("sigma", 20) / 255, "gain": 0.0}
    return SimpleNamespace(
        image=result,
        raw_image=image,
        found={"noise": [noise], "data_range": [0, 255], "max_iterations": 7},
        stop_iteration=options["max_iterations"],
        stop_reason=StopReason.ALL_ITERATIONS,
        seconds=1.25,
    )


def test_runs_become_tables_and_lines(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dipfast, "denoise", blurred)
    out = tmp_path / "rows.jsonl"
    common = ("--data", data, "--size", 32, "--iterations", 2, "--out", out)
    command(monkeypatch, denoise, "polyu", *common)
    for name in ("factor", "clean"):
        command(monkeypatch, denoise, name, *common, "--limit", 1)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["set"], row["run"]) for row in rows] == [
        ("polyu", "default"),
        ("polyu", "told"),
        *[("factor", name) for name in denoise.FACTORS],
        ("clean", "default"),
    ]
    assert rows[1]["sigma"] == pytest.approx(rows[1]["sigma_true"])
    assert [row["sigma"] for row in rows[2:5]] == pytest.approx([5, 10, 20])
    assert rows[-1]["input"] is None  # infinity
    text = capsys.readouterr().out
    cells = [f"{rows[0][key]:.2f}" for key in ("input", "psnr", "network", "psnr")]
    assert rows[0]["psnr"] > rows[0]["input"] + 1
    assert rows[0]["network"] == rows[0]["input"]
    assert f"| Camera | {' | '.join(cells)} | 20.000 |" in text
    assert " | 2/7 | 1.2 |" in text
    assert "| mean |  |  |  |  | 0.00 | 0.00 |" in text


def test_level_of_photon_noise_that_was_found() -> None:
    noisy = np.float32([[10, 20], [30, 50]])
    found = {"data_range": [10, 50], "noise": [{"gain": 1 / 40, "sigma": 0.0}]}
    assert denoise.level_in(found, noisy) == pytest.approx(math.sqrt(noisy.mean() - 10))


def test_stars_are_denoised_for_real(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows.jsonl"
    options = ("--size", 32, "--quality", "fast", "--iterations", 2, "--limit", 1, "--out", out)
    command(monkeypatch, denoise, "stars", *options)
    (row,) = (json.loads(line) for line in out.read_text().splitlines())
    assert (row["iteration"], row["most"]) == (2, 2)
    assert row["sigma"] > 0
    assert "| stars 0.0005 | result | " in capsys.readouterr().out
