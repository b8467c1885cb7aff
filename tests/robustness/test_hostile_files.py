"""Files made to harm their reader: they are refused before anything is decoded."""

from __future__ import annotations

import errno
import io
import os
import random
import re
import struct
import sys
import types
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image

from dipfast.images import files
from dipfast.images.files import limits, open_regular, read_image, write_image
from dipfast.images.files import read as reading
from dipfast.images.files.formats import _tiff_xml

posix = pytest.mark.skipif(os.name != "posix", reason="files of POSIX")
Tag = tuple[int, str, int, Any]


def random_pixels(*shape: int, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int = 8, rows: int = 0, beside: bytes = b"") -> bytes:
    """Return a grey PNG that declares a size, and holds so many rows of zeros."""
    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(rows * (1 + width * depth // 8)))
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + beside + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff(*directories: list[Tag], data: bytes = b"", big: bool = False) -> bytes:
    """Return a TIFF of directories one after the other, with ``data`` at offset 16.

    A tag is (code, type of struct, count, value), the value inline or, as bytes, an offset to it.
    """
    types_ = {"B": 1, "H": 3, "I": 4, "Q": 16}
    counter, number, width = ("<Q", "<HHQ", 8) if big else ("<H", "<HHI", 4)
    start = 16 + len(data)
    body = b""
    for index, tags in enumerate(directories):
        body += struct.pack(counter, len(tags))
        for code, kind, count, value in tags:
            inline = struct.pack(f"<{kind}", value) if kind != "?" else value
            body += struct.pack(number, code, types_[kind], count) + inline.ljust(width, b"\0")
        last = index == len(directories) - 1
        following = 0 if last else start + len(body) + width
        body += following.to_bytes(width, "little")
    if big:
        return struct.pack("<2sHHHQ", b"II", 43, 8, 0, start) + data + body
    return struct.pack("<2sHI", b"II", 42, start).ljust(16, b"\0") + data + body


def page(width: int = 6, height: int = 5, **changes: Any) -> list[Tag]:
    """Return the tags of a grey image in one uncompressed strip."""
    values = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 16, 277: 1, 278: height}
    values[279] = width * height
    values.update({int(code[1:]): value for code, value in changes.items()})
    return [(code, "I", 1, value) for code, value in values.items() if value is not None]


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], files.ImageFile]:
    def read(content: bytes) -> files.ImageFile:
        path = tmp_path / "hostile"
        path.write_bytes(content)
        return read_image(path)

    return read


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[bytes, str], None]:
    def refused(content: bytes, reason: str) -> None:
        path = tmp_path / "hostile"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"^cannot read {re.escape(str(path))}: .*{reason}"):
            read_image(path)

    return refused


def encoded(kind: str, pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    if kind == "png16":
        return bytes(imagecodecs.png_encode(pixels.astype(np.uint16)))
    if kind in ("png", "jpeg"):
        Image.fromarray(pixels).save(stream, kind)
    else:
        compression: Any = None if kind == "tiff" else kind
        tifffile.imwrite(stream, pixels, compression=compression, photometric="minisblack")
    return stream.getvalue()


KINDS = ["png", "png16", "jpeg", "tiff", "zlib", "lzw", "zstd", "packbits", "lzma"]


def jpeg_of_size(width: int, height: int) -> bytes:
    """Return a JPEG of 8x8 pixels that declares another size."""
    content = bytearray(encoded("jpeg", random_pixels(8, 8, 3)))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


class TestDeclaredSize:
    @pytest.mark.parametrize("kind", KINDS)
    def test_limit(
        self, kind: str, read: Any, refused: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = encoded(kind, np.zeros((300, 400), np.uint8))
        bytes_ = 2 if kind == "png16" else 1
        monkeypatch.setattr(limits, "LARGEST_IMAGE", 300 * 400 * bytes_)
        assert read(content).image.shape == (300, 400)
        monkeypatch.setattr(limits, "LARGEST_IMAGE", 300 * 400 * bytes_ - 1)
        refused(content, rf"it declares 400 x 300 pixels of {bytes_} bytes, .* GiB at most$")

    @pytest.mark.parametrize(("depth", "size"), [(8, "3.35"), (16, "6.71")])
    def test_png(self, depth: int, size: str, refused: Any) -> None:
        refused(
            png(60_000, 60_000, depth),
            rf"it declares 60000 x 60000 pixels of {depth // 8} bytes, {size} GiB, "
            r"expected 2 GiB at most$",
        )

    def test_jpeg(self, refused: Any) -> None:
        content = jpeg_of_size(65535, 65535)
        refused(content + bytes(2**23), "it declares 65535 x 65535 pixels of 3 bytes, 12 GiB, ")

    @pytest.mark.parametrize("big", [False, True])
    @pytest.mark.parametrize("compression", [1, 5, 7, 8, 32773, 34712, 50000])
    def test_tiff(self, compression: int, big: bool, refused: Any) -> None:
        tags = page(50_000, 50_000, _259=compression, _279=10)
        reason = "it declares 50000 x 50000 pixels of 1 bytes, 2.33 GiB, "
        refused(tiff(tags, data=bytes(10), big=big), reason)

    @pytest.mark.parametrize(
        ("width", "height"), [(0, 5), (5, 0), (2**31 - 1, 2**31 - 1), (2**32 - 1, 2**32 - 1)]
    )
    def test_absurd(self, width: int, height: int, refused: Any) -> None:
        refused(png(width, height), ".")
        refused(png(width, height, 16), ".")
        refused(tiff(page(width, height, _278=1, _279=10)), ".")

    def test_not_more_than_memory(
        self, read: Any, refused: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        memory = types.SimpleNamespace(available=5 * 30)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
        assert read(png(6, 5, rows=5)).image.shape == (5, 6)
        memory.available -= 5
        refused(png(6, 5, rows=5), r"it declares 6 x 5 pixels .* that memory holds$")

    def test_large_pictures_are_nobodys_bombs(
        self, read: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Pillow warns from this number of pixels on, and refuses twice as many.
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        for kind in KINDS:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert read(encoded(kind, np.zeros((30, 40), np.uint8))).image.shape == (30, 40)
        assert Image.MAX_IMAGE_PIXELS == 10

    def test_size_of_the_file(self, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "LARGEST_IMAGE", 200)
        refused(png(6, 5, rows=5) + bytes(400), "it has .* GiB, expected .* GiB at most")

    def test_memory_that_a_decoder_does_not_get(
        self, refused: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise MemoryError

        monkeypatch.setattr(imagecodecs, "png_decode", fail)
        refused(encoded("png16", random_pixels(5, 6)), "memory does not suffice")


class TestLyingHeader:
    @pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
    def test_png_with_fewer_rows(self, depth: int, read: Any, refused: Any) -> None:
        assert read(png(80, 90, depth, rows=90)).image.shape == (90, 80)
        for rows in (0, 3, 89):
            refused(png(80, 90, depth, rows=rows), ".")

    def test_interlaced_png_with_fewer_rows(self, read: Any, refused: Any) -> None:
        for width, height, size in ((1, 1, 2), (2, 1, 4), (8, 8, 79), (5, 3, 22)):
            head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1))
            for count in (size, size - 1):
                # The pixels are in two chunks, because encoders split them too.
                pixels = zlib.compress(bytes(count))
                pieces = chunk(b"IDAT", pixels[:5]) + chunk(b"IDAT", pixels[5:])
                content = b"\x89PNG\r\n\x1a\n" + head + pieces + chunk(b"IEND", b"")
                if count == size:
                    assert read(content).image.shape == (height, width)
                else:
                    refused(content, ".")

    def test_jpeg(self, refused: Any) -> None:
        content = jpeg_of_size(20_000, 20_000)
        refused(content, "it declares 20000 x 20000 pixels, more than .* bytes of JPEG can be")

    @pytest.mark.parametrize("depth", [8, 16])
    def test_png_with_two_headers(self, depth: int, refused: Any) -> None:
        small = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, depth, 0, 0, 0, 0))
        refused(png(60_000, 60_000, depth, beside=small), "it does not begin with its size")

    def test_png_without_a_header(self, refused: Any) -> None:
        refused(b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", b"") + chunk(b"IEND", b""), ".")

    @pytest.mark.parametrize("big", [False, True])
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"_256": 400}, "failed to read"),
            ({"_279": 2**31 - 1, "_259": 8}, "."),
            ({"_278": 1, "_259": 8}, "it declares 5 strips or tiles, but has 1"),
            ({"_258": 7919}, "pixels of 7919 bits are not supported"),
            ({"_277": 60_000}, "."),
            ({"_273": 2**32 - 1}, "."),
            ({"_273": None}, "."),
            ({"_322": 1, "_323": 1, "_259": 8}, "."),
            ({"_322": 0, "_323": 0, "_259": 8}, "."),
            ({"_322": 2**31, "_323": 2**31, "_324": 16, "_325": 9}, "strips or tiles .*too large"),
        ],
    )
    def test_tiff(self, changes: dict[str, Any], reason: str, big: bool, refused: Any) -> None:
        refused(tiff(page(**changes), data=bytes(30), big=big), reason)

    def test_a_billion_strips(self, refused: Any) -> None:
        tags = page(1, 2**31 - 1, _278=1, _259=8)
        refused(tiff(tags, data=bytes(30)), "it declares 2147483647 strips or tiles, but has 1")

    def test_what_helpers_make_is_read(self, read: Any) -> None:
        pixels = random_pixels(5, 6)
        for big in (False, True):
            content = tiff(page(), data=pixels.tobytes(), big=big)
            assert np.array_equal(read(content).image, pixels)
        assert read(png(6, 5, rows=5)).image.sum() == 0

    @pytest.mark.parametrize(
        ("code", "encode"),
        [(7, imagecodecs.jpeg8_encode), (34712, imagecodecs.jpeg2k_encode)],
    )
    def test_tile_that_is_larger_inside(
        self, code: int, encode: Any, read: Any, refused: Any
    ) -> None:
        for shape, good in (((16, 16), True), ((100, 90), False), ((16, 16, 3), False)):
            data = bytes(encode(np.full(shape, 7, np.uint8)))
            content = tiff(page(16, 16, _259=code, _279=len(data)), data=data)
            if good:
                assert np.ptp(read(content).image) == 0
            else:
                refused(
                    content, r"it declares strips or tiles \(16, 16\), but one is \(\d+, .* inside"
                )

    @pytest.mark.parametrize(
        ("code", "name"), [(34887, "LERC"), (50001, "WEBP"), (34933, "PNG"), (65535, "65535")]
    )
    def test_compression_without_bounds(self, code: int, name: str, refused: Any) -> None:
        content = tiff(page(_259=code), data=bytes(30))
        refused(content, f"the compression {name} is not supported")

    def test_png_in_one_large_chunk(self, read: Any) -> None:
        pixels = random_pixels(500, 400)
        rows = b"".join(b"\0" + row.tobytes() for row in pixels)
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", 400, 500, 8, 0, 0, 0, 0))
        data = chunk(b"IDAT", zlib.compress(rows, 0))
        assert np.array_equal(
            read(b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b"")).image, pixels
        )


class TestDirectories:
    def linked(self, following: list[int], count: int = 120) -> bytes:
        """Return a TIFF of directories without tags, each followed by the one of that index."""
        offsets = [16 + 6 * k for k in range(count)]
        body = b"".join(
            struct.pack("<HI", 0, offsets[following[k]] if k < len(following) else 0)
            for k in range(count)
        )
        return struct.pack("<2sHI", b"II", 42, 16).ljust(16, b"\0") + body

    @pytest.mark.parametrize("back", [0, 1, 50, 99, 100, 118])
    def test_circle(self, back: int, refused: Any) -> None:
        following = [*range(1, 120), back]
        refused(self.linked(following), "its directories go round in a circle")

    def test_through_the_header(self, refused: Any) -> None:
        # The bytes from 2 on are read as a directory of 42 tags, which is followed by itself.
        content = bytearray(tiff(page(), data=bytes(600)))
        content[-4:] = struct.pack("<I", 2)
        content[4 + 42 * 12 : 8 + 42 * 12] = struct.pack("<I", 2)
        refused(bytes(content), "its directories go round in a circle")

    def test_itself(self, refused: Any) -> None:
        refused(self.linked([0], 1), "its directories go round in a circle")

    def test_too_many(self, refused: Any) -> None:
        content = self.linked(list(range(1, 5000)), 5000)
        refused(content, "it holds more than 4096 directories")

    def test_circle_of_sub_directories(self, refused: Any) -> None:
        content = tiff([*page(), (330, "I", 1, 16 + 30)], data=bytes(30))
        refused(content, "its directories go round in a circle")

    def test_too_many_sub_directories(self, refused: Any) -> None:
        count = 5000
        inner = b"".join(struct.pack("<HI", 0, 0) for _ in range(count))
        table = struct.pack(f"<{count}I", *(16 + 6 * k for k in range(count)))
        content = tiff([*page(), (330, "I", count, 16 + len(inner))], data=inner + table)
        refused(content, "it holds more than 4096 directories")

    @pytest.mark.parametrize("kind", ["B", "H"])
    def test_sub_directories_that_are_no_offsets(self, kind: str, refused: Any) -> None:
        refused(tiff([*page(), (330, kind, 1, 100)], data=bytes(30)), "tag 330 is of type")

    @pytest.mark.parametrize("count", [2**20 + 1, 2**31])
    def test_count_of_a_tag(self, count: int, refused: Any) -> None:
        content = tiff([*page(), (65000, "I", count, 16)], data=bytes(30))
        refused(content, f"tag 65000 declares {count} numbers, expected 1048576 at most")

    def test_tags_that_share_their_bytes(self, refused: Any) -> None:
        tags: list[Tag] = [(65000 + k, "B", 30_000, 16) for k in range(20)]
        content = tiff([*page(), *tags], data=bytes(30_000))
        refused(content, r"its tags declare 6\d{5} bytes, but the file has 30\d{3}")

    def test_too_many_tags(self, refused: Any) -> None:
        content = tiff([(65000, "B", 1, 0)] * 4097)
        refused(content, "a directory of 4097 tags, expected 4096 at most")

    @pytest.mark.parametrize("big", [False, True])
    def test_cut_off(self, big: bool, refused: Any) -> None:
        content = tiff(page(), data=bytes(30), big=big)
        for end in range(46, len(content)):
            refused(content[:end], ".")

    def test_planes_of_metamorph(self, refused: Any) -> None:
        content = tiff([*page(), (33629, "I", 7, 16)], data=bytes(30))
        refused(content, "it holds a stack of 7 images, expected one image")


class TestMetadata:
    def test_texts_that_expand(self, read: Any, refused: Any) -> None:
        small = chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(1000)))
        assert read(png(6, 5, rows=5, beside=small)).image.shape == (5, 6)
        bomb = zlib.compress(bytes(20_000_000))
        for depth in (8, 16):
            for name, start in (
                (b"zTXt", b"key\0\0"),
                (b"iTXt", b"key\0\1\0\0\0"),
                (b"iCCP", b"key\0\0"),
            ):
                refused(png(6, 5, depth, 5, chunk(name, start + bomb)), "too large")

    def test_many_texts_that_expand(self, refused: Any) -> None:
        text = chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(1_000_000)))
        refused(png(6, 5, rows=5, beside=text * 80), ".")

    def test_scans(self, read: Any, refused: Any) -> None:
        stream = io.BytesIO()
        Image.fromarray(random_pixels(16, 16)).save(stream, "JPEG", progressive=True)
        content = stream.getvalue()
        last = content.rindex(b"\xff\xda")
        assert read(content).image.shape == (16, 16)
        content = content[:last] + content[last:-2] * 100 + content[-2:]
        refused(content, r"it is a JPEG of 1\d\d scans, expected 100 at most")
        inside = page(16, 16, _259=7, _279=len(content))
        refused(tiff(inside, data=content), r"it is a JPEG of 1\d\d scans")

    @pytest.mark.parametrize(
        ("description", "good"),
        [
            ('{"shape": ' + "[" * 100_000 + "]" * 100_000 + "}", False),
            ('{"shape": [1000000000000, 5, 6]}', False),
            ('{"shape": ["a", {}]}', False),
            ("ImageJ=1.5\nimages=1000000000000\nslices=1000000000000\n", True),
        ],
    )
    def test_descriptions(
        self, description: str, good: bool, tmp_path: Path, read: Any, refused: Any
    ) -> None:
        path = tmp_path / "in.tif"
        tifffile.imwrite(path, random_pixels(5, 6), description=description, metadata=None)
        if good:
            assert read(path.read_bytes()).image.shape == (5, 6)
        else:
            refused(path.read_bytes(), ".")

    def ome(self, path: Path, text: str) -> None:
        with tifffile.TiffWriter(path) as writer:
            for k in range(3):
                description = text if k == 0 else None
                writer.write(random_pixels(5, 6), description=description, metadata=None)

    @pytest.mark.parametrize(
        ("sizes", "good"),
        [
            ('SizeC="3" SizeZ="1" SizeT="1"', True),
            ('SizeC="1" SizeZ="3" SizeT="1"', True),
            ('SizeC="1" SizeZ="1" SizeT="100000000000"', False),
            ("", False),
        ],
    )
    def test_sizes_of_ome(self, tmp_path: Path, sizes: str, good: bool) -> None:
        path = tmp_path / "in.tif"
        planes = '<TiffData IFD="0" PlaneCount="1000000000000"/>'
        self.ome(path, f"<OME><Image><Pixels {sizes}>{planes}</Pixels></Image></OME>")
        if good:
            assert read_image(path).image.shape == (3, 5, 6)
        else:
            with pytest.raises(ValueError, match="it holds a stack"):
                read_image(path)

    def test_entities_of_ome(self, tmp_path: Path) -> None:
        path = tmp_path / "in.tif"
        entities = '<!DOCTYPE a [<!ENTITY a "3"><!ENTITY b "&a;&a;&a;&a;">]>'
        self.ome(path, f'{entities}<OME><Pixels SizeC="&b;"/></OME>')
        with pytest.raises(ValueError, match=r"in\.tif: its OME-XML declares entities"):
            read_image(path)

    @pytest.mark.parametrize(
        ("inside", "reason"),
        [
            (
                '<!DOCTYPE a [<!ENTITY b "3">]><OME><Pixels SizeC="&b;"/></OME>',
                "its OME-XML declares entities",
            ),
            ("<OME>" + "<Channel/>" * 2**16 + "</OME>", "its XML holds more than 65536 elements"),
            ("<OME>" + "<a>" * 100_000 + "</a>" * 100_000 + "</OME>", None),
            ("<OME>" + "<Channel>" * 50_000 + "</Channel>" * 50_000 + "</OME>", None),
            ("<OME>" + "<a/>" * 500_000 + "</OME>", None),
            ("<OME a='>' b=\"'>\"><Pixels SizeC='1' SizeZ='1' SizeT='1' x='&quot;'/></OME>", None),
        ],
    )
    def test_texts_of_ome(
        self, tmp_path: Path, inside: str, reason: str | None, refused: Any
    ) -> None:
        path = tmp_path / "in.tif"
        tifffile.imwrite(path, random_pixels(5, 6), description=inside, metadata=None)
        if reason is not None:
            refused(path.read_bytes(), reason)
            return
        source = read_image(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write_image(tmp_path / "out.tif", source.image, like=source)
        assert np.array_equal(read_image(tmp_path / "out.tif").image, source.image)

    def test_size_of_ome(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_tiff_xml, "_LARGEST_TEXT", 100)
        path = tmp_path / "in.tif"
        text = "<OME>" + "x" * 100 + "</OME>"
        tifffile.imwrite(path, random_pixels(5, 6), description=text, metadata=None)
        with pytest.raises(ValueError, match="its XML has 111 bytes, expected 100 at most"):
            read_image(path)

    @pytest.mark.parametrize("number", [1, 1000, 2**32 - 1])
    def test_parts_of_imagej(self, tmp_path: Path, number: int) -> None:
        parts = 50_000
        head = b"JIJI" + struct.pack("<4sI", b" ior", number) * parts
        counts = (len(head), *(2**31,) * 50_000)
        tags = [(50838, "I", len(counts), counts, True), (50839, "B", len(head), head, True)]
        path = tmp_path / "in.tif"
        tifffile.imwrite(
            path, random_pixels(5, 6), description="ImageJ=1\n", metadata=None, extratags=tags
        )
        source = read_image(path)
        with pytest.warns(UserWarning, match=r"is without: region of interest$"):
            write_image(tmp_path / "out.tif", np.zeros((10, 12), np.uint8), like=source)
        with tifffile.TiffFile(tmp_path / "out.tif") as file:
            assert file.pages.first.tags.get(50839) is None

    @pytest.mark.parametrize("place", [8, 16, 10_000, 2**32 - 1])
    @pytest.mark.parametrize("code", [34665, 34853])
    def test_exif_of_a_tiff_that_leads_anywhere(
        self, tmp_path: Path, code: int, place: int, read: Any
    ) -> None:
        # Among the places are the directory itself and the header.
        data = struct.pack("<HHHIII", 1, 0xA005, 4, 1, place, 0)
        source = read(tiff([*page(_273=64), (code, "I", 1, place)], data=data + bytes(100)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write_image(tmp_path / "out.tif", source.image, like=source)
        assert np.array_equal(read_image(tmp_path / "out.tif").image, source.image)

    def test_exif_of_many_tags(self, tmp_path: Path) -> None:
        tags = b"".join(struct.pack("<HHII", 60_000 + k % 5000, 7, 4, k) for k in range(4096))
        data = b"II*\0" + struct.pack("<IH", 8, 4096) + tags + bytes(4)
        path = tmp_path / "in.png"
        Image.fromarray(random_pixels(5, 6)).save(path, exif=b"Exif\0\0" + data)
        source = read_image(path)
        write_image(tmp_path / "out.png", np.zeros((10, 12), np.uint8), like=source)
        assert len(read_image(tmp_path / "out.png").metadata["exif"].data) == len(data)

    def test_other_files_are_not_read(self, tmp_path: Path) -> None:
        pixels = random_pixels(3, 5, 6)
        uuid = '<UUID FileName="other.ome.tif">urn:uuid:2</UUID>'
        text = (
            '<OME UUID="urn:uuid:1"><Image><Pixels DimensionOrder="XYCZT" SizeX="6" SizeY="5" '
            'SizeC="3" SizeZ="1" SizeT="1" Type="uint8"><Channel SamplesPerPixel="1"/>'
            f'<TiffData FirstC="0" IFD="0" PlaneCount="1">{uuid}</TiffData></Pixels></Image></OME>'
        )
        tifffile.imwrite(tmp_path / "other.ome.tif", pixels[1], metadata=None)
        path = tmp_path / "in.ome.tif"
        tifffile.imwrite(path, pixels[0], description=text, metadata=None)
        assert np.array_equal(read_image(path).image, pixels[0])


@posix
class TestNoRegularFile:
    @pytest.mark.timeout(20)
    @pytest.mark.parametrize("linked", [False, True])
    def test_pipe(self, tmp_path: Path, linked: bool) -> None:
        os.mkfifo(tmp_path / "pipe")
        path = tmp_path / "pipe"
        if linked:
            path = tmp_path / "link"
            path.symlink_to(tmp_path / "pipe")
        with pytest.raises(ValueError, match=f"cannot read {path}: it is not a regular file"):
            read_image(path)

    @pytest.mark.timeout(20)
    @pytest.mark.parametrize("name", ["/dev/zero", "/dev/null"])
    def test_device(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"cannot read {name}: it is not a regular file"):
            open_regular(name)

    def test_links(self, tmp_path: Path) -> None:
        (tmp_path / "in.png").write_bytes(png(6, 5, rows=5))
        (tmp_path / "link").symlink_to(tmp_path / "in.png")
        (tmp_path / "chain").symlink_to(tmp_path / "link")
        assert read_image(tmp_path / "chain").image.shape == (5, 6)
        (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
        with pytest.raises(FileNotFoundError):
            read_image(tmp_path / "dangling")
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        with pytest.raises(OSError, match="loop"):
            read_image(tmp_path / "loop")
        (tmp_path / "folder").symlink_to(tmp_path)
        with pytest.raises(IsADirectoryError):
            read_image(tmp_path / "folder")

    def test_no_permission(self, tmp_path: Path) -> None:
        path = tmp_path / "in.png"
        path.write_bytes(png(6, 5, rows=5))
        path.chmod(0)
        if os.geteuid() == 0:
            pytest.skip("permissions do not hold root back")
        with pytest.raises(PermissionError) as caught:
            read_image(path)
        assert caught.value.filename == str(path)


class TestErrors:
    @pytest.mark.parametrize(
        "error",
        [
            *(RecursionError("deep"), KeyError("key"), OverflowError("large"), EOFError("end")),
            *(AssertionError(), SyntaxError("broken"), struct.error("short"), zlib.error("zlib")),
            *(OSError("broken data stream"), OSError(errno.EINVAL, "Invalid argument")),
            *(UserWarning("a warning"), tifffile.TiffFileError("tiff"), StopIteration()),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_of_decoders_name_the_file(
        self, error: Exception, refused: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_: Any) -> None:
            raise error

        monkeypatch.setattr(reading, "_read", fail)
        refused(b"", re.escape(str(error) or type(error).__name__))

    def test_of_the_system_stay(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: Any) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(reading, "_read", fail)
        (tmp_path / "in.png").touch()
        with pytest.raises(OSError, match="Input/output error") as caught:
            read_image(tmp_path / "in.png")
        assert caught.value.filename == str(tmp_path / "in.png")

    def test_do_not_write_into_a_terminal(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_: Any) -> None:
            raise ValueError("\x1b[31mred\n" + "x" * 10_000)

        monkeypatch.setattr(reading, "_read", fail)
        (tmp_path / "in.png").touch()
        with pytest.raises(ValueError, match=r": \S?\[31mred x+$|:  \[31mred x+$") as caught:
            read_image(tmp_path / "in.png")
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 500 + len(str(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="counts processor time and memory")
def test_a_little_fuzzing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fuzz for a short while; ``python -m tests.robustness.fuzz`` does it for any time."""
    from tests.robustness import fuzz

    monkeypatch.setattr(limits, "LARGEST_IMAGE", limits.LARGEST_IMAGE)  # fuzz changes the limit
    rng, seeds, path = random.Random(0), fuzz.images(), tmp_path / "input"
    for _ in range(5):
        for content in seeds:
            for mutated in (fuzz.mutate_image(rng, content), fuzz.mutate_bytes(rng, content)):
                path.write_bytes(mutated)
                kind, reason = fuzz.outcome(fuzz.READERS["image"], path)
                assert kind != "findings", reason
