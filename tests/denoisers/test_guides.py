"""What guides of networks are made of."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dipfast.denoisers.direct import guide_of
from dipfast.errors import InputError
from dipfast.model.noise import NoiseModel
from dipfast.model.problem import Problem
from dipfast.operators import Identity


def test_values_that_judge_a_fit_are_not_in_its_guide() -> None:
    generator = torch.Generator().manual_seed(0)
    y = 0.5 + 0.1 * torch.randn(1, 1, 32, 32, generator=generator)
    held_out = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    held_out[..., 7, 9] = held_out[..., 20, 21] = True
    problem = Problem(y, Identity(), NoiseModel(0.1), held_out=held_out)
    changed = replace(problem, measurement=y.masked_fill(held_out, 3.0))
    assert torch.equal(guide_of(problem), guide_of(changed))
    seen = replace(problem, held_out=None)
    assert not torch.equal(guide_of(seen), guide_of(problem))


def test_a_batch_has_no_guide() -> None:
    problem = Problem(torch.rand(2, 1, 16, 16), Identity(), NoiseModel(0.1))
    with pytest.raises(InputError, match="one image is denoised at a time, got 2"):
        guide_of(problem)
