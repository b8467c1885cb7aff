"""``dipfast tv``: total variation of files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from dipfast import ops
from dipfast.apps.cli import main
from dipfast.images.files import ImageFile, read_image, write_image

SIGMA = 20


def clean(channels: int = 0) -> np.ndarray:
    """Return a picture of flat parts."""
    image = np.full((32, 40, channels or 1), 60, np.uint8)
    image[8:24, 10:30] = 180
    return image if channels else image[..., 0]


def noisy(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, SIGMA, image.shape)
    return (image + noise).round().clip(0, 255).astype(np.uint8)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "grey.png", noisy(clean()))
    write_image(tmp_path / "colour.png", noisy(clean(3)))
    write_image(tmp_path / "clean.png", clean())
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what is wrong."""
    assert main(["tv", *arguments]) == 2
    return capsys.readouterr().err


def test_noise_goes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tv", "grey.png", "out.png", "--reference", "clean.png"]) == 0
    line = capsys.readouterr().out
    assert line.startswith("out.png: isotropic total variation, noise ")
    before, after = (float(part) for part in line.rpartition("PSNR ")[2][:-4].split(" -> "))
    assert before < 23
    assert after > before + 6
    result, truth = read_image("out.png").image, clean()
    assert after == pytest.approx(float(ops.psnr(result, truth)), abs=0.006)


def test_a_disk_that_is_full(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("65536 requested and 12232 written")  # as numpy.ndarray.tofile says it

    write_image("in.tif", noisy(clean()))
    monkeypatch.setattr(tifffile, "imwrite", full)
    assert main(["tv", "in.tif", "out.tif"]) == 1
    assert capsys.readouterr().err == (
        "dipfast: error: out.tif could not be written: only a part of it could be written; "
        "the disk may be full\n"
    )
    assert not [path for path in Path().iterdir() if "out" in path.name or path.name[0] == "."]


def test_what_was_assumed_of_the_reference_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("clean.npy", np.moveaxis(clean(3), -1, 0))
    assert main(["tv", "colour.png", "out.png", "--reference", "clean.npy"]) == 0
    assert "clean.npy: shape (3, 32, 40): the first axis is taken" in capsys.readouterr().out


def test_floats_are_in_one_unit() -> None:
    write_image("32.tif", noisy(clean()).astype(np.float32))
    np.save("64.npy", clean().astype(np.float64))
    assert main(["tv", "32.tif", "out.tif", "--reference", "64.npy"]) == 0


@pytest.mark.parametrize("ending", ["tif", "png"])
def test_a_reference_of_other_depth_is_in_the_unit_of_the_picture(
    ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A PNG of 10 bits fills 16, where a TIFF has the numbers as they are."""
    depth = {"bits": 10}
    for name, image in (("10", noisy(clean())), ("clean", clean())):
        numbers = image.astype(np.uint16) * 4
        for suffix in ("tif", "png"):
            like = ImageFile(numbers, metadata=depth)
            write_image(f"{name}.{suffix}", numbers, like=like, overwrite=True)
    other = "png" if ending == "tif" else "tif"
    ratios = []
    for reference in (ending, other):
        arguments = [f"10.{ending}", f"out.{ending}", "--reference", f"clean.{reference}"]
        assert main(["tv", *arguments, "--json", "--force"]) == 0
        found = json.loads(capsys.readouterr().out)
        ratios.append((found["psnr_input"], found["psnr"]))
    assert ratios[0] == pytest.approx(ratios[1], abs=0.01)


def test_is_the_function_of_the_library() -> None:
    options = ["--weight", "30", "--kind", "anisotropic"]
    assert main(["tv", "grey.png", "out.png", *options]) == 0
    expected = ops.tv_denoise(noisy(clean()).astype(float), 30.0, kind="anisotropic")
    np.testing.assert_array_equal(read_image("out.png").image, expected.round())


def test_colours_are_joined(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tv", "colour.png", "out.png", "--weight", "30", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["joint_channels"] is True
    assert report["weight"] == 30
    assert report["gap"] <= 1e-4
    values = noisy(clean(3)).astype(float)
    expected = ops.tv_denoise(values, 30.0, channel_axis=-1, joint_channels=True)
    np.testing.assert_array_equal(read_image("out.png").image, expected.round())


def test_narrow_pictures_have_no_channels() -> None:
    """Three columns are no colours."""
    write_image("narrow.png", noisy(clean())[:, :3])
    assert main(["tv", "narrow.png", "out.png", "--weight", "30"]) == 0
    values = noisy(clean())[None, :, :3].astype(float)
    expected = ops.tv_denoise(values, 30.0, channel_axis=0)[0]
    np.testing.assert_array_equal(read_image("out.png").image, expected.round())


def test_type_and_opacity_are_kept() -> None:
    opacity = np.arange(32 * 40, dtype=np.uint8).reshape(32, 40)
    Image.fromarray(np.dstack([noisy(clean(3)), opacity])).save("clear.png")
    assert main(["tv", "clear.png", "out.png"]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open("out.png"))[..., 3], opacity)
    write_image("deep.tif", noisy(clean()).astype(np.uint16) * 257)
    assert main(["tv", "deep.tif", "deep-out.tif"]) == 0
    assert read_image("deep-out.tif").image.dtype == np.uint16


def test_an_end_before_the_tolerance_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tv", "grey.png", "out.png", "--max-num-iter", "2"]) == 0
    assert "(--max-num-iter)" in capsys.readouterr().out


def test_what_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--weight must be finite and not negative" in told(
        capsys, "grey.png", "out.png", "--weight", "-1"
    )
    both = ("grey.png", "out.png", "--weight", "5", "--sigma", "3")
    assert "not both of --weight and --sigma" in told(capsys, *both)
    np.save("large.npy", np.full((9, 9), 2**63 - 1) - np.arange(81).reshape(9, 9))
    assert "IN must hold integers up to 2**53" in told(capsys, "large.npy", "out.npy")
    assert "does not read standard input" in told(capsys, "-", "out.png")
    assert "is IN itself" in told(capsys, "grey.png", "grey.png")
    assert "clean.png exists already" in told(capsys, "grey.png", "clean.png")
    overwriting = ("grey.png", "clean.png", "--reference", "clean.png", "--force")
    assert "OUT would overwrite clean.png" in told(capsys, *overwriting)
    write_image("16.tif", clean().astype(np.uint16) * 257)
    other_unit = ("16.tif", "out.tif", "--reference", "clean.png")
    assert "is uint8 and 16.tif is uint16" in told(capsys, *other_unit)
    write_image("two.tif", clean(2), channel_axis=2)
    of_two = ("colour.png", "out.png", "--reference", "two.tif")
    assert "has shape (32, 40, 2), and colour.png has (32, 40, 3)" in told(capsys, *of_two)
    holes = clean().astype(np.float32)
    holes[3, 4] = np.nan
    write_image("holes.tif", holes)
    assert "IN has values that are NaN" in told(capsys, "holes.tif", "out.tif")
    assert not Path("out.png").exists()
    assert not Path("out.tif").exists()


def test_stacks_are_so_many_pictures() -> None:
    planes = [noisy(clean()), noisy(clean())[::-1]]
    tifffile.imwrite("stack.tif", np.stack(planes), photometric="minisblack")
    assert main(["tv", "stack.tif", "out.tif", "--weight", "30"]) == 0
    for plane, result in zip(planes, tifffile.imread("out.tif")):
        write_image("plane.png", plane, overwrite=True)
        assert main(["tv", "plane.png", "one.png", "--weight", "30", "--force"]) == 0
        np.testing.assert_array_equal(result, read_image("one.png").image)
