"""The benchmark of joined estimates measures what it says."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from benches.quality import joined as bench
from benches.quality.nl_ridge import Case

from dipfast.images.files import write_image


@pytest.fixture
def case() -> Case:
    clean = skimage.data.astronaut()[20:68, 180:228]
    noise = np.random.default_rng(0).normal(0, 25, clean.shape)
    noisy = (clean + noise).round().clip(0, 255).astype(np.uint8)
    return Case("astronaut", noisy, clean, published={"CBM3D": noisy})


def test_a_row_holds_what_the_clean_picture_tells(case: Case) -> None:
    row = bench.measure(case, "balanced", peers=True)
    assert row["input"] == row["CBM3D"] == pytest.approx(20.2, abs=0.3)
    for peer in ("TV", "NLM"):
        assert row["input"] + 3 < row[peer] < row["nl_ridge"]
        assert row["SSIM, CBM3D"] < row[f"SSIM, {peer}"] < row["SSIM"]
    assert row["joined there"] >= max(row["nl_ridge"], row["fits"]) - 0.02
    assert row["joined"] <= row["joined there"] + 0.02
    assert 0 <= row["weight"] <= 1
    assert row["weight"] == pytest.approx(row["best weight"], abs=0.4)
    assert 0 < row["SSIM"] < 1
    assert row["seconds"] > 0


def test_what_a_stop_loses(case: Case) -> None:
    row = bench.measure_stop(case, "balanced")
    assert row["gap"] == pytest.approx(row["oracle"] - row["returned"])
    assert row["gap"] >= 0
    assert 1 <= row["at"] <= 20


def test_a_table_says_what_was_asked_of_it(case: Case) -> None:
    row = bench.measure(case, "balanced") | {"expected": 20.0, "joined": 30.0, "CBM3D": 29.0}
    page = bench.table({"one": row, "other": row | {"joined": 31.0}})
    assert "| mean | " in page
    assert "MISSED" in page
    assert "- mean, joined minus CBM3D: +1.50" in page
    gaps = bench.table({"one": {"gap": 0.01}, "other": {"gap": 0.2}})
    assert "worst gap: 0.20, asked at most 0.1: MISSED" in gaps
    assert "mean gap: 0.1" in gaps


def test_the_sets_of_a_folder(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "denoise25"
    folder.mkdir()
    for kind, image in (("GT", case.clean), ("noisy", case.noisy)):
        write_image(folder / f"F16_{kind}.png", image)
    for kind in ("bm3d", "deep_prior"):
        write_image(folder / f"F16_{kind}.png", case.clean)
    arguments = ["joined", "nine", "levels", "--data", str(tmp_path), "--limit", "1"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--size", "32"])
    bench.main()
    output = capsys.readouterr().out
    assert "## nine, balanced" in output
    assert "| F16 10 | " in output
    monkeypatch.setattr(sys, "argv", [*arguments, "--only", "nobody"])
    with pytest.raises(SystemExit, match="no pictures"):
        bench.main()
