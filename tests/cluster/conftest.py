"""A cluster of two workers for all tests of the room, and folders of small pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("distributed")

from dipfast.cluster import connect
from dipfast.images.files import write_image


@pytest.fixture(scope="package")
def client() -> Iterator[Any]:
    """A client of two worker processes with one thread each."""
    with connect("local", workers=2, threads=1) as client:
        yield client


def picture(seed: int, size: tuple[int, ...] = (24, 24)) -> np.ndarray:
    return np.random.default_rng(seed).normal(128, 25, size).clip(0, 255).astype(np.uint8)


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[[int], list[Path]]:
    """Return a function that writes so many noisy pictures into the folder ``in``."""

    def make(count: int) -> list[Path]:
        paths = [tmp_path / "in" / f"{number:02}.png" for number in range(count)]
        paths[0].parent.mkdir()
        for number, path in enumerate(paths):
            write_image(path, picture(number))
        return paths

    return make
