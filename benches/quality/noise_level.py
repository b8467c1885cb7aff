"""Measure the error of the estimate of a picture's noise level.

    python -m benches.quality.noise_level --data FOLDER [--size 256]

Printed is the ratio of the estimated and the true level for the nine pictures with noise of several
levels, clipped and rounded to 8 bits: for the first estimate, from wavelet coefficients, and for
the final one, from the eigenvalues of patches.
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path
from unittest.mock import patch

import torch

from benches.quality.paper.pictures import CLIPPED_LEVELS, Picture, Source
from dipfast.model import noise_estimate as noise


def estimate(picture: Picture) -> float:
    """Return the final estimate of the standard deviation, in levels of 8 bits."""
    image = torch.from_numpy(picture.degraded).permute(2, 0, 1).float() / 255
    return 255 * noise.estimate_noise_model(image, "clipped").sigma


def first_estimate(picture: Picture) -> float:
    """Return the first estimate of the standard deviation, in levels of 8 bits."""
    with patch.object(noise, "_patch_level", lambda pixels, first, known: first.sigma):
        return estimate(picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--size", type=int, default=256, help="rows and columns at most")
    options = parser.parse_args()
    names = None
    for level in CLIPPED_LEVELS:
        pictures = list(Source(options.data, options.size).levels([level]))
        if names is None:
            names = [picture.name.rpartition(" ")[0] for picture in pictures]
            print(f"| sigma | by | {' | '.join(names)} | error |")
            print("|---" * (len(names) + 3) + "|")
        for kind, function in (("wavelets", first_estimate), ("patches", estimate)):
            ratios = [function(picture) / level for picture in pictures]
            error = math.sqrt(statistics.fmean((ratio - 1) ** 2 for ratio in ratios))
            cells = " | ".join(f"{ratio:.3f}" for ratio in ratios)
            print(f"| {level} | {kind} | {cells} | {error:.1%} |", flush=True)


if __name__ == "__main__":
    main()
