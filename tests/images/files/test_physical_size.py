"""The physical size of what a picture shows: all formats keep it, also in an enlarged picture."""

from __future__ import annotations

import contextlib
import struct
import warnings
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

import dipfast
from dipfast.images.files import ImageFile, Resolution, read_image, write_image
from dipfast.images.files.formats._tiff_directories import tag_places

SHAPE = (12, 10)
FACTORS = [1, 2, 4]


def pixels(*shape: int, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 250, shape or SHAPE).astype(dtype)


def larger(image: np.ndarray, factor: int, axes: tuple[int, int] = (0, 1)) -> np.ndarray:
    return image.repeat(factor, axes[0]).repeat(factor, axes[1])


def again(source: ImageFile, out: Path, factor: int) -> ImageFile:
    """Write an enlarged image, as super-resolution makes it, and return what is read from it."""
    axis = source.channel_axis
    axes = (0, 1) if axis in (None, 2) else (1, 2)
    write_image(out, larger(source.image, factor, axes), like=source, overwrite=True)
    written = read_image(out)
    assert written.size == (factor * source.size[0], factor * source.size[1])
    return written


def resize(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return larger(values, size[0] // values.shape[0])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.tif"


class TestTags:
    @pytest.mark.parametrize("factor", FACTORS)
    @pytest.mark.parametrize("unit", ["INCH", "CENTIMETER", "NONE"])
    @pytest.mark.parametrize("byteorder", ["<", ">"])
    @pytest.mark.parametrize("bigtiff", [False, True])
    def test_resolution(
        self, tmp_path: Path, out: Path, unit: str, factor: int, byteorder: Any, bigtiff: bool
    ) -> None:
        tifffile.imwrite(
            tmp_path / "in.tif",
            pixels(),
            resolution=((1185, 10), (300, 7)),
            resolutionunit=unit,
            byteorder=byteorder,
            bigtiff=bigtiff,
        )
        again(read_image(tmp_path / "in.tif"), out, factor)
        with tifffile.TiffFile(out) as file:
            page = file.pages.first
            assert Fraction(*page.tags["XResolution"].value) == Fraction(1185, 10) * factor
            assert Fraction(*page.tags["YResolution"].value) == Fraction(300, 7) * factor
            assert page.resolutionunit.name == unit

    @pytest.mark.parametrize("factor", FACTORS)
    @pytest.mark.parametrize("suffix", [".png", ".jpg"])
    def test_in_other_formats(self, tmp_path: Path, factor: int, suffix: str) -> None:
        options: Any = {"resolution": (118, 59), "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(tmp_path / "in.tif", pixels(), **options)
        again(read_image(tmp_path / "in.tif"), tmp_path / f"out{suffix}", factor)
        with Image.open(tmp_path / f"out{suffix}") as image:
            expected = (118 * factor * 2.54, 59 * factor * 2.54)
            assert image.info["dpi"] == pytest.approx(expected, rel=1e-3)

    @pytest.mark.parametrize("factor", FACTORS)
    def test_texts(self, tmp_path: Path, out: Path, factor: int) -> None:
        texts = {
            **{270: "Zellen im Schnitt", 271: "Maker", 272: "Model 1", 305: "a program"},
            **{306: "2024:02:29 12:00:00", 315: "Müller", 316: "host", 33432: "(c) Müller"},
            **{269: "document", 285: "page"},
        }
        tags = [(code, 2, 0, text.encode(), True) for code, text in texts.items() if code != 270]
        tifffile.imwrite(
            tmp_path / "in.tif",
            pixels(),
            description=texts[270],
            software=False,
            extratags=tags,
        )
        source = read_image(tmp_path / "in.tif")
        again(source, out, factor)
        with tifffile.TiffFile(out) as file:
            assert {code: file.pages.first.tags[code].value for code in texts} == texts
        for suffix in (".png", ".jpg"):
            again(source, out.with_suffix(suffix), factor)
            with Image.open(out.with_suffix(suffix)) as image:
                got = image.getexif()
                assert got[270] == "Zellen im Schnitt"
                # Pillow decodes the bytes of a text as Latin-1.
                assert got[315].encode("latin-1").decode() == "Müller"

    def test_description_beside_axes(self, tmp_path: Path, out: Path) -> None:
        planes = pixels(3, *SHAPE)
        options: Any = {"photometric": "minisblack", "metadata": {"axes": "CYX"}}
        tifffile.imwrite(tmp_path / "in.tif", planes, description="three channels", **options)
        source = read_image(tmp_path / "in.tif")
        assert again(source, out, 2).channel_axis == 0
        with tifffile.TiffFile(out) as file:
            assert file.pages.first.description == "three channels"
            assert file.series[0].axes == "CYX"

    @pytest.mark.parametrize(
        "value",
        [(0, 1), (1, 0), (0, 0), (2**32 - 1, 1)],
    )
    def test_nonsense(self, tmp_path: Path, out: Path, value: tuple[int, int]) -> None:
        tifffile.imwrite(tmp_path / "in.tif", pixels(), resolution=((72, 1), (72, 1)))
        content = (tmp_path / "in.tif").read_bytes()
        content = content.replace(struct.pack("<II", 72, 1), struct.pack("<II", *value))
        (tmp_path / "in.tif").write_bytes(content)
        source = read_image(tmp_path / "in.tif")
        if value[0] < 2:
            assert "resolution" not in source.metadata
            again(source, out, 2)
        else:
            with pytest.warns(UserWarning, match=r"out\.tif is without: resolution"):
                again(source, out, 2)

    def test_tag_that_is_cut_off(self, tmp_path: Path, out: Path) -> None:
        tags = [(33550, "d", 3, (1.0, 1.0, 0.0), True), (315, 2, 0, b"an artist", True)]
        tifffile.imwrite(tmp_path / "in.tif", pixels(), extratags=tags)
        content = bytearray((tmp_path / "in.tif").read_bytes())
        at = content.index(struct.pack("<HHI", 33550, 12, 3)) + 8
        content[at : at + 4] = struct.pack("<I", len(content) - 12)
        (tmp_path / "in.tif").write_bytes(content)
        again(read_image(tmp_path / "in.tif"), out, 2)
        with tifffile.TiffFile(out) as file:
            assert file.pages.first.tags.get(33550) is None
            assert file.pages.first.tags[315].value == "an artist"

    @pytest.mark.parametrize("orientation", [1, 3, 6, 8])
    def test_turned(self, tmp_path: Path, out: Path, orientation: int) -> None:
        tags = [(0x0112, "H", 1, orientation, True)]
        tifffile.imwrite(tmp_path / "in.tif", pixels(), resolution=(300, 150), extratags=tags)
        again(read_image(tmp_path / "in.tif"), out, 2)
        with tifffile.TiffFile(out) as file:
            expected = (600, 300) if orientation < 5 else (300, 600)
            assert file.pages.first.get_resolution() == expected
            assert file.pages.first.tags.get(0x0112) is None


class TestImageJ:
    @pytest.mark.parametrize("factor", FACTORS)
    @pytest.mark.parametrize(
        ("shape", "axes", "dtype"),
        [
            (SHAPE, "YX", "uint8"),
            (SHAPE, "YX", "uint16"),
            (SHAPE, "YX", "float32"),
            ((3, *SHAPE), "CYX", "uint16"),
            ((*SHAPE, 3), "YXS", "uint8"),
        ],
    )
    @pytest.mark.parametrize("byteorder", ["<", ">"])
    @pytest.mark.parametrize("compression", [None, "zlib"])
    def test_everything(
        self,
        tmp_path: Path,
        out: Path,
        shape: tuple[int, ...],
        axes: str,
        dtype: str,
        factor: int,
        byteorder: Any,
        compression: Any,
    ) -> None:
        channels = shape[0] if axes == "CYX" else 1
        metadata = {
            **{"axes": axes, "unit": "um", "spacing": 0.5, "finterval": 2.5, "min": 3.0},
            **{"Info": "objective: 40x, µ", "Labels": [f"label {k}" for k in range(channels)]},
            **{"Ranges": (0.0, 255.0) * channels, "Properties": {"key": "value"}},
            "LUTs": [np.arange(768, dtype=np.uint8).reshape(3, 256)] * channels,
        }
        tifffile.imwrite(
            tmp_path / "in.tif",
            pixels(*shape, dtype=dtype),
            imagej=True,
            resolution=(5.0, 4.0),
            metadata=metadata,
            byteorder=byteorder,
            compression=compression,
        )
        again(read_image(tmp_path / "in.tif"), out, factor)
        with tifffile.TiffFile(tmp_path / "in.tif") as before, tifffile.TiffFile(out) as file:
            assert file.is_imagej
            got, expected = {**file.imagej_metadata}, {**before.imagej_metadata}
            assert np.array_equal(got.pop("LUTs"), expected.pop("LUTs"))
            for key in ("images", "channels"):
                assert got.pop(key, 1) == channels
                expected.pop(key, None)
            assert got == expected
            assert got["unit"] == "um"
            page = file.pages.first
            assert page.get_resolution() == (5.0 * factor, 4.0 * factor)
            assert page.resolutionunit == 1
            assert file.series[0].axes == axes
            size = tuple(
                length * (factor if axis in "YX" else 1) for axis, length in zip(axes, shape)
            )
            assert file.series[0].shape == size

    @pytest.mark.parametrize("dtype", ["int16", "float64", "int8", "uint32"])
    def test_types_that_it_does_not_write(self, tmp_path: Path, out: Path, dtype: str) -> None:
        options: Any = {"resolution": (5.0, 4.0), "resolutionunit": "NONE", "metadata": None}
        description = "ImageJ=1.53t\nunit=\\u00B5m\nspacing=0.5\nxorigin=3.5\n"
        tifffile.imwrite(
            tmp_path / "in.tif", pixels(dtype=dtype), description=description, **options
        )
        source = read_image(tmp_path / "in.tif")
        assert source.metadata["resolution"] == Resolution(Fraction(5), Fraction(4), "µm")
        again(source, out, 4)
        with tifffile.TiffFile(out) as file:
            assert file.pages.first.get_resolution() == (20.0, 16.0)
            lines = file.pages.first.description.splitlines()
        assert lines == ["ImageJ=1.53t", "unit=\\u00B5m", "spacing=0.5", "xorigin=14.0"]

    @pytest.mark.parametrize("unit", ["inch", "cm", "mm", "kg", "", "pixel"])
    def test_units(self, tmp_path: Path, out: Path, unit: str) -> None:
        tifffile.imwrite(
            tmp_path / "in.tif",
            pixels(),
            resolution=(1, 1),
            resolutionunit={"inch": 2, "cm": 3}.get(unit, 1),
            metadata=None,
            description=f"ImageJ=1.53t\nunit={unit}\n",
        )
        again(read_image(tmp_path / "in.tif"), out, 2)
        with tifffile.TiffFile(out) as file:
            page = file.pages.first
            assert page.resolutionunit == {"inch": 2, "cm": 3}.get(unit, 1)
            # A resolution of one pixel per pixel has no meaning, so it is not kept.
            expected = 2 if unit not in ("", "pixel") else 1
            assert page.get_resolution() == (expected, expected)
            assert file.imagej_metadata["unit"] == unit

    @pytest.mark.parametrize("factor", FACTORS)
    @pytest.mark.parametrize("suffix", [".png", ".jpg"])
    def test_in_other_formats(self, tmp_path: Path, out: Path, factor: int, suffix: str) -> None:
        metadata = {"unit": "micron", "Info": "objective: 40x"}
        options: Any = {"imagej": True, "metadata": metadata}
        tifffile.imwrite(tmp_path / "in.tif", pixels(), resolution=(0.25, 0.5), **options)
        path = out.with_suffix(suffix)
        with pytest.warns(
            UserWarning, match=rf"out\{suffix} is without: ImageJ metadata \(which TIFF has\)$"
        ):
            again(read_image(tmp_path / "in.tif"), path, factor)
        with Image.open(path) as image:
            expected = (0.25 * factor * 25400, 0.5 * factor * 25400)
            assert image.info["dpi"] == pytest.approx(expected, rel=1e-3)

    def test_drawings_have_their_place_among_the_pixels(self, tmp_path: Path, out: Path) -> None:
        metadata = {"ROI": b"Iout" + bytes(60), "Overlays": [b"Iout" + bytes(61)], "Info": "more"}
        for byteorder in ("<", ">"):
            options: Any = {"imagej": True, "byteorder": byteorder, "metadata": metadata}
            tifffile.imwrite(tmp_path / "in.tif", pixels(), **options)
            source = read_image(tmp_path / "in.tif")
            again(source, out, 1)
            with tifffile.TiffFile(out) as file:
                assert file.imagej_metadata["ROI"] == metadata["ROI"]
                assert file.imagej_metadata["Overlays"] == metadata["Overlays"][0]
            with pytest.warns(UserWarning, match="without: region of interest, overlay$"):
                again(source, out, 2)
            with tifffile.TiffFile(out) as file:
                assert "ROI" not in file.imagej_metadata
                assert "Overlays" not in file.imagej_metadata
                assert file.imagej_metadata["Info"] == "more"

    def test_turned(self, tmp_path: Path, out: Path) -> None:
        options: Any = {"resolution": (5.0, 4.0), "resolutionunit": "NONE", "metadata": None}
        description = "ImageJ=1.53t\nunit=\xb5m\nxorigin=3.5\nspacing=0.5\n".encode("latin-1")
        tags = [(0x0112, "H", 1, 6, True)]
        tifffile.imwrite(
            tmp_path / "in.tif", pixels(), description=description, extratags=tags, **options
        )
        again(read_image(tmp_path / "in.tif"), out, 1)
        with tifffile.TiffFile(out) as file:
            assert file.pages.first.get_resolution() == (4.0, 5.0)
            lines = file.pages.first.description.splitlines()
        assert lines == ["ImageJ=1.53t", "unit=\\u00b5m", "spacing=0.5"]

    @pytest.mark.parametrize("byteorder", ["<", ">"])
    def test_white_is_zero(self, tmp_path: Path, out: Path, byteorder: Any) -> None:
        metadata = {"Ranges": (10.0, 250.0), "Info": "more", "min": 10.0, "max": 200.0}
        metadata |= {"cf": 0, "c0": 1.0, "c1": 2.0, "vunit": "OD"}
        options: Any = {"imagej": True, "byteorder": byteorder, "metadata": metadata}
        tifffile.imwrite(tmp_path / "in.tif", pixels(), **options)
        with tifffile.TiffFile(tmp_path / "in.tif", mode="r+") as file:
            file.pages.first.tags[262].overwrite(0)
        source = read_image(tmp_path / "in.tif")
        assert np.array_equal(source.image, 255 - pixels())
        with pytest.warns(UserWarning, match="is without: calibration of ImageJ$"):
            write_image(out, source.image, like=source)
        with tifffile.TiffFile(out) as file:
            got: Any = file.imagej_metadata
        assert (got["min"], got["max"], got["Ranges"]) == (55.0, 245.0, (5.0, 245.0))
        assert got["Info"] == "more"
        assert not {"cf", "c0", "c1", "vunit"} & set(got)

    def test_damaged_display_range_where_white_is_zero(self, tmp_path: Path, out: Path) -> None:
        metadata = {"Ranges": (10.0, 250.0, 3.0), "min": "dark"}
        tifffile.imwrite(tmp_path / "in.tif", pixels(), imagej=True, metadata=metadata)
        with tifffile.TiffFile(tmp_path / "in.tif", mode="r+") as file:
            file.pages.first.tags[262].overwrite(0)
        source = read_image(tmp_path / "in.tif")
        with pytest.warns(UserWarning, match="is without: display range$"):
            write_image(out, source.image, like=source)

    def test_nothing_but_drawings(self, tmp_path: Path, out: Path) -> None:
        options: Any = {"imagej": True, "metadata": {"ROI": b"Iout" + bytes(60)}}
        tifffile.imwrite(tmp_path / "in.tif", pixels(), **options)
        with pytest.warns(UserWarning, match="without: region of interest$"):
            again(read_image(tmp_path / "in.tif"), out, 2)
        with tifffile.TiffFile(out) as file:
            assert file.pages.first.tags.get(50839) is None


OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


def ome_of(path: Path) -> ElementTree.Element:
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        return ElementTree.fromstring(file.ome_metadata)


class TestOme:
    @pytest.mark.parametrize("factor", FACTORS)
    @pytest.mark.parametrize(
        ("shape", "axes", "dtype"),
        [
            (SHAPE, "YX", "uint16"),
            (SHAPE, "YX", "float64"),
            ((3, *SHAPE), "CYX", "int16"),
            ((*SHAPE, 3), "YXS", "uint8"),
        ],
    )
    @pytest.mark.parametrize("compression", [None, "zlib"])
    def test_everything(
        self,
        tmp_path: Path,
        out: Path,
        shape: tuple[int, ...],
        axes: str,
        dtype: str,
        factor: int,
        compression: Any,
    ) -> None:
        channels = ["DAPI", "GFP & co", "rot"][: shape[0] if axes == "CYX" else 1]
        metadata: dict[str, Any] = {
            **{"axes": axes, "Name": "cells", "Description": "some cells"},
            **{"PhysicalSizeX": 0.65, "PhysicalSizeXUnit": "µm"},
            **{"PhysicalSizeY": 0.325, "PhysicalSizeYUnit": "µm"},
            **{"PhysicalSizeZ": 2.0, "PhysicalSizeZUnit": "µm"},
            "Channel": {"Name": channels},
        }
        if axes == "YXS":
            metadata["Channel"] = {"Name": channels[0]}
        tifffile.imwrite(
            tmp_path / "in.tif",
            pixels(*shape, dtype=dtype),
            ome=True,
            metadata=metadata,
            compression=compression,
        )
        source = read_image(tmp_path / "in.tif")
        assert source.metadata["resolution"].unit == "µm"
        again(source, out, factor)
        root = ome_of(out)
        image = root.find(f"{OME}Image")
        assert image is not None
        found = image.find(f"{OME}Pixels")
        assert found is not None
        assert image.get("Name") == "cells"
        assert image.findtext(f"{OME}Description") == "some cells"
        assert float(found.get("PhysicalSizeX", "")) == pytest.approx(0.65 / factor, rel=1e-12)
        assert float(found.get("PhysicalSizeY", "")) == pytest.approx(0.325 / factor, rel=1e-12)
        assert float(found.get("PhysicalSizeZ", "")) == 2.0
        assert found.get("PhysicalSizeXUnit") == "µm"
        assert found.get("SizeX") == str(SHAPE[1] * factor)
        assert found.get("SizeY") == str(SHAPE[0] * factor)
        names = [channel.get("Name") for channel in found.findall(f"{OME}Channel")]
        assert names == channels
        # tifffile derives the axes from the description and the pages together.
        with tifffile.TiffFile(out) as file:
            assert file.series[0].kind == "ome"
            assert file.series[0].axes == axes
            assert np.array_equal(file.asarray(), read_image(out).image)
            x, y = (1e4 / 0.65 * factor, 1e4 / 0.325 * factor)
            assert file.pages.first.get_resolution() == pytest.approx((x, y))
            assert file.pages.first.resolutionunit.name == "CENTIMETER"
        if factor > 1:
            return
        # What dipfast writes is written in the same way when it is read again.
        again(read_image(out), out, 1)
        assert ElementTree.tostring(ome_of(out)) == ElementTree.tostring(root)

    def text(self, inside: str = "", **attributes: str) -> str:
        values = {
            **{"ID": "Pixels:0", "DimensionOrder": "XYZCT", "Type": "uint8", "BigEndian": "true"},
            **{"SizeX": "10", "SizeY": "12", "SizeC": "1", "SizeZ": "1", "SizeT": "1"},
            **{"PhysicalSizeX": "500", "PhysicalSizeXUnit": "nm"},
            **{"PhysicalSizeY": "250", "PhysicalSizeYUnit": "nm"},
            **attributes,
        }
        text = " ".join(f"{name}='{value}'" for name, value in values.items())
        return (
            f'<o:OME xmlns:o="{OME[1:-1]}" UUID="urn:uuid:1"><!-- <Pixels> -->'
            '<o:Image ID="Image:0">'
            f"<o:Pixels {text}>{inside}</o:Pixels></o:Image></o:OME>"
        )

    def write(self, path: Path, text: str) -> ImageFile:
        tifffile.imwrite(path, pixels(), description=text.encode(), metadata=None)
        return read_image(path)

    def test_prefixes_and_parts_about_pixels(self, tmp_path: Path, out: Path) -> None:
        inside = (
            '<o:Channel ID="Channel:0:0" Name="a &lt; b &gt; &quot;"/>'
            '<o:BinData BigEndian="true" Length="0"/><o:TiffData IFD="0"><o:UUID FileName="x.tif">'
            'urn:uuid:1</o:UUID></o:TiffData><o:Plane TheC="0" TheT="0" TheZ="0" DeltaT="3"/>'
        )
        again(self.write(tmp_path / "in.tif", self.text(inside)), out, 2)
        root = ome_of(out)
        assert "UUID" not in root.attrib
        found = root.find(f".//{OME}Pixels")
        assert found is not None
        assert [each.tag.removeprefix(OME) for each in found] == ["Channel", "TiffData", "Plane"]
        assert found[0].get("Name") == 'a < b > "'
        assert found[1].attrib == {}
        assert found.get("BigEndian") is None
        assert float(found.get("PhysicalSizeX", "")) == 250

    def test_regions_of_interest(self, tmp_path: Path, out: Path) -> None:
        roi = '<o:ROI ID="ROI:0"><o:Union><o:Point X="1" Y="2"/></o:Union></o:ROI>'
        text = self.text().replace("</o:Image>", '<o:ROIRef ID="ROI:0"/></o:Image>' + roi)
        source = self.write(tmp_path / "in.tif", text)
        again(source, out, 1)
        assert ome_of(out).find(f"{OME}ROI") is not None
        with pytest.warns(UserWarning, match="without: regions of interest$"):
            again(source, out, 2)
        assert ome_of(out).find(f"{OME}ROI") is None
        assert ome_of(out).find(f".//{OME}ROIRef") is None

    @pytest.mark.parametrize(
        "attributes", [{"SizeC": "2"}, {"SizeZ": "7"}, {"SizeT": "x"}, {"SizeT": ""}]
    )
    def test_about_more_than_this_image(
        self, tmp_path: Path, out: Path, attributes: dict[str, str]
    ) -> None:
        source = self.write(tmp_path / "in.tif", self.text(**attributes))
        with pytest.warns(UserWarning, match="without: OME metadata, which are not about one"):
            again(source, out, 2)
        # The size of a pixel is kept all the same.
        with tifffile.TiffFile(out) as file:
            assert file.pages.first.get_resolution() == (1e7 / 500 * 2, 1e7 / 250 * 2)
            assert not file.is_ome

    @pytest.mark.parametrize(
        "text",
        [
            "<OME><Image><Pixels></Image></OME>",
            "<OME><BinaryOnly MetadataFile='x.companion.ome'/></OME>",
            "<OME/><OME>",
        ],
    )
    def test_not_well_formed(self, tmp_path: Path, out: Path, text: str) -> None:
        source = self.write(tmp_path / "in.tif", text)
        with pytest.warns(UserWarning, match="without: OME metadata"):
            again(source, out, 2)

    def test_turned(self, tmp_path: Path, out: Path) -> None:
        tags = [(0x0112, "H", 1, 6, True)]
        text = self.text().encode()
        tifffile.imwrite(
            tmp_path / "in.tif", pixels(), description=text, metadata=None, extratags=tags
        )
        with pytest.warns(UserWarning, match="without: OME metadata, as it has been turned"):
            again(read_image(tmp_path / "in.tif"), out, 1)
        with tifffile.TiffFile(out) as file:
            assert file.pages.first.get_resolution() == (1e7 / 250, 1e7 / 500)

    def test_empty_element(self, tmp_path: Path, out: Path) -> None:
        text = self.text().replace("></o:Pixels>", "/>")
        again(self.write(tmp_path / "in.tif", text), out, 2)
        found = ome_of(out).find(f".//{OME}Pixels")
        assert found is not None
        assert [each.tag.removeprefix(OME) for each in found] == ["Channel", "TiffData"]

    def test_other_images_are_left_out(self, tmp_path: Path, out: Path) -> None:
        text = self.text().replace(
            "</o:Image>", '</o:Image><o:Image ID="Image:1"><o:Pixels ID="2"/></o:Image>'
        )
        again(self.write(tmp_path / "in.tif", text), out, 2)
        assert [each.get("ID") for each in ome_of(out).findall(f"{OME}Image")] == ["Image:0"]

    @pytest.mark.parametrize("size", ["10", "40"])
    @pytest.mark.parametrize("is_there", [True, False])
    def test_a_file_of_a_set(self, tmp_path: Path, out: Path, size: str, is_there: bool) -> None:
        # The text is about all files of the set, and that of the first image comes first.
        data = '<o:TiffData IFD="0"><o:UUID FileName="x.tif">urn:uuid:{}</o:UUID></o:TiffData>'
        first = self.text(data.format(2), SizeX=size)
        second = self.text(data.format(1 if is_there else 3), ID="Pixels:1", PhysicalSizeX="100")
        image = second.partition("<o:Image ")[2].replace("Image:0", "Image:1")
        text = first.removesuffix("</o:OME>") + "<o:Image " + image
        source = self.write(tmp_path / "in.tif", text)
        if not is_there:
            assert "resolution" not in source.metadata
            with pytest.warns(UserWarning, match="without: OME metadata, which are not about one"):
                again(source, out, 2)
            return
        resolution = source.metadata["resolution"]
        assert (1 / resolution.x, 1 / resolution.y) == pytest.approx((100, 250))
        again(source, out, 2)
        (kept,) = ome_of(out).findall(f"{OME}Image")
        assert kept.get("ID") == "Image:1"
        assert float(kept[0].get("PhysicalSizeX", "")) == 50

    @pytest.mark.parametrize("axis", "XY")
    def test_an_image_of_another_size(self, tmp_path: Path, out: Path, axis: str) -> None:
        source = self.write(tmp_path / "in.tif", self.text(**{f"Size{axis}": "40"}))
        assert "resolution" not in source.metadata
        with pytest.warns(UserWarning, match="without: OME metadata, which are not about one"):
            again(source, out, 2)

    @pytest.mark.parametrize(
        "attributes",
        [
            *({"PhysicalSizeX": size} for size in ("0", "-1", "nan", "inf", "x", "1e-400", "")),
            {"PhysicalSizeXUnit": "reference frame"},
        ],
    )
    def test_sizes_that_are_none(
        self, tmp_path: Path, out: Path, attributes: dict[str, str]
    ) -> None:
        source = self.write(tmp_path / "in.tif", self.text(**attributes))
        assert "resolution" not in source.metadata
        again(source, out, 2)
        pixels_ = ome_of(out).find(f".//{OME}Pixels")
        assert pixels_ is not None
        assert float(pixels_.get("PhysicalSizeY", "")) == 125

    def test_types_that_it_lacks(self, tmp_path: Path, out: Path) -> None:
        source = self.write(tmp_path / "in.tif", self.text())
        with pytest.warns(UserWarning, match="without: OME metadata, which have no type float16"):
            write_image(out, pixels(dtype="float16"), like=source)
        assert tifffile.imread(out).dtype == "float16"

    def test_in_another_format(self, tmp_path: Path, out: Path) -> None:
        source = self.write(tmp_path / "in.tif", self.text())
        with pytest.warns(
            UserWarning, match=r"out\.png is without: OME metadata \(which TIFF has\)$"
        ):
            again(source, out.with_suffix(".png"), 2)
        with Image.open(out.with_suffix(".png")) as image:
            assert image.info["dpi"] == pytest.approx((4e6 * 0.0254, 8e6 * 0.0254), rel=1e-6)


class TestGeoTiff:
    """GeoTIFF: everything in the picture keeps its place on the globe."""

    @staticmethod
    def place(path: Path, column: float, row: float) -> tuple[float, float]:
        """Return where a corner of a pixel is on the globe; the corner of the picture is (0, 0)."""
        with tifffile.TiffFile(path) as file:
            tags = file.pages.first.tags
            keys = tags[34735].value
            shift = 0.5 if (1025, 0, 1, 2) in zip(*(keys[k::4] for k in range(4))) else 0.0
            column, row = column - shift, row - shift
            if 34264 in tags:
                matrix = np.reshape(tags[34264].value, (4, 4))
                x, y, _, _ = matrix @ (column, row, 0, 1)
                return x, y
            (i, j, _, x, y, _), (across, down, _) = tags[33922].value[:6], tags[33550].value
            return x + (column - i) * across, y - (row - j) * down

    @pytest.mark.parametrize("factor", FACTORS)
    @pytest.mark.parametrize("point", [False, True])
    @pytest.mark.parametrize("kind", ["scale", "matrix"])
    @pytest.mark.parametrize("byteorder", ["<", ">"])
    def test_place(
        self, tmp_path: Path, out: Path, kind: str, point: bool, factor: int, byteorder: Any
    ) -> None:
        keys = (1, 1, 0, 2, 1024, 0, 1, 1, 1025, 0, 1, 2 if point else 1)
        tags: list[Any] = [(34735, "H", len(keys), keys, True)]
        if kind == "scale":
            tags.append((33550, "d", 3, (30.0, 20.0, 1.0), True))
            tags.append((33922, "d", 6, (2.0, 3.0, 0.0, 500_000.0, 4_000_000.0, 0.0), True))
        else:
            matrix = (30.0, 1.0, 0.0, 5e5, -2.0, -20.0, 0.0, 4e6, *(0.0,) * 4, *(0.0,) * 3, 1.0)
            tags.append((34264, "d", 16, matrix, True))
        tags.append((42113, 2, 0, b"-9999", True))
        path = tmp_path / "in.tif"
        tifffile.imwrite(path, pixels(dtype="float32"), extratags=tags, byteorder=byteorder)
        again(read_image(path), out, factor)
        for column, row in ((0, 0), (10, 12), (3, 7)):
            got = self.place(out, column * factor, row * factor)
            assert got == pytest.approx(self.place(path, column, row), rel=1e-12)
        with tifffile.TiffFile(out) as file:
            assert file.pages.first.tags[42113].value == "-9999"

    @pytest.mark.parametrize("value", ["-9999", "-3.4028234663852886e+38", "-3.40282347E+38 "])
    @pytest.mark.parametrize("bands", [(), (3,)])
    def test_floats_without_data_are_missing(
        self, tmp_path: Path, out: Path, value: str, bands: tuple[int, ...]
    ) -> None:
        array = np.random.default_rng(0).random((10, 12, *bands)).astype(np.float32)
        expected = array.copy()
        array[2:4, 5], expected[2:4, 5] = float(value), np.nan
        tags: Any = [(42113, "s", 0, value, True)]
        options: Any = {"photometric": "rgb" if bands else "minisblack"}
        tifffile.imwrite(tmp_path / "in.tif", array, extratags=tags, **options)
        source = read_image(tmp_path / "in.tif")
        assert np.array_equal(source.image, expected, equal_nan=True)
        assert "mean no data: they are NaN" in source.remarks[0]
        with pytest.raises(ValueError, match="inpaint"):
            dipfast.denoise(source.image, channel_axis=source.channel_axis)
        # What is written says that NaN means no data, as the old value is no longer there.
        write_image(out, source.image, like=source)
        again_ = read_image(out)
        assert np.array_equal(again_.image, expected, equal_nan=True)
        with tifffile.TiffFile(out) as file:
            assert file.pages.first.tags[42113].value == "nan"

    @pytest.mark.parametrize("bands", [1, 3])
    @pytest.mark.parametrize("value", [0, 2**31 - 1])
    def test_integers_without_data_are_told(self, tmp_path: Path, bands: int, value: int) -> None:
        array = pixels(10, 12, bands, dtype="int32") | 1
        array[2:4, 5] = value
        array[7, 7, 0] = value  # the other bands, if there are any, have data
        tags: Any = [(42113, "s", 0, str(value), True)]
        kind: Any = "rgb" if bands == 3 else "minisblack"
        tifffile.imwrite(tmp_path / "in.tif", array.squeeze(), extratags=tags, photometric=kind)
        source = read_image(tmp_path / "in.tif")
        assert np.array_equal(source.image, array.squeeze())
        (said,) = source.remarks
        assert said.startswith(f"{3 if bands == 1 else 2} pixels are {value}, which means no data")
        assert f"value:{value} " in said

    def test_is_named_where_it_is_lost(self, tmp_path: Path, out: Path) -> None:
        tags: Any = [(33550, "d", 3, (30.0, 20.0, 1.0), True), (50844, "d", 2, (1.0, 2.0), True)]
        path = tmp_path / "in.tif"
        tifffile.imwrite(path, pixels(), extratags=tags)
        with pytest.warns(UserWarning, match=r"without: georeference \(which TIFF has\), rational"):
            again(read_image(path), out.with_suffix(".png"), 1)
        with pytest.warns(UserWarning, match="without: rational polynomial of the sensor$"):
            again(read_image(path), out, 2)
        tags.append((0x0112, "H", 1, 6, True))
        tifffile.imwrite(path, pixels(), extratags=tags)
        with pytest.warns(UserWarning, match="without: georeference, rational polynomial"):
            again(read_image(path), out, 1)
        with tifffile.TiffFile(out) as file:
            assert file.pages.first.tags.get(33550) is None

    @pytest.mark.parametrize("kind", ["f", "H"])
    def test_damaged(self, tmp_path: Path, out: Path, kind: str) -> None:
        tifffile.imwrite(tmp_path / "in.tif", pixels(), extratags=[(33550, kind, 2, (1, 2), True)])
        source = read_image(tmp_path / "in.tif")
        again(source, out, 1)
        with pytest.warns(UserWarning, match="without: georeference$"):
            again(source, out, 2)


def with_chunk(png: bytes, name: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + data))
    return png[:33] + struct.pack(">I", len(data)) + name + data + check + png[33:]


def chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    content, at = path.read_bytes(), 8
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        yield content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        at += 12 + length


class TestPng:
    @pytest.mark.parametrize("factor", FACTORS)
    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    @pytest.mark.parametrize("unit", [0, 1])
    def test_resolution(
        self, tmp_path: Path, out: Path, unit: int, dtype: str, factor: int
    ) -> None:
        png = imagecodecs.png_encode(pixels(dtype=dtype))
        (tmp_path / "in.png").write_bytes(
            with_chunk(png, b"pHYs", struct.pack(">IIB", 11811, 2, unit))
        )
        source = read_image(tmp_path / "in.png")
        again(source, out.with_suffix(".png"), factor)
        got = struct.unpack(">IIB", dict(chunks(out.with_suffix(".png")))[b"pHYs"])
        assert got == (11811 * factor, 2 * factor, unit)
        again(source, out, factor)
        with tifffile.TiffFile(out) as file:
            page = file.pages.first
            scale = 100 if unit else 1
            assert page.get_resolution() == pytest.approx(
                (118.11 * 100 / scale * factor, 2 * factor / scale)
            )
            assert page.resolutionunit.name == ("CENTIMETER" if unit else "NONE")

    @pytest.mark.parametrize("orientation", [1, 6])
    def test_turned(self, tmp_path: Path, out: Path, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels()).save(tmp_path / "in.png", exif=exif, dpi=(300, 150))
        again(read_image(tmp_path / "in.png"), out.with_suffix(".png"), 1)
        with Image.open(out.with_suffix(".png")) as image:
            expected = (300, 150) if orientation == 1 else (150, 300)
            assert image.info["dpi"] == pytest.approx(expected, rel=1e-3)

    @pytest.mark.parametrize("factor", FACTORS)
    def test_physical_scale(self, tmp_path: Path, out: Path, factor: int) -> None:
        png = imagecodecs.png_encode(pixels())
        (tmp_path / "in.png").write_bytes(with_chunk(png, b"sCAL", b"\x011e-9\0002.5e-9"))
        out = out.with_suffix(".png")
        again(read_image(tmp_path / "in.png"), out, factor)
        scale = dict(chunks(out))[b"sCAL"]
        sizes = [float(size) for size in scale[1:].split(b"\0")]
        assert scale[0] == 1
        assert sizes == pytest.approx([1e-9 / factor, 2.5e-9 / factor])

    @pytest.mark.parametrize("size", [30.0, 1e-11])
    def test_too_coarse_or_too_fine(self, out: Path, size: float) -> None:
        like = ImageFile(pixels(), metadata={"resolution": Resolution.of(1 / size, 1 / size, "m")})
        for suffix in (".png", ".jpg"):
            with pytest.warns(UserWarning, match=rf"out\{suffix} is without: resolution$"):
                write_image(out.with_suffix(suffix), pixels(), like=like)


def photo(path: Path, endian: str, suffix: str, **options: Any) -> dict[int, Any]:
    """Write a photograph with all kinds of EXIF, and return the tags of its camera."""
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F], exif[0x0110], exif[0x013B] = "Maker", "Model", "Müller".encode()
    exif[0x011A], exif[0x011B], exif[0x0128] = 300.0, 150.0, 2
    exif[0x0112] = options.pop("orientation", 1)
    inner = exif.get_ifd(0x8769)
    inner[0x829A], inner[0x9003] = IFDRational(1, 250), "2024:02:29 12:00:00"
    inner[0xA002], inner[0xA003] = SHAPE[1], SHAPE[0]
    inner[0xA20E], inner[0xA20F] = IFDRational(1000), IFDRational(500)
    inner[0x9214] = (5, 6)
    inner[0x927C] = b"Maker\0" + bytes(range(40))
    inner[0xA005] = {0x0001: "R98", 0x1001: SHAPE[1]}
    exif.get_ifd(0x8825)[0x001D] = "2024:02:29"
    Image.fromarray(pixels()).save(path, exif=exif, **options)
    return {**inner}


def named_notes() -> Any:
    """Expect the warning that a TIFF lacks the notes of the maker."""
    return pytest.warns(UserWarning, match=r"is without: notes of the maker$")


class TestExif:
    @pytest.mark.parametrize("endian", ["<", ">"])
    @pytest.mark.parametrize("suffix", [".png", ".jpg"])
    @pytest.mark.parametrize("target", [".png", ".jpg", ".tif"])
    @pytest.mark.parametrize("factor", [1, 2])
    def test_everything(
        self, tmp_path: Path, endian: str, suffix: str, target: str, factor: int
    ) -> None:
        path, out = tmp_path / f"in{suffix}", tmp_path / f"out{target}"
        photo(path, endian, suffix, dpi=(300, 150))
        moved = target == ".tif"
        with named_notes() if moved else contextlib.nullcontext():
            again(read_image(path), out, factor)
        self.check(out, factor, not moved)
        # The way through a TIFF and back loses nothing else.
        back = tmp_path / "back.jpg"
        again(read_image(out), back, 1)
        self.check(back, factor, not moved)

    def check(self, path: Path, factor: int, has_notes: bool) -> None:
        height, width = SHAPE[0] * factor, SHAPE[1] * factor
        with Image.open(path) as image:
            exif = image.getexif()
            inner, globe = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
            related = exif.get_ifd(0xA005)
            assert image.size == (width, height)
            assert image.info["dpi"] == pytest.approx((300 * factor, 150 * factor), rel=1e-3)
        assert (exif[0x010F], exif[0x0110]) == ("Maker", "Model")
        assert exif[0x013B].encode("latin-1") == "Müller".encode()
        assert exif.get(0x0112, 1) == 1
        scale = {2: 1, 3: 1 / 2.54}[exif.get(0x0128, 2)]
        expected = (300 * factor * scale, 150 * factor * scale)
        if 0x011A in exif:
            assert (exif[0x011A], exif[0x011B]) == pytest.approx(expected, rel=1e-3)
        assert inner[0x829A] == pytest.approx(0.004)
        assert inner[0x9003] == "2024:02:29 12:00:00"
        assert (inner[0xA002], inner[0xA003]) == (width, height)
        assert (inner[0xA20E], inner[0xA20F]) == (1000 * factor, 500 * factor)
        assert (0x9214 in inner) == (factor == 1)
        notes = b"Maker\0" + bytes(range(40)) if has_notes else None
        assert inner.get(0x927C) == notes
        assert globe[0x001D] == "2024:02:29"
        assert (related[0x0001], related[0x1001]) == ("R98", width)

    def test_what_cameras_count_from_the_beginning_stays_in_place(self, tmp_path: Path) -> None:
        photo(tmp_path / "in.jpg", "<", ".jpg")
        before = (tmp_path / "in.jpg").read_bytes()
        out = tmp_path / "out.jpg"
        again(read_image(tmp_path / "in.jpg"), out, 2)
        after, note = out.read_bytes(), b"Maker\0" + bytes(range(40))
        head = b"Exif\0\0II*\0"
        assert before.index(note) - before.index(head) == after.index(note) - after.index(head)

    @pytest.mark.parametrize("target", [".jpg", ".tif"])
    def test_notes_of_the_maker_in_a_tiff_are_lost(self, tmp_path: Path, target: str) -> None:
        # Their offsets are those of the file, in which they get another place.
        tifffile.imwrite(tmp_path / "in.tif", pixels(), extratags=[("ExifTag", 4, 1, 0, True)])
        with open(tmp_path / "in.tif", "r+b") as file:
            place = tag_places(file)[0x8769]
            end = file.seek(0, 2)
            note = struct.pack("<HHHII8s", 1, 0x927C, 7, 8, end + 18, bytes(4)) + b"OFFSETS!"
            file.write(note)
            file.seek(place)
            file.write(struct.pack("<I", end))
        source = read_image(tmp_path / "in.tif")
        out = tmp_path / f"out{target}"
        with named_notes():
            again(source, out, 1)
        assert b"OFFSETS!" not in out.read_bytes()

    @pytest.mark.parametrize("orientation", [1, 3, 6])
    def test_turned(self, tmp_path: Path, orientation: int) -> None:
        out = tmp_path / "out.jpg"
        photo(tmp_path / "in.jpg", ">", ".jpg", orientation=orientation)
        source = read_image(tmp_path / "in.jpg")
        write_image(out, source.image, like=source)
        with Image.open(out) as image:
            exif = image.getexif()
            inner = exif.get_ifd(0x8769)
            assert exif.get(0x0112, 1) == 1
            assert (inner[0xA002], inner[0xA003]) == image.size
            assert image.size == (SHAPE[::-1] if orientation < 5 else SHAPE)
            turned = (300, 150) if orientation < 5 else (150, 300)
            assert (exif[0x011A], exif[0x011B]) == turned
            assert image.info["dpi"] == turned
            assert (inner[0xA20E] > inner[0xA20F]) == (orientation < 5)

    @pytest.mark.parametrize("endian", ["<", ">"])
    @pytest.mark.parametrize("factor", [1, 2])
    def test_resolution_is_put_into_exif_that_has_none(
        self, tmp_path: Path, endian: str, factor: int
    ) -> None:
        photo(tmp_path / "in.jpg", endian, ".jpg", dpi=(300, 150))
        # In a TIFF the resolution is not among the tags of EXIF, and WebP has no other place.
        with named_notes():
            first = again(read_image(tmp_path / "in.jpg"), tmp_path / "in.tif", 1)
        assert first.metadata["exif"].resolution is None
        got = again(first, tmp_path / "out.webp", factor)
        assert got.metadata["resolution"] == Resolution.of(300 * factor, 150 * factor, "inch")
        before, after = first.metadata["exif"], got.metadata["exif"]
        expected = before if factor == 1 else before.enlarged(factor)
        assert after.values() == expected.sized(*got.size).values()
        with Image.open(tmp_path / "out.webp") as image:
            exif = image.getexif()
            assert (exif[0x010F], exif[0x011A]) == ("Maker", 300 * factor)
            assert exif.get_ifd(0x8769)[0x829A] == pytest.approx(0.004)

    def test_only_a_contradiction_is_lost(self, tmp_path: Path) -> None:
        # A PNG rounds a resolution to whole pixels in a metre.
        photo(tmp_path / "in.png", "<", ".png", dpi=(300, 150))
        source = read_image(tmp_path / "in.png")
        assert source.metadata["resolution"] != source.metadata["exif"].resolution
        write_image(tmp_path / "out.webp", source.image, like=source)
        source.metadata["resolution"] = Resolution.of(310, 150, "inch")
        with pytest.warns(UserWarning, match="is without: resolution$"):
            write_image(tmp_path / "other.webp", source.image, like=source)

    def test_without_the_thumbnail(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif.endian = "<"
        exif[0x010F] = "Maker"
        data = bytearray(exif.tobytes())
        # The first directory has one tag, and the offset of a directory of a thumbnail after it.
        at = 6 + 8 + 2 + 12
        data[at : at + 4] = struct.pack("<I", len(data) - 6)
        data += struct.pack("<HHHII", 1, 0x0103, 3, 1, 6) + bytes(4)
        Image.fromarray(pixels()).save(tmp_path / "in.jpg", exif=bytes(data))
        with Image.open(tmp_path / "in.jpg") as image:
            assert image.getexif().get_ifd(ExifTags.IFD.IFD1) == {0x0103: 6}
        again(read_image(tmp_path / "in.jpg"), tmp_path / "out.jpg", 1)
        with Image.open(tmp_path / "out.jpg") as image:
            assert image.getexif()[0x010F] == "Maker"
            assert image.getexif().get_ifd(ExifTags.IFD.IFD1) == {}

    @pytest.mark.parametrize("suffix", [".png", ".jpg"])
    @pytest.mark.parametrize("data", [b"II*\0", b"nothing at all", b"II*\0\x08\0\0\0\xff\xff"])
    def test_damaged(self, tmp_path: Path, data: bytes, suffix: str) -> None:
        path = tmp_path / f"in{suffix}"
        Image.fromarray(pixels()).save(path, exif=b"Exif\0\0" + data)
        with pytest.warns(UserWarning, match="without: EXIF, which is damaged"):
            again(read_image(path), tmp_path / f"out{suffix}", 1)

    def test_too_long_for_jpeg(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x010F] = "x" * 70_000
        Image.fromarray(pixels()).save(tmp_path / "in.png", exif=exif)
        source = read_image(tmp_path / "in.png")
        with pytest.warns(UserWarning, match="without: EXIF, which is too long for JPEG"):
            again(source, tmp_path / "out.jpg", 1)
        for name in ("out.png", "out.tif"):
            again(source, tmp_path / name, 1)
            with Image.open(tmp_path / name) as image:
                assert image.getexif()[0x010F] == "x" * 70_000


class TestJpeg:
    @pytest.mark.parametrize("factor", FACTORS)
    @pytest.mark.parametrize("unit", [0, 1, 2])
    def test_density(self, tmp_path: Path, factor: int, unit: int) -> None:
        path, out = tmp_path / "in.jpg", tmp_path / "out.jpg"
        Image.fromarray(pixels()).save(path)
        content = bytearray(path.read_bytes())
        content[13:18] = struct.pack(">BHH", unit, 118, 59)
        path.write_bytes(content)
        again(read_image(path), out, factor)
        with Image.open(out) as image:
            assert image.info["jfif_unit"] == unit
            assert image.info["jfif_density"] == (118 * factor, 59 * factor)
        again(read_image(path), tmp_path / "out.tif", factor)
        with tifffile.TiffFile(tmp_path / "out.tif") as file:
            assert file.pages.first.get_resolution() == (118 * factor, 59 * factor)
            assert file.pages.first.resolutionunit == unit + 1

    def test_none_stays_none(self, tmp_path: Path) -> None:
        Image.fromarray(pixels()).save(tmp_path / "in.jpg")
        source = read_image(tmp_path / "in.jpg")
        assert "resolution" not in source.metadata
        again(source, tmp_path / "out.jpg", 4)
        with Image.open(tmp_path / "out.jpg") as image:
            assert image.info["jfif_density"] == (1, 1)
        again(source, tmp_path / "out.png", 4)
        assert b"pHYs" not in dict(chunks(tmp_path / "out.png"))

    def test_finer_than_inches_can_say(self, tmp_path: Path) -> None:
        resolution = Resolution.of(5, 5, "µm")
        out = tmp_path / "out.jpg"
        write_image(out, pixels(), like=ImageFile(pixels(), metadata={"resolution": resolution}))
        with Image.open(out) as image:
            assert (image.info["jfif_unit"], image.info["jfif_density"]) == (2, (50000, 50000))


class TestEnlarged:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    def test_opacity(self, dtype: str) -> None:
        alpha = (np.arange(120).reshape(SHAPE) / 119).astype(dtype)
        if dtype != "float32":
            alpha = (np.arange(120).reshape(SHAPE) * 2).astype(dtype)
        source = ImageFile(pixels(*SHAPE, 3, dtype=dtype), 2, alpha)

        def ringing(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
            assert values.dtype == np.float64
            return resize(values, size) * 1.2 - 0.1 * values.max()

        got = source.enlarged(3, ringing)
        assert got.alpha is not None
        assert got.alpha.dtype == dtype
        assert got.alpha.min() == alpha.min()
        assert got.alpha.max() == alpha.max()
        expected = (larger(alpha.astype(float), 3) * 1.2 - 0.1 * alpha.max()).clip(0, alpha.max())
        assert np.abs(got.alpha - expected).max() <= (1e-6 if dtype == "float32" else 0.5)
        assert got.image.shape == (36, 30, 3)
        assert got.image.dtype == dtype

    def test_opacity_needs_a_function(self) -> None:
        source = ImageFile(pixels(), alpha=pixels())
        assert source.enlarged(1) is source
        with pytest.raises(ValueError, match="resize must be given, because the file has opacity"):
            source.enlarged(2)

    @pytest.mark.parametrize("factor", [0, -2, 1.5])
    def test_factor(self, factor: Any) -> None:
        with pytest.raises(
            ValueError, match=f"factor must be a positive whole number, got {factor}"
        ):
            ImageFile(pixels()).enlarged(factor)

    @pytest.mark.parametrize("axis", [0, 2, -1])
    def test_channels(self, axis: int) -> None:
        shape = [12, 10]
        shape.insert(axis % 3, 5)
        got = ImageFile(pixels(*shape), axis).enlarged(2)
        assert got.size == (24, 20)
        assert got.image.shape == tuple(2 * n if n != 5 else n for n in shape)

    def test_takes_no_memory(self) -> None:
        image = np.broadcast_to(np.zeros((), np.float32), (20_000, 20_000))
        assert ImageFile(image).enlarged(8).size == (160_000, 160_000)

    def test_before_and_while_writing_is_the_same(self, tmp_path: Path) -> None:
        options: Any = {"resolution": (5.0, 4.0), "imagej": True, "metadata": {"unit": "um"}}
        tifffile.imwrite(tmp_path / "in.tif", pixels(), **options)
        source = read_image(tmp_path / "in.tif")
        image = larger(source.image, 2)
        write_image(tmp_path / "a.tif", image, like=source)
        write_image(tmp_path / "b.tif", image, like=source.enlarged(2))
        assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()

    @pytest.mark.parametrize("size", [(12, 20), (25, 21), (6, 5), (12, 9)])
    def test_another_view(self, tmp_path: Path, size: tuple[int, int]) -> None:
        with pytest.raises(ValueError, match="the image must have the size of the file that it is"):
            write_image(tmp_path / "out.tif", pixels(*size), like=ImageFile(pixels()))
        assert list(tmp_path.iterdir()) == []

    def test_opacity_of_the_old_size(self, tmp_path: Path) -> None:
        like = ImageFile(pixels(), alpha=pixels())
        with pytest.raises(ValueError, match=r"has the size \(12, 10\), expected \(24, 20\); like"):
            write_image(tmp_path / "out.png", pixels(24, 20), like=like)
        write_image(tmp_path / "out.png", pixels(24, 20), like=like.enlarged(2, resize))
        assert read_image(tmp_path / "out.png").alpha is not None


UNITS = st.sampled_from(["m", "cm", "mm", "µm", "inch", ""])


@given(
    st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)),
    UNITS,
    st.sampled_from([2, 3, 4, 8]),
    st.sampled_from(["PNG", "JPEG", "TIFF"]),
)
def test_twice_as_many_pixels_are_half_as_large(
    tmp_path_factory: pytest.TempPathFactory,
    values: tuple[float, float],
    unit: str,
    factor: int,
    kind: str,
) -> None:
    """Check for all formats that the resolution is multiplied by the factor, or a warning given."""
    suffix = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif"}[kind]
    path = tmp_path_factory.mktemp("size", numbered=True) / f"out{suffix}"
    resolution = Resolution.of(*values, unit)
    assume(resolution is not None)  # 1 to 1 without a unit says nothing
    like = ImageFile(np.zeros((2, 2), np.uint8), metadata={"resolution": resolution})
    image = np.zeros((2 * factor, 2 * factor), np.uint8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write_image(path, image, like=like)
    got = read_image(path).metadata.get("resolution")
    if caught:
        assert "is without: resolution" in str(caught[0].message)
        assert got is None
        return
    if got is None and not unit:
        assert resolution.x == resolution.y  # 1 to 1 once it is enlarged
        return
    assert got is not None
    if unit:
        metric, expected = got.to("m"), resolution.to("m")
        assert float(metric.x / expected.x) == pytest.approx(factor, rel=0.011)
        assert float(metric.y / expected.y) == pytest.approx(factor, rel=0.011)
    else:
        assert float(got.x / got.y) == pytest.approx(float(resolution.x / resolution.y), rel=0.03)
