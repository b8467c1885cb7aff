"""The page of a result: that it needs nothing else, shows what it should, and escapes texts."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import dipfast
from dipfast.apps.page import check_page
from dipfast.apps.page.charts import Curve, Mark, chart
from dipfast.apps.page.repeat import python_call
from dipfast.apps.page.views import make_views
from dipfast.errors import InputError
from dipfast.operators import Blur, gaussian_kernel
from dipfast.run.result import Member, Result
from dipfast.run.snapshots import Snapshot
from dipfast.stopping import StopReason

# Elements that have no end.
VOID = {"meta", "img", "input", "line", "polyline", "circle", "br"}
HOSTILE = "<script>alert('x')</script>&\"photo\".png"


class Page(HTMLParser):
    """A page that was read: its elements, its texts, and whether every element ends."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def headings(self) -> list[str]:
        return [text for text in self.texts if text in HEADINGS]

    def pictures(self) -> dict[str, np.ndarray]:
        """All pictures by what they are called; every one must decode."""
        found = {}
        for attributes in self.all("img"):
            source, name = attributes["src"], attributes["alt"]
            assert source is not None
            assert name
            assert source.startswith("data:image/png;base64,")
            content = base64.b64decode(source.partition(",")[2], validate=True)
            with Image.open(io.BytesIO(content)) as image:
                found[name] = np.array(image)
        return found


HEADINGS = (
    "Before and after",
    "Result",
    "Where they differ most",
    "Input minus result",
    "What it is joined of",
    "Curves",
    "Iterations",
    "Settings",
    "Again",
)


def page_of(result: Result, image: Any, folder: Path, **options: Any) -> Page:
    path = folder / "page.html"
    dipfast.save_page(result, image, path, **options)
    assert [p.name for p in folder.iterdir()] == ["page.html"]
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    # Nothing is loaded from anywhere.
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    for _, attributes in page.elements:
        assert not {"href", "srcset", "action", "data"} & set(attributes)
        assert "url(" not in (attributes.get("style") or "")
        assert (attributes.get("src") or "data:").startswith("data:")
    assert len(page.all("script")) == 1
    return page


def make(image: Any, axis: int | None = None, **changes: Any) -> Result:
    columns: dict[str, Any] = {
        "history": {"iteration": [], "stage": [], "loss": [], "data": [], "tv": []},
        "stop_reason": StopReason.ALL_ITERATIONS,
        "best_iteration": 0,
        "settings": {"task": "denoise"},
        "found": {},
        "channel_axis": axis,
    }
    return Result(image=image, **{**columns, **changes})


def random_pixels(*shape: int, dtype: str = "uint8") -> np.ndarray:
    values = np.random.default_rng(0).normal(128, 25, shape).clip(0, 255)
    return values.astype(dtype)


class TestTasks:
    def test_denoise_without_iterations(
        self, tmp_path: Path, noisy_pair: tuple[np.ndarray, np.ndarray]
    ) -> None:
        noisy, clean = noisy_pair
        result = dipfast.denoise(noisy, quality="fast", reference=clean)
        page = page_of(result, noisy, tmp_path, name="photo.png")
        assert page.headings == [
            "Before and after",
            "Result",
            "Where they differ most",
            "Input minus result",
            "Settings",
            "Again",
        ]
        assert "photo.png: denoise" in page.text
        assert page.all("svg") == []
        pictures = page.pictures()
        assert np.array_equal(pictures["Before"], noisy)
        assert np.array_equal(pictures["After"], result.image)
        assert f"PSNR {result.psnr:.2f} dB" in page.text
        assert "dipfast.denoise(image, quality='fast')" in page.text
        assert f"torch {torch.__version__}" in page.text

    def test_denoise_with_a_fit(
        self,
        tmp_path: Path,
        noisy_pair: tuple[np.ndarray, np.ndarray],
        use_small_network: Callable[..., None],
    ) -> None:
        use_small_network(6)
        noisy, clean = noisy_pair
        result = dipfast.denoise(noisy, reference=clean, snapshots=1.0)
        page = page_of(result, noisy, tmp_path)
        assert "Curves" in page.headings
        assert "Iterations" in page.headings
        assert len(page.all("svg")) == 2
        assert {"iteration 1", "iteration 6"} <= set(page.pictures())
        assert f"returned ({result.best_iteration})" in page.text
        assert "stage details" in page.text
        oracle = int(result.metrics["oracle_iteration"])
        assert f"highest ({oracle}: {result.metrics['psnr_oracle']:.2f} dB)" in page.text

    def test_joined(self, tmp_path: Path, noisy_pair: tuple[np.ndarray, np.ndarray]) -> None:
        noisy, _ = noisy_pair
        result = dipfast.denoise(noisy)
        assert result.members
        page = page_of(result, noisy, tmp_path)
        assert "What it is joined of" in page.headings
        for member in result.members:
            assert f"{member.name}: weight {member.weight:.3f}" in page.text
            assert page.pictures()[member.name].shape == noisy.shape
        assert result.expected_psnr is not None
        assert f"expected PSNR {result.expected_psnr:.1f} dB" in page.text

    @pytest.mark.parametrize("kind", ["mask", "nan", "masked"])
    def test_inpaint(
        self, tmp_path: Path, noisy_pair: tuple[np.ndarray, np.ndarray], kind: str
    ) -> None:
        _, clean = noisy_pair
        missing = np.zeros(clean.shape[:2], bool)
        missing[10:14, 8:30] = True
        image: Any = clean
        if kind == "mask":
            result = dipfast.inpaint(clean, missing, quality="fast")
        else:
            image = np.where(missing[..., None], np.nan, clean / np.float32(255))
            image = image.astype(np.float32)
            if kind == "masked":
                hidden = np.broadcast_to(missing[..., None], clean.shape)
                image = np.ma.masked_array(np.nan_to_num(image, nan=0.5), hidden)
            result = dipfast.inpaint(image, quality="fast")
        page = page_of(result, image, tmp_path)
        before = page.pictures()["Before"]
        if kind != "mask":
            assert (before[missing] == 0).all()
            assert "Pixels that are missing are black." in page.text
        assert before[~missing].max() == 255 or kind == "mask"
        said = "it says nothing of noise" if kind == "mask" else "Every known pixel is as it was."
        assert said in page.text
        assert "inpaint(image, mask" in page.text

    def test_super_resolve(self, tmp_path: Path) -> None:
        image = random_pixels(12, 10, 3)
        result = dipfast.super_resolve(image, 2, quality="fast")
        page = page_of(result, image, tmp_path)
        pictures = page.pictures()
        assert pictures["Before (enlarged)"].shape == pictures["After"].shape == (24, 20, 3)
        assert "The input is enlarged by bicubic interpolation." in page.text
        assert "Where they differ most" in page.headings
        assert "Input minus result" not in page.headings
        assert "dipfast.super_resolve(image, quality='fast', factor=2)" in page.text

    def test_restore(self, tmp_path: Path) -> None:
        image = random_pixels(24, 20)
        result = dipfast.restore(image, Blur(gaussian_kernel(0.8)), method="pnp", quality="fast")
        page = page_of(result, image, tmp_path)
        assert "The operator changes the picture too" in page.text
        assert "dipfast.restore(image, operator, method='pnp', quality='fast')" in page.text

    def test_other_sizes_are_beside_each_other(self, tmp_path: Path) -> None:
        page = page_of(make(random_pixels(9, 12)), random_pixels(4, 5), tmp_path)
        assert page.all("input") == []
        assert {name: x.shape for name, x in page.pictures().items()} == {
            "Before": (4, 5),
            "After": (9, 12),
        }
        assert "Input and result have different sizes." in page.text


class TestPixels:
    def test_16_bits(self, tmp_path: Path) -> None:
        image = (random_pixels(20, 24).astype(np.uint16)) * 16
        result = dipfast.denoise(image, quality="fast", data_range=4095)
        page = page_of(result, image, tmp_path)
        expected = (image / 4095 * 255).round().clip(0, 255)
        assert np.array_equal(page.pictures()["Before"], expected)
        assert "0 is shown as black and 4095 as white." in page.text

    def test_inks_darken(self, tmp_path: Path) -> None:
        image = np.full((16, 20, 4), 100, np.uint8)
        image[:, 10:] = 200
        page = page_of(make(image // 2, 2), image, tmp_path, inks=True)
        pictures = page.pictures()
        assert pictures["Before"][0, [0, -1]].tolist() == [155, 55]
        assert pictures["After"][0, [0, -1]].tolist() == [205, 155]
        assert "255 is shown as black and 0 as white." in page.text
        assert "Its root mean square is 79.1" in page.text

    def test_tensors_of_half_precision(self, tmp_path: Path) -> None:
        image = torch.rand(1, 3, 16, 12).to(torch.bfloat16)
        result = make(image.clone(), 1, found={"data_range": [0, 1], "shape": [1, 3, 16, 12]})
        page = page_of(result, image, tmp_path)
        assert page.pictures()["After"].shape == (16, 12, 3)
        assert "Input and result are the same." in page.text
        assert "Where they differ most" not in page.headings

    @pytest.mark.parametrize("channels", [1, 2, 5])
    def test_channels(self, tmp_path: Path, channels: int) -> None:
        image = random_pixels(8, 9, channels)
        page = page_of(make(255 - image, 2), image, tmp_path)
        assert page.pictures()["Before"].shape == (8, 9)
        assert (f"the mean of {channels} channels" in page.text) == (channels != 1)

    @pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1), (1, 3000)])
    def test_lines(self, tmp_path: Path, shape: tuple[int, int]) -> None:
        image = random_pixels(*shape)
        page = page_of(make(255 - image), image, tmp_path)
        assert page.pictures()["After"].shape == (shape[0], min(shape[1], 1200))

    def test_a_line_that_is_restored(self, tmp_path: Path) -> None:
        image = random_pixels(1, 40)
        result = dipfast.denoise(image, quality="fast", sigma=25)
        assert page_of(result, image, tmp_path).pictures()["Before"].shape == (1, 40)

    def test_large_pictures_are_reduced_and_zooms_are_not(self, tmp_path: Path) -> None:
        image = np.full((1500, 1250), 100, np.uint8)
        changed = image.copy()
        changed[1400:1410, 1200:1210] = 255
        page = page_of(make(changed), image, tmp_path)
        pictures = page.pictures()
        assert pictures["After"].shape == (1200, 1000)
        assert "reduced to 1000 of 1250 columns and 1200 of 1500 rows" in page.text
        (zoom,) = (x for name, x in pictures.items() if name.startswith("After, rows"))
        assert zoom.shape == (256, 256)
        assert (zoom == 255).sum() == 16 * 100

    def test_zooms_are_where_it_differs_and_do_not_overlap(self) -> None:
        image = np.full((200, 300), 100, np.uint8)
        changed = image.copy()
        changed[10:20, 10:20], changed[150:160, 250:260] = 150, 200
        zooms = make_views(make(changed), image).zooms
        assert [np.abs(z.after.astype(int) - z.before).max() for z in zooms] == [100, 50]
        image = random_pixels(150, 140)
        zooms = make_views(make(255 - image), image).zooms
        assert len(zooms) == 3
        for number, one in enumerate(zooms):
            for other in zooms[:number]:
                assert abs(one.top - other.top) >= 64 or abs(one.left - other.left) >= 64

    def test_places_that_are_the_same_are_no_zooms(self) -> None:
        image = random_pixels(200, 200, dtype="float64") / 255
        changed = image.copy()
        changed[5:55, 5:55] += np.random.default_rng(1).normal(0, 0.1, (50, 50))
        zooms = make_views(make(changed, found={"data_range": [0, 1]}), image).zooms
        assert [(z.top, z.left) for z in zooms] == [(0, 0)]

    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ("white", "by that it looks like white noise"),
            ("coarse", "does not look like white noise, but is coarse"),
            ("checked", "neighbours differ more than they would"),
            ("few", "too few values"),
        ],
    )
    def test_what_the_difference_looks_like(self, tmp_path: Path, kind: str, words: str) -> None:
        rows, columns = np.mgrid[:64, :64]
        noise = np.random.default_rng(1).normal(0, 20, (64, 64))
        if kind == "coarse":
            noise = np.kron(noise[:16, :16], np.ones((4, 4)))
        if kind == "checked":
            noise = 20.0 * (-1) ** (rows + columns)
        if kind == "few":
            noise = noise[:9, :9]
        clean = np.full(noise.shape, 128.0)
        result = make(clean, found={"data_range": [0, 255]})
        assert words in page_of(result, clean + noise, tmp_path).text

    def test_values_that_are_not_finite(self, tmp_path: Path) -> None:
        image = random_pixels(8, 9, dtype="float64")
        image[0, :3] = np.nan, np.inf, -np.inf
        page = page_of(make(np.nan_to_num(image, posinf=0, neginf=0)), image, tmp_path)
        assert page.pictures()["Before"].shape == (8, 9)


class TestTexts:
    def test_all_are_escaped(self, tmp_path: Path) -> None:
        image = random_pixels(8, 9)
        history = {
            "iteration": [1, 2],
            "stage": [HOSTILE, "b" + HOSTILE],
            "loss": [2.0, 1.0],
            "data": [1.0, 0.5],
            "tv": [0.0, 0.0],
        }
        result = make(
            image,
            history=history,
            settings={"task": HOSTILE, HOSTILE: HOSTILE},
            found={HOSTILE: {HOSTILE: [HOSTILE]}, "versions": {HOSTILE: HOSTILE}},
            stop_detail=HOSTILE,
            unfinished=HOSTILE,
            hints=(HOSTILE,),
            members=(Member(HOSTILE, image, 0.5),),
            snapshots=[Snapshot(1, image), Snapshot(2, image)],
        )
        page = page_of(result, image, tmp_path, name=HOSTILE, command=HOSTILE)
        assert page.text.count(HOSTILE) >= 12
        assert {tag for tag, _ in page.elements if tag == "script"} == {"script"}

    def test_names_that_are_no_text(self, tmp_path: Path) -> None:
        image = random_pixels(4, 5)
        page = page_of(make(image), image, tmp_path, name="a\udcff.png")
        assert "a?.png: denoise" in page.text

    def test_the_slider_is_named_and_needs_no_mouse(self, tmp_path: Path) -> None:
        image = random_pixels(4, 5)
        (slider,) = page_of(make(255 - image), image, tmp_path).all("input")
        assert slider["type"] == "range"
        assert slider["aria-label"]

    def test_the_command(self, tmp_path: Path) -> None:
        image = random_pixels(4, 5)
        page = page_of(make(image), image, tmp_path, command="dipfast denoise 'a b.png' c.png")
        assert "On the command line: dipfast denoise 'a b.png' c.png" in page.text

    @pytest.mark.parametrize(
        ("settings", "call"),
        [
            ({"task": "denoise", "seed": 0, "sigma": "auto"}, "dipfast.denoise(image)"),
            (
                {"task": "denoise", "noise": {"sigma": 0.1, "gain": 0.0, "low": None}},
                "dipfast.denoise(image, noise=dipfast.NoiseModel(sigma=0.1, gain=0.0))",
            ),
            (
                {"task": "inpaint", "data_range": [0, 5], "method": ["tv", "dip"]},
                "dipfast.inpaint(image, mask, data_range=(0, 5), method=...)",
            ),
            (
                {"task": "denoise", "stop": "Never()"},
                "dipfast.denoise(image, stop=dipfast.stopping.Never())",
            ),
            ({"task": "another"}, ""),
            ({}, ""),
        ],
    )
    def test_the_call(self, settings: dict[str, Any], call: str) -> None:
        assert python_call(settings) == call

    def test_a_call_that_was_made_is_the_call(self) -> None:
        image = random_pixels(12, 10)
        result = dipfast.denoise(image, quality="fast", sigma=20, data_range=(0, 300), seed=3)
        again = eval(python_call(result.settings), {"dipfast": dipfast, "image": image})
        assert again.settings == result.settings
        assert np.array_equal(again.image, result.image)


class TestRefusals:
    def test_batches(self, tmp_path: Path) -> None:
        batch = torch.zeros(2, 1, 4, 5)
        with pytest.raises(InputError, match="result must be that of one image, got a batch of 2"):
            dipfast.save_page(make(batch, 1), batch, tmp_path / "a.html")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("image", "found"),
        [
            (random_pixels(5, 4), {"shape": [4, 5]}),
            (random_pixels(4, 5, 3), {}),
            (random_pixels(4, 5)[None, None], {}),
        ],
    )
    def test_another_image(self, tmp_path: Path, image: Any, found: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="image must be the one that was restored"):
            dipfast.save_page(make(random_pixels(4, 5), found=found), image, tmp_path / "a.html")

    def test_no_image(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match="image must be a NumPy array"):
            dipfast.save_page(make(random_pixels(4, 5)), "in.png", tmp_path / "a.html")

    def test_files(self, tmp_path: Path) -> None:
        image = random_pixels(4, 5)
        with pytest.raises(InputError, match=r"a page must be named \.html, got .*png"):
            dipfast.save_page(make(image), image, tmp_path / "a.png")
        with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
            check_page(tmp_path / "nowhere" / "a.html")
        (tmp_path / "a.html").write_text("old")
        with pytest.raises(FileExistsError, match="exists already"):
            dipfast.save_page(make(image), image, tmp_path / "a.html")
        assert (tmp_path / "a.html").read_text() == "old"
        dipfast.save_page(make(image), image, str(tmp_path / "a.html"), overwrite=True)
        assert (tmp_path / "a.html").read_text().startswith("<!DOCTYPE html>")


class TestCharts:
    def test_tiles_are_no_stages(self, tmp_path: Path) -> None:
        history: dict[str, Any] = {
            "iteration": [40, 90, 130],
            "stage": ["tile 4", "tile 0", "tile 7"],
            "loss": [3.0, 2.0, 1.0],
            "weight": [0.5, 0.4, 0.3],
        }
        image = random_pixels(8, 9)
        page = page_of(make(255 - image, history=history, best_iteration=130), image, tmp_path)
        assert "Curves" in page.headings
        assert "stage tile" not in page.text
        assert "returned" not in page.text

    def test_points(self) -> None:
        svg = chart("t", "u", [1, 2, 3], [Curve("c", "one", [1.0, 2.0, 3.0])])
        (line,) = (attributes for tag, attributes in Page(svg).elements if tag == "polyline")
        points = [tuple(map(float, pair.split(","))) for pair in str(line["points"]).split()]
        assert [x for x, _ in points] == [64, 344, 624]
        assert points[0][1] > points[1][1] > points[2][1]
        assert points[0][1] - points[1][1] == pytest.approx(points[1][1] - points[2][1], abs=0.2)

    @pytest.mark.parametrize("log_x", [False, True])
    @pytest.mark.parametrize("log_y", [False, True])
    @pytest.mark.parametrize("values", [[1.0], [5.0] * 4, [1e-9, 1.0, 1e9], [0.0, -1.0, 2.0]])
    def test_any_values(self, values: list[float], log_x: bool, log_y: bool) -> None:
        marks = [Mark("m", "good", 1.0), Mark("n", "faint", math.inf, "y"), Mark("o", "faint", 0.0)]
        if log_x:
            del marks[2]
        iterations = range(1, len(values) + 1)
        curves = [Curve("c", "one", values)]
        svg = chart("t", "u", iterations, curves, marks, ["a"] * 4, log_x=log_x, log_y=log_y)
        assert "nan" not in svg
        assert "inf" not in svg
        Page(svg)

    def test_nothing_to_draw(self) -> None:
        assert chart("t", "u", [], [Curve("c", "one", [])]) == ""
        assert chart("t", "u", [1], [Curve("c", "one", [math.nan])]) == ""

    def test_long_runs(self) -> None:
        values = [1.0 / k for k in range(1, 5001)]
        svg = chart("t", "u", range(1, 5001), [Curve("c", "one", values)], log_y=True)
        (line,) = (attributes for tag, attributes in Page(svg).elements if tag == "polyline")
        points = str(line["points"]).split()
        assert len(points) <= 601
        assert points[-1].startswith("624.0,")


class TestNotebooks:
    @pytest.mark.parametrize(
        ("image", "axis", "shape"),
        [
            (random_pixels(6, 7), None, (6, 7)),
            (random_pixels(6, 7, 3), 2, (6, 7, 3)),
            (random_pixels(6, 7, 5), 2, (6, 7)),
            (torch.rand(3, 6, 7), 0, (6, 7, 3)),
            (torch.rand(2, 1, 6, 7), 1, (6, 7)),
            (random_pixels(6, 7, dtype="float64"), None, (6, 7)),
        ],
    )
    def test_picture(self, image: Any, axis: int | None, shape: tuple[int, ...]) -> None:
        result = make(image, axis)
        with Image.open(io.BytesIO(result._repr_png_())) as picture:
            shown = np.array(picture)
        assert shown.shape == shape
        assert shown.dtype == np.uint8
        (in_table,) = Page(result._repr_html_()).pictures().values()
        assert np.array_equal(in_table, shown)

    def test_figures(self) -> None:
        result = make(random_pixels(6, 7), stop_detail=HOSTILE, metrics={"psnr": 25.0})
        page = Page(result._repr_html_())
        assert HOSTILE in page.text
        assert "PSNR 25.00 dB" in page.text
        assert page.all("script") == []

    def test_batches_say_so(self) -> None:
        batch = make(torch.rand(2, 5, 6, 7), 1)
        assert "the first of 2 images, the mean of 5 channels" in Page(batch._repr_html_()).text

    def test_large_pictures_are_reduced_beside_figures(self) -> None:
        result = make(random_pixels(20, 900))
        (shown,) = Page(result._repr_html_()).pictures().values()
        assert shown.shape == (9, 400)

    def test_input_beside_the_result(self) -> None:
        noisy = random_pixels(12, 14, 3)
        result = dipfast.denoise(noisy, quality="fast")
        shown = Page(result._repr_html_()).pictures()
        assert list(shown) == ["input", "restored image"]
        assert np.array_equal(shown["input"], noisy)
        assert np.array_equal(shown["restored image"], result.image)
