"""Compute total variation, and the objective of total-variation denoising."""

from __future__ import annotations

from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    TypeAlias,
    TypedDict,
    get_args,
    overload,
)

import numpy as np

from dipfast.arrays import is_tensor
from dipfast.checks import check_choice
from dipfast.errors import InputError, InputTypeError
from dipfast.ops import _arguments, _buffers
from dipfast.ops._arguments import Axes, Backend
from dipfast.ops._compiled import total_variation as compiled
from dipfast.ops._dispatch import check_backend, through_torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from typing_extensions import Unpack

    from dipfast.ops._arguments import Floats

__all__ = ["total_variation", "tv_objective"]

Kind: TypeAlias = Literal["anisotropic", "isotropic", "huber"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class _Options(TypedDict, total=False):
    """Type the options that do not change what is returned."""

    kind: Kind
    epsilon: float
    spatial_dims: Literal[2, 3]
    channel_axis: int | None
    backend: Backend


@overload
def total_variation(
    x: NDArray[Any], *, return_gradient: Literal[False] = False, **options: Unpack[_Options]
) -> float: ...


@overload
def total_variation(
    x: NDArray[Any], *, return_gradient: Literal[True], **options: Unpack[_Options]
) -> tuple[float, Floats]: ...


@overload
def total_variation(
    x: Tensor, *, return_gradient: Literal[False] = False, **options: Unpack[_Options]
) -> Tensor: ...


@overload
def total_variation(
    x: Tensor, *, return_gradient: Literal[True], **options: Unpack[_Options]
) -> tuple[Tensor, Tensor]: ...


def total_variation(
    x: Any,
    *,
    kind: Kind = "anisotropic",
    epsilon: float = 0.0,
    spatial_dims: Literal[2, 3] = 2,
    channel_axis: int | None = None,
    backend: Backend = "auto",
    return_gradient: bool = False,
) -> object:
    r"""Return the total variation of images or volumes.

    With :math:`d_k` the difference to the next pixel along axis k, 0 at the far border,

    .. math::
        TV(x) = \sum_{pixels} \begin{cases}
            \sum_k |d_k| & \text{anisotropic} \\
            \sqrt{|d|^2 + \epsilon^2} - \epsilon & \text{isotropic} \\
            |d|^2 / (2 \epsilon) \text{ if } |d| \le \epsilon
            \text{ else } |d| - \epsilon / 2 & \text{Huber}
        \end{cases}

    Parameters
    ----------
    x
        Array or tensor of shape ``(..., H, W)``, or ``(..., D, H, W)`` for volumes, any size
        from 1x1 up, or with its channels elsewhere (see ``channel_axis``); all other axes
        (channels, batch) are summed over.  float32 and float64 as they are, half precision in
        float32, integers in float64.  Arrays with their channels behind, and tensors in
        ``channels_last`` (``channels_last_3d``) format, are read without a copy.
    kind
        ``"anisotropic"`` (the default, as in DIP-TV [1]_), ``"isotropic"`` [2]_, which favours
        no direction, or ``"huber"`` [3]_, which leaves shallow slopes smooth.
    epsilon
        How far the isotropic kinds are rounded off, in the unit of x.  With 0, the default,
        both are exactly the sum of |d|.
    spatial_dims
        2: differences along the last two axes; 3: along the last three.
    channel_axis
        The axis of the channels; None recognises up to four in the last axis.  See
        :mod:`dipfast.ops`.
    backend
        See :mod:`dipfast.ops`.
    return_gradient
        Also return the gradient with respect to x, computed in the same pass over memory.
        Where TV has a kink (equal neighbours; flat pixels) it is the shortest subgradient,
        which takes sign(0) and 0 / |0| for 0, so that it is always finite.

    Returns
    -------
    value : float or scalar tensor
        In the unit of x; NaN if anything in x is not finite, or the value is beyond the
        largest number of its dtype.  For tensors, gradients flow.
    gradient : array or tensor
        Only with ``return_gradient``; shape and memory format of x.

    Raises
    ------
    TypeError
        If x is not an array or tensor of real numbers.
    ValueError
        If x has fewer dimensions than spatial_dims, its shape does not tell where the channels
        are, or kind, epsilon, spatial_dims, channel_axis or backend cannot be.

    Notes
    -----
    The isotropic kinds take squares, for which float32 has no room below 1e-19 and above 1e19
    (float64: 1e-154 and 1e154).  Images of such numbers are computed with others that have;
    only beside much larger differences do such small ones count as none, in the compiled kernel.

    References
    ----------
    .. [1] Liu, Sun, Xu, Kamilov, "Image Restoration using Total Variation Regularized
       Deep Image Prior", ICASSP 2019, arXiv:1810.12864.
    .. [2] Rudin, Osher, Fatemi, "Nonlinear total variation based noise removal
       algorithms", Physica D 60, 1992.
    .. [3] Chambolle, Pock, "A first-order primal-dual algorithm for convex problems with
       applications to imaging", JMIV 40, 2011, section 6.2.2 (with a threshold of 1 / alpha).

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> x = np.array([[0.0, 3.0], [4.0, 4.0]])
    >>> dipfast.ops.total_variation(x)
    8.0
    >>> dipfast.ops.total_variation(x, kind="isotropic")
    6.0
    """
    form = _check_form(kind, epsilon, spatial_dims)
    check_backend(backend, x)
    if not is_tensor(x) and backend == "torch":
        options = {"channel_axis": channel_axis, "return_gradient": return_gradient}
        return through_torch(total_variation, x, **form._asdict(), **options)
    u = _arguments.as_float_tensor("x", x) if is_tensor(x) else _arguments.as_floats("x", x)
    axes = Axes.of("x", u, channel_axis, spatial_dims)
    u = axes.to_front(u)
    value: Any
    if is_tensor(u):
        value, gradient = _tensor_variation(u, form, backend, return_gradient)
    else:
        value, gradient = _array_variation(u, form, return_gradient)
    return (value, axes.back(gradient)) if return_gradient else value


class _Form(NamedTuple):
    """Say which total variation is meant."""

    kind: str
    epsilon: float
    spatial_dims: int


def _check_form(kind: str, epsilon: float, spatial_dims: int) -> _Form:
    """Return the form of total variation that the arguments of a public function name."""
    check_choice("kind", kind, KINDS)
    _arguments.check_spatial_dims(spatial_dims)
    epsilon = _arguments.check_weight("epsilon", epsilon)
    if kind == "anisotropic" and epsilon:
        raise InputError(f"epsilon is for kind='isotropic' and 'huber', got epsilon={epsilon}")
    return _Form(kind, epsilon, int(spatial_dims))


def _array_variation(x: Any, form: _Form, return_gradient: bool) -> tuple[float, Any]:
    """Return value and gradient of an array; the gradient is None if it is not asked for."""
    u, channels_last = _arguments.as_kernel_array(x, form.spatial_dims)
    slope = _buffers.empty(u.shape, u.dtype) if return_gradient else None
    value = compiled.total_variation(
        u, **form._asdict(), channels_last=channels_last, gradient=slope
    )
    return value, _arguments.as_channels_first(slope, channels_last, form.spatial_dims)


def _tensor_variation(
    u: Tensor, form: _Form, backend: Backend, return_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Return value and gradient of a tensor; the gradient may be empty if not asked for."""
    from dipfast.ops import _reference, _torch

    if backend == "torch":
        value = _reference.total_variation(u, *form)
        if not return_gradient:
            return value, u.new_empty(0)
        return value, _reference.total_variation_gradient(u.detach(), *form)
    home = u.device
    u = u.cpu() if backend == "native" else u
    wanted = return_gradient or _needs_gradient(u)
    value, slope = _torch.total_variation(u, *form, wanted, backend == "triton")
    if return_gradient:
        slope = _arguments.free(slope, value)
    return value.to(home), slope.to(home)


@overload
def tv_objective(
    u: NDArray[Any],
    y: NDArray[Any],
    tv_weight: float,
    *,
    mask: NDArray[Any] | None = None,
    return_terms: Literal[False] = False,
    return_gradient: Literal[False] = False,
    **options: Unpack[_Options],
) -> float: ...


@overload
def tv_objective(
    u: NDArray[Any],
    y: NDArray[Any],
    tv_weight: float,
    *,
    mask: NDArray[Any] | None = None,
    return_terms: Literal[False] = False,
    return_gradient: Literal[True],
    **options: Unpack[_Options],
) -> tuple[float, Floats]: ...


@overload
def tv_objective(
    u: NDArray[Any],
    y: NDArray[Any],
    tv_weight: float,
    *,
    mask: NDArray[Any] | None = None,
    return_terms: Literal[True],
    return_gradient: Literal[False] = False,
    **options: Unpack[_Options],
) -> tuple[float, float, float]: ...


@overload
def tv_objective(
    u: NDArray[Any],
    y: NDArray[Any],
    tv_weight: float,
    *,
    mask: NDArray[Any] | None = None,
    return_terms: Literal[True],
    return_gradient: Literal[True],
    **options: Unpack[_Options],
) -> tuple[float, float, float, Floats]: ...


@overload
def tv_objective(
    u: Tensor,
    y: Tensor,
    tv_weight: float,
    *,
    mask: Tensor | None = None,
    return_terms: Literal[False] = False,
    return_gradient: Literal[False] = False,
    **options: Unpack[_Options],
) -> Tensor: ...


@overload
def tv_objective(
    u: Tensor,
    y: Tensor,
    tv_weight: float,
    *,
    mask: Tensor | None = None,
    return_terms: Literal[False] = False,
    return_gradient: Literal[True],
    **options: Unpack[_Options],
) -> tuple[Tensor, Tensor]: ...


@overload
def tv_objective(
    u: Tensor,
    y: Tensor,
    tv_weight: float,
    *,
    mask: Tensor | None = None,
    return_terms: Literal[True],
    return_gradient: Literal[False] = False,
    **options: Unpack[_Options],
) -> tuple[Tensor, Tensor, Tensor]: ...


@overload
def tv_objective(
    u: Tensor,
    y: Tensor,
    tv_weight: float,
    *,
    mask: Tensor | None = None,
    return_terms: Literal[True],
    return_gradient: Literal[True],
    **options: Unpack[_Options],
) -> tuple[Tensor, Tensor, Tensor, Tensor]: ...


def tv_objective(
    u: Any,
    y: Any,
    tv_weight: float,
    *,
    mask: Any = None,
    kind: Kind = "anisotropic",
    epsilon: float = 0.0,
    spatial_dims: Literal[2, 3] = 2,
    channel_axis: int | None = None,
    backend: Backend = "auto",
    return_terms: bool = False,
    return_gradient: bool = False,
) -> object:
    r"""Return the objective of total-variation denoising.

    Data term and total variation are computed in one pass over memory.

    .. math:: F(u) = \frac12 \| m (u - y) \|^2 + \lambda \, TV(u)

    with sums over all elements and TV as in :func:`total_variation`.

    Parameters
    ----------
    u
        The image, array or tensor of shape ``(..., H, W)``, or ``(..., D, H, W)``, or with its
        channels elsewhere.
    y
        The measurement; shape of u.
    tv_weight
        lambda, in the unit of u; larger is smoother.  For an image in [0, 1] with noise
        of standard deviation sigma, values around sigma are useful.
    mask
        m; must broadcast to the shape of u.  Where the channels of u are not in front of the
        pixels, a mask has all axes of u, or none for the channels: (H, W) beside (H, W, 3).
        Boolean and integer masks mark what is known by non-zero, floating-point masks are
        weights.  What y is where the mask is 0 has no influence.  None is 1 everywhere.
    kind, epsilon, spatial_dims
        Which total variation; see :func:`total_variation`.
    channel_axis
        The axis of the channels of u and y; None recognises up to four in the last axis.  See
        :mod:`dipfast.ops`.
    backend
        See :mod:`dipfast.ops`.
    return_terms
        Also return the two terms; they are for reporting and carry no gradient.
    return_gradient
        Also return the gradient with respect to u, computed in the same pass.

    Returns
    -------
    value : float or scalar tensor
        F(u), NaN as for :func:`total_variation`; gradients flow to tensors u, y and mask.
    data, tv : float or scalar tensor
        1/2 || m (u - y) ||^2 and TV(u), only with ``return_terms``.
    gradient : array or tensor
        Only with ``return_gradient``.

    Raises
    ------
    TypeError
        If an argument is not an array or tensor of real numbers, or these are mixed; if
        tv_weight is not a number, or is one that gradients should flow to.
    ValueError
        If shapes do not fit or do not tell where the channels are, tensors are on different
        devices, tv_weight is negative or not finite, or kind, epsilon, spatial_dims, channel_axis
        or backend cannot be.

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
    form = _check_form(kind, epsilon, spatial_dims)
    check_backend(backend, u)
    weight = _arguments.check_weight("tv_weight", tv_weight)
    if is_tensor(u) != is_tensor(y) or (mask is not None and is_tensor(mask) != is_tensor(u)):
        raise InputTypeError("u, y and mask must be all arrays or all tensors")
    _arguments.check_same_device(u=u, y=y, mask=mask)
    if not is_tensor(u) and backend == "torch":
        options = {**form._asdict(), "channel_axis": channel_axis, "return_terms": return_terms}
        options["return_gradient"] = return_gradient
        return through_torch(tv_objective, u, y, weight, mask=mask, **options)
    as_floats = _arguments.as_float_tensor if is_tensor(u) else _arguments.as_floats
    u, y = as_floats("u", u), as_floats("y", y)
    axes = Axes.of("u", u, channel_axis, spatial_dims)
    _arguments.check_same_shape("y", y.shape, "u", u.shape)
    u, y = axes.to_front(u), axes.to_front(y)
    if mask is not None:
        mask = axes.mask_to_front(_arguments.as_pixels("mask", mask), u.shape)
    terms: list[Any]
    gradient: Any
    if is_tensor(u):
        *terms, gradient = _tensor_objective(u, y, weight, mask, form, backend, return_gradient)
    else:
        *terms, gradient = _array_objective(u, y, weight, mask, form, return_gradient)
    result = terms if return_terms else terms[:1]
    if return_gradient:
        result = [*result, axes.back(gradient)]
    return result[0] if len(result) == 1 else tuple(result)


def _array_objective(
    u: Any, y: Any, weight: float, mask: Any, form: _Form, return_gradient: bool
) -> tuple[float, float, float, Any]:
    """Return value, terms and gradient for arrays; the gradient is None if not asked for."""
    dims = form.spatial_dims
    dtype = np.result_type(u, y)
    shape = u.shape
    u, channels_last = _arguments.as_kernel_array(u.astype(dtype, copy=False), dims)
    y, _ = _arguments.as_kernel_array(y.astype(dtype, copy=False), dims)
    repeat = 1
    if mask is not None:
        mask, repeat = _arguments.mask_array(mask, shape, dtype, dims, channels_last)
    gradient = _buffers.empty(u.shape, u.dtype) if return_gradient else None
    data, tv = compiled.tv_objective(
        u,
        y,
        mask,
        weight,
        mask_repeat=repeat,
        **form._asdict(),
        channels_last=channels_last,
        gradient=gradient,
    )
    gradient = _arguments.as_channels_first(gradient, channels_last, dims)
    return compiled.finite_or_nan(data + weight * tv), data, tv, gradient


def _tensor_objective(
    u: Tensor,
    y: Tensor,
    weight: float,
    mask: Tensor | None,
    form: _Form,
    backend: Backend,
    return_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return value, terms and gradient for tensors; the gradient may be empty."""
    import torch

    from dipfast.ops import _reference, _torch

    dtype = torch.promote_types(u.dtype, y.dtype)
    u, y = u.to(dtype), y.to(dtype)
    mask = None if mask is None else _arguments.mask_tensor(mask, u, dtype)
    if backend == "torch":
        value, data, tv = _reference.tv_objective(u, y, weight, mask, *form)
        gradient = u.new_empty(0)
        if return_gradient:
            plain = (u.detach(), y.detach(), weight, None if mask is None else mask.detach())
            gradient = _reference.tv_objective_gradient(*plain, *form)
        return value, data.detach(), tv.detach(), gradient
    home = u.device
    if backend == "native":
        u, y, mask = u.cpu(), y.cpu(), None if mask is None else mask.cpu()
    wanted = return_gradient or _needs_gradient(u)
    value, data, tv, gradient = _torch.tv_objective(
        u, y, mask, weight, *form, wanted, backend == "triton"
    )
    if return_gradient:
        gradient = _arguments.free(gradient, value)
    return value.to(home), data.detach().to(home), tv.detach().to(home), gradient.to(home)


def _needs_gradient(x: Tensor) -> bool:
    """Return whether autograd records what is computed from a tensor."""
    import torch

    return x.requires_grad and torch.is_grad_enabled()
