"""The command line: files in, files out, and refusals before any work."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import dipfast
from dipfast import ops
from dipfast.apps.cli import main, work
from dipfast.apps.cli.earlier import options_with_record
from dipfast.apps.cli.options import OwnOptions, Request
from dipfast.images.files import read_image, safe, write_image
from dipfast.run import record
from dipfast.settings.noise import NoiseParameters

FEW = ["--max-iterations", "4", "--quality", "fast"]


@pytest.fixture
def noisy() -> np.ndarray:
    return np.random.default_rng(0).normal(128, 25, (24, 24)).clip(0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path, noisy: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a noisy picture in it."""
    write_image(tmp_path / "in.png", noisy)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a fit would begin."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("work was started")

    monkeypatch.setattr(dipfast, "denoise", refuse)


def untimed(report: dict[str, Any]) -> dict[str, Any]:
    """A report as JSON has it, without what differs from one run to the next."""
    report = json.loads(json.dumps(report))
    del report["seconds"]
    return report


def denoise(*arguments: str) -> int:
    return main(["denoise", *FEW, *arguments])


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said about wrong arguments; nothing may be written."""
    before = {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    assert denoise(*arguments) == 2
    after = {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    assert after == before
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dipfast: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


class TestDenoise:
    def test_result_and_report(
        self, folder: Path, noisy: np.ndarray, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert denoise("in.png", "out.png", "--seed", "3", "--sigma", "25") == 0
        out = read_image(folder / "out.png")
        expected = dipfast.denoise(noisy, seed=3, sigma=25, max_iterations=4, quality="fast")
        assert np.array_equal(out.image, expected.image)
        report = json.loads((folder / "out.png.json").read_text())
        assert untimed(report) == untimed(expected.report())
        first, second, *rest = capsys.readouterr().out.splitlines()
        assert first == "out.png: all iterations done, best of 4 iterations: 4"
        assert second.startswith("range 0 to 255 (uint8); noise 25")
        assert rest == []

    def test_progress_is_on_stderr_unless_quiet(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        denoise("in.png", "out.png", "--reference", "in.png")
        shown = capsys.readouterr().err
        assert "4/4" in shown
        assert "stage 'details'" in shown
        assert re.search(r"loss=\d\.\d\de-\d\d, PSNR=\d", shown)
        assert re.search(r"\[\d\d:\d\d<\d\d:\d\d", shown)  # elapsed and left
        denoise("in.png", "again.png", "--quiet")
        assert capsys.readouterr().err == ""

    def test_json(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        # Compared with itself, the input has an infinite PSNR, which JSON does not know.
        assert denoise("in.png", "out.png", "--reference", "in.png", "--json") == 0
        text = capsys.readouterr().out
        report = json.loads(text, parse_constant=lambda literal: pytest.fail(literal))
        assert report["metrics"]["psnr_input"] is None
        assert report["best_iteration"] == 4
        assert report == json.loads((folder / "out.png.json").read_text())

    def test_reference(
        self, folder: Path, noisy: np.ndarray, capsys: pytest.CaptureFixture[str]
    ) -> None:
        clean = np.full_like(noisy, 128)
        write_image("clean.png", clean)
        assert denoise("in.png", "out.png", "--reference", "clean.png") == 0
        printed = re.search(r"PSNR (\S+) -> (\S+) dB", capsys.readouterr().out)
        assert printed is not None
        assert printed[1] == f"{ops.psnr(noisy, clean):.2f}"
        assert printed[2] == f"{ops.psnr(read_image('out.png').image, clean):.2f}"

    @pytest.mark.parametrize("options", [[], ["--log-x", "--reference", "in.png"]])
    def test_curves(self, folder: Path, options: list[str]) -> None:
        assert denoise("in.png", "out.png", "--curves", "curves.png", *options) == 0
        with Image.open("curves.png") as curves:
            assert min(curves.size) > 100
            assert np.array(curves.convert("L")).std() > 0
            # With a reference there is a second panel.
            assert (curves.width > 2 * curves.height) == bool(options)

    def test_force(self, folder: Path) -> None:
        for name in ("out.png", "out.png.json", "curves.png"):
            Path(name).write_text("old")
        assert denoise("in.png", "out.png", "--curves", "curves.png", "--force") == 0
        assert read_image("out.png").image.shape == (24, 24)
        assert json.loads(Path("out.png.json").read_text())["best_iteration"] == 4
        assert read_image("curves.png").image.size > 0

    def test_over_its_own_input(self, folder: Path, noisy: np.ndarray) -> None:
        assert denoise("in.png", "in.png", "--force") == 0
        assert not np.array_equal(read_image("in.png").image, noisy)

    def test_data_range(
        self, folder: Path, noisy: np.ndarray, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_image("dark.png", noisy.astype(np.uint16) * 16)
        for limits in (
            ["--data-range", "4095"],
            ["--data-range", "0,4095"],
            ["--data-range", "-500,4095"],
            ["--data-range=-500,4095"],
            ["--data-range", "-5e2,4.095e3"],
        ):
            assert denoise("dark.png", "out.png", "--force", *limits) == 0
            out = read_image("out.png").image
            assert out.dtype == np.uint16
            assert 255 < out.max() <= 4095
            report = json.loads(Path("out.png.json").read_text())
            low = -500 if "-5" in limits[-1] else 0
            assert report["found"]["data_range"] == [low, 4095]
            assert f"range {low} to 4095 (given)" in capsys.readouterr().out


class TestFormats:
    def test_16_bit_png(self, folder: Path, noisy: np.ndarray) -> None:
        image = np.dstack([noisy, noisy.T, noisy[::-1]]).astype(np.uint16) * 257
        write_image("in16.png", image)
        assert denoise("in16.png", "out.png") == 0
        out = read_image("out.png").image
        assert out.dtype == np.uint16
        assert out.shape == image.shape
        assert out.max() > 255

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_float_tiff(self, folder: Path, noisy: np.ndarray, dtype: str) -> None:
        tifffile.imwrite("in.tif", (noisy / 255).astype(dtype))
        assert denoise("in.tif", "out.tif") == 0
        out = tifffile.imread("out.tif")
        assert out.dtype == dtype
        assert out.shape == noisy.shape
        assert 0 < out.std() < 1

    def test_channels_of_a_microscope(self, folder: Path, noisy: np.ndarray) -> None:
        planes = np.stack([noisy, noisy.T, noisy[::-1], noisy[:, ::-1], noisy // 2])
        tifffile.imwrite("in.tif", planes, imagej=True, metadata={"axes": "CYX"})
        assert denoise("in.tif", "out.tif") == 0
        with tifffile.TiffFile("out.tif") as tiff:
            assert tiff.series[0].axes == "CYX"
            assert tiff.series[0].shape == planes.shape
            assert tiff.series[0].dtype == np.uint8

    @pytest.mark.parametrize("colours", [1, 3])
    def test_alpha_is_passed_through(self, folder: Path, noisy: np.ndarray, colours: int) -> None:
        alpha = np.arange(24 * 24, dtype=np.uint16).reshape(24, 24).astype(np.uint8)
        write_image("alpha.png", np.dstack([noisy] * colours + [alpha]))
        assert denoise("alpha.png", "out.png") == 0
        with Image.open("out.png") as image:
            assert image.mode == ("LA" if colours == 1 else "RGBA")
            pixels = np.array(image)
        assert np.array_equal(pixels[..., -1], alpha)
        assert not np.array_equal(pixels[..., 0], noisy)


@pytest.mark.usefixtures("folder", "no_work")
class TestRefusals:
    @pytest.mark.parametrize("name", ["out.png", "out.png.json", "curves.png"])
    def test_existing_files(self, capsys: pytest.CaptureFixture[str], name: str) -> None:
        Path(name).write_text("old")
        message = refused(capsys, "in.png", "out.png", "--curves", "curves.png")
        assert message == f"dipfast: error: {name} exists already; --force replaces it\n"

    def test_missing_input(self, capsys: pytest.CaptureFixture[str]) -> None:
        message = refused(capsys, "nothing.png", "out.png")
        assert message == (
            "dipfast: error: nothing.png: No such file or directory; "
            f"relative names begin in {Path.cwd()}\n"
        )
        message = refused(capsys, "in.pgn", "out.png")
        assert message.endswith("No such file or directory; did you mean in.png?\n")
        message = refused(capsys, "nowhere/in.png", "out.png")
        assert message.endswith("No such file or directory; there is no folder nowhere\n")

    def test_folders(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("photos").mkdir()
        message = refused(capsys, "photos", "out.png")
        assert message == "dipfast: error: photos: Is a directory; name a picture in it\n"
        message = refused(capsys, "in.png", "photos")
        named = Path("photos") / "in.png"
        assert message == (
            f"dipfast: error: photos is a folder; name a file in it, such as {named}\n"
        )

    def test_output_in_the_place_of_an_input(self, capsys: pytest.CaptureFixture[str]) -> None:
        write_image("clean.png", read_image("in.png").image)
        for name in ("in.png", "./in.png"):
            message = refused(capsys, "in.png", name)
            assert f"{name} is IN itself; name another OUT, or --force replaces it" in message
        message = refused(capsys, "in.png", "clean.png", "--reference", "clean.png", "--force")
        assert "OUT would overwrite clean.png; choose another name" in message

    def test_missing_reference(self, capsys: pytest.CaptureFixture[str]) -> None:
        message = refused(capsys, "in.png", "out.png", "--reference", "nothing.png")
        assert "nothing.png: No such file or directory" in message

    def test_text_named_png(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("text.png").write_text("not a picture")
        message = refused(capsys, "text.png", "out.png")
        assert "cannot read text.png: it is not a PNG, JPEG, TIFF, NumPy, FITS, " in message

    def test_truncated_reference(self, capsys: pytest.CaptureFixture[str]) -> None:
        whole = Path("in.png").read_bytes()
        Path("half.png").write_bytes(whole[: len(whole) // 2])
        message = refused(capsys, "in.png", "out.png", "--reference", "half.png")
        assert "cannot read half.png: " in message

    def test_unwritable_folder(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("unwritable").mkdir()
        if os.name == "posix" and os.geteuid() != 0:
            Path("unwritable").chmod(0o555)
        else:  # permissions do not hold root back

            def refuse(into: Path) -> None:
                assert into == Path("unwritable")
                raise PermissionError(errno.EACCES, "Permission denied")

            monkeypatch.setattr(safe, "_make_a_file", refuse)
        message = refused(capsys, "in.png", "unwritable/out.png")
        assert "cannot write into the folder unwritable: Permission denied" in message

    def test_missing_folder(self, capsys: pytest.CaptureFixture[str]) -> None:
        message = refused(capsys, "in.png", "nowhere/out.png")
        assert "the folder nowhere does not exist; make it first" in message

    @pytest.mark.parametrize("name", ["out", "out.gif"])
    def test_unknown_format(self, capsys: pytest.CaptureFixture[str], name: str) -> None:
        assert f"cannot tell the format of {name}" in refused(capsys, "in.png", name)

    def test_floats_into_png(self, capsys: pytest.CaptureFixture[str], noisy: np.ndarray) -> None:
        tifffile.imwrite("in.tif", noisy / np.float32(255))
        message = refused(capsys, "in.tif", "out.png")
        assert "PNG cannot hold float32 without loss, out.png must be named .tif" in message

    def test_transparency_into_jpeg(
        self, capsys: pytest.CaptureFixture[str], noisy: np.ndarray
    ) -> None:
        write_image("alpha.png", np.dstack([noisy, noisy]))
        message = refused(capsys, "alpha.png", "out.jpg")
        assert "JPEG cannot hold transparency" in message

    def test_many_channels_into_png(
        self, capsys: pytest.CaptureFixture[str], noisy: np.ndarray
    ) -> None:
        write_image("in.tif", np.stack([noisy] * 4), channel_axis=0)
        message = refused(capsys, "in.tif", "out.png")
        assert "PNG cannot hold 4 channels, out.png must be named .tif" in message

    def test_curves_over_another_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        message = refused(capsys, "in.png", "out.png", "--curves", "./out.png")
        assert "--curves would overwrite out.png" in message
        message = refused(capsys, "in.png", "out.png", "--curves", "in.png", "--force")
        assert "--curves would overwrite in.png" in message

    @pytest.mark.parametrize("option", ["--curves", "--strip"])
    @pytest.mark.parametrize("name", ["c.bmp", "c.npy", "c.fits", "c.pgf", "c.txt"])
    def test_formats_of_pictures_that_no_figure_has(
        self, capsys: pytest.CaptureFixture[str], option: str, name: str
    ) -> None:
        message = refused(capsys, "in.png", "out.png", option, name)
        assert "figures are written as " in message
        assert f"got {name}" in message

    def test_curves_without_matplotlib(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        message = refused(capsys, "in.png", "out.png", "--curves", "curves.png")
        assert "drawing needs matplotlib: pip install 'dipfast[plots]'" in message


@pytest.mark.usefixtures("folder")
class TestRefusalsOfTheTask:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--seed", "-3"], "--seed must be an integer from 0 to 2**63 - 1, got -3"),
            (["--time-limit", "0"], "--time-limit must be a positive number, got 0.0"),
            (["--sigma", "-1"], "--sigma must be 'auto' or a number from 0 up, got -1.0"),
            (["--data-range", "5,5"], "--data-range must be a positive number or a pair"),
            (["--resume"], "--resume needs a checkpoint to go on from"),
            (
                ["--method", "dip", "--tv-weight", "0.5"],
                "--tv-weight 0.5 has no meaning for --method dip",
            ),
            (
                ["--checkpoint", "nowhere/max_iterations"],
                "--checkpoint: the folder nowhere does not exist; make it first",
            ),
            (
                ["--reference", "small.png"],
                "--reference small.png has 5 x 4 pixels, expected 24 x 24, as in.png has",
            ),
            (
                ["--reference", "colour.png"],
                "--reference colour.png: in.png is grey and colour.png has channels",
            ),
        ],
    )
    def test_arguments(
        self, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
    ) -> None:
        write_image("small.png", np.zeros((4, 5), np.uint8))
        write_image("colour.png", np.zeros((24, 24, 3), np.uint8))
        assert message in refused(capsys, "in.png", "out.png", *arguments)

    @pytest.mark.parametrize("name", ["abacus", "cuda:99", "meta"])
    def test_devices(self, capsys: pytest.CaptureFixture[str], name: str) -> None:
        message = refused(capsys, "in.png", "out.png", "--device", name)
        assert f"--device {name} cannot be used; there" in message
        assert " cpu" in message
        assert len(message) < 150

    def test_without_devices_none_is_asked_for(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def as_in_torch_2_6() -> None:
            raise RuntimeError("Cannot access accelerator device when none is available.")

        monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", as_in_torch_2_6)
        message = refused(capsys, "in.png", "out.png", "--device", "abacus")
        assert message.endswith("cannot be used; there is only cpu\n")

    def test_devices_that_there_are(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        accelerator = torch.accelerator
        monkeypatch.setattr(accelerator, "is_available", lambda: True)
        monkeypatch.setattr(accelerator, "current_accelerator", lambda: torch.device("cuda"))
        monkeypatch.setattr(accelerator, "device_count", lambda: 2)
        message = refused(capsys, "in.png", "out.png", "--device", "abacus")
        assert message.endswith("cannot be used; there are cpu, cuda:0, cuda:1\n")

    def test_missing_pixels(self, capsys: pytest.CaptureFixture[str]) -> None:
        nan = np.full((24, 24), 0.5, np.float32)
        nan[3, 4] = np.nan
        tifffile.imwrite("nan.tif", nan)
        message = refused(capsys, "nan.tif", "out.tif")
        assert message.startswith("dipfast: error: nan.tif must be finite")
        assert "'dipfast inpaint IN OUT' fills missing pixels" in message


def run(command: str, *arguments: str) -> int:
    return main([command, *FEW, *arguments])


@pytest.mark.usefixtures("folder")
class TestInpaint:
    @pytest.fixture
    def hole(self) -> np.ndarray:
        hole = np.zeros((24, 24), dtype=bool)
        hole[4:9, :7] = True
        return hole

    def test_mask_from_a_picture(self, noisy: np.ndarray, hole: np.ndarray) -> None:
        write_image("mask.png", hole * np.uint8(255))
        write_image("colour.png", np.repeat(~hole[..., None] * np.uint8(255), 3, axis=-1))
        expected = dipfast.inpaint(noisy, hole, max_iterations=4, quality="fast").image
        assert run("inpaint", "in.png", "a.png", "--mask", "mask.png") == 0
        known = ("--mask", "colour.png", "--mask-marks", "known")
        assert run("inpaint", "in.png", "b.png", *known) == 0
        for name in ("a.png", "b.png"):
            assert np.array_equal(read_image(name).image, expected)
            assert np.array_equal(expected[~hole], noisy[~hole])
        assert run("inpaint", "in.png", "c.png", "--mask", "mask.png", "--no-keep-known") == 0
        assert not np.array_equal(read_image("c.png").image[~hole], noisy[~hole])

    def test_other_masks(self, noisy: np.ndarray, hole: np.ndarray) -> None:
        expected = dipfast.inpaint(noisy, hole, max_iterations=4, quality="fast").image
        write_image("transparent.png", np.dstack([noisy, np.where(hole, 0, 255).astype(np.uint8)]))
        assert run("inpaint", "transparent.png", "a.png", "--mask", "alpha") == 0
        assert read_image("a.png").alpha is None
        write_image("black.png", np.where(hole, 0, noisy).astype(np.uint8))
        assert run("inpaint", "black.png", "b.png", "--mask", "value:0") == 0
        for name in ("a.png", "b.png"):
            assert np.array_equal(read_image(name).image, expected)
        nan = np.where(hole, np.nan, noisy / np.float32(255)).astype(np.float32)
        tifffile.imwrite("nan.tif", nan)
        assert run("inpaint", "nan.tif", "c.tif") == 0
        restored = read_image("c.tif").image
        assert np.array_equal(restored[~hole], nan[~hole])
        assert np.isfinite(restored).all()

    def test_refusals(self, capsys: pytest.CaptureFixture[str]) -> None:
        write_image("small.png", np.ones((4, 5), np.uint8))
        write_image("black.png", np.zeros((24, 24), np.uint8))
        for mask, message in (
            ([], "--mask is needed: in.png has no NaN"),
            (["--mask", "alpha"], "--mask alpha: in.png has no transparency"),
            (["--mask", "value:999"], "--mask value:999: no pixel of in.png has that value"),
            (["--mask", "none.png"], "none.png: No such file or directory"),
            (["--mask", "small.png"], "--mask small.png has 5 x 4 pixels, expected 24 x 24"),
            (["--mask", "black.png"], "--mask says that nothing is missing; --mask-marks missing"),
            (["--mask", "in.png"], "--mask in.png is no mask: "),
            (["--mask-marks", "known"], "tells about the picture of a mask, and --mask names none"),
        ):
            assert run("inpaint", "in.png", "out.png", *mask) == 2
            assert message in capsys.readouterr().err
        assert not Path("out.png").exists()

    def test_warnings_are_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        mask = np.full((24, 24), 255, np.uint8)
        mask[0, :3] = 0
        write_image("mask.png", mask)
        assert run("inpaint", "in.png", "out.png", "--mask", "mask.png", "--quiet") == 0
        told = capsys.readouterr().err
        assert told == (
            "dipfast: warning: 99.5% of the pixels are missing: "
            "is --mask-marks missing the right way round?\n"
        )

    def test_what_was_taken_is_told(
        self, hole: np.ndarray, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_image("mask.png", hole * np.uint8(255))
        assert run("inpaint", "in.png", "out.png", "--mask", "mask.png") == 0
        told = capsys.readouterr()
        share = f"{hole.mean():.1%}"
        # Before the work, so that it can be ended in time, and with the result.
        begin = f"dipfast: {share} of the pixels of in.png are missing; mask: mask.png (values over"
        assert told.err.startswith(begin)
        summary = told.out.splitlines()[1]
        assert f"; {share} missing; " in summary
        assert summary.endswith("; mask: mask.png (values over 0)")


@pytest.mark.usefixtures("folder")
class TestSuperres:
    def test_factor_and_alpha(self, noisy: np.ndarray) -> None:
        alpha = np.full_like(noisy, 200)
        write_image("transparent.png", np.dstack([noisy, alpha]))
        assert run("superres", "transparent.png", "out.png", "--factor", "2") == 0
        out = read_image("out.png")
        assert out.image.shape == (48, 48)
        assert out.alpha is not None
        assert (out.alpha == 200).all()
        expected = dipfast.super_resolve(noisy, 2, max_iterations=4, quality="fast")
        assert np.array_equal(out.image, expected.image)


@pytest.mark.usefixtures("folder")
class TestRestore:
    @pytest.mark.parametrize("blur", ["gaussian:1.5", "box:3", "psf.png"])
    def test_blurs(self, noisy: np.ndarray, blur: str) -> None:
        spread = np.full((3, 3), 30, np.uint8)
        write_image("psf.png", spread)
        assert run("restore", "in.png", "out.png", "--blur", blur, "--boundary", "zero") == 0
        kernel = torch.full((3, 3), 1 / 9)
        if blur.startswith("gaussian"):
            kernel = dipfast.operators.gaussian_kernel(1.5)
        expected = dipfast.restore(
            noisy, dipfast.operators.Blur(kernel, "zero"), max_iterations=4, quality="fast"
        )
        assert np.abs(read_image("out.png").image.astype(int) - expected.image).max() <= 1

    @pytest.mark.parametrize(
        ("blur", "message"),
        [
            ("none.png", "none.png: No such file or directory"),
            ("motion:5", "no blur 'motion' and no file 'motion:5'; expected gaussian:SIGMA, box:"),
            ("black.png", "a point-spread function must not be negative or black"),
            ("box:48", "--blur box:48 is 48 pixels wide, too many for in.png, 24 x 24"),
            ("box:1000000000", "--blur box:1e+09 is 1e+09 pixels wide, too many for in.png"),
            ("gaussian:1e9", "--blur gaussian:1e+09 is 8e+09 pixels wide, too many for in.png"),
            ("wide.png", "--blur wide.png has 99 x 3 pixels, too many for in.png, 24 x 24"),
        ],
    )
    def test_refusals(self, capsys: pytest.CaptureFixture[str], blur: str, message: str) -> None:
        write_image("black.png", np.zeros((3, 3), np.uint8))
        write_image("wide.png", np.ones((3, 99), np.uint8))
        assert run("restore", "in.png", "out.png", "--blur", blur) == 2
        assert message in capsys.readouterr().err
        assert not Path("out.png").exists()

    def test_what_was_assumed_of_a_picture_beside_it_is_told(
        self, noisy: np.ndarray, capsys: pytest.CaptureFixture[str]
    ) -> None:
        np.save("psf.npy", np.ones((3, 5, 5), np.float32))
        np.save("clean.npy", np.stack([noisy] * 3))
        write_image("colours.png", np.dstack([noisy] * 3))
        beside = ("--blur", "psf.npy", "--reference", "clean.npy")
        assert run("restore", "colours.png", "out.png", *beside) == 0
        told = capsys.readouterr().out
        for name, shape in (("psf.npy", "(3, 5, 5)"), ("clean.npy", "(3, 24, 24)")):
            assumed = (
                f"{name}: shape {shape}: the first axis is taken for channels, not for a stack"
            )
            assert assumed in told


def test_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert main(["--help"]) == 0
    bare, _, asked = capsys.readouterr().out.partition("Usage: ")[2].partition("Usage: ")
    assert bare == asked
    assert "Exit codes: 0 done; 1 " in " ".join(bare.split())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dipfast {dipfast.__version__}\n"


class TestCheckpoints:
    def test_goes_on_from_where_time_was_over(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert denoise("in.png", "whole.png", "--max-iterations", "6") == 0
        kept = ["--max-iterations", "6", "--checkpoint", "run.state", "--checkpoint-every", "2"]
        capsys.readouterr()
        assert denoise("in.png", "out.png", *kept, "--time-limit", "1e-6") == 3
        told = capsys.readouterr()
        assert "1e-06 seconds have passed, best of 1 iterations: 1" in told.out
        assert "likely worse than the image itself; --resume goes on" in told.err
        assert denoise("in.png", "out.png", *kept) == 2
        assert "out.png exists already; --force replaces it" in capsys.readouterr().err
        assert denoise("in.png", "out.png", *kept, "--force") == 2
        error = capsys.readouterr().err
        assert "checkpoint run.state exists already: go on from it (--resume)" in error
        assert "--force replaces" not in error
        assert denoise("in.png", "out.png", *kept, "--resume", "--force") == 0
        assert (read_image("out.png").image == read_image("whole.png").image).all()
        assert {path.name for path in folder.iterdir()} == {
            *("in.png", "out.png", "out.png.json", "whole.png", "whole.png.json"),
            *("run.state", "run.state.previous"),
        }

    def test_a_checkpoint_of_another_image_is_refused(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        kept = ["--checkpoint", "run.state", "--resume", "--max-iterations", "2"]
        assert denoise("in.png", "out.png", *kept) == 0
        write_image("other.png", 255 - read_image("in.png").image)
        assert denoise("other.png", "out-2.png", *kept) == 2
        assert (
            "--checkpoint run.state is one of another run: other.png is" in capsys.readouterr().err
        )
        assert not Path("out-2.png").exists()

    @pytest.mark.parametrize("other", ["in.png", "out.png", "out.png.json"])
    def test_overwrites_nothing(
        self, folder: Path, capsys: pytest.CaptureFixture[str], other: str
    ) -> None:
        before = Path("in.png").read_bytes()
        assert denoise("in.png", "out.png", "--checkpoint", other, "--resume") == 2
        assert f"--checkpoint would overwrite {other}" in capsys.readouterr().err
        assert Path("in.png").read_bytes() == before


def signalled(
    arguments: list[str], *, when: bytes, number: signal.Signals
) -> tuple[int, bytes, bytes]:
    """Run a command in a process, which gets a signal once it said something.

    Returned are its exit status, and what it wrote to both streams.
    """
    # Children of a test run in the background inherit that SIGINT is ignored.  Where the machine is
    # busy, writing what there is may take longer than a process has after SIGTERM.
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from dipfast.run import interrupt\n"
        "interrupt._GRACE = 60\n"
        "from dipfast.apps.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as child:
        try:
            assert child.stderr is not None
            said = b""
            while re.search(when, said) is None:
                more = child.stderr.read1()
                assert more, said.decode()
                said += more
            child.send_signal(number)
            out, err = child.communicate()
        finally:
            child.kill()
    return child.returncode, out, err


class TestWithoutNetwork:
    """``--quality fast`` and ``--method nl_ridge``."""

    @staticmethod
    def fast(*arguments: str) -> int:
        return main(["denoise", "in.png", "out.png", "--quality", "fast", *arguments])

    def test_result_and_report(
        self, folder: Path, noisy: np.ndarray, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.fast("--sigma", "25", "--reference", "in.png") == 0
        expected = dipfast.denoise(noisy, sigma=25, quality="fast", reference=noisy)
        assert np.array_equal(read_image("out.png").image, expected.image)
        report = json.loads(Path("out.png.json").read_text())
        assert untimed(report) == untimed(expected.report())
        assert report["found"]["method"] == "nl_ridge"
        captured = capsys.readouterr()
        first, second = captured.out.splitlines()
        assert re.fullmatch(r"out\.png: nl_ridge done, PSNR inf -> \d\d\.\d\d dB", first)
        assert second.startswith("range 0 to 255 (uint8); noise 25 of 255")
        assert "nl_ridge, fast" in second
        assert "denoising:   0%" in captured.err
        assert "denoising: 100%" in captured.err

    def test_quiet_and_json(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.fast("--quiet", "--json") == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        assert json.loads(captured.out)["stop_detail"] == "nl_ridge done"

    def test_a_file_of_many_channels(self, folder: Path) -> None:
        planes = np.random.default_rng(0).normal(900, 30, (20, 24, 5)).astype(np.uint16)
        write_image("in.tif", planes, channel_axis=2)
        assert main(["denoise", "in.tif", "out.tif", "--method", "nl_ridge", "--sigma", "30"]) == 0
        assert read_image("out.tif").image.std() < 0.5 * planes.std()

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--curves", "a.png"], "--curves draws iterations, and nl_ridge has none"),
            (["--strip", "a.png"], "--strip draws iterations, and nl_ridge has none"),
            (["--checkpoint", "a"], "--checkpoint has no meaning for --quality fast of 'dipfast d"),
            (
                ["--method", "nl_ridge", "--max-iterations", "3"],
                "--max-iterations has no meaning for --method nl_ridge, which fits no network",
            ),
        ],
    )
    def test_what_has_no_meaning(
        self,
        folder: Path,
        no_work: None,
        capsys: pytest.CaptureFixture[str],
        options: list[str],
        words: str,
    ) -> None:
        assert self.fast(*options) == 2
        assert words in capsys.readouterr().err
        assert {path.name for path in folder.iterdir()} == {"in.png"}

    def test_of_another_task(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["superres", "in.png", "out.png", "--method", "nl_ridge"]) == 2
        said = capsys.readouterr().err
        assert "--method nl_ridge is for 'dipfast denoise IN OUT'" in said
        assert "without a network is --method pnp" in said
        assert main(["denoise", "in.png", "out.png", "--method", "pnp"]) == 2
        assert "without a network is --method nl_ridge" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "steps"),
        [
            (["inpaint", "--mask", "mask.png", "--quality", "fast"], 24),
            (["inpaint", "--mask", "mask.png", "--method", "pnp"], 48),
            (["superres", "--factor", "2", "--quality", "fast"], 24),
            (["restore", "--blur", "gaussian:1", "--method", "pnp", "--quality", "best"], 96),
        ],
    )
    def test_other_tasks(
        self,
        folder: Path,
        noisy: np.ndarray,
        capsys: pytest.CaptureFixture[str],
        arguments: list[str],
        steps: int,
    ) -> None:
        hole = np.zeros(noisy.shape, bool)
        hole[4:9, :7] = True
        write_image("mask.png", hole * np.uint8(255))
        assert main([*arguments, "in.png", "out.png"]) == 0
        captured = capsys.readouterr()
        first, second = captured.out.splitlines()[:2]
        assert first == "out.png: pnp done"
        assert f"; pnp, {steps} steps; " in second
        assert "restoring: 100%" in captured.err
        found = json.loads(Path("out.png.json").read_text())["found"]
        assert (found["method"], found["steps"]) == ("pnp", steps)
        image = read_image("out.png").image
        if arguments[0] == "inpaint":
            expected = dipfast.inpaint(
                noisy, hole, method="pnp", quality="fast" if steps == 24 else "balanced"
            )
            assert np.array_equal(image, expected.image)
            assert np.array_equal(image[~hole], noisy[~hole])
        again = [*arguments[:3], "in.png", "b.png", "--settings", "out.png.json", "--quiet"]
        assert main(again) == 0
        assert np.array_equal(read_image("b.png").image, image)

    @pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
    def test_interrupt_keeps_the_last_step(self, folder: Path, noisy: np.ndarray) -> None:
        write_image("large.png", np.tile(noisy, (12, 12)))
        command = ["superres", "large.png", "out.png", "--json", "--factor", "2"]
        code, out, err = signalled(
            [*command, "--method", "pnp", "--quality", "best"],
            when=rb"restoring: +([3-9]|\d\d)%",
            number=signal.SIGINT,
        )
        assert code == 130, err
        assert b"Traceback" not in err
        report = json.loads(out)
        assert re.fullmatch(r"interrupted, after \d+ of 96 steps", report["stop_detail"])
        assert report["unfinished"] is None
        assert 1 <= report["stop_iteration"] < 96
        large = read_image("large.png").image
        expected = dipfast.ops.resize(large, (576, 576), kernel="bicubic")
        assert np.abs(read_image("out.png").image.astype(float) - expected).mean() > 1

    def test_settings_of_it(self, folder: Path) -> None:
        assert self.fast("--quiet") == 0
        again = ["denoise", "in.png", "b.png", "--settings", "out.png.json", "--quiet"]
        assert main(again) == 0
        assert Path("b.png").read_bytes() == Path("out.png").read_bytes()
        assert main([*again, "--max-iterations", "2", "--force"]) == 0
        found = json.loads(Path("b.png.json").read_text())["found"]
        assert (found["method"], found["max_iterations"]) == ("two_stage", 2)

    @pytest.mark.filterwarnings("ignore:nl_ridge was ended before its end")
    def test_a_time_limit_that_is_too_short(self, folder: Path, noisy: np.ndarray) -> None:
        assert self.fast("--time-limit", "1e-9", "--quiet") == 3
        assert np.array_equal(read_image("out.png").image, noisy)

    @pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
    @pytest.mark.parametrize(
        ("number", "reason", "status"),
        [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)],
    )
    def test_interrupt_ends_it(
        self, folder: Path, noisy: np.ndarray, number: signal.Signals, reason: str, status: int
    ) -> None:
        write_image("large.png", np.tile(noisy, (40, 40)))
        command = ["denoise", "large.png", "out.png", "--json"]
        code, out, err = signalled(
            [*command, "--method", "nl_ridge", "--quality", "best", "--sigma", "25"],
            when=rb"denoising",
            number=number,
        )
        assert code == status, err
        assert b"Traceback" not in err
        report = json.loads(out)
        assert report["stop_reason"] == reason
        assert "the result is the image itself" in report["unfinished"]
        assert np.array_equal(read_image("out.png").image, read_image("large.png").image)


class TestSettings:
    def test_the_same_once_more(self, folder: Path) -> None:
        few = ["--max-iterations", "3", "--seed", "5", "--method", "adaptive_tv"]
        assert denoise("in.png", "out.png", *few, "--stop", "none") == 0
        again = ["denoise", "in.png", "again.png", "--settings", "out.png.json", "--quiet"]
        assert main(again) == 0
        assert Path("again.png").read_bytes() == Path("out.png").read_bytes()
        first, second = (json.loads(Path(f"{n}.png.json").read_text()) for n in ("out", "again"))
        assert untimed(first) == untimed(second)
        assert first["settings"]["max_iterations"] == 3

    @pytest.mark.parametrize("is_folder", [False, True])
    def test_the_boundary_of_a_blur(self, folder: Path, is_folder: bool) -> None:
        blur = ["--blur", "gaussian:1.5", "--method", "pnp", "--quality", "fast", "--quiet"]
        words = ["restore", "in.png", "out.png", *blur, "--boundary", "circular"]
        assert main(words) == 0
        found = json.loads(Path("out.png.json").read_text())["found"]
        assert (found["blur"], found["boundary"]) == ("gaussian:1.5", "circular")
        source, out = ("in.png", "again.png")
        if is_folder:
            source, out = ("many", "made")
            Path("many").mkdir()
            Path("many/again.png").write_bytes(Path("in.png").read_bytes())
        again = ["restore", source, out, *blur, "--settings", "out.png.json"]
        assert main(again) == 0
        made = Path("made/again.png") if is_folder else Path("again.png")
        assert made.read_bytes() == Path("out.png").read_bytes()
        assert main([*again[:2], f"2{out}", *again[3:], "--boundary", "zero"]) == 0
        made = Path("2made/again.png") if is_folder else Path("2again.png")
        assert made.read_bytes() != Path("out.png").read_bytes()
        Path("b.json").write_text(
            Path("out.png.json").read_text().replace('"circular"', '"around"')
        )
        assert main([*again[:2], f"3{out}", *again[3:-1], "b.json"]) == 2

    def test_what_is_said_outranks_them(self, folder: Path) -> None:
        assert denoise("in.png", "out.png") == 0
        more = ["--settings", "out.png.json", "--sigma", "7", "--seed", "9", "--quiet"]
        assert main(["denoise", "in.png", "again.png", *more]) == 0
        settings = json.loads(Path("again.png.json").read_text())["settings"]
        assert (settings["sigma"], settings["seed"], settings["max_iterations"]) == (7.0, 9, 4)
        more = ["--settings", "out.png.json", "--preset", "original-jpeg", "--quiet"]
        assert main(["denoise", "in.png", "b.png", *more, "--max-iterations", "2"]) == 0
        settings = json.loads(Path("b.png.json").read_text())["settings"]
        assert (settings["preset"], settings["max_iterations"]) == ("original-jpeg", 2)
        more = ["--settings", "out.png.json", "--method", "dip", "--quiet", "--force"]
        assert main(["denoise", "in.png", "b.png", *more]) == 0
        assert json.loads(Path("b.png.json").read_text())["settings"]["method"] == "dip"

    @pytest.mark.parametrize(
        ("recorded", "typed", "left"),
        [
            ({"preset": "original-jpeg", "max_iterations": 9}, {"quality": "fast"}, {}),
            ({"quality": "fast", "max_iterations": 9}, {"preset": "x"}, {"quality": "fast"}),
            ({"tv_weight": 0.5, "seed": 3}, {"method": "dip"}, {"seed": 3}),
            ({"noise": NoiseParameters(0.1)}, {"sigma": 7.0}, {}),
            ({"noise": "clipped"}, {"sigma": 7.0}, {"noise": "clipped"}),
            ({"sigma": 7.0}, {"noise": "clipped"}, {}),
            ({"sigma": 7.0}, {"seed": 1}, {"sigma": 7.0}),
            ({"max_iterations": 9, "stop": "none"}, {"method": "nl_ridge"}, {}),
            ({"method": "nl_ridge", "seed": 1}, {"max_iterations": 9}, {"seed": 1}),
            ({"method": "nl_ridge"}, {"quality": "best"}, {"method": "nl_ridge"}),
            ({"noise": "clipped"}, {"sigma": 0.0}, {}),
            ({"noise": "poisson_gaussian"}, {"sigma": 0.0}, {"noise": "poisson_gaussian"}),
            ({"stop": "es_wmv"}, {"method": "joined"}, {}),
            ({"tile": 64}, {"method": "nl_ridge"}, {}),
            ({"tile": 64, "max_iterations": 9}, {"quality": "fast"}, {}),
            ({"tile": 64}, {"quality": "best"}, {"tile": 64}),
            # The file tells the channels.
            ({"channel_axis": 2}, {}, {}),
        ],
    )
    def test_what_becomes_meaningless(
        self,
        monkeypatch: pytest.MonkeyPatch,
        recorded: dict[str, Any],
        typed: dict[str, Any],
        left: dict[str, Any],
    ) -> None:
        monkeypatch.setattr(record, "read_settings", lambda path: ("denoise", dict(recorded)))
        own = OwnOptions(image="in.png", output="out.png", settings="old.json")
        assert options_with_record(Request("denoise", own, typed)) == {**left, **typed}

    def test_pictures_with_other_channels(self, folder: Path, noisy: np.ndarray) -> None:
        write_image("colour.png", np.dstack([noisy] * 3))
        assert denoise("colour.png", "out.png") == 0
        assert main(["denoise", "in.png", "b.png", "--settings", "out.png.json", "--quiet"]) == 0

    def test_of_other_tasks(self, folder: Path) -> None:
        small = ["--quality", "fast", "--max-iterations", "2", "--quiet"]
        enlarge = ["superres", "in.png", "out.png", "--factor", "2", "--kernel", "box", *small]
        assert main(enlarge) == 0
        assert main(["superres", "in.png", "b.png", "--settings", "out.png.json", "--quiet"]) == 0
        assert Path("b.png").read_bytes() == Path("out.png").read_bytes()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("nonsense", "cannot read settings from report.json"),
            ('{"settings": {"task": "inpaint"}}', "report.json is of 'dipfast inpaint'"),
            ('{"settings": {"task": "super_resolve"}}', "report.json is of 'dipfast superres'"),
            ('{"settings": {"task": "denoise", "seed": "1"}}', "report.json: --seed must be an"),
            ('{"settings": {"task": "denoise", "sed": 1}}', "report.json: there is no setting 's"),
        ],
    )
    def test_what_is_refused(
        self, folder: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
    ) -> None:
        Path("report.json").write_text(text)
        assert denoise("in.png", "out.png", "--settings", "report.json") == 2
        assert message in capsys.readouterr().err
        assert not Path("out.png").exists()


def test_stop_rules_by_name(folder: Path) -> None:
    for rule in ("held_out", "es_wmv", "es_emv", "discrepancy", "none"):
        few = ["--max-iterations", "2", "--stop", rule, "--force"]
        assert denoise("in.png", "out.png", *few) == 0
        assert json.loads(Path("out.png.json").read_text())["settings"]["stop"] == rule


def test_strip(folder: Path) -> None:
    assert denoise("in.png", "out.png", "--strip", "strip.png") == 0
    height, width = read_image("strip.png").image.shape[:2]
    assert width > 3 * height  # four images beside each other


def test_interrupt_before_there_is_a_result(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dipfast, "denoise", interrupt)
    assert denoise("in.png", "out.png") == 130
    assert capsys.readouterr().err == "dipfast: interrupted\n"
    assert [path.name for path in folder.iterdir()] == ["in.png"]


def test_a_link_to_nothing_is_no_free_name(folder: Path) -> None:
    Path("out-2.png").symlink_to("nothing")
    assert work._free_name("out.png") == "out-3.png"
    Path("out-3.png.json").symlink_to("nothing")
    assert work._free_name("out.png") == "out-4.png"


def test_output_that_turns_up_meanwhile_is_left_alone(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = dipfast.denoise

    def slow(*arguments: Any, **options: Any) -> dipfast.Result:
        Path("out.png").write_text("somebody else's")
        return restore(*arguments, **options)

    monkeypatch.setattr(dipfast, "denoise", slow)
    assert denoise("in.png", "out.png") == 0
    assert Path("out.png").read_text() == "somebody else's"
    assert read_image("out-2.png").image.shape == (24, 24)
    assert "out-2.png: all iterations done" in capsys.readouterr().out


def test_names_as_long_as_they_can_be(folder: Path) -> None:
    name = "n" * (255 - len(".png.json")) + ".png"
    assert denoise("in.png", name) == 0
    assert Path(name + ".json").exists()


def test_out_of_memory_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nAnd a long story.")

    monkeypatch.setattr(dipfast, "denoise", too_large)
    assert denoise("in.png", "out.png") == 1
    assert capsys.readouterr().err == "dipfast: error: CUDA out of memory.\n"


class TestProcess:
    @pytest.mark.parametrize(
        ("arguments", "code_expected"),
        [
            (["--help"], 0),
            (["--version"], 0),
            (["denoise", "--help"], 0),
            (["denoise", "in.png", "out.png", "--sigma", "loud"], 2),
            (["--install-completion", "--shell", "fish", "--output", os.devnull], 0),
        ],
    )
    def test_what_needs_no_image_imports_nothing_heavy(
        self, arguments: list[str], code_expected: int
    ) -> None:
        code = (
            "import sys\n"
            "from dipfast.apps.cli import main\n"
            f"code = main({arguments!r})\n"
            "heavy = {'torch', 'numpy', 'matplotlib', 'PIL', 'tifffile'} & set(sys.modules)\n"
            "print(code, 'heavy', sorted(heavy))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.endswith(f"{code_expected} heavy []\n")

    def test_as_a_module(self, folder: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "dipfast", "denoise", "nothing.png", "out.png"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("dipfast: error: nothing.png: No such file or directory; ")

    @pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
    @pytest.mark.parametrize(
        ("number", "reason", "status"),
        [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)],
    )
    def test_interrupt_keeps_what_there_is(
        self, folder: Path, number: signal.Signals, reason: str, status: int
    ) -> None:
        endless = ["--max-iterations", "1000000", "--stop", "none", "--quality", "fast"]
        code, out, err = signalled(
            ["denoise", "in.png", "out.png", "--json", *endless],
            when=rb"stage 'tv'",
            number=number,
        )
        assert code == status
        assert b"Traceback" not in err
        report = json.loads(out)
        assert report["stop_reason"] == reason
        assert 1 <= report["best_iteration"] < 1000000
        assert report == json.loads((folder / "out.png.json").read_text())
        image = read_image(folder / "out.png").image
        assert image.shape == (24, 24)
        assert image.std() > 0
        assert {path.name for path in folder.iterdir()} == {"in.png", "out.png", "out.png.json"}
