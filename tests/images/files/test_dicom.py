"""DICOM as image files: stored numbers, tags, and files that are not what they declare."""

from __future__ import annotations

import io
import struct
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from dipfast.apps.cli import main
from dipfast.errors import MissingExtraError, UnreadableFileError
from dipfast.images.files import ImageFile, Resolution, limits, read_image, write_image

pydicom = pytest.importorskip("pydicom", reason="DICOM needs the extra dicom")
encaps = pytest.importorskip("pydicom.encaps")
uid = pytest.importorskip("pydicom.uid")

CT = "1.2.840.10008.5.1.4.1.1.2"
INSTANCE = "1.2.3.4"


def numbers(shape: tuple[int, ...], dtype: str, bits: int) -> np.ndarray:
    """Return random numbers over the whole range of so many bits."""
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype[0] == "i" else (0, 2**bits - 1)
    array = np.random.default_rng(0).integers(least, most, shape, endpoint=True).astype(dtype)
    array.flat[:2] = least, most
    return array


def dataset(pixels: np.ndarray, bits: int | None = None, **tags: Any) -> Any:
    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = CT, INSTANCE
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3", "1.2.3.5"
    made.PatientName, made.PatientID = "Doe^Jane", "42"
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    made.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated = 8 * pixels.dtype.itemsize
    made.BitsStored = bits or made.BitsAllocated
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.add_new("PixelData", "OW", pixels.tobytes() + bytes(pixels.nbytes % 2))
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def content_of(made: Any) -> bytes:
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, made, enforce_file_format=True)
    return stream.getvalue()


def compressed(pixels: np.ndarray, frame: bytes, syntax: str, **tags: Any) -> bytes:
    """Return a file of one frame that was compressed elsewhere."""
    made = dataset(pixels, **tags)
    made.file_meta.TransferSyntaxUID = syntax
    made.add_new("PixelData", "OB", encaps.encapsulate([frame]))
    made["PixelData"].is_undefined_length = True
    return content_of(made)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.dcm"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.dcm"


def read(path: Path, content: bytes) -> ImageFile:
    path.write_bytes(content)
    return read_image(path)


def refusal(path: Path, content: bytes) -> str:
    with pytest.raises(UnreadableFileError) as caught:
        read(path, content)
    return str(caught.value).removeprefix(f"cannot read {path}: ")


class TestNumbers:
    @pytest.mark.parametrize(
        ("dtype", "bits"),
        [
            *(("uint8", 8), ("uint8", 7), ("int8", 8), ("uint16", 16), ("uint16", 12)),
            *(("uint16", 10), ("int16", 16), ("int16", 12), ("int16", 13)),
        ],
    )
    @pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
    def test_stored_numbers_stay(
        self, path: Path, out: Path, dtype: str, bits: int, kind: str
    ) -> None:
        array = numbers((9, 7), dtype, bits)
        tags = {"RescaleSlope": 2, "RescaleIntercept": -1024, "PhotometricInterpretation": kind}
        source = read(path, content_of(dataset(array, bits, **tags)))
        assert (source.format, source.channel_axis, source.alpha) == ("DICOM", None, None)
        assert source.image.dtype == dtype
        assert np.array_equal(source.image, array)
        write_image(out, source.image, like=source)
        kept = pydicom.dcmread(out)
        assert np.array_equal(kept.pixel_array, array)
        assert (kept.BitsStored, kept.HighBit) == (bits, bits - 1)
        assert (kept.RescaleSlope, kept.RescaleIntercept) == (2, -1024)
        assert kept.PhotometricInterpretation == kind

    @pytest.mark.parametrize("dtype", ["uint16", "int16"])
    def test_results_are_cut_to_the_bits(self, path: Path, out: Path, dtype: str) -> None:
        array = numbers((9, 7), dtype, 12)
        source = read(path, content_of(dataset(array, 12)))
        write_image(out, source.image + np.array(300, dtype), like=source)
        kept = pydicom.dcmread(out).pixel_array
        assert np.array_equal(kept, (array + 300).clip(None, array.max()))

    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    @pytest.mark.parametrize("planar", [0, 1])
    def test_colours(self, path: Path, out: Path, dtype: str, planar: int) -> None:
        array = numbers((9, 7, 3), dtype, np.dtype(dtype).itemsize * 8)
        stored = np.ascontiguousarray(np.moveaxis(array, 2, 0)) if planar else array
        data = stored.tobytes() + bytes(array.nbytes % 2)
        made = dataset(array, PlanarConfiguration=planar, PixelData=data)
        source = read(path, content_of(made))
        assert source.channel_axis == 2
        assert np.array_equal(source.image, array)
        write_image(out, source.image, like=source)
        assert np.array_equal(pydicom.dcmread(out).pixel_array, array)

    def test_implicit_tags(self, path: Path, out: Path) -> None:
        array = numbers((9, 7), "uint16", 16)
        made = dataset(array)
        made.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
        source = read(path, content_of(made))
        assert np.array_equal(source.image, array)
        write_image(out, source.image, like=source)
        assert pydicom.dcmread(out).PatientName == "Doe^Jane"

    def test_bits_that_are_not_used(self, path: Path) -> None:
        array = numbers((9, 7), "uint16", 16)
        source = read(path, content_of(dataset(array, 12)))
        assert np.array_equal(source.image, array & 4095)

    def test_depth_in_other_formats(self, path: Path, tmp_path: Path) -> None:
        source = read(path, content_of(dataset(numbers((9, 7), "uint16", 12), 12)))
        with pytest.warns(UserWarning, match="is without: tags of patient"):
            write_image(tmp_path / "out.png", source.image, like=source)
        assert read_image(tmp_path / "out.png").image.max() == 65535


class TestCompressed:
    def test_run_lengths(self, path: Path, out: Path) -> None:
        for shape, dtype in (((9, 7), "int16"), ((9, 7, 3), "uint8")):
            array = numbers(shape, dtype, 8)
            made = dataset(array)
            made.compress(uid.RLELossless, array, generate_instance_uid=False)
            source = read(path, content_of(made))
            assert np.array_equal(source.image, array)
            write_image(out, source.image, like=source, overwrite=True)
            kept = pydicom.dcmread(out)
            assert kept.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
            assert np.array_equal(kept.pixel_array, array)

    @pytest.mark.parametrize("dtype", ["uint16", "int16"])
    def test_lossless_jpeg(self, path: Path, dtype: str) -> None:
        array = numbers((9, 8), dtype, 12)
        coded = (array & 4095).astype(np.uint16)
        for syntax, frame in (
            (uid.JPEGLosslessSV1, imagecodecs.ljpeg_encode(coded, bitspersample=12)),
            (uid.JPEGLSLossless, imagecodecs.jpegls_encode(coded)),
        ):
            source = read(path, compressed(array, bytes(frame), syntax, bits=12))
            assert np.array_equal(source.image, array)

    def test_offsets_of_compressed_frames_are_not_kept(self, path: Path, out: Path) -> None:
        array = numbers((9, 7), "uint8", 8)
        frame = bytes(imagecodecs.ljpeg_encode(array))
        made = pydicom.dcmread(io.BytesIO(compressed(array, frame, uid.JPEGLosslessSV1)))
        data, table, lengths = encaps.encapsulate_extended([frame])
        made.PixelData, made.ExtendedOffsetTable, made.ExtendedOffsetTableLengths = (
            data,
            table,
            lengths,
        )
        made.add_new((0x7FE0, 0x0003), "UV", len(data))
        source = read(path, content_of(made))
        assert np.array_equal(source.image, array)
        write_image(out, source.image, like=source)
        kept = pydicom.dcmread(out)
        assert [each.keyword for each in kept if each.tag.group == 0x7FE0] == ["PixelData"]

    def test_jpeg_2000(self, path: Path) -> None:
        array = numbers((40, 36), "uint16", 12)
        frame = bytes(imagecodecs.jpeg2k_encode(array, level=0, codecformat="j2k"))
        source = read(path, compressed(array, frame, uid.JPEG2000Lossless))
        assert np.array_equal(source.image, array)

    def test_baseline_jpeg_becomes_rgb(self, path: Path, out: Path) -> None:
        array = np.full((16, 16, 3), (200, 60, 20), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(array).save(stream, "JPEG", quality=95)
        tags = {"PhotometricInterpretation": "YBR_FULL_422", "LossyImageCompression": "01"}
        content = compressed(array, stream.getvalue(), uid.JPEGBaseline8Bit, **tags)
        source = read(path, content)
        assert abs(source.image.astype(int) - array).max() <= 3
        write_image(out, source.image, like=source)
        kept = pydicom.dcmread(out)
        assert kept.PhotometricInterpretation == "RGB"
        assert kept.LossyImageCompression == "01"
        assert np.array_equal(kept.pixel_array, source.image)

    @pytest.mark.parametrize("kind", ["YBR_FULL_422", "YBR_FULL", "RGB"])
    @pytest.mark.parametrize("jfif", [True, False])
    def test_colours_of_adobe_are_converted_once(self, path: Path, kind: str, jfif: bool) -> None:
        array = np.full((16, 16, 3), (200, 60, 20), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(array).save(stream, "JPEG", quality=95)
        frame = stream.getvalue()
        adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01"  # colours are YCbCr
        frame = frame[: 20 if jfif else 2] + adobe + frame[20:]
        content = compressed(array, frame, uid.JPEGBaseline8Bit, PhotometricInterpretation=kind)
        assert abs(read(path, content).image.astype(int) - array).max() <= 3

    @pytest.mark.parametrize("kind", ["YBR_FULL_422", "RGB"])
    def test_colours_that_adobe_calls_rgb(self, path: Path, kind: str) -> None:
        array = np.full((16, 16, 3), (200, 60, 20), np.uint8)
        stream = io.BytesIO()
        stored = array if kind == "RGB" else np.array(Image.fromarray(array).convert("YCbCr"))
        Image.fromarray(stored).save(stream, "JPEG", quality=95, keep_rgb=True)
        frame = stream.getvalue()
        assert frame[2:4] == b"\xff\xee"
        # With the usual numbers in place of letters, the marker alone says what they are.
        frame = frame.replace(b"R\x11\0G\x11\0B\x11\0", b"\1\x11\0\2\x11\0\3\x11\0")
        frame = frame.replace(b"R\0G\0B\0", b"\1\0\2\0\3\0")
        content = compressed(array, frame, uid.JPEGBaseline8Bit, PhotometricInterpretation=kind)
        assert abs(read(path, content).image.astype(int) - array).max() <= 3

    @pytest.mark.parametrize(
        "syntax", ["HTJ2KLossless", "MPEG2MPML", "ExplicitVRBigEndian", "JPEGLossless"]
    )
    def test_others_are_refused_by_name(self, path: Path, syntax: str) -> None:
        # Colours of lossless JPEG need a library that pydicom finds by itself.
        array = numbers((9, 7, 3), "uint8", 8)
        kind = getattr(uid, syntax)
        if syntax == "ExplicitVRBigEndian":
            made = dataset(array)
            made.file_meta.TransferSyntaxUID = kind
            content = content_of(made)
        else:
            content = compressed(array, b"\xff\xd8", kind)
        message = refusal(path, content)
        assert message.startswith(f"its transfer syntax, {kind.name[:70]}, is not supported; ")
        assert "Explicit VR Little Endian" in message


class TestTags:
    def test_a_result_is_derived(self, path: Path, out: Path) -> None:
        tags: dict[str, Any] = {"WindowCenter": 40, "SeriesDescription": "Schädel"}
        tags |= {"SpecificCharacterSet": "ISO_IR 100", "LargestImagePixelValue": 9}
        made = dataset(numbers((9, 7), "int16", 12), 12, **tags)
        made.add_new((0x0009, 0x0010), "LO", "PRIVATE")
        made.add_new((0x0009, 0x1001), "LO", "of the maker")
        content = content_of(made)
        source = read(path, content)
        write_image(out, source.image // 2, like=source)
        before, kept = pydicom.dcmread(path), pydicom.dcmread(out)
        assert kept.ImageType == ["DERIVED", "PRIMARY", "AXIAL"]
        assert kept.SOPInstanceUID != INSTANCE
        assert kept.SOPInstanceUID == kept.file_meta.MediaStorageSOPInstanceUID
        assert kept.SourceImageSequence[0].ReferencedSOPInstanceUID == INSTANCE
        assert kept.DerivationDescription == "restored with dipfast"
        assert "LargestImagePixelValue" not in kept
        changed = {"ImageType", "SOPInstanceUID", "LargestImagePixelValue", "PixelData"}
        for element in before:
            if element.keyword not in changed:
                assert kept[element.tag].value == element.value
        assert path.read_bytes() == content

    def test_the_same_result_is_the_same_instance(self, path: Path, tmp_path: Path) -> None:
        source = read(path, content_of(dataset(numbers((9, 7), "int16", 12))))
        instances = []
        for number, pixels in enumerate((source.image, source.image, source.image // 2)):
            write_image(tmp_path / f"{number}.dcm", pixels, like=source)
            instances.append(pydicom.dcmread(tmp_path / f"{number}.dcm").SOPInstanceUID)
        assert instances[0] == instances[1] != instances[2]

    def test_distance_of_pixels(self, path: Path, tmp_path: Path) -> None:
        source = read(
            path, content_of(dataset(numbers((9, 7), "uint8", 8), PixelSpacing=[0.5, 0.2]))
        )
        assert source.metadata["resolution"] == Resolution(Fraction(5), Fraction(2), "mm")
        with pytest.warns(UserWarning, match="tags of patient"):
            write_image(tmp_path / "out.tif", source.image, like=source)
        assert read_image(tmp_path / "out.tif").metadata["resolution"].to("mm").x == 5

    def test_enlarged(self, path: Path, out: Path) -> None:
        tags: dict[str, Any] = {"PixelSpacing": [0.5, 0.25], "ImagerPixelSpacing": [0.6, 0.3]}
        tags |= {"ImagePositionPatient": [10, 20, 30], "ShutterShape": "CIRCULAR"}
        tags |= {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        made = dataset(numbers((9, 7), "uint8", 8), **tags)
        made.add_new((0x6000, 0x0010), "US", 9)
        source = read(path, content_of(made))
        large = np.kron(source.image, np.ones((2, 2), np.uint8))
        with pytest.warns(UserWarning, match=r"is without: shutters, overlays$"):
            write_image(out, large, like=source)
        kept = pydicom.dcmread(out)
        assert kept.PixelSpacing == [0.25, 0.125]
        assert kept.ImagerPixelSpacing == [0.3, 0.15]
        # The corner of the picture stays where it was.
        assert kept.ImagePositionPatient == [10 - 0.0625, 20 - 0.125, 30]
        assert (kept.Rows, kept.Columns) == (18, 14)

    @pytest.mark.parametrize("axes", [None, [1, 0, 0, 0, -1, 0], [0, 1, 0, 1, 0, 0]])
    def test_an_enlarged_image_of_radiotherapy(
        self, path: Path, out: Path, axes: list[int] | None
    ) -> None:
        tags: dict[str, Any] = {"ImagePlanePixelSpacing": [0.5, 0.25], "RTImagePosition": [-10, 20]}
        tags |= {} if axes is None else {"RTImageOrientation": axes}
        source = read(path, content_of(dataset(numbers((9, 7), "uint8", 8), **tags)))
        assert source.metadata["resolution"] == Resolution(Fraction(4), Fraction(2), "mm")
        write_image(out, np.kron(source.image, np.ones((2, 2), np.uint8)), like=source)
        kept = pydicom.dcmread(out)
        assert kept.ImagePlanePixelSpacing == [0.25, 0.125]
        upright = axes is None or axes[0]
        # Rows of an upright image go down, and the axis of the receptor up.
        first = [-10 - 0.0625, 20 + 0.125] if upright else [-10 - 0.125, 20 - 0.0625]
        assert kept.RTImagePosition == first

    def test_overlays_in_bits_of_pixels(self, path: Path, out: Path) -> None:
        array = numbers((9, 7), "uint16", 12)
        made = dataset(array | np.uint16(1 << 14), 12)
        for group, bit in ((0x6000, 14), (0x6002, 0)):
            made.add_new((group, 0x0010), "US", 9)
            made.add_new((group, 0x0102), "US", bit)
        made.add_new((0x6002, 0x3000), "OW", bytes(8))
        source = read(path, content_of(made))
        assert np.array_equal(source.image, array)
        with pytest.warns(UserWarning, match=r"is without: overlays$"):
            write_image(out, source.image, like=source)
        # The one with data of its own stays.
        groups = {tag.group for tag in list(pydicom.dcmread(out).keys())}
        assert 0x6002 in groups
        assert 0x6000 not in groups

    def test_a_picture_of_another_format(self, out: Path) -> None:
        array = numbers((9, 7, 3), "uint8", 8)
        resolution = Resolution.of(4, 2, "mm")
        metadata = {"resolution": resolution, "icc_profile": b"some profile"}
        write_image(out, array, like=ImageFile(array, 2, metadata=metadata))
        kept = pydicom.dcmread(out)
        assert kept.SOPClassUID == uid.SecondaryCaptureImageStorage
        assert kept.PatientName == ""
        assert kept.PixelSpacing == [0.5, 0.25]
        got = read_image(out)
        assert np.array_equal(got.image, array)
        assert got.metadata["resolution"] == resolution
        assert got.metadata["icc_profile"] == b"some profile"

    def test_what_other_formats_lack_is_named(self, path: Path, tmp_path: Path) -> None:
        tags = {"RescaleSlope": 2, "PhotometricInterpretation": "MONOCHROME1"}
        source = read(path, content_of(dataset(numbers((9, 7), "uint8", 8), **tags)))
        message = (
            r"DICOM has\), inversion of brightness \(which DICOM has\), rescaling of its numbers \("
        )
        with pytest.warns(UserWarning, match=message):
            write_image(tmp_path / "out.png", source.image, like=source)

    @pytest.mark.parametrize("damaged", [False, True])
    def test_tags_stored_in_another_way_than_declared(
        self, path: Path, out: Path, damaged: bool
    ) -> None:
        # Implicit tags in a file that declares explicit ones, as some devices write it.
        array = numbers((9, 8), "uint8", 8)
        made = dataset(array, PregnancyStatus=1)
        explicit = content_of(made)
        del made.file_meta
        stream = io.BytesIO()
        pydicom.dcmwrite(stream, made, implicit_vr=True, little_endian=True)
        tags = stream.getvalue()
        if damaged:
            # A number of two bytes has three.
            head = b"\x10\x00\xc0\x21"
            tags = tags.replace(head + b"\x02\0\0\0\x01\0", head + b"\x03\0\0\0\x01\0\0")
        source = read(path, explicit[: explicit.index(b"\x08\x00\x08\x00CS")] + tags)
        assert np.array_equal(source.image, array)
        if damaged:
            with pytest.warns(UserWarning, match=r"without: damaged DICOM tags: \(0010,21C0\)$"):
                write_image(out, source.image, like=source)
        else:
            write_image(out, source.image, like=source)
        kept = pydicom.dcmread(out)
        assert kept.PatientID == "42"
        assert kept.get("PregnancyStatus") == (None if damaged else 1)


class TestRefused:
    def test_frames(self, path: Path) -> None:
        made = dataset(numbers((9, 7), "uint8", 8), NumberOfFrames=3)
        message = "it declares 189 bytes of pixels, and there are 64"
        assert refusal(path, content_of(made)) == message

    def test_no_pixels(self, path: Path) -> None:
        made = dataset(numbers((9, 7), "uint8", 8))
        del made.PixelData
        assert refusal(path, content_of(made)).startswith("it holds no pixels")

    @pytest.mark.parametrize(
        ("tags", "reason"),
        [
            ({"PhotometricInterpretation": "PALETTE COLOR"}, "pixels of the kind PALETTE COLOR"),
            ({"SamplesPerPixel": 2}, "pixels of the kind MONOCHROME2 in 2 samples"),
            ({"BitsAllocated": 32}, "samples of 8 bits in 32"),
            ({"BitsStored": 9}, "samples of 9 bits in 8"),
            ({"HighBit": 3}, "samples of 8 bits in 8, the highest bit 3"),
            ({"Rows": 0}, "it declares 7 x 0 pixels"),
            ({"Rows": None}, "it declares nothing as Rows"),
            ({"Rows": 10}, "it declares 70 bytes of pixels, and there are 64"),
        ],
    )
    def test_kinds(self, path: Path, tags: dict[str, Any], reason: str) -> None:
        made = dataset(numbers((9, 7), "uint8", 8), **tags)
        assert refusal(path, content_of(made)).startswith(reason)

    def test_limit(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        content = content_of(dataset(numbers((30, 40), "uint16", 16)))
        monkeypatch.setattr(limits, "LARGEST_IMAGE", 30 * 40 * 2)
        assert read(path, content).image.shape == (30, 40)
        monkeypatch.setattr(limits, "LARGEST_IMAGE", 30 * 40 * 2 - 1)
        assert refusal(path, content).startswith("it declares 40 x 30 pixels of 2 bytes")

    def test_compressed_pixels_of_another_size(self, path: Path) -> None:
        array = numbers((9, 8), "uint8", 8)
        for syntax, frame in (
            (uid.JPEGLosslessSV1, imagecodecs.ljpeg_encode(array)),
            (uid.JPEGLSLossless, imagecodecs.jpegls_encode(array)),
            (uid.JPEGBaseline8Bit, imagecodecs.jpeg8_encode(array)),
            (uid.JPEG2000Lossless, imagecodecs.jpeg2k_encode(array, level=0, codecformat="j2k")),
        ):
            other = array[:, :7]
            message = refusal(path, compressed(np.ascontiguousarray(other), bytes(frame), syntax))
            assert message.startswith("its compressed pixels have the shape (9, 8, 1), expected")

    def test_jpeg_of_many_scans(self, path: Path) -> None:
        array = numbers((9, 8), "uint8", 8)
        frame = bytes(imagecodecs.jpeg8_encode(array))
        frame = frame[:-2] + frame[frame.rindex(b"\xff\xda") : -2] * 200 + frame[-2:]
        message = refusal(path, compressed(array, frame, uid.JPEGBaseline8Bit))
        assert "scans, expected" in message

    def test_tags_that_are_compressed(self, path: Path) -> None:
        made = dataset(numbers((9, 7), "uint8", 8))
        made.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
        assert "Deflated Explicit VR Little Endian" in refusal(path, content_of(made))

    def test_truncated(self, path: Path) -> None:
        content = content_of(dataset(numbers((9, 7), "uint16", 12), 12))
        for length in range(132, len(content) - 2, 23):
            assert refusal(path, content[:length])

    def test_sequences_within_sequences(self, path: Path) -> None:
        made = content_of(dataset(numbers((9, 7), "uint8", 8)))
        at = made.index(b"\x10\x00\x10\x00PN")
        item = struct.pack("<HHI", 0xFFFE, 0xE000, 2**32 - 1)
        deep = 3000 * (b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + item)
        assert refusal(path, made[:at] + deep + made[at:])


def test_without_the_extra(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(content_of(dataset(numbers((9, 7), "uint8", 8))))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.delitem(sys.modules, "dipfast.images.files.formats.dicom", raising=False)
    with pytest.raises(MissingExtraError, match=r"DICOM files need .*'dipfast\[dicom\]'"):
        read_image(path)


def test_command_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    scene = 500 + np.random.default_rng(0).normal(0, 30, (64, 64))
    path.write_bytes(content_of(dataset(scene.astype(np.int16), 12)))
    assert main(["denoise", "in.dcm", "out.dcm", "--quality", "fast", "--quiet"]) == 0
    kept = pydicom.dcmread("out.dcm")
    assert kept.PatientName == "Doe^Jane"
    assert kept.BitsStored == 12
    assert kept.pixel_array.std() < scene.std()
