"""The words of the command line: messages of the library in its words, on one line."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Words", "one_line"]

_VALUE = r"""'[^']*'|"[^"]*"|\([^()]*\)|[^\s,;:()]+"""


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
