"""The table of formats, and a format that is added with one module and one row."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dipfast.apps.cli.options import InfoRequest, OwnOptions
from dipfast.errors import (
    MissingExtraError,
    UnreadableFileError,
    UnwritableFileError,
    WouldOverwriteError,
)
from dipfast.images import files
from dipfast.images.files import (
    ImageFile,
    Resolution,
    check_output,
    formats,
    read_image,
    write_image,
)
from dipfast.images.files.formats import FORMATS, Format

QGM = Format(
    name="QGM",
    module="tests.images.files.qgm",
    suffixes=(".qgm",),
    signatures=(b"Q5",),
    dtypes=("uint8",),
    channels=(1,),
    opacity=False,
)
DTYPES = sorted({dtype for row in FORMATS for dtype in row.dtypes} | {"int64", "complex64"})
each_format = pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)


def pixels(*shape: int, dtype: str = "uint8") -> np.ndarray:
    """Return an image that JPEG hardly changes."""
    ramp = np.linspace(10, 100, shape[0] * shape[1]).reshape(*shape[:2], *(1,) * (len(shape) - 2))
    return np.broadcast_to(ramp, shape).astype(dtype)


def run(code: str) -> str:
    """Return what a program prints that runs in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def kinds(row: Format) -> Iterator[ImageFile]:
    """Walk through images of all types, with and without channels and opacity."""
    for dtype, channels, opacity in itertools.product(DTYPES, (None, 1, 2, 3, 5), (False, True)):
        shape = (6, 8) if channels is None else (6, 8, channels)
        alpha = pixels(6, 8, dtype=dtype) if opacity else None
        image = pixels(*shape, dtype=dtype)
        if image.ndim == 3:
            # Where a format has no grey, three channels that are equal are read as one.
            image = image + np.arange(image.shape[2], dtype=dtype)
        yield ImageFile(image, None if channels is None else 2, alpha, format=row.name)


class TestTable:
    def test_names_and_suffixes_are_unique(self) -> None:
        names = [row.name for row in FORMATS]
        suffixes = [suffix for row in FORMATS for suffix in row.suffixes]
        assert len(set(names)) == len(names)
        assert len(set(suffixes)) == len(suffixes)

    @each_format
    def test_row_is_complete(self, row: Format) -> None:
        assert row.suffixes
        assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in row.suffixes)
        assert row.signatures or row.marks or row.entries
        assert all(row.signatures)
        assert all(mark and place > 0 for place, mark in row.marks)
        assert bool(row.dtypes) != row.read_only
        assert all(np.dtype(dtype).name == dtype for dtype in row.dtypes)
        assert row.read_only or row.channels is None or 1 in row.channels

    def test_no_signature_begins_as_another(self) -> None:
        # The ending of the name tells raw photographs from TIFF.
        rows = [row for row in FORMATS if row.name != "RAW"]
        beginnings = [
            (place, mark)
            for row in rows
            for place, mark in (*((0, signature) for signature in row.signatures), *row.marks)
        ]
        for (place, mark), (other_place, other) in itertools.permutations(beginnings, 2):
            assert place != other_place or not mark.startswith(other)

    def test_marks_after_the_beginning(self) -> None:
        head = bytes(4) + b"ftypavif"
        assert formats.by_content(head) == formats.by_name("AVIF")
        assert formats.by_content(head[1:]) is None
        assert formats.by_content(bytes(128) + b"DICM") == formats.by_name("DICOM")
        assert formats.longest_signature() == 132

    @pytest.mark.parametrize(
        ("name", "format"),
        [("a.tif", "TIFF"), ("a.dng", "RAW"), ("a.NEF", "RAW"), ("a.png", "TIFF"), ("a", "TIFF")],
    )
    def test_the_name_tells_raw_photographs_from_tiff(self, name: str, format: str) -> None:
        found = formats.by_content(b"II*\0" + bytes(200), Path(name))
        assert found is not None
        assert found.name == format

    def test_the_name_decides_nothing_else(self) -> None:
        for name in ("a.dng", "a.dcm", "a.png"):
            found = formats.by_content(b"\xff\xd8\xff" + bytes(200), Path(name))
            assert found == formats.by_name("JPEG")

    def test_metadata_belong_to_one_format(self) -> None:
        keys = [key for row in FORMATS for key in row.metadata]
        assert len(set(keys)) == len(keys)

    @each_format
    def test_module(self, row: Format) -> None:
        module = row.load()
        assert callable(module.read)
        assert callable(module.write)

    def test_every_module_has_a_row(self) -> None:
        folder = Path(formats.__file__).parent
        there = {f".{path.stem}" for path in folder.glob("*.py") if path.name[0] != "_"}
        assert there - {".format"} == {row.module for row in FORMATS}

    def test_the_help_of_the_command_line_names_every_format(self) -> None:
        for options, name in ((OwnOptions, "image"), (InfoRequest, "files")):
            text = options.model_fields[name].description
            assert text is not None
            assert all(row.name in text for row in FORMATS)

    @each_format
    def test_modules_import_no_other_format(self, row: Format) -> None:
        package = formats.__name__
        code = f"import sys, {package}{row.module}; print(*sys.modules)"
        imported = set(run(code).split()) & {f"{package}{other.module}" for other in FORMATS}
        assert imported == {f"{package}{row.module}"}

    def test_libraries_are_imported_with_the_first_file(self) -> None:
        libraries = (
            *("torch", "PIL", "tifffile", "imagecodecs", "astropy", "zipfile"),
            *("pydicom", "pillow_heif", "rawpy"),
        )
        code = f"import sys, {files.__name__}; print(set({libraries}) & set(sys.modules))"
        assert run(code) == "set()"


class TestRowSaysWhatTheFormatHolds:
    @pytest.mark.parametrize(
        "row", [row for row in FORMATS if not row.read_only], ids=lambda row: row.name
    )
    def test_what_it_holds_is_written_and_read(self, row: Format, tmp_path: Path) -> None:
        path = tmp_path / f"out{row.suffixes[0]}"
        held = [image for image in kinds(row) if not row.lacks(image)]
        assert {image.image.dtype.name for image in held} == set(row.dtypes)
        for image in held:
            check_output(path, image, overwrite=True)
            write_image(path, image.image, like=image, overwrite=True)
            got = read_image(path)
            expected = image.image
            if expected.ndim == 3 and expected.shape[-1] == 1:
                expected = expected[..., 0]
            if got.channel_axis is not None:
                got_pixels = np.moveaxis(got.image, got.channel_axis, -1)
            else:
                got_pixels = got.image
            assert got.format == row.name
            assert got_pixels.dtype == expected.dtype
            np.testing.assert_allclose(got_pixels, expected, atol=3 if row.name == "JPEG" else 0)
            assert (got.alpha is None) == (image.alpha is None)
            if image.alpha is not None:
                assert np.array_equal(got.alpha, image.alpha)

    @each_format
    def test_what_it_does_not_hold_is_refused(self, row: Format, tmp_path: Path) -> None:
        path = tmp_path / f"out{row.suffixes[0]}"
        for image in kinds(row):
            lacks = row.lacks(image)
            if not lacks:
                continue
            message = re.escape(f"{row.name} cannot hold {lacks}, ")
            others = [
                re.escape(suffix)
                for other in FORMATS
                if not other.lacks(image)
                for suffix in other.suffixes
            ]
            advice = f"must be named {' or '.join(others)}$" if others else "nor can the others$"
            with pytest.raises(UnwritableFileError, match=f"^{message}.*{advice}"):
                check_output(path, image)
            with pytest.raises(UnwritableFileError, match=f"^{message}.*{advice}"):
                write_image(path, image.image, like=image)
            assert not path.exists()


@pytest.fixture
def with_pgm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add one row to the table."""
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, QGM))


@pytest.mark.usefixtures("with_pgm")
class TestAddedFormat:
    @pytest.mark.parametrize("shape", [(1, 1), (6, 8), (1, 300), (300, 1)])
    def test_round_trip(self, tmp_path: Path, shape: tuple[int, int]) -> None:
        image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        write_image(tmp_path / "out.qgm", image)
        got = read_image(tmp_path / "out.qgm")
        assert np.array_equal(got.image, image)
        assert (got.format, got.channel_axis, got.alpha) == ("QGM", None, None)

    def test_content_says_the_format(self, tmp_path: Path) -> None:
        (tmp_path / "in.png").write_bytes(b"Q5 2 1 255\n\x01\x02")
        got = read_image(tmp_path / "in.png")
        assert got.format == "QGM"
        assert got.image.tolist() == [[1, 2]]

    def test_suffix_in_capitals(self, tmp_path: Path) -> None:
        write_image(tmp_path / "OUT.QGM", pixels(6, 8))
        assert read_image(tmp_path / "OUT.QGM").format == "QGM"

    def test_to_and_from_other_formats(self, tmp_path: Path) -> None:
        write_image(tmp_path / "a.tif", pixels(6, 8))
        source = read_image(tmp_path / "a.tif")
        write_image(tmp_path / "b.qgm", source.image, like=source)
        source = read_image(tmp_path / "b.qgm")
        write_image(tmp_path / "c.png", source.image, like=source)
        assert np.array_equal(read_image(tmp_path / "c.png").image, pixels(6, 8))

    def test_one_channel(self, tmp_path: Path) -> None:
        write_image(tmp_path / "out.qgm", pixels(6, 8, 1))
        assert np.array_equal(read_image(tmp_path / "out.qgm").image, pixels(6, 8))

    @pytest.mark.parametrize("dtype", ["uint16", "float32"])
    def test_type_that_it_does_not_hold(self, tmp_path: Path, dtype: str) -> None:
        path = tmp_path / "out.qgm"
        endings = ".tif or .tiff or .npy or .fits or .fit or .fts or .zarr"
        endings = f".png or {endings} or .pgm or .dcm or .dicom" if dtype == "uint16" else endings
        message = f"QGM cannot hold {dtype} without loss, {path} must be named {endings}"
        with pytest.raises(UnwritableFileError, match=f"^{re.escape(message)}$"):
            write_image(path, pixels(6, 8, dtype=dtype))
        assert not path.exists()

    def test_size_that_it_does_not_hold(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row = Format(**{**vars(QGM), "largest": 8})
        monkeypatch.setattr(formats, "FORMATS", (*FORMATS, row))
        path = tmp_path / "out.qgm"
        write_image(path, pixels(6, 8))
        with pytest.raises(UnwritableFileError, match=r"^QGM cannot hold 6 x 9 pixels, .* \.png"):
            check_output(path, ImageFile(pixels(9, 6)))
        enlarged = ImageFile(pixels(6, 8)).enlarged(2)
        with pytest.raises(UnwritableFileError, match=r"^QGM cannot hold 16 x 12 pixels"):
            check_output(path, enlarged)

    def test_channels_that_it_does_not_hold(self, tmp_path: Path) -> None:
        path = tmp_path / "out.qgm"
        message = f"QGM cannot hold 3 channels, {path} must be named .png or .jpg or .jpeg or .tif"
        with pytest.raises(UnwritableFileError, match=f"^{re.escape(message)}"):
            write_image(path, pixels(6, 8, 3))

    @pytest.mark.parametrize("shape", [(6, 8), (6, 8, 2)])
    def test_opacity_that_it_does_not_hold(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        path = tmp_path / "out.qgm"
        # Without a file that the image is like, the second of two samples is opacity.
        like = ImageFile(pixels(6, 8), alpha=pixels(6, 8)) if len(shape) == 2 else None
        endings = ".png or .tif or .tiff or .webp or .avif or .heic or .heif"
        message = f"QGM cannot hold transparency, {path} must be named {endings}"
        with pytest.raises(UnwritableFileError, match=f"^{re.escape(message)}$"):
            write_image(path, pixels(*shape), like=like)

    def test_it_is_advice_for_others(self, tmp_path: Path) -> None:
        image = ImageFile(pixels(6, 8))
        *others, last = formats.suffixes_that_hold(image).split(" or ")
        assert last == ".qgm"
        assert others[:5] == [".png", ".jpg", ".jpeg", ".tif", ".tiff"]

    def test_messages_list_it(self, tmp_path: Path) -> None:
        (tmp_path / "in.qgm").write_bytes(b"text")
        names = "PNG, JPEG, TIFF, NumPy, FITS, Zarr, WebP, AVIF, HEIC, BMP, PGM, PPM, DICOM, RAW"
        names += " or QGM"
        message = f"cannot read {tmp_path / 'in.qgm'}: it is not a {names} image"
        with pytest.raises(UnreadableFileError, match=f"^{re.escape(message)}$"):
            read_image(tmp_path / "in.qgm")
        message = f"it must end in one of {formats.all_suffixes(written=True)}"
        assert message.endswith(", .avif, .heic, .heif, .bmp, .pgm, .ppm, .dcm, .dicom, .qgm")
        with pytest.raises(UnwritableFileError, match=f"{re.escape(message)}$"):
            write_image(tmp_path / "out.gif", pixels(6, 8))

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"Q5", "its header is damaged"),
            (b"Q5 8 6 255\n", "cannot reshape array"),
            (b"Q5 0 6 255\n", "it declares 0 x 6 pixels"),
            (b"Q5 100000 100000 255\n", "it declares 100000 x 100000 pixels"),
        ],
    )
    def test_bad_content_names_the_file(self, tmp_path: Path, content: bytes, reason: str) -> None:
        path = tmp_path / "in.qgm"
        path.write_bytes(content)
        with pytest.raises(UnreadableFileError, match=f"^cannot read {path}: {reason}"):
            read_image(path)

    def test_existing_file_stays(self, tmp_path: Path) -> None:
        path = tmp_path / "out.qgm"
        path.write_bytes(b"precious")
        with pytest.raises(WouldOverwriteError, match=r"out\.qgm exists already"):
            write_image(path, pixels(6, 8))
        assert path.read_bytes() == b"precious"
        write_image(path, pixels(6, 8), overwrite=True)
        assert read_image(path).format == "QGM"

    def test_what_it_cannot_keep_is_named(self, tmp_path: Path) -> None:
        resolution = Resolution.of(300, 300, "inch")
        like = ImageFile(pixels(6, 8), metadata={"resolution": resolution})
        with pytest.warns(UserWarning, match=r"out\.qgm is without: resolution$"):
            write_image(tmp_path / "out.qgm", like.image, like=like)

    def test_metadata_of_one_format(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Comments:
            names = ("comments",)

        like = ImageFile(pixels(6, 8), metadata={"comments": Comments()})
        row = Format(**{**vars(QGM), "metadata": ("comments",)})
        monkeypatch.setattr(formats, "FORMATS", (*FORMATS, row))
        with pytest.warns(UserWarning, match=r"out\.png is without: comments \(which QGM has\)$"):
            write_image(tmp_path / "out.png", like.image, like=like)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            write_image(tmp_path / "out.qgm", like.image, like=like)


class TestExtra:
    @pytest.fixture
    def needy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """Return the name of a module whose library is not installed."""
        (tmp_path / "needy_format.py").write_text("import a_library_that_is_not_there\n")
        monkeypatch.syspath_prepend(tmp_path)
        return "needy_format"

    @pytest.fixture
    def row(self, needy: str, monkeypatch: pytest.MonkeyPatch) -> Format:
        """Return a row whose extra is not installed, after adding it to the table."""
        row = Format(**{**vars(QGM), "module": needy, "extra": "pgm"})
        monkeypatch.setattr(formats, "FORMATS", (*FORMATS, row))
        return row

    def test_is_named_by_reading(self, row: Format, tmp_path: Path) -> None:
        (tmp_path / "in.qgm").write_bytes(b"Q5 2 1 255\n\x01\x02")
        message = "QGM files need a_library_that_is_not_there: pip install 'dipfast[pgm]'"
        with pytest.raises(MissingExtraError, match=f"^{re.escape(message)}$"):
            read_image(tmp_path / "in.qgm")

    def test_is_named_before_any_work(self, row: Format, tmp_path: Path) -> None:
        for check in (check_output, lambda path: write_image(path, pixels(6, 8))):
            with pytest.raises(MissingExtraError, match=re.escape("'dipfast[pgm]'")):
                check(tmp_path / "out.qgm")
        assert not (tmp_path / "out.qgm").exists()

    def test_other_formats_do_not_need_it(self, row: Format, tmp_path: Path) -> None:
        write_image(tmp_path / "out.png", pixels(6, 8))
        assert read_image(tmp_path / "out.png").format == "PNG"

    def test_without_one_the_error_stays(self, needy: str) -> None:
        with pytest.raises(ModuleNotFoundError, match="a_library_that_is_not_there"):
            Format(**{**vars(QGM), "module": needy}).load()
