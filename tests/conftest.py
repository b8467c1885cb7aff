"""Settings and fixtures of the whole test suite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from dipfast.networks import HourglassConfig
from dipfast.settings.names import TASKS
from dipfast.settings.presets import PRESETS, Preset

# Small networks gain nothing from several threads, which wait for each other on busy cores.
torch.set_num_threads(1)

# The time of an example is not reliable on a shared machine.
settings.register_profile("dipfast", deadline=None, print_blob=True)
settings.load_profile("dipfast")

ROOT = Path(__file__).parents[1]
# The files that take longest, the longest first, as measured with --durations on one core: where
# several processes share the files, one that takes minutes must not be the last to begin.
LONGEST = (
    "tests/model/test_noise.py",
    "tests/test_units.py",
    "tests/run/test_joined.py",
    "tests/ops/test_torch.py",
    "tests/apps/cli/test_cli.py",
    "tests/apps/studio/test_browser.py",
    "tests/prior/test_methods.py",
    "tests/run/test_tiled.py",
    "tests/docs/test_pages.py",
    "tests/ops/test_triton.py",
    "tests/cluster/test_arrays.py",
    "tests/cluster/test_engine.py",  # beside the others of its room, which share a cluster
    "tests/cluster/test_cluster_files.py",
    "tests/cluster/test_command_line.py",
    "tests/denoisers/test_combine.py",
    "tests/prior/test_prior.py",
    "tests/ops/test_nl_ridge.py",
    "tests/run/test_checkpoint.py",
    "tests/robustness/test_interrupt.py",
    "tests/denoisers/test_blocks.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the longest files begin first in the processes of pytest-xdist."""
    if hasattr(config, "workerinput"):
        ranks = {ROOT / name: rank for rank, name in enumerate(LONGEST)}
        items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.fixture(autouse=True)
def single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fits be in float32 by default on every machine, so that tests see the same numbers."""
    monkeypatch.setattr("dipfast.run.precision._is_bfloat16_faster", lambda: False)


@pytest.fixture(autouse=True)
def small_guided_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fits that are joined by default be small and short."""
    network = HourglassConfig((8, 16), (8, 16), (4, 4))
    joined = [f"{task}-{quality}" for task in TASKS[1:] for quality in ("balanced", "best")]
    for name in [*(name for name in PRESETS if name.startswith("guided")), *joined]:
        small = replace(PRESETS[name], iterations=20, network=network)
        monkeypatch.setitem(PRESETS, name, small)
    monkeypatch.setattr("dipfast.run.job.SHORTEST_FIT", 5)


@pytest.fixture
def use_small_network(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that makes the default a single fit of a small network, and short."""

    def use(iterations: int, **options: float) -> None:
        network = HourglassConfig((8, 16), (8, 16), (4, 4))
        small = Preset(iterations, (1 / 30, 0.005), network, **options)
        monkeypatch.setattr("dipfast.settings.settings.JOINED_BY_DEFAULT", ())
        for task in TASKS:
            monkeypatch.setitem(PRESETS, f"{task}-balanced", small)

    return use


@pytest.fixture
def noisy_pair() -> tuple[np.ndarray, np.ndarray]:
    """Return a small picture with noise of sigma 25, and without."""
    rows, columns = np.mgrid[0:32, 0:40]
    clean = np.stack([60 + 3 * columns, 200 - 4 * rows, 90 + 0 * rows], axis=-1)
    clean[8:20, 10:28] = (220, 60, 40)
    noise = np.random.default_rng(0).normal(0, 25, clean.shape)
    noisy = (clean + noise).round().clip(0, 255)
    return noisy.astype(np.uint8), clean.astype(np.uint8)
