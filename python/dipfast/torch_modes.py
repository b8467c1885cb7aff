"""Modes of torch and NumPy that a caller may have set, and that must not change a result.

Modes of the thread (gradients disabled, inference mode, automatic mixed precision, the default
device, NumPy's handling of errors) are reset during a fit, and restored after it.  Modes of the
whole process are not changed, because other threads may rely on them; results do not depend on the
default dtype.  The number of threads, oneDNN and TF32 are left as they are set, and may change the
last bits of a result.

``torch.use_deterministic_algorithms`` is the exception, on machines with a GPU: on it, torch has no
deterministic way back through padding by reflection, so that a fit would end with an exception, or
warn at every iteration.  The mode is off for the whole process while any thread is inside a block
of :func:`plain_modes`, and afterwards as it was before; between two iterations of a loop of your
own it is as you set it.  Without a GPU it is left alone: results do not depend on it on the CPU.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dipfast.errors import ProcessError
from dipfast.forks import check_process

__all__ = ["is_of_inference", "is_transformed", "plain_modes", "plain_operator", "plain_tensor"]

_T = TypeVar("_T")

# Not public, but used in the same way within torch.  Where it is missing, bool() answers False.
_transforming = getattr(torch._C, "_are_functorch_transforms_active", bool)

# Devices that automatic mixed precision is disabled for.
_DEVICES = ("cpu", "cuda", "mps", "xpu")


class _Determinism:
    """Turn off ``torch.use_deterministic_algorithms`` while any thread is inside a block."""

    def __init__(self) -> None:
        self.blocks = 0
        self._warn_only = False
        self._lock = threading.Lock()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Turn the mode off until the last of the blocks that overlap is left."""
        with self._lock:
            if not self.blocks:
                self._warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
                torch.use_deterministic_algorithms(False)
            self.blocks += 1
        try:
            yield
        finally:
            with self._lock:
                self.blocks -= 1
                if not self.blocks:
                    torch.use_deterministic_algorithms(True, warn_only=self._warn_only)


_determinism = _Determinism()


def _has_gpu() -> bool:
    """Return whether torch could compute on a GPU."""
    return torch.cuda.is_available() or torch.backends.mps.is_available()


@contextmanager
def plain_modes() -> Iterator[None]:
    """Reset the modes of this thread inside a ``with`` block; also a decorator.

    Operators, networks, stop rules and callbacks of the user that are called inside see the reset
    modes too.  Blocks may be nested, and cost microseconds.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    ProcessError
        Inside a transform of ``torch.func``, or in a forked process that cannot use torch.

    Examples
    --------
    >>> x = torch.ones(1, requires_grad=True)
    >>> with torch.no_grad(), plain_modes():
    ...     (2 * x).requires_grad
    True
    """
    if _transforming():
        raise ProcessError(
            "an image cannot be restored inside a transform of torch.func (vmap, grad, ...): "
            "restore it outside"
        )
    with ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))  # enables gradients as well
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                modes.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            modes.enter_context(torch.device("cpu"))
        modes.enter_context(np.errstate(all="warn", under="ignore"))
        if (torch.are_deterministic_algorithms_enabled() or _determinism.blocks) and _has_gpu():
            modes.enter_context(_determinism.off())
        check_process()
        yield


def is_transformed() -> bool:
    """Return whether a transform of ``torch.func`` is running.

    Returns
    -------
    bool
        True within vmap, grad, ...
    """
    return bool(_transforming())


def plain_tensor(x: Tensor) -> Tensor:
    """Return a tensor that is not part of a computation graph.

    Parameters
    ----------
    x
        Any tensor.

    Returns
    -------
    Tensor
        The detached tensor; a copy if it was made in inference mode, which gradients cannot use.
    """
    x = x.detach()
    return x.clone() if x.is_inference() else x


def is_of_inference(module: object) -> bool:
    """Return whether weights or buffers of a module were made in inference mode.

    Parameters
    ----------
    module
        Any object.

    Returns
    -------
    bool
        True if torch cannot differentiate through the module; False for other objects.
    """
    return isinstance(module, nn.Module) and any(
        tensor.is_inference() for tensor in chain(module.parameters(), module.buffers())
    )


def plain_operator(operator: _T) -> _T:
    """Return an operator that torch can differentiate through.

    Parameters
    ----------
    operator
        An operator, module or not.

    Returns
    -------
    object
        The operator itself; a copy if it has tensors that were made in inference mode.
    """
    return copy.deepcopy(operator) if is_of_inference(operator) else operator
