"""The server of the studio: an address, a folder for files, and an end that leaves nothing."""

from __future__ import annotations

import errno
import secrets
import socket
import sys
import threading
import warnings
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dipfast.apps.studio.guard import Guard, is_loopback
from dipfast.errors import InputError, MissingExtraError

__all__ = ["LOCALHOST", "bind", "serve"]

LOCALHOST = "127.0.0.1"
"""The address that only this computer reaches."""

_FIRST_PORT, _PORTS = 8765, 20
# Seconds that a run has to end after the server has.
_GRACE = 5.0


def serve(
    file: str | Path | None = None,
    *,
    host: str = LOCALHOST,
    port: int | None = None,
    opens: bool = True,
    say: Callable[[str], None] | None = None,
) -> None:
    """Serve the studio until Ctrl-C.

    Parameters
    ----------
    file
        A picture to begin with; None for none.
    host
        The address to listen at; by default only this computer reaches it.
    port
        The port; None takes the first free one from 8765 on.
    opens
        Whether the page is opened in a browser.
    say
        Tells the address, and what else there is to say; None prints it.

    Raises
    ------
    InputError
        If the file is no picture, or the address cannot be used, as where the port is in use.
    OSError
        If the file cannot be read.
    MissingExtraError
        If NiceGUI is not installed.

    Examples
    --------
    >>> serve("scan.tif")                        # doctest: +SKIP
    """
    _check_extra()
    from dipfast.apps.studio.runs import Registry

    say = say or _print
    registry = Registry()
    try:
        path = "/"
        if file is not None:
            path = f"/picture/{registry.open_copy(Path(file)).number}"
        with bind(host, port) as listening:
            token = "" if is_loopback(host) else secrets.token_urlsafe(16)
            query = f"?token={token}" if token else ""
            address = f"{_base(listening, host)}{path}{query}"

            def begin() -> None:
                say(f"dipfast studio: {address} (Ctrl-C ends it)")
                if token:
                    say("others who reach this computer need the whole address, with its token")
                if opens:
                    # A browser of the terminal comes back when it is left, and waits for us.
                    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

            # Whether Ctrl-C is raised again in the end is left to chance.
            with suppress(KeyboardInterrupt):
                _run(registry, listening, host, token, begin)
            say("the studio is closed")
    finally:
        registry.close()
        registry.join(_GRACE)


def bind(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens.

    Parameters
    ----------
    host
        The address.
    port
        The port; None takes the first free one from 8765 on.

    Returns
    -------
    socket.socket
        The socket.

    Raises
    ------
    InputError
        If the address is none of this computer, or the port is in use or may not be used.
    """
    ports = range(_FIRST_PORT, _FIRST_PORT + _PORTS) if port is None else (port,)
    for tried in ports:
        try:
            return _bind(host, tried)
        except OSError as error:
            # Windows does not let programs have the ports that its own machines have reserved.
            passed = (errno.EADDRINUSE, errno.EACCES) if port is None else (errno.EADDRINUSE,)
            if error.errno not in passed:
                raise InputError(f"port {tried} cannot be used: {error.strerror}") from error
    if port is None:
        return _bind(host, 0)  # the system names a free one
    raise InputError(f"port {port} is in use; name another one, or none")


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise InputError(f"{host} is no address; 127.0.0.1 is that of this computer") from error
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would share the port with another program
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        # Now, so that nobody else takes the port, and a browser that is early waits.
        listening.listen()
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise InputError(f"{host} is no address of this computer") from error
        raise
    return listening


def _base(listening: socket.socket, host: str) -> str:
    port = listening.getsockname()[1]
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _check_extra() -> None:
    try:
        import nicegui  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "the studio needs NiceGUI, which is not installed: pip install 'dipfast[studio]'"
        ) from error


def _print(text: str) -> None:
    print(text, flush=True)


def _run(
    registry: Any, listening: socket.socket, host: str, token: str, begin: Callable[[], None]
) -> None:
    """Serve requests until a signal ends it."""
    import uvicorn
    from fastapi import FastAPI
    from nicegui import ui

    from dipfast.apps.studio.pages import add_pages
    from dipfast.apps.studio.routes import add_routes

    class Server(uvicorn.Server):
        """Tell when requests are taken, and clean up before a signal ends the process."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            with warnings.catch_warnings():
                # NiceGUI looks at all objects there are for its server, and some of torch warn.
                warnings.simplefilter("ignore", FutureWarning)
                await super().startup(sockets)
            if self.started:
                registry.warm_up()
                begin()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # SIGTERM ends the process at the end of this function.
            registry.close()
            await super().shutdown(sockets)

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    add_routes(app, registry)
    add_pages(registry)
    # The colours are those of the style sheet, which asks the browser for light or dark.
    ui.run_with(
        app, title="dipfast studio", dark=None, tailwind=False, favicon=_ICON, language="en-US"
    )
    config = uvicorn.Config(
        Guard(app, host, token),
        log_level="warning",
        timeout_graceful_shutdown=1,
        # A page says when it is gone; what is sent is mostly pictures.
        ws_per_message_deflate=False,
        server_header=False,
    )
    Server(config).run(sockets=[listening])


_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<rect width="32" height="32" rx="7" fill="#0f4c75"/>'
    '<path d="M16 5a11 11 0 0 0 0 22z" fill="#fff" opacity=".55"/>'
    '<path d="M16 5a11 11 0 0 1 0 22z" fill="#fff"/></svg>'
)
