"""Test what "auto" of precision is decided by, and that it is remembered."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import dipfast
from dipfast.run import precision
from dipfast.run.precision import find_precision

CPU = torch.device("cpu")
# What a test of this file replaces, before the fixture of all tests does.
asked = precision._is_bfloat16_faster
timed = precision._remembered


@pytest.fixture
def gains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
    """Return what timings say, each of which is taken once."""
    values: list[float] = []
    monkeypatch.setattr(precision, "_is_bfloat16_faster", asked)
    monkeypatch.setattr(precision, "_gain", lambda: values.pop())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    timed.cache_clear()
    yield values
    timed.cache_clear()


@pytest.mark.parametrize(
    ("gain", "expected"), [(0.5, "float32"), (1.2, "float32"), (2, "bfloat16")]
)
def test_auto_is_what_is_faster(gains: list[float], gain: float, expected: str) -> None:
    gains.append(gain)
    assert find_precision("auto", CPU) == expected


def test_a_timing_is_remembered(gains: list[float], tmp_path: Path) -> None:
    gains.append(2.0)
    assert find_precision("auto", CPU) == find_precision("auto", CPU) == "bfloat16"
    timed.cache_clear()  # as in another process
    assert find_precision("auto", CPU) == "bfloat16"
    assert not gains
    file = tmp_path / "dipfast" / "precision.json"
    assert list(json.loads(file.read_text()).values()) == [True]
    assert [path.name for path in file.parent.iterdir()] == ["precision.json"]


def test_each_number_of_threads_has_a_timing_of_its_own(gains: list[float]) -> None:
    threads = torch.get_num_threads()
    gains += [0.5, 2.0]
    try:
        found = []
        for number in (1, 2, 1):
            torch.set_num_threads(number)
            found.append(find_precision("auto", CPU))
    finally:
        torch.set_num_threads(threads)
    assert found == ["bfloat16", "float32", "bfloat16"]


@pytest.mark.parametrize("text", ["", "[1]", '{"a": ', "\x00"])
def test_a_damaged_memory_is_written_anew(gains: list[float], tmp_path: Path, text: str) -> None:
    file = tmp_path / "dipfast" / "precision.json"
    file.parent.mkdir()
    file.write_text(text)
    gains.append(2.0)
    assert find_precision("auto", CPU) == "bfloat16"
    assert list(json.loads(file.read_text()).values()) == [True]


def test_without_a_place_to_remember(
    gains: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    gains.append(2.0)
    assert find_precision("auto", CPU) == "bfloat16"


def test_without_a_home(gains: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", home)
    gains.append(2.0)
    assert find_precision("auto", CPU) == "bfloat16"


def test_threads_ask_once(gains: list[float]) -> None:
    gains.append(2.0)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: find_precision("auto", CPU), range(8)))
    assert found == ["bfloat16"] * 8


def test_double_precision() -> None:
    assert find_precision("auto", CPU, torch.float64) == "float32"
    with pytest.raises(ValueError, match="precision='bfloat16' is for images in float32"):
        find_precision("bfloat16", CPU, torch.float64)


def test_other_devices_and_what_is_asked_for(gains: list[float]) -> None:
    assert find_precision("auto", torch.device("cuda")) == "float32"
    assert find_precision("bfloat16", torch.device("cuda")) == "bfloat16"
    assert find_precision("float32", CPU) == "float32"


def test_the_timing_itself() -> None:
    assert 0.05 < precision._gain() < 50


def test_a_run_says_its_precision(
    noisy_pair: tuple[np.ndarray, np.ndarray], use_small_network
) -> None:
    use_small_network(12)
    noisy, _ = noisy_pair
    single = dipfast.denoise(noisy, refine=False)
    half = dipfast.denoise(noisy, refine=False, precision="bfloat16")
    assert (single.found["precision"], half.found["precision"]) == ("float32", "bfloat16")
    difference = np.abs(single.image.astype(int) - half.image)
    assert difference.any()
    assert difference.mean() < 8
    with pytest.raises(ValueError, match="precision must be one of auto, float32, bfloat16"):
        dipfast.denoise(noisy, precision="float16")


def test_another_precision_is_another_run(
    noisy_pair: tuple[np.ndarray, np.ndarray], use_small_network, tmp_path: Path
) -> None:
    use_small_network(12)
    noisy, _ = noisy_pair
    options = {"checkpoint": tmp_path / "run.state", "checkpoint_every": 5}
    dipfast.denoise(noisy, **options)
    with pytest.raises(dipfast.errors.CheckpointMismatchError, match="precision"):
        dipfast.denoise(noisy, precision="bfloat16", resume=True, **options)
