"""Stacks of images in files: what goes in comes out, and what is no stack is refused."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from astropy.io import fits

import dipfast
from dipfast.errors import InputError, UnreadableFileError, UnwritableFileError
from dipfast.images.files import (
    ImageFile,
    check_output,
    limits,
    read_image,
    read_single,
    write_image,
)

CHANNELS = {
    "PhysicalSizeX": 0.1,
    "PhysicalSizeY": 0.1,
    "PhysicalSizeZ": 0.5,
    "TimeIncrement": 0.25,
    "Channel": {"Name": ["DAPI", "GFP"]},
}
IMAGEJ = {
    "unit": "um",
    "spacing": 0.5,
    "finterval": 0.1,
    "Ranges": (0.0, 100.0, 5.0, 200.0),
    "Labels": [f"plane {number}" for number in range(12)],
}
GREY: dict[str, Any] = {"photometric": "minisblack", "metadata": None}
RGB: dict[str, Any] = {"photometric": "rgb", "metadata": None}


def pixels(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def imagej(axes: str, **more: Any) -> dict[str, Any]:
    return {"imagej": True, "resolution": (10, 10), "metadata": {"axes": axes, **more}}


def ome(axes: str, **more: Any) -> dict[str, Any]:
    return {"ome": True, "metadata": {"axes": axes, **more}}


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "axes", "stack", "channel"),
    [
        ((6, 9, 7), "int16", GREY, "IYX", (0,), None),
        ((6, 9, 7), "uint16", {**GREY, "byteorder": ">", "compression": "zlib"}, "IYX", (0,), None),
        ((6, 9, 7, 3), "uint8", RGB, "IYXS", (0,), 3),
        ((2, 3, 9, 7), "float32", {"metadata": {"axes": "TZYX"}}, "TZYX", (0, 1), None),
        ((2, 3, 9, 7), "uint16", {"metadata": {"axes": "CTYX"}}, "CTYX", (1,), 0),
        ((5, 9, 7), "uint8", imagej("ZYX"), "ZYX", (0,), None),
        ((5, 9, 7, 3), "uint8", imagej("ZYXS"), "ZYXS", (0,), 3),
        ((4, 2, 9, 7), "float32", imagej("TCYX"), "TCYX", (0,), 1),
        (
            (2, 3, 2, 9, 7),
            "uint16",
            {**imagej("TZCYX", **IMAGEJ), "byteorder": ">"},
            "TZCYX",
            (0, 1),
            2,
        ),
        ((2, 3, 9, 7), "uint16", ome("CZYX", **CHANNELS), "CZYX", (1,), 0),
        (
            (2, 2, 3, 9, 7),
            "uint16",
            {**ome("TCZYX", **CHANNELS), "byteorder": ">"},
            "TCZYX",
            (0, 2),
            1,
        ),
        ((2, 3, 2, 9, 7), "uint8", ome("TZCYX", **CHANNELS), "TZCYX", (0, 1), 2),
        ((3, 9, 7, 3), "uint8", {**ome("ZYXS"), "photometric": "rgb"}, "ZYXS", (0,), 3),
    ],
)
def test_tiff_comes_out_as_it_went_in(
    tmp_path: Path,
    shape: tuple[int, ...],
    dtype: str,
    options: dict[str, Any],
    axes: str,
    stack: tuple[int, ...],
    channel: int | None,
) -> None:
    there = pixels(shape, dtype)
    usual = {} if "photometric" in options or "ome" in options else {"photometric": "minisblack"}
    if axes.endswith("S"):
        usual = {}
    tifffile.imwrite(tmp_path / "in.tif", there, **{**usual, **options})
    source = read_image(tmp_path / "in.tif")
    assert (source.stack_axes, source.channel_axis) == (stack, channel)
    assert source.size == (9, 7)
    np.testing.assert_array_equal(source.image, there)
    write_image(tmp_path / "out.tif", source.image, like=source)
    with (
        tifffile.TiffFile(tmp_path / "in.tif") as before,
        tifffile.TiffFile(tmp_path / "out.tif") as after,
    ):
        assert after.series[0].axes == before.series[0].axes == axes
        assert (after.series[0].shape, after.series[0].dtype) == (shape, there.dtype)
        assert (after.byteorder, len(after.pages)) == (before.byteorder, len(before.pages))
        np.testing.assert_array_equal(after.asarray(), there)
        assert str(after.imagej_metadata) == str(before.imagej_metadata)
        if before.is_ome:
            told = [
                tifffile.xml2dict(file.ome_metadata)["OME"]["Image"] for file in (before, after)
            ]
            for each in told:
                each["Pixels"].pop("TiffData")
            assert told[0] == told[1]


class TestTiff:
    def test_opacity_of_every_page(self, tmp_path: Path) -> None:
        there = pixels((4, 9, 7, 4), "uint8")
        options = {**RGB, "extrasamples": ["unassalpha"]}
        tifffile.imwrite(tmp_path / "in.tif", there, **options)
        source = read_image(tmp_path / "in.tif")
        assert source.alpha is not None
        assert (source.image.shape, source.alpha.shape) == ((4, 9, 7, 3), (4, 9, 7))
        write_image(tmp_path / "out.tif", source.image, like=source)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), there)

    def test_enlarged(self, tmp_path: Path) -> None:
        options = ome("CZYX", **CHANNELS)
        tifffile.imwrite(tmp_path / "in.tif", pixels((2, 3, 9, 7)), **options)
        source = read_image(tmp_path / "in.tif")
        large = np.repeat(np.repeat(source.image, 2, axis=2), 2, axis=3)
        write_image(tmp_path / "out.tif", large, like=source)
        with tifffile.TiffFile(tmp_path / "out.tif") as file:
            image = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
            assert (file.series[0].axes, file.series[0].shape) == ("CZYX", (2, 3, 18, 14))
        assert (image["SizeX"], image["SizeZ"], image["PhysicalSizeX"]) == (14, 3, 0.05)
        assert image["PhysicalSizeZ"] == 0.5

    def test_another_stack_is_not_like_it(self, tmp_path: Path) -> None:
        source = ImageFile(pixels((3, 9, 7)), stack_axes=(0,))
        with pytest.raises(InputError, match=r"a stack as that of the file .* \(3,\), got \(2,\)"):
            write_image(tmp_path / "out.tif", source.image[:2], like=source)
        assert list(tmp_path.iterdir()) == []

    def test_pages_of_different_types(self, tmp_path: Path) -> None:
        with tifffile.TiffWriter(tmp_path / "in.tif") as tiff:
            tiff.write(pixels((9, 7), "uint8"))
            tiff.write(pixels((9, 7), "uint16"))
        with pytest.raises(UnreadableFileError, match="2 images of different sizes or kinds"):
            read_image(tmp_path / "in.tif")

    def test_stack_of_pyramids(self, tmp_path: Path) -> None:
        with tifffile.TiffWriter(tmp_path / "in.tif") as tiff:
            for _ in range(2):
                tiff.write(pixels((32, 32)), subifds=1, metadata=None)
                tiff.write(pixels((16, 16)), subfiletype=1, metadata=None)
        with pytest.raises(UnreadableFileError, match=r"pyramids|different sizes"):
            read_image(tmp_path / "in.tif")

    @pytest.mark.parametrize("factor", [2, 3, 4])
    def test_smaller_pages_that_are_no_copies(self, tmp_path: Path, factor: int) -> None:
        with tifffile.TiffWriter(tmp_path / "in.tif") as tiff:
            tiff.write(pixels((48, 36)), metadata=None)
            tiff.write(pixels((48 // factor, 36 // factor)), metadata=None)
        with pytest.raises(UnreadableFileError, match="2 images of different sizes"):
            read_image(tmp_path / "in.tif")

    @pytest.mark.parametrize("inside", [True, False])
    def test_smaller_copies_are_told_to_be_lost(self, tmp_path: Path, inside: bool) -> None:
        with tifffile.TiffWriter(tmp_path / "in.tif") as tiff:
            tiff.write(pixels((32, 32)), subifds=2 * inside, metadata=None)
            for size in (16, 8):
                tiff.write(pixels((size, size)), subfiletype=1, metadata=None)
        source = read_image(tmp_path / "in.tif")
        assert source.image.shape == (32, 32)
        with pytest.warns(UserWarning, match="without: its 2 smaller copies$"):
            write_image(tmp_path / "out.tif", source.image, like=source)

    def test_palettes(self, tmp_path: Path) -> None:
        table = np.random.default_rng(0).integers(0, 2**16, (3, 256), dtype=np.uint16)
        options: Any = {"photometric": "palette", "colormap": table, "metadata": None}
        tifffile.imwrite(tmp_path / "in.tif", pixels((2, 9, 7), "uint8"), **options)
        with pytest.raises(UnreadableFileError, match="stacks of pictures with a palette"):
            read_image(tmp_path / "in.tif")

    def test_channels_of_colour_pictures(self, tmp_path: Path) -> None:
        options: Any = {"photometric": "rgb", "metadata": {"axes": "CYXS"}}
        tifffile.imwrite(tmp_path / "in.tif", pixels((2, 9, 7, 3), "uint8"), **options)
        with pytest.raises(UnreadableFileError, match=r"axes CYXS.* none of grey or RGB images"):
            read_image(tmp_path / "in.tif")

    @pytest.mark.parametrize(
        ("inside", "reason"),
        [
            ('SizeC="1" SizeZ="2" SizeT="1">', "3 pages, and its OME metadata declare C 1 x Z 2"),
            (
                'SizeC="1" SizeZ="3" SizeT="1" DimensionOrder="XYZZT">',
                "3 pages, and its OME metadata declare 1 images",
            ),
            (
                'SizeC="1" SizeZ="3" SizeT="1"><TiffData IFD="0" FirstZ="2"/>',
                "whose pages are in another order",
            ),
        ],
    )
    def test_ome_of_other_pages(self, tmp_path: Path, inside: str, reason: str) -> None:
        text = f"<OME><Image><Pixels {inside}</Pixels></Image></OME>"
        options: Any = {**GREY, "description": text}
        tifffile.imwrite(tmp_path / "in.tif", pixels((3, 9, 7)), **options)
        with pytest.raises(UnreadableFileError, match=reason):
            read_image(tmp_path / "in.tif")

    def test_planes_in_the_order_that_is_said(self, tmp_path: Path) -> None:
        data = "".join(f'<TiffData IFD="{k}" FirstZ="{k}" PlaneCount="1"/>' for k in range(3))
        text = f'<OME><Image><Pixels SizeC="1" SizeZ="3" SizeT="1">{data}</Pixels></Image></OME>'
        options: Any = {**GREY, "description": text}
        tifffile.imwrite(tmp_path / "in.tif", pixels((3, 9, 7)), **options)
        assert read_image(tmp_path / "in.tif").stack_names == "Z"

    @pytest.mark.parametrize("size", [10**5, 10**9])
    def test_declared_planes_are_not_believed(self, tmp_path: Path, size: int) -> None:
        text = f"ImageJ=1.54f\nimages={size}\nslices={size}\nloop=false\n"
        options: Any = {**GREY, "description": text}
        tifffile.imwrite(tmp_path / "in.tif", pixels((900, 700)), **options)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with contextlib.suppress(UnreadableFileError):
                assert read_image(tmp_path / "in.tif").image.size == 900 * 700

    def test_all_planes_count_for_the_size(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tifffile.imwrite(tmp_path / "in.tif", pixels((20, 9, 7)), **GREY)
        np.save(tmp_path / "in.npy", pixels((20, 9, 7)))
        fits.PrimaryHDU(pixels((20, 9, 7), "int16")).writeto(tmp_path / "in.fits")
        monkeypatch.setattr(limits, "LARGEST_IMAGE", 19 * 9 * 7 * 2)
        for name in ("in.tif", "in.npy", "in.fits"):
            with pytest.raises(UnreadableFileError, match=r"expected .* at most"):
                read_image(tmp_path / name)


class TestArrays:
    @pytest.mark.parametrize(
        ("shape", "stack", "channel"),
        [
            ((5, 9, 7), (0,), None),
            ((5, 9, 7, 3), (0,), 3),
            ((5, 3, 9, 7), (0,), 1),
            ((6, 5, 9, 7), (0, 1), None),
            ((3, 9, 7), (), 0),
        ],
    )
    @pytest.mark.parametrize("fortran", [False, True])
    def test_numpy(
        self,
        tmp_path: Path,
        shape: tuple[int, ...],
        stack: tuple[int, ...],
        channel: int | None,
        fortran: bool,
    ) -> None:
        there = pixels(shape, ">i2")
        np.save(tmp_path / "in.npy", np.asfortranarray(there) if fortran else there)
        source = read_image(tmp_path / "in.npy")
        assert (source.stack_axes, source.channel_axis) == (stack, channel)
        assert bool(source.remarks) == (bool(stack) or channel == 0)
        write_image(tmp_path / "out.npy", source.image, like=source)
        assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "in.npy").read_bytes()

    @pytest.mark.parametrize(
        ("shape", "stack", "channel"),
        [
            ((5, 9, 7), (0,), None),
            ((2, 9, 7), (0,), None),
            ((5, 3, 9, 7), (0,), 1),
            ((6, 5, 9, 7), (0, 1), None),
            ((1, 5, 9, 7), (0,), None),
            ((3, 9, 7), (), 0),
        ],
    )
    def test_fits(
        self,
        tmp_path: Path,
        shape: tuple[int, ...],
        stack: tuple[int, ...],
        channel: int | None,
    ) -> None:
        header = fits.Header({"CTYPE3": "VELO", "CDELT3": 2.5, "OBJECT": "M 31"})
        fits.PrimaryHDU(pixels(shape, ">f4"), header).writeto(tmp_path / "in.fits")
        source = read_image(tmp_path / "in.fits")
        assert (source.stack_axes, source.channel_axis) == (stack, channel)
        write_image(tmp_path / "out.fits", source.image, like=source)
        data, kept = fits.getdata(tmp_path / "out.fits", header=True)
        assert (data.shape, data.dtype) == (shape, np.dtype(">f4"))
        np.testing.assert_array_equal(data, pixels(shape, ">f4"))
        assert (kept["CTYPE3"], kept["CDELT3"], kept["OBJECT"]) == ("VELO", 2.5, "M 31")

    @pytest.mark.parametrize("ending", ["tif", "npy", "fits"])
    @pytest.mark.parametrize(
        ("axes", "channel"), [((0,), None), ((1,), None), ((2,), 1), ((0, 2), None), ((1, 3), 0)]
    )
    def test_axes_that_are_said(
        self, tmp_path: Path, ending: str, axes: tuple[int, ...], channel: int | None
    ) -> None:
        lengths = [5, 6]
        shape = []
        rest = [9, 7]
        for axis in range(2 + len(axes) + (channel is not None)):
            here = lengths if axis in axes else rest
            shape.append(3 if axis == channel else here.pop(0))
        there = pixels(tuple(shape), "int16")
        path = tmp_path / f"out.{ending}"
        dipfast.write_image(path, there, stack_axis=axes, channel_axis=channel)
        source = dipfast.read_image(path)
        ordered = [*axes, *(k for k in range(there.ndim) if k not in (*axes, channel))]
        found = [
            *source.stack_axes,
            *(k for k in range(there.ndim) if source.image.shape[k] in (9, 7)),
        ]
        if channel is not None:
            ordered.append(channel)
            found.append(source.channel_axis or 0)
        np.testing.assert_array_equal(source.image.transpose(found), there.transpose(ordered))

    def test_only_some_formats_hold_stacks(self, tmp_path: Path) -> None:
        message = r"PNG cannot hold stacks of images, .*out\.png must be named \.tif"
        with pytest.raises(UnwritableFileError, match=message):
            check_output(tmp_path / "out.png", ImageFile(pixels((3, 9, 7)), stack_axes=(0,)))
        with pytest.raises(UnwritableFileError, match=message):
            write_image(tmp_path / "out.png", pixels((3, 9, 7), "uint8"), stack_axis=0)


def test_where_one_image_is_needed(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "in.tif", pixels((2, 3, 9, 7)), photometric="minisblack")
    with pytest.raises(UnreadableFileError, match=r"holds a stack \(2 x 3 planes\), expected one"):
        read_single(tmp_path / "in.tif")
    write_image(tmp_path / "one.tif", pixels((9, 7)))
    assert read_single(tmp_path / "one.tif").size == (9, 7)


def test_order_of_another_one() -> None:
    there = pixels((2, 3, 4, 9, 7))
    first = ImageFile(there, 2, stack_axes=(0, 1))
    moved = np.moveaxis(there, 2, 0)
    second = ImageFile(moved, 0, stack_axes=(1, 2))
    np.testing.assert_array_equal(first.in_order_of(second), moved)
    np.testing.assert_array_equal(second.in_order_of(first), there)


def test_nothing_of_a_cut_file_is_read(tmp_path: Path) -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels((3, 9, 7)), **GREY)
    content = stream.getvalue()
    # The last bytes are the resolution of the last page, which nobody needs.
    for end in range(8, len(content) - 16, 11):
        (tmp_path / "in.tif").write_bytes(content[:end])
        with pytest.raises(UnreadableFileError):
            read_image(tmp_path / "in.tif")


class TestWhatIsRefused:
    """Images that no file is written of; what was there stays."""

    @pytest.mark.parametrize(
        ("image", "options", "message"),
        [
            (np.zeros((0, 20, 20)), {"stack_axis": 0}, "image must not be empty"),
            (np.ones((4, 20, 20)), {"channel_axis": 7}, "channel_axis=7 does not fit"),
            (np.ones((20, 20)), {"channel_axis": 0}, "channel_axis=0 does not fit"),
            (np.ones((2, 3, 4, 20, 20)), {}, "stack_axis says which"),
            (np.ones((4, 20, 20)), {"stack_axis": True}, "stack_axis must be an integer"),
            (np.ones((4, 3, 20, 20)), {"stack_axis": 0, "channel_axis": 0}, "also an axis of the"),
            ([[1.0, 2.0]], {}, "image must be an array or a tensor, got list"),
        ],
    )
    def test_axes(self, tmp_path: Path, image: Any, options: Any, message: str) -> None:
        path = tmp_path / "out.tif"
        path.write_bytes(b"something good")
        with pytest.raises((ValueError, TypeError), match=message):
            write_image(path, image, overwrite=True, **options)
        assert path.read_bytes() == b"something good"

    def test_tensors_are_written(self, tmp_path: Path) -> None:
        stack = torch.rand(3, 1, 9, 7)
        write_image(tmp_path / "out.npy", stack, stack_axis=0, channel_axis=1)
        assert np.array_equal(np.load(tmp_path / "out.npy").squeeze(), stack.numpy().squeeze())

    def test_pages_that_are_turned_otherwise(self, tmp_path: Path) -> None:
        path = tmp_path / "in.tif"
        with tifffile.TiffWriter(path) as writer:
            for turn in (1, 3):
                tag = [(274, 3, 1, turn, True)]
                writer.write(np.zeros((9, 7), np.uint8), extratags=tag, metadata=None)
        with pytest.raises(ValueError, match="turned in different ways"):
            read_image(path)

    @pytest.mark.parametrize(
        ("odd", "message"),
        [
            ({"extratags": [(274, 3, 1, 3, True)]}, "turned in different ways"),
            ({"photometric": "miniswhite"}, "different sizes or kinds"),
        ],
    )
    def test_a_page_in_the_middle_of_many(
        self, tmp_path: Path, odd: dict[str, Any], message: str
    ) -> None:
        # Of eight pages and more, tifffile looks at a few only to find that they are alike.
        path = tmp_path / "in.tif"
        with tifffile.TiffWriter(path) as writer:
            for number in range(9):
                options = odd if number == 4 else {"photometric": "minisblack"}
                writer.write(np.zeros((9, 7), np.uint8), metadata=None, **options)
        with pytest.raises(ValueError, match=message):
            read_image(path)

    def test_names_of_pages_are_told_to_be_lost(self, tmp_path: Path) -> None:
        path = tmp_path / "in.tif"
        with tifffile.TiffWriter(path) as writer:
            for name in ("one", "two"):
                tag = [(285, 2, 0, name, True)]
                writer.write(np.zeros((9, 7), np.uint8), extratags=tag, metadata=None)
        source = read_image(path)
        with pytest.warns(UserWarning, match="names, times, profiles or resolutions"):
            write_image(tmp_path / "out.tif", source.image, like=source)


def test_axes_of_two_files_go_by_their_names(tmp_path: Path) -> None:
    stack = np.arange(2 * 2 * 9 * 7, dtype=np.uint16).reshape(2, 2, 9, 7)
    for name, axes, pixels in (
        ("tz.tif", "TZYX", stack),
        ("zt.tif", "ZTYX", stack.transpose(1, 0, 2, 3)),
    ):
        options: Any = {"photometric": "minisblack", "metadata": {"axes": axes}}
        tifffile.imwrite(tmp_path / name, pixels, **options)
    first, other = (read_image(tmp_path / name) for name in ("tz.tif", "zt.tif"))
    assert np.array_equal(other.stacked_as(first).in_order_of(first), first.image)
    assert np.array_equal(other.stacked_as(first).arranged(), first.arranged())
    assert not np.array_equal(other.in_order_of(first), first.image)


def test_four_planes_that_are_taken_for_colours_say_so(tmp_path: Path) -> None:
    options: Any = {"photometric": "rgb", "planarconfig": "separate", "extrasamples": [0]}
    tifffile.imwrite(tmp_path / "in.tif", np.ones((4, 9, 7), np.uint8), **options)
    (remark,) = read_image(tmp_path / "in.tif").remarks
    assert remark == "its four planes are taken for three colours and opacity"
