"""Settings: every option written once, and what is derived from them."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
import typing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import dipfast
from dipfast.errors import InputError, InputTypeError
from dipfast.settings import types
from dipfast.settings.describe import options_table
from dipfast.settings.noise import NoiseParameters
from dipfast.settings.option import options_of
from dipfast.settings.presets import PRESETS
from dipfast.settings.settings import SETTINGS, DenoiseSettings, InpaintSettings, make_settings

TYPED = {
    "denoise": types.DenoiseOptions,
    "inpaint": types.InpaintOptions,
    "super_resolve": types.SuperResolveOptions,
    "restore": types.RestoreOptions,
}
DOCUMENT = Path(__file__).parents[2] / "docs/options.md"


def test_import_neither_torch_nor_numpy() -> None:
    program = (
        "import sys, dipfast.settings.describe, dipfast.settings.types;"
        "sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


class TestTypes:
    """What static checkers are told is what there is."""

    @pytest.mark.parametrize("task", SETTINGS)
    def test_names(self, task: Any) -> None:
        positional = {"factor"}
        names = list(SETTINGS[task].model_fields)
        assert set(TYPED[task].__annotations__) == set(names) - positional

    def test_named_values(self) -> None:
        hints = {k: str(v) for k, v in types.InpaintOptions.__annotations__.items()}
        for option in options_of(InpaintSettings).values():
            if option.is_flag:
                assert "bool" in hints[option.name]

    @pytest.mark.parametrize("task", SETTINGS)
    def test_values_of_literal_types(self, task: Any) -> None:
        """Every named value that a type allows is one that the settings take."""
        scope = {**vars(types), "torch": typing, "Stage": Any, "StopRule": Any}
        scope |= {"State": Any, "Progress": Any, "Interrupt": Any}
        for option in options_of(SETTINGS[task]).values():
            hint = TYPED[task].__annotations__.get(option.name)
            if hint is None or not option.choices or option.name in ("preset",):
                continue
            text = hint.__forward_arg__ if hasattr(hint, "__forward_arg__") else str(hint)
            name = text.partition(" |")[0].strip()
            assert set(typing.get_args(scope[name])) == set(option.choices), option.name


class TestTasks:
    @pytest.mark.parametrize("task", SETTINGS)
    def test_signature_and_docstring(self, task: Any) -> None:
        function = getattr(dipfast, task)
        parameters = inspect.signature(function).parameters
        for option in options_of(SETTINGS[task]).values():
            assert option.name in parameters
            if option.default is ...:
                continue
            assert parameters[option.name].default == option.default
            assert f"    {option.name} : " in function.__doc__
        assert "{options}" not in function.__doc__

    def test_unknown_options(self) -> None:
        with pytest.raises(TypeError, match="unexpected keyword argument 'sgima'; did you mean"):
            dipfast.denoise(np.zeros((4, 4)), sgima=1)


class TestValues:
    @pytest.mark.parametrize("task", SETTINGS)
    def test_defaults_are_allowed(self, task: Any) -> None:
        options = options_of(SETTINGS[task]).values()
        given = {o.name: o.default for o in options if o.default is not ...}
        required = {o.name: o.choices[0] for o in options if o.default is ...}
        make_settings(SETTINGS[task], given | required)

    def test_numbers_of_numpy(self) -> None:
        options = {"seed": np.int64(3), "sigma": np.float32(2), "resume": np.bool_(False)}
        settings = make_settings(DenoiseSettings, options)
        assert (settings.seed, settings.sigma, settings.resume) == (3, 2.0, False)
        assert type(settings.seed) is int

    def test_are_frozen_and_can_be_pickled(self) -> None:
        settings = make_settings(DenoiseSettings, {"noise": NoiseParameters(0.1), "seed": 7})
        with pytest.raises(ValidationError, match="frozen"):
            settings.seed = 3
        assert pickle.loads(pickle.dumps(settings)) == settings

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"seed": -1}, InputError, "seed must be an integer from 0 to 2**63 - 1, got -1"),
            ({"seed": True}, InputError, "got True"),
            ({"seed": None}, InputTypeError, "got None"),
            ({"sigma": "a lot"}, InputError, "sigma must be 'auto' or a number from 0 up"),
            ({"sigma": float("inf")}, InputError, "sigma must be"),
            ({"method": "two-stage"}, InputError, "method must be one of auto, two_stage, dip"),
            ({"method": []}, InputTypeError, "method must be a name or a sequence of stages"),
            ({"preset": 3}, InputTypeError, "preset must be a name or a Preset, got int"),
            ({"quality": "good"}, InputError, "quality must be one of fast, balanced, best"),
            ({"data_range": (3, 3)}, InputError, "data_range must be a positive number or"),
            ({"tv_weight": 1, "method": "dip"}, InputError, "tv_weight=1 has no meaning"),
            ({"tv_weight": 1, "method": "deep_red"}, InputError, "tv_weight=1 has no meaning"),
            ({"tv_weight": 1, "method": "tv_target"}, InputError, "tv_weight=1 has no meaning"),
            ({"resume": "yes"}, InputTypeError, "resume must be True or False, got 'yes'"),
            ({"sigma": 0, "noise": "clipped"}, InputError, "has no meaning for sigma=0, which is"),
        ],
        ids=str,
    )
    def test_wrong_ones_are_named(
        self, options: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error) as caught:
            make_settings(DenoiseSettings, options)
        assert type(caught.value) is error
        assert message in str(caught.value)

    @pytest.mark.parametrize("noise", ["gaussian", "clipped", "correlated"])
    def test_a_kind_of_noise_where_there_is_none(self, noise: str) -> None:
        for task in ("inpaint", "super_resolve"):
            options = {"noise": noise} | ({"factor": 2} if task == "super_resolve" else {})
            with pytest.raises(InputError, match=r"for sigma=0, .*sigma='auto' estimates it"):
                make_settings(SETTINGS[task], options)
            assert make_settings(SETTINGS[task], {**options, "sigma": "auto"}).noise == noise
            # Of photons there may be some nonetheless.
            make_settings(SETTINGS[task], {**options, "noise": "poisson_gaussian"})

    def test_a_value_is_not_shown_at_length(self) -> None:
        with pytest.raises(InputError) as caught:
            make_settings(DenoiseSettings, {"seed": "x" * 10_000})
        assert len(str(caught.value)) < 200


def test_presets_check_themselves() -> None:
    with pytest.raises(InputError, match="learning_rate of a preset must be a positive number"):
        dipfast.Preset(3, (0.1, 0.1), PRESETS["denoise-fast"].network, learning_rate=0)


def test_the_table_in_the_documents_is_this_one() -> None:
    """``python -m dipfast.settings.describe`` prints it."""
    assert options_table() in DOCUMENT.read_text(encoding="utf-8")


class TestOddValues:
    @pytest.mark.parametrize(
        "value",
        [np.array(255.0), np.float32(255), Fraction(255), (0, 255), [0, 255], np.array([0, 255])],
        ids=repr,
    )
    def test_a_range_of_any_kind_of_numbers(self, value: Any) -> None:
        assert make_settings(DenoiseSettings, {"data_range": value}).data_range == (0.0, 255.0)

    @pytest.mark.parametrize(
        "value", ["12", b"\x00\x01", {0, 2}, {0: 1, 2: 2}, 10**400, (0, None), (0, 1, 2)], ids=repr
    )
    def test_what_is_no_range(self, value: Any) -> None:
        with pytest.raises(InputError, match="data_range must be a positive number or a pair"):
            make_settings(DenoiseSettings, {"data_range": value})

    @pytest.mark.parametrize("value", [[4, 5], (4, 5), np.array([4, 5]), range(4, 6)], ids=repr)
    def test_a_shape_of_any_kind_of_sequence(self, value: Any) -> None:
        assert make_settings(SETTINGS["restore"], {"image_shape": value}).image_shape == (4, 5)

    @pytest.mark.parametrize("value", [4, "45", (4,), (4, 0), (4.0, 5.0), (1, 2, 3, 4)], ids=repr)
    def test_what_is_no_shape(self, value: Any) -> None:
        with pytest.raises(InputError, match=r"image_shape must be \(H, W\)"):
            make_settings(SETTINGS["restore"], {"image_shape": value})

    @pytest.mark.parametrize("name", ["max_iterations", "checkpoint_every"])
    def test_numbers_beyond_all_bounds(self, name: str) -> None:
        with pytest.raises(InputError, match=f"{name} must be a positive integer"):
            make_settings(DenoiseSettings, {name: 10**400})
