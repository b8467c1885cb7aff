"""One page of a result, an HTML file that needs nothing else: pictures, curves and settings.

``views.py`` makes pixels of the image and its result, ``charts.py`` draws curves, ``sections.py``
writes the sections, ``repeat.py`` the call that makes the result again, and ``style.py`` has the
style sheet and the script.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from dipfast._native import __version__
from dipfast.apps.page import sections
from dipfast.apps.page.style import SCRIPT, STYLE
from dipfast.apps.page.views import make_views
from dipfast.errors import InputError
from dipfast.images.files import check_place, write_atomically
from dipfast.run.result import Result

__all__ = ["check_page", "save_page"]

_SUFFIXES = (".html", ".htm")
# The page may load nothing from anywhere, whatever it is given to show.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def check_page(path: str | Path, *, overwrite: bool = False) -> None:
    """Find out, before any work is done, whether a page can be written there.

    Parameters
    ----------
    path
        The file.
    overwrite
        Whether an existing file may be replaced; not by default.

    Raises
    ------
    InputError
        If the name does not end in ``.html`` or ``.htm``.
    OSError
        If the folder does not exist or cannot be written into, or there is something else of that
        name.
    WouldOverwriteError
        If the file exists, and may not be replaced.
    """
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"a page must be named .html, got {path}")
    check_place(path, overwrite=overwrite)


def save_page(
    result: Result,
    image: Any,
    path: str | Path,
    *,
    name: str = "",
    command: str = "",
    log_x: bool = False,
    inks: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a page that shows a result beside its input, to be opened in a browser.

    It is one HTML file that loads nothing: before and after under a slider, the places where they
    differ most, the curves of a fit, input minus result and whether that looks like white noise,
    what was joined, snapshots, settings, versions, and the call that makes it again.

    Parameters
    ----------
    result
        The result of a restoration of one image.
    image
        The image that was restored.
    path
        The file to write, which ends in ``.html`` or ``.htm``.
    name
        What the page is named after, such as the name of a file; the task alone by default.
    command
        The command that made the result; by default the call in Python is shown.
    log_x
        Whether the axis of the iterations is logarithmic; not by default.
    inks
        Whether the channels are the inks of print, whose least value is shown as white; not by
        default.
    overwrite
        Whether an existing file may be replaced; not by default, so that nothing is lost.

    Raises
    ------
    InputTypeError
        If ``image`` is neither an array nor a tensor.
    InputError
        If the result is that of a batch of several images, ``image`` is not the one that was
        restored, or the name of the file has another ending.
    OSError
        If the file cannot be written.
    WouldOverwriteError
        If it exists, and may not be replaced.

    Notes
    -----
    Pictures are shown in 8 bits, with the ends of the value range as black and white.  One and
    three channels are shown as they are, and of other numbers the mean.  Pictures of more than 1200
    rows or columns are reduced, which the page says; zooms are of full pixels.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import dipfast
    >>> noisy = np.random.default_rng(0).normal(128, 20, (32, 32)).clip(0, 255).astype("uint8")
    >>> result = dipfast.denoise(noisy, quality="fast")
    >>> path = Path(tempfile.mkdtemp()) / "result.html"
    >>> dipfast.save_page(result, noisy, path)
    >>> path.read_text(encoding="utf-8").partition("\\n")[0]
    '<!DOCTYPE html>'
    """
    check_page(path, overwrite=overwrite)
    text = _page(result, image, name, command, log_x, inks)
    with write_atomically(path, overwrite=overwrite) as stream:
        # Names of files may hold bytes that are no text.
        stream.write(text.encode("utf-8", "replace"))


def _page(result: Result, image: Any, name: str, command: str, log_x: bool, inks: bool) -> str:
    views = make_views(result, image, inks=inks)
    task = str(result.settings.get("task", "restoration"))
    title = escape(f"{name}: {task}" if name else task)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>",
        f"<style>{STYLE}</style>",
        "</head>",
        "<body>",
        f"<header><h1>{title}</h1>",
        f'<p class="note">Made by dipfast {escape(__version__)}.</p></header>',
        "<main>",
        sections.before_and_after(views),
        sections.figures(result),
        sections.zooms(views),
        sections.residual(result, views),
        sections.members(result, views),
        sections.curves(result, log_x=log_x),
        sections.snapshots(result, views),
        sections.settings(result),
        sections.repeat(result, command),
        "</main>",
        f"<script>{SCRIPT}</script>",
        "</body>",
        "</html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"
