"""Resample images: down-sampling, resizing, and their adjoints."""

from __future__ import annotations

import operator
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

from dipfast.arrays import is_tensor
from dipfast.checks import check_choice
from dipfast.errors import InputError, InputTypeError
from dipfast.ops import _arguments, _buffers
from dipfast.ops._arguments import Axes, Backend
from dipfast.ops._compiled.resample import resampler
from dipfast.ops._dispatch import through_torch
from dipfast.settings.names import DOWNSAMPLE_KERNELS, DownsampleKernel

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from typing_extensions import Unpack

    from dipfast.ops._arguments import Floats

__all__ = ["downsample", "downsample_adjoint", "resize", "resize_adjoint"]

ResizeKernel: TypeAlias = Literal["lanczos3", "bicubic", "bilinear", "box"]
RESIZE_KERNELS: tuple[ResizeKernel, ...] = get_args(ResizeKernel)
Size: TypeAlias = tuple[int, int]


class _DownsampleOptions(TypedDict, total=False):
    """Type the options of :func:`downsample` and its adjoint."""

    kernel: DownsampleKernel
    phase: float
    channel_axis: int | None
    backend: Backend


class _ResizeOptions(TypedDict, total=False):
    """Type the options of :func:`resize` and its adjoint."""

    kernel: ResizeKernel
    channel_axis: int | None
    backend: Backend


@overload
def downsample(x: NDArray[Any], factor: int, **options: Unpack[_DownsampleOptions]) -> Floats: ...


@overload
def downsample(x: Tensor, factor: int, **options: Unpack[_DownsampleOptions]) -> Tensor: ...


def downsample(
    x: Any,
    factor: int,
    *,
    kernel: DownsampleKernel = "lanczos2",
    phase: float = 0.5,
    channel_axis: int | None = None,
    backend: Backend = "auto",
) -> object:
    r"""Return images smaller by a whole number: filtered, then every factor-th pixel kept.

    With ``kernel="lanczos2"`` as in super-resolution by Deep Image Prior [1]_, the same along
    both axes:

    .. math::
        y_i = \sum_{k=0}^{n-1} w_k \, x_{\operatorname{clamp}(f i + k - p)}, \qquad
        w_k \propto L\!\left(\frac{k - (n - 1) / 2}{f}\right), \qquad
        L(t) = \frac{2 \sin(\pi t) \sin(\pi t / 2)}{\pi^2 t^2} \text{ for } |t| < 2,
        \text{ else } 0,

    where f is the factor, the weights sum to 1, and clamp takes the border pixel for what
    lies beyond the border.  Phase 1/2: n = 4 f weights, p = floor(3 f / 2); phase 0:
    n = 4 f + 1 and p = 2 f.

    Parameters
    ----------
    x
        Array or tensor of shape ``(..., H, W)``, or with its channels elsewhere (see
        ``channel_axis``).  float32 and float64 as they are, half precision in float32, integers
        in float64.
    factor
        f, from 1 to min(H, W).
    kernel
        ``"lanczos2"``, the default, as above, or one of those of :func:`resize`, for which H
        and W must be multiples of the factor.
    phase
        0.5 (the default): the pixels that are kept lie in the middle of f x f pixels; 0: on
        the first of them.  Where f is odd, "lanczos2" with phase 1/2 lies half a pixel before
        the middle, as the original does.
    channel_axis
        The axis of the channels; None recognises up to four in the last axis.  See
        :mod:`dipfast.ops`.
    backend
        See :mod:`dipfast.ops`.

    Returns
    -------
    array or tensor
        Axes, dtype and memory format of x, with h and w for H and W.  h = floor(H / f) with
        phase 1/2, but floor((H - 1) / f) for ``"lanczos2"`` if f is odd; ceil(H / f) with phase
        0.  Not finite where a weighted sum is beyond the numbers of the dtype.
        For tensors, gradients flow; the derivative is :func:`downsample_adjoint`.

    Raises
    ------
    TypeError
        If x is not an array or tensor of real numbers, or factor is not an integer.
    ValueError
        If x has no rows and columns, or does not tell where its channels are, nothing would be
        left, or factor, kernel, phase, channel_axis or backend cannot be.

    References
    ----------
    .. [1] Ulyanov, Vedaldi, Lempitsky, "Deep Image Prior", IJCV 2020, arXiv:1711.10925.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> dipfast.ops.downsample(np.ones((3, 64, 48)), 4).shape
    (3, 16, 12)
    >>> dipfast.ops.downsample(np.array([[0.0, 2.0], [4.0, 6.0]]), 2, kernel="box")
    array([[3.]])
    """
    _arguments.check_backend(backend)
    x, axes = _images("x", x, channel_axis)
    form = _downsampling(x.shape, factor, kernel, phase)
    return axes.back(_resample(x, form, False, backend))


@overload
def downsample_adjoint(
    y: NDArray[Any], factor: int, size: Size, **options: Unpack[_DownsampleOptions]
) -> Floats: ...


@overload
def downsample_adjoint(
    y: Tensor, factor: int, size: Size, **options: Unpack[_DownsampleOptions]
) -> Tensor: ...


def downsample_adjoint(
    y: Any,
    factor: int,
    size: Size,
    *,
    kernel: DownsampleKernel = "lanczos2",
    phase: float = 0.5,
    channel_axis: int | None = None,
    backend: Backend = "auto",
) -> object:
    r"""Apply the adjoint of :func:`downsample`.

    With A the down-sampling of images of this size, :math:`A^T y`; that is,
    :math:`\langle A x, y \rangle = \langle x, A^T y \rangle` for all x, up to rounding.

    Parameters
    ----------
    y
        Array or tensor of shape ``(..., h, w)``, or with its channels elsewhere, as
        :func:`downsample` returns it.
    factor
        f, as for :func:`downsample`.
    size
        (H, W) of the images that are down-sampled.
    kernel, phase
        As for :func:`downsample`.
    channel_axis
        The axis of the channels; None recognises up to four in the last axis.  See
        :mod:`dipfast.ops`.
    backend
        See :mod:`dipfast.ops`.

    Returns
    -------
    array or tensor
        Axes, dtype and memory format of y, with H and W for h and w.  For tensors, gradients
        flow; the derivative is :func:`downsample`.

    Raises
    ------
    TypeError
        If y is not an array or tensor of real numbers, or factor or size are not integers.
    ValueError
        If down-sampling images of this size does not give the shape of y, y does not tell where
        its channels are, or factor, size, kernel, phase, channel_axis or backend cannot be.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> dipfast.ops.downsample_adjoint(np.array([[4.0]]), 2, (2, 2), kernel="box")
    array([[1., 1.],
           [1., 1.]])
    """
    _arguments.check_backend(backend)
    y, axes = _images("y", y, channel_axis)
    form = _downsampling((*y.shape[:-2], *_size(size)), factor, kernel, phase)
    if tuple(y.shape[-2:]) != form.result:
        raise InputError(
            f"y must have shape (..., {form.result[0]}, {form.result[1]}) for size={form.image} "
            f"and factor={factor}, got {tuple(y.shape)}"
        )
    return axes.back(_resample(y, form, True, backend))


@overload
def resize(x: NDArray[Any], size: Size, **options: Unpack[_ResizeOptions]) -> Floats: ...


@overload
def resize(x: Tensor, size: Size, **options: Unpack[_ResizeOptions]) -> Tensor: ...


def resize(
    x: Any,
    size: Size,
    *,
    kernel: ResizeKernel = "lanczos3",
    channel_axis: int | None = None,
    backend: Backend = "auto",
) -> object:
    r"""Return images of another size, antialiased, as Pillow's ``Image.resize`` of float images.

    Along each axis, with scale s = (old size) / (new size) and stretch r = max(s, 1),

    .. math::
        y_i \propto \sum_j K\!\left(\frac{j + 1/2 - s (i + 1/2)}{r}\right) x_j,

    summed over the pixels that there are, and the weights scaled to the sum 1.  K is a
    windowed sinc, sinc(t) sinc(t / 3) for \|t\| < 3 (``"lanczos3"``), Keys' cubic with
    a = -1/2 [1]_ (``"bicubic"``), 1 - \|t\| for \|t\| < 1 (``"bilinear"``) or 1 for
    -1/2 < t <= 1/2 (``"box"``).

    Parameters
    ----------
    x
        Array or tensor of shape ``(..., H, W)``, or with its channels elsewhere (see
        ``channel_axis``).  float32 and float64 as they are, half precision in float32, integers
        in float64.
    size
        (h, w), the rows and columns of the result; larger or smaller than those of x.
    kernel
        K.  The default keeps the most detail.
    channel_axis
        The axis of the channels; None recognises up to four in the last axis.  See
        :mod:`dipfast.ops`.
    backend
        See :mod:`dipfast.ops`.

    Returns
    -------
    array or tensor
        Axes, dtype and memory format of x, with h and w for H and W.  Values may go beyond the
        range of x with "lanczos3" and "bicubic", and are not finite where a weighted sum is
        beyond the numbers of the dtype.  For tensors, gradients flow; the derivative is
        :func:`resize_adjoint`.

    Raises
    ------
    TypeError
        If x is not an array or tensor of real numbers, or size is not two integers.
    ValueError
        If x has no rows and columns, or does not tell where its channels are, or size, kernel,
        channel_axis or backend cannot be.

    References
    ----------
    .. [1] Keys, "Cubic convolution interpolation for digital image processing", IEEE
       Transactions on Acoustics, Speech and Signal Processing 29, 1981.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> dipfast.ops.resize(np.array([[0.0, 1.0]]), (1, 4), kernel="bilinear")
    array([[0.  , 0.25, 0.75, 1.  ]])
    """
    _arguments.check_backend(backend)
    x, axes = _images("x", x, channel_axis)
    form = _resizing(x.shape[-2:], _size(size), kernel)
    return axes.back(_resample(x, form, False, backend))


@overload
def resize_adjoint(y: NDArray[Any], size: Size, **options: Unpack[_ResizeOptions]) -> Floats: ...


@overload
def resize_adjoint(y: Tensor, size: Size, **options: Unpack[_ResizeOptions]) -> Tensor: ...


def resize_adjoint(
    y: Any,
    size: Size,
    *,
    kernel: ResizeKernel = "lanczos3",
    channel_axis: int | None = None,
    backend: Backend = "auto",
) -> object:
    r"""Apply the adjoint of :func:`resize`.

    With A the resizing of images of size ``size`` to that of y, :math:`A^T y`; that is,
    :math:`\langle A x, y \rangle = \langle x, A^T y \rangle` for all x, up to rounding.

    Parameters
    ----------
    y
        Array or tensor of shape ``(..., h, w)``, or with its channels elsewhere, as
        :func:`resize` returns it.
    size
        (H, W) of the images that are resized.
    kernel, channel_axis, backend
        As for :func:`resize`.

    Returns
    -------
    array or tensor
        Axes, dtype and memory format of y, with H and W for h and w.  For tensors, gradients
        flow; the derivative is :func:`resize`.

    Raises
    ------
    TypeError
        If y is not an array or tensor of real numbers, or size is not two integers.
    ValueError
        If y has no rows and columns, or does not tell where its channels are, or size, kernel,
        channel_axis or backend cannot be.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> dipfast.ops.resize_adjoint(np.array([[1.0, 1.0]]), (1, 4), kernel="box")
    array([[0.5, 0.5, 0.5, 0.5]])
    """
    _arguments.check_backend(backend)
    y, axes = _images("y", y, channel_axis)
    form = _resizing(_size(size), y.shape[-2:], kernel)
    return axes.back(_resample(y, form, True, backend))


class _Form(NamedTuple):
    """Say which map is meant: from images of one size to those of another."""

    kernel: str
    image: Size
    result: Size
    factor: int = 1
    phase: float = 0.5


def _resizing(image: Any, result: Any, kernel: str) -> _Form:
    """Return the map of :func:`resize`."""
    check_choice("kernel", kernel, RESIZE_KERNELS)
    return _Form(kernel, (image[0], image[1]), (result[0], result[1]))


def _downsampling(shape: Any, factor: int, kernel: str, phase: float) -> _Form:
    """Return the map of :func:`downsample` for images of this shape."""
    check_choice("kernel", kernel, DOWNSAMPLE_KERNELS)
    if isinstance(phase, bool) or phase not in (0.5, 0):
        raise InputError(f"phase must be one of 0.5, 0, got {phase!r}")
    try:
        factor = operator.index(factor)
    except TypeError:
        raise InputTypeError(f"factor must be an integer, got {factor!r}") from None
    image = (shape[-2], shape[-1])
    if not 1 <= factor <= min(image):
        raise InputError(
            f"factor must be from 1 to the smaller one of {image[0]} rows and {image[1]} columns, "
            f"got {factor}"
        )
    if kernel != "lanczos2":
        if phase != 0.5:
            raise InputError(f"phase must be 0.5 for kernel={kernel!r}, got {phase!r}")
        if image[0] % factor or image[1] % factor:
            raise InputError(
                f"rows and columns must be multiples of factor={factor} for kernel={kernel!r}, "
                f"got {image[0]} x {image[1]}"
            )
        return _Form(kernel, image, (image[0] // factor, image[1] // factor))
    if phase == 0:
        result = (-(-image[0] // factor), -(-image[1] // factor))
    else:
        lost = factor % 2
        result = ((image[0] - lost) // factor, (image[1] - lost) // factor)
    if 0 in result:
        raise InputError(
            f"there must be more than {factor} rows and columns for factor={factor}, which is odd, "
            f"and phase=0.5, got {image[0]} x {image[1]}"
        )
    return _Form(kernel, image, result, factor, float(phase))


def _size(size: Any) -> Size:
    """Return a size as two positive integers."""
    try:
        rows, columns = (operator.index(n) for n in size)
    except (TypeError, ValueError):
        raise InputTypeError(f"size must be two integers, rows and columns, got {size!r}") from None
    if rows < 1 or columns < 1:
        raise InputError(f"size must be positive, got {size!r}")
    return rows, columns


def _images(name: str, x: Any, channel_axis: int | None) -> tuple[Any, Axes]:
    """Return images (..., H, W) of floats, and where their channels were."""
    x = _arguments.as_float_tensor(name, x) if is_tensor(x) else _arguments.as_floats(name, x)
    axes = Axes.of(name, x, channel_axis)
    x = axes.to_front(x)
    if 0 in x.shape[-2:]:
        raise InputError(f"{name} must have at least one row and column, got {tuple(x.shape)}")
    return x, axes


def _resample(x: Any, form: _Form, adjoint: bool, backend: str) -> Any:
    """Apply a map, or its adjoint, to images (..., H, W)."""
    size = form.image if adjoint else form.result
    if not is_tensor(x):
        if backend == "torch":
            return through_torch(_resample, x, form=form, adjoint=adjoint)
        x, channels_last = _arguments.as_kernel_array(x)
        shape = (*x.shape[:-3], *size, x.shape[-1]) if channels_last else (*x.shape[:-2], *size)
        y = _buffers.empty(shape, x.dtype)
        resampler(*form, adjoint).apply(x, y, channels_last=channels_last)
        return _arguments.as_channels_first(y, channels_last)
    from dipfast.ops import _torch

    options = (form.kernel, form.factor, form.phase, adjoint)
    if backend == "torch":
        return _torch.plain_resample(x, size, *options)
    home = x.device
    x = x.cpu() if backend == "native" else x
    return _torch.resample(x, size, *options).to(home)
