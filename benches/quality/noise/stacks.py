"""Measure what one estimate of the noise of a stack is worth, against one for each plane.

    python -m benches.quality.noise.stacks [--planes 20] [--size 128]

The stacks are made here: blobs of many sizes in planes of different brightness, the fifth of which
is empty, with white noise, with photon noise, and with both.  The table has the error of the
standard deviation (root mean square of its logarithm over all pixels; the worst plane behind the
slash) of estimates of each plane, of the median of eight of them, and of eight planes as one
picture, which is what dipfast does; and the mean PSNR over planes of ``quality="fast"`` with the
noise of each plane and with that of the stack, without the empty plane, and of that one alone.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

import dipfast
from dipfast.model.noise import NoiseModel
from dipfast.model.noise_estimate import estimate_noise
from dipfast.model.stack_noise import estimate_stack_noise, spread

_EMPTY, _BLACK, _WHITE = 4, 0.03, 0.8
_NOISES = {
    "white": NoiseModel(0.03),
    "photons": NoiseModel(0.005, 0.01),
    "both": NoiseModel(0.02, 0.0005),
}


def clean_stack(planes: int, size: int) -> torch.Tensor:
    """Return planes of different brightness, (N, 1, H, W)."""
    y, x = np.mgrid[:size, :size]
    stack = np.full((planes, 1, size, size), _BLACK)
    for item in set(range(planes)) - {_EMPTY}:
        rng = np.random.default_rng(item)
        picture = np.zeros((size, size))
        for _ in range(40):
            row, column, width, height = rng.uniform((0, 0, 2, 0.2), (size, size, 12, 1))
            distance = (y - row) ** 2 + (x - column) ** 2
            picture += height * np.exp(-distance / (2 * width**2))
        picture += 0.05 * np.sin(x / 3) * (np.sin(y / 20) > 0)
        brightness = 0.08 + 0.92 * math.sin(math.pi * (item + 0.5) / planes)
        stack[item, 0] += _WHITE * brightness * picture.clip(0) / picture.max()
    return torch.from_numpy(stack).float()


def errors(models: Sequence[NoiseModel], true: NoiseModel, clean: torch.Tensor) -> str:
    """Return the error of the standard deviation over all planes, and that of the worst."""
    squares = [
        float((model.variance(plane) / true.variance(plane)).log().div(2).square().mean())
        for model, plane in zip(models, clean)
    ]
    return f"{math.sqrt(statistics.fmean(squares)):.3f} / {math.sqrt(max(squares)):.3f}"


def ratios(images: Any, clean: torch.Tensor) -> str:
    """Return the mean PSNR over planes in dB, and that of the empty one."""
    found = [
        -10 * math.log10(float(np.mean((image - plane[0].numpy()) ** 2)))
        for image, plane in zip(images, clean)
    ]
    empty = found.pop(_EMPTY)
    return f"{statistics.fmean(found):.2f} ({empty:.2f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--planes", type=int, default=20)
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args()
    clean = clean_stack(options.planes, options.size)
    print("| noise | each | median | stack | PSNR, each | PSNR, stack |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, true in _NOISES.items():
        noisy = true.sample(clean, torch.Generator().manual_seed(0))
        each = [estimate_noise(plane).model for plane in noisy]
        some = [each[item] for item in spread(range(options.planes))]
        median = NoiseModel(
            statistics.median(model.sigma for model in some),
            statistics.median(model.gain for model in some),
        )
        found = estimate_stack_noise(noisy)
        used = [found.of(item, plane).model for item, plane in enumerate(noisy)]
        columns = [errors(models, true, clean) for models in (each, [median] * len(each), used)]
        pixels = noisy[:, 0].numpy()
        told: dict[str, Any] = {"quality": "fast", "data_range": 1.0}
        alone = [dipfast.denoise(plane, **told).image for plane in pixels]
        together = dipfast.denoise(pixels, stack_axis=0, **told).image
        columns += [ratios(images, clean) for images in (alone, together)]
        print(f"| {name} | {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
