"""How noisy an image is, from the image alone."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from dipfast.ops import arguments
from dipfast.ops.arguments import is_tensor

__all__ = ["estimate_noise"]

# High-pass filter of the Daubechies wavelet with two vanishing moments: blind to straight
# ramps, so that it sees noise rather than shading.
_ROOT = math.sqrt(3.0)
_HIGH_PASS = np.array([1 - _ROOT, _ROOT - 3, 3 + _ROOT, -1 - _ROOT]) / (4 * math.sqrt(2.0))
# Fewer blocks than this tell nothing.
_FEWEST_BLOCKS = 64

# Median of |x| for a normal x of standard deviation 1.
_MEDIAN_TO_DEVIATION = 0.6744897501960817


def estimate_noise(image: Any, *, channel_axis: int | None = None) -> float:
    r"""Standard deviation of white noise in an image.

    .. math:: \hat\sigma = \mathrm{median}(|d|) / 0.6745

    where d are the diagonal wavelet coefficients (Daubechies, 4 taps) of the finest scale,
    without those that are exactly 0 (saturated or masked regions).  Fine texture is taken
    for noise, so the estimate is an upper bound on textured images.

    Parameters
    ----------
    image
        Array or tensor, ``(H, W)``, or with one more axis for the channels, over which
        the estimates are averaged (root mean square).
    channel_axis
        The axis of the channels; None if there is none.

    Returns
    -------
    float
        In the unit of the image; 0 for an image smaller than 4x4.

    Raises
    ------
    TypeError
        If the image does not hold real numbers.
    ValueError
        If it is not two-dimensional (apart from the channels) or not finite.

    References
    ----------
    .. [1] Donoho, Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika
       81(3), 1994.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> noise = np.random.default_rng(0).normal(0, 0.1, (256, 256))
    >>> round(dipfast.ops.estimate_noise(0.5 + noise), 2)
    0.1
    """
    if is_tensor(image):
        image = image.detach().cpu().double().numpy()
    x = arguments.as_floats("image", image)
    planes = x[np.newaxis] if channel_axis is None else np.moveaxis(x, channel_axis, 0)
    if planes.ndim != 3:
        raise ValueError(
            "image must be (H, W), or have one more axis named by channel_axis, "
            f"got shape {x.shape} with channel_axis={channel_axis}"
        )
    if not np.isfinite(x).all():
        raise ValueError("image must be finite, got NaN or infinity")
    if not planes.size:
        return 0.0
    return float(np.sqrt(np.mean([deviation(wavelet_blocks(p)[1]) ** 2 for p in planes])))


Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"


def wavelet_blocks(plane: Floats, known: Any = None) -> tuple[Floats, Floats]:
    """Brightness around, and diagonal detail of, small blocks all over an image (H, W).

    With white noise the detail varies by its standard deviation, and the brightness, a mean over
    16x16 pixels, hardly.  Blocks are the 4x4 pixels of the wavelet; with ``known``, a boolean
    image, those of them that are known whole, or, if these are few, 2x2 pixels (Haar).
    """
    plane = plane.astype(np.float64, copy=False)
    if min(plane.shape) < len(_HIGH_PASS):
        return np.empty(0), np.empty(0)
    details = _filter(_filter(plane, _HIGH_PASS).T, _HIGH_PASS).T
    size, step, some = len(_HIGH_PASS), 2, known is not None
    known = known if some else np.ones(plane.shape, dtype=bool)
    whole = _all_known(known, size, step)
    if some and np.count_nonzero(whole) < _FEWEST_BLOCKS:
        size, step = 2, 1
        whole = _all_known(known, size, step)
        corners = np.lib.stride_tricks.sliding_window_view(plane, (2, 2))
        details = (corners[..., 0, 0] - corners[..., 0, 1] - corners[..., 1, 0]) / 2
        details += corners[..., 1, 1] / 2
    # Rounding leaves traces of flat regions that are meant to be 0.
    details[np.abs(details) <= 1e-12 * np.abs(plane).max(initial=0)] = 0
    rows, columns = np.nonzero(whole)
    centres = (rows * step + size // 2, columns * step + size // 2)
    return _brightness(plane, known, *centres), details[whole]


def _brightness(plane: Floats, known: Any, rows: Any, columns: Any, reach: int = 8) -> Floats:
    """Means over the known pixels around some."""
    sums = [np.pad(x.cumsum(0).cumsum(1), ((1, 0), (1, 0))) for x in (plane * known, known * 1.0)]
    (top, bottom), (left, right) = (
        (np.maximum(centre - reach, 0), np.minimum(centre + reach, n))
        for centre, n in zip((rows, columns), plane.shape)
    )
    total, count = (s[bottom, right] - s[top, right] - s[bottom, left] + s[top, left] for s in sums)
    return np.asarray(total / np.maximum(count, 1))


def deviation(details: Floats) -> float:
    """Standard deviation of what wavelet coefficients hold of noise, by their median.

    Those that are exactly 0 do not count: saturated or masked regions.
    """
    sizes = np.abs(details[details != 0])
    return float(np.median(sizes)) / _MEDIAN_TO_DEVIATION if sizes.size else 0.0


def _all_known(known: Any, size: int, step: int) -> Any:
    """Which blocks of size x size pixels hold known pixels only."""
    windows = np.lib.stride_tricks.sliding_window_view(known, (size, size))
    return windows[::step, ::step].all(axis=(2, 3))


def _filter(x: Floats, taps: Floats) -> Floats:
    """Filter along the first axis and keep every second sample."""
    count = (len(x) - len(taps)) // 2 + 1
    return sum(
        (tap * x[k : k + 2 * count - 1 : 2] for k, tap in enumerate(taps)),
        start=np.zeros((count, *x.shape[1:])),
    )
