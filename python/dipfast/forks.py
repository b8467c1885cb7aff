"""Processes that were forked, and what torch can do in them.

Importing this imports no torch.
"""

from __future__ import annotations

import os
import sys
import warnings

from dipfast._native import threads_are_lost
from dipfast.errors import ProcessError

__all__ = ["check_process", "mind_forks"]

_ADVICE = "start it with multiprocessing.get_context('spawn') instead"
# The process that has been found to be in order.
_checked = 0


def check_process() -> None:
    """Refuse a process in which torch cannot differentiate, before any work.

    Once for each process.

    Raises
    ------
    RuntimeError
        If it was forked from one that has threads of torch for a GPU.

    Warns
    -----
    UserWarning
        If it was forked from one whose threads it would wait for, so that it has to do with one.
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
        warnings.warn(
            "this process was forked from one that used torch before it imported dipfast, and "
            f"has to do with one thread: {_ADVICE}, or import dipfast before",
            stacklevel=2,
        )


def mind_forks() -> None:
    """Keep torch from waiting for threads that are not there, now and in forked processes.

    To be called when the package is imported.
    """
    _do_with_one_thread()
    if hasattr(os, "register_at_fork"):  # there are no forks on Windows
        os.register_at_fork(after_in_child=_do_with_one_thread)


def _do_with_one_thread() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and threads_are_lost():
        torch.set_num_threads(1)
