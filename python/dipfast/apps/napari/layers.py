"""Layers of napari: the arrays that are in them, and how results are put beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dipfast.errors import InputError

if TYPE_CHECKING:
    from napari.layers import Image, Labels

__all__ = ["Source", "look_of", "mask_of", "placed"]

# What a result has in common with the layer that it was made of.
_KEPT = (
    "rgb",
    "colormap",
    "contrast_limits",
    "gamma",
    "interpolation2d",
    "interpolation3d",
    "opacity",
    "rendering",
    "units",
    "axis_labels",
    "scale",
    "translate",
    "rotate",
    "shear",
    "affine",
)
# Of these there is an entry for each axis, and none for one that is new.
_OF_AXES = ("units", "axis_labels")


class Source:
    """Hold what is restored of an array that napari shows, and bring results into its form.

    Rows and columns are the last axes, before the colours; the axes in front are those of a stack.

    Parameters
    ----------
    pixels
        The array, or anything that becomes one; it is read when :attr:`image` is asked for.
    is_rgb
        Whether the last axis holds the colours, of which a fourth one is opacity.
    plane
        The place along the axes of the stack of the only plane that is restored; None, the default,
        for all of them.
    """

    def __init__(
        self, pixels: Any, *, is_rgb: bool = False, plane: tuple[int, ...] | None = None
    ) -> None:
        stacked = len(pixels.shape) - 2 - is_rgb
        self.plane = plane if stacked else None
        if self.plane is not None:
            pixels = pixels[self.plane]
        self._pixels = pixels
        self._stacked = stacked
        self._opacity: Any = None
        self._is_rgb = is_rgb
        self._image: Any = None

    @classmethod
    def of(cls, layer: Image, plane: tuple[int, ...] | None = None) -> Source:
        """Return what is restored of a layer.

        Parameters
        ----------
        layer
            The layer; of several resolutions the finest is taken.
        plane
            As above.

        Returns
        -------
        Source
            The source.
        """
        pixels = layer.data[0] if layer.multiscale else layer.data
        return cls(pixels, is_rgb=bool(layer.rgb), plane=plane)

    @property
    def image(self) -> Any:
        """Return the array that is restored, without opacity."""
        if self._image is None:
            image = np.asarray(self._pixels)
            if self._is_rgb and image.shape[-1] == 4:
                image, self._opacity = image[..., :3], image[..., 3:]
            self._image = image
        return self._image

    @property
    def axes(self) -> dict[str, Any]:
        """Return the options that tell a task what the axes of the image are."""
        stacked = 0 if self.plane is not None else self._stacked
        return {
            "channel_axis": -1 if self._is_rgb else None,
            "stack_axis": tuple(range(stacked)) if stacked else None,
        }

    @property
    def count(self) -> int:
        """The number of planes that are restored."""
        shape = tuple(self._pixels.shape)
        end = len(shape) - 2 - self._is_rgb
        return int(np.prod(shape[:end], dtype=int))

    @property
    def begin(self) -> tuple[int, ...]:
        """The place of the first plane that is restored along the axes of the stack."""
        return self.plane or (0,) * self._stacked

    def enlarged(self, image: Any, factor: int) -> Any:
        """Return an image of this form with every pixel repeated.

        Parameters
        ----------
        image
            The image.
        factor
            How often its rows and columns are repeated.

        Returns
        -------
        numpy.ndarray
            The image; a copy in any case.
        """
        rows = image.ndim - 2 - self._is_rgb
        return image.repeat(factor, axis=rows).repeat(factor, axis=rows + 1)

    def finished(self, image: Any) -> Any:
        """Return a restored image as an array that is shown where the source is.

        Parameters
        ----------
        image
            The image, which may have more rows and columns.

        Returns
        -------
        numpy.ndarray
            With the axes of the source, and its opacity.  A single plane is a stack of one.
        """
        if self._opacity is not None:
            rows = image.ndim - 3
            factor = image.shape[rows] // self._opacity.shape[rows]
            image = np.concatenate([image, self.enlarged(self._opacity, factor)], axis=-1)
        if self.plane is not None:
            image = image[(None,) * self._stacked]
        return image


def look_of(layer: Image) -> dict[str, Any]:
    """Return what a result has in common with a layer: where it is, and how it is shown.

    Parameters
    ----------
    layer
        The layer.

    Returns
    -------
    dict
        Arguments of ``add_image``.
    """
    _, said, _ = layer.as_layer_data_tuple()
    return {name: said[name] for name in _KEPT if name in said}


def placed(
    look: dict[str, Any], begin: tuple[int, ...], factor: int = 1, *, extra_axis: bool = False
) -> dict[str, Any]:
    """Return the look of a result that begins elsewhere, or has more pixels.

    Parameters
    ----------
    look
        The look of the layer that it is made of.
    begin
        The place of its first plane along the axes in front of rows and columns.
    factor
        How many times as many rows and columns it has, in the same place.
    extra_axis
        Whether it has one more axis, in front.

    Returns
    -------
    dict
        Arguments of ``add_image``.
    """
    from napari.utils.transforms import Affine

    scale = np.array(look["scale"], dtype=float)
    # The centre of the first small pixel, in pixels of the layer.
    first = np.array([*begin, *[(1 / factor - 1) / 2] * 2])
    to_world = Affine(**{k: look[k] for k in ("scale", "translate", "rotate", "shear")})
    scale[-2:] /= factor
    moved = {**look, "scale": scale, "translate": to_world(first)}
    if extra_axis:
        # What is said of fewer axes is said of the last ones.
        return {name: value for name, value in moved.items() if name not in _OF_AXES}
    return moved


def mask_of(labels: Labels, source: Source) -> Any:
    """Return the missing pixels, which are those that have a label.

    Parameters
    ----------
    labels
        The layer with the labels.
    source
        What is restored.

    Returns
    -------
    numpy.ndarray
        Boolean, for the image of the source.

    Raises
    ------
    InputError
        If it has other rows or columns, or other planes.
    """
    data = labels.data[0] if labels.multiscale else labels.data
    shape, rows = tuple(data.shape), source.image.shape
    rows = rows[:-1] if source.axes["channel_axis"] is not None else rows
    whole = (*source.begin, *rows[-2:])
    if source.plane is not None and len(shape) == len(whole):
        if any(at >= length for at, length in zip(source.plane, shape)):
            raise InputError(f"labels {labels.name!r} have no plane {source.plane}")
        data = data[source.plane]
    mask = np.asarray(data) != 0
    while mask.ndim > 2 and len(mask) == 1 and mask.ndim > len(rows):
        mask = mask[0]
    if mask.shape not in (rows, rows[-2:]):
        raise InputError(
            f"labels {labels.name!r} have the shape {shape}, which is not that of the rows and "
            f"columns of the image, {rows[-2:]}: make a new layer of labels for this image"
        )
    return np.broadcast_to(mask, rows)
