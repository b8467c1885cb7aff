"""What is printed must not cost a picture, and the exit status says what was written."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dipfast
from dipfast.apps import report
from dipfast.apps.cli import main
from dipfast.images.files import read_image, write_image
from dipfast.run.result import Member
from dipfast.stop_reason import StopReason

WHITE = np.full((8, 8), 255, np.uint8)
RESULT = dipfast.Result(
    image=WHITE,
    history={"iteration": [1], "stage": ["dip"], "loss": [0.1], "data": [0.1], "tv": [0.0]},
    stop_reason=StopReason.ALL_ITERATIONS,
    best_iteration=1,
    settings={"task": "denoise"},
    found={},
    stop_iteration=1,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_image(tmp_path / "y ü.png", np.zeros((8, 8), np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def instead(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Does something else in the place of a fit, and returns a result that it does not make."""

    def use(do: Callable[[], Any] = lambda: None, **changes: Any) -> None:
        def work(*_: Any, **__: Any) -> dipfast.Result:
            do()
            return replace(RESULT, **changes)

        monkeypatch.setattr(dipfast, "denoise", work)

    return use


@pytest.fixture
def broken_pipe() -> Iterator[Any]:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stream:
        yield stream


def closed() -> Any:
    stream = io.StringIO()
    stream.close()
    return stream


def denoise(*arguments: str) -> int:
    return main(["denoise", "y ü.png", "ö.png", *arguments])


@pytest.mark.usefixtures("folder")
class TestStreams:
    @pytest.mark.parametrize("name", ["stdout", "stderr"])
    @pytest.mark.parametrize("options", [[], ["--json"]])
    @pytest.mark.parametrize("kind", ["None", "closed", "full", "pipe", "ascii", "latin"])
    def test_the_picture_is_written(
        self,
        monkeypatch: pytest.MonkeyPatch,
        instead: Callable[..., None],
        broken_pipe: Any,
        name: str,
        options: list[str],
        kind: str,
    ) -> None:
        if kind == "full" and not os.path.exists("/dev/full"):
            pytest.skip("no full device")
        instead(lambda: warnings.warn("ß", stacklevel=1))
        raw = io.BytesIO()
        stream = {
            "None": lambda: None,
            "closed": closed,
            "full": lambda: open("/dev/full", "w", encoding="utf-8"),  # noqa: SIM115
            "pipe": lambda: broken_pipe,
            "ascii": lambda: io.TextIOWrapper(raw, encoding="ascii", write_through=True),
            "latin": lambda: io.TextIOWrapper(raw, encoding="latin-1", write_through=True),
        }[kind]()
        monkeypatch.setattr(sys, name, stream)
        assert denoise(*options) == 0
        assert getattr(sys, name) is stream
        if stream is not None:
            stream.close()  # as Python does when it ends
        assert (read_image("ö.png").image == WHITE).all()
        assert json.loads(Path("ö.png.json").read_text())["best_iteration"] == 1

    def test_characters_that_a_terminal_does_not_have(
        self, monkeypatch: pytest.MonkeyPatch, instead: Callable[..., None]
    ) -> None:
        instead()
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
        assert denoise() == 0
        assert raw.getvalue().startswith(rb"\xf6.png: all iterations done")

    def test_a_full_disk_is_told(
        self,
        monkeypatch: pytest.MonkeyPatch,
        instead: Callable[..., None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        class Full(io.StringIO):
            def flush(self) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

        instead()
        monkeypatch.setattr(sys, "stdout", Full())
        assert denoise("--json") == 0
        told = capsys.readouterr().err
        assert told == "dipfast: warning: standard output: No space left on device\n"

    def test_nothing_but_json(
        self, instead: Callable[..., None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        instead(lambda: warnings.warn("something", stacklevel=1))
        assert denoise("--json") == 0
        told = capsys.readouterr()
        assert json.loads(told.out) == json.loads(Path("ö.png.json").read_text())
        assert told.err == "dipfast: warning: something\n"

    @pytest.mark.filterwarnings("error")
    def test_no_iteration_is_the_best_of_a_join(
        self, instead: Callable[..., None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        instead(found={"max_iterations": 1})
        assert denoise() == 0
        assert "all iterations done, best of 1 iterations: 1\n" in capsys.readouterr().out
        instead(found={"max_iterations": 1}, members=(Member("guided", WHITE, 1.0),))
        assert denoise("--force") == 0
        assert "all iterations done\n" in capsys.readouterr().out

    def test_warnings_that_are_errors_elsewhere(
        self, instead: Callable[..., None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        instead(lambda: warnings.warn("max_iterations are few", stacklevel=1))
        assert denoise() == 0
        assert capsys.readouterr().err == "dipfast: warning: --max-iterations are few\n"

    @pytest.mark.skipif(os.name != "posix", reason="a shell of POSIX")
    @pytest.mark.parametrize("redirections", [">&- 2>&- <&-", ">/dev/full 2>/dev/full", "| true"])
    def test_process(self, folder: Path, redirections: str) -> None:
        command = '"$0" -m dipfast denoise "y ü.png" "ö.png" --max-iterations 2 --quality fast'
        shell = ["sh", "-c", f"({command}; echo $? >status) {redirections}", sys.executable]
        environment = {**os.environ, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
        subprocess.run(shell, env=environment, check=False)
        assert Path("status").read_text() == "0\n"
        assert read_image("ö.png").image.shape == (8, 8)


@pytest.mark.usefixtures("folder")
class TestStatus:
    def test_unfinished(self, instead: Callable[..., None]) -> None:
        instead(unfinished="after 3 of 800 iterations")
        assert denoise() == 3
        assert (read_image("ö.png").image == WHITE).all()

    @pytest.mark.parametrize(
        ("reason", "status"), [(StopReason.INTERRUPTED, 130), (StopReason.TERMINATED, 143)]
    )
    def test_interrupted(
        self, instead: Callable[..., None], reason: StopReason, status: int
    ) -> None:
        instead(stop_reason=reason, unfinished="after 3 of 800 iterations")
        assert denoise() == status

    @pytest.mark.parametrize("name", ["curves", "strip"])
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
            (ValueError("a format that it does not know"), "a format that it does not know"),
            (MemoryError(), "MemoryError"),
            (KeyError("font"), "'font'"),
        ],
    )
    def test_plots_that_fail(
        self,
        monkeypatch: pytest.MonkeyPatch,
        instead: Callable[..., None],
        capsys: pytest.CaptureFixture[str],
        name: str,
        error: Exception,
        reason: str,
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise error

        instead()
        monkeypatch.setattr(report, f"draw_{name}", fail)
        assert denoise(f"--{name}", "plot.png") == 1
        told = capsys.readouterr()
        assert told.err == f"dipfast: error: --{name} plot.png could not be drawn: {reason}\n"
        assert told.out.startswith("ö.png: all iterations done")
        assert (read_image("ö.png").image == WHITE).all()

    def test_a_strip_without_snapshots(
        self, instead: Callable[..., None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        instead()
        assert denoise("--strip", "strip.png", "--curves", "curves.png") == 1
        assert (
            "--strip strip.png could not be drawn: a strip is drawn of" in capsys.readouterr().err
        )
        assert Path("curves.png").exists()

    def test_the_folder_has_gone(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        instead: Callable[..., None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        Path("results").mkdir()
        instead(lambda: shutil.rmtree("results"))
        assert main(["denoise", "y ü.png", "results/out.png"]) == 1
        rescued = tmp_path / "out-2.png"
        told = capsys.readouterr()
        assert "results/out.png could not be written: " in told.err
        assert told.err.endswith(f"; the result is in {rescued}\n")
        assert told.out.startswith(f"{rescued}: all iterations done")
        assert (read_image(rescued).image == WHITE).all()
        assert Path(f"{rescued}.json").exists()

    def test_what_a_format_needs_is_in_the_temporary_folder_too(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        instead: Callable[..., None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        from PIL import Image

        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        inks = np.random.default_rng(0).integers(0, 255, (16, 16, 4), np.uint8)
        Image.fromarray(inks, "CMYK").save("inks.jpg", quality=95)
        Path("results").mkdir()
        save = dipfast.Result.save

        def unplugged(self: dipfast.Result, path: Any, **more: Any) -> None:
            if str(path).startswith("results"):
                raise OSError(errno.EIO, "Input/output error")
            save(self, path, **more)

        monkeypatch.setattr(dipfast.Result, "save", unplugged)
        assert main(["denoise", "inks.jpg", "results/out.jpg", "--quality", "fast"]) == 1
        assert str(tmp_path / "out-2.jpg") in capsys.readouterr().err
        with Image.open(tmp_path / "out-2.jpg") as rescued:
            assert rescued.mode == "CMYK"

    def test_metadata_that_cannot_be_written(
        self,
        monkeypatch: pytest.MonkeyPatch,
        instead: Callable[..., None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        save = dipfast.Result.save

        def refuse(self: dipfast.Result, path: Any, *, like: Any, **more: Any) -> None:
            if like.format:
                raise ValueError("EXIF data is too long")
            save(self, path, like=like, **more)

        instead()
        monkeypatch.setattr(dipfast.Result, "save", refuse)
        assert denoise() == 1
        told = capsys.readouterr().err
        assert told.endswith(
            "could not be written: EXIF data is too long; the result is in ö-2.png\n"
        )
        assert (read_image("ö-2.png").image == WHITE).all()

    def test_room_for_the_picture_and_not_for_its_report(
        self,
        monkeypatch: pytest.MonkeyPatch,
        instead: Callable[..., None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        import dipfast.run.result as result_module

        write = result_module.files.write_atomically

        def full(path: Any, **more: Any) -> Any:
            if str(path).endswith(".json"):
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(path, **more)

        instead()
        monkeypatch.setattr(result_module.files, "write_atomically", full)
        assert denoise() == 1
        told = capsys.readouterr()
        assert told.err.endswith(
            "error: ö.png is written, but its report ö.png.json could not be: No space left on "
            "device\n"
        )
        assert told.out.startswith("ö.png: all iterations done")
        assert (read_image("ö.png").image == WHITE).all()
        assert not Path("ö-2.png").exists()

    def test_nowhere_to_write_to(
        self,
        monkeypatch: pytest.MonkeyPatch,
        instead: Callable[..., None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def full(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        instead()
        monkeypatch.setattr(dipfast.Result, "save", full)
        assert denoise() == 1
        assert "the result is lost: No space left on device" in capsys.readouterr().err

    @pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
    @pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_signal_while_the_picture_is_written(
        self,
        monkeypatch: pytest.MonkeyPatch,
        instead: Callable[..., None],
        number: signal.Signals,
        status: int,
    ) -> None:
        save = dipfast.Result.save

        def slow(self: dipfast.Result, *arguments: Any, **options: Any) -> None:
            os.kill(os.getpid(), number)
            save(self, *arguments, **options)

        instead()
        monkeypatch.setattr(dipfast.Result, "save", slow)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            assert denoise("--curves", "curves.png") == status
        finally:
            signal.signal(signal.SIGINT, before)
        assert (read_image("ö.png").image == WHITE).all()
        assert not Path("curves.png").exists()

    def test_an_error_in_the_middle_of_the_work(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        class State:
            iteration = 1
            metrics: dict[str, Any] = {}  # noqa: RUF012

            iterations = 2

            class numbers:  # noqa: N801
                value = 0.5

            class stage:  # noqa: N801
                name = "dip"

        def work(*_: Any, callback: Any, **__: Any) -> None:
            callback(State)
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(dipfast, "denoise", work)
        assert denoise("--quiet") == 1
        assert capsys.readouterr().err == "dipfast: error: [Errno 5] Input/output error\n"
