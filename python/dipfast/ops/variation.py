"""Total variation, and the objective of total-variation denoising."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dipfast import _native
from dipfast.ops import arguments
from dipfast.ops.arguments import Backend, is_tensor, through_torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["total_variation", "tv_objective"]


def total_variation(
    x: Any,
    *,
    kind: Literal["anisotropic"] = "anisotropic",
    backend: Backend = "auto",
    return_gradient: bool = False,
) -> Any:
    r"""Total variation of an image.

    .. math:: TV(x) = \sum_{i,j} |x_{i+1,j} - x_{i,j}| + |x_{i,j+1} - x_{i,j}|

    Parameters
    ----------
    x
        Array or tensor of shape ``(..., H, W)``, any size from 1x1 up; leading axes
        (channels, batch) are summed over.  float32 and float64 as they are, half
        precision in float32, integers in float64.  Tensors in ``channels_last`` format
        are read without a copy.
    kind
        ``"anisotropic"``, the formula above (the default, as in DIP-TV [1]_).
    backend
        See :mod:`dipfast.ops`.
    return_gradient
        Also return the gradient with respect to x (with sign(0) = 0), computed in the
        same pass over memory.

    Returns
    -------
    value : float or scalar tensor
        In the unit of x; NaN if anything in x is not finite.  For tensors, gradients
        flow.
    gradient : array or tensor
        Only with ``return_gradient``; shape and memory format of x.

    Raises
    ------
    TypeError
        If x does not hold real numbers.
    ValueError
        If x has fewer than two dimensions, or kind or backend is unknown.

    References
    ----------
    .. [1] Liu, Sun, Xu, Kamilov, "Image Restoration using Total Variation Regularized
       Deep Image Prior", ICASSP 2019, arXiv:1810.12864.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> dipfast.ops.total_variation(np.array([[0.0, 1.0], [0.0, 0.0]]))
    2.0
    """
    if kind != "anisotropic":
        raise ValueError(f"kind must be 'anisotropic', got {kind!r}")
    arguments.check_backend(backend)
    if is_tensor(x):
        return _tensor_variation(x, backend, return_gradient)
    if backend == "torch":
        return through_torch(total_variation, x, return_gradient=return_gradient)
    u = arguments.as_floats("x", x)
    arguments.check_image("x", u.ndim)
    slope = np.empty_like(u) if return_gradient else None
    value = _native.total_variation(u, gradient=slope)
    return (value, slope) if return_gradient else value


def _tensor_variation(x: Tensor, backend: Backend, return_gradient: bool) -> Any:
    from dipfast.ops import library, reference

    u = arguments.as_float_tensor("x", x)
    arguments.check_image("x", u.ndim)
    if backend == "torch":
        value = reference.total_variation(u)
        return (value, reference.total_variation_gradient(u)) if return_gradient else value
    home = u.device
    u = u.cpu() if backend == "native" else u
    value, slope = library.total_variation(u, return_gradient or _needs_gradient(u))
    return (value.to(home), slope.detach().to(home)) if return_gradient else value.to(home)


def tv_objective(
    u: Any,
    y: Any,
    tv_weight: float,
    *,
    mask: Any = None,
    backend: Backend = "auto",
    return_terms: bool = False,
    return_gradient: bool = False,
) -> Any:
    r"""Objective of total-variation denoising, data term and total variation in one pass.

    .. math:: F(u) = \frac12 \| m (u - y) \|^2 + \lambda \, TV(u)

    with sums over all elements and TV as in :func:`total_variation`.

    Parameters
    ----------
    u
        The image, array or tensor of shape ``(..., H, W)``.
    y
        The measurement; shape of u.
    tv_weight
        lambda, in the unit of u; larger is smoother.  For an image in [0, 1] with noise
        of standard deviation sigma, values around sigma are useful.
    mask
        m; must broadcast to the shape of u.  Boolean and integer masks mark what is
        known by non-zero, floating-point masks are weights.  None is 1 everywhere.
    backend
        See :mod:`dipfast.ops`.
    return_terms
        Also return the two terms; they are for reporting and carry no gradient.
    return_gradient
        Also return the gradient with respect to u, computed in the same pass.

    Returns
    -------
    value : float or scalar tensor
        F(u); gradients flow to tensors u, y and mask.
    data, tv : float or scalar tensor
        1/2 || m (u - y) ||^2 and TV(u), only with ``return_terms``.
    gradient : array or tensor
        Only with ``return_gradient``.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers, or arrays and tensors are mixed.
    ValueError
        If shapes do not fit, or tv_weight is negative or not finite.

    References
    ----------
    .. [1] Rudin, Osher, Fatemi, "Nonlinear total variation based noise removal
       algorithms", Physica D 60, 1992.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> u, y = np.array([[0.0, 1.0]]), np.zeros((1, 2))
    >>> dipfast.ops.tv_objective(u, y, 0.25)
    0.75
    >>> dipfast.ops.tv_objective(u, y, 0.25, mask=np.array([[True, False]]))
    0.25
    """
    arguments.check_backend(backend)
    weight = arguments.check_weight("tv_weight", tv_weight)
    if is_tensor(u) != is_tensor(y) or (mask is not None and is_tensor(mask) != is_tensor(u)):
        raise TypeError("u, y and mask must be all arrays or all tensors")
    terms: list[Any]
    gradient: Any
    if is_tensor(u):
        *terms, gradient = _tensor_objective(u, y, weight, mask, backend, return_gradient)
    elif backend == "torch":
        options = {"return_terms": return_terms, "return_gradient": return_gradient}
        return through_torch(tv_objective, u, y, weight, mask=mask, **options)
    else:
        *terms, gradient = _array_objective(u, y, weight, mask, return_gradient)
    result = (*terms[: 3 if return_terms else 1], *((gradient,) if return_gradient else ()))
    return result if len(result) > 1 else result[0]


def _array_objective(
    u: Any, y: Any, weight: float, mask: Any, return_gradient: bool
) -> tuple[float, float, float, Any]:
    u, y = arguments.as_floats("u", u), arguments.as_floats("y", y)
    arguments.check_image("u", u.ndim)
    arguments.check_same_shape("y", y.shape, "u", u.shape)
    dtype = np.result_type(u, y)
    u, y = np.asarray(u, dtype), np.asarray(y, dtype)
    gradient = np.empty_like(u) if return_gradient else None
    data, tv = _native.tv_objective(u, y, _mask_array(mask, u), weight, gradient=gradient)
    return data + weight * tv, data, tv, gradient


def _tensor_objective(
    u: Tensor,
    y: Tensor,
    weight: float,
    mask: Tensor | None,
    backend: Backend,
    return_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    import torch

    from dipfast.ops import library, reference

    u, y = arguments.as_float_tensor("u", u), arguments.as_float_tensor("y", y)
    arguments.check_image("u", u.ndim)
    arguments.check_same_shape("y", y.shape, "u", u.shape)
    dtype = torch.promote_types(u.dtype, y.dtype)
    u, y = u.to(dtype), y.to(dtype)
    mask = _mask_tensor(mask, u)
    if backend == "torch":
        value, data, tv = reference.tv_objective(u, y, weight, mask)
        gradient = u.new_empty(0)
        if return_gradient:
            gradient = reference.tv_objective_gradient(u.detach(), y, weight, mask).detach()
        return value, data.detach(), tv.detach(), gradient
    home = u.device
    if backend == "native":
        u, y, mask = u.cpu(), y.cpu(), None if mask is None else mask.cpu()
    wanted = return_gradient or _needs_gradient(u)
    value, data, tv, gradient = library.tv_objective(u, y, mask, weight, wanted)
    return (
        value.to(home),
        data.detach().to(home),
        tv.detach().to(home),
        gradient.detach().to(home),
    )


def _needs_gradient(x: Tensor) -> bool:
    import torch

    return x.requires_grad and torch.is_grad_enabled()


def _mask_array(mask: Any, u: np.ndarray[Any, Any]) -> Any:
    if mask is None:
        return None
    mask = np.asarray(mask)
    if mask.dtype.kind in "biu":
        mask = mask != 0
    elif mask.dtype.kind != "f":
        raise TypeError(f"mask must hold real numbers, got dtype {mask.dtype}")
    arguments.check_broadcastable("mask", mask.shape, u.shape)
    return np.ascontiguousarray(np.broadcast_to(mask, u.shape), dtype=u.dtype)


def _mask_tensor(mask: Tensor | None, u: Tensor) -> Tensor | None:
    if mask is None:
        return None
    if mask.is_complex():
        raise TypeError(f"mask must hold real numbers, got dtype {mask.dtype}")
    if not mask.is_floating_point():
        mask = mask != 0
    arguments.check_broadcastable("mask", mask.shape, u.shape)
    return mask.to(u).expand_as(u)
