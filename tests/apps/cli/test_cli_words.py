"""What can be typed, and the words of messages: one line, the option's own name, the next step."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipfast.apps.cli import main
from dipfast.apps.cli.commands import words_of
from dipfast.apps.cli.options import NOT_TYPED, Request
from dipfast.apps.cli.usage import COMMANDS, parse
from dipfast.apps.cli.words import one_line
from dipfast.checks import did_you_mean
from dipfast.images.files import write_image
from dipfast.settings.names import (
    BOUNDARIES,
    DOWNSAMPLE_KERNELS,
    FACTORS,
    MARKS,
    METHOD_NAMES,
    NOISE_KINDS,
    QUALITIES,
    RULE_NAMES,
    TASKS,
)
from dipfast.settings.option import options_of
from dipfast.settings.presets import PRESETS
from dipfast.settings.settings import SETTINGS

NAMES = {"denoise": "denoise", "inpaint": "inpaint", "super_resolve": "superres"}


def request_of(*arguments: str) -> Request:
    """Return the request of a command line that is in order."""
    request = parse(arguments)
    assert request is not None
    return request


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what is said about a command line before anything is read."""
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("dipfast: error: ")
    assert told.err.count("\n") == 1
    return told.err.removeprefix("dipfast: error: ").removesuffix("\n")


class TestNearMisses:
    @pytest.mark.parametrize(
        ("option", "word", "meant"),
        [
            ("--noise", "poisson", "poisson_gaussian"),
            ("--noise", "Gaussian", "gaussian"),
            ("--method", "two-stage", "two_stage"),
            ("--method", "diptv", "dip_tv"),
            ("--stop", "heldout", "held_out"),
            ("--stop", "nome", "none"),
            ("--quality", "bset", "best"),
            ("--preset", "original-denosing", "original-denoising"),
        ],
    )
    def test_choices(
        self, capsys: pytest.CaptureFixture[str], option: str, word: str, meant: str
    ) -> None:
        message = refused(capsys, "denoise", "in.png", "out.png", option, word)
        assert message == f"{option}: there is no {word!r}; did you mean {meant}?"

    def test_choices_of_other_commands(self, capsys: pytest.CaptureFixture[str]) -> None:
        message = refused(capsys, "superres", "in.png", "out.png", "--kernel", "lanczos")
        assert message.endswith("did you mean lanczos2 or lanczos3?")
        message = refused(capsys, "inpaint", "in.png", "out.png", "--mask-marks", "knwon")
        assert message.endswith("did you mean known?")
        blur = ("restore", "in.png", "out.png", "--blur", "box:3")
        assert refused(capsys, *blur, "--boundary", "relfect").endswith("did you mean reflect?")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["denoize", "in.png", "out.png"], "no command 'denoize'; did you mean denoise?"),
            (["super_resolve"], "no command 'super_resolve'; did you mean superres?"),
            (
                ["in.png", "out.png"],
                "expected denoise, inpaint, superres, restore, info, tv, compare or studio",
            ),
            (["--hlep"], "there is no option --hlep; did you mean --help?"),
            (["denoise", "--sigmaa", "3", "in.png", "out.png"], "--sigmaa; did you mean --sigma?"),
            (["denoise", "in.png", "out.png", "--tv_wieght=1"], "did you mean --tv-weight?"),
            (["denoise", "in.png", "out.png", "-sigma", "3"], "-sigma; did you mean --sigma?"),
            (["denoise", "a", "b", "--data", "3"], "no option --data; did you mean --data-range?"),
            (["denoise", "a", "b", "--check", "c"], "--check; did you mean --checkpoint?"),
            (["denoise", "a", "b", "--quiet=x"], "--quiet takes no value"),
            (["restore", "in.png", "out.png", "--blurr", "box:3"], "did you mean --blur?"),
            (["denoise", "in.png", "out.png", "--xyz"], "'dipfast denoise --help' tells more"),
            (["denoise", "-7.png", "out.png"], "for a file of that name, type ./-7.png"),
        ],
    )
    def test_commands_and_options(
        self, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
    ) -> None:
        assert message in refused(capsys, *arguments)

    @pytest.mark.parametrize(
        ("command", "option", "text", "meant"),
        [
            ("restore", "--blur", "gauss:2.5", "gaussian:2.5"),
            ("restore", "--blur", "bxo:3", "box:3"),
            ("restore", "--blur", "gaussian2", "gaussian"),
            ("inpaint", "--mask", "alhpa", "alpha"),
            ("inpaint", "--mask", "vlaue:0", "value:0"),
        ],
    )
    def test_words_in_the_place_of_a_file(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        command: str,
        option: str,
        text: str,
        meant: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        message = refused(capsys, command, "in.png", "out.png", option, text)
        assert message == f"{option}: there is no file {text!r}; did you mean {meant}?"
        # A file of that name is one.
        Path(text).touch()
        own = request_of(command, "in.png", "out.png", option, text).own
        assert getattr(own, option.removeprefix("--")) == text

    def test_other_words(self) -> None:
        assert did_you_mean("salt", ["auto", "gaussian"]) == ""
        assert did_you_mean("", ["auto"]) == ""
        assert did_you_mean("auto", []) == ""

    @given(st.text(), st.lists(st.text()))
    def test_any_words(self, word: str, names: list[str]) -> None:
        question = did_you_mean(word, names)
        assert not question or any(name in question for name in names)
        if word in names:
            assert word in question


class TestValues:
    @pytest.mark.parametrize(
        ("option", "text", "message"),
        [
            ("--data-range", "1,2,3", "two with a comma and no blank, expected, got '1,2,3'"),
            ("--data-range", "0:4095", "two with a comma and no blank, expected, got '0:4095'"),
            ("--sigma", "loud", "--sigma: 'auto' or a number expected, got 'loud'"),
            ("--sigma", "1,5", "got '1,5'; did you mean 1.5?"),
            ("--sigma", "atuo", "got 'atuo'; did you mean auto?"),
            ("--time-limit", "2h", "--time-limit: a number expected, got '2h'"),
            ("--max-iterations", "few", "--max-iterations: a whole number expected, got 'few'"),
            ("--max-iterations", "1e3", "a whole number expected, got '1e3'"),
            ("--seed", "0.5", "a whole number expected, got '0.5'"),
            (
                "--noise",
                "salt",
                "one of auto, gaussian, clipped, poisson_gaussian, correlated expected, got",
            ),
        ],
    )
    def test_what_is_expected(
        self, capsys: pytest.CaptureFixture[str], option: str, text: str, message: str
    ) -> None:
        assert message in refused(capsys, "denoise", "in.png", "out.png", option, text)

    @pytest.mark.parametrize("number", ["", ":", ":abc", ":-1", ":0", ":inf", ":nan"])
    @pytest.mark.parametrize("kind", ["gaussian", "box"])
    def test_kernels(self, capsys: pytest.CaptureFixture[str], kind: str, number: str) -> None:
        message = refused(capsys, "restore", "in.png", "out.png", "--blur", kind + number)
        assert f"--blur: {kind}:S" in message
        assert message.endswith(f"got {kind + number!r}")

    @pytest.mark.parametrize("text", ["box:2.5", "box:1e9"])
    def test_kernels_of_whole_pixels(self, capsys: pytest.CaptureFixture[str], text: str) -> None:
        message = refused(capsys, "restore", "in.png", "out.png", "--blur", text)
        assert (
            f"box:SIZE needs a whole number of pixels from 1 up, such as box:3, got {text!r}"
            in (message)
        )

    def test_masks_of_a_value(self, capsys: pytest.CaptureFixture[str]) -> None:
        message = refused(capsys, "inpaint", "in.png", "out.png", "--mask", "value:x")
        assert message == "--mask: value:V needs a number, such as value:0, got 'value:x'"
        own = request_of("inpaint", "in.png", "out.png", "--mask", "value:-9999").own
        assert own.mask == -9999  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        ("text", "colour"), [("color:255,0,1", (255, 0, 1)), ("color:#FF0000", "#ff0000")]
    )
    def test_masks_of_a_colour(self, text: str, colour: Any) -> None:
        own = request_of("inpaint", "in.png", "out.png", "--mask", text).own
        assert own.mask == ("color", colour)  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("255", "there is no file '255'; did you mean value:255?"),
            ("255,0,0", "there is no file '255,0,0'; did you mean color:255,0,0?"),
            ("#ff0000", "there is no file '#ff0000'; did you mean color:#ff0000?"),
            ("color:red", "color:R,G,B needs three numbers without blanks, such as color:255,0,0"),
        ],
    )
    def test_masks_of_bare_values(
        self, capsys: pytest.CaptureFixture[str], text: str, message: str
    ) -> None:
        assert message in refused(capsys, "inpaint", "in.png", "out.png", "--mask", text)

    @pytest.mark.parametrize("form", ["{} {}", "{}={}"])
    @pytest.mark.parametrize(
        ("option", "text", "value"),
        [
            ("--data-range", "-500,4095", (-500, 4095)),
            ("--data-range", "-1e-3,.5", (-0.001, 0.5)),
            ("--data-range", "-inf", -np.inf),
            ("--data-range", "-.5,-.25", (-0.5, -0.25)),
            ("--sigma", "-3", -3),
            ("--seed", "-1", -1),
            ("--strip", "-x.png", "-x.png"),
        ],
    )
    def test_negative_values(self, form: str, option: str, text: str, value: Any) -> None:
        request = request_of("denoise", "in.png", *form.format(option, text).split(), "out.png")
        assert (request.own.image, request.own.output) == ("in.png", "out.png")
        name = option[2:].replace("-", "_")
        assert {**request.own.model_dump(), **request.options}[name] == value

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("denoise", "a", "b", "--workers", "-"), "--workers: a whole number expected"),
            (("denoise", "a", "b", "--data-range", "-"), "--data-range: a number, or two with"),
            (("tv", "a", "b", "--weight", "-"), "--weight: a number expected, got '-'"),
            (("info", "a", "--noise", "-"), "--noise: one of auto, gaussian, "),
        ],
    )
    def test_a_lone_dash_is_no_value(
        self, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
    ) -> None:
        assert refused(capsys, *arguments).startswith(message)

    def test_names_that_begin_with_a_dash(self) -> None:
        own = request_of("denoise", "--quiet", "--", "-a.png", "--b.png").own
        assert (own.image, own.output) == ("-a.png", "--b.png")

    def test_the_last_one_counts(self) -> None:
        request = request_of("denoise", "a", "b", "--sigma", "3", "--quiet", "--sigma=4", "--quiet")
        assert (request.options, request.own.quiet) == ({"sigma": 4}, True)

    def test_only_what_was_typed(self) -> None:
        assert request_of("superres", "a", "b").options == {}
        request = request_of("inpaint", "a", "b", "--no-keep-known", "--seed", "0")
        assert request.options == {"keep_known": False, "seed": 0}

    @settings(max_examples=200)
    @given(
        st.lists(
            st.one_of(
                st.sampled_from(
                    ("denoise", "inpaint", "superres", "restore", "--help", "--", "-h")
                ),
                st.sampled_from(("--sigma", "--noise", "--blur", "--mask", "--force", "--factor")),
                st.sampled_from(("a.png", "-1", "-1,2", "auto", "box:3", "value:-1", "", "-")),
                st.text(max_size=5),
            ),
            max_size=8,
        )
    )
    def test_anything(self, arguments: list[str]) -> None:
        """Whatever is typed, the help is printed, or one line about what is wrong."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = main(arguments)
        if status == 0:
            assert out.getvalue().startswith("Usage: ")
            assert err.getvalue() == ""
        else:
            assert status == 2
            assert out.getvalue() == ""
            assert re.fullmatch(r"dipfast: error: .+\n", err.getvalue())

    def test_file_names(self, capsys: pytest.CaptureFixture[str]) -> None:
        message = refused(capsys, "denoise", "my", "photo.png", "out.png", "--quiet")
        assert "IN and OUT expected, and nothing besides, got also out.png" in message
        assert "names with blanks need quotes, and so do patterns such as '*.png'" in message
        assert "required: OUT; 'dipfast denoise --help' tells" in refused(capsys, "denoise", "a")
        assert "--sigma needs a value" in refused(capsys, "denoise", "a", "b", "--sigma", "--json")


class TestChoices:
    """Choices of the command line are those of the library."""

    @pytest.mark.parametrize(
        ("task", "option", "names"),
        [
            ("denoise", "--noise", NOISE_KINDS),
            ("denoise", "--method", METHOD_NAMES),
            ("denoise", "--stop", RULE_NAMES),
            ("denoise", "--quality", QUALITIES),
            ("denoise", "--preset", [k for k, v in PRESETS.items() if v.input != "given"]),
            ("inpaint", "--mask-marks", MARKS),
            ("super_resolve", "--kernel", DOWNSAMPLE_KERNELS),
            ("super_resolve", "--factor", map(str, FACTORS)),
            ("restore", "--boundary", BOUNDARIES),
        ],
    )
    def test_are_complete(
        self, capsys: pytest.CaptureFixture[str], task: str, option: str, names: Any
    ) -> None:
        command = NAMES.get(task, task)
        needed = ["--blur", "box:3"] if task == "restore" else []
        message = refused(capsys, command, "a", "b", option, "qqqqqqqq", *needed)
        listed = re.fullmatch(rf"{option}: one of (.*) expected, got 'qqqqqqqq'", message)
        assert listed is not None
        assert set(listed[1].split(", ")) == set(names)

    def test_commands(self) -> None:
        others = ["estimate_noise", "tv_denoise", "compare", "studio"]
        assert list(COMMANDS) == [*TASKS, *others]


COMMAND_LINES = {
    "denoise": ["denoise", "a.png", "b.png"],
    "inpaint": ["inpaint", "a.png", "b.png"],
    "super_resolve": ["superres", "a.png", "b.png"],
    "restore": ["restore", "a.png", "b.png", "--blur", "box:3"],
}


@pytest.fixture(params=COMMAND_LINES)
def request_(request: pytest.FixtureRequest) -> Request:
    return request_of(*COMMAND_LINES[request.param])


class TestTranslation:
    def test_every_option(self, request_: Request) -> None:
        """Whatever the library calls an argument, it is told under its option's name."""
        words = words_of(request_)
        for option in options_of(SETTINGS[request_.task]).values():
            name = option.name
            if name in NOT_TYPED or option.role not in ("result", "record", "local"):
                continue
            typed = "--" + name.replace("_", "-")
            if option.is_flag:
                assert words.translate(f"{name}=True") == typed
                recorded = option.role == "result"  # what a record says can be taken back
                negative = f"--no-{typed[2:]}" if recorded else f"no {typed}"
                assert words.translate(f"{name}=False") == negative
            else:
                assert words.translate(f"x for {name}='auto', y") == f"x for {typed} auto, y"
                assert words.translate(f"so {name}=(0.5, 2.0).") == f"so {typed} 0.5,2."
            assert words.translate(f"{name} must be 3, got 4") == f"{typed} must be 3, got 4"
            assert words.translate(f"wrong: {name} is 3") == f"wrong: {typed} is 3"
            if "_" in name:
                assert words.translate(f"the {name} of it") == f"the {typed} of it"
            else:
                assert words.translate(f"the {name} of it") == f"the {name} of it"

    def test_functions(self, request_: Request) -> None:
        for task in TASKS:
            told = words_of(request_).translate(f"x; dipfast.{task}(image, mask) does that")
            assert told == f"x; 'dipfast {NAMES.get(task, task)} IN OUT' does that"
        told = words_of(request_).translate("x; dipfast.estimate_noise(image) does that")
        assert told == "x; 'dipfast info FILE...' does that"

    def test_file_names_stay(self) -> None:
        words = words_of(request_of("inpaint", "a.png", "b", "--mask", "max_iterations/mask=1.png"))
        for text in (
            "cannot read max_iterations/mask=1.png: it is damaged",
            "the folder max_iterations does not exist",
        ):
            assert words.translate(text) == text
        assert words.translate("image is empty") == "a.png is empty"

    @given(st.from_regex(r"[a-z_/=]{1,20}\.png", fullmatch=True))
    def test_any_file_name_stays(self, name: str) -> None:
        words = words_of(request_of("denoise", name, "b.png", "--checkpoint", "c.state"))
        assert words.translate(f"cannot read {name}: why") == f"cannot read {name}: why"

    def test_one_line(self) -> None:
        assert one_line("a\nb\x1b[0m\tc") == r"a b\x1b[0m c"
        assert one_line("y ü.png") == "y ü.png"

    def test_file_names_with_control_characters(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        write_image("in.png", np.zeros((4, 4), np.uint8))
        assert main(["denoise", "\x1b[31m\n.png", "out.png"]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert "\x1b" not in told
