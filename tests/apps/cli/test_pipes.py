"""``-`` in the place of a file: standard input and standard output."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dipfast
from dipfast.apps.cli import main
from dipfast.images.files import read_image, write_image

NOISY = np.random.default_rng(3).normal(120, 20, (24, 30)).round().astype(np.uint8)
FAST = ["--quality", "fast", "--quiet"]


class Stream:
    """A standard stream of bytes, as ``sys`` has them."""

    def __init__(self, content: bytes = b"", terminal: bool = False) -> None:
        self.buffer = io.BytesIO(content)
        self.terminal = terminal
        self.closed = False

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        return self.buffer.write(text.encode())

    def flush(self) -> None:
        """Do nothing."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_image("in.png", NOISY)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, arguments: list[str], **streams: Stream | None) -> int:
    with monkeypatch.context() as patch:
        for name, stream in streams.items():
            patch.setattr(sys, name, stream)
        return main(arguments)


def test_both_streams_of_a_process() -> None:
    whole = [sys.executable, "-m", "dipfast", "denoise", "-", "-", *FAST]
    content = Path("in.png").read_bytes()
    done = subprocess.run(whole, input=content, capture_output=True, timeout=120)
    assert done.returncode == 0
    assert main(["denoise", "in.png", "out.png", *FAST]) == 0
    expected = read_image("out.png").image
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(done.stdout))), expected)
    told = done.stderr.decode()
    assert told.startswith("dipfast: standard output: nl_ridge done")
    assert "noise" in told


def test_input_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    content = Stream(Path("in.png").read_bytes())
    assert run(monkeypatch, ["denoise", "-", "out.png", *FAST], stdin=content) == 0
    assert main(["denoise", "in.png", "same.png", *FAST]) == 0
    assert Path("out.png").read_bytes() == Path("same.png").read_bytes()
    assert Path("out.png.json").exists()


def test_a_folder_for_the_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").mkdir()
    stdin = Stream(Path("in.png").read_bytes())
    assert run(monkeypatch, ["denoise", "-", "out", *FAST], stdin=stdin) == 2
    # A name that a result can be written under.
    named = Path("out", "standard input.png")
    assert f"name a file in it, such as {named}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "image", "format"),
    [
        ("in.tif", NOISY.astype(np.float32), "TIFF"),
        ("in.jpg", NOISY, "PNG"),
        ("in.png", NOISY, "PNG"),
    ],
)
def test_output_is_in_the_format_of_the_input_without_loss(
    monkeypatch: pytest.MonkeyPatch, name: str, image: Any, format: str
) -> None:
    write_image(name, image, overwrite=True)
    stream = Stream()
    assert run(monkeypatch, ["denoise", name, "-", *FAST], stdout=stream) == 0
    Path("came-out").write_bytes(stream.buffer.getvalue())
    result = read_image("came-out")
    assert result.format == format
    assert result.image.dtype == image.dtype


def test_what_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: str, **streams: Stream | None) -> str:
        assert run(monkeypatch, ["denoise", *arguments], **streams) == 2
        return capsys.readouterr().err

    assert "standard input is empty" in told("-", "out.png", stdin=Stream())
    broken = Stream(Path("in.png").read_bytes()[:90])
    assert "cannot read standard input: " in told("-", "out.png", stdin=broken)
    assert "standard input is a terminal" in told("-", "out.png", stdin=Stream(terminal=True))
    assert "there is no standard output" in told("in.png", "-", stdout=None)
    assert "there is no standard input" in told("-", "out.png", stdin=None)
    assert "standard output is a terminal" in told("in.png", "-", stdout=Stream(terminal=True))
    assert "--json prints on standard output" in told("in.png", "-", "--json")
    Path("many").mkdir()
    assert "is a folder" in told("many", "-", stdout=Stream())
    assert not Path("out.png").exists()


def test_output_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(28, "No space left on device")

    stream = Stream()
    stream.buffer = Full()
    assert run(monkeypatch, ["denoise", "in.png", "-", *FAST], stdout=stream) == 1
    assert "standard output: No space left on device" in capsys.readouterr().err


def test_what_was_written_under_another_name_is_sent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = dipfast.Result.save

    def refuse(self: dipfast.Result, path: Any, **more: Any) -> None:
        if Path(path).stem == "standard output":
            raise OSError(28, "No space left on device")
        save(self, path, **more)

    monkeypatch.setattr(dipfast.Result, "save", refuse)
    stream = Stream()
    assert run(monkeypatch, ["denoise", "in.png", "-", *FAST], stdout=stream) == 1
    assert stream.buffer.getvalue().startswith(b"\x89PNG")
    assert "No space left" in capsys.readouterr().err


def test_a_file_of_that_name() -> None:
    Path("in.png").rename("-")
    assert main(["denoise", "./-", "out.png", *FAST]) == 0
    assert read_image("out.png").image.shape == NOISY.shape
