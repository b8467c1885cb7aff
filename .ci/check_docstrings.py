"""Check the docstrings of all public objects against the rules of numpydoc.

    python .ci/check_docstrings.py

Public is what a module lists in ``__all__``, and the methods of such classes.  ``numpydoc lint``
reads the syntax alone; here the objects themselves are looked at, so that a method that overrides a
documented one, a field of a dataclass and an overload need no docstring of their own.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from enum import Enum
from typing import Any

from numpydoc.validate import validate
from pydantic import BaseModel

import dipfast

# GL08: there is a docstring.  SS03, SS05, SS06: its first line is one imperative sentence that ends
# with a period.  PR01, PR02: all parameters are described, and no others.  PR06: types have their
# usual names.  RT01: what is returned is described.
CHECKS = {"GL08", "SS03", "SS05", "SS06", "PR01", "PR02", "PR06", "RT01"}
# One sentence that says what is returned is enough for a short function.
_SHORT = "Return "


def modules() -> Iterator[Any]:
    """Yield all modules of the package, but for those that need Triton."""
    for found in pkgutil.walk_packages(dipfast.__path__, "dipfast."):
        if not any(part.startswith("_") for part in found.name.split(".")[1:]):
            yield importlib.import_module(found.name)


def public_objects() -> Iterator[tuple[str, Any]]:
    """Yield public functions, classes and methods, each once, with their names."""
    seen = set()
    for module in modules():
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if not (inspect.isfunction(value) or inspect.isclass(value)) or value in seen:
                continue
            if not value.__module__.startswith("dipfast"):
                continue
            seen.add(value)
            full = f"{module.__name__}.{name}"
            yield full, value
            if inspect.isclass(value):
                for method, function in vars(value).items():
                    if method[0] != "_" and _needs_docstring(value, method, function):
                        yield f"{full}.{method}", function


def _needs_docstring(cls: type, name: str, value: Any) -> bool:
    """Whether a member is a method or property that no base class documents."""
    if not (inspect.isfunction(value) or isinstance(value, classmethod | property)):
        return False
    bases = (getattr(base, name, None) for base in cls.__mro__[1:])
    return not any(base is not None and base.__doc__ for base in bases)


def errors_of(name: str, value: Any) -> list[str]:
    """Return what is wrong with the docstring of an object."""
    docstring = inspect.getdoc(value) or ""
    try:
        errors = validate(name)["errors"]
    except StopIteration:  # numpydoc does not find the source of what was made by a call
        errors = []
    found = [f"{code} {text}" for code, text in errors if code in CHECKS]
    # Arguments of classes that have no __init__ of their own.
    found = [error for error in found if "'*args'" not in error]
    if "\nAttributes\n" in docstring:  # the fields of a dataclass
        found = [error for error in found if error[:4] != "PR01"]
    if isinstance(value, property):  # numpydoc takes properties for methods
        found = [error for error in found if error[:4] not in ("RT01", "PR01", "SS05")]
    if docstring.startswith(_SHORT) and "\nParameters\n" not in docstring:
        found = [error for error in found if error[:4] not in ("RT01", "PR01")]
    if inspect.isclass(value) and (issubclass(value, BaseModel | Enum) or _is_protocol(value)):
        found = [error for error in found if error[:4] != "PR01"]  # fields describe themselves
    if name.startswith("dipfast.apps."):  # nobody calls these from outside
        found = [error for error in found if error[:4] not in ("PR01", "RT01")]
    return found


def _is_protocol(cls: type) -> bool:
    return bool(getattr(cls, "_is_protocol", False))


def main() -> int:
    """Print what is wrong, and return the exit status."""
    count = 0
    for name, value in public_objects():
        for error in errors_of(name, value):
            print(f"{name}: {error}")
            count += 1
    print(f"{count} errors in docstrings", file=sys.stderr)
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
