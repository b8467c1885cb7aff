"""Decide which planes of a stack are denoised with their neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from dipfast.errors import InputError
from dipfast.images.layout import Layout
from dipfast.model.neighbours import (
    REACH,
    Neighbours,
    PlaneBlock,
    blocks_of_run,
    find_axis,
    runs_along,
)
from dipfast.model.noise import NoiseModel
from dipfast.model.stack_noise import spread
from dipfast.model.stretch import Stretch
from dipfast.settings.settings import DenoiseSettings, Settings, decide_method

__all__ = [
    "Together",
    "may_have_neighbours",
    "most_together",
    "planes_together",
    "values_of",
]

# Methods that begin with what planes tell together.
_METHODS = ("nl_ridge", "guided", "joined")


@dataclass(frozen=True, eq=False)
class Together:
    """Tell which planes of a stack help each other.

    Parameters
    ----------
    neighbours
        The neighbours of each plane that has some, by its number.
    axis
        The axis along which planes help, as it is counted in the array; None where none do.
    reach
        How many planes to either side help.
    """

    neighbours: dict[int, Neighbours] = field(default_factory=dict)
    axis: int | None = None
    reach: int = 0

    @property
    def found(self) -> dict[str, Any]:
        """Return what the record says."""
        return {"axis": self.axis, "planes": self.reach}


def may_have_neighbours(settings: Settings, layout: Layout) -> bool:
    """Return whether it is to be found out if the planes of an image help each other.

    Parameters
    ----------
    settings
        The settings, with the method decided.
    layout
        The layout of the image.

    Returns
    -------
    bool
        False where the image is no stack of several planes, or a JPEG, and where the method makes
        nothing of neighbours.

    Raises
    ------
    InputError
        If ``neighbours`` was set to more than 0 for one of these.
    """
    asked: int | Literal["auto"] = 0
    if isinstance(settings, DenoiseSettings):
        asked = settings.neighbours
        suits = isinstance(settings.method, str) and settings.method in _METHODS
        if isinstance(asked, int) and asked > 0:
            if not layout.is_stack:
                raise InputError(
                    f"neighbours={asked} is for stacks; stack_axis says which axis counts planes"
                )
            if not suits:
                raise InputError(
                    f"neighbours={asked} has no meaning for this method; expected one of "
                    f"{', '.join(_METHODS)}"
                )
            if settings.jpeg is not None:
                raise InputError(
                    f"neighbours={asked} has no meaning for jpeg, whose planes are restored each "
                    "for itself; leave one of them out"
                )
        if not suits or settings.jpeg is not None:
            return False
    return asked != 0 and layout.is_stack and layout.count > 1


def most_together(settings: Settings, planes: int) -> int:
    """Return how many planes of a stack may be denoised together, as one volume.

    Parameters
    ----------
    settings
        The settings, as they were given or decided.
    planes
        How many planes the stack has.

    Returns
    -------
    int
        The planes of the largest block that the settings allow, whether or not they turn out to
        help each other; 1 for each by itself.
    """
    if not isinstance(settings, DenoiseSettings) or settings.jpeg is not None:
        return 1
    reach = REACH if settings.neighbours == "auto" else settings.neighbours
    method = decide_method(settings)
    if not reach or not isinstance(method, str) or method not in _METHODS:
        return 1
    return max((len(around) for around, _ in blocks_of_run(planes, reach)), default=1)


def planes_together(
    measurement: Tensor,
    layout: Layout,
    settings: DenoiseSettings,
    noise: NoiseModel,
    items: Sequence[int],
    outliers: Sequence[Tensor | None],
    stretched: Callable[[Tensor], Stretch | None],
) -> Together:
    """Return which planes of a stack help each other.

    With ``neighbours="auto"`` it is measured whether they do, and along which axis
    (:func:`dipfast.model.neighbours.find_axis`); else they are those of the last axis.  They end
    where a scene changes.

    Parameters
    ----------
    measurement
        The planes, (N, C, H, W), in units of a picture in [0, 1].
    layout
        Their layout.
    settings
        The settings.
    noise
        The noise that planes have in common.
    items
        The numbers of the planes that have it.
    outliers
        Which values of each plane are wrong, (1, C, H, W); None for none.
    stretched
        A function from planes to the stretch that they need; None for none.

    Returns
    -------
    Together
        The neighbours.
    """
    shape = [layout.shape[axis] for axis in layout.stack_axes]
    if settings.neighbours == "auto":
        # The axis is found on plain values: a part of a stack has seldom a high dynamic range.
        axis, reach = find_axis(measurement, shape, items, noise), REACH
    else:
        axis = max((k for k, count in enumerate(shape) if count > 1), default=None)
        reach = settings.neighbours
    if axis is None or noise.is_free:
        return Together()
    neighbours: dict[int, Neighbours] = {}
    for run in runs_along(shape, axis, items, measurement):
        if len(run) < 2:
            continue
        step = run[1] - run[0]
        planes = measurement[run[0] : run[-1] + 1 : step]
        stretch = stretched(planes)
        for around, own in blocks_of_run(len(run), reach):
            block = PlaneBlock(
                planes[around.start : around.stop],
                own.start - around.start,
                own.stop - around.start,
                reach,
                tuple(outliers[run[k]] for k in around),
                stretch,
            )
            for k in own:
                neighbours[run[k]] = Neighbours(block, k - around.start)
    if not neighbours:
        return Together()
    return Together(neighbours, layout.stack_axes[axis], reach)


def values_of(planes: Tensor) -> Tensor:
    """Return values of planes that have their range, and about their median.

    Parameters
    ----------
    planes
        The planes, (N, C, H, W).

    Returns
    -------
    Tensor
        The values of eight planes at most, and the least and the greatest of each.
    """
    some = planes[spread(range(len(planes)))].flatten()
    flat = planes.flatten(1)
    return torch.cat([some, flat.amin(dim=1), flat.amax(dim=1)])
