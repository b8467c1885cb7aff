"""What can be typed: commands and options.  Nothing heavy is imported here.

Choices are those of the library, which would be slow to import; a test compares them.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from dipfast._native import __version__
from dipfast.apps.cli.streams import say
from dipfast.apps.cli.words import Words, did_you_mean

__all__ = ["Parser", "make_parser", "tidied", "words_of"]

_METHODS = (
    *("two_stage", "dip", "dip_tv", "two_stage_image", "two_stage_blend", "two_stage_input"),
    *("tv_target", "adaptive_tv", "deep_red", "deep_red_nlm", "deep_red_bm3d"),
)
_QUALITIES = ("fast", "balanced", "best")
_TASKS = ("denoise", "inpaint", "super_resolve", "restore")
# Without those that need a picture besides.
_PRESETS = (
    *(f"{task}-{quality}" for task in _TASKS for quality in _QUALITIES),
    *("original-denoising", "original-jpeg", "original-sr-x4", "original-sr-x8"),
    *("original-sr-prior-effect", "original-inpainting-text", "original-inpainting-object"),
    *("original-inpainting-hole", "original-restoration", "original-restoration-sparse"),
)
_EPILOG = (
    "'dipfast COMMAND --help' tells more about a command. Exit status: 0 done; 1 something "
    "failed on the way, or after OUT was written; 2 wrong arguments or files, nothing was done; "
    "3 OUT was written, but the work was cut so short that it is likely worse than IN; "
    "130 interrupted (Ctrl-C); 143 terminated."
)


class Parser(argparse.ArgumentParser):
    """Knows its arguments, and says what is wrong in one line, with the next step."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.arguments: list[argparse.Action] = []
        super().__init__(*arguments, **options)

    def add_argument(self, *names: Any, **options: Any) -> Any:
        """Add an argument and remember it."""
        action = super().add_argument(*names, **options)
        self.arguments.append(action)
        return action

    def error(self, message: str) -> NoReturn:
        """End the program over an argument."""
        # What is said about the value of an argument says what is expected.
        if message.startswith("argument "):
            message = message.removeprefix("argument ")
        elif "did you mean" not in message:
            message += f"; '{self.prog} --help' tells more"
        say(f"error: {message}")
        sys.exit(2)


def make_parser(commands: Mapping[str, Callable[[argparse.Namespace], int]]) -> Parser:
    """Return the parser of the command line.

    Parameters
    ----------
    commands
        What does each task, by the name of the function of the library.

    Returns
    -------
    Parser
        Its options have ``run``, which does the work, ``task``, the name of the function of the
        library, and ``command``, the parser of the command; their other names are those of the
        arguments of that function.
    """
    parser = Parser(
        prog="dipfast", description="Restore one image with no training data.", epilog=_EPILOG
    )
    parser.add_argument("--version", action="version", version=f"dipfast {__version__}")
    parsers = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    parser.set_defaults(commands=parsers.choices)
    for task, name, what, add_more in (
        ("denoise", "denoise", "remove noise from an image", None),
        ("inpaint", "inpaint", "fill in missing pixels", _add_mask),
        ("super_resolve", "superres", "enlarge an image", _add_factor),
        ("restore", "restore", "undo a blur", _add_blur),
    ):
        command = parsers.add_parser(
            name,
            help=what,
            description=f"{what.capitalize()}. Ctrl-C ends early and keeps the result so far.",
        )
        command.set_defaults(run=commands[task], task=task, command=command)
        add = command.add_argument
        add("image", metavar="IN", help="PNG, JPEG or TIFF, 8 or 16 bit or float")
        add("output", metavar="OUT", help="where to write the result; settings go to OUT.json")
        if add_more is not None:
            add_more(command)
        _add_options(command, sigma=0.0 if task in ("inpaint", "super_resolve") else "auto")
    return parser


def tidied(parser: Parser, arguments: Sequence[str]) -> list[str]:
    """Return arguments with negative values joined to their options.

    What is no command or no option, and what are too many file names, ends the program, because
    argparse would blame something else first.
    """
    commands: dict[str, Parser] = parser.get_default("commands")
    words = list(arguments)
    at = next((k for k, word in enumerate(words) if not word.startswith("-")), len(words))
    for word in words[:at]:
        _option(parser, word)
    if at == len(words):
        return words
    name = words[at]
    if name not in commands:
        # A file name in the place of a command is not mistyped.
        hint = "" if Path(name).suffix else did_you_mean(name, commands)
        *most, last = commands
        expected = f"; expected {', '.join(most)} or {last}"
        parser.error(f"there is no command {name!r}{hint or expected}")
    command = commands[name]
    result, files, rest = words[: at + 1], [], iter(words[at + 1 :])
    for word in rest:
        if word == "--":
            files += (remaining := list(rest))
            result += [word, *remaining]
        elif word.startswith("-") and len(word) > 1:
            action = _option(command, word)
            takes_value = action is not None and action.nargs != 0 and "=" not in word
            value = next(rest, None) if takes_value else None
            if value is None:
                result.append(word)
            # Of our options, all but -h have two dashes.
            elif value.startswith("-") and not value.startswith("--") and value != "-h":
                result.append(f"{word}={value}")
            elif value.startswith("--"):
                command.error(f"{word} needs a value in front of {value}")
            else:
                result += [word, value]
        else:
            files.append(word)
            result.append(word)
    wanted = [str(action.metavar) for action in command.arguments if not action.option_strings]
    if len(files) > len(wanted):
        command.error(
            f"{' and '.join(wanted)} expected, got {len(files)} names: "
            f"{', '.join(files)}; names with blanks need quotes"
        )
    return result


def _option(parser: Parser, word: str) -> argparse.Action | None:
    """Return the option that a word is or abbreviates; None if several begin with it."""
    typed = word.partition("=")[0]
    options = {name: action for action in parser.arguments for name in action.option_strings}
    if typed in options:
        return options[typed]
    longer = [name for name in options if typed.startswith("--") and name.startswith(typed)]
    if not longer:
        hint = did_you_mean(typed.lstrip("-"), (name.lstrip("-") for name in options))
        hint = hint.replace("mean ", "mean --").replace(" or ", " or --")
        if not hint and not typed.startswith("--"):
            hint = f"; for a file of that name, type ./{word}"
        parser.error(f"there is no option {typed}{hint}")
    return options[longer[0]] if len(longer) == 1 else None


def words_of(options: argparse.Namespace) -> Words:
    """Return the words of the command line for messages of the library."""
    names, flags, typed = {}, {}, []
    for action in options.command.arguments:
        if action.dest not in options:  # --help
            continue
        value = getattr(options, action.dest)
        if isinstance(value, str):
            typed.append(value)
        if action.option_strings:
            names[action.dest] = action.option_strings[-1]
        elif isinstance(value, str):
            names[action.dest] = value
        if action.nargs == 0:
            flags[action.dest] = action.const
    functions = {
        command.get_default("task"): " ".join(
            [command.prog, *(str(a.metavar) for a in command.arguments if not a.option_strings)]
        )
        for command in options.commands.values()
    }
    # Words that are no file names are taken for those of the library.
    return Words(names, flags, functions, [text for text in typed if not text.isidentifier()])


# --- options -----------------------------------------------------------------------------


def _add_mask(command: Parser) -> None:
    add = command.add_argument
    add(
        "--mask",
        type=_mask,
        metavar="M",
        help="which pixels are missing: a picture of the same size, white on black or strokes on a "
        "clear layer, 'alpha' (those of IN that are not opaque), or 'value:V' (those of IN of "
        "value V); default: those that are NaN",
    )
    _add_choice(
        command,
        "--mask-marks",
        ("missing", "known"),
        default="missing",
        help="what white, or strokes on a clear layer, mean in the picture of the mask",
    )
    add(
        "--refit-known",
        dest="keep_known",
        action="store_false",
        help="take the network's values for the known pixels too (default: they stay as they are)",
    )


def _add_factor(command: Parser) -> None:
    _add_choice(
        command, "--factor", ("2", "3", "4", "8"), read=int, default=4, help="how much larger"
    )
    _add_choice(
        command,
        "--kernel",
        ("lanczos2", "lanczos3", "bicubic", "bilinear", "box"),
        default="lanczos2",
        help="how the image was made smaller",
    )


def _add_blur(command: Parser) -> None:
    command.add_argument(
        "--blur",
        type=_blur,
        required=True,
        metavar="K",
        help="point-spread function: 'gaussian:SIGMA' (in pixels), 'box:SIZE', or a grey picture "
        "of it, which is scaled to the sum 1",
    )
    _add_choice(
        command,
        "--boundary",
        ("reflect", "replicate", "circular", "zero"),
        default="reflect",
        help="what lies beyond the border",
    )


def _add_options(command: Parser, sigma: float | str) -> None:
    """Add what all commands may be told."""
    add = command.add_argument
    add("--force", action="store_true", help="replace files that exist")
    add(
        "--sigma",
        type=_auto_or_number,
        default=sigma,
        metavar="S",
        help="standard deviation of the noise, in the unit of the image, or 'auto', which "
        f"estimates it (default: {sigma})",
    )
    _add_choice(
        command,
        "--noise",
        ("auto", "gaussian", "clipped", "poisson_gaussian"),
        default="auto",
        help="kind of noise: cut off at the ends of the range, growing with the signal; 'auto' is "
        "what the picture looks like",
    )
    add(
        "--tv-weight",
        type=_auto_or_number,
        default="auto",
        metavar="W",
        help="weight of total variation, for an image in [0, 1] (default: from the noise)",
    )
    _add_choice(
        command,
        "--method",
        _METHODS,
        default="two_stage",
        metavar="NAME",
        help="two_stage, dip or dip_tv: total variation in the first third, never, always; or a "
        f"variant: {', '.join(_METHODS[3:])}",
    )
    _add_choice(
        command,
        "--stop",
        ("auto", "none", "discrepancy", "held_out", "es_wmv", "es_emv"),
        default="auto",
        metavar="RULE",
        help="when to stop, and which iteration is the best: auto, discrepancy, held_out, es_wmv, "
        "es_emv, or none",
    )
    add(
        "--time-limit",
        type=_number,
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
        type=_integer,
        default=100,
        metavar="N",
        help="iterations from one writing to the next (default: %(default)s)",
    )
    add("--resume", action="store_true", help="go on from the checkpoint, if there is one")
    _add_choice(command, "--quality", _QUALITIES, default="balanced", help="how much work")
    _add_choice(
        command,
        "--preset",
        _PRESETS,
        metavar="NAME",
        help="settings of the original's examples instead: "
        + ", ".join(name for name in _PRESETS if name.startswith("original")),
    )
    add(
        "--max-iterations",
        type=_integer,
        metavar="N",
        help="instead of the number that goes with the quality",
    )
    add("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: CUDA if there is one)")
    add("--seed", type=_integer, default=0, help="the same seed gives the same result (default: 0)")
    add(
        "--data-range",
        type=_data_range,
        metavar="R",
        help="brightest value, or DARKEST,BRIGHTEST (default: 0,255 for 8 bits, else what is found "
        "in the picture)",
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
    add("--json", action="store_true", help="print a report as JSON, and nothing else")
    add("--quiet", action="store_true", help="no progress bar")


def _add_choice(
    command: Parser,
    option: str,
    names: Sequence[str],
    *,
    help: str,
    read: Callable[[str], Any] = str,
    default: Any = None,
    metavar: str | None = None,
) -> None:
    """Add an option for one of some words, of which a near miss is told."""

    def choose(text: str) -> Any:
        if text in names:
            return read(text)
        hint = did_you_mean(text, names)
        raise argparse.ArgumentTypeError(
            f"there is no {text!r}{hint}"
            if hint
            else f"one of {', '.join(names)} expected, got {text!r}"
        )

    command.add_argument(
        option,
        type=choose,
        default=default,
        metavar=metavar or f"{{{','.join(names)}}}",
        help=help + ("" if default is None else " (default: %(default)s)"),
    )


# --- values ------------------------------------------------------------------------------


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a whole number expected, got {text!r}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"a number expected, got {text!r}" + _with_a_point(text)
        ) from None


def _auto_or_number(text: str) -> str | float:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        hint = _with_a_point(text) or did_you_mean(text, ["auto"])
        raise argparse.ArgumentTypeError(
            f"'auto' or a number expected, got {text!r}{hint}"
        ) from None


def _with_a_point(text: str) -> str:
    """Ask about a decimal comma."""
    try:
        float(text.replace(",", ".", 1))
    except ValueError:
        return ""
    return f"; did you mean {text.replace(',', '.')}?"


def _data_range(text: str) -> float | tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, 2):
        raise argparse.ArgumentTypeError(
            f"a number, or two with a comma and no blank, expected, got {text!r}"
        )
    return values[0] if len(values) == 1 else values


def _mask(text: str) -> str | float:
    """Return a file name, 'alpha', or the value that marks missing pixels."""
    kind, colon, number = text.partition(":")
    if text == "alpha":
        return text
    if kind != "value" or not colon:
        return _file(text, "alpha", "value")
    try:
        return float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"value:V needs a number, such as value:0, got {text!r}"
        ) from None


def _blur(text: str) -> str | tuple[str, float]:
    """Return a file name, or kind and number of a kernel."""
    kind, _, number = text.partition(":")
    if kind not in ("gaussian", "box"):
        return _file(text, "gaussian", "box")
    try:
        value = float(number) if kind == "gaussian" else int(number)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        expected = (
            "gaussian:SIGMA needs a number above 0, in pixels, such as gaussian:1.6"
            if kind == "gaussian"
            else "box:SIZE needs a whole number of pixels from 1 up, such as box:3"
        )
        raise argparse.ArgumentTypeError(f"{expected}, got {text!r}")
    return kind, value


def _file(text: str, *words: str) -> str:
    """Return the name of a file, or ask whether another word was meant that may stand there."""
    kind, colon, number = text.partition(":")
    hint = did_you_mean(kind, words).replace("?", f"{colon}{number}?")
    if hint and not Path(text).exists() and (colon or not Path(text).suffix):
        raise argparse.ArgumentTypeError(f"there is no file {text!r}{hint}")
    return text
