"""Compare what each stop rule returns with the best iteration of the same fit.

    python -m benches.quality.stopping noisy holes jpeg camera --data FOLDER --threads 1

All rules are given the iterations of the same fit, with a hundredth of the pixels held out, and, of
noisy pictures, with the noise added that ``bootstrap`` needs; no rule ends it.  A rule's gap is the
largest PSNR of the running average (the oracle, which uses the clean picture) minus that of the
iteration that the rule calls the best; *used* is the number of iterations until the rule stops, or
of all.  By default the table is of the middle 256x256 pixels, and of the default network and
iterations (``quality="balanced"``).

What is fitted suits some rules better than others.  With ``--alone`` each rule that ``--rules``
names has a fit of its own, in two stages, which it ends; the table has the PSNR of the running
average that it returns, the best that the same fit had by then, and its iterations.

The program writes a line for each picture to ``stopping.jsonl`` in the output folder; pictures that
are there already are not run again.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import dipfast
from benches.quality.paper.pictures import Picture, Source
from dipfast.settings.names import QUALITIES
from dipfast.state_dict import Values
from dipfast.stopping import (
    RULES,
    Decision,
    HeldOut,
    LastOf,
    LoopView,
    RunningVariance,
    StopReason,
    StopRule,
)

# Iterations of the original for the same task.
ORIGINAL = {"noisy": 3000, "strong": 3000, "holes": 11000, "jpeg": 2400, "camera": 3000}
# Rules that are compared besides those of RULES.
OTHERS: dict[str, StopRule] = {
    "es_emv, rate 0.03": RunningVariance(rate=0.03),
    "last of held_out and es_emv 0.03": LastOf((HeldOut(), RunningVariance(rate=0.03))),
}
SHOWN = [name for name in (*RULES, *OTHERS) if RULES.get(name) != RULES["auto"] or name == "auto"]


class AllRules(StopRule):
    """Give every iteration to all rules, and record the decisions of each."""

    def __init__(self, rules: dict[str, StopRule]) -> None:
        self.rules = rules
        self.memories: dict[str, Values] = {name: {} for name in rules}
        self.best = dict.fromkeys(rules, 0)
        self.stopped: dict[str, int] = {}
        self.residuals: list[float] = []
        self.errors: list[float] = []

    def prepare(self, problem: Any) -> Any:
        # All rules hold out the same pixels.
        return HeldOut().prepare(RULES["auto"].prepare(problem))

    def update(self, state: LoopView, memory: Values) -> Decision:
        for name, rule in self.rules.items():
            if name in self.stopped:
                continue
            decision = rule.update(state, self.memories[name])
            if decision.best is not False:
                self.best[name] = state.iteration
            if decision.stop is not None:
                self.stopped[name] = state.iteration
        problem, average = state.problem, state.average
        unseen = problem.held_out_problem
        assert unseen is not None
        self.residuals.append(problem.mean_square(average))
        self.errors.append(float(unseen.error(average).square().sum()) / unseen.count)
        return Decision(best=True)


def jpeg(source: Source) -> Iterable[Picture]:
    """Yield four of the nine clean pictures, compressed as JPEG of quality 10."""
    whole = replace(source, size=None, only=("F16", "house", "kodim03", "peppers"))
    for picture in whole.denoise():
        assert picture.clean is not None
        buffer = io.BytesIO()
        Image.fromarray(picture.clean).save(buffer, "JPEG", quality=10)
        decoded = np.asarray(Image.open(buffer))
        middle = source._middle
        yield Picture(picture.name, "denoise", middle(decoded), middle(picture.clean))


def strong(source: Source) -> Iterable[Picture]:
    """Yield the nine pictures with noise of sigma 75."""
    return source.levels([75])


GROUPS = {
    "noisy": Source.denoise,
    "holes": Source.inpaint,
    "jpeg": jpeg,
    "camera": Source.camera,
    "strong": strong,
}


def run(picture: Picture, options: Any) -> dict[str, Any]:
    """Do one fit, and return its results and those of all rules."""
    watch = AllRules({**RULES, **OTHERS})
    task = getattr(dipfast, picture.task)
    # A rule is told, so that it is a fit with any quality.
    result = task(
        picture.degraded,
        stop=watch,
        reference=picture.clean,
        quality=options.quality,
        seed=options.seed,
        **picture.arguments,
    )
    if result.stop_reason in (StopReason.INTERRUPTED, StopReason.TERMINATED):
        raise SystemExit(f"{result.stop_reason}: the table goes on with the same command")
    curve = dict(zip(result.history["iteration"], result.history["psnr_average"]))
    end = result.stop_iteration
    return {
        "before": result.metrics["psnr_input"],
        "oracle": result.metrics["psnr_oracle"],
        "oracle_iteration": result.metrics["oracle_iteration"],
        "sigma": result.found["sigma"][0],
        "spikes": result.spikes,
        "iterations": end,
        "rules": {
            name: {
                "psnr": curve[best],
                "best": best,
                "used": watch.stopped.get(name, end),
            }
            for name, best in watch.best.items()
        },
        "curve": [round(curve[k], 3) for k in sorted(curve)],
        "residuals": [float(f"{value:.6g}") for value in watch.residuals],
        "errors": [float(f"{value:.6g}") for value in watch.errors],
    }


def run_alone(picture: Picture, rule: str, options: Any) -> dict[str, Any]:
    """Do a fit that a rule ends, and return what it returned."""
    result = getattr(dipfast, picture.task)(
        picture.degraded,
        method="two_stage",
        stop=rule,
        reference=picture.clean,
        quality=options.quality,
        seed=options.seed,
        **picture.arguments,
    )
    curve = dict(zip(result.history["iteration"], result.history["psnr_average"]))
    return {
        "before": result.metrics["psnr_input"],
        "psnr": curve[result.best_iteration],
        "oracle": result.metrics["psnr_oracle"],
        "used": result.stop_iteration,
    }


def table_alone(rows: list[dict[str, Any]], rules: Sequence[str]) -> str:
    """Return a Markdown table: what each rule returned, the best of its fit, and its iterations."""
    found = {(row["group"], row["picture"], row["rule"]): row for row in rows}
    lines = ["| picture | before | " + " | ".join(rules) + " |", "|---" * (len(rules) + 2) + "|"]
    for group in dict.fromkeys(row["group"] for row in rows):
        names = dict.fromkeys(row["picture"] for row in rows if row["group"] == group)
        whole = [name for name in names if all((group, name, rule) in found for rule in rules)]
        for name in whole:
            of_rules = [found[group, name, rule] for rule in rules]
            cells = [f"{r['psnr']:.2f} ({r['oracle']:.2f}, {r['used']})" for r in of_rules]
            lines.append(f"| {name} | {of_rules[0]['before']:.2f} | " + " | ".join(cells) + " |")
        cells = []
        for rule in rules if whole else ():
            of_rule = [found[group, name, rule] for name in whole]
            mean = statistics.fmean(row["psnr"] for row in of_rule)
            gaps = [row["oracle"] - row["psnr"] for row in of_rule]
            used = statistics.fmean(row["used"] for row in of_rule)
            cells.append(
                f"**{mean:.2f}**, gap {statistics.fmean(gaps):.2f}, at worst {max(gaps):.2f}, "
                f"{used:.0f}"
            )
        if cells:
            lines.append(f"| **{group}: mean** | | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def table(rows: list[dict[str, Any]], rules: Iterable[str]) -> str:
    """Return a Markdown table: a line for each picture, mean and largest gap of each group."""
    names = [name for name in rules if all(name in row["rules"] for row in rows)]
    lines = ["| picture | before | oracle (at) | " + " | ".join(names) + " |"]
    lines.append("|---" * (len(names) + 3) + "|")
    for group in dict.fromkeys(row["group"] for row in rows):
        of_group = [row for row in rows if row["group"] == group]
        for row in of_group:
            cells = [
                f"{row['oracle'] - found['psnr']:.2f} ({found['best']}, {found['used']})"
                for found in (row["rules"][name] for name in names)
            ]
            head = f"{row['before']:.2f} | {row['oracle']:.2f} ({row['oracle_iteration']})"
            lines.append(f"| {row['picture']} | {head} | " + " | ".join(cells) + " |")
        lines.append(
            f"| **{group}: mean gap, worst, used** | | | " + _means(of_group, names) + " |"
        )
    lines.append("| **all: mean gap, worst, used** | | | " + _means(rows, names) + " |")
    return "\n".join(lines)


def _means(rows: list[dict[str, Any]], names: Iterable[str]) -> str:
    """Return the cells of mean gap, largest gap and share of the iterations used, by rule."""
    cells = []
    for name in names:
        gaps = [row["oracle"] - row["rules"][name]["psnr"] for row in rows]
        shares = [row["rules"][name]["used"] / ORIGINAL[row["group"]] for row in rows]
        cells.append(
            f"**{statistics.fmean(gaps):.2f}**, {max(gaps):.2f}, {statistics.fmean(shares):.0%}"
        )
    return " | ".join(cells)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a file of results; none if there is no file."""
    if path.exists():
        yield from map(json.loads, path.read_text().splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("groups", nargs="+", choices=GROUPS)
    add("--data", type=Path, default=Path("data"), help="folder with the test pictures")
    add("--out", type=Path, default=Path("stopping"), help="folder for the results")
    add("--only", nargs="+", default=[], metavar="NAME", help="pictures to take")
    add("--size", type=int, default=256, help="rows and columns at most (default: 256)")
    add("--quality", choices=QUALITIES, default="balanced", help="(default: balanced)")
    add("--seed", type=int, default=0)
    add("--threads", type=int, help="of torch; default: torch's own choice")
    add("--rules", nargs="+", default=SHOWN, help="columns of the table")
    add("--alone", action="store_true", help="a fit of its own for each of --rules")
    add("--table", action="store_true", help="only print the table of what is there")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "stopping.jsonl"
    source = Source(options.data, options.size, tuple(options.only))
    form = {"size": options.size, "quality": options.quality, "seed": options.seed}
    rules: list[str | None] = list(options.rules) if options.alone else [None]
    for group in () if options.table else options.groups:
        for picture, rule in product(GROUPS[group](source), rules):
            key = {"group": group, "picture": picture.name, "rule": rule, **form}
            if any(_is_of(key, row) for row in read(path)):
                continue
            found = run(picture, options) if rule is None else run_alone(picture, rule, options)
            row = {**key, **found}
            with path.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
            print(f"{group} {picture.name} {rule or ''}: oracle {row['oracle']:.2f}", flush=True)
    rows = [row for row in read(path) if _is_of(form, row) and row.get("rule") in rules]
    rows = [row for row in rows if row["group"] in options.groups]
    rows.sort(key=lambda row: options.groups.index(row["group"]))
    print(table_alone(rows, options.rules) if options.alone else table(rows, options.rules))


def _is_of(key: dict[str, Any], row: dict[str, Any]) -> bool:
    """Return whether a line of results has the values of a key; without a rule it is of all."""
    return all(row.get(name) == value for name, value in key.items())


if __name__ == "__main__":
    main()
