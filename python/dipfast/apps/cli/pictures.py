"""Pictures that are no images to restore: masks, point-spread functions, references."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dipfast.apps.mask_pictures import marks_of
from dipfast.arrays import white_of
from dipfast.errors import InputError

if TYPE_CHECKING:
    from dipfast.images.files import ImageFile

__all__ = [
    "MissingPixels",
    "check_size",
    "depths_of",
    "find_missing_pixels",
    "of_depth",
    "point_spread",
    "read_reference",
]

# Formats of numbers that need not fill their 16 bits, and do not say how many they fill.
_COUNTED = ("TIFF", "NumPy", "FITS", "Zarr", "DICOM")
# Formats that keep the values of pixels only if they are told to.
_PERHAPS_WITH_LOSS = ("WebP", "AVIF", "HEIC")


@dataclass(frozen=True)
class MissingPixels:
    """Hold what :func:`dipfast.inpaint` is told of missing pixels, and where that is from."""

    mask: Any
    marks: Any
    origin: str
    share: float


def find_missing_pixels(mask: Any, marks: str, source: ImageFile, path: str) -> MissingPixels:
    """Return which pixels of a picture are missing.

    Parameters
    ----------
    mask
        A file name, ``"alpha"``, a value, ``("color", COLOUR)`` with three numbers or the text
        ``"#rrggbb"``, or None.
    marks
        What the mask in that file marks, ``"missing"`` or ``"known"``.
    source, path
        The picture to restore.
    """
    from dipfast.images.masks import resolve_mask

    pixels, axis = source.image, source.channel_axis
    values: Any = None
    if isinstance(mask, str) and mask != "alpha":
        values, how = read_mask(mask, marks, source, path)
        origin = f"{mask} ({how})"
    elif marks != "missing":
        raise InputError("--mask-marks tells about the picture of a mask, and --mask names none")
    elif mask == "alpha":
        if source.alpha is None:
            raise InputError(f"--mask alpha: {path} has no transparency")
        values, origin = source.transparent, f"opacity of {path}"
        if not values.any():
            raise InputError(f"--mask alpha: all pixels of {path} are opaque")
    elif isinstance(mask, tuple):
        values, origin = _of_colour(mask[1], source, path)
    elif mask is None or math.isnan(mask):
        origin = f"NaN in {path}"
        _check_not_transparent(source, path)
    else:
        same = pixels == mask
        values, origin = same if axis is None else same.all(axis=axis), f"value {mask:g} in {path}"
        if not values.any():
            raise InputError(f"--mask value:{mask:g}: no pixel of {path} has that value")
        _warn_of_loss(source, path, f"{mask:g}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the restoration warns of the same
        found = resolve_mask(pixels, values, marks, axis, source.stack_axis)  # type: ignore[arg-type]
        missing = found[1]
    return MissingPixels(values, marks, origin, float(missing.mean()))


def _check_not_transparent(source: ImageFile, path: str) -> None:
    """Refuse a picture with transparency and without NaN where no mask is named."""
    has_nan = source.image.dtype.kind == "f" and np.isnan(source.image).any()
    if source.alpha is not None and not has_nan and source.transparent.any():
        raise InputError(
            f"--mask is needed: {path} has no NaN; --mask alpha says that the pixels that are not "
            "opaque are missing"
        )


def _warn_of_loss(source: ImageFile, path: str, chosen: str) -> None:
    """Warn where pixels of a value may have others since the picture was saved."""
    if source.format != "JPEG" and source.format not in _PERHAPS_WITH_LOSS:
        return
    perhaps = "" if source.format == "JPEG" else " if it was saved with loss"
    warnings.warn(
        f"{path} is a {source.format}, in which values change{perhaps}: pixels next to {chosen} "
        "count as known",
        stacklevel=3,
    )


def _of_colour(colour: Any, source: ImageFile, path: str) -> tuple[Any, str]:
    """Return which pixels of a picture have a colour, and that in words."""
    pixels, axis = source.image, source.channel_axis
    text = colour if isinstance(colour, str) else ",".join(f"{value:g}" for value in colour)
    option = f"--mask color:{text}"
    if axis is None or pixels.shape[axis] != 3:
        count = 1 if axis is None else pixels.shape[axis]
        raise InputError(
            f"{option}: {path} has {count} channel{'s' * (count > 1)}, expected 3; --mask value:V "
            "takes pixels of the value V in all channels"
        )
    if isinstance(colour, str):
        if pixels.dtype.name not in ("uint8", "uint16"):
            raise InputError(
                f"{option}: {path} has values of {pixels.dtype.name}, expected 8 or 16 bits; "
                "--mask color:R,G,B takes numbers as they are in the picture"
            )
        # 255 of 8 bits is white, as 65535 of 16 bits is, or 1023 where 10 of them are used.
        bits = source.metadata.get("bits") if pixels.dtype == np.uint16 else None
        white = white_of(pixels) if bits is None else (1 << bits) - 1
        colour = tuple(round(byte * white / 255) for byte in bytes.fromhex(colour[1:]))
    values = (np.moveaxis(pixels, axis, -1) == np.asarray(colour)).all(axis=-1)
    if not values.any():
        raise InputError(f"{option}: no pixel of {path} has that colour")
    _warn_of_loss(source, path, f"color:{text}")
    return values, f"color {text} in {path}"


def read_mask(path: str, marks: str, source: ImageFile, source_path: str) -> tuple[Any, str]:
    """Return the picture of a mask as one plane, or a stack of planes, and how it was read."""
    from dipfast.images import files

    picture = files.read_mask(path).stacked_as(source)
    check_size("--mask", path, picture, source, source_path)
    if picture.stack_axes:
        _check_planes("--mask", path, picture, source, source_path)
    values, origin = marks_of(picture, f"--mask {path}", marks)
    if picture.stack_axes:  # in the order of the axes of the source
        plain = replace(picture, image=values, channel_axis=None, stack_axes=_without(picture))
        first = np.take(source.image, 0, axis=source.channel_axis or 0)
        if source.channel_axis is None:
            first = source.image
        like = replace(source, image=first, channel_axis=None, stack_axes=_without(source))
        values = plain.in_order_of(like)
    return values, "; ".join((origin, *picture.remarks))


def _without(picture: ImageFile) -> tuple[int, ...]:
    """Return the axes of a stack as they are once that of the channels is taken out."""
    axis = picture.image.ndim if picture.channel_axis is None else picture.channel_axis
    return tuple(place - (axis < place) for place in picture.stack_axes)


def check_size(
    option: str, path: str, other: ImageFile, source: ImageFile, source_path: str, factor: int = 1
) -> None:
    """Refuse a picture that is not of the size of another one, times a factor."""
    rows, columns = (factor * n for n in source.size)
    if other.size != (rows, columns):
        height, width = other.size
        raise InputError(
            f"{option} {path} has {width} x {height} pixels, expected {columns} x {rows}, "
            + (f"as {source_path} has" if factor == 1 else f"{factor} times those of {source_path}")
        )


def _check_planes(
    option: str, path: str, other: ImageFile, source: ImageFile, source_path: str
) -> None:
    """Refuse a stack that has not as many planes as another one."""
    if other.stack_shape != source.stack_shape:
        here, there = (file.described_stack() or "one image" for file in (other, source))
        raise InputError(f"{option} {path} holds {here}, expected {there}, as {source_path} does")


def read_reference(
    path: str, source: ImageFile, source_path: str, factor: int, told: list[str] | None = None
) -> Any:
    """Return a clean picture, or stack, in the form of the result.

    What was assumed of it, and not of the source, too, is added to ``told``.
    """
    from dipfast.images import files

    reference = files.read_image(path).stacked_as(source)
    if told is not None:
        told += [f"{path}: {each}" for each in reference.remarks if each not in source.remarks]
    check_size("--reference", path, reference, source, source_path, factor)
    _check_planes("--reference", path, reference, source, source_path)
    is_grey = source.channel_axis is None
    if is_grey is not (reference.channel_axis is None):
        grey, colour = (source_path, path) if is_grey else (path, source_path)
        raise InputError(f"--reference {path}: {grey} is grey and {colour} has channels")
    own, wanted = depths_of(reference, source)
    if own is not None and wanted is not None:
        reference = of_depth(reference, own, wanted)
    return reference.in_order_of(source)


def depths_of(*pictures: ImageFile) -> list[int | None]:
    """Return of how many bits the numbers of pictures are, None where their type is not uint16.

    Parameters
    ----------
    *pictures
        Pictures that are seen side by side.  Numbers of a format that does not say it are taken
        for those of the least depth of another one whose white they exceed by less than twice, or
        else for 16 bits.
    """
    said = [_depth_said(picture) for picture in pictures]
    known = sorted({bits for bits in said if bits is not None})

    def found(picture: ImageFile) -> int | None:
        if picture.image.dtype != np.uint16:
            return None
        largest = picture.image.max(initial=0)
        # Results and noise go a little beyond white.
        return next((bits for bits in known if largest < 2 << bits), 16)

    return [bits or found(picture) for bits, picture in zip(said, pictures)]


def _depth_said(picture: ImageFile) -> int | None:
    """Return of how many bits the numbers in uint16 are said to be, None if that is not said."""
    if picture.image.dtype != np.uint16:
        return None
    bits: int | None = picture.metadata.get("bits")
    return 16 if bits is None and picture.format not in _COUNTED else bits


def of_depth(picture: ImageFile, bits: int, wanted: int) -> ImageFile:
    """Return a picture with its numbers in the unit of another depth.

    Parameters
    ----------
    picture
        The picture, in uint16.
    bits, wanted
        Of how many bits its numbers are, and are to be: white stays white.
    """
    if bits == wanted:
        return picture
    from dipfast.images.files.pixels import stretched

    white, new = (1 << bits) - 1, (1 << wanted) - 1
    if wanted == 16 and bits >= 8:
        image = stretched(picture.image, bits)  # to the last bit as they are written
    else:
        image = (np.minimum(picture.image, white) * (new / white)).round().astype(np.uint16)
    return replace(picture, image=image, metadata={**picture.metadata, "bits": wanted})


def point_spread(
    blur: str | tuple[str, float], source: ImageFile, path: str, told: list[str]
) -> Any:
    """Return the kernel that --blur names, a tensor (rows, columns) of sum 1.

    What was assumed of its picture is added to ``told``.
    """
    import torch

    from dipfast.images import files
    from dipfast.model.operators import gaussian_kernel

    if isinstance(blur, tuple):
        kind, number = blur
        # From here on it sees nothing but the border; and numbers have no end, but memory has.
        limit = 2 * max(source.size) - 1
        size = 8 * number + 1 if kind == "gaussian" else number
        if size > limit:
            rows, columns = source.size
            raise InputError(
                f"--blur {kind}:{number:g} is {size:.6g} pixels wide, too many for {path}, "
                f"{columns} x {rows}"
            )
        if kind == "gaussian":
            return gaussian_kernel(number)
        return torch.full((int(number), int(number)), 1 / number**2)
    picture = files.read_single(blur)
    told += [f"{blur}: {each}" for each in picture.remarks]
    pixels = picture.image.astype("float64")
    if picture.channel_axis is not None:
        pixels = pixels.mean(axis=picture.channel_axis)
    if not (pixels >= 0).all() or pixels.sum() == 0:
        raise InputError(f"--blur {blur}: a point-spread function must not be negative or black")
    if any(size > 2 * n - 1 for size, n in zip(pixels.shape, source.size)):
        (height, width), (rows, columns) = pixels.shape, source.size
        raise InputError(
            f"--blur {blur} has {width} x {height} pixels, too many for {path}, {columns} x {rows}"
        )
    return torch.from_numpy(pixels / pixels.sum()).float()
