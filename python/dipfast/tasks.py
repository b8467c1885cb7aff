"""One call for each task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from dipfast import ops
from dipfast.arrays import as_constant
from dipfast.checks import DataRange
from dipfast.errors import InputError, InputTypeError
from dipfast.images.layout import Layout
from dipfast.images.masks import resolve_mask
from dipfast.model.noise import NoiseModel
from dipfast.model.operators import (
    Downsample,
    Identity,
    LinearOperator,
    Mask,
    as_operator,
    known_mask,
)
from dipfast.ops.resampling import DownsampleKernel
from dipfast.prior.stages import Stage
from dipfast.run.interrupt import Interrupt
from dipfast.run.prepare import Options, Task
from dipfast.run.restoration import restore_images
from dipfast.run.result import Result
from dipfast.run.runner import Callback
from dipfast.settings.names import Marks, Method, NoiseKind, Quality, RuleName
from dipfast.settings.presets import Preset
from dipfast.stopping import StopRule
from dipfast.torch_modes import plain_modes

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["denoise", "inpaint", "restore", "super_resolve"]

FACTORS = (2, 3, 4, 8)

# A sharp image is brighter and darker at some places than one that a lens or a pixel averaged:
# so many widths of the range, at either end, of a range that was found in the data.
_MARGIN = 0.25
# How near to 1 an operator has to keep an image of ones, to be one that keeps constants.
_SAME_BRIGHTNESS = 1e-3


@plain_modes()
def denoise(
    image: Any,
    *,
    sigma: float | Literal["auto"] = "auto",
    noise: NoiseKind | NoiseModel = "auto",
    tv_weight: float | Literal["auto"] = "auto",
    method: Method | Sequence[Stage] = "two_stage",
    stop: StopRule | RuleName = "auto",
    time_limit: float | None = None,
    quality: Quality = "balanced",
    preset: str | Preset | None = None,
    max_iterations: int | None = None,
    network_input: Any = None,
    device: str | torch.device = "auto",
    seed: int = 0,
    channel_axis: int | None = None,
    data_range: DataRange = None,
    reference: Any = None,
    callback: Callback | None = None,
    interrupt: Interrupt | None = None,
    snapshots: float | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 100,
    resume: bool = False,
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
        Standard deviation of the noise, in the unit of the image; ``"auto"`` estimates it.
    noise
        What kind of noise it is: ``"gaussian"``; ``"clipped"``, which is cut off at the ends
        of the range, as in every 8-bit picture; ``"poisson_gaussian"`` (cameras, microscopes,
        telescopes), whose variance grows with the signal; a
        :class:`~dipfast.model.noise.NoiseModel`; or ``"auto"``, Gaussian noise, or Poisson-Gaussian
        noise if that is clearly what it is, cut off where the histogram piles up at an end
        (:func:`dipfast.model.noise.estimate_noise_model`; with sigma given, Gaussian noise).  The
        network is fitted so that what is expected of the clean picture meets the image.
    tv_weight
        lambda, for an image in [0, 1]; larger is smoother.  ``"auto"`` is 2 sigma (in the
        same unit), or what the preset says at least.
    method
        ``"two_stage"``; ``"dip"``, without total variation; ``"dip_tv"``, with it
        throughout; a variant of :func:`dipfast.prior.methods.make_stages`; or a sequence of stages of
        your own (:class:`dipfast.prior.stages.Stage`), with all their iterations.
    stop
        When to end, and which iteration was the best: ``"auto"``, the rule that measured best
        (docs/stopping.md); ``"discrepancy"``, ``"held_out"``, ``"es_wmv"`` or ``"es_emv"``
        (:mod:`dipfast.stopping`); ``"none"`` runs all iterations; or a rule of your own.
    time_limit
        Seconds after which it ends in any case; None for no limit.  Without a checkpoint, some
        iterations are timed first, and no more are planned than there is time for, so that both
        stages fit.  A result that is likely worse than the image is warned of
        (``result.unfinished``).
    quality
        How much work: ``"fast"``, ``"balanced"`` or ``"best"`` is 500, 800 or 2000 iterations,
        for :func:`restore` 800, 2000 or 4000 (:data:`dipfast.settings.presets.PRESETS`).
    preset
        Instead of the quality: the name of one of these presets, such as
        ``"original-denoising"`` for the settings of the original, or a
        :class:`~dipfast.settings.presets.Preset`.
    max_iterations
        Of both stages together; None takes the number that goes with the quality.  The fall
        of the input noise is spread over them, so fewer are not the start of more.
    network_input
        A picture of the same scene that the network is given instead of noise (flash and no
        flash), of the size of the result; needed for preset ``"original-flash"``.
    device
        ``"auto"`` is the GPU (CUDA) where there is one, else the CPU.
    seed
        The same seed gives the same bits on the CPU of the same machine.
    channel_axis
        The axis of the channels; None recognises up to four channels at the end or in front of
        the pixels, and any number in front of the pixels of a tensor.
    data_range
        R for values from 0 to R, or the pair (darkest, brightest).  None: 0 to 255 for uint8;
        for anything else from the least to the largest value, so that the unit of an image does
        not matter (``result.settings`` has what was found).
    reference
        The clean image, in the form of ``image``, if there is one: adds PSNR to history
        and metrics.  It is never used to decide anything.  The peak of PSNR is the width of
        the range if that is given or that of 8 bits; else 65535 for a reference of 16 bits with
        values over 16383, 1 for one in [0, 1] that fills half of it, and otherwise the width
        of the reference.
    callback
        Called with each :class:`~dipfast.prior.loop.State`; it may raise StopIteration to end the
        fit.  What it returns is ignored.
    interrupt
        Its ``stop()``, called in another thread, ends the fit
        (:class:`~dipfast.run.interrupt.Interrupt`).
    snapshots
        Megabytes for images on the way (:class:`~dipfast.run.snapshots.Snapshots`); None keeps
        none.
    checkpoint
        File to keep the state of the fit in, so that nothing is lost when the program is
        killed; None for none.  It stays when the fit is over.
    checkpoint_every
        Iterations from one writing to the next.
    resume
        Go on from the checkpoint, if there is one, to the same bits as without the
        interruption (on the CPU of the same machine with the same number of threads).  It
        must be that of the same image, options and versions.

    Returns
    -------
    Result
        Ctrl-C and SIGTERM end the fit as well, and return the best so far (a second one, more
        than a second later, raises KeyboardInterrupt).  SIGTERM ends the process within two
        seconds, wherever it is stuck.

    Raises
    ------
    TypeError
        If an image does not hold real numbers.
    ValueError
        If an argument is out of its range, or layout or value range are ambiguous; the
        message names it.  Or if the checkpoint is damaged, or that of another run.
    FileExistsError
        If there is a checkpoint already, and ``resume`` is False.
    MemoryError
        If the fit does not fit into memory; the message says what would.

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
    image = as_constant("image", image)
    task = Task(
        "denoise",
        image,
        Layout.of(image, channel_axis=channel_axis, data_range=data_range),
        [Identity()],
        before=lambda y: y,
    )
    return restore_images(
        task,
        sigma=sigma,
        noise=noise,
        tv_weight=tv_weight,
        method=method,
        stop=stop,
        time_limit=time_limit,
        quality=quality,
        preset=preset,
        max_iterations=max_iterations,
        network_input=network_input,
        device=device,
        seed=seed,
        reference=reference,
        callback=callback,
        interrupt=interrupt,
        snapshots=snapshots,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        resume=resume,
    )


@plain_modes()
def inpaint(
    image: Any,
    mask: Any = None,
    *,
    mask_marks: Marks = "missing",
    keep_known: bool = True,
    channel_axis: int | None = None,
    data_range: DataRange = None,
    **options: Unpack[Options],
) -> Result:
    r"""Fill in missing pixels.

    The network is fitted to the known pixels m of the image y,

    .. math:: \min_\theta \tfrac12 \| m (f_\theta(z) - y) \|^2
              + \lambda \, TV(f_\theta(z)),

    in the stages of :func:`denoise`, and what it makes of the others is the result.

    Parameters
    ----------
    image
        As for :func:`denoise`; masked arrays too, whose masked pixels are missing.  What stands
        at missing pixels has no influence on anything.
    mask
        Which pixels are missing:

        - an array or tensor (H, W), or of the shape of the image (1 for its channels will do),
          boolean or of numbers; values between the extremes, at soft edges, are missing;
        - a number: pixels of this value in all channels are missing;
        - ``"alpha"``: the last of 2 or 4 channels is opacity, and pixels that are not opaque
          are missing; the result is without that channel;
        - None: pixels that are NaN or masked are missing (they are in any case).
    mask_marks
        Whether non-zero values of the mask mark the ``"missing"`` pixels, as in scikit-image and
        OpenCV, or the ``"known"`` ones, as in the original.
    keep_known
        Put the known pixels into the result as they are, to the last bit (the default).  With
        False they are those of the network as well, which takes noise out of them.
    channel_axis, data_range
        As for :func:`denoise`.
    **options
        ``sigma`` (the default is 0, no noise; with "auto" it is estimated from the known
        pixels, and fine texture taken for noise), ``noise``, ``tv_weight``, ``method``, ``stop``,
        ``time_limit``, ``quality``, ``preset``, ``max_iterations``, ``network_input``,
        ``device``, ``seed``, ``reference``, ``callback``, ``interrupt``, ``snapshots``,
        ``checkpoint``, ``checkpoint_every`` and ``resume``, as for :func:`denoise`.

    Returns
    -------
    Result
        ``raw_image`` is the network's image, known pixels and all.

    Raises
    ------
    TypeError
        If image or mask do not hold real numbers.
    ValueError
        If an argument is out of its range, the mask does not fit the image, or nothing or
        everything is missing; the message names it.

    Warns
    -----
    UserWarning
        If it looks like a mask the wrong way round: if more than 95% of the pixels are missing,
        or more than half and with them nearly all of the border, or all but thin lines and
        specks.

    Notes
    -----
    Total variation knows nothing of a hole but its rim, and fills it flat.  Its weight goes with
    the noise, and with the share of the pixels that are known: without noise there is nothing
    for it to do, and ``"two_stage"`` is plain DIP.

    References
    ----------
    .. [1] Ulyanov, Vedaldi, Lempitsky, "Deep Image Prior", IJCV 2020, section 4.3,
       arXiv:1711.10925.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> image = np.full((32, 32), 100, dtype=np.uint8)
    >>> mask = np.zeros((32, 32), dtype=bool)
    >>> mask[10:14, 10:14] = True
    >>> result = dipfast.inpaint(image, mask, max_iterations=5)
    >>> bool((result.image[~mask] == 100).all())
    True
    """
    if not isinstance(keep_known, bool):
        raise InputTypeError(f"keep_known must be True or False, got {keep_known!r}")
    whole, missing = resolve_mask(image, mask, mask_marks, channel_axis)
    if whole.ndim < image.ndim:  # grey with opacity has no axis of channels any more
        channel_axis = None
    layout = Layout.of(whole, channel_axis=channel_axis, data_range=data_range, known=~missing)
    whole = as_constant("image", layout.filled(whole, missing))
    known = torch.from_numpy(np.ascontiguousarray(~missing))
    options.setdefault("sigma", 0.0)
    task = Task(
        "inpaint",
        whole,
        layout,
        [Mask(m[None]) for m in known],  # one for all, or one for each image of a batch
        before=lambda y: y,
        keep=known if keep_known else None,
        settings={
            "mask_marks": mask_marks,
            "keep_known": keep_known,
            "missing": float(missing.mean()),
        },
    )
    return restore_images(task, **options)


@plain_modes()
def super_resolve(
    image: Any,
    factor: int,
    *,
    kernel: DownsampleKernel = "lanczos2",
    channel_axis: int | None = None,
    data_range: DataRange = None,
    **options: Unpack[Options],
) -> Result:
    r"""Enlarge an image by a whole number, with detail that becomes it when made smaller.

    .. math:: \min_\theta \tfrac12 \| D f_\theta(z) - y \|^2
              + \lambda \, TV(f_\theta(z))

    with D filtering and down-sampling (:class:`~dipfast.operators.Downsample`), in the stages of
    :func:`denoise`.

    Parameters
    ----------
    image
        y, as for :func:`denoise`.
    factor
        2, 3, 4 or 8.
    kernel
        What a small pixel saw of the large ones: ``"lanczos2"`` (the default, as in the
        original), ``"lanczos3"``, ``"bicubic"``, ``"bilinear"`` or ``"box"``, the mean, as the
        pixels of a sensor do.
    channel_axis, data_range
        As for :func:`denoise`.
    **options
        As for :func:`inpaint`; ``sigma`` is 0 by default.  ``tv_weight`` is 0.01 at least: a
        little total variation to begin with helps where there is no noise too.

    Returns
    -------
    Result
        ``image`` has exactly ``factor`` times the rows and columns.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range; the message names it.

    References
    ----------
    .. [1] Ulyanov, Vedaldi, Lempitsky, "Deep Image Prior", IJCV 2020, section 4.2,
       arXiv:1711.10925.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> small = np.zeros((9, 7, 3), dtype=np.uint8)
    >>> dipfast.super_resolve(small, 4, max_iterations=5).image.shape
    (36, 28, 3)
    """
    image = as_constant("image", image)
    if factor not in FACTORS or isinstance(factor, bool | float):
        raise InputError(f"factor must be one of {', '.join(map(str, FACTORS))}, got {factor!r}")
    operator = Downsample(factor, kernel)
    options.setdefault("sigma", 0.0)
    task = Task(
        "super_resolve",
        image,
        Layout.of(image, channel_axis=channel_axis, data_range=data_range, margin=_MARGIN),
        [operator],
        before=lambda y: ops.resize(
            y,
            (y.shape[-2] * operator.factor, y.shape[-1] * operator.factor),
            kernel="bicubic",
            channel_axis=1,
        ).clamp(0, 1),
        settings={"factor": operator.factor, "kernel": kernel},
    )
    return restore_images(task, **options)


@plain_modes()
def restore(
    measurement: Any,
    operator: Any,
    *,
    image_shape: tuple[int, ...] | None = None,
    channel_axis: int | None = None,
    data_range: DataRange = None,
    **options: Unpack[Options],
) -> Result:
    r"""Undo any degradation that you can write down: y = A(u) + noise.

    .. math:: \min_\theta \tfrac12 \| A f_\theta(z) - y \|^2
              + \lambda \, TV(f_\theta(z))

    in the stages of :func:`denoise`.

    Parameters
    ----------
    measurement
        y, an image as for :func:`denoise`.
    operator
        A: one of :mod:`dipfast.operators`, such as ``Blur(kernel)`` or
        ``Compose(Blur(kernel), Downsample(2))``; a physics of deepinv; or any differentiable
        ``torch.nn.Module`` or function of tensors (N, C, H, W) in [0, 1].  It is copied and not
        fitted.
    image_shape
        (H, W) of the result, or (channels, H, W), where a module or function does not keep the
        shape; None takes it from the operator, else from the measurement.
    channel_axis, data_range
        As for :func:`denoise`; the result has the same axes and range.
    **options
        As for :func:`denoise`; ``sigma`` is "auto" by default.

    Returns
    -------
    Result

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range, or the operator does not give the shape of the
        measurement; the message names it.

    Examples
    --------
    Deblurring:

    >>> import numpy as np
    >>> import dipfast
    >>> from dipfast.model.operators import Blur, gaussian_kernel
    >>> blurred = np.random.default_rng(0).random((48, 48), dtype=np.float32)
    >>> dipfast.restore(blurred, Blur(gaussian_kernel(1.6)), max_iterations=5).image.shape
    (48, 48)
    """
    measurement = as_constant("measurement", measurement)
    layout = Layout.form_of(measurement, channel_axis=channel_axis, name="measurement")
    y = layout.to_tensor(measurement)
    shape = _image_shape(image_shape, y)
    model = as_operator(operator, shape)
    before, of_white, of_grey = _probe(model, y, shape, layout)
    scales = bool(((of_grey - of_white / 2).abs() < _SAME_BRIGHTNESS).all())
    known = _known(model)
    layout = _range_for(of_white, scales, measurement, layout, data_range, known)
    if known is not None:
        measurement = as_constant("measurement", layout.filled(measurement, ~known))
    task = Task(
        "restore",
        measurement,
        layout,
        [model],
        before=before,
        settings={"operator": type(operator).__name__},
    )
    return restore_images(task, **options)


def _image_shape(image_shape: Any, y: Tensor) -> tuple[int, ...] | None:
    if image_shape is None:
        return None
    shape = tuple(image_shape)
    if len(shape) not in (2, 3) or not all(isinstance(n, int) and n > 0 for n in shape):
        raise InputError(
            f"image_shape must be (H, W) or (channels, H, W), positive, got {image_shape!r}"
        )
    return (y.shape[1], *shape) if len(shape) == 2 else shape


def _known(operator: LinearOperator) -> Any:
    """Return which pixels an operator lets through, boolean (N, C, H, W); None for all."""
    known = known_mask(operator)
    if known is None:
        return None
    array = known.detach().cpu().numpy()
    return array.reshape((1,) * (4 - array.ndim) + array.shape)


def _range_for(
    of_white: Tensor,
    scales: bool,
    measurement: Any,
    layout: Layout,
    data_range: DataRange,
    known: Any,
) -> Layout:
    """Return the layout with a value range in which the operator means the same as in the unit
    of the measurement.

    Where it keeps constants, as blurs do, black and white may be anything.  Where it does not,
    black has to be 0.  Where it makes white brighter, or is not linear, nobody can tell the range
    of the image from that of the measurement.

    ``of_white`` is what it makes of an image of ones, ``scales`` whether it makes half of that
    of half of them.
    """
    name = "measurement"
    if known is not None:
        of_white = of_white[torch.from_numpy(np.broadcast_to(known, of_white.shape).copy())]
    keeps_constants = scales and bool(((of_white - 1).abs() < _SAME_BRIGHTNESS).all())
    found = layout.with_range(
        measurement,
        data_range,
        known=known,
        margin=_MARGIN,
        from_zero=not keeps_constants,
        name=name,
    )
    if keeps_constants:
        return found
    least, most = float(of_white.min()), float(of_white.max())
    reason = (
        f"operator makes values from {least:.3g} to {most:.3g} of an image of ones"
        if scales
        else "operator is not linear"
    )
    tells_range = scales and least >= 0 and abs(most - 1) < _SAME_BRIGHTNESS
    if found.range_source == "data" and not tells_range:
        raise InputError(
            f"data_range is needed: {reason}, so the range of the image is not that of the "
            "measurement; data_range=R is the brightest value that the image may have"
        )
    if found.data_range[0] != 0:
        raise InputError(
            f"data_range must begin at 0, got {found.data_range}: {reason}, so black must be 0; "
            "subtract the offset of the measurement, or pass data_range=R"
        )
    return found


def _probe(
    model: LinearOperator, y: Tensor, shape: tuple[int, ...] | None, layout: Layout
) -> tuple[Any, Tensor, Tensor]:
    """Try the operator on one image.

    Returns what there is before a restoration (a function of the measurement: itself where it has
    the shape of an image, else its image under the adjoint), and what the operator makes of an
    image that is 1 everywhere, and of one that is 1/2.
    """
    try:
        image = model.adjoint(y[:1])
        result, half = model(torch.ones_like(image)), model(torch.full_like(image, 0.5))
    except Exception as error:
        wanted = "image_shape=None" if shape is None else f"image_shape={shape}"
        raise InputError(
            f"operator cannot be applied with measurement of shape {tuple(y.shape)} "
            f"and {wanted}, which tells the shape of the image: {error}"
        ) from error
    if not isinstance(result, Tensor) or result.shape != y[:1].shape:
        got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise InputError(
            f"operator must make measurements of shape {tuple(y[:1].shape)} of images of shape "
            f"{tuple(image.shape)}, got {got}; image_shape tells the shape of the image"
        )
    if shape is not None and tuple(image.shape[1:]) != shape:
        raise InputError(
            f"image_shape={shape[1:]} is not that of the operator, which takes images of "
            f"{tuple(image.shape[1:])}; leave it out"
        )
    if image.ndim != 4 or (layout.channel_axis is None and image.shape[1] != 1):
        raise InputError(
            f"operator must take images (1, C, H, W), with C = 1 for a measurement without "
            f"channels, got an adjoint of shape {tuple(image.shape)}"
        )
    made = result.detach().cpu(), half.detach().cpu()
    if image.shape == result.shape:
        return lambda y: y, *made
    return lambda y: torch.cat([model.adjoint(item[None]) for item in y]).clamp(0, 1), *made
