"""AVIF and HEIC as image files: depth, what is beside the pixels, and damaged files."""

from __future__ import annotations

import contextlib
import io
import struct
import sys
import warnings
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from dipfast.errors import MissingExtraError, UnreadableFileError, UnwritableFileError
from dipfast.images.files import ImageFile, Resolution, limits, read_image, write_image
from dipfast.images.files.formats import by_name
from dipfast.images.files.formats._avif_boxes import with_beside
from dipfast.images.files.formats._heif_colours import lost_colours

pillow_heif = pytest.importorskip("pillow_heif", reason="HEIC needs the extra heif")

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SHAPES = [(33, 27), (33, 27, 2), (33, 27, 3), (33, 27, 4)]
each_kind = pytest.mark.parametrize("kind", ["avif", "heic"])


def random_pixels(*shape: int, bits: int = 8) -> np.ndarray:
    dtype = np.uint8 if bits == 8 else np.uint16
    return np.random.default_rng(0).integers(0, 2**bits, shape, dtype=dtype)


def exif(orientation: int = 1) -> bytes:
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = orientation, "Maker"
    return tags.tobytes()


def avif(pixels: np.ndarray, bits: int = 8, **options: Any) -> bytes:
    """Return an AVIF without loss; colours with options are only nearly without."""
    if not options:
        return bytes(imagecodecs.avif_encode(pixels, level=100, bitspersample=bits))
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "AVIF", quality=100, subsampling="4:4:4", **options)
    return stream.getvalue()


def heic(pixels: np.ndarray, bits: int = 8, **options: Any) -> bytes:
    """Return a HEIC without loss."""
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[1 if pixels.ndim == 2 else pixels.shape[2]]
    if bits > 8:
        pixels = pixels << (16 - bits)
        mode = {"L": "I;16"}.get(mode, f"{mode};16")
    image = pillow_heif.from_bytes(mode, pixels.shape[1::-1], pixels.tobytes())
    if "icc_profile" in options:
        image.info.update(icc_profile=options.pop("icc_profile"), icc_profile_type="prof")
    stream = io.BytesIO()
    before = pillow_heif.options.SAVE_HDR_TO_12_BIT
    pillow_heif.options.SAVE_HDR_TO_12_BIT = bits == 12
    try:
        image.save(stream, **{"quality": -1, "chroma": 444, "matrix_coefficients": 0, **options})
    finally:
        pillow_heif.options.SAVE_HDR_TO_12_BIT = before
    return stream.getvalue()


ENCODE = {"avif": avif, "heic": heic}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.bin"


def read(path: Path, content: bytes) -> ImageFile:
    path.write_bytes(content)
    return read_image(path)


def refusal(path: Path, content: bytes) -> str:
    with pytest.raises(UnreadableFileError) as caught:
        read(path, content)
    return str(caught.value).removeprefix(f"cannot read {path}: ")


@each_kind
class TestPixels:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("beside", [False, True])
    def test_written_and_read(
        self, path: Path, kind: str, shape: tuple[int, ...], beside: bool
    ) -> None:
        pixels = random_pixels(*shape)
        opacity = shape[-1] in (2, 4)
        colours = pixels[..., :-1].squeeze() if opacity else pixels
        metadata: dict[str, Any] = {"resolution": Resolution.of(300, 200, "inch")}
        if beside and colours.ndim == 3:
            metadata["icc_profile"] = PROFILE
        axis = 2 if colours.ndim == 3 else None
        like = ImageFile(colours, axis, pixels[..., -1] if opacity else None, metadata)
        out = path.with_suffix(f".{kind}")
        write_image(out, colours, like=like)
        got = read_image(out)
        assert got.format == kind.upper()
        assert np.array_equal(got.image, colours)
        assert got.channel_axis == axis
        assert np.array_equal(got.alpha, like.alpha) if opacity else got.alpha is None
        assert got.metadata.get("icc_profile") == metadata.get("icc_profile")
        assert got.metadata["resolution"] == metadata["resolution"]
        assert "lost" not in got.metadata

    @pytest.mark.parametrize("bits", [10, 12])
    @pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[2], SHAPES[3]])
    def test_depth_is_kept(self, path: Path, kind: str, shape: tuple[int, ...], bits: int) -> None:
        pixels = random_pixels(*shape, bits=bits)
        pixels[0, 0] = 2**bits - 1
        source = read(path, ENCODE[kind](pixels, bits))
        assert source.image.dtype == np.uint16
        png, own = path.with_suffix(".png"), path.with_suffix(f".{kind}")
        write_image(png, source.image, like=source)
        assert read_image(png).image.max() == 65535  # white of a PNG
        if shape[-1] == 4:
            # With opacity, numbers fill 16 bits.
            expected = np.round(pixels * (65535 / (2**bits - 1)))
            assert source.alpha is not None
            np.testing.assert_allclose(source.image, expected[..., :3], atol=1)
            np.testing.assert_allclose(source.alpha, expected[..., 3], atol=1)
            with pytest.raises(UnwritableFileError, match=r"must be named \.png or \.tif"):
                write_image(own, source.image, like=source)
            return
        assert np.array_equal(source.image, pixels)
        assert source.metadata["bits"] == bits
        write_image(own, source.image + np.uint16(1), like=source)
        got = read_image(own)
        assert got.metadata["bits"] == bits
        assert np.array_equal(got.image, (pixels + 1).clip(None, 2**bits - 1))

    def test_other_depths_are_not_written(self, path: Path, kind: str) -> None:
        pixels = random_pixels(9, 8, 3, bits=14)
        like = ImageFile(pixels, 2, metadata={"bits": 14})
        message = f"{kind.upper()} cannot hold uint16 without loss, .* must be named .png or .tif"
        with pytest.raises(UnwritableFileError, match=message):
            write_image(path.with_suffix(f".{kind}"), pixels, like=like)

    @pytest.mark.parametrize("orientation", [1, 3, 6, 8])
    def test_orientation(self, path: Path, kind: str, orientation: int) -> None:
        pixels = random_pixels(34, 26, 3)
        source = read(path, ENCODE[kind](pixels, exif=exif(orientation)))
        png = path.with_suffix(".png")
        Image.fromarray(pixels).save(png, exif=exif(orientation))
        expected = read_image(png).image
        # AVIF is encoded by Pillow here, with some loss.
        np.testing.assert_allclose(source.image.astype(int), expected, atol=4)
        out = path.with_suffix(f".{kind}")
        write_image(out, source.image, like=source)
        got = read_image(out)
        assert np.array_equal(got.image, source.image)
        assert got.metadata["exif"].values()[0x010F] == source.metadata["exif"].values()[0x010F]

    def test_profile_is_read(self, path: Path, kind: str) -> None:
        source = read(path, ENCODE[kind](random_pixels(33, 27, 3), icc_profile=PROFILE))
        assert source.metadata["icc_profile"] == PROFILE

    def test_several_images(self, path: Path, kind: str) -> None:
        stream = io.BytesIO()
        frames = [Image.fromarray(random_pixels(64, 64, 3) + np.uint8(k)) for k in range(3)]
        if kind == "avif":
            frames[0].save(stream, "AVIF", save_all=True, append_images=frames[1:])
        else:
            several = pillow_heif.from_pillow(frames[0])
            several.add_from_pillow(frames[1])
            several.add_from_pillow(frames[2])
            several.save(stream)
        assert refusal(path, stream.getvalue()).startswith("it holds 3 images, expected one")


class TestOtherReaders:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_pillow_reads_what_is_added_to_avif(self, path: Path, shape: tuple[int, ...]) -> None:
        content = with_beside(avif(random_pixels(*shape)), PROFILE, exif()[6:])
        with Image.open(io.BytesIO(content)) as opened:
            assert opened.info["icc_profile"] == PROFILE
            assert opened.getexif()[0x010F] == "Maker"
            with Image.open(io.BytesIO(avif(random_pixels(*shape)))) as plain:
                assert np.array_equal(np.array(opened), np.array(plain))

    def test_structure_that_is_not_expected(self) -> None:
        with pytest.raises(ValueError, match="expected the boxes ftyp, meta and mdat"):
            with_beside(b"\0\0\0\x08ftyp", PROFILE, b"")
        with pytest.raises(ValueError, match="a box b'ftyp' has 9 bytes"):
            with_beside(b"\0\0\0\x09ftyp", PROFILE, b"")


def is_older() -> bool:
    """Return whether imagecodecs is one of those that Python 3.10 has."""
    return tuple(map(int, imagecodecs.__version__.split(".")[:2])) < (2025, 11)


class TestColours:
    def test_those_of_srgb_are_not_lost(self) -> None:
        assert lost_colours(1, 13) == lost_colours(2, 2) == lost_colours(1, 1) == ()

    def test_high_dynamic_range_is_named(self) -> None:
        assert lost_colours(9, 16) == ("colour space (BT.2020, PQ)",)
        assert lost_colours(12, 13) == ("colour space (Display P3)",)
        assert lost_colours(77, 2) == ("colour space (primaries 77)",)

    @each_kind
    def test_a_warning_says_so(self, path: Path, kind: str) -> None:
        pixels = random_pixels(32, 32, 3)
        if kind == "avif":
            if is_older():
                pytest.skip("this imagecodecs does not write colours")
            content = bytes(imagecodecs.avif_encode(pixels, level=100, primaries=9, transfer=16))
        else:
            content = heic(pixels, color_primaries=9, transfer_characteristics=16)
        source = read(path, content)
        with pytest.warns(UserWarning, match=r"without: colour space \(BT.2020, PQ\)$"):
            write_image(path.with_suffix(".png"), source.image, like=source)


@each_kind
class TestHostile:
    def test_truncated(self, path: Path, kind: str) -> None:
        content = ENCODE[kind](random_pixels(33, 27, 3))
        for length in range(16, len(content) - 200, 53):
            assert refusal(path, content[:length])

    def test_limit(self, path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        content = ENCODE[kind](random_pixels(30, 40, 3))
        monkeypatch.setattr(limits, "LARGEST_IMAGE", 30 * 40 * 8)
        assert read(path, content).image.shape == (30, 40, 3)
        monkeypatch.setattr(limits, "LARGEST_IMAGE", 30 * 40 * 8 - 1)
        assert refusal(path, content).startswith("it declares 40 x 30 pixels of 8 bytes")

    @pytest.mark.parametrize("size", [(0, 5), (20, 20), (60_000, 60_000), (2**31, 2**31)])
    def test_declared_size(self, path: Path, kind: str, size: tuple[int, int]) -> None:
        content = bytearray(ENCODE[kind](random_pixels(33, 27, 3)))
        at = content.index(b"ispe") + 8
        while at > 8:
            content[at : at + 8] = struct.pack(">II", *size)
            at = content.find(b"ispe", at) + 8
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if (kind, size) == ("avif", (20, 20)):
                # The decoder goes by the data, and cuts them; older ones refuse them.
                refused = contextlib.suppress(UnreadableFileError)
                with refused if is_older() else contextlib.nullcontext():
                    assert read(path, bytes(content)).image.shape[:2] in ((20, 20), (33, 27))
            else:
                assert refusal(path, bytes(content))


def test_an_avif_that_says_so_in_second_place(path: Path) -> None:
    content = bytearray(avif(random_pixels(9, 8, 3)))
    content[8:12] = b"mif1"
    assert "it is an AVIF that says so in second place" in refusal(path, bytes(content))


def test_without_the_extra(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = heic(random_pixels(9, 8, 3))
    path.write_bytes(content)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(sys.modules, "dipfast.images.files.formats.heif", raising=False)
    with pytest.raises(MissingExtraError, match=r"HEIC files need .*pip install 'dipfast\[heif\]'"):
        read_image(path)


def test_an_old_imagecodecs_is_not_told_of_colours(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dipfast.images.files.formats import avif as own

    def old(pixels: np.ndarray, level: int, bitspersample: int) -> bytes:
        return encode(pixels, level=level, bitspersample=bitspersample)

    encode = imagecodecs.avif_encode
    monkeypatch.setattr(imagecodecs, "avif_encode", old)
    monkeypatch.setattr(own, "_NAMES_COLOURS", False)
    pixels = random_pixels(9, 8, 3)
    write_image(path.with_suffix(".avif"), pixels)
    assert np.array_equal(read_image(path.with_suffix(".avif")).image, pixels)


def test_pillow_without_avif(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import features

    monkeypatch.setattr(features, "check", lambda name: False)
    monkeypatch.delitem(sys.modules, "dipfast.images.files.formats.avif", raising=False)
    with pytest.raises(MissingExtraError, match=r"AVIF files need Pillow 11\.3 or newer"):
        by_name("AVIF").load()
