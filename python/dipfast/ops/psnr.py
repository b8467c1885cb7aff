"""Compute the peak signal-to-noise ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from dipfast.arrays import is_tensor
from dipfast.checks import DataRange
from dipfast.ops._arguments import Backend, in_units, range_width
from dipfast.ops._dispatch import through_torch
from dipfast.ops.mse import check_pair, of_arrays, of_tensors, to_device

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["psnr"]


@overload
def psnr(
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    data_range: DataRange = None,
    mask: NDArray[Any] | None = None,
    per_image: Literal[False] = False,
    backend: Backend = "auto",
) -> float: ...


@overload
def psnr(
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    data_range: DataRange = None,
    mask: NDArray[Any] | None = None,
    per_image: Literal[True],
    backend: Backend = "auto",
) -> NDArray[np.float64]: ...


@overload
def psnr(
    a: Tensor,
    b: Tensor,
    *,
    data_range: DataRange = None,
    mask: Tensor | None = None,
    per_image: bool = False,
    backend: Backend = "auto",
) -> Tensor: ...


def psnr(
    a: Any,
    b: Any,
    *,
    data_range: DataRange = None,
    mask: Any = None,
    per_image: bool = False,
    backend: Backend = "auto",
) -> object:
    r"""Return the peak signal-to-noise ratio in dB, :math:`10 \log_{10}(R^2 / \mathrm{mse}(a, b))`.

    Parameters
    ----------
    a, b
        Arrays or tensors of the same shape; kinds and dtypes as for :func:`mse`.
    data_range
        R, the distance from the darkest to the brightest possible value, in the unit of
        a; or the pair (darkest, brightest).  It may be left out where both are uint8, for which
        it is 255.
    mask, per_image
        What counts, and whether there is one value for each entry of the first axis; see
        :func:`mse`.
    backend
        See :mod:`dipfast.ops`.

    Returns
    -------
    float or scalar tensor; array or tensor of shape (N,) with ``per_image``
        In float64 (float32 on MPS).  Infinite for equal images, NaN where the :func:`mse` of
        a / R and b / R is.  For tensors, gradients flow.

    Raises
    ------
    TypeError
        If an argument is neither array nor tensor or does not hold real numbers, or if arrays
        and tensors are mixed.
    ValueError
        If the shapes do not fit, tensors are on different devices, there is no element or no axis
        of images, or if it is not clear which axes a mask belongs to; if data_range is missing or
        not positive.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> dipfast.ops.psnr(np.zeros((4, 4)), np.full((4, 4), 0.5), data_range=5.0)
    20.0
    """
    data_range = range_width(data_range, a, b)
    home: Any = getattr(a, "device", None)
    a, b, mask = check_pair(a, b, mask, per_image, backend)
    data_range, a, b = in_units(data_range, a, b)
    if is_tensor(a):
        from dipfast.ops import _reference

        value, _ = of_tensors(a, b, mask, per_image, backend)
        return to_device(_reference.decibels(value, data_range), home)
    if backend == "torch":
        return through_torch(psnr, a, b, mask=mask, data_range=data_range, per_image=per_image)
    values, _ = of_arrays(a, b, mask, per_image)
    with np.errstate(all="ignore"):
        decibels = 20 * np.log10(data_range / np.sqrt(values))
    return decibels if per_image else float(decibels[0])
