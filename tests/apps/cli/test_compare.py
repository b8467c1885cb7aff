"""``dipfast compare``: figures of files against each other, and their picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from dipfast.apps.cli import main
from dipfast.images.files import ImageFile, read_image, write_image

RANDOM = np.random.default_rng(2)
CLEAN = RANDOM.integers(40, 200, (24, 30, 3)).astype(np.uint8)
OTHER = (CLEAN + RANDOM.integers(-9, 10, CLEAN.shape)).astype(np.uint8)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_image("clean.png", CLEAN)
    write_image("other.png", OTHER)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what is wrong."""
    assert main(["compare", *arguments]) == 2
    return capsys.readouterr().err


def reports(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict]:
    assert main(["compare", *arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_figures_are_those_of_another_library(capsys: pytest.CaptureFixture[str]) -> None:
    (report,) = reports(capsys, "clean.png", "other.png")
    assert report["psnr"] == pytest.approx(peak_signal_noise_ratio(CLEAN, OTHER), abs=1e-9)
    expected = structural_similarity(
        CLEAN,
        OTHER,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert report["ssim"] == pytest.approx(expected, abs=1e-6)
    difference = OTHER.astype(float) - CLEAN
    assert report["rms"] == pytest.approx(np.sqrt(np.mean(difference**2)))
    assert report["mean"] == pytest.approx(difference.mean())
    row, column = report["place"]
    assert report["largest"] in difference[row, column]
    assert abs(report["largest"]) == abs(difference).max()


def test_several_against_a_clean_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "other.png", "clean.png", "--reference", "clean.png"]) == 0
    other, clean, about = capsys.readouterr().out.splitlines()
    assert other.startswith("other.png: PSNR ")
    assert ", SSIM 0." in other
    assert clean == "clean.png: equal, to the last bit of every value"
    assert about == "against clean.png; range 255 (of 8 bits)"


@pytest.mark.parametrize(
    ("values", "width"),
    [
        (np.array([[0, 4095]], np.uint16), 4095),
        (np.array([[0, 60000]], np.uint16), 65535),
        (np.array([[0.1, 0.9]], np.float32), 1),
        (np.array([[3, 103]], np.float32), 100),
    ],
)
def test_the_range_is_found_and_told(
    capsys: pytest.CaptureFixture[str], values: np.ndarray, width: float
) -> None:
    image = np.tile(values, (12, 6))
    write_image("a.tif", image)
    write_image("b.tif", image)
    (report,) = reports(capsys, "a.tif", "b.tif")
    assert report["data_range"] == pytest.approx(width)
    assert report["psnr"] is None
    (report,) = reports(capsys, "a.tif", "b.tif", "--data-range", "-5,507")
    assert report["data_range"] == 512


def test_values_that_are_not_finite_do_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    a = np.zeros((20, 20), np.float32)
    a[:, 10:] = 1
    b = a + np.float32(0.25)
    b[0, :4] = np.nan
    write_image("a.tif", a)
    write_image("b.tif", b)
    assert main(["compare", "a.tif", "b.tif"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert "PSNR 12.04 dB, no SSIM (some values are not finite)" in line
    assert "1.00% of the values are not finite" in line


def test_opacity_is_said_not_to_count(capsys: pytest.CaptureFixture[str]) -> None:
    opacity = np.full((24, 30, 1), 99, np.uint8)
    write_image("clear.png", np.dstack([CLEAN, opacity]))
    assert main(["compare", "clean.png", "clear.png"]) == 0
    assert capsys.readouterr().out.endswith("; opacity does not count\n")


def test_small_pictures_have_no_ssim(capsys: pytest.CaptureFixture[str]) -> None:
    write_image("a.png", CLEAN[:5, :5])
    write_image("b.png", OTHER[:5, :5])
    assert main(["compare", "a.png", "b.png"]) == 0
    assert "no SSIM (the images are smaller than its window" in capsys.readouterr().out


def test_picture(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", "clean.png", "other.png", "--picture", "both.png"]
    assert main(arguments) == 0
    drawn = read_image("both.png").image
    # Both pictures are in it, one beside the other, below their names.
    np.testing.assert_array_equal(drawn[20:44, :30], CLEAN)
    np.testing.assert_array_equal(drawn[20:44, 38:68], OTHER)
    # Where they are equal, their difference is grey.
    equal = (CLEAN == OTHER).all(axis=2)
    below = drawn[-32:-8, 38:68]
    assert set(np.unique(below[equal])) <= {127, 128}
    assert below.std() > 20
    assert main(arguments) == 2
    assert "both.png exists already" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0


def test_picture_has_the_range_that_was_told() -> None:
    values = np.linspace(-2048, 1000, 24 * 30).reshape(24, 30).astype(np.float32)
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(name, values)
    arguments = ["compare", "a.tif", "b.tif", "--data-range=-1000,1000", "--picture", "ct.png"]
    assert main(arguments) == 0
    drawn = read_image("ct.png").image[20:44, :30, 0]
    expected = (255 * (values + 1000) / 2000).clip(0, 255)
    assert np.abs(drawn - expected).max() <= 1


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(-32768, 32767, "int16"), (-0.5, 0.5, "float32"), (1000, 1255, "uint16")],
)
def test_black_is_the_least_value_where_the_range_is_found(
    low: float, high: float, dtype: str
) -> None:
    # Ranges as wide as usual ones, which begin at 0.
    values = np.linspace(low, high, 24 * 30).reshape(24, 30).astype(dtype)
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(name, values)
    assert main(["compare", "a.tif", "b.tif", "--picture", "both.png"]) == 0
    drawn = read_image("both.png").image[20:44, :30, 0]
    expected = 255 * (values.astype(float) - low) / (high - low)
    assert np.abs(drawn - expected).max() <= 1


def test_stacks(capsys: pytest.CaptureFixture[str]) -> None:
    clean = np.stack([CLEAN[..., k] for k in range(3)] * 2)
    other = clean.copy()
    other[4, 7, 9] += 50
    for name, stack in (("a.tif", clean), ("b.tif", other)):
        tifffile.imwrite(name, stack, photometric="minisblack")
    (report,) = reports(capsys, "a.tif", "b.tif")
    assert report["place"] == [4, 7, 9]
    each = [
        structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        )
        for a, b in zip(clean, other)
    ]
    assert report["ssim"] == pytest.approx(np.mean(each), abs=1e-6)
    assert main(["compare", "a.tif", "b.tif", "--picture", "both.png"]) == 0
    assert "at row 7, column 9 of plane 4" in capsys.readouterr().out
    tifffile.imwrite("short.tif", clean[:2], photometric="minisblack")
    assert "short.tif holds 2 planes, and a.tif holds 6 planes" in told(
        capsys, "a.tif", "short.tif"
    )


def test_numbers_of_fewer_bits_are_stretched_beside_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A PNG of 10 bits fills 16, and TIFF, NumPy, AVIF and HEIC have the numbers as they are."""
    numbers = np.random.default_rng(0).integers(0, 1024, CLEAN.shape, dtype=np.uint16)
    like = ImageFile(numbers, 2, metadata={"bits": 10})
    for name in ("10.tif", "10.npy", "10.png"):
        write_image(name, numbers, like=like)
    for pair in (("10.tif", "10.png"), ("10.png", "10.tif"), ("10.tif", "10.npy")):
        (report,) = reports(capsys, *pair)
        assert report["rms"] == 0
        assert report["data_range"] == (65535 if "10.png" in pair else int(numbers.max()))
    for report in reports(capsys, "10.npy", "10.png", "10.tif"):
        assert report["rms"] == 0
    assert main(["compare", "10.png", "10.tif"]) == 0
    assert "numbers of 10 bits are stretched to 16" in capsys.readouterr().out
    # Numbers that are said to be in one unit are left as they are.
    (report,) = reports(capsys, "10.tif", "10.png", "--data-range", "65535")
    assert report["rms"] > 1000


def test_numbers_a_little_beyond_white_are_in_the_same_unit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    numbers = np.full(CLEAN.shape, 4000, np.uint16)
    numbers[:4] = 4095
    like = ImageFile(numbers, 2, metadata={"bits": 12})
    write_image("12.tif", numbers, like=like)
    write_image("noisy.tif", numbers + np.uint16(60), like=like)
    (report,) = reports(capsys, "12.tif", "noisy.tif")
    assert report["rms"] == 60


def test_what_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "two images are needed" in told(capsys, "clean.png")
    write_image("small.png", CLEAN[:10])
    assert "small.png has 30 x 10 pixels, expected 30 x 24" in told(
        capsys, "clean.png", "small.png"
    )
    write_image("grey.png", CLEAN[..., 0])
    assert "grey.png has 1 channels and clean.png has 3" in told(capsys, "clean.png", "grey.png")
    write_image("deep.tif", CLEAN.astype(np.uint16))
    assert "--data-range says" in told(capsys, "clean.png", "deep.tif")
    (report,) = reports(capsys, "clean.png", "deep.tif", "--data-range", "255")
    assert report["rms"] == 0
    assert "--picture would overwrite" in told(
        capsys, "clean.png", "other.png", "--picture", "other.png", "--force"
    )
