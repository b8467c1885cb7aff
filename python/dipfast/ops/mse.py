"""Compute the mean squared error."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from dipfast.arrays import is_channels_last, is_tensor, split_masked
from dipfast.errors import InputError, InputTypeError
from dipfast.ops import _arguments, _buffers
from dipfast.ops._arguments import Backend
from dipfast.ops._compiled import mse as compiled
from dipfast.ops._dispatch import check_backend, through_torch

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from dipfast.ops._arguments import Floats

__all__ = ["check_pair", "mse", "of_arrays", "of_tensors", "to_device"]


@overload
def mse(
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    mask: NDArray[Any] | None = None,
    per_image: Literal[False] = False,
    backend: Backend = "auto",
    return_gradient: Literal[False] = False,
) -> float: ...


@overload
def mse(
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    mask: NDArray[Any] | None = None,
    per_image: Literal[True],
    backend: Backend = "auto",
    return_gradient: Literal[False] = False,
) -> NDArray[np.float64]: ...


@overload
def mse(
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    mask: NDArray[Any] | None = None,
    per_image: Literal[False] = False,
    backend: Backend = "auto",
    return_gradient: Literal[True],
) -> tuple[float, Floats]: ...


@overload
def mse(
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    mask: NDArray[Any] | None = None,
    per_image: Literal[True],
    backend: Backend = "auto",
    return_gradient: Literal[True],
) -> tuple[NDArray[np.float64], Floats]: ...


@overload
def mse(
    a: Tensor,
    b: Tensor,
    *,
    mask: Tensor | None = None,
    per_image: bool = False,
    backend: Backend = "auto",
    return_gradient: Literal[False] = False,
) -> Tensor: ...


@overload
def mse(
    a: Tensor,
    b: Tensor,
    *,
    mask: Tensor | None = None,
    per_image: bool = False,
    backend: Backend = "auto",
    return_gradient: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def mse(
    a: Any,
    b: Any,
    *,
    mask: Any = None,
    per_image: bool = False,
    backend: Backend = "auto",
    return_gradient: bool = False,
) -> object:
    r"""Return the mean squared error, :math:`\sum m (a - b)^2 / \sum m`.

    Parameters
    ----------
    a, b
        Arrays or tensors of the same shape.  uint8, uint16, float32 and float64 as they are,
        the integers exactly; half precision in float32, other integers in float64.  What is
        masked in one of two masked arrays does not count.
    mask
        m; must broadcast to the shape of a.  Boolean and integer masks mark what counts by
        non-zero, and the rest is not looked at; floating-point masks are weights.  None, the
        default, is 1 everywhere.  A mask (H, W) beside pictures (H, W, C), with up to four
        channels, is for all channels.
    per_image
        One value for each entry of the first axis, that of a batch.
    backend
        See :mod:`dipfast.ops`.  The Triton kernel has neither masks nor per_image.
    return_gradient
        Also return the gradient with respect to a, 2 m (a - b) / sum m, computed in the same
        pass; with ``per_image``, that of the value of each image in its place.

    Returns
    -------
    value : float or scalar tensor; array or tensor of shape (N,) with ``per_image``
        In float64, which has the squares of all numbers of float32.  NaN if anything that
        counts is not finite or an integer of 2**53 or more, where the mask is zero everywhere,
        and where float64 does not have the mean: from 1.8e308 on, and below 2.2e-308 unless it
        is 0.  For tensors, gradients flow to a, b and floating-point masks.  On devices without
        float64 (MPS), in float32, and NaN where that does not have it.
    gradient : array or tensor
        Only with ``return_gradient``.  In the dtype that a is taken in; what is too small for
        it is 0, and what is too large infinite.

    Raises
    ------
    TypeError
        If an argument is neither array nor tensor or does not hold real numbers, or if arrays
        and tensors are mixed.
    ValueError
        If the shapes do not fit, tensors are on different devices, there is no element or no axis
        of images, or if it is not clear which axes a mask belongs to.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> a, b = np.array([[0.0, 0.5], [1.0, 0.0]]), np.zeros((2, 2))
    >>> dipfast.ops.mse(a, b)
    0.3125
    >>> dipfast.ops.mse(a, b, mask=np.array([True, False]))
    0.5
    >>> dipfast.ops.mse(np.ma.masked_greater(a, 0.5), b)
    0.08333333333333333
    >>> dipfast.ops.mse(a, b, per_image=True)
    array([0.125, 0.5  ])
    """
    home: Any = getattr(a, "device", None)
    a, b, mask = check_pair(a, b, mask, per_image, backend)
    value: Any
    if is_tensor(a):
        wanted = return_gradient or (backend != "torch" and _needs_gradient(a, b))
        value, gradient = of_tensors(a, b, mask, per_image, backend, wanted)
        if return_gradient:
            gradient = _arguments.to_home(_arguments.free(gradient, value), home)
        value = to_device(value, home)
    elif backend == "torch":
        options = {"per_image": per_image, "return_gradient": return_gradient}
        return through_torch(mse, a, b, mask=mask, **options)
    else:
        values, gradient = of_arrays(a, b, mask, per_image, return_gradient)
        value = np.array(values) if per_image else values[0]
    return (value, gradient) if return_gradient else value


def check_pair(a: Any, b: Any, mask: Any, per_image: bool, backend: str) -> tuple[Any, Any, Any]:
    """Return both images and the mask, in which what is masked in the images does not count."""
    check_backend(backend, a)
    if backend == "triton" and (mask is not None or per_image):
        raise InputError(
            "backend='triton' has no kernel with mask or per_image; expected auto, native or torch"
        )
    _arguments.check_same_device(a=a, b=b, mask=mask)
    on_host = not is_tensor(a) or a.device.type in ("cpu", "mps") or backend == "native"
    a, b, masked = _arguments.as_pair(a, b, integers=on_host and backend != "torch")
    if per_image:
        _check_axis_of_images(a)
    if mask is not None:
        mask = _check_mask(mask, a)
    if masked is None:
        return a, b, mask
    if mask is None:
        return a, b, ~masked
    if mask.dtype.kind == "f":  # with weights, every element is read
        a, b, mask = (np.where(masked, x.dtype.type(0), x) for x in (a, b, mask))
        return a, b, mask
    return a, b, (mask if mask.dtype == np.bool_ else mask != 0) & ~masked


def _check_axis_of_images(a: Any) -> None:
    """Refuse an image that may be one picture rather than a batch."""
    if not a.ndim:
        raise InputError("a must have an axis of images for per_image, got 0 dimensions")
    if a.ndim == 3 and _has_channels_last(a) is not False:
        first, *pixels = a.shape
        raise InputError(
            f"a must have an axis of images for per_image, got shape {tuple(a.shape)}, which may "
            f"be one picture: pass a[None] and b[None], or a[:, None] and b[:, None] for "
            f"{first} images of {pixels[0]} x {pixels[1]} pixels"
        )


def _check_mask(mask: Any, a: Any) -> Any:
    """Return a mask as real numbers that broadcast to the image."""
    if is_tensor(mask) != is_tensor(a):
        raise InputTypeError("a, b and mask must be all arrays or all tensors")
    mask = np.asarray(mask) if isinstance(mask, np.generic) else mask
    mask, masked = split_masked("mask", mask)
    if masked is not None:
        raise InputError(
            f"mask has {np.count_nonzero(masked)} masked elements of its own: mask.filled(0) "
            "leaves them out"
        )
    real = not mask.is_complex() if is_tensor(mask) else mask.dtype.kind in "biuf"
    if not real:
        raise InputTypeError(f"mask must hold real numbers, got dtype {mask.dtype}")
    # The last two axes of a mask are rows and columns, which those of a picture with channels last
    # are not.
    if 2 <= mask.ndim < a.ndim and _fits(mask[..., None], a) and math.prod(mask.shape) > 1:
        last, plain = _has_channels_last(a), _fits(mask, a)
        if last and not plain:
            return mask[..., None]
        if last is not False or not plain:
            raise InputError(
                f"it is not clear which axes of a, {tuple(a.shape)}, a mask {tuple(mask.shape)} is "
                "for: give it as many axes as a has, mask[..., None] where the last axis is that "
                "of the channels"
            )
    _arguments.check_broadcastable("mask", mask.shape, a.shape)
    return mask


def _fits(mask: Any, a: Any) -> bool:
    """Return whether a mask broadcasts to the shape of an image."""
    pairs = zip(reversed(mask.shape), reversed(a.shape))
    return all(size in (1, whole) for size, whole in pairs)


def _has_channels_last(a: Any) -> bool | None:
    """Return whether a is a picture with channels last; None if the shape does not tell."""
    try:
        return is_channels_last("a", a)
    except ValueError:
        return None


def of_arrays(
    a: Any, b: Any, mask: Any, per_image: bool, return_gradient: bool = False
) -> tuple[list[float], Any]:
    """Return the values and the gradient, None if it is not asked for, of arrays."""
    dtype = np.float32 if a.dtype == np.float32 else np.float64
    gradient = _buffers.empty(a.shape, dtype) if return_gradient else None
    spatial_dims = min(2, a.ndim - per_image)
    repeat = 1
    if mask is not None:
        weights = np.result_type(dtype, mask)
        mask, repeat = _arguments.mask_array(mask, a.shape, weights, spatial_dims)
    values = compiled.mse(
        a,
        b,
        mask=mask,
        mask_plane=math.prod(a.shape[a.ndim - spatial_dims :]),
        mask_repeat=repeat,
        images=a.shape[0] if per_image else 1,
        gradient=gradient,
    )
    return values, gradient


def of_tensors(
    a: Tensor,
    b: Tensor,
    mask: Tensor | None,
    per_image: bool,
    backend: str,
    gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the value, in float64, and the gradient, on the device that computed them.

    The gradient is empty if it is not asked for; the backward pass then computes it.
    """
    import torch

    from dipfast.ops import _reference, _torch

    if backend == "native":
        a, b = a.cpu(), b.cpu()
    if mask is not None:
        mask = mask.to(a.device)
        dtype = a.dtype if a.is_floating_point() else torch.float64
        mask = _arguments.mask_tensor(mask, a, torch.promote_types(dtype, mask.dtype))
    if backend == "torch":
        slope = a.new_empty(0)
        if gradient:
            weights = None if mask is None else mask.detach()
            slope = _reference.mse_gradient(a.detach(), b.detach(), weights, per_image)
        value = _reference.mse(a, b, mask, per_image)
    elif mask is None and not per_image and a.is_floating_point():
        value, slope = _torch.mse(a, b, gradient, backend == "triton")
    else:
        value, slope = _torch.weighted_mse(a, b, mask, per_image, gradient)
    return value, slope.detach()


def _needs_gradient(a: Tensor, b: Tensor) -> bool:
    """Return whether autograd records what is computed from two tensors."""
    import torch

    return torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)


def to_device(value: Tensor, device: torch.device) -> Tensor:
    """Return a value on a device, in float64, or in float32 where the device has no float64."""
    return value.to(device) if device.type != "mps" else narrow(value).to(device)


def narrow(value: Tensor) -> Tensor:
    """Return a value in float32, NaN where float32 lacks it or some of its digits."""
    import torch

    limits = torch.finfo(torch.float32)
    size = value.abs()
    fits = (size == 0) | size.isinf() | ((size >= limits.tiny) & (size <= limits.max))
    return value.where(fits, math.nan).float()
