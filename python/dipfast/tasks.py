"""The four tasks: denoise, inpaint, super-resolve, and restore with any operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dipfast import ops
from dipfast.arrays import as_constant, find_channel_axis, find_stack_axes
from dipfast.checks import DataRange
from dipfast.denoisers.plug_and_play import check_operator
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
    on_device,
)
from dipfast.run.batch import restore_images
from dipfast.run.prepare import Task, fit_device
from dipfast.run.result import Result
from dipfast.settings.describe import takes
from dipfast.settings.settings import (
    DenoiseSettings,
    InpaintSettings,
    RestoreSettings,
    SuperResolveSettings,
    decide_method,
    make_settings,
)
from dipfast.torch_modes import plain_modes
from dipfast.warn import warn_caller

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from dipfast.settings.types import (
        DenoiseOptions,
        InpaintOptions,
        RestoreOptions,
        SuperResolveOptions,
    )

__all__ = ["denoise", "inpaint", "restore", "super_resolve"]

# A sharp image has brighter and darker values than a measurement that averages them: a value range
# that is found in the data is extended by this share of its width at either end.
_MARGIN = 0.25
# Responses to constant images that differ less than this from what is expected are taken as equal.
_SAME_BRIGHTNESS = 1e-3
# Where an operator makes no more than this of images in [0, 1], gradients are so small that Adam's
# steps are, too: a smooth picture of 32x32 pixels comes to 40.6 dB in 150 iterations as it is, and
# times 0.1, 0.03, 0.01 and 0.001 to 37.0, 33.6, 29.9 (120 iterations) and 16.5.
_WEAK_RESPONSE = 0.05


@takes(DenoiseSettings)
@plain_modes()
def denoise(image: Any, **options: Unpack[DenoiseOptions]) -> Result:
    r"""Remove the noise from one image.

    By default estimates of different kinds are joined: the picture that
    :func:`dipfast.ops.nl_ridge` [3]_ makes in a second, and those of untrained networks
    :math:`f_\theta` that are given it and fitted to the image y,

    .. math:: \min_\theta \tfrac12 \| f_\theta(z) - y \|^2,

    weighted by what each is expected to err, which is measured without a clean picture
    (``result.members``, ``result.expected_psnr``).  ``quality="fast"`` is the first picture alone.
    Where the noise is not told, kind and strength are found in the image.

    ``method="two_stage"`` is the two-stage method [2]_, which whatever is said of a fit asks for,
    too: during the first third of the iterations :math:`\lambda \, TV(f_\theta(z))` is added, and
    left away then, so that details appear.  The running average of the outputs of the network is
    joined with the image, filtered by Wiener's filter (``refine``), so that what the network left
    out comes back where it is more than noise.

    Parameters
    ----------
    image
        An array (H, W) or with one more axis for the channels, or a tensor (H, W), (C, H, W)
        or (N, C, H, W), of integers or floats.  The images of a batch are restored one after the
        other; ``stack_axis`` names the axis of a stack, such as that of depth or time.
    {options}

    Returns
    -------
    Result
        The restored image in the form of the input, and how it was made.  Ctrl-C and SIGTERM end
        the fit with the best image so far; a second signal, more than a second later, raises
        KeyboardInterrupt.  Two seconds after SIGTERM the process ends, if the fit has not.

    Raises
    ------
    InputTypeError
        If an image does not hold real numbers.
    InputError
        If an argument is invalid, or layout or value range are ambiguous; the message names it.
    CheckpointMismatchError, DamagedCheckpointError
        If the checkpoint belongs to another run, or is damaged.
    WouldOverwriteError
        If there is a checkpoint already, and ``resume`` is False.
    MemoryLimitError
        If the fit takes more memory than is available; the message says what would fit.

    References
    ----------
    .. [1] Ulyanov, Vedaldi, Lempitsky, "Deep Image Prior", CVPR 2018, arXiv:1711.10925.
    .. [2] "It Takes Two to Better Denoise": total variation for a third of the iterations.
    .. [3] Herbreteau, Kervrann, "Towards a unified view of unsupervised non-local methods for image
       denoising: the NL-Ridge approach", ICIP 2022.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> noisy = np.random.default_rng(0).normal(128, 25, (32, 32)).clip(0, 255).astype("uint8")
    >>> result = dipfast.denoise(noisy, max_iterations=5)
    >>> result.image.shape, result.image.dtype, str(result.stop_reason)
    ((32, 32), dtype('uint8'), 'all iterations done')
    >>> dipfast.denoise(noisy, quality="fast").stop_detail
    'nl_ridge done'
    """
    settings = make_settings(DenoiseSettings, dict(options))
    image = as_constant("image", image)
    layout = Layout.of(
        image,
        channel_axis=settings.channel_axis,
        stack_axis=settings.stack_axis,
        data_range=settings.data_range,
        warns=False,  # before it is known whether the values will be stretched
    )
    return restore_images(Task(image, layout, [Identity()]), settings)


@takes(InpaintSettings)
@plain_modes()
def inpaint(image: Any, mask: Any = None, **options: Unpack[InpaintOptions]) -> Result:
    r"""Fill in missing pixels.

    The network is fitted to the known pixels of the image y, where m is 1, by solving

    .. math:: \min_\theta \tfrac12 \| m (f_\theta(z) - y) \|^2
              + \lambda \, TV(f_\theta(z)),

    in the stages of :func:`denoise`.  The other pixels are those of the network.

    With ``quality="fast"`` or ``method="pnp"`` no network is fitted: a denoiser and the known
    pixels take turns (:func:`dipfast.denoisers.plug_and_play.plug_and_play`), for seconds.  By
    default that picture is the first one, and the network's is joined with it, weighted by the
    error of some pixels that neither of the two saw (``result.members``); a fit that adds nothing
    is ended.  Where a hole is so wide that the first picture has nothing but a smooth transition,
    more than 4 to 12 pixels from the next known one, the network's is taken.

    Parameters
    ----------
    image
        As in :func:`denoise`; or a masked array, whose masked pixels are missing.  The values of
        missing pixels have no influence on the result.
    mask
        The missing pixels:

        - an array or tensor (H, W), or of the shape of the image, of which the axis of the channels
          may have length 1 or be left out, boolean or of numbers; values between the extremes, at
          soft edges, count as missing;
        - a number: pixels of this value in all channels are missing;
        - ``"alpha"``: the last of 2 or 4 channels is opacity, and pixels that are not opaque
          are missing; the result does not have that channel;
        - None, the default: only pixels that are NaN or masked, which are always missing.
    {options}

    Returns
    -------
    Result
        The image with the missing pixels filled in; ``raw_image`` is that of the network alone.

    Raises
    ------
    InputTypeError
        If image or mask is not an array or a tensor of real numbers.
    InputError
        If an argument is invalid, if the mask does not fit the image, or if it marks no pixel or
        all of them; the message names the argument.

    Warns
    -----
    UserWarning
        If the mask is likely inverted: if more than 95% of the pixels are missing; or more than
        half of them, with nearly all of the border, or with only thin lines and specks known.  If
        more than half of a mask of 8 bits is nearly black, as a JPEG makes it.

    Notes
    -----
    Total variation depends only on the edge of a hole, and fills it with constant values.  Its
    default weight is proportional to the noise, and to the share of the pixels that are known:
    without noise it is 0, and ``"two_stage"`` is plain DIP.

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
    >>> dipfast.inpaint(image, mask, quality="fast").stop_detail
    'pnp done'
    """
    settings = make_settings(InpaintSettings, dict(options))
    channel_axis, stack_axis = settings.channel_axis, settings.stack_axis
    whole, missing = resolve_mask(image, mask, settings.mask_marks, channel_axis, stack_axis)
    if whole.ndim < image.ndim:  # a grey image whose opacity was removed has no channels
        stack_axis = _without_channels(image, channel_axis, stack_axis)
        channel_axis = None
    without = np.flatnonzero(missing.all(axis=(1, 2, 3)))
    if without.size:
        raise InputError(
            f"mask says that all pixels of image {without[0]} of {len(missing)} are missing: "
            "nothing is known that it could be filled from; leave it out"
        )
    layout = Layout.of(
        whole,
        channel_axis=channel_axis,
        stack_axis=stack_axis,
        data_range=settings.data_range,
        known=~missing,
    )
    whole = as_constant("image", layout.filled(whole, missing))
    known = torch.from_numpy(np.ascontiguousarray(~missing))
    # One for all, or one for each image of a batch: a copy, as a pickled view carries all of them.
    masks = [known] if len(known) == 1 else [mask[None].clone() for mask in known]
    task = Task(
        whole,
        layout,
        [Mask(mask) for mask in masks],
        kept_mask=known if settings.keep_known else None,
        found={"missing": float(missing.mean())},
    )
    return restore_images(task, settings)


def _without_channels(image: Any, channel_axis: int | None, stack_axis: Any) -> Any:
    """Return the axes of a stack as they are in an image without its axis of channels."""
    if stack_axis is None:
        return None
    axes = find_stack_axes("image", image, stack_axis)
    removed = find_channel_axis("image", image, channel_axis, axes)
    return tuple(axis - (removed is not None and removed < axis) for axis in axes)


@takes(SuperResolveSettings)
@plain_modes()
def super_resolve(image: Any, factor: int, **options: Unpack[SuperResolveOptions]) -> Result:
    r"""Enlarge an image by a whole number.

    The network is fitted so that its image, made smaller again, is the image y, by solving

    .. math:: \min_\theta \tfrac12 \| D f_\theta(z) - y \|^2
              + \lambda \, TV(f_\theta(z))

    in the stages of :func:`denoise`.  D filters and down-samples
    (:class:`~dipfast.operators.Downsample`).

    With ``quality="fast"`` or ``method="pnp"`` no network is fitted: a denoiser and D take turns
    (:func:`dipfast.denoisers.plug_and_play.plug_and_play`), for seconds.  By default that picture
    is the first one, and the network's is joined with it, weighted by the error of some pixels of y
    that neither of the two saw; a fit that adds nothing is ended (``result.members``).

    Parameters
    ----------
    image
        The image y, as in :func:`denoise`.
    factor
        The factor of height and width: 2, 3, 4 or 8.
    {options}

    Returns
    -------
    Result
        The enlarged image, which has exactly ``factor`` times the rows and columns.

    Raises
    ------
    InputTypeError, InputError
        If an argument is invalid; the message names it.

    Notes
    -----
    ``tv_weight="auto"`` is at least 0.01: a little total variation in the first stage helps even
    without noise.

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
        stack_axis=settings.stack_axis,
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
    r"""Restore an image u from a measurement y = A(u) + noise, with any operator A.

    An untrained network is fitted to the measurement by solving

    .. math:: \min_\theta \tfrac12 \| A f_\theta(z) - y \|^2
              + \lambda \, TV(f_\theta(z))

    in the stages of :func:`denoise`.

    With ``method="pnp"`` no network is fitted: a denoiser and A, which has to be linear, take turns
    (:func:`dipfast.denoisers.plug_and_play.plug_and_play`), for seconds.  By default, where A is
    linear, that picture is the first one, and the network's is joined with it, weighted by the
    error of some elements of y that neither of the two saw; a fit that adds nothing is ended
    (``result.members``).

    Parameters
    ----------
    measurement
        The measurement y, an image as in :func:`denoise`.
    operator
        The operator A: one of :mod:`dipfast.operators`, such as ``Blur(kernel)`` or
        ``Compose(Blur(kernel), Downsample(2))``; a physics of deepinv; or any differentiable
        ``torch.nn.Module`` or function of tensors (N, C, H, W) in [0, 1].  It is copied,
        and its weights are not fitted.
    {options}

    Returns
    -------
    Result
        The restored image, with the axes and the value range of the measurement.

    Raises
    ------
    InputTypeError, InputError
        If an argument is invalid, the operator does not give the shape of the measurement, or
        it is not linear with ``method="pnp"``; the message names the argument.

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
    layout = Layout.form_of(
        measurement,
        channel_axis=settings.channel_axis,
        stack_axis=settings.stack_axis,
        name="measurement",
    )
    device = fit_device(settings, measurement)
    y = layout.to_tensor(measurement, "cpu")
    shape = _image_shape(settings.image_shape, y)
    model = as_operator(operator, shape)
    baseline, (white_response, grey_response, rough_response) = _probe(
        model, y, shape, layout, device
    )
    is_linear = bool(((grey_response - white_response / 2).abs() < _SAME_BRIGHTNESS).all())
    known = _known(model)
    if known is not None and not known.any():
        raise InputError(
            "operator has a mask that knows no pixel of the measurement: nothing is left that the "
            "image could be restored from"
        )
    seen = torch.stack([white_response, grey_response, rough_response])
    reach = min(0.0, float(seen.min())), max(1.0, float(seen.max()))
    strongest = float(seen.abs().max())
    is_weak = 0 < strongest < _WEAK_RESPONSE
    layout = _range_for(
        white_response, is_linear, measurement, layout, settings.data_range, known, reach, is_weak
    )
    if known is not None:
        measurement = as_constant("measurement", layout.filled(measurement, ~known))
    task = Task(
        measurement,
        layout,
        [model],
        baseline,
        found={"operator": type(operator).__name__},
        suits_direct=is_linear
        and decide_method(settings) == "joined"
        and _suits_pnp(model, baseline(y[:1])),
        reach=reach,
    )
    method = decide_method(settings)
    if is_weak and not (method == "pnp" or (method == "joined" and task.suits_direct)):
        warn_caller(
            f"operator makes values of {strongest:.1g} at most of images in [0, 1]: a network is "
            "fitted slowly to so little; multiply operator and measurement (and sigma) by "
            f"{1 / strongest:.2g} for the same image"
        )
    return restore_images(task, settings)


def _suits_pnp(operator: LinearOperator, image: Tensor) -> bool:
    """Return whether an operator is one for plug and play."""
    try:
        check_operator(on_device(operator, torch.device("cpu")), image)
    except InputError:
        return False
    except RuntimeError as error:
        # A function with tensors on the device of the fit: plug and play is on the CPU.
        if not _is_of_devices(error):
            raise
        return False
    return True


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
    """Return the pixels that an operator measures, boolean (N, C, H, W); None for all."""
    known = known_mask(operator)
    if known is None:
        return None
    array = known.detach().cpu().numpy()
    return array.reshape((1,) * (4 - array.ndim) + array.shape)


def _range_for(
    white_response: Tensor,
    is_linear: bool,
    measurement: Any,
    layout: Layout,
    data_range: DataRange,
    known: Any,
    reach: tuple[float, float],
    is_weak: bool,
) -> Layout:
    """Return the layout with a value range in which the operator acts as in the unit of the image.

    If the operator keeps constant images, as blurs do, black and white may have any value.  If it
    does not, black has to be 0.  If it makes white brighter, or is not linear, the range of the
    image cannot be found from that of the measurement.

    ``white_response`` is the response of the operator to an image that is 1 everywhere, and
    ``is_linear`` whether that to an image of 1/2 is half of it; measurements go as far as
    ``reach``, and with ``is_weak`` it is no wonder that they are close together.
    """
    name = "measurement"
    if known is not None:
        known_values = torch.from_numpy(np.broadcast_to(known, white_response.shape).copy())
        white_response = white_response[known_values]
    keeps_constants = is_linear and bool(((white_response - 1).abs() < _SAME_BRIGHTNESS).all())
    found = layout.with_range(
        measurement,
        data_range,
        known=known,
        margin=_MARGIN,
        from_zero=not keeps_constants,
        reach=reach,
        name=name,
        warns=not is_weak,
    )
    if keeps_constants:
        return found
    least, most = float(white_response.min()), float(white_response.max())
    reason = (
        f"operator makes values from {least:.3g} to {most:.3g} of an image of ones"
        if is_linear
        else "operator is not linear"
    )
    tells_range = is_linear and least >= 0 and abs(most - 1) < _SAME_BRIGHTNESS
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
    model: LinearOperator,
    y: Tensor,
    shape: tuple[int, ...] | None,
    layout: Layout,
    device: torch.device,
) -> tuple[Any, tuple[Tensor, Tensor, Tensor]]:
    """Apply the operator to some images on the device of the fit, and check the shapes.

    Returns a function from the measurement to the baseline (the measurement itself if it has the
    shape of the image, else its image under the adjoint), and the responses of the operator to
    images that are 1 everywhere, 1/2 everywhere, and 0 or 1 at random.
    """
    try:
        there = on_device(model, device)
        image = there.adjoint(y[:1].to(device))
        result, half = there(torch.ones_like(image)), there(torch.full_like(image, 0.5))
        generator = torch.Generator().manual_seed(0)
        rough = there(torch.rand(image.shape, generator=generator).round().to(image))
    except Exception as error:
        if _is_of_devices(error):
            raise InputError(
                f"operator must have its tensors on {device}, the device of the fit; weights and "
                f"buffers of modules are moved there, other tensors are not: {error}"
            ) from error
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
    if result.device != image.device:
        raise InputError(
            f"operator must make measurements on the device of the images, {image.device}, "
            f"got {result.device}"
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
    responses = result.detach().cpu(), half.detach().cpu(), rough.detach().cpu()
    if image.shape == result.shape:
        return lambda y: y, responses

    def baseline(y: Tensor) -> Tensor:
        there = on_device(model, device)
        images = [there.adjoint(item[None].to(device)).detach().to(y.device) for item in y]
        return torch.cat(images).clamp(0, 1)

    return baseline, responses


def _is_of_devices(error: Exception) -> bool:
    """Say whether torch refused tensors because they are on different devices."""
    text = str(error)
    # Convolutions name types instead of devices, torch.cuda.FloatTensor or MPSFloatType.
    of_one = any(text.count(name) == 1 for name in ("torch.cuda.", "MPS"))
    return "same device" in text or ("should be the same" in text and of_one)
