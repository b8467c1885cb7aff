"""Test the stretch of values against its definition and against Monte Carlo simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dipfast.errors import InputError
from dipfast.model.noise import NoiseModel
from dipfast.model.stretch import Stretch, needs_stretch, photon_noise

NOISES = st.one_of(
    st.builds(NoiseModel, st.floats(1e-4, 0.1)),
    st.builds(NoiseModel, st.just(0.0), st.floats(1e-6, 0.2)),
    st.builds(NoiseModel, st.floats(1e-4, 0.1), st.floats(1e-6, 0.2)),
)
# Their signal is far above, near, and everywhere below the noise; the last two are compressed.
STRETCHES = [
    Stretch.of(torch.tensor([0.0, 0.2, 1.0]), NoiseModel(0.05)),
    Stretch.of(torch.tensor([0.0, 0.2, 1.0]), NoiseModel(0.0, 0.2)),
    Stretch.of(torch.tensor([0.0, 0.2, 1.0]), NoiseModel(0.03, 0.01)),
    Stretch.of(torch.tensor([60.0, 100.0, 1e4]), NoiseModel(5.0, 1.0)),
    Stretch.of(torch.tensor([-0.01, 0.0, 1.0]), NoiseModel(0.002)),
]


def star_field(seed: int, stars: int = 250, size: int = 256) -> tuple[Tensor, Tensor]:
    """Return a made-up field of stars in electrons, and the same without noise."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(stars, 2, generator=generator) * size
    fluxes = 1e5 * (1 + torch.arange(stars) / 10) ** -2.0
    axis = torch.arange(size)
    squared = (axis - places[:, :1, None]).square().mT + (axis - places[:, 1:, None]).square()
    wide = (fluxes[:, None, None] * (1 + squared / 6).pow(-3)).sum(0) / (3 * math.pi)
    clean = 100 + wide.double()
    return NoiseModel(5.0, 1.0).sample(clean, generator), clean


def local_noise(noise: NoiseModel, x: Tensor) -> Tensor:
    return (noise.variance(x) + 0.375 * noise.gain**2).sqrt()


@settings(deadline=None, max_examples=25)
@given(
    noise=NOISES,
    offset=st.floats(-0.5, 0.5),
    scale=st.sampled_from([1.0, 1e3, 1e6]),
    seed=st.integers(0, 99),
)
def test_round_trip_and_order(noise: NoiseModel, offset: float, scale: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    dark = torch.rand(2, 5, 40, generator=generator, dtype=torch.float64).pow(4)
    picture = scale * (dark + offset)
    noise = NoiseModel(noise.sigma * scale, noise.gain * scale)
    stretch = Stretch.of(picture, noise)
    t = stretch.forward(picture)
    assert t.shape == picture.shape
    assert t.min() > 0
    assert t.max() < 1
    error = (stretch.inverse(t) - picture).abs()
    assert (error <= 1e-6 * local_noise(noise, picture)).all()
    x = torch.linspace(stretch.low, stretch.high, 999, dtype=torch.float64)
    for rising in (stretch.forward(x), stretch.inverse(x := torch.linspace(0, 1, 999).double())):
        assert (rising.diff() > 0).all()
    assert (stretch.unbiased_inverse(x).diff() >= 0).all()
    ends = torch.tensor([-9e9, stretch.low, stretch.high, 9e9], dtype=torch.float64)
    torch.testing.assert_close(stretch.forward(ends), torch.tensor([0, 0, 1, 1]).double())
    back = stretch.inverse(torch.tensor([-1.0, 2.0]).double())
    torch.testing.assert_close(back, ends[1:3])


@pytest.mark.parametrize("stretch", STRETCHES, ids=str)
def test_slope_is_the_inverse_of_the_noise(stretch: Stretch) -> None:
    x = torch.linspace(stretch.low, stretch.high, 50, dtype=torch.float64)[1:-1]
    x.requires_grad_()
    (slope,) = torch.autograd.grad(stretch.forward(x).sum(), x)
    squared = local_noise(stretch.measured, x.detach()).square()
    squared += (stretch.kappa * (x.detach() - stretch.sky).clamp_min(0)).square()
    torch.testing.assert_close(slope * stretch.width, squared.rsqrt(), rtol=1e-7, atol=0)


def test_stretch_of_photons_is_that_of_anscombe() -> None:
    photons = torch.tensor([0.0, 1.0, 5.0, 100.0]).double()
    stretch = Stretch.of(photons, NoiseModel(0.0, 1.0))
    assert stretch.kappa == 0
    found = stretch.forward(photons) * stretch.width
    torch.testing.assert_close(found.diff(), (2 * (photons + 0.375).sqrt()).diff())


def test_stretch_of_white_noise_is_linear() -> None:
    x = torch.linspace(0, 1, 9).double()
    stretch = Stretch.of(x, NoiseModel(0.1))
    torch.testing.assert_close(stretch.forward(x), (x + 0.3) / 1.6)
    torch.testing.assert_close(stretch.unbiased_inverse(stretch.forward(x)), x)


@settings(deadline=None, max_examples=50)
@given(noise=NOISES, peak=st.floats(0.01, 1e6), sky=st.floats(0, 0.99))
def test_values_span_64_units_if_compressed(noise: NoiseModel, peak: float, sky: float) -> None:
    picture = torch.tensor([0.0, sky * peak, peak]).double()
    stretch = Stretch.of(picture, noise)
    span = float(stretch.forward(picture).diff().sum()) * stretch.width
    if stretch.kappa == 0:
        assert span <= 64 * (1 + 1e-9)
    else:
        assert span == pytest.approx(64, rel=1e-6)
    assert stretch.width <= 64 + 6 + 1e-6


@pytest.mark.parametrize("stretch", STRETCHES, ids=str)
def test_unbiased_inverse_agrees_with_monte_carlo(stretch: Stretch) -> None:
    noise, count = stretch.measured, 200_000
    x = torch.linspace(max(stretch.low, 0), stretch.high, 12, dtype=torch.float64)[1:-1]
    # The same stretch, but so wide that no measurement is beyond its ends.
    reach = 7 * float(local_noise(noise, x).max())
    wide = replace(stretch, low=stretch.low - reach, high=stretch.high + reach)
    mean = wide.forward(noise.sample(x.expand(count, -1), torch.Generator().manual_seed(0))).mean(0)
    error = 5 / math.sqrt(count)
    found = (wide.unbiased_inverse(mean) - x) / local_noise(noise, x)
    assert (found.abs() <= error).all()
    # The plain inverse is biased where the stretch is not linear.
    plain = (wide.inverse(mean) - x) / local_noise(noise, x)
    if noise.gain > 0.1:
        assert (plain < -2 * error).all() if stretch.kappa == 0 else plain[0] < -error


@pytest.mark.parametrize("stretch", STRETCHES, ids=str)
def test_noise_is_white_after_the_stretch(stretch: Stretch) -> None:
    after = stretch.noise
    assert after.is_white
    assert after.sigma == pytest.approx(1 / stretch.width)
    # Where 20 photons or more, and nothing is compressed.
    noise = stretch.measured
    x = torch.tensor([max(stretch.sky, 20 * noise.gain)]).double()
    samples = noise.sample(x.expand(100_000), torch.Generator().manual_seed(0))
    if stretch.low + 4 * local_noise(noise, x) < x < stretch.high - 4 * local_noise(noise, x):
        assert stretch.forward(samples).std() == pytest.approx(after.sigma, rel=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_shape_are_kept(dtype: torch.dtype) -> None:
    for function in (
        STRETCHES[3].forward,
        STRETCHES[3].inverse,
        STRETCHES[3].unbiased_inverse,
    ):
        t = torch.rand(2, 3, 4, 5, dtype=dtype).mT
        found = function(t)
        assert (found.dtype, found.shape) == (t.dtype, t.shape)
        torch.testing.assert_close(found.double(), function(t.double()), rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_computes_the_same() -> None:
    t = torch.rand(9, 9)
    for function in (STRETCHES[3].forward, STRETCHES[3].inverse, STRETCHES[3].unbiased_inverse):
        found = function(t.cuda())
        assert found.is_cuda
        torch.testing.assert_close(found.cpu(), function(t))


def test_correlation_of_noise_is_kept() -> None:
    spectrum = ((1.0,) * 7,)
    noise = NoiseModel(0.01, 0.1, low=0.0, high=1.0, spectrum=spectrum)
    after = Stretch.of(torch.rand(9), noise).noise
    assert (after.gain, after.low, after.high, after.spectrum) == (0, None, None, spectrum)


@pytest.mark.parametrize("bad", [torch.tensor([]), torch.tensor([0.0, math.nan])])
def test_bad_pictures_are_refused(bad: Tensor) -> None:
    with pytest.raises(InputError, match="picture"):
        Stretch.of(bad, NoiseModel(0.1))


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(InputError, match="noise"):
        Stretch.of(torch.rand(9), NoiseModel(0.0))
    with pytest.raises(InputError, match="low"):
        Stretch(NoiseModel(0.1), 1.0, 0.0, 0.5)
    with pytest.raises(InputError, match="sky"):
        Stretch(NoiseModel(0.1, 0.1), -1.0, 1.0, -0.5)


def test_only_dark_pictures_with_little_noise_need_it() -> None:
    noisy, clean = star_field(0)
    assert needs_stretch(noisy, NoiseModel(5.0, 1.0))
    assert not needs_stretch(noisy, NoiseModel(50.0))  # much noise
    assert not needs_stretch(clean.max() - clean, NoiseModel(5.0))  # bright
    assert not needs_stretch(clean, NoiseModel(0.0))
    assert not needs_stretch(torch.zeros(9), NoiseModel(0.1))
    few_photons = torch.tensor([0.0, 0, 0, 1, 5])
    assert not needs_stretch(few_photons, NoiseModel(0.0, 1.0))


@pytest.mark.parametrize("seed", [0, 1])
def test_photon_noise_of_stars(seed: int) -> None:
    noisy, _ = star_field(seed)
    noisy[::29, ::31] += 3000  # hot pixels
    noisy = noisy.clamp_max(6000)  # saturated
    noisy[:20, :30] = math.nan  # unknown
    model = photon_noise(noisy)
    sky = torch.tensor(100.0)
    assert float(model.variance(sky)) == pytest.approx(125, rel=0.05)
    assert model.gain == pytest.approx(1, rel=0.25)
    assert not model.clipped
    scaled = photon_noise((noisy - 50) / 6000)
    assert scaled.gain * 6000 == pytest.approx(model.gain, rel=1e-6)
    assert scaled.sigma * 6000 == pytest.approx(math.sqrt(model.sigma**2 + 50 * model.gain))


def test_photon_noise_above_an_offset() -> None:
    true = NoiseModel(5.0, 1.0, offset=1000.0)
    field = 1000 + 4000 * torch.sin(torch.linspace(0, 20, 256)).clamp_min(0).square().repeat(256, 1)
    model = photon_noise(true.sample(field, torch.Generator().manual_seed(0)))
    assert model.gain == pytest.approx(1, rel=0.1)
    for bright in (1100.0, 2000.0, 4000.0):
        u = torch.tensor(bright)
        assert model.variance(u) == pytest.approx(float(true.variance(u)), rel=0.1)


@pytest.mark.parametrize("kappa", [0.0, 0.05])
@pytest.mark.parametrize("gain", [0.0, 2.0])
def test_an_offset_moves_the_stretch(gain: float, kappa: float) -> None:
    x = torch.linspace(-5, 300, 50, dtype=torch.float64)
    plain = Stretch(NoiseModel(3.0, gain), -10.0, 400.0, 20.0, kappa)
    moved = Stretch(NoiseModel(3.0, gain, offset=100.0), 90.0, 500.0, 120.0, kappa)
    assert torch.allclose(moved.forward(x + 100), plain.forward(x), atol=1e-12)
    for inverse in ("inverse", "unbiased_inverse"):
        t = plain.forward(x)
        there = getattr(moved, inverse)(t)
        assert torch.allclose(there, getattr(plain, inverse)(t) + 100, atol=1e-8)


@pytest.mark.parametrize("width", [12, 40])
@pytest.mark.parametrize("value", [0.0, 100.0])
def test_photon_noise_leaves_constant_borders_out(width: int, value: float) -> None:
    noisy, _ = star_field(0)
    inside = torch.zeros(noisy.shape, dtype=torch.bool)
    inside[width:-width, width:-width] = True
    bordered = photon_noise(torch.where(inside, noisy, value))
    assert bordered == photon_noise(torch.where(inside, noisy, math.nan))
    assert float(bordered.variance(torch.tensor(100.0))) == pytest.approx(125, rel=0.05)
    assert bordered.gain == pytest.approx(1, rel=0.25)


def test_photon_noise_pools_channels() -> None:
    fields = torch.stack([star_field(seed)[0] for seed in range(2)])
    assert photon_noise(fields).gain == pytest.approx(1, rel=0.15)


def test_photon_noise_without_photons() -> None:
    _, clean = star_field(0)
    generator = torch.Generator().manual_seed(0)
    model = photon_noise(NoiseModel(20.0).sample(clean, generator))
    assert model.sigma == pytest.approx(20, rel=0.03)
    assert model.gain == 0
    flat = photon_noise(NoiseModel(20.0).sample(torch.full((64, 64), 1000.0), generator))
    assert flat.sigma == pytest.approx(20, rel=0.1)
    assert flat.gain == 0
    small = photon_noise(NoiseModel(20.0).sample(torch.full((12, 20), 1000.0), generator))
    assert small.sigma == pytest.approx(20, rel=0.5)
    assert small.gain == 0
    assert photon_noise(torch.ones(64, 64)) == NoiseModel(0.0)


def test_photon_noise_of_stars_above_an_offset() -> None:
    noisy, _ = star_field(0)
    model = photon_noise(noisy + 900)
    assert model.gain == pytest.approx(1, rel=0.15)
    assert float(model.variance(torch.tensor(1000.0))) == pytest.approx(125, rel=0.05)


def test_photon_noise_of_a_large_picture_is_that_of_a_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noisy, _ = star_field(0)
    whole = photon_noise(noisy)
    monkeypatch.setattr("dipfast.model.stretch._MOST", 1 << 13)
    part = photon_noise(noisy)
    assert part != whole
    assert part.gain == pytest.approx(whole.gain, rel=0.25)
    assert part.sigma**2 + 100 * part.gain == pytest.approx(125, rel=0.1)


def test_photon_noise_needs_pixels() -> None:
    with pytest.raises(InputError, match="shape"):
        photon_noise(torch.ones(9))
    with pytest.raises(InputError, match="too small"):
        photon_noise(torch.rand(3, 3))
