"""Keep freed blocks of memory during a fit, to use them again."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dipfast import _native

__all__ = ["kept_blocks"]

_lock = threading.Lock()
_fits = 0


def _forget() -> None:
    """Forget fits of the process that this one was forked from, and who holds its lock."""
    global _lock, _fits
    _lock, _fits = threading.Lock(), 0


if hasattr(os, "register_at_fork"):  # there are no forks on Windows
    os.register_at_fork(after_in_child=_forget)


@contextmanager
def kept_blocks(device: torch.device) -> Iterator[None]:
    """Let the C library keep freed blocks of memory for the process, inside a ``with`` block.

    Otherwise it gives large ones back at once and is handed other ones, every page of which the
    system has to zero: at 1024x1024 pixels that takes as long as all the rest of an iteration.
    The memory that is free is given back at the end of the last block of all threads.  For fits in
    other threads than the main one glibc does so for blocks of up to 64 MiB only.

    Parameters
    ----------
    device
        The device of the fit; only for the CPU something is done, and only with glibc (Linux).

    Yields
    ------
    None
        Nothing.
    """
    global _fits
    if device.type != "cpu":
        yield
        return
    with _lock:
        _fits += 1
        if _fits == 1:
            _native.keep_blocks(True)
    try:
        yield
    finally:
        with _lock:
            _fits -= 1
            if _fits == 0:
                _native.keep_blocks(False)
