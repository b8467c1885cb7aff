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


def mse(
    a: Any,
    b: Any,
    *,
    mask: Any = None,
    per_image: bool = False,
    backend: Backend = "auto",
    return_gradient: bool = False,
) -> Any:
    r"""Mean squared error, :math:`\sum m (a - b)^2 / \sum m`.

    Parameters
    ----------
    a, b
        Arrays or tensors of the same shape.  uint8, uint16, float32 and float64 as they are,
        the integers exactly; half precision in float32, other integers in float64.
    mask
        m; must broadcast to the shape of a.  Boolean and integer masks mark what counts by
        non-zero, and the rest is not looked at; floating-point masks are weights.  None, the
        default, is 1 everywhere.
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
        NaN if anything that counts, or its square, is not finite, and where the mask is zero
        everywhere.  For tensors, gradients flow to a, b and floating-point masks.
    gradient : array or tensor
        Only with ``return_gradient``.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers, or arrays and tensors are mixed.
    ValueError
        If the shapes do not fit, there is no element, or no axis of images.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> a, b = np.array([[0.0, 0.5], [1.0, 0.0]]), np.zeros((2, 2))
    >>> dipfast.ops.mse(a, b)
    0.3125
    >>> dipfast.ops.mse(a, b, mask=np.array([True, False]))
    0.5
    >>> dipfast.ops.mse(a, b, per_image=True)
    array([0.125, 0.5  ])
    """
    a, b = _check(a, b, mask, per_image, backend)
    value: Any
    gradient: Any
    if is_tensor(a):
        value, gradient = _of_tensors(a, b, mask, per_image, backend, return_gradient)
    elif backend == "torch":
        options = {"per_image": per_image, "return_gradient": return_gradient}
        return through_torch(mse, a, b, mask=mask, **options)
    else:
        value, gradient = _of_arrays(a, b, mask, per_image, return_gradient)
        value = np.array(value) if per_image else value[0]
    return (value, gradient) if return_gradient else value


def psnr(
    a: Any,
    b: Any,
    *,
    data_range: float | None = None,
    mask: Any = None,
    per_image: bool = False,
    backend: Backend = "auto",
) -> Any:
    r"""Peak signal-to-noise ratio in dB, :math:`10 \log_{10}(R^2 / \mathrm{mse}(a, b))`.

    Parameters
    ----------
    a, b
        Arrays or tensors of the same shape; dtypes as for :func:`mse`.
    data_range
        R, the distance from the darkest to the brightest possible value, in the unit of
        a.  It may be left out where both are uint8, for which it is 255.
    mask, per_image
        What counts, and whether there is one value for each entry of the first axis; see
        :func:`mse`.
    backend
        See :mod:`dipfast.ops`.

    Returns
    -------
    float or scalar tensor; array or tensor of shape (N,) with ``per_image``
        Infinite for equal images, NaN where :func:`mse` is.  For tensors, gradients flow.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers, or arrays and tensors are mixed.
    ValueError
        If the shapes do not fit, there is no element, or no axis of images; if data_range
        is missing or not positive.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> dipfast.ops.psnr(np.zeros((4, 4)), np.full((4, 4), 0.5), data_range=5.0)
    20.0
    """
    data_range = check_data_range(data_range, a, b)
    a, b = _check(a, b, mask, per_image, backend)
    if is_tensor(a):
        import torch

        value, _ = _of_tensors(a, b, mask, per_image, backend)
        return 10 * torch.log10(data_range**2 / value)
    if backend == "torch":
        return through_torch(psnr, a, b, mask=mask, data_range=data_range, per_image=per_image)
    means, _ = _of_arrays(a, b, mask, per_image)
    values = [_native.psnr(mean, data_range) for mean in means]
    return np.array(values) if per_image else values[0]


def check_data_range(data_range: float | None, a: Any, b: Any) -> float:
    """The range of values; that of uint8 where none is named and both images are uint8."""
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
    return float(data_range)


def _check(a: Any, b: Any, mask: Any, per_image: bool, backend: str) -> tuple[Any, Any]:
    arguments.check_backend(backend, a)
    if backend == "triton" and (mask is not None or per_image):
        raise ValueError(
            "backend='triton' has no kernel with mask or per_image; expected auto, native or torch"
        )
    on_host = not is_tensor(a) or a.device.type == "cpu" or backend == "native"
    a, b = arguments.as_pair(a, b, integers=on_host and backend != "torch")
    if mask is not None and is_tensor(mask) != is_tensor(a):
        raise TypeError("a, b and mask must be all arrays or all tensors")
    if per_image and not a.ndim:
        raise ValueError("a must have an axis of images for per_image, got 0 dimensions")
    return a, b


def _of_arrays(
    a: Any, b: Any, mask: Any, per_image: bool, return_gradient: bool = False
) -> tuple[list[float], Any]:
    dtype = np.float32 if a.dtype == np.float32 else np.float64
    gradient = buffers.empty(a.shape, dtype) if return_gradient else None
    spatial_dims = min(2, a.ndim - per_image)
    repeat = 1
    if mask is not None:
        mask, repeat = arguments.mask_array(mask, a.shape, dtype, spatial_dims)
    values = _native.mse(
        a,
        b,
        mask=mask,
        mask_plane=math.prod(a.shape[a.ndim - spatial_dims :]),
        mask_repeat=repeat,
        images=a.shape[0] if per_image else 1,
        gradient=gradient,
    )
    return values, gradient


def _of_tensors(
    a: Tensor,
    b: Tensor,
    mask: Tensor | None,
    per_image: bool,
    backend: str,
    return_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """Value and gradient; the gradient may be empty if nobody asks for it."""
    import torch

    from dipfast.ops import library, reference

    if mask is not None:
        dtype = a.dtype if a.is_floating_point() else torch.float64
        mask = arguments.mask_tensor(mask, a, dtype)
    plain = mask is None and not per_image and a.is_floating_point()
    if backend == "torch":
        gradient = a.new_empty(0)
        if return_gradient:
            weights = None if mask is None else mask.detach()
            gradient = reference.weighted_mse_gradient(a.detach(), b.detach(), weights, per_image)
        return reference.weighted_mse(a, b, mask, per_image), gradient
    home = a.device
    if backend == "native":
        a, b, mask = a.cpu(), b.cpu(), None if mask is None else mask.cpu()
    needs_gradient = torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)
    wanted = return_gradient or needs_gradient
    if plain:
        value, gradient = library.mse(a, b, wanted, backend == "triton")
    else:
        value, gradient = library.weighted_mse(a, b, mask, per_image, wanted)
    return value.to(home), gradient.detach().to(home)
