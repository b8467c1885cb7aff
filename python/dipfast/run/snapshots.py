"""A bounded store of the images on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dipfast.errors import InputError
from dipfast.prior.loop import State
from dipfast.run.observers import Observer
from dipfast.state_dict import Values

if TYPE_CHECKING:
    from dipfast.run.runner import Runner

__all__ = ["Snapshot", "Snapshots"]

# Iterations of neighbours differ by this factor at least: nothing visible happens between.
_SPACING = 1.02


@dataclass(frozen=True)
class Snapshot:
    """An image on the way.

    Attributes
    ----------
    iteration
        When.
    image
        The running average by then, in the form of the result.
    item
        Which image of a batch it belongs to.
    """

    iteration: int
    image: Any
    item: int = 0


class Snapshots(Observer):
    """Images of a fit, the closer together the earlier, within a given memory.

    A fit changes fast at first and slowly later, so the iterations that are kept are spaced
    evenly on a logarithmic scale.  When the memory is full, the image goes whose neighbours
    are closest to each other on that scale; the first and the newest stay.

    Parameters
    ----------
    megabytes
        Of 10^6 bytes; an image of C channels, H rows and W columns takes 4 C H W bytes in
        single precision.  Two images are kept in any case.

    Examples
    --------
    >>> import torch
    >>> snapshots = Snapshots(megabytes=0.0024)
    >>> for iteration in range(1, 501):
    ...     snapshots.add(iteration, torch.zeros(10, 10))
    >>> snapshots.iterations
    [1, 5, 19, 71, 351, 492]
    """

    name = "snapshots"

    def __init__(self, megabytes: float) -> None:
        if not megabytes > 0:
            raise InputError(f"megabytes must be positive, got {megabytes!r}")
        self.limit = megabytes * 1e6
        self._images: dict[int, Tensor] = {}

    @property
    def iterations(self) -> list[int]:
        """Those of the images that are there."""
        return list(self._images)

    def items(self) -> list[tuple[int, Tensor]]:
        """Iterations and images, in order."""
        return list(self._images.items())

    def observe(self, run: Runner, state: State) -> None:
        if self.wants(state.iteration):
            self.add(state.iteration, state.average)

    def wants(self, iteration: int) -> bool:
        """Whether an image of this iteration would be taken."""
        last = next(reversed(self._images), 0)
        return iteration >= max(last + 1, _SPACING * last)

    def add(self, iteration: int, image: Tensor) -> None:
        """Take an image, if it is far enough from the last one."""
        if not self.wants(iteration):
            return
        self._images[iteration] = image.cpu()
        size = image.numel() * image.element_size()
        while len(self._images) > max(self.limit // size, 2):
            times = self.iterations
            gaps = [after / before for before, after in zip(times, times[2:])]
            del self._images[times[1 + gaps.index(min(gaps))]]

    def state_dict(self) -> Values:
        """All images, by iteration."""
        return {str(iteration): image for iteration, image in self._images.items()}

    def load(self, values: Values) -> None:
        """Go on from :meth:`state_dict`."""
        self._images = {
            int(name): value for name, value in values.items() if isinstance(value, Tensor)
        }
        self._images = dict(sorted(self._images.items()))
