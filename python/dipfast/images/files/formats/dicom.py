"""DICOM: grey or RGB frames, with all that tags say of patient, examination and device."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from dipfast.errors import UnreadableFileError
from dipfast.images.files import limits
from dipfast.images.files.formats._dicom_pixels import GREY, MOST_FRAMES, Form, decode
from dipfast.images.files.formats._dicom_series import Series, check_alike, in_order
from dipfast.images.files.formats._dicom_tags import (
    Tags,
    check_frames,
    decimal,
    spacing_of,
    stack_name,
    without_frames,
    without_overlays,
)
from dipfast.images.files.formats._numbers import not_kept
from dipfast.images.files.image_file import ImageFile
from dipfast.images.files.safe import open_regular
from dipfast.warn import without_warnings

__all__ = ["read", "read_series", "write", "write_series"]

_Array = np.ndarray[Any, Any]

_HEAD = 132  # bytes before the first tag
_SC = SecondaryCaptureImageStorage
# Tags of the old pixels: their values at the ends, a small picture of them, signatures.
_OF_PIXELS = (
    *("SmallestImagePixelValue", "LargestImagePixelValue", "IconImageSequence"),
    *("DigitalSignaturesSequence", "MACParametersSequence"),
    *("InstanceCreationDate", "InstanceCreationTime", "PixelDataProviderURL"),
)
# Pixels, and where those of each frame are among them if they are compressed.
_PIXELS = (
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    "EncapsulatedPixelDataValueTotalLength",
)
# What a picture that comes from elsewhere does not know, and must be there nevertheless.
_UNKNOWN = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName", "StudyID", "SeriesNumber", "InstanceNumber"),
)
_DERIVATION = "restored with dipfast"
_LONGEST_TEXT = 1024
_NAMED = 5  # damaged tags that a warning names


def read(stream: BinaryIO) -> ImageFile:
    """Read the one image of a DICOM file, or the stack of its frames.

    The image is what the file stores: rescaling and windows are not applied, and MONOCHROME1
    stays inverted.  Colours become RGB.

    Parameters
    ----------
    stream
        The file, at its beginning.

    Returns
    -------
    ImageFile
        The image, with all tags.

    Raises
    ------
    UnreadableFileError
        If what the file declares is refused; the decoder may raise anything else.
    """
    with without_warnings():  # of pydicom, about values that are not quite as they should be
        dataset = _read_dataset(stream)
        form = Form.of(dataset)
        check_frames(dataset, form.frames)
        pixels = decode(dataset, form)
        metadata = {"dicom": _sound(_without_pixels(dataset)), **_metadata(dataset, form)}
        name = stack_name(dataset)
    if form.frames == 1:
        return ImageFile(pixels[0], None if form.samples == 1 else 2, None, metadata)
    axis = None if form.samples == 1 else 3
    return ImageFile(pixels, axis, None, metadata, stack_axes=(0,), stack_names=name)


def read_series(paths: Sequence[Path]) -> ImageFile:
    """Read a series of DICOM files as a stack of slices, along the normal of their plane.

    Parameters
    ----------
    paths
        Paths of the files.

    Returns
    -------
    ImageFile
        The stack, with the tags of all files.

    Raises
    ------
    UnreadableFileError
        If they are not slices of one volume, or what they declare is refused.
    """
    if len(paths) > MOST_FRAMES:
        raise UnreadableFileError(f"it holds {len(paths)} files, expected {MOST_FRAMES} at most")
    limits.check_file_size(sum(path.stat().st_size for path in paths))
    datasets: list[Dataset] = []
    tags: list[Tags] = []
    slices: list[_Array] = []
    form = None
    with without_warnings():
        for path in paths:
            with open_regular(path) as stream:
                dataset = _read_dataset(stream)
            found = Form.of(dataset)
            form = form or found
            check_alike(path.name, dataset, found, datasets[0] if datasets else dataset, form)
            limits.check_size(
                form.columns, form.rows, form.samples * len(paths), form.dtype.itemsize
            )
            slices.append(decode(dataset, found)[0])
            datasets.append(dataset)
            tags.append(_without_pixels(dataset))
        order = in_order(datasets)
        tags = [_sound(each) for each in tags]
        metadata = {
            "dicom": Series(tuple(paths[k].name for k in order), tuple(tags[k] for k in order)),
            **({} if form is None else _metadata(datasets[order[0]], form)),
        }
    pixels = np.stack([slices[k] for k in order])
    axis = None if pixels.ndim == 3 else 3
    return ImageFile(pixels, axis, None, metadata, stack_axes=(0,), stack_names="Z")


def _read_dataset(stream: BinaryIO) -> Dataset:
    """Return all tags of a file that has pixels."""
    _check_syntax(stream)
    stream.seek(0)
    dataset = pydicom.dcmread(stream)
    if "PixelData" not in dataset:
        raise UnreadableFileError(
            "it holds no pixels of whole numbers (PixelData), as reports, folders (DICOMDIR) "
            "and images of floats do not"
        )
    return dataset


def _without_pixels(dataset: Dataset) -> Tags:
    """Return tags, out of which the pixels have been taken."""
    for name in _PIXELS:
        dataset.pop(name, None)
    return Tags(dataset, ("overlays",) if without_overlays(dataset) else ())


def _metadata(dataset: Dataset, form: Form) -> dict[str, Any]:
    """Return what tags say that other formats have, too."""
    metadata: dict[str, Any] = {}
    resolution = spacing_of(dataset)
    if resolution is not None:
        metadata["resolution"] = resolution
    if 8 < form.stored < 16 and not form.signed:
        metadata["bits"] = form.stored
    profile = dataset.get("ICCProfile")
    if form.samples == 3 and isinstance(profile, bytes):
        metadata["icc_profile"] = profile
    return metadata


def _check_syntax(stream: BinaryIO) -> None:
    """Refuse files whose tags could become longer than the file, or could not be written again."""
    stream.seek(_HEAD)
    # The first group of tags is never compressed.
    meta = read_dataset(stream, False, True, stop_when=lambda tag, *_: tag.group != 2)
    syntax = meta.get("TransferSyntaxUID")
    if not isinstance(syntax, UID):
        raise UnreadableFileError("it does not say how it is stored (TransferSyntaxUID)")
    if syntax in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        raise UnreadableFileError(
            f"its transfer syntax, {syntax.name}, is not supported; write it as Explicit VR Little "
            "Endian, as dcmconv and gdcmconv do"
        )


def _sound(kept: Tags) -> Tags:
    """Return tags that can be written: without those that cannot, or none at all."""
    if _can_be_written(kept):
        return kept
    dataset = kept.dataset
    damaged = [tag for tag in list(dataset.keys()) if not _is_sound(dataset, tag)]
    for tag in damaged:
        del dataset[tag]
    named = ", ".join(map(str, damaged[:_NAMED])) + (", ..." if len(damaged) > _NAMED else "")
    lost = (f"damaged DICOM tags: {named}",) if damaged else ()
    rest = Tags(dataset, (*kept.lost, *lost))
    return rest if _can_be_written(rest) else Tags(Dataset(), ("DICOM tags, which are damaged",))


def _can_be_written(tags: Tags) -> bool:
    """Return whether tags can be written, and those of an enlarged picture too."""
    pixels = np.zeros((1, 1), np.uint8)
    try:
        for each in (tags, tags.enlarged(2)):
            write(BytesIO(), pixels, ImageFile(pixels, metadata={"dicom": each}))
    except Exception:  # pydicom raises exceptions of several types for damaged tags
        return False
    return True


def _is_sound(dataset: Dataset, tag: BaseTag) -> bool:
    """Return whether one of the tags can be written; it is decoded for good."""
    alone = Dataset()
    alone.PixelRepresentation = 0  # some numbers have a sign if the pixels have one
    try:
        alone.add(dataset[tag])
        pydicom.dcmwrite(BytesIO(), alone, implicit_vr=False, little_endian=True)
    except Exception:  # as above
        return False
    return True


def write(stream: BinaryIO, pixels: _Array, like: ImageFile) -> list[str]:
    """Write an image as DICOM, uncompressed, as one that is derived from that of the file.

    Parameters
    ----------
    stream
        Where to write.
    pixels
        Array (H, W) or (H, W, 3), behind the axes of a stack.
    like
        The image; if it is of a DICOM file, its tags are written too.

    Returns
    -------
    list of str
        What could not be kept, in words.
    """
    kept: Tags | Series | None = like.metadata.get("dicom")
    lost, stack = not_kept(like), len(like.stack_axes)
    if isinstance(kept, Series):
        kept = kept.as_one()
        lost += kept.lost
    if stack > 1:
        lost.append(f"that its {math.prod(pixels.shape[:stack])} frames are along {stack} axes")
    frames = pixels.reshape(-1, *pixels.shape[stack:])
    colour = frames.ndim == 4
    with without_warnings():
        if kept is not None and len(kept.dataset):
            dataset = copy.deepcopy(kept.dataset)
            kept_beside = {"resolution"}  # as it came, in the tags
            digest = _digest(pixels, str(dataset.get("SOPInstanceUID", "")))
            _derive(dataset, digest)
        else:
            digest = _digest(pixels)
            dataset = _captured(digest)
            kept_beside = {"resolution"} if _add_spacing(dataset, like) else set()
        if colour and "icc_profile" in like.metadata:
            dataset.ICCProfile = like.metadata["icc_profile"]
            kept_beside.add("colour profile")
        if stack and (dataset.get("NumberOfFrames") or 1) == 1:
            dataset.SOPClassUID = _kind_of_capture(pixels, stack)
        if _count_frames(dataset, len(frames) if stack else 1):
            lost.append("what its tags say of each frame")
        _add_pixels(dataset, frames, like.metadata.get("bits", 16))
        dataset.file_meta = meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        buffer = BytesIO()
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    stream.write(buffer.getbuffer())
    return [name for name in lost if name not in kept_beside]


def write_series(folder: Path, pixels: _Array, like: ImageFile) -> list[str]:
    """Write a stack as a series: for each slice a file of the name that it was read from.

    Parameters
    ----------
    folder
        Where to write, an empty folder.
    pixels
        Array (slices, H, W) or (slices, H, W, 3).
    like
        The stack, as it was read from a series.

    Returns
    -------
    list of str
        What could not be kept, in words.
    """
    series: Series = like.metadata["dicom"]
    lost: list[str] = []
    for name, tags, plane in zip(series.files, series.slices, pixels):
        metadata = {**like.metadata, "dicom": tags}
        one = ImageFile(plane, None if plane.ndim == 2 else 2, metadata=metadata)
        with open(folder / name, "xb") as stream:
            lost += write(stream, plane, one)
    return lost


def _digest(pixels: _Array, text: str = "") -> str:
    """Return a text that other pixels, or those of another image, do not have."""
    shape = f"{pixels.shape} {pixels.dtype} {text}".encode()
    return hashlib.sha256(shape + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _derive(dataset: Dataset, digest: str) -> None:
    """Make the tags of an image those of one that is derived from it."""
    for name in _OF_PIXELS:
        dataset.pop(name, None)
    source = Dataset()
    source.ReferencedSOPClassUID = dataset.get("SOPClassUID") or _SC
    source.ReferencedSOPInstanceUID = dataset.get("SOPInstanceUID") or generate_uid()
    if dataset.get("SOPInstanceUID"):
        dataset.SourceImageSequence = [source]
    dataset.SOPClassUID = source.ReferencedSOPClassUID
    # The same result of the same image is the same instance, and no other is.
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[digest])
    kind = dataset.get("ImageType") or ["", "SECONDARY"]
    kind = [kind] if isinstance(kind, str) else list(kind)
    dataset.ImageType = ["DERIVED", *(kind[1:] or ["SECONDARY"])]
    before = str(dataset.get("DerivationDescription") or "")
    if _DERIVATION not in before:
        text = f"{before}; {_DERIVATION}" if before else _DERIVATION
        dataset.DerivationDescription = text if len(text) <= _LONGEST_TEXT else before


def _kind_of_capture(pixels: _Array, stack: int) -> UID:
    """Return the class of secondary captures of several frames that pixels are one of."""
    if pixels.ndim == stack + 3:
        return MultiFrameTrueColorSecondaryCaptureImageStorage
    if pixels.dtype.itemsize == 1:
        return MultiFrameGrayscaleByteSecondaryCaptureImageStorage
    return MultiFrameGrayscaleWordSecondaryCaptureImageStorage


def _count_frames(dataset: Dataset, frames: int) -> bool:
    """Say in tags how many frames there are, and return whether that left out what they said."""
    if frames == (dataset.get("NumberOfFrames") or 1):
        return False
    lost = without_frames(dataset)
    dataset.pop("NumberOfFrames", None)
    if frames > 1:
        dataset.NumberOfFrames = frames
        # What tells frames from each other has to be said: their numbers.
        dataset.PageNumberVector = list(range(1, frames + 1))
        dataset.FrameIncrementPointer = tag_for_keyword("PageNumberVector")
    return lost


def _captured(digest: str) -> Dataset:
    """Return the tags of a picture that is of no DICOM file: a secondary capture of nobody."""
    dataset = Dataset()
    dataset.SOPClassUID = _SC
    for number, name in enumerate(("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")):
        setattr(dataset, name, generate_uid(entropy_srcs=[digest, str(number)]))
    for name in _UNKNOWN:
        setattr(dataset, name, None)
    dataset.Modality = "OT"
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.DerivationDescription = _DERIVATION
    return dataset


def _add_spacing(dataset: Dataset, like: ImageFile) -> bool:
    """Add the distance of pixels to tags, and return whether it can be said in millimetres."""
    resolution = like.metadata.get("resolution")
    metric = None if resolution is None or not resolution.unit else resolution.to("mm")
    if metric is None:
        return False
    dataset.PixelSpacing = [decimal(float(1 / each)) for each in (metric.y, metric.x)]
    return True


def _add_pixels(dataset: Dataset, pixels: _Array, declared: int) -> None:
    """Add pixels of frames to tags, in as many bits as the file that the tags are of has."""
    colour = pixels.ndim == 4
    signed = pixels.dtype.kind == "i"
    allocated = bits = 8 * pixels.dtype.itemsize
    if not dataset.get("BitsStored") and pixels.dtype == np.uint16:
        bits = declared if pixels.max() < 1 << declared else bits
    same = (dataset.get("BitsAllocated"), dataset.get("PixelRepresentation", 0))
    if not colour and same == (allocated, int(signed)):
        bits = dataset.BitsStored
        # What the restored image has beyond the bits is cut.
        pixels = pixels.clip(-(1 << (bits - 1)) if signed else 0, (1 << (bits - signed)) - 1)
    grey = dataset.get("PhotometricInterpretation")
    grey = grey if grey in GREY else "MONOCHROME2"
    dataset.PhotometricInterpretation = "RGB" if colour else grey
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.pop("PlanarConfiguration", None)
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[1:3]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = allocated, bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset.add_new("PixelData", "OB" if allocated == 8 else "OW", data + bytes(len(data) % 2))
