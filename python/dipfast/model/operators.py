"""Define forward models A of a measurement y = A(u) + noise.

A forward model is a torch module with ``forward``, from image to measurement, and ``adjoint``,
from measurement to image, with <A u, y> = <u, A' y>.  :class:`LinearOperator` derives the adjoint
from ``forward``, so that a new operator needs ``forward`` and the shape of its images only.
"""

from __future__ import annotations

import copy
import math
import operator as operators
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dipfast import ops
from dipfast.checks import check_choice
from dipfast.errors import InputError, InputTypeError
from dipfast.settings.names import BOUNDARIES, DOWNSAMPLE_KERNELS, Boundary, DownsampleKernel
from dipfast.torch_modes import plain_modes, plain_operator

__all__ = [
    "Blur",
    "Compose",
    "Downsample",
    "Identity",
    "LinearOperator",
    "Mask",
    "Operator",
    "Wrapped",
    "as_operator",
    "beyond_border",
    "gaussian_kernel",
    "known_mask",
    "on_device",
    "sees_beyond_border",
    "taken_as_it_is",
]

Shape: TypeAlias = tuple[int, ...]
_T = TypeVar("_T")


class Operator(Protocol):
    """Map images to measurements, and back by the adjoint: the interface of a forward model."""

    def __call__(self, image: Tensor) -> Tensor:
        """Return the measurement A u of an image u of shape (N, C, H, W)."""
        ...

    def adjoint(self, measurement: Tensor) -> Tensor:
        """Return the adjoint A' y of a measurement.

        Parameters
        ----------
        measurement
            The measurement y, of shape (N, C, H, W) with a C, H and W of its own.

        Returns
        -------
        Tensor
            A' y, of the shape of an image.
        """
        ...


class LinearOperator(nn.Module):
    """Derive the adjoint of a linear forward model from its ``forward``.

    The derivative of a linear map is the map itself, and back-propagation through it is its
    exact adjoint.  Subclasses define ``forward`` in differentiable operations, and
    :meth:`image_shape` where images and measurements differ in shape.

    Examples
    --------
    >>> import torch
    >>> class Halves(LinearOperator):
    ...     def forward(self, image):
    ...         return image[..., ::2]
    ...     def image_shape(self, shape):
    ...         return (*shape[:-1], 2 * shape[-1])
    >>> Halves().adjoint(torch.ones(1, 1, 1, 2))
    tensor([[[[1., 0., 1., 0.]]]])
    """

    def image_shape(self, shape: Shape) -> Shape:
        """Return the shape of the images that give measurements of a shape.

        Parameters
        ----------
        shape
            Shape (N, C, H, W) of a measurement.

        Returns
        -------
        tuple of int
            Shape of its image; the same shape unless a subclass says otherwise.
        """
        return shape

    def adjoint(self, measurement: Tensor) -> Tensor:
        """Return the adjoint A' y of a measurement, computed by back-propagation.

        Parameters
        ----------
        measurement
            The measurement y.

        Returns
        -------
        Tensor
            A' y, of the shape of an image, differentiable with respect to y.

        Raises
        ------
        ValueError
            If images of the shape of :meth:`image_shape` have measurements of another shape.
        """
        # In inference mode nothing can be differentiated, whatever enable_grad() says.
        with torch.inference_mode(False), torch.enable_grad():
            if measurement.is_inference():
                measurement = measurement.clone()
            image = measurement.new_zeros(self.image_shape(tuple(measurement.shape)))
            image.requires_grad_()
            result = plain_operator(self)(image)
            if result.shape != measurement.shape:
                raise InputError(
                    f"measurement must have shape {tuple(result.shape)} for images of shape "
                    f"{tuple(image.shape)}, got {tuple(measurement.shape)}"
                )
            (gradient,) = torch.autograd.grad(
                result, image, measurement, create_graph=measurement.requires_grad
            )
        return gradient


class Identity(LinearOperator):
    """Leave the image as it is, A u = u: the measurement is the image with noise.

    Examples
    --------
    >>> import torch
    >>> Identity()(torch.ones(1, 3, 4, 4)).shape
    torch.Size([1, 3, 4, 4])
    """

    def forward(self, image: Tensor) -> Tensor:
        return image

    def adjoint(self, measurement: Tensor) -> Tensor:
        return measurement


class Mask(LinearOperator):
    """Set the pixels that were not measured to 0, A u = m u.

    Parameters
    ----------
    known
        The mask m, a boolean tensor or array, True where the pixel is known, of a shape that
        broadcasts to that of the images, such as (H, W) or (N, C, H, W).

    Raises
    ------
    TypeError
        If the mask is not boolean: a pixel is either measured or not.

    Examples
    --------
    >>> import torch
    >>> Mask(torch.tensor([[True, False]]))(torch.ones(1, 1, 1, 2))
    tensor([[[[1., 0.]]]])
    """

    known: Tensor

    @plain_modes()
    def __init__(self, known: Any) -> None:
        super().__init__()
        if isinstance(known, np.ndarray) and known.dtype == np.bool_:
            known = torch.from_numpy(np.array(known, copy=True))
        if not isinstance(known, Tensor) or known.dtype != torch.bool:
            is_array = isinstance(known, np.ndarray | Tensor)
            got = f"one of {known.dtype}" if is_array else type(known).__name__
            raise InputTypeError(
                f"known must be a boolean tensor or array, True where a pixel is known, got {got}"
            )
        self.register_buffer("known", known)

    def forward(self, image: Tensor) -> Tensor:
        # Selected instead of multiplied by 0, because NaN times 0 is NaN.
        return torch.where(self.known, image, 0)

    def adjoint(self, measurement: Tensor) -> Tensor:
        return self.forward(measurement)


class Downsample(LinearOperator):
    """Make the image smaller by a whole number: filter it, and keep one pixel of factor x factor.

    Each pixel of the measurement lies at the centre of the factor x factor pixels that it stands
    for, as in :func:`dipfast.ops.downsample` with phase 1/2.  This holds for "lanczos2" with an
    odd factor too, where the original's pixels lie half a pixel before the centre and the last
    one is missing.

    Parameters
    ----------
    factor
        How many times smaller the measurement is along each axis, an integer from 1 up.
    kernel
        The filter, as in :func:`dipfast.ops.downsample`; "lanczos2" as in the original.

    Raises
    ------
    TypeError
        If the factor is not an integer.
    ValueError
        If the factor is not positive or the kernel is unknown; from ``forward``, if an image does
        not have a multiple of ``factor`` rows and columns.

    Examples
    --------
    >>> import torch
    >>> Downsample(3)(torch.ones(1, 1, 9, 15)).shape
    torch.Size([1, 1, 3, 5])
    """

    def __init__(self, factor: int, kernel: DownsampleKernel = "lanczos2") -> None:
        super().__init__()
        try:
            self.factor = operators.index(factor)
        except TypeError:
            raise InputTypeError(f"factor must be an integer, got {factor!r}") from None
        if self.factor < 1:
            raise InputError(f"factor must be positive, got {factor}")
        check_choice("kernel", kernel, DOWNSAMPLE_KERNELS)
        self.kernel: DownsampleKernel = kernel

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if height % self.factor or width % self.factor:
            raise InputError(
                f"image must have multiples of factor={self.factor} rows and columns, "
                f"got {height} x {width}"
            )
        if self.kernel != "lanczos2" or self.factor % 2 == 0:
            smaller = ops.downsample(image, self.factor, kernel=self.kernel, channel_axis=-3)
            return self._result(smaller)
        # Phase 0 keeps the pixels 0, f, 2f, ...  With this many more pixels in front, these are the
        # central ones of their blocks, after one that lies before the first block.
        more = self.factor - self.factor // 2
        wider = F.pad(image, (more, 0, more, 0), mode="replicate")
        smaller = ops.downsample(wider, self.factor, phase=0, channel_axis=-3)
        return self._result(smaller)[..., 1:, 1:]

    def image_shape(self, shape: Shape) -> Shape:
        return (*shape[:-2], shape[-2] * self.factor, shape[-1] * self.factor)

    @staticmethod
    def _result(x: Any) -> Tensor:
        """Return the argument, typed as a tensor for the type checker."""
        result: Tensor = x
        return result


class Blur(LinearOperator):
    r"""Convolve the image with a point-spread function k, (A u)_p = sum_q k_q u_{p+c-q}.

    The function is the same for every channel.  Where k is an outer product (Gaussian, box), the
    convolution is done along columns and rows in turn, which is faster.

    Parameters
    ----------
    kernel
        The point-spread function k, a tensor or array of shape (rows, columns), floating point:
        the image of a point, its centre c at (rows // 2, columns // 2).  It is not normalised: its
        sum must be 1 for the brightness to stay the same.
    boundary
        The values beyond the border of the image: ``"unknown"``, the default, because a camera saw
        what goes on there; ``"reflect"``, ``"replicate"``, ``"circular"`` or ``"zero"`` where they
        are known.  Unknown ones are restored, too, by ``method="pnp"``, and cut off the result; in
        the operator itself, and in fits, they are those of the nearest pixel of the image.

    Raises
    ------
    TypeError
        If the kernel is not a tensor or an array of floating point.
    ValueError
        If the kernel is not two-dimensional and finite, or the boundary is unknown; from
        ``forward``, if an image is too small for the kernel with its boundary.

    Examples
    --------
    >>> import torch
    >>> Blur(torch.ones(3, 3) / 9)(torch.ones(1, 1, 4, 4)).sum()
    tensor(16.)
    """

    rows: Tensor
    columns: Tensor

    @plain_modes()
    def __init__(self, kernel: Any, boundary: Boundary = "unknown") -> None:
        super().__init__()
        if isinstance(kernel, np.ndarray) and kernel.dtype.kind == "f":
            # Of float16 convolutions are slow on a CPU, and float64 is more than a picture has.
            kernel = torch.from_numpy(np.ascontiguousarray(kernel, np.float32))
        if not isinstance(kernel, Tensor) or not kernel.is_floating_point():
            got = f"an array of {kernel.dtype}" if isinstance(kernel, np.ndarray) else repr(kernel)
            raise InputTypeError(
                f"kernel must be a tensor or an array of floating point, got {got}; "
                "kernel / kernel.sum() makes numbers of a sum of 1 of counts"
            )
        if kernel.ndim != 2 or 0 in kernel.shape or not kernel.isfinite().all():
            raise InputError(
                f"kernel must be finite, of shape (rows, columns), got {tuple(kernel.shape)}"
            )
        check_choice("boundary", boundary, BOUNDARIES)
        self.boundary: Boundary = boundary
        self.shape = tuple(kernel.shape)
        # F.conv2d is a correlation; with the kernel turned by 180 degrees it is a convolution.
        # On the CPU, because not every device has float64.
        turned = kernel.detach().cpu().flip(0, 1).double()
        left, values, right = torch.linalg.svd(turned)
        self.separable = bool((values[1:] <= 1e-6 * values[0]).all())
        if self.separable:
            scale = values[0].sqrt()
            columns, rows = left[:, :1] * scale, right[:1] * scale
        else:
            columns, rows = turned, turned.new_ones(1, 1)
        self.register_buffer("columns", columns.to(kernel))
        self.register_buffer("rows", rows.to(kernel))

    def extra_repr(self) -> str:
        rows, columns = self.shape
        return f"kernel of {rows} x {columns}, boundary={self.boundary!r}"

    @property
    def margins(self) -> tuple[int, int, int, int]:
        """How many columns left and right, and rows above and below, a measurement reaches."""
        # From the centre of the turned kernel.
        (height, width) = self.shape
        top, left = height - 1 - height // 2, width - 1 - width // 2
        return left, width - 1 - left, top, height - 1 - top

    def forward(self, image: Tensor) -> Tensor:
        (height, width), size, padding = self.shape, image.shape[-2:], self.margins
        most = {"reflect": 1, "circular": 0}.get(self.boundary)
        reach = (max(padding[2:]), max(padding[:2]))
        if most is not None and any(far > n - most for far, n in zip(reach, size)):
            raise InputError(
                f"image is too small for a kernel of {height} x {width} with "
                f"boundary={self.boundary!r}, got {size[0]} x {size[1]}"
            )
        mode = {"zero": "constant", "unknown": "replicate"}.get(self.boundary, self.boundary)
        return self.inside(F.pad(image, padding, mode=mode))

    def inside(self, image: Tensor) -> Tensor:
        """Return the measurement without the margins, in which the border of an image matters.

        Parameters
        ----------
        image
            The image, (N, C, H, W), larger than the kernel.

        Returns
        -------
        Tensor
            The measurement, with one row less than the image for each row of the kernel but one,
            and with columns alike.
        """
        x = image
        kernels = (self.columns, self.rows) if self.separable else (self.columns,)
        for kernel in kernels:
            weights = kernel.to(x).expand(x.shape[1], 1, *kernel.shape)
            x = F.conv2d(x, weights, groups=x.shape[1])
        return x


class _Inside(LinearOperator):
    """Measure the middle of an image, which goes on beyond the measurement."""

    def __init__(self, blur: Blur) -> None:
        super().__init__()
        self.blur = blur

    def forward(self, image: Tensor) -> Tensor:
        return self.blur.inside(image)

    def image_shape(self, shape: Shape) -> Shape:
        left, right, top, bottom = self.blur.margins
        return (*shape[:-2], shape[-2] + top + bottom, shape[-1] + left + right)


def beyond_border(operator: Operator) -> tuple[Operator, tuple[slice, slice]] | None:
    """Return an operator for an image with what is beyond the border of the measurement.

    Parameters
    ----------
    operator
        The forward model.

    Returns
    -------
    tuple or None
        The operator whose images have margins, and the rows and columns of these that are the
        image of the given one; None unless that begins with a :class:`Blur` whose boundary is
        unknown.

    Examples
    --------
    >>> wide, (rows, columns) = beyond_border(Blur(torch.ones(3, 3) / 9))
    >>> wide(torch.ones(1, 1, 6, 6)).shape, torch.ones(1, 1, 6, 6)[..., rows, columns].shape
    (torch.Size([1, 1, 4, 4]), torch.Size([1, 1, 4, 4]))
    """
    parts: list[Any] = [operator]
    while isinstance(parts[0], Compose):
        parts[:1] = parts[0].operators
    first = parts[0]
    if not isinstance(first, Blur) or first.boundary != "unknown":
        return None
    left, right, top, bottom = first.margins
    wide = _Inside(first)
    inner = slice(top, -bottom or None), slice(left, -right or None)
    return (wide if len(parts) == 1 else Compose(wide, *parts[1:])), inner


def sees_beyond_border(operator: Operator, size: tuple[int, int]) -> Tensor | None:
    """Return which elements of a measurement hang on what is unknown beyond the border.

    Parameters
    ----------
    operator
        The forward model.
    size
        Rows and columns of the measurement.

    Returns
    -------
    Tensor or None
        Boolean, (1, 1, H, W); None where none do, or an unknown part is not that of
        :func:`beyond_border`.

    Examples
    --------
    >>> sees_beyond_border(Blur(torch.ones(1, 3) / 3), (1, 4))
    tensor([[[[ True, False, False,  True]]]])
    """
    beyond = beyond_border(operator)
    if beyond is None:
        return None
    assert isinstance(operator, LinearOperator)
    shape = operator.image_shape((1, 1, *size))[-2:]
    inside = []
    for own, length, count in zip(beyond[1], shape, size):
        # Of an operator that makes pictures smaller, rounded to whole elements.
        near, far = (math.ceil(n * count / length) for n in (own.start, -(own.stop or 0)))
        places = torch.arange(count)
        inside.append((places >= near) & (places < count - far))
    return ~torch.outer(*inside)[None, None]


@plain_modes()
def gaussian_kernel(sigma: float, size: int | None = None) -> Tensor:
    """Return a Gaussian point-spread function for :class:`Blur`, summing to 1.

    Parameters
    ----------
    sigma
        Standard deviation in pixels, positive.
    size
        Number of rows and of columns, odd; None takes the least that reaches to 4 sigma on each
        side, where the Gaussian has fallen to 3e-4 of its maximum.

    Returns
    -------
    Tensor
        The kernel, of shape (size, size), float32.

    Raises
    ------
    ValueError
        If sigma is not positive or size not odd.

    Examples
    --------
    >>> gaussian_kernel(0.5).shape
    torch.Size([5, 5])
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise InputError(f"sigma must be positive, got {sigma!r}")
    size = 2 * math.ceil(4 * sigma) + 1 if size is None else size
    if size < 1 or size % 2 == 0:
        raise InputError(f"size must be odd and positive, got {size!r}")
    offsets = torch.arange(size, dtype=torch.float64) - size // 2
    line = torch.exp(-0.5 * (offsets / sigma).square())
    line /= line.sum()
    return torch.outer(line, line).float()


class Compose(LinearOperator):
    """Apply operators in turn: Compose(a, b)(u) = b(a(u)), such as blur, then downsampling.

    Parameters
    ----------
    *operators
        One or more operators; the first one is applied to the image.  A function, or a module
        without an adjoint, becomes one as ``Wrapped(function, shape)``.

    Raises
    ------
    TypeError
        If one of them is no module; from ``adjoint``, if one has none.
    ValueError
        If there are no operators.

    Examples
    --------
    >>> import torch
    >>> camera = Compose(Blur(gaussian_kernel(1.0)), Downsample(2))
    >>> camera(torch.ones(1, 3, 32, 32)).shape
    torch.Size([1, 3, 16, 16])
    >>> camera.adjoint(torch.ones(1, 3, 16, 16)).shape
    torch.Size([1, 3, 32, 32])
    """

    def __init__(self, *operators: nn.Module) -> None:
        super().__init__()
        if not operators:
            raise InputError("operators must be one at least")
        for operator in operators:
            if not isinstance(operator, nn.Module):
                raise InputTypeError(f"operators must be modules, got {_unsuited(operator)}")
        self.operators = nn.ModuleList(operators)

    def forward(self, image: Tensor) -> Tensor:
        for operator in self.operators:
            image = operator(image)
        return image

    def adjoint(self, measurement: Tensor) -> Tensor:
        for operator in reversed(self.operators):
            measurement = _adjoint_of(operator)(measurement)
        return measurement

    def image_shape(self, shape: Shape) -> Shape:
        for operator in reversed(self.operators):
            if isinstance(operator, LinearOperator):
                shape = operator.image_shape(shape)
            else:  # which has an adjoint, and nothing to say of shapes
                shape = tuple(_adjoint_of(operator)(torch.zeros(shape)).shape)
        return shape


def _adjoint_of(operator: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the adjoint of a part of a composition."""
    adjoint: Callable[[Tensor], Tensor] | None = getattr(operator, "adjoint", None)
    if adjoint is None:
        raise InputTypeError(f"operators must have an adjoint each, got {_unsuited(operator)}")
    return adjoint


def _unsuited(operator: object) -> str:
    """Name what cannot be a part of a composition, and say what makes a part of it."""
    name = getattr(operator, "__name__", type(operator).__name__)
    return (
        f"{name}; Wrapped makes one of a function or module: Wrapped({name}), or "
        f"Wrapped({name}, (C, H, W)) with the shape of its images where it changes that"
    )


class Wrapped(LinearOperator):
    """Make a forward model of a differentiable function from images to measurements.

    The function need not be linear: then :meth:`adjoint` is that of its derivative at 0.  The
    loop uses only the shape of the adjoint.

    Parameters
    ----------
    function
        Maps images of shape (N, C, H, W) to measurements of four dimensions; differentiable.
    shape
        Shape (C, H, W) of the images; None where it is that of the measurements.
    adjoint
        The adjoint of the function; None derives it by back-propagation.

    Examples
    --------
    >>> import torch
    >>> Wrapped(lambda u: u.mean(1, keepdim=True), (3, 8, 8)).adjoint(torch.ones(1, 1, 8, 8)).shape
    torch.Size([1, 3, 8, 8])
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        shape: Shape | None = None,
        adjoint: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.function = function
        self.shape = None if shape is None else tuple(shape)
        self._adjoint = adjoint

    def forward(self, image: Tensor) -> Tensor:
        try:
            return self.function(image)
        except (RuntimeError, TypeError, ValueError) as error:
            # Negative steps are what NumPy flips with.
            said = str(error).lower()
            if "numpy" not in said and "step must be greater than zero" not in said:
                raise
            raise InputError(
                f"operators get torch tensors, here of shape {tuple(image.shape)}, which functions "
                "of NumPy do not take, and negative steps neither; torch has functions of its own, "
                f"such as torch.flip and torch.roll ({error})"
            ) from error

    def image_shape(self, shape: Shape) -> Shape:
        return shape if self.shape is None else (shape[0], *self.shape)

    def adjoint(self, measurement: Tensor) -> Tensor:
        return super().adjoint(measurement) if self._adjoint is None else self._adjoint(measurement)


def as_operator(operator: Any, shape: Shape | None = None) -> LinearOperator:
    """Return a forward model for any kind of operator, a copy whose parameters are not fitted.

    Parameters
    ----------
    operator
        An operator of this module; an object with ``A`` and ``A_adjoint`` (the physics of
        deepinv); a module with ``forward`` and ``adjoint``; or any differentiable function.
    shape
        Shape (C, H, W) of the images; None where the operator has an adjoint, or where it is that
        of the measurements.

    Returns
    -------
    LinearOperator
        The copy, or a :class:`Wrapped` around it.

    Raises
    ------
    TypeError
        If the operator cannot be called, or is one of vectors, as those of SciPy are.
    ValueError
        If the operator cannot be copied, because it holds tensors that were computed with
        gradients.

    Examples
    --------
    >>> import torch
    >>> as_operator(torch.nn.AvgPool2d(2), (1, 8, 8)).adjoint(torch.ones(1, 1, 4, 4)).shape
    torch.Size([1, 1, 8, 8])
    """
    # Those of SciPy and PyLops can be called, and have an adjoint that is another operator.
    of_vectors = hasattr(operator, "matvec") and not isinstance(operator, nn.Module)
    if of_vectors or not callable(operator):
        way_out = (
            ", which maps vectors of NumPy; write it as a function of tensors (N, C, H, W), whose "
            "adjoint follows by itself"
        )
        raise InputTypeError(
            "operator must be a torch module, a physics of deepinv or a function, "
            f"got {type(operator).__name__}" + (way_out if of_vectors else "")
        )
    try:
        operator = copy.deepcopy(operator)
    except RuntimeError as error:  # torch copies no tensor that is part of a gradient graph
        raise InputError(f"operator cannot be copied; detach() its tensors: {error}") from error
    if isinstance(operator, nn.Module):
        operator.requires_grad_(False)
    if isinstance(operator, LinearOperator):
        known_one: LinearOperator = taken_as_it_is(operator)
        return known_one
    if hasattr(operator, "A") and hasattr(operator, "A_adjoint"):
        wrapped = Wrapped(operator.A, shape, operator.A_adjoint)
    else:
        wrapped = Wrapped(operator, shape, getattr(operator, "adjoint", None))
    # As an attribute, a module is registered, so that it moves between devices with the wrapper.
    wrapped.whole = operator
    return wrapped


def taken_as_it_is(operator: Any) -> Any:
    """Return an operator that is not taken for one of this module if it computes another thing.

    What is known of an identity, a mask, a blur, ... is used to compute faster, to cut into tiles
    and to choose a method.  It does not hold for a class that is derived from one of these and has
    a ``forward`` or ``adjoint`` of its own.

    Parameters
    ----------
    operator
        The forward model.

    Returns
    -------
    Operator
        The operator itself, or a :class:`Wrapped` around one of such a class, followed by its mask
        if it has one; of a :class:`Compose`, one with such parts wrapped.

    Examples
    --------
    >>> class Half(Identity):
    ...     def forward(self, image):
    ...         return image / 2
    >>> [isinstance(taken_as_it_is(operator), Identity) for operator in (Identity(), Half())]
    [True, False]
    """
    kind = next((known for known in _KINDS if isinstance(operator, known)), None)
    if kind is None:
        return operator
    if any(_has_own(operator, kind, name) for name in ("forward", "adjoint", "__call__")):
        wrapped = Wrapped(operator, adjoint=operator.adjoint)
        known = known_mask(operator)
        return wrapped if known is None else Compose(wrapped, Mask(known))
    if isinstance(operator, Compose):
        parts = [taken_as_it_is(part) for part in operator.operators]
        if any(part is not given for part, given in zip(parts, operator.operators)):
            return Compose(*parts)
    return operator


def _has_own(operator: nn.Module, kind: type[nn.Module], name: str) -> bool:
    """Return whether an operator has another method than the class that it is derived from."""
    own = name in vars(operator)
    return own or getattr(type(operator), name) is not getattr(kind, name)


# Of what these are, more is known than of any linear operator.
_KINDS = (Identity, Mask, Downsample, Blur, Compose)


def on_device(operator: _T, device: torch.device) -> _T:
    """Return an operator whose weights and buffers are on a device.

    Parameters
    ----------
    operator
        The forward model.
    device
        The device.  Where it has no float64 (MPS), floating-point weights become float32.

    Returns
    -------
    Operator
        The operator itself if all of them are there, or if it has none; else a copy.

    Examples
    --------
    >>> blur = Blur(gaussian_kernel(1.0))
    >>> on_device(blur, torch.device("cpu")) is blur
    True
    """
    if not isinstance(operator, nn.Module):
        return operator
    tensors = [*operator.parameters(), *operator.buffers()]
    if all(
        x.device.type == device.type and device.index in (None, x.device.index) for x in tensors
    ):
        return operator
    copied = copy.deepcopy(operator)
    return (copied.float() if device.type == "mps" else copied).to(device)


def known_mask(operator: Operator) -> Tensor | None:
    """Return the mask of the elements that an operator leaves measured.

    Parameters
    ----------
    operator
        The forward model.

    Returns
    -------
    Tensor or None
        The mask of a :class:`Mask`, or of a :class:`Compose` that ends with one: boolean, of a
        shape that broadcasts to that of the measurement.  None if all elements were measured.
    """
    while isinstance(operator, Compose):
        operator = operator.operators[-1]  # type: ignore[assignment]
    return operator.known if isinstance(operator, Mask) else None
