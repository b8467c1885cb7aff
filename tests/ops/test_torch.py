"""Test the torch operators: autograd, tracing, threads."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.ops.tensors import FORMS, close, images, in_memory, value_and_gradients
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from dipfast import ops
from dipfast.ops import _torch
from dipfast.ops._torch.mse import _mse_torch, _weighted_mse_torch
from dipfast.ops._torch.total_variation import _total_variation_torch, _tv_objective_torch

SIGNS = ("anisotropic", 0.0, 2)


class TestAutograd:
    def tensors(self) -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        return [
            torch.rand(2, 3, 4, 5, dtype=torch.float64, generator=generator).requires_grad_()
            for _ in range(3)
        ]

    def test_gradcheck(self) -> None:
        u, y, m = self.tensors()
        assert gradcheck(partial(ops.total_variation, channel_axis=1), (u,))
        objective = partial(ops.tv_objective, tv_weight=0.3, channel_axis=1)
        assert gradcheck(lambda u, y, m: objective(u, y, mask=m), (u, y, m))
        for kind in ("isotropic", "huber"):
            variation = partial(ops.total_variation, kind=kind, epsilon=0.3, channel_axis=1)
            assert gradcheck(variation, (u,))
        assert gradcheck(ops.mse, (u, y))
        assert gradcheck(lambda a, b: ops.psnr(a, b, data_range=1.0), (u, y))
        for per_image in (True, False):

            def weighted(a: Tensor, b: Tensor, m: Tensor, each: bool = per_image) -> Tensor:
                return ops.mse(a, b, mask=m, per_image=each)

            assert gradcheck(weighted, (u, y, m))
            assert gradcheck(weighted, (u, y, m[:1, :, :1]))
            assert gradgradcheck(weighted, (u, y, m[0]))
            assert gradcheck(lambda a, each=per_image: weighted(a, y, m > 0.5, each), (u,))

    def test_second_derivatives(self) -> None:
        u, y, m = self.tensors()
        objective = partial(ops.tv_objective, tv_weight=0.3, channel_axis=1)
        assert gradgradcheck(lambda u, y, m: objective(u, y, mask=m), (u, y, m))
        for kind in ("isotropic", "huber"):
            smooth = {"kind": kind, "epsilon": 0.3, "channel_axis": 1}
            assert gradgradcheck(partial(ops.tv_objective, tv_weight=0.3, **smooth), (u, y))
            assert gradgradcheck(partial(ops.total_variation, **smooth), (u,))
        assert gradgradcheck(lambda a, b: ops.psnr(a, b, data_range=1.0), (u, y))

    @pytest.mark.parametrize("gradient", [True, False])
    @pytest.mark.parametrize("how", ["contiguous", "channels_last", "strided"])
    @pytest.mark.parametrize("requires_grad", [True, False])
    def test_opcheck(self, gradient: bool, how: str, requires_grad: bool) -> None:
        u, y, m = (in_memory(t.detach(), how).requires_grad_(requires_grad) for t in self.tensors())
        smooth = ("isotropic", 0.1, 3)
        calls = [
            (torch.ops.dipfast.total_variation.default, (u, *SIGNS, gradient)),
            (torch.ops.dipfast.total_variation.default, (u, *smooth, gradient)),
            (torch.ops.dipfast.tv_objective.default, (u, y, m, 0.3, *SIGNS, gradient)),
            (torch.ops.dipfast.tv_objective.default, (u, y, None, 0.3, *smooth, gradient)),
            (torch.ops.dipfast.tv_objective.default, (u, y, m > 0.5, 0.3, *smooth, gradient)),
            (torch.ops.dipfast.mse.default, (u, y, gradient)),
            (torch.ops.dipfast.weighted_mse.default, (u, y, m[:, :1], True, gradient)),
            (torch.ops.dipfast.weighted_mse.default, (u, y, m[0] > 0.5, False, gradient)),
        ]
        quick = ("test_schema", "test_autograd_registration", "test_faketensor")
        traced = set()
        with warnings.catch_warnings():
            # opcheck itself asks non-leaf tensors for their .grad.
            warnings.filterwarnings("ignore", message="The .grad attribute", category=UserWarning)
            for op, arguments in calls:
                # Tracing takes nearly all of the time: of other memory formats, whose strides the
                # quick ones compare for all calls, each operator is traced once.
                whole = how == "contiguous" or op not in traced
                traced.add(op)
                utils = (*quick, "test_aot_dispatch_dynamic") if whole else quick
                torch.library.opcheck(op, arguments, test_utils=utils)

    @given(images(count=3, depth=True), st.sampled_from(FORMS), st.booleans())
    def test_kernels_of_other_devices(
        self, tensors: list[Tensor], form: tuple[str, float, int], gradient: bool
    ) -> None:
        # CUDA tensors without Triton are computed by plain torch, which is tested here on the CPU.
        u, y, m = tensors
        pairs = [
            (
                _total_variation_torch(u, *form, gradient),
                _torch.total_variation(u, *form, gradient),
            ),
            (
                _tv_objective_torch(u, y, m, 0.5, *form, gradient),
                _torch.tv_objective(u, y, m, 0.5, *form, gradient),
            ),
            (_mse_torch(u, y, gradient), _torch.mse(u, y, gradient)),
            (
                _weighted_mse_torch(u, y, 2 + m, True, gradient),
                _torch.weighted_mse(u, y, 2 + m, True, gradient),
            ),
        ]
        for plain, native in pairs:
            for a, b in zip(plain, native):
                close(a, b)
                assert a.stride() == b.stride()

    def test_traced_without_a_break(self) -> None:
        def function(u: Tensor, y: Tensor) -> Tensor:
            value = ops.tv_objective(u, y, 0.3) + ops.total_variation(u)
            value = value + ops.mse(u, y, mask=u > 0.5) + ops.mse(u, y, per_image=True).sum()
            return value + ops.mse(u, y) + ops.psnr(u, y, data_range=1.0)

        u, y = (torch.rand(2, 3, 8, 9) for _ in range(2))
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        value, gradients = value_and_gradients(compiled, u, y)
        expected, slopes = value_and_gradients(function, u, y)
        close(value, expected)
        for gradient, slope in zip(gradients, slopes):
            close(gradient, slope)

    def test_nothing_is_computed_for_nothing(self) -> None:
        x = torch.rand(3, 4, 4)
        assert _torch.total_variation(x, *SIGNS, False)[1].numel() == 0
        with torch.no_grad():
            assert not ops.total_variation(x.requires_grad_(), channel_axis=0).requires_grad


Y, MASK = torch.rand(2, 2, 3, 14, 15, generator=torch.Generator().manual_seed(0))
KERNELS: dict[str, Callable[..., Any]] = {
    "variation": partial(ops.total_variation, kind="isotropic", epsilon=0.1, channel_axis=-3),
    "objective": lambda u, **options: ops.tv_objective(
        u, Y, 0.3, mask=MASK, kind="huber", epsilon=0.1, channel_axis=-3, **options
    ),
    "mse": lambda u, **options: ops.mse(u, Y, **options),
    "mse with a mask": lambda u, **options: ops.mse(u, Y, mask=MASK > 0.5, **options),
    "ssim": lambda u: ops.ssim(u, Y, data_range=1.0, channel_axis=-3),
    "ssim in b": lambda u: ops.ssim(Y, u, data_range=1.0, channel_axis=-3),
    "psnr": lambda u: ops.psnr(u, Y, data_range=1.0),
}


class TestMemoryOfGradients:
    u = torch.rand(2, 3, 14, 15, generator=torch.Generator().manual_seed(1))

    # Gradients of what is computed like this are the memory that they are given, or a view of it.
    @pytest.mark.parametrize("through", [lambda u: u, lambda u: u + 0.0, lambda u: u.view(u.shape)])
    @pytest.mark.parametrize("name", KERNELS)
    def test_a_graph_that_is_kept(self, name: str, through: Callable[[Tensor], Tensor]) -> None:
        u = self.u.clone().requires_grad_()
        value = KERNELS[name](through(u))
        (expected,) = torch.autograd.grad(3 * KERNELS[name](through(u)), u)
        for _ in range(3):
            value.backward(retain_graph=True)
        assert u.grad is not None
        close(u.grad, expected)
        u.grad.zero_()
        (again,) = torch.autograd.grad(value, u, create_graph=True)
        close(3 * again.detach(), expected)
        (second,) = torch.autograd.grad(again.square().sum(), u)
        (slope,) = torch.autograd.grad(KERNELS[name](u), u, create_graph=True)
        close(second, torch.autograd.grad(slope.square().sum(), u)[0])

    @pytest.mark.parametrize("name", ["variation", "objective", "mse", "mse with a mask"])
    def test_gradients_that_are_returned_are_free(self, name: str) -> None:
        u = self.u.clone().requires_grad_()
        value, gradient = KERNELS[name](u, return_gradient=True)
        expected = gradient.clone()
        value.backward(retain_graph=True)
        assert u.grad is not None
        u.grad.zero_()
        assert torch.equal(gradient, expected)
        gradient.zero_()
        value.backward()
        close(u.grad, expected)

    @pytest.mark.parametrize("name", KERNELS)
    @pytest.mark.parametrize("again", [False, True])
    def test_gradients_with_a_graph_are_of_their_own(self, name: str, again: bool) -> None:
        u = self.u.clone().requires_grad_()
        value = KERNELS[name](u)
        (first,) = torch.autograd.grad(value, u, create_graph=True)
        expected = first.detach().clone()
        (second,) = torch.autograd.grad(value, u, create_graph=again, retain_graph=True)
        second.detach().zero_()
        assert torch.equal(first, expected)


class TestManyGradients:
    @pytest.mark.parametrize("name", KERNELS)
    def test_side_by_side_are_those_of_each(self, name: str) -> None:
        u = torch.rand(2, 3, 14, 15, generator=torch.Generator().manual_seed(1)).requires_grad_()
        values = torch.stack([KERNELS[name](u), 3 * KERNELS[name](u.flip(-1))])
        expected = torch.stack(
            [torch.autograd.grad(value, u, retain_graph=True)[0] for value in values]
        )

        def pull(direction: Tensor, **options: bool) -> Tensor:
            return torch.autograd.grad(values, u, direction, retain_graph=True, **options)[0]

        directions = torch.eye(2, dtype=values.dtype)
        with warnings.catch_warnings():
            # What has no rule of its own for many is computed one by one.
            warnings.filterwarnings("ignore", message="There is a performance drop")
            close(pull(directions, is_grads_batched=True), expected)
            close(torch.vmap(pull)(directions), expected)


class TestThreads:
    @pytest.mark.parametrize("threads", [1, 2, 3, 8])
    @pytest.mark.parametrize("form", [SIGNS, ("isotropic", 0.0, 3)])
    def test_same_bits_for_every_number_of_threads(
        self, threads: int, form: tuple[str, float, int]
    ) -> None:
        rng = np.random.default_rng(0)
        u, y = (torch.from_numpy(rng.random((3, 400, 301), dtype=np.float32)) for _ in range(2))
        expected = _torch.tv_objective(u, y, None, 0.1, *form, True)
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(threads)
            got = _torch.tv_objective(u, y, None, 0.1, *form, True)
        finally:
            torch.set_num_threads(before)
        assert all(torch.equal(a, b) for a, b in zip(got, expected))
