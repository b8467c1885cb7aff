"""Measure what is taken out of pictures that were saved as JPEG.

    python -m benches.quality.jpeg --data FOLDER [--quality 10 30] [--size 256] [--only NAME...]

Three of the nine pictures of the Deep Image Prior paper are saved as JPEG by Pillow, with every
second row and column of colour as it does by default, and denoised: with ``jpeg`` in each quality
of dipfast, and *without*, by what is the default for any picture.  PSNRs are of 8 bits, over all
channels.  *Steps* are differences across the borders of blocks, as a multiple of those within them:
1 where there are no blocks.  The parameters of the method were chosen on pictures of Set14.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import dipfast
from benches.quality.nl_ridge import Pixels, asked
from benches.quality.noise.level import markdown
from benches.quality.paper.pictures import Source

__all__ = ["measure"]

PICTURES = ("kodim03", "lena", "house")
SPEEDS = ("fast", "balanced", "best")


def measure(clean: Pixels, quality: int) -> dict[str, float]:
    """Return PSNRs, steps at the borders of blocks, and seconds, by column."""
    decoded, coding = _coded(clean, quality)
    denoise: Any = dipfast.denoise
    row = {"JPEG": _psnr(decoded, clean), "without": _psnr(denoise(decoded).image, clean)}
    steps = {"steps before": _steps(decoded)}
    for speed in SPEEDS:
        start = time.perf_counter()
        image = np.asarray(denoise(decoded, jpeg=coding, quality=speed).image)
        steps[f"seconds, {speed}"] = time.perf_counter() - start
        row[speed] = _psnr(image, clean)
        steps[f"steps, {speed}"] = _steps(image)
    return {**row, **steps}


def _coded(clean: Pixels, quality: int) -> tuple[Pixels, dipfast.JpegCoding]:
    stream = BytesIO()
    Image.fromarray(clean).save(stream, "JPEG", quality=quality)
    with Image.open(stream) as opened:
        opened.load()
        coding = dipfast.JpegCoding.of(opened)
        assert coding is not None
        return np.array(opened), coding


def _psnr(image: Pixels, clean: Pixels) -> float:
    return float(dipfast.ops.psnr(np.asarray(image), clean, data_range=255))


def _steps(image: Pixels) -> float:
    """Return the steps at the borders of blocks along rows, as a multiple of those elsewhere."""
    differences = np.abs(np.diff(image.astype(float).mean(axis=-1), axis=1))
    inside = np.delete(differences, np.s_[7::8], axis=1)
    return float(differences[:, 7::8].mean() / inside.mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with the test pictures")
    add("--quality", nargs="+", type=int, default=[10, 30])
    add("--size", type=int, help="rows and columns at most (default: whole pictures)")
    add("--only", nargs="+", default=PICTURES, help="names of the pictures to take")
    options = parser.parse_args()
    rows = {}
    for picture in Source(options.data, options.size, tuple(options.only)).denoise():
        assert picture.clean is not None
        for quality in options.quality:
            name = f"{picture.name} {quality}"
            rows[name] = measure(picture.clean, quality)
            print(name, {k: round(v, 2) for k, v in rows[name].items()}, file=sys.stderr)
    columns = list(next(iter(rows.values())))
    lines = [[name, *(f"{row[c]:.2f}" for c in columns)] for name, row in rows.items()]
    means = {c: statistics.fmean(row[c] for row in rows.values()) for c in columns}
    lines.append(["mean", *(f"{means[c]:.2f}" for c in columns)])
    print(markdown(["", *columns], lines))
    print()
    gains = [row["balanced"] - max(row["without"], row["JPEG"]) for row in rows.values()]
    print(asked("least gain of balanced over what is there without", min(gains), least=0.5))


if __name__ == "__main__":
    main()
