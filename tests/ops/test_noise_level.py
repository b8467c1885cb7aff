"""The noise level of pictures whose noise is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dipfast import ops


class TestEstimateNoise:
    @pytest.mark.parametrize("sigma", [0.01, 0.1, 25.0])
    def test_white_noise_on_shading_and_edges(self, sigma: float) -> None:
        rows, columns = np.mgrid[0:256, 0:256]
        clean = sigma * (0.3 * rows + 0.1 * columns + 20 * (columns > 128))
        noisy = clean + np.random.default_rng(0).normal(0, sigma, clean.shape)
        assert ops.estimate_noise(noisy) == pytest.approx(sigma, rel=0.03)

    def test_channels_and_tensors(self) -> None:
        noise = np.random.default_rng(0).normal(0, 0.1, (64, 64, 3))
        expected = ops.estimate_noise(noise, channel_axis=-1)
        assert expected == pytest.approx(0.1, rel=0.05)
        assert ops.estimate_noise(np.moveaxis(noise, -1, 0), channel_axis=0) == expected
        assert ops.estimate_noise(torch.from_numpy(noise), channel_axis=2) == expected

    def test_nothing_to_see(self) -> None:
        assert ops.estimate_noise(np.full((32, 32), 0.7)) == 0.0
        assert ops.estimate_noise(np.ones((1, 1))) == 0.0
        assert ops.estimate_noise(np.ones((3, 100))) == 0.0
