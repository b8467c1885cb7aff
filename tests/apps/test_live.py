"""The live view of notebooks, with what IPython would show caught."""

from __future__ import annotations

import base64
import io
import re
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from IPython import display
from PIL import Image

import dipfast
from dipfast import LiveView
from dipfast.apps import live
from dipfast.errors import InputError, MissingExtraError
from dipfast.run.observers import Progress

NOISY = np.random.default_rng(4).normal(120, 20, (24, 32)).round().astype(np.uint8)


class Shown:
    """What a notebook shows: all that was in one place, one after the other."""

    def __init__(self) -> None:
        self.pages: list[str] = []
        self.places = 0

    def display(self, html: Any, display_id: bool) -> Shown:
        assert display_id
        self.places += 1
        self.update(html)
        return self

    def update(self, html: Any) -> None:
        self.pages.append(html.data)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    shown = Shown()
    monkeypatch.setattr(display, "display", shown.display)
    return shown


def picture_in(page: str) -> np.ndarray:
    (data,) = re.findall("data:image/png;base64,([^']*)", page)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_fit(shown: Shown) -> None:
    view = LiveView(every=1e-6, size=16)
    result = dipfast.denoise(NOISY, method="two_stage", max_iterations=12, callback=view)
    assert shown.places == 1
    last = shown.pages[-1]
    assert f"iteration {result.stop_iteration} of 12" in last
    assert picture_in(last).shape == (12, 16)
    assert "loss, logarithmic" in last
    assert "<polyline" in last


def test_shows_what_is_returned(shown: Shown) -> None:
    options: dict[str, Any] = {"method": "two_stage", "max_iterations": 6, "stop": "none"}
    view = LiveView(every=1e-6)
    result = dipfast.denoise(NOISY, data_range=(0, 255), refine=False, callback=view, **options)
    drawn = picture_in(shown.pages[-1]).astype(float)
    assert abs(drawn - result.stop_image).max() <= 1


def test_psnr_where_there_is_a_reference(shown: Shown) -> None:
    reference = np.full_like(NOISY, 120)
    result = dipfast.denoise(
        NOISY,
        method="two_stage",
        max_iterations=6,
        stop="none",
        reference=reference,
        callback=LiveView(every=1e-6),
    )
    assert f"PSNR {result.metrics['psnr_stop']:.2f} dB" in shown.pages[-1]


def test_without_a_network(shown: Shown) -> None:
    dipfast.denoise(NOISY, quality="fast", callback=LiveView(every=1e-6))
    assert "100%" in shown.pages[-1]
    assert "<img" not in shown.pages[-1]


def test_a_good_picture_is_not_replaced_by_the_beginning_of_a_fit(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_SHARE", 0)  # every iteration is shown, however long that takes
    noisy = np.full((40, 40), 120, np.uint8)
    noisy[:, 20:] = 200
    noise = np.random.default_rng(5).normal(0, 15, noisy.shape)
    noisy = (noisy + noise).round().clip(0, 255).astype(np.uint8)
    dipfast.denoise(noisy, callback=LiveView(every=1e-6))
    first = next(page for page in shown.pages if "<img" in page)
    fits = [page for page in shown.pages if "iteration 1 of" in page]
    assert fits
    for page in (first, *fits):
        assert abs(picture_in(page).astype(float) - noisy).mean() < 20


def test_planes_of_a_stack_are_shares_of_the_whole(shown: Shown) -> None:
    stack = np.stack([NOISY, NOISY, NOISY])
    dipfast.denoise(stack, stack_axis=0, quality="fast", callback=LiveView(every=1e-6))
    shares = [float(re.findall("value='([0-9.]*)'", page)[0]) for page in shown.pages]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert "plane 3 of 3" in shown.pages[-1]


class Clock:
    """A clock that goes on only when it is told to, and a view that looks at it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.view = LiveView(every=1e-6)

    def pass_to(self, seconds: float, state: Any) -> None:
        self.now = 1000 + seconds
        self.view(state)


def iteration(number: int) -> Any:
    return SimpleNamespace(
        iteration=number,
        iterations=100,
        stage=SimpleNamespace(name="details"),
        numbers=SimpleNamespace(value=0.1),
        metrics={},
        average=torch.zeros(1, 1, 4, 4),
    )


def test_time_left_is_that_of_the_step_at_hand(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    for share in (0.0, 0.5, 1.0):
        clock.pass_to(400 * share, Progress(share))
    clock.pass_to(400, Progress(0.0, torch.zeros(1, 1, 4, 4)))
    for number in range(1, 52):
        clock.pass_to(400 + number, iteration(number))
    assert "51% in 7 min 31 s, about 49 s left" in shown.pages[-1]


def test_bar_of_a_stack_does_not_go_back_for_the_first_pictures_of_planes(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, planes, seconds = Clock(monkeypatch), 4, 0
    for plane in range(planes):
        for share in (0.0, 0.5, 1.0):
            clock.pass_to(seconds, Progress(share, None, (plane, planes)))
        clock.pass_to(seconds, Progress(0.0, torch.zeros(1, 1, 4, 4), (plane, planes)))
        for number in range(1, 101):
            seconds += 1
            clock.pass_to(seconds, iteration(number))
            if (plane, number) == (1, 50):
                assert "38% in 2 min 30 s, about 4 min 10 s left" in shown.pages[-1]
    shares = [float(re.findall("value='([0-9.]*)'", page)[0]) for page in shown.pages]
    of_fits = shares[3:]
    assert of_fits == sorted(of_fits)
    assert of_fits[-1] == 1


def test_seldom_by_default(shown: Shown) -> None:
    view = LiveView(every=1e6)
    dipfast.denoise(NOISY, method="two_stage", max_iterations=12, stop="none", callback=view)
    assert len(shown.pages) == 2  # the first and the last iteration


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="every must be a positive number, got 0"):
        LiveView(every=0)
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(MissingExtraError, match="pip install ipython"):
        LiveView()
