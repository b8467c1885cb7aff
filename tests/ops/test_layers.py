"""Test what lies between the convolutions of a network against the plain definitions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ops.tensors import in_memory
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd import gradcheck

from dipfast.errors import InputError, InputTypeError
from dipfast.ops import _reference as reference
from dipfast.ops.layers import Normalisation, add_normal, batch_norm_act, conv_joined

MEMORY = ("contiguous", "channels_last", "strided", "transposed")
DTYPES = (torch.float32, torch.bfloat16, torch.float64)
# Distances that rounding explains, as parts of the size of the terms; half of the last digit of
# bfloat16 is 2**-9.
TOLERANCES = {torch.float32: 3e-6, torch.bfloat16: 2**-8, torch.float64: 1e-12}


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def some_weights(channels: int, count: int, seed: int, dtype: torch.dtype) -> list[Tensor]:
    """Return weights and biases that are not so near 0 that rounding would decide a sign."""
    x = normal(count, channels, seed=seed + 1)
    return list((x + 0.1 * x.sign()).to(dtype))


def pairs(weights: list[Tensor]) -> list[Normalisation]:
    return [(weights[k], weights[k + 1]) for k in range(0, len(weights), 2)]


def near(got: Tensor, expected: Tensor, tolerance: float, size: Tensor | float = 1.0) -> None:
    """Check that two tensors differ by no more than a part of the size of their terms."""
    assert got.shape == expected.shape
    allowed = tolerance * (size + expected.abs())
    distance = (got.double() - expected).abs()
    assert (distance <= allowed).all(), f"{(distance / allowed).max():.3g} times too much"


@st.composite
def layers(draw: st.DrawFn) -> tuple[Tensor, list[Tensor], dict[str, Any], int]:
    """Draw a layer in some memory format, its weights, the form, and a seed."""
    inner = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    crop = draw(st.integers(0, 2))
    reflect = draw(st.booleans())
    pad = draw(st.integers(0, min(3, min(inner) - 1) if reflect else 3))
    shape = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 40)),
        *(size + 2 * crop for size in inner),
    )
    dtype = draw(st.sampled_from(DTYPES))
    seed = draw(st.integers(0, 2**31))
    x = in_memory(normal(*shape, seed=seed, dtype=dtype), draw(st.sampled_from(MEMORY)))
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    weights = some_weights(shape[1], draw(st.sampled_from([2, 4])), seed, kind)
    form = {
        "slope": draw(st.sampled_from([0.2, 1.0, 0.0])),
        "epsilon": draw(st.sampled_from([1e-5, 0.1])),
        "crop": crop,
        "pad": pad,
        "reflect": reflect,
    }
    return x, weights, form, seed


def gradients(
    function: Callable[..., Tensor], inputs: list[Tensor], of_v: Tensor | int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return a result, and the gradients for one in the result, drawn if an integer is given."""
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    v = function(*inputs)
    if isinstance(of_v, int):
        of_v = normal(*v.shape, seed=of_v, dtype=v.dtype)
    return v.detach(), torch.autograd.grad(v, inputs, of_v.to(v.dtype))


class TestBatchNormAct:
    @settings(max_examples=200)
    @given(layers())
    def test_layer_and_gradients_are_the_definition(
        self, case: tuple[Tensor, list[Tensor], dict[str, Any], int]
    ) -> None:
        x, weights, form, seed = case

        def run(x: Tensor, *weights: Tensor) -> Tensor:
            return batch_norm_act(x, *pairs(list(weights)), **form)

        def plain(x: Tensor, *weights: Tensor) -> Tensor:
            return reference.batch_norm_act(x, weights, *form.values())[0]

        tolerance = TOLERANCES[x.dtype]
        v, (of_x, *of_weights) = gradients(run, [x, *weights], seed)
        of_v = normal(*v.shape, seed=seed, dtype=v.dtype).double()
        wide = [tensor.double() for tensor in (x, *weights)]
        expected, (slope, *slopes) = gradients(plain, wide, of_v)
        assert v.dtype == of_x.dtype == x.dtype
        assert v.is_contiguous(memory_format=torch.channels_last)
        assert all(g.dtype == w.dtype for g, w in zip(of_weights, weights))

        # How much larger each channel may become on its way, and its gradient on the way back.
        _, statistics = reference.batch_norm_act(wide[0], wide[1:], *form.values())
        gain = 1 + (wide[1] * statistics[1]).abs() + wide[2].abs()
        if len(weights) == 4:
            gain = gain * (1 + (wide[3] * statistics[3]).abs())
        shaped = gain[:, None, None]
        near(v, expected, tolerance, shaped if x.dtype != torch.bfloat16 else 0.01 * shaped)
        # A pixel is repeated up to (pad + 1)**2 times in a padded layer.
        size = shaped * (1 + statistics[1][:, None, None]) * of_v.abs().max()
        size = size * (1 + form["pad"]) ** 2
        single = 3e-6 if x.dtype == torch.bfloat16 else tolerance
        allowed = single * size + tolerance * slope.abs()
        assert ((of_x.double() - slope).abs() <= allowed).all()
        terms = gain * of_v.abs().sum(dim=(0, 2, 3))
        for got, weight_slope in zip(of_weights, slopes):
            near(got, weight_slope, single, terms)

    def test_it_is_what_torch_computes(self) -> None:
        x, weights = normal(2, 6, 9, 7), some_weights(6, 4, 3, torch.float64)
        a = F.batch_norm(x[..., 1:-1, 1:-1], None, None, *weights[:2], training=True)
        b = F.batch_norm(F.leaky_relu(a, 0.3), None, None, *weights[2:], training=True)
        for mode, reflect in (("reflect", True), ("replicate", False)):
            expected = F.pad(b, (2,) * 4, mode=mode)
            form = {"slope": 0.3, "crop": 1, "pad": 2, "reflect": reflect}
            near(batch_norm_act(x, *pairs(weights), **form), expected, 1e-12)
            single = [(a.float(), b.float()) for a, b in pairs(weights)]
            near(batch_norm_act(x.float(), *single, **form), expected, 1e-6)

    @pytest.mark.parametrize("both", [False, True])
    def test_large_means_lose_no_digits(self, both: bool) -> None:
        x = normal(2, 3, 64, 50, dtype=torch.float32)
        x[0, :, 0, 0] = 300  # the first pixel is no measure of the others
        weights = some_weights(3, 4 if both else 2, 0, torch.float32)
        shifted = (x + 1000).requires_grad_()
        of_v = normal(*x.shape, seed=1, dtype=torch.float32)
        v, (of_x, *_) = gradients(
            lambda x, *w: batch_norm_act(x, *pairs(list(w))), [shifted, *weights], of_v
        )
        wide = [tensor.detach().double() for tensor in (shifted, *weights)]
        expected, (slope, *_) = gradients(
            lambda x, *w: reference.batch_norm_act(x, w, 0.2, 1e-5, 0, 0, True)[0], wide, of_v
        )
        # The mean is a number of float32, whose last digit is worth 6e-5 here.
        near(v, expected, 1e-4)
        assert ((of_x - slope).abs() <= 2e-4 * slope.abs().max()).float().mean() > 0.999

    @pytest.mark.parametrize("value", [0.0, 0.3, -1e6])
    def test_a_flat_channel_is_its_bias(self, value: float) -> None:
        x = torch.full((2, 5, 7, 9), value).requires_grad_()
        of_v = normal(*x.shape, dtype=torch.float32)
        weight, bias = some_weights(5, 2, 0, torch.float32)
        v = batch_norm_act(x, (weight, bias), pad=2)
        expected = F.leaky_relu(bias, 0.2)[:, None, None].expand_as(v)
        assert torch.equal(v, expected)
        # Without a variance, 1 / sqrt(epsilon) remains.
        factor = weight * torch.where(bias > 0, 1, 0.2) / math.sqrt(1e-5)
        expected = factor[:, None, None] * (of_v - of_v.mean(dim=(0, 2, 3), keepdim=True))
        (slope,) = torch.autograd.grad(batch_norm_act(x, (weight, bias)), x, of_v)
        near(slope, expected, 1e-6, 1e3)
        v = batch_norm_act(x, (weight, bias), (weight, bias))
        assert torch.equal(v, bias[:, None, None].expand_as(v))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("at", [0, 5])
    @pytest.mark.parametrize("count", [2, 4])
    def test_what_is_not_finite_makes_its_channel_nan(
        self, dtype: torch.dtype, bad: float, at: int, count: int
    ) -> None:
        x = normal(2, 4, 6, 6, dtype=dtype)
        x[at // 5, 2, at, at] = bad
        weights = some_weights(
            4, count, 0, torch.float64 if dtype == torch.float64 else torch.float32
        )
        v, (of_x, *of_weights) = gradients(
            lambda x, *w: batch_norm_act(x, *pairs(list(w)), pad=1), [x, *weights], 0
        )
        marked = torch.arange(4) == 2
        assert torch.equal(v.isnan().all(dim=(0, 2, 3)), marked)
        assert torch.equal(v.isnan().any(dim=(0, 2, 3)), marked)
        assert torch.equal(of_x.isnan().any(dim=(0, 2, 3)), marked)
        assert all(torch.equal(g.isnan(), marked) for g in of_weights[:1])

    def test_what_is_cropped_does_not_count(self) -> None:
        x = torch.full((1, 2, 8, 9), math.nan)
        x[..., 2:-2, 2:-2] = normal(1, 2, 4, 5, dtype=torch.float32)
        x.requires_grad_()
        weights = (torch.ones(2), torch.zeros(2))
        v = batch_norm_act(x, weights, crop=2, pad=1)
        assert torch.equal(v, batch_norm_act(x[..., 2:-2, 2:-2], weights, pad=1))
        (slope,) = torch.autograd.grad(v.square().sum(), x)
        assert torch.equal(slope[..., 2:-2, 2:-2] != 0, torch.ones(1, 2, 4, 5, dtype=torch.bool))
        assert slope.abs().sum() == slope[..., 2:-2, 2:-2].abs().sum()

    @pytest.mark.parametrize(
        ("form", "words"),
        [
            ({"crop": 3}, "crop must leave something of x"),
            ({"crop": 9, "pad": 9, "reflect": False}, "crop must leave something of x"),
            ({"crop": -1}, "crop and pad must be from 0 up"),
            ({"pad": -1}, "crop and pad must be from 0 up"),
            ({"pad": 5}, "pad must be less than the 6 rows and 5 columns"),
            ({"crop": 1, "pad": 3}, "pad must be less than the 4 rows and 3 columns"),
        ],
    )
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_margins_that_do_not_fit_are_refused(
        self, form: dict[str, Any], words: str, dtype: torch.dtype
    ) -> None:
        x, ones = torch.rand(2, 3, 6, 5, dtype=dtype), torch.ones(3, dtype=dtype)
        with pytest.raises(InputError, match=words):
            batch_norm_act(x, (ones, ones), **form)
        assert batch_norm_act(x, (ones, ones), pad=4).shape == (2, 3, 14, 13)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_shapes_that_do_not_fit_are_refused(self, dtype: torch.dtype) -> None:
        x, ones = torch.rand(2, 3, 6, 5, dtype=dtype), torch.ones(3, dtype=dtype)
        for wrong in (x[0], x[None]):
            with pytest.raises(InputError, match=r"x must be \(N, C, H, W\)"):
                batch_norm_act(wrong, (ones, ones))
        for one in (ones[1:], ones[:1], ones[None]):
            for weights in ((one, ones), (ones, one)):
                with pytest.raises(InputError, match="weights must be one for each of 3 channels"):
                    batch_norm_act(x, weights)
                with pytest.raises(InputError, match="weights must be one for each of 3 channels"):
                    batch_norm_act(x, (ones, ones), weights)
        for empty in (x[:0], x[..., :0]):
            with pytest.raises(InputError, match="x must have at least one element"):
                batch_norm_act(empty, (ones, ones))
        with pytest.raises(InputError, match="x must have at least one element"):
            batch_norm_act(x[:, :0], (ones[:0], ones[:0]))

    def test_weights_of_another_dtype_are_refused(self) -> None:
        x, ones = torch.rand(2, 3, 6, 5), torch.ones(3)
        with pytest.raises(InputTypeError, match="weights must be"):
            batch_norm_act(x, (ones.double(), ones.double()))

    @pytest.mark.parametrize("count", [2, 4])
    def test_derivatives(self, count: int) -> None:
        x = normal(2, 3, 5, 4).requires_grad_()
        weights = [w.requires_grad_() for w in some_weights(3, count, 0, torch.float64)]
        for form in ({"pad": 1}, {"crop": 1, "pad": 2, "reflect": False}):

            def function(x: Tensor, *w: Tensor, form: dict[str, Any] = form) -> Tensor:
                return batch_norm_act(x, *pairs(list(w)), **form)

            assert gradcheck(function, (x, *weights))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_second_derivatives_are_refused(self, dtype: torch.dtype) -> None:
        x = normal(1, 2, 4, 4, dtype=dtype).requires_grad_()
        weights = (torch.ones(2, dtype=dtype), torch.zeros(2, dtype=dtype))
        v = batch_norm_act(x, weights)
        for loss in (v.square().sum(), v[..., 0].sum()):  # of either, none is silently 0
            with pytest.raises(InputError, match="create_graph=True asks for second derivatives"):
                torch.autograd.grad(loss, x, create_graph=True)

    def test_another_default_device(self) -> None:
        x, ones = normal(1, 2, 4, 4, dtype=torch.float32).requires_grad_(), torch.ones(2)
        expected = batch_norm_act(x, (ones, ones))
        with torch.device("meta"):
            v = batch_norm_act(x, (ones, ones))
            (slope,) = torch.autograd.grad(v.square().sum(), x)
        assert torch.equal(v, expected)
        assert torch.equal(slope, torch.autograd.grad(expected.square().sum(), x)[0])

    def test_only_what_requires_gradients_gets_one(self) -> None:
        x, ones = torch.rand(1, 2, 4, 4), torch.ones(2)
        assert not batch_norm_act(x, (ones, ones)).requires_grad
        weight = torch.ones(2, requires_grad=True)
        batch_norm_act(x, (weight, ones), (ones, ones)).square().sum().backward()
        assert weight.grad is not None
        with torch.inference_mode():
            v = batch_norm_act(x, (ones, ones))
        assert v.is_inference()


def on_threads(threads: int, function: Callable[[], list[Tensor]]) -> list[Tensor]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        return function()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_bits_for_every_number_of_threads(dtype: torch.dtype) -> None:
    x = normal(2, 21, 70, 64, dtype=dtype)
    small, weight = normal(2, 20, 36, 33, seed=1, dtype=dtype), normal(5, 9, 3, 3)
    weights = some_weights(21, 4, 0, torch.float32)
    split = torch.ops.dipfast.split_weights

    def run() -> list[Tensor]:
        v, slopes = gradients(
            lambda x, *w: batch_norm_act(x, *pairs(list(w)), pad=1), [x, *weights], 0
        )
        once, others = gradients(
            lambda x, *w: batch_norm_act(x, *pairs(list(w))), [x, *weights[:2]], 0
        )
        joined, parts = gradients(
            lambda a, b: torch.ops.dipfast.interleave(a, b),
            [x[:, :5, :, :].contiguous(), small],
            0,
        )
        noisy = add_normal(x.float(), torch.tensor(0.1), 3, 4)
        halves = split(weight.float(), 4, dtype)
        return [v, once, joined, noisy, *slopes, *others, *parts, *halves]

    x, small = x[..., :64], small[..., :33]
    expected = on_threads(1, run)
    for threads in (2, 3, 5):
        assert all(map(torch.equal, expected, on_threads(threads, run)))


@st.composite
def joints(draw: st.DrawFn) -> tuple[Tensor | None, Tensor, Tensor]:
    """Draw a layer and a coarse one, not padded, and weights of both."""
    images, height, width = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 7)),
        draw(st.integers(1, 7)),
    )
    of_side, of_below = draw(st.integers(0, 9)), draw(st.integers(1, 40))
    results, seed = draw(st.integers(1, 20)), draw(st.integers(0, 2**31))
    how = draw(st.sampled_from(MEMORY))
    side = normal(images, of_side, 2 * height, 2 * width, seed=seed) if of_side else None
    below = in_memory(normal(images, of_below, height, width, seed=seed + 1), how)
    return side, below, normal(results, of_side + of_below, 3, 3, seed=seed + 2)


def joined(side: Tensor | None, below: Tensor, weight: Tensor) -> Tensor:
    """Return the convolution of layers that are not padded yet."""
    side = None if side is None else F.pad(side, (1,) * 4, mode="reflect")
    return conv_joined(side, F.pad(below, (1,) * 4, mode="replicate"), weight)


def plainly_joined(side: Tensor | None, below: Tensor, weight: Tensor) -> Tensor:
    large = F.interpolate(below, scale_factor=2, mode="nearest")
    whole = large if side is None else torch.cat([side, large], dim=1)
    return F.conv2d(F.pad(whole, (1,) * 4, mode="reflect"), weight)


class TestConvJoined:
    @settings(max_examples=100)
    @given(joints())
    def test_it_is_the_convolution_of_the_concatenation(
        self, case: tuple[Tensor | None, Tensor, Tensor]
    ) -> None:
        def run(function: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
            side, below, weight = case
            given = [below.to(dtype), weight.to(torch.promote_types(dtype, torch.float32))]
            given += [] if side is None else [side.to(dtype)]

            def one(below: Tensor, weight: Tensor, side: Tensor | None = None) -> Tensor:
                return function(side, below, weight)

            y, slopes = gradients(one, given, 7)
            return [y, *slopes]

        expected = run(plainly_joined, torch.float64)
        # Each is a sum of so many products of normal numbers, however little may be left of it.
        _, below, weight = case
        results, channels = weight.shape[:2]
        terms = [9 * channels, 4 * 9 * results, 4 * below[:, 0].numel(), 9 * results]
        for dtype, tolerance in zip(DTYPES, (1e-5, 0.06, 1e-12)):
            got = run(joined, dtype)
            assert got[0].dtype == dtype
            assert got[0].is_contiguous(memory_format=torch.channels_last)
            for a, b, count in zip(got, expected, terms):
                near(a, b, tolerance, b.abs().max().clamp(min=math.sqrt(count)))

    def test_derivatives(self) -> None:
        side, below, weight = normal(2, 2, 6, 4), normal(2, 3, 3, 2), normal(2, 5, 3, 3)
        inputs = tuple(tensor.requires_grad_() for tensor in (side, below, weight))
        assert gradcheck(joined, inputs)

    def test_second_derivatives_are_refused(self) -> None:
        side, below, weight = torch.rand(1, 2, 6, 4), torch.rand(1, 3, 3, 2), torch.rand(2, 5, 3, 3)
        for k in range(3):
            inputs = [side, below, weight]
            inputs[k] = inputs[k].clone().requires_grad_()
            y = joined(*inputs).square().sum()
            with pytest.raises(InputError, match="create_graph=True asks for second derivatives"):
                torch.autograd.grad(y, inputs[k], create_graph=True)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_many_gradients_side_by_side(self, dtype: torch.dtype) -> None:
        side, below = normal(1, 2, 6, 4, dtype=dtype), normal(1, 3, 3, 2, dtype=dtype)
        kind = torch.promote_types(dtype, torch.float32)
        weight, norms = normal(2, 5, 3, 3, dtype=kind), some_weights(2, 4, 0, kind)
        inputs = [tensor.requires_grad_() for tensor in (side, below, weight, *norms)]
        y = joined(batch_norm_act(side, *pairs(norms)), below, weight)

        def pull(direction: Tensor) -> tuple[Tensor, ...]:
            return torch.autograd.grad(y, inputs, direction, retain_graph=True)

        directions = normal(3, *y.shape, seed=1, dtype=dtype)
        expected = [torch.stack(slopes) for slopes in zip(*map(pull, directions))]
        with warnings.catch_warnings():
            # What has no rule of its own for many is computed one by one.
            warnings.filterwarnings("ignore", message="There is a performance drop")
            for got, slope in zip(torch.vmap(pull)(directions), expected):
                near(got, slope.double(), TOLERANCES[dtype], slope.abs().max())

    def test_half_of_it_may_be_fixed(self) -> None:
        side, below, weight = normal(1, 2, 6, 4), normal(1, 3, 3, 2), normal(2, 5, 3, 3)
        assert not joined(side, below, weight).requires_grad
        for k in range(3):
            inputs = [side, below, weight]
            inputs[k] = inputs[k].clone().requires_grad_()
            results = [function(*inputs).square().sum() for function in (joined, plainly_joined)]
            a, b = (torch.autograd.grad(result, inputs[k])[0] for result in results)
            near(a, b, 1e-12)

    def test_shapes_that_do_not_fit_are_refused(self) -> None:
        side, below, weight = (
            torch.rand(2, 2, 8, 10),
            torch.rand(2, 3, 5, 6),
            torch.rand(4, 5, 3, 3),
        )
        assert conv_joined(side, below, weight).shape == (2, 4, 6, 8)
        for wrong in (side[..., :-1], side[:, :, :-2], side[:1], side.mT):
            with pytest.raises(InputError, match=r"side must be \(2, 2, 8, 10\)"):
                conv_joined(wrong, below, weight)
        for wrong in (weight[:, :4], weight[:, :1], weight[..., :2], weight.reshape(4, 5, 1, 9)):
            with pytest.raises(InputError, match=r"weight must be \(K, 2 \+ 3, 3, 3\)"):
                conv_joined(side, below, wrong)
        with pytest.raises(InputError, match=r"weight must be \(K, 0 \+ 3, 3, 3\)"):
            conv_joined(None, below, weight)


def inner(a: Tensor, b: Tensor) -> float:
    return (a.detach().double() * b.detach().double()).sum().item()


class TestAdjoints:
    @settings(max_examples=50)
    @given(
        st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 6), st.integers(1, 6)),
        st.sampled_from([torch.float32, torch.float64]),
        st.integers(0, 2**31),
    )
    def test_interleave(
        self, sizes: tuple[int, int, int, int], dtype: torch.dtype, seed: int
    ) -> None:
        images, channels, height, width = sizes
        zeros = torch.zeros(images, channels, 2 * height, 2 * width, dtype=dtype)
        coarse = normal(images, 4 * channels, height + 1, width + 1, seed=seed, dtype=dtype)
        y = normal(*zeros.shape, seed=seed + 1, dtype=dtype)
        there = torch.ops.dipfast.interleave(zeros, coarse)
        back = torch.ops.dipfast.interleave_backward(y)
        assert math.isclose(inner(there, y), inner(coarse, back), rel_tol=1e-9, abs_tol=1e-9)
        assert torch.equal(there, reference.interleave(zeros, coarse))
        assert torch.equal(back, reference.interleave_gradient(y))
        # The gradient that autograd finds of the plain definition.
        coarse.requires_grad_()
        (slope,) = torch.autograd.grad(reference.interleave(zeros, coarse), coarse, y)
        assert torch.equal(back, slope)

    @settings(max_examples=50)
    @given(
        st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(1, 30)),
        st.sampled_from(DTYPES),
        st.sampled_from(MEMORY),
        st.integers(0, 2**31),
    )
    def test_split_weights(
        self, sizes: tuple[int, int, int], dtype: torch.dtype, how: str, seed: int
    ) -> None:
        results, fine, coarse = sizes
        kind = torch.float64 if dtype == torch.float64 else torch.float32
        weight = in_memory(normal(results, fine + coarse, 3, 3, seed=seed, dtype=kind), how)
        parts = torch.ops.dipfast.split_weights(weight, fine, dtype)
        expected = reference.split_weights(weight.double(), fine)
        for part, known in zip(parts, expected):
            assert part.dtype == dtype
            near(part, known, 2**-8 if dtype == torch.bfloat16 else 1e-6)
        y = [normal(*part.shape, seed=seed + 1 + k, dtype=dtype) for k, part in enumerate(parts)]
        back = torch.ops.dipfast.split_weights_backward(*y, weight)
        assert back.dtype == kind
        there = sum(map(inner, y, expected))
        tolerance = 1e-6 if kind == torch.float32 else 1e-12
        assert abs(there - inner(weight, back)) <= tolerance * 16 * weight.numel()


class TestAddNormal:
    @pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 255, 257, 40_000])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_numbers_are_the_definition(self, count: int, dtype: torch.dtype) -> None:
        z, level = normal(count, dtype=dtype), torch.tensor(0.7, dtype=dtype)
        for seed, iteration in ((0, 0), (3, 70_000), (2**40 + 5, 2**35), (2**63 - 1, 2**63 - 1)):
            got = add_normal(z, level, seed, iteration)
            expected = reference.add_normal(z.double(), 0.7, seed, iteration)
            assert got.dtype == dtype
            torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=2e-6)

    @settings(max_examples=50)
    @given(
        st.sampled_from([2**63 - 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1),
        st.integers(0, 2**63 - 1),
    )
    def test_every_seed_has_numbers(self, seed: int, iteration: int) -> None:
        z, one = torch.zeros(130), torch.tensor(1.0)
        got = add_normal(z, one, seed, iteration)
        torch.testing.assert_close(
            got, reference.add_normal(z, 1.0, seed, iteration), rtol=1e-6, atol=2e-6
        )
        double = add_normal(z.double(), one.double(), seed, iteration)
        torch.testing.assert_close(got, double.float(), rtol=1e-6, atol=2e-6)
        assert not torch.equal(got, add_normal(z, one, (seed + 1) % 2**64, iteration))
        assert not torch.equal(got, add_normal(z, one, seed, iteration ^ 1))

    def test_numbers_go_along_the_memory(self) -> None:
        one = torch.tensor(1.0)
        shape = (2, 5, 6, 7)
        numbers = add_normal(torch.zeros(math.prod(shape)), one, 1, 2)
        for dtype in (torch.float32, torch.float64):
            z = torch.zeros(2, 6, 7, 5, dtype=dtype).permute(0, 3, 1, 2)
            got = add_normal(z, one.to(dtype), 1, 2)
            assert got.stride() == z.stride()
            torch.testing.assert_close(got.permute(0, 2, 3, 1).flatten().float(), numbers)
            # A part of a larger memory, which does not begin with it.
            parts = torch.zeros(3, *shape, dtype=dtype)
            got = add_normal(parts[1], one.to(dtype), 1, 2)
            torch.testing.assert_close(got.flatten().float(), numbers)
            assert not parts.any()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_gaps_in_memory(self, dtype: torch.dtype) -> None:
        one = torch.tensor(1.0, dtype=dtype)
        wide = normal(6, 8, dtype=dtype)
        for z in (wide[:, ::2], wide[:, 2:5], wide[0].expand(3, 8), wide[:1, :1].expand(5, 5)):
            expected = add_normal(z.contiguous(), one, 3, 4)
            assert torch.equal(add_normal(z, one, 3, 4), expected)

    def test_the_first_numbers_are_those_of_a_shorter_tensor(self) -> None:
        one = torch.tensor(1.0)
        numbers = add_normal(torch.zeros(70_000), one, 5, 6)
        for count in (1, 31, 128, 1000, 32_768, 33_000):
            assert torch.equal(add_normal(torch.zeros(count), one, 5, 6), numbers[:count])

    def test_numbers_are_normal(self) -> None:
        numbers = add_normal(torch.zeros(1_000_000), torch.tensor(1.0), 12, 34).double()
        assert abs(numbers.mean()) < 4e-3
        assert abs(numbers.var() - 1) < 6e-3
        assert abs(numbers.pow(3).mean()) < 0.02
        assert abs(numbers.pow(4).mean() - 3) < 0.05
        assert 4.5 < numbers.abs().max() < 6
        # Kolmogorov and Smirnov: the largest distance of the distributions.
        below = torch.special.ndtr(numbers.sort().values)
        steps = torch.arange(1_000_001) / 1_000_000
        distance = max((below - steps[1:]).abs().max(), (below - steps[:-1]).abs().max())
        assert distance * 1000 < 1.95  # exceeded once in a thousand seeds

    def test_numbers_are_independent(self) -> None:
        zeros, one = torch.zeros(100_000), torch.tensor(1.0)
        expected = add_normal(zeros, one, 1, 2)
        others = [(1, 3), (2, 2), (2, 1), (1 + 2**32, 2), (1, 2 + 2**32), (2**64 - 1, 2)]
        drawn = [add_normal(zeros, one, *key) for key in others]
        drawn += [expected.roll(k) for k in (1, 2, 31, 32, 64, 96, 128)]
        for other in drawn:
            assert abs(np.corrcoef(expected, other)[0, 1]) < 5 / math.sqrt(len(zeros))
            # Not in their sizes either, of which Box and Muller's transform makes pairs.
            assert abs(np.corrcoef(expected.square(), other.square())[0, 1]) < 0.02

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_no_level_adds_nothing(self, dtype: torch.dtype) -> None:
        z = torch.cat([normal(300, dtype=dtype), torch.tensor([1e-40, math.inf, math.nan])])
        z = z.to(dtype)
        got = add_normal(z, torch.tensor(0.0, dtype=dtype), 1, 2)
        torch.testing.assert_close(got, z, rtol=0, atol=0, equal_nan=True)


class TestOperators:
    """What opcheck asks of operators, and tensors that have no memory."""

    @staticmethod
    def calls(requires_grad: bool, how: str) -> list[tuple[Any, tuple[Any, ...]]]:
        ops = torch.ops.dipfast
        x, fine, coarse, weight, w1, w2 = (
            in_memory(tensor.float(), how).requires_grad_(requires_grad)
            for tensor in (
                normal(2, 3, 6, 5),
                normal(2, 3, 6, 4),
                normal(2, 12, 4, 3),
                normal(2, 5, 3, 3),
                normal(2, 3)[:1].expand(2, 3),
                normal(2, 3, seed=1),
            )
        )
        first, second = (tuple(w.detach().clone().requires_grad_(requires_grad)) for w in (w1, w2))
        return [
            (ops.batch_norm_act.default, (x, *first, None, None, 0.2, 1e-5, 0, 0, True)),
            (ops.batch_norm_act.default, (x, *first, *second, 0.2, 1e-5, 1, 2, False)),
            (ops.interleave.default, (fine, coarse)),
            (ops.split_weights.default, (weight, 2, torch.float32)),
            (ops.split_weights.default, (weight, 0, torch.bfloat16)),
        ]

    @staticmethod
    def backward_calls() -> list[tuple[Any, tuple[Any, ...]]]:
        ops = torch.ops.dipfast
        x, (w, b, w2, b2) = normal(2, 3, 6, 5).float(), normal(4, 3).float()
        once, both = ((w, b, None, None), (w, b, w2, b2))
        form = (0.2, 1e-5, 1, 1, True)
        calls = []
        for weights in (once, both):
            v, statistics = ops.batch_norm_act(x, *weights, *form)
            calls.append((ops.batch_norm_act_backward.default, (v, x, *weights, statistics, *form)))
        weight = normal(2, 5, 3, 3).float()
        parts = ops.split_weights(weight, 2, torch.float32)
        return [
            *calls,
            (ops.interleave_backward.default, (normal(2, 3, 6, 4).float(),)),
            (ops.split_weights_backward.default, (*parts, weight)),
            (ops.add_normal.default, (x, torch.tensor(0.3), 3, 4)),
        ]

    @pytest.mark.parametrize("how", ["contiguous", "channels_last"])
    @pytest.mark.parametrize("requires_grad", [True, False])
    def test_opcheck(self, how: str, requires_grad: bool) -> None:
        with warnings.catch_warnings():
            # opcheck itself asks non-leaf tensors for their .grad.
            warnings.filterwarnings("ignore", message="The .grad attribute", category=UserWarning)
            for op, arguments in self.calls(requires_grad, how):
                torch.library.opcheck(op, arguments)

    def test_opcheck_of_gradients(self) -> None:
        for op, arguments in self.backward_calls():
            torch.library.opcheck(op, arguments)

    @pytest.mark.parametrize("device", ["meta", "fake"])
    def test_shapes_without_memory(self, device: str) -> None:
        def run(x: Tensor, side: Tensor, below: Tensor, weight: Tensor) -> list[Tensor]:
            ones = x.new_ones(3)
            v = batch_norm_act(x, (ones, ones), (ones, ones), pad=1)
            y = conv_joined(side, below, weight)
            return [v, y, add_normal(x.detach(), ones[0].detach(), 1, 2)]

        tensors = [normal(*shape).float() for shape in ((2, 3, 6, 5), (2, 2, 8, 6), (2, 3, 5, 4))]
        tensors.append(normal(4, 5, 3, 3).float())
        expected = run(*tensors)
        if device == "meta":
            got = run(*(tensor.to("meta") for tensor in tensors))
        else:
            with FakeTensorMode() as mode:
                leaves = [mode.from_tensor(tensor).requires_grad_() for tensor in tensors]
                got = run(*leaves)
                assert all(isinstance(tensor, FakeTensor) for tensor in got)
                slopes = torch.autograd.grad([v.sum() for v in got[:2]], leaves)
                assert [s.shape for s in slopes] == [leaf.shape for leaf in leaves]
        for a, b in zip(got, expected):
            assert (a.shape, a.stride(), a.dtype) == (b.shape, b.stride(), b.dtype)

    def test_traced_without_a_break(self) -> None:
        def function(x: Tensor, below: Tensor, weight: Tensor, ones: Tensor) -> Tensor:
            v = batch_norm_act(x, (ones, ones), (ones, ones), pad=1)
            return conv_joined(v, below, weight).square().sum()

        tensors = [normal(*shape).float() for shape in ((1, 3, 6, 4), (1, 2, 5, 4), (4, 5, 3, 3))]
        tensors.append(torch.ones(3))
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        results = []
        for call in (function, compiled):
            leaves = [tensor.clone().requires_grad_() for tensor in tensors]
            value = call(*leaves)
            results.append([value, *torch.autograd.grad(value, leaves)])
        for a, b in zip(*results):
            torch.testing.assert_close(a, b)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_kernels_of_other_devices(self, dtype: torch.dtype) -> None:
        # What other devices run is tested here on the CPU.
        from dipfast.ops._torch import layers as module

        kind = torch.float64 if dtype == torch.float64 else torch.float32
        x, weights = normal(2, 3, 6, 8, dtype=dtype), some_weights(3, 4, 0, kind)
        form = (0.2, 1e-5, 1, 1, True)
        tolerance = 0.05 if dtype == torch.bfloat16 else 1e-4
        for cpu, other, arguments in (
            (module._forward_cpu, module._forward_torch, (x, *weights, *form)),
            (module._interleave_backward_cpu, module._interleave_backward_torch, (x,)),
            (
                module._split_cpu,
                module._split_torch,
                (normal(4, 5, 3, 3, dtype=kind), 2, dtype),
            ),
        ):
            for a, b in zip(cpu(*arguments), other(*arguments)):
                torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
        v, statistics = module._forward_cpu(x, *weights, *form)
        arguments = (v, x, *weights, statistics, *form)
        for a, b in zip(module._backward_cpu(*arguments), module._backward_torch(*arguments)):
            torch.testing.assert_close(a, b, rtol=tolerance, atol=10 * tolerance)
