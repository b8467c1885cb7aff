"""Settings that are read from a record repeat the run, and invalid records are refused."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dipfast
from dipfast.model.noise import NoiseModel
from dipfast.networks import HourglassConfig
from dipfast.operators import Blur, gaussian_kernel
from dipfast.prior.stages import Stage
from dipfast.run.record import read_settings
from dipfast.settings.names import TASKS
from dipfast.settings.noise import NoiseParameters
from dipfast.settings.presets import PRESETS, Preset

TINY = Preset(3, (0.1, 0.01), HourglassConfig(down=(4,), up=(4,), skip=(2,)))
REPORT: dict[str, Any] = {
    "stop_reason": "all iterations done",
    "best_iteration": 3,
    "metrics": {"psnr_input": None, "psnr": 25.5},
    "settings": {
        "task": "denoise",
        "sigma": "auto",
        "noise": {"sigma": 0.1, "gain": 0.0, "low": 0.0, "high": None},
        "tv_weight": 0.2,
        "method": "two_stage",
        "stop": "auto",
        "quality": "fast",
        "max_iterations": 500,
        "seed": 7,
        "data_range": [0.0, 255.0],
    },
    "found": {
        "device": "cuda:0",
        "preset": "denoise-fast",
        "preset_settings": asdict(PRESETS["denoise-fast"]),
        "versions": {"dipfast": "1.2.3"},
    },
}


def changed(**settings: Any) -> dict[str, Any]:
    return {**REPORT, "settings": {**REPORT["settings"], **settings}}


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Any], dict[str, Any]]:
    def read(content: Any) -> dict[str, Any]:
        return both(content)[1]

    def both(content: Any) -> tuple[str, dict[str, Any]]:
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
        name, read = read_settings(tmp_path / "out.tif.json")
        assert name == task
        second = RUNS[task](image, **read)
        assert np.array_equal(second.image, first.image)
        assert second.settings == first.settings
        assert second.found == first.found
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

    @pytest.mark.parametrize(
        "options",
        [
            {"noise": NoiseModel(np.float32(0.1), np.array(0.01), low=np.float64(0))},
            {"preset": replace(TINY, iterations=np.int64(3), learning_rate=np.float32(0.01))},
        ],
        ids=["noise", "preset"],
    )
    def test_numbers_of_numpy(self, tmp_path: Path, options: dict[str, Any]) -> None:
        self.again(noisy(12, 14), tmp_path, "denoise", **{"preset": TINY, **options})

    def test_float_beyond_its_range(self, tmp_path: Path) -> None:
        image = np.random.default_rng(0).normal(0.5, 0.3, (16, 16)).astype(np.float32)
        self.again(image, tmp_path, "denoise", preset=TINY)

    def test_what_is_auto_stays_auto(self, tmp_path: Path) -> None:
        """Values that were found in one image are not used for another one."""
        read = self.again(noisy(8, 8), tmp_path, "denoise", quality="fast", max_iterations=1)
        auto = ("sigma", "noise", "tv_weight", "preset", "data_range")
        assert [read[name] for name in auto] == ["auto", "auto", "auto", None, None]
        assert (read["quality"], read["max_iterations"]) == ("fast", 1)


class TestOptions:
    def test_all(self, read: Any) -> None:
        assert read(REPORT) == {
            "sigma": "auto",
            "noise": NoiseParameters(0.1, low=0.0),
            "tv_weight": 0.2,
            "method": "two_stage",
            "stop": "auto",
            "quality": "fast",
            "max_iterations": 500,
            "seed": 7,
            "data_range": (0.0, 255.0),
        }

    @pytest.mark.parametrize(
        "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
    )
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_encodings(self, read: Any, encoding: str, end: str) -> None:
        """Editors and shells of Windows write byte order marks, UTF-16 and other line ends."""
        text = (
            json.dumps(
                {**REPORT, "found": {**REPORT["found"], "device": "µ"}},
                indent=2,
                ensure_ascii=False,
            )
            + "\n"
        )
        assert read(text.replace("\n", end).encode(encoding)) == read(REPORT)

    def test_of_tasks(self, read: Any) -> None:
        none = {"task": "inpaint", "mask_marks": "known", "keep_known": False}
        assert read({"settings": none}) == {"mask_marks": "known", "keep_known": False}
        larger = {"task": "super_resolve", "factor": 4, "kernel": "box"}
        assert read({"settings": larger}) == {"factor": 4, "kernel": "box"}
        assert read({"settings": {"task": "restore", "image_shape": [3, 4]}}) == {
            "image_shape": (3, 4)
        }

    def test_what_is_not_there_is_left_out(self, read: Any) -> None:
        assert read({"settings": {"task": "restore"}}) == {}
        assert read({"settings": {"task": "super_resolve"}}) == {}
        assert read({"settings": {"task": "denoise", "sigma": 3}}) == {"sigma": 3.0}

    @pytest.mark.parametrize("preset", PRESETS)
    def test_presets(self, preset: str, read: Any) -> None:
        settings = {"task": "denoise", "preset": preset}
        assert read({"settings": settings}) == {"preset": preset}
        found = {"preset_settings": asdict(PRESETS[preset])}
        assert read({"settings": settings, "found": found}) == {"preset": preset}
        # The preset of that name has changed since.
        other = replace(PRESETS[preset], iterations=77)
        found = {"preset_settings": asdict(other)}
        assert read({"settings": settings, "found": found}) == {"preset": other}
        settings = {"task": "denoise", "preset": asdict(other)}
        assert read({"settings": settings, "found": found}) == {"preset": other}

    def test_a_quality_whose_preset_has_changed(self, read: Any) -> None:
        other = replace(PRESETS["denoise-fast"], iterations=77)
        found = {"preset_settings": asdict(other)}
        read_back = read({"settings": {"task": "denoise", "quality": "fast"}, "found": found})
        assert read_back == {"quality": "fast", "preset": other}


INTEGERS = [True, 1.0, "1", None, [1], {}, -1, 2**70, 1e30]
NUMBERS = [True, "1", None, {}, -1, 1e39, 10**60]
WRONG = [
    *(("seed", value) for value in (*INTEGERS, 2**63) if value != -1),
    *(("max_iterations", value) for value in (*INTEGERS, 0) if value not in (None, 2**70)),
    *(("sigma", value) for value in NUMBERS if value not in (1e39, 10**60)),
    *(("tv_weight", value) for value in NUMBERS if value not in (1e39, 10**60)),
    *(("noise", value) for value in (None, [], [1], [[]], [None], "salt", 3)),
    *(("method", value) for value in (None, 1, "dip_", ["dip"], ["tv", "details"], {}, "os")),
    *(("stop", value) for value in (None, True, "Discrepancy", "HeldOut(share=0.1)", ["auto"])),
    *(("task", value) for value in (None, 1, "Denoise", ["denoise"], "__import__")),
    *(("preset", value) for value in (1, ["denoise-fast"], "mine")),
    *(("data_range", value) for value in (-1, [0], [0, 1, 2], [1, 0], [1, 1])),
    *(("data_range", value) for value in ([0, None], [[0], [1]], "255")),
    *(("channel_axis", value) for value in (True, 1.5, "C")),
    *(("quality", value) for value in (None, "good", 1, ["fast"])),
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
        self.refuse(read, changed(**{key: value}), key, "must")

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            *(("mask_marks", value) for value in ("white", None, ["missing"])),
            *(("keep_known", value) for value in (0, 1, "true", None)),
        ],
    )
    def test_wrong_value_of_inpainting(self, key: str, value: Any, read: Any) -> None:
        content = changed(task="inpaint", **{key: value})
        self.refuse(read, content, f"{key} must be", "got")

    @pytest.mark.parametrize(
        ("key", "value"), [("factor", 5), ("factor", 2.0), ("factor", "2"), ("kernel", "bicubi")]
    )
    def test_wrong_value_of_enlarging(self, key: str, value: Any, read: Any) -> None:
        content = changed(task="super_resolve", **{key: value})
        self.refuse(read, content, f"{key} must be one of", "got")

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
        preset = json.loads(json.dumps(REPORT["found"]["preset_settings"]))
        *inside, key = where.split(".")
        (preset[inside[0]] if inside else preset)[key] = value
        self.refuse(read, changed(preset=preset), "preset")
        self.refuse(read, {**REPORT, "found": {"preset_settings": preset}}, "preset")

    @pytest.mark.parametrize(
        ("network", "reason"),
        [
            ({"down": [1], "up": [1], "skip": [1, 1]}, "must have one entry for each scale"),
            ({"down": [1], "up": [1], "skip": [1], "upsampling": ["nearest"] * 2}, "must be one"),
            ({"down_kernel": 4}, "must be odd"),
        ],
    )
    def test_fields_that_do_not_go_together(self, network: Any, reason: str, read: Any) -> None:
        preset = {**REPORT["found"]["preset_settings"], "network": network}
        self.refuse(read, changed(preset=preset), "preset.network", reason)
        noise = {"sigma": 0.1, "low": 1.0, "high": 0.0}
        self.refuse(read, changed(noise=noise), "low must be below high")

    def test_options_that_do_not_go_together(self, read: Any) -> None:
        self.refuse(read, changed(sigma=30), "sigma=30", "where noise is a model")

    @pytest.mark.parametrize("key", ["max_iteration", "sed", "factor", "keep_known", "", "\x1b[0m"])
    def test_unknown_key(self, key: str, read: Any) -> None:
        self.refuse(read, changed(**{key: 1}), f"there is no setting {key!r}, expected one of")

    def test_unknown_key_elsewhere(self, read: Any) -> None:
        self.refuse(read, changed(noise={"sigma": 0.1, "gian": 0.0}), "noise.gian")
        preset = {**REPORT["found"]["preset_settings"], "gian": 0.0}
        self.refuse(read, changed(preset=preset), "preset.gian")

    def test_missing_key(self, read: Any) -> None:
        self.refuse(read, {}, "it has no settings")
        self.refuse(read, {"settings": {}}, "task must be one of")
        self.refuse(read, changed(noise={"gain": 0.0}), "noise.sigma")

    @pytest.mark.parametrize("content", [None, 1, "text", [], [{}], True])
    def test_no_object(self, content: Any, read: Any) -> None:
        self.refuse(read, json.dumps(content), "it has no settings")
        self.refuse(read, {"settings": content}, "it has no settings")

    @pytest.mark.parametrize("key", ["device", "checkpoint", "resume", "callback", "reference"])
    def test_what_is_no_setting_of_a_record(self, key: str, read: Any) -> None:
        """Settings that name files or functions are not read from a record."""
        self.refuse(read, changed(**{key: "x"}), f"there is no setting {key!r}")

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "Expecting value"),
            (b"\x89PNG\r\n", "can't decode byte 0x89"),
            (b"\xff\xfe{\0}\0", "it has no settings"),
            (b"\xff\xfe{\0}", "can't decode byte 0x7d"),
            (b"\xef\xbb\xbf{}", "it has no settings"),
            (b"{} {}", "Extra data"),
            (b'{"settings": {"task": "denoise", "seed": NaN}}', "seed must be an integer from 0"),
            (
                b'{"settings": {"task": "denoise", "seed": -Infinity}}',
                "seed must be an integer from 0",
            ),
            (b'{"settings": {"task": "denoise", "seed": 1e999}}', "seed must be an integer from 0"),
            (b'{"seed": ' + b"9" * 10_000 + b"}", "is too large"),
            (b'{"seed": 0.' + b"9" * 10_000 + b"}", "it has no settings"),
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
        self.refuse(read, content, "it has no settings")

    def test_lone_surrogates(self, read: Any) -> None:
        content = b'{"settings": {"task": "\\ud800"}}'
        self.refuse(read, content, r"must be one of", r"got '\ud800'")

    def test_objects_made_by_a_program_are_refused(self, tmp_path: Path) -> None:
        stages = (Stage("mine", 2),)
        result = dipfast.denoise(noisy(8, 8), method=stages, preset=TINY)
        result.save(tmp_path / "out.png")
        with pytest.raises(ValueError, match=r"method must be .* by hand is not in a record"):
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
    """Read mutated records; ``python -m tests.robustness.fuzz`` does it for longer."""
    from tests.robustness import fuzz

    rng, seed, path = random.Random(0), json.dumps(REPORT).encode(), tmp_path / "input"
    for _ in range(200):
        for mutated in (fuzz.mutate_json(rng, seed), fuzz.mutate_bytes(rng, seed)):
            path.write_bytes(mutated)
            kind, reason = fuzz.outcome(fuzz.READERS["settings"], path)
            assert kind != "findings", reason
