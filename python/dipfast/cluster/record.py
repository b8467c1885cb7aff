"""What was done with the pictures of a folder: one line of JSON for each, beside the results.

The record says which files of a folder are results of an earlier run, and of what.  Only these are
replaced without ``--force``, by results of the same pictures, and only these can be skipped.  A
line is written in one call and forced onto the disk, so that a process that is killed leaves whole
lines; and before a picture is begun, another file says which one, so that a result whose line is
missing is known as one.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

from dipfast.errors import InputError
from dipfast.images import files
from dipfast.images.files import formats
from dipfast.stop_reason import StopReason

if sys.platform != "win32":
    import fcntl

__all__ = [
    "RECORD",
    "FolderRecord",
    "digest",
    "digests_of",
    "identify",
    "numbers_of",
    "result_name",
    "status_of",
]

RECORD = "dipfast.jsonl"
"""The name of the record in the folder of the results."""

# What is being done, in the same folder: a line for each picture.
_CURRENT = ".dipfast-current"


def digest(path: str | Path) -> str | None:
    """Return the SHA-256 of a file, or of a folder that is a picture; None if it cannot be read."""
    found = hashlib.sha256()
    path = Path(path)
    try:
        names = [""]
        if formats.by_folder(path) is not None:
            sizes = files.list_folder(path)
            names = sorted(sizes)
            found.update(json.dumps([[name, sizes[name]] for name in names]).encode())
        for name in names:
            with files.open_regular(path / name) as stream:
                while part := stream.read(2**20):
                    found.update(part)
    except (OSError, ValueError):
        return None
    return found.hexdigest()


def identify(path: str | Path) -> dict[str, Any] | None:
    """Return size, time of modification and digest of a picture, None if it cannot be read.

    A folder has no size and no time, because these do not change with what is in it.
    """
    try:
        there = os.stat(path)
    except OSError:
        return None
    found = digest(path)
    if found is None:
        return None
    if stat.S_ISDIR(there.st_mode):
        return {"size": None, "modified": None, "sha256": found}
    return {"size": there.st_size, "modified": there.st_mtime_ns, "sha256": found}


def digests_of(output: Path) -> dict[str, str | None]:
    """Return the digests of a result and of its report, as its line has them."""
    return {"report": digest(files.report_path(output)), "result": digest(output)}


def result_name(source: Path, suffix: str | None = None) -> str:
    """Return the name of the result of a picture: its own, or that of a TIFF.

    Parameters
    ----------
    source
        The picture.
    suffix
        What is put before the ending of the name; None for nothing.

    Returns
    -------
    str
        The name, without a folder.
    """
    row = files.formats.by_suffix(source)
    # What is only read is written as TIFF, which holds the result of any picture.
    ending = ".tif" if row is not None and row.read_only else source.suffix
    return f"{source.stem}{suffix or ''}{ending}"


def status_of(report: dict[str, Any]) -> str:
    """Return what a report says of its result: "done", "unfinished" or "interrupted"."""
    if report.get("stop_reason") in (StopReason.INTERRUPTED, StopReason.TERMINATED):
        return "interrupted"
    return "done" if report.get("unfinished") is None else "unfinished"


def numbers_of(report: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of a report that are in the record: noise, and PSNR where it is known."""
    metrics, sigmas = report.get("metrics") or {}, (report.get("found") or {}).get("sigma")
    psnr = {name: metrics[name] for name in ("psnr_input", "psnr") if name in metrics}
    return {"sigma": sigmas[0] if sigmas else None, **psnr}


class FolderRecord:
    """Read and write the record of one folder of results.

    Parameters
    ----------
    folder
        The folder, which need not exist to be asked.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hold: int | None = None
        self._lines: dict[str, dict[str, Any]] = {}
        for line in _read(folder / RECORD).split(b"\n"):
            self._take(_object(line))
        begun = map(_object, _read(folder / _CURRENT).split(b"\n"))
        self._begun = {_name_of(each): each for each in begun if each}
        self._given_up: dict[str, dict[str, Any]] = {}

    def _take(self, line: dict[str, Any]) -> None:
        """Keep the last line of each result.

        That another picture failed says nothing of the result that is there.
        """
        if not isinstance(line.get("output"), str):
            return
        name = Path(line["output"]).name
        before = self._lines.get(name, {})
        if line.get("status") == "failed" and before and _path_of(line) != _path_of(before):
            return
        self._lines[name] = line

    def names(self) -> set[str]:
        """Return the names of all results that the record knows of pictures in the same folder."""
        begun = {name: each.get("line") or {} for name, each in self._begun.items()}
        lines = {**self._lines, **begun}
        return {name for name, line in lines.items() if self._is_beside(name, line)}

    def _is_beside(self, name: str, line: dict[str, Any]) -> bool:
        """Return whether a result is in the folder of its picture, which has another name then."""
        source = Path(str(line.get("input", ""))).name
        return source != name and _is_picture(self._folder / source)

    def __del__(self) -> None:
        self.close()

    def recover(self) -> None:
        """Write the lines of results that were written by a process that ended before its line.

        From then on no other run can do the same, until this one has ended in any way.

        Raises
        ------
        InputError
            If another run writes into the folder.
        """
        self._take_hold()
        for name, begun in list(self._begun.items()):
            line, output = begun.get("line"), self._folder / name
            untouched = _stamp(output) in (None, begun.get("stamp"))
            if untouched:
                # What the run before did itself has ended with it.
                if begun.get("elsewhere"):
                    self._given_up[name] = begun
            elif isinstance(line, dict) and not self._is_told(name, output):
                self._recover(line, begun.get("report"), output)
        self._begun = {}
        self._write_begun()

    def _take_hold(self) -> None:
        """Hold the folder, which the system lets go when the process ends, also if it is killed."""
        if sys.platform == "win32" or self._hold is not None:  # where folders cannot be opened
            return
        hold = os.open(self._folder, os.O_RDONLY)
        if _is_held(hold):
            os.close(hold)
            raise InputError(
                f"another run is writing into {self._folder}: wait until it has ended, or name "
                "another folder"
            )
        self._hold = hold

    def close(self) -> None:
        """Let other runs write into the folder; what was begun stays written down."""
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None

    def _is_told(self, name: str, output: Path) -> bool:
        """Return whether the record has a line of the very file that is there."""
        return self._lines.get(name, {}).get("stamp") == _stamp(output)

    def _recover(self, line: dict[str, Any], earlier_report: Any, output: Path) -> None:
        report = files.report_path(output)
        told = _object(_read(report)) if digest(report) != earlier_report else {}
        status, message = (status_of(told), "") if told else ("interrupted", "without a report")
        line = {**line, "status": status, "message": message, "seconds": told.get("seconds")}
        self.add({**line, **numbers_of(told)}, output)

    def gave_up(self, output: Path) -> bool:
        """Return whether an earlier run gave a result up, which its worker may yet write.

        Parameters
        ----------
        output
            Where it is written.

        Returns
        -------
        bool
            True until its line is added, unless what is there is what was there before that run.
        """
        begun, there = self._given_up.get(output.name), _stamp(output)
        return begun is not None and (there is None or there != begun.get("stamp"))

    def owns(self, output: Path) -> bool:
        """Return whether what exists there is a result of an earlier run, as it left it."""
        if self.gave_up(output) and os.path.lexists(output):
            return True
        line, report = self._lines.get(output.name, {}), digest(files.report_path(output))
        if report is not None and report != line.get("report"):
            return False
        if not _is_picture(output):
            return report is not None
        # The stamp of a folder does not change with what is in it.
        stamp = _stamp(output) if output.is_file() else None
        known = stamp is not None and line.get("stamp") == stamp
        # A folder that was copied has other times, and the same content.
        return known or (line.get("result") is not None and line["result"] == digest(output))

    def other_input(self, source: Path, output: Path) -> str | None:
        """Return which other picture a result of an earlier run is of.

        Parameters
        ----------
        source
            The picture that is to be done.
        output
            Where its result is to be written, where there is one that :meth:`owns` knows.

        Returns
        -------
        str or None
            The other picture, as it was named; None if the result is of this one: of its name, or
            of a picture that was elsewhere and had its content.
        """
        line = self._lines.get(output.name, {})
        if self.gave_up(output):
            line = self._given_up[output.name].get("line") or {}
        path = _path_of(line)
        if path is None or _is_same(path, source):
            return None
        content = (line.get("source") or {}).get("sha256")
        return None if content is not None and content == digest(source) else str(line["input"])

    def has(self, source: Path, output: Path, settings: str) -> bool:
        """Return whether a picture was done with these settings, and its result is there.

        Parameters
        ----------
        source
            The picture.  It is the same if its time of modification or its content is.
        output
            Where its result is written.
        settings
            The digest of the settings.

        Returns
        -------
        bool
            True where it need not be done again.
        """
        line = self._lines.get(output.name, {})
        same = line.get("status") == "done" and line.get("settings") == settings
        if not (same and _is_picture(output) and self.owns(output)):
            return False
        known, there = line.get("source") or {}, source.stat()
        if stat.S_ISDIR(there.st_mode):
            return known.get("sha256") == digest(source)
        if known.get("size") != there.st_size:
            return False
        # Pictures of two folders may have one name, one size and one time.
        is_there = _path_of(line) == os.path.abspath(source)
        as_dated = is_there and known.get("modified") == there.st_mtime_ns
        return as_dated or known.get("sha256") == digest(source)

    def begin(self, line: dict[str, Any], output: Path, *, elsewhere: bool = False) -> None:
        """Say that a picture is being done from now on, until its line is added.

        Parameters
        ----------
        line
            What is known of its line.
        output
            Where its result is written.
        elsewhere
            Whether another process does it, which may write the result after this one has ended.
        """
        begun = {
            "name": output.name,
            "line": _placed(line),
            "elsewhere": elsewhere,
            # What is there before: what differs from it later was written since.
            "stamp": _stamp(output),
            "report": digest(files.report_path(output)),
        }
        text = json.dumps(begun).encode()
        if self._unsettled():
            with open(self._folder / _CURRENT, "ab", buffering=0) as stream:
                stream.write(b"\n" + text)
                os.fsync(stream.fileno())
        else:
            with files.write_atomically(self._folder / _CURRENT) as stream:
                stream.write(text)
        self._begun[output.name] = begun

    def add(self, line: dict[str, Any], output: Path) -> None:
        """Write one line.

        Parameters
        ----------
        line
            The line, to which is added what a result is known by later: its report, or its file.
            Digests (:func:`digests_of`) that it has already are kept.
        output
            Where the result was to be written.
        """
        line.update(_placed(line))
        is_ours = line["status"] != "failed" or (
            self.owns(output) and _path_of(self._lines.get(output.name, line)) == _path_of(line)
        )
        if is_ours:
            line["stamp"] = _stamp(output)
            if "result" not in line:
                line.update(digests_of(output))
        with open(self._folder / RECORD, "a+b", buffering=0) as stream:
            # The start of a line that a full disk has cut off is no line.
            cut = stream.seek(0, os.SEEK_END) > 0
            if cut:
                stream.seek(-1, os.SEEK_END)
                cut = stream.read(1) != b"\n"
            stream.write(b"\n" * cut + json.dumps(line).encode() + b"\n")
            os.fsync(stream.fileno())
        self._take(line)
        self._begun.pop(output.name, None)
        self._given_up.pop(output.name, None)

    def end(self) -> None:
        """Say that nothing is being done any more, except what was given up and may go on."""
        self._write_begun()
        self.close()

    def _write_begun(self) -> None:
        """Write what is being done or may yet be written, nothing if that is nothing."""
        unsettled = self._unsettled()
        if not unsettled:
            (self._folder / _CURRENT).unlink(missing_ok=True)
            return
        with files.write_atomically(self._folder / _CURRENT) as stream:
            stream.write(b"\n".join(json.dumps(each).encode() for each in unsettled.values()))

    def _unsettled(self) -> dict[str, dict[str, Any]]:
        """Return what is being done, and what was given up and may go on, also by earlier runs."""
        return {**self._given_up, **self._begun}


def _is_held(folder: int) -> bool:
    """Return whether another process holds a folder, and hold it if none does."""
    if sys.platform == "win32":  # which has no such locks
        return False
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # of a file system without locks
        return False
    return False


def _is_picture(path: Path) -> bool:
    """Return whether there is a file, or a folder that is a picture."""
    return path.is_file() or formats.by_folder(path) is not None


def _name_of(current: dict[str, Any]) -> str:
    """Return the name of a result that was being made."""
    return Path(str(current.get("name", ""))).name


def _placed(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line with the whole path of its picture, whose name may be of a working folder."""
    if "path" in line or not isinstance(line.get("input"), str):
        return line
    return {**line, "path": os.path.abspath(line["input"])}


def _path_of(line: dict[str, Any]) -> str | None:
    """Return the whole path of the picture of a line, None if the line has none."""
    path = _placed(line).get("path")
    return path if isinstance(path, str) else None


def _is_same(path: str, source: Path) -> bool:
    """Return whether two names are of one picture, which need not be there any more."""
    if path == os.path.abspath(source):
        return True
    try:
        return os.path.samefile(path, source)
    except OSError:
        return False


def _read(path: Path) -> bytes:
    """Return what is in a file, nothing if it is not there."""
    try:
        with files.open_regular(path) as stream:
            return stream.read()
    except FileNotFoundError:
        return b""


def _object(text: bytes) -> dict[str, Any]:
    """Return an object of JSON; an empty one if it is none, such as a line that was cut off."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _stamp(path: Path) -> list[int] | None:
    """Return what changes if a file is replaced, None if there is none."""
    try:
        there = path.lstat()
    except OSError:
        return None
    return [there.st_ino, there.st_size, there.st_mtime_ns]
