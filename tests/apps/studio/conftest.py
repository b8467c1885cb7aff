"""Pictures and forms for tests of the studio."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dipfast.apps.studio.orders import read_order
from dipfast.apps.studio.pictures import Picture
from dipfast.apps.studio.runs import Registry, Run, View


@pytest.fixture
def registry() -> Iterator[Registry]:
    """Return a registry, which is closed in the end."""
    made = Registry()
    yield made
    made.close()
    made.join(20)


@pytest.fixture
def noisy() -> np.ndarray:
    """Return a small picture with noise, of 8 bits and three colours."""
    rows, columns = np.mgrid[0:32, 0:40]
    clean = np.stack([60 + 3 * columns, 200 - 4 * rows, 90 + 0 * rows], axis=-1)
    noise = np.random.default_rng(0).normal(0, 20, clean.shape)
    return (clean + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture
def picture(registry: Registry, noisy: np.ndarray, tmp_path: Path) -> Picture:
    """Return that picture, opened."""
    path = tmp_path / "scan.png"
    Image.fromarray(noisy).save(path)
    return registry.open_copy(path)


@pytest.fixture
def finished(registry: Registry) -> Callable[..., Run]:
    """Return a function that runs a form to its end."""

    def finish(picture: Picture, **fields: str) -> Run:
        run = registry.start(picture, read_order({"task": "denoise", **fields}, picture))
        wait(run, lambda view: view.is_over)
        return run

    return finish


def wait(run: Run, is_so: Callable[[View], bool], seconds: float = 60) -> View:
    """Look at a run until something is so, and return what is seen then."""
    end = time.monotonic() + seconds
    while not is_so(view := run.look()):
        assert time.monotonic() < end, f"it is not so after {seconds} s: {view}"
        time.sleep(0.02)
    return view


@pytest.fixture
def until() -> Callable[..., View]:
    """Return the function that waits for a run."""
    return wait
