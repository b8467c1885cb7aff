"""Exceptions that dipfast raises on purpose.

All of them are :class:`DipfastError`, and each is also the exception of Python that a caller who
does not know dipfast would catch: ValueError, TypeError, OSError, MemoryError, ImportError or
RuntimeError.
"""

from __future__ import annotations

__all__ = [
    "CheckpointMismatchError",
    "DamagedCheckpointError",
    "DipfastError",
    "InputError",
    "InputTypeError",
    "MemoryLimitError",
    "MissingExtraError",
    "ProcessError",
    "UnreadableFileError",
    "UnwritableFileError",
    "WouldOverwriteError",
]


class DipfastError(Exception):
    """Base of all exceptions that dipfast raises on purpose."""


class InputError(DipfastError, ValueError):
    """An argument has a value that cannot be; the message names it, and what was expected."""


class InputTypeError(DipfastError, TypeError):
    """An argument is of a kind that cannot be; the message names it, and what was expected."""


class UnreadableFileError(InputError):
    """A file was opened, and what it holds cannot be understood."""


class UnwritableFileError(InputError):
    """A file format cannot hold an image."""


class WouldOverwriteError(DipfastError, FileExistsError):
    """A file is there already, and nobody has said that it may be replaced."""


class MemoryLimitError(DipfastError, MemoryError):
    """A fit takes more memory than there is; the message says what would fit."""


class CheckpointMismatchError(InputError):
    """A checkpoint is that of another run; the message says what differs."""


class DamagedCheckpointError(UnreadableFileError):
    """A file is no checkpoint, or a damaged one."""


class MissingExtraError(DipfastError, ImportError):
    """A package is missing that an extra of dipfast brings; the message names both."""


class ProcessError(DipfastError, RuntimeError):
    """This process, or the place within a program, is not one in which a fit can run."""
