"""Interrupts: end a restoration from outside, and the process if it does not react."""

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
from dipfast.checks import shown
from dipfast.errors import InputError
from dipfast.stop_reason import Stop, StopReason

__all__ = ["Interrupt", "ending_in_time"]

# Seconds after the first signal in which further ones are taken for repetitions of it, such as
# those of a key that is held down.
_PATIENCE = 1.0
# Seconds from SIGTERM to the end of the process.
_GRACE = 1.75
# Printed when the process is ended from outside of Python.
_END_MESSAGE = (
    "\ndipfast: ended in the middle of an iteration, or of writing; "
    "a checkpoint, if there is one, is whole, and --resume (resume=True) goes on from it\n"
)
# Signals that end a restoration, each with its reason and the handler that may be replaced: where
# the program has set another handler, that one is kept.
_SIGNALS = {
    signal.SIGINT: (StopReason.INTERRUPTED, signal.default_int_handler),
    signal.SIGTERM: (StopReason.TERMINATED, signal.SIG_DFL),
}
_HINTS = {
    signal.SIGINT: "ending with what there is; Ctrl-C again gives up",
    signal.SIGTERM: f"ending with what there is, in {_GRACE:g} seconds at the latest",
}


class Interrupt:
    """Ask a restoration to end after its current iteration, with the best image so far.

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
        """Say whether :meth:`stop` has been called."""
        asked = self._event.is_set()
        self._noticed = self._noticed or asked
        return asked

    def stop(self, reason: StopReason | str = StopReason.STOPPED) -> None:
        """Ask the restoration to end.

        May be called from any thread.  Only the first call counts, and it cannot be taken back.

        Parameters
        ----------
        reason
            A member of :class:`~dipfast.stop_reason.StopReason`; or a text, which becomes
            ``result.stop_detail`` of a restoration that was ``STOPPED``.

        Raises
        ------
        InputError
            If it is neither, or a reason why a fit ends by itself.
        """
        is_final = isinstance(reason, StopReason) and reason.is_final
        if not isinstance(reason, str) or is_final:
            raise InputError(
                "reason must be a text of your own, or the StopReason of an end from outside, got "
                + shown(reason)
            )
        if not self._event.is_set():
            own = not isinstance(reason, StopReason)
            self.stop_asked = Stop(StopReason.STOPPED, reason) if own else Stop(StopReason(reason))
            self._event.set()

    @contextmanager
    def on_signals(self) -> Iterator[Interrupt]:
        """Let Ctrl-C and SIGTERM call :meth:`stop` inside a ``with`` block.

        A second signal, one second or more after the first, raises KeyboardInterrupt.  The process
        ends two seconds after SIGTERM, even where it hangs in compiled code, if the block has not
        been left by then; and on leaving the block, if the fit has not read :attr:`requested` since
        the signal.  A third Ctrl-C ends the process as well, if the second had no effect within two
        seconds.

        Signals are left alone outside of the main thread, and where the program has its own
        handler.  Processes that are forked inside the block have the handlers from before it.

        Yields
        ------
        Interrupt
            This object.
        """
        patience_until = 0.0
        terminated = False

        def handle(number: int, frame: Any) -> None:
            nonlocal patience_until, terminated
            terminated = terminated or number == signal.SIGTERM
            if not self._event.is_set():
                patience_until = time.monotonic() + _PATIENCE
                self.stop(_SIGNALS[signal.Signals(number)][0])
                # The signal may come while standard error is being written, or after it was closed.
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
    """End the process two seconds after SIGTERM, unless the ``with`` block is left by then.

    This works even where the process hangs in compiled code, but only in the main thread, and
    where the program has no handler of SIGTERM of its own.  Nested blocks do nothing: the
    outermost counts.

    Yields
    ------
    object or None
        The watch on the process, for :meth:`Interrupt.on_signals`; None where there is none.
    """
    global _watch
    if _watch is not None or not _may_watch():
        yield _watch
        return
    watch = _watch = _Watch()
    try:
        yield watch
    finally:
        # In a process that was forked inside the block, the watch belongs to the parent.
        if _watch is watch:
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
    """Run a thread outside of Python that ends the process some time after a signal.

    Python writes the number of each signal into a pipe, which the thread reads.

    Attributes
    ----------
    terminated
        The interrupts that SIGTERM asked for.  If one of them was never read, the process has yet
        to end by that signal.
    """

    def __init__(self) -> None:
        self.terminated: list[Interrupt] = []
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        try:
            end_in_time(reader, self._before, _GRACE, _END_MESSAGE.encode())
        except OSError:  # the system has no more threads
            self.restore_pipe()
            raise

    def close(self) -> None:
        """End the thread."""
        self.restore_pipe()
        os.write(self._writer, b"\0")
        os.close(self._writer)

    def restore_pipe(self) -> None:
        """Let signals be written to the pipe that the program had set before, if any."""
        signal.set_wakeup_fd(self._before)


# The watch, and the handlers that were replaced, both of the main thread: Python handles signals in
# no other.
_watch: _Watch | None = None
_replaced: dict[signal.Signals, Any] = {}


def _restore_handlers() -> None:
    """Restore the signal handlers in a process that was forked during a fit."""
    global _watch
    for number, default in _replaced.items():
        signal.signal(number, default)
    _replaced.clear()
    if _watch is not None:
        _watch.restore_pipe()
        _watch = None


if hasattr(os, "register_at_fork"):  # there are no forks on Windows
    os.register_at_fork(after_in_child=_restore_handlers)
