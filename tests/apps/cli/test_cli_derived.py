"""The command line is made of the settings: nothing about an option is written twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from cyclopts import App

from dipfast.apps.cli import main
from dipfast.apps.cli.commands import make_command
from dipfast.apps.cli.exits import EXIT_CODES, WorkError, code_of_error
from dipfast.apps.cli.options import NOT_TYPED, OWN_OPTIONS
from dipfast.apps.cli.usage import COMMANDS, UsageError, make_app, parse
from dipfast.errors import (
    CheckpointMismatchError,
    InputTypeError,
    MemoryLimitError,
    MissingExtraError,
    UnreadableFileError,
    WouldOverwriteError,
)
from dipfast.settings.option import option, options_of
from dipfast.settings.settings import SETTINGS, DenoiseSettings


class WiderSettings(DenoiseSettings):
    """Hold options that nobody but this test knows."""

    softness: float | Literal["auto"] = option(
        "auto", "How soft.", expected="'auto' or a number", unit="pixels"
    )
    passes: int = option(2, "How often.", expected="an integer")
    flavour: Literal["sweet", "sour"] = option("sweet", "What it tastes of.")
    mirrored: bool = option(False, "Whether it is mirrored.")
    notes: str | Path | None = option(None, "Where notes go.", role="local", expected="a file name")
    watcher: Any = option(None, "Something of the caller's.", role="observer", expected="callable")


@pytest.fixture
def app() -> App:
    """Return a command line whose command ``denoise`` has the wider settings."""
    app = App(name="dipfast", help_format="plaintext")
    app.command(make_command("denoise", WiderSettings), name="denoise")
    return app


class TestNewFields:
    def test_help(self, app: App, capsys: pytest.CaptureFixture[str]) -> None:
        assert parse(["denoise", "--help"], app) is None
        text = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert "How soft. [unit: pixels]" in text
        assert "How often. [default: 2]" in text
        assert "What it tastes of. [choices: sweet, sour] [default: sweet]" in text
        assert "--mirrored --no-mirrored" in text
        assert "--notes" in text
        assert "--watcher" not in text

    @pytest.mark.parametrize(
        ("typed", "options"),
        [
            ("--softness -1.5", {"softness": -1.5}),
            ("--softness=auto", {"softness": "auto"}),
            ("--passes 3", {"passes": 3}),
            ("--flavour sour", {"flavour": "sour"}),
            ("--mirrored", {"mirrored": True}),
            ("--no-mirrored", {"mirrored": False}),
            ("--notes ./a.txt", {"notes": "./a.txt"}),
        ],
    )
    def test_values(self, app: App, typed: str, options: dict[str, Any]) -> None:
        request = parse(["denoise", "a", "b", *typed.split()], app)
        assert request is not None
        assert request.options == options

    @pytest.mark.parametrize(
        ("typed", "message"),
        [
            ("--softness 1,5", "--softness: 'auto' or a number expected, got '1,5'; did you mean"),
            ("--passes many", "--passes: a whole number expected, got 'many'"),
            ("--flavour swete", "--flavour: there is no 'swete'; did you mean sweet?"),
            ("--watcher x", "there is no option --watcher"),
        ],
    )
    def test_what_is_refused(self, app: App, typed: str, message: str) -> None:
        with pytest.raises(UsageError) as caught:
            parse(["denoise", "a", "b", *typed.split()], app)
        assert str(caught.value).startswith(message)


@pytest.mark.parametrize("task", SETTINGS)
def test_every_option_is_in_the_help(
    task: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "900")
    assert main([COMMANDS[task].name, "--help"]) == 0
    text = capsys.readouterr().out
    for kind in (SETTINGS[task], OWN_OPTIONS[task]):  # type: ignore[index]
        for described in options_of(kind).values():
            name = "--" + described.name.rstrip("_").replace("_", "-")
            if kind is SETTINGS[task] and (  # type: ignore[index]
                described.name in NOT_TYPED or described.role in ("image", "observer")
            ):
                continue
            if described.name not in ("image", "output"):
                assert name in text
            assert described.help in text


class TestCompletion:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_scripts(
        self,
        shell: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        script = tmp_path / "script"
        assert main(["--install-completion", "--shell", shell, "--output", str(script)]) == 0
        assert str(script) in capsys.readouterr().out
        text = script.read_text()
        for words in ("superres", "tv-weight", "poisson_gaussian", "no-keep-known", "boundary"):
            assert words in text

    @pytest.mark.skipif(shutil.which("bash") is None, reason="bash")
    @pytest.mark.parametrize(
        ("words", "offered"),
        [
            (["inpaint", "--no"], {"--noise", "--no-keep-known"}),
            (["inpaint", "--noise", "po"], {"poisson_gaussian"}),
            (["superres", "--factor", ""], {"2", "3", "4", "8"}),
            (["inpaint", "--mask", "m"], {"mask.png"}),
            ([""], {*(command.name for command in COMMANDS.values())}),
        ],
    )
    def test_bash(
        self, words: list[str], offered: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "mask.png").touch()
        script = make_app().generate_completion(shell="bash")
        typed = " ".join(f"'{word}'" for word in ["dipfast", *words])
        script += f"\nCOMP_WORDS=({typed}); COMP_CWORD={len(words)}; _dipfast\n"
        script += "printf '%s\\n' \"${COMPREPLY[@]}\"\n"
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        assert set(done.stdout.split()) == offered

    def test_a_folder_that_cannot_be_made(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "file").touch()
        output = str(tmp_path / "file" / "script")
        assert main(["--install-completion", "--shell", "fish", "--output", output]) == 2
        assert capsys.readouterr().err.startswith("dipfast: error: ")


class TestExitCodes:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (WorkError("x"), 1),
            (MemoryLimitError("x"), 1),
            (MemoryError(), 1),
            (RuntimeError("x"), 1),
            (UsageError("x"), 2),
            (InputTypeError("x"), 2),
            (UnreadableFileError("x"), 2),
            (CheckpointMismatchError("x"), 2),
            (WouldOverwriteError("x"), 2),
            (MissingExtraError("x"), 2),
            (PermissionError("x"), 2),
            (KeyError("x"), None),
        ],
    )
    def test_of_errors(self, error: Exception, code: int | None) -> None:
        assert code_of_error(error) == code

    def test_all_are_in_the_help_and_in_the_documents(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(["denoise", "--help"])
        text = " ".join(capsys.readouterr().out.split())
        page = Path(__file__).parents[3] / "docs" / "command-line.md"
        rows = page.read_text(encoding="utf-8").splitlines()
        for code, meaning in EXIT_CODES.items():
            assert f"{code} {meaning}" in text
            assert any(row.startswith(f"| {code} | {meaning}") for row in rows)


def test_help_of_the_program_reads_no_settings() -> None:
    """``dipfast --help`` starts quickly because pydantic is not imported."""
    code = (
        "import sys\n"
        "from dipfast.apps.cli import main\n"
        "main(['--help'])\n"
        "print('pydantic' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.stdout.endswith("False\n")
    for command in COMMANDS.values():
        assert command.help.partition("\n")[0] in done.stdout
