"""Results: their report, their summary, and how they are saved."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dipfast
from dipfast.images.files import read_image, write_image
from dipfast.run.result import Result
from dipfast.stopping import StopReason


def make(image: Any, **changes: Any) -> Result:
    columns: dict[str, Any] = {
        "history": {"iteration": [1, 2], "stage": ["dip", "dip"], "loss": [2.0, 1.0]},
        "stop_reason": StopReason.ALL_ITERATIONS,
        "best_iteration": 2,
        "stop_iteration": 3,
        "settings": {"task": "denoise"},
        "found": {"sigma": [0.1], "versions": {"dipfast": "1.2.3"}},
        "channel_axis": None if image.ndim == 2 else image.ndim - 3,
    }
    return Result(image=image, **{**columns, **changes})


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def noise(sigma: float, **changes: float) -> dict[str, Any]:
    """Return a noise model in the form that it has in a record."""
    return {"sigma": sigma, "gain": 0.0, "low": None, "high": None, **changes}


def parse_strictly(text: str | bytes) -> Any:
    """Parse JSON, and refuse what the standard does not have: NaN and infinity."""

    def refuse(literal: str) -> None:
        raise AssertionError(f"{literal} is not JSON")

    return json.loads(text, parse_constant=refuse)


class TestReport:
    def test_all_but_pixels_and_history(self) -> None:
        result = make(random_pixels(4, 5), metrics={"psnr_input": 20.0, "psnr": 25.0})
        assert result.report() == {
            "stop_reason": "all iterations done",
            "best_iteration": 2,
            "stop_iteration": 3,
            "spikes": 0,
            "failures": 0,
            "unfinished": None,
            "hints": [],
            "seconds": None,
            "members": {},
            "expected_psnr": None,
            "metrics": {"psnr_input": 20.0, "psnr": 25.0},
            "stop_detail": "",
            "settings": {"task": "denoise"},
            "found": {"sigma": [0.1], "versions": {"dipfast": "1.2.3"}},
        }

    def test_psnr(self) -> None:
        assert make(random_pixels(4, 5)).psnr is None
        assert make(random_pixels(4, 5), metrics={"psnr": 25.0}).psnr == 25.0

    def test_is_strict_json(self) -> None:
        result = make(
            random_pixels(4, 5),
            metrics={"psnr_input": math.inf, "psnr": 25.0},
            settings={"nested": [{"a": math.nan}, (-math.inf, 1.5)]},
        )
        report = parse_strictly(json.dumps(result.report()))
        assert report["metrics"] == {"psnr_input": None, "psnr": 25.0}
        assert report["settings"] == {"nested": [{"a": None}, [None, 1.5]]}
        assert result.metrics["psnr_input"] == math.inf

    def test_of_a_real_one_with_itself_as_the_reference(self, tmp_path: Path) -> None:
        image = random_pixels(8, 8)
        result = dipfast.denoise(image, reference=image, max_iterations=1, quality="fast")
        assert result.metrics["psnr_input"] == math.inf
        result.save(tmp_path / "out.png")
        report = parse_strictly((tmp_path / "out.png.json").read_bytes())
        assert report == parse_strictly(json.dumps(result.report()))
        assert report["metrics"]["psnr_input"] is None
        assert report["metrics"]["psnr"] == result.psnr
        assert report["found"]["versions"]["dipfast"] == dipfast.__version__


class TestWords:
    def test_a_paragraph_and_not_the_pixels(self) -> None:
        image = random_pixels(64, 80)
        result = dipfast.denoise(image, reference=image, max_iterations=1, quality="fast")
        text = repr(result)
        assert len(text) < 600
        assert "ndarray (64, 80), uint8" in text
        assert "all iterations done" in text
        assert "psnr: " in text
        assert "range 0 to 255 (uint8); noise " in text
        assert "(estimated); stopped at 1 of 1; " in text

    @pytest.mark.parametrize(
        ("found", "words"),
        [
            ({}, ""),
            (
                {"data_range": [2, 5.5], "range_source": "data"},
                "range 2 to 5.5 (found in the data)",
            ),
            ({"data_range": [0, 1], "range_source": "given"}, "range 0 to 1 (given)"),
            ({"missing": 0.0632}, "6.3% missing"),
            (
                {"data_range": [0, 200], "noise": [noise(0.1)], "noise_source": "given"},
                "range 0 to 200 (given); noise 20 of 200, white (given)",
            ),
            ({"noise": [noise(0.1, high=1.0)]}, "noise 0.1 of 1, white, clipped (estimated)"),
            (
                {"noise": [noise(0.3, gain=0.14)] * 2},
                "noise 0.4 of 1 at medium brightness, growing with the signal (estimated for the "
                "first image)",
            ),
            ({"noise": [noise(0.0)], "noise_source": "given"}, "no noise (given)"),
        ],
    )
    def test_what_was_taken(self, found: dict[str, Any], words: str) -> None:
        assert make(random_pixels(4, 5), found=found).summary() == words

    def test_what_is_unfinished_is_said(self) -> None:
        result = make(random_pixels(4, 5), found={}, unfinished="too soon", seconds=2.0)
        assert result.summary() == "2 s; unfinished: too soon"

    def test_equal_to_itself_alone(self) -> None:
        one, other = make(random_pixels(4, 5)), make(random_pixels(4, 5))
        assert one == one
        assert one != other
        assert len({one, other}) == 2


class TestSave:
    def test_image_and_report(self, tmp_path: Path) -> None:
        result = make(random_pixels(4, 5))
        result.save(str(tmp_path / "out.png"))
        assert np.array_equal(read_image(tmp_path / "out.png").image, result.image)
        report = parse_strictly((tmp_path / "out.png.json").read_bytes())
        assert report == result.report()
        assert {path.name for path in tmp_path.iterdir()} == {"out.png", "out.png.json"}

    @pytest.mark.parametrize(
        ("image", "axis", "expected"),
        [
            (random_pixels(4, 5, 3), 2, random_pixels(4, 5, 3)),
            (random_pixels(3, 4, 5), 0, random_pixels(3, 4, 5).transpose(1, 2, 0)),
            (torch.from_numpy(random_pixels(4, 5)), None, random_pixels(4, 5)),
            (torch.from_numpy(random_pixels(1, 4, 5)), 0, random_pixels(1, 4, 5)[0]),
            (
                torch.from_numpy(random_pixels(3, 4, 5)),
                0,
                random_pixels(3, 4, 5).transpose(1, 2, 0),
            ),
            (
                torch.from_numpy(random_pixels(1, 3, 4, 5)),
                1,
                random_pixels(3, 4, 5).transpose(1, 2, 0),
            ),
            (torch.from_numpy(random_pixels(1, 4, 5, 3)), 3, random_pixels(4, 5, 3)),
        ],
    )
    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_layouts(
        self, tmp_path: Path, image: Any, axis: int | None, expected: np.ndarray, suffix: str
    ) -> None:
        path = tmp_path / f"out{suffix}"
        make(image, channel_axis=axis).save(path)
        assert np.array_equal(read_image(path).image, expected)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
    def test_tensors_of_floats(self, tmp_path: Path, dtype: str) -> None:
        image = torch.rand(4, 5).to(getattr(torch, dtype))
        make(image).save(tmp_path / "out.tif")
        saved = read_image(tmp_path / "out.tif").image
        assert saved.dtype == ("float32" if dtype == "bfloat16" else dtype)
        assert np.array_equal(saved, image.double().numpy())

    def test_like_the_file_it_came_from(self, tmp_path: Path) -> None:
        rgba = random_pixels(4, 5, 4)
        write_image(tmp_path / "in.png", rgba)
        source = read_image(tmp_path / "in.png")
        planes = torch.from_numpy(255 - source.image).permute(2, 0, 1)
        for result in (make(255 - source.image, channel_axis=2), make(planes, channel_axis=0)):
            result.save(tmp_path / "out.png", like=source, overwrite=True)
            saved = read_image(tmp_path / "out.png")
            assert np.array_equal(saved.image, 255 - rgba[..., :3])
            assert saved.alpha is not None
            assert np.array_equal(saved.alpha, rgba[..., 3])

    def test_batches_do_not_fit(self, tmp_path: Path) -> None:
        result = make(torch.zeros(2, 1, 4, 5, dtype=torch.uint8))
        with pytest.raises(ValueError, match="a batch of 2 images does not fit into one file"):
            result.save(tmp_path / "out.png")
        assert list(tmp_path.iterdir()) == []

    def test_dtypes_that_the_format_has_not(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="PNG cannot hold float64"):
            make(np.zeros((4, 5))).save(tmp_path / "out.png")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["out.png", "out.png.json"])
    def test_existing_files(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("old")
        result = make(random_pixels(4, 5))
        with pytest.raises(FileExistsError, match=f"{name} exists already"):
            result.save(tmp_path / "out.png")
        assert [path.name for path in tmp_path.iterdir()] == [name]
        assert (tmp_path / name).read_text() == "old"
        result.save(tmp_path / "out.png", overwrite=True)
        assert np.array_equal(read_image(tmp_path / "out.png").image, result.image)
        assert parse_strictly((tmp_path / "out.png.json").read_bytes()) == result.report()
