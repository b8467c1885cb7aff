"""Test the fused layers of the network against one operation of torch after the other."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dipfast.errors import InputError
from dipfast.networks import Hourglass, HourglassConfig
from dipfast.prior.fused import fused_layers, has_fused_layers

SMALL = HourglassConfig(down=(4, 6), up=(5, 7), skip=(2, 0))


@st.composite
def configurations(draw: st.DrawFn) -> HourglassConfig:
    scales = draw(st.integers(1, 4))

    def widths(fewest: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(fewest, 9)) for _ in range(scales))

    modes = st.sampled_from(["nearest", "bilinear"])
    return HourglassConfig(
        down=widths(1),
        up=widths(1),
        skip=tuple(draw(st.sampled_from([0, 1, 2, 5])) for _ in range(scales)),
        upsampling=tuple(draw(modes) for _ in range(scales)),
        downsampling=draw(st.sampled_from(["stride", "average"])),
        down_kernel=draw(st.sampled_from([1, 3, 5])),
        pointwise=draw(st.booleans()),
    )


@st.composite
def problems(draw: st.DrawFn) -> tuple[Hourglass, Tensor, Tensor]:
    """Draw a network in float64, an input, and a gradient in the output."""
    config = draw(configurations())
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    in_channels, out_channels = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    images, height, width = (
        draw(st.integers(1, 2)),
        draw(st.integers(1, 40)),
        draw(st.integers(1, 40)),
    )
    network = make(in_channels, out_channels, config, generator)
    z = torch.rand(images, in_channels, height, width, generator=generator, dtype=torch.float64)
    shape = (images, out_channels, height, width)
    return network, z, torch.randn(shape, generator=generator, dtype=torch.float64)


def make(
    in_channels: int, out_channels: int, config: HourglassConfig, generator: torch.Generator
) -> Hourglass:
    """Return a network in float64 whose gradients are smooth in the weights, as far as may be."""
    network = Hourglass(in_channels, out_channels, config)
    network.initialise(generator)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for weight in module.parameters():
                # Away from 0, so that rounding does not decide the signs of a flat layer.
                nn.init.uniform_(weight, 0.3, 1.0, generator=generator)
                signs = torch.randint(0, 2, weight.shape, generator=generator) * 2 - 1
                weight.data *= signs
            # So large that rounding is not enlarged where a few pixels are nearly the same.
            module.eps = 0.1
    return network.double()


def image_of(network: Hourglass, z: Tensor, *, is_fused: bool) -> Tensor:
    """Return the image that fused layers make, of any dtype, or one operation after the other."""
    network = copy.copy(network)
    network.is_fused = is_fused
    image: Tensor = network(z)
    return image


def slopes(network: Hourglass, image: Tensor, gradient: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(image, list(network.parameters()), gradient.to(image.dtype)))


def distance(a: list[Tensor], b: list[Tensor]) -> float:
    """Return the distance of two lists of tensors as a part of the size of the second."""
    flat = [torch.cat([x.detach().double().flatten() for x in tensors]) for tensors in (a, b)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm().clamp(min=1e-9))


@settings(max_examples=100)
@given(problems())
def test_fused_layers_are_the_plain_ones(problem: tuple[Hourglass, Tensor, Tensor]) -> None:
    network, z, gradient = problem
    expected, image = image_of(network, z, is_fused=False), image_of(network, z, is_fused=True)
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-10)
    pairs = zip(slopes(network, image, gradient), slopes(network, expected, gradient))
    size = gradient.abs().sum().item()
    for (name, _), (got, slope) in zip(network.named_parameters(), pairs):
        assert got.shape == slope.shape
        assert (got - slope).abs().max() < 1e-9 * size, name


@settings(max_examples=60)
@given(problems(), st.booleans())
def test_single_precision_is_near_to_double(
    problem: tuple[Hourglass, Tensor, Tensor], channels_last: bool
) -> None:
    network, z, gradient = problem
    expected = image_of(network, z, is_fused=False)
    exact = slopes(network, expected, gradient)
    network = copy.deepcopy(network).float()
    if channels_last:
        network, z = (x.to(memory_format=torch.channels_last) for x in (network, z))
    image = network(z.float())
    assert image.dtype == torch.float32
    torch.testing.assert_close(image.double(), expected, rtol=0, atol=2e-5)
    got = slopes(network, image, gradient)
    assert all(g.dtype == torch.float32 for g in got)
    # The sign of a number near 0 may be another, which changes the gradient of that pixel.
    assert distance(got, exact) < 0.02


@settings(max_examples=30)
@given(problems())
def test_bfloat16_is_close(problem: tuple[Hourglass, Tensor, Tensor]) -> None:
    network, z, gradient = problem
    expected = image_of(network, z, is_fused=False)
    exact = slopes(network, expected, gradient)
    network = copy.deepcopy(network).float()
    image = network(z.bfloat16())
    assert image.dtype == torch.float32
    assert (image - expected).abs().mean() < 0.03
    got = slopes(network, image, gradient)
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in got)
    assert distance(got, exact) < 0.7


def test_gradient_in_the_input() -> None:
    network = make(3, 2, SMALL, torch.Generator().manual_seed(0))
    z = torch.rand(2, 3, 13, 10, dtype=torch.float64, requires_grad=True)
    images = (
        image_of(network, z, is_fused=False),
        image_of(network, z, is_fused=True),
        copy.deepcopy(network).float()(z.float()),
    )
    expected, got, single = (torch.autograd.grad(x.square().sum(), z)[0] for x in images)
    torch.testing.assert_close(got, expected)
    assert distance([single], [expected]) < 0.01


@pytest.mark.parametrize("config", [SMALL, HourglassConfig((4,), (3,), (0,), upsampling="nearest")])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 2), (16, 3)])
def test_one_step_from_the_initial_weights(config: HourglassConfig, size: tuple[int, int]) -> None:
    network = Hourglass(3, 2, config)
    network.initialise(torch.Generator().manual_seed(1))
    if max(size) <= 2:
        # All pixels are the same but for rounding, which a normalisation with the usual epsilon
        # makes 300 times larger, on each processor in another way.
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.eps = 1.0
    z = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(2))
    image = network(z)
    assert image.shape == (1, 2, *size)
    torch.testing.assert_close(image, image_of(network, z, is_fused=False), rtol=0, atol=1e-3)
    image.mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_second_derivatives_are_refused_and_not_zero() -> None:
    network = Hourglass(2, 1, HourglassConfig((4,), (4,), (2,)))
    network.initialise(torch.Generator().manual_seed(0))
    z = torch.rand(1, 2, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    with pytest.raises(InputError, match=r"set network\.is_fused = False"):
        torch.autograd.grad(network(z).square().sum(), z, create_graph=True)
    network.is_fused = False
    (slope,) = torch.autograd.grad(network(z).square().sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(slope.square().sum(), z)
    assert second.abs().sum() > 0


def test_which_layers_are_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(network: Hourglass, x: Tensor) -> Tensor:
        calls.append(x.dtype)
        return fused_layers(network, x)

    monkeypatch.setattr("dipfast.prior.networks.fused_layers", counted)
    network = Hourglass(3, 2, SMALL)
    z = torch.rand(1, 3, 9, 8)
    network(z)
    network(z.bfloat16())
    assert calls == [torch.float32, torch.bfloat16]
    wide, x = copy.deepcopy(network).double(), z.double()
    assert torch.equal(wide(x), image_of(wide, x, is_fused=False))
    assert copy.deepcopy(network).to("meta")(z.to("meta")).shape == (1, 2, 9, 8)
    assert len(calls) == 2
    network.is_fused = False
    network(z)
    assert len(calls) == 2
    for dtype in (torch.float32, torch.bfloat16):
        assert has_fused_layers(torch.device("cpu"), dtype)
        assert not has_fused_layers(torch.device("meta"), dtype)
    for dtype in (torch.float64, torch.float16):
        assert not has_fused_layers(torch.device("cpu"), dtype)


def test_torch_does_not_step_with_a_kernel_of_one_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its gradient of such weights writes beyond its memory on some processors.
    steps = []
    convolution = F.conv2d

    def seen(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1) -> Tensor:
        steps.append((*weight.shape[2:], *nn.modules.utils._pair(stride)))
        return convolution(x, weight, bias, stride)

    monkeypatch.setattr(F, "conv2d", seen)
    for kernel in (1, 3):
        network = Hourglass(3, 2, HourglassConfig((4, 6), (5, 7), (2, 0), down_kernel=kernel))
        network(torch.rand(1, 3, 12, 8))
    assert (1, 1, 2, 2) not in steps
    assert (3, 3, 2, 2) in steps


def test_same_bits_again_and_in_any_memory_format() -> None:
    network = Hourglass(3, 2, SMALL)
    z = torch.rand(2, 3, 20, 24)
    expected = network(z)
    assert torch.equal(network(z), expected)
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    for form in (network, last):
        image = form(z.contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(image, expected, rtol=0, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(network(z), expected)


def test_weights_may_be_fixed() -> None:
    network = Hourglass(3, 2, SMALL)
    fitted = [weight for name, weight in network.named_parameters() if "decoder" in name]
    for weight in network.parameters():
        weight.requires_grad_(any(weight is other for other in fitted))
    z = torch.rand(1, 3, 20, 24)
    torch.autograd.grad(network(z).mean(), fitted)
    network.requires_grad_(False)
    assert not network(z).requires_grad
