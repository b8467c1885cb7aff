"""Restore collections of files: each worker reads its file, restores it, and writes the result."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dipfast
from dipfast.checks import check_choice
from dipfast.cluster.engine import (
    Failure,
    Order,
    Scheduler,
    check_extra,
    connect,
    passes,
    room_of,
    run_orders,
)
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
from dipfast.run.checkpoint import digest_of
from dipfast.run.interrupt import Interrupt
from dipfast.run.record import describe, given
from dipfast.settings.names import TASKS, TaskName
from dipfast.settings.settings import (
    SETTINGS,
    DenoiseSettings,
    Settings,
    make_settings,
    takes_artefacts_out,
)
from dipfast.warn import warnings_told

if TYPE_CHECKING:
    from distributed import Client

    from dipfast.run.result import Result

__all__ = ["FileOutcome", "restore_files"]

# Arguments of the tasks that are no options.
_ARGUMENTS: dict[str, str] = {"inpaint": "mask", "restore": "operator"}
# Options that a file tells, and those of one image or of the process that calls.
_OF_FILE = ("channel_axis", "stack_axis")
_OF_ONE = ("reference", "network_input", "snapshots", "checkpoint", "resume")
_OF_CALLER = ("callback", "executor")


@dataclass(frozen=True)
class FileOutcome:
    """Hold what became of one file.

    Parameters
    ----------
    input
        The file.
    output
        Where its result is, or was to be written.
    status
        ``"done"``; ``"skipped"``, because it was done before; ``"unfinished"``, where a time limit
        ended it so early that the image itself is likely better; ``"failed"``; or ``"left"``,
        because the call was ended before.
    message
        Why, in words, and what was assumed of the file, warned of or lost; empty where there is
        nothing to say.
    seconds
        What it took on its worker, reading and writing included.
    """

    input: Path
    output: Path
    status: str
    message: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class _File:
    """Hold one file to do: where it is, where its result goes, and whether that replaces one."""

    source: Path
    output: Path
    replaces: bool = False


def restore_files(
    task: TaskName,
    inputs: str | Path | Iterable[str | Path],
    folder: str | Path,
    *,
    scheduler: Scheduler = "local",
    workers: int | None = None,
    memory_limit: int | str | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    on_progress: Callable[[FileOutcome, int, int], object] | None = None,
    interrupt: Interrupt | None = None,
    **options: Any,
) -> list[FileOutcome]:
    """Restore many files on the workers of a cluster, each of which writes its results itself.

    Results have the names of their files (``.tif`` for formats that are only read), and have their
    report beside them.  What was done is in ``dipfast.jsonl`` in the same folder, a line of JSON
    for each file as soon as it is done: a second call skips files that are done and unchanged.

    Parameters
    ----------
    task
        ``"denoise"``, ``"inpaint"``, ``"super_resolve"`` or ``"restore"``.
    inputs
        The files, which workers must find under the same names; or one folder, whose pictures are
        taken.
    folder
        Where the results are written, which is made if it is not there.
    scheduler
        ``"local"``, the default, for worker processes on this computer; ``"threads"``,
        ``"processes"``, the address of a scheduler of Dask, or a ``distributed.Client``
        (:func:`connect`).
    workers, memory_limit, threads
        As in :func:`connect`: how many workers are started, the memory of each, and the threads of
        torch of each job.
    overwrite
        Whether files may be replaced that are no earlier results of the same files; all files are
        done again then.
    on_progress
        Called in this process for each file as soon as it is done, with its outcome, how many are
        done, and how many there are.
    interrupt
        Its ``stop()``, called in another thread, ends the call, as Ctrl-C and SIGTERM do: what is
        done is kept, and files that are being worked on are given up.
    **options
        The options of the task, the same for every file.  Of a JPEG of quality 60 and less the
        artefacts are taken out where nothing is said of noise, of outliers, of the range or of a
        fit, which the message of its outcome says; ``jpeg=None`` takes noise out instead.

    Returns
    -------
    list of FileOutcome
        What became of each file, in the order of the inputs.  A file that fails does not end the
        others.

    Raises
    ------
    InputError, InputTypeError
        If an argument is invalid, or an option belongs to a single image or to this process.
    MissingExtraError
        If Dask is not installed.
    ProcessError
        If there are no workers, or the scheduler is gone.

    Notes
    -----
    On the CPU a result has the same bits as that of one process on the same kind of machine with
    the same number of threads.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> folder = Path(tempfile.mkdtemp())
    >>> noisy = np.random.default_rng(0).normal(128, 25, (16, 16)).clip(0, 255).astype("uint8")
    >>> dipfast.write_image(folder / "a.png", noisy)
    >>> outcomes = restore_files(
    ...     "denoise", folder, folder / "out", scheduler="threads", quality="fast"
    ... )
    >>> outcomes[0].status, outcomes[0].output.name
    ('done', 'a.png')
    """
    check_choice("task", task, TASKS)
    settings, extra = _settings(task, options)
    sources, folder = _sources(inputs), Path(folder).absolute()
    outputs = _outputs(sources, folder)
    key = _key(settings, extra, finds_jpegs="jpeg" not in options)
    folder.mkdir(parents=True, exist_ok=True)
    files.check_place(folder / RECORD, overwrite=True)
    record = FolderRecord(folder)
    record.recover()
    # However this ends, another call may go on, even while a traceback holds what is here.
    with closing(record):
        outcomes: dict[Path, FileOutcome] = {}

        def conclude(file: _File, line: dict[str, Any], *, is_new: bool = True) -> None:
            told = (line["status"], line.get("message", ""), line.get("seconds") or 0.0)
            outcomes[file.source] = FileOutcome(file.source, file.output, *told)
            if is_new:
                head = _head(file, key)
                record.add(
                    {**head, **line, **{k: head[k] for k in ("input", "output")}}, file.output
                )
            if on_progress is not None:
                on_progress(outcomes[file.source], len(outcomes), len(sources))

        todo = []
        for source in sources:
            file = _File(source, outputs[source])
            if not overwrite and _has(record, file, key):
                conclude(file, {"status": "skipped", "message": "done before"}, is_new=False)
                continue
            there = [p for p in (file.output, files.report_path(file.output)) if os.path.lexists(p)]
            refused = _taken(record, file, there[0]) if there and not overwrite else ""
            if refused:
                conclude(file, {"status": "failed", "message": refused})
            else:
                replaces = bool(there) or record.gave_up(file.output)
                todo.append(replace(file, replaces=replaces))
        if todo:
            interrupt = interrupt or Interrupt()
            with (
                connect(
                    scheduler, workers=workers, memory_limit=memory_limit, threads=threads
                ) as client,
                interrupt.on_signals(),
            ):
                orders = _orders(task, todo, settings, {**options, **extra}, client)
                results = run_orders(
                    client,
                    _restore_file,
                    orders,
                    begin=lambda file: record.begin(_head(file, key), file.output, elsewhere=True),
                    stop=lambda: interrupt.requested,
                )
                for file, value in results:
                    failed = isinstance(value, Failure)
                    conclude(file, _line_of_failure(value.error) if failed else value)
            record.end()
    left = (FileOutcome(source, outputs[source], "left") for source in sources)
    return [outcomes.get(each.input, each) for each in left]


# --- what is asked for -------------------------------------------------------------------


def _settings(task: TaskName, options: dict[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """Return the settings, checked, and the arguments of the task, which are taken out."""
    name = _ARGUMENTS.get(task, "")
    extra = {name: options.pop(name)} if name in options else {}
    for kind, names in (
        ("told by each file", _OF_FILE),
        ("for a single image, and there are many files", _OF_ONE),
        (
            "something of this process, which workers do not reach; on_progress is told of each "
            "file",
            _OF_CALLER,
        ),
    ):
        for wrong in set(names) & set(options):
            raise InputError(f"{wrong} is {kind}; leave it out")
    if task == "restore" and not extra:
        raise InputError("operator is needed to restore files")
    mask = extra.get("mask")
    if mask is not None and not isinstance(mask, str | int | float):
        raise InputError(
            "mask must be the same for every file: 'alpha' or the value of missing pixels, got "
            f"{type(mask).__name__}"
        )
    return make_settings(SETTINGS[task], options), extra


def _sources(inputs: str | Path | Iterable[str | Path]) -> list[Path]:
    """Return the files, absolute, because workers may have another working folder."""
    if isinstance(inputs, str | Path):
        folder = Path(inputs).absolute()
        if not folder.is_dir():
            raise InputError(f"inputs must be files, or one folder of pictures, got {folder}")
        found = (path for path in folder.iterdir() if not path.name.startswith("."))
        found = (path for path in found if formats.by_suffix(path) is not None)
        sources = sorted(p for p in found if p.is_file() or formats.by_folder(p) is not None)
        where = f" in {folder}"
    else:
        sources, where = [Path(path).absolute() for path in inputs], ""
    if not sources:
        raise InputError(f"inputs must have one picture at least, and there is none{where}")
    return list(dict.fromkeys(sources))


def _outputs(sources: list[Path], folder: Path) -> dict[Path, Path]:
    """Return where each result goes; no two go to the same place, and none to that of a file."""
    outputs: dict[Path, Path] = {}
    taken: dict[str, Path] = {}
    for source in sources:
        output = outputs[source] = folder / result_name(source)
        if formats.by_suffix(output) is None:
            endings = formats.all_suffixes(written=True)
            raise InputError(f"inputs must end in one of {endings}, got {source}")
        other = taken.setdefault(os.path.normcase(output.name), source)
        if other is not source:
            raise InputError(f"{other} and {source} would both be written to {output}")
        if output.resolve() == source.resolve():
            raise InputError(f"folder must not be that of {source} itself, got {folder}")
    return outputs


def _key(settings: Settings, extra: dict[str, Any], *, finds_jpegs: bool) -> str:
    """Return a digest of everything that makes two results the same, beside the file."""
    operator = extra.get("operator")
    told = describe({name: value for name, value in extra.items() if name != "operator"})
    content = [] if operator is None else [_digest_of(operator)]
    # A record of settings has the names of stages alone, and nothing of a JPEG.
    jpeg = "auto" if finds_jpegs else getattr(settings, "jpeg", None)
    own = describe({"method": settings.method, "jpeg": jpeg})
    text = json.dumps([given(settings), own, told, *content], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest_of(operator: Any) -> str:
    """Return a digest of all that an operator holds, and of its code where it has no name.

    It is that of what travels to workers, in which tensors have digests, because the bytes of a
    pickled tensor are others in each process.
    """
    check_extra()
    import cloudpickle  # Dask needs it
    from torch import Tensor

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, Tensor):
                return str, (digest_of(value.detach().cpu()),)
            return super().reducer_override(value)

    stream = io.BytesIO()
    Pickler(stream).dump(operator)
    return hashlib.sha256(stream.getvalue()).hexdigest()


def _has(record: FolderRecord, file: _File, key: str) -> bool:
    try:
        return record.has(file.source, file.output, key)
    except OSError:  # it cannot be read, which is told in its turn
        return False


def _taken(record: FolderRecord, file: _File, there: Path) -> str:
    """Return why a file that is there must not be replaced, empty if it may be."""
    if not record.owns(file.output):
        return (
            f"{there} exists already, and {RECORD} does not say that it is a result as it was "
            "written; overwrite=True replaces it"
        )
    other = record.other_input(file.source, file.output)
    if other is None:
        return ""
    return f"{there} is the result of {other}; name another folder, or overwrite=True replaces it"


def _orders(
    task: TaskName,
    todo: list[_File],
    settings: Settings,
    arguments: dict[str, Any],
    client: Client,
) -> Iterator[Order[_File]]:
    """Yield the orders: heads of files are read as they are sent."""
    # Imports torch.
    from dipfast.cluster.sizes import Need, needs_of, shape_of

    room = room_of(client)
    for file in todo:
        shape = shape_of(file.source)
        need = Need(0) if shape is None else needs_of(settings, shape, room())
        yield Order(file, (task, file, arguments, need.limit), need.memory)


def _head(file: _File, key: str) -> dict[str, Any]:
    """Return what is known of the line of a file before it is done."""
    line: dict[str, Any] = {
        "input": str(file.source),
        "output": str(file.output),
        "settings": key,
    }
    try:
        there = file.source.stat()
    except OSError:
        return line
    return {**line, "source": {"size": there.st_size, "modified": there.st_mtime_ns}}


# --- on a worker -------------------------------------------------------------------------


def _restore_file(
    task: TaskName, file: _File, arguments: dict[str, Any], limit: int | None
) -> dict[str, Any]:
    """Restore one file, write the result, and return its line.

    No more than the limit, in bytes, counts as available there; None for all that there is.
    """
    from dipfast.run.memory import at_most

    begun = time.monotonic()
    notes: list[str] = []
    try:
        # Of this thread alone: a worker restores several files at once.
        with warnings_told(notes.append), at_most(limit):
            identity = identify(file.source)
            source = files.read_image(file.source)
            notes += source.remarks
            told = {"channel_axis": source.channel_axis, "stack_axis": source.stack_axis}
            told = {name: value for name, value in told.items() if value is not None}
            if arguments.get("mask") == "alpha":
                if source.alpha is None:
                    raise InputError("mask='alpha' needs a file with opacity, and this has none")
                # Opacity says itself which pixels are missing.
                arguments = {**arguments, "mask": source.transparent, "mask_marks": "missing"}
                source = replace(source, alpha=None)  # it is filled in
            # As the command line does it.
            if task == "denoise" and "jpeg" not in arguments and source.jpeg is not None:
                settings = make_settings(DenoiseSettings, arguments)
                if takes_artefacts_out(source.jpeg, settings):
                    arguments = {**arguments, "jpeg": source.jpeg}
                    quality = source.jpeg.quality
                    notes.append(f"JPEG of quality {quality}: its artefacts are taken out")
            result = getattr(dipfast, task)(source.image, **arguments, **told)
            _save(result, file, _form_of(source, task, arguments))
            report = result.report()
    except Exception as error:
        if passes(error):
            raise  # Dask tries again, on another worker perhaps
        return _line_of_failure(error)
    said = [report["unfinished"]] if report.get("unfinished") else []
    return {
        "status": status_of(report),
        # Planes of a stack say the same, say.
        "message": "; ".join(dict.fromkeys([*said, *notes])),
        "seconds": round(time.monotonic() - begun, 3),
        **numbers_of(report),
        "source": identity,
        # Here, so that the process that sends jobs out need not read what all of them write.
        **digests_of(file.output),
    }


def _line_of_failure(error: BaseException) -> dict[str, Any]:
    text = str(error).strip() or type(error).__name__
    known = isinstance(error, dipfast.errors.DipfastError | OSError | MemoryError)
    return {"status": "failed", "message": text if known else f"{type(error).__name__}: {text}"}


def _form_of(
    source: files.ImageFile, task: TaskName, arguments: Mapping[str, Any]
) -> files.ImageFile:
    """Return a file like the result of a task."""
    if task == "super_resolve":
        resize = partial(dipfast.ops.resize, kernel="bicubic")
        return source.enlarged(arguments["factor"], resize)
    return source


def _save(result: Result, file: _File, form: files.ImageFile) -> None:
    """Write a result, also in the place of what an earlier try of the same job has written."""
    try:
        result.save(file.output, like=form, overwrite=file.replaces)
    except WouldOverwriteError:
        if not _is_written(result, file, form):
            raise
        result.save(file.output, like=form, overwrite=True)


def _is_written(result: Result, file: _File, form: files.ImageFile) -> bool:
    """Return whether the file that came to be there has the very bytes of the result."""
    there = digest(file.output)
    if there is None:
        return False
    with tempfile.TemporaryDirectory(prefix=".dipfast-", dir=file.output.parent) as folder:
        trial = Path(folder, file.output.name)
        result.save(trial, like=form)
        return digest(trial) == there
