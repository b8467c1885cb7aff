"""Run functions in a process that is forked from that of the tests."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

# Seconds that a function may take before its process is killed.
LIMIT = 60.0


class Ended(NamedTuple):
    """Say how a process ended.

    Attributes
    ----------
    status
        The exit status, or the negative number of the signal that ended the process.
    value
        The return value of the function; None if it did not return.
    errors
        The text on standard error.
    seconds
        The time from the signal to the end of the process.
    """

    status: int
    value: Any
    errors: str
    seconds: float


def run(function: Callable[[], Any], *, number: int | None = None) -> Ended:
    """Run a function in a forked process, and return how the process ended.

    With the number of a signal, send it as soon as the function has called :func:`say_ready`.
    """
    values, errors, ready = os.pipe(), os.pipe(), os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that forking with threads is a risk
        child = os.fork()
    if child == 0:
        _run_in_child(function, values[1], errors[1], ready[1])
    for pipe in (values, errors, ready):
        os.close(pipe[1])
    sent = time.monotonic()
    if number is not None and os.read(ready[0], 1):
        time.sleep(0.1)  # for the function to continue after say_ready
        sent = time.monotonic()
        os.kill(child, number)
    status = None
    while status is None and time.monotonic() < sent + LIMIT:
        done, found = os.waitpid(child, os.WNOHANG)
        status = os.waitstatus_to_exitcode(found) if done else None
        time.sleep(0.01)
    seconds = time.monotonic() - sent
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise AssertionError("the process is stuck")
    value, error_text = _read_all(values[0]), _read_all(errors[0])
    os.close(ready[0])
    return Ended(status, pickle.loads(value) if value else None, error_text.decode(), seconds)


def say_ready() -> None:
    """Ask the parent to send the signal now."""
    os.write(_ready, b"!")


def _run_in_child(function: Callable[[], Any], values: int, errors: int, ready: int) -> None:
    global _ready
    _ready = ready
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(errors, 2)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        os.write(values, pickle.dumps(function()))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _read_all(pipe: int) -> bytes:
    with os.fdopen(pipe, "rb") as stream:
        return stream.read()


_ready = -1
