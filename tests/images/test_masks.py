"""Masks of every kind mark the missing pixels, and invalid masks are refused."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from dipfast.images.masks import resolve_mask

IMAGE = np.arange(75, dtype=np.uint8).reshape(5, 5, 3) + 1
HOLE = np.zeros((5, 5), dtype=bool)
HOLE[1:3, 0] = True  # touches the border


def missing_of(image, mask, marks="missing", channel_axis=None) -> np.ndarray:
    image, missing = resolve_mask(image, mask, marks, channel_axis)
    planes = np.moveaxis(np.asarray(image), -1, -3) if image.ndim == 3 else np.asarray(image)
    return np.broadcast_to(missing, (1, *planes.shape[-3:]) if planes.ndim >= 3 else (1, 1, 5, 5))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int64, np.float32])
@pytest.mark.parametrize("full_scale", [1, 255])
@pytest.mark.filterwarnings("ignore:92.0% of the pixels are missing")
def test_dtypes(dtype: type, full_scale: int) -> None:
    if dtype is np.float32:
        full_scale = 1
    mask = (HOLE * full_scale).astype(dtype)
    for given in (mask, torch.from_numpy(mask) if dtype is not np.uint16 else mask):
        assert (missing_of(IMAGE, given) == HOLE).all()
        assert (missing_of(IMAGE, given, "known") == ~HOLE).all()


def test_shapes() -> None:
    colour = np.zeros(IMAGE.shape, dtype=bool)
    colour[0, 0, 1] = True
    assert missing_of(IMAGE, colour).sum() == 1
    one_channel = HOLE[..., None]
    assert (missing_of(IMAGE, one_channel) == HOLE).all()
    tensor = torch.from_numpy(np.moveaxis(IMAGE, -1, 0).copy())
    for mask in (torch.from_numpy(HOLE), torch.from_numpy(HOLE)[None]):
        _, missing = resolve_mask(tensor, mask, "missing", None)
        assert missing.shape == (1, 1, 5, 5)
    batch = torch.stack([tensor, tensor])
    several = torch.from_numpy(np.stack([HOLE, HOLE.T]))[:, None]
    _, missing = resolve_mask(batch, several, "missing", None)
    assert (missing == several.numpy()).all()
    first = np.moveaxis(IMAGE, -1, 0)
    _, missing = resolve_mask(first, np.broadcast_to(HOLE, (3, 5, 5)), "missing", 0)
    assert (missing[0] == HOLE).all()


def test_soft_edges_are_missing() -> None:
    soft = HOLE * np.uint8(255)
    soft[0, 0] = 40
    assert (missing_of(IMAGE, soft) == (soft > 0)).all()
    turned = 255 - soft
    assert (missing_of(IMAGE, turned, "known") == (soft > 0)).all()


def test_nan_pixels() -> None:
    image = IMAGE / 255
    image[1, 2, 0] = math.nan
    whole, missing = resolve_mask(image, None, "missing", None)
    assert missing.sum() == 1
    assert missing[0, 0, 1, 2]
    np.testing.assert_array_equal(whole, image)
    # If a mask is given too, the pixels of both are missing.
    assert (missing_of(image, HOLE)[0, 0] == HOLE).sum() == 24
    tensor = torch.from_numpy(image).movedim(-1, 0)
    assert resolve_mask(tensor, None, "missing", None)[1].sum() == 1


def test_opacity() -> None:
    opaque = np.dstack([IMAGE, np.where(HOLE, 0, 255).astype(np.uint8)])
    image, missing = resolve_mask(opaque, "alpha", "missing", None)
    assert (image == IMAGE).all()
    assert (missing == HOLE).all()
    grey, missing = resolve_mask(opaque[..., [0, 3]], "alpha", "missing", None)
    assert (grey == IMAGE[..., 0]).all()
    assert (missing == HOLE).all()
    half = opaque.copy()
    half[3, 3, 3] = 128
    assert resolve_mask(half, "alpha", "missing", None)[1][0, 0, 3, 3]


def test_a_value_that_marks() -> None:
    image = IMAGE.copy()
    image[HOLE] = 0
    image[3, 3, 0] = 0  # one channel is not enough
    assert (missing_of(image, 0) == HOLE).all()


def is_suspicious(mask: np.ndarray) -> bool:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resolve_mask(np.ones(mask.shape), mask, "missing", None)
    return any("the right way round" in str(warning.message) for warning in caught)


def strokes() -> np.ndarray:
    """Return a mask of thin lines, some of which reach the border."""
    mask = np.zeros((100, 120), dtype=bool)
    for k in range(5, 95, 12):
        mask[k : k + 2, 3:110] = True
        mask[k:, k : k + 2] = True
    return mask


def test_too_many_missing_pixels_are_warned_of() -> None:
    mask = np.ones((10, 10), dtype=bool)
    mask[0, :4] = False
    with pytest.warns(UserWarning, match=r"96.0% of the pixels are missing: is mask_marks='missi"):
        resolve_mask(np.ones((10, 10)), mask, "missing", None)


@pytest.mark.parametrize(
    "mask",
    [strokes(), np.pad(np.ones((30, 40), dtype=bool), 20), np.pad(strokes(), 3)],
    ids=["lines", "an object", "lines that touch no border"],
)
def test_an_inverted_mask_is_warned_of(mask: np.ndarray) -> None:
    assert mask.mean() < 0.5
    assert not is_suspicious(mask)
    assert is_suspicious(~mask)


@pytest.mark.parametrize("share", [0.5, 0.6, 0.75, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_random_pixels_are_no_inverted_mask(share: float, seed: int) -> None:
    assert not is_suspicious(np.random.default_rng(seed).random((100, 120)) < share)


def test_a_grid_of_known_pixels_is_no_inverted_mask() -> None:
    mask = np.ones((96, 120), dtype=bool)
    mask[::3, ::3] = False
    assert not is_suspicious(mask)


def test_masked_pixels_are_missing() -> None:
    image = np.ma.masked_array(IMAGE.astype(float), np.broadcast_to(HOLE[..., None], IMAGE.shape))
    whole, missing = resolve_mask(image, None, "missing", None)
    assert type(whole) is np.ndarray
    assert (missing == HOLE).all()
    assert (missing_of(image, HOLE.T) == HOLE | HOLE.T).all()
    with pytest.raises(
        ValueError, match=r"mask is masked itself at 2 of its pixels: pass mask\.filled"
    ):
        resolve_mask(IMAGE, np.ma.masked_array(HOLE, HOLE), "missing", None)


def test_a_value_of_nan_marks_nan_pixels() -> None:
    image = np.where(HOLE[..., None], math.nan, IMAGE / 255)
    assert (missing_of(image, math.nan) == HOLE).all()


def test_opacity_that_is_nan_in_one_pixel() -> None:
    image = np.ones((8, 8, 4), np.float32)
    image[2:4, 2:4, 3] = 0
    image[5, 5] = math.nan
    _, missing = resolve_mask(image, "alpha", "missing", None)
    assert missing.sum() == 5


def test_opacity_and_nan_together() -> None:
    opaque = np.dstack([IMAGE / 255, np.where(HOLE, 0.0, 1.0)])
    opaque[4, 4, 1] = math.nan
    image, missing = resolve_mask(opaque, "alpha", "missing", None)
    assert image.shape == IMAGE.shape
    assert missing.sum() == 3
    assert missing[0, 0, 4, 4]


@pytest.mark.parametrize(
    ("mask", "marks", "error", "message"),
    [
        (None, "missing", ValueError, "mask is needed: image has no NaN or masked pixels"),
        (HOLE, "holes", ValueError, "mask_marks must be one of missing, known, got 'holes'"),
        (HOLE & False, "missing", ValueError, "mask says that nothing is missing; mask_marks='mi"),
        (HOLE | True, "known", ValueError, "mask says that nothing is missing"),
        (HOLE | True, "missing", ValueError, "mask says that all pixels are missing"),
        (HOLE & False, "known", ValueError, "mask says that all pixels are missing"),
        (HOLE[:3], "missing", ValueError, r"mask must have shape \(5, 5\) or \(5, 5, 3\), got \(3"),
        (np.zeros((5, 5, 2)), "missing", ValueError, r"mask must have shape .*got \(5, 5, 2\)"),
        (np.zeros((1, 5, 5, 3)), "missing", ValueError, "mask must have shape"),
        (HOLE * -1, "missing", ValueError, "mask must not be negative, got values down to -1"),
        (HOLE * math.nan, "missing", ValueError, "mask must be boolean or hold finite numbers"),
        (HOLE + 1j, "missing", ValueError, "mask must be boolean or hold finite.*complex"),
        (
            np.arange(25, dtype=np.uint8).reshape(5, 5),
            "missing",
            ValueError,
            "mask has low contrast, values from 0 to 24 of 255",
        ),
        (99, "missing", ValueError, "mask=99 is a value that no pixel of image has"),
        ("alpha", "missing", ValueError, "mask='alpha' needs an image of 2 or 4 channels.*got 3"),
        ("mask.png", "missing", ValueError, "mask must be 'alpha' if it is a string"),
        ([[True]], "missing", TypeError, "mask must be an array.*got list"),
        (True, "missing", TypeError, "mask must be an array.*got bool"),
    ],
)
def test_invalid_masks_are_refused(mask, marks: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        resolve_mask(IMAGE, mask, marks, None)


@pytest.mark.parametrize("marks", ["missing", "known"])
def test_masks_that_were_a_jpeg_are_warned_of(marks: str) -> None:
    image = np.full((40, 40), 7, np.uint8)
    mask = np.random.default_rng(0).integers(0, 6, (40, 40)).astype(np.uint8)
    mask[5:9] = 255
    mask = mask if marks == "missing" else 255 - mask
    with pytest.warns(UserWarning, match=r"nearly (black|white).*pass mask > 127 if"):
        resolve_mask(image, mask, marks, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resolve_mask(image, mask > 127, marks, None)
        # Soft edges, and colours of a palette, are no traces of a JPEG.
        mask[20:22] = 128
        resolve_mask(image, mask, marks, None)
