"""How noisy an image is, from the image alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dipfast.ops import arguments
from dipfast.ops.arguments import is_tensor

__all__ = ["estimate_noise"]

# High-pass filter of the Daubechies wavelet with two vanishing moments: blind to straight
# ramps, so that it sees noise rather than shading.
_ROOT = math.sqrt(3.0)
_HIGH_PASS = np.array([1 - _ROOT, _ROOT - 3, 3 + _ROOT, -1 - _ROOT]) / (4 * math.sqrt(2.0))

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
    if min(planes.shape[1:]) < len(_HIGH_PASS) or not len(planes):
        return 0.0
    return float(np.sqrt(np.mean([_plane_noise(plane) ** 2 for plane in planes])))


def _plane_noise(plane: np.ndarray[Any, Any]) -> float:
    rows = _high_pass(plane.astype(np.float64, copy=False))
    details = np.abs(_high_pass(rows.T))
    # Rounding leaves traces of flat regions that are meant to be 0.
    details = details[details > 1e-12 * np.abs(plane).max()]
    return float(np.median(details)) / _MEDIAN_TO_DEVIATION if details.size else 0.0


def _high_pass(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Filter along the first axis and keep every second sample."""
    count = (len(x) - len(_HIGH_PASS)) // 2 + 1
    return sum(
        (tap * x[k : k + 2 * count - 1 : 2] for k, tap in enumerate(_HIGH_PASS)),
        start=np.zeros((count, *x.shape[1:])),
    )
