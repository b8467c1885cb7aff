"""FITS as image files: numbers, headers, coordinates, and files that are not what they declare."""

from __future__ import annotations

import gzip
import io
import sys
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dipfast.apps.cli import main
from dipfast.errors import DipfastError, MissingExtraError, UnreadableFileError
from dipfast.images.files import ImageFile, formats, limits, read_image, write_image
from dipfast.images.files.formats import by_name

fits = pytest.importorskip("astropy.io.fits", reason="FITS needs the extra fits")

DTYPES = by_name("FITS").dtypes
CARDS: dict[str, Any] = {
    **{"OBJECT": "M 31", "EXPTIME": 1200.0, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"},
    **{"CRVAL1": 10.68, "CRVAL2": 41.27, "CRPIX1": 4.5, "CRPIX2": 3.0},
    **{"CDELT1": -0.01, "CDELT2": 0.02, "HIERARCH A long keyword": 3, "HISTORY": "flat fielded"},
}
LINEAR = {"CD1_1": -0.01, "CD1_2": 0.003, "CD2_1": 0.002, "CD2_2": 0.02}


def numbers(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return random numbers over the whole range of a type."""
    rng = np.random.default_rng(0)
    if "float" in dtype:
        return rng.normal(size=shape).astype(dtype)
    ends = np.iinfo(dtype)
    return rng.integers(ends.min, ends.max, shape, dtype, endpoint=True)


def header(**cards: Any) -> Any:
    made = fits.Header()
    for key, value in {**CARDS, **cards}.items():
        made[key] = value
    return made


def written(*units: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    fits.HDUList(list(units)).writeto(stream, **options)
    return stream.getvalue()


def raw(*cards: str, data: bytes = b"", pads: bool = True) -> bytes:
    """Return a file of any cards and data."""
    text = "".join(card.ljust(80) for card in (*cards, "END")).encode()
    padded = text + b" " * (-len(text) % 2880) + data
    return padded + bytes(-len(data) % 2880) if pads else padded


def plain(bits: int, *axes: int) -> list[str]:
    """Return the cards that every image has."""
    lengths = [f"NAXIS{number}  = {length:20}" for number, length in enumerate(axes, 1)]
    first = f"SIMPLE  = {'T':>20}"
    return [first, f"BITPIX  = {bits:20}", f"NAXIS   = {len(axes):20}", *lengths]


def read(path: Path, content: bytes) -> ImageFile:
    path.write_bytes(content)
    return read_image(path)


def refusal(path: Path, content: bytes) -> str:
    """Return why a file is refused."""
    with pytest.raises(UnreadableFileError) as caught:
        read(path, content)
    return str(caught.value).removeprefix(f"cannot read {path}: ")


class TestRoundTrip:
    @pytest.mark.parametrize("shape", [(9, 7), (3, 9, 7), (4, 9, 7), (1, 9, 7), (1, 1, 9, 7)])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_bytes_stay(self, tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
        array = numbers(shape, dtype)
        content = written(fits.PrimaryHDU(array, header()))
        source = read(tmp_path / "in.fits", content)
        colour = shape[0] in (3, 4)
        assert (source.format, source.channel_axis) == ("FITS", 0 if colour else None)
        assert source.image.dtype == dtype
        assert source.image.dtype.isnative
        assert source.image.flags.writeable
        assert np.array_equal(source.image, array.reshape(shape if colour else (9, 7)))
        write_image(tmp_path / "out.fits", source.image, like=source)
        assert (tmp_path / "out.fits").read_bytes() == content

    def test_image_in_an_extension(self, tmp_path: Path) -> None:
        first = fits.Header({"TELESCOP": "HST"})
        units = fits.PrimaryHDU(header=first), fits.ImageHDU(numbers((9, 7), "int16"), header())
        content = written(*units)
        source = read(tmp_path / "in.fits", content)
        write_image(tmp_path / "out.fits", source.image, like=source)
        assert (tmp_path / "out.fits").read_bytes() == content

    def test_tables_before_the_image_are_passed_over(self, tmp_path: Path) -> None:
        table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.arange(3.0))])
        units = fits.PrimaryHDU(), table, fits.ImageHDU(numbers((9, 7), "int16"), header())
        source = read(tmp_path / "in.fits", written(*units))
        assert np.array_equal(source.image, units[-1].data)
        with pytest.warns(UserWarning, match=r"out\.fits is without: 1 other HDU$"):
            write_image(tmp_path / "out.fits", source.image, like=source)

    def test_what_follows_is_left_out_with_a_warning(self, tmp_path: Path) -> None:
        images = [fits.ImageHDU(numbers((9, 7), "int16"), name=name) for name in ("ERR", "DQ")]
        main_header = header(CPDIS1="LOOKUP")
        first = fits.PrimaryHDU(numbers((9, 7), "float32"), main_header)
        source = read(tmp_path / "in.fits", written(first, *images) + b"what follows" * 300)
        message = r"out\.fits is without: 2 other HDUs, tables of distortions$"
        with pytest.warns(UserWarning, match=message):
            write_image(tmp_path / "out.fits", source.image, like=source)
        assert "CPDIS1" not in fits.getheader(tmp_path / "out.fits")

    def test_which_unit_is_read_is_said(self, tmp_path: Path) -> None:
        named = [fits.ImageHDU(numbers((9, 7), "int16"), name=name) for name in ("SCI", "DQ")]
        source = read(tmp_path / "in.fits", written(fits.PrimaryHDU(), *named))
        assert source.remarks == ("HDU 1 (SCI) is read, and 1 other is left out",)
        assert source.unread == source.remarks[0]
        assert source.assumptions == ()
        cube = fits.PrimaryHDU(numbers((5, 9, 7), "int16"))
        source = read(tmp_path / "in.fits", written(cube, *named))
        assert source.remarks[0] == "HDU 0 is read, and 2 others are left out"
        assert source.assumptions == source.remarks[1:] != ()
        alone = read(tmp_path / "in.fits", written(fits.PrimaryHDU(), named[0]))
        assert (alone.remarks, alone.unread) == ((), "")

    def test_the_command_line_says_it_once(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pixels = np.random.default_rng(0).normal(100, 5, (24, 24)).astype(np.float32)
        units = [fits.ImageHDU(pixels + k, name=name) for k, name in enumerate(("SCI", "ERR"))]
        several, single = str(tmp_path / "in.fits"), str(tmp_path / "single.fits")
        Path(several).write_bytes(written(fits.PrimaryHDU(), *units))
        Path(single).write_bytes(written(fits.PrimaryHDU(pixels)))
        remark = "HDU 1 (SCI) is read, and 1 other is left out"
        assert main(["info", several]) == 0
        assert f"  {remark}\n" in capsys.readouterr().out
        assert main(["compare", single, several]) == 0
        assert f"; {several}: {remark}" in capsys.readouterr().out
        out = str(tmp_path / "out.fits")
        assert main(["denoise", several, out, "--quality", "fast", "--quiet"]) == 0
        told = "".join(capsys.readouterr())
        assert "out.fits is without: 1 other HDU" in told
        assert "SCI" not in told

    def test_check_sums_of_old_pixels_are_not_kept(self, tmp_path: Path) -> None:
        image = fits.PrimaryHDU(numbers((9, 7), "int16"), header(DATAMAX=7.0))
        source = read(tmp_path / "in.fits", written(image, checksum=True))
        write_image(tmp_path / "out.fits", source.image // 2, like=source)
        kept = fits.getheader(tmp_path / "out.fits")
        assert not {"CHECKSUM", "DATASUM", "DATAMAX"} & set(kept)
        assert kept["OBJECT"] == "M 31"

    def test_another_type_than_that_of_the_file(self, tmp_path: Path) -> None:
        content = written(fits.PrimaryHDU(numbers((9, 7), "uint16"), header()))
        source = read(tmp_path / "in.fits", content)
        array = numbers((9, 7), "float32")
        array[0, 0] = np.nan
        write_image(tmp_path / "out.fits", array, like=source)
        with fits.open(tmp_path / "out.fits") as opened:
            assert opened[0].data.dtype == ">f4"
            assert np.array_equal(opened[0].data, array, equal_nan=True)
            assert opened[0].header["OBJECT"] == "M 31"
            assert "BZERO" not in opened[0].header

    @pytest.mark.parametrize("kind", ["RICE_1", "GZIP_1", "GZIP_2", "NOCOMPRESS"])
    @pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
    def test_compressed_images(self, tmp_path: Path, kind: str, dtype: str) -> None:
        array = numbers((40, 50), dtype)
        image = fits.CompImageHDU(array, header(), compression_type=kind, tile_shape=(20, 50))
        content = written(fits.PrimaryHDU(), image)
        source = read(tmp_path / "in.fits", content)
        expected = fits.getdata(io.BytesIO(content), 1)
        assert source.image.dtype == dtype
        assert np.array_equal(source.image, expected)
        write_image(tmp_path / "out.fits", source.image, like=source)
        with fits.open(tmp_path / "out.fits") as opened:
            assert type(opened[1]) is fits.ImageHDU
            assert np.array_equal(opened[1].data, expected)
            assert opened[1].header["CRPIX1"] == 4.5
            assert not [key for key in opened[1].header if key.startswith("Z")]


class TestMissingAndScaledPixels:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_nan(self, tmp_path: Path, dtype: str) -> None:
        array = numbers((9, 7), dtype)
        array[2, 3] = np.nan
        source = read(tmp_path / "in.fits", written(fits.PrimaryHDU(array)))
        assert np.array_equal(source.image, array, equal_nan=True)

    @pytest.mark.parametrize(
        ("bits", "kind", "dtype"),
        [(8, "u1", "float32"), (16, ">i2", "float32"), (32, ">i4", "float64")],
    )
    @pytest.mark.parametrize("zero", [0, 32768])
    def test_blank(self, tmp_path: Path, bits: int, kind: str, dtype: str, zero: int) -> None:
        stored = np.arange(6, dtype=kind).reshape(2, 3)
        cards = [*plain(bits, 3, 2), "BLANK   = 4", f"BZERO   = {zero}", "OBJECT  = 'M 31'"]
        source = read(tmp_path / "in.fits", raw(*cards, data=stored.tobytes()))
        expected = stored.astype(dtype) + zero
        expected[1, 1] = np.nan
        assert source.image.dtype == dtype
        assert np.array_equal(source.image, expected, equal_nan=True)
        said = f"1 value of BLANK (4) means no data: NaN, so that all are {dtype}"
        assert source.remarks == (said,)
        write_image(tmp_path / "out.fits", source.image, like=source)
        with fits.open(tmp_path / "out.fits") as opened:
            assert np.array_equal(opened[0].data, expected, equal_nan=True)
            assert not {"BLANK", "BZERO"} & set(opened[0].header)
            assert opened[0].header["OBJECT"] == "M 31"

    def test_integers_without_blank_pixels_stay_integers(self, tmp_path: Path) -> None:
        stored = np.arange(6, dtype=">i2").reshape(2, 3)
        cards = [*plain(16, 3, 2), "BLANK   = -32768"]
        source = read(tmp_path / "in.fits", raw(*cards, data=stored.tobytes()))
        assert source.image.dtype == np.int16
        assert np.array_equal(source.image, stored)
        assert source.remarks == ()
        write_image(tmp_path / "out.fits", source.image, like=source)
        assert "BLANK" not in fits.getheader(tmp_path / "out.fits")

    @pytest.mark.parametrize(
        ("bits", "kind", "dtype"),
        [(16, ">i2", "float32"), (32, ">i4", "float64"), (-32, ">f4", "float32")],
    )
    def test_scaled(self, tmp_path: Path, bits: int, kind: str, dtype: str) -> None:
        stored = np.arange(6, dtype=kind).reshape(2, 3)
        cards = [*plain(bits, 3, 2), "BSCALE  = 0.5", "BZERO   = 10.0"]
        content = raw(*cards, data=stored.tobytes())
        source = read(tmp_path / "in.fits", content)
        assert source.image.dtype == dtype
        assert np.array_equal(source.image, stored * 0.5 + 10)
        assert np.array_equal(source.image, fits.getdata(io.BytesIO(content)))

    @pytest.mark.parametrize(
        "card", ["BSCALE  = 0", "BSCALE  = 'x'", "BZERO   = 1E308", "BZERO = T"]
    )
    def test_scales_that_mean_nothing(self, tmp_path: Path, card: str) -> None:
        cards = [*plain(16, 3, 2), card]
        if card == "BZERO = T":
            cards[-1] = "BZERO   =                    T"
        reason = refusal(tmp_path / "in.fits", raw(*cards, data=bytes(12)))
        assert reason.startswith("its header declares B")


class TestCoordinates:
    @pytest.mark.parametrize("factor", [2, 3])
    @pytest.mark.parametrize("linear", [{}, LINEAR, {"PC1_2": 0.1, "PC2_1": -0.1}])
    @pytest.mark.parametrize("sip", [False, True])
    def test_follow_an_enlarged_picture(
        self, tmp_path: Path, factor: int, linear: dict[str, float], sip: bool
    ) -> None:
        wcs = pytest.importorskip("astropy.wcs")
        cards = header(**linear)
        if "CD1_1" in linear:
            del cards["CDELT1"], cards["CDELT2"]
        if sip:
            cards["CTYPE1"], cards["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
            cards.update({"A_ORDER": 2, "A_2_0": 1e-3, "A_1_1": 2e-3, "B_ORDER": 2, "B_0_2": 3e-3})
        image = fits.PrimaryHDU(numbers((9, 7), "float32"), cards)
        source = read(tmp_path / "in.fits", written(image))
        large = np.zeros((9 * factor, 7 * factor), np.float32)
        write_image(tmp_path / "out.fits", large, like=source)
        before, after = wcs.WCS(cards), wcs.WCS(fits.getheader(tmp_path / "out.fits"))
        columns, rows = np.array([0.5, 3.0, 7.5]), np.array([0.5, 9.5, 2.0])
        places = (columns - 0.5) * factor + 0.5, (rows - 0.5) * factor + 0.5
        expected = before.all_pix2world(columns, rows, 1)
        np.testing.assert_allclose(after.all_pix2world(*places, 1), expected, atol=1e-11)

    def test_other_places_in_pixels(self, tmp_path: Path) -> None:
        cards = header(LTV1=-3.0, LTM1_1=1.0, XPIXSZ=9.0, DATASEC="[1:7,1:9]", CRPIX1A=2.0)
        source = read(
            tmp_path / "in.fits", written(fits.PrimaryHDU(numbers((9, 7), "uint8"), cards))
        )
        with pytest.warns(UserWarning, match=r"out\.fits is without: DATASEC$"):
            write_image(tmp_path / "out.fits", np.zeros((18, 14), np.uint8), like=source)
        kept = fits.getheader(tmp_path / "out.fits")
        changed = {key: kept[key] for key in ("LTV1", "LTM1_1", "XPIXSZ", "CRPIX1A", "CDELT1A")}
        expected = {"LTV1": -6.5, "LTM1_1": 2.0, "XPIXSZ": 4.5, "CRPIX1A": 3.5, "CDELT1A": 0.5}
        assert changed == expected
        assert source.metadata["fits"].image["LTV1"] == -3.0

    @pytest.mark.parametrize("first", [True, False])
    def test_areas_of_pixels_and_colours_of_single_ones(self, tmp_path: Path, first: bool) -> None:
        # What is said of the instrument is often in the header of the first unit, without an image.
        cards = fits.Header({"PIXAR_SR": 4e-14, "PIXAR_A2": 2e-3, "PIXSCALE": 0.5})
        cards.update({"BAYERPAT": "RGGB", "XBAYROFF": 0, "YBAYROFF": 1})
        image = fits.ImageHDU(numbers((9, 7), "uint8"), None if first else cards)
        source = read(
            tmp_path / "in.fits", written(fits.PrimaryHDU(header=cards if first else None), image)
        )
        with pytest.warns(UserWarning, match="is without: BAYERPAT, XBAYROFF, YBAYROFF$"):
            write_image(tmp_path / "out.fits", np.zeros((18, 14), np.uint8), like=source)
        kept = fits.getheader(tmp_path / "out.fits", int(not first))
        assert (kept["PIXAR_SR"], kept["PIXAR_A2"], kept["PIXSCALE"]) == (1e-14, 5e-4, 0.25)
        assert not [key for key in kept if "BAY" in key]

    def test_a_header_without_coordinates_gets_none(self, tmp_path: Path) -> None:
        image = fits.PrimaryHDU(numbers((9, 7), "uint8"), fits.Header({"OBJECT": "M 31"}))
        source = read(tmp_path / "in.fits", written(image))
        write_image(tmp_path / "out.fits", np.zeros((18, 14), np.uint8), like=source)
        assert not [key for key in fits.getheader(tmp_path / "out.fits") if key.startswith("C")]

    def test_rows_keep_their_order(self, tmp_path: Path) -> None:
        array = np.arange(6, dtype=np.uint8).reshape(2, 3)
        source = read(tmp_path / "in.fits", raw(*plain(8, 3, 2), data=array.tobytes()))
        assert np.array_equal(source.image, array)


class TestOtherFormats:
    @pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3)])
    def test_from_a_photograph_and_back(
        self, tmp_path: Path, shape: tuple[int, ...], recwarn: pytest.WarningsRecorder
    ) -> None:
        write_image(tmp_path / "a.png", numbers(shape, "uint16"))
        source = read_image(tmp_path / "a.png")
        write_image(tmp_path / "b.fits", source.image, like=source)
        stored = fits.getdata(tmp_path / "b.fits")
        assert stored.dtype.name == "uint16"
        assert np.array_equal(stored, np.moveaxis(source.image, -1, 0) if shape[2:] else stored)
        source = read_image(tmp_path / "b.fits")
        write_image(tmp_path / "c.png", source.image, like=source)
        assert np.array_equal(read_image(tmp_path / "c.png").image, numbers(shape, "uint16"))
        assert not recwarn.list

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_what_is_lost_is_named(self, tmp_path: Path, suffix: str) -> None:
        image = fits.PrimaryHDU(numbers((9, 7), "uint16"), header())
        source = read(tmp_path / "in.fits", written(image))
        message = r"is without: header and coordinates \(which FITS has\)$"
        with pytest.warns(UserWarning, match=message):
            write_image(tmp_path / f"out{suffix}", source.image, like=source)

    def test_what_fits_does_not_have_is_named(self, tmp_path: Path) -> None:
        metadata = {"icc_profile": b"profile", "resolution": object()}
        like = ImageFile(numbers((9, 7), "uint8"), metadata=metadata)
        with pytest.warns(UserWarning, match=r"is without: resolution, colour profile$"):
            write_image(tmp_path / "out.fits", like.image, like=like)

    def test_the_extra_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "astropy.io", None)
        monkeypatch.delitem(sys.modules, f"{formats.__name__}.fits", raising=False)
        message = r"FITS files need astropy\.io: pip install 'dipfast\[fits\]'"
        with pytest.raises(MissingExtraError, match=message):
            write_image(tmp_path / "out.fits", numbers((9, 7), "uint8"))


class TestRefusals:
    @pytest.mark.parametrize(
        ("shape", "reason"),
        [
            ((2, 2, 2, 2, 9, 7), "it has 6 axes (shape (2, 2, 2, 2, 9, 7), ...), expected 5"),
            ((9,), "it holds no image of two axes"),
        ],
    )
    def test_other_shapes(self, tmp_path: Path, shape: tuple[int, ...], reason: str) -> None:
        content = written(fits.PrimaryHDU(numbers(shape, "uint8")))
        assert refusal(tmp_path / "in.fits", content).startswith(reason)

    def test_no_image(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "in.fits", written(fits.PrimaryHDU())).startswith("it holds no")

    @pytest.mark.parametrize(
        ("cards", "reason"),
        [
            (plain(16, 100_000, 100_000), "the end is missing: it declares 20000000000 bytes"),
            (plain(12, 3, 2), "its header declares BITPIX = 12"),
            (plain(8, 3, -2), "its header declares NAXIS2 = '-2'"),
            (plain(8, 3)[:3], "its header declares NAXIS1 = ''"),
            ([*plain(8)[:2], "NAXIS   = 1000000"], "its header declares 1000000 axes"),
            ([*plain(8, 3, 2), "GCOUNT  = 2"], "it holds several groups of images"),
            ([*plain(8)[:2], "NAXIS   = " + "9" * 70], "its header declares NAXIS = '99999"),
        ],
    )
    def test_headers(self, tmp_path: Path, cards: list[str], reason: str) -> None:
        tracemalloc.start()
        got = refusal(tmp_path / "in.fits", raw(*cards, data=bytes(5760)))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
        tracemalloc.stop()
        assert got.startswith(reason)

    def test_a_file_that_is_large_but_empty(self, tmp_path: Path) -> None:
        path = tmp_path / "in.fits"
        path.write_bytes(raw(*plain(8, 50_000, 50_000)))
        with open(path, "ab") as stream:
            stream.truncate(2880 + 50_000**2)  # a hole, which takes no space
        with pytest.raises(UnreadableFileError, match="expected 2 GiB at most"):
            read_image(path)

    @pytest.mark.parametrize(
        ("bits", "cards", "itemsize"),
        [
            *((bits, [], abs(bits) // 8) for bits in (8, 16, 32, 64, -32, -64)),
            *((bits, [f"BZERO   = {1 << (bits - 1)}"], bits // 8) for bits in (16, 32)),
            *((16, [card], 4) for card in ("BLANK   = 5", "BSCALE  = 2", "BZERO   = 5")),
            *((8, [card], 4) for card in ("BLANK   = 5", "BSCALE  = 2", "BZERO   = 128")),
            *((32, [card], 8) for card in ("BLANK   = 5", "BSCALE  = 2", "BZERO   = 5")),
            (-32, ["BSCALE  = 2", "BZERO   = 5"], 4),
        ],
    )
    def test_the_limit_counts_what_numbers_become(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        bits: int,
        cards: list[str],
        itemsize: int,
    ) -> None:
        data = np.arange(6).astype(f">{'f' if bits < 0 else 'i'}{abs(bits) // 8}").tobytes()
        content = raw(*plain(bits, 3, 2), *cards, data=data)
        checked: list[tuple[int, ...]] = []
        monkeypatch.setattr(limits, "check_size", lambda *size: checked.append(size))
        assert read(tmp_path / "in.fits", content).image.nbytes <= 6 * itemsize
        assert checked == [(3, 2, 1, itemsize)]

    @pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
    def test_the_limit_of_compressed_images(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
    ) -> None:
        array = numbers((24, 20), dtype)
        image = fits.CompImageHDU(array, compression_type="GZIP_1")
        content = written(fits.PrimaryHDU(), image)
        checked: list[tuple[int, ...]] = []
        monkeypatch.setattr(limits, "check_size", lambda *size: checked.append(size))
        assert read(tmp_path / "in.fits", content).image.nbytes == array.nbytes
        assert checked == [(20, 24, 1, array.itemsize)]

    def test_a_header_without_end(self, tmp_path: Path) -> None:
        content = raw(*plain(8, 3, 2))[: 5 * 80].ljust(80 * 36 * 600)
        assert refusal(tmp_path / "in.fits", content) == "a header has more than 18000 cards"
        assert refusal(tmp_path / "in.fits", content[:3000]) == "the end of a header is missing"

    @pytest.mark.parametrize("size", [2880, 2890])
    def test_the_end_is_missing(self, tmp_path: Path, size: int) -> None:
        content = written(fits.PrimaryHDU(numbers((9, 7), "int16")))
        assert "the end is missing" in refusal(tmp_path / "in.fits", content[:size])

    def test_only_what_fills_the_last_block_is_missing(self, tmp_path: Path) -> None:
        array = numbers((9, 7), "uint8")
        content = raw(*plain(8, 7, 9), data=array.tobytes(), pads=False)
        assert np.array_equal(read(tmp_path / "in.fits", content).image, array)

    def test_damaged_cards_cost_no_image(self, tmp_path: Path) -> None:
        array = numbers((9, 7), "uint8")
        cards = [*plain(8, 7, 9), "CRPIX1  = 1.2.3", "EXTNAME = 5", "OBJECT  = 'M 31", "\x01\xff"]
        text = "".join(card.ljust(80) for card in (*cards, "END")).encode("latin-1")
        content = text.ljust(2880) + array.tobytes().ljust(2880, b"\0")
        source = read(tmp_path / "in.fits", content)
        assert np.array_equal(source.image, array)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write_image(tmp_path / "out.fits", source.image, like=source)
            large = np.zeros((18, 14), np.uint8)
            write_image(tmp_path / "large.fits", large, like=source)
        assert np.array_equal(read_image(tmp_path / "out.fits").image, array)

    @pytest.mark.parametrize("kind", ["HCOMPRESS_1", "PLIO_1"])
    def test_other_compressions(self, tmp_path: Path, kind: str) -> None:
        image = fits.CompImageHDU(np.ones((16, 16), np.int16), compression_type=kind)
        reason = refusal(tmp_path / "in.fits", written(fits.PrimaryHDU(), image))
        assert reason.startswith(f"compression {kind} is not supported; decompress the file with")

    def test_a_tile_that_decompresses_to_more_than_it_declares(self, tmp_path: Path) -> None:
        image = fits.CompImageHDU(
            numbers((64, 64), "int16"), compression_type="GZIP_1", tile_shape=(64, 64)
        )
        content = written(fits.PrimaryHDU(), image)
        at = content.index(b"\x1f\x8b")
        bomb = gzip.compress(bytes(6 << 20))
        content = content[:at] + bomb + content[at + len(bomb) :]
        tracemalloc.start()
        reason = refusal(tmp_path / "in.fits", content)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        tracemalloc.stop()
        assert reason == "a compressed tile is larger than it declares"


def files() -> list[bytes]:
    """Return small files of all variants that are read in ways of their own."""
    pixels = numbers((24, 20), "int16")
    floats = numbers((24, 20), "float32")
    return [
        written(fits.PrimaryHDU(pixels, header(BLANK=5, **LINEAR))),
        written(fits.PrimaryHDU(numbers((3, 9, 7), "uint16"), header())),
        written(fits.PrimaryHDU(), fits.ImageHDU(floats, header()), fits.ImageHDU(pixels)),
        written(fits.PrimaryHDU(), fits.CompImageHDU(pixels, header(), compression_type="RICE_1")),
        written(fits.PrimaryHDU(), fits.CompImageHDU(floats, header(), compression_type="RICE_1")),
        written(fits.PrimaryHDU(), fits.CompImageHDU(pixels, header(), compression_type="GZIP_2")),
    ]


FILES = files()


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(FILES)))
    # Bytes of the ends of numbers in cards are where most is at stake.
    numbers_at = [at for at in range(29, len(content), 80) if chr(content[at]).isdigit()]
    for _ in range(data.draw(st.integers(0, 4))):
        anywhere = data.draw(st.booleans())
        last = len(content) - 1
        at = data.draw(st.integers(0, last) if anywhere else st.sampled_from(numbers_at))
        content[at] = data.draw(st.integers(0, 255) if anywhere else st.sampled_from(b"0123456789"))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path / "in.fits"
    try:
        source = read(path, bytes(content))
    except (DipfastError, OSError):
        return
    height, width = source.size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of what is lost
        write_image(tmp_path / "out.fits", source.image, like=source, overwrite=True)
        large = source.enlarged(2)
        write_image(tmp_path / "large.fits", large.image, like=source, overwrite=True)
    again = read_image(tmp_path / "out.fits")
    assert np.array_equal(again.image, source.image, equal_nan=True)
    assert read_image(tmp_path / "large.fits").size == (2 * height, 2 * width)


@pytest.mark.parametrize("shape", [(24, 32), (3, 24, 32)])
def test_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    clean = np.broadcast_to(np.linspace(100.0, 3000.0, 32), shape)
    noisy = (clean + np.random.default_rng(0).normal(0, 90, shape)).clip(0).round()
    fits.PrimaryHDU(noisy.astype(np.uint16), header()).writeto("in.fits")
    assert main(["denoise", "in.fits", "out.fits", "--quality", "fast", "--quiet"]) == 0
    with fits.open("out.fits") as opened:
        restored, kept = opened[0].data, opened[0].header
    assert (restored.dtype, restored.shape) == (np.dtype(np.uint16), shape)
    assert ((restored - clean) ** 2).mean() < 0.5 * ((noisy - clean) ** 2).mean()
    assert (kept["OBJECT"], kept["CRPIX1"], kept["BZERO"]) == ("M 31", 4.5, 32768)
