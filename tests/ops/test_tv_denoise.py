"""Test total-variation denoising against its own gap and solutions found by other methods."""

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
    """Return u[next] - u along the last axes, 0 at the far border."""
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
    """Return the objective minus the dual objective, each computed by its definition."""
    f, p = f.astype(np.float64), p.astype(np.float64)
    q = adjoint(p)
    return objective(u, f, weight, kind, len(p), joint) - ((f * q).sum() - 0.5 * (q**2).sum())


def start(f: np.ndarray, weight: float, kind: str, dims: int, joint: bool = False) -> float:
    """Return the objective that the gap of one image is relative to."""
    f = f.astype(np.float64)
    mean = f.mean(axis=tuple(range(-dims, 0)), keepdims=True)
    return min(objective(f, f, weight, kind, dims, joint), 0.5 * ((f - mean) ** 2).sum())


def bounded(f: np.ndarray, weight: float, dims: int, joint: bool) -> float:
    """Return the weight from which on the solution is the mean, so that none larger is used."""
    channels = f.shape[-dims - 1] if joint else 1
    root = np.sqrt(channels * sum(n * n for n in f.shape[-dims:] if n > 1))
    return min(weight, np.ptp(f.astype(np.float64)) * root)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, object]]:
    """Draw an image, in some memory format, and how to denoise it."""
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
        # The gap is that of the image with the largest gap.
        excess = []
        for k in [slice(None)] if joint else range(len(f)):
            parts = u[k], p[:, k], f[k]
            of_part = bounded(f[k], weight, len(p), joint)
            assert norms(parts[1], kind, joint).max() <= of_part * (1 + 1e-5)
            scale = start(f[k], of_part, kind, len(p), joint)
            excess.append(gap(*parts, of_part, kind, joint) - reached * scale)
        digits = 1e-12 if f.dtype == np.float64 else 1e-3
        assert max(excess) == pytest.approx(0, abs=digits * f.size)

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
        # value, on a fine grid, a method without iterations.
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
        # With one channel there is no other one to be joint with.
        one = noisy[..., :1]
        joint = ops.tv_denoise(one, 0.15, channel_axis=-1, joint_channels=True)
        assert (joint == ops.tv_denoise(one, 0.15, channel_axis=-1)).all()

    def test_channel_axis(self) -> None:
        f = np.random.default_rng(6).normal(size=(3, 10, 11))
        expected, dual = ops.tv_denoise(f, 0.4, return_dual=True)
        for axis in (1, -1):
            moved, p = ops.tv_denoise(
                np.moveaxis(f, 0, axis), 0.4, channel_axis=axis, return_dual=True
            )
            np.testing.assert_array_equal(np.moveaxis(moved, axis, 0), expected)
            np.testing.assert_array_equal(np.moveaxis(p, axis if axis < 0 else axis + 1, 1), dual)
            warm = ops.tv_denoise(
                np.moveaxis(f, 0, axis), 0.4, channel_axis=axis, init=p, max_num_iter=0
            )
            start = ops.tv_denoise(f, 0.4, init=dual, max_num_iter=0)
            np.testing.assert_array_equal(np.moveaxis(warm, axis, 0), start)

    def test_tall_images_are_cut_without_a_trace(self) -> None:
        # Several bands and several iterations in each pass; a constant along the rows makes
        # every column the same problem.
        f = np.repeat(np.random.default_rng(7).normal(size=(700, 1)), 70, axis=1)
        wide = ops.tv_denoise(f, 0.5, tol=0, max_num_iter=37)
        narrow = ops.tv_denoise(f[:, :1], 0.5, tol=0, max_num_iter=37)
        np.testing.assert_allclose(wide, narrow + 0 * wide, atol=1e-12)
        turned = ops.tv_denoise(np.ascontiguousarray(f.T), 0.5, tol=0, max_num_iter=37)
        np.testing.assert_allclose(turned.T, wide, atol=1e-12)


@st.composite
def stacks(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, object]]:
    """Draw images (N, C, ...) that need different numbers of iterations, and their options."""
    dims = draw(st.sampled_from([2, 3]))
    kind = draw(st.sampled_from(KINDS))
    joint = kind == "isotropic" and draw(st.booleans())
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 4)))
    shape += tuple(draw(st.integers(1, 9)) for _ in range(dims))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    f = rng.normal(size=shape) * 10.0 ** rng.integers(-2, 3, shape[:2] + (1,) * dims)
    f = (f + draw(st.sampled_from([0.0, 30.0]))).astype(dtype)
    how = draw(st.sampled_from(["as it is", "reversed", "channels last", "transposed", "Fortran"]))
    if how == "reversed":
        f = f[..., ::-1]
    if how == "channels last":
        f = np.moveaxis(np.ascontiguousarray(np.moveaxis(f, 1, -1)), -1, 1)
    if how == "transposed":
        f = np.swapaxes(np.ascontiguousarray(np.swapaxes(f, -1, -2)), -1, -2)
    if how == "Fortran":
        f = np.asfortranarray(f)
    options = {"kind": kind, "spatial_dims": dims, "joint_channels": joint}
    return f, {**options, "weight": draw(st.sampled_from([0.05, 0.5, 5.0])), "tol": 1e-3}


class TestMany:
    """Many images in one call are denoised as if they came alone."""

    @settings(max_examples=60)
    @given(stacks(), st.sampled_from(["array", "tensor", "array by torch", "tensor by torch"]))
    def test_same_bits_as_alone(
        self, stack: tuple[np.ndarray, dict[str, object]], form: str
    ) -> None:
        f, options = stack
        joint = options["joint_channels"]
        options = {**options, "return_dual": True, "return_gap": True, "channel_axis": 1}
        options["backend"] = "torch" if form.endswith("torch") else "native"
        given_as = torch.from_numpy if form.startswith("tensor") else np.asarray
        # Tensors have no negative strides.
        f = f.copy(order="K") if given_as is torch.from_numpy else f
        whole, duals, gap = ops.tv_denoise(given_as(f), **options)
        _, wrong_start = ops.tv_denoise(f, **{**options, "max_num_iter": 3, "return_gap": False})
        warm = ops.tv_denoise(given_as(f), init=given_as(wrong_start), **options)
        gaps, warm_gaps = [], []
        for index in product(range(len(f)), [slice(None)] if joint else range(f.shape[1])):
            inner = {**options, "channel_axis": 0 if joint else None}
            one = np.ascontiguousarray(f[index])
            u, p, reached = ops.tv_denoise(given_as(one), **inner)
            assert (np.asarray(whole[index]) == np.asarray(u)).all()
            assert (np.asarray(duals[(slice(None), *index)]) == np.asarray(p)).all()
            gaps.append(reached)
            init = np.ascontiguousarray(wrong_start[(slice(None), *index)])
            u, p, reached = ops.tv_denoise(given_as(one), init=given_as(init), **inner)
            assert (np.asarray(warm[0][index]) == np.asarray(u)).all()
            assert (np.asarray(warm[1][(slice(None), *index)]) == np.asarray(p)).all()
            warm_gaps.append(reached)
        assert gap == max(gaps)
        assert warm[2] == max(warm_gaps)

    def test_the_example(self) -> None:
        # Channels that stop at different iterations.
        rng = np.random.default_rng(0)
        f = np.zeros((48, 48, 3))
        f[8:40, 8:40] = (1.0, 0.3, 0.05)
        f += rng.normal(0, 0.1, f.shape)
        u = ops.tv_denoise(f, 0.1)
        for channel in range(3):
            np.testing.assert_array_equal(u[..., channel], ops.tv_denoise(f[..., channel], 0.1))

    @pytest.mark.parametrize("backend", ["native", "torch"])
    def test_callback_sees_one_after_the_other(self, backend: str) -> None:
        f = np.random.default_rng(0).normal(size=(3, 20, 21)) * [[[1]], [[2]], [[30]]]
        options = {"weight": 0.5, "tol": 1e-5, "backend": backend}

        def looks(image: np.ndarray) -> list[tuple[int, float]]:
            seen: list[tuple[int, float]] = []
            ops.tv_denoise(image, callback=lambda *look: seen.append(look), **options)
            return seen

        assert looks(f) == [look for image in f for look in looks(image)]

        # It ends the iteration of the image that it was called for.
        def stop(iteration: int, gap: float) -> bool:
            count.append(iteration)
            return len(count) == 1

        count: list[int] = []
        u = ops.tv_denoise(f, callback=stop, **options)
        early = ops.tv_denoise(f[0], callback=lambda *_: True, **options)
        np.testing.assert_array_equal(u[0], early)
        assert (u[0] != ops.tv_denoise(f[0], **options)).any()
        np.testing.assert_array_equal(u[1:], ops.tv_denoise(f[1:], **options))

    def test_one_weight_by_the_noise_of_all(self) -> None:
        f = np.random.default_rng(0).normal(size=(3, 30, 31)) * [[[0.1]], [[0.1]], [[0.2]]]
        sigma = ops.estimate_noise(f, channel_axis=0)
        np.testing.assert_array_equal(ops.tv_denoise(f), ops.tv_denoise(f, sigma=sigma))


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

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("shape", [(2, 200), (1, 200), (200, 3)])
    def test_few_rows(self, kind: str, shape: tuple[int, int]) -> None:
        rng = np.random.default_rng(0)
        clean = np.zeros(shape)
        clean[shape[0] // 2 :, shape[1] // 2 :] = 10.0
        noisy = clean + rng.normal(size=shape)
        for image in (noisy, torch.from_numpy(noisy)):
            u = np.asarray(ops.tv_denoise(image, kind=kind))
            assert ((u - clean) ** 2).mean() < 0.6 * ((noisy - clean) ** 2).mean()

    def test_too_small_to_tell_the_noise(self) -> None:
        small = np.random.default_rng(0).normal(size=(3, 3))
        for image in (small, torch.from_numpy(small)):
            with pytest.raises(ValueError, match="give sigma or weight"):
                ops.tv_denoise(image)
            assert ops.tv_denoise(image, sigma=0.5).shape == (3, 3)

    @pytest.mark.parametrize(
        "number", [np.array(0.3), np.float32(0.3), torch.tensor(0.3, dtype=torch.float64)]
    )
    def test_numbers_of_every_kind(self, number: object) -> None:
        f = np.random.default_rng(0).normal(size=(9, 10))
        expected = ops.tv_denoise(f, float(number))
        np.testing.assert_array_equal(ops.tv_denoise(f, number), expected)
        np.testing.assert_array_equal(
            ops.tv_denoise(f, sigma=number), ops.tv_denoise(f, sigma=float(number))
        )

    def test_any_weight_there_is(self) -> None:
        # Above a weight of about the range the mean is the solution, whatever is asked for.
        f = np.random.default_rng(0).normal(size=(6, 7)).astype(np.float32)
        for scale in (1.0, 1e-38, 1e-42):
            for backend in ("native", "torch"):
                u, dual, gap = ops.tv_denoise(
                    f * np.float32(scale),
                    1e30,
                    return_gap=True,
                    return_dual=True,
                    backend=backend,
                )
                mean = (f * np.float32(scale)).astype(np.float64).mean()
                np.testing.assert_allclose(u / scale, mean / scale + 0 * f, atol=1e-2)
                assert np.isfinite(dual).all()
                assert gap < 1e-2

    def test_flat_images(self) -> None:
        for backend in ("native", "torch"):
            u, reached = ops.tv_denoise(np.full((9, 9), 0.1), 0.5, return_gap=True, backend=backend)
            np.testing.assert_allclose(u, 0.1, rtol=1e-12)
            assert reached == 0.0
            for weight in (1e39, 1e308):  # float32 has neither
                flat = np.full((2, 8, 8), 3.0, np.float32)
                u = ops.tv_denoise(flat, weight, backend=backend)
                np.testing.assert_array_equal(u, flat)

    @pytest.mark.parametrize("backend", ["native", "torch"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_flat_images_take_nothing_from_a_start(self, backend: str, kind: str) -> None:
        init = np.random.default_rng(0).normal(size=(2, 3, 9, 11))
        f = np.concatenate([np.full((2, 9, 11), 3.0), init[:1, 0]])
        u, p = ops.tv_denoise(
            f, 0.5, kind=kind, init=init, channel_axis=0, return_dual=True, backend=backend
        )
        np.testing.assert_array_equal(u[:2], 3.0)
        np.testing.assert_array_equal(p[:, :2], 0.0)
        alone = ops.tv_denoise(f[2], 0.5, kind=kind, init=init[:, 2], backend=backend)
        np.testing.assert_array_equal(u[2], alone)

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

    @pytest.mark.parametrize("backend", ["native", "torch"])
    def test_tensors_that_are_a_negated_view(self, backend: str) -> None:
        f = torch.rand(2, 9, 11)
        negated = torch.complex(f, -f).conj().imag
        assert negated.is_neg()
        options = {"channel_axis": 0, "backend": backend}
        u, p = ops.tv_denoise(negated, 0.3, return_dual=True, **options)
        assert torch.equal(u, ops.tv_denoise(f, 0.3, **options))
        start = torch.complex(p, -p).conj().imag
        got = ops.tv_denoise(f, 0.3, init=start, **options)
        assert torch.equal(got, ops.tv_denoise(f, 0.3, init=p, **options))

    @pytest.mark.parametrize("backend", ["native", "torch"])
    def test_arrays_of_every_kind(self, backend: str) -> None:
        f = (np.random.default_rng(0).random((9, 10)) * 255).astype(np.uint8)
        wide = f.astype(np.float64)
        expected = ops.tv_denoise(wide, 20.0, backend=backend)
        f.flags.writeable = False
        same = [f, wide.astype(">f8"), f.astype(">u4"), wide.view(np.matrix)]
        same += [wide[::-1].copy()[::-1], np.asfortranarray(wide), np.ma.masked_equal(wide, 300)]
        for x in same:
            u = ops.tv_denoise(x, 20.0, backend=backend)
            assert type(u) is np.ndarray
            assert u.dtype == np.float64
            np.testing.assert_array_equal(u, expected)
        for narrow in (">f4", np.float32, np.float16):
            u = ops.tv_denoise(f.astype(narrow), 20.0, backend=backend)
            assert u.dtype == np.float32
            np.testing.assert_allclose(u, expected, rtol=1e-4)
        flags = ops.tv_denoise(f > 128, 0.1, backend=backend)
        numbers = ops.tv_denoise((f > 128).astype(np.float64), 0.1, backend=backend)
        np.testing.assert_array_equal(flags, numbers)

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
            ({"weight": np.inf}, "weight must be"),
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
            (np.zeros((4, 5), object), {}, "image must hold real numbers"),
            (np.zeros((4, 5)), {"weight": "1"}, "weight must be a number, got '1'"),
            (np.zeros((4, 5)), {"weight": np.ones(3)}, "weight must be a number, got array"),
            (np.zeros((4, 5)), {"weight": [1.0]}, "weight must be a number"),
            (np.zeros((4, 5)), {"tol": None}, "tol must be a number, got None"),
            (np.zeros((4, 5)), {"init": torch.zeros(2, 4, 5)}, "image and init"),
            (np.zeros((4, 5)), {"callback": 3}, "callback must be callable"),
            (np.zeros((4, 5)), {"max_num_iter": 1.5}, "integer"),
        ],
    )
    def test_types(self, image: np.ndarray, options: dict[str, object], message: str) -> None:
        with pytest.raises(TypeError, match=message):
            ops.tv_denoise(image, **{"weight": 1.0, **options})
