"""The server: ports, addresses, and what is missing; the routes for files without a browser."""

from __future__ import annotations

import errno
import io
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dipfast.apps.cli import main
from dipfast.apps.studio import server
from dipfast.apps.studio.orders import read_order
from dipfast.apps.studio.pictures import Picture
from dipfast.apps.studio.runs import Registry, Run
from dipfast.apps.studio.server import LOCALHOST, bind, serve
from dipfast.errors import InputError, MissingExtraError


def test_next_free_port_is_taken_if_none_is_named() -> None:
    with bind(LOCALHOST, None) as first, bind(LOCALHOST, None) as second:
        ports = [listening.getsockname()[1] for listening in (first, second)]
        assert ports[0] != ports[1]


def test_named_port_in_use_is_told() -> None:
    with socket.socket() as taken:
        taken.bind((LOCALHOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} is in use"):
            bind(LOCALHOST, port)


def test_ports_that_are_reserved_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    bind_as_it_is = server._bind

    def reserved(host: str, port: int) -> socket.socket:
        tried.append(port)
        if len(tried) < 3:
            raise PermissionError(errno.EACCES, "reserved")
        return bind_as_it_is(host, 0)

    monkeypatch.setattr(server, "_bind", reserved)
    with bind(LOCALHOST, None):
        assert len(tried) == 3
    tried.clear()
    with pytest.raises(InputError, match="port 8000 cannot be used: reserved"):
        bind(LOCALHOST, 8000)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_address_of_no_computer_or_another_is_told(host: str) -> None:
    with pytest.raises(InputError, match="is no address"):
        bind(host, None)


def test_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nicegui", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'dipfast\[studio\]'"):
        serve(opens=False)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["a.png", "b.png"], "one FILE expected"),
        (["--port", "70000"], "--port must be from 1 to 65535, got 70000"),
        (["missing.png"], "missing.png: No such file or directory"),
    ],
)
def test_wrong_command_lines_are_told(
    typed: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("nicegui")
    assert main(["studio", "--no-open", *typed]) == 2
    assert message in capsys.readouterr().err


def test_bad_file_is_told_before_a_server_is_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("nicegui")
    path = tmp_path / "bad.png"
    path.write_text("no picture")
    assert main(["studio", "--no-open", str(path)]) == 2
    assert "cannot read bad.png" in capsys.readouterr().err


def test_files_are_those_of_this_studio(
    registry: Registry, picture: Picture, until: Callable
) -> None:
    import asyncio

    import httpx
    from fastapi import FastAPI

    from dipfast.apps.studio.routes import add_routes

    app = FastAPI()
    add_routes(app, registry)
    fields = {"task": "inpaint", "quality": "fast", "mask_kind": "file"}
    mask = np.zeros(picture.size, bool)
    mask[4:8, 4:8] = True
    run = registry.start(
        picture, read_order({**fields, "mask": str(picture.add_mask(mask))}, picture)
    )
    until(run, lambda view: view.is_over)

    async def ask(address: str, *tags: str) -> list[httpx.Response]:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://studio")
        async with client:
            return [await client.get(address, headers={"if-none-match": tag}) for tag in tags]

    # Another studio has the same addresses: a browser has to ask.
    shown = f"/picture/{picture.number}/before"
    files = [f"/run/{run.number}/{which}" for which in ("report/0", "result/0", "mask")]
    for address in (shown, *files):
        (answer,) = asyncio.run(ask(address, ""))
        assert answer.status_code == 200
        assert "no-cache" in answer.headers["cache-control"]
    (first,) = asyncio.run(ask(shown, ""))
    again, other = asyncio.run(ask(shown, first.headers["etag"], '"of another"'))
    assert (again.status_code, again.content) == (304, b"")
    assert (other.status_code, other.content) == (200, first.content)


def test_warnings_of_a_mask_are_told_on_the_page_and_by_the_run(
    registry: Registry, picture: Picture, tmp_path: Path
) -> None:
    import asyncio

    import httpx
    from fastapi import FastAPI

    from dipfast.apps.studio.routes import add_routes

    app = FastAPI()
    add_routes(app, registry)
    mask = np.zeros(picture.size, np.uint8)
    mask[4:8, 4:8] = 255
    mask[20, [10, 20, 30]] = 3
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, format="PNG")

    async def send() -> httpx.Response:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://studio")
        headers = {"x-dipfast": "1", "x-name": "mask.png"}
        async with client:
            address = f"/picture/{picture.number}/mask/file"
            return await client.post(address, content=stream.getvalue(), headers=headers)

    answer = asyncio.run(send()).json()
    share, _, note = answer["note"].partition("; ")
    assert share == "1.5% of the pixels are missing"
    assert note.startswith("3 pixels of the mask mask.png are nearly black")
    fields = {"task": "inpaint", "mask_kind": "file", "mask": str(answer["mask"])}
    run = Run(1, picture, read_order(fields, picture), tmp_path)
    assert note in run.look().notes
