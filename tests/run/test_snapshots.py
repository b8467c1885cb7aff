"""Snapshots of a fit stay within a given memory, and are evenly spaced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dipfast
from dipfast.apps.report import draw_strip
from dipfast.images.files import read_image
from dipfast.run.result import Result
from dipfast.run.snapshots import Snapshot, Snapshots
from dipfast.stopping import StopReason


@given(
    count=st.integers(1, 3000),
    begin=st.integers(1, 50),
    step=st.integers(1, 7),
    room=st.integers(1, 40),
)
def test_are_bounded_and_spaced_evenly_in_logarithms(
    count: int, begin: int, step: int, room: int
) -> None:
    image = torch.zeros(5, 5)
    snapshots = Snapshots(megabytes=room * 100 / 1e6)
    seen = list(range(begin, begin + count * step, step))
    for iteration in seen:
        snapshots.add(iteration, image)
    kept = snapshots.iterations
    assert len(kept) <= max(room, 2)
    assert kept == sorted(set(kept))
    assert kept[0] == seen[0]
    assert kept[-1] >= 0.97 * seen[-1] - step
    if len(kept) > 8:
        ratios = np.diff(np.log(kept[4:]))  # the first iterations differ by whole numbers
        assert ratios.max() < 4 * max(np.median(ratios), 0.02 + step / kept[4])


def test_images_are_those_of_their_iterations() -> None:
    snapshots = Snapshots(megabytes=0.001)
    for iteration in range(1, 300):
        snapshots.add(iteration, torch.full((5, 5), float(iteration)))
    assert all((image == iteration).all() for iteration, image in snapshots.items())
    copy = Snapshots(megabytes=0.001)
    copy.load(snapshots.state_dict())
    assert copy.iterations == snapshots.iterations


def test_memory_must_be_positive() -> None:
    with pytest.raises(ValueError, match="megabytes must be positive, got 0"):
        Snapshots(0)


def test_in_the_form_of_the_result(noisy_pair: tuple[np.ndarray, np.ndarray]) -> None:
    averages = {}

    def look(state):
        averages[state.iteration] = state.average

    noisy = noisy_pair[0]
    result = dipfast.denoise(noisy, max_iterations=5, snapshots=1.0, callback=look)
    assert [s.iteration for s in result.snapshots] == [1, 2, 3, 4, 5]
    for snapshot in result.snapshots:
        expected = (averages[snapshot.iteration][0].double() * 255).round().byte().permute(1, 2, 0)
        assert (snapshot.image == expected.numpy()).all()
    assert dipfast.denoise(noisy, max_iterations=2).snapshots == []


def test_known_pixels_are_put_in(noisy_pair: tuple[np.ndarray, np.ndarray]) -> None:
    image = noisy_pair[1]
    mask = np.zeros(image.shape[:2], bool)
    mask[4:9, 4:9] = True
    result = dipfast.inpaint(image, mask, max_iterations=3, snapshots=1.0)
    assert all((s.image[~mask] == image[~mask]).all() for s in result.snapshots)


@pytest.mark.parametrize("channels", [None, 1, 3, 5])
@pytest.mark.parametrize("data_range", [1.0, 4095.0])
def test_strip(tmp_path: Path, channels: int | None, data_range: float) -> None:
    shape = (20, 30) if channels is None else (20, 30, channels)
    snapshots = [
        Snapshot(k, np.full(shape, data_range * k / 40, np.float32)) for k in (1, 2, 4, 9, 20, 40)
    ]
    result = Result(
        image=snapshots[-1].image,
        history={},
        stop_reason=StopReason.ALL_ITERATIONS,
        best_iteration=40,
        settings={},
        found={"data_range": [0.0, data_range]},
        channel_axis=None if channels is None else 2,
        snapshots=snapshots,
    )
    draw_strip(result, tmp_path / "strip.png", count=4)
    pixels = read_image(tmp_path / "strip.png").image
    assert pixels.shape[1] > 3 * pixels.shape[0]


def test_strip_of_nothing(tmp_path: Path) -> None:
    result = Result(
        image=None,
        history={},
        stop_reason=StopReason.ALL_ITERATIONS,
        best_iteration=1,
        settings={},
        found={},
    )
    with pytest.raises(ValueError, match="snapshots of one image"):
        draw_strip(result, tmp_path / "strip.png")
    assert not list(tmp_path.iterdir())
