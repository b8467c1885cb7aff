"""Modes of torch and NumPy that a caller may have set, and that must not change a result.

Modes of the thread (gradients disabled, inference mode, automatic mixed precision, the default
device, NumPy's handling of errors) are reset during a fit, and restored after it.  Modes of the
whole process are not changed, because other threads may rely on them; results do not depend on the
default dtype or ``torch.use_deterministic_algorithms``.  The number of threads, oneDNN and TF32 are
left as they are set, and may change the last bits of a result.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dipfast.errors import ProcessError
from dipfast.forks import check_process

__all__ = ["is_of_inference", "plain_modes", "plain_operator", "plain_tensor"]

_T = TypeVar("_T")

# Not public, but used in the same way within torch.  Where it is missing, bool() answers False.
_transforming = getattr(torch._C, "_are_functorch_transforms_active", bool)

# Devices that automatic mixed precision is disabled for.
_DEVICES = ("cpu", "cuda", "mps", "xpu")


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
        check_process()
        yield


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
