"""Stacks: their planes are the images of a batch, in whatever order the axes are."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dipfast
from dipfast import ops
from dipfast.errors import CheckpointMismatchError, InputError, InputTypeError
from dipfast.networks import HourglassConfig
from dipfast.operators import Blur, gaussian_kernel
from dipfast.run.observers import Progress
from dipfast.stop_reason import StopReason

PLANES = 4
SMALL = dipfast.Preset(30, (1 / 30, 1 / 30), HourglassConfig((8, 16), (8, 16), (4, 4)))


def clean_stack(channels: int = 0) -> np.ndarray:
    """Planes (N, H, W), or (N, H, W, C), the third of which is empty."""
    y, x = np.mgrid[:24, :20]
    planes = [500 + 90 * k + 200 * np.sin(x / 4 + k) * np.cos(y / 5) for k in range(PLANES)]
    planes[2] = np.full((24, 20), 300.0)
    stack = np.stack(planes)
    return stack if not channels else np.stack([stack + 40 * c for c in range(channels)], axis=-1)


def noisy_stack(channels: int = 0) -> np.ndarray:
    clean = clean_stack(channels)
    return (clean + np.random.default_rng(0).normal(0, 30, clean.shape)).astype(">u2")


def fast(stack: Any, **options: Any) -> dipfast.Result:
    return dipfast.denoise(stack, quality="fast", **options)


class TestLayouts:
    @pytest.mark.parametrize("axis", [0, 1, 2, -1])
    def test_axis(self, axis: int) -> None:
        stack = noisy_stack()
        usual = fast(stack, stack_axis=0)
        moved = np.moveaxis(stack, 0, axis)
        result = fast(moved, stack_axis=axis)
        assert (result.image.shape, result.image.dtype) == (moved.shape, moved.dtype)
        np.testing.assert_array_equal(np.moveaxis(result.image, axis, 0), usual.image)

    @pytest.mark.parametrize(("axis", "channels"), [(0, 3), (0, 1), (1, 0), (3, 2), (2, 1)])
    def test_channels(self, axis: int, channels: int) -> None:
        stack = noisy_stack(3)
        usual = fast(stack, stack_axis=0)
        assert usual.channel_axis == 3
        left = [k for k in range(4) if k not in (axis, channels)]
        order = np.argsort([axis, *left, channels])
        result = fast(stack.transpose(order), stack_axis=axis, channel_axis=channels)
        np.testing.assert_array_equal(result.image, usual.image.transpose(order))

    def test_several_axes(self) -> None:
        stack = noisy_stack(2)
        usual = fast(stack, stack_axis=0, channel_axis=3, neighbours=0)
        several = stack.reshape(2, 2, *stack.shape[1:])  # T Z Y X C
        result = fast(several, stack_axis=(0, 1), channel_axis=-1, neighbours=0)
        np.testing.assert_array_equal(result.image.reshape(stack.shape), usual.image)
        between = several.transpose(0, 4, 1, 2, 3)  # T C Z Y X
        result = fast(between, stack_axis=(2, 0), channel_axis=1, neighbours=0)
        assert (result.stack_axes, result.image_count) == ((0, 2), PLANES)
        np.testing.assert_array_equal(
            result.image.transpose(0, 2, 3, 4, 1).reshape(stack.shape), usual.image
        )

    def test_tensors(self) -> None:
        stack = noisy_stack().astype(np.int32)
        usual = fast(stack, stack_axis=0)
        result = fast(torch.from_numpy(stack), stack_axis=0)
        assert isinstance(result.image, torch.Tensor)
        assert result.image.dtype == torch.int32
        np.testing.assert_array_equal(result.image.numpy(), usual.image)

    def test_the_range_is_that_of_all(self) -> None:
        stack = noisy_stack()
        result = fast(stack, stack_axis=0)
        assert result.found["data_range"] == [stack.min(), stack.max()]

    def test_reference(self) -> None:
        stack, clean = noisy_stack(3), clean_stack(3).astype(">u2")
        result = fast(stack, stack_axis=0, reference=clean)
        low, high = float(clean.min()), float(clean.max())
        psnr = ops.psnr(result.image.astype(float), clean.astype(float), data_range=high - low)
        assert result.psnr == pytest.approx(psnr, abs=1e-3)
        assert result.psnr > result.metrics["psnr_input"] + 5


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"stack_axis": 3}, r"stack_axis=3 does not fit image of shape \(4, 24, 20\)"),
            ({"stack_axis": -4}, "stack_axis=-4 does not fit image"),
            ({"stack_axis": ()}, "stack_axis must be an integer or a tuple"),
            ({"stack_axis": (0, 1)}, r"leaves 1 axis of image .* expected 2 for \(H, W\)"),
            ({"stack_axis": (0, 0)}, "names an axis of image .* twice"),
            ({"stack_axis": (0, -3)}, "names an axis of image .* twice"),
            ({"stack_axis": 0, "channel_axis": 0}, "channel_axis=0 is one of the stack of image"),
            ({"stack_axis": 0, "channel_axis": 1}, r"leaves 2 axes for \(H, W\); leave it out"),
            ({}, "channel_axis is needed .* A stack of images has a stack_axis instead"),
        ],
    )
    def test_axes(self, options: dict[str, Any], reason: str) -> None:
        stack = np.zeros((4, 24, 20)) if options else np.zeros((5, 24, 20))
        with pytest.raises((InputError, InputTypeError), match=reason):
            fast(stack, **options)

    @pytest.mark.parametrize("axis", ["z", 1.5, True, (0, None)])
    def test_axes_that_are_none(self, axis: Any) -> None:
        with pytest.raises(InputTypeError, match="stack_axis must be an integer or a tuple"):
            fast(noisy_stack(), stack_axis=axis)

    def test_what_is_left_is_no_image(self) -> None:
        with pytest.raises(InputError, match=r"stack_axis=0 leaves 1 axis of image of shape"):
            fast(np.zeros((24, 20)), stack_axis=0)
        with pytest.raises(InputError, match=r"got 4 dimensions, .*stack_axis=0 says"):
            fast(np.zeros((5, 24, 20, 3)))
        with pytest.raises(
            InputError, match=r"channel_axis is needed for image .*-1\) or in front"
        ):
            fast(np.zeros((5, 3, 20, 3)), stack_axis=0)

    def test_nan_in_a_plane(self) -> None:
        stack = noisy_stack().astype(float)
        stack[1, 3, 4] = np.nan
        with pytest.raises(InputError, match="NaN or infinity at 1 of its values"):
            fast(stack, stack_axis=0)

    def test_reference_of_another_shape(self) -> None:
        with pytest.raises(InputError, match="reference must have kind and shape of the result"):
            fast(noisy_stack(), stack_axis=0, reference=noisy_stack()[:3])


class TestTasks:
    def test_inpaint(self) -> None:
        stack = noisy_stack(3)
        one = np.zeros((24, 20), bool)
        one[5:8, 6:12] = True
        of_each = np.stack([np.roll(one, 3 * k, axis=0) for k in range(PLANES)])
        for mask, where in ((one, np.stack([one] * PLANES)), (of_each, of_each)):
            result = dipfast.inpaint(stack, mask, stack_axis=0, quality="fast")
            np.testing.assert_array_equal(result.image[~where], stack[~where])
            assert (result.image[where] != stack[where]).any()
            assert result.found["missing"] == pytest.approx(where.mean())

    def test_alpha_of_a_stack(self) -> None:
        opacity = np.full((PLANES, 24, 20, 1), 65535)
        opacity[:, 5:8, 6:12] = 0
        stack = np.concatenate([noisy_stack()[..., None], opacity], axis=-1).astype(np.uint16)
        moved = np.moveaxis(stack, -1, 0)
        result = dipfast.inpaint(moved, "alpha", stack_axis=1, channel_axis=0, quality="fast")
        assert (result.image.shape, result.stack_axes) == ((PLANES, 24, 20), (0,))

    def test_masks_that_do_not_fit(self) -> None:
        stack = noisy_stack()
        mask = np.zeros(stack.shape, bool)
        mask[0, :3] = True
        for wrong in (mask[:3], mask[:, 1:]):
            with pytest.raises(InputError, match=r"mask must have shape \(24, 20\) or \(4, 24"):
                dipfast.inpaint(stack, wrong, stack_axis=0)
        mask[1] = True
        with pytest.raises(InputError, match="all pixels of image 1 of 4 are missing"):
            dipfast.inpaint(stack, mask, stack_axis=0)

    def test_super_resolve(self) -> None:
        stack = np.moveaxis(noisy_stack(), 0, -1)
        result = dipfast.super_resolve(stack, 2, stack_axis=-1, quality="fast")
        assert (result.image.shape, result.image.dtype) == ((48, 40, PLANES), stack.dtype)

    def test_restore(self) -> None:
        result = dipfast.restore(
            noisy_stack(), Blur(gaussian_kernel(0.8)), stack_axis=0, max_iterations=3
        )
        assert result.image.shape == (PLANES, 24, 20)
        assert result.history["item"] == sorted([0, 1, 2, 3] * 3)


class TestNoise:
    def test_it_is_one_for_all(self) -> None:
        result = fast(noisy_stack(), stack_axis=0)
        assert len(set(result.found["sigma"])) == 1
        assert result.found["noise_of_stack"] == {"estimated_from": [0, 1, 2, 3], "own": []}
        assert "(estimated for the whole stack)" in result.summary()

    def test_a_plane_that_differs(self) -> None:
        y, x = np.mgrid[:48, :48]
        clean = 500 + 200 * np.sin(x / 9) * np.cos(y / 8)
        noise = np.random.default_rng(0).normal(0, 20, (6, 48, 48))
        noise[1] *= 4
        result = fast(clean + noise, stack_axis=0)
        assert result.found["noise_of_stack"]["own"] == [1]
        assert "for the whole stack, but for 1 of 6 planes" in result.summary()
        sigmas = result.found["sigma"]
        assert sigmas[1] > 3 * sigmas[0]
        assert len(set(sigmas)) == 2

    def test_planes_that_have_nothing_in_common_are_told(self) -> None:
        y, x = np.mgrid[:48, :48]
        noise = np.random.default_rng(0).normal(0, 5, (6, 48, 48))
        noise *= 1.9 ** np.arange(6)[:, None, None]
        with pytest.warns(UserWarning, match="the noise of most of the 6 images of the stack"):
            result = fast(500 + 200 * np.sin(x / 9) + 0 * y + noise, stack_axis=0)
        assert result.found["sigma"] == sorted(result.found["sigma"])

    def test_batches_of_tensors_stay_as_they_were(self) -> None:
        batch = torch.from_numpy(noisy_stack().astype(np.float32))[:, None]
        each, as_stack = fast(batch), fast(batch, stack_axis=0)
        assert len(set(each.found["sigma"])) == PLANES
        assert "noise_of_stack" not in each.found
        assert len(set(as_stack.found["sigma"])) == 1

    def test_planes_of_high_dynamic_range_share_their_photon_noise(self) -> None:
        rng = np.random.default_rng(0)
        stars = np.full((4, 64, 64), 50.0)
        for plane in stars:
            rows, columns = rng.integers(4, 60, (2, 12))
            plane[rows, columns] += rng.uniform(2e3, 6e4, 12)
        stars = np.stack([ops.resize(ops.resize(p, (32, 32)), (64, 64)) for p in stars]).clip(50)
        result = fast(rng.poisson(stars).astype(np.uint16), stack_axis=0)
        stretched = [s for s, here in zip(result.found["noise"], result.found["stretched"]) if here]
        assert stretched
        assert all(noise == stretched[0] for noise in stretched)

    def test_report_of_a_stack(self) -> None:
        report = dipfast.estimate_noise(noisy_stack(), stack_axis=0)
        assert report.sigma == pytest.approx(30, rel=0.2)
        assert (report.planes, report.differing) == ((0, 1, 2, 3), ())
        assert "estimated from 4 planes together" in report.lines()
        with pytest.raises(InputError, match="channel_axis is needed"):
            dipfast.estimate_noise(np.zeros((5, 24, 20)))


class TestRuns:
    @pytest.mark.parametrize("options", [{"quality": "fast"}, {"max_iterations": 2}])
    def test_a_callback_is_told_the_plane(self, options: dict[str, Any]) -> None:
        planes = []

        def look(state: Any) -> None:
            if isinstance(state, Progress):
                planes.append(state.plane)

        dipfast.denoise(noisy_stack(), stack_axis=0, callback=look, **options)
        assert list(dict.fromkeys(planes)) == [(k, PLANES) for k in range(PLANES)]

    @pytest.mark.parametrize("at", [2, PLANES - 1])
    def test_planes_that_are_done_are_kept(self, at: int) -> None:
        stack = noisy_stack()

        def stop(state: Any) -> None:
            if state.plane[0] == at:
                raise StopIteration

        whole = fast(stack, stack_axis=0)
        result = fast(stack, stack_axis=0, callback=stop)
        np.testing.assert_array_equal(result.image[:at], whole.image[:at])
        np.testing.assert_array_equal(result.image[at:], stack[at:])
        assert (
            result.unfinished == f"{at} of 4 planes were worked on, and the others are as they were"
        )
        assert result.unfinished in result.summary()
        assert result.report()["unfinished"] == result.unfinished

    @pytest.mark.parametrize(
        "options", [{"quality": "fast"}, {"method": "dip", "max_iterations": 2}]
    )
    @pytest.mark.parametrize("at", [0, 2])
    def test_an_end_before_a_plane(self, at: int, options: dict[str, Any]) -> None:
        stack = noisy_stack()
        told: dict[str, Any] = {"stack_axis": 0, "reference": clean_stack().astype(">u2")}
        told |= options
        calls = []

        def stop(state: Any) -> None:
            if isinstance(state, Progress) and state.plane == (at, PLANES) and state.share == 0:
                calls.append(state)
                if len(calls) == 1:  # nothing is asked again
                    raise StopIteration

        result = dipfast.denoise(stack, callback=stop, **told)
        assert len(calls) == 1
        assert result.stop_reason is StopReason.CALLBACK
        np.testing.assert_array_equal(result.image[at:], stack[at:])
        whole = dipfast.denoise(stack, **told)
        np.testing.assert_array_equal(result.image[:at], whole.image[:at])
        expected = f"{at} of 4 planes were worked on, and the others are as they were"
        assert result.unfinished == expected
        assert str(StopReason.CALLBACK) in result.stop_detail
        assert (result.best_iteration, result.stop_iteration) == (0, 0)
        assert set(result.history["item"]) <= set(range(at))
        assert result.report()["metrics"]["psnr"] == result.psnr

    @pytest.mark.parametrize("kind", ["stack", "batch"])
    def test_a_plane_that_was_hardly_begun_stays_as_it_was(self, kind: str) -> None:
        stack: Any = noisy_stack()
        options: dict[str, Any] = {"method": "dip", "refine": False, "preset": SMALL}
        options["reference"] = clean_stack().astype(">u2")
        if kind == "stack":
            options["stack_axis"] = 0
        else:
            stack = torch.from_numpy(stack.astype(np.int32))[:, None]
            options["reference"] = torch.from_numpy(clean_stack().astype(np.int32))[:, None]
        iterations = []

        def stop(state: Any) -> None:
            if not isinstance(state, Progress):
                iterations.append(state.iteration)
                if len(iterations) == SMALL.iterations + 2:  # the second of the second plane
                    raise StopIteration

        result = dipfast.denoise(stack, callback=stop, **options)
        assert iterations[-2:] == [1, 2]
        np.testing.assert_array_equal(result.image[1:], stack[1:])
        assert (result.image[0] != stack[0]).any()
        assert result.unfinished is not None
        assert result.unfinished.startswith("1 of 4 ")
        assert (result.best_iteration, result.stop_iteration) == (0, 2)
        assert result.history["item"][-1] == 1

    def test_an_end_before_the_only_plane(self) -> None:
        stack = noisy_stack()[:1]

        def stop(state: Any) -> None:
            raise StopIteration

        told: dict[str, Any] = {"stack_axis": 0, "callback": stop}
        result = dipfast.denoise(stack, method="dip", **told)
        np.testing.assert_array_equal(result.image, stack)
        assert result.unfinished == "dip was ended before its end: the result is the image itself"
        assert result.history["iteration"] == []

    def test_ctrl_c(self) -> None:
        stack = noisy_stack()
        sent = []

        def interrupt(state: Any) -> None:
            # Once: a second one that comes a second later ends everything at once.
            if state.plane[0] == 1 and state.share == 0 and not sent:
                sent.append(state)
                signal.raise_signal(signal.SIGINT)

        result = fast(stack, stack_axis=0, callback=interrupt)
        assert str(result.stop_reason) == "interrupted"
        np.testing.assert_array_equal(result.image[2:], stack[2:])

    def test_checkpoint(self, tmp_path: Path) -> None:
        options: dict[str, Any] = {"stack_axis": 0, "max_iterations": 4}
        whole = dipfast.denoise(noisy_stack(), **options)
        options |= {"checkpoint": tmp_path / "c", "checkpoint_every": 1}
        calls = []

        def stop(state: Any) -> None:
            calls.append(state)
            if len(calls) == 8:
                raise StopIteration

        part = dipfast.denoise(noisy_stack(), callback=stop, **options)
        assert part.unfinished is not None
        result = dipfast.denoise(noisy_stack(), resume=True, **options)
        np.testing.assert_array_equal(result.image, whole.image)

    def test_saved_and_read_again(self, tmp_path: Path) -> None:
        from dipfast.run.record import read_settings

        result = fast(noisy_stack(), stack_axis=(0,))
        result.save(tmp_path / "out.tif")
        source = dipfast.read_image(tmp_path / "out.tif")
        assert source.stack_axes == (0,)
        np.testing.assert_array_equal(source.image, result.image)
        task, options = read_settings(tmp_path / "out.tif.json")
        assert (task, tuple(options["stack_axis"])) == ("denoise", (0,))
        again = dipfast.denoise(noisy_stack(), **options)
        np.testing.assert_array_equal(again.image, result.image)

    def test_what_is_shown(self) -> None:
        result = fast(np.moveaxis(noisy_stack(3), 0, 2), stack_axis=2)
        assert result._repr_png_().startswith(b"\x89PNG")
        assert "the first of 4 images" in result._repr_html_()
        with pytest.raises(InputError, match="got a batch of 4"):
            dipfast.save_page(result, noisy_stack(3), "page.html")


class TestNetworkInput:
    """One picture for all planes, or one for each in the form of the stack."""

    def inputs_of(self, stack: Any, guide: Any, **options: Any) -> dict[int, list[torch.Tensor]]:
        seen: dict[int, list[torch.Tensor]] = {}
        plane = 0

        def look(state: Any) -> None:
            nonlocal plane
            if isinstance(state, Progress):
                plane = state.plane[0] if state.plane else plane
            else:
                seen.setdefault(len(seen), []).append(state.prior.z[0].clone())

        result = dipfast.denoise(
            stack,
            network_input=guide,
            method="dip",
            preset=SMALL,
            max_iterations=1,
            callback=look,
            **options,
        )
        assert result.image.shape == stack.shape
        return seen

    @pytest.mark.parametrize("channels", [0, 3])
    def test_each_plane_has_its_own(self, channels: int) -> None:
        stack = noisy_stack(channels)[:3]
        guide = clean_stack(channels)[:3]
        seen = self.inputs_of(stack, guide, stack_axis=0)
        assert len(seen) == 3
        low, high = guide.min(), guide.max()
        planes = np.moveaxis(guide, -1, 1) if channels else guide[:, None]
        for number, (z,) in seen.items():
            expected = torch.from_numpy((planes[number] - low) / (high - low)).float()
            torch.testing.assert_close(z, expected)

    def test_each_image_of_a_batch_has_its_own(self) -> None:
        batch = torch.from_numpy(noisy_stack(3)[:2].astype(np.float32)).permute(0, 3, 1, 2)
        (first,), (second,) = self.inputs_of(batch, batch.flip(-1)).values()
        assert first.shape == second.shape == (3, 24, 20)
        assert not torch.equal(first, second)

    @pytest.mark.parametrize("shape", [(24, 20), (24, 20, 3)])
    def test_one_for_all(self, shape: tuple[int, ...]) -> None:
        guide = np.random.default_rng(0).random(shape, dtype=np.float32)
        seen = self.inputs_of(noisy_stack()[:2], guide, stack_axis=0)
        (first,), (second,) = seen.values()
        assert torch.equal(first, second)
        assert first.shape == (*shape[2:], 24, 20) if shape[2:] else (1, 24, 20)

    def test_others_are_refused(self) -> None:
        colours = noisy_stack(3)
        batch = torch.from_numpy(colours.astype(np.float32)).permute(0, 3, 1, 2)
        for stack, guide, options in (
            (colours, colours[:3], {"stack_axis": 0}),
            (batch, batch[:3], {}),
            (colours[0], colours[:3], {}),
        ):
            with pytest.raises(InputError, match=r"network_input must be one picture .* got shape"):
                self.inputs_of(stack, guide, **options)

    def test_a_checkpoint_knows_those_of_all_planes(self, tmp_path: Path) -> None:
        stack, guide = noisy_stack()[:2], clean_stack()[:2]
        options: dict[str, Any] = {
            "stack_axis": 0,
            "method": "dip",
            "preset": SMALL,
            "max_iterations": 1,
            "checkpoint": tmp_path / "c",
        }
        dipfast.denoise(stack, network_input=guide, **options)
        other = guide.copy()
        other[1] = other[1, ::-1]
        with pytest.raises(CheckpointMismatchError, match="network_input"):
            dipfast.denoise(stack, network_input=other, resume=True, **options)


def test_planes_share_the_memory_of_snapshots() -> None:
    size = 24 * 20 * 4 / 1e6
    options: dict[str, Any] = {"method": "dip", "preset": SMALL, "max_iterations": 12}
    result = dipfast.denoise(noisy_stack(), stack_axis=0, snapshots=12 * size, **options)
    assert [sum(s.item == k for s in result.snapshots) for k in range(PLANES)] == [3] * PLANES


def test_empty_frames_are_no_other_noise_where_sigma_is_told() -> None:
    stack = noisy_stack()
    stack[1:] = 0
    result = fast(stack, stack_axis=0, sigma=30)
    assert result.found["noise_of_stack"]["own"] == []
    assert (result.image[1:] == 0).all()
