"""WebP as image files: pixels, what is beside them, and files that are not what they declare."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from dipfast.errors import UnreadableFileError, UnwritableFileError
from dipfast.images.files import ImageFile, Resolution, limits, read_image, write_image

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def webp(pixels: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", **{"lossless": True, "exact": True, **options})
    return stream.getvalue()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.webp"


def read(path: Path, content: bytes) -> ImageFile:
    path.write_bytes(content)
    return read_image(path)


def refusal(path: Path, content: bytes) -> str:
    with pytest.raises(UnreadableFileError) as caught:
        read(path, content)
    return str(caught.value).removeprefix(f"cannot read {path}: ")


class TestPixels:
    @pytest.mark.parametrize("samples", [3, 4])
    @pytest.mark.parametrize("beside", [{}, {"icc_profile": PROFILE}])
    def test_round_trip(self, path: Path, samples: int, beside: dict[str, bytes]) -> None:
        pixels = random_pixels(33, 27, samples)
        source = read(path, webp(pixels, **beside))
        assert (source.format, source.channel_axis) == ("WebP", 2)
        assert np.array_equal(source.image, pixels[..., :3])
        # Colours are kept where they are fully clear.
        assert (
            source.alpha is None if samples == 3 else np.array_equal(source.alpha, pixels[..., 3])
        )
        out = path.with_name("out.webp")
        write_image(out, source.image, like=source)
        got = read_image(out)
        assert np.array_equal(got.image, source.image)
        assert source.alpha is None or np.array_equal(got.alpha, source.alpha)
        assert got.metadata == source.metadata
        assert np.array_equal(np.asarray(Image.open(out)), pixels)

    @pytest.mark.parametrize("quality", [80, 100])
    def test_lossy(self, path: Path, quality: int) -> None:
        content = webp(random_pixels(33, 27, 3), lossless=False, quality=quality)
        expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        assert np.array_equal(read(path, content).image, expected)

    @pytest.mark.parametrize("opacity", [False, True])
    def test_grey(self, path: Path, opacity: bool) -> None:
        like = ImageFile(random_pixels(9, 8), alpha=random_pixels(9, 8) if opacity else None)
        write_image(path, like.image, like=like)
        got = read_image(path)
        assert got.channel_axis is None
        assert np.array_equal(got.image, like.image)
        assert (got.alpha is not None) == opacity
        assert np.array_equal(np.asarray(Image.open(path).convert("RGB"))[..., 1], like.image)

    def test_grey_with_a_profile_of_colours_stays_colours(self, path: Path) -> None:
        pixels = np.repeat(random_pixels(9, 8, 1), 3, axis=2)
        assert read(path, webp(pixels, icc_profile=PROFILE)).channel_axis == 2
        assert read(path, webp(pixels)).channel_axis is None

    def test_animation(self, path: Path) -> None:
        frames = [Image.fromarray(random_pixels(9, 8, 3) + np.uint8(k)) for k in range(2)]
        stream = io.BytesIO()
        frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:])
        assert refusal(path, stream.getvalue()).startswith("it holds an animation, expected one")

    def test_too_many_rows(self, path: Path) -> None:
        image = np.zeros((16384, 1), np.uint8)
        with pytest.raises(
            UnwritableFileError, match=r"WebP cannot hold 1 x 16384 pixels, .*\.png"
        ):
            write_image(path, image)


class TestBeside:
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_orientation(self, path: Path, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = orientation, "Maker"
        pixels = random_pixels(9, 8, 3)
        source = read(path, webp(pixels, exif=exif.tobytes()))
        png = path.with_name("in.png")
        Image.fromarray(pixels).save(png, exif=exif.tobytes())
        assert np.array_equal(source.image, read_image(png).image)
        out = path.with_name("out.webp")
        write_image(out, source.image, like=source)
        with Image.open(out) as opened:
            kept = opened.getexif()
        assert kept[0x010F] == "Maker"
        assert 0x0112 not in kept

    @pytest.mark.parametrize("unit", ["inch", "cm", "µm", ""])
    def test_resolution(self, path: Path, unit: str) -> None:
        resolution = Resolution.of(30, 20, unit)
        assert resolution is not None
        pixels = random_pixels(9, 8, 3)
        write_image(path, pixels, like=ImageFile(pixels, 2, metadata={"resolution": resolution}))
        got = read_image(path).metadata["resolution"]
        assert got.to("m") == resolution.to("m")

    def test_what_is_not_kept_is_named(self, path: Path) -> None:
        pixels = random_pixels(9, 8)
        grey = bytes(16) + b"GRAY" + bytes(100)
        resolution = Resolution.of(30, 20, "parsec")
        like = ImageFile(pixels, metadata={"icc_profile": grey, "resolution": resolution})
        message = "is without: colour profile, which is one of grey, resolution$"
        with pytest.warns(UserWarning, match=message):
            write_image(path, pixels, like=like)

    def test_damaged_exif(self, path: Path) -> None:
        source = read(path, webp(random_pixels(9, 8, 3), exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))
        assert source.metadata["lost"] == ("EXIF, which is damaged",)


@pytest.mark.parametrize("film", [b"film" * 50, b"EXIF" + bytes(4), b"junk"])
@pytest.mark.parametrize("beside", [{}, {"icc_profile": PROFILE}])
def test_what_is_behind_the_picture_does_not_matter(path: Path, film: bytes, beside: Any) -> None:
    pixels = random_pixels(9, 8, 3)
    source = read(path, webp(pixels, **beside) + film)
    assert np.array_equal(source.image, pixels)
    assert source.metadata == beside


class TestHostile:
    def test_truncated(self, path: Path) -> None:
        content = webp(random_pixels(33, 27, 3), icc_profile=PROFILE)
        for length in range(16, len(content) - 1, 41):
            assert refusal(path, content[:length])

    @pytest.mark.parametrize("beside", [{}, {"icc_profile": PROFILE}])
    @pytest.mark.parametrize("lossless", [False, True])
    def test_limit(
        self, path: Path, beside: Any, lossless: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = webp(random_pixels(30, 40, 3), lossless=lossless, **beside)
        monkeypatch.setattr(limits, "LARGEST_IMAGE", 30 * 40 * 4)
        assert read(path, content).image.shape == (30, 40, 3)
        monkeypatch.setattr(limits, "LARGEST_IMAGE", 30 * 40 * 4 - 1)
        assert refusal(path, content).startswith("it declares 40 x 30 pixels of 4 bytes")

    def test_other_size_than_declared(self, path: Path) -> None:
        content = bytearray(webp(random_pixels(30, 40, 3), icc_profile=PROFILE))
        content[24:27] = struct.pack("<I", 19)[:3]
        assert refusal(path, bytes(content))

    def test_no_pixels(self, path: Path) -> None:
        content = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0" + bytes(6)
        assert "animation" in refusal(path, content)
        assert refusal(path, content[:20] + bytes(10))
        assert "the end is missing" in refusal(path, b"RIFF\x04\0\0\0WEBPVP8 ")


@pytest.mark.parametrize("code", [0x8769, 0x8825])
@pytest.mark.parametrize("ending", ["webp", "tif", "jpg"])
def test_damaged_directories_of_exif(path: Path, code: int, ending: str) -> None:
    tags = Image.Exif()
    tags[0x010F] = "Maker"
    tags.get_ifd(0x8769)[0x9003] = "2024:02:29 12:00:00"
    tags.get_ifd(0x8825)[0x1D] = "2024:02:29"
    content = bytearray(tags.tobytes())
    # Where the directory is has its tag, which is followed by type, number and place.
    order = "<" if content[6:8] == b"II" else ">"
    at = content.index(struct.pack(f"{order}HHI", code, 4, 1)) + 8
    (place,) = struct.unpack_from(f"{order}I", content, at)
    struct.pack_into(f"{order}I", content, 6 + place + 2 + 4, 2**20)
    source = read(path, webp(random_pixels(9, 8, 3), exif=bytes(content)))
    out = path.with_name(f"out.{ending}")
    if code == 0x8825 and ending != "tif":  # it is kept as it is
        write_image(out, source.image, like=source)
    else:
        with pytest.warns(UserWarning, match="is without: .*, which is damaged$"):
            write_image(out, source.image, like=source)
    assert np.abs(read_image(out).image.astype(int) - source.image).mean() < 30
