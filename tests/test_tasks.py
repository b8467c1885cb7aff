"""Denoising: layouts, reports, ends of a fit, time limits, and refused arguments."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import dipfast
from dipfast import ops
from dipfast.denoisers.registry import DENOISERS
from dipfast.operators import Blur, gaussian_kernel
from dipfast.run import interrupt
from dipfast.run import job as job_module
from dipfast.run import prepare as plan
from dipfast.run.memory import advice as memory
from dipfast.settings.presets import PRESETS
from dipfast.stopping import Decision, StopReason, StopRule

Pair = tuple[np.ndarray, np.ndarray]


@pytest.fixture(autouse=True)
def small_network(use_small_network: Callable[..., None]) -> None:
    use_small_network(60)


def few(image, **options) -> dipfast.Result:
    return dipfast.denoise(image, max_iterations=3, **options)


class TestLayouts:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
    @pytest.mark.parametrize("grey", [True, False])
    def test_arrays(self, noisy_pair: Pair, dtype: str, grey: bool) -> None:
        scale = {"uint8": 1, "uint16": 257}.get(dtype, 1 / 255)
        image = (noisy_pair[0].astype(np.float64) * scale).astype(dtype)
        image = image[..., 0] if grey else image
        result = few(image)
        assert isinstance(result.image, np.ndarray)
        assert (result.image.shape, result.image.dtype) == (image.shape, image.dtype)
        # The mean would differ more if the values were in another range.
        assert abs(result.image.mean() - image.mean()) < 0.3 * image.max()

    def test_tensors_and_arrays_agree(self, noisy_pair: Pair) -> None:
        image = noisy_pair[0]
        expected = few(image).image
        planar = torch.from_numpy(image).permute(2, 0, 1)
        for tensor in (planar, planar[None]):
            got = few(tensor).image
            assert got.shape == tensor.shape
            assert got.dtype == torch.uint8
            assert (got.squeeze(0).permute(1, 2, 0).numpy() == expected).all()
        moved = few(np.moveaxis(image, -1, 1), channel_axis=1).image
        assert (np.moveaxis(moved, 1, -1) == expected).all()

    @pytest.mark.parametrize("dtype", ["uint16", "uint32"])
    def test_references_of_integers_agree(self, noisy_pair: Pair, dtype: str) -> None:
        noisy, clean = (3 * x[..., 0].astype(dtype) for x in noisy_pair)
        made = {"method": "nl_ridge", "quality": "fast"}
        of_array = dipfast.denoise(noisy, reference=clean, **made)
        as_tensors = torch.from_numpy(noisy), torch.from_numpy(clean)
        of_tensor = dipfast.denoise(as_tensors[0], reference=as_tensors[1], **made)
        assert of_tensor.metrics == of_array.metrics

    def test_batch_is_one_after_the_other(self, noisy_pair: Pair) -> None:
        one = torch.from_numpy(noisy_pair[0]).permute(2, 0, 1)[None]
        two = torch.cat([one, one.flip(-1)])
        result = few(two, reference=two.clone())
        assert torch.equal(result.image[:1], few(one).image)
        assert torch.equal(result.image[1:], few(one.flip(-1)).image)
        assert result.history["item"] == [0, 0, 0, 1, 1, 1]
        assert result.history["iteration"] == [1, 2, 3, 1, 2, 3]

    def test_data_range_is_only_a_unit(self, noisy_pair: Pair) -> None:
        image = noisy_pair[0].astype(np.float64)
        expected = few(image / 255).image
        shifted = few(image * 10 - 300, data_range=(-300, 2250)).image
        np.testing.assert_allclose((shifted + 300) / 2550, expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("unit", [1e-25, 1e25])
    def test_figures_do_not_depend_on_the_unit(self, noisy_pair: Pair, unit: float) -> None:
        noisy, clean = (x.astype(np.float32) / 255 for x in noisy_pair)
        expected = few(noisy, reference=clean).metrics
        got = few(
            noisy * np.float32(unit), reference=clean * np.float32(unit), data_range=unit
        ).metrics
        assert got == pytest.approx(expected, rel=1e-3)

    def test_integers_beyond_the_range_are_not_cut_off_silently(self, noisy_pair: Pair) -> None:
        with pytest.warns(UserWarning, match=r"beyond data_range=\(0.0, 100.0\) will be cut"):
            few(noisy_pair[0], data_range=100)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 7), (33, 2)])
    def test_any_size(self, shape: tuple[int, int]) -> None:
        image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        assert few(image).image.shape == shape

    def test_arrays_of_every_kind_of_memory(self, noisy_pair: Pair) -> None:
        image = noisy_pair[0] / 255
        expected = few(image).image
        read_only = image.copy()
        read_only.flags.writeable = False
        for same in (read_only, image[::-1].copy()[::-1], image.astype(">f8"), image * 1.0):
            assert (few(same, reference=same).image == expected).all()
        tensor = torch.from_numpy(image).permute(2, 0, 1).requires_grad_()
        assert (few(tensor).image.permute(1, 2, 0).numpy() == expected).all()

    def test_the_input_is_not_changed(self, noisy_pair: Pair) -> None:
        image = noisy_pair[0] / 255
        before = image.copy()
        few(image)
        assert (image == before).all()


class TestRestoration:
    def test_the_noise_goes(self, noisy_pair: Pair) -> None:
        noisy, clean = noisy_pair
        result = dipfast.denoise(noisy, max_iterations=400, reference=clean)
        assert result.metrics["psnr"] > result.metrics["psnr_input"] + 5
        assert result.metrics["psnr"] == pytest.approx(ops.psnr(result.image, clean), rel=1e-6)
        assert result.psnr == result.metrics["psnr"]

    def test_a_real_picture(self) -> None:
        from skimage.data import camera

        clean = camera()[64:128, 192:256]
        noise = np.random.default_rng(0).normal(0, 25, clean.shape)
        noisy = (clean + noise).round().clip(0, 255).astype(np.uint8)
        result = dipfast.denoise(noisy, max_iterations=300, reference=clean)
        assert result.metrics["psnr"] > result.metrics["psnr_input"] + 4

    def test_total_variation_is_lifted_after_a_third(self, noisy_pair: Pair) -> None:
        history = dipfast.denoise(noisy_pair[0], max_iterations=90, tv_weight=1.0).history
        assert history["stage"] == ["tv"] * 30 + ["details"] * 60
        # Strong total variation holds the details down until it is lifted.
        assert history["tv"][-1] > 3 * history["tv"][29]
        assert history["data"][-1] < 0.5 * history["data"][29]
        assert history["loss"][0] > history["data"][0]
        assert history["loss"][-1] == history["data"][-1]

    def test_same_seed_same_bits(self, noisy_pair: Pair) -> None:
        first, second = few(noisy_pair[0], seed=5), few(noisy_pair[0], seed=5)
        assert (first.image == second.image).all()
        assert first.history == second.history

    def test_reference_decides_nothing(self, noisy_pair: Pair) -> None:
        noisy, clean = noisy_pair
        with_reference = dipfast.denoise(noisy, max_iterations=60, reference=clean)
        without = dipfast.denoise(noisy, max_iterations=60)
        assert (with_reference.image == without.image).all()
        assert with_reference.best_iteration == without.best_iteration
        assert without.metrics == {}
        assert without.psnr is None

    def test_metrics_and_history_agree(self, noisy_pair: Pair) -> None:
        noisy, clean = noisy_pair
        result = few(noisy, reference=clean, refine=False)
        assert result.metrics["psnr_input"] == pytest.approx(ops.psnr(noisy, clean), rel=1e-6)
        assert result.metrics["psnr_oracle"] == max(result.history["psnr_average"])
        at = result.metrics["oracle_iteration"] - 1
        assert result.history["psnr_average"][at] == result.metrics["psnr_oracle"]
        # The image is rounded to 8 bits, the history is not.
        assert result.psnr == pytest.approx(result.history["psnr_average"][-1], abs=0.05)

    def test_settings_say_how_to_run_it_again(self, noisy_pair: Pair) -> None:
        first = few(noisy_pair[0], seed=2, method="dip_tv")
        given = dict(first.settings)
        assert given.pop("task") == "denoise"
        assert (dipfast.denoise(noisy_pair[0], **given).image == first.image).all()
        found = first.found
        # Giving the values that were found leads to the same result.
        again = few(
            noisy_pair[0],
            sigma=found["sigma"][0],
            tv_weight=found["tv_weight"][0],
            method="dip_tv",
            seed=2,
            data_range=tuple(found["data_range"]),
        )
        assert (again.image == first.image).all()
        assert found["versions"]["torch"] == torch.__version__
        assert found["sigma"][0] == pytest.approx(25, rel=0.1)
        assert found["preset"] == "denoise-balanced"

    def test_sigma_is_in_the_unit_of_the_image(self, noisy_pair: Pair) -> None:
        in_bytes = few(noisy_pair[0], sigma=np.float32(51)).found
        json.dumps(in_bytes)
        in_floats = few(noisy_pair[0] / 255, sigma=0.2).found
        assert in_bytes["tv_weight"] == pytest.approx(in_floats["tv_weight"])


class TestMemory:
    def test_what_does_not_fit_is_refused_before_the_work(
        self, noisy_pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(memory, "available", lambda device: 30_000_000)
        with pytest.raises(
            MemoryError, match=r"restoring 3x32x40 pixels .* and 30\.0 MB are there"
        ):
            few(noisy_pair[0], preset="original-denoising")
        few(noisy_pair[0])

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory"),
            RuntimeError("[...] DefaultCPUAllocator: can't allocate memory: you tried to"),
        ],
        ids=["GPU", "CPU"],
    )
    def test_running_out_in_the_middle_says_the_same_and_keeps_the_checkpoint(
        self, noisy_pair: Pair, tmp_path: Path, error: RuntimeError
    ) -> None:
        whole = few(noisy_pair[0])

        def callback(state):
            if state.iteration == 3:
                raise error

        options = {"checkpoint": tmp_path / "run", "checkpoint_every": 2}
        with pytest.raises(MemoryError, match=r"restoring 3x32x40 pixels .* which ran out\. What"):
            few(noisy_pair[0], **options, callback=callback)
        result = few(noisy_pair[0], **options, resume=True)
        assert (result.image == whole.image).all()

    def test_other_errors_stay_what_they_are(self, noisy_pair: Pair) -> None:
        def callback(state):
            raise RuntimeError("of somebody else")

        with pytest.raises(RuntimeError, match="of somebody else"):
            few(noisy_pair[0], callback=callback)


class TestEnding:
    @pytest.fixture(autouse=True)
    def interruptible(self) -> Iterator[None]:
        """Handle Ctrl-C as at a terminal, even if the tests run in the background."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    def test_all_iterations(self, noisy_pair: Pair) -> None:
        result = few(noisy_pair[0], stop="none")
        assert (result.stop_reason, result.best_iteration) == ("all iterations done", 3)

    def test_default_number_is_that_of_the_quality(self, noisy_pair: Pair) -> None:
        result = dipfast.denoise(noisy_pair[0][:8, :8], stop="none")
        assert result.best_iteration == PRESETS["denoise-balanced"].iterations

    def test_discrepancy_stops_at_the_noise(self, noisy_pair: Pair) -> None:
        result = dipfast.denoise(noisy_pair[0], sigma=80.0, max_iterations=400, stop="discrepancy")
        assert result.stop_reason == "residual at the noise level"
        assert 400 // 3 < result.best_iteration < 400

    def test_rule_of_your_own(self, noisy_pair: Pair) -> None:
        class AtTwo(StopRule):
            def update(self, state, memory):
                assert not state.metrics
                return Decision(stop="enough" if state.iteration == 2 else None)

        result = few(noisy_pair[0], stop=AtTwo(), reference=noisy_pair[1])
        assert (result.stop_reason, result.stop_detail) == (StopReason.RULE, "enough")
        assert result.best_iteration == 2

    def test_callback_sees_states_and_stops(self, noisy_pair: Pair) -> None:
        seen = []

        def callback(state):
            seen.append((state.iteration, float(state.metrics["psnr"])))
            if state.iteration == 2:
                raise StopIteration
            return True  # progress bars return True; it has no effect

        result = few(noisy_pair[0], callback=callback, reference=noisy_pair[1])
        assert result.stop_reason == "stopped by the callback"
        assert [iteration for iteration, _ in seen] == [1, 2]
        assert result.history["psnr"] == [psnr for _, psnr in seen]

    @pytest.mark.parametrize(
        ("number", "reason"),
        [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")],
    )
    def test_interrupt_keeps_what_there_is(
        self, noisy_pair: Pair, number: signal.Signals, reason: str
    ) -> None:
        def callback(state):
            if state.iteration == 2:
                os.kill(os.getpid(), number)

        handler = signal.getsignal(number)
        result = few(noisy_pair[0], callback=callback)
        assert (result.stop_reason, result.best_iteration) == (reason, 2)
        assert signal.getsignal(number) is handler

    def test_a_program_with_its_own_handler_keeps_it(self, noisy_pair: Pair) -> None:
        caught = []
        before = signal.signal(signal.SIGTERM, lambda *_: caught.append(True))

        def callback(state):
            os.kill(os.getpid(), signal.SIGTERM)

        try:
            assert few(noisy_pair[0], callback=callback).stop_reason == "all iterations done"
        finally:
            signal.signal(signal.SIGTERM, before)
        assert caught == [True] * 3

    def test_stop_from_another_thread(self, noisy_pair: Pair) -> None:
        interrupt = dipfast.Interrupt()
        begun = threading.Event()

        def callback(state):
            begun.set()

        def stop() -> None:
            begun.wait()
            interrupt.stop()
            interrupt.stop("too late")

        with ThreadPoolExecutor(1) as pool:
            pool.submit(stop)
            result = dipfast.denoise(
                noisy_pair[0],
                max_iterations=100_000,
                stop="none",
                callback=callback,
                interrupt=interrupt,
            )
        assert result.stop_reason == "stopped"
        assert 1 <= result.stop_iteration < 100_000
        # The interrupt remains in effect for further calls.
        assert few(noisy_pair[0], interrupt=interrupt).stop_iteration == 1

    @pytest.mark.parametrize("patience", [0.0, 60.0])
    def test_second_interrupt_raises_unless_it_is_the_same(
        self, noisy_pair: Pair, patience: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def callback(state):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(interrupt, "_PATIENCE", patience)
        handler = signal.getsignal(signal.SIGINT)
        if patience:
            assert few(noisy_pair[0], callback=callback).stop_reason == "interrupted"
        else:
            with pytest.raises(KeyboardInterrupt):
                few(noisy_pair[0], callback=callback)
        assert signal.getsignal(signal.SIGINT) is handler

    def test_interrupted_batch_keeps_the_rest_as_it_was(self, noisy_pair: Pair) -> None:
        one = torch.from_numpy(noisy_pair[0]).permute(2, 0, 1)[None]

        def callback(state):
            raise StopIteration

        two = torch.cat([one, one])
        result = few(two, callback=callback, reference=two)
        # After one iteration the first image is no better than it was.
        assert (result.best_iteration, result.stop_iteration) == (0, 1)
        assert torch.equal(result.image, two)
        assert result.history["item"] == [0]
        assert "psnr_oracle" not in result.metrics

    def test_each_image_of_a_batch_has_a_rule_of_its_own(self, noisy_pair: Pair) -> None:
        class AtSecondLook(StopRule):
            def update(self, state, memory):
                memory["looks"] = memory.get("looks", 0) + 1
                return Decision(stop="enough" if memory["looks"] == 2 else None)

        one = torch.from_numpy(noisy_pair[0]).permute(2, 0, 1)[None]
        result = few(torch.cat([one, one]), stop=AtSecondLook())
        assert result.history["item"] == [0, 0, 1, 1]

    def test_in_other_threads_at_the_same_time(self, noisy_pair: Pair) -> None:
        expected = few(noisy_pair[0]).image
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda _: few(noisy_pair[0]), range(12)))
        assert all((result.image == expected).all() for result in results)


def test_seconds_count_what_is_done_at_the_end(
    noisy_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = []

    def slow(*_: object) -> dict[str, float]:
        reached.append(time.monotonic())
        time.sleep(0.5)
        return {}

    monkeypatch.setattr("dipfast.run.batch._metrics", slow)
    begun = time.monotonic()
    result = dipfast.denoise(noisy_pair[0], method="nl_ridge", quality="fast")
    assert result.seconds > reached[0] - begun


class TestTimeLimit:
    """Iterations are planned to fit into the time; a warning says if the time was too short."""

    @dataclasses.dataclass(frozen=True)
    class Slow(StopRule):
        """Wait at each iteration, and never stop."""

        seconds: float = 0.01

        def update(self, state, memory):
            time.sleep(self.seconds)
            return Decision(best=True)

    def test_both_stages_fit_into_it(
        self, noisy_pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(plan, "check_memory", lambda **_: None)
        noisy, clean = noisy_pair
        few(noisy)  # the first fit of a process is slow
        result = dipfast.denoise(
            noisy, time_limit=3.0, max_iterations=5000, stop=self.Slow(0.02), reference=clean
        )
        assert 10 <= result.found["max_iterations"] <= 135
        assert result.stop_reason in (StopReason.ALL_ITERATIONS, StopReason.TIME_LIMIT)
        stages = result.history["stage"]
        assert set(stages) == {"tv", "details"}
        assert stages.count("tv") == result.found["max_iterations"] // 3

    @pytest.mark.parametrize(
        ("method", "iterations"), [("dip", 86), ("guided", 69), ("tv_target", 69), ("deep_red", 30)]
    )
    def test_what_is_made_beside_the_iterations_is_planned(
        self, noisy_pair: Pair, monkeypatch: pytest.MonkeyPatch, method: str, iterations: int
    ) -> None:
        """By a clock that is 1 further after each iteration, and 10 after each picture."""
        now = [0.0]

        class Wait(StopRule):
            def update(self, state, memory):
                now[0] += 1
                return Decision(best=True)

        def restore(image, *_):
            now[0] += 10
            return image

        clock = SimpleNamespace(monotonic=lambda: now[0], perf_counter=lambda: now[0])
        monkeypatch.setattr("dipfast.run.time_limit.time", clock)
        monkeypatch.setattr("dipfast.prior.controls.guide_of", lambda p: restore(p.measurement))
        monkeypatch.setitem(DENOISERS, "tv", restore)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            result = dipfast.denoise(
                noisy_pair[0], method=method, stop=Wait(), time_limit=100.0, max_iterations=400
            )
        assert result.found["max_iterations"] == iterations
        assert result.stop_reason is StopReason.ALL_ITERATIONS

    def test_images_of_a_batch_share_it(self, noisy_pair: Pair) -> None:
        one = torch.from_numpy(noisy_pair[0]).permute(2, 0, 1)[None]
        options = {"time_limit": 2.0, "max_iterations": 5000, "stop": self.Slow()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            result = dipfast.denoise(torch.cat([one, one]), **options)
        assert set(result.history["item"]) == {0, 1}

    def test_a_clock_that_stands_still(
        self, noisy_pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(time, "perf_counter", lambda: 1.0)
        assert few(noisy_pair[0], time_limit=60.0).unfinished is None

    def test_enough_time_changes_nothing(self, noisy_pair: Pair) -> None:
        image = noisy_pair[0]
        limited = few(image, time_limit=3600.0)
        assert (limited.image == few(image).image).all()
        assert limited.unfinished is None

    def test_too_short_a_time_is_warned_of(self, noisy_pair: Pair) -> None:
        message = r"after 1 of 5000 iterations the result is .* away from the image, whose noise is"
        with pytest.warns(UserWarning, match=message) as caught:
            result = dipfast.denoise(noisy_pair[0], time_limit=1e-3, max_iterations=5000)
        assert result.unfinished is not None
        assert f"{result.unfinished}; time_limit was too short" in str(caught[0].message)
        assert result.unfinished in result.summary()
        assert result.report()["unfinished"] == result.unfinished

    @pytest.mark.parametrize("reason", ["callback", "stopped", "gave up"])
    def test_is_not_blamed_for_what_ended_otherwise(self, noisy_pair: Pair, reason: str) -> None:
        def stop(state: object) -> None:
            raise StopIteration

        interrupt = dipfast.Interrupt()
        interrupt.stop()
        options = {
            "callback": {"callback": stop},
            "stopped": {"interrupt": interrupt},
            "gave up": {"learning_rate": 1e30},
        }
        options[reason] |= {"time_limit": 3600.0, "method": "dip", "max_iterations": 30}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = dipfast.denoise(noisy_pair[0], **options[reason])
        assert reason in result.stop_detail
        assert "likely worse than the image itself" in result.unfinished

    @pytest.mark.parametrize("task", ["inpaint", "super_resolve", "restore"])
    def test_other_tasks(self, noisy_pair: Pair, task: str) -> None:
        noisy = noisy_pair[0]
        calls = {
            "inpaint": lambda **o: dipfast.inpaint(noisy, noisy[..., 0] < 90, **o),
            "super_resolve": lambda **o: dipfast.super_resolve(noisy, 2, **o),
            "restore": lambda **o: dipfast.restore(noisy, Blur(gaussian_kernel(1.0)), **o),
        }
        with pytest.warns(UserWarning, match="likely worse than the image itself; time_limit was"):
            result = calls[task](time_limit=1e-3, max_iterations=5000)
        assert result.unfinished is not None

    def test_an_end_from_outside(self, noisy_pair: Pair) -> None:
        def stop_at(iteration: int):
            def callback(state):
                if state.iteration == iteration:
                    raise StopIteration

            return callback

        image, more = noisy_pair[0], {"max_iterations": 400, "stop": "none"}
        early = dipfast.denoise(image, callback=stop_at(2), **more)
        assert "after 2 of 400 iterations" in early.unfinished
        late = dipfast.denoise(image, callback=stop_at(399), **more)
        assert late.unfinished is None

    def test_the_rest_of_a_batch(self, noisy_pair: Pair) -> None:
        one = torch.from_numpy(noisy_pair[0]).permute(2, 0, 1)[None]
        interrupt = dipfast.Interrupt()
        interrupt.stop()
        result = few(torch.cat([one, one, one]), interrupt=interrupt)
        assert result.unfinished == "0 of 3 images were worked on"


def test_wrong_arguments_are_named_before_any_work(
    noisy_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_work(*_, **__):
        raise AssertionError("work was started")

    monkeypatch.setattr(job_module, "DeepImagePrior", no_work)
    image = noisy_pair[0]
    cases = [
        ((np.zeros((0, 3)),), {}, ValueError, r"image must not be empty, got shape \(0, 3\)"),
        ((np.full((4, 4), math.nan),), {}, ValueError, "image must be finite.* 16 of its values"),
        ((np.ma.masked_less(image, 9),), {}, ValueError, r"image has .* masked pixels, .*inpaint"),
        ((np.array([[0, 2**60]]),), {}, ValueError, r"image must hold integers up to 2\*\*53"),
        ((image[:2, :3, 0],), {}, ValueError, "2 x 3 pixels is too small to tell its noise"),
        ((np.zeros((1, 1, 4, 4, 3)),), {}, ValueError, "5 dimensions"),
        ((torch.zeros((1, 1, 4, 4, 3)),), {}, ValueError, "5 dimensions"),
        ((image + 1j,), {}, TypeError, "image must hold real numbers.*complex128"),
        (
            ("picture.png",),
            {},
            TypeError,
            "image must be a NumPy array or a torch tensor, got str: read",
        ),
        ((np.zeros((5, 5, 9)),), {}, ValueError, "channel_axis is needed for image"),
        ((image,), {"channel_axis": 3}, ValueError, "channel_axis=3 does not fit"),
        ((image,), {"max_iterations": -5}, ValueError, "max_iterations must be a pos.*got -5"),
        ((image,), {"max_iterations": 2.5}, ValueError, "max_iterations must be a pos.*got 2.5"),
        ((image,), {"sigma": -1}, ValueError, "sigma must be 'auto' or a number from 0 up, got -1"),
        ((image,), {"sigma": "high"}, ValueError, "sigma must be .* got 'high'"),
        ((image,), {"tv_weight": math.inf}, ValueError, "tv_weight must be .* got inf"),
        ((image,), {"tv_weight": 1, "method": "dip"}, ValueError, "tv_weight=1 has no meaning"),
        ((image,), {"method": "bm3d"}, ValueError, "method must be one of auto, two.*'bm3d'"),
        ((image,), {"quality": "ultra"}, ValueError, "quality must be one of fast.*'ultra'"),
        ((image,), {"stop": "soon"}, ValueError, "stop must be one of auto, none, "),
        ((image,), {"seed": -1}, ValueError, "seed must be an integer from 0 .*got -1"),
        ((image,), {"seed": 2**63}, ValueError, "seed must be an integer from 0"),
        ((image,), {"device": "abacus"}, ValueError, "device='abacus' cannot be used"),
        ((image,), {"device": "vulkan"}, ValueError, "device='vulkan' .*: torch has none here; d"),
        ((image,), {"data_range": 0}, ValueError, "data_range must be a positive number or a pair"),
        ((image,), {"reference": image[1:]}, ValueError, "reference must have kind and"),
        ((image,), {"reference": image / 255}, ValueError, "reference must have the dtype"),
        ((image,), {"callback": 3}, TypeError, "callback must be callable, got int"),
    ]
    for arguments, options, error, message in cases:
        with pytest.raises(error, match=message):
            dipfast.denoise(*arguments, **options)
    with pytest.raises(AssertionError, match="work was started"):
        dipfast.denoise(image)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_same_picture(noisy_pair: Pair) -> None:
    noisy, clean = noisy_pair
    runs = [
        dipfast.denoise(noisy, max_iterations=300, reference=clean, device=device, stop="none")
        for device in ("cpu", "cuda")
    ]
    assert runs[1].psnr == pytest.approx(runs[0].psnr, abs=1.0)
    tensor = torch.from_numpy(noisy).permute(2, 0, 1)
    assert few(tensor, device="cuda").image.device == tensor.device
    assert few(tensor.cuda()).image.device == tensor.cuda().device


def test_warnings_point_to_the_line_of_the_caller(noisy_pair: Pair) -> None:
    noisy = noisy_pair[0]
    calls = {
        "will be cut off": lambda: few(noisy, data_range=100),
        "are missing": lambda: dipfast.inpaint(noisy, noisy[..., 0] > 3, max_iterations=1),
        "too short": lambda: dipfast.denoise(noisy, max_iterations=400, time_limit=1e-6),
    }
    for message, call in calls.items():
        with pytest.warns(UserWarning, match=message) as caught:
            call()
        assert {warning.filename for warning in caught} == {__file__}
