"""Keep freed blocks of memory during a fit, to use them again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dipfast import _native

__all__ = ["kept_blocks"]

_lock = threading.Lock()
_fits = 0


@contextmanager
def kept_blocks(device: torch.device) -> Iterator[None]:
    """Let the C library keep freed blocks of memory for the process, inside a ``with`` block.

    Otherwise it gives large ones back at once and is handed other ones, every page of which the
    system has to zero: at 1024x1024 pixels that takes as long as all the rest of an iteration.
    The memory that is free is given back at the end of the last block of all threads.

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
