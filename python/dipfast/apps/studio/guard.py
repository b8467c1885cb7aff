"""Requests that may drive the studio: those of its own pages, and of no other page of the web."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

__all__ = ["COOKIE", "Guard", "is_loopback", "refusal"]

_Scope: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App: TypeAlias = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

COOKIE = "dipfast-studio"
"""The cookie of a browser that has shown the token; the port at which it did so follows."""

_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

# Nothing is loaded from elsewhere, and no other page may show this one in a frame.  The framework
# compiles its templates in the browser, which needs unsafe-eval.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this computer alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refusal(headers: Mapping[str, str], host: str) -> str | None:
    """Return why a request is refused; None if it may pass.

    Parameters
    ----------
    headers
        The headers of the request, names in lower case.
    host
        The address that the server listens at.

    Returns
    -------
    str or None
        The reason.  A name that was made to point at this computer (DNS rebinding) is not one that
        the server is known by; and what another page of the web asks for says where it is from.
    """
    asked = headers.get("host", "")
    if not _is_own_name(_name_of(f"//{asked}"), host):
        return f"the studio is not known as {asked[:100]!r}"
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != asked:
        return f"requests of {origin[:100]!r} are refused"
    # Links of other pages may lead here, but pictures and scripts of the studio are for itself.
    is_foreign = headers.get("sec-fetch-site") == "cross-site"
    if is_foreign and headers.get("sec-fetch-mode") != "navigate":
        return "requests of other pages are refused"
    return None


def _name_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_own_name(name: str, host: str) -> bool:
    if name in _OWN_NAMES or name == host.lower():
        return True
    try:
        listens_everywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
    if not listens_everywhere:
        return False
    # What rebinding needs is a name; a number always leads to the computer that has it.
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == socket.gethostname().lower()
    return True


class Guard:
    """Pass on the requests of the studio's own pages, and refuse all others.

    Parameters
    ----------
    app
        The application that is guarded.
    host
        The address that the server listens at.
    token
        What a browser must have shown once, in the address (``?token=...``); empty, the default,
        for none.
    """

    def __init__(self, app: _App, host: str, token: str = "") -> None:
        self.app = app
        self.host = host
        self.token = token

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer one request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
        reason = refusal(headers, self.host)
        if reason is None and self.token and not self._knows_token(headers):
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if scope["type"] == "http" and secrets.compare_digest(
                given.encode(), self.token.encode()
            ):
                await _remember(send, scope["path"], _cookie_name(headers), self.token)
                return
            reason = "open the address that the terminal shows, with its token"
        if reason is not None:
            await _refuse(scope, receive, send, reason)
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message.get("headers", ())}
                message["headers"] = [
                    *message.get("headers", ()),
                    *(pair for pair in _HEADERS if pair[0] not in names),
                ]
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _knows_token(self, headers: Mapping[str, str]) -> bool:
        # By hand: a cookie of another server that is malformed must not hide this one.
        pairs = (part.strip().partition("=") for part in headers.get("cookie", "").split(";"))
        name = _cookie_name(headers)
        return any(
            secrets.compare_digest(value.encode(), self.token.encode())
            for key, _, value in pairs
            if key == name
        )


def _cookie_name(headers: Mapping[str, str]) -> str:
    """Return the name of the cookie: browsers send it to all ports of a computer."""
    port = headers.get("host", "").rpartition(":")[2]
    return f"{COOKIE}-{port}" if port.isdecimal() else COOKIE


async def _refuse(scope: _Scope, receive: _Receive, send: _Send, reason: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": reason})
        return
    await send(
        {
            "type": "http.response.start",
            "status": 403,
            "headers": [(b"content-type", b"text/plain; charset=utf-8")],
        }
    )
    await send({"type": "http.response.body", "body": f"Refused: {reason}.\n".encode()})


async def _remember(send: _Send, path: str, name: str, token: str) -> None:
    """Let a browser keep the token, and send it to the address without it."""
    # Where the link was clicked in another page, the next request is that page's too, and a strict
    # cookie would not go along.  What other pages load and post still goes without it.
    cookie = f"{name}={token}; Path=/; HttpOnly; SameSite=Lax"
    # A path of two slashes would lead to another server.
    place = "/" + path.lstrip("/\\")
    await send(
        {
            "type": "http.response.start",
            "status": 303,
            "headers": [
                (b"location", place.encode("ascii", "ignore")),
                (b"set-cookie", cookie.encode()),
            ],
        }
    )
    await send({"type": "http.response.body", "body": b""})
