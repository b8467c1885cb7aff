"""Denoise a photograph with noise of sigma 25, and draw the result and the curves.

    python examples/demo.py [FOLDER]

The picture is a part of ``skimage.data.astronaut()`` (NASA, public domain), which ships
with scikit-image.  The program writes to FOLDER (default: demo-output) the noisy and the restored
picture, both side by side with the clean one, the page of the result, and the settings; and of the
two stages of the paper alone, without what the default joins them with, the curves.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TypeAlias

import numpy as np
import skimage.data
from numpy.typing import NDArray
from tqdm import tqdm

import dipfast
from dipfast.apps.report import draw_curves, draw_side_by_side
from dipfast.images.files import write_image

SIGMA = 25


Picture: TypeAlias = NDArray[np.uint8]


def demo_picture() -> Picture:
    """Return the clean picture."""
    clean: Picture = skimage.data.astronaut()[:256, 96:352]  # type: ignore[no-untyped-call]
    return clean


def with_noise(clean: Picture) -> Picture:
    """Return the picture with noise, clipped and rounded to 8 bits."""
    noise = np.random.default_rng(0).normal(0, SIGMA, clean.shape)
    noisy: Picture = (clean + noise).round().clip(0, 255).astype(np.uint8)
    return noisy


def main(folder: Path) -> None:
    """Denoise the picture, and write pictures and curves to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    clean = demo_picture()
    noisy = with_noise(clean)

    start = time.perf_counter()
    with tqdm(total=None, unit="it", desc="restoring") as bar:
        result = dipfast.denoise(noisy, reference=clean, callback=lambda _: bar.update())
    seconds = time.perf_counter() - start
    with tqdm(total=None, unit="it", desc="the two stages alone") as bar:
        alone = dipfast.denoise(
            noisy,
            method="two_stage",
            quality="fast",
            reference=clean,
            callback=lambda _: bar.update(),
        )

    write_image(folder / "noisy.png", noisy, channel_axis=2, overwrite=True)
    result.save(folder / "restored.png", overwrite=True)
    before, after = result.metrics["psnr_input"], result.metrics["psnr"]
    draw_side_by_side(
        [
            (f"noisy, {before:.2f} dB", noisy),
            (f"restored, {after:.2f} dB", result.image),
            ("clean", clean),
        ],
        folder / "side-by-side.png",
    )
    dipfast.save_page(result, noisy, folder / "restored.html", overwrite=True)
    draw_curves(alone, folder / "curves.png")
    print(
        f"PSNR before {before:.2f} dB, after {after:.2f} dB in {seconds:.0f} s on "
        f"{result.found['device']} (two stages alone {alone.metrics['psnr']:.2f} dB); "
        f"pictures in {folder}/"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-output"))
