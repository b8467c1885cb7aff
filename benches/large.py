"""Measure large pictures: memory and time as they grow, and errors where tiles meet.

    python -m benches.large growth [--megapixels 1 4 16 64] [--quality fast]
    python -m benches.large growth --quality balanced --megapixels 1 4 --tile 512 --tiles 2
    python -m benches.large borders [--data FOLDER] [--size 512] [--tile 256]

Pictures are those of scikit-image (or NAME_GT.png of a folder), enlarged twice, turned and put side
by side, with noise of sigma 25 of our own, clipped and rounded to 8 bits; noise is estimated.  Each
runs in a process of its own; seconds are those of its processors, which other work hardly changes.
``growth`` prints how much the peak of its resident memory grows while the picture is denoised: the
picture, the clean one and the code, which are there before, are not in it.  With ``--tiles`` it
ends after so many tiles and prints what all of them would take.  ``borders`` prints the error
within four pixels of the middle of each overlap, and that elsewhere, for tiles and for the whole:
without seams both have the same ratio.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from PIL import Image

import dipfast
from benches.loop.memory import peak
from dipfast.images.tiles import Tiles
from dipfast.run.observers import Progress

_SIGMA = 25
_NEAR = 4


def clean_picture(height: int, width: int, data: Path | None, enlarged: int = 2) -> Any:
    """Return pictures side by side, turned by quarters, (height, width, 3), 8 bits."""
    if data is None:
        examples: Any = skimage.data
        pictures = [examples.astronaut(), examples.coffee(), examples.chelsea()]
    else:
        pictures = [np.asarray(Image.open(p).convert("RGB")) for p in sorted(data.glob("*_GT.png"))]
    side = min(min(picture.shape[:2]) for picture in pictures)
    cell = side * enlarged
    result = np.empty((height, width, 3), np.uint8)
    number = 0
    for top in range(0, height, cell):
        for left in range(0, width, cell):
            picture = Image.fromarray(pictures[number % len(pictures)][:side, :side])
            large = picture.resize((cell, cell), Image.Resampling.BICUBIC)
            turned = np.rot90(np.asarray(large), number // len(pictures))
            part = result[top : top + cell, left : left + cell]
            part[...] = turned[: part.shape[0], : part.shape[1]]
            number += 1
    return result


def noisy_picture(clean: Any, seed: int = 0) -> Any:
    """Return a picture with noise, made strip by strip."""
    generator, result = np.random.default_rng(seed), np.empty_like(clean)
    for top in range(0, len(clean), 256):
        part = clean[top : top + 256]
        noise = generator.normal(0, _SIGMA, part.shape)
        result[top : top + 256] = (part + noise).round().clip(0, 255)
    return result


def psnr(image: Any, clean: Any) -> float:
    """Return the PSNR of 8-bit pictures, strip by strip."""
    square = 0.0
    for top in range(0, len(clean), 256):
        difference = image[top : top + 256].astype(np.float32) - clean[top : top + 256]
        square += float(np.square(difference).sum(dtype=np.float64))
    return 10 * math.log10(255**2 * clean.size / square)


class _Stop:
    """End a run after some tiles, and keep when each of them came."""

    def __init__(self, tiles: int | None) -> None:
        self.tiles, self.times = tiles, []  # type: int | None, list[float]

    def __call__(self, state: Any) -> None:
        if isinstance(state, Progress) and state.image is not None:
            self.times.append(time.process_time())
            if self.tiles is not None and len(self.times) > self.tiles:
                raise StopIteration


def grow(megapixels: float, options: dict[str, Any], tiles: int | None) -> tuple[float, ...]:
    """Return seconds, bytes and PSNR of a picture of so many megapixels."""
    height = round(math.sqrt(megapixels * 1e6 / 1.5))
    clean = clean_picture(height, round(1.5 * height), None)
    noisy = noisy_picture(clean)
    dipfast.denoise(noisy[:64, :64], quality="fast")  # loads code
    before, start, stop = peak(), time.process_time(), _Stop(tiles)
    result = dipfast.denoise(noisy, callback=stop, **options)
    seconds = time.process_time() - start
    if tiles is not None and len(stop.times) > 1:
        tile = options["tile"]
        count = len(Tiles(clean.shape[:2], tile, min(tile // 8, 64)))
        each = (stop.times[-1] - stop.times[0]) / (len(stop.times) - 1)
        seconds = stop.times[0] - start + each * count
    return seconds, float(peak() - before), psnr(result.image, clean)


def growth(options: argparse.Namespace) -> None:
    """Print memory and time for pictures of several sizes."""
    chosen = {"quality": options.quality}
    if options.quality != "fast":
        chosen["tile"] = options.tile
    context = multiprocessing.get_context("spawn")
    print("| megapixels | s | s a megapixel | peak (GB) | bytes a pixel | PSNR |")
    print("|---|---|---|---|---|---|")
    for size in options.megapixels:
        with context.Pool(1) as pool:
            seconds, memory, quality = pool.apply(grow, (size, chosen, options.tiles))
        cells = (
            f"{seconds:.1f} | {seconds / size:.2f} | {memory / 1e9:.2f} | {memory / size / 1e6:.0f}"
        )
        print(f"| {size:g} | {cells} | {quality:.2f} |", flush=True)


def near_borders(tiles: Tiles) -> Any:
    """Return which pixels are near the middle of an overlap, (H, W)."""
    near = np.zeros(tiles.size, bool)
    starts = [sorted({(t.row, t.column)[axis] for t in tiles}) for axis in (0, 1)]
    for axis in (0, 1):
        length = min(tiles.side, tiles.size[axis])
        for before, after in zip(starts[axis], starts[axis][1:]):
            middle = (before + length + after) // 2
            index: list[Any] = [slice(None), slice(None)]
            index[axis] = slice(middle - _NEAR, middle + _NEAR)
            near[tuple(index)] = True
    return near


def borders(options: argparse.Namespace) -> None:
    """Print the error where tiles meet and elsewhere, of tiles and of the whole."""
    tiles = Tiles((options.size,) * 2, options.tile, min(options.tile // 8, 64))
    near = near_borders(tiles)
    print("| picture | tiles | PSNR | PSNR near | PSNR elsewhere | difference | seconds |")
    print("|---|---|---|---|---|---|---|")
    pictures = {"mosaic": clean_picture(options.size, options.size, options.data, 1)}
    if options.data is not None:
        pictures = {}
        for path in sorted(options.data.glob("*_GT.png")):
            whole = np.asarray(Image.open(path).convert("RGB"))
            top, left = ((n - options.size) // 2 for n in whole.shape[:2])
            if top >= 0 and (not options.only or path.name.split("_")[0] in options.only):
                pictures[path.name.split("_")[0]] = whole[top:, left:][
                    : options.size, : options.size
                ]
    for name, clean in pictures.items():
        noisy = noisy_picture(clean)
        for tile in (0, options.tile):
            start = time.process_time()
            result = dipfast.denoise(noisy, quality=options.quality, tile=tile)
            seconds = time.process_time() - start
            error = np.square(result.image.astype(float) - clean).mean(axis=2)
            cells = [10 * math.log10(255**2 / e.mean()) for e in (error, error[near], error[~near])]
            text = " | ".join(f"{value:.2f}" for value in (*cells, cells[1] - cells[2]))
            print(f"| {name} | {tile or 'whole'} | {text} | {seconds:.0f} |", flush=True)
            if options.out is not None:
                Image.fromarray(result.image).save(options.out / f"{name}-{tile}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("growth", "borders"))
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--quality", default=None)
    parser.add_argument("--tile", type=int, default=None)
    parser.add_argument("--tiles", type=int, default=None, help="end after so many")
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--only", nargs="+", default=None)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--out", type=Path, default=None, help="folder for the pictures")
    options = parser.parse_args()
    options.quality = options.quality or ("fast" if options.what == "growth" else "balanced")
    options.tile = options.tile or (512 if options.what == "growth" else 256)
    (growth if options.what == "growth" else borders)(options)


if __name__ == "__main__":
    main()
