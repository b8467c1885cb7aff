"""Whole folders: what a command does with one picture, done with each picture of a folder.

Pictures are done one after the other, or on the workers of a cluster, each as if it had been named
alone.  What has been done is in a record (:mod:`dipfast.cluster.record`), which a later run goes on
from.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import stat
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dipfast.apps.cli import work
from dipfast.apps.cli.commands import option_name, words_of
from dipfast.apps.cli.earlier import with_boundary
from dipfast.apps.cli.exits import DONE, FAILED, INTERRUPTED, TERMINATED, UNFINISHED
from dipfast.apps.cli.failures import told
from dipfast.apps.cli.options import OwnOptions, Request
from dipfast.apps.cli.streams import say
from dipfast.apps.cli.words import one_line
from dipfast.cluster.record import (
    RECORD,
    FolderRecord,
    digest,
    digests_of,
    identify,
    numbers_of,
    result_name,
    status_of,
)
from dipfast.errors import InputError, WouldOverwriteError
from dipfast.images import files
from dipfast.images.files import formats
from dipfast.stop_reason import StopReason

if TYPE_CHECKING:
    from distributed import Client

    from dipfast.cluster.engine import Order
    from dipfast.run.result import Result

__all__ = ["run"]

# Options that say something of a single result.
_OF_ONE = ("curves", "strip", "report", "checkpoint", "resume")
# Pictures that come with each picture, from folders.
_COMPANIONS = ("reference", "mask")


# Endings of pictures that are not read, which are named where a folder holds some.
_OTHER_PICTURES = (
    *(".gif", ".svg", ".pdf", ".psd", ".eps", ".ai", ".xcf", ".kra", ".ico", ".tga", ".pcx"),
    *(".pbm", ".pnm", ".pam", ".jp2", ".j2k", ".jpx", ".jxl", ".jfif", ".jpe", ".exr", ".hdr"),
    *(".dds", ".dib", ".crw", ".mrw", ".x3f", ".czi", ".nd2", ".lif", ".mrc", ".nii", ".h5"),
)
# Endings of files that are packed.  What .fz packs are FITS, which are read where they are named.
_PACKED = (".fz", ".gz", ".bz2", ".xz", ".zst", ".z")
# How many of them are named.
_NAMED = 5
# Options of many files.
_OF_MANY = ("suffix", "workers", "scheduler")
# Options of the command line that name files, which workers may look for from elsewhere.
_FILE_OPTIONS = ("image", "reference", "settings", "mask", "blur")


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
    request = with_boundary(request)
    own = request.own
    if own.series:
        _check_series(own)
    if own.series or not _is_for_many(own):
        for name in _OF_MANY:
            if getattr(own, name) is not None:
                raise InputError(
                    f"{option_name(name)} is for folders, and IN is neither a folder nor a pattern"
                )
        return work.run(request)
    _check_options(request)
    settings = work.settings_of(request)[1]
    out = Path(own.output)
    record = FolderRecord(out)
    named = _outputs(own, _sources(own, record), out)
    if "://" not in (own.scheduler or ""):  # workers of other computers have devices of their own
        work.check_device(settings.device)
    out.mkdir(parents=True, exist_ok=True)
    _check_folder(out)
    record.recover()
    # However this ends, another run may go on.
    with closing(record):
        digests = cache(digest)
        pictures = [_picture(source, named[source], request, settings, digests) for source in named]
        return _Run(record, own).do(pictures)


# --- what is asked for -------------------------------------------------------------------


def _is_for_many(own: OwnOptions) -> bool:
    """Return whether IN and OUT are folders, or IN is a pattern."""
    source, out = str(own.image), Path(own.output)
    is_pattern = glob.has_magic(source) and not os.path.lexists(source)
    if not is_pattern and not _holds_many(Path(source)):
        return False
    if _holds_many(out) or formats.by_suffix(out) is None:
        return True
    if is_pattern and glob.glob(source):
        raise InputError(
            f"{source} is a pattern for many files, so OUT must be a folder, got {out}"
        )
    return False


def _check_series(own: OwnOptions) -> None:
    """Refuse what is no folder of slices, and a folder of results that is there."""
    if not _holds_many(Path(own.image)):
        raise InputError(f"--series expects a folder of DICOM slices as IN, got {own.image}")
    if formats.by_suffix(Path(own.output)) is None and os.path.lexists(own.output):
        raise InputError(f"{own.output} exists already, and slices are written to a new folder")


def _check_options(request: Request) -> None:
    """Refuse what makes no sense for many pictures."""
    own = request.own
    for name in _OF_ONE:
        if getattr(own, name, None) or request.options.get(name):
            raise InputError(
                f"{option_name(name)} is for a single picture, and {own.image} stands for many"
            )
    if own.reference is not None and not _holds_many(Path(own.reference)):
        raise InputError(
            f"--reference must be a folder of clean pictures with the names of those of IN, got "
            f"{own.reference}"
        )
    for name in ("mask", "blur"):
        value = getattr(own, name, None)
        is_folder = name == "mask" and isinstance(value, str) and _holds_many(Path(value))
        if not isinstance(value, str) or value == "alpha" or is_folder:
            continue
        if formats.by_folder(Path(value)) is None:
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
    everything = list(Path(source).iterdir() if is_folder else map(Path, glob.glob(source)))
    found = [
        path
        for path in everything
        if not path.name.startswith(".") and formats.by_suffix(path) and not _holds_many(path)
    ]
    archives = sum(path.suffix.lower() == ".npz" for path in everything)
    if archives:
        say(
            f"warning: {source}: {archives} .npz skipped, which are read one by one and written "
            "as .npy; name each, or save their arrays with numpy.save"
        )
    _tell_of_others(source, everything)
    found.sort(key=lambda path: (path.name, str(path)))
    out = Path(own.output).resolve()
    beside = {path for path in found if out in (path.parent.resolve(), path.resolve().parent)}
    if beside and own.suffix is None:
        raise InputError(
            f"{own.output} is the folder of {min(beside)} itself; name another OUT, or --suffix "
            "tells the results from it"
        )
    # Beside the pictures there are earlier results.
    results = record.names() | {result_name(path, own.suffix) for path in beside}
    found = [path for path in found if path not in beside or path.name not in results]
    if not found:
        where = f"in {source}" if is_folder else f"that {source} stands for"
        raise InputError(
            f"there is no picture {where}: looked for names ending in {formats.all_suffixes()}, "
            "not hidden, and not in folders below"
        )
    return found


def _tell_of_others(source: str, everything: list[Path]) -> None:
    """Name the pictures that are left out because their formats are not read, or are packed."""
    files_there = [path for path in everything if not path.name.startswith(".") and path.is_file()]
    others = [
        path.name
        for path in files_there
        if path.suffix.lower() in _OTHER_PICTURES and formats.by_suffix(path) is None
    ]
    packed = [path.name for path in files_there if _is_packed(path)]
    for names, why in (
        (others, "of formats that are not read: {}; save them as PNG or TIFF first"),
        (packed, "which are packed: {}; unpack them first, with funpack or gunzip"),
    ):
        if names:
            count = f"{len(names)} file{'s' * (len(names) > 1)}"
            named = ", ".join(sorted(names)[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
            say(f"warning: {source}: {count} left out, {why.format(named)}")


def _is_packed(path: Path) -> bool:
    """Return whether a file is a picture that is packed, as its name says."""
    packing = path.suffix.lower()
    return packing == ".fz" or (
        packing in _PACKED and formats.by_suffix(Path(path.stem)) is not None
    )


def _holds_many(path: Path) -> bool:
    """Return whether something is a folder, and not one picture of a format that is one."""
    return path.is_dir() and formats.by_folder(path) is None


def _outputs(own: OwnOptions, sources: list[Path], out: Path) -> dict[Path, Path]:
    """Return where the result of each picture goes; no two go to the same name."""
    outputs: dict[Path, Path] = {}
    taken: dict[str, Path] = {}
    for source in sources:
        output = outputs[source] = out / result_name(source, own.suffix)
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
        if isinstance(folder, str | Path) and folder != "alpha" and _holds_many(Path(folder)):
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


@dataclass(frozen=True)
class _Attempt:
    """Hold what became of one picture, and what is to be told of it."""

    code: int
    seconds: float
    report: dict[str, Any]
    written: str = ""
    notes: tuple[str, ...] = ()
    heard: tuple[str, ...] = ()
    known: dict[str, Any] = field(default_factory=dict)


def _attempt(
    picture: _Picture,
    begin: Callable[[], bool],
    hear: Callable[[str], None],
    passes: Callable[[BaseException], bool] = lambda error: False,
) -> _Attempt:
    """Restore one picture, whose result may take the place of an earlier one of ours.

    Parameters
    ----------
    picture
        The picture.
    begin
        Returns whether there is something that is to be replaced.
    hear
        Is told errors and warnings.
    passes
        Returns whether an error is raised, and not told, because the next try may go well.
    """
    begun = time.monotonic()
    notes: list[str] = []
    kept: list[tuple[dict[str, Any], str]] = []
    passing: list[BaseException] = []

    def keep(result: Result, job: Any) -> None:
        kept.append((result.report(), job.output))
        notes.extend(map(one_line, job.told))

    def do() -> int:
        own = picture.request.own.model_copy(update={"force": begin()})
        try:
            return work.run(replace(picture.request, own=own), keep)
        except Exception as error:
            # What comes after the work has begun is the cause of an error of ours.
            passing.extend(e for e in (error, error.__cause__) if e is not None and passes(e))
            if passing:
                return FAILED
            raise

    try:
        code = told(do, words_of(picture.request), hear)
    except Exception as error:  # a mistake in the program must not end the other pictures
        traceback.print_exc()
        hear(f"error: {type(error).__name__}: {error}")
        code = FAILED
    if passing:
        raise passing[0]
    seconds = round(time.monotonic() - begun, 3)
    return _Attempt(code, seconds, *(kept[0] if kept else ({}, "")), tuple(notes))


def _attempt_there(picture: _Picture, replaces: bool, limit: int | None) -> _Attempt:
    """Restore one picture on a worker, also where one that died has written its result.

    No more than the limit, in bytes, counts as available there; None for all that there is.
    """
    from dipfast.cluster.engine import passes
    from dipfast.run.memory import at_most

    heard: list[str] = []
    known: dict[str, Any] = {"source": identify(picture.source)}
    # Where nothing is to be replaced, nothing was there when the picture was sent: what is there
    # now is of an earlier try, as the record takes it for, too.
    with at_most(limit):
        attempt = _attempt(
            picture, lambda: replaces or os.path.lexists(picture.output), heard.append, passes
        )
    # Here, so that the process that sends pictures out need not read what all of them write; and
    # only of what was written, because the record takes a file with these digests for a result.
    known |= digests_of(picture.output) if _is_in_place(picture, attempt) else {}
    return replace(attempt, heard=tuple(heard), known=known)


def _is_in_place(picture: _Picture, attempt: _Attempt) -> bool:
    """Return whether there is a result, and it was written where it was asked for."""
    here = os.path.abspath(picture.output)
    return bool(attempt.written) and os.path.abspath(attempt.written) == here


class _Run:
    """Do pictures, tell each, and sum up."""

    def __init__(self, record: FolderRecord, own: OwnOptions) -> None:
        self._record, self._own = record, own
        self._on_cluster = own.workers is not None or own.scheduler is not None
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
            do = self._do_on_cluster if self._on_cluster and todo else self._do_here
            for code in do(todo):
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

    def _do_here(self, pictures: Iterable[_Picture]) -> Iterator[int]:
        """Do pictures one after the other, and yield their exit codes."""
        for picture in pictures:
            self._bar.set_description(one_line(picture.source.name))
            line, said = _line_of(picture, identify(picture.source)), list[str]()
            attempt = _attempt(
                picture,
                partial(self._begin, picture, line),
                partial(self._hear, picture, said),
            )
            yield self._conclude(picture, line, attempt, said)

    def _do_on_cluster(self, pictures: Iterable[_Picture]) -> Iterator[int]:
        """Do pictures on workers, several at once, and yield their exit codes."""
        from dipfast.cluster.engine import Failure, connect, run_orders
        from dipfast.run.interrupt import Interrupt

        own, workers = self._own, self._own.workers
        interrupt = Interrupt()
        with connect(own.scheduler or "local", workers=workers) as client, interrupt.on_signals():
            if not own.quiet and client.dashboard_link:
                self._say(f"dashboard: {client.dashboard_link}")
            orders = self._orders(pictures, client)
            for picture, value in run_orders(
                client, _attempt_there, orders, stop=lambda: interrupt.requested
            ):
                said: list[str] = []
                if isinstance(value, Failure):
                    text = words_of(picture.request).translate(one_line(str(value.error)))
                    value = _Attempt(FAILED, 0.0, {}, heard=(f"error: {text}",))
                for message in value.heard:
                    self._hear(picture, said, message)
                line = {**_line_of(picture), **value.known}
                yield self._conclude(picture, line, value, said)
        if interrupt.stop_asked is not None:
            is_sigterm = interrupt.stop_asked.reason == StopReason.TERMINATED
            yield TERMINATED if is_sigterm else INTERRUPTED

    def _orders(self, pictures: Iterable[_Picture], client: Client) -> Iterator[Order[_Picture]]:
        """Yield orders for workers, and conclude pictures whose result must not be written."""
        from dipfast.cluster.engine import Order, room_of
        from dipfast.cluster.sizes import Need, needs_of, shape_of

        room = room_of(client)
        for picture in pictures:
            # What a run that ended before the worker has told knows of the picture.
            line = _line_of(picture, _dated(picture.source))
            said, replaces = list[str](), list[bool]()

            def begin(picture: _Picture = picture, line: Any = line, found: Any = replaces) -> int:
                found.append(self._begin(picture, line))
                return DONE

            hear = partial(self._hear, picture, said)
            code = told(begin, words_of(picture.request), hear)
            if code != DONE:
                self._conclude(picture, line, _Attempt(code, 0.0, {}), said)
                self._bar.update()
                continue
            shape = shape_of(picture.source)
            settings = work.settings_of(picture.request)[1]
            need = Need(0) if shape is None else needs_of(settings, shape, room())
            yield Order(picture, (_anywhere(picture), replaces[0], need.limit), need.memory)

    def _begin(self, picture: _Picture, line: dict[str, Any]) -> bool:
        """Note that a picture is begun, and return whether its result takes another one's place."""
        output = picture.output
        there = [path for path in (output, files.report_path(output)) if os.path.lexists(path)]
        if there and not self._own.force and not self._record.owns(output):
            raise WouldOverwriteError(
                f"{there[0]} exists already, and {RECORD} does not say that it is a result as it "
                "was written; --force replaces it"
            )
        other = self._record.other_input(picture.source, output) if there else None
        if other is not None and not self._own.force:
            raise WouldOverwriteError(
                f"{there[0]} is the result of {other}; name another OUT, or --suffix tells the "
                "results apart; --force replaces it"
            )
        replaces = bool(there) or self._record.gave_up(output)
        self._record.begin(line, output, elsewhere=self._on_cluster)
        return replaces

    def _hear(self, picture: _Picture, said: list[str], message: str) -> None:
        """Tell an error or a warning of a picture, and keep errors."""
        kind, _, text = message.partition(": ")
        if str(picture.source) not in text:
            text = f"{picture.source}: {text}"
        self._say(f"{kind}: {text}")
        if kind == "error":
            said.append(one_line(text))

    def _conclude(
        self, picture: _Picture, line: dict[str, Any], attempt: _Attempt, said: list[str]
    ) -> int:
        """Write the line of a picture, and return its exit code."""
        code, report = attempt.code, attempt.report
        # What failed has been told, with where the result is.
        if report and code != FAILED and not _is_in_place(picture, attempt):
            self._hear(
                picture,
                said,
                f"error: {picture.output} came to be there meanwhile; the result is in "
                f"{attempt.written}",
            )
        status = "failed" if said or not report else status_of(report)
        if status == "unfinished":
            said.append(one_line(str(report["unfinished"])))
            self._say(f"warning: {picture.source}: unfinished: {said[0]}")
        line = {
            "input": line["input"],
            "output": line["output"],
            "status": status,
            "message": "; ".join(said or attempt.notes),
            "seconds": attempt.seconds,
            **numbers_of(report),
            **line,
        }
        self._record.add(line, picture.output)
        self._count(line)
        return code

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


def _line_of(picture: _Picture, source: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what is known of the line of a picture before it is done."""
    return {
        "input": str(picture.source),
        "output": str(picture.output),
        "settings": picture.settings,
        "source": source,
    }


def _dated(source: Path) -> dict[str, Any] | None:
    """Return size and time of modification of a picture, None for a folder or if it is not there.

    The times of a folder do not change with what is in it.
    """
    try:
        there = source.stat()
    except OSError:
        return None
    is_file = stat.S_ISREG(there.st_mode)
    return {"size": there.st_size, "modified": there.st_mtime_ns} if is_file else None


def _anywhere(picture: _Picture) -> _Picture:
    """Return a picture whose files are found from any working folder."""
    own = picture.request.own
    paths = {"output": os.path.abspath(own.output)}
    for name in _FILE_OPTIONS:
        value = getattr(own, name, None)
        # What else these may say, such as gaussian:2, is no file.
        if isinstance(value, str | Path) and value != "alpha" and os.path.lexists(value):
            paths[name] = os.path.abspath(value)
    return replace(
        picture,
        source=picture.source.absolute(),
        output=picture.output.absolute(),
        request=replace(picture.request, own=own.model_copy(update=paths)),
    )
