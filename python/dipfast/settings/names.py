"""Values of options that have a name: methods, stop rules, kinds of noise, kernels, ..."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

__all__ = [
    "BOUNDARIES",
    "DIRECT_METHODS",
    "DIRECT_METHOD_OF",
    "DOWNSAMPLE_KERNELS",
    "FACTORS",
    "FAST_WITHOUT_NETWORK",
    "JOINED_BY_DEFAULT",
    "MARKS",
    "METHODS",
    "METHOD_NAMES",
    "NOISE_KINDS",
    "QUALITIES",
    "RULE_NAMES",
    "TASKS",
    "Boundary",
    "DirectMethod",
    "DownsampleKernel",
    "Factor",
    "InputKind",
    "JoinedMethod",
    "MadeInput",
    "Marks",
    "Method",
    "MethodName",
    "NoiseKind",
    "OptimizerName",
    "Precision",
    "PrecisionName",
    "Quality",
    "RuleName",
    "TaskName",
]

MadeInput: TypeAlias = Literal["noise", "meshgrid"]
"""What a network is given that is made for it: noise, or the coordinates of the pixels."""

OptimizerName: TypeAlias = Literal["adam", "muon"]
"""What updates the weights of a network."""

Precision: TypeAlias = Literal["float32", "bfloat16"]
"""What the layers of a network are computed in."""

PrecisionName: TypeAlias = Literal["auto", "float32", "bfloat16"]
"""What they may be asked to be computed in."""

InputKind: TypeAlias = Literal["noise", "meshgrid", "given"]
"""What a network is given; ``"given"`` is a picture that comes with the task."""

TaskName: TypeAlias = Literal["denoise", "inpaint", "super_resolve", "restore"]
TASKS: tuple[TaskName, ...] = get_args(TaskName)

Method: TypeAlias = Literal[
    "two_stage",
    "dip",
    "dip_tv",
    "two_stage_image",
    "two_stage_blend",
    "two_stage_input",
    "two_stage_adaptive",
    "tv_target",
    "adaptive_tv",
    "deep_red",
    "deep_red_nlm",
    "deep_red_bm3d",
    "deep_red_nl_ridge",
    "guided",
]
"""A method that fits a network."""
METHODS: tuple[Method, ...] = get_args(Method)

DirectMethod: TypeAlias = Literal["nl_ridge", "pnp"]
"""A method that fits no network, and has no iterations."""
DIRECT_METHODS: tuple[DirectMethod, ...] = get_args(DirectMethod)

DIRECT_METHOD_OF: dict[TaskName, DirectMethod] = {
    "denoise": "nl_ridge",
    "inpaint": "pnp",
    "super_resolve": "pnp",
    "restore": "pnp",
}
"""The method of each task that fits no network."""

FAST_WITHOUT_NETWORK: tuple[TaskName, ...] = ("denoise", "inpaint", "super_resolve")
"""The tasks that fit no network with ``quality="fast"``, unless something is said of a fit."""

JOINED_BY_DEFAULT: tuple[TaskName, ...] = TASKS
"""The tasks that join several estimates with more quality, unless something is said of a fit."""

JoinedMethod: TypeAlias = Literal["joined"]
"""The method that joins what a method without a network and fits find."""

MethodName: TypeAlias = Literal["auto", Method, DirectMethod, JoinedMethod]
"""What may be asked for as a method."""
METHOD_NAMES: tuple[MethodName, ...] = get_args(MethodName)

RuleName: TypeAlias = Literal[
    "auto", "none", "discrepancy", "held_out", "bootstrap", "es_wmv", "es_emv"
]
RULE_NAMES: tuple[RuleName, ...] = get_args(RuleName)

NoiseKind: TypeAlias = Literal["auto", "gaussian", "clipped", "poisson_gaussian", "correlated"]
NOISE_KINDS: tuple[NoiseKind, ...] = get_args(NoiseKind)

Quality: TypeAlias = Literal["fast", "balanced", "best"]
QUALITIES: tuple[Quality, ...] = get_args(Quality)

Marks: TypeAlias = Literal["missing", "known"]
MARKS: tuple[Marks, ...] = get_args(Marks)

Factor: TypeAlias = Literal[2, 3, 4, 8]
FACTORS: tuple[Factor, ...] = get_args(Factor)

DownsampleKernel: TypeAlias = Literal["lanczos2", "lanczos3", "bicubic", "bilinear", "box"]
DOWNSAMPLE_KERNELS: tuple[DownsampleKernel, ...] = get_args(DownsampleKernel)

Boundary: TypeAlias = Literal["unknown", "reflect", "replicate", "circular", "zero"]
BOUNDARIES: tuple[Boundary, ...] = get_args(Boundary)
