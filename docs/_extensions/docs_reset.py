"""What is put back between two tutorials."""

from __future__ import annotations

from typing import Any


def settle(gallery_conf: dict[str, Any], fname: str) -> None:
    """Let pictures look alike on all pages, and fits have one thread."""
    import matplotlib as mpl
    import torch

    torch.set_num_threads(1)
    mpl.rcParams.update(
        {
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "image.cmap": "gray",
            "image.interpolation": "nearest",
            "axes.titlesize": "medium",
        }
    )
