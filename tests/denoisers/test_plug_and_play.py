"""Tests of restoration by a denoiser and a forward model in turn."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch

from dipfast import ops
from dipfast.denoisers.plug_and_play import (
    check_operator,
    error_of_filled,
    filled,
    least_squares,
    plug_and_play,
)
from dipfast.errors import InputError
from dipfast.model.operators import Blur, Downsample, Identity, Mask, Wrapped, gaussian_kernel
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
    assert psnr(start, clean) > 30.2
    assert psnr(restored, clean) > 30.7
    torch.testing.assert_close(restored[known], clean[known], atol=0.01, rtol=0)


def grid(shape, every):
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[..., ::every, ::every] = True
    return mask


@pytest.mark.parametrize("every", [2, 4])
def test_a_grid_of_known_pixels_leaves_no_dots(clean, every):
    known = grid(clean.shape, every)
    measurement = clean * known
    start, error = filled(measurement, known), error_of_filled(measurement, known)
    problem = measurement, Mask(known), NoiseParameters(0.0), start
    restored = plug_and_play(*problem, known=known, error=error, steps=8)
    assert psnr(restored, clean) > psnr(start, clean) + 0.05


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_what_is_smooth_stays_as_good_as_the_start(share):
    y, x = np.mgrid[:64, :64] / 64
    smooth = 0.5 + 0.3 * np.sin(4 * x + 2 * y) * np.cos(3 * y)
    clean = torch.from_numpy(smooth.astype(np.float32))[None, None]
    known = torch.from_numpy(np.random.default_rng(0).random((64, 64)) < share)[None, None]
    measurement = clean * known
    start, error = filled(measurement, known), error_of_filled(measurement, known)
    assert psnr(start, clean) > 45
    problem = measurement, Mask(known), NoiseParameters(0.0), start
    restored = plug_and_play(*problem, known=known, error=error, steps=8)
    assert psnr(restored, clean) > psnr(start, clean)


@pytest.mark.parametrize("kind", ["half", "tenth", "grid", "rows", "holes"])
def test_the_error_of_what_is_filled_is_found(clean, kind):
    generator = torch.Generator().manual_seed(1)
    at_random = torch.rand((1, 1, *clean.shape[-2:]), generator=generator)
    rows = torch.ones_like(at_random, dtype=torch.bool)
    rows[..., ::4, :] = False
    holes = torch.ones_like(rows)
    for corner in (5, 25, 50):
        holes[..., corner : corner + 6, 60 - corner : 66 - corner] = False
    known = {
        "half": at_random < 0.5,
        "tenth": at_random < 0.1,
        "grid": grid(rows.shape, 2),
        "rows": rows,
        "holes": holes,
    }[kind]
    measurement = clean * known
    errors = (filled(measurement, known) - clean)[~known.expand_as(clean)]
    true, found = float(errors.square().mean().sqrt()), error_of_filled(measurement, known)
    assert true / 2 < found < true * 2


def test_of_few_known_pixels_no_error_is_found(clean):
    known = torch.zeros((1, 1, *clean.shape[-2:]), dtype=torch.bool)
    known[..., ::16, ::32] = True
    assert error_of_filled(clean * known, known) is None


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


def test_each_channel_is_trusted_by_its_noise(clean, known):
    levels = (0.04, 0.16, 0.08)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    measurement = (clean + noise * torch.tensor(levels).reshape(-1, 1, 1)) * known
    usual = float(np.sqrt(np.mean(np.square(levels))))
    start = filled(measurement, known)
    same, unlike = (
        plug_and_play(
            measurement,
            Mask(known),
            NoiseParameters(usual, channel_levels=told),
            start,
            known=known,
            steps=12,
        )
        for told in (None, levels)
    )
    assert psnr(unlike, clean) > psnr(same, clean) + 1
    assert psnr(unlike[:, 0], clean[:, 0]) > psnr(same[:, 0], clean[:, 0]) + 1


def test_a_channel_without_noise_stays_that_of_the_data(clean, known):
    start, noise = filled(clean, known), NoiseParameters(0.1, channel_levels=(0, 1, 1))
    restored = plug_and_play(clean * known, Mask(known), noise, start, known=known, steps=4)
    torch.testing.assert_close(
        restored[:, 0][known[:, 0]], clean[:, 0][known[:, 0]], atol=0.01, rtol=0
    )


@pytest.mark.parametrize(
    "operator",
    [Wrapped(lambda u: u.flip(1)), Wrapped(lambda u: u.mean(1, keepdim=True), (3, 64, 64))],
    ids=["other order", "fewer"],
)
def test_channels_that_are_mixed_have_one_level(clean, operator):
    measurement = operator(clean)
    same, unlike = (
        plug_and_play(
            measurement, operator, NoiseParameters(0.1, channel_levels=told), clean, steps=2
        )
        for told in (None, (1, 4, 2))
    )
    assert torch.equal(same, unlike)


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


def test_a_hole_is_filled_from_its_border():
    y = torch.zeros(1, 2, 61, 90)
    y[..., 45:] = 1.0
    known = torch.ones(1, 1, 61, 90, dtype=torch.bool)
    known[..., 10:50, 20:75] = False
    out = filled(y * known, known)
    assert torch.equal(out[known.expand_as(out)], y[known.expand_as(y)])
    assert float(out[..., 12, 22].max()) < 0.01
    assert float(out[..., 12, 72].min()) > 0.99
    assert 0.3 < float(out[0, 0, 30, 47]) < 0.7
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1 + 1e-6


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 2)])
def test_small_pictures_are_filled(shape):
    known = torch.zeros(1, 1, *shape, dtype=torch.bool)
    known[..., -1, -1] = True
    out = filled(torch.where(known, 0.7, 0.0), known)
    torch.testing.assert_close(out, torch.full_like(out, 0.7))


def test_the_callback_sees_the_way_and_may_end_it(clean, known):
    measurement = clean * known
    options = {"known": known, "start": measurement}
    shares, images = [], []

    def watch(share, image):
        shares.append(share)
        if image is not None:
            images.append((share, image))

    problem = measurement, Mask(known), NoiseParameters(0.0)
    restored = plug_and_play(*problem, steps=4, callback=watch, **options)
    assert shares == sorted(shares)
    assert [share for share, _ in images] == [0.25, 0.5, 0.75, 1.0]
    assert torch.equal(images[-1][1], restored)
    assert not torch.equal(images[0][1], images[1][1])

    def end(share, image):
        if share >= 0.5:
            raise StopIteration

    with pytest.raises(StopIteration):
        plug_and_play(*problem, steps=4, callback=end, **options)


def test_least_squares_explain_a_blurred_picture(clean):
    operator = Blur(gaussian_kernel(1.2))
    measurement = operator(clean)
    start = least_squares(measurement, operator)
    assert psnr(start, clean) > psnr(measurement, clean) + 1
    assert psnr(operator(start), measurement) > 40


def test_least_squares_of_a_scaled_operator(clean):
    start = least_squares(0.01 * clean, Wrapped(lambda u: 0.01 * u))
    assert float((start.mean() - clean.mean()).abs()) < 0.01


@pytest.mark.parametrize("operator", [Blur(gaussian_kernel(1.2)), Downsample(3), Identity()])
def test_operators_of_the_library_are_linear(operator):
    check_operator(operator, torch.zeros(1, 3, 33, 36))


@pytest.mark.parametrize(
    ("operator", "words"),
    [
        (Wrapped(lambda u: u.abs()), "not linear"),
        (Wrapped(lambda u: u**2.2), "not linear"),  # not a number below zero
        (Wrapped(lambda u: u + 0.01), "not linear"),
        (Wrapped(lambda u: u, adjoint=lambda y: 1.1 * y), "an adjoint that is not its own"),
    ],
)
def test_other_operators_are_refused(operator, words):
    with pytest.raises(InputError, match=words):
        check_operator(operator, torch.zeros(1, 1, 16, 16))


@pytest.mark.parametrize("gain", [1e-3, 0.01, 50.0, 1000.0])
def test_the_unit_of_the_measurement_does_not_matter(gain: float) -> None:
    rows, columns = np.mgrid[:32, :32]
    clean = 0.3 + 0.01 * columns + 0.2 * ((columns - 16) ** 2 + (rows - 16) ** 2 < 60)
    image = torch.from_numpy(clean[None, None])
    operator = Wrapped(lambda u: gain * u)
    noise = NoiseParameters(1e-3 * gain)
    start = least_squares(gain * image, operator)
    restored = plug_and_play(gain * image, operator, noise, start, steps=6)
    assert (start - image).abs().max() < 0.05
    assert (restored - image).abs().max() < 0.01
