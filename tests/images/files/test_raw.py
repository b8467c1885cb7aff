"""Raw photographs of cameras: developed linearly, upright, read and never written."""

from __future__ import annotations

import io
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from tests.images.files.dng import BLACK, WHITE, dng

from dipfast.apps.cli import main
from dipfast.errors import MissingExtraError, UnreadableFileError, UnwritableFileError
from dipfast.images.files import ImageFile, check_output, limits, read_image, write_image
from dipfast.images.files.formats._linear_profile import LINEAR_GREY, LINEAR_SRGB

pytest.importorskip("rawpy", reason="raw photographs need the extra raw")

# What LibRaw says of damaged files goes to standard error, where nobody has to read it.
pytestmark = pytest.mark.filterwarnings("error")


def sensor(light: np.ndarray, black: int = BLACK) -> np.ndarray:
    """Return the numbers of a grey scene, that the sensor sees with the colours of the DNG."""
    pattern = np.ones((2, 2))
    pattern[0, 0], pattern[1, 1] = 1 / 2, 2 / 3
    tiled = np.tile(pattern, (light.shape[0] // 2, light.shape[1] // 2))
    return (black + light * tiled * (WHITE - black)).round().astype(np.uint16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "photo.dng"


def read(path: Path, content: bytes) -> ImageFile:
    path.write_bytes(content)
    return read_image(path)


def refusal(path: Path, content: bytes) -> str:
    with pytest.raises(UnreadableFileError) as caught:
        read(path, content)
    return str(caught.value).removeprefix(f"cannot read {path}: ")


class TestDevelopment:
    def test_numbers_are_proportional_to_light(self, path: Path) -> None:
        levels = (0.05, 0.1, 0.2, 0.4)
        greens = []
        for level in levels:
            source = read(path, dng(sensor(np.full((32, 48), level))))
            assert source.format == "RAW"
            assert source.image.dtype == np.uint16
            assert (source.image.shape, source.channel_axis) == ((32, 48, 3), 2)
            greens.append(source.image[10:20, 10:20].mean(axis=(0, 1)))
        ratios = np.array(greens) / np.array(levels)[:, None]
        np.testing.assert_allclose(ratios / ratios[0], 1, rtol=0.01)

    def test_white_balance_of_the_camera_makes_grey_grey(self, path: Path) -> None:
        means = read(path, dng(sensor(np.full((32, 48), 0.3)))).image[8:24, 8:40].mean(axis=(0, 1))
        # The colours of the light D65 are equal, and those of the scene are near it.
        assert means.max() / means.min() < 1.05
        # Full light would be white: the scale is that of the sensor.
        np.testing.assert_allclose(means / 65535, 0.3, rtol=0.05)

    def test_brightness_is_not_stretched_to_the_brightest_pixel(self, path: Path) -> None:
        dark = np.full((32, 48), 0.05)
        alone = read(path, dng(sensor(dark))).image[4:12, 4:12]
        dark[20:, 20:] = 0.9
        beside = read(path, dng(sensor(dark))).image[4:12, 4:12]
        assert np.array_equal(alone, beside)

    @pytest.mark.parametrize(("orientation", "place"), [(1, 0), (3, 3), (6, 1), (8, 2)])
    def test_it_is_upright(self, path: Path, orientation: int, place: int) -> None:
        light = np.full((32, 48), 0.05)
        light[:10, :10] = 0.8
        pixels = read(path, dng(sensor(light), orientation)).image
        assert pixels.shape == ((32, 48, 3) if orientation in (1, 3) else (48, 32, 3))
        corners = [pixels[y, x].mean() for y in (4, -5) for x in (4, -5)]
        assert int(np.argmax(corners)) == place

    def test_a_sensor_without_colours(self, path: Path) -> None:
        numbers = np.random.default_rng(0).integers(BLACK, WHITE, (32, 48)).astype(np.uint16)
        source = read(path, dng(numbers, pattern=b""))
        assert (source.image.shape, source.channel_axis) == ((32, 48), None)
        expected = (numbers - float(BLACK)) * 65535 / (WHITE - BLACK)
        np.testing.assert_allclose(source.image, expected, atol=2)
        assert source.metadata["icc_profile"] == LINEAR_GREY


class TestMetadata:
    def test_profile_says_that_it_is_linear(self, path: Path) -> None:
        source = read(path, dng(sensor(np.full((32, 48), 0.2))))
        assert source.metadata["icc_profile"] == LINEAR_SRGB
        profile = ImageCms.ImageCmsProfile(io.BytesIO(LINEAR_SRGB))
        assert ImageCms.getProfileDescription(profile).strip() == "Linear sRGB"
        transform: Any = ImageCms.buildTransform(
            profile, ImageCms.createProfile("sRGB"), "RGB", "RGB"
        )
        colours = np.array([[[5, 55, 128], [200, 255, 0]]], np.uint8)
        shown = np.array(ImageCms.applyTransform(Image.fromarray(colours), transform))
        light = colours / 255
        gamma = np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
        np.testing.assert_allclose(shown, 255 * gamma, atol=1.5)

    def test_profile_of_grey(self) -> None:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(LINEAR_GREY))
        assert profile.profile.xcolor_space.strip() == "GRAY"

    @pytest.mark.parametrize("ending", ["tif", "png"])
    def test_result_has_profile_and_camera(self, path: Path, tmp_path: Path, ending: str) -> None:
        source = read(path, dng(sensor(np.full((32, 48), 0.2)), orientation=6))
        out = tmp_path / f"out.{ending}"
        write_image(out, source.image, like=source)
        got = read_image(out)
        assert np.array_equal(got.image, source.image)
        assert got.metadata["icc_profile"] == LINEAR_SRGB
        assert got.metadata["exif"].values()[271][1].startswith(b"Maker")

    @pytest.mark.parametrize("orientation", [1, 3, 6])
    def test_exif_is_that_of_the_upright_picture(self, path: Path, orientation: int) -> None:
        along, across = (struct.pack("<II", each, 1) for each in (1000, 500))
        photo = {0x9214: (3, struct.pack("<2H", 5, 6)), 0xA20E: (5, along), 0xA20F: (5, across)}
        content = dng(sensor(np.full((32, 48), 0.2)), orientation, photo=photo)
        _, inner = read(path, content).metadata["exif"].values()[0x8769]
        turned = (along, across) if orientation < 5 else (across, along)
        assert (inner[0xA20E][1], inner[0xA20F][1]) == turned
        assert (0x9214 in inner) == (orientation == 1)

    def test_damaged_exif_is_named(self, path: Path, tmp_path: Path) -> None:
        content = bytearray(dng(sensor(np.full((32, 48), 0.2))))
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            tag = file.pages.first.tags[50708]  # its length is more than the file
            at = tag.offset + 4
        content[at : at + 4] = (2**31).to_bytes(4, "little")
        source = read(path, bytes(content))
        with pytest.warns(UserWarning, match=r"out\.tif is without: EXIF$"):
            write_image(tmp_path / "out.tif", source.image, like=source)


class TestName:
    def test_the_name_tells_it_from_tiff(self, path: Path, tmp_path: Path) -> None:
        read(path, dng(sensor(np.full((32, 48), 0.2))))
        other = tmp_path / "photo.tif"
        shutil.copy(path, other)
        with pytest.raises(UnreadableFileError, match=r"CFA are not supported; develop .*\.dng"):
            read_image(other)

    def test_a_tiff_of_such_a_name(self, path: Path) -> None:
        stream = io.BytesIO()
        tifffile.imwrite(stream, np.zeros((9, 9, 3), np.uint8), photometric="rgb")
        message = refusal(path, stream.getvalue())
        assert message.endswith("if it is a TIFF, give its name the ending .tif")

    @pytest.mark.parametrize("ending", ["dng", "nef", "CR3", "arw"])
    def test_it_is_not_written(self, tmp_path: Path, ending: str) -> None:
        out = tmp_path / f"out.{ending}"
        image = np.zeros((9, 9, 3), np.uint16)
        message = "RAW cannot hold a result, because it is only read, .* must be named .png or .tif"
        with pytest.raises(UnwritableFileError, match=message):
            write_image(out, image)
        with pytest.raises(UnwritableFileError, match=r"RAW is only read; .* must end in one of"):
            check_output(out)


class TestHostile:
    def test_truncated(self, path: Path) -> None:
        content = dng(sensor(np.full((32, 48), 0.2)))
        for length in range(8, len(content), 97):
            assert refusal(path, content[:length]).startswith("LibRaw ")

    @pytest.mark.parametrize("code", [256, 257])
    def test_declared_size(self, path: Path, code: int) -> None:
        content = bytearray(dng(sensor(np.full((32, 48), 0.2))))
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            at = file.pages.first.tags[code].valueoffset
        content[at : at + 2] = (65000).to_bytes(2, "little")
        assert refusal(path, bytes(content))

    def test_limit(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        content = dng(sensor(np.full((32, 48), 0.2)))
        monkeypatch.setattr(limits, "LARGEST_IMAGE", 32 * 48 * 8 - 1)
        assert "it declares 48 x 32 pixels of 8 bytes" in refusal(path, content)


def test_without_the_extra(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(dng(sensor(np.full((32, 48), 0.2))))
    monkeypatch.setitem(sys.modules, "rawpy", None)
    monkeypatch.delitem(sys.modules, "dipfast.images.files.formats.raw", raising=False)
    with pytest.raises(MissingExtraError, match=r"RAW files need .*pip install 'dipfast\[raw\]'"):
        read_image(path)


def test_command_line(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    light = np.full((64, 64), 0.2) + np.random.default_rng(0).normal(0, 0.02, (64, 64))
    path.write_bytes(dng(sensor(light.clip(0, 1))))
    assert main(["denoise", "photo.dng", "out.tif", "--quality", "fast", "--quiet"]) == 0
    before, after = read_image(path), read_image("out.tif")
    assert after.image.dtype == np.uint16
    assert after.image.std() < before.image.std()
    assert after.metadata["icc_profile"] == LINEAR_SRGB


def test_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    light = np.full((64, 64), 0.2) + np.random.default_rng(0).normal(0, 0.02, (64, 64))
    (tmp_path / "in" / "a.dng").write_bytes(dng(sensor(light.clip(0, 1))))
    assert main(["denoise", "in", "out", "--quality", "fast", "--quiet"]) == 0
    assert read_image("out/a.tif").image.dtype == np.uint16
