"""Masks of every kind: which pixels are missing, and what cannot be meant."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from dipfast.masks import find_missing

IMAGE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) + 1
HOLE = np.zeros((4, 4), dtype=bool)
HOLE[1:3, 0] = True  # touches the border


def missing_of(image, mask, marks="missing", channel_axis=None) -> np.ndarray:
    image, missing = find_missing(image, mask, marks, channel_axis)
    planes = np.moveaxis(np.asarray(image), -1, -3) if image.ndim == 3 else np.asarray(image)
    return np.broadcast_to(missing, (1, *planes.shape[-3:]) if planes.ndim >= 3 else (1, 1, 4, 4))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int64, np.float32])
@pytest.mark.parametrize("whole", [1, 255])
def test_dtypes(dtype: type, whole: int) -> None:
    if dtype is np.float32:
        whole = 1
    mask = (HOLE * whole).astype(dtype)
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
        _, missing = find_missing(tensor, mask, "missing", None)
        assert missing.shape == (1, 1, 4, 4)
    batch = torch.stack([tensor, tensor])
    several = torch.from_numpy(np.stack([HOLE, HOLE.T]))[:, None]
    _, missing = find_missing(batch, several, "missing", None)
    assert (missing == several.numpy()).all()
    first = np.moveaxis(IMAGE, -1, 0)
    _, missing = find_missing(first, np.broadcast_to(HOLE, (3, 4, 4)), "missing", 0)
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
    whole, missing = find_missing(image, None, "missing", None)
    assert missing.sum() == 1
    assert missing[0, 0, 1, 2]
    assert np.isfinite(whole).all()
    assert np.isnan(image[1, 2, 0])  # that of the caller is as it was
    # With a mask besides, both are missing.
    assert (missing_of(image, HOLE)[0, 0] == HOLE).sum() == 15
    tensor = torch.from_numpy(image).movedim(-1, 0)
    assert find_missing(tensor, None, "missing", None)[1].sum() == 1


def test_opacity() -> None:
    opaque = np.dstack([IMAGE, np.where(HOLE, 0, 255).astype(np.uint8)])
    image, missing = find_missing(opaque, "alpha", "missing", None)
    assert (image == IMAGE).all()
    assert (missing == HOLE).all()
    grey, missing = find_missing(opaque[..., [0, 3]], "alpha", "missing", None)
    assert (grey == IMAGE[..., 0]).all()
    assert (missing == HOLE).all()
    half = opaque.copy()
    half[3, 3, 3] = 128
    assert find_missing(half, "alpha", "missing", None)[1][0, 0, 3, 3]


def test_a_value_that_marks() -> None:
    image = IMAGE.copy()
    image[HOLE] = 0
    image[3, 3, 0] = 0  # one channel is not enough
    assert (missing_of(image, 0) == HOLE).all()


def test_too_much_missing_is_told() -> None:
    image = np.ones((10, 10))
    mask = np.ones((10, 10), dtype=bool)
    mask[0, :4] = False
    with pytest.warns(UserWarning, match=r"96.0% of the pixels are missing: is mask_marks='missi"):
        find_missing(image, mask, "missing", None)
    mask[0] = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        find_missing(image, mask, "missing", None)


@pytest.mark.parametrize(
    ("mask", "marks", "error", "message"),
    [
        (None, "missing", ValueError, "mask is needed: image has no NaN pixels"),
        (HOLE, "holes", ValueError, "mask_marks must be one of missing, known, got 'holes'"),
        (HOLE & False, "missing", ValueError, "mask says that nothing is missing; mask_marks='mi"),
        (HOLE | True, "known", ValueError, "mask says that nothing is missing"),
        (HOLE | True, "missing", ValueError, "mask says that all pixels are missing"),
        (HOLE & False, "known", ValueError, "mask says that all pixels are missing"),
        (HOLE[:3], "missing", ValueError, r"mask must have shape \(4, 4\) or \(4, 4, 3\), got \(3"),
        (np.zeros((4, 4, 2)), "missing", ValueError, r"mask must have shape .*got \(4, 4, 2\)"),
        (np.zeros((1, 4, 4, 3)), "missing", ValueError, "mask must have shape"),
        (HOLE * -1, "missing", ValueError, "mask must not be negative, got values down to -1"),
        (HOLE * math.nan, "missing", ValueError, "mask must be boolean or hold finite numbers"),
        (HOLE + 1j, "missing", ValueError, "mask must be boolean or hold finite.*complex"),
        (
            np.arange(16, dtype=np.uint8).reshape(4, 4),
            "missing",
            ValueError,
            "mask has low contrast, values from 0 to 15 of 255",
        ),
        (77, "missing", ValueError, "mask=77 is a value that no pixel of image has"),
        ("alpha", "missing", ValueError, "mask='alpha' needs an image of 2 or 4 channels.*got 3"),
        ("mask.png", "missing", ValueError, "mask must be 'alpha' if it is a string"),
        ([[True]], "missing", TypeError, "mask must be an array.*got list"),
        (True, "missing", TypeError, "mask must be an array.*got bool"),
    ],
)
def test_what_cannot_be_meant(mask, marks: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        find_missing(IMAGE, mask, marks, None)
