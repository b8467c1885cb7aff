"""How well the noise level of a picture is estimated.

    python -m benches.quality.noise_level --data FOLDER [--size 256]

Estimated over true level for the nine pictures at several levels, clipped and rounded to 8 bits:
by the first guess, from wavelet coefficients, and by the eigenvalues of patches that follow it.
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
    image = torch.from_numpy(picture.degraded).permute(2, 0, 1).float() / 255
    return 255 * noise.estimate_noise_model(image, "clipped").sigma


def first_guess(picture: Picture) -> float:
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
        for kind, function in (("wavelets", first_guess), ("patches", estimate)):
            ratios = [function(picture) / level for picture in pictures]
            error = math.sqrt(statistics.fmean((ratio - 1) ** 2 for ratio in ratios))
            cells = " | ".join(f"{ratio:.3f}" for ratio in ratios)
            print(f"| {level} | {kind} | {cells} | {error:.1%} |", flush=True)


if __name__ == "__main__":
    main()
