"""The benchmark of non-local ridge regression measures what it says."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benches.quality import nl_ridge as bench
from benches.quality.nl_ridge import Bm3d, Case, Stabiliser
from PIL import Image

import dipfast
from dipfast.images.files import write_image
from dipfast.settings.noise import NoiseParameters
from dipfast.stop_reason import StopReason


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_score_is_that_of_files_of_8_bits(tmp_path: Path) -> None:
    clean = rng().integers(0, 256, (12, 15, 3)).astype(np.uint8)
    restored = clean + rng(1).normal(0, 8, clean.shape)
    for name, pixels in ("clean", clean), ("restored", restored.round().clip(0, 255)):
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{name}.png")
    true, out = (
        np.asarray(Image.open(tmp_path / f"{name}.png")).astype(np.float64)
        for name in ("clean", "restored")
    )
    expected = 10 * np.log10(255 * 255 / np.mean(np.square(true - out)))
    assert bench.score(restored, clean) == pytest.approx(expected, rel=1e-12)
    assert bench.score(clean + 0.4, clean) == math.inf


def test_a_case_is_compared_in_levels_of_8_bits() -> None:
    clean = rng().integers(0, 256, (12, 15)).astype(np.uint8)
    restored = (clean + rng(1).normal(0, 8, clean.shape)).round()
    counts = Case("", clean * 7.0 + 100, clean * 7.0 + 100, low=100.0, width=7 * 255.0)
    assert counts.psnr(restored * 7 + 100) == pytest.approx(bench.score(restored, clean))


def expected_value(pair: Stabiliser, signal: float) -> tuple[float, float]:
    """Return expectation and standard deviation of the transformed values of a signal."""
    counts = np.arange(400)
    logs = np.cumsum(np.log(np.maximum(counts, 1)))
    photons = (signal - pair.offset) / pair.gain
    weights = np.exp(counts * math.log(photons) - photons - logs)
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(40)
    values = pair.gain * counts[:, None] + pair.offset + pair.sigma * nodes
    both = weights[:, None] * node_weights / math.sqrt(2 * math.pi)
    transformed = pair.forward(values)
    mean = float(np.sum(both * transformed))
    return mean, math.sqrt(float(np.sum(both * (transformed - mean) ** 2)))


@pytest.mark.parametrize("pair", [Stabiliser(1, 0), Stabiliser(2.5, 2, 10), Stabiliser(0.5, 1, -3)])
def test_noise_becomes_white_and_the_inverse_has_no_bias(pair: Stabiliser) -> None:
    for photons in (1, 3, 10, 30, 100):
        signal = pair.offset + pair.gain * photons
        mean, deviation = expected_value(pair, signal)
        assert deviation == pytest.approx(1, abs=0.2 if photons < 4 else 0.03)
        found = float(pair.inverse(np.array(mean)))
        assert (found - signal) / pair.gain == pytest.approx(0, abs=0.05)
    # The inverse of the transformation alone is a quarter of a photon off.
    plain = (mean / 2) ** 2 - 3 / 8 - (pair.sigma / pair.gain) ** 2
    assert plain - photons == pytest.approx(-1 / 4, abs=0.01)


def test_the_pair_of_a_noise_in_units_of_a_range() -> None:
    noise = NoiseParameters(sigma=3 / 50, gain=1 / 50)
    assert Stabiliser.of(noise, (100, 150)) == Stabiliser(1, 3, 100)
    assert Stabiliser.of(NoiseParameters(0.1), (0, 1)) is None


def halfway(noisy: Any, sigma: float, width: float = 255.0) -> Any:
    """Stand in for the package bm3d."""
    return (noisy + np.roll(noisy, 1, axis=0)) / 2


def test_photon_noise_is_denoised_as_white_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def constant(noisy: Any, sigma: float, width: float = 255.0) -> Any:
        seen["ratio"] = float(noisy.std()) / sigma
        return np.full_like(noisy, noisy.mean())

    monkeypatch.setattr(Bm3d, "restored", staticmethod(constant))
    noisy = rng().poisson(40, (200, 200)) + rng(1).normal(100, 3, (200, 200))
    noise = NoiseParameters(3 / 50, 1 / 50)
    restored = bench.stabilised(Bm3d(), noisy, noise, (100, 150))
    assert seen["ratio"] == pytest.approx(1, abs=0.02)
    assert restored.mean() == pytest.approx(140, abs=0.15)


def test_results_of_bm3d_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return halfway(*arguments)

    monkeypatch.setattr(Bm3d, "restored", staticmethod(counted))
    noisy = rng().normal(100, 10, (9, 8))
    bm3d = Bm3d(tmp_path / "cache")
    for sigma in (10.0, 10.0, 11.0):
        np.testing.assert_allclose(bm3d(noisy, sigma), halfway(noisy, sigma), rtol=1e-6)
    bm3d(noisy + 1, 10.0)
    assert len(calls) == 3


def test_bars() -> None:
    assert bench.asked("a", 2.0, least=2).endswith("2.00, asked at least 2: met")
    assert bench.asked("a", 2.1, most=2).endswith("2.10, asked at most 2: MISSED")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Make a folder like that of the pictures, with a picture of each kind."""
    from skimage.data import astronaut

    clean = astronaut()[:48, 200:248]
    noisy = (clean + rng().normal(0, 25, clean.shape)).round().clip(0, 255).astype(np.uint8)
    folder = tmp_path / "data"
    for path, pixels in {
        "denoise25/F16_GT.png": clean,
        "denoise25/F16_noisy.png": noisy,
        "denoise25/F16_bm3d.png": clean,
        "denoise25/F16_deep_prior.png": noisy,
        "set5_x4/baby_GT.png": clean,
        "inpaint50/barbara_GT.png": clean[..., 0],
        "inpaint50/barbara_masked.png": np.where(rng().random((48, 48)) < 0.5, clean[..., 0], 0),
        "inpaint50/barbara_deep_prior.png": clean[..., 0],
        "polyu256/Camera_mean.JPG": clean,
        "polyu256/Camera_real.JPG": noisy,
        "set14_x4/barbara_GT.png": clean,
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / path, pixels)
    return folder


def test_tables(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Bm3d, "restored", staticmethod(halfway))
    options = f"--data {data} --size 40 --limit 1 --speeds fast balanced best --bm3d --no-network"
    monkeypatch.setattr(sys, "argv", ["bench", *bench.SETS, *options.split()])
    bench.main()
    tables = dict(zip(bench.SETS, capsys.readouterr().out.split("### ")[1:]))
    head = "|  | input | CBM3D | DIP | fast | fast, model |"
    assert head in tables["nine"]
    assert "| F16 | " in tables["nine"]
    assert "| inf |" in tables["nine"]  # the clean picture stands for CBM3D
    assert "mean, best, model: " in tables["nine"]
    for group in ("| barbara, 15 |", "| mean, 50 |", "sigma 25, best minus bm3d, true sigma:"):
        assert group in tables["grey"]
    assert "| mean, 3000 |" in tables["poisson"]
    assert "| mean, 3 |" in tables["counts"]
    assert "| mean, 10 |" in tables["emccd"]
    assert "| astronaut, colour 10 40 20 |" in tables["channels"]
    assert "| astronaut, two 25 25 |" in tables["channels"]
    assert "| worse than the input | 0/1 |" in tables["polyu"]
    assert "balanced, times as fast: " in tables["time"]
    assert "| astronaut, 50 |" in tables["speeds"]
    assert "|  | input | DIP | DIP, known kept | pnp, fast | " in tables["inpaint"]
    assert "| barbara | " in tables["inpaint"]
    assert "| baby | " in tables["enlarge"]
    assert "network" not in tables["enlarge"]


def test_pictures_with_holes_are_chosen_by_name(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("GT", "masked", "deep_prior"):
        there = data / f"inpaint50/barbara_{kind}.png"
        for name in ("boat", "hill"):
            there.with_name(f"{name}_{kind}.png").write_bytes(there.read_bytes())

    def same(image: Any, mask: Any, **options: Any) -> Any:
        return dipfast.Result(image, {}, StopReason.RULE, 1, {}, {})

    monkeypatch.setattr(dipfast, "inpaint", same)
    options = f"inpaint --data {data} --size 40 --speeds fast --no-network --only hill barbara"
    monkeypatch.setattr(sys, "argv", ["bench", *options.split()])
    bench.main()
    table = capsys.readouterr().out
    assert "| barbara | " in table
    assert "| hill | " in table
    assert "| boat | " not in table


def test_plug_and_play_is_compared_with_the_network(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[dict[str, Any]] = []

    def watched(image: Any, mask: Any, **options: Any) -> Any:
        calls.append(options)
        return dipfast.Result(image, {}, StopReason.RULE, 1, {}, {})

    monkeypatch.setattr(dipfast, "inpaint", watched)
    options = f"inpaint --data {data} --size 40 --limit 1 --speeds balanced fast"
    monkeypatch.setattr(sys, "argv", ["bench", *options.split()])
    bench.main()
    assert calls == [
        {"method": "pnp", "quality": "balanced"},
        {"method": "pnp", "quality": "fast"},
        {},
        {"method": "two_stage"},
    ]
    assert "pnp, fast minus network: 0.00, asked at least 0: met" in capsys.readouterr().out


def test_luma_alone_counts_where_it_is_told(data: Path) -> None:
    from benches.quality.paper.pictures import Picture

    clean = rng().integers(20, 230, (20, 20, 3)).astype(np.uint8)
    border = clean.copy()
    border[:4] = 0
    case = bench.Restored("", border, clean, picture=Picture("", "inpaint", border), measure="y")
    assert case.psnr(border) == math.inf
    assert case.psnr((clean + 2).astype(np.uint8)) == pytest.approx(
        20 * math.log10(255 / (2 * 219 / 255)), rel=1e-3
    )


def test_memory_of_a_large_picture_is_in_copies_of_it() -> None:
    pytest.importorskip("resource")
    seconds, copies = bench.large("fast", (40, 600, 3))
    assert seconds > 0
    assert copies >= 0


def test_a_folder_without_pictures_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "polyu", "--data", str(tmp_path)])
    with pytest.raises(SystemExit, match="--data"):
        bench.main()
