"""Pictures of masks: transparency, colours, JPEG, and pictures that are no masks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from skimage.data import camera
from skimage.transform import resize

from dipfast.apps.cli.pictures import find_missing_pixels
from dipfast.images.files import ImageFile, write_image
from dipfast.images.masks import resolve_mask

SIZE = 96
SOURCE = ImageFile(np.full((SIZE, SIZE, 3), 7, np.uint8), 2)


def strokes(width: int, seed: int = 0, count: int = 5) -> np.ndarray:
    """Where a pencil of some width went."""
    rng = np.random.default_rng(seed)
    image = Image.new("L", (SIZE, SIZE))
    draw = ImageDraw.Draw(image)
    for _ in range(count):
        ends = rng.integers(0, SIZE, 4)
        draw.line([tuple(ends[:2].tolist()), tuple(ends[2:].tolist())], fill=255, width=width)
    return np.array(image) > 0


def grown(chosen: np.ndarray) -> np.ndarray:
    padded = np.pad(chosen, 1)
    return np.any([padded[r : r + SIZE, c : c + SIZE] for r in range(3) for c in range(3)], axis=0)


def layer(drawn: np.ndarray, colour: tuple[int, ...], below: int = 255) -> np.ndarray:
    """Strokes on a clear layer, RGBA; ``below`` is the colour of clear pixels."""
    pixels = np.full((SIZE, SIZE, 4), below, np.uint8)
    pixels[..., 3] = drawn * np.uint8(255)
    pixels[drawn, :3] = colour
    return pixels


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Which pixels the picture of a mask marks, and how it was read."""
    monkeypatch.chdir(tmp_path)

    def read(
        pixels: np.ndarray | Image.Image, marks: str = "missing", name: str = "m.png", **more: Any
    ) -> tuple[np.ndarray, str]:
        if name.endswith(".tif"):
            tifffile.imwrite(name, pixels)
        else:
            image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
            image.save(name, **more)
        found = find_missing_pixels(name, marks, SOURCE, "in.png")
        missing = resolve_mask(SOURCE.image, found.mask, found.marks, 2)[1][0, 0]
        assert found.share == missing.mean()
        return missing, found.origin

    return read


class TestLayers:
    @pytest.mark.parametrize("below", [0, 128, 255])
    @pytest.mark.parametrize(
        "colour", [(255, 255, 255), (0, 0, 0), (8, 8, 8), (255, 0, 0), (0, 0, 128)]
    )
    def test_strokes_are_the_marks(self, read: Any, below: int, colour: tuple[int, ...]) -> None:
        drawn = strokes(4)
        missing, origin = read(layer(drawn, colour, below))
        assert (missing == drawn).all()
        assert ("opacity" in origin) == (max(colour) < 10)

    @pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0)])
    def test_strokes_that_mark_what_is_known(self, read: Any, colour: tuple[int, ...]) -> None:
        drawn = ~strokes(4)
        missing, _ = read(layer(drawn, colour), "known")
        assert (missing == ~drawn).all()

    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    def test_grey_with_opacity(self, read: Any, dtype: str) -> None:
        drawn = strokes(4)
        white = np.iinfo(dtype).max
        pixels = np.stack([np.full_like(drawn, white, dtype), drawn * white], -1).astype(dtype)
        write_image("la.png", pixels)
        found = find_missing_pixels("la.png", "missing", SOURCE, "in.png")
        assert found.share == drawn.mean()

    @pytest.mark.parametrize("colour", [255, 0])
    def test_soft_edges_count(self, read: Any, colour: int) -> None:
        drawn = strokes(4)
        pixels = layer(drawn, (colour,) * 3)
        rim = grown(drawn) & ~drawn
        pixels[rim] = (colour, colour, colour, 1)
        missing, _ = read(pixels)
        assert (missing == grown(drawn)).all()
        known, _ = read(255 - pixels[..., 3], "known")  # the same, drawn the other way round
        assert (known == grown(drawn)).all()

    def test_black_and_white_on_a_layer(self, read: Any) -> None:
        """What is black and opaque marks nothing where something else is white."""
        drawn, erased = strokes(4), np.zeros((SIZE, SIZE), bool)
        erased[:30] = True
        pixels = layer(drawn, (255,) * 3)
        pixels[erased] = (0, 0, 0, 255)
        missing, origin = read(pixels)
        assert (missing == drawn & ~erased).all()
        assert "clear pixels mark nothing" in origin

    def test_an_opaque_picture_has_no_layer(self, read: Any) -> None:
        drawn = strokes(4)
        pixels = layer(np.ones_like(drawn), (0, 0, 0))
        pixels[drawn] = 255
        missing, origin = read(pixels)
        assert (missing == drawn).all()
        assert origin == "m.png (values over 0)"

    def test_a_palette_with_transparency(self, read: Any) -> None:
        drawn = strokes(4)
        image = Image.fromarray(drawn.astype(np.uint8), "P")
        image.putpalette([255, 255, 255, 0, 0, 0])
        missing, _ = read(image, transparency=0)
        assert (missing == drawn).all()

    def test_nothing_drawn(self, read: Any) -> None:
        with pytest.raises(ValueError, match=r"--mask m\.png is clear all over"):
            read(layer(np.zeros((SIZE, SIZE), bool), (0, 0, 0)))


class TestJpeg:
    @pytest.mark.parametrize("width", [3, 6, 20])
    @pytest.mark.parametrize("quality", range(50, 96, 5))
    def test_traces_of_compression_are_no_marks(self, read: Any, width: int, quality: int) -> None:
        drawn = strokes(width, seed=quality)
        image = Image.fromarray(drawn * np.uint8(255))
        for mode in ("L", "RGB"):
            missing, origin = read(image.convert(mode), name="m.jpg", quality=quality)
            assert origin == "m.jpg (JPEG, values over 64)"
            assert missing[drawn].all()
            assert missing.mean() <= grown(drawn).mean()
            assert (missing & ~grown(drawn)).mean() < 1e-3
        # Within a fortieth, without the pixel's width.
        assert missing.mean() == pytest.approx(drawn.mean(), rel=1 / 40)

    @pytest.mark.parametrize("quality", [50, 75, 95])
    def test_known(self, read: Any, quality: int) -> None:
        drawn = strokes(6)
        image = Image.fromarray(~drawn * np.uint8(255))
        missing, origin = read(image, "known", name="m.jpg", quality=quality)
        assert origin == "m.jpg (JPEG, values below 191)"
        assert missing[drawn].all()
        assert missing.mean() == pytest.approx(drawn.mean(), rel=1 / 40)

    @pytest.mark.parametrize("quality", [50, 75, 95])
    def test_red_strokes_within_a_pixel(self, read: Any, quality: int) -> None:
        """Colours are kept at half the resolution."""
        drawn = strokes(6)
        image = Image.fromarray(np.stack([drawn * 255, 0 * drawn, 0 * drawn], -1).astype(np.uint8))
        missing, _ = read(image, name="m.jpg", quality=quality)
        assert missing[drawn].all()
        assert (missing & ~grown(drawn)).mean() < 1e-3

    @settings(max_examples=15)
    @given(st.integers(50, 95), st.integers(2, 12), st.integers(0, 99))
    def test_any_strokes(
        self, tmp_path_factory: pytest.TempPathFactory, quality: int, width: int, seed: int
    ) -> None:
        drawn = strokes(width, seed)
        path = str(tmp_path_factory.mktemp("jpeg") / "m.jpg")
        Image.fromarray(drawn * np.uint8(255)).save(path, quality=quality)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of many strokes
            share = find_missing_pixels(path, "missing", SOURCE, "in.png").share
        assert drawn.mean() <= share <= grown(drawn).mean()

    def test_once_a_jpeg(self, read: Any) -> None:
        drawn = strokes(6)
        Image.fromarray(drawn * np.uint8(255)).save("m.jpg", quality=60)
        with (
            Image.open("m.jpg") as jpeg,
            pytest.warns(UserWarning, match=r"pixels of --mask m\.png are nearly black, away"),
        ):
            read(jpeg.convert("L"))

    def test_values_of_a_jpeg(self, tmp_path: Path) -> None:
        source = ImageFile(np.arange(256, dtype=np.uint8).reshape(16, 16), format="JPEG")
        with pytest.warns(UserWarning, match=r"in\.jpg is a JPEG, in which values change"):
            found = find_missing_pixels(0.0, "missing", source, "in.jpg")
        assert found.share == 1 / 256

    @pytest.mark.parametrize("format", ["WebP", "AVIF", "HEIC", "PNG"])
    @pytest.mark.parametrize("colour", [False, True])
    def test_values_of_other_formats_with_loss(self, format: str, colour: bool) -> None:
        pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
        source = ImageFile(pixels, format=format)
        mask: Any = 0.0
        if colour:
            source, mask = (
                ImageFile(np.stack([pixels] * 3, -1), 2, format=format),
                ("color", (0,) * 3),
            )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            find_missing_pixels(mask, "missing", source, "in")
        said = f"in is a {format}, in which values change if it was saved with loss: pixels next to"
        assert [str(each.message).startswith(said) for each in caught] == [True] * (format != "PNG")


class TestOtherPictures:
    @pytest.mark.parametrize("values", [(0, 1), (0, 255), (0, 128), (3, 255)])
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    def test_two_values(self, read: Any, values: tuple[int, int], dtype: str) -> None:
        drawn = strokes(4)
        low, high = values
        missing, _ = read(np.where(drawn, low, high).astype(dtype), "known", name="m.tif")
        assert (missing == drawn).all()
        if low == 0:
            missing, _ = read(np.where(drawn, high, low).astype(dtype), name="m.tif")
            assert (missing == drawn).all()

    def test_one_bit(self, read: Any) -> None:
        drawn = strokes(4)
        missing, _ = read(Image.fromarray(drawn))
        assert (missing == drawn).all()

    def test_photographs_are_refused(self, read: Any) -> None:
        photo = (resize(camera(), (SIZE, SIZE)) * 255).astype(np.uint8)
        painted = np.repeat(photo[..., None], 3, -1)
        painted[strokes(6)] = (255, 0, 0)
        for pixels in (photo, painted, photo.astype(np.uint16) * 257):
            for marks in ("missing", "known"):
                with pytest.raises(ValueError, match=r"--mask m\.tif is no mask: \d+% of its"):
                    read(pixels, marks, name="m.tif")

    def test_an_antialiased_text_is_a_mask(self, read: Any) -> None:
        image = Image.new("L", (SIZE, SIZE))
        for row in range(0, SIZE, 16):
            ImageDraw.Draw(image).text((2, row), "what is missing", fill=255)
        missing, _ = read(image)
        assert (missing == (np.array(image) > 0)).all()

    def test_values_that_are_not_finite(self, read: Any) -> None:
        pixels = strokes(4).astype(np.float32)
        pixels[0, 0] = np.nan
        with pytest.raises(ValueError, match=r"--mask m\.tif has pixels that are NaN or infinite"):
            read(pixels, name="m.tif")


class TestOpacityOfThePicture:
    @pytest.mark.parametrize(("dtype", "white"), [("uint8", 255), ("uint16", 65535)])
    def test_what_is_not_opaque_is_missing(self, dtype: str, white: int) -> None:
        alpha = np.where(strokes(4), white - 1, white).astype(dtype)
        source = ImageFile(np.ones((SIZE, SIZE), dtype), alpha=alpha)
        found = find_missing_pixels("alpha", "missing", source, "in.png")
        assert found.share == strokes(4).mean()
        assert found.origin == "opacity of in.png"

    def test_without_a_mask_it_is_the_next_step(self) -> None:
        alpha = np.where(strokes(4), 0, 255).astype(np.uint8)
        source = ImageFile(np.ones((SIZE, SIZE), np.uint8), alpha=alpha)
        with pytest.raises(ValueError, match=r"in\.png has no NaN; --mask alpha says"):
            find_missing_pixels(None, "missing", source, "in.png")
        holes = np.where(strokes(2), np.nan, 1)
        found = find_missing_pixels(None, "missing", ImageFile(holes, alpha=alpha), "in.tif")
        assert found.share == strokes(2).mean()

    def test_all_opaque(self) -> None:
        source = ImageFile(np.ones((4, 4), np.uint8), alpha=np.full((4, 4), 255, np.uint8))
        with pytest.raises(ValueError, match=r"--mask alpha: all pixels of in\.png are opaque"):
            find_missing_pixels("alpha", "missing", source, "in.png")


def test_an_array_of_booleans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("m.npy", strokes(3))
    found = find_missing_pixels("m.npy", "missing", SOURCE, "in.png")
    assert np.array_equal(found.mask > 0, strokes(3))
    found = find_missing_pixels("m.npy", "known", SOURCE, "in.png")
    assert found.share == 1 - strokes(3).mean()


class TestColours:
    @pytest.mark.parametrize("axis", [0, 2])
    @pytest.mark.parametrize(("dtype", "white"), [("uint8", 255), ("uint16", 65535)])
    @pytest.mark.parametrize("is_hex", [False, True])
    def test_pixels_of_a_colour_are_missing(
        self, axis: int, dtype: str, white: int, is_hex: bool
    ) -> None:
        pixels = np.full((SIZE, SIZE, 3), 7, dtype)
        pixels[strokes(3)] = (white, 0, 0)
        pixels[0] = (white, 0, 7)  # another red
        source = ImageFile(np.moveaxis(pixels, -1, axis), axis)
        colour = "#ff0000" if is_hex else (white, 0, 0)
        found = find_missing_pixels(("color", colour), "missing", source, "in.png")
        expected = strokes(3)
        expected[0] = False
        assert np.array_equal(found.mask, expected)
        assert found.origin.endswith("in in.png")

    def test_refusals(self) -> None:
        grey = ImageFile(np.ones((4, 4), np.uint8))
        with pytest.raises(ValueError, match=r"in\.png has 1 channel, expected 3; --mask value:V"):
            find_missing_pixels(("color", "#ff0000"), "missing", grey, "in.png")
        with pytest.raises(ValueError, match=r"--mask color:255,0,0: no pixel of in\.png has that"):
            find_missing_pixels(("color", (255, 0, 0)), "missing", SOURCE, "in.png")
        floats = ImageFile(np.ones((4, 4, 3), np.float32), 2)
        with pytest.raises(ValueError, match=r"color:#ff0000: .* expected 8 or 16 bits"):
            find_missing_pixels(("color", "#ff0000"), "missing", floats, "in.tif")


class TestFewerThan16Bits:
    """Pictures whose numbers have 10 to 15 bits and say so: their white is no white of 16 bits."""

    MANY = ImageFile(np.full((SIZE, SIZE), 7, np.uint16), metadata={"bits": 12})

    @pytest.mark.parametrize("marks", ["missing", "known"])
    def test_soft_edges_count(self, marks: str, tmp_path: Path) -> None:
        drawn = strokes(6)
        soft = np.where(drawn, 4095, np.where(grown(drawn), 2000, 0)).astype(np.uint16)
        if marks == "known":
            soft = 4095 - soft
        path = str(tmp_path / "m.tif")
        write_image(path, soft, like=self.MANY)
        found = find_missing_pixels(path, marks, self.MANY, "in.tif")
        missing = resolve_mask(self.MANY.image, found.mask, found.marks, None)[1][0, 0]
        assert (missing == grown(drawn)).all()

    def test_colours_by_their_bytes(self) -> None:
        pixels = np.zeros((4, 5, 3), np.uint16)
        pixels[0, 0], pixels[1, 1] = 1023, (1023, 514, 0)
        source = ImageFile(pixels, 2, metadata={"bits": 10})
        for text, place in (("#ffffff", (0, 0)), ("#ff8000", (1, 1))):
            found = find_missing_pixels(("color", text), "missing", source, "in.avif")
            assert np.argwhere(found.mask).tolist() == [list(place)]


def test_what_was_assumed_of_a_mask_is_said(tmp_path: Path) -> None:
    """A TIFF says whether 1 is white or black, and some libraries write masks in black."""
    source = ImageFile(np.full((8, 9), 7, np.uint8))
    drawn = np.zeros((8, 9), bool)
    drawn[2:5, 3:6] = True
    path = str(tmp_path / "m.tif")
    tifffile.imwrite(path, drawn, photometric="miniswhite")
    found = find_missing_pixels(path, "missing", source, "in.png")
    assert found.origin.endswith(
        "(values over 0; its pixels of 1 are black and those of 0 white "
        "(PhotometricInterpretation))"
    )
    tifffile.imwrite(path, drawn, photometric="minisblack")
    found = find_missing_pixels(path, "missing", source, "in.png")
    assert found.origin == f"{path} (values over 0)"
    assert found.share == drawn.mean()
