"""Zarr and OME-Zarr: stores of the library itself, and stores that are not what they declare."""

from __future__ import annotations

import gzip
import json
import os
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from dipfast.apps.cli import main
from dipfast.errors import UnreadableFileError, UnwritableFileError, WouldOverwriteError
from dipfast.images.files import ImageFile, Resolution, limits, read_image, safe, write_image
from dipfast.images.files.formats import zarr_stores

zarr = pytest.importorskip("zarr", "3", reason="stores are made by zarr 3, which needs Python 3.11")
codecs = pytest.importorskip("zarr.codecs")
numcodecs = pytest.importorskip("numcodecs")

CHANNELS = {"channels": [{"label": "DAPI", "color": "0000FF"}, {"label": "GFP"}]}
OLD_CODECS = {
    "none": None,
    "blosc": numcodecs.Blosc(),
    "blosc of bits": numcodecs.Blosc("zstd", 5, numcodecs.Blosc.BITSHUFFLE),
    "zlib": numcodecs.Zlib(3),
    "gzip": numcodecs.GZip(3),
    "zstd": numcodecs.Zstd(2),
    "lz4": numcodecs.LZ4(),
    "bz2": numcodecs.BZ2(),
    "lzma": numcodecs.LZMA(),
}
NEW_CODECS: dict[str, dict[str, Any]] = {
    "none": {"compressors": None},
    "blosc": {"compressors": [codecs.BloscCodec(cname="lz4", shuffle="bitshuffle")]},
    "gzip": {"compressors": [codecs.GzipCodec()]},
    "zstd and a sum": {"compressors": [codecs.ZstdCodec(), codecs.Crc32cCodec()]},
    "transposed": {"filters": [codecs.TransposeCodec(order=(1, 0))]},
    "shards": {"shards": (16, 24)},
    "shards, transposed": {"shards": (16, 24), "filters": [codecs.TransposeCodec(order=(1, 0))]},
}


def numbers(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    values = np.random.default_rng(0).normal(100, 30, shape)
    return np.asarray(values.clip(0, 250)).astype(dtype)


def make(path: Path, pixels: np.ndarray, chunks: tuple[int, ...] | None = None, **how: Any) -> Path:
    """Write an array with the library itself."""
    how.setdefault("zarr_format", 3)
    chunks = chunks or (1,) * (pixels.ndim - 2) + (8, 12)
    array = zarr.create_array(
        path, shape=pixels.shape, dtype=pixels.dtype, chunks=chunks, fill_value=5, **how
    )
    array[...] = pixels
    return path


def make_ome(
    path: Path, pixels: np.ndarray, axes: str, version: int = 3, place: str = "", **more: Any
) -> Path:
    """Write an image of OME-Zarr with two smaller copies, by hand."""
    types = {"t": "time", "c": "channel"}
    described = [{"name": name, "type": types.get(name, "space")} for name in axes]
    for axis in described:
        if axis["type"] == "space":
            axis["unit"] = "micrometer"
    root = zarr.open_group(path, mode="w", zarr_format=version)
    group = root.create_group(place) if place else root
    levels = []
    for level in range(3):
        copy = pixels[..., :: 2**level, :: 2**level]
        make(path / place / str(level), copy, zarr_format=version)
        scale = [0.5] * (len(axes) - 2) + [0.25 * 2**level, 0.125 * 2**level]
        transformations = [{"type": "scale", "scale": scale}]
        levels.append({"path": str(level), "coordinateTransformations": transformations})
    image = {"name": "cells", "axes": described, "datasets": levels}
    if version == 2:
        group.attrs.update({"multiscales": [{"version": "0.4", **image}], **more})
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image], **more}
    return path


def described(store: Any) -> Any:
    """Return what OME says of the image of a store."""
    attributes = dict(store.attrs)
    return attributes.get("ome", attributes)["multiscales"][0]


def edited(path: Path, **changes: Any) -> Path:
    """Change the metadata of an array."""
    file = next(path / name for name in ("zarr.json", ".zarray") if (path / name).exists())
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableFileError) as caught:
        read_image(path)
    return str(caught.value).removeprefix(f"cannot read {path}: ")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.zarr"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.zarr"


class TestArrays:
    def check(self, path: Path, out: Path, pixels: np.ndarray) -> None:
        source = read_image(path)
        assert source.format == "Zarr"
        assert np.array_equal(source.image, pixels)
        assert source.image.dtype == pixels.dtype.newbyteorder("=")
        write_image(out, source.image, like=source)
        before, after = zarr.open_array(path, mode="r"), zarr.open_array(out, mode="r")
        assert after.metadata == before.metadata
        assert np.array_equal(after[...], pixels)

    @pytest.mark.parametrize("codec", OLD_CODECS)
    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("dtype", ["uint8", ">u2", "<f4"])
    def test_version_2(self, path: Path, out: Path, codec: str, order: str, dtype: str) -> None:
        how = {"compressors": OLD_CODECS[codec], "order": order, "attributes": {"a": [1, {}]}}
        pixels = numbers((17, 25), dtype)
        self.check(make(path, pixels, zarr_format=2, **how), out, pixels)

    @pytest.mark.parametrize("codec", NEW_CODECS)
    @pytest.mark.parametrize("endian", ["little", "big"])
    @pytest.mark.parametrize("dtype", ["uint16", "float64"])
    def test_version_3(self, path: Path, out: Path, codec: str, endian: str, dtype: str) -> None:
        how = {"serializer": codecs.BytesCodec(endian=endian), "dimension_names": ["y", "x"]}
        pixels = numbers((17, 25), dtype)
        make(path, pixels, attributes={"a": 1}, **how, **NEW_CODECS[codec])
        self.check(path, out, pixels)

    @pytest.mark.parametrize("dtype", ["int8", "uint32", "int64", "uint64", "float16"])
    @pytest.mark.parametrize("version", [2, 3])
    def test_types(self, path: Path, out: Path, dtype: str, version: int) -> None:
        pixels = numbers((9, 7), dtype)
        self.check(make(path, pixels, zarr_format=version), out, pixels)

    @pytest.mark.parametrize(
        ("version", "name", "separator"),
        [(2, "v2", "/"), (2, "v2", "."), (3, "default", "."), (3, "v2", "/"), (3, "v2", ".")],
    )
    def test_names_of_chunks(
        self, path: Path, out: Path, version: int, name: str, separator: str
    ) -> None:
        pixels = numbers((17, 25))
        how = {"chunk_key_encoding": {"name": name, "separator": separator}}
        self.check(make(path, pixels, zarr_format=version, **how), out, pixels)

    def test_where_there_is_no_chunk_there_is_the_fill_value(self, path: Path) -> None:
        array = zarr.create_array(path, shape=(16, 24), dtype="f4", chunks=(8, 12), fill_value=2.5)
        array[:8, :12] = 1
        assert len(list(path.rglob("c/*/*"))) == 1
        image = read_image(path).image
        assert (image == 2.5).sum() == 3 * 96
        edited(path, fill_value="NaN")
        assert np.isnan(read_image(path).image).sum() == 3 * 96
        edited(path, fill_value="0x3f800000")
        assert (read_image(path).image == 1).all()

    def test_an_index_of_shards_at_the_start(self, path: Path) -> None:
        pixels = numbers((17, 25))
        sharding = codecs.ShardingCodec(chunk_shape=(8, 12), index_location="start")
        make(path, pixels, chunks=(16, 24), serializer=sharding, compressors=None)
        source = read_image(path)
        assert np.array_equal(source.image, pixels)
        write_image(path.with_name("out.zarr"), source.image, like=source)
        assert np.array_equal(zarr.open_array(path.with_name("out.zarr"))[...], pixels)

    @pytest.mark.parametrize("version", [2, 3])
    def test_results_of_another_type_and_size(self, path: Path, out: Path, version: int) -> None:
        source = read_image(make(path, numbers((17, 25), "uint8"), zarr_format=version))
        large = np.repeat(np.repeat(source.image, 2, 0), 2, 1).astype(np.float32) / 3
        write_image(out, large, like=source)
        array = zarr.open_array(out, mode="r")
        assert (array.dtype, array.chunks) == (np.float32, (8, 12))
        assert np.array_equal(array[...], large)

    def test_axes_without_names_are_those_of_numpy(self, tmp_path: Path) -> None:
        for shape in ((3, 9, 12), (9, 12, 3), (6, 9, 12), (6, 9, 12, 3), (5, 6, 9, 12)):
            made = make(tmp_path / f"{shape}.zarr", numbers(shape), chunks=shape)
            np.save(tmp_path / "same.npy", numbers(shape))
            found, same = read_image(made), read_image(tmp_path / "same.npy")
            for name in ("channel_axis", "stack_axes", "stack_names", "remarks"):
                assert getattr(found, name) == getattr(same, name)

    @pytest.mark.parametrize("version", [2, 3])
    def test_axes_with_names(self, path: Path, out: Path, version: int) -> None:
        names = ["time", "channel", "depth", "y", "x"]
        how: dict[str, Any] = {"dimension_names": names}
        if version == 2:  # as xarray has them
            how = {"attributes": {"_ARRAY_DIMENSIONS": names}}
        pixels = numbers((2, 7, 1, 9, 12))
        source = read_image(make(path, pixels, zarr_format=version, **how))
        assert (source.channel_axis, source.stack_axes, source.stack_names) == (1, (0,), "T")
        assert source.image.shape == (2, 7, 9, 12)
        write_image(out, source.image, like=source)
        array = zarr.open_array(out, mode="r")
        assert np.array_equal(array[...], pixels)
        assert array.metadata == zarr.open_array(path, mode="r").metadata


class TestOme:
    @pytest.mark.parametrize("version", [2, 3])
    def test_what_goes_in_comes_out(self, path: Path, out: Path, version: int) -> None:
        pixels = numbers((2, 2, 3, 17, 25))
        make_ome(path, pixels, "tczyx", version, omero=CHANNELS)
        source = read_image(path)
        assert (source.channel_axis, source.stack_axes, source.stack_names) == (1, (0, 2), "TZ")
        assert source.metadata["resolution"] == Resolution.of(8, 4, "um")
        with pytest.warns(UserWarning, match=r"out\.zarr is without: its 2 smaller copies$"):
            write_image(out, source.image, like=source)
        before, after = zarr.open_group(path, mode="r"), zarr.open_group(out, mode="r")
        assert list(after.keys()) == ["0"]
        assert np.array_equal(after["0"][...], pixels)
        assert after["0"].metadata == before["0"].metadata
        expected = described(before)
        expected["datasets"] = expected["datasets"][:1]
        assert described(after) == expected
        attributes = dict(after.attrs)
        assert attributes.get("ome", attributes)["omero"] == CHANNELS

    @pytest.mark.parametrize("version", [2, 3])
    def test_an_enlarged_image_is_the_same_view(self, path: Path, out: Path, version: int) -> None:
        source = read_image(make_ome(path, numbers((2, 16, 24)), "zyx", version))
        with pytest.warns(UserWarning, match="smaller copies"):
            write_image(out, np.repeat(np.repeat(source.image, 2, 1), 2, 2), like=source)
        assert described(zarr.open_group(out))["datasets"][0]["coordinateTransformations"] == [
            {"type": "scale", "scale": [0.5, 0.125, 0.0625]},
            {"type": "translation", "translation": [0.0, -0.0625, -0.03125]},
        ]
        assert read_image(out).metadata["resolution"] == Resolution.of(16, 8, "um")

    def test_axes_of_one_come_back(self, path: Path, out: Path) -> None:
        pixels = numbers((1, 1, 1, 17, 25))
        source = read_image(make_ome(path, pixels, "tczyx"))
        assert source.image.shape == (17, 25)
        assert (source.channel_axis, source.stack_axes) == (None, ())
        with pytest.warns(UserWarning, match="smaller copies"):
            write_image(out, source.image, like=source)
        assert np.array_equal(zarr.open_group(out)["0"][...], pixels)

    def test_one_image_in_groups(self, path: Path, out: Path) -> None:
        """As bioformats2raw writes them."""
        make_ome(path, numbers((2, 17, 25)), "cyx", 2, place="0")
        zarr.open_group(path).attrs["bioformats2raw.layout"] = 3
        (path / "OME").mkdir()
        (path / "OME" / "METADATA.ome.xml").write_text("<OME/>")
        source = read_image(path)
        with pytest.warns(UserWarning, match="without: its 2 smaller copies, OME$"):
            write_image(out, source.image, like=source)
        written = zarr.open_group(out)
        assert dict(written.attrs) == {"bioformats2raw.layout": 3}
        assert np.array_equal(written["0/0"][...], numbers((2, 17, 25)))

    def test_a_group_or_an_array_can_be_named(self, path: Path) -> None:
        make_ome(path, numbers((2, 17, 25)), "cyx", place="a")
        make_ome(path / "b", numbers((9, 7)), "yx")
        message = refusal(path)
        assert message.startswith("it holds 2 arrays or groups (a, b), expected one image")
        assert message.endswith("such as in.zarr/a")
        assert read_image(path / "a").image.shape == (2, 17, 25)
        assert read_image(path / "b").image.shape == (9, 7)
        assert read_image(path / "a" / "1").image.shape == (2, 9, 13)

    @pytest.mark.parametrize(
        ("axes", "reason"),
        [
            (["t", "y", "x"], "its axes (t, y, x) do not fit an array of 2 axes"),
            ([{"name": "y", "type": "space"}, {"name": "c", "type": "channel"}], "its axes (y, c)"),
            ("yx", "its axes () do not fit"),
        ],
    )
    def test_axes_of_no_image(self, path: Path, axes: Any, reason: str) -> None:
        group = zarr.open_group(make_ome(path, numbers((17, 25)), "yx"))
        ome = dict(group.attrs)["ome"]
        ome["multiscales"][0]["axes"] = axes
        group.attrs["ome"] = ome
        assert refusal(path).startswith(reason)

    def test_other_channels_have_no_names(self, path: Path, out: Path) -> None:
        source = read_image(make_ome(path, numbers((2, 17, 25)), "cyx", omero=CHANNELS))
        with pytest.warns(UserWarning, match="names of channels"):
            write_image(out, source.image[:1], like=source)
        assert "omero" not in dict(zarr.open_group(out).attrs)["ome"]


class TestElsewhere:
    def test_from_ome_tiff_and_back(self, tmp_path: Path, out: Path) -> None:
        pixels = numbers((2, 3, 2, 17, 25))
        tiff = tmp_path / "in.ome.tif"
        sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
        tifffile.imwrite(tiff, pixels, metadata={"axes": "ZTCYX", **sizes})
        source = read_image(tiff)
        with pytest.warns(
            UserWarning, match=r"out\.zarr is without: EXIF, distance of its planes, .*OME metadata"
        ):
            write_image(out, source.image, like=source)
        image = described(zarr.open_group(out))
        assert [axis["name"] for axis in image["axes"]] == list("tczyx")
        assert image["axes"][-1]["unit"] == "micrometer"
        transformations = image["datasets"][0]["coordinateTransformations"]
        assert transformations == [{"type": "scale", "scale": [1, 1, 1, 0.25, 0.5]}]
        expected = pixels.transpose(1, 2, 0, 3, 4)
        assert np.array_equal(zarr.open_group(out)["0"][...], expected)
        again = read_image(out)
        with pytest.warns(UserWarning, match="metadata of OME-Zarr"):
            write_image(tmp_path / "back.tif", again.image, like=again)
        assert np.array_equal(read_image(tmp_path / "back.tif").image, np.moveaxis(expected, 1, 2))

    @pytest.mark.parametrize(
        ("labels", "dtype", "is_colour"),
        [
            (("DAPI", "GFP", "Cy5"), "uint16", False),
            (("DAPI", "GFP", "Cy5"), "uint8", False),
            ((), "uint16", False),
            (("Channel 0", "1", "ch_2"), "uint8", True),
            ((), "uint8", True),
            (("Red", "Green", "Blue"), "uint16", True),
        ],
    )
    def test_dyes_are_no_colours(
        self, path: Path, tmp_path: Path, labels: Any, dtype: str, is_colour: bool
    ) -> None:
        about = {"omero": {"channels": [{"label": label} for label in labels]}} if labels else {}
        make_ome(path, numbers((5, 3, 24, 32), dtype), "zcyx", **about)
        source = read_image(path)
        out = tmp_path / "out.tif"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that TIFF does not have
            write_image(out, source.image, like=source)
        with tifffile.TiffFile(out) as file:
            assert file.series[0].axes == ("ZYXS" if is_colour else "ZCYX")
            assert (file.pages[0].photometric == tifffile.PHOTOMETRIC.RGB) == is_colour
        back = read_image(out)
        assert np.array_equal(back.arranged(), source.arranged())

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    @pytest.mark.parametrize("is_colour", [True, False])
    def test_colours_stay_colours(self, out: Path, dtype: str, is_colour: bool) -> None:
        pixels = numbers((24, 32, 3), dtype)
        write_image(out, pixels, like=ImageFile(pixels, 2, None, {"colour": is_colour}))
        read = read_image(out)
        assert np.array_equal(read.arranged(), pixels)
        # Of 8 bits, what has no names is taken for colours.
        assert read.metadata.get("colour", True) == (is_colour or dtype == "uint8")
        inside = dict(zarr.open_group(out).attrs)["ome"]
        if is_colour and dtype != "uint8":
            first, *_ = inside["omero"]["channels"]
            assert (first["label"], first["color"]) == ("red", "FF0000")
            assert first["window"]["max"] == (65535 if dtype == "uint16" else pixels.max())
        else:
            assert "omero" not in inside

    def test_a_stack_of_more_axes_is_an_array(self, out: Path) -> None:
        pixels = numbers((2, 3, 2, 9, 12, 6))
        write_image(out, pixels, stack_axis=(0, 1, 2), channel_axis=5)
        assert zarr.open_array(out).metadata.dimension_names[3:] == ("c", "y", "x")
        found = read_image(out)
        assert (found.stack_axes, found.channel_axis) == ((0, 1, 2), 3)
        assert np.array_equal(found.image, np.moveaxis(pixels, 5, 3))

    def test_big_planes_have_chunks(self, out: Path) -> None:
        write_image(out, np.zeros((2, 1030, 1025), np.uint8), stack_axis=0)
        assert zarr.open_group(out)["0"].chunks == (1, 1024, 1024)

    def test_attributes_are_lost_elsewhere(self, path: Path, tmp_path: Path) -> None:
        source = read_image(make(path, numbers((9, 7)), attributes={"stain": "H&E"}))
        with pytest.warns(UserWarning, match=r"without: attributes \(which Zarr has\)"):
            write_image(tmp_path / "out.tif", source.image, like=source)
        plain = read_image(make(tmp_path / "plain.zarr", numbers((9, 7))))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            write_image(tmp_path / "plain.tif", plain.image, like=plain)

    def test_an_archive_is_told(self, path: Path, tmp_path: Path) -> None:
        store = zarr.storage.ZipStore(tmp_path / "in.zarr.zip", mode="w")
        zarr.create_array(store, shape=(9, 7), dtype="u1")[...] = 1
        store.close()
        with pytest.raises(UnreadableFileError, match=r"Zarr store in an archive .* unpack it"):
            read_image(tmp_path / "in.zarr.zip")


class TestRefused:
    """What a store declares is not trusted."""

    def test_no_store(self, path: Path) -> None:
        path.mkdir()
        assert refusal(path) == "it has no zarr.json or .zgroup or .zarray, as Zarr has"
        with pytest.raises(IsADirectoryError):
            read_image(path.parent)

    @pytest.mark.parametrize("version", [2, 3])
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"shape": [10**6, 10**6]}, "it declares 1000000 x 1000000 pixels"),
            ({"shape": [0, 5]}, "it declares 5 x 0 pixels"),
            ({"shape": [2**70, 2**70]}, "it declares"),
            ({"shape": [17]}, "its chunks (8, 12) do not fit its shape (17,)"),
            ({"shape": [17.0, 25]}, "it declares [17.0, 25] as its shape"),
            ({"shape": "huge"}, "it declares huge as its shape"),
            ({"fill_value": 10**9}, "it declares 1000000000 as its fill value"),
            ({"fill_value": {"a": 1}}, "it declares {'a': 1} as its fill value"),
        ],
    )
    def test_sizes(self, path: Path, version: int, changes: Any, reason: str) -> None:
        make(path, numbers((17, 25)), zarr_format=version)
        assert refusal(edited(path, **changes)).startswith(reason)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"dtype": "|O"}, "it holds Python objects"),
            ({"dtype": [["a", "<u2"]]}, "arrays of type [['a', '<u2']] are not supported"),
            ({"dtype": "<M8[ns]"}, "arrays of type <M8[ns] are not supported"),
            ({"dtype": "<c8"}, "arrays of type <c8 are not supported"),
            ({"filters": [{"id": "pickle"}]}, "its filter, pickle, is not supported"),
            ({"compressor": {"id": "pickle"}}, "its compressor, pickle, is not supported"),
            ({"compressor": {"id": ["zlib"]}}, "its compressor, ['zlib'], is not supported"),
            ({"order": "A"}, "the order of its axes is neither C nor F"),
            ({"chunks": [10**6, 10**6]}, "its chunks (1000000, 1000000) reach too far beyond"),
            ({"chunks": [0, 5]}, "it declares [0, 5] as its chunk"),
            ({"shape": [3000, 3000], "chunks": [1, 1]}, "it declares 9000000 chunks (1, 1)"),
            ({"dimension_separator": "../"}, "it names its chunks in a way that is not known"),
            ({"zarr_format": 4}, "its metadata (.zarray) are not those of version 2"),
        ],
    )
    def test_version_2(self, path: Path, changes: Any, reason: str) -> None:
        make(path, numbers((17, 25)), zarr_format=2)
        assert refusal(edited(path, **changes)).startswith(reason)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"data_type": "string"}, "arrays of type string are not supported"),
            ({"data_type": {"name": "numpy.datetime64"}}, "arrays of type {'name'"),
            ({"codecs": [{"name": "vlen-utf8"}]}, "its codec, vlen-utf8, is not supported"),
            ({"codecs": [{"name": "zstd"}]}, "its codec, zstd, is not supported"),
            ({"codecs": ["bytes", "pickle"]}, "its codec, pickle, is not supported"),
            ({"codecs": []}, "its codecs do not make bytes"),
            ({"codecs": {}}, "its codecs are no list"),
            ({"chunk_grid": {"name": "rectangular"}}, "its chunk grid is not regular"),
            ({"chunk_key_encoding": {"name": "other"}}, "it names its chunks in a way"),
            ({"storage_transformers": [{}]}, "its storage transformers are not supported"),
            ({"encryption": {"name": "x"}}, "it needs the extension encryption"),
            ({"attributes": []}, "its metadata (zarr.json) are not those of version 3"),
        ],
    )
    def test_version_3(self, path: Path, changes: Any, reason: str) -> None:
        assert refusal(edited(make(path, numbers((17, 25))), **changes)).startswith(reason)

    def test_extensions_that_need_not_be_understood(self, path: Path) -> None:
        make(path, numbers((17, 25)))
        edited(path, hint={"name": "x", "must_understand": False})
        assert np.array_equal(read_image(path).image, numbers((17, 25)))

    @pytest.mark.parametrize("codec", ["gzip", "zlib", "zstd", "blosc", "lz4", "bz2", "lzma"])
    def test_chunks_that_decode_to_more(
        self, path: Path, codec: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A chunk that unpacks to 64 MiB instead of 192 bytes is refused before it has done so."""
        compressor = OLD_CODECS[codec]
        make(path, numbers((17, 25)), zarr_format=2, compressors=compressor)
        assert compressor is not None
        bomb = compressor.encode(bytes(64 << 20))
        assert len(bomb) < 2 << 20
        (path / "0.0").write_bytes(bomb)
        import tracemalloc

        tracemalloc.start()
        refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
        tracemalloc.stop()

    @pytest.mark.parametrize(
        "content", [b"", b"x", gzip.compress(bytes(10), mtime=0)], ids=["empty", "letter", "gzip"]
    )
    @pytest.mark.parametrize("codec", ["none", "gzip", "blosc"])
    def test_chunks_that_are_damaged(self, path: Path, codec: str, content: bytes) -> None:
        make(path, numbers((17, 25)), zarr_format=2, compressors=OLD_CODECS[codec])
        (path / "0.0").write_bytes(content)
        refusal(path)

    @pytest.mark.parametrize("cut", [1, 20, None])
    def test_blosc_that_ends_before_its_head_says(self, path: Path, cut: int | None) -> None:
        make(path, numbers((40, 40)), zarr_format=2, compressors=OLD_CODECS["blosc"])
        chunk = path / "0.0"
        content = chunk.read_bytes()
        if cut is None:
            content = content[:12] + (10 << 20).to_bytes(4, "little") + content[16:]
        chunk.write_bytes(content[:-cut] if cut else content)
        assert refusal(path) == "the end of a chunk is missing"

    def test_a_wrong_sum(self, path: Path) -> None:
        make(path, numbers((17, 25)), compressors=[codecs.Crc32cCodec()])
        chunk = path / "c" / "0" / "0"
        content = bytearray(chunk.read_bytes())
        content[3] ^= 1
        chunk.write_bytes(content)
        assert refusal(path).startswith("the check sum of a chunk")

    @pytest.mark.parametrize("start", [2**40, 2**64 - 2])
    def test_shards_that_lead_beyond_their_end(self, path: Path, start: int) -> None:
        sharding = codecs.ShardingCodec(chunk_shape=(8, 12), index_codecs=[codecs.BytesCodec()])
        make(path, numbers((16, 24)), chunks=(16, 24), serializer=sharding, compressors=None)
        shard = path / "c" / "0" / "0"
        content = shard.read_bytes()
        shard.write_bytes(content[:-64] + start.to_bytes(8, "little") + content[-56:])
        assert refusal(path) == "a shard says of a chunk that it is beyond its end"

    def test_shards_that_are_cut_off(self, path: Path) -> None:
        make(path, numbers((17, 25)), shards=(16, 24))
        (path / "c" / "0" / "0").write_bytes(b"abc")
        assert refusal(path) == "the index of a shard is missing"

    def test_shards_in_shards(self, path: Path) -> None:
        make(path, numbers((17, 25)), shards=(16, 24))
        outer = json.loads((path / "zarr.json").read_text())["codecs"][0]
        outer["configuration"]["codecs"] = [json.loads(json.dumps(outer))]
        edited(path, codecs=[outer])
        assert refusal(path).startswith("its codec, sharding_indexed, is not supported")

    @pytest.mark.parametrize("kind", ["file", "folder", "pipe"])
    def test_links_that_lead_out(self, path: Path, tmp_path: Path, kind: str) -> None:
        make(path, numbers((17, 25)), zarr_format=2, compressors=None)
        (tmp_path / "secret").write_bytes(bytes(192))
        (path / "0.0").unlink()
        if kind == "pipe":
            os.mkfifo(path / "0.0")
        else:
            (path / "0.0").symlink_to(tmp_path / ("secret" if kind == "file" else ""))
        assert refusal(path).startswith("there is a link, a pipe or a device in it (0.0)")

    @pytest.mark.parametrize("place", ["../other", "/", "..", "0/../../other", "\0"])
    def test_paths_that_lead_out(self, path: Path, tmp_path: Path, place: str) -> None:
        make(tmp_path / "other", numbers((17, 25)))
        group = zarr.open_group(make_ome(path, numbers((17, 25)), "yx"))
        ome = dict(group.attrs)["ome"]
        ome["multiscales"][0]["datasets"][0]["path"] = place
        group.attrs["ome"] = ome
        refusal(path)

    def test_folders_that_are_nested_deeply(self, path: Path) -> None:
        make(path, numbers((17, 25)))
        path.joinpath(*["a"] * 60).mkdir(parents=True)
        assert refusal(path) == "its folders are nested too deeply"
        group = zarr.open_group(path.with_name("deep.zarr"), mode="w")
        for _ in range(12):
            group = group.create_group("a")
        assert refusal(path.with_name("deep.zarr")) == "its groups are nested too deeply"

    def test_too_many_files(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        make(path, numbers((17, 25)))
        monkeypatch.setattr(safe, "_MOST_FILES", 3)
        assert refusal(path) == "it has more than 3 files"

    @pytest.mark.parametrize("text", ["[" * 100_000, "[]", "{", '{"a": }', "\xff"])
    def test_metadata_that_are_none(self, path: Path, text: str) -> None:
        make(path, numbers((17, 25)))
        (path / "zarr.json").write_text(text)
        assert refusal(path).startswith("its metadata (zarr.json) are no")

    def test_limits_are_those_of_all_formats(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make(path, numbers((17, 25)))
        monkeypatch.setattr(limits, "LARGEST_IMAGE", 800)
        assert refusal(path).startswith("it declares 25 x 17 pixels of 2 bytes")


class TestPlaces:
    def test_an_existing_store_stays(self, path: Path) -> None:
        make(path, numbers((9, 7)))
        with pytest.raises(WouldOverwriteError, match=r"in\.zarr exists already"):
            write_image(path, numbers((17, 25)))
        assert np.array_equal(read_image(path).image, numbers((9, 7)))
        write_image(path, numbers((17, 25)), overwrite=True)
        assert np.array_equal(read_image(path).image, numbers((17, 25)))
        assert [each.name for each in path.parent.iterdir()] == ["in.zarr"]

    def test_a_write_that_fails_leaves_what_was_there(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make(path, numbers((9, 7)))

        def fail(folder: Path, *_: Any) -> list[str]:
            (folder / "zarr.json").write_text("half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(zarr_stores, "write", fail)
        with pytest.raises(OSError, match="No space left"):
            write_image(path, numbers((17, 25)), overwrite=True)
        with pytest.raises(OSError, match="No space left"):
            write_image(path.with_name("new.zarr"), numbers((17, 25)))
        assert np.array_equal(read_image(path).image, numbers((9, 7)))
        assert [each.name for each in path.parent.iterdir()] == ["in.zarr"]

    def test_a_move_that_fails_puts_the_old_one_back(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make(path, numbers((9, 7)))
        rename = os.rename
        calls: list[Any] = []

        def fail_once(source: Any, target: Any) -> None:
            calls.append(source)
            if len(calls) == 2:
                raise OSError(5, "Input/output error")
            rename(source, target)

        monkeypatch.setattr(os, "rename", fail_once)
        with pytest.raises(OSError, match="Input/output"):
            write_image(path, numbers((17, 25)), overwrite=True)
        assert np.array_equal(read_image(path).image, numbers((9, 7)))
        assert [each.name for each in path.parent.iterdir()] == ["in.zarr"]

    def test_a_folder_that_is_no_store_is_never_replaced(self, out: Path) -> None:
        out.mkdir()
        (out / "thesis.txt").write_text("precious")
        with pytest.raises(IsADirectoryError):
            write_image(out, numbers((9, 7)), overwrite=True)
        assert (out / "thesis.txt").read_text() == "precious"

    @pytest.mark.parametrize("what", ["labels", "several images", "damaged"])
    def test_a_store_with_more_is_never_replaced(self, path: Path, what: str) -> None:
        group = zarr.open_group(make_ome(path, numbers((17, 25)), "yx", place="a"))
        if what == "damaged":
            (path / "zarr.json").write_text("{")
        else:
            group.create_group("a/labels" if what == "labels" else "b")
        with pytest.raises(UnwritableFileError, match="holds more than one image"):
            write_image(path, numbers((9, 7)), overwrite=True)
        assert (path / "a" / "0" / "zarr.json").exists()

    def test_a_link_is_replaced_and_not_followed(self, path: Path, out: Path) -> None:
        make(path, numbers((9, 7)))
        out.symlink_to(path, target_is_directory=True)
        assert np.array_equal(read_image(out).image, numbers((9, 7)))
        write_image(out, numbers((17, 25)), overwrite=True)
        assert not out.is_symlink()
        assert np.array_equal(read_image(path).image, numbers((9, 7)))

    def test_a_file_of_the_name(self, out: Path) -> None:
        out.write_text("precious")
        with pytest.raises(WouldOverwriteError):
            write_image(out, numbers((9, 7)))
        write_image(out, numbers((9, 7)), overwrite=True)
        assert np.array_equal(read_image(out).image, numbers((9, 7)))


class TestCommandLine:
    FAST = ("--quality", "fast", "--quiet")

    def test_folders_have_stores_as_pictures(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source, out = tmp_path / "in", tmp_path / "out"
        source.mkdir()
        make(source / "a.zarr", numbers((24, 32)))
        make_ome(source / "b.zarr", numbers((24, 32)), "yx")
        write_image(source / "c.tif", numbers((24, 32)))
        (source / "d.zarr").mkdir()
        write_image(source / "d.zarr" / "below.tif", numbers((24, 32)))
        arguments = ["denoise", str(source), str(out), *self.FAST]
        assert main(arguments) == 0
        assert "3 done, 0 skipped" in capsys.readouterr().out
        assert sorted(path.name for path in out.glob("*.*") if path.suffix != ".json") == [
            *("a.zarr", "b.zarr", "c.tif", "dipfast.jsonl")
        ]
        assert main(arguments) == 0
        assert "0 done, 3 skipped" in capsys.readouterr().out
        # A chunk that has changed is seen, although the folder has the same time and size.
        zarr.open_array(source / "a.zarr", mode="r+")[:8, :12] = 9
        assert main(arguments) == 0
        assert "1 done, 2 skipped" in capsys.readouterr().out
        zarr.open_array(out / "a.zarr", mode="r+")[:8, :12] = 9
        assert main(arguments) == 1
        assert "exists already" in capsys.readouterr().err

    def test_a_store_is_one_picture(
        self, path: Path, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        make_ome(path, numbers((2, 24, 32)), "zyx")
        arguments = ["denoise", str(path), str(out), *self.FAST]
        assert main(arguments) == 0
        assert main(arguments) == 2
        assert "out.zarr exists already; --force replaces it" in capsys.readouterr().err
        assert main([*arguments, "--force"]) == 0
        assert main(["info", str(out)]) == 0
        assert "Zarr, 32 x 24 pixels, stack of 2 planes (Z)" in capsys.readouterr().out
        assert main(["compare", str(path), str(out)]) == 0
        assert "PSNR" in capsys.readouterr().out


def test_what_cannot_be_kept_is_named(out: Path) -> None:
    pixels = numbers((9, 7), "uint8")
    like = ImageFile(pixels, metadata={"icc_profile": b"x"})
    with pytest.warns(UserWarning, match=r"out\.zarr is without: colour profile$"):
        write_image(out, pixels, like=like)


@pytest.mark.parametrize("name", ["Z", "T"])
def test_the_distance_of_planes_is_not_known(out: Path, name: str) -> None:
    kept = {"resolution": Resolution(4, 4, "µm")}
    like = ImageFile(np.zeros((3, 4, 5), np.uint8), None, None, kept, "TIFF", None, (0,), name)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        write_image(out, like.image, like=like)
    lost = ["distance of its planes, which is 1 in it"] if name == "Z" else []
    assert [str(each.message).partition("without: ")[2] for each in told] == lost


def test_a_little_fuzzing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read mutated stores; ``python -m tests.robustness.fuzz`` does it for longer."""
    from tests.robustness import fuzz

    monkeypatch.setattr(limits, "LARGEST_IMAGE", limits.LARGEST_IMAGE)  # fuzz changes the limit
    rng, path, outcomes = random.Random(0), tmp_path / "input", set()
    for content in fuzz.stores():
        path.write_bytes(content)
        assert fuzz.outcome(fuzz.READERS["store"], path) == ("accepted", "")
        for _ in range(6):
            path.write_bytes(fuzz.mutate_store(rng, content))
            kind, reason = fuzz.outcome(fuzz.READERS["store"], path)
            assert kind != "findings", reason
            outcomes.add(kind)
    assert outcomes == {"accepted", "refused"}


def test_results_may_be_larger_than_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = numbers((16, 16))
    source = read_image(make(tmp_path / "a.zarr", pixels))
    monkeypatch.setattr(limits, "LARGEST_IMAGE", 1000)
    large = np.kron(pixels, np.ones((4, 4), np.uint16))
    write_image(tmp_path / "b.zarr", large, like=source)
    with pytest.raises(UnreadableFileError):
        read_image(tmp_path / "b.zarr")
    monkeypatch.undo()
    assert np.array_equal(read_image(tmp_path / "b.zarr").image, large)
