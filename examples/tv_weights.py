"""Denoise a photograph by total variation with three weights, and with the chosen one.

    python examples/tv_weights.py [FOLDER]

The picture and its noise (sigma 25) are those of ``demo.py``.  The program writes the noisy and the
denoised pictures to FOLDER (default: demo-output), and prints their PSNR.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import skimage.data

from dipfast import ops
from dipfast.images.files import write_image

SIGMA = 25


def main(folder: Path) -> None:
    """Denoise the picture with each weight, and write the pictures to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    clean = skimage.data.astronaut()[:256, 96:352]  # type: ignore[no-untyped-call]
    noise = np.random.default_rng(0).normal(0, SIGMA, clean.shape)
    noisy = (clean + noise).round().clip(0, 255).astype(np.uint8)
    weights = {"0.4 sigma": 0.4 * SIGMA, "0.8 sigma": 0.8 * SIGMA, "2 sigma": 2.0 * SIGMA}
    write_image(folder / "noisy.png", noisy, channel_axis=2, overwrite=True)
    print(f"noisy: {ops.psnr(noisy, clean):.2f} dB")
    for name, weight in {**weights, "chosen": None}.items():
        u, gap = ops.tv_denoise(
            noisy, weight, channel_axis=2, joint_channels=weight is None, return_gap=True
        )
        picture = u.round().clip(0, 255).astype(np.uint8)
        path = folder / f"tv-{name.replace(' ', '-')}.png"
        write_image(path, picture, channel_axis=2, overwrite=True)
        print(f"{name}: {ops.psnr(picture, clean):.2f} dB, relative gap {gap:.0e}, {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-output"))
