"""Image files: pixels and metadata, refusals, and results that are written whole or not at all."""

from __future__ import annotations

import errno
import importlib
import io
import os
import stat
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from dipfast.errors import UnreadableFileError, UnwritableFileError
from dipfast.images import files
from dipfast.images.files import (
    ImageFile,
    check_output,
    read_image,
    safe,
    write_atomically,
    write_image,
)
from dipfast.images.files.formats import jpeg, png, tiff
from dipfast.images.files.image_file import Resolution

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def random_pixels(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if "float" in dtype:
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def smooth_pixels() -> np.ndarray:
    """Return a picture that JPEG hardly changes."""
    rows, columns = np.mgrid[0:24, 0:32]
    return np.stack([8 * columns, 10 * rows, 128 + 0 * rows], axis=-1).clip(0, 255).astype(np.uint8)


def exif() -> bytes:
    tags = Image.Exif()
    tags[0x010E] = "a picture of noise"
    tags[0x010F] = "Maker"
    return tags.tobytes()


def with_chunk(png: bytes, name: bytes, data: bytes) -> bytes:
    """Return a PNG with one more chunk after the header."""
    check = struct.pack(">I", zlib.crc32(name + data))
    return png[:33] + struct.pack(">I", len(data)) + name + data + check + png[33:]


def open_pixels(path: Path) -> tuple[str, np.ndarray]:
    """Return mode and pixels of an image as Pillow reads them."""
    with Image.open(path) as image:
        return image.mode, np.array(image)


@pytest.fixture
def unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in which no file can be made."""
    folder = tmp_path / "unwritable"
    folder.mkdir()
    if os.name == "posix" and os.geteuid() != 0:
        folder.chmod(0o555)
        return folder

    # Root may write anywhere, so the error is simulated.
    def refuse(into: Path) -> None:
        assert into == folder
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(safe, "_make_a_file", refuse)
    return folder


class TestPng:
    @pytest.mark.parametrize(
        ("mode", "shape"),
        [("L", (9, 7)), ("LA", (9, 7, 2)), ("RGB", (9, 7, 3)), ("RGBA", (9, 7, 4))],
    )
    def test_8_bit(self, tmp_path: Path, mode: str, shape: tuple[int, ...]) -> None:
        pixels = random_pixels(shape)
        Image.fromarray(pixels).save(tmp_path / "in.png")
        source = read_image(tmp_path / "in.png")
        colours = pixels[..., :3] if len(mode) > 2 else pixels.reshape(9, 7, -1)[..., 0]
        assert np.array_equal(source.image, colours)
        assert source.channel_axis == (2 if "RGB" in mode else None)
        assert (source.alpha is not None) == ("A" in mode)
        write_image(tmp_path / "out.png", 255 - source.image, like=source)
        expected = 255 - pixels
        if "A" in mode:
            assert np.array_equal(source.alpha, pixels[..., -1])
            expected[..., -1] = pixels[..., -1]
        got_mode, got = open_pixels(tmp_path / "out.png")
        assert got_mode == mode
        assert np.array_equal(got, expected)

    @pytest.mark.parametrize("shape", [(9, 7), (9, 7, 2), (9, 7, 3), (9, 7, 4), (1, 1), (1, 1, 3)])
    def test_16_bit(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        pixels = random_pixels(shape, "uint16")
        (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(pixels))
        source = read_image(tmp_path / "in.png")
        alpha = shape[2:] in [(2,), (4,)]
        assert source.image.dtype == np.uint16
        assert (source.alpha is not None) == alpha
        write_image(tmp_path / "out.png", source.image[::-1], like=source)
        expected = pixels[::-1].copy()
        if alpha:
            assert np.array_equal(source.alpha, pixels[..., -1])
            expected[..., -1] = pixels[..., -1]
        got = imagecodecs.png_decode((tmp_path / "out.png").read_bytes())
        assert got.dtype == np.uint16
        assert np.array_equal(got, expected)

    def test_16_bit_grey_for_another_reader(self, tmp_path: Path) -> None:
        pixels = random_pixels((9, 7), "uint16")
        write_image(tmp_path / "out.png", pixels)
        mode, got = open_pixels(tmp_path / "out.png")
        assert mode.startswith("I;16")
        assert np.array_equal(got, pixels)

    @pytest.mark.parametrize("shape", [(9, 7, 2), (9, 7, 4)])
    def test_the_last_of_2_or_4_channels_is_opacity(
        self, tmp_path: Path, shape: tuple[int, ...]
    ) -> None:
        pixels = random_pixels(shape)
        write_image(tmp_path / "out.png", np.moveaxis(pixels, -1, 0), channel_axis=0)
        assert np.array_equal(open_pixels(tmp_path / "out.png")[1], pixels)

    def test_palette(self, tmp_path: Path) -> None:
        pixels = random_pixels((9, 7, 3)) // 128 * 255
        image = Image.fromarray(pixels).convert("P", palette=Image.Palette.ADAPTIVE)
        image.save(tmp_path / "palette.png")
        assert open_pixels(tmp_path / "palette.png")[0] == "P"
        source = read_image(tmp_path / "palette.png")
        assert np.array_equal(source.image, pixels)
        assert source.alpha is None

    @pytest.mark.parametrize(
        ("mode", "transparency", "shape"),
        [("P", 3, (9, 7, 3)), ("L", 3, (9, 7)), ("RGB", (3, 3, 3), (9, 7, 3))],
    )
    def test_transparent_colour(
        self, tmp_path: Path, mode: str, transparency: Any, shape: tuple[int, ...]
    ) -> None:
        numbers = np.arange(63, dtype=np.uint8).reshape(9, 7)
        image = Image.fromarray(np.dstack([numbers] * 3) if mode == "RGB" else numbers)
        if mode == "P":
            image.putpalette([level for level in range(256) for _ in range(3)])
        image.save(tmp_path / "in.png", transparency=transparency)
        source = read_image(tmp_path / "in.png")
        assert source.image.shape == shape
        assert np.array_equal(source.image.reshape(9, 7, -1)[..., 0], numbers)
        assert np.array_equal(source.alpha, np.where(numbers == 3, 0, 255))

    def test_1_bit(self, tmp_path: Path) -> None:
        bits = random_pixels((9, 7)) > 127
        Image.fromarray(bits).save(tmp_path / "bits.png")
        assert open_pixels(tmp_path / "bits.png")[0] == "1"
        source = read_image(tmp_path / "bits.png")
        assert source.image.dtype == np.uint8
        assert np.array_equal(source.image, bits * 255)

    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    def test_metadata(self, tmp_path: Path, dtype: str) -> None:
        beside = {"icc_profile": ICC, "exif": exif(), "dpi": (300, 150)}
        Image.fromarray(random_pixels((9, 7), dtype)).save(tmp_path / "in.png", **beside)
        source = read_image(tmp_path / "in.png")
        assert source.image.dtype == dtype
        write_image(tmp_path / "out.png", source.image, like=source)
        with Image.open(tmp_path / "out.png") as image:
            assert image.info["icc_profile"] == ICC
            assert image.getexif() == {0x010E: "a picture of noise", 0x010F: "Maker"}
            assert image.info["dpi"] == pytest.approx((300, 150), rel=1e-3)
        assert np.array_equal(read_image(tmp_path / "out.png").image, source.image)

    def test_metadata_after_the_pixels(self, tmp_path: Path) -> None:
        stream = io.BytesIO()
        Image.fromarray(random_pixels((9, 7))).save(stream, "PNG", exif=exif())
        png = stream.getvalue()
        start = png.index(b"eXIf") - 4
        end = start + 12 + int.from_bytes(png[start : start + 4], "big")
        last = png.index(b"IEND") - 4
        (tmp_path / "in.png").write_bytes(png[:start] + png[end:last] + png[start:end] + png[last:])
        source = read_image(tmp_path / "in.png")
        write_image(tmp_path / "out.png", source.image, like=source)
        with Image.open(tmp_path / "out.png") as image:
            assert image.getexif()[0x010E] == "a picture of noise"

    @pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (1, 5, 3)])
    def test_one_row_or_column_of_a_view(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        for turned in (
            lambda array: array[::-1, ::-1],
            lambda array: array[::-1, ::-1].swapaxes(0, 1),
        ):
            pixels = turned(random_pixels(shape))
            write_image(tmp_path / "out.png", pixels, overwrite=True)
            assert np.array_equal(open_pixels(tmp_path / "out.png")[1], pixels)

    @pytest.mark.parametrize("name", [b"tEXt", b"zTXt"])
    @pytest.mark.parametrize("depth", ["uint8", "uint16"])
    def test_exif_in_a_text(self, tmp_path: Path, name: bytes, depth: str) -> None:
        tags = Image.Exif()
        tags[0x010F], tags[0x0112], tags[282], tags[283] = "Maker", 6, 300.0, 200.0
        data = b"Exif\0\0" + tags.tobytes().removeprefix(b"Exif\0\0")
        text = f"\nexif\n{len(data):8}\n{data.hex()}\n".encode()
        if name == b"zTXt":
            text = b"\0" + zlib.compress(text)
        content = bytes(imagecodecs.png_encode(random_pixels((9, 7), depth)))
        content = with_chunk(content, name, b"Raw profile type exif\0" + text)
        (tmp_path / "in.png").write_bytes(content)
        source = read_image(tmp_path / "in.png")
        assert source.image.shape == (7, 9)
        assert source.metadata["resolution"] == Resolution.of(200, 300, "inch")
        write_image(tmp_path / "out.png", source.image, like=source)
        with Image.open(tmp_path / "out.png") as image:
            assert image.getexif()[0x010F] == "Maker"
            assert 0x0112 not in image.getexif()

    @pytest.mark.parametrize("text", [b"EXIF", b"\nexif\n 4\nabcx", b"\nexif\n 4\n00000000"])
    def test_damaged_exif_in_a_text(self, tmp_path: Path, text: bytes) -> None:
        content = bytes(imagecodecs.png_encode(random_pixels((9, 7))))
        content = with_chunk(content, b"tEXt", b"Raw profile type exif\0" + text)
        (tmp_path / "in.png").write_bytes(content)
        source = read_image(tmp_path / "in.png")
        with pytest.warns(UserWarning, match="is without: EXIF, which is damaged$"):
            write_image(tmp_path / "out.png", source.image, like=source)

    def test_big_endian(self, tmp_path: Path) -> None:
        pixels = random_pixels((9, 7), "uint16")
        write_image(tmp_path / "out.png", pixels.astype(">u2"))
        assert np.array_equal(read_image(tmp_path / "out.png").image, pixels)


class TestJpeg:
    @pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG"])
    @pytest.mark.parametrize("grey", [True, False])
    def test_pixels(self, tmp_path: Path, grey: bool, suffix: str) -> None:
        pixels = smooth_pixels()[..., 0] if grey else smooth_pixels()
        path = tmp_path / f"out{suffix}"
        write_image(path, pixels)
        mode, _ = open_pixels(path)
        assert mode == ("L" if grey else "RGB")
        source = read_image(path)
        assert source.image.shape == pixels.shape
        assert source.channel_axis == (None if grey else 2)
        assert np.abs(source.image.astype(int) - pixels).max() < 12

    def test_metadata(self, tmp_path: Path) -> None:
        beside = {"icc_profile": ICC, "exif": exif(), "dpi": (300, 150)}
        Image.fromarray(smooth_pixels()).save(tmp_path / "in.jpg", **beside)
        source = read_image(tmp_path / "in.jpg")
        for name in ("out.jpg", "out.png"):
            write_image(tmp_path / name, source.image, like=source)
            with Image.open(tmp_path / name) as image:
                assert image.info["icc_profile"] == ICC
                assert image.getexif() == {0x010E: "a picture of noise", 0x010F: "Maker"}
                assert image.info["dpi"] == pytest.approx((300, 150), rel=1e-3)

    def test_what_is_behind_the_picture_is_no_scan(self, tmp_path: Path) -> None:
        write_image(tmp_path / "photo.jpg", smooth_pixels())
        photo = (tmp_path / "photo.jpg").read_bytes()
        film = b"\xff\xda\0\x08" * 200
        preview = b"\xff\xe2" + struct.pack(">H", 2 + len(film)) + film
        (tmp_path / "with film.jpg").write_bytes(photo[:2] + preview + photo[2:] + film)
        expected = read_image(tmp_path / "photo.jpg").image
        assert np.array_equal(read_image(tmp_path / "with film.jpg").image, expected)

    @pytest.mark.parametrize("ending", [b"\xff\xd9", b""])
    @pytest.mark.parametrize("damage", [b"", b"\xff\xe2\0\0", b"\xff\xff", b"\xff\x02\x7f\xfd"])
    def test_damage_hides_no_scans(self, tmp_path: Path, damage: bytes, ending: bytes) -> None:
        stream = io.BytesIO()
        Image.fromarray(smooth_pixels()).save(stream, "JPEG", restart_marker_blocks=1)
        photo = stream.getvalue()
        scan = photo[photo.rindex(b"\xff\xda") : -2]
        (tmp_path / "in.jpg").write_bytes(photo[:-2] + damage + scan * 101 + ending)
        with pytest.raises(UnreadableFileError, match="JPEG of 102 scans, expected 100 at most"):
            read_image(tmp_path / "in.jpg")

    def test_cmyk(self, tmp_path: Path) -> None:
        inks = np.random.default_rng(0).integers(0, 256, (8, 8, 4)).astype(np.uint8)
        inks = inks.repeat(8, axis=0).repeat(8, axis=1)
        image = Image.frombytes("CMYK", (64, 64), inks.tobytes())
        image.save(tmp_path / "in.jpg", quality=100)
        source = read_image(tmp_path / "in.jpg")
        assert source.channel_axis == 2
        assert source.jpeg is None
        resolution = Resolution.of(300, 150, "inch")
        like = replace(source, metadata={**source.metadata, "resolution": resolution})
        for name, mode in (("out.jpg", "CMYK"), ("out.tif", "CMYK")):
            write_image(tmp_path / name, source.image, like=like)
            again = read_image(tmp_path / name)
            assert again.metadata["inks"]
            assert again.metadata["resolution"] == resolution
            assert np.abs(again.image - source.image.astype(int)).max() <= 3
            with Image.open(tmp_path / name) as image:
                assert image.mode == mode
                assert np.abs(np.asarray(image) - source.image.astype(int)).max() <= 3
        with pytest.raises(UnwritableFileError, match=r"PNG cannot hold 4 channels.*\.jpg or"):
            write_image(tmp_path / "out.png", source.image, like=source)
        # Without a file that says so, four channels are no inks.
        with pytest.raises(UnwritableFileError, match="JPEG cannot hold transparency"):
            write_image(tmp_path / "other.jpg", source.image)


DTYPES = ["uint8", "uint16", "float16", "float32", "float64", "int8", "int16", "int32", "uint32"]


class TestTiff:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(
        ("shape", "axis", "photometric"),
        [
            ((9, 7), None, "MINISBLACK"),
            ((1, 1), None, "MINISBLACK"),
            ((9, 7, 3), 2, "RGB"),
            ((9, 7, 3), -1, "RGB"),
            ((3, 9, 7), 0, "RGB"),
            ((5, 9, 7), 0, "MINISBLACK"),
            ((5, 1, 1), 0, "MINISBLACK"),
            ((9, 7, 2), 2, "MINISBLACK"),
            ((9, 4, 7), 1, "MINISBLACK"),
        ],
    )
    def test_arrays(
        self,
        tmp_path: Path,
        dtype: str,
        shape: tuple[int, ...],
        axis: int | None,
        photometric: str,
    ) -> None:
        pixels = random_pixels(shape, dtype)
        write_image(tmp_path / "out.tif", pixels, channel_axis=axis)
        source = read_image(tmp_path / "out.tif")
        assert source.image.dtype == dtype
        if axis is None:
            assert source.channel_axis is None
            assert np.array_equal(source.image, pixels)
        else:
            channels_first = np.moveaxis(source.image, source.channel_axis, 0)
            assert np.array_equal(channels_first, np.moveaxis(pixels, axis, 0))
        with tifffile.TiffFile(tmp_path / "out.tif") as tiff:
            assert tiff.pages.first.photometric.name == photometric

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    @pytest.mark.parametrize(
        ("shape", "options", "axes"),
        [
            ((9, 7), {"photometric": "minisblack"}, "YX"),
            ((9, 7, 3), {"photometric": "rgb"}, "YXS"),
            ((3, 9, 7), {"photometric": "minisblack", "metadata": {"axes": "CYX"}}, "CYX"),
            ((5, 9, 7), {"photometric": "minisblack", "metadata": {"axes": "CYX"}}, "CYX"),
            ((5, 9, 7), {"imagej": True, "metadata": {"axes": "CYX"}}, "CYX"),
            ((5, 9, 7), {"ome": True, "metadata": {"axes": "CYX"}}, "CYX"),
            ((9, 7), {"photometric": "minisblack", "compression": "lzw"}, "YX"),
            ((9, 7, 3), {"photometric": "rgb", "compression": "zlib"}, "YXS"),
            ((5, 9, 7), {"ome": True, "compression": "zstd", "metadata": {"axes": "CYX"}}, "CYX"),
        ],
    )
    def test_files(
        self,
        tmp_path: Path,
        dtype: str,
        shape: tuple[int, ...],
        options: dict[str, Any],
        axes: str,
    ) -> None:
        pixels = random_pixels(shape, dtype)
        tifffile.imwrite(tmp_path / "in.tif", pixels, **options)
        source = read_image(tmp_path / "in.tif")
        assert np.array_equal(source.image, pixels)
        assert source.channel_axis == (None if axes == "YX" else max(axes.find(c) for c in "SC"))
        assert source.alpha is None
        write_image(tmp_path / "out.tif", source.image[..., ::-1, :], like=source)
        with tifffile.TiffFile(tmp_path / "out.tif") as tiff:
            assert tiff.series[0].axes == axes
            assert (tiff.pages.first.compression != 1) == ("compression" in options)
            assert tiff.pages.first.dtype == dtype
            assert np.array_equal(tiff.asarray(), pixels[..., ::-1, :])

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    @pytest.mark.parametrize("kind", ["unassalpha", "unspecified"])
    @pytest.mark.parametrize("planar", ["contig", "separate"])
    def test_rgba(self, tmp_path: Path, dtype: str, kind: str, planar: str) -> None:
        pixels = random_pixels((9, 7, 4), dtype)
        stored = pixels if planar == "contig" else np.moveaxis(pixels, -1, 0)
        options = {"photometric": "rgb", "planarconfig": planar, "extrasamples": [kind]}
        tifffile.imwrite(tmp_path / "in.tif", stored, **options)
        source = read_image(tmp_path / "in.tif")
        assert np.array_equal(source.image, pixels[..., :3])
        assert np.array_equal(source.alpha, pixels[..., 3])
        write_image(tmp_path / "out.tif", source.image[::-1], like=source)
        with tifffile.TiffFile(tmp_path / "out.tif") as tiff:
            page = tiff.pages.first
            assert page.photometric.name == "RGB"
            assert [extra.name.lower() for extra in page.extrasamples] == [kind]
            got = tiff.asarray()
        assert np.array_equal(got[..., :3], pixels[::-1, :, :3])
        assert np.array_equal(got[..., 3], pixels[..., 3])

    def test_grey_and_alpha(self, tmp_path: Path) -> None:
        pixels = random_pixels((9, 7, 2))
        Image.fromarray(pixels).save(tmp_path / "in.tif")
        source = read_image(tmp_path / "in.tif")
        assert np.array_equal(source.image, pixels[..., 0])
        assert np.array_equal(source.alpha, pixels[..., 1])
        write_image(tmp_path / "out.tif", source.image, like=source)
        mode, got = open_pixels(tmp_path / "out.tif")
        assert mode == "LA"
        assert np.array_equal(got, pixels)

    @pytest.mark.parametrize("channels", [2, 4, 5])
    def test_interleaved_channels_are_not_alpha(self, tmp_path: Path, channels: int) -> None:
        pixels = random_pixels((9, 7, channels), "uint16")
        tifffile.imwrite(
            tmp_path / "in.tif", pixels, photometric="minisblack", planarconfig="contig"
        )
        source = read_image(tmp_path / "in.tif")
        assert source.alpha is None
        assert source.channel_axis == 2
        assert np.array_equal(source.image, pixels)
        with pytest.raises(ValueError, match=f"PNG cannot hold {channels} channels, .* named .tif"):
            write_image(tmp_path / "out.png", pixels, like=source)

    @pytest.mark.parametrize("bits", [8, 16])
    def test_white_is_zero(self, tmp_path: Path, bits: int) -> None:
        pixels = random_pixels((9, 7), f"uint{bits}")
        tifffile.imwrite(tmp_path / "in.tif", pixels, photometric="miniswhite")
        source = read_image(tmp_path / "in.tif")
        assert source.image.dtype == pixels.dtype
        assert np.array_equal(source.image, 2**bits - 1 - pixels)
        write_image(tmp_path / "out.tif", source.image, like=source)
        assert np.array_equal(read_image(tmp_path / "out.tif").image, source.image)

    @pytest.mark.parametrize("byteorder", ["<", ">"])
    def test_byte_order(self, tmp_path: Path, byteorder: Any) -> None:
        pixels = random_pixels((9, 7), "uint16")
        tifffile.imwrite(tmp_path / "in.tif", pixels, byteorder=byteorder)
        source = read_image(tmp_path / "in.tif")
        assert np.array_equal(source.image, pixels)
        write_image(tmp_path / "out.tif", pixels.astype(f"{byteorder}u2"), like=source)
        assert np.array_equal(tifffile.imread(tmp_path / "out.tif"), pixels)

    def test_compressed_by_another_program(self, tmp_path: Path) -> None:
        pixels = random_pixels((24, 30, 3))
        Image.fromarray(pixels).save(tmp_path / "in.tif", compression="tiff_lzw")
        assert np.array_equal(read_image(tmp_path / "in.tif").image, pixels)

    def test_metadata(self, tmp_path: Path) -> None:
        tifffile.imwrite(
            tmp_path / "in.tif",
            random_pixels((9, 7, 3)),
            photometric="rgb",
            resolution=(118.5, 59.25),
            resolutionunit="CENTIMETER",
            iccprofile=ICC,
        )
        source = read_image(tmp_path / "in.tif")
        write_image(tmp_path / "out.tif", source.image, like=source)
        with tifffile.TiffFile(tmp_path / "out.tif") as tiff:
            page = tiff.pages.first
            assert page.get_resolution() == pytest.approx((118.5, 59.25))
            assert page.resolutionunit.name == "CENTIMETER"
            assert page.tags["InterColorProfile"].value == ICC
        write_image(tmp_path / "out.png", source.image, like=source)
        with Image.open(tmp_path / "out.png") as image:
            assert image.info["icc_profile"] == ICC

    def test_pages_of_different_sizes(self, tmp_path: Path) -> None:
        with tifffile.TiffWriter(tmp_path / "in.tif") as tiff:
            tiff.write(random_pixels((9, 7)))
            tiff.write(random_pixels((4, 5)))
        with pytest.raises(ValueError, match="it holds 2 images of different sizes or kinds"):
            read_image(tmp_path / "in.tif")

    @pytest.mark.parametrize(
        ("options", "kind"),
        [
            ({"photometric": "separated", "extratags": [(332, 3, 1, 2, True)]}, "SEPARATED"),
            ({"photometric": "cielab", "shape": (9, 7, 3)}, "CIELAB"),
            ({"photometric": "miniswhite", "shape": (9, 7), "dtype": "float32"}, "MINISWHITE"),
        ],
    )
    def test_numbers_that_are_not_brightness(
        self, tmp_path: Path, options: dict[str, Any], kind: str
    ) -> None:
        pixels = random_pixels(options.pop("shape", (9, 7, 4)), options.pop("dtype", "uint8"))
        tifffile.imwrite(tmp_path / "in.tif", pixels, **options)
        with pytest.raises(ValueError, match=f"pixels of the kind {kind}.* are not supported"):
            read_image(tmp_path / "in.tif")

    @pytest.mark.parametrize("bits", [9, 10, 12, 15])
    def test_depth_comes_back(self, tmp_path: Path, bits: int) -> None:
        pixels = random_pixels((9, 7, 3), "uint16") & np.uint16((1 << bits) - 1)
        write_image(tmp_path / "a.tif", pixels, like=ImageFile(pixels, 2, metadata={"bits": bits}))
        source = read_image(tmp_path / "a.tif")
        assert source.metadata["bits"] == bits
        assert np.array_equal(source.image, pixels)
        # White of fewer bits stays white on the way.
        write_image(tmp_path / "a.png", source.image, like=source)
        assert np.array_equal(read_image(tmp_path / "a.png").image >> (16 - bits), pixels)

    @pytest.mark.parametrize("white", [500, 65535, 255, 1023])
    def test_a_white_that_is_none_says_no_depth(self, tmp_path: Path, white: int) -> None:
        pixels = np.full((4, 5), 1024, np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", pixels, extratags=[(281, 3, 1, white, True)])
        assert "bits" not in read_image(tmp_path / "a.tif").metadata


class TestUnreadable:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            read_image(tmp_path / "nothing.png")
        assert caught.value.filename == str(tmp_path / "nothing.png")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match=str(tmp_path)):
            read_image(tmp_path)

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
    @pytest.mark.parametrize("content", [b"", b"not a picture\n", b"II", b"\0" * 100])
    def test_something_else(self, tmp_path: Path, suffix: str, content: bytes) -> None:
        path = tmp_path / f"text{suffix}"
        path.write_bytes(content)
        message = rf"cannot read .*text\{suffix}: it is not a {files.formats.all_names()} image"
        with pytest.raises(ValueError, match=message):
            read_image(path)

    @pytest.mark.parametrize("packing", ["gzip", "bz2", "lzma"])
    def test_packed(self, tmp_path: Path, packing: str) -> None:
        path = tmp_path / "picture.fits.gz"
        path.write_bytes(importlib.import_module(packing).compress(b"SIMPLE  = " * 300))
        name = {"bz2": "bzip2", "lzma": "xz"}.get(packing, packing)
        with pytest.raises(ValueError, match=f"it is packed with {name}; unpack it first"):
            read_image(path)

    def test_another_format(self, tmp_path: Path) -> None:
        Image.new("L", (9, 7)).save(tmp_path / "picture.gif")
        with pytest.raises(ValueError, match=f"it is not a {files.formats.all_names()} image"):
            read_image(tmp_path / "picture.gif")

    def test_the_content_counts_and_not_the_name(self, tmp_path: Path) -> None:
        pixels = random_pixels((9, 7))
        write_image(tmp_path / "picture.tif", pixels)
        (tmp_path / "picture.tif").rename(tmp_path / "picture.png")
        assert np.array_equal(read_image(tmp_path / "picture.png").image, pixels)

    @pytest.mark.parametrize("part", [0.02, 0.1, 0.5, 0.9, 0.97])
    @pytest.mark.parametrize(
        "name", ["8.png", "16.png", "grey.jpg", "plain.tif", "zlib.tif", "tiles.tif", "lzw.tif"]
    )
    def test_truncated(self, tmp_path: Path, name: str, part: float) -> None:
        path = tmp_path / name
        pixels = random_pixels((40, 36), "uint16" if name == "16.png" else "uint8")
        if name == "lzw.tif":  # its directory is at its end
            Image.fromarray(pixels).save(path, compression="tiff_lzw")
        elif path.suffix == ".tif":
            options: dict[str, Any] = {"zlib.tif": {"compression": "zlib"}}.get(name, {})
            tifffile.imwrite(
                path, pixels, tile=(16, 16) if name == "tiles.tif" else None, **options
            )
        else:
            write_image(path, pixels)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(ValueError, match=f"cannot read .*{name}: ."):
            read_image(path)

    def test_animation(self, tmp_path: Path) -> None:
        frames = [Image.fromarray(random_pixels((9, 7), seed=seed)) for seed in (0, 1)]
        frames[0].save(tmp_path / "in.png", save_all=True, append_images=frames[1:])
        with pytest.raises(ValueError, match="it holds 2 images, expected one"):
            read_image(tmp_path / "in.png")


class TestUnwritable:
    @pytest.mark.parametrize("name", ["out", "out.gif", "out.png.json", "out.pngs"])
    def test_unknown_suffix(self, tmp_path: Path, name: str) -> None:
        message = rf"cannot tell the format of .*{name} .*one of \.png, \.jpg, \.jpeg, \.tif, "
        with pytest.raises(ValueError, match=message):
            write_image(tmp_path / name, random_pixels((9, 7)))

    @pytest.mark.parametrize(
        ("name", "dtype", "instead"),
        [
            ("out.png", "float32", r"must be named \.tif or \.tiff or \.npy or \.fits or"),
            ("out.png", "int16", r"must be named \.tif or \.tiff or \.npy or \.fits or"),
            ("out.jpg", "uint16", r"must be named \.png or \.tif or \.tiff or \.npy or"),
            ("out.jpg", "float64", r"must be named \.tif or \.tiff or \.npy or \.fits or"),
            ("out.tif", "complex64", "nor can the others$"),
            ("out.png", "int64", r"must be named \.npy or \.fits or"),
            ("out.png", "bool", "nor can the others$"),
        ],
    )
    def test_dtype(self, tmp_path: Path, name: str, dtype: str, instead: str) -> None:
        with pytest.raises(ValueError, match=f"cannot hold {dtype} without loss, .*{instead}"):
            write_image(tmp_path / name, np.zeros((9, 7), dtype))

    @pytest.mark.parametrize("suffix", [".png", ".jpg"])
    def test_too_many_channels(self, tmp_path: Path, suffix: str) -> None:
        with pytest.raises(ValueError, match=r"cannot hold 5 channels, .* must be named \.tif"):
            write_image(tmp_path / f"out{suffix}", random_pixels((5, 9, 7)), channel_axis=0)

    def test_transparency_in_jpeg(self, tmp_path: Path) -> None:
        like = ImageFile(random_pixels((9, 7)), alpha=random_pixels((9, 7), seed=1))
        message = r"JPEG cannot hold transparency, .*out\.jpg must be named \.png or \.tif"
        with pytest.raises(ValueError, match=message):
            write_image(tmp_path / "out.jpg", like.image, like=like)

    def test_existing_file(self, tmp_path: Path) -> None:
        path = tmp_path / "out.png"
        write_image(path, random_pixels((9, 7)))
        before = path.read_bytes()
        with pytest.raises(FileExistsError, match=r"out\.png exists already"):
            write_image(path, random_pixels((4, 5)))
        assert path.read_bytes() == before
        write_image(path, random_pixels((4, 5)), overwrite=True)
        assert read_image(path).image.shape == (4, 5)

    def test_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"the folder .*nowhere does not exist"):
            write_image(tmp_path / "nowhere" / "out.png", random_pixels((9, 7)))

    def test_folder_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "out.png").mkdir()
        with pytest.raises(IsADirectoryError, match=r"out\.png is a folder"):
            write_image(tmp_path / "out.png", random_pixels((9, 7)), overwrite=True)

    def test_folder_without_permission(self, unwritable: Path) -> None:
        message = "cannot write into the folder .*unwritable: Permission denied"
        with pytest.raises(PermissionError, match=message):
            check_output(unwritable / "out.png")
        with pytest.raises(PermissionError, match=message):
            write_image(unwritable / "out.png", random_pixels((9, 7)))

    @pytest.mark.parametrize(
        ("name", "image"),
        [
            ("out", None),
            ("out.png", ImageFile(np.zeros((9, 7), np.float32))),
            ("out.jpg", ImageFile(np.zeros((9, 7), np.uint8), alpha=np.zeros((9, 7), np.uint8))),
            ("out.png", ImageFile(np.zeros((4, 9, 7), np.uint8), 0)),
            ("nowhere/out.png", None),
        ],
    )
    def test_known_before_the_work(
        self, tmp_path: Path, name: str, image: ImageFile | None
    ) -> None:
        with pytest.raises((ValueError, OSError)):
            check_output(tmp_path / name, image)
        assert list(tmp_path.iterdir()) == []

    def test_a_check_leaves_nothing_behind(self, tmp_path: Path) -> None:
        check_output(tmp_path / "out.png", ImageFile(random_pixels((9, 7))))
        assert list(tmp_path.iterdir()) == []


class TestAtomicWrite:
    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_failure_leaves_the_old_file(self, tmp_path: Path, error: type[BaseException]) -> None:
        path = tmp_path / "file.bin"
        path.write_bytes(b"old")

        def write_half() -> None:
            with write_atomically(path) as stream:
                stream.write(b"half of the new")
                stream.flush()
                raise error

        with pytest.raises(error):
            write_half()
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.tif"])
    def test_failing_encoder(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(stream: Any, *_: Any, **__: Any) -> None:
            stream.write(b"half of a picture")
            raise OSError(errno.ENOSPC, "No space left on device")

        path = tmp_path / name
        write_image(path, random_pixels((9, 7)))
        before = path.read_bytes()
        for module in (png, jpeg, tiff):
            monkeypatch.setattr(module, "write", fail)
        with pytest.raises(OSError, match="No space left on device"):
            write_image(path, random_pixels((4, 5)), overwrite=True)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_nobody_sees_half_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "file.bin"
        with write_atomically(path) as stream:
            stream.write(b"half")
            stream.flush()
            assert not path.exists()
        assert path.read_bytes() == b"half"

    @pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
    @pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0o002])
    def test_permissions_follow_umask(self, tmp_path: Path, mask: int) -> None:
        before = os.umask(mask)
        try:
            write_image(tmp_path / "out.png", random_pixels((9, 7)))
            assert os.umask(mask) == mask
        finally:
            os.umask(before)
        mode = stat.S_IMODE((tmp_path / "out.png").stat().st_mode)
        assert mode == 0o666 & ~mask


@pytest.mark.skipif(os.name != "posix", reason="links may need a privilege")
class TestLinks:
    """Links that have the name of a result: nothing may be written through them."""

    @pytest.mark.parametrize("report", [False, True])
    @pytest.mark.parametrize("kind", ["file", "dangling", "folder", "loop"])
    def test_is_refused(self, tmp_path: Path, kind: str, report: bool) -> None:
        out = tmp_path / "out.png"
        link = files.report_path(out) if report else out
        target = self.target(tmp_path, kind, link)
        link.symlink_to(target)
        with pytest.raises(FileExistsError, match=f"{link.name} exists already"):
            check_output(out, report=report)
        check_output(out, report=report, overwrite=True)
        assert link.readlink() == target

    @pytest.mark.parametrize("kind", ["file", "dangling", "folder", "loop"])
    def test_is_replaced_and_not_followed(self, tmp_path: Path, kind: str) -> None:
        out, pixels = tmp_path / "out.png", random_pixels((9, 7))
        target = self.target(tmp_path, kind, out)
        out.symlink_to(target)
        write_image(out, pixels, overwrite=True)
        assert not out.is_symlink()
        assert np.array_equal(read_image(out).image, pixels)
        assert sorted(path.name for path in tmp_path.iterdir() if path.name != "target") == [
            "out.png"
        ]
        if kind == "file":
            assert target.read_bytes() == b"precious"
        elif kind == "folder":
            assert [path.read_bytes() for path in target.iterdir()] == [b"precious"]
        else:
            assert not (tmp_path / "target").exists()

    @staticmethod
    def target(folder: Path, kind: str, link: Path) -> Path:
        target = link if kind == "loop" else folder / "target"
        if kind == "file":
            target.write_bytes(b"precious")
        elif kind == "folder":
            target.mkdir()
            (target / "inside").write_bytes(b"precious")
        return target

    @pytest.mark.parametrize("hard", [False, True])
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_to_the_input(self, tmp_path: Path, hard: bool, overwrite: bool) -> None:
        given, out = tmp_path / "in.png", tmp_path / "out.png"
        write_image(given, random_pixels((9, 7)))
        before = given.read_bytes()
        if hard:
            out.hardlink_to(given)
        else:
            out.symlink_to(given)
        source = read_image(given)
        if overwrite:
            write_image(out, 255 - source.image, like=source, overwrite=True)
            assert np.array_equal(read_image(out).image, 255 - source.image)
        else:
            with pytest.raises(FileExistsError, match=r"out\.png exists already"):
                write_image(out, 255 - source.image, like=source)
            assert out.samefile(given)
        assert given.read_bytes() == before

    def test_folder_of_the_output(self, tmp_path: Path) -> None:
        (tmp_path / "there").mkdir()
        (tmp_path / "here").symlink_to(tmp_path / "there")
        check_output(tmp_path / "here/out.png", report=True)
        write_image(tmp_path / "here/out.png", random_pixels((9, 7)))
        assert [path.name for path in (tmp_path / "there").iterdir()] == ["out.png"]
        with pytest.raises(FileExistsError):
            write_image(tmp_path / "here/out.png", random_pixels((9, 7)))
        (tmp_path / "lost").symlink_to(tmp_path / "nothing")
        with pytest.raises(FileNotFoundError, match=r"the folder .*lost does not exist"):
            check_output(tmp_path / "lost/out.png")


class TestInTheMeantime:
    """Files that appear under the name of a result after it was checked that there is none."""

    @pytest.mark.parametrize("hard_links", [True, False])
    def test_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool) -> None:
        path, write = tmp_path / "out.png", png.write

        def write_late(*arguments: Any) -> list[str]:
            lost = write(*arguments)
            path.write_bytes(b"precious")
            return lost

        def refuse(*_: Any) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        if not hard_links:
            monkeypatch.setattr(os, "link", refuse)
        monkeypatch.setattr(png, "write", write_late)
        with pytest.raises(FileExistsError, match=r"out\.png exists already"):
            write_image(path, random_pixels((9, 7)))
        assert path.read_bytes() == b"precious"
        assert list(tmp_path.iterdir()) == [path]
        monkeypatch.setattr(png, "write", write)
        write_image(tmp_path / "new.png", random_pixels((9, 7)))
        assert read_image(tmp_path / "new.png").image.shape == (9, 7)
        assert len(list(tmp_path.iterdir())) == 2

    def test_is_replaced_where_that_was_asked_for(self, tmp_path: Path) -> None:
        path = tmp_path / "out.png"
        with write_atomically(path) as stream:
            path.write_bytes(b"old")
            stream.write(b"new")
        assert path.read_bytes() == b"new"


@pytest.mark.skipif(os.name != "posix", reason="other limits")
@pytest.mark.parametrize("kind", ["jpeg", "strips"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("beyond", [0, 9])
def test_thumbnails_are_no_longer_in_the_file(
    tmp_path: Path, kind: str, order: str, beyond: int
) -> None:
    """A thumbnail shows what has been removed, also where nothing leads to it any more."""
    codes = (513, 514) if kind == "jpeg" else (273, 279)
    text, pixels = b"a picture\0", random_pixels((40,)).tobytes()
    # The head, a directory with a text, one with the thumbnail, the text, the thumbnail.
    first, second = 8, 8 + 2 + 12 + 4
    behind = second + 2 + 24 + 4
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", first)
    data += struct.pack(f"{order}HHHIII", 1, 270, 2, len(text), behind, second)
    places = (behind + len(text), len(pixels) + beyond)
    tags = [(code, 4, 1, number) for code, number in zip(codes, places)]
    data += struct.pack(f"{order}H", 2)
    data += b"".join(struct.pack(f"{order}HHII", *tag) for tag in tags) + bytes(4)
    data += text + pixels
    Image.fromarray(random_pixels((9, 7))).save(tmp_path / "in.jpg", exif=b"Exif\0\0" + data)
    source = read_image(tmp_path / "in.jpg")
    for ending in ("jpg", "png", "webp"):
        path = tmp_path / f"out.{ending}"
        write_image(path, source.image, like=source)
        assert pixels[:8] not in path.read_bytes()
        with Image.open(path) as image:
            assert image.getexif() == {270: "a picture"}


def test_a_thumbnail_that_lies_over_tags_spoils_none(tmp_path: Path) -> None:
    text = b"a picture\0"
    data = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 270, 2, len(text), 56, 26)
    data += struct.pack("<HHHIIHHIII", 2, 513, 4, 1, 0, 514, 4, 1, 2**32 - 1, 0) + text
    Image.fromarray(random_pixels((9, 7))).save(tmp_path / "in.jpg", exif=b"Exif\0\0" + data)
    kept = read_image(tmp_path / "in.jpg").metadata["exif"].values()
    assert kept == {270: (2, text)}


def test_name_that_is_too_long_is_known_before_the_work(tmp_path: Path) -> None:
    longest = "x" * (os.pathconf(tmp_path, "PC_NAME_MAX") - 4) + ".png"
    check_output(tmp_path / longest)
    for name, report in ((longest, True), ("x" + longest, False)):
        with pytest.raises(OSError, match="File name too long"):
            check_output(tmp_path / name, report=report)


def test_channel_axis_goes_before_that_of_the_file(tmp_path: Path) -> None:
    pixels = random_pixels((9, 7, 3))
    write_image(tmp_path / "in.png", pixels)
    source = read_image(tmp_path / "in.png")
    planes = np.moveaxis(pixels, -1, 0)
    write_image(tmp_path / "out.png", planes, like=source, channel_axis=0)
    assert np.array_equal(open_pixels(tmp_path / "out.png")[1], pixels)


def test_second_picture_of_a_telephone_is_left_out(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (16, 8), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "photo.jpg", "MPO", save_all=True, append_images=[second])
    read = read_image(tmp_path / "photo.jpg")
    assert read.image.shape == (8, 16, 3)
    assert read.image[..., 0].min() > 200


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_as_it_is_to_be_seen(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    stored = np.zeros((8, 16), np.uint8)
    stored[1:3, :8] = 250
    Image.fromarray(stored).save(tmp_path / f"in{suffix}", exif=exif)
    with Image.open(tmp_path / f"in{suffix}") as image:
        seen = np.asarray(ImageOps.exif_transpose(image))
    read = read_image(tmp_path / f"in{suffix}")
    assert np.array_equal(read.image, seen)
    write_image(tmp_path / f"out{suffix}", read.image, like=read)
    with Image.open(tmp_path / f"out{suffix}") as written:
        assert written.size == seen.shape[::-1]
        assert written.getexif()[0x010F] == "Maker"
        assert written.getexif().get(0x0112, 1) == 1
    # The same holds for formats that are not read with Pillow.
    wide = stored.astype(np.uint16) * 257
    content = with_chunk(imagecodecs.png_encode(wide), b"eXIf", exif.tobytes()[6:])
    (tmp_path / "in16.png").write_bytes(content)
    assert np.array_equal(read_image(tmp_path / "in16.png").image // 257, ideal(stored, exif))
    for axes, pixels in {"YX": wide, "CYX": np.stack([wide, wide // 2])}.items():
        tag = (0x0112, "H", 1, orientation, True)
        tifffile.imwrite(
            tmp_path / "in.tif",
            pixels,
            photometric="minisblack",
            metadata={"axes": axes},
            extratags=[tag],
        )
        got = read_image(tmp_path / "in.tif").image
        assert np.array_equal(got.reshape(-1, *got.shape[-2:])[0] // 257, ideal(stored, exif))


def ideal(stored: np.ndarray, exif: Image.Exif) -> np.ndarray:
    image = Image.fromarray(stored)
    image.getexif()[0x0112] = exif[0x0112]
    return np.asarray(ImageOps.exif_transpose(image))
