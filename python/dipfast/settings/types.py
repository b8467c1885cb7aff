"""The options of the tasks as static checkers see them.

What they mean, their defaults and their checks are in :mod:`dipfast.settings.settings`, and a test
holds both equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from dipfast.settings.jpeg import JpegCoding
from dipfast.settings.names import (
    DownsampleKernel,
    Marks,
    MethodName,
    NoiseKind,
    PrecisionName,
    Quality,
    RuleName,
)
from dipfast.settings.noise import NoiseParameters
from dipfast.settings.presets import Preset

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import torch

    from dipfast.prior.loop import State
    from dipfast.prior.stages import Stage
    from dipfast.run.interrupt import Interrupt
    from dipfast.run.observers import Progress
    from dipfast.stopping.rule import StopRule

__all__ = ["DenoiseOptions", "InpaintOptions", "Options", "RestoreOptions", "SuperResolveOptions"]


class Options(TypedDict, total=False):
    """What every task may be told."""

    sigma: float | Literal["auto"]
    noise: NoiseKind | NoiseParameters
    tv_weight: float | Literal["auto"]
    method: MethodName | Sequence[Stage]
    stop: RuleName | StopRule
    time_limit: float | None
    quality: Quality
    preset: str | Preset | None
    max_iterations: int | None
    learning_rate: float | None
    network_input: Any
    device: str | torch.device
    precision: PrecisionName
    tile: int | Literal["auto"]
    seed: int
    channel_axis: int | None
    stack_axis: int | tuple[int, ...] | None
    data_range: float | tuple[float, float] | None
    reference: Any
    callback: Callable[[State], object] | Callable[[Progress], object] | None
    interrupt: Interrupt | None
    executor: Executor | None
    snapshots: float | None
    checkpoint: str | Path | None
    checkpoint_every: int
    resume: bool


class DenoiseOptions(Options, total=False):
    """What :func:`dipfast.denoise` may be told."""

    refine: bool
    stretch: bool
    fill_outliers: bool
    neighbours: int | Literal["auto"]
    jpeg: JpegCoding | None


class InpaintOptions(Options, total=False):
    """What :func:`dipfast.inpaint` may be told."""

    mask_marks: Marks
    keep_known: bool


class SuperResolveOptions(Options, total=False):
    """What :func:`dipfast.super_resolve` may be told."""

    kernel: DownsampleKernel


class RestoreOptions(Options, total=False):
    """What :func:`dipfast.restore` may be told."""

    image_shape: tuple[int, ...] | None
