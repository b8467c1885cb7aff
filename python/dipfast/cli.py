"""The command line.  Heavy imports wait until a command needs them."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dipfast._native import __version__

if TYPE_CHECKING:
    from dipfast.prior import State
    from dipfast.result import Result

__all__ = ["main"]

_INTERRUPTED_EXIT = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    0: done; 1: something failed on the way; 2: wrong arguments or files; 130: interrupted.
    """
    options = _parser().parse_args(arguments)
    try:
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


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
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
    _add_denoise(commands)
    return parser


def _add_denoise(commands: Any) -> None:
    parser = commands.add_parser(
        "denoise",
        help="remove noise from an image",
        description="Remove noise from an image. Ctrl-C ends early and keeps the result so far.",
    )
    parser.set_defaults(run=_denoise)
    add = parser.add_argument
    add("input", metavar="IN", help="PNG, JPEG or TIFF, 8 or 16 bit or float")
    add("output", metavar="OUT", help="where to write the result; settings go to OUT.json")
    add("--force", action="store_true", help="replace files that exist")
    add(
        "--sigma",
        type=_auto_or_float,
        default="auto",
        metavar="S",
        help="standard deviation of the noise, in the unit of the image (default: estimated)",
    )
    add(
        "--tv-weight",
        type=_auto_or_float,
        default="auto",
        metavar="W",
        help="weight of total variation, for an image in [0, 1] (default: from the noise)",
    )
    # Choices and numbers are those of stages and presets, which would be slow to import.
    add(
        "--method",
        choices=("two_stage", "dip", "dip_tv"),
        default="two_stage",
        help="where total variation is used: first third, never, always (default: %(default)s)",
    )
    add(
        "--stop",
        choices=("auto", "none"),
        default="auto",
        help="whether to stop before the end (default: %(default)s)",
    )
    add(
        "--quality",
        choices=("fast", "balanced", "best"),
        default="balanced",
        help="how much work: 500, 800 or 2000 iterations (default: %(default)s)",
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
    add("--reference", metavar="FILE", help="the clean image, to report PSNR")
    add("--curves", metavar="FILE", help="draw loss and PSNR into this picture")
    add("--log-x", action="store_true", help="logarithmic iterations in the curves")
    add("--json", action="store_true", help="print a report as JSON")
    add("--quiet", action="store_true", help="no progress bar")


def _denoise(options: argparse.Namespace) -> int:
    from dipfast import files

    # Everything that can be wrong is found out before the work.
    source = files.read_image(options.input)
    reference = None
    if options.reference is not None:
        reference = files.read_image(options.reference).image
    files.check_output(options.output, source, report=True, overwrite=options.force)
    if options.curves is not None:
        from dipfast.report import check_plots

        check_plots()
        files.check_output(options.curves, overwrite=options.force)
        for other in filter(None, (options.output, options.input, options.reference)):
            if Path(options.curves).resolve() == Path(other).resolve():
                raise ValueError(f"--curves would overwrite {other}")

    import dipfast

    with _Progress(hidden=options.quiet) as progress:
        result = dipfast.denoise(
            source.image,
            sigma=options.sigma,
            tv_weight=options.tv_weight,
            method=options.method,
            stop=options.stop,
            quality=options.quality,
            max_iterations=options.max_iterations,
            device=options.device,
            seed=options.seed,
            channel_axis=source.channel_axis,
            data_range=options.data_range,
            reference=reference,
            callback=progress,
        )
    try:
        result.save(options.output, like=source, overwrite=options.force)
    except FileExistsError:  # it was not there when we looked; the work must not be lost
        options.output = _free_name(options.output)
        result.save(options.output, like=source)
    if options.curves is not None:
        from dipfast.report import draw_curves

        draw_curves(result, options.curves, log_x=options.log_x)
    _tell(result, options)
    return _INTERRUPTED_EXIT if result.stop_reason == "interrupted" else 0


def _free_name(path: str) -> str:
    """A name like ``path`` that is not taken: NAME-2.png, NAME-3.png, ..."""
    from dipfast.files import report_path

    for number in itertools.count(2):
        free = Path(path).with_stem(f"{Path(path).stem}-{number}")
        if not (free.exists() or report_path(free).exists()):
            break
    return str(free)


def _tell(result: Result, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(result.report(), indent=2))
        return
    line = f"{options.output}: {result.stop_reason}, {result.best_iteration} iterations"
    if result.metrics:
        line += f", PSNR {result.metrics['psnr_input']:.2f} -> {result.metrics['psnr']:.2f} dB"
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
