"""Writing images, and finding out before the work whether they can be written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dipfast.arrays import as_numpy, find_stack_axes
from dipfast.errors import InputError, InputTypeError, UnwritableFileError
from dipfast.images.files import formats
from dipfast.images.files.formats import Format
from dipfast.images.files.image_file import ImageFile
from dipfast.images.files.pixels import split
from dipfast.images.files.safe import (
    check_place,
    report_path,
    write_atomically,
    write_folder,
)
from dipfast.warn import warn_caller

__all__ = ["check_output", "write_image"]


def write_image(
    path: str | Path,
    image: np.ndarray[Any, Any],
    *,
    like: ImageFile | None = None,
    channel_axis: int | None = None,
    stack_axis: int | tuple[int, ...] | None = None,
    overwrite: bool = False,
) -> None:
    """Write one image, or one stack, in the format that the ending of the name says.

    Parameters
    ----------
    path
        ``.png`` (uint8, uint16), ``.jpg`` (uint8) or ``.tif`` (these, other integers of up
        to 32 bits and floats), or the ending of another format in
        :data:`dipfast.images.files.formats.FORMATS`.  Any other name is that of a new
        folder, if ``like`` was read from a series of files.
    image
        Array (H, W), or with one more axis for 1, 3 or (TIFF) any number of channels; or a stack of
        these, for TIFF, NumPy, FITS and Zarr.  Without ``like``, the last of 2 or 4 channels is
        opacity in a PNG.
    like
        The file that the image was made from: its alpha and metadata are kept.  If the image has
        a multiple of its rows and columns, it is taken for the same view, and the resolution
        grows with it (:meth:`ImageFile.enlarged`, which is to be called before where there is
        opacity).  What the format cannot keep of the resolution, of the place on the globe, of
        EXIF, and of the metadata of ImageJ, OME and GeoTIFF is named in a warning.  Texts and
        comments are kept within a format; previews, XMP and IPTC are not.
    channel_axis
        The axis of the channels; None takes it from ``like``, else the last one.
    stack_axis
        The axis of a stack, or several; None takes it from ``like``, else there is none.
    overwrite
        Whether an existing file may be replaced.  The folder of a series never is.

    Raises
    ------
    FileExistsError
        If there is such a file already and overwrite is False.
    OSError
        If it cannot be written; an existing file is left as it was.
    UnwritableFileError
        If no format has the ending of the name, or the format cannot hold the image.
    ValueError
        If the image does not fit to ``like``.
    MissingExtraError
        If the format needs an extra of dipfast that is not installed.
    """
    path = Path(path)
    row = _format_of(path, like)
    image = _as_array(image)
    if channel_axis is None and like is not None:
        channel_axis = like.channel_axis
    stack_axes = find_stack_axes("image", image, stack_axis)
    if stack_axis is None and like is not None:
        stack_axes = like.stack_axes
    channel_axis = _check_axes(image, channel_axis, stack_axes)
    pixels, stack = _in_order(image, stack_axes, channel_axis), len(stack_axes)
    if like is not None:
        like = _fitting(like, pixels, stack)
    elif pixels.ndim == stack + 2:
        like = ImageFile(pixels, stack_axes=tuple(range(stack)))
    else:
        like = split(pixels, row.ends_in_opacity(pixels.shape[-1]), {}, stack)
    check_output(path, like, overwrite=overwrite)
    pixels = like.image
    if like.alpha is not None:
        colours = pixels if pixels.ndim > like.alpha.ndim else pixels[..., None]
        pixels = np.concatenate([colours, _opacity(like.alpha, pixels.dtype)[..., None]], axis=-1)
    if pixels.ndim == stack + 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    # It is copied even if it is contiguous: NumPy allows any stride along an axis of length one,
    # and some encoders use that stride.
    pixels = np.array(pixels, pixels.dtype.newbyteorder("="), order="C")
    if formats.by_suffix(path) is None:
        with write_folder(path, overwrite=overwrite, replaceable=lambda _: False) as folder:
            lost = row.load_for_series().write_series(folder, pixels, like)
    elif row.entries:
        with write_folder(path, overwrite=overwrite, replaceable=row.is_image) as folder:
            lost = row.load_for_folders().write(folder, pixels, like)
    else:
        with write_atomically(path, overwrite=overwrite) as stream:
            lost = row.load().write(stream, pixels, like)
    lost += _left_out(row, like)
    if lost:
        warn_caller(f"{path} is without: {', '.join(dict.fromkeys(lost))}")


def _as_array(image: Any) -> np.ndarray[Any, Any]:
    """Return an image as an array, checked not to be empty."""
    image = as_numpy(image)
    if not isinstance(image, np.ndarray):
        raise InputTypeError(f"image must be an array or a tensor, got {type(image).__name__}")
    if image.size == 0:
        raise InputError(f"image must not be empty, got shape {image.shape}")
    return image


def _check_axes(
    image: np.ndarray[Any, Any], channel_axis: int | None, stack_axes: tuple[int, ...]
) -> int | None:
    """Return the axis of the channels, not negative, and refuse axes that are none."""
    shape, others = image.shape, image.ndim - len(stack_axes)
    if channel_axis is None:
        if others not in (2, 3):
            raise InputError(
                f"image must have the axes (H, W), or one more for channels, besides those of a "
                f"stack, got shape {shape}; stack_axis says which these are"
            )
        return None
    if isinstance(channel_axis, bool) or not isinstance(channel_axis, int | np.integer):
        raise InputTypeError(f"channel_axis must be an integer or None, got {channel_axis!r}")
    if not -image.ndim <= channel_axis < image.ndim or others != 3:
        raise InputError(f"channel_axis={channel_axis} does not fit image of shape {shape}")
    axis = int(channel_axis) % image.ndim
    if axis in stack_axes:
        raise InputError(f"channel_axis={channel_axis} is also an axis of the stack")
    return axis


def _in_order(
    image: np.ndarray[Any, Any], stack_axes: tuple[int, ...], channel_axis: int | None
) -> np.ndarray[Any, Any]:
    """Return an image with the axes of a stack in front, and that of the channels at the end."""
    channels = [] if channel_axis is None else [channel_axis % image.ndim]
    pixels = [k for k in range(image.ndim) if k not in (*stack_axes, *channels)]
    return np.asarray(image.transpose((*stack_axes, *pixels, *channels)))


def _fitting(like: ImageFile, pixels: np.ndarray[Any, Any], stack: int) -> ImageFile:
    """Return the file with pixels in place of its own.

    They are (H, W) or (H, W, channels), behind so many axes of a stack.
    """
    if pixels.shape[:stack] != like.stack_shape:
        raise InputError(
            f"the image must be a stack as that of the file that it is like, {like.stack_shape}, "
            f"got {pixels.shape[:stack]}; without `like`, it is written as it is"
        )
    size, alpha = pixels.shape[stack : stack + 2], like.alpha
    factor = size[0] // like.size[0]
    if size != (factor * like.size[0], factor * like.size[1]):
        raise InputError(
            f"the image must have the size of the file that it is like, {like.size}, or a "
            f"multiple of it, got {size}; without `like`, it is written as it is"
        )
    if alpha is not None and alpha.shape != (*like.stack_shape, *size):
        raise InputError(
            f"the opacity of the file that the image is like has the size {alpha.shape}, expected "
            f"{size}; like.enlarged({factor}, dipfast.ops.resize) has it"
        )
    like = replace(like, alpha=None).enlarged(factor)
    axis = None if pixels.ndim == stack + 2 else stack + 2
    axes = tuple(range(stack))
    return replace(like, image=pixels, channel_axis=axis, alpha=alpha, stack_axes=axes)


def _opacity(alpha: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Return opacity in another type: full is the largest integer, or 1 for floats."""
    if alpha.dtype == dtype:
        return alpha
    full = [1 if each.kind == "f" else np.iinfo(each).max for each in (alpha.dtype, dtype)]
    values = alpha.astype(np.float64) * (full[1] / full[0])
    return (values if dtype.kind == "f" else values.round()).astype(dtype)


def _left_out(row: Format, like: ImageFile) -> list[str]:
    """Return what a format cannot hold of a file, and what the file has lost before, in words."""
    lost = list(like.metadata.get("lost", ()))
    if like.metadata.get("inks") and not row.inks:
        lost.append("that its channels are the inks of print")
    for key, value in like.metadata.items():
        lost += getattr(value, "lost", ())
        owner = formats.by_metadata(key)
        if owner is not None and owner != row:
            lost += [f"{name} (which {owner.name} has)" for name in value.names]
    return lost


def check_output(
    path: str | Path,
    image: ImageFile | None = None,
    *,
    report: bool = False,
    overwrite: bool = False,
) -> None:
    """Find out, before any work is done, whether an image can be written there.

    Parameters
    ----------
    path
        See :func:`write_image`.
    image
        An image of the dtype, channels and alpha that will be written, if that is known.  Without
        it, and with ``report``, a name that no format has is taken for that of a series.
    report
        Whether settings will be written beside it (:func:`report_path`).
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    OSError, ValueError, MissingExtraError
        As :func:`write_image` would.
    """
    path = Path(path)
    beside = [report_path(path)] if report else []
    if image is None and report and formats.by_suffix(path) is None:
        # Only the image says whether it is of a series.
        check_place(path, *beside, overwrite=overwrite)
        return
    row = _format_of(path, image)
    if image is not None:
        _check_format(path, row, image)
    elif row.read_only:
        raise UnwritableFileError(
            f"{row.name} is only read; {path} must end in one of "
            f"{formats.all_suffixes(written=True)}"
        )
    row.load()  # finds out whether its libraries are there
    replaceable = row.is_image if row.entries else None
    check_place(path, *beside, overwrite=overwrite, replaceable=replaceable)
    others = row.load_for_folders().beside(path) if row.is_image(path) else []
    if others:
        raise UnwritableFileError(
            f"{path} holds more than one image ({', '.join(others)}), which would be lost; choose "
            "another name, or delete it first"
        )


def _format_of(path: Path, image: ImageFile | None) -> Format:
    """Return the format that the name of a file says, or that of the series of an image.

    A series is written to a folder, whose name has no ending that a format has.
    """
    row = formats.by_suffix(path)
    if row is None and image is not None:
        row = formats.by_series(image)
    if row is None:
        raise UnwritableFileError(
            f"cannot tell the format of {path} from its name; "
            f"it must end in one of {formats.all_suffixes(written=True)}"
        )
    return row


def _check_format(path: Path, row: Format, image: ImageFile) -> None:
    """Check that a format can hold an image, and name those that can if it cannot."""
    lacks = row.lacks(image)
    if lacks:
        endings = formats.suffixes_that_hold(image)
        advice = f"{path} must be named {endings}" if endings else "nor can the others"
        raise UnwritableFileError(f"{row.name} cannot hold {lacks}, {advice}")
