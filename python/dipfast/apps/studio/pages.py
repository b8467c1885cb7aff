"""The pages, put together with NiceGUI; what changes is sent to the browser when it does."""

from __future__ import annotations

import asyncio
from typing import Any

from nicegui import events, ui

from dipfast.apps.notes import message_of
from dipfast.apps.studio import markup
from dipfast.apps.studio.orders import read_order
from dipfast.apps.studio.pictures import Picture
from dipfast.apps.studio.runs import Registry, Run
from dipfast.errors import DipfastError, InputError

__all__ = ["add_pages"]

# Seconds from one look at a run to the next.
_BETWEEN_LOOKS = 0.5
# Seconds that a page waits for a browser whose connection was lost, as by a computer that sleeps;
# after them it is loaded anew, and what was painted and filled in is gone.
_WAITING, _WAITING_WITH_A_FORM = 60.0, 3600.0

# The masks that were painted are sent before what the form says.
_SEND_FORM = "async (event) => { event.preventDefault(); emit(await studio.fields(event.target)); }"


def add_pages(registry: Registry) -> None:
    """Add the pages to NiceGUI.

    Parameters
    ----------
    registry
        The pictures and runs.
    """

    @ui.page("/", reconnect_timeout=_WAITING)
    def start() -> None:
        _begin()
        _html(markup.header("Restore a picture", "Without training data, on your computer."), "top")
        with ui.element("main").classes("one"):
            _html(markup.start())
            listed = _Part(ui.html("", sanitize=False))

            def update() -> None:
                items = [(run, run.look(watches=False)) for run in registry.runs.values()]
                listed.show(markup.runs(items))

            update()
            ui.timer(2.0, update)

    @ui.page("/picture/{number}", reconnect_timeout=_WAITING_WITH_A_FORM)
    def picture_page(number: int) -> None:
        picture = registry.pictures.get(number)
        if picture is None:
            _missing(f"There is no picture {number}")
            return
        _picture_page(registry, picture)

    @ui.page("/run/{number}", reconnect_timeout=_WAITING)
    def run_page(number: int) -> None:
        run = registry.runs.get(number)
        if run is None:
            _missing(f"There is no run {number}")
            return
        _RunPage(run)


def _begin(title: str = "") -> None:
    ui.page_title(f"{title} - dipfast studio" if title else "dipfast studio")
    ui.add_head_html(markup.HEAD)
    ui.query(".nicegui-content").classes(add="page")


def _html(content: str, style: str = "") -> Any:
    return ui.html(content, sanitize=False).classes(style)


def _summary(text: str) -> None:
    ui.html(text, sanitize=False, tag="summary")


def _missing(text: str) -> None:
    _begin()
    _html(markup.header(text, "It may be of an earlier studio, whose pictures are gone."), "top")


class _Part:
    """Change a part of a page only where it is another one."""

    def __init__(self, element: Any) -> None:
        self.element = element
        self._shown = ""

    def show(self, content: str) -> None:
        if content != self._shown:
            self._shown = content
            self.element.set_content(content)


def _picture_page(registry: Registry, picture: Picture) -> None:
    _begin(picture.name)
    _html(markup.header(picture.name, picture.describe()), "top")

    async def begin(event: events.GenericEventArguments) -> None:
        fields = event.args if isinstance(event.args, dict) else {}
        try:
            if fields.get("error"):
                raise InputError(str(fields["error"]))
            # Its opacity may have to be read again, and the other pages must not wait for that.
            order = await asyncio.to_thread(read_order, fields, picture)
            run = registry.start(picture, order)
        except (DipfastError, OSError) as error:
            problem.set_content(markup.problem(message_of(error)))
            ui.run_javascript("studio.ready()")
            return
        ui.navigate.to(f"/run/{run.number}")

    rows, columns = picture.size
    with ui.element("main").classes("two").style(f"--columns: {columns}; --rows: {rows}"):
        with ui.element("section").classes("left"):
            _html(markup.painting(picture))
        with ui.element("section").classes("right"), ui.element("form").props("novalidate") as form:
            _html(markup.notes(picture.notes))
            _html(markup.fields(picture))
            _html(markup.begin())
            problem = _html("", "error").props("role=alert")
        form.on("submit", begin, js_handler=_SEND_FORM)


class _RunPage:
    """Show one run in one tab."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._place = run.kept
        self._choices = 0
        self._shows_fit = False
        _begin(run.picture.name)
        _html(markup.header(run.picture.name, run.order.describe()), "top")
        rows, columns = (run.order.factor * length for length in run.picture.size)
        with ui.element("main").classes("two").style(f"--columns: {columns}; --rows: {rows}"):
            with ui.element("section").classes("left"):
                self._make_wipe()
            with ui.element("section").classes("right"):
                self._make_panel()
        self._update()
        ui.timer(_BETWEEN_LOOKS, self._update)

    def _make_wipe(self) -> None:
        run = self._run
        with (
            ui.element("div").classes("frame").props('tabindex=0 role=group aria-label="Pictures"'),
            ui.element("div").classes("wipe"),
        ):
            self._after = ui.element("img").props('alt="After"')
            self._after.props["src"] = f"/picture/{run.picture.number}/before"
            _html(markup.before(run), "before")
        _html(markup.wipe(run))

    def _make_panel(self) -> None:
        self._progress = _Part(_html(""))
        # Told to those who do not see the page, and not at every iteration.
        self._status = _Part(_html("", "hidden-text").props("role=status"))
        self._swap = ui.html("", sanitize=False, tag="button")
        self._swap.classes("swap").props("type=button data-name=swap")
        self._swap.on("click", self._swap_pictures)
        self._stop = ui.html("", sanitize=False, tag="button")
        self._stop.classes("button wide").props("type=button data-name=stop")
        self._stop.on("click", self._run.stop)
        self._downloads = _Part(_html(""))
        self._scrubber = _Part(_html("", "scrubber"))
        self._scrubber.element.on(
            "input", self._scrub, js_handler="(event) => emit(event.target.value)", throttle=0.05
        )
        self._keep = ui.html("Keep this one", sanitize=False, tag="button")
        self._keep.classes("button wide").props("type=button data-name=keep")
        self._keep.on("click", self._keep_it)
        self._notes = _Part(_html(""))
        self._figures = _Part(_html(""))
        with ui.element("details") as self._curve_details:
            _summary("Curve of the fit")
            self._curve = _Part(_html(""))
        with ui.element("details"):
            _summary("The same in the terminal")
            self._command = _Part(_html(""))
        _html(markup.again(self._run))

    def _swap_pictures(self) -> None:
        self._shows_fit = not self._shows_fit
        self._update()

    def _scrub(self, event: events.GenericEventArguments) -> None:
        try:
            place = int(str(event.args))
        except ValueError:
            return
        if 0 <= place < len(self._run.frames):
            self._place = place
            self._update()

    def _keep_it(self) -> None:
        self._run.keep(self._place)
        self._update()

    def _update(self) -> None:
        run = self._run
        # A page that was closed is kept for a while, and nobody looks at it.
        view = run.look(watches=ui.context.client.has_socket_connection)
        self._progress.show(markup.progress(view))
        self._status.show(markup.status(view))
        self._stop.set_visibility(not view.is_over)
        is_waiting = view.status == "waiting"
        self._stop.set_content("Cancel" if is_waiting else "Stop and keep this")
        self._notes.show(markup.notes(view.notes))
        curve = run.curve()
        self._curve_details.set_visibility(bool(curve))
        self._curve.show(curve)
        self._command.show(markup.command(run))
        self._swap.set_visibility(view.fit > 0)
        if view.status == "done":
            self._show_end()
            return
        self._keep.set_visibility(False)
        live = {"kept": view.picture, "fit": view.fit}
        addresses = {
            which: f"/run/{run.number}/live/{which}?n={number}" if number else ""
            for which, number in live.items()
        }
        large, small = ("fit", "kept") if self._shows_fit else ("kept", "fit")
        if addresses[large]:
            self._show(addresses[large])
        if addresses[small]:
            self._swap.set_content(markup.swap(addresses[small], is_fit=small == "fit"))

    def _show_end(self) -> None:
        run = self._run
        if self._choices == 0:
            self._choices = len(run.frames)
            self._place = run.kept
            self._scrubber.show(markup.scrubber(run))
        frame = run.frames[self._place]
        self._show(f"/run/{run.number}/frame/{self._place}")
        self._downloads.show(markup.downloads(run, run.kept))
        self._figures.show(markup.figures(run))
        is_kept = self._place == run.kept
        self._keep.set_visibility(self._choices > 1)
        self._keep.set_content("This one is kept" if is_kept else f"Keep {frame.name}")
        self._keep.props["disabled"] = is_kept

    def _show(self, address: str) -> None:
        if self._after.props.get("src") != address:
            self._after.props["src"] = address
            self._after.update()
