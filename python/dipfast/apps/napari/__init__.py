"""The plugin for napari: a dock widget that restores image layers, and is watched meanwhile.

``napari.yaml`` is its manifest.  ``layers.py`` takes arrays from layers and gives results back to
them, ``previews.py`` brings pictures of a run into the unit of the layer, ``runs.py`` is what
happens in the thread that computes; none of them knows anything of Qt.  ``forms.py`` makes fields
of the options of a task, ``panel.py`` is the widget, and ``functions.py`` has a function of arrays.

Nothing here imports napari or Qt before it is used: both are missing without the extra.
"""
