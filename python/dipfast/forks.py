"""Forked processes, in which torch may lack the threads of the parent.

Importing this module does not import torch.
"""

from __future__ import annotations

import os
import sys

from dipfast._native import threads_are_lost
from dipfast.errors import ProcessError
from dipfast.warn import warn_caller

__all__ = ["check_process", "mind_forks"]

_ADVICE = "start it with multiprocessing.get_context('spawn') instead"
# Number of the process that passed the check.
_checked = 0


def check_process() -> None:
    """Refuse a forked process in which torch cannot compute gradients.

    The check is done once for each process, before any work.

    Raises
    ------
    ProcessError
        If the process was forked from one in which torch has used a GPU.

    Warns
    -----
    UserWarning
        If the process was forked from one that had used threads of torch before it imported
        dipfast: only one thread can be used then.
    """
    global _checked
    if _checked == os.getpid():
        return
    import torch

    try:
        x = torch.zeros((), requires_grad=True)
        torch.autograd.grad(x.square(), x)
    except RuntimeError as error:
        if "fork" not in str(error):
            raise
        raise ProcessError(
            f"this process was forked from one in which torch uses a GPU: {_ADVICE}"
        ) from error
    _checked = os.getpid()
    if threads_are_lost():
        warn_caller(
            "this process was forked from one that used torch before it imported dipfast, and "
            f"has to do with one thread: {_ADVICE}, or import dipfast before"
        )


def mind_forks() -> None:
    """Keep torch from waiting for threads that a forked process does not have.

    The package calls this once when it is imported.  It holds for this process, and for all that
    are forked from it.
    """
    _use_one_thread_if_lost()
    if hasattr(os, "register_at_fork"):  # there are no forks on Windows
        os.register_at_fork(after_in_child=_use_one_thread_if_lost)


def _use_one_thread_if_lost() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and threads_are_lost():
        torch.set_num_threads(1)
