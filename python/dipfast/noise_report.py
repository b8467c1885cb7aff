"""What an image alone tells of its noise, in the unit of the image and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

from torch import Tensor

from dipfast.arrays import as_constant
from dipfast.checks import DataRange, check_choice
from dipfast.errors import InputError
from dipfast.images.layout import Layout
from dipfast.model.noise import NoiseModel
from dipfast.model.noise_estimate import NoiseEstimate
from dipfast.model.noise_estimate import estimate_noise as estimate_noise_of_planes
from dipfast.model.noise_spectrum import autocorrelation
from dipfast.model.stack_noise import estimate_stack_noise
from dipfast.model.stretch import needs_stretch
from dipfast.settings.names import NOISE_KINDS, NoiseKind
from dipfast.settings.noise import levels_in_words
from dipfast.torch_modes import plain_modes

__all__ = ["NoiseReport", "estimate_noise"]

Kind: TypeAlias = Literal["none", "white", "grows with the signal", "correlated"]

# So many planes are named at most.
_MOST_NAMED = 10
# Distances in pixels at which the autocorrelation is told.
_DISTANCES = (1, 2, 3, 4)


@dataclass(frozen=True, eq=False, repr=False)
class NoiseReport:
    """Hold what an image alone tells of its noise, in the unit of the image.

    Two reports are equal only if they are the same object.

    Parameters
    ----------
    model
        The noise, in units of a picture in [0, 1].  With ``noise=report.model,
        data_range=report.data_range`` a task takes it as it is.
    interval
        Ends of the interval in which :attr:`sigma` lies in nine of ten random choices of parts of
        the image (bootstrap); both are sigma where none was found.  It says nothing of what
        misleads the estimate everywhere, such as texture.
    data_range
        The values that stand for 0 and 1 of the model.
    range_source
        Where the range is from: ``"given"``, ``"dtype"`` (8 bits) or ``"data"`` (the least and
        the largest value).
    levels
        The standard deviation according to each of several estimators, by name.
    outliers
        Which values are outliers that stand alone, such as hot and dead pixels: boolean, of the
        form of the image; None where there are none.
    stripes
        Standard deviations of offsets of whole rows, and of whole columns; 0 where they do not
        stand out.
    quantised
        Whether the image looks as if JPEG had taken details away.
    remarks
        What a user should know, in words.
    channel_axis
        The axis of the channels of the image; None if it has none.
    planes
        Of a stack, the numbers of the planes that were looked at together, counted from 0; empty
        for a single image.  ``outliers`` is None then.
    differing
        Of a stack, the numbers of the planes whose noise is clearly another one.

    Examples
    --------
    >>> report = NoiseReport(NoiseModel(0.05, high=1.0), (9.5, 10.4), data_range=(0.0, 200.0))
    >>> report.sigma, report.kind, report.clipped
    (10.0, 'white', (False, True))
    >>> report
    <dipfast.NoiseReport: noise 10.0 of 200 (9.50 to 10.4), white, clipped at white>
    """

    model: NoiseModel
    interval: tuple[float, float]
    data_range: tuple[float, float] = (0.0, 1.0)
    range_source: str = "given"
    levels: dict[str, float] = field(default_factory=dict)
    outliers: Any = None
    stripes: tuple[float, float] = (0.0, 0.0)
    quantised: bool = False
    remarks: tuple[str, ...] = ()
    channel_axis: int | None = None
    planes: tuple[int, ...] = ()
    differing: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return "<dipfast.NoiseReport: {}>".format("\n  ".join(self.lines()))

    @property
    def sigma(self) -> float:
        """The standard deviation at medium brightness, before clipping, in the unit of the image.

        Where the noise does not grow with the signal, it is the same at any brightness.
        """
        return self.model.typical_sigma * self._width

    @property
    def kind(self) -> Kind:
        """The kind: ``"none"``, ``"white"``, ``"grows with the signal"`` or ``"correlated"``."""
        if self.model.is_free:
            return "none"
        if self.model.is_correlated:
            return "correlated"
        return "grows with the signal" if self.model.gain > 0 else "white"

    @property
    def clipped(self) -> tuple[bool, bool]:
        """Whether noise is cut off at the low and at the high end of the range."""
        return self.model.low is not None, self.model.high is not None

    @property
    def autocorrelation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The correlation of the noise of pixels 1, 2, 3 and 4 apart, along rows and columns.

        It follows from the spectrum of the model, and is 0 where that is None.
        """
        spectrum = self.model.spectrum
        if spectrum is None:
            return (0.0,) * len(_DISTANCES), (0.0,) * len(_DISTANCES)
        return (
            tuple(autocorrelation(spectrum, 0, distance) for distance in _DISTANCES),
            tuple(autocorrelation(spectrum, distance, 0) for distance in _DISTANCES),
        )

    @property
    def outlier_share(self) -> float:
        """The share of the values that are outliers, from 0 to 1."""
        count: int = 1 if self.outliers is None else math.prod(self.outliers.shape)
        return self._outlier_count / count

    @property
    def _width(self) -> float:
        return self.data_range[1] - self.data_range[0]

    @property
    def _outlier_count(self) -> int:
        return 0 if self.outliers is None else int(self.outliers.sum())

    def lines(self) -> list[str]:
        """Return what was found as sentences for people.

        Returns
        -------
        list of str
            Strength and kind of the noise; then what there is of correlation, stripes, outliers,
            other estimates and remarks, a line for each.
        """
        lines = [self._describe_noise()]
        if self.kind == "correlated":
            lines.append(self._describe_correlation())
        stripes = [
            f"{name} {_number(level)}"
            for name, level in zip(("rows", "columns"), self.stripes)
            if level > 0
        ]
        if stripes:
            lines.append(f"stripes: {', '.join(stripes)}")
        if self._outlier_count:
            what = "pixel" if self.channel_axis is None else "value"
            lines.append(
                f"outliers that stand alone: {self._outlier_count} {what}"
                f"{'s' * (self._outlier_count > 1)} ({100 * self.outlier_share:.2g}%)"
            )
        others = [
            f"{name} {_number(level)}"
            for name, level in self.levels.items()
            if not math.isclose(level, self.sigma, rel_tol=1e-6)
        ]
        if others:
            lines.append(f"by other estimators: {', '.join(others)}")
        if self.planes:
            lines.append(f"estimated from {len(self.planes)} planes together")
        if self.differing:
            named = ", ".join(str(item + 1) for item in self.differing[:_MOST_NAMED])
            named += ", ..." if len(self.differing) > _MOST_NAMED else ""
            lines.append(f"clearly another noise: {len(self.differing)} planes ({named})")
        return [*lines, *self.remarks]

    def _describe_noise(self) -> str:
        """Return strength and kind of the noise."""
        if self.kind == "none":
            return "no noise"
        parts = [f"noise {_number(self.sigma)} of {self._width:.6g}"]
        if self.model.gain > 0:
            parts[0] += " at medium brightness"
        low, high = self.interval
        if low < high:
            parts[0] += f" ({_number(low)} to {_number(high)})"
        if self.model.channel_levels is not None:
            parts.append(f"{levels_in_words(self.model.channel_levels)} times that in the channels")
        parts.append(self.kind)
        ends = [name for name, cut in zip(("black", "white"), self.clipped) if cut]
        if ends:
            parts.append(f"clipped at {' and '.join(ends)}")
        return ", ".join(parts)

    def _describe_correlation(self) -> str:
        """Return how similar the noise of pixels is that lie side by side."""
        rows, columns = self.autocorrelation
        first, other = f"{rows[0]:.2f}", f"{columns[0]:.2f}"
        where = "rows and columns" if first == other else f"rows, {other} along columns"
        second = f"{(rows[1] + columns[1]) / 2:.2f}"
        return f"correlation of neighbours {first} along {where}; {second} at distance 2"

    def report(self) -> dict[str, Any]:
        """Return everything except which values are outliers, ready for JSON.

        Returns
        -------
        dict
            The attributes by name.  ``"outliers"`` is their number, and ``"model"`` has the
            parameters of the model, in units of a picture in [0, 1].
        """
        rows, columns = self.autocorrelation
        return {
            "kind": self.kind,
            "sigma": self.sigma,
            "interval": list(self.interval),
            "levels": dict(self.levels),
            "data_range": list(self.data_range),
            "range_source": self.range_source,
            "clipped": dict(zip(("low", "high"), self.clipped)),
            "autocorrelation": {"rows": list(rows), "columns": list(columns)},
            "stripes": dict(zip(("rows", "columns"), self.stripes)),
            "outliers": self._outlier_count,
            "outlier_share": self.outlier_share,
            "quantised": self.quantised,
            "remarks": list(self.remarks),
            "planes": list(self.planes),
            "differing": list(self.differing),
            "model": asdict(self.model),
        }


@plain_modes()
def estimate_noise(
    image: Any,
    *,
    noise: NoiseKind = "auto",
    channel_axis: int | None = None,
    stack_axis: int | tuple[int, ...] | None = None,
    data_range: DataRange = None,
) -> NoiseReport:
    """Tell the noise of one image, or of one stack, from the image alone.

    It is what :func:`dipfast.denoise` finds in the same image (but where that has a high dynamic
    range and is stretched for the fit), and takes seconds where a fit takes minutes.

    Parameters
    ----------
    image
        An array (H, W) or with one more axis for the channels, or a tensor (H, W) or (C, H, W), of
        integers or floats.
    noise
        The kind of noise to look for, as in :func:`dipfast.denoise`: ``"gaussian"``,
        ``"clipped"``, ``"poisson_gaussian"``, ``"correlated"`` or, the default, ``"auto"``: what
        the image looks like.
    channel_axis
        The axis of the channels; None recognises up to four channels at the end or in front of the
        pixels, and any number in front of the pixels of a tensor.
    stack_axis
        The axis of a stack, or several, whose noise is told as one; None for a single image.
    data_range
        R for values from 0 to R, or a pair (darkest, brightest), in the unit of the image.  None,
        the default, means 0 to 255 for uint8, and from the least to the largest value for other
        dtypes.

    Returns
    -------
    NoiseReport
        Strength, kind and spectrum of the noise, clipping, outliers and stripes.

    Raises
    ------
    InputTypeError
        If the image does not hold real numbers.
    InputError
        If an argument is invalid, the image is a batch, or layout or value range are ambiguous; if
        the image is not constant and has at most three rows and columns.

    Notes
    -----
    How each is found is told in :func:`dipfast.model.noise_estimate.estimate_noise`.
    :func:`dipfast.ops.estimate_noise` is a single number, from the finest details alone.

    Examples
    --------
    >>> import numpy as np
    >>> import dipfast
    >>> clean = np.linspace(60, 200, 64).repeat(64).reshape(64, 64)
    >>> noisy = clean + np.random.default_rng(0).normal(0, 12, clean.shape)
    >>> report = dipfast.estimate_noise(noisy, data_range=255)
    >>> report.kind, bool(11 < report.sigma < 13)
    ('white', True)
    >>> dipfast.denoise(
    ...     noisy, noise=report.model, data_range=report.data_range, max_iterations=5
    ... ).image.shape
    (64, 64)
    """
    check_choice("noise", noise, NOISE_KINDS)
    image = as_constant("image", image)
    if image.ndim == 4 and stack_axis is None:
        raise InputError(
            f"image must be one image, got a batch of shape {tuple(image.shape)}; the noise of "
            "each is told by itself, such as image[0]"
        )
    layout = Layout.of(
        image,
        channel_axis=channel_axis,
        stack_axis=stack_axis,
        data_range=data_range,
        warns=False,  # before it is known whether denoising will stretch the values
    )
    planes = layout.to_tensor(image)
    if layout.is_stack:
        stack = estimate_stack_noise(planes, noise, ends=layout.ends)
        models = [stack.own.get(item, stack.shared).model for item in range(len(planes))]
        _warn_of_contrast(image, layout, planes, models)
        differ = (item for item, own in stack.own.items() if not own.model.is_free)
        report = _report_of(stack.shared, layout)
        return replace(report, planes=stack.planes, differing=tuple(sorted(differ)))
    estimate = estimate_noise_of_planes(planes[0], noise, ends=layout.ends)
    _warn_of_contrast(image, layout, planes, [estimate.model])
    return _report_of(estimate, layout)


def _warn_of_contrast(
    image: Any, layout: Layout, planes: Tensor, models: Sequence[NoiseModel]
) -> None:
    """Warn of values close together, unless they will be stretched for the fit."""
    if not all(
        not model.is_correlated and needs_stretch(plane[None], model)
        for plane, model in zip(planes, models)
    ):
        layout.warn_of_contrast(image)


def _report_of(estimate: NoiseEstimate, layout: Layout) -> NoiseReport:
    """Return an estimate, which is in units of a picture in [0, 1], in the unit of the image."""
    width = layout.data_range[1] - layout.data_range[0]
    model, outliers = estimate.model, estimate.outliers
    # The interval is that of the part of the noise that does not grow with the signal; the other
    # part is as uncertain.
    sigma = model.typical_sigma * width
    ends = [end / model.sigma if model.sigma > 0 else 1.0 for end in estimate.interval]
    return NoiseReport(
        model=model,
        interval=(float(ends[0]) * sigma, float(ends[1]) * sigma),
        data_range=layout.data_range,
        range_source=layout.range_source,
        levels={name: float(level) * width for name, level in estimate.levels.items()},
        outliers=None if outliers is None else layout.of_planes(outliers[None].cpu().numpy()),
        stripes=(float(estimate.stripes[0]) * width, float(estimate.stripes[1]) * width),
        quantised=estimate.quantised,
        remarks=estimate.remarks,
        channel_axis=layout.channel_axis,
    )


def _number(value: float) -> str:
    """Return a number with three digits that count, and without an exponent where it is short."""
    if 1000 <= abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:#.3g}".rstrip(".")
