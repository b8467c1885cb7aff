"""Missing pixels: find them from masks of any kind, NaN, opacity, or a value that marks them."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from dipfast.arrays import (
    as_numpy,
    check_image,
    find_channel_axis,
    find_stack_axes,
    is_tensor,
    split_masked,
)
from dipfast.checks import check_choice
from dipfast.errors import InputError, InputTypeError
from dipfast.settings.names import MARKS, Marks
from dipfast.warn import warn_caller

__all__ = ["grown", "resolve_mask"]

Bools: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"

# If more than this share of the pixels is missing, the mask is likely inverted.
_SUSPICIOUS_SHARE = 0.95
# A mask of more than half of the pixels is likely inverted if this share of the missing pixels have
# only missing neighbours (if 0.9 of all pixels are missing at random, 0.43 have), and in addition
# one of the two following conditions holds.
_THICK = 0.65
# Either this share of the pixels at the border is missing ...
_SUSPICIOUS_BORDER = 0.9
# ... or less than this share of the known pixels have only known neighbours, as in drawn strokes.
_THIN = 0.3
# What a JPEG makes of a black mask: most pixels are a little more than black, and none is grey.
_NEARLY_BLACK, _NEARLY_WHITE = 64, 200
_SUSPICIOUS_SHADES = 0.5


def resolve_mask(
    image: Any,
    mask: Any,
    marks: Marks,
    channel_axis: int | None,
    stack_axis: int | tuple[int, ...] | None = None,
) -> tuple[Any, Bools]:
    """Return an image without its mask and opacity, and which of its pixels are missing.

    Parameters
    ----------
    image
        An array (H, W) or with one more axis for the channels, or a tensor (H, W), (C, H, W) or
        (N, C, H, W), or a stack.  Pixels that are NaN, and masked pixels of a masked array, are
        always missing.
    mask
        The mask, in any form that :func:`dipfast.inpaint` takes.
    marks
        The pixels that true (non-zero) values of a mask mark: ``"missing"`` or ``"known"``.
    channel_axis
        The axis of the channels; None recognises it by the shape.
    stack_axis
        The axis of a stack, or several; None for none but the batch of a tensor.

    Returns
    -------
    image : numpy.ndarray or torch.Tensor
        A plain array or tensor; with ``mask="alpha"``, without its last channel.  Values at missing
        pixels are unchanged.
    missing : numpy.ndarray
        A boolean array (N, C, H, W), True at missing pixels, with 1 for axes along which it is
        constant.

    Raises
    ------
    InputTypeError, InputError
        If the mask is invalid, or marks no pixel, or marks all pixels.

    Warns
    -----
    UserWarning
        If the mask is likely inverted, or most of it is nearly black, as a JPEG makes it.
    """
    image, masked = split_masked("image", image)
    stack = find_stack_axes("image", image, stack_axis)
    check_image("image", image, finite=False, stack_axes=stack)
    check_choice("mask_marks", marks, MARKS)
    axis = find_channel_axis("image", image, channel_axis, () if stack_axis is None else stack)
    nan_or_masked = _nan_or_masked(image, masked, axis, stack)
    if isinstance(mask, float | np.floating) and np.isnan(mask):
        mask = None  # NaN pixels are always missing
    if mask is None and nan_or_masked is None:
        raise InputError(
            "mask is needed: image has no NaN or masked pixels that would say what is missing"
        )
    if isinstance(mask, str):
        if mask != "alpha":
            raise InputError(f"mask must be 'alpha' if it is a string, got {mask!r}")
        image, missing = _by_opacity(image, axis, stack)
        if nan_or_masked is not None:
            nan_or_masked = nan_or_masked.any(axis=1, keepdims=True)
    elif mask is None:
        missing = np.zeros((1, 1, 1, 1), dtype=bool)
    elif isinstance(mask, int | float | np.number) and not isinstance(mask, bool):
        pixels = _planes(np.asarray(as_numpy(image)), axis, stack)
        missing = (pixels == mask).all(axis=1, keepdims=True)
        if not missing.any():
            raise InputError(f"mask={mask!r} is a value that no pixel of image has")
    else:
        missing = _from_array(mask, marks, image, axis, stack)
    if nan_or_masked is not None:
        missing = missing | nan_or_masked
    share = missing.mean()
    if share in (0, 1):
        what = "nothing is" if share == 0 else "all pixels are"
        raise InputError(
            f"mask says that {what} missing; mask_marks={marks!r} means that non-zero values "
            f"mark {marks} pixels"
        )
    if share > _SUSPICIOUS_SHARE or (share > 0.5 and _looks_inverted(missing)):
        warn_caller(
            f"{share:.1%} of the pixels are missing: is mask_marks={marks!r} the right way round?"
        )
    return image, missing


def _nan_or_masked(image: Any, masked: Any, axis: int | None, stack: tuple[int, ...]) -> Any:
    """Return where an image is NaN or masked, boolean (N, C, H, W); None if nowhere."""
    pixels = np.asarray(as_numpy(image))
    missing = np.isnan(pixels) if pixels.dtype.kind == "f" else np.zeros(pixels.shape, dtype=bool)
    if masked is not None:
        missing |= masked
    return _planes(missing, axis, stack) if missing.any() else None


def _looks_inverted(missing: Bools) -> bool:
    """Return whether a mask (N, C, H, W) likely marks known pixels instead of missing ones."""
    missing = np.asarray(missing.any(axis=(0, 1)))
    if _inner_share(missing) < _THICK:
        return False
    border = np.concatenate([missing[0], missing[-1], missing[1:-1, 0], missing[1:-1, -1]])
    return bool(border.mean() > _SUSPICIOUS_BORDER or _inner_share(~missing) < _THIN)


def _inner_share(chosen: Bools) -> float:
    """Return the share of the chosen pixels whose eight neighbours are all chosen."""
    return float((~grown(~chosen)).sum() / max(chosen.sum(), 1))


def grown(chosen: Bools) -> Bools:
    """Return a mask grown by one pixel in all eight directions.

    Parameters
    ----------
    chosen
        A boolean array (H, W).

    Returns
    -------
    numpy.ndarray
        A boolean array (H, W), True at the chosen pixels and their neighbours.
    """
    rows, columns = chosen.shape
    padded = np.pad(chosen, 1)
    return np.asarray(
        np.any([padded[r : r + rows, c : c + columns] for r in range(3) for c in range(3)], axis=0)
    )


def _by_opacity(image: Any, axis: int | None, stack: tuple[int, ...]) -> tuple[Any, Bools]:
    """Return an image without its opacity, and where it is not opaque."""
    channels = 1 if axis is None else image.shape[axis]
    if channels not in (2, 4):
        raise InputError(
            f"mask='alpha' needs an image of 2 or 4 channels, the last one opacity, got {channels}"
        )
    array = np.asarray(as_numpy(image))
    opacity = _planes(array, axis, stack)[:, -1:]
    is_integer = array.dtype.kind in "iu"
    # Not that of max, which is NaN if one of them is.
    opaque = np.iinfo(array.dtype).max if is_integer else np.fmax.reduce(opacity, axis=None)
    index = [slice(None)] * array.ndim
    index[axis or 0] = slice(0, channels - 1)
    # A grey array without its opacity loses the axis of the channels, as grey images have none.
    if channels == 2 and not is_tensor(image):
        return np.take(array, 0, axis=axis), opacity < opaque
    return image[tuple(index)], opacity < opaque


def _from_array(
    mask: Any, marks: Marks, image: Any, axis: int | None, stack: tuple[int, ...]
) -> Bools:
    """Return the missing pixels of a mask that is an array or a tensor."""
    if not isinstance(mask, np.ndarray) and not is_tensor(mask):
        raise InputTypeError(
            "mask must be an array, a tensor, 'alpha', a value that marks missing pixels, or "
            f"None (NaN pixels), got {type(mask).__name__}"
        )
    plain, masked = split_masked("mask", mask)
    if masked is not None:
        raise InputError(
            f"mask is masked itself at {np.count_nonzero(masked)} of its pixels: pass "
            "mask.filled(True), or False, for what these mean"
        )
    values = np.asarray(as_numpy(plain))
    shape = tuple(image.shape)
    rows, columns = (n for k, n in enumerate(shape) if k != axis and k not in stack)
    wanted = f"({rows}, {columns})" + ("" if len(shape) == 2 else f" or {shape}")
    without_channels = tuple(n for k, n in enumerate(shape) if k != axis)
    if values.ndim == 2 and values.shape == (rows, columns):
        planes = values[None, None]
    elif values.ndim == len(shape) or (axis is not None and values.shape == without_channels):
        if values.ndim < len(shape):
            values = np.expand_dims(values, axis or 0)
        planes = _planes(values, axis, stack)
        full = _planes(np.broadcast_to(False, shape), axis, stack).shape
        if not all(n in (1, m) for n, m in zip(planes.shape[:2], full[:2])) or (
            planes.shape[2:] != full[2:]
        ):
            raise InputError(f"mask must have shape {wanted}, got {values.shape}")
    else:
        raise InputError(f"mask must have shape {wanted}, got {values.shape}")
    return _marked(planes, marks)


def _marked(values: Any, marks: Marks) -> Bools:
    """Return the missing pixels of a mask (N, C, H, W); values between, at soft edges, count."""
    if values.dtype.kind == "b":
        return np.asarray(values if marks == "missing" else ~values)
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise InputError(f"mask must be boolean or hold finite numbers, got {values.dtype}")
    low, high = values.min(), values.max()
    if low < 0:
        raise InputError(f"mask must not be negative, got values down to {low}")
    in_between = ((values != low) & (values != high)).any()
    full_scale = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1.0
    if in_between and (high < full_scale / 2 or low > full_scale / 2):
        raise InputError(
            f"mask has low contrast, values from {low} to {high} of {full_scale}: "
            "make it boolean, so that it is clear which pixels it marks"
        )
    _warn_of_shades(values, marks)
    if marks == "missing":
        return np.asarray(values > 0)
    return np.asarray(values < high) if high > 0 else np.ones(values.shape, dtype=bool)


def _warn_of_shades(values: Any, marks: Marks) -> None:
    """Warn if most pixels of a mask of 8 bits are nearly, and not, what marks nothing."""
    if values.dtype != np.uint8:
        return
    distance = values if marks == "missing" else 255 - values
    shaded = (distance > 0) & (distance < _NEARLY_BLACK)
    grey = (distance >= _NEARLY_BLACK) & (distance <= _NEARLY_WHITE)
    if shaded.mean() > _SUSPICIOUS_SHADES and not grey.any():
        shade, rule = ("black", "over 0") if marks == "missing" else ("white", "below the largest")
        warn_caller(
            f"{shaded.mean():.0%} of the values of mask are nearly {shade}, as a JPEG makes them, "
            f"and count as missing, as all {rule} do: pass mask > 127 if these are no marks"
        )


def _planes(array: Any, axis: int | None, stack: tuple[int, ...]) -> Any:
    """Return an array as (N, C, H, W)."""
    channels = () if axis is None else (axis,)
    pixels = (k for k in range(array.ndim) if k not in (*stack, *channels))
    moved = array.transpose((*stack, *channels, *pixels))
    return moved.reshape(-1, *((1,) if axis is None else ()), *moved.shape[len(stack) :])
