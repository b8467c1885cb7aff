"""Which axes of an array of numbers are channels, and which those of a stack."""

from __future__ import annotations

import numpy as np

from dipfast.arrays import find_channel_axis
from dipfast.errors import InputError, UnreadableFileError

__all__ = ["MOST_AXES", "axes_of"]

MOST_AXES = 5
"""The most axes of an array that does not name them."""

# A longer axis is one of a stack.
_MOST_CHANNELS = 4
# A last axis that is shorter than the two before it by this factor is rather one of channels, such
# as the bands of a spectrum, than the width of narrow planes.
_MUCH_SHORTER = 4


def axes_of(shape: tuple[int, ...]) -> tuple[int, int | None, tuple[str, ...]]:
    """Return what the axes of an array are taken for that does not say it.

    Up to four channels are recognised by the rule that arrays have everywhere, in the last three
    axes; what is in front of these, or of the pixels where there are no channels, is a stack.

    Parameters
    ----------
    shape
        The shape of the array, with two axes at least.

    Returns
    -------
    tuple
        How many axes of a stack there are in front; the axis of the channels, None if there is
        none; and what was assumed, in words.

    Raises
    ------
    UnreadableFileError
        If the channels are not clear, or the last axis is too short for one of pixels, and too
        long for channels to be recognised.
    """
    stack, axis = _axes_of(shape)
    if stack:
        what = "axis is" if stack == 1 else f"{stack} axes are"
        channels = "" if axis is None else f", axis {axis} for its channels"
        return stack, axis, (f"shape {shape}: the first {what} taken for a stack{channels}",)
    if axis == 0 and shape[0] > 1:
        said = f"shape {shape}: the first axis is taken for channels, not for a stack"
        return stack, axis, (said,)
    return stack, axis, ()


def _axes_of(shape: tuple[int, ...]) -> tuple[int, int | None]:
    """Return how many axes of a stack there are in front, and the axis of the channels."""
    view = np.broadcast_to(np.uint8(0), shape)
    last = shape[-3:]
    if len(last) == 3 and min(last[0], last[-1]) > _MOST_CHANNELS:
        if _MUCH_SHORTER * last[-1] <= min(last[:2]):
            count = last[-1]
            raise UnreadableFileError(
                f"it has the shape {shape}, and it is not clear whether its last axis is one of "
                f"{count} channels: in Python channel_axis=-1 says so; "
                f"numpy.moveaxis(array, -1, 0) makes a stack of {count} planes of it; TIFF says "
                "which axes it has"
            )
        return len(shape) - 2, None
    stack = tuple(range(len(shape) - 3))
    try:
        return len(stack), find_channel_axis("image", view, None, stack)
    except InputError:
        raise UnreadableFileError(
            f"it has the shape {shape}, and its channels are not clear: up to four are recognised "
            "as the last axis or in front of the pixels, where the other one is longer; write one "
            "image to each file, or TIFF for more channels"
        ) from None
