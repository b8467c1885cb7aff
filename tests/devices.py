"""Pretend that there is a GPU, for tests without one.

Within :func:`pretended_device` a device such as ``"mps:0"`` or ``"cuda:0"`` can be used, whose
tensors have their data on the CPU.  As on a real one, its tensors and those of the CPU do not mix,
MPS has no float64, and some functions are not deterministic.  The operators of dipfast take there
what they take on devices without a kernel of their own.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from dipfast.ops import _torch

__all__ = ["Device", "pretended_device"]

_aten = torch.ops.aten
# Operations that take tensors of several devices: copies, and indices on the CPU.
_ACROSS = {
    _aten._to_copy.default,
    _aten.copy_.default,
    _aten.index.Tensor,
    _aten.index_put_.default,
}
# Operations that C++ does for the device of another tensor.
_LIKE_ANOTHER = {
    _aten._to_copy.default,
    _aten.scalar_tensor.default,
    _aten.new_empty_strided.default,
}
# Operations that wait for the device.
_READS = {_aten._local_scalar_dense.default, _aten.equal.default, _aten.nonzero.default}
# Operations of a fit that torch has no deterministic implementation of on GPUs.
_NOT_DETERMINISTIC = {
    _aten.reflection_pad2d_backward.default,
    _aten.upsample_bilinear2d_backward.default,
}


class Device:
    """Describe a pretended device, and record what waits for it.

    Attributes
    ----------
    itself
        The device, with its number.
    reads
        The operations so far that waited for the device.
    """

    def __init__(self, name: str) -> None:
        self.itself = torch.device(name)
        self.reads: list[str] = []

    def is_at(self, device: Any) -> bool:
        """Return whether a device that an operation is asked for is this one."""
        return torch.device(device).type == self.itself.type


class _There(Tensor):
    """Hold a tensor of the CPU that pretends to be on the device.

    To C++ it is on the device "meta", because autograd asks what device there is.
    """

    inner: Tensor
    device_of: Device
    device = property(lambda self: self.device_of.itself)  # type: ignore[assignment]
    is_cuda = property(lambda self: self.device.type == "cuda")  # type: ignore[assignment]
    is_meta = property(lambda self: False)  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: Tensor, device: Device) -> _There:
        tensor = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device="meta",
        )
        tensor.inner, tensor.device_of = inner, device
        return tensor

    def __init__(self, inner: Tensor, device: Device) -> None:
        pass

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [x for x in torch.utils._pytree.tree_leaves((args, kwargs)) if type(x) is cls]
        return _call(tensors[0].device_of, func, args, kwargs or {})


def _call(device: Device, func: Any, args: Any, kwargs: Any) -> Any:
    """Do an operation on the CPU, after checking that the device could do it."""
    tensors = [x for x in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    there = [x for x in tensors if isinstance(x, _There)]
    plain = _without_kernel(func._opname) if there and func.namespace == "dipfast" else None
    if plain is not None:
        with _Mode(device):  # which is off within an operation
            return plain(*args, **kwargs)
    if there and func not in _ACROSS:
        others = [x for x in tensors if not isinstance(x, _There) and x.ndim]
        if others:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{device.itself} and cpu! (when checking {func})"
            )
    if there and func in _NOT_DETERMINISTIC and torch.are_deterministic_algorithms_enabled():
        raise RuntimeError(f"{func} does not have a deterministic implementation")
    goal = kwargs.get("device")
    is_there = bool(there)
    if goal is not None:
        like = func in _LIKE_ANOTHER and torch.device(goal).type == "meta"
        is_there = like or device.is_at(goal)
    if func is _aten.copy_.default:
        is_there = isinstance(args[0], _There)
    if there and (func in _READS or not is_there):
        device.reads.append(str(func))
    if goal is not None and (there or is_there):
        kwargs = {**kwargs, "device": torch.device("cpu")}
    wrappers = {id(x.inner): x for x in there}
    plain_args, plain_kwargs = tree_map_only(_There, lambda x: x.inner, (args, kwargs))
    result = func(*plain_args, **plain_kwargs)
    if func is _aten._to_copy.default and goal is not None and result is plain_args[0]:
        result = result.clone()
    if not is_there:
        return result

    def wrapped(x: Tensor) -> Tensor:
        if id(x) in wrappers:  # in place
            return wrappers[id(x)]
        if x.dtype == torch.float64 and device.itself.type == "mps":
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support "
                f"float64. Please use float32 instead. ({func})"
            )
        return _There(x, device)

    return tree_map_only(Tensor, wrapped, result)


def _without_kernel(name: str) -> Any:
    """Return the implementation of an operator of dipfast for devices without a kernel, if any."""
    for module in pkgutil.iter_modules(_torch.__path__, f"{_torch.__name__}."):
        found = getattr(importlib.import_module(module.name), f"_{name}_torch", None)
        if found is not None:
            return found
    return None


class _Mode(TorchDispatchMode):
    """See the operations that make tensors on the device of others."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(self.device, func, args, kwargs or {})


@contextlib.contextmanager
def pretended_device(name: str = "mps:0") -> Iterator[Device]:
    """Make a device usable inside a ``with`` block.

    Parameters
    ----------
    name
        The device, with its number.

    Yields
    ------
    Device
        Records what waits for the device.
    """
    here, generator, tensor, as_tensor = (
        Device(name),
        torch.Generator,
        torch.tensor,
        torch.as_tensor,
    )

    def make_generator(where: Any = "cpu") -> torch.Generator:
        return generator("cpu" if here.is_at(where) else where)

    def make_tensor(data: Any, *, device: Any = None, **options: Any) -> Tensor:
        x = tensor(data, **options)
        return x if device is None else x.to(device)

    def make_as_tensor(data: Any, *, device: Any = None, **options: Any) -> Tensor:
        x = data if isinstance(data, Tensor) else as_tensor(data)
        return x.to(device=device, **options)

    with pytest.MonkeyPatch.context() as patch, _Mode(here):
        # These do not come by a dispatch mode, or ask torch for the device first.
        patch.setattr(torch, "Generator", make_generator)
        patch.setattr(torch, "tensor", make_tensor)
        patch.setattr(torch, "as_tensor", make_as_tensor)
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (2**33, 2**34))
        # A weight whose data are replaced would lose its class.
        overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            yield here
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
