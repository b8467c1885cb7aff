"""Warnings that are silenced: those of one thread, and of no other."""

from __future__ import annotations

import pickle
import threading
import warnings
from collections.abc import Callable

import pytest

from dipfast.warn import heed_silence, is_silent, warnings_told, without_warnings


def elsewhere(work: Callable[[], None]) -> None:
    """Do something in another thread, to its end."""
    failures: list[BaseException] = []

    def tried() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=tried)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert not failures, failures


def warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=1)


def test_all_warnings_of_the_block_are_silent() -> None:
    with without_warnings():
        assert is_silent()
        with without_warnings():
            warnings.warn("old", DeprecationWarning, stacklevel=1)
        warn("of a user")
    assert not is_silent()
    with pytest.raises(UserWarning, match="outside"):
        warn("outside")


def test_silence_ends_with_an_error() -> None:
    with pytest.raises(ValueError, match="wrong"), without_warnings():
        raise ValueError("wrong")
    assert not is_silent()


def test_warnings_of_another_thread_are_told_meanwhile() -> None:
    told: list[str] = []

    def read() -> None:
        with without_warnings():
            inside.set()
            may_leave.wait(10)

    inside, may_leave = threading.Event(), threading.Event()
    reader = threading.Thread(target=read)
    with warnings_told(told.append):
        reader.start()
        inside.wait(10)
        warn("of a run")
        may_leave.set()
        reader.join(10)
    assert told == ["of a run"]


def test_blocks_that_overlap_leave_no_filter_behind() -> None:
    """A reader that begins within a run and ends after another one silences neither."""
    told: list[str] = []
    entered, may_leave = threading.Event(), threading.Event()

    def read() -> None:
        with without_warnings():
            entered.set()
            may_leave.wait(10)
            warn("of a reader")

    reader = threading.Thread(target=read)
    with warnings_told(told.append):
        reader.start()
        entered.wait(10)
        with without_warnings():
            may_leave.set()
            reader.join(10)
        warn("of a run")
    assert told == ["of a run"]
    with pytest.raises(UserWarning, match="outside"):
        warn("outside")


def test_silence_outlasts_a_run_that_begins_or_ends_meanwhile() -> None:
    told: list[str] = []

    def run() -> None:
        with warnings_told(told.append):
            warn("of a run")

    with without_warnings():
        with warnings_told(told.append):
            warn("within a run")  # whose filters are in front
        elsewhere(run)
        warn("after it")
    assert told == ["of a run"]

    begun, may_end = threading.Event(), threading.Event()

    def long_run() -> None:
        with warnings_told(told.append):
            begun.set()
            may_end.wait(10)

    thread = threading.Thread(target=long_run)
    thread.start()
    begun.wait(10)
    with without_warnings():
        may_end.set()
        thread.join(10)  # takes its filters away
        warn("after a long run")
    assert told == ["of a run"]


def test_filters_can_be_sent_to_another_process() -> None:
    heed_silence()
    assert pickle.loads(pickle.dumps(warnings.filters[0])) == warnings.filters[0]
