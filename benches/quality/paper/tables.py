"""Make Markdown tables and figures from the rows of the runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benches.quality.paper.experiments import Experiment
from dipfast.apps.report import draw_side_by_side
from dipfast.images.files import read_image, write_atomically

__all__ = ["draw", "table"]

Rows: TypeAlias = Sequence[dict[str, Any]]


def table(experiment: Experiment, rows: Rows) -> str:
    """Return a line for each picture and columns for each variant, as means over the seeds."""
    pictures = list(dict.fromkeys(row["picture"] for row in rows))
    variants = [name for name in experiment.variants if any(r["variant"] == name for r in rows)]
    # Bicubic enlargement is not among the published results: it is the column "before".
    others = (name for row in rows for name in row.get("published", {}) if name != "bicubic")
    published = list(dict.fromkeys(others))
    heads = ["before", *published]
    heads += [f"{variant}: {head}" for variant in variants for head in experiment.columns]
    lines = []
    for picture in pictures:
        of_picture = [row for row in rows if row["picture"] == picture]
        values: list[float | None] = [_mean(of_picture, "psnr_before")]
        values += [_mean([row.get("published", {}) for row in of_picture], n) for n in published]
        for variant in variants:
            runs = [row for row in of_picture if row["variant"] == variant]
            values += [_mean(runs, key) for key in experiment.columns.values()]
        lines.append((picture, values))
    shown = [k for k in range(len(heads)) if any(values[k] is not None for _, values in lines)]
    if not shown:
        return "Pictures only: nobody knows what the clean one looks like."
    text = ["| picture | " + " | ".join(heads[k] for k in shown) + " |"]
    text.append("|---" * (len(shown) + 1) + "|")
    means = [_average([values[k] for _, values in lines]) for k in range(len(heads))]
    for name, values in [*lines, *([("**mean**", means)] if len(lines) > 1 else [])]:
        text.append(f"| {name} | " + " | ".join(_cell(values[k]) for k in shown) + " |")
    return "\n".join(text)


def _mean(rows: Sequence[dict[str, Any]], key: str) -> float | None:
    values = [value for row in rows if (value := _value(row, key)) is not None]
    return statistics.fmean(values) if values else None


def _value(row: dict[str, Any], key: str) -> float | None:
    """Return an entry of a row, or None without it.

    ``"at_third"`` is the PSNR of the running average after a third of the iterations, where the
    first of two stages ends.
    """
    if key == "at_third":
        curve = row["curve_average"]  # one value for every ten iterations
        third = row["found"]["max_iterations"] // 30
        return float(curve[min(max(third, 1), len(curve)) - 1]) if curve else None
    value: float | None = row.get(key)
    return value


def _average(values: Sequence[float | None]) -> float | None:
    """Return the mean of all values; None if one is missing, as such a mean is not comparable."""
    found = [value for value in values if value is not None]
    return statistics.fmean(found) if found and len(found) == len(values) else None


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def draw(experiment: Experiment, rows: Rows, folder: Path, name: str) -> None:
    """Draw the figure of a table, if it has one."""
    if experiment.figure == "curves":
        _draw_curves(experiment, rows, folder / f"{name}.png")
    elif experiment.figure == "pictures":
        for picture in dict.fromkeys(row["picture"] for row in rows):
            _draw_pictures(
                [r for r in rows if r["picture"] == picture], folder, f"{name}-{picture}"
            )


def _draw_curves(experiment: Experiment, rows: Rows, path: Path) -> None:
    """Draw the mean PSNR of the outputs and of the running averages over the iterations."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, key, title in zip(panels, ("curve", "curve_average"), ("output", "running average")):
        for variant in experiment.variants:
            curves = [row[key] for row in rows if row["variant"] == variant]
            length = min(map(len, curves), default=0)
            if length:
                mean = np.mean([curve[:length] for curve in curves], axis=0)
                panel.plot(10 * np.arange(1, length + 1), mean, label=variant)
        panel.set_title(title)
        panel.set_xlabel("iteration")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("PSNR (dB), mean of the pictures")
    if panels[0].lines:
        panels[0].legend()
    with write_atomically(path) as stream:
        figure.savefig(stream, format="png", dpi=130)


def _draw_pictures(rows: Rows, folder: Path, name: str) -> None:
    """Draw the degraded picture, the result of each variant, and the clean picture."""
    given = folder / rows[0]["files"]["degraded"]
    panels = [("given", read_image(given).image)]
    panels += [(row["variant"], read_image(folder / row["files"]["result"]).image) for row in rows]
    for label in ("bicubic", "clean"):
        file = rows[0]["files"].get(label)
        if file is not None:
            panels.append((label, read_image(folder / file).image))
    # In super-resolution the degraded picture is smaller; it is repeated to the size of the others.
    height, width = panels[-1][1].shape[:2]
    shown = [(title, _enlarged(image, height, width)) for title, image in panels]
    draw_side_by_side(shown, folder / f"{name}.png")


def _enlarged(image: Any, height: int, width: int) -> Any:
    rows, columns = max(height // image.shape[0], 1), max(width // image.shape[1], 1)
    return image.repeat(rows, axis=0).repeat(columns, axis=1)
