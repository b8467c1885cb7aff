"""A viewer without a screen; tests are skipped where napari or Qt are missing."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Nothing is drawn on a screen that somebody looks at.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

_MANIFEST = Path(__file__).parents[3] / "python" / "dipfast" / "apps" / "napari" / "napari.yaml"

_NO_OPENGL = "there is no OpenGL: on Linux without a screen, xvfb-run has one"


@pytest.fixture(scope="session")
def qt_app() -> Any:
    """Return the application of Qt, or skip the test."""
    with warnings.catch_warnings():
        # What napari and its libraries warn of when they are imported is not dipfast's.
        warnings.simplefilter("ignore")
        try:
            # A binding that lacks a library of the system is an ImportError, too; qtpy has an
            # exception of its own, a RuntimeError, where there is no binding.
            import napari.viewer  # noqa: F401
            from qtpy.QtWidgets import QApplication
        except (ImportError, RuntimeError) as error:
            pytest.skip(f"napari or Qt are missing: {error}")
        from napari.settings import get_settings

        get_settings(None)  # nobody's own settings, and nothing is written
        return QApplication.instance() or QApplication([])


@pytest.fixture(scope="session")
def has_opengl(qt_app: Any) -> bool:
    """Return whether a viewer can draw."""
    from qtpy.QtGui import QOffscreenSurface, QOpenGLContext

    context, surface = QOpenGLContext(), QOffscreenSurface()
    surface.create()
    works = bool(context.create() and context.makeCurrent(surface))
    if works:
        context.doneCurrent()
    return works


@pytest.fixture
def needs_window(has_opengl: bool) -> None:
    """Skip the test where there can be no window of napari."""
    if not has_opengl:
        pytest.skip(_NO_OPENGL)


@pytest.fixture
def viewer(qt_app: Any, has_opengl: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a viewer that is not shown; without OpenGL, its model alone."""
    import napari
    import npe2
    from napari.components import ViewerModel
    from napari.utils.notifications import notification_manager

    raised: list[Any] = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: raised.append(error))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plugins = npe2.PluginManager.instance()
        if "dipfast" not in plugins._manifests:
            plugins.register(npe2.PluginManifest.from_file(_MANIFEST))
        made = napari.Viewer(show=False) if has_opengl else ViewerModel()
    notification_manager.records.clear()
    yield made
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if has_opengl and hasattr(made.window, "_qt_window"):
            made.close()
        for _ in range(5):
            qt_app.processEvents()
    assert not raised, raised


@pytest.fixture
def panel(viewer: Any, has_opengl: bool, use_small_network: Callable[..., None]) -> Iterator[Any]:
    """Return the panel in the viewer, as the menu of napari opens it, for small networks."""
    from dipfast.apps.napari.panel import Panel

    use_small_network(12)
    if not has_opengl:
        made = Panel(viewer)
        yield made
        made.close()
        return
    _, widget = viewer.window.add_plugin_dock_widget("dipfast", "dipfast")
    yield widget.dipfast_panel


@pytest.fixture
def wait(qt_app: Any) -> Callable[..., None]:
    """Return a function that lets Qt work until something is true."""

    def until(is_so: Callable[[], bool], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < end, "this takes too long"
            qt_app.processEvents()
            time.sleep(0.005)

    return until
