"""Masks of missing pixels: painted on the page, or loaded from a file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from dipfast.apps.mask_pictures import marks_of
from dipfast.apps.studio.pictures import Picture, plain_name, read_single
from dipfast.arrays import white_of
from dipfast.errors import InputError
from dipfast.images import files
from dipfast.images.files import ImageFile

__all__ = ["loaded_mask", "painted_mask"]

_Bools = np.ndarray[Any, Any]

# From this share of white on, a pixel was painted over.
_PAINTED = 0.5


def painted_mask(path: Path, picture: Picture) -> _Bools:
    """Return a mask that was painted over the preview of a picture.

    Parameters
    ----------
    path
        A picture of the size of the preview, white where something was painted, else black.
    picture
        The picture.

    Returns
    -------
    numpy.ndarray
        Boolean (H, W) of the picture, True where it was painted over.

    Raises
    ------
    InputError
        If it has another size than the preview.
    """
    source = files.read_single(path)
    expected = picture.preview.height, picture.preview.width
    if source.size != expected:
        raise InputError(f"what was painted has size {source.size}, expected {expected}")
    painted = _brightest(source) >= _PAINTED * white_of(source.image)
    if picture.size == expected:
        return painted
    # Each pixel of the picture is that of the preview which its middle lies in.
    rows, columns = (
        ((np.arange(most) + 0.5) * few / most).astype(int)
        for most, few in zip(picture.size, expected)
    )
    mask: _Bools = painted[np.ix_(rows, columns)]
    return mask


def loaded_mask(path: Path, name: str, picture: Picture) -> _Bools:
    """Return the mask in a file.

    Parameters
    ----------
    path
        A picture of the size of the picture to restore: white, or any colour but black, on black;
        or strokes on a clear layer.
    name
        What the file is called by the user.
    picture
        The picture to restore.

    Returns
    -------
    numpy.ndarray
        Boolean (H, W), True where pixels are missing.

    Raises
    ------
    InputError
        If it cannot be read, has another size, or is a photograph.

    Warns
    -----
    UserWarning
        Of what was assumed in reading it.
    """
    source = read_single(path, plain_name(name), mask=True)
    if source.size != picture.size:
        (height, width), (rows, columns) = source.size, picture.size
        raise InputError(
            f"the mask {name} has {width} x {height} pixels, expected {columns} x {rows}, "
            f"as {picture.name} has"
        )
    values, _ = marks_of(source, f"the mask {name}")
    for remark in source.remarks:
        warnings.warn(f"the mask {name}: {remark}", stacklevel=2)
    mask: _Bools = values > 0
    return mask


def _brightest(source: ImageFile) -> _Bools:
    """Return the brightest channel of each pixel."""
    if source.channel_axis is None:
        return source.image
    brightest: _Bools = source.image.max(axis=source.channel_axis)
    return brightest
