"""What was asked for on the page: the fields of its form, checked, and how they are carried out."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from dipfast.apps.studio.pictures import Picture
from dipfast.errors import InputError
from dipfast.settings.names import DIRECT_METHODS, FACTORS, Quality, TaskName
from dipfast.settings.option import options_of
from dipfast.settings.settings import SETTINGS, decide_method, make_settings

if TYPE_CHECKING:
    from dipfast.images.files import ImageFile
    from dipfast.run.result import Result

__all__ = ["QUALITIES", "TASK_WORDS", "Order", "TaskWords", "help_of", "read_order"]

QUALITIES: tuple[Quality, ...] = get_args(Quality)
"""How much work, from little to much."""


@dataclass(frozen=True)
class TaskWords:
    """Say what a task is called on the page, on the command line, and in names of files."""

    title: str
    help: str
    command: str
    suffix: str


TASK_WORDS: dict[TaskName, TaskWords] = {
    "denoise": TaskWords("Denoise", "Remove noise", "denoise", "denoised"),
    "inpaint": TaskWords("Fill in", "Missing pixels", "inpaint", "inpainted"),
    "super_resolve": TaskWords("Enlarge", "More pixels", "superres", "enlarged"),
    "restore": TaskWords("Undo blur", "Make it sharp", "restore", "deblurred"),
}
"""The tasks, in the order of the page."""

# Fields of the form that are options of the library, and what the page calls them.
_OPTIONS = {"sigma": "Noise", "max_iterations": "Iterations"}


def help_of(task: TaskName, name: str) -> str:
    """Return the first sentence of what the settings say of an option.

    Parameters
    ----------
    task
        The task.
    name
        The option.

    Returns
    -------
    str
        The sentence.

    Examples
    --------
    >>> help_of("super_resolve", "factor")
    'How many times the rows and columns of the image.'
    """
    text = options_of(SETTINGS[task])[name].help
    return text.partition(". ")[0].partition("; ")[0].rstrip(".") + "."


@dataclass(frozen=True, eq=False)
class Order:
    """Hold what is to be done with a picture.

    Attributes
    ----------
    task
        The task.
    options
        Options of the task that are not left at their defaults.
    factor
        Of the enlargement; 1 for other tasks.
    blur
        The standard deviation of a Gaussian blur in pixels; 0 for other tasks.
    takes_artefacts
        Whether the artefacts of a JPEG are taken out, in the place of noise.
    mask
        The missing pixels, boolean (H, W); None for other tasks.
    drops_opacity
        Whether pixels are missing because they are transparent, and will not be.
    notes
        What the library warned of the mask.
    """

    task: TaskName
    options: dict[str, Any] = field(default_factory=dict)
    factor: int = 1
    blur: float = 0.0
    takes_artefacts: bool = False
    mask: Any = None
    drops_opacity: bool = False
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> TaskWords:
        """Return what the task is called."""
        return TASK_WORDS[self.task]

    @property
    def fits(self) -> bool:
        """Return whether a network is fitted, so that there are iterations."""
        return not self.takes_artefacts and _method(self.task, self.options) not in DIRECT_METHODS

    def describe(self) -> str:
        """Return what is to be done, in words."""
        parts = [self.words.title]
        if self.factor > 1:
            parts.append(f"{self.factor} times")
        if self.blur:
            parts.append(f"Gaussian blur of {self.blur:g} pixels")
        if self.takes_artefacts:
            parts.append("artefacts of JPEG")
        parts.append(str(self.options.get("quality", "balanced")))
        for name, title in _OPTIONS.items():
            if name in self.options:
                value = self.options[name]
                told = value if isinstance(value, str) else f"{value:g}"
                parts.append(f"{title.lower()} {told}")
        return ", ".join(parts)

    def result_name(self, picture: Picture) -> str:
        """Return what a result is called when it is downloaded.

        Parameters
        ----------
        picture
            The picture.

        Returns
        -------
        str
            The name of a file.
        """
        return f"{picture.stem}-{self.words.suffix}{picture.suffix}"

    def mask_name(self, picture: Picture) -> str:
        """Return what the mask is called when it is downloaded.

        Parameters
        ----------
        picture
            The picture.

        Returns
        -------
        str
            The name of a file.
        """
        return f"{picture.stem}-mask.png"

    def command(self, picture: Picture) -> str:
        """Return the command that does the same.

        Parameters
        ----------
        picture
            The picture.

        Returns
        -------
        str
            The command, for names of files as they are downloaded.
        """
        words = ["dipfast", self.words.command, picture.name, self.result_name(picture)]
        if self.task == "inpaint":
            words += ["--mask", "alpha" if self.drops_opacity else self.mask_name(picture)]
        if self.task == "super_resolve":
            words += ["--factor", str(self.factor)]
        if self.task == "restore":
            words += ["--blur", f"gaussian:{self.blur:g}"]
        if picture.jpeg_quality is not None and self.task == "denoise":
            words += ["--jpeg", "yes" if self.takes_artefacts else "no"]
        for name, value in self.options.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        # A name that begins with a minus is no option.
        if picture.name.startswith("-"):
            words[2:4] = [f"./{word}" for word in words[2:4]]
        return shlex.join(words)

    def like(self, source: ImageFile) -> ImageFile:
        """Return the file that a result is like.

        Parameters
        ----------
        source
            The picture as it was read.

        Returns
        -------
        ImageFile
            The file, whose metadata a result keeps.
        """
        from dataclasses import replace
        from functools import partial

        from dipfast import ops

        if self.drops_opacity:
            return replace(source, alpha=None)
        return source.enlarged(self.factor, partial(ops.resize, kernel="bicubic"))

    def carry_out(self, source: ImageFile, **observers: Any) -> Result:
        """Restore the picture.

        Parameters
        ----------
        source
            The picture as it was read.
        **observers
            Further options of the library, such as a callback.

        Returns
        -------
        Result
            The result.
        """
        import dipfast

        options: dict[str, Any] = {**self.options, **observers}
        if source.channel_axis is not None:
            options["channel_axis"] = source.channel_axis
        if self.task == "inpaint":
            return dipfast.inpaint(source.image, self.mask, **options)
        if self.task == "super_resolve":
            return dipfast.super_resolve(source.image, self.factor, **options)
        if self.task == "restore":
            kernel = dipfast.operators.gaussian_kernel(self.blur)
            return dipfast.restore(source.image, dipfast.operators.Blur(kernel), **options)
        if self.takes_artefacts:
            options["jpeg"] = source.jpeg
        return dipfast.denoise(source.image, **options)


def read_order(fields: Mapping[str, Any], picture: Picture) -> Order:
    """Return what was asked for.

    Parameters
    ----------
    fields
        The fields of the form, as texts; those of other tasks are ignored.
    picture
        The picture.

    Returns
    -------
    Order
        What is to be done.

    Raises
    ------
    InputError
        If a field is wrong; the message says which.
    """
    texts = {name: str(value).strip() for name, value in fields.items()}
    task = next((name for name in SETTINGS if name == texts.get("task")), None)
    if task is None:
        raise InputError("choose what to do with the picture")
    options: dict[str, Any] = {}
    quality = texts.get("quality", "balanced")
    if quality not in QUALITIES:
        raise InputError(f"How much work must be one of {', '.join(QUALITIES)}, got {quality!r}")
    options["quality"] = quality
    if texts.get("sigma"):
        is_found = texts["sigma"].lower() == "auto"
        options["sigma"] = "auto" if is_found else _number(texts["sigma"], "Noise")
    if texts.get("max_iterations"):
        number = _number(texts["max_iterations"], "Iterations")
        if number != int(number):
            raise InputError(f"Iterations must be a whole number, got {number:g}")
        options["max_iterations"] = int(number)
    order: dict[str, Any] = {}
    if task == "super_resolve":
        order["factor"] = _factor(texts.get("factor", ""))
    elif task == "restore":
        order["blur"] = _blur(texts.get("blur", ""), picture)
    elif task == "inpaint":
        order["drops_opacity"] = texts.get("mask_kind") == "transparent"
        order["mask"], order["notes"] = _mask(texts, picture)
    elif texts.get("jpeg") and picture.jpeg_quality is not None:
        order["takes_artefacts"] = True
        if set(options) != {"quality"}:
            raise InputError(
                "artefacts of JPEG are taken out without Noise and Iterations; leave these empty, "
                "or take out noise instead"
            )
    _check(task, options)
    return Order(task, options, **order)


def _method(task: TaskName, options: dict[str, Any]) -> Any:
    """Return the method that is decided on; InputError if an option is wrong."""
    needed = {"factor": FACTORS[0]} if task == "super_resolve" else {}
    return decide_method(make_settings(SETTINGS[task], {**needed, **options}))


def _check(task: TaskName, options: dict[str, Any]) -> None:
    try:
        _method(task, options)
    except InputError as error:
        text = str(error)
        for name, title in _OPTIONS.items():
            if text.startswith(f"{name} "):
                text = title + text[len(name) :]
        raise InputError(text) from None


def _number(text: str, title: str) -> float:
    try:
        number = float(text)
    except ValueError:
        hint = "; use a point in the place of the comma" if "," in text else ""
        raise InputError(f"{title} must be a number, got {text[:40]!r}{hint}") from None
    if not math.isfinite(number):
        raise InputError(f"{title} must be finite, got {text[:40]!r}")
    return number


def _factor(text: str) -> int:
    if text not in map(str, FACTORS):
        expected = ", ".join(map(str, FACTORS))
        raise InputError(f"the factor must be one of {expected}, got {text[:40]!r}")
    return int(text)


def _blur(text: str, picture: Picture) -> float:
    if not text:
        raise InputError("the blur must be told: the standard deviation of the Gaussian in pixels")
    sigma = _number(text, "Blur")
    # The kernel reaches four standard deviations to every side, and no edge is mirrored twice.
    most = (min(picture.size) - 1) / 4
    if not 0 < sigma <= most:
        raise InputError(f"Blur must be above 0 and at most {most:g} pixels, got {sigma:g}")
    return sigma


def _mask(texts: Mapping[str, str], picture: Picture) -> tuple[Any, tuple[str, ...]]:
    """Return the mask, and what the library warned of it."""
    if texts.get("mask_kind") == "transparent":
        mask = picture.transparent()
        if not mask.any():
            raise InputError(f"all pixels of {picture.name} are opaque")
        return mask, ()
    number = texts.get("mask", "")
    if not number.isdecimal() or int(number) not in picture.masks:
        raise InputError(
            "it must be told which pixels are missing: paint over them, or load a mask"
        )
    return picture.mask(int(number)), picture.mask_notes[int(number)]
