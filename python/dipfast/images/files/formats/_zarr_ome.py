"""What OME-Zarr (OME-NGFF 0.1 to 0.5) says of an image: axes, sizes of pixels, channels."""

from __future__ import annotations

import copy
import math
import re
from fractions import Fraction
from typing import Any

from dipfast.errors import UnreadableFileError
from dipfast.images.files.image_file import Resolution

__all__ = [
    "are_colours",
    "enlarged",
    "kinds_of",
    "multiscale_of",
    "new_attributes",
    "of_first_level",
    "path_of",
    "resolution_of",
    "without_channels",
]

_Description = dict[str, Any]

# What OME calls units that have another name here.
_UNITS = {
    **{"µm": "micrometer", "nm": "nanometer", "mm": "millimeter", "cm": "centimeter"},
    **{"m": "meter", "Å": "angstrom", "inch": "inch", "dm": "decimeter", "pm": "picometer"},
    "km": "kilometer",
}
# What colours are called as channels, how OME has them, and names of channels that say nothing.
_COLOURS = (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))
_COLOUR = re.compile(r"r|g|b|red|green|blue", re.IGNORECASE)
_NAMELESS = re.compile(r"((channel|chan|ch|c)[ _:.-]*)?\d*", re.IGNORECASE)
_SPELLINGS = {name: unit for unit, name in _UNITS.items()}
_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def _container(attributes: _Description) -> _Description:
    """Return where in the attributes of a group the metadata of OME are, by its version."""
    inside = attributes.get("ome")
    return inside if isinstance(inside, dict) else attributes


def multiscale_of(attributes: _Description) -> _Description | None:
    """Return the first image that attributes of a group describe.

    Parameters
    ----------
    attributes
        The attributes.

    Returns
    -------
    dict or None
        Its description, which is a part of the attributes; None if there is none.
    """
    found = _container(attributes).get("multiscales")
    first = found[0] if isinstance(found, list) and found else None
    return first if isinstance(first, dict) else None


def path_of(multiscale: _Description) -> str:
    """Return where the array of an image is, in its full size.

    Parameters
    ----------
    multiscale
        The description of the image.

    Returns
    -------
    str
        The path, within the group.

    Raises
    ------
    UnreadableFileError
        If it does not say.
    """
    path = _first_dataset(multiscale).get("path")
    if not isinstance(path, str) or not path:
        raise UnreadableFileError("its metadata of OME-Zarr do not say where the image is")
    return path.strip("/")


def _first_dataset(multiscale: _Description) -> _Description:
    """Return what is said of an image in its full size."""
    datasets = multiscale.get("datasets")
    first = datasets[0] if isinstance(datasets, list) and datasets else None
    return first if isinstance(first, dict) else {}


def of_first_level(attributes: _Description) -> tuple[_Description, list[str]]:
    """Return attributes of a group that holds one image, in its full size only.

    Parameters
    ----------
    attributes
        Attributes of a group that holds an image.

    Returns
    -------
    tuple
        The attributes, and what they no longer describe, in words.
    """
    changed = copy.deepcopy(attributes)
    multiscale = multiscale_of(changed)
    if multiscale is None:
        return changed, []
    images = _container(changed)["multiscales"]
    lost = ["other images of the same group"] if len(images) > 1 else []
    levels = multiscale["datasets"]
    if len(levels) > 1:
        count = len(levels) - 1
        lost.append("its smaller copy" if count == 1 else f"its {count} smaller copies")
    _container(changed)["multiscales"] = [multiscale]
    multiscale["datasets"] = levels[:1]
    return changed, lost


def kinds_of(multiscale: _Description, count: int) -> list[str]:
    """Return what the axes of an image are.

    Parameters
    ----------
    multiscale
        The description of the image.
    count
        How many axes its array has.

    Returns
    -------
    list of str
        A letter for each: y and x for the pixels, c for channels, t for time, z for depth, q for
        what is something else.

    Raises
    ------
    UnreadableFileError
        If the axes are not those of an image.
    """
    axes = multiscale.get("axes")
    if axes is None:  # as versions had it that knew no other
        axes = list("tczyx")
    described = [axis if isinstance(axis, dict) else {"name": axis} for axis in _listed(axes)]
    names = [str(axis.get("name"))[:20] for axis in described]
    types = [axis.get("type") or _TYPES.get(name) for name, axis in zip(names, described)]
    in_space = [k for k, kind in enumerate(types) if kind == "space"]
    if len(names) != count or len(in_space) < 2 or types.count("channel") > 1:
        raise UnreadableFileError(
            f"its axes ({', '.join(names)}) do not fit an array of {count} axes, of which two at "
            "least are in space and one at most has the channels"
        )
    letters = {"time": "t", "channel": "c", "space": "z"}
    kinds = [letters.get(str(kind), "q") for kind in types]
    kinds[in_space[-2]], kinds[in_space[-1]] = "y", "x"
    return kinds


def are_colours(attributes: _Description, dtype: str) -> bool:
    """Return whether the channels of an image are colours, and not dyes or bands.

    Parameters
    ----------
    attributes
        Attributes of the group that holds it; empty if there are none.
    dtype
        The name of the type of its values.

    Returns
    -------
    bool
        Whether they are called red, green and blue; where no name says what they are, whether the
        values have 8 bits.
    """
    rendering = _container(attributes).get("omero")
    channels = _listed(rendering.get("channels")) if isinstance(rendering, dict) else []
    labels = [str(each.get("label") or "").strip() for each in channels if isinstance(each, dict)]
    named = [label for label in labels if not _NAMELESS.fullmatch(label)]
    if named:
        return all(_COLOUR.fullmatch(label) for label in named)
    return dtype == "uint8"


def _listed(value: Any) -> list[Any]:
    """Return a list; an empty one if it is something else."""
    return value if isinstance(value, list) else []


def _numbers(transformations: Any, kind: str, count: int) -> list[float] | None:
    """Return the numbers of the one transformation of a kind, None if there is none to use."""
    found = [
        each.get(kind)
        for each in _listed(transformations)
        if isinstance(each, dict) and each.get("type") == kind
    ]
    numbers = _listed(found[0]) if len(found) == 1 else []
    right = all(type(n) in (int, float) and math.isfinite(n) for n in numbers)
    return [float(n) for n in numbers] if right and len(numbers) == count else None


def resolution_of(multiscale: _Description, count: int, row: int, column: int) -> Resolution | None:
    """Return the resolution of an image.

    Parameters
    ----------
    multiscale
        The description of the image.
    count
        How many axes its array has.
    row, column
        The axes of the pixels.

    Returns
    -------
    Resolution or None
        The resolution, None if there is none.
    """
    parts = [_first_dataset(multiscale), multiscale]
    scales = [_numbers(part.get("coordinateTransformations"), "scale", count) for part in parts]
    if scales[0] is None:
        return None
    y, x = (math.prod(scale[axis] for scale in scales if scale) for axis in (row, column))
    axes = [axis if isinstance(axis, dict) else {} for axis in _listed(multiscale.get("axes"))]
    units = {str(axis.get("unit") or "")[:20] for axis in (axes[row], axes[column])}
    if len(units) > 1 or not (0 < x < math.inf and 0 < y < math.inf):
        return None
    unit = units.pop()
    # The number in decimal digits is meant, not the next one in binary digits.
    across, down = (1 / Fraction(repr(size)) for size in (x, y))
    return Resolution.of(across, down, _SPELLINGS.get(unit, unit))


def enlarged(
    attributes: _Description, factor: int, count: int, row: int, column: int
) -> _Description:
    """Return attributes of a group whose image has more pixels in the same field of view.

    Parameters
    ----------
    attributes
        The attributes.
    factor
        By how much its rows and columns have become more.
    count
        How many axes its array has.
    row, column
        The axes of the pixels.

    Returns
    -------
    dict
        The attributes: pixels are smaller, and the centre of the first one has moved.
    """
    changed = copy.deepcopy(attributes)
    multiscale = multiscale_of(changed)
    first = {} if multiscale is None else _first_dataset(multiscale)
    before = first.get("coordinateTransformations")
    scale = _numbers(before, "scale", count)
    if scale is None:
        return changed
    place = _numbers(before, "translation", count) or [0.0] * count
    for axis in (row, column):
        place[axis] += scale[axis] * (1 / factor - 1) / 2
        scale[axis] /= factor
    first["coordinateTransformations"] = [
        {"type": "scale", "scale": scale},
        {"type": "translation", "translation": place},
    ]
    return changed


def without_channels(attributes: _Description) -> tuple[_Description, list[str]]:
    """Return attributes of a group whose image has other channels than before.

    Parameters
    ----------
    attributes
        The attributes.

    Returns
    -------
    tuple
        The attributes, and what was left out, in words.
    """
    changed = copy.deepcopy(attributes)
    removed = _container(changed).pop("omero", None)
    return changed, [] if removed is None else ["names of channels"]


def new_attributes(
    names: str, resolution: Resolution | None, ends: tuple[float, float] | None = None
) -> _Description:
    """Return attributes of a group that holds an image from elsewhere, by version 0.5.

    Parameters
    ----------
    names
        The letters of its axes: t, c, z, y, x.
    resolution
        Its resolution, if it is known.
    ends
        The darkest and the brightest value, if the channels are to be called red, green and blue;
        None if nothing is to be said of them.

    Returns
    -------
    dict
        The attributes.
    """
    axes: list[_Description] = [{"name": name, "type": _TYPES[name]} for name in names]
    scale = [1.0] * len(names)
    if resolution is not None:
        scale[-2:] = [float(1 / resolution.y), float(1 / resolution.x)]
        for axis in axes[-2:] if resolution.unit else []:
            axis["unit"] = _UNITS.get(resolution.unit, resolution.unit)
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    inside: _Description = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    if ends is not None:
        window = dict(zip(("min", "max", "start", "end"), ends * 2))
        channels = [
            {"label": name, "color": colour, "active": True, "window": window}
            for name, colour in _COLOURS
        ]
        inside["omero"] = {"channels": channels, "rdefs": {"model": "color"}}
    return {"ome": inside}
