"""Do one run of a picture, a variant and a seed, and measure its results."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from tqdm import tqdm

import dipfast
from benches.quality.paper.pictures import Picture
from dipfast.images.files import write_image
from dipfast.prior.loop import State

__all__ = ["measured", "run"]

Pixels: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

# A spike is a loss larger than 1.5 times the median of the last 50 losses. Those of 5 dB and more
# are undone before a callback sees them (dipfast.run.recovery); the result has their number.
_SPIKE, _WINDOW = 1.5, 50


def run(picture: Picture, options: dict[str, Any], measure: str, save: Path) -> dict[str, Any]:
    """Restore a picture, save the result, and measure it.

    Parameters
    ----------
    picture
        The picture to restore.
    options
        Options of the task; they take precedence over the arguments of the picture.
    measure
        ``"rgb"`` or ``"y"``, as for :func:`measured`.
    save
        Path of the result without its ending.

    Returns
    -------
    dict
        Entries of the row: iterations, PSNRs in dB, curves, spikes and settings.
    """
    watch = _Watch(save)
    start = time.perf_counter()
    with tqdm(unit="it", leave=False, desc=save.name) as bar:

        def observe(state: State) -> None:
            watch(state)
            bar.update()

        task = getattr(dipfast, picture.task)
        # The methods are compared by what their networks make, without the measurement joined in.
        refine = {"refine": False} if picture.task == "denoise" else {}
        result = task(
            picture.degraded,
            reference=picture.clean,
            callback=observe,
            **{"method": "two_stage", **refine, **picture.arguments, **options},
        )
    if not result.stop_reason.is_final:
        # No row is written, so that another call does this run again.
        raise KeyboardInterrupt(result.stop_detail)
    write(save.with_name(f"{save.name}.png"), result.image)
    history = result.history
    row: dict[str, Any] = {
        "iterations": result.stop_iteration,
        "best_iteration": result.best_iteration,
        "stop_reason": result.stop_detail,
        "seconds": time.perf_counter() - start,
        **_spikes(watch, result),
        "settings": result.settings,
        "found": result.found,
    }
    if picture.clean is not None:
        row |= {
            "psnr_before": measured(_before(picture), picture.clean, measure),
            "psnr": measured(result.image, picture.clean, measure),
            "psnr_rgb": measured(result.image, picture.clean, "rgb"),
            "ssim": _ssim(result.image, picture.clean),
            "psnr_oracle": result.metrics["psnr_oracle"],
            "oracle_iteration": result.metrics["oracle_iteration"],
            "psnr_last_output": history["psnr"][-1],
            "curve": [round(v, 2) for v in history["psnr"][9::10]],
            "curve_average": [round(v, 2) for v in history["psnr_average"][9::10]],
        }
        for name, region in picture.regions.items():
            row[f"psnr_{name}"] = within(result.image, picture.clean, region)
        if result.raw_image is not result.image:
            row["psnr_raw"] = measured(result.raw_image, picture.clean, measure)
        row["published"] = {
            name: measured(other, picture.clean, measure)
            for name, other in picture.published.items()
        }
    return row


def _spikes(watch: _Watch, result: Any) -> dict[str, Any]:
    """Return what was found of spikes, those included that were undone.

    An iteration that was undone has no image: the worst loss of PSNR is of those that stayed.
    """
    found, undone = watch.findings(), result.spikes + result.failures
    return {**found, "spikes": found["spikes"] + undone, "spikes_undone": undone}


def write(path: Path, pixels: Pixels) -> None:
    """Write a picture of shape (H, W) or (H, W, C)."""
    axis = None if pixels.ndim == 2 else 2
    write_image(path, pixels, channel_axis=axis, overwrite=True)


def measured(image: Pixels, clean: Pixels, measure: str) -> float:
    """Return the PSNR of pictures of 8 bits as in the papers, in dB.

    It is that of all channels for ``"rgb"``, and that of luma without 4 pixels of border for
    ``"y"``.
    """
    if measure == "y":
        cut = np.s_[4:-4, 4:-4]
        return _psnr(luma(image)[cut] - luma(clean)[cut])
    return _psnr(image.astype(float) - clean)


def within(image: Pixels, clean: Pixels, region: Pixels) -> float:
    """Return the PSNR within a region, in dB."""
    return _psnr((image.astype(float) - clean)[region])


def luma(pixels: Pixels) -> Pixels:
    """Return the luma of a picture, Y of YCbCr in studio range."""
    x = pixels.astype(float)
    grey = x if x.ndim == 2 else x @ np.array([0.299, 0.587, 0.114])
    return np.asarray(grey * 219 / 255 + 16)


def _psnr(error: Pixels) -> float:
    mse = float(np.mean(error**2))
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def _ssim(image: Pixels, clean: Pixels) -> float:
    """Return the SSIM of pictures of 8 bits, the mean over channels."""
    return float(dipfast.ops.ssim(image, clean, channel_axis=None if clean.ndim == 2 else 2))


def _before(picture: Picture) -> Pixels:
    """Return the picture before restoration, enlarged by bicubic interpolation if it is smaller."""
    return picture.published.get("bicubic", picture.degraded)


class _Watch:
    """Find spikes of the loss that were not undone, and save the image of each."""

    def __init__(self, save: Path) -> None:
        self.save = save
        self._losses: deque[float] = deque(maxlen=_WINDOW)
        self._psnrs: deque[float] = deque(maxlen=_WINDOW)
        self._spikes: list[dict[str, float]] = []

    def __call__(self, state: State) -> None:
        loss = float(state.terms.data)
        psnr = float(state.metrics.get("psnr", math.nan))
        last = self._spikes[-1]["iteration"] if self._spikes else -math.inf
        # A large loss at most ten iterations after a spike belongs to the same spike.
        if len(self._losses) == _WINDOW and state.iteration > last + 10:
            usual = statistics.median(self._losses)
            if loss > _SPIKE * usual:
                lost = statistics.median(self._psnrs) - psnr
                self._spikes.append(
                    {"iteration": state.iteration, "loss": loss, "usual": usual, "lost": lost}
                )
                name = f"{self.save.name}-spike-{state.iteration}.png"
                write(self.save.with_name(name), _pixels(state.image))
        self._losses.append(loss)
        self._psnrs.append(psnr)

    def findings(self) -> dict[str, Any]:
        worst = max((spike["lost"] for spike in self._spikes), default=0.0)
        return {"spikes": len(self._spikes), "psnr_lost": worst, "spike_list": self._spikes}


def _pixels(image: Any) -> Pixels:
    """Return the image of a state in 8 bits, of shape (H, W) or (H, W, 3)."""
    planes = (image[0].cpu().double() * 255).round().clamp(0, 255).byte().numpy()
    return np.asarray(planes[0] if len(planes) == 1 else np.moveaxis(planes, 0, -1))
