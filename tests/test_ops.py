"""The kernels against the plain definitions in torch, on random shapes and memory."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from dipfast import ops
from dipfast.ops import library, reference

MEMORY = ("contiguous", "channels_last", "strided", "transposed", "expanded")


@st.composite
def images(draw: st.DrawFn, count: int = 1) -> list[Tensor]:
    """Tensors of one shape (N, C, H, W) and dtype, each anyhow in memory."""
    shape = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 8)),
        draw(st.integers(1, 19)),
        draw(st.integers(1, 70)),
    )
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    tensors = []
    for _ in range(count):
        # Quarters: equal neighbours occur, and differences are exact in float32.
        x = torch.randint(-4, 5, shape, generator=generator).to(dtype) / 4
        tensors.append(in_memory(x, draw(st.sampled_from(MEMORY))))
    return tensors


def in_memory(x: Tensor, how: str) -> Tensor:
    if how == "channels_last":
        return x.to(memory_format=torch.channels_last)
    if how == "strided":
        wide = torch.zeros(*x.shape[:-1], 2 * x.shape[-1], dtype=x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if how == "transposed":
        return x.transpose(-1, -2).contiguous().transpose(-1, -2)
    if how == "expanded":
        return x[:1].expand_as(x)
    return x.contiguous()


def close(a: Tensor, b: Tensor) -> None:
    tolerance = 1e-6 if a.dtype == torch.float32 else 1e-12
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def value_and_gradients(function, *tensors: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    leaves = [t.detach().requires_grad_() for t in tensors]
    value = function(*leaves)
    return value.detach(), torch.autograd.grad(value, leaves)


class TestTotalVariation:
    @given(images())
    def test_is_the_definition(self, tensors: list[Tensor]) -> None:
        (x,) = tensors
        value, (gradient,) = value_and_gradients(ops.total_variation, x)
        expected, (slope,) = value_and_gradients(reference.total_variation, x)
        close(value, expected)
        assert torch.equal(gradient, slope)
        assert torch.equal(reference.total_variation_gradient(x), slope)

    @given(images())
    def test_arrays_as_they_lie(self, tensors: list[Tensor]) -> None:
        (x,) = tensors
        array = x.numpy()
        value, gradient = ops.total_variation(array, return_gradient=True)
        expected, slope = ops.total_variation(x, return_gradient=True)
        assert isinstance(value, float)
        assert value == pytest.approx(expected.item(), rel=1e-6)
        assert gradient.dtype == array.dtype
        assert (gradient == slope.numpy()).all()
        for backend in ("native", "torch"):
            flipped = ops.total_variation(array[..., ::-1], backend=backend)
            assert isinstance(flipped, float)
            assert flipped == pytest.approx(value, rel=1e-6)

    @pytest.mark.parametrize("ndim", [2, 3, 5])
    def test_any_number_of_leading_axes(self, ndim: int) -> None:
        x = torch.rand(2, 3, 2, 5, 7, dtype=torch.float64)[(0,) * (5 - ndim)]
        close(ops.total_variation(x), reference.total_variation(x))

    def test_channels_last_keeps_its_format(self) -> None:
        x = torch.rand(2, 3, 5, 7).to(memory_format=torch.channels_last).requires_grad_()
        (gradient,) = torch.autograd.grad(ops.total_variation(x), x)
        assert gradient.is_contiguous(memory_format=torch.channels_last)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_computed_in_single(self, dtype: torch.dtype) -> None:
        x = torch.rand(3, 9, 9).to(dtype).requires_grad_()
        value = ops.total_variation(x)
        assert value.dtype == torch.float32
        assert torch.equal(value, ops.total_variation(x.float()))
        assert torch.autograd.grad(value, x)[0].dtype == dtype

    def test_integers(self) -> None:
        x = np.array([[0, 255], [0, 0]], dtype=np.uint8)
        assert ops.total_variation(x) == 510.0
        assert ops.total_variation(torch.from_numpy(x)).item() == 510.0

    @pytest.mark.parametrize("backend", ["native", "torch"])
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (40, 40)])
    def test_what_is_not_finite_gives_nan(
        self, shape: tuple[int, int], bad: float, backend: str
    ) -> None:
        x = torch.zeros(shape)
        x[-1, -1] = bad
        assert ops.total_variation(x, backend=backend).isnan()
        assert math.isnan(ops.total_variation(x.numpy(), backend=backend))

    def test_empty_is_zero(self) -> None:
        assert ops.total_variation(np.zeros((0, 4, 4))) == 0.0
        assert ops.total_variation(torch.zeros(3, 0, 4)).item() == 0.0

    def test_large_single_precision_sum(self) -> None:
        x = torch.rand(1500, 1500)
        exact = reference.total_variation(x.double()).item()
        assert ops.total_variation(x).item() == pytest.approx(exact, rel=1e-6)


class TestObjective:
    @given(images(count=3), st.sampled_from([0.0, 0.25, 1.5]), st.booleans())
    def test_is_the_definition(self, tensors: list[Tensor], weight: float, masked: bool) -> None:
        inputs = tensors if masked else tensors[:2]

        def through(backend: str):
            def function(u: Tensor, y: Tensor, m: Tensor | None = None) -> Tensor:
                return ops.tv_objective(u, y, weight, mask=m, backend=backend)

            return function

        value, gradients = value_and_gradients(through("native"), *inputs)
        expected, slopes = value_and_gradients(through("torch"), *inputs)
        close(value, expected)
        for gradient, slope in zip(gradients, slopes):
            close(gradient, slope)

    @given(images(count=2))
    def test_terms_apart(self, tensors: list[Tensor]) -> None:
        u, y = tensors
        value, data, tv = ops.tv_objective(u, y, 0.5, return_terms=True)
        close(value, data + 0.5 * tv)
        close(tv, ops.total_variation(u))
        close(data, 0.5 * (u - y).square().sum())
        of_arrays = ops.tv_objective(u.numpy(), y.numpy(), 0.5, return_terms=True)
        assert of_arrays == pytest.approx((value.item(), data.item(), tv.item()), rel=1e-6)

    @given(images(count=3), st.sampled_from(["auto", "torch"]))
    def test_gradient_on_request(self, tensors: list[Tensor], backend: str) -> None:
        u, y, m = tensors
        _, (slope, *_) = value_and_gradients(
            lambda u: ops.tv_objective(u, y, 0.5, mask=m, backend="torch"), u
        )
        options = {"mask": m, "backend": backend, "return_gradient": True, "return_terms": True}
        value, data, tv, gradient = ops.tv_objective(u, y, 0.5, **options)
        close(gradient, slope)
        options["mask"] = m.numpy()
        of_arrays = ops.tv_objective(u.numpy(), y.numpy(), 0.5, **options)
        assert all(isinstance(number, float) for number in of_arrays[:3])
        assert of_arrays[:3] == pytest.approx((value.item(), data.item(), tv.item()), rel=1e-6)
        close(torch.from_numpy(of_arrays[3]), slope)
        difference, gradient = ops.mse(u.numpy(), y.numpy(), backend=backend, return_gradient=True)
        assert isinstance(difference, float)
        close(torch.from_numpy(gradient), 2 * (u - y) / u.numel())

    @pytest.mark.parametrize("which", [[1], [2], [1, 2]])
    def test_gradients_of_some(self, which: list[int]) -> None:
        inputs = [torch.rand(2, 3, 5, 7, dtype=torch.float64) for _ in range(3)]
        inputs[2] = inputs[2][:, :1]  # broadcast over channels

        def through(backend: str) -> list[Tensor]:
            leaves = [x.clone().requires_grad_(k in which) for k, x in enumerate(inputs)]
            value = ops.tv_objective(*leaves[:2], 0.3, mask=leaves[2], backend=backend)
            return list(torch.autograd.grad(value, [leaves[k] for k in which]))

        for gradient, slope in zip(through("native"), through("torch")):
            close(gradient, slope)

    def test_masks_of_every_kind_broadcast(self) -> None:
        u, y = torch.rand(2, 3, 5, 7), torch.rand(2, 3, 5, 7)
        known = torch.rand(5, 7) > 0.5
        expected = ops.tv_objective(u, y, 0.1, mask=known.expand_as(u).float())
        for mask in (known, known.to(torch.uint8) * 255, known.to(torch.int64), known.double()):
            assert torch.equal(ops.tv_objective(u, y, 0.1, mask=mask), expected)
            for backend in ("native", "torch"):
                array = ops.tv_objective(
                    u.numpy(), y.numpy(), 0.1, mask=mask.numpy(), backend=backend
                )
                assert array == pytest.approx(expected.item(), rel=1e-6)

    def test_mixed_precision_is_promoted(self) -> None:
        u, y = torch.rand(4, 4), torch.rand(4, 4, dtype=torch.float64)
        assert ops.tv_objective(u, y, 0.1).dtype == torch.float64
        assert ops.tv_objective(u.numpy(), y.numpy(), 0.1) == pytest.approx(
            ops.tv_objective(u, y, 0.1).item()
        )


class TestMetrics:
    @given(images(count=2))
    def test_mse_is_the_definition(self, tensors: list[Tensor]) -> None:
        value, gradients = value_and_gradients(ops.mse, *tensors)
        expected, slopes = value_and_gradients(reference.mse, *tensors)
        close(value, expected)
        for gradient, slope in zip(gradients, slopes):
            close(gradient, slope)
        a, b = (t.numpy() for t in tensors)
        assert ops.mse(a, b) == pytest.approx(value.item(), rel=1e-6)

    @given(images(count=2), st.sampled_from([1.0, 255.0]))
    def test_psnr_is_the_definition(self, tensors: list[Tensor], data_range: float) -> None:
        a, b = tensors
        value = ops.psnr(a, b, data_range=data_range)
        close(value, reference.psnr(a, b, data_range))
        in_numpy = ops.psnr(a.numpy(), b.numpy(), data_range=data_range)
        assert in_numpy == pytest.approx(value.item(), rel=1e-6, abs=1e-5)

    def test_psnr_equals_scikit_image(self) -> None:
        from skimage.metrics import peak_signal_noise_ratio

        rng = np.random.default_rng(0)
        a, b = rng.integers(0, 256, (2, 33, 47, 3), dtype=np.uint8)
        assert ops.psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b), rel=1e-12)

    def test_psnr_of_equal_images_is_infinite(self) -> None:
        a = np.ones((3, 3))
        assert ops.psnr(a, a, data_range=1.0) == math.inf
        assert ops.psnr(torch.ones(3), torch.ones(3), data_range=1.0).item() == math.inf

    @pytest.mark.parametrize("backend", ["native", "torch"])
    def test_mse_of_what_is_not_finite_is_nan(self, backend: str) -> None:
        a = np.array([0.0, math.inf])
        value = ops.mse(a, np.zeros(2), backend=backend)
        assert isinstance(value, float)
        assert math.isnan(value)

    def test_memory_that_is_not_aligned(self) -> None:
        a = np.frombuffer(b"\0" + np.arange(6.0).tobytes(), offset=1).reshape(2, 3)
        assert not a.flags.aligned
        assert ops.mse(a, np.zeros((2, 3))) == pytest.approx(55 / 6)
        assert ops.total_variation(a) == 13.0


class TestAutograd:
    def tensors(self) -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        return [
            torch.rand(2, 3, 4, 5, dtype=torch.float64, generator=generator).requires_grad_()
            for _ in range(3)
        ]

    def test_gradcheck(self) -> None:
        u, y, m = self.tensors()
        assert gradcheck(ops.total_variation, (u,))
        assert gradcheck(lambda u, y, m: ops.tv_objective(u, y, 0.3, mask=m), (u, y, m))
        assert gradcheck(ops.mse, (u, y))
        assert gradcheck(lambda a, b: ops.psnr(a, b, data_range=1.0), (u, y))

    def test_second_derivatives(self) -> None:
        u, y, m = self.tensors()
        assert gradgradcheck(lambda u, y, m: ops.tv_objective(u, y, 0.3, mask=m), (u, y, m))
        assert gradgradcheck(lambda a, b: ops.psnr(a, b, data_range=1.0), (u, y))

    @pytest.mark.parametrize("gradient", [True, False])
    @pytest.mark.parametrize("how", ["contiguous", "channels_last", "strided"])
    @pytest.mark.parametrize("requires_grad", [True, False])
    def test_opcheck(self, gradient: bool, how: str, requires_grad: bool) -> None:
        u, y, m = (in_memory(t.detach(), how).requires_grad_(requires_grad) for t in self.tensors())
        calls = [
            (torch.ops.dipfast.total_variation.default, (u, gradient)),
            (torch.ops.dipfast.tv_objective.default, (u, y, m, 0.3, gradient)),
            (torch.ops.dipfast.tv_objective.default, (u, y, None, 0.3, gradient)),
            (torch.ops.dipfast.mse.default, (u, y, gradient)),
        ]
        with warnings.catch_warnings():
            # opcheck itself asks non-leaf tensors for their .grad.
            warnings.filterwarnings("ignore", message="The .grad attribute", category=UserWarning)
            for op, arguments in calls:
                torch.library.opcheck(op, arguments)

    @given(images(count=3), st.booleans())
    def test_kernels_of_other_devices(self, tensors: list[Tensor], gradient: bool) -> None:
        # What runs on CUDA tensors is plain torch, so it can be held to account on the CPU.
        u, y, m = tensors
        pairs = [
            (library._total_variation_torch(u, gradient), library.total_variation(u, gradient)),
            (
                library._tv_objective_torch(u, y, m, 0.5, gradient),
                library.tv_objective(u, y, m, 0.5, gradient),
            ),
            (library._mse_torch(u, y, gradient), library.mse(u, y, gradient)),
        ]
        for plain, native in pairs:
            for a, b in zip(plain, native):
                close(a, b)
                assert a.stride() == b.stride()

    def test_traced_without_a_break(self) -> None:
        def function(u: Tensor, y: Tensor) -> Tensor:
            value = ops.tv_objective(u, y, 0.3) + ops.total_variation(u)
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
        assert library.total_variation(x, False)[1].numel() == 0
        with torch.no_grad():
            assert not ops.total_variation(x.requires_grad_()).requires_grad


class TestArguments:
    def test_wrong_arguments_are_named(self) -> None:
        x = np.zeros((4, 4))
        cases = [
            (lambda: ops.total_variation(np.zeros(4)), ValueError, "x must have rows and columns"),
            (lambda: ops.total_variation(x + 1j), TypeError, "x must hold real.*complex128"),
            (lambda: ops.total_variation(x, kind="l3"), ValueError, "kind must be.*'l3'"),
            (lambda: ops.total_variation(x, backend="gpu"), ValueError, "backend must be.*'gpu'"),
            (lambda: ops.tv_objective(x, x[1:], 1), ValueError, r"y must have the shape of u"),
            (
                lambda: ops.tv_objective(x, x, -1),
                ValueError,
                "tv_weight must be finite and not neg",
            ),
            (lambda: ops.tv_objective(x, x, math.nan), ValueError, "tv_weight.*nan"),
            (lambda: ops.tv_objective(x, x, 1, mask=np.ones(3)), ValueError, "mask must broadcast"),
            (lambda: ops.tv_objective(x, torch.zeros(4, 4), 1), TypeError, "all arrays or all"),
            (lambda: ops.mse(x, x[1:]), ValueError, "b must have the shape of a"),
            (lambda: ops.mse(np.zeros(0), np.zeros(0)), ValueError, "at least one element"),
            (lambda: ops.mse(x, torch.zeros(4, 4)), TypeError, "both arrays or both tensors"),
            (lambda: ops.psnr(x, x), ValueError, "data_range is needed"),
            (lambda: ops.psnr(x, x, data_range=0), ValueError, "data_range must be positive"),
            (lambda: ops.estimate_noise(np.zeros((2, 4, 4))), ValueError, "channel_axis"),
            (lambda: ops.estimate_noise(x * math.nan), ValueError, "image must be finite"),
        ]
        for call, error, message in cases:
            with pytest.raises(error, match=message):
                call()

    def test_arrays_do_not_import_torch(self) -> None:
        code = (
            "import sys, numpy as np, dipfast; x = np.ones((5, 4));"
            "dipfast.ops.total_variation(x); dipfast.ops.tv_objective(x, x, 1, mask=x > 0);"
            "dipfast.ops.psnr(x, x, data_range=1); dipfast.ops.estimate_noise(x);"
            "sys.exit('torch' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestThreads:
    @pytest.mark.parametrize("threads", [1, 2, 3, 8])
    def test_same_bits_for_every_number_of_threads(self, threads: int) -> None:
        rng = np.random.default_rng(0)
        u, y = (torch.from_numpy(rng.random((3, 400, 301), dtype=np.float32)) for _ in range(2))
        expected = library.tv_objective(u, y, None, 0.1, True)
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(threads)
            got = library.tv_objective(u, y, None, 0.1, True)
        finally:
            torch.set_num_threads(before)
        assert all(torch.equal(a, b) for a, b in zip(got, expected))


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
