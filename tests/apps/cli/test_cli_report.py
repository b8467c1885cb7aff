"""The page of a result on the command line: what is in it, and where it may not be written."""

from __future__ import annotations

import re
import shlex
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dipfast
from dipfast.apps import page
from dipfast.apps.cli import main
from dipfast.images.files import read_image, write_image

FAST = ("--quality", "fast", "--quiet")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with pictures in it."""
    pixels = np.random.default_rng(0).normal(128, 25, (24, 20)).clip(0, 255).astype(np.uint8)
    write_image(tmp_path / "in.png", pixels)
    missing = np.zeros((24, 20), np.uint8)
    missing[4:8, 5:9] = 255
    write_image(tmp_path / "mask.png", missing)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def title(name: str) -> str:
    found = re.search(r"<title>(.*?)</title>", Path(name).read_text(encoding="utf-8"))
    assert found is not None
    return unescape(found[1])


@pytest.mark.usefixtures("folder")
class TestPages:
    @pytest.mark.parametrize(
        ("command", "options"),
        [
            ("denoise", ["--reference", "in.png"]),
            ("inpaint", ["--mask", "mask.png"]),
            ("superres", ["--factor", "2"]),
            ("restore", ["--blur", "gaussian:0.8", "--method", "pnp"]),
        ],
    )
    def test_tasks(
        self, command: str, options: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        typed = [command, "in.png", "out.png", *FAST, *options, "--report", "a page.html"]
        assert main(typed) == 0
        assert capsys.readouterr().err == ""
        task = {"superres": "super_resolve"}.get(command, command)
        assert title("a page.html") == f"in.png: {task}"
        text = Path("a page.html").read_text(encoding="utf-8")
        assert shlex.join(["dipfast", *typed]) in unescape(text)
        assert "Before and after" in text

    def test_a_fit(self) -> None:
        fit = ("--max-iterations", "4", "--strip", "strip.png")
        assert main(["denoise", "in.png", "out.png", *FAST, *fit, "--report", "page.htm"]) == 0
        text = Path("page.htm").read_text(encoding="utf-8")
        assert "<h2>Curves</h2>" in text
        assert "<h2>Iterations</h2>" in text

    def test_names_are_escaped(self) -> None:
        name = "<script>&.png"
        write_image(name, read_image("in.png").image)
        assert main(["denoise", name, "out.png", *FAST, "--report", "page.html"]) == 0
        assert title("page.html") == f"{name}: denoise"
        assert Path("page.html").read_text(encoding="utf-8").count("<script>") == 1

    def test_force(self) -> None:
        Path("page.html").write_text("old")
        written = ["denoise", "in.png", "out.png", *FAST, "--report", "page.html", "--force"]
        assert main(written) == 0
        assert title("page.html") == "in.png: denoise"

    def test_a_failure_leaves_the_picture(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(page, "save_page", fail)
        assert main(["denoise", "in.png", "out.png", *FAST, "--report", "page.html"]) == 1
        message = "--report page.html could not be written: No space left on device"
        assert capsys.readouterr().err == f"dipfast: error: {message}\n"
        assert read_image("out.png").image.shape == (24, 20)


@pytest.mark.usefixtures("folder")
class TestRefusals:
    @pytest.fixture(autouse=True)
    def no_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError("work was started")

        monkeypatch.setattr(dipfast, "denoise", refuse)

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("page.html", (), "page.html exists already; --force replaces it"),
            ("nowhere/page.html", (), "the folder nowhere does not exist"),
            ("page.txt", (), "a page must be named .html, got page.txt"),
            ("in.png", ("--force",), "--report would overwrite in.png; choose another name"),
            ("./out.png", (), "--report would overwrite out.png; choose another name"),
            ("out.png.json", (), "--report would overwrite out.png.json; choose another name"),
            ("curves.png", ("--curves", "curves.png"), "--report would overwrite curves.png"),
            ("clean.png", ("--reference", "clean.png"), "--report would overwrite clean.png"),
            ("folder.html", ("--force",), "folder.html is a folder, not a file name"),
        ],
    )
    def test_places(
        self, name: str, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("page.html").write_text("old")
        Path("folder.html").mkdir()
        write_image("clean.png", read_image("in.png").image)
        before = {path.name for path in Path().iterdir()}
        assert main(["denoise", "in.png", "out.png", *options, "--report", name]) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"dipfast: error: {message}")
        assert told.count("\n") == 1
        assert {path.name for path in Path().iterdir()} == before
        assert Path("page.html").read_text() == "old"
