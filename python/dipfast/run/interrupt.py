"""Ending a restoration from outside, and the process where it is stuck."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from dipfast._native import end_in_time
from dipfast.stop_reason import Stop, StopReason

__all__ = ["Interrupt", "ending_in_time"]

# Seconds after the first signal in which others are taken for the same.
_PATIENCE = 1.0
# Seconds from SIGTERM to the end of the process.
_GRACE = 1.75
_LAST_WORDS = (
    "\ndipfast: ended in the middle of an iteration, or of writing; "
    "a checkpoint, if there is one, is whole, and --resume (resume=True) goes on from it\n"
)
# Handled only where nobody else does.
_SIGNALS = {
    signal.SIGINT: (StopReason.INTERRUPTED, signal.default_int_handler),
    signal.SIGTERM: (StopReason.TERMINATED, signal.SIG_DFL),
}
_HINTS = {
    signal.SIGINT: "ending with what there is; Ctrl-C again gives up",
    signal.SIGTERM: f"ending with what there is, in {_GRACE:g} seconds at the latest",
}


class Interrupt:
    """Ends a restoration at its next iteration, with what there is by then.

    Examples
    --------
    From another thread:

    >>> import threading
    >>> import numpy, dipfast
    >>> interrupt = dipfast.Interrupt()
    >>> threading.Timer(0.1, interrupt.stop).start()
    >>> noisy = numpy.zeros((16, 16), numpy.uint8)
    >>> result = dipfast.denoise(noisy, max_iterations=10**6, stop="none", interrupt=interrupt)
    >>> print(result.stop_reason)
    stopped
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._noticed = False
        self.stop_asked: Stop | None = None

    @property
    def requested(self) -> bool:
        """Whether it has been asked for."""
        asked = self._event.is_set()
        self._noticed = self._noticed or asked
        return asked

    def stop(self, reason: StopReason | str = StopReason.STOPPED) -> None:
        """Ask for the end, from any thread; it stays asked for.

        Parameters
        ----------
        reason
            One of the reasons, or words of your own, which ``result.stop_detail`` will have.
        """
        if not self._event.is_set():
            own = not isinstance(reason, StopReason)
            self.stop_asked = Stop(StopReason.STOPPED, reason) if own else Stop(StopReason(reason))
            self._event.set()

    @contextmanager
    def on_signals(self) -> Iterator[Interrupt]:
        """Let Ctrl-C and SIGTERM ask for it, instead of ending the program in the middle.

        A second signal, not just the same one held down, raises KeyboardInterrupt.  Two seconds
        after SIGTERM the process ends, wherever it is stuck, if this has not been left by then;
        and when it is left, if nobody has looked whether it was asked for.  A third Ctrl-C ends
        the process too, where the second was of no use for two seconds.

        Where a signal is not Python's to handle (in another thread than the main one, or because
        the program has its own handler) it is left alone.  Processes that are forked meanwhile
        have the handlers from before.
        """
        patience_until = 0.0
        terminated = False

        def handle(number: int, frame: Any) -> None:
            nonlocal patience_until, terminated
            terminated = terminated or number == signal.SIGTERM
            if not self._event.is_set():
                patience_until = time.monotonic() + _PATIENCE
                self.stop(_SIGNALS[signal.Signals(number)][0])
                # In the middle of writing there itself, or where nobody reads it any more.
                with suppress(OSError, RuntimeError, ValueError):
                    print(f"\n{_HINTS[signal.Signals(number)]}", file=sys.stderr)
            elif time.monotonic() >= patience_until:
                raise KeyboardInterrupt

        with ending_in_time() as watch:
            replaced = {}
            if threading.current_thread() is threading.main_thread():
                for number, (_, default) in _SIGNALS.items():
                    if signal.getsignal(number) is default:
                        replaced[number] = default
                        signal.signal(number, handle)
            _replaced.update(replaced)
            try:
                yield self
            finally:
                for number, default in replaced.items():
                    _replaced.pop(number, None)
                    if signal.getsignal(number) is handle:  # nobody has put another there
                        signal.signal(number, default)
                if watch is not None and terminated:
                    watch.terminated.append(self)


@contextmanager
def ending_in_time() -> Iterator[_Watch | None]:
    """End the process two seconds after SIGTERM, wherever it is stuck, if this is not left by then.

    Only in the main thread, and where the program has no handler of its own.  Within another
    one it does nothing: the outermost counts.
    """
    global _watch
    if _watch is not None or not _may_watch():
        yield _watch
        return
    watch = _watch = _Watch()
    try:
        yield watch
    finally:
        if _watch is watch:  # not in a process that was forked meanwhile
            _watch = None
            watch.close()
            if not all(interrupt._noticed for interrupt in watch.terminated):
                signal.raise_signal(signal.SIGTERM)


def _may_watch() -> bool:
    return (
        os.name == "posix"
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )


class _Watch:
    """A thread that ends the process even where Python is stuck, and how it hears of signals.

    Attributes
    ----------
    terminated
        What SIGTERM asked to end.  If one of them never looked, the signal is still to be obeyed.
    """

    def __init__(self) -> None:
        self.terminated: list[Interrupt] = []
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        try:
            end_in_time(reader, self._before, _GRACE, _LAST_WORDS.encode())
        except OSError:  # no thread is to be had
            self.leave()
            raise

    def close(self) -> None:
        self.leave()
        os.write(self._writer, b"\0")
        os.close(self._writer)

    def leave(self) -> None:
        """Put back what signals were told to before."""
        signal.set_wakeup_fd(self._before)


# Of the main thread, the only one that Python handles signals in.
_watch: _Watch | None = None
_replaced: dict[signal.Signals, Any] = {}


def _leave_to_parent() -> None:
    """In a process that was forked from a fit: its signals are no matter of that fit."""
    global _watch
    for number, default in _replaced.items():
        signal.signal(number, default)
    _replaced.clear()
    if _watch is not None:
        _watch.leave()
        _watch = None


if hasattr(os, "register_at_fork"):  # there are no forks on Windows
    os.register_at_fork(after_in_child=_leave_to_parent)
