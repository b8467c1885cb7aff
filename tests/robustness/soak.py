"""Do many small restorations in one process, and print whether its memory grows.

python -m tests.robustness.soak --runs 1000
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from tqdm import tqdm

import dipfast
from dipfast.networks import HourglassConfig
from dipfast.settings.presets import Preset

_PRESET = Preset(12, (1 / 30, 0.005), HourglassConfig((8, 16), (8, 16), (4, 4)))


def restore(k: int, folder: Path) -> None:
    """Do one of the tasks in turn, with another image size each time, and with checkpoints."""
    generator = np.random.default_rng(k)
    picture = generator.integers(0, 256, (24 + k % 7, 32, 3), dtype=np.uint8)
    checkpoint = folder / "checkpoint"
    storage: dict[str, Any] = {
        "checkpoint": checkpoint,
        "checkpoint_every": 5,
        "resume": True,
        "snapshots": 1.0,
    }
    if k % 4 == 0:
        dipfast.denoise(picture, preset=_PRESET, **storage)
        checkpoint.unlink()
        checkpoint.with_name("checkpoint.previous").unlink()
    elif k % 4 == 1:
        dipfast.inpaint(picture, generator.random(picture.shape[:2]) < 0.5, preset=_PRESET)
    elif k % 4 == 2:
        dipfast.super_resolve(
            picture, 2, preset=_PRESET, reference=picture.repeat(2, 0).repeat(2, 1)
        )
    else:
        dipfast.denoise(picture, preset=_PRESET, method="deep_red", stop="es_wmv").save(
            folder / "out.png", overwrite=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    process = psutil.Process()
    marks = {10, 100, options.runs // 2, options.runs}
    with tempfile.TemporaryDirectory() as folder:
        for k in tqdm(range(options.runs)):
            restore(k, Path(folder))
            if k + 1 in marks:
                gc.collect()
                size = process.memory_info().rss / 1e6
                tqdm.write(
                    f"after {k + 1} restorations: {size:.1f} MB, {len(gc.get_objects())} objects"
                )


if __name__ == "__main__":
    main()
