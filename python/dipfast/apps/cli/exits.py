"""Exit codes of the command line: one for each kind of end, and the kinds of errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dipfast.errors import DipfastError, MemoryLimitError, ProcessError
from dipfast.stop_reason import StopReason

if TYPE_CHECKING:
    from dipfast.run.result import Result

__all__ = [
    "DONE",
    "EXIT_CODES",
    "FAILED",
    "INTERRUPTED",
    "TERMINATED",
    "UNFINISHED",
    "WRONG",
    "WorkError",
    "code_of_error",
    "code_of_result",
]


class WorkError(Exception):
    """Tell that something failed during the work, through no fault of the arguments."""


DONE, FAILED, WRONG, UNFINISHED = 0, 1, 2, 3
# As shells have it: 128 and the number of the signal.
INTERRUPTED, TERMINATED = 130, 143

EXIT_CODES: dict[int, str] = {
    DONE: "done",
    FAILED: "something failed during the work, or after OUT was written",
    WRONG: "wrong arguments or files, nothing was done",
    UNFINISHED: "OUT was written, but the work was cut so short that it is likely worse than IN",
    INTERRUPTED: "interrupted (Ctrl-C)",
    TERMINATED: "terminated",
}
"""What each exit code means, for the help."""

# The first row whose type fits counts.  RuntimeError and MemoryError are those of torch; the other
# types of Python in the last row are errors that nobody expected.
_OF_ERRORS: tuple[tuple[type[Exception], int], ...] = (
    (WorkError, FAILED),
    (MemoryLimitError, FAILED),
    (ProcessError, FAILED),
    (DipfastError, WRONG),
    (OSError, WRONG),
    *((kind, FAILED) for kind in (RuntimeError, MemoryError, ValueError, TypeError, ImportError)),
)
_OF_STOPS: dict[StopReason | None, int] = {
    StopReason.INTERRUPTED: INTERRUPTED,
    StopReason.TERMINATED: TERMINATED,
}


def code_of_error(error: Exception) -> int | None:
    """Return the exit code for an error; None for one that is a mistake in the program."""
    return next((code for kind, code in _OF_ERRORS if isinstance(error, kind)), None)


def code_of_result(result: Result, asked: StopReason | None, complete: bool) -> int:
    """Return the exit code for a result that was written.

    Parameters
    ----------
    result
        Of the work.
    asked
        Why an end was asked for that the work took no notice of; None if it was not.
    complete
        Whether all pictures that were asked for are drawn.
    """
    for reason in (asked, result.stop_reason):
        if reason in _OF_STOPS:
            return _OF_STOPS[reason]
    if not complete:
        return FAILED
    return DONE if result.unfinished is None else UNFINISHED
