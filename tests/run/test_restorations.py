"""Inpainting, super-resolution and restoration with operators of your own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import dipfast
from dipfast import ops
from dipfast.networks import HourglassConfig
from dipfast.operators import Blur, Compose, Downsample, Mask, gaussian_kernel
from dipfast.run import job as job_module
from dipfast.settings.presets import PRESETS, Preset

Pair = tuple[np.ndarray, np.ndarray]


@pytest.fixture(autouse=True)
def small_network(use_small_network: Callable[..., None]) -> None:
    use_small_network(60, average_decay=0.9)


@pytest.fixture
def clean(noisy_pair: Pair) -> np.ndarray:
    return noisy_pair[1]


@pytest.fixture
def holes(clean: np.ndarray) -> np.ndarray:
    """Return missing pixels: half of the pixels, a block, and one column of the border."""
    missing = np.random.default_rng(1).random(clean.shape[:2]) < 0.5
    missing[20:26, 5:12] = True
    missing[:, -1] = True
    return missing


def psnr_at(where: np.ndarray, image: np.ndarray, clean: np.ndarray) -> float:
    return ops.psnr(image[where].astype(float), clean[where].astype(float), data_range=255)


class TestInpaint:
    def test_holes_are_filled_and_the_rest_is_kept(
        self, clean: np.ndarray, holes: np.ndarray
    ) -> None:
        image = np.where(holes[..., None], 0, clean).astype(np.uint8)
        result = dipfast.inpaint(image, holes, max_iterations=400, reference=clean)
        assert (result.image[~holes] == clean[~holes]).all()
        assert psnr_at(holes, result.image, clean) > 25
        assert result.raw_image.shape == clean.shape
        assert (result.raw_image[holes] == result.image[holes]).all()
        assert not (result.raw_image == result.image).all()
        assert result.psnr == pytest.approx(ops.psnr(result.image, clean), rel=1e-6)
        assert result.found["missing"] == pytest.approx(holes.mean())
        assert result.found["preset"] == "inpaint-balanced"

    def test_values_of_missing_pixels_have_no_influence(
        self, clean: np.ndarray, holes: np.ndarray
    ) -> None:
        images = [np.where(holes[..., None], v, clean).astype(np.uint8) for v in (0, 255)]
        first, second = (
            dipfast.inpaint(image, holes, max_iterations=5, sigma=0).image for image in images
        )
        assert (first == second).all()
        first, second = (
            dipfast.inpaint(image, holes, max_iterations=5, sigma="auto") for image in images
        )
        assert (first.image == second.image).all()
        assert first.found["noise"] == second.found["noise"]

    def test_masks_of_every_kind_agree(self, clean: np.ndarray, holes: np.ndarray) -> None:
        image = np.where(holes[..., None], 0, clean).astype(np.uint8)
        expected = dipfast.inpaint(image, holes, max_iterations=3).image
        floats = image / 255
        nan = np.where(holes[..., None], math.nan, floats)
        alpha = np.dstack([image, np.where(holes, 0, 255).astype(np.uint8)])
        tensor = torch.from_numpy(image).permute(2, 0, 1)
        same = [
            dipfast.inpaint(image, ~holes, mask_marks="known", max_iterations=3).image,
            dipfast.inpaint(image, holes * np.uint8(255), max_iterations=3).image,
            dipfast.inpaint(image, 0, max_iterations=3).image,
            dipfast.inpaint(alpha, "alpha", max_iterations=3).image,
            (dipfast.inpaint(nan, max_iterations=3, data_range=1).image * 255)
            .round()
            .astype(np.uint8),
            dipfast.inpaint(
                np.ma.masked_array(image, np.broadcast_to(holes[..., None], image.shape)),
                max_iterations=3,
            ).image,
            dipfast.inpaint(tensor, torch.from_numpy(holes), max_iterations=3)
            .image.permute(1, 2, 0)
            .numpy(),
        ]
        for other in same:
            assert (other == expected).all()

    def test_known_pixels_stay_to_the_last_bit(self, clean: np.ndarray, holes: np.ndarray) -> None:
        rng = np.random.default_rng(0)
        for image, data_range in (
            (clean.astype(np.uint16) * 257, None),
            (rng.random(clean.shape), None),
            (rng.integers(0, 2**32, clean.shape, dtype=np.uint32), 2**32 - 1),
            (rng.random(clean.shape).astype(np.float32) * 7 - 3, (-3, 4)),
        ):
            result = dipfast.inpaint(image, holes, max_iterations=1, data_range=data_range)
            assert result.image.dtype == image.dtype
            assert (result.image[~holes] == image[~holes]).all()
        image = clean
        result = dipfast.inpaint(image, holes, max_iterations=3)
        raw = dipfast.inpaint(image, holes, max_iterations=3, keep_known=False)
        assert (raw.image == raw.raw_image).all()
        assert (raw.image == result.raw_image).all()

    def test_grey_with_opacity(self, clean: np.ndarray, holes: np.ndarray) -> None:
        image = np.dstack([clean[..., 0], np.where(holes, 0, 255).astype(np.uint8)])
        result = dipfast.inpaint(image, "alpha", max_iterations=3)
        assert result.image.shape == holes.shape

    def test_masks_of_a_batch(self, clean: np.ndarray, holes: np.ndarray) -> None:
        one = torch.from_numpy(clean).permute(2, 0, 1)[None]
        mask = torch.from_numpy(holes)[None, None]
        two = torch.cat([one, one.flip(-1)])
        result = dipfast.inpaint(two, torch.cat([mask, mask.flip(-1)]), max_iterations=3)
        for item, expected_mask in ((0, mask[0, 0]), (1, mask[0, 0].flip(-1))):
            alone = dipfast.inpaint(two[item : item + 1], expected_mask, max_iterations=3)
            assert torch.equal(result.image[item : item + 1], alone.image)

    def test_without_noise_two_stages_are_plain_dip(
        self, clean: np.ndarray, holes: np.ndarray
    ) -> None:
        two, plain = (
            dipfast.inpaint(clean, holes, method=method, max_iterations=9)
            for method in ("two_stage", "dip")
        )
        assert (two.image == plain.image).all()
        assert two.found["tv_weight"] == [0.0]
        assert two.stop_reason == "all iterations done"

    def test_noise_besides_holes(self, noisy_pair: Pair, holes: np.ndarray) -> None:
        noisy, clean = noisy_pair
        result = dipfast.inpaint(
            noisy, holes, sigma=25, keep_known=False, max_iterations=300, reference=clean
        )
        assert result.psnr > result.metrics["psnr_input"] + 4
        share = 1 - holes.mean()
        assert result.found["tv_weight"][0] == pytest.approx(2 * 25 / 255 * share)
        estimated = dipfast.inpaint(noisy, holes, sigma="auto", max_iterations=1)
        assert estimated.found["sigma"][0] == pytest.approx(25, rel=0.3)

    def test_an_inverted_mask_is_warned_of(self, clean: np.ndarray) -> None:
        mask = np.zeros(clean.shape[:2], dtype=bool)
        mask[3:5, 3:5] = True
        with pytest.warns(UserWarning, match="mask_marks='known' the right way round"):
            dipfast.inpaint(clean, mask, mask_marks="known", max_iterations=1)


class TestSuperResolve:
    @pytest.mark.parametrize("factor", [2, 3, 4, 8])
    @pytest.mark.parametrize("shape", [(5, 7), (9, 6, 3), (1, 1)])
    def test_exactly_factor_times_the_size(self, factor: int, shape: tuple[int, ...]) -> None:
        image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        result = dipfast.super_resolve(image, factor, max_iterations=2)
        assert result.image.shape == (factor * shape[0], factor * shape[1], *shape[2:])
        assert result.image.dtype == np.uint8
        assert result.raw_image is result.image

    def test_made_smaller_again_it_is_the_image(self, clean: np.ndarray) -> None:
        result = dipfast.super_resolve(clean, 2, kernel="box", max_iterations=300)
        planes = np.moveaxis(result.image, -1, 0).astype(float)
        smaller = np.moveaxis(ops.downsample(planes, 2, kernel="box"), 0, -1)
        assert ops.psnr(smaller, clean.astype(float), data_range=255) > 30

    def test_reference_has_the_size_of_the_result(self, clean: np.ndarray) -> None:
        small = clean[::2, ::2]
        result = dipfast.super_resolve(small, 2, reference=clean, max_iterations=3)
        assert 10 < result.metrics["psnr_input"] < 40  # of the bicubic enlargement
        assert result.psnr == pytest.approx(ops.psnr(result.image, clean), rel=1e-6)
        with pytest.raises(ValueError, match=r"of the result, ndarray \(32, 40, 3\), got ndarray"):
            dipfast.super_resolve(small, 2, reference=small, max_iterations=3)

    def test_a_little_total_variation_to_begin_with(self, clean: np.ndarray) -> None:
        for options, weight in (({}, 0.01), ({"sigma": 10}, 20 / 255), ({"tv_weight": 0.0}, 0.0)):
            result = dipfast.super_resolve(
                clean[:8, :8], 2, preset="super_resolve-fast", max_iterations=1, **options
            )
            assert result.found["tv_weight"][0] == pytest.approx(weight)

    def test_interrupted_batch_is_enlarged_plainly(self, clean: np.ndarray) -> None:
        one = torch.from_numpy(clean).permute(2, 0, 1)[None]

        def callback(_: object) -> None:
            raise StopIteration

        result = dipfast.super_resolve(torch.cat([one, one]), 2, callback=callback)
        assert result.image.shape == (2, 3, 64, 80)
        bicubic = ops.resize(one.double(), (64, 80), kernel="bicubic").clamp(0, 255).round()
        assert (result.image[1:].double() - bicubic).abs().max() <= 1

    @pytest.mark.parametrize("factor", [0, 1, 5, 2.0, True, "2", None])
    def test_factors(self, factor: object, clean: np.ndarray) -> None:
        with pytest.raises(ValueError, match=f"factor must be one of 2, 3, 4, 8, got {factor!r}"):
            dipfast.super_resolve(clean, factor)


class TestRestore:
    @pytest.mark.parametrize("shape", [(1, 40), (32, 1)])
    def test_masks_of_whole_lines(self, clean: np.ndarray, shape: tuple[int, int]) -> None:
        known = torch.ones(shape, dtype=torch.bool)
        known.view(-1)[10:13] = False
        image = torch.from_numpy(clean[:32, :40]).permute(2, 0, 1)
        whole = Mask(known.expand(32, 40))
        results = [
            dipfast.restore(image, mask, method="pnp", quality="fast").image
            for mask in (Mask(known), whole)
        ]
        assert torch.equal(*results)

    def test_deblurring(self, clean: np.ndarray) -> None:
        blur = Blur(gaussian_kernel(1.2, 7))
        planes = torch.from_numpy(clean).permute(2, 0, 1)[None].float() / 255
        blurred = (blur(planes)[0] * 255).round().clamp(0, 255).byte()
        image = blurred.permute(1, 2, 0).numpy()
        result = dipfast.restore(image, blur, sigma=0, max_iterations=600, reference=clean)
        assert result.psnr > result.metrics["psnr_input"] + 1.5
        assert result.found["operator"] == "Blur"

    def test_composition_and_size(self, clean: np.ndarray) -> None:
        camera = Compose(Blur(gaussian_kernel(0.7, 5)), Downsample(2))
        result = dipfast.restore(clean, camera, max_iterations=3)
        assert result.image.shape == (64, 80, 3)

    def test_a_module_with_image_shape(self, clean: np.ndarray) -> None:
        pool = nn.AvgPool2d(2)
        result = dipfast.restore(clean, pool, image_shape=(64, 80), max_iterations=3)
        assert result.image.shape == (64, 80, 3)
        grey = nn.Conv2d(3, 1, 1, bias=False)
        measured = clean[..., :1]
        result = dipfast.restore(measured, grey, image_shape=(3, 32, 40), max_iterations=3)
        assert result.image.shape == (32, 40, 3)
        assert grey.weight.requires_grad

    def test_nonlinear_function(self, clean: np.ndarray) -> None:
        gamma = dipfast.restore(
            (255 * (clean / 255) ** 2).round().astype(np.uint8),
            torch.square,
            sigma=0,
            reference=clean,
            max_iterations=400,
        )
        assert gamma.psnr > gamma.metrics["psnr_input"] + 5

    def test_identity_is_denoising(self, noisy_pair: Pair) -> None:
        options = {"max_iterations": 5, "stop": "none"}  # the default rule is another
        result = dipfast.restore(noisy_pair[0], torch.nn.Identity(), **options)
        denoised = dipfast.denoise(noisy_pair[0], refine=False, **options)
        np.testing.assert_allclose(result.image, denoised.image, atol=1)

    @pytest.mark.parametrize(
        ("operator", "options", "error", "message"),
        [
            (3, {}, TypeError, "operator must be a torch module.*got int"),
            (nn.AvgPool2d(2), {}, ValueError, "operator cannot be applied with measurement of sh"),
            (lambda _: 3, {}, ValueError, "operator cannot be applied"),
            (Downsample(2), {"image_shape": (0, 3)}, ValueError, "image_shape must be .*got .0, 3"),
            (nn.Identity(), {"image_shape": "big"}, ValueError, "image_shape must be"),
            (
                Mask(torch.zeros(32, 40, dtype=torch.bool)),
                {},
                ValueError,
                "a mask that knows no pi",
            ),
        ],
    )
    def test_operators_that_do_not_fit(
        self, clean: np.ndarray, operator, options: dict, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            dipfast.restore(clean, operator, **options)


class TestOptions:
    def test_network_input(self, noisy_pair: Pair) -> None:
        noisy, clean = noisy_pair
        flash = dipfast.denoise(
            noisy, network_input=clean, preset="original-flash", max_iterations=2, method="dip"
        )
        assert flash.found["preset"] == "original-flash"
        with pytest.raises(ValueError, match="network_input is needed for preset='original-flash'"):
            dipfast.denoise(noisy, preset="original-flash")
        with pytest.raises(ValueError, match="network_input must have the rows and columns"):
            dipfast.denoise(noisy, network_input=clean[1:])

    def test_noise_models(self, noisy_pair: Pair) -> None:
        noisy = noisy_pair[0]
        model = dipfast.NoiseModel(0.1, 0.01, low=0.0, high=1.0)
        result = dipfast.denoise(noisy, noise=model, max_iterations=3)
        assert result.found["noise"] == [
            {
                "sigma": 0.1,
                "gain": 0.01,
                "low": 0.0,
                "high": 1.0,
                "spectrum": None,
                "offset": 0.0,
                "excess": 1.0,
                "channel_levels": None,
            }
        ]
        clipped = dipfast.denoise(noisy, noise="clipped", sigma=25, max_iterations=3)
        assert clipped.found["noise"][0]["low"] == 0.0
        plain = dipfast.denoise(noisy, noise="gaussian", sigma=25, max_iterations=3)
        assert plain.found["noise"][0]["low"] is None
        assert not (plain.image == clipped.image).all()
        with pytest.raises(ValueError, match="sigma=25 has no meaning where noise is a model"):
            dipfast.denoise(noisy, noise=model, sigma=25)

    def test_stages_of_your_own(self, noisy_pair: Pair) -> None:
        from dipfast.prior.stages import Stage

        stages = [Stage("a", 2, 0.1), Stage("b", 3)]
        result = dipfast.denoise(noisy_pair[0], method=stages)
        assert result.history["stage"] == ["a", "a", "b", "b", "b"]
        assert result.found["stages"] == ["a", "b"]
        assert result.found["max_iterations"] == 5
        for options, message in (
            ({"max_iterations": 3}, "max_iterations has no meaning"),
            ({"tv_weight": 3}, "tv_weight=3 has no meaning"),
        ):
            with pytest.raises(ValueError, match=message):
                dipfast.denoise(noisy_pair[0], method=stages, **options)
        with pytest.raises(TypeError, match="method must be a name or a sequence of stages"):
            dipfast.denoise(noisy_pair[0], method=["dip"])

    def test_wrong_arguments_are_named_before_any_work(
        self, clean: np.ndarray, holes: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_work(*_, **__):
            raise AssertionError("work was started")

        monkeypatch.setattr(job_module, "DeepImagePrior", no_work)
        cases = [
            (lambda: dipfast.inpaint(clean, holes[1:]), "mask must have shape"),
            (lambda: dipfast.inpaint(clean, holes & False), "mask says that nothing is missing"),
            (lambda: dipfast.inpaint(clean), "mask is needed"),
            (lambda: dipfast.inpaint(clean, holes, sigma=-1), "sigma must be"),
            (lambda: dipfast.inpaint(clean / 255 * math.inf, holes), "image must be finite"),
            (lambda: dipfast.super_resolve(clean, 2, kernel="sinc"), "kernel must be one of"),
            (lambda: dipfast.denoise(clean, noise="salt"), "noise must be one of auto"),
            (lambda: dipfast.denoise(clean, preset="mine"), "preset must be one of"),
        ]
        for call, message in cases:
            with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=message):
                call()
        with pytest.raises(TypeError, match=r"image must be a NumPy array .* got str"):
            dipfast.inpaint("picture.png", holes)
        with pytest.raises(ValueError, match="got 1 dimensions"):
            dipfast.inpaint(np.full(4, math.nan))
        infinite = clean.astype(float)
        infinite[~holes] = math.inf
        with pytest.raises(ValueError, match="mark them as missing in the mask, or as NaN"):
            dipfast.inpaint(infinite, holes)
        with pytest.raises(TypeError, match="keep_known must be True or False, got 1"):
            dipfast.inpaint(clean, holes, keep_known=1)
        with pytest.raises(TypeError, match="unexpected keyword argument 'sgima'"):
            dipfast.inpaint(clean, holes, sgima=1)


def test_text_on_a_real_picture() -> None:
    from skimage.data import camera

    clean = camera()[64:128, 192:256]
    missing = np.zeros(clean.shape, dtype=bool)
    missing[::8, 5:60] = missing[10:50, ::9] = True
    widths = (16, 32, 64)
    preset = Preset(300, (0.03, 0.03), HourglassConfig(widths, widths, (4, 4, 4)))
    result = dipfast.inpaint(np.where(missing, 0, clean), missing, preset=preset, reference=clean)
    grey = np.where(missing, clean[~missing].mean(), clean)
    assert psnr_at(missing, result.image, clean) > psnr_at(missing, grey, clean) + 5


def test_learning_rate(noisy_pair: Pair) -> None:
    preset = PRESETS["denoise-balanced"]
    slow = dipfast.denoise(noisy_pair[0], learning_rate=1e-4, max_iterations=9)
    same = dipfast.denoise(
        noisy_pair[0], preset=replace(preset, learning_rate=1e-4), max_iterations=9
    )
    assert (slow.image == same.image).all()
    assert (slow.image != dipfast.denoise(noisy_pair[0], max_iterations=9).image).any()
    assert slow.settings["learning_rate"] == 1e-4
