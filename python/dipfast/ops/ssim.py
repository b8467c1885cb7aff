"""Compute structural similarity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from dipfast import _native
from dipfast.arrays import is_tensor
from dipfast.checks import DataRange
from dipfast.errors import InputError
from dipfast.ops import _arguments, _buffers
from dipfast.ops._arguments import Axes, Backend, in_units, range_width
from dipfast.ops._dispatch import through_torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from dipfast.ops._arguments import Floats

__all__ = ["ssim"]

# Rows, and columns, of the window.
WINDOW = 11


@overload
def ssim(
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    data_range: DataRange = None,
    channel_axis: int | None = None,
    per_image: Literal[False] = False,
    backend: Backend = "auto",
    return_map: Literal[False] = False,
) -> float: ...


@overload
def ssim(
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    data_range: DataRange = None,
    channel_axis: int | None = None,
    per_image: Literal[True],
    backend: Backend = "auto",
    return_map: Literal[False] = False,
) -> NDArray[np.float64]: ...


@overload
def ssim(
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    data_range: DataRange = None,
    channel_axis: int | None = None,
    per_image: Literal[False] = False,
    backend: Backend = "auto",
    return_map: Literal[True],
) -> tuple[float, Floats]: ...


@overload
def ssim(
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    data_range: DataRange = None,
    channel_axis: int | None = None,
    per_image: Literal[True],
    backend: Backend = "auto",
    return_map: Literal[True],
) -> tuple[NDArray[np.float64], Floats]: ...


@overload
def ssim(
    a: Tensor,
    b: Tensor,
    *,
    data_range: DataRange = None,
    channel_axis: int | None = None,
    per_image: bool = False,
    backend: Backend = "auto",
    return_map: Literal[False] = False,
) -> Tensor: ...


@overload
def ssim(
    a: Tensor,
    b: Tensor,
    *,
    data_range: DataRange = None,
    channel_axis: int | None = None,
    per_image: bool = False,
    backend: Backend = "auto",
    return_map: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def ssim(
    a: Any,
    b: Any,
    *,
    data_range: DataRange = None,
    channel_axis: int | None = None,
    per_image: bool = False,
    backend: Backend = "auto",
    return_map: bool = False,
) -> object:
    r"""Return the mean structural similarity (SSIM) of Wang et al.

    With means :math:`\mu`, variances :math:`\sigma^2` and the covariance :math:`\sigma_{ab}`
    of the pixels of a window, weighted by a Gaussian,

    .. math::
        \mathrm{SSIM} = \frac{(2 \mu_a \mu_b + C_1)(2 \sigma_{ab} + C_2)}
            {(\mu_a^2 + \mu_b^2 + C_1)(\sigma_a^2 + \sigma_b^2 + C_2)},
        \quad C_1 = (0.01 R)^2, \quad C_2 = (0.03 R)^2,

    and the mean is over all windows that lie within the image, and over all channels.  As in
    [1]_ the Gaussian has a standard deviation of 1.5 pixels and the window 11x11 pixels.  This
    equals ``structural_similarity`` of scikit-image with ``gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False``, computed in double precision.

    Parameters
    ----------
    a, b
        Arrays or tensors of the same shape ``(..., H, W)`` or ``(..., H, W, C)``, 11x11 pixels
        or more.  uint8, uint16, float32 and float64 as they are, half precision in float32,
        other integers in float64; sums are in float64 for all of them.
    data_range
        R, the distance from the darkest to the brightest possible value, in the unit of
        a; or the pair (darkest, brightest).  It may be left out where both are uint8, for which
        it is 255.
    channel_axis
        The axis of the channels, where it is not in front of the rows: -1 for ``(H, W, C)``,
        which is recognised for up to four channels.
    per_image
        One value for each entry of the first axis, that of a batch.
    backend
        See :mod:`dipfast.ops`.  There is no Triton kernel.
    return_map
        Also return SSIM of every window.

    Returns
    -------
    value : float or scalar tensor; array or tensor of shape (N,) with ``per_image``
        1 for equal images, less for others; NaN if anything is not finite, an integer of 2**53
        or more, or so many times the data range that float64 does not have its fourth power.
        For tensors, in the dtype that a is taken in; gradients flow to a and b, computed in the
        same sweep over the images.
    map : array or tensor
        Only with ``return_map``: SSIM of the window around each pixel, for all but the 5
        outermost rows and columns, so ``(..., H - 10, W - 10)``.  It is for looking at and
        carries no gradient.

    Raises
    ------
    TypeError
        If an argument is neither array nor tensor or does not hold real numbers, or if array
        and tensor are mixed.
    ValueError
        If the shapes or the devices differ, the images are smaller than the window, an axis cannot
        be or is needed, pixels are masked, or data_range is missing or not positive.

    References
    ----------
    .. [1] Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility
       to structural similarity", IEEE TIP 13(4), 2004.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> a = np.arange(16 * 16, dtype=np.uint8).reshape(16, 16)
    >>> dipfast.ops.ssim(a, a)
    1.0
    >>> round(dipfast.ops.ssim(a, 255 - a), 3)
    -0.826
    """
    _arguments.check_backend(backend)
    data_range = range_width(data_range, a, b)
    home: Any = getattr(a, "device", None)
    on_host = not is_tensor(a) or a.device.type in ("cpu", "mps") or backend == "native"
    a, b, masked = _arguments.as_pair(a, b, integers=on_host and backend != "torch")
    if masked is not None:
        raise InputError(
            f"a and b have {np.count_nonzero(masked)} masked pixels, and SSIM needs whole windows: "
            "pass a part without them, or use psnr, which leaves them out"
        )
    axes = Axes.of("a", a, channel_axis)
    axis = axes.channels if channel_axis is not None or axes.channels != axes.front else None
    _check_shape(tuple(a.shape), axis, per_image)
    dtype = a.dtype
    data_range, a, b = in_units(data_range, a, b)
    value: Any
    windows: Any
    if is_tensor(a):
        if axis is not None:
            a, b = a.movedim(axis, -3), b.movedim(axis, -3)
        value, windows = _of_tensors(a, b, data_range, per_image, backend, return_map)
        if dtype.is_floating_point:
            value = value.to(dtype)
        value = _arguments.to_home(value, home)
        if return_map:
            windows = windows if axis is None else windows.movedim(-3, axis)
            windows = windows.to(value.device, value.dtype)
    elif backend == "torch":
        return through_torch(
            ssim,
            a,
            b,
            data_range=data_range,
            channel_axis=axis,
            per_image=per_image,
            return_map=return_map,
        )
    else:
        value, windows = _of_arrays(a, b, data_range, axis, per_image, return_map)
        if return_map and dtype == np.float32:
            windows = windows.astype(dtype, copy=False)
    return (value, windows) if return_map else value


def _check_shape(shape: tuple[int, ...], axis: int | None, per_image: bool) -> None:
    """Refuse images smaller than the window, and a single one if there is to be a batch."""
    _arguments.check_image("a", len(shape))
    pixels = list(shape)
    if axis is not None:
        del pixels[axis]
    rows, columns = pixels[-2:]
    if rows < WINDOW or columns < WINDOW:
        raise InputError(
            f"a must have at least {WINDOW} rows and columns, those of the window, "
            f"got {rows} x {columns}"
        )
    if per_image and len(pixels) < 3:
        raise InputError(f"a must have an axis of images for per_image, got shape {shape}")


def _of_arrays(
    a: Any, b: Any, data_range: float, axis: int | None, per_image: bool, return_map: bool
) -> tuple[Any, Any]:
    """Return the value and the SSIM of every window, None if not asked for, of arrays."""
    # The kernel takes channels side by side as they are, but its strips have borders of 10 pixels,
    # which are larger than the strips with more than four channels.
    channels_last = axis == -1 and a.shape[-1] <= 4
    if not channels_last and axis is not None:
        a, b = (np.ascontiguousarray(np.moveaxis(x, axis, -3)) for x in (a, b))
    windows: Any = None
    if return_map:
        shape = list(a.shape)
        for k in (-3, -2) if channels_last else (-2, -1):
            shape[k] -= WINDOW - 1
        windows = _buffers.empty(shape, np.float32 if a.dtype == np.float32 else np.float64)
    values = _native.ssim(
        a,
        b,
        data_range,
        images=a.shape[0] if per_image else 1,
        channels_last=channels_last,
        map=windows,
    )
    if windows is not None and not channels_last and axis is not None:
        windows = np.moveaxis(windows, -3, axis)
    return np.array(values) if per_image else values[0], windows


def _of_tensors(
    a: Tensor, b: Tensor, data_range: float, per_image: bool, backend: str, return_map: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the value and the SSIM of every window, None if not asked for, of tensors."""
    import torch

    from dipfast.ops import _reference, _torch

    if backend == "native":
        a, b = a.cpu(), b.cpu()
    windows: Tensor | None
    if backend == "torch":
        value = _reference.ssim(a, b, data_range, per_image)
        windows = _reference.ssim_map(a.detach(), b.detach(), data_range) if return_map else None
    else:
        wanted = (torch.is_grad_enabled() and x.requires_grad for x in (a, b))
        value, windows, *_ = _torch.ssim(a, b, data_range, per_image, return_map, *wanted)
    return value, windows.detach() if windows is not None else None
