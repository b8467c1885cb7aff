"""Warnings that point to the line of the caller, however deep they come from."""

from __future__ import annotations

import contextlib
import inspect
import os
import warnings

__all__ = ["warn_caller"]

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
# The wrappers of decorated functions are in contextlib.
_PASSED_OVER = (_PACKAGE, os.path.abspath(contextlib.__file__))


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
