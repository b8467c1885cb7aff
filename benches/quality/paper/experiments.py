"""Define the runs of each table: its pictures, and the variants of the method on each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from benches.quality.paper.pictures import Picture, Source
from dipfast.settings.names import METHODS
from dipfast.settings.presets import PRESETS

__all__ = ["EXPERIMENTS", "Experiment"]

Variants = Mapping[str, Mapping[str, Any]]

DIP = {"method": "dip"}
TWO: dict[str, Any] = {}
BOTH: Variants = {"plain DIP": DIP, "two stages": TWO}


@dataclass(frozen=True)
class Experiment:
    """Describe one table.

    Parameters
    ----------
    title
        Heading of the table.
    pictures
        Returns the pictures of a source, which are the rows of the table.
    variants
        Options of the task by the name of the variant; the columns of the table.
    measure
        ``"rgb"``: PSNR over all channels; ``"y"``: of luma without 4 pixels of border.
    columns
        Keys of a run's row that are shown, by heading.
    figure
        What is drawn: ``"curves"``, ``"pictures"`` side by side, or nothing (``""``).
    iterations
        Number of iterations; None for that of the quality.
    """

    title: str
    pictures: Callable[[Source], Iterable[Picture]]
    variants: Variants
    measure: str = "rgb"
    columns: Mapping[str, str] = field(
        default_factory=lambda: {
            "returned": "psnr",
            "SSIM": "ssim",
            "oracle": "psnr_oracle",
            "seconds": "seconds",
        }
    )
    figure: str = ""
    iterations: int | None = None


# The oracle of a run, the largest PSNR of its running average, is that of all channels.
LUMA = {"returned, Y": "psnr", "returned, RGB": "psnr_rgb", "oracle, RGB": "psnr_oracle"}
HOLES = {"returned": "psnr", "raw": "psnr_raw", "holes": "psnr_holes", "oracle": "psnr_oracle"}
STAGE = {"after a third": "at_third", "in the end": "psnr"}

# Total variation in the first third of noise-free inpainting, as strong as for denoising and less.
WEIGHTS: Variants = {
    "plain DIP": DIP,
    **{f"two stages, weight {w}": {"tv_weight": w} for w in (0.02, 0.2)},
}


def _settings(task: str) -> Variants:
    """Return the settings of a task that its default was chosen from, as variants."""
    default = PRESETS[f"{task}-fast"]
    falling, constant = (1 / 30, 1 / 200), (1 / 30, 1 / 30)
    choices: dict[str, Any] = {}
    for upsampling in ("bilinear", "nearest"):
        for noise, heading in ((falling, "falling"), (constant, "constant")):
            network = replace(default.network, upsampling=upsampling)
            preset = replace(default, network=network, input_noise=noise)
            # The default itself has no preset here, so that its run is shared with other tables.
            variant = TWO if preset == default else {"preset": preset}
            choices[f"{upsampling}, {heading} noise"] = variant
    return choices


EXPERIMENTS: dict[str, Experiment] = {
    "denoise": Experiment("Denoising, sigma 25, the nine", Source.denoise, BOTH),
    "curve": Experiment(
        "Two stages against one: the curves",
        Source.denoise,
        {**BOTH, "DIP-TV": {"method": "dip_tv"}},
        columns={
            "after a third": "at_third",
            "returned": "psnr",
            "oracle": "psnr_oracle",
            "last output": "psnr_last_output",
        },
        figure="curves",
    ),
    "inpaint": Experiment(
        "Inpainting, half of the pixels missing, the eleven", Source.inpaint, WEIGHTS, columns=HOLES
    ),
    "inpaint-noisy": Experiment(
        "Inpainting, half missing and noise of sigma 25 on the rest",
        Source.noisy_holes,
        {**BOTH, "two stages, full weight": {"tv_weight": 50 / 255}},
        columns={"returned": "psnr", "holes": "psnr_holes", "oracle": "psnr_oracle"},
    ),
    "sr4": Experiment(
        "Super-resolution x4, Set5 and Set14", lambda s: s.super_resolve(4), BOTH, "y", LUMA
    ),
    "sr8": Experiment(
        "Super-resolution x8, Set5 and Set14", lambda s: s.super_resolve(8), BOTH, "y", LUMA
    ),
    "zebra": Experiment(
        "Super-resolution x4, zebra",
        Source.zebra,
        {"dipfast": TWO},
        "y",
        LUMA,
        figure="pictures",
    ),
    "text": Experiment(
        "Text mask, kate", Source.text, {"dipfast": TWO}, columns=HOLES, figure="pictures"
    ),
    "hole": Experiment(
        "Large hole, library",
        Source.hole,
        {
            "dipfast": TWO,
            "original's network": {"preset": "original-inpainting-hole", "max_iterations": 800},
        },
        columns=HOLES,
        figure="pictures",
    ),
    "object": Experiment(
        "Object removal, vase",
        Source.object_removal,
        {
            "dipfast": TWO,
            "coordinates": {"preset": "original-inpainting-object", "max_iterations": 800},
        },
        columns={},
        figure="pictures",
    ),
    "jpeg": Experiment(
        "JPEG artefacts, snail",
        Source.jpeg,
        {
            "dipfast": TWO,
            "original's network": {
                "preset": "original-jpeg",
                "stop": "none",
                "method": "dip",
                "max_iterations": 800,
            },
        },
        columns={},
        figure="pictures",
    ),
    "camera": Experiment("Camera noise, PolyU", Source.camera, BOTH),
    "synthetic": Experiment(
        "Camera noise beside Gaussian noise of the same PSNR",
        lambda s: s.camera(matched=True),
        BOTH,
    ),
    "spikes": Experiment(
        "Spikes of the loss",
        Source.denoise,
        {
            "plain DIP": {**DIP, "stop": "none"},
            "two stages": {"stop": "none"},
            "original's network": {
                **DIP,
                "stop": "none",
                "preset": "original-denoising",
                "max_iterations": 800,
            },
        },
        columns={"spikes": "spikes", "PSNR lost at the worst": "psnr_lost"},
    ),
    "noise": Experiment(
        "With and without the model of clipped noise",
        Source.levels,
        {"without": {"noise": "gaussian"}, "with": TWO},
    ),
    "noise25": Experiment(
        "With and without the model of clipped noise, sigma 25, the nine",
        Source.denoise,
        {"without": {"noise": "gaussian"}, "with": TWO},
    ),
    "levels": Experiment("Gain of the two stages against the noise", Source.levels, BOTH),
    "photons": Experiment(
        "Photon noise: gain 0.04, sigma 0.02, clipped",
        Source.photons,
        {
            "taken for Gaussian": {"noise": "gaussian"},
            "taken for clipped": {"noise": "clipped"},
            "auto": TWO,
        },
    ),
    "lettering": Experiment(
        "Text regions against the rest, sigma 25",
        Source.lettering,
        BOTH,
        columns={"text": "psnr_text", "rest": "psnr_rest"},
    ),
    "stage1": Experiment(
        "What stage 1 does to holes (known pixels kept)", Source.inpaint, WEIGHTS, columns=STAGE
    ),
    "settings-denoise": Experiment(
        "Settings: denoising, sigma 25", Source.denoise, _settings("denoise")
    ),
    "settings-inpaint": Experiment(
        "Settings: inpainting", Source.inpaint, _settings("inpaint"), columns={"returned": "psnr"}
    ),
    "settings-sr4": Experiment(
        "Settings: super-resolution x4",
        lambda s: s.super_resolve(4),
        _settings("super_resolve"),
        "y",
        {"returned, Y": "psnr"},
    ),
    "variants": Experiment(
        "Variants of the method, sigma 25",
        Source.denoise,
        {method: {"method": method} for method in METHODS if method != "deep_red_bm3d"},
    ),
}
