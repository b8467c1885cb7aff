"""Measure what is gained by joining estimates, against what was published and CBM3D.

    python -m benches.quality.joined SET... --data FOLDER [--quality balanced best]
        [--size 256] [--peers] [--bm3d] [--cache FOLDER] [--limit N] [--only NAME...] [--seed N]

The sets:

- ``nine``: the nine pictures of the Deep Image Prior paper with noise of sigma 25, and what its
  authors published for CBM3D and for themselves;
- ``levels``: four of them with noise of sigma 10, 50 and 75, clipped and rounded to 8 bits;
- ``photographs``: six that are in no other table, with noise of sigma 10, 25 and 50, on which
  parameters were chosen;
- ``cameras``: pictures of real cameras, of which the average of many shots is known.

With ``--stops`` a single guided fit of each picture is compared with its best running average
instead, which knows the clean picture.

With ``--peers`` the same pictures are denoised by total variation (:func:`dipfast.ops.tv_denoise`,
joint channels, weight by sigma) and by non-local means (scikit-image, patches of 5x5 pixels within
13x13, h of 0.8 times sigma, as its documentation advises), with the same estimate of the noise.

Noise is estimated from each picture, and nothing is stopped or chosen by the clean one.  *Weight*
is that of the fits in the join, *best weight* the one that the clean picture asks for, *joined
there* the PSNR with it, and *expected* the PSNR that the result says that it has.  With ``--bm3d``
the package of that name denoises the same pictures with the same estimate of the noise; what it
returns is kept in the folder ``--cache``.  PSNRs are of pictures rounded to 8 bits, over all
channels.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import dipfast
from benches.quality.nl_ridge import OF_SET14, PHOTOGRAPHS, Bm3d, Case, asked
from benches.quality.noise.level import (
    generator_of,
    markdown,
    middle,
    pairs_of_cameras,
    photograph,
)
from benches.quality.paper.pictures import Source
from dipfast import ops
from dipfast.images.files import read_image

__all__ = ["Row", "measure"]

LEVELS, LEVELS_OF_PHOTOGRAPHS = (10, 50, 75), (10, 25, 50)
OF_LEVELS = ("F16", "kodim03", "lena", "baboon")

Row = dict[str, float]


def measure(
    case: Case, quality: str, seed: int = 0, bm3d: Bm3d | None = None, peers: bool = False
) -> Row:
    """Return the PSNRs of a case, by column, and the seconds."""
    row: Row = {"input": case.psnr(case.noisy)}
    others: dict[str, Any] = dict(case.published)
    if peers:
        others |= {"TV": by_total_variation(case), "NLM": by_non_local_means(case)}
    if bm3d is not None:
        others["bm3d"] = bm3d.by_model(case)
    row |= {name: case.psnr(image) for name, image in others.items()}
    if peers:
        row |= {f"SSIM, {name}": _ssim(case, image) for name, image in others.items()}
    start = time.perf_counter()
    denoise: Any = dipfast.denoise
    result = denoise(case.noisy, quality=quality, seed=seed, channel_axis=case.channel_axis)
    seconds = time.perf_counter() - start
    if result.members:
        images = [np.asarray(member.image, np.float64) for member in result.members]
        weights = [member.weight for member in result.members]
        direct, fits = images[:-1], images[-1]
        if sum(weights[:-1]) > 0:
            first = np.average(direct, axis=0, weights=weights[:-1])
        else:
            first = direct[0]
        change = fits - first
        square = float(np.sum(change * change))
        best = float(np.sum(change * (case.clean - first))) / square if square > 0 else 0.0
        best = min(max(best, 0.0), 1.0)
        row |= {
            "nl_ridge": case.psnr(direct[0]),
            "best nl_ridge": max(map(case.psnr, direct)),
            "fits": case.psnr(fits),
            "weight": weights[-1],
            "best weight": best,
            "joined there": case.psnr(first + best * change),
        }
    else:
        row |= dict.fromkeys(("nl_ridge", "best nl_ridge"), case.psnr(result.image))
        row |= dict.fromkeys(("fits", "weight", "best weight", "joined there"), math.nan)
    row["joined"] = case.psnr(result.image)
    row["SSIM"] = _ssim(case, result.image)
    expected = result.expected_psnr
    row["expected"] = math.nan if expected is None else expected
    row["seconds"] = seconds
    return row


def by_total_variation(case: Case) -> Any:
    """Return a case denoised by total variation of joint channels, with the usual weight."""
    in_colour = case.channel_axis is not None
    return ops.tv_denoise(
        case.noisy.astype(np.float32),
        sigma=case.report.sigma,
        joint_channels=in_colour,
        channel_axis=case.channel_axis,
    )


def by_non_local_means(case: Case) -> Any:
    """Return a case denoised by the non-local means of scikit-image."""
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(
        case.noisy.astype(np.float64),
        patch_size=5,
        patch_distance=6,
        h=0.8 * case.report.sigma,
        sigma=case.report.sigma,
        fast_mode=True,
        channel_axis=case.channel_axis,
    )


def _ssim(case: Case, image: Any) -> float:
    """Return the SSIM of a picture rounded to 8 bits."""
    rounded = np.asarray(image).clip(0, 255).round().astype(np.uint8)
    value = ops.ssim(rounded, np.asarray(case.clean), channel_axis=case.channel_axis)
    return float(value)


def measure_stop(case: Case, quality: str, seed: int = 0) -> Row:
    """Return what a single guided fit returned, and the best that it had."""
    denoise: Any = dipfast.denoise
    options = {"method": "guided", "quality": quality, "seed": seed, "reference": case.clean}
    result = denoise(case.noisy, channel_axis=case.channel_axis, **options)
    oracle = result.metrics["psnr_oracle"]
    returned = result.history["psnr_average"][result.best_iteration - 1]
    return {
        "returned": returned,
        "at": result.best_iteration,
        "oracle": oracle,
        "of the oracle": result.metrics["oracle_iteration"],
        "gap": oracle - returned,
    }


# --- the pictures --------------------------------------------------------------------------------


def nine(options: Any) -> Iterator[Case]:
    """Yield the nine pictures."""
    for picture in Source(options.data, options.size).denoise():
        assert picture.clean is not None
        yield Case(picture.name, picture.degraded, picture.clean, published=picture.published)


def levels(options: Any) -> Iterator[Case]:
    """Yield four of the nine with noise of three levels."""
    for picture in Source(options.data, options.size, OF_LEVELS).levels(LEVELS):
        assert picture.clean is not None
        yield Case(picture.name, picture.degraded, picture.clean)


def photographs(options: Any) -> Iterator[Case]:
    """Yield photographs with noise of three levels."""
    size = options.size or 10**6
    for name in (*PHOTOGRAPHS, *OF_SET14):
        if name in PHOTOGRAPHS:
            clean = photograph(name, size)
        else:
            clean = middle(read_image(options.data / f"set14_x4/{name}_GT.png").image, size)
        for sigma in LEVELS_OF_PHOTOGRAPHS:
            noise = generator_of(f"{name} {sigma}").normal(0, sigma, clean.shape)
            noisy = (clean + noise).round().clip(0, 255).astype(np.uint8)
            yield Case(f"{name} {sigma}", noisy, clean)


def cameras(options: Any) -> Iterator[Case]:
    """Yield pictures of real cameras."""
    for picture in pairs_of_cameras(options.data, options.size or 10**6):
        assert picture.clean is not None
        yield Case(picture.name, picture.degraded, picture.clean)


SETS: dict[str, Callable[[Any], Iterator[Case]]] = {
    "nine": nine,
    "levels": levels,
    "photographs": photographs,
    "cameras": cameras,
}


# --- the tables ----------------------------------------------------------------------------------


def table(rows: dict[str, Row]) -> str:
    """Return the rows and their means, in Markdown, and what was asked of them."""
    columns = list(next(iter(rows.values())))
    lines = [[name, *(_cell(row[column]) for column in columns)] for name, row in rows.items()]

    def mean(column: str) -> float:
        return statistics.fmean(row[column] for row in rows.values())

    lines.append(["mean", *(_cell(mean(column)) for column in columns)])
    page = markdown(["", *columns], lines)
    if "gap" in columns:
        gaps = [row["gap"] for row in rows.values()]
        notes = [
            asked("mean gap", statistics.fmean(gaps), most=0.03),
            asked("worst gap", max(gaps), most=0.1),
        ]
        return "\n".join([page, "", *notes])
    best = max(max(row["best nl_ridge"], row["fits"]) - row["joined"] for row in rows.values())
    errors = [row["expected"] - row["joined"] for row in rows.values()]
    error = math.sqrt(statistics.fmean(e * e for e in errors))
    notes = [
        asked("below the best member at most", best, most=0.05),
        asked("expected against true, root mean square", error, most=0.3),
    ]
    for other in ("CBM3D", "bm3d", "DIP"):
        if other in columns:
            notes.append(f"- mean, joined minus {other}: {mean('joined') - mean(other):+.2f}")
    return "\n".join([page, "", *notes])


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def main() -> None:
    """Print a table for each set and quality."""
    options = _parser().parse_args()
    bm3d = Bm3d(options.cache) if options.bm3d else None
    for name in options.sets:
        for quality in options.quality:
            print(f"## {name}, {quality}\n", flush=True)
            rows: dict[str, Row] = {}
            for case in islice(SETS[name](options), options.limit):
                if options.only and case.name.split()[0] not in options.only:
                    continue
                if options.stops:
                    row = measure_stop(case, quality, options.seed)
                else:
                    row = measure(case, quality, options.seed, bm3d, options.peers)
                rows[case.name] = row
                text = " ".join(f"{k} {_cell(v)}" for k, v in row.items())
                print(f"{case.name}: {text}", file=sys.stderr, flush=True)
            if not rows:
                raise SystemExit("no pictures; is --data the folder of the test pictures?")
            print(table(rows), flush=True)
            print(flush=True)


def _parser() -> argparse.ArgumentParser:
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    add = parser.add_argument
    add("sets", nargs="+", choices=SETS, metavar="SET", help=", ".join(SETS))
    add("--data", type=Path, required=True, help="folder with the test pictures")
    add("--quality", nargs="+", choices=("balanced", "best"), default=["balanced"])
    add("--bm3d", action="store_true", help="compare with the package bm3d")
    add("--peers", action="store_true", help="compare with total variation and non-local means")
    add("--cache", type=Path, help="folder in which results of bm3d are kept")
    add("--size", type=int, help="rows and columns at most (default: whole pictures)")
    add("--limit", type=int, help="pictures at most")
    add("--only", nargs="+", help="names of the pictures to take")
    add("--stops", action="store_true", help="what the stop of a single guided fit loses")
    add("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
