"""Artefacts of JPEG that are taken out, in Python and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

import dipfast
from dipfast.apps.cli import main
from dipfast.errors import InputError
from dipfast.images.files import read_image
from dipfast.images.layout import Layout
from dipfast.operators import Identity
from dipfast.run.prepare import Task, prepare
from dipfast.settings.settings import DenoiseSettings, make_settings

CLEAN = skimage.data.astronaut()[60:156, 170:282]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "in.jpg"
    Image.fromarray(CLEAN).save(path, quality=15)
    return path


def psnr(image: Any) -> float:
    return float(dipfast.ops.psnr(np.asarray(image), CLEAN, data_range=255))


def blockiness(image: Any) -> float:
    """Return the steps at the borders of blocks, as a multiple of those within them."""
    steps = np.abs(np.diff(np.asarray(image, float).mean(-1), axis=1))
    return float(steps[:, 7::8].mean() / np.delete(steps, np.s_[7::8], axis=1).mean())


class TestDenoise:
    @pytest.mark.parametrize("quality", ["fast", "balanced", "best"])
    def test_takes_blocks_out(self, path: Path, quality: Any) -> None:
        decoded = read_image(path).image
        coding = dipfast.JpegCoding.read(path)
        result = dipfast.denoise(decoded, jpeg=coding, quality=quality, reference=CLEAN)
        assert psnr(result.image) > psnr(decoded) + 0.8
        assert blockiness(decoded) > 1.7
        assert blockiness(result.image) < 1.25
        assert result.found["method"] == "nl_ridge"
        assert result.found["steps"] in (4, 16, 24)
        assert result.found["jpeg_quality"] == 15
        assert "artefacts of JPEG (quality 15)" in result.summary()
        assert result.hints == ()

    def test_of_a_good_one_too(self, tmp_path: Path) -> None:
        path = tmp_path / "good.jpg"
        Image.fromarray(CLEAN).save(path, quality=90)
        decoded = read_image(path).image
        result = dipfast.denoise(decoded, jpeg=dipfast.JpegCoding.read(path))
        assert psnr(result.image) > psnr(decoded) + 0.3

    def test_of_grey(self, tmp_path: Path) -> None:
        path = tmp_path / "grey.jpg"
        Image.fromarray(CLEAN[..., 1]).save(path, quality=15)
        decoded = read_image(path).image
        result = dipfast.denoise(
            decoded, jpeg=dipfast.JpegCoding.read(path), reference=CLEAN[..., 1]
        )
        assert result.psnr > result.metrics["psnr_input"] + 0.7

    def test_batches_of_one_coding(self, path: Path) -> None:
        decoded = torch.from_numpy(read_image(path).image.copy()).permute(2, 0, 1)
        coding = dipfast.JpegCoding.read(path)
        alone = dipfast.denoise(decoded, jpeg=coding, quality="fast")
        both = dipfast.denoise(torch.stack([decoded] * 2), jpeg=coding, quality="fast")
        assert torch.equal(both.image[1], alone.image)

    def test_fits_are_told_how_strong_they_are(self, path: Path) -> None:
        coding = dipfast.JpegCoding.read(path)
        result = dipfast.denoise(
            read_image(path).image, jpeg=coding, method="two_stage", max_iterations=5
        )
        assert result.found["method"] == "two_stage"
        cleaned = dipfast.denoise(read_image(path).image, jpeg=coding, quality="fast").image
        change = cleaned.astype(float) - read_image(path).image
        level = float(np.sqrt((change**2).mean()))
        assert result.found["sigma"][0] == pytest.approx(level, rel=0.1)

    def test_fits_have_the_rule_for_what_was_rounded(self, path: Path) -> None:
        image = read_image(path).image
        settings = make_settings(
            DenoiseSettings, {"jpeg": dipfast.JpegCoding.read(path), "method": "two_stage"}
        )
        job = prepare(Task(image, Layout.of(image), [Identity()]), settings)[0]
        problem = job.rule.prepare(job.make_prior().problem)
        assert problem.jpeg is not None
        assert problem.split is None  # coefficients that were rounded are not split by noise
        assert problem.held_out is not None

    def test_can_be_ended_after_a_step(self, path: Path) -> None:
        calls = 0

        def stop(progress: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == 4:
                raise StopIteration

        decoded = read_image(path).image
        result = dipfast.denoise(decoded, jpeg=dipfast.JpegCoding.read(path), callback=stop)
        assert "of 16 steps" in result.stop_detail
        assert psnr(result.image) > psnr(decoded)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"sigma": 5.0}, "sigma has no meaning where jpeg"),
            ({"noise": "gaussian"}, "noise has no meaning where jpeg"),
            ({"fill_outliers": True}, "fill_outliers has no meaning where jpeg"),
            ({"method": "joined"}, "method='joined' judges by random noise"),
            ({"data_range": 1000}, "jpeg is for the pixels of a JPEG"),
        ],
    )
    def test_what_means_nothing_is_refused(
        self, path: Path, options: dict[str, Any], message: str
    ) -> None:
        coding = dipfast.JpegCoding.read(path)
        with pytest.raises(InputError, match=message):
            dipfast.denoise(read_image(path).image, jpeg=coding, **options)

    def test_a_checkpoint_means_nothing(self, path: Path, tmp_path: Path) -> None:
        coding = dipfast.JpegCoding.read(path)
        with pytest.raises(InputError, match="checkpoint has no meaning for jpeg"):
            dipfast.denoise(read_image(path).image, jpeg=coding, checkpoint=tmp_path / "c")

    def test_other_pixels_are_refused(self, path: Path) -> None:
        coding = dipfast.JpegCoding.read(path)
        decoded = read_image(path).image
        with pytest.raises(InputError, match="not what the JPEG"):
            dipfast.denoise(decoded[5:], jpeg=coding)
        with pytest.raises(InputError, match="jpeg is for the pixels of a JPEG"):
            dipfast.denoise(decoded / 255.0, jpeg=coding)


class TestCommandLine:
    def test_poor_ones_are_recognised(self, path: Path, capsys: Any) -> None:
        out = path.with_name("out.png")
        assert main(["denoise", str(path), str(out), "--quality", "fast"]) == 0
        text = capsys.readouterr()
        assert "JPEG of quality 15" in text.out + text.err
        assert psnr(read_image(out).image) > psnr(read_image(path).image) + 0.8
        assert json.loads(Path(f"{out}.json").read_text())["found"]["jpeg_quality"] == 15

    def test_good_ones_are_not(self, tmp_path: Path) -> None:
        path, out = tmp_path / "good.jpg", tmp_path / "out.png"
        Image.fromarray(CLEAN).save(path, quality=92)
        assert main(["denoise", str(path), str(out), "--quality", "fast", "--quiet"]) == 0
        assert "jpeg_quality" not in json.loads(Path(f"{out}.json").read_text())["found"]
        again = ["denoise", str(path), str(out), "--jpeg", "yes", "--quality", "fast", "--force"]
        assert main(again) == 0
        assert json.loads(Path(f"{out}.json").read_text())["found"]["jpeg_quality"] == 92

    @pytest.mark.parametrize(
        "words",
        [["--jpeg", "no"], ["--sigma", "5"], ["--method", "nl_ridge"], ["--fill-outliers"]],
        ids=str,
    )
    def test_unless_something_else_is_said(self, path: Path, words: list[str]) -> None:
        out = path.with_name("out.png")
        assert main(["denoise", str(path), str(out), "--quality", "fast", *words]) == 0
        assert "jpeg_quality" not in json.loads(Path(f"{out}.json").read_text())["found"]

    def test_again_with_the_settings_of_a_result(self, path: Path) -> None:
        first, second = path.with_name("a.png"), path.with_name("b.png")
        assert main(["denoise", str(path), str(first), "--quality", "fast"]) == 0
        assert main(["denoise", str(path), str(second), "--settings", f"{first}.json"]) == 0
        np.testing.assert_array_equal(read_image(second).image, read_image(first).image)

    def test_a_checkpoint_asks_for_a_fit(self, path: Path) -> None:
        out = path.with_name("out.png")
        words = ["--checkpoint", str(path.with_name("c.state"))]
        assert main(["denoise", str(path), str(out), "--quiet", *words]) == 0
        assert "jpeg_quality" not in json.loads(Path(f"{out}.json").read_text())["found"]

    def test_tiles_ask_for_a_fit(self, path: Path, capsys: Any) -> None:
        words = ["denoise", str(path), str(path.with_name("out.png")), "--tile", "64"]
        assert main([*words, "--quality", "fast"]) == 2
        assert "JPEG" not in capsys.readouterr().err.replace(str(path), "")

    @pytest.mark.parametrize("name", ["curves", "strip"])
    def test_drawing_what_is_not_there_is_refused(self, path: Path, capsys: Any, name: str) -> None:
        out, drawn = path.with_name("out.png"), path.with_name("drawn.png")
        words = ["denoise", str(path), str(out), "--jpeg", "yes", f"--{name}", str(drawn)]
        assert main(words) == 2
        assert f"--{name} draws iterations" in capsys.readouterr().err
        assert not out.exists()
        assert not drawn.exists()

    def test_other_formats_are_refused(self, tmp_path: Path, capsys: Any) -> None:
        path = tmp_path / "in.png"
        Image.fromarray(CLEAN).save(path)
        assert main(["denoise", str(path), str(tmp_path / "o.png"), "--jpeg", "yes"]) != 0
        assert "--jpeg yes" in capsys.readouterr().err
