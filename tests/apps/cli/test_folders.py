"""Whole folders on the command line: what is done, skipped, told, and gone on with."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dipfast
from dipfast.apps.cli import main
from dipfast.cluster.record import FolderRecord
from dipfast.images import files
from dipfast.images.files import limits, read_image, safe, write_image
from dipfast.run import batch
from dipfast.stop_reason import StopReason

FAST = ["--quality", "fast", "--quiet"]


def picture(seed: int, size: tuple[int, ...] = (24, 24)) -> np.ndarray:
    return np.random.default_rng(seed).normal(128, 25, size).clip(0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a folder ``in`` of three noisy pictures."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for number, name in enumerate(("a.png", "b.tif", "c d é.png")):
        write_image(Path("in", name), picture(number))
    return tmp_path


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a fit would begin."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("work was started")

    monkeypatch.setattr(dipfast, "denoise", refuse)


def denoise(*arguments: str) -> int:
    return main(["denoise", *FAST, *arguments])


def lines(out: str = "out") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(out, "dipfast.jsonl").read_text().splitlines()]


def statuses(out: str = "out") -> list[tuple[str, str]]:
    return [(Path(line["output"]).name, line["status"]) for line in lines(out)]


def names(folder: str) -> list[str]:
    """The names of the pictures of a folder."""
    return sorted(path.name for path in Path(folder).iterdir() if ".json" not in path.name)


def stamps(folder: str = "out") -> dict[str, tuple[int, int]]:
    """What changes if a picture or its report is written again."""
    found = {}
    for path in Path(folder).iterdir():
        if path.name != "dipfast.jsonl":
            there = path.stat()
            found[path.name] = (there.st_ino, there.st_mtime_ns)
    return found


def same_bits(one: str, other: str) -> bool:
    return names(one) == names(other) and all(
        Path(one, name).read_bytes() == Path(other, name).read_bytes() for name in names(one)
    )


class TestDone:
    def test_each_is_as_if_it_was_named_alone(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert denoise("in", "out") == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        assert captured.out.startswith("out: 3 done, 0 skipped, 0 failed, ")
        assert captured.out.endswith(" s\n")
        assert names("out") == ["a.png", "b.tif", "c d é.png"]
        for name in names("out"):
            assert denoise(f"in/{name}", f"alone-{name}") == 0
            assert Path("out", name).read_bytes() == Path(f"alone-{name}").read_bytes()
            reports = [
                json.loads(Path(path).read_text())
                for path in (f"out/{name}.json", f"alone-{name}.json")
            ]
            for report in reports:
                del report["seconds"]
            assert reports[0] == reports[1]
        assert sorted(path.name for path in Path("out").iterdir()) == sorted(
            [*names("out"), *(f"{name}.json" for name in names("out")), "dipfast.jsonl"]
        )
        record = lines()
        assert [line["input"] for line in record] == [str(Path("in", name)) for name in names("in")]
        assert all(line["status"] == "done" and line["message"] == "" for line in record)
        assert all(line["sigma"] > 10 and line["seconds"] > 0 for line in record)
        assert len({line["settings"] for line in record}) == 1

    def test_damaged_and_too_large_do_not_end_the_others(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("in").mkdir()
        for number in range(30):
            size = (24, 24) if number != 20 else (64, 64)
            write_image(f"in/{number:02}.png", picture(number, size))
        whole = Path("in/07.png").read_bytes()
        Path("in/07.png").write_bytes(whole[: len(whole) // 2])
        monkeypatch.setattr(limits, "LARGEST_IMAGE", 48 * 48)
        assert denoise("in", "out") == 1
        captured = capsys.readouterr()
        assert captured.out.startswith("out: 28 done, 0 skipped, 2 failed, ")
        first, second = captured.err.splitlines()
        assert first.startswith(f"dipfast: error: cannot read {Path('in', '07.png')}: ")
        assert second.startswith(f"dipfast: error: cannot read {Path('in', '20.png')}: it declares")
        assert len(names("out")) == 28
        record = lines()
        assert len(record) == 30
        failed = [line for line in record if line["status"] == "failed"]
        assert [Path(line["input"]).name for line in failed] == ["07.png", "20.png"]
        assert "it declares 64 x 64 pixels" in failed[1]["message"]
        # What was put right is done in the next run, and nothing else.
        before = stamps()
        Path("in/07.png").write_bytes(whole)
        assert denoise("in", "out") == 1
        assert capsys.readouterr().out.startswith("out: 1 done, 28 skipped, 1 failed, ")
        after = stamps()
        assert sorted(after.keys() - before.keys()) == ["07.png", "07.png.json"]
        assert {name: after[name] for name in before} == before

    def test_bar(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        Path("in/broken.png").write_text("no picture")
        assert main(["denoise", "--quality", "fast", "in", "out"]) == 1
        shown = capsys.readouterr().err
        assert "4/4 [" in shown
        assert "broken.png" in shown
        assert "\rdipfast: error: cannot read" in shown  # on a line of its own

    def test_json(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert denoise("in", "out", "--json") == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        assert list(map(json.loads, captured.out.splitlines())) == lines()
        assert main(["denoise", "--quality", "fast", "in", "out", "--json"]) == 0
        captured = capsys.readouterr()
        told = list(map(json.loads, captured.out.splitlines()))
        assert [line["status"] for line in told] == ["skipped"] * 3
        assert "dipfast: out: 0 done, 3 skipped, 0 failed, " in captured.err

    def test_what_is_no_picture_is_left_out(self, folder: Path) -> None:
        for name in (".hidden.png", "notes.txt", "a.png.json"):
            Path("in", name).write_text("{}")
        Path("in/below.png").mkdir()
        Path("in/more").mkdir()
        write_image("in/more/e.png", picture(9))
        assert denoise("in", "out") == 0
        assert names("out") == ["a.png", "b.tif", "c d é.png"]

    def test_packed_pictures_are_named(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("m31.fits.fz", "m33.fits.gz", "f.tif.bz2", "notes.txt.gz", ".g.fits.fz"):
            Path("in", name).write_bytes(b"")
        assert denoise("in", "out") == 0
        assert names("out") == ["a.png", "b.tif", "c d é.png"]
        told = "in: 3 files left out, which are packed: f.tif.bz2, m31.fits.fz, m33.fits.gz; unpack"
        assert told in capsys.readouterr().err

    def test_pattern(self, folder: Path) -> None:
        assert denoise("in/*.png", "deep/out") == 0
        assert names("deep/out") == ["a.png", "c d é.png"]

    def test_a_name_that_looks_like_a_pattern(self, folder: Path) -> None:
        write_image("in[1].png", picture(1))
        assert denoise("in[1].png", "out.png") == 0
        assert not Path("out").exists()

    def test_suffix(self, folder: Path) -> None:
        assert denoise("in", "out", "--suffix", "_clean") == 0
        assert names("out") == ["a_clean.png", "b_clean.tif", "c d é_clean.png"]

    def test_results_beside_the_pictures(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for suffix in ("_clean", "_clean", "-2"):
            assert denoise("in", "./in", f"--suffix={suffix}") == 0
        out = capsys.readouterr().out.splitlines()
        counts = ["3 done, 0 skipped", "0 done, 3 skipped", "3 done, 0 skipped"]
        assert all(f": {count}, 0 failed" in line for count, line in zip(counts, out))
        assert len(names("in")) == 9

    def test_other_tasks(self, folder: Path) -> None:
        assert main(["superres", *FAST, "in", "large", "--factor", "2"]) == 0
        assert read_image("large/a.png").size == (48, 48)
        pnp = ["--method", "pnp", *FAST]
        assert main(["restore", *pnp, "in", "sharp", "--blur", "gaussian:1"]) == 0
        assert len(names("sharp")) == 3
        mask = np.zeros((24, 24), np.uint8)
        mask[3:5, 4:9] = 255
        write_image("mask.png", mask)
        assert main(["inpaint", *pnp, "in", "whole", "--mask", "mask.png"]) == 0
        assert len(names("whole")) == 3
        assert main(["restore", *pnp, "in", "x", "--blur", "in"]) == 2

    def test_masks_and_references_of_equal_names(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for kind in ("masks", "clean"):
            Path(kind).mkdir()
        for number, name in enumerate(("a.png", "b.png", "c d é.png")):
            mask = np.zeros((24, 24), np.uint8)
            mask[number : number + 3, :4] = 255
            write_image(Path("masks", name), mask)
            write_image(Path("clean", name), np.full((24, 24), 128, np.uint8))
        arguments = ["inpaint", *FAST, "in", "out", "--mask", "masks", "--reference", "clean"]
        assert main(arguments) == 0
        for number, line in enumerate(lines()):
            changed = read_image(line["output"]).image != read_image(line["input"]).image
            assert set(np.nonzero(changed)[0]) <= {number, number + 1, number + 2}
            assert line["psnr"] > 0
        mask[:] = 255 * np.eye(24, dtype=np.uint8)
        write_image("masks/a.png", mask, overwrite=True)
        Path("masks/b.png").unlink()
        capsys.readouterr()
        assert main(arguments) == 1
        captured = capsys.readouterr()
        assert captured.out.startswith("out: 1 done, 1 skipped, 1 failed")
        assert f"{Path('in', 'b.tif')}: {Path('masks', 'b.tif')}: No such file" in captured.err


class TestSecondRun:
    def test_all_are_skipped(
        self, folder: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
    ) -> None:
        assert denoise("in", "out") == 0
        before, record = stamps(), lines()
        os.utime("in/a.png")  # the content counts
        capsys.readouterr()
        request.getfixturevalue("no_work")
        assert denoise("in", "out") == 0
        assert capsys.readouterr().out.startswith("out: 0 done, 3 skipped, 0 failed, ")
        assert stamps() == before
        assert lines() == record

    def test_force(self, folder: Path) -> None:
        assert denoise("in", "out") == 0
        before = stamps()
        assert denoise("in", "out", "--force") == 0
        assert all(stamp != before[name] for name, stamp in stamps().items())

    def test_changed_options(self, folder: Path) -> None:
        assert denoise("in", "out") == 0
        before = stamps()
        assert denoise("in", "out", "--sigma", "10") == 0
        assert all(stamp != before[name] for name, stamp in stamps().items())
        assert len(lines()) == 6
        assert json.loads(Path("out/a.png.json").read_text())["settings"]["sigma"] == 10
        assert denoise("in", "out", "--sigma", "10", "--jpeg", "no") == 0
        assert len(lines()) == 9

    def test_changed_input(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert denoise("in", "out") == 0
        before = stamps()
        write_image("in/a.png", picture(8), overwrite=True)
        Path("out/b.tif").unlink()
        capsys.readouterr()
        assert denoise("in", "out") == 0
        assert capsys.readouterr().out.startswith("out: 2 done, 1 skipped, 0 failed, ")
        after = stamps()
        assert [name for name in sorted(after) if after[name] == before[name]] == [
            "c d é.png",
            "c d é.png.json",
        ]

    def test_files_of_others_stay(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        Path("out").mkdir()
        Path("out/a.png").write_text("somebody's")
        assert denoise("in", "out") == 1
        captured = capsys.readouterr()
        assert f"{Path('out', 'a.png')} exists already" in captured.err
        assert "--force replaces it" in captured.err
        assert Path("out/a.png").read_text() == "somebody's"
        # A result that was made again by hand is no longer that of the folder.
        assert denoise("in/b.tif", "out/b.tif", "--force", "--sigma", "9") == 0
        by_hand = Path("out/b.tif").read_bytes()
        assert denoise("in", "out") == 1
        assert Path("out/b.tif").read_bytes() == by_hand
        assert denoise("in", "out", "--force") == 0
        assert Path("out/b.tif").read_bytes() != by_hand

    def test_results_of_another_folder_stay(
        self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = {"monday": 3, "tuesday": 4}
        for name, seed in write.items():
            Path(name).mkdir()
            write_image(f"{name}/a.png", picture(seed))
        # A name of the working folder is not the same in another one.
        monkeypatch.chdir(folder / "monday")
        assert denoise("a.png*", "../out") == 0
        before = stamps("../out")
        monkeypatch.chdir(folder / "tuesday")
        os.utime("a.png", ns=(os.stat("../monday/a.png").st_mtime_ns,) * 2)
        capsys.readouterr()
        for _ in range(2):
            assert denoise("a.png*", "../out") == 1
            told = capsys.readouterr().err
            assert f"{Path('../out/a.png')} is the result of a.png; name another OUT" in told
        monkeypatch.chdir(folder)
        assert stamps() == before
        assert denoise("monday", "out") == 0
        assert "0 done, 1 skipped" in capsys.readouterr().out
        assert denoise("monday", "out", "--sigma", "9") == 0
        # The same picture in another place is the same picture.
        Path("monday").rename("first")
        assert denoise("first", "out") == 0
        assert denoise("tuesday", "out") == 1
        assert denoise("tuesday", "out", "--force") == 0
        assert denoise("first", "out") == 1
        assert denoise("tuesday", "out", "--sigma", "9") == 0

    def test_a_file_that_comes_meanwhile_stays(
        self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        restore = dipfast.denoise

        def slow(*arguments: Any, **options: Any) -> dipfast.Result:
            Path("out/a.png").write_text("somebody's")
            return restore(*arguments, **options)

        monkeypatch.setattr(dipfast, "denoise", slow)
        assert denoise("in/a.*", "out") == 1
        assert f"the result is in {Path('out', 'a-2.png')}" in capsys.readouterr().err
        assert denoise("in/a.*", "out") == 1
        assert Path("out/a.png").read_text() == "somebody's"

    def test_a_file_that_comes_before_ctrl_c_stays(
        self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        restore = dipfast.denoise

        def interrupted(*arguments: Any, **options: Any) -> dipfast.Result:
            Path("out/a.png").write_text("somebody's")
            result = restore(*arguments, **options)
            return dataclasses.replace(result, stop_reason=StopReason.INTERRUPTED)

        with monkeypatch.context() as patch:
            patch.setattr(dipfast, "denoise", interrupted)
            assert denoise("in/a.*", "out") == 130
        assert f"the result is in {Path('out', 'a-2.png')}" in capsys.readouterr().err
        assert statuses() == [("a.png", "failed")]
        assert denoise("in/a.*", "out") == 1
        assert Path("out/a.png").read_text() == "somebody's"

    def test_a_line_that_was_cut_off(self, folder: Path) -> None:
        assert denoise("in/a.png*", "out") == 0
        with Path("out/dipfast.jsonl").open("a") as stream:
            stream.write('{"input": "in/b.t')
        assert denoise("in", "out") == 0
        texts = Path("out/dipfast.jsonl").read_text().splitlines()
        assert len(texts) == 4
        assert [json.loads(texts[n])["status"] for n in (0, 2, 3)] == ["done"] * 3


class TestInterrupted:
    @pytest.fixture
    def whole(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
        """The folder with the results of an uninterrupted run."""
        assert denoise("in", "whole") == 0
        capsys.readouterr()
        return "whole"

    def test_before_there_is_a_result(
        self, whole: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        restore, calls = dipfast.denoise, []

        def interrupt(*arguments: Any, **options: Any) -> dipfast.Result:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return restore(*arguments, **options)

        monkeypatch.setattr(dipfast, "denoise", interrupt)
        assert denoise("in", "out") == 130
        captured = capsys.readouterr()
        assert captured.out.startswith("out: 1 done, 0 skipped, 0 failed, 2 left, ")
        assert captured.err == "dipfast: interrupted\n"
        assert names("out") == [".dipfast-current", "a.png"]
        before = stamps()
        assert denoise("in", "out") == 0
        assert capsys.readouterr().out.startswith("out: 2 done, 1 skipped, 0 failed, ")
        assert stamps()["a.png"] == before["a.png"]
        assert same_bits("out", whole)

    def test_in_the_middle_of_a_fit(
        self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fit = ["--method", "two_stage", "--max-iterations", "4"]
        assert denoise("in", "whole", *fit) == 0
        capsys.readouterr()
        restore, calls = dipfast.denoise, []

        def interrupt(*arguments: Any, callback: Any, **options: Any) -> dipfast.Result:
            calls.append(1)

            def watched(state: Any) -> None:
                callback(state)
                if len(calls) == 2:
                    signal.raise_signal(signal.SIGINT)

            return restore(*arguments, callback=watched, **options)

        monkeypatch.setattr(dipfast, "denoise", interrupt)
        # The shell lets a program in the background ignore Ctrl-C.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            assert denoise("in", "out", *fit) == 130
        finally:
            signal.signal(signal.SIGINT, before)
        assert capsys.readouterr().out.startswith("out: 1 done, 0 skipped, 0 failed, 2 left, ")
        assert statuses() == [("a.png", "done"), ("b.tif", "interrupted")]
        assert names("out") == ["a.png", "b.tif"]  # with the best picture so far
        assert denoise("in", "out", *fit) == 0
        assert statuses()[2:] == [("b.tif", "done"), ("c d é.png", "done")]
        assert same_bits("out", "whole")

    def test_after_the_last_step(
        self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The method is done, and asks observers no more: the picture is whole, and the last one.
        make = batch._result

        def interrupt(*arguments: Any) -> dipfast.Result:
            signal.raise_signal(signal.SIGINT)
            return make(*arguments)

        monkeypatch.setattr(batch, "_result", interrupt)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            assert denoise("in", "out") == 130
        finally:
            signal.signal(signal.SIGINT, before)
        assert capsys.readouterr().out.startswith("out: 1 done, 0 skipped, 0 failed, 2 left, ")
        assert statuses() == [("a.png", "done")]

    @pytest.mark.parametrize("point", ["work", "picture", "report", "line"])
    @pytest.mark.parametrize("again", [False, True])
    def test_killed(
        self,
        whole: str,
        point: str,
        again: bool,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        if again:  # the results of other settings are replaced
            assert denoise("in", "out", "--sigma", "5") == 0
        # A damaged picture comes first, and is begun before the one that was killed.
        Path("in/0.png").write_text("no picture")

        class Killed(BaseException):
            """Stand for SIGKILL, after which nothing more is done."""

        def kill(*_: Any, **__: Any) -> None:
            raise Killed

        with monkeypatch.context() as patch:
            if point == "work":
                patch.setattr(dipfast, "denoise", kill)
            elif point == "line":
                add = FolderRecord.add

                def last(self: Any, line: Any, output: Path) -> None:
                    if line["status"] != "failed":
                        kill()
                    add(self, line, output)

                patch.setattr(FolderRecord, "add", last)
            else:
                write, name = files.write_atomically, {"picture": "a.png", "report": "a.png.json"}

                def until(path: Any, **options: Any) -> Any:
                    if Path(path).name == name[point]:
                        kill()
                    return write(path, **options)

                patch.setattr(files, "write_atomically", until)
                patch.setattr("dipfast.images.files.write.write_atomically", until)
            with pytest.raises(Killed):
                denoise("in", "out")
        assert Path("out/.dipfast-current").exists()
        before = stamps()
        capsys.readouterr()
        assert denoise("in", "out") == 1
        counts = "2 done, 1 skipped" if point == "line" else "3 done, 0 skipped"
        assert capsys.readouterr().out.startswith(f"out: {counts}, 1 failed, ")
        if point == "line":  # it was whole, and is not done again
            assert stamps()["a.png"] == before["a.png"]
            assert stamps()["a.png.json"] == before["a.png.json"]
        assert same_bits("out", whole)
        last_of = dict(statuses())
        assert last_of.pop("0.png") == "failed"
        assert set(last_of.values()) == {"done"}

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL")
    def test_killed_by_a_signal(self, whole: str, capsys: pytest.CaptureFixture[str]) -> None:
        program = (
            "import os, sys, time, dipfast\n"
            "from dipfast.apps.cli import main\n"
            "restore, calls = dipfast.denoise, []\n"
            "def slow(*arguments, **options):\n"
            "    calls.append(1)\n"
            "    if len(calls) == 3: open('now', 'w').close(); time.sleep(60)\n"
            "    return restore(*arguments, **options)\n"
            "dipfast.denoise = slow\n"
            "main(sys.argv[1:])\n"
        )
        child = subprocess.Popen([sys.executable, "-c", program, "denoise", *FAST, "in", "out"])
        try:
            until = time.monotonic() + 120
            while not Path("now").exists() and time.monotonic() < until:
                time.sleep(0.05)
        finally:
            child.kill()
            child.wait()
        before = stamps()
        assert statuses() == [("a.png", "done"), ("b.tif", "done")]
        assert denoise("in", "out") == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith("out: 1 done, 2 skipped, ")
        after = stamps()
        assert all(after[name] == before[name] for name in before if name[0] != ".")
        assert same_bits("out", whole)

    @pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be held there")
    def test_two_runs_at_once(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        first = FolderRecord(folder / "out")
        (folder / "out").mkdir()
        first.recover()
        assert denoise("in", "out") == 2
        told = capsys.readouterr().err
        assert told.startswith("dipfast: error: another run is writing into out: wait until it has")
        assert not [name for name in os.listdir("out") if name[0] != "."]
        first.end()
        assert denoise("in", "out") == 0

    def test_unfinished(
        self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        restore = dipfast.denoise

        def short(*arguments: Any, **options: Any) -> dipfast.Result:
            return dataclasses.replace(restore(*arguments, **options), unfinished="too short")

        monkeypatch.setattr(dipfast, "denoise", short)
        assert denoise("in", "out") == 3
        captured = capsys.readouterr()
        assert captured.out.startswith("out: 0 done, 0 skipped, 0 failed, 3 unfinished, ")
        assert f"dipfast: warning: {Path('in', 'a.png')}: unfinished: too short\n" in captured.err
        assert {status for _, status in statuses()} == {"unfinished"}
        assert denoise("in", "out") == 3
        assert len(lines()) == 6

    def test_a_mistake_in_the_program(
        self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        restore, calls = dipfast.denoise, []

        def fail(*arguments: Any, **options: Any) -> dipfast.Result:
            calls.append(1)
            if len(calls) == 2:
                raise ZeroDivisionError("none left")
            return restore(*arguments, **options)

        monkeypatch.setattr(dipfast, "denoise", fail)
        assert denoise("in", "out") == 1
        captured = capsys.readouterr()
        assert captured.out.startswith("out: 2 done, 0 skipped, 1 failed, ")
        assert "Traceback" in captured.err
        message = f"{Path('in', 'b.tif')}: ZeroDivisionError: none left"
        assert f"dipfast: error: {message}\n" in captured.err
        assert lines()[1]["message"] == message


@pytest.mark.usefixtures("folder", "no_work")
class TestRefusals:
    def refused(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        before = sorted(map(str, Path().rglob("*")))
        assert denoise(*arguments) == 2
        assert sorted(map(str, Path().rglob("*"))) == before
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("dipfast: error: ")
        assert captured.err.count("\n") == 1
        return captured.err

    def test_empty(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("empty").mkdir()
        Path("empty/notes.txt").touch()
        message = self.refused(capsys, "empty", "out")
        assert "there is no picture in empty: looked for names ending in .png, .jpg" in message
        assert "not in folders below" in message
        message = self.refused(capsys, "in/*.jpg", "out")
        assert "there is no picture that in/*.jpg stands for: looked for" in message

    @pytest.mark.parametrize("out", ["in", "./in", "in/../in"])
    def test_the_folder_itself(self, capsys: pytest.CaptureFixture[str], out: str) -> None:
        for source in ("in", "in/*.png"):
            for more in ([], ["--force"]):
                message = self.refused(capsys, source, out, *more)
                assert f"{out} is the folder of {Path('in', 'a.png')} itself" in message
                assert "--suffix" in message

    def test_two_for_one(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("in2").mkdir()
        write_image("in2/a.png", picture(1))
        message = self.refused(capsys, "in*/*.png", "out")
        one, other, out = Path("in/a.png"), Path("in2/a.png"), Path("out/a.png")
        assert f"{one} and {other} would both be written to {out}" in message

    @pytest.mark.parametrize("option", ["--curves", "--strip", "--report", "--checkpoint"])
    def test_options_of_one(self, capsys: pytest.CaptureFixture[str], option: str) -> None:
        message = self.refused(capsys, "in", "out", option, "file.png")
        assert f"{option} is for a single picture, and in stands for many" in message

    def test_files_of_one(self, capsys: pytest.CaptureFixture[str]) -> None:
        message = self.refused(capsys, "in", "out", "--reference", "in/a.png")
        assert "--reference must be a folder of clean pictures" in message
        assert main(["inpaint", "in", "out", "--mask", "nothing.png"]) == 2
        assert "nothing.png: No such file or directory" in capsys.readouterr().err

    def test_suffix(self, capsys: pytest.CaptureFixture[str]) -> None:
        for suffix in ("/x", "a/b", ""):
            message = self.refused(capsys, "in", "out", f"--suffix={suffix}")
            assert "--suffix must be a part of a file name, such as _clean" in message
        message = self.refused(capsys, "in/a.png", "out.png", "--suffix", "x")
        assert "--suffix is for folders" in message

    def test_out_is_a_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("out").write_text("mine")
        assert "out is no folder; name one" in self.refused(capsys, "in", "out")
        message = self.refused(capsys, "in/*.png", "out.png")
        assert "in/*.png is a pattern for many files, so OUT must be a folder" in message
        message = self.refused(capsys, "in", "out.png")
        assert message == "dipfast: error: in: Is a directory; name a picture in it\n"

    def test_wrong_options(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "--seed must be" in self.refused(capsys, "in", "out", "--seed", "-3")
        message = self.refused(capsys, "in", "out", "--device", "cuda:77")
        assert "--device cuda:77 cannot be used" in message

    def test_unwritable(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("out").mkdir()
        if os.name == "posix" and os.geteuid() != 0:
            Path("out").chmod(0o555)
        else:  # permissions do not hold root back

            def refuse(into: Path) -> None:
                assert into == Path("out")
                raise PermissionError(errno.EACCES, "Permission denied")

            monkeypatch.setattr(safe, "_make_a_file", refuse)
        message = self.refused(capsys, "in", "out")
        assert "cannot write into the folder out: Permission denied" in message
