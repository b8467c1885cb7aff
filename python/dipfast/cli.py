"""The command line.  Heavy imports wait until a command needs them."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dipfast._native import __version__

if TYPE_CHECKING:
    from dipfast.files import ImageFile
    from dipfast.prior import State
    from dipfast.result import Result

__all__ = ["main"]

# As shells have it: 128 and the number of the signal.
_INTERRUPTED_EXIT = 130
_EXITS = {"interrupted": _INTERRUPTED_EXIT, "terminated": 143}
# Settings of an earlier result that an option makes meaningless.
_OUTRANKED = {
    "quality": ("preset", "max_iterations"),
    "preset": ("max_iterations",),
    "method": ("tv_weight",),
    "sigma": ("noise", "tv_weight"),
    "noise": ("sigma", "tv_weight"),
}
# For --strip: enough for eight images of any size that is looked at.
_STRIP_MEGABYTES = 256.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    0: done; 1: something failed on the way; 2: wrong arguments or files; 130: interrupted
    (Ctrl-C); 143: terminated.
    """
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            if options.settings is not None:
                options = _with_settings(options.settings, arguments)
            return int(options.run(options))
    except (OSError, ValueError, TypeError, ImportError) as error:
        print(f"dipfast: error: {_message(error)}", file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError) as error:  # of torch, out of memory among them
        reason = str(error).strip().partition("\n")[0] or "out of memory"
        print(f"dipfast: error: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("dipfast: interrupted", file=sys.stderr)
        return _INTERRUPTED_EXIT


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"dipfast: warning: {message}", file=sys.stderr)


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    if str(error).startswith("checkpoint"):
        return str(error).replace("(resume)", "(--resume)")
    if isinstance(error, FileExistsError):
        return f"{error}; --force replaces it"
    return str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dipfast",
        description="Restore one image with no training data.",
        epilog="'dipfast COMMAND --help' tells more about a command.",
    )
    parser.add_argument("--version", action="version", version=f"dipfast {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_commands(commands)
    return parser


def _with_settings(path: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments once more, with the settings of an earlier result in place of defaults."""
    from dipfast.settings import read_settings

    settings = read_settings(path)
    parser = _parser()
    command = parser.parse_args(arguments).command
    task = settings.pop("task")
    if task != command.get_default("task"):
        raise ValueError(f"--settings {path}: it is of the task {task}")
    # What is said on the command line outranks them, and those that it makes meaningless.
    unsaid = object()
    command.set_defaults(**dict.fromkeys((*settings, *_OUTRANKED), unsaid))
    said = vars(parser.parse_args(arguments))
    for name, others in _OUTRANKED.items():
        if said[name] is not unsaid:
            for other in others:
                settings.pop(other, None)
    parser = _parser()
    parser.parse_args(arguments).command.set_defaults(**settings)
    return parser.parse_args(arguments)


def _add_commands(commands: Any) -> None:
    denoise = _command(commands, "denoise", "remove noise from an image", _denoise)
    _add_options(denoise, sigma="auto")

    inpaint = _command(commands, "inpaint", "fill in missing pixels", _inpaint)
    add = inpaint.add_argument
    add(
        "--mask",
        metavar="M",
        help="which pixels are missing: a picture of the same size, 'alpha' (those that are not "
        "opaque), or 'value:V' (those of value V); default: those that are NaN",
    )
    add(
        "--mask-marks",
        choices=("missing", "known"),
        default="missing",
        help="what white means in the picture of the mask (default: %(default)s)",
    )
    add(
        "--refit-known",
        dest="keep_known",
        action="store_false",
        help="take the network's values for the known pixels too (default: they stay as they are)",
    )
    _add_options(inpaint, sigma=0.0)

    superres = _command(commands, "superres", "enlarge an image", _super_resolve)
    add = superres.add_argument
    add("--factor", type=int, default=4, help="2, 3, 4 or 8 (default: %(default)s)")
    add(
        "--kernel",
        choices=("lanczos2", "lanczos3", "bicubic", "bilinear", "box"),
        default="lanczos2",
        help="how the image was made smaller (default: %(default)s)",
    )
    _add_options(superres, sigma=0.0)

    restore = _command(commands, "restore", "undo a blur", _restore)
    add = restore.add_argument
    add(
        "--blur",
        required=True,
        metavar="K",
        help="point-spread function: 'gaussian:SIGMA' (in pixels), 'box:SIZE', or a grey picture "
        "of it, which is scaled to the sum 1",
    )
    add(
        "--boundary",
        choices=("reflect", "replicate", "circular", "zero"),
        default="reflect",
        help="what lies beyond the border (default: %(default)s)",
    )
    _add_options(restore, sigma="auto")


def _command(commands: Any, name: str, what: str, run: Any) -> Any:
    parser = commands.add_parser(
        name,
        help=what,
        description=f"{what.capitalize()}. Ctrl-C ends early and keeps the result so far.",
    )
    parser.set_defaults(run=run, task=run.__name__.removeprefix("_"), command=parser)
    parser.add_argument("input", metavar="IN", help="PNG, JPEG or TIFF, 8 or 16 bit or float")
    parser.add_argument(
        "output", metavar="OUT", help="where to write the result; settings go to OUT.json"
    )
    return parser


def _add_options(parser: Any, sigma: float | str) -> None:
    """What all commands may be told.

    Choices and numbers are those of methods and presets, which would be slow to import.
    """
    add = parser.add_argument
    add("--force", action="store_true", help="replace files that exist")
    add(
        "--sigma",
        type=_auto_or_float,
        default=sigma,
        metavar="S",
        help="standard deviation of the noise, in the unit of the image, or 'auto', which "
        f"estimates it (default: {sigma})",
    )
    add(
        "--noise",
        choices=("auto", "gaussian", "clipped", "poisson_gaussian"),
        default="auto",
        help="kind of noise: cut off at the ends of the range, growing with the signal "
        "(default: %(default)s, what the picture looks like)",
    )
    add(
        "--tv-weight",
        type=_auto_or_float,
        default="auto",
        metavar="W",
        help="weight of total variation, for an image in [0, 1] (default: from the noise)",
    )
    add(
        "--method",
        default="two_stage",
        metavar="NAME",
        help="two_stage, dip or dip_tv: total variation in the first third, never, always; or a "
        "variant (help(dipfast.methods.stages_of)) (default: %(default)s)",
    )
    add(
        "--stop",
        default="auto",
        metavar="RULE",
        help="when to stop, and which iteration is the best: auto, discrepancy, held_out, es_wmv, "
        "es_emv, or none (default: %(default)s)",
    )
    add(
        "--time-limit",
        type=float,
        metavar="SECONDS",
        help="stop after so many seconds, with the best so far",
    )
    add(
        "--checkpoint",
        metavar="FILE",
        help="keep the state of the work in this file, so that nothing is lost",
    )
    add(
        "--checkpoint-every",
        type=int,
        default=100,
        metavar="N",
        help="iterations from one writing to the next (default: %(default)s)",
    )
    add("--resume", action="store_true", help="go on from the checkpoint, if there is one")
    add(
        "--quality",
        choices=("fast", "balanced", "best"),
        default="balanced",
        help="how much work (default: %(default)s)",
    )
    add(
        "--preset",
        metavar="NAME",
        help="settings of the original's examples instead: original-denoising, ...",
    )
    add(
        "--max-iterations",
        type=int,
        metavar="N",
        help="instead of the number that goes with the quality",
    )
    add("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: CUDA if there is one)")
    add("--seed", type=int, default=0, help="the same seed gives the same result (default: 0)")
    add(
        "--data-range",
        type=_data_range,
        metavar="R",
        help="brightest value, or DARKEST,BRIGHTEST; recognised where it is obvious",
    )
    add(
        "--settings",
        metavar="FILE",
        help="the report of an earlier result (OUT.json): its settings instead of the defaults",
    )
    add("--reference", metavar="FILE", help="the clean image, to report PSNR")
    add("--curves", metavar="FILE", help="draw loss and PSNR into this picture")
    add("--strip", metavar="FILE", help="draw images on the way into this picture")
    add("--log-x", action="store_true", help="logarithmic iterations in the curves")
    add("--json", action="store_true", help="print a report as JSON")
    add("--quiet", action="store_true", help="no progress bar")


def _denoise(options: argparse.Namespace) -> int:
    import dipfast

    return _run(options, lambda source, **more: dipfast.denoise(source.image, **more))


def _inpaint(options: argparse.Namespace) -> int:
    import dipfast

    mask: Any = options.mask
    mask_file = None
    if mask is not None and mask.startswith("value:"):
        try:
            mask = float(mask.removeprefix("value:"))
        except ValueError:
            raise ValueError(f"--mask value:V needs a number, got {options.mask!r}") from None
    elif mask not in (None, "alpha"):
        mask_file, mask = mask, _read_mask(mask, options.mask_marks)

    def fill(source: ImageFile, **more: Any) -> Result:
        chosen, marks = mask, options.mask_marks
        if options.mask == "alpha":
            # The opacity of a file is no channel of its image.
            if source.alpha is None:
                raise ValueError(f"--mask alpha: {options.input} has no transparency")
            chosen, marks = source.alpha < source.alpha.max(), "missing"
        return dipfast.inpaint(
            source.image, chosen, mask_marks=marks, keep_known=options.keep_known, **more
        )

    def form(source: ImageFile) -> ImageFile:
        return replace(source, alpha=None) if options.mask == "alpha" else source

    return _run(options, fill, form=form, other_input=mask_file)


def _read_mask(path: str, marks: str) -> Any:
    """One plane: a pixel is missing if it is so in any colour."""
    from dipfast import files

    source = files.read_image(path)
    if source.channel_axis is None:
        return source.image
    worst = source.image.max if marks == "missing" else source.image.min
    return worst(axis=source.channel_axis)


def _super_resolve(options: argparse.Namespace) -> int:
    import dipfast

    def enlarge(source: ImageFile, **more: Any) -> Result:
        return dipfast.super_resolve(source.image, options.factor, kernel=options.kernel, **more)

    def form(source: ImageFile) -> ImageFile:
        alpha = source.alpha
        if alpha is None:
            return source
        size = (alpha.shape[0] * options.factor, alpha.shape[1] * options.factor)
        larger = dipfast.ops.resize(alpha.astype("float64"), size, kernel="bicubic")
        return replace(source, alpha=larger.round().clip(0, alpha.max()).astype(alpha.dtype))

    return _run(options, enlarge, form=form)


def _restore(options: argparse.Namespace) -> int:
    kind, _, number = options.blur.partition(":")
    known = kind in ("gaussian", "box")
    if known and not number:
        raise ValueError(f"--blur {kind} needs a number, such as {kind}:3")

    def deblur(source: ImageFile, **more: Any) -> Result:
        import dipfast

        operator = dipfast.operators.Blur(_point_spread(options.blur), options.boundary)
        return dipfast.restore(source.image, operator, **more)

    return _run(options, deblur, other_input=None if known else options.blur)


def _point_spread(text: str) -> Any:
    """The kernel that --blur names."""
    import torch

    from dipfast import files
    from dipfast.operators import gaussian_kernel

    kind, _, number = text.partition(":")
    if kind == "gaussian":
        return gaussian_kernel(float(number))
    if kind == "box":
        size = int(number)
        if size < 1:
            raise ValueError(f"--blur box:SIZE must be positive, got {number}")
        return torch.full((size, size), 1 / size**2)
    source = files.read_image(text)
    pixels = source.image.astype("float64")
    if source.channel_axis is not None:
        pixels = pixels.mean(axis=source.channel_axis)
    if not (pixels >= 0).all() or pixels.sum() == 0:
        raise ValueError(f"--blur {text}: a point-spread function must not be negative or black")
    return torch.from_numpy(pixels / pixels.sum()).float()


def _run(
    options: argparse.Namespace,
    task: Callable[..., Result],
    *,
    form: Callable[[ImageFile], ImageFile] = lambda source: source,
    other_input: str | None = None,
) -> int:
    """Read, restore, write and tell.

    ``form`` makes of the file that was read one like the result; ``other_input`` is a file
    that the task reads besides.
    """
    from dipfast import files

    # Everything that can be wrong is found out before the work.
    source = files.read_image(options.input)
    reference = None
    if options.reference is not None:
        reference = files.read_image(options.reference).image
    files.check_output(options.output, form(source), report=True, overwrite=options.force)
    inputs = [path for path in (options.input, options.reference, other_input) if path]
    taken = [options.output, str(files.report_path(options.output)), *inputs]
    for name in ("checkpoint", "curves", "strip"):
        path = getattr(options, name)
        if path is None:
            continue
        for other in taken:
            if Path(path).resolve() == Path(other).resolve():
                raise ValueError(f"--{name} would overwrite {other}")
        taken.append(path)
        if name != "checkpoint":
            from dipfast.report import check_plots

            check_plots()
            files.check_output(path, overwrite=options.force)

    with _Progress(hidden=options.quiet) as progress:
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
    like = form(source)
    try:
        result.save(options.output, like=like, overwrite=options.force)
    except FileExistsError:  # it was not there when we looked; the work must not be lost
        options.output = _free_name(options.output)
        result.save(options.output, like=like)
    if options.curves is not None:
        from dipfast.report import draw_curves

        draw_curves(result, options.curves, log_x=options.log_x)
    if options.strip is not None:
        from dipfast.report import draw_strip

        draw_strip(result, options.strip)
    _tell(result, options)
    return _EXITS.get(result.stop_reason, 0)


def _free_name(path: str) -> str:
    """A name like ``path`` that is not taken: NAME-2.png, NAME-3.png, ..."""
    from dipfast.files import report_path

    for number in itertools.count(2):
        free = Path(path).with_stem(f"{Path(path).stem}-{number}")
        if not (os.path.lexists(free) or os.path.lexists(report_path(free))):
            break
    return str(free)


def _tell(result: Result, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(result.report(), indent=2))
        return
    line = f"{options.output}: {result.stop_reason}"
    line += f", best of {result.stop_iteration} iterations: {result.best_iteration}"
    if result.metrics:
        line += f", PSNR {result.metrics['psnr_input']:.2f} -> {result.metrics['psnr']:.2f} dB"
    if result.stop_reason in _EXITS and options.checkpoint is not None:
        line += " (--resume --force goes on)"
    print(line)


class _Progress:
    """A progress bar that looks at states, a few times a second."""

    def __init__(self, hidden: bool) -> None:
        from tqdm import tqdm

        self._make: Callable[[int], Any] = lambda total: tqdm(
            total=total, disable=hidden, unit="it", dynamic_ncols=True
        )
        self._bar: Any = None
        self._next_look = 0.0

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, state: State) -> None:
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


def _data_range(text: str) -> float | tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, 2):
        raise argparse.ArgumentTypeError(f"a number or two with a comma expected, got {text!r}")
    return values[0] if len(values) == 1 else values


def _auto_or_float(text: str) -> str | float:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'auto' or a number expected, got {text!r}") from None
