"""Test the hourglass network: its number of parameters, image sizes, variants and checks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dipfast.networks import Hourglass, HourglassConfig

SMALL = HourglassConfig(down=(4, 6), up=(5, 7), skip=(2, 0))


def parameter_count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_default_has_the_size_of_the_original() -> None:
    assert (
        parameter_count(Hourglass(32, 3)) == 2_217_831 - 2_580
    )  # the original's biases have no effect


def test_parameter_count_of_a_small_network() -> None:
    def conv(a: int, b: int, k: int) -> int:
        return a * k * k * b + 2 * b  # with the batch normalisation after it

    finest = conv(3, 4, 3) + conv(4, 4, 3) + conv(3, 2, 1) + 2 * (2 + 7)
    finest += conv(2 + 7, 5, 3) + conv(5, 5, 1)
    coarsest = conv(4, 6, 3) + conv(6, 6, 3) + 2 * 6 + conv(6, 7, 3) + conv(7, 7, 1)
    head = 5 * 2 + 2
    assert parameter_count(Hourglass(3, 2, SMALL)) == finest + coarsest + head


def test_weights_of_half_precision_and_transforms_take_the_plain_layers() -> None:
    half = Hourglass(3, 2, SMALL).bfloat16()
    assert half(torch.rand(1, 3, 8, 8).bfloat16()).dtype == torch.bfloat16
    network, z = Hourglass(3, 2, SMALL), torch.rand(2, 1, 3, 8, 8)
    assert torch.func.vmap(network)(z).shape == (2, 1, 2, 8, 8)


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 2), st.integers(1, 3))
def test_output_has_the_size_of_the_input(height: int, width: int, batch: int, scales: int) -> None:
    config = HourglassConfig((4,) * scales, (4,) * scales, (2,) * scales)
    network = Hourglass(3, 2, config)
    output = network(torch.rand(batch, 3, height, width))
    assert output.shape == (batch, 2, height, width)
    assert output.isfinite().all()
    assert ((output > 0) & (output < 1)).all()
    output.mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(
    "options",
    [
        {"upsampling": "nearest"},
        {"upsampling": ("nearest", "bilinear")},
        {"downsampling": "average"},
        {"down_kernel": 5},
        {"down_kernel": 7, "downsampling": "average"},
        {"pointwise": False},
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (9, 14)])
def test_variants_keep_the_size_of_the_input(options: dict, size: tuple[int, int]) -> None:
    config = HourglassConfig((4, 6), (5, 7), (2, 0), **options)
    output = Hourglass(3, 2, config)(torch.rand(2, 3, *size))
    assert output.shape == (2, 2, *size)
    assert output.isfinite().all()


def test_parameter_counts_of_the_variants() -> None:
    base = parameter_count(Hourglass(3, 2, SMALL))
    widths = (SMALL.down, SMALL.up, SMALL.skip)
    same = HourglassConfig(*widths, upsampling="nearest", downsampling="average")
    assert parameter_count(Hourglass(3, 2, same)) == base
    wide = HourglassConfig(*widths, down_kernel=5)
    assert parameter_count(Hourglass(3, 2, wide)) == base + 16 * (3 * 4 + 4 * 4 + 4 * 6 + 6 * 6)
    flat = HourglassConfig(*widths, pointwise=False)
    assert parameter_count(Hourglass(3, 2, flat)) == base - (5 * 5 + 2 * 5) - (7 * 7 + 2 * 7)


def test_default_network_accepts_one_pixel() -> None:
    assert Hourglass()(torch.rand(1, 32, 1, 1)).shape == (1, 3, 1, 1)


def test_padding_reflects() -> None:
    # Padding a row by hand gives the same output.
    network = Hourglass(3, 2, SMALL)
    z = torch.rand(1, 3, 7, 8)
    by_hand = torch.cat([z, z[..., -2:-1, :]], dim=-2)
    assert torch.equal(network(z), network(by_hand)[..., :7, :])


def test_train_and_eval_agree() -> None:
    network, z = Hourglass(3, 2, SMALL), torch.rand(1, 3, 16, 16)
    assert torch.equal(network.train()(z), network.eval()(z))


@pytest.mark.parametrize(
    "widths",
    [((4, 4), (4,), (2, 2)), ((), (), ()), ((0,), (4,), (2,)), ((4,), (4,), (-1,))],
)
def test_widths_are_checked(widths: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="must"):
        HourglassConfig(*widths)


def test_lists_are_taken_for_what_they_hold() -> None:
    lists = HourglassConfig([8, 16], [8, 16], [4, 4], ["nearest", "bilinear"])
    tuples = HourglassConfig((8, 16), (8, 16), (4, 4), ("nearest", "bilinear"))
    assert lists == tuples
    assert hash(lists) == hash(tuples)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upsampling": "cubic"}, "upsampling must be one of bilinear, nearest, got 'cubic'"),
        ({"upsampling": ("nearest",)}, "upsampling must be one for each of 5 scales"),
        ({"downsampling": "max"}, "downsampling must be one of stride, average, got 'max'"),
        ({"down_kernel": 4}, "down_kernel must be odd and positive, got 4"),
    ],
)
def test_variants_are_checked(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HourglassConfig(**options)


def test_channels_are_checked() -> None:
    with pytest.raises(ValueError, match="in_channels and out_channels must be positive"):
        Hourglass(0, 3)
