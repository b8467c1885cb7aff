"""Mutation fuzzing of everything that reads files of unknown origin.

    python -m tests.robustness.fuzz [--minutes 10] [--seed 0] [--only image settings] [--keep DIR]

Valid files, made in memory, are damaged and read: bits flipped, numbers replaced by those at the
ends of their ranges, pieces deleted, doubled, or taken from another file.  A reader may accept
what comes out or refuse it by one of the exceptions that it documents.  Everything else is a
finding: another exception, a warning, more than 2 seconds of processor time, more than 512 MiB of
memory, a crash, standing still.  The input is kept, with the traceback beside it.

Each reader works in a process of its own, because a decoder may take the process with it.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import io
import json
import logging
import multiprocessing
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_SECONDS = 2.0
_MEMORY = 512 * 2**20
# Images up to this size must be read within the limits above, and larger ones be refused.
_LARGEST_IMAGE = 32 * 2**20
_LARGEST_INPUT = 4 * 2**20
_STANDSTILL = 30.0
_NUMBERS = (
    *(0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 4095, 4096, 16384, 32767, 32768, 65535, 65536),
    *(2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1),
)

# Codes of TIFF: tags, compressions, photometric interpretations.
_TAGS = (
    *(254, 256, 257, 258, 259, 262, 266, 270, 273, 277, 278, 279, 282, 284, 296, 317, 320, 322),
    *(323, 324, 325, 330, 338, 339, 347, 513, 514, 32997, 33550, 33628, 33629, 33922, 34264),
    *(34412, 34665, 34675, 34735, 34853, 42113, 50838, 50839),
    *(5, 6, 7, 32773, 32946, 33003, 34712, 34887, 34925, 34933, 50000, 50001, 50002),
)

Mutation = Callable[[random.Random, bytes], bytes]


class Reader(NamedTuple):
    """A function ``read`` that is fuzzed with files like the ``seeds``.

    ``mutate`` knows the format of these files; it is used in turn with the mutation of bytes.
    """

    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[Path], object]
    mutate: Mutation
    refusals: tuple[type[Exception], ...] = (ValueError, OSError)


# --- mutations ---------------------------------------------------------------------------


def mutate_bytes(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Return data with a few changes, anywhere."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        kind = rng.randrange(9)
        # Most changes are near the beginning or the end, where headers are.
        near = rng.choice((len(content), 64, 512))
        at = min(rng.randrange(near or 1), max(len(content) - 1, 0))
        if rng.random() < 0.2:
            at = max(len(content) - 1 - at, 0)
        size = min(rng.choice((1, 2, 4, 12, 64, 1024)), len(content) - at)
        piece = content[at : at + size]
        if kind == 0 and content:
            content[at] ^= 1 << rng.randrange(8)
        elif kind in (1, 2):
            width = rng.choice((1, 2, 4, 8))
            number = rng.choice(_NUMBERS) & (256**width - 1)
            order: Any = rng.choice(("little", "big"))
            content[at : at + width] = number.to_bytes(width, order)
        elif kind == 3:
            del content[at : at + size]
        elif kind == 4:
            content[at:at] = piece * rng.choice((1, 1, 2, 50))
        elif kind == 5 and others:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            content[at : at + size] = other[start : start + rng.choice((size, 256, len(other)))]
        elif kind == 6:
            content[at : at + size] = rng.randbytes(size)
        elif kind == 7 and rng.random() < 0.3:
            del content[at:]
        elif kind == 8 and (numbers := list(re.finditer(rb"\d+", content))):
            first, last = rng.choice(numbers).span()
            content[first:last] = str(rng.choice(_NUMBERS)).encode()
    return bytes(content)


def mutate_image(rng: random.Random, data: bytes) -> bytes:
    """Return an image with changed tags if it is a TIFF, else with changed bytes.

    The check sums of a PNG are put right, because else few changes would get past them.
    """
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _mutate_tags(rng, data)
    changed = mutate_bytes(rng, data)
    return _sum_up(changed) if changed.startswith(b"\x89PNG") else changed


def _mutate_tags(rng: random.Random, data: bytes) -> bytes:
    """Change code, type, count or value of some tags in the first directory of a TIFF."""
    content, order = bytearray(data), "<" if data.startswith(b"II") else ">"
    (first,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, first)
    for _ in range(rng.choice((1, 1, 2, 4))):
        start = first + 2 + 12 * rng.randrange(count)
        at, kind = rng.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "I"), (8, "H")))
        value = rng.choice((*_NUMBERS, rng.randrange(len(data)), *_TAGS))
        struct.pack_into(
            f"{order}{kind}", content, start + at, value % (65536 if kind == "H" else 2**32)
        )
    return bytes(content)


def _sum_up(png: bytes) -> bytes:
    """Return a PNG with the right check sums."""
    chunks, at = [png[:8]], 8
    while at + 12 <= len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        body = png[at + 4 : at + 8 + size]
        chunks.append(png[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + size
    return b"".join(chunks) + png[at:]


def mutate_json(rng: random.Random, data: bytes) -> bytes:
    """Return JSON with values replaced by others, and keys renamed, taken away or added."""
    tree = json.loads(data)
    hostile: tuple[Any, ...] = (
        *(None, True, False, 0, -1, 1, 2**31, 2**63, -(10**30), 10**400, 1e308, 1e-320, -0.0),
        *("", "auto", "dip", "\ud800", "\x00", "a" * 5000, [], {}, [[]], [1, 2], {"a": 1}),
        *(float("nan"), float("inf"), -float("inf")),
    )
    for _ in range(rng.choice((1, 1, 2, 4))):
        node = tree
        while True:
            keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(node[key], dict | list) and rng.random() < 0.7:
                node = node[key]
                continue
            kind = rng.randrange(4)
            if kind == 0:
                del node[key]
            elif kind == 1 and isinstance(node, dict):
                node[f"{key}x"] = node.pop(key)
            elif kind == 2:
                node[key] = [node[key]] * rng.choice((1, 2, 1000))
            else:
                node[key] = copy.deepcopy(rng.choice(hostile))
            break
    text = json.dumps(tree)
    if rng.random() < 0.05:
        deep = rng.choice((10, 5000, 200_000))
        text = text.replace("null", "[" * deep + "]" * deep, 1)
    return text.encode("utf-8", "surrogatepass")


def mutate_checkpoint(rng: random.Random, data: bytes) -> bytes:
    """Return a checkpoint with changes in its header, and the right digest if that is possible."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    from dipfast.run.checkpoint import _digest

    size = int.from_bytes(data[:8], "little")
    head, tensors = json.loads(data[8 : 8 + size]), data[8 + size :]

    def whole(head: bytes) -> bytes:
        return len(head).to_bytes(8, "little") + head + tensors

    if rng.random() < 0.3:
        return whole(mutate_json(rng, json.dumps(head).encode()))
    texts = head["__metadata__"]
    key = rng.choice(("identity", "scalars"))
    texts[key] = mutate_json(rng, texts[key].encode()).decode("utf-8", "replace")
    try:
        rest = {name: text for name, text in texts.items() if name != "digest"}
        texts["digest"] = _digest(rest, load(whole(json.dumps(head).encode())))
    except (SafetensorError, RuntimeError, UnicodeError):
        pass
    return whole(json.dumps(head).encode())


# --- files to begin with -----------------------------------------------------------------


def images() -> list[bytes]:
    """Return small files of all formats, in all variants that are read in ways of their own."""
    import imagecodecs
    import pillow_heif
    import pydicom
    import pydicom.encaps
    import tifffile
    from astropy.io import fits
    from PIL import Image, ImageCms

    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (24, 20), dtype=np.uint8)
    colour = rng.integers(0, 256, (24, 20, 3), dtype=np.uint8)
    alpha = rng.integers(0, 256, (24, 20, 4), dtype=np.uint8)
    planes = rng.integers(0, 65536, (3, 24, 20), dtype=np.uint16)
    floats = rng.normal(size=(24, 20)).astype(np.float32)
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = 6, "Maker"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    beside: dict[str, Any] = {"icc_profile": profile, "exif": tags.tobytes(), "dpi": (72, 72)}

    def pillow(pixels: Any, kind: str, **options: Any) -> bytes:
        stream = io.BytesIO()
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        image.save(stream, kind, **options)
        return stream.getvalue()

    def both(kind: str) -> bytes:
        first, second = Image.fromarray(grey), Image.fromarray(255 - grey)
        return pillow(first, kind, save_all=True, append_images=[second])

    def tiff(pixels: Any, **options: Any) -> bytes:
        stream = io.BytesIO()
        tifffile.imwrite(stream, pixels, **options)
        return stream.getvalue()

    def pyramid(pixels: Any) -> bytes:
        stream = io.BytesIO()
        with tifffile.TiffWriter(stream) as writer:
            writer.write(pixels, subifds=1)
            writer.write(pixels[::2, ::2], subfiletype=1)
        return stream.getvalue()

    def numpy(save: Callable[..., Any], pixels: Any) -> bytes:
        stream = io.BytesIO()
        save(stream, pixels)
        return stream.getvalue()

    def telephone(pixels: Any, **options: Any) -> bytes:
        stream = io.BytesIO()
        pillow_heif.from_pillow(Image.fromarray(pixels)).save(stream, quality=-1, **options)
        return stream.getvalue()

    def clinic(pixels: Any, syntax: str = "", frames: int = 1) -> bytes:
        made = pydicom.Dataset()
        made.file_meta = pydicom.dataset.FileMetaDataset()
        made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"
        made.PatientName, made.ImageType = "Doe^Jane", ["ORIGINAL", "PRIMARY"]
        made.PixelSpacing, made.ImagePositionPatient = [0.5, 0.25], [1, 2, 3]
        made.ImageOrientationPatient, made.RescaleSlope = [1, 0, 0, 0, 1, 0], 2
        made.Rows, made.Columns = pixels.shape[0] // frames, pixels.shape[1]
        if frames > 1:
            place, measures, of_frame = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
            place.ImagePositionPatient, measures.PixelSpacing = [1, 2, 3], [0.5, 0.25]
            of_frame.PlanePositionSequence, made.NumberOfFrames = [place], frames
            of_frame.PixelMeasuresSequence = [measures]
            made.SharedFunctionalGroupsSequence = [of_frame]
            made.PerFrameFunctionalGroupsSequence = [copy.deepcopy(of_frame) for _ in range(frames)]
        made.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
        made.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
        if pixels.ndim == 3:
            made.PlanarConfiguration = 0
        bits = made.BitsAllocated = 8 * pixels.dtype.itemsize
        made.BitsStored, made.HighBit = bits, bits - 1
        made.PixelRepresentation = int(pixels.dtype.kind == "i")
        made.add_new("PixelData", "OW", pixels.tobytes())
        if syntax == "1.2.840.10008.1.2.5":
            made.compress(syntax, pixels)
        elif syntax:
            made.file_meta.TransferSyntaxUID = syntax
            codec = {"57": "ljpeg", "80": "jpegls", "90": "jpeg2k", "50": "jpeg8"}[syntax[-2:]]
            options = {"codecformat": "j2k", "level": 0} if codec == "jpeg2k" else {}
            frame = bytes(getattr(imagecodecs, f"{codec}_encode")(pixels, **options))
            made.add_new("PixelData", "OB", pydicom.encaps.encapsulate([frame]))
            made["PixelData"].is_undefined_length = True
        stream = io.BytesIO()
        pydicom.dcmwrite(stream, made, enforce_file_format=True)
        return stream.getvalue()

    def telescope(*units: Any) -> bytes:
        stream = io.BytesIO()
        fits.HDUList(list(units)).writeto(stream)
        return stream.getvalue()

    def tiled(pixels: Any, kind: str) -> bytes:
        image = fits.CompImageHDU(pixels, sky, compression_type=kind)
        return telescope(fits.PrimaryHDU(), image)

    sky = fits.Header({"CTYPE1": "RA---TAN-SIP", "CRPIX1": 3.5, "CD1_1": 0.1})
    sky.update({"A_ORDER": 2, "A_2_0": 0.001, "LTV1": 2.0, "DATASEC": "[1:2,1:3]"})
    palette = Image.fromarray(colour).quantize(16)
    tags.get_ifd(0x8769).update({0x9003: "2024:02:29 12:00:00", 0xA002: 20, 0xA003: 24})
    tags.get_ifd(0x8825)[0x1D] = "2024:02:29"
    imagej = {"unit": "um", "Info": "some text", "Ranges": (0.0, 9.0), "ROI": bytes(64)}
    ome = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Channel": {"Name": ["a", "b", "c"]}}
    globe: Any = [
        (33550, "d", 3, (30.0, 20.0, 1.0), True),
        (33922, "d", 6, (2.0, 3.0, 0.0, 500_000.0, 4_000_000.0, 0.0), True),
        (34735, "H", 8, (1, 1, 0, 1, 1025, 0, 1, 2), True),
    ]
    return [
        pillow(grey, "PNG", **beside),
        pillow(colour, "PNG"),
        pillow(colour, "PNG", transparency=(1, 2, 3)),
        pillow(alpha, "PNG"),
        pillow(alpha[..., :2], "PNG"),
        pillow(palette, "PNG", transparency=3),
        pillow(Image.fromarray(grey > 127), "PNG"),
        both("PNG"),
        _interlaced(grey[:8, :8]),
        bytes(imagecodecs.png_encode(planes[0])),
        bytes(imagecodecs.png_encode(np.stack(list(planes), axis=-1))),
        pillow(grey, "JPEG", **beside),
        pillow(colour, "JPEG", progressive=True),
        pillow(Image.fromarray(alpha, "CMYK"), "JPEG"),
        both("MPO"),
        tiff(grey),
        tiff(colour, photometric="rgb", resolution=(72, 72), iccprofile=profile),
        tiff(floats, byteorder=">", bigtiff=True),
        tiff(floats, compression="zlib", predictor=True, rowsperstrip=5),
        tiff(colour, photometric="rgb", compression="lzw", rowsperstrip=7),
        tiff(grey, compression="packbits"),
        tiff(grey, compression="zstd", tile=(16, 16)),
        tiff(grey, compression="lzma"),
        tiff(colour, photometric="rgb", compression="jpeg", tile=(16, 16)),
        tiff(grey, compression="jpeg2000"),
        tiff(alpha, photometric="rgb", extrasamples=["unassalpha"]),
        tiff(np.moveaxis(colour, -1, 0), photometric="rgb", planarconfig="separate"),
        tiff(planes, photometric="minisblack", metadata={"axes": "CYX"}),
        tiff(planes, imagej=True, metadata={"axes": "CYX"}),
        tiff(planes, ome=True, compression="zlib", metadata={"axes": "CYX"}),
        pyramid(grey),
        tiff(planes, photometric="minisblack", metadata=None),
        tiff(planes, imagej=True, metadata={"axes": "ZYX", "finterval": 0.1, "spacing": 2.0}),
        tiff(planes, ome=True, metadata={"axes": "ZYX", "PhysicalSizeZ": 2.0}),
        numpy(np.save, np.stack([planes] * 5)),
        telescope(fits.PrimaryHDU(np.stack([planes] * 5), sky)),
        tiff(grey, imagej=True, resolution=(5.0, 4.0), metadata=imagej),
        tiff(planes, ome=True, metadata={"axes": "CYX", **ome}),
        tiff(grey, extratags=globe, description="a satellite", resolution=(72, 72)),
        tiff(grey.astype(np.uint16), bitspersample=12, photometric="miniswhite"),
        tiff(alpha, photometric="rgb", extrasamples=["assocalpha"]),
        pillow(grey, "TIFF", exif=tags),
        pillow(grey, "TIFF", compression="tiff_lzw"),
        pillow(palette, "TIFF"),
        pillow(Image.fromarray(grey > 127), "TIFF", compression="group4"),
        both("TIFF"),
        numpy(np.save, floats.astype(">f4")),
        numpy(np.save, np.asfortranarray(planes)),
        numpy(np.savez, grey),
        numpy(np.savez_compressed, colour),
        telescope(fits.PrimaryHDU(planes, sky)),
        telescope(fits.PrimaryHDU(), fits.ImageHDU(floats, sky), fits.ImageHDU(grey)),
        telescope(fits.PrimaryHDU(planes[0].astype(np.int16), fits.Header({"BLANK": 5}))),
        *(tiled(planes[0].astype(np.int16), kind) for kind in ("RICE_1", "GZIP_1", "GZIP_2")),
        tiled(floats, "RICE_1"),
        pillow(colour, "WEBP", lossless=True, icc_profile=profile, exif=tags.tobytes()),
        pillow(alpha, "WEBP", lossless=True),
        pillow(colour, "WEBP"),
        both("WEBP"),
        pillow(colour, "AVIF", icc_profile=profile, exif=tags.tobytes()),
        pillow(grey, "AVIF"),
        both("AVIF"),
        bytes(imagecodecs.avif_encode(alpha, level=100)),
        bytes(imagecodecs.avif_encode(planes[0] >> 4, level=100, bitspersample=12)),
        *(pillow(pixels, "BMP") for pixels in (grey, colour, palette, alpha)),
        pillow(Image.fromarray(grey > 127), "BMP"),
        *(pillow(pixels, "PPM") for pixels in (grey, colour, planes[0])),
        b"P2 # grey\n4 2\n255\n" + b"0 255 7 1 2 3 4 5 ",
        telephone(colour, exif=tags.tobytes()),
        telephone(grey, chroma=444, matrix_coefficients=0),
        telephone(alpha),
        clinic(grey),
        clinic(colour),
        clinic(planes[0].astype(np.int16)),
        clinic(planes.reshape(72, 20), frames=3),
        clinic(grey, "1.2.840.10008.1.2.5"),
        *(clinic(grey, f"1.2.840.10008.1.2.4.{kind}") for kind in (50, 57, 80, 90)),
    ]


def raw_photographs() -> list[bytes]:
    """Return small raw photographs."""
    from tests.images.files.dng import dng

    sensor = np.random.default_rng(0).integers(64, 4095, (24, 32), dtype=np.uint16)
    return [dng(sensor), dng(sensor, orientation=6), dng(sensor, pattern=b"")]


def _interlaced(pixels: Any) -> bytes:
    """Return an interlaced grey PNG of 8x8 pixels, which Pillow cannot write."""
    passes = (
        *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
        *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
    )
    rows = [b"\0" + row.tobytes() for y, x, dy, dx in passes for row in pixels[y::dy, x::dx]]
    head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def reports() -> list[bytes]:
    """Return reports of results of all tasks."""
    import torch

    import dipfast
    from dipfast.operators import Blur, gaussian_kernel

    torch.set_num_threads(1)
    image = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    options: Any = {"preset": _tiny(), "reference": image}
    missing = image > 250
    missing[0, 0] = True
    results = [
        dipfast.denoise(image, max_iterations=1, method="dip"),
        dipfast.denoise(image, **options),
        dipfast.inpaint(image, missing, **options),
        dipfast.super_resolve(image[:8, :8], 2, preset=options["preset"]),
        dipfast.restore(image, Blur(gaussian_kernel(1.0)), **options),
    ]
    return [json.dumps(result.report(), indent=2).encode() for result in results]


def _tiny() -> Any:
    """Return the settings of a very short fit."""
    from dipfast.networks import HourglassConfig
    from dipfast.settings.presets import Preset

    network = HourglassConfig(down=(4,), up=(4,), skip=(4,), upsampling=("nearest",))
    return Preset(3, (0.1, 0.01), network)


def checkpoints() -> list[bytes]:
    """Return the checkpoint of a run."""
    import dipfast

    image = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        dipfast.denoise(image, preset=_tiny(), checkpoint=path)
        return [path.read_bytes()]


# --- the readers -------------------------------------------------------------------------


def _read_raw(path: Path) -> object:
    """Read a raw photograph, which its name tells from a TIFF."""
    named = path.with_name(f"{path.name}.dng")
    shutil.copy(path, named)
    return _read_image(named)


def _read_image(path: Path) -> object:
    """Read an image, and check that it can be written enlarged."""
    from dipfast.images import files
    from dipfast.images.files import limits

    limits.LARGEST_IMAGE = _LARGEST_IMAGE
    read = files.read_image(path)
    # One pixel is enough, because it keeps all metadata.
    corner = [slice(1)] * read.image.ndim
    if read.channel_axis is not None:
        corner[read.channel_axis] = slice(None)
    alpha = None if read.alpha is None else read.alpha[:1, :1]
    small = replace(read, image=read.image[tuple(corner)], alpha=alpha)
    small = small.enlarged(2, lambda values, size: np.broadcast_to(values, size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what cannot be kept
        row = files.formats.by_name(read.format)
        own = () if row.lacks(small) else (row.suffixes[0],)
        for suffix in dict.fromkeys((".tif", *own)):
            written = path.with_name(f"written{suffix}")
            files.write_image(written, small.image, like=small, overwrite=True)
    return read


def stores() -> list[bytes]:
    """Return small Zarr stores as objects of JSON: what is in each file, bytes as Latin 1."""
    import numcodecs
    import zarr
    from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, TransposeCodec

    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (24, 20)).astype(np.uint16)
    levels = [
        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 0.5, 0.5]}]}
    ]
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    image = {"axes": axes, "datasets": levels}
    seeds = []

    def make(path: Path, place: str, pixels: Any, **how: Any) -> None:
        chunks = (1,) * (pixels.ndim - 2) + (12, 10)
        array = zarr.create_array(
            path / place, shape=pixels.shape, dtype=pixels.dtype, chunks=chunks, **how
        )
        array[...] = pixels

    def keep(path: Path) -> None:
        parts = {
            str(file.relative_to(path)): file.read_bytes().decode("latin1")
            for file in sorted(path.rglob("*"))
            if file.is_file()
        }
        seeds.append(json.dumps(parts).encode())
        shutil.rmtree(path)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        for compressor in (None, numcodecs.Blosc(), numcodecs.Zlib(), numcodecs.LZ4()):
            make(path, "", grey, zarr_format=2, compressors=compressor, order="F")
            keep(path)
        codecs = [BloscCodec(), Crc32cCodec()]
        for how in (
            {"shards": (24, 20)},
            {"compressors": codecs, "filters": [TransposeCodec(order=(1, 0))]},
            {"serializer": BytesCodec(endian="big"), "dimension_names": ["y", "x"]},
        ):
            make(path, "", grey.astype(np.float32), **how)
            keep(path)
        for version in (2, 3):
            group = zarr.open_group(path, mode="w", zarr_format=version)
            make(path, "0", np.stack([grey, grey]), zarr_format=version)
            group.attrs.update({"multiscales": [image]} if version == 2 else {})
            group.attrs["omero" if version == 2 else "ome"] = {"multiscales": [image]}
            keep(path)
    return seeds


def mutate_store(rng: random.Random, data: bytes) -> bytes:
    """Return a store with changes in one of its files, by JSON where that is some, or by bytes."""
    parts = json.loads(data)
    name = rng.choice([name for name in parts if rng.random() < 0.3 or "." in name] or [*parts])
    content = parts[name].encode("latin1")
    try:
        is_json = isinstance(json.loads(content), dict)
    except ValueError:
        is_json = False
    mutate = mutate_json if is_json and rng.random() < 0.8 else mutate_bytes
    parts[name] = mutate(rng, content).decode("latin1")
    if rng.random() < 0.1:
        del parts[rng.choice([*parts])]
    return json.dumps(parts).encode()


def _read_store(path: Path) -> object:
    """Read a store that a file describes; one that describes none is not refused by dipfast."""
    try:
        parts = json.loads(path.read_bytes())
        contents = {name: content.encode("latin1") for name, content in parts.items()}
    except (ValueError, RecursionError, AttributeError):
        return None
    folder = path.with_name(f"{path.name}.zarr")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in contents.items():
        file = folder / name
        if not name or ".." in file.parts or name.startswith("/") or "\0" in name:
            return None
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        except (OSError, ValueError):  # a name that no file can have
            return None
    return _read_image(folder)


def _read_settings(path: Path) -> object:
    from dipfast.run.record import read_settings

    return read_settings(path)


def _read_checkpoint(path: Path) -> object:
    from dipfast.run.checkpoint import read_checkpoint

    return read_checkpoint(path)


# A new reader is one more line here, and its functions above.
READERS: dict[str, Reader] = {
    "image": Reader(images, _read_image, mutate_image),
    "raw": Reader(raw_photographs, _read_raw, mutate_image),
    "store": Reader(stores, _read_store, mutate_store),
    "settings": Reader(reports, _read_settings, mutate_json),
    "checkpoint": Reader(checkpoints, _read_checkpoint, mutate_checkpoint),
}


# --- one process that reads, and one that watches ----------------------------------------


class _TooLongError(BaseException):
    """A reader takes too long; readers do not catch it, because it is no Exception."""


def _interrupt(*_: Any) -> None:
    raise _TooLongError(f"more than {_SECONDS} s of processor time")


def _peak() -> int:
    """Return the bytes of memory that this process has held at most."""
    # Linux counts in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _work(name: str, seed: str, folder: Path, keep: Path, connection: Connection) -> None:
    """Read one mutation after the other, and tell the outcome of each."""
    reader, rng = READERS[name], random.Random(seed)
    seeds = reader.seeds()
    for number, content in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(content)
    path = folder / "input"
    logging.disable()
    warnings.simplefilter("error")
    signal.signal(signal.SIGPROF, _interrupt)
    outcome(reader, folder / "seed-0")  # what it imports or allocates once is not counted
    while True:
        data = rng.choice(seeds)
        data = reader.mutate(rng, data) if rng.random() < 0.5 else mutate_bytes(rng, data, seeds)
        if len(data) > _LARGEST_INPUT:
            continue
        path.write_bytes(data)
        before = _peak()
        kind, reason = outcome(reader, path)
        grown = _peak() - before
        if grown > _MEMORY:
            kind, reason = "findings", f"{grown / 2**20:.0f} MiB of memory, then {kind}"
        if kind == "findings":
            _keep(keep, name, path, reason)
        connection.send(kind)
        if grown > _MEMORY:
            return  # the peak would hide others; another process goes on


def outcome(reader: Reader, path: Path) -> tuple[str, str]:
    """Return ``"accepted"``, ``"refused"`` or ``"findings"``, and the reason of the last."""
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    try:
        reader.read(path)
        return "accepted", ""
    except reader.refusals as error:
        # A refusal must name the file.
        named = path.name in str(error)
        return ("refused", "") if named else ("findings", f"no name in: {traceback.format_exc()}")
    except (Exception, _TooLongError):
        return "findings", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _keep(keep: Path, name: str, path: Path, reason: str) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    content = path.read_bytes() if path.exists() else b""
    kept = keep / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"
    kept.write_bytes(content)
    kept.with_suffix(".txt").write_text(reason, errors="backslashreplace")
    print(f"{name}: {kept}: {reason.strip().splitlines()[-1]}", flush=True)


def fuzz(name: str, seconds: float, seed: int, keep: Path) -> Counter[str]:
    """Watch processes that read, one after the other, until the time is over."""
    context = multiprocessing.get_context("spawn")
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + seconds
    for attempt in range(1_000_000):
        if time.monotonic() >= end:
            break
        folder = Path(tempfile.mkdtemp())
        here, there = context.Pipe(duplex=False)
        arguments = (name, f"{seed}-{name}-{attempt}", folder, keep, there)
        process = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        there.close()
        reason = ""
        try:
            while (left := end - time.monotonic()) > 0:
                # The limit is long, because the first outcome comes after all imports.
                if here.poll(min(left, _STANDSTILL)):
                    outcomes[here.recv()] += 1
                elif time.monotonic() < end:
                    reason = f"nothing happened for {_STANDSTILL} s"
                    break
        except EOFError:
            process.join()
            if process.exitcode != 0:
                reason = f"the process ended with {process.exitcode}"
        process.kill()
        process.join()
        if reason:
            outcomes["findings"] += 1
            _keep(keep, name, folder / "input", reason)
        shutil.rmtree(folder)
    return outcomes


def main() -> int:
    """Fuzz as the command line says, and return 1 if there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=READERS, default=list(READERS))
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="folder")
    options = parser.parse_args()
    seconds = 60 * options.minutes / len(options.only)
    table = {name: fuzz(name, seconds, options.seed, options.keep) for name in options.only}
    columns = ("accepted", "refused", "findings")
    print("| reader | inputs |", " | ".join(columns), "|")
    print("|---" * (2 + len(columns)) + "|")
    for name, outcomes in table.items():
        counts = " | ".join(str(outcomes[column]) for column in columns)
        print(f"| {name} | {outcomes.total()} | {counts} |")
    return int(any(outcomes["findings"] for outcomes in table.values()))


if __name__ == "__main__":
    sys.exit(main())
