"""Pictures that are fitted tile by tile: seams, runs that end early or go on, what is refused."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch

import dipfast
from dipfast.apps.cli import main
from dipfast.errors import InputError, InputTypeError, MemoryLimitError
from dipfast.images.files import write_image
from dipfast.images.layout import Layout
from dipfast.images.tiles import Tile
from dipfast.networks import HourglassConfig
from dipfast.operators import Blur, Downsample, Identity, Mask, gaussian_kernel
from dipfast.run import prepare as preparing
from dipfast.run import tile_jobs
from dipfast.run.job import Job
from dipfast.run.observers import Progress
from dipfast.run.prepare import Task, prepare
from dipfast.run.tiled import TiledRunner
from dipfast.settings.presets import PRESETS
from dipfast.settings.settings import DenoiseSettings, RestoreSettings, make_settings
from dipfast.stop_reason import StopReason
from dipfast.stopping import Discrepancy

SMALL = dipfast.Preset(
    30,
    (0.1, 0.05),
    HourglassConfig((8, 16), (8, 16), (4, 4)),
    optimizer="muon",
    learning_rate=0.2,
    average_decay=0.9,
)


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PRESETS:
        monkeypatch.setitem(PRESETS, name, SMALL)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Return a part of a photograph with noise of sigma 25, and without."""
    clean = skimage.data.astronaut()[20:120, 160:290]
    noise = np.random.default_rng(0).normal(0, 25, clean.shape)
    return (clean + noise).round().clip(0, 255).astype(np.uint8), clean


@pytest.fixture
def narrow(pair: Any) -> np.ndarray:
    """Return a part of the noisy picture of two tiles."""
    noisy: np.ndarray = pair[0][:64, :100]
    return noisy


def job_for(image: np.ndarray, **options: Any) -> Job:
    settings = make_settings(DenoiseSettings, {"tile": 64, **options})
    return prepare(Task(image, Layout.of(image), [Identity()]), settings)[0]


class TestResult:
    def test_joins_each_tile_with_the_picture_of_the_whole(self, pair: Any) -> None:
        noisy, clean = pair
        seen: list[Progress] = []
        result = dipfast.denoise(noisy, reference=clean, tile=64, callback=seen.append)
        whole = dipfast.denoise(noisy, reference=clean, method="nl_ridge")
        assert result.psnr > whole.psnr - 0.1
        assert (result.image != whole.image).any()
        assert result.found["tile"] == 64
        assert sorted(result.history["stage"]) == [f"tile {k}" for k in range(6)]
        assert result.history["psnr"][-1] == pytest.approx(result.psnr, abs=0.05)
        assert result.best_iteration == result.history["iteration"][-1] == 6 * 60
        assert "6 of 6 tiles of 64 pixels" in result.stop_detail
        assert result.stop_reason is StopReason.ALL_ITERATIONS
        assert {(progress.tiles, progress.tile) for progress in seen} == {(6, 64)}
        shares = [progress.share for progress in seen]
        assert shares == sorted(shares)
        assert shares[-1] == 1
        pictures = [progress.image for progress in seen if progress.image is not None]
        assert len(pictures) == 7
        assert all(picture.shape == (1, 3, 100, 130) for picture in pictures)

    def test_has_no_steps_where_tiles_meet(self, pair: Any) -> None:
        noisy, clean = pair
        result = dipfast.denoise(noisy, tile=64, method="two_stage", max_iterations=40)
        error = result.image.astype(float) - clean
        tiles = tile_jobs.tiles_of(job_for(noisy))
        ends = {tile.column for tile in tiles} | {tile.column + tile.width for tile in tiles}
        steps = np.square(np.diff(error, axis=1)).mean(axis=(0, 2))
        at_ends = [steps[end - 1] for end in ends if 0 < end < 130]
        assert np.mean(at_ends) < 1.5 * np.median(steps)

    def test_is_the_same_in_any_order(self, narrow: np.ndarray) -> None:
        forwards, backwards = (TiledRunner(job_for(narrow)) for _ in range(2))
        backwards._order = forwards._order[::-1]
        first, second = forwards.run(), backwards.run()
        assert first.best is not None
        assert second.best is not None
        torch.testing.assert_close(first.best.average, second.best.average, atol=1e-5, rtol=0)

    def test_has_the_same_bits_again(self, narrow: np.ndarray) -> None:
        images = [dipfast.denoise(narrow, tile=64, seed=3).image for _ in range(2)]
        np.testing.assert_array_equal(*images)

    def test_of_a_picture_that_is_not_larger_is_the_whole(self, pair: Any) -> None:
        whole, cut = (dipfast.denoise(pair[0], tile=tile) for tile in (0, 130))
        np.testing.assert_array_equal(whole.image, cut.image)
        assert "tile" not in cut.found

    def test_leaves_flat_tiles_to_the_picture_of_the_whole(self, pair: Any) -> None:
        noisy = pair[0][:64, :64]
        sky = np.full((64, 140, 3), 120) + np.random.default_rng(1).normal(0, 25, (64, 140, 3))
        wide = np.concatenate([noisy, sky.round().clip(0, 255).astype(np.uint8)], axis=1)
        result = dipfast.denoise(wide, tile=64)
        flat = dipfast.denoise(wide, method="nl_ridge")
        assert "more are flat" in result.stop_detail
        np.testing.assert_array_equal(result.image[:, 140:], flat.image[:, 140:])
        assert result.history["stage"][0] == "tile 0"
        assert 0 < len(result.history["stage"]) < len(tile_jobs.tiles_of(job_for(wide)))

    def test_of_high_dynamic_range(self) -> None:
        rng = np.random.default_rng(0)
        sky = rng.poisson(50, (130, 70)).astype(np.float32)
        sky[30:33, 40:43] += 40_000
        sky[100:103, 20:23] += 40_000
        result = dipfast.denoise(sky, tile=64, method="two_stage", max_iterations=30)
        assert result.found["stretched"] == [True]
        assert np.abs(result.image - sky).mean() < 20


class TestOtherTasks:
    def test_inpainting_keeps_what_is_known(self, pair: Any) -> None:
        _, clean = pair
        mask = np.random.default_rng(0).random(clean.shape[:2]) < 0.5
        whole, cut = (
            dipfast.inpaint(clean, mask, tile=tile, method="two_stage", max_iterations=60)
            for tile in (0, 64)
        )
        np.testing.assert_array_equal(cut.image[~mask], clean[~mask])
        errors = [np.abs(r.image[mask].astype(float) - clean[mask]).mean() for r in (whole, cut)]
        assert errors[1] < 1.2 * errors[0]
        assert len(cut.history["stage"]) == 6

    def test_tiles_without_a_missing_pixel_are_kept(self, pair: Any) -> None:
        clean = pair[1]
        mask = np.zeros(clean.shape[:2], bool)
        mask[5:8, 10:20] = True
        result = dipfast.inpaint(clean, mask, tile=64, method="two_stage")
        assert result.history["stage"] == ["tile 0"]
        assert "5 more are kept" in result.stop_detail
        np.testing.assert_array_equal(result.image[~mask], clean[~mask])
        assert (result.image[mask] != clean[mask]).any()

    def test_enlarging(self, pair: Any) -> None:
        clean = pair[1]
        small = clean[:, :20:2]
        result = dipfast.super_resolve(small, factor=2, tile=64)  # a join, whose base is of a tile
        assert result.image.shape == (200, 20, 3)
        clean = clean[:, :20].repeat(2, axis=0)
        assert np.abs(result.image.astype(float) - clean).mean() < 20

    def test_deblurring(self, pair: Any) -> None:
        clean = torch.from_numpy(pair[1].astype(np.float32) / 255).permute(2, 0, 1)[None]
        blur = Blur(gaussian_kernel(1.0, 7))
        blurred = blur(clean)
        whole, cut = (
            dipfast.restore(blurred, blur, tile=tile, data_range=1, method="two_stage", sigma=0)
            for tile in (0, 64)
        )
        assert len(cut.history["stage"]) == 6
        errors = [float((r.image - clean).square().mean()) for r in (whole, cut)]
        assert errors[1] < 1.3 * errors[0]


def test_a_batch_with_an_image_that_has_no_tiles(narrow: np.ndarray) -> None:
    flat = np.full_like(narrow, 90)
    for images in ((narrow, flat), (flat, narrow)):
        result = dipfast.denoise(np.stack(images), stack_axis=0, tile=64, neighbours=0)
        fitted = [image is narrow for image in images].index(True)
        assert result.history["item"] == [fitted] * 2
        assert len(result.history["weight"]) == 2
        assert result.found["max_iterations"] > 0
        assert result.found["tile"] == 64
        assert (result.image[1 - fitted] == 90).all()


class TestEndsEarly:
    def test_what_is_done_is_kept(self, pair: Any) -> None:
        # So noisy that such small fits add something.
        noise = np.random.default_rng(0).normal(0, 45, pair[1].shape)
        noisy = (pair[1] + noise).round().clip(0, 255).astype(np.uint8)

        def stop(state: Progress) -> None:
            if state.share > 0.5:
                raise StopIteration

        result = dipfast.denoise(noisy, tile=64, callback=stop)
        assert result.stop_reason is StopReason.CALLBACK
        assert len(result.history["stage"]) == 3  # the one at hand counts as much as it is worth
        assert result.unfinished is None
        fast = dipfast.denoise(noisy, method="nl_ridge").image
        assert (result.image[:40, :40] != fast[:40, :40]).any()
        assert (result.image == fast).mean() > 0.3

    def test_before_the_first_picture(self, pair: Any) -> None:
        def stop(state: Progress) -> None:
            raise StopIteration

        result = dipfast.denoise(pair[0], tile=64, callback=stop)
        np.testing.assert_array_equal(result.image, pair[0])
        assert result.unfinished is not None

    def test_a_fit_alone_says_what_it_left(self, pair: Any) -> None:
        def stop(state: Progress) -> None:
            if state.share > 0.3:
                raise StopIteration

        result = dipfast.denoise(pair[0], tile=64, callback=stop, method="dip")
        expected = "1 of 6 tiles were finished; the rest is as it was or half done"
        assert result.unfinished == expected

    @pytest.mark.parametrize("task", ["inpaint", "super_resolve", "restore"])
    def test_a_join_without_a_picture_of_the_whole_says_what_it_left(
        self, narrow: np.ndarray, task: str
    ) -> None:
        grey = narrow[..., 1]
        missing = np.random.default_rng(0).random(grey.shape) < 0.5
        blur = Blur(gaussian_kernel(1.0, 7))
        arguments = {"inpaint": (grey, missing), "super_resolve": (grey[:20], 2)}
        ends: list[float] = []

        def stop(state: Progress) -> None:
            if state.image is not None and state.share > 0.5:  # the first of two tiles is there
                ends.append(state.share)
                raise StopIteration

        result = getattr(dipfast, task)(*arguments.get(task, (grey, blur)), tile=64, callback=stop)
        assert len(ends) == 1
        assert result.found["method"] == "joined"
        expected = "1 of 2 tiles were finished; the rest is as it was or half done"
        assert result.unfinished == expected

    def test_a_fit_that_has_hardly_begun_changes_nothing(self, pair: Any) -> None:
        def stop(state: Progress) -> None:
            if state.share > 0.05:  # after some iterations of the first tile
                raise StopIteration

        result = dipfast.denoise(pair[0], tile=64, callback=stop, method="dip")
        np.testing.assert_array_equal(result.image, pair[0])

    def test_a_tile_whose_fit_gave_up_is_left_and_named(
        self, narrow: np.ndarray, tmp_path: Path
    ) -> None:
        options: dict[str, Any] = {"method": "two_stage", "sigma": 25, "tile": 64}
        options |= {"learning_rate": 1e30, "max_iterations": 12, "refine": False}
        file = tmp_path / "run.checkpoint"
        result = dipfast.denoise(narrow[:, :96], checkpoint=file, **options)
        np.testing.assert_array_equal(result.image, narrow[:, :96])
        assert result.stop_reason is StopReason.GAVE_UP
        expected = "0 of 2 tiles were finished; the rest is as it was or half done"
        assert result.unfinished == expected
        assert "tiles 0, 1 as before, whose fit ended far" in result.stop_detail
        assert not any("all iterations were run" in hint for hint in result.hints)
        again = dipfast.denoise(narrow[:, :96], checkpoint=file, resume=True, **options)
        assert (again.stop_detail, again.unfinished) == (result.stop_detail, expected)

    def test_tiles_that_the_stop_rule_ended_have_not_run_all_iterations(
        self, narrow: np.ndarray
    ) -> None:
        result = dipfast.denoise(
            narrow, tile=64, method="dip", stop=Discrepancy(factor=100), max_iterations=30
        )
        assert result.stop_reason is StopReason.NOISE_LEVEL

    def test_a_time_limit(self, pair: Any) -> None:
        with pytest.warns(UserWarning, match="time_limit was too short"):
            result = dipfast.denoise(pair[0], tile=64, time_limit=1e-3)
        assert result.stop_reason is StopReason.TIME_LIMIT


class TestGoesOn:
    def test_from_the_last_tile_to_the_same_bits(self, narrow: np.ndarray, tmp_path: Path) -> None:
        noisy = narrow
        file = tmp_path / "run.checkpoint"

        def stop(state: Progress) -> None:
            if state.share > 0.7:
                raise StopIteration

        whole = dipfast.denoise(noisy, tile=64)
        dipfast.denoise(noisy, tile=64, callback=stop, checkpoint=file)
        seen: list[Progress] = []
        result = dipfast.denoise(noisy, tile=64, checkpoint=file, resume=True, callback=seen.append)
        np.testing.assert_array_equal(result.image, whole.image)
        assert result.history == whole.history
        assert min(progress.share for progress in seen) > 0.3
        again = dipfast.denoise(noisy, tile=64, checkpoint=file, resume=True)
        np.testing.assert_array_equal(again.image, whole.image)

    def test_not_with_other_tiles(self, narrow: np.ndarray, tmp_path: Path) -> None:
        file = tmp_path / "run.checkpoint"
        dipfast.denoise(narrow, tile=64, checkpoint=file)
        with pytest.raises(dipfast.errors.CheckpointMismatchError, match="tile"):
            dipfast.denoise(narrow, tile=80, checkpoint=file, resume=True)


class TestJobs:
    def test_of_a_tile_carries_nothing_of_the_others(self, pair: Any) -> None:
        job = job_for(np.tile(pair[0], (4, 4, 1)))
        part = tile_jobs.job_of(job, tile_jobs.tiles_of(job)[5])
        assert len(pickle.dumps(part)) < 3_000_000 < len(pickle.dumps(job))
        assert part.tile == 0
        assert [fit.iterations for fit in part.fits] == [fit.iterations for fit in job.fits]

    def test_neighbours_see_the_same_input_where_they_overlap(self, pair: Any) -> None:
        job = job_for(pair[0])
        tiles = tile_jobs.tiles_of(job)
        whole = Tile(0, 0, 100, 130)
        for number in range(2):
            field = tile_jobs.job_of(job, whole).fits[number].network_input
            assert isinstance(field, torch.Tensor)
            assert 0 <= float(field.min()) < float(field.max()) <= 0.1
            for tile in tiles:
                own = tile_jobs.job_of(job, tile).fits[number].network_input
                assert torch.equal(own, field[(..., *tile.index)])
            assert (
                float(
                    torch.corrcoef(
                        torch.stack(
                            [field[0, :, :64, :64].flatten(), field[0, :, 36:, 66:].flatten()]
                        )
                    )[0, 1]
                )
                < 0.05
            )

    def test_blur_and_filters_do_not_fit_what_lies_beyond(self) -> None:
        y = torch.zeros(1, 1, 100, 130)
        settings = make_settings(DenoiseSettings, {})
        job = prepare(Task(y, Layout.of(y), [Identity()]), settings)[0]
        for operator, reach in ((Blur(torch.ones(5, 3) / 15), (2, 1)), (Downsample(2), (3, 3))):
            problem = preparing.replace(job.problem, operator=operator)
            part = tile_jobs.part_of(problem, Tile(10, 0, 64, 64))
            assert part.outliers is not None
            rows, columns = reach
            assert bool(part.outliers[..., :rows, :].all())
            assert not bool(part.outliers[..., rows : 64 - rows, : 64 - columns].any())
            assert bool(part.outliers[..., 64 - columns :].all())

    def test_what_a_wide_blur_measures_is_fitted_in_some_tile(self) -> None:
        y = torch.rand(1, 1, 100, 200)
        blur = Blur(gaussian_kernel(2.5, 31))
        settings = make_settings(RestoreSettings, {"tile": 64, "method": "two_stage"})
        job = prepare(Task(y, Layout.of(y), [blur]), settings)[0]
        fitted = torch.zeros(100, 200, dtype=torch.bool)
        for tile in tile_jobs.tiles_of(job):
            known = tile_jobs.part_of(job.problem, tile).known
            assert known is not None
            fitted[tile.index] |= known[0, 0]
        assert bool(fitted.all())

    def test_a_blur_that_is_too_wide_for_tiles(self) -> None:
        y = torch.rand(1, 1, 100, 200)
        blur = Blur(gaussian_kernel(4, 41))
        with pytest.raises(InputError, match="reaches over 20 pixels: tiles of 80 or more"):
            dipfast.restore(y, blur, tile=64, method="two_stage")

    def test_mask_is_cut(self) -> None:
        known = torch.rand(100, 130) < 0.5
        y = torch.zeros(1, 1, 100, 130)
        job = prepare(Task(y, Layout.of(y), [Identity()]), make_settings(DenoiseSettings, {}))[0]
        problem = preparing.replace(job.problem, operator=Mask(known))
        part = tile_jobs.part_of(problem, Tile(10, 20, 64, 32))
        assert torch.equal(part.operator.known, known[10:74, 20:52])  # type: ignore[attr-defined]


class TestMemory:
    @pytest.fixture
    def little_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let there be memory for a fit of 256x256 pixels, and not for more."""
        from dipfast.run.memory import advice

        def estimate(network: Any, z: Any, shape: Any, dtype: Any, device: Any = None) -> int:
            return int(np.prod(shape))

        monkeypatch.setattr(advice, "estimate_fit", estimate)
        monkeypatch.setattr(advice, "estimate_direct", lambda shape, task: 0)
        monkeypatch.setattr(advice, "available", lambda device: 2 * 3 * 256 * 256)

    def test_auto_cuts_what_does_not_fit(self, little_memory: None, pair: Any) -> None:
        large = np.tile(pair[0], (4, 4, 1))
        assert job_for(large, tile="auto").tile == 256
        assert job_for(pair[0], tile="auto").tile == 0

    def test_the_command_line_says_so_first(
        self,
        little_memory: None,
        pair: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        write_image("in.png", np.tile(pair[0], (4, 4, 1)))

        def begin(*arguments: Any, callback: Any, **options: Any) -> dipfast.Result:
            def stop(state: Progress) -> None:
                callback(state)
                raise StopIteration

            return restore(*arguments, callback=stop, **options)

        restore = dipfast.denoise
        monkeypatch.setattr(dipfast, "denoise", begin)
        main(["denoise", "in.png", "out.png"])
        told = capsys.readouterr().err
        assert told.startswith(
            "dipfast: in.png is too large to be fitted at once: it is cut into 6 tiles of 256 "
            "pixels, which are fitted one after the other; --quality fast takes minutes\n"
        )
        assert "denoising, 6 tiles:   0%" in told
        main(["denoise", "in.png", "2.png", "--tile", "64"])
        told = capsys.readouterr().err
        assert "too large" not in told
        assert re.search(r"denoising, \d+ tiles:   0%", told)
        main(["denoise", "in.png", "3.png", "--quiet"])
        assert "tiles" not in capsys.readouterr().err

    def test_zero_never_cuts(self, little_memory: None, pair: Any) -> None:
        with pytest.raises(MemoryLimitError, match="400x520"):
            job_for(np.tile(pair[0], (4, 4, 1)), tile=0)

    def test_a_hole_that_is_wider_than_tiles_is_not_cut(
        self, little_memory: None, pair: Any
    ) -> None:
        large = np.tile(pair[0], (4, 4, 1))
        mask = np.zeros(large.shape[:2], bool)
        mask[100:300, 100:300] = True
        with pytest.raises(MemoryLimitError):
            dipfast.inpaint(large, mask)


class TestRefuses:
    @pytest.mark.parametrize("tile", [1, 63, -64, "many", 10**7, 64.5])
    def test_numbers_that_make_no_tiles(self, pair: Any, tile: Any) -> None:
        with pytest.raises(InputError, match="tile must be 'auto', 0 or an integer from 64 up"):
            dipfast.denoise(pair[0], tile=tile)

    @pytest.mark.parametrize("tile", [True, None])
    def test_other_types(self, pair: Any, tile: Any) -> None:
        with pytest.raises((InputError, InputTypeError), match="tile must be"):
            dipfast.denoise(pair[0], tile=tile)

    def test_methods_without_a_network(self, pair: Any) -> None:
        with pytest.raises(InputError, match="tile has no meaning"):
            dipfast.denoise(pair[0], tile=64, quality="fast")

    def test_operators_of_your_own(self, pair: Any) -> None:
        y = torch.rand(1, 3, 100, 100)
        for operator in (torch.nn.Identity(), Blur(torch.ones(3, 3) / 9, "circular")):
            with pytest.raises(InputError, match="tile=64 needs to know"):
                dipfast.restore(y, operator, tile=64, method="two_stage")

    def test_holes_that_are_too_wide(self, pair: Any) -> None:
        mask = np.zeros((100, 130), bool)
        mask[40:80, 40:80] = True
        with pytest.raises(InputError, match="hole at row 40, column 40"):
            dipfast.inpaint(pair[1], mask, tile=64)
        mask[:] = False
        mask[84:, 36:60] = True  # off any grid, and at the border
        with pytest.raises(InputError, match="hole at row 84, column 36"):
            dipfast.inpaint(pair[1], mask, tile=64)
        known = Mask(torch.from_numpy(~mask[-1:]))  # whole columns
        with pytest.raises(InputError, match="hole at row 0, column 36"):
            dipfast.restore(pair[1], known, tile=64, method="two_stage")

    def test_a_hole_across_a_narrow_picture(self) -> None:
        """All of its 20 rows are missing there: a tile in it has nothing to be fitted to."""
        strip = np.tile(np.arange(20, dtype=np.uint8)[:, None], (1, 600))
        mask = np.zeros(strip.shape, bool)
        mask[:, 200:400] = True
        for image, missing in ((strip, mask), (strip.T, mask.T)):
            with pytest.raises(InputError, match=r"has (20 rows and 32|32 rows and 20) col"):
                dipfast.inpaint(image, missing, tile=128)

    def test_pixels_of_a_jpeg(self, pair: Any, tmp_path: Path) -> None:
        from PIL import Image

        Image.fromarray(pair[1]).save(tmp_path / "a.jpg", quality=20)
        coding = dipfast.JpegCoding.read(tmp_path / "a.jpg")
        pixels = np.asarray(Image.open(tmp_path / "a.jpg"))
        with pytest.raises(InputError, match="pixels of a JPEG"):
            dipfast.denoise(pixels, jpeg=coding, tile=64, method="two_stage")
