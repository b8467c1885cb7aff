"""The pictures that a JPEG can be of: found in its pixels, and projected onto."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import dipfast
from dipfast.errors import InputError, UnreadableFileError
from dipfast.images.files import read_image
from dipfast.model.jpeg import JpegSet

CLEAN = skimage.data.astronaut()[:120, 150:310]


def coded(
    picture: np.ndarray, quality: int = 20, subsampling: int = 2, **options: object
) -> tuple[np.ndarray, dipfast.JpegCoding]:
    """Return what a picture is decoded to, and its coding."""
    stream = BytesIO()
    Image.fromarray(picture).save(
        stream, "JPEG", quality=quality, subsampling=subsampling, **options
    )
    with Image.open(stream) as opened:
        opened.load()
        coding = dipfast.JpegCoding.of(opened)
        assert coding is not None
        return np.array(opened), coding


def tensor(picture: np.ndarray) -> torch.Tensor:
    planes = picture[None] if picture.ndim == 2 else np.moveaxis(picture, -1, 0)
    return torch.from_numpy(planes.astype(np.float32) / 255)[None]


def error(x: torch.Tensor, y: torch.Tensor) -> float:
    return float((x - y).square().mean())


@pytest.mark.parametrize(
    ("quality", "turned", "is_usual", "told"),
    [
        (30, 6, True, "quality 30 .* EXIF turns it"),
        (30, 1, False, "quality 30 .* are unusual"),
        (30, 1, True, ""),
        (90, 6, True, ""),
    ],
)
def test_artefacts_that_cannot_be_taken_out_are_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quality: int,
    turned: int,
    is_usual: bool,
    told: str,
) -> None:
    if not is_usual:
        monkeypatch.setattr(dipfast.JpegCoding, "of", lambda _: None)
    exif = Image.Exif()
    exif[0x0112] = turned
    path = tmp_path / "a.jpg"
    Image.fromarray(CLEAN).save(path, quality=quality, exif=exif)
    file = read_image(path)
    assert (file.jpeg is None) == (turned != 1 or not is_usual)
    assert re.search(told, " ".join(file.remarks)) if told else file.remarks == ()


@pytest.mark.parametrize("quality", [5, 20, 40])
def test_a_smooth_gradient_is_not_taken_for_a_changed_picture(quality: int) -> None:
    # All rows of a block are the same, and so is their rounding, which adds up in its coefficients.
    columns = np.arange(56)
    for rate in np.linspace(5, 12, 15):
        waves = np.tile(128 + 100 * np.sin(columns / rate), (40, 1)).round().astype(np.uint8)
        for picture in (waves, np.ascontiguousarray(waves.T)):
            pixels, coding = coded(picture, quality)
            JpegSet.of(tensor(pixels), coding)


class TestCoding:
    @pytest.mark.parametrize(("subsampling", "expected"), [(0, (1, 1)), (1, (1, 2)), (2, (2, 2))])
    def test_is_that_of_the_encoder(self, subsampling: int, expected: tuple[int, int]) -> None:
        for quality in (5, 30, 75, 95):
            _, coding = coded(CLEAN, quality, subsampling)
            assert coding.quality == quality
            assert coding.sampling == ((1, 1), expected, expected)
            assert len(coding.tables) == 3

    def test_of_grey_has_one_component(self) -> None:
        _, coding = coded(CLEAN[..., 0], 30)
        assert coding.sampling == ((1, 1),)

    def test_steps_are_row_by_row(self) -> None:
        _, coding = coded(CLEAN, 50)
        assert coding.tables[0][:9] == (16, 11, 10, 16, 24, 40, 51, 61, 12)
        assert coding.mean_step == pytest.approx((16 + 11 + 10 + 12 + 12 + 14 + 14 + 13 + 16) / 9)

    def test_of_files(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jpg"
        Image.fromarray(CLEAN).save(path, quality=40)
        assert dipfast.JpegCoding.read(path).quality == 40
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(CLEAN).save(path, quality=40, exif=exif)
        with pytest.raises(UnreadableFileError, match="turned by its EXIF"):
            dipfast.JpegCoding.read(path)
        Image.fromarray(CLEAN).save(tmp_path / "a.png")
        with pytest.raises(UnreadableFileError, match="cannot read"):
            dipfast.JpegCoding.read(tmp_path / "a.png")
        (tmp_path / "empty.jpg").write_bytes(b"")
        with pytest.raises(UnreadableFileError):
            dipfast.JpegCoding.read(tmp_path / "empty.jpg")
        with pytest.raises(FileNotFoundError):
            dipfast.JpegCoding.read(tmp_path / "none.jpg")

    @pytest.mark.parametrize(
        ("tables", "sampling", "message"),
        [
            (((1,) * 64,) * 2, ((1, 1),) * 2, "1 or 3 components"),
            (((1,) * 64,), ((1, 1),) * 2, "an entry for each"),
            (((1,) * 63,), ((1, 1),), "64 positive steps"),
            (((0,) * 64,), ((1, 1),), "64 positive steps"),
            (((1,) * 64,), ((2, 1),), r"\(1, 1\) for brightness"),
            (((1,) * 64,) * 3, ((1, 1), (4, 1), (1, 1)), "1 or 2 rows"),
        ],
    )
    def test_that_cannot_be_is_refused(
        self, tables: object, sampling: object, message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            dipfast.JpegCoding(tables, sampling)  # type: ignore[arg-type]


class TestSet:
    @given(
        st.integers(1, 40),
        st.integers(1, 40),
        st.integers(5, 90),
        st.sampled_from([0, 1, 2]),
        st.booleans(),
    )
    def test_holds_the_picture_that_was_coded(
        self, rows: int, columns: int, quality: int, subsampling: int, grey: bool
    ) -> None:
        picture = CLEAN[:rows, :columns, 1 if grey else slice(None)]
        decoded, coding = coded(picture, quality, subsampling)
        found = JpegSet.of(tensor(decoded), coding)
        projected = found.project(tensor(picture))
        assert projected.shape == tensor(picture).shape
        # But for the rounding of the encoder.
        assert error(projected, tensor(picture)) < 2e-5

    @pytest.mark.parametrize("subsampling", [0, 1, 2])
    def test_coefficients_are_those_of_the_file(self, subsampling: int) -> None:
        picture = CLEAN[:64, :96]
        decoded, coding = coded(picture, 20, subsampling)
        found = JpegSet.of(tensor(decoded), coding)
        # What is decoded again of the same coefficients is the picture of the file.
        again = JpegSet.of(found.project(tensor(decoded), 0.0).clamp(0, 1), coding)
        for one, other in zip(found.levels, again.levels):
            assert float((one != other).double().mean()) < 0.01

    @pytest.mark.parametrize("quality", [20, 50, 75])
    def test_brightness_of_blocks_is_that_of_the_file(self, quality: int) -> None:
        # Grey, and where the decoder clips nothing: it rounds the channels of flat blocks alike.
        pixels, coding = coded(CLEAN[..., 1] // 2 + 64, quality)
        image = tensor(pixels)
        held = JpegSet.of(image, coding).project(image, share=0)
        moved = torch.nn.functional.avg_pool2d(held - image, 8)
        assert float(moved.abs().mean()) < 0.05 / 255

    def test_projects_any_picture_into_it(self) -> None:
        decoded, coding = coded(CLEAN, 20, 0)
        found = JpegSet.of(tensor(decoded), coding)
        noisy = tensor(CLEAN) + 0.2 * torch.randn(tensor(CLEAN).shape)
        once = found.project(noisy)
        torch.testing.assert_close(found.project(once), once, atol=1e-5, rtol=0)
        # The set is convex and the clean picture in it: a projection comes nearer to that.
        assert error(once, tensor(CLEAN)) < error(noisy, tensor(CLEAN))

    @pytest.mark.parametrize("quality", [10, 40, 80])
    def test_typical_error_is_what_rounding_took(self, quality: int) -> None:
        decoded, coding = coded(CLEAN, quality, 0)
        said = JpegSet.of(tensor(decoded), coding).typical_error
        true = error(tensor(decoded), tensor(CLEAN)) ** 0.5
        assert true < said < 5 * true

    def test_of_other_pixels_is_refused(self) -> None:
        decoded, coding = coded(CLEAN, 20)
        for other in (decoded[3:], decoded[:, 1:], CLEAN, decoded // 2 + 40):
            with pytest.raises(InputError, match="not what the JPEG of this coding decodes to"):
                JpegSet.of(tensor(other), coding)
        with pytest.raises(InputError, match="3 components, and image 1"):
            JpegSet.of(tensor(decoded[..., 0]), coding)
        with pytest.raises(InputError, match="not what the JPEG"):  # colours have blocks of 16
            JpegSet.of(tensor(decoded[:, 8:]), coding)
        # A part that begins at a block is one of the same blocks.
        JpegSet.of(tensor(decoded[16:80, 32:96]), coding)
