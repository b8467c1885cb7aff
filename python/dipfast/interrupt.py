"""Ending a restoration from outside."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Interrupt"]

# Seconds after the first signal in which others are taken for the same.
_PATIENCE = 1.0
# Handled only where nobody else does.
_SIGNALS = {
    signal.SIGINT: ("interrupted", signal.default_int_handler),
    signal.SIGTERM: ("terminated", signal.SIG_DFL),
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
    >>> result.stop_reason
    'stopped'
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self.reason = ""

    @property
    def requested(self) -> bool:
        """Whether it has been asked for."""
        return self._event.is_set()

    def stop(self, reason: str = "stopped") -> None:
        """Ask for it, from any thread; it stays asked for."""
        if not self._event.is_set():
            self.reason = reason
            self._event.set()

    @contextmanager
    def on_signals(self) -> Iterator[Interrupt]:
        """Let Ctrl-C and SIGTERM ask for it, instead of ending the program in the middle.

        A second signal, not just the same one held down, raises KeyboardInterrupt.  Where a
        signal is not Python's to handle (in another thread than the main one, or because the
        program has its own handler) it is left alone.
        """
        patience_until = 0.0

        def handle(number: int, frame: Any) -> None:
            nonlocal patience_until
            if not self.requested:
                patience_until = time.monotonic() + _PATIENCE
                self.stop(_SIGNALS[signal.Signals(number)][0])
                print("\nending after this iteration; Ctrl-C again gives up", file=sys.stderr)
            elif time.monotonic() >= patience_until:
                raise KeyboardInterrupt

        replaced = {}
        if threading.current_thread() is threading.main_thread():
            for number, (_, default) in _SIGNALS.items():
                if signal.getsignal(number) is default:
                    replaced[number] = default
                    signal.signal(number, handle)
        try:
            yield self
        finally:
            for number, default in replaced.items():
                signal.signal(number, default)
