"""Total-variation denoising: optimal by a measure of its own, and by solutions found otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.restoration import denoise_tv_chambolle

from dipfast import ops

KINDS = ("isotropic", "anisotropic")


# --- the problem in NumPy, double precision ----------------------------------------------


def differences(u: np.ndarray, dims: int) -> np.ndarray:
    """u[next] - u along the last axes, 0 at the far border."""
    out = np.zeros((dims, *u.shape))
    for k, axis in enumerate(range(-dims, 0)):
        inner = np.moveaxis(out[k], axis, 0)
        inner[:-1] = np.diff(np.moveaxis(u, axis, 0), axis=0)
    return out


def adjoint(p: np.ndarray) -> np.ndarray:
    total = np.zeros(p.shape[1:])
    for k, axis in enumerate(range(-len(p), 0)):
        inner, part = np.moveaxis(total, axis, 0), np.moveaxis(p[k], axis, 0)
        inner[:-1] -= part[:-1]
        inner[1:] += part[:-1]
    return total


def norms(p: np.ndarray, kind: str, joint: bool) -> np.ndarray:
    if kind == "anisotropic":
        return abs(p)
    squares = (p**2).sum(0)
    return np.sqrt(squares.sum(-len(p) - 1) if joint else squares)


def objective(
    u: np.ndarray, f: np.ndarray, weight: float, kind: str, dims: int = 2, joint: bool = False
) -> float:
    u, f = u.astype(np.float64), f.astype(np.float64)
    variation = norms(differences(u, dims), kind, joint).sum()
    return 0.5 * ((u - f) ** 2).sum() + weight * variation


def gap(
    u: np.ndarray, p: np.ndarray, f: np.ndarray, weight: float, kind: str, joint: bool = False
) -> float:
    """Objective minus the dual objective, both in full."""
    f, p = f.astype(np.float64), p.astype(np.float64)
    q = adjoint(p)
    return objective(u, f, weight, kind, len(p), joint) - ((f * q).sum() - 0.5 * (q**2).sum())


def start(f: np.ndarray, weight: float, kind: str, dims: int, joint: bool = False) -> float:
    """What the gap of one image is relative to."""
    f = f.astype(np.float64)
    mean = f.mean(axis=tuple(range(-dims, 0)), keepdims=True)
    return min(objective(f, f, weight, kind, dims, joint), 0.5 * ((f - mean) ** 2).sum())


def bounded(f: np.ndarray, weight: float, dims: int, joint: bool) -> float:
    """The weight from which on no other is used, since the solution is the mean."""
    channels = f.shape[-dims - 1] if joint else 1
    root = np.sqrt(channels * sum(n * n for n in f.shape[-dims:] if n > 1))
    return min(weight, np.ptp(f.astype(np.float64)) * root)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, object]]:
    """An image, anyhow in memory, and how to denoise it."""
    dims = draw(st.sampled_from([2, 3]))
    kind = draw(st.sampled_from(KINDS))
    joint = kind == "isotropic" and draw(st.booleans())
    shape = (
        draw(st.integers(1, 3)),
        *([draw(st.integers(1, 5))] if dims == 3 else []),
        draw(st.integers(1, 14)),
        draw(st.integers(1, 40)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    f = (draw(st.sampled_from([0.0, 100.0])) + rng.normal(0, 1, shape)).astype(dtype)
    f = draw(st.sampled_from([f, f[..., ::-1], np.repeat(f, 2, -1)[..., ::2]]))
    options = {"kind": kind, "spatial_dims": dims, "joint_channels": joint}
    return f, {**options, "channel_axis": 0}


class TestOptimal:
    @settings(max_examples=60)
    @given(problems(), st.sampled_from([0.03, 0.5, 2.0]))
    def test_gap_is_as_small_as_it_says(
        self, problem: tuple[np.ndarray, dict[str, object]], weight: float
    ) -> None:
        f, options = problem
        kind, joint = str(options["kind"]), bool(options["joint_channels"])
        tol = 1e-6 if f.dtype == np.float64 else 1e-4
        u, p, reached = ops.tv_denoise(
            f, weight, tol=tol, max_num_iter=5000, return_dual=True, return_gap=True, **options
        )
        assert u.dtype == p.dtype == f.dtype
        assert u.shape == f.shape
        assert p.shape == (options["spatial_dims"], *f.shape)
        assert reached <= tol
        assert norms(p, kind, joint).max() <= weight * (1 + 1e-5)
        assert u.mean() == pytest.approx(f.mean(), abs=1e-3)
        # That of the image that has come least far.
        gaps = []
        for k in [slice(None)] if joint else range(len(f)):
            parts = u[k], p[:, k], f[k]
            of_part = bounded(f[k], weight, len(p), joint)
            assert norms(parts[1], kind, joint).max() <= of_part * (1 + 1e-5)
            scale = start(f[k], of_part, kind, len(p), joint)
            gaps.append(gap(*parts, of_part, kind, joint) / scale if scale > 1e-9 else 0.0)
        assert max(gaps) == pytest.approx(reached, rel=1e-6, abs=1e-9 if tol < 1e-5 else 1e-5)

    @pytest.mark.parametrize("kind", KINDS)
    def test_two_pixels(self, kind: str) -> None:
        # The brighter one gives as much as the darker one takes, until they meet.
        u = ops.tv_denoise(np.array([[1.0, 4.0]]), 0.5, kind=kind, tol=1e-12)
        np.testing.assert_allclose(u, [[1.5, 3.5]], atol=1e-5)
        u = ops.tv_denoise(np.array([[1.0], [4.0]]), 9.0, kind=kind, tol=1e-12)
        np.testing.assert_allclose(u, [[2.5], [2.5]], atol=1e-5)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("seed", range(3))
    def test_one_row_by_search(self, kind: str, seed: int) -> None:
        # Along one axis p is the clipped running sum of f - u: dynamic programming over its
        # value, on a fine grid, which knows nothing of iterations.
        f = np.random.default_rng(seed).integers(0, 5, 6).astype(float)
        weight, levels = 0.75, np.linspace(-0.75, 0.75, 241)
        cost, choices = np.where(levels == 0, 0.0, np.inf)[None], []
        cost = np.full(len(levels), np.inf)
        cost[len(levels) // 2] = 0.0
        for k, value in enumerate(f):
            ends = [len(levels) // 2] if k == len(f) - 1 else range(len(levels))
            table = np.full((len(levels), len(levels)), np.inf)
            for end in ends:
                # u = f - (p[k - 1] - p[k])
                table[end] = cost + 0.5 * (value - levels + levels[end]) ** 2
            choices.append(table.argmin(1))
            cost = table.min(1)
        path = [len(levels) // 2]
        for choice in reversed(choices):
            path.append(int(choice[path[-1]]))
        p = levels[path[::-1]]
        expected = f - (p[:-1] - p[1:])
        for row in (f[None], f[:, None]):
            u = ops.tv_denoise(row, weight, kind=kind, tol=1e-10, max_num_iter=20000)
            np.testing.assert_allclose(u.ravel(), expected, atol=2 * 0.75 / 120)

    @pytest.mark.parametrize("kind", KINDS)
    def test_much_weight_leaves_the_mean_of_each_image(self, kind: str) -> None:
        f = np.random.default_rng(0).normal(size=(3, 6, 7)) + np.arange(3)[:, None, None]
        u = ops.tv_denoise(f, 50.0, kind=kind, tol=1e-9, max_num_iter=20000)
        np.testing.assert_allclose(u, f.mean((1, 2), keepdims=True) + 0 * f, atol=1e-3)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dims", [2, 3])
    def test_more_weight_less_variation(self, kind: str, dims: int) -> None:
        f = np.random.default_rng(1).normal(size=(5, 12, 13))
        options = {"kind": kind, "spatial_dims": dims}
        variations = [
            ops.total_variation(ops.tv_denoise(f, weight, tol=1e-7, **options), **options)
            for weight in (0, 0.02, 0.1, 0.3, 1.0)
        ]
        assert variations == sorted(variations, reverse=True)

    def test_as_scikit_image(self) -> None:
        f = np.random.default_rng(2).normal(0.5, 0.3, (40, 50))
        theirs = denoise_tv_chambolle(f, 0.2, eps=1e-9, max_num_iter=20000)
        ours = ops.tv_denoise(f, 0.2, tol=1e-8, max_num_iter=20000)
        np.testing.assert_allclose(ours, theirs, atol=2e-3)
        difference = objective(ours, f, 0.2, "isotropic") - objective(theirs, f, 0.2, "isotropic")
        assert difference <= 1e-8 * start(f, 0.2, "isotropic", 2)

    def test_offset_and_scale_change_nothing_else(self) -> None:
        f = np.random.default_rng(3).normal(size=(20, 30)).astype(np.float32)
        u, reached = ops.tv_denoise(f, 0.3, return_gap=True)
        for scale in (2.0**-60, 2.0**60):
            scaled, same = ops.tv_denoise(f * scale, 0.3 * scale, return_gap=True)
            np.testing.assert_allclose(scaled / scale, u, rtol=1e-5, atol=1e-5)
            assert same == pytest.approx(reached, rel=1e-4)
        offset = ops.tv_denoise(f.astype(np.float64) + 1e6, 0.3) - 1e6
        np.testing.assert_allclose(offset, u, atol=1e-4)

    def test_joint_channels_share_their_edges(self) -> None:
        rng = np.random.default_rng(4)
        f = np.zeros((16, 16, 3))
        f[:, 8:] = (1.0, 0.5, 0.2)
        noisy = f + rng.normal(0, 0.05, f.shape)
        joint = ops.tv_denoise(noisy, 0.15, channel_axis=-1, joint_channels=True)
        alone = ops.tv_denoise(noisy, 0.15, channel_axis=-1)
        # The faint edge of the last channel is kept by those of the others.
        step = [u[:, 12:, 2].mean() - u[:, :4, 2].mean() for u in (joint, alone)]
        assert step[0] > step[1] + 0.01
        # One channel is joint with none.
        one = noisy[..., :1]
        joint = ops.tv_denoise(one, 0.15, channel_axis=-1, joint_channels=True)
        assert (joint == ops.tv_denoise(one, 0.15, channel_axis=-1)).all()

    def test_leading_axes_are_independent(self) -> None:
        f = np.random.default_rng(5).normal(size=(2, 3, 10, 11)).astype(np.float32)
        u = ops.tv_denoise(f, 0.4, tol=0, max_num_iter=40)
        for i, j in product(range(2), range(3)):
            alone = ops.tv_denoise(f[i, j], 0.4, tol=0, max_num_iter=40)
            np.testing.assert_allclose(u[i, j], alone, atol=1e-5)

    def test_channel_axis(self) -> None:
        f = np.random.default_rng(6).normal(size=(3, 10, 11))
        expected, dual = ops.tv_denoise(f, 0.4, return_dual=True)
        for axis in (1, -1):
            moved, p = ops.tv_denoise(
                np.moveaxis(f, 0, axis), 0.4, channel_axis=axis, return_dual=True
            )
            np.testing.assert_array_equal(np.moveaxis(moved, axis, 0), expected)
            np.testing.assert_array_equal(np.moveaxis(p, axis if axis < 0 else axis + 1, 1), dual)

    def test_tall_images_are_cut_without_a_trace(self) -> None:
        # Several bands and several iterations in each pass; a constant along the rows makes
        # every column the same problem.
        f = np.repeat(np.random.default_rng(7).normal(size=(700, 1)), 70, axis=1)
        wide = ops.tv_denoise(f, 0.5, tol=0, max_num_iter=37)
        narrow = ops.tv_denoise(f[:, :1], 0.5, tol=0, max_num_iter=37)
        np.testing.assert_allclose(wide, narrow + 0 * wide, atol=1e-12)
        turned = ops.tv_denoise(np.ascontiguousarray(f.T), 0.5, tol=0, max_num_iter=37)
        np.testing.assert_allclose(turned.T, wide, atol=1e-12)


class TestWeight:
    def test_zero_is_a_copy(self) -> None:
        f = np.random.default_rng(0).normal(size=(4, 5))
        u, dual, reached = ops.tv_denoise(f, 0, return_dual=True, return_gap=True)
        assert (u == f).all()
        assert u is not f
        assert not dual.any()
        assert reached == 0.0
        assert (ops.tv_denoise(torch.from_numpy(f), 0).numpy() == f).all()

    @pytest.mark.parametrize("kind", KINDS)
    def test_chosen_by_the_noise(self, kind: str) -> None:
        rng = np.random.default_rng(0)
        clean = np.zeros((64, 64))
        clean[16:48, 20:50] = 1.0
        noisy = clean + rng.normal(0, 0.1, clean.shape)
        given = ops.tv_denoise(noisy, kind=kind, sigma=0.1)
        assert np.abs(ops.tv_denoise(noisy, kind=kind) - given).max() < 0.05
        assert ((given - clean) ** 2).mean() < 0.1 * ((noisy - clean) ** 2).mean()
        assert (ops.tv_denoise(noisy, kind=kind, sigma=0.0) == noisy).all()

    def test_flat_images(self) -> None:
        for backend in ("native", "torch"):
            u, reached = ops.tv_denoise(np.full((9, 9), 0.1), 0.5, return_gap=True, backend=backend)
            np.testing.assert_allclose(u, 0.1, rtol=1e-12)
            assert reached == 0.0

    @pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 3, 9)])
    @pytest.mark.parametrize("weight", [0.5, None])
    def test_empty(self, shape: tuple[int, ...], weight: float | None) -> None:
        u, dual = ops.tv_denoise(np.zeros(shape), weight, return_dual=True)
        assert u.shape == shape
        assert dual.shape == (2, *shape)


class TestRun:
    f = np.random.default_rng(0).normal(size=(40, 41))

    def looks(self, **options: object) -> list[tuple[int, float]]:
        seen: list[tuple[int, float]] = []
        ops.tv_denoise(self.f, 1.0, callback=lambda k, gap: seen.append((k, gap)), **options)
        return seen

    def test_callback_sees_iterations_and_gaps(self) -> None:
        seen = self.looks(tol=1e-5)
        iterations, gaps = zip(*seen)
        assert list(iterations) == sorted(set(iterations))
        assert gaps[-1] <= 1e-5 < gaps[-2]

    def test_warm_start_needs_fewer_iterations(self) -> None:
        cold = self.looks(tol=1e-5)[-1][0]
        _, dual = ops.tv_denoise(self.f, 1.0, tol=1e-5, return_dual=True)
        assert self.looks(tol=1e-5, init=dual)[-1][0] < cold
        _, other = ops.tv_denoise(self.f + 0.01, 0.95, tol=1e-6, return_dual=True)
        assert self.looks(tol=1e-5, init=other)[-1][0] < cold
        warm = ops.tv_denoise(self.f, 1.0, tol=1e-8, init=dual, max_num_iter=5000)
        exact = ops.tv_denoise(self.f, 1.0, tol=1e-8, max_num_iter=5000)
        np.testing.assert_allclose(warm, exact, atol=1e-3)

    @given(problems())
    @settings(max_examples=20)
    def test_any_start_is_brought_into_bounds(
        self, problem: tuple[np.ndarray, dict[str, object]]
    ) -> None:
        f, options = problem
        dims, joint = int(str(options["spatial_dims"])), bool(options["joint_channels"])
        init = 9 * np.random.default_rng(0).normal(size=(dims, *f.shape)).astype(f.dtype)
        for backend in ("native", "torch"):
            u, p, _ = ops.tv_denoise(
                f,
                0.3,
                init=init,
                max_num_iter=0,
                return_dual=True,
                return_gap=True,
                backend=backend,
                **options,
            )
            assert norms(p, str(options["kind"]), joint).max() <= 0.3 * (1 + 1e-5)
            np.testing.assert_allclose(u, f - adjoint(p), atol=1e-4)

    @pytest.mark.parametrize("backend", ["native", "torch"])
    def test_callback_can_stop(self, backend: str) -> None:
        def stop(k: int, gap: float) -> bool:
            return True

        def raise_stop(k: int, gap: float) -> None:
            raise StopIteration

        for callback in (stop, raise_stop):
            _, reached = ops.tv_denoise(
                self.f, 1.0, tol=0, callback=callback, return_gap=True, backend=backend
            )
            assert 1e-3 < reached < 1.0

    def test_interruption_passes_through(self) -> None:
        def interrupt(k: int, gap: float) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            ops.tv_denoise(self.f, 1.0, callback=interrupt)

    def test_max_num_iter(self) -> None:
        assert self.looks(tol=0, max_num_iter=37)[-1][0] == 37
        u = ops.tv_denoise(self.f, 1.0, max_num_iter=0)
        np.testing.assert_allclose(u, self.f, atol=1e-12)


class TestTensors:
    @settings(max_examples=30)
    @given(problems())
    def test_torch_is_native(self, problem: tuple[np.ndarray, dict[str, object]]) -> None:
        f, options = problem
        common = {"tol": 0.0, "max_num_iter": 30, "return_dual": True, "return_gap": True}
        u, p, reached = ops.tv_denoise(f, 0.3, **common, **options)
        tolerance = 1e-10 if f.dtype == np.float64 else 2e-4
        tensor = torch.from_numpy(f.copy())
        for image, backend in ((f, "torch"), (tensor, "torch"), (tensor, "native")):
            other, dual, same = ops.tv_denoise(image, 0.3, backend=backend, **common, **options)
            assert type(other) is type(image)
            np.testing.assert_allclose(np.asarray(other), u, atol=tolerance)
            np.testing.assert_allclose(np.asarray(dual), p, atol=tolerance)
            assert same == pytest.approx(reached, abs=1e-5)

    def test_tensors_of_every_kind(self) -> None:
        f = torch.rand(2, 3, 8, 9)
        expected = ops.tv_denoise(f, 0.1)
        assert expected.dtype == torch.float32
        last = f.to(memory_format=torch.channels_last)
        assert torch.equal(ops.tv_denoise(last, 0.1), expected)
        assert not ops.tv_denoise(f.requires_grad_(), 0.1).requires_grad
        assert ops.tv_denoise(f.detach().half(), 0.1).dtype == torch.float32
        assert ops.tv_denoise((f * 255).to(torch.uint8), 9.0).dtype == torch.float64

    def test_arrays_of_every_kind(self) -> None:
        f = (np.random.default_rng(0).random((9, 10)) * 255).astype(np.uint8)
        expected = ops.tv_denoise(f.astype(np.float64), 20.0)
        f.flags.writeable = False
        np.testing.assert_array_equal(ops.tv_denoise(f, 20.0), expected)
        assert ops.tv_denoise(f.astype(np.float16), 20.0).dtype == np.float32

    def test_bits_do_not_depend_on_the_threads(self) -> None:
        f = torch.randn(2, 300, 517)
        threads = torch.get_num_threads()
        results = []
        try:
            for count in (1, 2, 3, 8):
                torch.set_num_threads(count)
                results.append(
                    ops.tv_denoise(f, 0.3, max_num_iter=40, return_gap=True, return_dual=True)
                )
        finally:
            torch.set_num_threads(threads)
        for u, p, reached in results[1:]:
            assert torch.equal(u, results[0][0])
            assert torch.equal(p, results[0][1])
            assert reached == results[0][2]

    def test_arrays_need_no_torch(self) -> None:
        code = (
            "import sys, numpy as np\n"
            "from dipfast import ops\n"
            "ops.tv_denoise(np.eye(8), channel_axis=None)\n"
            "assert 'torch' not in sys.modules\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))


class TestErrors:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("weight", [None, 0, 1.0])
    def test_image_that_is_not_finite(self, bad: float, weight: float | None) -> None:
        f = np.zeros((5, 5))
        f[2, 3] = bad
        for image in (f, torch.from_numpy(f)):
            with pytest.raises(ValueError, match="image must be finite"):
                ops.tv_denoise(image, weight)

    def test_sum_that_overflows(self) -> None:
        for backend in ("native", "torch"):
            with pytest.raises(ValueError, match="image must have a finite sum"):
                ops.tv_denoise(np.full((2, 2), 1e308), 1.0, backend=backend)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"weight": -1.0}, "weight must be finite and not negative"),
            ({"weight": np.nan}, "weight must be"),
            ({"tol": -1}, "tol must be"),
            ({"max_num_iter": -1}, "max_num_iter must not be negative"),
            ({"kind": "huber"}, "kind must be one of isotropic, anisotropic"),
            ({"spatial_dims": 4}, "spatial_dims must be 2"),
            ({"spatial_dims": 3}, "image must have slices"),
            ({"channel_axis": 0}, r"channel_axis=0 does not fit image .*leave it out for \(H, W\)"),
            ({"joint_channels": True}, "joint_channels needs channel_axis"),
            ({"joint_channels": True, "kind": "anisotropic"}, "joint_channels is for kind"),
            ({"weight": None, "sigma": -0.1}, "sigma must be"),
            ({"weight": None, "sigma": "big"}, "sigma must be"),
            ({"init": np.zeros((2, 4, 4))}, r"init must have the shape of .*\(2, 4, 5\)"),
            ({"init": np.full((2, 4, 5), np.nan)}, "init must be finite"),
            ({"backend": "triton"}, "backend='triton'"),
            ({"backend": "numba"}, "backend must be"),
        ],
    )
    def test_values(self, options: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            ops.tv_denoise(np.zeros((4, 5)), **{"weight": 1.0, **options})

    @pytest.mark.parametrize(
        ("image", "options", "message"),
        [
            (np.zeros((4, 5), complex), {}, "image must hold real numbers"),
            (np.zeros((4, 5)), {"init": torch.zeros(2, 4, 5)}, "image and init"),
            (np.zeros((4, 5)), {"callback": 3}, "callback must be callable"),
            (np.zeros((4, 5)), {"max_num_iter": 1.5}, "integer"),
        ],
    )
    def test_types(self, image: np.ndarray, options: dict[str, object], message: str) -> None:
        with pytest.raises(TypeError, match=message):
            ops.tv_denoise(image, 1.0, **options)
