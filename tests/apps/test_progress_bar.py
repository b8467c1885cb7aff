"""The progress bar of scripts and notebooks, with a bar that only counts in the place of tqdm's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dipfast
from dipfast import ProgressBar
from dipfast.errors import InputTypeError

NOISY = np.random.default_rng(4).normal(120, 20, (24, 32)).round().astype(np.uint8)


class Counter:
    """What a bar of tqdm does, as far as it is used."""

    def __init__(self, made: list[Counter], **options: Any) -> None:
        self.total: float = options["total"]
        self.described = str(options.get("desc", ""))
        self.n = 0.0
        self.seen = [0.0]
        self.shown: dict[str, str] = {}
        self.is_closed = False
        made.append(self)

    def update(self, more: float) -> None:
        self.n += more
        self.seen.append(self.n)

    def set_description(self, text: str, refresh: bool) -> None:
        assert not refresh
        self.described = text

    def set_postfix(self, shown: dict[str, str], refresh: bool) -> None:
        assert not refresh
        self.shown = shown

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def made() -> list[Counter]:
    return []


@pytest.fixture
def bar(made: list[Counter]) -> ProgressBar:
    return ProgressBar("my picture", lambda **options: Counter(made, **options))


def test_fit(bar: ProgressBar, made: list[Counter]) -> None:
    with bar:
        result = dipfast.denoise(
            NOISY, method="two_stage", max_iterations=12, reference=NOISY, callback=bar
        )
    (only,) = made
    assert only.is_closed
    assert only.total == 12
    assert only.n == result.stop_iteration
    assert only.described.startswith("stage '")
    assert set(only.shown) == {"loss", "PSNR"}


def test_without_a_network(bar: ProgressBar, made: list[Counter]) -> None:
    dipfast.denoise(NOISY, quality="fast", callback=bar)
    (only,) = made
    assert only.total == only.n == 100
    assert only.described == "my picture"


@pytest.mark.parametrize("whole", [False, True])
def test_stack(made: list[Counter], whole: bool) -> None:
    bar = ProgressBar(make=lambda **options: Counter(made, **options), whole_planes=whole)
    stack = np.stack([NOISY] * 3)
    dipfast.denoise(stack, stack_axis=0, neighbours=0, quality="fast", callback=bar)
    (only,) = made
    assert only.total == 300
    assert only.described == "restoring, plane 3 of 3"
    assert only.seen == sorted(only.seen)
    assert only.n == (200 if whole else 300)


def test_tqdm_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("noise") as bar:
        dipfast.denoise(NOISY, quality="fast", callback=bar)
    assert "noise: 100%" in capsys.readouterr().err


def test_what_cannot_make_a_bar() -> None:
    with pytest.raises(InputTypeError, match="make must be callable, got str"):
        ProgressBar("x", "tqdm")  # type: ignore[arg-type]
