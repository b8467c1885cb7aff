"""Denoise arrays that are larger than memory, plane by plane or block by block, with Dask."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import dipfast
from dipfast.arrays import as_pixels, check_image
from dipfast.cluster.engine import check_extra
from dipfast.denoisers.nl_ridge import GRID, REACH
from dipfast.errors import InputError, InputTypeError
from dipfast.images.layout import check_unit, find_data_range
from dipfast.images.tiles import Tiles
from dipfast.model.noise import NoiseModel
from dipfast.model.stack_noise import StackNoise, estimate_stack_noise
from dipfast.settings.names import DIRECT_METHODS
from dipfast.settings.noise import NoiseParameters
from dipfast.settings.settings import DenoiseSettings, decide_method, make_settings
from dipfast.warn import warn_caller

if TYPE_CHECKING:
    from dask.array import Array

__all__ = ["denoise_array"]

# Rows and columns of blocks at most: with a halo, and of tiles that a network is fitted to.
_BLOCK, _TILE = 2048, 512
# Rows and columns that neighbouring tiles have in common at least.
_OVERLAP = 64
# The noise is estimated from so many windows at most, of so many rows and columns.
_WINDOWS, _WINDOW = 8, 512
# Where all of these are constant, the first that are not are taken of so many others.
_MORE_WINDOWS = 64
# Options that say something of a single image, or are of the process that calls.
_NOT_OF_BLOCKS = (
    *("callback", "interrupt", "snapshots", "checkpoint", "resume", "reference"),
    *("network_input", "jpeg", "stack_axis", "time_limit", "executor", "neighbours"),
)
# What to pass of objects that look like arrays, by the package that they come from.
_OTHER_ARRAYS = {"xarray": ": pass x.data", "torch": ": pass x.numpy(force=True)"}


def denoise_array(
    x: Any,
    *,
    channel_axis: int | None = None,
    sigma: float | str = "auto",
    noise: Any = "auto",
    data_range: float | tuple[float, float] | None = None,
    tile: int | str = "auto",
    **options: Any,
) -> Array:
    r"""Denoise an array of pictures lazily, as a Dask array.

    Nothing is restored before blocks of the result are computed or stored, and then no more than a
    few blocks are in memory at a time.  Noise and value range are the same for all blocks: they are
    found when the function is called, in up to eight windows of 512x512 pixels that are spread over
    the array; where these are all constant, up to 64 others are looked at.

    Parameters
    ----------
    x
        A Dask array, or an array of Zarr, a memory map or another array that is sliced lazily, of
        shape (..., H, W), or with one more axis for channels.  All axes in front count pictures.
    channel_axis
        The axis of the channels, None, the default, for none.
    sigma
        The standard deviation of the noise, in the unit of the array; by default it is estimated.
    noise
        The kind of noise, or a :class:`~dipfast.NoiseModel`, as in :func:`dipfast.denoise`.
    data_range
        The value range, as in :func:`dipfast.denoise`.  By default that of the windows, beyond
        which values may be.  Where networks are fitted these would be lost, and the least and the
        largest value are looked for in the whole array, which is read once; so they are where the
        windows have a single value.
    tile
        Rows and columns of blocks, in pixels; by default 512 where a network is fitted, else 2048.
        Pictures that are not larger are restored as wholes.
    **options
        Other options of :func:`dipfast.denoise`, such as ``quality``.

    Returns
    -------
    dask.array.Array
        The restored array, of the same shape and dtype.

    Raises
    ------
    MissingExtraError
        If Dask is not installed.
    InputError, InputTypeError
        If an argument is invalid, or an option is not one of blocks; if the windows have values
        that are not finite; and if no noise can be found for all blocks: no window tells it, or
        most of them have clearly another one.

    Warns
    -----
    UserWarning
        If the noise of some windows is clearly another one.

    Notes
    -----
    Larger pictures are cut into blocks.  A method without a network (``quality="fast"``) is given
    more pixels around each block than its result depends on: the blocks are those of the whole with
    ``stretch=False``, but for rounding.  Of a network they are tiles that overlap by 64 pixels,
    each stretched for itself where ``stretch`` asks for it, and blended by the weights of
    :class:`dipfast.images.tiles.Tiles`.

    Examples
    --------
    >>> import numpy as np
    >>> volume = np.random.default_rng(0).normal(128, 9, (3, 24, 24)).astype("uint8")
    >>> lazy = denoise_array(volume, quality="fast")
    >>> lazy.shape, lazy.dtype, lazy.chunksize
    ((3, 24, 24), dtype('uint8'), (1, 24, 24))
    >>> bool(lazy.compute().std() < volume.std())
    True
    """
    check_extra()
    import dask.array as da

    for name in _NOT_OF_BLOCKS:
        if name in options:
            raise InputError(f"{name} does not work block by block; leave it out")
    settings = make_settings(
        DenoiseSettings, {"sigma": sigma, "noise": noise, "data_range": data_range, **options}
    )
    is_direct = decide_method(settings) in DIRECT_METHODS
    side = _side(tile, is_direct)
    x = _plain(x)
    axis = _check_array(x, channel_axis)
    if isinstance(x, da.Array):
        array = x if axis is None else da.moveaxis(x, axis, -1)
        native = array.chunksize
    else:
        native = getattr(x, "chunks", None) or (1,) * x.ndim
        array = da.from_array(x, chunks=_chunks_of(x.shape, native, axis, side), name=False)
        array = array if axis is None else da.moveaxis(array, axis, -1)
    pixels = slice(-2, None) if axis is None else slice(-3, -1)
    size = array.shape[pixels]
    model, ends = _common_noise(array, pixels, settings, is_direct)
    decided = {**options, "noise": model, "data_range": ends}
    decided["channel_axis"] = None if axis is None else -1
    if not is_direct:
        decided["tile"] = 0
    elif max(size) > side:
        # A stretch is made of all values of what it is given, and each block would get its own.
        decided["stretch"] = False
    # Integers far beyond a range are taken for a mistake, which the windows tell: a block with a
    # few bright pixels is none.
    as_floats = array.dtype.kind in "iu" and (array.dtype, ends) != (np.uint8, (0.0, 255.0))
    first = array.ndim - (2 if axis is None else 3)
    denoise = partial(_denoise_planes, first=first, options=decided, as_floats=as_floats)
    if max(size) <= side:
        whole = dict.fromkeys(range(first, array.ndim), -1)
        result = array.rechunk(whole).map_blocks(
            denoise,
            token="denoise",
            dtype=array.dtype,
            meta=np.empty((0,) * array.ndim, array.dtype),
        )
    elif is_direct:
        result = _with_halo(array, first, size, side, denoise)
    else:
        result = _of_tiles(array, first, Tiles(size, side, min(_OVERLAP, side // 8)), decided)
    return result if axis is None else da.moveaxis(result, -1, axis)


def _side(tile: int | str, is_direct: bool) -> int:
    if tile == "auto":
        return _BLOCK if is_direct else _TILE
    if isinstance(tile, bool) or not isinstance(tile, int) or tile < 64:
        raise InputError(f"tile must be 'auto' or a whole number from 64 up, got {tile!r}")
    return tile


def _plain(x: Any) -> Any:
    """Return an array without its subclass, and refuse masked pixels, which would be data."""
    from dask.array import Array
    from dask.array.utils import meta_from_array

    if isinstance(x, np.ndarray):
        return as_pixels("x", x)
    # Which pixels are masked is not known before blocks are computed.
    if isinstance(x, Array) and isinstance(meta_from_array(x), np.ma.MaskedArray):
        raise InputError(
            "x is made of masked arrays, and masked pixels only inpaint fills: "
            "dipfast.inpaint(image); where none is masked, pass dask.array.ma.getdata(x)"
        )
    return x


def _check_array(x: Any, channel_axis: int | None) -> int | None:
    """Return the axis of the channels, not negative, and refuse what is no array of pictures."""
    home = type(x).__module__.partition(".")[0]
    is_array = all(hasattr(x, name) for name in ("shape", "dtype", "ndim"))
    if not is_array or home in _OTHER_ARRAYS:
        raise InputTypeError(
            "x must be a Dask array, an array of Zarr or another one that is sliced lazily, "
            f"got {type(x).__name__}" + _OTHER_ARRAYS.get(home, "")
        )
    if any(math.isnan(n) for n in x.shape):
        raise InputError(
            f"x must have chunks of known sizes, got shape {x.shape}: x.compute_chunk_sizes() "
            "finds them"
        )
    if np.dtype(x.dtype).kind not in "uif":
        raise InputTypeError(f"x must hold real numbers, got {x.dtype}")
    least = 2 if channel_axis is None else 3
    if x.ndim < least or 0 in x.shape:
        raise InputError(f"x must have rows and columns, {least} axes at least, got {x.shape}")
    if channel_axis is None:
        return None
    if not -x.ndim <= channel_axis < x.ndim:
        raise InputError(f"channel_axis={channel_axis} is no axis of x, whose shape is {x.shape}")
    return channel_axis % len(x.shape)


def _chunks_of(
    shape: Sequence[int], native: Sequence[int], axis: int | None, side: int
) -> tuple[int, ...]:
    """Return the chunks to read an array in: planes as they are stored, of a block at most."""
    pixels = [k for k in range(len(shape)) if k != axis][-2:]
    chunks = [min(n, c) for n, c in zip(shape, native)]
    for k in pixels:
        chunks[k] = min(shape[k], side)
    if axis is not None:
        chunks[axis] = shape[axis]
    return tuple(chunks)


# --- what all blocks share ---------------------------------------------------------------


def _common_noise(
    array: Array, pixels: slice, settings: DenoiseSettings, is_direct: bool
) -> tuple[NoiseModel | NoiseParameters, tuple[float, float]]:
    """Return noise and value range, which are looked at in windows of the array."""
    import dask

    given = settings.data_range
    ends: tuple[float, float] | None = None
    if given is not None:
        low, high = (0.0, given) if isinstance(given, int | float) else given
        ends = float(low), float(high)
    elif array.dtype == np.uint8:
        ends = (0.0, 255.0)
    is_counted = given is not None and array.dtype.kind in "iu"
    if isinstance(settings.noise, NoiseParameters):
        if ends is None:
            raise InputError(
                "data_range is needed where noise is a NoiseModel, whose numbers are in units of "
                "that range"
            )
        if is_counted:
            check_unit("x", np.stack(dask.compute(*_windows(array, pixels))), ends)
        return settings.noise, ends
    windows = _windows_of(array, pixels, settings)
    values = windows
    if ends is None:
        # Values beyond the range are lost to a network, and that of a single value has no width.
        if not is_direct or windows.min() == windows.max():
            values = np.asarray(dask.compute(array.min(), array.max()), array.dtype)
            if not np.isfinite(values).all():
                raise InputError(
                    "x must be finite, got NaN or infinity among its values; dipfast.inpaint "
                    "fills missing pixels"
                )
        ends = find_data_range("x", values)
    elif is_counted:
        check_unit("x", windows, ends)
    low, high = ends
    if settings.sigma != "auto" and settings.sigma > high - low and values.min() != values.max():
        raise InputError(
            f"sigma={settings.sigma:g} is in the unit of the array, whose range from {low:.6g} to "
            f"{high:.6g} is narrower than such noise"
        )
    if pixels.start == -2:
        windows = windows[..., None]
    planes = torch.from_numpy(np.ascontiguousarray(np.moveaxis(windows, -1, 1), np.float64))
    planes = ((planes - low) / (high - low)).float()
    sigma = None if settings.sigma == "auto" else float(settings.sigma) / (high - low)
    if sigma == 0 and settings.noise != "poisson_gaussian":
        return NoiseModel(0.0), ends
    # A sigma is compared with what the windows tell, as dipfast.denoise does it.
    found = estimate_stack_noise(planes, settings.noise, sigma=sigma, compares=True)
    _check_common(found, len(planes))
    return found.shared.model, ends


def _check_common(found: StackNoise, count: int) -> None:
    """Warn if the noise of some windows is clearly another one, and refuse it of most of them."""
    # Windows of a single value have no noise, and are as good as any.
    differ = sum(not own.model.is_free for own in found.own.values())
    if 2 * differ > count:
        raise InputError(
            f"the noise of {differ} of the {count} windows of x that were looked at is clearly "
            "another one than that of the others, and all blocks are denoised by one: sigma or "
            "noise tells it where it is known, or denoise parts of one noise by themselves"
        )
    if differ:
        warn_caller(
            f"the noise of {differ} of the {count} windows of x that were looked at is clearly "
            "another one than that of the others, by which all blocks are denoised: sigma or "
            "noise tells it where it is known, or denoise parts of one noise by themselves"
        )


def _windows_of(array: Array, pixels: slice, settings: DenoiseSettings) -> Any:
    """Return the values of the windows, or those of others where no noise is in these."""
    import dask

    windows = np.stack(dask.compute(*_windows(array, pixels)))
    _check_finite(windows)
    if settings.sigma != "auto" or any(map(_is_varied, windows)):
        return windows
    varied: list[Any] = []
    others = _windows(array, pixels, _MORE_WINDOWS)
    for first in range(0, len(others), _WINDOWS):  # no more in memory than before
        some = dask.compute(*others[first : first + _WINDOWS])
        varied += filter(_is_varied, some)
        if len(varied) >= _WINDOWS:
            break
    if varied:
        found = np.stack(varied[:_WINDOWS])
        _check_finite(found)
        return found
    low, high = dask.compute(array.min(), array.max())
    if low != high:
        raise InputError(
            f"the noise of x cannot be found: {len(windows) + len(others)} windows of it are "
            "constant, and its values are not; sigma or noise tells it"
        )
    return windows


def _check_finite(windows: Any) -> None:
    check_image("x (in the windows looked at)", windows, stack_axes=(0,))


def _is_varied(window: Any) -> bool:
    """Return whether a channel of a window has more than one value, or one that is not finite."""
    return bool((window != window[:1, :1]).any())


def _windows(array: Array, pixels: slice, most: int = _WINDOWS) -> list[Array]:
    """Return windows of one size that are spread over the planes, and over each of them."""
    size = array.shape[pixels]
    stack = array.shape[: pixels.start]
    count, window = math.prod(stack), tuple(min(n, _WINDOW) for n in size)
    number = min(most, count * math.prod(-(-n // w) for n, w in zip(size, window)))
    windows = []
    for k in range(number):
        share = k / max(number - 1, 1)
        plane = np.unravel_index(round(share * (count - 1)), stack) if stack else ()
        # Down the rows once, and across the columns three times.
        starts = round(share * (size[0] - window[0])), round(3 * share % 1 * (size[1] - window[1]))
        part = tuple(slice(start, start + w) for start, w in zip(starts, window))
        windows.append(array[tuple(map(int, plane)) + part])
    return windows


# --- blocks ------------------------------------------------------------------------------


def _denoise_planes(block: Any, first: int, options: dict[str, Any], as_floats: bool) -> Any:
    """Denoise all planes of a block, whose axes from ``first`` on are those of a picture."""
    result = np.empty_like(block)
    for index in np.ndindex(block.shape[:first]):
        plane = np.asarray(block[index], np.float64 if as_floats else None)
        result[index] = _in_dtype(dipfast.denoise(plane, **options).image, block.dtype)
    return result


def _in_dtype(values: Any, dtype: Any) -> Any:
    """Return values in a dtype, rounded and limited to its values where that is one of integers."""
    if values.dtype == dtype or np.dtype(dtype).kind == "f":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return values.round().clip(limits.min, limits.max).astype(dtype)


def _with_halo(
    array: Array,
    first: int,
    size: tuple[int, int],
    side: int,
    denoise: Callable[[Any], Any],
) -> Array:
    """Denoise blocks with enough pixels around them, which are cut off again."""
    import dask.array as da

    # Blocks begin where the grid of patches begins again, and so do their surroundings.
    halo = -(-REACH // GRID) * GRID
    chunks: dict[int, Any] = dict.fromkeys(range(first), 1)
    chunks |= {first + k: _cores(n, side, halo) for k, n in enumerate(size)}
    chunks |= dict.fromkeys(range(first + 2, array.ndim), -1)  # channels help each other
    # An axis that is not cut needs nothing around it, and may be shorter than a halo.
    cut = {first + k for k in (0, 1) if len(chunks[first + k]) > 1}
    depth = {k: halo if k in cut else 0 for k in range(array.ndim)}
    return da.map_overlap(
        denoise,
        array.rechunk(chunks),
        depth=depth,
        boundary="none",
        allow_rechunk=False,
        token="denoise",
        dtype=array.dtype,
        meta=np.empty((0,) * array.ndim, array.dtype),
    )


def _cores(length: int, side: int, halo: int) -> tuple[int, ...]:
    """Return the lengths of blocks along an axis: whole grids, and each longer than a halo."""
    core = -(-length // -(-length // side))
    core = max(-(-core // GRID) * GRID, halo)
    count = max(length // core, 1)
    rest = length - count * core
    if rest >= halo:
        return (core,) * count + (rest,)
    return (core,) * (count - 1) + (core + rest,)


def _of_tiles(array: Array, first: int, tiles: Tiles, options: dict[str, Any]) -> Array:
    """Denoise tiles that overlap, and blend them."""
    import dask
    import dask.array as da

    lead, channels = array.shape[:first], array.shape[first + 2 :]
    edges = [_edges(tiles, k) for k in (0, 1)]
    # Not arguments, which Dask would look into.
    restore = dask.delayed(partial(_denoise_tile, options=options), pure=False)
    blend = dask.delayed(partial(_blend, tiles=tiles, dtype=array.dtype), pure=False)
    planes = []
    for index in np.ndindex(lead):
        plane = array[index]
        restored = [restore(plane[tile.index]) for tile in tiles]
        rows = []
        for top, bottom in pairwise(edges[0]):
            row = []
            for left, right in pairwise(edges[1]):
                part = (slice(top, bottom), slice(left, right))
                near = [k for k, tile in enumerate(tiles) if _meet(tile.index, part)]
                block = blend([restored[k] for k in near], near, part)
                shape = (bottom - top, right - left, *channels)
                row.append(da.from_delayed(block, shape, array.dtype))
            rows.append(da.concatenate(row, axis=1))
        planes.append(da.concatenate(rows, axis=0))
    return da.stack(planes).reshape(*lead, *tiles.size, *channels) if lead else planes[0]


def _edges(tiles: Tiles, axis: int) -> list[int]:
    """Return where blocks of the result end along an axis: in the middle of each overlap."""
    spans = sorted({(t.index[axis].start, t.index[axis].stop) for t in tiles})
    inner = [(start + stop) // 2 for (_, stop), (start, _) in pairwise(spans)]
    return [0, *inner, tiles.size[axis]]


def _meet(one: Sequence[slice], other: Sequence[slice]) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other))


def _denoise_tile(tile: Any, options: dict[str, Any]) -> Any:
    """Denoise a tile, and leave integers as they come before they are rounded."""
    values = np.asarray(tile)
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    return dipfast.denoise(values, **options).image


def _blend(
    restored: Sequence[Any],
    numbers: Sequence[int],
    part: tuple[slice, slice],
    *,
    tiles: Tiles,
    dtype: Any,
) -> Any:
    """Return a part of the picture, of the tiles that meet it."""
    shape = tuple(s.stop - s.start for s in part)
    channels = restored[0].shape[2:]
    total, shares = np.zeros((*shape, *channels)), np.zeros((*shape, *(1 for _ in channels)))
    for number, picture in zip(numbers, restored):
        where, there = [], []
        for whole, own in zip(part, tiles[number].index):
            low, high = max(whole.start, own.start), min(whole.stop, own.stop)
            where.append(slice(low - whole.start, high - whole.start))
            there.append(slice(low - own.start, high - own.start))
        weights = tiles.weights(number)[tuple(there)]
        weights = weights.reshape(*weights.shape, *(1,) * (picture.ndim - 2))
        total[tuple(where)] += weights * picture[tuple(there)]
        shares[tuple(where)] += weights
    # Weights are float32, whose sum is not 1 to the last digits of a large offset.
    return _in_dtype(total / shares, dtype)
