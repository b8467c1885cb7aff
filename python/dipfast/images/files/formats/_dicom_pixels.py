"""Pixels of DICOM, which are checked before anything is decoded."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import islice
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dipfast.errors import UnreadableFileError
from dipfast.images.files import limits
from dipfast.images.files.formats._jpeg_data import check_scans, frame_shape

__all__ = ["GREY", "MOST_FRAMES", "Form", "decode"]

_Array = np.ndarray[Any, Any]

GREY = ("MONOCHROME1", "MONOCHROME2")
"""What DICOM calls pictures of brightness; bright is dark in the first."""

MOST_FRAMES = 4096
"""The most frames of a file, and files of a series."""

_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
# JPEG that Pillow decodes.
_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit)
_JPEG_2000 = (JPEG2000Lossless, JPEG2000)
# Grey pictures of these, which pydicom cannot decode by itself, or in 8 bits only.
_DECODERS: dict[UID, Callable[[bytes], _Array]] = {
    JPEGExtended12Bit: imagecodecs.jpeg_decode,
    JPEGLossless: imagecodecs.ljpeg_decode,
    JPEGLosslessSV1: imagecodecs.ljpeg_decode,
    JPEGLSLossless: imagecodecs.jpegls_decode,
    JPEGLSNearLossless: imagecodecs.jpegls_decode,
}
_ADVICE = "write it uncompressed (Explicit VR Little Endian), as dcmconv, dcmdjpeg or gdcmconv do"


class Form(NamedTuple):
    """How the pixels of a picture are stored.

    Attributes
    ----------
    frames
        How many images there are, all of this form.
    rows, columns, samples
        The size, and the number of samples of a pixel.
    photometric
        What the numbers mean, as DICOM names it.
    allocated, stored
        Bits that a sample takes, and those of them that are used.
    signed
        Whether samples have a sign.
    """

    frames: int
    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    signed: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of an image."""
        return (self.rows, self.columns, self.samples)[: 2 if self.samples == 1 else 3]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of the numbers."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.allocated // 8}")

    @classmethod
    def of(cls, dataset: Dataset) -> Form:
        """Return what a dataset declares, and refuse what is not read.

        Parameters
        ----------
        dataset
            A dataset with pixels.

        Returns
        -------
        Form
            The form.

        Raises
        ------
        UnreadableFileError
            If it is of a kind that is not read, or too large.
        """
        frames = _number(dataset, "NumberOfFrames", 1)
        if not 1 <= frames <= MOST_FRAMES:
            raise UnreadableFileError(
                f"it declares {frames} frames, expected from 1 to {MOST_FRAMES}"
            )
        rows, columns, samples, allocated, stored, high = (
            _number(dataset, name)
            for name in (
                *("Rows", "Columns", "SamplesPerPixel"),
                *("BitsAllocated", "BitsStored", "HighBit"),
            )
        )
        photometric = str(dataset.get("PhotometricInterpretation", ""))[:30]
        if samples != {**dict.fromkeys(GREY, 1), **dict.fromkeys(_COLOURS, 3)}.get(photometric):
            raise UnreadableFileError(
                f"pixels of the kind {photometric or 'without a name'} in {samples} samples are "
                "not supported; convert the picture to RGB or MONOCHROME2"
            )
        signed = _number(dataset, "PixelRepresentation", 0)
        colour = samples == 3
        if (
            allocated not in (8, 16)
            or not 1 <= stored <= allocated
            or high != stored - 1
            or signed not in (0, 1)
            or (colour and (stored != allocated or (signed and photometric != "RGB")))
        ):
            raise UnreadableFileError(
                f"samples of {stored} bits in {allocated}, the highest bit {high}, are not "
                "supported; convert the picture to 8 or 16 bits"
            )
        limits.check_size(columns, rows, samples * frames, allocated // 8)
        return cls(frames, rows, columns, samples, photometric, allocated, stored, bool(signed))


def _number(dataset: Dataset, name: str, usual: int | None = None) -> int:
    """Return a whole number of a dataset."""
    value = dataset.get(name)
    if value is None and usual is not None:
        return usual
    if not isinstance(value, int):
        what = "nothing" if value is None else repr(value)[:30]
        raise UnreadableFileError(f"it declares {what} as {name}, expected a whole number")
    return int(value)


def decode(dataset: Dataset, form: Form) -> _Array:
    """Return the pixels of a picture.

    Parameters
    ----------
    dataset
        The dataset, in a form that its file declares.
    form
        The form of its pixels.

    Returns
    -------
    ndarray
        Array (frames, H, W) or, in RGB, (frames, H, W, 3), of the numbers that are stored.

    Raises
    ------
    UnreadableFileError
        If they are damaged, or compressed in a way that is not read.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in _NATIVE:
        _check_length(dataset, form)
        frames = iter_pixels(dataset)
    else:
        frames = _decompressed(dataset, form, syntax)
    decoded = np.empty((form.frames, *form.shape), form.dtype)
    count = 0
    for frame in islice(frames, form.frames):
        same = frame.shape == form.shape and frame.dtype.itemsize == form.dtype.itemsize
        if not same:
            raise UnreadableFileError("its pixels differ from what it declares")
        decoded[count] = np.array(frame, frame.dtype.newbyteorder("=")).view(form.dtype)
        count += 1
    if count < form.frames:
        raise UnreadableFileError(f"it declares {form.frames} frames, and there are {count}")
    return _used_bits(decoded, form)


def _check_length(dataset: Dataset, form: Form) -> None:
    """Check that pixels that are not compressed are there."""
    samples = 2 if form.photometric == "YBR_FULL_422" else form.samples
    size = form.frames * form.rows * form.columns * samples * form.allocated // 8
    held = len(dataset.PixelData)
    if held < size:
        raise UnreadableFileError(f"it declares {size} bytes of pixels, and there are {held}")


def _decompressed(dataset: Dataset, form: Form, syntax: UID) -> Iterator[_Array]:
    """Return the pixels of each frame of a picture that is compressed."""
    own = _DECODERS.get(syntax) if form.samples == 1 else None
    available = syntax.is_compressed and syntax.is_transfer_syntax and _is_available(syntax)
    if own is None and not available:
        raise UnreadableFileError(
            f"its transfer syntax, {syntax.name[:70]}, is not supported; {_ADVICE}"
        )
    if syntax != RLELossless:
        for frame in _compressed(dataset, form):
            _check_frame(frame, form, syntax)
    if own is None and form.samples > 1 and syntax in _LOSSY:
        converted = {_becomes_rgb(frame) for frame in _compressed(dataset, form)}
        if len(converted) > 1:
            raise UnreadableFileError(
                f"the colours of its frames are stored in different ways; {_ADVICE}"
            )
        if converted == {True}:
            return iter_pixels(dataset, as_rgb=False, decoding_plugin="pillow")
    if own is None:
        return iter_pixels(dataset)
    return map(own, _compressed(dataset, form))


def _compressed(dataset: Dataset, form: Form) -> Iterator[bytes]:
    """Return the bytes of each frame."""
    return islice(generate_frames(dataset.PixelData, number_of_frames=form.frames), form.frames)


def _check_frame(frame: bytes, form: Form, syntax: UID) -> None:
    """Check that a frame decodes to what is declared."""
    check_scans(frame)
    found = _jpeg_2000_shape(frame) if syntax in _JPEG_2000 else frame_shape(frame)
    if found != (form.rows, form.columns, form.samples):
        raise UnreadableFileError(
            f"its compressed pixels have the shape {found}, expected "
            f"{(form.rows, form.columns, form.samples)} as it declares"
        )


def _becomes_rgb(frame: bytes) -> bool:
    """Return whether pydicom gets a JPEG as RGB from Pillow, whatever the tags say it is.

    It asks for the colours as they are stored, unless there is a marker of Adobe.  Then libjpeg
    converts them, but for those that the marker calls RGB where no marker of JFIF comes before.
    """
    with Image.open(BytesIO(frame), formats=("JPEG",)) as image:
        said = image.info
    return "adobe_transform" in said and ("jfif" in said or said["adobe_transform"] != 0)


def _is_available(syntax: UID) -> bool:
    """Return whether pydicom decodes a transfer syntax."""
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def _jpeg_2000_shape(frame: bytes) -> tuple[int, ...]:
    """Return height, width and components that JPEG 2000 declares; (0,) if it does not begin so."""
    if not frame.startswith(b"\xff\x4f\xff\x51") or len(frame) < 42:
        return (0,)
    width, height, left, top = struct.unpack_from(">4I", frame, 8)
    (components,) = struct.unpack_from(">H", frame, 40)
    return height - top, width - left, components


def _used_bits(pixels: _Array, form: Form) -> _Array:
    """Return pixels without what is in bits that are not used, as old overlays are."""
    unused = form.allocated - form.stored
    # Shifted to the end and back, signed numbers get their sign again.
    return pixels << unused >> unused if unused else pixels
