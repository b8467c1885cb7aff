"""Files that go in and out: uploads, masks, pictures, results and reports."""

from __future__ import annotations

import asyncio
import hashlib
from importlib.resources import files as resources
from pathlib import Path
from urllib.parse import unquote

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from dipfast.apps.notes import message_of
from dipfast.apps.studio.masks import loaded_mask, painted_mask
from dipfast.apps.studio.orders import Order
from dipfast.apps.studio.pictures import Picture, plain_name
from dipfast.apps.studio.previews import Preview
from dipfast.apps.studio.runs import LARGEST_UPLOAD, Registry, Run
from dipfast.errors import DipfastError, InputError
from dipfast.warn import warnings_told

__all__ = ["add_routes"]

# What a page of another origin cannot send without asking first, which is refused.
_OWN_HEADER = "x-dipfast"
# Another studio on this computer has the same addresses for other pictures.
_ASK_FIRST = "private, no-cache"
_STATIC = {"studio.css": "text/css", "studio.js": "text/javascript"}


def add_routes(app: FastAPI, registry: Registry) -> None:
    """Add all routes to an application that are no pages.

    Parameters
    ----------
    app
        The application.
    registry
        The pictures and runs.
    """

    def picture_of(number: int) -> Picture:
        picture = registry.pictures.get(number)
        if picture is None:
            raise InputError(f"there is no picture {number}; it may be of an earlier studio")
        return picture

    def run_of(number: int) -> Run:
        run = registry.runs.get(number)
        if run is None:
            raise InputError(f"there is no run {number}; it may be of an earlier studio")
        return run

    @app.exception_handler(DipfastError)
    async def tell(_: Request, error: Exception) -> Response:
        return _wrong(error)

    @app.exception_handler(OSError)
    async def tell_of_files(_: Request, error: Exception) -> Response:
        return _wrong(error)

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in _STATIC:
            return Response(status_code=404)
        content = (resources("dipfast.apps.studio") / "static" / name).read_bytes()
        return Response(content, media_type=_STATIC[name], headers={"cache-control": "no-cache"})

    @app.post("/upload")
    async def upload(request: Request) -> Response:
        name = _name_of(request)
        path = registry.new_path(name)
        await _receive(request, path)
        picture = await asyncio.to_thread(registry.open, path, name)
        return JSONResponse({"url": f"/picture/{picture.number}"})

    @app.post("/picture/{number}/mask/{kind}")
    async def mask(number: int, kind: str, request: Request) -> Response:
        picture, name = picture_of(number), _name_of(request)
        path = registry.new_path(name)
        await _receive(request, path)

        def read() -> tuple[int, str]:
            notes: list[str] = []
            try:
                with warnings_told(notes.append):
                    made = (
                        painted_mask(path, picture)
                        if kind == "painted"
                        else loaded_mask(path, name, picture)
                    )
                said = f"{float(made.mean()):.1%} of the pixels are missing"
                return picture.add_mask(made, tuple(notes)), "; ".join([said, *notes])
            finally:
                path.unlink(missing_ok=True)

        chosen, note = await asyncio.to_thread(read)
        return JSONResponse({"mask": chosen, "note": note})

    @app.get("/picture/{number}/before")
    def before(number: int, request: Request) -> Response:
        return _picture(picture_of(number).preview, request)

    @app.get("/run/{number}/live/{which}")
    def live(number: int, which: str, request: Request) -> Response:
        made = run_of(number).live(of_fit=which == "fit")
        return Response(status_code=404) if made is None else _picture(made, request)

    @app.get("/run/{number}/frame/{place}")
    def frame(number: int, place: int, request: Request) -> Response:
        return _picture(run_of(number).frame(place), request)

    @app.get("/run/{number}/result/{place}")
    def result(number: int, place: int) -> Response:
        run = run_of(number)
        name = run.order.result_name(run.picture)
        return _download(run.saved(place), name)

    @app.get("/run/{number}/report/{place}")
    def report(number: int, place: int) -> Response:
        run = run_of(number)
        name = f"{Path(run.order.result_name(run.picture)).stem}.html"
        return FileResponse(
            run.page(place),
            media_type="text/html",
            filename=name,
            content_disposition_type="inline",
            headers={"cache-control": _ASK_FIRST},
        )

    @app.get("/run/{number}/mask")
    def mask_of_run(number: int) -> Response:
        run = run_of(number)
        return _mask_file(run.order, run.picture)


def _wrong(error: Exception) -> Response:
    return JSONResponse({"error": message_of(error)}, status_code=400)


def _picture(made: Preview, request: Request) -> Response:
    """Return a picture, or that it is the one that the browser has."""
    tag = f'"{hashlib.sha256(made.data).hexdigest()}"'
    headers = {"cache-control": _ASK_FIRST, "etag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(made.data, media_type=made.kind, headers=headers)


def _download(path: Path, name: str) -> Response:
    headers = {"cache-control": _ASK_FIRST}
    kind = "application/octet-stream"
    return FileResponse(path, media_type=kind, filename=name, headers=headers)


def _mask_file(order: Order, picture: Picture) -> Response:
    if order.mask is None:
        raise InputError("this run has no mask")
    from dipfast.images.display import encode_png

    content = encode_png(order.mask.astype("uint8") * 255)
    attachment = _attachment(order.mask_name(picture))
    headers = {"content-disposition": attachment, "cache-control": _ASK_FIRST}
    return Response(content, media_type="image/png", headers=headers)


def _attachment(name: str) -> str:
    from urllib.parse import quote

    return f"attachment; filename*=utf-8''{quote(name, safe='')}"


def _name_of(request: Request) -> str:
    """Return what the user calls the file that is sent."""
    return plain_name(unquote(request.headers.get("x-name", "")))


async def _receive(request: Request, path: Path) -> None:
    """Write what is sent to a file."""
    if request.headers.get(_OWN_HEADER) is None:
        raise InputError("files are taken from the pages of the studio only")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > LARGEST_UPLOAD:
        raise InputError(_too_large())
    size = 0
    try:
        with path.open("xb") as file:
            path.chmod(0o600)
            async for part in request.stream():
                size += len(part)
                if size > LARGEST_UPLOAD:
                    raise InputError(_too_large())
                await asyncio.to_thread(file.write, part)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _too_large() -> str:
    return f"the file is larger than {LARGEST_UPLOAD // 10**6} MB; use the command line for it"
