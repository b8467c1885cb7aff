"""Tests of restoration by a denoiser and a forward model in turn."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch

from dipfast import ops
from dipfast.denoisers.plug_and_play import filled, plug_and_play
from dipfast.model.operators import Blur, Downsample, Mask, gaussian_kernel
from dipfast.settings.noise import NoiseParameters


@pytest.fixture(scope="module")
def clean():
    picture = skimage.data.astronaut()[60:124, 200:264].astype(np.float32) / 255
    return torch.from_numpy(picture).movedim(-1, 0)[None].contiguous()


@pytest.fixture(scope="module")
def known(clean):
    mask = np.random.default_rng(0).random(clean.shape[-2:]) < 0.5
    return torch.from_numpy(mask).expand(clean.shape).contiguous()


def psnr(a, b):
    return ops.psnr(a, b, data_range=1.0)


def test_known_pixels_tell_the_others(clean, known):
    measurement = clean * known
    start = filled(measurement, known)
    restored = plug_and_play(
        measurement, Mask(known), NoiseParameters(0.0), start, known=known, steps=10
    )
    assert psnr(restored, clean) > psnr(start, clean) + 1
    torch.testing.assert_close(restored[known], clean[known], atol=0.01, rtol=0)


def test_with_noise_the_result_is_smooth(clean, known):
    generator = torch.Generator().manual_seed(0)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=generator)
    measurement = noisy * known
    start = filled(measurement, known)
    restored = plug_and_play(
        measurement, Mask(known), NoiseParameters(0.1), start, known=known, steps=10
    )
    assert psnr(restored, clean) > psnr(start, clean) + 1
    assert float((restored - noisy)[known].square().mean().sqrt()) > 0.07


@pytest.mark.parametrize("factor", [2])
def test_it_enlarges(clean, factor):
    operator = Downsample(factor)
    measurement = operator(clean)
    start = torch.nn.functional.interpolate(measurement, scale_factor=factor, mode="bicubic")
    restored = plug_and_play(measurement, operator, NoiseParameters(0.0), start, steps=10)
    assert restored.shape == clean.shape
    assert psnr(restored, clean) > psnr(start.clamp(0, 1), clean) + 1


def test_it_sharpens(clean):
    operator = Blur(gaussian_kernel(1.2))
    measurement = operator(clean)
    restored = plug_and_play(measurement, operator, NoiseParameters(0.005), measurement, steps=10)
    assert psnr(restored, clean) > psnr(measurement, clean) + 2


def test_filled_keeps_what_is_known_and_reaches_everything(clean):
    known = torch.zeros(clean.shape, dtype=torch.bool)
    known[..., 3, 5] = True
    out = filled(clean * known, known)
    torch.testing.assert_close(out, clean[..., 3:4, 5:6].expand_as(out), atol=1e-4, rtol=0)


def test_the_callback_sees_the_way_and_may_end_it(clean, known):
    shares = []

    def end(share):
        shares.append(share)
        if len(shares) == 2:
            raise StopIteration

    measurement = clean * known
    with pytest.raises(StopIteration):
        plug_and_play(
            measurement, Mask(known), NoiseParameters(0.0), measurement, steps=4, callback=end
        )
    assert shares == [0.25, 0.5]
