"""Pictures of a result: that they can be read, and show what they should."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from dipfast.apps import report
from dipfast.apps.report import check_figure, check_plots, draw_curves, draw_side_by_side
from dipfast.run.result import Member, Result
from dipfast.stopping import StopReason


def make(iterations: int = 9, *, psnr: bool = False, psnr_input: float = 20.0) -> Result:
    numbers = range(1, iterations + 1)
    history: dict[str, list[Any]] = {
        "iteration": list(numbers),
        "stage": ["tv" if 3 * k <= iterations else "details" for k in numbers],
        "loss": [1 / k + 0.1 for k in numbers],
        "data": [1 / k for k in numbers],
        "tv": [0.5 for _ in numbers],
    }
    if psnr:
        history["psnr"] = [15 + 5 * math.log(k) for k in numbers]
        history["psnr_average"] = [16 + 5 * math.log(k) for k in numbers]
    metrics = {"psnr_input": psnr_input, "psnr": 26.0} if psnr else {}
    return Result(
        np.zeros((4, 5)), history, StopReason.ALL_ITERATIONS, iterations, {}, {}, "", metrics
    )


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were drawn, in addition to their files."""
    drawn: list[Figure] = []
    save = report._save

    def keep(figure: Figure, path: str | Path) -> None:
        drawn.append(figure)
        save(figure, path)

    monkeypatch.setattr(report, "_save", keep)
    return drawn


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


class TestCurves:
    @pytest.mark.parametrize("log_x", [False, True])
    @pytest.mark.parametrize("psnr", [False, True])
    def test_panels(self, tmp_path: Path, figures: list[Figure], psnr: bool, log_x: bool) -> None:
        result = make(psnr=psnr)
        draw_curves(result, tmp_path / "curves.png", log_x=log_x)
        picture = read(tmp_path / "curves.png")
        assert picture.std() > 0
        (figure,) = figures
        assert len(figure.axes) == (2 if psnr else 1)
        for axis in figure.axes:
            assert axis.get_xscale() == ("log" if log_x else "linear")
            assert axis.get_xlabel() == "iteration"
            assert [text.get_text() for text in axis.texts] == ["end of stage 'tv'"]
        lines = {line.get_label(): line for line in figure.axes[0].lines}
        assert list(lines["objective"].get_xdata()) == result.history["iteration"]
        assert list(lines["objective"].get_ydata()) == result.history["loss"]
        assert list(lines["data term"].get_ydata()) == result.history["data"]
        if psnr:
            lines = {line.get_label(): line for line in figure.axes[1].lines}
            assert list(lines["output"].get_ydata()) == result.history["psnr"]
            assert list(lines["running average"].get_ydata()) == result.history["psnr_average"]
            assert set(lines["input"].get_ydata()) == {20.0}

    def test_what_is_joined_is_that_of_no_iteration(
        self, tmp_path: Path, figures: list[Figure]
    ) -> None:
        fit = make(psnr=True)
        joined = replace(fit, members=(Member("guided", fit.image, 1.0),))
        for result in (fit, joined):
            draw_curves(result, tmp_path / "curves.png")
        labels = [{line.get_label() for line in figure.axes[1].lines} for figure in figures]
        assert ["returned" in each for each in labels] == [True, False]

    def test_tiles_are_no_stages(self, tmp_path: Path, figures: list[Figure]) -> None:
        fit = make(3, psnr=True)
        own = {"stage": ["tile 4", "tile 0", "tile 7"], "weight": [0.5, 0.4, 0.3]}
        draw_curves(replace(fit, history={**fit.history, **own}), tmp_path / "curves.png")
        for axis in figures[0].axes:
            assert not axis.texts
            assert "returned" not in {line.get_label() for line in axis.lines}

    def test_end_of_a_stage_is_between_two_iterations(
        self, tmp_path: Path, figures: list[Figure]
    ) -> None:
        draw_curves(make(9), tmp_path / "curves.png")
        (line,) = (line for line in figures[0].axes[0].lines if line.get_linestyle() == "--")
        assert set(line.get_xdata()) == {3.5}

    @pytest.mark.parametrize("log_x", [False, True])
    @pytest.mark.parametrize("iterations", [1, 2])
    def test_runs_that_were_short(self, tmp_path: Path, iterations: int, log_x: bool) -> None:
        draw_curves(make(iterations, psnr=True), tmp_path / "curves.png", log_x=log_x)
        assert read(tmp_path / "curves.png").std() > 0

    def test_image_that_equals_its_reference(self, tmp_path: Path) -> None:
        draw_curves(make(psnr=True, psnr_input=math.inf), tmp_path / "curves.png")
        assert read(tmp_path / "curves.png").std() > 0

    @pytest.mark.parametrize(
        ("name", "start"),
        [
            ("curves.pdf", b"%PDF"),
            ("curves.svg", b"<?xml"),
            ("curves.PNG", b"\x89PNG"),
            ("curves", b"\x89PNG"),
        ],
    )
    def test_the_ending_says_the_format(self, tmp_path: Path, name: str, start: bytes) -> None:
        draw_curves(make(), str(tmp_path / name))
        assert (tmp_path / name).read_bytes().startswith(start)

    @pytest.mark.parametrize("name", ["a.pdf", "a.svg", "a.SVGZ", "a.PNG", "a.jpg", "a.tif", "a"])
    def test_what_passes_the_check_can_be_written(self, tmp_path: Path, name: str) -> None:
        check_figure(tmp_path / name)
        draw_curves(make(), tmp_path / name)
        with pytest.raises(FileExistsError, match="exists already"):
            check_figure(tmp_path / name)
        check_figure(tmp_path / name, overwrite=True)

    def test_old_file_survives_a_failure(self, tmp_path: Path) -> None:
        path = tmp_path / "curves.abc"
        path.write_text("old")
        with pytest.raises(ValueError, match="abc"):
            draw_curves(make(), path)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]


class TestSideBySide:
    @pytest.mark.parametrize("dtype", ["uint8", "float32"])
    def test_grey(self, tmp_path: Path, figures: list[Figure], dtype: str) -> None:
        brightest = 255 if dtype == "uint8" else 1
        dark, bright = (np.full((30, 40), k * brightest, dtype) for k in (0, 1))
        draw_side_by_side([("dark", dark), ("bright", bright)], tmp_path / "both.png")
        (figure,) = figures
        assert [axis.get_title() for axis in figure.axes] == ["dark", "bright"]
        picture = read(tmp_path / "both.png")
        height, width = picture.shape[:2]
        # Not stretched to the contrast of each: a constant image keeps its brightness.
        assert (picture[height // 2, width // 4] == 0).all()
        assert (picture[height // 2, 3 * width // 4] == 255).all()

    @pytest.mark.parametrize("dtype", ["uint8", "float64"])
    def test_colour(self, tmp_path: Path, dtype: str) -> None:
        brightest = 255 if dtype == "uint8" else 1
        images = [np.zeros((40, 30, 3), dtype) for _ in range(3)]
        for channel, image in enumerate(images):
            image[..., channel] = brightest
        draw_side_by_side(list(zip("rgb", images)), tmp_path / "three.png")
        picture = read(tmp_path / "three.png")
        height, width = picture.shape[:2]
        assert width > height
        for channel in range(3):
            colour = picture[height // 2, (2 * channel + 1) * width // 6]
            assert colour.tolist() == [255 if k == channel else 0 for k in range(3)]

    def test_one_image(self, tmp_path: Path) -> None:
        draw_side_by_side([("", np.zeros((5, 5), np.uint8))], tmp_path / "one.png")
        assert (read(tmp_path / "one.png") == 0).any()


def test_missing_matplotlib_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = r"drawing needs matplotlib: pip install 'dipfast\[plots\]'"
    with pytest.raises(ImportError, match=message):
        check_plots()
    with pytest.raises(ImportError, match=message):
        draw_curves(make(), tmp_path / "curves.png")
    with pytest.raises(ImportError, match=message):
        draw_side_by_side([("", np.zeros((4, 5)))], tmp_path / "one.png")
    assert list(tmp_path.iterdir()) == []
