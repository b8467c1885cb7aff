"""Find the weight of total-variation denoising with the best PSNR, in units of sigma.

    python -m benches.quality.tv_weight [PICTURE ...]

Three photographs of scikit-image (and the files given) with white noise of several standard
deviations sigma are denoised with weights c sigma.  Printed are the mean PSNR of the pictures for
each c, and the mean if each picture and sigma had its own best c.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dipfast import ops

FACTORS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4)
SIGMAS = (5, 15, 25, 50)
CROP = 256
Form = tuple[str, Literal["isotropic", "anisotropic"], bool]
FORMS: tuple[Form, ...] = (
    ("isotropic", "isotropic", False),
    ("isotropic, joint channels", "isotropic", True),
    ("anisotropic", "anisotropic", False),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="the best weight of TV denoising")
    parser.add_argument("pictures", nargs="*", type=Path)
    pictures = [picture / 255 for picture in load(parser.parse_args().pictures)]
    head = " | ".join(f"c = {factor}" for factor in FACTORS)
    print(f"{len(pictures)} pictures, mean PSNR in dB\n")
    print(f"| TV | sigma | {head} | best c of each |\n|{'---|' * (len(FACTORS) + 3)}")
    for name, kind, joint in FORMS:
        table = np.array(
            [
                [qualities(clean, sigma, kind, joint) for clean in pictures if fits(clean, joint)]
                for sigma in SIGMAS
            ]
        )
        for sigma, rows in zip((*map(str, SIGMAS), "all"), [*table, np.concatenate(table)]):
            cells = " | ".join(f"{value:.2f}" for value in rows.mean(0))
            print(f"| {name} | {sigma} | {cells} | {rows.max(1).mean():.2f} |", flush=True)


def load(files: list[Path]) -> list[Any]:
    """Return the middle parts of the pictures, of shape (H, W) or (C, H, W)."""
    from PIL import Image
    from skimage import data

    pictures = [getattr(data, name)() for name in ("camera", "astronaut", "coffee")]
    pictures += [np.asarray(Image.open(file)) for file in files]
    crops = []
    for picture in pictures:
        top, left = ((size - CROP) // 2 for size in picture.shape[:2])
        crop = picture[max(top, 0) :, max(left, 0) :][:CROP, :CROP].astype(np.float32)
        crops.append(crop if crop.ndim == 2 else np.moveaxis(crop[..., :3], -1, 0))
    return crops


def fits(clean: Any, joint: bool) -> bool:
    """Return whether a form of total variation applies: joint channels need several of them."""
    return bool(clean.ndim == 3 or not joint)


def qualities(
    clean: Any, sigma: float, kind: Literal["isotropic", "anisotropic"], joint: bool
) -> list[float]:
    """Return the PSNR of the denoised picture in dB for every factor."""
    sigma = sigma / 255
    rng = np.random.default_rng(0)
    noisy = (clean + rng.normal(0, sigma, clean.shape)).astype(np.float32)
    values = []
    for factor in FACTORS:
        u = ops.tv_denoise(
            noisy,
            factor * sigma,
            kind=kind,
            channel_axis=0 if joint else None,
            joint_channels=joint,
        )
        values.append(ops.psnr(u, clean, data_range=1.0))
    return values


if __name__ == "__main__":
    main()
