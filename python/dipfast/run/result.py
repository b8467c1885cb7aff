"""The result of a restoration."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from dipfast.errors import InputError
from dipfast.images import display, files
from dipfast.settings.noise import NoiseParameters, levels_in_words
from dipfast.stop_reason import StopReason

__all__ = ["LARGEST_IN_TABLE", "Member", "ReportError", "Result", "figures_of"]

LARGEST_IN_TABLE = 400
"""Rows and columns of the pictures beside the figures in a notebook, at most."""


class ReportError(OSError):
    """Say that an image was written, and that the report beside it could not be."""


@dataclass(frozen=True, eq=False)
class Member:
    """Hold one of the pictures that a result was joined of.

    Parameters
    ----------
    name
        What made it: ``"nl_ridge"`` or ``"pnp"``, with another speed than ``quality`` if that is
        named (``"nl_ridge, balanced"``) or ``"nl_ridge without its last pass"``; ``"guided"``, the
        mean of guided fits; ``"two_stage"``, the fit of the tasks other than denoising.
    image
        The picture, in the form of the result.
    weight
        Its weight, from 0 to 1.
    """

    name: str
    image: Any
    weight: float


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """Hold a restored image, and how it was made.

    Two results are equal only if they are the same object.

    Parameters
    ----------
    image
        The restored image, in the layout, dtype and value range of the input.
    history
        One list for each column, one entry for each iteration: ``iteration``, ``stage``
        (name), ``loss``, ``data`` and ``tv`` (the objective and its terms, divided by the number
        of measured elements) and, with a reference, ``psnr`` (of the output) and ``psnr_average``
        (of the running average), both in dB and, for inpainting, with the known pixels put in.
        The columns are empty for a method without iterations.
        For a batch there is a column ``item``, the number of the image, counted from 0.
    stop_reason
        Why the fit ended; for a batch, why the last of its fits did.
    best_iteration
        The iteration that ``image`` is from, which the stop rule judged best; for a batch, that
        of the last image.  0 if there was none.
    settings
        The task and its settings as they were given, everything needed to repeat the call.
    found
        What was found in the image, what was decided, and where it ran, including versions.  For a
        batch, lists have an entry for each image.
    stop_detail
        Why the fit ended, in words and with numbers.
    metrics
        With a reference: PSNR in dB of the baseline (``psnr_input``: the noisy image, the image
        with holes, its bicubic enlargement) and of ``image`` (``psnr``).  For a single image also
        that of the last running average (``psnr_stop``), and the highest of the running average
        at any iteration (``psnr_oracle``, at ``oracle_iteration``), which cannot be found without
        the reference.
    channel_axis
        The axis of the channels of ``image``; None if it has none.
    stack_axes
        The axes of ``image`` along which images are stacked; empty for a single image.
    shown_before
        The input as a notebook shows it beside the result, uint8 and small; None without one.
    raw_image
        The image of the method alone.  In denoising ``image`` is that one, with outliers as they
        were, and joined with the filtered input where ``refine`` says so;
        in inpainting it has the known pixels put in.
    best_loss
        The objective at the best iteration, divided by the number of measured elements.
    best_output
        The output of the network at the best iteration, in the form of ``image``; ``raw_image`` is
        the running average up to it.
    stop_iteration
        The last iteration; 0 if there was none.
    stop_image
        The running average at the last iteration, in the form of ``image``.
    stop_output
        The output of the network at the last iteration, in the form of ``image``.
    snapshots
        Running averages of some iterations (:class:`~dipfast.run.snapshots.Snapshot`), if they
        were asked for.
    spikes
        The number of iterations that were undone because the loss jumped up
        (:class:`dipfast.run.recovery.Recovery`).
    failures
        The number of iterations that were undone because the loss was not finite.
    unfinished
        Why the image is likely worse than the input, if the fit was ended early (by a time limit,
        an interrupt, or a callback); None if there is no such reason.
    hints
        What may be done for a better image, in words.
    seconds
        The time that the call took.
    members
        The pictures that ``image`` was joined of, with their weights (:class:`Member`); none for a
        single fit, for a method without a network, and for a batch.
    expected_psnr
        The PSNR in dB that ``image`` is expected to have, by what was measured without a clean
        picture, and by rounding where it holds integers; its peak is that of ``metrics``, and
        without a reference the width of the value range.  A rough number, too high where fine
        texture fills the picture.  None where nothing was measured, and for correlated noise.
    """

    image: Any
    history: dict[str, list[Any]]
    stop_reason: StopReason
    best_iteration: int
    settings: dict[str, Any]
    found: dict[str, Any]
    stop_detail: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    channel_axis: int | None = None
    stack_axes: tuple[int, ...] = ()
    shown_before: Any = None
    raw_image: Any = None
    best_loss: float = math.nan
    best_output: Any = None
    stop_iteration: int = 0
    stop_image: Any = None
    stop_output: Any = None
    snapshots: list[Any] = field(default_factory=list)
    spikes: int = 0
    failures: int = 0
    unfinished: str | None = None
    hints: tuple[str, ...] = ()
    seconds: float = math.nan
    members: tuple[Member, ...] = ()
    expected_psnr: float | None = None

    def __repr__(self) -> str:
        shape = tuple(self.image.shape)
        kind = f"{type(self.image).__name__} {shape}, {self.image.dtype}"
        metrics = "".join(f"\n  {name}: {value:.2f} dB" for name, value in self._ratios().items())
        return (
            f"<dipfast.Result: {self.settings.get('task', 'restoration')}, {kind}\n"
            f"  {self.stop_detail or self.stop_reason}; {self.summary()}{metrics}>"
        )

    def _repr_png_(self) -> bytes:
        """Return the image as PNG, for notebooks; of a batch, the first one."""
        return display.encode_png(self._shown())

    def _repr_html_(self) -> str:
        """Return input, image and figures, for notebooks; of a batch, those of the first one."""
        after = display.reduce(self._shown(), LARGEST_IN_TABLE)
        pictures = [("input", self.shown_before), ("restored image", after)]
        images = "".join(
            f"<img alt='{name}' title='{name}' src='data:image/png;base64,"
            f"{base64.b64encode(display.encode_png(pixels)).decode('ascii')}'>"
            for name, pixels in pictures
            if pixels is not None
        )
        rows = "".join(
            f"<tr><th style='text-align: left'>{escape(name)}</th>"
            f"<td style='text-align: left'>{escape(value)}</td></tr>"
            for name, value in figures_of(self)
        )
        return (
            "<div style='display: flex; flex-wrap: wrap; gap: 1em; align-items: flex-start'>"
            f"{images}<table>{rows}</table></div>"
        )

    def _shown(self) -> np.ndarray[Any, Any]:
        planes = display.to_planes(self.image, self.channel_axis, self.stack_axes)
        return display.to_8_bits(planes, display.range_of(planes, self.found))

    @property
    def image_count(self) -> int:
        """The number of images: 1, or that of a batch or stack."""
        shape = tuple(self.image.shape)
        axes = self.stack_axes or ((0,) if len(shape) == 4 else ())
        return math.prod(shape[axis] for axis in axes)

    def _ratios(self) -> dict[str, float]:
        return {name: value for name, value in self.metrics.items() if name.startswith("psnr")}

    def summary(self) -> str:
        """Return a summary in one line.

        Returns
        -------
        str
            Value range, noise, missing pixels, iterations or the method that has none, and time, as
            far as they are known.
        """
        settings = self.found
        parts = []
        if "data_range" in settings:
            low, high = settings["data_range"]
            source = settings.get("range_source", "given")
            words = {"dtype": settings.get("dtype"), "data": "found in the data"}
            parts.append(f"range {low:.6g} to {high:.6g} ({words.get(source, source)})")
        if settings.get("noise"):
            parts.append(_describe_noise(settings))
        neighbours = settings.get("neighbours")
        if neighbours and neighbours["planes"]:
            count, axis = neighbours["planes"], neighbours["axis"]
            parts.append(f"{count} planes to either side along axis {axis} help")
        if "missing" in settings:
            parts.append(f"{settings['missing']:.1%} missing")
        if "max_iterations" in settings:
            done, most = self.stop_iteration, settings["max_iterations"]
            returned = self.best_iteration
            other = "" if returned == done else f", returned {returned}"
            parts.append(f"stopped at {done} of {most}{other}")
        elif "speed" in settings:
            parts.append(f"{settings['method']}, {settings['speed']}")
        elif "steps" in settings:
            done, most = self.stop_iteration, settings["steps"]
            # Of a join without a fit the picture is that of no iteration.
            is_joined = settings["method"] == "joined"
            of_all = most if done == most or is_joined else f"{done} of {most}"
            parts.append(f"{settings['method']}, {of_all} steps")
        if self.expected_psnr is not None:
            parts.append(f"PSNR of {self.expected_psnr:.1f} dB expected")
        if math.isfinite(self.seconds):
            parts.append(f"{self.seconds:.3g} s")
        if self.unfinished is not None:
            parts.append(f"unfinished: {self.unfinished}")
        return "; ".join(parts)

    @property
    def psnr(self) -> float | None:
        """Return the PSNR of the image in dB; None without a reference."""
        return self.metrics.get("psnr")

    def report(self) -> dict[str, Any]:
        """Return everything except images and history, ready for JSON.

        Returns
        -------
        dict
            Reasons, numbers, metrics, settings and what was found.  Infinity and NaN, which JSON
            does not have, are None, such as the PSNR of an image that equals its reference.
        """
        return {
            "stop_reason": str(self.stop_reason),
            "stop_detail": self.stop_detail,
            "best_iteration": self.best_iteration,
            "stop_iteration": self.stop_iteration,
            "spikes": self.spikes,
            "failures": self.failures,
            "unfinished": self.unfinished,
            "hints": list(self.hints),
            "seconds": _finite(self.seconds),
            "members": {member.name: member.weight for member in self.members},
            "expected_psnr": _finite(self.expected_psnr),
            "metrics": _finite(self.metrics),
            "settings": _finite(self.settings),
            "found": _finite(self.found),
        }

    def save(
        self, path: str | Path, *, like: files.ImageFile | None = None, overwrite: bool = False
    ) -> None:
        """Write the image, or the stack, to a file, and the report beside it.

        The report has the name of the image with ``.json`` appended.

        Parameters
        ----------
        path
            The file to write; its suffix tells the format
            (:func:`dipfast.images.files.write_image`).
        like
            The file that the input came from, whose metadata and opacity are kept; None for none.
        overwrite
            Whether existing files may be replaced; not by default, so that no image is lost.

        Raises
        ------
        FileExistsError, OSError, ValueError
            As in :func:`dipfast.images.files.write_image`, and for a batch of several images, of
            which none of its axes was said to be that of a stack.  Nothing is written then, unless
            it is the report alone that could not be, as the message says.
        """
        path = Path(path)
        files.check_output(path, report=True, overwrite=overwrite)
        image = self.image
        axis, stack_axes = self.channel_axis, self.stack_axes
        if image.ndim == 4 and self.settings.get("stack_axis") is None:
            if len(image) > 1:
                raise InputError(
                    f"a batch of {len(image)} images does not fit into one file; stack_axis=0 "
                    "makes it a stack, which TIFF, NumPy, FITS and Zarr hold"
                )
            image, axis, stack_axes = image[0], None if axis is None else axis - 1, ()
        text = json.dumps(self.report(), indent=2) + "\n"
        files.write_image(
            path,
            image,
            like=like,
            channel_axis=axis,
            stack_axis=stack_axes or None,
            overwrite=overwrite,
        )
        report = files.report_path(path)
        try:
            with files.write_atomically(report, overwrite=overwrite) as stream:
                stream.write(text.encode())
        except OSError as error:
            raise ReportError(
                f"{path} is written, but its report {report.name} could not be: "
                f"{error.strerror or error}"
            ) from error


def figures_of(result: Result) -> list[tuple[str, str]]:
    """Return what is told of a result beside its image, as pairs of a name and a text.

    Parameters
    ----------
    result
        The result.

    Returns
    -------
    list of tuple of str
        Task, image, why it ended, what was found, PSNR, and what of the image is shown, as far as
        they are known.
    """
    image = result.image
    kind = f"{type(image).__name__} {tuple(image.shape)}, {image.dtype}"
    rows = [
        ("task", str(result.settings.get("task", "restoration"))),
        ("image", kind),
        ("end", result.stop_detail or str(result.stop_reason)),
        ("details", result.summary()),
    ]
    names = {
        "psnr_input": "PSNR of the input",
        "psnr": "PSNR",
        "psnr_stop": "PSNR of the last running average",
        "psnr_oracle": "highest PSNR of a running average",
    }
    for name, value in result.metrics.items():
        if name in names:
            at = result.metrics.get("oracle_iteration")
            where = f" (iteration {at:.0f})" if name == "psnr_oracle" and at is not None else ""
            rows.append((names[name] + where, f"{value:.2f} dB"))
    if result.expected_psnr is not None:
        rows.append(("expected PSNR", f"{result.expected_psnr:.1f} dB"))
    planes = display.to_planes(image, result.channel_axis, result.stack_axes)
    channels = display.channels_shown(planes.shape[2])
    count = result.image_count
    of_batch = f"the first of {count} images" if count > 1 else ""
    if of_batch or channels:
        rows.append(("shown", ", ".join(filter(None, (of_batch, channels)))))
    return [(name, value) for name, value in rows if value]


def _describe_noise(settings: dict[str, Any]) -> str:
    """Return a description of the noise of the first image, in the unit of the image.

    Of a stack it is that of the planes in common.
    """
    stack = settings.get("noise_of_stack")
    count = len(settings["noise"])
    own = [item for item in (stack["own"] if stack else []) if item < count]
    first = next((item for item in _shared(settings) if item < count), 0)
    model, (low, high) = settings["noise"][first], settings.get("data_range", (0, 1))
    source = settings.get("noise_source", "estimated")
    if model["sigma"] == model["gain"] == 0:
        return f"no noise ({source})"
    if settings.get("jpeg_quality") is not None:
        return f"artefacts of JPEG (quality {settings['jpeg_quality']})"
    width = high - low
    words = [f"noise {model['sigma'] * width:.3g} of {width:.6g}"]
    if model["gain"] > 0:
        typical = NoiseParameters(model["sigma"], model["gain"], offset=model.get("offset", 0.0))
        words = [f"noise {typical.typical_sigma * width:.3g} of {width:.6g} at medium brightness"]
        words.append("growing with the signal")
        if model.get("excess", 1.0) > 1:
            words.append("charges multiplied at random")
    if model.get("channel_levels") is not None:
        words.append(f"{levels_in_words(model['channel_levels'])} times that in the channels")
    if model.get("spectrum") is not None:
        words.append("correlated")
    elif model["gain"] == 0:
        words.append("white")
    if model["low"] is not None or model["high"] is not None:
        words.append("clipped")
    if any(settings.get("stretched", ())):
        words.append("high dynamic range, stretched")
    estimate = (settings.get("noise_estimate") or [None] * count)[first]
    if estimate is not None and estimate["outlier_share"] > 0:
        words.append(f"{estimate['outlier_share']:.2g} of the values outliers")
    more = " for the first image" if count > 1 else ""
    if stack:
        more = " for the whole stack"
        more += f", but for {len(own)} of {count} planes" if own else ""
    return f"{', '.join(words)} ({source}{more})"


def _shared(settings: dict[str, Any]) -> list[int]:
    """Return the planes of a stack that its noise is from, those without a noise of their own."""
    stack = settings.get("noise_of_stack")
    if not stack:
        return []
    return [item for item in stack["estimated_from"] if item not in stack["own"]]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
