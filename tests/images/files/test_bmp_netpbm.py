"""BMP, PGM and PPM: what is read of them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dipfast.errors import UnreadableFileError
from dipfast.images.files import ImageFile, Resolution, read_image, write_image

GREY = np.random.default_rng(0).integers(0, 256, (6, 9), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (6, 9, 3), dtype=np.uint8)
DEEP = np.random.default_rng(2).integers(0, 65536, (6, 9), dtype=np.uint16)


class TestBmp:
    def test_palette_and_two_colours(self, tmp_path: Path) -> None:
        palette = Image.fromarray(COLOUR).quantize(16)
        palette.save(tmp_path / "palette.bmp")
        got = read_image(tmp_path / "palette.bmp")
        assert np.array_equal(got.image, np.array(palette.convert("RGB")))
        Image.fromarray(GREY > 127).save(tmp_path / "two.bmp")
        assert np.array_equal(read_image(tmp_path / "two.bmp").image, (GREY > 127) * np.uint8(255))

    def test_resolution(self, tmp_path: Path) -> None:
        resolution = Resolution.of(5000, 2500, "m")
        like = ImageFile(COLOUR, 2, metadata={"resolution": resolution})
        write_image(tmp_path / "a.bmp", COLOUR, like=like)
        assert read_image(tmp_path / "a.bmp").metadata == {"resolution": resolution}
        write_image(tmp_path / "b.bmp", COLOUR)
        assert read_image(tmp_path / "b.bmp").metadata == {}

    @pytest.mark.parametrize("length", [2, 14, 20, 60])
    def test_cut_files_are_refused(self, tmp_path: Path, length: int) -> None:
        write_image(tmp_path / "a.bmp", COLOUR)
        (tmp_path / "cut.bmp").write_bytes((tmp_path / "a.bmp").read_bytes()[:length])
        with pytest.raises(UnreadableFileError, match=r"cannot read .*cut\.bmp"):
            read_image(tmp_path / "cut.bmp")


class TestNetpbm:
    @pytest.mark.parametrize("name", ["a.pgm", "a.ppm"])
    def test_others_read_what_is_written(self, tmp_path: Path, name: str) -> None:
        write_image(tmp_path / name, GREY)
        kind = b"P5" if name == "a.pgm" else b"P6"
        assert (tmp_path / name).read_bytes().startswith(kind)
        with Image.open(tmp_path / name) as opened:
            assert np.array_equal(np.array(opened.convert("L")), GREY)
        assert np.array_equal(read_image(tmp_path / name).image, GREY)

    def test_16_bits_are_in_the_order_of_the_standard(self, tmp_path: Path) -> None:
        write_image(tmp_path / "a.pgm", DEEP)
        content = (tmp_path / "a.pgm").read_bytes()
        assert content.endswith(b"65535\n" + DEEP.astype(">u2").tobytes())
        assert np.array_equal(read_image(tmp_path / "a.pgm").image, DEEP)

    @pytest.mark.parametrize("bits", [9, 12, 15])
    def test_white_of_fewer_bits_stays_white(self, tmp_path: Path, bits: int) -> None:
        white = (1 << bits) - 1
        pixels = np.array([[0, white // 3, white, white + 1]], np.uint16)
        write_image(tmp_path / "a.pgm", pixels, like=ImageFile(pixels, metadata={"bits": bits}))
        got = read_image(tmp_path / "a.pgm").image
        np.testing.assert_allclose(got, [[0, white // 3 / white * 65535, 65535, 65535]], atol=1)

    def test_text_and_comments(self, tmp_path: Path) -> None:
        (tmp_path / "a.pgm").write_bytes(b"P2\n# made\n3 # columns\n2\n255\n0 1 2\n253 254 255\n")
        assert read_image(tmp_path / "a.pgm").image.tolist() == [[0, 1, 2], [253, 254, 255]]
        (tmp_path / "a.ppm").write_bytes(b"P3 1 2 255\n1 2 3 4 5 6\n")
        assert read_image(tmp_path / "a.ppm").image.tolist() == [[[1, 2, 3]], [[4, 5, 6]]]

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"P5 2 1 4095\n\0\1\0\2", "its white is 4095, expected 255 or 65535"),
            (b"P6 1 1 65535\n" + bytes(6), "its white is 65535, expected 255; save it as PNG"),
            (b"P5 2 x 255\n\0\0", "its header is damaged"),
            (b"P5 2 1\n", "its header is damaged"),
            (b"P5 9 9 255\n\0", ""),
            (b"P5 100000 100000 255\n\0", "it declares 100000 x 100000 pixels"),
        ],
    )
    def test_refusals(self, tmp_path: Path, content: bytes, reason: str) -> None:
        (tmp_path / "in.pgm").write_bytes(content)
        with pytest.raises(UnreadableFileError, match=rf"in\.pgm: {reason}"):
            read_image(tmp_path / "in.pgm")
