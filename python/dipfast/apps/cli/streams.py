"""Standard output and error that no program is lost for: closed, full, or of few characters."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dipfast.apps.cli.words import one_line

__all__ = ["say", "steady_streams"]


def say(message: str) -> None:
    """Print one line on standard error."""
    print(f"dipfast: {one_line(message)}", file=sys.stderr)


class SteadyStream:
    """Wrap a text stream, and write to it for as long as that works.

    Characters that its encoding does not have are escaped.

    Parameters
    ----------
    stream
        The stream.
    leads_nowhere
        Whether it stands for one that there is not, so that what is written to it is lost.
    """

    def __init__(self, stream: Any, *, leads_nowhere: bool = False) -> None:
        self._stream = stream
        self.leads_nowhere = leads_nowhere
        self.failure: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or do nothing if that has failed before."""
        self._try(self._write, text)
        return len(text)

    def flush(self) -> None:
        """Flush, or do nothing if writing has failed before."""
        self._try(self._stream.flush)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding or "ascii"
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def _try(self, do: Any, *arguments: Any) -> None:
        if self.failure is not None:
            return
        try:
            do(*arguments)
        # ValueError: it was closed; RuntimeError: a signal came in the middle of writing.
        except (OSError, ValueError, RuntimeError) as error:
            self.failure = error
            self._let_go()

    def _let_go(self) -> None:
        """Point the stream to nowhere, because Python tries once more when it ends."""
        try:
            number = self._stream.fileno()
        except (OSError, ValueError):
            return
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), number)


@contextmanager
def steady_streams() -> Iterator[None]:
    """Replace standard output and error by streams whose failures are no errors of the program.

    A failure of standard output is told on standard error, but for that of a pipe whose reader
    has gone, as after ``| head``.
    """
    # A file that is opened later would get the number of a stream that was closed, and what
    # libraries print would go into it.
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        out, err = (SteadyStream(s or nowhere, leads_nowhere=s is None) for s in before)
        sys.stdout, sys.stderr = out, err
        try:
            yield
        finally:
            out.flush()
            reason = out.failure
            if reason is not None and getattr(reason, "errno", None) != errno.EPIPE:
                text = getattr(reason, "strerror", None) or reason
                say(f"warning: standard output: {text}")
            err.flush()
            sys.stdout, sys.stderr = before
