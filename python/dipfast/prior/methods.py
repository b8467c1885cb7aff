"""Express published methods, and variants of them, as sequences of stages of one loop."""

from __future__ import annotations

from dipfast.checks import check_choice
from dipfast.denoisers.registry import get_denoiser
from dipfast.prior.controls import DeepRED, DenoisedImage, Guide, NoiseLedWeight, StageImage
from dipfast.prior.stages import Control, Stage
from dipfast.settings.names import METHODS, Method

__all__ = ["make_stages"]

_SECOND_STAGE_CONTROLS: dict[str, Control] = {
    "two_stage_image": StageImage(1.0),
    "two_stage_blend": StageImage(0.5),
    "two_stage_input": StageImage(0.0, as_input=True),
}


def make_stages(method: Method, iterations: int, tv_weight: float) -> tuple[Stage, ...]:
    """Return the stages of a method.

    Parameters
    ----------
    method
        ``"two_stage"``: total variation for the first third, then without it ("It Takes
        Two to Better Denoise"); ``"dip"``: no total variation (Ulyanov et al. 2018);
        ``"dip_tv"``: total variation throughout (Liu et al. 2019).

        Variants: ``"two_stage_image"`` and ``"two_stage_blend"``: the second stage is fitted to
        the running average that the first ended with, or half to it and half to the measurement;
        ``"two_stage_input"``: that image becomes part of the network's input;
        ``"two_stage_adaptive"``: the second stage keeps total variation, its weight adapted until
        the residual has the variance of the noise;
        ``"tv_target"``: the first stage is fitted to the TV-denoised measurement;
        ``"adaptive_tv"``: total variation throughout, its weight adapted until the residual has
        the variance of the noise; ``"deep_red"``, ``"deep_red_nlm"``, ``"deep_red_bm3d"``,
        ``"deep_red_nl_ridge"``: regularisation by denoising inside the loop (Mataev et al. 2019),
        the denoiser being total variation, non-local means, BM3D or non-local ridge regression;
        ``"guided"``: a restored picture becomes part of the network's input.
    iterations
        Number of iterations of all stages together, from 1 up.
    tv_weight
        Weight lambda of total variation, from 0 up, in the stages that use it.

    Returns
    -------
    tuple of Stage
        One or two stages; a stage that would have no iterations is left out.

    Raises
    ------
    ValueError
        If the method is unknown.
    ImportError
        If the method needs a package that is missing.

    Examples
    --------
    >>> [(s.name, s.iterations) for s in make_stages("two_stage", 900, 0.1)]
    [('tv', 300), ('details', 600)]
    """
    check_choice("method", method, METHODS)
    if method == "dip":
        return (Stage("dip", iterations),)
    if method == "dip_tv":
        return (Stage("dip_tv", iterations, tv_weight),)
    if method == "guided":
        return (Stage("guided", iterations, control=Guide()),)
    if method == "adaptive_tv":
        return (Stage("adaptive_tv", iterations, tv_weight, NoiseLedWeight()),)
    if method.startswith("deep_red"):
        name = method.removeprefix("deep_red").removeprefix("_") or "tv"
        return (Stage("deep_red", iterations, control=DeepRED(get_denoiser(name))),)
    third = iterations // 3
    first = Stage("tv", third, tv_weight)
    if method == "tv_target":
        first = Stage("tv_target", third, control=DenoisedImage())
    second = Stage("details", iterations - third)
    if method == "two_stage_adaptive":
        second = Stage("details", iterations - third, tv_weight, NoiseLedWeight())
    if method in _SECOND_STAGE_CONTROLS and third > 0:
        second = Stage("details", iterations - third, control=_SECOND_STAGE_CONTROLS[method])
    return tuple(stage for stage in (first, second) if stage.iterations > 0)
