"""Exceptions that dipfast raises on purpose.

All of them derive from :class:`DipfastError`, and each one also from the built-in exception that
fits it: ValueError, TypeError, OSError, MemoryError, ImportError or RuntimeError.
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
    """Serve as the base of all exceptions that dipfast raises on purpose."""


class InputError(DipfastError, ValueError):
    """Say that an argument has an invalid value; the message names both, and what was expected."""


class InputTypeError(DipfastError, TypeError):
    """Say that an argument has the wrong type; the message names both, and what was expected."""


class UnreadableFileError(InputError):
    """Say that a file was opened, but its content is not valid."""


class UnwritableFileError(InputError):
    """Say that a file format cannot hold an image, because of its dtype, shape or channels."""


class WouldOverwriteError(DipfastError, FileExistsError):
    """Say that a file exists already, and that the call does not allow to replace it."""


class MemoryLimitError(DipfastError, MemoryError):
    """Say that a fit takes more memory than is available; the message says what would fit."""


class CheckpointMismatchError(InputError):
    """Say that a checkpoint belongs to another run; the message says what differs."""


class DamagedCheckpointError(UnreadableFileError):
    """Say that a file is not a checkpoint, or is damaged."""


class MissingExtraError(DipfastError, ImportError):
    """Say that a package of an optional extra is missing; the message names the extra."""


class ProcessError(DipfastError, RuntimeError):
    """Say that a fit cannot run in this process, or inside a transform of ``torch.func``."""
