"""The guard: which requests pass, by their headers, and how a token is shown."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from dipfast.apps.studio.guard import COOKIE, Guard, is_loopback, refusal

PORT = 8765


@pytest.mark.parametrize(
    "name", ["localhost", "127.0.0.1", f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"[::1]:{PORT}"]
)
def test_names_of_this_computer_pass(name: str) -> None:
    assert refusal({"host": name}, "127.0.0.1") is None


@pytest.mark.parametrize(
    "name",
    ["evil.example", f"evil.example:{PORT}", "", "localhost.evil.example", "192.168.1.4", "[::"],
)
def test_other_names_are_refused_as_by_rebinding(name: str) -> None:
    assert "not known" in (refusal({"host": name}, "127.0.0.1") or "")


def test_name_that_was_asked_for_passes() -> None:
    assert refusal({"host": f"10.0.0.7:{PORT}"}, "10.0.0.7") is None
    assert refusal({"host": f"10.0.0.8:{PORT}"}, "10.0.0.7") is not None


def test_all_addresses_pass_where_it_listens_at_all_but_no_foreign_name() -> None:
    assert refusal({"host": f"192.168.1.4:{PORT}"}, "0.0.0.0") is None
    assert refusal({"host": socket.gethostname().lower()}, "0.0.0.0") is None
    assert refusal({"host": "evil.example"}, "0.0.0.0") is not None


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_requests_of_other_pages_are_refused(origin: str) -> None:
    headers = {"host": f"127.0.0.1:{PORT}", "origin": origin}
    assert refusal(headers, "127.0.0.1") is not None


def test_own_pages_pass() -> None:
    headers = {"host": f"127.0.0.1:{PORT}", "origin": f"http://127.0.0.1:{PORT}"}
    assert refusal(headers, "127.0.0.1") is None


def test_links_of_other_pages_pass_and_their_pictures_do_not() -> None:
    headers = {"host": "localhost", "sec-fetch-site": "cross-site"}
    assert refusal({**headers, "sec-fetch-mode": "navigate"}, "127.0.0.1") is None
    assert refusal({**headers, "sec-fetch-mode": "no-cors"}, "127.0.0.1") is not None


def test_loopback() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.1.2.3", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "192.168.1.4", "::", "example.org"]))


def ask(guard: Guard, kind: str = "http", query: str = "", **headers: str) -> list[dict[str, Any]]:
    """Send one request to a guard, and return what it answers."""
    answers: list[dict[str, Any]] = []
    named = {"host": "10.0.0.7", **headers}
    scope = {
        "type": kind,
        "path": "/run/1",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
    }

    async def receive() -> dict[str, Any]:
        return {"type": f"{kind}.connect"}

    async def send(message: Any) -> None:
        answers.append(dict(message))

    asyncio.run(guard(scope, receive, send))
    return answers


@pytest.fixture
def guard() -> Guard:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    return Guard(app, "10.0.0.7", "secret")


def test_token_is_asked_for_and_kept_as_a_cookie(guard: Guard) -> None:
    assert ask(guard)[0]["status"] == 403
    assert ask(guard, query="token=other")[0]["status"] == 403
    shown = ask(guard, query="token=secret")[0]
    headers = dict(shown["headers"])
    assert (shown["status"], headers[b"location"]) == (303, b"/run/1")
    assert b"HttpOnly; SameSite=Lax" in headers[b"set-cookie"]
    assert ask(guard, cookie=f"{COOKIE}=secret")[0]["status"] == 200
    assert ask(guard, cookie=f"{COOKIE}=other")[0]["status"] == 403


def test_studios_in_one_browser_do_not_lock_each_other_out() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    hosts = {f"10.0.0.7:{port}": Guard(app, "10.0.0.7", f"secret of {port}") for port in (1, 2)}
    # A browser sends every cookie of a computer to all of its ports, whatever others have set.
    kept = ["malformed"]
    for host, guard in hosts.items():
        shown = ask(guard, query=f"token={guard.token}".replace(" ", "+"), host=host)[0]
        kept.append(dict(shown["headers"])[b"set-cookie"].decode().partition(";")[0])
    for host, guard in hosts.items():
        assert ask(guard, cookie="; ".join(kept), host=host)[0]["status"] == 200
        assert ask(guard, cookie=kept[0], host=host)[0]["status"] == 403


def test_cookie_opens_links_of_other_pages_and_nothing_else(guard: Guard) -> None:
    cookie = f"{COOKIE}=secret"
    foreign = {"cookie": cookie, "sec-fetch-site": "cross-site"}
    link = {**foreign, "sec-fetch-mode": "navigate"}
    assert ask(guard, **link)[0]["status"] == 200
    assert ask(guard, **foreign, **{"sec-fetch-mode": "no-cors"})[0]["status"] == 403
    assert ask(guard, **link, origin="http://evil.example")[0]["status"] == 403
    sockets = ask(guard, "websocket", cookie=cookie, origin="http://evil.example")
    assert sockets[0]["type"] == "websocket.close"


def test_sockets_need_the_token_too(guard: Guard) -> None:
    assert ask(guard, "websocket")[0]["type"] == "websocket.close"
    assert ask(guard, "websocket", query="token=secret")[0]["type"] == "websocket.close"


def test_pages_load_nothing_from_elsewhere(guard: Guard) -> None:
    headers = dict(ask(guard, cookie=f"{COOKIE}=secret")[0]["headers"])
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy
