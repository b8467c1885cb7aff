"""The command line with stacks: restored plane by plane, and written as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from dipfast.apps.cli import main

FAST = ["--quality", "fast"]
TIMES, DEPTHS, CHANNELS = 2, 3, 2


def clean_stack() -> np.ndarray:
    """A hyperstack (T, Z, C, Y, X) of blobs that move."""
    y, x = np.mgrid[:32, :28]
    stack = np.empty((TIMES, DEPTHS, CHANNELS, 32, 28))
    for time, depth, channel in np.ndindex(TIMES, DEPTHS, CHANNELS):
        there = 900 * np.exp(-((y - 12 - 3 * time) ** 2 + (x - 9 - 4 * channel) ** 2) / 50)
        stack[time, depth, channel] = 800 + 250 * depth + there + 150 * np.sin(x / 4 + channel)
    return stack


@pytest.fixture
def noisy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The working folder with stacks of several kinds, and what is in them."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).normal(0, 60, clean_stack().shape)
    stack = (clean_stack() + noise).astype(np.uint16)
    hyperstack(stack, "ij.tif")
    hyperstack(clean_stack().astype(np.uint16), "clean.tif")
    names: Any = {"axes": "CZYX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1}
    names |= {"PhysicalSizeZ": 0.5, "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite("o.tif", stack[0].swapaxes(0, 1), ome=True, metadata=names)
    tifffile.imwrite("plain.tif", stack[0, :, 0], photometric="minisblack", metadata=None)
    return stack


def hyperstack(pixels: np.ndarray, path: str) -> None:
    said: Any = {"axes": "TZCYX", "unit": "um", "spacing": 0.5, "finterval": 0.1}
    said |= {"Ranges": (0.0, 100.0, 5.0, 200.0), "Labels": list("abcdefghijkl")}
    tifffile.imwrite(path, pixels, imagej=True, byteorder=">", resolution=(10, 10), metadata=said)


def same_form(first: str, second: str, factor: int = 1) -> None:
    """Assert that axes, metadata and types of two files are the same."""
    with tifffile.TiffFile(first) as before, tifffile.TiffFile(second) as after:
        shape = before.series[0].shape
        grown = (*shape[:-2], factor * shape[-2], factor * shape[-1])
        assert (after.series[0].axes, after.series[0].shape) == (before.series[0].axes, grown)
        assert after.series[0].dtype == before.series[0].dtype
        assert (after.byteorder, len(after.pages)) == (before.byteorder, len(before.pages))
        assert str(after.imagej_metadata) == str(before.imagej_metadata)
        if before.is_ome:
            told = [tifffile.xml2dict(f.ome_metadata)["OME"]["Image"] for f in (before, after)]
            names = [[channel["Name"] for channel in t["Pixels"]["Channel"]] for t in told]
            assert names[0] == names[1] == ["DAPI", "GFP"]
            assert told[1]["Pixels"]["PhysicalSizeZ"] == 0.5
            assert told[1]["Pixels"]["PhysicalSizeX"] == 0.1 / factor


@pytest.mark.parametrize("name", ["ij.tif", "o.tif", "plain.tif"])
def test_denoise(noisy: np.ndarray, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["denoise", name, "out.tif", *FAST]) == 0
    same_form(name, "out.tif")
    out, err = capsys.readouterr()
    assert "(estimated for the whole stack)" in out
    planes = {"ij.tif": "2 x 3 planes (TZ)", "o.tif": "3 planes (Z)", "plain.tif": "3 planes"}
    assert f"stack of {planes[name]}" in out
    assert f"{name}: stack of {planes[name]}" in err
    # One bar for all planes.
    assert err.count("100%") >= 1
    last = planes[name].count("2") * 3 + 3
    assert f"plane {last} of {last}" in err
    before, after = tifffile.imread(name).astype(float), tifffile.imread("out.tif").astype(float)
    assert np.std(after - before) > 30


def test_reference(noisy: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["ij.tif", "out.tif", "--reference", "clean.tif", "--json", "--quiet"]
    assert main(["denoise", *arguments, *FAST]) == 0
    report = json.loads(capsys.readouterr().out)
    clean, result = clean_stack().astype(np.uint16), tifffile.imread("out.tif")
    mean = np.mean((result.astype(float) - clean) ** 2)
    psnr = 10 * np.log10(float(clean.max() - clean.min()) ** 2 / mean)
    assert report["metrics"]["psnr"] == pytest.approx(psnr, abs=0.01)
    assert report["metrics"]["psnr"] > report["metrics"]["psnr_input"] + 5
    assert report["settings"]["stack_axis"] == [0, 1]
    assert len(report["found"]["sigma"]) == TIMES * DEPTHS


def test_records_are_used_again(noisy: np.ndarray) -> None:
    assert main(["denoise", "plain.tif", "first.tif", "--quiet", *FAST]) == 0
    assert main(["denoise", "ij.tif", "second.tif", "--quiet", "--settings", "first.tif.json"]) == 0
    same_form("ij.tif", "second.tif")


class TestInpaint:
    mask = np.zeros((32, 28), np.uint8)
    mask[8:11, 5:15] = 255

    def test_one_mask_for_all(self, noisy: np.ndarray) -> None:
        tifffile.imwrite("mask.tif", self.mask)
        arguments = ["ij.tif", "out.tif", "--mask", "mask.tif", "--quiet"]
        assert main(["inpaint", *arguments, *FAST]) == 0
        same_form("ij.tif", "out.tif")
        result, known = tifffile.imread("out.tif"), self.mask == 0
        np.testing.assert_array_equal(result[..., known], noisy[..., known])
        assert (result[..., ~known] != noisy[..., ~known]).mean() > 0.5

    def test_a_mask_for_each_plane(self, noisy: np.ndarray) -> None:
        masks = np.stack([np.roll(self.mask, 4 * k, axis=0) for k in range(6)])
        masks = masks.reshape(TIMES, DEPTHS, 32, 28)
        tifffile.imwrite("mask.tif", masks, imagej=True, metadata={"axes": "TZYX"})
        arguments = ["ij.tif", "out.tif", "--mask", "mask.tif", "--quiet"]
        assert main(["inpaint", *arguments, *FAST]) == 0
        result = tifffile.imread("out.tif")
        known = np.broadcast_to(masks[:, :, None] == 0, noisy.shape)
        np.testing.assert_array_equal(result[known], noisy[known])
        assert (result[~known] != noisy[~known]).mean() > 0.5

    def test_channels_in_front(self, noisy: np.ndarray) -> None:
        masks = np.stack([np.roll(self.mask, 4 * k, axis=0) for k in range(DEPTHS)])
        tifffile.imwrite("mask.tif", masks, photometric="minisblack", metadata=None)
        arguments = ["o.tif", "out.tif", "--mask", "mask.tif", "--quiet"]
        assert main(["inpaint", *arguments, *FAST]) == 0
        result, before = tifffile.imread("out.tif"), tifffile.imread("o.tif")
        known = np.broadcast_to(masks == 0, before.shape)
        np.testing.assert_array_equal(result[known], before[known])


def test_superres(noisy: np.ndarray) -> None:
    arguments = ["o.tif", "out.tif", "--factor", "2", "--quiet"]
    assert main(["superres", *arguments, *FAST]) == 0
    same_form("o.tif", "out.tif", 2)


def test_restore(noisy: np.ndarray) -> None:
    arguments = ["plain.tif", "out.tif", "--blur", "gaussian:0.8", "--method", "pnp", "--quiet"]
    assert main(["restore", *arguments, *FAST]) == 0
    same_form("plain.tif", "out.tif")


def test_folder(noisy: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("ij.tif", "plain.tif"):
        Path(name).rename(tmp_path / "in" / name)
    assert main(["denoise", "in", "out", "--quiet", *FAST]) == 0
    same_form("in/ij.tif", "out/ij.tif")
    same_form("in/plain.tif", "out/plain.tif")


def test_numpy_says_what_was_assumed(noisy: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("in.npy", noisy[:, 0, 0].repeat(3, axis=0))
    assert main(["denoise", "in.npy", "out.npy", *FAST]) == 0
    assert "(6, 32, 28): the first axis is taken for a stack" in capsys.readouterr().err
    assert np.load("out.npy").shape == (6, 32, 28)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["denoise", "plain.tif", "x.png"], "PNG cannot hold stacks of images"),
        (["denoise", "plain.tif", "x.tif", "--report", "x.html"], "--report is for a single"),
        (["denoise", "plain.tif", "x.tif", "--curves", "x.png"], "--curves is for a single"),
        (["denoise", "plain.tif", "x.tif", "--strip", "x.png"], "--strip is for a single"),
        (
            ["denoise", "plain.tif", "x.tif", "--reference", "clean.tif"],
            "clean.tif holds 2 x 3 planes (TZ), expected 3 planes, as plain.tif",
        ),
        (
            ["denoise", "plain.tif", "x.tif", "--reference", "one.tif"],
            "one.tif holds one image, expected 3 planes",
        ),
        (["inpaint", "one.tif", "x.tif", "--mask", "plain.tif"], "expected one image, as one.tif"),
        (["restore", "one.tif", "x.tif", "--blur", "plain.tif"], "expected one image"),
        (["info", "plain.tif", "--plot", "x.png"], "--plot draws one image"),
    ],
)
def test_refusals(
    noisy: np.ndarray,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    reason: str,
) -> None:
    tifffile.imwrite("one.tif", noisy[0, 0, 0])
    before = sorted(Path().iterdir())
    assert main(arguments) == 2
    assert reason in capsys.readouterr().err
    assert sorted(Path().iterdir()) == before


def test_info(noisy: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "ij.tif"]) == 0
    told = capsys.readouterr().out
    assert "28 x 32 pixels, stack of 2 x 3 planes (TZ), 2 channels" in told
    assert "pixels of 0.1 x 0.1 µm" in told
    assert "estimated from 6 planes together" in told
    assert main(["info", "ij.tif", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["stack_axes"], report["stack_names"]) == ([0, 1], "TZ")
    assert report["noise"]["planes"] == list(range(6))
    assert report["noise"]["sigma"] == pytest.approx(60, rel=0.2)
