"""Every task gives the same result for an image in any unit, layout, dtype and kind of array.

Where a task cannot, it refuses the image and says why.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dipfast
from dipfast.denoisers.plug_and_play import STEPS
from dipfast.model.noise import NoiseModel
from dipfast.networks import HourglassConfig
from dipfast.operators import Blur, Mask, gaussian_kernel
from dipfast.run import prepare as plan
from dipfast.run.result import Result
from dipfast.settings.names import TASKS
from dipfast.settings.presets import PRESETS, Preset

Task = Callable[..., Result]


@pytest.fixture(autouse=True, scope="module")
def small_network() -> Any:
    network = HourglassConfig((4, 8), (4, 8), (2, 2))
    small = Preset(3, (1 / 30, 0.005), network)
    with pytest.MonkeyPatch.context() as patch:
        # The estimate of the memory takes ten times as long as such a small fit.
        patch.setattr(plan, "check_memory", lambda **_: None)
        for task in TASKS:
            patch.setitem(PRESETS, f"{task}-balanced", small)
        yield


@pytest.fixture(autouse=True)
def small_guided_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fits that are joined by default be even shorter, of a network as tiny."""
    network = HourglassConfig((4, 8), (4, 8), (2, 2))
    guided = [name for name in PRESETS if name.startswith("guided")]
    for name in [*guided, *(f"{task}-balanced" for task in TASKS[1:])]:
        monkeypatch.setitem(PRESETS, name, replace(PRESETS[name], iterations=5, network=network))
    monkeypatch.setattr("dipfast.run.job.SHORTEST_FIT", 5)
    # What is joined with them takes nearly all of the time: of many steps, each the same.
    monkeypatch.setitem(STEPS, "balanced", 4)


HOLES = np.random.default_rng(5).random((9, 11)) < 0.3


def deblur(image: Any, **options: Any) -> Result:
    return dipfast.restore(image, Blur(gaussian_kernel(0.7)), **options)


def enlarge(image: Any, **options: Any) -> Result:
    return dipfast.super_resolve(image, 2, **options)


def fill(image: Any, **options: Any) -> Result:
    mask = HOLES if isinstance(image, np.ndarray) else torch.from_numpy(HOLES)
    return dipfast.inpaint(image, mask, **options)


TASK_CALLS: dict[str, Task] = {
    "denoise": dipfast.denoise,
    "inpaint": fill,
    "super_resolve": enlarge,
    "restore": deblur,
}
tasks = pytest.mark.parametrize("name", TASK_CALLS)


def picture(seed: int, channels: int | None = 3) -> np.ndarray:
    """Return integers of 8 bits: these and their sums are exact in every dtype except float16."""
    shape = (9, 11) if channels is None else (9, 11, channels)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(float)


@cache
def plain_result(name: str, seed: int, **options: Any) -> Result:
    """Return the result for a plain picture, with which those of many images are compared."""
    result = TASK_CALLS[name](picture(seed), **options)
    result.image.flags.writeable = False
    return result


def check_close(result: Any, expected: np.ndarray, dtype: str, width: float) -> None:
    """Check that values are equal up to the rounding of the dtype, and of float32 in the fit."""
    if dtype.startswith("float"):
        tolerance = 4 * float(np.finfo(dtype).eps) * np.abs(expected).max() + 1e-6 * width
    else:
        tolerance = 0.5 + 1e-6 * width
    np.testing.assert_allclose(np.asarray(result, dtype=float), expected, rtol=0, atol=tolerance)


@tasks
@settings(max_examples=8)
@given(
    dtype=st.sampled_from(["float32", "float64"]),
    power=st.integers(-40, 40),  # from 1e-12 to 1e12
    offset=st.sampled_from([0, 1, -77, 4096]),
    tensor=st.booleans(),
    sigma=st.sampled_from(["auto", 0.0, 20.0]),
)
def test_scaled_and_shifted(
    name: str, dtype: str, power: int, offset: int, tensor: bool, sigma: Any
) -> None:
    scale = 2.0**power
    plain = picture(0)
    moved = (scale * (plain + offset)).astype(dtype)
    given_sigma = sigma if sigma == "auto" else sigma * scale
    expected = plain_result(name, 0, sigma=sigma)
    image: Any = torch.from_numpy(moved).permute(2, 0, 1) if tensor else moved
    result = TASK_CALLS[name](image, sigma=given_sigma)
    found = result.image.permute(1, 2, 0).numpy() if tensor else result.image
    assert found.dtype == dtype
    check_close(found, scale * (expected.image + offset), dtype, 256 * scale)
    low, high = result.found["data_range"]
    assert (high - low) == pytest.approx(scale * np.ptp(expected.found["data_range"]), rel=1e-6)
    assert result.found["sigma"][0] == pytest.approx(scale * expected.found["sigma"][0])


@tasks
@settings(max_examples=5)
@given(scale=st.floats(1e-12, 1e12), offset=st.floats(-3, 3), seed=st.integers(0, 9))
def test_scaled_by_any_number(name: str, scale: float, offset: float, seed: int) -> None:
    plain = picture(seed, None)
    expected = TASK_CALLS[name](plain).image
    found = TASK_CALLS[name](scale * (plain + offset)).image
    # A difference in the last digit may change the steps of Adam a little.
    np.testing.assert_allclose(found / scale - offset, expected, rtol=0, atol=0.05 * 256)
    margin = 0.3 if name in ("super_resolve", "restore") else 1e-6
    assert found.min() >= scale * (plain.min() + offset - margin * 256)
    assert found.max() <= scale * (plain.max() + offset + margin * 256)


@tasks
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "int64", "float16", ">u2"])
@pytest.mark.parametrize("data_range", [None, (-10, 300)])
def test_every_dtype(name: str, dtype: str, data_range: Any) -> None:
    plain = picture(1)
    # The default range of uint8.
    same = (0, 255) if data_range is None and dtype == "uint8" else data_range
    expected = plain_result(name, 1, data_range=same).image
    expected = expected.clip(0) if dtype in ("uint8", "uint16", ">u2") else expected
    expected = expected.clip(None, 255) if dtype == "uint8" else expected
    result = TASK_CALLS[name](plain.astype(dtype), data_range=data_range)
    assert result.image.dtype == dtype
    check_close(result.image, expected, dtype, 256)
    if dtype != ">u2":
        tensor = torch.from_numpy(plain.astype(dtype)).permute(2, 0, 1)
        other = TASK_CALLS[name](tensor, data_range=data_range).image
        # torch rounds to float16 by way of float32.
        tolerance = 1e-3 if dtype == "float16" else 0
        np.testing.assert_allclose(other.permute(1, 2, 0).numpy(), result.image, rtol=tolerance)


@tasks
def test_every_layout(name: str) -> None:
    plain = picture(2)
    expected = TASK_CALLS[name](plain).image
    first = np.moveaxis(plain, -1, 0)
    layouts: list[tuple[Any, int | None, int]] = [
        (first, None, 0),
        (first, 0, 0),
        (np.moveaxis(plain, -1, 1), 1, 1),
        (torch.from_numpy(plain), None, 2),  # channels last, as in arrays
        (torch.from_numpy(first.copy()), None, 0),
        (torch.from_numpy(first.copy())[None], None, 1),
        (torch.from_numpy(plain)[None], None, 3),
    ]
    for image, given_axis, axis in layouts:
        result = TASK_CALLS[name](image, channel_axis=given_axis)
        assert result.channel_axis == axis
        found = np.moveaxis(np.asarray(result.image), axis, -1)
        assert (found.reshape(expected.shape) == expected).all()


@tasks
def test_every_kind_of_array(name: str, tmp_path: Any) -> None:
    plain = picture(3, None)
    expected = TASK_CALLS[name](plain).image
    np.save(tmp_path / "a.npy", plain)
    read_only = plain.copy()
    read_only.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        matrix = np.matrix(plain)
    kinds: list[Any] = [
        np.load(tmp_path / "a.npy", mmap_mode="r"),
        np.asfortranarray(plain),
        plain[::-1, ::-1].copy()[::-1, ::-1],
        plain.astype(">f8"),
        plain.astype(np.longdouble),
        read_only,
        matrix,
        np.ma.masked_array(plain),
    ]
    for image in kinds:
        found = TASK_CALLS[name](image).image
        assert type(found) is np.ndarray
        assert (found == expected).all()
    for other in (plain.tolist(), "a.png", None, memoryview(plain)):
        with pytest.raises(TypeError, match=r"(image|measurement) must be a NumPy array or a tor"):
            TASK_CALLS[name](other)
    if name != "inpaint":
        with pytest.raises(ValueError, match=r"masked pixels?, which only inpaint fill"):
            TASK_CALLS[name](np.ma.masked_less(plain, 9))


@settings(max_examples=20)
@given(
    dtype=st.sampled_from(["uint8", "uint16", "int16", "float32", "float64"]),
    garbage=st.sampled_from([math.nan, math.inf, -math.inf, -9999.0, 65535.0, 1e30, 0.0]),
    sigma=st.sampled_from(["auto", 0.0]),
    kind=st.sampled_from(["mask", "masked", "nan", "tensor"]),
    data_range=st.sampled_from([None, (0, 300)]),
    keep_known=st.booleans(),
)
def test_values_of_missing_pixels_have_no_influence(
    dtype: str, garbage: float, sigma: Any, kind: str, data_range: Any, keep_known: bool
) -> None:
    plain = picture(4, None).astype(dtype)
    options = {"sigma": sigma, "data_range": data_range, "keep_known": keep_known}
    expected = dipfast.inpaint(plain, HOLES, **options)
    filled = dipfast.inpaint(np.where(HOLES, plain[~HOLES][0], plain), HOLES, **options)
    assert (filled.image == expected.image).all()
    if np.dtype(dtype).kind != "f":
        limits = np.iinfo(dtype)
        finite = garbage if math.isfinite(garbage) else 0.0
        garbage = float(np.clip(finite, limits.min, limits.max))
    image: Any = plain.copy()
    with np.errstate(over="ignore"):
        image[HOLES] = np.asarray(garbage).astype(dtype)
    if kind == "masked":
        result = dipfast.inpaint(np.ma.masked_array(image, HOLES), **options)
    elif kind == "nan" and dtype.startswith("float"):
        image[HOLES] = math.nan
        result = dipfast.inpaint(image, **options)
    elif kind == "tensor":
        tensor = torch.from_numpy(image)
        result = dipfast.inpaint(tensor, torch.from_numpy(HOLES), **options)
    else:
        result = dipfast.inpaint(image, HOLES, **options)
    for one, other in ((result.image, expected.image), (result.raw_image, expected.raw_image)):
        assert (np.asarray(one) == other).all()
    for key in ("noise", "data_range", "sigma", "tv_weight", "missing"):
        assert result.found[key] == expected.found[key]


@tasks
@pytest.mark.parametrize("value", [0.0, 1e-12, 100.0, -3.5, 1e12])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_value_stays_that(name: str, value: float, dtype: str) -> None:
    image = np.full((9, 11), value, dtype)
    result = TASK_CALLS[name](image, sigma="auto").image
    np.testing.assert_allclose(
        result, np.broadcast_to(image[0, 0], result.shape), rtol=1e-6, atol=1e-37
    )


@pytest.mark.parametrize("seed", range(3))
def test_signed_data_keep_their_sign(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scored = np.where(np.arange(40) > 20, 1.0, -1.0) + rng.normal(0, 1, (40, 40))
    result = dipfast.denoise(scored.astype(np.float32), max_iterations=60)
    assert result.found["range_source"] == "data"
    assert result.image[:, :15].mean() < -0.3
    assert result.image[:, 25:].mean() > 0.3


class TestPSNR:
    @pytest.mark.parametrize(
        ("dtype", "scale", "data_range", "peak"),
        [
            ("uint8", 1, None, 255),
            ("float32", 1 / 255, None, 1),
            ("float64", 1 / 255, None, 1),
            ("float64", 0.01, None, None),
            ("float64", 1e-6, None, None),
            ("float32", 1, None, None),
            ("uint16", 257, None, 65535),
            ("uint16", 16, None, None),
            (">u2", 257, None, 65535),
            (">f4", 1 / 255, None, 1),
            ("uint16", 16, (0, 4095), 4095),
            ("float64", 1 / 255, (0, 2), 2),
        ],
    )
    def test_peak(self, dtype: str, scale: float, data_range: Any, peak: float | None) -> None:
        clean = (picture(6, None) * scale).astype(dtype)
        noise = np.random.default_rng(0).normal(0, 20 * scale, clean.shape)
        low, high = (0, 255) if dtype == "uint8" else (clean.min(), clean.max())
        noisy = (clean + noise).clip(low, high).astype(dtype)
        result = dipfast.denoise(noisy, reference=clean, data_range=data_range)
        width = float(np.ptp(clean)) if peak is None else peak
        for name, image in (("psnr_input", noisy), ("psnr", result.image)):
            expected = dipfast.ops.psnr(image.astype(float), clean.astype(float), data_range=width)
            assert result.metrics[name] == pytest.approx(expected, abs=1e-3)
        assert max(result.history["psnr_average"]) == pytest.approx(
            result.metrics["psnr_oracle"], abs=1e-3
        )


class TestRefused:
    def test_a_noise_model_without_its_unit(self) -> None:
        image = picture(0, None) / 255
        with pytest.raises(ValueError, match="data_range is needed where noise is a NoiseModel"):
            dipfast.denoise(image, noise=NoiseModel(0.1))
        dipfast.denoise(image, noise=NoiseModel(0.1), data_range=1)

    def test_operators_that_do_not_keep_constants(self) -> None:
        image = picture(0, None)
        brighter = Blur(2 * gaussian_kernel(0.7))
        message = r"data_range is needed: operator makes values from 2 to 2 of an image of ones"
        with pytest.raises(ValueError, match=message):
            dipfast.restore(image, brighter)
        result = dipfast.restore(image, brighter, data_range=200)
        assert result.image.max() <= 200
        with pytest.raises(ValueError, match=r"data_range must begin at 0, got \(10.0, 200.0\)"):
            dipfast.restore(image, brighter, data_range=(10, 200))

    def test_operators_that_are_not_linear(self) -> None:
        with pytest.raises(ValueError, match="data_range is needed: operator is not linear"):
            dipfast.restore(picture(0, None), lambda x: x**2.2)
        dipfast.restore(picture(0, None), lambda x: x**2.2, data_range=255)

    def test_a_shape_that_the_operator_does_not_have(self) -> None:
        with pytest.raises(ValueError, match=r"image_shape=\(20, 20\) is not that of the operator"):
            dipfast.restore(picture(0), Blur(gaussian_kernel(0.7)), image_shape=(20, 20))

    def test_a_sigma_in_another_unit(self) -> None:
        image = picture(0, None) / 255
        message = r"sigma=25 is in the unit of the image, whose range from 0 to 1 is narrower than"
        for name in TASK_CALLS:
            with pytest.raises(ValueError, match=message):
                TASK_CALLS[name](image, sigma=25, data_range=1)

    @pytest.mark.parametrize("garbage", [9999.0, -9999.0, math.nan, math.inf])
    def test_what_a_mask_hides_has_no_influence(self, garbage: float) -> None:
        mask = Mask(torch.from_numpy(~HOLES)[None, None])
        images = [np.where(HOLES, value, picture(0, None)) for value in (0.0, garbage)]
        results = [dipfast.restore(image, mask) for image in images]
        assert results[0].found["data_range"] == results[1].found["data_range"]
        assert (results[0].image == results[1].image).all()

    def test_masks_of_every_shape_tell_the_same_noise(self) -> None:
        rng = np.random.default_rng(0)
        known = torch.from_numpy(rng.random((48, 64)) < 0.7)
        known[0] = True  # the first row is no mask of all
        noisy = np.linspace(80, 160, 64) + rng.normal(0, 20, (3, 48, 64))
        y = torch.from_numpy(np.where(known.numpy(), noisy, 0)).float()[None]
        masks = (known, known.expand(3, -1, -1), known.expand(1, 3, -1, -1))
        told = {"sigma": "auto", "quality": "fast", "method": "pnp"}
        found = [dipfast.restore(y, Mask(m), **told).found for m in masks]
        assert found[0]["sigma"] == found[1]["sigma"] == found[2]["sigma"]
        assert 10 < found[0]["sigma"][0] < 30

    def test_low_contrast_of_one_channel_or_image_is_warned_of(self) -> None:
        plain = picture(0, None)
        with pytest.warns(UserWarning, match="of channel 0 of image lie between .* will be lost"):
            dipfast.denoise(np.stack([plain, 1e4 * plain], axis=-1))
        batch = torch.from_numpy(np.stack([plain[None], 1e4 * plain[None]]))
        with pytest.warns(UserWarning, match="of image 0 of image lie between .* will be lost"):
            dipfast.denoise(batch)

    def test_a_flat_reference(self) -> None:
        plain = picture(0, None)
        flat = np.full_like(plain, plain.mean())
        assert dipfast.denoise(plain, reference=flat).metrics["psnr_input"] > 0

    def test_an_operator_that_is_not_finite(self) -> None:
        result = dipfast.restore(picture(0, None), lambda x: x * math.nan, data_range=255)
        assert result.unfinished is not None

    def test_what_darkens_begins_at_black(self) -> None:
        zero = Blur(gaussian_kernel(0.7), "zero")
        result = dipfast.restore(picture(0, None) + 10, zero)
        low, high = result.found["data_range"]
        assert low == 0
        assert high > 255
        with pytest.raises(ValueError, match="data_range must begin at 0"):
            dipfast.restore(picture(0, None) - 10, zero)

    def test_values_beyond_a_range_that_was_given(self) -> None:
        for dtype in ("float32", "int16"):
            image = (picture(0, None) * 10).astype(dtype)
            with pytest.warns(UserWarning, match="beyond data_range=.* will be cut off"):
                dipfast.denoise(image, data_range=255)
        noisy = np.random.default_rng(0).normal(0, 0.3, (20, 20)) + (np.arange(20) > 10)
        dipfast.denoise(noisy, data_range=1)  # noise may exceed the range without a warning


class TestMeasurementsInAnotherRange:
    """What an operator makes of images in the range may be far outside of it."""

    OPTIONS: ClassVar[dict[str, Any]] = {"method": "pnp", "quality": "fast", "data_range": 100}

    def scene(self) -> np.ndarray:
        rows, columns = np.mgrid[:24, :24]
        return (50 + 40 * np.sin(columns / 4) * np.cos(rows / 5)).astype(np.float32)

    @pytest.mark.parametrize("dtype", [np.float32, np.uint16])
    def test_brighter_ones_are_nothing_to_warn_of(self, dtype: type) -> None:
        """Neither are integers in another unit; 25 times the range is what the operator makes."""
        scene, blur = self.scene(), Blur(torch.ones(5, 5))
        measured = blur(torch.from_numpy(scene)[None, None])[0, 0].numpy().round().astype(dtype)
        result = dipfast.restore(measured, blur, sigma=1, **self.OPTIONS)
        assert np.abs(result.image - scene).max() < 3

    def test_noise_may_be_stronger_than_the_range_is_wide(self) -> None:
        noisy = 4 * self.scene() + np.random.default_rng(0).normal(0, 120, (24, 24))
        dipfast.restore(noisy, lambda u: 4 * u, sigma=120, **self.OPTIONS)

    def test_those_of_an_image_beyond_the_range_are_warned_of(self) -> None:
        measured = 4 * 2 * self.scene()
        with pytest.warns(UserWarning, match=r"beyond data_range=\(0.0, 100.0\) will be cut off"):
            dipfast.restore(measured, lambda u: 4 * u, sigma=1, **self.OPTIONS)

    def test_noise_that_is_cut_off_elsewhere_is_refused(self) -> None:
        measured = (4 * self.scene()).clip(0, 300)
        words = (
            r"noise='clipped' is cut off at 0 and 100, and 8\d% of the values of measurement are "
            r"beyond: .*NoiseModel\(sigma, low=\.\.\., high=\.\.\.\)"
        )
        with pytest.raises(ValueError, match=words):
            dipfast.restore(measured, lambda u: 4 * u, noise="clipped", **self.OPTIONS)
        model = NoiseModel(0.01, high=1.0)
        with pytest.raises(ValueError, match="noise is cut off at 100, and"):
            dipfast.restore(measured, lambda u: 4 * u, noise=model, **self.OPTIONS)
        model = NoiseModel(0.01, low=0.0, high=3.0)
        dipfast.restore(measured, lambda u: 4 * u, noise=model, **self.OPTIONS)

    def test_a_weak_operator_is_told_of_where_a_network_is_fitted(self) -> None:
        measured = 1e-3 * self.scene()
        # Their differences are not lost without one, and nothing is warned of.
        result = dipfast.restore(measured, lambda u: 1e-3 * u, sigma=1e-4, **self.OPTIONS)
        assert np.abs(result.image - self.scene()).max() < 3
        with pytest.warns(UserWarning, match="operator makes values of 0.001 at most .* by 1e.03"):
            dipfast.restore(
                measured, lambda u: 1e-3 * u, sigma=1e-4, max_iterations=1, data_range=100
            )

    def test_responses_that_are_not_finite_bound_nothing(self) -> None:
        measured = np.log(self.scene() / 100)
        dipfast.restore(measured, torch.log, sigma=0.01, max_iterations=1, data_range=1)
