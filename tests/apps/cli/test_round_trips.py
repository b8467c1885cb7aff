"""What goes in comes out: files as other programs write them, through the command line and back.

Each is made and looked at by the library of its format, not by dipfast.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import tifffile
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image, ImageCms
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from dipfast.apps.cli import main

RANDOM = np.random.default_rng(5)
ROWS, COLUMNS = 24, 32
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noisy(peak: float, *more: int) -> Any:
    """Return a smooth picture with noise, of values from about 0.2 to 0.8 of a peak."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS] / 40
    clean = 0.3 + 0.3 * x + 0.2 * y
    return peak * (clean + RANDOM.normal(0, 0.04, (*more, ROWS, COLUMNS))).clip(0, 1)


def restored(path: Path, *options: str) -> Path:
    """Return what the command line makes of a file, checked to have changed it."""
    out = path.with_name(f"out{path.suffix}")
    assert main(["denoise", str(path), str(out), "--quality", "fast", "--quiet", *options]) == 0
    return out


def is_smoother(result: Any, image: Any) -> bool:
    """Return whether neighbours differ less than before, but are no constant."""
    before, after = (abs(np.diff(np.asarray(a, float), axis=-1)).mean() for a in (image, result))
    return bool(0 < after < 0.8 * before)


def test_tiff_of_16_bits(tmp_path: Path) -> None:
    pixels = noisy(60000).astype(np.uint16)
    path = tmp_path / "in.tif"
    tifffile.imwrite(
        path, pixels, resolution=(2540, 5080), resolutionunit="CENTIMETER", iccprofile=PROFILE
    )
    with tifffile.TiffFile(restored(path)) as tiff:
        page = tiff.pages.first
        assert page.dtype == np.uint16
        assert is_smoother(page.asarray(), pixels)
        assert page.tags["XResolution"].value == (2540, 1)
        assert page.tags["YResolution"].value == (5080, 1)
        assert page.tags["InterColorProfile"].value == PROFILE


def test_hyperstack_of_imagej(tmp_path: Path) -> None:
    pixels = noisy(40000, 2, 3, 2).astype(">u2")
    path = tmp_path / "in.tif"
    beside = {"axes": "TZCYX", "unit": "um", "spacing": 0.5, "finterval": 3.0}
    tifffile.imwrite(path, pixels, imagej=True, byteorder=">", resolution=(8, 8), metadata=beside)
    with tifffile.TiffFile(restored(path)) as tiff:
        assert tiff.is_imagej
        assert tiff.byteorder == ">"
        series = tiff.series[0]
        assert series.axes == "TZCYX"
        assert series.dtype == np.uint16
        assert is_smoother(series.asarray(), pixels)
        metadata = tiff.imagej_metadata
        assert metadata is not None
        kept = {name: metadata[name] for name in ("channels", "slices", "frames", "unit")}
        assert kept == {"channels": 2, "slices": 3, "frames": 2, "unit": "um"}
        assert (metadata["spacing"], metadata["finterval"]) == (0.5, 3.0)
        assert tiff.pages.first.tags["XResolution"].value == (8, 1)


def test_ome_tiff(tmp_path: Path) -> None:
    pixels = noisy(50000, 3, 2).astype(np.uint16)
    path = tmp_path / "in.ome.tif"
    beside = {
        "axes": "ZCYX",
        "PhysicalSizeX": 0.25,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.25,
        "PhysicalSizeYUnit": "µm",
        "PhysicalSizeZ": 1.5,
        "PhysicalSizeZUnit": "µm",
        "Channel": {"Name": ["DAPI", "GFP"]},
    }
    tifffile.imwrite(path, pixels, metadata=beside)
    out = tmp_path / "out.ome.tif"
    assert main(["denoise", str(path), str(out), "--quality", "fast", "--quiet"]) == 0
    with tifffile.TiffFile(out) as tiff:
        assert tiff.is_ome
        series = tiff.series[0]
        assert series.axes == "ZCYX"
        assert series.dtype == np.uint16
        assert is_smoother(series.asarray(), pixels)
        found = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert [channel["Name"] for channel in found["Channel"]] == ["DAPI", "GFP"]
        sizes = [found[f"PhysicalSize{axis}"] for axis in "XYZ"]
        assert sizes == [0.25, 0.25, 1.5]


def test_fits_with_coordinates_and_nan(tmp_path: Path) -> None:
    pixels = noisy(900).astype(">f4")
    pixels[3, 4] = np.nan
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRVAL1"], header["CRVAL2"] = 83.8, -5.4
    header["CRPIX1"], header["CRPIX2"] = 16.5, 12.5
    header["CDELT1"], header["CDELT2"] = -0.0001, 0.0001
    header["OBJECT"] = "M 42"
    path = tmp_path / "in.fits"
    fits.writeto(path, pixels, header)
    out = tmp_path / "out.fits"
    # NaN is missing, so it is filled, and the rest denoised.
    assert main(["inpaint", str(path), str(out), "--quality", "fast", "--quiet"]) == 0
    with fits.open(out) as hdus:
        assert hdus[0].header["BITPIX"] == -32
        assert hdus[0].header["OBJECT"] == "M 42"
        sky = [WCS(h).wcs_pix2world([[3, 4]], 0) for h in (header, hdus[0].header)]
        np.testing.assert_allclose(sky[0], sky[1])
        result = hdus[0].data
        assert np.isfinite(result).all()
        known = np.isfinite(pixels)
        np.testing.assert_array_equal(result[known], pixels[known])
        around = pixels[2:5, 3:6]
        assert np.nanmin(around) - 50 < result[3, 4] < np.nanmax(around) + 50


def test_tiff_of_floats_with_the_other_order_of_bytes(tmp_path: Path) -> None:
    pixels = noisy(5.0).astype(">f4")
    path = tmp_path / "in.tif"
    tifffile.imwrite(path, pixels, byteorder=">", metadata=None, resolution=(300, 300))
    with tifffile.TiffFile(restored(path)) as tiff:
        assert tiff.byteorder == ">"
        assert tiff.pages.first.dtype == np.float32
        assert is_smoother(tiff.asarray(), pixels)


def pillow(path: Path) -> Any:
    with Image.open(path) as image:
        image.load()
        return image


def test_png_with_opacity(tmp_path: Path) -> None:
    colours = np.moveaxis(noisy(255, 3), 0, -1).astype(np.uint8)
    opacity = RANDOM.integers(0, 256, (ROWS, COLUMNS, 1)).astype(np.uint8)
    path = tmp_path / "in.png"
    Image.fromarray(np.dstack([colours, opacity])).save(path, dpi=(300, 300), icc_profile=PROFILE)
    result = pillow(restored(path))
    assert result.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(result)[..., 3:], opacity)
    assert is_smoother(np.moveaxis(np.asarray(result)[..., :3], -1, 0), np.moveaxis(colours, -1, 0))
    assert result.info["icc_profile"] == PROFILE
    assert result.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_png_with_a_palette(tmp_path: Path) -> None:
    """The result has more colours than a palette holds, so it is RGB, of the same depth."""
    colours = np.moveaxis(noisy(255, 3), 0, -1).astype(np.uint8)
    path = tmp_path / "in.png"
    Image.fromarray(colours).quantize(64).save(path)
    result = pillow(restored(path))
    assert result.mode == "RGB"
    assert result.size == (COLUMNS, ROWS)


def test_jpeg_of_inks(tmp_path: Path) -> None:
    inks = np.moveaxis(noisy(255, 4), 0, -1).astype(np.uint8)
    path = tmp_path / "in.jpg"
    image = Image.frombytes("CMYK", (COLUMNS, ROWS), inks.tobytes())
    image.save(path, quality=95, subsampling=0, dpi=(72, 72), icc_profile=PROFILE)
    result = pillow(restored(path))
    assert result.mode == "CMYK"
    assert result.info["icc_profile"] == PROFILE
    assert result.info["dpi"] == (72, 72)
    before = np.moveaxis(np.asarray(pillow(path)), -1, 0)
    after = np.moveaxis(np.asarray(result), -1, 0)
    assert is_smoother(after, before)
    # Inks are not exchanged for their complement.
    assert abs(after.mean(dtype=float) - before.mean(dtype=float)) < 3


def test_jpeg_that_is_to_be_turned(tmp_path: Path) -> None:
    pixels = np.moveaxis(noisy(255, 3), 0, -1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to the right
    exif[0x010F] = "Maker"
    path = tmp_path / "in.jpg"
    Image.fromarray(pixels).save(path, quality=95, subsampling=0, exif=exif)
    result = pillow(restored(path))
    assert result.size == (ROWS, COLUMNS)
    assert result.getexif().get(0x0112, 1) == 1
    assert result.getexif()[0x010F] == "Maker"
    upright = np.rot90(np.asarray(pillow(path)), -1).astype(float)
    assert abs(np.asarray(result, float) - upright).mean() < 20


def test_dicom_of_12_bits(tmp_path: Path) -> None:
    pixels = noisy(4000).astype(np.uint16)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = tmp_path / "in.dcm"
    data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.PatientName, data.Modality = "Nobody^Known", "CT"
    data.Rows, data.Columns, data.SamplesPerPixel = ROWS, COLUMNS, 1
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelSpacing = [0.5, 0.5]
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)
    result = pydicom.dcmread(restored(path))
    assert (result.BitsAllocated, result.BitsStored, result.HighBit) == (16, 12, 11)
    assert (str(result.PatientName), result.Modality) == ("Nobody^Known", "CT")
    assert list(result.PixelSpacing) == [0.5, 0.5]
    assert (result.RescaleSlope, result.RescaleIntercept) == (1, -1024)
    assert result.SOPInstanceUID != data.SOPInstanceUID
    assert result.pixel_array.dtype == np.uint16
    assert result.pixel_array.max() < 4096
    assert is_smoother(result.pixel_array, pixels)


def test_dicom_of_several_frames(tmp_path: Path) -> None:
    pixels = noisy(4000, 3).astype(np.uint16)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = tmp_path / "in.dcm"
    data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.Rows, data.Columns, data.SamplesPerPixel = ROWS, COLUMNS, 1
    data.NumberOfFrames, data.FrameTimeVector = 3, [0, 40, 35]
    data.FrameIncrementPointer = 0x00181065
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)
    result = pydicom.dcmread(restored(path))
    assert result.NumberOfFrames == 3
    assert list(result.FrameTimeVector) == [0, 40, 35]
    assert is_smoother(result.pixel_array, pixels)


def test_zarr_of_version_2(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", "3", reason="its Python interface is that of zarr 3")
    pixels = noisy(5.0).astype(">f4")
    path = tmp_path / "in.zarr"
    how = {"chunks": (10, 12), "fill_value": 3, "attributes": {"stain": "H&E"}}
    source = zarr.create_array(
        path, shape=pixels.shape, dtype=pixels.dtype, zarr_format=2, order="F", **how
    )
    source[...] = pixels
    result = zarr.open_array(restored(path), mode="r")
    assert result.metadata == source.metadata
    assert is_smoother(result[...], pixels)


def test_ome_zarr(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", "3", reason="its Python interface is that of zarr 3")
    pixels = noisy(50000, 2, 3).astype(np.uint16)
    path = tmp_path / "in.ome.zarr"
    group = zarr.open_group(path, mode="w")
    array = group.create_array("0", shape=pixels.shape, dtype="u2", chunks=(1, 1, 16, 16))
    array[...] = pixels
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [1, 1.5, 0.25, 0.25]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    omero = {"channels": [{"label": "DAPI", "color": "0000FF"}, {"label": "GFP"}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image], "omero": omero}
    out = tmp_path / "out.ome.zarr"
    assert main(["denoise", str(path), str(out), "--quality", "fast", "--quiet"]) == 0
    result = zarr.open_group(out, mode="r")
    assert dict(result.attrs) == dict(group.attrs)
    assert result["0"].metadata == array.metadata
    assert is_smoother(result["0"][...], pixels)


@pytest.mark.parametrize(
    "arrange",
    [np.ascontiguousarray, lambda a: a.astype(">f8")],
    ids=["as this computer has them", "the other order"],
)
def test_numpy_array_of_doubles(tmp_path: Path, arrange: Callable[[Any], Any]) -> None:
    pixels = arrange(noisy(1e-3))
    path = tmp_path / "in.npy"
    np.save(path, pixels)
    result = np.load(io.BytesIO(restored(path).read_bytes()))
    assert result.dtype == pixels.dtype
    assert result.shape == pixels.shape
    assert is_smoother(result, pixels)
