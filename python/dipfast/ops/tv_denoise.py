"""Denoise images by total variation."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypedDict, overload

import numpy as np

from dipfast import _native
from dipfast.arrays import is_tensor
from dipfast.checks import check_choice
from dipfast.errors import InputError, InputTypeError
from dipfast.ops import _arguments
from dipfast.ops._arguments import Axes, Backend
from dipfast.ops.noise_level import estimate_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from typing_extensions import Unpack

    from dipfast.ops._arguments import Floats

__all__ = ["tv_denoise"]

# The weight with the best PSNR, over the standard deviation of the noise; and the power of the
# number of joint channels by which it grows, 1.2 for three.  See the notes.
_WEIGHT_PER_SIGMA = {"isotropic": 0.8, "anisotropic": 0.6}
_CHANNELS_POWER = 0.37

# Iterations between two looks at the gap: at first, at least, at most; and the most iterations
# times elements, so that Ctrl-C does not have to wait long.
_FIRST, _FEWEST, _MOST, _MOST_WORK = 16, 8, 64, 1 << 29


class _Options(TypedDict, total=False):
    """Type the options that do not change what is returned."""

    tol: float
    max_num_iter: int
    channel_axis: int | None
    joint_channels: bool
    kind: Literal["isotropic", "anisotropic"]
    spatial_dims: Literal[2, 3]
    sigma: float | Literal["auto"]
    callback: Callable[[int, float], object] | None
    backend: Backend


@overload
def tv_denoise(
    image: NDArray[Any],
    weight: float | None = None,
    *,
    init: NDArray[Any] | None = None,
    return_dual: Literal[False] = False,
    return_gap: Literal[False] = False,
    **options: Unpack[_Options],
) -> Floats: ...


@overload
def tv_denoise(
    image: NDArray[Any],
    weight: float | None = None,
    *,
    init: NDArray[Any] | None = None,
    return_dual: Literal[False] = False,
    return_gap: Literal[True],
    **options: Unpack[_Options],
) -> tuple[Floats, float]: ...


@overload
def tv_denoise(
    image: NDArray[Any],
    weight: float | None = None,
    *,
    init: NDArray[Any] | None = None,
    return_dual: Literal[True],
    return_gap: Literal[False] = False,
    **options: Unpack[_Options],
) -> tuple[Floats, Floats]: ...


@overload
def tv_denoise(
    image: NDArray[Any],
    weight: float | None = None,
    *,
    init: NDArray[Any] | None = None,
    return_dual: Literal[True],
    return_gap: Literal[True],
    **options: Unpack[_Options],
) -> tuple[Floats, Floats, float]: ...


@overload
def tv_denoise(
    image: Tensor,
    weight: float | None = None,
    *,
    init: Tensor | None = None,
    return_dual: Literal[False] = False,
    return_gap: Literal[False] = False,
    **options: Unpack[_Options],
) -> Tensor: ...


@overload
def tv_denoise(
    image: Tensor,
    weight: float | None = None,
    *,
    init: Tensor | None = None,
    return_dual: Literal[False] = False,
    return_gap: Literal[True],
    **options: Unpack[_Options],
) -> tuple[Tensor, float]: ...


@overload
def tv_denoise(
    image: Tensor,
    weight: float | None = None,
    *,
    init: Tensor | None = None,
    return_dual: Literal[True],
    return_gap: Literal[False] = False,
    **options: Unpack[_Options],
) -> tuple[Tensor, Tensor]: ...


@overload
def tv_denoise(
    image: Tensor,
    weight: float | None = None,
    *,
    init: Tensor | None = None,
    return_dual: Literal[True],
    return_gap: Literal[True],
    **options: Unpack[_Options],
) -> tuple[Tensor, Tensor, float]: ...


def tv_denoise(
    image: Any,
    weight: float | None = None,
    *,
    tol: float = 1e-4,
    max_num_iter: int = 1000,
    channel_axis: int | None = None,
    joint_channels: bool = False,
    kind: Literal["isotropic", "anisotropic"] = "isotropic",
    spatial_dims: Literal[2, 3] = 2,
    sigma: float | Literal["auto"] = "auto",
    init: Any = None,
    return_dual: bool = False,
    return_gap: bool = False,
    callback: Callable[[int, float], object] | None = None,
    backend: Backend = "auto",
) -> object:
    r"""Denoise images by total variation [1]_, solved to a known accuracy.

    .. math:: \hat u = \arg\min_u \; P(u), \quad P(u) = \tfrac12 \| u - f \|^2 + \lambda \, TV(u)

    for the image f, with sums over all elements and TV as in
    :func:`dipfast.ops.total_variation` with epsilon = 0.  There is exactly one minimum.

    Parameters
    ----------
    image
        f, array or tensor of shape ``(..., H, W)``, or ``(..., D, H, W)`` for volumes, or with
        its channels elsewhere (see ``channel_axis``).  All axes but those of the pixels
        (channels, batch) are many images, each denoised as if it were alone, to the same bits.
        float32 and float64 as they are, half precision in float32, integers in float64.
    weight
        lambda, in the unit of the image; larger is smoother.  0 returns a copy.  None, the
        default, chooses it by the noise, see ``sigma``; there is one weight for all.
    tol
        Stop when the relative gap, which bounds the error (see the notes), is not above
        this.  1e-4, the default, is far below what can be seen.
    max_num_iter
        Stop after so many iterations even if the tolerance is not reached; 50 to 200 are
        usual.
    channel_axis
        The axis of the channels; None recognises up to four in the last axis.  See
        :mod:`dipfast.ops`.
    joint_channels
        One norm over the differences of all channels of a pixel (isotropic only; the channels
        must be recognised or named): their edges then come to lie at the same place [3]_.
        False, the default, denoises each channel for itself.
    kind
        ``"isotropic"`` (the default, as in [1]_) or ``"anisotropic"``.
    spatial_dims
        2: differences along the last two axes; 3: along the last three (besides that of the
        channels).
    sigma
        Standard deviation of the noise, in the unit of the image, of which the weight is
        made if none is given (see the notes).  ``"auto"``: :func:`dipfast.ops.estimate_noise`,
        of all channels and images together, whose noise is taken to be the same.
    init
        The dual variable of a former solution (``return_dual``), of this or a similar image
        or with another weight, to start from: fewer iterations, the same solution.  None
        starts from the image.
    return_dual
        Also return the dual variable.
    return_gap
        Also return the relative gap that was reached, the largest if there are many images.
    callback
        Called as ``callback(iteration, gap)`` at every look at the gap, of one image after the
        other (each of which begins with a small iteration again).  If it returns True or raises
        StopIteration, the iteration of that image ends there; other exceptions pass through.
    backend
        See :mod:`dipfast.ops`; there is no Triton kernel.

    Returns
    -------
    u : array or tensor
        Shape of the image.  No gradients flow.
    dual : array or tensor
        Only with ``return_dual``: p of shape ``(spatial_dims, *image.shape)``, a vector for
        each pixel, not longer than the weight, such that the adjoint of the differences
        applied to p is what was removed, f - u, as the gap goes to 0.
    gap : float
        Only with ``return_gap``.

    Raises
    ------
    TypeError
        If the image is not an array or tensor of real numbers, or both are mixed.
    ValueError
        If image or init hold NaN or infinity or are on different devices, shapes do not fit or do
        not tell where the channels are, the noise of so small an image cannot be estimated, or
        weight, sigma, tol, max_num_iter, channel_axis, joint_channels, kind, spatial_dims or
        backend cannot be.

    Notes
    -----
    Method: the accelerated primal-dual algorithm [2]_ (algorithm 2, with the step sizes of
    [4]_; the gap tells in any case how far it came).  It gives a dual variable p beside u,
    and with it a lower bound D(p) of the minimum.  The relative gap is

    .. math::
        \frac{P(u) - D(p)}{\min(\lambda \, TV(f), \tfrac12 \| f - \bar f \|^2)}

    where the denominator is the objective of the better of two trivial images, f itself and
    its mean (of each channel, if they are joint).  It does not change when image and weight are
    multiplied, or a constant is added.
    As P is strongly convex, 1/2 \|u - û\|^2 is not larger than the numerator.  In single
    precision gaps below about 1e-7 may be out of reach.  Weights of more than the range of f
    times the root of H^2 + W^2, whose solution is the mean, act as that one.

    The weight that is chosen by the noise is 0.8 sigma (isotropic; times the number of joint
    channels to the power of 0.37, so 1.2 sigma for three) or 0.6 sigma (anisotropic).  Mean
    PSNR in dB of three photographs at sigma = 5, 15, 25 and 50 of 255, by
    ``python -m benches.quality.tv_weight``, with the weight c sigma, and with the best of these
    weights for each picture and noise; fourteen more photographs gave the same c.

    =============== ===== ===== ===== ===== ===== ===== ===== =====
    c                 0.5   0.6   0.7   0.8   0.9   1.0   1.2  best
    =============== ===== ===== ===== ===== ===== ===== ===== =====
    isotropic       29.36 29.99 30.29 30.33 30.18 29.94 29.37 30.54
    joint, 3 of RGB 27.74 28.61 29.40 30.09 30.65 31.02 31.26 31.34
    anisotropic     29.96 30.19 30.11 29.87 29.55 29.21 28.55 30.42
    =============== ===== ===== ===== ===== ===== ===== ===== =====

    (The joint channels on the two of the three pictures that have colours.)

    References
    ----------
    .. [1] Rudin, Osher, Fatemi, "Nonlinear total variation based noise removal
       algorithms", Physica D 60, 1992.
    .. [2] Chambolle, Pock, "A first-order primal-dual algorithm for convex problems with
       applications to imaging", JMIV 40, 2011.
    .. [3] Bresson, Chan, "Fast dual minimization of the vectorial total variation norm and
       applications to color image processing", Inverse Problems and Imaging 2(4), 2008.
    .. [4] Banert, Upadhyaya, Giselsson, "The Chambolle-Pock method converges weakly with
       theta > 1/2 and tau sigma ||L||^2 < 4 / (1 + 2 theta)", 2023; for constant step sizes.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> image = np.array([[0.0, 0.0, 8.0, 8.0]])
    >>> u, gap = dipfast.ops.tv_denoise(image, 1.0, tol=1e-9, return_gap=True)
    >>> u.round(3)
    array([[0.5, 0.5, 7.5, 7.5]])
    >>> gap <= 1e-9
    True
    """
    rule = _check_rule(tol, max_num_iter, callback)
    check_choice("kind", kind, ("isotropic", "anisotropic"))
    _arguments.check_spatial_dims(spatial_dims)
    _arguments.check_backend(backend)
    f = _finite("image", image)
    axes = Axes.of("image", f, channel_axis, spatial_dims)
    if init is not None:
        if is_tensor(init) != is_tensor(f):
            raise InputTypeError("image and init must be both arrays or both tensors")
        _arguments.check_same_device(image=f, init=init)
        init = _finite("init", init)
        expected = (spatial_dims, *f.shape)
        _arguments.check_same_shape("init", init.shape, "the dual of the image", expected)
        init = axes.to_front(init)
    f = axes.to_front(f)
    if joint_channels:
        _check_joint(kind, channel_axis is not None or axes.channels != axes.front)
    form = _Form(kind, spatial_dims, joint_channels)
    weight = _weight(weight, sigma, form, f)
    if weight == 0 or 0 in f.shape:
        u, dual, gap = _copy(f), _zeros(spatial_dims, f) if return_dual else None, 0.0
    else:
        u, dual, gap = _solve(f, weight, form, init, rule, backend, return_dual)
    results = [axes.back(u)]
    if return_dual:
        results.append(axes.back(dual))
    if return_gap:
        results.append(gap)
    return results[0] if len(results) == 1 else tuple(results)


class _Form(NamedTuple):
    """Say which problem is solved, for images with their channels in front of the pixels."""

    kind: str
    spatial_dims: int
    joint: bool

    @property
    def axes(self) -> int:
        """Return how many of the last axes are solved together."""
        return self.spatial_dims + self.joint

    def channels(self, f: Any) -> int:
        """Return how many channels share their norm."""
        return int(f.shape[-self.axes]) if self.joint else 1


class _Rule(NamedTuple):
    """Say when to stop."""

    tol: float
    max_num_iter: int
    callback: Callable[[int, float], object] | None

    def says_stop(self, done: int, gap: float) -> bool:
        """Return whether to stop after so many iterations at this gap; call the callback."""
        if done and self.callback is not None:
            try:
                if self.callback(done, gap):
                    return True
            except StopIteration:
                return True
        return gap <= self.tol or done >= self.max_num_iter


def _check_rule(tol: float, max_num_iter: int, callback: Any) -> _Rule:
    """Return the rule that the arguments of :func:`tv_denoise` name."""
    if callback is not None and not callable(callback):
        raise InputTypeError(f"callback must be callable, got {type(callback).__name__}")
    try:
        count = operator.index(max_num_iter)
    except TypeError:
        raise InputTypeError(f"max_num_iter must be an integer, got {max_num_iter!r}") from None
    if count < 0:
        raise InputError(f"max_num_iter must not be negative, got {max_num_iter!r}")
    return _Rule(_arguments.check_weight("tol", tol), count, callback)


def _finite(name: str, x: Any) -> Any:
    """Return an array or tensor of floats; refuse what is not finite."""
    if is_tensor(x):
        x = _arguments.as_float_tensor(name, x).detach()
        finite = bool(x.isfinite().all())
    else:
        x = _arguments.as_floats(name, x)
        finite = bool(np.isfinite(x).all())
    if not finite:
        raise InputError(
            f"{name} must be finite, got NaN or infinity"
            + ("; dipfast.inpaint fills missing pixels" if name == "image" else "")
        )
    return x


def _check_joint(kind: str, has_channels: bool) -> None:
    """Refuse joint channels where there are none, or no norm that they could share."""
    if kind != "isotropic":
        raise InputError(f"joint_channels is for kind='isotropic', got kind={kind!r}")
    if not has_channels:
        raise InputError("joint_channels needs channel_axis, got None")


def _weight(weight: float | None, sigma: float | str, form: _Form, f: Any) -> float:
    """Return the weight that is given, or that the noise suggests."""
    if weight is not None:
        return _arguments.check_weight("weight", weight)
    if not isinstance(sigma, str):
        deviation = _arguments.check_weight("sigma", sigma)
    elif sigma != "auto":
        raise InputError(f"sigma must be 'auto' or a number, got {sigma!r}")
    elif 0 in f.shape:
        return 0.0
    else:
        try:
            deviation = estimate_noise(f.reshape(-1, *f.shape[-2:]), channel_axis=0)
        except ValueError as error:
            raise InputError(f"give sigma or weight: {error}") from None
    return float(_WEIGHT_PER_SIGMA[form.kind] * form.channels(f) ** _CHANNELS_POWER * deviation)


def _copy(f: Any) -> Any:
    """Return a copy of an array or tensor."""
    return f.clone() if is_tensor(f) else f.copy()


def _zeros(spatial_dims: int, f: Any) -> Any:
    """Return a dual variable of zeros."""
    shape = (spatial_dims, *f.shape)
    return f.new_zeros(shape) if is_tensor(f) else np.zeros(shape, f.dtype)


def _solve(
    f: Any,
    weight: float,
    form: _Form,
    init: Any,
    rule: _Rule,
    backend: str,
    return_dual: bool,
) -> tuple[Any, Any, float]:
    """Return image, dual variable (None unless it is asked for) and gap."""
    if form.spatial_dims == 3 and f.shape[-3] == 1:
        # An image: there are no differences along the first axis.
        flat_init = None if init is None else init[1:, ..., 0, :, :]
        flat, form = f[..., 0, :, :], form._replace(spatial_dims=2)
        u, p, gap = _solve(flat, weight, form, flat_init, rule, backend, return_dual)
        dual = None
        if return_dual:
            dual = _zeros(3, f)
            dual[1:, ..., 0, :, :] = p
        return u[..., None, :, :], dual, gap
    plain = backend == "torch" or (backend == "auto" and is_tensor(f) and f.device.type != "cpu")
    given = f
    if is_tensor(f) and not plain:
        given, init = (None if x is None else x.cpu().resolve_neg().numpy() for x in (f, init))
    elif plain and not is_tensor(f):
        import torch

        given, init = (None if x is None else torch.from_numpy(x.copy()) for x in (f, init))
    solve = _solve_together if plain else _solve_in_turn
    u, dual, gap = solve(given, weight, form, init, rule, return_dual)
    return _like(u, f), _like(dual, f), gap


def _like(x: Any, f: Any) -> Any:
    """Return an array or tensor as an array or tensor, on the device of f."""
    if x is not None and is_tensor(f) and not is_tensor(x):
        import torch

        return torch.from_numpy(x).to(f.device)
    return x if x is None or is_tensor(f) or not is_tensor(x) else x.numpy()


def _solve_in_turn(
    f: Any, weight: float, form: _Form, init: Any, rule: _Rule, return_dual: bool
) -> tuple[Any, Any, float]:
    """Solve arrays (..., H, W) by the kernel, one image after the other."""
    u = np.empty_like(f)
    dual = np.empty((form.spatial_dims, *f.shape), f.dtype) if return_dual else None
    worst = 0.0
    for index in np.ndindex(f.shape[: -form.axes]):
        image = np.ascontiguousarray(f[index])
        of_all_axes = (slice(None), *index)
        start = None
        if init is not None:
            start = np.ascontiguousarray(init[of_all_axes], f.dtype)
        denoiser = _NativeDenoiser(image, weight, form, start)
        for _, place, gap in _iterate(denoiser, 1, image.size, rule):
            denoiser.write(place, u[index], None if dual is None else dual[of_all_axes])
            worst = max(worst, gap)
    return u, dual, worst


def _solve_together(
    f: Any, weight: float, form: _Form, init: Any, rule: _Rule, return_dual: bool
) -> tuple[Any, Any, float]:
    """Solve tensors (..., H, W) by torch, all images side by side until each is done."""
    import torch

    from dipfast.ops._reference import TvDenoiser

    sizes, channels = f.shape[-form.spatial_dims :], form.channels(f)
    images = f.reshape(-1, channels, *sizes)
    starts = None if init is None else init.reshape(len(init), *images.shape).to(f)
    ends = zip(images.flatten(1).amin(1).tolist(), images.flatten(1).amax(1).tolist())
    weights = [_bounded(weight, high - low, sizes, channels) for low, high in ends]
    u = torch.empty_like(images)
    dual = images.new_empty((form.spatial_dims, *images.shape)) if return_dual else None
    worst = 0.0
    # With a callback the images are solved one after the other, as it expects.
    step = len(images) if rule.callback is None else 1
    for begin in range(0, len(images), step):
        part = slice(begin, begin + step)
        denoiser = TvDenoiser(
            images[part],
            weights[part],
            form.kind,
            None if starts is None else starts[:, part],
        )
        size = images[0].numel()
        for number, place, gap in _iterate(denoiser, len(weights[part]), size, rule):
            number += begin
            denoiser.write(place, u[number], None if dual is None else dual[:, number])
            worst = max(worst, gap)
    dual = None if dual is None else dual.reshape(len(dual), *f.shape)
    return u.reshape(f.shape), dual, worst


def _bounded(weight: float, width: float, sizes: Any, channels: int) -> float:
    """Return the weight, or a smaller one with the same solution, with which nothing overflows.

    That solution is the mean.  f minus its mean is the adjoint of running sums, along the rows
    and then of their means, none of which is larger than a quarter of its length times the range
    of f: weights above that leave nothing else.  A flat image is its mean with any weight.
    """
    most = width * math.sqrt(channels * sum(n * n for n in sizes if n > 1))
    return min(weight, most or 1.0)


class _Denoiser(Protocol):
    """Iterate problems side by side, which have places from 0 on."""

    def advance(self, iterations: int) -> None: ...
    def gaps(self) -> list[float]: ...
    def keep(self, places: list[int]) -> None: ...
    def write(self, place: int, u: Any, dual: Any) -> None: ...


class _NativeDenoiser:
    """Iterate one problem: an array (H, W) or (D, H, W), or with joint channels in front."""

    def __init__(self, f: Any, weight: float, form: _Form, init: Any) -> None:
        channels, width = form.channels(f), float(f.max()) - float(f.min())
        self._denoiser = _native.TvDenoiser(
            f,
            _bounded(weight, width, f.shape[-form.spatial_dims :], channels),
            kind=form.kind,
            spatial_dims=form.spatial_dims,
            channels=channels,
            dual=init,
        )
        self.advance = self._denoiser.advance

    def gaps(self) -> list[float]:
        """Return the gap of the problem."""
        return [self._denoiser.gap()]

    def keep(self, places: list[int]) -> None:
        """Drop nothing, because there is only one problem."""

    def write(self, place: int, u: Any, dual: Any) -> None:
        """Copy out the image and the dual variable, where an array for it is given."""
        for out, fill in ((u, self._denoiser.image), (dual, self._denoiser.dual)):
            if out is not None:
                whole = out if out.flags.c_contiguous else np.empty(out.shape, out.dtype)
                fill(whole)
                if whole is not out:
                    out[...] = whole


def _iterate(
    denoiser: _Denoiser, count: int, size: int, rule: _Rule
) -> Iterator[tuple[int, int, float]]:
    """Iterate ``count`` problems of this size, each until the rule says stop.

    Yields the number of a problem that is done, its place in the denoiser, where it stays until
    the next one is asked for, and its gap.  The result of a problem does not depend on the others.
    """
    done, problems, due = 0, list(range(count)), [0] * count
    while problems:
        denoiser.advance(min(due) - done)
        done = min(due)
        over = set()
        for place, gap in enumerate(denoiser.gaps()):
            if due[place] > done:
                continue
            if math.isnan(gap):
                raise InputError(
                    "image must have a finite sum, got values whose sum overflows: "
                    "divide it by a number first"
                )
            if rule.says_stop(done, gap):
                yield problems[place], place, gap
                over.add(place)
            else:
                wait = _until_next_look(done, gap, rule.tol, size)
                due[place] = min(done + wait, rule.max_num_iter)
        if over:
            left = [place for place in range(len(problems)) if place not in over]
            problems, due = [problems[k] for k in left], [due[k] for k in left]
            denoiser.keep(left)


def _until_next_look(done: int, gap: float, tol: float, size: int) -> int:
    """Return the number of iterations until the gap may be small enough.

    The gap falls about with the third power of that number.
    """
    count = _FIRST
    if done:
        needed = done * np.cbrt(gap / tol) if tol else math.inf
        count = math.ceil(min(max(needed - done, _FEWEST), _MOST) / _FEWEST) * _FEWEST
    return max(min(count, _MOST_WORK // size), 1)
