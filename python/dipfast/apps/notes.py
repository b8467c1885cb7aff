"""What was wrong, in one line for people."""

from __future__ import annotations

__all__ = ["message_of"]


def message_of(error: BaseException) -> str:
    """Return what was wrong, in one line.

    Parameters
    ----------
    error
        The error.

    Returns
    -------
    str
        Its text; of errors with many lines, as those of torch, the first.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, MemoryError) and not text:
        return "memory does not suffice"
    return text or type(error).__name__
