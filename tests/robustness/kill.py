"""Kill a restoration at random moments and resume it: the result must be the same to the last bit.

python -m tests.robustness.kill --kills 200

A child process restores a small picture, with a checkpoint every few iterations, and saves it.  It
is killed (SIGKILL) at a random moment; another child resumes from the checkpoint, and is killed in
turn, until one finishes.  After each kill, the output file must be missing or whole, and the
checkpoint, if there is one, must be readable.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dipfast
from dipfast.images.files import read_image
from dipfast.networks import HourglassConfig
from dipfast.run.checkpoint import read_checkpoint
from dipfast.settings.presets import Preset

_PRESET = Preset(40, (1 / 30, 0.005), HourglassConfig((8, 16), (8, 16), (4, 4)), average_decay=0.9)


@dataclass
class Tally:
    """Count kills, finished children, starts from a checkpoint, and kills during writing."""

    kills: int = 0
    endings: int = 0
    resumed: int = 0
    in_writing: int = 0


def restore(noisy: np.ndarray[Any, Any], folder: Path) -> None:
    """Restore the image, from the checkpoint if there is one, and save the result."""
    result = dipfast.denoise(
        noisy,
        preset=_PRESET,
        stop="es_emv",
        snapshots=0.05,
        checkpoint=folder / "checkpoint",
        checkpoint_every=3,
        resume=True,
    )
    result.save(folder / "out.png", overwrite=True)


def start_child(noisy: np.ndarray[Any, Any], folder: Path) -> int:
    """Start a child process that restores the image, and return its number."""
    number = os.fork()
    if number == 0:
        code = 1
        try:
            restore(noisy, folder)
            code = 0
        finally:
            os._exit(code)
    return number


def check(folder: Path, expected: bytes) -> None:
    """Check that every file is whole, and that an output is the expected one."""
    out = folder / "out.png"
    if out.exists():
        assert read_image(out).image.tobytes() == expected, "another result"
    places = [folder / "checkpoint", folder / "checkpoint.previous"]
    there = [place for place in places if place.exists()]
    for place in there:
        read_checkpoint(place)
    if places[1] in there and places[0] not in there:
        print("  (killed between two renamings)")


def kill(kills: int, seed: int, folder: Path) -> Tally:
    """Kill children that often, and check the results of those that finish."""
    chance = random.Random(seed)
    noisy = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    (folder / "expected").mkdir()
    begin = time.monotonic()
    restore(noisy, folder / "expected")
    length = time.monotonic() - begin
    expected = read_image(folder / "expected" / "out.png").image.tobytes()
    tally = Tally()
    work = folder / "work"
    work.mkdir()
    while tally.kills < kills:
        files = {path.name for path in work.iterdir()}
        had_checkpoint = (work / "checkpoint").exists()
        number = start_child(noisy, work)
        until = time.monotonic() + chance.uniform(0, 0.5 * length)
        status = None
        while time.monotonic() < until:
            done, status = os.waitpid(number, os.WNOHANG)
            if done:
                break
            time.sleep(0.0005)
            status = None
        if status is None:
            os.kill(number, signal.SIGKILL)
            _, status = os.waitpid(number, 0)
        tally.resumed += had_checkpoint
        if os.WIFSIGNALED(status):
            tally.kills += 1
            new = {path.name for path in work.iterdir()} - files
            tally.in_writing += any(name.startswith(".") for name in new)
            check(work, expected)
            continue
        assert os.WEXITSTATUS(status) == 0, "the child failed"
        tally.endings += 1
        assert (work / "out.png").exists()
        check(work, expected)
        for path in work.iterdir():
            path.unlink()
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # A forked process does not have the threads of its parent.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tally = kill(options.kills, options.seed, Path(folder))
    print(
        f"{tally.kills} kills, {tally.in_writing} of them while a file was being written; "
        f"{tally.resumed} starts from a checkpoint; {tally.endings} came to the end, all with "
        "the same bits"
    )


if __name__ == "__main__":
    main()
