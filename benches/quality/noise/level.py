"""Measure the error of what is estimated of a picture's noise.

    python -m benches.quality.noise.level SET... --data FOLDER [--size 256] [--jobs 1]

Each set is a table or two, in Markdown:

- ``nine``: the nine pictures of the Deep Image Prior paper with white noise of four levels;
- ``cameras``: photographs through a simulated camera that demosaicks and writes JPEG;
- ``polyu``: pictures of real cameras, of which the average of many shots is known;
- ``real``: noisy pictures of which nothing else is known;
- ``odd``: white noise with hot pixels, saturation, a border, stripes, or enlarged;
- ``pages``: pages of letters, without noise and with little;
- ``microscopes``: photon noise of several devices, at three levels of light.

The folder is that of ``benches.quality.paper``, with ``rni15`` for ``real``. Levels are those of
the default ``kind="auto"`` unless another is named, found in the value range that
:func:`dipfast.denoise` would find. Ratios are of the estimate to the truth.
"""

from __future__ import annotations

import argparse
import math
import statistics
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, get_args

import numpy as np
import torch

from benches.quality.noise import simulate
from benches.quality.noise.simulate import CAMERA_LEVELS, Demosaic, Simulated
from benches.quality.paper.pictures import CLIPPED_LEVELS, Picture, Source
from dipfast import ops
from dipfast.images.files import read_image
from dipfast.images.layout import Layout
from dipfast.model.noise import NoiseModel
from dipfast.model.noise_estimate import NoiseEstimate, estimate_noise
from dipfast.model.noise_spectrum import autocorrelation
from dipfast.settings.names import NoiseKind

__all__ = [
    "Found",
    "find",
    "generator_of",
    "in_processes",
    "markdown",
    "middle",
    "pairs_of_cameras",
    "photograph",
    "root_mean_square",
]

Pixels: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
T = TypeVar("T")
U = TypeVar("U")

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee")
QUALITIES_OF_JPEG = (95, 85, 75)
OTHER_SHOTS = 8
ODD_SIGMAS = (10, 25)
LIGHT = (10.0, 100.0, 1000.0)
# Side and distance of the blocks whose median is the typical level of noise.
BLOCK, STEP = 8, 4


# --- what is estimated -------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """Hold an estimate of noise, and the value range in whose units it is.

    Parameters
    ----------
    estimate
        The estimate, for the picture mapped to [0, 1].
    low, width
        Lower end and width of the value range, in the unit of the picture.
    level
        Standard deviation in the unit of the picture; for photon noise, the root mean square over
        the picture.
    """

    estimate: NoiseEstimate
    low: float
    width: float
    level: float

    @property
    def model(self) -> NoiseModel:
        """Return the model of the noise, for the picture mapped to [0, 1]."""
        return self.estimate.model

    @property
    def kind(self) -> str:
        """Return the kind of the noise in words."""
        if self.model.spectrum is not None:
            return "correlated"
        return "photons" if self.model.gain > 0 else "white"

    @property
    def described(self) -> str:
        """Return the kind of the noise, and whether it is clipped, in words."""
        return f"{self.kind}, clipped" if self.model.clipped else self.kind

    @property
    def near(self) -> float:
        """Return the autocorrelation at distance 1, the average of both directions."""
        spectrum = self.model.spectrum
        if spectrum is None:
            return 0.0
        return (autocorrelation(spectrum, 0, 1) + autocorrelation(spectrum, 1, 0)) / 2

    def first_level(self) -> float:
        """Return the first estimate, from wavelet coefficients, in the unit of the picture."""
        return self.width * self.estimate.levels.get("wavelets", math.nan)

    def deviation_at(self, value: float) -> float:
        """Return the standard deviation where the clean picture has a value, in its unit."""
        clean = torch.tensor((value - self.low) / self.width, dtype=torch.float64)
        return self.width * math.sqrt(float(self.model.variance(clean)))


def find(pixels: Pixels, kind: NoiseKind = "auto") -> Found:
    """Estimate the noise of a picture (H, W) or (H, W, C), in the range that is found for it."""
    layout = Layout.of(pixels)
    image = layout.to_tensor(pixels)[0]
    estimate = estimate_noise(image, kind, ends=layout.ends)
    low, high = layout.data_range
    level = estimate.model.sigma
    if estimate.model.gain > 0:
        signal = (image.double() - estimate.model.offset).clamp_min(0)
        variance = estimate.model.gain * signal + level**2
        level = math.sqrt(float(variance.mean()))
    return Found(estimate, low, high - low, (high - low) * level)


# --- helpers of tables -------------------------------------------------------------------------


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown; floats have three decimals, and NaN is a dash."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.3f}"


def root_mean_square(values: Iterable[float]) -> float:
    """Return the root of the mean of squares; NaN for no values."""
    squares = [value**2 for value in values]
    return math.sqrt(statistics.fmean(squares)) if squares else math.nan


def within(ratios: Sequence[float], factor: float) -> str:
    """Return how many ratios are within a factor of 1, and of how many: ``"3/4"``."""
    count = sum(1 / factor <= ratio <= factor for ratio in ratios)
    return f"{count}/{len(ratios)}"


def in_processes(
    function: Callable[[T], U], items: Sequence[T], jobs: int, *, threads: int = 2
) -> Iterator[U]:
    """Yield what a function returns for each item, in order, from several processes.

    With one job there is no other process. Every process has so many threads of torch.
    """
    if jobs > 1:
        start = get_context("spawn"), torch.set_num_threads, (threads,)
        with ProcessPoolExecutor(jobs, *start) as pool:
            yield from pool.map(function, items)
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield from map(function, items)
    finally:
        torch.set_num_threads(before)


def generator_of(name: str) -> np.random.Generator:
    """Return a generator whose numbers depend on a name alone."""
    return np.random.default_rng(zlib.crc32(name.encode()))


# --- pictures ------------------------------------------------------------------------------------


def middle(pixels: Pixels, size: int) -> Pixels:
    """Return the middle rows and columns of a picture, as many as there are up to a size."""
    parts = []
    for n in pixels.shape[:2]:
        first = max(n - size, 0) // 2
        parts.append(slice(first, first + size))
    return np.ascontiguousarray(pixels[tuple(parts)])


def photograph(name: str, size: int) -> Pixels:
    """Return the middle of a photograph of scikit-image, of 8 bits."""
    import skimage.data

    return middle(np.asarray(getattr(skimage.data, name)()), size)


def pairs_of_cameras(folder: Path, size: int) -> Iterator[Picture]:
    """Yield the pictures of ``polyu256``, each with the average of many shots as the clean one."""
    return iter(Source(folder, size).camera())


def _clean_pictures(folder: Path, size: int) -> dict[str, Pixels]:
    """Return photographs of scikit-image and the clean pictures of the papers, by name."""
    pictures = {name: photograph(name, size) for name in PHOTOGRAPHS}
    for path in sorted((folder / "denoise25").glob("*_GT.png")):
        pictures[path.name.removesuffix("_GT.png")] = middle(read_image(path).image, size)
    return pictures


# --- white noise on the nine pictures -------------------------------------------------------------


def nine(options: Any) -> str:
    """Return the table of the nine pictures: what each way makes of each level."""
    pictures = list(Source(options.data, options.size).levels(CLIPPED_LEVELS))
    found = list(in_processes(_nine_rows, pictures, options.jobs))
    names = list(dict.fromkeys(picture.name.rpartition(" ")[0] for picture in pictures))
    rows = []
    for sigma in CLIPPED_LEVELS:
        columns = [
            ways for picture, ways in zip(pictures, found) if picture.name.endswith(f" {sigma}")
        ]
        for way in columns[0]:
            ratios = [ways[way] for ways in columns]
            error = root_mean_square(ratio - 1 for ratio in ratios)
            rows.append([sigma, *way, *ratios, f"{error:.1%}"])
    return markdown(["sigma", "noise", "by", *names, "error"], rows)


def _nine_rows(picture: Picture) -> dict[tuple[str, str], float]:
    """Return the ratios of a picture with noise by (noise, estimator)."""
    sigma = float(picture.name.rpartition(" ")[2])
    assert picture.clean is not None
    noise = generator_of(picture.name).normal(0, sigma, picture.clean.shape)
    pictures: dict[str, tuple[NoiseKind, Pixels]] = {
        "clipped": ("clipped", picture.degraded),
        "white": ("gaussian", (picture.clean + noise).astype(np.float32)),
    }
    rows = {}
    for name, (kind, pixels) in pictures.items():
        known, auto = find(pixels, kind), find(pixels)
        rows[name, "wavelets"] = known.first_level() / sigma
        rows[name, f"kind={kind}"] = known.level / sigma
        rows[name, "kind=auto"] = auto.level / sigma
    return rows


# --- simulated cameras ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Shot:
    """Say how a simulated camera takes a picture."""

    name: str
    clean: Pixels
    level: int
    demosaic: Demosaic
    quality: int

    @property
    def label(self) -> str:
        """Return all of it in words."""
        return f"{self.name} {self.level} {self.demosaic} {self.quality}"


def cameras(options: Any) -> str:
    """Return tables of simulated cameras, by level and demosaicker, and by quality of JPEG.

    The photographs have some grain of their own, which counts as error at the lower levels.
    """
    shots = [
        Shot(name, clean, level, demosaic, quality)
        for name, clean in _clean_pictures(options.data, options.size).items()
        for level in options.levels
        for demosaic in get_args(Demosaic)
        for quality in QUALITIES_OF_JPEG
    ]
    rows = list(zip(shots, in_processes(_measure_shot, shots, options.jobs)))
    by_level = _by_group(rows, lambda shot: f"{shot.level} {shot.demosaic}")
    by_quality = _by_group(rows, lambda shot: f"JPEG {shot.quality}")
    return f"{by_level}\n\n{by_quality}"


def noise_of_first(shots: Sequence[Simulated]) -> Simulated:
    """Return the noise of the first of several shots against the mean of the others.

    That is what the average of many shots leaves: neither the bias of clipping nor what JPEG does
    to the picture in the same way each time. The noise is scaled to that of a single shot.
    """
    first, others = shots[0], [shot.noisy for shot in shots[1:]]
    noise = first.noisy - np.mean(others, axis=0, dtype=np.float64)
    noise /= math.sqrt(1 + 1 / len(others))
    return Simulated(first.name, noise, np.zeros_like(noise), first.width)


def near_of(true: Simulated) -> float:
    """Return the autocorrelation of true noise at distance 1, the average of both directions."""
    return (true.autocorrelation(0, 1) + true.autocorrelation(1, 0)) / 2


def _measure_shot(shot: Shot) -> dict[str, float]:
    """Return level and autocorrelation of a shot, found and true."""
    generator = generator_of(shot.label)
    shots = [
        simulate.camera(
            shot.clean,
            generator,
            level=shot.level,
            demosaic=shot.demosaic,
            quality=shot.quality,
        )
        for _ in range(1 + OTHER_SHOTS)
    ]
    true, found = noise_of_first(shots), find(shots[0].noisy)
    return {
        "sigma": true.sigma,
        "ratio": found.level / true.sigma,
        "near": near_of(true),
        "near error": found.near - near_of(true),
        "white": float(found.model.spectrum is None),
    }


def _by_group(
    rows: Sequence[tuple[Shot, dict[str, float]]], group_of: Callable[[Shot], str]
) -> str:
    """Return a table with a line for each group of shots."""
    groups: dict[str, list[tuple[Shot, dict[str, float]]]] = {}
    for shot, row in rows:
        groups.setdefault(group_of(shot), []).append((shot, row))
    lines = []
    for name, members in groups.items():
        worst, row = max(members, key=lambda member: abs(math.log(member[1]["ratio"] or 1e-9)))
        values = {key: [row[key] for _, row in members] for key in row}
        lines.append(
            [
                name,
                statistics.fmean(values["sigma"]),
                f"{root_mean_square(ratio - 1 for ratio in values['ratio']):.1%}",
                statistics.fmean(values["ratio"]),
                f"{row['ratio']:.2f}: {worst.label}",
                statistics.fmean(values["near"]),
                root_mean_square(values["near error"]),
                max(values["near error"], key=abs),
                f"{sum(values['white']):.0f}/{len(members)}",
            ]
        )
    head = ["", "true sigma", "error", "mean ratio", "worst", "true autocorrelation"]
    return markdown([*head, "error of it", "largest", "taken for white"], lines)


# --- real cameras ---------------------------------------------------------------------------------


def polyu(options: Any) -> str:
    """Return the table of pictures of real cameras, and how many estimates are near the truth."""
    pictures = list(pairs_of_cameras(options.data, options.size))
    rows = list(in_processes(_polyu_row, pictures, options.jobs))
    head = ["", "estimate", "RMS", "typical", "/ RMS", "/ typical", "wavelets", "autocorrelation"]
    table = markdown(
        [*head, "true", "kind"], [[picture.name, *row] for picture, row in zip(pictures, rows)]
    )
    summary = []
    for name, column in (("estimate", 0), ("wavelets", 5)):
        for truth, of in (("RMS", 1), ("typical", 2)):
            ratios = [row[column] / row[of] for row in rows]
            error = math.exp(root_mean_square(math.log(max(ratio, 1e-9)) for ratio in ratios))
            middle_one = statistics.median(ratios)
            near = [within(ratios, factor) for factor in (1.5, 2.5)]
            summary.append([f"{name} / {truth}", middle_one, f"x {error:.2f}", *near])
    head = ["", "median ratio", "error", "within 1.5", "within 2.5"]
    return f"{table}\n\n{markdown(head, summary)}"


def _polyu_row(picture: Picture) -> list[Any]:
    assert picture.clean is not None
    noise = picture.degraded.astype(np.float64) - picture.clean
    true = Simulated(picture.name, noise, np.zeros_like(noise), 255)
    found, typical = find(picture.degraded), typical_level(noise)
    ratios = found.level / true.sigma, found.level / typical
    wavelets = ops.estimate_noise(picture.degraded)
    levels = found.level, true.sigma, typical
    return [*levels, *ratios, wavelets, found.near, near_of(true), found.described]


def typical_level(noise: Floats) -> float:
    """Return the root of the median over blocks of the variance of noise (H, W, C).

    A plane is taken from each block and channel, because the true noise of a picture has slow
    parts that are none: the light or the focus has changed between the shots.
    """
    windows = np.lib.stride_tricks.sliding_window_view(noise, (BLOCK, BLOCK), axis=(0, 1))
    blocks = windows[::STEP, ::STEP].reshape(-1, noise.shape[2], BLOCK**2)
    y, x = np.mgrid[:BLOCK, :BLOCK].reshape(2, -1)
    basis = np.linalg.qr(np.stack([np.ones_like(x), y, x], axis=1).astype(np.float64))[0]
    squares = np.square(blocks).sum(axis=2) - np.square(blocks @ basis).sum(axis=2)
    variance = squares.mean(axis=1) / (BLOCK**2 - basis.shape[1])
    return math.sqrt(max(float(np.median(variance)), 0.0))


def real(options: Any) -> str:
    """Return the table of noisy pictures of which nothing else is known."""
    paths = sorted(path for path in (options.data / "rni15").iterdir() if path.is_file())
    rows = in_processes(_real_row, paths, options.jobs)
    return markdown(
        ["", "kind", "estimate", "wavelets", "autocorrelation", "interval", "remarks"],
        [[path.name, *row] for path, row in zip(paths, rows)],
    )


def _real_row(path: Path) -> list[Any]:
    pixels = read_image(path).image
    found = find(pixels)
    low, high = (found.width * end for end in found.estimate.interval)
    interval = f"{low:.2f} to {high:.2f}"
    remarks = "; ".join(found.estimate.remarks)
    wavelets = ops.estimate_noise(pixels)
    return [found.described, found.level, wavelets, found.near, interval, remarks]


# --- odd pictures ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Odd:
    """Hold a picture with white noise and something else.

    Parameters
    ----------
    name
        What else there is.
    noisy
        The picture.
    sigma
        The true standard deviation of the noise alone.
    share
        The share of pixels that are hot.
    stripes
        The true standard deviation of offsets of rows.
    """

    name: str
    noisy: Pixels
    sigma: float
    share: float = 0.0
    stripes: float = 0.0


def odd_pictures(clean: Pixels, sigma: float, generator: np.random.Generator) -> Iterator[Odd]:
    """Yield a picture with white noise, and the same with something else."""
    plain = simulate.white(clean, generator, sigma)
    yield Odd("white noise alone", plain.noisy, sigma)
    for share in (0.001, 0.01, 0.03):
        noisy, hot = simulate.outliers(plain.noisy, generator, share)
        yield Odd(f"{share:.1%} hot pixels", noisy, sigma, float(hot.mean()))
    bright = simulate.white(simulate.saturated(clean, 0.1), generator, sigma)
    yield Odd("10% saturated", bright.noisy, sigma)
    yield Odd("black border", simulate.bordered(plain.noisy, 20), sigma)
    larger = plain.change(simulate.upscaled, "upscaled")
    yield Odd("upscaled", larger.noisy, larger.sigma)
    offsets = generator.normal(0, sigma / 2, (len(clean), *[1] * (clean.ndim - 1)))
    striped = simulate.white(clean + offsets, generator, sigma)
    yield Odd("stripes of rows", striped.noisy, sigma, stripes=float(offsets.std()))


def odd(options: Any) -> str:
    """Return the table of odd pictures: a letter says which noise was not taken for white."""
    columns: dict[str, list[Odd]] = {}
    for name in ("astronaut", "coffee", "camera"):
        for sigma in ODD_SIGMAS:
            label = f"{name} {sigma}"
            clean = photograph(name, options.size)
            columns[label] = list(odd_pictures(clean, sigma, generator_of(label)))
    pictures = [picture for column in columns.values() for picture in column]
    cells = list(in_processes(_odd_cells, pictures, options.jobs))
    rows: dict[str, list[Any]] = {}
    for picture, found in zip(pictures, cells):
        for what, value in found.items():
            rows.setdefault(f"{picture.name}{what}", []).append(value)
    table = markdown(["estimate / truth", *columns], [[name, *row] for name, row in rows.items()])
    return f"{table}\n\nc: taken for correlated noise, p: for photon noise."


def _odd_cells(picture: Odd) -> dict[str, str]:
    """Return ratios by the end of the name of their row."""
    found = find(picture.noisy)
    estimate = found.estimate
    letter = {"correlated": " c", "photons": " p"}.get(found.kind, "")
    cells = {"": f"{found.level / picture.sigma:.2f}{letter}"}
    if picture.share:
        cells[": their share"] = f"{estimate.outlier_share / picture.share:.2f}"
    if picture.stripes:
        ratio = found.width * estimate.stripes[0] / picture.stripes
        cells[": their level"] = f"{ratio:.2f}"
    return cells


def pages(options: Any) -> str:
    """Return the table of pages of letters: what is found where there is no or little noise."""
    shape = (options.size, options.size)
    sharp, smooth = simulate.page(shape, generator_of("page"))
    rows = []
    for name, page in (("black and white", sharp), ("grey edges", smooth)):
        for what, pixels, true in noisy_pages(page, 5.0, generator_of(f"{name} noise")):
            found = find(pixels)
            remarks = "; ".join(found.estimate.remarks)
            wavelets = found.first_level()
            rows.append([f"{name}, {what}", *true, found.level, wavelets, found.described, remarks])
    head = ["", "sigma", "RMS", "estimate", "wavelets", "kind", "remarks"]
    return markdown(head, rows)


def noisy_pages(
    page: Pixels, sigma: float, generator: np.random.Generator
) -> Iterator[tuple[str, Pixels, tuple[float, float]]]:
    """Yield what was done to a page, the page, and sigma and root mean square of its noise."""
    grey = (40 + page * (175 / 255)).round().astype(np.uint8)
    yield "clean", page, (0.0, 0.0)
    yield "clean, 40 to 215", grey, (0.0, 0.0)
    for what, clean in (("noise", page), ("noise, 40 to 215", grey)):
        made = simulate.white(clean, generator, sigma)
        yield what, made.noisy, (sigma, made.sigma)


# --- microscopes ----------------------------------------------------------------------------------


def microscopes(options: Any) -> str:
    """Return the table of devices with photon noise, at the quartiles of brightness."""
    made = list(photon_pictures(options.size))
    rows = in_processes(_photon_row, [picture for _, picture in made], options.jobs)
    quartiles = [f"{share} quartile" for share in ("lower", "middle", "upper")]
    true = [f"true, {name}" for name in quartiles]
    return markdown(
        ["", "kind", *quartiles, *true],
        [[name, *row] for (name, _), row in zip(made, rows)],
    )


def photon_pictures(size: int) -> Iterator[tuple[str, Simulated]]:
    """Yield names and pictures of several devices, of cells and of a photograph."""
    photo = photograph("camera", size)
    for light in LIGHT:
        cells = simulate.fluorescence((size, size), generator_of(f"cells {light}"), light)
        yield f"fluorescence, {light:g} photons", cells
        for name, clean in (("cells", cells.clean / cells.width), ("photograph", photo)):
            for take in (simulate.poisson_gaussian, simulate.emccd, simulate.scmos):
                label = f"{take.__name__}, {name}, {light:g} photons"
                yield label, take(clean, generator_of(label), light)


def _photon_row(picture: Simulated) -> list[Any]:
    found = find(picture.noisy)
    values = [float(np.quantile(picture.clean, share)) for share in (0.25, 0.5, 0.75)]
    true = [deviation_near(picture, value) for value in values]
    ratios = [found.deviation_at(value) / level for value, level in zip(values, true)]
    return [found.described, *ratios, *true]


def deviation_near(picture: Simulated, value: float, share: float = 1 / 16) -> float:
    """Return the standard deviation of true noise where the clean picture is nearest to a value.

    Hot pixels, further than eight standard deviations from the median, do not count.
    """
    distance = np.abs(picture.clean.astype(np.float64) - value).ravel()
    count = max(round(share * distance.size), 16)
    noise = picture.noise.ravel()[np.argsort(distance, kind="stable")[:count]]
    low, middle_one, high = np.quantile(noise, (0.25, 0.5, 0.75))
    if high > low:
        noise = noise[np.abs(noise - middle_one) < 8 * (high - low) / 1.349]
    return float(noise.std())


# --- command --------------------------------------------------------------------------------------

SETS: dict[str, Callable[[Any], str]] = {
    "nine": nine,
    "cameras": cameras,
    "polyu": polyu,
    "real": real,
    "odd": odd,
    "pages": pages,
    "microscopes": microscopes,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("sets", nargs="+", metavar="SET", choices=SETS, help=", ".join(SETS))
    add("--data", type=Path, default=Path("data"), help="folder with the test pictures")
    add("--size", type=int, default=256, help="rows and columns at most (default: 256)")
    add("--jobs", type=int, default=1, help="processes, of two threads each (default: 1)")
    add("--levels", type=int, nargs="+", default=list(CAMERA_LEVELS), help="of simulated cameras")
    options = parser.parse_args()
    for name in options.sets:
        print(f"### {name}\n\n{SETS[name](options)}\n", flush=True)


if __name__ == "__main__":
    main()
