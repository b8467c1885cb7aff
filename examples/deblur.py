"""Deblur a photograph with a forward model of your own.

    python examples/deblur.py [FOLDER]

The picture is a part of ``skimage.data.camera()``, which ships with scikit-image, blurred by a
Gaussian with a standard deviation of 1.6 pixels, with noise of sigma 1.4 (a classical test).  The
program writes to FOLDER (default: deblur-output) the blurred and the restored picture, and both
side by side with the clean one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import skimage.data
import torch
from tqdm import tqdm

import dipfast
from dipfast.apps.report import draw_side_by_side
from dipfast.images.files import write_image
from dipfast.operators import Blur, gaussian_kernel

SIGMA = 2**0.5


def main(folder: Path) -> None:
    """Blur the picture, restore it, and write the pictures to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    clean = skimage.data.camera()[60:252, 130:322]  # type: ignore[no-untyped-call]
    blur = Blur(gaussian_kernel(1.6, 25))

    planes = torch.from_numpy(clean)[None, None].float()
    noise = np.random.default_rng(0).normal(0, SIGMA, clean.shape)
    blurred = (blur(planes)[0, 0].numpy() + noise).round().clip(0, 255).astype(np.uint8)

    with tqdm(unit="it", desc="restoring") as bar:
        result = dipfast.restore(
            blurred, blur, sigma=SIGMA, reference=clean, callback=lambda _: bar.update()
        )
    write_image(folder / "blurred.png", blurred, overwrite=True)
    result.save(folder / "restored.png", overwrite=True)
    before, after = result.metrics["psnr_input"], result.metrics["psnr"]
    draw_side_by_side(
        [
            (f"blurred, {before:.2f} dB", blurred),
            (f"restored, {after:.2f} dB", result.image),
            ("clean", clean),
        ],
        folder / "side-by-side.png",
    )
    print(f"PSNR before {before:.2f} dB, after {after:.2f} dB; pictures in {folder}/")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "deblur-output"))
