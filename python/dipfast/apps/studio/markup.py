"""Parts of the pages as HTML: every text in them is escaped here.

Controls are those of HTML itself, so that the keyboard works as everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from types import MappingProxyType

from dipfast.apps.studio.orders import QUALITIES, TASK_WORDS, help_of
from dipfast.apps.studio.pictures import Picture
from dipfast.apps.studio.previews import shown_size
from dipfast.apps.studio.runs import LARGEST_UPLOAD, Run, View
from dipfast.images.files import formats
from dipfast.settings.names import FACTORS, TaskName
from dipfast.settings.option import options_of
from dipfast.settings.settings import POOR_JPEG, SETTINGS

__all__ = [
    "HEAD",
    "again",
    "before",
    "begin",
    "command",
    "downloads",
    "duration",
    "fields",
    "figures",
    "header",
    "notes",
    "paint_tools",
    "painting",
    "problem",
    "progress",
    "runs",
    "scrubber",
    "start",
    "status",
    "swap",
    "wipe",
]

HEAD = (
    '<link rel="stylesheet" href="/static/studio.css">'
    '<script src="/static/studio.js" defer></script>'
    '<meta name="color-scheme" content="light dark">'
)
"""What every page has in its head."""

_QUALITY_HELP = {"fast": "seconds", "balanced": "minutes", "best": "longer"}


def _e(text: object) -> str:
    return escape(str(text), quote=True)


def header(title: str, note: str) -> str:
    """Return the top of a page."""
    return (
        '<a class="home" href="/">dipfast studio</a>'
        f'<h1>{_e(title)}</h1><p class="note">{_e(note)}</p>'
    )


def start() -> str:
    """Return what takes a picture."""
    names, size = formats.all_names(folders=False), LARGEST_UPLOAD // 10**6
    return (
        f'<div class="drop" id="drop" data-most="{LARGEST_UPLOAD}">'
        '<input type="file" id="file" class="hidden-input">'
        '<label for="file" class="button main">Choose a picture</label>'
        "<p>or drop one here</p>"
        f'<p class="note" id="file-note">{_e(names)}, up to {size} MB. '
        "It stays on the computer that the studio runs on.</p>"
        '<progress id="upload" max="1" value="0" hidden aria-label="Upload"></progress>'
        '<p class="error" role="alert" id="upload-error"></p></div>'
    )


def runs(items: Sequence[tuple[Run, View]]) -> str:
    """Return a list of the runs there are, the last one first; empty if there are none."""
    if not items:
        return ""
    rows = "".join(
        f'<li><a href="/run/{run.number}"><img src="/picture/{run.picture.number}/before" alt="">'
        f"<span><strong>{_e(run.picture.name)}</strong><br>{_e(run.order.describe())}</span>"
        f'<span class="note">{status(view)}</span></a></li>'
        for run, view in reversed(items)
    )
    return f'<h2>Runs</h2><ul class="runs">{rows}</ul>'


def painting(picture: Picture) -> str:
    """Return the picture, with a canvas over it that masks are painted on."""
    shown, number = picture.preview, picture.number
    size = f'width="{shown.width}" height="{shown.height}"'
    return (
        f'<div class="paint">'
        f'<img src="/picture/{number}/before" {size} alt="{_e(picture.name)}">'
        f'<canvas id="canvas" {size} data-picture="{number}" hidden></canvas></div>'
    )


def paint_tools() -> str:
    """Return what chooses the brush."""
    return (
        '<div class="tools"><span class="brush">'
        '<label for="brush">Brush</label>'
        '<input type="range" id="brush" min="1" max="128" value="24">'
        '<output id="brush-size" for="brush">24</output></span>'
        '<button type="button" id="eraser" aria-pressed="false">Eraser</button>'
        '<button type="button" id="clear">Clear</button></div>'
        '<p class="note" id="painted" aria-live="polite">Paint over what is missing. '
        "With the keyboard, load a mask instead.</p>"
    )


def fields(picture: Picture) -> str:
    """Return the fields of the form that says what to do with a picture."""
    return "".join(
        (
            _group("What to do", _tasks()),
            _group("How much work", _qualities()),
            _only("inpaint", _group("What is missing", _missing(picture))),
            _only("super_resolve", _group("How many times larger", _factors())),
            _only("restore", _group("The blur", _blur())),
            *([_only("denoise", _artefacts(picture))] if picture.jpeg_quality is not None else ()),
            _more(picture),
        )
    )


def _group(title: str, content: str) -> str:
    return f"<fieldset><legend>{_e(title)}</legend>{content}</fieldset>"


def _only(task: str, content: str) -> str:
    return f'<div class="of" data-of="{task}">{content}</div>'


def _radios(name: str, items: Iterable[tuple[str, str, str]], chosen: str, kind: str) -> str:
    cards = "".join(
        f'<label class="choice"><input type="radio" name="{name}" value="{_e(value)}"'
        f"{' checked' if value == chosen else ''}><span><b>{_e(title)}</b>"
        f"{f'<small>{_e(help)}</small>' if help else ''}</span></label>"
        for value, title, help in items
    )
    return f'<div class="choices {kind}">{cards}</div>'


def _tasks() -> str:
    items = [(name, words.title, words.help) for name, words in TASK_WORDS.items()]
    return _radios("task", items, "denoise", "two")


def _qualities() -> str:
    items = [(name, name.capitalize(), _QUALITY_HELP[name]) for name in QUALITIES]
    return _radios("quality", items, "balanced", "three")


def _factors() -> str:
    items = [(str(factor), f"{factor} times", "") for factor in FACTORS]
    return _radios("factor", items, str(FACTORS[0]), "four")


def _missing(picture: Picture) -> str:
    items = [
        ("painted", "Paint it", "over the picture"),
        ("file", "Load a mask", "white on black"),
    ]
    if picture.is_transparent:
        items.append(("transparent", "Transparent pixels", "of the picture"))
    return (
        _radios("mask_kind", items, "painted", "two")
        + '<div class="of-mask" data-of="painted">'
        + paint_tools()
        + "</div>"
        '<div class="of-mask" data-of="file"><label for="mask-file">Picture of the mask</label>'
        '<input type="file" id="mask-file">'
        f'<p class="note" id="mask-note" aria-live="polite">{picture.size[1]} x {picture.size[0]} '
        "pixels; what is not black is missing.</p></div>"
        '<input type="hidden" name="mask" id="mask" value="">'
    )


def _field(
    name: str,
    title: str,
    help: str,
    placeholder: str,
    kind: str = "decimal",
    *,
    by_task: Mapping[TaskName, str] = MappingProxyType({}),
) -> str:
    """Return a field with its help, and what is said besides where a task is chosen."""
    further = "".join(
        f'<span class="of" data-of="{task}">{_e(text)}</span>' for task, text in by_task.items()
    )
    return (
        f'<label class="field" for="{name}">{_e(title)}</label>'
        f'<input type="text" inputmode="{kind}" id="{name}" name="{name}" '
        f'placeholder="{_e(placeholder)}" aria-describedby="{name}-help" autocomplete="off">'
        f'<p class="note" id="{name}-help">{_e(help)}{further}</p>'
    )


def _blur() -> str:
    return _field("blur", "Blur in pixels", "Standard deviation of the Gaussian blur.", "1.6")


def _artefacts(picture: Picture) -> str:
    quality = picture.jpeg_quality or 100
    checked = " checked" if quality <= POOR_JPEG else ""
    return (
        f'<label class="check"><input type="checkbox" name="jpeg" value="yes"{checked}>'
        f"<span>Take out artefacts of JPEG (quality about {quality}) in the place of noise"
        "</span></label>"
    )


def _no_sigma(task: TaskName) -> str:
    """Return what the noise is where the field is empty."""
    if options_of(SETTINGS[task])["sigma"].default == "auto":
        return "Empty, it is found in the picture."
    return "Empty, there is none; auto finds it in the picture, and takes fine texture for noise."


def _more(picture: Picture) -> str:
    unit = "" if picture.dtype != "uint8" else " Values are from 0 to 255."
    return (
        "<details><summary>More options</summary>"
        + _field(
            "sigma",
            "Noise",
            help_of("denoise", "sigma") + unit,
            "a number, or auto",
            "text",
            by_task={task: _no_sigma(task) for task in TASK_WORDS},
        )
        + _field(
            "max_iterations",
            "Iterations",
            help_of("denoise", "max_iterations"),
            "as the work says",
            "numeric",
        )
        + "</details>"
    )


# --- the page of a run ---------------------------------------------------------------------


def progress(view: View) -> str:
    """Return how far a run is."""
    parts = [f'<p class="headline">{_e(view.headline)}</p>']
    if view.error:
        parts.append(f'<p class="error" role="alert">{_e(view.error)}</p>')
    if not view.is_over:
        # Without a value it says that something goes on, and not how much of it.
        value = "" if view.share is None else f' value="{view.share:.4f}"'
        parts.append(f'<progress max="1"{value} aria-label="Progress"></progress>')
        left = "" if view.seconds_left is None else f"at most {duration(view.seconds_left)} left"
        stage = f"stage {view.stage}" if view.stage else ""
        text = ", ".join(filter(None, (left, stage)))
        parts.append(f'<p class="note">{_e(text) or "&nbsp;"}</p>')
        if view.is_fit:
            parts.append(
                '<p class="note">The fit at work is shown; what is kept is its best picture.</p>'
            )
    return "".join(parts)


def duration(seconds: float) -> str:
    """Return a time in words, roughly.

    Examples
    --------
    >>> duration(3.2), duration(75), duration(4000)
    ('4 s', '2 min', '1 h 7 min')
    """
    if seconds < 60:
        return f"{int(seconds) + 1} s"
    minutes = -(-int(seconds) // 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def notes(texts: Sequence[str]) -> str:
    """Return what the library warned of; empty if there is nothing."""
    if not texts:
        return ""
    return f'<ul class="notes">{"".join(f"<li>{_e(text)}</li>" for text in texts)}</ul>'


def figures(run: Run) -> str:
    """Return what is told of a result."""
    rows = "".join(
        f"<dt>{_e(name)}</dt><dd>{'<br>'.join(map(_e, text.splitlines()))}</dd>"
        for name, text in run.figures()
    )
    return f"<dl>{rows}</dl>" if rows else ""


def downloads(run: Run, place: int) -> str:
    """Return links to the files of a result."""
    base, picture = f"/run/{run.number}", run.picture
    name = run.order.result_name(picture)
    links = [
        f'<a class="button main" id="download" href="{base}/result/{place}" '
        f'download="{_e(name)}">Download {_e(picture.suffix.lstrip(".").upper())}</a>',
        f'<a class="button" id="report" href="{base}/report/{place}" target="_blank" '
        'rel="noopener">Report</a>',
    ]
    if run.order.mask is not None:
        links.append(
            f'<a class="button" href="{base}/mask" '
            f'download="{_e(run.order.mask_name(picture))}">Mask</a>'
        )
    return (
        f'<p class="row">{"".join(links)}</p>'
        f'<p class="note">{_e(name)}, {_e(picture.describe_results())}</p>'
    )


def command(run: Run) -> str:
    """Return the command that repeats a run."""
    note = run.reservation(run.kept)
    return (
        f'<pre><code id="command">{_e(run.order.command(run.picture))}</code></pre>'
        '<button type="button" id="copy">Copy</button>'
        f'<p class="note" id="copied" aria-live="polite">{_e(note)}</p>'
    )


def scrubber(run: Run) -> str:
    """Return the slider over the pictures of a run; empty if there is only one."""
    frames = run.frames
    if len(frames) < 2:
        return ""
    names = json.dumps([frame.name for frame in frames])
    share = run.automatic / (len(frames) - 1)
    side = "end" if share > 0.5 else "start"
    return (
        '<label for="scrub">Pictures of the run</label>'
        f'<input type="range" id="scrub" min="0" max="{len(frames) - 1}" value="{run.kept}" '
        f'data-names="{_e(names)}" aria-valuetext="{_e(frames[run.kept].name)}">'
        f'<div class="marks" style="--share: {share:.4f}"><span class="mark {side}">'
        "automatic choice</span></div>"
        f'<output id="scrub-name" for="scrub">{_e(frames[run.kept].name)}</output>'
    )


def before(run: Run) -> str:
    """Return the input, which lies over the result."""
    return f'<img src="/picture/{run.picture.number}/before" alt="Before">'


def wipe(run: Run) -> str:
    """Return the slider between before and after, and the zoom."""
    rows, columns = run.picture.size
    return (
        '<input type="range" id="wipe" min="0" max="100" value="50" step="1" '
        'aria-label="How much of the picture shows before instead of after">'
        '<div class="ends note"><span>Before</span><span>After</span></div>'
        + _zoom((run.order.factor * rows, run.order.factor * columns))
    )


def swap(address: str, *, is_fit: bool) -> str:
    """Return the small picture beside the large one, in the button that swaps them."""
    name = "The fit at work" if is_fit else "What is kept so far"
    return f'<img src="{address}" alt=""><span>{name}<small>Show it large</small></span>'


def status(view: View) -> str:
    """Return what changes only when a run begins or ends."""
    return _e("Running" if view.status == "running" else view.headline)


def again(run: Run) -> str:
    """Return where the same picture is restored with other settings."""
    return f'<p><a href="/picture/{run.picture.number}">Restore this picture otherwise</a></p>'


def begin() -> str:
    """Return the button that begins a run."""
    return '<button type="submit" id="start" class="button main wide">Start</button>'


def problem(message: str) -> str:
    """Return what is wrong with a form."""
    return f"<p>{_e(message)}</p>"


def _zoom(size: tuple[int, int]) -> str:
    """Return what chooses how large a picture of so many rows and columns is shown."""
    items, note = [("fit", "Fit"), ("1", "1:1"), ("2", "2:1"), ("4", "4:1")], ""
    rows, columns = shown_size(size)
    if (rows, columns) != size:
        # No zoom shows pixels that were not sent.
        items = [("fit", "Fit"), ("1", "Larger")]
        text = f"Shown reduced to {columns} x {rows} pixels; the download has them all."
        note = f'<p class="note">{text}</p>'
    return (
        '<fieldset class="zoom"><legend>Zoom</legend>'
        + "".join(
            f'<label class="chip"><input type="radio" name="zoom" value="{value}"'
            f"{' checked' if value == 'fit' else ''}><span>{title}</span></label>"
            for value, title in items
        )
        + "</fieldset>"
        + note
    )
