"""The dock widget in a viewer: each task from the layer to its result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dipfast
from dipfast.apps.napari.runs import Done, Run

Wait = Callable[..., None]


@pytest.fixture
def noisy() -> np.ndarray:
    """Return a small picture of 16 bits, with noise."""
    rows, columns = np.mgrid[0:32, 0:40]
    clean = 20000 + 300 * columns + 9000 * (rows > 12)
    noise = np.random.default_rng(0).normal(0, 1500, clean.shape)
    return (clean + noise).round().astype(np.uint16)


def _messages() -> list[str]:
    from napari.utils.notifications import notification_manager

    return [notice.message for notice in notification_manager.records]


def _run(panel: Any, wait: Wait) -> Any:
    """Start a run, wait for its end, and return the newest layer."""
    panel.start()
    assert panel.run is not None
    wait(lambda: panel.run is None)
    return panel.viewer.layers[-1]


def _begin_long_run(panel: Any, wait: Wait, noisy: np.ndarray) -> Any:
    """Start a run that does not end by itself, and return its worker when it iterates."""
    panel.viewer.add_image(noisy)
    panel.fields["max_iterations"].set(10**6)
    panel.start()
    wait(lambda: "Iteration" in panel.status.text())
    return panel._worker


def test_denoised_layer_is_in_the_unit_and_place_of_its_source(
    viewer: Any, panel: Any, wait: Wait, noisy: np.ndarray
) -> None:
    source = viewer.add_image(
        noisy, name="cells", scale=(2, 3), translate=(5, 7), rotate=30, colormap="magma"
    )
    source.contrast_limits = (19000, 45000)
    panel.fields["quality"].set("fast")
    made = _run(panel, wait)

    assert made.name == "cells denoised"
    expected = dipfast.denoise(noisy, quality="fast")
    np.testing.assert_array_equal(made.data, expected.image)
    assert made.data.dtype == np.uint16
    np.testing.assert_array_equal(made.scale, source.scale)
    np.testing.assert_allclose(made.data_to_world((3, 4)), source.data_to_world((3, 4)))
    assert (made.colormap.name, made.contrast_limits) == ("magma", [19000, 45000])
    assert made.metadata["dipfast"]["settings"]["quality"] == "fast"
    assert "noise" in panel.status.text()
    np.testing.assert_array_equal(source.data, noisy)
    assert not _messages()


def test_run_may_end_while_the_bar_of_napari_is_told(
    viewer: Any, panel: Any, wait: Wait, noisy: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Napari lets Qt work within ``update``, and the end of a run may be what is waiting there."""
    may_begin, compute = threading.Event(), Run.compute

    def wait_and_compute(run: Run) -> Done:
        may_begin.wait(60)
        return compute(run)

    monkeypatch.setattr(Run, "compute", wait_and_compute)
    viewer.add_image(noisy, name="cells")
    panel.fields["quality"].set("fast")
    panel.start()
    monkeypatch.setattr(
        panel._bar_of_napari, "update", lambda _: wait(lambda: panel.run is None), raising=False
    )
    may_begin.set()
    while panel.run.look().share is None:  # Qt does not work here, so that the run cannot end
        time.sleep(0.005)
    panel._look_at_run()
    assert panel.run is None
    assert [layer.name for layer in viewer.layers] == ["cells", "cells denoised"]
    assert "noise" in panel.status.text()


def test_enlarged_layer_covers_its_source(
    viewer: Any, panel: Any, wait: Wait, noisy: np.ndarray
) -> None:
    source = viewer.add_image(noisy, scale=(2, 3), translate=(5, 7), rotate=30)
    panel.task = "super_resolve"
    panel.fields["factor"].set(4)
    panel.fields["quality"].set("fast")
    made = _run(panel, wait)
    assert made.data.shape == (128, 160)
    for corner in ((-0.5, -0.5), (31.5, 39.5), (-0.5, 39.5)):
        small = np.array(corner)
        np.testing.assert_allclose(made.data_to_world(4 * small + 1.5), source.data_to_world(small))


def test_labels_are_filled_in(viewer: Any, panel: Any, wait: Wait, noisy: np.ndarray) -> None:
    viewer.add_image(noisy)
    labels = viewer.add_labels(np.zeros(noisy.shape, dtype=int), name="holes")
    labels.data[4:8, 6:20] = 3
    panel.task = "inpaint"
    panel.choose(labels)
    panel.fields["quality"].set("fast")
    made = _run(panel, wait)
    missing = labels.data != 0
    np.testing.assert_array_equal(made.data[~missing], noisy[~missing])
    assert (made.data[missing] != noisy[missing]).mean() > 0.9
    assert made.name.endswith("inpainted")


def test_labels_of_another_size_are_told(
    viewer: Any, panel: Any, wait: Wait, noisy: np.ndarray
) -> None:
    viewer.add_image(noisy)
    viewer.add_labels(np.ones((5, 6), dtype=int), name="holes")
    panel.task = "inpaint"
    panel.start()
    wait(lambda: panel.run is None)
    (message,) = _messages()
    assert "'holes'" in message
    assert "(5, 6)" in message
    assert [layer.name for layer in viewer.layers] == ["noisy", "holes"]
    assert panel.start_button.isEnabled()


def test_colours_and_opacity_are_kept(viewer: Any, panel: Any, wait: Wait) -> None:
    generator = np.random.default_rng(0)
    picture = generator.normal(120, 20, (24, 28, 4)).clip(0, 255).astype(np.uint8)
    viewer.add_image(picture, rgb=True)
    panel.fields["quality"].set("fast")
    made = _run(panel, wait)
    assert made.rgb
    np.testing.assert_array_equal(made.data[..., 3], picture[..., 3])
    expected = dipfast.denoise(picture[..., :3], quality="fast", channel_axis=-1)
    np.testing.assert_array_equal(made.data[..., :3], expected.image)


def test_stack_is_restored_plane_by_plane_or_only_the_one_that_is_shown(
    viewer: Any, panel: Any, wait: Wait, noisy: np.ndarray
) -> None:
    stack = np.stack([noisy, noisy[::-1], noisy[:, ::-1]])
    source = viewer.add_image(stack, name="z", scale=(5, 1, 1))
    panel.fields["quality"].set("fast")
    whole = _run(panel, wait)
    expected = dipfast.denoise(stack, quality="fast", stack_axis=0)
    np.testing.assert_array_equal(whole.data, expected.image)

    panel.choose(source)
    panel.plane_box.setChecked(True)
    viewer.dims.set_current_step(0, 2)
    one = _run(panel, wait)
    assert one.data.shape == (1, *noisy.shape)
    np.testing.assert_array_equal(one.data[0], dipfast.denoise(stack[2], quality="fast").image)
    np.testing.assert_allclose(one.data_to_world((0, 3, 4)), source.data_to_world((2, 3, 4)))


@pytest.mark.parametrize("seen", ["rolled", "3D"])
def test_plane_of_other_axes_is_refused(
    viewer: Any, panel: Any, wait: Wait, noisy: np.ndarray, seen: str
) -> None:
    viewer.add_image(np.stack([noisy] * 3), name="z")
    panel.fields["quality"].set("fast")
    panel.plane_box.setChecked(True)
    if seen == "rolled":
        viewer.dims.order = (2, 0, 1)
    else:
        viewer.dims.ndisplay = 3
    panel.start()
    assert panel.run is None
    assert "rows and columns" in _messages()[-1]
    viewer.dims.order, viewer.dims.ndisplay = (0, 2, 1), 2  # transposed, but the same plane
    assert _run(panel, wait).data.shape == (1, *noisy.shape)


def test_stop_keeps_the_picture_that_was_shown_meanwhile(
    viewer: Any, panel: Any, wait: Wait, noisy: np.ndarray
) -> None:
    viewer.add_image(noisy, name="cells")
    panel.fields["max_iterations"].set(10**6)
    panel.start()
    wait(lambda: "Iteration" in panel.status.text() and len(viewer.layers) == 2)
    live = viewer.layers[-1]
    assert live.name == "cells denoised (running)"
    assert live.data.dtype == np.uint16
    first = live.data
    # In the unit of the picture, and not from 0 to 1.
    assert abs(np.median(first.astype(float)) - np.median(noisy)) < 5000
    assert panel.bar.isVisibleTo(panel.widget)
    assert "Iteration" in panel.status.text()
    wait(lambda: live.data is not first)  # the next one, a second later

    panel.stop()
    assert not panel.stop_button.isEnabled()
    wait(lambda: panel.run is None)
    assert [layer.name for layer in viewer.layers] == ["cells", "cells denoised"]
    assert viewer.layers[-1] is live
    report = live.metadata["dipfast"]
    assert report["stop_reason"] == "stopped"
    assert 0 < report["stop_iteration"] < 10**6
    assert panel.start_button.isEnabled()


def test_snapshots_have_an_axis_of_iterations(
    viewer: Any, panel: Any, wait: Wait, noisy: np.ndarray
) -> None:
    source = viewer.add_image(noisy, name="cells", scale=(2, 3), translate=(5, 7))
    panel.fields["quality"].set("fast")
    assert not panel.snapshots_box.isEnabled()  # no network, no iterations
    panel.fields["max_iterations"].set(8)
    assert panel.snapshots_box.isEnabled()
    panel.snapshots_box.setChecked(True)
    frames = _run(panel, wait)
    iterations = frames.metadata["iterations"]
    assert frames.name == "cells denoised, iterations"
    assert iterations == list(range(1, 9))
    assert frames.data.shape == (8, *noisy.shape)
    assert frames.data.dtype == np.uint16
    np.testing.assert_allclose(frames.data_to_world((0, 3, 4))[1:], source.data_to_world((3, 4)))
    assert viewer.dims.current_step[0] == 7
    assert not (frames.data[0] == frames.data[-1]).all()


def test_snapshots_of_a_stack_have_those_of_all_planes(
    viewer: Any, panel: Any, wait: Wait, noisy: np.ndarray
) -> None:
    viewer.add_image(np.stack([noisy, noisy[::-1]]))
    panel.fields["max_iterations"].set(4)
    panel.snapshots_box.setChecked(True)
    frames = _run(panel, wait)
    assert frames.data.shape == (4, 2, *noisy.shape)
    assert frames.metadata["iterations"] == [[k, k] for k in range(1, 5)]


def test_what_is_refused_is_told_in_one_line(
    viewer: Any, panel: Any, wait: Wait, noisy: np.ndarray
) -> None:
    viewer.add_image(np.full((32, 40), np.nan, dtype=np.float32), name="nothing")
    panel.fields["quality"].set("fast")
    panel.start()
    wait(lambda: panel.run is None)
    (message,) = _messages()
    assert "finite" in message
    assert "\n" not in message
    assert panel.status.text() == message
    assert len(viewer.layers) == 1

    panel.fields["seed"].set("many")
    panel.start()
    assert panel.run is None
    assert "seed must be an integer" in _messages()[-1]


@pytest.mark.usefixtures("needs_window")
def test_closing_the_viewer_ends_the_run(
    viewer: Any, panel: Any, wait: Wait, noisy: np.ndarray
) -> None:
    worker = _begin_long_run(panel, wait, noisy)
    viewer.close()
    wait(lambda: not worker.is_running, 20)


@pytest.mark.usefixtures("needs_window")
def test_closing_the_dock_ends_the_run(
    viewer: Any, panel: Any, wait: Wait, noisy: np.ndarray
) -> None:
    worker = _begin_long_run(panel, wait, noisy)
    viewer.window.remove_dock_widget(panel.widget)  # as its button does
    wait(lambda: not worker.is_running, 20)
    assert panel.run is None
    assert len(viewer.layers) == 1


def test_a_panel_without_a_dock_ends_its_run(
    viewer: Any, panel: Any, wait: Wait, noisy: np.ndarray
) -> None:
    viewer.add_image(noisy)
    panel.fields["max_iterations"].set(10**6)
    panel.start()
    wait(lambda: "Iteration" in panel.status.text() and len(viewer.layers) == 2)
    worker, bar = panel._worker, panel._bar_of_napari
    panel._leave_dock()
    assert (panel.run, len(viewer.layers)) == (None, 1)
    assert bar.disable or bar.n <= bar.total
    wait(lambda: not worker.is_running, 20)
    assert len(viewer.layers) == 1


def test_layers_come_and_go(viewer: Any, panel: Any, noisy: np.ndarray) -> None:
    assert not panel.start_button.isEnabled()
    assert panel.status.text() == "Open an image first."
    first = viewer.add_image(noisy, name="first")
    second = viewer.add_image(noisy, name="second")
    assert panel.image_layer is second
    first.name = "renamed"
    assert panel.image_box.itemText(1) == "renamed"
    viewer.layers.selection.active = first
    assert panel.image_layer is first
    viewer.layers.remove(first)
    assert panel.image_layer is second
    assert panel.start_button.isEnabled()
