"""TIFF of 8 and 16 bit and of floats, from cameras, microscopes and satellites."""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import tifffile

from dipfast import declared
from dipfast.files import exif, imagej
from dipfast.files.image import DTYPES, ImageFile, Resolution
from dipfast.files.ome import Ome
from dipfast.files.pixels import ORIENTATION, orientation_of, split, straight, upright
from dipfast.files.tags import KEPT, Tags

__all__ = ["read", "write"]

_Array = np.ndarray[Any, Any]

# Kinds of TIFF that tifffile would understand and that are never one image, or whose metadata
# would lead it to other files, or into loops as long as they say.
_NOT_INTERPRETED = (
    *("avs", "bif", "eer", "indica", "lsm", "mmstack", "ndpi", "ndtiff", "ome", "philips"),
    *("qpi", "scanimage", "scn", "stk", "svs"),
)

_PHOTOMETRIC, _DESCRIPTION, _SOFTWARE, _SUB_IFDS = 262, 270, 305, 330
_X, _Y, _UNIT = 282, 283, 296
_UNITS = {"": 1, "inch": 2, "cm": 3}
_UNASSOCIATED, _ASSOCIATED = 2, 1
# Compressions: JPEG, where decoding makes RGB of YCbCr, and JPEG 2000 of YCbCr, where it does not.
_JPEG, _JPEG2000_YCBCR = (6, 7, 33007, 34892), 33003
# Bits per sample: those that are stretched to 8 by a factor, and those that stay counts.
_STRETCHED, _COUNTS = {1: 255, 2: 85, 4: 17}, range(9, 16)
_GREATEST = 2**32 - 1
_ADVICE = dict.fromkeys(("CFA", "LINEAR_RAW"), "develop the raw photograph to an image first")


def read(stream: BinaryIO) -> ImageFile:
    known = tifffile.TIFF.FILE_FLAGS
    flags: Any = {f"is_{kind}": False for kind in _NOT_INTERPRETED if kind in known}
    with tifffile.TiffFile(stream, **flags) as tiff:
        if not tiff.series:
            raise ValueError("it holds no image, or the end is missing")
        series = tiff.series[0]
        page = tiff.pages.first
        if page.is_reduced and page.tags.get(_SUB_IFDS) is not None:
            raise ValueError(
                "its first image is a preview; if it is a raw photograph, "
                "develop it to an image first"
            )
        kept = [k for k, size in enumerate(series.shape) if size > 1 or series.axes[k] in "YX"]
        axes = "".join(series.axes[k] for k in kept)
        shape = tuple(series.shape[k] for k in kept)
        ome = Ome.read(page.description) if page.is_ome else None
        if axes == "IYX" and ome is not None and ome.are_channels(len(series)):
            axes = "CYX"
        if len(tiff.series) > 1 or axes not in ("YX", "YXS", "SYX", "CYX", "YXC"):
            raise ValueError(f"it holds a stack (axes {axes}, shape {shape}), expected one image")
        sizes = dict(zip(axes, shape))
        kind = _kind(page)
        _check_storage(page, kind, series.dtype)
        declared.check_tiff(series, sizes, stream)
        if kind == "PALETTE":
            declared.check_size(sizes["X"], sizes["Y"], 3, 2)
        pixels = series.asarray().reshape(shape)
        axis = next((k for k, name in enumerate(axes) if name in "SC"), None)
        orientation = orientation_of(page.tags.valueof(ORIENTATION))
        if orientation != 1:
            first = axes.index("Y")
            pixels = np.moveaxis(pixels, (first, first + 1), (0, 1))
            pixels = np.moveaxis(upright(pixels, orientation), (0, 1), (first, first + 1))
        metadata = _beside(page, stream, ome, 1 if axis is None else pixels.shape[axis])
        if orientation > 1 and "tags" in metadata:
            metadata["tags"] = metadata["tags"].turned()
        if orientation > 4 and "resolution" in metadata:
            metadata["resolution"] = metadata["resolution"].turned()
        metadata["colour"] = kind in ("RGB", "YCBCR", "PALETTE")
        return _seen(pixels, axis, kind, page, metadata)


# --- what the numbers mean ---------------------------------------------------------------


def _kind(page: Any) -> str:
    """The name of the photometric interpretation, if it is one of those that are read."""
    if page.tags.get(_PHOTOMETRIC) is None:
        raise ValueError("it does not say what its numbers mean (PhotometricInterpretation)")
    try:
        kind = str(tifffile.PHOTOMETRIC(page.photometric).name)
    except ValueError:
        kind = f"number {page.photometric}"
    samples, extra = page.samplesperpixel, len(page.extrasamples)
    visible = samples - (_opacity(page, samples) and extra > 0)
    in_jpeg = page.compression in _JPEG and page.planarconfig == 1
    read = {
        "MINISBLACK": samples == 1 or not in_jpeg,
        "MINISWHITE": visible == 1 and _ASSOCIATED not in page.extrasamples,
        "RGB": samples >= 3 and (samples == 3 or not in_jpeg),
        "PALETTE": samples == 1,
        # Only there does decoding make it RGB.
        "YCBCR": samples == 3 and in_jpeg,
    }
    if not read.get(kind, False):
        what = f" in {samples} samples" if kind in read and samples > 1 else ""
        what += " compressed as JPEG" if kind in read and in_jpeg else ""
        advice = _ADVICE.get(kind, "convert the picture to RGB or grey first")
        raise ValueError(f"pixels of the kind {kind}{what} are not supported; {advice}")
    if kind == "PALETTE" and page.is_imagej and not _is_grey(page):
        raise ValueError(
            "its colours are a lookup table of ImageJ; convert it to grey or to RGB there first"
        )
    return kind


def _check_storage(page: Any, kind: str, dtype: Any) -> None:
    """Refuse numbers of another type, and what tifffile would decode to something else."""
    bits = page.bitspersample
    if dtype is None or page.sampleformat not in (1, 2, 3):
        name = getattr(page.sampleformat, "name", page.sampleformat)
        raise ValueError(f"samples of {bits} bits (SampleFormat {name}) are not supported")
    if not isinstance(bits, int) or (bits < 8 and bits not in _STRETCHED):
        raise ValueError(f"samples of {bits} bits are not supported; convert the picture to 8 bits")
    if dtype.name not in (*DTYPES["TIFF"], "bool"):
        raise ValueError(
            f"samples of type {dtype.name} are not supported; convert the picture to one of "
            f"{', '.join(DTYPES['TIFF'])}"
        )
    if kind in ("MINISWHITE", "PALETTE") and dtype.kind not in "ub":
        raise ValueError(f"pixels of the kind {kind} are not supported of type {dtype.name}")
    if page.compression == _JPEG2000_YCBCR and page.samplesperpixel > 1:
        raise ValueError("pixels of the kind YCBCR are not supported; convert the picture to RGB")
    if page.fillorder == 2 and page.is_contiguous:
        raise ValueError("bytes that begin with the least bit (FillOrder 2) are not supported")


def _opacity(page: Any, samples: int) -> bool:
    """Whether the last of so many samples is opacity."""
    extra = page.extrasamples
    said = [index for index, what in enumerate(extra) if what in (_ASSOCIATED, _UNASSOCIATED)]
    if samples != page.samplesperpixel:
        return False
    if said and said != [len(extra) - 1]:
        raise ValueError(
            f"it has {samples} samples, and opacity is not (only) the last one; "
            "leave out the other opacity or move it to the end"
        )
    # A fourth sample beside RGB is opacity even where the file does not say so, but bands of
    # satellites.
    unsaid = page.photometric in (2, 6) and samples == 4 and not page.is_geotiff
    return bool(said) or unsaid


def _seen(
    pixels: _Array, axis: int | None, kind: str, page: Any, metadata: dict[str, Any]
) -> ImageFile:
    """Pixels as brightness or RGB."""
    bits = page.bitspersample
    if kind == "PALETTE":
        pixels = _coloured(pixels, page)
        return ImageFile(pixels, None if pixels.ndim == 2 else 2, None, metadata, "TIFF")
    if bits in _STRETCHED:
        pixels = pixels * np.uint8(_STRETCHED[bits])
    elif bits in _COUNTS:
        metadata["bits"] = bits
    opacity = axis is not None and _opacity(page, pixels.shape[axis])
    if not opacity:
        read = ImageFile(pixels, axis, None, metadata, "TIFF")
    else:
        assert axis is not None
        extra = int(page.extrasamples[-1]) if page.extrasamples else 0
        read = split(np.moveaxis(pixels, axis, -1), True, metadata, "TIFF")
        assert read.alpha is not None
        if extra == _ASSOCIATED:
            extra = _UNASSOCIATED
            read = replace(read, image=straight(read.image, read.alpha))
        metadata["extrasample"] = extra
    if kind == "MINISWHITE":
        full = 255 if bits in _STRETCHED else (1 << bits) - 1
        read = replace(read, image=full - read.image)
    return read


def _is_grey(page: Any) -> bool:
    """Whether a palette says that each number is its own brightness."""
    table = page.colormap
    if table is None or table.ndim != 2 or table.shape[1] < 2:
        return False
    steps = np.linspace(0, 65535, table.shape[1]).round()
    # Some have the brightness in the upper byte only.
    return bool((abs(table - steps) <= 255).all())


def _coloured(indices: _Array, page: Any) -> _Array:
    """What numbers mean that are the place of a colour in a table."""
    table = page.colormap
    if table is None or table.ndim != 2:
        raise ValueError("its palette is missing")
    if (table % 257 == 0).all():
        table = (table // 257).astype(np.uint8)
    elif table.max() < 256:  # as some old writers did
        table = table.astype(np.uint8)
    elif (table % 256 == 0).all():
        table = (table // 256).astype(np.uint8)
    indices = indices.astype(np.intp)
    if (table == table[0]).all():
        return np.asarray(table[0][indices])
    return np.stack([plane[indices] for plane in table], axis=-1)


# --- what is beside them -----------------------------------------------------------------


def _beside(page: Any, stream: BinaryIO, ome: Ome | None, channels: int) -> dict[str, Any]:
    order = page.parent.byteorder
    metadata: dict[str, Any] = {"compressed": page.compression != 1}
    lost: list[str] = []
    icc = page.tags.get("InterColorProfile")
    if icc is not None:
        metadata["icc_profile"] = bytes(icc.value)
    x, y = (page.tags.valueof(code) for code in (_X, _Y))
    resolution = exif.resolution_of(x, y, page.tags.valueof(_UNIT, 2))
    description = _raw(page, stream, _DESCRIPTION)[1]
    if page.is_ome:
        if ome is not None:
            resolution = ome.resolution or resolution
        if ome is not None and ome.is_about(channels):
            metadata["ome"] = ome
        else:
            lost.append("OME metadata, which are not about one image")
        description = b""
    elif description.startswith((b"ImageJ=", b"SCIFIO=")):
        metadata["imagej"] = found = _imagej(page, stream, description)
        unit = found.unit or ("" if resolution is None else resolution.unit)
        resolution = Resolution.of(x, y, unit)
        description = b""
    if resolution is not None:
        metadata["resolution"] = resolution
    raw = {code: _raw(page, stream, code) for code in KEPT}
    raw = {code: (kind, value) for code, (kind, value) in raw.items() if value}
    if raw:
        metadata["tags"] = Tags(raw, order)
    texts = _exif(page, stream, description, lost)
    if texts is not None:
        metadata["exif"] = texts
    if lost:
        metadata["lost"] = tuple(lost)
    return metadata


def _raw(page: Any, stream: BinaryIO, code: int) -> tuple[int, bytes]:
    """Type and bytes of a tag, no bytes if it is not there.

    tifffile has a description of its own beside that of others, which is not meant.
    """
    for index in range(2):
        tag = page.tags.get(code, index=index)
        if tag is None:
            break
        stream.seek(tag.valueoffset)
        value = stream.read(tag.count * declared.TIFF_SIZES.get(int(tag.dtype), 0))
        if not value.startswith((b'{"shape":', b"shape=(")):
            return int(tag.dtype), value
    return 2, b""


def _imagej(page: Any, stream: BinaryIO, description: bytes) -> imagej.ImageJ:
    text = description.strip(b"\0").decode("utf-8", "replace")
    counts = page.tags.valueof(imagej.COUNTS, ())
    counts = (counts,) if isinstance(counts, int) else tuple(int(count) for count in counts)
    block = _raw(page, stream, imagej.BLOCK)[1]
    return imagej.ImageJ(tuple(text.splitlines()), counts, block, page.parent.byteorder)


def _exif(page: Any, stream: BinaryIO, description: bytes, lost: list[str]) -> exif.Exif | None:
    """Texts of the first directory and what EXIF has beside them."""
    order = page.parent.byteorder
    values: dict[int, tuple[int, Any]] = {code: _raw(page, stream, code) for code in exif.TEXTS}
    values[_DESCRIPTION] = 2, description
    values = {code: (kind, value) for code, (kind, value) in values.items() if value}
    big = page.parent.is_bigtiff
    tag_order: Any = "little" if order == "<" else "big"
    for code, name in exif.DIRECTORIES.items():
        tag = page.tags.get(code)
        if tag is None:
            continue
        try:
            offset = int.from_bytes(_raw(page, stream, code)[1], tag_order)
            values[code] = 4, exif.directory(stream, order, big, offset)
        except (ValueError, OverflowError):
            lost.append(name)
    if not values:
        return None
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
    return exif.Exif.read(head + exif.pack(order, values, 8))


# --- writing -----------------------------------------------------------------------------


def write(stream: BinaryIO, pixels: _Array, like: ImageFile) -> list[str]:
    """Write an image, and return what could not be kept, in words."""
    metadata = like.metadata
    lost: list[str] = []
    options: dict[str, Any] = {"metadata": None, "extratags": []}
    options["byteorder"] = next(
        (kept.order for kept in metadata.values() if hasattr(kept, "order")),
        "<" if sys.byteorder == "little" else ">",
    )
    options["compression"] = "zlib" if metadata.get("compressed") else None
    if "icc_profile" in metadata:
        options["iccprofile"] = metadata["icc_profile"]
    alpha = like.alpha is not None
    channels = 1 if pixels.ndim == 2 else pixels.shape[-1] - alpha
    colour = channels >= 3 and metadata.get("colour", channels == 3)
    options["photometric"] = "rgb" if colour else "minisblack"
    planes = 1
    if alpha or (colour and channels > 3):
        options["planarconfig"] = "contig"
        extra = [metadata.get("extrasample", _UNASSOCIATED)] * alpha
        options["extrasamples"] = [0] * (channels - (3 if colour else 1)) + extra
    elif channels > 1 and not colour:
        # One plane after the other, as microscopes write them.
        pixels = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
        planes = channels
        options["metadata"] = {"axes": "CYX"}
    bits = metadata.get("bits")
    if bits is not None and pixels.dtype == np.uint16 and pixels.max() < 1 << bits:
        options.update(bitspersample=bits, compression=None)
    _add_resolution(options, metadata, lost)
    inner = _add_texts(options, like, pixels.shape, planes, lost)
    tifffile.imwrite(stream, pixels, **options)
    if inner:
        _append(stream, options["byteorder"], inner, lost)
    return lost


def _add_resolution(options: dict[str, Any], metadata: dict[str, Any], lost: list[str]) -> None:
    resolution = metadata.get("resolution")
    if resolution is None:
        return
    unit = resolution.unit
    if "imagej" in metadata:
        unit = unit if unit in _UNITS else ""  # its own text has it
    elif unit not in _UNITS:
        resolution, unit = resolution.to("cm"), "cm"
    if resolution is not None:
        values = [_rational(value) for value in (resolution.x, resolution.y)]
        if None not in values:
            options.update(resolution=values, resolutionunit=_UNITS[unit])
            return
    lost.append("resolution")


def _rational(value: Any) -> tuple[int, int] | None:
    """Two whole numbers as TIFF has them, None if the value is too large or too small."""
    if value > _GREATEST:
        return None
    close = value.limit_denominator(max(int(_GREATEST / max(value, 1)), 1))
    return (close.numerator, close.denominator) if close else None


def _add_texts(
    options: dict[str, Any],
    like: ImageFile,
    shape: tuple[int, ...],
    planes: int,
    lost: list[str],
) -> exif.Values:
    """Descriptions and tags; return directories that have to be appended."""
    metadata, extra = like.metadata, options["extratags"]
    if "ome" in metadata:
        height, width = shape[1:3] if planes > 1 else shape[:2]
        samples = shape[2] if planes == 1 and len(shape) == 3 else 1
        dtype = like.image.dtype.name
        text = metadata["ome"].description(height, width, planes, samples, dtype)
        if text is None:
            lost.append(f"OME metadata, which have no type {dtype}")
        else:
            options.update(description=text, metadata=None)
    if "imagej" in metadata:
        found = metadata["imagej"]
        options.update(description=found.description(planes), metadata=None)
        if found.block:
            extra.append((imagej.COUNTS, 4, len(found.counts), found.counts, True))
            extra.append((imagej.BLOCK, 1, len(found.block), found.block, True))
    if "tags" in metadata:
        tags = metadata["tags"].values.items()
        extra += [(code, kind, len(value), value, True) for code, (kind, value) in tags]
    inner: dict[int, tuple[int, Any]] = {}
    if "exif" in metadata:
        for code, (kind, value) in metadata["exif"].sized(*like.size).values().items():
            if code in exif.DIRECTORIES:
                # The name, because tifffile has it that a number is a mistake.
                extra.append((tifffile.TIFF.TAGS[code], 4, 1, 0, True))
                inner[code] = kind, value
            elif code == _DESCRIPTION:
                options.setdefault("description", value)
            else:
                extra.append((code, kind, len(value), value, True))
                if code == _SOFTWARE:
                    options["software"] = False
    return inner


def _append(stream: BinaryIO, order: str, inner: exif.Values, lost: list[str]) -> None:
    """Write directories to the end, and where they are into their tags."""
    places = {}
    stream.seek(0)
    with tifffile.TiffFile(stream) as tiff:
        for code in inner:
            places[code] = tiff.pages.first.tags[code].valueoffset
    for code, (_, values) in inner.items():
        end = stream.seek(0, os.SEEK_END)
        end += end % 2
        data = exif.pack(order, values, end)
        if end + len(data) > _GREATEST:
            lost.append(exif.DIRECTORIES[code])
            continue
        stream.seek(end)
        stream.write(data)
        stream.seek(places[code])
        stream.write(struct.pack(f"{order}I", end))
    stream.seek(0, os.SEEK_END)
