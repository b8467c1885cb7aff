"""TIFF of integers and floats, from cameras, microscopes and satellites."""

from __future__ import annotations

import math
import os
import struct
import sys
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import tifffile

from dipfast.errors import UnreadableFileError
from dipfast.images.files import limits
from dipfast.images.files.formats import _exif, _tiff_imagej, by_name
from dipfast.images.files.formats._tiff_directories import (
    TYPE_SIZES,
    check_directories,
    read_directory,
    tag_places,
)
from dipfast.images.files.formats._tiff_ome import Ome
from dipfast.images.files.formats._tiff_segments import JPEG_COMPRESSIONS, check_pixels
from dipfast.images.files.formats._tiff_tags import KEPT, Tags
from dipfast.images.files.image_file import ImageFile, Resolution
from dipfast.images.files.pixels import ORIENTATION, split, straight, upright

__all__ = ["read", "write"]

_Array = np.ndarray[Any, Any]

# Kinds of TIFF that tifffile must not interpret: they never are one image, or their metadata lead
# it to other files, or into loops whose length they declare.  Pages are taken for uniform if four
# of them are alike, and then the tags of the others are not read, so that none could be checked.
_NOT_INTERPRETED = (
    *("avs", "bif", "eer", "indica", "lsm", "mmstack", "ndpi", "ndtiff", "ome", "philips"),
    *("qpi", "scanimage", "scn", "stk", "svs", "uniform"),
)

_PHOTOMETRIC, _DESCRIPTION, _SOFTWARE, _SUB_IFDS = 262, 270, 305, 330
_X, _Y, _UNIT, _ICC, _BRIGHTEST = 282, 283, 296, 34675, 281
_UNITS = {"": 1, "inch": 2, "cm": 3}
_UNSPECIFIED, _ASSOCIATED, _UNASSOCIATED = 0, 1, 2
# Tags that pages of a stack may differ in, of which those of the first page are kept: name of the
# page, time, profile, resolution.
_OF_PAGES = (285, 306, _ICC, _X, _Y)
# The number of inks of print, and the tag that says that they are others.
_INKS, _INK_SET = 4, 332
# JPEG 2000 of YCbCr, which decoding leaves as YCbCr; JPEG of YCbCr is decoded to RGB.
_JPEG2000_YCBCR = 33003
# Bits per sample: those of numbers that are multiplied to fill 8 bits, and those of numbers that
# are kept as they are in 16 bits.
_STRETCHED, _COUNTS = {1: 255, 2: 85, 4: 17}, range(9, 16)
_GREATEST = 2**32 - 1
# Bytes of pixels for which there is room in a TIFF of 4 gigabytes, whatever is beside them.
_LARGEST_CLASSIC = 2**32 - 2**25
# What to do about pixels of kinds that are not read.
_ADVICE = dict.fromkeys(
    ("CFA", "LINEAR_RAW"),
    "develop the raw photograph to an image first, or give its name the ending of a raw format, "
    "such as .dng, which has dipfast develop it",
)


def read(stream: BinaryIO) -> ImageFile:
    """Read the one image of a TIFF, or its stack of images.

    Parameters
    ----------
    stream
        The file, at its beginning.

    Returns
    -------
    ImageFile
        The image, with what the file holds beside the pixels.

    Raises
    ------
    UnreadableFileError
        If what the file declares is refused; the decoder may raise anything else.
    """
    check_directories(stream)
    stream.seek(0)
    known = tifffile.TIFF.FILE_FLAGS
    flags: Any = {f"is_{kind}": False for kind in _NOT_INTERPRETED if kind in known}
    # tifffile sets what it gets as such arguments, but since 2026.11.8 some are properties that
    # cannot be set; in a class of its own they are plain values.
    plain: Any = type("PlainTiffFile", (tifffile.TiffFile,), flags)
    with plain(stream, **flags) as tiff:
        if not tiff.series:
            raise UnreadableFileError("it holds no image, or the end is missing")
        series = tiff.series[0]
        page = tiff.pages.first
        if page.is_reduced and page.tags.get(_SUB_IFDS) is not None:
            raise UnreadableFileError(
                "its first image is a preview; if it is a raw photograph, develop it to an image "
                "first, or give its name the ending of a raw format, such as .dng"
            )
        copies, others = _smaller(series)
        count = len(tiff.series) + others
        if count > 1:
            raise UnreadableFileError(
                f"it holds {count} images of different sizes or kinds, expected one "
                "image, or a stack of images of one size; write each to a file of its own"
            )
        ome = None
        if page.is_ome:
            ome = Ome.read(page.description, page.imagelength, page.imagewidth)
        axes, shape = _axes_of(series, ome)
        stack = _check_axes(axes, shape)
        if stack and page.tags.get(_SUB_IFDS) is not None:
            raise UnreadableFileError(
                "it holds a stack of pyramids, pictures in several sizes; write one size alone"
            )
        count = math.prod(shape[k] for k in stack)
        sizes = {"N": math.prod(shape), "Y": 1, "X": 1}
        for name in "YX":
            sizes[name] = shape[axes.index(name)]
            sizes["N"] //= max(sizes[name], 1)
        kind = _kind(page)
        if kind == "PALETTE" and stack:
            raise UnreadableFileError(
                "stacks of pictures with a palette are not supported; convert them to RGB or grey"
            )
        _check_storage(page, kind, series.dtype)
        check_pixels(series, sizes, stream)
        if kind == "PALETTE":
            limits.check_size(sizes["X"], sizes["Y"], 3, 2)
        pixels = series.asarray().reshape(shape)
        axis = next((k for k, name in enumerate(axes) if name in "SC"), None)
        channels = 1 if axis is None else pixels.shape[axis]
        metadata = _beside(page, stream, ome, channels, count)
        metadata["byte_order"] = tiff.byteorder
        if stack:
            metadata["axes"] = axes
        if stack:
            _check_pages(series, metadata)
        if copies:
            said = "its smaller copy" if copies == 1 else f"its {copies} smaller copies"
            metadata["lost"] = (*metadata.get("lost", ()), said)
        orientation = page.tags.valueof(ORIENTATION, 1)
        if orientation in range(2, 9):
            first = axes.index("Y")
            pixels = np.moveaxis(pixels, (first, first + 1), (0, 1))
            pixels = np.moveaxis(upright(pixels, orientation), (0, 1), (first, first + 1))
            metadata = _turned(metadata, orientation)
        metadata["colour"] = kind in ("RGB", "YCBCR", "PALETTE")
        if kind == "SEPARATED":
            metadata["inks"] = True
        read = _with_missing(_seen(pixels, axis, kind, page, metadata))
        if read.alpha is not None and page.planarconfig == 2 and _UNSPECIFIED in page.extrasamples:
            # Some writers take any four planes for colours.
            said = "its four planes are taken for three colours and opacity"
            read = replace(read, remarks=(*read.remarks, said))
        return replace(read, stack_axes=stack, stack_names="".join(axes[k] for k in stack))


def _smaller(series: Any) -> tuple[int, int]:
    """Return how many smaller copies of an image there are, and how many smaller other images.

    tifffile takes every image of half the size, or a third or a quarter, for a copy.  One is only
    where the file says so: pages that were scanned at 600 and 300 dpi are two pages.
    """
    levels = [level.keyframe for level in series.levels[1:]]
    copies = sum(bool(page.is_reduced or page.is_subifd) for page in levels)
    return copies, len(levels) - copies


def _check_pages(series: Any, metadata: dict[str, Any]) -> None:
    """Refuse pages that are turned in different ways, and note what only the first one keeps."""
    pages = [page for page in series.pages if isinstance(page, tifffile.TiffPage)]
    if not pages:
        return

    def values(code: int) -> list[Any]:
        return [page.tags.valueof(code) for page in pages]

    turns = {value or 1 for value in values(ORIENTATION)}
    if len(turns) > 1:
        raise UnreadableFileError(
            "its pages are to be turned in different ways (Orientation); turn them first"
        )
    if any(len({str(value) for value in values(code)}) > 1 for code in _OF_PAGES):
        said = "names, times, profiles or resolutions of the pages after the first"
        metadata["lost"] = (*metadata.get("lost", ()), said)


def _axes_of(series: Any, ome: Ome | None) -> tuple[str, tuple[int, ...]]:
    """Return the letters of the axes, and their lengths, without those of length 1."""
    lengths = list(zip(series.axes, series.shape))
    if ome is not None and len(series) > 1 and lengths[0][0] in "IQ":
        lengths[:1] = ome.axes(len(series), series.keyframe.samplesperpixel)
    kept = [(name, size) for name, size in lengths if size > 1 or name in "YX"]
    return "".join(name for name, _ in kept), tuple(size for _, size in kept)


def _check_axes(axes: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return which axes are those of a stack, and refuse what is no stack of images."""
    stack = tuple(k for k, name in enumerate(axes) if name not in "YXSC")
    is_image = axes.count("Y") == axes.count("X") == 1 and "YX" in axes
    if not is_image or axes.count("S") + axes.count("C") > 1:
        raise UnreadableFileError(
            f"it holds a stack (axes {axes}, shape {shape}) that is none of grey or RGB images, or "
            "of images with channels"
        )
    return stack


# --- what the numbers mean ---------------------------------------------------------------


def _kind(page: Any) -> str:
    """Return the name of the photometric interpretation, and refuse those that are not read."""
    if page.tags.get(_PHOTOMETRIC) is None:
        raise UnreadableFileError(
            "it does not say what its numbers mean (PhotometricInterpretation)"
        )
    try:
        kind = str(tifffile.PHOTOMETRIC(page.photometric).name)
    except ValueError:
        kind = f"number {page.photometric}"
    samples, extra = page.samplesperpixel, len(page.extrasamples)
    visible = samples - (_opacity(page, samples) and extra > 0)
    in_jpeg = page.compression in JPEG_COMPRESSIONS and page.planarconfig == 1
    read = {
        "MINISBLACK": samples == 1 or not in_jpeg,
        "MINISWHITE": visible == 1 and _ASSOCIATED not in page.extrasamples,
        "RGB": samples >= 3 and (samples == 3 or not in_jpeg),
        "PALETTE": samples == 1,
        "SEPARATED": samples == _INKS and not in_jpeg and page.tags.valueof(_INK_SET, 1) == 1,
        # Only decoding of JPEG makes it RGB.
        "YCBCR": samples == 3 and in_jpeg,
    }
    if not read.get(kind, False):
        what = f" in {samples} samples" if kind in read and samples > 1 else ""
        what += " compressed as JPEG" if kind in read and in_jpeg else ""
        advice = _ADVICE.get(kind, "convert the picture to RGB or grey first")
        raise UnreadableFileError(f"pixels of the kind {kind}{what} are not supported; {advice}")
    if kind == "PALETTE" and page.is_imagej and not _is_grey(page):
        raise UnreadableFileError(
            "its colours are a lookup table of ImageJ; convert it to grey or to RGB there first"
        )
    return kind


def _check_storage(page: Any, kind: str, dtype: Any) -> None:
    """Check that the numbers have a type that is read, and that tifffile decodes them rightly."""
    bits = page.bitspersample
    if dtype is None or page.sampleformat not in (1, 2, 3):
        name = getattr(page.sampleformat, "name", page.sampleformat)
        raise UnreadableFileError(f"samples of {bits} bits (SampleFormat {name}) are not supported")
    if not isinstance(bits, int) or (bits < 8 and bits not in _STRETCHED):
        raise UnreadableFileError(
            f"samples of {bits} bits are not supported; convert the picture to 8 bits"
        )
    dtypes = by_name("TIFF").dtypes
    if dtype.name not in (*dtypes, "bool"):
        raise UnreadableFileError(
            f"samples of type {dtype.name} are not supported; convert the picture to one of "
            f"{', '.join(dtypes)}"
        )
    if kind in ("MINISWHITE", "PALETTE") and dtype.kind not in "ub":
        raise UnreadableFileError(
            f"pixels of the kind {kind} are not supported of type {dtype.name}"
        )
    if page.compression == _JPEG2000_YCBCR and page.samplesperpixel > 1:
        raise UnreadableFileError(
            "pixels of the kind YCBCR are not supported; convert the picture to RGB"
        )
    if page.fillorder == 2 and page.is_contiguous:
        raise UnreadableFileError(
            "bytes that begin with the least bit (FillOrder 2) are not supported"
        )


def _opacity(page: Any, samples: int) -> bool:
    """Return whether the last of so many samples is opacity."""
    extra = page.extrasamples
    said = [index for index, what in enumerate(extra) if what in (_ASSOCIATED, _UNASSOCIATED)]
    if samples != page.samplesperpixel:
        return False
    if said and said != [len(extra) - 1]:
        raise UnreadableFileError(
            f"it has {samples} samples, and opacity is not (only) the last one; "
            "leave out the other opacity or move it to the end"
        )
    # A fourth sample beside RGB is opacity even if the file does not say so, except in pictures
    # of satellites, where it is one more band.
    unsaid = page.photometric in (2, 6) and samples == 4 and not page.is_geotiff
    return bool(said) or unsaid


def _seen(
    pixels: _Array, axis: int | None, kind: str, page: Any, metadata: dict[str, Any]
) -> ImageFile:
    """Return the image as brightness or RGB."""
    bits = page.bitspersample
    if kind == "PALETTE":
        table = _colours(page)
        indices = pixels.astype(np.intp)
        if table.ndim == 2:
            if axis is not None:
                raise UnreadableFileError("several pictures with a palette are not supported")
            axis = 2
        if "tags" in metadata:
            metadata["tags"] = metadata["tags"].of_colours()
        return ImageFile(table[indices], axis, None, metadata)
    factor, offset = _STRETCHED.get(bits, 1), 0
    if bits in _STRETCHED:
        pixels = pixels * np.uint8(factor)
    elif bits in _COUNTS:
        metadata["bits"] = bits
    opacity = axis is not None and _opacity(page, pixels.shape[axis])
    if opacity and bits not in (*_STRETCHED, 8, 16, 32, 64):
        raise UnreadableFileError(
            f"opacity of {bits} bits is not supported; convert the picture to 16 bits"
        )
    if not opacity:
        depth = _depth(pixels, page) if kind != "MINISWHITE" else None
        if depth is not None:
            metadata["bits"] = depth
        read = ImageFile(pixels, axis, None, metadata)
    else:
        assert axis is not None
        pixels = np.moveaxis(pixels, axis, -1)
        # The pages of RGB with opacity are in front of the pixels.
        read = split(pixels, True, metadata, pixels.ndim - 3)
        assert read.alpha is not None
        if _ASSOCIATED in page.extrasamples:
            read = replace(read, image=straight(read.image, read.alpha))
        said = {_ASSOCIATED, _UNASSOCIATED} & set(page.extrasamples)
        metadata["extrasample"] = _UNASSOCIATED if said else _UNSPECIFIED
    if kind == "MINISWHITE":
        full = 255 if bits in _STRETCHED else (1 << bits) - 1
        read = replace(read, image=full - read.image)
        factor, offset = -factor, full
        if bits == 1:
            # Some libraries write masks so, and mean by 1 what is marked.
            said_of = "its pixels of 1 are black and those of 0 white (PhotometricInterpretation)"
            read = replace(read, remarks=(said_of,))
    for key in ("tags", "imagej"):
        if key in metadata:
            metadata[key] = metadata[key].of_values(factor, offset)
    return read


def _depth(pixels: _Array, page: Any) -> int | None:
    """Return of how many bits numbers in 16 bits are said to be, None if that is not said.

    It is said by the number that is white, as :func:`write` does, where no pixel is brighter.
    """
    said = page.tags.valueof(_BRIGHTEST)
    values = set(said) if isinstance(said, tuple) else {said}
    white = values.pop() if len(values) == 1 else None
    depth = next((bits for bits in _COUNTS if white == (1 << bits) - 1), None)
    if depth is None or pixels.dtype != np.uint16 or page.bitspersample != 16:
        return None
    return depth if pixels.max(initial=0) <= white else None


def _with_missing(read: ImageFile) -> ImageFile:
    """Return an image whose pixels without data are NaN, if they are floats.

    Integers have nothing that is no number, so that is told of them.
    """
    tags: Tags | None = read.metadata.get("tags")
    if tags is None or tags.no_data is None or math.isnan(tags.no_data):
        return read
    image, value = read.image, tags.no_data
    with np.errstate(over="ignore"):
        # In digits there are numbers that pixels have only rounded.
        same = image == (image.dtype.type(value) if image.dtype.kind == "f" else value)
    if image.dtype.kind == "f":
        if not same.any():
            return read
        said = f"{np.count_nonzero(same)} values of {value:g} mean no data: they are NaN"
        metadata = {**read.metadata, "tags": tags.of_missing()}
        image = np.where(same, image.dtype.type(np.nan), image)
        return replace(read, image=image, metadata=metadata, remarks=(*read.remarks, said))
    if read.channel_axis is not None:
        same = same.all(axis=read.channel_axis)
    if not same.any():
        return read
    said = (
        f"{np.count_nonzero(same)} pixels are {int(value)}, which means no data, and count like "
        f"others; inpainting with the mask value:{int(value)} takes them for missing"
    )
    return replace(read, remarks=(*read.remarks, said))


def _is_grey(page: Any) -> bool:
    """Return whether a palette maps each number to its own brightness."""
    table = page.colormap
    if table is None or table.ndim != 2 or table.shape[1] < 2:
        return False
    steps = np.linspace(0, 65535, table.shape[1]).round()
    # Some palettes have the brightness in the upper byte only.
    return bool((abs(table - steps) <= 255).all())


def _colours(page: Any) -> _Array:
    """Return the colours of a palette, (number, 3), or (number,) if they are all grey."""
    table = page.colormap
    if table is None or table.ndim != 2:
        raise UnreadableFileError("its palette is missing")
    if (table % 257 == 0).all():
        table = (table // 257).astype(np.uint8)
    elif table.max() < 256:  # some old writers wrote bytes where TIFF asks for 16 bits
        table = table.astype(np.uint8)
    elif (table % 256 == 0).all():
        table = (table // 256).astype(np.uint8)
    return np.asarray(table[0] if (table == table[0]).all() else table.T)


# --- metadata ----------------------------------------------------------------------------


def _beside(
    page: Any, stream: BinaryIO, ome: Ome | None, channels: int, planes: int
) -> dict[str, Any]:
    """Return the metadata of the image, which has so many channels, and planes of a stack."""
    order = page.parent.byteorder
    raw = _raw(page, stream)
    metadata: dict[str, Any] = {"compressed": page.compression != 1}
    lost: list[str] = []
    if _ICC in raw:
        metadata["icc_profile"] = raw[_ICC][1]
    x, y = (page.tags.valueof(code) for code in (_X, _Y))
    resolution = _exif.resolution_of(x, y, page.tags.valueof(_UNIT, 2))
    description = raw.get(_DESCRIPTION, (2, b""))[1]
    if page.is_ome:
        raw.pop(_DESCRIPTION, None)
        if ome is not None:
            resolution = ome.resolution or resolution
        if ome is not None and ome.is_about(channels, planes):
            metadata["ome"] = ome
        else:
            lost.append("OME metadata, which are not about one image")
    elif description.startswith((b"ImageJ=", b"SCIFIO=")):
        del raw[_DESCRIPTION]
        lines = _text(description).splitlines()
        counts, block = (
            raw.get(code, (1, b""))[1] for code in (_tiff_imagej.COUNTS, _tiff_imagej.BLOCK)
        )
        numbers = struct.unpack(f"{order}{len(counts) // 4}I", counts[: len(counts) // 4 * 4])
        metadata["imagej"] = found = _tiff_imagej.ImageJ(tuple(lines), numbers, block, order)
        unit = found.unit or ("" if resolution is None else resolution.unit)
        resolution = Resolution.of(x, y, unit)
    if resolution is not None:
        metadata["resolution"] = resolution
    kept = {code: raw[code] for code in KEPT if code in raw}
    if kept:
        metadata["tags"] = Tags(kept, order).of_other_pixels()
    texts: dict[int, tuple[int, Any]] = {code: raw[code] for code in _exif.TEXTS if code in raw}
    for code, name in _exif.DIRECTORIES.items():
        if code in raw:
            offset = int.from_bytes(raw[code][1], "little" if order == "<" else "big")
            try:
                inner = dict(_exif.directory(stream, order, page.parent.is_bigtiff, offset))
            except (ValueError, OverflowError):
                lost.append(name)
            else:
                if inner.pop(_exif.MAKER_NOTE, None) is not None:
                    lost.append(_exif.NOTES)
                texts[code] = 4, inner
    if texts:
        head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
        metadata["exif"] = _exif.Exif.read(head + _exif.pack(order, texts, 8))
    if lost:
        metadata["lost"] = tuple(lost)
    return metadata


def _turned(metadata: dict[str, Any], orientation: int) -> dict[str, Any]:
    """Return the metadata of an image that has been turned as its orientation asks."""
    metadata = dict(metadata)
    if metadata.pop("ome", None) is not None:
        metadata["lost"] = (*metadata.get("lost", ()), "OME metadata, as it has been turned")
    for key in ("tags", "imagej"):
        if key in metadata:
            metadata[key] = metadata[key].turned()
    if "exif" in metadata:
        metadata["exif"] = _exif.Exif.read(metadata["exif"].data, orientation)
    if orientation > 4 and "resolution" in metadata:
        metadata["resolution"] = metadata["resolution"].turned()
    return metadata


def _text(value: bytes) -> str:
    """Return a text of ImageJ, which old versions wrote in Latin-1."""
    try:
        return value.strip(b"\0").decode()
    except UnicodeDecodeError:
        return value.strip(b"\0").decode("latin-1")


def _raw(page: Any, stream: BinaryIO) -> dict[int, tuple[int, bytes]]:
    """Return types and bytes of the tags that are kept, by code.

    A file can have several descriptions, of which one is for tifffile only; it is left out.
    """
    wanted = (
        *KEPT,
        *_exif.TEXTS,
        *_exif.DIRECTORIES,
        _tiff_imagej.COUNTS,
        _tiff_imagej.BLOCK,
        _ICC,
    )
    order, big = page.parent.byteorder, page.parent.is_bigtiff
    raw: dict[int, tuple[int, bytes]] = {}
    for code, kind, count, value in read_directory(stream, order, big, page.offset):
        size = count * TYPE_SIZES.get(kind, 0)
        if code not in wanted or code in raw or not size:
            continue
        if size > len(value):
            stream.seek(struct.unpack(order + ("Q" if big else "I"), value)[0])
            value = stream.read(size)
        if len(value) >= size and not value.startswith((b'{"shape":', b"shape=(")):
            raw[code] = kind, value[:size]
    return raw


# --- writing -----------------------------------------------------------------------------


def write(stream: BinaryIO, pixels: _Array, like: ImageFile) -> list[str]:
    """Write an image, or a stack, as a TIFF.

    Parameters
    ----------
    stream
        Where to write.
    pixels
        Array (H, W) or (H, W, samples), behind the axes of a stack; if ``like`` has opacity, it is
        the last sample.
    like
        The image, with what is to be written beside the pixels.

    Returns
    -------
    list of str
        What could not be kept, in words.
    """
    metadata = like.metadata
    lost: list[str] = []
    options: dict[str, Any] = {"metadata": None, "extratags": []}
    native = metadata.get("byte_order", "<" if sys.byteorder == "little" else ">")
    orders = (kept.order for kept in metadata.values() if hasattr(kept, "order"))
    options["byteorder"] = next(orders, native)
    options["compression"] = "zlib" if metadata.get("compressed") else None
    if "icc_profile" in metadata:
        options["iccprofile"] = metadata["icc_profile"]
    alpha = like.alpha is not None
    stack = len(like.stack_axes)
    size = pixels.shape[stack : stack + 2]
    samples = 1 if pixels.ndim == stack + 2 else pixels.shape[-1]
    channels = samples - alpha
    inks = bool(metadata.get("inks")) and channels == _INKS
    colour = not inks and channels >= 3 and metadata.get("colour", channels == 3)
    options["photometric"] = "rgb" if colour else "minisblack"
    planes = 1
    # Its tags are those of one directory, and bands in others would have no place on the globe.
    is_on_globe = "tags" in metadata and metadata["tags"].is_georeferenced and not stack
    if channels > 1 and not colour and not inks and is_on_globe:
        options["planarconfig"] = "contig"
        extra = [metadata.get("extrasample", _UNASSOCIATED)] * alpha
        options["extrasamples"] = [_UNSPECIFIED] * (channels - 1) + extra
    elif alpha or (colour and channels > 3):
        options["planarconfig"] = "contig"
        extra = [metadata.get("extrasample", _UNASSOCIATED)] * alpha
        options["extrasamples"] = [_UNSPECIFIED] * (channels - (3 if colour else 1)) + extra
    elif inks:
        options.update(photometric="separated", planarconfig="contig")
    elif channels > 1 and not colour:
        # Channels that are no colours are written one plane after the other, as microscopes do.
        pixels = np.moveaxis(pixels, -1, stack)
        planes, samples = channels, 1
    pixels, axes = _as_written(pixels, stack, planes, samples, like)
    if axes not in ("YX", "YXS", "IYX", "IYXS"):  # which need no words
        options["metadata"] = {"axes": axes}
    bits = metadata.get("bits")
    if bits is not None and pixels.dtype == np.uint16 and pixels.max() < 1 << bits:
        options["extratags"].append((_BRIGHTEST, 3, 1, (1 << bits) - 1, True))
    _add_resolution(options, metadata, lost)
    if pixels.nbytes > _LARGEST_CLASSIC:
        # tifffile takes the larger form by itself only where nothing is compressed.  Directories of
        # EXIF are appended to the smaller one alone.
        options["bigtiff"] = True
        if "exif" in metadata:
            like = replace(like, metadata={k: v for k, v in metadata.items() if k != "exif"})
            lost.append("EXIF")
    inner = _add_texts(options, like, size, planes, samples, lost)
    tifffile.imwrite(stream, pixels, **options)
    if inner:
        _append(stream, options["byteorder"], inner, lost)
    return lost


def _as_written(
    pixels: _Array, stack: int, planes: int, samples: int, like: ImageFile
) -> tuple[_Array, str]:
    """Return pixels in the order in which they are written, and the letters of their axes.

    They come with the axes of a stack in front, and then that of channels that are planes.  A file
    that was read may have these the other way round.
    """
    names = like.stack_names
    if len(names) != stack:
        names = "I" if stack == 1 else "Q" * stack
    rest = "YXS" if samples > 1 else "YX"
    axes = names + "C" * (planes > 1) + rest
    before = "".join(name for name in like.metadata.get("axes", "") if name not in "YXS")
    if stack and planes > 1 and before.replace("C", "", 1) == names and "C" in before:
        pixels = np.moveaxis(pixels, stack, before.index("C"))
        axes = before + rest
    return np.ascontiguousarray(pixels), axes


def _add_resolution(options: dict[str, Any], metadata: dict[str, Any], lost: list[str]) -> None:
    """Add the resolution to the options of tifffile."""
    resolution = metadata.get("resolution")
    if resolution is None:
        return
    unit = resolution.unit
    if "imagej" in metadata:
        unit = unit if unit in _UNITS else ""  # the description of ImageJ has the unit
    elif unit not in _UNITS:
        resolution, unit = resolution.to("cm"), "cm"
    if resolution is not None:
        values = [_rational(value) for value in (resolution.x, resolution.y)]
        if None not in values:
            options.update(resolution=values, resolutionunit=_UNITS[unit])
            return
    lost.append("resolution")


def _rational(value: Any) -> tuple[int, int] | None:
    """Return a value as a fraction of TIFF, None if it is too large or too small."""
    if value > _GREATEST:
        return None
    close = value.limit_denominator(max(int(_GREATEST / max(value, 1)), 1))
    return (close.numerator, close.denominator) if close else None


def _add_texts(
    options: dict[str, Any],
    like: ImageFile,
    size: tuple[int, ...],
    planes: int,
    samples: int,
    lost: list[str],
) -> _exif.Values:
    """Add descriptions and tags to the options of tifffile.

    Directories of EXIF, which tifffile does not write, are returned to be appended to the file.
    """
    metadata, extra = like.metadata, options["extratags"]
    if "ome" in metadata:
        dtype = like.image.dtype.name
        text = metadata["ome"].description(*size, planes, samples, dtype)
        if text is None:
            lost.append(f"OME metadata, which have no type {dtype}")
        else:
            options.update(description=text, metadata=None)
    if "imagej" in metadata:
        found = metadata["imagej"]
        in_stack = math.prod(like.stack_shape)
        options.update(description=found.description(planes, in_stack), metadata=None)
        if found.block:
            extra.append((_tiff_imagej.COUNTS, 4, len(found.counts), found.counts, True))
            extra.append((_tiff_imagej.BLOCK, 1, len(found.block), found.block, True))
    if "tags" in metadata:
        tags = metadata["tags"].values.items()
        extra += [(code, kind, len(value), value, True) for code, (kind, value) in tags]
    inner: dict[int, tuple[int, Any]] = {}
    if "exif" in metadata:
        for code, (kind, value) in metadata["exif"].sized(*like.size).values(lost).items():
            if code in _exif.DIRECTORIES:
                # tifffile rejects the numbers of these tags, so they are given by name.
                extra.append((tifffile.TIFF.TAGS[code], 4, 1, 0, True))
                inner[code] = kind, value
            elif code == _DESCRIPTION:
                options.setdefault("description", value)
            else:
                extra.append((code, kind, len(value), value, True))
                if code == _SOFTWARE:
                    options["software"] = False
    return inner


def _append(stream: BinaryIO, order: str, inner: _exif.Values, lost: list[str]) -> None:
    """Append directories to a TIFF, and set their tags to the places where they are."""
    places = tag_places(stream)
    for code, (_, values) in inner.items():
        end = stream.seek(0, os.SEEK_END)
        end += end % 2
        data = _exif.pack(order, values, end)
        if end + len(data) > _GREATEST:
            lost.append(_exif.DIRECTORIES[code])
            continue
        stream.seek(end)
        stream.write(data)
        stream.seek(places[code])
        stream.write(struct.pack(f"{order}I", end))
    stream.seek(0, os.SEEK_END)
