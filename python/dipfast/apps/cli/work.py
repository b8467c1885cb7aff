"""What the commands do: read, restore, write, tell."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dipfast
from dipfast.apps.cli.streams import say
from dipfast.apps.cli.words import one_line
from dipfast.errors import InputError

if TYPE_CHECKING:
    from dipfast.images.files import ImageFile
    from dipfast.prior.loop import State
    from dipfast.run.result import Result

__all__ = ["COMMANDS", "INTERRUPTED", "WorkError"]

# As shells have it: 128 and the number of the signal.
INTERRUPTED = 130
_EXITS = {"interrupted": INTERRUPTED, "terminated": 143}
_FAILED, _UNFINISHED = 1, 3
# For --strip: enough for eight images of any size that is looked at.
_STRIP_MEGABYTES = 256.0


class WorkError(Exception):
    """Something failed that is no fault of the arguments."""


# --- the commands ------------------------------------------------------------------------


def _denoise(options: argparse.Namespace) -> int:
    return _run(options, lambda source, **more: dipfast.denoise(source.image, **more))


def _inpaint(options: argparse.Namespace) -> int:
    from dipfast.apps.cli.pictures import find_missing_pixels

    of_file = isinstance(options.mask, str) and options.mask != "alpha"
    told: list[str] = []

    def fill(source: ImageFile, **more: Any) -> Result:
        missing = find_missing_pixels(options.mask, options.mask_marks, source, options.image)
        told.append(f"mask: {missing.origin}")
        if not options.quiet:
            share = f"{missing.share:.1%}"
            say(f"{share} of the pixels of {options.image} are missing; {told[0]}")
        return dipfast.inpaint(
            source.image,
            missing.mask,
            mask_marks=missing.marks,
            keep_known=options.keep_known,
            **more,
        )

    def form(source: ImageFile) -> ImageFile:
        return replace(source, alpha=None) if options.mask == "alpha" else source

    return _run(options, fill, form=form, other_input=options.mask if of_file else None, told=told)


def _super_resolve(options: argparse.Namespace) -> int:
    def enlarge(source: ImageFile, **more: Any) -> Result:
        return dipfast.super_resolve(source.image, options.factor, kernel=options.kernel, **more)

    def form(source: ImageFile) -> ImageFile:
        return source.enlarged(options.factor, partial(dipfast.ops.resize, kernel="bicubic"))

    return _run(options, enlarge, form=form, factor=options.factor)


def _restore(options: argparse.Namespace) -> int:
    from dipfast.apps.cli.pictures import point_spread

    def deblur(source: ImageFile, **more: Any) -> Result:
        kernel = point_spread(options.blur, source, options.image)
        operator = dipfast.operators.Blur(kernel, options.boundary)
        return dipfast.restore(source.image, operator, **more)

    picture = options.blur if isinstance(options.blur, str) else None
    return _run(options, deblur, other_input=picture)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "denoise": _denoise,
    "inpaint": _inpaint,
    "super_resolve": _super_resolve,
    "restore": _restore,
}
"""What does each task, by the name of the function of the library; returns the exit status."""


# --- what they have in common ------------------------------------------------------------


def _run(
    options: argparse.Namespace,
    task: Callable[..., Result],
    *,
    form: Callable[[ImageFile], ImageFile] = lambda source: source,
    other_input: str | None = None,
    factor: int = 1,
    told: list[str] | None = None,
) -> int:
    """Read, restore, write and tell.

    Parameters
    ----------
    options
        What was typed.
    task
        Restores the file that was read.
    form
        Makes of the file that was read one like the result.
    other_input
        A file that the task reads besides.
    factor
        Of the size of the result.
    told
        What the task wants told when it is done.
    """
    from dipfast.apps.cli.pictures import read_reference
    from dipfast.images import files

    # Everything that can be wrong is found out before the work.
    source = files.read_image(options.image)
    reference = None
    if options.reference is not None:
        reference = read_reference(options.reference, source, options.image, factor)
    like = form(source)
    _check_files(options, like, other_input)
    _check_device(options.device)
    with _Progress(hidden=options.quiet) as progress:
        try:
            result = task(
                source,
                sigma=options.sigma,
                noise=options.noise,
                tv_weight=options.tv_weight,
                method=options.method,
                stop=options.stop,
                time_limit=options.time_limit,
                quality=options.quality,
                preset=options.preset,
                max_iterations=options.max_iterations,
                device=options.device,
                seed=options.seed,
                channel_axis=source.channel_axis,
                data_range=options.data_range,
                reference=reference,
                callback=progress,
                snapshots=None if options.strip is None else _STRIP_MEGABYTES,
                checkpoint=options.checkpoint,
                checkpoint_every=options.checkpoint_every,
                resume=options.resume,
            )
        except (OSError, ValueError, TypeError, ImportError) as error:
            if progress.begun:
                raise WorkError(str(error)) from error
            raise
    # Another Ctrl-C must not come between the work and its result.
    with dipfast.Interrupt().on_signals() as interrupt:
        failure = _save(result, options, like)
        _tell(result, options, told or [])
    if failure is not None:
        raise WorkError(failure)
    drawn = interrupt.requested or _draw(result, options)
    status = _EXITS.get(interrupt.reason) or _EXITS.get(result.stop_reason)
    if status is None and not drawn:
        status = _FAILED
    if status is None and result.unfinished is not None:
        status = _UNFINISHED
    return status or 0


def _check_files(options: argparse.Namespace, like: ImageFile, other_input: str | None) -> None:
    """Refuse files that cannot be written, or would take the place of others."""
    from dipfast.images import files

    source, output = options.image, options.output
    if Path(output).is_dir():
        raise InputError(
            f"{output} is a folder; name a file in it, such as {Path(output) / Path(source).name}"
        )
    if Path(output).resolve() == Path(source).resolve() and not options.force:
        raise InputError(f"{output} is IN itself; name another OUT, or --force replaces it")
    inputs = {"--reference": options.reference, "--settings": options.settings}
    if other_input is not None:
        inputs["--mask" if options.task == "inpaint" else "--blur"] = other_input
    taken = {Path(path).resolve(): path for path in inputs.values() if path is not None}
    report = files.report_path(output)
    for option, path in (("OUT", output), ("the report of OUT", report)):
        # The settings of this very run may be used again for it.
        if taken.get(Path(path).resolve(), options.settings) != options.settings:
            raise InputError(f"{option} would overwrite {path}; choose another name")
    files.check_output(output, like, report=True, overwrite=options.force)
    taken |= {Path(path).resolve(): path for path in (source, output, report)}
    for name in ("checkpoint", "curves", "strip"):
        path = getattr(options, name)
        if path is None:
            continue
        if Path(path).resolve() in taken:
            raise InputError(
                f"--{name} would overwrite {taken[Path(path).resolve()]}; choose another name"
            )
        taken[Path(path).resolve()] = path
        if name != "checkpoint":
            from dipfast.apps.report import check_plots

            check_plots()
            files.check_output(path, overwrite=options.force)


def _check_device(name: str) -> None:
    """Refuse a device that cannot be used, and name those that can."""
    import torch

    from dipfast.run.prepare import find_device

    try:
        torch.zeros(1, device=find_device(name)).item()
    except (ValueError, RuntimeError, NotImplementedError) as error:
        devices = ["cpu"]
        accelerator = torch.accelerator.current_accelerator()
        if accelerator is not None and torch.accelerator.is_available():
            count = torch.accelerator.device_count()
            devices += [f"{accelerator.type}:{number}" for number in range(count)]
        raise InputError(
            f"--device {name} cannot be used; "
            + (f"there are {', '.join(devices)}" if len(devices) > 1 else "there is only cpu")
        ) from error


def _save(result: Result, options: argparse.Namespace, like: ImageFile) -> str | None:
    """Write the picture, somewhere else if need be, and return what went wrong, if anything did.

    ``options.output`` is where it was written to.
    """
    from dipfast.images.files import ImageFile

    asked = options.output
    bare = ImageFile(like.image, like.channel_axis, like.alpha)
    elsewhere = os.path.join(tempfile.gettempdir(), Path(asked).name)
    errors: list[Exception] = []
    for path, form in ((asked, like), (asked, like), (asked, bare), (elsewhere, bare)):
        options.output = _free_name(path) if errors else path
        try:
            result.save(options.output, like=form, overwrite=options.force and not errors)
            break
        except Exception as error:  # whatever it is, the work must not be lost
            errors.append(error)
    else:
        raise WorkError(f"the result is lost: {'; '.join(map(_reason, errors))}") from errors[0]
    # It was not there when we looked.
    if all(isinstance(error, FileExistsError) for error in errors):
        return None
    return f"{asked} could not be written: {_reason(errors[0])}; the result is in {options.output}"


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


def _draw(result: Result, options: argparse.Namespace) -> bool:
    """Draw what was asked for, tell what cannot be drawn, and return whether all could be."""
    from dipfast.apps.report import draw_curves, draw_strip

    draw: dict[str, Callable[[Any, str], None]] = {
        "curves": partial(draw_curves, log_x=options.log_x),
        "strip": draw_strip,
    }
    all_drawn = True
    for name, function in draw.items():
        path = getattr(options, name)
        if path is not None:
            try:
                function(result, path)
            except Exception as error:  # matplotlib may raise anything, and the picture is written
                say(f"error: --{name} {path} could not be drawn: {_reason(error)}")
                all_drawn = False
    return all_drawn


def _tell(result: Result, options: argparse.Namespace, told: list[str]) -> None:
    if options.json:
        print(json.dumps(result.report(), indent=2))
        return
    line = f"{options.output}: {result.stop_reason}"
    line += f", best of {result.stop_iteration} iterations: {result.best_iteration}"
    if result.metrics:
        line += f", PSNR {result.metrics['psnr_input']:.2f} -> {result.metrics['psnr']:.2f} dB"
    if result.stop_reason in _EXITS and options.checkpoint is not None:
        line += " (--resume --force goes on)"
    print(one_line(line))
    print(one_line("; ".join([result.summary(), *told])))


class _Progress:
    """A progress bar that looks at states, a few times a second."""

    def __init__(self, hidden: bool) -> None:
        from tqdm import tqdm

        self._make: Callable[[int], Any] = lambda total: tqdm(
            total=total, disable=hidden, unit="it", dynamic_ncols=True
        )
        self._bar: Any = None
        self._next_look = 0.0
        self.begun = False

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, state: State) -> None:
        self.begun = True
        if self._bar is None:
            self._bar = self._make(state.prior.iterations)
        now = time.monotonic()
        if now >= self._next_look or state.iteration == state.prior.iterations:
            # Reading a number waits for the device, so not at every iteration.
            self._next_look = now + 0.2
            shown = {"loss": f"{float(state.terms.value):.2e}"}
            if "psnr_average" in state.metrics:
                shown["PSNR"] = f"{float(state.metrics['psnr_average']):.2f}"
            self._bar.set_description(f"stage '{state.stage.name}'", refresh=False)
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update(state.iteration - self._bar.n)
