"""Run a job, whatever its method, and make an outcome of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from dipfast.errors import MemoryLimitError
from dipfast.run.direct import run_direct
from dipfast.run.fitting import Runner
from dipfast.run.job import Job
from dipfast.run.joined import run_joined
from dipfast.run.memory import explain
from dipfast.run.memory.blocks import kept_blocks
from dipfast.run.observers import Observer
from dipfast.run.outcome import Outcome
from dipfast.run.tiled import TiledRunner
from dipfast.torch_modes import plain_modes

__all__ = ["Runner", "run"]

# What torch says if memory runs out: on the CPU, there of Windows, on CUDA and MPS, and in the
# libraries of CUDA, such as CUBLAS_STATUS_ALLOC_FAILED.
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "alloc_failed",
    "allocation_failed",
)


def run(
    job: Job, observers: Sequence[Observer] = (), plan: Callable[[Job], Job] | None = None
) -> Outcome:
    """Restore one image.

    Parameters
    ----------
    job
        The image and all that was decided for it (:func:`dipfast.run.prepare.prepare`).
    observers
        Observers of the run.  If several ask to end it at the same iteration, the first one gives
        the reason; the stop rule of the job takes precedence over all of them.

    plan
        What makes the job that there is time for, once the first picture of several is there; None,
        the default, leaves it as it is.

    Returns
    -------
    Outcome
        Equal to the last bit for the same job on the CPU of the same machine with the same number
        of threads, in whatever process.

    Raises
    ------
    MemoryLimitError
        If there was not enough memory; the message says what would fit.
    """
    if job.is_direct:
        with plain_modes():
            return run_direct(job, observers)
    outcome = None
    with plain_modes():
        try:
            with kept_blocks(job.device):
                if job.tile:
                    outcome = TiledRunner(job, observers).run()
                elif job.settings.method == "joined":
                    outcome = run_joined(job, observers, plan)
                else:
                    outcome = Runner(job, observers).run()
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
        if outcome is None:
            # Outside of the handler, where no traceback keeps the tensors of the failed step alive.
            raise MemoryLimitError(explain(**job.sizes))
    return outcome


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Say whether torch ran out of memory; few devices have an exception of their own for that."""
    message = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(x in message for x in _OUT_OF_MEMORY)
