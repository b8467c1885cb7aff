"""Settings read back from a report: the same run again, and nothing but settings."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dipfast
from dipfast.model.noise import NoiseModel
from dipfast.networks import HourglassConfig
from dipfast.operators import Blur, gaussian_kernel
from dipfast.prior.stages import Stage
from dipfast.run import record as module
from dipfast.run.record import read_settings
from dipfast.settings.names import TASKS
from dipfast.settings.presets import PRESETS, Preset

TINY = Preset(3, (0.1, 0.01), HourglassConfig(down=(4,), up=(4,), skip=(2,)))
REPORT: dict[str, Any] = {
    "stop_reason": "all iterations done",
    "best_iteration": 3,
    "metrics": {"psnr_input": None, "psnr": 25.5},
    "settings": {
        "task": "denoise",
        "method": "two_stage",
        "preset": "denoise-fast",
        "sigma": [25.5],
        "noise": [{"sigma": 0.1, "gain": 0.0, "low": 0.0, "high": None}],
        "tv_weight": [0.2],
        "stop": "auto",
        "max_iterations": 500,
        "seed": 7,
        "device": "cuda:0",
        "threads": 2,
        "shape": [9, 7, 3],
        "dtype": "uint8",
        "channel_axis": 2,
        "data_range": [0.0, 255.0],
        "preset_settings": asdict(PRESETS["denoise-fast"]),
        "versions": {"dipfast": "1.2.3"},
    },
}


def changed(**settings: Any) -> dict[str, Any]:
    return {**REPORT, "settings": {**REPORT["settings"], **settings}}


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Any], dict[str, Any]]:
    def read(content: Any) -> dict[str, Any]:
        path = tmp_path / "clean.png.json"
        if not isinstance(content, str | bytes):
            content = json.dumps(content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_settings(path)

    return read


def noisy(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(128, 20, shape).clip(0, 255).astype(np.uint8)


def missing(image: np.ndarray) -> np.ndarray:
    mask = np.zeros(image.shape[:2], dtype=bool)
    mask[3:6, 2:9] = True
    return mask


BLUR = Blur(gaussian_kernel(1.0))
RUNS: dict[str, Callable[..., dipfast.Result]] = {
    "denoise": dipfast.denoise,
    "inpaint": lambda image, **more: dipfast.inpaint(
        image, missing(image) != (more.get("mask_marks") == "known"), **more
    ),
    "super_resolve": lambda image, **more: dipfast.super_resolve(
        image, more.pop("factor", 2), **more
    ),
    "restore": lambda image, **more: dipfast.restore(image, BLUR, **more),
}


class TestAgain:
    def again(self, image: Any, tmp_path: Path, task: str, **options: Any) -> dict[str, Any]:
        first = RUNS[task](image, **options)
        first.save(tmp_path / "out.tif")
        read = read_settings(tmp_path / "out.tif.json")
        assert read.pop("task") == task
        second = RUNS[task](image, **read)
        assert np.array_equal(second.image, first.image)
        # What was found the first time is given the second time.
        found = ("preset", "range_source", "noise_source")
        assert {**second.settings, **{key: first.settings[key] for key in found}} == first.settings
        return read

    @pytest.mark.parametrize("task", TASKS)
    @pytest.mark.parametrize("method", ["two_stage", "dip", "dip_tv"])
    def test_all_tasks(self, tmp_path: Path, task: str, method: str) -> None:
        image = noisy(12, 14, 3)
        read = self.again(image, tmp_path, task, method=method, preset=TINY, seed=5)
        assert read["preset"] == TINY
        assert read["seed"] == 5

    @pytest.mark.parametrize(
        ("task", "options"),
        [
            ("denoise", {"sigma": 12.5, "max_iterations": 2}),
            ("denoise", {"noise": "poisson_gaussian"}),
            ("denoise", {"noise": NoiseModel(0.1, 0.01, low=0.0), "tv_weight": 0.3}),
            ("denoise", {"data_range": (20, 300), "stop": "none"}),
            ("denoise", {"data_range": 300}),
            ("inpaint", {"mask_marks": "known", "keep_known": False}),
            ("super_resolve", {"factor": 3, "kernel": "box"}),
            ("super_resolve", {"sigma": "auto"}),
        ],
    )
    def test_options(self, tmp_path: Path, task: str, options: dict[str, Any]) -> None:
        self.again(noisy(12, 14), tmp_path, task, preset=TINY, **options)

    def test_float_beyond_its_range(self, tmp_path: Path) -> None:
        image = np.random.default_rng(0).normal(0.5, 0.3, (16, 16)).astype(np.float32)
        self.again(image, tmp_path, "denoise", preset=TINY)

    def test_preset_by_name(self, tmp_path: Path) -> None:
        read = self.again(noisy(8, 8), tmp_path, "denoise", quality="fast", max_iterations=1)
        assert read["preset"] == "denoise-fast"


class TestOptions:
    def test_all(self, read: Any) -> None:
        assert read(REPORT) == {
            "task": "denoise",
            "method": "two_stage",
            "preset": "denoise-fast",
            "sigma": "auto",
            "noise": NoiseModel(0.1, low=0.0),
            "tv_weight": 0.2,
            "stop": "auto",
            "max_iterations": 500,
            "seed": 7,
            "data_range": (0.0, 255.0),
        }

    @pytest.mark.parametrize(
        "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
    )
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_encodings(self, read: Any, encoding: str, end: str) -> None:
        """Editors and shells of Windows write marks in front, UTF-16 and other ends of lines."""
        text = json.dumps(changed(device="µ"), indent=2, ensure_ascii=False) + "\n"
        assert read(text.replace("\n", end).encode(encoding)) == read(REPORT)

    def test_of_tasks(self, read: Any) -> None:
        found = read(changed(task="inpaint", mask_marks="known", keep_known=False, missing=0.5))
        assert (found["mask_marks"], found["keep_known"]) == ("known", False)
        assert "missing" not in found
        found = read(changed(task="super_resolve", factor=4, kernel="box"))
        assert (found["factor"], found["kernel"]) == (4, "box")
        assert "operator" not in read(changed(task="restore", operator="Blur"))

    def test_what_is_not_there_is_left_out(self, read: Any) -> None:
        assert read({"settings": {"task": "restore"}}) == {"task": "restore"}
        assert read({"settings": {"task": "denoise", "sigma": [3]}})["sigma"] == 3.0

    @pytest.mark.parametrize("preset", PRESETS)
    def test_presets(self, preset: str, read: Any) -> None:
        told = {"task": "denoise", "preset": preset}
        assert read({"settings": told})["preset"] == preset
        told["preset_settings"] = asdict(PRESETS[preset])  # type: ignore[assignment]
        assert read({"settings": told})["preset"] == preset
        # The name has another meaning by now, or none.
        other = replace(PRESETS[preset], iterations=77)
        told["preset_settings"] = asdict(other)  # type: ignore[assignment]
        assert read({"settings": told})["preset"] == other
        assert read({"settings": {**told, "preset": "your own"}})["preset"] == other

    def test_a_batch_of_equal_images(self, read: Any) -> None:
        same = changed(sigma=[25.5] * 3, noise=REPORT["settings"]["noise"] * 3, tv_weight=[0.2] * 3)
        assert read(same) == read(REPORT)

    @pytest.mark.parametrize(
        ("kind", "table"),
        [
            (NoiseModel, "_NOISE"),
            (HourglassConfig, "_NETWORK"),
            (Preset, "_PRESET"),
        ],
    )
    def test_all_fields_are_known(self, kind: Any, table: str) -> None:
        """One that is new has to be in the table too."""
        with pytest.raises(module._UnfitError) as caught:
            getattr(module, table)({"x": 1})
        names = caught.value.problem.partition("expected one of ")[2].split(", ")
        assert names == [field.name for field in fields(kind)]


INTEGERS = [True, 1.0, "1", None, [1], {}, -1, 2**70, 1e30]
NUMBERS = [True, "1", None, {}, -1, 1e39, 10**60]
WRONG = [
    *(("seed", value) for value in (*INTEGERS, 2**63)),
    *(("max_iterations", value) for value in (*INTEGERS, 0, 10**10)),
    *(("sigma", value) for value in (0.1, [], *([value] for value in NUMBERS))),
    *(("tv_weight", value) for value in (0.1, [], *([value] for value in NUMBERS))),
    *(("noise", value) for value in (None, [], {}, [1], [[]], [None], "auto")),
    *(("method", value) for value in (None, 1, "dip_", ["dip"], ["tv", "details"], {}, "os")),
    *(("stop", value) for value in (None, True, "Discrepancy", "HeldOut(share=0.1)", ["auto"])),
    *(("task", value) for value in (None, 1, "Denoise", ["denoise"], "__import__")),
    *(("preset", value) for value in (None, 1, ["denoise-fast"])),
    *(("data_range", value) for value in (255, [0], [0, 1, 2], [1, 0], [1, 1], [False, True])),
    *(("data_range", value) for value in ([0, "255"], [0, None], [[0], [1]])),
    *(("shape", value) for value in (9, [9], [9, -1], [9, 1.5], [True, True])),
    *(("channel_axis", value) for value in (True, -1, 4, "C")),
    *(("versions", value) for value in (None, [], {"torch": 2}, "1.2")),
    *(("threads", value) for value in (0, True, "2")),
    *(("preset_settings", value) for value in (None, [], "denoise-fast")),
]


class TestRefused:
    def refuse(self, read: Any, content: Any, *parts: str) -> None:
        with pytest.raises(ValueError, match=r"clean\.png\.json") as caught:
            read(content)
        message = str(caught.value)
        for part in parts:
            assert part in message
        assert len(message) < 700
        assert message.isprintable()

    @pytest.mark.parametrize(("key", "value"), WRONG)
    def test_wrong_value(self, key: str, value: Any, read: Any) -> None:
        self.refuse(read, changed(**{key: value}), f"settings.{key}", "must be", "got")

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            *(("mask_marks", value) for value in ("white", None, ["missing"])),
            *(("keep_known", value) for value in (0, 1, "true", None)),
            *(("missing", value) for value in (-0.1, 1.1, True, "half")),
        ],
    )
    def test_wrong_value_of_inpainting(self, key: str, value: Any, read: Any) -> None:
        content = changed(task="inpaint", **{key: value})
        self.refuse(read, content, f"settings.{key} must be", "got")

    @pytest.mark.parametrize(
        ("key", "value"), [("factor", 5), ("factor", 2.0), ("factor", "2"), ("kernel", "bicubi")]
    )
    def test_wrong_value_of_enlarging(self, key: str, value: Any, read: Any) -> None:
        content = changed(task="super_resolve", **{key: value})
        self.refuse(read, content, f"settings.{key} must be one of", "got")

    @pytest.mark.parametrize(
        ("where", "value"),
        [
            *(("iterations", value) for value in (0, True, 10**12)),
            *(
                ("input_noise", value)
                for value in ([0.1], [0.1, 0.1, 0.1], 0.1, [0.1, -1], [1, True])
            ),
            *(("network.down", value) for value in ([], 16, [0] * 5, [10**9] * 5, [16] * 99)),
            *(("network.upsampling", value) for value in ("cubic", ["nearest"] * 2 + ["x"], 3)),
            *(("network.down_kernel", value) for value in (0, 101, 3.0)),
            *(("network.pointwise", value) for value in (0, 1, "yes")),
            *(("learning_rate", value) for value in (0, -1, True, "0.1")),
            *(("average_decay", value) for value in (-0.1, 1.1, None)),
            *(("input", value) for value in ("zeros", None, ["noise"])),
            *(("input_channels", value) for value in (0, 10**6, True)),
        ],
    )
    def test_wrong_value_of_a_preset(self, where: str, value: Any, read: Any) -> None:
        preset = json.loads(json.dumps(REPORT["settings"]["preset_settings"]))
        *inside, key = where.split(".")
        (preset[inside[0]] if inside else preset)[key] = value
        content = changed(preset_settings=preset)
        self.refuse(read, content, f"settings.preset_settings.{where}", "must be", "got")

    @pytest.mark.parametrize(
        ("network", "reason"),
        [
            ({"down": [1], "up": [1], "skip": [1, 1]}, "must have one entry for each scale"),
            ({"down": [1], "up": [1], "skip": [1], "upsampling": ["nearest"] * 2}, "must be one"),
            ({"down_kernel": 4}, "must be odd"),
        ],
    )
    def test_fields_that_do_not_go_together(self, network: Any, reason: str, read: Any) -> None:
        preset = {**REPORT["settings"]["preset_settings"], "network": network}
        where = "settings.preset_settings.network does not hold together"
        self.refuse(read, changed(preset_settings=preset), where, reason)
        noise = [{"sigma": 0.1, "low": 1.0, "high": 0.0}]
        where = "settings.noise[0] does not hold together: low must be below high"
        self.refuse(read, changed(noise=noise), where)

    def test_sigma_that_is_not_that_of_the_noise(self, read: Any) -> None:
        self.refuse(read, changed(sigma=[30]), "settings has sigma 30.0, but that of its noise is")

    def test_batch_of_different_images(self, read: Any) -> None:
        content = changed(tv_weight=[0.2, 0.3])
        self.refuse(read, content, "settings.tv_weight differs from image to image of a batch")

    @pytest.mark.parametrize("key", ["max_iteration", "sed", "factor", "keep_known", "", "\x1b[0m"])
    def test_unknown_key(self, key: str, read: Any) -> None:
        self.refuse(
            read, changed(**{key: 1}), f"settings has the key {key!r}, expected one of task"
        )

    def test_unknown_key_elsewhere(self, read: Any) -> None:
        self.refuse(read, {**REPORT, "options": {}}, "the report has the key 'options'")
        noise = [{"sigma": 0.1, "gian": 0.0}]
        self.refuse(read, changed(noise=noise), "settings.noise[0] has the key 'gian'")

    def test_missing_key(self, read: Any) -> None:
        self.refuse(read, {}, "the report has no 'settings'")
        self.refuse(read, {"settings": {}}, "settings has no 'task'")
        self.refuse(read, changed(noise=[{"gain": 0.0}]), "settings.noise[0] has no 'sigma'")

    @pytest.mark.parametrize("content", [None, 1, "text", [], [{}], True])
    def test_no_object(self, content: Any, read: Any) -> None:
        self.refuse(read, json.dumps(content), "the report must be an object, got")
        self.refuse(read, {"settings": content}, "settings must be an object, got")

    @pytest.mark.parametrize("metrics", [[], {"psnr": "25"}, {"psnr": True}, {"psnr": [1]}])
    def test_metrics(self, metrics: Any, read: Any) -> None:
        self.refuse(read, {**REPORT, "metrics": metrics}, "metrics", "must be")

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "Expecting value"),
            (b"\x89PNG\r\n", "can't decode byte 0x89"),
            (b"\xff\xfe{\0}\0", "the report has no 'settings'"),
            (b"\xff\xfe{\0}", "can't decode byte 0x7d"),
            (b"\xef\xbb\xbf{}", "the report has no 'settings'"),
            (b"{} {}", "Extra data"),
            (b'{"settings": {"task": "denoise", "seed": NaN}}', "seed must be an integer from 0"),
            (
                b'{"settings": {"task": "denoise", "seed": -Infinity}}',
                "seed must be an integer from 0",
            ),
            (b'{"settings": {"task": "denoise", "seed": 1e999}}', "seed must be an integer from 0"),
            (b'{"seed": ' + b"9" * 10_000 + b"}", "is too large"),
            (b'{"seed": 0.' + b"9" * 10_000 + b"}", "has the key 'seed'"),
            (b'{"settings": 1, "settings": {}}', "the key 'settings' is there twice"),
            (b'{"a": {"b": 1, "c": 2, "b": 1}}', "the key 'b' is there twice"),
            (b"[" * 100_000 + b"]" * 100_000, "it is nested too deeply"),
            (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "it is nested too deeply"),
            (b'"' + b"x" * 2**20 + b'"', "it has more than 1048576 bytes"),
        ],
        ids=range(16),
    )
    def test_no_report(self, content: bytes, reason: str, read: Any) -> None:
        self.refuse(read, content, reason)

    def test_many_keys(self, read: Any) -> None:
        content = json.dumps({str(k): k for k in range(60_000)}).encode()
        self.refuse(read, content, "the report has the key '0'")

    def test_lone_surrogates(self, read: Any) -> None:
        content = b'{"settings": {"task": "\\ud800"}}'
        self.refuse(read, content, r"must be one of", r"got '\ud800'")

    def test_what_a_program_made_itself(self, tmp_path: Path) -> None:
        stages = (Stage("mine", 2),)
        result = dipfast.denoise(noisy(8, 8), method=stages, preset=TINY)
        result.save(tmp_path / "out.png")
        with pytest.raises(ValueError, match=r"settings\.method must be one of .*of your own"):
            read_settings(tmp_path / "out.png.json")

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            read_settings(tmp_path / "nothing.json")
        with pytest.raises(OSError, match=str(tmp_path)):
            read_settings(tmp_path)

    @pytest.mark.timeout(20)
    @pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
    def test_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match="pipe: it is not a regular file"):
            read_settings(tmp_path / "pipe")


@pytest.mark.skipif(sys.platform != "linux", reason="counts processor time and memory")
def test_a_little_fuzzing(tmp_path: Path) -> None:
    """``python -m tests.robustness.fuzz`` does it for as long as one likes."""
    from tests.robustness import fuzz

    rng, seed, path = random.Random(0), json.dumps(REPORT).encode(), tmp_path / "input"
    for _ in range(200):
        for mutated in (fuzz.mutate_json(rng, seed), fuzz.mutate_bytes(rng, seed)):
            path.write_bytes(mutated)
            kind, reason = fuzz.outcome(fuzz.READERS["settings"], path)
            assert kind != "findings", reason
