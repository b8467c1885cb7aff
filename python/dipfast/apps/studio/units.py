"""Pictures of a run that goes on: those of its fit, and all of them in the unit of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dipfast.apps.studio.previews import live_range
from dipfast.images.layout import find_data_range
from dipfast.settings.names import TaskName

if TYPE_CHECKING:
    from torch import Tensor

    from dipfast.prior.loop import State

__all__ = ["Unit", "find_range", "picture_of_fit"]

# Values that are looked at, at most, and how many quantiles of them.
_MOST, _QUANTILES = 1 << 18, 257
# Values are stretched only where the median is in the lowest part of the range, and the stretch
# raises it by more than this.
_LOWEST_PART, _RAISED = 0.1, 0.04


class Unit:
    """Bring pictures in [0, 1], or stretched ones, into the unit and the dtype of an image.

    Parameters
    ----------
    task
        The task.
    image
        The image, or one of its planes.
    missing
        Its missing pixels, boolean (H, W); None, the default, for none.
    data_range
        The darkest and the brightest value of the stack that a plane is of; None, the default, for
        those of the image.
    """

    def __init__(
        self,
        task: TaskName,
        image: Any,
        missing: Any = None,
        data_range: tuple[float, float] | None = None,
    ) -> None:
        known = image if missing is None else image[~missing]
        known = known.reshape(-1)
        if image.dtype.kind == "f":
            known = known[np.isfinite(known)]
        low, high = data_range or find_range(image, missing)
        black, white = live_range(task, image.dtype)
        self.dtype = image.dtype
        self.width = (high - low) / (white - black)
        self.low = low - black * self.width
        step = max(known.size // _MOST, 1)
        self._places = np.linspace(0, 1, _QUANTILES)
        self._values = np.quantile(known[::step].astype(np.float64), self._places)
        # Of a stretched measurement: what its values are in the unit of the image.
        self._table: tuple[Any, Any] | None = None

    def look_at(self, values: Tensor) -> None:
        """Find out whether pictures of the run are stretched.

        Parameters
        ----------
        values
            What a network is fitted to, or a picture that is like the image.
        """
        flat = values.detach().reshape(-1)
        some = flat[:: max(flat.numel() // _MOST, 1)].double().cpu().numpy()
        found = np.quantile(some, self._places)
        middle = _QUANTILES // 2
        expected = (self._values[middle] - self.low) / self.width
        is_stretched = expected < _LOWEST_PART and found[middle] > expected + _RAISED
        self._table = (found, self._values) if is_stretched else None

    def picture(self, image: Tensor) -> Any:
        """Return a picture in the unit of the image.

        Parameters
        ----------
        image
            The picture, (1, C, H, W).

        Returns
        -------
        numpy.ndarray
            Of the dtype of the image, (H, W), or (H, W, C) with several channels.
        """
        values: Any = image.detach()[0].float().cpu().numpy().astype(np.float64)
        values = values[0] if len(values) == 1 else np.moveaxis(values, 0, -1)
        table = self._table  # another thread may look at something meanwhile
        values = values * self.width + self.low if table is None else np.interp(values, *table)
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            values = values.round().clip(limits.min, limits.max)
        return values.astype(self.dtype)


def picture_of_fit(state: State) -> Tensor:
    """Return the picture of a fit at work, with the known pixels put in where pixels are missing.

    Parameters
    ----------
    state
        An iteration of the fit.

    Returns
    -------
    Tensor
        The running average of the network, (1, C, H, W), in the values that it is fitted to.
    """
    from dipfast.model.operators import Mask

    operator, average = state.problem.operator, state.average
    if not isinstance(operator, Mask):
        return average
    return average.where(~operator.known, state.problem.measurement)


def find_range(image: Any, missing: Any = None) -> tuple[float, float]:
    """Return the values of an image that are black and white to a task, but for a margin.

    Parameters
    ----------
    image
        The image, or a stack.
    missing
        Its missing pixels, boolean, without an axis for the channels; None for none.

    Returns
    -------
    tuple of float
        The darkest and the brightest value; 0 and 255 for uint8.
    """
    if image.dtype == np.uint8:
        return 0.0, 255.0
    known = image if missing is None else image[~missing]
    if image.dtype.kind == "f":
        known = known[np.isfinite(known)]
    return find_data_range("image", known)
