"""Denoise pictures whose noise is not told, and compare them with the clean ones.

    python -m benches.quality.noise.denoise SET --data FOLDER [--size 256] [--quality balanced]
        [--method two_stage] [--stop RULE] [--limit N] [--jobs N] [--device cpu] [--out FILE]

The sets:

- ``polyu``: pictures of real cameras; the clean one is the average of many shots;
- ``white``: the nine pictures of the Deep Image Prior paper with noise of sigma 25;
- ``factor``: photographs with white noise, whose sigma is told as half, right, and twice;
- ``clean``: photographs without noise, and with as little as sigma 1 and 2;
- ``stars``: fields of stars: brightness of the sky, and of stars by their signal-to-noise ratio;
  the peak of the PSNR is the brightest value of the clean picture;
- ``photons``: photographs with photon noise.

The pictures are given to :func:`dipfast.denoise` in their own unit, in processes of two threads.
The table in Markdown has the PSNR in dB of the input, of the result, and of the network's image
alone; told is the result where sigma is the root mean square of the true noise (25 for ``white``:
sigma is that before clipping). With ``--out`` each run is a line of JSON in a file, which is
appended to; infinity and NaN are null.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

import dipfast
from benches.quality.noise import simulate
from benches.quality.noise.level import (
    PHOTOGRAPHS,
    generator_of,
    in_processes,
    markdown,
    middle,
    pairs_of_cameras,
    photograph,
)
from benches.quality.paper.pictures import DENOISE
from dipfast.images.files import read_image
from dipfast.settings.names import QUALITIES, RULE_NAMES
from dipfast.stop_reason import StopReason

__all__ = ["Case", "Run", "flux_ratios", "measure", "psnr", "sky_offset"]

Pixels: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
Mask: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"

DEFAULT, TOLD = "default", "told"
FACTORS = {"half": 0.5, "right": 1.0, "twice": 2.0}
PEAKS = (30.0, 300.0, 3000.0)

# Fields of stars: stars for each pixel; the sky and the noise of reading, in electrons.
DENSITIES = (0.0005, 0.002, 0.008)
SKY, READ_NOISE, FWHM = 100.0, 5.0, 2.5
# Radius of the aperture in which a star is measured. A star is isolated if no other one of more
# than a tenth of its light is nearer than two radii.
APERTURE, OTHERS = 4.0, 0.1
RATIOS = ((5, 10), (10, 30), (30, 1000))
# Sky is where stars add less than this share of its noise; tiles of it tell how sure it is.
SKY_SHARE, TILE = 0.1, 32


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
    peak
        Peak of the PSNR, in the same unit.
    runs
        Options of each run, by its name.
    stars
        Catalogue of the stars, with lines (row, column, electrons); None for other pictures.
    """

    name: str
    noisy: Pixels
    clean: Pixels
    peak: float = 255.0
    runs: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {DEFAULT: {}})
    stars: Floats | None = None

    @property
    def sigma(self) -> float:
        """Return the root mean square of the true noise."""
        return math.sqrt(float(np.mean(np.square(self.noisy.astype(np.float64) - self.clean))))

    def with_told(self, sigma: float | None = None) -> Case:
        """Return the case with a second run, which is told the true level, or another sigma."""
        runs = {**self.runs, TOLD: {"sigma": self.sigma if sigma is None else sigma}}
        return Case(self.name, self.noisy, self.clean, self.peak, runs, self.stars)


@dataclass(frozen=True)
class Run:
    """Name one run of a case."""

    case: Case
    name: str


def psnr(image: Pixels, clean: Pixels, peak: float) -> float:
    """Return the PSNR of a picture in dB."""
    error = float(np.mean(np.square(image.astype(np.float64) - clean)))
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)


def measure(run: Run, options: Mapping[str, Any]) -> dict[str, Any]:
    """Do a run, and return what is measured of it, ready for JSON."""
    case = run.case
    result = dipfast.denoise(case.noisy, **options, **case.runs[run.name])
    if result.stop_reason in (StopReason.INTERRUPTED, StopReason.TERMINATED):
        raise SystemExit(str(result.stop_reason))
    row: dict[str, Any] = {
        "case": case.name,
        "run": run.name,
        "input": psnr(case.noisy, case.clean, case.peak),
        "psnr": psnr(result.image, case.clean, case.peak),
        "network": psnr(result.raw_image, case.clean, case.peak),
        "sigma_true": case.sigma,
        "sigma": level_in(result.found, case.noisy),
        "noise": result.found["noise"][0],
        "iteration": result.stop_iteration,
        "most": result.found.get("max_iterations"),
        "stop_reason": str(result.stop_reason),
        "seconds": result.seconds,
    }
    if case.stars is not None:
        for name, image in (("input", case.noisy), ("result", result.image)):
            row[f"sky_{name}"] = sky_offset(image, case.clean)
            row[f"flux_{name}"] = flux_ratios(image, case.clean, case.stars)
    return row


def level_in(found: Mapping[str, Any], noisy: Pixels) -> float:
    """Return the level of the noise that was found; for photon noise, its root mean square."""
    (low, high), noise = found["data_range"], found["noise"][0]
    signal = ((noisy.astype(np.float64) - low) / (high - low) - noise.get("offset", 0.0)).clip(0)
    return float((high - low) * math.sqrt(noise["gain"] * signal.mean() + noise["sigma"] ** 2))


def for_json(value: Any) -> Any:
    """Return a value with None in place of infinity and NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: for_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sky_offset(image: Pixels, clean: Pixels) -> tuple[float, float]:
    """Return median of a picture's sky minus that of the true one, and its standard error.

    The error comes from the medians of tiles: noise that was smoothed is related over many pixels.
    """
    sky: Mask = clean - SKY < SKY_SHARE * math.hypot(math.sqrt(SKY), READ_NOISE)
    offsets = []
    for row in range(0, image.shape[0], TILE):
        for column in range(0, image.shape[1], TILE):
            tile = np.s_[row : row + TILE, column : column + TILE]
            if np.count_nonzero(sky[tile]) >= TILE:
                offsets.append(_median_offset(image[tile], clean[tile], sky[tile]))
    error = statistics.stdev(offsets) / math.sqrt(len(offsets)) if len(offsets) > 1 else math.nan
    return (_median_offset(image, clean, sky) if sky.any() else math.nan), error


def _median_offset(image: Pixels, clean: Pixels, where: Mask) -> float:
    return float(np.median(image[where])) - float(np.median(clean[where]))


def flux_ratios(image: Pixels, clean: Pixels, stars: Floats) -> dict[str, tuple[float, float, int]]:
    """Return measured over true light of isolated stars, by their signal-to-noise ratio.

    Parameters
    ----------
    image
        The picture, in electrons.
    clean
        The picture without noise.
    stars
        Lines (row, column, electrons).

    Returns
    -------
    dict
        For each range of ratios, as ``"5-10"``, the mean of measured over true light, its standard
        error, and the number of stars. Light is what is above the true sky within the aperture;
        the ratio is that of stars which are weighted by their profile.
    """
    chosen = stars[isolated(stars, image.shape)]
    ratio = signal_to_noise(chosen[:, 2])
    light = np.array([[_light(x, *star[:2]) for x in (image, clean)] for star in chosen])
    measured = light[:, 0] / light[:, 1] if len(chosen) else np.empty(0)
    found = {}
    for low, high in RATIOS:
        values = measured[(ratio >= low) & (ratio < high)]
        error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        mean = float(values.mean()) if len(values) else math.nan
        found[f"{low}-{high}"] = mean, error, len(values)
    return found


def signal_to_noise(flux: Floats) -> Floats:
    """Return the signal-to-noise ratio of stars of so many electrons."""
    profile = simulate._star("moffat", FWHM, 0.0, 0.0)
    area = 1 / float(np.sum(profile**2))
    return np.asarray(flux / np.sqrt(flux + area * (SKY + READ_NOISE**2)))


def isolated(stars: Floats, shape: tuple[int, ...]) -> Mask:
    """Return which stars have no other one near that matters, and a whole aperture."""
    row, column, flux = stars.T
    near = np.hypot(row[:, None] - row, column[:, None] - column) < 2 * APERTURE
    matters = flux > OTHERS * flux[:, None]
    np.fill_diagonal(near, False)
    inside = [
        (place >= APERTURE) & (place <= size - 1 - APERTURE)
        for place, size in zip((row, column), shape)
    ]
    return np.asarray(~(near & matters).any(axis=1) & inside[0] & inside[1])


def _light(image: Pixels, row: float, column: float) -> float:
    """Return the light above the sky within the aperture around a place."""
    reach = math.ceil(APERTURE)
    top, left = max(round(row) - reach, 0), max(round(column) - reach, 0)
    part = image[top : top + 2 * reach + 1, left : left + 2 * reach + 1]
    y, x = np.indices(part.shape)
    within = np.hypot(y + top - row, x + left - column) <= APERTURE
    return float(np.sum(part[within].astype(np.float64) - SKY))


# --- the sets -----------------------------------------------------------------------------------


def polyu(folder: Path, size: int) -> Iterator[Case]:
    """Yield pictures of real cameras."""
    for picture in pairs_of_cameras(folder, size):
        assert picture.clean is not None
        yield Case(picture.name, picture.degraded, picture.clean).with_told()


def white(folder: Path, size: int) -> Iterator[Case]:
    """Yield the nine pictures with noise of sigma 25, as published."""
    for name in DENOISE:
        noisy, clean = (
            middle(read_image(folder / f"denoise25/{name}_{kind}.png").image, size)
            for kind in ("noisy", "GT")
        )
        yield Case(name, noisy, clean).with_told(25)  # before it was clipped


def factor(folder: Path, size: int) -> Iterator[Case]:
    """Yield photographs whose noise is told as half, right, and twice."""
    for name in PHOTOGRAPHS:
        for sigma in (10, 25):
            runs = {run: {"sigma": sigma * times} for run, times in FACTORS.items()}
            yield _with_noise(name, size, sigma, runs)


def clean(folder: Path, size: int) -> Iterator[Case]:
    """Yield photographs with no noise, or next to none."""
    for name in (*PHOTOGRAPHS, "camera"):
        for sigma in (0, 1, 2):
            yield _with_noise(name, size, sigma, {DEFAULT: {}})


def _with_noise(name: str, size: int, sigma: float, runs: Mapping[str, Any]) -> Case:
    label = f"{name} {sigma:g}"
    made = simulate.white(photograph(name, size), generator_of(label), sigma)
    return Case(label, made.noisy, made.clean, runs=runs)


def stars(folder: Path, size: int) -> Iterator[Case]:
    """Yield fields of stars."""
    for density in DENSITIES:
        name = f"stars {density:g}"
        made, catalogue = simulate.stars(
            (size, size),
            generator_of(name),
            density,
            sky=SKY,
            read_noise=READ_NOISE,
            fwhm=FWHM,
        )
        brightest = float(made.clean.max())
        yield Case(name, made.noisy, made.clean, brightest, stars=catalogue)


def photons(folder: Path, size: int) -> Iterator[Case]:
    """Yield photographs with photon noise; the peak is the photons of a white pixel."""
    for name in ("astronaut", "coffee"):
        for peak in PEAKS:
            label = f"{name} {peak:g}"
            made = simulate.poisson_gaussian(photograph(name, size), generator_of(label), peak)
            yield Case(label, made.noisy, made.clean, peak).with_told()


SETS: dict[str, Callable[[Path, int], Iterator[Case]]] = {
    "polyu": polyu,
    "white": white,
    "factor": factor,
    "clean": clean,
    "stars": stars,
    "photons": photons,
}


# --- tables -------------------------------------------------------------------------------------


def table(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of a set."""
    cases: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        cases.setdefault(row["case"], {})[row["run"]] = row
    if name == "factor":
        return factor_table(cases)
    text = default_table(cases)
    return f"{text}\n\n{stars_table(cases)}" if name == "stars" else text


def default_table(cases: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return a table of input, result, network alone, and result with the noise told."""
    head = ["", "input", DEFAULT, "network alone", TOLD, "sigma found", "true"]
    lines: list[list[Any]] = []
    for name, runs in cases.items():
        row = runs[DEFAULT]
        told = runs[TOLD]["psnr"] if TOLD in runs else math.nan
        psnrs = row["input"], row["psnr"], row["network"], told
        stop = f"{row['iteration']}/{row['most']}"
        cells = [_db(value) for value in psnrs], [row["sigma"], row["sigma_true"]]
        lines.append([name, *cells[0], *cells[1], stop, f"{row['seconds']:.1f}"])
    means = [
        _db(_mean(runs.get(run, {}).get(key, math.nan) for runs in cases.values()))
        for run, key in (
            (DEFAULT, "input"),
            (DEFAULT, "psnr"),
            (DEFAULT, "network"),
            (TOLD, "psnr"),
        )
    ]
    lines.append(["mean", *means, "", "", "", ""])
    return markdown([*head, "iterations", "seconds"], lines)


def factor_table(cases: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return a table of sigma told wrongly, and what is lost by that."""
    lines = []
    lost: dict[str, list[float]] = {name: [] for name in FACTORS}
    for name, runs in cases.items():
        right = runs["right"]["psnr"]
        for run in FACTORS:
            lost[run].append(right - runs[run]["psnr"])
        psnrs = [_db(runs[run]["psnr"]) for run in FACTORS]
        losses = [_db(lost[run][-1]) for run in FACTORS if run != "right"]
        lines.append([name, _db(runs["right"]["input"]), *psnrs, *losses])
    means = [_db(_mean(lost[run])) for run in FACTORS if run != "right"]
    lines.append(["mean", *[""] * (1 + len(FACTORS)), *means])
    head = ["", "input", *FACTORS, "lost by half", "lost by twice"]
    return markdown(head, lines)


def stars_table(cases: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return a table of the brightness of sky and stars, in the input and in the result."""
    lines = []
    for name, runs in cases.items():
        for image in ("input", "result"):
            row = runs[DEFAULT]
            offset, error = row[f"sky_{image}"]
            cells = [
                f"{mean:.3f} ± {spread:.3f} ({count})" if count else "-"
                for mean, spread, count in row[f"flux_{image}"].values()
            ]
            lines.append([name, image, f"{offset:.2f} ± {error:.2f}", *cells])
    ratios = [f"light at S/N {low}-{high}" for low, high in RATIOS]
    return markdown(["", "", "sky minus true sky", *ratios], lines)


def _db(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _mean(values: Iterable[float]) -> float:
    """Return the mean of the values that are finite; NaN for none."""
    finite = [value for value in values if math.isfinite(value)]
    return statistics.fmean(finite) if finite else math.nan


# --- command ------------------------------------------------------------------------------------


def main() -> None:
    options = _parser().parse_args()
    asked = {name: getattr(options, name) for name in ("method", "quality", "device")}
    if options.iterations is not None:
        asked["max_iterations"] = options.iterations
    if options.stop is not None:
        asked["stop"] = options.stop
    cases = islice(SETS[options.set](options.data, options.size), options.limit)
    runs = [Run(case, name) for case in cases for name in case.runs]
    rows = []
    for row in in_processes(partial(measure, options=asked), runs, options.jobs):
        row = {"set": options.set, "size": options.size, **asked, **row}
        rows.append(row)
        if options.out is not None:
            with options.out.open("a") as stream:
                stream.write(json.dumps(for_json(row)) + "\n")
    how = f"{options.method}, {options.quality}"
    head = f"### {options.set}, {options.size}x{options.size}, {how}"
    print(f"{head}\n\n{table(options.set, rows)}\n", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("set", metavar="SET", choices=SETS, help=", ".join(SETS))
    add("--data", type=Path, default=Path("data"), help="folder with the test pictures")
    add("--size", type=int, default=256, help="rows and columns at most (default: 256)")
    add("--quality", choices=QUALITIES, default="balanced", help="(default: balanced)")
    add("--method", default="two_stage", help="(default: two_stage)")
    add("--iterations", type=int, help="instead of those of the quality")
    add("--stop", choices=RULE_NAMES, help="stop rule; default: that of the method")
    add("--limit", type=int, help="pictures at most")
    add("--jobs", type=int, default=1, help="processes, of two threads each (default: 1)")
    add("--device", default="cpu", help="(default: cpu)")
    add("--out", type=Path, help="file to which a line of JSON is appended for each run")
    return parser


if __name__ == "__main__":
    main()
