"""What the commands do: read, restore, write, tell."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dipfast
from dipfast.apps.cli.commands import DEFAULTS, option_name, words_of
from dipfast.apps.cli.earlier import options_with_record
from dipfast.apps.cli.exits import WorkError, code_of_result
from dipfast.apps.cli.options import DenoiseOwn, InpaintOwn, OwnOptions, Request, RestoreOwn
from dipfast.apps.cli.streams import say
from dipfast.apps.cli.words import Words, one_line
from dipfast.apps.progress_bar import ProgressBar
from dipfast.errors import DipfastError, InputError, WouldOverwriteError
from dipfast.settings.names import DIRECT_METHODS, TaskName
from dipfast.settings.settings import (
    SETTINGS,
    decide_method,
    make_settings,
    takes_artefacts_out,
)

if TYPE_CHECKING:
    from dipfast.images.files import ImageFile
    from dipfast.prior.loop import State
    from dipfast.run.observers import Progress
    from dipfast.run.result import Result
    from dipfast.settings.jpeg import JpegCoding

__all__ = ["check_device", "check_free", "check_output", "run", "settings_of"]

# For --strip: enough for eight images of any size that is looked at.
_STRIP_MEGABYTES = 256.0


@dataclass
class _Job:
    """Hold what a command is to do.

    Attributes
    ----------
    own
        The options of the command line itself.
    options
        The options of the task that are not left at their defaults, for the function.
    settings
        All options of the task, checked.
    output
        Where the result is written to: OUT, or another name if that does not work.
    told
        What is told with the result.
    words
        The words of the command line for what the library says.
    command
        The command itself, as it can be typed again.
    tell
        Tells the result, once it is written.
    """

    own: Any
    options: dict[str, Any]
    settings: Any
    output: str
    words: Words
    command: str = ""
    told: list[str] = field(default_factory=list)
    tell: Callable[[Result, Any], None] = field(default_factory=lambda: _tell)


def run(request: Request, tell: Callable[[Result, Any], None] | None = None) -> int:
    """Do what was asked for, and return the exit code.

    Parameters
    ----------
    request
        What was typed.
    tell
        What is done with the result once it is written, given the result and an object whose
        ``output`` is where; None prints it.
    """
    options, settings = settings_of(request)
    job = _Job(request.own, options, settings, str(request.own.output), words_of(request))
    job.command = shlex.join(["dipfast", *request.typed]) if request.typed else ""
    if tell is not None:
        job.tell = tell
    return _TASKS[request.task](job)


def settings_of(request: Request) -> tuple[dict[str, Any], Any]:
    """Return the options of the task that are not left at their defaults, and all of them, checked.

    Raises
    ------
    InputError
        If one of them is wrong.
    """
    kind = SETTINGS[request.task]
    needed = {name: value for name, value in DEFAULTS.items() if name in kind.model_fields}
    options = {**needed, **options_with_record(request)}
    return options, make_settings(kind, options)


# --- the tasks ---------------------------------------------------------------------------


def _denoise(job: _Job) -> int:
    own: DenoiseOwn = job.own

    def clean(source: ImageFile, **options: Any) -> Result:
        coding = _jpeg_of(source, job)
        if coding is not None:
            options["jpeg"] = coding
            job.told.append(f"JPEG of quality {coding.quality}: its artefacts are taken out")
            if not own.quiet:
                say(f"{own.image} is a {job.told[-1]}; --jpeg no takes noise out instead")
        return dipfast.denoise(source.image, **options)

    return _restore_file(job, clean)


def _jpeg_of(source: ImageFile, job: _Job) -> JpegCoding | None:
    """Return how a picture was coded whose artefacts are to be taken out; None for others."""
    own: DenoiseOwn = job.own
    if own.jpeg == "yes":
        _refuse_drawn(own, "--jpeg yes", "--jpeg no with --method two_stage")
        if source.jpeg is None:
            raise InputError(
                f"--jpeg yes: {own.image} is no JPEG, or one whose coding is not understood, as "
                "of those that EXIF turns; --jpeg no takes noise out"
            )
        return source.jpeg
    if own.jpeg == "no" or _drawn(own) or not takes_artefacts_out(source.jpeg, job.settings):
        return None
    return source.jpeg


def _inpaint(job: _Job) -> int:
    from dipfast.apps.cli.pictures import find_missing_pixels

    own: InpaintOwn = job.own
    of_file = isinstance(own.mask, str) and own.mask != "alpha"

    def fill(source: ImageFile, **options: Any) -> Result:
        missing = find_missing_pixels(own.mask, job.settings.mask_marks, source, str(own.image))
        job.told.append(f"mask: {missing.origin}")
        if not own.quiet:
            share = f"{missing.share:.1%}"
            say(f"{share} of the pixels of {own.image} are missing; {job.told[-1]}")
        return dipfast.inpaint(source.image, missing.mask, **options)

    def form(source: ImageFile) -> ImageFile:
        return replace(source, alpha=None) if own.mask == "alpha" else source

    return _restore_file(job, fill, form=form, other_inputs={"mask": own.mask} if of_file else {})


def _super_resolve(job: _Job) -> int:
    factor: int = job.options.pop("factor")

    def enlarge(source: ImageFile, **options: Any) -> Result:
        return dipfast.super_resolve(source.image, factor, **options)

    def form(source: ImageFile) -> ImageFile:
        return source.enlarged(factor, partial(dipfast.ops.resize, kernel="bicubic"))

    return _restore_file(job, enlarge, form=form, factor=factor)


def _restore(job: _Job) -> int:
    from dipfast.apps.cli.pictures import point_spread

    own: RestoreOwn = job.own

    def deblur(source: ImageFile, **options: Any) -> Result:
        kernel = point_spread(own.blur, source, str(own.image), job.told)
        operator = dipfast.operators.Blur(kernel, own.boundary)
        result = dipfast.restore(source.image, operator, **options)
        blur = own.blur if isinstance(own.blur, str) else f"{own.blur[0]}:{own.blur[1]:g}"
        # The operator itself is in no record, and --settings reads the boundary back.
        result.found.update(blur=blur, boundary=own.boundary)
        return result

    of_file = isinstance(own.blur, str)
    return _restore_file(job, deblur, other_inputs={"blur": own.blur} if of_file else {})


_TASKS: dict[TaskName, Callable[[_Job], int]] = {
    "denoise": _denoise,
    "inpaint": _inpaint,
    "super_resolve": _super_resolve,
    "restore": _restore,
}


# --- what they have in common ------------------------------------------------------------


def _restore_file(
    job: _Job,
    task: Callable[..., Result],
    *,
    form: Callable[[ImageFile], ImageFile] = lambda source: source,
    other_inputs: dict[str, str] | None = None,
    factor: int = 1,
) -> int:
    """Read, restore, write and tell.

    Parameters
    ----------
    job
        What was asked for.
    task
        Restores the file that was read.
    form
        Makes of the file that was read one like the result.
    other_inputs
        Files that the task reads besides, by option.
    factor
        Of the size of the result.

    Returns
    -------
    int
        The exit code.
    """
    from dipfast.apps.cli.pictures import read_reference
    from dipfast.images import files

    # Everything that can be wrong is found out before the work.
    own: OwnOptions = job.own
    source = files.read_image(own.image)
    options = dict(job.options)
    if source.channel_axis is not None:
        options["channel_axis"] = source.channel_axis
    if source.stack_axes:
        _check_stack(job, source)
        options["stack_axis"] = source.stack_axes
    else:
        job.told += source.assumptions
    if own.reference is not None:
        options["reference"] = read_reference(
            str(own.reference), source, str(own.image), factor, job.told
        )
    if own.strip is not None:
        options["snapshots"] = _STRIP_MEGABYTES
    like = form(source)
    _check_method(job)
    _check_files(job, like, other_inputs or {})
    check_device(job.settings.device)
    if source.stack_axes and not own.quiet:
        say(f"{own.image}: {'; '.join(job.told)}")
    doing = "denoising" if job.settings.task == "denoise" else "restoring"
    # A signal that comes after the last step ends nothing there, and is to be known here.
    during = dipfast.Interrupt()
    with _bar_of(job, doing) as bar:
        watch = _Watch(bar, partial(_say_tiles, job))
        try:
            result = task(source, callback=watch, interrupt=during, **options)
        except (OSError, DipfastError) as error:
            if watch.begun:
                raise WorkError(str(error)) from error
            raise
    # Another Ctrl-C must not come between the work and its result.
    with dipfast.Interrupt().on_signals() as interrupt:
        failure = _save(result, job, like)
        job.tell(result, job)
    if failure is not None:
        raise WorkError(failure)
    drawn = interrupt.requested or _draw(result, job, source)
    asked = interrupt.stop_asked or during.stop_asked
    return code_of_result(result, None if asked is None else asked.reason, drawn)


def _bar_of(job: _Job, doing: str) -> ProgressBar:
    """Return the progress bar of a command."""
    from tqdm import tqdm

    method = decide_method(job.settings)
    is_direct = isinstance(method, str) and method in DIRECT_METHODS
    make = partial(tqdm, disable=job.own.quiet, dynamic_ncols=True)
    return ProgressBar(doing, make, whole_planes=not is_direct)


def _say_tiles(job: _Job, tiles: int, side: int) -> None:
    """Say that a picture is cut into tiles that nobody asked for, and what takes less time."""
    settings = job.settings
    if settings.tile != "auto" or job.own.quiet:
        return
    line = (
        f"{job.own.image} is too large to be fitted at once: it is cut into {tiles} tiles of "
        f"{side} pixels, which are fitted one after the other"
    )
    fast = settings.model_copy(update={"quality": "fast"})
    if decide_method(fast) in DIRECT_METHODS:
        line += "; --quality fast takes minutes"
    say(line)


def _check_stack(job: _Job, source: ImageFile) -> None:
    """Refuse what is drawn of a single picture, and note how a stack was read."""
    for name in ("curves", "strip", "report"):
        if getattr(job.own, name) is not None:
            raise InputError(
                f"{option_name(name)} is for a single picture, and {job.own.image} holds a stack "
                f"({source.described_stack()})"
            )
    job.told += [f"stack of {source.described_stack()}", *source.assumptions]


def _check_method(job: _Job) -> None:
    """Refuse to draw iterations of a method that has none."""
    method = decide_method(job.settings)
    if method in DIRECT_METHODS:
        _refuse_drawn(job.own, method, "--method two_stage")


def _refuse_drawn(own: OwnOptions, without: str, other: str) -> None:
    """Refuse to draw iterations of what has none; ``other`` has some."""
    for name in _drawn(own):
        raise InputError(
            f"{option_name(name)} draws iterations, and {without} has none; {other} has"
        )


def _drawn(own: OwnOptions) -> list[str]:
    """Return which options draw iterations."""
    return [name for name in ("curves", "strip") if getattr(own, name) is not None]


def _check_files(job: _Job, like: ImageFile, other_inputs: dict[str, str]) -> None:
    """Refuse files that cannot be written, or would take the place of others."""
    from dipfast.cluster.record import result_name
    from dipfast.images import files
    from dipfast.images.files import formats

    own: OwnOptions = job.own
    source, output = own.image, own.output
    if Path(output).is_dir() and formats.by_folder(Path(output)) is None:
        name = Path(source).name
        if formats.by_suffix(Path(name)) is None:  # that of standard input has no ending
            name += formats.by_name(like.format).suffixes[0]
        named = Path(output) / result_name(Path(name))
        raise InputError(f"{output} is a folder; name a file in it, such as {named}")
    if Path(output).resolve() == Path(source).resolve() and not own.force:
        raise InputError(f"{output} is IN itself; name another OUT, or --force replaces it")
    inputs = {"reference": own.reference, "settings": own.settings, **other_inputs}
    taken = {Path(path).resolve(): path for path in inputs.values() if path is not None}
    report = files.report_path(output)
    for name, path in (("OUT", output), ("the report of OUT", report)):
        # The settings of this very run may be used again for it.
        if taken.get(Path(path).resolve(), own.settings) != own.settings:
            raise InputError(f"{name} would overwrite {path}; choose another name")
    check_output(output, like, report=True, overwrite=own.force)
    taken |= {Path(path).resolve(): path for path in (source, output, report)}
    outputs = {
        "checkpoint": job.settings.checkpoint,
        "curves": own.curves,
        "strip": own.strip,
        "report": own.report,
    }
    for name, path in outputs.items():
        if path is None:
            continue
        if Path(path).resolve() in taken:
            raise InputError(
                f"{option_name(name)} would overwrite {taken[Path(path).resolve()]}; "
                "choose another name"
            )
        taken[Path(path).resolve()] = path
        if name == "report":
            from dipfast.apps.page import check_page

            check_free(check_page, path, overwrite=own.force)
        elif name != "checkpoint":
            from dipfast.apps.report import check_figure

            check_free(check_figure, path, overwrite=own.force)


def check_output(*arguments: Any, **options: Any) -> None:
    """Refuse a picture that cannot be written, or that exists without ``--force``."""
    from dipfast.images import files

    check_free(files.check_output, *arguments, **options)


def check_free(check: Callable[..., None], *arguments: Any, **options: Any) -> None:
    """Check where a file is to be written, and say how to replace one."""
    try:
        check(*arguments, **options)
    except WouldOverwriteError as error:
        raise WouldOverwriteError(f"{error}; --force replaces it") from None


def check_device(name: str) -> None:
    """Refuse a device that cannot be used, and name those that can."""
    import torch

    from dipfast.run.prepare import find_device

    try:
        torch.zeros(1, device=find_device(name)).item()
    except (ValueError, RuntimeError, NotImplementedError) as error:
        devices = ["cpu"]
        # In torch 2.6 to name one that is not there is an error.
        there = torch.accelerator.is_available()
        accelerator = torch.accelerator.current_accelerator() if there else None
        if accelerator is not None:
            count = torch.accelerator.device_count()
            devices += [f"{accelerator.type}:{number}" for number in range(count)]
        raise InputError(
            f"--device {name} cannot be used; "
            + (f"there are {', '.join(devices)}" if len(devices) > 1 else "there is only cpu")
        ) from error


# Metadata without which some formats cannot be written.
_OF_FORM = ("bits", "inks", "colour")


def _save(result: Result, job: _Job, like: ImageFile) -> str | None:
    """Write the picture, somewhere else if need be, and return what went wrong, if anything did.

    ``job.output`` is where it was written to.
    """
    from dipfast.images.files import ImageFile
    from dipfast.run.result import ReportError

    asked = job.output
    # What the file has to hold, and nothing beside it.
    form = {name: like.metadata[name] for name in _OF_FORM if name in like.metadata}
    bare = ImageFile(like.image, like.channel_axis, like.alpha, form, stack_axes=like.stack_axes)
    elsewhere = os.path.join(tempfile.gettempdir(), Path(asked).name)
    errors: list[Exception] = []
    told: list[str] = []
    tries = ((asked, like), (asked, like), (asked, bare), (elsewhere, like), (elsewhere, bare))
    for path, written in tries:
        job.output = _free_name(path) if errors else path
        try:
            result.save(job.output, like=written, overwrite=job.own.force and not errors)
            break
        except ReportError as error:  # the picture itself is there
            told.append(str(error))
            break
        except Exception as error:  # whatever it is, the work must not be lost
            errors.append(error)
    else:
        raise WorkError(f"the result is lost: {'; '.join(map(_reason, errors))}") from errors[0]
    # Of another kind are those of files that were not there when we looked.
    if not all(isinstance(error, WouldOverwriteError) for error in errors):
        reason = _reason(errors[0])
        told.insert(0, f"{asked} could not be written: {reason}; the result is in {job.output}")
    return "; ".join(told) or None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _free_name(path: str) -> str:
    """Return a name like ``path`` that is not taken: NAME-2.png, NAME-3.png, ..."""
    from dipfast.images.files import report_path

    for number in itertools.count(2):
        free = Path(path).with_stem(f"{Path(path).stem}-{number}")
        if not (os.path.lexists(free) or os.path.lexists(report_path(free))):
            break
    return str(free)


def _draw(result: Result, job: _Job, source: ImageFile) -> bool:
    """Draw what was asked for, tell what cannot be drawn, and return whether all could be."""
    from dipfast.apps.report import draw_curves, draw_strip

    own: OwnOptions = job.own

    def write_page(result: Result, path: str) -> None:
        from dipfast.apps.page import save_page

        save_page(
            result,
            source.image,
            path,
            name=Path(own.image).name,
            command=job.command,
            log_x=own.log_x,
            inks=bool(source.metadata.get("inks")),
            overwrite=own.force,
        )

    draw: dict[str, Callable[[Any, str], None]] = {
        "curves": partial(draw_curves, log_x=own.log_x),
        "strip": draw_strip,
        "report": write_page,
    }
    all_drawn = True
    for name, function in draw.items():
        path = getattr(own, name)
        if path is not None:
            try:
                function(result, path)
            except Exception as error:  # matplotlib may raise anything, and the picture is written
                done = "written" if name == "report" else "drawn"
                say(f"error: --{name} {path} could not be {done}: {_reason(error)}")
                all_drawn = False
    return all_drawn


def _tell(result: Result, job: _Job) -> None:
    if job.own.json_:
        print(json.dumps(result.report(), indent=2))
        return
    line = f"{job.output}: {result.stop_detail or result.stop_reason}"
    # What is joined is that of no iteration.
    if "max_iterations" in result.found and not result.members:
        line += f", best of {result.stop_iteration} iterations: {result.best_iteration}"
    if result.metrics:
        line += f", PSNR {result.metrics['psnr_input']:.2f} -> {result.metrics['psnr']:.2f} dB"
    kept = job.settings.checkpoint
    # What ended before its first fit has written none.
    if not result.stop_reason.is_final and kept is not None and Path(kept).exists():
        line += " (--resume --force goes on)"
    print(one_line(line))
    print(one_line("; ".join([result.summary(), *job.told])))
    for hint in result.hints:
        print(f"hint: {job.words.translate(hint)}")


class _Watch:
    """Show a bar, and say how many tiles there are before the first one is fitted.

    Attributes
    ----------
    begun
        Whether the work has begun, so that what fails from then on is no fault of the command.
    """

    def __init__(self, bar: ProgressBar, say_tiles: Callable[[int, int], None]) -> None:
        self._bar = bar
        self._say_tiles: Callable[[int, int], None] | None = say_tiles
        self.begun = False

    def __call__(self, state: State | Progress) -> None:
        from dipfast.run.observers import Progress

        self.begun = True
        if isinstance(state, Progress) and state.tiles and self._say_tiles is not None:
            self._say_tiles(state.tiles, state.tile)
            self._say_tiles = None
        self._bar(state)
