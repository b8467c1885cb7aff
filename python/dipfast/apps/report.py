"""Figures of a result: its curves, and images side by side.

They need matplotlib (``pip install "dipfast[plots]"``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dipfast.errors import InputError, MissingExtraError
from dipfast.images.files import write_atomically
from dipfast.run.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_plots", "draw_curves", "draw_side_by_side", "draw_strip"]


def check_plots() -> None:
    """Check that matplotlib is installed.

    Raises
    ------
    MissingExtraError
        If it is not; the message says how to install it.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("drawing needs matplotlib: pip install 'dipfast[plots]'") from error


def draw_curves(result: Result, path: str | Path, *, log_x: bool = False) -> None:
    """Draw objective, data term and, with a reference, PSNR over the iterations.

    Parameters
    ----------
    result
        The result of a restoration of one image.
    path
        The file to write, which is replaced if it exists; its suffix tells the format.
    log_x
        Whether the axis of the iterations is logarithmic; not by default.

    Raises
    ------
    MissingExtraError
        If matplotlib is missing.
    InputError
        If the result is that of a batch.
    """
    check_plots()
    from matplotlib.figure import Figure

    history = result.history
    if len(set(history.get("item", ()))) > 1:
        raise InputError("curves are drawn of one image, not of a batch")
    iterations = history["iteration"]
    panels = 2 if "psnr" in history else 1
    figure = Figure(figsize=(5.5 * panels, 3.8), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]

    loss = axes[0]
    loss.plot(iterations, history["loss"], label="objective", linewidth=1)
    loss.plot(iterations, history["data"], label="data term", linewidth=1)
    loss.set_yscale("log")
    loss.set_ylabel("per element")
    if panels == 2:
        psnr = axes[1]
        psnr.plot(iterations, history["psnr"], label="output", linewidth=1, alpha=0.6)
        psnr.plot(iterations, history["psnr_average"], label="running average", linewidth=1.5)
        psnr.axvline(result.best_iteration, color="green", linestyle=":", label="returned")
        psnr.axhline(result.metrics["psnr_input"], color="grey", linestyle=":", label="input")
        psnr.set_ylabel("PSNR (dB)")
    for axis in axes:
        for before, after, at in zip(history["stage"], history["stage"][1:], iterations[1:]):
            if before != after:
                axis.axvline(at - 0.5, color="black", linestyle="--", linewidth=1)
                axis.annotate(
                    f"end of stage '{before}'",
                    (at, 0.02),
                    xycoords=("data", "axes fraction"),
                    xytext=(3, 0),
                    textcoords="offset points",
                    fontsize="small",
                )
        axis.set_xlabel("iteration")
        axis.set_xscale("log" if log_x else "linear")
        axis.grid(alpha=0.3)
        axis.legend()
    _save(figure, path)


def draw_side_by_side(panels: Sequence[tuple[str, Any]], path: str | Path) -> None:
    """Draw images next to each other at full size, each under its title.

    Parameters
    ----------
    panels
        Pairs of title and image, at least one.  All images have the same size: arrays (H, W) or
        (H, W, 3), uint8 or float in [0, 1].
    path
        The file to write, which is replaced if it exists; its suffix tells the format.

    Raises
    ------
    MissingExtraError
        If matplotlib is missing.
    """
    check_plots()
    from matplotlib.figure import Figure

    height, width = panels[0][1].shape[:2]
    inches = 4.0 * width / max(height, width), 4.0 * height / max(height, width)
    figure = Figure(figsize=(inches[0] * len(panels), inches[1] + 0.4), layout="constrained")
    for axis, (title, image) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        brightest = 255 if str(image.dtype) == "uint8" else 1
        axis.imshow(image, cmap="gray", vmin=0, vmax=brightest, interpolation="nearest")
        axis.set_title(title)
        axis.set_axis_off()
    _save(figure, path)


def draw_strip(result: Result, path: str | Path, *, count: int = 8) -> None:
    """Draw snapshots of a fit next to each other, as in Figure A1 of the two-stage paper.

    Parameters
    ----------
    result
        The result of a restoration of one image, with ``snapshots``.
    path
        The file to write, which is replaced if it exists; its suffix tells the format.
    count
        The largest number of images.  They are spaced evenly on a logarithmic scale of iterations,
        and the first and the last are among them.  The default, 8, fits the width of a page.

    Raises
    ------
    MissingExtraError
        If matplotlib is missing.
    InputError
        If there are no snapshots, or snapshots of several images.
    """
    import numpy as np

    snapshots = result.snapshots
    if not snapshots or len({snapshot.item for snapshot in snapshots}) > 1:
        raise InputError("a strip is drawn of the snapshots of one image")
    times = np.log([snapshot.iteration for snapshot in snapshots])
    wanted = np.linspace(times[0], times[-1], count)
    chosen = sorted({int(np.abs(times - time).argmin()) for time in wanted})
    low, high = result.found["data_range"]
    panels = []
    for snapshot in (snapshots[k] for k in chosen):
        pixels = np.asarray(snapshot.image, dtype=float)
        if result.channel_axis is not None:
            pixels = np.moveaxis(pixels, result.channel_axis, -1)
            # Only three channels can be shown as red, green and blue.
            if pixels.shape[-1] != 3:
                pixels = pixels.mean(axis=-1)
        panels.append(
            (f"iteration {snapshot.iteration}", ((pixels - low) / (high - low)).clip(0, 1))
        )
    draw_side_by_side(panels, path)


def _save(figure: Figure, path: str | Path) -> None:
    path = Path(path)
    with write_atomically(path) as stream:
        figure.savefig(stream, format=path.suffix.removeprefix(".") or "png", dpi=150)
