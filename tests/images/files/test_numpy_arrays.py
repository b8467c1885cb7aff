"""Arrays of NumPy as image files: ``.npy``, and ``.npz`` with one array."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dipfast.apps.cli import main
from dipfast.errors import DipfastError, UnreadableFileError, UnwritableFileError
from dipfast.images.files import ImageFile, read_image, read_mask, write_image
from dipfast.images.files.formats import by_name

DTYPES = by_name("NumPy").dtypes
SHAPES = [(9, 7), (9, 7, 3), (3, 9, 7), (4, 9, 7), (9, 7, 2), (9, 7, 1), (1, 9, 7), (1, 1), (1, 30)]


def numbers(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return random numbers over the whole range of a type, in any order of bytes."""
    rng, dtype = np.random.default_rng(0), np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    native = dtype.newbyteorder("=").type
    return rng.integers(limits.min, limits.max, shape, native, endpoint=True).astype(dtype)


def saved(array: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def archive(compressed: bool = False, **arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return stream.getvalue()


def header(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    """Return the beginning of a file with any text as its header."""
    width = 2 if version == (1, 0) else 4
    return b"\x93NUMPY" + bytes(version) + len(text).to_bytes(width, "little") + text.encode()


def refusal(path: Path, content: bytes) -> str:
    """Return why a file is refused."""
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError) as caught:
        read_image(path)
    return str(caught.value).removeprefix(f"cannot read {path}: ")


class TestRoundTrip:
    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_types_and_orders_of_bytes(self, tmp_path: Path, dtype: str, order: str) -> None:
        array = numbers((9, 7), np.dtype(dtype).newbyteorder(order))
        np.save(tmp_path / "in.npy", array)
        source = read_image(tmp_path / "in.npy")
        assert (source.format, source.channel_axis, source.alpha) == ("NumPy", None, None)
        assert source.image.dtype == dtype
        assert source.image.dtype.isnative
        assert source.image.flags.writeable
        assert np.array_equal(source.image, array)
        write_image(tmp_path / "out.npy", source.image, like=source)
        assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "in.npy").read_bytes()

    @pytest.mark.parametrize("fortran", [False, True])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_layouts(self, tmp_path: Path, shape: tuple[int, ...], fortran: bool) -> None:
        array = numbers(shape, "float32")
        np.save(tmp_path / "in.npy", np.asfortranarray(array) if fortran else array)
        source = read_image(tmp_path / "in.npy")
        axis = {(9, 7): None, (1, 1): None, (1, 30): None}.get(shape, 2 if shape[0] == 9 else 0)
        assert source.channel_axis == axis
        assert np.array_equal(source.image, array)
        write_image(tmp_path / "out.npy", source.image, like=source)
        assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "in.npy").read_bytes()

    def test_nan_stays(self, tmp_path: Path) -> None:
        array = numbers((9, 7), "float32")
        array[2, 3] = np.nan
        np.save(tmp_path / "in.npy", array)
        source = read_image(tmp_path / "in.npy")
        assert np.array_equal(source.image, array, equal_nan=True)
        write_image(tmp_path / "out.npy", source.image, like=source)
        assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "in.npy").read_bytes()

    @pytest.mark.parametrize("version", [(1, 0), (2, 0)])
    def test_versions(self, tmp_path: Path, version: tuple[int, int]) -> None:
        array = numbers((9, 7), "uint16")
        with open(tmp_path / "in.npy", "wb") as stream:
            np.lib.format.write_array(stream, array, version=version)
        assert np.array_equal(read_image(tmp_path / "in.npy").image, array)

    @pytest.mark.parametrize("compressed", [False, True])
    def test_archive_of_one_array(self, tmp_path: Path, compressed: bool) -> None:
        array = numbers((9, 7), ">i2")
        (tmp_path / "in.npz").write_bytes(archive(compressed, picture=array))
        source = read_image(tmp_path / "in.npz")
        assert np.array_equal(source.image, array)
        write_image(tmp_path / "out.npy", source.image, like=source)
        written = np.load(tmp_path / "out.npy")
        assert written.dtype == array.dtype
        assert np.array_equal(written, array)

    def test_enlarged(self, tmp_path: Path) -> None:
        np.save(tmp_path / "in.npy", numbers((3, 9, 7), ">f4"))
        source = read_image(tmp_path / "in.npy")
        write_image(tmp_path / "out.npy", numbers((3, 18, 14), "float32"), like=source)
        written = np.load(tmp_path / "out.npy")
        assert written.dtype == ">f4"
        assert np.array_equal(written, numbers((3, 18, 14), "float32"))


class TestOtherFormats:
    def test_from_a_photograph_and_back(
        self, tmp_path: Path, recwarn: pytest.WarningsRecorder
    ) -> None:
        write_image(tmp_path / "a.png", numbers((9, 7, 3), "uint8"))
        source = read_image(tmp_path / "a.png")
        write_image(tmp_path / "b.npy", source.image, like=source)
        assert np.array_equal(np.load(tmp_path / "b.npy"), source.image)
        source = read_image(tmp_path / "b.npy")
        write_image(tmp_path / "c.png", source.image, like=source)
        assert np.array_equal(read_image(tmp_path / "c.png").image, source.image)
        assert not recwarn.list

    def test_what_is_lost_is_named(self, tmp_path: Path) -> None:
        metadata = {"icc_profile": b"profile", "resolution": object(), "exif": object()}
        like = ImageFile(numbers((9, 7), "uint8"), metadata=metadata)
        message = r"out\.npy is without: resolution, EXIF, colour profile$"
        with pytest.warns(UserWarning, match=message):
            write_image(tmp_path / "out.npy", like.image, like=like)

    def test_opacity_is_refused(self, tmp_path: Path) -> None:
        like = ImageFile(numbers((9, 7), "uint8"), alpha=numbers((9, 7), "uint8"))
        with pytest.raises(UnwritableFileError, match="NumPy cannot hold transparency"):
            write_image(tmp_path / "out.npy", like.image, like=like)


class TestRefusals:
    def test_objects_are_never_unpickled(self, tmp_path: Path) -> None:
        there = tmp_path / "made"

        class Hostile:
            def __reduce__(self) -> Any:
                return Path.touch, (there,)

        content = saved(np.array([[Hostile()]], dtype=object), allow_pickle=True)
        assert "holds Python objects" in refusal(tmp_path / "in.npy", content)
        packed = archive(picture=np.zeros((2, 2)))
        assert read_image(self._put(tmp_path / "in.npz", packed)).image.shape == (2, 2)
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as opened:
            opened.writestr("picture.npy", content)
        assert "holds Python objects" in refusal(tmp_path / "in.npz", stream.getvalue())
        assert not there.exists()

    @staticmethod
    def _put(path: Path, content: bytes) -> Path:
        path.write_bytes(content)
        return path

    @pytest.mark.parametrize(
        ("array", "reason"),
        [
            (np.zeros((9, 7), bool), "arrays of type bool are read as masks only; convert an"),
            (np.zeros((9, 7), "c8"), "arrays of type complex64 are not supported"),
            (np.zeros((9, 7), "U3"), "arrays of type str96 are not supported"),
            (np.zeros((9, 7), [("a", "f4")]), "arrays of type void32 are not supported"),
            (np.zeros(9), "it has the shape (9,), expected one image"),
            (np.float32(1), "it has the shape (), expected one image"),
            (np.zeros((1, 2, 2, 9, 7, 3)), "it has the shape (1, 2, 2, 9, 7, 3), expected one im"),
            (np.zeros((2, 3, 7, 3)), "it has the shape (2, 3, 7, 3), and its channels are not cle"),
            (np.zeros((3, 9, 3)), "it has the shape (3, 9, 3), and its channels are not clear"),
            (np.zeros((0, 7)), "it declares 7 x 0 pixels, expected 1 x 1 at least"),
        ],
    )
    def test_other_arrays(self, tmp_path: Path, array: np.ndarray, reason: str) -> None:
        assert refusal(tmp_path / "in.npy", saved(array)).startswith(reason)

    def test_several_arrays_are_named(self, tmp_path: Path) -> None:
        arrays = {name: np.zeros((2, 2)) for name in ("image", "mask")}
        reason = refusal(tmp_path / "in.npz", archive(**arrays))
        assert reason.startswith("it holds 2 arrays (image, mask), expected one; write the one")
        many = {f"plane_{number}": np.zeros((2, 2)) for number in range(30)}
        assert "(plane_0, plane_1, plane_2, plane_3, plane_4, ...)" in refusal(
            tmp_path / "in.npz", archive(**many)
        )

    def test_other_archives(self, tmp_path: Path) -> None:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as opened:
            opened.writestr("text.txt", "text")
        reason = refusal(tmp_path / "in.zip", stream.getvalue())
        assert reason == "it is an archive (ZIP) without an array of NumPy"
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_BZIP2) as opened:
            opened.writestr("image.npy", saved(np.zeros((9, 7))))
        assert refusal(tmp_path / "in.npz", stream.getvalue()).startswith("its compression is not")

    @pytest.mark.parametrize("more", [b"\0", saved(np.zeros((9, 7)))])
    def test_bytes_that_follow(self, tmp_path: Path, more: bytes) -> None:
        reason = refusal(tmp_path / "in.npy", saved(np.zeros((9, 7))) + more)
        assert reason.startswith("it declares an array of shape (9, 7) and type float64, 504 bytes")

    @pytest.mark.parametrize("shape", ["(100000, 100000)", "(30000, 30000)", "(-3, -7)", "(9, 7)"])
    def test_declared_size_is_checked_before_memory_is_taken(
        self, tmp_path: Path, shape: str
    ) -> None:
        text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}\n"
        content = header(text) + bytes(64)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as opened:
            opened.writestr("image.npy", content)
        for name, each in (("in.npy", content), ("in.npz", packed.getvalue())):
            tracemalloc.start()
            assert "it declares" in refusal(tmp_path / name, each)
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
            tracemalloc.stop()

    def test_headers(self, tmp_path: Path) -> None:
        path = tmp_path / "in.npy"
        assert "too many for an image" in refusal(path, header(" " * 20_000, (2, 0)))
        declared = b"\x93NUMPY\x02\0" + (2**32 - 1).to_bytes(4, "little")
        assert "too many for an image" in refusal(path, declared)
        assert "the version 3.0 of the format" in refusal(path, header("{}", (3, 0)))
        refusal(path, header("[" * 9000))
        refusal(path, header("__import__('os').getpid()"))


FILES = [
    saved(numbers((9, 7), "uint16")),
    saved(numbers((3, 9, 7), ">f4")),
    archive(picture=numbers((9, 7), "uint16")),
    archive(True, picture=numbers((9, 7, 3), "float64")),
]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(FILES)))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path / "in.npy"
    path.write_bytes(content)
    try:
        source = read_image(path)
    except (DipfastError, OSError):
        return
    write_image(tmp_path / "out.npy", source.image, like=source, overwrite=True)
    assert np.array_equal(read_image(tmp_path / "out.npy").image, source.image, equal_nan=True)


@pytest.mark.parametrize("shape", [(24, 32), (3, 24, 32)])
def test_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    clean = np.broadcast_to(np.linspace(100.0, 3000.0, 32), shape)
    noisy = clean + np.random.default_rng(0).normal(0, 200, shape)
    np.save("in.npy", noisy.astype(">f4"))
    assert main(["denoise", "in.npy", "out.npy", "--quality", "fast", "--quiet"]) == 0
    restored = np.load("out.npy")
    assert (restored.dtype, restored.shape) == (np.dtype(">f4"), shape)
    assert ((restored - clean) ** 2).mean() < 0.5 * ((noisy - clean) ** 2).mean()


def test_folders_say_that_archives_are_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    image = np.random.default_rng(0).normal(100, 5, (24, 32))
    np.save(source / "a.npy", image)
    np.savez(source / "b.npz", image=image)
    assert (
        main(["denoise", str(source), str(tmp_path / "out"), "--quality", "fast", "--quiet"]) == 0
    )
    told = capsys.readouterr()
    assert "1 done, 0 skipped" in told.out
    assert "1 .npz skipped, which are read one by one and written as .npy" in told.err


def test_folders_name_the_pictures_that_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    np.save(source / "a.npy", np.random.default_rng(0).normal(100, 5, (24, 32)))
    for name in ("b.GIF", "c.svg", "notes.txt", ".hidden.gif"):
        (source / name).write_bytes(b"?")
    (source / "d.pdf").mkdir()
    assert (
        main(["denoise", str(source), str(tmp_path / "out"), "--quality", "fast", "--quiet"]) == 0
    )
    told = capsys.readouterr().err
    assert f"{source}: 2 files left out, of formats that are not read: b.GIF, c.svg; save" in told


@pytest.mark.parametrize("packed", [False, True])
def test_booleans_are_masks_and_no_images(tmp_path: Path, packed: bool) -> None:
    mask = np.arange(54).reshape(6, 9) % 5 == 0
    path = tmp_path / "m.npy"
    if packed:
        path = tmp_path / "m.npz"
        np.savez(path, mask)
    else:
        np.save(path, mask)
    got = read_mask(path)
    assert got.image.dtype == np.uint8
    assert np.array_equal(got.image, mask * 255)
    with pytest.raises(UnreadableFileError, match=r"type bool are read as masks only; convert"):
        read_image(path)
    write_image(tmp_path / "m.png", np.full((6, 9), 7, np.uint8))
    assert np.array_equal(read_mask(tmp_path / "m.png").image, np.full((6, 9), 7))


@pytest.mark.parametrize("shape", [(64, 64, 5), (64, 48, 12), (2, 40, 50, 6)])
def test_a_short_last_axis_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "bands.npy"
    np.save(path, np.zeros(shape, np.uint8))
    with pytest.raises(
        UnreadableFileError, match=r"in Python channel_axis=-1 says so; numpy.moveaxis"
    ):
        read_image(path)
    np.save(path, np.moveaxis(np.zeros(shape, np.uint8), -1, 0))
    assert read_image(path).stack_shape[0] == shape[-1]


@pytest.mark.parametrize("shape", [(64, 64, 17), (6, 64, 8), (5, 5, 5), (30, 5, 5)])
def test_narrow_planes_are_a_stack(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "stack.npy", np.zeros(shape, np.uint8))
    assert read_image(tmp_path / "stack.npy").stack_shape == shape[:1]
