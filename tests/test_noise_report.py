"""What is told of the noise of an image: numbers in its unit, in any form of it, and in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import dipfast
from dipfast import NoiseModel, NoiseReport, errors
from dipfast.images.layout import Layout
from dipfast.model.noise_estimate import estimate_noise as estimate_of_planes
from dipfast.settings.noise import BAND_EDGES

BANDS = len(BAND_EDGES) - 1
FALLING = tuple(2.0 / (k + 1) for k in range(BANDS))


def shades(rows: int = 64, columns: int = 72) -> np.ndarray:
    """Return a smooth picture with an edge, in [0, 1]."""
    y, x = np.mgrid[0:rows, 0:columns]
    clean = 0.3 + 0.4 * x / columns
    clean[rows // 4 : rows // 2, columns // 4 : columns // 2] = 0.8 - 0.1 * y[0, 0]
    return clean


def noisy(sigma: float, channels: int = 0, seed: int = 0, **size: int) -> np.ndarray:
    clean = shades(**size)
    if channels:
        clean = np.stack([clean * (1 - 0.1 * k) for k in range(channels)], axis=-1)
    return clean + np.random.default_rng(seed).normal(0, sigma, clean.shape)


class TestNumbers:
    def test_are_in_the_unit_of_the_image(self) -> None:
        image = noisy(0.05)
        one = dipfast.estimate_noise(image, data_range=1)
        other = dipfast.estimate_noise(image * 300 - 40, data_range=(-40, 260))
        assert one.sigma == pytest.approx(0.05, rel=0.06)
        assert other.sigma == pytest.approx(300 * one.sigma, rel=1e-3)
        assert other.levels.keys() == one.levels.keys() == {"wavelets", "patches"}
        for name, level in one.levels.items():
            assert other.levels[name] == pytest.approx(300 * level, rel=1e-3)
        assert other.model.sigma == pytest.approx(one.model.sigma, rel=1e-3)
        assert other.data_range == (-40, 260)
        assert other.range_source == "given"

    def test_are_those_of_the_estimate(self) -> None:
        image = noisy(0.05, rows=200, columns=200).astype(np.float32)
        layout = Layout.of(image)
        estimate = estimate_of_planes(layout.to_tensor(image)[0])
        report = dipfast.estimate_noise(image)
        width = layout.data_range[1] - layout.data_range[0]
        assert report.model == estimate.model
        assert report.range_source == "data"
        assert report.data_range == layout.data_range
        assert report.interval == pytest.approx([width * end for end in estimate.interval])
        assert report.interval[0] < report.interval[1]
        assert report.sigma == pytest.approx(width * estimate.model.sigma)
        assert report.remarks == estimate.remarks

    def test_same_in_every_form(self) -> None:
        image = noisy(0.08, channels=3)
        expected = dipfast.estimate_noise(image, data_range=1)
        assert expected.channel_axis == 2
        first = np.ascontiguousarray(np.moveaxis(image, -1, 0))
        for form, axis in ((first, 0), (torch.from_numpy(first), 0), (image[:, ::-1][:, ::-1], 2)):
            report = dipfast.estimate_noise(form, data_range=1)
            assert report.model == expected.model
            assert report.channel_axis == axis
        report = dipfast.estimate_noise(image.transpose(0, 2, 1), channel_axis=1, data_range=1)
        assert report.model == expected.model

    def test_eight_bits(self) -> None:
        image = (255 * noisy(0.1)).round().clip(0, 255).astype(np.uint8)
        report = dipfast.estimate_noise(image)
        assert report.range_source == "dtype"
        assert report.sigma == pytest.approx(25.5, rel=0.06)

    def test_kind_that_is_asked_for(self) -> None:
        image = noisy(0.05)
        report = dipfast.estimate_noise(image, noise="correlated", data_range=1)
        assert report.kind == "correlated"
        # White noise is not related, whatever it is taken for.
        assert max(map(abs, report.autocorrelation[0])) < 0.1
        assert dipfast.estimate_noise(image, noise="clipped", data_range=1).clipped == (True, True)

    @pytest.mark.parametrize("count", [1, 3])
    def test_stars_that_denoising_stretches_are_no_loss(self, count: int) -> None:
        sky = np.random.default_rng(0).normal(100, 3, (count, 48, 48))
        sky[:, 10:12, 10:12] = 31_800
        stack = {"stack_axis": 0} if count > 1 else {}
        report = dipfast.estimate_noise(sky if stack else sky[0], **stack)
        assert report.sigma == pytest.approx(3, rel=0.2)
        # Where nothing is stretched, it is one: the median is not dark.
        with pytest.warns(UserWarning, match="what is between them will be lost"):
            dipfast.estimate_noise(-sky if stack else -sky[0], **stack)

    def test_clipped_at_white(self) -> None:
        image = (noisy(0.1) + 0.25).clip(0, 1)
        report = dipfast.estimate_noise(image, data_range=1)
        assert report.clipped == (False, True)
        assert report.lines()[0].endswith(", white, clipped at white")

    def test_of_nothing_but_one_value(self) -> None:
        report = dipfast.estimate_noise(np.full((20, 20), 7, np.uint8))
        assert report.kind == "none"
        assert (report.sigma, report.interval) == (0, (0, 0))
        assert report.lines() == ["no noise"]

    def test_growing_with_the_signal(self) -> None:
        model = NoiseModel(0.03, gain=0.0032)
        report = NoiseReport(model, (0.04, 0.06), (0.0, 100.0))
        assert report.kind == "grows with the signal"
        assert report.sigma == pytest.approx(5.0)
        photons = np.random.default_rng(0).poisson(400 * shades(rows=160)) / 400
        told = dipfast.estimate_noise(photons, data_range=1)
        assert told.kind == "grows with the signal"
        assert told.sigma == pytest.approx(np.sqrt(0.5 / 400), rel=0.15)
        assert "at medium brightness" in told.lines()[0]

    def test_a_task_takes_the_model(self, use_small_network: Callable[..., None]) -> None:
        use_small_network(2)
        image = noisy(0.05, rows=32, columns=32)
        report = dipfast.estimate_noise(image)
        options = {"noise": report.model, "data_range": report.data_range}
        result = dipfast.denoise(image, **options)
        assert result.found["noise"] == [report.report()["model"]]
        assert result.found["sigma"] == [pytest.approx(report.sigma)]


class TestOutliers:
    @pytest.mark.parametrize("channels", [0, 3])
    @pytest.mark.parametrize("as_tensor", [False, True])
    def test_have_the_form_of_the_image(self, channels: int, as_tensor: bool) -> None:
        image = noisy(0.02, channels)
        places = [(10, 20), (50, 60), (58, 7)]
        for row, column in places:
            image[row, column] = 1.0
        form: Any = image
        if as_tensor:
            form = torch.from_numpy(image if not channels else np.moveaxis(image, -1, 0).copy())
        report = dipfast.estimate_noise(form, data_range=1)
        found = report.outliers
        assert isinstance(found, torch.Tensor if as_tensor else np.ndarray)
        assert tuple(found.shape) == tuple(form.shape)
        whole = np.asarray(found)
        if channels:
            whole = np.moveaxis(whole, report.channel_axis or 0, -1).all(axis=-1)
        assert {(row, column) for row, column in places} <= set(map(tuple, np.argwhere(whole)))
        count = int(np.asarray(found).sum())
        assert report.outlier_share == pytest.approx(count / np.asarray(found).size)
        assert report.report()["outliers"] == count
        what = "values" if channels else "pixels"
        assert any(f"outliers that stand alone: {count} {what} (" in x for x in report.lines())

    def test_there_are_none(self) -> None:
        report = dipfast.estimate_noise(shades(24, 24), data_range=1)
        assert report.outliers is None
        assert report.outlier_share == 0

    def test_a_single_one(self) -> None:
        outliers = np.zeros((20, 50), bool)
        outliers[3, 4] = True
        report = NoiseReport(NoiseModel(0.1), (0.1, 0.1), outliers=outliers)
        assert report.lines()[1] == "outliers that stand alone: 1 pixel (0.1%)"


class TestWords:
    def test_correlation(self) -> None:
        model = NoiseModel(0.05, low=0.0, high=1.0, spectrum=(FALLING,))
        report = NoiseReport(model, (0.05, 0.05), (0.0, 255.0))
        rows, columns = report.autocorrelation
        assert len(rows) == len(columns) == 4
        assert rows == pytest.approx(columns)
        assert 1 > rows[0] > rows[1] > rows[2] > rows[3] > 0
        assert report.lines() == [
            "noise 12.8 of 255, correlated, clipped at black and white",
            f"correlation of neighbours {rows[0]:.2f} along rows and columns; "
            f"{rows[1]:.2f} at distance 2",
        ]

    def test_white_noise_is_not_correlated(self) -> None:
        flat = NoiseReport(NoiseModel(0.05, spectrum=((1.0,) * BANDS,)), (0.05, 0.05))
        none = NoiseReport(NoiseModel(0.05), (0.05, 0.05))
        for report in (flat, none):
            for along in report.autocorrelation:
                assert along == pytest.approx((0, 0, 0, 0), abs=1e-9)

    def test_everything(self) -> None:
        report = NoiseReport(
            NoiseModel(0.1),
            (9.0, 11.0),
            (-50.0, 50.0),
            levels={"wavelets": 1.25, "patches": 10.0},
            stripes=(3.1, 0.0),
            remarks=("one thing", "another"),
        )
        lines = [
            "noise 10.0 of 100 (9.00 to 11.0), white",
            "stripes: rows 3.10",
            "by other estimators: wavelets 1.25",
            "one thing",
            "another",
        ]
        assert report.lines() == lines
        assert repr(report) == "<dipfast.NoiseReport: " + "\n  ".join(lines) + ">"

    @pytest.mark.parametrize(
        ("width", "told"),
        [
            (65535.0, "noise 6554 of 65535, white"),
            (1.0, "noise 0.100 of 1, white"),
            (1e9, "noise 1.00e+08 of 1e+09, white"),
            (1234.0, "noise 123 of 1234, white"),
            (2e-5, "noise 2.00e-06 of 2e-05, white"),
        ],
    )
    def test_numbers(self, width: float, told: str) -> None:
        assert NoiseReport(NoiseModel(0.1), (0.0, 0.0), (0.0, width)).lines() == [told]


def test_report_is_ready_for_json() -> None:
    image = noisy(0.05, rows=48, columns=48).astype(np.float32)
    image[5, 5] = 1
    report = dipfast.estimate_noise(image)
    told = report.report()
    assert json.loads(json.dumps(told, allow_nan=False)) == {
        **told,
        "model": json.loads(json.dumps(told["model"])),
    }
    assert told["sigma"] == report.sigma
    assert told["kind"] == report.kind
    assert told["clipped"] == {"low": False, "high": False}
    assert told["autocorrelation"] == {"rows": [0.0] * 4, "columns": [0.0] * 4}
    assert told["stripes"].keys() == {"rows", "columns"}
    assert told["model"]["sigma"] == report.model.sigma
    assert all(type(level) is float for level in told["levels"].values())


class TestRefusals:
    @pytest.mark.parametrize("count", [1, 3])
    def test_batches(self, count: int) -> None:
        batch = torch.zeros(count, 1, 16, 16)
        message = rf"image must be one image, got a batch of shape \({count}, 1, 16, 16\)"
        with pytest.raises(errors.InputError, match=message):
            dipfast.estimate_noise(batch)

    @pytest.mark.parametrize(
        ("image", "options", "message"),
        [
            (np.zeros((16, 16)), {"noise": "poison"}, "noise must be one of auto, gaussian"),
            (np.zeros((16, 16)), {"noise": NoiseModel(0.1)}, "noise must be one of auto"),
            (np.zeros((16, 16)), {"data_range": -1}, "data_range must be a positive number"),
            (np.zeros((16, 16)), {"channel_axis": 2}, "channel_axis=2 does not fit image"),
            (np.full((16, 16), np.nan), {}, "image must be finite"),
            (np.zeros((16, 16), bool), {}, "image must hold real numbers"),
            ([[1, 2]], {}, "image must be a NumPy array or a torch tensor, got list"),
            (np.eye(2), {}, "image"),
        ],
    )
    def test_arguments(self, image: Any, options: dict[str, Any], message: str) -> None:
        with pytest.raises(errors.DipfastError, match=message):
            dipfast.estimate_noise(image, **options)

    def test_modes_of_torch_do_not_matter(self) -> None:
        image = torch.from_numpy(noisy(0.05, rows=40, columns=40)).requires_grad_()
        expected = dipfast.estimate_noise(image)
        with torch.inference_mode():
            assert dipfast.estimate_noise(image).model == expected.model
