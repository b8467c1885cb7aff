"""Functions that tests run on workers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import dipfast


def count(folder: str, name: str) -> int:
    """Note that something is begun, and return how often it was before."""
    before = len(list(Path(folder).glob(f"{name}-*")))
    Path(folder, f"{name}-{os.getpid()}-{time.monotonic_ns()}").touch()
    return before


def square(number: int, folder: str) -> int:
    count(folder, str(number))
    return number**2


def square_after(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return number**2


def square_or_die(number: int, folder: str, mortal: int, times: int) -> int:
    """Return a square, and kill the worker at the first times of one number."""
    before = count(folder, str(number))
    time.sleep(0.1)  # values are fetched as they come, and not those of the moment of a death
    if before < times and number == mortal:
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


def fail(number: int) -> int:
    if number == 1:
        raise ValueError("no ones")
    return number


def take_memory(size: int) -> int:
    """Take memory until the worker is ended for it."""
    taken = []
    for _ in range(size // 2**24):
        taken.append(bytearray(b"x") * 2**24)
        time.sleep(0.02)
    if taken:
        time.sleep(60)
    return len(taken)


def slow(number: int) -> int:
    time.sleep(60)
    return number


def count_restorations(folder: str) -> None:
    """From now on, let a worker note every picture that it restores, and take its time."""
    denoise: Any = getattr(dipfast.denoise, "counted", dipfast.denoise)

    def counted(image: Any, **options: Any) -> Any:
        count(folder, str(int(image.astype(int).sum())))
        time.sleep(0.15)
        return denoise(image, **options)

    counted.counted = denoise  # type: ignore[attr-defined]
    dipfast.denoise = counted  # type: ignore[assignment]


def do_not_count() -> None:
    dipfast.denoise = getattr(dipfast.denoise, "counted", dipfast.denoise)
