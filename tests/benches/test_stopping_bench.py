"""The benchmark of stop rules, where each has a fit of its own."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from benches.quality import stopping as bench

from dipfast.images.files import write_image
from dipfast.networks import HourglassConfig
from dipfast.settings.presets import PRESETS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    clean = skimage.data.astronaut()[20:68, 180:228]
    noise = np.random.default_rng(0).normal(0, 25, clean.shape)
    noisy = (clean + noise).round().clip(0, 255).astype(np.uint8)
    (tmp_path / "denoise25").mkdir()
    kinds = {"GT": clean, "noisy": noisy, "bm3d": clean, "deep_prior": clean}
    for kind, image in kinds.items():
        write_image(tmp_path / f"denoise25/F16_{kind}.png", image)
    return tmp_path


def test_each_rule_has_a_fit_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "out"
    arguments = ["stopping", "noisy", "--data", str(folder), "--out", str(out), "--size", "24"]
    arguments += [
        "--only",
        "F16",
        "--quality",
        "fast",
        "--alone",
        "--rules",
        "discrepancy",
        "bootstrap",
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    # Long enough for a rule to end a fit, of a network that is small.
    network = HourglassConfig((8, 16), (8, 16), (4, 4))
    small = replace(PRESETS["denoise-fast"], iterations=150, network=network)
    monkeypatch.setitem(PRESETS, "denoise-fast", small)
    bench.main()
    rows = [json.loads(line) for line in (out / "stopping.jsonl").read_text().splitlines()]
    assert [row["rule"] for row in rows] == ["discrepancy", "bootstrap"]
    for row in rows:
        assert row["before"] < row["psnr"] <= row["oracle"]
        assert row["used"] <= 150
    assert rows[0]["oracle"] != rows[1]["oracle"]
    page = capsys.readouterr().out
    assert "| picture | before | discrepancy | bootstrap |" in page
    assert "| **noisy: mean** | | **" in page
    bench.main()  # nothing is run again
    assert len((out / "stopping.jsonl").read_text().splitlines()) == 2
    assert capsys.readouterr().out.splitlines()[0].startswith("| picture")
