"""What ``dipfast studio`` does: serve a page where pictures are restored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dipfast.apps.cli.commands import FUNCTIONS
from dipfast.apps.cli.exits import DONE
from dipfast.apps.cli.words import Words
from dipfast.errors import InputError

if TYPE_CHECKING:
    from dipfast.apps.cli.options import StudioRequest

__all__ = ["run", "words_of"]

_LAST_PORT = 65535


def run(request: StudioRequest) -> int:
    """Serve the page until Ctrl-C, and return the exit code."""
    from dipfast.apps.studio.server import serve

    if len(request.files) > 1:
        raise InputError(
            f"one FILE expected to begin with, got {len(request.files)}; open others on the page"
        )
    if request.port is not None and not 1 <= request.port <= _LAST_PORT:
        raise InputError(f"--port must be from 1 to {_LAST_PORT}, got {request.port}")
    file = Path(request.files[0]) if request.files else None
    serve(file, host=request.host, port=request.port, opens=request.open_)
    return DONE


def words_of() -> Words:
    """Return the words of the command line for what the library says."""
    return Words({}, {}, FUNCTIONS, [])
