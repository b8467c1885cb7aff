"""dipfast: restore one image with no training data.

A network that was never trained is fitted to the one degraded image (Deep Image Prior),
in two stages: total variation first, details second.

>>> import dipfast
>>> result = dipfast.denoise(noisy)              # doctest: +SKIP
>>> result.image                                 # doctest: +SKIP
>>> dipfast.inpaint(image, mask)                 # doctest: +SKIP
>>> dipfast.super_resolve(image, 4)              # doctest: +SKIP
>>> dipfast.restore(image, operator)             # doctest: +SKIP

Importing dipfast does not import torch; the first use of what needs it does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dipfast import ops
from dipfast._native import __version__
from dipfast.forks import mind_forks

if TYPE_CHECKING:
    from dipfast import networks, operators, stopping
    from dipfast.interrupt import Interrupt
    from dipfast.noise import NoiseModel
    from dipfast.prior import DeepImagePrior
    from dipfast.result import Result
    from dipfast.tasks import denoise, inpaint, restore, super_resolve

__all__ = [
    "DeepImagePrior",
    "Interrupt",
    "NoiseModel",
    "Result",
    "__version__",
    "denoise",
    "inpaint",
    "networks",
    "operators",
    "ops",
    "restore",
    "stopping",
    "super_resolve",
]

_HOMES = {
    "DeepImagePrior": "prior",
    "Interrupt": "interrupt",
    "NoiseModel": "noise",
    "Result": "result",
    **dict.fromkeys(("denoise", "inpaint", "restore", "super_resolve"), "tasks"),
}


mind_forks()


def __getattr__(name: str) -> Any:
    if name in ("networks", "operators", "stopping"):
        return import_module(f"dipfast.{name}")
    if name in _HOMES:
        value = getattr(import_module(f"dipfast.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'dipfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
