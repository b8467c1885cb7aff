"""Mean squared error and peak signal-to-noise ratio."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dipfast import _native
from dipfast.ops import arguments, buffers
from dipfast.ops.arguments import Backend, is_tensor, through_torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["mse", "psnr"]


def mse(a: Any, b: Any, *, backend: Backend = "auto", return_gradient: bool = False) -> Any:
    r"""Mean squared error, :math:`\frac1n \sum (a - b)^2`.

    Parameters
    ----------
    a, b
        Arrays or tensors of the same shape.  float32 and float64 as they are, half
        precision in float32, integers in float64.
    backend
        See :mod:`dipfast.ops`.
    return_gradient
        Also return the gradient with respect to a, 2 (a - b) / n, computed in the same pass.

    Returns
    -------
    value : float or scalar tensor
        NaN if anything, or its square, is not finite.  For tensors, gradients flow.
    gradient : array or tensor
        Only with ``return_gradient``.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers, or array and tensor are mixed.
    ValueError
        If the shapes differ, or there is no element.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> dipfast.ops.mse(np.array([0.0, 0.5]), np.array([0.0, 0.0]))
    0.125
    """
    a, b = _pair(a, b, backend)
    value: Any
    gradient: Any
    if is_tensor(a):
        value, gradient = _tensor_mse(a, b, backend, return_gradient)
    elif backend == "torch":
        return through_torch(mse, a, b, return_gradient=return_gradient)
    else:
        gradient = buffers.empty(a.size, a.dtype).reshape(a.shape) if return_gradient else None
        value = _native.mse(a, b, gradient=gradient)
    return (value, gradient) if return_gradient else value


def psnr(a: Any, b: Any, *, data_range: float | None = None, backend: Backend = "auto") -> Any:
    r"""Peak signal-to-noise ratio in dB, :math:`10 \log_{10}(R^2 / \mathrm{mse}(a, b))`.

    Parameters
    ----------
    a, b
        Arrays or tensors of the same shape.
    data_range
        R, the distance from the darkest to the brightest possible value, in the unit of
        a.  It may be left out where both are uint8, for which it is 255.
    backend
        See :mod:`dipfast.ops`.

    Returns
    -------
    float or scalar tensor
        Infinite for equal images.  For tensors, gradients flow.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers, or array and tensor are mixed.
    ValueError
        If the shapes differ, there is no element, or data_range is missing or not
        positive.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> dipfast.ops.psnr(np.zeros((4, 4)), np.full((4, 4), 0.5), data_range=5.0)
    20.0
    """
    if data_range is None:
        kinds = [str(getattr(x, "dtype", type(x).__name__)) for x in (a, b)]
        if not all(kind in ("uint8", "torch.uint8") for kind in kinds):
            raise ValueError(
                "data_range is needed for images that are not both uint8, "
                f"got {kinds[0]} and {kinds[1]}"
            )
        data_range = 255.0
    if not (math.isfinite(data_range) and data_range > 0):
        raise ValueError(f"data_range must be positive, got {data_range!r}")
    a, b = _pair(a, b, backend)
    if is_tensor(a):
        import torch

        return 10 * torch.log10(data_range**2 / _tensor_mse(a, b, backend)[0])
    if backend == "torch":
        return through_torch(psnr, a, b, data_range=data_range)
    return _native.psnr(a, b, float(data_range))


def _pair(a: Any, b: Any, backend: str) -> tuple[Any, Any]:
    arguments.check_backend(backend, a)
    if is_tensor(a) != is_tensor(b):
        raise TypeError("a and b must be both arrays or both tensors")
    if is_tensor(a):
        import torch

        a, b = arguments.as_float_tensor("a", a), arguments.as_float_tensor("b", b)
        kind: Any = torch.promote_types(a.dtype, b.dtype)
        a, b = a.to(kind), b.to(kind)
    else:
        a, b = arguments.as_floats("a", a), arguments.as_floats("b", b)
        kind = np.result_type(a, b)
        a, b = np.asarray(a, kind), np.asarray(b, kind)
    arguments.check_same_shape("b", b.shape, "a", a.shape)
    if 0 in a.shape:
        raise ValueError(f"a must have at least one element, got shape {tuple(a.shape)}")
    return a, b


def _tensor_mse(
    a: Tensor, b: Tensor, backend: str, return_gradient: bool = False
) -> tuple[Tensor, Tensor]:
    """Value and gradient; the gradient may be empty if nobody asks for it."""
    import torch

    from dipfast.ops import library, reference

    if backend == "torch":
        gradient = a.new_empty(0)
        if return_gradient:
            gradient = reference.mse_gradient(a.detach(), b.detach())
        return reference.mse(a, b), gradient
    home = a.device
    if backend == "native":
        a, b = a.cpu(), b.cpu()
    needs_gradient = torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)
    wanted = return_gradient or needs_gradient
    value, gradient = library.mse(a, b, wanted, backend == "triton")
    return value.to(home), gradient.detach().to(home)
