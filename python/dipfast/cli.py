"""The command line.  Heavy imports wait until a command needs them."""

from __future__ import annotations

import argparse
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

    0: done; 2: wrong arguments or files, nothing was written; 130: interrupted, the best
    so far was written.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (OSError, ValueError, TypeError, ImportError) as error:
        print(f"dipfast: error: {_message(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dipfast: interrupted, nothing was written", file=sys.stderr)
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
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
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
        help="standard deviation of the noise, in the unit of the image",
    )
    add(
        "--tv-weight",
        type=_auto_or_float,
        default="auto",
        metavar="W",
        help="weight of total variation, for an image in [0, 1]; larger is smoother",
    )
    # The choices are checked, and named, by dipfast.denoise; importing them would be slow.
    add(
        "--method",
        choices=("two_stage", "dip", "dip_tv"),
        default="two_stage",
        help="where total variation is used: first third, never, always",
    )
    add("--stop", choices=("auto", "none"), default="auto", help="when to stop before the end")
    add(
        "--quality",
        choices=("fast", "balanced", "best"),
        default="balanced",
        help="how much work: 500, 800 or 2400 iterations",
    )
    add("--max-iterations", type=int, metavar="N", help="number that goes with the quality")
    add("--device", default="auto", help="cpu, cuda, cuda:1, ...")
    add("--seed", type=int, default=0, help="the same seed gives the same result")
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
    files.check_output(options.output, source, overwrite=options.force)
    report = Path(options.output + ".json")
    if report.exists() and not options.force:
        raise FileExistsError(f"{report} exists already")
    if options.curves is not None:
        from dipfast.report import check_plots

        check_plots()
        files.check_output(options.curves, overwrite=options.force)
        if Path(options.curves).resolve() == Path(options.output).resolve():
            raise ValueError(f"--curves and OUT are the same file, {options.output}")

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
    result.save(options.output, like=source, overwrite=options.force)
    if options.curves is not None:
        from dipfast.report import draw_curves

        draw_curves(result, options.curves, log_x=options.log_x)
    _tell(result, options)
    return _INTERRUPTED_EXIT if result.stop_reason == "interrupted" else 0


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


if __name__ == "__main__":
    sys.exit(main())
