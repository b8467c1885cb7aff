"""Figures of a result: its curves, and images side by side; and of the noise of an image.

They need matplotlib (``pip install "dipfast[plots]"``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dipfast.errors import InputError, MissingExtraError
from dipfast.images.files import check_place, write_atomically
from dipfast.noise_report import NoiseReport
from dipfast.run.result import Result
from dipfast.settings.noise import BAND_EDGES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dipfast.model.noise import NoiseModel
    from dipfast.run.snapshots import Snapshot

__all__ = [
    "check_figure",
    "check_plots",
    "choose_snapshots",
    "draw_curves",
    "draw_noise",
    "draw_side_by_side",
    "draw_strip",
]

# More values than these change no histogram, more pixels a side are not seen in a small picture,
# and more marks hide it.
_MOST_VALUES, _MOST_PIXELS, _MOST_MARKS, _MOST_CURVES = 1 << 20, 600, 2000, 5


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


def check_figure(path: str | Path, *, overwrite: bool = False) -> None:
    """Find out, before any work is done, whether a figure can be written there.

    Parameters
    ----------
    path
        The file.  Its suffix tells the format; without one it is PNG.
    overwrite
        Whether an existing file may be replaced; not by default.

    Raises
    ------
    MissingExtraError
        If matplotlib is missing.
    InputError
        If matplotlib does not write the format.
    OSError
        If the folder does not exist or cannot be written into, or there is something else of that
        name.
    WouldOverwriteError
        If the file exists, and may not be replaced.
    """
    check_plots()
    from matplotlib.backend_bases import FigureCanvasBase

    path = Path(path)
    # PGF needs TeX, which may not be there, and then fails only after the work.
    formats = FigureCanvasBase.get_supported_filetypes().keys() - {"pgf"}
    suffixes = sorted(f".{name}" for name in formats)
    if path.suffix not in ("", ".") and path.suffix.lower() not in suffixes:
        raise InputError(f"figures are written as {', '.join(suffixes)}, got {path}")
    check_place(path, overwrite=overwrite)


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
    # Of tiles, every row is one of them: only they have a weight, and none is a stage.
    has_tiles = "weight" in history
    stages = () if has_tiles else history["stage"]
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
        # What is joined, and a picture of tiles, is that of no iteration.
        if not (result.members or has_tiles):
            psnr.axvline(result.best_iteration, color="green", linestyle=":", label="returned")
        psnr.axhline(result.metrics["psnr_input"], color="grey", linestyle=":", label="input")
        psnr.set_ylabel("PSNR (dB)")
    for axis in axes:
        for before, after, at in zip(stages, stages[1:], iterations[1:]):
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
        raise InputError("a strip is drawn of the snapshots of one image; tiles have none")
    low, high = result.found["data_range"]
    panels = []
    for snapshot in choose_snapshots(snapshots, count):
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


def choose_snapshots(snapshots: Sequence[Snapshot], count: int = 8) -> list[Snapshot]:
    """Return some snapshots, spaced evenly on a logarithmic scale of iterations.

    Parameters
    ----------
    snapshots
        All of them, of one image, at least one, in the order of their iterations.
    count
        The largest number that is returned.

    Returns
    -------
    list of Snapshot
        The first, the last, and some between.
    """
    import numpy as np

    times = np.log([snapshot.iteration for snapshot in snapshots])
    wanted = np.linspace(times[0], times[-1], count)
    chosen = sorted({int(np.abs(times - time).argmin()) for time in wanted})
    return [snapshots[number] for number in chosen]


def draw_noise(report: NoiseReport, image: Any, path: str | Path) -> None:
    """Draw what an image tells of its noise.

    There are four panels: the histogram of the values with the ends of the range; the standard
    deviation of the noise over spatial frequency, beside that of white noise of the same strength;
    the image with its outliers marked; and the standard deviation over brightness, according to the
    model.

    Parameters
    ----------
    report
        What :func:`dipfast.estimate_noise` returned.
    image
        The image that it was told of.
    path
        The file to write, which is replaced if it exists; its suffix tells the format.

    Raises
    ------
    MissingExtraError
        If matplotlib is missing.
    InputError
        If the image is not of the shape that the report is about.
    """
    check_plots()
    import numpy as np
    from matplotlib.figure import Figure

    if not isinstance(image, np.ndarray):
        image = image.detach().cpu().double().numpy()
    axis = report.channel_axis
    if image.ndim != (2 if axis is None else 3):
        raise InputError(f"image is not the one of the report, got shape {tuple(image.shape)}")
    planes = image[..., None] if axis is None else np.moveaxis(image, axis, -1)
    figure = Figure(figsize=(10, 7.6), layout="constrained")
    histogram, spectrum, picture, brightness = figure.subplots(2, 2).ravel()
    figure.suptitle("\n".join(report.lines()[:2]), fontsize="medium")
    _draw_histogram(histogram, report, planes)
    _draw_spectrum(spectrum, report)
    _draw_outliers(picture, report, planes)
    _draw_brightness(brightness, report)
    for panel in (histogram, spectrum, brightness):
        panel.grid(alpha=0.3)
    _save(figure, path)


def _draw_histogram(axes: Any, report: NoiseReport, planes: Any) -> None:
    import numpy as np

    colours = ("red", "green", "blue") if planes.shape[-1] == 3 else ("black",)
    values = planes.reshape(-1, planes.shape[-1])[
        :: max(len(planes) * planes.shape[1] // _MOST_VALUES, 1)
    ]
    low, high = float(planes.min()), float(planes.max())
    whole = planes.dtype.kind in "iu" and high - low < 2 * 256
    edges = (
        np.arange(low - 0.5, high + 1) if whole else np.histogram_bin_edges((), 256, (low, high))
    )
    groups = values.T if len(colours) == 3 else [values.ravel()]
    for colour, group in zip(colours, groups):
        axes.stairs(np.histogram(group, edges)[0], edges, color=colour, linewidth=1)
    for end, cut in zip(report.data_range, report.clipped):
        axes.axvline(
            end,
            color="grey",
            linestyle="-" if cut else ":",
            label="clipped here" if cut else "end of the range",
        )
    axes.set_yscale("log")
    axes.set_title("values")
    axes.set_xlabel("value")
    axes.set_ylabel("number")
    # Both ends may have the same label.
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles))
    axes.legend(unique.values(), unique.keys())


def _draw_spectrum(axes: Any, report: NoiseReport) -> None:
    rows = report.model.spectrum or ()
    names = ("R + G + B", "R - B", "R - 2 G + B") if len(rows) == 3 else ("noise",) * len(rows)
    for name, row in zip(names, rows):
        axes.stairs([report.sigma * level for level in row], BAND_EDGES, label=name, baseline=None)
    axes.axhline(report.sigma, color="grey", linestyle=":", label="white noise")
    axes.set_xlim(BAND_EDGES[0], BAND_EDGES[-1])
    axes.set_ylim(bottom=0)
    axes.set_title("noise over spatial frequency")
    axes.set_xlabel("cycles a pixel")
    axes.set_ylabel("standard deviation")
    axes.legend()


def _draw_outliers(axes: Any, report: NoiseReport, planes: Any) -> None:
    import numpy as np

    height, width, channels = planes.shape
    step = max(-(-max(height, width) // _MOST_PIXELS), 1)
    low, high = report.data_range
    shown = ((planes[::step, ::step].astype(float) - low) / (high - low)).clip(0, 1)
    # Only three channels can be shown as red, green and blue.
    shown = shown if channels == 3 else shown.mean(axis=-1)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=1, extent=extent)
    axes.set_title("no outliers that stand alone")
    axes.set_axis_off()
    if report.outliers is None:
        return
    marked = report.outliers if isinstance(report.outliers, np.ndarray) else report.outliers.cpu()
    marked = np.asarray(marked)
    if report.channel_axis is not None:
        marked = np.asarray(marked.any(axis=report.channel_axis))
    at = np.argwhere(marked)
    at = at[:: max(-(-len(at) // _MOST_MARKS), 1)]
    axes.scatter(at[:, 1], at[:, 0], s=30, facecolors="none", edgecolors="red", linewidths=0.8)
    axes.set_title(f"outliers that stand alone: {int(marked.sum())}")


def _draw_brightness(axes: Any, report: NoiseReport) -> None:
    import torch

    low, high = report.data_range
    clean = torch.linspace(0, 1, 256, dtype=torch.float64)
    values = (low + clean * (high - low)).numpy()
    factor = 0 if report.model.is_free else high - low
    of_channels: list[tuple[NoiseModel, str | None, str | None]] = [(report.model, "black", None)]
    if report.model.channel_levels is not None:
        numbers = range(min(len(report.model.channel_levels), _MOST_CURVES))
        of_channels = [(report.model.of_channels([k]), None, f"channel {k}") for k in numbers]
    for model, colour, label in of_channels:
        spread = model.variance(clean).sqrt() * factor
        axes.plot(values, spread.numpy(), color=colour, linewidth=1.5, label=label)
    if len(of_channels) > 1:
        axes.legend()
    axes.set_ylim(bottom=0)
    axes.set_title("noise over brightness")
    axes.set_xlabel("value without noise")
    axes.set_ylabel("standard deviation")


def _save(figure: Figure, path: str | Path) -> None:
    path = Path(path)
    with write_atomically(path) as stream:
        figure.savefig(stream, format=path.suffix.removeprefix(".") or "png", dpi=150)
