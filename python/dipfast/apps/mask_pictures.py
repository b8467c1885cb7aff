"""Pictures of masks, as people draw them: which pixels they mark."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from dipfast.arrays import white_of
from dipfast.errors import InputError
from dipfast.images.files import ImageFile
from dipfast.images.files.pixels import stretched
from dipfast.images.masks import grown

__all__ = ["marks_of"]

# The compression of a JPEG leaves values around black and white.  Of drawn masks of quality 50 and
# more, these are below a quarter of white, and none of the drawn pixels is.
_JPEG_MARGIN = 64
# The same share of white, for masks of other formats that have been a JPEG before.
_FAINT = 0.25
# Soft edges are a small part of a mask; of a photograph, most pixels are neither black nor white.
_MOST_IN_BETWEEN = 0.25
# From this opacity on, a pixel of a mask is one that was drawn, and its colour can be told.
_DRAWN = 0.5


def marks_of(picture: ImageFile, name: str, marks: str = "missing") -> tuple[Any, str]:
    """Return the picture of a mask as one plane, or a stack of planes, and how it was read.

    - A pixel is missing if it is so in any colour.
    - Clear pixels mark nothing, whatever their colour.  Where all that was drawn is black, on a
      clear layer, the opacity is the mask.
    - In a JPEG, what is nearly black or white is black or white.

    Parameters
    ----------
    picture
        The picture.
    name
        What messages call it.
    marks
        What it marks: ``"missing"`` pixels in any colour but black, the default, or ``"known"``
        ones in white.

    Returns
    -------
    values : numpy.ndarray
        The picture without an axis of channels: 0 is not marked if the missing pixels are, and the
        largest value is marked if the known ones are.
    origin : str
        How it was read, in words.

    Raises
    ------
    InputError
        If it marks nothing, is a photograph, is of the inks of print, or has values that are not
        finite.

    Warns
    -----
    UserWarning
        If some marks look like traces of compression.
    """
    if picture.metadata.get("inks"):  # white is where there is none of them
        raise InputError(f"{name} is of the inks of print (CMYK); save it in grey or RGB")
    pixels, axis, alpha = picture.image, picture.channel_axis, picture.alpha
    bits = picture.metadata.get("bits")
    if bits is not None and pixels.dtype == np.uint16:  # white is less than that of 16 bits
        pixels = stretched(pixels, bits)
    white = white_of(pixels)
    colours = pixels[None] if axis is None else np.moveaxis(pixels, axis, 0)
    values = colours.max(axis=0) if marks == "missing" else colours.min(axis=0)
    origin = "values over 0" if marks == "missing" else "values below white"
    if alpha is not None and picture.transparent.any():
        opacity = alpha / white_of(alpha)
        drawn = opacity >= min(_DRAWN, opacity.max())
        if not alpha.any():
            raise InputError(f"{name} is clear all over: it marks nothing")
        if colours.max(axis=0)[drawn].max() <= _FAINT * white:
            values, white, origin = alpha, white_of(alpha), "opacity"
        else:
            # Rounded up, so that what is nearly clear is not lost.
            product = values * opacity
            values = np.ceil(product).astype(values.dtype) if white > 1 else product
            origin += ", clear pixels mark nothing"
    elif picture.format == "JPEG":
        values = np.where(values <= _JPEG_MARGIN, 0, values)
        values = np.where(values >= 255 - _JPEG_MARGIN, 255, values).astype(np.uint8)
        limit = f"over {_JPEG_MARGIN}" if marks == "missing" else f"below {255 - _JPEG_MARGIN}"
        origin = f"JPEG, values {limit}"
    _check_black_and_white(name, values, white, marks)
    return values, origin


def _check_black_and_white(name: str, values: Any, white: float, marks: str) -> None:
    """Refuse a photograph, and warn of marks that look like traces of compression."""
    if not np.isfinite(values).all():
        raise InputError(f"{name} has pixels that are NaN or infinite; paint them white")
    in_between = (values > values.min()) & (values < values.max())
    if in_between.mean() > _MOST_IN_BETWEEN:
        raise InputError(
            f"{name} is no mask: {in_between.mean():.0%} of its pixels are neither its darkest nor "
            "its brightest; paint it in black and white"
        )
    distance = values if marks == "missing" else values.max() - values.astype(float)
    strong = distance > _FAINT * white
    near = [grown(grown(plane)) for plane in strong.reshape(-1, *strong.shape[-2:])]
    faint = (distance > 0) & ~strong & ~np.reshape(near, strong.shape)
    if faint.any() and strong.any():
        shade = "black" if marks == "missing" else "white"
        warnings.warn(
            f"{faint.sum()} pixels of {name} are nearly {shade}, away from any edge, and count as "
            f"missing; if they are noise, paint them {shade}",
            stacklevel=5,
        )
