"""Record a step of the loop as a CUDA graph, and replay it.

A step launches some hundred kernels, most of which take a GPU less time than it takes the host to
launch them.  A graph is launched as one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache

import torch

from dipfast.prior.objective import Goal

__all__ = ["StepGraph"]

# Iterations of a goal before its step is recorded: libraries choose and compile their kernels in
# the first, and a control that changes the goal all the time would have every step recorded.
_WARM_UP = 3

# Torch can record one graph at a time in a process, on all of its devices.
_recording = threading.Lock()


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream of a device that steps are recorded on.

    It is one, because libraries keep memory to work in for each.  Torch itself has only one, on
    the device that was the current one when it was first asked for it.
    """
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class StepGraph:
    """Replay the step of a goal from its fourth iteration on.

    Parameters
    ----------
    compute
        Computes a step, always on the same tensors: what changes from step to step is in tensors
        of the device, which it changes in place.  It must not wait for the device.
    generator
        The generator of the random numbers that it draws.

    Notes
    -----
    A replayed step gives the bits of one that is not recorded, because it launches the same
    kernels.  A step that cannot be recorded, such as one that waits for the device after all, is
    never replayed.
    """

    def __init__(self, compute: Callable[[Goal], None], generator: torch.Generator) -> None:
        self._compute = compute
        self._generator = generator
        self._can_record = True
        self.forget()

    def forget(self) -> None:
        """Forget what was recorded: other tensors have taken the place of some."""
        self._weights: tuple[float, float] | None = None
        self._iterations = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def replay(self, goal: Goal) -> bool:
        """Replay the step of a goal.

        Parameters
        ----------
        goal
            What the step minimises.

        Returns
        -------
        bool
            False if nothing was done, because the step is not recorded.
        """
        if not self._can_record or goal.guide is not None or goal.network_input is not None:
            return False
        weights = goal.tv_weight, goal.data_weight
        if weights != self._weights:
            self.forget()
            self._weights = weights
        self._iterations += 1
        if self._iterations <= _WARM_UP:
            return False
        if self._graph is None:
            self._graph = self._record(goal)
        if self._graph is None:
            return False
        self._graph.replay()
        return True

    def _record(self, goal: Goal) -> torch.cuda.CUDAGraph | None:
        try:
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(self._generator)
            device = self._generator.device
            # Fits in other threads may use the device meanwhile.
            with (
                _recording,
                torch.cuda.device(device),
                torch.cuda.graph(graph, stream=_stream(device), capture_error_mode="thread_local"),
            ):
                self._compute(goal)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            self._can_record = False
            return None
        return graph
