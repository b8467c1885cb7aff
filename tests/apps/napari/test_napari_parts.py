"""The parts of the plugin that need no viewer, and its manifest."""

from __future__ import annotations

import inspect
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dipfast
from dipfast.apps.napari import functions
from dipfast.apps.napari.forms import FIRST, MORE
from dipfast.apps.napari.layers import Source
from dipfast.apps.napari.panel import TASKS
from dipfast.apps.napari.runs import Run
from dipfast.apps.studio.units import Unit
from dipfast.settings.option import options_of
from dipfast.settings.settings import SETTINGS

_FOLDER = Path(functions.__file__).parent


def _manifest() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        npe2 = pytest.importorskip("npe2", reason="the manifest is read by npe2, of napari")
        return npe2.PluginManifest.from_file(_FOLDER / "napari.yaml")


def test_manifest_is_valid_and_its_commands_exist() -> None:
    manifest = _manifest()
    assert manifest.name == "dipfast"
    commands = {command.id: command for command in manifest.contributions.commands}
    for command in commands.values():
        module, _, name = command.python_name.partition(":")
        assert callable(getattr(import_module(module), name))
    for widget in manifest.contributions.widgets:
        assert widget.command in commands
    # napari fills in the viewer where it finds it by this name.
    panel = import_module("dipfast.apps.napari.panel")
    assert "napari_viewer" in inspect.signature(panel.DockWidget.__init__).parameters


def test_installation_announces_the_manifest() -> None:
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    said = text.split('[project.entry-points."napari.manifest"]\n')[1].splitlines()[0]
    module, _, name = said.partition('"')[2].rstrip('"').partition(":")
    assert (Path(import_module(module).__file__ or "").parent / name).is_file()


def test_form_has_options_that_exist() -> None:
    for task in TASKS:
        assert {*FIRST, *MORE} - set(options_of(SETTINGS[task])) <= {"factor"}


@pytest.mark.parametrize("shape", [(24, 28), (24, 28, 3), (2, 24, 28), (24, 28, 4)])
def test_function_denoises_arrays_of_napari(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).normal(120, 20, shape).clip(0, 255).astype(np.uint8)
    made = functions.denoise(picture)
    assert (made.shape, made.dtype) == (picture.shape, picture.dtype)
    colours = picture[..., :3] if shape[-1] == 4 else picture
    axes = {"stack_axis": 0} if shape[0] == 2 else {}
    expected = dipfast.denoise(colours, quality="fast", **axes).image
    np.testing.assert_array_equal(made[..., : expected.shape[-1]], expected)


@pytest.mark.parametrize(("planes", "megabytes"), [(1, 40 * 4), (100, 256)])
def test_pictures_of_iterations_of_all_planes_have_a_bound(planes: int, megabytes: float) -> None:
    run = Run("denoise", Source(np.broadcast_to(np.float32(0), (planes, 1000, 1000))), {})
    assert run._megabytes() == pytest.approx(megabytes)


def test_planes_of_a_stack_have_as_many_pictures_of_iterations_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dipfast.apps.napari.runs._SNAPSHOTS", 6)
    noisy = np.random.default_rng(0).normal(120, 20, (3, 16, 16)).astype(np.float32)
    run = Run("denoise", Source(noisy), {"max_iterations": 6}, keeps_snapshots=True)
    done = run.compute()
    assert done.iterations == tuple([k] * 3 for k in range(1, 7))


def test_unit_is_that_of_the_measurement() -> None:
    image = np.linspace(1000, 3000, 32 * 32).reshape(32, 32).astype(np.uint16)
    unit = Unit("denoise", image)
    scaled = torch.from_numpy((image.astype(np.float32) - 1000) / 2000)[None, None]
    unit.look_at(scaled)
    np.testing.assert_array_equal(unit.picture(scaled), image)
    assert unit.picture(torch.full((1, 1, 2, 2), 100.0)).max() == 65535  # and does not wrap


def test_unit_of_stretched_values_is_that_of_the_image() -> None:
    image = np.geomspace(10, 50000, 64 * 64).reshape(64, 64).astype(np.float32)
    unit = Unit("denoise", image)
    stretched = torch.from_numpy((np.log(image) - np.log(10)) / np.log(5000))[None, None]
    unit.look_at(stretched)
    np.testing.assert_allclose(unit.picture(stretched), image, rtol=0.05)


def test_unit_of_an_enlargement_has_its_margin(use_small_network: Any) -> None:
    use_small_network(6)
    image = np.random.default_rng(0).normal(3000, 500, (24, 28)).astype(np.float32)
    found: list[Any] = []
    result = dipfast.super_resolve(
        image, 2, callback=lambda state: found.append(state.average), max_iterations=6
    )
    live = Unit("super_resolve", image).picture(found[-1])
    np.testing.assert_allclose(live, result.stop_image, rtol=1e-4)


def test_run_tells_how_far_a_stack_is(use_small_network: Any) -> None:
    use_small_network(6)
    stack = np.random.default_rng(0).normal(120, 20, (2, 24, 28)).clip(0, 255).astype(np.uint8)
    run = Run("denoise", Source(stack), {"max_iterations": 4})
    seen = []

    def look() -> bool:
        seen.append(run.look())
        return False

    run.is_cancelled = look
    done = run.compute()
    shares = [view.share for view in seen if view.share is not None]
    assert shares == sorted(shares)
    assert max(shares) > 0.8
    assert any(view.step.startswith("Plane 2 of 2, iteration") for view in seen)
    picture = run.new_picture()
    assert (picture.shape, picture.dtype) == (stack.shape, stack.dtype)
    assert run.new_picture() is None
    assert done.image.shape == stack.shape


def test_progress_of_a_stack_never_goes_back() -> None:
    stack = np.random.default_rng(0).normal(120, 20, (2, 24, 28)).clip(0, 255).astype(np.uint8)
    run = Run("denoise", Source(stack), {"neighbours": 0})
    seen: list[Any] = []

    def look() -> bool:
        seen.append(run.look())
        return False

    run.is_cancelled = look
    run.compute()
    shares = [view.share for view in seen if view.share is not None]
    assert shares == sorted(shares)
    # The first picture of a plane is but the beginning of its work.
    first = [view.share for view in seen if view.step.startswith("Plane 1 of 2, first picture")]
    fits = [view.share for view in seen if view.step.startswith("Plane 1 of 2, iteration")]
    assert set(first) == {0}
    assert 0 < fits[0] < 0.1


def test_first_picture_is_shown_before_fits_are_joined_with_it() -> None:
    picture = np.random.default_rng(0).normal(900, 100, (32, 40)).astype(np.uint16)
    run = Run("denoise", Source(picture), {})
    shown: list[Any] = []

    def look() -> bool:
        if run.look().step.startswith("Iteration") and not shown:
            shown.append(run.new_picture())
        return False

    run.is_cancelled = look
    done = run.compute()
    assert shown[0].dtype == np.uint16
    np.testing.assert_allclose(shown[0], done.result.members[0].image, atol=1)


def test_fit_at_work_has_the_known_pixels(use_small_network: Any) -> None:
    use_small_network(6)
    picture = np.random.default_rng(0).normal(900, 100, (24, 28)).astype(np.uint16)
    missing = np.zeros(picture.shape, bool)
    missing[4:8, 6:12] = True
    run = Run("inpaint", Source(picture), {"max_iterations": 2}, lambda: missing)
    run.compute()
    shown = run.new_picture()
    np.testing.assert_array_equal(shown[~missing], picture[~missing])
    assert not np.array_equal(shown[missing], picture[missing])


def test_panel_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from dipfast.apps.napari.panel import Panel

    monkeypatch.setitem(sys.modules, "napari.qt.threading", None)
    monkeypatch.setitem(sys.modules, "napari", None)
    with pytest.raises(dipfast.errors.MissingExtraError, match=r"pip install 'dipfast\[napari\]'"):
        Panel(None)
