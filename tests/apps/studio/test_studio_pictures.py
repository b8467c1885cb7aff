"""Pictures and masks: what is told of them, names that are hostile, and files that are."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from dipfast.apps.studio import markup
from dipfast.apps.studio.masks import loaded_mask, painted_mask
from dipfast.apps.studio.orders import read_order
from dipfast.apps.studio.pictures import Picture, plain_name
from dipfast.apps.studio.previews import LARGEST
from dipfast.apps.studio.runs import Registry, Run
from dipfast.errors import InputError
from dipfast.images.files import write_image


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("scan.png", "scan.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\me.jpg", "me.jpg"),
        ("a\nb\x1b[31m.png", "ab[31m.png"),
        ("", "picture"),
        ("..", "picture"),
        ("folder/", "picture"),
        ("ä ö.tif", "ä ö.tif"),
    ],
)
def test_names_are_only_shown(name: str, shown: str) -> None:
    assert plain_name(name) == shown


def test_long_name_keeps_its_ending() -> None:
    name = plain_name("x" * 500 + ".tiff")
    assert len(name) == 120
    assert name.endswith(".tiff")


def test_paths_have_nothing_of_the_name_but_a_known_ending(registry: Registry) -> None:
    for name, suffix in [("../x.tif", ".tif"), ("x.exe", ""), ("x.tif/../../y", ""), ("x", "")]:
        path = registry.new_path(name)
        assert path.parent == registry.folder
        assert path.suffix == suffix
        assert "x" not in path.stem.removeprefix("file-")


def test_what_is_told_of_a_picture(picture: Picture) -> None:
    assert picture.describe() == "PNG, 40 x 32 pixels, colour, 8 bits"
    assert (picture.size, picture.shown, picture.suffix) == ((32, 40), (0, 255), ".png")
    assert (picture.preview.width, picture.preview.kind) == (40, "image/png")


def test_remarks_of_the_file_are_notes(registry: Registry, tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.int16).reshape(8, 8)
    values[2:4, 5] = -9999
    path = tmp_path / "height.tif"
    tifffile.imwrite(path, values, extratags=[(42113, 2, 0, "-9999", True)])
    picture = registry.open_copy(path)
    assert any("-9999" in note for note in picture.notes)
    assert "-9999" in markup.notes(picture.notes)
    run = Run(1, picture, read_order({"task": "denoise"}, picture), tmp_path)
    assert set(picture.notes) <= set(run.look().notes)


def test_results_of_a_raw_photograph_are_tiffs(
    registry: Registry, tmp_path: Path, picture: Picture
) -> None:
    raw = replace(picture, name="photo.NEF", format="RAW", dtype="uint16")
    run = Run(1, raw, read_order({"task": "denoise"}, raw), tmp_path)
    said = "photo-denoised.tif, a TIFF of 16 bits with the developed pixels of photo.NEF<"
    assert said in markup.downloads(run, 0)
    run = Run(1, picture, read_order({"task": "denoise"}, picture), tmp_path)
    assert "in the format and depth of scan.png<" in markup.downloads(run, 0)


def test_depth_and_transparency_are_told(registry: Registry, tmp_path: Path) -> None:
    deep = tmp_path / "deep.tiff"
    tifffile.imwrite(deep, np.arange(64, dtype=np.uint16).reshape(8, 8))
    assert registry.open_copy(deep).describe() == "TIFF, 8 x 8 pixels, grey, 16 bits"
    assert registry.open_copy(deep).suffix == ".tiff"
    clear = tmp_path / "clear.png"
    Image.fromarray(np.full((8, 8, 4), 100, np.uint8)).save(clear)
    assert "transparent" in registry.open_copy(clear).describe()


def test_ending_is_that_of_the_content(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(path, format="JPEG", quality=50)
    opened = registry.open_copy(path)
    assert opened.suffix == ".jpg"
    assert abs((opened.jpeg_quality or 0) - 50) <= 2


def test_no_ink_is_white(registry: Registry, tmp_path: Path) -> None:
    inks = np.zeros((32, 40, 4), np.uint8)
    inks[:, 20:] = 200
    Image.frombytes("CMYK", (40, 32), inks.tobytes()).save(tmp_path / "print.jpg", quality=100)
    shown = Image.open(BytesIO(registry.open_copy(tmp_path / "print.jpg").preview.data))
    assert (np.asarray(shown)[0, [0, -1]] // 10).tolist() == [25, 5]


def test_inks_are_no_mask(picture: Picture, tmp_path: Path) -> None:
    Image.new("CMYK", (40, 32)).save(tmp_path / "mask.tif")
    with pytest.raises(InputError, match=r"the mask m\.tif is of the inks of print"):
        loaded_mask(tmp_path / "mask.tif", "m.tif", picture)


def test_large_picture_is_shown_small_as_jpeg(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.fromarray(np.zeros((900, 2100), np.uint8)).save(path)
    shown = registry.open_copy(path).preview
    assert (shown.width, shown.height, shown.kind) == (LARGEST, 439, "image/jpeg")


@pytest.mark.parametrize(
    ("size", "task", "zooms", "told"),
    [
        ((30, 700), "denoise", ["Fit", "1:1", "2:1", "4:1"], ""),
        ((30, 700), "super_resolve", ["Fit", "Larger"], f"Shown reduced to {LARGEST} x 44 pixels"),
        ((900, 2100), "denoise", ["Fit", "Larger"], f"Shown reduced to {LARGEST} x 439 pixels"),
    ],
)
def test_zooms_are_only_those_that_are_true(
    registry: Registry,
    tmp_path: Path,
    size: tuple[int, int],
    task: str,
    zooms: list[str],
    told: str,
) -> None:
    path = tmp_path / "wide.png"
    Image.fromarray(np.zeros(size, np.uint8)).save(path)
    picture = registry.open_copy(path)
    run = Run(1, picture, read_order({"task": task, "factor": "2"}, picture), tmp_path)
    page = markup.wipe(run)
    assert re.findall('name="zoom"[^>]*><span>([^<]*)<', page) == zooms
    assert re.findall("Shown reduced to [^;]*", page) == ([told] if told else [])


def test_formats_that_are_folders_are_not_offered_and_refused_with_the_next_step(
    registry: Registry, tmp_path: Path
) -> None:
    assert "Zarr" not in markup.start()
    path = tmp_path / "scan.zarr"
    write_image(path, np.zeros((8, 8), np.uint8))
    with pytest.raises(InputError, match=r"scan\.zarr is a folder of Zarr.*dipfast denoise"):
        registry.open_copy(path)


def test_bad_file_is_told_under_its_own_name_and_removed(
    registry: Registry, tmp_path: Path
) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    with pytest.raises(InputError, match=r"cannot read bad\.png: ") as raised:
        registry.open_copy(path)
    assert str(registry.folder) not in str(raised.value)
    assert not list(registry.folder.iterdir())
    assert path.exists()


def mask_file(folder: Path, values: np.ndarray, name: str = "mask.png") -> Path:
    path = folder / name
    Image.fromarray(values).save(path)
    return path


def test_mask_of_a_file(picture: Picture, tmp_path: Path) -> None:
    values = np.zeros((32, 40), np.uint8)
    values[3:6, 7:9] = 255
    mask = loaded_mask(mask_file(tmp_path, values), "mask.png", picture)
    assert np.array_equal(mask, values > 0)
    number = picture.add_mask(mask)
    assert np.array_equal(picture.mask(number), mask)


def test_black_strokes_on_a_clear_layer_are_a_mask(picture: Picture, tmp_path: Path) -> None:
    layer = np.zeros((32, 40, 4), np.uint8)
    layer[3:6, 7:9, 3] = 255
    mask = loaded_mask(mask_file(tmp_path, layer), "mask.png", picture)
    assert mask.sum() == 6


def test_what_was_assumed_of_a_mask_is_told(picture: Picture, tmp_path: Path) -> None:
    values = np.zeros((32, 40), bool)
    values[3:6, 7:9] = True
    tifffile.imwrite(tmp_path / "mask.tif", values, photometric="miniswhite")
    with pytest.warns(UserWarning, match="the mask m.tif: its pixels of 1 are black"):
        assert np.array_equal(loaded_mask(tmp_path / "mask.tif", "m.tif", picture), ~values)


def test_booleans_are_a_mask(picture: Picture, tmp_path: Path) -> None:
    values = np.zeros((32, 40), bool)
    values[3:6, 7:9] = True
    np.save(tmp_path / "mask.npy", values)
    assert np.array_equal(loaded_mask(tmp_path / "mask.npy", "mask.npy", picture), values)


def test_stack_is_no_mask(picture: Picture, tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", np.ones((6, 32, 40), bool))
    with pytest.raises(InputError, match=r"cannot read m\.npy: it holds a stack"):
        loaded_mask(tmp_path / "mask.npy", "m.npy", picture)


def test_compression_of_a_jpeg_marks_nothing(picture: Picture, tmp_path: Path) -> None:
    values = np.zeros((32, 40), np.uint8)
    values[8:16, 8:16] = 255
    mask = loaded_mask(mask_file(tmp_path, values, "mask.jpg"), "mask.jpg", picture)
    assert np.array_equal(mask, values > 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((8, 8), np.uint8), "the mask m has 8 x 8 pixels, expected 40 x 32"),
        (np.arange(32 * 40, dtype=np.uint16).reshape(32, 40).astype(np.uint8), "no mask"),
    ],
)
def test_what_is_no_mask_is_told(
    picture: Picture, tmp_path: Path, values: np.ndarray, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        loaded_mask(mask_file(tmp_path, values), "m", picture)


def test_masks_that_come_together_have_their_own_numbers(
    picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier, pack = threading.Barrier(2, timeout=10), np.packbits

    def pack_together(mask: np.ndarray) -> np.ndarray:
        barrier.wait()
        return pack(mask)

    monkeypatch.setattr(np, "packbits", pack_together)
    masks = np.zeros((2, 32, 40), bool)
    masks[0, 3], masks[1, 5] = True, True
    numbers = [0, 0]

    def add(place: int) -> None:
        numbers[place] = picture.add_mask(masks[place])

    threads = [threading.Thread(target=add, args=(place,)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(numbers) == [1, 2]
    for number, mask in zip(numbers, masks):
        assert np.array_equal(picture.mask(number), mask)


def test_mask_of_nothing_and_of_all_is_told(picture: Picture) -> None:
    for values in (np.zeros((32, 40), bool), np.ones((32, 40), bool)):
        with pytest.raises(InputError, match="marks"):
            picture.add_mask(values)


def test_painted_mask_has_the_size_of_the_picture(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.fromarray(np.zeros((1024, 2048), np.uint8)).save(path)
    large = registry.open_copy(path)
    painted = np.zeros((512, 1024), np.uint8)
    painted[100:110, 200:220] = 255
    mask = painted_mask(mask_file(tmp_path, painted), large)
    expected = np.zeros((1024, 2048), bool)
    expected[200:220, 400:440] = True
    assert np.array_equal(mask, expected)
    with pytest.raises(InputError, match="what was painted has size"):
        painted_mask(mask_file(tmp_path, painted[:-1]), large)
