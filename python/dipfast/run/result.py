"""What a restoration returns."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dipfast.errors import InputError
from dipfast.images import files
from dipfast.stop_reason import StopReason

__all__ = ["Result"]


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """A restored image, and how it came about.

    Two results are equal only if they are the same object.

    Attributes
    ----------
    image
        The restored image, in the layout, dtype and value range of the input.
    history
        One list for each column, one entry for each iteration: ``iteration``, ``stage``
        (name), ``loss``, ``data`` and ``tv`` (terms of the objective divided by the number
        of elements) and, with a reference, ``psnr`` (of the output) and ``psnr_average``
        (of the running average), known pixels of inpainting put in.  For a batch, ``item``
        counts the images.
    stop_reason
        Why it ended; of a batch, why the last of its runs did.
    best_iteration
        The iteration that ``image`` is from, which the stop rule judged best; of a batch, that
        of the last image.  0 if there was none.
    settings
        The task and its settings as they were given: everything needed to run it again.
    found
        What was found in the image and decided, and where it ran, versions included.  Of a batch,
        lists have an entry for each image.
    stop_detail
        Why it ended, in words and with numbers.
    metrics
        With a reference: PSNR in dB of what there was before (``psnr_input``: the noisy image,
        the one with holes, its bicubic enlargement), of ``image`` (``psnr``)
        and the highest of the running average at any iteration, which only somebody who
        knows the reference could have picked (``psnr_oracle``, ``oracle_iteration``).
    channel_axis
        Of ``image``; None if it has no channels.
    raw_image
        What the network made: the same as ``image``, but for inpainting, which keeps the known
        pixels.
    best_loss, best_output
        The objective per element at the best iteration, and the output that it belongs to;
        ``image`` is the running average by then.
    stop_iteration, stop_image, stop_output
        The last iteration, the running average by then, and the output.
    snapshots
        Images on the way, if they were asked for.
    unfinished
        Why the image is likely worse than the one that came in, if the fit was ended before it
        was done (by a time limit, an interrupt, or a callback); None if there is no such reason.
    seconds
        How long it took.
    spikes, failures
        How often the loss leapt up, and how often it was not finite; the fit was taken back
        each time (:class:`dipfast.run.recovery.Recovery`).
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
    seconds: float = math.nan

    def __repr__(self) -> str:
        shape = tuple(self.image.shape)
        kind = f"{type(self.image).__name__} {shape}, {self.image.dtype}"
        metrics = "".join(f"\n  {name}: {value:.2f} dB" for name, value in self._ratios().items())
        return (
            f"<dipfast.Result: {self.settings.get('task', 'restoration')}, {kind}\n"
            f"  {self.stop_detail or self.stop_reason}; {self.summary()}{metrics}>"
        )

    def _ratios(self) -> dict[str, float]:
        return {name: value for name, value in self.metrics.items() if name.startswith("psnr")}

    def summary(self) -> str:
        """Return what was taken for granted and what was done, in one line."""
        settings = self.found
        parts = []
        if "data_range" in settings:
            low, high = settings["data_range"]
            source = settings.get("range_source", "given")
            words = {"dtype": settings.get("dtype"), "data": "found in the data"}
            parts.append(f"range {low:.6g} to {high:.6g} ({words.get(source, source)})")
        if settings.get("noise"):
            parts.append(_describe_noise(settings))
        if "missing" in settings:
            parts.append(f"{settings['missing']:.1%} missing")
        if "max_iterations" in settings:
            done, most = self.stop_iteration, settings["max_iterations"]
            parts.append(f"iteration {self.best_iteration} of {done}, of {most} at most")
        if math.isfinite(self.seconds):
            parts.append(f"{self.seconds:.3g} s")
        if self.unfinished is not None:
            parts.append(f"unfinished: {self.unfinished}")
        return "; ".join(parts)

    @property
    def psnr(self) -> float | None:
        """PSNR of the image in dB; None without a reference."""
        return self.metrics.get("psnr")

    def report(self) -> dict[str, Any]:
        """All but images and history, ready for JSON.

        JSON has no infinity and no NaN: they are None here, such as the PSNR of an image that
        equals its reference.
        """
        return {
            "stop_reason": str(self.stop_reason),
            "stop_detail": self.stop_detail,
            "best_iteration": self.best_iteration,
            "stop_iteration": self.stop_iteration,
            "spikes": self.spikes,
            "failures": self.failures,
            "unfinished": self.unfinished,
            "seconds": _finite(self.seconds),
            "metrics": _finite(self.metrics),
            "settings": _finite(self.settings),
            "found": _finite(self.found),
        }

    def save(
        self, path: str | Path, *, like: files.ImageFile | None = None, overwrite: bool = False
    ) -> None:
        """Write the image, and the report beside it under the same name and ``.json``.

        Parameters
        ----------
        path
            See :func:`dipfast.images.files.write_image`.
        like
            The file that the input came from, for its metadata.
        overwrite
            Whether existing files may be replaced.

        Raises
        ------
        FileExistsError, OSError, ValueError
            As :func:`dipfast.images.files.write_image` does; nothing is written then.
        """
        path = Path(path)
        files.check_output(path, report=True, overwrite=overwrite)
        image = self.image
        if not isinstance(image, np.ndarray):
            # NumPy has no bfloat16.
            image = (image.float() if "bfloat16" in str(image.dtype) else image).cpu().numpy()
        axis = self.channel_axis
        if image.ndim == 4:
            if len(image) > 1:
                raise InputError(f"a batch of {len(image)} images does not fit into one file")
            image, axis = image[0], None if axis is None else axis - 1
        text = json.dumps(self.report(), indent=2) + "\n"
        files.write_image(path, image, like=like, channel_axis=axis, overwrite=overwrite)
        report = files.report_path(path)
        with files.write_atomically(report, overwrite=overwrite) as stream:
            stream.write(text.encode())


def _describe_noise(settings: dict[str, Any]) -> str:
    """Say which noise was taken, of the first image of a batch, in the unit of the image."""
    model, (low, high) = settings["noise"][0], settings.get("data_range", (0, 1))
    source = settings.get("noise_source", "estimated")
    if model["sigma"] == model["gain"] == 0:
        return f"no noise ({source})"
    words = [f"noise {model['sigma'] * (high - low):.3g}"]
    if model["gain"] > 0:
        middle = math.sqrt(model["gain"] / 2 + model["sigma"] ** 2) * (high - low)
        words = [f"noise {middle:.3g} at medium brightness", "growing with the signal"]
    if model["low"] is not None or model["high"] is not None:
        words.append("clipped")
    more = " for the first image" if len(settings["noise"]) > 1 else ""
    return f"{', '.join(words)} ({source}{more})"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
