"""PSNR of plain DIP and of the two stages, same seed, same everything else.

    python -m benches.quality [--data FOLDER] [--seeds 0 1 2] [--out quality.jsonl]

Pictures, all 256x256, noise of sigma 25, clipped and rounded to 8 bits:

``astronaut``    a part of ``skimage.data.astronaut()``, the picture of ``make demo``
``F16-crop``     a part of F16 as the authors of DIP published it with noise
``F16-reduced``  their clean F16 reduced to 256x256, noise added here

The last two need FOLDER, with ``F16_GT.png`` and ``F16_noisy.png`` in it.  If it also holds
``F16_bm3d.png`` and ``F16_deep_prior.png``, their PSNR on the same part is printed.

Prints a Markdown table.  Every run is appended to the JSON-lines file, and runs that are in
it already are not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from examples.demo import Picture, demo_picture, with_noise
from tqdm import tqdm

import dipfast
from dipfast import ops
from dipfast.files import read_image, write_image

METHODS = ("dip", "two_stage")
PART = np.s_[128:384, 128:384]


def pictures(data: Path | None) -> dict[str, tuple[Picture, Picture]]:
    """Noisy and clean pictures by name."""
    clean = demo_picture()
    found = {"astronaut": (with_noise(clean), clean)}
    if data is not None:
        from PIL import Image

        clean = read_image(data / "F16_GT.png").image
        found["F16-crop"] = (read_image(data / "F16_noisy.png").image[PART], clean[PART])
        small = Image.fromarray(clean).resize((256, 256), Image.Resampling.LANCZOS)
        found["F16-reduced"] = (with_noise(np.asarray(small)), np.asarray(small))
    return found


def published(data: Path) -> str:
    """PSNR of the same part of what others made of F16, if their pictures are there."""
    clean = read_image(data / "F16_GT.png").image[PART]
    found = (data / f"F16_{name}.png" for name in ("bm3d", "deep_prior"))
    return "\n".join(
        f"F16-crop of {path.name}: {ops.psnr(read_image(path).image[PART], clean):.2f} dB"
        for path in found
        if path.exists()
    )


def run(noisy: Picture, clean: Picture, options: dict[str, Any], save: Path | None) -> Any:
    with tqdm(unit="it", leave=False, desc=str(options)) as bar:
        result = dipfast.denoise(noisy, reference=clean, callback=lambda _: bar.update(), **options)
    if save is not None:
        write_image(save, result.image, channel_axis=2, overwrite=True)
    history = result.history
    third = result.settings["max_iterations"] // 3
    return {
        **result.metrics,
        "iterations": result.best_iteration,
        "stop_reason": result.stop_reason,
        "psnr_last_output": history["psnr"][-1],
        "psnr_output_at_third": history["psnr"][: third or 1][-1],
        "settings": result.settings,
        "curve": [round(v, 2) for v in history["psnr"][24::25]],
        "curve_average": [round(v, 2) for v in history["psnr_average"][24::25]],
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| picture | method | noisy | returned (seeds) | oracle best (at) | iterations "
        "| output after a third | output at the end |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["picture"], row["method"]), []).append(row)
    for (picture, method), group in sorted(groups.items()):

        def mean(key: str, group: list[dict[str, Any]] = group) -> float:
            return statistics.fmean(row[key] for row in group)

        seeds = ", ".join(f"{row['psnr']:.2f}" for row in group)
        lines.append(
            f"| {picture} | {method} | {mean('psnr_input'):.2f} "
            f"| **{mean('psnr'):.2f}** ({seeds}) "
            f"| {mean('psnr_oracle'):.2f} ({mean('oracle_iteration'):.0f}) "
            f"| {mean('iterations'):.0f} | {mean('psnr_output_at_third'):.2f} "
            f"| {mean('psnr_last_output'):.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="folder with F16_GT.png and F16_noisy.png")
    parser.add_argument("--out", type=Path, default=Path("quality.jsonl"))
    parser.add_argument("--save", type=Path, help="folder to put the restored pictures into")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--quality", default="balanced")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="of torch; default: torch's own choice")
    parser.add_argument("--only", nargs="+", help="pictures to run")
    parser.add_argument("--method", nargs="+", choices=METHODS, default=METHODS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.save:
        options.save.mkdir(parents=True, exist_ok=True)
    rows = []
    if options.out.exists():
        rows = [json.loads(line) for line in options.out.read_text().splitlines()]
    keys = ("picture", "method", "seed", "quality", "device")
    done = {tuple(row[key] for key in keys) for row in rows}
    for seed in options.seeds:
        for picture, (noisy, clean) in pictures(options.data).items():
            if options.only and picture not in options.only:
                continue
            for method in options.method:
                key = (picture, method, seed, options.quality, options.device)
                if key in done:
                    continue
                save = options.save and options.save / f"{picture}-{method}-{seed}.png"
                arguments = {
                    "method": method,
                    "seed": seed,
                    "quality": options.quality,
                    "device": options.device,
                }
                row = {"picture": picture, **arguments, **run(noisy, clean, arguments, save)}
                rows.append(row)
                with options.out.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
    same = {"quality": options.quality, "device": options.device}
    print(table([row for row in rows if same.items() <= row.items()]))
    if options.data:
        print(published(options.data))


if __name__ == "__main__":
    main()
