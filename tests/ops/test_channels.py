"""Test channels at every axis: results are as if the axis were moved by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ops.tensors import close
from torch import Tensor

from dipfast import ops
from dipfast.model.noise import NoiseModel
from dipfast.model.problem import Problem
from dipfast.operators import Downsample, Identity
from dipfast.prior.objective import Goal
from dipfast.prior.objective import objective as objective_of


def variation(x: Any, **options: Any) -> Any:
    return ops.total_variation(x, kind="isotropic", return_gradient=True, **options)[1]


def objective(x: Any, **options: Any) -> Any:
    return ops.tv_objective(x, 0.5 * x, 0.3, return_gradient=True, **options)[1]


# From images to images, with rows and columns that are multiples of four.
OPERATIONS: dict[str, Callable[..., Any]] = {
    "tv_denoise": partial(ops.tv_denoise, weight=0.3, tol=0.0, max_num_iter=20),
    "downsample": partial(ops.downsample, factor=2),
    "downsample_adjoint": lambda x, **o: ops.downsample_adjoint(x, 2, double(x, o), **o),
    "resize": partial(ops.resize, size=(7, 9)),
    "resize_adjoint": partial(ops.resize_adjoint, size=(7, 9)),
    "total_variation": variation,
    "tv_objective": objective,
}


def double(x: Any, options: dict[str, Any]) -> tuple[int, int]:
    """Return images with twice the rows and columns."""
    sizes = list(x.shape)
    if options.get("channel_axis") is not None:
        del sizes[options["channel_axis"]]
    elif sizes[-1] <= 4:
        del sizes[-1]
    return 2 * sizes[-2], 2 * sizes[-1]


def move(x: Any, source: int, target: int) -> Any:
    return x.movedim(source, target) if isinstance(x, Tensor) else np.moveaxis(x, source, target)


def as_tensor(x: Any) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(x))


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Any, int, str]:
    """Draw images (N, C, H, W) or (C, H, W), an axis for their channels, and a back end."""
    shape = (
        *([draw(st.integers(1, 3))] if draw(st.booleans()) else []),
        draw(st.integers(1, 6)),
        4 * draw(st.integers(1, 4)),
        4 * draw(st.integers(1, 9)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    x: Any = rng.normal(size=shape).astype(draw(st.sampled_from([np.float32, np.float64])))
    axis = draw(st.integers(-len(shape), -1))
    x = move(x, -3, axis)
    if draw(st.booleans()):
        x = np.ascontiguousarray(x)
    if draw(st.booleans()):
        x = torch.from_numpy(x)
    return x, axis, draw(st.sampled_from(["auto", "torch"]))


class TestAxis:
    @pytest.mark.parametrize("name", OPERATIONS)
    @settings(max_examples=15)
    @given(pictures())
    def test_result_is_that_of_moving_it_by_hand(
        self, name: str, case: tuple[Any, int, str]
    ) -> None:
        x, axis, backend = case
        operation = partial(OPERATIONS[name], backend=backend)
        by_hand = move(operation(move(x, axis, -3), channel_axis=-3), -3, axis)
        result = operation(x, channel_axis=axis)
        assert type(result) is type(x)
        assert result.shape == by_hand.shape
        close(as_tensor(result), as_tensor(by_hand))
        # Of one column nothing is left by half.
        if x.shape[-1] <= 4 < x.shape[-3] and x.shape[-2] > 1:
            recognised = operation(x)
            behind = operation(x, channel_axis=-1)
            assert as_tensor(recognised).equal(as_tensor(behind))

    @pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "tv_denoise"])
    @pytest.mark.parametrize("axis", [None, -1, 0])
    @pytest.mark.parametrize("backend", ["native", "torch"])
    def test_gradients(self, name: str, axis: int | None, backend: str) -> None:
        x = (
            torch.rand(8, 12, 3, dtype=torch.float64)
            if axis != 0
            else torch.rand(3, 8, 12).double()
        )
        place = -1 if axis is None else axis
        operation = partial(OPERATIONS[name], backend=backend)
        if name == "total_variation":
            operation = partial(ops.total_variation, kind="isotropic", backend=backend)
        if name == "tv_objective":
            operation = partial(ops.tv_objective, y=0.5 * x, tv_weight=0.3, backend=backend)
        leaf = x.clone().requires_grad_()
        result = operation(leaf, channel_axis=axis)
        weights = torch.rand(result.shape, dtype=torch.float64)
        (gradient,) = torch.autograd.grad(result, leaf, weights)
        if name == "tv_objective":
            operation = partial(operation, y=move(0.5 * x, place, -3))
        front = move(x, place, -3).clone().requires_grad_()
        weights = weights if weights.ndim == 0 else move(weights, place, -3)
        (expected,) = torch.autograd.grad(operation(front), front, weights)
        close(gradient, move(expected, -3, place))

    @pytest.mark.parametrize("name", OPERATIONS)
    @pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
    def test_what_the_shape_does_not_tell_is_asked_for(
        self, name: str, kind: Callable[[Any], Any]
    ) -> None:
        x = kind(np.random.default_rng(0).random((3, 12, 4)))
        with pytest.raises(ValueError, match=r"channel_axis is needed for \w+ of shape \(3, 12, 4"):
            OPERATIONS[name](x)
        # Either way is possible once it is named, and so is anything in front of a wide image.
        for axis in (-1, -3):
            OPERATIONS[name](x, channel_axis=axis)
        stack = kind(np.random.default_rng(0).random((2, 5, 8, 12)))
        close(as_tensor(OPERATIONS[name](stack)[1, 4]), as_tensor(OPERATIONS[name](stack[1, 4])))

    @pytest.mark.parametrize("name", OPERATIONS)
    def test_axes_that_cannot_be(self, name: str) -> None:
        operation = OPERATIONS[name]
        if name == "downsample_adjoint":
            operation = partial(ops.downsample_adjoint, factor=2, size=(16, 24))
        x = np.zeros((8, 12))
        with pytest.raises(ValueError, match=r"channel_axis=0 does not fit .* out for \(H, W\)"):
            operation(x, channel_axis=0)
        with pytest.raises(
            ValueError, match=r"channel_axis=3 does not fit \w+ of shape \(8, 12, 3"
        ):
            operation(np.zeros((8, 12, 3)), channel_axis=3)
        with pytest.raises(TypeError, match=r"channel_axis must be an integer, got 1\.0"):
            operation(np.zeros((8, 12, 3)), channel_axis=1.0)

    def test_traced_without_a_break(self) -> None:
        def function(u: Tensor, y: Tensor) -> Tensor:
            value = ops.tv_objective(u, y, 0.3) + ops.total_variation(u, channel_axis=-1)
            return value + ops.resize(ops.downsample(u, 2), (9, 9)).square().sum()

        u, y = (torch.rand(2, 12, 16, 3, dtype=torch.float64) for _ in range(2))
        u.requires_grad_()
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        close(compiled(u, y), function(u, y))
        (gradient,) = torch.autograd.grad(compiled(u, y), u)
        close(gradient, torch.autograd.grad(function(u, y), u)[0])

    def test_contiguous_memory_comes_back(self) -> None:
        x = np.random.default_rng(0).random((8, 12, 3), dtype=np.float32)
        for operation in OPERATIONS.values():
            assert operation(x).flags.c_contiguous
            assert operation(torch.from_numpy(x)).is_contiguous()


class TestVolumes:
    """Slices, rows and columns, few of which are no channels."""

    @pytest.mark.parametrize("name", ["tv_denoise", "total_variation"])
    @pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
    def test_channels_behind(self, name: str, kind: Callable[[Any], Any]) -> None:
        x = kind(np.random.default_rng(0).random((5, 6, 7, 3)))
        operation = partial(OPERATIONS[name], spatial_dims=3)
        expected = move(operation(move(x, -1, 0)), 0, -1)
        for axis in (None, -1, 3):
            close(as_tensor(operation(x, channel_axis=axis)), as_tensor(expected))
        small = kind(np.random.default_rng(0).random((3, 3, 3)))
        assert operation(small).shape == (3, 3, 3)
        with pytest.raises(ValueError, match=r"channel_axis=-4"):
            operation(kind(np.zeros((2, 5, 6, 3))))


class TestMasks:
    @pytest.mark.parametrize("backend", ["auto", "torch"])
    @pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float64])
    @pytest.mark.parametrize(
        ("shape", "of_mask"),
        [
            ((9, 8, 3), (9, 8)),
            ((9, 8, 3), (9, 8, 3)),
            ((9, 8, 3), (9, 8, 1)),
            ((9, 8, 3), (8,)),
            ((9, 8, 3), (1, 8)),
            ((2, 9, 8, 3), (9, 8)),
            ((2, 9, 8, 3), (2, 9, 8)),
            ((2, 9, 8, 3), (2, 9, 8, 3)),
            ((2, 9, 8, 3), (1, 9, 8, 1)),
        ],
    )
    def test_of_pixels_and_of_everything(
        self, shape: tuple[int, ...], of_mask: tuple[int, ...], dtype: type, backend: str
    ) -> None:
        rng = np.random.default_rng(0)
        u, y = rng.random(shape), rng.random(shape)
        mask = (rng.random(of_mask) > 0.5).astype(dtype)
        whole = mask if mask.ndim == len(shape) else mask[..., None]
        known = np.broadcast_to(whole, shape).astype(np.float64)
        # The data term and its gradient, computed in NumPy.
        data = 0.5 * ((known * (u - y)) ** 2).sum()
        options: dict[str, Any] = {"return_terms": True, "return_gradient": True}
        options["backend"] = backend
        _, found, tv, gradient = ops.tv_objective(u, y, 0.3, mask=mask, **options)
        assert found == pytest.approx(data)
        assert tv == pytest.approx(ops.total_variation(np.moveaxis(u, -1, -3)))
        slope = ops.total_variation(u, return_gradient=True)[1]
        np.testing.assert_allclose(gradient, known**2 * (u - y) + 0.3 * slope, atol=1e-12)
        tensors = [torch.from_numpy(x) for x in (u, y, mask)]
        found = ops.tv_objective(*tensors[:2], 0.3, mask=tensors[2], **options)
        assert found[1].item() == pytest.approx(data)
        close(found[3], torch.from_numpy(gradient))

    def test_gradient_in_a_mask_of_pixels(self) -> None:
        u, y = (torch.rand(9, 8, 3, dtype=torch.float64) for _ in range(2))
        mask = torch.rand(9, 8, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(ops.tv_objective(u, y, 0.3, mask=mask), mask)
        close(gradient, (mask.detach()[..., None] * (u - y).square()).sum(-1))

    def test_others_are_refused(self) -> None:
        u = np.zeros((2, 9, 8, 3))
        for shape in ((9, 8, 3), (9, 7), (2, 9, 8, 2)):
            with pytest.raises(ValueError, match="mask must broadcast"):
                ops.tv_objective(u, u, 0.1, mask=np.ones(shape))


def test_colours_are_denoised() -> None:
    """The example: (H, W, 3) was taken for many images of three columns, which have no noise."""
    rng = np.random.default_rng(0)
    clean = np.zeros((64, 64, 3))
    clean[16:48, 16:48] = (0.8, 0.5, 0.2)
    noisy = clean + rng.normal(0, 0.1, clean.shape)
    for image in (noisy, torch.from_numpy(noisy)):
        u = np.asarray(ops.tv_denoise(image))
        assert ops.psnr(u, clean, data_range=1.0) > ops.psnr(noisy, clean, data_range=1.0) + 8
        front = np.moveaxis(noisy, -1, 0)
        np.testing.assert_array_equal(u, np.moveaxis(ops.tv_denoise(front), 0, -1))
        joint = ops.tv_denoise(image, joint_channels=True)
        named = ops.tv_denoise(image, channel_axis=-1, joint_channels=True)
        np.testing.assert_array_equal(np.asarray(joint), np.asarray(named))


class TestCallers:
    """Images (1, C, H, W) of few columns keep working wherever the library calls these."""

    def test_forward_model(self) -> None:
        for size, factor in ((4, 2), (3, 3)):
            image = torch.rand(1, 3, 2 * size, size, dtype=torch.float64)
            operator = Downsample(factor)
            small = operator(image)
            wide = operator(image.repeat(1, 1, 1, 4).transpose(-1, -2).contiguous())
            assert small.shape == (1, 3, 2 * size // factor, size // factor)
            assert wide.shape == (1, 3, 4 * size // factor, 2 * size // factor)
            assert operator.adjoint(small).shape == image.shape

    @pytest.mark.parametrize("data_weight", [1.0, 0.5])
    def test_objective(self, data_weight: float) -> None:
        image, y = (torch.rand(1, 3, 9, 4, dtype=torch.float64) for _ in range(2))
        problem = Problem(y, Identity(), NoiseModel(0.1))
        terms = objective_of(image, problem, Goal(tv_weight=0.3, data_weight=data_weight))
        turned = image.transpose(-1, -2).contiguous()
        close(terms.tv, ops.total_variation(turned))
        close(terms.data, 0.5 * (image - y).square().sum())
