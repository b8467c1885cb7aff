"""Warnings that point to the line of the caller, told or silenced in the thread they come from."""

from __future__ import annotations

import contextlib
import inspect
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["heed_silence", "is_silent", "warn_caller", "warnings_told", "without_warnings"]

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
# The wrappers of decorated functions are in contextlib.
_PASSED_OVER = (_PACKAGE, os.path.abspath(contextlib.__file__))
_here = threading.local()
_lock = threading.Lock()
# What is told to functions, and how many blocks there are.
_telling = threading.Lock()
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


class _OfSilentThreads(type):
    """Make a class that all warnings belong to, but only in a thread that is silent."""

    def __subclasscheck__(cls, category: type) -> bool:
        return is_silent()


class _Silent(Warning, metaclass=_OfSilentThreads):
    """Stand for the warnings of silent threads in the filters of the process."""


def is_silent() -> bool:
    """Return whether this thread is inside :func:`without_warnings`."""
    return getattr(_here, "depth", 0) > 0


def heed_silence() -> None:
    """Put the filter that :func:`without_warnings` needs in front of all others.

    It stays there, because a filter that one thread takes away may be needed by another one.
    """
    with _lock:
        if not warnings.filters or warnings.filters[0][2] is not _Silent:
            warnings.simplefilter("ignore", _Silent)


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Silence all warnings of this thread, and of no other, inside a ``with`` block.

    ``warnings.catch_warnings`` has filters for the whole process: what another thread warns of
    meanwhile would be lost, and if two blocks overlap, its filters may stay.

    Yields
    ------
    None
        Nothing.
    """
    heed_silence()
    _here.depth = getattr(_here, "depth", 0) + 1
    try:
        yield
    finally:
        _here.depth -= 1


@contextlib.contextmanager
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
    with _telling:
        if _users == 0:
            heed_silence()  # also where these filters are taken away again
            _catch = warnings.catch_warnings()
            _catch.__enter__()
            _before = warnings.showwarning

            def show(message: Any, *arguments: Any, **named: Any) -> None:
                own = getattr(_here, "tell", None)
                if is_silent():  # these filters may be in front of the one for that
                    return
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
        with _telling:
            _users -= 1
            if _users == 0:
                _catch.__exit__(None, None, None)
                _catch = None
