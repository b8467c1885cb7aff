"""The benchmark of the papers' tables computes metrics as the papers do, and repeats no run."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benches.quality.paper import __main__ as bench
from benches.quality.paper import pictures, runs
from PIL import Image

import dipfast
from dipfast.images.files import read_image, write_image


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Make a folder like that of the published pictures, with a crop of one picture."""
    from skimage.data import astronaut

    clean = astronaut()[:48, 200:240]
    folder = tmp_path / "data"
    for sub in ("denoise25", "inpaint50", "set5_x4", "dip_repo"):
        (folder / sub).mkdir(parents=True)
    noisy = pictures.with_noise(pictures.Picture("F16", "", clean, clean), 25)
    for kind, pixels in (("GT", clean), ("noisy", noisy), ("bm3d", clean), ("deep_prior", clean)):
        write_image(folder / f"denoise25/F16_{kind}.png", pixels)
    grey = clean[..., 0]
    masked = np.where(np.random.default_rng(0).random(grey.shape) < 0.5, 0, grey)
    for kind, pixels in (("GT", grey), ("masked", masked), ("deep_prior", grey)):
        write_image(folder / f"inpaint50/boat_{kind}.png", pixels)
    write_image(folder / "set5_x4/bird_GT.png", clean)
    write_image(folder / "dip_repo/library.png", clean)
    write_image(folder / "dip_repo/library_mask.png", np.where(masked > 0, 255, 0).astype("uint8"))
    return folder


def make(monkeypatch: pytest.MonkeyPatch, data: Path, *arguments: str) -> None:
    out = str(data.parent / "out")
    options = ["--data", str(data), "--out", out, "--iterations", "3", "--size", "32"]
    monkeypatch.setattr(sys, "argv", ["paper", *arguments, *options])
    bench.main()


def test_tables(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(monkeypatch, data, "denoise", "--only", "F16", "--variants", "two stages")
    out = data.parent / "out"
    (row,) = (json.loads(line) for line in (out / "denoise.jsonl").read_text().splitlines())
    assert (row["picture"], row["variant"], row["iterations"]) == ("F16", "two stages", 3)
    assert row["settings"]["task"] == "denoise"
    # The PSNR in the table is that of the saved pictures.
    result, clean = (read_image(out / row["files"][kind]).image for kind in ("result", "clean"))
    assert row["psnr"] == pytest.approx(dipfast.ops.psnr(result, clean), rel=1e-6)
    text = (out / "denoise.md").read_text()
    assert text in capsys.readouterr().out
    assert f"| F16 | {row['psnr_before']:.2f} | inf | inf | {row['psnr']:.2f} |" in text

    def no_work(*_: object, **__: object) -> None:
        raise AssertionError("work was started")

    monkeypatch.setattr(bench, "run", no_work)
    make(monkeypatch, data, "denoise", "--only", "F16", "--variants", "two stages")
    # Another table that contains the same run does not repeat it.
    make(monkeypatch, data, "curve", "--only", "F16", "--variants", "two stages")
    assert (out / "curve.png").exists()
    with pytest.raises(AssertionError, match="work was started"):
        make(monkeypatch, data, "denoise", "--only", "F16", "--variants", "plain DIP")


def test_a_table_has_the_runs_of_its_seeds_and_device(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = "denoise", "--only", "F16", "--variants", "two stages"
    make(monkeypatch, data, *arguments, "--device", "cpu")
    path = data.parent / "out/denoise.jsonl"
    row = json.loads(path.read_text())
    others = [{**row, "seed": 1, "psnr": 1.25}, {**row, "device": "auto", "psnr": 2.25}]
    path.write_text("".join(json.dumps(line) + "\n" for line in (row, *others)))
    for asked, psnr in (
        (("--device", "cpu"), row["psnr"]),
        (("--device", "cpu", "--seeds", "1"), 1.25),
        (("--device", "cpu", "--seeds", "0", "1"), (row["psnr"] + 1.25) / 2),
        ((), 2.25),
    ):
        capsys.readouterr()
        make(monkeypatch, data, *arguments, *asked)
        assert f"| inf | inf | {psnr:.2f} |" in capsys.readouterr().out
    make(monkeypatch, data, *arguments, "--device", "cpu", "--seeds", "0")
    assert len(path.read_text().splitlines()) == 3  # nothing was run again


def test_other_tasks(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(monkeypatch, data, "stage1", "--only", "boat", "--variants", "plain DIP")
    make(monkeypatch, data, "sr4", "--only", "bird", "--variants", "two stages")
    make(monkeypatch, data, "hole", "--variants", "dipfast")
    out = data.parent / "out"
    for table in ("stage1", "sr4", "hole"):
        assert len((out / f"{table}.jsonl").read_text().splitlines()) == 1
    assert (out / "hole-library.png").exists()
    row = json.loads((out / "sr4.jsonl").read_text())
    assert row["settings"]["factor"] == 4
    assert read_image(out / row["files"]["degraded"]).image.shape == (8, 8, 3)


def test_luma_is_that_of_pillow() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 20, 20, 3), dtype=np.uint8)
    ycc = [np.asarray(Image.fromarray(x).convert("YCbCr"))[4:-4, 4:-4, 0] for x in (a, b)]
    # Pillow's luma has the full range, 0 to 255, and is rounded.
    full = 10 * np.log10(255**2 / np.mean((ycc[0].astype(float) - ycc[1]) ** 2))
    studio = runs.measured(a, b, "y")
    assert studio == pytest.approx(full + 20 * np.log10(255 / 219), abs=0.05)


def test_noise_is_the_same_each_time() -> None:
    clean = np.full((64, 64), 128, np.uint8)
    picture = pictures.Picture("x", "", clean, clean)
    noisy = pictures.with_noise(picture, 25)
    assert (noisy == pictures.with_noise(picture, 25)).all()
    assert noisy.std() == pytest.approx(25, rel=0.05)


def test_spikes_are_found(tmp_path: Path) -> None:
    watch = runs._Watch(tmp_path / "run")
    import torch

    class State:
        def __init__(self, iteration: int, loss: float) -> None:
            self.iteration = iteration
            self.image = torch.rand(1, 3, 8, 8)
            self.terms = type("Terms", (), {"data": loss})
            self.metrics = {"psnr": 30.0 if loss < 2 else 20.0}

    for iteration in range(1, 200):
        watch(State(iteration, 5.0 if iteration in (100, 101, 150) else 1.0))
    found = watch.findings()
    assert found["spikes"] == 2
    assert [spike["iteration"] for spike in found["spike_list"]] == [100, 150]
    assert found["psnr_lost"] == pytest.approx(10)
    assert len(list(tmp_path.glob("run-spike-*.png"))) == 2


def test_spikes_that_were_undone_count(
    data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    denoise = dipfast.denoise

    def with_undone(*arguments: Any, **options: Any) -> dipfast.Result:
        return replace(denoise(*arguments, **options), spikes=2, failures=1)

    monkeypatch.setattr(dipfast, "denoise", with_undone)
    source = pictures.Source(data, 32, ("F16",))
    (picture,) = source.denoise()
    row = runs.run(picture, {"max_iterations": 3}, "rgb", tmp_path / "run")
    assert (row["spikes"], row["spikes_undone"], row["spike_list"]) == (3, 3, [])
