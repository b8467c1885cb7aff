"""Signals end a fit with the best image so far, or the process within two seconds."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest

import dipfast
from dipfast.networks import HourglassConfig
from dipfast.run import batch, checkpoint
from dipfast.run.interrupt import ending_in_time
from dipfast.settings.presets import Preset

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")

NOISY = np.random.default_rng(0).integers(0, 255, (16, 16), dtype=np.uint8)
# Two seconds, and the delay of a busy machine.
IN_TIME = 3.5


@pytest.fixture(autouse=True)
def signals_as_at_a_terminal() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def fit(callback: Callable[[Any], object], iterations: int = 10**6, **options: Any) -> str:
    """Fit, and return why it ended."""
    tiny = Preset(iterations, (1 / 30, 0.005), HourglassConfig((4,), (4,), (2,)))
    options = {"preset": tiny, "stop": "none", "sigma": 25, **options}
    return dipfast.denoise(NOISY, callback=callback, **options).stop_reason.value


def at_the_third(function: Callable[[], object]) -> Callable[[Any], None]:
    def callback(state: Any) -> None:
        if state.iteration == 3:
            function()

    return callback


def stick() -> None:
    """Hang forever in C while holding the lock of the interpreter."""
    lock_twice(ctypes.PyDLL(None))


def stick_without_the_interpreter() -> None:
    lock_twice(ctypes.CDLL(None))


def lock_twice(library: Any) -> None:
    mutex = ctypes.create_string_buffer(128)
    library.pthread_mutex_init(mutex, None)
    library.pthread_mutex_lock(mutex)
    forked.say_ready()
    library.pthread_mutex_lock(mutex)


def sleep() -> None:
    forked.say_ready()
    time.sleep(1000)


def lock() -> None:
    forked.say_ready()
    mutex = threading.Lock()
    mutex.acquire()
    mutex.acquire()


def fill_standard_error() -> None:
    os.set_blocking(2, False)
    try:
        while True:
            os.write(2, b"x" * 65536)
    except BlockingIOError:
        os.set_blocking(2, True)


@pytest.mark.parametrize("where", [stick, stick_without_the_interpreter, sleep, lock])
def test_stuck_in_an_iteration(where: Callable[[], None]) -> None:
    ended = forked.run(lambda: fit(at_the_third(where)), number=signal.SIGTERM)
    assert ended.status == 143
    assert 1.5 < ended.seconds < IN_TIME
    assert "ended in the middle" in ended.errors
    assert "checkpoint" in ended.errors
    assert "Traceback" not in ended.errors


def test_stuck_where_nobody_reads_standard_error() -> None:
    def callback(state: Any) -> None:
        fill_standard_error()
        stick()

    ended = forked.run(lambda: fit(callback), number=signal.SIGTERM)
    assert ended.status == 143
    assert ended.seconds < IN_TIME


def test_stuck_in_writing_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"

    def fitted() -> str:
        flush, flushed = os.fsync, []

        def flush_or_stick(file: int) -> None:
            flush(file)
            flushed.append(file)
            if len(flushed) == 2:
                stick()

        os.fsync = flush_or_stick
        return fit(lambda state: None, checkpoint=path, checkpoint_every=3)

    ended = forked.run(fitted, number=signal.SIGTERM)
    assert (ended.status, ended.seconds < IN_TIME) == (143, True)
    values = checkpoint.read_checkpoint(path).values
    assert values["0.prior.iteration"] == 3


def test_stuck_in_putting_the_result_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_result", lambda *_: stick())
    ended = forked.run(lambda: fit(lambda state: None, 3), number=signal.SIGTERM)
    assert (ended.status, ended.seconds < IN_TIME) == (143, True)


def test_best_so_far_where_the_iteration_ends() -> None:
    def fitted() -> str:
        reason = fit(at_the_third(forked.say_ready))
        time.sleep(2.5)  # the two seconds are for the fit alone
        return reason

    ended = forked.run(fitted, number=signal.SIGTERM)
    assert (ended.status, ended.value) == (0, "terminated")


def test_signal_after_the_last_iteration_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def result(*_: object) -> Any:
        forked.say_ready()
        time.sleep(0.5)
        raise AssertionError  # the signal must end the process despite an exception

    monkeypatch.setattr(batch, "_result", result)
    ended = forked.run(lambda: fit(lambda state: None, 3), number=signal.SIGTERM)
    assert (ended.status, ended.seconds < 2) == (-signal.SIGTERM, True)


def test_time_for_the_result_to_be_written() -> None:
    written = []

    def program(patience: float) -> Callable[[], object]:
        def write() -> object:
            with ending_in_time():
                assert fit(at_the_third(forked.say_ready)) == "terminated"
                time.sleep(patience)
            return "written"

        return write

    for patience in (0.2, 1000):
        written.append(forked.run(program(patience), number=signal.SIGTERM))
    assert (written[0].status, written[0].value) == (0, "written")
    assert (written[1].status, written[1].seconds < IN_TIME) == (143, True)


def test_program_with_its_own_handler() -> None:
    def fitted() -> list[str]:
        caught = []
        signal.signal(signal.SIGTERM, lambda *_: caught.append("own"))
        end = time.monotonic() + 60

        def callback(state: Any) -> None:
            forked.say_ready()
            if caught:
                time.sleep(2.5)
                raise StopIteration
            assert time.monotonic() < end

        return [*caught, fit(callback), *caught]

    ended = forked.run(fitted, number=signal.SIGTERM)
    assert (ended.status, ended.value) == (0, ["stopped by the callback", "own"])


def test_fit_in_another_thread() -> None:
    def fitted() -> None:
        thread = threading.Thread(target=fit, args=(at_the_third(stick),))
        thread.start()
        thread.join()

    ended = forked.run(fitted, number=signal.SIGTERM)
    assert (ended.status, ended.seconds < 2) == (-signal.SIGTERM, True)


def test_processes_forked_from_a_fit_have_their_own_signals() -> None:
    inner = []

    def callback(state: Any) -> None:
        inner.append(forked.run(sleep, number=signal.SIGTERM))
        inner.append(forked.run(lambda: fit(at_the_third(stick)), number=signal.SIGTERM))
        raise StopIteration

    assert fit(callback) == "stopped by the callback"
    assert inner[0].status == -signal.SIGTERM
    assert inner[0].seconds < 2
    assert inner[1].status == 143
    assert inner[1].seconds < IN_TIME


def test_third_interrupt_ends_the_process_if_the_second_had_no_effect() -> None:
    def be_interrupted() -> None:
        if os.fork():
            stick()
        for _ in range(3):
            os.kill(os.getppid(), signal.SIGINT)
            time.sleep(2.2)
        os._exit(0)

    begun = time.monotonic()
    ended = forked.run(lambda: fit(at_the_third(be_interrupted)))
    assert ended.status == 130
    assert 4 < time.monotonic() - begun < 30
    assert "ended in the middle" in ended.errors


def test_second_interrupt_gives_up() -> None:
    def fitted() -> str:
        def insist() -> None:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1.2)
            time.sleep(1000)

        try:
            return fit(at_the_third(insist))
        except KeyboardInterrupt:
            return "gave up"

    assert forked.run(fitted).value == "gave up"


def test_standard_error_is_closed() -> None:
    def fitted() -> str:
        reader, writer = os.pipe()
        os.close(reader)
        sys.stderr = os.fdopen(writer, "w", buffering=1)
        return fit(at_the_third(lambda: os.kill(os.getpid(), signal.SIGTERM)))

    assert forked.run(fitted).value == "terminated"


def test_wakeup_descriptor_of_the_program_still_gets_signals() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    try:
        reason = fit(at_the_third(lambda: os.kill(os.getpid(), signal.SIGTERM)))
        assert os.read(reader, 1) == bytes([signal.SIGTERM])
    finally:
        assert signal.set_wakeup_fd(before) == writer
        os.close(reader)
        os.close(writer)
    assert reason == "terminated"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_leaves_nothing_behind() -> None:
    def open_now() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    with dipfast.Interrupt().on_signals():
        pass
    time.sleep(0.2)
    before = open_now()
    for _ in range(50):
        with dipfast.Interrupt().on_signals(), ending_in_time():
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    end = time.monotonic() + 10
    while open_now() != before and time.monotonic() < end:
        time.sleep(0.05)  # the last threads need a moment to end
    assert open_now() == before
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1
