"""The studio in a browser: every task from the upload to the download, and what may go wrong.

They need Playwright and Chromium, and are skipped where one is missing; with the environment
variable DIPFAST_BROWSER_TESTS=1 what is missing is a failure.
"""

from __future__ import annotations

import http.client
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import tifffile
from PIL import Image

from dipfast.images.files import read_image

CHROMIUM = os.environ.get("DIPFAST_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# Milliseconds that Playwright waits for anything: the machine may be busy.
PATIENCE = 30_000
LONG = 100_000


def missing() -> str:
    """Return what these tests miss; empty if nothing."""
    for module in ("nicegui", "playwright"):
        try:
            __import__(module)
        except ImportError:
            return f"{module} is not installed"
    return "" if CHROMIUM else "there is no chromium"


if missing() and os.environ.get("DIPFAST_BROWSER_TESTS") != "1":
    pytest.skip(missing(), allow_module_level=True)


@dataclass
class Studio:
    """A studio that was started with the command line."""

    process: subprocess.Popen[str]
    address: str
    folder: Path
    errors: list[str] = field(default_factory=list)
    requests: set[str] = field(default_factory=set)

    @property
    def port(self) -> int:
        port = urlsplit(self.address).port
        assert port is not None
        return port


def start_studio(folder: Path, *arguments: str) -> Studio:
    """Start a studio whose files are in a folder."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dipfast", "studio", "--no-open", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        # Small networks gain nothing from several threads.
        env={**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        found = re.search(r"http://\S+", line)
        if found:
            return Studio(process, found[0], folder)
    process.communicate()
    raise AssertionError("the studio tells no address")


def end_studio(studio: Studio) -> str:
    """End a studio as Ctrl-C does, and return what it printed."""
    studio.process.send_signal(signal.SIGINT)
    try:
        return studio.process.communicate(timeout=30)[0]
    finally:
        studio.process.kill()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    assert not missing(), missing()
    started = start_studio(tmp_path_factory.mktemp("studio"))
    yield started
    if started.process.poll() is None:
        end_studio(started)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def new_page(studio: Studio, browser: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a tab; what goes wrong in its scripts fails the test."""
    contexts = []
    studio.errors.clear()

    def open_page(**options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1100, "height": 800}, **options)
        context.set_default_timeout(PATIENCE)
        context.on("request", lambda request: studio.requests.add(request.url))
        page = context.new_page()
        page.on("pageerror", lambda error: studio.errors.append(str(error)))
        # Where nobody listens, the browser opens a window of its own.
        page.on("filechooser", lambda _: None)
        page.on("websocket", lambda socket: studio.requests.add(socket.url))
        contexts.append(context)
        page.goto(studio.address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert studio.errors == []


@pytest.fixture
def page(new_page: Callable[..., Any]) -> Any:
    return new_page()


def noisy(size: tuple[int, int] = (32, 40), seed: int = 0) -> np.ndarray:
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    clean = np.stack([60 + 3 * columns, 200 - 4 * rows, 90 + 0 * rows], axis=-1)
    noise = np.random.default_rng(seed).normal(0, 20, clean.shape)
    return (clean + noise).clip(0, 255).astype(np.uint8)


def png(values: np.ndarray, name: str = "scan.png") -> dict[str, Any]:
    """Return a file for an upload."""
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, format="PNG")
    return {"name": name, "mimeType": "image/png", "buffer": stream.getvalue()}


def opened(page: Any, file: dict[str, Any]) -> None:
    """Upload a picture, and wait for its page."""
    page.set_input_files("#file", file)
    page.wait_for_url("**/picture/*")
    page.wait_for_selector("#start")


def wait_until(page: Any, true: Callable[[], bool]) -> None:
    """Let the browser go on until something of this process is true."""
    for _ in range(PATIENCE // 20):
        if true():
            return
        page.wait_for_timeout(20)
    raise AssertionError("it does not become true")


def choose(page: Any, **values: str) -> None:
    """Choose what stands for values in the form; fields of text are filled in."""
    for name, value in values.items():
        chosen = page.locator(f"input[name={name}]")
        if chosen.first.get_attribute("type") == "radio":
            page.locator(f"input[name={name}][value='{value}']").check()
        else:
            if name in ("sigma", "max_iterations"):
                page.evaluate("document.querySelector('form details').open = true")
            chosen.fill(value)


def begin(page: Any) -> None:
    page.click("#start")
    page.wait_for_url("**/run/*")


def downloaded(page: Any, selector: str = "#download") -> tuple[str, Path]:
    """Download what a link leads to, and return its name and the file."""
    page.wait_for_selector(selector)
    with page.expect_download() as download:
        page.click(selector)
    return download.value.suggested_filename, Path(download.value.path())


def headline(page: Any) -> str:
    return str(page.locator(".headline").inner_text())


def test_denoise(page: Any) -> None:
    values = noisy()
    opened(page, png(values))
    choose(page, task="denoise", quality="fast")
    begin(page)
    name, path = downloaded(page)
    result = read_image(path).image
    assert name == "scan-denoised.png"
    assert (result.shape, result.dtype) == (values.shape, np.uint8)
    assert np.std(result[:, :, 2]) < np.std(values[:, :, 2])
    assert "noise" in page.locator("dl").inner_text()
    page.click("text=The same in the terminal")
    command = page.locator("#command").inner_text()
    assert command == "dipfast denoise scan.png scan-denoised.png --quality fast"
    with page.expect_popup() as popup:
        page.click("#report")
    popup.value.wait_for_load_state()
    assert "scan.png: denoise" in popup.value.title()


def test_inpaint_with_a_painted_mask(page: Any) -> None:
    values = noisy()
    opened(page, png(values))
    choose(page, task="inpaint", quality="fast", mask_kind="painted")
    page.locator("#brush").fill("6")
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    page.click("#start")
    page.wait_for_selector("text=paint over what is missing, or load a mask")
    x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + box["width"] / 4, y, steps=4)
    page.mouse.up()
    begin(page)
    name, path = downloaded(page)
    result = read_image(path).image
    _, mask_path = downloaded(page, "text=Mask")
    mask = read_image(mask_path).image > 0
    assert name == "scan-inpainted.png"
    assert mask[16, 10:20].all()
    assert 0.03 < mask.mean() < 0.15
    assert np.array_equal(result[~mask], values[~mask])
    assert not np.array_equal(result[mask], values[mask])


def test_strokes_begin_on_the_picture(page: Any) -> None:
    opened(page, png(noisy()))
    choose(page, task="inpaint", mask_kind="painted")
    page.locator("#brush").fill("1")
    box = page.locator("#canvas").bounding_box()
    assert box is not None

    def drag(*places: tuple[float, float]) -> None:
        moves = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
        page.mouse.move(*moves[0])
        page.mouse.down()
        for place in moves[1:]:
            page.mouse.move(*place)
        page.mouse.up()

    drag((0.1, 0.1), (0.2, 0.1))
    painted = page.evaluate("paint.canvas().toDataURL()")
    drag((-0.02, 0.5), (0.5, 0.5), (0.9, 0.9))
    assert page.evaluate("paint.canvas().toDataURL()") == painted


def test_what_was_painted_outlasts_a_loss_of_connection(page: Any) -> None:
    opened(page, png(noisy()))
    choose(page, task="inpaint", mask_kind="painted", max_iterations="12")
    page.click("#canvas")  # a dot
    # Longer than the framework waits by itself.
    lost = "socket.io.reconnectionDelay(4500).randomizationFactor(0).engine.close()"
    page.evaluate(lost)
    page.wait_for_function("!socket.connected")
    page.wait_for_function("socket.connected && did_handshake")
    begin(page)
    _, path = downloaded(page, "text=Mask")
    assert 0.1 < (read_image(path).image > 0).mean() < 0.9


def test_inpaint_with_a_mask_of_a_file(page: Any) -> None:
    values, mask = noisy(), np.zeros((32, 40), np.uint8)
    mask[10:14, 20:26] = 255
    opened(page, png(values))
    choose(page, task="inpaint", quality="fast", mask_kind="file")
    page.set_input_files("#mask-file", png(mask[:-1], "small.png"))
    page.wait_for_selector("text=the mask small.png has 40 x 31 pixels, expected 40 x 32")
    page.click("#start")
    page.wait_for_selector("[role=alert] >> text=paint over them, or load a mask")
    page.set_input_files("#mask-file", png(mask, "mask.png"))
    page.wait_for_selector("text=1.9% of the pixels are missing")
    begin(page)
    result = read_image(downloaded(page)[1]).image
    assert np.array_equal(result[mask == 0], values[mask == 0])


def test_only_the_mask_that_was_chosen_last_is_taken(page: Any) -> None:
    first, second = np.zeros((32, 40), np.uint8), np.zeros((32, 40), np.uint8)
    first[10:14, 20:26] = 255
    second[4:8, 4:8] = 255
    opened(page, png(noisy()))
    choose(page, task="inpaint", quality="fast", mask_kind="file")
    page.set_input_files("#mask-file", png(first, "first.png"))
    page.wait_for_selector("text=1.9% of the pixels are missing")
    # While the next one is read, there is none.
    held: list[Any] = []
    page.route("**/mask/file", lambda route: held.append(route))
    page.set_input_files("#mask-file", png(first, "again.png"))
    wait_until(page, lambda: len(held) == 1)
    page.click("#start")
    page.wait_for_selector("[role=alert] >> text=paint over them, or load a mask")
    page.set_input_files("#mask-file", png(second, "second.png"))
    # A request is told before its route is called: the route is what is waited for.
    wait_until(page, lambda: len(held) == 2)
    for route in reversed(held):
        with page.expect_response("**/mask/file"):
            route.continue_()
        page.wait_for_selector("text=1.2% of the pixels are missing")
    begin(page)
    result, values = read_image(downloaded(page)[1]).image, noisy()
    assert np.array_equal(result[second == 0], values[second == 0])


def test_enlarge(page: Any) -> None:
    opened(page, png(noisy()))
    choose(page, task="super_resolve", quality="fast", factor="2")
    begin(page)
    name, path = downloaded(page)
    assert name == "scan-enlarged.png"
    assert read_image(path).size == (64, 80)


def test_undo_blur(page: Any) -> None:
    opened(page, png(noisy()))
    choose(page, task="restore", quality="fast", blur="1.2", max_iterations="10")
    begin(page)
    name, path = downloaded(page)
    assert name == "scan-deblurred.png"
    assert read_image(path).size == (32, 40)


def test_tiff_of_16_bits_stays_one(page: Any) -> None:
    stream = io.BytesIO()
    values = np.random.default_rng(0).normal(3000, 300, (36, 36)).astype(np.uint16)
    tifffile.imwrite(stream, values, resolution=(300, 300), resolutionunit="INCH")
    opened(page, {"name": "deep.tif", "mimeType": "image/tiff", "buffer": stream.getvalue()})
    assert "16 bits" in page.locator(".top").inner_text()
    choose(page, quality="fast")
    begin(page)
    name, path = downloaded(page)
    saved = read_image(path)
    assert (name, saved.format, saved.image.dtype) == ("deep-denoised.tif", "TIFF", np.uint16)
    assert saved.metadata["resolution"].x == 300


def test_stop_and_keep_then_choose_another_picture(page: Any) -> None:
    opened(page, png(noisy()))
    choose(page, quality="fast", max_iterations=str(LONG))
    begin(page)
    page.wait_for_function("document.querySelector('.wipe img').src.includes('/live/kept')")
    page.wait_for_selector(".headline >> text=Iteration")
    # What is open stays open while its content is replaced.
    page.click("summary:has-text('Curve of the fit')")
    drawn = page.locator("svg.chart").inner_html()
    page.wait_for_function(
        "drawn => document.querySelector('svg.chart').innerHTML !== drawn", arg=drawn
    )
    assert page.locator("svg.chart").is_visible()
    page.click("text=Stop and keep this")
    page.wait_for_selector(".headline >> text=Stopped, and kept")
    assert read_image(downloaded(page)[1]).size == (32, 40)
    # The scrubber, by the keyboard: Home is the first picture of the run.
    automatic = read_image(downloaded(page)[1]).image
    page.locator("#scrub").focus()
    page.keyboard.press("Home")
    page.wait_for_function("document.querySelector('.wipe img').src.endsWith('/frame/0')")
    name = page.locator("#scrub-name").inner_text()
    assert page.locator("#scrub").get_attribute("aria-valuetext") == name
    page.click(f"text=Keep {name}")
    page.wait_for_selector("text=This one is kept")
    page.wait_for_selector("#download[href$='/result/0']")
    assert not np.array_equal(read_image(downloaded(page)[1]).image, automatic)


def test_run_goes_on_while_the_page_is_reloaded(page: Any) -> None:
    opened(page, png(noisy()))
    choose(page, quality="fast", max_iterations=str(LONG))
    begin(page)
    page.wait_for_selector(".headline >> text=Iteration")
    before = int(headline(page).split()[1])
    page.reload()
    page.wait_for_selector(".headline >> text=Iteration")
    assert int(headline(page).split()[1]) >= before
    page.wait_for_function("document.querySelector('.wipe img').naturalWidth > 0")
    page.click("text=Stop and keep this")
    page.wait_for_selector("#download")
    page.reload()
    page.wait_for_selector("#download")


def test_tabs_do_not_disturb_each_other(new_page: Callable[..., Any]) -> None:
    first, second = new_page(), new_page()
    opened(first, png(noisy(seed=1), "first.png"))
    opened(second, png(noisy((24, 24), seed=2), "second.png"))
    choose(first, quality="fast", max_iterations=str(LONG))
    begin(first)
    first.wait_for_selector(".headline >> text=Iteration")
    choose(second, quality="fast")
    begin(second)
    second.wait_for_selector("text=Waiting for another run")
    first.click("text=Stop and keep this")
    name, path = downloaded(second)
    assert (name, read_image(path).size) == ("second-denoised.png", (24, 24))
    name, path = downloaded(first)
    assert (name, read_image(path).size) == ("first-denoised.png", (32, 40))


def test_bad_file_is_told_and_the_studio_goes_on(page: Any) -> None:
    bad = {"name": "../bad.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\nnonsense"}
    page.set_input_files("#file", bad)
    page.wait_for_selector("[role=alert] >> text=cannot read bad.png")
    opened(page, png(noisy()))
    choose(page, sigma="-1")
    page.click("#start")
    page.wait_for_selector("[role=alert] >> text=Noise must be")
    choose(page, sigma="20", quality="fast")
    begin(page)
    page.wait_for_selector("#download")


def test_folder_that_is_dropped_is_told(page: Any) -> None:
    # A browser gives it as a file that cannot be read.
    page.evaluate(
        """() => {
            const item = { webkitGetAsEntry: () => ({ isDirectory: true, name: "scan.zarr" }) };
            const dropped = new Event("drop", { bubbles: true, cancelable: true });
            dropped.dataTransfer = { files: [new File([], "scan.zarr")], items: [item] };
            document.getElementById("drop").dispatchEvent(dropped);
        }"""
    )
    page.wait_for_selector("[role=alert] >> text=scan.zarr is a folder")


def test_only_the_picture_that_was_chosen_last_is_opened(page: Any) -> None:
    held: list[Any] = []
    page.route("**/upload", lambda route: held.append(route))
    page.set_input_files("#file", png(noisy(), "first.png"))
    wait_until(page, lambda: len(held) == 1)
    page.set_input_files("#file", png(noisy((24, 24)), "second.png"))
    wait_until(page, lambda: len(held) == 2)
    with page.expect_response("**/upload"):
        held[0].continue_()
    page.wait_for_timeout(100)
    held[1].continue_()
    page.wait_for_url("**/picture/*")
    page.wait_for_selector(".top >> text=second.png")


def test_failed_run_is_told(page: Any) -> None:
    stream = io.BytesIO()
    values = np.full((16, 16), np.nan, np.float32)
    values[0] = 1
    tifffile.imwrite(stream, values)
    opened(page, {"name": "nan.tif", "mimeType": "image/tiff", "buffer": stream.getvalue()})
    choose(page, quality="fast")
    begin(page)
    page.wait_for_selector(".headline >> text=This did not work")
    assert page.locator("[role=alert]").inner_text()


def test_pages_of_nothing_are_told(page: Any, studio: Studio) -> None:
    page.goto(f"{studio.address}run/999")
    page.wait_for_selector("text=There is no run 999")
    page.goto(f"{studio.address}picture/999")
    page.wait_for_selector("text=There is no picture 999")


def tab_to(page: Any, selector: str, most: int = 30) -> None:
    """Press Tab until something has the focus, which must be seen there."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            seen = page.evaluate(
                """() => {
                  const shown = (element) => element && getComputedStyle(element).outlineStyle;
                  const focus = document.activeElement;
                  return [shown(focus), shown(focus.nextElementSibling)];
                }"""
            )
            assert "solid" in seen, f"the focus of {selector} is not seen"
            return
    raise AssertionError(f"Tab does not reach {selector}")


def test_keyboard_alone(page: Any) -> None:
    values, mask = noisy(), np.zeros((32, 40), np.uint8)
    mask[4:8, 4:8] = 255
    page.wait_for_selector("#file", state="attached")
    tab_to(page, "#file")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(png(values))
    page.wait_for_url("**/picture/*")
    page.wait_for_selector("#start")
    tab_to(page, "input[name=task]")
    page.keyboard.press("ArrowDown")
    assert page.locator("input[name=task][value=inpaint]").is_checked()
    tab_to(page, "input[name=quality]")
    page.keyboard.press("ArrowLeft")
    assert page.locator("input[name=quality][value=fast]").is_checked()
    tab_to(page, "input[name=mask_kind]")
    page.keyboard.press("ArrowRight")
    tab_to(page, "#mask-file")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(png(mask, "mask.png"))
    page.wait_for_selector("text=1.2% of the pixels are missing")
    tab_to(page, "summary")
    page.keyboard.press("Enter")
    tab_to(page, "#max_iterations")
    page.keyboard.type(str(LONG))
    tab_to(page, "#start")
    page.keyboard.press("Enter")
    page.wait_for_url("**/run/*")
    page.wait_for_selector(".headline >> text=Iteration")
    tab_to(page, "#wipe")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    wiped = "getComputedStyle(document.querySelector('.wipe')).getPropertyValue('--at')"
    assert page.evaluate(wiped) == "52%"
    tab_to(page, "input[name=zoom]")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.wipe').clientWidth === 40")
    tab_to(page, "[data-name=stop]")
    page.keyboard.press("Space")
    page.wait_for_selector("#download")
    tab_to(page, "#download")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "scan-inpainted.png"
    tab_to(page, "#scrub")


def test_phone(new_page: Callable[..., Any]) -> None:
    page = new_page()
    page.set_viewport_size({"width": 375, "height": 700})

    def fits() -> None:
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 375, f"{page.url} is {width} wide"

    fits()
    opened(page, png(noisy(), "a_long_name_without_any_blank_" * 3 + ".png"))
    for task in ("denoise", "super_resolve", "restore", "inpaint"):
        choose(page, task=task)
        fits()
    choose(page, task="denoise", quality="fast", max_iterations="12")
    begin(page)
    fits()
    page.wait_for_selector("#download")
    page.click("text=The same in the terminal")
    fits()
    page.locator("input[name=zoom][value='4']").check()
    fits()
    page.goto(page.url.rpartition("/run/")[0])
    page.wait_for_selector(".runs a")
    fits()


def test_nothing_leaves_this_computer(page: Any, studio: Studio) -> None:
    opened(page, png(noisy()))
    choose(page, quality="fast")
    begin(page)
    page.wait_for_selector("#download")
    page.wait_for_load_state("networkidle")
    assert len(studio.requests) > 20
    hosts = {
        urlsplit(url).hostname for url in studio.requests if not url.startswith(("data:", "blob:"))
    }
    assert hosts == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
    ],
)
@pytest.mark.parametrize("path", ["/", "/_nicegui_ws/socket.io/?EIO=4&transport=polling"])
def test_other_pages_cannot_drive_it(
    studio: Studio, path: str, headers: dict[str, str], status: int
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", studio.port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        assert connection.getresponse().status == status
    finally:
        connection.close()


def test_sockets_of_other_pages_are_refused(studio: Studio) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", studio.port, timeout=20)
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    path = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    try:
        connection.request("GET", path, headers={**upgrade, "Origin": "http://evil.example"})
        assert connection.getresponse().status == 403
    finally:
        connection.close()


def test_uploads_need_the_header_of_the_own_pages(studio: Studio) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", studio.port, timeout=20)
    try:
        connection.request("POST", "/upload", body=b"x")
        answer = connection.getresponse()
        assert answer.status == 400
        assert b"from the pages of the studio" in answer.read()
    finally:
        connection.close()


def test_ctrl_c_ends_it_and_leaves_nothing(studio: Studio, browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    Image.fromarray(noisy()).save(path)
    folder = tmp_path / "files"
    folder.mkdir()
    other = start_studio(folder, str(path))
    assert other.port != studio.port  # the next free one
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(other.address)
    page.wait_for_selector("#start")
    choose(page, quality="fast", max_iterations=str(LONG))
    begin(page)
    page.wait_for_selector(".headline >> text=Iteration")
    assert len(list(folder.glob("dipfast-studio-*"))) == 1
    printed = end_studio(other)
    page.close()
    assert other.process.returncode == 0
    # Where the machine is busy, libraries may tell of what they could not end in time.
    assert printed.splitlines()[-1] == "the studio is closed"
    # Libraries may have left something of their own.
    assert not list(folder.glob("dipfast-studio-*"))
    assert not (folder / ".nicegui").exists()
