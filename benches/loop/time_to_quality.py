"""Measure how soon the picture that is returned has a given PSNR, and draw PSNR over seconds.

    python -m benches.loop.time_to_quality FOLDER [--names F16 peppers] [--size 256]
        [--iterations 3000] [--device cpu] [--fit-device auto] [--bm3d] [--out FOLDER]
        [--only-original]

FOLDER has NAME_GT.png and NAME_noisy.png, white noise of sigma 25 in 8 bits; the middle of each is
taken.  Compared are the loop of the Deep Image Prior paper (benches/loop/original.py), stopped by
an oracle where its running average is best; the two stages of dipfast, stopped by themselves;
its defaults, with the first picture that there is; nl_ridge; total variation; and BM3D.  Sigma is
told to all of them but the defaults, which estimate it, and the original's loop, which needs none.

A fit has the same PSNR after the same iteration on every device but for rounding, so curves may
come from a fast one (``--fit-device``).  Seconds are those of ``--device``: the median time of an
iteration of each loop, in turn, times the number of iterations.  Curves of the original, which take
half an hour on a CPU, are kept in ``--out`` and used again.  PSNR is that of the picture
rounded to 8 bits.  Printed are a table and, with ``--out``, curves as JSON and a plot.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

import dipfast
from benches.loop.original import original_loop
from benches.quality.nl_ridge import score
from benches.quality.noise.level import middle
from dipfast.images.files import read_image
from dipfast.prior.loop import State
from dipfast.run.observers import Progress
from dipfast.run.prepare import find_device

SIGMA = 25
Curve = list[tuple[float, float]]


def pixels(x: Tensor) -> Any:
    return 255 * x[0].permute(1, 2, 0).double().cpu().numpy()


def tensor(picture: Any, device: torch.device) -> Tensor:
    x = torch.from_numpy(picture.astype(np.float32) / 255)
    return x.permute(2, 0, 1)[None].contiguous().to(device)


def original_curve(
    noisy: Any, clean: Any, iterations: int, device: torch.device, kept: Path | None = None
) -> Curve:
    """Return PSNR of the running average after every tenth iteration; ``kept`` keeps it."""
    curve: Curve = []
    if kept is not None and kept.exists():
        curve = [(k, value) for k, value in json.loads(kept.read_text())]
        if len(curve) >= iterations // 10:
            return curve[: iterations // 10]
        curve = []
    loop = islice(original_loop(tensor(noisy, device)), iterations)
    for k, average in enumerate(loop, 1):
        if k % 10 == 0:
            curve.append((k, score(pixels(average), clean)))
            if kept is not None:
                kept.write_text(json.dumps(curve))
    return curve


def our_curve(noisy: Any, clean: Any, device: torch.device) -> tuple[Curve, float, int]:
    """Return the same of the two stages, the PSNR of the result, and the iterations that ran."""
    curve: Curve = []

    def look(state: State) -> None:
        if state.iteration % 10 == 0:
            curve.append((state.iteration, score(pixels(state.average), clean)))

    options: Any = {"sigma": SIGMA, "method": "two_stage", "device": device}
    result = dipfast.denoise(noisy, channel_axis=-1, callback=look, **options)
    return curve, score(result.image, clean), len(result.history["iteration"])


def step_seconds(noisy: Any, device: torch.device, repeats: int) -> tuple[float, float]:
    """Return the median time of an iteration of our run and of the original's loop, in turn."""
    times: list[list[float]] = [[], []]
    ends: list[float] = []
    original = original_loop(tensor(noisy, device))

    def look(state: State) -> None:
        float(state.average.sum())
        if ends:
            times[0].append(time.perf_counter() - ends[-1])
        begin = time.perf_counter()
        float(next(original).sum())
        ends.append(time.perf_counter())
        times[1].append(ends[-1] - begin)

    options: Any = {"sigma": SIGMA, "method": "two_stage", "device": device}
    dipfast.denoise(
        noisy, channel_axis=-1, callback=look, max_iterations=repeats + 3, stop="none", **options
    )
    return median(times[0][2:]), median(times[1][2:])


def seconds_of(function: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    times, result = [], None
    for _ in range(repeats):
        begin = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - begin)
    return median(times), result


def others(noisy: Any, clean: Any, with_bm3d: bool) -> dict[str, tuple[float, float]]:
    """Return seconds and PSNR of the methods without a network."""
    runs: dict[str, Callable[[], Any]] = {
        "nl_ridge": lambda: (
            dipfast.denoise(noisy, sigma=SIGMA, quality="fast", channel_axis=-1).image
        ),
        "TV": lambda: dipfast.ops.tv_denoise(
            noisy.astype(np.float64), weight=0.7 * SIGMA, channel_axis=-1
        ),
    }
    if with_bm3d:
        import bm3d

        runs["CBM3D"] = lambda: bm3d.bm3d_rgb(noisy.astype(np.float64), SIGMA)
    found = {}
    for name, run in runs.items():
        seconds, image = seconds_of(run, 1 if name == "CBM3D" else 3)
        found[name] = seconds, score(image, clean)
    return found


def default_curve(noisy: Any, clean: Any) -> Curve:
    """Return seconds and PSNR of what the defaults show: at first, balanced, best."""
    curve: Curve = []
    begin = 0.0

    def look(state: State | Progress) -> None:
        if isinstance(state, Progress) and state.image is not None and not curve:
            curve.append((time.perf_counter() - begin, score(pixels(state.image), clean)))

    for quality in ("balanced", "best"):
        begin = time.perf_counter()
        result = dipfast.denoise(noisy, channel_axis=-1, quality=quality, callback=look)
        curve.append((time.perf_counter() - begin, score(result.image, clean)))
    return curve


def first_at(curve: Curve, level: float) -> float:
    """Return the first iteration with a PSNR from ``level`` up; infinity for none."""
    return next((k for k, value in curve if value >= level), math.inf)


def draw(curves: dict[str, Curve], points: dict[str, tuple[float, float]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="seconds", ylabel="PSNR (dB)")
    for name, curve in curves.items():
        axes.plot(*zip(*curve), "o-" if len(curve) < 9 else "-", label=name)
    for name, point in points.items():
        axes.plot(*point, "o", label=name)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", nargs="+", default=["F16", "peppers"])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--iterations", type=int, default=3000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--fit-device", default="auto")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only-original", action="store_true", help="and keep its curve in --out")
    parser.add_argument("--bm3d", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device, fit_device = find_device(options.device), find_device(options.fit_device)
    found: dict[str, Any] = {}
    print("| picture | method | PSNR (dB) | iterations | seconds |")
    print("|---|---|---|---|---|")
    for name in options.names:
        pictures = [
            middle(read_image(options.folder / f"{name}_{k}.png").image, options.size)
            for k in ("GT", "noisy")
        ]
        clean, noisy = pictures
        kept = None
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            kept = options.out / f"original-{name}-{options.size}.json"
        theirs = original_curve(noisy, clean, options.iterations, fit_device, kept)
        if options.only_original:
            continue
        ours, original = step_seconds(noisy, device, options.repeats)
        curve, final, ran = our_curve(noisy, clean, fit_device)
        best_at, best = max(theirs, key=lambda point: point[1])
        soonest = first_at(curve, best)
        rows: list[tuple[str, float, float, float]] = [
            ("original, oracle", best, best_at, best_at * original),
            ("two stages, self-stopped", final, ran, ran * ours),
            ("two stages, until that of the original", best, soonest, soonest * ours),
        ]
        points = others(noisy, clean, options.bm3d)
        defaults = default_curve(noisy, clean)
        for label, (seconds, value) in zip(("first picture", "balanced", "best"), defaults):
            rows.append((f"default, {label}", value, 0, seconds))
        rows += [(other, value, 0, seconds) for other, (seconds, value) in points.items()]
        for method, value, count, seconds in rows:
            cells = f"{value:.2f} | {count or ''} | {seconds:.3g}"
            print(f"| {name} | {method} | {cells} |", flush=True)
        curves = {
            "Deep Image Prior": [(k * original, value) for k, value in theirs],
            "dipfast, two stages alone": [(k * ours, value) for k, value in curve],
            "dipfast: first picture, balanced, best": defaults,
        }
        found[name] = {"curves": curves, "points": points, "rows": rows}
        if options.out:
            draw(curves, points, options.out / f"time-to-quality-{name}-{options.size}.png")
            text = json.dumps(found)
            (options.out / f"time-to-quality-{options.size}.json").write_text(text)


if __name__ == "__main__":
    main()
