"""Fields of a form, made of what the settings say of the options of a task."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

from dipfast.errors import DipfastError
from dipfast.settings.names import TaskName
from dipfast.settings.option import Option, options_of
from dipfast.settings.settings import SETTINGS, make_settings

__all__ = ["FIRST", "MORE", "OptionField", "fields_of", "number_or_text", "tip"]

FIRST = ("factor", "quality", "sigma")
"""Options that are always seen, where a task has them."""

MORE = ("method", "tv_weight", "max_iterations", "time_limit", "seed")
"""Options that are seen when they are asked for."""

_ACRONYMS = {"tv": "TV"}


class OptionField:
    """Hold the field of one option.

    Parameters
    ----------
    option
        What the settings say of it.
    choices
        Values that may be chosen; with none, a text is written.
    on_change
        Called when another value is chosen or written.

    Attributes
    ----------
    widget
        The widget of Qt.
    label
        What the option is called.
    """

    def __init__(
        self, option: Option, choices: tuple[Any, ...], on_change: Callable[[], None]
    ) -> None:
        from qtpy.QtWidgets import QComboBox, QLineEdit

        self.option = option
        words = [_ACRONYMS.get(word, word) for word in option.name.split("_")]
        self.label = " ".join([words[0][0].upper() + words[0][1:], *words[1:]])
        self.choices = choices
        self.widget: Any
        if choices:
            self.widget = QComboBox()
            self.widget.addItems([str(choice) for choice in choices])
            if option.default in choices:
                self.widget.setCurrentIndex(choices.index(option.default))
            self.widget.currentIndexChanged.connect(lambda _: on_change())
        else:
            self.widget = QLineEdit()
            default = "" if option.default is None else str(option.default)
            self.widget.setPlaceholderText(default or option.unit or option.expected)
            self.widget.textChanged.connect(lambda _: on_change())
        unit = f" (unit: {option.unit})".replace(": of the", ": that of the") if option.unit else ""
        self.widget.setToolTip(tip(option.help + unit))

    @property
    def value(self) -> Any:
        """What was chosen or written; the default where nothing was."""
        if self.choices:
            return self.choices[self.widget.currentIndex()]
        text = self.widget.text().strip()
        return number_or_text(text) if text else self.option.default

    def set(self, value: Any) -> None:
        """Choose or write a value.

        Parameters
        ----------
        value
            The value.
        """
        if self.choices:
            self.widget.setCurrentIndex(self.choices.index(value))
        else:
            self.widget.setText("" if value == self.option.default else str(value))

    @property
    def is_default(self) -> bool:
        """Say whether the option is left at its default."""
        default: bool = self.option.default is not ... and self.value == self.option.default
        return default


def fields_of(task: TaskName, on_change: Callable[[], None]) -> dict[str, OptionField]:
    """Return the fields of the options of a task that the form has, by name.

    Parameters
    ----------
    task
        The task.
    on_change
        Called when another value is chosen or written.

    Returns
    -------
    dict
        The fields, in their order.
    """
    options = options_of(SETTINGS[task])
    return {
        name: OptionField(options[name], _possible(task, options[name]), on_change)
        for name in (*FIRST, *MORE)
        if name in options
    }


def _possible(task: TaskName, option: Option) -> tuple[Any, ...]:
    """Return the choices of an option that the task does not refuse."""
    needed = {
        name: said.choices[0]
        for name, said in options_of(SETTINGS[task]).items()
        if said.default is ...
    }

    def is_possible(choice: Any) -> bool:
        try:
            make_settings(SETTINGS[task], {**needed, option.name: choice})
        except DipfastError:
            return False
        return True

    return tuple(filter(is_possible, option.choices))


def number_or_text(text: str) -> Any:
    """Return a number where a text is one, and else the text, which may be a name.

    Parameters
    ----------
    text
        The text.

    Returns
    -------
    int or float or str
        The value.

    Examples
    --------
    >>> number_or_text("12"), number_or_text("0.5"), number_or_text("auto")
    (12, 0.5, 'auto')
    """
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def tip(text: str) -> str:
    """Return a text as a tooltip whose lines are broken.

    Parameters
    ----------
    text
        The text.

    Returns
    -------
    str
        Rich text.
    """
    return f"<qt>{escape(text)}</qt>"
