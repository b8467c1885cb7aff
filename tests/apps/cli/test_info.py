"""``dipfast info``: what it tells of files, and what it says where it cannot."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from matplotlib.figure import Figure
from PIL import Image

import dipfast
from dipfast import NoiseModel, NoiseReport
from dipfast.apps import report as plots
from dipfast.apps.cli import main
from dipfast.apps.cli.options import InfoRequest
from dipfast.apps.cli.usage import parse
from dipfast.images.files import write_image
from dipfast.run.memory import advice, estimate_direct
from dipfast.settings.jpeg import jpeg_quality
from dipfast.settings.noise import BAND_EDGES

SIGMA = 16


def picture(channels: int = 0) -> np.ndarray:
    """Return a picture of 8 bits with noise."""
    y, x = np.mgrid[0:64, 0:80]
    clean = np.stack([90 + x, 150 - y / 2, 100 + y], axis=-1)[..., : channels or 1]
    noise = np.random.default_rng(0).normal(0, SIGMA, clean.shape)
    image = (clean + noise).round().clip(0, 255).astype(np.uint8)
    return image if channels else image[..., 0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with two pictures in it."""
    write_image(tmp_path / "grey.png", picture())
    write_image(tmp_path / "colour.tif", picture(3))
    monkeypatch.chdir(tmp_path)
    return tmp_path


pytestmark = pytest.mark.usefixtures("folder")


class TestLines:
    def test_files_one_after_the_other(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info", "grey.png", "colour.tif"]) == 0
        told = capsys.readouterr()
        assert told.err == ""
        lines = told.out.splitlines()
        heads = [number for number, line in enumerate(lines) if not line.startswith("  ")]
        grey, colour = picture(), picture(3)
        assert [lines[number] for number in heads] == [
            f"grey.png: PNG, 80 x 64 pixels, uint8, values {grey.min()} to {grey.max()}",
            f"colour.tif: TIFF, 80 x 64 pixels, 3 channels, uint8, values {colour.min()} to "
            f"{colour.max()}",
        ]
        of_grey, of_colour = lines[heads[0] + 1 : heads[1]], lines[heads[1] + 1 :]
        for of_picture in (of_grey, of_colour):
            assert re.fullmatch(
                r"  to denoise it takes about 0\.\d+ GB of memory and 40 iterations at most; "
                r"0\.\d+ GB and none with --quality fast",
                of_picture.pop(0),
            )
        assert of_grey == [f"  {line}" for line in dipfast.estimate_noise(grey).lines()]
        assert of_colour == [f"  {line}" for line in dipfast.estimate_noise(colour).lines()]
        assert of_grey[0].startswith("  noise 1")

    def test_what_a_picture_takes(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(advice, "available", lambda _: 10**7)
        write_image("stack.tif", np.stack([picture()] * 5), channel_axis=None, stack_axis=0)
        assert main(["info", "stack.tif"]) == 0
        line = capsys.readouterr().out.splitlines()[1]
        assert line.startswith("  to denoise each plane takes about 0.0")
        assert " GB of memory, more than there is, so that it is cut into tiles, and " in line
        assert " iterations at most for each; " in line

    def test_planes_that_help_each_other(self, capsys: pytest.CaptureFixture[str]) -> None:
        # They are denoised together, which takes as much as what is refused where it is not there.
        planes = np.zeros((48, 64, 80), np.uint8)  # blocks of 16, with 4 to either side
        write_image("stack.tif", planes, channel_axis=None, stack_axis=0)
        need = estimate_direct((24, 1, 64, 80))
        assert main(["info", "stack.tif"]) == 0
        line = capsys.readouterr().out.splitlines()[1]
        assert line.endswith(f"; {need / 1e9:.2g} GB and none where planes help each other")
        assert main(["info", "stack.tif", "--json"]) == 0
        memory = json.loads(capsys.readouterr().out)["memory"]
        assert memory["together"] == need > memory["fast"]

    def test_options(self, capsys: pytest.CaptureFixture[str]) -> None:
        options = ["--noise", "clipped", "--data-range", "-5,507"]
        assert main(["info", *options, "grey.png", "--json"]) == 0
        noise = json.loads(capsys.readouterr().out)["noise"]
        report = dipfast.estimate_noise(picture(), noise="clipped", data_range=(-5, 507))
        assert noise == json.loads(json.dumps(report.report()))
        assert noise["clipped"] == {"low": True, "high": True}
        assert noise["data_range"] == [-5, 507]

    def test_opacity_and_signs_of_a_terminal(self, capsys: pytest.CaptureFixture[str]) -> None:
        clear = np.dstack([picture(3), np.full((64, 80), 9, np.uint8)])
        Image.fromarray(clear).save("a\x1b[2Jb.png")
        assert main(["info", "a\x1b[2Jb.png"]) == 0
        out = capsys.readouterr().out
        assert out.startswith(r"a\x1b[2Jb.png: PNG, 80 x 64 pixels, 3 channels, opacity, uint8")

    def test_remarks_are_in_words_of_the_command_line(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        remark = "the estimates disagree; sigma tells it, and data_range=(0, 1) too"
        report = NoiseReport(NoiseModel(0.1), (0.1, 0.1), remarks=(remark,))
        monkeypatch.setattr(dipfast, "estimate_noise", lambda *_, **__: report)
        assert main(["info", "grey.png"]) == 0
        assert capsys.readouterr().out.splitlines()[2:] == [
            "  noise 0.100 of 1, white",
            "  the estimates disagree; --sigma tells it, and --data-range 0,1 too",
        ]


class TestJson:
    def test_one_line_for_each(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info", "grey.png", "no.png", "colour.tif", "--json"]) == 2
        told = capsys.readouterr()
        grey, colour = (json.loads(line) for line in told.out.splitlines())
        noise, memory = grey.pop("noise"), grey.pop("memory")
        assert 10**7 < memory["fast"] <= memory["balanced"] < 10**8
        assert grey == {
            "file": "grey.png",
            "format": "PNG",
            "shape": [64, 80],
            "channel_axis": None,
            "stack_axes": [],
            "stack_names": "",
            "opacity": False,
            "dtype": "uint8",
            "values": [int(picture().min()), int(picture().max())],
            "jpeg_quality": None,
        }
        assert noise["sigma"] == pytest.approx(SIGMA, rel=0.1)
        assert noise["kind"] == "white"
        assert (colour["shape"], colour["channel_axis"]) == ([64, 80, 3], 2)
        assert told.err.startswith("dipfast: error: no.png: No such file or directory")
        assert told.err.count("\n") == 1


class TestJpeg:
    @pytest.mark.parametrize("quality", [1, 10, 30, 49, 50, 75, 90, 95, 100])
    @pytest.mark.parametrize("channels", [0, 3])
    def test_quality(self, quality: int, channels: int) -> None:
        Image.fromarray(picture(channels)).save("a.jpg", quality=quality)
        with Image.open("a.jpg") as image:
            assert jpeg_quality(image.quantization) == quality

    def test_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        Image.fromarray(picture(3)).save("a.png", "JPEG", quality=75)
        before = Path("a.png").read_bytes()
        assert main(["info", "a.png"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("a.png: JPEG, 80 x 64 pixels, 3 channels, uint8")
        assert lines[1] == "  JPEG of quality about 75"
        assert main(["info", "a.png", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["jpeg_quality"] == 75
        assert Path("a.png").read_bytes() == before

    @pytest.mark.parametrize(("quality", "poor"), [(40, True), (60, True), (61, False)])
    def test_what_denoising_does(
        self, quality: int, poor: bool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Image.fromarray(picture(3)).save("a.jpg", quality=quality)
        assert main(["info", "a.jpg"]) == 0
        line = capsys.readouterr().out.splitlines()[2]
        assert line.startswith("  to denoise it is to take out the artefacts of JPEG") is poor
        assert ("no iterations" in line, " iterations at most" in line) == (poor, not poor)
        assert main(["info", "a.jpg", "--json"]) == 0
        memory = json.loads(capsys.readouterr().out)["memory"]
        if poor:
            assert memory["balanced"] == memory["fast"]

    def test_tables_of_others(self) -> None:
        assert jpeg_quality({0: [3] * 64}) in range(90, 100)
        assert jpeg_quality({}) is None
        assert jpeg_quality({0: [1, 2, 3]}) is None


class TestFailures:
    def test_the_other_files_are_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("text.png").write_text("no picture")
        Path("folder").mkdir()
        holes = picture().astype(np.float32)
        holes[3, 4] = np.nan
        tifffile.imwrite("holes.tif", holes)
        write_image("tiny.png", np.arange(4, dtype=np.uint8).reshape(2, 2))
        names = ["text.png", "folder", "holes.tif", "tiny.png", "gery.png", "grey.png"]
        assert main(["info", *names]) == 2
        told = capsys.readouterr()
        errors = told.err.splitlines()
        assert len(errors) == 5
        assert errors[0].startswith("dipfast: error: cannot read text.png: it is not a PNG")
        assert errors[1].startswith("dipfast: error: folder: ")
        assert errors[2].startswith("dipfast: error: holes.tif must be finite, got NaN")
        assert errors[2].endswith("'dipfast inpaint IN OUT' fills missing pixels")
        assert errors[3].startswith("dipfast: error: tiny.png ")
        assert errors[4].endswith("gery.png: No such file or directory; did you mean grey.png?")
        # What is known of a picture is told, even where its noise is not.
        least, most = np.nanmin(holes), np.nanmax(holes)
        assert f"holes.tif: TIFF, 80 x 64 pixels, float32, values {least:g} to {most:g}" in told.out
        assert told.out.splitlines()[-1].startswith("  ")
        assert "\ngrey.png: PNG" in told.out

    def test_no_value_is_finite(self, capsys: pytest.CaptureFixture[str]) -> None:
        tifffile.imwrite("empty.tif", np.full((8, 8), np.nan, np.float32))
        assert main(["info", "empty.tif"]) == 2
        assert "float32, no value is finite" in capsys.readouterr().out

    @pytest.mark.parametrize(("error", "code"), [(MemoryError(), 1), (RuntimeError("x"), 1)])
    def test_codes(
        self,
        error: Exception,
        code: int,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(dipfast, "estimate_noise", fail)
        assert main(["info", "grey.png"]) == code
        assert capsys.readouterr().err == f"dipfast: error: {str(error) or 'out of memory'}\n"

    def test_warnings_name_the_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        flat = np.full((40, 40), 0.5, np.float32)
        flat[:20] += 1e-4
        flat[0, 0] = 1
        tifffile.imwrite("a.tif", flat)
        assert main(["info", "a.tif"]) == 0
        assert "dipfast: warning: 99% of the values" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "required: FILE; 'dipfast info --help' tells more"),
            (["grey.png", "--jsno"], "there is no option --jsno; did you mean --json?"),
            (["--noise", "poisson", "grey.png"], "--noise: there is no 'poisson'; did you mean"),
            (["grey.png", "--data-range", "1,2,3"], "--data-range: a number, or two with a comma"),
            (["grey.png", "colour.tif", "--data-range", "-3"], "--data-range must be a positive"),
            (["grey.png", "--sigma", "3"], "there is no option --sigma"),
            (["-7.png"], "there is no option -7.png; for a file of that name, type ./-7.png"),
            (["grey.png", "colour.tif", "--plot", "p.png"], "--plot draws one image, got 2"),
            (["grey.png", "--plot", "./grey.png", "--force"], "--plot would overwrite grey.png"),
            (["grey.png", "--plot", "colour.tif"], "colour.tif exists already; --force replaces"),
            (["grey.png", "--plot", "no/p.png"], "the folder no does not exist; make it first"),
            (["grey.png", "--plot", "p.txt"], ".svg, .svgz, .tif, .tiff, .webp, got p.txt"),
            (["grey.png", "--plot", "p.npy"], "figures are written as "),
        ],
    )
    def test_usage(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = sorted(path.name for path in Path().iterdir())
        assert main(["info", *arguments]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("dipfast: error: ")
        assert told.err.count("\n") == 1
        assert message in told.err
        assert sorted(path.name for path in Path().iterdir()) == before

    def test_command_that_is_mistyped(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["inf0", "grey.png"]) == 2
        assert "there is no command 'inf0'; did you mean info?" in capsys.readouterr().err


def test_request() -> None:
    request = parse(["info", "a.png", "--json", "b.png", "--data-range", "3"])
    assert isinstance(request, InfoRequest)
    assert list(map(str, request.files)) == ["a.png", "b.png"]
    assert (request.json_, request.data_range, request.noise) == (True, 3, "auto")


def test_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["info", "--help"]) == 0
    text = capsys.readouterr().out
    assert "Usage: dipfast info [OPTIONS] FILE..." in text
    for name in ("--noise", "--data-range", "--plot", "--force", "--json"):
        assert name in text


class TestPlot:
    @pytest.fixture
    def figures(self, monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
        """The figures that were drawn, in addition to their files."""
        drawn: list[Figure] = []
        save = plots._save

        def keep(figure: Figure, path: str | Path) -> None:
            drawn.append(figure)
            save(figure, path)

        monkeypatch.setattr(plots, "_save", keep)
        return drawn

    @pytest.fixture
    def unsaved(self, monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
        """The figures that were drawn, in place of their files."""
        drawn: list[Figure] = []
        monkeypatch.setattr(plots, "_save", lambda figure, _: drawn.append(figure))
        return drawn

    def test_of_the_command(
        self, figures: list[Figure], capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("plot.png").write_text("old")
        assert main(["info", "colour.tif", "--plot", "plot.png", "--force"]) == 0
        with Image.open("plot.png") as plot:
            assert np.array(plot.convert("L")).std() > 0
        histogram, spectrum, picture_, brightness = figures[0].axes
        assert histogram.get_title() == "values"
        assert figures[0].get_suptitle().splitlines()[0] in capsys.readouterr().out
        (white,) = spectrum.lines
        report = dipfast.estimate_noise(picture(3))
        assert set(white.get_ydata()) == {report.sigma}
        assert picture_.images[0].get_array().shape == (64, 80, 3)
        curve = brightness.lines[0]
        assert curve.get_xdata()[[0, -1]].tolist() == [0, 255]
        assert np.max(curve.get_ydata()) == pytest.approx(report.sigma, rel=1e-3)

    def test_of_the_histogram(self, unsaved: list[Figure]) -> None:
        image = np.repeat(np.arange(4, dtype=np.uint8), 5).reshape(4, 5)
        report = NoiseReport(NoiseModel(0.1, high=1.0), (0.1, 0.1), (0.0, 3.0))
        plots.draw_noise(report, image, "plot.png")
        axes = unsaved[0].axes[0]
        (steps,) = axes.patches
        assert steps.get_data().values.tolist() == [5, 5, 5, 5]
        assert [line.get_xdata()[0] for line in axes.lines] == [0, 3]
        assert [line.get_linestyle() for line in axes.lines] == [":", "-"]

    def test_spectrum_and_outliers(self, figures: list[Figure]) -> None:
        bands = len(BAND_EDGES) - 1
        row = tuple(1.5 - 0.2 * k for k in range(bands))
        outliers = np.zeros((3, 30, 20), bool)
        outliers[:, 7, 11] = outliers[1, 20, 3] = True
        model = NoiseModel(0.1, spectrum=(row,) * 3)
        report = NoiseReport(
            model, (0.1, 0.1), (0.0, 10.0), outliers=torch.from_numpy(outliers), channel_axis=0
        )
        plots.draw_noise(report, torch.rand(3, 30, 20) * 10, "plot.pdf")
        assert Path("plot.pdf").read_bytes().startswith(b"%PDF")
        _, spectrum, picture_, _ = figures[0].axes
        assert len(spectrum.patches) == 3
        assert spectrum.patches[0].get_data().values == pytest.approx(np.array(row))
        (marks,) = picture_.collections
        assert sorted(map(tuple, marks.get_offsets().tolist())) == [(3, 20), (11, 7)]
        assert picture_.get_title() == "outliers that stand alone: 2"

    def test_large_pictures_are_thinned_out(self, unsaved: list[Figure]) -> None:
        image = np.zeros((1300, 700), np.float32)
        image[::2] = 1
        outliers = np.ones(image.shape, bool)
        report = NoiseReport(NoiseModel(0.0), (0.0, 0.0), outliers=outliers)
        plots.draw_noise(report, image, "plot.png")
        _, _, picture_, brightness = unsaved[0].axes
        assert max(picture_.images[0].get_array().shape) <= 600
        assert len(picture_.collections[0].get_offsets()) <= 2000
        assert set(brightness.lines[0].get_ydata()) == {0}

    def test_another_image(self) -> None:
        report = NoiseReport(NoiseModel(0.1), (0.1, 0.1))
        with pytest.raises(dipfast.errors.InputError, match="not the one of the report"):
            plots.draw_noise(report, np.zeros((4, 5, 3)), "plot.png")

    def test_without_matplotlib(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        assert main(["info", "grey.png", "--plot", "plot.png"]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert "drawing needs matplotlib: pip install 'dipfast[plots]'" in told.err

    def test_that_fails(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail(*_: object) -> None:
            raise KeyError("font")

        monkeypatch.setattr(plots, "draw_noise", fail)
        assert main(["info", "grey.png", "--plot", "plot.png"]) == 1
        told = capsys.readouterr()
        assert told.err == "dipfast: error: --plot plot.png could not be drawn: 'font'\n"
        assert "grey.png: PNG" in told.out
