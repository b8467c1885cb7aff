"""Test the Triton kernels against the plain definitions, and operations on CUDA tensors.

Without a GPU the kernels run in Triton's interpreter: ``test_in_the_interpreter`` runs the tests
of this file once more in a process of its own, because TRITON_INTERPRET=1 has to be set before
the kernels are imported and would make a CUDA device unusable for the rest of the suite.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ops.tensors import close, front, in_memory, value_and_gradients
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from dipfast import ops
from dipfast.ops import _reference as reference
from dipfast.ops import _torch
from dipfast.ops._arguments import check_backend
from dipfast.ops._memory import dense

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
needs_cuda = pytest.mark.skipif(DEVICE != "cuda", reason="needs a CUDA device")
runs_kernels = pytest.mark.skipif(
    DEVICE != "cuda" and not INTERPRETED, reason="needs a CUDA device or TRITON_INTERPRET=1"
)

FORMS = [("anisotropic", 0.0), *itertools.product(("isotropic", "huber"), (0.0, 0.3))]


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="is in the interpreter")
def test_in_the_interpreter() -> None:
    which = ["-k", "TestKernels or TestAutograd", "-p", "no:cacheprovider", __file__]
    # The interpreter of older Triton makes NumPy warn.
    quiet = ["-W", "ignore:Conversion of an array:DeprecationWarning"]
    command = [sys.executable, "-m", "pytest", "-q", *quiet, *which]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor | None, int]:
    """Draw u, y, a mask or none, and the number of spatial axes; shapes around those of tiles."""
    spatial_dims = draw(st.sampled_from([2, 3]))
    leading = draw(st.lists(st.integers(1, 3), max_size=3))
    shape = [*leading, *(draw(st.integers(1, 4)) for _ in range(spatial_dims - 1))]
    shape.append(draw(st.sampled_from([1, 2, 3, 16, 17, 128, 129])))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def image(shape: list[int]) -> Tensor:
        # In quarters equal neighbours occur, and differences are exact in float32.
        x = torch.randint(-4, 5, shape, generator=generator).to(dtype) / 4
        if len(shape) == spatial_dims + 2 and draw(st.booleans()):
            return x.movedim(1, -1).contiguous().movedim(-1, 1)
        if not shape:
            return x
        return in_memory(x, draw(st.sampled_from(["contiguous", "strided", "expanded"])))

    mask = None
    kind = draw(st.sampled_from(["none", "flags", "weights"]))
    if kind != "none":
        narrow = [n if draw(st.booleans()) else 1 for n in shape]
        mask = image(narrow[draw(st.integers(0, len(narrow))) :])
        mask = mask > 0 if kind == "flags" else mask
    tensors = [image(shape), image(shape), mask]
    u, y, mask = (None if t is None else t.to(DEVICE) for t in tensors)
    return u, y, mask, spatial_dims


@needs_triton
@runs_kernels
class TestKernels:
    def options(self, kind: str, epsilon: float, spatial_dims: int) -> dict:
        form = {"kind": kind, "epsilon": epsilon, "spatial_dims": spatial_dims}
        return {**form, "backend": "triton", "return_gradient": True}

    @settings(max_examples=20)
    @given(problems(), st.sampled_from(FORMS))
    def test_total_variation(self, problem, form) -> None:
        u, _, _, spatial_dims = problem
        form = (*form, spatial_dims)
        options = {**self.options(*form), "channel_axis": front(u, spatial_dims)}
        value, gradient = ops.total_variation(u, **options)
        close(value, reference.total_variation(u, *form))
        close(gradient, reference.total_variation_gradient(u, *form))
        assert gradient.stride() == dense(u, spatial_dims).stride()

    @settings(max_examples=30)
    @given(problems(), st.sampled_from(FORMS), st.sampled_from([0.0, 0.37]))
    def test_objective(self, problem, form, weight: float) -> None:
        u, y, mask, spatial_dims = problem
        form = (*form, spatial_dims)
        options = {**self.options(*form), "mask": mask, "return_terms": True}
        options["channel_axis"] = front(u, spatial_dims)
        *terms, gradient = ops.tv_objective(u, y, weight, **options)
        for term, expected in zip(terms, reference.tv_objective(u, y, weight, mask, *form)):
            close(term, expected)
        close(gradient, reference.tv_objective_gradient(u, y, weight, mask, *form))

    @settings(max_examples=20)
    @given(problems())
    def test_mse(self, problem) -> None:
        a, b, *_ = problem
        value, gradient = ops.mse(a, b, backend="triton", return_gradient=True)
        close(value, reference.mse(a, b))
        close(gradient, reference.mse_gradient(a, b))
        with pytest.raises(ValueError, match=r"no kernel with mask or per_image.*native or torch"):
            ops.mse(a, b, mask=a > 0, backend="triton")
        psnr = ops.psnr(a, b, data_range=2.0, backend="triton")
        close(psnr, reference.psnr(a, b, 2.0))

    def test_many_tiles_for_a_program(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from dipfast.ops._triton import kernels, numbers

        monkeypatch.setattr(numbers, "PROGRAMS", 2)
        u, y = (torch.rand(3, 30, 150, dtype=torch.float64, device=DEVICE) for _ in range(2))
        for form in (("anisotropic", 0.0, 2), ("isotropic", 0.1, 3)):
            *terms, gradient = kernels.tv_objective(u, y, None, 0.3, *form, True)
            for a, b in zip(terms, reference.tv_objective(u, y, 0.3, None, *form)):
                close(a, b)
            close(gradient, reference.tv_objective_gradient(u, y, 0.3, None, *form))
        close(kernels.mse(u, y, True)[0], reference.mse(u, y))

    def test_numbers_arrive_in_double_precision(self) -> None:
        u, y = (torch.rand(6, 7, dtype=torch.float64, device=DEVICE) for _ in range(2))
        for epsilon in (1 / 3, 1e-60, 5e-324):
            form = ("isotropic", epsilon, 2)
            value = _torch.tv_objective(u, y, None, 1 / 3, *form, True, True)[0]
            expected = reference.tv_objective(u, y, 1 / 3, None, *form)[0]
            torch.testing.assert_close(value, expected, rtol=1e-14, atol=0)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (20, 40)])
    def test_what_is_not_finite_gives_nan(self, shape: tuple[int, int], bad: float) -> None:
        x = torch.zeros(shape, device=DEVICE)
        x[-1, -1] = bad
        y = torch.zeros_like(x)
        for kind in ("anisotropic", "isotropic", "huber"):
            assert ops.total_variation(x, kind=kind, backend="triton").isnan()
        value, data, tv = ops.tv_objective(x, y, 0.0, return_terms=True, backend="triton")
        assert value.isnan()
        assert data.isnan()
        assert tv.isnan()
        value, data, tv = ops.tv_objective(y, x, 0.0, return_terms=True, backend="triton")
        assert data.isnan()
        assert tv == 0
        assert ops.mse(x, y, backend="triton").isnan()

    def test_empty_is_zero(self) -> None:
        x = torch.zeros(0, 4, 5, device=DEVICE)
        value, gradient = ops.total_variation(x, backend="triton", return_gradient=True)
        assert value == 0
        assert gradient.shape == x.shape

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_computed_in_single(self, dtype: torch.dtype) -> None:
        x = torch.rand(3, 9, 9, device=DEVICE).to(dtype).requires_grad_()
        value = ops.total_variation(x, backend="triton")
        close(value.detach(), reference.total_variation(x.detach().float()))
        assert torch.autograd.grad(value, x)[0].dtype == dtype


def small_tensors(requires_grad: bool = True) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (1, 2, 3, 4)
    return [
        torch.rand(shape, dtype=torch.float64, generator=generator)
        .to(DEVICE)
        .requires_grad_(requires_grad)
        for _ in range(3)
    ]


@needs_triton
@runs_kernels
class TestAutograd:
    def objective(self, u: Tensor, y: Tensor, m: Tensor) -> Tensor:
        options = {"kind": "isotropic", "epsilon": 0.1, "backend": "triton", "channel_axis": 1}
        value: Tensor = ops.tv_objective(u, y, 0.3, mask=m, **options)
        return value

    def test_gradcheck(self) -> None:
        u, y, m = small_tensors()
        assert gradcheck(lambda u: ops.total_variation(u, channel_axis=1, backend="triton"), (u,))
        assert gradcheck(self.objective, (u, y, m), fast_mode=True)
        assert gradgradcheck(self.objective, (u, y, m), fast_mode=True)
        assert gradcheck(lambda a, b: ops.mse(a, b, backend="triton"), (u, y), fast_mode=True)

    @pytest.mark.parametrize("gradient", [True, False])
    def test_opcheck(self, gradient: bool) -> None:
        u, y, m = small_tensors()
        form = ("huber", 0.1, 2)
        calls = [
            ("total_variation", (u, *form, gradient)),
            ("tv_objective", (u, y, m, 0.3, *form, gradient)),
            ("mse", (in_memory(u.detach(), "channels_last").requires_grad_(), y, gradient)),
        ]
        with warnings.catch_warnings():
            # opcheck itself asks non-leaf tensors for their .grad.
            warnings.filterwarnings("ignore", message="The .grad attribute", category=UserWarning)
            for name, arguments in calls:
                torch.library.opcheck(getattr(torch.ops.dipfast, f"{name}_triton"), arguments)
                if DEVICE == "cuda":
                    torch.library.opcheck(getattr(torch.ops.dipfast, name), arguments)

    def test_traced_without_a_break(self) -> None:
        def function(u: Tensor, y: Tensor) -> Tensor:
            value = ops.tv_objective(u, y, 0.3, channel_axis=1, backend="triton")
            return value + ops.mse(u, y, backend="triton")

        u, y, _ = small_tensors(requires_grad=False)
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        value, gradients = value_and_gradients(compiled, u, y)
        expected, slopes = value_and_gradients(function, u, y)
        close(value, expected)
        for gradient, slope in zip(gradients, slopes):
            close(gradient, slope)


class TestBackend:
    def test_arrays_are_refused(self) -> None:
        x = np.zeros((4, 4))
        calls = [
            lambda: ops.total_variation(x, backend="triton"),
            lambda: ops.tv_objective(x, x, 1, backend="triton"),
            lambda: ops.mse(x, x, backend="triton"),
        ]
        for call in calls:
            with pytest.raises(ValueError, match=r"backend='triton' takes CUDA tensors.*ndarray"):
                call()

    def test_operations_without_a_kernel_say_so(self) -> None:
        with pytest.raises(ValueError, match=r"'triton' has no kernel for this.*native or torch"):
            check_backend("triton")

    @pytest.mark.skipif(INTERPRETED, reason="the interpreter takes tensors of the CPU")
    def test_tensors_of_the_cpu_are_refused(self) -> None:
        missing = importlib.util.find_spec("triton") is None
        message = "not installed" if missing else "takes CUDA tensors, got a tensor on cpu"
        with pytest.raises(ValueError, match=message):
            ops.mse(torch.ones(2), torch.ones(2), backend="triton")

    def test_without_triton_torch_computes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from dipfast.ops._triton import backend

        monkeypatch.setattr(backend, "_is_installed", lambda: False)
        backend._works_on.cache_clear()
        try:
            x = torch.rand(3, 4, device=DEVICE)
            assert not backend._is_usable(x)
            close(ops.total_variation(x), reference.total_variation(x))
            with pytest.raises(ValueError, match="Triton, which is not installed"):
                ops.total_variation(x, backend="triton")
        finally:
            backend._works_on.cache_clear()

    def test_triton_is_not_imported_for_tensors_of_the_cpu(self) -> None:
        code = (
            "import sys, torch, dipfast; x = torch.ones(5, 4); dipfast.ops.mse(x, x);"
            "sys.exit('dipfast.ops._triton.kernels' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@needs_cuda
class TestCuda:
    """Test what holds on CUDA tensors with and without Triton."""

    def tensors(self, shape: tuple[int, ...] = (2, 3, 70, 300)) -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        return [torch.rand(shape, generator=generator) for _ in range(3)]

    def functions(self, backend: str = "auto"):
        for (kind, epsilon), dims in itertools.product(FORMS, (2, 3)):
            options = {"kind": kind, "epsilon": epsilon, "spatial_dims": dims, "backend": backend}
            yield lambda u, y, m, o=options: ops.total_variation(u, **o) + 0 * (y + m).sum()
            yield lambda u, y, m, o=options: ops.tv_objective(u, y, 0.3, mask=m, **o)
        yield lambda u, y, m: ops.mse(u, y, backend=backend) + 0 * m.sum()
        yield lambda u, y, m: ops.psnr(u, y, data_range=1.0, backend=backend) + 0 * m.sum()

    @pytest.mark.parametrize("backend", ["auto", "native", "torch"])
    @pytest.mark.parametrize("how", ["contiguous", "channels_last", "strided"])
    def test_as_on_the_cpu(self, backend: str, how: str) -> None:
        tensors = [in_memory(t, how) for t in self.tensors()]
        on_cuda = [t.cuda() for t in tensors]
        for there, here in zip(self.functions(backend), self.functions()):
            value, gradients = value_and_gradients(there, *on_cuda)
            expected, slopes = value_and_gradients(here, *tensors)
            assert value.is_cuda
            torch.testing.assert_close(value.cpu(), expected, rtol=1e-5, atol=0)
            for gradient, slope in zip(gradients, slopes):
                assert gradient.is_cuda
                torch.testing.assert_close(gradient.cpu(), slope, rtol=1e-4, atol=1e-5)

    def test_same_bits_again(self) -> None:
        u, y, m = (t.cuda() for t in self.tensors((3, 700, 900)))
        arguments = (u, y, m, 0.1, "isotropic", 1e-3, 2, True)
        expected = _torch.tv_objective(*arguments)
        for _ in range(5):
            assert all(map(torch.equal, _torch.tv_objective(*arguments), expected))

    # Warnings are errors in tests, and torch warns once of the mode itself.
    @pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
    def test_nothing_waits_for_the_device(self) -> None:
        tensors = [t.cuda() for t in self.tensors()]
        for function in self.functions():
            value_and_gradients(function, *tensors)  # compiles
            torch.cuda.set_sync_debug_mode("error")
            try:
                value_and_gradients(function, *tensors)
            finally:
                torch.cuda.set_sync_debug_mode("default")

    def test_captured_in_a_graph(self) -> None:
        tensors = [t.cuda() for t in self.tensors()]
        for function in self.functions():
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                value_and_gradients(function, *tensors)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                value, gradients = value_and_gradients(function, *tensors)
            tensors[0].mul_(0.9)
            graph.replay()
            expected, slopes = value_and_gradients(function, *tensors)
            close(value, expected)
            for gradient, slope in zip(gradients, slopes):
                close(gradient, slope)

    def test_more_elements_than_an_int32_counts(self) -> None:
        rows, columns = 2**16 + 3, 2**15
        if torch.cuda.mem_get_info()[0] < 6 * 4 * rows * columns:
            pytest.skip("needs 50 GB of device memory")
        x = torch.zeros(rows, columns, device="cuda")
        x[-1, -1] = x[0, 0] = 1.0
        value, gradient = ops.total_variation(x, return_gradient=True)
        assert value == 4
        assert gradient.count_nonzero() == 6
        assert gradient[-1, -1] == 2
        assert ops.mse(x, torch.zeros_like(x)).item() == pytest.approx(2 / x.numel())
