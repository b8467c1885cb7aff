"""Modes of torch and NumPy that a caller may have put on, and that must not change a result.

Modes of the thread (gradients off, inference, automatic mixed precision, the default device,
NumPy's errors) are off in here, and as they were afterwards.  What belongs to the whole
process is not touched, because another thread may rely on it: nothing here depends on the
default dtype or ``torch.use_deterministic_algorithms``.  How torch computes, that is the number
of threads, oneDNN on or off, TF32, is taken as it is.
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

# Not public, and asked for in the way that torch's own library does.
_transforming = getattr(torch._C, "_are_functorch_transforms_active", bool)

# Devices that have automatic mixed precision, and may be worked on.
_DEVICES = ("cpu", "cuda", "mps", "xpu")


@contextmanager
def plain_modes() -> Iterator[None]:
    """Run as if no mode of this thread had been put on; a decorator as well.

    Whatever is called from inside sees plain modes too: forward models, networks, rules and
    callbacks of the caller's own.  May be nested, and costs microseconds.

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
        modes.enter_context(torch.inference_mode(False))  # gradients are on as well
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                modes.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            modes.enter_context(torch.device("cpu"))
        modes.enter_context(np.errstate(all="warn", under="ignore"))
        check_process()
        yield


def plain_tensor(x: Tensor) -> Tensor:
    """The tensor without its history, as a copy if it was made in inference mode."""
    x = x.detach()
    return x.clone() if x.is_inference() else x


def is_of_inference(module: object) -> bool:
    """Whether weights or buffers of a module were made in inference mode.

    torch does not differentiate through these.
    """
    return isinstance(module, nn.Module) and any(
        tensor.is_inference() for tensor in chain(module.parameters(), module.buffers())
    )


def plain_operator(operator: _T) -> _T:
    """The operator, as a copy if it is a module of tensors that were made in inference mode."""
    return copy.deepcopy(operator) if is_of_inference(operator) else operator
