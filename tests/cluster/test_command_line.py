"""Folders of the command line on workers: the same results, record and exit codes as without."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.cluster import on_workers

import dipfast
from dipfast.apps.cli import main
from dipfast.cluster.record import FolderRecord
from dipfast.cluster.sizes import Need
from dipfast.images.files import read_image, report_path, write_image
from dipfast.run.memory import available

Make = Callable[[int], list[Path]]


@pytest.fixture
def typed(client: Any, pictures: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that denoises the folder ``in`` with the workers of the client."""
    pictures(5)
    monkeypatch.chdir(tmp_path)

    def run(out: str, *arguments: str, on_cluster: bool = True) -> int:
        where = ["--scheduler", client.scheduler.address] if on_cluster else []
        return main(["denoise", "in", out, "--quality", "fast", *where, *arguments])

    return run


def lines(out: str) -> dict[str, dict[str, Any]]:
    text = Path(out, "dipfast.jsonl").read_text().splitlines()
    return {Path(line["output"]).name: line for line in map(json.loads, text)}


def test_results_and_record_are_those_without(
    typed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("there") == typed("here", on_cluster=False) == 0
    told = capsys.readouterr()
    assert told.out.startswith("there: 5 done, 0 skipped, 0 failed, ")
    assert "dashboard: http" in told.err
    there, here = lines("there"), lines("here")
    assert set(there) == set(here)
    for name, line in there.items():
        assert np.array_equal(
            read_image(Path("there", name)).image, read_image(Path("here", name)).image
        )
        own = {"output", "seconds", "stamp", "report"}
        assert {k: v for k, v in line.items() if k not in own} == {
            k: v for k, v in here[name].items() if k not in own
        }
    assert not Path("there/.dipfast-current").exists()
    # What one has done, the other skips.
    assert typed("there", on_cluster=False) == typed("here") == 0
    assert capsys.readouterr().out.count("0 done, 5 skipped") == 2


def test_the_limit_of_an_order_goes_with_it(
    pictures: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(1)
    monkeypatch.chdir(tmp_path)
    seen: list[int | None] = []
    denoise = dipfast.denoise

    def noting(*arguments: Any, **options: Any) -> Any:
        seen.append(available(torch.device("cpu")))
        return denoise(*arguments, **options)

    monkeypatch.setattr("dipfast.cluster.sizes.needs_of", lambda *_: Need(1000, 123_456_789))
    monkeypatch.setattr(dipfast, "denoise", noting)
    assert main(["denoise", "in", "out", "--quality", "fast", "--scheduler", "threads"]) == 0
    assert seen == [123_456_789]


@pytest.mark.parametrize(("times", "code"), [(2, 0), (3, 1)])
@pytest.mark.parametrize("begun", [False, True])
def test_what_fails_for_a_moment_is_tried_three_times(
    pictures: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    code: int,
    begun: bool,
) -> None:
    pictures(1)
    monkeypatch.chdir(tmp_path)
    tries: list[int] = []
    denoise = dipfast.denoise

    def failing(*arguments: Any, callback: Any, **options: Any) -> Any:
        tries.append(1)
        if len(tries) <= times:
            if begun:
                callback.begun = True
            raise OSError(errno.EIO, "Input/output error")
        return denoise(*arguments, callback=callback, **options)

    monkeypatch.setattr(dipfast, "denoise", failing)
    words = ["denoise", "in", "out", "--quality", "fast", "--scheduler", "threads", "--quiet"]
    assert main(words) == code
    assert len(tries) == 3
    assert [line["status"] for line in lines("out").values()] == ["failed" if code else "done"]


def test_failures_are_told_and_end_no_other(typed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in/01.png").write_text("no picture")
    Path("out").mkdir()
    write_image("out/02.png", np.zeros((4, 4), np.uint8))
    assert typed("out", "--quiet") == 1
    told = capsys.readouterr()
    assert told.out.startswith("out: 3 done, 0 skipped, 2 failed, ")
    assert "error: cannot read" in told.err
    assert "--force replaces it" in told.err
    assert lines("out")["01.png"]["status"] == "failed"
    assert read_image("out/02.png").image.shape == (4, 4)


@pytest.mark.parametrize("with_report", [True, False])
def test_a_result_whose_worker_was_killed_before_it_told_is_replaced(
    with_report: bool, typed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second try finds what the first one has written since the picture was sent."""
    result = dipfast.denoise(read_image("in/01.png").image, quality="fast")
    begin = FolderRecord.begin

    def begin_and_write(self: Any, line: Any, output: Path, **more: Any) -> None:
        begin(self, line, output, **more)
        if output.name == "01.png":
            result.save(output)
            if not with_report:
                report_path(output).unlink()

    monkeypatch.setattr(FolderRecord, "begin", begin_and_write)
    assert typed("out") == 0
    assert {line["status"] for line in lines("out").values()} == {"done"}
    assert report_path(Path("out/01.png")).exists()
    assert sorted(path.name for path in Path("out").glob("*.png")) == sorted(lines("out"))


def test_a_file_that_comes_meanwhile_stays(
    pictures: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pictures(1)
    monkeypatch.chdir(tmp_path)
    restore = dipfast.denoise

    def slow(*arguments: Any, **options: Any) -> dipfast.Result:
        Path("out/00.png").write_text("somebody's")
        return restore(*arguments, **options)

    there = ["--scheduler", "threads", "--workers", "1", "--quality", "fast", "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr(dipfast, "denoise", slow)
        assert main(["denoise", "in", "out", *there]) == 1
    assert "00-2.png" in capsys.readouterr().err
    assert main(["denoise", "in", "out", *there]) == 1
    assert Path("out/00.png").read_text() == "somebody's"


@pytest.mark.parametrize("device", ["cuda:77", "abacus"])
def test_devices_are_those_of_the_workers(device: str, typed: Any) -> None:
    assert typed("out", "--quiet", "--device", device) == 1
    found = lines("out")
    assert len(found) == 5
    assert all(f"--device {device} cannot be used" in line["message"] for line in found.values())


@pytest.mark.parametrize("elsewhere", [True, False])
def test_what_was_given_up_is_known_after_a_run_over_others(
    elsewhere: bool,
    pictures: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker may write it even after that run; what no worker did is nobody's."""
    pictures(2)
    monkeypatch.chdir(tmp_path)
    first = FolderRecord(Path("out"))
    Path("out").mkdir()
    first.begin({"input": "in/00.png", "output": "out/00.png"}, Path("out/00.png"), elsewhere=True)
    if not elsewhere:
        first.begin({"input": "in/00.png", "output": "out/00.png"}, Path("out/00.png"))
    first.close()
    assert main(["denoise", "in/01.*", "out", "--quality", "fast", "--quiet"]) == 0
    write_image("out/00.png", np.zeros((4, 4), np.uint8))
    assert main(["denoise", "in", "out", "--quality", "fast", "--quiet"]) == (not elsewhere)
    assert (read_image("out/00.png").image.shape == (24, 24)) is elsewhere
    assert not Path("out/.dipfast-current").exists()


def test_what_a_worker_wrote_after_the_end_is_not_done_again(
    pictures: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pictures(1)
    monkeypatch.chdir(tmp_path)
    there = ["--scheduler", "threads", "--workers", "1", "--quality", "fast", "--quiet"]

    class Killed(BaseException):
        """Stand for SIGKILL, after which nothing more is done."""

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(FolderRecord, "add", kill)
        with pytest.raises(Killed):
            main(["denoise", "in", "out", *there])
    assert not Path("out/dipfast.jsonl").exists()
    assert main(["denoise", "in", "out", *there]) == 0
    assert "0 done, 1 skipped" in capsys.readouterr().out


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c(
    typed: Any, client: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "begun").mkdir()
    client.run(on_workers.count_restorations, str(tmp_path / "begun"))
    try:
        timer = threading.Timer(0.25, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        assert typed("out") == 130
        timer.join()
    finally:
        client.run(on_workers.do_not_count)
    assert " left, " in capsys.readouterr().out
    assert typed("out") == 0
    assert {line["status"] for line in lines("out").values()} == {"done"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["in/00.png", "x.png", "--workers", "2"], "--workers is for folders"),
        (["in", "out", "--workers", "0"], "whole number from 1 up"),
        (["in", "out", "--scheduler", "nearby"], "an address such as"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], text: str, typed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["denoise", *arguments]) == 2
    assert text in capsys.readouterr().err
