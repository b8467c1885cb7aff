"""Measure what neighbouring planes of a stack are worth, against plane by plane.

    python -m benches.quality.noise.volumes [--planes 9] [--size 128] [--quality fast]
    python -m benches.quality.noise.volumes --fits   # what guided fits add: takes an hour

The stacks are made here: photographs of scikit-image that move, turn and come nearer by parts of a
pixel and flicker by 2% (gravel moves by 5 pixels); blobs and filaments, blurred in depth as by a
microscope, much and little; and photographs that have nothing in common.  The table has the mean
PSNR over planes with 0 (plane by plane), 1, 2 and 4 planes to either side and with what "auto"
decides, and seconds per plane.  With ``--fits`` it has that of ``quality="balanced"`` with
neighbours, and of joins of it with fits that are guided by it alone, and by it and the planes
before and after.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import skimage.color
import skimage.data
import torch
from scipy import ndimage

import dipfast
from dipfast.denoisers.direct import guide_of
from dipfast.images.layout import Layout
from dipfast.model.noise import NoiseModel
from dipfast.model.problem import Problem
from dipfast.operators import Identity
from dipfast.run import fits
from dipfast.run.prepare import Task, prepare
from dipfast.run.runner import run
from dipfast.settings.settings import DenoiseSettings, make_settings

_NOISES = {
    "sigma 25": NoiseModel(25 / 255),
    "sigma 50": NoiseModel(50 / 255),
    "Poisson-Gaussian": NoiseModel(0.02, 0.01),
}
_UNRELATED = ("camera", "astronaut", "coins", "brick", "grass", "moon", "page", "chelsea", "coffee")


def photograph(name: str) -> Any:
    """Return a photograph of scikit-image in grey, in [0, 1]."""
    picture = getattr(skimage.data, name)()
    picture = skimage.color.rgb2gray(picture) if picture.ndim == 3 else picture / 255
    return picture.astype(np.float32)


def moving(name: str, planes: int, size: int, speed: float = 1.3) -> Any:
    """Return a photograph that moves so many pixels a plane, turns, comes nearer and flickers."""
    picture = photograph(name)
    middle, direction = np.array(picture.shape) / 2, np.array([0.6, 0.8])
    stack = []
    for k in range(planes):
        t = k - planes // 2
        angle, zoom = math.radians(0.6 * t), 1.004**t
        sine, cosine = math.sin(angle) / zoom, math.cos(angle) / zoom
        matrix = np.array([[cosine, -sine], [sine, cosine]])
        offset = middle + direction * speed * t - matrix @ np.full(2, size / 2)
        plane = ndimage.affine_transform(
            picture, matrix, offset=offset, output_shape=(size, size), mode="reflect"
        )
        stack.append(plane * (1 + 0.02 * math.sin(1.7 * k)))
    return np.stack(stack).clip(0, 1).astype(np.float32)


def cells(planes: int, size: int, blur: float) -> Any:
    """Return blobs with texture, and filaments, blurred by so many planes in depth."""
    rng, depth, beyond = np.random.default_rng(0), planes + 8, 4
    volume = np.zeros((depth, size, size), np.float32)
    z, y, x = np.mgrid[:depth, :size, :size].astype(np.float32)
    for _ in range(30 * depth * size**2 // (9 * 128**2)):
        middle, radius = rng.uniform((0, 0, 0), volume.shape), rng.uniform(2, 9)
        inside = ((y - middle[1]) ** 2 + (x - middle[2]) ** 2) / radius**2
        inside += ((z - middle[0]) / max(radius / 2.5, 1)) ** 2
        texture = 0.7 + 0.3 * np.sin(x * rng.uniform(0.3, 1.2) + y * rng.uniform(0.3, 1.2))
        volume += rng.uniform(0.2, 0.8) * (inside < 1) * texture
    for _ in range(40):
        place, angle = rng.uniform((0, 0, 0), volume.shape), rng.uniform(0, 2 * math.pi)
        slope, brightness = rng.normal(0, 0.06), rng.uniform(0.4, 1)
        for _ in range(160):
            voxel = tuple(np.round(place).astype(int))
            if all(0 <= k < n for k, n in zip(voxel, volume.shape)):
                volume[voxel] = max(volume[voxel], brightness)
            angle += rng.normal(0, 0.1)
            place += np.array([slope, math.sin(angle), math.cos(angle)])
    volume = ndimage.gaussian_filter(volume, (blur, 1, 1))[beyond : beyond + planes]
    return (0.05 + 0.85 * volume / np.quantile(volume, 0.999)).clip(0, 1)


def unrelated(planes: int, size: int) -> Any:
    """Return the middles of photographs that have nothing in common, nine at most."""
    stack = []
    for name in _UNRELATED[:planes]:
        picture = photograph(name)
        row, column = ((n - size) // 2 for n in picture.shape)
        stack.append(picture[row : row + size, column : column + size])
    return np.stack(stack)


_STACKS: dict[str, Callable[[int, int], Any]] = {
    "camera, moving": lambda n, size: moving("camera", n, size),
    "astronaut, moving": lambda n, size: moving("astronaut", n, size),
    "gravel, fast": lambda n, size: moving("gravel", n, size, 5.0),
    "cells": lambda n, size: cells(n, size, 1.5),
    "cells, thin": lambda n, size: cells(n, size, 0.6),
    "unrelated": unrelated,
}


def psnr(images: Any, clean: Any) -> float:
    """Return the mean PSNR over planes in dB."""
    pairs = zip(images, clean)
    return statistics.fmean(-10 * math.log10(float(np.mean((a - b) ** 2))) for a, b in pairs)


def table(options: argparse.Namespace) -> None:
    """Print the table of neighbours."""
    reaches: tuple[Any, ...] = (0, 1, 2, 4, "auto")
    print(f"| stack | noise | {' | '.join(map(str, reaches))} |")
    print("| --- " * (len(reaches) + 2) + "|")
    seconds: dict[Any, list[float]] = {reach: [] for reach in reaches}
    for name, make in _STACKS.items():
        clean = make(options.planes, options.size)
        for noise, model in _NOISES.items():
            noisy = noisy_stack(clean, model)
            columns = []
            for reach in reaches:
                start = time.perf_counter()
                result = dipfast.denoise(
                    noisy,
                    stack_axis=0,
                    data_range=1.0,
                    noise=model,
                    quality=options.quality,
                    neighbours=reach,
                )
                seconds[reach].append((time.perf_counter() - start) / len(clean))
                columns.append(f"{psnr(result.image, clean):.2f}")
            print(f"| {name} | {noise} | {' | '.join(columns)} |", flush=True)
    means = (f"{statistics.median(seconds[reach]):.2f}" for reach in reaches)
    print(f"| seconds per plane | | {' | '.join(means)} |")


def noisy_stack(clean: Any, model: NoiseModel) -> Any:
    """Return a stack with noise."""
    noisy = model.sample(torch.from_numpy(clean), torch.Generator().manual_seed(0))
    return noisy.numpy()


def guides(problem: Problem, kind: str) -> torch.Tensor:
    """Return what guides a fit: the plane, and those before and after it."""
    own = guide_of(problem)
    neighbours = problem.neighbours
    if kind == "plane" or neighbours is None:
        return own
    last, place = len(neighbours.block.planes) - 1, neighbours.place
    volume = neighbours.block.planes.swapaxes(0, 1).numpy()
    told: dict[str, Any] = {"noise": problem.noise, "spatial_dims": 3, "channel_axis": 0}
    others = torch.from_numpy(dipfast.ops.nl_ridge(volume, **told)).swapaxes(0, 1)
    before, after = max(place - 1, 0), min(place + 1, last)
    return torch.cat([own, others[[before]], others[[after]]], dim=1).clamp(0, 1)


def table_of_fits(options: argparse.Namespace) -> None:
    """Print what guided fits add to neighbours, for the plane in the middle."""
    kinds = ("plane", "planes around")
    print(f"| stack | noise | neighbours alone | {' | '.join(kinds)} |")
    print("| --- " * (len(kinds) + 3) + "|")
    for name in ("camera, moving", "cells"):
        clean = _STACKS[name](options.planes, options.size)
        for noise in ("sigma 25", "Poisson-Gaussian"):
            noisy = noisy_stack(clean, _NOISES[noise])
            told = {"stack_axis": 0, "data_range": 1.0, "noise": _NOISES[noise], "neighbours": 4}
            settings = make_settings(DenoiseSettings, told)
            layout = Layout.of(noisy, stack_axis=0, data_range=1.0)
            job = prepare(Task(noisy, layout, [Identity()]), settings)[options.planes // 2]
            alone = replace(job.problem, neighbours=None)
            fitted = fits.with_fits(replace(job, problem=alone)).fits
            fitted = tuple(replace(fit, problem=job.problem) for fit in fitted)
            jobs = [replace(job, fits=())]
            stages = tuple(stage for fit in fitted for stage in fit.stages)
            jobs += [replace(job, fits=fitted, stages=stages)] * len(kinds)
            columns = []
            for kind, one in zip(("plane", *kinds), jobs):
                with mock.patch(
                    "dipfast.prior.controls.guide_of",
                    lambda problem, kind=kind: guides(problem, kind),
                ):
                    best = run(one).best
                assert best is not None
                truth = clean[options.planes // 2]
                columns.append(f"{psnr(best.average[0].numpy(), truth[None]):.2f}")
            print(f"| {name} | {noise} | {' | '.join(columns)} |", flush=True)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--planes", type=int, default=9)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--quality", default="fast", choices=("fast", "balanced", "best"))
    parser.add_argument("--fits", action="store_true", help="what guided fits add")
    options = parser.parse_args()
    (table_of_fits if options.fits else table)(options)


if __name__ == "__main__":
    main()
