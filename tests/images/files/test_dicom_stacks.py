"""Stacks of DICOM: several frames in a file, and series of slices, a file for each."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from dipfast.apps.cli import main
from dipfast.errors import UnreadableFileError, UnwritableFileError
from dipfast.images.files import Resolution, check_output, limits, read_image, write_image

pydicom = pytest.importorskip("pydicom", reason="DICOM needs the extra dicom")
encaps = pytest.importorskip("pydicom.encaps")
uid = pytest.importorskip("pydicom.uid")
dicom = pytest.importorskip("dipfast.images.files.formats.dicom")

CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
TURN = [1, 0, 0, 0, 1, 0]


def volume(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4096, shape or (4, 9, 7)).astype(np.uint16)


def item(**tags: Any) -> Any:
    made = pydicom.Dataset()
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def dataset(pixels: np.ndarray, **tags: Any) -> Any:
    """Return a dataset of frames (H, W), or of several (frames, H, W)."""
    made = item(SOPClassUID=CT, SOPInstanceUID=uid.generate_uid(), PatientName="Doe^Jane")
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3", "1.2.3.5"
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.Rows, made.Columns = pixels.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
    made.PixelRepresentation = 0
    if pixels.ndim == 3:
        made.NumberOfFrames = len(pixels)
    made.add_new("PixelData", "OW", pixels.tobytes())
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def save(made: Any, path: Path) -> Path:
    pydicom.dcmwrite(path, made, enforce_file_format=True)
    return path


def enhanced(pixels: np.ndarray) -> Any:
    """Return frames whose places are in groups, as newer scanners write them."""
    measures = item(PixelSpacing=[0.5, 0.25], SliceThickness=5)
    shared = item(
        PixelMeasuresSequence=[measures],
        PlaneOrientationSequence=[item(ImageOrientationPatient=TURN)],
    )
    each = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[1, 2, 5 * k])],
            FrameContentSequence=[item(DimensionIndexValues=[1, k + 1])],
        )
        for k in range(len(pixels))
    ]
    return dataset(
        pixels,
        SOPClassUID=ENHANCED_CT,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=each,
    )


def make_series(folder: Path, pixels: np.ndarray, **tags: Any) -> Path:
    """Write slices to files whose names, and whose numbers, are in another order."""
    folder.mkdir()
    for k, plane in enumerate(pixels):
        place = {"ImagePositionPatient": [1, 2, 5 * k - 7], "ImageOrientationPatient": TURN}
        made = dataset(plane, **{**place, "PixelSpacing": [0.5, 0.25], "InstanceNumber": 9 - k})
        for name, value in tags.items():
            setattr(made, name, value[k] if isinstance(value, tuple) else value)
        save(made, folder / f"slice-{'cabd'[k % 4]}{k // 4}")
    return folder


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableFileError) as caught:
        read_image(path)
    return str(caught.value).removeprefix(f"cannot read {path}: ")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.dcm"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.dcm"


class TestFrames:
    def test_groups_of_frames_are_kept(self, path: Path, out: Path) -> None:
        made = enhanced(volume())
        source = read_image(save(made, path))
        assert (source.stack_axes, source.stack_names, source.channel_axis) == ((0,), "Z", None)
        assert source.metadata["resolution"] == Resolution.of(4, 2, "mm")
        assert np.array_equal(source.image, volume())
        write_image(out, source.image // 2, like=source)
        kept = pydicom.dcmread(out)
        assert np.array_equal(kept.pixel_array, volume() // 2)
        for name in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
            assert kept[name] == made[name]
        assert (kept.NumberOfFrames, kept.SOPClassUID, kept.BitsStored) == (4, ENHANCED_CT, 12)
        assert kept.SOPInstanceUID != made.SOPInstanceUID

    def test_an_enlarged_stack_is_in_the_same_place(self, path: Path, out: Path) -> None:
        source = read_image(save(enhanced(volume()), path))
        write_image(out, np.repeat(np.repeat(source.image, 2, 1), 2, 2), like=source)
        kept = pydicom.dcmread(out)
        (measures,) = kept.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
        assert (list(measures.PixelSpacing), measures.SliceThickness) == ([0.25, 0.125], 5)
        (place,) = kept.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence
        assert list(place.ImagePositionPatient) == [0.9375, 1.875, 10]
        assert read_image(out).metadata["resolution"] == Resolution.of(8, 4, "mm")

    @pytest.mark.parametrize(
        ("codec", "syntax"),
        [
            ("ljpeg", uid.JPEGLosslessSV1),
            ("jpegls", uid.JPEGLSLossless),
            ("jpeg2k", uid.JPEG2000Lossless),
        ],
    )
    def test_compressed(self, path: Path, out: Path, codec: str, syntax: str) -> None:
        made = dataset(volume(), FrameTime="40")
        options = {"codecformat": "j2k", "level": 0} if codec == "jpeg2k" else {}
        encode = getattr(imagecodecs, f"{codec}_encode")
        frames = [bytes(encode(plane, **options)) for plane in volume()]
        made.file_meta.TransferSyntaxUID = syntax
        made.add_new("PixelData", "OB", encaps.encapsulate(frames))
        made["PixelData"].is_undefined_length = True
        source = read_image(save(made, path))
        assert source.stack_names == "T"
        assert np.array_equal(source.image, volume())
        write_image(out, source.image, like=source)
        assert pydicom.dcmread(out).FrameTime == 40
        # One frame that declares another size than the file is refused before it is decoded.
        frames[2] = bytes(encode(np.zeros((500, 500), np.uint16), **options))
        made.add_new("PixelData", "OB", encaps.encapsulate(frames))
        assert refusal(save(made, path)).startswith("its compressed pixels have the shape (500,")
        made.add_new("PixelData", "OB", encaps.encapsulate(frames[:2]))
        refusal(save(made, path))

    def test_run_lengths(self, path: Path) -> None:
        made = dataset(volume())
        made.compress(uid.RLELossless)
        assert np.array_equal(read_image(save(made, path)).image, volume())

    @pytest.mark.parametrize("shape", [(3, 9, 7), (3, 9, 7, 3), (2, 3, 9, 7)])
    def test_a_stack_from_elsewhere(self, out: Path, shape: tuple[int, ...]) -> None:
        pixels = (volume(*shape) >> 4).astype(np.uint8)
        stack, colour = (0, 1) if shape[0] == 2 else (0,), shape[-1] == 3
        options: dict[str, Any] = {"stack_axis": stack, "channel_axis": 3 if colour else None}
        if len(stack) == 2:
            with pytest.warns(UserWarning, match="6 frames are along 2 axes"):
                write_image(out, pixels, **options)
        else:
            write_image(out, pixels, **options)
        kept = pydicom.dcmread(out)
        assert np.array_equal(kept.pixel_array.reshape(shape), pixels)
        assert "Multi-frame" in kept.SOPClassUID.name
        assert kept[kept.FrameIncrementPointer].keyword == "PageNumberVector"

    def test_fewer_frames_than_the_tags_speak_of(self, path: Path, out: Path) -> None:
        from dataclasses import replace

        source = read_image(save(enhanced(volume()), path))
        fewer = replace(source, image=source.image[:2])
        with pytest.warns(UserWarning, match="without: what its tags say of each frame"):
            write_image(out, fewer.image, like=fewer)
        kept = pydicom.dcmread(out)
        assert "PerFrameFunctionalGroupsSequence" not in kept
        assert np.array_equal(kept.pixel_array, volume()[:2])

    @pytest.mark.parametrize(("frames", "reason"), [(0, "it declares 0"), (5000, "it declares 5")])
    def test_numbers_of_frames(self, path: Path, frames: int, reason: str) -> None:
        save(dataset(volume(), NumberOfFrames=frames), path)
        assert refusal(path).startswith(reason)

    @pytest.mark.parametrize("shared", [True, False])
    def test_rescaling_of_all_frames(self, tmp_path: Path, path: Path, shared: bool) -> None:
        made = enhanced(volume())
        each = made.PerFrameFunctionalGroupsSequence
        for said in made.SharedFunctionalGroupsSequence if shared else each:
            said.PixelValueTransformationSequence = [item(RescaleSlope=2, RescaleIntercept=-1)]
        source = read_image(save(made, path))
        with pytest.warns(UserWarning, match="rescaling of its numbers"):
            write_image(tmp_path / "out.tif", source.image, like=source)

    @pytest.mark.parametrize("tag", ["RescaleSlope", "RescaleIntercept"])
    @pytest.mark.parametrize("said_of", [range(4), range(1), range(3, 4)])
    def test_rescaling_of_single_frames(self, path: Path, tag: str, said_of: range) -> None:
        made = enhanced(volume())
        each = made.PerFrameFunctionalGroupsSequence
        usual = item(RescaleSlope=1, RescaleIntercept=0)
        made.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [usual]
        for frame in said_of:
            other = item(**{"RescaleSlope": 1, "RescaleIntercept": 0, tag: 2 + frame})
            each[frame].PixelValueTransformationSequence = [other]
        assert "frames are rescaled in different ways" in refusal(save(made, path))

    def test_all_frames_count(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        save(dataset(volume(4, 40, 50)), path)
        monkeypatch.setattr(limits, "LARGEST_IMAGE", 4 * 40 * 50 * 2 - 1)
        assert refusal(path).startswith("it declares 50 x 40 pixels of 8 bytes")


class TestSeries:
    def test_slices_are_sorted_by_their_place(self, tmp_path: Path) -> None:
        folder = make_series(tmp_path / "ct", volume(), RescaleSlope=2, RescaleIntercept=-1024)
        (folder / "readme.txt").write_text("no picture")
        (folder / ".hidden").write_bytes(b"\x89PNG\r\n\x1a\n")
        source = read_image(folder)
        assert (source.format, source.stack_axes, source.stack_names) == ("DICOM", (0,), "Z")
        assert np.array_equal(source.image, volume())
        assert source.metadata["resolution"] == Resolution.of(4, 2, "mm")
        write_image(tmp_path / "out", source.image // 2, like=source)
        assert sorted(each.name for each in (tmp_path / "out").iterdir()) == [
            *("slice-a0", "slice-b0", "slice-c0", "slice-d0")
        ]
        instances = set()
        for each in (tmp_path / "out").iterdir():
            kept, before = pydicom.dcmread(each), pydicom.dcmread(folder / each.name)
            assert np.array_equal(kept.pixel_array, before.pixel_array // 2)
            assert kept.ImagePositionPatient == before.ImagePositionPatient
            assert (kept.RescaleSlope, kept.SeriesInstanceUID) == (2, "1.2.3.5")
            assert kept.ImageType[0] == "DERIVED"
            assert kept.SOPInstanceUID != before.SOPInstanceUID
            instances.add(kept.SOPInstanceUID)
        assert len(instances) == 4
        assert np.array_equal(read_image(tmp_path / "out").image, volume() // 2)

    def test_overlays_in_bits_of_pixels(self, tmp_path: Path) -> None:
        folder = make_series(tmp_path / "ct", volume())
        for each in folder.iterdir():
            made = pydicom.dcmread(each)
            made.add_new((0x6000, 0x0102), "US", 14)
            save(made, each)
        source = read_image(folder)
        with pytest.warns(UserWarning, match="is without: overlays$"):
            write_image(tmp_path / "out", source.image, like=source)
        for each in (tmp_path / "out").iterdir():
            assert (0x6000, 0x0102) not in pydicom.dcmread(each)

    def test_without_places_the_numbers_of_instances_count(self, tmp_path: Path) -> None:
        folder = make_series(tmp_path / "ct", volume(), ImagePositionPatient=None)
        assert np.array_equal(read_image(folder).image, volume()[::-1])

    def test_colours(self, tmp_path: Path) -> None:
        colours = (volume(4, 9, 7, 3) >> 4).astype(np.uint8)
        folder = tmp_path / "rgb"
        folder.mkdir()
        for k, plane in enumerate(colours):
            write_image(folder / f"{k}.dcm", plane)
            made = pydicom.dcmread(folder / f"{k}.dcm")
            made.SeriesInstanceUID, made.InstanceNumber = "1.2.3.5", k
            save(made, folder / f"{k}.dcm")
        source = read_image(folder)
        assert (source.channel_axis, source.stack_axes) == (3, (0,))
        assert np.array_equal(source.image, colours)
        write_image(tmp_path / "out", source.image, like=source)
        assert np.array_equal(read_image(tmp_path / "out").image, colours)

    def test_as_one_file(self, tmp_path: Path, out: Path) -> None:
        source = read_image(make_series(tmp_path / "ct", volume()))
        with pytest.warns(UserWarning, match=r"out\.dcm is without: tags of single slices$"):
            write_image(out, source.image, like=source)
        kept = pydicom.dcmread(out)
        assert np.array_equal(kept.pixel_array, volume())
        assert (kept.NumberOfFrames, kept.PatientName) == (4, "Doe^Jane")
        assert "Multi-frame" in kept.SOPClassUID.name
        assert "ImagePositionPatient" not in kept
        assert "InstanceNumber" not in kept
        assert list(kept.PixelSpacing) == [0.5, 0.25]

    def test_enlarged(self, tmp_path: Path) -> None:
        source = read_image(make_series(tmp_path / "ct", volume()))
        write_image(tmp_path / "out", np.repeat(np.repeat(source.image, 2, 1), 2, 2), like=source)
        kept = pydicom.dcmread(tmp_path / "out" / "slice-c0")
        assert list(kept.ImagePositionPatient) == [0.9375, 1.875, -7]
        assert list(kept.PixelSpacing) == [0.25, 0.125]

    @pytest.mark.parametrize(
        ("tags", "reason"),
        [
            ({"SeriesInstanceUID": ("1.2", "1.2", "1.3", "1.2")}, "it holds files of several"),
            ({"SeriesInstanceUID": None}, "it holds files of several series"),
            ({"BitsStored": (12, 11, 12, 12), "HighBit": (11, 10, 11, 11)}, "slice-b0 has another"),
            ({"RescaleSlope": (1, 1, 2, 1)}, "the numbers of slice-b0 are rescaled otherwise"),
            ({"ImagePositionPatient": [1, 2, 3]}, "several of its files are at one place"),
            ({"ImagePositionPatient": None, "InstanceNumber": None}, "several of its files"),
            (
                {"ImageOrientationPatient": (TURN, TURN, [1, 0, 0, 0, 0, -1], TURN)},
                "its slices are not parallel",
            ),
        ],
    )
    def test_what_is_no_volume(self, tmp_path: Path, tags: dict[str, Any], reason: str) -> None:
        assert refusal(make_series(tmp_path / "ct", volume(), **tags)).startswith(reason)

    def test_other_pictures_beside(self, tmp_path: Path) -> None:
        folder = make_series(tmp_path / "ct", volume())
        write_image(folder / "z.png", np.zeros((9, 7), np.uint8))
        assert refusal(folder).startswith("it holds pictures of DICOM and of PNG")
        save(dataset(volume()), folder / "z.png")
        assert refusal(folder).startswith("z.png holds 4 frames")

    def test_folders_of_other_pictures_are_none(self, tmp_path: Path) -> None:
        with pytest.raises(IsADirectoryError):
            read_image(tmp_path)
        write_image(tmp_path / "a.png", np.zeros((9, 7), np.uint8))
        with pytest.raises(IsADirectoryError):
            read_image(tmp_path)

    def test_all_slices_count(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = make_series(tmp_path / "ct", volume(4, 40, 50))
        monkeypatch.setattr(limits, "LARGEST_IMAGE", 4 * 40 * 50 * 2 - 1)
        assert refusal(folder).startswith("it declares 50 x 40 pixels of 8 bytes")
        monkeypatch.setattr(limits, "LARGEST_IMAGE", 4000)
        assert refusal(folder).startswith("it has 1.")

    def test_an_existing_folder_is_never_replaced(self, tmp_path: Path) -> None:
        source = read_image(make_series(tmp_path / "ct", volume()))
        before = (tmp_path / "ct" / "slice-a0").read_bytes()
        with pytest.raises(IsADirectoryError):
            write_image(tmp_path / "ct", source.image // 2, like=source, overwrite=True)
        assert (tmp_path / "ct" / "slice-a0").read_bytes() == before
        assert [each.name for each in tmp_path.iterdir()] == ["ct"]

    @pytest.mark.parametrize("kind", ["file", "link"])
    def test_an_existing_file_is_replaced_where_that_was_asked_for(
        self, tmp_path: Path, kind: str
    ) -> None:
        source = read_image(make_series(tmp_path / "ct", volume()))
        out = tmp_path / "out"
        if kind == "link":
            out.symlink_to(tmp_path / "ct")
        else:
            out.write_text("something else")
        with pytest.raises(FileExistsError):
            write_image(out, source.image, like=source)
        check_output(out, source, overwrite=True)
        write_image(out, source.image // 2, like=source, overwrite=True)
        assert np.array_equal(read_image(out).image, volume() // 2)
        assert np.array_equal(read_image(tmp_path / "ct").image, volume())
        assert sorted(each.name for each in tmp_path.iterdir()) == ["ct", "out"]

    def test_an_existing_file_stays_if_writing_fails(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> None:
            raise OSError("the disk is full")

        source = read_image(make_series(tmp_path / "ct", volume()))
        (tmp_path / "out").write_text("something else")
        monkeypatch.setattr(dicom, "write", fail)
        with pytest.raises(OSError, match="the disk is full"):
            write_image(tmp_path / "out", source.image, like=source, overwrite=True)
        assert (tmp_path / "out").read_text() == "something else"
        assert sorted(each.name for each in tmp_path.iterdir()) == ["ct", "out"]

    def test_only_a_series_is_written_to_a_folder(self, tmp_path: Path, path: Path) -> None:
        source = read_image(save(dataset(volume()), path))
        for call in (
            lambda: write_image(tmp_path / "out", source.image, like=source),
            lambda: check_output(tmp_path / "out", source, report=True),
            lambda: check_output(tmp_path / "out"),
        ):
            with pytest.raises(UnwritableFileError, match="cannot tell the format"):
                call()


class TestCommandLine:
    FAST = ("--quality", "fast", "--quiet")

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        ramp = np.linspace(500, 3000, 4 * 24 * 32).reshape(4, 24, 32)
        noise = np.random.default_rng(0).normal(0, 50, ramp.shape)
        return make_series(tmp_path / "ct", (ramp + noise).astype(np.uint16))

    def test_a_series_to_a_series(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out"
        arguments = ["denoise", str(folder), str(out), "--series", *self.FAST]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert main(arguments) == 0
        assert len(list(out.iterdir())) == 4
        # One noise for all of them.
        report = json.loads((tmp_path / "out.json").read_text())
        assert report["found"]["noise_of_stack"]
        assert np.diff(read_image(out).image.astype(float)).std() < 20
        assert main(["info", str(out)]) == 0
        assert "DICOM, 32 x 24 pixels, stack of 4 planes (Z)" in capsys.readouterr().out
        assert main([*arguments, "--force"]) == 2
        assert "exists already, and slices are written to a new folder" in capsys.readouterr().err

    def test_a_series_to_one_file(self, folder: Path, tmp_path: Path) -> None:
        for name in ("volume.tif", "volume.dcm"):
            out = tmp_path / name
            assert main(["denoise", str(folder), str(out), *self.FAST]) == 0
            assert read_image(out).image.shape == (4, 24, 32)

    def test_series_is_for_folders(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        one = str(folder / "slice-a0")
        assert main(["denoise", one, str(tmp_path / "out"), "--series"]) == 2
        assert "--series expects a folder of DICOM slices" in capsys.readouterr().err
