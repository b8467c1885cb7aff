"""Zarr: a folder with one array in chunks, alone or as an image of OME-Zarr (OME-NGFF).

Both versions of Zarr are read and written, and what comes from elsewhere becomes OME-Zarr 0.5.

The library of Zarr is not needed, on purpose: a chunk of a few bytes can unpack to any size there,
it reads version 3 with newer Pythons only, and of what it does only whole arrays are needed here:
numbers in JSON, and chunks that imagecodecs unpacks.  The tests compare both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dipfast.errors import UnreadableFileError
from dipfast.images.files.formats import _zarr_ome as ome
from dipfast.images.files.formats._array_axes import MOST_AXES, axes_of
from dipfast.images.files.formats._numbers import not_kept
from dipfast.images.files.formats._zarr_arrays import ArrayForm, Store
from dipfast.images.files.image_file import ImageFile

__all__ = ["StoreForm", "read", "write"]

_Array = np.ndarray[Any, Any]
_Description = dict[str, Any]

_UNIT = -1  # an axis of length 1 that is no axis of the image
_NAMED = 5  # parts of a store that a message names
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
# What programs call their axes.
_NAMES = {
    **dict.fromkeys(("c", "channel", "channels", "band"), "c"),
    **dict.fromkeys(("t", "time"), "t"),
    **dict.fromkeys(("z", "depth"), "z"),
    **{"y": "y", "x": "x"},
}
# Parts of a group beside its image.
_BESIDE = ("OME", "labels")
_DEEPEST = 8


@dataclass(frozen=True)
class StoreForm:
    """Hold the form that an array had in its store.

    Attributes
    ----------
    groups
        Path and attributes of each group that the array is in, the outermost first.
    path
        Path of the array, empty if it is the store itself.
    array
        The array.
    attributes
        Attributes of the array, where these are in a file of their own.
    axes
        For each axis of the array, which axis of the image it is, where those of a stack come
        first, then rows, columns and channels; -1 for an axis that the image does not have.
    stack
        How many axes of a stack there are.
    lost
        What could not be kept, in words.
    """

    groups: tuple[tuple[str, _Description], ...]
    path: str
    array: ArrayForm
    attributes: _Description
    axes: tuple[int, ...]
    stack: int
    lost: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return what of the store another format would lack, in words."""
        described = [attributes for _, attributes in self.groups]
        if any(ome.multiscale_of(attributes) is not None for attributes in described):
            return ("metadata of OME-Zarr",)
        own = self.attributes or self.array.metadata.get("attributes")
        return ("attributes",) if any(described) or own else ()

    def enlarged(self, factor: int) -> StoreForm:
        """Return the form of the image with ``factor`` times the rows and columns."""
        rows, columns = (self.axes.index(self.stack + k) for k in range(2))
        groups = tuple(
            (path, ome.enlarged(attributes, factor, len(self.axes), rows, columns))
            for path, attributes in self.groups
        )
        return replace(self, groups=groups)

    def fits(self, pixels: _Array, stack: int) -> bool:
        """Return whether pixels have the axes of the array.

        Parameters
        ----------
        pixels
            Pixels with the axes of a stack in front, and those of channels at the end.
        stack
            How many axes of a stack there are.

        Returns
        -------
        bool
            Whether :meth:`arranged` takes them.
        """
        with_channels = self.stack + 2 in self.axes
        return stack == self.stack and (with_channels or pixels.ndim == stack + 2)

    def arranged(self, pixels: _Array) -> _Array:
        """Return pixels with their axes as the array has them.

        Parameters
        ----------
        pixels
            Pixels that fit.

        Returns
        -------
        ndarray
            A view of them.
        """
        if pixels.ndim == self.stack + 2 and self.stack + 2 in self.axes:
            pixels = pixels[..., None]
        there = pixels.transpose([axis for axis in self.axes if axis != _UNIT])
        return np.expand_dims(there, [k for k, axis in enumerate(self.axes) if axis == _UNIT])


def read(folder: Path) -> ImageFile:
    """Read the one image of a store, in its full size.

    Parameters
    ----------
    folder
        The folder of the store, or of a group or array in it.

    Returns
    -------
    ImageFile
        The image, with its form in the store.

    Raises
    ------
    UnreadableFileError
        If the store declares what is refused: several images, objects, an array that is none of an
        image, or codecs that are not known.
    """
    store = Store(folder)
    groups, path, description, attributes = _find(store, folder.name)
    array = ArrayForm.of(description)
    array.check_limits()
    lost: list[str] = []
    described = None
    if groups:
        place, inside = groups[-1]
        described = ome.multiscale_of(inside)
        if described is not None:
            trimmed, lost = ome.of_first_level(inside)
            groups[-1] = (place, trimmed)
    lost += _beside(store, [place for place, _ in groups], path, described)
    axes, names, remarks = _axes(described, array, attributes)
    stack = len(names)
    form = StoreForm(tuple(groups), path, array, attributes, axes, stack, tuple(lost))
    metadata: dict[str, Any] = {"zarr": form}
    if described is not None:
        rows, columns = axes.index(stack), axes.index(stack + 1)
        resolution = ome.resolution_of(described, len(axes), rows, columns)
        if resolution is not None:
            metadata["resolution"] = resolution
    has_names = described is not None or bool(_named_kinds(array, attributes))
    about = groups[-1][1] if groups else {}
    if stack + 2 in axes and has_names and not ome.are_colours(about, array.dtype.name):
        # Three channels of which nothing is said are taken for colours where they are written.
        metadata["colour"] = False
    there = [axis for axis in axes if axis != _UNIT]
    pixels = array.read(store, f"{path}/" if path else "")
    return ImageFile(
        pixels.reshape([n for n, axis in zip(pixels.shape, axes) if axis != _UNIT]),
        there.index(stack + 2) if stack + 2 in there else None,
        None,
        metadata,
        stack_axes=tuple(there.index(k) for k in range(stack)),
        stack_names=names,
        remarks=remarks,
    )


def beside(folder: Path) -> list[str]:
    """Return what a store holds that is not of one image.

    Parameters
    ----------
    folder
        The folder of the store.

    Returns
    -------
    list of str
        Names of its parts, or a description.
    """
    try:
        store = Store(folder)
        groups, path, _, _ = _find(store, folder.name)
    except UnreadableFileError as error:
        return [str(error)]
    described = ome.multiscale_of(groups[-1][1]) if groups else None
    return _beside(store, [place for place, _ in groups], path, described)


def _find(
    store: Store, name: str
) -> tuple[list[tuple[str, _Description]], str, _Description, _Description]:
    """Return the groups down to the one array, its path, and what is said of it."""
    groups: list[tuple[str, _Description]] = []
    path = ""
    while True:
        at = f"{path}/" if path else ""
        new, old = store.metadata(f"{at}zarr.json"), store.metadata(f"{at}.zarray")
        attributes = store.metadata(f"{at}.zattrs") or {}
        if new is not None:
            attributes = new.get("attributes", {})
            if not isinstance(attributes, dict) or new.get("zarr_format") != 3:
                raise UnreadableFileError("its metadata (zarr.json) are not those of version 3")
            if new.get("node_type") == "array":
                return groups, path, new, {}
        elif old is not None:
            if old.get("zarr_format") != 2:
                raise UnreadableFileError("its metadata (.zarray) are not those of version 2")
            return groups, path, old, attributes
        elif f"{at}.zgroup" not in store.keys:
            raise UnreadableFileError(f"there is no array or group of Zarr in {path[:60] or 'it'}")
        groups.append((path, attributes))
        if len(groups) > _DEEPEST:
            raise UnreadableFileError("its groups are nested too deeply")
        path = at + _child(store, at, attributes, name)


def _child(store: Store, at: str, attributes: _Description, name: str) -> str:
    """Return the path, within a group, of the one image or group that is in it."""
    described = ome.multiscale_of(attributes)
    if described is not None:
        return ome.path_of(described)
    found = set()
    for key in store.keys:
        child, slash, file = key.removeprefix(at).partition("/")
        if key.startswith(at) and slash and file in _METADATA[:3] and child not in _BESIDE:
            found.add(child)
    if len(found) == 1:
        return found.pop()
    if not found:
        raise UnreadableFileError("it is a group of Zarr without an array")
    children = sorted(found)
    named = ", ".join(child[:40] for child in children[:_NAMED])
    named += ", ..." if len(children) > _NAMED else ""
    raise UnreadableFileError(
        f"it holds {len(children)} arrays or groups ({named}), expected one image; name the one "
        f"that is meant, such as {name}/{at[:60]}{children[0][:40]}"
    )


def _beside(
    store: Store, groups: list[str], path: str, described: _Description | None
) -> list[str]:
    """Return the names of what is in a store beside its image, and not another size of it."""
    levels = [] if described is None else described.get("datasets", [])
    base = f"{groups[-1]}/" if groups and groups[-1] else ""
    inside = [f"{base}{level.get('path')}" for level in levels if isinstance(level, dict)]
    others: set[str] = set()
    for key in store.keys:
        if any(not each or key.startswith(f"{each}/") for each in (path, *inside)):
            continue
        outer = max((each for each in groups if key.startswith(f"{each}/")), key=len, default="")
        name = key.removeprefix(f"{outer}/" if outer else "").partition("/")[0]
        if not name.startswith(".") and name not in _METADATA:
            others.add(name[:40])
    named = sorted(others)
    return [*named[:_NAMED], *(["..."] if len(named) > _NAMED else [])]


def _axes(
    described: _Description | None, array: ArrayForm, attributes: _Description
) -> tuple[tuple[int, ...], str, tuple[str, ...]]:
    """Return the axes of a form, the letters of those of a stack, and what was assumed."""
    shape = array.shape
    kinds = _named_kinds(array, attributes)
    if described is not None:
        kinds = ome.kinds_of(described, len(shape))
    if not kinds:
        if len(shape) > MOST_AXES:
            raise UnreadableFileError(f"it has the shape {shape}, and its axes have no names")
        stack, channels, remarks = axes_of(shape)
        rest = [k for k in range(stack, len(shape)) if k != channels]
        order = [*range(stack), *rest, *([] if channels is None else [channels])]
        return tuple(map(int, np.argsort(order))), "Q" * stack, remarks
    of_stack = [k for k, kind in enumerate(kinds) if kind in "tzq" and shape[k] > 1]
    of_pixels = [k for k, kind in enumerate(kinds) if kind in "yx"]
    of_channels = [k for k, kind in enumerate(kinds) if kind == "c" and shape[k] > 1]
    axes = [_UNIT] * len(shape)
    for number, axis in enumerate([*of_stack, *of_pixels, *of_channels]):
        axes[axis] = number
    return tuple(axes), "".join(kinds[k] for k in of_stack).upper(), ()


def _named_kinds(array: ArrayForm, attributes: _Description) -> list[str]:
    """Return what the axes of an array are by their names; empty if these do not say it."""
    names = array.metadata.get("dimension_names", attributes.get("_ARRAY_DIMENSIONS"))
    if not isinstance(names, list) or len(names) != len(array.shape):
        return []
    kinds = [_NAMES.get(str(name).lower(), "q") for name in names]
    counts = [kinds.count(kind) for kind in "yxc"]
    return kinds if counts[:2] == [1, 1] and counts[2] <= 1 else []


def write(folder: Path, pixels: _Array, like: ImageFile) -> list[str]:
    """Write an image as a store.

    Parameters
    ----------
    folder
        Where to write, an empty folder.
    pixels
        Array (H, W) or (H, W, samples), behind the axes of a stack.
    like
        The image; if it is of such a store, the array is written in the same form.

    Returns
    -------
    list of str
        What could not be kept, in words.
    """
    stack = len(like.stack_axes)
    lost = not_kept(like)
    form: StoreForm | None = like.metadata.get("zarr")
    if form is None or not form.fits(pixels, stack):
        lost += [] if form is None else form.names
        form = _new(pixels, like)
        resolution = like.metadata.get("resolution")
        if form.groups and "z" in like.stack_names.lower() and resolution and resolution.unit:
            # OME asks for a size along every axis, and ours is that of a number.
            lost.append("distance of its planes, which is 1 in it")
    array = form.array.like(form.arranged(pixels))
    groups = list(form.groups)
    if groups and _channels(form, array.shape) != _channels(form, form.array.shape):
        place, attributes = groups[-1]
        attributes, gone = ome.without_channels(attributes)
        groups[-1], lost = (place, attributes), lost + gone
    new = array.metadata.get("zarr_format") == 3
    for place, attributes in groups:
        _write_group(folder / place, attributes, new)
    target = folder / form.path
    target.mkdir(parents=True, exist_ok=True)
    _write_text(target / ("zarr.json" if new else ".zarray"), array.metadata)
    if form.attributes:
        _write_text(target / ".zattrs", form.attributes)
    array.write(target, form.arranged(pixels))
    kept = any(ome.multiscale_of(attributes) is not None for _, attributes in groups)
    return [name for name in lost if not (kept and name == "resolution")]


def _channels(form: StoreForm, shape: tuple[int, ...]) -> int:
    """Return how many channels an array of a form has."""
    axis = form.stack + 2
    return shape[form.axes.index(axis)] if axis in form.axes else 1


def _write_group(folder: Path, attributes: _Description, new: bool) -> None:
    """Write what there is to say of a group."""
    folder.mkdir(parents=True, exist_ok=True)
    if new:
        text = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        _write_text(folder / "zarr.json", text)
        return
    _write_text(folder / ".zgroup", {"zarr_format": 2})
    if attributes:
        _write_text(folder / ".zattrs", attributes)


def _write_text(path: Path, value: _Description) -> None:
    """Write JSON."""
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def _new(pixels: _Array, like: ImageFile) -> StoreForm:
    """Return the form of an image that comes from elsewhere: OME-Zarr, if that has its axes."""
    stack = len(like.stack_axes)
    letters = like.stack_names.lower()
    if len(letters) != stack or len(set(letters)) < stack or not set(letters) <= set("tz"):
        letters = {0: "", 1: "z", 2: "tz"}.get(stack, "")
    numbers = {letter: k for k, letter in enumerate(letters)}
    groups: tuple[tuple[str, _Description], ...] = ()
    path = ""
    if len(letters) == stack:
        numbers |= {"y": stack, "x": stack + 1}
        numbers |= {"c": stack + 2} if pixels.ndim == stack + 3 else {}
        names = [name for name in "tczyx" if name in numbers]
        axes = tuple(numbers[name] for name in names)
        attributes = ome.new_attributes(
            "".join(names), like.metadata.get("resolution"), _ends_of_colours(pixels, like)
        )
        groups, path = ((("", attributes),), "0")
    else:
        channels = pixels.ndim == stack + 3
        names = [f"axis_{k}" for k in range(stack)] + ["c"] * channels + ["y", "x"]
        axes = (*range(stack), *([stack + 2] * channels), stack, stack + 1)
    shape = tuple(pixels.shape[axis] for axis in axes)
    return StoreForm(groups, path, ArrayForm.new(shape, pixels.dtype, names), {}, axes, stack)


def _ends_of_colours(pixels: _Array, like: ImageFile) -> tuple[float, float] | None:
    """Return the darkest and the brightest value of colours that have to be called so; else None.

    Of 8 bits, channels without names are taken for colours anyway (:func:`ome.are_colours`).
    """
    is_colour = pixels.ndim == len(like.stack_axes) + 3 and pixels.shape[-1] == 3
    if not is_colour or not like.metadata.get("colour", True) or pixels.dtype == np.uint8:
        return None
    if pixels.dtype.kind != "f":
        limits = np.iinfo(pixels.dtype)
        return float(limits.min), float(limits.max)
    finite = pixels[np.isfinite(pixels)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
