"""Reproduce tables and figures of the Deep Image Prior and the two-stage papers.

    python -m benches.quality.paper denoise inpaint --data FOLDER [--out paper] [--full]

For each table the program writes to the output folder ``TABLE.jsonl`` (a line for each run, with
its settings), ``TABLE.md``, pictures in ``TABLE/``, and figures.  Runs that are there already are
not repeated, so that an interrupted table continues with the same command, and tables that share
runs do them once.  Without the name of a table, all tables are made from the lines that there are
of this form, these seeds and this device (``--device``, as it was named then), and put together in
``tables.md``.

The reduced form (the default) takes the middle 128x128 pixels and 500 iterations of the
narrow network: minutes on two cores for most tables.  ``--full`` takes whole pictures and
``quality="best"``, which is for a GPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benches.quality.paper.experiments import EXPERIMENTS, Experiment
from benches.quality.paper.pictures import Picture, Source
from benches.quality.paper.runs import run, write
from benches.quality.paper.tables import draw, table
from dipfast.settings.names import QUALITIES

# Entries of a row that identify its run.
KEYS = ("picture", "variant", "seed", "size", "quality", "iterations_asked", "device")


def main() -> None:
    options = _parser().parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    source = Source(options.data, options.size, tuple(options.only))
    for name in options.tables:
        make(name, EXPERIMENTS[name], source, options)
    texts = []
    for name, experiment in EXPERIMENTS.items():
        rows = [row for row in read(options.out / f"{name}.jsonl") if same(row, options)]
        if rows and (name in options.tables or not options.tables):
            heading = f"### {experiment.title}\n\n`{name}`: {_form(options)}"
            texts.append(f"{heading}\n\n{table(experiment, rows)}\n")
            (options.out / f"{name}.md").write_text(texts[-1])
            draw(experiment, rows, options.out, name)
            print(texts[-1], flush=True)
    if not options.tables:
        (options.out / "tables.md").write_text("\n".join(texts))


def make(name: str, experiment: Experiment, source: Source, options: Any) -> None:
    """Do all runs of a table that are not in its file yet."""
    path = options.out / f"{name}.jsonl"
    done = {tuple(row[key] for key in KEYS) for row in read(path)}
    folder = options.out / name
    folder.mkdir(exist_ok=True)
    runs = [
        (picture, variant, seed)
        for seed in options.seeds
        for picture in experiment.pictures(source)
        for variant in experiment.variants
        if not options.variants or variant in options.variants
    ]
    for picture, variant, seed in tqdm(runs, desc=name, unit="run"):
        key = {
            "picture": picture.name,
            "variant": variant,
            "seed": seed,
            "size": options.size,
            "quality": options.quality,
            "iterations_asked": options.iterations,
            "device": options.device,
        }
        if tuple(key.values()) in done:
            continue
        asked = {"quality": options.quality, "seed": seed, "device": options.device}
        if options.iterations is not None:
            asked["max_iterations"] = options.iterations
        asked |= experiment.variants[variant]
        digest = _digest(picture, experiment.measure, asked)
        row = _known(options.out, digest)
        if row is None:
            stem = f"{picture.name}-{variant}-{seed}".replace(" ", "_").replace("'", "")
            row = run(picture, asked, experiment.measure, folder / stem)
            row["files"] = {"result": f"{name}/{stem}.png", **_companions(picture, folder)}
            row["digest"] = digest
        with path.open("a") as stream:
            stream.write(json.dumps({**row, **key}) + "\n")


def _digest(picture: Picture, measure: str, asked: dict[str, Any]) -> str:
    """Return a digest of all that a run depends on."""
    arguments = picture.arguments.items()
    plain = {name: value for name, value in arguments if not isinstance(value, np.ndarray)}
    parts = [repr((picture.task, measure, sorted(asked.items()), sorted(plain.items()))).encode()]
    arrays = [picture.degraded, picture.clean, *picture.regions.values()]
    arrays += [value for _, value in arguments if isinstance(value, np.ndarray)]
    parts += [array.tobytes() for array in arrays if array is not None]
    return hashlib.sha256(b"|".join(parts)).hexdigest()


def _known(folder: Path, digest: str) -> dict[str, Any] | None:
    """Return the row of the same run, if any table has it already."""
    rows = (row for path in sorted(folder.glob("*.jsonl")) for row in read(path))
    return next((row for row in rows if row.get("digest") == digest), None)


def _companions(picture: Picture, folder: Path) -> dict[str, str]:
    """Write the degraded and the clean picture beside the results; return their paths."""
    found = {"degraded": picture.degraded, "clean": picture.clean}
    found["bicubic"] = picture.published.get("bicubic")
    files = {}
    for kind, pixels in found.items():
        if pixels is not None:
            path = folder / f"{picture.name.replace(' ', '_')}-{kind}.png"
            write(path, pixels)
            files[kind] = f"{folder.name}/{path.name}"
    return files


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of results; none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def same(row: dict[str, Any], options: Any) -> bool:
    """Return whether a run is one of those that are asked for.

    The device is compared as it was asked for: "auto" is not the device that it was.
    """
    asked = (options.size, options.quality, options.iterations, options.device)
    keys = "size", "quality", "iterations_asked", "device"
    return tuple(row[key] for key in keys) == asked and row["seed"] in options.seeds


def _form(options: Any) -> str:
    """Return size, quality and iterations in words."""
    size = "whole pictures" if options.size is None else f"at most {options.size}x{options.size}"
    iterations = "" if options.iterations is None else f", {options.iterations} iterations"
    return f"PSNR in dB, {size}, quality '{options.quality}'{iterations}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benches.quality.paper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    tables = "\n".join(f"  {name:15}{e.title}" for name, e in EXPERIMENTS.items())
    parser.epilog = f"tables:\n{tables}"
    add("tables", nargs="*", metavar="TABLE", choices=[*EXPERIMENTS, []], help="see below")
    add("--data", type=Path, default=Path("data"), help="folder with the test pictures")
    add("--out", type=Path, default=Path("paper"), help="folder for the results")
    add("--only", nargs="+", default=[], metavar="NAME", help="pictures to take")
    add("--variants", nargs="+", default=[], metavar="NAME", help="variants to run")
    add("--size", type=int, default=128, help="rows and columns at most (default: 128)")
    add("--quality", choices=QUALITIES, default="fast", help="(default: fast)")
    add("--iterations", type=int, help="instead of those of the quality")
    add("--seeds", type=int, nargs="+", default=[0])
    add("--device", default="auto")
    add("--threads", type=int, help="of torch; default: torch's own choice")
    add(
        "--full",
        dest="size",
        action=_Full,
        nargs=0,
        help="whole pictures, quality 'best' unless another is named after it",
    )
    return parser


class _Full(argparse.Action):
    """Set size and quality to those of the full form."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        namespace.size, namespace.quality = None, "best"


if __name__ == "__main__":
    main()
