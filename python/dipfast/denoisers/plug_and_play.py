"""Restore an image by a denoiser and a forward model in turn, without a network."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from dipfast import ops
from dipfast.errors import InputError
from dipfast.model.operators import Operator
from dipfast.settings.names import Quality
from dipfast.settings.noise import NoiseParameters

__all__ = [
    "STEPS",
    "check_operator",
    "error_of_filled",
    "filled",
    "least_squares",
    "plug_and_play",
]

STEPS: dict[Quality, int] = {"fast": 24, "balanced": 48, "best": 96}
"""Steps of each quality.

On four grey pictures with half of the pixels missing twice the steps gained 0.3 dB, and twice those
0.1; on four that were enlarged four times the same.  A slower denoiser gained 0.3 dB on the first,
in 2.5 times the time, and lost 0.1 on the second.
"""

# Standard deviations that the denoiser is told, at the first step and at the last, in units of a
# picture in [0, 1]; the last is at least that of the noise.
_FIRST_LEVEL, _LAST_LEVEL = 0.2, 0.01
# Steps of the method of conjugate gradients, of which each starts where the last one ended; of a
# mask two are exact.
_INNER_STEPS = 10
# The share of a step that denoising is, for progress.
_DENOISING = 0.9
# The variance of the noise is taken to be at least this share of the squared level of the denoiser.
_LEAST_RATIO = 1e-4
# The weight of the constant image that the least squares are drawn to, of which the result does not
# depend.
_START_RATIO = 1e-2
# An operator is taken to be linear, and its adjoint to be its adjoint, up to such relative errors.
_SAME_SUM, _SAME_PRODUCT = 1e-3, 1e-2
# Steps of conjugate gradients for what is filled in, of each size; more made no picture better.
_PLATE_STEPS = 25
# The share of the known pixels that is held out to see how much the start errs, and how many pixels
# tell that.
_HELD_OUT, _LEAST_HELD_OUT = 0.125, 16
# The first level by that error, where it is known, and the most that it is then; and both where
# what is known is in a pattern that repeats itself.  At random places more is better by up to 0.8
# dB, but pixels of a pattern stay dots then, which the denoiser takes for texture: by up to 2.5 dB.
_FIRST_BY_ERROR, _FIRST_OF_PATTERN = (6.0, 0.12), (1.33, 0.08)
# A pattern repeats itself if a frequency is as strong as this share of the mean.
_REPEATS = 0.5
# The last level by the error, and the least one, of noise that 8 bits are.
_LAST_BY_ERROR, _LEAST_LEVEL = 1 / 3, 1e-3


def plug_and_play(
    measurement: Tensor,
    operator: Operator,
    noise: NoiseParameters,
    start: Tensor,
    *,
    known: Tensor | None = None,
    error: float | None = None,
    steps: int = 24,
    speed: Quality = "fast",
    callback: Callable[[float, Tensor | None], object] | None = None,
) -> Tensor:
    r"""Restore one image by half-quadratic splitting with non-local ridge regression [1]_.

    .. math:: u_{k+1} = \arg\min_u \frac{\|A u - y\|^2}{\sigma^2} + \frac{\|u - v_k\|^2}{s_k^2},
       \qquad v_k = \operatorname{denoise}(u_k, s_k)

    with levels s that fall from 0.2 to 0.01 in equal ratios, or from and to less where it is known
    how little the start errs.  A and y are divided by the response of A to a white image first.
    Where the noise of the channels is unlike, and A does not mix them, each has a sigma, and
    levels, of its own.

    Parameters
    ----------
    measurement
        The measurement y, (1, C, H, W), in [0, 1].
    operator
        The forward model A.
    noise
        The noise of the measurement; its typical variance is used, and the last level is not below
        it.
    start
        The image to start from, (1, C, H, W), in [0, 1].
    known
        Which elements of y were measured, boolean; None for all.
    error
        About how much the start errs where nothing was measured, root mean square; None, the
        default, where that is not known.
    steps
        How many times to do both, from 1 up; 24 by default, those of the least quality of
        :data:`STEPS`.
    speed
        That of :func:`dipfast.ops.nl_ridge`.
    callback
        Called with the share that is done, from 0 to 1, a few times a second, and after each step,
        when it is also given what would be returned if this was the last one; otherwise None.
        Exceptions that it raises pass through.

    Returns
    -------
    Tensor
        The restored image, in [0, 1], of the shape of ``start``.

    References
    ----------
    .. [1] Zhang et al., "Plug-and-play image restoration with deep
       denoiser prior", IEEE TPAMI 44(10), 2022, with another denoiser.
    """
    # In the unit of the image, whatever that of the measurement is.
    scale = _gain(operator, start, known)
    sigma = 0.0 if noise.is_free else math.sqrt(noise.typical_variance) / scale
    sigmas = sigma * _channel_levels(noise, operator, start)
    strongest, weakest = _FIRST_LEVEL, _LAST_LEVEL
    if error is not None and known is not None:
        factor, most = (
            _FIRST_OF_PATTERN if _repeats(known.expand_as(measurement)) else _FIRST_BY_ERROR
        )
        if sigma < most:
            weakest = min(weakest, max(_LAST_BY_ERROR * error, _LEAST_LEVEL))
            strongest = min(most, max(factor * error, 2 * weakest))
    last = sigmas.clamp_min(weakest)
    first = last.clamp_min(strongest) if strongest < _FIRST_LEVEL else strongest
    # With noise the denoiser has the last word: the data are as noisy as they were.
    ends_denoised = sigmas > weakest

    normal_of_operator = _normal(operator, known)

    def denoising(share: float) -> None:
        if callback is not None:
            callback((k + _DENOISING * share) / steps, None)

    def solving(share: float) -> None:
        denoising(1 + (1 / _DENOISING - 1) * share)

    constant = operator.adjoint(_where_known(measurement, known)).detach() / scale**2
    result = u = start
    for k in range(steps):
        level = first * (last / first) ** (k / max(steps - 1, 1))
        told = level[0] if level.min() < level.max() else float(level[0, 0])
        v = ops.nl_ridge(u[0], told, channel_axis=0, speed=speed, callback=denoising)[None].to(u)
        ratio = (sigmas**2 / level**2).clamp_min(_LEAST_RATIO).to(u)

        def normal(x: Tensor, ratio: Tensor = ratio) -> Tensor:
            return normal_of_operator(x) / scale**2 + ratio * x

        u = _solve(normal, constant + ratio * v, v, solving).clamp(0, 1).detach()
        result = torch.where(ends_denoised.to(u.device), v.clamp(0, 1), u)
        if callback is not None:
            callback((k + 1) / steps, result)
    return result


def _repeats(known: Tensor) -> bool:
    """Return whether known pixels are in a pattern that repeats itself, such as a grid."""
    sizes = torch.fft.rfft2(known.float()).abs()
    means = sizes[..., 0, 0].clone()
    sizes[..., 0, 0] = 0
    return bool((sizes.amax((-2, -1)) > _REPEATS * means).any())


def _channel_levels(noise: NoiseParameters, operator: Operator, image: Tensor) -> Tensor:
    """Return how strong the noise of each channel is, (1, C, 1, 1), float64; 1 for the usual.

    The channels of the measurement have to be those of the image.
    """
    usual = torch.ones(1, image.shape[1], 1, 1, dtype=torch.float64)
    levels = noise.channel_levels
    if levels is None or len(levels) != image.shape[1]:
        return usual
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(image.shape, generator=generator, dtype=image.dtype).to(image.device)
    for channel in range(len(levels)):
        alone = torch.zeros_like(rough)
        alone[:, channel] = rough[:, channel]
        squares = operator(alone).detach().double().square().sum(dim=(0, 2, 3))
        if len(squares) != len(levels) or not squares.sum() <= (1 + _SAME_SUM) * squares[channel]:
            return usual
    return torch.tensor(levels, dtype=torch.float64).reshape(usual.shape)


def _solve(
    normal: Callable[[Tensor], Tensor],
    target: Tensor,
    start: Tensor,
    callback: Callable[[float], object] = lambda share: None,
    steps: int = _INNER_STEPS,
) -> Tensor:
    """Return the solution of a positive system, by conjugate gradients.

    The callback is called with the share that is done, less than 1.
    """
    x = start
    residual = target - normal(x)
    direction = residual
    square = residual.square().sum()
    least = 1e-10 * float(target.square().sum())
    for k in range(steps):
        if float(square) <= least:
            break
        callback(k / steps)
        image = normal(direction)
        step = square / (direction * image).sum()
        x = x + step * direction
        residual = residual - step * image
        old, square = square, residual.square().sum()
        direction = residual + (square / old) * direction
    return x


def check_operator(operator: Operator, image: Tensor) -> None:
    """Refuse an operator that is not linear, or whose adjoint is another one's.

    Parameters
    ----------
    operator
        The forward model A.
    image
        An image that it takes; its values do not matter.

    Raises
    ------
    InputError
        If it does not give the sum of the responses to two images, of both signs, for their sum; or
        if <A u, A u> is not <u, A' A u>.

    Examples
    --------
    >>> from dipfast.model.operators import Wrapped
    >>> check_operator(Wrapped(lambda u: u.flip(-1)), torch.zeros(1, 1, 4, 4))
    >>> check_operator(Wrapped(torch.sigmoid), torch.zeros(1, 1, 4, 4))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dipfast.errors.InputError: operator is not linear, and method='pnp' is for linear ones; ...
    """
    generator = torch.Generator().manual_seed(0)
    one, other = (
        torch.rand(image.shape, generator=generator, dtype=image.dtype).to(image.device) * scale
        for scale in (1.0, -2.0)
    )
    responses = [operator(x).detach() for x in (one, other, one + other)]
    error, size = (
        float(x.double().norm()) for x in (responses[0] + responses[1] - responses[2], responses[0])
    )
    way_out = "method='two_stage' fits a network for any"
    if not error <= _SAME_SUM * size:
        raise InputError(f"operator is not linear, and method='pnp' is for linear ones; {way_out}")
    back = operator.adjoint(responses[0]).detach()
    product = float((one.double() * back.double()).sum())
    if not abs(product - size**2) <= _SAME_PRODUCT * size**2:
        raise InputError(
            "operator has an adjoint that is not its own, which method='pnp' needs: <u, A' A u> is "
            f"{product:.6g}, and <A u, A u> {size**2:.6g}; {way_out}"
        )


def least_squares(measurement: Tensor, operator: Operator, known: Tensor | None = None) -> Tensor:
    """Return an image that explains a measurement roughly, to start from.

    Parameters
    ----------
    measurement
        The measurement y, (1, C, H, W), in [0, 1].
    operator
        The forward model A.
    known
        Which elements of y were measured, boolean; None for all.

    Returns
    -------
    Tensor
        The image with the least ``||A u - y||^2 + 0.01 g^2 ||u - c||^2``, by ten steps of
        conjugate gradients, in [0, 1]; g is the gain of A, and c the constant image that explains
        the measurement best.

    Examples
    --------
    >>> from dipfast.model.operators import Downsample
    >>> least_squares(torch.full((1, 1, 4, 4), 0.5), Downsample(2)).unique().round(decimals=4)
    tensor([0.5000])
    """
    target = operator.adjoint(_where_known(measurement, known)).detach()
    white = torch.ones_like(target)
    response = _where_known(operator(white), known).detach()
    square = float(response.square().sum())
    value = float((response * measurement).sum()) / square if square > 0 else 0.0
    constant = white * value
    ratio = _START_RATIO * _gain(operator, target, known) ** 2
    normal_of_operator = _normal(operator, known)

    def normal(x: Tensor) -> Tensor:
        return normal_of_operator(x) + ratio * x

    return _solve(normal, target + ratio * constant, constant).clamp(0, 1).detach()


def _where_known(values: Tensor, known: Tensor | None) -> Tensor:
    """Return the elements that were measured, and 0 for the others."""
    return values if known is None else values.where(known, 0)


def _normal(operator: Operator, known: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Return A' A, of the elements of A that were measured."""
    return lambda x: operator.adjoint(_where_known(operator(x), known))


def _gain(operator: Operator, image: Tensor, known: Tensor | None) -> float:
    """Return the root mean square of the response to a white image, which is 1 for most operators.

    Where that is less than a tenth of the response to noise, as of differences, it is the latter; a
    response of nothing counts as 1.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(image.shape, generator=generator, dtype=image.dtype).to(image.device)
    sizes = []
    for x in (torch.ones_like(image), noise):
        response = operator(x).detach()
        of_known = response if known is None else response[known.expand_as(response)]
        sizes.append(float(of_known.double().square().mean().sqrt()) if of_known.numel() else 0.0)
    flat, rough = sizes
    return (flat if flat > 0.1 * rough else rough) or 1.0


def filled(measurement: Tensor, known: Tensor) -> Tensor:
    """Return an image whose unknown pixels are the smoothest between the known ones.

    Parameters
    ----------
    measurement
        The image, (1, C, H, W).
    known
        Which values are known, boolean, of a shape that broadcasts.

    Returns
    -------
    Tensor
        Of the same shape.  The unknown pixels are those with the least sum of squared second
        differences (a thin plate), by some steps of conjugate gradients that start from the same of
        a picture of half the size, held within the range of the known ones.
    """
    where = known.expand_as(measurement)
    plate = _plate(measurement.where(where, 0), where)
    far = torch.full_like(measurement, math.inf)
    lowest = measurement.where(where, far).amin((-2, -1), keepdim=True)
    highest = measurement.where(where, -far).amax((-2, -1), keepdim=True)
    # A channel of which nothing is known has no limits, and stays 0.
    held = torch.where(lowest <= highest, plate.clamp(lowest, highest), 0.0)
    return torch.where(where, measurement, held)


def _plate(values: Tensor, known: Tensor) -> Tensor:
    """Return values with a thin plate between those that are known."""
    rows, columns = values.shape[-2:]
    if max(rows, columns) == 1 or bool(known.all()):
        return values
    share, mean = (
        functional.avg_pool2d(x, 2, ceil_mode=True) for x in (known.to(values.dtype), values)
    )
    coarse = _plate(mean / share.clamp_min(1e-30), share > 0)
    large = functional.interpolate(coarse, scale_factor=2, mode="bilinear")[..., :rows, :columns]
    unknown = ~known

    def bent(x: Tensor) -> Tensor:
        return _laplacian(_laplacian(x)).where(unknown, 0)

    rough = values.where(known, large)
    return rough + _solve(bent, -bent(rough), torch.zeros_like(rough), steps=_PLATE_STEPS)


def _laplacian(x: Tensor) -> Tensor:
    """Return the sums of the differences to the four neighbours, of which the border has fewer."""
    wide = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    vertical = wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1]
    return vertical + wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:] - 4 * x


def error_of_filled(measurement: Tensor, known: Tensor) -> float | None:
    """Return about how much :func:`filled` errs, by known pixels that are kept from it.

    Parameters
    ----------
    measurement
        The image, (1, C, H, W).
    known
        Which values are known, boolean, of a shape that broadcasts.

    Returns
    -------
    float or None
        The root mean square error of what is held out; None where that are too few pixels.
        Where less than half is missing, they are what the mask hides when it is moved by half of
        the size, so that they are in holes of the same forms; else, and where those are too few,
        some at random.
    """
    # Masks of whole lines may have a length of 1 along them.
    known = known.expand(*known.shape[:-2], *measurement.shape[-2:])
    generator = torch.Generator().manual_seed(0)
    at_random = torch.rand((1, 1, *known.shape[-2:]), generator=generator) < _HELD_OUT
    half = [size // 2 | 1 for size in known.shape[-2:]]
    moved = ~known.roll(half, (-2, -1))
    for chosen in (moved, at_random.to(known.device)):
        held_out = known & chosen
        kept = known & ~chosen
        if int(held_out.sum()) >= _LEAST_HELD_OUT and int(kept.sum()) > int(known.sum()) / 2:
            values = held_out.expand_as(measurement)
            errors = (filled(measurement, kept) - measurement)[values]
            return float(errors.double().square().mean().sqrt())
    return None
