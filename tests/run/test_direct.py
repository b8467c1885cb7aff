"""Methods without a network: when one is chosen, its result, and how it ends early."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from scipy import ndimage

import dipfast
from dipfast import ops
from dipfast.denoisers.plug_and_play import STEPS, error_of_filled, filled, plug_and_play
from dipfast.errors import InputError, MemoryLimitError
from dipfast.images.layout import Layout
from dipfast.model.noise import NoiseModel
from dipfast.model.operators import Blur, Compose, Identity, Mask, Wrapped, gaussian_kernel
from dipfast.model.problem import Problem
from dipfast.prior.stages import Stage
from dipfast.run import prepare as plan
from dipfast.run import residual as residual_module
from dipfast.run.memory import check_direct_memory
from dipfast.run.observers import Observer, Progress
from dipfast.run.prepare import Task, prepare
from dipfast.run.record import read_settings
from dipfast.run.residual import describe_residual
from dipfast.run.runner import run
from dipfast.settings.presets import PRESETS
from dipfast.settings.settings import (
    SETTINGS,
    DenoiseSettings,
    InpaintSettings,
    decide_method,
    make_settings,
)
from dipfast.stop_reason import StopReason

Network = Callable[..., None]


def photograph(sigma: float = 20, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Return a part of a photograph with noise, and without, 8 bits."""
    clean = skimage.data.astronaut()[20 : 20 + size, 180 : 180 + size]
    noise = np.random.default_rng(0).normal(0, sigma, clean.shape)
    return (clean + noise).round().clip(0, 255).astype(np.uint8), clean


def squared(a: Any, b: Any) -> float:
    return float(np.mean(np.square(np.asarray(a, float) - b)))


def fast(image: Any, **options: Any) -> dipfast.Result:
    return dipfast.denoise(image, quality="fast", **options)


class TestChoice:
    @pytest.mark.parametrize(
        ("options", "method"),
        [
            ({}, "joined"),
            ({"quality": "best"}, "joined"),
            ({"seed": 3, "time_limit": 9.0, "checkpoint": "file"}, "joined"),
            ({"max_iterations": 9}, "two_stage"),
            ({"stop": "bootstrap"}, "two_stage"),
            ({"quality": "fast"}, "nl_ridge"),
            ({"quality": "fast", "seed": 3, "device": "cpu", "refine": False}, "nl_ridge"),
            ({"quality": "fast", "time_limit": 9.0, "callback": print}, "nl_ridge"),
            ({"quality": "fast", "sigma": 3, "noise": "clipped"}, "nl_ridge"),
            ({"quality": "fast", "max_iterations": 9}, "two_stage"),
            ({"quality": "fast", "tv_weight": 0}, "two_stage"),
            ({"quality": "fast", "stop": "none"}, "two_stage"),
            ({"quality": "fast", "preset": "denoise-fast"}, "two_stage"),
            ({"quality": "fast", "learning_rate": 0.1}, "two_stage"),
            ({"quality": "fast", "network_input": np.zeros((4, 4))}, "two_stage"),
            ({"quality": "fast", "method": "dip"}, "dip"),
            ({"method": "nl_ridge"}, "nl_ridge"),
        ],
        ids=str,
    )
    def test_of_denoising(self, options: dict[str, Any], method: str) -> None:
        assert decide_method(make_settings(DenoiseSettings, options)) == method

    @pytest.mark.parametrize(
        ("task", "fast"),
        [("inpaint", "pnp"), ("super_resolve", "pnp"), ("restore", "two_stage")],
    )
    def test_of_other_tasks(self, task: Any, fast: str) -> None:
        needed = {"factor": 2} if task == "super_resolve" else {}

        def method(**options: Any) -> Any:
            return decide_method(make_settings(SETTINGS[task], {**needed, **options}))

        assert method(quality="fast") == fast
        assert method(quality="fast", max_iterations=9) == "two_stage"
        assert method() == "joined"
        assert method(max_iterations=9) == "two_stage"
        assert method(method="pnp") == "pnp"
        with pytest.raises(
            InputError, match=rf"'nl_ridge' is for dipfast\.denoise; .*{task}.*'pnp'"
        ):
            method(method="nl_ridge")

    def test_pnp_does_not_denoise(self) -> None:
        with pytest.raises(InputError, match=r"'pnp' is for dipfast\.inpaint or .*'nl_ridge'$"):
            make_settings(DenoiseSettings, {"method": "pnp"})

    @pytest.mark.parametrize("options", [{"snapshots": 3.0}, {"checkpoint": "state"}])
    def test_pnp_leaves_nothing_of_a_fit(self, options: dict[str, Any]) -> None:
        (name,) = options
        with pytest.raises(InputError, match=f"{name} has no meaning for method='pnp'"):
            make_settings(InpaintSettings, {"method": "pnp", **options})
        with pytest.raises(InputError, match=r"'fast' of dipfast\.inpaint, .*'two_stage'"):
            make_settings(InpaintSettings, {"quality": "fast", **options})

    def test_stages_of_your_own_are_kept(self) -> None:
        stages = [Stage("dip", 3)]
        settings = make_settings(DenoiseSettings, {"method": stages, "quality": "fast"})
        assert decide_method(settings) == tuple(stages)

    @pytest.mark.parametrize(
        "options",
        [
            {"max_iterations": 3},
            {"tv_weight": 0.0},
            {"stop": "none"},
            {"preset": "denoise-fast"},
            {"learning_rate": 0.1},
            {"network_input": np.zeros((4, 4))},
            {"snapshots": 3.0},
            {"checkpoint": "state"},
        ],
        ids=lambda options: next(iter(options)),
    )
    def test_what_is_said_of_a_fit_is_refused(self, options: dict[str, Any]) -> None:
        (name,) = options
        with pytest.raises(InputError, match=f"{name} has no meaning for method='nl_ridge'"):
            make_settings(DenoiseSettings, {"method": "nl_ridge", **options})

    @pytest.mark.parametrize("options", [{"snapshots": 3.0}, {"checkpoint": "state"}])
    def test_what_is_not_in_a_record_chooses_no_method(self, options: dict[str, Any]) -> None:
        with pytest.raises(InputError, match=r"'fast' of dipfast\.denoise, .*'two_stage'"):
            make_settings(DenoiseSettings, {"quality": "fast", **options})
        make_settings(DenoiseSettings, {"quality": "fast", "method": "two_stage", **options})

    def test_a_fit_that_was_asked_for(self) -> None:
        result = fast(photograph(size=24)[0], max_iterations=2)
        assert result.found["method"] == "two_stage"
        assert result.found["max_iterations"] == 2
        assert result.found["preset"] == "denoise-fast"
        assert result.settings["method"] == "auto"

    def test_needs_all_pixels(self) -> None:
        noisy, _ = photograph(size=24)
        layout = Layout.of(noisy)
        task = Task(noisy, layout, [Mask(torch.rand(1, 24, 24) < 0.5)])
        settings = make_settings(DenoiseSettings, {"method": "nl_ridge"})
        with pytest.raises(InputError, match="for images whose pixels were all measured"):
            prepare(task, settings)


class TestResult:
    def test_is_that_of_the_function(self) -> None:
        noisy, clean = photograph()
        result = fast(noisy, sigma=20, noise="gaussian", reference=clean)
        alone = ops.nl_ridge(
            (noisy / 255).astype(np.float32),
            noise=NoiseModel(20 / 255),
            speed="fast",
            channel_axis=-1,
        )
        # But for the neighbours of outliers, which are replaced before.
        assert np.mean(result.image == (alone * 255.0).round().clip(0, 255)) > 0.95
        assert result.image.dtype == np.uint8
        assert squared(result.image, clean) < 0.35 * squared(noisy, clean)
        assert result.psnr == pytest.approx(ops.psnr(result.image, clean), rel=1e-6)
        assert set(result.metrics) == {"psnr_input", "psnr"}

    def test_has_no_iterations(self) -> None:
        noisy, clean = photograph(size=40)
        result = fast(noisy, reference=clean)
        assert result.stop_reason is StopReason.ALL_ITERATIONS
        assert result.stop_detail == "nl_ridge done"
        columns = ["iteration", "stage", "loss", "data", "tv", "psnr", "psnr_average"]
        assert result.history == {name: [] for name in columns}
        assert (result.best_iteration, result.stop_iteration) == (1, 1)
        assert np.isnan(result.best_loss)
        for image in (result.raw_image, result.best_output, result.stop_image, result.stop_output):
            assert (image == result.image).all()
        assert result.unfinished is None
        assert result.hints == ()
        assert "; nl_ridge, fast; " in result.summary()
        assert "stopped at" not in repr(result)

    def test_record(self, tmp_path: Path) -> None:
        noisy, _ = photograph(size=40)
        result = fast(noisy, noise=NoiseModel(0.1, 0.01, low=0.0))
        assert result.settings["method"] == "auto"
        assert (result.found["method"], result.found["speed"]) == ("nl_ridge", "fast")
        assert result.found["noise"][0]["gain"] == 0.01
        assert result.found["device"] == "cpu"
        assert not {"preset", "preset_settings", "stages", "max_iterations"} & set(result.found)
        result.save(tmp_path / "out.png")
        name, read = read_settings(tmp_path / "out.png.json")
        again = dipfast.denoise(noisy, **read)
        assert name == "denoise"
        assert (again.image == result.image).all()
        assert again.found == result.found

    @pytest.mark.parametrize("quality", ["fast", "balanced", "best"])
    def test_speed_is_the_quality(self, monkeypatch: pytest.MonkeyPatch, quality: Any) -> None:
        speeds = []

        def watched(image: Any, **options: Any) -> Any:
            speeds.append(options["speed"])
            return image

        monkeypatch.setattr(ops, "nl_ridge", watched)
        noisy, _ = photograph(size=24)
        result = dipfast.denoise(noisy, method="nl_ridge", quality=quality)
        assert speeds == [quality]
        assert result.found["speed"] == quality

    @pytest.mark.parametrize(
        "noise",
        [
            "gaussian",
            "clipped",
            "poisson_gaussian",
            "correlated",
            NoiseModel(0.05, 0.02, low=0.0, high=1.0),
            NoiseModel(0.08, spectrum=((1.5, 1.4, 1.3, 1.2, 1.1, 0.9, 0.5),) * 3),
        ],
        ids=str,
    )
    def test_noise_of_every_kind(self, noise: Any) -> None:
        noisy, clean = photograph()
        result = fast(noisy, noise=noise)
        assert squared(result.image, clean) < 0.6 * squared(noisy, clean)

    def test_layouts(self) -> None:
        noisy, _ = photograph(size=40)
        expected = fast(noisy).image
        tensor = torch.from_numpy(noisy).permute(2, 0, 1)
        assert (fast(tensor).image.permute(1, 2, 0).numpy() == expected).all()
        batch = torch.stack([tensor, tensor.flip(1)])
        result = fast(batch, reference=batch)
        assert torch.equal(result.image[0], fast(batch[0]).image)
        assert result.history["item"] == []
        assert len(result.found["noise"]) == 2
        planes = fast(noisy.astype(np.float64) / 255, data_range=1.0)
        assert planes.image.dtype == np.float64
        assert np.abs(planes.image * 255 - expected).max() < 1

    @pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 2), (5, 40, 2), (20, 20, 4)])
    def test_shapes(self, shape: tuple[int, ...]) -> None:
        noisy = np.random.default_rng(0).random(shape)
        result = fast(noisy, sigma=0.1, channel_axis=-1 if len(shape) == 3 else None)
        assert result.image.shape == shape
        assert np.isfinite(result.image).all()

    def test_without_noise_nothing_changes(self) -> None:
        _, clean = photograph(size=40)
        result = fast(clean, sigma=0)
        assert (result.image == clean).all()

    def test_values_outside_of_the_range_are_not_cut_off(self) -> None:
        bright = np.random.default_rng(0).normal(3, 0.05, (40, 40))
        assert fast(bright, data_range=1.0, sigma=0.05).image.mean() == pytest.approx(3, abs=0.01)

    def test_no_network_is_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(**_: Any) -> None:
            raise AssertionError("a network was counted")

        monkeypatch.setattr(plan, "check_memory", refuse)
        fast(photograph(size=24)[0])

    def test_a_picture_too_large_for_the_memory_is_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(MemoryLimitError, match="denoising 3x10000000x10000000 pixels takes"):
            check_direct_memory((1, 3, 10**7, 10**7))
        monkeypatch.setattr("dipfast.run.memory.advice.available", lambda device: 10)
        with pytest.raises(MemoryLimitError, match="can be cut into pieces"):
            fast(photograph(size=24)[0])

    def test_the_job_can_be_sent_to_another_process(self) -> None:
        noisy, _ = photograph(size=40)
        layout = Layout.of(noisy)
        settings = make_settings(DenoiseSettings, {"quality": "fast"})
        (job,) = prepare(Task(noisy, layout, [Identity()]), settings)
        assert job.is_direct
        assert job.stages == ()
        assert job.settings.method == "nl_ridge"
        outcome = run(pickle.loads(pickle.dumps(job)))
        assert (layout.to_image(outcome.best.average) == fast(noisy).image).all()


class TestOutliers:
    @pytest.mark.parametrize("fill", [False, True])
    def test_stay_or_are_filled(self, fill: bool) -> None:
        noisy = np.random.default_rng(0).normal(100, 5, (64, 64)).round().astype(np.uint8)
        noisy[10, 10] = noisy[30, 20] = 250
        image = fast(noisy, fill_outliers=fill).image
        found = [int(image[10, 10]), int(image[30, 20])]
        assert found == [250, 250] if not fill else max(found) < 115
        around = image[8:13, 8:13].astype(int)
        around[2, 2] = 100
        assert np.abs(around - 100).max() < 15


class TestStretch:
    @staticmethod
    def sky() -> tuple[np.ndarray, np.ndarray]:
        """Return a field with a bright star and some faint ones, with noise and without."""
        rows, columns = np.mgrid[0:96, 0:96]
        clean = np.full((96, 96), 100.0)
        for row, column, flux in ((30, 40, 4e5), (60, 70, 2e3), (70, 20, 1e3), (20, 75, 4e3)):
            clean += flux / 7 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 2.25)
        noise = np.random.default_rng(0).normal(size=clean.shape)
        return (clean + noise * np.sqrt(clean + 25)).astype(np.float32), clean

    def test_flux_and_sky_stay(self) -> None:
        noisy, clean = self.sky()
        result = fast(noisy)
        assert result.found["stretched"] == [True]
        dark = clean < 101
        assert squared(result.image[dark], clean[dark]) < 0.1 * squared(noisy[dark], clean[dark])
        assert abs(result.image[dark].mean() - clean[dark].mean()) < 0.3  # the noise there is 11
        for star in ((30, 40), (60, 70), (70, 20), (20, 75)):
            places = np.mgrid[0:96, 0:96] - np.array(star)[:, None, None]
            disc = np.hypot(*places) <= 4
            flux = [float((np.asarray(x, float) - 100)[disc].sum()) for x in (result.image, noisy)]
            assert flux[0] == pytest.approx(flux[1], rel=0.06)

    def test_alone_it_is_smoother(self) -> None:
        noisy, clean = self.sky()
        joined, alone = (fast(noisy, refine=refine) for refine in (True, False))
        assert (alone.image == alone.raw_image).all()
        assert (alone.image == joined.raw_image).all()
        dark = clean < 101
        assert squared(alone.image[dark], 100) < squared(joined.image[dark], 100)


class TestEnds:
    def test_progress(self) -> None:
        seen: list[Progress] = []
        fast(photograph(size=40)[0], callback=seen.append)
        shares = [progress.share for progress in seen]
        assert shares == sorted(shares)
        assert (shares[0], shares[-1]) == (0.0, 1.0)
        assert len(shares) > 2

    def test_a_callback_ends_it(self) -> None:
        def stop(progress: Progress) -> None:
            if progress.share > 0:
                raise StopIteration

        noisy, _ = photograph(size=40)
        result = fast(noisy, callback=stop)
        assert result.stop_reason is StopReason.CALLBACK
        assert (result.image == noisy).all()
        assert result.unfinished == (
            "nl_ridge was ended before its end: the result is the image itself"
        )
        assert (result.best_iteration, result.stop_iteration) == (0, 0)

    def test_at_the_end_the_result_is_kept(self) -> None:
        def stop(progress: Progress) -> None:
            if progress.share == 1:
                raise StopIteration

        noisy, _ = photograph(size=40)
        result = fast(noisy, callback=stop)
        assert result.stop_reason is StopReason.CALLBACK
        assert (result.image == fast(noisy).image).all()
        assert result.unfinished is None

    def test_errors_of_a_callback_pass(self) -> None:
        def fail(progress: Progress) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fast(photograph(size=40)[0], callback=fail)

    def test_an_interrupt_ends_it(self) -> None:
        noisy = np.tile(photograph()[0], (8, 8, 1))
        interrupt = dipfast.Interrupt()
        timer = threading.Timer(1.0, interrupt.stop, ["enough"])
        timer.start()
        result = dipfast.denoise(
            noisy, method="nl_ridge", quality="best", noise=NoiseModel(0.1), interrupt=interrupt
        )
        timer.join()
        assert result.stop_reason is StopReason.STOPPED
        assert result.stop_detail == "enough"
        assert (result.image == noisy).all()

    def test_time_limit(self) -> None:
        noisy, _ = photograph(size=40)
        with pytest.warns(UserWarning, match="the image itself; time_limit was too short"):
            result = fast(noisy, time_limit=1e-9)
        assert result.stop_reason is StopReason.TIME_LIMIT
        assert (fast(noisy, time_limit=300.0).image == fast(noisy).image).all()

    def test_images_of_a_batch_that_were_not_worked_on(self) -> None:
        noisy, _ = photograph(size=40)
        tensor = torch.from_numpy(noisy).permute(2, 0, 1)
        ends = []

        def stop(progress: Progress) -> None:
            ends.append(progress.share)
            if ends.count(1.0) == 1:
                raise StopIteration

        result = fast(torch.stack([tensor, tensor]), callback=stop)
        assert torch.equal(result.image[1], tensor)
        assert torch.equal(result.image[0], fast(tensor).image)
        assert result.unfinished == "1 of 2 images were worked on"

    def test_observers_without_progress_are_left_alone(self) -> None:
        class Watch(Observer):
            def begin(self, run: Any) -> None:
                raise AssertionError

        noisy, _ = photograph(size=24)
        settings = make_settings(DenoiseSettings, {"method": "nl_ridge"})
        (job,) = prepare(Task(noisy, Layout.of(noisy), [Identity()]), settings)
        assert run(job, [Watch()]).best is not None


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> int:
    """Make plug and play take few steps, and return how many."""
    for quality in STEPS:
        monkeypatch.setitem(STEPS, quality, 4)
    return 4


def holed(size: int = 48) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a picture with holes, where they are, and the picture without them."""
    clean = photograph(size=size)[1]
    missing = np.random.default_rng(1).random(clean.shape[:2]) < 0.4
    return np.where(missing[..., None], 0, clean).astype(np.uint8), missing, clean


class TestPlugAndPlay:
    """Plug and play as a method of the tasks."""

    def test_fills_in(self) -> None:
        image, missing, clean = holed()
        result = dipfast.inpaint(image, missing, quality="fast", reference=clean)
        y, known = (torch.from_numpy(x).movedim(-1, 0)[None] for x in (image, ~missing[..., None]))
        y = y / 255
        expected = plug_and_play(
            y,
            Mask(known),
            NoiseModel(0.0),
            filled(y, known),
            known=known,
            error=error_of_filled(y, known),
            steps=24,
        )
        expected = (expected[0].movedim(0, -1) * 255).round().to(torch.uint8).numpy()
        assert (result.image[missing] == expected[missing]).mean() > 0.999
        assert (result.image[~missing] == clean[~missing]).all()
        assert result.psnr == pytest.approx(ops.psnr(result.image, clean), rel=1e-6)
        assert result.psnr > 27
        assert (result.stop_detail, result.stop_iteration) == ("pnp done", 24)
        assert (result.found["method"], result.found["steps"]) == ("pnp", 24)
        assert not {"preset", "stages", "max_iterations", "speed"} & set(result.found)
        assert "; pnp, 24 steps; " in result.summary()
        assert result.history["iteration"] == []

    def test_steps_are_the_quality(self) -> None:
        image, missing, _ = holed(16)
        steps = [
            dipfast.inpaint(image, missing, method="pnp", quality=quality).found["steps"]
            for quality in ("fast", "balanced", "best")
        ]
        assert steps == [24, 48, 96]

    def test_known_pixels_may_be_denoised(self, steps: int) -> None:
        image, missing, clean = holed()
        noise = np.random.default_rng(0).normal(0, 15, clean.shape)
        noisy = (clean + noise).round().clip(0, 255).astype(np.uint8)
        options: Any = {"method": "pnp", "sigma": 15.0, "reference": clean}
        kept = dipfast.inpaint(noisy, missing, **options)
        freed = dipfast.inpaint(noisy, missing, keep_known=False, **options)
        assert (kept.image[~missing] == noisy[~missing]).all()
        assert squared(freed.image[~missing], clean[~missing]) < 0.6 * 15**2
        assert (kept.image[missing] == freed.image[missing]).all()
        told = dipfast.inpaint(image, missing, method="pnp", sigma="auto")
        assert told.found["noise_source"] == "estimated"

    def test_values_of_missing_pixels_have_no_influence(self, steps: int) -> None:
        image, missing, _ = holed(24)
        expected = dipfast.inpaint(image, missing, method="pnp").image
        other = np.where(missing[..., None], 255, image).astype(np.uint8)
        nan = np.where(missing[..., None], np.nan, image / 255)
        assert (dipfast.inpaint(other, missing, method="pnp").image == expected).all()
        of_floats = dipfast.inpaint(nan, method="pnp", data_range=1.0).image
        assert np.abs(of_floats * 255 - expected).max() < 1

    def test_enlarges(self) -> None:
        clean = photograph(size=64)[1]
        small = ops.downsample(clean, 2, channel_axis=-1).round().clip(0, 255).astype(np.uint8)
        result = dipfast.super_resolve(small, 2, method="pnp", reference=clean)
        assert result.image.shape == clean.shape
        assert result.metrics["psnr"] > result.metrics["psnr_input"] + 0.5

    @pytest.mark.parametrize("how", ["operator", "function", "masked"])
    def test_restores(self, how: str) -> None:
        clean = photograph(size=64)[1].astype(np.float32)
        blur = Blur(gaussian_kernel(1.2))
        known = torch.rand((1, 1, 64, 64), generator=torch.Generator().manual_seed(0)) < 0.9
        operator = {
            "operator": blur,
            "function": blur.forward,
            "masked": Compose(blur, Mask(known)),
        }
        y = blur(torch.from_numpy(clean).movedim(-1, 0)[None])[0].movedim(0, -1).numpy()
        options: Any = {"sigma": 0, "data_range": 255, "reference": clean, "quality": "fast"}
        result = dipfast.restore(y, operator[how], method="pnp", **options)
        assert result.psnr > ops.psnr(y, clean, data_range=255) + 2

    @pytest.mark.parametrize("is_masked", [False, True])
    def test_restores_what_was_blurred_with_what_is_beyond_the_border(
        self, is_masked: bool
    ) -> None:
        scene = photograph(size=64)[1].astype(np.float32)
        y = ndimage.uniform_filter1d(scene, 9, axis=1)[12:52, 12:52]
        kernel, psnrs = torch.full((1, 9), 1 / 9), {}
        for boundary in ("unknown", "reflect"):
            blur = Blur(kernel, boundary)
            operator = Compose(blur, Mask(torch.ones(40, 40, dtype=torch.bool)))
            options: Any = {"sigma": 0, "data_range": 255, "reference": scene[12:52, 12:52]}
            result = dipfast.restore(
                y, operator if is_masked else blur, method="pnp", quality="fast", **options
            )
            psnrs[boundary] = result.psnr
        assert psnrs["unknown"] > psnrs["reflect"] + 3

    @pytest.mark.parametrize(
        ("operator", "words"),
        [
            (lambda u: u.square(), "operator is not linear, and method='pnp' is for linear ones"),
            (lambda u: u.clamp(0, 1), "operator is not linear"),
            (lambda u: 0.5 * u + 0.5, "operator is not linear"),
            (Wrapped(lambda u: u, None, lambda y: 2 * y), "has an adjoint that is not its own"),
            (lambda u: u.round(), "operator is not linear"),
            (lambda u: torch.from_numpy(u.detach().numpy()), "operator cannot be applied"),
        ],
    )
    def test_needs_linear_operators(
        self, monkeypatch: pytest.MonkeyPatch, operator: Any, words: str
    ) -> None:
        monkeypatch.setattr("dipfast.run.batch.run", None)  # before work starts
        picture = photograph(size=16)[1]
        with pytest.raises(InputError, match=words):
            dipfast.restore(picture, operator, method="pnp", data_range=255)

    def test_record(self, tmp_path: Path, steps: int) -> None:
        image, missing, _ = holed(24)
        result = dipfast.inpaint(image, missing, quality="fast")
        result.save(tmp_path / "out.png")
        name, read = read_settings(tmp_path / "out.png.json")
        again = dipfast.inpaint(image, missing, **read)
        assert name == "inpaint"
        assert (again.image == result.image).all()
        assert again.found == result.found

    def test_batches(self, steps: int) -> None:
        image, missing, _ = holed(24)
        pair = torch.from_numpy(np.stack([image, image[::-1]])).permute(0, 3, 1, 2)
        masks = torch.from_numpy(np.stack([missing, missing[::-1]]))[:, None]
        result = dipfast.inpaint(pair, masks, method="pnp")
        for item in range(2):
            alone = dipfast.inpaint(pair[item], masks[item], method="pnp")
            assert torch.equal(result.image[item], alone.image)

    @pytest.mark.parametrize("shape", [(1, 2), (3, 2), (5, 20, 5)])
    def test_shapes(self, steps: int, shape: tuple[int, ...]) -> None:
        image = np.random.default_rng(0).random(shape)
        missing = np.zeros(shape[:2], bool)
        missing[0, 0] = True
        axis = -1 if len(shape) == 3 else None
        result = dipfast.inpaint(image, missing, method="pnp", channel_axis=axis)
        assert result.image.shape == shape
        assert np.isfinite(result.image).all()

    def test_progress(self, steps: int) -> None:
        seen: list[Any] = []
        image, missing, _ = holed(24)
        dipfast.inpaint(image, missing, method="pnp", callback=seen.append)
        shares = [progress.share for progress in seen]
        assert shares == sorted(shares)
        assert {0.0, 0.25, 0.5, 0.75, 1.0} <= set(shares)

    def test_ended_early_it_keeps_the_last_step(
        self, steps: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(progress: Any) -> None:
            if progress.share > 0.6:
                raise StopIteration

        image, missing, _ = holed(24)
        result = dipfast.inpaint(image, missing, method="pnp", callback=stop)
        assert result.stop_reason is StopReason.CALLBACK
        assert result.stop_detail == "stopped by the callback, after 2 of 4 steps"
        assert (result.best_iteration, result.stop_iteration) == (2, 2)
        assert result.unfinished is None
        assert "; pnp, 2 of 4 steps; " in result.summary()
        images = []
        y, known = (torch.from_numpy(x).movedim(-1, 0)[None] for x in (image, ~missing[..., None]))
        plug_and_play(
            y / 255,
            Mask(known),
            NoiseModel(0.0),
            filled(y / 255, known),
            known=known,
            error=error_of_filled(y / 255, known),
            steps=steps,
            callback=lambda share, u: images.append(u) if u is not None else None,
        )
        second = (images[1][0].movedim(0, -1) * 255).round().to(torch.uint8).numpy()
        assert (result.image[missing] == second[missing]).mean() > 0.99

    def test_a_time_limit_before_the_first_step(self, steps: int) -> None:
        small = photograph(size=16)[1]
        with pytest.warns(UserWarning, match="pnp was ended before its first step: the result is"):
            result = dipfast.super_resolve(small, 2, method="pnp", time_limit=1e-9)
        assert result.stop_reason is StopReason.TIME_LIMIT
        large = ops.resize(small, (32, 32), kernel="bicubic", channel_axis=-1)
        assert np.abs(result.image.astype(float) - large).max() <= 1

    def test_values_outside_of_the_range_are_told(self, steps: int) -> None:
        bright = np.random.default_rng(0).integers(0, 255, (16, 16))
        with pytest.warns(UserWarning, match=r"beyond data_range=\(0.0, 100.0\) will be cut off"):
            dipfast.inpaint(bright, bright == 3, method="pnp", data_range=100)

    def test_few_floats_beyond_the_range_are_told(self, steps: int) -> None:
        image = np.random.default_rng(0).normal(0.5, 0.02, (24, 24)).astype(np.float32)
        image[4:6, 4:9] = 3
        words = r"data_range=\(0.0, 1.0\) will be cut off: 1.7% of all are farther outside than"
        with pytest.warns(UserWarning, match=words):
            result = dipfast.super_resolve(image, 2, method="pnp", data_range=1.0)
        assert result.image.max() == 1
        # What keeps them needs no word, nor do the pixels that are kept as they are.
        kept = dipfast.inpaint(image, image < 0.47, method="pnp", data_range=1.0)
        assert kept.image.max() == 3
        assert fast(image, data_range=1.0).image.max() > 2.5

    def test_differences_are_not_in_the_range_of_the_image(self, steps: int) -> None:
        def differences(x: torch.Tensor) -> torch.Tensor:
            return x - x.roll(1, -1)

        image = 0.35 * np.random.default_rng(0).random((16, 16), dtype=np.float32)
        measured = image - np.roll(image, 1, -1)
        assert (measured < -0.26).mean() > 0.01
        dipfast.restore(measured, differences, method="pnp", data_range=(0, 1), sigma=0.01)

    def test_noise_beyond_the_range_is_not(self, steps: int) -> None:
        image = np.random.default_rng(0).normal(0.9, 0.2, (24, 24))
        image[3, 3] = 1 + 5 * 0.2
        dipfast.super_resolve(image, 2, method="pnp", data_range=1.0, sigma=0.2)

    def test_a_star_that_the_found_range_cuts_off_is_told(self, steps: int) -> None:
        blur = Blur(gaussian_kernel(2.0))
        sky = torch.full((1, 1, 40, 40), 100.0)
        sky[..., 20, 15] = 5000
        measured = blur(sky)[0, 0].numpy() + np.random.default_rng(0).normal(0, 1, (40, 40))
        result = dipfast.restore(measured, blur, method="pnp")
        high = result.found["data_range"][1]
        (hint,) = (hint for hint in result.hints if "cut off" in hint)
        assert result.image.max() == pytest.approx(high)
        assert f"{high:.4g}, where the range ends that was found in the data" in hint
        assert "data_range=(darkest, brightest) sets a wider one" in hint
        told = dipfast.restore(measured, blur, method="pnp", data_range=(50, 8000))
        assert told.image.max() > high
        assert not any("cut off" in hint for hint in told.hints)

    @pytest.mark.parametrize("boundary", ["reflect", "zero"])
    def test_a_result_within_the_found_range_has_no_such_hint(
        self, steps: int, boundary: Any
    ) -> None:
        smooth = np.abs(np.sin(np.arange(40) / 6.0)) * np.ones((40, 1))
        result = dipfast.restore(smooth, Blur(gaussian_kernel(0.5), boundary), method="pnp")
        assert not any("cut off" in hint for hint in result.hints)

    def test_a_picture_too_large_for_the_memory_is_refused(self) -> None:
        with pytest.raises(MemoryLimitError, match="restoring 3x10000000x10000000 pixels"):
            check_direct_memory((1, 3, 10**7, 10**7), "inpaint")


class TestResidual:
    def test_of_a_large_picture_it_is_that_of_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        y = torch.rand(1, 2, 400, 30)
        known = torch.rand(1, 2, 400, 30) < 0.1
        problem = Problem(y, Identity(), NoiseModel(0.1, low=0.0), outliers=known)
        image = torch.full_like(y, 0.5)
        whole = describe_residual(problem, image)
        monkeypatch.setattr(residual_module, "LARGE_PICTURE", 1000)
        parts = describe_residual(problem, image)
        assert parts != whole
        assert parts == pytest.approx(whole, rel=0.03, abs=0.03)
        monkeypatch.setattr(residual_module, "_SAMPLED_PIXELS", 1)
        assert describe_residual(problem, image)[0] == pytest.approx(whole[0], rel=0.1)


def test_a_denoiser_inside_the_loop(use_small_network: Network) -> None:
    use_small_network(3)
    noisy, _ = photograph(size=32)
    result = dipfast.denoise(noisy, method="deep_red_nl_ridge")
    assert result.found["stages"] == ["deep_red"]
    assert PRESETS["denoise-balanced"].iterations == 3


def test_a_noise_model_needs_no_sigma() -> None:
    image = np.random.default_rng(0).random((24, 24))
    mask = np.random.default_rng(1).random((24, 24)) < 0.5
    model = NoiseModel(0.05)
    for result in (
        dipfast.inpaint(image, mask, quality="fast", noise=model, data_range=1),
        dipfast.super_resolve(image, 2, quality="fast", noise=model, data_range=1),
    ):
        assert result.settings["sigma"] == "auto"
    with pytest.raises(InputError, match="has no meaning where noise is a model"):
        dipfast.inpaint(image, mask, quality="fast", noise=model, sigma=0.1, data_range=1)


def test_noise_beyond_the_range_is_refused() -> None:
    image = np.random.default_rng(0).random((24, 24))
    with pytest.raises(InputError, match="50 value ranges"):
        dipfast.denoise(image, quality="fast", noise=NoiseModel(50.0), data_range=1)
