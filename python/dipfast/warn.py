"""Warnings that point to the line of the caller, and are told in the thread that they come from."""

from __future__ import annotations

import contextlib
import inspect
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["warn_caller", "warnings_told"]

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
# The wrappers of decorated functions are in contextlib.
_PASSED_OVER = (_PACKAGE, os.path.abspath(contextlib.__file__))

_here = threading.local()
_lock = threading.Lock()
_users = 0
_catch: Any = None


def warn_caller(message: str) -> None:
    """Warn of something, at the line outside dipfast that led to it.

    Parameters
    ----------
    message
        A sentence for people.
    """
    level, frame = 1, inspect.currentframe()
    while frame is not None and os.path.abspath(frame.f_code.co_filename).startswith(_PASSED_OVER):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)


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
