"""The sections of a page, as HTML: every text in it is escaped here."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

import numpy as np

from dipfast.apps.page.charts import Curve, Mark, chart
from dipfast.apps.page.repeat import python_call
from dipfast.apps.page.views import Difference, Views
from dipfast.apps.report import choose_snapshots
from dipfast.images.display import encode_png, reduce, to_8_bits, to_planes
from dipfast.run.hints import COARSE, NEARLY_WHITE
from dipfast.run.result import Result, figures_of

__all__ = [
    "before_and_after",
    "curves",
    "figures",
    "members",
    "repeat",
    "residual",
    "settings",
    "snapshots",
    "zooms",
]

# Rows and columns of pictures that are shown: the large ones, and those in a row of several.
_LARGE, _SMALL = 1200, 300
# A picture with fewer columns is shown enlarged, by a whole number.
_LEAST = 480
_ZOOM_FACTOR = 4
# Of so few values a correlation says nothing.
_FEW = 400


def figures(result: Result) -> str:
    """Return the numbers of a result, its hints, and whether it is unfinished."""
    parts = ["<section>", "<h2>Result</h2>"]
    if result.unfinished is not None:
        parts.append(f'<p class="warning"><strong>Unfinished:</strong> {_e(result.unfinished)}</p>')
    parts.append(_table(figures_of(result)))
    parts += [f'<p class="note">Hint: {_e(hint)}</p>' for hint in result.hints]
    return "\n".join([*parts, "</section>"])


def before_and_after(views: Views) -> str:
    """Return both pictures, one over the other with a slider; beside each other if sizes differ."""
    parts = ["<section>", "<h2>Before and after</h2>"]
    before, after = reduce(views.before, _LARGE), reduce(views.after, _LARGE)
    first = "Before (enlarged)" if views.is_enlarged else "Before"
    if views.is_aligned:
        width = after.shape[1]
        scale = _scale(width, _LEAST)
        parts.append(
            f'<div class="wipe" id="wipe" style="width: {scale * width}px">'
            f"{_image(after, 'After', scale)}{_image(before, first, scale)}</div>"
            f'<div style="width: {scale * width}px; max-width: 100%">'
            '<input class="wipe-slider" type="range" min="0" max="100" value="50" step="any" '
            'data-of="wipe" aria-label="How much of the picture shows before instead of after">'
            f'<div class="ends note"><span>{first}: left of the line</span>'
            "<span>After: right of the line</span></div></div>"
        )
    else:
        parts.append('<div class="row">')
        for name, pixels in ((first, before), ("After", after)):
            scale = _scale(pixels.shape[1], _LEAST)
            parts.append(_figure(pixels, name, name, scale=scale))
        parts.append("</div>")
    notes = list(views.notes)
    if after.shape != views.after.shape or before.shape != views.before.shape:
        height, width = views.after.shape[:2]
        notes.append(
            f"The pictures are reduced to {after.shape[1]} of {width} columns and "
            f"{after.shape[0]} of {height} rows."
        )
    if notes:
        parts.append(f'<p class="note">{_e(" ".join(notes))}</p>')
    return "\n".join([*parts, "</section>"])


def zooms(views: Views) -> str:
    """Return the places where both pictures differ most; empty if there are none."""
    if not views.zooms:
        return ""
    parts = [
        "<section>",
        "<h2>Where they differ most</h2>",
        f'<p class="note">Every pixel is shown as {_ZOOM_FACTOR} x {_ZOOM_FACTOR} pixels.</p>',
    ]
    for zoom in views.zooms:
        height, width = zoom.before.shape[:2]
        place = (
            f"rows {zoom.top} to {zoom.top + height - 1}, "
            f"columns {zoom.left} to {zoom.left + width - 1}"
        )
        parts.append('<div class="row">')
        for name, pixels in (("Before", zoom.before), ("After", zoom.after)):
            larger = pixels.repeat(_ZOOM_FACTOR, axis=0).repeat(_ZOOM_FACTOR, axis=1)
            parts.append(_figure(larger, f"{name}, {place}", f"{name}: {place}", sharp=True))
        parts.append("</div>")
    return "\n".join([*parts, "</section>"])


def curves(result: Result, *, log_x: bool = False) -> str:
    """Return loss and PSNR over the iterations; empty if there were none."""
    history = result.history
    iterations = history.get("iteration") or []
    if not iterations:
        return ""
    marks = [Mark(f"returned ({result.best_iteration})", "good", result.best_iteration)]
    if result.stop_iteration != result.best_iteration:
        marks.append(Mark(f"last ({result.stop_iteration})", "faint", result.stop_iteration))
    is_joined = bool(result.members)
    # Of tiles, every row is one of them: only they have a weight.
    has_tiles = "weight" in history
    # What is joined, and a picture of tiles, is that of no iteration, and no iteration is returned
    # that there was not.
    has_iteration = not (is_joined or has_tiles)
    inside = [m for m in marks if iterations[0] <= m.at <= iterations[-1] and has_iteration]
    stages = () if has_tiles else history.get("stage", ())
    loss = [Curve("objective", "one", history["loss"])]
    if "data" in history and list(history["data"]) != list(history["loss"]):
        loss.append(Curve("data term", "two", history["data"]))
    drawn = [
        chart(
            "Objective over the iterations",
            "per element",
            iterations,
            loss,
            inside,
            stages,
            log_x=log_x,
            log_y=True,
        )
    ]
    if "psnr_average" in history:
        of_psnr = list(inside)
        metrics = result.metrics
        if "oracle_iteration" in metrics:
            at = int(metrics["oracle_iteration"])
            of_psnr.append(
                Mark(
                    f"highest ({at}: {metrics['psnr_oracle']:.2f} dB)",
                    "warn",
                    metrics["oracle_iteration"],
                )
            )
        if "psnr_input" in metrics:
            of_psnr.append(Mark("input", "faint", metrics["psnr_input"], "y"))
        both = [
            Curve("output", "two", history["psnr"]),
            Curve("running average", "one", history["psnr_average"]),
        ]
        drawn.append(
            chart(
                "PSNR over the iterations",
                "PSNR (dB)",
                iterations,
                both,
                of_psnr,
                stages,
                log_x=log_x,
            )
        )
    if not any(drawn):
        return ""
    note = (
        '<p class="note">They are those of the fits, one after the other; the result is joined.</p>'
    )
    parts = ["<section>", "<h2>Curves</h2>", *([note] if is_joined else [])]
    return "\n".join([*parts, '<div class="row">', *drawn, "</div></section>"])


def residual(result: Result, views: Views) -> str:
    """Return input minus result, and what it looks like; empty if their sizes differ."""
    difference = views.difference
    if difference is None:
        return ""
    pixels = reduce(difference.pixels, _LARGE // 2)
    scale = _scale(pixels.shape[1], _LEAST // 2)
    parts = [
        "<section>",
        "<h2>Input minus result</h2>",
        _figure(
            pixels,
            "Input minus result",
            "Grey is 0; black and white are three times its root mean square.",
            scale=scale,
        ),
        f"<p>{_e(_describe_difference(result, difference))}</p>",
    ]
    return "\n".join([*parts, "</section>"])


def _describe_difference(result: Result, difference: Difference) -> str:
    """Return whether a difference looks like white noise, in words."""
    if difference.size == 0 and result.settings.get("task") == "inpaint":
        return "Every known pixel is as it was."
    if difference.size == 0:
        return "Input and result are the same."
    size = f"Its root mean square is {difference.size:.3g}"
    task, found = result.settings.get("task"), result.found
    if task == "inpaint":
        return f"{size}. Where pixels were filled in, it says nothing of noise."
    related = f"{size}, and neighbours correlate by {difference.related:.2f}"
    if difference.count < _FEW:
        return f"{related}; there are too few values to say whether it looks like white noise."
    if abs(difference.related) < NEARLY_WHITE:
        looks = (
            "by that it looks like white noise. Outlines that are seen in it are details that were "
            "taken away."
        )
    elif difference.related > COARSE:
        looks = "it does not look like white noise, but is coarse, or has structure of the picture."
    elif difference.related > 0:
        looks = "it looks nearly, but not entirely, like white noise."
    else:
        looks = "it does not look like white noise: neighbours differ more than they would."
    more = ""
    if task == "restore":
        more = " The operator changes the picture too, so it is more than what was taken for noise."
    elif found.get("jpeg_quality") is not None:
        more = " Artefacts of JPEG, which were taken out, are not white."
    elif (found.get("noise") or [{}])[0].get("spectrum") is not None:
        more = " The noise of the input was taken for correlated, and is not white either."
    return f"{related}: {looks}{more}"


def members(result: Result, views: Views) -> str:
    """Return what a result was joined of, with weights; empty if it is not joined."""
    if not result.members:
        return ""
    parts = ["<section>", "<h2>What it is joined of</h2>", '<div class="row">']
    for member in result.members:
        planes = to_planes(member.image, result.channel_axis)
        pixels = reduce(to_8_bits(planes, views.data_range), _SMALL)
        parts.append(_figure(pixels, member.name, f"{member.name}: weight {member.weight:.3f}"))
    return "\n".join([*parts, "</div></section>"])


def snapshots(result: Result, views: Views) -> str:
    """Return pictures of some iterations; empty if none were kept."""
    if not result.snapshots:
        return ""
    parts = ["<section>", "<h2>Iterations</h2>", '<div class="row">']
    for snapshot in choose_snapshots(result.snapshots):
        planes = to_planes(snapshot.image, result.channel_axis)
        name = f"iteration {snapshot.iteration}"
        parts.append(_figure(reduce(to_8_bits(planes, views.data_range), _SMALL), name, name))
    return "\n".join([*parts, "</div></section>"])


def settings(result: Result) -> str:
    """Return tables of the settings, of what was found, and of the versions."""
    found = dict(result.found)
    versions = found.pop("versions", {})
    parts = ["<section>", "<h2>Settings</h2>"]
    for title, rows, is_open in (
        ("As they were given", result.settings, True),
        ("Found and decided", found, False),
        ("Versions", versions, True),
    ):
        if rows:
            parts.append(
                f"<details{' open' if is_open else ''}><summary>{title}</summary>"
                f"{_table(_flat(rows))}</details>"
            )
    return "\n".join([*parts, "</section>"])


def repeat(result: Result, command: str) -> str:
    """Return how the result is made again; empty if that is not known."""
    call = command or python_call(result.settings, is_jpeg="jpeg_quality" in result.found)
    if not call:
        return ""
    where = "On the command line" if command else "In Python"
    hidden = (
        '<p class="note">What stands there as ... was made by hand; the settings above name it.</p>'
        if not command and "=..." in call
        else ""
    )
    shown = f"<pre><code>{_e(call)}</code></pre>"
    return f"<section><h2>Again</h2><p>{where}:</p>{shown}{hidden}</section>"


# --- parts of sections ---------------------------------------------------------------------


def _e(text: object) -> str:
    return escape(str(text), quote=True)


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = (
        f'<tr><th scope="row">{_e(name)}</th><td>{_e(value)}</td></tr>' for name, value in rows
    )
    return f"<table>{''.join(cells)}</table>"


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield names and values, those of a table in a table as ``outer.inner``."""
    for name, value in values.items():
        inner = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(inner, dict):
            yield from _flat(inner, f"{prefix}{name}.")
        elif inner is None:
            yield prefix + name, "none"
        elif isinstance(inner, str):
            yield prefix + name, inner
        else:
            yield prefix + name, json.dumps(inner, default=str)


def _scale(width: int, least: int) -> int:
    """Return the least whole number that makes a picture at least so wide."""
    return -(-least // width)


def _figure(
    pixels: np.ndarray[Any, Any], alt: str, caption: str, *, scale: int = 1, sharp: bool = False
) -> str:
    image = _image(pixels, alt, scale, sharp=sharp)
    return f"<figure>{image}<figcaption>{_e(caption)}</figcaption></figure>"


def _image(pixels: np.ndarray[Any, Any], alt: str, scale: int = 1, *, sharp: bool = False) -> str:
    data = base64.b64encode(encode_png(pixels)).decode("ascii")
    height, width = (scale * length for length in pixels.shape[:2])
    style = ' class="sharp"' if sharp or scale > 1 else ""
    # Both sizes are told, and the style sheet keeps them within the page.
    return (
        f'<img{style} src="data:image/png;base64,{data}" alt="{_e(alt)}" '
        f'width="{width}" height="{height}">'
    )
