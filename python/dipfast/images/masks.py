"""Which pixels are missing: masks of any kind, NaN, opacity, or a value that marks them."""

from __future__ import annotations

import warnings
from typing import Any, TypeAlias

import numpy as np

from dipfast.arrays import check_image, find_channel_axis, is_tensor, split_masked
from dipfast.checks import check_choice
from dipfast.errors import InputError, InputTypeError
from dipfast.settings.names import MARKS, Marks

__all__ = ["grown", "resolve_mask"]

Bools: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"

# More missing pixels than this are more likely a mask the other way round.
_SUSPICIOUS_SHARE = 0.95
# From half of the pixels on they are, too, if most of them have only missing neighbours (of random
# pixels, 0.9 of them missing, 0.43 do), and nearly all of the border is missing, or known pixels
# are thin, as drawn strokes are.
_THICK, _SUSPICIOUS_BORDER, _THIN = 0.65, 0.9, 0.3


def resolve_mask(
    image: Any, mask: Any, marks: Marks, channel_axis: int | None
) -> tuple[Any, Bools]:
    """Return an image without its mask and opacity, and which of its pixels are missing.

    Parameters
    ----------
    image
        Array (H, W) or with one more axis for the channels, or tensor (H, W), (C, H, W) or
        (N, C, H, W).  NaN and, of a masked array, masked pixels are missing in any case.
    mask
        See :func:`dipfast.inpaint`.
    marks
        What a true (non-zero) value of a mask marks.
    channel_axis
        The axis of the channels; None recognises it.

    Returns
    -------
    image
        A plain array or tensor, with ``mask="alpha"`` without its last channel.  What stands at
        missing pixels is as it was.
    missing
        Boolean (N, C, H, W), with 1 for axes along which it does not change.

    Raises
    ------
    TypeError, ValueError
        If the mask does not say which pixels, or says all or none.

    Warns
    -----
    UserWarning
        If more than half of the pixels are missing, and it looks as if the known ones were
        marked.
    """
    image, masked = split_masked("image", image)
    check_image("image", image, finite=False)
    check_choice("mask_marks", marks, MARKS)
    axis = find_channel_axis("image", image, channel_axis)
    own = _missing_by_itself(image, masked, axis)
    if isinstance(mask, float | np.floating) and np.isnan(mask):
        mask = None  # NaN pixels, which are missing in any case
    if mask is None and own is None:
        raise InputError(
            "mask is needed: image has no NaN or masked pixels that would say what is missing"
        )
    if isinstance(mask, str):
        if mask != "alpha":
            raise InputError(f"mask must be 'alpha' if it is a string, got {mask!r}")
        image, missing = _by_opacity(image, axis)
        own = None if own is None else own.any(axis=1, keepdims=True)
    elif mask is None:
        missing = np.zeros((1, 1, 1, 1), dtype=bool)
    elif isinstance(mask, int | float | np.number) and not isinstance(mask, bool):
        pixels = _planes(_numpy(image), axis)
        missing = (pixels == mask).all(axis=1, keepdims=True)
        if not missing.any():
            raise InputError(f"mask={mask!r} is a value that no pixel of image has")
    else:
        missing = _of_array(mask, marks, image, axis)
    if own is not None:
        missing = missing | own
    share = missing.mean()
    if share in (0, 1):
        what = "nothing is" if share == 0 else "all pixels are"
        raise InputError(
            f"mask says that {what} missing; mask_marks={marks!r} means that non-zero values "
            f"mark {marks} pixels"
        )
    if share > _SUSPICIOUS_SHARE or (share > 0.5 and _looks_inverted(missing)):
        warnings.warn(
            f"{share:.1%} of the pixels are missing: is mask_marks={marks!r} the right way round?",
            stacklevel=4,
        )
    return image, missing


def _missing_by_itself(image: Any, masked: Any, axis: int | None) -> Any:
    """Return where an image is NaN or masked, boolean (N, C, H, W); None if nowhere."""
    pixels = _numpy(image)
    missing = np.isnan(pixels) if pixels.dtype.kind == "f" else np.zeros(pixels.shape, dtype=bool)
    if masked is not None:
        missing |= masked
    return _planes(missing, axis) if missing.any() else None


def _looks_inverted(missing: Bools) -> bool:
    """Whether a mask (N, C, H, W) looks as if it marked known pixels instead of missing ones."""
    missing = np.asarray(missing.any(axis=(0, 1)))
    if _inner_share(missing) < _THICK:
        return False
    border = np.concatenate([missing[0], missing[-1], missing[1:-1, 0], missing[1:-1, -1]])
    return bool(border.mean() > _SUSPICIOUS_BORDER or _inner_share(~missing) < _THIN)


def _inner_share(chosen: Bools) -> float:
    """Return how many of the chosen pixels have no other one among their eight neighbours."""
    return float((~grown(~chosen)).sum() / max(chosen.sum(), 1))


def grown(chosen: Bools) -> Bools:
    """Return pixels (H, W) and their eight neighbours."""
    rows, columns = chosen.shape
    padded = np.pad(chosen, 1)
    return np.asarray(
        np.any([padded[r : r + rows, c : c + columns] for r in range(3) for c in range(3)], axis=0)
    )


def _by_opacity(image: Any, axis: int | None) -> tuple[Any, Bools]:
    channels = 1 if axis is None else image.shape[axis]
    if channels not in (2, 4):
        raise InputError(
            f"mask='alpha' needs an image of 2 or 4 channels, the last one opacity, got {channels}"
        )
    array = _numpy(image)
    opacity = _planes(array, axis)[:, -1:]
    opaque = np.iinfo(array.dtype).max if array.dtype.kind in "iu" else opacity.max()
    index = [slice(None)] * array.ndim
    index[axis or 0] = slice(0, channels - 1)
    if channels == 2 and not is_tensor(image):  # grey, which has no axis of channels
        return np.take(array, 0, axis=axis), opacity < opaque
    return image[tuple(index)], opacity < opaque


def _of_array(mask: Any, marks: Marks, image: Any, axis: int | None) -> Bools:
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
    values = _numpy(plain)
    shape = tuple(image.shape)
    rows, columns = (n for k, n in enumerate(shape[-3:], max(len(shape) - 3, 0)) if k != axis)
    wanted = f"({rows}, {columns})" + ("" if len(shape) == 2 else f" or {shape}")
    if values.ndim == 2 and values.shape == (rows, columns):
        planes = values[None, None]
    elif values.ndim == len(shape) and axis is not None:
        planes = _planes(values, axis)
        full = _planes(np.empty(shape, dtype=bool), axis).shape
        if not all(n in (1, m) for n, m in zip(planes.shape[:2], full[:2])) or (
            planes.shape[2:] != full[2:]
        ):
            raise InputError(f"mask must have shape {wanted}, got {values.shape}")
    else:
        raise InputError(f"mask must have shape {wanted}, got {values.shape}")
    return _marked(planes, marks)


def _marked(values: Any, marks: Marks) -> Bools:
    """Which pixels are missing; those in between, at soft edges, are."""
    if values.dtype.kind == "b":
        return np.asarray(values if marks == "missing" else ~values)
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise InputError(f"mask must be boolean or hold finite numbers, got {values.dtype}")
    low, high = values.min(), values.max()
    if low < 0:
        raise InputError(f"mask must not be negative, got values down to {low}")
    in_between = ((values != low) & (values != high)).any()
    whole = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1.0
    if in_between and (high < whole / 2 or low > whole / 2):
        raise InputError(
            f"mask has low contrast, values from {low} to {high} of {whole}: "
            "make it boolean, so that it is clear which pixels it marks"
        )
    if marks == "missing":
        return np.asarray(values > 0)
    return np.asarray(values < high) if high > 0 else np.ones(values.shape, dtype=bool)


def _planes(array: Any, axis: int | None) -> Any:
    """As (N, C, H, W)."""
    array = array[None] if axis is None else np.moveaxis(array, axis, -3)
    return array if array.ndim == 4 else array[None]


def _numpy(x: Any) -> Any:
    """Return an array of the same values; NumPy has no bfloat16."""
    if not is_tensor(x):
        return np.asarray(x)
    x = x.detach().cpu()
    return (x.float() if "bfloat16" in str(x.dtype) else x).numpy()
