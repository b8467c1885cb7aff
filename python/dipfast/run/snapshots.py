"""Snapshots: running averages of some iterations, within a given memory."""

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

# Neighbouring iterations differ at least by this factor: changes between closer ones are invisible.
_SPACING = 1.02


@dataclass(frozen=True)
class Snapshot:
    """Hold the image of one iteration.

    Parameters
    ----------
    iteration
        The number of the iteration, counted from 1.
    image
        The running average at that iteration, in the form of the result.
    item
        The number of the image in the batch, counted from 0; 0 for a single image.
    """

    iteration: int
    image: Any
    item: int = 0


class Snapshots(Observer):
    """Keep running averages of a fit, evenly spaced in the logarithm of the iteration.

    A fit changes fast at first and slowly later.  When the memory is full, the image whose
    neighbours are closest to each other on the logarithmic scale is removed; the first and the
    newest are always kept.

    Parameters
    ----------
    megabytes
        The memory in 10^6 bytes, positive; an image of C channels, H rows and W columns takes
        4 C H W bytes in single precision.  Two images are kept in any case.

    Raises
    ------
    InputError
        If ``megabytes`` is not positive.

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
        """Return the iterations of the images that are kept, in order."""
        return list(self._images)

    def items(self) -> list[tuple[int, Tensor]]:
        """Return the images that are kept.

        Returns
        -------
        list of tuple
            Pairs of iteration and image, in order of the iterations.
        """
        return list(self._images.items())

    def observe(self, run: Runner, state: State) -> None:
        if self.wants(state.iteration):
            self.add(state.iteration, state.average)

    def wants(self, iteration: int) -> bool:
        """Return whether an image of an iteration would be kept.

        Parameters
        ----------
        iteration
            The number of the iteration.

        Returns
        -------
        bool
            True if the iteration is far enough from the last one that is kept.
        """
        last = next(reversed(self._images), 0)
        return iteration >= max(last + 1, _SPACING * last)

    def add(self, iteration: int, image: Tensor) -> None:
        """Keep an image, if its iteration is far enough from the last one that is kept.

        Parameters
        ----------
        iteration
            The number of the iteration.
        image
            The image, which is moved to the CPU.
        """
        if not self.wants(iteration):
            return
        self._images[iteration] = image.cpu()
        size = image.numel() * image.element_size()
        while len(self._images) > max(self.limit // size, 2):
            times = self.iterations
            gaps = [after / before for before, after in zip(times, times[2:])]
            del self._images[times[1 + gaps.index(min(gaps))]]

    def state_dict(self) -> Values:
        """Return the state for a checkpoint.

        Returns
        -------
        dict
            The images, named by their iterations.
        """
        return {str(iteration): image for iteration, image in self._images.items()}

    def load(self, values: Values) -> None:
        """Restore a state of :meth:`state_dict`.

        Parameters
        ----------
        values
            The state.
        """
        self._images = {
            int(name): value for name, value in values.items() if isinstance(value, Tensor)
        }
        self._images = dict(sorted(self._images.items()))
