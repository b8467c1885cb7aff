"""Warnings of the library, told in the thread that they come from."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["message_of", "warnings_told"]

_here = threading.local()
_lock = threading.Lock()
_users = 0
_catch: Any = None


@contextmanager
def warnings_told(tell: Callable[[str], None]) -> Iterator[None]:
    """Give the warnings of this thread to a function, inside a ``with`` block.

    Filters of warnings belong to the process, so that ``warnings.catch_warnings`` in two threads
    would take them from each other.  The first block puts a function in their place that asks which
    thread a warning is of, and the last block takes it away again.

    Parameters
    ----------
    tell
        Called with the text of each warning.

    Yields
    ------
    None
        Nothing.
    """
    global _users, _catch
    with _lock:
        if _users == 0:
            _catch = warnings.catch_warnings()
            _catch.__enter__()
            _before = warnings.showwarning

            def show(message: Any, *arguments: Any, **named: Any) -> None:
                own = getattr(_here, "tell", None)
                if own is None:
                    _before(message, *arguments, **named)
                else:
                    own(" ".join(str(message).split()))

            # Not an error, whatever the environment asks for: it may come after hours of work.  The
            # same warning of two runs is told twice.
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = show
        _users += 1
    outer, _here.tell = getattr(_here, "tell", None), tell
    try:
        yield
    finally:
        _here.tell = outer
        with _lock:
            _users -= 1
            if _users == 0:
                _catch.__exit__(None, None, None)
                _catch = None


def message_of(error: BaseException) -> str:
    """Return what was wrong, in one line.

    Parameters
    ----------
    error
        The error.

    Returns
    -------
    str
        Its text; of errors with many lines, as those of torch, the first.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, MemoryError) and not text:
        return "memory does not suffice"
    return text or type(error).__name__
