"""Denoise pictures by non-local ridge regression, and compare it with BM3D.

    python -m benches.quality.nl_ridge SET... --data FOLDER [--speeds fast balanced best]
        [--bm3d] [--cache FOLDER] [--size 256] [--limit N] [--only NAME...] [--no-network]

The sets:

- ``nine``: the nine pictures of the Deep Image Prior paper with noise of sigma 25, and what its
  authors published for CBM3D and for themselves;
- ``grey``: the eleven grey pictures of the paper with white noise of three levels;
- ``poisson``: photographs with photon and read noise at three levels of light;
- ``counts``: photographs by counted photons, a few in a white pixel, without noise of reading, and
  ``counts-grey``: the same in one channel;
- ``offset``: photographs in one channel by a scientific camera, of 2.17 counts a photon above 100
  counts, with one dead pixel of 0;
- ``emccd``: the same photographs by a camera that multiplies its electrons, 20 counts a photon on
  average and of an exponential law, above 500 counts;
- ``channels``: photographs whose channels have noise of different strength, and of two
  photographs as the channels of one picture, which have nothing in common;
- ``polyu``: pictures of real cameras; the clean one is the average of many shots;
- ``time``: seconds for a picture of 512x512, and seconds and memory for one of 4000x3000;
- ``speeds``: time and quality of the speeds, on photographs that are in no other table;
- ``inpaint``: the eleven grey pictures with half of their pixels missing, and
  ``enlarge``: Set5 reduced by 4, PSNR of luma without 4 pixels of border; ``method="pnp"`` of
  each speed as quality beside the default, which joins it with a network, and the network
  alone, in turn for each picture.  That needs minutes, and ``--no-network`` leaves it out.

With ``--bm3d`` the package of that name takes part, which needs some ten seconds a picture; what it
returns is kept in the folder ``--cache`` if there is one.  BM3D is given the noise as it is
estimated, or as it is; photon noise is made white by the generalised Anscombe transformation.

PSNRs are of pictures rounded to 8 bits, over all channels.  *Sigma* is white noise as
:func:`dipfast.ops.estimate_noise` finds it, *model* what :func:`dipfast.estimate_noise` finds,
clipping included.  Below a table is what was asked of it.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

import dipfast
from benches.quality.noise import simulate
from benches.quality.noise.denoise import PEAKS
from benches.quality.noise.level import generator_of, markdown, middle, photograph
from benches.quality.paper.pictures import INPAINT, SET5, Picture, Source
from benches.quality.paper.runs import measured
from dipfast.images.files import read_image
from dipfast.noise_report import NoiseReport
from dipfast.settings.noise import NoiseParameters

__all__ = ["Bm3d", "Case", "Stabiliser", "score"]

Pixels: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
Way: TypeAlias = "Callable[[Case], Pixels]"

SPEEDS = ("fast", "balanced", "best")
LEVELS_OF_GREY = (15, 25, 50)
LEVELS_OF_SPEEDS = (10, 25, 50)
FACTORS = (1, 2, 4)
# Photographs that are in no other table: of scikit-image, and of Set14.
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea")
OF_SET14 = ("barbara", "monarch", "flowers")
# How many times the pictures of Set5 are enlarged.
FACTOR = 4
# Read noise and offset of photon noise, in counts.
READ_NOISE, OFFSET = 3.0, 100.0
COUNTED = (0.3, 1.0, 3.0, 10.0, 30.0)
# A camera for science: photons of white, counts of one and of none, and electrons of reading.
OF_CAMERA, PER_PHOTON, BLACK, READ_BY_CAMERA = (10.0, 30.0, 100.0, 300.0), 2.17, 100.0, 1.6
# A camera that multiplies: photons of white, mean counts of one and of none, and noise in photons.
OF_EMCCD, MULTIPLIED, DARK, READ_BY_EMCCD = (1.0, 3.0, 10.0, 30.0), 20.0, 500.0, 0.3
# Noise of the channels of photographs, and of two that are channels of one picture.
OF_COLOURS, OF_TWO = ((10, 10, 10), (10, 15, 12), (10, 40, 20), (5, 50, 10)), ((25, 25), (10, 40))
REPEATS = 3
LARGE = (3000, 4000, 3)
# macOS reports the peak in bytes, Linux in units of 1024 bytes.
_UNIT = 1 if sys.platform == "darwin" else 1024

# What is asked: PSNR in dB, seconds, copies of the picture in float32.
NINE, NINE_UNCLIPPED = 31.7, 31.85
SECONDS, TIMES_BM3D = 1.0, 8.0
LARGE_SECONDS, LARGE_COPIES = 40.0, 6.0


# --- what is measured ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Hold a picture to denoise.

    Parameters
    ----------
    name
        Name in the table.
    noisy, clean
        The picture, and what it is compared with, in the same unit.
    low, width
        Value of black, and white minus black, in the same unit.
    published
        Published results, by name.
    """

    name: str
    noisy: Pixels
    clean: Pixels
    low: float = 0.0
    width: float = 255.0
    published: Mapping[str, Pixels] = field(default_factory=dict)

    @cached_property
    def sigma(self) -> float:
        """Return the estimate of white noise, in the unit of the picture."""
        return dipfast.ops.estimate_noise(self.noisy, channel_axis=self.channel_axis)

    @cached_property
    def report(self) -> NoiseReport:
        """Return what the picture tells of its noise."""
        given = (0.0, 255.0) if self.noisy.dtype.kind == "f" and self.width == 255 else None
        return dipfast.estimate_noise(self.noisy, channel_axis=self.channel_axis, data_range=given)

    @property
    def channel_axis(self) -> int | None:
        """Return the axis of the channels."""
        return -1 if self.noisy.ndim == 3 else None

    def psnr(self, image: Pixels) -> float:
        """Return the PSNR of a result, in dB."""
        scale = 255 / self.width
        return score(*((x.astype(np.float64) - self.low) * scale for x in (image, self.clean)))


def score(image: Pixels, clean: Pixels) -> float:
    """Return the PSNR in dB of a picture in levels of 8 bits, rounded to them, over all values."""
    restored, true = (np.asarray(x, np.float64).round().clip(0, 255) for x in (image, clean))
    error = float(np.mean(np.square(restored - true)))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def ridge(case: Case, speed: str, noise: NoiseParameters | None = None, **options: Any) -> Pixels:
    """Return the picture denoised."""
    denoise: Any = dipfast.ops.nl_ridge
    result = denoise(
        case.noisy, speed=speed, noise=noise, channel_axis=case.channel_axis, **options
    )
    return np.asarray(result)


def ridge_by_report(case: Case, speed: str) -> Pixels:
    """Return the picture denoised with the noise that is found in it."""
    return ridge(case, speed, case.report.model, data_range=case.report.data_range)


def ridge_by_factor(case: Case, speed: str, factor: float) -> Pixels:
    """Return the picture denoised with so many times the white noise that is found in it."""
    return ridge(case, speed, sigma=factor * case.sigma)


@dataclass(frozen=True)
class Bm3d:
    """Denoise by the package bm3d; results are kept in a folder, if there is one."""

    cache: Path | None = None

    def __call__(self, noisy: Pixels, sigma: float, width: float = 255.0) -> Pixels:
        """Return a picture (H, W) or (H, W, 3) denoised; sigma and width are in its unit."""
        if self.cache is None:
            return self.restored(noisy, sigma, width)
        text = f"{noisy.dtype} {noisy.shape} {sigma:.6g} {width:.6g}"
        key = zlib.crc32(text.encode(), zlib.crc32(np.ascontiguousarray(noisy).tobytes()))
        path = self.cache / f"{key:08x}.npz"
        if path.exists():
            with np.load(path) as file:
                return np.asarray(file["image"])
        image = self.restored(noisy, sigma, width).astype(np.float32)
        self.cache.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, image=image)
        return image

    def by_factor(self, case: Case, factor: float = 1.0) -> Pixels:
        """Return a case denoised with so many times the white noise that is found in it."""
        return self(case.noisy, factor * case.sigma)

    def by_model(self, case: Case, factor: float = 1.0) -> Pixels:
        """Return a case denoised with so many times the level of the model that is found in it."""
        return self(case.noisy, factor * case.report.sigma)

    @staticmethod
    def restored(noisy: Pixels, sigma: float, width: float = 255.0) -> Pixels:
        """Return a picture denoised, by the package."""
        import bm3d

        # Its thresholds of the distance between blocks are for pictures in [0, 1].
        function = bm3d.bm3d if noisy.ndim == 2 else bm3d.bm3d_rgb
        return np.asarray(function(noisy.astype(np.float64) / width, sigma / width) * width)


# --- photon noise made white --------------------------------------------------------------------


@dataclass(frozen=True)
class Stabiliser:
    r"""Make noise of the variance ``gain * (signal - offset) + sigma**2`` white, and undo it.

    The generalised Anscombe transformation, and the closed form of its exact unbiased inverse
    [1]_, which is that of the expected transformed values.

    Parameters
    ----------
    gain
        What one unit of signal adds to the variance; not 0.
    sigma
        Standard deviation without signal.
    offset
        Expected value without signal.

    References
    ----------
    .. [1] Makitalo, Foi, "Optimal inversion of the generalized Anscombe transformation for
       Poisson-Gaussian noise", IEEE Transactions on Image Processing 22(1), 2013.
    """

    gain: float
    sigma: float
    offset: float = 0.0

    def forward(self, x: Pixels) -> Floats:
        """Return values whose noise has about a standard deviation of 1."""
        counts = (x.astype(np.float64) - self.offset) / self.gain
        inside = counts + 3 / 8 + (self.sigma / self.gain) ** 2
        return np.asarray(2 * np.sqrt(np.maximum(inside, 0)))

    def inverse(self, expected: Pixels) -> Floats:
        """Return the expected values of which these are the expected transformed values."""
        # Smaller ones stand for no signal, even without noise of reading.
        d = np.maximum(expected.astype(np.float64), 2 * math.sqrt(3 / 8))
        root = math.sqrt(3 / 2)
        counts = d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8
        counts -= (self.sigma / self.gain) ** 2
        return np.asarray(np.maximum(counts, 0) * self.gain + self.offset)

    @classmethod
    def of(cls, noise: NoiseParameters, data_range: tuple[float, float]) -> Stabiliser | None:
        """Return the one for a noise in units of a range; None if it does not grow."""
        low, width = data_range[0], data_range[1] - data_range[0]
        if noise.gain == 0:
            return None
        return cls(noise.gain * width, noise.sigma * width, low + noise.offset * width)


def stabilised(
    bm3d: Bm3d, noisy: Pixels, noise: NoiseParameters, data_range: tuple[float, float]
) -> Pixels:
    """Return a picture with photon noise denoised by BM3D."""
    pair = Stabiliser.of(noise, data_range)
    width = data_range[1] - data_range[0]
    if pair is None:
        return bm3d(noisy, noise.sigma * width, width)
    values = pair.forward(noisy)
    low, high = float(values.min()), float(values.max())
    return pair.inverse(bm3d(values - low, 1.0, high - low) + low)


# --- tables -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Hold the PSNRs of cases by way, and the mean seconds of a way, without the model's."""

    rows: dict[str, dict[str, float]]
    seconds: dict[str, float]

    @classmethod
    def of(cls, cases: Iterable[Case], ways: Mapping[str, Way]) -> Table:
        """Do all of them."""
        rows: dict[str, dict[str, float]] = {}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for case in cases:
            row = rows[case.name] = {"input": case.psnr(case.noisy)}
            for name, image in case.published.items():
                row[name] = case.psnr(image)
            if any("model" in name for name in ways):
                _ = case.report  # is not part of the seconds of the first
            for name, way in ways.items():
                start = time.perf_counter()
                row[name] = case.psnr(way(case))
                seconds[name].append(time.perf_counter() - start)
            print(case.name, *(f"{value:.2f}" for value in row.values()), file=sys.stderr)
        if not rows:
            raise SystemExit("no pictures; is --data the folder of the test pictures?")
        means = {name: statistics.fmean(values) for name, values in seconds.items()}
        return cls(rows, means)

    def mean(self, way: str) -> float:
        """Return the mean PSNR of a way."""
        return statistics.fmean(row[way] for row in self.rows.values())

    def gains(self, way: str) -> list[float]:
        """Return what a way gains over the input, for each case."""
        return [row[way] - row["input"] for row in self.rows.values()]

    def markdown(self, groups: Sequence[str] = ()) -> str:
        """Return the table; groups are the beginnings of names that have a mean of their own."""
        names = list(next(iter(self.rows.values())))
        lines = [[name, *(_db(row[way]) for way in names)] for name, row in self.rows.items()]
        for group in groups:
            of_group = self.of_group(group)
            lines.append([f"mean, {group}", *(_db(of_group.mean(way)) for way in names)])
        lines.append(["mean", *(_db(self.mean(way)) for way in names)])
        times = [f"{self.seconds[way]:.1f}" if way in self.seconds else "" for way in names]
        return markdown(["", *names], [*lines, ["seconds", *times]])

    def of_group(self, group: str) -> Table:
        """Return the part of a group."""
        chosen = {name: row for name, row in self.rows.items() if name.endswith(f", {group}")}
        return Table(chosen, self.seconds)


def asked(what: str, value: float, *, least: float | None = None, most: float | None = None) -> str:
    """Return a line that says whether what was asked is met."""
    met = (least is None or value >= least) and (most is None or value <= most)
    bar = f"at least {least:g}" if least is not None else f"at most {most:g}"
    return f"- {what}: {value:.2f}, asked {bar}: {'met' if met else 'MISSED'}"


def _db(value: float) -> str:
    return f"{value:.2f}"


def _page(text: str, lines: Iterable[str]) -> str:
    return "\n".join([text, "", *lines]).rstrip()


def _bm3d(options: Any) -> Bm3d | None:
    """Return BM3D if it takes part."""
    return Bm3d(options.cache) if options.bm3d else None


# --- the nine pictures --------------------------------------------------------------------------


def nine(options: Any) -> str:
    """Return the table of the nine pictures."""
    cases = (
        Case(picture.name, picture.degraded, _clean(picture.clean), published=picture.published)
        for picture in Source(options.data, options.size).denoise()
    )
    ways: dict[str, Way] = {}
    for speed in options.speeds:
        ways[speed] = partial(ridge, speed=speed)
        ways[f"{speed}, model"] = partial(ridge_by_report, speed=speed)
    if bm3d := _bm3d(options):
        ways["bm3d, sigma"] = bm3d.by_factor
    table = Table.of(islice(cases, options.limit), ways)
    lines = []
    if "best" in options.speeds:
        lines = [
            asked("mean, best", table.mean("best"), least=NINE),
            asked("mean, best, model", table.mean("best, model"), least=NINE_UNCLIPPED),
        ]
    return _page(table.markdown(), lines)


def _clean(pixels: Pixels | None) -> Pixels:
    assert pixels is not None
    return pixels


# --- grey pictures ------------------------------------------------------------------------------


def grey(options: Any) -> str:
    """Return the table of grey pictures with noise of three levels, which is not clipped."""
    pictures = list(islice(Source(options.data, options.size).inpaint(), options.limit))
    cases = []
    for sigma in LEVELS_OF_GREY:
        for picture in pictures:
            clean, name = _clean(picture.clean), f"{picture.name}, {sigma}"
            noise = generator_of(name).normal(0, sigma, clean.shape)
            cases.append(Case(name, (clean + noise).astype(np.float32), clean))
    ways: dict[str, Way] = {speed: partial(ridge, speed=speed) for speed in options.speeds}
    if bm3d := _bm3d(options):
        ways["bm3d, true sigma"] = lambda case: bm3d(
            case.noisy, float(case.name.rpartition(", ")[2])
        )
        ways["bm3d, sigma"] = bm3d.by_factor
    table = Table.of(cases, ways)
    lines = []
    groups = [str(sigma) for sigma in LEVELS_OF_GREY]
    for group in groups if bm3d else ():
        part = table.of_group(group)
        for speed in options.speeds:
            for other in ("bm3d, true sigma", "bm3d, sigma"):
                gain = part.mean(speed) - part.mean(other)
                lines.append(asked(f"sigma {group}, {speed} minus {other}", gain, least=0))
    return _page(table.markdown(groups), lines)


# --- photon noise -------------------------------------------------------------------------------


def poisson(options: Any) -> str:
    """Return the table of photographs with photon noise; the peak is the photons of white."""
    cases = []
    for peak in PEAKS:
        for name in PHOTOGRAPHS[: options.limit]:
            label = f"{name}, {peak:g}"
            clean = photograph(name, options.size or 10**6)
            made = simulate.poisson_gaussian(clean, generator_of(label), peak, READ_NOISE, OFFSET)
            cases.append(Case(label, made.noisy, made.clean, OFFSET, peak))
    return _photons(cases, PEAKS, READ_NOISE, options)


def counts(options: Any, in_grey: bool = False) -> str:
    """Return the table of photographs by counted photons, as floats, which keep fractions."""
    cases = []
    for peak in COUNTED:
        for name in PHOTOGRAPHS[: options.limit]:
            label = f"{name}, {peak:g}"
            true = photograph(name, options.size or 10**6) / 255.0 * peak
            true = true.mean(axis=-1) if in_grey else true
            noisy = generator_of(label).poisson(true).astype(np.float32)
            cases.append(Case(label, noisy, true, 0.0, peak))
    return _photons(cases, COUNTED, 0.0, options)


def offset(options: Any) -> str:
    """Return the table of photographs by a scientific camera with a dead pixel."""

    def electrons(random: np.random.Generator, true: Pixels) -> Pixels:
        return random.poisson(true) + random.normal(0, READ_BY_CAMERA, true.shape)

    cases = _of_camera(OF_CAMERA, electrons, PER_PHOTON, BLACK, options)
    for case in cases:
        case.noisy[17, 33] = 0
    return _photons(cases, OF_CAMERA, READ_BY_CAMERA * PER_PHOTON, options, PER_PHOTON)


def emccd(options: Any) -> str:
    """Return the table of photographs by a camera that multiplies its electrons."""

    def electrons(random: np.random.Generator, true: Pixels) -> Pixels:
        # The sum of n exponentials has a gamma distribution; of shape 0, it is 0.
        charges = random.gamma(random.poisson(true))
        return charges + random.normal(0, READ_BY_EMCCD, true.shape)

    cases = _of_camera(OF_EMCCD, electrons, MULTIPLIED, DARK, options)
    return _photons(
        cases, OF_EMCCD, READ_BY_EMCCD * MULTIPLIED, options, 2 * MULTIPLIED, excess=3.0
    )


def channels(options: Any) -> str:
    """Return the table of pictures whose channels have noise, or contents, of their own."""
    cases, sigmas = [], {}
    names = PHOTOGRAPHS[: options.limit]
    pictures = {name: photograph(name, options.size or 10**6) for name in names}
    for name, other in zip(names, [*names[1:], names[0]]):
        size = np.minimum(pictures[name].shape, pictures[other].shape)
        both = [pictures[n][: size[0], : size[1], 1] for n in (name, other)]
        sets: list[tuple[str, Pixels, tuple[int, ...]]]
        sets = [(f"{name}, colour", pictures[name], levels) for levels in OF_COLOURS]
        sets += [(f"{name}, two", np.stack(both, axis=-1), levels) for levels in OF_TWO]
        for kind, clean, levels in sets:
            label = f"{kind} {' '.join(map(str, levels))}"
            sigmas[label] = np.array(levels, np.float64)
            noise = generator_of(label).normal(size=clean.shape) * sigmas[label]
            noisy = (clean + noise).astype(np.float32)
            cases.append(Case(label, noisy, _clean(clean)))

    def true(case: Case, speed: str) -> Pixels:
        return ridge(case, speed, sigma=sigmas[case.name].reshape(1, 1, -1))

    def of_one_level(case: Case, speed: str) -> Pixels:
        return ridge(case, speed, sigma=math.sqrt(float(np.mean(sigmas[case.name] ** 2))))

    def alone(case: Case, speed: str) -> Pixels:
        planes = np.moveaxis(case.noisy, -1, 0)
        denoise: Any = dipfast.ops.nl_ridge
        each = [denoise(x, float(s), speed=speed) for x, s in zip(planes, sigmas[case.name])]
        return np.stack(each, axis=-1)

    ways: dict[str, Way] = {}
    for speed in options.speeds:
        ways[f"{speed}, model"] = partial(ridge_by_report, speed=speed)
        ways[f"{speed}, true"] = partial(true, speed=speed)
        ways[f"{speed}, one level"] = partial(of_one_level, speed=speed)
        ways[f"{speed}, alone"] = partial(alone, speed=speed)
    return Table.of(cases, ways).markdown()


def _of_camera(
    peaks: Sequence[float],
    electrons: Callable[[np.random.Generator, Pixels], Pixels],
    per_photon: float,
    black: float,
    options: Any,
) -> list[Case]:
    """Return photographs in grey as a camera counts them: electrons times a factor, above black."""
    cases = []
    for peak in peaks:
        for name in PHOTOGRAPHS[: options.limit]:
            label = f"{name}, {peak:g}"
            true = photograph(name, options.size or 10**6).mean(axis=-1) / 255.0 * peak
            counts = per_photon * electrons(generator_of(label), true) + black
            noisy = counts.round().clip(0).astype(np.float32)
            cases.append(Case(label, noisy, per_photon * true + black, black, per_photon * peak))
    return cases


def _photons(
    cases: Sequence[Case],
    peaks: Sequence[float],
    read_noise: float,
    options: Any,
    per_photon: float = 1.0,
    excess: float = 1.0,
) -> str:
    """Return the table of pictures with photon noise."""

    def true(case: Case) -> tuple[NoiseParameters, tuple[float, float]]:
        # In units of the range from no light to a white pixel.
        noise = NoiseParameters(read_noise / case.width, per_photon / case.width, excess=excess)
        return noise, (case.low, case.low + case.width)

    def by_truth(case: Case, speed: str) -> Pixels:
        noise, data_range = true(case)
        return ridge(case, speed, noise, data_range=data_range)

    ways: dict[str, Way] = {}
    for speed in options.speeds:
        ways[f"{speed}, model"] = partial(ridge_by_report, speed=speed)
        ways[f"{speed}, true"] = partial(by_truth, speed=speed)
    if bm3d := _bm3d(options):
        ways["bm3d, model"] = lambda case: stabilised(
            bm3d, case.noisy, case.report.model, case.report.data_range
        )
        ways["bm3d, true"] = lambda case: stabilised(bm3d, case.noisy, *true(case))
    table = Table.of(cases, ways)
    groups = [f"{peak:g}" for peak in peaks]
    lines = []
    for group in groups if bm3d else ():
        part = table.of_group(group)
        for speed in options.speeds:
            for noise in ("model", "true"):
                gain = part.mean(f"{speed}, {noise}") - part.mean(f"bm3d, {noise}")
                lines.append(asked(f"peak {group}, {speed} minus bm3d, {noise}", gain, least=0))
    return _page(table.markdown(groups), lines)


# --- real cameras -------------------------------------------------------------------------------


def polyu(options: Any) -> str:
    """Return the table of real cameras."""
    cases = (
        Case(picture.name, picture.degraded, _clean(picture.clean))
        for picture in Source(options.data, options.size).camera()
    )
    ways: dict[str, Way] = {}
    for speed in options.speeds:
        ways[f"{speed}, model"] = partial(ridge_by_report, speed=speed)
        for factor in FACTORS:
            ways[f"{speed}, {factor} sigma"] = partial(ridge_by_factor, speed=speed, factor=factor)
    if bm3d := _bm3d(options):
        for factor in FACTORS:
            ways[f"bm3d, {factor} sigma"] = partial(bm3d.by_factor, factor=factor)
        for factor in FACTORS:
            ways[f"bm3d, {factor} model"] = partial(bm3d.by_model, factor=factor)
    table = Table.of(islice(cases, options.limit), ways)
    worse = ["worse than the input", f"0/{len(table.rows)}"]
    least = ["least gain", "0.00"]
    for way in ways:
        gains = table.gains(way)
        worse.append(f"{sum(round(gain, 2) < 0 for gain in gains)}/{len(gains)}")
        least.append(f"{min(gains):+.2f}")
    text = "\n".join([table.markdown(), *("| " + " | ".join(row) + " |" for row in (worse, least))])
    lines = []
    for speed in options.speeds:
        way = f"{speed}, model"
        lines.append(asked(f"{way}, least gain", min(table.gains(way)), least=0))
        if bm3d:
            for estimate in ("sigma", "model"):
                means = [table.mean(f"bm3d, {factor} {estimate}") for factor in FACTORS]
                for name, mean in (("bm3d, 1", means[0]), ("the best bm3d", max(means))):
                    gain = table.mean(way) - mean
                    lines.append(asked(f"{way} minus {name} of {estimate}", gain, least=0))
    return _page(text, lines)


# --- time ---------------------------------------------------------------------------------------


def times(options: Any) -> str:
    """Return tables of seconds, and of memory."""
    size = min(512, options.size or 512)
    made = simulate.white(photograph("astronaut", size), generator_of("time"), 25)
    case = Case("astronaut", made.noisy.astype(np.float32), made.clean)
    names = [*options.speeds, *(["bm3d"] if options.bm3d else [])]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    of_cores: dict[str, list[float]] = {name: [] for name in names}
    ridge(case, "fast")
    for _ in range(REPEATS):  # in turn, so that a drift of the machine meets all
        for name in names:
            start, start_of_cores = time.perf_counter(), time.process_time()
            if name == "bm3d":
                Bm3d.restored(case.noisy, case.sigma)
            else:
                ridge(case, name)
            seconds[name].append(time.perf_counter() - start)
            of_cores[name].append(time.process_time() - start_of_cores)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {
        name: statistics.median(b / a for a, b in zip(seconds[name], seconds.get("bm3d", ())))
        for name in options.speeds
        if options.bm3d
    }
    rows = [
        [name, medians[name], statistics.median(of_cores[name]), ratios.get(name, math.nan)]
        for name in names
    ]
    head = [f"{size}x{size}, colour", "seconds", "of all cores", "times as fast as bm3d"]
    text = markdown(head, rows)
    lines = []
    if "balanced" in options.speeds:
        lines.append(asked("balanced, seconds", medians["balanced"], most=SECONDS))
    if "balanced" in ratios:
        lines.append(asked("balanced, times as fast", ratios["balanced"], least=TIMES_BM3D))
    parts = [_page(text, lines)]
    if options.size is None:
        parts.append(_large_table())
    return "\n\n".join(parts)


def _large_table() -> str:
    """Return the table of a large picture, which is denoised in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds, copies = pool.apply(large, ("fast", LARGE))
    rows, columns, channels = LARGE
    size = f"{columns}x{rows}, {channels} channels"
    text = markdown([size, "seconds", "copies in float32"], [["fast", seconds, copies]])
    return _page(
        text,
        [
            asked("fast, seconds", seconds, most=LARGE_SECONDS),
            asked("fast, copies", copies, most=LARGE_COPIES),
        ],
    )


def large(speed: str, shape: tuple[int, int, int]) -> tuple[float, float]:
    """Return seconds for a large picture, and the memory in copies of it in float32.

    It is what the peak of the resident memory grows by; the picture itself is not counted.
    """
    generator = np.random.default_rng(0)
    tile = photograph("astronaut", 512).astype(np.float32)
    picture = np.empty(shape, np.float32)
    for row in range(shape[0]):
        line = tile[row % len(tile)]
        for first in range(0, shape[1], len(line)):
            picture[row, first : first + len(line)] = line[: shape[1] - first]
        picture[row] += generator.normal(0, 10, shape[1:])
    ridge(Case("", picture[:64, :64], picture[:64, :64]), speed)
    case = Case("", picture, picture)
    before, start = _peak(), time.perf_counter()
    ridge(case, speed)
    return time.perf_counter() - start, (_peak() - before) / picture.nbytes


def _peak() -> int:
    """Return the peak of the resident memory of this process, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


# --- speeds -------------------------------------------------------------------------------------


def speeds(options: Any) -> str:
    """Return the table of speeds on photographs that are in no other table, of 8 bits."""
    photographs = list(islice(_photographs(options.data, options.size), options.limit))
    cases = []
    for sigma in LEVELS_OF_SPEEDS:
        for name, clean in photographs:
            label = f"{name}, {sigma}"
            cases.append(
                Case(label, simulate.white(clean, generator_of(label), sigma).noisy, clean)
            )
    ways: dict[str, Way] = {}
    for speed in options.speeds:
        ways[speed] = partial(ridge, speed=speed)
    for speed in options.speeds:
        ways[f"{speed}, model"] = partial(ridge_by_report, speed=speed)
    if bm3d := _bm3d(options):
        ways["bm3d, sigma"] = bm3d.by_factor
    return Table.of(cases, ways).markdown([str(sigma) for sigma in LEVELS_OF_SPEEDS])


def _photographs(folder: Path, size: int | None) -> Iterator[tuple[str, Pixels]]:
    for name in PHOTOGRAPHS:
        yield name, photograph(name, size or 10**6)
    for name in OF_SET14:
        yield name, middle(read_image(folder / f"set14_x4/{name}_GT.png").image, size or 10**6)


# --- plug and play ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Restored(Case):
    """Hold a picture to inpaint or to enlarge; the noisy one is what is there without work.

    Parameters
    ----------
    picture
        The picture with its task and the arguments of it.
    measure
        What the PSNR is of: ``"rgb"``, all channels; or ``"y"``, luma without its border.
    """

    picture: Picture = field(kw_only=True)
    measure: str = "rgb"

    def psnr(self, image: Pixels) -> float:
        """Return the PSNR of a result, in dB."""
        return measured(image, self.clean, self.measure)


def by_task(case: Case, **options: Any) -> Pixels:
    """Return the picture restored by its task."""
    assert isinstance(case, Restored)
    picture = case.picture
    task: Any = getattr(dipfast, picture.task)
    return np.asarray(task(picture.degraded, **picture.arguments, **options).image)


def _plug_and_play(cases: Iterable[Restored], options: Any) -> str:
    """Return the table of plug and play beside the network, and the default that joins them."""
    ways: dict[str, Way] = {
        f"pnp, {speed}": partial(by_task, method="pnp", quality=speed) for speed in options.speeds
    }
    ways["joined"] = by_task
    if options.network:
        ways["network"] = partial(by_task, method="two_stage")
    table = Table.of(islice(cases, options.limit), ways)
    lines = []
    for way in list(ways)[:-1] if options.network else ():
        gain = table.mean(way) - table.mean("network")
        lines.append(asked(f"{way} minus network", gain, least=0))
    for name in next(iter(table.rows.values())):
        if name.startswith("DIP"):
            gain = table.mean("joined") - table.mean(name)
            lines.append(asked(f"joined minus {name}", gain, least=0))
    return _page(table.markdown(), lines)


def inpaint(options: Any) -> str:
    """Return the table of pictures with holes; known pixels are kept, and count."""
    cases = (
        Restored(p.name, p.degraded, _clean(p.clean), published=p.published, picture=p)
        for p in Source(options.data, options.size, tuple(options.only)).inpaint()
    )
    return _plug_and_play(cases, options)


def enlarge(options: Any) -> str:
    """Return the table of Set5."""
    cases = (
        Restored(
            p.name,
            p.published["bicubic"],
            _clean(p.clean),
            published={"DIP": p.published["DIP"]} if "DIP" in p.published else {},
            picture=p,
            measure="y",
        )
        for p in Source(options.data, options.size, SET5).super_resolve(FACTOR)
    )
    return _plug_and_play(cases, options)


SETS: dict[str, Callable[[Any], str]] = {
    "nine": nine,
    "grey": grey,
    "poisson": poisson,
    "counts": counts,
    "counts-grey": partial(counts, in_grey=True),
    "offset": offset,
    "emccd": emccd,
    "channels": channels,
    "polyu": polyu,
    "time": times,
    "speeds": speeds,
    "inpaint": inpaint,
    "enlarge": enlarge,
}


# --- command ------------------------------------------------------------------------------------


def main() -> None:
    options = _parser().parse_args()
    for name in options.sets:
        print(f"### {name}\n\n{SETS[name](options)}\n", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("sets", nargs="+", metavar="SET", choices=SETS, help=", ".join(SETS))
    add("--data", type=Path, default=Path("data"), help="folder with the test pictures")
    add("--speeds", nargs="+", choices=SPEEDS, default=SPEEDS, help="(default: all)")
    add("--bm3d", action="store_true", help="compare with the package bm3d")
    add("--cache", type=Path, help="folder in which results of bm3d are kept")
    add("--size", type=int, help="rows and columns at most (default: whole pictures)")
    add("--limit", type=int, help="pictures at most")
    add("--only", nargs="+", metavar="NAME", choices=INPAINT, default=(), help="of inpaint")
    network = "compare with the network where plug and play is measured (default: yes)"
    add("--network", action=argparse.BooleanOptionalAction, default=True, help=network)
    return parser


if __name__ == "__main__":
    main()
