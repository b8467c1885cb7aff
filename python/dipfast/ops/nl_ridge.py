"""Denoise images by non-local ridge regression."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import numpy as np

from dipfast.arrays import is_tensor
from dipfast.checks import check_choice, check_data_range
from dipfast.errors import InputError, InputTypeError
from dipfast.ops import _arguments
from dipfast.ops._arguments import Axes
from dipfast.ops._compiled.nl_ridge import nl_ridge_pass
from dipfast.ops._noise_table import NoiseTable, band_covariance
from dipfast.ops._scales import add_low_frequencies, halved
from dipfast.ops.noise_level import estimate_noise
from dipfast.settings.noise import LEAST_VARIANCE, NoiseParameters

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Floats = NDArray[np.float32]

__all__ = ["nl_ridge"]

Speed = Literal["fast", "balanced", "best"]
_SPEEDS = ("fast", "balanced", "best")

# Rows and columns to each side in which similar patches are looked for.
_REACH = {"fast": 18, "balanced": 18, "best": 24}
# The speeds at which pictures of half and of a quarter of the rows and columns are denoised, and
# the least rows and columns of such a picture.
_SMALLER: dict[Speed, tuple[Speed, ...]] = {
    "fast": ("fast", "fast"),
    "balanced": ("balanced", "fast"),
    "best": ("balanced", "fast"),
}
_LEAST_SIZE = 32
# Patches of a volume have so many slices, and so many channels at most: the filter of a patch takes
# time with the third power of its values.
_DEPTH, _MOST_CHANNELS = 3, 3
# Standard deviation, as a share of the range, above which patches are larger by a pixel; and again.
_STRONG = (35 / 255, 60 / 255)
# Standard deviation, as a share of the range, below which the first pass takes the mean of the
# patches off: float32 has not enough digits otherwise.  Stronger noise is better left without.
_WEAK = 4 / 255
# Noise stronger than this many ranges is all there is.
_MOST = 1e3
# About how many values tell the range.
_SOME = 1 << 20
# Distance in pixels up to which noise is taken to be correlated.
_RADIUS = 12


class _Pass(NamedTuple):
    """Hold the parameters of a pass.

    The picture that it filters is the pilot plus a share ``kept`` of what the noisy picture has
    beyond it.
    """

    patch: int
    group: int
    step: int
    kept: float = 1.0
    filters: Literal["patches", "values", "both"] = "values"


# The passes for pictures of several channels, and of one: chosen on photographs that are in no
# table (astronaut, coffee, chelsea, immunohistochemistry of scikit-image, barbara and monarch of
# Set14) with noise of sigma 25.
_COLOUR: dict[str, tuple[_Pass, ...]] = {
    "fast": (_Pass(5, 24, 5), _Pass(5, 48, 5)),
    "balanced": (_Pass(5, 24, 5), _Pass(5, 60, 5), _Pass(6, 60, 6), _Pass(6, 60, 6, 0.5)),
    "best": (
        _Pass(5, 24, 4),
        _Pass(5, 60, 4),
        _Pass(6, 60, 5),
        _Pass(8, 60, 5, 0.7),
        _Pass(8, 80, 5, 0.4),
    ),
}
_GREY: dict[str, tuple[_Pass, ...]] = {
    "fast": (_Pass(7, 24, 5), _Pass(7, 60, 6)),
    "balanced": (
        _Pass(7, 24, 5),
        _Pass(7, 60, 5, filters="both"),
        _Pass(8, 60, 6, filters="both"),
        _Pass(8, 60, 6, 0.5),
    ),
    "best": (
        _Pass(7, 24, 4),
        _Pass(7, 60, 4, filters="both"),
        _Pass(8, 60, 5, filters="both"),
        _Pass(8, 60, 5, 0.5),
    ),
}
# The passes for correlated noise, of pictures of any number of channels.  Filters of values rely on
# the shape of the noise within patches, which is never known so well; chosen on the same pictures
# as simulated cameras take them (benches.quality.noise.simulate), with the noise as it is found.
_CORRELATED: dict[str, tuple[_Pass, ...]] = {
    speed: (_Pass(6, 24, step, filters="patches"), _Pass(8, 60, step, filters="patches"))
    for speed, step in (("fast", 5), ("balanced", 4), ("best", 3))
}
# The passes for volumes, whose patches are of three slices: chosen on photographs that move
# (camera, astronaut and gravel of scikit-image) and on blobs and filaments, at sigma 25.
_VOLUME_COLOUR: dict[str, tuple[_Pass, ...]] = {
    "fast": (_Pass(5, 48, 5), _Pass(5, 96, 5)),
    "balanced": (_Pass(5, 48, 5), _Pass(5, 96, 5, filters="both"), _Pass(6, 96, 6, 0.5)),
    "best": (
        _Pass(5, 48, 4),
        _Pass(5, 96, 4, filters="both"),
        _Pass(6, 96, 5, filters="both"),
        _Pass(6, 96, 5, 0.5),
    ),
}
_VOLUME_GREY: dict[str, tuple[_Pass, ...]] = {
    "fast": (_Pass(7, 48, 6), _Pass(7, 96, 6)),
    "balanced": (
        _Pass(7, 48, 5),
        _Pass(7, 96, 5, filters="both"),
        _Pass(7, 96, 6, filters="both"),
        _Pass(7, 96, 6, 0.5),
    ),
    "best": (
        _Pass(7, 48, 4),
        _Pass(7, 96, 4, filters="both"),
        _Pass(7, 96, 5, filters="both"),
        _Pass(7, 96, 5, 0.5),
    ),
}
_VOLUME_CORRELATED: dict[str, tuple[_Pass, ...]] = {
    speed: (_Pass(8, 24, step, filters="patches"), _Pass(8, 60, step, filters="patches"))
    for speed, step in (("fast", 5), ("balanced", 4), ("best", 3))
}
# The a of the first pass: of 0.05, 0.25, 0.5, 1 and 2, 1 gave the highest PSNR on average at sigma
# 25.  Pictures of several channels with weaker noise take more, by what the noise is below, and
# with the weakest smaller patches as well; chosen on the same pictures at sigma 5, 9 and 15.
_SHARE, _SHARE_OF_WEAKER, _SHARE_OF_CORRELATED = 1.0, 2.0, 2.0
_WEAKER, _WEAKEST = 18 / 255, 12 / 255
_SHARE_OF_WEAKEST = {"fast": 2.0, "balanced": 4.0, "best": 4.0}
_PATCHES_OF_WEAKEST = (4, 4, 6, 6, 6)

_TO_OPPONENT = np.array(
    [
        [1 / math.sqrt(3)] * 3,
        [1 / math.sqrt(2), 0, -1 / math.sqrt(2)],
        [1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)],
    ],
    np.float32,
)


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
        channels elsewhere (see ``channel_axis``).  Channels are denoised together; axes in front
        of channels and pixels are many images, each denoised as if it were alone.  Integers are
        taken as they are.
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
        How many passes to make of each size, fewer than those of the speed, from 1 up; None for
        all.
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
        bits, float32 for others.  Values are not cut off, unless ``noise`` is clipped.  It is
        computed in float32, and has the same bits for every number of threads.

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

    In grey pictures some passes of ``"balanced"`` and ``"best"`` take the mean of that and of
    :math:`Y - D (X X' + D)^{-1} Y`, which alone is taken where noise is correlated.  The last
    passes for white noise filter a mean of their pilot and the noisy picture, whose noise is weaker
    (not at ``"fast"``).  Similar patches have the least squared distance in the mean of the
    channels, within 18 rows and columns (24 at ``"best"``).

    Low frequencies are better known from smaller pictures, whose patches reach further.  Where
    noise is not correlated, images of half and a quarter of the rows and columns are denoised as
    well, if these are 32 or more, and each is given the low frequencies of the next smaller one, by
    a Gaussian of three pixels [3]_.  Volumes have their own size alone.

    Patches of volumes of up to three channels are of three slices, which are treated as channels of
    one, and every slice is the mean of what it is as each of the three.  Similar patches are looked
    for in so many slices that ``neighbours`` to either side matter.

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
    if rounds is not None and rounds < 1:
        raise InputError(f"rounds must be positive, got {rounds}")
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
    for item, picture in enumerate(images):
        level = levels if isinstance(levels, str | float) else levels.reshape(own)[item]
        work = _Work.of(picture, level, noise, data_range, axes, has_channels, spatial_dims)
        report = _progress(callback, item, 1, len(images))
        noisy = work.image[0]
        denoised = _denoise(noisy, work.noise_of(0), speed, rounds, neighbours, report)
        if denoised is noisy or not (picture != picture.flat[0]).any():
            result[item] = picture  # to the last digit
        else:
            result[item] = work.back(denoised).reshape(picture.shape)
    result = result.reshape(array.shape)
    if is_tensor(given):
        import torch

        result = torch.from_numpy(result).to(given.device)
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


def _progress(
    callback: Callable[[float], object] | None, begin: float, part: float, whole: float
) -> Callable[[float], object] | None:
    """Return the callback for a part of the work that begins after so much of the whole."""
    if callback is None:
        return None
    return lambda share: callback(min((begin + part * share) / whole, 1.0))


@dataclass(frozen=True)
class _Noise:
    """Hold the noise of a picture in units of its range, and its map if it has one."""

    parameters: NoiseParameters
    gain: Any = None


@dataclass(frozen=True)
class _Work:
    """Hold images (N, C, Z, H, W) in float32, in units of their range."""

    image: Floats
    low: float
    width: float
    parameters: NoiseParameters | None
    sigma: Any

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
            low, high = _range(x, data_range)
        else:
            low, high = _usual_range(x)
            if not isinstance(sigma, str):
                sigma = np.minimum(sigma / (high - low), _MOST)
                sigma = float(sigma) if np.ndim(sigma) == 0 else sigma
                sigma = sigma if isinstance(sigma, float) else sigma.reshape(shape)
        with np.errstate(over="ignore"):
            offset = max(abs(low), abs(high)) > 1e3 * (high - low) or max(-lowest, highest) > 1e30
            single = _result_dtype(x) is np.float32 and not offset
            work = np.array(x, np.float32 if single else np.float64)
            work -= low
            work /= high - low
        return cls(
            np.ascontiguousarray(work.reshape(shape), np.float32), low, high - low, noise, sigma
        )

    def noise_of(self, item: int) -> _Noise:
        """Return the noise of an image."""
        if self.parameters is not None:
            return _Noise(self.parameters)
        if isinstance(self.sigma, str):
            try:
                planes = self.image[item].reshape(-1, *self.image.shape[-2:])
                return _Noise(NoiseParameters(estimate_noise(planes, channel_axis=0)))
            except ValueError as error:
                raise InputError(f"give sigma: {error}") from None
        if isinstance(self.sigma, float):
            return _Noise(NoiseParameters(self.sigma))
        levels = self.sigma[item]
        typical = math.sqrt(float(np.mean(np.square(levels))))
        gain = np.square(levels / typical) if typical > 0 else np.ones_like(levels)
        return _Noise(NoiseParameters(typical), gain.astype(np.float32))

    def back(self, x: Floats) -> Any:
        """Return images in the unit of the input."""
        if abs(self.low) < 1e3 * self.width and 1e-30 < self.width < 1e30:
            x *= np.float32(self.width)
            x += np.float32(self.low)
            return x
        return x.astype(np.float64) * self.width + self.low


def _usual_range(x: Any) -> tuple[float, float]:
    """Return the range of most values, which a few outliers do not change."""
    some = x.ravel()[:: max(x.size // _SOME, 1)].astype(np.float64)
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


# --- one picture -------------------------------------------------------------------------


def _denoise(
    noisy: Floats,
    noise: _Noise,
    speed: Speed,
    rounds: int | None,
    neighbours: int,
    callback: Callable[[float], object] | None,
) -> Floats:
    """Return a picture (C, Z, H, W), in units of its range, denoised."""
    parameters = noise.parameters
    if parameters.is_free or not (noisy != noisy.flat[0]).any():
        if callback is not None:
            callback(1.0)
        return noisy
    channels, slices = noisy.shape[:2]
    depth = min(_DEPTH, slices) if 0 < channels <= _MOST_CHANNELS and neighbours else 1
    table = NoiseTable(parameters)
    spectrum = parameters.spectrum
    turned = spectrum is not None and len(spectrum) == len(_TO_OPPONENT) == channels
    if turned:
        noisy = _mixed(_TO_OPPONENT, noisy)
    covariance = _covariance(parameters, channels)

    def primary(x: Floats) -> Floats:
        return _mixed(_TO_OPPONENT.T, x) if turned else x

    needs_gain = not parameters.is_white

    def gain(pilot: Floats) -> Floats:
        # Of the mean over the channels where these were mixed.
        variance = table.variance(table.clean(primary(pilot)))  # a new array
        variance /= np.float32(_scale(parameters))
        return np.broadcast_to(variance.mean(axis=0), pilot.shape).copy() if turned else variance

    # Of the smallest size first: each picture gets its low frequencies from the one before.
    sizes = _sizes(noisy, noise, speed, depth, rounds)
    work = [size.share * len(size.passes) for size in sizes]
    x, done = noisy, 0.0
    for number, size in enumerate(sizes):
        smaller, x = x, size.noisy
        for index, one in enumerate(size.passes):
            source, level = size.noisy, covariance * np.float32(size.share)
            if one.kept < 1:
                source = x + np.float32(one.kept) * (source - x)
                level = level * np.float32(one.kept**2)
            # The noisy picture tells its own variance only where it is averaged.
            own = gain(x if index else _around(x)) if needs_gain else size.gain
            guide = x[:1] if turned else x.mean(axis=0, keepdims=True)
            filtered = nl_ridge_pass(
                _windows(source, depth),
                np.ascontiguousarray(_windows(guide, depth).mean(axis=0)),
                np.concatenate([level] * depth),
                pilot=_windows(x, depth) if index else None,
                gain=None if own is None else _windows(own, depth),
                callback=_progress(callback, done, size.share, sum(work)),
                patch=one.patch,
                group=one.group,
                step=one.step,
                reach=_REACH[size.speed],
                slices_reach=max(neighbours - depth // 2, 0),
                share=size.first_share,
                centred=(size.level < _WEAK and index == 0) or _has_few_patches(x.shape, one),
                filters=one.filters,
            )
            x = _slices(filtered, depth)
            done += size.share
        if number > 0:
            add_low_frequencies(x, smaller, None if size.gain is None else size.gain > 0)
    return table.clean(primary(x))


class _Size(NamedTuple):
    """Hold a picture, whole or of half or a quarter of its size, and how it is denoised."""

    noisy: Floats
    share: float
    """Of the pixels of the whole."""
    gain: Any
    level: float
    speed: Speed
    passes: tuple[_Pass, ...]
    first_share: float


def _sizes(
    noisy: Floats, noise: _Noise, speed: Speed, depth: int, rounds: int | None
) -> list[_Size]:
    """Return the sizes in which a picture is denoised, the smallest first."""
    correlated = noise.parameters.spectrum is not None
    gain, level = noise.gain, math.sqrt(_scale(noise.parameters))
    smaller = () if correlated or depth > 1 else _SMALLER[speed]
    sizes: list[_Size] = []
    for name in (speed, *smaller):
        if sizes:
            if min(noisy.shape[-2:]) < 2 * _LEAST_SIZE:
                break
            noisy, level = halved(noisy), level / 2
            gain = None if gain is None else halved(gain)
        passes = _passes(len(noisy), level, correlated, name, depth)[:rounds]
        first_share = _share(len(noisy), level, correlated, name, depth)
        share = 0.25 ** len(sizes)
        sizes.append(_Size(noisy, share, gain, level, name, passes, first_share))
    return sizes[::-1]


def _windows(x: Floats, depth: int) -> Floats:
    """Return a picture whose channels are those of some slices that follow each other."""
    if depth == 1:
        return x
    last = x.shape[1] - depth + 1
    return np.concatenate([x[:, first : first + last] for first in range(depth)])


def _slices(x: Floats, depth: int) -> Floats:
    """Return a picture of such windows: each slice as the mean of what it is in all of them."""
    if depth == 1:
        return x
    channels, last = len(x) // depth, x.shape[1]
    sums = np.zeros((channels, last + depth - 1, *x.shape[2:]), np.float32)
    counts = np.zeros((len(sums[0]), 1, 1), np.float32)
    for first in range(depth):
        sums[:, first : first + last] += x[first * channels : (first + 1) * channels]
        counts[first : first + last] += 1
    sums /= counts
    return sums


def _around(x: Floats) -> Floats:
    """Return the means over five rows and columns."""
    reach = 2
    mean = np.empty_like(x)
    for plane, out in zip(x.reshape(-1, *x.shape[-2:]), mean.reshape(-1, *x.shape[-2:])):
        for axis in (0, 1):
            padding = [(0, 0), (0, 0)]
            padding[axis] = (reach, reach)
            padded = np.pad(plane if axis == 0 else out, padding, mode="edge")
            count = plane.shape[axis]
            out[...] = 0
            for k in range(2 * reach + 1):
                out += padded[k : k + count] if axis == 0 else padded[:, k : k + count]
            out /= 2 * reach + 1
    return mean


def _has_few_patches(shape: tuple[int, ...], one: _Pass) -> bool:
    """Return whether a picture has fewer patches than a group: they would be drawn towards 0."""
    rows, columns = (max(n - one.patch, 0) + 1 for n in shape[-2:])
    return rows * columns < one.group


def _passes(
    channels: int, level: float, correlated: bool, speed: Speed, depth: int = 1
) -> tuple[_Pass, ...]:
    """Return the passes for a picture; the stronger its noise, the larger are its patches."""
    if depth > 1:
        if correlated:
            return _VOLUME_CORRELATED[speed]
        return (_VOLUME_GREY if channels == 1 else _VOLUME_COLOUR)[speed]
    if correlated:
        return _CORRELATED[speed]
    passes = (_GREY if channels == 1 else _COLOUR)[speed]
    if level < _WEAKEST and channels > 1:
        return tuple(
            one._replace(patch=patch, step=min(one.step, patch))
            for one, patch in zip(passes, _PATCHES_OF_WEAKEST)
        )
    larger = sum(level > strong for strong in _STRONG)
    return tuple(one._replace(patch=one.patch + larger) for one in passes)


def _share(channels: int, level: float, correlated: bool, speed: Speed, depth: int = 1) -> float:
    """Return the a of the first pass for a picture."""
    if correlated:
        return _SHARE_OF_CORRELATED
    if channels == 1 or depth > 1 or level >= _WEAKER:
        return _SHARE
    return _SHARE_OF_WEAKER if level >= _WEAKEST else _SHARE_OF_WEAKEST[speed]


def _scale(noise: NoiseParameters) -> float:
    """Return the variance that the covariance stands for."""
    return noise.typical_variance


def _covariance(noise: NoiseParameters, channels: int) -> Floats:
    """Return the covariance of each channel with itself, (C, rows, columns)."""
    if noise.spectrum is None:
        return np.full((channels, 1, 1), max(_scale(noise), LEAST_VARIANCE), np.float32)
    rows = noise.spectrum if len(noise.spectrum) > 1 else noise.spectrum * channels
    tables = np.stack([band_covariance(row, _RADIUS) for row in rows]) * _scale(noise)
    return np.ascontiguousarray(tables, np.float32)


def _mixed(matrix: Any, x: Floats) -> Floats:
    """Return a picture whose channels are mixed by a matrix."""
    return np.ascontiguousarray(np.tensordot(matrix, x, axes=1), np.float32)
