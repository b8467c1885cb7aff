"""One call for each task."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dipfast import ops
from dipfast.arrays import as_constant
from dipfast.checks import DataRange
from dipfast.errors import InputError
from dipfast.images.layout import Layout
from dipfast.images.masks import resolve_mask
from dipfast.model.operators import (
    Downsample,
    Identity,
    LinearOperator,
    Mask,
    as_operator,
    known_mask,
)
from dipfast.run.batch import restore_images
from dipfast.run.prepare import Task
from dipfast.run.result import Result
from dipfast.settings.describe import takes
from dipfast.settings.settings import (
    DenoiseSettings,
    InpaintSettings,
    RestoreSettings,
    SuperResolveSettings,
    make_settings,
)
from dipfast.torch_modes import plain_modes

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from dipfast.settings.types import (
        InpaintOptions,
        Options,
        RestoreOptions,
        SuperResolveOptions,
    )

__all__ = ["denoise", "inpaint", "restore", "super_resolve"]

# A sharp image is brighter and darker at some places than one that a lens or a pixel averaged:
# so many widths of the range, at either end, of a range that was found in the data.
_MARGIN = 0.25
# How near to 1 an operator has to keep an image of ones, to be one that keeps constants.
_SAME_BRIGHTNESS = 1e-3


@takes(DenoiseSettings)
@plain_modes()
def denoise(image: Any, **options: Unpack[Options]) -> Result:
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
    {options}

    Returns
    -------
    Result
        Ctrl-C and SIGTERM end the fit as well, and return the best so far (a second one, more
        than a second later, raises KeyboardInterrupt).  SIGTERM ends the process within two
        seconds, wherever it is stuck.

    Raises
    ------
    InputTypeError
        If an image does not hold real numbers.
    InputError
        If an argument is out of its range, or layout or value range are ambiguous; the
        message names it.
    CheckpointMismatchError, DamagedCheckpointError
        If the checkpoint is that of another run, or damaged.
    WouldOverwriteError
        If there is a checkpoint already, and ``resume`` is False.
    MemoryLimitError
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
    >>> result.image.shape, result.image.dtype, str(result.stop_reason)
    ((32, 32), dtype('uint8'), 'all iterations done')
    """
    settings = make_settings(DenoiseSettings, dict(options))
    image = as_constant("image", image)
    layout = Layout.of(image, channel_axis=settings.channel_axis, data_range=settings.data_range)
    return restore_images(Task(image, layout, [Identity()]), settings)


@takes(InpaintSettings)
@plain_modes()
def inpaint(image: Any, mask: Any = None, **options: Unpack[InpaintOptions]) -> Result:
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
    {options}

    Returns
    -------
    Result
        ``raw_image`` is the network's image, known pixels and all.

    Raises
    ------
    InputTypeError
        If image or mask do not hold real numbers.
    InputError
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
    settings = make_settings(InpaintSettings, dict(options))
    channel_axis = settings.channel_axis
    whole, missing = resolve_mask(image, mask, settings.mask_marks, channel_axis)
    if whole.ndim < image.ndim:  # grey with opacity has no axis of channels any more
        channel_axis = None
    layout = Layout.of(
        whole, channel_axis=channel_axis, data_range=settings.data_range, known=~missing
    )
    whole = as_constant("image", layout.filled(whole, missing))
    known = torch.from_numpy(np.ascontiguousarray(~missing))
    task = Task(
        whole,
        layout,
        [Mask(m[None]) for m in known],  # one for all, or one for each image of a batch
        kept_mask=known if settings.keep_known else None,
        found={"missing": float(missing.mean())},
    )
    return restore_images(task, settings)


@takes(SuperResolveSettings)
@plain_modes()
def super_resolve(image: Any, factor: int, **options: Unpack[SuperResolveOptions]) -> Result:
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
    {options}

    Returns
    -------
    Result
        ``image`` has exactly ``factor`` times the rows and columns.

    Raises
    ------
    InputTypeError, InputError
        If an argument is out of its range; the message names it.

    Notes
    -----
    ``tv_weight="auto"`` is 0.01 at least: a little total variation to begin with helps where
    there is no noise too.

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
    settings = make_settings(SuperResolveSettings, {"factor": factor, **options})
    image = as_constant("image", image)
    layout = Layout.of(
        image,
        channel_axis=settings.channel_axis,
        data_range=settings.data_range,
        margin=_MARGIN,
    )
    operator = Downsample(settings.factor, settings.kernel)
    return restore_images(Task(image, layout, [operator], _enlarged_by(factor)), settings)


def _enlarged_by(factor: int) -> Callable[[Tensor], Tensor]:
    """Return a function that enlarges measurements bicubically."""

    def enlarged(y: Tensor) -> Tensor:
        size = y.shape[-2] * factor, y.shape[-1] * factor
        large: Tensor = ops.resize(y, size, kernel="bicubic", channel_axis=1)
        return large.clamp(0, 1)

    return enlarged


@takes(RestoreSettings)
@plain_modes()
def restore(measurement: Any, operator: Any, **options: Unpack[RestoreOptions]) -> Result:
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
    {options}

    Returns
    -------
    Result
        ``image`` has the axes and the range of the measurement.

    Raises
    ------
    InputTypeError, InputError
        If an argument is out of its range, or the operator does not give the shape of the
        measurement; the message names it.

    Examples
    --------
    Deblurring:

    >>> import numpy as np
    >>> import dipfast
    >>> from dipfast.operators import Blur, gaussian_kernel
    >>> blurred = np.random.default_rng(0).random((48, 48), dtype=np.float32)
    >>> dipfast.restore(blurred, Blur(gaussian_kernel(1.6)), max_iterations=5).image.shape
    (48, 48)
    """
    settings = make_settings(RestoreSettings, dict(options))
    measurement = as_constant("measurement", measurement)
    layout = Layout.form_of(measurement, channel_axis=settings.channel_axis, name="measurement")
    y = layout.to_tensor(measurement)
    shape = _image_shape(settings.image_shape, y)
    model = as_operator(operator, shape)
    baseline, of_white, of_grey = _probe(model, y, shape, layout)
    scales = bool(((of_grey - of_white / 2).abs() < _SAME_BRIGHTNESS).all())
    known = _known(model)
    layout = _range_for(of_white, scales, measurement, layout, settings.data_range, known)
    if known is not None:
        measurement = as_constant("measurement", layout.filled(measurement, ~known))
    task = Task(measurement, layout, [model], baseline, found={"operator": type(operator).__name__})
    return restore_images(task, settings)


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
