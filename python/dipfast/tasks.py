"""One call for each task."""

from __future__ import annotations

import copy
import math
import platform
import warnings
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dipfast import _native, ops
from dipfast.fitting import Callback, Fit, catch_interrupt, join_histories
from dipfast.images import DataRange, Layout, check_image, find_channel_axis
from dipfast.operators import Identity
from dipfast.ops.arguments import check_choice
from dipfast.presets import PRESETS, Quality
from dipfast.prior import DeepImagePrior
from dipfast.result import Result
from dipfast.stages import METHODS, Method, stages_of
from dipfast.stopping import Discrepancy, StopRule

__all__ = ["denoise"]

# tv_weight="auto" is this times sigma: of 1, 2 and 5, 2 ended highest on two pictures.
_TV_WEIGHT_PER_SIGMA = 2.0


def denoise(
    image: Any,
    *,
    sigma: float | Literal["auto"] = "auto",
    tv_weight: float | Literal["auto"] = "auto",
    method: Method = "two_stage",
    stop: StopRule | Literal["auto", "none"] = "auto",
    quality: Quality = "balanced",
    max_iterations: int | None = None,
    device: str | torch.device = "auto",
    seed: int = 0,
    channel_axis: int | None = None,
    data_range: DataRange = None,
    reference: Any = None,
    callback: Callback | None = None,
) -> Result:
    r"""Remove the noise from one image.

    A network :math:`f_\theta` that was never trained is fitted to the image y,

    .. math:: \min_\theta \tfrac12 \| f_\theta(z) - y \|^2
              + \lambda \, TV(f_\theta(z)),

    for the first third of the iterations; then :math:`\lambda = 0` and the details come
    back.  What is returned is the running average of the network's outputs.

    Parameters
    ----------
    image
        Array (H, W) or with one more axis for the channels, or tensor (H, W), (C, H, W)
        or (N, C, H, W).  The images of a batch are restored one after the other.
    sigma
        Standard deviation of the noise, in the unit of the image; ``"auto"`` estimates it
        (:func:`dipfast.ops.estimate_noise`).
    tv_weight
        lambda, for an image in [0, 1]; larger is smoother.  ``"auto"`` is 2 sigma (in the
        same unit).
    method
        ``"two_stage"``; ``"dip"``, without total variation; ``"dip_tv"``, with it
        throughout.
    stop
        ``"auto"`` ends when the result is as far from the image as the noise is
        (:class:`~dipfast.stopping.Discrepancy`; never with ``"dip_tv"``, where that distance
        is made by total variation); ``"none"`` runs all iterations; or a rule of your own, of
        which each image of a batch gets a copy.
    quality
        How much work: ``"fast"``, ``"balanced"`` or ``"best"`` is 500, 800 or 2000 iterations
        (:data:`dipfast.presets.PRESETS`).
    max_iterations
        Of both stages together; None takes the number that goes with the quality.  The fall
        of the input noise is spread over them, so fewer are not the start of more.
    device
        ``"auto"`` is the GPU (CUDA) where there is one, else the CPU.
    seed
        The same seed gives the same bits on the CPU of the same machine.
    channel_axis
        The axis of the channels; None recognises up to four channels at the end of an
        array and those of tensors.
    data_range
        R for values from 0 to R, or the pair (darkest, brightest).  None: 0 to 255 for
        uint8, 0 to 65535 for uint16 with values over 16383, 0 to 1 for floating point with
        values in [0, 1] but for the noise; anything else must be said.
    reference
        The clean image, in the form of ``image``, if there is one: adds PSNR to history
        and metrics.  It is never used to decide anything.
    callback
        Called with each :class:`~dipfast.prior.State`; it may raise StopIteration to end the
        fit.  What it returns is ignored.

    Returns
    -------
    Result
        Ctrl-C ends the fit as well, and returns the result so far (a second Ctrl-C, more than
        a second later, raises KeyboardInterrupt).

    Raises
    ------
    TypeError
        If an image does not hold real numbers.
    ValueError
        If an argument is out of its range, or layout or value range are ambiguous; the
        message names it.

    References
    ----------
    .. [1] Ulyanov, Vedaldi, Lempitsky, "Deep Image Prior", CVPR 2018, arXiv:1711.10925.
    .. [2] "It Takes Two to Better Denoise": total variation for a third of the iterations.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> noisy = np.random.default_rng(0).normal(128, 25, (32, 32)).clip(0, 255).astype("uint8")
    >>> result = dipfast.denoise(noisy, max_iterations=5)
    >>> result.image.shape, result.image.dtype, result.stop_reason
    ((32, 32), dtype('uint8'), 'all iterations done')
    """
    if isinstance(image, Tensor):
        image = image.detach()
    if isinstance(reference, Tensor):
        reference = reference.detach()
    layout = _layout_of(image, channel_axis, data_range)
    unit = layout.data_range[1] - layout.data_range[0]
    if reference is not None:
        _check_reference(reference, image)
    check_choice("method", method, METHODS)
    check_choice("quality", quality, PRESETS)
    preset = PRESETS[quality]
    iterations = _check_iterations(preset.iterations if max_iterations is None else max_iterations)
    _check_not_negative("sigma", sigma)
    _check_not_negative("tv_weight", tv_weight)
    if method == "dip" and tv_weight not in ("auto", 0):
        raise ValueError(f"tv_weight={tv_weight!r} has no meaning for method='dip'")
    if not (stop in ("auto", "none") or hasattr(stop, "update")):
        raise ValueError(f"stop must be 'auto', 'none' or a stop rule, got {stop!r}")
    if not (_is_integer(seed) and 0 <= seed < 2**63):
        raise ValueError(f"seed must be an integer from 0 to 2**63 - 1, got {seed!r}")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable, got {type(callback).__name__}")
    place = find_device(device)

    noisy = layout.to_tensor(image, place)
    if "int" in str(layout.dtype) and not 0 <= noisy.min() <= noisy.max() <= 1:
        warnings.warn(
            f"values of image beyond data_range={layout.data_range} will be cut off",
            stacklevel=2,
        )
    clean = None if reference is None else layout.to_tensor(reference, place)
    fits: list[Fit] = []
    noise_levels: list[float] = []
    tv_weights: list[float] = []
    with catch_interrupt() as interrupted:
        for item in range(len(noisy)):
            y = noisy[item : item + 1]
            noise = (
                ops.estimate_noise(y[0], channel_axis=0) if sigma == "auto" else float(sigma) / unit
            )
            weight = noise * _TV_WEIGHT_PER_SIGMA if tv_weight == "auto" else float(tv_weight)
            rule: StopRule | None = None if isinstance(stop, str) else copy.deepcopy(stop)
            if stop == "auto":
                rule = Discrepancy(y, Identity(), noise)
            prior = DeepImagePrior(
                y,
                stages_of(method, iterations, weight),
                network=preset.network,
                learning_rate=preset.learning_rate,
                input_noise=preset.input_noise,
                average_decay=preset.average_decay,
                seed=int(seed),
            )
            fits.append(Fit(prior, None if clean is None else clean[item : item + 1]))
            noise_levels.append(noise * unit)
            tv_weights.append(weight)
            if not fits[-1].run(rule, callback, interrupted):
                break

    # What an interrupted batch did not come to stays as it was.
    restored = torch.cat([fit.prior.average() for fit in fits] + [noisy[len(fits) :]])
    image_out = layout.to_image(restored)
    histories = [fit.history() for fit in fits]
    history = histories[0] if len(noisy) == 1 else join_histories(histories)
    metrics: dict[str, float] = {}
    if clean is not None:
        # Of what is returned, rounded as it is.
        metrics["psnr_input"] = _psnr(noisy, clean)
        metrics["psnr"] = _psnr(layout.to_tensor(image_out, place), clean)
        if len(noisy) == 1:
            averages = history["psnr_average"]
            metrics["psnr_oracle"] = max(averages)
            metrics["oracle_iteration"] = averages.index(max(averages)) + 1
    return Result(
        image=image_out,
        history=history,
        stop_reason="; ".join(dict.fromkeys(fit.stop_reason for fit in fits)),
        best_iteration=fits[-1].prior.iteration,
        settings={
            "task": "denoise",
            "method": method,
            "quality": quality,
            "sigma": noise_levels,
            "tv_weight": tv_weights,
            "stop": stop if isinstance(stop, str) else type(stop).__name__,
            "max_iterations": iterations,
            "seed": int(seed),
            "device": str(place),
            "threads": torch.get_num_threads(),
            "shape": list(layout.shape),
            "dtype": str(layout.dtype),
            "channel_axis": layout.channel_axis,
            "data_range": list(layout.data_range),
            "preset": asdict(preset),
            "versions": {
                "dipfast": _native.__version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        },
        metrics=metrics,
        channel_axis=layout.channel_axis,
    )


def _psnr(a: Tensor, b: Tensor) -> float:
    return float(ops.psnr(a.double().cpu(), b.double().cpu(), data_range=1.0))


# --- arguments ---------------------------------------------------------------------------


def _layout_of(image: Any, channel_axis: int | None, data_range: DataRange) -> Layout:
    check_image("image", image)
    tolerance = 0.0
    recognised = data_range is None and "float" in str(image.dtype)
    if recognised and not 0 <= image.min() <= image.max() <= 1:
        # Values beyond [0, 1] are noise if they are no further out than noise reaches.
        axis = find_channel_axis("image", image, channel_axis)
        batch = len(image.shape) == 4
        planes = image.movedim(axis, 1).flatten(0, 1) if batch else image
        tolerance = 6 * ops.estimate_noise(planes, channel_axis=0 if batch else axis)
    return Layout.of(image, channel_axis=channel_axis, data_range=data_range, tolerance=tolerance)


def _check_reference(reference: Any, image: Any) -> None:
    check_image("reference", reference)
    if type(reference) is not type(image) or reference.shape != image.shape:
        raise ValueError(
            f"reference must have kind and shape of image, {type(image).__name__} "
            f"{tuple(image.shape)}, got {type(reference).__name__} {tuple(reference.shape)}"
        )
    kinds = [getattr(x.dtype, "name", str(x.dtype)) for x in (image, reference)]
    if kinds[0] != kinds[1] and not all("float" in kind for kind in kinds):
        raise ValueError(
            f"reference must have the dtype of image, {image.dtype}, got {reference.dtype}"
        )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check_iterations(value: Any) -> int:
    if not (_is_integer(value) and value >= 1):
        raise ValueError(f"max_iterations must be a positive integer, got {value!r}")
    return int(value)


def _check_not_negative(name: str, value: Any) -> None:
    if isinstance(value, str):
        if value == "auto":
            return
    elif isinstance(value, int | float | np.number) and math.isfinite(value) and value >= 0:
        return
    raise ValueError(f"{name} must be 'auto' or a number from 0 up, got {value!r}")


def find_device(device: str | torch.device) -> torch.device:
    """The device of a name; ``"auto"`` is CUDA where there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    # An unknown or missing device is a RuntimeError, CUDA in a torch built without it an
    # AssertionError, and a device without memory of its own a NotImplementedError.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device={str(device)!r} cannot be used: {reason}") from error
    return place
