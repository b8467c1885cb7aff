"""Denoise images by non-local ridge regression."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from dipfast.arrays import is_tensor
from dipfast.checks import check_choice, check_data_range
from dipfast.errors import InputError, InputTypeError
from dipfast.ops import _arguments
from dipfast.ops._arguments import Axes
from dipfast.ops._nl_ridge_passes import Speed
from dipfast.ops.nl_ridge_channels import denoise_channels
from dipfast.ops.nl_ridge_sizes import Report, Ridge, part_of_progress
from dipfast.ops.noise_level import estimate_noise
from dipfast.settings.noise import NoiseParameters

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Floats = NDArray[np.float32]

__all__ = ["nl_ridge"]

_SPEEDS = ("fast", "balanced", "best")

# Noise stronger than this many ranges is all there is.
_MOST = 1e3
# Pixels further than this many ranges from the range are values that stand for missing ones, or
# the like: float32 has no digits for others beside their squares.
_OUTSIDE = 1e7
# Standard deviations so many times as large as that which a tenth of the values exceed do not say
# what noise is usual: such values are hardly known.
_UNUSUAL, _MOST_UNUSUAL = 3.0, 0.1
# About how many values tell the range.
_SOME = 1 << 20


@overload
def nl_ridge(
    image: NDArray[Any],
    sigma: float | NDArray[Any] | Literal["auto"] = "auto",
    *,
    noise: NoiseParameters | None = None,
    speed: Speed = "balanced",
    rounds: int | None = None,
    channel_axis: int | None = None,
    data_range: float | tuple[float, float] | None = None,
    spatial_dims: Literal[2, 3] = 2,
    neighbours: int = 4,
    callback: Callable[[float], object] | None = None,
) -> NDArray[Any]: ...


@overload
def nl_ridge(
    image: Tensor,
    sigma: float | Tensor | Literal["auto"] = "auto",
    *,
    noise: NoiseParameters | None = None,
    speed: Speed = "balanced",
    rounds: int | None = None,
    channel_axis: int | None = None,
    data_range: float | tuple[float, float] | None = None,
    spatial_dims: Literal[2, 3] = 2,
    neighbours: int = 4,
    callback: Callable[[float], object] | None = None,
) -> Tensor: ...


def nl_ridge(
    image: Any,
    sigma: Any = "auto",
    *,
    noise: NoiseParameters | None = None,
    speed: Speed = "balanced",
    rounds: int | None = None,
    channel_axis: int | None = None,
    data_range: float | tuple[float, float] | None = None,
    spatial_dims: Literal[2, 3] = 2,
    neighbours: int = 4,
    callback: Callable[[float], object] | None = None,
) -> object:
    r"""Denoise images by non-local ridge regression [1]_, without a network.

    Similar patches are gathered, and each is replaced by a linear combination of its group whose
    weights minimise the expected squared error, in closed form.

    Parameters
    ----------
    image
        Array or tensor of shape ``(..., H, W)``, or ``(..., D, H, W)`` for volumes, or with its
        channels elsewhere (see ``channel_axis``).  Channels that show the same things are denoised
        together (see the notes); axes in front of channels and pixels are many images, each
        denoised as if it were alone.  Integers are taken as they are.
    sigma
        Standard deviation of white noise in the unit of the image; or an array or tensor of them
        that broadcasts to the image; or ``"auto"``, the default:
        :func:`dipfast.ops.estimate_noise` of each image.
    noise
        The noise in units of ``data_range``, instead of ``sigma``: growing with the signal, clipped
        at the ends of the range (the bias is undone), or correlated.  None, the default, is white
        noise.
    speed
        ``"balanced"``, the default; ``"fast"``, about three times faster; or ``"best"``, about
        twice as slow.  See the notes.
    rounds
        How many passes to make of each size, fewer than those of the speed, from 1 up, or -1 for
        all but the last; None for all.
    channel_axis
        The axis of the channels; None recognises up to four in the last axis.  See
        :mod:`dipfast.ops`.
    data_range
        The range (darkest, brightest) that ``noise`` refers to, or the width of one from 0; 1 by
        default, and that of its dtype for an image of integers.  Without ``noise`` it has no
        influence.
    spatial_dims
        2: images; 3: volumes, whose slices help each other where neighbours are alike, as in depth
        or in time.  Slices that have nothing in common come out worse than as images.
    neighbours
        How many slices to either side help, with ``spatial_dims=3``: 4 by default; 0 for none.
    callback
        Called with the share that is done, from 0 to 1, a few times a second; exceptions that it
        raises pass through.

    Returns
    -------
    array or tensor
        The denoised image, of the same shape: float64 for float64 and integers of more than 16
        bits, float32 for others and on the device MPS.  Values are not cut off, unless ``noise`` is
        clipped; those beyond 1e7 times the usual range stay as they are.  It is computed in
        float32, and has the same bits for every number of threads.

    Raises
    ------
    TypeError
        If the image does not hold real numbers, or an argument has the wrong type.
    ValueError
        If the image is not finite, sigma is negative or does not fit the image, ``noise`` and
        ``sigma`` are both given, or an argument is unknown.

    Notes
    -----
    Let the rows of Y be the k patches of a group with n values each, X those of a pilot, a picture
    that was denoised before, and D the covariance of the noise of the patches, summed over their
    values.  The first pass has no pilot and minimises the unbiased risk of a slightly noisier
    observation:

    .. math:: \hat X = Y - (1 + a) D (Y Y' + a D)^{-1} Y, \quad a = 1,

    or a = 2 to 4 where noise is weak in several channels, or correlated.  Later ones filter the
    values of each patch y by mean m and covariance C of the pilot's patches, with the covariance N
    of the noise [2]_,

    .. math:: \hat x = y - N (C + N)^{-1} (y - m).

    In grey pictures some passes take the mean of that and of :math:`Y - D (X X' + D)^{-1} Y`, which
    alone is taken where noise is correlated.  Where it is not, the last pass has small
    patches in small groups, which follow edges and lines best once there is a good pilot; the one
    before filters a mean of its pilot and the noisy picture, whose noise is weaker (not at
    ``"fast"``, nor in colour below 8/255 of the range).  Similar patches have the least squared
    distance in the mean of the channels, within 18 rows and columns (24 in some passes of
    ``"best"``, 8 in that last one).

    Channels whose noise differs are scaled to the same noise, by up to 20 times.  Those whose
    details in pictures of half and a quarter of the size are not correlated, nor in the same places
    (their squares), are denoised without each other: with groups of what looks alike in both they
    come out about 0.6 dB worse.  Three channels are denoised together unless that is clear.  A
    channel of one value joins none.

    Low frequencies are better known from smaller pictures, whose patches reach further.  Where
    noise is not correlated, images of half and a quarter of the rows and columns are denoised as
    well, if these are 32 or more, and each is given the low frequencies of the next smaller one, by
    a Gaussian of three pixels [3]_.  Volumes have their own size alone.

    Patches of volumes of up to three channels are of three slices, which are treated as channels of
    one, and every slice is the mean of what it is as each of the three; where noise differs by more
    than four times between channels, they are of one.  Similar patches are looked for in so many
    slices that ``neighbours`` to either side matter.

    References
    ----------
    .. [1] Herbreteau, Kervrann, "Towards a unified view of unsupervised non-local methods for image
       denoising: the NL-Ridge approach", ICIP 2022.
    .. [2] Lebrun, Buades, Morel, "A nonlocal Bayesian image denoising algorithm", SIAM Journal on
       Imaging Sciences 6(3), 2013.
    .. [3] Facciolo, Pierazzo, Morel, "Conservative scale recomposition for multiscale denoising
       (the devil is in the high frequency detail)", SIAM Journal on Imaging Sciences 10(3), 2017.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> clean = np.tile(np.linspace(0, 1, 32), (32, 1))
    >>> noisy = clean + np.random.default_rng(0).normal(0, 0.1, clean.shape)
    >>> denoised = dipfast.ops.nl_ridge(noisy, sigma=0.1)
    >>> bool(np.abs(denoised - clean).mean() < 0.3 * np.abs(noisy - clean).mean())
    True
    """
    check_choice("speed", speed, _SPEEDS)
    _arguments.check_spatial_dims(spatial_dims)
    if callback is not None and not callable(callback):
        raise InputTypeError(f"callback must be callable, got {type(callback).__name__}")
    if rounds is not None and (isinstance(rounds, bool) or not isinstance(rounds, int)):
        raise InputTypeError(f"rounds must be an integer, got {rounds!r}")
    if rounds is not None and rounds < 1 and rounds != -1:
        raise InputError(f"rounds must be positive or -1, got {rounds}")
    if isinstance(neighbours, bool) or not isinstance(neighbours, int):
        raise InputTypeError(f"neighbours must be an integer, got {neighbours!r}")
    if neighbours < 0:
        raise InputError(f"neighbours must not be negative, got {neighbours}")
    x = _arguments.as_pixels("image", image)
    axes = Axes.of("image", x, channel_axis, spatial_dims)
    has_channels = channel_axis is not None or axes.channels != axes.front
    given = axes.to_front(x)
    array = _as_array(given)
    if 0 in array.shape:
        raise InputError(f"image must have at least one element, got shape {array.shape}")
    levels = _sigma(sigma, x.shape, axes)
    own = (-1, *array.shape[len(array.shape) - spatial_dims - has_channels :])
    images = array.reshape(own)
    result: Any = np.empty(images.shape, _result_dtype(array))

    def one_group(part: Floats, own: NoiseParameters, gain: Any, report: Report) -> Floats:
        return Ridge(part.shape, own, speed, rounds, neighbours).denoise(part, gain, report)

    for item, picture in enumerate(images):
        level = levels if isinstance(levels, str | float) else levels.reshape(own)[item]
        work = _Work.of(picture, level, noise, data_range, axes, has_channels, spatial_dims)
        report = part_of_progress(callback, item, 1, len(images))
        noisy = work.image[0]
        told, gain = work.noise_of(0)
        denoised = denoise_channels(noisy, told, one_group, gain, report)
        if denoised is noisy or not (picture != picture.flat[0]).any():
            result[item] = picture  # to the last digit
        else:
            result[item] = work.back(denoised).reshape(picture.shape)
            if work.outside is not None:
                result[item][work.outside] = picture[work.outside]
    result = result.reshape(array.shape)
    if is_tensor(given):
        import torch

        result = _arguments.to_home(torch.from_numpy(result), given.device)
    return axes.back(result)


def _as_array(x: Any, name: str = "image") -> Any:
    """Return an array of real numbers; tensors are brought to the CPU."""
    if is_tensor(x):
        x = x.detach().cpu().resolve_neg()
        if str(x.dtype) in ("torch.float16", "torch.bfloat16"):
            x = x.float()
        x = x.numpy()
    if x.dtype.kind not in "biuf":
        raise InputTypeError(f"{name} must hold real numbers, got dtype {x.dtype}")
    return x


def _sigma(sigma: Any, shape: tuple[int, ...], axes: Axes) -> Any:
    """Return sigma as "auto", a number, or an array with its channels in front, as the image's."""
    if isinstance(sigma, str):
        if sigma != "auto":
            raise InputError(f"sigma must be 'auto', a number or an array, got {sigma!r}")
        return sigma
    if np.ndim(sigma) == 0 and not is_tensor(sigma):
        return _arguments.check_weight("sigma", sigma)
    levels = _as_array(_arguments.as_pixels("sigma", sigma), "sigma").astype(np.float64)
    if levels.size == 1:
        return _arguments.check_weight("sigma", levels.reshape(()))
    if axes.channels != axes.front:
        of_channel = [size for k, size in enumerate(shape) if k - len(shape) != axes.channels]
        if levels.shape == tuple(of_channel)[-levels.ndim :]:
            levels = np.expand_dims(levels, axes.channels)  # the same for all channels
    _arguments.check_broadcastable("sigma", levels.shape, tuple(shape))
    if not (np.isfinite(levels).all() and (levels >= 0).all()):
        raise InputError("sigma must be finite and not negative everywhere")
    return np.ascontiguousarray(axes.to_front(np.broadcast_to(levels, tuple(shape))))


def _result_dtype(x: Any) -> Any:
    """Return the dtype of the result for an image."""
    wide = x.dtype.itemsize > (4 if x.dtype.kind == "f" else 2)
    return np.float64 if wide else np.float32


@dataclass(frozen=True)
class _Work:
    """Hold images (N, C, Z, H, W) in float32, in units of their range.

    ``outside`` says which pixels are so far from that range that they are not denoised, in the
    shape of the input; None for none.  They are held as its ends.
    """

    image: Floats
    low: float
    width: float
    parameters: NoiseParameters | None
    sigma: Any
    outside: Any

    @classmethod
    def of(
        cls,
        x: Any,
        sigma: Any,
        noise: NoiseParameters | None,
        data_range: Any,
        axes: Axes,
        has_channels: bool,
        spatial_dims: int,
    ) -> _Work:
        """Return what is to be done, checked."""
        pixels = x.shape[-spatial_dims:]
        channels = x.shape[-spatial_dims - 1] if has_channels else 1
        shape = (-1, channels, *((1,) if spatial_dims == 2 else ()), *pixels)
        lowest, highest = float(x.min()), float(x.max())
        if not math.isfinite(lowest) or not math.isfinite(highest):
            raise InputError(
                "image must be finite, got NaN or infinity; dipfast.inpaint fills missing pixels"
            )
        if noise is not None:
            if not isinstance(noise, NoiseParameters):
                raise InputTypeError(f"noise must be a NoiseModel, got {type(noise).__name__}")
            if not (isinstance(sigma, str) and sigma == "auto"):
                raise InputError("give sigma or noise, not both")
            rows = 1 if noise.spectrum is None else len(noise.spectrum)
            if rows not in (1, channels):
                raise InputError(
                    f"noise has a spectrum of {rows} channels, and image has {channels}; a "
                    "spectrum of one row suits every image"
                )
            if noise.channel_levels is not None and len(noise.channel_levels) != channels:
                raise InputError(
                    f"noise has channel_levels of {len(noise.channel_levels)} channels, and image "
                    f"has {channels}"
                )
            low, high = _range(x, data_range)
        else:
            low, high = _usual_range(x)
            if not isinstance(sigma, str):
                sigma = np.minimum(sigma / (high - low), _MOST)
                sigma = float(sigma) if np.ndim(sigma) == 0 else sigma
                sigma = sigma if isinstance(sigma, float) else sigma.reshape(shape)
        width = high - low
        outside = None
        with np.errstate(over="ignore"):
            offset = max(abs(low), abs(high)) > 1e3 * width or max(-lowest, highest) > 1e30
            single = _result_dtype(x) is np.float32 and not offset
            work = np.array(x, np.float32 if single else np.float64)
            work -= low
            work /= width
            if max(highest - low, low - lowest) > _OUTSIDE * width:
                outside = np.abs(work) > _OUTSIDE
                work[outside] = work[outside].clip(0, 1)
        image = np.ascontiguousarray(work.reshape(shape), np.float32)
        return cls(image, low, width, noise, sigma, outside)

    def noise_of(self, item: int) -> tuple[NoiseParameters, Any]:
        """Return the noise of an image, and how many times its variance values have, or None."""
        if self.parameters is not None:
            return self.parameters, None
        if isinstance(self.sigma, str):
            try:
                planes = self.image[item].reshape(-1, *self.image.shape[-2:])
                return NoiseParameters(estimate_noise(planes, channel_axis=0)), None
            except ValueError as error:
                raise InputError(f"give sigma: {error}") from None
        if isinstance(self.sigma, float):
            return NoiseParameters(self.sigma), None
        levels = self.sigma[item]
        of_channel = [_typical(channel) for channel in levels]
        typical = math.sqrt(float(np.mean(np.square(of_channel))))
        usual = np.reshape(of_channel, (-1, 1, 1, 1))
        gain = np.square(levels / np.where(usual > 0, usual, 1)).astype(np.float32)
        differ = max(of_channel) > min(of_channel)
        noise = NoiseParameters(typical, channel_levels=tuple(of_channel) if differ else None)
        return noise, None if differ and (gain == 1).all() else gain

    def back(self, x: Floats) -> Any:
        """Return images in the unit of the input."""
        if abs(self.low) < 1e3 * self.width and 1e-30 < self.width < 1e30:
            x *= np.float32(self.width)
            x += np.float32(self.low)
            return x
        return x.astype(np.float64) * self.width + self.low


def _typical(levels: Any) -> float:
    """Return the usual standard deviation of the noise, by which passes are chosen."""
    most = _UNUSUAL * float(np.quantile(levels, 1 - _MOST_UNUSUAL))
    if most > 0:
        levels = np.minimum(levels, most)
    return math.sqrt(float(np.mean(np.square(levels))))


def _usual_range(x: Any) -> tuple[float, float]:
    """Return the range of most values, which a few outliers do not change."""
    some = x.ravel()[:: max(x.size // _SOME, 1)].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        # More pixels may hold one or two values that stand for missing ones, but fewer than half.
        # What has many values is a picture, even on a background that rounding alone has left.
        away = np.abs(some - np.median(some))
        usual = np.median(away)
        far = away > _OUTSIDE * usual
        if usual > 0 and far.any() and len(np.unique(some[far])) <= 2:
            some = some[~far]
    low, high = (float(end) for end in np.quantile(some, (0.002, 0.998)))
    if not high > low:
        low, high = float(x.min()), float(x.max())
    return (low, high) if high > low else (low, low + 1.0)


def _range(x: Any, data_range: Any) -> tuple[float, float]:
    """Return the range that noise refers to."""
    if data_range is None:
        return (0.0, float(np.iinfo(x.dtype).max)) if x.dtype.kind in "iu" else (0.0, 1.0)
    if isinstance(data_range, int | float):
        data_range = (0.0, float(data_range))
    return check_data_range(data_range)
