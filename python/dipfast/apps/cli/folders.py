"""Whole folders: what a command does with one picture, done with each picture of a folder.

Pictures are done one after the other, each as if it had been named alone.  What has been done is
in a record (``folder_record.py``), which a later run goes on from.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dipfast.apps.cli import work
from dipfast.apps.cli.commands import option_name, words_of
from dipfast.apps.cli.exits import DONE, FAILED, INTERRUPTED, TERMINATED, UNFINISHED
from dipfast.apps.cli.failures import told
from dipfast.apps.cli.folder_record import (
    RECORD,
    FolderRecord,
    digest,
    identify,
    numbers_of,
    status_of,
)
from dipfast.apps.cli.options import OwnOptions, Request
from dipfast.apps.cli.streams import say
from dipfast.apps.cli.words import one_line
from dipfast.errors import InputError, WouldOverwriteError
from dipfast.images import files
from dipfast.images.files import formats

if TYPE_CHECKING:
    from dipfast.run.result import Result

__all__ = ["run"]

# Options that say something of a single result.
_OF_ONE = ("curves", "strip", "report", "checkpoint", "resume")
# Pictures that come with each picture, from folders.
_COMPANIONS = ("reference", "mask")


@dataclass(frozen=True)
class _Picture:
    """Hold one picture to do: where it is, the request for it alone, digest of its settings."""

    source: Path
    output: Path
    request: Request
    settings: str


def run(request: Request) -> int:
    """Do what was asked for, with one file or with each of a folder, and return the exit code.

    Parameters
    ----------
    request
        What was typed.

    Returns
    -------
    int
        The exit code.  Of a folder: that of the signal that ended it, or else the one for failed
        work if a picture failed, or else that of unfinished results if there are any.
    """
    own = request.own
    if not _is_for_many(own):
        if own.suffix is not None:
            raise InputError("--suffix is for folders, and IN is neither a folder nor a pattern")
        return work.run(request)
    _check_options(request)
    settings = work.settings_of(request)[1]
    out = Path(own.output)
    record = FolderRecord(out)
    named = _outputs(own, _sources(own, record), out)
    work.check_device(settings.device)
    out.mkdir(parents=True, exist_ok=True)
    _check_folder(out)
    record.recover()
    digests = cache(digest)
    pictures = [_picture(source, named[source], request, settings, digests) for source in named]
    return _Run(record, own).do(pictures)


# --- what is asked for -------------------------------------------------------------------


def _is_for_many(own: OwnOptions) -> bool:
    """Return whether IN and OUT are folders, or IN is a pattern."""
    source, out = str(own.image), Path(own.output)
    is_pattern = glob.has_magic(source) and not os.path.lexists(source)
    if not is_pattern and not Path(source).is_dir():
        return False
    if out.is_dir() or formats.by_suffix(out) is None:
        return True
    if is_pattern and glob.glob(source):
        raise InputError(
            f"{source} is a pattern for many files, so OUT must be a folder, got {out}"
        )
    return False


def _check_options(request: Request) -> None:
    """Refuse what makes no sense for many pictures."""
    own = request.own
    for name in _OF_ONE:
        if getattr(own, name, None) or request.options.get(name):
            raise InputError(
                f"{option_name(name)} is for a single picture, and {own.image} stands for many"
            )
    if own.reference is not None and not Path(own.reference).is_dir():
        raise InputError(
            f"--reference must be a folder of clean pictures with the names of those of IN, got "
            f"{own.reference}"
        )
    for name in ("mask", "blur"):
        value = getattr(own, name, None)
        is_folder = name == "mask" and isinstance(value, str) and Path(value).is_dir()
        if isinstance(value, str) and value != "alpha" and not is_folder:
            files.open_regular(value).close()
    if own.suffix is not None and (not own.suffix or {*own.suffix} & {"/", "\\", "\0", os.sep}):
        raise InputError(
            f"--suffix must be a part of a file name, such as _clean, got {own.suffix!r}"
        )
    if os.path.lexists(own.output) and not Path(own.output).is_dir():
        raise InputError(f"{own.output} is no folder; name one, which is made if it is not there")


def _sources(own: OwnOptions, record: FolderRecord) -> list[Path]:
    """Return the pictures that are asked for, sorted by name."""
    source = str(own.image)
    is_folder = Path(source).is_dir()
    found = list(Path(source).iterdir() if is_folder else map(Path, glob.glob(source)))
    found = [
        path
        for path in found
        if not path.name.startswith(".") and formats.by_suffix(path) and not path.is_dir()
    ]
    found.sort(key=lambda path: (path.name, str(path)))
    out = Path(own.output).resolve()
    beside = {path for path in found if out in (path.parent.resolve(), path.resolve().parent)}
    if beside and own.suffix is None:
        raise InputError(
            f"{own.output} is the folder of {min(beside)} itself; name another OUT, or --suffix "
            "tells the results from it"
        )
    # Beside the pictures there are earlier results.
    results = record.names() | {_result_name(path, own.suffix) for path in beside}
    found = [path for path in found if path not in beside or path.name not in results]
    if not found:
        where = f"in {source}" if is_folder else f"that {source} stands for"
        raise InputError(
            f"there is no picture {where}: looked for names ending in {formats.all_suffixes()}, "
            "not hidden, and not in folders below"
        )
    return found


def _result_name(source: Path, suffix: str | None) -> str:
    """Return the name of the result of a picture: its own, or that of a TIFF."""
    row = formats.by_suffix(source)
    # What is only read is written as TIFF, which holds the result of any picture.
    ending = ".tif" if row is not None and row.read_only else source.suffix
    return f"{source.stem}{suffix or ''}{ending}"


def _outputs(own: OwnOptions, sources: list[Path], out: Path) -> dict[Path, Path]:
    """Return where the result of each picture goes; no two go to the same name."""
    outputs: dict[Path, Path] = {}
    taken: dict[str, Path] = {}
    for source in sources:
        output = outputs[source] = out / _result_name(source, own.suffix)
        other = taken.setdefault(os.path.normcase(output.name), source)
        if other is not source:
            raise InputError(f"{other} and {source} would both be written to {output}")
    return outputs


def _check_folder(out: Path) -> None:
    """Refuse a folder that nothing can be written into."""
    files.check_output(out / f".dipfast{formats.FORMATS[0].suffixes[0]}", overwrite=True)


def _picture(
    source: Path,
    output: Path,
    request: Request,
    settings: Any,
    digests: Callable[[str | Path], str | None],
) -> _Picture:
    """Return what is to be done with one picture."""
    from dipfast.run.record import given

    own = request.own
    changed: dict[str, Any] = {"image": str(source), "output": str(output), "suffix": None}
    for name in _COMPANIONS:
        folder = getattr(own, name, None)
        if isinstance(folder, str | Path) and folder != "alpha" and Path(folder).is_dir():
            changed[name] = str(_companion(Path(folder), source))
    # One bar for all, and lines of our own.
    alone = own.model_copy(update={**changed, "quiet": True, "json_": False})
    said = {name: getattr(alone, name) for name in ("reference", *_fields_of_task(own))}
    for name in ("reference", "mask", "blur"):
        if isinstance(said.get(name), str) and said[name] != "alpha":
            said[name] = digests(said[name])
    text = json.dumps([given(settings), said], sort_keys=True, default=str)
    key = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return _Picture(source, output, replace(request, own=alone), key)


def _fields_of_task(own: OwnOptions) -> list[str]:
    """Return the names of options that the command line has for one task."""
    return [name for name in type(own).model_fields if name not in OwnOptions.model_fields]


def _companion(folder: Path, source: Path) -> Path:
    """Return the picture of a folder that belongs to another one: the same name, or nearly."""
    same = folder / source.name
    if os.path.lexists(same):
        return same
    alike = [
        path for path in folder.iterdir() if path.stem == source.stem and formats.by_suffix(path)
    ]
    return alike[0] if len(alike) == 1 else same


# --- the work ----------------------------------------------------------------------------


class _Run:
    """Do pictures one after the other, tell each, and sum up."""

    def __init__(self, record: FolderRecord, own: OwnOptions) -> None:
        self._record, self._own = record, own
        self._counts: Counter[str] = Counter()

    def do(self, pictures: list[_Picture]) -> int:
        """Do all pictures that are not done yet, and return the exit code."""
        from tqdm import tqdm

        begun = time.monotonic()
        todo = [picture for picture in pictures if not self._is_done(picture)]
        self._bar = tqdm(
            total=len(pictures),
            initial=len(pictures) - len(todo),
            unit="file",
            disable=self._own.quiet,
            dynamic_ncols=True,
        )
        ended = DONE
        try:
            for picture in todo:
                self._bar.set_description(one_line(picture.source.name))
                code = self._do(picture)
                if code in (INTERRUPTED, TERMINATED):
                    ended = code
                    break
                self._bar.update()
            self._record.end()
        finally:
            # Ctrl-C outside of a fit comes as an exception.
            self._bar.close()
            self._sum_up(len(todo), time.monotonic() - begun)
        if ended != DONE:
            return ended
        if self._counts["failed"]:
            return FAILED
        return UNFINISHED if self._counts["unfinished"] else DONE

    def _is_done(self, picture: _Picture) -> bool:
        """Return whether there is nothing to do for a picture, and count it then."""
        try:
            done = not self._own.force and self._record.has(
                picture.source, picture.output, picture.settings
            )
        except OSError:  # it cannot be read, which is told in its turn
            return False
        if done:
            line = {"input": str(picture.source), "output": str(picture.output)}
            # Its line is in the record already.
            self._count({**line, "status": "skipped", "message": "done before"})
        return done

    def _do(self, picture: _Picture) -> int:
        """Do one picture, write its line, and return its exit code."""
        begun = time.monotonic()
        said: list[str] = []
        notes: list[str] = []
        kept: list[tuple[dict[str, Any], str]] = []

        def hear(message: str) -> None:
            kind, _, text = message.partition(": ")
            if str(picture.source) not in text:
                text = f"{picture.source}: {text}"
            self._say(f"{kind}: {text}")
            if kind == "error":
                said.append(one_line(text))

        def keep(result: Result, job: Any) -> None:
            kept.append((result.report(), job.output))
            notes.extend(map(one_line, job.told))

        line: dict[str, Any] = {
            "input": str(picture.source),
            "output": str(picture.output),
            "settings": picture.settings,
            "source": identify(picture.source),
        }
        try:
            code = told(lambda: self._work(picture, line, keep), words_of(picture.request), hear)
        except Exception as error:  # a mistake in the program must not end the other pictures
            traceback.print_exc()
            hear(f"error: {type(error).__name__}: {error}")
            code = FAILED
        report, written = kept[0] if kept else ({}, "")
        if kept and code in (DONE, UNFINISHED) and written != str(picture.output):
            hear(f"error: {picture.output} came to be there meanwhile; the result is in {written}")
        status = "failed" if said or not kept else status_of(report)
        if status == "unfinished":
            said.append(one_line(str(report["unfinished"])))
            self._say(f"warning: {picture.source}: unfinished: {said[0]}")
        line = {
            "input": line["input"],
            "output": line["output"],
            "status": status,
            "message": "; ".join(said or notes),
            "seconds": round(time.monotonic() - begun, 3),
            **numbers_of(report),
            **line,
        }
        self._record.add(line, picture.output)
        self._count(line)
        return code

    def _work(
        self, picture: _Picture, line: dict[str, Any], keep: Callable[[Result, Any], None]
    ) -> int:
        """Restore one picture, whose result may take the place of an earlier one of ours."""
        request, output = picture.request, picture.output
        there = [path for path in (output, files.report_path(output)) if os.path.lexists(path)]
        if there and not self._own.force and not self._record.owns(output):
            raise WouldOverwriteError(
                f"{there[0]} exists already, and {RECORD} does not say that it is a result as it "
                "was written; --force replaces it"
            )
        self._record.begin(line, output)
        own = request.own.model_copy(update={"force": bool(there)})
        return work.run(replace(request, own=own), keep)

    def _count(self, line: dict[str, Any]) -> None:
        self._counts[line["status"]] += 1
        if self._own.json_:
            print(json.dumps(line), flush=True)

    def _say(self, message: str) -> None:
        """Print one line on standard error, above the bar."""
        self._bar.clear()
        say(message)
        self._bar.refresh()

    def _sum_up(self, todo: int, seconds: float) -> None:
        """Tell how many pictures were done, skipped, failed, and left."""
        counts = self._counts
        parts = [f"{counts[status]} {status}" for status in ("done", "skipped", "failed")]
        left = todo - counts["done"] - counts["failed"] - counts["unfinished"]
        for name, count in (("unfinished", counts["unfinished"]), ("left", left)):
            parts += [f"{count} {name}"] if count else []
        line = one_line(f"{self._own.output}: {', '.join(parts)}, {seconds:.3g} s")
        if not self._own.json_:
            print(line)
        elif not self._own.quiet:
            say(line)
