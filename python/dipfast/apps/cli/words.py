"""The words of the command line: near misses, and messages of the library in its words."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from typing import Any

__all__ = ["Words", "did_you_mean", "one_line"]

# Fewer letters are the beginning of too many names.
_LEAST_LETTERS = 3
_VALUE = r"""'[^']*'|"[^"]*"|\([^()]*\)|[^\s,;:()]+"""


def did_you_mean(word: str, names: Iterable[str], *, least: float = 0.6) -> str:
    """Return the question whether one of some names was meant; empty if none is like the word.

    Parameters
    ----------
    word
        What was typed.
    names
        What could have been typed.
    least
        How alike a name must be, of 1; below that it is another word rather than mistyped.  A
        name that begins with the word is alike enough in any case.

    Examples
    --------
    >>> did_you_mean("two-stage", ["dip", "two_stage", "two_stage_image"])
    '; did you mean two_stage?'
    >>> did_you_mean("lanczos", ["lanczos2", "lanczos3", "box"])
    '; did you mean lanczos2 or lanczos3?'
    """
    names = tuple(names)
    ratios = {name: SequenceMatcher(None, _plain(word), _plain(name)).ratio() for name in names}
    best = max(ratios.values(), default=0.0)
    alike = [name for name, ratio in ratios.items() if ratio == best >= least]
    if not alike and len(word) >= _LEAST_LETTERS:
        alike = [name for name in names if _plain(name).startswith(_plain(word))]
    return f"; did you mean {' or '.join(alike)}?" if alike else ""


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")


def one_line(text: str) -> str:
    """Return a text without line breaks and control characters, which file names may have."""

    def is_harmless(character: str) -> bool:
        # Bytes of a file name that is not in the encoding come back as they were.
        return character.isprintable() or "\udc80" <= character <= "\udcff"

    return "".join(c if is_harmless(c) else ascii(c)[1:-1] for c in " ".join(text.split()))


class Words:
    """Translate messages of the library, which name arguments of functions.

    Parameters
    ----------
    names
        What the command line calls an argument of the library: an option, or the file name that
        was typed.
    flags
        Of these, options without a value: what is typed for True and for False.
    functions
        How the command line calls a function of the library.
    typed
        File names, which stay as they are.

    Examples
    --------
    >>> names = {"image": "in.png", "data_range": "--data-range", "resume": "--resume"}
    >>> flags = {"resume": {True: "--resume", False: "no --resume"}}
    >>> words = Words(names, flags, {"inpaint": "dipfast inpaint IN OUT"}, [])
    >>> words.translate("values of image beyond data_range=(0.0, 255.0) will be cut off")
    'values of image beyond --data-range 0,255 will be cut off'
    >>> words.translate("image has NaN pixels; dipfast.inpaint(image) fills them")
    "in.png has NaN pixels; 'dipfast inpaint IN OUT' fills them"
    >>> words.translate("resume=True needs a checkpoint to go on from")
    '--resume needs a checkpoint to go on from'
    """

    def __init__(
        self,
        names: Mapping[str, str],
        flags: Mapping[str, Mapping[bool, str]],
        functions: Mapping[str, str],
        typed: Iterable[str],
    ) -> None:
        self._names, self._flags, self._functions = names, flags, functions
        paths = {*typed, *map(os.path.dirname, typed)} - {""}

        def any_of(texts: Iterable[str]) -> str:
            longest_first = sorted(texts, key=len, reverse=True)
            return "|".join(map(re.escape, longest_first)) or r"(?!)"

        name = any_of(names)
        self._pattern = re.compile(
            # With its value; alone in parentheses; as the first word of a clause.  Names of several
            # words are no others, so anywhere.
            rf"""(?P<pair>\b(?P<left>{name})=(?P<right>{_VALUE}))
            | \((?P<alone>{name})\)
            | (?:^|(?<=:[ ])|(?<=;[ ]))(?P<first>{name})(?=[ :])
            | (?<![\w/.-])(?P<typed>{any_of(paths)})(?![\w/-])
            | \b(?P<long>{any_of(n for n in names if "_" in n)})\b
            | \bdipfast\.(?P<function>{any_of(functions)})\b(?:\([^()]*\))?""",
            re.VERBOSE,
        )

    def translate(self, message: str) -> str:
        """Return a message in the words of the command line, on one line."""
        return one_line(self._pattern.sub(self._replace, message))

    def _replace(self, found: re.Match[str]) -> str:
        if found["typed"]:
            return found[0]
        if found["function"]:
            return f"'{self._functions[found['function']]}'"
        if not found["pair"]:
            name = self._names[found["alone"] or found["first"] or found["long"]]
            return f"({name})" if found["alone"] else name
        name = self._names[found["left"]]
        value = _literal(found["right"])
        flag = self._flags.get(found["left"], {})
        if isinstance(value, bool) and value in flag:
            return flag[value]
        return f"{name} {_typed(value)}"


def _literal(text: str) -> Any:
    """Return the value that Python writes so; the text itself, without blanks, if it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text.strip("()").replace(" ", "")


def _typed(value: Any) -> str:
    """Return a value as it is typed."""
    if isinstance(value, tuple):
        return ",".join(map(_typed, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
