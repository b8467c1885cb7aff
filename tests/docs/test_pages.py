"""Pages of the documentation: their snippets run, and their links lead somewhere."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import dipfast
from dipfast.apps.cli import main

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
TUTORIALS = [
    *sorted((ROOT / "docs/tutorials").glob("*.py")),
    *sorted((ROOT / "docs/explained").glob("*.py")),
]
ITERATIONS = 6
# Commands that go on until they are stopped.
ENDLESS = ("studio",)
# What is read as a placeholder or a pipe and not as a command: IN, FILE..., [options], |.
PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b|\.\.\.|[\[\]|<>]")
FENCE = re.compile(r"^ *```\{?(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
DOC = re.compile(r"\{doc\}`(?:[^`<]*<)?([^`>]+)>?`")


def snippets(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each block of code that can be run, in order: Python as a whole, or commands."""
    for language, text in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            yield language, [text]
        elif language in ("shell", "sh", ""):
            typed = [line.split("  #")[0].strip() for line in text.splitlines()]
            commands = [line for line in typed if _is_command(line)]
            if commands:
                yield "shell", commands


def _is_command(line: str) -> bool:
    if not line.startswith("dipfast ") or PLACEHOLDER.search(line):
        return False
    return line.split()[1] not in ENDLESS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the files that pages name in it."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:48, 0:64]
    clean = np.dstack([60 + 2 * columns, 200 - 3 * rows, 90 + rows + columns]).astype(np.uint8)
    noisy = (clean + rng.normal(0, 20, clean.shape)).round().clip(0, 255).astype(np.uint8)
    mask = np.zeros(clean.shape[:2], np.uint8)
    mask[20:23, 5:50] = 255
    scratched = clean.copy()
    scratched[mask > 0] = 255
    pictures = {
        "clean": clean,
        "truth": clean,
        "noisy": noisy,
        "blurred": clean,
        "scratched": scratched,
        "scratches": mask,
        "small": clean[:16, :16],
    }
    for name, picture in pictures.items():
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    for name in ("noisy.jpg", "poor.jpg"):
        Image.fromarray(clean).save(tmp_path / name, quality=20)
    for name in ("noisy.tif", "other.tif", "scratched.tif"):
        tifffile.imwrite(tmp_path / name, noisy[..., 0].astype(np.uint16) * 16)
    planes = np.stack([noisy[..., 0]] * 3).astype(np.uint16) * 16
    tifffile.imwrite(tmp_path / "stack.tif", planes, imagej=True, metadata={"axes": "ZYX"})
    (tmp_path / "clean.png").rename(tmp_path / "clean-picture.png")
    (tmp_path / "scans").mkdir()
    Image.fromarray(noisy[:24, :24]).save(tmp_path / "scans/one.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def names(folder: Path) -> dict[str, Any]:
    """What snippets take for given."""
    image = np.asarray(Image.open(folder / "noisy.png"))
    mask = np.asarray(Image.open(folder / "scratches.png")) > 0
    grey = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return {
        "__name__": "snippet",
        "dipfast": dipfast,
        "image": image,
        "mask": mask,
        "pixels": np.asarray(Image.open(folder / "poor.jpg")),
        "stack": np.random.default_rng(0).random((4, 16, 16), np.float32),
        "video": np.random.default_rng(0).random((2, 2, 3, 16, 16), np.float32),
        **dict.fromkeys(("x", "u", "y", "a", "b"), grey),
        "known": torch.ones_like(grey),
        "tv_weight": 0.1,
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_run(
    page: Path,
    folder: Path,
    names: dict[str, Any],
    use_small_network: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    use_small_network(ITERATIONS)
    given = set(folder.iterdir())
    for language, texts in snippets(page):
        for made in set(folder.iterdir()) - given:  # by the block before
            shutil.rmtree(made) if made.is_dir() else made.unlink()
        for text in texts:
            if language == "python":
                exec(compile(text, page.name, "exec", dont_inherit=True), names)
            else:
                code = main(shlex.split(text)[1:])
                assert code == 0, (text, capfd.readouterr().err)


def test_snippets_are_found() -> None:
    found = list(snippets(ROOT / "docs/quick-start.md"))

    assert sum(len(texts) for language, texts in found if language == "shell") >= 8
    assert sum(language == "python" for language, _ in found) >= 4


@pytest.mark.parametrize("page", [*PAGES, *ROOT.glob("docs/adr/*.md")], ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))

    for target, _ in LINK.findall(text):
        if "://" in target:
            assert re.fullmatch(r"https?://[\w.-]+\.[a-z]+(/[\w./#~%?=&-]*)?", target), target
        else:
            assert (page.parent / target).exists(), target
    for name in DOC.findall(text):
        page_of = page.parent / name
        if name.startswith("generated/"):  # what sphinx-gallery makes of a program
            page_of = ROOT / "docs" / name.removeprefix("generated/")
        assert page_of.with_suffix(".md").exists() or page_of.with_suffix(".py").exists(), name


def test_public_names_are_on_the_page_of_the_interface() -> None:
    listed = (ROOT / "docs/api/index.md").read_text(encoding="utf-8").split()

    assert {name for name in dipfast.__all__ if name != "__version__"} <= set(listed)


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorials_are_programs(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    title = (ast.get_docstring(tree) or "").splitlines()

    assert len(title[0]) == len(title[1]), "a title has its line below it"
    assert set(title[1]) == {"="}


def test_a_tutorial_runs(tmp_path: Path) -> None:
    """The others run where the documentation is built, which takes minutes."""
    environment = {**os.environ, "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, ROOT / "docs/tutorials/microscopy.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "TYX (4, 128, 128) uint16 um" in done.stdout
