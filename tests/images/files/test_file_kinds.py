"""Kinds of pixels in files: they are read as brightness or RGB, or refused by name."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from dipfast.images.files import ImageFile, read_image, write_image
from dipfast.images.files.pixels import straight

COLOUR = (200, 60, 20)
# Values of tag 262 that the reader knows; what else these kinds need is tested elsewhere.
ACCEPTED = {"MINISWHITE", "MINISBLACK", "RGB", "PALETTE"}


# What is packed and faxed needs an imagecodecs that there is from Python 3.11 on.
def packs_bits() -> bool:
    try:
        return len(imagecodecs.packints_encode(np.zeros(8, np.uint8), 2)) > 0
    except NotImplementedError:
        return False


needs_packed_bits = pytest.mark.skipif(not packs_bits(), reason="imagecodecs cannot pack bits")
needs_faxes = pytest.mark.skipif(
    not hasattr(imagecodecs, "ccittfax4_decode"), reason="imagecodecs cannot read faxes"
)


def plain(*shape: int, colour: Any = COLOUR) -> np.ndarray:
    return np.broadcast_to(np.uint8(colour), (*shape, len(colour))).copy()


def random_pixels(*shape: int, bits: int = 8) -> np.ndarray:
    dtype = np.uint8 if bits <= 8 else np.uint16
    return np.random.default_rng(0).integers(0, 2**bits, shape, dtype=dtype)


def tiff(pixels: np.ndarray, tags: dict[int, int] | None = None, **options: Any) -> bytes:
    """Return a TIFF after replacing the values of some of its tags."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    stream.seek(0)
    with tifffile.TiffFile(stream) as file:
        for code, value in (tags or {}).items():
            file.pages.first.tags[code].overwrite(value)
    return stream.getvalue()


def without_tag(content: bytes, code: int) -> bytes:
    """Return a TIFF whose directory, copied to the end, lacks one tag."""
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    entries = [content[start + 2 + 12 * k :][:12] for k in range(count)]
    entries = [entry for entry in entries if struct.unpack("<H", entry[:2]) != (code,)]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return content[:4] + struct.pack("<I", len(content)) + content[8:] + directory


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.tif"


def read(path: Path, content: bytes) -> ImageFile:
    path.write_bytes(content)
    return read_image(path)


def refused(path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^cannot read {re.escape(str(path))}: .*{reason}"):
        read(path, content)


class TestPhotometric:
    @pytest.mark.parametrize(
        "kind", [kind for kind in tifffile.PHOTOMETRIC.__members__ if kind not in ACCEPTED]
    )
    @pytest.mark.parametrize("compression", [None, "lzw"])
    @pytest.mark.parametrize("colours", [1, 3, 4])
    def test_others_are_refused_by_name(
        self, path: Path, kind: str, compression: Any, colours: int
    ) -> None:
        if (kind, colours) == ("SEPARATED", 4):
            pytest.skip("these are the inks of print, which are read")
        pixels = plain(8, 8, colour=COLOUR * colours)[..., :colours].squeeze()
        number = int(tifffile.PHOTOMETRIC[kind])
        options: Any = {"photometric": "minisblack", "compression": compression}
        if colours > 1:
            options["planarconfig"] = "contig"
        content = tiff(pixels, {262: number}, **options)
        action = "develop the raw" if kind in ("CFA", "LINEAR_RAW") else "convert the picture to"
        refused(path, content, f"pixels of the kind {kind}.* are not supported; {action}")

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("number", [7, 11, 99, 9999, 40000, 65535])
    def test_unknown_numbers_are_refused(self, path: Path, number: int) -> None:
        content = tiff(random_pixels(8, 8), {262: number}, photometric="minisblack")
        refused(path, content, f"pixels of the kind number {number} are not supported")

    @pytest.mark.parametrize("colour", [True, False])
    def test_without_it(self, path: Path, colour: bool) -> None:
        # Without the tag, tifffile would decode the pixels as negatives.
        pixels = plain(8, 8) if colour else random_pixels(8, 8)
        content = tiff(pixels, photometric="rgb" if colour else "minisblack")
        assert np.array_equal(read(path, content).image, pixels)
        refused(path, without_tag(content, 262), "it does not say what its numbers mean")

    def test_rgb_of_one_sample(self, path: Path) -> None:
        content = tiff(random_pixels(8, 8), {262: 2}, photometric="minisblack", metadata=None)
        refused(path, content, "pixels of the kind RGB are not supported")

    def test_a_preview_before_the_raw_photograph(self, path: Path) -> None:
        stream = io.BytesIO()
        with tifffile.TiffWriter(stream) as writer:
            preview = plain(4, 4)
            writer.write(preview, photometric="rgb", subfiletype=1, subifds=1, metadata=None)
            writer.write(random_pixels(16, 16, bits=12), photometric="cfa", metadata=None)
        refused(path, stream.getvalue(), "its first image is a preview; if it is a raw photograph")


def test_kinds_that_tifffile_does_not_let_be_set(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fixed(tifffile.TiffFile):
        is_svs = property(lambda _: True)

    content = tiff(plain(16, 16), photometric="rgb")
    monkeypatch.setattr(tifffile, "TiffFile", Fixed)
    assert np.array_equal(read(path, content).image, plain(16, 16))


class TestYcbcr:
    @pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2), (4, 1)])
    @pytest.mark.parametrize("tiled", [False, True])
    def test_jpeg_becomes_rgb(self, path: Path, subsampling: Any, tiled: bool) -> None:
        pixels = plain(64, 64)
        pixels[:, 32:] = (20, 90, 220)
        options: Any = {"tile": (32, 32)} if tiled else {"rowsperstrip": 32}
        content = tiff(
            pixels, photometric="rgb", compression="jpeg", subsampling=subsampling, **options
        )
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            assert file.pages.first.photometric.name == "YCBCR"
        source = read(path, content)
        assert source.channel_axis == 2
        for colour, columns in (((200, 60, 20), slice(0, 24)), ((20, 90, 220), slice(40, 64))):
            assert np.abs(source.image[:, columns] - np.int16(colour)).max() <= 2
        # libtiff decodes the same pixels.
        assert np.array_equal(source.image, np.asarray(Image.open(io.BytesIO(content))))

    @pytest.mark.parametrize("compression", [None, "lzw", "zlib", "jpeg2000"])
    def test_others_are_refused(self, path: Path, compression: Any) -> None:
        content = tiff(plain(16, 16), {262: 6}, photometric="rgb", compression=compression)
        refused(path, content, "pixels of the kind YCBCR in 3 samples are not .* to RGB or grey")

    def test_planes_of_jpeg_are_refused(self, path: Path) -> None:
        options: Any = {"photometric": "ycbcr", "planarconfig": "separate", "compression": "jpeg"}
        content = tiff(np.moveaxis(plain(16, 16), -1, 0), **options)
        refused(path, content, "pixels of the kind YCBCR")

    def test_jpeg_2000_of_aperio(self, path: Path) -> None:
        content = tiff(plain(16, 16), photometric="rgb", compression="jpeg2000")
        assert np.abs(read(path, content).image - np.int16(COLOUR)).max() <= 1
        content = tiff(plain(16, 16), {259: 33003}, photometric="rgb", compression="jpeg2000")
        refused(path, content, "pixels of the kind YCBCR are not supported")

    @pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
    def test_samples_that_are_no_colours(self, path: Path, photometric: str) -> None:
        # A decoder of JPEG treats three samples as colours.
        content = tiff(
            plain(16, 16), {262: 1 + (photometric == "rgb")}, photometric="rgb", compression="jpeg"
        )
        if photometric == "rgb":
            assert np.abs(read(path, content).image - np.int16(COLOUR)).max() <= 2
        else:
            refused(path, content, "MINISBLACK in 3 samples compressed as JPEG are not supported")


class TestBits:
    @pytest.mark.parametrize(
        "bits", [1, *(pytest.param(bits, marks=needs_packed_bits) for bits in (2, 4))]
    )
    @pytest.mark.parametrize("kind", ["minisblack", "miniswhite"])
    def test_few_are_stretched(self, path: Path, bits: int, kind: str) -> None:
        values = random_pixels(9, 16, bits=bits)
        pixels = values.astype(bool) if bits == 1 else values
        content = tiff(pixels, photometric=kind, bitspersample=bits)
        full = 2**bits - 1
        expected = (full - values if kind == "miniswhite" else values) * (255 // full)
        source = read(path, content)
        assert source.image.dtype == np.uint8
        assert np.array_equal(source.image, expected)
        # libtiff decodes the same pixels.
        assert np.array_equal(source.image, np.asarray(Image.open(path).convert("L")))
        out = path.with_name("out.tif")
        write_image(out, source.image, like=source)
        assert np.array_equal(np.asarray(Image.open(out)), expected)

    @pytest.mark.parametrize(
        "compression",
        [
            *(pytest.param(name, marks=needs_faxes) for name in ("group3", "group4")),
            "packbits",
            "tiff_lzw",
        ],
    )
    def test_fax(self, path: Path, compression: str) -> None:
        bits = random_pixels(9, 16) > 127
        Image.fromarray(bits).save(path, compression=compression)
        assert np.array_equal(read_image(path).image, bits * np.uint8(255))

    @needs_packed_bits
    @pytest.mark.parametrize("bits", [10, 12, 14])
    @pytest.mark.parametrize("kind", ["minisblack", "miniswhite"])
    def test_more_are_counts(self, path: Path, bits: int, kind: str) -> None:
        values = random_pixels(9, 16, bits=bits)
        values[0, :2] = 0, 2**bits - 1
        source = read(path, tiff(values, photometric=kind, bitspersample=bits))
        expected = 2**bits - 1 - values if kind == "miniswhite" else values
        assert np.array_equal(source.image, expected)
        out = path.with_name("out.tif")
        write_image(out, source.image, like=source)
        with tifffile.TiffFile(out) as file:
            assert file.pages.first.tags["MaxSampleValue"].value == 2**bits - 1
            assert np.array_equal(file.asarray(), expected)
        write_image(out, source.image * 2 + 1, like=source, overwrite=True)
        with tifffile.TiffFile(out) as file:
            assert file.pages.first.tags.get("MaxSampleValue") is None
            assert np.array_equal(file.asarray(), source.image * 2 + 1)
        # White of 12 bits becomes white of 16 bits.
        png = path.with_name("out.png")
        write_image(png, source.image, like=source)
        got = imagecodecs.png_decode(png.read_bytes())
        assert np.array_equal(got >> (16 - bits), source.image)
        assert np.abs(got / 65535 - source.image / (2**bits - 1)).max() < 2**-15

    @needs_packed_bits
    @pytest.mark.parametrize("bits", [3, 5, 6, 7])
    def test_others_are_refused(self, path: Path, bits: int) -> None:
        content = tiff(random_pixels(8, 8, bits=bits), photometric="minisblack", bitspersample=bits)
        refused(path, content, f"samples of {bits} bits are not supported; convert the picture")

    def test_of_each_colour(self, path: Path) -> None:
        content = tiff(plain(8, 8), {258: (5, 6, 5)}, photometric="rgb")  # type: ignore[dict-item]
        refused(path, content, r"samples of \(5, 6, 5\) bits are not supported")

    @pytest.mark.parametrize(
        ("dtype", "name"),
        [
            *(("complex64", "COMPLEXIEEEFP"), ("complex128", "COMPLEXIEEEFP")),
            *(("int64", "type int64"), ("uint64", "type uint64")),
        ],
    )
    def test_types(self, path: Path, dtype: str, name: str) -> None:
        pixels = random_pixels(8, 8).astype(dtype)
        refused(path, tiff(pixels, photometric="minisblack"), f"{name}.* not supported")

    @pytest.mark.parametrize(
        ("dtype", "number", "name"),
        [("int8", 4, "VOID"), ("int32", 4, "VOID"), ("int32", 5, "COMPLEXINT"), ("int8", 9, "9")],
    )
    def test_sample_formats(self, path: Path, dtype: str, number: int, name: str) -> None:
        pixels = random_pixels(8, 8).astype(dtype)
        content = tiff(pixels, {339: number}, photometric="minisblack")
        refused(path, content, rf"samples of \d+ bits \(SampleFormat {name}\) are not supported")

    @pytest.mark.parametrize("bits", [1, 8, 16])
    def test_order_of_bits(self, path: Path, bits: int) -> None:
        pixels = random_pixels(8, 8, bits=bits)
        content = tiff(
            pixels.astype(bool) if bits == 1 else pixels,
            photometric="minisblack",
            extratags=[("FillOrder", "H", 1, 2, True)],
        )
        if bits == 1:  # as libtiff has it
            seen = np.asarray(Image.open(io.BytesIO(content))) * np.uint8(255)
            assert np.array_equal(read(path, content).image, seen)
        else:
            refused(path, content, r"begin with the least bit \(FillOrder 2\) are not supported")

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    @pytest.mark.parametrize("predictor", [2, 3])
    def test_predictors_of_floats(self, path: Path, dtype: str, predictor: int) -> None:
        pixels = np.random.default_rng(0).normal(size=(9, 16)).astype(dtype)
        if predictor == 2:  # on the bits, as libtiff has it
            integers = pixels.view(f"int{8 * pixels.itemsize}")
            options: Any = {"compression": "zlib", "predictor": 2, "photometric": "minisblack"}
            content = tiff(integers, {339: 3}, **options)
        else:
            content = tiff(pixels, compression="zlib", predictor=3, photometric="minisblack")
        assert np.array_equal(read(path, content).image, pixels)


class TestPalette:
    def table(self, steps: int = 257) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (3, 256), np.uint16) * steps

    @pytest.mark.parametrize("steps", [257, 256, 1])
    def test_8_bit_colours(self, path: Path, steps: int) -> None:
        indices, table = random_pixels(9, 7), self.table()
        stored = table // 257 * steps
        source = read(path, tiff(indices, photometric="palette", colormap=stored))
        expected = np.moveaxis(table // 257, 0, -1)[indices]
        assert source.image.dtype == np.uint8
        assert np.array_equal(source.image, expected)
        out = path.with_name("out.tif")
        write_image(out, source.image, like=source)
        assert np.array_equal(np.asarray(Image.open(out)), expected)

    @pytest.mark.parametrize("bits", [8, 16])
    def test_16_bit_colours(self, path: Path, bits: int) -> None:
        table = np.random.default_rng(0).integers(0, 65536, (3, 2**bits), np.uint16)
        indices = random_pixels(9, 7, bits=bits)
        source = read(path, tiff(indices, photometric="palette", colormap=table))
        assert np.array_equal(source.image, np.moveaxis(table, 0, -1)[indices])

    @pytest.mark.parametrize("bits", [1, 4, 8])
    def test_of_another_program(self, path: Path, bits: int) -> None:
        image = Image.fromarray(random_pixels(24, 20, 3)).quantize(2**bits)
        image.save(path)
        assert np.array_equal(read_image(path).image, np.asarray(image.convert("RGB")))

    def test_grey(self, path: Path) -> None:
        indices, table = random_pixels(9, 7), self.table()[:1].repeat(3, axis=0)
        source = read(path, tiff(indices, photometric="palette", colormap=table))
        assert source.channel_axis is None
        assert np.array_equal(source.image, table[0][indices] // 257)

    def test_lookup_tables_of_imagej(self, path: Path) -> None:
        # The colours of a lookup table are not the numbers that were measured.
        ramp = np.arange(256, dtype=np.uint16) * 257
        indices = random_pixels(9, 7)
        for table, good in (((ramp, ramp, ramp), True), ((ramp * 0, ramp, ramp * 0), False)):
            content = tiff(indices, imagej=True, colormap=np.stack(table))
            if good:
                assert np.array_equal(read(path, content).image, indices)
            else:
                refused(path, content, "a lookup table of ImageJ; convert it to grey or to RGB")

    def test_several(self, path: Path) -> None:
        planes, table = random_pixels(3, 9, 7), self.table()
        options: Any = {"photometric": "palette", "metadata": {"axes": "CYX"}}
        refused(path, tiff(planes, colormap=table, **options), "several pictures with a palette")
        table = table[:1].repeat(3, axis=0)
        source = read(path, tiff(planes, colormap=table, **options))
        assert source.channel_axis == 0
        assert np.array_equal(source.image, table[0][planes] // 257)

    def test_without_a_table(self, path: Path) -> None:
        content = tiff(random_pixels(8, 8), {262: 3}, photometric="minisblack")
        refused(path, content, "its palette is missing")


class TestOpacity:
    @given(
        st.sampled_from(["uint8", "uint16", "float32"]),
        st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=9),
    )
    @example("uint8", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
    def test_multiplied_and_divided(self, dtype: str, values: list[tuple[float, float]]) -> None:
        full = 1.0 if dtype == "float32" else np.iinfo(dtype).max
        colours, alpha = (np.array(each)[None] * full for each in zip(*values))
        if dtype != "float32":
            colours, alpha = colours.round(), alpha.round()
        multiplied = colours * alpha / full
        if dtype != "float32":
            multiplied = multiplied.round()
        got = straight(multiplied.astype(dtype), alpha.astype(dtype))
        seen = alpha > (0 if dtype != "float32" else 1e-30)
        # The tolerance is half a step of the stored numbers, and half a step of those read.
        step = 0.5 + 0.5 * full / alpha[seen] if dtype != "float32" else 1e-5
        assert (np.abs(got - colours)[seen] <= step).all()
        assert (got[alpha.astype(dtype) == 0] == 0).all()

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    @pytest.mark.parametrize("colours", [1, 3])
    def test_multiplied_into_colours(self, path: Path, colours: int, suffix: str) -> None:
        alpha = np.full((8, 8), 100, np.uint8)
        alpha[0], alpha[1] = 0, 255
        straight_colours = np.uint8((200, 60, 20)[:colours])
        multiplied = (straight_colours * (alpha[..., None] / 255)).round().astype(np.uint8)
        pixels = np.dstack([multiplied, alpha])
        options: Any = {"photometric": "rgb" if colours == 3 else "minisblack"}
        content = tiff(pixels, planarconfig="contig", extrasamples=["assocalpha"], **options)
        source = read(path, content)
        visible = source.image.reshape(8, 8, -1)[1:]
        assert np.abs(visible - straight_colours.astype(int)).max() <= 2
        out = path.with_name("out" + suffix)
        write_image(out, source.image, like=source)
        with Image.open(out) as image:
            assert image.mode == ("RGBA" if colours == 3 else "LA")
            assert np.array_equal(np.asarray(image)[..., :-1], source.image.reshape(8, 8, -1))
            assert np.array_equal(np.asarray(image)[..., -1], alpha)

    def test_beside_more_channels(self, path: Path) -> None:
        pixels = random_pixels(9, 7, 5)
        extra = ["unspecified", "unassalpha"]
        source = read(path, tiff(pixels, photometric="rgb", extrasamples=extra))
        assert np.array_equal(source.image, pixels[..., :4])
        assert np.array_equal(source.alpha, pixels[..., 4])
        out = path.with_name("out.tif")
        write_image(out, source.image, like=source)
        with tifffile.TiffFile(out) as file:
            assert file.pages.first.photometric.name == "RGB"
            assert [int(each) for each in file.pages.first.extrasamples] == [0, 2]
            assert np.array_equal(file.asarray(), pixels)

    @pytest.mark.parametrize("extra", [[2, 0], [2, 2], [1, 2]])
    def test_in_another_place(self, path: Path, extra: list[int]) -> None:
        content = tiff(random_pixels(9, 7, 5), photometric="rgb", extrasamples=extra)
        refused(path, content, r"it has 5 samples, and opacity is not \(only\) the last one")

    def test_infrared_of_a_satellite(self, path: Path) -> None:
        pixels = random_pixels(9, 7, 4)
        scale = (33550, "d", 3, (30.0, 30.0, 0.0), True)
        keys = (34735, "H", 4, (1, 1, 0, 0), True)
        source = read(
            path, tiff(pixels, photometric="rgb", extrasamples=[0], extratags=[scale, keys])
        )
        assert source.alpha is None
        assert np.array_equal(source.image, pixels)

    def test_of_a_negative(self, path: Path) -> None:
        pixels = random_pixels(9, 7, 2)
        options: Any = {"photometric": "miniswhite", "planarconfig": "contig"}
        source = read(path, tiff(pixels, extrasamples=[2], **options))
        assert np.array_equal(source.image, 255 - pixels[..., 0])
        assert np.array_equal(source.alpha, pixels[..., 1])
        for extra in ([0], [1]):
            content = tiff(pixels, extrasamples=extra, **options)
            refused(path, content, "pixels of the kind MINISWHITE in 2 samples are not supported")

    @needs_packed_bits
    def test_of_12_bits(self, path: Path) -> None:
        # Full opacity of 12 bits would be little opacity in 16 bits.
        options: Any = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": [2]}
        content = tiff(random_pixels(8, 8, 2, bits=12), bitspersample=12, **options)
        refused(path, content, "opacity of 12 bits is not supported; convert the picture to 16")

    @pytest.mark.parametrize(("given", "wanted"), [("uint16", "uint8"), ("uint8", "float32")])
    def test_of_an_image_of_another_type(self, path: Path, given: str, wanted: str) -> None:
        alpha = np.linspace(0, np.iinfo(given).max, 9 * 7).reshape(9, 7).astype(given)
        like = ImageFile(np.zeros((9, 7), given), alpha=alpha)
        write_image(path, np.zeros((9, 7), wanted), like=like)
        full = 1 if wanted == "float32" else 255
        got = tifffile.imread(path)[..., 1]
        assert got.dtype == wanted
        assert np.allclose(got, np.linspace(0, full, 9 * 7).reshape(9, 7), atol=full / 250)

    @pytest.mark.filterwarnings("ignore")
    def test_unknown(self, path: Path) -> None:
        pixels = random_pixels(9, 7, 4)
        source = read(path, tiff(pixels, {338: 5}, photometric="rgb"))
        assert np.array_equal(source.alpha, pixels[..., 3])
        out = path.with_name("out.tif")
        write_image(out, source.image, like=source)
        assert np.array_equal(tifffile.imread(out), pixels)


class TestPng:
    def content(self, depth: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
        head = struct.pack(">IIBBBBB", 8, 1, depth, 0, 0, 0, 0)
        every = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(b"\0" + rows)), (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in every
        )

    @pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
    @pytest.mark.parametrize("clear", [None, 0, 1])
    def test_grey(self, path: Path, depth: int, clear: int | None) -> None:
        values = np.arange(8) % 2**depth
        bits = "".join(f"{value:0{depth}b}" for value in values)
        rows = int(bits, 2).to_bytes(depth, "big")
        chunks = [] if clear is None else [(b"tRNS", struct.pack(">H", clear))]
        source = read(path.with_suffix(".png"), self.content(depth, rows, *chunks))
        full = 65535 if depth == 16 else 255
        assert np.array_equal(source.image[0], values * (full // (2**depth - 1)))
        if clear is None:
            assert source.alpha is None
        else:
            assert source.alpha is not None
            assert np.array_equal(source.alpha[0], np.where(values == clear, 0, full))

    def test_colour_space(self, path: Path) -> None:
        kept = [
            (b"gAMA", struct.pack(">I", 100_000)),
            (b"cHRM", struct.pack(">8I", *range(30_000, 38_000, 1000))),
            (b"cICP", bytes((9, 16, 0, 1))),
        ]
        path = path.with_suffix(".png")
        source = read(path, self.content(8, bytes(range(8)), *kept))
        out = path.with_name("out.png")
        write_image(out, source.image, like=source)
        content = out.read_bytes()
        for name, data in kept:
            assert content.count(name + data) == 1
        with Image.open(out) as image:
            assert image.info["gamma"] == 1
        for suffix in (".jpg", ".tif"):
            with pytest.warns(UserWarning, match="out.* is without: colour space"):
                write_image(path.with_name("out" + suffix), source.image, like=source)

    def test_usual_colour_space(self, path: Path) -> None:
        path = path.with_suffix(".png")
        kept = [(b"gAMA", struct.pack(">I", 45_455)), (b"sRGB", b"\0")]
        source = read(path, self.content(8, bytes(range(8)), *kept))
        write_image(path.with_name("out.jpg"), source.image, like=source)

    def test_texts(self, path: Path) -> None:
        path = path.with_suffix(".png")
        kept = [(b"tEXt", b"Author\0Maker"), (b"iTXt", b"Title\0\0\0\0\0" + "Bäume".encode())]
        others = [(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>"), (b"tIME", bytes(7))]
        source = read(path, self.content(8, bytes(range(8)), *kept, *others))
        out = path.with_name("out.png")
        write_image(out, source.image, like=source)
        with Image.open(out) as image:
            assert image.info["Author"] == "Maker"
            assert image.info["Title"] == "Bäume"
        assert b"xmp" not in out.read_bytes()
        assert b"tIME" not in out.read_bytes()


class TestJpeg:
    def test_rgb_inside(self, path: Path) -> None:
        path = path.with_suffix(".jpg")
        content = bytes(imagecodecs.jpeg8_encode(plain(16, 16), colorspace=2, outcolorspace=2))
        assert b"Adobe" in content
        assert np.abs(read(path, content).image - np.int16(COLOUR)).max() <= 2

    @pytest.mark.parametrize("transform", [0, 2])
    def test_cmyk(self, path: Path, transform: int) -> None:
        path = path.with_suffix(".jpg")
        Image.new("CMYK", (9, 7), (10, 40, 90, 200)).save(path, quality=100)
        content = bytearray(path.read_bytes())
        content[content.index(b"Adobe") + 11] = transform  # 2 is YCCK
        path.write_bytes(content)
        source = read_image(path)
        with Image.open(path) as image:  # which says what the numbers of a file are
            np.testing.assert_array_equal(source.image, np.asarray(image))
        assert source.metadata["inks"]
        if not transform:
            assert np.abs(source.image - np.int16([10, 40, 90, 200])).max() <= 2

    def test_comment(self, path: Path) -> None:
        path = path.with_suffix(".jpg")
        Image.fromarray(plain(16, 16)).save(path, comment=b"hello")
        source = read_image(path)
        write_image(path, source.image, like=source, overwrite=True)
        with Image.open(path) as image:
            assert image.info["comment"] == b"hello"


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".jpg", "JPEG"), (".tif", "TIFF")])
def test_format(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"in{suffix}"
    write_image(path, plain(8, 8))
    assert read_image(path).format == kind
    assert ImageFile(plain(8, 8)).format == ""
    # The content says the format, not the name.
    path.rename(tmp_path / "in.other")
    assert read_image(tmp_path / "in.other").format == kind


class TestWhatAWriterMakes:
    def test_a_few_values_beyond_white_do_not_darken_a_png(self, tmp_path: Path) -> None:
        pixels = np.full((9, 7), 2048, np.uint16)
        like = ImageFile(pixels, metadata={"bits": 12})
        pixels[0, 0] = 4100  # enlarged pictures have such
        write_image(tmp_path / "a.png", pixels, like=like)
        written = read_image(tmp_path / "a.png").image
        assert written[0, 0] == 65535
        assert abs(int(written[1, 1]) - 32768) <= 16

    def test_large_tiffs_are_of_the_large_kind(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from dipfast.images.files.formats import tiff

        monkeypatch.setattr(tiff, "_LARGEST_CLASSIC", 100)
        exif = Image.Exif()
        exif[271] = "maker"
        pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
        Image.fromarray(pixels).save(tmp_path / "a.tif", compression="tiff_lzw", exif=exif)
        source = read_image(tmp_path / "a.tif")
        with pytest.warns(UserWarning, match="is without: EXIF"):
            write_image(tmp_path / "b.tif", pixels, like=source)
        with tifffile.TiffFile(tmp_path / "b.tif") as file:
            assert file.is_bigtiff
        assert np.array_equal(read_image(tmp_path / "b.tif").image, pixels)

    def test_statistics_of_the_noisy_pixels_are_left_out(self, tmp_path: Path) -> None:
        text = (
            '<GDALMetadata>\n  <Item name="STATISTICS_MEAN" sample="0">3.2</Item>\n'
            '  <Item name="SENSOR">seven</Item>\n</GDALMetadata>'
        )
        pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
        tifffile.imwrite(tmp_path / "a.tif", pixels, extratags=[(42112, "s", 0, text, True)])
        write_image(tmp_path / "b.tif", pixels, like=read_image(tmp_path / "a.tif"))
        with tifffile.TiffFile(tmp_path / "b.tif") as file:
            kept = file.pages.first.tags[42112].value
        assert "seven" in kept
        assert "STATISTICS" not in kept

    @pytest.mark.parametrize("planar", ["contig", "separate"])
    def test_bands_of_a_place_stay_in_one_directory(self, tmp_path: Path, planar: Any) -> None:
        bands = np.random.default_rng(0).integers(0, 5000, (9, 7, 6), np.uint16)
        scale = (33550, "d", 3, (30.0, 30.0, 0.0), True)
        tifffile.imwrite(
            tmp_path / "a.tif",
            bands if planar == "contig" else np.moveaxis(bands, -1, 0),
            photometric="minisblack",
            planarconfig=planar,
            extratags=[scale],
        )
        source = read_image(tmp_path / "a.tif")
        write_image(tmp_path / "b.tif", source.image, like=source)
        with tifffile.TiffFile(tmp_path / "b.tif") as file:
            assert len(file.pages) == 1
            assert file.pages.first.samplesperpixel == 6
            assert file.pages.first.tags[33550].value == (30.0, 30.0, 0.0)
        again = read_image(tmp_path / "b.tif")
        assert again.alpha is None
        axis = again.channel_axis
        assert axis is not None
        assert np.array_equal(np.moveaxis(again.image, axis, -1), bands)

    @pytest.mark.parametrize(
        ("kind", "bits", "text", "expected"),
        [
            *(("miniswhite", 8, "0", "255"), ("miniswhite", 8, "nothing", None)),
            *(("miniswhite", 1, "1", "0"), ("miniswhite", 1, "0", "255")),
            *(("minisblack", 1, "1", "255"), ("minisblack", 2, "2", "170")),
            *(("minisblack", 4, "15", "255"), ("minisblack", 4, "nan", None)),
            *(("minisblack", 8, "15", "15"), ("minisblack", 8, "nan", "nan")),
            ("palette", 8, "3", None),
        ],
    )
    def test_the_value_of_no_data_follows_the_values(
        self, tmp_path: Path, kind: Any, bits: int, text: str, expected: str | None
    ) -> None:
        pixels: Any = np.arange(64, dtype=np.uint8).reshape(8, 8) & ((1 << bits) - 1)
        options: Any = {"photometric": kind, "extratags": [(42113, "s", 0, text, True)]}
        if kind == "palette":
            options["colormap"] = np.random.default_rng(0).integers(0, 65536, (3, 256), np.uint16)
        pixels = pixels.astype(bool) if bits == 1 else pixels
        if bits in (2, 4) and not packs_bits():
            pytest.skip("imagecodecs cannot pack bits")
        tifffile.imwrite(tmp_path / "a.tif", pixels, bitspersample=bits, **options)
        source = read_image(tmp_path / "a.tif")
        named = pytest.warns(UserWarning, match="is without: the value that means no data$")
        with named if expected is None else contextlib.nullcontext():
            write_image(tmp_path / "b.tif", source.image, like=source)
        with tifffile.TiffFile(tmp_path / "b.tif") as file:
            tags = file.pages.first.tags
            assert (tags[42113].value if 42113 in tags else None) == expected
