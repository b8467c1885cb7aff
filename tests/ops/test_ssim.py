"""Test SSIM against scikit-image and the plain definition, on random shapes and memory."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from tests.ops.tensors import MEMORY, close, in_memory, value_and_gradients
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from dipfast import ops
from dipfast.ops import _reference as reference
from dipfast.ops import _torch
from dipfast.ops._reference.ssim import _Windows
from dipfast.ops._torch.ssim import _ssim_torch

DTYPES = (np.uint8, np.uint16, np.int16, np.float16, np.float32, np.float64)


def wang(a: np.ndarray, b: np.ndarray, data_range: float, **options: object) -> float:
    """Return the SSIM that scikit-image computes in double precision."""
    return structural_similarity(
        a.astype(np.float64),
        b.astype(np.float64),
        data_range=data_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        **options,
    )


def pair(shape: tuple[int, ...], dtype: object, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return two similar images, bright and flat on one side and not on the other."""
    rng = np.random.default_rng(seed)
    top = float(np.iinfo(dtype).max) if np.dtype(dtype).kind in "iu" else 1.0
    a = np.where(np.arange(shape[-1]) % 40 < 20, 0.9, rng.random(shape))
    b = np.clip(a + rng.normal(0, rng.choice([1e-3, 0.1]), shape), 0, 1)
    return (a * top).astype(dtype), (b * top).astype(dtype), top


@st.composite
def tensors(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    shape = (
        draw(st.integers(1, 2)),
        draw(st.integers(1, 6)),
        draw(st.integers(11, 90)),
        draw(st.sampled_from([11, 12, 27, 150, 515, 522, 540])),
    )
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    a, b, _ = pair(shape, np.float64, draw(st.integers(0, 99)))
    a, b = (torch.from_numpy(x).to(dtype) for x in (a, b))
    return tuple(in_memory(x, draw(st.sampled_from(MEMORY))) for x in (a, b))


class TestSimilarity:
    @settings(max_examples=40)
    @given(
        st.integers(11, 90),
        st.integers(11, 160) | st.integers(505, 540),
        st.sampled_from(DTYPES),
        st.sampled_from([1, -1]),
        st.integers(0, 99),
    )
    def test_equals_scikit_image(
        self, rows: int, columns: int, dtype: object, step: int, seed: int
    ) -> None:
        a, b, top = pair((rows, columns), dtype, seed)
        a, b = a[::step, ::-step], b[::step, ::-step]
        expected, full = wang(a, b, top, full=True)
        value, windows = ops.ssim(a, b, data_range=top, return_map=True)
        assert value == pytest.approx(expected, abs=1e-9)
        assert windows.shape == (rows - 10, columns - 10)
        np.testing.assert_allclose(windows, full[5:-5, 5:-5], rtol=0, atol=2e-7)

    @pytest.mark.parametrize("channel_axis", [-1, 0, 1])
    @pytest.mark.parametrize("channels", [1, 3, 7])
    def test_channels(self, channel_axis: int, channels: int) -> None:
        a, b, top = pair((channels, 30, 41), np.uint8, 0)
        a, b = np.moveaxis(a, 0, channel_axis), np.moveaxis(b, 0, channel_axis)
        options = {"channel_axis": channel_axis, "return_map": True}
        expected, full = wang(a, b, top, channel_axis=channel_axis, full=True)
        value, windows = ops.ssim(a, b, **options)
        assert value == pytest.approx(expected, abs=1e-12)
        inside = np.moveaxis(np.moveaxis(full, channel_axis, 0)[:, 5:-5, 5:-5], 0, channel_axis)
        np.testing.assert_allclose(windows, inside, rtol=0, atol=1e-12)
        for backend in ("native", "torch"):
            x, y = torch.from_numpy(a.copy()), torch.from_numpy(b.copy())
            value, windows = ops.ssim(x, y, backend=backend, data_range=255, **options)
            assert value.item() == pytest.approx(expected, abs=1e-12)
            np.testing.assert_allclose(windows, inside, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("backend", ["native", "torch"])
    def test_per_image(self, backend: str) -> None:
        a, b, _ = pair((3, 2, 20, 24), np.float32, 0)
        options = {"data_range": 1.0, "backend": backend}
        values = ops.ssim(a, b, per_image=True, **options)
        assert values.shape == (3,)
        for x, y, value in zip(a, b, values):
            assert value == pytest.approx(ops.ssim(x, y, **options), abs=1e-7)
        behind = [np.moveaxis(x, 1, -1) for x in (a, b)]
        moved = ops.ssim(*behind, per_image=True, channel_axis=-1, **options)
        np.testing.assert_allclose(moved, values, rtol=0, atol=1e-7)

    @settings(max_examples=30)
    @given(tensors(), st.booleans())
    def test_gradient_is_that_of_the_definition(
        self, images: tuple[Tensor, Tensor], per_image: bool
    ) -> None:
        def function(a: Tensor, b: Tensor) -> Tensor:
            value = ops.ssim(a, b, data_range=1.0, per_image=per_image)
            return (value * torch.arange(1.0, 1.0 + value.numel(), dtype=a.dtype)).sum()

        def definition(a: Tensor, b: Tensor) -> Tensor:
            value = reference.ssim(a, b, 1.0, per_image)
            return (value * torch.arange(1.0, 1.0 + value.numel(), dtype=a.dtype)).sum()

        value, gradients = value_and_gradients(function, *images)
        expected, slopes = value_and_gradients(definition, *images)
        close(value, expected)
        plain = reference.ssim_gradients(*images, 1.0)
        for gradient, slope, simple in zip(gradients, slopes, plain):
            close(gradient, slope)
            if not per_image:
                close(simple, slope)

    @settings(max_examples=15)
    @given(tensors(), st.booleans(), st.booleans())
    def test_kernels_of_other_devices(
        self, images: tuple[Tensor, Tensor], per_image: bool, gradient: bool
    ) -> None:
        arguments = (*images, 1.0, per_image, True, gradient, gradient)
        for plain, native in zip(_ssim_torch(*arguments), _torch.ssim(*arguments)):
            close(plain, native)
            assert plain.stride() == native.stride()

    def test_derivatives(self) -> None:
        generator = torch.Generator().manual_seed(0)
        a, b = torch.rand(2, 2, 12, 11, dtype=torch.float64, generator=generator)
        a, b = a.requires_grad_(), b.requires_grad_()

        def each(a: Tensor, b: Tensor) -> Tensor:
            return ops.ssim(a, b, data_range=1.0, per_image=True)

        points = (a[:, None], b[:, None])
        assert gradcheck(each, points, fast_mode=True)
        assert gradgradcheck(each, points, fast_mode=True)
        one = a.detach()[:, None]
        assert gradcheck(lambda b: each(one, b), (points[1],), fast_mode=True)

    @pytest.mark.parametrize(
        ("how", "per_image", "wanted"),
        [
            ("contiguous", True, (True, True, False)),
            ("channels_last", False, (True, True, True)),
            ("strided", True, (False, False, False)),
        ],
    )
    def test_opcheck(self, how: str, per_image: bool, wanted: tuple[bool, bool, bool]) -> None:
        a, b = (
            in_memory(torch.rand(2, 3, 12, 13, dtype=torch.float64), how).requires_grad_()
            for _ in range(2)
        )
        with warnings.catch_warnings():
            # opcheck itself asks non-leaf tensors for their .grad.
            warnings.filterwarnings("ignore", message="The .grad attribute", category=UserWarning)
            arguments = (a, b, 1.0, per_image, *wanted)
            torch.library.opcheck(torch.ops.dipfast.ssim.default, arguments)

    def test_traced_without_a_break(self) -> None:
        a, b = torch.rand(2, 2, 3, 14, 15)
        compiled = torch.compile(
            lambda a, b: ops.ssim(a, b, data_range=1.0), fullgraph=True, backend="aot_eager"
        )
        value, gradients = value_and_gradients(compiled, a, b)
        expected, slopes = value_and_gradients(lambda a, b: ops.ssim(a, b, data_range=1.0), a, b)
        close(value, expected)
        for gradient, slope in zip(gradients, slopes):
            close(gradient, slope)

    @pytest.mark.parametrize("threads", [1, 2, 3, 8])
    def test_same_bits_for_every_number_of_threads(self, threads: int) -> None:
        a, b = torch.rand(2, 3, 150, 301, generator=torch.Generator().manual_seed(0))
        arguments = (a, b, 1.0, False, True, True, True)
        expected = _torch.ssim(*arguments)
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(threads)
            got = _torch.ssim(*arguments)
        finally:
            torch.set_num_threads(before)
        assert all(torch.equal(x, y) for x, y in zip(got, expected))

    def test_equal_images_have_exactly_one(self) -> None:
        a, _, _ = pair((64, 150), np.float32, 0)
        assert ops.ssim(a, a, data_range=1.0) == 1.0
        value, (gradient,) = value_and_gradients(
            lambda x: ops.ssim(x, torch.from_numpy(a), data_range=1.0), torch.from_numpy(a)
        )
        assert value == 1
        assert gradient.abs().max() < 1e-12

    @pytest.mark.parametrize("level", [0.0, 0.999, 1e4])
    def test_bright_and_flat(self, level: float) -> None:
        rng = np.random.default_rng(0)
        a, b = ((level + rng.normal(0, 1e-3, (40, 40))).astype(np.float32) for _ in range(2))
        # Away from zero the definition itself loses digits, so it gets the distances.
        mean = np.float64(level)
        expected = reference.ssim_map(torch.from_numpy(a - mean), torch.from_numpy(b - mean), 1.0)
        _, windows = ops.ssim(a, b, data_range=1.0, return_map=True)
        if level < 1:
            assert windows.mean() == pytest.approx(wang(a, b, 1.0), abs=1e-6)
        else:
            # Means of this size are equal in all their digits.
            np.testing.assert_allclose(windows, expected, rtol=0, atol=1e-2)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    @pytest.mark.parametrize("at", [(0, 0), (29, 149), (14, 70)])
    @pytest.mark.parametrize("backend", ["native", "torch"])
    def test_what_is_not_finite_gives_nan(
        self, bad: float, at: tuple[int, int], backend: str
    ) -> None:
        a = np.zeros((30, 150), np.float32)
        a[at] = bad
        assert math.isnan(ops.ssim(a, np.zeros_like(a), data_range=1.0, backend=backend))
        values = ops.ssim(
            np.stack([a, np.zeros_like(a), a]),
            np.zeros((3, 30, 150), np.float32),
            data_range=1.0,
            per_image=True,
            backend=backend,
        )
        assert np.isnan(values).tolist() == [True, False, True]

    @pytest.mark.parametrize("bad", [math.nan, -math.inf, 1e14])
    @pytest.mark.parametrize("at", [(0, 0), (0, 512), (29, 539), (14, 270)])
    @pytest.mark.parametrize("backend", ["native", "torch"])
    def test_outliers_stay_where_they_are(
        self, bad: float, at: tuple[int, int], backend: str
    ) -> None:
        rng = np.random.default_rng(0)
        a = rng.random((30, 540))
        b = 0.7 * a + 0.3 * rng.random(a.shape)
        _, expected = ops.ssim(a, b, data_range=1.0, return_map=True)
        rows, columns = np.mgrid[:20, :530]
        sees = (abs(rows + 5 - at[0]) <= 5) & (abs(columns + 5 - at[1]) <= 5)
        a[at] = bad
        _, windows = ops.ssim(a, b, data_range=1.0, return_map=True, backend=backend)
        np.testing.assert_allclose(windows[~sees], expected[~sees], rtol=0, atol=1e-12)
        assert math.isfinite(bad) or np.isnan(windows[sees]).all()

    def test_half_precision_is_computed_in_single(self) -> None:
        a, b = (torch.rand(2, 20, 20).to(torch.bfloat16).requires_grad_() for _ in range(2))
        value = ops.ssim(a, b, data_range=1.0)
        assert value.dtype == torch.float32
        assert torch.autograd.grad(value, a)[0].dtype == torch.bfloat16

    def test_memory_that_is_read_only_or_not_aligned(self) -> None:
        a, b, _ = pair((20, 30), np.float64, 0)
        odd = np.frombuffer(b"\0" + a.tobytes(), offset=1).reshape(a.shape)
        assert not odd.flags.aligned
        assert ops.ssim(odd, b, data_range=1.0) == ops.ssim(a, b, data_range=1.0)

    def test_nothing_is_computed_for_nothing(self) -> None:
        a, b = torch.rand(2, 1, 12, 12)
        _, windows, to_a, to_b = _torch.ssim(a, b, 1.0, False, False, True, False)
        assert windows.numel() == to_b.numel() == 0
        assert to_a.shape == a.shape
        assert not ops.ssim(a, b, data_range=1.0).requires_grad


BACKENDS = ("native", "torch")


class TestUnits:
    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize("exponent", [-149, -130, -100, -63, 63, 100, 125])
    def test_range_of_single_precision(self, exponent: int, backend: str) -> None:
        # Whole numbers of units, so that the smallest one has them too.
        a, b, _ = pair((18, 41), np.uint8, 0)
        a, b = a // 128, b // 128  # 0 and 1
        unit = np.float32(np.ldexp(1.0, exponent))
        expected = ops.ssim(a, b, data_range=1.0)
        x, y = (torch.from_numpy(image * unit).requires_grad_() for image in (a, b))
        value = ops.ssim(x, y, data_range=float(unit), backend=backend)
        assert value.item() == pytest.approx(expected, rel=1e-6)
        array = ops.ssim(x.detach().numpy(), y.detach().numpy(), data_range=unit, backend=backend)
        assert array == pytest.approx(expected, rel=1e-6)
        plain = torch.from_numpy(a.astype(np.float64)), torch.from_numpy(b.astype(np.float64))
        _, slopes = value_and_gradients(lambda a, b: ops.ssim(a, b, data_range=1.0), *plain)
        for gradient, slope in zip(torch.autograd.grad(value, (x, y)), slopes):
            inside, atol = (slope / float(unit)).float(), 1e-9 * slope.abs().max().item() / unit
            torch.testing.assert_close(gradient, inside, rtol=1e-5, atol=atol)

    @settings(max_examples=60)
    @given(
        st.sampled_from([np.float32, np.float64]),
        st.integers(-1000, 990),
        st.sampled_from([0.0, 1.0, -300.0]),
        st.sampled_from(["array", "tensor", "masked"]),
        st.sampled_from([None, -1, 0]),
        st.sampled_from(BACKENDS),
        st.integers(0, 99),
    )
    def test_in_any_unit(
        self,
        dtype: type,
        exponent: int,
        offset: float,
        kind: str,
        channel_axis: int | None,
        backend: str,
        seed: int,
    ) -> None:
        shape = (12, 41) if channel_axis is None else (3, 12, 41)
        a, b, _ = pair(shape, dtype, seed)
        if channel_axis == -1:
            a, b = np.moveaxis(a, 0, -1), np.moveaxis(b, 0, -1)
        a, b = (image + dtype(offset) for image in (a, b))
        unit = 2.0 ** (exponent if dtype == np.float64 else exponent // 9)
        options = {"channel_axis": channel_axis, "backend": backend, "return_map": True}

        def measure(unit: float) -> tuple[float, np.ndarray]:
            images = [image * dtype(unit) for image in (a, b)]
            if kind == "tensor":
                images = [torch.from_numpy(image) for image in images]
            if kind == "masked":
                images[0] = np.ma.masked_array(images[0], np.zeros(a.shape, bool))
            value, windows = ops.ssim(*images, data_range=2.0 * unit, **options)
            return float(value), np.asarray(windows)

        value, windows = measure(1.0)
        there, windows_there = measure(unit)
        assert windows.dtype == dtype
        if offset != -300:  # there the digits of the mean decide
            assert 0.1 < value < 0.999999
        assert there == value
        np.testing.assert_array_equal(windows_there, windows)

    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize("data_range", [1e-60, 1e60, 1e200])
    def test_a_range_beyond_the_dtype(self, data_range: float, backend: str) -> None:
        a, b, _ = pair((12, 41), np.uint8, 0)
        expected, dtypes = [], []
        for dtype in (np.uint8, np.float32, np.float64):
            x, y = (
                torch.from_numpy(image.astype(dtype)).requires_grad_()
                if dtype != np.uint8
                else torch.from_numpy(image)
                for image in (a, b)
            )
            value, windows = ops.ssim(x, y, data_range=data_range, backend=backend, return_map=True)
            assert value.dtype == windows.dtype
            expected.append(value.item())
            dtypes.append(value.dtype)
        assert dtypes == [torch.float64, torch.float32, torch.float64]
        np.testing.assert_allclose(expected, expected[0], rtol=1e-6)
        assert expected[0] > 0.01
        assert data_range < 1 or expected[0] == pytest.approx(1)

    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize("level", [1e4, 1e8])
    def test_on_an_offset(self, level: float, backend: str) -> None:
        # Multiples of the spacing of float32 numbers at this level.
        a, b, _ = pair((40, 41), np.uint8, 0)
        a, b = ((8.0 * image).astype(np.float32) for image in (a, b))
        mean = level + a.astype(float).mean()
        high = [torch.from_numpy(image + np.float32(level)).requires_grad_() for image in (a, b)]
        value, windows = ops.ssim(*high, data_range=2040.0, return_map=True, backend=backend)
        # The brightness is the same, so that only the contrast counts, which has no offset.
        x, y = (torch.from_numpy(image.astype(float)) for image in (a, b))
        plain = _Windows(x, y, 2040.0)
        ratio = ((plain.level[0] - plain.level[1]) / mean).square()
        expected = plain.contrast * (1 - ratio / 2)
        torch.testing.assert_close(windows.double(), expected, rtol=1e-6, atol=1e-6)
        slopes = torch.autograd.grad(value, high)
        assert all(slope.isfinite().all() and slope.abs().max() > 1e-9 for slope in slopes)


class TestKinds:
    @pytest.mark.parametrize("form", [np.array, torch.tensor])
    @pytest.mark.parametrize("backend", BACKENDS)
    def test_channels_are_recognised(self, form, backend: str) -> None:
        a, b, _ = pair((3, 20, 30), np.float32, 0)
        options = {"data_range": 1.0, "backend": backend}
        expected = ops.ssim(a, b, **options)
        last = [form(np.moveaxis(image, 0, -1)) for image in (a, b)]
        value, windows = ops.ssim(*last, return_map=True, **options)
        assert float(value) == pytest.approx(float(expected), rel=1e-6)
        assert windows.shape == (10, 20, 3)
        batch = [form(np.stack(2 * [np.moveaxis(image, 0, -1)])) for image in (a, b)]
        assert ops.ssim(*batch, per_image=True, **options).shape == (2,)
        with pytest.raises(ValueError, match="a must have an axis of images"):
            ops.ssim(*last, per_image=True, **options)
        with pytest.raises(ValueError, match=r"channel_axis is needed for a of shape \(3, 20, 4\)"):
            ops.ssim(last[0][:3, :20, [0] * 4], last[1][:3, :20, [0] * 4], **options)
        with pytest.raises(TypeError, match=r"channel_axis must be an integer, got 1\.5"):
            ops.ssim(*last, channel_axis=1.5, **options)

    def test_masked_pixels_are_refused(self) -> None:
        a, b, _ = pair((20, 30), np.float32, 0)
        holes = np.zeros(a.shape, bool)
        holes[3, 4:6] = True
        for images in ((np.ma.masked_array(a, holes), b), (a, np.ma.masked_array(b, holes))):
            with pytest.raises(ValueError, match="2 masked pixels, and SSIM needs whole windows"):
                ops.ssim(*images, data_range=1.0)
            parts = [image[4:] for image in images]
            assert ops.ssim(*parts, data_range=1.0) == ops.ssim(a[4:], b[4:], data_range=1.0)

    def test_what_is_no_image(self) -> None:
        a, b, _ = pair((20, 30), np.float32, 0)
        with pytest.raises(TypeError, match=r"b must be a NumPy array.*list: pass np.asarray\(b\)"):
            ops.ssim(a, b.tolist(), data_range=1.0)
        large = np.full((11, 11), 2**60 + 1)
        assert math.isnan(ops.ssim(large, large, data_range=2.0**60))

    def test_a_target_made_in_inference_mode(self) -> None:
        with torch.inference_mode():
            target = torch.rand(12, 13)
        x = torch.rand(12, 13, requires_grad=True)
        (slope,) = torch.autograd.grad(ops.ssim(x, target, data_range=1.0), x)
        expected = ops.ssim(x, target.clone(), data_range=1.0, backend="torch")
        torch.testing.assert_close(slope, torch.autograd.grad(expected, x)[0])

    def test_ranges(self) -> None:
        a, b, _ = pair((20, 30), np.float32, 0)
        expected = ops.ssim(a, b, data_range=2)
        for data_range in ((-1, 1), np.float32(2), torch.tensor(2.0)):
            assert ops.ssim(a, b, data_range=data_range) == expected
        with pytest.raises(ValueError, match=r"must be positive, or a pair.*True"):
            ops.ssim(a, b, data_range=True)
