"""Planes of a stack that help each other, where they are alike."""

from __future__ import annotations

import pickle
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dipfast
from dipfast import ops
from dipfast.denoisers.direct import guide_of
from dipfast.errors import InputError, InputTypeError, MemoryLimitError
from dipfast.images.files import write_image
from dipfast.images.layout import Layout
from dipfast.operators import Identity
from dipfast.run.job import Job
from dipfast.run.memory import estimate_direct
from dipfast.run.prepare import Task, prepare
from dipfast.run.runner import run
from dipfast.settings.settings import DenoiseSettings, make_settings

SIGMA = 0.1


def scene(seed: int, shift: float, size: int = 48) -> np.ndarray:
    """Discs and stripes, in [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] + shift
    u = 0.4 + 0.15 * np.sin(0.5 * x + 0.3 * y)
    for _ in range(12):
        row, column, width, height = rng.uniform((0, 0, 2, -0.4), (size, size, 8, 0.4))
        u += height * ((y - row) ** 2 + (x - column) ** 2 < width**2)
    return u.clip(0, 1)


def moving(count: int = 5, seed: int = 0) -> np.ndarray:
    return np.stack([scene(seed, 0.5 * k) for k in range(count)]).astype(np.float32)


def unrelated(count: int = 5) -> np.ndarray:
    return np.stack([scene(20 + k, 0) for k in range(count)]).astype(np.float32)


def with_noise(clean: np.ndarray, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, SIGMA, clean.shape)
    return (clean + noise).astype(np.float32)


def fast(stack: Any, **options: Any) -> dipfast.Result:
    given: dict[str, Any] = {"stack_axis": 0, "data_range": 1.0}
    return dipfast.denoise(stack, quality="fast", **(given | options))


def psnr(image: Any, clean: np.ndarray) -> float:
    return float(ops.psnr(image, clean, data_range=1.0))


def jobs_of(stack: np.ndarray, **options: Any) -> list[Job]:
    given: dict[str, Any] = {"stack_axis": 0, "data_range": 1.0, "quality": "fast"}
    settings = make_settings(DenoiseSettings, given | options)
    layout = Layout.of(stack, stack_axis=settings.stack_axis, data_range=settings.data_range)
    return prepare(Task(stack, layout, [Identity()]), settings)


class TestQuality:
    def test_planes_that_move_help_each_other(self) -> None:
        clean = moving()
        noisy = with_noise(clean)
        alone, together = fast(noisy, neighbours=0), fast(noisy)
        assert together.found["neighbours"] == {"axis": 0, "planes": 4}
        assert "4 planes to either side along axis 0 help" in together.summary()
        assert "neighbours" not in alone.found
        assert psnr(together.image, clean) > psnr(alone.image, clean) + 1.0
        better = [psnr(b, c) - psnr(a, c) for a, b, c in zip(alone.image, together.image, clean)]
        assert min(better) > 0.5

    def test_unrelated_planes_stay_as_they_are(self) -> None:
        noisy = with_noise(unrelated())
        result = fast(noisy)
        assert result.found["neighbours"] == {"axis": None, "planes": 0}
        np.testing.assert_array_equal(result.image, fast(noisy, neighbours=0).image)

    def test_colours(self) -> None:
        clean = np.stack([moving(4), 0.5 * moving(4), 1 - moving(4)], axis=-1)
        noisy = with_noise(clean)
        alone, together = fast(noisy, neighbours=0), fast(noisy)
        assert psnr(together.image, clean) > psnr(alone.image, clean) + 0.8

    def test_a_number_asks_for_the_last_axis(self) -> None:
        clean = np.stack([moving(3, seed) for seed in (1, 2)])  # T Z Y X
        noisy = with_noise(clean)
        result = fast(noisy, stack_axis=(0, 1), neighbours=1)
        assert result.found["neighbours"] == {"axis": 1, "planes": 1}
        for part, whole in zip(noisy, result.image):
            told = {"noise": dipfast.NoiseModel(SIGMA)}
            np.testing.assert_array_equal(
                fast(part, neighbours=1, **told).image,
                fast(noisy, stack_axis=(0, 1), neighbours=1, **told).image[
                    0 if part is noisy[0] or (part == noisy[0]).all() else 1
                ],
            )
            assert whole.shape == part.shape

    def test_a_number_ends_where_a_scene_changes(self) -> None:
        stack = with_noise(np.concatenate([moving(5, 1), moving(4, 2)]))
        for asked in ("auto", 2):
            blocks = [job.problem.neighbours for job in jobs_of(stack, neighbours=asked)]
            counts = [len(each.block.planes) for each in blocks if each is not None]
            assert counts == [5] * 5 + [4] * 4

    def test_auto_finds_the_axis(self) -> None:
        clean = np.stack([moving(4, seed) for seed in (1, 2)], axis=1)  # moves along the first
        result = fast(with_noise(clean), stack_axis=(0, 1))
        assert result.found["neighbours"]["axis"] == 0

    def test_one_plane(self) -> None:
        noisy = with_noise(moving(1))
        result = fast(noisy)
        np.testing.assert_array_equal(result.image, fast(noisy, neighbours=0).image)
        np.testing.assert_array_equal(result.image, fast(noisy, neighbours=3).image)

    def test_planes_that_need_too_much_memory_together(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        noisy = with_noise(moving(12))
        room = estimate_direct((1, 1, 48, 48)) + 1000
        assert estimate_direct((12, 1, 48, 48)) > room
        monkeypatch.setattr("dipfast.run.memory.advice.available", lambda device: room)
        with pytest.raises(MemoryLimitError, match=r"12x1x48x48 pixels .* neighbours=0 takes"):
            jobs_of(noisy, neighbours=6)
        assert len(jobs_of(noisy, neighbours=0)) == 12

    def test_joined_is_neighbours_alone(self) -> None:
        clean = moving(3)
        noisy = with_noise(clean)
        alone = dipfast.denoise(noisy, stack_axis=0, data_range=1.0, neighbours=0)
        together = dipfast.denoise(noisy, stack_axis=0, data_range=1.0)
        assert together.found["neighbours"]["planes"] == 4
        assert psnr(together.image, clean) > psnr(alone.image, clean) + 0.5
        assert not together.history["iteration"]

    def test_guided_fits_are_given_the_planes_together(self) -> None:
        clean = moving(3)
        told: dict[str, Any] = {"stack_axis": 0, "data_range": 1.0, "method": "guided"}
        told |= {"max_iterations": 30, "sigma": SIGMA}
        noisy = with_noise(clean)
        alone = dipfast.denoise(noisy, neighbours=0, **told)
        together = dipfast.denoise(noisy, neighbours=2, **told)
        assert psnr(together.image, clean) > psnr(alone.image, clean)


class TestNoise:
    def test_a_plane_with_another_noise_is_by_itself(self) -> None:
        clean = moving(7)
        noisy = with_noise(clean)
        noisy[3] += np.random.default_rng(1).normal(0, 3 * SIGMA, noisy[3].shape)
        result = fast(noisy)
        assert result.found["noise_of_stack"]["own"] == [3]
        alone = fast(noisy, neighbours=0)
        np.testing.assert_array_equal(result.image[3], alone.image[3])
        for k in (0, 1, 2, 4, 5, 6):
            assert psnr(result.image[k], clean[k]) > psnr(alone.image[k], clean[k]) + 0.3

    def test_outliers_of_a_plane_are_not_handed_on(self) -> None:
        clean = moving()
        noisy = with_noise(clean)
        usual = fast(noisy)
        noisy[2, 20, 30] = 1.0
        noisy[2, 20, 30] += 3
        result = fast(noisy)
        assert float(result.image[2, 20, 30]) == noisy[2, 20, 30]  # it is kept
        others = [0, 1, 3, 4]
        assert np.abs(result.image[others] - usual.image[others]).max() < 0.1
        filled = fast(noisy, fill_outliers=True)
        assert abs(float(filled.image[2, 20, 30]) - clean[2, 20, 30]) < 0.3

    def test_outliers_are_not_in_the_guide_of_a_plane(self) -> None:
        noisy = with_noise(moving(3))
        noisy[1, 20, 30] = 4.0
        jobs = jobs_of(noisy, method="guided", quality="balanced", neighbours=2)
        problem = jobs[1].rule.prepare(jobs[1].problem)
        assert problem.split is not None
        guide = guide_of(problem)
        assert float(guide[0, 0, 20, 30]) < 0.7

    def test_high_dynamic_range_has_one_stretch(self) -> None:
        rng = np.random.default_rng(0)
        y, x = np.mgrid[:64, :64]
        sky = np.full((4, 64, 64), 100.0)
        for _ in range(25):
            row, column, height = rng.uniform((0, 0, 3), (64, 64, 4.5))
            for k, plane in enumerate(sky):
                plane += 10**height * np.exp(-((y - row - k) ** 2 + (x - column) ** 2) / 3)
        noisy = rng.poisson(sky).astype(np.uint16)
        together = dipfast.denoise(noisy, stack_axis=0, quality="fast", neighbours=4)
        alone = dipfast.denoise(noisy, stack_axis=0, quality="fast", neighbours=0)
        assert all(together.found["stretched"])
        errors = [np.square(np.sqrt(r.image) - np.sqrt(sky)).mean() for r in (together, alone)]
        assert errors[0] < errors[1]

    def test_known_noise(self) -> None:
        clean = moving()
        noisy = with_noise(clean)
        for told in ({"sigma": SIGMA}, {"noise": dipfast.NoiseModel(SIGMA)}):
            better = psnr(fast(noisy, **told).image, clean)
            assert better > psnr(fast(noisy, neighbours=0, **told).image, clean) + 1

    def test_no_noise(self) -> None:
        stack = moving()
        np.testing.assert_array_equal(fast(stack, sigma=0.0, neighbours=2).image, stack)


class TestJobs:
    def test_a_pickled_job_gives_the_same_bits(self) -> None:
        stack = with_noise(moving())
        here = [run(job).best for job in jobs_of(stack)]
        job = pickle.loads(pickle.dumps(jobs_of(stack)[3]))
        there = run(job).best
        assert here[3] is not None
        assert there is not None
        assert torch.equal(here[3].average, there.average)

    def test_an_executor_gets_planes_that_help_each_other_together(self) -> None:
        class Executor:
            def __init__(self) -> None:
                self.tasks = 0

            def submit(self, call: Any, *arguments: Any) -> Future[Any]:
                self.tasks += 1
                done: Future[Any] = Future()
                done.set_result(call(*pickle.loads(pickle.dumps(arguments))))
                return done

        # Along the first of two axes, so that planes of a block do not follow each other.
        stack = with_noise(np.stack([moving(3, 1), moving(3, 2)], axis=1))
        told: dict[str, Any] = {"stack_axis": (0, 1), "sigma": SIGMA}
        executor = Executor()
        there = fast(stack, executor=executor, **told)
        assert there.found["neighbours"]["axis"] == 0
        assert executor.tasks == 2
        np.testing.assert_array_equal(there.image, fast(stack, **told).image)

    def test_a_job_carries_some_planes_alone(self) -> None:
        stack = with_noise(np.concatenate([moving(20)] * 3))
        job = jobs_of(stack, neighbours=2)[30]
        planes = 16 + 2 * 2 + 3  # of the block, and what is of the plane itself
        assert len(pickle.dumps(job)) < planes * stack[0].nbytes + 50_000

    def test_settings_of_jobs_are_decided(self) -> None:
        assert jobs_of(with_noise(moving()))[0].settings.neighbours == 4
        assert jobs_of(with_noise(unrelated()))[0].settings.neighbours == 0

    def test_blocks_do_not_show(self) -> None:
        stack = with_noise(moving(18))
        told: dict[str, Any] = {"noise": dipfast.NoiseModel(SIGMA), "neighbours": 4}
        whole = fast(stack, **told).image
        seam = slice(6, 12)  # blocks meet at 9
        part = fast(stack[2:16], **told).image[4:10]
        assert np.abs(whole[seam] - part).mean() < 0.2 * SIGMA


class TestEnds:
    @pytest.mark.parametrize("at", [2, 17])
    def test_planes_that_are_done_are_kept(self, at: int) -> None:
        stack = with_noise(moving(18))
        told: dict[str, Any] = {"neighbours": 1}

        def stop(state: Any) -> None:
            if state.plane[0] == at:
                raise StopIteration

        whole, result = fast(stack, **told), fast(stack, callback=stop, **told)
        np.testing.assert_array_equal(result.image[:at], whole.image[:at])
        np.testing.assert_array_equal(result.image[at:], stack[at:])
        assert result.unfinished is not None
        assert result.unfinished.startswith(f"{at} of 18 planes")

    def test_time_limit(self) -> None:
        stack = with_noise(moving(3))
        with pytest.warns(UserWarning, match="0 of 3 planes"):
            result = fast(stack, neighbours=2, time_limit=1e-6)
        np.testing.assert_array_equal(result.image, stack)


class TestRefusals:
    def test_no_stack(self) -> None:
        with pytest.raises(InputError, match="neighbours=2 is for stacks; stack_axis says"):
            fast(moving(1)[0], stack_axis=None, neighbours=2)
        fast(moving(1)[0], stack_axis=None, neighbours=0)

    def test_methods(self) -> None:
        with pytest.raises(InputError, match="neighbours=2 has no meaning for this method"):
            dipfast.denoise(moving(), stack_axis=0, neighbours=2, method="two_stage")
        result = dipfast.denoise(moving(2), stack_axis=0, max_iterations=2)
        assert "neighbours" not in result.found

    def test_a_jpeg(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jpg"
        write_image(path, (255 * moving(1)[0]).round().clip(0, 255).astype(np.uint8))
        decoded = dipfast.read_image(path).image
        told: dict[str, Any] = {"stack_axis": 0, "quality": "fast"}
        told |= {"jpeg": dipfast.JpegCoding.read(path)}
        stack = np.stack([decoded, decoded])
        with pytest.raises(InputError, match="neighbours=2 has no meaning for jpeg"):
            dipfast.denoise(stack, neighbours=2, **told)
        result = dipfast.denoise(stack, **told)
        assert "neighbours" not in result.found

    @pytest.mark.parametrize("value", [-1, 65, "all"])
    def test_values(self, value: Any) -> None:
        with pytest.raises(InputError, match="neighbours must be 'auto' or an integer from 0"):
            fast(moving(2), neighbours=value)

    def test_types(self) -> None:
        with pytest.raises((InputError, InputTypeError), match="neighbours must be 'auto'"):
            fast(moving(2), neighbours=[1])
