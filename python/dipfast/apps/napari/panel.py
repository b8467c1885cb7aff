"""The dock widget: what is to be done with which layer, and how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dipfast.apps.napari.forms import FIRST, OptionField, fields_of, tip
from dipfast.apps.napari.layers import Source, look_of, mask_of, placed
from dipfast.apps.napari.runs import Done, Run
from dipfast.apps.notes import message_of
from dipfast.errors import DipfastError, InputError, MissingExtraError
from dipfast.settings.names import DIRECT_METHODS, TaskName
from dipfast.settings.settings import SETTINGS, decide_method, make_settings

if TYPE_CHECKING:
    import napari

__all__ = ["TASKS", "DockWidget", "Panel"]

TASKS: dict[TaskName, tuple[str, str]] = {
    "denoise": ("Denoise", "denoised"),
    "inpaint": ("Inpaint", "inpainted"),
    "super_resolve": ("Enlarge", "enlarged"),
}
"""What tasks are called, and what is added to the name of a layer."""

# Milliseconds from one look at a run to the next.
_BETWEEN_LOOKS = 200
_NO_LABELS = "only NaN pixels"
# The least width of the widget, in pixels.
_WIDTH = 280
# What a progress bar counts.
_STEPS = 1000


class DockWidget:
    """Make the dock widget for a viewer, as napari asks for it.

    napari looks at ``__init__`` of a class for what it has to fill in.  The object is the widget of
    a :class:`Panel`, so that nothing here derives from a class of Qt, which may be missing.

    Parameters
    ----------
    napari_viewer
        The viewer, which napari fills in.
    """

    def __new__(cls, napari_viewer: napari.viewer.Viewer) -> Any:
        """Return the widget."""
        return Panel(napari_viewer).widget

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None: ...


class Panel:
    """Restore image layers of a viewer, one at a time.

    Parameters
    ----------
    viewer
        The viewer, or its model.

    Attributes
    ----------
    widget
        The widget of Qt, which keeps the panel.
    run
        The run that goes on; None where there is none.
    fields
        The fields of the options of the task.

    Raises
    ------
    MissingExtraError
        If napari or Qt are not installed.
    """

    def __init__(self, viewer: Any) -> None:
        try:
            import napari.qt.threading  # noqa: F401
            from qtpy.QtCore import QTimer
            from qtpy.QtWidgets import QWidget
        except ImportError as error:
            raise MissingExtraError(
                "the plugin needs napari, and one of the Qt bindings that it works with: "
                "pip install 'dipfast[napari]' 'napari[all]'"
            ) from error
        # Plugins are given a proxy, in which a layer is another object at each look.
        self.viewer = getattr(viewer, "__wrapped__", viewer)
        self.run: Run | None = None
        self.fields: dict[str, OptionField] = {}
        self._worker: Any = None
        self._bar_of_napari: Any = None
        self._preview: Any = None
        self._layer: Any = None
        self._look: dict[str, Any] = {}
        self._is_closed = False

        self.widget = QWidget()
        self.widget.setWindowTitle("dipfast")
        # Qt keeps the widget, and nothing else would keep the panel.
        self.widget.dipfast_panel = self
        self._build()
        self._timer = QTimer(self.widget)
        self._timer.setInterval(_BETWEEN_LOOKS)
        self._timer.timeout.connect(self._look_at_run)
        self.widget.destroyed.connect(self.close)
        self._watch_dock()
        for happened in ("inserted", "removed", "reordered"):
            getattr(self.viewer.layers.events, happened).connect(self._list_layers)
        self.viewer.layers.selection.events.active.connect(self._follow_selection)
        self._list_layers()
        self._show_task()
        self._follow_selection()

    # --- the form ----------------------------------------------------------------------------

    def _build(self) -> None:
        """Make all widgets but those of the options."""
        from qtpy.QtCore import Qt
        from qtpy.QtWidgets import (
            QCheckBox,
            QComboBox,
            QFormLayout,
            QHBoxLayout,
            QLabel,
            QProgressBar,
            QPushButton,
            QVBoxLayout,
        )

        self.task_box, self.image_box, self.labels_box = QComboBox(), QComboBox(), QComboBox()
        self.task_box.addItems([title for title, _ in TASKS.values()])
        self.task_box.setToolTip(tip("What is to be done with the layer."))
        self.image_box.setToolTip(tip("The image layer, which stays as it is."))
        self.labels_box.setToolTip(
            tip("The layer with the missing pixels: every pixel that has a label is filled in.")
        )
        self.plane_box = QCheckBox("Only the plane that is shown")
        self.plane_box.setToolTip(
            tip("Of a stack, restore the plane that is shown, and not one after the other.")
        )
        self.snapshots_box = QCheckBox("Keep pictures of iterations")
        self.more_box = QCheckBox("More options")
        self.start_button = QPushButton("Start")
        self.stop_button = QPushButton("Stop and keep this")
        self.stop_button.setToolTip(tip("End the run, and keep the best picture so far."))
        self.bar = QProgressBar()
        self.bar.setMaximum(_STEPS)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

        self._form = QFormLayout()
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._labels_label = QLabel("Missing")
        self._form.addRow("Task", self.task_box)
        self._form.addRow("Image", self.image_box)
        self._form.addRow(self._labels_label, self.labels_box)
        self._form.addRow(self.plane_box)
        self._own_rows = self._form.rowCount()
        self._more_rows: list[Any] = []
        buttons = QHBoxLayout()
        buttons.addWidget(self.start_button, 1)
        buttons.addWidget(self.stop_button, 2)
        layout = QVBoxLayout(self.widget)
        layout.addLayout(self._form)
        layout.addWidget(self.snapshots_box)
        layout.addLayout(buttons)
        layout.addWidget(self.bar)
        layout.addWidget(self.status)
        layout.addStretch()
        self.widget.setMinimumWidth(_WIDTH)

        self.task_box.currentIndexChanged.connect(self._show_task)
        self.image_box.currentIndexChanged.connect(self._show_state)
        self.labels_box.currentIndexChanged.connect(self._show_state)
        self.more_box.toggled.connect(self._show_more)
        self.start_button.clicked.connect(self.start)
        self.stop_button.clicked.connect(self.stop)

    @property
    def task(self) -> TaskName:
        """The task that is chosen."""
        place: int = self.task_box.currentIndex()
        return list(TASKS)[place]

    @task.setter
    def task(self, task: TaskName) -> None:
        self.task_box.setCurrentIndex(list(TASKS).index(task))

    @property
    def image_layer(self) -> Any:
        """The image layer that is chosen; None where there is none."""
        return self.image_box.currentData()

    @property
    def labels_layer(self) -> Any:
        """The labels layer that is chosen; None where there is none."""
        return self.labels_box.currentData()

    def choose(self, layer: Any) -> None:
        """Choose a layer of images or labels.

        Parameters
        ----------
        layer
            The layer.
        """
        for box in (self.image_box, self.labels_box):
            places = [k for k in range(box.count()) if box.itemData(k) is layer]
            if layer is not None and places:
                box.setCurrentIndex(places[0])

    def _list_layers(self, event: Any = None) -> None:
        """Put the layers of the viewer into the boxes, and keep what is chosen."""
        from napari.layers import Image, Labels

        if self._is_closed:
            return
        for box, kind in ((self.image_box, Image), (self.labels_box, Labels)):
            chosen = box.currentData()
            layers = [layer for layer in self.viewer.layers if isinstance(layer, kind)]
            box.blockSignals(True)
            box.clear()
            for layer in reversed(layers):  # the uppermost first, as in the list of layers
                box.addItem(layer.name, layer)
                layer.events.name.connect(self._rename)
            if kind is Labels:
                box.addItem(_NO_LABELS, None)
            box.blockSignals(False)
            self.choose(chosen)
        self._show_state()

    def _rename(self, event: Any = None) -> None:
        if self._is_closed:
            return
        for box in (self.image_box, self.labels_box):
            for place in range(box.count()):
                if box.itemData(place) is not None:
                    box.setItemText(place, box.itemData(place).name)

    def _follow_selection(self, event: Any = None) -> None:
        """Choose the layer that is selected in the list of layers, while nothing runs."""
        if not self._is_closed and self.run is None:
            self.choose(self.viewer.layers.selection.active)

    def _show_task(self) -> None:
        """Show the options of the task."""
        while self._form.rowCount() > self._own_rows:
            row = self._form.rowCount() - 1
            if self._form.itemAt(row, self._form.ItemRole.SpanningRole) is None:
                self._form.removeRow(row)
            else:  # the box for more options, which stays the same
                self._form.takeRow(row)
        self.fields = fields_of(self.task, self._show_state)
        first = [field for name, field in self.fields.items() if name in FIRST]
        more = [field for name, field in self.fields.items() if name not in FIRST]
        for field in first:
            self._form.addRow(field.label, field.widget)
        self._form.addRow(self.more_box)
        for field in more:
            self._form.addRow(field.label, field.widget)
        self._more_rows = [
            part
            for field in more
            for part in (field.widget, self._form.labelForField(field.widget))
        ]
        self._show_more()
        is_inpaint = self.task == "inpaint"
        self.labels_box.setVisible(is_inpaint)
        self._labels_label.setVisible(is_inpaint)
        self._show_state()

    def _show_more(self, *_: Any) -> None:
        for part in self._more_rows:
            part.setVisible(self.more_box.isChecked())

    def _show_state(self, *_: Any) -> None:
        """Show what can be done now."""
        layer, is_running = self.image_layer, self.run is not None
        is_stack = layer is not None and layer.ndim > 2
        self.plane_box.setVisible(is_stack)
        self.start_button.setEnabled(layer is not None and not is_running)
        self.stop_button.setEnabled(self.run is not None and not self.run.is_stopping)
        self.bar.setVisible(is_running)
        fits = self._fits_network()
        self.snapshots_box.setEnabled(fits and not is_running)
        self.snapshots_box.setToolTip(
            tip(
                "Put pictures of some iterations into a layer of their own, with a slider."
                if fits
                else "There are no iterations: this quality or method fits no network."
            )
        )
        if not is_running and layer is None:
            self.status.setText("Open an image first.")
        elif self.status.text() == "Open an image first.":
            self.status.setText("")

    def _chosen_options(self) -> dict[str, Any]:
        """Return the options that are not left at their defaults."""
        return {name: field.value for name, field in self.fields.items() if not field.is_default}

    def _fits_network(self) -> bool:
        """Return whether the options, as far as they are valid, mean that a network is fitted."""
        try:
            method = decide_method(make_settings(SETTINGS[self.task], self._chosen_options()))
        except DipfastError:
            return True
        return method not in DIRECT_METHODS

    # --- runs --------------------------------------------------------------------------------

    def start(self) -> None:
        """Restore the chosen layer; what cannot be is told as a notification of napari."""
        if self.run is not None:
            return
        try:
            self._start()
        except DipfastError as error:
            self._refuse(error)

    def _start(self) -> None:
        from napari.qt.threading import create_worker
        from napari.utils import progress

        layer = self.image_layer
        if layer is None:
            raise InputError("there is no image layer: open an image first")
        options = self._chosen_options()
        make_settings(SETTINGS[self.task], options)
        source = Source.of(layer, self._plane_shown(layer))
        labels = self.labels_layer if self.task == "inpaint" else None
        self._layer, self._look, self._preview = layer, look_of(layer), None
        self.run = Run(
            self.task,
            source,
            options,
            None if labels is None else lambda: mask_of(labels, source),
            keeps_snapshots=self.snapshots_box.isChecked() and self._fits_network(),
        )
        self._bar_of_napari = progress(total=_STEPS, desc=self._name())
        worker = create_worker(self.run.compute, _start_thread=False, _ignore_errors=True)
        # napari asks workers to end when it is closed.
        self.run.is_cancelled = lambda: bool(worker.abort_requested)
        self._worker = worker
        self._worker.returned.connect(self._finish)
        self._worker.errored.connect(self._refuse)
        self.status.setText("")
        self._timer.start()
        self._worker.start()
        self._look_at_run()
        self._show_state()

    def _plane_shown(self, layer: Any) -> tuple[int, ...] | None:
        """Return the place of the plane that is shown; None for all planes."""
        if layer.ndim < 3 or not self.plane_box.isChecked():
            return None
        dims = self.viewer.dims
        if set(dims.displayed) != {dims.ndim - 2, dims.ndim - 1}:
            # Of rolled axes, or in three dimensions, another plane is seen, or none.
            raise InputError(
                "only the plane that is shown can be restored where rows and columns are shown: "
                "roll the axes back, or leave the 3D view"
            )
        at = layer.world_to_data(dims.point[-layer.ndim :])
        shape = (layer.data[0] if layer.multiscale else layer.data).shape
        return tuple(
            min(max(round(float(place)), 0), length - 1)
            for place, length in zip(at[: layer.ndim - 2], shape)
        )

    def stop(self) -> None:
        """End the run after the step at hand; the best so far becomes the layer."""
        if self.run is not None:
            self.run.stop()
            self._look_at_run()
            self._show_state()

    def close(self, *_: Any) -> None:
        """End the run that goes on; nobody will see its result."""
        self._is_closed = True
        if self.run is not None:
            self.run.stop()

    def _watch_dock(self) -> None:
        """Close the panel when its dock is closed, which takes the widget out and keeps it."""
        from qtpy.QtCore import QEvent, QObject

        leave = self._leave_dock

        class Watch(QObject):  # type: ignore[misc]
            def eventFilter(self, watched: Any, event: Any) -> bool:  # noqa: N802
                if event.type() == QEvent.Type.ParentChange and watched.parent() is None:
                    leave()
                return False

        self._watch = Watch(self.widget)
        self.widget.installEventFilter(self._watch)

    def _leave_dock(self) -> None:
        """End the run, and take away what it has put into the viewer."""
        self.close()
        if self.run is not None:
            self._take_preview_away()
            self._end()

    def _take_preview_away(self) -> None:
        if self._preview is not None and self._preview in self.viewer.layers:
            self.viewer.layers.remove(self._preview)

    def _look_at_run(self) -> None:
        """Show how far the run is."""
        if self.run is None or self._is_closed:
            return
        view = self.run.look()
        self.bar.setMaximum(0 if view.share is None else _STEPS)
        left = view.seconds_left
        self.status.setText(view.step + ("" if left is None else f", about {_duration(left)} left"))
        picture = self.run.new_picture()
        if picture is not None:
            self._show_picture(picture, f"{self._name()} (running)")
        if view.share is not None:
            steps = round(_STEPS * view.share)
            self.bar.setValue(steps)
            # Last: napari lets Qt work in here, so that the run may have ended afterwards.
            self._bar_of_napari.update(max(steps, 0) - self._bar_of_napari.n)

    def _show_picture(self, picture: Any, name: str) -> Any:
        """Put a picture into the layer of the run, which is made at first, and return it."""
        assert self.run is not None
        if self._preview is None:
            look = placed(self._look, self.run.source.begin, self.run.factor)
            self._preview = self.viewer.add_image(picture, name=name, **look)
            return self._preview
        if self._preview in self.viewer.layers:
            self._preview.data = picture
        return self._preview

    def _name(self) -> str:
        return f"{self._layer.name} {TASKS[self.run.task][1] if self.run else ''}"

    def _finish(self, done: Done) -> None:
        """Put the result into its layer."""
        from napari.utils.notifications import show_warning

        if self._is_closed or self.run is None:
            return
        if self._preview is not None and self._preview not in self.viewer.layers:
            self._preview = None  # somebody has removed the picture so far
        name = self._name()
        layer = self._show_picture(done.image, name)
        layer.name = name
        layer.metadata = {**layer.metadata, "dipfast": done.result.report()}
        if done.frames is not None:
            run = self.run
            look = placed(self._look, run.source.begin, run.factor, extra_axis=True)
            self.viewer.add_image(
                done.frames,
                name=f"{name}, iterations",
                metadata={"dipfast": done.result.report(), "iterations": list(done.iterations)},
                **look,
            )
            if self.viewer.dims.ndim == done.frames.ndim - bool(look["rgb"]):
                self.viewer.dims.set_current_step(0, len(done.frames) - 1)
        for note in done.notes:
            show_warning(note)
        self._end()
        self.status.setText("\n".join([*done.result.summary().split("; "), *done.result.hints]))

    def _refuse(self, error: Exception) -> None:
        """Tell what went wrong, in one line."""
        from napari.utils.notifications import show_error

        if self._is_closed:
            return
        text = message_of(error)
        self._take_preview_away()
        self._end()
        self.status.setText(text)
        show_error(text)

    def _end(self) -> None:
        """Be ready for another run."""
        self._timer.stop()
        if self._bar_of_napari is not None:
            self._bar_of_napari.close()
        self.run = self._worker = self._bar_of_napari = self._preview = self._layer = None
        self._look = {}
        self._list_layers()


def _duration(seconds: float) -> str:
    """Return a time in words, in seconds, or in minutes and seconds."""
    whole = round(seconds)
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60} s"
