"""Test the presets of the tasks, and those of the original's examples."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from dipfast.errors import InputError
from dipfast.networks import Hourglass
from dipfast.settings.names import QUALITIES, TASKS
from dipfast.settings.presets import PRESETS, Preset, get_preset


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_a_network(name: str) -> None:
    preset = PRESETS[name]
    assert preset.iterations > 0
    channels = {"meshgrid": 2, "given": 3}.get(preset.input, preset.input_channels)
    network = Hourglass(channels, 3, preset.network)
    assert network(torch.rand(1, channels, 33, 20)).shape == (1, 3, 33, 20)


def test_tasks_have_every_quality() -> None:
    for task in TASKS:
        for quality in QUALITIES:
            name, preset = get_preset(task, quality, None)
            assert name == f"{task}-{quality}"
            assert preset is PRESETS[name]


def test_settings_of_the_originals_examples() -> None:
    # Iterations, learning rate and input noise as in the notebooks of Ulyanov et al.
    originals = {
        name.removeprefix("original-"): (p.iterations, p.learning_rate, p.input_noise[0])
        for name, p in PRESETS.items()
        if name.startswith("original-")
    }
    assert originals == {
        "denoising": (3000, 0.01, 1 / 30),
        "jpeg": (2400, 0.01, 1 / 30),
        "sr-x4": (2000, 0.01, 0.03),
        "sr-x8": (4000, 0.01, 0.05),
        "sr-prior-effect": (2000, 0.01, 1 / 30),
        "inpainting-text": (6001, 0.01, 0.03),
        "inpainting-object": (5001, 0.01, 0.03),
        "inpainting-hole": (3001, 0.01, 0.0),
        "restoration": (11000, 0.001, 0.03),
        "restoration-sparse": (1000, 0.01, 0.0),
        "flash": (601, 0.1, 0.0),
    }
    for preset in (p for name, p in PRESETS.items() if name.startswith("original-")):
        assert preset.input_noise[0] == preset.input_noise[1]


def test_preset_of_your_own() -> None:
    mine = Preset(7, (0.1, 0.1), PRESETS["denoise-fast"].network)
    assert get_preset("denoise", "best", mine) == ("your own", mine)
    with pytest.raises(ValueError, match=r"preset must be one of denoise-fast.*got 'ultra'"):
        get_preset("denoise", "best", "ultra")
    with pytest.raises(TypeError, match="preset must be a name or a Preset, got int"):
        get_preset("denoise", "best", 3)


@pytest.mark.parametrize("noise", [(0.1,), (0.1, 0.0), (0.1, 0.1, 0.1), (-0.1, -0.1)])
def test_input_noise_is_two_levels(noise: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="input_noise of a preset must be two positive numbers"):
        dataclasses.replace(PRESETS["denoise-fast"], input_noise=noise)
