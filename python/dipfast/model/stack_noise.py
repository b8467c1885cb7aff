"""Estimate the noise of a stack of pictures that one sensor took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from dipfast import ops
from dipfast.model.noise import NoiseModel
from dipfast.model.noise_estimate import NoiseEstimate, estimate_noise, isolated_outliers
from dipfast.settings.names import NoiseKind

__all__ = ["StackNoise", "estimate_stack_noise", "spread"]

# So many planes are looked at together, and of each so many pixels at most.
_MOST_PLANES = 8
_MOST_PIXELS = 1 << 18
# The noise of a plane is another one if it is stronger or weaker by this factor.
_CLEARLY = 1.5
# How often planes that have the same noise are looked for.
_ATTEMPTS = 2
# Of fewer rows and columns a level cannot be told.
_LEAST_SIZE = 4


@dataclass(frozen=True, eq=False)
class StackNoise:
    """Hold the noise that the planes of a stack have in common, and that of those that differ.

    Parameters
    ----------
    shared
        What some planes tell together; its ``outliers`` are None, because they are those of no
        single plane.
    planes
        The numbers of these planes, counted from 0.
    own
        The estimates of the planes whose noise is clearly another one, by their numbers.
    """

    shared: NoiseEstimate
    planes: tuple[int, ...]
    own: dict[int, NoiseEstimate] = field(default_factory=dict)

    def of(self, item: int, plane: Tensor) -> NoiseEstimate:
        """Return the noise of one plane.

        Parameters
        ----------
        item
            Its number.
        plane
            The plane, (C, H, W).

        Returns
        -------
        NoiseEstimate
            The estimate, with the outliers of this plane.
        """
        if item in self.own:
            return self.own[item]
        if self.shared.quantised:  # what JPEG leaves of an edge stands alone, too
            return self.shared
        return replace(self.shared, outliers=isolated_outliers(plane, self.shared.model))


def estimate_stack_noise(
    planes: Tensor,
    kind: NoiseKind = "auto",
    *,
    sigma: float | None = None,
    known: Sequence[Tensor | None] | None = None,
    ends: tuple[float, float] = (0.0, 1.0),
    compares: bool = False,
) -> StackNoise:
    """Estimate the noise of a stack of pictures that one sensor took, from the stack alone.

    Up to eight planes, spread evenly over those that are not constant, are put side by side, and
    are judged as one picture: what grows with the signal is seen at the brightness of all of them.
    Then the finest details of every plane are compared with what is expected there.  Where they
    differ by a factor of 1.5, the noise of that plane is estimated by itself; it is its own if it
    differs as much.  If more than half of the planes differ, planes with a noise in the middle are
    put together; if more than half differ from these, too, every plane has its own.

    Parameters
    ----------
    planes
        The planes, (N, C, H, W), in units of a picture in [0, 1].
    kind, sigma, ends, compares
        As in :func:`~dipfast.model.noise_estimate.estimate_noise`.
    known
        Which values of each plane were measured; None for all.

    Returns
    -------
    StackNoise
        The noise.

    Raises
    ------
    ValueError
        As :func:`~dipfast.model.noise_estimate.estimate_noise` does.

    Examples
    --------
    >>> clean = torch.linspace(0.2, 0.6, 64).repeat(5, 1, 64, 1)
    >>> noisy = NoiseModel(0.05).sample(clean, torch.Generator().manual_seed(0))
    >>> found = estimate_stack_noise(noisy)
    >>> round(found.shared.model.sigma, 2), found.planes, found.own
    (0.05, (0, 1, 2, 3, 4), {})
    """
    masks = [None] * len(planes) if known is None else list(known)

    def estimate(item: int, sigma: float | None = sigma) -> NoiseEstimate:
        return estimate_noise(
            planes[item], kind, sigma=sigma, known=masks[item], ends=ends, compares=compares
        )

    constant = [item for item, plane in enumerate(planes) if bool((plane == plane.max()).all())]
    varied = [item for item in range(len(planes)) if item not in constant]
    alike = varied or constant
    # Whatever was said of the noise, an empty plane has none.
    of_constant = {item: estimate(item, sigma=None) for item in constant if varied}
    for _ in range(_ATTEMPTS):
        chosen = spread(alike)
        shared = _together(planes, masks, chosen, kind, sigma, ends, compares)
        differ: dict[int, NoiseEstimate] = {}
        for item in varied if sigma is None else ():  # otherwise it was said
            if _may_differ(planes[item], masks[item], shared):
                own = estimate(item)
                if _differ(planes[item], masks[item], shared.model, own.model):
                    differ[item] = own
        if 2 * len(differ) <= len(varied):
            return StackNoise(shared, tuple(chosen), of_constant | differ)
        # The quietest planes say most of what they say together: those in the middle may agree.
        levels = {item: own.model.typical_variance for item, own in differ.items()}
        middle = float(np.median(list(levels.values())))
        alike = [item for item in differ if not _are_apart(levels[item], middle, _CLEARLY**2)]
        alike = alike or list(differ)
    everything = {item: differ.get(item) or estimate(item) for item in varied}
    return StackNoise(shared, tuple(chosen), of_constant | everything)


def _together(
    planes: Tensor,
    masks: Sequence[Tensor | None],
    chosen: Sequence[int],
    kind: NoiseKind,
    sigma: float | None,
    ends: tuple[float, float],
    compares: bool,
) -> NoiseEstimate:
    """Return what some planes tell of their noise as one picture."""
    count = len(chosen)
    parts = [_part(planes[item], place, count) for place, item in enumerate(chosen)]
    known = None
    if any(mask is not None for mask in masks):
        full = (_mask_like(planes[item], masks[item]) for item in chosen)
        known = torch.cat([_part(mask, place, count) for place, mask in enumerate(full)], dim=1)
    picture = torch.cat(parts, dim=1)
    found = estimate_noise(picture, kind, sigma=sigma, known=known, ends=ends, compares=compares)
    return replace(found, outliers=None)


def spread(items: Sequence[int], most: int = _MOST_PLANES) -> list[int]:
    """Return some items of a sequence, spread evenly.

    Parameters
    ----------
    items
        The items.
    most
        How many are returned at most.

    Returns
    -------
    list of int
        The items, in their order.

    Examples
    --------
    >>> spread(range(20), 3)
    [0, 10, 19]
    """
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in places]


def _part(plane: Tensor, place: int, count: int) -> Tensor:
    """Return a plane, or a band of the rows of a large one: of each of several planes another."""
    rows, columns = plane.shape[-2:]
    height = min(rows, max(_MOST_PIXELS // columns, _LEAST_SIZE))
    first = (rows - height) * place // max(count - 1, 1)
    return plane[..., first : first + height, :]


def _mask_like(plane: Tensor, known: Tensor | None) -> Tensor:
    if known is None:
        return torch.ones_like(plane, dtype=torch.bool)
    return known.expand(plane.shape).cpu()


def _may_differ(plane: Tensor, known: Tensor | None, shared: NoiseEstimate) -> bool:
    """Return whether the finest details of a plane are not those of the noise of the stack.

    They may be texture, and of a plane with gaps they are not looked at.
    """
    if known is not None or min(plane.shape[-2:]) < _LEAST_SIZE:
        return True
    there = ops.estimate_noise(plane, channel_axis=0)
    expected = _typical_level(plane, None, shared.model)
    if shared.model.is_correlated:
        expected = shared.levels.get("wavelets", expected)
    return _are_apart(there, expected)


def _differ(plane: Tensor, known: Tensor | None, first: NoiseModel, second: NoiseModel) -> bool:
    """Return whether two models of noise say clearly different things of a plane."""
    return _are_apart(_typical_level(plane, known, first), _typical_level(plane, known, second))


def _typical_level(plane: Tensor, known: Tensor | None, model: NoiseModel) -> float:
    """Return the standard deviation of the noise at half of the pixels of a plane or more."""
    variances = model.variance(plane)
    if known is not None:
        variances = variances[_mask_like(plane, known)]
    return math.sqrt(float(variances.median()))


def _are_apart(first: float, second: float, factor: float = _CLEARLY) -> bool:
    return max(first, second) > factor * min(first, second)
